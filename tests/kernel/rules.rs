//! Rules on the stream, each provoked for real: the recorder takes one snapshot, at
//! once, and says why.

use std::{
    ffi::CStr,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use recorder_tests::{
    Child, Ended, MemoryGroup, Pipe, RecorderProcess, SILENT_PEER, has_program, number,
    rename_thread, run, skip, take_memory, text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// No limit on how often snapshots are taken, and a rule whose firing tells that
/// everything before it has been judged.
const FRAME: &str = "\
[trigger]
cooldown = '0s'
per_hour_max = 1000

[[rule]]
name = 'sentinel'
on = 'signal'
command = 'sentinel'
signals = ['SIGUSR1']
again_after = '1s'
";

fn start(rules: &str) -> RecorderProcess {
    RecorderProcess::start_configured(&format!("{FRAME}\n{rules}"))
}

/// A child of this name that ends by a signal, with threads beside its first one.
fn dies(name: &'static CStr, signal: i32) -> i32 {
    let mut child = Child::fork(|| {
        rename_thread(name);
        for _ in 0..3 {
            std::thread::spawn(|| {
                rename_thread(c"beside");
                std::thread::park();
            });
        }
        // SAFETY: no core is left behind; Rust has a handler for some signals.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
            libc::pause()
        }
    });
    assert_eq!(child.wait(), Ended::Signal(signal));
    child.pid()
}

fn firings(recorder: &RecorderProcess, rule: &str) -> u64 {
    number(&recorder.status()["rules"]["firings"][rule])
}

/// The snapshot of a rule's firing, and what `info` says of it.
#[track_caller]
fn snapshot_of(recorder: &RecorderProcess, rule: &str) -> (PathBuf, Value) {
    wait_for(&format!("a snapshot of rule {rule}"), || {
        let files = recorder.files().into_iter();
        files.map(|file| (file.clone(), recorder.info(&file))).find(|(_, info)| {
            let trigger = &info["trigger"];
            let also = trigger["also"].as_array().into_iter().flatten();
            std::iter::once(trigger).chain(also).any(|trigger| trigger["name"] == rule)
        })
    })
}

/// The one snapshot of a rule, taken within a second of what happened; `again` makes
/// it happen once more, which takes none.
#[track_caller]
fn assert_fires_once<T>(
    recorder: &RecorderProcess,
    rule: &str,
    again: impl FnOnce() -> T,
) -> Value {
    let began = Instant::now();
    let (file, info) = snapshot_of(recorder, rule);
    println!("{rule}: {} after {:?}", text(&info["trigger"]["reason"]), began.elapsed());
    assert_eq!(info["trigger"]["source"], "rule", "{info}");
    assert_eq!(info["ledger"]["closes"], true, "{info}");
    again();
    dies(c"sentinel", libc::SIGUSR1);
    wait_until("everything to be judged", || firings(recorder, "sentinel") > 0);
    assert_eq!(firings(recorder, rule), 1);
    let of_rule = |file: &PathBuf| recorder.info(file)["trigger"]["name"] == rule;
    let files: Vec<PathBuf> = recorder.files().into_iter().filter(of_rule).collect();
    assert_eq!(files, std::slice::from_ref(&file), "exactly one");
    assert_in_time(recorder, &file, &info);
    info["trigger"].clone()
}

/// The snapshot was frozen at most a second after what it was taken for. It is there,
/// and what followed until the freeze.
#[track_caller]
fn assert_in_time(recorder: &RecorderProcess, file: &Path, info: &Value) {
    let trigger_text = recorder.replay_text(file, &["--since", "t", "--until", "t+1s"]);
    assert!(trigger_text.lines().count() > 1, "the event itself is in it: {info}");
    let later = recorder.replay(file, &["--since", "t+1s"]);
    let later: Vec<&Value> = later.iter().filter(|event| event["unfinished"] != true).collect();
    if std::env::var_os("RECORDER_VM").is_none() {
        assert!(later.is_empty(), "frozen more than a second later: {:?}", later.last());
    }
}

#[test]
fn a_process_that_dies_by_a_signal_takes_one_snapshot() {
    let recorder = start(
        "[[rule]]
        name = 'crash'
        on = 'signal'
        command = 'crash-*'
        labels = { team = 'web' }",
    );
    dies(c"other-test", libc::SIGSEGV);
    dies(c"crash-test", libc::SIGTERM);
    let pid = dies(c"crash-test", libc::SIGSEGV);
    let trigger = assert_fires_once(&recorder, "crash", || dies(c"crash-test", libc::SIGABRT));
    // Whichever of its threads ended first.
    let reason = text(&trigger["reason"]);
    assert!(
        reason.starts_with(&format!("crash-test[{pid}"))
            && reason.ends_with("] was killed by SIGSEGV"),
        "{reason}"
    );
    let labels = json!({
        "team": "web", "command": "crash-test", "pid": pid.to_string(), "signal": "SIGSEGV"
    });
    assert_eq!(trigger["labels"], labels);
    assert_eq!(trigger["name"], "crash");
}

#[test]
fn a_kill_for_want_of_memory_takes_one_snapshot() {
    const LIMIT_BYTES: usize = 32 << 20;
    let group = match MemoryGroup::new(LIMIT_BYTES as u64) {
        Ok(group) => group,
        Err(why) => return skip(&why),
    };
    let recorder = start(
        "[[rule]]
        name = 'oom'
        on = 'oom_kill'
        command = 'hungry'",
    );
    let eat = || {
        let mut child = Child::fork(|| {
            rename_thread(c"hungry");
            if group.enter() {
                take_memory(2 * LIMIT_BYTES);
            }
            3
        });
        assert_eq!(child.wait(), Ended::Signal(libc::SIGKILL));
        child.pid()
    };
    let pid = eat();
    let trigger = assert_fires_once(&recorder, "oom", eat);
    let reason = format!("hungry[{pid}] was killed for want of memory, hungry[{pid}] asked for it");
    assert_eq!(trigger["reason"], reason);
}

/// A child of this name that sleeps for a fifth of a second, and how long it takes is
/// what the test is about.
fn sleeps(name: &'static CStr) -> i32 {
    let child = Child::fork(|| {
        rename_thread(name);
        let time = libc::timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        // SAFETY: a time that is there.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &time, std::ptr::null_mut()) }
    });
    child.finish()
}

#[test]
fn a_slow_call_takes_one_snapshot() {
    let recorder = start(
        "[[rule]]
        name = 'slow'
        on = 'slow_call'
        command = 'slow-test'
        longer_than = '100ms'

        [[rule]]
        name = 'sleep'
        on = 'slow_call'
        command = 'slow-test'
        calls = ['clock_nanosleep']
        longer_than = '100ms'",
    );
    sleeps(c"other-test");
    let pid = sleeps(c"slow-test");
    let trigger = assert_fires_once(&recorder, "sleep", || sleeps(c"slow-test"));
    let reason = text(&trigger["reason"]);
    assert!(
        reason.starts_with(&format!("clock_nanosleep of slow-test[{pid}] took 2"))
            && reason.ends_with("ms, longer than 100.0 ms"),
        "{reason}"
    );
    assert_eq!(firings(&recorder, "slow"), 0, "a sleep waits by nature");

    // An open that waits for the other end of its pipe does not.
    let pipe = recorder.directory().join("pipe");
    let made = run(Command::new("mkfifo").arg(&pipe));
    assert_eq!(made.code, Some(0), "{made:?}");
    let opener = pipe.clone();
    let child = Child::fork(move || {
        rename_thread(c"slow-test");
        i32::from(fs::File::open(opener).is_err())
    });
    child.wait_in_call(libc::SYS_openat);
    // The time the call is to take.
    std::thread::sleep(Duration::from_millis(200));
    drop(fs::File::create(&pipe).expect("the other end"));
    let pid = child.finish();
    let (_, info) = snapshot_of(&recorder, "slow");
    let reason = text(&info["trigger"]["reason"]);
    assert!(reason.starts_with(&format!("openat of slow-test[{pid}] took ")), "{reason}");
}

/// This many connections that nobody takes, as fast as they come.
fn refused(name: &'static CStr, count: u32) -> i32 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let child = Child::fork(|| {
        rename_thread(name);
        let all = (0..count).all(|_| TcpStream::connect(("127.0.0.1", port)).is_err());
        i32::from(!all)
    });
    child.finish()
}

