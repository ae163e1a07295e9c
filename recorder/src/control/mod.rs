//! The control socket: HTTP on a Unix socket, for the recorder's own commands and
//! for `curl --unix-socket`.
//!
//! Invariant: the daemon never opens a path a client named.

mod client;
mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use server::{Bound, Serving, SocketError, bind, serve};

use crate::recorder::Health;

/// Asks for a snapshot: `POST /v1/dump`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DumpOrder {
    /// In the asker's words.
    pub reason: String,
    /// Only this far back, nanoseconds.
    pub since_ns: Option<u64>,
    /// Go on for so long before the snapshot is taken, nanoseconds.
    pub post_ns: Option<u64>,
    /// Kept in the file.
    pub labels: BTreeMap<String, String>,
}

/// A snapshot that is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpAnswer {
    /// Where it is.
    pub path: String,
    /// Its name in the snapshot directory.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// From the request until it was durable.
    pub total_ms: u64,
}

/// How the daemon is doing: `GET /v1/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The recording.
    #[serde(flatten)]
    pub health: Health,
    /// The daemon's program and version.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it began to record.
    pub uptime_s: f64,
    /// Where snapshots go.
    pub snapshots: String,
    /// What this kernel does not give.
    pub missing: Vec<crate::loss::Missing>,
}

/// An error, as RFC 9457 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In general.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// In particular, and what to do.
    pub detail: String,
}
