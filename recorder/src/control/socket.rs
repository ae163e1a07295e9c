//! Where requests come in: the control socket, and TCP when it is wanted; made here,
//! or inherited from a service manager.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

/// The group that may use the control socket where it exists and nothing else is
/// said.
const GROUP: &str = "recorder";

/// The socket could not be made.
#[derive(Debug)]
pub enum SocketError {
    /// Another recorder listens there.
    Taken(PathBuf),
    /// Something is there that is no socket.
    NotASocket(PathBuf),
    /// It cannot be made.
    Io(PathBuf, io::Error),
    /// There is no such group.
    Group(String),
    /// The address cannot be listened on.
    Tcp(SocketAddr, io::Error),
    /// What was inherited cannot be used.
    Inherited(String),
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
            SocketError::Group(name) => {
                write!(f, "there is no group {name}: make it, or change socket_group")
            }
            SocketError::Tcp(address, error) => {
                write!(f, "cannot listen on {address}: {error}; name another address with --listen")
            }
            SocketError::Inherited(what) => {
                write!(f, "the sockets of the service manager cannot be used: {what}")
            }
        }
    }
}

impl std::error::Error for SocketError {}

/// Where requests come in, ours as long as this lives.
pub struct Bound {
    pub(super) control: UnixListener,
    pub(super) tcp: Option<TcpListener>,
    /// To be removed at the end: a socket that was inherited is not ours.
    path: Option<PathBuf>,
    /// Locked: a second recorder sees it even before anybody listens.
    _lock: Option<fs::File>,
}

/// What is to be listened on.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The control socket.
    pub socket: &'a Path,
    /// Its group, by name or number.
    pub group: Option<&'a str>,
    /// An address, when TCP is wanted.
    pub listen: Option<SocketAddr>,
}

impl Bound {
    /// The address of TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

/// Takes what a service manager hands over, and makes what is wanted beside it.
pub fn bind(wanted: &Wanted<'_>) -> Result<Bound, SocketError> {
    let (control, mut tcp) = inherited()?;
    if let Some(address) = wanted.listen.filter(|_| tcp.is_none()) {
        let listener =
            TcpListener::bind(address).map_err(|error| SocketError::Tcp(address, error))?;
        tcp = Some(listener);
    }
    let mut bound = match control {
        Some(control) => Bound { control, tcp: None, path: None, _lock: None },
        None => make(wanted.socket, wanted.group)?,
    };
    let failed = |error| SocketError::Io(wanted.socket.to_path_buf(), error);
    bound.control.set_nonblocking(true).map_err(failed)?;
    if let Some(tcp) = &tcp {
        tcp.set_nonblocking(true).map_err(failed)?;
    }
    bound.tcp = tcp;
    Ok(bound)
}

/// Sockets of systemd (sd_listen_fds(3)): one Unix socket, one of TCP, or none.
fn inherited() -> Result<(Option<UnixListener>, Option<TcpListener>), SocketError> {
    let mut sockets = listenfd::ListenFd::from_env();
    let (mut control, mut tcp) = (None, None);
    for place in 0..sockets.len() {
        let twice = |kind: &str| SocketError::Inherited(format!("there are two {kind} sockets"));
        if let Ok(Some(listener)) = sockets.take_unix_listener(place) {
            set_private(&listener)?;
            if control.replace(listener).is_some() {
                return Err(twice("Unix"));
            }
        } else if let Ok(Some(listener)) = sockets.take_tcp_listener(place) {
            set_private(&listener)?;
            if tcp.replace(listener).is_some() {
                return Err(twice("TCP"));
            }
        } else {
            return Err(SocketError::Inherited(format!(
                "number {place} listens neither on a Unix socket nor on TCP"
            )));
        }
    }
    Ok((control, tcp))
}

/// A hook must not inherit it in turn.
fn set_private(socket: &impl std::os::fd::AsFd) -> Result<(), SocketError> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| SocketError::Inherited(error.to_string()))
}

/// Makes the socket at `path`. One that a dead recorder left is replaced.
fn make(path: &Path, group: Option<&str>) -> Result<Bound, SocketError> {
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
    let control = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let bound = Bound { control, tcp: None, path: Some(path.to_path_buf()), _lock: Some(lock) };
    let group_id = match group {
        Some(name) => Some(group_id(name).ok_or_else(|| SocketError::Group(name.to_string()))?),
        None if rustix::process::geteuid().is_root() => group_id(GROUP),
        None => None,
    };
    if let Some(id) = group_id {
        std::os::unix::fs::chown(path, None, Some(id)).map_err(failed)?;
    }
    Ok(bound)
}

/// The number of a group of this host (group(5)).
fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two recorders lock two files.
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            // The next recorder replaces it.
            tracing::warn!("the socket {} stays: {error}", path.display());
        }
    }
}
