//! The recorder as a process: how it starts, is told, refuses, and ends.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use recorder_tests::{
    Child, Counts, Outcome, RecorderProcess, Start, TestDirectory, binary, number, one, run, skip,
    text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// The kernel programs and links a process holds, by the lines of its `fdinfo`.
fn programs_of(pid: i32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its descriptors");
    let mut ids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .flat_map(|info| info.lines().map(str::to_string).collect::<Vec<_>>())
        .filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether the kernel still has the program with this number.
fn is_loaded(id: u32) -> bool {
    /// `BPF_PROG_GET_FD_BY_ID`, include/uapi/linux/bpf.h.
    const GET_FD_BY_ID: libc::c_long = 13;
    // The front of `union bpf_attr`: number, next number, flags.
    let attr = [id, 0, 0];
    // SAFETY: as long as is said; the descriptor is closed again.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, GET_FD_BY_ID, attr.as_ptr(), size_of_val(&attr));
        if fd >= 0 {
            libc::close(fd as i32);
        }
        fd >= 0
    }
}

/// The finished and the unfinished files of a directory.
fn files(directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("the snapshot directory").flatten();
    entries.map(|entry| entry.path()).partition(|path| path.extension() == Some("kfr".as_ref()))
}

fn verify(file: &Path) -> Outcome {
    run(Command::new(binary()).arg("verify").arg(file))
}

/// Many small calls, so that a snapshot has something to write.
fn some_events() {
    let load = Child::fork(|| {
        for _ in 0..50_000 {
            // SAFETY: a string with its NUL; it is not there.
            unsafe { libc::access(c"/nonexistent/some".as_ptr(), libc::F_OK) };
        }
        0
    });
    load.finish();
}

#[test]
fn kill_leaves_nothing_behind_and_a_restart_works() {
    let recorder = RecorderProcess::start();
    some_events();
    let whole = recorder.dump(&[]);
    let ids = programs_of(recorder.pid());
    assert!(ids.len() >= 5, "programs of the recorder: {ids:?}");
    assert!(ids.iter().all(|id| is_loaded(*id)), "{ids:?}");
    // A snapshot may be anywhere on its way when the recorder dies.
    let mut asking = recorder.command("dump", &[]);
    let asking = asking.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut asking = asking.spawn().expect("a second dump");
    let directory = recorder.kill();
    let asked = wait_for("the second dump to end", || asking.try_wait().ok().flatten());
    println!("the dump during the kill ended with {asked}");
    wait_until("the kernel programs to be gone", || !ids.iter().any(|id| is_loaded(*id)));

    let snapshots = directory.join("snapshots");
    let (finished, _) = files(&snapshots);
    assert!(finished.contains(&whole));
    for file in finished {
        verify(&file).succeeded();
    }
    fs::write(snapshots.join(".left-over.kfr-part"), "half").expect("a leftover");
    fs::write(snapshots.join(".not-ours"), "x").expect("a file of somebody else");
    let recorder = RecorderProcess::start_in(directory, &Start::default());
    let (_, others) = files(&snapshots);
    assert_eq!(others, [snapshots.join(".not-ours")], "only leftovers are removed");
    assert!(recorder.log().contains("removed"), "{}", recorder.log());
    verify(&recorder.dump(&[])).succeeded();
    recorder.stop();
}

#[test]
fn a_second_recorder_on_the_socket_is_refused() {
    let recorder = RecorderProcess::start();
    let refused = RecorderProcess::refused(recorder.directory(), &Start::default());
    refused.failed_with(75, &["another recorder", "socket"]);
    assert_eq!(recorder.status()["recording"], true, "the first one goes on");
}

#[test]
fn sigusr2_makes_a_snapshot_and_sigterm_ends_well() {
    let recorder = RecorderProcess::start();
    assert!(
        recorder.said().starts_with("recording: window 300 s, memory 256"),
        "{}",
        recorder.said()
    );
    recorder.signal(libc::SIGUSR2);
    let file = wait_for("a snapshot by signal", || files(&recorder.snapshots()).0.pop());
    assert!(file.to_string_lossy().contains("-signal-"), "{}", file.display());
    assert_eq!(recorder.info(&file)["trigger"]["source"], "signal");
    let mode = fs::metadata(&file).expect("the snapshot").permissions().mode() & 0o777;
    assert_eq!(mode, 0o640, "0{mode:o}");
    let ids = programs_of(recorder.pid());
    let directory = recorder.stop();
    wait_until("the kernel programs to be gone", || !ids.iter().any(|id| is_loaded(*id)));
    let left = fs::symlink_metadata(directory.join("socket"));
    assert!(left.is_err(), "the socket is removed at the end");
}

/// A small file system at a path; gone when dropped.
struct Mounted(CString);

