//! Sockets as `/proc/PID/net` lists them: what a descriptor `socket:[1234]` is.

use std::{collections::HashMap, fs};

use crate::event::{
    address::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX},
    wire::{INET_SOCKADDR_BYTES, SocketHead},
};

/// Sockets of one network namespace kept at the most.
const SOCKETS_MAX: usize = 262_144;

/// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`.
const STREAM: u16 = 1;
const DATAGRAM: u16 = 2;
const RAW: u16 = 3;

/// States, include/net/tcp_states.h: those of Unix sockets have the same numbers.
const ESTABLISHED: u16 = 1;
const CLOSED: u16 = 7;
const LISTENING: u16 = 10;

/// `__SO_ACCEPTCON`, include/linux/net.h: the socket listens.
const ACCEPTS: u32 = 1 << 16;

/// `SS_CONNECTED`, include/uapi/linux/net.h.
const CONNECTED: u32 = 3;

/// File, family, kind, protocol.
const TABLES: [(&str, u16, u16, u16); 8] = [
    ("tcp", AF_INET, STREAM, 6),
    ("tcp6", AF_INET6, STREAM, 6),
    ("udp", AF_INET, DATAGRAM, 17),
    ("udp6", AF_INET6, DATAGRAM, 17),
    ("raw", AF_INET, RAW, 0),
    ("raw6", AF_INET6, RAW, 0),
    ("icmp", AF_INET, DATAGRAM, 1),
    ("icmp6", AF_INET6, DATAGRAM, 58),
];

/// A socket and its addresses, as [`crate::event::file::describe`] takes them.
pub(super) type Known = (SocketHead, Vec<u8>);

/// Every socket of the network namespace of a process, by its inode.
pub(super) fn of_process(pid: u32) -> HashMap<u64, Known> {
    let mut sockets = HashMap::new();
    for table in SOCKET_TABLES {
        let text = fs::read(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        add(&mut sockets, parse_sockets(table, &text));
    }
    sockets
}

/// The files of `/proc/PID/net` that list sockets.
pub const SOCKET_TABLES: [&str; 10] =
    ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6", "unix", "netlink"];

/// The sockets that `text` lists, which is that of one of [`SOCKET_TABLES`]: inode, what it
/// is, and its addresses, as [`crate::event::file::describe`] takes them.
pub fn parse_sockets<'a>(
    table: &'a str,
    text: &'a [u8],
) -> impl Iterator<Item = (u64, (SocketHead, Vec<u8>))> + 'a {
    let known = TABLES.iter().find(|(name, ..)| *name == table);
    let head = known.map(|(_, family, kind, protocol)| SocketHead {
        family: *family,
        kind: *kind,
        protocol: *protocol,
        ..SocketHead::default()
    });
    text.split(|byte| *byte == b'\n').filter_map(move |line| match (head, table) {
        (Some(head), _) => inet(line, head),
        (None, "unix") => unix(line),
        (None, "netlink") => netlink(line),
        (None, _) => None,
    })
}

fn add(sockets: &mut HashMap<u64, Known>, found: impl Iterator<Item = (u64, Known)>) {
    for (inode, known) in found {
        if sockets.len() >= SOCKETS_MAX {
            return;
        }
        sockets.insert(inode, known);
    }
}

/// A line of `tcp` and its like: number, local and remote address, state, and the inode as
/// the tenth word (net/ipv4/tcp_ipv4.c, `get_tcp4_sock`).
fn inet(line: &[u8], head: SocketHead) -> Option<(u64, Known)> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split_whitespace().take(10).collect();
    let [_, local, remote, state, _, _, _, _, _, inode] = words.as_slice() else { return None };
    let mut addresses = vec![0; 2 * INET_SOCKADDR_BYTES];
    let (first, second) = addresses.split_at_mut(INET_SOCKADDR_BYTES);
    put_address(local, head.family, first)?;
    put_address(remote, head.family, second)?;
    let state = u16::from_str_radix(state, 16).ok()?;
    Some((inode.parse().ok()?, (SocketHead { state, ..head }, addresses)))
}

/// `0100007F:1F90`: the words of the address as numbers of this machine, and the port.
fn put_address(text: &str, family: u16, out: &mut [u8]) -> Option<()> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    out.get_mut(..2)?.copy_from_slice(&family.to_le_bytes());
    out.get_mut(2..4)?.copy_from_slice(&port.to_be_bytes());
    let start = if family == AF_INET { 4 } else { 8 };
    if address.len() != if family == AF_INET { 8 } else { 32 } {
        return None;
    }
    for (place, word) in address.as_bytes().chunks(8).enumerate() {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        let at = start + 4 * place;
        out.get_mut(at..at + 4)?.copy_from_slice(&word.to_ne_bytes());
    }
    Some(())
}

