//! What a file and the status say of masking.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Secret;

/// How many secrets were masked, by the name of their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaskedCounts {
    /// The counts. Kinds of newer programs are kept as they are.
    pub by_kind: BTreeMap<String, u64>,
}

impl MaskedCounts {
    pub(super) fn of(counts: impl Iterator<Item = (Secret, u64)>) -> MaskedCounts {
        let some = counts.filter(|(_, count)| *count > 0);
        MaskedCounts { by_kind: some.map(|(s, count)| (s.name().to_string(), count)).collect() }
    }

    /// All of them. A file may say any numbers.
    pub fn total(&self) -> u64 {
        self.by_kind.values().fold(0, |total, count| total.saturating_add(*count))
    }
}

/// Whether secrets were masked while it was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskState {
    /// Nothing is said: the file is of a program that masked nothing.
    #[default]
    None,
    /// From the beginning on.
    On,
    /// Somebody had switched it off.
    Off,
    /// It was switched on or off meanwhile.
    Partly,
}

impl MaskState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            MaskState::None => "none",
            MaskState::On => "on",
            MaskState::Off => "off",
            MaskState::Partly => "partly",
        }
    }
}

/// What a file says of what was masked in it. Fields that are missing are nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivacyFacts {
    /// Whether secrets were masked while it was recorded.
    pub mask: MaskState,
    /// The version of the rules, [`super::RULES_VERSION`].
    pub rules: u32,
    /// How many names the operator had added.
    pub words: u64,
    /// What was masked since the recording began, until this file was made.
    pub masked: MaskedCounts,
    /// What is kept of what programs read, write, send and receive.
    #[serde(skip_serializing_if = "PayloadFacts::is_nothing")]
    pub payload: PayloadFacts,
    /// What was masked in it later, by whom, the last one last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrubs: Vec<ScrubFacts>,
}

/// Bytes kept of the data of each call, by class; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadFacts {
    /// Of what is read and written.
    pub file_bytes: u16,
    /// Of what is sent and received.
    pub network_bytes: u16,
}

impl PayloadFacts {
    /// Whether none is kept.
    pub fn is_nothing(&self) -> bool {
        *self == PayloadFacts::default()
    }
}

/// The most scrubs a file tells of; of more the last ones.
pub const SCRUBS_MAX: usize = 16;

/// That a file was scrubbed. What was looked for is not said: it would be back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubFacts {
    /// Who did it.
    pub program: String,
    /// The version of its rules.
    pub rules: u32,
    /// How many further names were asked for.
    pub words: u64,
    /// How many texts.
    pub texts: u64,
    /// What was masked.
    pub masked: MaskedCounts,
    /// How many pieces of data of programs were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub payload_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
