//! The black box on disk: what is there after the recorder, or its machine, has gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use recorder_tests::{
    Child, Counts, RecorderProcess, Start, TestDirectory, binary, has_program, kind, ns, run, skip,
    synth::Random, text, wait_for, wait_until,
};
use serde_json::Value;

/// What is not sealed yet is lost with the recorder: about a second. As much again for a
/// machine that has other things to do.
const UNSEALED: Duration = Duration::from_secs(2);

/// The smallest spool.
const SMALL: &str = "16MiB";

fn spooling(directory: TestDirectory) -> RecorderProcess {
    let spool = spool_of(&directory);
    let arguments = ["--spool", spool.to_str().expect("a path"), "--spool-size", SMALL];
    RecorderProcess::start_in(directory, &Start { arguments: &arguments, ..Start::default() })
}

fn spool_of(directory: &TestDirectory) -> PathBuf {
    directory.join("spool")
}

/// Calls `access` for one name after the other, as long as it lives.
fn marking(directory: &Path) -> Child {
    let directory = directory.to_path_buf();
    Child::fork(move || {
        std::env::set_current_dir(&directory).expect("a directory");
        for number in 0u64.. {
            let name = format!("mark-{number}\0");
            // SAFETY: a string with its NUL; it is not there.
            unsafe { libc::access(name.as_ptr().cast(), libc::F_OK) };
            std::thread::sleep(Duration::from_millis(1));
        }
        0
    })
}

/// The numbers of the marks, in order, and when the last was made.
fn marks(events: &[Value], pid: i32) -> (Vec<u64>, u64) {
    let is_mark = |event: &&Value| event["pid"] == pid && event["name"] == "access";
    let found: Vec<&Value> = events.iter().filter(is_mark).collect();
    let number = |event: &&Value| {
        text(&event["args"]["filename"]).strip_prefix("mark-").expect("a mark").parse().expect("it")
    };
    let last_ns = found.last().map_or(0, |event| ns(&event["ts_ns"]));
    (found.iter().map(number).collect(), last_ns)
}

