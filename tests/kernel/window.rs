//! The window is bounded in time.

use std::time::{Duration, Instant};

use recorder_tests::{Child, Counts, Pipe, RecorderProcess, kind, ns, number, one};

/// A segment spans a second, and the one that is open as much again.
const SEGMENTS: Duration = Duration::from_secs(2);

#[test]
fn nothing_older_than_the_window_is_kept() {
    let window = Duration::from_secs(if Counts::full() { 10 } else { 5 });
    let asked = format!("{}s", window.as_secs());
    let recorder = RecorderProcess::start_with(&["--window", &asked]);
    let pipe = Pipe::new();
    let waiting = Child::fork(|| {
        let mut byte = 0u8;
        // SAFETY: room for one byte.
        unsafe { libc::read(pipe.reader, (&raw mut byte).cast(), 1) as i32 }
    });
    waiting.wait_in_call(libc::SYS_read);
    let load = Child::fork(|| {
        loop {
            // SAFETY: a string with its NUL; it is not there.
            unsafe { libc::access(c"/nonexistent/load".as_ptr(), libc::F_OK) };
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    // The scenario is a time: load for three windows.
    let began = Instant::now();
    while began.elapsed() < 3 * window {
        std::thread::sleep(Duration::from_millis(100));
    }
    let file = recorder.dump(&[]);
    drop(load);
    let info = recorder.info(&file);
    let events = recorder.replay(&file, &[]);
    let wait = one(&events, "call that waits", |event| {
        event["pid"] == waiting.pid() && event["unfinished"] == true
    });
    let moment_ns = ns(&wait["ts_ns"]);
    assert!(number(&wait["dur_ns"]) > window.as_nanos() as u64, "older than the window: {wait}");

    let oldest_ns = moment_ns - (window + SEGMENTS).as_nanos() as u64;
    let old = events.iter().filter(|event| ns(&event["ts_ns"]) < oldest_ns).count();
    let first_ns = events.iter().map(|event| ns(&event["ts_ns"])).min().expect("events");
    let span_s = (moment_ns - first_ns) as f64 / 1e9;
    println!("{} events, the first {span_s:.2} s before the end", events.len());
    assert_eq!(old, 0, "events older than the window");
    assert_eq!(kind(&events, "lost").len(), 0, "the load is small");
    let said = &info["window"];
    let said_span_s = said["span_s"].as_f64().expect("a span");
    assert!((said_span_s - span_s).abs() < 0.1, "{said} and {span_s}");
    assert!(span_s > window.as_secs_f64() - 0.5, "the whole window is there: {span_s}");
    assert_eq!(said["asked_s"], window.as_secs_f64());
    let ledger = &info["ledger"];
    assert!(number(&ledger["evicted"]) > 0, "{ledger}");
    assert_eq!(ledger["closes"], true, "{ledger}");
}
