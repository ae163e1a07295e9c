//! Spools: the files of one, packed into one input.
//!
//! An input is a row of files. Each is the number of its place in the ring, the length
//! of what follows, four bytes with the lowest first, and that.

use std::{cell::RefCell, collections::BTreeMap};

use recorder::{
    clock::ClockAnchor,
    event::syscall::Abi,
    snapshot::{Header, SpoolPart, WindowInfo, header_frame},
    spool::PARTS,
    window::{Block, Window, WindowLimits},
};
use recorder_tests::synth::{Random, Synth};

use super::snapshot::{Part, change, frames_of, part, parts_of};

thread_local! {
    /// Spools that were written once.
    static SPOOLS: RefCell<BTreeMap<u64, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Different spools that begin a series of changes.
const SPOOLS_MAX: u64 = 40;

/// Zeros behind what was written. In a real spool there are many more of them.
const ZEROS: usize = 64;

/// The files of an input and their places, as far as it goes.
pub fn unpacked(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut files = Vec::new();
    while let Some((&[slot, a, b, c, d], rest)) = input.split_first_chunk() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let (file, rest) = rest.split_at(length.min(rest.len()));
        files.push((slot, file));
        input = rest;
    }
    files
}

/// The input of these files.
pub fn packed<'a>(files: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut input = Vec::new();
    for (slot, file) in files {
        input.push(slot);
        input.extend((file.len() as u32).to_le_bytes());
        input.extend(file);
    }
    input
}

/// A spool as [`recorder::spool::SpoolWriter`] writes it, but for the clock and the
/// thread of that: the same number gives the same bytes.
pub fn make(random: &mut Random) -> Vec<u8> {
    let number = random.below(SPOOLS_MAX);
    SPOOLS.with_borrow_mut(|spools| spools.entry(number).or_insert_with(|| written(number)).clone())
}

fn written(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let synth = match number {
        0 => Synth::sample(),
        _ => Synth::random(number, 1 + random.below(2) as u16, random.below(90) as usize),
    };
    let limits = WindowLimits { span_ns: 60_000_000_000, bytes_max: 64 << 20 };
    let baseline = synth.context.clone();
    let mut window = Window::new(limits, usize::from(synth.cpus), Abi::X86_64, baseline);
    window.keep_unseen();
    // Once round and further, sometimes.
    let mut sequence = random.below(2 * PARTS as u64);
    let mut files = vec![begun(&window, &synth, 0, sequence)];
    for made in &synth.events {
        window.push(&made.as_event());
        window.tick(made.ts_ns.min(synth.header.clock.monotonic_ns));
        if random.one_in(12) {
            window.seal_all();
            append(&mut files, &mut window);
        }
        if random.one_in(40) {
            sequence += 1;
            files.push(begun(&window, &synth, made.ts_ns, sequence));
        }
    }
    window.seal_all();
    append(&mut files, &mut window);
    let from = files.len().saturating_sub(PARTS);
    for (_, file) in &mut files {
        file.resize(file.len() + ZEROS, 0);
    }
    packed(files[from..].iter().map(|(slot, file)| (*slot, file.as_slice())))
}

/// A part that begins at `now_ns`: its place and its bytes.
fn begun(window: &Window, synth: &Synth, now_ns: u64, sequence: u64) -> (u8, Vec<u8>) {
    let mut state = window.checkpoint();
    let context = state.context();
    let frames: Vec<u8> = context.iter().chain(&state.blocks).flat_map(frame_of).collect();
    let header = Header {
        format_version: synth.header.format_version,
        arch: synth.header.arch.clone(),
        clock: ClockAnchor { monotonic_ns: now_ns, ..synth.header.clock },
        window: WindowInfo { asked_ns: state.limits.span_ns, ..WindowInfo::default() },
        spool: Some(SpoolPart {
            session: "boot-1".to_string(),
            sequence,
            checkpoint_bytes: frames.len() as u64,
        }),
        ..Header::default()
    };
    let mut file = header_frame(&header, 0).expect("a header is JSON");
    file.extend(frames);
    ((sequence % PARTS as u64) as u8, file)
}

fn append(files: &mut [(u8, Vec<u8>)], window: &mut Window) {
    if let Some((_, file)) = files.last_mut() {
        file.extend(window.take_unseen().iter().flat_map(frame_of));
    }
}

fn frame_of(block: &Block) -> Vec<u8> {
    block.sealed().frame.to_vec()
}

/// A file that was taken apart.
type Taken = (u8, Vec<Part>);

fn taken(input: &[u8]) -> Vec<Taken> {
    unpacked(input).into_iter().map(|(slot, file)| (slot, parts_of(file))).collect()
}

fn render(files: &[Taken]) -> Vec<u8> {
    let files: Vec<(u8, Vec<u8>)> =
        files.iter().map(|(slot, parts)| (*slot, frames_of(parts))).collect();
    packed(files.iter().map(|(slot, file)| (*slot, file.as_slice())))
}

/// Changes a spool, mostly so that all lengths and checksums are right.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    let mut files = taken(input);
    if files.is_empty() || random.one_in(8) {
        return super::bytes(random, input);
    }
    let at = random.below(files.len() as u64) as usize;
    match random.below(10) {
        0 => drop(files.remove(at)),
        1 => {
            let (_, parts) = files[at].clone();
            files.push((random.below(PARTS as u64) as u8, parts));
        }
        2 => files[at].0 = random.below(PARTS as u64 + 1) as u8,
        3 => {
            // Cut, as a crash does, or not written to the end.
            let mut file = frames_of(&files[at].1);
            let from = super::place(random, &file);
            if random.one_in(2) {
                file.truncate(from);
            } else {
                let end = (from + random.below(200) as usize).min(file.len());
                file[from..end].fill(0);
            }
            files[at].1 = parts_of(&file);
        }
        4 => {
            // A block of another part.
            let other = random.below(files.len() as u64) as usize;
            let from = random.below(files[other].1.len() as u64) as usize;
            let block = files[other].1.get(from).cloned();
            let to = random.below(files[at].1.len() as u64 + 1) as usize;
            files[at].1.splice(to..to, block);
        }
        5 | 6 => {
            // The header says which recording it is of, and where its checkpoint ends.
            if let Some(header) = files[at].1.first_mut() {
                part(random, header);
            }
        }
        _ => change(random, &mut files[at].1),
    }
    *input = render(&files);
}

/// The spool without one of its files, or without a frame of one.
pub fn smaller(input: &[u8]) -> Vec<Vec<u8>> {
    let files = taken(input);
    let mut smaller = vec![render(&files)];
    for at in 0..files.len() {
        let mut without = files.clone();
        without.remove(at);
        smaller.push(render(&without));
        for place in 0..files[at].1.len() {
            let mut without = files.clone();
            without[at].1.remove(place);
            smaller.push(render(&without));
        }
    }
    smaller.retain(|smaller| smaller.len() < input.len());
    smaller
}
