//! What a block knows of its events so far, and what it expects next. Who writes a block
//! and who reads it keep the same model, so that what was expected costs next to nothing.
//!
//! A *shape* is what events have in common before their numbers: kind, flags, the call,
//! how many numbers and attachments. A *pattern* is a shape with its numbers, all but
//! result and duration: programs make the same calls with the same arguments over and
//! over. Which pattern comes next is guessed by the last two of the same thread, then by
//! the last one. How long things take is guessed by the shape.
//!
//! Invariant: nothing here depends on the past but through [`Model::note`] and its like,
//! which both sides call with the same values in the same order. Arithmetic wraps: what
//! a file says may be anything.

use super::Present;
use crate::event::{ATTACHMENTS_MAX, Event, Kind, NUMBERS_MAX};

/// Numbers of a pattern: those of an event, or of a call without number, result and
/// duration.
pub(super) const PATTERN_NUMBERS_MAX: usize = NUMBERS_MAX;

/// Where the arguments of a call begin among its numbers.
const CALL_ARGS: usize = 3;

/// What events have in common before their numbers: packed, since it is compared for every
/// event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Look {
    /// From the lowest bit: kind (8 bits), flags (16), how many numbers (4) and attachments
    /// (4), then 16 bits for each attachment, its index and its flags.
    head: u128,
    /// Of a call, its number.
    pub(super) call: u64,
}

/// Where the attachments begin in the head.
const HEADS_BIT: usize = 32;

impl Look {
    /// What an event has: what its attachments say of themselves is added by `with`.
    pub(super) fn new(kind: u8, flags: u16, call: u64, numbers: usize) -> Look {
        let head = u128::from(kind) | u128::from(flags) << 8 | (numbers as u128 & 15) << 24;
        Look { head, call }
    }

    pub(super) fn with(mut self, index: u8, flags: u8) -> Look {
        let at = HEADS_BIT + 16 * self.attachments();
        self.head |= u128::from(u16::from_le_bytes([index, flags])) << at;
        self.head += 1 << 28;
        self
    }

    #[inline]
    pub(super) fn of(event: &Event<'_>) -> Look {
        let call = if event.kind == Kind::Syscall { event.number(0) } else { 0 };
        let look = Look::new(event.kind as u8, event.flags, call, event.numbers().len());
        let attached = event.attached().iter();
        attached.fold(look, |look, attached| look.with(attached.index, attached.flags))
    }

    pub(super) fn kind(&self) -> u8 {
        self.head as u8
    }

    pub(super) fn flags(&self) -> u16 {
        (self.head >> 8) as u16
    }

    pub(super) fn numbers(&self) -> usize {
        (self.head >> 24) as usize & 15
    }

    pub(super) fn attachments(&self) -> usize {
        (self.head >> 28) as usize & 15
    }

    /// Index and flags of each attachment.
    pub(super) fn heads(&self) -> impl Iterator<Item = [u8; 2]> + use<> {
        let heads = self.head >> HEADS_BIT;
        (0..self.attachments()).map(move |place| ((heads >> (16 * place)) as u16).to_le_bytes())
    }

    pub(super) fn is_call(&self) -> bool {
        self.kind() == Kind::Syscall as u8
    }

    /// Whether such an event has a result.
    pub(super) fn has_result(&self) -> bool {
        self.is_call() && self.numbers() > 1
    }

    /// Whether such an event says how long it took.
    pub(super) fn has_duration(&self) -> bool {
        self.is_call() && self.numbers() > 2
    }

    /// How many of its numbers make the pattern.
    #[inline]
    pub(super) fn pattern_numbers(&self) -> usize {
        if self.is_call() { self.numbers().saturating_sub(CALL_ARGS) } else { self.numbers() }
    }
}

/// The numbers of an event that make its pattern.
pub(super) fn pattern_numbers<'e>(event: &'e Event<'_>) -> &'e [u64] {
    let skipped = if event.kind == Kind::Syscall { CALL_ARGS } else { 0 };
    event.numbers().get(skipped..).unwrap_or_default()
}

