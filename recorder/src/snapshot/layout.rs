//! Where what lies in a file. The prose is in FORMAT.md.

use crate::{
    event::{Class, wire::KINDS_MAX},
    window::{
        BLOCKS_MAX,
        codec::{BlockMeta, Present},
    },
};

/// The layout this program writes, and the newest it reads.
///
/// 1: an entry of the index has room for the kinds up to 15. 2: it says for how many. 3:
/// blocks have layout 4, and an entry says which threads and calls there may be.
pub const FORMAT_VERSION: u32 = 3;

/// The end of a snapshot's name.
pub const EXTENSION: &str = "kfr";

/// The first skippable frame: the header.
pub(super) const MAGIC_HEADER: u32 = 0x184D_2A50;
/// The index.
pub(super) const MAGIC_INDEX: u32 = 0x184D_2A51;
/// The trailer.
pub(super) const MAGIC_TRAILER: u32 = 0x184D_2A52;
/// The seek table of the zstd seekable format.
pub(super) const MAGIC_SEEK_TABLE: u32 = 0x184D_2A5E;
/// The last four bytes of the seek table, and so of the file.
pub(super) const MAGIC_SEEKABLE: u32 = 0x8F92_EAB1;
/// A zstd frame.
pub(super) const MAGIC_ZSTD: u32 = 0xFD2F_B528;

/// What our skippable frames begin with, after the frame's own eight bytes.
pub(super) const TAG_HEADER: [u8; 4] = *b"KFRH";
pub(super) const TAG_INDEX: [u8; 4] = *b"KFRI";
pub(super) const TAG_TRAILER: [u8; 4] = *b"KFRT";

/// Bytes before the payload of a skippable frame of ours: the frame's magic and
/// size, the tag, the version and the checksum.
pub(super) const SKIPPABLE_HEAD_BYTES: usize = 8 + 4 + 4 + 4;

/// Bytes of an entry of the index before the counts of kinds.
const INDEX_ENTRY_BYTES: usize = 40;

/// What stands between that and the counts, from version 3 on: which threads and calls
/// there may be.
const PRESENT_BYTES: usize = 24;

/// The most bytes of an entry of the index.
const INDEX_ENTRY_BYTES_MAX: usize = INDEX_ENTRY_BYTES + PRESENT_BYTES + 4 * KINDS_MAX;

/// Kinds an entry of version 1 counts: it says 0 where later ones say how many.
const KINDS_OF_VERSION_1: usize = 16;

/// The largest header, index or trailer a reader takes.
pub(super) const SKIPPABLE_BYTES_MAX: usize = 112 << 20;

/// The most frames a reader takes: a window of as many blocks as it may have, and what
/// is around.
pub(super) const FRAMES_MAX: usize = 1 << 20;

// What is written must be read again: context and unfinished calls need few blocks more.
const _: () = assert!((BLOCKS_MAX + 100_000) * INDEX_ENTRY_BYTES_MAX <= SKIPPABLE_BYTES_MAX);
const _: () = assert!(BLOCKS_MAX + 100_000 <= FRAMES_MAX);

/// Where a block lies and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Where its frame begins.
    pub offset: u64,
    /// Bytes of the frame.
    pub frame_bytes: u32,
    /// Bytes before compression.
    pub raw_bytes: u32,
    /// CRC-32C of the frame.
    pub crc: u32,
    /// What is in it.
    pub meta: BlockMeta,
}

