//! Whether we are the only one who traces: another tracer on the same hooks makes
//! every call dearer, with and without the recorder.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;

use crate::floor::RUNGS;

/// The types of programs that hang on tracepoints, functions and counters, as
/// `enum bpf_prog_type` has them (include/uapi/linux/bpf.h): kprobe, tracepoint,
/// perf event, raw tracepoint, its writable form, tracing.
const TRACING: [u32; 6] = [2, 5, 7, 17, 24, 26];

/// Rounds of a figure that are made again because of others.
const AGAIN_MAX: usize = 2;

/// How often the kernel is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Who traces beside us.
pub(crate) struct Quiet {
    /// Programs that were there when the run began: they are in every figure.
    known: BTreeSet<u32>,
    wait: Duration,
    wait_left: Duration,
    disturbed: usize,
}

impl Quiet {
    /// Waits for other tracers to end; all waiting of a run together takes at most
    /// `wait`.
    pub(crate) fn begin(wait: Duration) -> Quiet {
        let mut quiet = Quiet { known: BTreeSet::new(), wait, wait_left: wait / 2, disturbed: 0 };
        if !quiet.settle() {
            eprintln!("bench: other tracers are at work; their cost is in every figure");
            quiet.known = tracers();
        }
        // The other half is for those that come later.
        quiet.wait_left += wait / 2;
        quiet
    }

    /// Runs `round` until `wanted` of them passed without another tracer coming or
    /// going, at most a few more; disturbed ones fill up what is missing then.
    pub(crate) fn rounds<T>(&mut self, wanted: usize, mut round: impl FnMut(usize) -> T) -> Vec<T> {
        let (mut kept, mut disturbed) = (Vec::new(), Vec::new());
        for number in 0..wanted + AGAIN_MAX {
            if kept.len() == wanted {
                break;
            }
            let before = self.settle();
            let measured = round(number);
            // What we attached ourselves is gone only a moment after its process.
            if before && self.settle() { kept.push(measured) } else { disturbed.push(measured) }
        }
        let missing = wanted - kept.len();
        self.disturbed += missing.min(disturbed.len());
        kept.extend(disturbed.into_iter().take(missing));
        kept
    }

    /// What others cost the run, where there were some.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let mut facts = Vec::new();
        let waited = self.wait.saturating_sub(self.wait_left).as_secs();
        if waited > 0 {
            let text = format!("{waited} s for other tracers to end");
            facts.push(("waited".to_string(), text));
        }
        if !self.known.is_empty() {
            let text = format!("{} programs of others, in every figure", self.known.len());
            facts.push(("tracers".to_string(), text));
        }
        if self.disturbed > 0 {
            let text = format!("{} rounds, by tracers that came or went", self.disturbed);
            facts.push(("disturbed".to_string(), text));
        }
        facts
    }

    /// Waits until nobody traces who did not when the run began.
    fn settle(&mut self) -> bool {
        let began = Instant::now();
        loop {
            let is_quiet = tracers().is_subset(&self.known);
            let waited = began.elapsed();
            if is_quiet || waited >= self.wait_left {
                self.wait_left = self.wait_left.saturating_sub(waited);
                return is_quiet;
            }
            sleep(ASK_EVERY);
        }
    }
}

/// The tracing programs in the kernel, without the floor's.
fn tracers() -> BTreeSet<u32> {
    let is_ours = |name: &str| RUNGS.iter().any(|rung| name == rung.enter || name == rung.exit);
    loaded_programs()
        // One that is gone by the time it is looked at is no tracer.
        .filter_map(Result::ok)
        .filter(|program| TRACING.contains(&(program.program_type() as u32)))
        .filter(|program| !program.name_as_str().is_some_and(is_ours))
        .map(|program| program.id())
        .collect()
}
