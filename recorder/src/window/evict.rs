//! What leaves the window, and in which order: all of it when time is up, the least precious
//! first when bytes run out.
//!
//! Invariant: state leaves in the order of time, and goes into the baseline as it does.

use std::sync::Arc;

use super::{
    Block, Window, baseline_bytes_max,
    codec::DecodedBlock,
    fold::{fold_up_to, state_of},
};
use crate::event::{Class, Event};

impl Window {
    /// Drops what is older than the window, then what does not fit.
    pub(super) fn evict(&mut self) {
        self.evict_for(0);
    }

    /// The same, so that `more` bytes fit within the bound as well.
    pub(super) fn evict_for(&mut self, more: u64) {
        self.unpin();
        let oldest_ns = self.now_ns.saturating_sub(self.limits.span_ns);
        while self.segments.front().is_some_and(|segment| segment.last_ns < oldest_ns) {
            if let Some(segment) = self.segments.pop_front() {
                self.drop_blocks(segment.blocks);
            }
        }
        // The window's own share does not count what dumps hold: otherwise one new
        // block during a dump would drive out all old ones, none of which gives
        // memory back. A little more goes than must, so that the next block need not
        // come here again.
        let share = self.share();
        if self.own_bytes() > share {
            self.evict_down_to(share - share / 64, Window::own_bytes, &|_| true);
        }
        if self.blocks > self.blocks_max {
            let most = (self.blocks_max - self.blocks_max / 64) as u64;
            self.evict_down_to(most, |window| window.blocks as u64, &|_| true);
        }
        // A dump that takes so long that the eighth is full (a disk that hangs): only
        // blocks it does not hold give memory back, then what is still open, then
        // what is known of threads.
        let bytes_max = self.limits.bytes_max.saturating_sub(more);
        let is_ours = |block: &Block| !block.is_shared();
        self.evict_down_to(bytes_max, Window::bytes, &is_ours);
        if self.bytes() > bytes_max {
            self.seal_all();
            self.spare = None;
            self.evict_down_to(bytes_max, Window::bytes, &is_ours);
        }
        if self.bytes() > bytes_max {
            self.cut_baseline(bytes_max);
        }
        while self.segments.front().is_some_and(|segment| segment.blocks.is_empty()) {
            self.segments.pop_front();
        }
    }

    /// Lets go of what no dump holds any more.
    pub(super) fn unpin(&mut self) {
        self.pinned.retain(Block::is_shared);
        self.pinned_baselines.retain(|baseline| Arc::strong_count(baseline) > 1);
        let blocks: u64 = self.pinned.iter().map(Block::bytes).sum();
        let baselines: u64 = self.pinned_baselines.iter().map(|baseline| baseline.bytes()).sum();
        self.pinned_bytes = blocks + baselines;
    }

    /// Drops blocks to which `may_go` agrees until `bytes` are at most `most`, of each class
    /// the oldest first: what has more than its share, then the least precious. State goes in
    /// the order of time whoever holds it: the baseline is what was before the oldest that is
    /// left.
    fn evict_down_to(
        &mut self,
        most: u64,
        bytes: impl Fn(&Window) -> u64,
        may_go: &dyn Fn(&Block) -> bool,
    ) {
        for class in [Class::Precious, Class::State] {
            let has_more = |window: &Window| window.sealed_bytes.of(class) > window.kept_share();
            self.evict_while(class, may_go, &|window| bytes(window) > most && has_more(window));
        }
        for class in [Class::Bulk, Class::Precious, Class::State] {
            self.evict_while(class, may_go, &|window| bytes(window) > most);
        }
    }

    fn evict_while(
        &mut self,
        class: Class,
        may_go: &dyn Fn(&Block) -> bool,
        is_wanted: &dyn Fn(&Window) -> bool,
    ) {
        let may_go = if class == Class::State { &|_: &Block| true } else { may_go };
        for place in 0..=self.segments.len() {
            while is_wanted(self) && self.evict_from(place, class, may_go) {}
            if !is_wanted(self) {
                return;
            }
        }
    }

