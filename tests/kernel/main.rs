//! Tests that need a live kernel and root: `cargo xtask test`, and in virtual
//! machines `cargo xtask vm`. They run one after the other: each counts what the
//! whole machine does.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod alerting;
mod arguments;
mod bad_input;
mod calls;
mod confinement;
mod containers;
mod descriptors;
mod doors;
mod dumps;
mod entered;
mod hostile;
mod ledger;
mod life;
mod memory;
mod million;
mod moments;
mod network;
mod oracle;
mod privacy;
mod privileges;
mod processes;
mod rollups;
mod rules;
mod service;
mod spool;
mod unfinished;
mod watched;
mod window;
mod zombies;

#[test]
fn the_kernel_has_a_version() {
    let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    println!("kernel {version}");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
}
