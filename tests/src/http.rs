//! HTTP as others speak it to the recorder: a request is written as bytes, so that a
//! wrong one can be written too.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::LIMIT;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its head, lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A server, and how it is reached.
#[derive(Clone, Debug)]
pub enum Server {
    /// By a socket.
    Unix(std::path::PathBuf),
    /// By an address.
    Tcp(SocketAddr),
}

/// A connection to one.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Server {
    /// The socket at a path.
    pub fn unix(path: &Path) -> Server {
        Server::Unix(path.to_path_buf())
    }

    /// Connects.
    #[track_caller]
    pub fn connect(&self) -> Box<dyn Stream> {
        let limit = Some(LIMIT);
        match self {
            Server::Unix(path) => {
                let stream = UnixStream::connect(path).expect("a connection");
                stream.set_read_timeout(limit).expect("a limit");
                stream.set_write_timeout(limit).expect("a limit");
                Box::new(stream)
            }
            Server::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, LIMIT).expect("a connection");
                stream.set_read_timeout(limit).expect("a limit");
                stream.set_write_timeout(limit).expect("a limit");
                Box::new(stream)
            }
        }
    }

    /// Sends a request with JSON and answers what came back.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send("POST", path, &all, body)
    }

    /// Asks for a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Sends a request and answers what came back.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: recorder\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let mut bytes = request.into_bytes();
        bytes.extend(body);
        let mut stream = self.connect();
        // Whoever refuses a body may have hung up before all of it was sent.
        let _ = stream.write_all(&bytes);
        read_answer(&mut stream).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }
}

/// Reads an answer up to the end of the connection; `None` where there is none.
pub fn read_answer(stream: &mut dyn Stream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset behind an answer does not take it back.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.contains("transfer-encoding: chunked");
    assert!(!chunked, "answers of the doors have a length: {head}");
    Some(Answer { status, head, body: body.to_vec() })
}

/// How long something took, and what it answered.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let answer = work();
    (answer, began.elapsed())
}
