#![doc = include_str!("FORMAT.md")]

mod ahead;
mod layout;
mod read;
mod recover;
mod scrub;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::ClockAnchor,
    loss::{Ledger, Missing},
    privacy::PrivacyFacts,
    trigger::Trigger,
    window::codec::BlockMeta,
};

pub(crate) use ahead::Ahead;
pub use layout::{EXTENSION, FORMAT_VERSION};
pub use read::{BlockEntry, Damage, SnapshotError, SnapshotReader, Verdict, verify};
pub(crate) use recover::note_damage;
pub use recover::{RecoverError, Recovered, recover};
pub use scrub::{ScrubError, Scrubbed, Wanted, scrub};
pub(crate) use write::write_frames;
pub use write::{
    Contents, Target, WriteError, Written, header_frame, remove_leftovers, snapshot_name, write,
};

/// What the header of a part of a spool says beside what that of a snapshot does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolPart {
    /// The recording it is of: boot and moment of its start.
    pub session: String,
    /// Parts of a session are numbered in the order in which they were written.
    pub sequence: u64,
    /// Bytes of the checkpoint behind the header.
    pub checkpoint_bytes: u64,
}

/// How far back each class of events goes, in nanoseconds of the kernel's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowInfo {
    /// The oldest event's time.
    pub start_ns: u64,
    /// The moment of the freeze.
    pub end_ns: u64,
    /// What the window was set to, nanoseconds.
    pub asked_ns: u64,
    /// The oldest event of each class that has any.
    pub start_ns_by_class: BTreeMap<String, u64>,
}

impl WindowInfo {
    /// What these blocks cover, in a window of `asked_ns` that was frozen at `end_ns`.
    pub fn of<'a>(
        metas: impl Iterator<Item = &'a BlockMeta>,
        end_ns: u64,
        asked_ns: u64,
    ) -> WindowInfo {
        let mut info = WindowInfo { start_ns: end_ns, end_ns, asked_ns, ..WindowInfo::default() };
        for meta in metas {
            info.start_ns = info.start_ns.min(meta.first_ns);
            let first = info.start_ns_by_class.entry(meta.class.name().to_string());
            first.and_modify(|first| *first = (*first).min(meta.first_ns)).or_insert(meta.first_ns);
        }
        info
    }
}

/// The header: everything about a file that is known when it is begun. Unknown
/// fields are ignored, so that later versions can add some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The layout of the file.
    pub format_version: u32,
    /// Who wrote it.
    pub program: String,
    /// The host's name.
    pub host: String,
    /// Its kernel's release.
    pub kernel: String,
    /// Its machine, as `uname -m` says it: the numbers of calls depend on it.
    pub arch: String,
    /// The boot's id.
    pub boot_id: String,
    /// CPUs of the host.
    pub cpus: u32,
    /// Both clocks at the freeze.
    pub clock: ClockAnchor,
    /// Why it was taken.
    pub trigger: Trigger,
    /// What it covers.
    pub window: WindowInfo,
    /// Microseconds the hand-over took.
    pub freeze_us: u64,
    /// Microseconds it took to read the rings up to the moment of the request.
    pub drain_us: u64,
    /// `--memory`, bytes.
    pub memory_bytes: u64,
    /// What this kernel could not give, and what could not be had for this snapshot.
    pub missing: Vec<Missing>,
    /// Threads of the context that were left out, or have no program and arguments,
    /// because there was no room.
    pub context_cut: u64,
    /// Where every event is.
    pub ledger: Ledger,
    /// What was masked.
    pub privacy: PrivacyFacts,
    /// What a part of a spool says beside; no snapshot has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolPart>,
}

/// The last words of a complete file: what is known only at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Milliseconds from the request until every block was durable.
    pub total_ms: u64,
    /// Bytes of all blocks of class `context`, compressed.
    pub context_bytes: u64,
    /// Events by kind.
    pub events: BTreeMap<String, u64>,
}
