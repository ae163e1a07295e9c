//! Every parser, tried with inputs that a seed makes: `cargo xtask fuzz`.
//!
//! A [`Target`] is a parser as `fn(&[u8])` that panics where something is not as it
//! must be, and what is known of its inputs: where to begin, how to change one so that
//! it stays near to what the parser takes, and what it may cost. The functions in
//! [`targets`] need nothing of the rest: another fuzzer can call them.
//!
//! No instrumentation is needed. Targets say themselves what they met ([`met`]), and an
//! input that met something new is kept and changed further. The same seed gives the
//! same inputs. What is worth keeping for longer is in `tests/fuzz/corpus` ([`corpus`]):
//! every run begins with it, and an ordinary test tries all of it.
//!
//! No input may take more than a second or 256 MiB, whatever threads it starts. Where
//! there are nightly Rust and `libfuzzer-sys`, `tests/fuzz/cargo-fuzz` builds the same
//! targets and changes for libFuzzer, which sees which branches an input takes.
//!
//! Some targets are canaries: they have a bug, each of another kind, and the fuzzer is
//! only believed while it finds them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a target that panics is how a bug is found"
)]

use std::{
    cell::RefCell,
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash},
};

use recorder_tests::synth::Random;

pub mod corpus;
pub mod mutate;
pub mod run;
pub mod targets;

/// What no input may take, where a target does not say less.
pub const MEMORY_BYTES_MAX: usize = 256 << 20;

/// A parser, and what is known of its inputs.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and the folder of its corpus.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// An input the parser takes.
    pub make: fn(&mut Random) -> Vec<u8>,
    /// Changes an input, knowing what it is made of.
    pub mutate: fn(&mut Random, &mut Vec<u8>),
    /// Smaller inputs that are still made of the same, most promising first.
    pub smaller: fn(&[u8]) -> Vec<Vec<u8>>,
    /// Makes lengths and checksums right.
    pub mend: fn(&mut Vec<u8>),
    /// The longest input tried.
    pub bytes_max: usize,
    /// What one input may take of memory at its peak.
    pub memory_bytes_max: usize,
    /// It has a bug on purpose.
    pub is_canary: bool,
}

thread_local! {
    static MET: RefCell<HashSet<u64>> = RefCell::new(HashSet::new());
    static IS_NEW: RefCell<bool> = const { RefCell::new(false) };
}

/// A target met `what` with this input: an error, a branch, a size. Few different ones
/// say more than many.
pub fn met(what: impl Hash) {
    let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(what);
    if MET.with_borrow_mut(|met| met.insert(hash)) {
        IS_NEW.set(true);
    }
}

/// The same for a message: numbers in it do not make it another one.
pub fn met_error(what: &str, error: &dyn std::fmt::Display) {
    let text = error.to_string();
    // What is quoted is the input's own.
    let said = text.split(['"', '`', '\'']).next().unwrap_or_default();
    let words: Vec<&str> = said
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() > 2)
        .take(6)
        .collect();
    met((what, words));
}

/// What `work` meets, and nothing that was met before.
pub fn met_by(work: impl FnOnce()) -> HashSet<u64> {
    let before = MET.take();
    work();
    MET.replace(before)
}

/// Forgets what was met.
pub fn forget() {
    MET.with_borrow_mut(HashSet::clear);
}

/// Whether something was met for the first time since this was asked last.
pub fn has_met_something() -> bool {
    IS_NEW.replace(false)
}

/// How many different things were met.
pub fn things_met() -> usize {
    MET.with_borrow(HashSet::len)
}
