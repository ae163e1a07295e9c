//! Masking of a file that is there: another one is written, with everything of the first
//! but its secrets.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    BlockEntry, Header, SnapshotError, SnapshotReader, Target, WriteError,
    read::miscount,
    recover::{ledger_events, note_damage},
    write::{header_frame, write_frames},
};
use crate::{
    event::{Attached, Event, syscall::Abi},
    privacy::{
        MaskedCounts, Masker, PayloadFacts, Privacy, Rules, SCRUBS_MAX, ScrubFacts, is_payload,
    },
    window::{SealedBlock, codec::DecodedBlock, sealed_of},
};

/// Why there is no scrubbed file.
#[derive(Debug)]
pub enum ScrubError {
    /// The file cannot be read, or not all of it.
    Read(SnapshotError),
    /// It is damaged; this is the first of so many complaints.
    Damaged(PathBuf, String, usize),
    /// It was recorded where calls have numbers nobody knows here.
    Arch(String),
    /// The other file cannot be written.
    Write(WriteError),
    /// A text stands where it cannot be masked.
    Header(String),
}

impl fmt::Display for ScrubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScrubError::Read(error) => write!(f, "{error}"),
            ScrubError::Damaged(path, first, count) => write!(
                f,
                "{} is damaged ({first}; {count} in all): --damaged scrubs what is whole",
                path.display()
            ),
            ScrubError::Arch(arch) => {
                write!(f, "calls of a {arch} host are not known: use a newer recorder")
            }
            ScrubError::Write(error) => write!(f, "{error}"),
            ScrubError::Header(text) => {
                write!(f, "the header has `{text}` where it cannot be masked: nothing is written")
            }
        }
    }
}

impl std::error::Error for ScrubError {}

impl From<SnapshotError> for ScrubError {
    fn from(error: SnapshotError) -> ScrubError {
        ScrubError::Read(error)
    }
}

/// A file that was scrubbed.
#[derive(Clone, Debug)]
pub struct Scrubbed {
    /// Where it is.
    pub path: PathBuf,
    /// What was masked.
    pub masked: MaskedCounts,
    /// What is wrong with the first file; empty unless that was allowed.
    pub complaints: Vec<String>,
}

/// What else is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of a damaged file what is whole.
    pub damaged: bool,
    /// Nothing of what programs read, wrote, sent and received.
    pub payload: bool,
}

/// A whole block, and what becomes of it.
struct Looked {
    entry: BlockEntry,
    has_secret: bool,
}

/// Writes what is in `reader` without what `rules` mask as `name` into `directory`, where
/// it replaces a file only when `replace`. `progress` is called with the bytes looked at, of twice as many as
/// there are: all blocks are read twice, because the counts stand before them.
pub fn scrub(
    reader: &SnapshotReader,
    rules: Rules,
    (directory, name, replace): (&Path, &str, bool),
    Wanted { damaged: allow_damaged, payload }: Wanted,
    progress: &mut dyn FnMut(u64),
) -> Result<Scrubbed, ScrubError> {
    let asked = Instant::now();
    let mut header = reader.header().clone();
    let native = Abi::native(&header.arch).ok_or_else(|| ScrubError::Arch(header.arch.clone()))?;
    let (words, texts) = (rules.words.len() as u64, rules.texts.clone());
    let privacy = Privacy::new(rules);
    let mut masker = privacy.masker();
    let mut complaints = reader.complaints().to_vec();
    let mut left_out = 0;
    let mut drop_of = |event: &Event<'_>| {
        let attached = event.attached().iter();
        let count = attached.filter(|one| payload && is_payload(event, one, native)).count();
        left_out += count as u64;
        count > 0
    };
    let looked = look(reader, &mut masker, native, &mut drop_of, &mut complaints, progress);
    let whole: Vec<BlockEntry> = looked.iter().map(|looked| looked.entry).collect();
    if complaints.is_empty() {
        complaints.extend(miscount(&header, ledger_events(&whole)));
    }
    if let Some(first) = complaints.first().filter(|_| !allow_damaged) {
        return Err(ScrubError::Damaged(
            reader.path().to_path_buf(),
            first.clone(),
            complaints.len(),
        ));
    }
    header.each_text(&mut |text| masker.mask_string(text));
    note_damage(&mut header, &whole, &complaints, "the file that was scrubbed");
    let masked = privacy.masked();
    if payload {
        header.privacy.payload = PayloadFacts::default();
    }
    note_scrub(&mut header, [words, texts.len() as u64, left_out], masked.clone());
    check_header(&header, &texts)?;

    let target = Target::create(directory).map_err(ScrubError::Write)?;
    let bytes = reader.bytes();
    let mut again = Again { reader, masker: &mut masker, native, payload, bytes, progress };
    let blocks = looked.iter().flat_map(|looked| again.blocks(looked));
    let failed = |error| ScrubError::Write(WriteError::File(directory.join(name), error));
    let head = header_frame(&header, 0).map_err(failed)?;
    write_frames(target.file(), &head, blocks, asked).map_err(failed)?;
    let path = target.finish(name, replace).map_err(ScrubError::Write)?;
    Ok(Scrubbed { path, masked, complaints })
}

