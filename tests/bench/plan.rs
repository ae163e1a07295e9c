//! How much is measured: bounded in time, whatever the machine.

use std::time::Duration;

/// The lengths of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds of the null call; each attaches everything once.
    pub(crate) null_rounds: usize,
    /// Bursts of calls in a round, for each thing that is attached.
    pub(crate) bursts: usize,
    /// Pairs of a load without and with the recorder.
    pub(crate) pairs: usize,
    /// How long a load runs, each time.
    pub(crate) load: Duration,
    /// Events in the large window.
    pub(crate) fill_events: u64,
    /// How long it may take to fill.
    pub(crate) fill: Duration,
    /// How often it is dumped.
    pub(crate) dumps: usize,
    /// Events taken apart to say which part of the daemon's work costs what.
    pub(crate) part_events: usize,
    /// What waiting for other tracers may cost the run, all together.
    pub(crate) wait: Duration,
}

impl Plan {
    /// `quick` measures little, `full` fills the window the target speaks of.
    pub(crate) fn new(quick: bool, full: bool) -> Plan {
        let plan = Plan {
            null_rounds: 15,
            bursts: 20,
            pairs: 5,
            load: Duration::from_secs(3),
            fill_events: 10_000_000,
            fill: Duration::from_secs(40),
            dumps: 3,
            part_events: 1_000_000,
            wait: Duration::from_secs(60),
        };
        match (quick, full) {
            (true, _) => Plan {
                null_rounds: 3,
                bursts: 15,
                pairs: 3,
                load: Duration::from_secs(1),
                fill_events: 2_000_000,
                fill: Duration::from_secs(6),
                dumps: 2,
                part_events: 200_000,
                wait: Duration::from_secs(10),
            },
            (false, true) => {
                Plan { fill_events: 30_000_000, fill: Duration::from_secs(240), ..plan }
            }
            (false, false) => plan,
        }
    }
}