/// A [`Look`], and what is known of the events that have it.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) look: Look,
    /// The patterns of its events, in their order.
    pub(super) history: Vec<u32>,
    /// From the last event to the entry in the same thread, and how long that took; from
    /// the last event of another thread, and how long this one was away.
    times: [Expected; 4],
}

/// A shape with its numbers, and what was last seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pattern {
    /// Its hash: most of those that an event does not have are told from it by that.
    pub(super) signature: u64,
    pub(super) shape: u32,
    /// Where its numbers are.
    numbers: u32,
    /// Where it stands last in the history of its shape.
    place: u32,
    /// One more than the pattern that followed it last in a thread; 0 where none did.
    follower: u32,
    /// What it returned last.
    pub(super) result: u64,
    /// The last string of each attachment, one more than its number.
    pub(super) strings: [u32; ATTACHMENTS_MAX],
}

/// A thread of the block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// Its last two patterns, one more than their numbers.
    last: u32,
    before: u32,
    last_ts: u64,
    /// Its last string, one more than its number.
    string: u32,
    /// The thread that came behind it when the CPU last went on to another.
    follower: u32,
}

/// A moving middle of what was seen, in sixteenths; 0 where nothing was.
#[derive(Clone, Copy, Debug, Default)]
struct Expected(i64);

impl Expected {
    fn value(self) -> i64 {
        self.0 >> 4
    }

    /// Moves a thirty-second of itself towards what was seen, or less where that is near:
    /// one wait among a thousand calls does not move it far.
    fn note(&mut self, seen: i64) {
        let seen = seen.wrapping_shl(4);
        if self.0 == 0 {
            self.0 = seen;
            return;
        }
        let step = (self.0.unsigned_abs() >> 5).max(16).cast_signed();
        self.0 = self.0.wrapping_add(seen.wrapping_sub(self.0).clamp(-step, step));
    }
}

/// Which pattern may come next; 0 is none, otherwise one more than its number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guess {
    pub(super) pair: u32,
    pub(super) follower: u32,
    slot: usize,
}

impl Guess {
    /// The better one of the two.
    pub(super) fn best(self) -> u32 {
        if self.pair == 0 { self.follower } else { self.pair }
    }
}

/// What tells the pattern of an event.
pub(super) struct Sought<'e> {
    pub(super) look: Look,
    pub(super) numbers: &'e [u64],
}

impl<'e> Sought<'e> {
    #[inline]
    pub(super) fn of(event: &'e Event<'_>) -> Sought<'e> {
        Sought { look: Look::of(event), numbers: pattern_numbers(event) }
    }

    /// Its hash, by a secret nobody outside knows.
    pub(super) fn signature(&self, seed: u64) -> u64 {
        // The fractional part of the golden ratio: any odd number without a pattern does.
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |signature: u64, number: u64| {
            let product = u128::from(signature ^ number) * u128::from(MIX);
            product as u64 ^ (product >> 64) as u64
        };
        let head = [self.look.head as u64, (self.look.head >> 64) as u64, self.look.call];
        let words = head.iter().chain(self.numbers);
        words.fold(seed, |signature, word| mix(signature.rotate_left(5), *word))
    }
}

/// Slots of the table of pairs: at first, and at the most.
const PAIRS_MIN: usize = 256;
const PAIRS_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) shapes: Vec<Shape>,
    pub(super) patterns: Vec<Pattern>,
    numbers: Vec<u64>,
    pub(super) threads: Vec<Thread>,
    /// By a hash of two patterns, the one that came behind them, one more than its number.
    pairs: Vec<u32>,
    /// By string, one more than its number, the one that came behind it in a thread; 0 is
    /// the beginning of a thread, and none.
    followers: Vec<u32>,
    /// The thread of the last event.
    thread: u32,
    /// The time of the last event.
    ts_ns: u64,
}

impl Model {
    /// Nothing known but the time of the first event.
    pub(super) fn begin(&mut self, ts_ns: u64) {
        self.ts_ns = ts_ns;
        self.pairs.resize(PAIRS_MIN, 0);
        self.followers.push(0);
    }

