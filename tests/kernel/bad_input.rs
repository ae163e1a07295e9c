//! What programs do to strings, names and calls so that nobody may know what they did:
//! recorded as it was, or with a flag, never wrong, and never as an empty string.

use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
    thread,
    time::Duration,
};

use recorder_tests::{
    Child, Ended, Pipe, RecorderProcess, TestDirectory, calls, errno, kind, last_deed, number, one,
    rename_thread, skip, text,
};
use serde_json::{Value, json};

use super::calls::{NOWHERE, call, record, refuse};

const PAGE: usize = 4096;

/// Longer than a call whose strings may have changed since.
const LATE: Duration = Duration::from_millis(15);

/// Pages of our own that can be written.
fn pages(count: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let pages = unsafe { libc::mmap(ptr::null_mut(), count * PAGE, access, kind, -1, 0) };
    assert_ne!(pages, libc::MAP_FAILED, "pages");
    pages.cast()
}

/// Writes `bytes` so that the last one is the last that can be read: the page behind
/// is given back.
fn at_the_edge(bytes: &[u8]) -> *mut u8 {
    let first = pages(2);
    // SAFETY: two pages of our own, the bytes fit into the first.
    unsafe {
        assert_eq!(libc::munmap(first.add(PAGE).cast(), PAGE), 0);
        let place = first.add(PAGE - bytes.len());
        place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        place
    }
}

/// An argument that is null and says that it could not be read.
#[track_caller]
fn assert_unreadable(call: &Value, name: &str) {
    let args = &call["args"];
    let said = (args.get(name), args.get(format!("{name}_unreadable")));
    assert_eq!(said, (Some(&Value::Null), Some(&json!(true))), "{call}");
}

/// No string of a call is empty: where nothing could be read, that is said. Programs
/// do give empty strings, with a descriptor that says what is meant.
#[track_caller]
fn assert_no_empty_string(events: &[Value]) {
    let is_meant = |event: &&Value| event["args"].to_string().contains("AT_EMPTY_PATH");
    for event in events.iter().filter(|event| !is_meant(event)) {
        let strings = event["args"].as_object().into_iter().flatten();
        let empty = strings.filter(|(_, value)| **value == "").count();
        assert_eq!(empty, 0, "{event}");
    }
}

/// A FIFO whose opening waits until somebody else opens it, and the name of another.
struct Fifo {
    path: CString,
    other: CString,
    directory: TestDirectory,
}

impl Fifo {
    fn new() -> Fifo {
        let directory = TestDirectory::new();
        let path = |name| CString::new(directory.join(name).as_os_str().as_bytes());
        let (path, other) = (path("fifo-a").expect("no NUL"), path("fifo-b").expect("no NUL"));
        // SAFETY: a string with its NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a FIFO");
        Fifo { path, other, directory }
    }

    /// Runs a child that opens the FIFO by the string at `place`, and changes what lies
    /// there meanwhile with `change`. Answers the call as it was while it waited, and
    /// when it had returned.
    fn opened(&self, place: impl Fn() -> *mut u8, change: impl Fn(*mut u8) + Sync) -> [Value; 2] {
        let recorder = RecorderProcess::start();
        let (go, changed, end) = (Pipe::new(), Pipe::new(), Pipe::new());
        let child = Child::fork(|| {
            let place = AtomicPtr::new(place());
            thread::scope(|scope| {
                scope.spawn(|| {
                    go.wait();
                    thread::sleep(LATE);
                    change(place.load(Ordering::Relaxed));
                    changed.tell();
                    end.wait();
                    // SAFETY: a string with its NUL; the other side waits.
                    unsafe { libc::open(self.path.as_ptr(), libc::O_WRONLY) };
                });
                let (here, read) = (libc::AT_FDCWD, libc::O_RDONLY);
                // SAFETY: the kernel reads the string, however it is.
                let fd = unsafe { libc::openat(here, place.load(Ordering::Relaxed).cast(), read) };
                i32::from(fd < 0)
            })
        });
        child.wait_in_call(libc::SYS_openat);
        go.tell();
        changed.wait();
        let pid = child.pid();
        let waiting = |event: &Value| event["unfinished"] == true && event["tid"] == pid;
        let events = recorder.events_of(pid);
        let unfinished = one(&events, "call that waits", waiting).clone();
        end.tell();
        child.finish();
        let events = recorder.events_of(pid);
        let is_open = |event: &Value| event["name"] == "openat" && event["tid"] == pid;
        let late = |event: &Value| is_open(event) && number(&event["dur_ns"]) > 10_000_000;
        let finished = one(&events, "call that waited", late).clone();
        assert!(recorder.directory().path().exists() && self.directory.path().exists());
        [unfinished, finished]
    }
}

