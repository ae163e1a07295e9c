//! The window: the last minutes, as sealed compressed blocks.
//!
//! The window is bounded in time and in bytes. Events are gathered per CPU and
//! class in ring order, sealed into zstd frames in the form the file has, and
//! evicted by whole blocks: bulk first when bytes run out, everything when time
//! does. Evicted state blocks are folded into the baseline.
//!
//! Invariant: one owner, the ingest thread; no file, no kernel, no lock. A sealed
//! block is immutable and shared by reference.

mod block;
pub mod codec;
mod evict;
mod fold;
mod misses;
mod open;

use std::{collections::VecDeque, sync::Arc};

use codec::{BlockMeta, Columns};
use fold::{fold_up_to, state_of};
use misses::Misses;
use open::{ASK_EVERY, Open};

pub use block::{
    Block, COMPRESSION_LEVEL, HandedBlock, SealedBlock, blocks_of, compress, compress_at, sealed_of,
};
pub use fold::begin_with;
pub use open::Place;

use crate::{
    context::Processes,
    decode::Recurrence,
    event::{Class, Event, Kind, syscall::Abi},
};

/// A segment is sealed when it spans this long, or longer where that would make too
/// many blocks, see [`BLOCKS_MAX`].
pub const SEGMENT_SPAN_NS: u64 = 1_000_000_000;

/// The most blocks: the index of a file has room for a few more. Quiet CPUs make small
/// ones, so that bytes alone would not keep their number down.
pub const BLOCKS_MAX: usize = 500_000;

/// The longest window there is: `--window` has the same.
const SPAN_NS_MAX: u64 = 86_400_000_000_000;

/// What the window may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Nothing older is kept, within one segment.
    pub span_ns: u64,
    /// Sealed blocks, open columns and baseline together.
    pub bytes_max: u64,
}

/// About a second of blocks.
struct Segment {
    blocks: Vec<Block>,
    last_ns: u64,
}

/// Bytes of sealed blocks by class.
#[derive(Default)]
struct SealedBytes([u64; Class::RECORDED.len()]);

impl SealedBytes {
    fn add(&mut self, block: &Block) {
        if let Some(bytes) = self.0.get_mut(block.meta().class as usize) {
            *bytes += block.bytes();
        }
    }

    fn remove(&mut self, block: &Block) {
        if let Some(bytes) = self.0.get_mut(block.meta().class as usize) {
            *bytes -= block.bytes();
        }
    }

    fn of(&self, class: Class) -> u64 {
        self.0.get(class as usize).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What left the window, for the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Events counted by the ledger.
    pub events: u64,
    /// Blocks.
    pub blocks: u64,
}

/// The window as it was at one moment. Cheap to clone: blocks are shared.
#[derive(Clone)]
pub struct FrozenWindow {
    /// Its blocks, oldest segment first.
    pub blocks: Vec<Block>,
    /// The processes at the left edge of the state class.
    pub baseline: Arc<Processes>,
    /// What was asked for.
    pub limits: WindowLimits,
    /// The ABI of the calls in it.
    pub native: Abi,
}

impl FrozenWindow {
    /// What is known of the host at the left edge, as blocks of a file.
    pub fn context(&mut self) -> Vec<Block> {
        if !self.baseline.is_settled() {
            // A copy: the window goes on with its own.
            Arc::make_mut(&mut self.baseline).settle();
        }
        blocks_of(self.baseline.to_events(), Class::Context)
    }

