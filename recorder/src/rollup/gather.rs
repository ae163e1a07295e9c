//! Counting while recording.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use super::{Counted, Latencies, Row};
use crate::{
    context::Processes,
    decode::Recurrence,
    event::{
        Call, Class, Event, Kind,
        syscall::Abi,
        wire::{CALLS_MAX, COMM_BYTES, KINDS_MAX, call_index, flag},
    },
    window::{SealedBlock, sealed_of},
};

const SECOND_NS: u64 = 1_000_000_000;

/// How far back it goes.
const SPAN_NS: u64 = 3_600 * SECOND_NS;

/// Pairs of process and call that have a row each second.
const PER_SECOND: usize = 64;

/// Of the others those that have one every ten seconds.
const PER_TEN_SECONDS: usize = 512;

/// Pairs that are told apart at the most; the rest is summed up.
const PAIRS_MAX: usize = 8_192;

/// Pairs of a name and a call that are told apart of processes that have ended.
const NAMED_MAX: usize = 4_096;

/// Processes whose names are remembered.
const NAMES_MAX: usize = 65_536;

/// Calls that answer with how many bytes they moved.
const MOVING: [&str; 24] = [
    "read",
    "write",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendfile",
    "sendfile64",
    "splice",
    "tee",
    "vmsplice",
    "copy_file_range",
    "getrandom",
    "send",
    "recv",
    "getdents64",
];

/// What is counted of a pair.
#[derive(Clone, Debug, Default)]
struct Cell {
    count: u64,
    errors: u64,
    bytes: u64,
    /// Whether the call answers with how many bytes it moved.
    moves: bool,
    latencies: Latencies,
}

impl Cell {
    #[inline]
    fn count(&mut self, ret: i64, errno: Option<i32>, dur_ns: Option<u64>) {
        self.count += 1;
        self.errors += u64::from(errno.is_some());
        if let Some(dur_ns) = dur_ns {
            self.latencies.add(dur_ns);
        }
        if self.moves {
            self.bytes = self.bytes.saturating_add(u64::try_from(ret).unwrap_or_default());
        }
    }

    fn merge(&mut self, other: &Cell) {
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        // A tracer can have a call answer anything.
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.latencies.merge(&other.latencies);
    }
}

/// Process, and place of the call.
type Pair = (u32, u32);

/// Counts of pairs, and of those there was no room for.
#[derive(Clone, Debug, Default)]
struct Table {
    cells: HashMap<Pair, Cell>,
    others: Cell,
}

impl Table {
    /// The cell of a pair, or the one for all others.
    fn cell(&mut self, pair: Pair, pairs_max: usize) -> &mut Cell {
        if self.cells.len() >= pairs_max && !self.cells.contains_key(&pair) {
            return &mut self.others;
        }
        self.cells.entry(pair).or_default()
    }

    fn take(&mut self) -> (Vec<(Pair, Cell)>, Cell) {
        (busiest_first(self.cells.drain().collect()), std::mem::take(&mut self.others))
    }

    fn bytes(&self) -> u64 {
        // What the table takes for each, full or not.
        (self.cells.capacity() * (size_of::<(Pair, Cell)>() + 1) * 8 / 7) as u64
    }
}

/// Counts of pairs in the second that goes on, each at a place of its own.
#[derive(Clone, Debug, Default)]
struct Second {
    /// How many seconds came before it.
    number: u32,
    places: HashMap<Pair, u32>,
    cells: Vec<(Pair, Cell)>,
    others: Cell,
}

impl Second {
    /// The place of a pair; `None` where there is no room for another.
    fn place(&mut self, pair: Pair, pairs_max: usize) -> Option<u32> {
        if let Some(place) = self.places.get(&pair) {
            return Some(*place);
        }
        if self.cells.len() >= pairs_max {
            return None;
        }
        let place = self.cells.len() as u32;
        self.cells.push((pair, Cell::default()));
        self.places.insert(pair, place);
        Some(place)
    }

    fn cell(&mut self, place: Option<u32>) -> &mut Cell {
        let cell = place.and_then(|place| self.cells.get_mut(place as usize));
        cell.map_or(&mut self.others, |(_, cell)| cell)
    }

