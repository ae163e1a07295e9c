//! One stream of events in the order of time, from the blocks of a file.
//!
//! Blocks of different CPUs and classes overlap: a block is opened when the
//! stream reaches its first event and dropped behind its last, so that memory
//! does not depend on the length of the file. Names follow from the same stream.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    ops::ControlFlow,
    thread,
};

use crate::{
    context::Processes,
    event::{Class, Event, syscall::Abi},
    snapshot::{Ahead, BlockEntry, SnapshotReader},
    window::{begin_with, codec::DecodedBlock},
};

/// How a replay ended.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Events handed on.
    pub events: u64,
    /// Blocks that could not be read, one sentence each.
    pub damage: Vec<String>,
}

/// An opened block and how far it has been read.
struct Opened {
    block: DecodedBlock,
    next: usize,
    /// Where it is in the file.
    offset: u64,
}

/// Order of the stream: time, then unfinished calls last, then CPU, then where the block is
/// in the file, whichever others are read; then the slot, which is no part of the order.
type Rank = (u64, bool, u16, u64, usize);

/// Hands every event to `take` in the order of time, with the state of the host
/// at that moment (the event itself not yet applied). Blocks `skip` names are not
/// read: it is asked for those that carry no names. `progress` is told bytes read.
pub fn replay(
    reader: &SnapshotReader,
    skip: &dyn Fn(&BlockEntry) -> bool,
    progress: &mut dyn FnMut(u64),
    take: &mut dyn FnMut(&Event<'_>, &Processes) -> ControlFlow<()>,
) -> Replayed {
    replay_into(&mut Processes::default(), reader, skip, progress, take)
}

/// The same; `processes` is left as it was before the event that ended it, or behind the
/// last one.
pub fn replay_into(
    processes: &mut Processes,
    reader: &SnapshotReader,
    skip: &dyn Fn(&BlockEntry) -> bool,
    progress: &mut dyn FnMut(u64),
    take: &mut dyn FnMut(&Event<'_>, &Processes) -> ControlFlow<()>,
) -> Replayed {
    let mut replayed = Replayed::default();
    // Of a machine without a table no call is understood either.
    let native = Abi::native(&reader.header().arch).unwrap_or(Abi::X86_64);
    let mut waiting: Vec<&BlockEntry> = Vec::new();
    let mut context = Vec::new();
    for entry in reader.blocks() {
        match entry.meta.class {
            Class::Context => match reader.block(entry) {
                Ok(block) => context.push(block),
                Err(error) => replayed.damage.push(error.to_string()),
            },
            Class::State => waiting.push(entry),
            Class::Rollup => {}
            _ if skip(entry) => {}
            _ => waiting.push(entry),
        }
    }
    begin_with(processes, &context, native);
    drop(context);
    waiting.sort_by_key(|entry| (entry.meta.first_ns, entry.meta.class == Class::Unfinished));
    thread::scope(|scope| {
        let merge = Merge {
            waiting: waiting.iter().copied().collect(),
            ahead: Ahead::start(scope, reader, &waiting),
            opened: Vec::new(),
            heap: BinaryHeap::new(),
            bytes: 0,
        };
        merge.run(replayed, processes, native, progress, take)
    })
}

struct Merge<'r> {
    waiting: VecDeque<&'r BlockEntry>,
    /// The same, decoded.
    ahead: Ahead<'r>,
    opened: Vec<Option<Opened>>,
    heap: BinaryHeap<Reverse<Rank>>,
    bytes: u64,
}

impl Merge<'_> {
    /// Hands on every event in its turn.
    fn run(
        mut self,
        mut replayed: Replayed,
        processes: &mut Processes,
        native: Abi,
        progress: &mut dyn FnMut(u64),
        take: &mut dyn FnMut(&Event<'_>, &Processes) -> ControlFlow<()>,
    ) -> Replayed {
        loop {
            self.open_due(&mut replayed, progress);
            let Some(Reverse((.., slot))) = self.heap.pop() else { break };
            let limit = self.limit();
            let Some(Some(opened)) = self.opened.get_mut(slot) else { continue };
            // One block after another is often alone in its stretch of time: read on
            // without the heap until somebody else's turn comes.
            while let Some(event) = opened.block.event(opened.next) {
                opened.next += 1;
                replayed.events += 1;
                if take(&event, processes).is_break() {
                    return replayed;
                }
                processes.apply(&event, native);
                match opened.block.ts_ns(opened.next) {
                    Some(next) if next < limit => {}
                    _ => break,
                }
            }
            self.put_back(slot);
        }
        replayed
    }

    /// Opens every block whose first event may be the next of the stream.
    fn open_due(&mut self, replayed: &mut Replayed, progress: &mut dyn FnMut(u64)) {
        while let Some(entry) = self.waiting.front().copied() {
            let due = match self.heap.peek() {
                Some(Reverse((ts_ns, ..))) => entry.meta.first_ns <= *ts_ns,
                None => true,
            };
            if !due {
                return;
            }
            let Some(block) = self.ahead.next() else { return };
            match block {
                Ok(block) => {
                    let slot = self.opened.iter().position(Option::is_none);
                    let slot = slot.unwrap_or(self.opened.len());
                    if slot == self.opened.len() {
                        self.opened.push(None);
                    }
                    if let Some(place) = self.opened.get_mut(slot) {
                        *place = Some(Opened { block, next: 0, offset: entry.offset });
                    }
                    self.put_back(slot);
                }
                Err(error) => replayed.damage.push(error.to_string()),
            }
            self.bytes += u64::from(entry.frame_bytes);
            progress(self.bytes);
            self.waiting.pop_front();
        }
    }

    /// Puts a block back by its next event, or drops it when it has none.
    fn put_back(&mut self, slot: usize) {
        let Some(place) = self.opened.get_mut(slot) else { return };
        let rank = place.as_ref().and_then(|opened| {
            let ts_ns = opened.block.ts_ns(opened.next)?;
            let last = opened.block.class == Class::Unfinished;
            Some((ts_ns, last, opened.block.cpu, opened.offset, slot))
        });
        match rank {
            Some(rank) => self.heap.push(Reverse(rank)),
            None => *place = None,
        }
    }

    /// The earliest moment at which another block may have the next event.
    fn limit(&self) -> u64 {
        let opened = self.heap.peek().map(|Reverse((ts_ns, ..))| *ts_ns);
        let waiting = self.waiting.front().map(|entry| entry.meta.first_ns);
        opened.unwrap_or(u64::MAX).min(waiting.unwrap_or(u64::MAX))
    }
}
