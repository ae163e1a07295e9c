//! Blocks before compression, taken apart into their columns as FORMAT.md has them.

use std::sync::LazyLock;

use recorder::{
    event::Class,
    rollup::{Counted, Latencies, Row},
    window::codec::Columns,
};
use recorder_tests::synth::{Made, Random};

use super::{edge, one_of, snapshot::old_blocks};

/// Blocks of the layouts that are only read any more.
static OLD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| old_blocks().collect());

/// A block of up to a few hundred events.
pub fn make(random: &mut Random) -> Vec<u8> {
    if random.one_in(8) && !OLD.is_empty() {
        return OLD[random.below(OLD.len() as u64) as usize].clone();
    }
    if random.one_in(12) {
        return make_rollups(random);
    }
    let mut columns = Columns::default();
    let most = if random.one_in(10) { 400 } else { 30 };
    for place in 0..random.below(most) {
        let ts_ns = if random.one_in(30) { random.number() } else { 1_000_000 + place * 777 };
        columns.push(&Made::random(random, ts_ns, 2).as_event());
    }
    let class = Class::from_number(random.below(5) as u8).unwrap_or(Class::Bulk);
    columns.to_bytes(class, random.below(4) as u16).bytes
}

/// Counts of some stretches of time.
pub(super) fn make_rollups(random: &mut Random) -> Vec<u8> {
    let mut columns = Columns::default();
    for place in 0..random.below(20) {
        let mut latencies = Latencies::default();
        (0..random.below(6)).for_each(|_| latencies.add(random.number()));
        let counted = match random.below(4) {
            0 => Counted::Others,
            1 => Counted::Kind(random.below(20) as u8),
            _ => Counted::Call(random.below(2_000) as u32),
        };
        let spans = [1_000_000_000, 10_000_000_000, 60_000_000_000];
        let row = Row {
            start_ns: 1_000_000 + place / 4 * 1_000_000_000,
            span_ns: spans[random.below(3) as usize],
            is_open: false,
            pid: random.below(12) as u32,
            ended: random.below(2) * random.number(),
            comm: one_of(random, &["sh", "", "w\u{1b}[2Jrker"]).as_bytes().to_vec(),
            counted,
            count: random.number(),
            errors: random.number(),
            bytes: random.number(),
            latencies: latencies.to_bytes(),
        };
        columns.push(&row.as_event());
    }
    columns.to_bytes(Class::Rollup, 0).bytes
}

/// What a block is made of.
struct Parts {
    layout: u8,
    class: u8,
    cpu: u64,
    count: u64,
    start_ns: u64,
    columns: Vec<Vec<u8>>,
    /// What is behind the columns.
    bits: Vec<u8>,
}

/// How many columns there are, and which one has a byte for each event.
const COLUMNS: usize = 20;
const STEPS: usize = 17;

fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Parts {
    fn of(mut bytes: &[u8]) -> Option<Parts> {
        let (layout, class) = (*bytes.first()?, *bytes.get(1)?);
        bytes = bytes.get(2..)?;
        let (cpu, count) = (integer(&mut bytes)?, integer(&mut bytes)?);
        let start_ns = integer(&mut bytes)?;
        let mut columns = Vec::new();
        for _ in 0..COLUMNS {
            let length = usize::try_from(integer(&mut bytes)?).ok()?;
            let (column, rest) = bytes.split_at_checked(length)?;
            columns.push(column.to_vec());
            bytes = rest;
        }
        Some(Parts { layout, class, cpu, count, start_ns, columns, bits: bytes.to_vec() })
    }

    fn render(&self) -> Vec<u8> {
        let mut block = vec![self.layout, self.class];
        put(&mut block, self.cpu);
        put(&mut block, self.count);
        put(&mut block, self.start_ns);
        for column in &self.columns {
            put(&mut block, column.len() as u64);
            block.extend(column);
        }
        block.extend(&self.bits);
        block
    }
}

/// Changes a block, mostly so that its columns have the lengths they say.
pub fn mutate(random: &mut Random, block: &mut Vec<u8>) {
    let parts = Parts::of(block).filter(|parts| !parts.columns.is_empty());
    let Some(mut parts) = parts.filter(|_| !random.one_in(8)) else {
        return super::bytes(random, block);
    };
    let at = random.below(parts.columns.len() as u64) as usize;
    match random.below(13) {
        0 => parts.count = if random.one_in(2) { edge(random) } else { random.below(100) },
        1 => parts.cpu = edge(random),
        2 => parts.class = random.below(7) as u8,
        3 => {
            let other = random.below(parts.columns.len() as u64) as usize;
            parts.columns.swap(at, other);
        }
        4 => drop(parts.columns.remove(at)),
        5 => {
            let again = parts.columns[at].clone();
            parts.columns.insert(at, again);
        }
        6 | 7 => {
            // An integer at an edge, where one may begin.
            let column = &mut parts.columns[at];
            let place = super::place(random, column);
            let mut integer = Vec::new();
            put(&mut integer, edge(random));
            let end = (place + random.below(3) as usize).min(column.len());
            column.splice(place..end, integer);
        }
        8 => {
            // One event more, with nothing in the other columns.
            if let Some(steps) = parts.columns.get_mut(STEPS) {
                steps.push(random.below(0x80) as u8);
                parts.count = steps.len() as u64;
            }
        }
        9 => parts.layout = random.below(5) as u8,
        10 => super::bytes(random, &mut parts.bits),
        _ => super::bytes(random, &mut parts.columns[at]),
    }
    if random.one_in(3) {
        parts.count = parts.columns.get(STEPS).map_or(0, Vec::len) as u64;
    }
    *block = parts.render();
}
