//! Changes to inputs: of bytes, and of what bytes mean.

pub mod block;
pub mod json;
pub mod record;
pub mod snapshot;
pub mod spool;
pub mod text;

use recorder_tests::synth::Random;

/// One of a list that is not empty.
pub fn one_of<'a, T: ?Sized>(random: &mut Random, list: &[&'a T]) -> &'a T {
    list[random.below(list.len() as u64) as usize]
}

/// A place in `bytes`, or right behind them.
pub fn place(random: &mut Random, bytes: &[u8]) -> usize {
    random.below(bytes.len() as u64 + 1) as usize
}

/// A number as lengths and counts are wrong with: at an edge.
pub fn edge(random: &mut Random) -> u64 {
    let bits = random.below(65) as u32;
    let edge = if bits == 64 { u64::MAX } else { 1 << bits };
    match random.below(4) {
        0 => edge.wrapping_sub(1),
        1 => edge.wrapping_add(1),
        2 => edge.wrapping_neg(),
        _ => edge,
    }
}

/// Changes bytes that may mean anything.
pub fn bytes(random: &mut Random, input: &mut Vec<u8>) {
    let at = place(random, input);
    match random.below(10) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next_u64() as u8;
            }
        }
        3 | 4 => {
            // A number of one to eight bytes at an edge.
            let width = 1 << random.below(4);
            let number = edge(random).to_le_bytes();
            for (byte, new) in input.iter_mut().skip(at).zip(number).take(width) {
                *byte = new;
            }
        }
        5 => {
            let more = random.bytes(20);
            input.splice(at..at, more);
        }
        6 => {
            let end = (at + 1 + random.below(32) as usize).min(input.len());
            input.drain(at.min(end)..end);
        }
        7 => {
            // Something of it again, somewhere else, once or often.
            let from = place(random, input);
            let length = 1 + random.below(64) as usize;
            let piece = input[from..(from + length).min(input.len())].to_vec();
            let most = if random.one_in(8) { 400 } else { 3 };
            let times = 1 + random.below(most) as usize;
            input.splice(at..at, piece.repeat(times));
        }
        8 => {
            let from = place(random, input);
            let length = 1 + random.below(64) as usize;
            let piece = input[from..(from + length).min(input.len())].to_vec();
            let end = (at + piece.len()).min(input.len());
            input.splice(at..end, piece);
        }
        _ => input.truncate(at),
    }
}

/// The beginning of one input and the end of another.
pub fn splice(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = place(random, input);
    input.truncate(at);
    let from = place(random, other);
    input.extend(&other[from..]);
}
