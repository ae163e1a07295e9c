//! Calls that were made before: programs make the same ones over and over, and their
//! records differ in times, result and running number alone. Such a record is told by a key
//! of the rest of it, and need not be decoded.
//!
//! Invariant: a key is only made of records that [`decode`](super::decode) takes, as long
//! as whoever keeps one has decoded a record that has it.

use std::{
    hash::{BuildHasher as _, RandomState},
    mem::offset_of,
};

use super::Sequence;
use crate::event::{Kind, record::Syscall, wire::Header};

/// A record of a call without what every record has of its own. Two records have the same
/// one only if they are the same: by chance that happens once in 2^64 pairs at the most,
/// and nobody outside knows what it is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    one: u64,
    other: u64,
}

impl Key {
    /// Bits to find it by.
    pub fn bits(self) -> u64 {
        self.one ^ self.other
    }
}

/// What a record of a call has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// What the ledger needs.
    pub sequence: Sequence,
    /// When it was recorded.
    pub ts_ns: u64,
    /// What it returned, as the kernel's words have it.
    pub ret: u64,
    /// How long it took.
    pub dur_ns: u64,
}

impl Recurrence {
    /// The error it failed with.
    #[inline]
    pub fn errno(&self) -> Option<i32> {
        (self.ret > ERRORS_FROM).then(|| self.ret.wrapping_neg() as i32)
    }
}

/// Makes keys.
#[derive(Clone, Copy, Debug)]
pub struct Keys([u64; 6]);

impl Default for Keys {
    fn default() -> Keys {
        let random = RandomState::new();
        Keys(std::array::from_fn(|place| random.hash_one(place)))
    }
}

impl Keys {
    /// Takes the record of a call apart; `None` for any other, and for what makes no sense.
    #[inline]
    pub fn split(&self, record: &[u8]) -> Option<(Key, Recurrence)> {
        const HEAD: usize = size_of::<Syscall>();
        const _: () = assert!(HEAD == 56 && offset_of!(Header, seq) == 8, "the words below");
        let (head, rest) = record.split_first_chunk::<HEAD>()?;
        let (words, _) = head.as_chunks::<8>();
        let [begin, sequence, ts_ns, thread, nr, ret, dur_ns] =
            *<&[[u8; 8]; 7]>::try_from(words).ok()?;
        let word = u64::from_ne_bytes;
        let is_call = begin.get(offset_of!(Header, kind)) == Some(&(Kind::Syscall as u8));
        // Attachments are padded to half a word.
        let bytes = usize::from(u16::from_ne_bytes([begin[0], begin[1]]));
        if !is_call || bytes != record.len() || !bytes.is_multiple_of(4) {
            return None;
        }
        let (seq, skipped) = sequence.split_first_chunk::<4>()?;
        let recurrence = Recurrence {
            sequence: Sequence {
                seq: u32::from_ne_bytes(*seq),
                skipped: u32::from_ne_bytes(*skipped.first_chunk()?),
            },
            ts_ns: word(ts_ns),
            ret: word(ret),
            dur_ns: word(dur_ns),
        };
        let Keys([start, first, second, third, fourth, last]) = *self;
        // A failure is another call than a success: not the same follows from it.
        let error = recurrence.errno().map_or(0, i64::from) as u64;
        let mut one = mix(word(begin) ^ start, word(thread) ^ first);
        let mut other = mix(word(nr) ^ last, error ^ second);
        let (quads, rest) = rest.as_chunks::<32>();
        for quad in quads {
            let (words, _) = quad.as_chunks::<8>();
            let [a, b, c, d] = *<&[[u8; 8]; 4]>::try_from(words).ok()?;
            one = mix(word(a) ^ first ^ one, word(b) ^ second);
            other = mix(word(c) ^ third ^ other, word(d) ^ fourth);
        }
        // Less than four words: those that are not there are 0, and the length of all of it
        // is in the first word of the record.
        let (words, half) = rest.as_chunks::<8>();
        let at = |place: usize| words.get(place).map_or(0, |number| word(*number));
        let half = half.first_chunk::<4>().map_or(0, |half| u32::from_ne_bytes(*half));
        one = mix(at(0) ^ fourth ^ one, at(1) ^ first);
        other = mix(at(2) ^ second ^ other, u64::from(half) ^ third);
        Some((Key { one, other }, recurrence))
    }
}