    /// The pairs of the second, the busiest first, and the others; the next one begins.
    fn take(&mut self) -> (Vec<(Pair, Cell)>, Cell) {
        self.number = self.number.wrapping_add(1);
        self.places.clear();
        (busiest_first(self.cells.drain(..).collect()), std::mem::take(&mut self.others))
    }

    fn bytes(&self) -> u64 {
        let place = (size_of::<(Pair, u32)>() + 1) * 8 / 7;
        let cells = self.cells.capacity() * size_of::<(Pair, Cell)>();
        (cells + self.places.capacity() * place) as u64
    }
}

/// Of equal counts the same order in every run.
fn busiest_first(mut cells: Vec<(Pair, Cell)>) -> Vec<(Pair, Cell)> {
    cells.sort_by_key(|(pair, cell)| (std::cmp::Reverse(cell.count), *pair));
    cells
}

/// Where a pair of process and call is counted, until the second is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellPlace {
    second: u32,
    place: u32,
}

/// What a process is called, and since when: rings are read one after the other, so a child
/// may have named itself before its fork is read.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    since_ns: u64,
    comm: Comm,
}

/// A name as the kernel keeps it, with NULs behind it: to hand all over at once is cheap.
type Comm = [u8; COMM_BYTES];

fn comm(bytes: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    comm
}

