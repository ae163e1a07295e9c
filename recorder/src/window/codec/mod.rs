//! A block: the events of one CPU and class, as columns.
//!
//! Programs do the same over and over. So an event is written as the step from what was
//! expected after the events before it (`model`): one byte where the same thread makes the
//! call it made here before, with its arguments, its result and what they point to. Only
//! what differs is written out, each sort of thing in a column of its own. Times are never
//! the same: their lengths are a column that compresses, their bits are not compressed.
//!
//! `FORMAT.md` describes the layout; `earlier` reads those before it.
//!
//! Invariant: reading takes any bytes, allocates no more than a fixed multiple of
//! their length and [`RAW_BYTES_MAX`], and never panics.

mod bits;
mod earlier;
mod model;
mod present;
mod read;
mod write;

use std::fmt;

use bits::Cursor;

pub use present::Present;
pub use write::{Columns, KnownAs};

use crate::event::{Attached, Class, Event, Kind};

/// Changes when the layout of a block does. 2 was in no released program.
const VERSION: u8 = 4;

/// A block is sealed when it has this many events, or [`RAW_BYTES_TARGET`].
pub const EVENTS_MAX: usize = 32_768;

/// A block is sealed when its columns have this many bytes, or its strings.
pub const RAW_BYTES_TARGET: usize = 2 << 20;

/// No block is larger before compression, nor have its strings more bytes: one event
/// beyond the target fits.
pub const RAW_BYTES_MAX: usize = 4 << 20;

/// The byte of an event: how it differs from what was expected. And the numbers that
/// refer to strings.
mod step {
    /// Which pattern it has.
    pub(super) const PATTERN: u8 = 7;
    /// The one that came behind the last two of its thread.
    pub(super) const PAIR: u8 = 0;
    /// The one that came behind the last one.
    pub(super) const FOLLOWER: u8 = 1;
    /// Another one of the shape that was expected.
    pub(super) const SAME_SHAPE: u8 = 2;
    /// One of another shape.
    pub(super) const KNOWN_SHAPE: u8 = 3;
    /// A new one of the shape that was expected.
    pub(super) const NEW_OF_SAME_SHAPE: u8 = 4;
    /// A new one of another shape.
    pub(super) const NEW_OF_KNOWN_SHAPE: u8 = 5;
    /// The first one of a new shape.
    pub(super) const NEW_SHAPE: u8 = 6;
    /// Its result is not the last one of its pattern.
    pub(super) const OTHER_RESULT: u8 = 8;
    /// Which thread it is of.
    pub(super) const THREAD: u8 = 0x30;
    /// That of the event before.
    pub(super) const SAME_THREAD: u8 = 0;
    /// The one that came behind that the last time.
    pub(super) const NEXT_THREAD: u8 = 0x10;
    /// Another one.
    pub(super) const KNOWN_THREAD: u8 = 0x20;
    /// One that is new in the block.
    pub(super) const NEW_THREAD: u8 = 0x30;
    /// Its strings are not the last ones of its pattern.
    pub(super) const OTHER_STRINGS: u8 = 0x40;
    /// Never set.
    pub(super) const UNUSED: u8 = 0x80;

    /// Whether more is known after it than before.
    pub(super) fn has_news(code: u8) -> bool {
        code & PATTERN >= NEW_OF_SAME_SHAPE
            || code & OTHER_STRINGS != 0
            || code & THREAD == NEW_THREAD
    }

    /// A reference: the last string of the pattern at this place.
    pub(super) const SAME_STRING: u64 = 0;
    /// The string that came behind the last one of the thread.
    pub(super) const NEXT_STRING: u64 = 1;
    /// A new one.
    pub(super) const NEW_STRING: u64 = 2;
    /// The first string; the others follow.
    pub(super) const STRINGS_FROM: u64 = 3;
}

/// A block before it is compressed.
pub struct RawBlock {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where another sort of bytes begins, in ascending order: lengths of first times, of
    /// second ones, bits.
    pub cuts: [usize; 3],
}

impl From<Vec<u8>> for RawBlock {
    /// Bytes of no known layout: they are of one sort.
    fn from(bytes: Vec<u8>) -> RawBlock {
        let cuts = [bytes.len(); 3];
        RawBlock { bytes, cuts }
    }
}

/// What a block is, beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// The class of its events.
    pub class: Class,
    /// The CPU they happened on.
    pub cpu: u16,
    /// How many there are.
    pub count: u32,
    /// The smallest time in it.
    pub first_ns: u64,
    /// The largest time in it.
    pub last_ns: u64,
    /// How many of each kind.
    pub kinds: [u32; crate::event::wire::KINDS_MAX],
    /// Which threads and calls there may be.
    pub present: Present,
}