/// A line of `unix`: address, references, protocol, flags, kind, state, inode, path
/// (net/unix/af_unix.c, `unix_seq_show`).
fn unix(line: &[u8]) -> Option<(u64, Known)> {
    let mut rest = line;
    let mut word = || {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let tail = rest.get(start..)?;
        let end = tail.iter().position(|byte| *byte == b' ').unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        rest = after;
        std::str::from_utf8(word).ok()
    };
    let (_, _, _) = (word()?, word()?, word()?);
    let flags = u32::from_str_radix(word()?, 16).ok()?;
    let kind = u16::from_str_radix(word()?, 16).ok()?;
    let connected = u32::from_str_radix(word()?, 16).ok()? == CONNECTED;
    let inode = word()?.parse().ok()?;
    let state = match (flags & ACCEPTS != 0, connected) {
        (true, _) => LISTENING,
        (_, true) => ESTABLISHED,
        _ => CLOSED,
    };
    let head = SocketHead { family: AF_UNIX, kind, state, ..SocketHead::default() };
    let path = rest.strip_prefix(b" ").unwrap_or_default();
    let mut address = Vec::new();
    if !path.is_empty() {
        address.extend(AF_UNIX.to_le_bytes());
        match path.strip_prefix(b"@") {
            Some(name) => address.extend([b"\0", name].concat()),
            None => address.extend(path),
        }
    }
    Some((inode, (head, address)))
}

/// A line of `netlink`: address, protocol, and the inode last
/// (net/netlink/af_netlink.c, `netlink_seq_show`).
fn netlink(line: &[u8]) -> Option<(u64, Known)> {
    let line = std::str::from_utf8(line).ok()?;
    let protocol = line.split_whitespace().nth(1)?.parse().ok()?;
    let inode = line.split_whitespace().nth(9)?.parse().ok()?;
    let head = SocketHead { family: AF_NETLINK, kind: RAW, protocol, state: CLOSED, peer: 0 };
    Some((inode, (head, Vec::new())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{File, file, wire::FileHead};

    fn shown(inode: u64, known: &Known) -> String {
        let name = format!("socket:[{inode}]");
        let socket = Some((known.0, known.1.as_slice()));
        let raw = file::describe(FileHead::default(), name.as_bytes(), socket);
        let name = File::first(&raw).unwrap().socket().unwrap().name(inode);
        String::from_utf8(name).unwrap()
    }

    #[test]
    fn lines_of_proc_net_are_read() {
        let tcp = SocketHead { family: AF_INET, kind: STREAM, protocol: 6, ..Default::default() };
        let line = b"   0: 0100007F:1F90 0200000A:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100";
        let (inode, known) = inet(line, tcp).unwrap();
        assert_eq!(shown(inode, &known), "TCP 127.0.0.1:8080->10.0.0.2:50000");
        assert_eq!(known.0.state, ESTABLISHED);
        let tcp6 = SocketHead { family: AF_INET6, ..tcp };
        let line = b"   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 12 1 0";
        let (inode, known) = inet(line, tcp6).unwrap();
        assert_eq!(shown(inode, &known), "TCPv6 [::1]:80");
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 33 /run/a b";
        let (inode, known) = unix(line).unwrap();
        assert_eq!(shown(inode, &known), "UNIX-STREAM 33 \"/run/a b\"");
        assert_eq!(known.0.state, LISTENING);
        let (inode, known) = unix(b"0: 2 0 0 0002 01 34 @name").unwrap();
        assert_eq!(shown(inode, &known), "UNIX-DGRAM 34 \"@name\"");
        let (inode, known) = unix(b"0: 2 0 0 0001 03 35").unwrap();
        assert_eq!((shown(inode, &known).as_str(), known.0.state), ("UNIX-STREAM 35", ESTABLISHED));
        let (inode, known) = netlink(b"0 15 4 00000001 0 0 0 2 0 99").unwrap();
        assert_eq!(shown(inode, &known), "NETLINK 99");
        for line in
            [&b""[..], b"  sl  local_address rem_address   st tx_queue", b"a b c d e f g", b"\xff"]
        {
            assert!(inet(line, tcp).is_none() && unix(line).is_none() && netlink(line).is_none());
        }
    }
}