    /// The part of the window that is kept for precious blocks, and as much for state: no
    /// flood of anything else takes it from them. What they have more goes before all else,
    /// so that a flood of failures leaves half of the window to what succeeded.
    fn kept_share(&self) -> u64 {
        self.share() / 4
    }

    /// Drops the oldest block of a class in a segment, the open one behind the last.
    /// State goes together, so that it is taken into account in the order of time: with
    /// what is open, too, where the segment is. An exit of one CPU that went while the
    /// fork before it was in the columns of another left a thread behind for ever.
    fn evict_from(&mut self, place: usize, class: Class, may_go: &dyn Fn(&Block) -> bool) -> bool {
        let goes = |block: &Block| block.meta().class == class && may_go(block);
        if class == Class::State && place == self.segments.len() {
            (0..self.open.len() as u16).for_each(|cpu| self.seal_open(cpu, class));
        }
        let blocks = match self.segments.get_mut(place) {
            Some(segment) => &mut segment.blocks,
            None => &mut self.current,
        };
        let Some(first) = blocks.iter().position(goes) else { return false };
        let dropped = if class == Class::State {
            let (dropped, kept) = std::mem::take(blocks).into_iter().partition(goes);
            *blocks = kept;
            dropped
        } else {
            vec![blocks.remove(first)]
        };
        self.drop_blocks(dropped);
        true
    }

    /// The last resort: threads lose their words before the bound is broken. A baseline
    /// that a dump shares gives no memory back.
    fn cut_baseline(&mut self, bytes_max: u64) {
        let most = baseline_bytes_max(self.limits);
        let room = bytes_max.saturating_sub(self.bytes() - self.baseline_bytes);
        if let Some(baseline) = Arc::get_mut(&mut self.baseline) {
            baseline.set_bytes_max(room.min(most));
            baseline.set_bytes_max(most);
            self.baseline_bytes = baseline.bytes();
        }
    }

    fn drop_blocks(&mut self, blocks: Vec<Block>) {
        for block in &blocks {
            self.evicted.events += block.meta().ledger_events();
        }
        let state = state_of(&blocks);
        if !state.is_empty() {
            self.fold_or_keep(&state);
        }
        for block in blocks {
            self.evicted.blocks += 1;
            self.blocks -= 1;
            self.sealed_bytes.remove(&block);
            if block.is_shared() {
                self.pinned_bytes += block.bytes();
                self.pinned.push(block);
            }
        }
    }

    /// Takes state events into the baseline, up to the first that is not older than what
    /// stays. The rings are read one after the other, so what one CPU did last in a segment
    /// may be newer than what another did first in the next: an end that was taken into
    /// account before its fork left a thread behind for ever. Such events stay as well.
    fn fold_or_keep(&mut self, state: &[DecodedBlock]) {
        let (until_ns, now_ns, native) = (self.first_state_ns(), self.now_ns, self.native);
        // One from the future would be kept for ever.
        let goes = |event: &Event<'_>| event.ts_ns < until_ns || event.ts_ns > now_ns;
        let staying = fold_up_to(self.baseline_mut(), state, &goes, native);
        self.baseline_bytes = self.baseline.bytes();
        staying.into_iter().rev().for_each(|block| self.keep(block));
    }

    /// Puts a block of state before all others of its class.
    fn keep(&mut self, block: Block) {
        self.evicted.events -= block.meta().ledger_events();
        self.sealed_bytes.add(&block);
        self.blocks += 1;
        let is_state = |block: &Block| block.meta().class == Class::State;
        match self.segments.iter_mut().find(|segment| segment.blocks.iter().any(is_state)) {
            Some(segment) => segment.blocks.insert(0, block),
            None => self.current.insert(0, block),
        }
    }

    /// The time of the oldest state event that is left.
    fn first_state_ns(&self) -> u64 {
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks).chain(&self.current);
        let sealed = blocks.map(Block::meta).filter(|meta| meta.class == Class::State);
        let open = self.open.iter().filter_map(|classes| classes.get(Class::State as usize));
        let open = open.filter(|open| !open.columns.is_empty());
        let open = open.map(|open| open.columns.meta(Class::State, 0).first_ns);
        sealed.map(|meta| meta.first_ns).chain(open).min().unwrap_or(u64::MAX)
    }
}
