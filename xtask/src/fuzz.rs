//! Tries the parsers with inputs that a seed makes. The program that does so is
//! `tests/fuzz`; this builds it and says where its files are.

use std::{path::PathBuf, process::Command, time::SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::{libfuzzer, process, workspace};

/// Which targets, how long, and with which inputs.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these targets; all otherwise
    target: Vec<String>,
    /// Makes the inputs: the same seed, the same inputs. From the clock otherwise
    #[arg(long)]
    seed: Option<u64>,
    /// How long each target is tried
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// How many inputs, instead of a time
    #[arg(long)]
    inputs: Option<u64>,
    /// Try this input and no other
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Add inputs that meet something new to tests/fuzz/corpus, drop those that others replace
    #[arg(long)]
    keep: bool,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// Build the targets for libFuzzer, where there is nightly Rust, and run those that are
    /// named
    #[arg(long)]
    cargo_fuzz: bool,
}

/// How many targets have a bug on purpose.
const CANARIES: usize = 6;

/// The verb.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.cargo_fuzz {
        return libfuzzer::run(&options.target, options.seconds);
    }
    process::run(process::cargo().current_dir(workspace::root()).args(["build", "--workspace"]))?;
    let mut command = program()?;
    command.args(&options.target);
    let seed = options.seed.map_or_else(seed_of_the_clock, Ok)?;
    command.args(["--seed", &seed.to_string(), "--seconds", &options.seconds.to_string()]);
    if let Some(inputs) = options.inputs {
        command.args(["--inputs", &inputs.to_string()]);
    }
    if let Some(input) = &options.input {
        // Cargo runs us in another folder than we were called in.
        let input = std::path::absolute(input).context("the input has no path")?;
        command.arg("--input").arg(input);
    }
    for (flag, is_set) in [("--keep", options.keep), ("--list", options.list)] {
        command.args(is_set.then_some(flag));
    }
    process::run(&mut command)
}

/// A stage of the tests: every target for a moment, or for a minute when `full`; and
/// the canaries, which must be found.
pub(crate) fn smoke(full: bool) -> Result<()> {
    let seed = if full { seed_of_the_clock()? } else { 1 };
    let seconds = if full { "60" } else { "0.4" };
    let seed = seed.to_string();
    process::run(program()?.args(["--seed", &seed, "--seconds", seconds]))?;
    let line =
        process::capture(program()?.args(["--canaries", "--seed", &seed, "--seconds", "60"]))?;
    let found = line.matches("FOUND").count();
    println!("{found} canaries, each with a bug of its own, are found");
    if found < CANARIES {
        bail!("only {found} of {CANARIES} canaries are found: what is not found says nothing");
    }
    Ok(())
}

fn program() -> Result<Command> {
    let target = workspace::target_dir()?;
    let mut command = Command::new(target.join("debug/recorder-fuzz"));
    command.arg("--failures").arg(target.join("fuzz"));
    command.arg("--corpus").arg(workspace::root().join("tests/fuzz/corpus"));
    Ok(command)
}

/// A seed nobody asked for, said so that it can be given again.
pub(crate) fn seed_of_the_clock() -> Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.context("the clock is before 1970")?.as_secs();
    println!("seed {seed}");
    Ok(seed)
}
