//! `cargo xtask fuzz`: tries targets, one process each, so that whatever an input does
//! to its process is found.

#![expect(clippy::expect_used, reason = "a program of the tests that cannot go on says where")]

use std::{
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use recorder_fuzz::{
    MEMORY_BYTES_MAX, Target, corpus,
    run::{Found, Order, Outcome, POOL_MAX, found_line, run, tried},
    targets::{BYTES_MAX, TARGETS, target},
};
use rustix::process::{Resource, Rlimit, setrlimit};

#[global_allocator]
static ALLOCATOR: recorder_tests::memory::Counting = recorder_tests::memory::Counting;

/// What a thread of the daemon has.
const STACK_BYTES: usize = 2 << 20;

/// What a process that tries may take in all: what an input may, what is kept of others,
/// and a little. The allocator counts better, but not what libraries in C take.
const DATA_BYTES_MAX: usize = MEMORY_BYTES_MAX + POOL_MAX * BYTES_MAX + (128 << 20);

#[derive(Debug, Parser)]
#[command(about = "Try the parsers of the recorder with inputs that a seed makes")]
struct Arguments {
    /// Only these targets; all but the canaries otherwise
    target: Vec<String>,
    /// Makes the inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each target is tried
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many inputs, instead of a time: the same seed then tries the same ones
    #[arg(long)]
    inputs: Option<u64>,
    /// Try this input and no other
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Add inputs that meet something new to the corpus, and drop those that others replace
    #[arg(long)]
    keep: bool,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// Canaries must be found: fail when one is not
    #[arg(long)]
    canaries: bool,
    /// Where inputs that fail are put
    #[arg(long, value_name = "FOLDER")]
    failures: Option<PathBuf>,
    /// Where the corpus is
    #[arg(long, value_name = "FOLDER")]
    corpus: Option<PathBuf>,
    /// Be the process that tries
    #[arg(long, hide = true)]
    worker: bool,
    /// Put each input here before it is tried
    #[arg(long, hide = true)]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    match began(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn began(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        for target in TARGETS {
            println!("{:<14} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let targets = targets(arguments)?;
    if arguments.worker {
        let target = *targets.first().context("a worker has one target")?;
        return Ok(on_a_small_stack(target, arguments.clone_order(target)?));
    }
    if let Some(path) = &arguments.input {
        let target = *targets.first().context("name the target of the input")?;
        let input = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(one_input(target, input));
    }
    let mut failed = Vec::new();
    for target in targets {
        let is_found = !supervised(target, arguments)?;
        if is_found != (arguments.canaries && target.is_canary) {
            failed.push(target.name);
        }
        if arguments.keep {
            tidy_corpus(target, arguments)?;
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let what = if arguments.canaries { "not as expected" } else { "found something" };
    println!("fuzz: {what}: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn targets(arguments: &Arguments) -> Result<Vec<&'static Target>> {
    if arguments.target.is_empty() {
        let wanted = |target: &&Target| target.is_canary == arguments.canaries;
        return Ok(TARGETS.iter().filter(wanted).collect());
    }
    let named = |name: &String| {
        target(name).with_context(|| format!("there is no target {name}; --list lists them"))
    };
    arguments.target.iter().map(named).collect()
}

impl Arguments {
    fn corpus_of(&self, target: &Target) -> PathBuf {
        let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
        self.corpus.clone().unwrap_or_else(own).join(target.name)
    }

    fn failures(&self) -> PathBuf {
        self.failures.clone().unwrap_or_else(|| env::temp_dir().join("recorder-fuzz"))
    }

    fn clone_order(&self, target: &Target) -> Result<Order> {
        let time = Duration::try_from_secs_f64(self.seconds).context("--seconds is a time")?;
        Ok(Order {
            seed: self.seed,
            time,
            inputs: self.inputs,
            corpus: self.corpus_of(target),
            failures: self.failures(),
            trace: self.trace.clone(),
            keep: self.keep,
        })
    }
}

fn limit_memory() {
    let limit = Some(DATA_BYTES_MAX as u64);
    let limited = setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit });
    limited.expect("a process may limit itself");
}

/// Runs a target in this process.
fn on_a_small_stack(target: &'static Target, order: Order) -> ExitCode {
    limit_memory();
    let work = move || match run(target, &order) {
        Ok(outcome) => {
            println!("{}", outcome_line(target, &outcome));
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("{}", found_line(target.name, &found));
            ExitCode::FAILURE
        }
    };
    let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    worker.expect("a thread can be started").join().unwrap_or(ExitCode::FAILURE)
}

fn outcome_line(target: &Target, outcome: &Outcome) -> String {
    let seconds = outcome.time.as_secs_f64().max(1e-9);
    format!(
        "{:<14}{:>10} inputs in {seconds:>5.1} s, {:>8.0}/s; met {:>4} things, kept {:>4}; at most \
         {:>6.2} MiB and {:>4} ms",
        target.name,
        outcome.inputs,
        outcome.inputs as f64 / seconds,
        outcome.met,
        outcome.kept,
        outcome.memory_bytes as f64 / f64::from(1 << 20),
        outcome.slowest.as_millis()
    )
}

/// Tries one input and says what becomes of it.
fn one_input(target: &'static Target, input: Vec<u8>) -> ExitCode {
    limit_memory();
    let work = move || {
        let (bytes, failed) = tried(target, &input);
        match failed {
            Some(reason) => {
                println!("{}: FOUND: {reason}", target.name);
                ExitCode::FAILURE
            }
            None => {
                println!("{}: nothing is wrong with it, {bytes} bytes of memory", target.name);
                ExitCode::SUCCESS
            }
        }
    };
    let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    worker.expect("a thread can be started").join().unwrap_or(ExitCode::FAILURE)
}

/// Tries a target in a process of its own; answers whether nothing was found.
fn supervised(target: &Target, arguments: &Arguments) -> Result<bool> {
    let status = worker(target, arguments)?.status().context("cannot start a worker")?;
    let Some(signal) = status.signal() else { return Ok(status.success()) };
    // What killed it is not known: again, the same inputs, each written down before.
    let failures = arguments.failures();
    fs::create_dir_all(&failures).with_context(|| format!("cannot make {}", failures.display()))?;
    let trace = failures.join(format!("{}-killed", target.name));
    let mut again = worker(target, arguments)?;
    // No end but the same: the time is not.
    again.arg("--trace").arg(&trace).args(["--inputs", "1000000000"]);
    let status = again.stderr(Stdio::null()).status().context("cannot start a worker")?;
    let bytes = fs::metadata(&trace).map_or(0, |trace| trace.len()) as usize;
    if status.signal().is_none() {
        bail!("{}: killed by signal {signal}, but not again", target.name);
    }
    let reason = format!("the process is killed by signal {signal}");
    println!("{}", found_line(target.name, &Found { reason, path: trace, bytes: (bytes, bytes) }));
    Ok(false)
}

fn worker(target: &Target, arguments: &Arguments) -> Result<Command> {
    let own = env::current_exe().context("this program has no path")?;
    let mut command = Command::new(own);
    command.args([target.name, "--worker"]);
    command.args(["--seed", &arguments.seed.to_string()]);
    command.args(["--seconds", &arguments.seconds.to_string()]);
    command.arg("--failures").arg(arguments.failures());
    if let Some(inputs) = arguments.inputs {
        command.args(["--inputs", &inputs.to_string()]);
    }
    if let Some(corpus) = &arguments.corpus {
        command.arg("--corpus").arg(corpus);
    }
    if arguments.keep {
        command.arg("--keep");
    }
    Ok(command)
}

/// Drops from the corpus what is not worth its place.
fn tidy_corpus(target: &Target, arguments: &Arguments) -> Result<()> {
    let folder = arguments.corpus_of(target);
    let kept = corpus::tidy(target, &folder)
        .with_context(|| format!("cannot tidy {}", folder.display()))?;
    println!("{}: the corpus has {kept} inputs", target.name);
    Ok(())
}
