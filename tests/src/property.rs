//! Properties: what must hold for any input. A seed makes an input, a failing one
//! is made smaller by halving, and both are shown.
//!
//! `RECORDER_TEST_SEED=N` tries that seed alone. In a full run the seeds begin at
//! a number nobody tried before, which is printed.

use std::{
    cell::RefCell,
    env, fmt,
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{Counts, synth::Random};

/// Inputs tried at the most to make one smaller, and how long.
const SHRINKS_MAX: u32 = 4_000;
const SHRINK_TIME: Duration = Duration::from_secs(30);

/// How often a full run does what an ordinary one does once.
const FULL: u64 = 20;

/// What a property is tried with: where it starts, and what happens then.
#[derive(Clone, Debug)]
pub struct Case<S, T> {
    /// What stands before the first step.
    pub setup: S,
    /// What happens, in order. Steps can be left out to make the case smaller, so
    /// none may rely on another.
    pub steps: Vec<T>,
}

thread_local! {
    /// Panics of this thread are caught and kept here instead of being printed.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
    static CATCHING: RefCell<bool> = const { RefCell::new(false) };
}

/// Tries `holds`, which panics where the property does not hold, with `rounds` cases
/// that `make` makes.
///
/// # Panics
/// With seed, case and reason, when it does not hold.
pub fn check<S, T>(
    rounds: u64,
    make: impl Fn(&mut Random) -> Case<S, T>,
    holds: impl Fn(&Case<S, T>),
) where
    S: Clone + fmt::Debug,
    T: Clone + fmt::Debug,
{
    for seed in seeds(rounds) {
        let case = make(&mut Random::new(seed));
        let Some(reason) = failure(|| holds(&case)) else { continue };
        let steps = case.steps.len();
        let (smaller, reason) = shrink(case, reason, |case| failure(|| holds(case)));
        panic!(
            "seed {seed} (RECORDER_TEST_SEED={seed} tries it again): {reason}\nleft of {steps} \
             steps: {smaller:#?}"
        );
    }
}

/// The seeds of a test that tries `rounds` of them in an ordinary run.
pub fn seeds(rounds: u64) -> std::ops::Range<u64> {
    if let Some(seed) = env::var_os("RECORDER_TEST_SEED") {
        let seed = seed.to_str().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.expect("RECORDER_TEST_SEED is a number");
        return seed..seed + 1;
    }
    if !Counts::full() {
        return 0..rounds;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = now.as_secs() * 1_000_000;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test").to_string();
    // Not `println!`: what a test that passes prints is never seen.
    let _ = writeln!(std::io::stderr(), "{name}: seeds from {first}");
    first..first + rounds * FULL
}

/// A test that looks for something rare must have met it: `found` of `what`, `least` at
/// least. One seed alone need not.
///
/// # Panics
/// When it did not.
#[track_caller]
pub fn met(found: u64, least: u64, what: &str) {
    let is_one = env::var_os("RECORDER_TEST_SEED").is_some();
    assert!(found >= least || is_one, "only {found} {what}, not {least}");
}

/// Why `work` panics; `None` when it does not.
pub fn failure(work: impl FnOnce()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let ordinary = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.with_borrow(|catching| *catching) {
                CAUGHT.set(Some(info.to_string()));
            } else {
                ordinary(info);
            }
        }));
    });
    let before = CATCHING.replace(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    let reason = CAUGHT.take();
    ended.err().map(|_| reason.unwrap_or_else(|| "it panics without a word".to_string()))
}

/// The smallest case that still fails: steps are left out, first halves, then ever
/// smaller parts.
fn shrink<S: Clone, T: Clone>(
    mut case: Case<S, T>,
    mut reason: String,
    fails: impl Fn(&Case<S, T>) -> Option<String>,
) -> (Case<S, T>, String) {
    let started = Instant::now();
    let mut tried = 0;
    let mut part = case.steps.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        let mut smaller = false;
        while from < case.steps.len() {
            if tried == SHRINKS_MAX || started.elapsed() > SHRINK_TIME {
                return (case, reason);
            }
            tried += 1;
            let mut without = case.clone();
            without.steps.drain(from..(from + part).min(case.steps.len()));
            match fails(&without) {
                Some(why) => {
                    (case, reason, smaller) = (without, why, true);
                }
                None => from += part,
            }
        }
        part = if part == 1 && smaller { 1 } else { part / 2 };
    }
    (case, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(random: &mut Random) -> Case<(), u64> {
        Case { setup: (), steps: (0..200).map(|_| random.below(20)).collect() }
    }

    /// The harness itself: a property that does not hold is found, and of two hundred
    /// steps the two are shown that it takes.
    #[test]
    fn what_does_not_hold_is_found_and_made_small() {
        let reason = failure(|| {
            check(100, numbers, |case| {
                let sevens = case.steps.iter().filter(|step| **step == 7).count();
                assert!(sevens < 2, "{sevens} sevens");
            });
        });
        let reason = reason.expect("two of two hundred numbers below twenty are seven");
        assert!(reason.contains("2 sevens"), "{reason}");
        assert!(reason.contains("RECORDER_TEST_SEED="), "{reason}");
        let (_, left) = reason.split_once("left of 200 steps").expect("it says what is left");
        assert!(left.matches("7,").count() == 2 && !left.contains("8,"), "{reason}");
    }

    #[test]
    fn what_holds_is_tried_with_different_inputs() {
        let seen = RefCell::new(std::collections::BTreeSet::new());
        check(20, numbers, |case| {
            seen.borrow_mut().insert(case.steps.clone());
        });
        met(seen.borrow().len() as u64, 2, "different inputs");
    }
}
