//! Sockets, as ss prints them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::ser::SerializeMap as _;

use super::{HostState, Object, printable, write_object, write_table};
use crate::{
    context::{Descriptors, OpenFile, Tables, ThreadFacts},
    event::{File, address::is_inet, file::Socket, names},
    export::put_bytes,
};

/// `SOCK_DGRAM`, include/linux/net.h: several may have the same other end.
const DATAGRAM: u16 = 2;

/// A socket and who has it.
struct SocketRow<'a> {
    open: &'a OpenFile,
    /// The other end of a Unix socket, where somebody has it open.
    peer: Option<u64>,
    owners: Vec<(u32, &'a ThreadFacts, i32)>,
}

impl HostState {
    /// Every socket that a descriptor refers to, by its inode.
    fn sockets(&self) -> BTreeMap<u64, SocketRow<'_>> {
        let mut sockets: BTreeMap<u64, SocketRow<'_>> = BTreeMap::new();
        for Tables { facts, files, .. } in self.processes.tables() {
            for (fd, open) in files.into_iter().flat_map(Descriptors::iter) {
                let Some(file) = open.file().filter(File::is_socket) else { continue };
                let owner = (facts.pid, facts, fd);
                let row = sockets.entry(file.head.inode);
                let row = row.or_insert_with(|| SocketRow { open, peer: None, owners: Vec::new() });
                // Of several descriptions the last one knows its addresses best.
                if open.as_of_ns > row.open.as_of_ns {
                    row.open = open;
                }
                row.owners.push(owner);
            }
        }
        let said: Vec<(u64, u64, bool)> = sockets
            .iter()
            .filter_map(|(inode, row)| {
                let head = row.open.file()?.socket()?.head;
                let is_pair = head.kind != DATAGRAM;
                sockets.contains_key(&head.peer).then_some((*inode, head.peer, is_pair))
            })
            .collect();
        // Who connects has no other end until it is accepted, which only that end tells.
        let back = said.iter().filter(|(.., is_pair)| *is_pair);
        let back = back.map(|(one, other, _)| (*other, *one));
        for (one, other) in back.chain(said.iter().map(|(one, other, _)| (*one, *other))) {
            if let Some(row) = sockets.get_mut(&one) {
                row.peer = Some(other);
            }
        }
        sockets
    }

    pub(super) fn write_sockets(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = Vec::new();
        for (inode, row) in self.sockets() {
            let Some(socket) = row.open.file().and_then(|file| file.socket()) else { continue };
            let mark = if self.is_uncertain(row.open.as_of_ns) { "?" } else { "" };
            let [local, peer] = ends(&socket, inode, row.peer);
            let owner = |(pid, facts, fd): &(u32, &ThreadFacts, i32)| {
                format!("{}:{pid}:{fd}", printable(&facts.comm))
            };
            let owners: Vec<String> = row.owners.iter().map(owner).collect();
            rows.push(vec![
                format!("{}{mark}", socket.protocol_name().to_lowercase()),
                state_name(&socket),
                printable(&local),
                printable(&peer),
                owners.join(" "),
            ]);
        }
        write_table(&["NETID", "STATE", "LOCAL", "PEER", "PROCESS:PID:FD"], &rows, out)
    }

    pub(super) fn write_sockets_json(&self, out: &mut dyn Write) -> io::Result<()> {
        for (inode, row) in self.sockets() {
            let Some(socket) = row.open.file().and_then(|file| file.socket()) else { continue };
            write_object(out, |object| self.socket(inode, &row, &socket, object))?;
        }
        Ok(())
    }

    fn socket(
        &self,
        inode: u64,
        row: &SocketRow<'_>,
        socket: &Socket<'_>,
        object: &mut Object<'_, '_>,
    ) -> Result<(), serde_json::Error> {
        object.serialize_entry("protocol", &socket.protocol_name())?;
        object.serialize_entry("state", &state_name(socket))?;
        object.serialize_entry("inode", &inode)?;
        for (name, address) in [("local", socket.local), ("remote", socket.remote)] {
            if let Some(end) = Socket::end(address) {
                object.serialize_entry(name, &end)?;
            }
        }
        if let Some(name) = socket.unix_name() {
            put_bytes(object, "local", &name, false)?;
        }
        if let Some(peer) = row.peer {
            object.serialize_entry("peer_inode", &peer)?;
        }
        let owners: Vec<serde_json::Value> = row
            .owners
            .iter()
            .map(|(pid, facts, fd)| {
                let comm = String::from_utf8_lossy(&facts.comm);
                serde_json::json!({"pid": pid, "comm": comm, "fd": fd})
            })
            .collect();
        object.serialize_entry("owners", &owners)?;
        if self.is_uncertain(row.open.as_of_ns) {
            object.serialize_entry("uncertain", &true)?;
        }
        Ok(())
    }
}

fn state_name(socket: &Socket<'_>) -> String {
    names::tcp_state(u32::from(socket.head.state)).into_owned()
}

/// Address and port, or the name and the inodes of a Unix socket.
fn ends(socket: &Socket<'_>, inode: u64, peer: Option<u64>) -> [Vec<u8>; 2] {
    let inet = is_inet(socket.head.family);
    if inet {
        let end = |address| Socket::end(address).unwrap_or_else(|| "*".to_string()).into_bytes();
        return [end(socket.local), end(socket.remote)];
    }
    let mut local = socket.unix_name().unwrap_or_else(|| b"*".to_vec());
    local.extend(format!(" {inode}").into_bytes());
    let peer = peer.map_or("*".to_string(), |peer| peer.to_string());
    [local, peer.into_bytes()]
}
