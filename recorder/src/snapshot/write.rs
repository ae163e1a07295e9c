//! Writing: a file is complete and durable under its final name, or absent.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};

use super::{
    Header, Trailer,
    layout::{
        BlockEntry, EXTENSION, MAGIC_HEADER, MAGIC_INDEX, MAGIC_TRAILER, TAG_HEADER, TAG_INDEX,
        TAG_TRAILER, seek_table, skippable,
    },
};
use crate::{
    clock::ClockAnchor,
    event::{Class, Kind},
    loss::Missing,
    window::{
        Block, SealedBlock,
        codec::{BlockMeta, EVENTS_MAX},
    },
};

/// The end of a temporary name; with the leading dot it marks our leftovers.
const TEMPORARY: &str = ".kfr-part";

/// How a write failed.
#[derive(Debug)]
pub enum WriteError {
    /// The directory cannot be used.
    Directory(PathBuf, io::Error),
    /// The file could not be made, written or made durable.
    File(PathBuf, io::Error),
    /// A file of this name is there already.
    Exists(PathBuf),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Landlock knows the directory, not its name.
            WriteError::Directory(path, error) if error.raw_os_error() == Some(13) => write!(
                f,
                "cannot use the snapshot directory {}: {error}; make it writable for the \
                 recorder, start the recorder again if the directory was made or mounted anew \
                 since, or name another one with --snapshots",
                path.display()
            ),
            WriteError::Directory(path, error) => write!(
                f,
                "cannot use the snapshot directory {}: {error}; make it writable for the \
                 recorder, or name another one with --snapshots",
                path.display()
            ),
            WriteError::File(path, error) if error.raw_os_error() == Some(28) => write!(
                f,
                "cannot write {}: no space left; remove old snapshots or name another directory",
                path.display()
            ),
            WriteError::File(path, error) => write!(f, "cannot write {}: {error}", path.display()),
            WriteError::Exists(path) => {
                write!(f, "{} is there already; --force replaces it", path.display())
            }
        }
    }
}

impl std::error::Error for WriteError {}

/// What goes into a file, in the order in which it is written.
pub struct Contents<'a> {
    /// What is known at the start.
    pub header: &'a Header,
    /// The blocks, context first. Each is let go as soon as it is written: the
    /// window may need its memory.
    pub blocks: Vec<Block>,
    /// When the snapshot was asked for.
    pub asked: Instant,
    /// By when it must be durable: blocks for which there is no time are left out, the last
    /// first.
    pub deadline: Option<Instant>,
}

/// A written file.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// From the request until every block was durable.
    pub total_ms: u64,
}