fn bytes_of(path: &CString) -> Vec<u8> {
    path.as_bytes_with_nul().to_vec()
}

#[test]
fn a_string_that_changed_during_the_call_says_that_it_was_read_late() {
    let fifo = Fifo::new();
    let place = || {
        let (place, bytes) = (pages(1), bytes_of(&fifo.path));
        // SAFETY: a path is shorter than a page.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        place
    };
    let change = |place: *mut u8| {
        // SAFETY: the last letter of the path that was put there.
        unsafe { place.add(fifo.path.count_bytes() - 1).write_volatile(b'b') };
    };
    for call in fifo.opened(place, change) {
        assert_eq!(text(&call["args"]["filename"]).as_bytes(), fifo.other.as_bytes(), "{call}");
        assert_eq!(call["late"], true, "it may not be the one that was opened: {call}");
    }
}

#[test]
fn a_string_whose_page_went_away_during_the_call_is_marked() {
    let fifo = Fifo::new();
    let place = || at_the_edge(&bytes_of(&fifo.path));
    let unmap = |place: *mut u8| {
        let page = (place as usize & !(PAGE - 1)) as *mut libc::c_void;
        // SAFETY: the page the path was put at the end of.
        assert_eq!(unsafe { libc::munmap(page, PAGE) }, 0);
    };
    for call in fifo.opened(place, unmap) {
        assert_unreadable(&call, "filename");
    }
}

/// The string of a call that waits was read up to where its memory ended, and what was
/// there was shown as if it were whole.
#[test]
fn a_string_that_lost_its_end_during_the_call_is_marked() {
    let fifo = Fifo::new();
    let place = || at_the_edge(&bytes_of(&fifo.path));
    let open_end = |place: *mut u8| {
        // SAFETY: the NUL of the path that was put there.
        unsafe { place.add(fifo.path.count_bytes()).write_volatile(b'x') };
    };
    for call in fifo.opened(place, open_end) {
        assert_unreadable(&call, "filename");
    }
}

/// A page of a file that the kernel took back is read again from the disk: what
/// cannot wait for that says so.
#[test]
fn a_string_whose_page_is_not_in_memory_is_right_or_marked() {
    let fifo = Fifo::new();
    let file = fifo.directory.join("page");
    fs::write(&file, bytes_of(&fifo.path)).expect("a file");
    let place = || {
        let file = fs::File::open(&file).expect("the file");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: a page of a file.
        unsafe {
            let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
            libc::mmap(ptr::null_mut(), PAGE, read, private, fd, 0).cast()
        }
    };
    let forget = |place: *mut u8| {
        // SAFETY: the page that was mapped.
        assert_eq!(unsafe { libc::madvise(place.cast(), PAGE, libc::MADV_DONTNEED) }, 0);
    };
    let [unfinished, finished] = fifo.opened(place, forget);
    // Whoever reads it while the call waits can wait for the page.
    assert_eq!(text(&unfinished["args"]["filename"]).as_bytes(), fifo.path.as_bytes());
    if finished["args"]["filename"].is_null() {
        assert_unreadable(&finished, "filename");
    } else {
        assert_eq!(text(&finished["args"]["filename"]).as_bytes(), fifo.path.as_bytes());
    }
}