/// Results above it are errors, as the kernel returns them (`MAX_ERRNO`, include/linux/err.h).
const ERRORS_FROM: u64 = u64::MAX - 4095;

/// Both halves of a product, folded.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    /// A record of `read` with a path of `path` attached.
    fn record(path: &[u8]) -> Vec<u8> {
        let mut record: Vec<u8> = (0..80).map(|byte| byte as u8).collect();
        record[2..8].copy_from_slice(&[Kind::Syscall as u8, 3, 0, 0, 1, 0]);
        record.extend([0, 0, path.len() as u8, 0]);
        record.extend(path);
        record.resize(record.len().next_multiple_of(4), 0);
        let bytes = record.len() as u16;
        record[..2].copy_from_slice(&bytes.to_ne_bytes());
        record
    }

    /// What a record has of its own by its bytes: running number, skipped, time, result,
    /// duration.
    fn is_own(place: usize) -> bool {
        matches!(place, 8..24 | 40..56)
    }

    #[test]
    fn what_a_record_has_of_its_own_is_what_decoding_finds() {
        let record = record(b"/etc/passwd");
        let (_, recurrence) = Keys::default().split(&record).unwrap();
        let (event, sequence) = decode(&record, 0).unwrap();
        assert_eq!(
            recurrence,
            Recurrence {
                sequence,
                ts_ns: event.ts_ns,
                ret: event.number(1),
                dur_ns: event.number(2),
            }
        );
    }

    #[test]
    fn every_bit_of_the_rest_makes_another_key_and_no_other_does() {
        let keys = Keys::default();
        for length in 0..70 {
            let record = record(&vec![b'x'; length]);
            let (key, _) = keys.split(&record).unwrap();
            // Length and kind decide whether it is one at all.
            for place in 3..record.len() {
                for bit in 0..8 {
                    let mut other = record.clone();
                    other[place] ^= 1 << bit;
                    let (changed, _) = keys.split(&other).unwrap();
                    assert_eq!(changed == key, is_own(place), "byte {place}, bit {bit}");
                }
            }
        }
    }

    /// Whether a call changed anything depends on it.
    #[test]
    fn a_failure_is_not_the_same_call() {
        let keys = Keys::default();
        let key = |ret: i64| {
            let mut record = record(b"/etc/passwd");
            record[40..48].copy_from_slice(&ret.to_ne_bytes());
            keys.split(&record).unwrap().0
        };
        assert_eq!(key(0), key(1_000_000));
        assert_eq!(key(0), key(-4_096));
        let distinct = [key(0), key(-1), key(-11), key(-4_095)];
        for (place, one) in distinct.iter().enumerate() {
            assert!(distinct[place + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn what_is_no_record_of_a_call_has_none() {
        let keys = Keys::default();
        let record = record(b"/etc/passwd");
        for length in 0..record.len() {
            assert!(keys.split(&record[..length]).is_none(), "length {length}");
        }
        let mut record = record;
        record[2] = Kind::ProcessExit as u8;
        assert!(keys.split(&record).is_none());
    }

    /// Whoever knows what one recorder makes keys with does not know it of another.
    #[test]
    fn keys_are_made_with_what_nobody_knows() {
        let record = record(b"/etc/passwd");
        let [one, other] = [Keys::default(), Keys::default()];
        assert_ne!(one.split(&record).unwrap().0, other.split(&record).unwrap().0);
    }
}
