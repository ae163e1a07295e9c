//! Why a snapshot is taken: alerts as values, who may send them, and when one
//! becomes a snapshot.
//!
//! Invariant: no input or output and no clock of its own. Bodies come in as bytes,
//! moments as readings, and what is to be done goes out as a decision.

#[cfg(feature = "capture")]
pub mod body;
#[cfg(feature = "capture")]
pub mod matching;
#[cfg(feature = "capture")]
pub mod policy;
pub mod rule;
#[cfg(feature = "capture")]
pub mod signature;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels, annotations or links kept of one trigger.
pub const WORDS_MAX: usize = 64;

/// Bytes kept of a name of a label, an annotation or a link.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes kept of a value: an annotation may be a whole runbook.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Further triggers kept with a snapshot's own; the rest is counted.
pub const ALSO_MAX: usize = 64;

/// Bytes of all words of a snapshot's triggers together; what is beyond is counted.
pub const TRIGGER_BYTES_MAX: usize = 512 << 10;

/// Why a snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trigger {
    /// Who asked: `manual`, `signal`, `alertmanager`, `rule`, ...
    pub source: String,
    /// The name of the alert or of the rule; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In whose words.
    pub reason: String,
    /// Labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the alert.
    pub annotations: BTreeMap<String, String>,
    /// Where to read on, by what is there: `generator`, `dashboard`, `incident`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Since when the source says that it is so, in its own words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub starts_at: String,
    /// The same alert again has the same key; empty where every one is new.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// When it came, nanoseconds of the kernel's clock.
    pub at_ns: u64,
    /// Words of it that were cut or left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut: u64,
    /// Further alerts of the same message, and triggers that joined this snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Trigger>,
    /// Further ones that are not kept because there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub also_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Trigger {
    /// A trigger without labels.
    pub fn new(source: &str, reason: impl Into<String>) -> Trigger {
        let mut trigger = Trigger { source: source.to_string(), ..Trigger::default() };
        trigger.reason = trigger.kept(reason.into(), VALUE_BYTES_MAX);
        trigger
    }

    /// The text, cut to `most` bytes; a cut is counted.
    pub fn kept(&mut self, mut text: String, most: usize) -> String {
        if text.len() > most {
            text.truncate(text.floor_char_boundary(most));
            self.cut += 1;
        }
        text
    }

    /// Adds a label, as far as there is room.
    pub fn label(&mut self, name: &str, value: impl Into<String>) {
        let mut labels = std::mem::take(&mut self.labels);
        self.put(&mut labels, name, value.into());
        self.labels = labels;
    }

    /// Adds an annotation, as far as there is room.
    pub fn annotate(&mut self, name: &str, value: impl Into<String>) {
        let mut annotations = std::mem::take(&mut self.annotations);
        self.put(&mut annotations, name, value.into());
        self.annotations = annotations;
    }

    /// Adds a link that is not empty, as far as there is room.
    pub fn link(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            let mut links = std::mem::take(&mut self.links);
            self.put(&mut links, name, value);
            self.links = links;
        }
    }

    fn put(&mut self, words: &mut BTreeMap<String, String>, name: &str, value: String) {
        if words.len() >= WORDS_MAX && !words.contains_key(name) {
            self.cut += 1;
            return;
        }
        let name = self.kept(name.to_string(), NAME_BYTES_MAX);
        let value = self.kept(value, VALUE_BYTES_MAX);
        words.insert(name, value);
    }

    /// Calls `change` with every text somebody wrote: reasons, names, and values, but not
    /// the key by which the alert is known again.
    pub fn each_text(&mut self, change: &mut dyn FnMut(&mut String)) {
        change(&mut self.name);
        change(&mut self.reason);
        let words = [&mut self.labels, &mut self.annotations, &mut self.links];
        words.into_iter().flat_map(BTreeMap::values_mut).for_each(&mut *change);
        self.also.iter_mut().for_each(|also| also.each_text(change));
    }

    /// Bytes of all its words.
    fn bytes(&self) -> usize {
        let words = [&self.labels, &self.annotations, &self.links];
        let words = words.into_iter().flatten().map(|(name, value)| name.len() + value.len());
        let own = [&self.source, &self.name, &self.reason, &self.starts_at, &self.key];
        own.map(String::len).iter().sum::<usize>()
            + words.sum::<usize>()
            + self.also.iter().map(Trigger::bytes).sum::<usize>()
    }

    /// Takes a further trigger in; what is beyond the limits is counted.
    pub fn join(&mut self, mut other: Trigger) {
        let further = std::mem::take(&mut other.also);
        self.also_left_out += std::mem::take(&mut other.also_left_out);
        for trigger in std::iter::once(other).chain(further) {
            let fits = self.bytes() + trigger.bytes() <= TRIGGER_BYTES_MAX;
            if self.also.len() < ALSO_MAX && fits {
                self.also.push(trigger);
            } else {
                self.also_left_out += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_a_limit_and_what_is_cut_is_counted() {
        let mut trigger = Trigger::new("generic", "é".repeat(VALUE_BYTES_MAX));
        assert_eq!((trigger.reason.len(), trigger.cut), (VALUE_BYTES_MAX, 1));
        for place in 0..WORDS_MAX + 3 {
            trigger.label(&format!("l{place}"), "v");
        }
        assert_eq!((trigger.labels.len(), trigger.cut), (WORDS_MAX, 4));
        trigger.label("l0", "again");
        assert_eq!(trigger.labels["l0"], "again");
        trigger.link("dashboard", "");
        assert!(trigger.links.is_empty());
    }

    #[test]
    fn what_joins_is_kept_or_counted() {
        let mut first = Trigger::new("generic", "first");
        for place in 0..ALSO_MAX + 5 {
            first.join(Trigger::new("generic", format!("{place}")));
        }
        assert_eq!((first.also.len(), first.also_left_out), (ALSO_MAX, 5));
        let mut large = Trigger::new("generic", "large");
        for place in 0..WORDS_MAX {
            large.annotate(&format!("a{place}"), "x".repeat(VALUE_BYTES_MAX));
        }
        let mut several = large.clone();
        several.join(large.clone());
        several.join(large);
        assert_eq!((several.also.len(), several.also_left_out), (0, 2), "512 KiB are enough");
    }
}