fn spooled(recorder: &RecorderProcess) -> u64 {
    recorder.status()["spool"]["written_bytes"].as_u64().expect("a number")
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for one time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn events_of(file: &Path) -> Vec<Value> {
    let mut command = Command::new(binary());
    let outcome = run(command.arg("replay").arg(file).args(["--format", "jsonl"])).succeeded();
    let lines = outcome.text().lines();
    lines.map(|line| serde_json::from_str(line).expect("one JSON object per line")).collect()
}

fn is_whole(file: &Path) {
    run(Command::new(binary()).arg("verify").arg(file)).succeeded();
}

/// Makes a snapshot of a spool by hand.
fn recovered(directory: &TestDirectory, name: &str) -> PathBuf {
    let file = directory.join(name);
    let mut command = Command::new(binary());
    run(command.arg("recover").arg(spool_of(directory)).arg("-o").arg(&file)).succeeded();
    file
}

#[test]
fn a_recorder_that_is_killed_loses_at_most_the_unsealed_second() {
    let rounds = Counts::of(300);
    let seed = std::env::var("RECORDER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut directory = TestDirectory::new();
    let mut longest_ns = 0;
    for round in 0..rounds {
        let recorder = spooling(directory);
        if round > 0 {
            // What the one before left is a snapshot by now.
            let saved = wait_for("the snapshot of the last round", || {
                recorder.status()["spool"]["recovered"].as_str().map(PathBuf::from)
            });
            is_whole(&saved);
            fs::remove_file(saved).expect("it is there");
        }
        let marker = marking(recorder.directory().path());
        let before = wait_for("a part", || Some(spooled(&recorder)).filter(|bytes| *bytes > 0));
        wait_until("a segment", || spooled(&recorder) > before);
        // The moment is what is random.
        std::thread::sleep(Duration::from_micros(random.below(1_200_000)));
        let killed_ns = monotonic_ns();
        directory = recorder.kill();
        let pid = marker.pid();
        drop(marker);
        let file = recovered(&directory, &format!("{round}.kfr"));
        is_whole(&file);
        let events = events_of(&file);
        let lost = kind(&events, "lost");
        assert!(lost.is_empty(), "round {round}: nothing was missed, but {lost:?}");
        let (numbers, last_ns) = marks(&events, pid);
        assert!(!numbers.is_empty(), "round {round}: no mark");
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        assert_eq!(numbers, (first..=last).collect::<Vec<u64>>(), "round {round}");
        let lost_ns = killed_ns.saturating_sub(last_ns);
        assert!(lost_ns < UNSEALED.as_nanos() as u64, "round {round}: {lost_ns} ns are lost");
        longest_ns = longest_ns.max(lost_ns);
        // Names and places are there without the host.
        let mark = events.iter().rfind(|event| event["pid"] == pid && event["name"] == "access");
        assert_eq!(mark.expect("a mark")["errno"], "ENOENT");
        fs::remove_file(file).expect("it is there");
    }
    println!("{rounds} rounds, at most {} ms lost", longest_ns / 1_000_000);
}

#[test]
fn what_was_known_of_the_host_is_in_the_spool() {
    let directory = TestDirectory::new();
    fs::write(directory.join("old.txt"), "old").expect("a file");
    let path = directory.join("old.txt");
    // A process from before the recording, with an open file.
    let old = Command::new("sh")
        .args(["-c", "exec 7<old.txt; while :; do read -r line <&7; sleep 0.05; done"])
        .current_dir(directory.path())
        .spawn();
    let mut old = old.expect("a shell");
    let reader = wait_for("it to open its file", || {
        let fd = format!("/proc/{}/fd/7", old.id());
        fs::read_link(fd).ok().filter(|found| *found == path).map(|_| old.id().cast_signed())
    });
    let recorder = spooling(directory);
    let is_reading = |events: &[Value]| {
        events.iter().any(|event| {
            event["pid"] == reader
                && event["name"] == "read"
                && event["args"]["fd_file"] == path.to_str().expect("a path")
        })
    };
    let mut round = 0;
    let file = wait_for("its reads in the spool", || {
        round += 1;
        // Also while it is written.
        let out = recorder.directory().join(&format!("live-{round}.kfr"));
        let mut command = Command::new(binary());
        let spool = spool_of(recorder.directory());
        let outcome = run(command.arg("recover").arg(spool).arg("-o").arg(&out));
        let found = outcome.code == Some(0) && is_reading(&events_of(&out));
        if !found {
            std::thread::sleep(Duration::from_millis(200));
        }
        found.then_some(out)
    });
    let info = recorder.info(&file);
    assert_eq!(info["trigger"]["source"], "crash", "{info}");
    let directory = recorder.kill();
    // Ours, and not reaped.
    old.kill().expect("the shell");
    old.wait().expect("its end");
    let events = events_of(&recovered(&directory, "after.kfr"));
    assert!(is_reading(&events));
    let of_shell = events.iter().find(|event| event["pid"] == reader).expect("the shell");
    assert_eq!(of_shell["comm"], "sh");
}

#[test]
fn a_recorder_that_ends_well_leaves_nothing_to_be_saved() {
    let recorder = spooling(TestDirectory::new());
    wait_until("a part", || spooled(&recorder) > 0);
    let marker = marking(recorder.directory().path());
    let pid = marker.pid();
    wait_until("a mark", || {
        let file = recorder.dump(&[]);
        !marks(&recorder.replay(&file, &[]), pid).0.is_empty()
    });
    drop(marker);
    let directory = recorder.stop();
    // By hand it is there all the same: up to the last moment.
    let events = events_of(&recovered(&directory, "by-hand.kfr"));
    assert!(events.iter().any(|event| event["kind"] == "process_exit" && event["pid"] == pid));
    let recorder = spooling(directory);
    wait_until("a part", || spooled(&recorder) > 0);
    let status = recorder.status();
    assert_eq!(status["spool"]["recovered"], Value::Null, "{status}");
    // While it runs nobody else writes there.
    let spool = spool_of(recorder.directory());
    let arguments = ["--spool", spool.to_str().expect("a path")];
    let second = RecorderProcess::start_with(&arguments);
    let why = wait_for("the other one to say so", || {
        second.status()["spool"]["error"].as_str().map(str::to_string)
    });
    assert!(why.contains("another recorder writes here"), "{why}");
    second.dump(&[]);
    assert_eq!(recorder.status()["spool"]["error"], Value::Null);
}

/// The disk is full: it costs the spool, and says so.
#[test]
fn a_full_disk_costs_the_spool_and_not_the_recording() {
    if !has_program("unshare") {
        return skip("there is no unshare");
    }
    let directory = TestDirectory::new();
    let spool = spool_of(&directory);
    fs::create_dir(&spool).expect("a folder");
    let mount =
        format!("mount -t tmpfs -o size=4m,mode=750 none {} && exec \"$@\"", spool.display());
    let wrapper = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let arguments = ["--spool", spool.to_str().expect("a path"), "--spool-size", SMALL];
    let start = Start { arguments: &arguments, wrapper: &wrapper, ..Start::default() };
    let recorder = RecorderProcess::start_in(directory, &start);
    let status = wait_for("it to be said", || {
        Some(recorder.status()).filter(|status| status["spool"]["error"].is_string())
    });
    assert!(text(&status["spool"]["error"]).contains("No space left"), "{status}");
    let log = recorder.log();
    let said = log.lines().filter(|line| line.contains("recording goes on")).count();
    assert_eq!(said, 1, "one line: {log}");
    let shown = run(&mut recorder.command("status", &[])).succeeded();
    assert!(shown.text().contains("FAILED"), "{}", shown.text());
    let file = recorder.dump(&[]);
    is_whole(&file);
    assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
}

/// Whoever may write in the directory could put a file of theirs in the place of one.
#[test]
fn a_spool_others_may_write_in_is_refused_until_it_is_closed() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TestDirectory::new();
    let spool = spool_of(&directory);
    fs::create_dir(&spool).expect("a folder");
    let change = |mode| {
        fs::set_permissions(&spool, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    change(0o777);
    let recorder = spooling(directory);
    let status = wait_for("it to be said", || {
        Some(recorder.status()).filter(|status| status["spool"]["error"].is_string())
    });
    let error = text(&status["spool"]["error"]);
    assert!(error.contains("mode 0777") && error.contains("chmod go-w"), "{error}");
    assert_eq!(fs::read_dir(&spool).expect("it").count(), 0, "nothing is written");
    is_whole(&recorder.dump(&[]));
    change(0o750);
    wait_until("it to be used", || spooled(&recorder) > 0);
    assert!(recorder.status()["spool"]["error"].is_null());
}
