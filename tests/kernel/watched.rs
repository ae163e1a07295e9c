//! What others watch the recorder by.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use recorder_tests::{RecorderProcess, number, skip, unpacked, wait_until};
use serde_json::{Value, json};

/// The value of a line of the metrics.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

#[test]
fn metrics_say_what_status_says_and_promtool_accepts_them() {
    let recorder = RecorderProcess::start();
    let file = recorder.dump(&[]);
    let server = recorder.socket();
    let answer = server.post("/v1/trigger/generic", &[], br#"{"reason":"r"}"#);
    assert_eq!(answer.status, 202, "{answer:?}");
    wait_until("the second snapshot", || recorder.files().len() == 2);
    wait_until("it to be counted", || {
        let text = server.get("/metrics").text();
        metric(&text, "recorder_snapshots_total{result=\"ok\",source=\"generic\"}") == Some(1.0)
    });
    let text = server.get("/metrics").text();
    let of = |name: &str| {
        let found = metric(&text, name);
        assert!(found.is_some(), "{name} is missing:\n{text}");
        found.unwrap_or_default()
    };
    assert_eq!(of("recorder_snapshots_total{result=\"ok\",source=\"manual\"}"), 1.0);
    assert_eq!(of("recorder_triggers_total{outcome=\"accepted\",source=\"generic\"}"), 1.0);
    assert_eq!(of("recorder_snapshot_duration_seconds_count"), 2.0);
    assert_eq!(of("recorder_snapshot_freeze_seconds_count"), 2.0);
    assert_eq!(of("recorder_recording"), 1.0);
    assert_eq!(of("recorder_ledger_closes"), 1.0);
    assert_eq!(of("recorder_snapshots_stored"), 2.0);
    assert!(of("recorder_last_snapshot_bytes") > 0.0);
    let seen = number(&recorder.info(&file)["ledger"]["seen"]) as f64;
    let status = recorder.status();
    let later = number(&status["ledger"]["seen"]) as f64;
    assert!((seen..=later).contains(&of("recorder_events_total")), "{text}");
    assert_eq!(of("recorder_memory_limit_bytes"), number(&status["memory"]["limit"]) as f64);
    let canary_at = of("recorder_canary_timestamp_seconds");
    assert!(canary_at > of("process_start_time_seconds") - 1.0, "{text}");
    assert!(of("process_resident_memory_bytes") > 1e6 && of("process_open_fds") > 5.0);
    for line in text.lines() {
        assert!(!line.contains("/tmp"), "no path is a label: {line}");
    }

    let Some(promtool) = unpacked("prometheus").map(|home| home.join("usr/bin/promtool")) else {
        skip("there is no promtool: `cargo xtask setup --tests` unpacks it");
        return;
    };
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = check.stderr(Stdio::piped()).spawn().expect("promtool");
    let mut input = check.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("the metrics");
    drop(input);
    let said = check.wait_with_output().expect("its end");
    assert!(said.status.success() && said.stdout.is_empty(), "{said:?}");
}

#[test]
fn health_and_readiness_are_asked_for_by_their_usual_names() {
    let recorder = RecorderProcess::start();
    let server = recorder.socket();
    for path in ["/healthz", "/readyz", "/-/healthy", "/-/ready"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    // An event of our own goes through the whole path again and again.
    let age = || recorder.status()["canary_age_ms"].as_u64();
    wait_until("the event of the start to be a second old", || age() > Some(1_000));
    wait_until("a younger one", || age() < Some(1_000));
}

#[test]
fn the_log_is_for_people_or_for_programs() {
    let recorder = RecorderProcess::start_with(&["--log", "json"]);
    recorder.dump(&["--reason", "line one\nline two"]);
    wait_until("a line of the log", || recorder.log().contains("snapshot "));
    for line in recorder.log().lines() {
        let entry: Value = serde_json::from_str(line).expect("one object a line");
        assert!(entry["timestamp"].is_string() && entry["message"].is_string(), "{entry}");
        assert_eq!(entry["level"], json!("INFO"), "{entry}");
    }
}
