//! What the recorder holds while it records: nothing it does not need, whoever
//! started it, and what it says when it never had it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use recorder_tests::{
    Child, RecorderProcess, Start, TestDirectory, has_program, number, one, run, skip, text,
    wait_for, wait_until,
};
use serde_json::{Value, json};

use crate::confinement::Outside;

/// The user `nobody` of every Linux.
const NOBODY: u32 = 65534;

/// Somebody else.
const OTHER: u32 = 65533;

/// What the recorder needs to start, as setpriv(1) names it.
const FOUR: [&str; 4] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];

/// CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, include/uapi/linux/capability.h.
const READS_PROCESSES: u64 = 1 << 19 | 1 << 2;

/// Starts a program as nobody with these capabilities and no others.
fn as_nobody(capabilities: &[&str]) -> Vec<String> {
    let plus: Vec<String> = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let set = format!("-all{}", plus.concat());
    [
        "setpriv".to_string(),
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_string(),
        format!("--inh-caps={set}"),
        format!("--ambient-caps={set}"),
    ]
    .to_vec()
}

/// A directory for a recorder that runs as nobody.
fn directory_of_nobody() -> TestDirectory {
    let directory = TestDirectory::new();
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    directory
}

/// By TCP as well: that it listens is done before it gives up what it does not need.
const LISTENS: &[&str] = &["--listen", "127.0.0.1:0"];

fn start_as_nobody(capabilities: &[&str]) -> RecorderProcess {
    let words = as_nobody(capabilities);
    let wrapper: Vec<&str> = words.iter().map(String::as_str).collect();
    let start = Start { wrapper: &wrapper, arguments: LISTENS, ..Start::default() };
    RecorderProcess::start_in(directory_of_nobody(), &start)
}

/// `/proc/PID/task/*/status` of every thread, by field.
fn threads(pid: i32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let status = |path: &Path| fs::read_to_string(path.join("status")).ok();
    tasks
        .flatten()
        .filter_map(|task| status(&task.path()))
        .map(|text| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            fields.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect()
        })
        .collect()
}

