//! Bytes from a ring to an event, by the schema. A total function: any bytes give
//! an event or an error, and one bad record costs one record.

mod recurrence;

use std::fmt;

pub use recurrence::{Key, Keys, Recurrence};

use crate::event::{
    Attached, Event, Kind,
    wire::{AttachmentHead, Header, RECORD_BYTES_MAX},
};

/// Why a record makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends before its header does.
    NoHeader {
        /// Its length.
        bytes: usize,
    },
    /// No kind has this number.
    Kind(u8),
    /// The header says another length than there is, or than a record has.
    Length {
        /// What the header says.
        said: usize,
        /// What there is.
        found: usize,
    },
    /// A field or attachment lies outside the record.
    Outside {
        /// Where it would end.
        end: usize,
        /// The length of the record.
        bytes: usize,
    },
    /// It has more numbers or attachments than any kind.
    TooMany,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::NoHeader { bytes } => write!(f, "{bytes} bytes are no record"),
            DecodeError::Kind(number) => write!(f, "no kind of event has the number {number}"),
            DecodeError::Length { said, found } => {
                write!(f, "the record says {said} bytes, {found} are there")
            }
            DecodeError::Outside { end, bytes } => {
                write!(f, "a field ends at {end}, the record at {bytes}")
            }
            DecodeError::TooMany => write!(f, "more fields than any kind has"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What the header says beside the event: what the ledger needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The low half of the CPU's running number of calls.
    pub seq: u32,
    /// How many calls were filtered or lost since the last record of one.
    pub skipped: u32,
}

/// Decodes one record of `cpu`.
pub fn decode(record: &[u8], cpu: u16) -> Result<(Event<'_>, Sequence), DecodeError> {
    let mut event = Event::new(Kind::Lost, 0);
    let sequence = decode_into(record, cpu, &mut event)?;
    Ok((event, sequence))
}

/// The same into an event that is new, where it lies: an event is too large to be carried
/// around a million times a second. After an error it is of no use.
#[inline]
pub fn decode_into<'r>(
    record: &'r [u8],
    cpu: u16,
    event: &mut Event<'r>,
) -> Result<Sequence, DecodeError> {
    // The offsets are the schema's.
    let head: &[u8; size_of::<Header>()] =
        record.first_chunk().ok_or(DecodeError::NoHeader { bytes: record.len() })?;
    let byte = |at: usize| head.get(at).copied().unwrap_or_default();
    let half = |at: usize| number(head, at, 4, false).unwrap_or_default() as u32;
    let said = usize::from(number(head, 0, 2, false).unwrap_or_default() as u16);
    if said > record.len().min(RECORD_BYTES_MAX) || said < size_of::<Header>() {
        return Err(DecodeError::Length { said, found: record.len() });
    }
    let record = record.get(..said).unwrap_or_default();
    let kind_number = byte(std::mem::offset_of!(Header, kind));
    event.kind = Kind::from_number(kind_number).ok_or(DecodeError::Kind(kind_number))?;
    event.ts_ns = number(head, std::mem::offset_of!(Header, ts_ns), 8, false).unwrap_or_default();
    event.cpu = cpu;
    event.flags =
        number(head, std::mem::offset_of!(Header, flags), 2, false).unwrap_or_default() as u16;
    event.pid = half(std::mem::offset_of!(Header, pid));
    event.tid = half(std::mem::offset_of!(Header, tid));
    let schema = event.kind.schema();
    let outside = |end: usize| DecodeError::Outside { end, bytes: said };
    for field in schema.fields {
        let value = number(record, field.offset, field.width, field.signed)
            .ok_or(outside(field.offset + field.width))?;
        if !event.push_number(value) {
            return Err(DecodeError::TooMany);
        }
    }
    let words = usize::from(byte(std::mem::offset_of!(Header, args)));
    let mut at = schema.fixed_bytes + words * size_of::<u64>();
    let args = record.get(schema.fixed_bytes..at).ok_or(outside(at))?;
    for arg in args.as_chunks::<8>().0 {
        if !event.push_number(u64::from_ne_bytes(*arg)) {
            return Err(DecodeError::TooMany);
        }
    }
    for _ in 0..byte(std::mem::offset_of!(Header, attachments)) {
        const { assert!(size_of::<AttachmentHead>() == 4) };
        let body = at + size_of::<AttachmentHead>();
        let head = record.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let [index, flags, low, high] = *head.ok_or(outside(body))?;
        let bytes = usize::from(u16::from_ne_bytes([low, high]));
        let bytes = record.get(body..body + bytes).ok_or(outside(body + bytes))?;
        if !event.attach(Attached { index, flags, bytes }) {
            return Err(DecodeError::TooMany);
        }
        at = body + bytes.len().next_multiple_of(4);
    }
    Ok(Sequence {
        seq: half(std::mem::offset_of!(Header, seq)),
        skipped: half(std::mem::offset_of!(Header, skipped)),
    })
}

