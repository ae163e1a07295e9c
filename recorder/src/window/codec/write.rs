//! Writing: events become columns as they come.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::{
    BlockMeta, EVENTS_MAX, RAW_BYTES_TARGET, RawBlock, VERSION,
    bits::{BitWriter, put, put_changes, put_delta},
    model::{Guess, Look, Model, PATTERN_NUMBERS_MAX, Pattern, Sought, Step},
    step,
};
use crate::{
    decode::Recurrence,
    event::{ATTACHMENTS_MAX, Attached, Class, Event, Kind},
};

/// Where an open block has what it knows of an event. Means nothing in another block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownAs {
    thread: u32,
    pattern: u32,
    /// One more than the number of the string of each attachment.
    strings: [u32; ATTACHMENTS_MAX],
}

/// What of an event was told before its result and its times.
struct Told {
    thread: u32,
    pattern: u32,
    shape: u32,
}

/// Events of one CPU and class, as columns and as the model that tells them. Forgotten
/// when a block is sealed, so that every block stands alone.
#[derive(Default)]
pub struct Columns {
    steps: Vec<u8>,
    threads: Vec<u8>,
    shapes: Vec<u8>,
    distances: Vec<u8>,
    numbers: [Vec<u8>; PATTERN_NUMBERS_MAX],
    results: Vec<u8>,
    references: Vec<u8>,
    lengths: Vec<u8>,
    changes: Vec<u8>,
    first_times: Vec<u8>,
    second_times: Vec<u8>,
    bits: BitWriter,
    model: Model,
    strings: Strings,
    threads_known: HashMap<(u32, u32), u32>,
    looks_known: HashMap<Look, u32>,
    patterns_known: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Bytes of the columns that only some events have.
    rare_bytes: usize,
    /// Bytes of what is known of the events, at the last one that had news.
    known_bytes: usize,
    /// Nobody outside can make patterns that look alike without knowing it.
    seed: u64,
    start_ns: u64,
    first_ns: u64,
    last_ns: u64,
    kinds: [u32; crate::event::wire::KINDS_MAX],
}

impl Columns {
    /// How many events there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it should be sealed before the next event: it has as many events or
    /// bytes as a block may have, or takes more than `held_bytes_max`.
    pub fn is_full(&self, held_bytes_max: usize) -> bool {
        self.steps.len() >= EVENTS_MAX
            || self.raw_bytes() >= RAW_BYTES_TARGET
            || self.strings.bytes.len() >= RAW_BYTES_TARGET
            || self.held_bytes() >= held_bytes_max
    }