    /// Leaves out the blocks all of which is older; state among it goes into the baseline.
    /// Answers how many events of the ledger went.
    pub fn cut_before(&mut self, oldest_ns: u64) -> u64 {
        let blocks = std::mem::take(&mut self.blocks);
        let (kept, dropped): (Vec<Block>, Vec<Block>) =
            blocks.into_iter().partition(|block| block.meta().last_ns >= oldest_ns);
        self.blocks = kept;
        let events = |blocks: &[Block]| -> u64 {
            blocks.iter().map(|block| block.meta().ledger_events()).sum()
        };
        let mut went = events(&dropped);
        let state = state_of(&dropped);
        if !state.is_empty() {
            let metas = self.blocks.iter().map(Block::meta);
            let kept = metas.filter(|meta| meta.class == Class::State);
            let until_ns = kept.map(|meta| meta.first_ns).min().unwrap_or(u64::MAX);
            let goes = |event: &Event<'_>| event.ts_ns < until_ns;
            let baseline = Arc::make_mut(&mut self.baseline);
            let staying = fold_up_to(baseline, &state, &goes, self.native);
            went -= events(&staying);
            self.blocks.splice(0..0, staying);
        }
        went
    }
}

/// The window. See the module.
pub struct Window {
    limits: WindowLimits,
    native: Abi,
    segments: VecDeque<Segment>,
    /// Blocks sealed since the current segment began.
    current: Vec<Block>,
    /// Blocks sealed since somebody looked; `None` where nobody does.
    unseen: Option<Vec<Block>>,
    segment_start_ns: u64,
    segment_span_ns: u64,
    /// How many blocks the window has, and may have.
    blocks: usize,
    blocks_max: usize,
    /// The clock at the last tick. Events have times too, but one that is wrong must
    /// not cost the others their place.
    now_ns: u64,
    /// What one set of open columns may take: a quarter of the bytes is for all of
    /// them, however many CPUs there are.
    open_bytes_max: usize,
    misses: Misses,
    /// By CPU, then class.
    open: Vec<[Open; Class::RECORDED.len()]>,
    open_bytes: u64,
    /// Columns whose memory the next block takes, and how much they held.
    spare: Option<(Columns, u64)>,
    /// A block was full before its segment ended.
    is_spare_wanted: bool,
    baseline: Arc<Processes>,
    /// What it takes: adding it up for every event is dear.
    baseline_bytes: u64,
    sealed_bytes: SealedBytes,
    /// Blocks that left the window and are still being written to a file.
    pinned: Vec<Block>,
    /// The baselines of dumps, where ours has changed since.
    pinned_baselines: Vec<Arc<Processes>>,
    /// Bytes of both, at the last look.
    pinned_bytes: u64,
    events: u64,
    evicted: Evicted,
}

impl Window {
    /// An empty window for `cpus` CPUs whose calls are of ABI `native`. `baseline`
    /// is what `/proc` said when recording began.
    pub fn new(limits: WindowLimits, cpus: usize, native: Abi, mut baseline: Processes) -> Window {
        baseline.set_bytes_max(baseline_bytes_max(limits));
        Window {
            limits,
            native,
            segments: VecDeque::new(),
            current: Vec::new(),
            unseen: None,
            segment_start_ns: 0,
            segment_span_ns: segment_span_ns(limits, cpus),
            blocks: 0,
            blocks_max: BLOCKS_MAX,
            now_ns: 0,
            open_bytes_max: open_bytes_max(limits, cpus),
            misses: Misses::default(),
            open: (0..cpus).map(|_| Default::default()).collect(),
            open_bytes: 0,
            spare: None,
            is_spare_wanted: false,
            baseline_bytes: baseline.bytes(),
            baseline: Arc::new(baseline),
            sealed_bytes: SealedBytes::default(),
            pinned: Vec::new(),
            pinned_baselines: Vec::new(),
            pinned_bytes: 0,
            events: 0,
            evicted: Evicted::default(),
        }
    }

    /// Adds an event of a CPU. Answers where one that is the same but for its times and its
    /// result is known from now on.
    pub fn push(&mut self, event: &Event<'_>) -> Option<Place> {
        let class = self.misses.class_of(event, Class::of(event, self.native));
        let open = self.open.get_mut(usize::from(event.cpu))?.get_mut(class as usize)?;
        let known = open.columns.push(event);
        let place = Place { class, number: open.number, known };
        self.events += u64::from(event.kind != Kind::Lost);
        self.fit(event.cpu, class);
        Some(place)
    }

