//! The long memory: how often who did what, over the last hour.
//!
//! Beside the minutes of detail a recording keeps counts: per second of the busiest pairs of
//! process and call and of every kind of event, per ten seconds of the next, per minute of
//! all. A count is a [`Row`]: an event of kind `rollup`, so that rows are columns, compressed
//! and read like events.
//!
//! Invariant: at most an eighth of the memory, whatever happens, and beside it, while a dump
//! makes the rows of the minute that goes on, a copy of its counts; what is summed up for want
//! of room says so.

mod gather;
mod latencies;

use crate::{
    event::{
        Attached, Class, Event, Kind,
        syscall::{self, Abi},
        wire::{CALLS_COMPAT, CALLS_MAX, COMM_BYTES, flag},
    },
    snapshot::{SnapshotError, SnapshotReader},
};
pub use gather::{CellPlace, RollupHealth, Rollups};
pub use latencies::Latencies;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// A call, by its place among the counts of calls.
    Call(u32),
    /// Everything of a kind, whoever did it.
    Kind(u8),
    /// Calls of processes that there was no room to tell apart.
    Others,
}

/// Numbers of a row's `what`: places of calls, then kinds, then this.
const OTHERS: u64 = 0xffff_ffff;

impl Counted {
    fn number(self) -> u64 {
        match self {
            Counted::Call(place) => u64::from(place),
            Counted::Kind(kind) => u64::from(CALLS_MAX) + u64::from(kind),
            Counted::Others => OTHERS,
        }
    }

    fn of(number: u64) -> Option<Counted> {
        let calls = u64::from(CALLS_MAX);
        match number {
            OTHERS => Some(Counted::Others),
            place if place < calls => Some(Counted::Call(place as u32)),
            kind => u8::try_from(kind - calls).ok().map(Counted::Kind),
        }
    }

    /// Its name, of calls in ABI `native`.
    pub fn name(self, native: Abi) -> String {
        match self {
            Counted::Call(place) => {
                let (abi, nr) = match place.checked_sub(CALLS_COMPAT) {
                    Some(nr) => (native.compat().unwrap_or(native), nr),
                    None => (native, place),
                };
                syscall::name(abi, i64::from(nr)).into_owned()
            }
            Counted::Kind(kind) => match Kind::from_number(kind) {
                Some(kind) => format!("all of {}", kind.schema().name),
                None => "all of an unknown kind".to_string(),
            },
            Counted::Others => "others".to_string(),
        }
    }
}

/// How often something happened in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When the stretch began, nanoseconds of the kernel's clock.
    pub start_ns: u64,
    /// How long it was.
    pub span_ns: u64,
    /// A minute that was not over.
    pub is_open: bool,
    /// Which process; 0 where the row is of no single one.
    pub pid: u32,
    /// How many processes that have ended and had one name are summed up in it.
    pub ended: u64,
    /// The name; empty where nobody knew.
    pub comm: Vec<u8>,
    /// What.
    pub counted: Counted,
    /// How often.
    pub count: u64,
    /// How often it failed.
    pub errors: u64,
    /// Bytes that calls moved.
    pub bytes: u64,
    /// How long it took, as [`Latencies`] have it.
    pub latencies: Vec<u8>,
}

impl Row {
    /// The row as an event.
    pub fn as_event(&self) -> Event<'_> {
        let mut event = Event::new(Kind::Rollup, self.start_ns);
        (event.pid, event.tid) = (self.pid, self.pid);
        event.flags = if self.is_open { flag::UNFINISHED } else { 0 };
        for number in [self.span_ns, self.counted.number(), self.count] {
            event.push_number(number);
        }
        for number in [self.errors, self.bytes, self.ended] {
            event.push_number(number);
        }
        for (index, bytes) in [(0, &self.comm), (1, &self.latencies)] {
            event.attach(Attached { index, flags: 0, bytes });
        }
        event
    }

    /// The row of an event; `None` when it is none.
    pub fn of(event: &Event<'_>) -> Option<Row> {
        if event.kind != Kind::Rollup {
            return None;
        }
        // What a file says may be long, and stand in every row.
        let bytes = |index, most| {
            let attached = event.attachment(index).map(|it| it.bytes).unwrap_or_default();
            attached.iter().take(most).copied().collect()
        };
        Some(Row {
            start_ns: event.ts_ns,
            span_ns: event.number(0),
            is_open: event.has(flag::UNFINISHED),
            pid: event.pid,
            comm: bytes(0, COMM_BYTES),
            counted: Counted::of(event.number(1))?,
            count: event.number(2),
            errors: event.number(3),
            bytes: event.number(4),
            ended: event.number(5),
            latencies: bytes(1, Latencies::BYTES_MAX),
        })
    }

    fn held_bytes(&self) -> u64 {
        (size_of::<Row>() + self.comm.capacity() + self.latencies.capacity()) as u64
    }
}

/// The rows of a snapshot that are wanted, one block after the other; what is damaged is an
/// error. Rows of one length of time are in its order.
pub fn blocks_of_rows(
    reader: &SnapshotReader,
    is_wanted: impl Fn(&Row) -> bool,
) -> impl Iterator<Item = Result<Vec<Row>, SnapshotError>> {
    let entries = reader.blocks().iter().filter(|entry| entry.meta.class == Class::Rollup);
    entries.map(move |entry| {
        let block = reader.block(entry)?;
        Ok(block.events().filter_map(|event| Row::of(&event)).filter(&is_wanted).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_event_and_back() {
        for counted in [Counted::Call(0), Counted::Call(1023), Counted::Kind(16), Counted::Others] {
            let row = Row {
                start_ns: 5,
                span_ns: 1_000_000_000,
                is_open: counted == Counted::Others,
                pid: 7,
                ended: 9,
                comm: b"sh".to_vec(),
                counted,
                count: u64::MAX,
                errors: 1,
                bytes: 2,
                latencies: vec![1, 2],
            };
            assert_eq!(Row::of(&row.as_event()), Some(row));
        }
        assert_eq!(Row::of(&Event::new(Kind::Lost, 1)), None);
    }

    #[test]
    fn what_is_counted_has_a_name() {
        let name = |counted: Counted| counted.name(Abi::X86_64);
        assert_eq!(name(Counted::Call(0)), "read");
        assert_eq!(name(Counted::Call(CALLS_COMPAT + 5)), "open");
        assert_eq!(name(Counted::Kind(Kind::Syscall as u8)), "all of syscall");
        assert_eq!(name(Counted::Kind(255)), "all of an unknown kind");
        assert_eq!(Counted::of(u64::MAX), None);
    }
}
