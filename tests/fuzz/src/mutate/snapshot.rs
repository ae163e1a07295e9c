//! Snapshots, taken apart into header, blocks and trailer and put together again with
//! lengths and checksums that are right: behind them lies what is worth trying.

use std::{cell::RefCell, collections::BTreeMap};

use recorder::{
    event::{Class, Kind, wire::KINDS_MAX},
    snapshot::{FORMAT_VERSION, Trailer},
    window::codec::{DecodedBlock, Present, RAW_BYTES_MAX},
};
use recorder_tests::synth::{Random, Synth};

use super::{block, edge, json};
use crate::targets::recovery::memory_folder;

// As FORMAT.md has them: not taken from the reader that is tried.
const HEADER: u32 = 0x184D_2A50;
const INDEX: u32 = 0x184D_2A51;
const TRAILER: u32 = 0x184D_2A52;
const SEEK_TABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;
const ZSTD: u32 = 0xFD2F_B528;

/// A frame of the file.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The header's JSON, and the version of the format it is of.
    Header(Vec<u8>, u32),
    /// A block before compression, and what the index says of it where that is not
    /// what it is.
    Block(Vec<u8>, Option<Box<Entry>>),
    /// The trailer's JSON; made new where there is none.
    Trailer(Option<Vec<u8>>),
    /// Whatever else.
    Other(Vec<u8>),
}

/// What the index says of a block.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    raw_bytes: u32,
    class: u8,
    cpu: u16,
    first_ns: u64,
    last_ns: u64,
    kinds: [u32; KINDS_MAX],
    present: Present,
}