    /// Adds a call that is the same as one before, and of the same class. Answers whether it
    /// did: the block that knew it may be sealed.
    #[inline]
    pub fn push_known(&mut self, cpu: u16, place: &Place, call: &Recurrence) -> bool {
        let classes = self.open.get_mut(usize::from(cpu));
        let open = classes.and_then(|classes| classes.get_mut(place.class as usize));
        let Some(open) = open.filter(|open| open.number == place.number) else { return false };
        open.columns.push_known(&place.known, call);
        self.events += 1;
        if open.columns.len().is_multiple_of(ASK_EVERY) {
            self.fit(cpu, place.class);
        }
        true
    }

    /// Seals columns that have become full, and keeps all bounds.
    fn fit(&mut self, cpu: u16, class: Class) {
        let classes = self.open.get_mut(usize::from(cpu));
        let open = classes.and_then(|classes| classes.get_mut(class as usize));
        let Some(open) = open else { return };
        self.open_bytes += open.grown_bytes();
        if open.columns.is_full(self.open_bytes_max) {
            self.seal_full(cpu, class);
        } else if self.open_bytes() > open_bytes_total(self.limits) {
            self.spare = None;
            self.seal_largest();
        }
        // At a flood blocks fill faster than segments end: the bound on bytes is hard
        // all the same.
        if self.own_bytes() > self.share() {
            self.evict();
        }
    }

    /// Asks all columns what they hold.
    fn ask_all(&mut self) {
        for open in self.open.iter_mut().flatten() {
            self.open_bytes += open.grown_bytes();
        }
    }

    /// Where there are many CPUs, the least a block should have is too much for all.
    fn seal_largest(&mut self) {
        let sets = self.open.iter().zip(0u16..).flat_map(|(classes, cpu)| {
            classes.iter().zip(Class::RECORDED).map(move |(open, class)| (open, cpu, class))
        });
        let largest = sets.max_by_key(|(open, ..)| open.columns.held_bytes());
        if let Some((_, cpu, class)) = largest {
            self.seal_open(cpu, class);
        }
    }

    /// Seals the open blocks when the segment is long enough. To be called often.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.ask_all();
        self.seal_one_handed();
        if self.segment_start_ns == 0 {
            self.segment_start_ns = now_ns;
        }
        if now_ns.abs_diff(self.segment_start_ns) >= self.segment_span_ns {
            self.seal_all();
            self.end_segment();
            if !std::mem::take(&mut self.is_spare_wanted) {
                self.spare = None;
            }
            self.segment_start_ns = now_ns;
        }
        self.evict();
    }

    /// Seals what is open, whatever it holds.
    pub fn seal_all(&mut self) {
        for cpu in 0..self.open.len() as u16 {
            for class in Class::RECORDED {
                self.seal_open(cpu, class);
            }
        }
    }

    fn seal_open(&mut self, cpu: u16, class: Class) {
        // Not cleared: what a flood made it grow to would stay with every CPU.
        drop(self.seal_before(cpu, class, Columns::default()));
    }

    /// Seals an open block that is full, so that the next is soon: it takes the memory of
    /// the one before.
    fn seal_full(&mut self, cpu: u16, class: Class) {
        let next = self.spare.take().map(|(columns, _)| columns).unwrap_or_default();
        if let Some(mut columns) = self.seal_before(cpu, class, next) {
            let held_bytes = columns.held_bytes() as u64;
            columns.clear();
            self.spare = Some((columns, held_bytes));
            self.is_spare_wanted = true;
        }
    }

    /// Seals an open block, if it has events, and answers its columns; `next` takes their
    /// place.
    fn seal_before(&mut self, cpu: u16, class: Class, next: Columns) -> Option<Columns> {
        let classes = self.open.get_mut(usize::from(cpu))?;
        let open = classes.get_mut(class as usize).filter(|open| !open.columns.is_empty())?;
        let (columns, held_bytes) = open.replace(next);
        self.open_bytes -= held_bytes;
        self.hold(Block::Sealed(block::seal(&columns, columns.meta(class, cpu))));
        Some(columns)
    }

    fn hold(&mut self, block: Block) {
        if let Some(unseen) = &mut self.unseen {
            unseen.push(block.clone());
        }
        self.sealed_bytes.add(&block);
        self.blocks += 1;
        self.current.push(block);
    }

