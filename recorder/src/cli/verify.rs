//! `recorder verify`.

use std::io::Write as _;

use super::{
    Exit, Failure, FileArgument,
    output::{grouped, progress, to_stdout},
};
use crate::snapshot::verify;

/// Complaints printed before the rest is counted.
const SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = &arguments.input.file;
    let bar = progress(0, false);
    let verdict = verify(path, &mut |bytes, of| {
        bar.set_length(of);
        bar.set_position(bytes);
    })?;
    bar.finish_and_clear();
    let (blocks, events) = (grouped(verdict.blocks), grouped(verdict.events));
    to_stdout(|out| {
        for complaint in verdict.complaints.iter().take(SHOWN_MAX) {
            writeln!(out, "{complaint}")?;
        }
        let more = verdict.complaints.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            writeln!(out, "... and {more} more")?;
        }
        if verdict.complaints.is_empty() {
            writeln!(out, "{}: whole, {blocks} blocks, {events} events", path.display())?;
        }
        Ok(())
    })?;
    if verdict.complaints.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::BadData,
        format!("{} is damaged: {blocks} blocks with {events} events are whole", path.display()),
    ))
}
