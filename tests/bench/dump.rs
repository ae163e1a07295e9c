//! A large window on disk and back, and what it takes of the memory.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use recorder_tests::{
    Child, RecorderProcess, TestDirectory,
    figures::{Bound, Figure, Section, Target, target},
    number,
};
use serde_json::Value;

use crate::{
    calls,
    load::{Counts, freeze, open_ledgers, start_recorder, total_ms},
    machine::resident_bytes_max,
    plan::Plan,
    replay,
};

/// Room for thirty million events and more.
const MEMORY: &str = "1GiB";

/// The window the target speaks of, events.
const TARGET_EVENTS: f64 = 30e6;

/// The memory of the recorder that is driven against its limit.
const SMALL_MEMORY_BYTES: u64 = 32 << 20;

/// How often the recorder is asked how far it has come. Being asked costs it a
/// millisecond.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long each process that fills the window rests: with it about a million
/// calls a second are made, which the reader can take where it has a CPU.
const REST: Duration = Duration::from_millis(6);

/// The rest of the process that goes on during dumps.
const LONG_REST: Duration = Duration::from_millis(25);

/// Dump, replay, memory.
pub(crate) fn measure(plan: &Plan, directory: &TestDirectory) -> Vec<Section> {
    eprintln!("bench: filling a large window");
    let recorder = start_recorder(&["--memory", MEMORY, "--window", "1h"]);
    let filled = fill(&recorder, plan);
    eprintln!("bench: dumps");
    let dumps = dump(&recorder, plan, directory);
    recorder.stop();
    let file = directory.join("large.kfr");
    let sections = vec![section(&filled, &dumps), replay::measure(&file, dumps.events)];
    let _ = fs::remove_file(file);
    eprintln!("bench: memory");
    sections.into_iter().chain([memory(plan)]).collect()
}

/// How the window was filled.
struct Filled {
    events: f64,
    lost_percent: f64,
    seconds: f64,
}

/// Fills the window until it has the wanted number of events, or time is up.
fn fill(recorder: &RecorderProcess, plan: &Plan) -> Filled {
    let before = Counts::of(&recorder.status()["ledger"]);
    let began = Instant::now();
    let _callers: Vec<Child> = (0..2).map(|_| calls::like_a_server(REST)).collect();
    let after = loop {
        let now = Counts::of(&recorder.status()["ledger"]);
        if now.read - before.read >= plan.fill_events || began.elapsed() >= plan.fill {
            break now;
        }
        // Only so that asking costs little.
        sleep(ASK_EVERY);
    };
    let (read, lost) = ((after.read - before.read) as f64, (after.lost - before.lost) as f64);
    let seconds = began.elapsed().as_secs_f64();
    Filled { events: read, lost_percent: 100.0 * lost / (read + lost), seconds }
}

/// What the dumps gave.
struct Dumps {
    infos: Vec<Value>,
    disk_ms: Vec<f64>,
    lost: u64,
    lost_otherwise: u64,
    events: u64,
}

/// Dumps, and beside each dump a plain file of as many bytes. Meanwhile a process
/// makes calls; what is lost in the time of the dumps is compared with what is lost
/// in as long a time without one.
fn dump(recorder: &RecorderProcess, plan: &Plan, directory: &TestDirectory) -> Dumps {
    let _caller = calls::like_a_server(LONG_REST);
    let mut dumps =
        Dumps { infos: Vec::new(), disk_ms: Vec::new(), lost: 0, lost_otherwise: 0, events: 0 };
    let lost = || Counts::of(&recorder.status()["ledger"]).lost;
    for number_of_dump in 0..plan.dumps {
        let before = lost();
        let began = Instant::now();
        let file = recorder.dump(&[]);
        let took = began.elapsed();
        let between = lost();
        // As long, without a dump.
        sleep(took);
        dumps.lost += between - before;
        dumps.lost_otherwise += lost() - between;
        let info = recorder.info(&file);
        let events = info["events"].as_object().map_or(0, |kinds| kinds.values().map(number).sum());
        dumps.events = events;
        dumps.infos.push(info);
        dumps.disk_ms.push(write_again(&file, &directory.join("plain")));
        if number_of_dump + 1 == plan.dumps {
            fs::rename(&file, directory.join("large.kfr")).expect("a snapshot that can be moved");
        } else {
            fs::remove_file(&file).expect("a snapshot that can be removed");
        }
    }
    dumps
}

/// How long writing the bytes of `file` to `other` takes until they are durable.
fn write_again(file: &Path, other: &PathBuf) -> f64 {
    let bytes = fs::read(file).expect("the snapshot");
    let began = Instant::now();
    let mut plain = File::create(other).expect("a file");
    for piece in bytes.chunks(1 << 20) {
        plain.write_all(piece).expect("room on the disk");
    }
    plain.sync_all().expect("a disk that syncs");
    let ms = began.elapsed().as_secs_f64() * 1e3;
    fs::remove_file(other).expect("a file that can be removed");
    ms
}