impl Mounted {
    fn new(path: &Path, options: &str) -> Mounted {
        fs::create_dir(path).expect("a directory to mount on");
        let path = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
        let mounted = Mounted(path);
        mounted.mount(0, options);
        mounted
    }

    fn mount(&self, flags: libc::c_ulong, options: &str) {
        let options = CString::new(options).expect("no NUL");
        let kind = c"tmpfs".as_ptr();
        // SAFETY: strings with their NUL.
        let done =
            unsafe { libc::mount(kind, self.0.as_ptr(), kind, flags, options.as_ptr().cast()) };
        assert_eq!(done, 0, "mount: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // SAFETY: a string with its NUL.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

/// A dump that cannot be written: one line, 73, nothing left, and the recording
/// goes on.
#[track_caller]
fn assert_cannot_write(recorder: &RecorderProcess, words: &[&str]) {
    let outcome = run(&mut recorder.command("dump", &[]));
    println!("{}", outcome.stderr.trim_end());
    outcome.failed_with(73, words);
    assert_eq!(recorder.status()["recording"], true);
}

#[test]
fn a_snapshot_directory_that_is_gone_is_said_and_survived() {
    let recorder = RecorderProcess::start();
    let (snapshots, aside) = (recorder.snapshots(), recorder.directory().join("aside"));
    fs::rename(&snapshots, &aside).expect("a rename");
    assert_cannot_write(&recorder, &["snapshots", "No such file"]);
    fs::rename(&aside, &snapshots).expect("a rename back");
    verify(&recorder.dump(&[])).succeeded();
}

#[test]
fn a_snapshot_directory_that_is_full_or_read_only_is_said_and_survived() {
    let directory = TestDirectory::new();
    let path = directory.join("snapshots");
    let small = Mounted::new(&path, "size=64k");
    let recorder = RecorderProcess::start_in(directory, &Start::default());
    // Random names do not compress to less than the file system has.
    for place in 0..20_000u64 {
        let name = format!("/nonexistent/{:x}", place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!(fs::metadata(name).is_err());
    }
    assert_cannot_write(&recorder, &["snapshots", "no space left"]);
    assert_eq!(files(&path), (vec![], vec![]), "nothing is left");
    small.mount(libc::MS_REMOUNT, "size=64m");
    verify(&recorder.dump(&[])).succeeded();
    small.mount(libc::MS_REMOUNT | libc::MS_RDONLY, "size=64m");
    assert_cannot_write(&recorder, &["snapshots", "Read-only"]);
    small.mount(libc::MS_REMOUNT, "size=64m");
    verify(&recorder.dump(&[])).succeeded();
    // First the mount: the directory below it goes with the recorder.
    drop(small);
    drop(recorder);
}

#[test]
fn a_dump_without_a_daemon_is_told_so() {
    let directory = TestDirectory::new();
    let none = directory.join("socket");
    let ask = |verb: &str| run(Command::new(binary()).arg(verb).arg("--socket").arg(&none));
    for verb in ["dump", "status"] {
        ask(verb).failed_with(69, &["socket", "recorder record"]);
    }
    // The socket a dead daemon left.
    drop(std::os::unix::net::UnixListener::bind(&none).expect("a socket"));
    ask("dump").failed_with(69, &["socket"]);
}

#[test]
fn a_copy_is_written_by_the_client_and_replaces_only_when_forced() {
    let recorder = RecorderProcess::start();
    let copy = recorder.directory().join("copy.kfr");
    let copy_name = copy.to_str().expect("UTF-8");
    let printed = recorder.dump(&["-o", copy_name]);
    assert_eq!(printed, copy);
    verify(&copy).succeeded();
    let before = fs::read(&copy).expect("the copy");
    let again = run(&mut recorder.command("dump", &["-o", copy_name]));
    again.failed_with(73, &["copy.kfr", "--force"]);
    assert_eq!(fs::read(&copy).expect("the copy"), before);
    recorder.dump(&["-o", copy_name, "--force"]);
    assert_ne!(fs::read(&copy).expect("the copy"), before);
    verify(&copy).succeeded();
    let (_, others) = files(recorder.directory().path());
    assert!(!others.iter().any(|path| path.to_string_lossy().contains("kfr-part")), "{others:?}");

    let piped = run(&mut recorder.command("dump", &["-o", "-"])).succeeded();
    let file = recorder.directory().join("piped.kfr");
    fs::write(&file, piped.stdout).expect("a file");
    verify(&file).succeeded();
}

/// Ticks of user and system time of a process.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

/// Above this many events a second of others the machine is not idle, and reading
/// them costs what it costs.
const IDLE_EVENTS_PER_S: f64 = 2_000.0;

#[test]
fn an_idle_machine_stays_idle() {
    let recorder = RecorderProcess::start();
    let ledger = || recorder.status()["ledger"].clone();
    let own = |ledger: &Value| number(&ledger["filtered_by"]["own"]);
    let others = |ledger: &Value| number(&ledger["stored"]);
    let (before, ticks) = (ledger(), cpu_ticks(recorder.pid()));
    let began = Instant::now();
    let scenario = Duration::from_secs(if Counts::full() { 10 } else { 3 });
    // The scenario is a time in which nothing is done.
    while began.elapsed() < scenario {
        std::thread::sleep(Duration::from_millis(500));
    }
    let ticks = cpu_ticks(recorder.pid()) - ticks;
    let seconds = began.elapsed().as_secs_f64();
    let after = ledger();
    let own_per_s = (own(&after) - own(&before)) as f64 / seconds;
    let others_per_s = (others(&after) - others(&before)) as f64 / seconds;
    // SAFETY: only reads a number.
    let ticks_per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let cpu_percent = 100.0 * ticks as f64 / ticks_per_s / seconds;
    println!("own {own_per_s:.0} events/s, {cpu_percent:.2} % CPU, others {others_per_s:.0}/s");
    if others_per_s > IDLE_EVENTS_PER_S {
        skip("this machine is not idle: others do more than 2,000 calls a second");
        return;
    }
    assert!(own_per_s < 200.0, "{own_per_s:.0} events per second of its own");
    if std::env::var_os("RECORDER_VM").is_some() {
        skip("a processor that is emulated says nothing about the cost in CPU time");
        return;
    }
    assert!(cpu_percent < 1.0, "{cpu_percent:.2} % of one CPU");
}

#[test]
fn without_privileges_it_says_what_it_needs() {
    let directory = TestDirectory::new();
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).expect("an owner");
    let wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !recorder_tests::has_program("setpriv") {
        skip("there is no setpriv");
        return;
    }
    let start = Start { wrapper: &wrapper, ..Start::default() };
    let outcome = RecorderProcess::refused(&directory, &start);
    println!("{}", outcome.stderr.trim_end());
    outcome.failed_with(77, &["permit", "run as root"]);
}

#[test]
fn without_btf_it_records_what_it_can_and_lists_the_rest() {
    let Some(wrapper) = Start::hide_btf() else {
        skip("nothing to hide: no BTF, or no unshare");
        return;
    };
    let start = Start { wrapper: &wrapper, ..Start::default() };
    let recorder = RecorderProcess::start_in(TestDirectory::new(), &start);
    let outcome = run(Command::new("sh").args(["-c", "cat /etc/hostname; ls /nonexistent"]));
    assert_eq!(outcome.code, Some(2));
    let status = recorder.status();
    let missing = status["missing"].as_array().expect("what is missing");
    assert!(!missing.is_empty(), "{status}");
    assert!(recorder.said().contains("missing"), "{}", recorder.said());
    let file = recorder.dump(&[]);
    let info = recorder.info(&file);
    assert_eq!(info["missing"], status["missing"]);
    assert_eq!(info["ledger"]["closes"], true, "{}", info["ledger"]);
    let all = recorder.replay(&file, &[]);
    let exec = one(&all, "exec of cat", |event| {
        event["kind"] == "process_exec" && text_or(&event["program"]).ends_with("/cat")
    });
    let cat = &exec["pid"];
    let opened = one(&all, "openat of cat", |event| {
        event["pid"] == *cat && event["args"]["filename"] == "/etc/hostname"
    });
    assert_eq!((&opened["comm"], &opened["args"]["flags"]), (&json!("cat"), &json!("O_RDONLY")));
    assert!(number(&opened["dur_ns"]) > 0, "{opened}");
    one(&all, "end of cat", |event| event["kind"] == "process_exit" && event["pid"] == *cat);
    for row in missing {
        println!("missing {}: {}", text(&row["what"]), text(&row["why"]));
    }
}

fn text_or(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `since_ns` and `post_ns` were added without looking: the request ended in a panic.
#[test]
fn a_request_with_the_largest_numbers_is_answered() {
    if !recorder_tests::has_program("curl") {
        skip("there is no curl");
        return;
    }
    let recorder = RecorderProcess::start();
    let ask = |body: &str| {
        let socket = recorder.directory().join("socket").to_string_lossy().into_owned();
        let header = "content-type: application/json";
        let arguments =
            ["-s", "--unix-socket", &socket, "-H", header, "-d", body, "http://recorder/v1/dump"];
        let answer = Command::new("curl").args(arguments).output().expect("curl");
        serde_json::from_slice::<Value>(&answer.stdout).expect("an answer in JSON")
    };
    let largest = ask(r#"{"since_ns":18446744073709551615,"post_ns":1000}"#);
    assert!(largest["path"].is_string(), "{largest}");
    assert_eq!(ask(r#"{"post_ns":18446744073709551615}"#)["status"], 400);
    assert_eq!(ask(r#"{"nonsense":1}"#)["status"], 422);
    assert_eq!(ask("not json")["status"], 400);
}
