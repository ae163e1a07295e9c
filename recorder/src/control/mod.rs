//! HTTP on the Unix socket, for the recorder's own commands and for
//! `curl --unix-socket`; the same over TCP, for alerting systems and monitors.
//!
//! Invariant: the daemon never opens a path a client named.

mod client;
mod doors;
mod refusal;
mod routes;
mod serve;
mod socket;
mod watch;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use serve::serve;
pub use socket::{Bound, SocketError, Wanted, bind};
pub use watch::{CANARY_AGE_MAX, CANARY_EVERY, VISIT_AGE_MAX};

use crate::{dispatch::Dispatcher, privilege::Confined, recorder::Health};

/// What the requests are answered from.
#[derive(Clone)]
pub struct Serving {
    dispatcher: Arc<Dispatcher>,
    started: Instant,
    address: Option<SocketAddr>,
    confined: Confined,
    reading: watch::Reading,
}

impl Serving {
    /// From these: the dispatcher, when recording began, the address of TCP, and what
    /// was given up.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        started: Instant,
        address: Option<SocketAddr>,
        confined: Confined,
    ) -> Serving {
        Serving { dispatcher, started, address, confined, reading: watch::Reading::default() }
    }
}

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
    /// Whether it is never removed to make room.
    pub keep: bool,
    /// How long it may take, nanoseconds: what is not written by then is left out.
    pub deadline_ns: Option<u64>,
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
    /// Its resident set, bytes.
    pub resident_bytes: u64,
    /// Where snapshots go.
    pub snapshots: String,
    /// The address of TCP, where there is one.
    pub listen: Option<String>,
    /// What triggers are up to.
    pub triggers: TriggerStatus,
    /// What this kernel does not give.
    pub missing: Vec<crate::loss::Missing>,
    /// What the daemon has given up.
    #[serde(default)]
    pub confinement: Confined,
    /// The black box on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<crate::spool::SpoolHealth>,
}

/// What triggers are up to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TriggerStatus {
    /// The snapshot that waits for its moment.
    pub planned: Option<String>,
    /// Triggered snapshots in the last hour.
    pub in_last_hour: u64,
}

/// What becomes of a trigger: `POST /v1/trigger/...`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerAnswer {
    /// The snapshot it will be in, or is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its file: there when it is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it was planned for another trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<bool>,
    /// Why nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
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
