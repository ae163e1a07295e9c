//! Connections: how many, for how long, and who is behind one.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{Bound, Serving, routes};

/// Connections at the same time, over the socket and over TCP each. One more is told
/// to try later and closed.
const CONNECTIONS_MAX: usize = 128;

/// Connections beyond that for root: whoever is in the group cannot shut it out.
const CONNECTIONS_ROOT: usize = 8;

/// How long a client may take for the head of a request, and how long it may be
/// silent between two.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// What a client that is one too many is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 87\r\n\r\n\
    {\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections: try again\"}";

/// After an error of accept(2), such as too many open files.
const AFTER_AN_ERROR: Duration = Duration::from_millis(100);

/// Who is behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody whom the rights of the control socket let in.
    Control,
    /// Anybody who reaches the address.
    Tcp(IpAddr),
}

impl Caller {
    /// Whether it is on this host.
    pub(super) fn is_local(self) -> bool {
        match self {
            Caller::Control => true,
            Caller::Tcp(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// Answers requests until the future is dropped.
pub async fn serve(bound: &Bound, serving: Serving) -> io::Result<()> {
    let control = UnixListener::from_std(bound.control.try_clone()?)?;
    let tcp = bound.tcp.as_ref().map(|tcp| tcp.try_clone().and_then(TcpListener::from_std));
    let full = serving.dispatcher.metrics().limit("connections");
    let router = routes::router(serving);
    let tcp = match tcp.transpose()? {
        Some(listener) => tokio::spawn(over_tcp(listener, router.clone(), full.clone())),
        None => tokio::spawn(std::future::pending()),
    };
    // Dropped with this future, it ends too.
    let _tcp = AbortOnDrop(tcp);
    over_socket(control, router, full).await
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn over_socket(listener: UnixListener, router: Router, full: IntCounter) -> io::Result<()> {
    let (places, root) =
        (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(CONNECTIONS_ROOT)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                recover(error).await;
                continue;
            }
        };
        let is_root = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
        let place = Arc::clone(&places).try_acquire_owned();
        let place =
            place.or_else(
                |full| {
                    if is_root { Arc::clone(&root).try_acquire_owned() } else { Err(full) }
                },
            );
        match place {
            Ok(place) => {
                tokio::spawn(attend(stream, router.clone(), Caller::Control, place));
            }
            Err(_) => {
                full.inc();
                // The client may be gone, or not read: then it learns nothing.
                let _ = stream.try_write(TOO_MANY);
            }
        }
    }
}

async fn over_tcp(listener: TcpListener, router: Router, full: IntCounter) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                recover(error).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(attend(stream, router.clone(), Caller::Tcp(peer.ip()), place));
            }
            Err(_) => {
                full.inc();
                let _ = stream.try_write(TOO_MANY);
            }
        }
    }
}

async fn recover(error: io::Error) {
    tracing::warn!("a connection could not be accepted: {error}");
    tokio::time::sleep(AFTER_AN_ERROR).await;
}

/// Answers the requests of one connection.
async fn attend<S>(stream: S, router: Router, caller: Caller, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(caller)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES_MAX);
    // What goes wrong here is the client's: it hung up, or spoke no HTTP.
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(?caller, "a connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_one_too_many_is_whole() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}: {body}");
        let problem: super::super::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 503);
    }
}
