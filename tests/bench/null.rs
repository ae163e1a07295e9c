//! The null call: `getppid`, which does next to nothing, in a pinned loop.

use std::{path::Path, thread, time::Duration};

use recorder_tests::{
    RecorderProcess,
    figures::{Figure, Section, target},
    number, pin,
};
use serde_json::Value;

use crate::{
    floor::{CLOCK, EMPTY, Floor, RUNGS, Rung},
    load::start_recorder,
    machine::thread_ns,
    plan::Plan,
    quiet::Quiet,
};

/// Calls in a burst: an eighth of what a ring of 2 MiB holds of them, so that the
/// reader has time.
const BURST: u64 = 4_096;

/// Calls before a burst that are not measured: the thread has just slept.
const WARM: u64 = 512;

/// Between two bursts. With it about 600,000 calls a second are made.
const PAUSE: Duration = Duration::from_millis(6);

/// Calls without a pause: more than a ring holds, many times over.
const FLOOD: u64 = 500_000;

/// What one round gave, nanoseconds per call: the bare call, and what is added to it.
struct Round {
    base: f64,
    rungs: [f64; RUNGS.len()],
    recorder: f64,
    flood: f64,
    lost: f64,
    flood_lost: f64,
    closes: bool,
}

/// Measures all of it, alternating.
pub(crate) fn measure(plan: &Plan, floor: &Path, quiet: &mut Quiet) -> Section {
    eprintln!("bench: null call");
    let mut floor = Floor::load(floor);
    let rounds = quiet.rounds(plan.null_rounds, |_| round(plan, &mut floor));
    let of = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<f64>>();
    let ns = |key: &str, label: &str, value: &dyn Fn(&Round) -> f64| {
        Figure::median(key, label, of(value), "ns", 1)
    };
    let mut figures = vec![ns("base", "nothing attached", &|round| round.base)];
    let rung = |round: &Round, place: usize| round.rungs.get(place).copied().unwrap_or(f64::NAN);
    for (place, Rung { key, label, .. }) in RUNGS.iter().enumerate() {
        figures.push(ns(key, label, &|round| rung(round, place)));
    }
    figures.push(ns("recorder", "recorder", &|round| round.recorder));
    let floors = of(&|round| round.recorder / rung(round, EMPTY));
    figures.push(
        Figure::median("floors", "recorder, in floors", floors, "times", 2).target(target::FLOORS),
    );
    let above_clock = |round: &Round| round.recorder - rung(round, CLOCK);
    figures
        .push(ns("above_clock", "recorder above clocks", &above_clock).target(target::ABOVE_CLOCK));
    figures.push(Figure::median("lost", "calls lost meanwhile", of(&|r| r.lost), "%", 3));
    figures.push(ns("flood", "recorder, without pauses", &|round| round.flood));
    figures.push(Figure::median("flood_lost", "calls lost then", of(&|r| r.flood_lost), "%", 1));
    let open = rounds.iter().filter(|round| !round.closes).count() as f64;
    figures.push(
        Figure::new("open_ledgers", "ledgers that do not close", open, "", 0)
            .target(target::LEDGER),
    );
    Section {
        figures,
        notes: vec![
            "CPU time of the thread per call; all but the first line are what is added to it. \
             Each rung does what the one above it does and one thing more."
                .to_string(),
            "A call whose record is lost is cheaper, so the loop pauses for the reader; without \
             pauses it outruns it."
                .to_string(),
        ],
        ..Section::new("null", &format!("null call, medians of {} rounds", rounds.len()))
    }
}

/// Everything once. Between any two things the bare call is timed again: machines
/// change their speed within seconds, and what is added is above its neighbours.
fn round(plan: &Plan, floor: &mut Floor) -> Round {
    let bare = || on_one_cpu(|| paced(plan.bursts, &mut || ()));
    let first = bare();
    let mut before = first;
    let made = plan.bursts as u64 * (WARM + BURST);
    let rungs = RUNGS.each_ref().map(|rung| {
        let attached = floor.attach(rung);
        let mut records = 0;
        let ns = on_one_cpu(|| paced(plan.bursts, &mut || records += floor.drain()));
        floor.detach(attached);
        // The first calls after the attaching come on top.
        assert!(
            rung.key != "record" || records >= made,
            "{records} records of {made} calls came through the ring"
        );
        let after = bare();
        let added = ns - f64::midpoint(before, after);
        before = after;
        added
    });
    let flood_before = on_one_cpu(flood);
    let recorder = start_recorder(&[]);
    let (none, ns) = (getppid(&recorder), bare());
    let (paced, flood_ns) = (getppid(&recorder), on_one_cpu(flood));
    let flooded = getppid(&recorder);
    let closes = recorder.status()["ledger"]["closes"] == true;
    recorder.stop();
    let after = bare();
    let flood_after = on_one_cpu(flood);
    let seen = paced.seen - none.seen;
    assert!(seen >= made, "the recorder saw {seen} of {made} calls");
    Round {
        base: first,
        rungs,
        recorder: ns - f64::midpoint(before, after),
        flood: flood_ns - f64::midpoint(flood_before, flood_after),
        lost: paced.lost_percent(&none),
        flood_lost: flooded.lost_percent(&paced),
        closes,
    }
}

/// What the ledger says of the loop's calls.
#[derive(Default)]
struct Counts {
    seen: u64,
    lost: u64,
}

impl Counts {
    fn lost_percent(&self, before: &Counts) -> f64 {
        100.0 * (self.lost - before.lost) as f64 / (self.seen - before.seen) as f64
    }
}

fn getppid(recorder: &RecorderProcess) -> Counts {
    match &recorder.status()["ledger"]["calls"]["getppid"] {
        Value::Null => Counts::default(),
        call => Counts { seen: number(&call["seen"]), lost: number(&call["lost"]) },
    }
}

/// Runs `work` on the last CPU, in a thread of its own: what is started later must
/// not inherit the pin.
fn on_one_cpu<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pinned = || {
        pin(cpus - 1);
        work()
    };
    thread::scope(|scope| scope.spawn(pinned).join()).expect("the measuring thread")
}

/// Nanoseconds per call, the median of bursts. `after_burst` is not measured.
fn paced(bursts: usize, after_burst: &mut (dyn FnMut() + Send)) -> f64 {
    let mut samples = Vec::with_capacity(bursts);
    for _ in 0..bursts {
        calls(WARM);
        samples.push(timed(BURST));
        after_burst();
        // The rate is part of what is measured.
        thread::sleep(PAUSE);
    }
    recorder_tests::figures::Spread::of(samples).map_or(f64::NAN, |spread| spread.median)
}

/// Nanoseconds per call, without a pause.
fn flood() -> f64 {
    timed(FLOOD)
}

fn timed(count: u64) -> f64 {
    let began_ns = thread_ns();
    calls(count);
    (thread_ns() - began_ns) as f64 / count as f64
}

fn calls(count: u64) {
    for _ in 0..count {
        // SAFETY: a call without arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}