/// After a fork the pages of a file are not yet the child's: a program named by a
/// literal was one that could not be read.
#[test]
fn an_exec_of_a_name_that_is_not_in_memory_is_known_by_what_the_kernel_ran() {
    let directory = TestDirectory::new();
    let file = directory.join("page");
    fs::write(&file, b"/bin/true\0").expect("a file");
    let file = fs::File::open(&file).expect("the file");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a page of a file, which nobody has read when the child gives it to the
    // kernel.
    let page: *const libc::c_char = unsafe {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        libc::mmap(ptr::null_mut(), PAGE, read, private, fd, 0).cast()
    };
    let events = record(|| {
        let words = [page, ptr::null()];
        // SAFETY: a string and lists with their ends.
        unsafe { libc::execve(page, words.as_ptr(), words[1..].as_ptr()) }
    });
    let exec = call(&events, "execve");
    assert_eq!((&exec["args"]["filename"], &exec["ret"]), (&json!("/bin/true"), &json!(0)));
    let program = one(&events, "exec", |event| event["kind"] == "process_exec");
    assert_eq!(
        (&program["args"], &program["program"]),
        (&json!(["/bin/true"]), &json!("/bin/true"))
    );
}

/// A second thread changes one letter again and again. Which of the two names the
/// kernel saw nobody can know; it is one of them, and never anything else.
#[test]
fn a_string_that_changes_all_the_time_is_one_of_its_values() {
    const ROUNDS: usize = 5_000;
    let names = [c"/nonexistent/flips-a", c"/nonexistent/flips-b"];
    let events = record(|| {
        let place = AtomicPtr::new(pages(1));
        let over = AtomicBool::new(false);
        let to = |letter: u8| {
            // SAFETY: the last letter of the path that was put there.
            unsafe {
                place
                    .load(Ordering::Relaxed)
                    .add(names[0].count_bytes() - 1)
                    .write_volatile(letter);
            };
        };
        // SAFETY: a page of our own, and strings that are shorter.
        unsafe {
            let bytes = names[0].to_bytes_with_nul();
            place.load(Ordering::Relaxed).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    to(b'b');
                    to(b'a');
                }
            });
            for _ in 0..ROUNDS {
                // SAFETY: a string with its NUL, whatever its last letter.
                unsafe { libc::rmdir(place.load(Ordering::Relaxed).cast()) };
            }
            over.store(true, Ordering::Relaxed);
        });
        0
    });
    let removed = calls(&events, "rmdir");
    assert_eq!(removed.len(), ROUNDS);
    let mut counts = [0, 0];
    for call in removed {
        assert_eq!(call["errno"], "ENOENT");
        let path = text(&call["args"]["pathname"]).as_bytes();
        let place = names.iter().position(|name| name.to_bytes() == path);
        counts[place.expect("one of the two names")] += 1;
    }
    println!("{counts:?}");
}

/// A string that ends where its memory ends is whole; one that goes on is marked.
#[test]
fn strings_and_addresses_at_the_end_of_memory() {
    let events = record(|| {
        // SAFETY: the kernel reads what is there and refuses the rest.
        unsafe {
            let whole = at_the_edge(b"/nonexistent/whole\0");
            let absent = libc::unlink(whole.cast()) == -1 && errno() == libc::ENOENT;
            let words = [whole.cast::<libc::c_char>().cast_const(), ptr::null()];
            let no_program = libc::execve(words[0], words.as_ptr(), words[1..].as_ptr());
            let cut = at_the_edge(b"/nonexistent");
            let words = [cut.cast::<libc::c_char>().cast_const(), ptr::null()];
            let no_string = libc::execve(words[0], words.as_ptr(), words[1..].as_ptr());
            let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
            let address = at_the_edge(b"\x01\0/nonexistent\0").cast();
            let refused = [
                libc::connect(socket, address, 15),
                libc::connect(socket, address, 16),
                libc::connect(socket, ptr::null(), 16),
                libc::connect(socket, address, 0),
                libc::connect(socket, address, u32::MAX),
                libc::connect(socket, address, 2),
            ];
            let all = [no_program, no_string].iter().chain(&refused).all(|answer| *answer == -1);
            i32::from(!(absent && all))
        }
    });
    assert_eq!(call(&events, "unlink")["args"]["pathname"], "/nonexistent/whole");
    let execs = calls(&events, "execve");
    assert_eq!(execs[0]["args"]["filename"], "/nonexistent/whole");
    assert_eq!(execs[1]["errno"], "EFAULT");
    assert_unreadable(execs[1], "filename");
    let connects = calls(&events, "connect");
    assert_eq!(connects[0]["args"]["uservaddr"], "unix:/nonexistent", "{}", connects[0]);
    assert_unreadable(connects[1], "uservaddr");
    for connect in &connects[2..] {
        // Not one that is there, nor an empty one.
        let shown = &connect["args"]["uservaddr"];
        assert!(!text_or_nothing(shown).contains("nonexistent") && shown != "", "{connect}");
        assert!(["EFAULT", "EINVAL"].contains(&text(&connect["errno"])), "{connect}");
    }
    assert_no_empty_string(&events);
}