    /// Bytes of the columns and of what is known of the events in them.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        // The histories of the shapes have a place for each event.
        self.raw_bytes() + self.steps.len() * size_of::<u32>() + self.known_bytes
    }

    /// Bytes of what is known of the events.
    fn count_known(&self) -> usize {
        // What a table takes for an entry beside it, and what is left free in it.
        const PLACE: usize = size_of::<u32>() * 2;
        const STRING: usize = size_of::<StringPlace>() + PLACE;
        const THREAD: usize = size_of::<(u32, u32, u32)>() + PLACE;
        const LOOK: usize = size_of::<(Look, u32)>() + PLACE;
        self.model.bytes()
            + self.strings.bytes.len()
            + self.strings.places.len() * STRING
            + self.model.threads.len() * THREAD
            + self.model.shapes.len() * LOOK
            + self.model.patterns.len() * PLACE
    }

    /// About the bytes of the block before it is compressed.
    #[inline]
    pub fn raw_bytes(&self) -> usize {
        self.steps.len()
            + self.first_times.len()
            + self.second_times.len()
            + self.bits.len()
            + self.rare_bytes
    }

    /// Adds an event. Answers where an event that is the same but for its times and its
    /// result finds what is known of this one, until the block is sealed.
    pub fn push(&mut self, event: &Event<'_>) -> KnownAs {
        self.begin(event.kind, event.ts_ns);
        let sought = Sought::of(event);
        let look = sought.look;
        let (thread, thread_code) = self.push_thread(event);
        let guess = self.model.guess(thread);
        let (pattern, pattern_code) = self.push_pattern(&sought, guess);
        self.model.note(thread, guess, pattern);
        let mut code = thread_code | pattern_code;
        if !event.attached().is_empty() {
            code |= self.push_attachments(event.attached(), thread, pattern);
        }
        let known = self.model.pattern(pattern + 1).copied().unwrap_or_default();
        let result = look.has_result().then(|| event.number(1));
        let dur_ns = look.has_duration().then(|| event.number(2));
        self.finish(
            Told { thread, pattern, shape: known.shape },
            code,
            event.ts_ns,
            result,
            dur_ns,
        );
        if step::has_news(code) {
            self.known_bytes = self.count_known();
        }
        KnownAs { thread, pattern, strings: known.strings }
    }

    /// Adds a call that is known but for its times and its result.
    pub fn push_known(&mut self, known: &KnownAs, call: &Recurrence) {
        self.begin(Kind::Syscall, call.ts_ns);
        let KnownAs { thread, pattern, strings } = *known;
        let thread_code = self.tell_thread(thread);
        let guess = self.model.guess(thread);
        let last = self.model.pattern(pattern + 1).copied().unwrap_or_default();
        let pattern_code = if guess.pair == pattern + 1 {
            step::PAIR
        } else if guess.follower == pattern + 1 {
            step::FOLLOWER
        } else {
            self.tell_pattern(&last, guess.best())
        };
        self.model.note(thread, guess, pattern);
        let mut code = thread_code | pattern_code;
        if strings != last.strings {
            code |= self.tell_strings(&strings, &last.strings, thread, pattern);
        } else if strings != [0; ATTACHMENTS_MAX] {
            self.model.note_same_strings(thread, &strings);
        }
        let told = Told { thread, pattern, shape: last.shape };
        self.finish(told, code, call.ts_ns, Some(call.ret), Some(call.dur_ns));
    }

    /// What comes before an event.
    #[inline]
    fn begin(&mut self, kind: Kind, ts_ns: u64) {
        if self.steps.is_empty() {
            (self.start_ns, self.first_ns) = (ts_ns, ts_ns);
            self.seed = self.hasher.hash_one(ts_ns);
            self.model.begin(ts_ns);
        }
        self.first_ns = self.first_ns.min(ts_ns);
        self.last_ns = self.last_ns.max(ts_ns);
        if let Some(count) = self.kinds.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Tells result, step and times.
    #[inline]
    fn finish(
        &mut self,
        told: Told,
        mut code: u8,
        ts_ns: u64,
        result: Option<u64>,
        dur_ns: Option<u64>,
    ) {
        if let Some(result) = result {
            code |= self.push_result(result, told.pattern);
        }
        self.steps.push(code);
        let step = Step {
            thread: told.thread,
            shape: told.shape,
            is_same: code & step::THREAD == step::SAME_THREAD,
            is_new: code & step::THREAD == step::NEW_THREAD,
        };
        let (first, second) = self.model.times(step, ts_ns, dur_ns.unwrap_or_default());
        self.first_times.push(self.bits.put(first));
        if dur_ns.is_some() {
            self.second_times.push(self.bits.put(second));
        }
    }

    fn push_thread(&mut self, event: &Event<'_>) -> (u32, u8) {
        let last = self.model.last_thread();
        if let Some((number, thread)) = last
            && (thread.pid, thread.tid) == (event.pid, event.tid)
        {
            return (number, step::SAME_THREAD);
        }
        let key = (event.pid, event.tid);
        if let Some(thread) = self.threads_known.get(&key).copied() {
            return (thread, self.tell_thread(thread));
        }
        let before = self.threads.len();
        put(&mut self.threads, u64::from(event.pid));
        put_delta(&mut self.threads, u64::from(event.tid), u64::from(event.pid));
        let thread = self.model.add_thread(event.pid, event.tid);
        self.threads_known.insert(key, thread);
        self.rare_bytes += self.threads.len() - before;
        (thread, step::NEW_THREAD)
    }

    /// Tells a thread the block has.
    #[inline]
    fn tell_thread(&mut self, thread: u32) -> u8 {
        if self.model.last_thread().is_some_and(|(number, _)| number == thread) {
            return step::SAME_THREAD;
        }
        if self.model.next_thread() == thread {
            return step::NEXT_THREAD;
        }
        let before = self.threads.len();
        put(&mut self.threads, u64::from(thread));
        self.rare_bytes += self.threads.len() - before;
        step::KNOWN_THREAD
    }

    fn push_pattern(&mut self, sought: &Sought<'_>, guess: Guess) -> (u32, u8) {
        let model = &self.model;
        let is = |one_more: u32| {
            model.pattern(one_more).is_some_and(|pattern| model.is(pattern, sought))
        };
        if is(guess.pair) {
            (guess.pair - 1, step::PAIR)
        } else if is(guess.follower) {
            (guess.follower - 1, step::FOLLOWER)
        } else {
            self.push_unexpected(sought, guess.best())
        }
    }

    /// A pattern other than the two that were expected, the better one of which is `best`.
    fn push_unexpected(&mut self, sought: &Sought<'_>, best: u32) -> (u32, u8) {
        let signature = sought.signature(self.seed);
        let model = &self.model;
        let known = self.patterns_known.find(signature, |number| {
            model
                .pattern(number + 1)
                .is_some_and(|pattern| pattern.signature == signature && model.is(pattern, sought))
        });
        if let Some(number) = known.copied() {
            let pattern = self.model.pattern(number + 1).copied().unwrap_or_default();
            return (number, self.tell_pattern(&pattern, best));
        }
        let before = self.shapes.len();
        let best_shape = self.model.pattern(best).map(|pattern| pattern.shape);
        let (shape, code) = self.push_shape(&sought.look, best_shape);
        self.rare_bytes += self.shapes.len() - before;
        for (place, (number, column)) in sought.numbers.iter().zip(&mut self.numbers).enumerate() {
            let before = column.len();
            put_delta(column, *number, self.model.last_number(shape, place));
            self.rare_bytes += column.len() - before;
        }
        let number = self.model.add_pattern(shape, sought.numbers, signature);
        let model = &self.model;
        self.patterns_known.insert_unique(signature, number, |number| {
            model.pattern(number + 1).map_or(0, |pattern| pattern.signature)
        });
        (number, code)
    }

    /// Tells a pattern the block has, where `best` was expected.
    fn tell_pattern(&mut self, pattern: &Pattern, best: u32) -> u8 {
        let before = self.shapes.len() + self.distances.len();
        let best_shape = self.model.pattern(best).map(|pattern| pattern.shape);
        let code = if best_shape == Some(pattern.shape) {
            step::SAME_SHAPE
        } else {
            put(&mut self.shapes, u64::from(pattern.shape));
            step::KNOWN_SHAPE
        };
        put(&mut self.distances, u64::from(self.model.distance(pattern)));
        self.rare_bytes += self.shapes.len() + self.distances.len() - before;
        code
    }

    /// The shape of a new pattern.
    fn push_shape(&mut self, look: &Look, best_shape: Option<u32>) -> (u32, u8) {
        if let Some(shape) = best_shape.filter(|shape| self.model.has_look(*shape, look)) {
            return (shape, step::NEW_OF_SAME_SHAPE);
        }
        if let Some(shape) = self.looks_known.get(look) {
            put(&mut self.shapes, u64::from(*shape));
            return (*shape, step::NEW_OF_KNOWN_SHAPE);
        }
        self.shapes.push(look.kind());
        put(&mut self.shapes, u64::from(look.flags()));
        put(&mut self.shapes, look.call);
        self.shapes.extend([look.numbers() as u8, look.attachments() as u8]);
        self.shapes.extend(look.heads().flatten());
        let shape = self.model.add_shape(*look);
        self.looks_known.insert(*look, shape);
        (shape, step::NEW_SHAPE)
    }

    fn push_result(&mut self, result: u64, pattern: u32) -> u8 {
        let Some(pattern) = self.model.patterns.get_mut(pattern as usize) else { return 0 };
        if pattern.result == result {
            return 0;
        }
        let before = self.results.len();
        put_delta(&mut self.results, result, pattern.result);
        self.rare_bytes += self.results.len() - before;
        pattern.result = result;
        step::OTHER_RESULT
    }

    fn push_attachments(&mut self, attached: &[Attached<'_>], thread: u32, pattern: u32) -> u8 {
        let known =
            self.model.pattern(pattern + 1).map_or([0; ATTACHMENTS_MAX], |pattern| pattern.strings);
        let is_same = |(attached, string): (&Attached<'_>, &u32)| {
            *string != 0 && self.strings.get(*string) == attached.bytes
        };
        if attached.iter().zip(&known).all(is_same) {
            self.model.note_same_strings(thread, &known);
            return 0;
        }
        let before = self.references.len() + self.lengths.len() + self.changes.len();
        for (place, (attached, same)) in attached.iter().zip(&known).enumerate() {
            let next = self.model.next_string(thread);
            let string = if *same != 0 && self.strings.get(*same) == attached.bytes {
                self.references.push(step::SAME_STRING as u8);
                *same
            } else if next != 0 && self.strings.get(next) == attached.bytes {
                self.references.push(step::NEXT_STRING as u8);
                next
            } else {
                self.push_string(attached.bytes, *same)
            };
            self.model.note_string(thread, pattern, place, string);
        }
        self.rare_bytes += self.references.len() + self.lengths.len() + self.changes.len() - before;
        step::OTHER_STRINGS
    }

    /// Tells strings the block has where `last` were the last of the pattern.
    fn tell_strings(
        &mut self,
        strings: &[u32; ATTACHMENTS_MAX],
        last: &[u32; ATTACHMENTS_MAX],
        thread: u32,
        pattern: u32,
    ) -> u8 {
        let before = self.references.len();
        // As many as there are: an attachment has a string, if an empty one.
        let attached = strings.iter().take_while(|string| **string != 0);
        for (place, (string, last)) in attached.zip(last).enumerate() {
            if string == last {
                self.references.push(step::SAME_STRING as u8);
            } else if *string == self.model.next_string(thread) {
                self.references.push(step::NEXT_STRING as u8);
            } else {
                put(&mut self.references, step::STRINGS_FROM + u64::from(*string) - 1);
            }
            self.model.note_string(thread, pattern, place, *string);
        }
        self.rare_bytes += self.references.len() - before;
        step::OTHER_STRINGS
    }

    /// A string that was not expected; answers one more than its number.
    fn push_string(&mut self, bytes: &[u8], same: u32) -> u32 {
        let hash = self.hasher.hash_one(bytes);
        if let Some(string) = self.strings.find(hash, bytes) {
            put(&mut self.references, step::STRINGS_FROM + u64::from(string) - 1);
            return string;
        }
        self.references.push(step::NEW_STRING as u8);
        let base = self.strings.get(same);
        let is_relative = resembles(bytes, base);
        if is_relative {
            put_changes(&mut self.changes, bytes, base);
        } else {
            self.rare_bytes += bytes.len();
        }
        put(&mut self.lengths, (bytes.len() as u64) << 1 | u64::from(is_relative));
        self.strings.add(hash, &self.hasher, bytes, is_relative)
    }

    /// What it will be as a block.
    pub fn meta(&self, class: Class, cpu: u16) -> BlockMeta {
        BlockMeta {
            class,
            cpu,
            count: self.steps.len() as u32,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            kinds: self.kinds,
            present: self.model.present(),
        }
    }

    /// The bytes of the block, to be compressed.
    pub fn to_bytes(&self, class: Class, cpu: u16) -> RawBlock {
        let mut block = Vec::with_capacity(self.raw_bytes() + 256);
        block.extend([VERSION, class as u8]);
        put(&mut block, u64::from(cpu));
        put(&mut block, self.steps.len() as u64);
        put(&mut block, self.start_ns);
        let columns = [
            &self.threads,
            &self.shapes,
            &self.distances,
            &self.results,
            &self.references,
            &self.lengths,
            &self.changes,
        ];
        for column in columns.into_iter().chain(&self.numbers) {
            put_column(&mut block, column);
        }
        let whole = self.strings.places.iter().filter(|place| !place.is_relative);
        put(&mut block, whole.clone().map(|place| u64::from(place.length)).sum());
        for place in whole {
            block.extend_from_slice(self.strings.at(place));
        }
        put_column(&mut block, &self.steps);
        let mut cuts = [block.len(); 3];
        for (column, cut) in
            [&self.first_times, &self.second_times].into_iter().zip(cuts.iter_mut().skip(1))
        {
            put_column(&mut block, column);
            *cut = block.len();
        }
        let (words, last) = self.bits.parts();
        block.extend_from_slice(words);
        block.extend_from_slice(&last);
        RawBlock { bytes: block, cuts }
    }

    /// Forgets everything, and keeps the memory for the next block.
    pub fn clear(&mut self) {
        let columns = [
            &mut self.steps,
            &mut self.threads,
            &mut self.shapes,
            &mut self.distances,
            &mut self.results,
            &mut self.references,
            &mut self.lengths,
            &mut self.changes,
            &mut self.first_times,
            &mut self.second_times,
        ];
        columns.into_iter().chain(&mut self.numbers).for_each(Vec::clear);
        self.bits.clear();
        self.model.clear();
        self.strings.clear();
        self.threads_known.clear();
        self.looks_known.clear();
        self.patterns_known.clear();
        (self.rare_bytes, self.known_bytes) = (0, 0);
        (self.start_ns, self.first_ns, self.last_ns) = (0, 0, 0);
        self.kinds = Default::default();
    }
}

fn put_column(block: &mut Vec<u8>, column: &[u8]) {
    put(block, column.len() as u64);
    block.extend_from_slice(column);
}

/// Every string of a block once.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    places: Vec<StringPlace>,
    known: HashTable<u32>,
}

