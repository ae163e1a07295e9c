//! A million processes as fast as the machine makes them, and numbers that are used
//! again and again: nothing is ever attributed to the process that had the number
//! before, and nothing is left out of the books.

use std::{
    collections::HashMap,
    ffi::CString,
    fs,
    io::Write as _,
    ops::ControlFlow,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    process::{self, Command, Stdio},
    ptr,
    time::Instant,
};

use recorder::{
    context::Processes,
    event::{Attached, Call, Event, Kind},
    replay::replay,
    snapshot::SnapshotReader,
};
use recorder_tests::{
    Child, Counts, Pipe, RecorderProcess, Start, TestDirectory, machine_code, number,
    rename_thread, say,
};
use serde_json::json;

/// What a process runs, which is also its exit code and part of what it asks for.
const FORKED: i32 = 41;
const EVEN: i32 = 42;
const ODD: i32 = 43;
/// A process that makes the others; it says so too.
const MAKER: i32 = 44;

/// What each process asks for, with its code in the last byte: the group of a process
/// whose number no kernel gives out (`PID_MAX_LIMIT` is 2^22). It fails and says who
/// asked, whatever the recorder knows of it.
const ASKED: u32 = 0x4d49_4c00;

/// Processes that make the others.
const MAKERS: u64 = 4;

/// Processes of one maker that are not waited for, at the most.
const LIVING_MAX: u64 = 8;

/// The names, by code.
fn name_of(code: i32) -> &'static str {
    match code {
        EVEN => "even-program",
        ODD => "odd-program",
        // A process that was forked has the name of its maker.
        _ => "maker",
    }
}

fn ask(code: i32) {
    // SAFETY: a call whose argument is a number.
    unsafe { libc::syscall(libc::SYS_getpgid, ASKED | code as u32) };
}

/// The two programs in files.
struct Programs {
    even: CString,
    odd: CString,
}

impl Programs {
    fn write(directory: &TestDirectory) -> Programs {
        let write = |code: i32| {
            let path = directory.join(name_of(code));
            let calls =
                [(libc::SYS_getpgid, ASKED | code as u32), (libc::SYS_exit_group, code as u32)];
            fs::write(&path, machine_code::program(&calls)).expect("a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
            CString::new(path.as_os_str().as_bytes()).expect("a path without NUL")
        };
        Programs { even: write(EVEN), odd: write(ODD) }
    }
}

/// Makes process `round` and answers the code it will end with: every second one
/// becomes a program, the two in turn, some of them as a copy of the maker and most
/// while the maker waits.
fn make(programs: &Programs, round: u64) -> i32 {
    let (program, code) = match round % 4 {
        0 => (&programs.even, EVEN),
        2 => (&programs.odd, ODD),
        _ => {
            // SAFETY: the child asks and ends.
            unsafe {
                if libc::fork() == 0 {
                    ask(FORKED);
                    libc::_exit(FORKED);
                }
            }
            return FORKED;
        }
    };
    let words = [program.as_ptr().cast_mut(), ptr::null_mut()];
    let nothing: [*mut libc::c_char; 1] = [ptr::null_mut()];
    // SAFETY: strings and lists with their ends; the child of the fork only becomes
    // the program, or ends.
    unsafe {
        if round % 16 < 4 {
            if libc::fork() == 0 {
                libc::execve(program.as_ptr(), words.as_ptr().cast(), nothing.as_ptr().cast());
                libc::_exit(1);
            }
        } else {
            let mut pid = 0;
            let (actions, attributes) = (ptr::null(), ptr::null());
            let made = libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions,
                attributes,
                words.as_ptr(),
                nothing.as_ptr(),
            );
            assert_eq!(made, 0, "posix_spawn");
        }
    }
    code
}

/// Waits for one child and answers its code.
fn reap() -> i32 {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
    assert!(pid > 0 && libc::WIFEXITED(status), "a child that ended by itself: {status:#x}");
    libc::WEXITSTATUS(status)
}

