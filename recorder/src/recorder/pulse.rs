//! What others may look at without asking the recording.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

/// Readings the ingest thread leaves behind at every visit of the rings.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When an event of our own came through the whole path last, 0 when none has.
    canary_ns: AtomicU64,
    visited_ns: AtomicU64,
    window_bytes: AtomicU64,
}

impl Pulse {
    /// Whether an event of our own has ever come through.
    pub fn is_recording(&self) -> bool {
        self.canary_ns.load(Ordering::Acquire) != 0
    }

    /// How long ago an event of our own was made that came through the whole path;
    /// `None` when none has.
    pub fn canary_age_ns(&self) -> Option<u64> {
        let at_ns = self.canary_ns.load(Ordering::Acquire);
        (at_ns != 0).then(|| clock::monotonic_ns().saturating_sub(at_ns))
    }

    /// How long ago the rings were visited; `None` when they never were.
    pub fn visit_age_ns(&self) -> Option<u64> {
        let at_ns = self.visited_ns.load(Ordering::Relaxed);
        (at_ns != 0).then(|| clock::monotonic_ns().saturating_sub(at_ns))
    }

    /// Bytes of the window: what a snapshot needs, about.
    pub fn window_bytes(&self) -> u64 {
        self.window_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn canary(&self, at_ns: u64) {
        self.canary_ns.store(at_ns.max(1), Ordering::Release);
    }

    pub(super) fn visited(&self, now_ns: u64, window_bytes: u64) {
        self.visited_ns.store(now_ns, Ordering::Relaxed);
        self.window_bytes.store(window_bytes, Ordering::Relaxed);
    }
}
