//! The host as of any moment: what `recorder state --at` says long after is what `ps`,
//! `/proc` and `ss` showed then.
//!
//! At each moment every process of the run is stopped, so that nothing changes between the
//! moment and the last answer of the host. A process all of whose threads have ended is no
//! process any more, though `ps` prints it as a zombie: it is left out.

use std::{
    collections::BTreeSet, fs::File, net::UdpSocket, path::Path, sync::atomic::Ordering,
    time::Instant,
};

use recorder::snapshot::SnapshotReader;
use recorder_tests::{
    Child, Counts, Pipe, RecorderProcess, TestDirectory, property, say, skip, synth::Random,
    wait_until,
};
use serde_json::Value;

use crate::descriptors::state_of;

mod compared;
mod observed;
mod workload;

use compared::{Said, Tallies};
use observed::{Held, Moment};
use workload::Stage;

/// Steps between two moments, at the least and at the most.
const STEPS: std::ops::Range<u64> = 50..500;

/// `/proc/PID/oom_score_adj` of all processes of the run.
const MARK: i32 = 537;

/// How often a run is made again because the recorder lost events meanwhile, which says
/// nothing of what it has: others may flood this machine.
const ROUNDS_MAX: usize = 8;

/// A process that has done all it ever does.
fn still() -> Child {
    let (ready, never) = (Pipe::new(), Pipe::new());
    let still = Child::fork(move || {
        let open = (File::open("/etc/hostname"), UdpSocket::bind("127.0.0.1:0"));
        ready.tell();
        never.wait();
        drop(open);
        0
    });
    ready.wait();
    still
}

/// A recorder, and a run that goes on until it is dropped.
struct Run {
    stage: &'static Stage,
    random: Random,
    recorder: RecorderProcess,
    /// What there was before the recording.
    still: Child,
    first: Child,
    _directory: TestDirectory,
}

impl Run {
    fn start(seed: u64, arguments: &[&str]) -> Run {
        let directory = TestDirectory::new();
        // The processes of the run have it as long as they live.
        let stage: &'static Stage = Box::leak(Box::new(Stage::new(directory.path())));
        let still = still();
        let recorder = RecorderProcess::start_with(arguments);
        let first = Child::fork(move || workload::run(stage, seed, MARK));
        let random = Random::new(seed);
        Run { stage, random, recorder, still, first, _directory: directory }
    }

    /// Lets it go on for some steps, holds it, and looks. It goes on when it is let go.
    fn next_moment(&mut self) -> (Held, Moment) {
        let steps = &self.stage.shared.steps;
        let until = steps.load(Ordering::Relaxed)
            + STEPS.start
            + self.random.below(STEPS.end - STEPS.start);
        wait_until("the run to go on", || steps.load(Ordering::Relaxed) >= until);
        let held = Held::hold(MARK);
        let own = std::process::id().cast_signed();
        let moment = held.look(&[1, 2, own], self.still.pid());
        (held, moment)
    }
}

impl Run {
    fn end(&mut self) {
        self.stage.shared.stop.store(true, Ordering::Relaxed);
        observed::end_all(MARK);
        self.first.ended();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a snapshot says of a moment.
fn said_of(file: &Path, moment: &Moment) -> Said {
    let reader = SnapshotReader::open(file).expect("a snapshot");
    let wall_ns = reader.header().clock.wall_ns(moment.at_ns);
    let at = format!("@{}.{:09}", wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
    let rows = |what: &str| state_of(file, &[what, "--at", &at]);
    Said::new(&rows("ps"), &rows("files"), &rows("sockets"))
}

/// Events the recorder lost until this snapshot.
fn lost(recorder: &RecorderProcess, file: &Path) -> Value {
    recorder.info(file)["ledger"]["lost"].clone()
}

fn has_lost(lost: &Value) -> bool {
    let counts = lost.as_object().into_iter().flatten();
    counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>() > 0
}

fn judge(tallies: &Tallies) {
    assert_eq!(tallies.processes.percent(), 100.0, "processes");
    assert!(tallies.descriptors.percent() >= 99.5, "descriptors");
    assert!(tallies.close_on_exec.percent() >= 99.5, "marks for exec");
    assert!(tallies.directories.percent() >= 99.5, "working directories");
    assert!(tallies.descriptors.compared() > 0, "something was open");
    if recorder_tests::has_program("ss") {
        assert!(tallies.ends.percent() >= 99.0, "ends of TCP");
    } else {
        skip("what is said of sockets needs ss, which is not here");
    }
}

/// What a run is made with.
fn seed() -> u64 {
    property::seeds(1).start
}

/// All of it in one snapshot, looked back at from its end.
#[test]
fn any_moment_of_a_busy_run_is_as_the_host_showed_it() {
    for round in 0..ROUNDS_MAX {
        let seed = seed().wrapping_add(round as u64);
        let mut run = Run::start(seed, &[]);
        let count = Counts::of(200).max(10);
        let moments: Vec<Moment> = (0..count).map(|_| run.next_moment().1).collect();
        let file = run.recorder.dump(&[]);
        let lost = lost(&run.recorder, &file);
        run.end();
        if has_lost(&lost) {
            say(&format!("moments: round {round} lost {lost}\n"));
            continue;
        }
        let all: BTreeSet<i32> = moments.iter().flat_map(|moment| moment.run.clone()).collect();
        let mut tallies = Tallies::default();
        let began = Instant::now();
        for moment in &moments {
            tallies.take(moment, &all, &said_of(&file, moment));
        }
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        say(&tallies.summary(&format!(
            "seed {seed}: {count} moments, {} processes; a file of {} kB, {} ms for each answer",
            all.len(),
            bytes / 1_000,
            began.elapsed().as_millis() / (3 * u128::from(count))
        )));
        judge(&tallies);
        return;
    }
    // What is lost is lost: it says nothing of the state, only of the machine.
    skip(&format!("the rings of this machine overflowed in {ROUNDS_MAX} runs in a row"));
}

/// A short window, and a snapshot at each moment: most of what is open was opened before
/// its left edge.
#[test]
fn what_left_the_window_is_in_the_baseline() {
    for round in 0..ROUNDS_MAX {
        let seed = seed().wrapping_add(round as u64);
        let mut run = Run::start(seed, &["--window", "2s"]);
        let (mut tallies, mut all) = (Tallies::default(), BTreeSet::new());
        let count = Counts::of(100).max(10);
        let complete = (0..count).all(|taken| {
            // Held until the answers are there: they take CPUs that the recorder needs.
            let (_held, moment) = run.next_moment();
            all.extend(moment.run.iter().copied());
            let file = run.recorder.dump(&[]);
            let lost = lost(&run.recorder, &file);
            if has_lost(&lost) {
                say(&format!("moments: round {round} lost {lost} after {taken} moments\n"));
                return false;
            }
            tallies.take(&moment, &all, &said_of(&file, &moment));
            true
        });
        if complete {
            say(&tallies
                .summary(&format!("seed {seed}: {count} moments at the end of two seconds")));
            judge(&tallies);
            return;
        }
    }
    // What is lost is lost: it says nothing of the state, only of the machine.
    skip(&format!("the rings of this machine overflowed in {ROUNDS_MAX} runs in a row"));
}