/// What a maker does: `count` processes, or until it is told to stop.
fn make_all(programs: &Programs, count: u64, stop: Option<Pipe>) -> i32 {
    rename_thread(c"maker");
    let (mut expected, mut ended) = (0, 0);
    let mut living = 0;
    let is_told = |pipe: Pipe| {
        let mut poll = libc::pollfd { fd: pipe.reader, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    };
    for round in 0..count {
        expected += i64::from(make(programs, round));
        living += 1;
        if living == LIVING_MAX {
            ended += i64::from(reap());
            living -= 1;
        }
        if round % 64 == 0 {
            ask(MAKER);
            if stop.is_some_and(is_told) {
                break;
            }
        }
    }
    for _ in 0..living {
        ended += i64::from(reap());
    }
    if expected == ended { MAKER } else { 1 }
}

/// The largest process number, lowered as long as this lives. A shell holds the other
/// end of a pipe and puts it back when the test ends, however it ends.
struct LowPidMax(process::Child);

const PID_MAX: &str = "/proc/sys/kernel/pid_max";

impl LowPidMax {
    /// Low enough for numbers to come back soon, and high enough for everybody else
    /// on this machine.
    fn set() -> LowPidMax {
        let before = fs::read_to_string(PID_MAX).expect("the largest number");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", "trap '' INT TERM; read -r word; echo \"$0\" > \"$1\""]);
        keeper.args([before.trim(), PID_MAX]).stdin(Stdio::piped());
        let keeper = LowPidMax(keeper.spawn().expect("a shell"));
        // The fourth field of proc_loadavg(5): running and all threads.
        let load = fs::read_to_string("/proc/loadavg").expect("the number of threads");
        let threads = load.split(['/', ' ']).nth(4).and_then(|word| word.parse::<u64>().ok());
        let low = 3_072.max(1_024 + 3 * threads.expect("a number of threads"));
        fs::write(PID_MAX, low.to_string()).expect("to lower the largest number");
        say(&format!("million: pid_max {low} instead of {}\n", before.trim()));
        keeper
    }
}

impl Drop for LowPidMax {
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            // It also ends when the pipe does.
            let _ = input.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

/// What is known of a process of ours while its events go by.
struct Life {
    /// Its name when its events began.
    first: Vec<u8>,
    /// Its name since it is another program.
    second: Option<Vec<u8>>,
    /// Programs it became.
    execs: u64,
    program: Vec<u8>,
    /// What it said it was.
    said: Option<i32>,
    /// Whether its beginning was seen.
    is_whole: bool,
}

impl Life {
    fn new(first: &str, is_whole: bool) -> Life {
        let first = first.as_bytes().to_vec();
        Life { first, second: None, execs: 0, program: Vec::new(), said: None, is_whole }
    }
}

/// Reads the events and compares the names they have with what each process says.
#[derive(Default)]
struct Judge {
    lives: HashMap<u32, Life>,
    makers: Vec<u32>,
    forks: u64,
    execs: u64,
    exits: u64,
    judged: u64,
    /// Those that have no name at all.
    nameless: u64,
    /// Processes that ended and never said what they were: under overload calls are lost.
    silent: u64,
    /// Processes whose number was another's before they ended: their ends were lost.
    endless: u64,
    wrong: Vec<String>,
}

impl Judge {
    fn of(makers: &[i32], file: &Path) -> Judge {
        let makers = makers.iter().map(|pid| pid.cast_unsigned()).collect();
        let mut judge = Judge { makers, ..Judge::default() };
        let reader = SnapshotReader::open(file).expect("a snapshot");
        let replayed = replay(&reader, &|_| false, &mut |_| {}, &mut |event, processes| {
            judge.event(event, processes);
            ControlFlow::Continue(())
        });
        assert!(replayed.damage.is_empty(), "{:?}", replayed.damage);
        judge
    }

