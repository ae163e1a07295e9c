//! Names of numbers: errors, signals, states of sockets, bits and enumerations.
//!
//! Numbers without a name are written as numbers, so that a newer kernel's bits
//! are seen, not lost.

use std::borrow::Cow;
use std::fmt::Write;

use recorder_ebpf::{schema::FlagSet, wire};

use super::{form, syscall::Abi};

#[path = "name_table.rs"]
mod table;

struct Errno {
    number: i32,
    name: &'static str,
    text: &'static str,
}

macro_rules! errnos {
    ($($number:literal $name:ident $text:literal,)+) => {
        // Sorted by number: it is searched.
        const ERRNOS: &[Errno] =
            &[$(Errno { number: $number, name: stringify!($name), text: $text }),+];
    };
}

// x86 and aarch64 share these numbers. Those from 512 never reach a program: they
// are seen in traces only, when a signal interrupts a call that the kernel will restart.
errnos! {
    1 EPERM "Operation not permitted",
    2 ENOENT "No such file or directory",
    3 ESRCH "No such process",
    4 EINTR "Interrupted system call",
    5 EIO "Input/output error",
    6 ENXIO "No such device or address",
    7 E2BIG "Argument list too long",
    8 ENOEXEC "Exec format error",
    9 EBADF "Bad file descriptor",
    10 ECHILD "No child processes",
    11 EAGAIN "Resource temporarily unavailable",
    12 ENOMEM "Cannot allocate memory",
    13 EACCES "Permission denied",
    14 EFAULT "Bad address",
    15 ENOTBLK "Block device required",
    16 EBUSY "Device or resource busy",
    17 EEXIST "File exists",
    18 EXDEV "Invalid cross-device link",
    19 ENODEV "No such device",
    20 ENOTDIR "Not a directory",
    21 EISDIR "Is a directory",
    22 EINVAL "Invalid argument",
    23 ENFILE "Too many open files in system",
    24 EMFILE "Too many open files",
    25 ENOTTY "Inappropriate ioctl for device",
    26 ETXTBSY "Text file busy",
    27 EFBIG "File too large",
    28 ENOSPC "No space left on device",
    29 ESPIPE "Illegal seek",
    30 EROFS "Read-only file system",
    31 EMLINK "Too many links",
    32 EPIPE "Broken pipe",
    33 EDOM "Numerical argument out of domain",
    34 ERANGE "Numerical result out of range",
    35 EDEADLK "Resource deadlock avoided",
    36 ENAMETOOLONG "File name too long",
    37 ENOLCK "No locks available",
    38 ENOSYS "Function not implemented",
    39 ENOTEMPTY "Directory not empty",
    40 ELOOP "Too many levels of symbolic links",
    42 ENOMSG "No message of desired type",
    43 EIDRM "Identifier removed",
    44 ECHRNG "Channel number out of range",
    45 EL2NSYNC "Level 2 not synchronized",
    46 EL3HLT "Level 3 halted",
    47 EL3RST "Level 3 reset",
    48 ELNRNG "Link number out of range",
    49 EUNATCH "Protocol driver not attached",
    50 ENOCSI "No CSI structure available",
    51 EL2HLT "Level 2 halted",
    52 EBADE "Invalid exchange",
    53 EBADR "Invalid request descriptor",
    54 EXFULL "Exchange full",
    55 ENOANO "No anode",
    56 EBADRQC "Invalid request code",
    57 EBADSLT "Invalid slot",
    59 EBFONT "Bad font file format",
    60 ENOSTR "Device not a stream",
    61 ENODATA "No data available",
    62 ETIME "Timer expired",
    63 ENOSR "Out of streams resources",
    64 ENONET "Machine is not on the network",
    65 ENOPKG "Package not installed",
    66 EREMOTE "Object is remote",
    67 ENOLINK "Link has been severed",
    68 EADV "Advertise error",
    69 ESRMNT "Srmount error",
    70 ECOMM "Communication error on send",
    71 EPROTO "Protocol error",
    72 EMULTIHOP "Multihop attempted",
    73 EDOTDOT "RFS specific error",
    74 EBADMSG "Bad message",
    75 EOVERFLOW "Value too large for defined data type",
    76 ENOTUNIQ "Name not unique on network",
    77 EBADFD "File descriptor in bad state",
    78 EREMCHG "Remote address changed",
    79 ELIBACC "Can not access a needed shared library",
    80 ELIBBAD "Accessing a corrupted shared library",
    81 ELIBSCN ".lib section in a.out corrupted",
    82 ELIBMAX "Attempting to link in too many shared libraries",
    83 ELIBEXEC "Cannot exec a shared library directly",
    84 EILSEQ "Invalid or incomplete multibyte or wide character",
    85 ERESTART "Interrupted system call should be restarted",
    86 ESTRPIPE "Streams pipe error",
    87 EUSERS "Too many users",
    88 ENOTSOCK "Socket operation on non-socket",
    89 EDESTADDRREQ "Destination address required",
    90 EMSGSIZE "Message too long",
    91 EPROTOTYPE "Protocol wrong type for socket",
    92 ENOPROTOOPT "Protocol not available",
    93 EPROTONOSUPPORT "Protocol not supported",
    94 ESOCKTNOSUPPORT "Socket type not supported",
    95 EOPNOTSUPP "Operation not supported",
    96 EPFNOSUPPORT "Protocol family not supported",
    97 EAFNOSUPPORT "Address family not supported by protocol",
    98 EADDRINUSE "Address already in use",
    99 EADDRNOTAVAIL "Cannot assign requested address",
    100 ENETDOWN "Network is down",
    101 ENETUNREACH "Network is unreachable",
    102 ENETRESET "Network dropped connection on reset",
    103 ECONNABORTED "Software caused connection abort",
    104 ECONNRESET "Connection reset by peer",
    105 ENOBUFS "No buffer space available",
    106 EISCONN "Transport endpoint is already connected",
    107 ENOTCONN "Transport endpoint is not connected",
    108 ESHUTDOWN "Cannot send after transport endpoint shutdown",
    109 ETOOMANYREFS "Too many references: cannot splice",
    110 ETIMEDOUT "Connection timed out",
    111 ECONNREFUSED "Connection refused",
    112 EHOSTDOWN "Host is down",
    113 EHOSTUNREACH "No route to host",
    114 EALREADY "Operation already in progress",
    115 EINPROGRESS "Operation now in progress",
    116 ESTALE "Stale file handle",
    117 EUCLEAN "Structure needs cleaning",
    118 ENOTNAM "Not a XENIX named type file",
    119 ENAVAIL "No XENIX semaphores available",
    120 EISNAM "Is a named type file",
    121 EREMOTEIO "Remote I/O error",
    122 EDQUOT "Disk quota exceeded",
    123 ENOMEDIUM "No medium found",
    124 EMEDIUMTYPE "Wrong medium type",
    125 ECANCELED "Operation canceled",
    126 ENOKEY "Required key not available",
    127 EKEYEXPIRED "Key has expired",
    128 EKEYREVOKED "Key has been revoked",
    129 EKEYREJECTED "Key was rejected by service",
    130 EOWNERDEAD "Owner died",
    131 ENOTRECOVERABLE "State not recoverable",
    132 ERFKILL "Operation not possible due to RF-kill",
    133 EHWPOISON "Memory page has hardware error",
    512 ERESTARTSYS "Interrupted; may be restarted",
    513 ERESTARTNOINTR "Interrupted; may be restarted",
    514 ERESTARTNOHAND "Interrupted; may be restarted",
    515 ENOIOCTLCMD "No ioctl command",
    516 ERESTART_RESTARTBLOCK "Interrupted; may be restarted",
    517 EPROBE_DEFER "Driver requests probe retry",
    518 EOPENSTALE "Open found a stale dentry",
    519 ENOPARAM "Parameter not supported",
    521 EBADHANDLE "Illegal NFS file handle",
    522 ENOTSYNC "Update synchronization mismatch",
    523 EBADCOOKIE "Cookie is stale",
    524 ENOTSUPP "Operation is not supported",
    525 ETOOSMALL "Buffer or request is too small",
    526 ESERVERFAULT "Untranslatable error occurred",
    527 EBADTYPE "Type not supported by server",
    528 EJUKEBOX "Request will not complete before the timeout",
    529 EIOCBQUEUED "Request queued, completion event follows",
    530 ERECALLCONFLICT "Conflict with recalled state",
    531 ENOGRACE "NFS file lock reclaim refused",
}

fn errno(number: i32) -> Option<&'static Errno> {
    let place = ERRNOS.binary_search_by_key(&number, |errno| errno.number).ok()?;
    ERRNOS.get(place)
}

/// The name of an error number: `ENOENT`.
pub fn errno_name(number: i32) -> Option<&'static str> {
    errno(number).map(|errno| errno.name)
}

/// What an error number says: `No such file or directory`.
pub fn errno_text(number: i32) -> Option<&'static str> {
    errno(number).map(|errno| errno.text)
}

/// The number of an error; second names of a number count as well.
pub fn errno_number(name: &str) -> Option<i32> {
    let name = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        name => name,
    };
    ERRNOS.iter().find(|errno| errno.name == name).map(|errno| errno.number)
}

const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The first real-time signal of the kernel; C libraries keep a few of them for
/// themselves, so that their `SIGRTMIN` is higher.
const REAL_TIME_FIRST: u32 = 32;

/// The last real-time signal.
const REAL_TIME_LAST: u32 = 64;

/// The name of a signal: `SIGKILL`; `SIGRT_3` is the third after the kernel's
/// first real-time signal. A number that is no signal stays a number.
pub fn signal_name(signal: u32) -> Cow<'static, str> {
    let ordinary = signal.checked_sub(1).and_then(|place| SIGNALS.get(place as usize));
    match ordinary {
        Some(name) => Cow::Borrowed(name),
        None if (REAL_TIME_FIRST..=REAL_TIME_LAST).contains(&signal) => {
            Cow::Owned(format!("SIGRT_{}", signal - REAL_TIME_FIRST))
        }
        None => Cow::Owned(signal.to_string()),
    }
}