    fn end_segment(&mut self) {
        if self.current.is_empty() {
            return;
        }
        let blocks = std::mem::take(&mut self.current);
        let last_ns = blocks.iter().map(|block| block.meta().last_ns).max().unwrap_or_default();
        // What says that it is from the future would stay for ever, and all behind it.
        let last_ns = last_ns.min(self.now_ns);
        self.segments.push_back(Segment { blocks, last_ns });
    }

    /// Compresses one block that a freeze handed over, so that its columns are
    /// freed. One at a time: the rings must not wait.
    fn seal_one_handed(&mut self) {
        let blocks = self.segments.iter_mut().flat_map(|segment| &mut segment.blocks);
        for block in blocks.chain(&mut self.current) {
            if let Block::Handed(handed) = block {
                let Some(sealed) = handed.try_sealed() else { return };
                self.sealed_bytes.remove(block);
                *block = Block::Sealed(sealed);
                self.sealed_bytes.add(block);
                return;
            }
        }
    }

    /// Whether a block is still to be compressed.
    pub fn has_handed_blocks(&self) -> bool {
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        blocks.chain(&self.current).any(|block| matches!(block, Block::Handed(_)))
    }

    /// The baseline, to be changed: a frozen window that shares it keeps what it has.
    fn baseline_mut(&mut self) -> &mut Processes {
        if Arc::strong_count(&self.baseline) > 1 {
            self.pinned_bytes += self.baseline.bytes();
            self.pinned_baselines.push(Arc::clone(&self.baseline));
        }
        Arc::make_mut(&mut self.baseline)
    }

    /// Hands the window over as it is: sealed blocks by reference, open columns
    /// as they stand. Recording goes on in empty ones.
    pub fn freeze(&mut self) -> FrozenWindow {
        // Columns that are handed over become blocks, and all of it is held from then
        // on: there is no making room afterwards.
        self.ask_all();
        let count = self.open.iter().flatten().filter(|open| !open.columns.is_empty()).count();
        self.evict_for(count as u64 * block::ITSELF_BYTES);
        let mut handed = Vec::with_capacity(count);
        for (cpu, classes) in self.open.iter_mut().enumerate() {
            for (open, class) in classes.iter_mut().zip(Class::RECORDED) {
                if open.columns.is_empty() {
                    continue;
                }
                let (columns, held_bytes) = open.replace(Columns::default());
                let meta = columns.meta(class, cpu as u16);
                self.open_bytes -= held_bytes;
                let block = Block::Handed(Arc::new(HandedBlock::new(meta, columns)));
                handed.push(block);
            }
        }
        handed.into_iter().for_each(|block| self.hold(block));
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        FrozenWindow {
            blocks: blocks.chain(&self.current).cloned().collect(),
            baseline: Arc::clone(&self.baseline),
            limits: self.limits,
            native: self.native,
        }
    }

    /// Keeps what is sealed from now on until somebody takes it.
    pub fn keep_unseen(&mut self) {
        self.unseen = Some(Vec::new());
    }

    /// The blocks that were sealed since the last time, oldest first. What left the window
    /// since is among them.
    pub fn take_unseen(&mut self) -> Vec<Block> {
        self.unseen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is known of the host, and the sealed blocks that it follows from.
    pub fn checkpoint(&self) -> FrozenWindow {
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks).chain(&self.current);
        let state = blocks.filter(|block| block.meta().class == Class::State);
        FrozenWindow {
            blocks: state.cloned().collect(),
            baseline: Arc::clone(&self.baseline),
            limits: self.limits,
            native: self.native,
        }
    }

    /// Changes the limits; what does not fit leaves at the next tick.
    pub fn set_limits(&mut self, limits: WindowLimits) {
        self.limits = limits;
        self.open_bytes_max = open_bytes_max(limits, self.open.len());
        self.segment_span_ns = segment_span_ns(limits, self.open.len());
        self.baseline_mut().set_bytes_max(baseline_bytes_max(limits));
        self.baseline_bytes = self.baseline.bytes();
    }

    /// What may be held.
    pub fn limits(&self) -> WindowLimits {
        self.limits
    }