    fn event(&mut self, event: &Event<'_>, processes: &Processes) {
        let comm = processes.comm_of(event);
        if event.kind == Kind::ProcessFork && self.makers.contains(&event.tid) {
            self.forks += 1;
            let life = Life::new(name_of(MAKER), true);
            let before = self.lives.insert(event.number(1) as u32, life);
            self.endless += u64::from(before.is_some());
        }
        self.count(event, comm);
        if let Some(code) = code_said(event) {
            self.says(event, comm, code);
        }
        // The kernel lets go of a process when its number may be another one's.
        if event.kind == Kind::ProcessReap {
            return;
        }
        let Some(life) = self.lives.get_mut(&event.tid) else { return };
        match event.kind {
            Kind::ProcessExec => {
                life.execs += 1;
                life.program = event.attachment(0).map(Attached::text).unwrap_or_default().into();
                life.second = Some(comm.to_vec());
            }
            // The name comes before the program; both are at once.
            Kind::ProcessRename => {
                life.second =
                    Some(event.attachment(0).map_or(Vec::new(), |comm| comm.text().into()));
            }
            _ => {}
        }
        let expected = match (&life.second, event.kind) {
            (Some(_), Kind::ProcessRename) | (None, _) => &life.first,
            (Some(second), _) => second,
        };
        self.judged += 1;
        if comm.is_empty() {
            self.nameless += 1;
        } else if comm != expected {
            self.wrong.push(format!(
                "{event:?} has the name {:?} and not {:?}",
                String::from_utf8_lossy(comm),
                String::from_utf8_lossy(expected)
            ));
        }
        if event.kind == Kind::ProcessExit {
            self.ended(event);
        }
    }

    /// Counts the execs and the ends of our processes, whatever else of them was lost.
    fn count(&mut self, event: &Event<'_>, comm: &[u8]) {
        let is_ours = |name: &[u8]| {
            [FORKED, EVEN, ODD].map(name_of).iter().any(|ours| ours.as_bytes() == name)
        };
        match event.kind {
            Kind::ProcessExec => {
                let program = event.attachment(0).map(Attached::text).unwrap_or_default();
                let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                self.execs += u64::from(is_ours(name));
            }
            Kind::ProcessExit => {
                let code = event.number(0) as i32;
                let is_one = [FORKED, EVEN, ODD].contains(&code) && is_ours(comm);
                self.exits += u64::from(is_one);
            }
            _ => {}
        }
    }

    /// An event that says by itself which program made it.
    fn says(&mut self, event: &Event<'_>, comm: &[u8], code: i32) {
        self.judged += 1;
        if comm.is_empty() {
            self.nameless += 1;
        } else if comm != name_of(code).as_bytes() {
            let comm = String::from_utf8_lossy(comm);
            self.wrong.push(format!("{code} has the name {comm}: {event:?}"));
        }
        let life = self.lives.entry(event.tid).or_insert_with(|| Life::new(name_of(code), false));
        if life.said.is_some_and(|said| said != code) {
            self.wrong.push(format!("{code} was {:?} before: {event:?}", life.said));
        }
        life.said = Some(code);
    }

    fn ended(&mut self, event: &Event<'_>) {
        let life = self.lives.remove(&event.tid).filter(|life| life.is_whole);
        let Some(life) = life else { return };
        self.silent += u64::from(life.said.is_none());
        let code = event.number(0) as i32;
        let became = life.second.as_deref().unwrap_or(&life.first);
        let programs = u64::from(code != FORKED);
        let program = life.program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_right = became == name_of(code).as_bytes()
            && life.execs == programs
            && life.said.is_none_or(|said| said == code)
            && (code == FORKED || program == name_of(code).as_bytes());
        if !is_right {
            let name = String::from_utf8_lossy(became);
            self.wrong.push(format!("{name}, {} execs, {:?}: {event:?}", life.execs, life.said));
        }
    }

