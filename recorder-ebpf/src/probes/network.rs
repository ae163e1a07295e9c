//! TCP: changes of state, retransmissions, resets.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{AttachmentHead, INET_SOCKADDR_BYTES},
};

use super::{Subject, subject};
use crate::{
    emit::{Scope, header, now_ns},
    maps::{LISTENERS, Owner, SOCKET_OWNERS},
};

/// `AF_INET`, include/linux/socket.h.
const AF_INET: u16 = 2;
/// `AF_INET6`.
const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`, include/uapi/linux/in.h.
const IPPROTO_TCP: u16 = 6;
/// States, include/net/tcp_states.h.
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// `struct sockaddr_in6`; the front is `struct sockaddr_in`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Address {
    family: u16,
    /// Network byte order.
    pub(crate) port: u16,
    /// IPv4: the address. IPv6: flow label.
    pub(crate) word: u32,
    pub(crate) address: [u32; 4],
    scope: u32,
}

const _: () = assert!(size_of::<Address>() == INET_SOCKADDR_BYTES);

impl Address {
    const fn none() -> Address {
        Address { family: 0, port: 0, word: 0, address: [0; 4], scope: 0 }
    }
}

/// Both ends of a connection, as they are attached to each record.
#[repr(C)]
struct Ends {
    local_head: AttachmentHead,
    local: Address,
    remote_head: AttachmentHead,
    remote: Address,
}

impl Ends {
    #[inline(always)]
    fn new(local: Address, remote: Address) -> Ends {
        let bytes = INET_SOCKADDR_BYTES as u16;
        Ends {
            local_head: AttachmentHead { index: 0, flags: 0, bytes },
            local,
            remote_head: AttachmentHead { index: 1, flags: 0, bytes },
            remote,
        }
    }
}

/// A change of state as it lies in the ring.
#[repr(C)]
struct StateRecord {
    fixed: record::TcpState,
    ends: Ends,
}

/// A retransmission or a reset as it lies in the ring: the three kinds are alike.
#[cfg(feature = "btf")]
#[repr(C)]
struct SegmentRecord {
    fixed: record::TcpRetransmit,
    ends: Ends,
}

/// The owner of a socket as far as it is known, as `pid_tgid`.
#[inline(always)]
fn owner_of(socket: u64) -> u64 {
    match SOCKET_OWNERS.get_ptr_mut(&socket) {
        // SAFETY: a map value; a torn read would need two writers of one socket.
        Some(owner) => unsafe { u64::from((*owner).pid) << 32 | u64::from((*owner).tid) },
        None => 0,
    }
}

/// The current thread owns `socket`.
#[inline(always)]
fn own(socket: u64) -> Owner {
    // SAFETY: the helper only reads two numbers.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let owner = Owner { pid: (pid_tgid >> 32) as u32, tid: pid_tgid as u32 };
    // When the map is full the owner of the oldest socket is forgotten.
    let _ = SOCKET_OWNERS.insert(&socket, &owner, 0);
    owner
}

/// Who listens is known by network namespace and port: containers use the same ports.
#[inline(always)]
fn listener_key(netns: u32, port: u16) -> u64 {
    u64::from(netns) << 16 | u64::from(port)
}

#[inline(always)]
fn state_changed(socket: u64, netns: u32, old: u32, new: u32, local: Address, remote: Address) {
    if subject(0) == Subject::Nobody {
        return;
    }
    let listener = listener_key(netns, u16::from_be(local.port));
    if new == TCP_SYN_SENT {
        own(socket);
    } else if new == TCP_LISTEN {
        let owner = own(socket);
        let _ = LISTENERS.insert(&listener, &owner, 0);
    } else if (new == TCP_SYN_RECV || new == TCP_ESTABLISHED) && owner_of(socket) == 0 {
        if let Some(owner) = LISTENERS.get_ptr_mut(&listener) {
            // SAFETY: a map value, copied.
            let owner = unsafe { *owner };
            let _ = SOCKET_OWNERS.insert(&socket, &owner, 0);
        }
    }
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    let bytes = size_of::<StateRecord>() as u64;
    let mut record = StateRecord {
        fixed: record::TcpState { header: header(Kind::TcpState, now, owner_of(socket)), old, new },
        ends: Ends::new(local, remote),
    };
    record.fixed.header.bytes = bytes as u16;
    record.fixed.header.attachments = 2;
    // SAFETY: `record` is on the stack and as long as is said.
    unsafe { scope.offer(Kind::TcpState, (&raw mut record).cast(), bytes, now) };
    scope.leave();
    if old == TCP_LISTEN && new == TCP_CLOSE {
        let _ = LISTENERS.remove(&listener);
    }
    if new == TCP_CLOSE {
        let _ = SOCKET_OWNERS.remove(&socket);
    }
}

#[cfg(feature = "btf")]
#[inline(always)]
fn segment(kind: Kind, owner: u64, state: u32, local: Address, remote: Address) {
    if subject(0) == Subject::Nobody {
        return;
    }
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    let bytes = size_of::<SegmentRecord>() as u64;
    let mut record = SegmentRecord {
        fixed: record::TcpRetransmit { header: header(kind, now, owner), state },
        ends: Ends::new(local, remote),
    };
    record.fixed.header.bytes = bytes as u16;
    record.fixed.header.attachments = 2;
    // SAFETY: `record` is on the stack and as long as is said.
    unsafe { scope.offer(kind, (&raw mut record).cast(), bytes, now) };
    scope.leave();
}

#[cfg(feature = "btf")]
mod attached {
    use aya_ebpf::{
        helpers::generated::bpf_get_current_pid_tgid, macros::btf_tracepoint,
        programs::BtfTracePointContext,
    };
    use recorder_ebpf::schema::Kind;

    use super::{
        AF_INET, AF_INET6, Address, IPPROTO_TCP, TCP_CLOSE, own, owner_of, segment, state_changed,
    };
    use crate::{
        maps::{
            FDTABLE_FD, FILE_PRIVATE_DATA, FILES_FDT, NET_INUM, SKB_HEAD, SKB_NETWORK_HEADER,
            SKB_TRANSPORT_HEADER, SOCK_DADDR, SOCK_DADDR6, SOCK_DPORT, SOCK_FAMILY, SOCK_NET,
            SOCK_NUM, SOCK_PROTOCOL, SOCK_SADDR, SOCK_SADDR6, SOCK_SPORT, SOCK_STATE, SOCKET_SK,
            TASK_FILES,
        },
        probes::read_field,
    };

    /// Local and remote address of a socket.
    #[inline(always)]
    unsafe fn ends_of(sock: *const u8) -> (Address, Address) {
        let mut local = Address::none();
        let mut remote = Address::none();
        // SAFETY: the helper checks every address.
        unsafe {
            let family: u16 = read_field(sock, SOCK_FAMILY.load());
            local.family = family;
            remote.family = family;
            local.port = read_field::<u16>(sock, SOCK_NUM.load()).to_be();
            if local.port == 0 {
                // A socket that closes has given its port back already, but not
                // forgotten it. Only a full socket can have none.
                local.port = read_field(sock, SOCK_SPORT.load());
            }
            remote.port = read_field(sock, SOCK_DPORT.load());
            if family == AF_INET {
                local.word = read_field(sock, SOCK_SADDR.load());
                remote.word = read_field(sock, SOCK_DADDR.load());
            } else if family == AF_INET6 {
                local.address = read_field(sock, SOCK_SADDR6.load());
                remote.address = read_field(sock, SOCK_DADDR6.load());
            }
        }
        (local, remote)
    }

    #[inline(always)]
    unsafe fn state_of(sock: *const u8) -> u32 {
        // SAFETY: the helper checks the address.
        u32::from(unsafe { read_field::<u8>(sock, SOCK_STATE.load()) })
    }

    /// match-proto: `trace_inet_sock_set_state(const struct sock *, const int, const int)`
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
        let sock: *const u8 = ctx.arg(0);
        let old: u32 = ctx.arg(1);
        let new: u32 = ctx.arg(2);
        // SAFETY: the helper checks every address.
        unsafe {
            // 16 bits wide since 5.6; before, it was the third byte of a bit field.
            if read_field::<u16>(sock, SOCK_PROTOCOL.load()) != IPPROTO_TCP {
                return 0;
            }
            let (local, remote) = ends_of(sock);
            let net = read_field::<u64>(sock, SOCK_NET.load()) as *const u8;
            let netns = read_field(net, NET_INUM.load());
            state_changed(sock as u64, netns, old, new, local, remote);
        }
        0
    }

    /// match-proto: `trace_tcp_retransmit_skb(const struct sock *, const struct sk_buff *)`
    #[btf_tracepoint(function = "tcp_retransmit_skb")]
    fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
        let sock: *const u8 = ctx.arg(0);
        // SAFETY: the helper checks every address.
        unsafe {
            let (local, remote) = ends_of(sock);
            segment(Kind::TcpRetransmit, owner_of(sock as u64), state_of(sock), local, remote);
        }
        0
    }

    /// match-proto: `trace_tcp_receive_reset(struct sock *)`
    #[btf_tracepoint(function = "tcp_receive_reset")]
    fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
        let sock: *const u8 = ctx.arg(0);
        // SAFETY: the helper checks every address.
        unsafe {
            let (local, remote) = ends_of(sock);
            segment(Kind::TcpResetReceived, owner_of(sock as u64), state_of(sock), local, remote);
        }
        0
    }

    /// match-proto: `trace_tcp_send_reset(const struct sock *, const struct sk_buff *)`
    ///
    /// The socket may be missing (nobody listens there): then the addresses are
    /// those of the segment that is answered, the other way round.
    #[btf_tracepoint(function = "tcp_send_reset")]
    fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
        let sock: *const u8 = ctx.arg(0);
        let skb: *const u8 = ctx.arg(1);
        // SAFETY: the helper checks every address.
        unsafe {
            if sock.is_null() && skb.is_null() {
                return 0;
            }
            if sock.is_null() {
                let (local, remote) = answered_ends(skb);
                segment(Kind::TcpResetSent, 0, 0, local, remote);
            } else {
                let (local, remote) = ends_of(sock);
                let state = state_of(sock);
                // Nothing is answered and the socket is closed: whoever closes it
                // does so now, after its owner was forgotten with its last state.
                let owner = if skb.is_null() && state == TCP_CLOSE {
                    bpf_get_current_pid_tgid()
                } else {
                    owner_of(sock as u64)
                };
                segment(Kind::TcpResetSent, owner, state, local, remote);
            }
        }
        0
    }

    /// The ends of a received segment, as the receiver sees them.
    #[inline(always)]
    unsafe fn answered_ends(skb: *const u8) -> (Address, Address) {
        let mut local = Address::none();
        let mut remote = Address::none();
        // SAFETY: the helper checks every address.
        unsafe {
            let head = read_field::<u64>(skb, SKB_HEAD.load()) as *const u8;
            let network = u32::from(read_field::<u16>(skb, SKB_NETWORK_HEADER.load()));
            let transport = u32::from(read_field::<u16>(skb, SKB_TRANSPORT_HEADER.load()));
            remote.port = read_field(head, transport);
            local.port = read_field(head, transport + 2);
            // Offsets of RFC 791 and RFC 8200.
            match read_field::<u8>(head, network) >> 4 {
                4 => {
                    local.family = AF_INET;
                    remote.word = read_field(head, network + 12);
                    local.word = read_field(head, network + 16);
                }
                6 => {
                    local.family = AF_INET6;
                    remote.address = read_field(head, network + 8);
                    local.address = read_field(head, network + 24);
                }
                _ => {}
            }
            remote.family = local.family;
        }
        (local, remote)
    }

    /// Who accepted: the only place where a connection meets its process. `fd` is
    /// what `accept` returned to the current task.
    #[inline(always)]
    pub(crate) fn accepted(task: u64, fd: u64) {
        // SAFETY: the helper checks every address.
        unsafe {
            let files = read_field::<u64>(task as *const u8, TASK_FILES.load()) as *const u8;
            let table = read_field::<u64>(files, FILES_FDT.load()) as *const u8;
            let entries = read_field::<u64>(table, FDTABLE_FD.load()) as *const u64;
            let file = read_field::<u64>(entries.wrapping_add(fd as usize).cast(), 0) as *const u8;
            let socket = read_field::<u64>(file, FILE_PRIVATE_DATA.load()) as *const u8;
            let sock: u64 = read_field(socket, SOCKET_SK.load());
            if sock != 0 {
                own(sock);
            }
        }
    }
}

#[cfg(not(feature = "btf"))]
mod attached {
    use aya_ebpf::{EbpfContext as _, macros::tracepoint, programs::TracePointContext};

    use super::{AF_INET, AF_INET6, Address, IPPROTO_TCP, state_changed};
    use crate::{
        maps::{
            STATE_FAMILY, STATE_NEW, STATE_OLD, STATE_PROTOCOL, STATE_SADDR, STATE_SADDR6,
            STATE_SKADDR, STATE_SPORT,
        },
        probes::read_field,
    };

    #[tracepoint(category = "sock", name = "inet_sock_set_state")]
    fn inet_sock_set_state(ctx: TracePointContext) -> i32 {
        let record = ctx.as_ptr().cast::<u8>().cast_const();
        // SAFETY: the helper checks every address.
        unsafe {
            if read_field::<u16>(record, STATE_PROTOCOL.load()) != IPPROTO_TCP {
                return 0;
            }
            let mut local = Address::none();
            let mut remote = Address::none();
            local.family = read_field(record, STATE_FAMILY.load());
            remote.family = local.family;
            // The format has ports in the order of the machine.
            local.port = read_field::<u16>(record, STATE_SPORT.load()).to_be();
            remote.port = read_field::<u16>(record, STATE_SPORT.load() + 2).to_be();
            if local.family == AF_INET {
                local.word = read_field(record, STATE_SADDR.load());
                remote.word = read_field(record, STATE_SADDR.load() + 4);
            } else if local.family == AF_INET6 {
                local.address = read_field(record, STATE_SADDR6.load());
                remote.address = read_field(record, STATE_SADDR6.load() + 16);
            }
            let socket = read_field(record, STATE_SKADDR.load());
            let old = read_field(record, STATE_OLD.load());
            let new = read_field(record, STATE_NEW.load());
            // The format does not name the network namespace.
            state_changed(socket, 0, old, new, local, remote);
        }
        0
    }

    /// Without BTF nothing says where a task keeps its files.
    #[inline(always)]
    pub(crate) fn accepted(_task: u64, _fd: u64) {}
}

pub(crate) use attached::accepted;