    /// Bytes held: sealed and pinned blocks, open columns, baseline.
    pub fn bytes(&self) -> u64 {
        self.own_bytes() + self.pinned_bytes
    }

    /// What the window may take of its bytes: an eighth is kept free for what a running
    /// dump holds on to.
    fn share(&self) -> u64 {
        self.limits.bytes_max - self.limits.bytes_max / 8
    }

    fn own_bytes(&self) -> u64 {
        self.sealed_bytes() + self.open_bytes() + self.baseline_bytes
    }

    /// Bytes that only dumps hold: blocks that left the window and baselines that
    /// changed, until they are written.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// Bytes of sealed blocks, with what stands beside each frame.
    pub fn sealed_bytes(&self) -> u64 {
        self.sealed_bytes.total()
    }

    /// Compressed bytes per event of what is sealed; 0 where nothing is.
    pub fn bytes_per_event(&self) -> f64 {
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        let (mut bytes, mut events) = (0, 0);
        for block in blocks.chain(&self.current) {
            if let Block::Sealed(block) = block {
                bytes += block.frame.len() as u64;
                events += u64::from(block.meta.count);
            }
        }
        if events == 0 { 0.0 } else { bytes as f64 / events as f64 }
    }

    /// Bytes of columns that are still open, and of the memory kept for the next.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes + self.spare.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes of the processes at the left edge.
    pub fn baseline_bytes(&self) -> u64 {
        self.baseline_bytes
    }

    /// Events ever pushed that the ledger counts: all but `lost` ones.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What left the window so far.
    pub fn evicted(&self) -> Evicted {
        self.evicted
    }

    /// How many segments there are, the open one included.
    pub fn segments(&self) -> usize {
        self.segments.len() + 1
    }

    /// Events held and the oldest time, by class.
    pub fn holdings(&self) -> [Holding; Class::RECORDED.len()] {
        let mut holdings = [Holding::default(); Class::RECORDED.len()];
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        for block in blocks.chain(&self.current) {
            let meta = block.meta();
            if let Some(holding) = holdings.get_mut(meta.class as usize) {
                holding.add(meta, block.bytes());
            }
        }
        for classes in &self.open {
            for (open, holding) in classes.iter().zip(&mut holdings) {
                let columns = &open.columns;
                if !columns.is_empty() {
                    holding.add(&columns.meta(Class::Bulk, 0), columns.raw_bytes() as u64);
                }
            }
        }
        holdings
    }
}

/// Threads may take a quarter: events are what the window is for.
fn baseline_bytes_max(limits: WindowLimits) -> u64 {
    limits.bytes_max / 4
}

/// What all open columns may take together.
fn open_bytes_total(limits: WindowLimits) -> u64 {
    limits.bytes_max / 4
}

/// About a second; longer where the window's blocks would be more than half of
/// [`BLOCKS_MAX`]: the other half is for those that are full before.
fn segment_span_ns(limits: WindowLimits, cpus: usize) -> u64 {
    let sets = (cpus * Class::RECORDED.len()).max(1) as u64;
    let segments = (BLOCKS_MAX as u64 / 2 / sets).max(1);
    SEGMENT_SPAN_NS.max(limits.span_ns.min(SPAN_NS_MAX) / segments)
}

/// The least is enough for the largest event many times over.
fn open_bytes_max(limits: WindowLimits, cpus: usize) -> usize {
    let sets = (cpus * Class::RECORDED.len()).max(1) as u64;
    let share = (open_bytes_total(limits) / sets).clamp(64 << 10, codec::RAW_BYTES_TARGET as u64);
    usize::try_from(share).unwrap_or(codec::RAW_BYTES_TARGET)
}

/// What the window holds of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Events the ledger counts.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
    /// The oldest one; `None` where there is none.
    pub first_ns: Option<u64>,
}

impl Holding {
    fn add(&mut self, meta: &BlockMeta, bytes: u64) {
        self.events += meta.ledger_events();
        self.bytes += bytes;
        let first_ns = meta.first_ns;
        self.first_ns = Some(self.first_ns.map_or(first_ns, |first| first.min(first_ns)));
    }
}

#[cfg(test)]
mod tests;