fn section(filled: &Filled, dumps: &Dumps) -> Section {
    let of = |value: &dyn Fn(&Value) -> f64| dumps.infos.iter().map(value).collect::<Vec<f64>>();
    let mib = |info: &Value| number(&info["bytes"]) as f64 / f64::from(1 << 20);
    let drain = |info: &Value| number(&info["dump"]["drain_us"]) as f64 / 1e3;
    let disk = Figure::median("disk", "writing as many bytes", dumps.disk_ms.clone(), "ms", 0);
    let ratios = dumps.infos.iter().zip(&dumps.disk_ms).map(|(info, ms)| total_ms(info) / ms);
    let share = (dumps.events as f64 / TARGET_EVENTS).min(1.0);
    let bound = (1_000.0 * share).max(1.3 * disk.value());
    let more = dumps.lost.saturating_sub(dumps.lost_otherwise) as f64;
    let density = |info: &Value| info["bytes_per_event"].as_f64().unwrap_or(f64::NAN);
    Section {
        figures: vec![
            Figure::new("events", "events in the window", dumps.events as f64, "", 0),
            Figure::new("fill", "filled with", filled.events / filled.seconds, "/s", 0),
            Figure::new("fill_lost", "lost while filling", filled.lost_percent, "%", 3),
            Figure::median("size", "size of the file", of(&mib), "MiB", 1),
            Figure::median("density", "bytes per event", of(&density), "B", 2),
            disk,
            Figure::median("dump", "dump durable after", of(&total_ms), "ms", 0)
                .target(Target { bound: Bound::AtMost(bound), ..target::DUMP }),
            Figure::median("disk_ratio", "dump / writing as many", ratios, "times", 2),
            Figure::median("drain", "of it, rings read", of(&drain), "ms", 2),
            freeze(dumps.infos.iter()),
            Figure::new("lost", "lost during dumps", dumps.lost as f64, "events", 0),
            Figure::new(
                "lost_otherwise",
                "lost in as long without",
                dumps.lost_otherwise as f64,
                "events",
                0,
            ),
            Figure::new("dump_loss", "lost because of dumps", more, "events", 0)
                .target(target::DUMP_LOSS),
            open_ledgers(dumps.infos.iter()),
        ],
        notes: vec![format!(
            "To be durable in 1 s for 30 million events ({:.0} ms for as many as these), or in \
             1.3 times what writing and fsyncing as many bytes takes.",
            1_000.0 * share
        )],
        ..Section::new("dump", &format!("a large window, {} dumps", dumps.infos.len()))
    }
}

/// Drives a small recorder against its limit with strings nothing can compress, and
/// dumps meanwhile.
fn memory(plan: &Plan) -> Section {
    let words = format!("{SMALL_MEMORY_BYTES}");
    let recorder = start_recorder(&["--memory", &words]);
    let at_start = resident_bytes_max(recorder.pid()) as f64;
    let callers: Vec<Child> = (0..2).map(calls::long_new_paths).collect();
    let mut infos = Vec::new();
    let began = Instant::now();
    let mut evicted = 0;
    while began.elapsed() < plan.load || evicted == 0 {
        let file = recorder.dump(&[]);
        infos.push(recorder.info(&file));
        fs::remove_file(&file).expect("a snapshot that can be removed");
        evicted = number(&recorder.status()["ledger"]["evicted"]);
        assert!(began.elapsed() < plan.fill, "the window of {words} bytes never fills");
    }
    drop(callers);
    let status = recorder.status();
    let resident = resident_bytes_max(recorder.pid()) as f64;
    recorder.stop();
    let mib = f64::from(1 << 20);
    let limit = SMALL_MEMORY_BYTES as f64;
    let total = number(&status["memory"]["total"]) as f64;
    Section {
        figures: vec![
            Figure::new("limit", "--memory", limit / mib, "MiB", 1),
            Figure::new("total", "what status counts", total / mib, "MiB", 1),
            Figure::new("at_start", "resident at start, at most", at_start / mib, "MiB", 1),
            Figure::new("resident", "resident, at most", resident / mib, "MiB", 1),
            Figure::new("above", "resident above --memory", (resident - limit) / mib, "MiB", 1)
                .target(target::RESIDENT),
            freeze(infos.iter()),
            open_ledgers(infos.iter()),
        ],
        notes: vec![
            "Two processes ask for files with long names nobody used before, without a rest, \
             while one dump follows another."
                .to_string(),
        ],
        ..Section::new("memory", "memory at its limit")
    }
}
