//! What can be asked: snapshots, status, metrics, health. The doors for triggers are
//! in [`super::doors`].

use std::{io, path::PathBuf, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path as UrlPath, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;

use super::{
    DumpAnswer, DumpOrder, Serving, Status, TriggerStatus, doors, refusal::Refusal, serve::Caller,
    watch,
};
use crate::{
    dispatch::{Order, OrderError, keep},
    json::{self, JsonError},
    recorder::{DEADLINE_MIN, DumpError},
    snapshot::WriteError,
    trigger::{Trigger, signature},
};

/// The largest request body: Alertmanager sends whole groups.
const BODY_BYTES_MAX: usize = 2 << 20;

/// How long a client may take to send it.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The longest `post`: whoever wants more asks twice.
const POST_NS_MAX: u64 = 600_000_000_000;

/// Everything there is.
pub(super) fn router(serving: Serving) -> Router {
    Router::new()
        .route("/v1/dump", post(dump))
        .route("/v1/status", get(status))
        .route("/v1/snapshots", get(snapshots))
        .route("/v1/snapshots/{name}", get(snapshot))
        .route("/v1/snapshots/{name}/keep", post(keep).delete(release))
        .route("/v1/trigger/alertmanager", post(doors::alertmanager))
        .route("/v1/trigger/grafana", post(doors::grafana).put(doors::grafana))
        .route("/v1/trigger/pagerduty", post(doors::pagerduty))
        .route("/v1/trigger/generic", post(doors::generic).put(doors::generic))
        .route("/metrics", get(watch::metrics))
        .route("/healthz", get(watch::healthy))
        .route("/-/healthy", get(watch::healthy))
        .route("/readyz", get(watch::ready))
        .route("/-/ready", get(watch::ready))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .with_state(serving)
}

/// The body of a request that must be JSON: a page in a browser cannot send that to
/// another host without asking first.
pub(super) async fn json_body(request: Request) -> Result<(HeaderMap, Bytes), Refusal> {
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") && !kind.ends_with("+json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON: send content-type: application/json",
        ));
    }
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {BODY_BYTES_MAX} bytes"),
        )
    };
    let said = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if said.and_then(|length| length.parse::<u64>().ok()) > Some(BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(bytes)) => Ok((head.headers, bytes)),
        Ok(Err(error)) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                if error.is::<http_body_util::LengthLimitError>() {
                    return Err(too_large());
                }
                cause = error.source();
            }
            Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body ended early: {error}")))
        }
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {} s", BODY_WITHIN.as_secs()),
        )),
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // An empty body asks for the defaults.
    let body = if body.is_empty() { b"{}" } else { body };
    json::parse(body).map_err(|error| {
        let status = match &error {
            JsonError::Text(error) if error.is_data() => StatusCode::UNPROCESSABLE_ENTITY,
            JsonError::Text(_) => StatusCode::BAD_REQUEST,
            JsonError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Refusal::new(status, format!("the body is not understood: {error}"))
    })
}

/// Whoever may use the control socket may do all of this; over TCP it takes a token,
/// because a snapshot tells everything.
fn may_control(serving: &Serving, caller: Caller, headers: &HeaderMap) -> Result<(), Refusal> {
    if caller == Caller::Control {
        return Ok(());
    }
    let config = serving.dispatcher.config();
    let tokens = &config.access.tokens;
    if tokens.is_empty() {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "over TCP this takes a token: name a file with one as token_file in [access], or use \
             the control socket",
        ));
    }
    let said = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    signature::bearer(said, tokens).map_err(|error| Refusal::new(StatusCode::UNAUTHORIZED, error))
}

async fn dump(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<DumpAnswer>, Refusal> {
    may_control(&serving, caller, request.headers())?;
    let (_, body) = json_body(request).await?;
    let order: DumpOrder = parsed(&body)?;
    let post_ns = order.post_ns.unwrap_or_default();
    if post_ns > POST_NS_MAX {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "post is at most ten minutes"));
    }
    let mut trigger = Trigger::new("manual", order.reason);
    order.labels.into_iter().for_each(|(name, value)| trigger.label(&name, value));
    trigger.at_ns = crate::clock::monotonic_ns();
    if post_ns > 0 {
        tokio::time::sleep(Duration::from_nanos(post_ns)).await;
    }
    let since_ns = order.since_ns.map(|ns| ns.saturating_add(post_ns));
    let deadline = order.deadline_ns.map(Duration::from_nanos);
    if deadline.is_some_and(|deadline| deadline < DEADLINE_MIN) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the deadline is at least {} ms", DEADLINE_MIN.as_millis()),
        ));
    }
    let order = Order { trigger, since_ns, keep: order.keep, deadline };
    let dispatcher = serving.dispatcher;
    let taken = blocking(move || dispatcher.order(order)).await?;
    let written = taken.map_err(|error| Refusal::new(status_of(&error), error))?.written;
    let name = written.path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Json(DumpAnswer {
        name: name.into_owned(),
        path: written.path.to_string_lossy().into_owned(),
        bytes: written.bytes,
        total_ms: written.total_ms,
    }))
}

