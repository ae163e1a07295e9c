//! A block: the events of one CPU and class, as columns.
//!
//! Within a block the kinds, flags, threads and times of all events have a
//! column each, in ring order. Every number of every kind has a column of its
//! own, coded as the difference from the same number of the last event of the
//! same kind, thread and first number (for a system call: the same call of the
//! same thread), because that is what repeats. Strings are written once and
//! referred to; what followed a string in its thread the last time is expected to
//! follow it again, and costs nothing then.
//!
//! ```text
//! block   = version, class, cpu, count, column*       (integers as LEB128)
//! column  = length, bytes
//! columns = kinds, flags, threads, times, attachment heads, attachment
//!           references, attachment lengths, strings, then one for each
//!           kind and position that occurs, in that order
//! ```
//!
//! Invariant: reading takes any bytes, allocates no more than a fixed multiple of
//! their length, and never panics.

use std::{collections::BTreeMap, fmt};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::expected::{Expected, SameCall, same_call};
use crate::event::{Attached, Class, Event, Kind, NUMBERS_MAX};

/// Changes when the layout of a block does. 2 was in no released program.
const VERSION: u8 = 3;

/// The layout before it, which has no expectations.
const VERSION_PLAIN: u8 = 1;

/// A block is sealed when it has this many events, or [`RAW_BYTES_TARGET`].
pub const EVENTS_MAX: usize = 32_768;

/// A block is sealed when its columns have this many bytes.
pub const RAW_BYTES_TARGET: usize = 2 << 20;

/// No block is larger before compression: one event beyond the target fits.
pub const RAW_BYTES_MAX: usize = 4 << 20;

/// Contexts and strings are forgotten when a block is sealed, so that every block
/// stands alone.
#[derive(Default)]
pub struct Columns {
    kinds: Vec<u8>,
    flags: Vec<u8>,
    threads: Vec<u8>,
    times: Vec<u8>,
    attachment_heads: Vec<u8>,
    attachment_refs: Vec<u8>,
    attachment_lengths: Vec<u8>,
    strings: Vec<u8>,
    numbers: BTreeMap<(u8, u8), Vec<u8>>,
    count: usize,
    bytes: usize,
    last_ts: u64,
    first_ts: u64,
    ts_max: u64,
    kinds_count: [u32; crate::event::wire::KINDS_MAX],
    thread_numbers: HashMap<(u32, u32), u32>,
    contexts: HashMap<(u8, u32, u64), [u64; NUMBERS_MAX]>,
    string_places: HashTable<(u32, u32, u32)>,
    string_count: u32,
    expected: Expected,
    hasher: DefaultHashBuilder,
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
}

impl BlockMeta {
    /// Events the ledger counts: a loss is in the stream, but was never offered.
    pub fn ledger_events(&self) -> u64 {
        let losses = self.kinds.get(Kind::Lost as usize).copied().unwrap_or_default();
        u64::from(self.count).saturating_sub(u64::from(losses))
    }
}

impl Columns {
    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it should be sealed before the next event: it has as many events or
    /// bytes as a block may have, or takes more than `held_bytes_max`.
    pub fn is_full(&self, held_bytes_max: usize) -> bool {
        self.count >= EVENTS_MAX
            || self.bytes >= RAW_BYTES_TARGET
            || self.held_bytes() >= held_bytes_max
    }

    /// Bytes of the columns and of the tables that predict them.
    pub fn held_bytes(&self) -> usize {
        const CONTEXT: usize = size_of::<((u8, u32, u64), [u64; NUMBERS_MAX])>();
        const STRING: usize = size_of::<(u32, u32, u32)>();
        self.bytes
            + self.contexts.len() * CONTEXT
            + (self.string_places.len() + self.thread_numbers.len()) * STRING
            + self.expected.bytes()
    }

