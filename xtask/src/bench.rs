//! Builds the recorder as it ships and measures what it costs on this machine.
//!
//! The measuring itself is the program `recorder-bench` of the package `tests`;
//! this verb installs what it starts, builds it, and gives it a place on disk.

use std::{env, fs, io, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    process,
    toolchain::{self, KernelObject},
    workspace,
};

/// The programs that say what any program on the same hooks costs.
pub(crate) const FLOOR: KernelObject =
    KernelObject { file: "recorder-floor.o", bin: "recorder-floor", features: &["floor"] };

/// What to measure, and how it is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One JSON object on standard output instead of text
    #[arg(long)]
    json: bool,
    /// Fewer and shorter rounds: about a minute, and noisier figures
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Fill the large window with thirty million events
    #[arg(long)]
    full: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
}

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a call that does nothing costs
    Null,
    /// A key-value server
    Redis,
    /// A web server, with and without keep-alive
    Nginx,
    /// Compilers, started one after the other
    Compile,
    /// A large window on disk and back, and the memory it takes
    Dump,
    /// The same loads as perf, strace and the kernel's tracer store them
    Peers,
}

/// Builds, then measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !process::is_root() {
        bail!("recording the kernel needs root: run `cargo xtask bench` as root");
    }
    // Standard output is for the figures.
    let mut setup = Command::new(env::current_exe().context("where this program is")?);
    process::run(setup.args(["setup", "--bench"]).stdout(io::stderr()))?;
    let target = workspace::target_dir()?;
    let objects = target.join("bench");
    fs::create_dir_all(&objects).with_context(|| format!("cannot create {}", objects.display()))?;
    build_floor(&objects)?;
    let mut build = process::cargo();
    build.current_dir(workspace::root()).args(["build", "--release"]);
    build.args(["-p", "recorder", "-p", "recorder-tests"]);
    build.args(["--features", "recorder-tests/bench"]);
    build.args(["--bin", "recorder", "--bin", "recorder-bench"]);
    process::run(&mut build)?;

    // Not the folder for temporary files, which may be memory: dumps are measured
    // on a disk.
    let place = target.join(format!("bench-{}", std::process::id()));
    fs::create_dir(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let mut bench = Command::new(target.join("release/recorder-bench"));
    bench.args(options.words()).arg("--floor").arg(objects.join(FLOOR.file));
    bench.env("RECORDER_BIN", target.join("release/recorder")).env("TMPDIR", &place);
    let measured = process::run(&mut bench);
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    measured
}

impl Options {
    /// As arguments of `recorder-bench`.
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let flags = [(self.json, "--json"), (self.quick, "--quick"), (self.full, "--full")];
        words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned()));
        for part in self.only.iter().filter_map(ValueEnum::to_possible_value) {
            words.push(format!("--only={}", part.get_name()));
        }
        words
    }
}

fn build_floor(folder: &Path) -> Result<()> {
    let toolchain = toolchain::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
    let sources = workspace::root().join("recorder-ebpf");
    toolchain
        .build_object(&sources, env::consts::ARCH, &FLOOR, &[], &folder.join("kernel"), folder)
        .map(drop)
        .map_err(|output| anyhow::anyhow!("{} does not compile\n{output}", FLOOR.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_handed_on() {
        let options =
            Options { json: true, quick: true, full: false, only: vec![Part::Null, Part::Dump] };
        assert_eq!(options.words(), ["--json", "--quick", "--only=null", "--only=dump"]);
    }
}
