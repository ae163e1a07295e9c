//! Records of the ring.

use recorder_tests::{
    synth::Random,
    written::{ARGS, ATTACHMENTS, BYTES, KIND, Written},
};

/// A record as the kernel writes it.
pub fn make(random: &mut Random) -> Vec<u8> {
    Written::random(random).encode()
}

/// Changes it, mostly so that its length is still what it says.
pub fn mutate(random: &mut Random, record: &mut Vec<u8>) {
    match random.below(6) {
        0 => set(record, KIND, random.below(16) as u8),
        1 => set(record, ARGS, random.below(12) as u8),
        2 => set(record, ATTACHMENTS, random.below(7) as u8),
        _ => super::bytes(random, record),
    }
    if !random.one_in(4) {
        mend(record);
    }
}

/// Makes its length what it says.
#[expect(clippy::ptr_arg, reason = "what mends other inputs changes their length")]
pub fn mend(record: &mut Vec<u8>) {
    let length = (record.len() as u16).to_ne_bytes();
    for (byte, new) in record.iter_mut().skip(BYTES).zip(length) {
        *byte = new;
    }
}

fn set(record: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = record.get_mut(at) {
        *byte = value;
    }
}
