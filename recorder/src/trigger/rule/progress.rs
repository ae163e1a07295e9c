//! How far the rings have been read.
//!
//! Each CPU has a ring, and they are read one after the other. What made an event
//! (the fork of the thread, its rename) may lie in a ring that is read later. A
//! rule judges an event when everything before it has been read, and this says up
//! to when that is.

/// How much later than its time an event can lie in its ring. A program reads the
/// clock, and is interrupted before it has written: no interrupt lasts longer than
/// this on a host that is well. That the kernel's clock without a lock is a little
/// off (`ktime_get_mono_fast_ns`, kernel/time/timekeeping.c) is far less.
const SLACK_NS: u64 = 10_000_000;

/// By ring, the moment before which nothing is unread.
#[derive(Clone, Debug)]
pub struct Progress {
    until_ns: Vec<u64>,
}

impl Progress {
    /// Of this many rings nothing has been read.
    pub fn new(rings: usize) -> Progress {
        Progress { until_ns: vec![0; rings] }
    }

    /// A ring was read until nothing was left; reading began at `began_ns`. What was
    /// written before that is no longer unread. What is a little older may not yet
    /// have been written: with less slack, events of one moment were judged in the
    /// wrong order.
    pub fn read_all(&mut self, ring: usize, began_ns: u64) {
        self.advance(ring, began_ns.saturating_sub(SLACK_NS));
    }

    /// A ring was read, but not to its end; the last event was of `last_ns`.
    pub fn read_some(&mut self, ring: usize, last_ns: u64) {
        self.advance(ring, last_ns.saturating_sub(SLACK_NS));
    }

    fn advance(&mut self, ring: usize, until_ns: u64) {
        if let Some(known) = self.until_ns.get_mut(ring) {
            *known = until_ns.max(*known);
        }
    }

    /// The moment before which nothing is unread in any ring.
    pub fn until_ns(&self) -> u64 {
        self.until_ns.iter().min().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_that_is_behind_holds_back_all() {
        let mut progress = Progress::new(2);
        assert_eq!(progress.until_ns(), 0);
        progress.read_all(0, 5_000_000_000);
        assert_eq!(progress.until_ns(), 0, "nothing was read of the other one");
        progress.read_some(1, 4_000_000_000);
        assert_eq!(progress.until_ns(), 4_000_000_000 - SLACK_NS);
        progress.read_some(1, 1_000_000_000);
        assert_eq!(progress.until_ns(), 4_000_000_000 - SLACK_NS, "it never goes back");
        progress.read_all(1, 6_000_000_000);
        assert_eq!(progress.until_ns(), 5_000_000_000 - SLACK_NS);
        progress.read_all(7, 9_000_000_000);
        assert_eq!(progress.until_ns(), 5_000_000_000 - SLACK_NS, "no such ring");
    }
}