/// A number of 1, 2, 4 or 8 bytes in the machine's byte order, widened.
#[inline(always)]
fn number(bytes: &[u8], at: usize, width: usize, signed: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(match (width, signed) {
        (1, _) => u64::from(*bytes.first()?),
        (2, _) => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
        (4, false) => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
        (4, true) => i64::from(i32::from_ne_bytes(bytes.try_into().ok()?)).cast_unsigned(),
        _ => u64::from_ne_bytes(bytes.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Call;

    /// A record of `openat` as the kernel writes it.
    fn openat() -> Vec<u8> {
        let mut record = vec![0u8; 56];
        record[2] = Kind::Syscall as u8;
        record[3] = 4;
        record[6] = 1;
        record[8..12].copy_from_slice(&7u32.to_ne_bytes());
        record[16..24].copy_from_slice(&1_000u64.to_ne_bytes());
        record[24..28].copy_from_slice(&10u32.to_ne_bytes());
        record[28..32].copy_from_slice(&11u32.to_ne_bytes());
        record[32..40].copy_from_slice(&257i64.to_ne_bytes());
        record[40..48].copy_from_slice(&(-2i64).to_ne_bytes());
        record[48..56].copy_from_slice(&55u64.to_ne_bytes());
        for arg in [-100i64, 0x7000, 0, 0] {
            record.extend(arg.to_ne_bytes());
        }
        record.extend([1, 0, 5, 0]);
        record.extend(b"/etc/\0\0\0");
        let bytes = record.len() as u16;
        record[..2].copy_from_slice(&bytes.to_ne_bytes());
        record
    }

    #[test]
    fn a_record_of_a_call_is_decoded() {
        let record = openat();
        let (event, sequence) = decode(&record, 3).unwrap();
        let call = Call::of(&event).unwrap();
        assert_eq!((event.pid, event.tid, event.cpu, event.ts_ns), (10, 11, 3, 1_000));
        assert_eq!((call.nr(), call.errno(), call.dur_ns()), (257, Some(2), Some(55)));
        assert_eq!(call.args(), [(-100i64).cast_unsigned(), 0x7000, 0, 0]);
        assert_eq!(event.attachment(1).unwrap().bytes, b"/etc/");
        assert_eq!(sequence.seq, 7);
    }

    #[test]
    fn every_short_length_and_every_changed_byte_is_survived() {
        let record = openat();
        for length in 0..record.len() {
            assert!(decode(&record[..length], 0).is_err(), "length {length}");
        }
        for place in 0..record.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = record.clone();
                changed[place] = value;
                let _ = decode(&changed, 0);
            }
        }
    }

    /// No program writes one, and what has no bound here has none in a file.
    #[test]
    fn a_record_longer_than_any_is_refused() {
        let mut record = openat();
        record.resize(RECORD_BYTES_MAX + 4, 0);
        for (bytes, is_read) in [(RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 4, false)] {
            record[..2].copy_from_slice(&(bytes as u16).to_ne_bytes());
            assert_eq!(decode(&record, 0).is_ok(), is_read, "{bytes} bytes");
        }
    }

    #[test]
    fn a_kind_nobody_has_is_refused_by_its_number() {
        let mut record = openat();
        record[2] = 200;
        assert_eq!(decode(&record, 0).unwrap_err(), DecodeError::Kind(200));
    }
}