    /// Bytes of the columns as they are.
    pub fn raw_bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event<'_>) {
        if self.count == 0 {
            self.first_ts = event.ts_ns;
            self.last_ts = 0;
        }
        self.first_ts = self.first_ts.min(event.ts_ns);
        self.ts_max = self.ts_max.max(event.ts_ns);
        let before = self.times.len() + self.threads.len() + self.strings.len();
        self.kinds.push(event.kind as u8);
        if let Some(count) = self.kinds_count.get_mut(event.kind as usize) {
            *count += 1;
        }
        put(&mut self.flags, u64::from(event.flags));
        put_delta(&mut self.times, event.ts_ns, self.last_ts);
        self.last_ts = event.ts_ns;
        let thread = self.push_thread(event.pid, event.tid);
        self.push_numbers(event, thread);
        self.push_attachments(event, thread);
        self.count += 1;
        let after = self.times.len() + self.threads.len() + self.strings.len();
        self.bytes += after - before + 2;
    }

    fn push_thread(&mut self, pid: u32, tid: u32) -> u32 {
        let next = self.thread_numbers.len() as u32;
        let thread = *self.thread_numbers.entry((pid, tid)).or_insert(next);
        put(&mut self.threads, u64::from(thread));
        if thread == next {
            put(&mut self.threads, u64::from(pid));
            put(&mut self.threads, u64::from(tid));
        }
        thread
    }

    fn push_numbers(&mut self, event: &Event<'_>, thread: u32) {
        let kind = event.kind as u8;
        let numbers = event.numbers();
        let key = numbers.first().copied().unwrap_or_default();
        let context = self.contexts.entry((kind, thread, key)).or_insert([0; NUMBERS_MAX]);
        // How many there are can differ by call: the first column says it.
        let lengths = self.numbers.entry((kind, u8::MAX)).or_default();
        put(lengths, numbers.len() as u64);
        self.bytes += 1;
        for (place, number) in numbers.iter().enumerate() {
            let column = self.numbers.entry((kind, place as u8)).or_default();
            let before = column.len();
            // The first number is the context: it is coded as it is.
            let last = context.get_mut(place).map_or(0, |last| std::mem::replace(last, *number));
            put_delta(column, *number, if place == 0 { 0 } else { last });
            self.bytes += column.len() - before;
        }
    }

    fn push_attachments(&mut self, event: &Event<'_>, thread: u32) {
        put(&mut self.attachment_heads, event.attached().len() as u64);
        self.bytes += 1;
        for attached in event.attached() {
            self.attachment_heads.extend([attached.index, attached.flags]);
            let reference = self.string_reference(attached.bytes);
            let call = same_call(event.kind, attached.index, event.numbers());
            let (follower, same) = self.expected.next(thread, &call);
            let string = if reference == 0 { self.string_count } else { reference };
            // 0 is a new string, 1 and 2 are the expected ones: the others are two further.
            let code = match reference {
                0 => 0,
                known if known == follower => 1,
                known if known == same => 2,
                known => u64::from(known) + 2,
            };
            put(&mut self.attachment_refs, code);
            self.expected.note(thread, call, string);
            self.bytes += 4;
        }
    }

    /// 0 for a new string, which is then written, else its number.
    fn string_reference(&mut self, bytes: &[u8]) -> u32 {
        use std::hash::BuildHasher as _;
        let hash = self.hasher.hash_one(bytes);
        let strings = &self.strings;
        let is_same = |place: &(u32, u32, u32)| {
            strings.get(place.0 as usize..(place.0 + place.1) as usize) == Some(bytes)
        };
        if let Some(place) = self.string_places.find(hash, is_same) {
            return place.2;
        }
        self.string_count += 1;
        let place = (self.strings.len() as u32, bytes.len() as u32, self.string_count);
        self.strings.extend(bytes);
        put(&mut self.attachment_lengths, bytes.len() as u64);
        let (strings, hasher) = (&self.strings, &self.hasher);
        self.string_places.insert_unique(hash, place, |place| {
            hasher.hash_one(
                strings.get(place.0 as usize..(place.0 + place.1) as usize).unwrap_or_default(),
            )
        });
        0
    }

    /// What it will be as a block.
    pub fn meta(&self, class: Class, cpu: u16) -> BlockMeta {
        BlockMeta {
            class,
            cpu,
            count: self.count as u32,
            first_ns: self.first_ts,
            last_ns: self.ts_max,
            kinds: self.kinds_count,
        }
    }

    /// The bytes of the block, to be compressed.
    pub fn to_bytes(&self, class: Class, cpu: u16) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.bytes + 1024);
        block.extend([VERSION, class as u8]);
        put(&mut block, u64::from(cpu));
        put(&mut block, self.count as u64);
        let fixed = [
            &self.kinds,
            &self.flags,
            &self.threads,
            &self.times,
            &self.attachment_heads,
            &self.attachment_refs,
            &self.attachment_lengths,
            &self.strings,
        ];
        for column in fixed.into_iter().chain(self.numbers.values()) {
            put(&mut block, column.len() as u64);
            block.extend(column);
        }
        block
    }

    /// Forgets everything; the large columns keep their memory.
    pub fn clear(&mut self) {
        for column in [
            &mut self.kinds,
            &mut self.flags,
            &mut self.threads,
            &mut self.times,
            &mut self.attachment_heads,
            &mut self.attachment_refs,
            &mut self.attachment_lengths,
            &mut self.strings,
        ] {
            column.clear();
        }
        self.numbers.clear();
        self.thread_numbers.clear();
        self.contexts.clear();
        self.string_places.clear();
        self.string_count = 0;
        self.expected.clear();
        self.count = 0;
        self.bytes = 0;
        self.last_ts = 0;
        self.first_ts = 0;
        self.ts_max = 0;
        self.kinds_count = [0; crate::event::wire::KINDS_MAX];
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_delta(out: &mut Vec<u8>, value: u64, last: u64) {
    let delta = value.wrapping_sub(last).cast_signed();
    put(out, (delta << 1 ^ delta >> 63).cast_unsigned());
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
            BlockError::Number(number) => write!(f, "no class or kind has the number {number}"),
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

/// Index, flags, and where the bytes lie.
type AttachedRow = (u8, u8, (u32, u32));

/// A block that was read: its events in order of time.
pub struct DecodedBlock {
    /// Their class.
    pub class: Class,
    /// Their CPU.
    pub cpu: u16,
    rows: Vec<Row>,
    numbers: Vec<u64>,
    attached: Vec<AttachedRow>,
    strings: Vec<u8>,
}

/// Reads integers and slices off the front of a column.
#[derive(Clone, Copy, Default)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, BlockError> {
        let (first, rest) = self.rest.split_first().ok_or(BlockError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn integer(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BlockError::TooLarge)
    }

    fn delta(&mut self, last: u64) -> Result<u64, BlockError> {
        let coded = self.integer()?;
        let delta = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
        Ok(last.wrapping_add(delta.cast_unsigned()))
    }

    fn column(&mut self) -> Result<Cursor<'a>, BlockError> {
        let length = usize::try_from(self.integer()?).map_err(|_| BlockError::TooLarge)?;
        if length > self.rest.len() {
            return Err(BlockError::Short);
        }
        let (column, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Cursor { rest: column })
    }
}

