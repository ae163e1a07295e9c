//! Reading. A file is hostile until its checksums say otherwise: nothing here
//! trusts a length, and what is damaged costs only itself.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::OFlags;

pub use super::layout::BlockEntry;
use super::{
    Header, Trailer,
    ahead::Ahead,
    layout::{
        FORMAT_VERSION, FRAMES_MAX, MAGIC_HEADER, MAGIC_INDEX, MAGIC_SEEK_TABLE, MAGIC_SEEKABLE,
        MAGIC_TRAILER, MAGIC_ZSTD, SKIPPABLE_BYTES_MAX, SKIPPABLE_HEAD_BYTES, TAG_HEADER,
        TAG_INDEX, TAG_TRAILER,
    },
    write::add_kinds,
};
use crate::window::codec::{BlockError, BlockMeta, DecodedBlock, RAW_BYTES_MAX};

/// Why a file cannot be read at all, or a part of it.
#[derive(Debug)]
pub enum SnapshotError {
    /// It cannot be opened or read.
    Io(PathBuf, io::Error),
    /// It is not a snapshot.
    NotASnapshot(PathBuf, &'static str),
    /// It was written by a newer program.
    Version(PathBuf, u32),
    /// A block is damaged.
    Block {
        /// Where its frame begins.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            SnapshotError::NotASnapshot(path, why) => {
                write!(f, "{} is not a snapshot: {why}", path.display())
            }
            SnapshotError::Version(path, version) => write!(
                f,
                "{} has format version {version}, this program reads up to {FORMAT_VERSION}: \
                 use a newer recorder",
                path.display()
            ),
            SnapshotError::Block { offset, damage } => {
                write!(f, "the block at byte {offset} is damaged: {damage}")
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

/// What is wrong with a part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes and checksum differ.
    Checksum {
        /// What the file says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// zstd does not take it.
    Compression(String),
    /// The columns are not as they should be.
    Columns(BlockError),
    /// The index says something else than the block.
    Index,
    /// It lies outside the file.
    Outside,
    /// The disk does not give it.
    Unreadable(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Checksum { stored, computed } => {
                write!(f, "its checksum is {stored:08x}, its bytes give {computed:08x}")
            }
            Damage::Compression(error) => write!(f, "zstd says {error}"),
            Damage::Columns(error) => write!(f, "{error}"),
            Damage::Index => write!(f, "the index says something else than the block"),
            Damage::Outside => write!(f, "it lies outside the file"),
            Damage::Unreadable(error) => write!(f, "it cannot be read: {error}"),
        }
    }
}

/// An open snapshot.
pub struct SnapshotReader {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The format version its header says, and everything in it must say.
    version: u32,
    header: Header,
    has_header: bool,
    /// Bytes of the header's frame.
    header_bytes: u64,
    blocks: Vec<BlockEntry>,
    trailer: Option<Trailer>,
    /// What is wrong with the file around its blocks; empty for a complete one.
    complaints: Vec<String>,
}

/// A part of the file, by its place.
struct Frame {
    offset: u64,
    bytes: u32,
}

impl SnapshotReader {
    /// Opens a file. A file that is cut or damaged behind its header is opened as
    /// far as it goes; [`SnapshotReader::complaints`] says what is wrong.
    pub fn open(path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let mut reader = SnapshotReader::begin(path)?;
        reader.header_bytes = reader.read_header()?;
        if let Err(why) = reader.read_end(reader.header_bytes) {
            reader.complaints.push(why);
            reader.scan(reader.header_bytes);
        }
        Ok(reader)
    }

    /// The same of a file whose header may be damaged too: then the header is empty, and
    /// blocks are sought from the beginning.
    pub fn open_without_header(path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let error = match SnapshotReader::open(path) {
            Err(error @ (SnapshotError::NotASnapshot(..) | SnapshotError::Version(..))) => error,
            opened => return opened,
        };
        let mut reader = SnapshotReader::begin(path)?;
        if let SnapshotError::Version(_, version) = &error
            && reader.is_really(*version)
        {
            return Err(error);
        }
        reader.has_header = false;
        reader.complaints.push(NO_HEADER.to_string());
        reader.scan(0);
        Ok(reader)
    }

    /// Opens a part of a spool: a file that has no end, and zeros behind its last block.
    pub fn open_part(path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let mut reader = SnapshotReader::begin(path)?;
        reader.header_bytes = reader.read_header()?;
        reader.scan(reader.header_bytes);
        Ok(reader)
    }

    /// Whether a header that is whole says the version that the frame around it says.
    fn is_really(&mut self, version: u32) -> bool {
        self.version = version;
        let payload = self.skippable(0, MAGIC_HEADER, TAG_HEADER);
        let header = payload.ok().and_then(|(payload, _)| serde_json::from_slice(&payload).ok());
        header.is_some_and(|header: Header| header.format_version == version)
    }

    /// Opens a regular file and reads nothing.
    fn begin(path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let failed = |error| SnapshotError::Io(path.to_path_buf(), error);
        let not = |why| Err(SnapshotError::NotASnapshot(path.to_path_buf(), why));
        // Opening a FIFO would wait for somebody who writes into it.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return not("it is a directory");
        }
        if !metadata.is_file() {
            return not("it is no regular file; save it as one first");
        }
        Ok(SnapshotReader {
            path: path.to_path_buf(),
            bytes: metadata.len(),
            version: 0,
            file,
            header: Header::default(),
            has_header: true,
            header_bytes: 0,
            blocks: Vec::new(),
            trailer: None,
            complaints: Vec::new(),
        })
    }

    /// Bytes of the frame of the header; 0 where there is none.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// What is known of the whole.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether there is a header; where there is none, it is empty.
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// What was known at the end; `None` in a file that is cut.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// The blocks, in the order of the file.
    pub fn blocks(&self) -> &[BlockEntry] {
        &self.blocks
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is wrong with the file around its blocks.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Events by kind, from the index.
    pub fn events(&self) -> BTreeMap<String, u64> {
        let mut events = BTreeMap::new();
        for entry in &self.blocks {
            if entry.meta.class.has_events() {
                add_kinds(&mut events, entry);
            }
        }
        events
    }

    /// Reads a block: checksum, decompression, columns, and whether it is what
    /// the index says.
    pub fn block(&self, entry: &BlockEntry) -> Result<DecodedBlock, SnapshotError> {
        let damaged = |damage| SnapshotError::Block { offset: entry.offset, damage };
        let frame = self.read(entry.offset, entry.frame_bytes as usize).map_err(|error| {
            damaged(match error.kind() {
                io::ErrorKind::UnexpectedEof => Damage::Outside,
                _ => Damage::Unreadable(error.to_string()),
            })
        })?;
        let computed = crc32c::crc32c(&frame);
        if computed != entry.crc {
            return Err(damaged(Damage::Checksum { stored: entry.crc, computed }));
        }
        let (block, raw_bytes) = decode_frame(&frame).map_err(damaged)?;
        if meta_of(&block) != entry.meta || raw_bytes != entry.raw_bytes {
            return Err(damaged(Damage::Index));
        }
        Ok(block)
    }

    /// The frame of a block as it lies in the file.
    pub(crate) fn frame(&self, entry: &BlockEntry) -> io::Result<Vec<u8>> {
        self.read(entry.offset, entry.frame_bytes as usize)
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(bytes as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// Answers how long the header's frame is.
    fn read_header(&mut self) -> Result<u64, SnapshotError> {
        let path = self.path.clone();
        let not = move |why| SnapshotError::NotASnapshot(path.clone(), why);
        if self.bytes == 0 {
            return Err(not("it is empty"));
        }
        let head = match self.read(0, SKIPPABLE_HEAD_BYTES) {
            Ok(head) => head,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not("it is too short"));
            }
            Err(error) => return Err(SnapshotError::Io(self.path.clone(), error)),
        };
        if half(&head, 0) != Some(MAGIC_HEADER) || head.get(8..12) != Some(&TAG_HEADER) {
            return Err(not("it does not begin like one"));
        }
        let version = half(&head, 12).unwrap_or_default();
        if version > FORMAT_VERSION {
            return Err(SnapshotError::Version(self.path.clone(), version));
        }
        self.version = version;
        let (payload, bytes) = self
            .skippable(0, MAGIC_HEADER, TAG_HEADER)
            .map_err(|_| not("its header is damaged"))?;
        self.header =
            serde_json::from_slice(&payload).map_err(|_| not("its header is not understood"))?;
        Ok(bytes)
    }

    /// The payload of a skippable frame of ours, and the length of the frame.
    fn skippable(&self, offset: u64, magic: u32, tag: [u8; 4]) -> Result<(Vec<u8>, u64), String> {
        let at = format!("the frame at byte {offset}");
        let head = self
            .read(offset, SKIPPABLE_HEAD_BYTES)
            .map_err(|_| format!("{at} lies outside the file"))?;
        if half(&head, 0) != Some(magic) || head.get(8..12) != Some(&tag) {
            return Err(format!("{at} is not what it should be"));
        }
        if half(&head, 12) != Some(self.version) {
            return Err(format!("{at} has another format version than the file"));
        }
        let bytes = half(&head, 4).unwrap_or_default() as usize;
        let payload = bytes.checked_sub(12).ok_or(format!("{at} is too short"))?;
        if payload > SKIPPABLE_BYTES_MAX {
            return Err(format!(
                "{at} has {payload} bytes, at most {SKIPPABLE_BYTES_MAX} are read"
            ));
        }
        let payload = self
            .read(offset + SKIPPABLE_HEAD_BYTES as u64, payload)
            .map_err(|_| format!("{at} lies outside the file"))?;
        let computed = crc32c::crc32c(&payload);
        if half(&head, 16) != Some(computed) {
            return Err(format!("{at} does not have its checksum"));
        }
        Ok((payload, bytes as u64 + 8))
    }

    /// Reads seek table, trailer and index of a complete file.
    fn read_end(&mut self, header_bytes: u64) -> Result<(), String> {
        let frames = self.seek_table()?;
        let [first, blocks @ .., index, trailer] = frames.as_slice() else {
            return Err("the seek table has too few frames".to_string());
        };
        if first.offset != 0 || u64::from(first.bytes) != header_bytes {
            return Err("the seek table does not begin with the header".to_string());
        }
        let (payload, bytes) = self.skippable(trailer.offset, MAGIC_TRAILER, TAG_TRAILER)?;
        if bytes != u64::from(trailer.bytes) {
            return Err("the trailer has another length than the seek table says".to_string());
        }
        let read: Trailer = serde_json::from_slice(&payload)
            .map_err(|error| format!("the trailer is not understood: {error}"))?;
        let (payload, bytes) = self.skippable(index.offset, MAGIC_INDEX, TAG_INDEX)?;
        if bytes != u64::from(index.bytes) {
            return Err("the index has another length than the seek table says".to_string());
        }
        let (mut rest, mut entries) = (payload.as_slice(), Vec::new());
        while !rest.is_empty() {
            entries.push(
                BlockEntry::get(&mut rest, self.version).ok_or("the index is not understood")?,
            );
        }
        let same = entries.len() == blocks.len()
            && entries.iter().zip(blocks).all(|(entry, frame)| {
                entry.offset == frame.offset && entry.frame_bytes == frame.bytes
            });
        if !same {
            return Err("index and seek table name different blocks".to_string());
        }
        self.blocks = entries;
        self.trailer = Some(read);
        Ok(())
    }

    /// The frames the seek table names, in order.
    fn seek_table(&self) -> Result<Vec<Frame>, String> {
        let cut = "the file is not complete: it does not end with a seek table";
        let footer_at = self.bytes.checked_sub(9).ok_or(cut)?;
        let footer = self.read(footer_at, 9).map_err(|_| cut)?;
        if half(&footer, 5) != Some(MAGIC_SEEKABLE) || footer.get(4) != Some(&0) {
            return Err(cut.to_string());
        }
        let count = half(&footer, 0).unwrap_or_default() as usize;
        if count > FRAMES_MAX {
            return Err(format!(
                "the seek table names {count} frames, at most {FRAMES_MAX} are read"
            ));
        }
        let table_bytes = count * 8 + 17;
        let table_at = self.bytes.checked_sub(table_bytes as u64).ok_or(cut)?;
        let table = self.read(table_at, table_bytes).map_err(|_| cut)?;
        if half(&table, 0) != Some(MAGIC_SEEK_TABLE)
            || half(&table, 4) != Some(table_bytes as u32 - 8)
        {
            return Err("the seek table is damaged".to_string());
        }
        let mut frames = Vec::with_capacity(count);
        let mut offset = 0;
        for place in 0..count {
            let bytes = half(&table, 8 + 8 * place).unwrap_or_default();
            frames.push(Frame { offset, bytes });
            offset += u64::from(bytes);
        }
        if offset != table_at {
            return Err("the seek table does not cover the file".to_string());
        }
        self.check_raw_bytes(&table, &frames)?;
        Ok(frames)
    }

    /// The decompressed sizes in the seek table are for other readers; they must
    /// be right all the same.
    fn check_raw_bytes(&self, table: &[u8], frames: &[Frame]) -> Result<(), String> {
        for (place, frame) in frames.iter().enumerate() {
            let said = half(table, 12 + 8 * place).unwrap_or_default();
            let head = self
                .read(frame.offset, (frame.bytes as usize).min(18))
                .map_err(|_| "the seek table names frames outside the file")?;
            let found = if half(&head, 0) == Some(MAGIC_ZSTD) {
                zstd::zstd_safe::get_frame_content_size(&head).ok().flatten().unwrap_or(u64::MAX)
            } else {
                0
            };
            if u64::from(said) != found {
                return Err(format!(
                    "the seek table says {said} bytes for the frame at byte {}, it has {found}",
                    frame.offset
                ));
            }
        }
        Ok(())
    }

    /// Finds the whole blocks of a file without its end, frame by frame. Where none
    /// begins, the next one is sought.
    fn scan(&mut self, header_bytes: u64) {
        let (mut offset, mut searches) = (header_bytes, 0);
        for _ in 0..FRAMES_MAX {
            let Ok(head) = self.read(offset, 8) else { break };
            let magic = half(&head, 0).unwrap_or_default();
            // Zeros: nothing was written here yet.
            if self.header.spool.is_some() && head == [0; 8] {
                break;
            }
            let skippable = 8 + u64::from(half(&head, 4).unwrap_or_default());
            if magic & 0xffff_fff0 == MAGIC_HEADER && offset + skippable <= self.bytes {
                offset += skippable;
                continue;
            }
            let frame = self.whole_frame(offset).ok_or("nothing whole is found".to_string());
            let block = frame.and_then(|frame| match decode_frame(&frame) {
                Ok((block, raw_bytes)) => Ok(BlockEntry {
                    offset,
                    frame_bytes: frame.len() as u32,
                    raw_bytes,
                    crc: crc32c::crc32c(&frame),
                    meta: meta_of(&block),
                }),
                Err(damage) => Err(format!("a block is damaged ({damage})")),
            });
            match block {
                Ok(entry) => {
                    offset += u64::from(entry.frame_bytes);
                    self.blocks.push(entry);
                }
                // Its length may be damaged, too.
                Err(why) => {
                    searches += 1;
                    let next = if searches > SEARCHES_MAX { None } else { self.search(offset + 1) };
                    let until = next.map_or("on".to_string(), |next| format!("to byte {next}"));
                    self.complaints.push(format!("{why} from byte {offset} {until}"));
                    match next {
                        Some(next) => offset = next,
                        None => break,
                    }
                }
            }
        }
    }

    /// Where the next zstd frame may begin, from `offset` on.
    fn search(&self, mut offset: u64) -> Option<u64> {
        const MAGIC: [u8; 4] = MAGIC_ZSTD.to_le_bytes();
        while offset < self.bytes {
            let rest = self.bytes - offset;
            let length = usize::try_from(rest).unwrap_or(usize::MAX).min(FRAME_BYTES_GUESS);
            let bytes = self.read(offset, length).ok()?;
            if let Some(found) = memchr::memmem::find(&bytes, &MAGIC) {
                return Some(offset + found as u64);
            }
            // It may lie across the end of what was read.
            offset += (length.saturating_sub(MAGIC.len() - 1)).max(1) as u64;
        }
        None
    }

    /// The zstd frame that begins at `offset`, when all of it is there.
    fn whole_frame(&self, offset: u64) -> Option<Vec<u8>> {
        let most = usize::try_from(self.bytes.checked_sub(offset)?).ok()?.min(FRAME_BYTES_MAX);
        let mut length = most.min(FRAME_BYTES_GUESS);
        loop {
            let mut bytes = self.read(offset, length).ok()?;
            if half(&bytes, 0) != Some(MAGIC_ZSTD) {
                return None;
            }
            match zstd::zstd_safe::find_frame_compressed_size(&bytes) {
                Ok(found) if found <= length => {
                    bytes.truncate(found);
                    return Some(bytes);
                }
                _ if length == most => return None,
                _ => length = (length * 8).min(most),
            }
        }
    }
}

/// What is said of a file without a header.
const NO_HEADER: &str = "its header is damaged: nothing is known of the host, its architecture, \
                         its clocks and books";

/// How often the next frame is sought in a file before the rest of it is given up: it may
/// be made of nothing but beginnings of frames.
const SEARCHES_MAX: usize = 1_000;

/// The longest frame: a block that zstd could not make smaller, and what is around.
const FRAME_BYTES_MAX: usize = RAW_BYTES_MAX + (1 << 16);

/// What a search reads at first: most frames are shorter.
const FRAME_BYTES_GUESS: usize = 128 << 10;

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The block of a frame, and how many bytes it had before compression. A frame that does not
/// say so is none of ours: copied into another file it would not be as its seek table says.
fn decode_frame(frame: &[u8]) -> Result<(DecodedBlock, u32), Damage> {
    if !matches!(zstd::zstd_safe::get_frame_content_size(frame), Ok(Some(_))) {
        return Err(Damage::Compression("the frame does not say how long it is".to_string()));
    }
    let raw = zstd::bulk::decompress(frame, RAW_BYTES_MAX)
        .map_err(|error| Damage::Compression(error.to_string()))?;
    let block = DecodedBlock::read(&raw).map_err(Damage::Columns)?;
    Ok((block, raw.len() as u32))
}

fn meta_of(block: &DecodedBlock) -> BlockMeta {
    let mut kinds = [0; crate::event::wire::KINDS_MAX];
    for event in block.events() {
        if let Some(count) = kinds.get_mut(event.kind as usize) {
            *count += 1;
        }
    }
    let last = block.len().checked_sub(1).and_then(|last| block.ts_ns(last));
    BlockMeta {
        class: block.class,
        cpu: block.cpu,
        count: block.len() as u32,
        first_ns: block.ts_ns(0).unwrap_or_default(),
        last_ns: last.unwrap_or_default(),
        kinds,
        present: block.present,
    }
}

/// What is wrong with the books of a file whose blocks, all of them whole, have so many
/// events.
pub(super) fn miscount(header: &Header, there: u64) -> Option<String> {
    let said = header.ledger.in_window;
    let is_wrong = said != there;
    is_wrong.then(|| format!("the ledger says {said} events are in the window, {there} are"))
}

/// What checking a whole file found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Blocks that are whole.
    pub blocks: u64,
    /// Events in them.
    pub events: u64,
    /// What is wrong; empty when nothing is.
    pub complaints: Vec<String>,
}

/// Checks every checksum, every block, and that all parts agree. `progress` is
/// called after each block with the bytes read so far.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, SnapshotError> {
    let reader = SnapshotReader::open(path)?;
    let mut verdict = Verdict { complaints: reader.complaints().to_vec(), ..Verdict::default() };
    let mut found = Trailer::default();
    let mut ledger_events = 0;
    let entries: Vec<&BlockEntry> = reader.blocks().iter().collect();
    thread::scope(|scope| {
        for (entry, block) in entries.iter().zip(Ahead::start(scope, &reader, &entries)) {
            match block {
                Ok(block) => {
                    verdict.blocks += 1;
                    verdict.events += block.len() as u64;
                    found.count(entry);
                    ledger_events += entry.meta.recorded_events();
                }
                Err(error) => verdict.complaints.push(error.to_string()),
            }
            progress(entry.offset + u64::from(entry.frame_bytes), reader.bytes());
        }
    });
    if let Some(trailer) = reader.trailer().filter(|_| verdict.complaints.is_empty()) {
        if trailer.events != found.events || trailer.context_bytes != found.context_bytes {
            verdict.complaints.push("the trailer counts other events than there are".to_string());
        }
        verdict.complaints.extend(miscount(reader.header(), ledger_events));
    }
    Ok(verdict)
}
