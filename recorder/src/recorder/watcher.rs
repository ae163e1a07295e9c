//! The rules beside the window: they look at what is read, and are judged after
//! every visit of the rings.

use std::sync::mpsc::SyncSender;

use crate::{
    context::Processes,
    decode::Recurrence,
    event::Event,
    trigger::rule::{Firing, KnownThread, Progress, Rules, RulesHealth},
};

/// Firings that may wait for whoever takes snapshots. A rule is silent for at least a
/// second after one, so this is one of every rule.
pub const FIRINGS_MAX: usize = 64;

/// Rules, and where their firings go.
pub(super) struct Watcher {
    rules: Rules,
    progress: Progress,
    /// The last event that was looked at.
    last_ns: u64,
    firings: SyncSender<Firing>,
    dropped: u64,
}

impl Watcher {
    pub(super) fn new(rules: Rules, rings: usize, firings: SyncSender<Firing>) -> Watcher {
        Watcher { rules, progress: Progress::new(rings), last_ns: 0, firings, dropped: 0 }
    }

    /// Looks at an event that was just read.
    #[inline]
    pub(super) fn look(&mut self, event: &Event<'_>) {
        self.last_ns = event.ts_ns;
        self.rules.look(event);
    }

    /// Whether no rule is about a call that was just read: then it is looked at.
    #[inline]
    pub(super) fn passes(&mut self, call: &Recurrence) -> bool {
        let passes = self.rules.passes(call.ret, call.dur_ns);
        if passes {
            self.last_ns = call.ts_ns;
        }
        passes
    }

    /// A ring was visited from `began_ns` on, `to_its_end` or not.
    pub(super) fn visited(&mut self, ring: usize, began_ns: u64, to_its_end: bool) {
        if to_its_end {
            self.progress.read_all(ring, began_ns);
        } else {
            self.progress.read_some(ring, self.last_ns);
        }
    }

    /// Judges what is due and sends what fires.
    pub(super) fn settle(&mut self) {
        let firings = self.rules.settle(self.progress.until_ns());
        self.send(firings);
    }

    fn send(&mut self, firings: Vec<Firing>) {
        for firing in firings {
            if let Err(error) = self.firings.try_send(firing) {
                tracing::error!("nobody takes the firing of a rule: {error}");
                self.dropped += 1;
            }
        }
    }

    /// Other rules from now on. Answers whether they want the names of the threads that
    /// are there.
    pub(super) fn set(&mut self, mut rules: Rules, memory_bytes: u64) -> bool {
        let last = rules.take_over(std::mem::take(&mut self.rules));
        self.send(last);
        rules.bound(memory_bytes);
        self.rules = rules;
        self.rules.awaits_names()
    }

    /// Bounds what rules remember by all memory there may be.
    pub(super) fn bound(&mut self, memory_bytes: u64) {
        self.rules.bound(memory_bytes);
    }

    /// The names of the threads that are there.
    pub(super) fn seed(&mut self, processes: &Processes) {
        self.rules.seed(processes.iter().map(|(tid, facts)| KnownThread {
            tid,
            comm: &facts.comm,
            as_of_ns: facts.as_of_ns,
        }));
    }

    pub(super) fn health(&self) -> RulesHealth {
        RulesHealth { dropped: self.dropped, ..self.rules.health() }
    }

    /// Bytes of what they remember.
    pub(super) fn bytes(&self) -> u64 {
        self.rules.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use serde_json::json;

    use super::*;
    use crate::{
        context::ThreadFacts,
        event::{Kind, syscall::Abi},
        trigger::rule::Rule,
    };

    fn rules(again_after: &str) -> Rules {
        let written = json!([{"name": "crash", "on": "signal", "again_after": again_after}]);
        let written: Vec<Rule> = serde_json::from_value(written).unwrap();
        Rules::check(&written, Abi::X86_64).unwrap()
    }

    fn crash(ts_ns: u64) -> Event<'static> {
        let mut event = Event::new(Kind::ProcessExit, ts_ns);
        (event.pid, event.tid) = (7, 7);
        for number in [0, 11] {
            event.push_number(number);
        }
        event
    }

    fn threads() -> Processes {
        let mut processes = Processes::default();
        processes.insert(7, ThreadFacts { comm: b"nginx".to_vec(), ..ThreadFacts::default() });
        processes
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_firing_nobody_takes_is_counted() {
        let (sender, firings) = sync_channel(2);
        let mut watcher = Watcher::new(rules("1s"), 1, sender);
        watcher.seed(&threads());
        for second in 1..=5 {
            watcher.look(&crash(second * SECOND));
            watcher.visited(0, second * SECOND, true);
            watcher.settle();
        }
        // The last one is still waiting to be judged.
        watcher.visited(0, 6 * SECOND, true);
        watcher.settle();
        assert_eq!((firings.try_iter().count(), watcher.health().dropped), (2, 3));
        assert_eq!(watcher.health().firings["crash"], 5);
    }

    #[test]
    fn other_rules_leave_nothing_unjudged_and_do_not_fire_again() {
        let (sender, firings) = sync_channel(4);
        let mut watcher = Watcher::new(rules("1h"), 1, sender);
        watcher.seed(&threads());
        watcher.look(&crash(SECOND));
        assert!(!watcher.set(rules("1h"), 256 << 20), "the old ones knew the names");
        assert_eq!(firings.try_recv().unwrap().reason, "nginx[7] was killed by SIGSEGV");
        watcher.look(&crash(2 * SECOND));
        watcher.visited(0, 3 * SECOND, true);
        watcher.settle();
        assert!(firings.try_recv().is_err());
        assert!(!watcher.set(Rules::default(), 256 << 20));
        assert!(watcher.set(rules("1h"), 256 << 20), "nobody knows them any more");
    }
}
