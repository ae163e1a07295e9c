//! Reading a large snapshot back.

use std::{
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use recorder_tests::{
    binary,
    figures::{Figure, Section, target},
};

/// How often everything is read.
const TIMES: usize = 3;

/// Measures filtered replay and the time to the first line.
pub(crate) fn measure(file: &Path, events: u64) -> Section {
    eprintln!("bench: replay");
    // Ours: there are few of its events, so that printing costs nothing.
    let pid = std::process::id().to_string();
    let replays: Vec<Replay> = (0..TIMES).map(|_| filtered(file, &pid)).collect();
    let first = (0..TIMES).map(|_| first_event_ms(file));
    let millions = |ns: u64| events as f64 / 1e6 / (ns as f64 / 1e9);
    let rates = replays.iter().map(|replay| millions(replay.cpu_ns));
    let seconds = replays.iter().map(|replay| replay.seconds);
    let first_filtered = replays.iter().map(|replay| replay.first_line_ms);
    Section {
        figures: vec![
            Figure::new("events", "events in the file", events as f64, "", 0),
            Figure::median("filtered", "by --pid, per core", rates, "M/s", 2)
                .target(target::REPLAY),
            Figure::median("filtered_s", "by --pid, all of it", seconds, "s", 2),
            Figure::median("first_line", "first event line", first, "ms", 1)
                .target(target::FIRST_LINE),
            Figure::median("first_filtered", "first line, by --pid", first_filtered, "ms", 1),
        ],
        notes: vec![
            "Per second of CPU time. The first line of a filtered replay is the heading; with \
             few matches it comes out at the end, with them."
                .to_string(),
        ],
        ..Section::new("replay", &format!("replay of it, medians of {TIMES}"))
    }
}

/// How a filtered replay went.
struct Replay {
    first_line_ms: f64,
    seconds: f64,
    cpu_ns: u64,
}

/// Starts a replay; its output is read through a pipe.
fn start(file: &Path, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(binary());
    command.arg("replay").arg(file).args(arguments).stdout(Stdio::piped());
    let mut process = command.spawn().expect("the recorder");
    let output = process.stdout.take().expect("its output");
    (process, BufReader::new(output))
}

/// Replays the events of one process, to the end.
fn filtered(file: &Path, pid: &str) -> Replay {
    let (began, before_ns) = (Instant::now(), children_ns());
    let (mut process, mut output) = start(file, &["--pid", pid]);
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let first_line_ms = began.elapsed().as_secs_f64() * 1e3;
    io::copy(&mut output, &mut io::sink()).expect("the rest");
    let status = process.wait().expect("its end");
    assert!(status.success(), "the replay ends well: {status}");
    let cpu_ns = children_ns() - before_ns;
    Replay { first_line_ms, seconds: began.elapsed().as_secs_f64(), cpu_ns }
}

/// Milliseconds until a replay of everything gives its first event.
fn first_event_ms(file: &Path) -> f64 {
    let began = Instant::now();
    let (mut process, mut output) = start(file, &[]);
    // The first line is a heading.
    for _ in 0..2 {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).expect("a line"), 0, "there is an event");
    }
    let ms = began.elapsed().as_secs_f64() * 1e3;
    drop(output);
    // It may have ended on the closed pipe.
    let _ = process.kill();
    process.wait().expect("its end");
    ms
}

/// CPU time of all children that were waited for.
fn children_ns() -> u64 {
    // SAFETY: plain numbers, and writable.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let ns = |time: libc::timeval| {
        time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1_000
    };
    ns(usage.ru_utime) + ns(usage.ru_stime)
}
