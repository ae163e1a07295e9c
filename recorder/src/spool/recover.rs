//! A snapshot of what a recording left in its spool.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{PART_EXTENSION, PARTS, part_path};
use crate::{
    clock::ClockAnchor,
    context::Processes,
    event::{Class, syscall::Abi},
    loss::{Ledger, Missing},
    snapshot::{
        BlockEntry, Header, RecoverError, Recovered, SnapshotReader, SpoolPart, Target, WindowInfo,
        WriteError, header_frame, note_damage, snapshot_name, write_frames,
    },
    trigger::Trigger,
    window::{Block, FrozenWindow, SealedBlock, WindowLimits, begin_with},
};

/// Why a spool cannot be read.
#[derive(Debug)]
pub enum SpoolError {
    /// The directory cannot be read.
    Io(PathBuf, io::Error),
    /// There is nothing in it.
    Empty(PathBuf),
    /// Nothing could be saved.
    Recover(RecoverError),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpoolError::Io(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            SpoolError::Empty(path) => write!(
                f,
                "{} has no recording in it: a spool has files named 0.{PART_EXTENSION} to {}",
                path.display(),
                PARTS - 1
            ),
            SpoolError::Recover(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SpoolError {}

impl From<RecoverError> for SpoolError {
    fn from(error: RecoverError) -> SpoolError {
        SpoolError::Recover(error)
    }
}

/// What a spool has of one recording: parts one after the other, none of them missing.
pub struct SpoolSession {
    name: String,
    directory: PathBuf,
    parts: Vec<(SpoolPart, SnapshotReader)>,
}

impl SpoolSession {
    /// Which recording it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn last_wall_ns(&self) -> i64 {
        self.parts.last().map_or(i64::MIN, |(_, reader)| reader.header().clock.wall_ns)
    }
}

/// The recordings a spool has something of, the newest last.
pub fn sessions(directory: &Path) -> Result<Vec<SpoolSession>, SpoolError> {
    let failed = |error| SpoolError::Io(directory.to_path_buf(), error);
    let mut by_name: BTreeMap<String, Vec<(SpoolPart, SnapshotReader)>> = BTreeMap::new();
    fs::read_dir(directory).map_err(failed)?;
    for path in (0..PARTS).map(|part| part_path(directory, part)) {
        // Nothing that leads elsewhere.
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        // One that is being made anew has no header.
        let Ok(reader) = SnapshotReader::open_part(&path) else { continue };
        let Some(part) = reader.header().spool.clone() else { continue };
        by_name.entry(part.session.clone()).or_default().push((part, reader));
    }
    let mut sessions: Vec<SpoolSession> = by_name
        .into_iter()
        .map(|(name, mut parts)| {
            parts.sort_by_key(|(part, _)| part.sequence);
            let follows = |at: &usize| {
                let (before, after) = (&parts[at - 1].0, &parts[*at].0);
                before.sequence.checked_add(1) != Some(after.sequence)
            };
            let begins = (1..parts.len()).rev().find(follows).unwrap_or_default();
            SpoolSession {
                name,
                directory: directory.to_path_buf(),
                parts: parts.split_off(begins),
            }
        })
        .collect();
    sessions.sort_by_key(SpoolSession::last_wall_ns);
    Ok(sessions)
}

/// Makes a snapshot of the newest recording a spool has something of; `to` as for
/// [`recover_session`].
pub fn recover(
    directory: &Path,
    into: &Path,
    named: Option<(&str, bool)>,
) -> Result<Recovered, SpoolError> {
    let newest = sessions(directory)?.pop();
    let newest = newest.ok_or_else(|| SpoolError::Empty(directory.to_path_buf()))?;
    recover_session(newest, into, named)
}

/// A block of a part.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    entry: BlockEntry,
}

/// Makes a snapshot of a recording, of the last minutes that its window had: in `into`, by
/// the name that is given, where it replaces a file only when that is said, or by the
/// moment of its last event.
pub fn recover_session(
    session: SpoolSession,
    into: &Path,
    named: Option<(&str, bool)>,
) -> Result<Recovered, SpoolError> {
    let asked = Instant::now();
    let Some((_, last)) = session.parts.last() else {
        return Err(SpoolError::Empty(session.directory));
    };
    let mut header = last.header().clone();
    let native = Abi::native(&header.arch).unwrap_or(Abi::X86_64);
    let complaints: Vec<String> =
        session.parts.iter().flat_map(|(_, reader)| reader.complaints().to_vec()).collect();
    let places = places(&session);
    let recorded = || places.iter().filter(|place| is_recorded(&place.entry));
    let Some(end_ns) = recorded().map(|place| place.entry.meta.last_ns).max() else {
        let why = complaints.first().cloned().unwrap_or("it has no events".to_string());
        return Err(RecoverError::Nothing(session.directory, why).into());
    };
    // A clock that a damaged event has must not cost the others their place.
    let end_ns = end_ns.min(header.clock.monotonic_ns.saturating_add(SPAN_NS_MAX));
    let oldest_ns = end_ns.saturating_sub(header.window.asked_ns);
    let mut window = state(&session, &places, &header, native, oldest_ns)?;
    let context = window.context();
    let state = window.blocks;
    let others: Vec<Place> = recorded()
        .filter(|place| place.entry.meta.class != Class::State)
        .filter(|place| place.entry.meta.last_ns >= oldest_ns)
        .copied()
        .collect();

    // All of them, however long ago: they are small.
    let rollups = places.iter().filter(|place| place.entry.meta.class == Class::Rollup);
    let rollups: Vec<Place> = rollups.copied().collect();

    let metas = || {
        let others = others.iter().map(|place| &place.entry.meta);
        state.iter().map(Block::meta).chain(others)
    };
    header.window = WindowInfo::of(metas(), end_ns, header.window.asked_ns);
    let events: u64 = metas().map(|meta| meta.ledger_events()).sum();
    finish_header(&mut header, end_ns);
    // Nobody knows how many are missing; the books cannot close.
    note_damage(&mut header, &[], &complaints, "the spool");
    header.ledger = Ledger { in_window: events, ..Ledger::default() };
    let clock = ClockAnchor { wall_ns: header.clock.wall_ns(end_ns), monotonic_ns: end_ns };
    let name =
        named.map_or_else(|| snapshot_name(&header, &clock, SOURCE), |(name, _)| name.into());
    let replaces = named.is_some_and(|(_, replaces)| replaces);
    let target = Target::create(into).map_err(RecoverError::Write)?;
    let blocks = context.len() + state.len() + rollups.len() + others.len();
    let kept = context.iter().chain(&state).map(|block| Ok(block.sealed()));
    let copied = rollups.iter().chain(&others).map(|place| sealed(&session, place));
    let frames = kept.chain(copied);
    let failed = |error: io::Error| RecoverError::Write(WriteError::File(into.join(&name), error));
    let head = header_frame(&header, 0).map_err(failed)?;
    write_frames(target.file(), &head, frames, asked).map_err(failed)?;
    let path = target.finish(&name, replaces).map_err(RecoverError::Write)?;
    Ok(Recovered { path, blocks: blocks as u64, events, absent: None, complaints })
}

/// Who asked for such a snapshot.
const SOURCE: &str = "crash";

/// A window is a day at most, and so is what a part has behind the moment it began.
const SPAN_NS_MAX: u64 = 2 * 86_400_000_000_000;

fn is_recorded(entry: &BlockEntry) -> bool {
    Class::RECORDED.contains(&entry.meta.class)
}

/// Every block once: of the state in the checkpoints only the first counts, since what stands
/// in the others is in the parts before.
fn places(session: &SpoolSession) -> Vec<Place> {
    let mut places = Vec::new();
    let mut known = HashSet::new();
    for (number, (part, reader)) in session.parts.iter().enumerate() {
        let checkpoint_end = reader.header_bytes().saturating_add(part.checkpoint_bytes);
        for entry in reader.blocks() {
            let is_checkpoint = entry.offset < checkpoint_end;
            let meta = &entry.meta;
            if is_checkpoint && number > 0 && meta.class != Class::Rollup {
                continue;
            }
            let what = (meta.class as u8, meta.cpu, meta.first_ns, meta.last_ns, entry.crc);
            if known.insert(what) || meta.class == Class::Context {
                places.push(Place { part: number, entry: *entry });
            }
        }
    }
    places
}

fn sealed(session: &SpoolSession, place: &Place) -> io::Result<SealedBlock> {
    let (_, reader) = session.parts.get(place.part).ok_or(io::ErrorKind::NotFound)?;
    let frame = reader.frame(&place.entry)?;
    let Place { entry, .. } = place;
    Ok(SealedBlock { meta: entry.meta, frame: frame.into(), raw_bytes: entry.raw_bytes })
}

/// Blocks of state that are decoded at once: each takes some megabytes.
const BLOCKS_AT_ONCE: usize = 8;

/// What was known of the host at `oldest_ns`, and the blocks of state since: of the parts
/// before it there may be hours.
fn state(
    session: &SpoolSession,
    places: &[Place],
    header: &Header,
    native: Abi,
    oldest_ns: u64,
) -> Result<FrozenWindow, SpoolError> {
    let mut context = Vec::new();
    let mut changes: Vec<&Place> = Vec::new();
    let failed = |error| SpoolError::Io(session.directory.clone(), error);
    for place in places {
        match place.entry.meta.class {
            Class::Context => {
                context.extend(sealed(session, place).map_err(failed)?.open());
            }
            Class::State => changes.push(place),
            _ => {}
        }
    }
    let mut baseline = Processes::default();
    begin_with(&mut baseline, &context, native);
    let limits = WindowLimits { span_ns: header.window.asked_ns, bytes_max: u64::MAX };
    let baseline = Arc::new(baseline);
    let mut window = FrozenWindow { blocks: Vec::new(), baseline, limits, native };
    changes.sort_by_key(|place| place.entry.meta.first_ns);
    for (number, slice) in changes.chunks(BLOCKS_AT_ONCE).enumerate() {
        for place in slice {
            window.blocks.push(Block::Sealed(sealed(session, place).map_err(failed)?));
        }
        // What comes is not older than this, so all before it can be taken into account.
        let next = changes.get((number + 1) * BLOCKS_AT_ONCE);
        let next_ns = next.map_or(u64::MAX, |place| place.entry.meta.first_ns);
        window.cut_before(oldest_ns.min(next_ns));
    }
    Ok(window)
}

/// Says what the file is, and what nobody can know any more.
fn finish_header(header: &mut Header, end_ns: u64) {
    header.spool = None;
    header.trigger = Trigger {
        at_ns: end_ns,
        ..Trigger::new(SOURCE, "the recording ended without a word; this is what its spool had")
    };
    header.missing.push(Missing {
        what: "the last moments, calls that had not returned, and the books".to_string(),
        why: "the recording ended before anybody could ask for them".to_string(),
    });
}
