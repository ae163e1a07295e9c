//! Blocks that are decoded before somebody comes to them, on other threads.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, Scope},
};

use super::{BlockEntry, SnapshotError, SnapshotReader};
use crate::window::codec::DecodedBlock;

/// The most threads that decode. Each is at most two blocks ahead, of some megabytes.
const LANES_MAX: usize = 8;

/// Blocks of so many bytes together take longer than to start a thread.
const RAW_BYTES_ALONE: u64 = 1 << 20;

/// Entries whose blocks are decoded in turn by several threads, each of which is a little
/// ahead of whoever takes them.
pub(crate) struct Ahead<'a> {
    reader: &'a SnapshotReader,
    entries: &'a [&'a BlockEntry],
    /// `None` where there is no thread: then the block is decoded when it is taken.
    lanes: Vec<Option<Receiver<Result<DecodedBlock, SnapshotError>>>>,
    next: usize,
}

impl<'a> Ahead<'a> {
    /// Starts as many threads as there are CPUs. They end with the last entry, or soon after
    /// this is dropped.
    pub(crate) fn start<'s>(
        scope: &'s Scope<'s, 'a>,
        reader: &'a SnapshotReader,
        entries: &'a [&'a BlockEntry],
    ) -> Ahead<'a> {
        let bytes: u64 = entries.iter().map(|entry| u64::from(entry.raw_bytes)).sum();
        let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let count = if bytes < RAW_BYTES_ALONE { 0 } else { cpus.min(LANES_MAX) };
        let lane = |lane: usize| {
            let (sender, receiver) = sync_channel(1);
            let decode = move || {
                for entry in entries.iter().skip(lane).step_by(count) {
                    if sender.send(reader.block(entry)).is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new().spawn_scoped(scope, decode).ok().map(|_| receiver)
        };
        Ahead { reader, entries, lanes: (0..count).map(lane).collect(), next: 0 }
    }
}

impl Iterator for Ahead<'_> {
    type Item = Result<DecodedBlock, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.get(self.next)?;
        let lane = self.next.checked_rem(self.lanes.len()).and_then(|lane| self.lanes.get(lane));
        self.next += 1;
        let decoded = lane.and_then(Option::as_ref).and_then(|lane| lane.recv().ok());
        Some(decoded.unwrap_or_else(|| self.reader.block(entry)))
    }
}