/// Does what may take long on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::failed)
}

/// The client turns the status into its exit code.
fn status_of(error: &OrderError) -> StatusCode {
    let error = match error {
        OrderError::NoRoom(_) => return StatusCode::INSUFFICIENT_STORAGE,
        OrderError::Dump(error) => error.root(),
    };
    match error {
        DumpError::Write(WriteError::Directory(..) | WriteError::File(..)) => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        DumpError::Write(WriteError::Exists(_)) => StatusCode::CONFLICT,
        DumpError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        DumpError::Recorder(_) | DumpError::NotRecording | DumpError::Shared(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

async fn status(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Status>, Refusal> {
    may_control(&serving, caller, &headers)?;
    let dispatcher = &serving.dispatcher;
    let dumper = dispatcher.dumper();
    let handle = dumper.handle().clone();
    let mut health = blocking(move || handle.health()).await?.map_err(Refusal::unavailable)?;
    health.rules.firings.extend(dispatcher.pressure_firings());
    let (planned, in_last_hour) = dispatcher.planned();
    Ok(Json(Status {
        health,
        program: dumper.host().program.clone(),
        pid: std::process::id(),
        uptime_s: serving.started.elapsed().as_secs_f64(),
        resident_bytes: watch::process(&serving).resident_bytes,
        snapshots: dumper.directory().to_string_lossy().into_owned(),
        listen: serving.address.map(|address| address.to_string()),
        triggers: TriggerStatus { planned, in_last_hour: in_last_hour as u64 },
        missing: dumper.host().missing.clone(),
        confinement: serving.confined.clone(),
        spool: dumper.handle().spool(),
    }))
}

async fn snapshots(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Vec<keep::Listed>>, Refusal> {
    may_control(&serving, caller, &headers)?;
    let directory = serving.dispatcher.dumper().directory().to_path_buf();
    let listed = blocking(move || keep::list(&directory)).await?;
    listed.map(Json).map_err(Refusal::failed)
}

/// The file of a snapshot that is there.
fn there(serving: &Serving, name: &str) -> Result<PathBuf, Refusal> {
    let path = serving.dispatcher.path(name);
    if keep::is_snapshot_name(name) && path.is_file() {
        Ok(path)
    } else {
        Err(Refusal::new(StatusCode::NOT_FOUND, "there is no snapshot of this name"))
    }
}

async fn snapshot(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    UrlPath(name): UrlPath<String>,
) -> Result<Response, Refusal> {
    may_control(&serving, caller, &headers)?;
    let opened = tokio::fs::File::open(there(&serving, &name)?).await;
    let file = opened.map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error))?;
    let body = Body::from_stream(chunks(file));
    Ok(([(header::CONTENT_TYPE, "application/zstd")], body).into_response())
}

async fn keep(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    UrlPath(name): UrlPath<String>,
) -> Result<StatusCode, Refusal> {
    mark(&serving, caller, &headers, &name, true)
}

async fn release(
    State(serving): State<Serving>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    UrlPath(name): UrlPath<String>,
) -> Result<StatusCode, Refusal> {
    mark(&serving, caller, &headers, &name, false)
}

fn mark(
    serving: &Serving,
    caller: Caller,
    headers: &HeaderMap,
    name: &str,
    stays: bool,
) -> Result<StatusCode, Refusal> {
    may_control(serving, caller, headers)?;
    there(serving, name)?;
    let marked = keep::mark(serving.dispatcher.dumper().directory(), name, stays);
    marked.map_err(|error| Refusal::new(StatusCode::INSUFFICIENT_STORAGE, error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file in pieces, so that its length does not matter.
fn chunks(file: tokio::fs::File) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold(Some(file), async |file| {
        let mut file = file?;
        let mut buffer = vec![0; 256 * 1024];
        match file.read(&mut buffer).await {
            Ok(0) => None,
            Ok(read) => {
                buffer.truncate(read);
                Some((Ok(Bytes::from(buffer)), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}
