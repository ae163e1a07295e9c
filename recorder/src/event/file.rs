//! A file as the kernel described it: what a descriptor or a working directory refers to.

use std::{fmt::Write as _, mem::offset_of, net::SocketAddr};

use super::address::{self, AF_INET, AF_INET6, AF_UNIX};
use super::wire::{
    FILE_PATH_BYTES_MAX, FileHead, INET_SOCKADDR_BYTES, SOCKADDR_BYTES_MAX, SocketHead, file_flag,
};

/// Bytes of a head.
const HEAD_BYTES: usize = size_of::<FileHead>();

/// The most bytes of one description.
pub const FILE_BYTES_MAX: usize = HEAD_BYTES + FILE_PATH_BYTES_MAX;

/// `S_IFMT` and the types of include/uapi/linux/stat.h.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_SOCKET: u32 = 0o140_000;
const TYPE_FIFO: u32 = 0o010_000;

/// Magic numbers of file systems whose files have no path, include/uapi/linux/magic.h.
const ANON_INODE_FS: u32 = 0x0904_1934;
const NAMESPACE_FS: u32 = 0x6e73_6673;
const PID_FS: u32 = 0x5049_4446;
const PIPE_FS: u32 = 0x5049_5045;
const SOCKET_FS: u32 = 0x534f_434b;

/// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`, `SOCK_SEQPACKET`: include/linux/net.h.
const SOCKET_KINDS: [(u16, &str); 4] = [(1, "STREAM"), (2, "DGRAM"), (3, "RAW"), (5, "SEQPACKET")];

/// A description, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// What every file has.
    pub head: FileHead,
    body: &'a [u8],
    raw: &'a [u8],
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket<'a> {
    /// What every socket has.
    pub head: SocketHead,
    /// The addresses as the kernel lays them out; empty where there is none.
    pub local: &'a [u8],
    /// That of the other end.
    pub remote: &'a [u8],
}

