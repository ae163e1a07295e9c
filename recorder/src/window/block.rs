//! Blocks, sealed or as they stood when the window was frozen.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use bytes::Bytes;
use zstd::zstd_safe::{
    CCtx, CParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, compress_bound,
    zstd_sys::ZSTD_EndDirective,
};

use super::codec::{self, BlockMeta, Columns, DecodedBlock, RawBlock};
use crate::event::{Class, Event};

/// The level of every frame: above it zstd buys almost nothing here.
pub const COMPRESSION_LEVEL: i32 = 1;

/// More than what zstd puts around a part of its own.
const PART_BYTES: usize = 64;

/// A block in the form the file has.
#[derive(Clone)]
pub struct SealedBlock {
    /// What it is.
    pub meta: BlockMeta,
    /// One zstd frame with its checksum.
    pub frame: Bytes,
    /// Bytes before compression.
    pub raw_bytes: u32,
}

impl SealedBlock {
    /// Opens a block of our own making. It was written a moment ago by this
    /// process: damage here is damaged memory, and costs the names it would have
    /// given.
    pub fn open(&self) -> Option<DecodedBlock> {
        let raw = zstd::bulk::decompress(&self.frame, codec::RAW_BYTES_MAX).ok()?;
        DecodedBlock::read(&raw).ok()
    }
}

/// A block that was open when the window was frozen. Whoever needs its frame first
/// makes it: the thread that writes the file, or the ingest thread later. The columns
/// are gone then, for both.
pub struct HandedBlock {
    meta: BlockMeta,
    /// Bytes of the columns, as they are counted until the window has the frame.
    held_bytes: u64,
    state: Mutex<State>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all end up as the large one")]
enum State {
    Open(Box<Columns>),
    Sealed(SealedBlock),
}

impl HandedBlock {
    pub(super) fn new(meta: BlockMeta, columns: Columns) -> HandedBlock {
        let held_bytes = columns.held_bytes() as u64;
        HandedBlock { meta, held_bytes, state: Mutex::new(State::Open(Box::new(columns))) }
    }