impl BlockMeta {
    /// Events the ledger counts: a loss is in the stream, but was never offered.
    pub fn ledger_events(&self) -> u64 {
        let losses = self.kinds.get(Kind::Lost as usize).copied().unwrap_or_default();
        u64::from(self.count).saturating_sub(u64::from(losses))
    }

    /// The same of a block of the window; none of any other, which the books leave out.
    pub fn recorded_events(&self) -> u64 {
        if Class::RECORDED.contains(&self.class) { self.ledger_events() } else { 0 }
    }
}

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// A newer layout.
    Version(u8),
    /// No class or kind has this number.
    Number(u8),
    /// It ends before it should.
    Short,
    /// It has more than a block may have.
    TooLarge,
    /// A reference goes nowhere.
    Reference,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockError::Version(version) => {
                write!(f, "block layout {version} is newer than this program reads ({VERSION})")
            }
            BlockError::Number(number) => {
                write!(f, "no class, kind or step has the number {number}")
            }
            BlockError::Short => write!(f, "the block ends before its columns do"),
            BlockError::TooLarge => write!(f, "the block has more than a block may have"),
            BlockError::Reference => write!(f, "a column refers to what is not there"),
        }
    }
}

impl std::error::Error for BlockError {}

/// A row of a decoded block: everything but its numbers and strings.
#[derive(Clone, Copy)]
struct Row {
    kind: Kind,
    flags: u16,
    pid: u32,
    tid: u32,
    ts_ns: u64,
    numbers: (u32, u8),
    attached: (u32, u8),
}

/// An attachment, and where its bytes lie.
#[derive(Clone, Copy)]
struct AttachedRow {
    index: u8,
    flags: u8,
    at: (u32, u32),
}

/// A block that was read: its events in order of time.
pub struct DecodedBlock {
    /// Their class.
    pub class: Class,
    /// Their CPU.
    pub cpu: u16,
    /// Which threads and calls there may be.
    pub present: Present,
    rows: Vec<Row>,
    numbers: Vec<u64>,
    attached: Vec<AttachedRow>,
    strings: Vec<u8>,
}

impl DecodedBlock {
    fn empty(class: Class, cpu: u16, events: usize) -> DecodedBlock {
        DecodedBlock {
            class,
            cpu,
            present: Present::UNKNOWN,
            rows: Vec::with_capacity(events),
            numbers: Vec::new(),
            attached: Vec::new(),
            strings: Vec::new(),
        }
    }

    /// Reads the bytes of a block.
    pub fn read(bytes: &[u8]) -> Result<DecodedBlock, BlockError> {
        if bytes.len() > RAW_BYTES_MAX {
            return Err(BlockError::TooLarge);
        }
        let mut cursor = Cursor { rest: bytes };
        let version = cursor.byte()?;
        if version != VERSION && !earlier::has(version) {
            return Err(BlockError::Version(version));
        }
        let class = cursor.byte()?;
        let class = Class::from_number(class).ok_or(BlockError::Number(class))?;
        if version == VERSION {
            read::read(class, cursor)
        } else {
            earlier::read(version, class, cursor)
        }
    }

    /// Ring order is the coding's; interrupts can turn two neighbours round.
    fn sort(&mut self) {
        self.rows.sort_by_key(|row| row.ts_ns);
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The time of event `place`.
    pub fn ts_ns(&self, place: usize) -> Option<u64> {
        self.rows.get(place).map(|row| row.ts_ns)
    }

    /// Event `place`, in order of time.
    pub fn event(&self, place: usize) -> Option<Event<'_>> {
        let row = self.rows.get(place)?;
        let mut event = Event::new(row.kind, row.ts_ns);
        event.flags = row.flags;
        event.cpu = self.cpu;
        event.pid = row.pid;
        event.tid = row.tid;
        let start = row.numbers.0 as usize;
        for number in self.numbers.get(start..start + usize::from(row.numbers.1))? {
            event.push_number(*number);
        }
        let start = row.attached.0 as usize;
        for AttachedRow { index, flags, at: (at, length) } in
            self.attached.get(start..start + usize::from(row.attached.1))?
        {
            let bytes = self.strings.get(*at as usize..(*at + *length) as usize)?;
            event.attach(Attached { index: *index, flags: *flags, bytes });
        }
        Some(event)
    }

    /// The events in order of time.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.rows.len()).filter_map(|place| self.event(place))
    }
}

#[cfg(test)]
mod tests;