impl<'a> File<'a> {
    /// Takes a description off the front of `bytes`; `None` where none is left that is
    /// whole.
    pub fn take(bytes: &mut &'a [u8]) -> Option<File<'a>> {
        let head_bytes = bytes.get(..HEAD_BYTES)?;
        let head = FileHead {
            fd: half(head_bytes, offset_of!(FileHead, fd))?.cast_signed(),
            flags: quarter(head_bytes, offset_of!(FileHead, flags))?,
            bytes: quarter(head_bytes, offset_of!(FileHead, bytes))?,
            mode: half(head_bytes, offset_of!(FileHead, mode))?,
            device: half(head_bytes, offset_of!(FileHead, device))?,
            magic: half(head_bytes, offset_of!(FileHead, magic))?,
            open_flags: half(head_bytes, offset_of!(FileHead, open_flags))?,
            inode: word(head_bytes, offset_of!(FileHead, inode))?,
        };
        let length = usize::from(head.bytes);
        let body = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
        let raw = bytes.get(..HEAD_BYTES + length)?;
        // The last one may come without its padding.
        let end = (HEAD_BYTES + length.next_multiple_of(8)).min(bytes.len());
        *bytes = bytes.get(end..)?;
        Some(File { head, body, raw })
    }

    /// Every description of an attachment.
    pub fn all(mut bytes: &'a [u8]) -> impl Iterator<Item = File<'a>> {
        std::iter::from_fn(move || File::take(&mut bytes))
    }

    /// The first description.
    pub fn first(mut bytes: &'a [u8]) -> Option<File<'a>> {
        File::take(&mut bytes)
    }

    /// Its bytes, to be kept.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether it is a socket.
    pub fn is_socket(&self) -> bool {
        self.head.mode & TYPE_MASK == TYPE_SOCKET && self.head.magic == SOCKET_FS
    }

    /// The socket it is.
    pub fn socket(&self) -> Option<Socket<'a>> {
        if !self.is_socket() {
            return None;
        }
        let head = SocketHead {
            family: quarter(self.body, offset_of!(SocketHead, family))?,
            kind: quarter(self.body, offset_of!(SocketHead, kind))?,
            protocol: quarter(self.body, offset_of!(SocketHead, protocol))?,
            state: quarter(self.body, offset_of!(SocketHead, state))?,
            peer: word(self.body, offset_of!(SocketHead, peer))?,
        };
        let rest = self.body.get(size_of::<SocketHead>()..).unwrap_or_default();
        let inet = address::is_inet(head.family);
        let (local, remote) = match rest.split_at_checked(INET_SOCKADDR_BYTES) {
            Some(ends) if inet => ends,
            _ => (rest, &rest[..0]),
        };
        Some(Socket { head, local, remote })
    }

    /// What `/proc/PID/fd` shows for it: a path, or `socket:[1234]` and its like. A path
    /// that is not known to its beginning begins with three dots.
    pub fn name(&self) -> Vec<u8> {
        let inode = self.head.inode;
        match self.head.magic {
            SOCKET_FS => format!("socket:[{inode}]").into_bytes(),
            PIPE_FS => format!("pipe:[{inode}]").into_bytes(),
            ANON_INODE_FS => {
                [b"anon_inode:", self.body.split(|byte| *byte == 0).next().unwrap_or_default()]
                    .concat()
            }
            PID_FS => b"anon_inode:[pidfd]".to_vec(),
            NAMESPACE_FS => self.namespace(),
            _ => self.path(),
        }
    }

    /// The name of a namespace is made when it is asked for; what the kernel keeps of it
    /// says nothing.
    fn namespace(&self) -> Vec<u8> {
        let name = self.body.split(|byte| *byte == 0).next().unwrap_or_default();
        if name.is_empty() {
            format!("ns:[{}]", self.head.inode).into_bytes()
        } else {
            name.to_vec()
        }
    }

    /// Its path where it has one, the kernel's to the root, and the name is still there.
    pub fn whole_path(&self) -> Option<Vec<u8>> {
        let gone_or_cut = self.head.flags & (file_flag::DELETED | file_flag::CUT) != 0;
        let name = self.name();
        (!gone_or_cut && name.first() == Some(&b'/')).then_some(name)
    }

    /// The same file with another path, or with one that is gone.
    pub fn with_path(&self, path: &[u8], is_gone: bool) -> Vec<u8> {
        let gone = if is_gone { file_flag::DELETED } else { 0 };
        let head = FileHead { flags: self.head.flags | gone, ..self.head };
        with_path(head, path)
    }

    /// The same socket in another state. Nothing else changes.
    pub fn with_state(&self, state: u16) -> Vec<u8> {
        let mut raw = self.raw.to_vec();
        let at = HEAD_BYTES + offset_of!(SocketHead, state);
        if let Some(place) = raw.get_mut(at..at + 2).filter(|_| self.is_socket()) {
            place.copy_from_slice(&state.to_le_bytes());
        }
        raw
    }

    fn path(&self) -> Vec<u8> {
        let names = self.body.strip_suffix(b"\0").unwrap_or(self.body);
        let mut path = Vec::with_capacity(names.len() + 16);
        if self.head.flags & file_flag::CUT != 0 {
            path.extend(b"...");
        }
        if !names.is_empty() {
            for name in names.rsplit(|byte| *byte == 0) {
                path.push(b'/');
                path.extend(name);
            }
        }
        if path.is_empty() {
            path.push(b'/');
        }
        if self.head.flags & file_flag::DELETED != 0 {
            path.extend(b" (deleted)");
        }
        path
    }

    /// Whether it is a pipe without a name.
    pub fn is_pipe(&self) -> bool {
        self.head.mode & TYPE_MASK == TYPE_FIFO && self.head.magic == PIPE_FS
    }
}

/// A description made of what `/proc` shows: `name` as `/proc/PID/fd` has it.
pub fn describe(head: FileHead, name: &[u8], socket: Option<(SocketHead, &[u8])>) -> Vec<u8> {
    let mut head = head;
    let mut body = Vec::new();
    if name.starts_with(b"socket:[") {
        (head.magic, head.mode) = (SOCKET_FS, TYPE_SOCKET | head.mode & !TYPE_MASK);
        let (socket, ends) = socket.unwrap_or_default();
        for number in [socket.family, socket.kind, socket.protocol, socket.state] {
            body.extend(number.to_le_bytes());
        }
        body.extend(socket.peer.to_le_bytes());
        body.extend(ends.get(..ends.len().min(SOCKADDR_BYTES_MAX)).unwrap_or_default());
    } else if name.starts_with(b"pipe:[") {
        (head.magic, head.mode) = (PIPE_FS, TYPE_FIFO | head.mode & !TYPE_MASK);
    } else if let Some(kind) = name.strip_prefix(b"anon_inode:") {
        head.magic = ANON_INODE_FS;
        body.extend(kind);
        body.push(0);
    } else if let Some(path) = name.strip_prefix(b"/") {
        let path = match path.strip_suffix(b" (deleted)") {
            Some(path) => {
                head.flags |= file_flag::DELETED;
                path
            }
            None => path,
        };
        return with_path(head, path);
    } else {
        head.magic = NAMESPACE_FS;
        body.extend(name.get(..name.len().min(FILE_PATH_BYTES_MAX - 1)).unwrap_or_default());
        body.push(0);
    }
    if let Some(inode) = inode_of(name) {
        head.inode = inode;
    }
    with_body(head, &body)
}

/// Names from the last one to the root, as the kernel gives them.
fn with_path(mut head: FileHead, path: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for name in path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if body.len() + name.len() >= FILE_PATH_BYTES_MAX {
            head.flags |= file_flag::CUT;
            break;
        }
        body.extend(name);
        body.push(0);
    }
    with_body(head, &body)
}

fn with_body(head: FileHead, body: &[u8]) -> Vec<u8> {
    let head = FileHead { bytes: body.len() as u16, ..head };
    [&encode(head), body].concat()
}

/// The number in `socket:[1234]`.
fn inode_of(name: &[u8]) -> Option<u64> {
    let name = std::str::from_utf8(name).ok()?;
    name.strip_suffix(']')?.rsplit_once(":[")?.1.parse().ok()
}

/// A head as it lies in the ring of a machine that puts the low byte first, which all do
/// that the recorder runs on.
fn encode(head: FileHead) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(offset_of!(FileHead, fd), &head.fd.to_le_bytes());
    put(offset_of!(FileHead, flags), &head.flags.to_le_bytes());
    put(offset_of!(FileHead, bytes), &head.bytes.to_le_bytes());
    put(offset_of!(FileHead, mode), &head.mode.to_le_bytes());
    put(offset_of!(FileHead, device), &head.device.to_le_bytes());
    put(offset_of!(FileHead, magic), &head.magic.to_le_bytes());
    put(offset_of!(FileHead, open_flags), &head.open_flags.to_le_bytes());
    put(offset_of!(FileHead, inode), &head.inode.to_le_bytes());
    bytes
}

