//! The tests as a build server runs them.

use std::{fs, process::Command, thread};

use anyhow::{Result, bail};

use crate::{process, test};

/// Says where it runs, then tests; a stage that was skipped is a failure here,
/// because nobody reads the output of a green build.
pub(crate) fn run() -> Result<()> {
    println!("{}", process::capture(Command::new("rustc").arg("--version"))?.trim_end());
    println!("{}", process::capture(process::cargo().arg("--version"))?.trim_end());
    println!("kernel {}", process::capture(Command::new("uname").arg("-srm"))?.trim_end());
    println!("{}", machine());
    println!();

    let summary = test::run_stages(&test::Options::default())?;
    if !summary.skipped.is_empty() {
        bail!("{} stages were skipped: {}", summary.skipped.len(), summary.skipped.join(", "));
    }
    Ok(())
}

fn machine() -> String {
    let processors = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("unknown");
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    format!("{}, {processors} processors, memory {}", name.trim_matches('"'), total.trim())
}