thread_local! {
    /// Files that were written once: writing one takes longer than trying it.
    static FILES: RefCell<BTreeMap<u64, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Different files that begin a series of changes.
const FILES_MAX: u64 = 40;

/// Files that earlier versions wrote. The second is long: some of its blocks are taken.
const OLD: [&[u8]; 2] = [
    include_bytes!("../../../golden/v1/sample.kfr"),
    include_bytes!("../../../golden/v2/aarch64.kfr"),
];

/// The longest block, before compression, that is taken of them.
const OLD_BLOCK_BYTES_MAX: usize = 6 << 10;

/// A small snapshot of random events, the sample that has something of everything, or
/// what earlier versions wrote.
pub fn make(random: &mut Random) -> Vec<u8> {
    let number = random.below(FILES_MAX);
    FILES.with_borrow_mut(|files| files.entry(number).or_insert_with(|| written(number)).clone())
}

fn written(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    match number {
        1 => return OLD[0].to_vec(),
        2..6 => return some_of_old(&mut random),
        _ => {}
    }
    let mut synth = if number == 0 {
        Synth::sample()
    } else {
        let events = random.below(60) as usize;
        Synth::random(number, 1 + random.below(3) as u16, events)
    };
    synth.header.boot_id = format!("{:x}", random.next_u64());
    // The writer makes a file durable, which takes longer than all the rest.
    let path = synth.write(&memory_folder());
    let bytes = std::fs::read(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    if random.one_in(2) { with_rollups(&mut random, &bytes) } else { bytes }
}

/// The file with counts of the last hour, before its end.
fn with_rollups(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let mut parts = parts_of(file);
    let end = parts.iter().rposition(|part| matches!(part, Part::Trailer(_)));
    let end = end.unwrap_or(parts.len());
    parts.truncate(end);
    parts.extend([Part::Block(block::make_rollups(random), None), Part::Trailer(None)]);
    render(&parts)
}

/// Blocks of earlier layouts, before compression.
pub(super) fn old_blocks() -> impl Iterator<Item = Vec<u8>> {
    OLD.into_iter().flat_map(parts_of).filter_map(|part| match part {
        Part::Block(raw, _) if raw.len() <= OLD_BLOCK_BYTES_MAX => Some(raw),
        _ => None,
    })
}

/// The header of a file of version 2 and a few of its blocks.
fn some_of_old(random: &mut Random) -> Vec<u8> {
    let is_kept = |part: &Part, random: &mut Random| match part {
        Part::Block(raw, _) => raw.len() <= OLD_BLOCK_BYTES_MAX && random.one_in(8),
        Part::Header(..) => true,
        _ => false,
    };
    let mut parts = parts_of(OLD[1]);
    parts.retain(|part| is_kept(part, random));
    parts.push(Part::Trailer(None));
    render(&parts)
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Takes a file apart; what is not understood is kept as it is.
pub(super) fn parts_of(mut bytes: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(magic) = half(bytes, 0) {
        let length = if magic == ZSTD {
            zstd::zstd_safe::find_frame_compressed_size(bytes).ok()
        } else if magic & 0xffff_fff0 == HEADER {
            half(bytes, 4).map(|length| length as usize + 8)
        } else {
            None
        };
        let frame = length.and_then(|length| bytes.split_at_checked(length));
        let Some((frame, rest)) = frame else { break };
        bytes = rest;
        let payload = || frame.get(20..).unwrap_or_default().to_vec();
        match magic {
            HEADER => {
                parts.push(Part::Header(payload(), half(frame, 12).unwrap_or(FORMAT_VERSION)));
            }
            TRAILER => parts.push(Part::Trailer(Some(payload()))),
            // They are made new.
            INDEX | SEEK_TABLE => {}
            ZSTD => parts.push(match zstd::bulk::decompress(frame, RAW_BYTES_MAX) {
                Ok(raw) => Part::Block(raw, None),
                Err(_) => Part::Other(frame.to_vec()),
            }),
            _ => parts.push(Part::Other(frame.to_vec())),
        }
    }
    if !bytes.is_empty() {
        parts.push(Part::Other(bytes.to_vec()));
    }
    parts
}

impl Entry {
    fn of(raw: &[u8]) -> Option<Entry> {
        let block = DecodedBlock::read(raw).ok()?;
        let mut kinds = [0; KINDS_MAX];
        block.events().for_each(|event| kinds[event.kind as usize] += 1);
        Some(Entry {
            raw_bytes: raw.len() as u32,
            class: block.class as u8,
            cpu: block.cpu,
            first_ns: block.ts_ns(0).unwrap_or_default(),
            last_ns: block.len().checked_sub(1).and_then(|at| block.ts_ns(at)).unwrap_or_default(),
            kinds,
            present: block.present,
        })
    }

    fn mutate(&mut self, random: &mut Random) {
        match random.below(8) {
            0 => self.raw_bytes = edge(random) as u32,
            1 => self.class = random.below(6) as u8,
            2 => self.cpu = edge(random) as u16,
            3 => self.first_ns = edge(random),
            4 => self.last_ns = edge(random),
            5 => self.present.threads = edge(random),
            6 => self.present.calls = u128::from(edge(random)) << 64,
            _ => self.kinds[random.below(KINDS_MAX as u64) as usize] = edge(random) as u32,
        }
    }

    /// As the index of a file of this version has it, without its place and its checksum.
    fn put(&self, index: &mut Vec<u8>, version: u32) {
        // Version 1 does not say how many kinds it counts.
        let (said, kinds) = if version < 2 { (0, 16) } else { (KINDS_MAX as u8, KINDS_MAX) };
        index.extend([self.class, said]);
        index.extend(self.cpu.to_le_bytes());
        index.extend(self.first_ns.to_le_bytes());
        index.extend(self.last_ns.to_le_bytes());
        if version >= 3 {
            index.extend(self.present.threads.to_le_bytes());
            index.extend(self.present.calls.to_le_bytes());
        }
        self.kinds.iter().take(kinds).for_each(|count| index.extend(count.to_le_bytes()));
    }
}

fn skippable(magic: u32, tag: &[u8; 4], payload: &[u8], version: u32) -> Vec<u8> {
    let mut frame = magic.to_le_bytes().to_vec();
    frame.extend((payload.len() as u32 + 12).to_le_bytes());
    frame.extend(tag);
    frame.extend(version.to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    frame.extend(payload);
    frame
}

fn version_of(parts: &[Part]) -> u32 {
    let mut versions = parts.iter().filter_map(|part| match part {
        Part::Header(_, version) => Some(*version),
        _ => None,
    });
    versions.next().unwrap_or(FORMAT_VERSION)
}

fn compressed(raw: &[u8]) -> Vec<u8> {
    recorder::window::compress(&raw.to_vec().into()).to_vec()
}

/// The frames one after the other, as a part of a spool has them: no index, no seek table.
pub(super) fn frames_of(parts: &[Part]) -> Vec<u8> {
    let mut file = Vec::new();
    for part in parts {
        match part {
            Part::Header(text, version) => {
                file.extend(skippable(HEADER, b"KFRH", text, *version));
            }
            Part::Block(raw, _) => file.extend(compressed(raw)),
            Part::Trailer(text) => {
                let text = text.as_deref().unwrap_or_default();
                file.extend(skippable(TRAILER, b"KFRT", text, FORMAT_VERSION));
            }
            Part::Other(bytes) => file.extend(bytes),
        }
    }
    file
}

/// The file of these parts, with an index and a seek table that are right.
fn render(parts: &[Part]) -> Vec<u8> {
    let (mut file, mut index, mut table) = (Vec::new(), Vec::new(), Vec::new());
    let mut trailer = Trailer::default();
    let version = version_of(parts);
    let mut push = |file: &mut Vec<u8>, frame: Vec<u8>, raw: u32| {
        table.extend((frame.len() as u32).to_le_bytes());
        table.extend(raw.to_le_bytes());
        file.extend(frame);
    };
    for part in parts {
        match part {
            Part::Header(text, version) => {
                push(&mut file, skippable(HEADER, b"KFRH", text, *version), 0);
            }
            Part::Block(raw, said) => {
                let frame = compressed(raw);
                let entry = said.as_deref().cloned().or_else(|| Entry::of(raw));
                let entry = entry.unwrap_or(Entry {
                    raw_bytes: raw.len() as u32,
                    class: 2,
                    cpu: 0,
                    first_ns: 0,
                    last_ns: 0,
                    kinds: [0; KINDS_MAX],
                    present: Present::UNKNOWN,
                });
                index.extend((file.len() as u64).to_le_bytes());
                index.extend((frame.len() as u32).to_le_bytes());
                index.extend(entry.raw_bytes.to_le_bytes());
                index.extend(crc32c::crc32c(&frame).to_le_bytes());
                entry.put(&mut index, version);
                count(&mut trailer, &entry, frame.len());
                push(&mut file, frame, raw.len() as u32);
            }
            Part::Trailer(said) => {
                let own = serde_json::to_vec(&trailer).unwrap_or_default();
                push(&mut file, skippable(INDEX, b"KFRI", &index, version), 0);
                let said = said.as_ref().unwrap_or(&own);
                push(&mut file, skippable(TRAILER, b"KFRT", said, version), 0);
            }
            Part::Other(bytes) => push(&mut file, bytes.clone(), 0),
        }
    }
    let frames = table.len() as u32 / 8;
    file.extend(SEEK_TABLE.to_le_bytes());
    file.extend((table.len() as u32 + 9).to_le_bytes());
    file.extend(table);
    file.extend(frames.to_le_bytes());
    file.push(0);
    file.extend(SEEKABLE.to_le_bytes());
    file
}

fn count(trailer: &mut Trailer, entry: &Entry, frame_bytes: usize) {
    if [Class::Context as u8, Class::Rollup as u8].contains(&entry.class) {
        trailer.context_bytes += frame_bytes as u64;
        return;
    }
    for kind in Kind::ALL {
        let count = u64::from(entry.kinds[*kind as usize]);
        if count > 0 {
            *trailer.events.entry(kind.schema().name.to_string()).or_default() += count;
        }
    }
}

/// Changes a snapshot, mostly so that all lengths and checksums are right.
pub fn mutate(random: &mut Random, file: &mut Vec<u8>) {
    let mut parts = parts_of(file);
    if parts.is_empty() || random.one_in(6) {
        return super::bytes(random, file);
    }
    change(random, &mut parts);
    *file = render(&parts);
    if random.one_in(10) {
        super::bytes(random, file);
    }
}

/// Changes one of the parts, or where it stands.
pub(super) fn change(random: &mut Random, parts: &mut Vec<Part>) {
    if parts.is_empty() {
        return;
    }
    // The header comes first, and says the most: as often as all blocks together.
    let last = if random.one_in(2) { 1 } else { parts.len() as u64 };
    let at = random.below(last) as usize;
    match random.below(8) {
        0 => drop(parts.remove(at)),
        1 => {
            let times = if random.one_in(10) { 20 } else { 1 };
            for _ in 0..times {
                let again = parts[at].clone();
                parts.insert(at, again);
            }
        }
        2 => {
            let other = random.below(parts.len() as u64) as usize;
            parts.swap(at, other);
        }
        3 => {
            let raw =
                if random.one_in(6) { block::make_rollups(random) } else { block::make(random) };
            parts.insert(at, Part::Block(raw, None));
        }
        _ => part(random, &mut parts[at]),
    }
}

/// The file without one of its parts, or with an empty one.
pub fn smaller(file: &[u8]) -> Vec<Vec<u8>> {
    let parts = parts_of(file);
    let mut smaller = vec![render(&parts)];
    for at in 0..parts.len() {
        let mut without = parts.clone();
        without.remove(at);
        smaller.push(render(&without));
        if let Part::Header(text, version) = &parts[at] {
            for text in json::smaller(text) {
                let mut with = parts.clone();
                with[at] = Part::Header(text, *version);
                smaller.push(render(&with));
            }
        }
    }
    smaller.retain(|smaller| smaller.len() < file.len());
    smaller
}

/// Changes one part.
pub(super) fn part(random: &mut Random, part: &mut Part) {
    match part {
        Part::Header(_, version) if random.one_in(40) => {
            *version = random.below(u64::from(FORMAT_VERSION) + 2) as u32;
        }
        Part::Header(text, _) | Part::Trailer(Some(text)) => {
            if random.one_in(4) {
                if let Part::Trailer(said) = part {
                    *said = None;
                }
            } else {
                json::mutate(random, text);
            }
        }
        Part::Trailer(said) => *said = Some(b"{}".to_vec()),
        Part::Block(raw, said) => {
            if random.one_in(4) {
                let mut entry = said.take().map(|entry| *entry).or_else(|| Entry::of(raw));
                if let Some(entry) = &mut entry {
                    entry.mutate(random);
                }
                *said = entry.map(Box::new);
            } else {
                block::mutate(random, raw);
            }
        }
        Part::Other(bytes) => super::bytes(random, bytes),
    }
}
