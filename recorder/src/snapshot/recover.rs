//! Saving what is whole of a file that is cut or damaged: another one is written, which is
//! complete and says what it has not.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    BlockEntry, FORMAT_VERSION, Header, SnapshotReader, Target, WindowInfo, WriteError,
    read::miscount,
    write::{header_frame, write_frames},
};
use crate::{loss::Missing, window::SealedBlock};

/// Why nothing was saved.
#[derive(Debug)]
pub enum RecoverError {
    /// No block is whole; this is the first complaint.
    Nothing(PathBuf, String),
    /// The other file cannot be written.
    Write(WriteError),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Nothing(path, why) => {
                write!(f, "nothing of {} can be saved: {why}", path.display())
            }
            RecoverError::Write(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RecoverError {}

/// What was saved.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Where it is.
    pub path: PathBuf,
    /// How many blocks there are.
    pub blocks: u64,
    /// How many events, losses and context not counted.
    pub events: u64,
    /// How many events the header counts that are not there; `None` when there is no
    /// header to count them.
    pub absent: Option<u64>,
    /// What is wrong with the first file; empty when it was whole.
    pub complaints: Vec<String>,
}

/// Writes the whole blocks of `reader`, as they are, as `name` into `directory`, where
/// they replace a file only when `replace`. `progress` is called with the bytes read.
pub fn recover(
    reader: &SnapshotReader,
    (directory, name, replace): (&Path, &str, bool),
    progress: &mut dyn FnMut(u64),
) -> Result<Recovered, RecoverError> {
    let asked = Instant::now();
    let mut complaints = reader.complaints().to_vec();
    let mut whole: Vec<BlockEntry> = Vec::with_capacity(reader.blocks().len());
    for entry in reader.blocks() {
        match reader.block(entry) {
            Ok(_) => whole.push(*entry),
            Err(error) => complaints.push(error.to_string()),
        }
        progress(entry.offset + u64::from(entry.frame_bytes));
    }
    if whole.is_empty() {
        let why = complaints.first().cloned().unwrap_or("it has no blocks".to_string());
        return Err(RecoverError::Nothing(reader.path().to_path_buf(), why));
    }
    let mut header = if reader.has_header() { reader.header().clone() } else { unknown(&whole) };
    let counted = header.ledger.in_window;
    if complaints.is_empty() {
        // Whole blocks do not make the books right.
        complaints.extend(miscount(&header, ledger_events(&whole)));
    }
    note_damage(&mut header, &whole, &complaints, "the file that was recovered");
    let events = header.ledger.in_window;
    let absent = reader.has_header().then(|| counted.saturating_sub(events));
    let target = Target::create(directory).map_err(RecoverError::Write)?;
    let blocks = whole.iter().map(|entry| {
        let frame = reader.frame(entry)?;
        Ok(SealedBlock { meta: entry.meta, frame: frame.into(), raw_bytes: entry.raw_bytes })
    });
    let failed =
        |error: io::Error| RecoverError::Write(WriteError::File(directory.join(name), error));
    let head = header_frame(&header, 0).map_err(failed)?;
    write_frames(target.file(), &head, blocks, asked).map_err(failed)?;
    let path = target.finish(name, replace).map_err(RecoverError::Write)?;
    Ok(Recovered { path, blocks: whole.len() as u64, events, absent, complaints })
}

/// A header in the place of one that is lost. Without an architecture no call has a name:
/// it is taken to be that of this machine, and the file says so.
fn unknown(whole: &[BlockEntry]) -> Header {
    let arch = std::env::consts::ARCH.to_string();
    let missing = Missing {
        what: "host, architecture, clocks and books".to_string(),
        why: format!("the header is lost: calls are read as those of {arch}, times as since 1970"),
    };
    let recorded = || whole.iter().filter(|entry| entry.meta.class.has_events());
    Header {
        host: "unknown".to_string(),
        kernel: "unknown".to_string(),
        arch,
        window: WindowInfo {
            start_ns: recorded().map(|entry| entry.meta.first_ns).min().unwrap_or_default(),
            end_ns: recorded().map(|entry| entry.meta.last_ns).max().unwrap_or_default(),
            ..WindowInfo::default()
        },
        missing: vec![missing],
        ..Header::default()
    }
}

/// How many events the books should say these blocks have.
pub(super) fn ledger_events(whole: &[BlockEntry]) -> u64 {
    whole.iter().map(|entry| entry.meta.recorded_events()).sum()
}

/// Says in the books of a file that is written anew that events of the first one, which
/// is called `of_what`, are not in it.
pub(crate) fn note_damage(
    header: &mut Header,
    whole: &[BlockEntry],
    complaints: &[String],
    of_what: &str,
) {
    header.format_version = FORMAT_VERSION;
    let Some(first) = complaints.first() else { return };
    let there = ledger_events(whole);
    let absent = match header.ledger.in_window.saturating_sub(there) {
        0 => "perhaps events".to_string(),
        absent => format!("{absent} events"),
    };
    header.ledger.in_window = there;
    header.ledger.closes = header.ledger.sums_hold();
    header.missing.push(Missing {
        what: format!("{absent} of {of_what}"),
        why: format!("it was damaged: {first}"),
    });
}
