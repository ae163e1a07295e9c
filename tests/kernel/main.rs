//! Tests that need a live kernel and root: `cargo xtask test`, and in virtual
//! machines `cargo xtask vm`. They run one after the other: each counts what the
//! whole machine does.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod calls;
mod ledger;
mod life;
mod network;
mod processes;
mod unfinished;
mod window;
