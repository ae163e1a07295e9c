//! What is counted about every second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::clock;

/// Losses are added up in steps of this length.
const STEP: Duration = Duration::from_secs(10);

/// Steps kept: the longest window there is, a day.
const STEPS_MAX: usize = 8_640;

/// Rates over the last second or more, and losses over the window.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    events: u64,
    cpu_ns: u64,
    /// Events a second.
    pub(super) events_per_s: f64,
    /// CPU time of the daemon, percent of one CPU.
    pub(super) cpu_percent: f64,
    /// When a step began, and how many events were lost by then.
    lost: VecDeque<(Instant, u64)>,
}

impl Rate {
    pub(super) fn new() -> Rate {
        Rate {
            since: Instant::now(),
            events: 0,
            cpu_ns: clock::own_cpu_ns(),
            events_per_s: 0.0,
            cpu_percent: 0.0,
            lost: VecDeque::from([(Instant::now(), 0)]),
        }
    }

    /// Takes the sums so far into account, when a second is over.
    pub(super) fn take(&mut self, events: u64, lost: u64, window: Duration) {
        let elapsed = self.since.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let cpu_ns = clock::own_cpu_ns();
        let seconds = elapsed.as_secs_f64();
        self.events_per_s = (events - self.events) as f64 / seconds;
        self.cpu_percent = (cpu_ns.saturating_sub(self.cpu_ns)) as f64 / 1e7 / seconds;
        (self.since, self.events, self.cpu_ns) = (Instant::now(), events, cpu_ns);
        if self.lost.back().is_none_or(|(began, _)| began.elapsed() >= STEP) {
            self.lost.push_back((Instant::now(), lost));
        }
        // The step in which the window begins stays: it counts as a whole.
        while self.lost.len() > STEPS_MAX
            || self.lost.get(1).is_some_and(|(began, _)| began.elapsed() > window)
        {
            self.lost.pop_front();
        }
    }

    /// Of `lost` events in all, those lost since the window began, or up to ten
    /// seconds before.
    pub(super) fn lost_in_window(&self, lost: u64) -> u64 {
        lost.saturating_sub(self.lost.front().map_or(0, |(_, lost)| *lost))
    }
}