/// The number of a signal, by the name [`signal_name`] gives it.
pub fn signal_number(name: &str) -> Option<u32> {
    (1..=REAL_TIME_LAST).find(|number| signal_name(*number) == name)
}

const TCP_STATES: [&str; 13] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

/// The name of a state of a TCP socket, the kernel's without `TCP_`.
pub fn tcp_state(state: u32) -> Cow<'static, str> {
    match state.checked_sub(1).and_then(|place| TCP_STATES.get(place as usize)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(state.to_string()),
    }
}

/// Numbers and their names. Names of several bits stand before those of one of them.
type Names = &'static [(i64, &'static str)];

/// How a value is made up: part of it an enumeration, part of it bits.
struct Layout {
    /// The bits that are an enumeration.
    field: u64,
    field_names: Names,
    bit_names: Names,
    /// What stands for no bits at all.
    zero: &'static str,
    /// Whether the kernel takes a `long`; of an `int` it ignores the upper half of
    /// the register, which may hold anything.
    long: bool,
    /// Whether a value without a name is written in hexadecimal.
    hex: bool,
}

const GROUP_CHANGES: Names = &[
    (wire::group_change::THERE as i64, "there"),
    (wire::group_change::MADE as i64, "made"),
    (wire::group_change::REMOVED as i64, "removed"),
];

const SHARED: Names = &[
    (wire::shared::FILES as i64, "files"),
    (wire::shared::DIRECTORY as i64, "directory"),
    (wire::shared::CONTROL_GROUP as i64, "control_group"),
    (wire::shared::PARENT as i64, "parent"),
    (wire::shared::UNKNOWN as i64, "unknown"),
];

impl Layout {
    const fn bits(bit_names: Names) -> Layout {
        Layout { field: 0, field_names: &[], bit_names, zero: "0", long: false, hex: false }
    }

    const fn enumeration(field_names: Names) -> Layout {
        Layout { field: u64::MAX, field_names, bit_names: &[], zero: "0", long: false, hex: false }
    }

    const fn mixed(field: u64, field_names: Names, bit_names: Names) -> Layout {
        Layout { field, field_names, bit_names, zero: "0", long: false, hex: false }
    }

    const fn zero(self, zero: &'static str) -> Layout {
        Layout { zero, ..self }
    }

    const fn long(self) -> Layout {
        Layout { long: true, ..self }
    }

    const fn hex(self) -> Layout {
        Layout { hex: true, ..self }
    }
}

/// Writes a value of a set by name: `O_RDONLY|O_CLOEXEC|0x40000000`.
///
/// Bits without a name follow in hexadecimal, values of an enumeration without a
/// name in decimal. Of a value that the kernel takes as an `int` only the lower
/// 32 bits are written.
pub fn write_flags(set: FlagSet, value: u64, arch: Abi, out: &mut String) {
    write_layout(set, layout(set, arch), value, out);
}

/// The same of a member of a structure that has 64 bits, all of which count.
pub fn write_wide_flags(set: FlagSet, value: u64, arch: Abi, out: &mut String) {
    write_layout(set, layout(set, arch).long(), value, out);
}

/// The names of a set with their numbers, in the order they are looked for.
pub fn listed(set: FlagSet, arch: Abi) -> impl Iterator<Item = (i64, &'static str)> {
    let layout = layout(set, arch);
    layout.field_names.iter().chain(layout.bit_names).copied()
}

fn write_layout(set: FlagSet, layout: Layout, value: u64, out: &mut String) {
    let value = if layout.long { value } else { value & u64::from(u32::MAX) };
    if set == FlagSet::Capabilities {
        write_capabilities(value, out);
        return;
    }
    if layout.field == u64::MAX {
        let value = if layout.long { value as i64 } else { i64::from(value as i32) };
        match name_of(layout.field_names, value) {
            Some(name) => out.push_str(name),
            None if set == FlagSet::Ioctl => write_request(value as u32, out),
            None if layout.hex => push(out, format_args!("{:#x}", value as u32)),
            None => push(out, format_args!("{value}")),
        }
        return;
    }
    let start = out.len();
    let separate = |out: &mut String| {
        if out.len() > start {
            out.push('|');
        }
    };
    let mut rest = value;
    if let Some(name) = name_of(layout.field_names, (value & layout.field) as i64) {
        out.push_str(name);
        rest &= !layout.field;
    }
    for &(bits, name) in layout.bit_names {
        let bits = bits as u64;
        if rest & bits == bits {
            separate(out);
            out.push_str(name);
            rest &= !bits;
        }
    }
    if set == FlagSet::Clone {
        // The signal stands last, as people write it.
        let signal = (rest & CLONE_SIGNAL) as u32;
        if (1..=REAL_TIME_LAST).contains(&signal) {
            separate(out);
            out.push_str(&signal_name(signal));
            rest &= !CLONE_SIGNAL;
        }
    }
    if set == FlagSet::IpcFlags && rest & 0o777 != 0 {
        // The permissions of what is made.
        separate(out);
        push(out, format_args!("0{:o}", rest & 0o777));
        rest &= !0o777;
    }
    if rest != 0 {
        separate(out);
        push(out, format_args!("{rest:#x}"));
    }
    if out.len() == start {
        out.push_str(layout.zero);
    }
}

/// A set of capabilities: bits by number.
fn write_capabilities(value: u64, out: &mut String) {
    let start = out.len();
    for bit in (0..u64::BITS).filter(|bit| value >> bit & 1 != 0) {
        if out.len() > start {
            out.push('|');
        }
        match name_of(table::CAPABILITY, i64::from(bit)) {
            Some(name) => push(out, format_args!("1<<{name}")),
            None => push(out, format_args!("{:#x}", 1u64 << bit)),
        }
    }
    if out.len() == start {
        out.push('0');
    }
}

/// A request of `ioctl(2)` without a name, by its parts (include/uapi/asm-generic/ioctl.h):
/// which way, the letter of the driver, its number, and the bytes.
fn write_request(value: u32, out: &mut String) {
    let way = match value >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    let (driver, number, bytes) = (value >> 8 & 0xff, value & 0xff, value >> 16 & 0x3fff);
    push(out, format_args!("_IOC({way}, {driver:#x}, {number:#x}, {bytes:#x})"));
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(arguments);
}

fn name_of(names: Names, value: i64) -> Option<&'static str> {
    // Numbers of 32 bits may stand there with a sign or without.
    let is_same = |number: i64| {
        number == value || i32::try_from(value).is_ok_and(|value| number == i64::from(value as u32))
    };
    names.iter().find(|(number, _)| is_same(*number)).map(|(_, name)| *name)
}

fn layout(set: FlagSet, arch: Abi) -> Layout {
    match set {
        FlagSet::Open => {
            let bits = match arch {
                Abi::X86_64 | Abi::X86 => OPEN_X86,
                Abi::Aarch64 => OPEN_AARCH64,
            };
            Layout::mixed(0o3, OPEN_ACCESS, bits)
        }
        FlagSet::NewDescriptor => Layout::bits(match arch {
            Abi::X86_64 | Abi::X86 => NEW_DESCRIPTOR_X86,
            Abi::Aarch64 => NEW_DESCRIPTOR_AARCH64,
        }),
        FlagSet::At => Layout::bits(AT),
        FlagSet::AtUnlink => Layout::bits(AT_UNLINK),
        FlagSet::AtAccess => Layout::bits(AT_ACCESS),
        FlagSet::Prot => Layout::bits(match arch {
            Abi::X86_64 | Abi::X86 => PROT,
            Abi::Aarch64 => PROT_AARCH64,
        })
        .zero("PROT_NONE")
        .long(),
        FlagSet::Map => Layout::mixed(
            0xf,
            MAP_TYPES,
            match arch {
                Abi::X86_64 | Abi::X86 => MAP_X86,
                Abi::Aarch64 => MAP,
            },
        )
        .long(),
        FlagSet::Clone => Layout::bits(CLONE).long(),
        FlagSet::Namespace => Layout::bits(NAMESPACE).long(),
        FlagSet::AddressFamily => Layout::enumeration(ADDRESS_FAMILIES),
        FlagSet::SocketType => Layout::mixed(0xf, SOCKET_TYPES, SOCKET_BITS),
        FlagSet::Accept => Layout::bits(SOCKET_BITS),
        FlagSet::Msg => Layout::bits(MSG),
        FlagSet::Access => Layout::bits(ACCESS).zero("F_OK"),
        FlagSet::Seek => Layout::enumeration(SEEK),
        FlagSet::Futex => Layout::mixed(!FUTEX_BITS_MASK, FUTEX, FUTEX_BITS),
        FlagSet::Wait => Layout::bits(WAIT),
        FlagSet::Fcntl => Layout::enumeration(FCNTL),
        FlagSet::EpollCtl => Layout::enumeration(EPOLL_CTL),
        FlagSet::SigProcMask => Layout::enumeration(SIG_PROC_MASK),
        FlagSet::Shutdown => Layout::enumeration(SHUTDOWN),
        FlagSet::Clock => Layout::enumeration(CLOCKS),
        FlagSet::Madvise => Layout::enumeration(MADVISE),
        FlagSet::Eventfd => Layout::bits(EVENTFD),
        FlagSet::Memfd => Layout::bits(MEMFD),
        FlagSet::Rename => Layout::bits(RENAME),
        FlagSet::Mount => Layout::bits(MOUNT).long(),
        FlagSet::Umount => Layout::bits(UMOUNT),
        FlagSet::MoveMount => Layout::bits(MOVE_MOUNT),
        FlagSet::OpenTree => Layout::bits(OPEN_TREE),
        FlagSet::FsConfig => Layout::enumeration(FS_CONFIG),
        FlagSet::Prctl => Layout::enumeration(PRCTL),
        FlagSet::ArchPrctl => Layout::enumeration(ARCH_PRCTL),
        FlagSet::Resource => Layout::enumeration(RESOURCES),
        FlagSet::IdType => Layout::enumeration(ID_TYPES),
        FlagSet::Shared => Layout::bits(SHARED),
        FlagSet::GroupChange => Layout::enumeration(GROUP_CHANGES),
        FlagSet::SocketLevel => Layout::enumeration(SOCKET_LEVELS),
        FlagSet::SocketCall => Layout::enumeration(SOCKET_CALLS),
        FlagSet::Flock => Layout::bits(FLOCK),
        FlagSet::Msync => Layout::bits(MSYNC),
        FlagSet::Mremap => Layout::bits(MREMAP).long(),
        FlagSet::MlockAll => Layout::bits(MLOCK_ALL),
        FlagSet::CloseRange => Layout::bits(CLOSE_RANGE),
        FlagSet::Fallocate => Layout::bits(FALLOCATE),
        FlagSet::Fadvise => Layout::enumeration(FADVISE),
        FlagSet::SyncRange => Layout::bits(SYNC_RANGE),
        FlagSet::Splice => Layout::bits(SPLICE),
        FlagSet::ReadWrite => Layout::bits(READ_WRITE),
        FlagSet::Xattr => Layout::bits(XATTR),
        FlagSet::StatxMask => Layout::bits(STATX_MASK),
        FlagSet::Inotify => Layout::bits(INOTIFY),
        FlagSet::Itimer => Layout::enumeration(ITIMERS),
        FlagSet::TimerSet => Layout::bits(TIMER_SET),
        FlagSet::Rusage => Layout::enumeration(RUSAGE),
        FlagSet::Priority => Layout::enumeration(PRIORITY),
        FlagSet::SchedPolicy => Layout::mixed(!SCHED_BITS_MASK, SCHED_POLICIES, SCHED_BITS),
        FlagSet::Ptrace => Layout::enumeration(match arch {
            Abi::X86_64 | Abi::X86 => PTRACE_X86,
            Abi::Aarch64 => PTRACE,
        })
        .long(),
        FlagSet::Seccomp => Layout::enumeration(SECCOMP),
        FlagSet::Bpf => Layout::enumeration(BPF),
        FlagSet::Random => Layout::bits(RANDOM),
        set => layout_within(set),
    }
}

