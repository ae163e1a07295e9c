//! What a developer of the recorder runs: `cargo xtask <verb>`.
//!
//! One module per verb. The rest serves them: [`toolchain`] finds and runs the
//! compiler of the kernel programs, [`packages`] installs, [`programs`] lists what
//! tests and bench need, [`process`] starts programs, [`workspace`] knows the folders,
//! [`source`] reads Rust well enough for tidy.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ci;
mod demo;
mod dist;
mod fuzz;
mod libfuzzer;
mod packages;
mod process;
mod programs;
mod setup;
mod source;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, try and test the recorder")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the build needs and is not there, and say what that is
    Setup(setup::Options),
    /// Build the recorder, record this machine for a moment, show the result
    Demo,
    /// Make the Debian package, the archive, and the tree of files an image is made of
    Dist(dist::Options),
    /// Run every check and test this machine can run
    Test(test::Options),
    /// Run the tests as a build server does: say where, and allow no skipped stage
    Ci,
    /// Check the rules of the source tree
    Tidy,
    /// Try every parser with inputs that a seed makes
    Fuzz(fuzz::Options),
    /// Run the kernel tests on other kernels, in virtual machines
    Vm(vm::Options),
    /// Measure what recording costs on this machine
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Demo => demo::run(),
        Verb::Dist(options) => dist::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Ci => ci::run(),
        Verb::Tidy => tidy::run(),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Vm(options) => vm::run(&options),
        Verb::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