impl BlockEntry {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.offset.to_le_bytes());
        out.extend(self.frame_bytes.to_le_bytes());
        out.extend(self.raw_bytes.to_le_bytes());
        out.extend(self.crc.to_le_bytes());
        // Kinds behind the last that occurs are left out: most blocks have calls only.
        let kinds = self.meta.kinds;
        let used = kinds.iter().rposition(|count| *count != 0).map_or(1, |last| last + 1);
        out.extend([self.meta.class as u8, used as u8]);
        out.extend(self.meta.cpu.to_le_bytes());
        out.extend(self.meta.first_ns.to_le_bytes());
        out.extend(self.meta.last_ns.to_le_bytes());
        out.extend(self.meta.present.threads.to_le_bytes());
        out.extend(self.meta.present.calls.to_le_bytes());
        for count in kinds.iter().take(used) {
            out.extend(count.to_le_bytes());
        }
    }

    /// Takes an entry of a file of this version off the front of `bytes`.
    pub(super) fn get(bytes: &mut &[u8], version: u32) -> Option<BlockEntry> {
        let used = match *bytes.get(21)? {
            0 => KINDS_OF_VERSION_1,
            used => usize::from(used),
        };
        let counts = INDEX_ENTRY_BYTES + if version < 3 { 0 } else { PRESENT_BYTES };
        let (entry, rest) = bytes.split_at_checked(counts + 4 * used)?;
        *bytes = rest;
        let (entry, counts) = entry.split_at_checked(counts)?;
        Self::read(entry, counts)
    }

    fn read(bytes: &[u8], counts: &[u8]) -> Option<BlockEntry> {
        let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let present = match bytes.get(INDEX_ENTRY_BYTES + 8..) {
            Some(calls) => Present {
                threads: word(INDEX_ENTRY_BYTES)?,
                calls: u128::from_le_bytes(calls.try_into().ok()?),
            },
            None => Present::UNKNOWN,
        };
        let mut kinds = [0; KINDS_MAX];
        let counts = counts.as_chunks::<4>().0;
        for (count, bytes) in kinds.get_mut(..counts.len())?.iter_mut().zip(counts) {
            *count = u32::from_le_bytes(*bytes);
        }
        let count = kinds.iter().try_fold(0u32, |sum, count| sum.checked_add(*count))?;
        Some(BlockEntry {
            offset: word(0)?,
            frame_bytes: half(8)?,
            raw_bytes: half(12)?,
            crc: half(16)?,
            meta: BlockMeta {
                class: Class::from_number(*bytes.get(20)?)?,
                cpu: u16::from_le_bytes(bytes.get(22..24)?.try_into().ok()?),
                count,
                first_ns: word(24)?,
                last_ns: word(32)?,
                kinds,
                present,
            },
        })
    }
}

/// A skippable frame of ours around `payload`.
pub(super) fn skippable(magic: u32, tag: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SKIPPABLE_HEAD_BYTES + payload.len());
    frame.extend(magic.to_le_bytes());
    frame.extend((payload.len() as u32 + 12).to_le_bytes());
    frame.extend(tag);
    frame.extend(FORMAT_VERSION.to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    frame.extend(payload);
    frame
}

/// The seek table over frames of `(compressed, decompressed)` bytes.
pub(super) fn seek_table(frames: &[(u32, u32)]) -> Vec<u8> {
    let mut table = Vec::with_capacity(frames.len() * 8 + 17);
    table.extend(MAGIC_SEEK_TABLE.to_le_bytes());
    table.extend((frames.len() as u32 * 8 + 9).to_le_bytes());
    for (compressed, decompressed) in frames {
        table.extend(compressed.to_le_bytes());
        table.extend(decompressed.to_le_bytes());
    }
    table.extend((frames.len() as u32).to_le_bytes());
    table.push(0);
    table.extend(MAGIC_SEEKABLE.to_le_bytes());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_index_is_read_as_it_was_written() {
        let mut kinds = [0; KINDS_MAX];
        kinds[1] = 5;
        kinds[10] = 1;
        let present = Present { threads: 1 << 60 | 3, calls: 1 << 100 | 5 };
        let meta = BlockMeta {
            class: Class::Precious,
            cpu: 7,
            count: 6,
            first_ns: 1,
            last_ns: 2,
            kinds,
            present,
        };
        let entry = BlockEntry { offset: 9, frame_bytes: 8, raw_bytes: 7, crc: 6, meta };
        let mut bytes = Vec::new();
        entry.put(&mut bytes);
        assert_eq!(bytes.len(), 64 + 4 * 11);
        assert_eq!(BlockEntry::get(&mut &bytes[..bytes.len() - 1], 3), None);
        let more = [&bytes[..], b"rest"].concat();
        let mut rest = more.as_slice();
        assert_eq!(BlockEntry::get(&mut rest, 3), Some(entry));
        assert_eq!(rest, b"rest");
        // As version 1 wrote it.
        bytes.drain(40..64);
        bytes[21] = 0;
        bytes.resize(40 + 4 * KINDS_OF_VERSION_1, 0);
        let meta = BlockMeta { present: Present::UNKNOWN, ..meta };
        assert_eq!(BlockEntry::get(&mut bytes.as_slice(), 1), Some(BlockEntry { meta, ..entry }));
        // More kinds than this program knows.
        bytes[21] = KINDS_MAX as u8 + 1;
        bytes.resize(1_000, 0);
        assert_eq!(BlockEntry::get(&mut bytes.as_slice(), 3), None);
    }
}
