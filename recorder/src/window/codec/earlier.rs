//! Reading the layouts 1 and 3, which are in files of earlier programs: columns for each
//! kind, numbers as differences to those of the last event of the same kind, thread and
//! first number. Layout 3 expects which string comes next.

use hashbrown::HashMap;

use super::{AttachedRow, BlockError, DecodedBlock, EVENTS_MAX, Row, bits::Cursor};
use crate::event::{Class, Kind, NUMBERS_MAX, wire::SYSCALL_ARGS_MAX};

/// The first layout, which has no expectations.
const PLAIN: u8 = 1;

/// The one before the current.
const EXPECTING: u8 = 3;

/// Whether it is one of them.
pub(super) fn has(version: u8) -> bool {
    version == PLAIN || version == EXPECTING
}

/// Reads what stands behind layout and class.
pub(super) fn read(
    version: u8,
    class: Class,
    mut cursor: Cursor<'_>,
) -> Result<DecodedBlock, BlockError> {
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
        expected: (version == EXPECTING).then(Expected::default),
        strings_end: 0,
        last_ts: 0,
    };
    let strings = cursor.column()?.rest.to_vec();
    let mut present = kinds.rest.to_vec();
    present.sort_unstable();
    present.dedup();
    reader.read_number_columns(&present, &mut cursor)?;
    let mut block = DecodedBlock::empty(class, cpu, count);
    block.strings = strings;
    for kind in kinds.rest {
        let kind = Kind::from_number(*kind).ok_or(BlockError::Number(*kind))?;
        reader.row(kind, &mut block)?;
    }
    block.sort();
    Ok(block)
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
            block.attached.push(AttachedRow { index, flags, at: place });
        }
        Ok((start, count))
    }
}

/// Calls with their arguments that are remembered for what they pointed to.
const SAME_CALLS_MAX: usize = 8192;

/// A kind and the place of an attachment, and the numbers of the event without what it
/// returned and how long it took.
type SameCall = [u64; 2 + SYSCALL_ARGS_MAX];

/// Which string comes next. Threads do the same again, and so do their children: behind a
/// string stands what stood there last. And the same call with the same arguments points
/// to the same.
#[derive(Default)]
struct Expected {
    /// By string, the one that followed it last; 0 is the beginning of a thread, and no
    /// string.
    followers: Vec<u32>,
    /// By thread, the last string.
    last: Vec<u32>,
    /// By call, the last string at this place.
    same: HashMap<SameCall, u32>,
}

impl Expected {
    /// What should come next, by what came before in the thread and by the call; 0 when
    /// nothing is known.
    fn next(&self, thread: u32, call: &SameCall) -> (u32, u32) {
        let last = self.last.get(thread as usize).copied().unwrap_or_default();
        let follower = self.followers.get(last as usize).copied().unwrap_or_default();
        (follower, self.same.get(call).copied().unwrap_or_default())
    }

    /// Notes what did.
    fn note(&mut self, thread: u32, call: SameCall, string: u32) {
        let (thread, most) = (thread as usize, string.max(1) as usize);
        if self.last.len() <= thread {
            self.last.resize(thread + 1, 0);
        }
        if self.followers.len() <= most {
            self.followers.resize(most + 1, 0);
        }
        if let Some(last) = self.last.get_mut(thread) {
            if let Some(follower) = self.followers.get_mut(*last as usize) {
                *follower = string;
            }
            *last = string;
        }
        let has_room = self.same.len() < SAME_CALLS_MAX;
        match self.same.get_mut(&call) {
            Some(same) => *same = string,
            None if has_room => drop(self.same.insert(call, string)),
            None => {}
        }
    }
}

/// What tells calls apart: everything but result and duration.
fn same_call(kind: Kind, index: u8, numbers: &[u64]) -> SameCall {
    let mut call = [0; 2 + SYSCALL_ARGS_MAX];
    let told = numbers.iter().enumerate().filter(|(place, _)| !matches!(place, 1 | 2));
    let values = std::iter::once(u64::from(kind as u8) << 8 | u64::from(index));
    for (to, from) in call.iter_mut().zip(values.chain(told.map(|(_, number)| *number))) {
        *to = from;
    }
    call
}