/// How a value in a structure, an option or a command is made up.
fn layout_within(set: FlagSet) -> Layout {
    match set {
        FlagSet::AtStatx => Layout::mixed(0x6000, table::AT_STATX_SYNC, table::AT_STATX),
        FlagSet::TerminalControl => {
            Layout::mixed(0x100f, table::TERMINAL_SPEED, table::TERMINAL_CONTROL)
        }
        FlagSet::Futex2 => Layout::mixed(3, table::FUTEX2_SIZE, table::FUTEX2),
        FlagSet::Personality => Layout::mixed(0xff, table::PERSONALITY_TYPE, table::PERSONALITY),
        FlagSet::Mempolicy => Layout::mixed(0x1fff, table::MEMPOLICY, table::MEMPOLICY_BITS),
        FlagSet::Ioctl => Layout::enumeration(form::REQUESTS).hex(),
        FlagSet::FileSystem | FlagSet::FutexBitset => Layout::enumeration(enumeration(set)).hex(),
        _ if enumeration(set).is_empty() => Layout::bits(bits(set)),
        _ => Layout::enumeration(enumeration(set)),
    }
}

/// The bits of a set that is nothing else.
fn bits(set: FlagSet) -> Names {
    match set {
        FlagSet::TimexModes => table::TIMEX_MODES,
        FlagSet::TimexStatus => table::TIMEX_STATUS,
        FlagSet::Poll => table::POLL,
        FlagSet::Epoll => table::EPOLL,
        FlagSet::EpollCreate => table::EPOLL_CREATE,
        FlagSet::TimerfdCreate => table::TIMERFD_CREATE,
        FlagSet::TimerfdSet => table::TIMERFD_SET,
        FlagSet::SignalfdCreate => table::SIGNALFD_CREATE,
        FlagSet::InotifyCreate => table::INOTIFY_CREATE,
        FlagSet::PidfdOpen => table::PIDFD_OPEN,
        FlagSet::DescriptorFlags => table::DESCRIPTOR_FLAGS,
        FlagSet::SignalAction => table::SIGNAL_ACTION,
        FlagSet::AltStack => table::ALT_STACK,
        FlagSet::StatxAttributes => table::STATX_ATTRIBUTES,
        FlagSet::AtExec => table::AT_EXEC,
        FlagSet::StatfsFlags => table::STATFS_FLAGS,
        FlagSet::TerminalInput => table::TERMINAL_INPUT,
        FlagSet::TerminalOutput => table::TERMINAL_OUTPUT,
        FlagSet::TerminalLocal => table::TERMINAL_LOCAL,
        FlagSet::Dnotify => table::DNOTIFY,
        FlagSet::Seals => table::SEALS,
        FlagSet::Resolve => table::RESOLVE,
        FlagSet::MountAttribute => table::MOUNT_ATTRIBUTE,
        FlagSet::FsMount => table::FS_MOUNT,
        FlagSet::FsOpen => table::FS_OPEN,
        FlagSet::FsPick => table::FS_PICK,
        FlagSet::SchedFlags => table::SCHED_FLAGS,
        FlagSet::IoUringSetup => table::IO_URING_SETUP,
        FlagSet::IoUringFeatures => table::IO_URING_FEATURES,
        FlagSet::IoUringEnter => table::IO_URING_ENTER,
        FlagSet::PerfSample => table::PERF_SAMPLE,
        FlagSet::PerfRead => table::PERF_READ,
        FlagSet::PerfBits => table::PERF_BITS,
        FlagSet::PerfOpen => table::PERF_OPEN,
        FlagSet::BpfMapFlags => table::BPF_MAP_FLAGS,
        FlagSet::Shmat => table::SHMAT,
        FlagSet::LandlockFiles => table::LANDLOCK_FILES,
        FlagSet::LandlockNet => table::LANDLOCK_NET,
        FlagSet::LandlockScope => table::LANDLOCK_SCOPE,
        FlagSet::LandlockCreate => table::LANDLOCK_CREATE,
        FlagSet::LandlockRestrict => table::LANDLOCK_RESTRICT,
        FlagSet::Securebits => table::SECUREBITS,
        FlagSet::SeccompFlags => table::SECCOMP_FLAGS,
        FlagSet::SpeculationControl => table::SPECULATION_CONTROL,
        FlagSet::FanotifyInit => table::FANOTIFY_INIT,
        FlagSet::FanotifyMark => table::FANOTIFY_MARK,
        FlagSet::FanotifyMask => table::FANOTIFY_MASK,
        FlagSet::MembarrierFlags => table::MEMBARRIER_FLAGS,
        FlagSet::Mlock2 => table::MLOCK2,
        FlagSet::ModuleInit => table::MODULE_INIT,
        FlagSet::MbindFlags => table::MBIND_FLAGS,
        FlagSet::GetMempolicy => table::GET_MEMPOLICY,
        FlagSet::PkeyRights => table::PKEY_RIGHTS,
        FlagSet::CloneBits => table::CLONE_BITS,
        FlagSet::IpcFlags => table::IPC_FLAGS,
        // Capabilities have numbers, other options no names.
        _ => &[],
    }
}

/// The values of a set that is an enumeration.
fn enumeration(set: FlagSet) -> Names {
    match set {
        FlagSet::SigevNotify => table::SIGEV_NOTIFY,
        FlagSet::FileSystem => table::FILE_SYSTEM,
        FlagSet::CapVersion => table::CAP_VERSION,
        FlagSet::Capability => table::CAPABILITY,
        FlagSet::FlowControl => table::FLOW_CONTROL,
        FlagSet::FlushQueue => table::FLUSH_QUEUE,
        FlagSet::LockType => table::LOCK_TYPE,
        FlagSet::OwnerType => table::OWNER_TYPE,
        FlagSet::IoUringRegister => table::IO_URING_REGISTER,
        FlagSet::PerfType => table::PERF_TYPE,
        FlagSet::BpfMapType => table::BPF_MAP_TYPE,
        FlagSet::BpfElement => table::BPF_ELEMENT,
        FlagSet::BpfProgType => table::BPF_PROG_TYPE,
        FlagSet::BpfAttach => table::BPF_ATTACH,
        FlagSet::IpcCommand => table::IPC_COMMAND,
        FlagSet::FutexBitset => table::FUTEX_BITSET,
        FlagSet::LandlockRule => table::LANDLOCK_RULE,
        FlagSet::Dumpable => table::DUMPABLE,
        FlagSet::SeccompMode => table::SECCOMP_MODE,
        FlagSet::Tsc => table::TSC,
        FlagSet::Timing => table::TIMING,
        FlagSet::AmbientCapability => table::AMBIENT_CAPABILITY,
        FlagSet::Speculation => table::SPECULATION,
        FlagSet::MemoryMap => table::MEMORY_MAP,
        FlagSet::VmaAttribute => table::VMA_ATTRIBUTE,
        FlagSet::Membarrier => table::MEMBARRIER,
        FlagSet::Kcmp => table::KCMP,
        FlagSet::Keyctl => table::KEYCTL,
        FlagSet::Syslog => table::SYSLOG,
        FlagSet::IoprioWho => table::IOPRIO_WHO,
        FlagSet::SignalCode => table::SIGNAL_CODE,
        FlagSet::ChildCode => table::CHILD_CODE,
        FlagSet::Reboot => table::REBOOT,
        FlagSet::InetProtocol => table::INET_PROTOCOL,
        FlagSet::NetlinkProtocol => table::NETLINK_PROTOCOL,
        FlagSet::ControlType => table::CONTROL_TYPE,
        FlagSet::SocketOption => table::SOCKET_OPTION,
        FlagSet::IpOption => table::IP_OPTION,
        FlagSet::Ipv6Option => table::IPV6_OPTION,
        FlagSet::TcpOption => table::TCP_OPTION,
        FlagSet::UdpOption => table::UDP_OPTION,
        FlagSet::PacketOption => table::PACKET_OPTION,
        FlagSet::NetlinkOption => table::NETLINK_OPTION,
        _ => &[],
    }
}