struct Reader<'a> {
    flags: Cursor<'a>,
    threads: Cursor<'a>,
    times: Cursor<'a>,
    heads: Cursor<'a>,
    references: Cursor<'a>,
    lengths: Cursor<'a>,
    numbers: HashMap<(u8, u8), Cursor<'a>>,
    thread_table: Vec<(u32, u32)>,
    contexts: HashMap<(u8, u32, u64), [u64; NUMBERS_MAX]>,
    string_table: Vec<(u32, u32)>,
    /// None in blocks of the layout that has no expectations.
    expected: Option<Expected>,
    strings_end: u32,
    last_ts: u64,
}

impl DecodedBlock {
    /// Reads the bytes of a block.
    pub fn read(bytes: &[u8]) -> Result<DecodedBlock, BlockError> {
        if bytes.len() > RAW_BYTES_MAX {
            return Err(BlockError::TooLarge);
        }
        let mut cursor = Cursor { rest: bytes };
        let version = cursor.byte()?;
        if version != VERSION && version != VERSION_PLAIN {
            return Err(BlockError::Version(version));
        }
        let class = cursor.byte()?;
        let class = Class::from_number(class).ok_or(BlockError::Number(class))?;
        let cpu = u16::try_from(cursor.integer()?).map_err(|_| BlockError::TooLarge)?;
        let count = usize::try_from(cursor.integer()?).map_err(|_| BlockError::TooLarge)?;
        let kinds = cursor.column()?;
        if count != kinds.rest.len() || count > EVENTS_MAX {
            return Err(BlockError::TooLarge);
        }
        let mut reader = Reader {
            flags: cursor.column()?,
            threads: cursor.column()?,
            times: cursor.column()?,
            heads: cursor.column()?,
            references: cursor.column()?,
            lengths: cursor.column()?,
            numbers: HashMap::new(),
            thread_table: Vec::new(),
            contexts: HashMap::new(),
            string_table: Vec::new(),
            expected: (version == VERSION).then(Expected::default),
            strings_end: 0,
            last_ts: 0,
        };
        let strings = cursor.column()?.rest.to_vec();
        let mut present = kinds.rest.to_vec();
        present.sort_unstable();
        present.dedup();
        reader.read_number_columns(&present, &mut cursor)?;
        let mut block = DecodedBlock {
            class,
            cpu,
            rows: Vec::with_capacity(count),
            numbers: Vec::new(),
            attached: Vec::new(),
            strings,
        };
        for kind in kinds.rest {
            let kind = Kind::from_number(*kind).ok_or(BlockError::Number(*kind))?;
            reader.row(kind, &mut block)?;
        }
        // Ring order is the coding's; interrupts can turn two neighbours round.
        block.rows.sort_by_key(|row| row.ts_ns);
        Ok(block)
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
        for (index, flags, (at, length)) in
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

impl<'a> Reader<'a> {
    /// The columns of numbers are in the order of kind and position; the one of
    /// lengths comes last of its kind and says how many the others are.
    fn read_number_columns(
        &mut self,
        kinds: &[u8],
        cursor: &mut Cursor<'a>,
    ) -> Result<(), BlockError> {
        let mut columns = Vec::new();
        while !cursor.rest.is_empty() {
            if columns.len() > kinds.len() * (NUMBERS_MAX + 1) {
                return Err(BlockError::TooLarge);
            }
            columns.push(cursor.column()?);
        }
        // A column of a position is there only when an event of the kind has it.
        // The lengths say so, but stand behind: count from the back.
        let mut end = columns.len();
        for kind in kinds.iter().rev() {
            end = end.checked_sub(1).ok_or(BlockError::Short)?;
            let lengths = *columns.get(end).ok_or(BlockError::Short)?;
            let mut most = 0;
            let mut rest = lengths;
            while !rest.rest.is_empty() {
                most = most.max(rest.integer()?);
            }
            let most = usize::try_from(most).map_err(|_| BlockError::TooLarge)?;
            if most > NUMBERS_MAX {
                return Err(BlockError::TooLarge);
            }
            let start = end.checked_sub(most).ok_or(BlockError::Short)?;
            self.numbers.insert((*kind, u8::MAX), lengths);
            for place in 0..most {
                let column = *columns.get(start + place).ok_or(BlockError::Short)?;
                self.numbers.insert((*kind, place as u8), column);
            }
            end = start;
        }
        if end == 0 { Ok(()) } else { Err(BlockError::TooLarge) }
    }

    fn row(&mut self, kind: Kind, block: &mut DecodedBlock) -> Result<(), BlockError> {
        let flags = u16::try_from(self.flags.integer()?).map_err(|_| BlockError::TooLarge)?;
        self.last_ts = self.times.delta(self.last_ts)?;
        let (thread, pid, tid) = self.thread()?;
        let numbers = self.row_numbers(kind as u8, thread, block)?;
        let attached = self.row_attached(kind, thread, numbers, block)?;
        block.rows.push(Row { kind, flags, pid, tid, ts_ns: self.last_ts, numbers, attached });
        Ok(())
    }

    fn thread(&mut self) -> Result<(u32, u32, u32), BlockError> {
        let thread = u32::try_from(self.threads.integer()?).map_err(|_| BlockError::Reference)?;
        if thread as usize == self.thread_table.len() {
            let pid = u32::try_from(self.threads.integer()?).map_err(|_| BlockError::TooLarge)?;
            let tid = u32::try_from(self.threads.integer()?).map_err(|_| BlockError::TooLarge)?;
            self.thread_table.push((pid, tid));
        }
        let (pid, tid) =
            self.thread_table.get(thread as usize).copied().ok_or(BlockError::Reference)?;
        Ok((thread, pid, tid))
    }

    fn row_numbers(
        &mut self,
        kind: u8,
        thread: u32,
        block: &mut DecodedBlock,
    ) -> Result<(u32, u8), BlockError> {
        let start = block.numbers.len() as u32;
        let length = self.number_column(kind, u8::MAX)?.integer()?;
        let length = u8::try_from(length).map_err(|_| BlockError::TooLarge)?;
        if usize::from(length) > NUMBERS_MAX {
            return Err(BlockError::TooLarge);
        }
        let key = if length == 0 { 0 } else { self.number_column(kind, 0)?.delta(0)? };
        let mut context =
            self.contexts.get(&(kind, thread, key)).copied().unwrap_or([0; NUMBERS_MAX]);
        for place in 0..length {
            let last = context.get_mut(usize::from(place)).ok_or(BlockError::TooLarge)?;
            *last = if place == 0 { key } else { self.number_column(kind, place)?.delta(*last)? };
            block.numbers.push(*last);
        }
        self.contexts.insert((kind, thread, key), context);
        Ok((start, length))
    }

    fn number_column(&mut self, kind: u8, place: u8) -> Result<&mut Cursor<'a>, BlockError> {
        self.numbers.get_mut(&(kind, place)).ok_or(BlockError::Short)
    }

    /// The number of the string that comes next, 0 for a new one.
    fn reference(&mut self, thread: u32, call: SameCall) -> Result<u64, BlockError> {
        let code = self.references.integer()?;
        let Some(expected) = &mut self.expected else { return Ok(code) };
        let (follower, same) = expected.next(thread, &call);
        let reference = match code {
            0 => 0,
            1 => u64::from(follower),
            2 => u64::from(same),
            code => code - 2,
        };
        if code != 0 && reference == 0 || reference > self.string_table.len() as u64 {
            return Err(BlockError::Reference);
        }
        let string = if reference == 0 { self.string_table.len() as u64 + 1 } else { reference };
        expected.note(thread, call, u32::try_from(string).map_err(|_| BlockError::Reference)?);
        Ok(reference)
    }

    fn row_attached(
        &mut self,
        kind: Kind,
        thread: u32,
        numbers: (u32, u8),
        block: &mut DecodedBlock,
    ) -> Result<(u32, u8), BlockError> {
        let start = block.attached.len() as u32;
        let count = u8::try_from(self.heads.integer()?).map_err(|_| BlockError::TooLarge)?;
        if usize::from(count) > crate::event::ATTACHMENTS_MAX {
            return Err(BlockError::TooLarge);
        }
        for _ in 0..count {
            let (index, flags) = (self.heads.byte()?, self.heads.byte()?);
            let (first, last) = (numbers.0 as usize, numbers.0 as usize + usize::from(numbers.1));
            let told = block.numbers.get(first..last).unwrap_or_default();
            let reference = self.reference(thread, same_call(kind, index, told))?;
            let place = if reference == 0 {
                let length =
                    u32::try_from(self.lengths.integer()?).map_err(|_| BlockError::TooLarge)?;
                let place = (self.strings_end, length);
                self.strings_end =
                    self.strings_end.checked_add(length).ok_or(BlockError::TooLarge)?;
                if self.strings_end as usize > block.strings.len() {
                    return Err(BlockError::Reference);
                }
                self.string_table.push(place);
                place
            } else {
                let place = usize::try_from(reference - 1).map_err(|_| BlockError::Reference)?;
                self.string_table.get(place).copied().ok_or(BlockError::Reference)?
            };
            block.attached.push((index, flags, place));
        }
        Ok((start, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(place: u64) -> Event<'static> {
        let kind = if place.is_multiple_of(7) { Kind::TcpState } else { Kind::Syscall };
        let mut event = Event::new(kind, 1_000_000 + place * 37 - (place % 5) * 50);
        event.cpu = 3;
        event.pid = (place % 3) as u32;
        event.tid = (place % 11) as u32;
        event.flags = (place % 2) as u16;
        for number in 0..(place % 7) + 2 {
            event.push_number(place.wrapping_mul(number).wrapping_sub(5));
        }
        if place.is_multiple_of(4) {
            let bytes: &[u8] = if place.is_multiple_of(8) { b"/etc/hosts" } else { b"" };
            event.attach(Attached { index: 1, flags: 0, bytes });
        }
        event
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut columns = Columns::default();
        let mut events: Vec<Event<'static>> = (0..3_000).map(sample).collect();
        for event in &events {
            columns.push(event);
        }
        let block = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 3)).unwrap();
        events.sort_by_key(|event| event.ts_ns);
        assert_eq!(block.len(), events.len());
        for (place, event) in events.iter().enumerate() {
            assert_eq!(block.event(place).as_ref(), Some(event), "event {place}");
        }
        columns.clear();
        columns.push(&events[0]);
        let again = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 3)).unwrap();
        assert_eq!(again.event(0).as_ref(), Some(&events[0]));
    }

    /// Each thread goes through the same strings again, and a child through those of its
    /// parent.
    #[test]
    fn what_follows_as_before_costs_next_to_nothing() {
        let names: Vec<String> = (0..200).map(|name| format!("/usr/include/{name}.h")).collect();
        let mut columns = Columns::default();
        for tid in 0..20u32 {
            for name in &names {
                let mut event = Event::new(Kind::Syscall, u64::from(tid));
                event.tid = tid + 1;
                event.push_number(2);
                event.attach(Attached { index: 0, flags: 0, bytes: name.as_bytes() });
                columns.push(&event);
            }
        }
        let expected = columns.attachment_refs.iter().filter(|code| **code == 1).count();
        assert_eq!(columns.attachment_refs.len(), 20 * 200, "one byte each");
        assert_eq!(expected, 19 * 200);
        let block = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 0)).unwrap();
        let read: Vec<Vec<u8>> =
            block.events().map(|event| event.attached()[0].bytes.to_vec()).collect();
        let written = (0..20).flat_map(|_| names.iter().map(|name| name.as_bytes().to_vec()));
        assert_eq!(read, written.collect::<Vec<_>>());
    }

    /// A server that waits for many clients, in no order.
    #[test]
    fn the_same_call_points_to_the_same() {
        let mut columns = Columns::default();
        let mut written = Vec::new();
        for turn in 0..2_000u64 {
            let client = turn.wrapping_mul(0x9e37_79b9) >> 7 & 31;
            let mut event = Event::new(Kind::Syscall, turn);
            event.tid = 1;
            for number in [233, 0, turn, 5, 1, client] {
                event.push_number(number);
            }
            let bytes: &[u8] = &client.to_le_bytes();
            event.attach(Attached { index: 3, flags: 0, bytes });
            columns.push(&event);
            written.push(bytes.to_vec());
        }
        let unexpected = columns.attachment_refs.iter().filter(|code| **code > 2).count();
        assert_eq!(unexpected, 0);
        let block = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 0)).unwrap();
        let read: Vec<_> = block.events().map(|event| event.attached()[0].bytes.to_vec()).collect();
        assert_eq!(read, written);
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut columns = Columns::default();
        for place in 0..40 {
            columns.push(&sample(place));
        }
        let bytes = columns.to_bytes(Class::State, 0);
        for length in 0..bytes.len() {
            assert!(DecodedBlock::read(&bytes[..length]).is_err(), "length {length}");
        }
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] = value;
                if let Ok(block) = DecodedBlock::read(&changed) {
                    assert!(block.events().count() <= EVENTS_MAX);
                }
            }
        }
    }
}