#[test]
fn a_rate_of_failures_takes_one_snapshot() {
    let recorder = start(
        "[[rule]]
        name = 'refused'
        on = 'failures'
        command = 'fail-*'
        calls = ['connect']
        errors = ['ECONNREFUSED']
        per_second = 40",
    );
    refused(c"other-test", 60);
    refused(c"fail-few", 10);
    let pid = refused(c"fail-many", 60);
    let trigger = assert_fires_once(&recorder, "refused", || refused(c"fail-many", 60));
    let reason = text(&trigger["reason"]);
    assert!(
        reason.starts_with("40 calls failed within ")
            && reason.ends_with(&format!("connect of fail-many[{pid}] with ECONNREFUSED")),
        "{reason}"
    );
    assert_eq!(trigger["labels"]["error"], "ECONNREFUSED");
}

#[test]
fn a_rate_of_resets_takes_one_snapshot() {
    let recorder = start(
        "[[rule]]
        name = 'resets'
        on = 'tcp_resets'
        per_second = 40",
    );
    refused(c"reset-test", 60);
    let trigger = assert_fires_once(&recorder, "resets", || refused(c"reset-test", 60));
    assert!(text(&trigger["reason"]).starts_with("40 TCP resets within "), "{trigger}");
}

#[test]
fn a_rate_of_retransmissions_takes_one_snapshot() {
    if !has_program("ip") {
        return skip("there is no ip(8) to make a network with");
    }
    let recorder = start(
        "[[rule]]
        name = 'again'
        on = 'tcp_retransmits'
        per_second = 6",
    );
    let mut child = Child::fork(|| {
        // SAFETY: only the child leaves the network.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0
            || run(Command::new("sh").args(["-c", SILENT_PEER])).code != Some(0)
        {
            return 3;
        }
        let dial =
            || TcpStream::connect_timeout(&([192, 0, 2, 2], 9).into(), Duration::from_secs(20));
        // All of them at once, so all are sent again at once.
        let dials: Vec<_> = (0..8).map(|_| std::thread::spawn(dial)).collect();
        dials.into_iter().map(|dial| i32::from(matches!(dial.join(), Ok(Ok(_))))).sum()
    });
    wait_until("the rule to fire, or the child to give up", || {
        firings(&recorder, "again") > 0 || child.ended() == Some(Ended::Code(3))
    });
    if child.ended() == Some(Ended::Code(3)) {
        return skip("a network of its own cannot be made here");
    }
    // The second time follows by itself, two seconds after the first.
    let trigger = assert_fires_once(&recorder, "again", || {});
    assert!(text(&trigger["reason"]).starts_with("6 TCP retransmissions within "), "{trigger}");
}