    /// The block as a frame. Waits where another thread is compressing it.
    pub fn sealed(&self) -> SealedBlock {
        self.frame_of(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same; `None` where another thread is compressing it.
    pub(super) fn try_sealed(&self) -> Option<SealedBlock> {
        match self.state.try_lock() {
            Ok(mut state) => Some(self.frame_of(&mut state)),
            Err(TryLockError::Poisoned(poisoned)) => {
                Some(self.frame_of(&mut poisoned.into_inner()))
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether nobody has compressed it yet.
    pub fn is_open(&self) -> bool {
        !matches!(self.state.try_lock().as_deref(), Ok(State::Sealed(_)))
    }

    fn frame_of(&self, state: &mut State) -> SealedBlock {
        let sealed = match state {
            State::Sealed(sealed) => return sealed.clone(),
            State::Open(columns) => seal(columns, self.meta),
        };
        *state = State::Sealed(sealed.clone());
        sealed
    }
}

/// A block of a frozen window.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub enum Block {
    /// Compressed already.
    Sealed(SealedBlock),
    /// Handed over as it was.
    Handed(Arc<HandedBlock>),
}

impl Block {
    /// What it is.
    pub fn meta(&self) -> &BlockMeta {
        match self {
            Block::Sealed(block) => &block.meta,
            Block::Handed(block) => &block.meta,
        }
    }

    /// The block as a frame, compressed now when it is not yet.
    pub fn sealed(&self) -> SealedBlock {
        match self {
            Block::Sealed(block) => block.clone(),
            Block::Handed(block) => block.sealed(),
        }
    }

    /// Whether somebody else, a dump, holds it too.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Block::Sealed(block) => !block.frame.is_unique(),
            Block::Handed(block) => Arc::strong_count(block) > 1,
        }
    }

    /// What it takes: its bytes and itself.
    pub(super) fn bytes(&self) -> u64 {
        ITSELF_BYTES
            + match self {
                Block::Sealed(block) => block.frame.len() as u64,
                Block::Handed(block) => block.held_bytes,
            }
    }
}

/// What a block takes beside its bytes, with what the allocator keeps of it. On a quiet
/// host with many CPUs that is more than the frame.
pub(super) const ITSELF_BYTES: u64 = size_of::<Block>() as u64 + 32;

pub(super) fn seal(columns: &Columns, meta: BlockMeta) -> SealedBlock {
    let raw = columns.to_bytes(meta.class, meta.cpu);
    let raw_bytes = raw.bytes.len() as u32;
    SealedBlock { meta, frame: compress(&raw), raw_bytes }
}

/// One zstd frame with its content size and checksum. What is told apart by the cuts is
/// compressed apart: statistics of one sort of column are wrong for another.
pub fn compress(raw: &RawBlock) -> Bytes {
    compress_at(raw, COMPRESSION_LEVEL)
}

/// The same at another level.
pub fn compress_at(raw: &RawBlock, level: i32) -> Bytes {
    thread_local! {
        // Making one costs more than compressing the block of a quiet CPU.
        static CONTEXT: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    }
    let made = CONTEXT.with(|context| compress_with(&mut context.borrow_mut(), raw, level));
    match made {
        Ok(frame) => Bytes::from(frame),
        // zstd only fails here for want of memory; an empty frame would hide it.
        Err(code) => {
            let error = zstd::zstd_safe::get_error_name(code);
            tracing::error!(error, "a block could not be compressed and is lost");
            Bytes::new()
        }
    }
}

fn compress_with(
    context: &mut CCtx<'static>,
    raw: &RawBlock,
    level: i32,
) -> Result<Vec<u8>, ErrorCode> {
    context.reset(ResetDirective::SessionAndParameters)?;
    context.set_parameter(CParameter::CompressionLevel(level))?;
    context.set_parameter(CParameter::ChecksumFlag(true))?;
    context.set_pledged_src_size(Some(raw.bytes.len() as u64))?;
    // Room for every part that cannot be compressed, so that one call is enough for each.
    let room = compress_bound(raw.bytes.len()) + raw.cuts.len() * PART_BYTES + PART_BYTES;
    let mut frame = Vec::with_capacity(room);
    let mut output = OutBuffer::around(&mut frame);
    let mut start = 0;
    for (end, directive) in raw
        .cuts
        .iter()
        .map(|cut| (*cut, ZSTD_EndDirective::ZSTD_e_flush))
        .chain([(raw.bytes.len(), ZSTD_EndDirective::ZSTD_e_end)])
    {
        let mut input = InBuffer::around(raw.bytes.get(start..end).unwrap_or_default());
        while context.compress_stream2(&mut output, &mut input, directive)? != 0 {}
        start = end;
    }
    frame.shrink_to_fit();
    Ok(frame)
}

/// Events that never were in the window (the context, unfinished calls) as blocks
/// of `class`, as many as they need.
pub fn blocks_of<'a>(events: impl Iterator<Item = Event<'a>>, class: Class) -> Vec<Block> {
    sealed_of(events, class, 0).into_iter().map(Block::Sealed).collect()
}

/// Events of a CPU as blocks of `class`, as many as they need.
pub fn sealed_of<'a>(
    events: impl Iterator<Item = Event<'a>>,
    class: Class,
    cpu: u16,
) -> Vec<SealedBlock> {
    let mut blocks = Vec::new();
    let mut columns = Columns::default();
    let mut end = |columns: &mut Columns| {
        blocks.push(seal(columns, columns.meta(class, cpu)));
        columns.clear();
    };
    for event in events {
        columns.push(&event);
        if columns.is_full(codec::RAW_BYTES_TARGET) {
            end(&mut columns);
        }
    }
    if !columns.is_empty() {
        end(&mut columns);
    }
    blocks
}
