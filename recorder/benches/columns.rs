//! What codings of blocks cost and save on real recordings: bytes and nanoseconds for each
//! event, the coding of the window beside simpler ones.
//!
//! `cargo bench --package recorder --no-default-features --bench columns -- FILE...`
//! takes snapshots, whose blocks are coded again one by one. Every coding keeps the whole
//! event; that of the window is read back and compared. Nanoseconds are CPU time of one
//! thread, the best of three passes; reading is decompressing and decoding.

use std::{collections::BTreeMap, hint::black_box, path::Path, time::Instant};

use recorder::{
    event::{Class, Event},
    snapshot::SnapshotReader,
    window::{
        codec::{BlockMeta, Columns, DecodedBlock, RAW_BYTES_MAX, RawBlock},
        compress_at,
    },
};

const PASSES: usize = 3;

/// A way to make bytes of the events of a block, and the level zstd takes them with.
struct Coding {
    name: &'static str,
    bytes_of: fn(&[Event<'_>], &BlockMeta) -> RawBlock,
    level: i32,
    is_ours: bool,
}

const CODINGS: &[Coding] = &[
    Coding { name: "records, zstd 3", bytes_of: records, level: 3, is_ours: false },
    Coding { name: "columns, zstd 3", bytes_of: plain_columns, level: 3, is_ours: false },
    Coding {
        name: "differences by thread and call, zstd 1",
        bytes_of: differences,
        level: 1,
        is_ours: false,
    },
    Coding { name: "the window's, zstd 1", bytes_of: window_columns, level: 1, is_ours: true },
    Coding { name: "the window's, zstd 3", bytes_of: window_columns, level: 3, is_ours: true },
    Coding { name: "the window's, zstd 9", bytes_of: window_columns, level: 9, is_ours: true },
];

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if files.is_empty() {
        println!("no snapshot is named: cargo bench ... --bench columns -- FILE...");
    }
    for file in files {
        match SnapshotReader::open(Path::new(&file)) {
            Ok(reader) => measure(&file, &reader),
            Err(error) => println!("{error}"),
        }
    }
}

fn measure(file: &str, reader: &SnapshotReader) {
    let recorded = |entry: &&recorder::snapshot::BlockEntry| {
        !matches!(entry.meta.class, Class::Context | Class::Unfinished)
    };
    let entries: Vec<_> = reader.blocks().iter().filter(recorded).collect();
    let blocks: Vec<(DecodedBlock, BlockMeta)> =
        entries.iter().filter_map(|entry| Some((reader.block(entry).ok()?, entry.meta))).collect();
    let count: usize = blocks.iter().map(|(block, _)| block.len()).sum();
    let stored: u64 = entries.iter().map(|entry| u64::from(entry.frame_bytes)).sum();
    let per_event = |value: f64| value / count.max(1) as f64;
    println!("{file}: {count} events in {} blocks", blocks.len());
    println!("  {:<40} {:>7} {:>9} {:>9} {:>9}", "", "B/event", "code ns", "zstd ns", "read ns");
    println!("  {:<40} {:>7.2}", "as it is stored", per_event(stored as f64));
    for coding in CODINGS {
        let (mut bytes, mut code_ns, mut zstd_ns, mut read_ns) = (0, 0, 0, 0);
        for (block, meta) in &blocks {
            let events: Vec<Event<'_>> = block.events().collect();
            let (code, raw) = best(|| (coding.bytes_of)(&events, meta));
            let (zstd, frame) = best(|| compress_at(&raw, coding.level));
            (bytes, code_ns, zstd_ns) = (bytes + frame.len(), code_ns + code, zstd_ns + zstd);
            if coding.is_ours {
                let (read, again) = best(|| {
                    let raw = zstd::bulk::decompress(&frame, RAW_BYTES_MAX).ok()?;
                    DecodedBlock::read(&raw).ok()
                });
                let same = again.is_some_and(|again| again.events().eq(events.iter().copied()));
                assert!(same, "a block of {file} is not read as it was written");
                read_ns += read;
            }
        }
        let ns =
            |ns: u128| if ns == 0 { String::new() } else { format!("{:.1}", per_event(ns as f64)) };
        println!(
            "  {:<40} {:>7.2} {:>9} {:>9} {:>9}",
            coding.name,
            per_event(bytes as f64),
            ns(code_ns),
            ns(zstd_ns),
            ns(read_ns)
        );
    }
}

fn best<T>(work: impl Fn() -> T) -> (u128, T) {
    let mut made = None;
    let mut least = u128::MAX;
    for _ in 0..PASSES {
        let began = Instant::now();
        let result = black_box(work());
        least = least.min(began.elapsed().as_nanos());
        made = Some(result);
    }
    match made {
        Some(made) => (least, made),
        None => unreachable!("there is at least one pass"),
    }
}

/// The window's.
fn window_columns(events: &[Event<'_>], meta: &BlockMeta) -> RawBlock {
    let mut columns = Columns::default();
    for event in events {
        columns.push(event);
    }
    columns.to_bytes(meta.class, meta.cpu)
}

/// As the kernel wrote them: everything at its full width, one event after the other.
fn records(events: &[Event<'_>], _: &BlockMeta) -> RawBlock {
    let mut out = Vec::new();
    for event in events {
        out.extend([event.kind as u8, event.numbers().len() as u8, event.attached().len() as u8]);
        out.extend(event.flags.to_le_bytes());
        out.extend(event.pid.to_le_bytes());
        out.extend(event.tid.to_le_bytes());
        out.extend(event.ts_ns.to_le_bytes());
        event.numbers().iter().for_each(|number| out.extend(number.to_le_bytes()));
        for attached in event.attached() {
            out.extend([attached.index, attached.flags]);
            out.extend((attached.bytes.len() as u16).to_le_bytes());
            out.extend(attached.bytes);
        }
    }
    out.into()
}

/// A column for each field of each kind, at full width.
fn plain_columns(events: &[Event<'_>], _: &BlockMeta) -> RawBlock {
    let mut columns: BTreeMap<(u8, u8), Vec<u8>> = BTreeMap::new();
    let mut column = |kind: u8, place: u8, bytes: &[u8]| {
        columns.entry((kind, place)).or_default().extend(bytes);
    };
    for event in events {
        let kind = event.kind as u8;
        let counts = [kind, event.numbers().len() as u8, event.attached().len() as u8];
        column(0, 0, &counts);
        column(0, 1, &event.flags.to_le_bytes());
        column(0, 2, &event.pid.to_le_bytes());
        column(0, 3, &event.tid.to_le_bytes());
        column(0, 4, &event.ts_ns.to_le_bytes());
        for (place, number) in (0..).zip(event.numbers()) {
            column(kind, place, &number.to_le_bytes());
        }
        for attached in event.attached() {
            column(0, 5, &[attached.index, attached.flags]);
            column(0, 6, &(attached.bytes.len() as u16).to_le_bytes());
            column(0, 7, attached.bytes);
        }
    }
    columns.into_values().flatten().collect::<Vec<u8>>().into()
}

/// Numbers as differences to those of the last event of the same kind, thread and first
/// number, in LEB128; strings once, then by number.
fn differences(events: &[Event<'_>], _: &BlockMeta) -> RawBlock {
    let mut columns: BTreeMap<(u8, u8), Vec<u8>> = BTreeMap::new();
    let mut last: BTreeMap<(u8, u32, u64), Vec<u64>> = BTreeMap::new();
    let mut strings: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut texts = Vec::new();
    let (mut last_ts, mut last_tid) = (0, 0);
    for event in events {
        let kind = event.kind as u8;
        let mut put = |kind: u8, place: u8, value: u64, last: u64| {
            let delta = value.wrapping_sub(last).cast_signed();
            let mut rest = (delta << 1 ^ delta >> 63).cast_unsigned();
            let column = columns.entry((kind, place)).or_default();
            while rest >= 0x80 {
                column.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            column.push(rest as u8);
        };
        put(0, 0, u64::from(kind), 0);
        put(0, 1, u64::from(event.flags), 0);
        put(0, 2, u64::from(event.pid), u64::from(event.tid));
        put(0, 3, u64::from(event.tid), last_tid);
        put(0, 4, event.ts_ns, last_ts);
        (last_ts, last_tid) = (event.ts_ns, u64::from(event.tid));
        put(0, 5, event.numbers().len() as u64, 0);
        put(0, 6, event.attached().len() as u64, 0);
        let known = last.entry((kind, event.tid, event.number(0))).or_default();
        known.resize(event.numbers().len(), 0);
        for ((place, number), known) in (0..).zip(event.numbers()).zip(known) {
            put(kind, place, *number, if place == 0 { 0 } else { *known });
            *known = *number;
        }
        for attached in event.attached() {
            let next = strings.len() as u64 + 1;
            let string = *strings.entry(attached.bytes).or_insert(next);
            put(0, 7, u64::from(attached.index), 0);
            put(0, 8, u64::from(attached.flags), 0);
            put(0, 9, string, 0);
            if string == next {
                put(0, 10, attached.bytes.len() as u64, 0);
                texts.extend(attached.bytes);
            }
        }
    }
    columns.into_values().flatten().chain(texts).collect::<Vec<u8>>().into()
}