fn text_or_nothing(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Every byte a name can have: as text it is escaped, as JSON it has a twin with the
/// bytes where it is no text.
#[test]
fn names_of_any_bytes_are_kept_and_never_obeyed() {
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let path = CString::new([b"/nonexistent/", &all[..]].concat()).expect("no NUL");
    let comm = CString::new(b"\x1b[31m\xff\n\"\\x".to_vec()).expect("no NUL");
    let word = CString::new(b"-\x1b]0;\x07\xfe\n".to_vec()).expect("no NUL");
    let odd = CString::new("\u{202e}\u{7f}\u{85}turned").expect("no NUL");
    let recorder = RecorderProcess::start();
    let child = Child::fork(|| {
        let words = [c"true".as_ptr(), word.as_ptr(), ptr::null()];
        // SAFETY: strings with their NUL and lists with their ends.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, comm.as_ptr());
            libc::unlink(path.as_ptr());
            libc::unlink(odd.as_ptr());
            libc::execve(c"/bin/true".as_ptr(), words.as_ptr(), words[2..].as_ptr())
        }
    });
    let pid = child.finish().to_string();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &pid]);
    let unlinks = calls(&events, "unlink");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(unlinks[0]["args"]["pathname_hex"], hex(path.as_bytes()));
    assert!(text(&unlinks[0]["args"]["pathname"]).contains('\u{fffd}'));
    assert_eq!(unlinks[0]["comm_hex"], hex(comm.as_bytes()), "{}", unlinks[0]);
    assert_eq!(text(&unlinks[1]["args"]["pathname"]).as_bytes(), odd.as_bytes());
    assert_eq!(unlinks[1]["args"].get("pathname_hex"), None, "it is text");
    let exec = one(&events, "exec", |event| event["kind"] == "process_exec");
    assert_eq!(exec["args_hex"], json!([hex(b"true"), hex(word.as_bytes())]), "{exec}");
    let renamed = kind(&events, "process_rename");
    assert_eq!(renamed[0]["new_comm_hex"], hex(comm.as_bytes()), "{}", renamed[0]);
    let lines = recorder.replay_text(&file, &["--pid", &pid]);
    let told = lines.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(told, events.len(), "one line for each event:\n{lines}");
    let obeyed = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!lines.contains(obeyed), "{lines:?}");
    for escaped in [r"/\x01\x02", r"\xfe\xff", r"\xe2\x80\xae\x7f\xc2\x85turned", r"\x1b[31m\xff"] {
        assert!(lines.contains(escaped), "{escaped} in {lines}");
    }
}

/// A filter that answers with a signal puts the number of the call back as its result:
/// that was recorded as what it returned.
#[test]
fn a_call_seccomp_kills_or_traps_has_a_name_and_no_result() {
    let recorder = RecorderProcess::start();
    let run = |how: u32| {
        let mut child = Child::fork(|| {
            // SAFETY: a call that fails, or ends the child.
            unsafe {
                let ready = refuse(libc::SYS_sethostname, how);
                libc::sethostname(c"x".as_ptr(), 1);
                i32::from(!ready)
            }
        });
        (child.wait(), child.pid())
    };
    let actions =
        [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_KILL_THREAD, libc::SECCOMP_RET_TRAP];
    let ended = actions.map(run);
    let file = recorder.dump(&[]);
    for ((ended, pid), action) in ended.into_iter().zip(actions) {
        assert_eq!(ended, Ended::Signal(libc::SIGSYS), "{action:#x}");
        let events = recorder.replay(&file, &["--pid", &pid.to_string()]);
        let refused = calls(&events, "sethostname");
        assert!(refused.len() <= 1, "{refused:?}");
        for refused in refused {
            assert_eq!(refused.get("ret"), None, "it returned nothing: {refused}");
            assert_eq!(refused["args"]["len"], 1, "{refused}");
            assert_eq!(refused["no_entry"], true, "{refused}");
        }
        let end = last_deed(&events).expect("an end");
        assert_eq!((&end["kind"], &end["signal"]), (&json!("process_exit"), &json!("SIGSYS")));
    }
}

