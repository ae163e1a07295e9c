//! The commands' side of the socket.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{DumpAnswer, DumpOrder, Problem, Status, TriggerAnswer};

/// The largest answer that is not a snapshot.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Asking the daemon failed.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens.
    NoDaemon(PathBuf, io::Error),
    /// We may not ask.
    NotPermitted(PathBuf),
    /// It said no.
    Refused(Problem),
    /// It did not speak as expected.
    Protocol(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoDaemon(path, error) => write!(
                f,
                "no recorder answers on {}: {error}; start one with `recorder record`, or name \
                 its socket with --socket",
                path.display()
            ),
            ClientError::NotPermitted(path) => write!(
                f,
                "may not use {}: run as root, or join the group that owns the socket",
                path.display()
            ),
            ClientError::Refused(problem) => write!(f, "{}", problem.detail),
            ClientError::Protocol(what) => {
                write!(f, "the recorder's answer is not understood: {what}")
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> ClientError {
        ClientError::Protocol(error.to_string())
    }
}

/// A connection to the daemon.
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted(path.to_path_buf()),
            _ => ClientError::NoDaemon(path.to_path_buf(), error),
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; its errors come back with the request.
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// Asks for a snapshot and waits until it is durable.
    pub async fn dump(&mut self, order: &DumpOrder) -> Result<DumpAnswer, ClientError> {
        let body = serde_json::to_vec(order).map_err(|e| ClientError::Protocol(e.to_string()))?;
        let response = self.send(Method::POST, "/v1/dump", body).await?;
        answer(response).await
    }

    /// Asks how the daemon is doing.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        let response = self.send(Method::GET, "/v1/status", Vec::new()).await?;
        answer(response).await
    }

    /// Hands a trigger in, and answers what becomes of it.
    pub async fn trigger(
        &mut self,
        body: &serde_json::Value,
    ) -> Result<TriggerAnswer, ClientError> {
        let response =
            self.send(Method::POST, "/v1/trigger/generic", body.to_string().into_bytes()).await?;
        answer(response).await
    }

    /// Hands a finished snapshot to `take`, piece by piece.
    pub async fn fetch(
        &mut self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<io::Result<()>, ClientError> {
        let response = self.send(Method::GET, &format!("/v1/snapshots/{name}"), Vec::new()).await?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let taken = frame.data_ref().map_or(Ok(()), |data| take(data));
            if taken.is_err() {
                return Ok(taken);
            }
        }
        Ok(Ok(()))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "recorder")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        let response = self.sender.send_request(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let bytes = whole(response).await?;
        let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
            title: "error".to_string(),
            status,
            detail: String::from_utf8_lossy(&bytes).into_owned(),
        });
        Err(ClientError::Refused(problem))
    }
}

async fn answer<T: serde::de::DeserializeOwned>(
    response: Response<Incoming>,
) -> Result<T, ClientError> {
    let bytes = whole(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol(error.to_string()))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let collected = limited.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| ClientError::Protocol(error.to_string()))
}