#[derive(Clone, Copy)]
struct StringPlace {
    at: u32,
    length: u32,
    /// It is written as what differs from another.
    is_relative: bool,
}

impl Strings {
    fn at(&self, place: &StringPlace) -> &[u8] {
        let range = place.at as usize..(place.at + place.length) as usize;
        self.bytes.get(range).unwrap_or_default()
    }

    /// The bytes of a string, by one more than its number.
    fn get(&self, one_more: u32) -> &[u8] {
        let place = self.places.get((one_more as usize).wrapping_sub(1));
        place.map(|place| self.at(place)).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.known.clear();
    }

    fn find(&self, hash: u64, bytes: &[u8]) -> Option<u32> {
        self.known.find(hash, |string| self.get(*string) == bytes).copied()
    }

    /// Adds one; answers one more than its number.
    fn add(
        &mut self,
        hash: u64,
        hasher: &DefaultHashBuilder,
        bytes: &[u8],
        is_relative: bool,
    ) -> u32 {
        let (at, length) = (self.bytes.len() as u32, bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        self.places.push(StringPlace { at, length, is_relative });
        let string = self.places.len() as u32;
        let mut known = std::mem::take(&mut self.known);
        known.insert_unique(hash, string, |string| hasher.hash_one(self.get(*string)));
        self.known = known;
        string
    }
}

/// Whether a string is better told by another: as long, and half of it the same.
fn resembles(bytes: &[u8], base: &[u8]) -> bool {
    bytes.len() == base.len()
        && bytes.len() > 8
        && bytes.iter().zip(base).filter(|(byte, base)| byte == base).count() * 2 > bytes.len()
}
