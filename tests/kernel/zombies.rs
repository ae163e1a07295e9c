//! Processes that have ended and whose end nobody has asked for: `recorder state` shows them
//! as `ps` does, for as long as `ps` does.

use std::{
    fs,
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use recorder::{clock::monotonic_ns, snapshot::SnapshotReader};
use recorder_tests::{
    Child, Pipe, RecorderProcess, Start, TestDirectory, binary, kind, of_pid, run, skip, wait_until,
};
use serde_json::{Value, json};

use crate::descriptors::state_of;

/// The kernel lets go of a task when nobody can look at it any more, and may put that off for
/// ten seconds where it is idle (`rcu_tree_nocb.h`, `CONFIG_RCU_LAZY`, 6.18).
const LET_GO_WITHIN: Duration = Duration::from_secs(30);

/// What `/proc/PID/stat` says behind the name: the state and the parent.
fn stat(pid: i32) -> Option<(char, i64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn wait_for_zombie(pid: i32) {
    wait_until("the child to be a zombie", || stat(pid).is_some_and(|(state, _)| state == 'Z'));
}

/// The child that another process made: it tells its number.
struct Told([i32; 2]);

impl Told {
    fn new() -> Told {
        let pipe = Pipe::new();
        Told([pipe.reader, pipe.writer])
    }

    fn tell(&self, pid: i32) {
        let bytes = pid.to_ne_bytes();
        // SAFETY: bytes that are there.
        unsafe { libc::write(self.0[1], bytes.as_ptr().cast(), bytes.len()) };
    }

    fn hear(&self) -> i32 {
        let mut bytes = [0; 4];
        // SAFETY: room for as many bytes.
        let read = unsafe { libc::read(self.0[0], bytes.as_mut_ptr().cast(), bytes.len()) };
        assert_eq!(read, 4, "a number");
        i32::from_ne_bytes(bytes)
    }
}

/// A child that ends when it is told to.
fn fork_child(end: Pipe) -> i32 {
    // SAFETY: one thread; the child waits and ends.
    match unsafe { libc::fork() } {
        0 => {
            end.wait();
            // SAFETY: ends the child.
            unsafe { libc::_exit(7) }
        }
        pid => pid,
    }
}

/// A process with one child, which goes on when it is told to.
struct Family {
    parent: Child,
    child: i32,
    end: Pipe,
    go_on: Pipe,
    went_on: Pipe,
}

impl Family {
    /// `before` is done before the child is made, `then` when the parent is told to go on.
    fn new(before: impl FnOnce(), then: impl FnOnce(i32)) -> Family {
        let (told, end, go_on, went_on) = (Told::new(), Pipe::new(), Pipe::new(), Pipe::new());
        let parent = Child::fork(|| {
            before();
            let child = fork_child(end);
            told.tell(child);
            go_on.wait();
            then(child);
            went_on.tell();
            Pipe::new().wait();
            0
        });
        Family { parent, child: told.hear(), end, go_on, went_on }
    }

    fn end_child(&self) {
        self.end.tell();
        wait_for_zombie(self.child);
    }

    fn go_on(&self) {
        self.go_on.tell();
        self.went_on.wait();
    }
}

/// Whether the kernel tells of its structures, and so who inherits and who leaves nothing.
fn has_types() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// The row of a process at a moment.
fn row_at(file: &Path, at_ns: u64, pid: i32) -> Option<Value> {
    let reader = SnapshotReader::open(file).expect("a snapshot");
    let wall_ns = reader.header().clock.wall_ns(at_ns);
    let at = format!("@{}.{:09}", wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
    state_of(file, &["ps", "--at", &at]).into_iter().find(|row| row["pid"] == pid)
}

fn assert_zombie_of(row: Option<&Value>, parent: i32) {
    let row = row.expect("it is there");
    assert_eq!((&row["state"], &row["ppid"]), (&json!("zombie"), &json!(parent)), "{row}");
    assert_eq!(row["threads"], 1, "{row}");
    assert!(row["start_ns"].is_string() && row["comm"].is_string(), "{row}");
}

#[test]
fn a_zombie_is_there_until_its_parent_asks() {
    until_its_parent_asks(RecorderProcess::start);
}

#[test]
fn a_zombie_is_there_until_its_parent_asks_without_btf() {
    let Some(wrapper) = Start::hide_btf() else {
        return skip("there is no BTF to hide, or no unshare to hide it with");
    };
    let start = Start { wrapper: &wrapper, ..Start::default() };
    until_its_parent_asks(|| RecorderProcess::start_in(TestDirectory::new(), &start));
}

/// One was a zombie before the recorder started.
fn until_its_parent_asks(start: impl FnOnce() -> RecorderProcess) {
    let wait4 = |child| {
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
    };
    let waitid = |child: i32| {
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: room for what is said.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            for options in [options, libc::WEXITED] {
                let child = child.cast_unsigned();
                assert_eq!(libc::waitid(libc::P_PID, child, &raw mut info, options), 0);
            }
        }
    };
    let any = |_| {
        // SAFETY: nothing is asked for; the second finds nobody.
        unsafe {
            let anybody = |options| libc::waitid(libc::P_ALL, 0, ptr::null_mut(), options);
            assert_eq!(anybody(libc::WEXITED), 0);
            assert_eq!(anybody(libc::WEXITED | libc::WNOHANG), -1);
        }
    };
    let before = Family::new(|| {}, wait4);
    before.end_child();
    let recorder = start();
    let mut families = vec![before, Family::new(|| {}, wait4), Family::new(|| {}, waitid)];
    families.push(Family::new(|| {}, any));
    let begun_ns = monotonic_ns();
    families.iter().skip(1).for_each(Family::end_child);
    let ended_ns = monotonic_ns();
    families.iter().for_each(Family::go_on);
    let reaped_ns = monotonic_ns();
    // Until the kernel has let go of all of them.
    let children: Vec<i32> = families.iter().map(|family| family.child).collect();
    let began = Instant::now();
    let (file, lost) = loop {
        let file = recorder.dump(&[]);
        let events = recorder.replay(&file, &["-e", "trace=process_reap"]);
        let reaps = children.iter().map(|child| of_pid(&events, *child).len());
        let reaps: Vec<usize> = reaps.collect();
        let lost = kind(&events, "lost").len();
        // A program that the kernel skips is told of, and no test can keep it from that.
        if lost > 0 || reaps.iter().all(|count| *count > 0) {
            break (file, lost);
        }
        assert!(
            began.elapsed() < LET_GO_WITHIN,
            "the kernel let go of {children:?} so often: {reaps:?}; {}",
            recorder.status()["ledger"]
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    if lost > 0 {
        return skip("events were lost meanwhile");
    }
    let at_the_end = state_of(&file, &["ps"]);
    for (place, family) in families.iter().enumerate() {
        let (child, parent) = (family.child, family.parent.pid());
        let before = row_at(&file, begun_ns, child).expect("it lives, or is a zombie");
        assert_eq!(before["state"] == "zombie", place == 0, "{before}");
        assert_zombie_of(row_at(&file, ended_ns, child).as_ref(), parent);
        // The last one did not want to know whom it got.
        if place < 3 {
            assert_eq!(row_at(&file, reaped_ns, child), None, "{place}");
        }
        assert!(!at_the_end.iter().any(|row| row["pid"] == child), "{place}");
    }
    let reap = recorder.replay(&file, &["-e", "trace=process_reap"]);
    let reap = of_pid(&reap, children[1]);
    assert!(!reap.is_empty());
    assert_eq!(reap[0]["tid"], children[1]);
}

/// For people it is what `ps` prints.
#[test]
fn a_zombie_is_defunct_in_a_line_of_80_columns() {
    let recorder = RecorderProcess::start();
    let family = Family::new(|| {}, |_| {});
    family.end_child();
    let file = recorder.dump(&[]);
    let mut command = std::process::Command::new(binary());
    let outcome = run(command.arg("state").arg(&file).arg("ps")).succeeded();
    let child = family.child.to_string();
    let text = outcome.text();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let head = lines.next().expect("a head");
    assert!(head.contains(" STAT "), "{head}");
    let line = lines.find(|line| line.split_whitespace().nth(1) == Some(&child)).expect("its line");
    assert!(line.contains(" Z ") && line.ends_with("] <defunct>"), "{line}");
    assert!(line.chars().count() <= 80, "{line}");
}

#[test]
fn a_parent_that_ignores_ends_leaves_no_zombie() {
    let ignore = || {
        // SAFETY: no handler is called.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    };
    let recorder = RecorderProcess::start();
    let family = Family::new(ignore, |_| {});
    let begun_ns = monotonic_ns();
    family.end.tell();
    wait_until("the child to be gone", || stat(family.child).is_none());
    let gone_ns = monotonic_ns();
    let file = recorder.dump(&[]);
    assert!(row_at(&file, begun_ns, family.child).is_some_and(|row| row["state"].is_null()));
    let all = recorder.replay(&file, &["-e", "trace=process_exit"]);
    let end = of_pid(&all, family.child);
    assert_eq!((end.len(), &end[0]["code"]), (1, &json!(7)), "{end:?}");
    if has_types() {
        assert_eq!(end[0]["gone"], 1, "{end:?}");
        assert_eq!(row_at(&file, gone_ns, family.child), None);
    }
}

/// Of the parents here one is the next to inherit, see `PR_SET_CHILD_SUBREAPER`.
#[test]
fn a_zombie_whose_parent_ends_is_left_to_whom_the_kernel_says() {
    let recorder = RecorderProcess::start();
    let (told, end, ended, go_on) = (Told::new(), Pipe::new(), Pipe::new(), Pipe::new());
    let above = Child::fork(|| {
        // SAFETY: a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        let mut parent = Child::fork(|| {
            let child = fork_child(end);
            told.tell(child);
            ended.wait();
            0
        });
        parent.wait();
        go_on.wait();
        0
    });
    let child = told.hear();
    end.tell();
    wait_for_zombie(child);
    let parent = stat(child).expect("a zombie").1;
    let before_ns = monotonic_ns();
    ended.tell();
    let heir = i64::from(above.pid());
    wait_until("the zombie to be inherited", || stat(child) == Some(('Z', heir)));
    wait_until("its parent to be gone", || stat(parent as i32).is_none());
    let after_ns = monotonic_ns();
    let file = recorder.dump(&[]);
    assert_zombie_of(row_at(&file, before_ns, child).as_ref(), parent as i32);
    if has_types() {
        assert_zombie_of(row_at(&file, after_ns, child).as_ref(), above.pid());
    }
    assert_eq!(row_at(&file, after_ns, parent as i32), None);
    go_on.tell();
    above.finish();
}

/// `ps` shows a leader that has ended as `Zl`.
#[test]
fn a_leader_that_ended_is_a_zombie_with_threads() {
    let recorder = RecorderProcess::start();
    let end = Pipe::new();
    let mut process = Child::fork(|| {
        std::thread::spawn(move || {
            end.wait();
            // SAFETY: ends the process.
            unsafe { libc::syscall(libc::SYS_exit_group, 5) };
        });
        // SAFETY: ends this thread, which is the first.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        0
    });
    wait_for_zombie(process.pid());
    let led_ns = monotonic_ns();
    end.tell();
    process.wait();
    let gone_ns = monotonic_ns();
    let file = recorder.dump(&[]);
    let row = row_at(&file, led_ns, process.pid()).expect("it is there");
    assert_eq!(row["state"], "zombie", "{row}");
    if has_types() {
        assert_eq!(row["threads"], 2, "{row}");
        assert_eq!(row_at(&file, gone_ns, process.pid()), None);
    }
}
