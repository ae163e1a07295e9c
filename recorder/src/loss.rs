//! The ledger: every event that was seen is stored, filtered, aggregated or lost,
//! and the sums are checked. No number is obtained by subtracting others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that is not there: this kernel does not give it, the recorder may not
/// ask for it, or it could not be had in time. No event of it was ever offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What is not there.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Counts of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLedger {
    /// Calls that were offered.
    pub seen: u64,
    /// Calls whose record found no room.
    pub lost: u64,
    /// Calls that were only counted.
    pub aggregated: u64,
}

/// Counts of one kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindLedger {
    /// Events that were offered.
    pub seen: u64,
    /// Events whose record found no room.
    pub lost: u64,
}

/// Where every event of a recording is.
///
/// ```text
/// seen    = stored + filtered + aggregated + lost
/// stored  = decoded + malformed + in_flight
/// decoded = in_window + evicted
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events the hooks saw, counted in the kernel before anything else.
    pub seen: u64,
    /// Events a ring took, counted in the kernel.
    pub stored: u64,
    /// Events that were not wanted, counted in the kernel.
    pub filtered: u64,
    /// Why, and how many.
    pub filtered_by: BTreeMap<String, u64>,
    /// Events that were only counted.
    pub aggregated: u64,
    /// Events that are missing, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Records that made no sense, counted by the reader.
    pub malformed: u64,
    /// Records in a ring that the reader has not come to.
    pub in_flight: u64,
    /// Records that were read and understood, counted by the reader.
    pub decoded: u64,
    /// Events that left the window, counted when they did.
    pub evicted: u64,
    /// Events in the window, counted block by block.
    pub in_window: u64,
    /// Gaps in the running numbers of the CPUs that no loss explains.
    pub unaccounted: u64,
    /// Whether all the sums hold.
    pub closes: bool,
    /// By call.
    pub calls: BTreeMap<String, CallLedger>,
    /// By kind of event. Files of before have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KindLedger>,
}

impl Ledger {
    /// Everything that is missing. A file may say any numbers: they stop at the
    /// largest there is, and then no sum holds.
    pub fn lost_total(&self) -> u64 {
        self.lost.values().fold(0, |total, lost| total.saturating_add(*lost))
    }

    /// Whether the sums hold, computed from the numbers as they stand.
    pub fn sums_hold(&self) -> bool {
        self.complaints().is_empty()
    }

    /// The sums that do not hold, one sentence each.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let lost = self.lost_total();
        let accounted = [self.stored, self.filtered, self.aggregated, lost];
        if sum(&accounted) != Some(self.seen) {
            complaints.push(format!(
                "seen {} is not stored {} + filtered {} + aggregated {} + lost {lost}",
                self.seen, self.stored, self.filtered, self.aggregated
            ));
        }
        if sum(&[self.decoded, self.malformed, self.in_flight]) != Some(self.stored) {
            complaints.push(format!(
                "stored {} is not decoded {} + malformed {} + in flight {}",
                self.stored, self.decoded, self.malformed, self.in_flight
            ));
        }
        if sum(&[self.in_window, self.evicted]) != Some(self.decoded) {
            complaints.push(format!(
                "decoded {} is not in the window {} + evicted {}",
                self.decoded, self.in_window, self.evicted
            ));
        }
        if self.unaccounted != 0 {
            complaints.push(format!("{} events are unaccounted for", self.unaccounted));
        }
        complaints
    }
}

fn sum(terms: &[u64]) -> Option<u64> {
    terms.iter().try_fold(0u64, |total, term| total.checked_add(*term))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing() -> Ledger {
        Ledger {
            seen: 100,
            stored: 70,
            filtered: 20,
            lost: BTreeMap::from([("ring_full".to_string(), 10)]),
            decoded: 69,
            malformed: 1,
            in_window: 60,
            evicted: 9,
            ..Ledger::default()
        }
    }

    #[test]
    fn each_wrong_number_is_noticed() {
        assert!(closing().sums_hold(), "{:?}", closing().complaints());
        let changes: [fn(&mut Ledger); 9] = [
            |l| l.seen += 1,
            |l| l.stored += 1,
            |l| l.filtered += 1,
            |l| l.lost.clear(),
            |l| l.decoded += 1,
            |l| l.malformed += 1,
            |l| l.in_window += 1,
            |l| l.evicted -= 1,
            |l| l.unaccounted = 1,
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut ledger = closing();
            change(&mut ledger);
            assert!(!ledger.sums_hold(), "change {place}");
            assert!(!ledger.complaints().is_empty(), "change {place}");
        }
        let huge = Ledger { stored: u64::MAX, filtered: 1, ..Ledger::default() };
        assert!(!huge.sums_hold());
        let lost = [("a".to_string(), u64::MAX), ("b".to_string(), u64::MAX)].into();
        let huge = Ledger { lost, seen: 1, ..Ledger::default() };
        assert!(!huge.sums_hold() && !huge.complaints().is_empty());
    }
}
