//! Connections that came to be in another state since a call last described them.
//!
//! The kernel tells it with both ends and no descriptor. So the last change of each pair
//! of ends is kept until enough have come, and then goes into the tables: a connection
//! costs no walk over everything that is open.

use std::collections::HashMap;

use super::tables::OpenFile;
use crate::event::{Event, address::is_inet, file::Socket, wire::INET_SOCKADDR_BYTES};

/// `IPPROTO_TCP`, include/uapi/linux/in.h.
const TCP: u16 = 6;

/// Changes kept until they go into the tables.
pub(super) const CHANGES_MAX: usize = 8_192;

/// Both ends of a connection.
type Ends = [[u8; INET_SOCKADDR_BYTES]; 2];

/// What a change takes in the table.
pub(super) const CHANGE_BYTES: u64 = (size_of::<Ends>() + size_of::<Change>() + 16) as u64;

#[derive(Clone, Copy, Debug)]
struct Change {
    state: u16,
    ts_ns: u64,
}

/// The last change of each connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    changes: HashMap<Ends, Change>,
}

impl Connections {
    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.changes.len() as u64 * CHANGE_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether there is room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= CHANGES_MAX
    }

    /// Takes note of a [`Kind::TcpState`](crate::event::Kind::TcpState).
    pub(super) fn change(&mut self, event: &Event<'_>) {
        let end =
            |index| event.attachment(index).and_then(|attached| attached.bytes.try_into().ok());
        if let (Some(local), Some(remote)) = (end(0), end(1)) {
            let change = Change { state: event.number(1) as u16, ts_ns: event.ts_ns };
            self.changes.insert([local, remote], change);
        }
    }

    /// A socket in the state it is in now, where that is not the one it was described in.
    /// An older change is that of another socket with the same ends.
    pub(super) fn changed(&self, open: &OpenFile) -> Option<Vec<u8>> {
        let file = open.file()?;
        let socket = file.socket().filter(is_tcp)?;
        let ends = [socket.local.try_into().ok()?, socket.remote.try_into().ok()?];
        let change = self.changes.get(&ends).filter(|change| change.ts_ns > open.as_of_ns)?;
        (change.state != socket.head.state).then(|| file.with_state(change.state))
    }
}

fn is_tcp(socket: &Socket<'_>) -> bool {
    socket.head.protocol == TCP && is_inet(socket.head.family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::{Descriptors, Processes, ThreadFacts},
        event::{
            Attached, File, Kind, file,
            syscall::Abi,
            wire::{FileHead, SocketHead},
        },
    };

    const ESTABLISHED: u16 = 1;
    const CLOSE_WAIT: u16 = 8;

    fn end(port: u16) -> [u8; INET_SOCKADDR_BYTES] {
        let mut end = [0; INET_SOCKADDR_BYTES];
        end[0] = 2;
        end[2..4].copy_from_slice(&port.to_be_bytes());
        end
    }

    /// Process 7 with a connection from port 1 to port 2, described at 100.
    fn connected() -> Processes {
        let mut processes = Processes::default();
        processes.insert(7, ThreadFacts { pid: 7, ..ThreadFacts::default() });
        processes.files.set(7, Descriptors::default());
        let head = SocketHead { family: 2, kind: 1, protocol: TCP, state: ESTABLISHED, peer: 0 };
        let ends = [end(1), end(2)].concat();
        let file = file::describe(FileHead::default(), b"socket:[5]", Some((head, &ends)));
        let open =
            OpenFile { file: file.into(), close_on_exec: false, as_of_ns: 100, took_over: false };
        processes.change_files(7, 100, |files| files.install(3, open));
        processes
    }

    fn change(processes: &mut Processes, ts_ns: u64, from: u16, state: u16) {
        let mut event = Event::new(Kind::TcpState, ts_ns);
        for number in [u64::from(ESTABLISHED), u64::from(state)] {
            event.push_number(number);
        }
        let ends = [end(from), end(2)];
        for (index, end) in ends.iter().enumerate() {
            event.attach(Attached { index: index as u8, flags: 0, bytes: end });
        }
        processes.apply(&event, Abi::X86_64);
    }

    fn state(processes: &Processes) -> u16 {
        let file = processes.file(7, 3).and_then(OpenFile::file).unwrap();
        file.socket().unwrap().head.state
    }

    /// What had happened to a connection before the window began was not in the baseline.
    #[test]
    fn a_connection_is_in_the_state_of_its_last_change() {
        let mut processes = connected();
        change(&mut processes, 99, 1, CLOSE_WAIT);
        change(&mut processes, 110, 9, CLOSE_WAIT);
        processes.settle();
        assert_eq!(state(&processes), ESTABLISHED, "older, and another's");
        let bytes = processes.bytes();
        change(&mut processes, 120, 1, CLOSE_WAIT);
        assert!(processes.bytes() > bytes);
        processes.settle();
        assert_eq!((state(&processes), processes.bytes()), (CLOSE_WAIT, bytes));
        let file = processes.file(7, 3).and_then(OpenFile::file).unwrap();
        assert_eq!(File::first(file.raw()), Some(file));
    }

    #[test]
    fn changes_are_bounded_and_none_is_forgotten() {
        let mut processes = connected();
        change(&mut processes, 110, 1, CLOSE_WAIT);
        for number in 0..3 * CHANGES_MAX as u64 {
            change(&mut processes, 120 + number, 10 + number as u16, ESTABLISHED);
            assert!(processes.connections.changes.len() <= CHANGES_MAX);
        }
        assert_eq!(state(&processes), CLOSE_WAIT);
    }
}
