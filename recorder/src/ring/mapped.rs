//! Rings in memory that kernel and recorder share, see [`wire::ring`](crate::event::wire::ring).
//!
//! The only place where the recorder reads memory that somebody else writes. Programs
//! write a record before they write the word that publishes it, and nothing where a record
//! lies until the reader has moved the tail beyond it.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::event::wire::{Header, RECORD_BYTES_MAX, RingControl, ring};

/// A tail is moved at the latest after this part of a ring: the programs look at it when
/// the ring is half full.
const PUBLISH_PARTS: usize = 16;

/// The mapped rings of all CPUs.
pub struct MappedRings {
    memory: NonNull<u8>,
    memory_bytes: usize,
    ring_bytes: usize,
    /// What is added to positions where records are published.
    key: u64,
    /// The position each ring is read up to.
    tails: Vec<u64>,
}

// SAFETY: the memory belongs to this value alone, and no thread is bound to it.
unsafe impl Send for MappedRings {}

impl MappedRings {
    /// Maps the rings of `cpus` CPUs, each of `ring_bytes` (a power of two). `map` is an
    /// array map with a value of [`ring::value_bytes`] for each, or memory that lies alike;
    /// `key` is what the programs add to positions.
    pub fn new(
        map: BorrowedFd<'_>,
        cpus: usize,
        ring_bytes: usize,
        key: u64,
    ) -> io::Result<MappedRings> {
        assert!(ring_bytes.is_power_of_two(), "the programs mask positions");
        let memory_bytes = cpus * ring::value_bytes(ring_bytes);
        let bytes = NonZeroUsize::new(memory_bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes it. A map keeps its size, so no page
        // of it can go away.
        let memory =
            unsafe { mmap(ptr::null_mut(), bytes.get(), protection, MapFlags::SHARED, map, 0)? };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(MappedRings { memory, memory_bytes, ring_bytes, key, tails: vec![0; cpus] })
    }

    /// How many rings there are.
    pub fn cpus(&self) -> usize {
        self.tails.len()
    }

    /// As [`RecordSource::drain`](super::RecordSource::drain).
    pub fn drain(
        &mut self,
        cpu: usize,
        records_max: usize,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> usize {
        let Some(&(mut tail)) = self.tails.get(cpu) else { return 0 };
        let publish_bytes = (self.ring_bytes / PUBLISH_PARTS) as u64;
        let (mut records, mut published) = (0, tail);
        while records < records_max {
            let Some((record, next)) = self.record(cpu, tail) else { break };
            let goes_on = take(record);
            records += 1;
            tail = next;
            if tail - published >= publish_bytes {
                self.word(cpu, TAIL_AT).store(tail, Ordering::Release);
                published = tail;
            }
            if !goes_on {
                break;
            }
        }
        if tail != published {
            self.word(cpu, TAIL_AT).store(tail, Ordering::Release);
        }
        self.tails[cpu] = tail;
        records
    }

    /// The record at a position of a ring and the position behind it, if it is whole.
    #[inline]
    fn record(&self, cpu: usize, position: u64) -> Option<(&[u8], u64)> {
        let place = ring::CONTROL_BYTES + (position as usize & (self.ring_bytes - 1));
        let published = ring::published(position, self.key);
        if self.word(cpu, place).load(Ordering::Acquire) != published {
            return None;
        }
        let place = place + ring::POSITION_BYTES;
        let claimed = usize::from(u16::from_ne_bytes(*self.bytes(cpu, place, 2).first_chunk()?));
        if (size_of::<Header>()..=RECORD_BYTES_MAX).contains(&claimed) {
            let next = position + ring::taken(claimed as u64);
            return Some((self.bytes(cpu, place, claimed), next));
        }
        // No program writes one: where the next begins is not known, and what lies in
        // between is found missing by the running numbers.
        let next = self.word(cpu, HEAD_AT).load(Ordering::Acquire);
        Some((self.bytes(cpu, place, size_of::<Header>()), next.max(position + 8)))
    }

    /// A word of a ring's memory that both sides use.
    #[inline]
    fn word(&self, cpu: usize, place: usize) -> &AtomicU64 {
        let at = self.place(cpu, place, size_of::<AtomicU64>());
        // SAFETY: `at` is within the mapping, which lives as long as `self`; it is at a
        // multiple of 8, since rings and their parts are, and both sides only use whole
        // words.
        unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) }
    }

