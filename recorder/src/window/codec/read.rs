//! Reading what [`super::Columns`] wrote, from any bytes.

use super::{
    AttachedRow, BlockError, DecodedBlock, EVENTS_MAX, RAW_BYTES_MAX, Row,
    bits::{BitReader, Cursor, take_changes},
    model::{Guess, Look, Model, PATTERN_NUMBERS_MAX, Step},
    step,
};
use crate::event::{ATTACHMENTS_MAX, Class, Kind, NUMBERS_MAX};

struct Reader<'a> {
    steps: Cursor<'a>,
    threads: Cursor<'a>,
    shapes: Cursor<'a>,
    distances: Cursor<'a>,
    results: Cursor<'a>,
    references: Cursor<'a>,
    lengths: Cursor<'a>,
    changes: Cursor<'a>,
    first_times: Cursor<'a>,
    second_times: Cursor<'a>,
    numbers: [Cursor<'a>; PATTERN_NUMBERS_MAX],
    strings: Cursor<'a>,
    bits: BitReader<'a>,
    model: Model,
    string_places: Vec<(u32, u32)>,
}

/// Reads what stands behind layout and class.
pub(super) fn read(class: Class, mut cursor: Cursor<'_>) -> Result<DecodedBlock, BlockError> {
    let cpu = cursor.number()?;
    let count: usize = cursor.number()?;
    if count > EVENTS_MAX {
        return Err(BlockError::TooLarge);
    }
    let start_ns = cursor.integer()?;
    let mut next = || cursor.column();
    let mut reader = Reader {
        threads: next()?,
        shapes: next()?,
        distances: next()?,
        results: next()?,
        references: next()?,
        lengths: next()?,
        changes: next()?,
        numbers: [Cursor::default(); PATTERN_NUMBERS_MAX],
        strings: Cursor::default(),
        steps: Cursor::default(),
        first_times: Cursor::default(),
        second_times: Cursor::default(),
        bits: BitReader::default(),
        model: Model::default(),
        string_places: Vec::new(),
    };
    for column in &mut reader.numbers {
        *column = next()?;
    }
    reader.strings = next()?;
    reader.steps = next()?;
    reader.first_times = next()?;
    reader.second_times = next()?;
    reader.bits = BitReader::new(cursor.rest);
    reader.model.begin(start_ns);
    if reader.steps.rest.len() != count {
        return Err(BlockError::Short);
    }
    let mut block = DecodedBlock::empty(class, cpu, count);
    for code in reader.steps.rest {
        reader.event(*code, &mut block)?;
    }
    let columns = [
        reader.threads,
        reader.shapes,
        reader.distances,
        reader.results,
        reader.references,
        reader.lengths,
        reader.changes,
        reader.first_times,
        reader.second_times,
        reader.strings,
    ];
    // What nobody asked for says that something else was read wrong.
    if columns.iter().chain(&reader.numbers).any(|column| !column.rest.is_empty()) {
        return Err(BlockError::TooLarge);
    }
    block.present = reader.model.present();
    block.sort();
    Ok(block)
}