/// No thread holds what it does not need. `as_root` may even empty the bounding set.
#[track_caller]
fn assert_confined(recorder: &RecorderProcess, as_root: bool) {
    let threads = threads(recorder.pid());
    let set = |thread: &BTreeMap<String, String>, field: &str| {
        u64::from_str_radix(&thread[field], 16).expect("a set of capabilities")
    };
    let mut names = BTreeSet::new();
    for thread in &threads {
        let name = thread["Name"].as_str();
        let wanted = if name == "unfinished" { READS_PROCESSES } else { 0 };
        for (field, wanted) in
            [("CapEff", wanted), ("CapPrm", wanted), ("CapInh", 0), ("CapAmb", 0)]
        {
            assert_eq!(set(thread, field), wanted, "{field} of thread {name}");
        }
        if as_root {
            assert_eq!(set(thread, "CapBnd"), 0, "the bounding set of thread {name}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "thread {name}");
        assert_eq!(thread["Seccomp"], "2", "thread {name}");
        names.insert(name);
    }
    // The main thread, the two of the recording, and one that wrote a snapshot.
    assert!(names.len() >= 4, "{names:?}");
    assert!(names.contains("ingest") && names.contains("unfinished"), "{names:?}");
    let confinement = &recorder.status()["confinement"];
    let keeps = json!({"unfinished": ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"]});
    assert_eq!(confinement["capabilities"], keeps, "{confinement}");
    assert_eq!(confinement["no_new_privs"], true, "{confinement}");
    assert_eq!(confinement["seccomp"], true, "{confinement}");
    println!("{confinement}");
    let missing = confinement["missing"].as_array().expect("what is missing");
    let mut whys = missing.iter().map(|row| text(&row["what"]));
    if confinement["landlock_abi"] == 0 {
        assert!(whys.any(|what| what.starts_with("landlock")), "{confinement}");
    } else {
        let snapshots = recorder.snapshots();
        assert_eq!(confinement["writable"], json!([snapshots.to_str().expect("UTF-8")]));
    }
}

/// A process of user `uid` that waits in `openat` of a FIFO.
struct Opening {
    child: Child,
    fifo: String,
    _directory: TestDirectory,
}

impl Opening {
    fn start(uid: u32) -> Opening {
        let directory = TestDirectory::new();
        let fifo = directory.join("fifo").to_str().expect("UTF-8").to_string();
        let path = CString::new(fifo.as_str()).expect("no NUL");
        // SAFETY: a string with its NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0, "a FIFO");
        let child = Child::fork(|| {
            // SAFETY: numbers, and a string with its NUL.
            unsafe {
                if libc::setresuid(uid, uid, uid) != 0 {
                    return 1;
                }
                libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY);
            }
            0
        });
        child.wait_in_call(libc::SYS_openat);
        Opening { child, fifo, _directory: directory }
    }

    /// Its call in a snapshot.
    #[track_caller]
    fn call<'a>(&self, events: &'a [Value]) -> &'a Value {
        let pid = self.child.pid();
        one(events, &format!("unfinished openat of {pid}"), |event| {
            event["pid"] == pid && event["unfinished"] == true && event["name"] == "openat"
        })
    }
}

/// Everything an operator does with a recorder.
fn whole_path(recorder: RecorderProcess, before: &[Opening], as_root: bool) {
    let since = [Opening::start(0), Opening::start(OTHER)];
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    for (opening, before) in
        before.iter().map(|opening| (opening, true)).chain(since.iter().map(|one| (one, false)))
    {
        let call = opening.call(&events);
        assert_eq!(call["args"]["filename"], opening.fifo.as_str(), "{call}");
        assert!(call["wait_channel"].is_string(), "{call}");
        assert_eq!(call.get("before_recording").is_some(), before, "{call}");
    }
    let info = recorder.info(&file);
    assert_eq!(info["ledger"]["closes"], true, "{}", info["ledger"]);
    assert_eq!(info["missing"], recorder.status()["missing"]);
    let said = info["missing"].to_string();
    assert!(!said.contains("CAP_"), "nothing is missing for want of a privilege: {said}");

    recorder.signal(libc::SIGHUP);
    wait_until("the configuration to be read again", || {
        recorder.log().contains("configuration read again")
    });
    recorder.signal(libc::SIGUSR2);
    let by_signal = |name: &str| name.contains("-signal-") && name.ends_with(".kfr");
    wait_until("a snapshot by signal", || {
        let files = fs::read_dir(recorder.snapshots()).expect("the directory").flatten();
        files.into_iter().any(|file| by_signal(&file.file_name().to_string_lossy()))
    });
    let copy = recorder.directory().join("copy.kfr");
    recorder.dump(&["-o", copy.to_str().expect("UTF-8")]);
    for (server, path, words) in [
        (recorder.socket(), "/metrics", "recorder_recording 1"),
        (recorder.tcp(), "/readyz", "recording"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
    }
    let text = run(&mut recorder.command("status", &[])).succeeded();
    let line = text.text().lines().find(|line| line.starts_with("confined ")).expect("a line");
    println!("{line}");
    assert!(line.contains("thread unfinished keeps CAP_DAC_READ_SEARCH CAP_SYS_PTRACE"), "{line}");

    assert_confined(&recorder, as_root);

    let socket = recorder.directory().join("socket");
    assert!(socket.exists());
    let log = recorder.directory().join("log");
    let directory = recorder.stop();
    assert!(!socket.exists(), "the socket is removed at the end");
    let log = fs::read_to_string(log).expect("its log");
    assert!(!log.contains("ERROR") && !log.contains("stays"), "{log}");
    drop(directory);
}

#[test]
fn nobody_with_four_capabilities_records_and_then_holds_none() {
    if !has_program("setpriv") {
        skip("there is no setpriv");
        return;
    }
    let before = [Opening::start(0), Opening::start(OTHER)];
    whole_path(start_as_nobody(&FOUR), &before, false);
}

#[test]
fn root_records_and_then_holds_nothing_either() {
    let before = [Opening::start(0), Opening::start(OTHER)];
    let directory = TestDirectory::new();
    let snapshots = directory.join("snapshots");
    fs::create_dir(&snapshots).expect("a directory");
    fs::write(snapshots.join(".1-0.kfr-part"), "half").expect("a leftover");
    let start = Start { arguments: LISTENS, ..Start::default() };
    let recorder = RecorderProcess::start_in(directory, &start);
    assert!(!snapshots.join(".1-0.kfr-part").exists(), "leftovers are removed");
    whole_path(recorder, &before, true);
}

/// Root without capabilities is a user like any other: the first dump would fail.
#[test]
fn root_is_told_at_once_that_a_directory_is_somebody_elses() {
    let directory = TestDirectory::new();
    let snapshots = directory.join("snapshots");
    fs::create_dir(&snapshots).expect("a directory");
    fs::set_permissions(&snapshots, fs::Permissions::from_mode(0o750)).expect("its mode");
    chown(&snapshots, Some(NOBODY), Some(NOBODY)).expect("an owner");
    let outcome = RecorderProcess::refused(&directory, &Start::default());
    println!("{}", outcome.stderr.trim_end());
    outcome.failed_with(73, &["snapshots", "user 65534's", "chown", "--snapshots"]);
    // And of one that has to be made in somebody else's.
    fs::remove_dir(&snapshots).expect("to remove it");
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    let outcome = RecorderProcess::refused(&directory, &Start::default());
    outcome.failed_with(73, &["snapshots", "user 65534's", "chown"]);
}

#[test]
fn a_configuration_only_root_can_read_stays_as_it_was() {
    if !has_program("setpriv") {
        skip("there is no setpriv");
        return;
    }
    let recorder = start_as_nobody(&FOUR);
    let config = recorder.directory().join("recorder.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("its mode");
    recorder.signal(libc::SIGHUP);
    wait_until("a line about the configuration", || recorder.log().contains("configuration"));
    let log = recorder.log();
    assert!(log.contains("old configuration stays") && log.contains("let its user read"), "{log}");
    recorder.dump(&[]);
    recorder.stop();
}

/// Each of the four but one: either one line, or what is missing is listed.
#[test]
fn each_capability_that_is_missing_is_said() {
    if !has_program("setpriv") {
        skip("there is no setpriv");
        return;
    }
    for absent in ["bpf", "perfmon"] {
        let left: Vec<&str> = FOUR.into_iter().filter(|name| *name != absent).collect();
        let words = as_nobody(&left);
        let wrapper: Vec<&str> = words.iter().map(String::as_str).collect();
        let start = Start { wrapper: &wrapper, ..Start::default() };
        let outcome = RecorderProcess::refused(&directory_of_nobody(), &start);
        println!("without {absent}: {}", outcome.stderr.trim_end());
        outcome.failed_with(77, &["not permit", "CAP_BPF", "CAP_PERFMON"]);
    }
    for (absent, rows) in [("sys_ptrace", 2), ("dac_read_search", 1)] {
        let before = Opening::start(OTHER);
        let left: Vec<&str> = FOUR.into_iter().filter(|name| *name != absent).collect();
        let recorder = start_as_nobody(&left);
        let since = Opening::start(OTHER);
        let why = format!("CAP_{} is missing", absent.to_uppercase());
        let status = recorder.status();
        let all = status["missing"].as_array().expect("what is missing").clone();
        let said: Vec<&Value> =
            all.iter().filter(|row| text(&row["why"]).starts_with(&why)).collect();
        for row in &said {
            println!("without {absent}: {}: {}", text(&row["what"]), text(&row["why"]));
        }
        assert_eq!(said.len(), rows, "{status}");
        assert!(recorder.said().contains("missing"), "{}", recorder.said());
        // What is said to be missing is, and the rest is there.
        let file = recorder.dump(&[]);
        assert_eq!(recorder.info(&file)["missing"], status["missing"]);
        let events = recorder.replay(&file, &["--pid", &since.child.pid().to_string()]);
        let call = since.call(&events);
        assert_eq!(call["args"]["filename_unreadable"], true, "{call}");
        assert!(number(&call["dur_ns"]) > 0, "{call}");
        assert_eq!(call["wait_channel"].is_string(), absent != "sys_ptrace", "{call}");
        let events = recorder.replay(&file, &["--pid", &before.child.pid().to_string()]);
        assert!(!events.iter().any(|event| event["unfinished"] == true), "{events:?}");
        recorder.stop();
    }
}

/// Landlock knows a directory, not its name: also where permissions allow it, the
/// recorder writes nowhere but where it wrote at its start.
#[test]
fn a_directory_made_anew_is_not_written() {
    let recorder = RecorderProcess::start();
    if recorder.status()["confinement"]["landlock_abi"] == 0 {
        skip("this kernel has no Landlock");
        return;
    }
    let (snapshots, aside) = (recorder.snapshots(), recorder.directory().join("aside"));
    fs::rename(&snapshots, &aside).expect("a rename");
    fs::create_dir(&snapshots).expect("a directory");
    let outcome = run(&mut recorder.command("dump", &[]));
    println!("{}", outcome.stderr.trim_end());
    outcome.failed_with(73, &["snapshots", "Permission denied", "start the recorder again"]);
    assert_eq!(fs::read_dir(&snapshots).expect("the directory").count(), 0);
    assert_eq!(recorder.status()["recording"], true);
    fs::remove_dir(&snapshots).expect("to remove it");
    fs::rename(&aside, &snapshots).expect("a rename back");
    recorder.dump(&[]);
    recorder.stop();
}

#[test]
fn a_hook_is_held_to_the_same() {
    let (allowed, refused) = (Outside::new("allowed"), Outside::new("refused"));
    let directory = TestDirectory::new();
    let script = directory.join("hook");
    let text = "cp \"$1\" \"$2\" && cp \"$1\" \"$3\"\n\
                echo $? > \"$2\"/code; cat /proc/self/status > \"$2\"/status\n";
    fs::write(&script, text).expect("a script");
    let (to, not_to) = (allowed.join(""), refused.join(""));
    let (to, not_to) = (to.display().to_string(), not_to.display().to_string());
    let command = format!("[\"/bin/sh\", {script:?}, \"{{path}}\", {to:?}, {not_to:?}]");
    let config = format!("[hook]\ncommand = {command}\nwritable = [{to:?}]\n");
    let recorder =
        RecorderProcess::start_in(directory, &Start { config: &config, ..Start::default() });
    let file = recorder.dump(&[]);
    let status = wait_for("the hook", || {
        let status = fs::read_to_string(allowed.join("status")).ok();
        status.filter(|status| status.contains("Seccomp"))
    });
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let name = file.file_name().expect("a name").to_str().expect("UTF-8");
    let original = fs::read(&file).expect("the snapshot");
    assert_eq!(fs::read(allowed.join(name)).ok(), Some(original), "its copy");
    if recorder.status()["confinement"]["landlock_abi"] == 0 {
        skip("this kernel has no Landlock");
        return;
    }
    let code = fs::read_to_string(allowed.join("code")).expect("how the second copy ended");
    assert_ne!(code.trim(), "0", "a copy to where the hook may not write");
    assert!(!refused.join(name).exists());
    recorder.stop();
}

/// Starting programs was refused at the start, and cannot be allowed again.
#[test]
fn a_first_hook_is_said_to_take_a_restart() {
    let recorder = RecorderProcess::start();
    let config = "[hook]\ncommand = [\"/bin/true\"]\n";
    fs::write(recorder.directory().join("recorder.toml"), config).expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the new configuration", || recorder.log().contains("read again"));
    assert!(recorder.log().contains("a first hook"), "{}", recorder.log());
    recorder.dump(&[]);
    wait_until("a line about it", || recorder.log().contains("Operation not permitted"));
    assert_eq!(recorder.status()["recording"], true);
    recorder.stop();
}

/// A thread that does not run, as one that waits for a page of another process which
/// never comes.
struct Frozen(PathBuf);

impl Frozen {
    /// Only version 1 of cgroups freezes single threads.
    fn new(thread: &str) -> Option<Frozen> {
        let name = format!("recorder-test-{}", std::process::id());
        let group = Path::new("/sys/fs/cgroup/freezer").join(name);
        fs::create_dir(&group).ok()?;
        let frozen = Frozen(group);
        fs::write(frozen.0.join("tasks"), thread).ok()?;
        fs::write(frozen.0.join("freezer.state"), "FROZEN").ok()?;
        wait_until("the thread to be frozen", || {
            let state = fs::read_to_string(frozen.0.join("freezer.state"));
            state.is_ok_and(|state| state.trim() == "FROZEN")
        });
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // What is left of it is gone with its threads.
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let _ = fs::read_to_string(self.0.join("tasks")).map(|tasks| {
            tasks.lines().for_each(|task| {
                let _ = fs::write("/sys/fs/cgroup/freezer/tasks", task);
            });
        });
        let _ = fs::remove_dir(&self.0);
    }
}

/// A snapshot read other processes itself and hung with them, on just the day it was
/// needed.
#[test]
fn a_snapshot_is_taken_while_another_process_cannot_be_read() {
    let recorder = RecorderProcess::start();
    let opening = Opening::start(OTHER);
    let reader = threads(recorder.pid()).into_iter().find(|thread| thread["Name"] == "unfinished");
    let Some(frozen) = Frozen::new(&reader.expect("the thread")["Pid"]) else {
        skip("there is no freezer of cgroups version 1");
        return;
    };
    let missing = |file: &Path| {
        let rows = recorder.info(file)["missing"].as_array().cloned().unwrap_or_default();
        rows.into_iter().map(|row| format!("{}: {}", row["what"], row["why"])).collect::<Vec<_>>()
    };
    let unfinished = |file: &Path| {
        let events = recorder.replay(file, &["--pid", &opening.child.pid().to_string()]);
        events.iter().filter(|event| event["unfinished"] == true).count()
    };
    for why in ["could not be read in time", "still waits"] {
        let file = recorder.dump(&[]);
        let rows = missing(&file);
        println!("{rows:?}");
        assert!(rows.iter().any(|row| row.contains(why)), "{why}: {rows:?}");
        assert_eq!(unfinished(&file), 0);
        assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
    }
    drop(frozen);
    let file = wait_for("a snapshot with everything", || {
        Some(recorder.dump(&[]))
            .filter(|file| !missing(file).iter().any(|row| row.contains("returned")))
    });
    assert_eq!(unfinished(&file), 1);
    recorder.stop();
}

/// From now on, in this thread and what it starts, these calls fail with these errors.
fn refuse_calls(refused: &[(libc::c_long, i32)]) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let allow = libc::SECCOMP_RET_ALLOW;
    // The number of the call is the first word of what a filter sees.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (number, errno) in refused {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(statement(equal, 0, 1, *number as u32));
        let answer = libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, allow));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a program as long as is said.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    assert_eq!(done, 0, "a filter: {}", std::io::Error::last_os_error());
}