impl Socket<'_> {
    /// `TCP`, `UDP`, `UNIX-STREAM`, `NETLINK`: the protocol as people call it.
    pub fn protocol_name(&self) -> String {
        let head = self.head;
        let kind = SOCKET_KINDS.iter().find(|(number, _)| *number == head.kind & 0xf);
        let kind = kind.map_or("SOCKET", |(_, name)| name);
        let six = if head.family == AF_INET6 { "v6" } else { "" };
        match (head.family, head.protocol) {
            (AF_INET | AF_INET6, 6) => format!("TCP{six}"),
            (AF_INET | AF_INET6, 17) => format!("UDP{six}"),
            (AF_INET | AF_INET6, 1 | 58) => format!("ICMP{six}"),
            (AF_INET | AF_INET6, 132) => format!("SCTP{six}"),
            (AF_INET | AF_INET6, 136) => format!("UDPLITE{six}"),
            (AF_INET | AF_INET6, protocol) => format!("{kind}{six}:{protocol}"),
            (AF_UNIX, _) => format!("UNIX-{kind}"),
            (0, _) => "socket".to_string(),
            (family, _) => {
                let mut text = String::new();
                let set = super::FlagSet::AddressFamily;
                super::names::write_flags(
                    set,
                    u64::from(family),
                    super::syscall::Abi::X86_64,
                    &mut text,
                );
                text.strip_prefix("AF_").unwrap_or(&text).to_string()
            }
        }
    }

    /// Address and port of an end, `None` for one that is not bound or connected.
    pub fn end(address: &[u8]) -> Option<String> {
        let is_set = |end: &SocketAddr| end.port() != 0 || !end.ip().is_unspecified();
        address::inet(address).filter(is_set).map(|end| end.to_string())
    }

    /// The name of a Unix socket: a path, or `@name` for an abstract one.
    pub fn unix_name(&self) -> Option<Vec<u8>> {
        let name =
            self.local.get(2..).filter(|name| self.head.family == AF_UNIX && !name.is_empty())?;
        Some(match name.split_first() {
            Some((0, rest)) => [b"@", rest].concat(),
            _ => name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
        })
    }

    /// `TCP 10.0.0.1:443->10.0.0.2:51034`, `UNIX-STREAM 12->13 "/run/x"`; `inode` is that of
    /// the socket, which stands for it where it has no address.
    pub fn name(&self, inode: u64) -> Vec<u8> {
        let mut text = self.protocol_name();
        match self.head.family {
            AF_UNIX => {
                let _ = write!(text, " {inode}");
                if self.head.peer != 0 {
                    let _ = write!(text, "->{}", self.head.peer);
                }
                let mut text = text.into_bytes();
                if let Some(name) = self.unix_name() {
                    text.extend(b" \"");
                    text.extend(name);
                    text.push(b'"');
                }
                return text;
            }
            _ => match (Self::end(self.local), Self::end(self.remote)) {
                (Some(local), Some(remote)) => {
                    let _ = write!(text, " {local}->{remote}");
                }
                (Some(local), None) => {
                    let _ = write!(text, " {local}");
                }
                (None, Some(remote)) => {
                    let _ = write!(text, " ->{remote}");
                }
                (None, None) => {
                    let _ = write!(text, " {inode}");
                }
            },
        }
        text.into_bytes()
    }
}