#[test]
fn pressure_takes_one_snapshot() {
    if fs::read("/proc/pressure/cpu").is_err() {
        return skip("this kernel has no pressure to read, or not without psi=1");
    }
    let recorder = start(
        "[[rule]]
        name = 'busy'
        on = 'pressure'
        resource = 'cpu'
        percent = 20
        over = '500ms'",
    );
    let stop = Pipe::new();
    let cpus = available_parallelism().expect("the number of CPUs").get();
    let spin = |_| {
        Child::fork(|| {
            let mut poll = libc::pollfd { fd: stop.reader, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor that is there.
            while unsafe { libc::poll(&raw mut poll, 1, 0) } == 0 {
                for place in 0..100_000 {
                    std::hint::black_box(place);
                }
            }
            0
        })
    };
    let busy: Vec<Child> = (0..2 * cpus).map(spin).collect();
    let (_, info) = snapshot_of(&recorder, "busy");
    // It goes on being so.
    let trigger = assert_fires_once(&recorder, "busy", || {});
    stop.tell();
    for child in busy {
        child.finish();
    }
    let reason = text(&trigger["reason"]);
    assert!(reason.starts_with("cpu pressure (some) was "), "{reason}");
    assert_eq!(info["trigger"]["labels"], json!({"resource": "cpu"}));
}

/// Rules that come with SIGHUP know the threads that were there before them.
#[test]
fn rules_that_are_read_again_know_who_is_there() {
    let recorder = RecorderProcess::start();
    let (ready, go) = (Pipe::new(), Pipe::new());
    let child = Child::fork(|| {
        rename_thread(c"was-here");
        ready.tell();
        go.wait();
        // SAFETY: calls without memory; the child ends by the second.
        unsafe {
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        }
        i32::from(fs::metadata("/nonexistent").is_ok())
    });
    ready.wait();
    let config = recorder.directory().join("recorder.toml");
    let rule = "[[rule]]
        name = 'missing'
        on = 'failures'
        command = 'was-here'
        errors = ['ENOENT']
        per_second = 1";
    fs::write(&config, format!("{FRAME}\n{rule}\n")).expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the names of all threads", || number(&recorder.status()["rules"]["names"]) > 0);
    go.tell();
    let pid = child.finish();
    let trigger = assert_fires_once(&recorder, "missing", || {});
    assert!(text(&trigger["reason"]).contains(&format!("was-here[{pid}]")), "{trigger}");

    // A typo leaves the rules as they are.
    fs::write(&config, "[[rule]]\nname = 'x'\non = 'nothing'\n").expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the complaint", || recorder.log().contains("the old configuration stays"));
    assert_eq!(firings(&recorder, "missing"), 1);
}

/// One line, with what is wrong and where.
#[test]
fn a_rule_that_is_none_is_refused_at_the_start() {
    for (rule, words) in [
        ("name = 'a'\non = 'signal'\ncomand = 'x'", &["comand", "line 4"][..]),
        ("name = 'a'\non = 'slow_call'", &["rule `a`", "longer_than"]),
        ("name = 'a'\non = 'failures'\nper_second = 0", &["rule `a`", "per_second", "10000"]),
    ] {
        let directory = recorder_tests::TestDirectory::new();
        let config = format!("[[rule]]\n{rule}\n");
        let start = recorder_tests::Start { config: &config, ..Default::default() };
        let refused = RecorderProcess::refused(&directory, &start);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        for word in words {
            assert!(refused.stderr.contains(word), "{word:?} is missing: {}", refused.stderr);
        }
    }
}
