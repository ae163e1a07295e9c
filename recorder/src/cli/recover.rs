//! `recorder recover`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{
    Exit, Failure,
    output::{directory_and_name, grouped, progress, to_stdout},
};
use crate::{
    snapshot::{EXTENSION, RecoverError, Recovered, SnapshotReader, WriteError, recover},
    spool::{self, SpoolError},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A snapshot that is cut or damaged, or the directory of a spool
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Where the saved snapshot goes; without it, beside FILE as NAME-recovered.kfr, or
    /// into the current directory by host and time
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.input;
    if file.is_dir() {
        return run_spool(arguments);
    }
    let output = arguments.output.clone().unwrap_or_else(|| beside(file));
    let (directory, name) = directory_and_name(&output)?;
    // Said before the work is done; it is checked again at the end.
    if !arguments.force && output.exists() {
        return Err(Failure::new(Exit::CannotCreate, WriteError::Exists(output.clone())));
    }
    let reader = SnapshotReader::open_without_header(file)?;
    let bar = progress(reader.bytes(), false);
    let recovered = recover(&reader, (directory, name, arguments.force), &mut |bytes| {
        bar.set_position(bytes);
    });
    bar.finish_and_clear();
    let recovered = recovered.map_err(failure)?;
    eprintln!("recorder: {}", told(file, &recovered));
    to_stdout(|out| writeln!(out, "{}", recovered.path.display()))
}

/// The window a recording left in its spool.
fn run_spool(arguments: &Arguments) -> Result<(), Failure> {
    let directory = &arguments.input;
    let output = arguments.output.as_deref();
    let (into, named) = match output.map(directory_and_name).transpose()? {
        Some((into, name)) => (into, Some((name, arguments.force))),
        None => (Path::new("."), None),
    };
    if let Some(output) = output.filter(|output| !arguments.force && output.exists()) {
        return Err(Failure::new(Exit::CannotCreate, WriteError::Exists(output.to_path_buf())));
    }
    let recovered = spool::recover(directory, into, named).map_err(|error| match error {
        SpoolError::Recover(error) => failure(error),
        SpoolError::Io(..) => Failure::new(Exit::Failed, error),
        SpoolError::Empty(_) => Failure::new(Exit::BadData, error),
    })?;
    eprintln!("recorder: {}", told(directory, &recovered));
    to_stdout(|out| writeln!(out, "{}", recovered.path.display()))
}

fn failure(error: RecoverError) -> Failure {
    match error {
        RecoverError::Nothing(..) => Failure::new(Exit::BadData, error),
        RecoverError::Write(_) => Failure::new(Exit::CannotCreate, error),
    }
}

/// `NAME-recovered.kfr` in the folder of `NAME.kfr`.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-recovered.{EXTENSION}"))
}

/// What was saved and what was not, on one line.
fn told(file: &Path, recovered: &Recovered) -> String {
    let Recovered { blocks, events, absent, complaints, .. } = recovered;
    let saved = format!(
        "{} blocks with {} events of {} are saved",
        grouped(*blocks),
        grouped(*events),
        file.display()
    );
    let Some(first) = complaints.first() else { return format!("{saved}; it was whole") };
    let absent = match absent {
        Some(absent) => format!("{} events are missing", grouped(*absent)),
        None => "nobody knows how many are missing".to_string(),
    };
    let more = match complaints.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("{saved}, {absent}: {first}{more}")
}
