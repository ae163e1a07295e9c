//! Every check and test this machine can run, cheapest first.

use std::{fs, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench,
    dist::{self, Made},
    fuzz, process, setup, tidy, toolchain, workspace,
};

/// How much to test.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Run the tests in their full length
    #[arg(long)]
    pub(crate) full: bool,
    /// Run only tests whose name contains NAME, and no checks
    #[arg(long, value_name = "NAME")]
    pub(crate) filter: Option<String>,
}

/// What a run came to.
pub(crate) struct Summary {
    passed: usize,
    /// One line for each stage that could not run here.
    pub(crate) skipped: Vec<String>,
}

/// Runs all stages, stops at the first that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_stages(options).map(|_| ())
}

/// As [`run`], and tells what was skipped.
pub(crate) fn run_stages(options: &Options) -> Result<Summary> {
    let mut summary = Summary { passed: 0, skipped: Vec::new() };
    summary.stage("setup", || {
        setup::run(&setup::Options { tests: true, full: options.full, ..setup::Options::default() })
    })?;
    if options.filter.is_none() {
        checks(&mut summary)?;
    }
    tests(&mut summary, options)?;

    for reason in &summary.skipped {
        println!("skipped: {reason}");
    }
    println!("test: {} stages passed, {} skipped", summary.passed, summary.skipped.len());
    Ok(summary)
}

fn checks(summary: &mut Summary) -> Result<()> {
    summary.stage("tidy", tidy::run)?;
    summary.stage("format", || process::run(cargo().args(["fmt", "--all", "--check"])))?;
    summary.stage("clippy", || {
        process::run(cargo().args(["clippy", "--workspace", "--all-targets"]).args([
            "--features",
            "recorder-tests/kernel,recorder-tests/bench",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    summary.stage("clippy of the offline half", || {
        process::run(
            cargo()
                .args(["clippy", "-p", "recorder", "--no-default-features", "--all-targets"])
                .args(["--", "-D", "warnings"]),
        )
    })?;
    summary.stage("kernel programs for aarch64", || build_kernel_programs("aarch64"))
}

fn tests(summary: &mut Summary, options: &Options) -> Result<()> {
    // Tests start the recorder as a program; cargo builds that only for tests
    // of its own package.
    let mut made = None;
    summary.stage("build", || {
        made = Some(dist::make(&dist::Options { debug: true })?);
        Ok(())
    })?;
    let made = made.context("the stage before made it")?;
    summary.stage("tests", || {
        let mut command = cargo_test(options, &made)?;
        command.arg("--").args(&options.filter);
        process::run(&mut command)
    })?;
    if options.filter.as_deref().is_none_or(|filter| filter == "fuzz") {
        summary.stage("fuzz", || fuzz::smoke(options.full))?;
    }
    if !process::is_root() {
        summary.skip("kernel tests need root");
        return Ok(());
    }
    summary.stage("kernel tests", || {
        let mut command = cargo_test(options, &made)?;
        command
            .args(["--features", "recorder-tests/kernel", "--test", "kernel"])
            // They share one kernel: its counters, its hooks, its load.
            .args(["--", "--test-threads=1"])
            .args(&options.filter);
        process::run(&mut command)
    })
}

fn cargo() -> Command {
    let mut command = process::cargo();
    command.current_dir(workspace::root());
    command
}

/// All of the workspace at once, always: with `-p` cargo would choose other
/// features for shared dependencies and compile them a second time.
fn cargo_test(options: &Options, made: &Made) -> Result<Command> {
    let mut command = cargo();
    command.args(["test", "--workspace"]);
    command.env("RECORDER_BIN", workspace::target_dir()?.join("debug/recorder"));
    command.env("RECORDER_TEST_PACKAGES", setup::unpacked_folder()?);
    command.env("RECORDER_TEST_TREE", &made.tree);
    if let Some(deb) = &made.deb {
        command.env("RECORDER_TEST_DEB", deb);
    }
    if options.full {
        command.env("RECORDER_TEST_FULL", "1");
    }
    Ok(command)
}

/// The build of the recorder makes the objects of its own architecture; this
/// keeps the other one compiling.
fn build_kernel_programs(arch: &str) -> Result<()> {
    let toolchain = toolchain::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
    let folder = workspace::target_dir()?.join(format!("kernel-{arch}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for object in toolchain::OBJECTS.iter().chain([&bench::FLOOR]) {
        let name = object.file;
        let sources = workspace::root().join("recorder-ebpf");
        let said = toolchain
            .build_object(&sources, arch, object, &[], &folder.join("target"), &folder)
            .map_err(|output| anyhow::anyhow!("{name} for {arch} does not compile\n{output}"))?;
        if !said.is_empty() {
            bail!("{name} for {arch} compiles with warnings\n{said}");
        }
        let out = folder.join(name);
        let size = fs::metadata(&out).with_context(|| format!("no {}", out.display()))?.len();
        println!("{name} for {arch}: {size} bytes");
    }
    Ok(())
}

impl Summary {
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        work().with_context(|| format!("test: stage {name} failed"))?;
        println!("== {name}: passed in {:.1} s\n", start.elapsed().as_secs_f64());
        self.passed += 1;
        Ok(())
    }

    fn skip(&mut self, reason: &str) {
        println!("skipped: {reason}\n");
        self.skipped.push(reason.to_owned());
    }
}
