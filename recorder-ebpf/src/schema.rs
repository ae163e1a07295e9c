//! The schema: every kind of event, its fields and what each field means.
//!
//! This is the one place. The layout of records in the ring, the columns of the
//! window and of the file, the text, the JSON, the filters and the list of
//! fields all follow from the table that [`kinds!`] makes. To add a kind, add
//! an entry here and a probe that fills its struct.
//!
//! Numbers are part of the file format: a retired number stays in the list.

use crate::wire::{Header, WireInt};

/// What a value means, and so how it is decoded, printed and filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A plain signed number.
    Number,
    /// A plain signed number of 32 bits: the kernel ignores the upper half of the
    /// register, which may hold anything.
    Int,
    /// A plain unsigned number, or a pointer: printed in hexadecimal when large.
    Address,
    /// A number of bytes.
    Bytes,
    /// Nanoseconds, a duration.
    DurationNs,
    /// Nanoseconds of the kernel's monotonic clock.
    TimeNs,
    /// A process (thread group) id of the initial pid namespace.
    Pid,
    /// A thread id of the initial pid namespace.
    Tid,
    /// A user id; -1 is "unchanged".
    Uid,
    /// A group id; -1 is "unchanged".
    Gid,
    /// A file descriptor.
    Fd,
    /// A directory descriptor: a descriptor or `AT_FDCWD`.
    DirFd,
    /// A path.
    Path,
    /// A string that is not a path.
    Text,
    /// The name of a thread, at most 15 bytes.
    Comm,
    /// Strings one after the other, each ended by a NUL.
    Argv,
    /// A file as the kernel described it, see [`crate::wire::FileHead`].
    File,
    /// A socket address as the kernel lays it out.
    Sockaddr,
    /// The same, where the kernel writes it; the next argument points to its length.
    SockaddrOut,
    /// The length argument that belongs to a socket address.
    SockaddrLen,
    /// The number of a system call.
    SyscallNumber,
    /// The result of a system call: an errno between -4095 and -1.
    SyscallResult,
    /// A state of a TCP socket.
    TcpState,
    /// A signal number.
    Signal,
    /// Why events are missing.
    LossReason,
    /// File permission bits, printed in octal.
    Mode,
    /// Bits or an enumeration with names.
    Flags(FlagSet),
}