/// A kernel without Landlock and without filters, as far as a program can tell.
#[test]
fn what_a_kernel_cannot_confine_is_said_and_it_records() {
    // Of this thread only: the filter cannot be taken away again.
    let started = std::thread::spawn(|| {
        refuse_calls(&[
            (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
            (libc::SYS_seccomp, libc::EINVAL),
        ]);
        RecorderProcess::start()
    });
    let recorder = started.join().expect("a recorder");
    recorder.dump(&[]);
    let confinement = &recorder.status()["confinement"];
    assert_eq!(
        (&confinement["seccomp"], &confinement["landlock_abi"]),
        (&json!(false), &json!(0)),
        "{confinement}"
    );
    let missing = confinement["missing"].as_array().expect("what is missing");
    let whats: Vec<&str> = missing.iter().map(|row| text(&row["what"])).collect();
    // Once for all threads, once for the one that reads.
    assert_eq!(whats.iter().filter(|what| what.starts_with("seccomp")).count(), 2, "{whats:?}");
    assert!(whats.contains(&"landlock: files can be written anywhere"), "{whats:?}");
    let log = recorder.log();
    assert_eq!(log.matches("not confined: ").count(), missing.len(), "{log}");
    println!("{}", log.trim_end());
    let status = run(&mut recorder.command("status", &[])).succeeded();
    let lines = status.text().lines().filter(|line| line.starts_with("  not "));
    assert_eq!(lines.count(), missing.len(), "{}", status.text());
    // What takes no such kernel is done all the same.
    let of_main = wait_for("its threads", || threads(recorder.pid()).into_iter().next());
    assert_eq!(of_main["CapEff"], "0000000000000000", "{of_main:?}");
    recorder.stop();
}