    #[track_caller]
    fn assert_right(&self) {
        let first: Vec<_> = self.wrong.iter().take(10).collect();
        assert!(first.is_empty(), "{} of {} events: {first:#?}", self.wrong.len(), self.judged);
    }
}

/// The code of the process that made an event, when the event itself says so.
fn code_said(event: &Event<'_>) -> Option<i32> {
    let call = Call::of(event).filter(|call| call.nr() == libc::SYS_getpgid)?;
    let asked = *call.args().first()? as u32;
    (asked & !0xff == ASKED).then_some((asked & 0xff) as i32)
}

#[test]
fn a_million_processes_keep_their_names_and_are_all_counted() {
    let directory = TestDirectory::new();
    let programs = Programs::write(&directory);
    let each = Counts::of(1_000_000) / MAKERS;
    let arguments = ["--memory", "1GiB", "--window", "1h"];
    let recorder =
        RecorderProcess::start_in(directory, &Start { arguments: &arguments, ..Start::default() });
    let low = LowPidMax::set();
    // What tests before this one used and freed is copied by every fork otherwise.
    // SAFETY: gives free memory back to the kernel, nothing else.
    unsafe { libc::malloc_trim(0) };
    let began = Instant::now();
    let makers: Vec<Child> =
        (0..MAKERS).map(|_| Child::fork(|| make_all(&programs, each, None))).collect();
    let makers: Vec<i32> = makers.into_iter().map(finish).collect();
    let seconds = began.elapsed().as_secs_f64();
    drop(low);
    let made = each * MAKERS;
    say(&format!(
        "million: {made} processes, {} of them with an exec, in {seconds:.1} s: {:.0} a second\n",
        made / 2,
        made as f64 / seconds
    ));
    let file = recorder.dump(&[]);
    let info = recorder.info(&file);
    let ledger = &info["ledger"];
    assert_eq!(ledger["closes"], true, "{ledger}");
    assert_eq!(ledger["evicted"], 0, "the window is large enough for all of it");
    let judge = Judge::of(&makers, &file);
    judge.assert_right();
    let lost = |kind: &str| number(&ledger["kinds"][kind]["lost"]);
    say(&format!(
        "million: {} events judged, lost {}; {} events say who made them and have no name\n",
        judge.judged, ledger["lost"], judge.nameless
    ));
    let counted = [
        ("process_fork", judge.forks, made),
        ("process_exec", judge.execs, made / 2),
        ("process_exit", judge.exits, made),
    ];
    for (kind, kept, made) in counted {
        let row = &ledger["kinds"][kind];
        let in_file = number(&info["events"][kind]);
        assert_eq!(number(&row["seen"]), in_file + lost(kind), "{kind}: {row}");
        let is_counted = kept <= made && kept + lost(kind) >= made;
        assert!(is_counted, "{kind}: {kept} kept of {made}, {row}");
    }
    assert!(judge.endless <= lost("process_exit"), "{} have no end: {ledger}", judge.endless);
    if ledger["lost"] == json!({}) {
        let kept = (judge.forks, judge.execs, judge.exits, judge.nameless, judge.silent);
        assert_eq!(kept, (made, made / 2, made, 0, 0));
    }
}

#[track_caller]
fn finish(mut maker: Child) -> i32 {
    while maker.ended().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(
        maker.wait(),
        recorder_tests::Ended::Code(MAKER),
        "all processes ended as they should"
    );
    maker.pid()
}

/// Processes that come and go while the recorder looks through `/proc`: an entry
/// vanishes half way, or its number is another's before it is read to its end.
#[test]
fn what_begins_and_ends_during_the_start_has_no_name_of_others() {
    let directory = TestDirectory::new();
    let programs = Programs::write(&directory);
    let low = LowPidMax::set();
    let mut wrong = Judge::default();
    for _ in 0..Counts::of(100) {
        let stop = Pipe::new();
        let run = || make_all(&programs, u64::MAX, Some(stop));
        let makers: Vec<Child> = (0..MAKERS).map(|_| Child::fork(run)).collect();
        let recorder = RecorderProcess::start();
        (0..MAKERS).for_each(|_| stop.tell());
        let makers: Vec<i32> = makers.into_iter().map(finish).collect();
        let judge = Judge::of(&[], &recorder.dump(&[]));
        judge.assert_right();
        assert!(judge.judged > 0 && makers.len() as u64 == MAKERS);
        wrong.judged += judge.judged;
        wrong.nameless += judge.nameless;
    }
    drop(low);
    let Judge { judged, nameless, .. } = wrong;
    say(&format!("million: {judged} events judged from the start on, {nameless} have no name\n"));
}
