//! What others watch the recorder by: metrics, and whether it lives and records.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{Serving, refusal::Refusal, routes::blocking};
use crate::{
    clock,
    dispatch::{
        keep,
        metrics::{Process, Readings},
    },
    recorder::Health,
};

/// An event of our own is made this often, and must come through the whole path.
pub const CANARY_EVERY: Duration = Duration::from_secs(5);

/// Older than this, the path is taken for broken.
pub const CANARY_AGE_MAX: Duration = Duration::from_secs(20);

/// The ingest thread visits the rings ten times a second; after this it hangs.
pub const VISIT_AGE_MAX: Duration = Duration::from_secs(10);

/// Whoever asks more often gets the same reading: it cuts every ring.
const READ_EVERY: Duration = Duration::from_millis(500);

/// The last reading.
#[derive(Clone, Default)]
pub(super) struct Reading(Arc<Mutex<Option<(Instant, Health)>>>);

impl Reading {
    fn fresh(&self) -> Option<Health> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, health) = last.as_ref()?;
        (at.elapsed() < READ_EVERY).then(|| health.clone())
    }

    fn keep(&self, health: &Health) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), health.clone()));
    }
}

pub(super) async fn metrics(State(serving): State<Serving>) -> Result<Response, Refusal> {
    let text = blocking(move || text(&serving)).await?.map_err(Refusal::unavailable)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, text).into_response())
}

fn text(serving: &Serving) -> Result<String, String> {
    let dumper = serving.dispatcher.dumper();
    let health = match serving.reading.fresh() {
        Some(health) => health,
        None => {
            let health = dumper.handle().health().map_err(|error| error.to_string())?;
            serving.reading.keep(&health);
            health
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let canary_age = dumper.handle().pulse().canary_age_ns().map(Duration::from_nanos);
    let readings = Readings {
        health: &health,
        stored: keep::stored(dumper.directory()).ok(),
        canary_at: canary_age.map_or(0.0, |age| now.saturating_sub(age).as_secs_f64()),
        process: process(serving),
        spool: dumper.handle().spool(),
    };
    serving.dispatcher.metrics().text(&readings).map_err(|error| error.to_string())
}

/// The daemon itself, by what `/proc` says of it.
pub(super) fn process(serving: &Serving) -> Process {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Process {
        cpu_seconds: clock::own_cpu_ns() as f64 / 1e9,
        resident_bytes: pages.unwrap_or_default() * rustix::param::page_size() as u64,
        started_at: now.saturating_sub(serving.started.elapsed()).as_secs_f64(),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64),
    }
}

/// Whether the thread that reads the rings goes on.
pub(super) async fn healthy(State(serving): State<Serving>) -> Result<&'static str, Refusal> {
    let age = serving.dispatcher.dumper().handle().pulse().visit_age_ns();
    match age.map(Duration::from_nanos) {
        Some(age) if age < VISIT_AGE_MAX => Ok("ok\n"),
        Some(age) => Err(Refusal::unavailable(format!(
            "the rings were visited {} s ago: the recording hangs",
            age.as_secs()
        ))),
        None => Err(Refusal::unavailable("the rings were never visited")),
    }
}

/// Whether events come through the whole path, by one of our own.
pub(super) async fn ready(State(serving): State<Serving>) -> Result<&'static str, Refusal> {
    let age = serving.dispatcher.dumper().handle().pulse().canary_age_ns();
    match age.map(Duration::from_nanos) {
        Some(age) if age < CANARY_AGE_MAX => Ok("recording\n"),
        Some(age) => Err(Refusal::unavailable(format!(
            "no event of our own came through for {} s",
            age.as_secs()
        ))),
        None => Err(Refusal::unavailable("not recording yet")),
    }
}
