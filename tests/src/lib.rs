//! The harness.

pub mod synth;