    /// Forgets everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.shapes.clear();
        self.patterns.clear();
        self.numbers.clear();
        self.threads.clear();
        self.pairs.clear();
        self.followers.clear();
        (self.thread, self.ts_ns) = (0, 0);
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.shapes.len() * size_of::<Shape>()
            + self.patterns.len() * size_of::<Pattern>()
            + self.numbers.len() * size_of::<u64>()
            + self.threads.len() * size_of::<Thread>()
            + (self.pairs.len() + self.followers.len()) * size_of::<u32>()
    }

    /// Which threads and calls there are.
    pub(super) fn present(&self) -> Present {
        let mut present = Present::default();
        for thread in &self.threads {
            present.note_thread(thread.pid, thread.tid);
        }
        for Shape { look, .. } in self.shapes.iter().filter(|shape| shape.look.is_call()) {
            present.note_call(look.call, look.flags());
        }
        present
    }

    /// The thread of the last event; `None` before the first.
    pub(super) fn last_thread(&self) -> Option<(u32, &Thread)> {
        self.threads.get(self.thread as usize).map(|thread| (self.thread, thread))
    }

    /// The thread that should come when it is not the same.
    pub(super) fn next_thread(&self) -> u32 {
        self.last_thread().map_or(0, |(_, thread)| thread.follower)
    }

    /// A thread that is new in the block.
    pub(super) fn add_thread(&mut self, pid: u32, tid: u32) -> u32 {
        self.threads.push(Thread { pid, tid, ..Thread::default() });
        self.threads.len() as u32 - 1
    }

    pub(super) fn guess(&self, thread: u32) -> Guess {
        let Some(thread) = self.threads.get(thread as usize) else { return Guess::default() };
        let slot = (thread.before.wrapping_mul(0x9e37_79b1)
            ^ thread.last.wrapping_mul(0x85eb_ca6b))
        .wrapping_mul(0xc2b2_ae35);
        let slot = (slot >> 16) as usize & self.pairs.len().wrapping_sub(1);
        Guess {
            pair: self.pairs.get(slot).copied().unwrap_or_default(),
            follower: self.pattern(thread.last).map_or(0, |pattern| pattern.follower),
            slot,
        }
    }

    /// The pattern with the number one less.
    pub(super) fn pattern(&self, one_more: u32) -> Option<&Pattern> {
        self.patterns.get((one_more as usize).wrapping_sub(1))
    }

    pub(super) fn shape_of(&self, pattern: &Pattern) -> Option<&Shape> {
        self.shapes.get(pattern.shape as usize)
    }

    pub(super) fn numbers_of(&self, pattern: &Pattern) -> &[u64] {
        let count = self.shape_of(pattern).map_or(0, |shape| shape.look.pattern_numbers());
        let start = pattern.numbers as usize;
        self.numbers.get(start..start + count).unwrap_or_default()
    }

    /// Whether an event has this pattern.
    #[inline]
    pub(super) fn is(&self, pattern: &Pattern, sought: &Sought<'_>) -> bool {
        let Sought { look, numbers } = sought;
        let start = pattern.numbers as usize;
        self.shape_of(pattern).is_some_and(|shape| shape.look == *look)
            && self.numbers.get(start..start + numbers.len()).is_some_and(|known| {
                known.iter().zip(*numbers).all(|(known, number)| known == number)
            })
    }

    pub(super) fn has_look(&self, shape: u32, look: &Look) -> bool {
        self.shapes.get(shape as usize).is_some_and(|shape| shape.look == *look)
    }

    pub(super) fn add_shape(&mut self, look: Look) -> u32 {
        self.shapes.push(Shape { look, ..Shape::default() });
        self.shapes.len() as u32 - 1
    }

    /// The last pattern of a shape: what a new one is told by.
    pub(super) fn last_of(&self, shape: u32) -> Option<&Pattern> {
        let last = self.shapes.get(shape as usize)?.history.last()?;
        self.patterns.get(*last as usize)
    }

    /// Number `place` of the last pattern of a shape, 0 where there is none.
    pub(super) fn last_number(&self, shape: u32, place: usize) -> u64 {
        let numbers = self.last_of(shape).map(|last| self.numbers_of(last));
        numbers.and_then(|numbers| numbers.get(place).copied()).unwrap_or_default()
    }

    /// A pattern that is new in the block. It inherits from the last one of its shape.
    pub(super) fn add_pattern(&mut self, shape: u32, numbers: &[u64], signature: u64) -> u32 {
        let (result, strings) = match self.last_of(shape) {
            Some(last) => (last.result, last.strings),
            None => Default::default(),
        };
        let start = self.numbers.len() as u32;
        self.numbers.extend_from_slice(numbers);
        self.patterns.push(Pattern {
            signature,
            shape,
            numbers: start,
            result,
            strings,
            ..Pattern::default()
        });
        let room = self.pairs.len();
        if self.patterns.len() > room / 2 && room < PAIRS_MAX {
            // What was in it is learnt again soon.
            self.pairs.clear();
            self.pairs.resize(room * 8, 0);
        }
        self.patterns.len() as u32 - 1
    }

    /// How many events of its shape ago a pattern was there, at least 1.
    pub(super) fn distance(&self, pattern: &Pattern) -> u32 {
        let shape = self.shape_of(pattern);
        shape.map_or(0, |shape| (shape.history.len() as u32).wrapping_sub(pattern.place))
    }

    /// The pattern so many events of a shape ago.
    pub(super) fn at_distance(&self, shape: u32, distance: u64) -> Option<u32> {
        let history = &self.shapes.get(shape as usize)?.history;
        let place = history.len().checked_sub(usize::try_from(distance).ok()?)?;
        history.get(place).copied()
    }

    /// A pattern came: what followed what is known by it.
    pub(super) fn note(&mut self, thread: u32, guess: Guess, pattern: u32) {
        let Some(thread) = self.threads.get_mut(thread as usize) else { return };
        // The table may have grown since.
        if let Some(pair) = self.pairs.get_mut(guess.slot) {
            *pair = pattern + 1;
        }
        if let Some(last) = self.patterns.get_mut((thread.last as usize).wrapping_sub(1)) {
            last.follower = pattern + 1;
        }
        (thread.before, thread.last) = (thread.last, pattern + 1);
        if let Some(pattern_known) = self.patterns.get_mut(pattern as usize)
            && let Some(shape) = self.shapes.get_mut(pattern_known.shape as usize)
        {
            pattern_known.place = shape.history.len() as u32;
            shape.history.push(pattern);
        }
    }

    /// The string that should come next in a thread, one more than its number; 0 is none.
    pub(super) fn next_string(&self, thread: u32) -> u32 {
        let last = self.threads.get(thread as usize).map_or(0, |thread| thread.string);
        self.followers.get(last as usize).copied().unwrap_or_default()
    }

    /// A string came as an attachment of a pattern; one more than its number.
    pub(super) fn note_string(&mut self, thread: u32, pattern: u32, place: usize, string: u32) {
        if let Some(thread) = self.threads.get_mut(thread as usize) {
            if let Some(follower) = self.followers.get_mut(thread.string as usize) {
                *follower = string;
            }
            thread.string = string;
        }
        if self.followers.len() <= string as usize {
            self.followers.resize(string as usize + 1, 0);
        }
        let strings = self.patterns.get_mut(pattern as usize).map(|known| &mut known.strings);
        if let Some(last) = strings.and_then(|strings| strings.get_mut(place)) {
            *last = string;
        }
    }

    /// The strings of a pattern came once more.
    pub(super) fn note_same_strings(&mut self, thread: u32, strings: &[u32; ATTACHMENTS_MAX]) {
        let Some(thread) = self.threads.get_mut(thread as usize) else { return };
        for string in strings.iter().take_while(|string| **string != 0) {
            if let Some(follower) = self.followers.get_mut(thread.string as usize) {
                *follower = *string;
            }
            thread.string = *string;
        }
    }

    /// The times of an event as differences to what is expected: the first of which every
    /// event has, the second only where it has a duration, which is 0 otherwise.
    #[inline]
    pub(super) fn times(&mut self, step: Step, ts_ns: u64, dur_ns: u64) -> (i64, i64) {
        self.tell(step, |told| {
            let entry_ns = ts_ns.wrapping_sub(dur_ns);
            let first_ns = if told.is_gap() { entry_ns } else { ts_ns };
            let first = first_ns.wrapping_sub(told.last_ns).cast_signed();
            let second = match told.second {
                Second::Duration => dur_ns,
                Second::Away(left_ns) => entry_ns.wrapping_sub(left_ns),
                Second::Nothing => 0,
            };
            let second = second.cast_signed();
            let differences =
                (first.wrapping_sub(told.expected.0), second.wrapping_sub(told.expected.1));
            (differences, Times { first, second, ts_ns })
        })
    }

    /// The other way round: time and duration from the differences.
    #[inline]
    pub(super) fn moment_and_duration(
        &mut self,
        step: Step,
        first: i64,
        second: i64,
    ) -> (u64, u64) {
        self.tell(step, |told| {
            let first = first.wrapping_add(told.expected.0);
            let second = second.wrapping_add(told.expected.1);
            let after_ns = told.last_ns.wrapping_add(first.cast_unsigned());
            let dur_ns = match told.second {
                Second::Duration => second.cast_unsigned(),
                Second::Away(left_ns) => {
                    after_ns.wrapping_sub(left_ns).wrapping_sub(second.cast_unsigned())
                }
                Second::Nothing => 0,
            };
            let ts_ns = if told.is_gap() { after_ns.wrapping_add(dur_ns) } else { after_ns };
            ((ts_ns, dur_ns), Times { first, second, ts_ns })
        })
    }

    /// Lets somebody solve what the times of an event are told by, and notes them.
    #[inline]
    fn tell<T: Default>(&mut self, step: Step, solve: impl FnOnce(&Told) -> (T, Times)) -> T {
        let shape = self.shapes.get_mut(step.shape as usize);
        let thread = self.threads.get_mut(step.thread as usize);
        // Both were looked up before.
        let (Some(shape), Some(thread)) = (shape, thread) else { return T::default() };
        let second = match (shape.look.has_duration(), step.is_same || step.is_new) {
            (false, _) => Second::Nothing,
            (true, true) => Second::Duration,
            // What a thread did before it came here is not known.
            (true, false) => Second::Away(thread.last_ts),
        };
        let [gap, duration, switch, away] = &mut shape.times;
        let (first_expected, second_expected) = match second {
            Second::Duration if step.is_same => (gap, Some(duration)),
            Second::Away(_) => (switch, Some(away)),
            _ => (switch, None),
        };
        let expected = (
            first_expected.value(),
            second_expected.as_ref().map_or(0, |expected| expected.value()),
        );
        let told = Told { is_same: step.is_same, second, last_ns: self.ts_ns, expected };
        let (solved, times) = solve(&told);
        first_expected.note(times.first);
        if let Some(expected) = second_expected {
            expected.note(times.second);
        }
        thread.last_ts = times.ts_ns;
        self.ts_ns = times.ts_ns;
        if !step.is_same {
            if let Some(last) = self.threads.get_mut(self.thread as usize) {
                last.follower = step.thread;
            }
            self.thread = step.thread;
        }
        solved
    }
}

/// An event among those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) thread: u32,
    pub(super) shape: u32,
    /// Of the thread of the last event.
    pub(super) is_same: bool,
    /// Of a thread the block did not have.
    pub(super) is_new: bool,
}

/// What the times of an event are told by.
struct Told {
    is_same: bool,
    second: Second,
    /// The time of the last event.
    last_ns: u64,
    expected: (i64, i64),
}

impl Told {
    /// Whether the first time is that between two calls of one thread; otherwise it is
    /// that between two events.
    fn is_gap(&self) -> bool {
        self.is_same && matches!(self.second, Second::Duration)
    }
}

/// What the second time of an event is.
#[derive(Clone, Copy)]
enum Second {
    /// It has none.
    Nothing,
    /// How long it took.
    Duration,
    /// How long its thread was away before it: the end of the call is known, and so is
    /// then its beginning. When the last event of the thread was.
    Away(u64),
}

/// The times of an event, and when it was.
struct Times {
    first: i64,
    second: i64,
    ts_ns: u64,
}
