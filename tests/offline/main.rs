//! Tests that need no kernel and no root: files, texts, and programs that are
//! killed. `RECORDER_BLESS=1` rewrites the texts they compare with, and
//! `RECORDER_TEST_FULL=1` makes the random ones twenty times as long.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that panics shows where it failed"
)]

mod aarch64;
mod bad_input;
mod crash;
mod deadline;
mod golden;
mod packaging;
mod privacy;
mod program;
mod properties;
mod recover;
mod rules;
mod scratch;
mod seekable;
mod spool;

/// Some tests ask how much memory something takes.
#[global_allocator]
static ALLOCATOR: recorder_tests::memory::Counting = recorder_tests::memory::Counting;