impl Reader<'_> {
    fn event(&mut self, code: u8, block: &mut DecodedBlock) -> Result<(), BlockError> {
        if code & step::UNUSED != 0 {
            return Err(BlockError::Number(code));
        }
        let last = self.model.last_thread().map(|(number, _)| number);
        let (thread, is_same, is_new) = match code & step::THREAD {
            step::SAME_THREAD => (last.ok_or(BlockError::Reference)?, true, false),
            step::NEXT_THREAD => (self.model.next_thread(), false, false),
            step::KNOWN_THREAD => (self.threads.number()?, false, false),
            _ => (self.new_thread()?, false, true),
        };
        let known = *self.model.threads.get(thread as usize).ok_or(BlockError::Reference)?;
        let guess = self.model.guess(thread);
        let pattern = self.pattern(code & step::PATTERN, guess)?;
        self.model.note(thread, guess, pattern);
        let shape = self.model.pattern(pattern + 1).map_or(0, |pattern| pattern.shape);
        let look = self.model.shapes.get(shape as usize).ok_or(BlockError::Reference)?.look;
        let told = Step { thread, shape, is_same, is_new };
        let result = self.result(code, pattern)?;
        let attached = self.attachments(code, thread, pattern, &look, block)?;
        let first = self.first_times.byte()?;
        let first = self.bits.value(first)?;
        let second = if look.has_duration() {
            let second = self.second_times.byte()?;
            self.bits.value(second)?
        } else {
            0
        };
        let (ts_ns, dur_ns) = self.model.moment_and_duration(told, first, second);
        let start = block.numbers.len() as u32;
        if look.is_call() {
            let own = [look.call, result, dur_ns];
            block.numbers.extend(own.iter().take(look.numbers()));
        }
        let pattern = self.model.pattern(pattern + 1).copied().unwrap_or_default();
        block.numbers.extend_from_slice(self.model.numbers_of(&pattern));
        block.rows.push(Row {
            kind: Kind::from_number(look.kind()).ok_or(BlockError::Number(look.kind()))?,
            flags: look.flags(),
            pid: known.pid,
            tid: known.tid,
            ts_ns,
            numbers: (start, look.numbers() as u8),
            attached,
        });
        Ok(())
    }

    fn new_thread(&mut self) -> Result<u32, BlockError> {
        let pid: u32 = self.threads.number()?;
        let tid = self.threads.delta(u64::from(pid))?;
        let tid = u32::try_from(tid).map_err(|_| BlockError::TooLarge)?;
        Ok(self.model.add_thread(pid, tid))
    }

    fn pattern(&mut self, code: u8, guess: Guess) -> Result<u32, BlockError> {
        let shape_of = |one_more: u32| {
            self.model.pattern(one_more).map(|pattern| pattern.shape).ok_or(BlockError::Reference)
        };
        match code {
            step::PAIR => shape_of(guess.pair).map(|_| guess.pair - 1),
            step::FOLLOWER => shape_of(guess.follower).map(|_| guess.follower - 1),
            step::SAME_SHAPE => self.known(shape_of(guess.best())?),
            step::KNOWN_SHAPE => {
                let shape = self.shapes.number()?;
                self.known(shape)
            }
            step::NEW_OF_SAME_SHAPE => self.new_pattern(shape_of(guess.best())?),
            step::NEW_OF_KNOWN_SHAPE => {
                let shape = self.shapes.number()?;
                self.new_pattern(shape)
            }
            step::NEW_SHAPE => {
                let look = self.look()?;
                let shape = self.model.add_shape(look);
                self.new_pattern(shape)
            }
            _ => Err(BlockError::Number(code)),
        }
    }

    fn known(&mut self, shape: u32) -> Result<u32, BlockError> {
        let distance = self.distances.integer()?;
        self.model.at_distance(shape, distance).ok_or(BlockError::Reference)
    }

    fn look(&mut self) -> Result<Look, BlockError> {
        let kind = self.shapes.byte()?;
        Kind::from_number(kind).ok_or(BlockError::Number(kind))?;
        let (flags, call) = (self.shapes.number()?, self.shapes.integer()?);
        let (numbers, attachments) = (self.shapes.byte()?, self.shapes.byte()?);
        if usize::from(numbers) > NUMBERS_MAX || usize::from(attachments) > ATTACHMENTS_MAX {
            return Err(BlockError::TooLarge);
        }
        let mut look = Look::new(kind, flags, call, usize::from(numbers));
        for _ in 0..attachments {
            look = look.with(self.shapes.byte()?, self.shapes.byte()?);
        }
        Ok(look)
    }

    fn new_pattern(&mut self, shape: u32) -> Result<u32, BlockError> {
        let look = self.model.shapes.get(shape as usize).map(|shape| shape.look);
        let count = look.ok_or(BlockError::Reference)?.pattern_numbers();
        let mut numbers = [0; PATTERN_NUMBERS_MAX];
        for (place, (number, column)) in
            numbers.iter_mut().zip(&mut self.numbers).take(count).enumerate()
        {
            *number = column.delta(self.model.last_number(shape, place))?;
        }
        // Nobody who reads seeks a pattern.
        Ok(self.model.add_pattern(shape, numbers.get(..count).unwrap_or_default(), 0))
    }

    fn result(&mut self, code: u8, pattern: u32) -> Result<u64, BlockError> {
        let known = self.model.patterns.get_mut(pattern as usize).ok_or(BlockError::Reference)?;
        if code & step::OTHER_RESULT != 0 {
            known.result = self.results.delta(known.result)?;
        }
        Ok(known.result)
    }

    fn attachments(
        &mut self,
        code: u8,
        thread: u32,
        pattern: u32,
        look: &Look,
        block: &mut DecodedBlock,
    ) -> Result<(u32, u8), BlockError> {
        let start = block.attached.len() as u32;
        if look.attachments() == 0 {
            return Ok((start, 0));
        }
        let known = self.model.pattern(pattern + 1).copied().unwrap_or_default();
        for (place, ([index, flags], same)) in look.heads().zip(known.strings).enumerate() {
            let string = if code & step::OTHER_STRINGS == 0 {
                same
            } else {
                match self.references.integer()? {
                    step::SAME_STRING => same,
                    step::NEXT_STRING => self.model.next_string(thread),
                    step::NEW_STRING => self.new_string(same, block)?,
                    known => u32::try_from(known - step::STRINGS_FROM)
                        .ok()
                        .and_then(|number| number.checked_add(1))
                        .ok_or(BlockError::Reference)?,
                }
            };
            let at = self.string(string).ok_or(BlockError::Reference)?;
            block.attached.push(AttachedRow { index, flags, at });
            self.model.note_string(thread, pattern, place, string);
        }
        Ok((start, look.attachments() as u8))
    }

    /// Where a string is, by one more than its number.
    fn string(&self, one_more: u32) -> Option<(u32, u32)> {
        self.string_places.get((one_more as usize).wrapping_sub(1)).copied()
    }

    fn new_string(&mut self, same: u32, block: &mut DecodedBlock) -> Result<u32, BlockError> {
        let coded: u32 = self.lengths.number()?;
        let length = (coded >> 1) as usize;
        let at = block.strings.len();
        if at + length > RAW_BYTES_MAX {
            return Err(BlockError::TooLarge);
        }
        if coded & 1 == 0 {
            block.strings.extend_from_slice(self.strings.bytes(length)?);
        } else {
            let (base, base_length) = self.string(same).ok_or(BlockError::Reference)?;
            if base_length as usize != length {
                return Err(BlockError::Reference);
            }
            let base = base as usize;
            block.strings.extend_from_within(base..base + length);
            let bytes = block.strings.get_mut(at..).unwrap_or_default();
            take_changes(&mut self.changes, bytes)?;
        }
        self.string_places.push((at as u32, length as u32));
        Ok(self.string_places.len() as u32)
    }
}
