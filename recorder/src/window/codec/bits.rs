//! Numbers in columns: as bytes with a mark on all but the last (LEB128), and as a length
//! in one column with bare bits in another.

use super::BlockError;

/// Appends LEB128.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a difference, small ones of either sign in few bytes.
#[inline]
pub(super) fn put_delta(out: &mut Vec<u8>, value: u64, last: u64) {
    let delta = value.wrapping_sub(last).cast_signed();
    put(out, (delta << 1 ^ delta >> 63).cast_unsigned());
}

/// The sign, in the byte of a length.
const NEGATIVE: u8 = 0x80;

/// Bits one after the other, the lowest first.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    held_bits: u32,
}

impl BitWriter {
    /// Whole bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.held, self.held_bits) = (0, 0);
    }

    /// Appends all bits of a magnitude but the highest, and answers the byte that says
    /// how many bits it has, with the sign.
    #[inline(always)]
    pub(super) fn put(&mut self, value: i64) -> u8 {
        let magnitude = value.unsigned_abs();
        let length = u64::BITS - magnitude.leading_zeros();
        let bits = length.saturating_sub(1);
        let rest = magnitude & ((1 << bits) - 1);
        if bits > 32 {
            self.append(rest & u64::from(u32::MAX), 32);
            self.append(rest >> 32, bits - 32);
        } else {
            self.append(rest, bits);
        }
        length as u8 | if value < 0 { NEGATIVE } else { 0 }
    }

    /// At most 32 bits.
    #[inline(always)]
    fn append(&mut self, value: u64, bits: u32) {
        self.held |= value << self.held_bits;
        self.held_bits += bits;
        if self.held_bits >= 32 {
            self.bytes.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.held_bits -= 32;
        }
    }

    /// What is not yet a whole word, and the bytes before it.
    pub(super) fn parts(&self) -> (&[u8], [u8; 4]) {
        (&self.bytes, (self.held as u32).to_le_bytes())
    }
}

/// Reads them back.
#[derive(Clone, Copy, Default)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at_bits: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at_bits: 0 }
    }

    /// The value whose length this byte gives.
    #[inline]
    pub(super) fn value(&mut self, length: u8) -> Result<i64, BlockError> {
        let bits = u32::from(length & !NEGATIVE);
        let magnitude = match bits {
            0 => 0,
            1 => 1,
            2..=64 => self.take(bits - 1)? | 1 << (bits - 1),
            _ => return Err(BlockError::TooLarge),
        };
        let value = magnitude.cast_signed();
        Ok(if length & NEGATIVE == 0 { value } else { value.wrapping_neg() })
    }

    #[inline]
    fn take(&mut self, bits: u32) -> Result<u64, BlockError> {
        if bits > 32 {
            let low = self.take(32)?;
            return Ok(low | self.take(bits - 32)? << 32);
        }
        let (first, shift) = (self.at_bits / 8, self.at_bits % 8);
        self.at_bits += bits as usize;
        if self.at_bits > self.bytes.len() * 8 {
            return Err(BlockError::Short);
        }
        let rest = self.bytes.get(first..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        Ok(word >> shift & ((1 << bits) - 1))
    }
}

/// Reads integers and slices off the front of a column.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, BlockError> {
        let (first, rest) = self.rest.split_first().ok_or(BlockError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(super) fn integer(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BlockError::TooLarge)
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, BlockError> {
        T::try_from(self.integer()?).map_err(|_| BlockError::TooLarge)
    }

    #[inline]
    pub(super) fn delta(&mut self, last: u64) -> Result<u64, BlockError> {
        let coded = self.integer()?;
        let delta = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
        Ok(last.wrapping_add(delta.cast_unsigned()))
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], BlockError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(BlockError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn column(&mut self) -> Result<Cursor<'a>, BlockError> {
        let length = self.number()?;
        Ok(Cursor { rest: self.bytes(length)? })
    }
}

/// A string as what differs from another of its length: for every eight words of eight
/// bytes a byte of bits says which words differ; for each of these a byte says which
/// bytes do, and their differences follow.
pub(super) fn put_changes(out: &mut Vec<u8>, bytes: &[u8], base: &[u8]) {
    for (eight, base_eight) in bytes.chunks(64).zip(base.chunks(64)) {
        let at = out.len();
        out.push(0);
        let mut words = 0u8;
        for (place, (word, base)) in eight.chunks(8).zip(base_eight.chunks(8)).enumerate() {
            if word == base {
                continue;
            }
            words |= 1 << place;
            let mask_at = out.len();
            out.push(0);
            let mut mask = 0u8;
            for (place, (byte, base)) in word.iter().zip(base).enumerate() {
                if byte != base {
                    mask |= 1 << place;
                    out.push(byte.wrapping_sub(*base));
                }
            }
            if let Some(place) = out.get_mut(mask_at) {
                *place = mask;
            }
        }
        if let Some(place) = out.get_mut(at) {
            *place = words;
        }
    }
}

/// The other way round: `bytes` is the base, and becomes the string.
pub(super) fn take_changes(changes: &mut Cursor<'_>, bytes: &mut [u8]) -> Result<(), BlockError> {
    for eight in bytes.chunks_mut(64) {
        let words = changes.byte()?;
        for (_, word) in
            eight.chunks_mut(8).enumerate().filter(|(place, _)| words >> place & 1 != 0)
        {
            let mask = changes.byte()?;
            for (_, byte) in word.iter_mut().enumerate().filter(|(place, _)| mask >> place & 1 != 0)
            {
                *byte = byte.wrapping_add(changes.byte()?);
            }
        }
    }
    Ok(())
}
