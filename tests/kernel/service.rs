//! The recorder as it is shipped: the Debian package is installed on a machine with
//! systemd, and everything is asked of the units that are in it.
//!
//! The kernel is this one, so the events are those of this host; processes of the
//! machine have the numbers the host gives them.

mod machine;

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use machine::Machine;
use recorder_tests::{Outcome, binary, number, run, skip, text, wait_for, wait_until};
use serde_json::Value;

/// A user whom nobody knows.
const STRANGER: u32 = 4711;

/// CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: linux/capability.h.
const CAPABILITIES: u64 = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2;

/// Raise limits: linux/capability.h.
const SYS_RESOURCE: u64 = 1 << 24;

/// The package: `RECORDER_TEST_DEB`, or the one `cargo xtask dist --debug` left.
fn package() -> PathBuf {
    if let Some(path) = std::env::var_os("RECORDER_TEST_DEB") {
        return PathBuf::from(path);
    }
    let folder = binary().parent().expect("a folder").join("../dist/debug");
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let deb =
        entries.map(|entry| entry.path()).find(|path| path.extension() == Some("deb".as_ref()));
    assert!(deb.is_some(), "no package in {}: run `cargo xtask dist --debug`", folder.display());
    deb.expect("it is there")
}

/// A machine with the package installed.
fn installed() -> Option<Machine> {
    if let Some(why) = Machine::is_impossible() {
        skip(&why);
        return None;
    }
    let machine = Machine::boot(&package());
    let outcome = machine.run(&["dpkg", "--install", "/recorder.deb"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(machine.said(&["dpkg", "--verify", "recorder"]), "", "as it was packed");
    Some(machine)
}

/// A machine with the service running.
fn recording() -> Option<Machine> {
    let machine = installed()?;
    machine.said(&["systemctl", "enable", "--now", "recorder.service"]);
    assert_eq!(machine.property("recorder.service", "ActiveState"), "active");
    Some(machine)
}

fn status(machine: &Machine) -> Value {
    let said = machine.said(&["recorder", "status", "--format", "json"]);
    serde_json::from_str(&said).expect("JSON")
}

fn info(machine: &Machine, file: &str) -> Value {
    let said = machine.said(&["recorder", "info", "--format", "json", file]);
    serde_json::from_str(&said).expect("JSON")
}

/// The names of finished snapshots.
fn snapshots(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(machine.path("/var/lib/recorder/snapshots")).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".kfr")).collect()
}

/// A line of `/proc/PID/status`.
fn fact(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let lines = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    assert!(lines.is_some(), "no {name} in:\n{status}");
    lines.unwrap_or_default().trim().to_string()
}

fn capabilities(pid: i32, set: &str) -> u64 {
    u64::from_str_radix(&fact(pid, set), 16).expect("a set in hexadecimal")
}

/// Owner, group and mode, by name.
fn rights(machine: &Machine, path: &str) -> String {
    machine.said(&["stat", "-c", "%U:%G %a", path])
}

