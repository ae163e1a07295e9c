//! The black box on disk: what survives the crash it is there to explain.
//!
//! A spool is a directory with [`PARTS`] files of one size, made when recording begins and
//! written in turn. Each begins like a snapshot: a header, then a checkpoint, which is what
//! is known of the host and the state blocks of the window, as the context needs them. Every
//! block that is sealed from then on is appended. Where a part ends are zeros.
//!
//! Invariant: recording never waits for it. What cannot be written in time costs the spool,
//! and is counted and placed in time.

#[cfg(feature = "capture")]
mod feed;
mod recover;
#[cfg(feature = "capture")]
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "capture")]
pub use feed::SpoolFeed;
pub use recover::{SpoolError, SpoolSession, recover, recover_session, sessions};
#[cfg(feature = "capture")]
pub use write::{Spool, SpoolSetup, SpoolWriter};

/// How many files a spool has: one of them is being made anew, so the others are what is
/// there for certain.
pub const PARTS: usize = 8;

/// What a part's name ends with.
const PART_EXTENSION: &str = "kfr-spool";

/// The file of a part.
fn part_path(directory: &Path, part: usize) -> PathBuf {
    directory.join(format!("{part}.{PART_EXTENSION}"))
}

/// How a spool is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolHealth {
    /// Where it is.
    pub directory: String,
    /// What its files take together.
    pub bytes: u64,
    /// Bytes written since recording began.
    pub written_bytes: u64,
    /// Bytes written a second, over the last ten seconds or more.
    pub bytes_per_s: f64,
    /// Blocks that were not written: the disk was too slow, or full.
    pub missed_blocks: u64,
    /// Events in them.
    pub missed_events: u64,
    /// Why nothing is written at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The snapshot that was made of a recording that ended without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<String>,
}
