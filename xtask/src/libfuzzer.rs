//! The targets of the fuzzer as programs of libFuzzer: what `cargo fuzz` does, without
//! that program. It needs nightly Rust and the crate `libfuzzer-sys`, so it is no stage
//! of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// What the compiler is told: to count branches and comparisons, and to check memory. Word
/// for word what `cargo fuzz` says, so that neither builds again what the other built.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Zsanitizer=address \
    -Cllvm-args=-sanitizer-coverage-stack-depth -Cdebug-assertions -Ccodegen-units=1";

/// What no input may take: seconds, with everything checked several times as slow as
/// without, and megabytes, of which one piece has at most what all have elsewhere.
const LIMITS: [&str; 4] =
    ["-timeout=10", "-malloc_limit_mb=256", "-rss_limit_mb=2048", "-max_len=65536"];

/// Where things are.
struct Place {
    /// The package of the programs.
    package: PathBuf,
    /// What is built of it.
    target_dir: PathBuf,
    /// The machine's target, as the compiler calls it.
    host: String,
}

/// Builds the programs of `targets`, or of all when there are none; those that are named
/// are run for so many seconds each.
pub(crate) fn run(targets: &[String], seconds: f64) -> Result<()> {
    let Some(host) = nightly_host() else {
        println!("skipped: the programs for libFuzzer need rustup's nightly toolchain");
        return Ok(());
    };
    let package = workspace::root().join("tests/fuzz/cargo-fuzz");
    let place = Place { package, target_dir: workspace::target_dir()?.join("cargo-fuzz"), host };
    take_lock_file(&place.package)?;
    let mut fetch = place.cargo("fetch");
    if !fetch.status().is_ok_and(|status| status.success()) {
        println!("skipped: the programs for libFuzzer need the crate libfuzzer-sys");
        return Ok(());
    }
    place.build(targets)?;
    targets.iter().try_for_each(|target| place.run_one(target, seconds))
}

/// Which target nightly compiles for, if there is a nightly.
fn nightly_host() -> Option<String> {
    let mut ask = nightly("rustc");
    let said = process::capture(ask.arg("-vV").stderr(Stdio::null())).ok()?;
    said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// A program of the nightly toolchain. Looking for one must not download it.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", program]);
    command
}

/// The versions of the workspace are tried, not newer ones.
fn take_lock_file(package: &Path) -> Result<()> {
    let (from, to) = (workspace::root().join("Cargo.lock"), package.join("Cargo.lock"));
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let is_newer = written(&to).is_ok_and(|to| written(&from).is_ok_and(|from| to >= from));
    if !is_newer {
        fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

impl Place {
    fn cargo(&self, verb: &str) -> Command {
        let mut command = nightly("cargo");
        command.arg(verb).arg("--manifest-path").arg(self.package.join("Cargo.toml"));
        command
    }

    fn build(&self, targets: &[String]) -> Result<()> {
        let mut command = self.cargo("build");
        command.args(["--release", "--target", &self.host, "--target-dir"]).arg(&self.target_dir);
        for target in targets {
            command.args(["--bin", target]);
        }
        command.env("RUSTFLAGS", RUSTFLAGS);
        // The programs of the kernel are no part of what is tried.
        command.env("RECORDER_SKIP_KERNEL_OBJECT", "1");
        process::run(&mut command)
    }

    fn run_one(&self, target: &str, seconds: f64) -> Result<()> {
        let found = self.target_dir.join("corpus").join(target);
        let failures = workspace::target_dir()?.join("fuzz");
        for folder in [&found, &failures] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let program = self.target_dir.join(&self.host).join("release").join(target);
        let mut command = Command::new(program);
        // What is found goes into the first folder.
        command.arg(found).arg(workspace::root().join("tests/fuzz/corpus").join(target));
        command.args(LIMITS).arg(format!("-max_total_time={}", seconds.ceil() as u64));
        command.arg(format!("-artifact_prefix={}/{target}-", failures.display()));
        let status = command.status().with_context(|| format!("cannot start {target}"))?;
        if !status.success() {
            bail!("{target}: libFuzzer found something; it is in {}", failures.display());
        }
        Ok(())
    }
}