    /// Bytes of a published record, which nobody writes before the tail is moved.
    #[inline]
    fn bytes(&self, cpu: usize, place: usize, bytes: usize) -> &[u8] {
        let at = self.place(cpu, place, bytes);
        // SAFETY: within the mapping, which lives as long as `self`; no program writes
        // there while it is borrowed: the tail is moved by `drain` alone, when the borrow
        // has ended.
        unsafe { slice::from_raw_parts(at.as_ptr(), bytes) }
    }

    #[inline]
    fn place(&self, cpu: usize, place: usize, bytes: usize) -> NonNull<u8> {
        let at = cpu * ring::value_bytes(self.ring_bytes) + place;
        assert!(at + bytes <= self.memory_bytes, "a place outside the rings");
        // SAFETY: within the mapping, as was just asked.
        unsafe { self.memory.add(at) }
    }
}

impl Drop for MappedRings {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing that borrowed from it is left.
        // It can only fail for a range that was never mapped.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.memory_bytes) };
    }
}

const HEAD_AT: usize = std::mem::offset_of!(RingControl, head);
const TAIL_AT: usize = std::mem::offset_of!(RingControl, tail);

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::{fd::AsFd as _, unix::fs::FileExt as _},
    };

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    const RING_BYTES: usize = 64 << 10;

    const KEY: u64 = u64::MAX - 5;

    /// What the programs do, in plain words.
    struct Writer {
        memory: File,
        heads: Vec<u64>,
    }

    impl Writer {
        fn new(cpus: usize) -> (Writer, MappedRings) {
            let memory = memfd_create("rings", MemfdFlags::CLOEXEC).unwrap();
            let memory = File::from(memory);
            memory.set_len((cpus * ring::value_bytes(RING_BYTES)) as u64).unwrap();
            let rings = MappedRings::new(memory.as_fd(), cpus, RING_BYTES, KEY).unwrap();
            (Writer { memory, heads: vec![0; cpus] }, rings)
        }

        fn write(&self, cpu: usize, place: usize, bytes: &[u8]) {
            let at = cpu * ring::value_bytes(RING_BYTES) + place;
            self.memory.write_all_at(bytes, at as u64).unwrap();
        }

        fn tail(&self, cpu: usize) -> u64 {
            let mut tail = [0; 8];
            let at = cpu * ring::value_bytes(RING_BYTES) + TAIL_AT;
            self.memory.read_exact_at(&mut tail, at as u64).unwrap();
            u64::from_ne_bytes(tail)
        }

        /// Takes room; answers the position.
        fn reserve(&mut self, cpu: usize, record: &[u8]) -> u64 {
            let position = self.heads[cpu];
            self.heads[cpu] += ring::taken(record.len() as u64);
            self.write(cpu, HEAD_AT, &self.heads[cpu].to_ne_bytes());
            position
        }

        fn publish(&self, cpu: usize, position: u64, record: &[u8]) {
            let place = ring::CONTROL_BYTES + position as usize % RING_BYTES;
            self.write(cpu, place + ring::POSITION_BYTES, record);
            self.write(cpu, place, &ring::published(position, KEY).to_ne_bytes());
        }

        fn put(&mut self, cpu: usize, record: &[u8]) {
            let position = self.reserve(cpu, record);
            self.publish(cpu, position, record);
        }
    }

    /// A record of so many bytes, all of them `mark` but its length.
    fn record(bytes: usize, mark: u8) -> Vec<u8> {
        let mut record = vec![mark; bytes];
        record[..2].copy_from_slice(&(bytes as u16).to_ne_bytes());
        record
    }

    fn drained(rings: &mut MappedRings, cpu: usize, records_max: usize) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let drained = rings.drain(cpu, records_max, &mut |record| {
            records.push(record.to_vec());
            true
        });
        assert_eq!(drained, records.len());
        records
    }

    #[test]
    fn records_come_out_as_they_went_in_lap_after_lap() {
        let (mut writer, mut rings) = Writer::new(2);
        let mut put = Vec::new();
        for round in 0..200usize {
            // Of every length, up to the longest, which lies across the ring's end at times.
            let lengths = [32 + round, 16 * 1024 - round, 33 + 4 * round];
            let records: Vec<_> = lengths.map(|bytes| record(bytes, round as u8)).to_vec();
            records.iter().for_each(|record| writer.put(1, record));
            assert_eq!(drained(&mut rings, 1, 2), records[..2]);
            assert_eq!(drained(&mut rings, 1, usize::MAX), records[2..]);
            assert_eq!(writer.tail(1), writer.heads[1]);
            put.extend(records);
        }
        assert!(writer.heads[1] > 20 * RING_BYTES as u64, "it went round");
        assert!(drained(&mut rings, 0, usize::MAX).is_empty(), "the other CPU did nothing");
        assert_eq!(rings.drain(2, 1, &mut |_| true), 0, "there is no such CPU");
    }

    /// A program is interrupted between taking room and publishing: what the interrupt
    /// wrote waits, so that the order stays that of the ring.
    #[test]
    fn nothing_behind_a_record_that_is_not_whole_is_read() {
        let (mut writer, mut rings) = Writer::new(1);
        let (outer, inner) = (record(100, 1), record(200, 2));
        let position = writer.reserve(0, &outer);
        writer.put(0, &inner);
        assert!(drained(&mut rings, 0, usize::MAX).is_empty());
        writer.publish(0, position, &outer);
        assert_eq!(drained(&mut rings, 0, usize::MAX), [outer, inner]);
    }

    /// Whoever takes may have enough before the ring is empty: the mark of a cut was read.
    #[test]
    fn reading_ends_where_the_reader_says() {
        let (mut writer, mut rings) = Writer::new(1);
        (1..=3).for_each(|mark| writer.put(0, &record(40, mark)));
        assert_eq!(rings.drain(0, usize::MAX, &mut |record| record[2] != 2), 2);
        assert_eq!(writer.tail(0), 2 * ring::taken(40));
        assert_eq!(drained(&mut rings, 0, usize::MAX), [record(40, 3)]);
    }

    /// What a record of the lap before holds is what somebody chose: without the key it
    /// passed for a record, and the ring was full for ever.
    #[test]
    fn what_a_record_holds_is_no_record() {
        let (mut writer, mut rings) = Writer::new(1);
        let words = RING_BYTES as u64 / 8;
        while writer.heads[0] < RING_BYTES as u64 {
            // Each word says that it is where it will lie in the next lap.
            let mut forged = record(64, 0);
            for place in 1..8 {
                let position = writer.heads[0] + 8 * place as u64 + 8 + 8 * words;
                forged[8 * place..8 * place + 8].copy_from_slice(&(position + 1).to_ne_bytes());
            }
            writer.put(0, &forged);
        }
        drained(&mut rings, 0, usize::MAX);
        for _ in 0..200 {
            writer.put(0, &record(32, 1));
            assert_eq!(drained(&mut rings, 0, usize::MAX), [record(32, 1)]);
        }
    }

    /// No program writes one. It costs what is in the ring, and is seen as malformed.
    #[test]
    fn a_length_that_cannot_be_costs_the_ring_and_nothing_else() {
        for length in [0u16, 31, 16 * 1024 + 1, u16::MAX] {
            let (mut writer, mut rings) = Writer::new(1);
            let mut broken = record(64, 7);
            broken[..2].copy_from_slice(&length.to_ne_bytes());
            writer.put(0, &broken);
            writer.put(0, &record(64, 8));
            let found = drained(&mut rings, 0, usize::MAX);
            assert_eq!(found, [&broken[..size_of::<Header>()]]);
            writer.put(0, &record(64, 9));
            assert_eq!(drained(&mut rings, 0, usize::MAX), [record(64, 9)]);
        }
    }
}
