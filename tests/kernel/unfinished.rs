//! Calls that have not returned when the window is frozen.

use std::ffi::CString;

use recorder_tests::{Child, Pipe, RecorderProcess, TestDirectory, number, one};
use serde_json::Value;

/// Three children that wait: in `read` of a pipe, in `futex`, in `openat` of a FIFO.
struct Waiting {
    pipe: Pipe,
    read: Child,
    futex: Child,
    open: Child,
    fifo: String,
    _directory: TestDirectory,
}

impl Waiting {
    fn start() -> Waiting {
        let directory = TestDirectory::new();
        let fifo = directory.join("fifo").to_str().expect("a path in UTF-8").to_string();
        let path = CString::new(fifo.as_str()).expect("a path without NUL");
        // SAFETY: a string with its NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a FIFO");
        let pipe = Pipe::new();
        let read = Child::fork(|| {
            let mut byte = 0u8;
            // SAFETY: room for one byte.
            unsafe { libc::read(pipe.reader, (&raw mut byte).cast(), 1) };
            0
        });
        let futex = Child::fork(|| {
            let word = 7u32;
            // SAFETY: a word that is there; nobody wakes it.
            unsafe {
                libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 7, 0usize);
            }
            0
        });
        let open = Child::fork(|| {
            // SAFETY: a string with its NUL.
            unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) };
            0
        });
        read.wait_in_call(libc::SYS_read);
        futex.wait_in_call(libc::SYS_futex);
        open.wait_in_call(libc::SYS_openat);
        Waiting { pipe, read, futex, open, fifo, _directory: directory }
    }

    /// Checks the three in a snapshot taken now.
    fn check(&self, recorder: &RecorderProcess, before_recording: bool) {
        let file = recorder.dump(&[]);
        let events = recorder.replay(&file, &[]);
        let call = |child: &Child, name: &str| -> Value {
            let what = format!("unfinished {name} of {}", child.pid());
            let found = one(&events, &what, |event| {
                event["pid"] == child.pid() && event["unfinished"] == true
            });
            assert_eq!(found["name"], name, "{found}");
            assert_eq!(found.get("ret"), None, "{found}");
            assert!(number(&found["dur_ns"]) > 0, "an age: {found}");
            let before = found.get("before_recording").is_some_and(|value| value == true);
            assert_eq!(before, before_recording, "{found}");
            assert!(found["wait_channel"].is_string(), "{found}");
            found.clone()
        };
        let read = call(&self.read, "read");
        assert_eq!(
            (&read["args"]["fd"], &read["args"]["count"]),
            (&self.pipe.reader.into(), &1.into())
        );
        let futex = call(&self.futex, "futex");
        assert_eq!(futex["args"]["op"], "FUTEX_WAIT", "{futex}");
        assert_eq!(futex["args"]["val"], 7, "{futex}");
        let open = call(&self.open, "openat");
        assert_eq!(open["args"]["filename"], self.fifo.as_str(), "{open}");
        assert_eq!(open["args"]["dfd"], "AT_FDCWD");
        // A thread of the kernel makes no calls: its line in /proc once looked like a
        // read from descriptor 0.
        let of_kernel = events.iter().filter(|event| event["comm"] == "kthreadd").count();
        assert_eq!(of_kernel, 0, "calls of threads of the kernel");
        let last: Vec<bool> = events.iter().map(|event| event["unfinished"] == true).collect();
        assert!(last.is_sorted(), "unfinished calls come last");
        let text = recorder.replay_text(&file, &["--pid", &self.open.pid().to_string()]);
        assert!(text.contains("openat") && text.contains("unfinished"), "{text}");
    }
}

#[test]
fn calls_that_wait_are_listed_with_arguments_and_age() {
    let recorder = RecorderProcess::start();
    let waiting = Waiting::start();
    waiting.check(&recorder, false);
}

#[test]
fn calls_that_began_before_the_recording_are_listed_too() {
    let waiting = Waiting::start();
    let recorder = RecorderProcess::start();
    waiting.check(&recorder, true);
    // Once it has returned, it is a call without an entry and no longer unfinished.
    let pid = waiting.read.pid();
    waiting.pipe.tell();
    waiting.read.finish();
    let events = recorder.events_of(pid);
    let read = one(&events, "read that returned", |event| event["name"] == "read");
    assert_eq!((&read["ret"], &read["no_entry"]), (&1.into(), &true.into()), "{read}");
    assert_eq!((read.get("dur_ns"), read.get("unfinished")), (None, None), "{read}");
}