/// The named sets of bits and enumerations; the names stand in `recorder::event::names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagSet {
    /// `open(2)`: `O_*`.
    Open,
    /// `openat2`-style and `*at` calls: `AT_*`.
    At,
    /// `mmap(2)` protection: `PROT_*`.
    Prot,
    /// `mmap(2)` flags: `MAP_*`.
    Map,
    /// `clone(2)`: `CLONE_*`, the low byte is a signal.
    Clone,
    /// Address families: `AF_*`.
    AddressFamily,
    /// Socket types with `SOCK_CLOEXEC`, `SOCK_NONBLOCK`.
    SocketType,
    /// `send` and `recv`: `MSG_*`.
    Msg,
    /// `access(2)`: `R_OK`, `W_OK`, `X_OK`.
    Access,
    /// `lseek(2)`: `SEEK_*`.
    Seek,
    /// `futex(2)` operations.
    Futex,
    /// `wait4(2)`: `WNOHANG` and others.
    Wait,
    /// `fcntl(2)` commands.
    Fcntl,
    /// `epoll_ctl(2)` operations.
    EpollCtl,
    /// `rt_sigprocmask(2)`: how.
    SigProcMask,
    /// `shutdown(2)`: how.
    Shutdown,
    /// Clock ids.
    Clock,
    /// `madvise(2)` advice.
    Madvise,
    /// `unlinkat(2)`: `AT_REMOVEDIR`, a bit that other `*at` calls give another name.
    AtUnlink,
    /// `faccessat2(2)`: `AT_EACCESS` and others, for the same reason.
    AtAccess,
    /// `accept4(2)`: `SOCK_CLOEXEC`, `SOCK_NONBLOCK`.
    Accept,
    /// Calls that make a descriptor (`pipe2`, `dup3`, `signalfd4` and others): the
    /// bits of `open(2)` under whatever prefix, without an access mode.
    NewDescriptor,
    /// `eventfd2(2)`: `EFD_*`.
    Eventfd,
    /// `memfd_create(2)`: `MFD_*`.
    Memfd,
    /// `unshare(2)`, `setns(2)`: `CLONE_*` without a signal.
    Namespace,
    /// `renameat2(2)`: `RENAME_*`.
    Rename,
    /// `mount(2)`: `MS_*`.
    Mount,
    /// `umount2(2)`: `MNT_*`.
    Umount,
    /// `move_mount(2)`: `MOVE_MOUNT_*`.
    MoveMount,
    /// `open_tree(2)`: `OPEN_TREE_*`, `AT_*`.
    OpenTree,
    /// `fsconfig(2)` commands.
    FsConfig,
    /// `prctl(2)` options.
    Prctl,
    /// `arch_prctl(2)` codes.
    ArchPrctl,
    /// `getrlimit(2)`: `RLIMIT_*`.
    Resource,
    /// `waitid(2)`: `P_*`.
    IdType,
    /// `setsockopt(2)`: `SOL_*`.
    SocketLevel,
    /// `socketcall(2)` of 32-bit x86: which call.
    SocketCall,
    /// `flock(2)`: `LOCK_*`.
    Flock,
    /// `msync(2)`: `MS_*`.
    Msync,
    /// `mremap(2)`: `MREMAP_*`.
    Mremap,
    /// `mlockall(2)`: `MCL_*`.
    MlockAll,
    /// `close_range(2)`: `CLOSE_RANGE_*`.
    CloseRange,
    /// `fallocate(2)`: `FALLOC_FL_*`.
    Fallocate,
    /// `fadvise64(2)`: `POSIX_FADV_*`.
    Fadvise,
    /// `sync_file_range(2)`: `SYNC_FILE_RANGE_*`.
    SyncRange,
    /// `splice(2)`: `SPLICE_F_*`.
    Splice,
    /// `preadv2(2)`, `pwritev2(2)`: `RWF_*`.
    ReadWrite,
    /// `setxattr(2)`: `XATTR_*`.
    Xattr,
    /// `statx(2)` mask: `STATX_*`.
    StatxMask,
    /// `inotify_add_watch(2)`: `IN_*`.
    Inotify,
    /// `setitimer(2)`: `ITIMER_*`.
    Itimer,
    /// `timer_settime(2)`, `clock_nanosleep(2)`: `TIMER_ABSTIME`.
    TimerSet,
    /// `getrusage(2)`: `RUSAGE_*`.
    Rusage,
    /// `setpriority(2)`: `PRIO_*`.
    Priority,
    /// `sched_setscheduler(2)`: `SCHED_*`.
    SchedPolicy,
    /// `ptrace(2)` requests.
    Ptrace,
    /// `seccomp(2)` operations.
    Seccomp,
    /// `bpf(2)` commands.
    Bpf,
    /// `getrandom(2)`: `GRND_*`.
    Random,
    /// What a new thread shares with its maker, [`crate::wire::shared`].
    Shared,
}

/// One field that is a number in the fixed part of a record.
#[derive(Debug)]
pub struct Field {
    /// Its name in columns, text, JSON and filters.
    pub name: &'static str,
    /// What it says, for people.
    pub doc: &'static str,
    /// What the number means.
    pub meaning: Meaning,
    /// Byte offset in the record.
    pub offset: usize,
    /// Width in bytes: 1, 2, 4 or 8.
    pub width: usize,
    /// Whether the number is sign-extended.
    pub signed: bool,
}

/// One field that is a string of bytes, attached behind the fixed part.
#[derive(Debug)]
pub struct Attachment {
    /// Its name in columns, text, JSON and filters.
    pub name: &'static str,
    /// What it says, for people.
    pub doc: &'static str,
    /// What the bytes mean.
    pub meaning: Meaning,
}

impl Attachment {
    /// Whether it is the name of the event's own thread, which every event has one way
    /// or another: where it comes with the event, nothing else has a say.
    pub fn is_comm(&self) -> bool {
        self.name == "comm"
    }
}

/// One kind of event.
#[derive(Debug)]
pub struct KindSchema {
    /// The kind.
    pub kind: Kind,
    /// Its name in JSON, text and filters.
    pub name: &'static str,
    /// What it says, for people.
    pub doc: &'static str,
    /// Size of the fixed part in bytes, header included.
    pub fixed_bytes: usize,
    /// Fields in the fixed part.
    pub fields: &'static [Field],
    /// Fields attached as bytes; the index is the attachment's number on the wire.
    pub attachments: &'static [Attachment],
}

macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])*
        $number:literal $kind:ident $name:literal {
            $( $(#[doc = $field_doc:literal])* $field:ident: $type:ty => $meaning:expr, )*
            $( ; $( $(#[doc = $bytes_doc:literal])* $bytes:ident => $bytes_meaning:expr, )+ )?
        }
    )+) => {
        /// The number of a kind of event, on the wire and in the file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $( $(#[doc = $doc])* $kind = $number, )+
        }

        impl Kind {
            /// Every kind, in the order of its number.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// The kind with this number, if there is one.
            pub const fn from_number(number: u8) -> Option<Kind> {
                match number {
                    $( $number => Some(Kind::$kind), )+
                    _ => None,
                }
            }

            /// Its entry in the schema.
            pub const fn schema(self) -> &'static KindSchema {
                match self {
                    $( Kind::$kind => &KindSchema {
                        kind: Kind::$kind,
                        name: $name,
                        doc: concat!($($doc),*),
                        fixed_bytes: size_of::<record::$kind>(),
                        fields: &[$( Field {
                            name: stringify!($field),
                            doc: concat!($($field_doc),*),
                            meaning: $meaning,
                            offset: core::mem::offset_of!(record::$kind, $field),
                            width: size_of::<$type>(),
                            signed: <$type as WireInt>::SIGNED,
                        }, )*],
                        attachments: &[$($( Attachment {
                            name: stringify!($bytes),
                            doc: concat!($($bytes_doc),*),
                            meaning: $bytes_meaning,
                        }, )+)?],
                    }, )+
                }
            }
        }

        /// The fixed part of each kind of record, as it lies in the ring.
        pub mod record {
            use super::Header;
            $(
                $(#[doc = $doc])*
                #[repr(C)]
                #[derive(Clone, Copy, Debug)]
                pub struct $kind {
                    /// What every record has.
                    pub header: Header,
                    $( $(#[doc = $field_doc])* pub $field: $type, )*
                }
            )+
        }
    };
}

kinds! {
    /// A system call that returned, or one that never does (`exit`).
    /// Its arguments follow the fixed part, as many as the call has.
    1 Syscall "syscall" {
        /// The number of the call in its ABI.
        nr: i64 => Meaning::SyscallNumber,
        /// What it returned.
        ret: i64 => Meaning::SyscallResult,
        /// From entry to return; 0 with `no_entry` and `no_return`.
        dur_ns: u64 => Meaning::DurationNs,
    }
    /// A process or a thread was created.
    2 ProcessFork "process_fork" {
        /// The process the new thread belongs to: itself for a new process.
        child_pid: u32 => Meaning::Pid,
        /// The new thread.
        child_tid: u32 => Meaning::Tid,
        /// What it has in common with the thread that made it; the rest it has a copy of.
        shares: u32 => Meaning::Flags(FlagSet::Shared),
    }
    /// A program was started in a process.
    3 ProcessExec "process_exec" {
        /// The thread that called exec: it becomes the leader.
        old_tid: u32 => Meaning::Tid,
        /// How many bytes the arguments have in all; more than are kept when they were cut.
        args_bytes: u32 => Meaning::Bytes,
        /// The user it runs as.
        uid: u32 => Meaning::Uid,
        /// The group it runs as.
        gid: u32 => Meaning::Gid,
        /// The user whose rights it has.
        euid: u32 => Meaning::Uid,
        /// The group whose rights it has.
        egid: u32 => Meaning::Gid,
        ;
        /// The program, as the kernel resolved it.
        program => Meaning::Path,
        /// The arguments, the first is the program's own name for itself.
        args => Meaning::Argv,
    }
    /// A thread ended; the last one of a process ends the process.
    4 ProcessExit "process_exit" {
        /// The exit code; 0 when a signal ended it.
        code: u32 => Meaning::Number,
        /// The signal that ended it, or 0.
        signal: u32 => Meaning::Signal,
        ;
        /// Its name when it ended, from the kernel: right whatever was lost before.
        comm => Meaning::Comm,
    }
    /// A thread got another name, by exec or by itself.
    5 ProcessRename "process_rename" {
        ;
        /// The new name.
        new_comm => Meaning::Comm,
    }
    /// A TCP socket changed its state.
    6 TcpState "tcp_state" {
        /// The state before.
        old: u32 => Meaning::TcpState,
        /// The state after.
        new: u32 => Meaning::TcpState,
        ;
        /// The address of this end.
        local => Meaning::Sockaddr,
        /// The address of the other end.
        remote => Meaning::Sockaddr,
    }
    /// A TCP segment was sent again.
    7 TcpRetransmit "tcp_retransmit" {
        /// The state of the socket.
        state: u32 => Meaning::TcpState,
        ;
        /// The address of this end.
        local => Meaning::Sockaddr,
        /// The address of the other end.
        remote => Meaning::Sockaddr,
    }
    /// A TCP reset was sent.
    8 TcpResetSent "tcp_reset_sent" {
        /// The state of the socket; 0 when no socket had this address.
        state: u32 => Meaning::TcpState,
        ;
        /// The address of this end.
        local => Meaning::Sockaddr,
        /// The address of the other end.
        remote => Meaning::Sockaddr,
    }
    /// A TCP reset was received.
    9 TcpResetReceived "tcp_reset_received" {
        /// The state of the socket.
        state: u32 => Meaning::TcpState,
        ;
        /// The address of this end.
        local => Meaning::Sockaddr,
        /// The address of the other end.
        remote => Meaning::Sockaddr,
    }
    /// Events are missing here. The time of the event is the first loss.
    10 Lost "lost" {
        /// Why they are missing.
        reason: u32 => Meaning::LossReason,
        /// How many are missing.
        count: u64 => Meaning::Number,
        /// The last loss.
        until_ns: u64 => Meaning::TimeNs,
        /// How many of them were forks, execs, ends and renames of processes.
        process_events: u64 => Meaning::Number,
    }
    /// A thread that was there at the window's left edge. Made by the recorder
    /// from `/proc` and from evicted events, never by the kernel.
    11 Process "process" {
        /// The parent process; 0 when it is not known.
        ppid: u32 => Meaning::Pid,
        /// When the thread started.
        start_ns: u64 => Meaning::TimeNs,
        /// The user it runs as; -1 when it is not known, and so the next three.
        uid: u32 => Meaning::Uid,
        /// The group it runs as.
        gid: u32 => Meaning::Gid,
        /// The user whose rights it has.
        euid: u32 => Meaning::Uid,
        /// The group whose rights it has.
        egid: u32 => Meaning::Gid,
        /// The process that began its session; 0 when it is not known.
        session: u32 => Meaning::Pid,
        /// The first thread with the same table of descriptors.
        files_of: u32 => Meaning::Tid,
        /// The first thread with the same working directory.
        directory_of: u32 => Meaning::Tid,
        ;
        /// Its name.
        name => Meaning::Comm,
        /// Its program.
        program => Meaning::Path,
        /// Its arguments.
        args => Meaning::Argv,
        /// Its working directory, where it is the first with it.
        directory => Meaning::File,
    }
    /// A descriptor that was open at the window's left edge, of the first thread with its
    /// table. Made by the recorder like `process`.
    14 Descriptor "descriptor" {
        /// The descriptor.
        fd: i32 => Meaning::Fd,
        /// 1 when an exec closes it.
        close_on_exec: u32 => Meaning::Number,
        ;
        /// What it refers to.
        file => Meaning::File,
    }
    /// Not an event: the counters of one CPU at this place of its ring.
    12 Cut "cut" {
        /// Names the request that asked for it.
        nonce: u64 => Meaning::Number,
        /// Programs that were running on this CPU when it was made: the counters
        /// agree with the ring only when it is 0.
        busy: u64 => Meaning::Number,
    }
    /// The kernel ran out of memory and chose a process to kill: thread and process
    /// of the event. It ends by `SIGKILL` a moment later.
    13 OomKill "oom_kill" {
        /// The process that asked for the memory there was no more of.
        by_pid: u32 => Meaning::Pid,
        /// Its thread that did.
        by_tid: u32 => Meaning::Tid,
        ;
        /// The name of the thread that was chosen, where the kernel hands it over.
        comm => Meaning::Comm,
    }
}
