//! What recording costs on this machine, beside what it should cost.
//!
//! Every figure is a median of rounds in which the things compared follow one
//! another closely: machines drift, and others work on them. Nothing is asserted
//! about time; what must hold (calls arrive, ledgers close) is.
//!
//! Started by `cargo xtask bench`, which builds the recorder and the floor.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on ends the run, and says what was missing"
)]

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use recorder_tests::{TestDirectory, figures::Report};

mod calls;
mod compile;
mod dump;
mod floor;
mod load;
mod machine;
mod null;
mod parts;
mod peers;
mod plan;
mod quiet;
mod replay;
mod servers;

use plan::Plan;
use quiet::Quiet;

#[derive(Parser)]
#[command(name = "recorder-bench", about = "Started by `cargo xtask bench`")]
struct Args {
    /// One JSON object on standard output instead of text
    #[arg(long)]
    json: bool,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Thirty million events in the large window
    #[arg(long)]
    full: bool,
    /// Only this part; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// The object with the floor's programs
    #[arg(long)]
    floor: PathBuf,
}

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Null,
    Redis,
    Nginx,
    Compile,
    Dump,
    Peers,
}

fn main() {
    let args = Args::parse();
    let plan = Plan::new(args.quick, args.full);
    let directory = TestDirectory::new();
    let mut quiet = Quiet::begin(plan.wait);
    let mut report = Report { machine: machine::facts(), ..Report::default() };
    if !args.json {
        println!("{}", report.machine_text());
    }
    for part in Part::value_variants() {
        if !args.only.is_empty() && !args.only.contains(part) {
            continue;
        }
        let sections = match part {
            Part::Null => vec![null::measure(&plan, &args.floor, &mut quiet)],
            Part::Redis => vec![servers::redis(&plan, &directory, &mut quiet)],
            Part::Nginx => servers::nginx(&plan, &directory, &mut quiet),
            Part::Compile => vec![compile::measure(&plan, &directory, &mut quiet)],
            Part::Dump => dump::measure(&plan, &directory),
            Part::Peers => peers::measure(&directory),
        };
        for section in sections {
            if !args.json {
                println!("{}", section.text());
            }
            report.sections.push(section);
        }
    }
    report.machine.push(("load after".to_string(), machine::load_average()));
    report.machine.extend(quiet.facts());
    if args.json {
        println!("{:#}", report.json());
    } else {
        println!("{}\n{}", report.machine_text(), report.targets_text().trim_end());
    }
}