/// A file in the making: under a temporary name until [`Target::finish`], gone
/// when dropped before.
pub struct Target {
    directory: OwnedFd,
    directory_path: PathBuf,
    temporary: String,
    file: File,
    finished: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Target {
    /// Opens `directory` and makes a file in it.
    pub fn create(directory: &Path) -> Result<Target, WriteError> {
        let failed =
            |error: rustix::io::Errno| WriteError::Directory(directory.to_path_buf(), error.into());
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{}-{number}{TEMPORARY}", std::process::id());
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        let file = rustix::fs::openat(&opened, &temporary, flags, mode).map_err(failed)?;
        // Held until the file is closed: it says that somebody is still writing.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
        Ok(Target {
            directory: opened,
            directory_path: directory.to_path_buf(),
            temporary,
            file: File::from(file),
            finished: false,
        })
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file durable under `name`. Replaces one that is there only when
    /// `replace`.
    pub fn finish(mut self, name: &str, replace: bool) -> Result<PathBuf, WriteError> {
        let path = self.directory_path.join(name);
        let failed = |error: io::Error| WriteError::File(path.clone(), error);
        self.file.sync_all().map_err(failed)?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let directory = self.directory.as_fd();
        match rustix::fs::renameat_with(directory, &self.temporary, directory, name, flags) {
            Ok(()) => self.finished = true,
            Err(rustix::io::Errno::EXIST) => return Err(WriteError::Exists(path)),
            Err(error) => return Err(WriteError::File(path, error.into())),
        }
        if let Err(error) = rustix::fs::fsync(directory) {
            // The name may not survive a power cut: then nobody is told of it.
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
            return Err(WriteError::File(path, error.into()));
        }
        Ok(path)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing to be done if this fails: the next start removes it.
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// Removes what a crash left of unfinished files; those that somebody still writes
/// are locked and stay. Answers how many there were.
pub fn remove_leftovers(directory: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') || !name.ends_with(TEMPORARY) || !entry.file_type()?.is_file() {
            continue;
        }
        let file = File::open(entry.path())?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// `<host>-<UTC>-<source>-<8 hex>.kfr`: sorted by name is sorted by time. `clock` is
/// when it was asked for.
pub fn snapshot_name(host: &Header, clock: &ClockAnchor, source: &str) -> String {
    // Words from elsewhere: nothing of them may be a path.
    let word = |text: &str, otherwise: &str| {
        let kept = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
        let word: String = text.chars().take(64).map(|c| if kept(c) { c } else { '-' }).collect();
        let word = word.trim_start_matches('.');
        if word.is_empty() { otherwise.to_string() } else { word.to_string() }
    };
    let time = jiff::Timestamp::from_second(clock.wall_s()).unwrap_or_default();
    let mut seed = host.boot_id.clone().into_bytes();
    seed.extend(clock.monotonic_ns.to_le_bytes());
    seed.extend(NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let hash = crc32c::crc32c(&seed);
    format!(
        "{}-{}-{}-{hash:08x}.{EXTENSION}",
        word(&host.host, "host"),
        time.strftime("%Y%m%dT%H%M%SZ"),
        word(source, "unknown")
    )
}

/// Counts what goes through, so that offsets need no seeking.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a snapshot as `name` into `directory` and makes it durable.
pub fn write(directory: &Path, name: &str, contents: Contents<'_>) -> Result<Written, WriteError> {
    let path = directory.join(name);
    let target = Target::create(directory)?;
    let failed = |error: io::Error| WriteError::File(path.clone(), error);
    let Contents { header, blocks, asked, deadline } = contents;
    let head = header_frame(header, deadline.map_or(0, |_| CORRECTION_BYTES)).map_err(failed)?;
    let mut paced = Paced::new(target.file(), deadline);
    let mut left = Vec::new();
    let blocks = blocks.into_iter().filter_map(|block| {
        // Without the context nothing has a name.
        if block.meta().class == Class::Context || paced.has_time() {
            let sealed = block.sealed();
            return Some(paced.wrote(sealed.frame.len()).map(|()| sealed));
        }
        left.push(*block.meta());
        None
    });
    let (bytes, total_ms) = write_frames(target.file(), &head, blocks, asked).map_err(failed)?;
    if !left.is_empty() {
        let header = without(header, &left, deadline.map_or(Duration::ZERO, |at| at - asked));
        let corrected = header_frame_of(&header, head.len()).map_err(failed)?;
        target.file().write_all_at(&corrected, 0).map_err(failed)?;
    }
    let path = target.finish(name, false)?;
    Ok(Written { path, bytes, total_ms })
}

/// Room in a header for what is left out.
const CORRECTION_BYTES: usize = 1024;

/// How much is written before it is made durable, where there is a deadline: what that takes
/// says what the end will take.
const PACE_BYTES: usize = 4 << 20;

/// Watches that the end of a file is durable in time.
struct Paced<'a> {
    file: &'a File,
    deadline: Option<Instant>,
    unsynced_bytes: usize,
    /// The longest it took to make [`PACE_BYTES`] durable.
    sync_max: Duration,
}

impl Paced<'_> {
    fn new(file: &File, deadline: Option<Instant>) -> Paced<'_> {
        // What an empty disk takes for a file and its name.
        Paced { file, deadline, unsynced_bytes: 0, sync_max: Duration::from_millis(10) }
    }

    /// Whether another block can be written: then come index and end, both are made
    /// durable, and so is the name.
    fn has_time(&self) -> bool {
        self.deadline.is_none_or(|deadline| {
            Instant::now() + 3 * self.sync_max + Duration::from_millis(10) < deadline
        })
    }

    fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        if self.deadline.is_none() {
            return Ok(());
        }
        self.unsynced_bytes += bytes;
        if self.unsynced_bytes >= PACE_BYTES {
            let began = Instant::now();
            self.file.sync_data()?;
            self.sync_max = self.sync_max.max(began.elapsed());
            self.unsynced_bytes = 0;
        }
        Ok(())
    }
}

/// The header of a file without these blocks.
fn without(header: &Header, left: &[BlockMeta], deadline: Duration) -> Header {
    let mut header = header.clone();
    let recorded = || left.iter().filter(|meta| Class::RECORDED.contains(&meta.class));
    let events: u64 = recorded().map(BlockMeta::ledger_events).sum();
    header.ledger.in_window = header.ledger.in_window.saturating_sub(events);
    header.ledger.evicted += events;
    // What is there is the newest: a class begins behind the last block of it that is not.
    // Of state it is the oldest.
    for meta in recorded().filter(|meta| meta.class != Class::State) {
        let first = header.window.start_ns_by_class.entry(meta.class.name().to_string());
        first.and_modify(|first| *first = (*first).max(meta.last_ns));
    }
    let starts = header.window.start_ns_by_class.values().copied();
    header.window.start_ns = starts.min().unwrap_or(header.window.start_ns);
    header.missing.push(Missing {
        what: format!("{events} events in {} blocks", left.len()),
        why: format!("the snapshot had to be durable within {deadline:?}"),
    });
    header
}

/// The frame a file begins with, with so many bytes of room for a header that says more.
pub fn header_frame(header: &Header, room: usize) -> io::Result<Vec<u8>> {
    let mut payload = serde_json::to_vec(header)?;
    payload.resize(payload.len() + room, b' ');
    Ok(skippable(MAGIC_HEADER, TAG_HEADER, &payload))
}

/// The same in exactly so many bytes.
fn header_frame_of(header: &Header, bytes: usize) -> io::Result<Vec<u8>> {
    let shortest = header_frame(header, 0)?.len();
    let room = bytes.checked_sub(shortest);
    header_frame(header, room.ok_or(io::Error::other("the header has become too long"))?)
}

/// Writes a header's frame, blocks and what comes behind them. Answers how many bytes, and how many
/// milliseconds from `asked` until all blocks were durable.
pub(crate) fn write_frames(
    file: &File,
    head: &[u8],
    blocks: impl Iterator<Item = io::Result<SealedBlock>>,
    asked: Instant,
) -> io::Result<(u64, u64)> {
    let mut out = Counted { inner: BufWriter::with_capacity(1 << 20, file), bytes: 0 };
    let mut frames: Vec<(u32, u32)> = Vec::new();
    let mut put = |out: &mut Counted<BufWriter<&File>>, frame: &[u8], raw: u32| {
        frames.push((frame.len() as u32, raw));
        out.write_all(frame)
    };
    put(&mut out, head, 0)?;
    let mut index = Vec::new();
    let mut trailer = Trailer::default();
    for block in blocks {
        let sealed = block?;
        if sealed.frame.is_empty() || sealed.meta.count as usize > EVENTS_MAX {
            return Err(io::Error::other("a block of the window could not be compressed"));
        }
        let entry = BlockEntry {
            offset: out.bytes,
            frame_bytes: sealed.frame.len() as u32,
            raw_bytes: sealed.raw_bytes,
            crc: crc32c::crc32c(&sealed.frame),
            meta: sealed.meta,
        };
        entry.put(&mut index);
        trailer.count(&entry);
        put(&mut out, &sealed.frame, sealed.raw_bytes)?;
    }
    put(&mut out, &skippable(MAGIC_INDEX, TAG_INDEX, &index), 0)?;
    out.flush()?;
    // The blocks are durable before the file says how long that took.
    file.sync_data()?;
    trailer.total_ms = asked.elapsed().as_millis() as u64;
    let last = serde_json::to_vec(&trailer)?;
    put(&mut out, &skippable(MAGIC_TRAILER, TAG_TRAILER, &last), 0)?;
    out.write_all(&seek_table(&frames))?;
    out.flush()?;
    Ok((out.bytes, trailer.total_ms))
}

impl Trailer {
    /// Takes a block into account.
    pub(super) fn count(&mut self, entry: &BlockEntry) {
        if !entry.meta.class.has_events() {
            self.context_bytes += u64::from(entry.frame_bytes);
            return;
        }
        add_kinds(&mut self.events, entry);
    }
}

/// Adds the events of a block by kind.
pub(super) fn add_kinds(events: &mut BTreeMap<String, u64>, entry: &BlockEntry) {
    for (kind, count) in Kind::ALL.iter().map(|kind| (kind, entry.meta.kinds.get(*kind as usize))) {
        let count = count.copied().unwrap_or_default();
        if count > 0 {
            *events.entry(kind.schema().name.to_string()).or_default() += u64::from(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second recorder with the same directory removed the file the first one was
    /// writing: its dump failed at the rename.
    #[test]
    fn only_leftovers_nobody_writes_are_removed() {
        let name = format!("recorder-leftovers-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!(".1-0{TEMPORARY}")), b"half").unwrap();
        std::fs::write(directory.join("kept.kfr"), b"whole").unwrap();
        let target = Target::create(&directory).unwrap();
        assert_eq!(remove_leftovers(&directory).unwrap(), 1);
        let path = target.finish("mine.kfr", false).unwrap();
        assert!(path.exists() && directory.join("kept.kfr").exists());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn words_from_elsewhere_are_no_paths() {
        let host = Header { host: "../../etc/x".to_string(), ..Header::default() };
        let name = snapshot_name(&host, &ClockAnchor::default(), "a/b\0\u{1b}[2J");
        assert!(!name.contains(['/', '\0', '\u{1b}']) && !name.starts_with('.'), "{name}");
    }
}
