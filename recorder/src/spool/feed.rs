//! The recording's end of a spool.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{SyncSender, TrySendError},
};

use crate::{
    clock::ClockAnchor,
    event::Class,
    window::{Block, FrozenWindow, Window},
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
    /// Adds blocks that are not written.
    pub(super) fn add(&mut self, blocks: &[Block]) {
        for meta in blocks.iter().map(Block::meta) {
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
    /// The state of the host, which a new part begins with.
    Checkpoint(Box<FrozenWindow>, ClockAnchor),
    /// The recording ended as it should.
    End,
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

    /// Takes what the window sealed since the last time. To be called often.
    pub fn take(&mut self, window: &mut Window) {
        let sealed = window.take_unseen();
        if !sealed.is_empty() {
            let message = Message::Sealed(sealed, std::mem::take(&mut self.gap));
            if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
                self.messages.try_send(message)
                && let Message::Sealed(sealed, gap) = message
            {
                self.gap = gap;
                self.gap.add(&sealed);
            }
        }
        if self.wants_checkpoint.load(Ordering::Acquire) {
            let checkpoint = Box::new(window.checkpoint());
            let message = Message::Checkpoint(checkpoint, ClockAnchor::now());
            // Where there is no room it is asked for again.
            if self.messages.try_send(message).is_ok() {
                self.wants_checkpoint.store(false, Ordering::Release);
            }
        }
    }

    /// The recording ends. Its last blocks are in the spool when there is room for them.
    pub fn end(mut self, window: &mut Window) {
        window.seal_all();
        self.take(window);
        // Without the word the next start makes a snapshot that nobody needs: better than to
        // wait for a disk that hangs.
        let _ = self.messages.try_send(Message::End);
    }
}
