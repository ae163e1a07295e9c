//! `recorder scrub`.

use std::{io::Write as _, path::PathBuf};

use super::{
    Exit, Failure, FileArgument,
    output::{directory_and_name, progress, to_stdout},
};
use crate::{
    privacy::{Rules, check_words},
    snapshot::{ScrubError, SnapshotReader, Wanted, WriteError, scrub},
};

/// Texts that may be asked for.
const TEXTS_MAX: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
    /// Where the scrubbed snapshot goes
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Also mask what stands behind this name, as in the configuration
    #[arg(long, value_name = "NAME")]
    word: Vec<String>,
    /// Also mask this text wherever it stands
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// Also leave out what programs read, wrote, sent and received (record --snaplen)
    #[arg(long)]
    payload: bool,
    /// Scrub what is whole of a damaged file
    #[arg(long)]
    damaged: bool,
    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let rules = rules(arguments).map_err(|error| Failure::new(Exit::Usage, error))?;
    let output = &arguments.output;
    let (directory, name) = directory_and_name(output)?;
    // Said before the work is done; it is checked again at the end.
    if !arguments.force && output.exists() {
        return Err(Failure::new(Exit::CannotCreate, WriteError::Exists(output.clone())));
    }
    let reader = SnapshotReader::open(&arguments.input.file)?;
    let bar = progress(reader.bytes() * 2, false);
    let wanted = Wanted { damaged: arguments.damaged, payload: arguments.payload };
    let to = (directory, name, arguments.force);
    let scrubbed = scrub(&reader, rules, to, wanted, &mut |bytes| {
        bar.set_position(bytes);
    });
    bar.finish_and_clear();
    let scrubbed = scrubbed.map_err(failure)?;
    to_stdout(|out| writeln!(out, "{}", scrubbed.path.display()))?;
    super::replay::damaged(&reader, &scrubbed.complaints)
}

fn rules(arguments: &Arguments) -> Result<Rules, String> {
    let words = check_words(&arguments.word)?;
    if arguments.text.len() > TEXTS_MAX {
        return Err(format!("{} texts, at most {TEXTS_MAX}", arguments.text.len()));
    }
    if let Some(short) = arguments.text.iter().find(|text| text.len() < 3) {
        return Err(format!("`{short}` is too short a text: it would be everywhere"));
    }
    let texts = arguments.text.iter().map(|text| text.as_bytes().to_vec()).collect();
    Ok(Rules { words, texts, ..Rules::default() })
}

fn failure(error: ScrubError) -> Failure {
    let exit = match error {
        ScrubError::Read(error) => return error.into(),
        ScrubError::Damaged(..) | ScrubError::Arch(_) => Exit::BadData,
        ScrubError::Write(_) => Exit::CannotCreate,
        ScrubError::Header(_) => Exit::Failed,
    };
    Failure::new(exit, error)
}
