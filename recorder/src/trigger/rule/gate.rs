//! What every rule has: its name, its words, and when it may fire again.

use std::collections::BTreeMap;

use super::Firing;

/// The common part of a checked rule.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) name: String,
    pub(super) before_ns: Option<u64>,
    pub(super) after_ns: Option<u64>,
    pub(super) again_after_ns: u64,
    pub(super) labels: BTreeMap<String, String>,
    /// When it fired last, on the clock of events.
    pub(super) fired_ns: Option<u64>,
    /// How often it fired.
    pub(super) firings: u64,
}

impl Gate {
    /// Whether the rule is silent at this moment, because it fired a while ago.
    pub(super) fn is_silent(&self, ts_ns: u64) -> bool {
        self.fired_ns.is_some_and(|fired| ts_ns < fired.saturating_add(self.again_after_ns))
    }

    /// Fires. `facts` are labels of what happened.
    pub(super) fn fire(
        &mut self,
        ts_ns: u64,
        reason: String,
        facts: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Firing {
        self.fired_ns = Some(ts_ns);
        self.firings += 1;
        let mut labels = self.labels.clone();
        for (name, value) in facts {
            labels.entry(name.to_string()).or_insert(value);
        }
        Firing {
            rule: self.name.clone(),
            reason,
            labels,
            ts_ns,
            before_ns: self.before_ns,
            after_ns: self.after_ns,
        }
    }

    /// Goes on where a rule of the same name was: a configuration that is read again
    /// does not make a rule fire again.
    pub(super) fn take_over(&mut self, old: &Gate) {
        if self.name == old.name {
            self.fired_ns = old.fired_ns;
            self.firings = old.firings;
        }
    }
}
