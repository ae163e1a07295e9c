//! The recording's end of a spool.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
};

use crate::{
    clock::ClockAnchor,
    event::Class,
    window::{Block, FrozenWindow, SealedBlock, Window},
};

/// Messages that may wait: some seconds of them. Their blocks are counted as pinned.
pub(super) const MESSAGES_MAX: usize = 32;

/// What is not in the spool of what was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) blocks: u64,
    pub(super) events: u64,
    /// Of them those that say which processes there are and what they have open.
    pub(super) state_events: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Gap {
    /// Adds blocks that are not written. Counts are none of them: each part begins with those
    /// of the last hour.
    pub(super) fn add(&mut self, blocks: &[Block]) {
        let metas = blocks.iter().map(Block::meta);
        for meta in metas.filter(|meta| Class::RECORDED.contains(&meta.class)) {
            let events = meta.ledger_events();
            let first_ns = if self.blocks == 0 { meta.first_ns } else { self.first_ns };
            self.blocks += 1;
            self.events += events;
            self.state_events += if meta.class == Class::State { events } else { 0 };
            self.first_ns = first_ns.min(meta.first_ns);
            self.last_ns = self.last_ns.max(meta.last_ns);
        }
    }

    /// Adds another one.
    pub(super) fn merge(&mut self, other: &Gap) {
        if other.blocks == 0 {
            return;
        }
        let first_ns = if self.blocks == 0 { other.first_ns } else { self.first_ns };
        self.first_ns = first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.blocks += other.blocks;
        self.events += other.events;
        self.state_events += other.state_events;
    }
}

/// What the recording says.
pub(super) enum Message {
    /// Blocks that were sealed since the last message, and what was left out before.
    Sealed(Vec<Block>, Gap),
    /// What a new part begins with.
    Checkpoint(Box<Checkpoint>),
    /// The recording ended as it should.
    End,
}

/// What was before the blocks that are appended from then on.
pub(super) struct Checkpoint {
    /// The state of the host.
    pub(super) window: FrozenWindow,
    /// The counts of the last hour.
    pub(super) rollups: Arc<VecDeque<SealedBlock>>,
    pub(super) clock: ClockAnchor,
}

/// Hands what is sealed to the thread that writes it. Never waits.
pub struct SpoolFeed {
    messages: SyncSender<Message>,
    wants_checkpoint: Arc<AtomicBool>,
    gap: Gap,
}

impl SpoolFeed {
    pub(super) fn new(messages: SyncSender<Message>, wants_checkpoint: Arc<AtomicBool>) -> Self {
        SpoolFeed { messages, wants_checkpoint, gap: Gap::default() }
    }

    /// Takes what the window sealed since the last time, and of the counts, of which
    /// `rollups` are all that are kept, `sealed`. To be called often.
    pub fn take(
        &mut self,
        window: &mut Window,
        rollups: &Arc<VecDeque<SealedBlock>>,
        sealed: Vec<SealedBlock>,
    ) {
        let mut blocks = window.take_unseen();
        blocks.extend(sealed.into_iter().map(Block::Sealed));
        if !blocks.is_empty() {
            let message = Message::Sealed(blocks, std::mem::take(&mut self.gap));
            if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
                self.messages.try_send(message)
                && let Message::Sealed(blocks, gap) = message
            {
                self.gap = gap;
                self.gap.add(&blocks);
            }
        }
        if self.wants_checkpoint.load(Ordering::Acquire) {
            let checkpoint = Checkpoint {
                window: window.checkpoint(),
                rollups: Arc::clone(rollups),
                clock: ClockAnchor::now(),
            };
            let message = Message::Checkpoint(Box::new(checkpoint));
            // Where there is no room it is asked for again.
            if self.messages.try_send(message).is_ok() {
                self.wants_checkpoint.store(false, Ordering::Release);
            }
        }
    }

    /// The recording ends, and nothing more is taken.
    pub fn end(self) {
        // Without the word the next start makes a snapshot that nobody needs: better than to
        // wait for a disk that hangs.
        let _ = self.messages.try_send(Message::End);
    }
}