#[test]
fn the_package_leaves_nothing_running_and_the_service_records_with_few_rights() {
    let Some(machine) = installed() else { return };
    for unit in ["recorder.service", "recorder.socket", "recorder-tcp.socket"] {
        let enabled = machine.run(&["systemctl", "is-enabled", unit]);
        assert_eq!(enabled.text().trim(), "disabled", "{unit}");
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    assert_eq!(rights(&machine, "/var/lib/recorder"), "recorder:recorder 750");
    assert_eq!(rights(&machine, "/etc/recorder/recorder.toml"), "root:root 644");

    machine.said(&["systemctl", "enable", "--now", "recorder.service"]);
    let pid = machine.main_process("recorder.service");
    let user = machine.said(&["id", "-u", "recorder"]);
    let four = [user.as_str(); 4].join("\t");
    assert_eq!(fact(pid, "Uid"), four, "real, effective, saved and of the file system");
    assert_ne!(user, "0");
    capabilities_are_given_up(&machine, pid);
    assert_eq!(fact(pid, "NoNewPrivs"), "1");
    assert_eq!(fact(pid, "Seccomp"), "2", "filters");
    in_a_sandbox(&machine, pid);
    with_its_limits(&machine, pid);

    let score = machine.run(&[
        "systemd-analyze",
        "security",
        "--no-pager",
        "--threshold=25",
        "recorder.service",
    ]);
    assert_eq!(score.code, Some(0), "{}", score.text());
    println!("{}", score.text().lines().last().unwrap_or_default());

    assert_eq!(rights(&machine, "/run/recorder/control.sock"), "root:recorder 660");
    assert_eq!(rights(&machine, "/run/recorder"), "root:root 755");
    assert!(!machine.path("/run/recorder/control.sock.lock").exists(), "the socket is systemd's");
    who_may_ask(&machine);
    ends_well_and_goes_away(&machine);
}

/// It started with four. Once it records, its main thread and those that answer requests
/// have none, and the others what `status` says of them.
fn capabilities_are_given_up(machine: &Machine, pid: i32) {
    assert_eq!(capabilities(pid, "CapBnd") & !CAPABILITIES, 0, "none beyond the four");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(capabilities(pid, set), 0, "{set} of the main thread");
    }
    let confinement = status(machine)["confinement"].clone();
    if confinement["missing"].as_array().is_some_and(|missing| !missing.is_empty()) {
        skip(&format!("this kernel does not take everything: {}", confinement["missing"]));
    }
    assert_eq!(confinement["seccomp"], true, "{confinement}");
    assert_eq!(confinement["executes"], false, "no hook is configured: {confinement}");
    let writable = ["/var/lib/recorder/snapshots", "/var/lib/recorder/spool"];
    assert_eq!(confinement["writable"], serde_json::json!(writable));
    wait_until("the spool to be written", || {
        status(machine)["spool"]["written_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    assert_eq!(status(machine)["spool"]["error"], Value::Null);
    let kept = confinement["capabilities"].as_object().expect("capabilities by thread");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let mut seen = 0;
    for task in tasks {
        let thread: i32 = task.file_name().to_string_lossy().parse().expect("a number");
        // One that has ended meanwhile has none.
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let said = kept
            .get(name.trim())
            .and_then(Value::as_array)
            .map_or(0, |names| names.iter().fold(0, |set, name| set | capability(text(name))));
        let has = capabilities(thread, "CapPrm") | capabilities(thread, "CapEff");
        assert_eq!(has, said, "thread {} has {has:x}, status says {kept:?}", name.trim());
        seen += 1;
    }
    assert!(seen > kept.len(), "{seen} threads");
}

/// The bit of a capability: linux/capability.h.
fn capability(name: &str) -> u64 {
    match name {
        "CAP_DAC_READ_SEARCH" => 1 << 2,
        "CAP_SYS_PTRACE" => 1 << 19,
        "CAP_PERFMON" => 1 << 38,
        "CAP_BPF" => 1 << 39,
        _ => 1 << 63,
    }
}

/// Read-only but for its state, no network, no devices.
fn in_a_sandbox(machine: &Machine, pid: i32) {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("its mounts");
    let options = |path: &str| {
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let found = fields.find(|fields| fields.get(4) == Some(&path));
        assert!(found.is_some(), "{path} is no mount in:\n{mounts}");
        found.map(|fields| fields[5].to_string()).unwrap_or_default()
    };
    for path in ["/", "/usr", "/dev", "/sys", "/proc/sys", "/sys/fs/cgroup"] {
        assert!(options(path).starts_with("ro"), "{path}: {}", options(path));
    }
    assert!(options("/var/lib/recorder").starts_with("rw"));
    let space = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect(name);
    let init = machine.init();
    for name in ["net", "mnt"] {
        assert_ne!(space(pid, name), space(init, name), "its own {name}");
    }
    for name in ["pid", "user", "uts", "cgroup"] {
        assert_eq!(space(pid, name), space(init, name), "the {name} of what it records");
    }
    let network = fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("its network");
    let devices: Vec<&str> =
        network.lines().skip(2).filter_map(|line| line.split(':').next()).collect();
    assert_eq!(devices.iter().map(|name| name.trim()).collect::<Vec<_>>(), ["lo"]);
}

fn with_its_limits(machine: &Machine, pid: i32) {
    assert_eq!(fact(pid, "Umask"), "0027");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    assert_eq!(machine.property("recorder.service", "OOMScoreAdjust"), "-500");
    if capabilities(machine.init(), "CapEff") & SYS_RESOURCE == 0 {
        skip("this host's root may not lower the badness of a process: it is set and not in force");
    } else {
        let adjusted = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a number");
        assert_eq!(adjusted.trim(), "-500");
    }
    assert_eq!(machine.property("recorder.service", "MemoryMax"), (768 << 20).to_string());
    let group = machine.property("recorder.service", "ControlGroup");
    match fs::read_to_string(machine.path(&format!("/sys/fs/cgroup{group}/memory.max"))) {
        Ok(most) => assert_eq!(most.trim(), (768 << 20).to_string()),
        Err(_) => skip(
            "no memory controller in the second version of control groups here: MemoryMax= is set and not enforced",
        ),
    }
}

/// Members of the group may, others may not; the answer is a snapshot.
fn who_may_ask(machine: &Machine) {
    let group: u32 = machine.said(&["id", "-g", "recorder"]).parse().expect("a number");
    let dump = ["recorder", "dump", "--reason", "the test asks"];
    let refused = machine.run_as(STRANGER, STRANGER, &dump);
    refused.failed_with(77, &["/run/recorder/control.sock"]);
    let taken: Outcome = machine.run_as(STRANGER, group, &dump).succeeded();
    let file = taken.text().trim_end();
    assert_eq!(rights(machine, file), "recorder:recorder 640");
    assert_eq!(rights(machine, "/var/lib/recorder/snapshots"), "recorder:recorder 750");
    machine.said(&["recorder", "verify", file]);
    let info = info(machine, file);
    assert_eq!(info["trigger"]["reason"], "the test asks");
    assert_eq!(info["host"], "machine");
    assert_eq!(info["ledger"]["closes"], true, "{}", info["ledger"]);
    assert!(number(&info["ledger"]["seen"]) > 1000, "{}", info["ledger"]);
    assert_eq!(info["missing"].as_array().map_or(0, Vec::len), 0, "{}", info["missing"]);
    // A program of the machine, whose rights have nothing to do with the recorder's.
    machine.said(&["cat", "/etc/hostname"]);
    let file = machine.said(&["recorder", "dump"]);
    let replayed =
        machine.said(&["recorder", "replay", &file, "--comm", "cat", "-e", "trace=openat"]);
    assert!(replayed.contains("\"/etc/hostname\""), "strings are read: {replayed}");
    let processes = machine.said(&["recorder", "replay", &file, "-e", "trace=%process"]);
    assert!(processes.contains("[\"cat\", \"/etc/hostname\"]"), "{processes}");
    let checked = machine.run_as(STRANGER, group, &["recorder", "check"]);
    assert!(checked.text().starts_with("RECORDER OK - "), "{checked:?}");
}

fn ends_well_and_goes_away(machine: &Machine) {
    fs::write(machine.path("/etc/recorder/recorder.toml"), "window = \"42s\"\n").expect("settings");
    machine.said(&["systemctl", "reload", "recorder.service"]);
    wait_until("the new window", || status(machine)["window"]["asked_s"] == 42.0);
    fs::write(machine.path("/etc/recorder/recorder.toml"), "widow = \"1m\"\n").expect("settings");
    machine.said(&["systemctl", "reload", "recorder.service"]);
    wait_until("the typo to be told", || machine.journal().contains("widow"));
    assert_eq!(status(machine)["window"]["asked_s"], 42.0, "the old settings stay");

    // Settings that cannot be used: no second try, which would end the same.
    machine.run(&["systemctl", "restart", "recorder.service"]);
    wait_until("it to give up", || machine.property("recorder.service", "ActiveState") == "failed");
    assert_eq!(machine.property("recorder.service", "ExecMainStatus"), "2");
    assert_eq!(machine.property("recorder.service", "NRestarts"), "0");
    fs::write(machine.path("/etc/recorder/recorder.toml"), "").expect("settings");
    machine.said(&["systemctl", "reset-failed", "recorder.service"]);

    // The socket is there; asking starts it.
    machine.said(&["systemctl", "start", "recorder.socket"]);
    assert_eq!(status(machine)["recording"], true);
    machine.said(&["systemctl", "stop", "recorder.socket", "recorder.service"]);
    assert_eq!(machine.property("recorder.service", "Result"), "success");
    assert_eq!(machine.property("recorder.service", "ExecMainStatus"), "0");
    assert!(!machine.path("/run/recorder/control.sock").exists());
    machine.run(&["recorder", "status"]).failed_with(69, &["/run/recorder/control.sock"]);

    machine.said(&["systemctl", "start", "recorder.service"]);
    machine.said(&["dpkg", "--remove", "recorder"]);
    assert_eq!(machine.property("recorder.service", "LoadState"), "not-found");
    assert!(machine.path("/etc/recorder/recorder.toml").exists(), "settings and snapshots stay");
    assert!(!snapshots(machine).is_empty());
    machine.said(&["dpkg", "--purge", "recorder"]);
    assert!(!machine.path("/etc/recorder").exists() && !machine.path("/var/lib/recorder").exists());
}

/// Over TCP: the socket is systemd's, and the recorder itself has no network.
#[test]
fn it_is_watched_over_a_socket_of_systemd() {
    let Some(machine) = installed() else { return };
    if !recorder_tests::has_program("curl") {
        skip("there is no curl");
        return;
    }
    machine.said(&["systemctl", "enable", "--now", "recorder-tcp.socket", "recorder.service"]);
    let get = |path: &str| {
        let url = format!("http://127.0.0.1:9774{path}");
        machine.said(&["curl", "--silent", "--show-error", "--fail", "--max-time", "20", &url])
    };
    assert_eq!(get("/readyz"), "recording");
    assert_eq!(get("/healthz"), "ok");
    let body = r#"{"reason":"over TCP","labels":{"team":"test"}}"#;
    let posted = machine.said(&[
        "curl",
        "--silent",
        "--max-time",
        "20",
        "--header",
        "content-type: application/json",
        "--data",
        body,
        "http://127.0.0.1:9774/v1/trigger/generic",
    ]);
    let answer: Value = serde_json::from_str(&posted).expect("JSON");
    let file = wait_for("the snapshot that was promised", || {
        let path = text(&answer["path"]);
        machine.path(path).exists().then(|| path.to_string())
    });
    assert_eq!(info(&machine, &file)["trigger"]["labels"]["team"], "test");
    let metrics = wait_for("the snapshot to be counted", || {
        let metrics = get("/metrics");
        metrics.contains("\nrecorder_snapshots_total{").then_some(metrics)
    });
    assert!(metrics.contains("\nrecorder_recording 1"), "{metrics}");
    every_metric_that_is_used_exists(&machine, &metrics);

    // All addresses: it refuses without a token, and takes one.
    let over = machine.path("/etc/systemd/system/recorder-tcp.socket.d");
    fs::create_dir_all(&over).expect("a folder");
    let all = "[Socket]\nListenStream=\nListenStream=9774\n";
    fs::write(over.join("all.conf"), all).expect("a file");
    machine.said(&["systemctl", "daemon-reload"]);
    machine.said(&["systemctl", "stop", "recorder.service", "recorder.socket"]);
    machine.said(&["systemctl", "restart", "recorder-tcp.socket"]);
    let refused = machine.run(&["systemctl", "start", "recorder.service"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(machine.journal().contains("token_file"), "{}", machine.journal());
    let group: u32 = machine.said(&["id", "-g", "recorder"]).parse().expect("a number");
    machine.said(&[
        "install",
        "-m",
        "0640",
        "-g",
        &group.to_string(),
        "/dev/null",
        "/etc/recorder/token",
    ]);
    fs::write(machine.path("/etc/recorder/token"), "a-long-word\n").expect("a token");
    let settings = "[access]\ntoken_file = \"/etc/recorder/token\"\n";
    fs::write(machine.path("/etc/recorder/recorder.toml"), settings).expect("settings");
    machine.said(&["systemctl", "reset-failed"]);
    machine.said(&["systemctl", "start", "recorder-tcp.socket", "recorder.service"]);
    let ask = |header: &str| {
        let url = "http://127.0.0.1:9774/v1/status";
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        machine.said(
            &[&["curl", "--silent", "--max-time", "20", "--header", header], &code[..], &[url]]
                .concat(),
        )
    };
    assert_eq!(ask("authorization: Bearer a-long-word"), "200");
    assert_eq!(ask("authorization: Bearer another"), "401");
}

/// Alert rules and dashboard speak of metrics there are.
fn every_metric_that_is_used_exists(machine: &Machine, metrics: &str) {
    let rules =
        fs::read_to_string(machine.path("/usr/share/recorder/prometheus/recorder.rules.yml"));
    let board = fs::read_to_string(machine.path("/usr/share/recorder/grafana/recorder.json"));
    let used = rules.expect("rules") + &board.expect("a dashboard");
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names: Vec<&str> = used
        .split(|c| !word(c))
        .filter(|name| name.starts_with("recorder_") || name.starts_with("process_"))
        .map(|name| name.trim_end_matches("_bucket"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 20, "{names:?}");
    // These appear with the first hook and the first rule that fires.
    let later = ["recorder_hook_runs_total", "recorder_rule_firings_total"];
    for name in names.iter().filter(|name| !later.contains(name)) {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "no metric {name}:\n{metrics}");
    }
}

#[test]
fn a_unit_that_fails_takes_one_snapshot() {
    let Some(machine) = recording() else { return };
    let all = machine.path("/etc/systemd/system/service.d");
    fs::create_dir_all(&all).expect("a folder");
    let on_failure = "[Unit]\nOnFailure=recorder-trigger@%n.service\n";
    fs::write(all.join("recorder-trigger.conf"), on_failure).expect("a file");
    let broken = "[Service]\nType=oneshot\nExecStart=/bin/false\n";
    fs::write(machine.path("/etc/systemd/system/broken.service"), broken).expect("a unit");
    machine.said(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.run(&["systemctl", "start", "broken.service"]).code, Some(1));
    let name = wait_for("a snapshot of the failure", || snapshots(&machine).pop());
    assert!(name.contains("-systemd-"), "{name}");
    let info = info(&machine, &format!("/var/lib/recorder/snapshots/{name}"));
    let trigger = &info["trigger"];
    assert_eq!(trigger["source"], "systemd");
    assert_eq!(trigger["reason"], "broken.service failed");
    assert_eq!(trigger["labels"]["unit"], "broken.service");
    assert_eq!(trigger["labels"]["result"], "exit-code");
    assert_eq!(trigger["labels"]["exit_status"], "1");

    // Its own failure triggers nothing, or it would go on for ever: nobody answers.
    machine.said(&["systemctl", "stop", "recorder.socket", "recorder.service"]);
    let loaded = machine.property("recorder-trigger@x.service", "OnFailure");
    assert_eq!(loaded, "", "{loaded}");
    assert_eq!(machine.property("recorder.service", "OnFailure"), "");
    assert_eq!(
        machine.property("broken.service", "OnFailure"),
        "recorder-trigger@broken.service.service"
    );
    machine.run(&["systemctl", "start", "recorder-trigger@nobody.service"]);
    let units = machine.said(&["systemctl", "list-units", "--all", "--plain", "--no-legend"]);
    let named: Vec<&str> =
        units.lines().filter(|line| line.contains("recorder-trigger@recorder-trigger")).collect();
    assert_eq!(named, [""; 0]);
}

#[test]
fn one_that_hangs_or_is_killed_is_started_again() {
    let Some(machine) = installed() else { return };
    // Half a minute is too long for a test.
    let over = machine.path("/etc/systemd/system/recorder.service.d");
    fs::create_dir_all(&over).expect("a folder");
    fs::write(
        over.join("soon.conf"),
        "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nRestartSec=100ms\n",
    )
    .expect("a file");
    machine.said(&["systemctl", "daemon-reload"]);
    machine.said(&["systemctl", "enable", "--now", "recorder.service"]);
    let restarts = || machine.property("recorder.service", "NRestarts");
    let first = machine.main_process("recorder.service");
    // SAFETY: the recorder of the machine, which systemd has not reaped.
    assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
    wait_until("systemd to see it", || restarts() == "1");
    // The socket stays: whoever asks meanwhile waits, and is answered.
    wait_until("it to record again", || status(&machine)["recording"] == true);
    let is_active = || machine.property("recorder.service", "ActiveState") == "active";
    wait_until("it to say that it is ready", is_active);

    // A process that is stopped says nothing to the watchdog, like one that hangs.
    let second = machine.main_process("recorder.service");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(second, libc::SIGSTOP) }, 0);
    wait_until("the watchdog to bite", || restarts() == "2");
    assert!(machine.journal().contains("Watchdog timeout"), "{}", machine.journal());
    wait_until("it to record again", is_active);
    // As long as it is well, it does not.
    let third = machine.main_process("recorder.service");
    let mut beats = 0;
    let mut last = machine.property("recorder.service", "WatchdogTimestampMonotonic");
    wait_until("five words to the watchdog", || {
        let now = machine.property("recorder.service", "WatchdogTimestampMonotonic");
        beats += u32::from(now != last);
        last = now;
        beats == 5
    });
    assert_eq!(machine.main_process("recorder.service"), third);
}

#[test]
fn an_upload_takes_each_snapshot_when_it_is_finished() {
    let Some(machine) = installed() else { return };
    machine.said(&["systemctl", "enable", "--now", "recorder.service", "recorder-upload.path"]);
    // Without a program of one's own nothing is done and nothing fails.
    let first = machine.said(&["recorder", "dump"]);
    wait_until("the upload to be looked at", || {
        machine.property("recorder-upload.service", "ConditionResult") == "no"
            && machine.property("recorder-upload.service", "ConditionTimestampMonotonic") != "0"
    });
    let script =
        "#!/bin/sh\nfor file in \"$1\"/*.kfr; do cp --no-clobber \"$file\" /srv/there/; done\n";
    let upload = machine.path("/etc/recorder/upload");
    fs::write(&upload, script).expect("a program");
    machine.said(&["chmod", "755", "/etc/recorder/upload"]);
    machine.said(&["install", "-d", "-o", "recorder", "/srv/there"]);
    // Its own place is somebody's own to grant.
    let over = machine.path("/etc/systemd/system/recorder-upload.service.d");
    fs::create_dir_all(&over).expect("a folder");
    fs::write(over.join("there.conf"), "[Service]\nReadWritePaths=/srv/there\n").expect("a file");
    machine.said(&["systemctl", "daemon-reload"]);
    let second = machine.said(&["recorder", "dump"]);
    for file in [&first, &second] {
        let name = file.rsplit('/').next().expect("a name");
        let copy = machine.path("/srv/there").join(name);
        let bytes = fs::metadata(machine.path(file)).expect("a snapshot").size();
        wait_until(&format!("the copy of {name}"), || {
            fs::metadata(&copy).is_ok_and(|copy| copy.size() == bytes)
        });
    }
    let verified =
        run(std::process::Command::new(binary()).arg("verify").arg(machine.path(&first)));
    verified.succeeded();
}