fn quarter(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8]) -> Vec<u8> {
        let raw = describe(FileHead::default(), name, None);
        File::first(&raw).unwrap().name()
    }

    #[test]
    fn a_file_is_called_as_proc_calls_it() {
        for name in [
            &b"/"[..],
            b"/etc/passwd",
            b"/tmp/x (deleted)",
            b"/name with \xff and spaces/b",
            b"socket:[4711]",
            b"pipe:[12]",
            b"anon_inode:[eventpoll]",
            b"net:[4026531840]",
        ] {
            assert_eq!(named(name), name, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn a_path_that_is_cut_says_so() {
        let long = [b"/x".repeat(4_000), b"/end".to_vec()].concat();
        let name = named(&long);
        assert!(name.starts_with(b".../x/x") && name.ends_with(b"/end"));
        assert!(name.len() <= FILE_PATH_BYTES_MAX + 3);
    }

    #[test]
    fn sockets_have_the_names_of_their_ends() {
        let mut ends = [0u8; 2 * INET_SOCKADDR_BYTES];
        ends[..8].copy_from_slice(&[2, 0, 1, 187, 10, 0, 0, 1]);
        ends[28..36].copy_from_slice(&[2, 0, 0, 80, 10, 0, 0, 2]);
        let head = SocketHead { family: 2, kind: 1, protocol: 6, state: 1, peer: 0 };
        let raw = describe(FileHead::default(), b"socket:[7]", Some((head, &ends)));
        let file = File::first(&raw).unwrap();
        assert_eq!(file.head.inode, 7);
        let socket = file.socket().unwrap();
        assert_eq!(socket.name(7), b"TCP 10.0.0.1:443->10.0.0.2:80");
        let head = SocketHead { family: 1, kind: 1, protocol: 0, state: 1, peer: 9 };
        let raw = describe(FileHead::default(), b"socket:[7]", Some((head, b"\x01\0/run/x\0")));
        let socket = File::first(&raw).unwrap().socket().unwrap();
        assert_eq!(socket.name(7), b"UNIX-STREAM 7->9 \"/run/x\"");
    }

    #[test]
    fn any_bytes_are_files_or_none() {
        let raw = describe(FileHead { fd: 3, ..FileHead::default() }, b"/a/b", None);
        let mut two = raw.clone();
        two.resize(raw.len().next_multiple_of(8), 0);
        two.extend(&raw);
        assert_eq!(File::all(&two).count(), 2);
        for length in 0..two.len() {
            for file in File::all(&two[..length]) {
                assert_eq!(file.name(), b"/a/b");
            }
        }
        for place in 0..two.len() {
            let mut changed = two.clone();
            changed[place] ^= 0xff;
            for file in File::all(&changed) {
                drop((file.name(), file.socket().map(|socket| socket.name(1))));
            }
        }
    }
}
