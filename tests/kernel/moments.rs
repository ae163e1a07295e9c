//! The host as of any moment: what `recorder state --at` says long after is what `ps`,
//! `/proc` and `ss` showed then.
//!
//! At each moment every process of the run is stopped, so that nothing changes between the
//! moment and the last answer of the host. Zombies are processes too, as long as their parent
//! is one of the run: another one may ask for their end at any time.

use std::{collections::BTreeSet, fs::File, net::UdpSocket, path::Path, sync::atomic::Ordering};

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
    assert!(tallies.zombies > 0, "something had ended");
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

/// Moments of one run at the most: each answer replays the file up to its moment.
const MOMENTS_OF_RUN_MAX: u64 = 20;

/// Moments of a run and what is said of them, or what the recorder lost meanwhile.
type Looked = Result<Vec<(Moment, Said)>, Value>;

/// Compares `count` moments of as many runs as that takes.
fn compare(title: &str, count: u64, arguments: &[&str], look: fn(&mut Run, u64) -> Looked) {
    let (mut tallies, mut processes, mut taken, mut lost_in_a_row) = (Tallies::default(), 0, 0, 0);
    let first = seed();
    let mut seed = first;
    while taken < count && lost_in_a_row < ROUNDS_MAX {
        let mut run = Run::start(seed, arguments);
        match look(&mut run, (count - taken).min(MOMENTS_OF_RUN_MAX)) {
            Ok(looked) => {
                lost_in_a_row = 0;
                taken += looked.len() as u64;
                let all: BTreeSet<i32> =
                    looked.iter().flat_map(|(moment, _)| moment.run.clone()).collect();
                processes += all.len();
                looked.iter().for_each(|(moment, said)| tallies.take(moment, &all, said));
            }
            Err(lost) => {
                lost_in_a_row += 1;
                say(&format!("moments: the run of seed {seed} lost {lost}\n"));
            }
        }
        run.end();
        seed = seed.wrapping_add(1);
    }
    if taken < count {
        // What is lost is lost: it says nothing of the state, only of the machine.
        skip(&format!(
            "{} of {count} moments: the rings of this machine overflowed in {ROUNDS_MAX} runs in a row",
            count - taken
        ));
    }
    if taken > 0 {
        say(&tallies.summary(&format!(
            "seeds {first} to {}: {taken} moments {title}, {processes} processes",
            seed.wrapping_sub(1)
        )));
        judge(&tallies);
    }
}

/// Each run in one snapshot, looked back at from its end.
#[test]
fn any_moment_of_a_busy_run_is_as_the_host_showed_it() {
    compare("looked back at", Counts::of(200).max(10), &[], |run, count| {
        let moments: Vec<Moment> = (0..count).map(|_| run.next_moment().1).collect();
        let file = run.recorder.dump(&[]);
        let lost = lost(&run.recorder, &file);
        if has_lost(&lost) {
            return Err(lost);
        }
        run.end();
        let said = |moment: Moment| {
            let said = said_of(&file, &moment);
            (moment, said)
        };
        Ok(moments.into_iter().map(said).collect())
    });
}

/// A short window, and a snapshot at each moment: most of what is open was opened before
/// its left edge.
#[test]
fn what_left_the_window_is_in_the_baseline() {
    let window = ["--window", "2s"];
    compare("at the end of two seconds", Counts::of(100).max(10), &window, |run, count| {
        let mut looked = Vec::new();
        for _ in 0..count {
            // Held until the answers are there: they take CPUs that the recorder needs.
            let (_held, moment) = run.next_moment();
            let file = run.recorder.dump(&[]);
            let lost = lost(&run.recorder, &file);
            if has_lost(&lost) {
                return Err(lost);
            }
            let said = said_of(&file, &moment);
            looked.push((moment, said));
        }
        Ok(looked)
    });
}