/// Looks at every block: which are whole, and which have secrets.
fn look(
    reader: &SnapshotReader,
    masker: &mut Masker,
    native: Abi,
    drop_of: &mut dyn FnMut(&Event<'_>) -> bool,
    complaints: &mut Vec<String>,
    progress: &mut dyn FnMut(u64),
) -> Vec<Looked> {
    let mut looked = Vec::with_capacity(reader.blocks().len());
    for entry in reader.blocks() {
        match reader.block(entry) {
            Ok(block) => {
                let mut has_secret = false;
                for event in block.events() {
                    has_secret |= drop_of(&event);
                    has_secret |= masker.event(&event, native).is_some();
                }
                looked.push(Looked { entry: *entry, has_secret });
            }
            Err(error) => complaints.push(error.to_string()),
        }
        progress(entry.offset + u64::from(entry.frame_bytes));
    }
    looked
}

/// The second reading.
struct Again<'r> {
    reader: &'r SnapshotReader,
    masker: &'r mut Masker,
    native: Abi,
    payload: bool,
    bytes: u64,
    progress: &'r mut dyn FnMut(u64),
}

impl Again<'_> {
    /// A block without its secrets. One that has none stays as it is.
    fn blocks(&mut self, looked: &Looked) -> Vec<io::Result<SealedBlock>> {
        let entry = &looked.entry;
        (self.progress)(self.bytes + entry.offset + u64::from(entry.frame_bytes));
        if !looked.has_secret {
            let frame = self.reader.frame(entry);
            return vec![frame.map(|frame| SealedBlock {
                meta: entry.meta,
                frame: frame.into(),
                raw_bytes: entry.raw_bytes,
            })];
        }
        match self.reader.block(entry) {
            Ok(block) => self.masked(&block).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(io::Error::other(error.to_string()))],
        }
    }

    fn masked(&mut self, block: &DecodedBlock) -> Vec<SealedBlock> {
        // An event lives as long as the masker's buffer, so each is kept as it is made.
        let mut kept = Kept::default();
        for event in block.events() {
            let native = self.native;
            let masked = self.masker.event(&event, native);
            let event = masked.as_ref().unwrap_or(&event);
            kept.push(event, |one| !self.payload || !is_payload(event, one, native));
        }
        sealed_of(kept.events(), block.class, block.cpu)
    }
}

/// Index, flags, and where the bytes lie.
type KeptAttachment = (u8, u8, Range<usize>);

/// Events whose bytes were copied.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Without attachments, and those.
    events: Vec<(Event<'static>, Vec<KeptAttachment>)>,
}

impl Kept {
    fn push(&mut self, event: &Event<'_>, keeps: impl Fn(&Attached<'_>) -> bool) {
        let mut attached = Vec::with_capacity(event.attached().len());
        for one in event.attached().iter().filter(|one| keeps(one)) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(one.bytes);
            attached.push((one.index, one.flags, start..self.bytes.len()));
        }
        self.events.push((event.without_attachments(), attached));
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.events.iter().map(|(event, attached)| {
            let mut event: Event<'_> = *event;
            for (index, flags, range) in attached {
                let bytes = self.bytes.get(range.clone()).unwrap_or_default();
                event.attach(Attached { index: *index, flags: *flags, bytes });
            }
            event
        })
    }
}

fn note_scrub(
    header: &mut Header,
    [words, texts, payload_left_out]: [u64; 3],
    masked: MaskedCounts,
) {
    let scrubs = &mut header.privacy.scrubs;
    scrubs.push(ScrubFacts {
        program: format!("recorder {}", env!("CARGO_PKG_VERSION")),
        rules: crate::privacy::RULES_VERSION,
        words,
        texts,
        masked,
        payload_left_out,
    });
    let more = scrubs.len().saturating_sub(SCRUBS_MAX);
    scrubs.drain(..more);
}

/// What was asked to be gone must be: a name of a label is none of the texts that are
/// masked, nor is the release of the kernel.
fn check_header(header: &Header, texts: &[Vec<u8>]) -> Result<(), ScrubError> {
    let json = serde_json::to_string(header).unwrap_or_default();
    let left = texts.iter().filter_map(|text| std::str::from_utf8(text).ok()).find(|text| {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        json.contains(quoted.trim_matches('"'))
    });
    left.map_or(Ok(()), |text| Err(ScrubError::Header(text.to_string())))
}

impl Header {
    /// Calls `change` with every text that is not ours: words of alerts, the host's name.
    pub fn each_text(&mut self, change: &mut dyn FnMut(&mut String)) {
        change(&mut self.host);
        self.trigger.each_text(change);
    }
}