/// The name itself.
fn bytes_of(comm: &Comm) -> Vec<u8> {
    comm.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// How the long memory is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RollupHealth {
    /// How far back it goes, seconds.
    pub span_s: f64,
    /// Rows that are sealed.
    pub rows: u64,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Counts events and keeps the rows of an hour. What changes seldom is shared by copies until
/// it does, so that to make one for a dump costs the freeze little.
#[derive(Clone)]
pub struct Rollups {
    /// By place: whether a call answers with how many bytes it moved.
    moves: Arc<[bool]>,
    names: Arc<HashMap<u32, Name>>,
    /// Processes that ended in this second, and in the one before: what they did last may be
    /// read later, from the ring of another CPU.
    ended: [HashSet<u32>; 2],
    /// Those that ended in these ten seconds: their names are forgotten at the end.
    gone: HashSet<u32>,
    /// What processes did in this minute that have ended, by their name, and how many.
    named: Arc<HashMap<(Comm, u32), (Cell, u64)>>,
    kinds: [u64; KINDS_MAX],
    second: Second,
    ten_seconds: Arc<Table>,
    minute: Arc<Table>,
    second_ns: u64,
    ten_seconds_ns: u64,
    minute_ns: u64,
    rows: Arc<Vec<Row>>,
    sealed: Arc<VecDeque<SealedBlock>>,
    /// Blocks sealed since somebody looked; `None` where nobody does.
    unseen: Option<Vec<SealedBlock>>,
    bytes_max: u64,
    pairs_max: usize,
    /// Bytes of what changes slowly, at the last look.
    held_bytes: u64,
}

impl Rollups {
    /// Nothing counted; `baseline` has the names of the processes that are there. Takes at
    /// most `bytes_max`.
    pub fn new(native: Abi, bytes_max: u64, baseline: &Processes) -> Rollups {
        let moves = |place| MOVING.contains(&&*Counted::Call(place).name(native));
        let names = baseline.iter().take(NAMES_MAX);
        let names = names.map(|(tid, facts)| (tid, Name { since_ns: 0, comm: comm(&facts.comm) }));
        let mut rollups = Rollups {
            moves: (0..CALLS_MAX).map(moves).collect(),
            names: Arc::new(names.collect()),
            ended: Default::default(),
            gone: HashSet::new(),
            named: Arc::default(),
            kinds: [0; KINDS_MAX],
            second: Second::default(),
            ten_seconds: Arc::default(),
            minute: Arc::default(),
            second_ns: 0,
            ten_seconds_ns: 0,
            minute_ns: 0,
            rows: Arc::default(),
            sealed: Arc::default(),
            unseen: None,
            bytes_max: 0,
            pairs_max: 0,
            held_bytes: 0,
        };
        rollups.set_bytes_max(bytes_max);
        rollups
    }

    /// Another bound.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        // Three tables that are full, what has ended, and copies of one while it is sorted,
        // take half.
        let pair = 8 * (size_of::<(Pair, Cell)>() as u64 + 1);
        self.pairs_max = usize::try_from(bytes_max / 2 / pair).unwrap_or(PAIRS_MAX).min(PAIRS_MAX);
        self.fit();
    }

    /// Counts an event. Answers where a call like it is counted until the second is over.
    pub fn push(&mut self, event: &Event<'_>) -> Option<CellPlace> {
        if let Some(count) = self.kinds.get_mut(event.kind as usize) {
            *count += 1;
        }
        let Some(call) = Call::of(event) else {
            self.name(event);
            return None;
        };
        let index = call_index(call.nr(), event.has(flag::COMPAT));
        let moves = self.moves.get(index as usize) == Some(&true);
        let place = self.second.place((event.pid, index), self.pairs_max);
        let cell = self.second.cell(place);
        cell.moves = moves;
        cell.count(call.ret(), call.errno(), call.dur_ns());
        let second = self.second.number;
        place.map(|place| CellPlace { second, place })
    }

    /// Whether the second of a place goes on.
    #[inline]
    pub fn is_current(&self, place: CellPlace) -> bool {
        place.second == self.second.number
    }

    /// Counts a call at a place that is current.
    #[inline]
    pub fn push_known(&mut self, place: CellPlace, call: &Recurrence) {
        if let Some(count) = self.kinds.get_mut(Kind::Syscall as usize) {
            *count += 1;
        }
        let cell = self.second.cell(Some(place.place));
        cell.count(call.ret.cast_signed(), call.errno(), Some(call.dur_ns));
    }

    /// Learns what processes are called.
    fn name(&mut self, event: &Event<'_>) {
        let is_leader = event.pid == event.tid;
        match event.kind {
            Kind::ProcessFork => {
                let (pid, tid) = (event.number(0) as u32, event.number(1) as u32);
                if pid == tid {
                    self.gone.remove(&pid);
                    if let Some(parent) = self.names.get(&event.pid) {
                        let comm = parent.comm;
                        self.set_name(pid, event.ts_ns, comm);
                    }
                }
            }
            Kind::ProcessRename if is_leader => {
                let name = event.attachment(0).map(|name| comm(name.text()));
                self.set_name(event.pid, event.ts_ns, name.unwrap_or_default());
            }
            Kind::ProcessExit if is_leader && self.ended[0].len() < NAMES_MAX => {
                self.ended[0].insert(event.pid);
            }
            _ => {}
        }
    }

    fn minute(&mut self) -> &mut Table {
        Arc::make_mut(&mut self.minute)
    }

    /// Names a process, unless it has had a newer name.
    fn set_name(&mut self, pid: u32, since_ns: u64, comm: Comm) {
        let has_room = self.names.len() < NAMES_MAX;
        let names = Arc::make_mut(&mut self.names);
        match names.get_mut(&pid) {
            Some(name) if name.since_ns > since_ns => {}
            Some(name) => *name = Name { since_ns, comm },
            None if has_room => drop(names.insert(pid, Name { since_ns, comm })),
            None => {}
        }
    }

    fn name_of(&self, pid: u32) -> Comm {
        self.names.get(&pid).map(|name| name.comm).unwrap_or_default()
    }

    /// Ends seconds, ten seconds and minutes. To be called often.
    pub fn tick(&mut self, now_ns: u64) {
        if self.second_ns == 0 {
            (self.second_ns, self.ten_seconds_ns, self.minute_ns) = (now_ns, now_ns, now_ns);
        }
        if now_ns.saturating_sub(self.second_ns) < SECOND_NS {
            return;
        }
        self.end_second(now_ns);
        if now_ns.saturating_sub(self.ten_seconds_ns) >= 10 * SECOND_NS {
            self.end_ten_seconds(now_ns);
        }
        if now_ns.saturating_sub(self.minute_ns) >= 60 * SECOND_NS {
            self.end_minute(now_ns);
        }
    }

    fn end_second(&mut self, now_ns: u64) {
        let (cells, others) = self.second.take();
        let stretch = (self.second_ns, now_ns - self.second_ns);
        let ended = std::mem::take(&mut self.ended[1]);
        for (place, (pair, cell)) in cells.into_iter().enumerate() {
            if ended.contains(&pair.0) {
                let mut whole = self.minute().cells.remove(&pair).unwrap_or_default();
                whole.merge(&cell);
                self.sum_up(pair, &whole);
            } else {
                let pairs_max = self.pairs_max;
                self.minute().cell(pair, pairs_max).merge(&cell);
            }
            if place < PER_SECOND {
                self.row(stretch, pair, cell);
            } else {
                let pairs_max = self.pairs_max;
                Arc::make_mut(&mut self.ten_seconds).cell(pair, pairs_max).merge(&cell);
            }
        }
        Arc::make_mut(&mut self.ten_seconds).others.merge(&others);
        self.minute().others.merge(&others);
        if !ended.is_empty() {
            let gone = self.minute().cells.extract_if(|(pid, _), _| ended.contains(pid));
            let gone: Vec<(Pair, Cell)> = gone.collect();
            gone.into_iter().for_each(|(pair, cell)| self.sum_up(pair, &cell));
            self.gone.extend(ended);
        }
        self.ended[1] = std::mem::take(&mut self.ended[0]);
        for (kind, count) in (0u8..).zip(std::mem::replace(&mut self.kinds, [0; KINDS_MAX])) {
            if count > 0 {
                let cell = Cell { count, ..Cell::default() };
                self.push_row(stretch, 0, Comm::default(), Counted::Kind(kind), cell);
            }
        }
        self.second_ns = now_ns;
    }

    fn end_ten_seconds(&mut self, now_ns: u64) {
        let (cells, _) = Arc::make_mut(&mut self.ten_seconds).take();
        let stretch = (self.ten_seconds_ns, now_ns - self.ten_seconds_ns);
        for (pair, cell) in cells.into_iter().take(PER_TEN_SECONDS) {
            self.row(stretch, pair, cell);
        }
        for pid in self.gone.drain() {
            Arc::make_mut(&mut self.names).remove(&pid);
        }
        self.ten_seconds_ns = now_ns;
        self.seal(now_ns);
    }

    fn end_minute(&mut self, now_ns: u64) {
        self.minute_rows(now_ns);
        self.minute_ns = now_ns;
        self.seal(now_ns);
    }

    fn minute_rows(&mut self, now_ns: u64) {
        let (cells, others) = self.minute().take();
        let stretch = (self.minute_ns, now_ns - self.minute_ns);
        for (pair, cell) in cells {
            self.row(stretch, pair, cell);
        }
        if others.count > 0 {
            self.push_row(stretch, 0, Comm::default(), Counted::Others, others);
        }
        let mut named: Vec<_> = Arc::make_mut(&mut self.named).drain().collect();
        named.sort_by_key(|((name, place), (cell, _))| {
            (std::cmp::Reverse(cell.count), *name, *place)
        });
        for ((name, place), (cell, ended)) in named {
            self.push_row(stretch, 0, name, Counted::Call(place), cell);
            if let Some(row) = Arc::make_mut(&mut self.rows).last_mut() {
                row.ended = ended;
            }
        }
    }

    /// Counts what a process did that has ended among all of its name.
    fn sum_up(&mut self, (pid, place): Pair, cell: &Cell) {
        let name = self.name_of(pid);
        let most = NAMED_MAX.min(self.pairs_max);
        if self.named.len() >= most && !self.named.contains_key(&(name, place)) {
            return self.minute().others.merge(cell);
        }
        let (sum, ended) = Arc::make_mut(&mut self.named).entry((name, place)).or_default();
        sum.merge(cell);
        *ended += 1;
    }

    fn row(&mut self, stretch: (u64, u64), (pid, place): Pair, cell: Cell) {
        let comm = self.name_of(pid);
        self.push_row(stretch, pid, comm, Counted::Call(place), cell);
    }

    fn push_row(
        &mut self,
        (start_ns, span_ns): (u64, u64),
        pid: u32,
        comm: Comm,
        counted: Counted,
        cell: Cell,
    ) {
        let Cell { count, errors, bytes, latencies, .. } = cell;
        let latencies = latencies.to_bytes();
        let row = Row {
            start_ns,
            span_ns,
            is_open: false,
            pid,
            ended: 0,
            comm: bytes_of(&comm),
            counted,
            count,
            errors,
            bytes,
            latencies,
        };
        self.held_bytes += row.held_bytes();
        Arc::make_mut(&mut self.rows).push(row);
    }

    /// Makes the rows a block.
    fn seal(&mut self, now_ns: u64) {
        let rows = std::mem::take(&mut self.rows);
        let sealed = Arc::make_mut(&mut self.sealed);
        let made = sealed_of(rows.iter().map(Row::as_event), Class::Rollup, 0);
        if let Some(unseen) = &mut self.unseen {
            unseen.extend_from_slice(&made);
        }
        sealed.extend(made);
        let oldest_ns = now_ns.saturating_sub(SPAN_NS);
        while sealed.front().is_some_and(|block| block.meta.last_ns < oldest_ns) {
            sealed.pop_front();
        }
        self.fit();
    }

    /// Lets go of the oldest until the bound is kept.
    fn fit(&mut self) {
        self.look();
        while self.held_bytes > self.bytes_max
            && Arc::make_mut(&mut self.sealed).pop_front().is_some()
        {
            self.look();
        }
    }

    fn look(&mut self) {
        let sealed: usize = self.sealed.iter().map(|block| block.frame.len()).sum();
        let sealed = sealed + self.sealed.len() * size_of::<SealedBlock>();
        let rows: u64 = self.rows.iter().map(Row::held_bytes).sum();
        let names = self.names.capacity() * (size_of::<(u32, Name)>() + 1);
        let tables = [&self.ten_seconds, &self.minute].map(|table| table.bytes());
        let ended = self.ended.iter().chain([&self.gone]).map(HashSet::capacity).sum::<usize>() * 8;
        let named = self.named.capacity() * (size_of::<((Comm, u32), (Cell, u64))>() + 1);
        let held = sealed + names + ended + named;
        let tables = tables.iter().sum::<u64>() + self.second.bytes();
        self.held_bytes = held as u64 + rows + tables;
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Keeps what is sealed from now on until somebody takes it.
    pub fn keep_unseen(&mut self) {
        self.unseen = Some(Vec::new());
    }

    /// The blocks that were sealed since the last time, oldest first.
    pub fn take_unseen(&mut self) -> Vec<SealedBlock> {
        self.unseen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All blocks, oldest first.
    pub fn sealed(&self) -> &Arc<VecDeque<SealedBlock>> {
        &self.sealed
    }

    /// What is sealed, and the rows since then; those of the minute that goes on last. For a
    /// copy: blocks are shared, so to make one is cheap.
    pub fn into_rows(mut self, now_ns: u64) -> (Vec<SealedBlock>, Vec<Row>) {
        let (cells, others) = self.second.take();
        let pairs_max = self.pairs_max;
        for (pair, cell) in cells {
            self.minute().cell(pair, pairs_max).merge(&cell);
        }
        self.minute().others.merge(&others);
        let over = self.rows.len();
        if self.minute_ns < now_ns {
            self.minute_rows(now_ns);
        }
        let mut rows = Arc::unwrap_or_clone(self.rows);
        rows.iter_mut().skip(over).for_each(|row| row.is_open = true);
        (Arc::unwrap_or_clone(self.sealed).into(), rows)
    }

    /// How it is doing.
    pub fn health(&self, now_ns: u64) -> RollupHealth {
        let first_ns = self.sealed.front().map(|block| block.meta.first_ns);
        RollupHealth {
            span_s: first_ns.map_or(0.0, |first| now_ns.saturating_sub(first) as f64 / 1e9),
            rows: self.sealed.iter().map(|block| u64::from(block.meta.count)).sum(),
            bytes: self.held_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pid: u32, nr: u64, ret: i64, dur_ns: u64) -> Event<'static> {
        let mut event = Event::new(Kind::Syscall, 1);
        (event.pid, event.tid) = (pid, pid);
        for number in [nr, ret.cast_unsigned(), dur_ns] {
            event.push_number(number);
        }
        event
    }

    fn rows(rollups: &Rollups) -> Vec<Row> {
        let (sealed, open) = rollups.clone().into_rows(0);
        let mut rows = Vec::new();
        for block in sealed {
            let block = block.open().unwrap();
            rows.extend(block.events().filter_map(|event| Row::of(&event)));
        }
        rows.extend(open);
        rows
    }

    fn new(bytes_max: u64) -> Rollups {
        Rollups::new(Abi::X86_64, bytes_max, &Processes::default())
    }

    /// Seconds, ten seconds and minutes count the same.
    #[test]
    fn every_call_is_in_the_rows_of_its_minute_and_the_busiest_in_those_of_its_second() {
        let mut rollups = new(32 << 20);
        rollups.tick(1);
        let mut expected: HashMap<(u32, u32), u64> = HashMap::new();
        for second in 0..60u64 {
            for pid in 1..=1_000u32 {
                // The busiest have the smallest numbers.
                for _ in 0..(1_000 / pid).min(20) {
                    rollups.push(&call(pid, 0, 10, 5_000));
                    *expected.entry((pid, 0)).or_default() += 1;
                }
            }
            rollups.push(&call(1, 257, -2, 100));
            *expected.entry((1, 257)).or_default() += 1;
            rollups.tick(1 + (second + 1) * SECOND_NS);
        }
        let rows = rows(&rollups);
        let of_span =
            |span_s: u64| rows.iter().filter(move |row| row.span_ns == span_s * SECOND_NS);
        let minute: HashMap<(u32, u32), u64> = of_span(60)
            .filter_map(|row| match row.counted {
                Counted::Call(place) => Some(((row.pid, place), row.count)),
                _ => None,
            })
            .collect();
        assert_eq!(minute, expected);
        let calls = |rows: Vec<&Row>| {
            rows.iter().filter(|row| matches!(row.counted, Counted::Call(_))).count()
        };
        assert_eq!(calls(of_span(1).collect()), 60 * PER_SECOND);
        assert_eq!(calls(of_span(10).collect()), 6 * PER_TEN_SECONDS);
        let kinds: u64 = of_span(1)
            .filter(|row| row.counted == Counted::Kind(Kind::Syscall as u8))
            .map(|row| row.count)
            .sum();
        assert_eq!(kinds, expected.values().sum::<u64>());
        let open = of_span(60).find(|row| row.counted == Counted::Call(257)).unwrap();
        assert_eq!((open.errors, open.bytes), (60, 0));
        let read = of_span(60).find(|row| row.pid == 1 && row.counted == Counted::Call(0)).unwrap();
        assert_eq!((read.count, read.errors, read.bytes), (60 * 20, 0, 60 * 20 * 10));
        assert_eq!(Latencies::from_bytes(&read.latencies).below_ns(990), Some(8_192));
        assert!(!rows.iter().any(|row| row.counted == Counted::Others), "there was room for all");
    }

    /// More pairs than there is room for are summed up, and none is missing.
    #[test]
    fn what_has_no_room_is_summed_up_and_said() {
        let bytes_max = 2 << 20;
        let mut rollups = new(bytes_max);
        rollups.tick(1);
        let pairs = 50_000u64;
        for second in 0..60 {
            for pid in 0..pairs {
                rollups.push(&call(pid as u32, 39, 1, 1));
            }
            rollups.tick(1 + (second + 1) * SECOND_NS);
            assert!(rollups.bytes() <= bytes_max, "{} bytes", rollups.bytes());
        }
        let minute = rows(&rollups).into_iter().filter(|row| row.span_ns == 60 * SECOND_NS);
        let (mut total, mut others) = (0, 0);
        for row in minute {
            total += row.count;
            others += if row.counted == Counted::Others { row.count } else { 0 };
        }
        assert_eq!(total, 60 * pairs);
        assert!(others > 0);
    }

    /// The first minute, too: whoever has just begun to record found nothing.
    #[test]
    fn a_minute_that_goes_on_is_handed_over_with_all_its_calls() {
        let mut rollups = new(32 << 20);
        rollups.tick(1);
        for second in 0..90u64 {
            for pid in 0..100 {
                rollups.push(&call(pid, 0, 1, 1));
            }
            rollups.tick(1 + second * SECOND_NS);
        }
        let now_ns = 1 + 90 * SECOND_NS;
        let (sealed, rows) = rollups.clone().into_rows(now_ns);
        let open: Vec<&Row> = rows.iter().filter(|row| row.is_open).collect();
        assert!(open.iter().all(|row| row.start_ns + row.span_ns == now_ns), "{open:?}");
        assert_eq!(open.len(), 100);
        let sealed = sealed.iter().flat_map(|block| {
            let block = block.open().unwrap();
            block.events().filter_map(|event| Row::of(&event)).collect::<Vec<_>>()
        });
        let over = sealed.filter(|row| row.span_ns >= 60 * SECOND_NS).map(|row| row.count);
        let counted = over.sum::<u64>() + open.iter().map(|row| row.count).sum::<u64>();
        assert_eq!(counted, 90 * 100);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut rollups = new(32 << 20);
        rollups.tick(1);
        for second in 1..=3_900u64 {
            rollups.push(&call(1, 0, 1, 1));
            rollups.tick(1 + second * SECOND_NS);
        }
        let now_ns = 1 + 3_900 * SECOND_NS;
        let first_ns = rows(&rollups).iter().map(|row| row.start_ns).min().unwrap();
        assert!(now_ns - first_ns >= SPAN_NS, "{first_ns}");
        assert!(now_ns - first_ns < SPAN_NS + 61 * SECOND_NS, "{first_ns}");
        assert!(rollups.health(now_ns).span_s >= 3_600.0);
    }

    /// The ring with the fork was read after the one with the name the child gave itself: its
    /// calls were counted under the parent's name.
    #[test]
    fn a_name_is_not_undone_by_a_fork_that_is_read_late() {
        let mut rollups = new(1 << 20);
        rollups.tick(1);
        let rename = |pid, ts_ns, comm| {
            let mut rename = Event::new(Kind::ProcessRename, ts_ns);
            (rename.pid, rename.tid) = (pid, pid);
            rename.attach(crate::event::Attached { index: 0, flags: 0, bytes: comm });
            rename
        };
        let fork = |ts_ns| {
            let mut fork = Event::new(Kind::ProcessFork, ts_ns);
            (fork.pid, fork.tid) = (5, 5);
            fork.push_number(9);
            fork.push_number(9);
            fork
        };
        rollups.push(&rename(5, 1, b"parent"));
        rollups.push(&rename(9, 30, b"child"));
        rollups.push(&fork(20));
        assert_eq!(bytes_of(&rollups.name_of(9)), b"child");
        // A later process of the same number.
        rollups.push(&fork(40));
        assert_eq!(bytes_of(&rollups.name_of(9)), b"parent");
    }

    #[test]
    fn a_process_that_ended_keeps_its_name() {
        let mut rollups = new(1 << 20);
        rollups.tick(1);
        let mut rename = Event::new(Kind::ProcessRename, 1);
        (rename.pid, rename.tid) = (9, 9);
        rename.attach(crate::event::Attached { index: 0, flags: 0, bytes: b"short" });
        rollups.push(&rename);
        rollups.push(&call(9, 0, 1, 1));
        let mut exit = Event::new(Kind::ProcessExit, 2);
        (exit.pid, exit.tid) = (9, 9);
        rollups.push(&exit);
        (1..=60).for_each(|second| rollups.tick(1 + second * SECOND_NS));
        let rows = rows(&rollups);
        let mut named = rows.iter().filter(|row| row.pid == 9);
        assert!(named.clone().count() >= 1 && named.all(|row| row.comm == b"short"), "{rows:?}");
        let minute = rows.iter().find(|row| row.span_ns == 60 * SECOND_NS).unwrap();
        assert_eq!((minute.pid, minute.ended, minute.count), (0, 1, 1), "{minute:?}");
        assert_eq!(minute.comm, b"short");
        assert!(rollups.names.is_empty());
    }
}
