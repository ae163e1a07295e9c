//! Rules on the stream itself: a process that dies by a signal or for want of
//! memory, a call that is slow, calls that fail too often, TCP resets and
//! retransmissions, pressure.
//!
//! A rule is written as [`Rule`], checked once, and judged in one of two places:
//! [`Rules`] looks at every event on the ingest thread, [`PressureSampler`] at what
//! the kernel says of pressure, a few times a second. Both answer [`Firing`]s; what
//! becomes of them is somebody else's.
//!
//! Invariants: an event costs two compares unless it is one that a rule could be
//! about. Everything has a limit: rules, the words of a rule, the names that are
//! remembered, what waits to be judged. What a limit costs is counted.

mod calls;
mod check;
mod gate;
mod judge;
mod names;
mod pressure;
mod progress;
mod stream;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use pressure::{Pressure, PressureSampler, SAMPLE_EVERY, parse_pressure};
pub use progress::Progress;
pub use stream::{KnownThread, Rules, RulesHealth};

/// Rules at the most: a set of them is one word.
pub const RULES_MAX: usize = 64;
/// Bytes of the name of a rule.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of the pattern for a command.
pub const COMMAND_BYTES_MAX: usize = 64;
/// Labels of a rule.
pub const LABELS_MAX: usize = 32;
/// Bytes of the name of a label.
pub const LABEL_NAME_BYTES_MAX: usize = 64;
/// Bytes of the value of a label.
pub const LABEL_BYTES_MAX: usize = 1024;
/// Words in one of the lists of a rule: calls, signals, errors.
pub const WORDS_MAX: usize = 256;
/// Events a second a rule can ask for: it remembers when each of the last ones was.
pub const PER_SECOND_MAX: u32 = 10_000;

/// One `[[rule]]` as it is written. What belongs to which `on` stands at each key;
/// a key that does not belong is refused.
///
/// ```toml
/// [[rule]]
/// name = "crash"
/// on = "signal"
/// command = "nginx*"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in the snapshot, the log and the metrics: letters, digits,
    /// `-`, `_` and `.`, at most 64. No two rules have the same.
    pub name: String,
    /// What it is about.
    pub on: On,
    /// Whose: the name of a process (of its first thread) or of the thread itself, with
    /// `*` for any letters and `?` for one; anybody's by default. The kernel keeps 15
    /// bytes of a name, so of what stands before the first `*` or `?` the first 15
    /// count. For `signal`, `oom_kill`, `slow_call` and `failures`.
    pub command: Option<String>,
    /// Which signals, for `signal`. By default those by which a program ends through a
    /// fault of its own: `SIGILL`, `SIGTRAP`, `SIGABRT`, `SIGBUS`, `SIGFPE`, `SIGSEGV`,
    /// `SIGXCPU`, `SIGXFSZ`, `SIGSYS`. Of those that dump core `SIGQUIT` is left out,
    /// which somebody sends on purpose; so is `SIGKILL`, by which service managers and
    /// containers end programs every day: `oom_kill` has the case that is worth a rule.
    pub signals: Option<Vec<String>>,
    /// Which calls, for `slow_call` and `failures`: names and groups (`fsync`, `%file`).
    /// By default all; for `slow_call` without those that wait by nature (for an event,
    /// a lock, a child, a peer, a terminal), which count only when named one by one.
    pub calls: Option<Vec<String>>,
    /// A call that lasted longer is slow, for `slow_call`: from 1ms to 24h. A call is
    /// judged when it returns; one that never does is in every snapshot, but fires no
    /// rule.
    pub longer_than: Option<String>,
    /// Which errors, for `failures`: names (`ECONNREFUSED`). By default all but those
    /// that are daily life: `EAGAIN`, `EINTR`, `ETIMEDOUT`, `EINPROGRESS`, and a call
    /// that is made again after a signal.
    pub errors: Option<Vec<String>>,
    /// How many within a second, any second, for `failures`, `tcp_resets` (sent or
    /// received; between two programs of this host each end counts) and
    /// `tcp_retransmits`: 1 to 10,000.
    pub per_second: Option<u32>,
    /// Pressure on what, for `pressure`.
    pub resource: Option<Resource>,
    /// Whether some or all tasks wait, for `pressure`; `some` by default, where there
    /// is such a thing.
    pub kind: Option<PressureKind>,
    /// The share of the time in which tasks waited, for `pressure`: 1 to 100.
    pub percent: Option<u32>,
    /// Over how long that share is taken, for `pressure`: 500ms to 1m, 1s by default.
    pub over: Option<String>,
    /// How far back the snapshot goes: the trigger's own by default.
    pub before: Option<String>,
    /// How long after the firing it is taken: the trigger's own by default.
    pub after: Option<String>,
    /// For how long after a firing the rule is silent: 1s to 7 days, 5m by default.
    pub again_after: Option<String>,
    /// Labels of the snapshot.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// A process ends by a signal.
    Signal,
    /// The kernel chooses a process to kill for want of memory.
    OomKill,
    /// A call lasts too long.
    SlowCall,
    /// Calls fail too often.
    Failures,
    /// Too many TCP resets.
    TcpResets,
    /// Too many TCP segments are sent again.
    TcpRetransmits,
    /// Tasks wait for something of which there is too little.
    Pressure,
}

/// What there can be too little of (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
    /// Processors, while they serve interrupts; Linux 6.1, where it counts their time.
    Irq,
}

impl Resource {
    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
            Resource::Irq => "irq",
        }
    }

    /// Where the kernel says how it is.
    pub fn path(self) -> &'static str {
        match self {
            Resource::Cpu => "/proc/pressure/cpu",
            Resource::Memory => "/proc/pressure/memory",
            Resource::Io => "/proc/pressure/io",
            Resource::Irq => "/proc/pressure/irq",
        }
    }
}

/// How many tasks wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PressureKind {
    /// At least one.
    Some,
    /// All that are not idle.
    Full,
}

impl PressureKind {
    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            PressureKind::Some => "some",
            PressureKind::Full => "full",
        }
    }
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// There are more than [`RULES_MAX`].
    TooMany(usize),
    /// This is no name of a rule.
    Name(String),
    /// Two rules have this name.
    NameTaken(String),
    /// A key is missing, does not belong, or has a value that is none.
    Key {
        /// The rule's name.
        rule: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it, and what would be right.
        why: String,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::TooMany(count) => {
                write!(f, "there are {count} rules: at most {RULES_MAX} can be")
            }
            RuleError::Name(name) => write!(
                f,
                "`{}` is no name of a rule: 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`",
                name.escape_default()
            ),
            RuleError::NameTaken(name) => write!(f, "two rules are called `{name}`"),
            RuleError::Key { rule, key, why } => write!(f, "rule `{rule}`: {key}: {why}"),
        }
    }
}

impl std::error::Error for RuleError {}

/// A rule holds: there is to be a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firing {
    /// The rule's name.
    pub rule: String,
    /// What happened, in words.
    pub reason: String,
    /// The rule's labels, and what it fired at: `command`, `pid`, `signal`, `call`,
    /// `error`, `resource`, as far as they apply. A label of the rule wins.
    pub labels: BTreeMap<String, String>,
    /// When it happened, on the kernel's clock.
    pub ts_ns: u64,
    /// How far back the snapshot is to go, where the rule says so.
    pub before_ns: Option<u64>,
    /// How much later it is to be taken, where the rule says so.
    pub after_ns: Option<u64>,
}