// A table in a macro keeps several names on a line.
macro_rules! names {
    ($($table:ident { $($name:ident = $number:expr),* $(,)? })+) => {
        $(const $table: Names = &[$(($number, stringify!($name))),*];)+
    };
}

const CLONE_SIGNAL: u64 = 0xff;
const FUTEX_BITS_MASK: u64 = 0x180;
const SCHED_BITS_MASK: u64 = 0x4000_0000;

names! {
    OPEN_ACCESS { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_ACCMODE = 3 }
    OPEN_X86 {
        O_CREAT = 0o100, O_EXCL = 0o200, O_NOCTTY = 0o400, O_TRUNC = 0o1000, O_APPEND = 0o2000,
        O_NONBLOCK = 0o4000, O_SYNC = 0o4010000, O_DSYNC = 0o10000, FASYNC = 0o20000,
        O_DIRECT = 0o40000, O_LARGEFILE = 0o100000, O_TMPFILE = 0o20200000,
        O_DIRECTORY = 0o200000, O_NOFOLLOW = 0o400000, O_NOATIME = 0o1000000,
        O_CLOEXEC = 0o2000000, O_PATH = 0o10000000,
    }
    OPEN_AARCH64 {
        O_CREAT = 0o100, O_EXCL = 0o200, O_NOCTTY = 0o400, O_TRUNC = 0o1000, O_APPEND = 0o2000,
        O_NONBLOCK = 0o4000, O_SYNC = 0o4010000, O_DSYNC = 0o10000, FASYNC = 0o20000,
        O_TMPFILE = 0o20040000, O_DIRECTORY = 0o40000, O_NOFOLLOW = 0o100000,
        O_DIRECT = 0o200000, O_LARGEFILE = 0o400000, O_NOATIME = 0o1000000,
        O_CLOEXEC = 0o2000000, O_PATH = 0o10000000,
    }
    NEW_DESCRIPTOR_X86 { O_NONBLOCK = 0o4000, O_DIRECT = 0o40000, O_CLOEXEC = 0o2000000 }
    NEW_DESCRIPTOR_AARCH64 { O_NONBLOCK = 0o4000, O_DIRECT = 0o200000, O_CLOEXEC = 0o2000000 }
    AT {
        AT_SYMLINK_NOFOLLOW = 0x100, AT_SYMLINK_FOLLOW = 0x400, AT_NO_AUTOMOUNT = 0x800,
        AT_EMPTY_PATH = 0x1000, AT_STATX_FORCE_SYNC = 0x2000, AT_STATX_DONT_SYNC = 0x4000,
        AT_RECURSIVE = 0x8000,
    }
    AT_UNLINK { AT_REMOVEDIR = 0x200 }
    AT_ACCESS { AT_SYMLINK_NOFOLLOW = 0x100, AT_EACCESS = 0x200, AT_EMPTY_PATH = 0x1000 }
    PROT {
        PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, PROT_SEM = 8, PROT_GROWSDOWN = 0x1000000,
        PROT_GROWSUP = 0x2000000,
    }
    PROT_AARCH64 {
        PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, PROT_SEM = 8, PROT_BTI = 0x10,
        PROT_MTE = 0x20, PROT_GROWSDOWN = 0x1000000, PROT_GROWSUP = 0x2000000,
    }
    MAP_TYPES { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_SHARED_VALIDATE = 3, MAP_DROPPABLE = 8 }
    MAP {
        MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20, MAP_GROWSDOWN = 0x100, MAP_DENYWRITE = 0x800,
        MAP_EXECUTABLE = 0x1000, MAP_LOCKED = 0x2000, MAP_NORESERVE = 0x4000,
        MAP_POPULATE = 0x8000, MAP_NONBLOCK = 0x10000, MAP_STACK = 0x20000,
        MAP_HUGETLB = 0x40000, MAP_SYNC = 0x80000, MAP_FIXED_NOREPLACE = 0x100000,
        MAP_UNINITIALIZED = 0x4000000,
    }
    MAP_X86 {
        MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20, MAP_32BIT = 0x40, MAP_ABOVE4G = 0x80,
        MAP_GROWSDOWN = 0x100, MAP_DENYWRITE = 0x800, MAP_EXECUTABLE = 0x1000,
        MAP_LOCKED = 0x2000, MAP_NORESERVE = 0x4000, MAP_POPULATE = 0x8000,
        MAP_NONBLOCK = 0x10000, MAP_STACK = 0x20000, MAP_HUGETLB = 0x40000, MAP_SYNC = 0x80000,
        MAP_FIXED_NOREPLACE = 0x100000, MAP_UNINITIALIZED = 0x4000000,
    }
    CLONE {
        CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800,
        CLONE_PIDFD = 0x1000, CLONE_PTRACE = 0x2000, CLONE_VFORK = 0x4000,
        CLONE_PARENT = 0x8000, CLONE_THREAD = 0x10000, CLONE_NEWNS = 0x20000,
        CLONE_SYSVSEM = 0x40000, CLONE_SETTLS = 0x80000, CLONE_PARENT_SETTID = 0x100000,
        CLONE_CHILD_CLEARTID = 0x200000, CLONE_DETACHED = 0x400000, CLONE_UNTRACED = 0x800000,
        CLONE_CHILD_SETTID = 0x1000000, CLONE_NEWCGROUP = 0x2000000, CLONE_NEWUTS = 0x4000000,
        CLONE_NEWIPC = 0x8000000, CLONE_NEWUSER = 0x10000000, CLONE_NEWPID = 0x20000000,
        CLONE_NEWNET = 0x40000000, CLONE_IO = 0x80000000,
    }
    NAMESPACE {
        CLONE_NEWTIME = 0x80, CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400,
        CLONE_SIGHAND = 0x800, CLONE_THREAD = 0x10000, CLONE_NEWNS = 0x20000,
        CLONE_SYSVSEM = 0x40000, CLONE_NEWCGROUP = 0x2000000, CLONE_NEWUTS = 0x4000000,
        CLONE_NEWIPC = 0x8000000, CLONE_NEWUSER = 0x10000000, CLONE_NEWPID = 0x20000000,
        CLONE_NEWNET = 0x40000000,
    }
    ADDRESS_FAMILIES {
        AF_UNSPEC = 0, AF_UNIX = 1, AF_INET = 2, AF_AX25 = 3, AF_IPX = 4, AF_APPLETALK = 5,
        AF_NETROM = 6, AF_BRIDGE = 7, AF_ATMPVC = 8, AF_X25 = 9, AF_INET6 = 10, AF_ROSE = 11,
        AF_DECnet = 12, AF_NETBEUI = 13, AF_SECURITY = 14, AF_KEY = 15, AF_NETLINK = 16,
        AF_PACKET = 17, AF_ASH = 18, AF_ECONET = 19, AF_ATMSVC = 20, AF_RDS = 21, AF_SNA = 22,
        AF_IRDA = 23, AF_PPPOX = 24, AF_WANPIPE = 25, AF_LLC = 26, AF_IB = 27, AF_MPLS = 28,
        AF_CAN = 29, AF_TIPC = 30, AF_BLUETOOTH = 31, AF_IUCV = 32, AF_RXRPC = 33,
        AF_ISDN = 34, AF_PHONET = 35, AF_IEEE802154 = 36, AF_CAIF = 37, AF_ALG = 38,
        AF_NFC = 39, AF_VSOCK = 40, AF_KCM = 41, AF_QIPCRTR = 42, AF_SMC = 43, AF_XDP = 44,
        AF_MCTP = 45,
    }
    SOCKET_TYPES {
        SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_RDM = 4, SOCK_SEQPACKET = 5,
        SOCK_DCCP = 6, SOCK_PACKET = 10,
    }
    SOCKET_BITS { SOCK_NONBLOCK = 0o4000, SOCK_CLOEXEC = 0o2000000 }
    MSG {
        MSG_OOB = 1, MSG_PEEK = 2, MSG_DONTROUTE = 4, MSG_CTRUNC = 8, MSG_PROBE = 0x10,
        MSG_TRUNC = 0x20, MSG_DONTWAIT = 0x40, MSG_EOR = 0x80, MSG_WAITALL = 0x100,
        MSG_FIN = 0x200, MSG_SYN = 0x400, MSG_CONFIRM = 0x800, MSG_RST = 0x1000,
        MSG_ERRQUEUE = 0x2000, MSG_NOSIGNAL = 0x4000, MSG_MORE = 0x8000,
        MSG_WAITFORONE = 0x10000, MSG_BATCH = 0x40000, MSG_ZEROCOPY = 0x4000000,
        MSG_FASTOPEN = 0x20000000, MSG_CMSG_CLOEXEC = 0x40000000,
    }
    ACCESS { R_OK = 4, W_OK = 2, X_OK = 1 }
    SEEK { SEEK_SET = 0, SEEK_CUR = 1, SEEK_END = 2, SEEK_DATA = 3, SEEK_HOLE = 4 }
    FUTEX {
        FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_FD = 2, FUTEX_REQUEUE = 3, FUTEX_CMP_REQUEUE = 4,
        FUTEX_WAKE_OP = 5, FUTEX_LOCK_PI = 6, FUTEX_UNLOCK_PI = 7, FUTEX_TRYLOCK_PI = 8,
        FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10, FUTEX_WAIT_REQUEUE_PI = 11,
        FUTEX_CMP_REQUEUE_PI = 12, FUTEX_LOCK_PI2 = 13,
    }
    FUTEX_BITS { FUTEX_PRIVATE_FLAG = 0x80, FUTEX_CLOCK_REALTIME = 0x100 }
    WAIT {
        WNOHANG = 1, WUNTRACED = 2, WEXITED = 4, WCONTINUED = 8, WNOWAIT = 0x1000000,
        __WNOTHREAD = 0x20000000, __WALL = 0x40000000, __WCLONE = 0x80000000,
    }
    FCNTL {
        F_DUPFD = 0, F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4, F_GETLK = 5,
        F_SETLK = 6, F_SETLKW = 7, F_SETOWN = 8, F_GETOWN = 9, F_SETSIG = 10, F_GETSIG = 11,
        F_GETLK64 = 12, F_SETLK64 = 13, F_SETLKW64 = 14, F_SETOWN_EX = 15, F_GETOWN_EX = 16,
        F_GETOWNER_UIDS = 17, F_OFD_GETLK = 36, F_OFD_SETLK = 37, F_OFD_SETLKW = 38,
        F_SETLEASE = 1024, F_GETLEASE = 1025, F_NOTIFY = 1026, F_DUPFD_QUERY = 1027,
        F_CREATED_QUERY = 1028, F_CANCELLK = 1029, F_DUPFD_CLOEXEC = 1030,
        F_SETPIPE_SZ = 1031, F_GETPIPE_SZ = 1032, F_ADD_SEALS = 1033, F_GET_SEALS = 1034,
        F_GET_RW_HINT = 1035, F_SET_RW_HINT = 1036, F_GET_FILE_RW_HINT = 1037,
        F_SET_FILE_RW_HINT = 1038,
    }
    EPOLL_CTL { EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3 }
    SIG_PROC_MASK { SIG_BLOCK = 0, SIG_UNBLOCK = 1, SIG_SETMASK = 2 }
    SHUTDOWN { SHUT_RD = 0, SHUT_WR = 1, SHUT_RDWR = 2 }
    CLOCKS {
        CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2,
        CLOCK_THREAD_CPUTIME_ID = 3, CLOCK_MONOTONIC_RAW = 4, CLOCK_REALTIME_COARSE = 5,
        CLOCK_MONOTONIC_COARSE = 6, CLOCK_BOOTTIME = 7, CLOCK_REALTIME_ALARM = 8,
        CLOCK_BOOTTIME_ALARM = 9, CLOCK_SGI_CYCLE = 10, CLOCK_TAI = 11,
    }
    MADVISE {
        MADV_NORMAL = 0, MADV_RANDOM = 1, MADV_SEQUENTIAL = 2, MADV_WILLNEED = 3,
        MADV_DONTNEED = 4, MADV_FREE = 8, MADV_REMOVE = 9, MADV_DONTFORK = 10,
        MADV_DOFORK = 11, MADV_MERGEABLE = 12, MADV_UNMERGEABLE = 13, MADV_HUGEPAGE = 14,
        MADV_NOHUGEPAGE = 15, MADV_DONTDUMP = 16, MADV_DODUMP = 17, MADV_WIPEONFORK = 18,
        MADV_KEEPONFORK = 19, MADV_COLD = 20, MADV_PAGEOUT = 21, MADV_POPULATE_READ = 22,
        MADV_POPULATE_WRITE = 23, MADV_DONTNEED_LOCKED = 24, MADV_COLLAPSE = 25,
        MADV_HWPOISON = 100, MADV_SOFT_OFFLINE = 101, MADV_GUARD_INSTALL = 102,
        MADV_GUARD_REMOVE = 103,
    }
    EVENTFD { EFD_SEMAPHORE = 1, EFD_NONBLOCK = 0o4000, EFD_CLOEXEC = 0o2000000 }
    MEMFD {
        MFD_CLOEXEC = 1, MFD_ALLOW_SEALING = 2, MFD_HUGETLB = 4, MFD_NOEXEC_SEAL = 8,
        MFD_EXEC = 0x10,
    }
    RENAME { RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2, RENAME_WHITEOUT = 4 }
    MOUNT {
        MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_SYNCHRONOUS = 0x10,
        MS_REMOUNT = 0x20, MS_MANDLOCK = 0x40, MS_DIRSYNC = 0x80, MS_NOSYMFOLLOW = 0x100,
        MS_NOATIME = 0x400, MS_NODIRATIME = 0x800, MS_BIND = 0x1000, MS_MOVE = 0x2000,
        MS_REC = 0x4000, MS_SILENT = 0x8000, MS_POSIXACL = 0x10000, MS_UNBINDABLE = 0x20000,
        MS_PRIVATE = 0x40000, MS_SLAVE = 0x80000, MS_SHARED = 0x100000, MS_RELATIME = 0x200000,
        MS_KERNMOUNT = 0x400000, MS_I_VERSION = 0x800000, MS_STRICTATIME = 0x1000000,
        MS_LAZYTIME = 0x2000000,
    }
    UMOUNT { MNT_FORCE = 1, MNT_DETACH = 2, MNT_EXPIRE = 4, UMOUNT_NOFOLLOW = 8 }
    MOVE_MOUNT {
        MOVE_MOUNT_F_SYMLINKS = 1, MOVE_MOUNT_F_AUTOMOUNTS = 2, MOVE_MOUNT_F_EMPTY_PATH = 4,
        MOVE_MOUNT_T_SYMLINKS = 0x10, MOVE_MOUNT_T_AUTOMOUNTS = 0x20,
        MOVE_MOUNT_T_EMPTY_PATH = 0x40, MOVE_MOUNT_SET_GROUP = 0x100,
        MOVE_MOUNT_BENEATH = 0x200,
    }
    OPEN_TREE {
        OPEN_TREE_CLONE = 1, AT_SYMLINK_NOFOLLOW = 0x100, AT_NO_AUTOMOUNT = 0x800,
        AT_EMPTY_PATH = 0x1000, AT_RECURSIVE = 0x8000, OPEN_TREE_CLOEXEC = 0o2000000,
    }
    FS_CONFIG {
        FSCONFIG_SET_FLAG = 0, FSCONFIG_SET_STRING = 1, FSCONFIG_SET_BINARY = 2,
        FSCONFIG_SET_PATH = 3, FSCONFIG_SET_PATH_EMPTY = 4, FSCONFIG_SET_FD = 5,
        FSCONFIG_CMD_CREATE = 6, FSCONFIG_CMD_RECONFIGURE = 7, FSCONFIG_CMD_CREATE_EXCL = 8,
    }
    PRCTL {
        PR_SET_PDEATHSIG = 1, PR_GET_PDEATHSIG = 2, PR_GET_DUMPABLE = 3, PR_SET_DUMPABLE = 4,
        PR_GET_UNALIGN = 5, PR_SET_UNALIGN = 6, PR_GET_KEEPCAPS = 7, PR_SET_KEEPCAPS = 8,
        PR_GET_FPEMU = 9, PR_SET_FPEMU = 10, PR_GET_FPEXC = 11, PR_SET_FPEXC = 12,
        PR_GET_TIMING = 13, PR_SET_TIMING = 14, PR_SET_NAME = 15, PR_GET_NAME = 16,
        PR_GET_ENDIAN = 19, PR_SET_ENDIAN = 20, PR_GET_SECCOMP = 21, PR_SET_SECCOMP = 22,
        PR_CAPBSET_READ = 23, PR_CAPBSET_DROP = 24, PR_GET_TSC = 25, PR_SET_TSC = 26,
        PR_GET_SECUREBITS = 27, PR_SET_SECUREBITS = 28, PR_SET_TIMERSLACK = 29,
        PR_GET_TIMERSLACK = 30, PR_TASK_PERF_EVENTS_DISABLE = 31,
        PR_TASK_PERF_EVENTS_ENABLE = 32, PR_MCE_KILL = 33, PR_MCE_KILL_GET = 34, PR_SET_MM = 35,
        PR_SET_CHILD_SUBREAPER = 36, PR_GET_CHILD_SUBREAPER = 37, PR_SET_NO_NEW_PRIVS = 38,
        PR_GET_NO_NEW_PRIVS = 39, PR_GET_TID_ADDRESS = 40, PR_SET_THP_DISABLE = 41,
        PR_GET_THP_DISABLE = 42, PR_MPX_ENABLE_MANAGEMENT = 43, PR_MPX_DISABLE_MANAGEMENT = 44,
        PR_SET_FP_MODE = 45, PR_GET_FP_MODE = 46, PR_CAP_AMBIENT = 47, PR_SVE_SET_VL = 50,
        PR_SVE_GET_VL = 51, PR_GET_SPECULATION_CTRL = 52, PR_SET_SPECULATION_CTRL = 53,
        PR_PAC_RESET_KEYS = 54, PR_SET_TAGGED_ADDR_CTRL = 55, PR_GET_TAGGED_ADDR_CTRL = 56,
        PR_SET_IO_FLUSHER = 57, PR_GET_IO_FLUSHER = 58, PR_SET_SYSCALL_USER_DISPATCH = 59,
        PR_PAC_SET_ENABLED_KEYS = 60, PR_PAC_GET_ENABLED_KEYS = 61, PR_SCHED_CORE = 62,
        PR_SME_SET_VL = 63, PR_SME_GET_VL = 64, PR_SET_MDWE = 65, PR_GET_MDWE = 66,
        PR_SET_MEMORY_MERGE = 67, PR_GET_MEMORY_MERGE = 68, PR_GET_SHADOW_STACK_STATUS = 74,
        PR_SET_SHADOW_STACK_STATUS = 75, PR_LOCK_SHADOW_STACK_STATUS = 76,
        PR_TIMER_CREATE_RESTORE_IDS = 77, PR_FUTEX_HASH = 78, PR_SET_VMA = 0x53564d41,
        PR_GET_AUXV = 0x41555856, PR_SET_PTRACER = 0x59616d61,
    }
    ARCH_PRCTL {
        ARCH_SET_GS = 0x1001, ARCH_SET_FS = 0x1002, ARCH_GET_FS = 0x1003, ARCH_GET_GS = 0x1004,
        ARCH_GET_CPUID = 0x1011, ARCH_SET_CPUID = 0x1012, ARCH_GET_XCOMP_SUPP = 0x1021,
        ARCH_GET_XCOMP_PERM = 0x1022, ARCH_REQ_XCOMP_PERM = 0x1023,
        ARCH_GET_XCOMP_GUEST_PERM = 0x1024, ARCH_REQ_XCOMP_GUEST_PERM = 0x1025,
        ARCH_MAP_VDSO_X32 = 0x2001, ARCH_MAP_VDSO_32 = 0x2002, ARCH_MAP_VDSO_64 = 0x2003,
        ARCH_GET_UNTAG_MASK = 0x4001, ARCH_ENABLE_TAGGED_ADDR = 0x4002,
        ARCH_GET_MAX_TAG_BITS = 0x4003, ARCH_FORCE_TAGGED_SVA = 0x4004,
        ARCH_SHSTK_ENABLE = 0x5001, ARCH_SHSTK_DISABLE = 0x5002, ARCH_SHSTK_LOCK = 0x5003,
        ARCH_SHSTK_UNLOCK = 0x5004, ARCH_SHSTK_STATUS = 0x5005,
    }
    RESOURCES {
        RLIMIT_CPU = 0, RLIMIT_FSIZE = 1, RLIMIT_DATA = 2, RLIMIT_STACK = 3, RLIMIT_CORE = 4,
        RLIMIT_RSS = 5, RLIMIT_NPROC = 6, RLIMIT_NOFILE = 7, RLIMIT_MEMLOCK = 8, RLIMIT_AS = 9,
        RLIMIT_LOCKS = 10, RLIMIT_SIGPENDING = 11, RLIMIT_MSGQUEUE = 12, RLIMIT_NICE = 13,
        RLIMIT_RTPRIO = 14, RLIMIT_RTTIME = 15,
    }
    ID_TYPES { P_ALL = 0, P_PID = 1, P_PGID = 2, P_PIDFD = 3 }
    SOCKET_LEVELS {
        SOL_IP = 0, SOL_SOCKET = 1, SOL_TCP = 6, SOL_UDP = 17, SOL_IPV6 = 41, SOL_ICMPV6 = 58,
        SOL_SCTP = 132, SOL_UDPLITE = 136, SOL_RAW = 255, SOL_PACKET = 263, SOL_NETLINK = 270,
        SOL_TIPC = 271, SOL_RXRPC = 272, SOL_BLUETOOTH = 274, SOL_RDS = 276, SOL_ALG = 279,
        SOL_KCM = 281, SOL_TLS = 282, SOL_XDP = 283, SOL_MPTCP = 284, SOL_MCTP = 285,
        SOL_SMC = 286, SOL_VSOCK = 287,
    }
    SOCKET_CALLS {
        SYS_SOCKET = 1, SYS_BIND = 2, SYS_CONNECT = 3, SYS_LISTEN = 4, SYS_ACCEPT = 5,
        SYS_GETSOCKNAME = 6, SYS_GETPEERNAME = 7, SYS_SOCKETPAIR = 8, SYS_SEND = 9,
        SYS_RECV = 10, SYS_SENDTO = 11, SYS_RECVFROM = 12, SYS_SHUTDOWN = 13,
        SYS_SETSOCKOPT = 14, SYS_GETSOCKOPT = 15, SYS_SENDMSG = 16, SYS_RECVMSG = 17,
        SYS_ACCEPT4 = 18, SYS_RECVMMSG = 19, SYS_SENDMMSG = 20,
    }
    FLOCK { LOCK_SH = 1, LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8 }
    MSYNC { MS_ASYNC = 1, MS_INVALIDATE = 2, MS_SYNC = 4 }
    MREMAP { MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4 }
    MLOCK_ALL { MCL_CURRENT = 1, MCL_FUTURE = 2, MCL_ONFAULT = 4 }
    CLOSE_RANGE { CLOSE_RANGE_UNSHARE = 2, CLOSE_RANGE_CLOEXEC = 4 }
    FALLOCATE {
        FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2, FALLOC_FL_NO_HIDE_STALE = 4,
        FALLOC_FL_COLLAPSE_RANGE = 8, FALLOC_FL_ZERO_RANGE = 0x10,
        FALLOC_FL_INSERT_RANGE = 0x20, FALLOC_FL_UNSHARE_RANGE = 0x40,
        FALLOC_FL_WRITE_ZEROES = 0x80,
    }
    FADVISE {
        POSIX_FADV_NORMAL = 0, POSIX_FADV_RANDOM = 1, POSIX_FADV_SEQUENTIAL = 2,
        POSIX_FADV_WILLNEED = 3, POSIX_FADV_DONTNEED = 4, POSIX_FADV_NOREUSE = 5,
    }
    SYNC_RANGE {
        SYNC_FILE_RANGE_WAIT_BEFORE = 1, SYNC_FILE_RANGE_WRITE = 2,
        SYNC_FILE_RANGE_WAIT_AFTER = 4,
    }
    SPLICE { SPLICE_F_MOVE = 1, SPLICE_F_NONBLOCK = 2, SPLICE_F_MORE = 4, SPLICE_F_GIFT = 8 }
    READ_WRITE {
        RWF_HIPRI = 1, RWF_DSYNC = 2, RWF_SYNC = 4, RWF_NOWAIT = 8, RWF_APPEND = 0x10,
        RWF_NOAPPEND = 0x20, RWF_ATOMIC = 0x40, RWF_DONTCACHE = 0x80,
    }
    XATTR { XATTR_CREATE = 1, XATTR_REPLACE = 2 }
    STATX_MASK {
        STATX_BASIC_STATS = 0x7ff, STATX_TYPE = 1, STATX_MODE = 2, STATX_NLINK = 4,
        STATX_UID = 8, STATX_GID = 0x10, STATX_ATIME = 0x20, STATX_MTIME = 0x40,
        STATX_CTIME = 0x80, STATX_INO = 0x100, STATX_SIZE = 0x200, STATX_BLOCKS = 0x400,
        STATX_BTIME = 0x800, STATX_MNT_ID = 0x1000, STATX_DIOALIGN = 0x2000,
        STATX_MNT_ID_UNIQUE = 0x4000, STATX_SUBVOL = 0x8000, STATX_WRITE_ATOMIC = 0x10000,
        STATX_DIO_READ_ALIGN = 0x20000,
    }
    INOTIFY {
        IN_ACCESS = 1, IN_MODIFY = 2, IN_ATTRIB = 4, IN_CLOSE_WRITE = 8,
        IN_CLOSE_NOWRITE = 0x10, IN_OPEN = 0x20, IN_MOVED_FROM = 0x40, IN_MOVED_TO = 0x80,
        IN_CREATE = 0x100, IN_DELETE = 0x200, IN_DELETE_SELF = 0x400, IN_MOVE_SELF = 0x800,
        IN_UNMOUNT = 0x2000, IN_Q_OVERFLOW = 0x4000, IN_IGNORED = 0x8000,
        IN_ONLYDIR = 0x1000000, IN_DONT_FOLLOW = 0x2000000, IN_EXCL_UNLINK = 0x4000000,
        IN_MASK_CREATE = 0x10000000, IN_MASK_ADD = 0x20000000, IN_ISDIR = 0x40000000,
        IN_ONESHOT = 0x80000000,
    }
    ITIMERS { ITIMER_REAL = 0, ITIMER_VIRTUAL = 1, ITIMER_PROF = 2 }
    TIMER_SET { TIMER_ABSTIME = 1, TFD_TIMER_CANCEL_ON_SET = 2 }
    RUSAGE { RUSAGE_SELF = 0, RUSAGE_CHILDREN = -1, RUSAGE_THREAD = 1 }
    PRIORITY { PRIO_PROCESS = 0, PRIO_PGRP = 1, PRIO_USER = 2 }
    SCHED_POLICIES {
        SCHED_OTHER = 0, SCHED_FIFO = 1, SCHED_RR = 2, SCHED_BATCH = 3, SCHED_IDLE = 5,
        SCHED_DEADLINE = 6, SCHED_EXT = 7,
    }
    SCHED_BITS { SCHED_RESET_ON_FORK = 0x40000000 }
    PTRACE {
        PTRACE_TRACEME = 0, PTRACE_PEEKTEXT = 1, PTRACE_PEEKDATA = 2, PTRACE_PEEKUSR = 3,
        PTRACE_POKETEXT = 4, PTRACE_POKEDATA = 5, PTRACE_POKEUSR = 6, PTRACE_CONT = 7,
        PTRACE_KILL = 8, PTRACE_SINGLESTEP = 9, PTRACE_ATTACH = 16, PTRACE_DETACH = 17,
        PTRACE_SYSCALL = 24, PTRACE_SYSEMU = 31, PTRACE_SYSEMU_SINGLESTEP = 32,
        PTRACE_SETOPTIONS = 0x4200, PTRACE_GETEVENTMSG = 0x4201, PTRACE_GETSIGINFO = 0x4202,
        PTRACE_SETSIGINFO = 0x4203, PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205,
        PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207, PTRACE_LISTEN = 0x4208,
        PTRACE_PEEKSIGINFO = 0x4209, PTRACE_GETSIGMASK = 0x420a, PTRACE_SETSIGMASK = 0x420b,
        PTRACE_SECCOMP_GET_FILTER = 0x420c, PTRACE_SECCOMP_GET_METADATA = 0x420d,
        PTRACE_GET_SYSCALL_INFO = 0x420e, PTRACE_GET_RSEQ_CONFIGURATION = 0x420f,
    }
    PTRACE_X86 {
        PTRACE_TRACEME = 0, PTRACE_PEEKTEXT = 1, PTRACE_PEEKDATA = 2, PTRACE_PEEKUSR = 3,
        PTRACE_POKETEXT = 4, PTRACE_POKEDATA = 5, PTRACE_POKEUSR = 6, PTRACE_CONT = 7,
        PTRACE_KILL = 8, PTRACE_SINGLESTEP = 9, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13,
        PTRACE_GETFPREGS = 14, PTRACE_SETFPREGS = 15, PTRACE_ATTACH = 16, PTRACE_DETACH = 17,
        PTRACE_GETFPXREGS = 18, PTRACE_SETFPXREGS = 19, PTRACE_OLDSETOPTIONS = 21,
        PTRACE_SYSCALL = 24, PTRACE_GET_THREAD_AREA = 25, PTRACE_SET_THREAD_AREA = 26,
        PTRACE_ARCH_PRCTL = 30, PTRACE_SYSEMU = 31, PTRACE_SYSEMU_SINGLESTEP = 32,
        PTRACE_SINGLEBLOCK = 33, PTRACE_SETOPTIONS = 0x4200, PTRACE_GETEVENTMSG = 0x4201,
        PTRACE_GETSIGINFO = 0x4202, PTRACE_SETSIGINFO = 0x4203, PTRACE_GETREGSET = 0x4204,
        PTRACE_SETREGSET = 0x4205, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207,
        PTRACE_LISTEN = 0x4208, PTRACE_PEEKSIGINFO = 0x4209, PTRACE_GETSIGMASK = 0x420a,
        PTRACE_SETSIGMASK = 0x420b, PTRACE_SECCOMP_GET_FILTER = 0x420c,
        PTRACE_SECCOMP_GET_METADATA = 0x420d, PTRACE_GET_SYSCALL_INFO = 0x420e,
        PTRACE_GET_RSEQ_CONFIGURATION = 0x420f,
    }
    SECCOMP {
        SECCOMP_SET_MODE_STRICT = 0, SECCOMP_SET_MODE_FILTER = 1, SECCOMP_GET_ACTION_AVAIL = 2,
        SECCOMP_GET_NOTIF_SIZES = 3,
    }
    BPF {
        BPF_MAP_CREATE = 0, BPF_MAP_LOOKUP_ELEM = 1, BPF_MAP_UPDATE_ELEM = 2,
        BPF_MAP_DELETE_ELEM = 3, BPF_MAP_GET_NEXT_KEY = 4, BPF_PROG_LOAD = 5, BPF_OBJ_PIN = 6,
        BPF_OBJ_GET = 7, BPF_PROG_ATTACH = 8, BPF_PROG_DETACH = 9, BPF_PROG_TEST_RUN = 10,
        BPF_PROG_GET_NEXT_ID = 11, BPF_MAP_GET_NEXT_ID = 12, BPF_PROG_GET_FD_BY_ID = 13,
        BPF_MAP_GET_FD_BY_ID = 14, BPF_OBJ_GET_INFO_BY_FD = 15, BPF_PROG_QUERY = 16,
        BPF_RAW_TRACEPOINT_OPEN = 17, BPF_BTF_LOAD = 18, BPF_BTF_GET_FD_BY_ID = 19,
        BPF_TASK_FD_QUERY = 20, BPF_MAP_LOOKUP_AND_DELETE_ELEM = 21, BPF_MAP_FREEZE = 22,
        BPF_BTF_GET_NEXT_ID = 23, BPF_MAP_LOOKUP_BATCH = 24,
        BPF_MAP_LOOKUP_AND_DELETE_BATCH = 25, BPF_MAP_UPDATE_BATCH = 26,
        BPF_MAP_DELETE_BATCH = 27, BPF_LINK_CREATE = 28, BPF_LINK_UPDATE = 29,
        BPF_LINK_GET_FD_BY_ID = 30, BPF_LINK_GET_NEXT_ID = 31, BPF_ENABLE_STATS = 32,
        BPF_ITER_CREATE = 33, BPF_LINK_DETACH = 34, BPF_PROG_BIND_MAP = 35,
        BPF_TOKEN_CREATE = 36, BPF_PROG_STREAM_READ_BY_FD = 37,
    }
    RANDOM { GRND_NONBLOCK = 1, GRND_RANDOM = 2, GRND_INSECURE = 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_on(set: FlagSet, value: u64, arch: Abi) -> String {
        let mut out = String::new();
        write_flags(set, value, arch, &mut out);
        out
    }

    fn flags(set: FlagSet, value: u64) -> String {
        flags_on(set, value, Abi::X86_64)
    }

    /// Those that are written as names and numbers alone: a request has a form of its own,
    /// capabilities are numbers of bits, and what became of a group is no number of C.
    fn plain_sets() -> impl Iterator<Item = FlagSet> {
        let forms = [FlagSet::Ioctl, FlagSet::Capabilities, FlagSet::GroupChange];
        FlagSet::ALL.iter().copied().filter(move |set| !forms.contains(set))
    }

    const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X86, Abi::Aarch64];

    #[test]
    fn errors() {
        assert!(ERRNOS.is_sorted_by(|a, b| a.number < b.number));
        assert_eq!(errno_name(2), Some("ENOENT"));
        assert_eq!(errno_text(2), Some("No such file or directory"));
        assert_eq!(errno_name(512), Some("ERESTARTSYS"));
        assert_eq!(errno_name(513), Some("ERESTARTNOINTR"));
        assert_eq!(errno_name(514), Some("ERESTARTNOHAND"));
        assert_eq!(errno_name(516), Some("ERESTART_RESTARTBLOCK"));
        for number in [0, 41, 58, 134, 511, -2, i32::MAX, i32::MIN] {
            assert_eq!(errno_name(number), None);
            assert_eq!(errno_text(number), None);
        }
        for errno in ERRNOS {
            assert_eq!(errno_number(errno.name), Some(errno.number));
        }
        assert_eq!(errno_number("EWOULDBLOCK"), Some(11));
        assert_eq!(errno_number("ENOTSUP"), Some(95));
        assert_eq!(errno_number("enoent"), None);
        assert_eq!(errno_number(""), None);
    }

    // Other C libraries have other words.
    #[cfg(target_env = "gnu")]
    #[test]
    fn the_c_library_agrees_on_errors() {
        for errno in ERRNOS.iter().filter(|errno| errno.number < 512) {
            let found = std::io::Error::from_raw_os_error(errno.number).to_string();
            assert_eq!(found, format!("{} (os error {})", errno.text, errno.number));
        }
    }

    #[test]
    fn signals() {
        assert_eq!(signal_name(0), "0");
        assert_eq!(signal_name(1), "SIGHUP");
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(17), "SIGCHLD");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(32), "SIGRT_0");
        assert_eq!(signal_name(35), "SIGRT_3");
        assert_eq!(signal_name(64), "SIGRT_32");
        assert_eq!(signal_name(65), "65");
        assert_eq!(signal_name(u32::MAX), "4294967295");
    }

    #[test]
    fn tcp_states() {
        assert_eq!(tcp_state(0), "0");
        assert_eq!(tcp_state(1), "ESTABLISHED");
        assert_eq!(tcp_state(7), "CLOSE");
        assert_eq!(tcp_state(10), "LISTEN");
        assert_eq!(tcp_state(12), "NEW_SYN_RECV");
        assert_eq!(tcp_state(13), "BOUND_INACTIVE");
        assert_eq!(tcp_state(14), "14");
    }

    #[test]
    fn open_flags() {
        assert_eq!(flags(FlagSet::Open, 0), "O_RDONLY");
        assert_eq!(flags(FlagSet::Open, 0o2000000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(flags(FlagSet::Open, 0x4008_0000), "O_RDONLY|O_CLOEXEC|0x40000000");
        assert_eq!(flags(FlagSet::Open, 0o1101), "O_WRONLY|O_CREAT|O_TRUNC");
        assert_eq!(flags(FlagSet::Open, 3), "O_ACCMODE");
        assert_eq!(flags(FlagSet::Open, 0o10000), "O_RDONLY|O_DSYNC");
        assert_eq!(flags(FlagSet::Open, 0o4010000), "O_RDONLY|O_SYNC");
        assert_eq!(flags(FlagSet::Open, 0o20200002), "O_RDWR|O_TMPFILE");
        assert_eq!(flags(FlagSet::Open, 0o200000), "O_RDONLY|O_DIRECTORY");
        assert_eq!(flags(FlagSet::Open, 0o740000).matches('|').count(), 4);
    }

    #[test]
    fn aarch64_has_other_open_flags() {
        let arm = |value| flags_on(FlagSet::Open, value, Abi::Aarch64);
        assert_eq!(arm(0o40000), "O_RDONLY|O_DIRECTORY");
        assert_eq!(arm(0o100000), "O_RDONLY|O_NOFOLLOW");
        assert_eq!(arm(0o200000), "O_RDONLY|O_DIRECT");
        assert_eq!(arm(0o400000), "O_RDONLY|O_LARGEFILE");
        assert_eq!(arm(0o20040001), "O_WRONLY|O_TMPFILE");
        assert_eq!(flags(FlagSet::Open, 0o40000), "O_RDONLY|O_DIRECT");
        assert_eq!(flags(FlagSet::Open, 0o100000), "O_RDONLY|O_LARGEFILE");
        assert_eq!(flags(FlagSet::Open, 0o400000), "O_RDONLY|O_NOFOLLOW");
        assert_eq!(flags_on(FlagSet::NewDescriptor, 0o200000, Abi::Aarch64), "O_DIRECT");
        assert_eq!(flags_on(FlagSet::Prot, 0x11, Abi::Aarch64), "PROT_READ|PROT_BTI");
        assert_eq!(flags(FlagSet::Prot, 0x11), "PROT_READ|0x10");
    }

    #[test]
    fn memory_flags() {
        assert_eq!(flags(FlagSet::Prot, 0), "PROT_NONE");
        assert_eq!(flags(FlagSet::Prot, 3), "PROT_READ|PROT_WRITE");
        assert_eq!(flags(FlagSet::Map, 0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(flags(FlagSet::Map, 3), "MAP_SHARED_VALIDATE");
        assert_eq!(flags(FlagSet::Map, 0), "0");
        assert_eq!(flags(FlagSet::Map, 0x20), "MAP_ANONYMOUS");
        assert_eq!(flags(FlagSet::Map, 0x4), "0x4");
        assert_eq!(flags(FlagSet::Map, 0x1_0000_0042), "MAP_PRIVATE|MAP_32BIT|0x100000000");
        assert_eq!(flags_on(FlagSet::Map, 0x42, Abi::Aarch64), "MAP_PRIVATE|0x40");
    }

    #[test]
    fn clone_flags() {
        assert_eq!(flags(FlagSet::Clone, 0), "0");
        assert_eq!(flags(FlagSet::Clone, 17), "SIGCHLD");
        assert_eq!(flags(FlagSet::Clone, 0x4111), "CLONE_VM|CLONE_VFORK|SIGCHLD");
        assert_eq!(flags(FlagSet::Clone, 0x1ff), "CLONE_VM|0xff");
        assert_eq!(flags(FlagSet::Namespace, 0x2_0080), "CLONE_NEWTIME|CLONE_NEWNS");
    }

    #[test]
    fn socket_flags() {
        assert_eq!(flags(FlagSet::SocketType, 1), "SOCK_STREAM");
        assert_eq!(flags(FlagSet::SocketType, 0o2004002), "SOCK_DGRAM|SOCK_NONBLOCK|SOCK_CLOEXEC");
        assert_eq!(flags(FlagSet::SocketType, 0), "0");
        assert_eq!(flags(FlagSet::SocketType, 0o2000000), "SOCK_CLOEXEC");
        assert_eq!(flags(FlagSet::SocketType, 0x89), "0x89");
        assert_eq!(flags(FlagSet::AddressFamily, 2), "AF_INET");
        assert_eq!(flags(FlagSet::AddressFamily, 99), "99");
        assert_eq!(flags(FlagSet::Msg, 0), "0");
        assert_eq!(flags(FlagSet::Msg, 0x4040), "MSG_DONTWAIT|MSG_NOSIGNAL");
    }

    #[test]
    fn futex_operations() {
        assert_eq!(flags(FlagSet::Futex, 0), "FUTEX_WAIT");
        assert_eq!(flags(FlagSet::Futex, 0x80), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
        assert_eq!(
            flags(FlagSet::Futex, 0x189),
            "FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME"
        );
        assert_eq!(flags(FlagSet::Futex, 0x9f), "FUTEX_PRIVATE_FLAG|0x1f");
    }

    #[test]
    fn enumerations() {
        assert_eq!(flags(FlagSet::Seek, 0), "SEEK_SET");
        assert_eq!(flags(FlagSet::Seek, 9), "9");
        assert_eq!(flags(FlagSet::Clock, 1), "CLOCK_MONOTONIC");
        assert_eq!(flags(FlagSet::Fcntl, 1030), "F_DUPFD_CLOEXEC");
        assert_eq!(flags(FlagSet::EpollCtl, 0), "0");
        assert_eq!(flags(FlagSet::Access, 0), "F_OK");
        assert_eq!(flags(FlagSet::Access, 5), "R_OK|X_OK");
        assert_eq!(flags(FlagSet::SchedPolicy, 0x4000_0001), "SCHED_FIFO|SCHED_RESET_ON_FORK");
        assert_eq!(flags(FlagSet::Ptrace, 0x4206), "PTRACE_SEIZE");
        assert_eq!(flags_on(FlagSet::Ptrace, 12, Abi::Aarch64), "12");
    }

    #[test]
    fn an_int_is_read_as_the_kernel_reads_it() {
        // Compilers leave either in the register.
        for value in [u64::MAX, u64::from(u32::MAX)] {
            assert_eq!(flags(FlagSet::Rusage, value), "RUSAGE_CHILDREN");
            assert_eq!(flags(FlagSet::Clock, value - 5), "-6");
        }
        assert_eq!(flags(FlagSet::Open, 0xdead_beef_0000_0001), "O_WRONLY");
        assert_eq!(flags(FlagSet::Prot, 0x1_0000_0001), "PROT_READ|0x100000000");
    }

    #[test]
    fn permissions_of_what_is_made_are_octal() {
        assert_eq!(flags(FlagSet::IpcFlags, 0o1600), "IPC_CREAT|0600");
        assert_eq!(flags(FlagSet::IpcFlags, 0o644), "0644");
        assert_eq!(flags(FlagSet::IpcFlags, 1 << 20 | 7), "07|0x100000");
    }

    #[test]
    fn all_bits_set() {
        assert_eq!(
            flags(FlagSet::Prot, u64::MAX),
            "PROT_READ|PROT_WRITE|PROT_EXEC|PROT_SEM|PROT_GROWSDOWN|PROT_GROWSUP|0xfffffffffcfffff0"
        );
        assert_eq!(flags(FlagSet::Rename, u64::MAX).rsplit('|').next(), Some("0xfffffff8"));
        for set in plain_sets() {
            for arch in ABIS {
                assert!(!flags_on(set, u64::MAX, arch).is_empty());
            }
        }
    }

    #[test]
    fn no_bit_is_lost() {
        for set in plain_sets() {
            for arch in ABIS {
                let layout = layout(set, arch);
                for bit in 0..if layout.long { 64 } else { 32 } {
                    let value = 1u64 << bit;
                    let text = flags_on(set, value, arch);
                    let mut sum = 0;
                    for name in text.split('|') {
                        let named = layout.field_names.iter().chain(layout.bit_names);
                        let known = named.into_iter().find(|(_, known)| *known == name);
                        sum |= if let Some((number, _)) = known {
                            *number as u64
                        } else if let Some(digits) = name.strip_prefix("0x") {
                            u64::from_str_radix(digits, 16).unwrap()
                        } else if let Some(digits) = name.strip_prefix('0') {
                            u64::from_str_radix(digits, 8).unwrap()
                        } else if let Ok(number) = name.parse::<i64>() {
                            if layout.long { number as u64 } else { u64::from(number as u32) }
                        } else {
                            (1..65).find(|&number| signal_name(number) == name).unwrap().into()
                        };
                    }
                    assert_eq!(sum, value, "{set:?} {arch:?} {text}");
                }
            }
        }
    }

    #[test]
    fn requests_and_capabilities_have_a_form_of_their_own() {
        assert_eq!(flags(FlagSet::Ioctl, 0x5413), "TIOCGWINSZ");
        assert_eq!(flags(FlagSet::Ioctl, 0x8004_5430), "TIOCGPTN");
        assert_eq!(
            flags(FlagSet::Ioctl, 0xc008_aa99),
            "_IOC(_IOC_READ|_IOC_WRITE, 0xaa, 0x99, 0x8)"
        );
        assert_eq!(flags(FlagSet::Capabilities, 0x21), "1<<CAP_CHOWN|1<<CAP_KILL");
        assert_eq!(flags(FlagSet::Capabilities, 0), "0");
        assert_eq!(flags(FlagSet::FileSystem, 0xca45_1a4e), "BCACHEFS_SUPER_MAGIC");
        assert_eq!(flags(FlagSet::FileSystem, 0xdead_beef), "0xdeadbeef");
        assert_eq!(flags(FlagSet::FutexBitset, u64::from(u32::MAX)), "FUTEX_BITSET_MATCH_ANY");
        assert_eq!(flags(FlagSet::SignalCode, (-6i64).cast_unsigned()), "SI_TKILL");
    }

    #[test]
    fn all_bits_of_a_wide_member_count() {
        let mut text = String::new();
        write_wide_flags(FlagSet::Open, 0x1_0000_0001, Abi::X86_64, &mut text);
        assert_eq!(text, "O_WRONLY|0x100000000");
    }

    #[test]
    fn zero_has_a_word() {
        for set in plain_sets() {
            for arch in ABIS {
                let text = flags_on(set, 0, arch);
                assert!(!text.is_empty() && !text.contains('|'), "{set:?} {text}");
            }
        }
    }

    #[test]
    fn what_stands_before_stays() {
        let mut out = String::from("flags=");
        write_flags(FlagSet::Msg, 0, Abi::X86_64, &mut out);
        assert_eq!(out, "flags=0");
        write_flags(FlagSet::At, 0x1100, Abi::X86_64, &mut out);
        assert_eq!(out, "flags=0AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH");
    }

    #[test]
    fn names_of_several_bits_come_first() {
        for set in plain_sets() {
            for arch in ABIS {
                let names = layout(set, arch).bit_names;
                for (place, &(bits, name)) in names.iter().enumerate() {
                    let hidden = names[..place].iter().any(|&(before, _)| bits & before == before);
                    assert!(!hidden, "{set:?}: {name}");
                }
            }
        }
    }
}
