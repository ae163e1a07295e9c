//! The daemon's side of the socket.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path as UrlPath, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rustix::fs::FlockOperation;
use tokio::{io::AsyncReadExt as _, net::UnixListener};

use super::{DumpAnswer, DumpOrder, Problem, Status};
use crate::{
    recorder::{DumpError, DumpRequest, Dumper, Handle},
    snapshot::{Trigger, WriteError},
};

/// The largest request body.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The longest `post`: whoever wants more asks twice.
const POST_NS_MAX: u64 = 600_000_000_000;

/// The socket could not be made.
#[derive(Debug)]
pub enum SocketError {
    /// Another recorder listens there.
    Taken(PathBuf),
    /// Something is there that is no socket.
    NotASocket(PathBuf),
    /// It cannot be made.
    Io(PathBuf, io::Error),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketError::Taken(path) => write!(
                f,
                "another recorder is running on {}: stop it, or name another socket with --socket",
                path.display()
            ),
            SocketError::NotASocket(path) => write!(
                f,
                "{} is there and is not a socket: remove it, or name another one with --socket",
                path.display()
            ),
            SocketError::Io(path, error) => {
                write!(f, "cannot listen on {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for SocketError {}

/// The socket, ours as long as this lives.
pub struct Bound {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    /// Locked: a second recorder sees it even before anybody listens.
    _lock: fs::File,
}

/// Takes the socket at `path`. One that a dead recorder left is replaced.
pub fn bind(path: &Path) -> Result<Bound, SocketError> {
    let failed = |error| SocketError::Io(path.to_path_buf(), error);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.exists()) {
        fs::create_dir_all(parent).map_err(failed)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(failed)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(SocketError::Taken(path.to_path_buf())),
        Err(error) => return Err(failed(error.into())),
    }
    match fs::symlink_metadata(path) {
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt as _;
            if !found.file_type().is_socket() {
                return Err(SocketError::NotASocket(path.to_path_buf()));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::Taken(path.to_path_buf()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound { listener, path: path.to_path_buf(), _lock: lock })
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two recorders lock two files.
        let _ = fs::remove_file(&self.path);
    }
}

/// What the requests are answered from.
#[derive(Clone)]
pub struct Serving {
    /// The recording.
    pub handle: Handle,
    /// Takes snapshots.
    pub dumper: Arc<Dumper>,
    /// When recording began.
    pub started: Instant,
}

/// Answers requests until the future is dropped.
pub async fn serve(bound: Bound, serving: Serving) -> io::Result<()> {
    let listener = UnixListener::from_std(bound.listener.try_clone()?)?;
    let router = Router::new()
        .route("/v1/dump", post(dump))
        .route("/v1/status", get(status))
        .route("/v1/snapshots/{name}", get(snapshot))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(serving);
    axum::serve(listener, router).await
}

fn problem(status: StatusCode, detail: impl fmt::Display) -> Response {
    let problem = Problem {
        title: status.canonical_reason().unwrap_or("error").to_string(),
        status: status.as_u16(),
        detail: detail.to_string(),
    };
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, Json(problem)).into_response()
}

async fn dump(
    State(serving): State<Serving>,
    order: Result<Json<DumpOrder>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return problem(rejection.status(), rejection.body_text()),
    };
    let post_ns = order.post_ns.unwrap_or_default();
    if post_ns > POST_NS_MAX {
        return problem(StatusCode::BAD_REQUEST, "post is at most ten minutes");
    }
    let at_ns = crate::clock::monotonic_ns();
    if post_ns > 0 {
        tokio::time::sleep(Duration::from_nanos(post_ns)).await;
    }
    let trigger = Trigger {
        source: "manual".to_string(),
        reason: order.reason,
        labels: order.labels,
        at_ns,
        ..Trigger::default()
    };
    let request =
        DumpRequest { trigger, since_ns: order.since_ns.map(|ns| ns.saturating_add(post_ns)) };
    let dumper = Arc::clone(&serving.dumper);
    let taken = tokio::task::spawn_blocking(move || dumper.take(request));
    match taken.await {
        Ok(Ok(written)) => {
            let name = written.path.file_name().unwrap_or_default().to_string_lossy();
            Json(DumpAnswer {
                name: name.into_owned(),
                path: written.path.to_string_lossy().into_owned(),
                bytes: written.bytes,
                total_ms: written.total_ms,
            })
            .into_response()
        }
        Ok(Err(error)) => {
            tracing::error!("{error}");
            problem(status_of(&error), error)
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// The client turns the status into its exit code.
fn status_of(error: &DumpError) -> StatusCode {
    match error {
        DumpError::Write(WriteError::Directory(..) | WriteError::File(..)) => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        DumpError::Write(WriteError::Exists(_)) => StatusCode::CONFLICT,
        DumpError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        DumpError::Recorder(_) | DumpError::NotRecording => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn status(State(serving): State<Serving>) -> Response {
    let handle = serving.handle.clone();
    let health = match tokio::task::spawn_blocking(move || handle.health()).await {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => return problem(StatusCode::SERVICE_UNAVAILABLE, error),
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let uptime_s = serving.started.elapsed().as_secs_f64();
    Json(Status {
        health,
        program: serving.dumper.host().program.clone(),
        pid: std::process::id(),
        uptime_s,
        snapshots: serving.dumper.directory().to_string_lossy().into_owned(),
        missing: serving.dumper.host().missing.clone(),
    })
    .into_response()
}

async fn snapshot(State(serving): State<Serving>, UrlPath(name): UrlPath<String>) -> Response {
    let known = !name.contains(['/', '\0']) && !name.starts_with('.') && name.ends_with(".kfr");
    if !known {
        return problem(StatusCode::NOT_FOUND, "there is no snapshot of this name");
    }
    let path = serving.dumper.directory().join(&name);
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) => return problem(StatusCode::NOT_FOUND, error),
    };
    let body = Body::from_stream(chunks(file));
    ([(header::CONTENT_TYPE, "application/zstd")], body).into_response()
}

/// A file in pieces, so that its length does not matter.
fn chunks(
    file: tokio::fs::File,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send {
    futures_util::stream::unfold(Some(file), async |file| {
        let mut file = file?;
        let mut buffer = vec![0; 256 * 1024];
        match file.read(&mut buffer).await {
            Ok(0) => None,
            Ok(read) => {
                buffer.truncate(read);
                Some((Ok(bytes::Bytes::from(buffer)), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}