/// A call by the gate of 32-bit programs: number, then three arguments.
#[cfg(target_arch = "x86_64")]
fn call_32(nr: i32, args: [usize; 3]) -> i32 {
    let answer: i32;
    // SAFETY: the calls of the test only read. `rbx` is the compiler's own and put back.
    unsafe {
        std::arch::asm!("xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) args[0] => _, inlateout("eax") nr => answer,
            in("ecx") args[1] as u32, in("edx") args[2] as u32,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    answer
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_the_32_bit_gate_have_their_strings_and_their_own_numbers() {
    // arch/x86/entry/syscalls/syscall_32.tbl.
    const OPEN: i32 = 5;
    const UNLINK: i32 = 10;
    const RENAME: i32 = 38;
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(|| {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_32BIT);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        let paths = [NOWHERE.to_bytes_with_nul(), b"/nonexistent/\xff\x1b\0"];
        // SAFETY: two pages that 32 bits reach, and strings that are shorter.
        let low = unsafe {
            let low = libc::mmap(ptr::null_mut(), 2 * PAGE, access, kind, -1, 0).cast::<u8>();
            libc::munmap(low.add(PAGE).cast(), PAGE);
            low.copy_from_nonoverlapping(paths[0].as_ptr(), paths[0].len());
            low.add(100).copy_from_nonoverlapping(paths[1].as_ptr(), paths[1].len());
            low.add(PAGE - 1).write(b'e');
            low as usize
        };
        let answers = [
            call_32(OPEN, [low, libc::O_WRONLY as usize, 0]),
            call_32(RENAME, [low, low + 100, 0]),
            call_32(UNLINK, [low + PAGE - 1, 0, 0]),
            call_32(UNLINK, [0, 0, 0]),
            call_32(-1, [1, 2, 3]),
            call_32(9999, [4, 5, 6]),
        ];
        let (absent, fault, unknown) = (-libc::ENOENT, -libc::EFAULT, -libc::ENOSYS);
        i32::from(answers != [absent, absent, fault, fault, unknown, unknown])
    });
    if child.wait() == Ended::Signal(libc::SIGSEGV) {
        skip("this kernel has no 32-bit calls");
        return;
    }
    assert_eq!(child.wait(), Ended::Code(0));
    let events = recorder.events_of(child.pid());
    let narrow: Vec<_> = events.iter().filter(|event| event["compat"] == true).collect();
    let names: Vec<_> = narrow.iter().map(|event| text(&event["name"])).collect();
    assert_eq!(names, ["open", "rename", "unlink", "unlink", "syscall_-1", "syscall_9999"]);
    assert_eq!(narrow[0]["args"]["filename"], NOWHERE.to_str().expect("text"));
    assert_eq!(narrow[0]["args"]["flags"], "O_WRONLY");
    assert_eq!(narrow[1]["args"]["oldname"], NOWHERE.to_str().expect("text"));
    assert_eq!(narrow[1]["args"]["newname_hex"], "2f6e6f6e6578697374656e742fff1b");
    assert_unreadable(narrow[2], "pathname");
    assert_eq!(narrow[3]["args"], json!({"pathname": null}));
    assert_eq!(recorder_tests::word(&narrow[4]["args"]["arg0"]), 1);
    assert_eq!(recorder_tests::word(&narrow[5]["args"]["arg2"]), 6);
}

/// A path as long as it may be, at the end of memory, in a call that waits.
#[test]
fn a_call_that_waits_has_its_longest_string() {
    let fifo = Fifo::new();
    let directory = fifo.directory.path().as_os_str().as_bytes();
    let slashes = 4095 - directory.len() - "fifo-a".len();
    let long = [directory, &vec![b'/'; slashes], b"fifo-a\0"].concat();
    let place = || at_the_edge(&long);
    for call in fifo.opened(place, |_| ()) {
        assert_eq!(text(&call["args"]["filename"]).as_bytes(), &long[..4095]);
        assert_eq!(call["args"].get("filename_cut"), None);
    }
}

/// An exec of a thread that is not the leader, of a program that is not there and then
/// of one that is, by a name at the end of memory.
#[test]
fn execs_of_a_thread_that_is_not_the_leader_keep_what_they_asked_for() {
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(|| {
        let spawned = thread::spawn(|| {
            let absent = Command::new("/nonexistent/program").exec();
            let words = [c"cat".as_ptr(), c"/etc/hostname".as_ptr(), ptr::null()];
            let name = at_the_edge(b"/bin/cat\0").cast_const().cast();
            // SAFETY: a string and lists with their ends.
            unsafe {
                let quiet = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
                libc::dup2(quiet, 1);
                libc::execve(name, words.as_ptr(), words[2..].as_ptr());
            }
            absent.raw_os_error()
        });
        // SAFETY: waits for an end by somebody else.
        unsafe { libc::pause() };
        i32::from(spawned.join().is_ok())
    });
    assert_eq!(child.wait(), Ended::Code(0), "cat ends well");
    let events = recorder.events_of(child.pid());
    let execs = calls(&events, "execve");
    let said: Vec<_> = execs.iter().map(|exec| (&exec["args"]["filename"], &exec["ret"])).collect();
    let (absent, cat) = (json!("/nonexistent/program"), json!("/bin/cat"));
    assert_eq!(said, [(&absent, &json!(-2)), (&cat, &json!(0))]);
    assert_ne!(execs[0]["tid"], child.pid(), "by the second thread");
    assert_eq!(execs[1]["tid"], child.pid(), "which is the first by now");
    assert_no_empty_string(&events);
}

/// Processes that end while a snapshot reads what they wait for.
#[test]
fn processes_that_end_while_they_are_read_spoil_nothing() {
    let recorder = RecorderProcess::start_with(&["--window", "1s"]);
    let fifo = Fifo::new();
    let stop = Pipe::new();
    let killer = Child::fork(|| {
        rename_thread(c"waits-for-fifo");
        let mut poll = libc::pollfd { fd: stop.reader, events: libc::POLLIN, revents: 0 };
        let open = || {
            // SAFETY: a string with its NUL. Nobody is left behind when the test fails.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::open(fifo.path.as_ptr(), libc::O_RDONLY)
            }
        };
        // SAFETY: one descriptor.
        while unsafe { libc::poll(&raw mut poll, 1, 0) } == 0 {
            let children: Vec<Child> = (0..20).map(|_| Child::fork(open)).collect();
            drop(children);
        }
        0
    });
    let (mut found, mut dumps) = (0, 0);
    while dumps < 5 || found == 0 {
        assert!(dumps < 100, "no call of a process that waits in 100 snapshots");
        dumps += 1;
        let file = recorder.dump(&[]);
        assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
        let events = recorder.replay(&file, &["-e", "trace=openat", "--duration", "1us"]);
        // Others may wait for something else.
        let is_child =
            |event: &&Value| event["unfinished"] == true && event["comm"] == "waits-for-fifo";
        for event in events.iter().filter(is_child) {
            // Its string, or a flag, or only where it lay: nobody could look any more.
            let filename = &event["args"]["filename"];
            let is_path = text_or_nothing(filename).as_bytes() == fifo.path.as_bytes();
            let is_marked = event["args"]["filename_unreadable"] == true;
            let is_pointer = text_or_nothing(filename).starts_with("0x");
            assert!(is_path || is_marked || is_pointer, "{event}");
            found += 1;
        }
    }
    stop.tell();
    killer.finish();
}
