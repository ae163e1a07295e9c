//! The targets of [`recorder_fuzz`] for libFuzzer. It sees which branches an input takes,
//! and has our changes beside its own: without them nothing comes past a checksum.
//!
//! `cargo xtask fuzz --cargo-fuzz` builds all of them; so does `cargo +nightly fuzz build
//! --fuzz-dir tests/fuzz/cargo-fuzz`.

use recorder_fuzz::{Target, targets};
use recorder_tests::synth::Random;

/// A program that tries the target of this name.
#[macro_export]
macro_rules! try_target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::run($name, input));
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::change($name, (data, size, max_size), seed)
        });
    };
}

fn target(name: &str) -> &'static Target {
    targets::target(name).expect("a target of this name")
}

/// Tries one input.
pub fn run(name: &str, input: &[u8]) {
    let target = target(name);
    if input.len() <= target.bytes_max {
        (target.run)(input);
    }
}

/// Changes the first `size` bytes of `data` into at most `max_size`: as the target knows
/// how, or as libFuzzer does. Answers how many there are then.
pub fn change(name: &str, (data, size, max_size): (&mut [u8], usize, usize), seed: u32) -> usize {
    let target = target(name);
    let mut random = Random::new(u64::from(seed));
    if random.one_in(2) {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let mut input = if size == 0 || random.one_in(50) {
        (target.make)(&mut random)
    } else {
        data[..size].to_vec()
    };
    (target.mutate)(&mut random, &mut input);
    input.truncate(max_size.min(data.len()));
    data[..input.len()].copy_from_slice(&input);
    input.len()
}
