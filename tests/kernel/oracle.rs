//! The oracle: strace and the recorder watch the same programs at the same time,
//! and must say the same of every thread: which calls, in which order, with which
//! results and which strings, and how it ended.
//!
//! The two see with different eyes, so what they agree on is so: strace stops the
//! thread and asks, the recorder is called by the kernel.

use std::{collections::BTreeSet, path::Path};

use recorder_tests::{
    Counts, RecorderProcess, TestDirectory, kind, ns, say, skip,
    strace::{self, TracedThread},
};
use serde_json::Value;

mod arguments;
mod compare;
mod explained;
mod noticed;
mod programs;
mod recorded;

use compare::Tally;
use programs::{PROGRAMS, Program};

/// At least so many programs must be compared where they can be installed.
const PROGRAMS_MIN: u64 = 60;

/// How often a program is run again because the recorder lost events meanwhile,
/// which says nothing about those it has: others may flood this machine.
const ROUNDS_MAX: usize = 5;

/// Of the arguments that are recorded so many percent must be the same to both.
const AGREED_PERCENT_MIN: f64 = 99.0;

/// A program that was run.
struct Run<'a> {
    program: &'a Program,
    /// The process that was strace.
    tracer: i32,
    /// What strace wrote.
    traced: Vec<TracedThread>,
    /// From before its start to after its end, `CLOCK_MONOTONIC`.
    from_ns: u64,
    to_ns: u64,
}

impl Run<'_> {
    fn new<'a>(program: &'a Program, directory: &Path) -> Run<'a> {
        let from_ns = monotonic_ns();
        let (tracer, log) = program.run(directory);
        let to_ns = monotonic_ns();
        let traced = strace::parse(&log).expect(program.name);
        Run { program, tracer, traced, from_ns, to_ns }
    }

    /// The events of its time, of all: they are in the order of time.
    fn of<'e>(&self, events: &'e [Value]) -> &'e [Value] {
        let place = |moment| events.partition_point(|event| ns(&event["ts_ns"]) < moment);
        &events[place(self.from_ns)..place(self.to_ns)]
    }

    /// Whether events of its time are missing.
    fn has_losses(&self, losses: &[&Value]) -> bool {
        losses
            .iter()
            .any(|loss| ns(&loss["ts_ns"]) <= self.to_ns && ns(&loss["until_ns"]) >= self.from_ns)
    }
}

#[test]
fn strace_and_the_recorder_say_the_same_of_ordinary_programs() {
    let directory = TestDirectory::new();
    let recorder = RecorderProcess::start();
    let mut tally = Tally::default();
    let mut waiting: Vec<&Program> =
        PROGRAMS.iter().filter(|program| is_asked_for(program) && is_here(program)).collect();
    for round in 0..ROUNDS_MAX {
        let place_of = |place| directory.join(&format!("program-{round}-{place}"));
        let runs = waiting.iter().enumerate();
        let runs: Vec<_> =
            runs.map(|(place, program)| Run::new(program, &place_of(place))).collect();
        let file = recorder.dump(&[]);
        let tracers: BTreeSet<i32> = runs.iter().map(|run| run.tracer).collect();
        let is_wanted = |line: &str| !is_call_of(line, &tracers);
        let events = recorder.replay_some(&file, &["--pid", &threads_of(&runs)], is_wanted);
        let losses = kind(&events, "lost");
        waiting.clear();
        for run in &runs {
            if run.has_losses(&losses) {
                waiting.push(run.program);
                continue;
            }
            let root = run.traced.first().expect("a thread").tid;
            let recorded = recorded::threads(run.of(&events), run.tracer, root);
            tally.program((run.program.name, run.program.is_made_up), &run.traced, &recorded);
        }
        if waiting.is_empty() {
            break;
        }
        say(&format!("oracle: round {round} lost events of {} programs\n", waiting.len()));
    }
    say(&tally.summary());
    if std::env::var_os("RECORDER_ORACLE_PLACES").is_some() {
        say(&(tally.arguments.places(true).join("\n") + "\n"));
    }
    if let Some(differences) = tally.differences() {
        panic!("strace and the recorder differ:\n{differences}");
    }
    if tally.compat == 0 {
        skip("this kernel has no 32-bit calls, or there was no compiler to make any");
    }
    let left: Vec<_> = waiting.iter().map(|program| program.name).collect();
    assert!(left.is_empty(), "events were lost {ROUNDS_MAX} times in a row: {left:?}");
    let agreed = tally.arguments.agreed_percent();
    assert!(agreed >= AGREED_PERCENT_MIN, "{agreed} %");
    let is_part = std::env::var_os("RECORDER_VM").or(std::env::var_os("RECORDER_ORACLE")).is_some();
    assert!(is_part || tally.programs >= PROGRAMS_MIN, "{} programs", tally.programs);
}

/// Whether it is run at all; says so when not. Those that take long are for a full run,
/// and for whoever names one.
fn is_asked_for(program: &Program) -> bool {
    match std::env::var("RECORDER_ORACLE") {
        Ok(names) => names.split(',').any(|name| name == program.name),
        Err(_) if program.is_long && !Counts::full() => {
            skip(&format!("{} takes long", program.name));
            false
        }
        Err(_) => true,
    }
}

/// Whether it can be run; says so when not.
fn is_here(program: &Program) -> bool {
    if let Some(missing) = program.missing() {
        skip(&format!("{} needs {missing}, which is not here", program.name));
        return false;
    }
    true
}

/// Whether a line is a call of one of these threads: strace makes twenty for each it sees.
fn is_call_of(line: &str, threads: &BTreeSet<i32>) -> bool {
    let tid: Option<i32> = line.split_once("\"tid\":").and_then(|(before, behind)| {
        let is_call = before.contains("\"kind\":\"syscall\"");
        behind.split_once(',').filter(|_| is_call)?.0.parse().ok()
    });
    tid.is_some_and(|tid| threads.contains(&tid))
}

/// All threads of these programs and the tracers, for `--pid`.
fn threads_of(runs: &[Run<'_>]) -> String {
    let threads = |run: &Run<'_>| run.traced.iter().map(|thread| thread.tid).collect::<Vec<_>>();
    let tids = runs.iter().flat_map(|run| [vec![run.tracer], threads(run)].concat());
    let tids: BTreeSet<i32> = tids.collect();
    tids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// The clock of the events.
fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for one time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
