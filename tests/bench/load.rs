//! A load without and with the recorder, in alternating pairs, and what the
//! recorder says and takes meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Instant,
};

use recorder_tests::{
    RecorderProcess, Start, TestDirectory,
    figures::{Figure, Section, Target, target},
    number,
};
use serde_json::Value;

use crate::{
    machine::{process_ns, resident_bytes_max},
    parts,
    plan::Plan,
    quiet::Quiet,
};

/// Something that keeps the machine busy.
pub(crate) struct Load<'a> {
    /// Its name in JSON.
    pub(crate) key: &'a str,
    /// Its name for people.
    pub(crate) title: &'a str,
    /// What it does so many of a second.
    pub(crate) unit: &'static str,
    /// Does it for about as long as the plan says; answers how many a second.
    pub(crate) run: &'a mut (dyn FnMut() -> f64 + Send),
    /// How dense its events are to be.
    pub(crate) density: Target,
}

/// What one run with the recorder gave.
struct Recorded {
    per_second: f64,
    events_per_second: f64,
    cpu_ns_per_event: f64,
    lost_percent: f64,
    resident_bytes: f64,
    info: Value,
}

/// Measures a load. A snapshot of it is taken apart at the end.
pub(crate) fn measure(
    load: &mut Load<'_>,
    plan: &Plan,
    directory: &TestDirectory,
    quiet: &mut Quiet,
) -> Section {
    eprintln!("bench: {}", load.title);
    // Caches, and whatever the first run of a program pays.
    (load.run)();
    let kept = directory.join(&format!("{}.kfr", load.key));
    let pairs = quiet.rounds(plan.pairs, |number| {
        // Whatever drifts is on either side as often.
        if number.is_multiple_of(2) {
            let without = (load.run)();
            (without, recorded(load.run, &kept))
        } else {
            let with = recorded(load.run, &kept);
            ((load.run)(), with)
        }
    });
    let of = |value: &dyn Fn(&Recorded) -> f64| {
        pairs.iter().map(|(_, with)| value(with)).collect::<Vec<f64>>()
    };
    let unit = load.unit;
    let ratios = pairs.iter().map(|(without, with)| with.per_second / without);
    let without = pairs.iter().map(|(without, _)| *without);
    let cpu = Figure::median("cpu", "daemon's CPU per event", of(&|r| r.cpu_ns_per_event), "ns", 1);
    let cpu_ns = cpu.value();
    let mut figures = vec![
        Figure::median("without", "without the recorder", without, unit, 0),
        Figure::median("with", "with the recorder", of(&|r| r.per_second), unit, 0),
        Figure::median("relative", "with / without", ratios, "", 3),
        Figure::median("events", "events", of(&|r| r.events_per_second), "/s", 0),
        Figure::median("lost", "of them lost", of(&|r| r.lost_percent), "%", 3),
        cpu.target(target::USER_CPU),
    ];
    figures.extend(parts::measure(&kept, plan.part_events, cpu_ns, load.run));
    figures.extend([
        Figure::median("density", "bytes per event", of(&|r| bytes_per_event(&r.info)), "B", 2)
            .target(load.density),
        Figure::median("dump", "dump durable after", of(&|r| total_ms(&r.info)), "ms", 0),
        freeze(pairs.iter().map(|(_, with)| &with.info)),
        resident(of(&|r| r.resident_bytes)),
        open_ledgers(pairs.iter().map(|(_, with)| &with.info)),
    ]);
    // The next load needs the room.
    let _ = fs::remove_file(kept);
    let title = format!("{}, medians of {} pairs", load.title, pairs.len());
    let notes = vec![
        "The parts of the daemon's CPU are measured afterwards, on events of a snapshot while \
         the load runs again; the last of them is what they leave of the whole, noise included."
            .to_string(),
    ];
    Section { figures, notes, ..Section::new(load.key, &title) }
}

/// Runs the load with the recorder and moves a snapshot of it to `kept`.
fn recorded(run: &mut dyn FnMut() -> f64, kept: &Path) -> Recorded {
    let recorder = start_recorder(&[]);
    let before = Counts::of(&recorder.status()["ledger"]);
    let cpu_ns = process_ns(recorder.pid());
    let began = Instant::now();
    let per_second = run();
    let elapsed = began.elapsed();
    // Asking empties the rings: what is read belongs to the load.
    let after = Counts::of(&recorder.status()["ledger"]);
    let cpu_ns = process_ns(recorder.pid()) - cpu_ns;
    let file = recorder.dump(&[]);
    let info = recorder.info(&file);
    let resident_bytes = resident_bytes_max(recorder.pid()) as f64;
    fs::rename(&file, kept).expect("a snapshot that can be moved");
    recorder.stop();
    let (read, lost) = (after.read - before.read, after.lost - before.lost);
    Recorded {
        per_second,
        events_per_second: (read + lost) as f64 / elapsed.as_secs_f64(),
        cpu_ns_per_event: cpu_ns as f64 / read as f64,
        lost_percent: 100.0 * lost as f64 / (read + lost) as f64,
        resident_bytes,
        info,
    }
}

/// What the ledger says was read, and lost.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) lost: u64,
}

impl Counts {
    pub(crate) fn of(ledger: &Value) -> Counts {
        let lost = ledger["lost"].as_object().map_or(0, |lost| lost.values().map(number).sum());
        Counts { read: number(&ledger["decoded"]), lost }
    }
}

/// A recorder in a directory of its own, which ends with us whatever happens.
pub(crate) fn start_recorder(arguments: &[&str]) -> RecorderProcess {
    let start = Start { arguments, wrapper: LEASH, ..Start::default() };
    RecorderProcess::start_in(TestDirectory::new(), &start)
}

/// What a program is started by so that the kernel ends it when the bench does.
const LEASH: &[&str] = &["setpriv", "--pdeathsig", "KILL", "--"];

/// A program that runs until it is dropped.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it, on a leash.
    pub(crate) fn start(program: &str, arguments: &[&str], log: PathBuf) -> Server {
        let log = fs::File::create(log).expect("a log file");
        let output = log.try_clone().expect("the log file once more");
        let (leash, rest) = LEASH.split_first().expect("a program");
        let mut command = Command::new(leash);
        command.args(rest).arg(program).args(arguments).stdout(output).stderr(log);
        let started = command.spawn();
        Server(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Server {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The density of a snapshot.
pub(crate) fn bytes_per_event(info: &Value) -> f64 {
    info["bytes_per_event"].as_f64().unwrap_or(f64::NAN)
}

/// From the request until the snapshot was durable.
pub(crate) fn total_ms(info: &Value) -> f64 {
    number(&info["dump"]["total_ms"]) as f64
}

/// The longest hand-over.
pub(crate) fn freeze<'a>(infos: impl Iterator<Item = &'a Value>) -> Figure {
    let ms = infos.map(|info| number(&info["dump"]["freeze_us"]) as f64 / 1e3).fold(0.0, f64::max);
    Figure::new("freeze", "longest freeze", ms, "ms", 3).target(target::FREEZE)
}

/// The most that was resident.
fn resident(bytes: Vec<f64>) -> Figure {
    let most = bytes.into_iter().fold(0.0, f64::max);
    Figure::new("resident", "resident, at most", most / f64::from(1 << 20), "MiB", 1)
}

/// How many snapshots have books that do not close.
pub(crate) fn open_ledgers<'a>(infos: impl Iterator<Item = &'a Value>) -> Figure {
    let open = infos.filter(|info| info["ledger"]["closes"] != true).count() as f64;
    Figure::new("open_ledgers", "ledgers that do not close", open, "", 0).target(target::LEDGER)
}
