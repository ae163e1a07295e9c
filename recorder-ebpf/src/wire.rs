//! How a record lies in the ring.
//!
//! A record is the fixed part of its kind (see [`crate::schema::record`]), then
//! as many 8-byte words as the header's `args` says (the arguments of a system
//! call), then the attachments, each a head of four bytes and its bytes padded
//! to four. Everything is in the byte order of the machine.

/// The largest record: two paths of 4 KiB and a short string, or the arguments of an exec.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The longest string read from a process, the terminating NUL included (`PATH_MAX`).
pub const STRING_BYTES_MAX: usize = 4096;

/// The most bytes of a socket address (`sizeof(struct sockaddr_storage)`).
pub const SOCKADDR_BYTES_MAX: usize = 128;

/// Bytes of an address in a network record: `sizeof(struct sockaddr_in6)`.
pub const INET_SOCKADDR_BYTES: usize = 28;

/// The most bytes of arguments kept of an exec.
pub const EXEC_ARGS_BYTES_MAX: usize = 4096;

/// The most arguments a system call has.
pub const SYSCALL_ARGS_MAX: usize = 6;

/// The most things read for one call: strings, addresses, structures, and what these
/// point to.
pub const SYSCALL_ATTACHMENTS_MAX: usize = 4;

/// The most bytes of one structure, list or buffer. `struct utsname` is the longest
/// structure (390); what has a count is cut much earlier, see [`LIST_BYTES_MAX`].
pub const MEMORY_BYTES_MAX: usize = 4095;

/// The most bytes of what has a count: a list of `struct iovec` or `struct pollfd`,
/// control messages. Sixteen vectors or 32 descriptors say what a call was about; the
/// rest would be paid for by everybody's window.
pub const LIST_BYTES_MAX: usize = 256;

/// The attachment number of the wait channel of a call that has not returned.
/// The numbers below it are those of the arguments.
pub const ATTACHMENT_WAIT_CHANNEL: u8 = 6;

/// The attachment number of part `part` (1 to 7) of what argument `arg` points to: what
/// its structure points to in turn. Part 0 is the argument itself.
pub const fn attachment_part(arg: u8, part: u8) -> u8 {
    arg & 7 | (part & 7) << 3
}

/// The attachment number of the files a call left its caller with, as the kernel
/// resolved them: [`FileHead`] and what belongs to it, one after the other.
pub const ATTACHMENT_FILES: u8 = 7;

/// The attachment number of the caller's [`Credentials`] after a call that changes them.
/// There is no argument 6: part 1 of it stands for something else.
pub const ATTACHMENT_CREDENTIALS: u8 = attachment_part(6, 1);

/// The most files described for one call: `recvmsg` can bring 253 descriptors.
pub const FILES_MAX: usize = 8;

/// The most files described for one fork: what another thread opened and closed while the
/// kernel made the child. One `close_range` can close them all.
pub const FILES_FORKED_MAX: usize = 32;

/// The most bytes of a path the kernel resolved (`PATH_MAX`).
pub const FILE_PATH_BYTES_MAX: usize = 4096;

/// The most steps from a file to the root: names and mounts.
pub const FILE_DEPTH_MAX: usize = 40;

/// The descriptor number of a working directory in [`FileHead::fd`] (`AT_FDCWD`).
pub const FILE_WORKING_DIRECTORY: i32 = -100;

/// A file of the kernel, as a descriptor or a working directory refers to it.
///
/// Behind it come `bytes` bytes, padded to eight: for a socket a [`SocketHead`] and its
/// addresses, for anything else the names on the path from the file up to the root,
/// each ended by a NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileHead {
    /// The descriptor, or [`FILE_WORKING_DIRECTORY`].
    pub fd: i32,
    /// [`file_flag`] bits.
    pub flags: u16,
    /// Bytes that follow, without the padding.
    pub bytes: u16,
    /// Type and permissions, as `st_mode`; 0 when they are not known.
    pub mode: u32,
    /// The device of its file system, as the kernel keeps it: major number above 20 bits.
    pub device: u32,
    /// The magic number of its file system (include/uapi/linux/magic.h).
    pub magic: u32,
    /// The flags it was opened with, as `fcntl(F_GETFL)` gives them.
    pub open_flags: u32,
    /// Its inode number.
    pub inode: u64,
}

const _: () = assert!(size_of::<FileHead>() == 32);

/// Bits of [`FileHead::flags`].
pub mod file_flag {
    /// There is no such descriptor: a fork says so where the parent has one that the child
    /// does not have.
    pub const CLOSED: u16 = 1 << 0;
    /// The path goes on above what is there, or could not be read to its end.
    pub const CUT: u16 = 1 << 1;
    /// The descriptor is closed by an exec.
    pub const CLOSE_ON_EXEC: u16 = 1 << 2;
    /// It has no name in its directory any more.
    pub const DELETED: u16 = 1 << 3;
}

/// What a socket is. Behind it: for IPv4 and IPv6 the local and the remote address, each
/// of [`INET_SOCKADDR_BYTES`]; for a Unix socket its own address, where it has one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketHead {
    /// The address family.
    pub family: u16,
    /// `SOCK_STREAM` and so on.
    pub kind: u16,
    /// The protocol.
    pub protocol: u16,
    /// The state; those of Unix sockets have the numbers of TCP.
    pub state: u16,
    /// The inode of the other end of a Unix socket, or 0.
    pub peer: u64,
}

/// Who a task is, as others see it: numbers of the initial user namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective user.
    pub euid: u32,
    /// Effective group.
    pub egid: u32,
}

/// Bytes of a thread's name (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// Numbers a field may have on the wire.
pub trait WireInt {
    /// Whether it is sign-extended when widened.
    const SIGNED: bool;
}
macro_rules! wire_int {
    ($($type:ty: $signed:literal),*) => { $(impl WireInt for $type { const SIGNED: bool = $signed; })* };
}
wire_int!(u8: false, u16: false, u32: false, u64: false, i32: true, i64: true);

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Bytes of the whole record, this header included.
    pub bytes: u16,
    /// A [`crate::schema::Kind`].
    pub kind: u8,
    /// How many argument words follow the fixed part.
    pub args: u8,
    /// [`flag`] bits.
    pub flags: u16,
    /// How many attachments follow.
    pub attachments: u8,
    /// Always 0.
    pub reserved: u8,
    /// For a system call: the low half of this CPU's running number of calls.
    pub seq: u32,
    /// For a system call: how many were filtered or lost since the last record of one.
    pub skipped: u32,
    /// When the event happened, `CLOCK_MONOTONIC`.
    pub ts_ns: u64,
    /// The process, 0 when there is none.
    pub pid: u32,
    /// The thread, 0 when there is none.
    pub tid: u32,
}

const _: () = assert!(size_of::<Header>() == 32);

/// Bits of [`Header::flags`].
pub mod flag {
    /// The exit was seen without an entry: no duration, number from the registers.
    pub const NO_ENTRY: u16 = 1 << 0;
    /// The call does not return (`exit`, `exit_group`), or has no result: a filter
    /// (seccomp) answered it with a signal. Of a thread at the window's left edge: it
    /// has ended, but others of its process have not.
    pub const NO_RETURN: u16 = 1 << 1;
    /// A 32-bit call on a 64-bit kernel.
    pub const COMPAT: u16 = 1 << 2;
    /// Strings were read more than [`super::LATE_NS`] after entry: the program
    /// had time to change them.
    pub const LATE: u16 = 1 << 3;
    /// The call had not returned when the window was frozen.
    pub const UNFINISHED: u16 = 1 << 4;
    /// The call began before the recording: its age is a lower bound.
    pub const BEFORE_RECORDING: u16 = 1 << 5;
    /// The arguments are unknown (`rt_sigreturn` has lost them); of an exec or exit,
    /// how (a kernel without BTF does not say).
    pub const NO_ARGS: u16 = 1 << 6;
}

/// A call that lasted longer carries [`flag::LATE`] on its strings.
pub const LATE_NS: u64 = 10_000_000;

/// The head of an attachment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AttachmentHead {
    /// Which one: an argument's number, or the index in the schema.
    pub index: u8,
    /// [`attachment_flag`] bits.
    pub flags: u8,
    /// Bytes that follow, without the padding to four.
    pub bytes: u16,
}

/// Bits of [`AttachmentHead::flags`].
pub mod attachment_flag {
    /// The memory could not be read.
    pub const UNREADABLE: u8 = 1 << 0;
    /// There was more than is kept.
    pub const CUT: u8 = 1 << 1;
    /// A secret in it was masked. No program of the kernel sets it.
    pub const MASKED: u8 = 1 << 2;
    /// It was read when the call was entered, since the kernel writes there: one element as
    /// it was passed. What stood in its place when the call returned comes behind it, where
    /// the kernel may have changed it.
    pub const ENTERED: u8 = 1 << 3;
}

/// What the exit program does for one system call, a value of the map `PLAN`.
///
/// ```text
/// bits 0-2    number of arguments
/// bits 4-7    what is special, see `special`
/// bits 8-15   what it leaves behind in kernel objects, see `leaves`
/// bits 16-27  first attachment: bits 0-2 the argument, bits 3-11 a place in `READINGS`
/// bits 28-39  second
/// bits 40-51  third
/// bits 52-63  fourth; with `special::SELECTED` what selects, see `selector`
/// ```
pub mod plan {
    /// Calls that do not go the ordinary way, in bits 4-7.
    pub mod special {
        /// Nothing.
        pub const NONE: u64 = 0;
        /// `execve`, `execveat`: the path is read at entry as well, and the arguments at the
        /// exit of one that failed.
        pub const EXEC: u64 = 1;
        /// `exit`, `exit_group`: recorded at entry.
        pub const EXIT: u64 = 2;
        /// `select`, `ppoll` and their like: what the kernel changes is read at entry, see
        /// [`ENTERED`](super::super::when::ENTERED).
        pub const ENTERED: u64 = 3;
        /// `rt_sigreturn`: number from the slot, no arguments.
        pub const SIGRETURN: u64 = 4;
        /// `accept`, `accept4`: the caller owns the new socket.
        pub const ACCEPT: u64 = 5;
        /// `fcntl`, `ioctl` and their like: an argument says what the others are. The
        /// plan is looked up in `SELECTED`; this one is for what is not found there.
        pub const SELECTED: u64 = 6;
        /// Those that take more than the slot at entry are the numbers from the first to the
        /// last of these: one compare.
        pub const AT_ENTRY: (u64, u64) = (EXEC, ENTERED);
    }
    /// Whether the entry of the call takes more than to fill the slot.
    pub const fn is_special_at_entry(plan: u64) -> bool {
        let (first, last) = special::AT_ENTRY;
        special_of(plan).wrapping_sub(first) <= last - first
    }
    /// Bits of the plan that a selected one does not replace.
    pub const FILES: u64 = 0xff00;
    /// The plan with what the call leaves behind, see `leaves`.
    pub const fn with_leaves(plan: u64, leaves: u32) -> u64 {
        plan & !FILES | (leaves as u64) << 8 & FILES
    }
    /// What the call leaves behind.
    pub const fn leaves_of(plan: u64) -> u32 {
        (plan & FILES) as u32 >> 8
    }
    /// Places in `READINGS`; 0 is none.
    pub const READINGS_MAX: u32 = 512;
    /// Entries of `SELECTED`.
    pub const SELECTED_MAX: u32 = 4096;
    /// Where the attachment at `position` 0 to 3 begins.
    pub const fn shift(position: u32) -> u32 {
        16 + 12 * position
    }
    /// What a call leaves behind in kernel objects that its record is to say.
    pub mod leaves {
        /// Nothing.
        pub const NOTHING: u32 = 0;
        /// A descriptor: what it returned.
        pub const RETURNED: u32 = 1;
        /// Two descriptors, at its first argument.
        pub const PAIR_AT_FIRST: u32 = 2;
        /// Two descriptors, at its fourth argument.
        pub const PAIR_AT_FOURTH: u32 = 3;
        /// Its first argument is a socket that has other addresses now.
        pub const ADDRESS: u32 = 4;
        /// Another working directory.
        pub const DIRECTORY: u32 = 5;
        /// Descriptors that came with a message.
        pub const RIGHTS: u32 = 6;
        /// A descriptor, when it was `F_DUPFD`.
        pub const FCNTL: u32 = 7;
        /// A descriptor, when the request is one that makes one.
        pub const IOCTL: u32 = 8;
        /// A descriptor of the child, with `CLONE_PIDFD`.
        pub const CLONE: u32 = 9;
        /// The same by `clone3`.
        pub const CLONE3: u32 = 10;
        /// A descriptor, when the command is one that makes one.
        pub const BPF: u32 = 11;
        /// Other credentials.
        pub const CREDENTIALS: u32 = 12;
    }
    /// A plan for a call with this many arguments.
    pub const fn new(args: u64, special: u64) -> u64 {
        args & 7 | (special & 15) << 4
    }
    /// Whether a record has nothing but the arguments: nothing is special, nothing is left
    /// behind, nothing is read.
    pub const fn is_short(plan: u64) -> bool {
        plan >> 4 == 0
    }
    /// Bytes of such a record.
    pub const fn record_bytes(plan: u64) -> u32 {
        size_of::<crate::schema::record::Syscall>() as u32 + 8 * (plan as u32 & 7)
    }
    /// What is special about a call.
    pub const fn special_of(plan: u64) -> u64 {
        plan >> 4 & 15
    }
    /// The plan with an attachment at `position` 0 to 3.
    pub const fn with_attachment(plan: u64, position: u32, arg: u64, reading: u64) -> u64 {
        plan | ((reading & 511) << 3 | arg & 7) << shift(position)
    }
    /// The argument and the place in `READINGS` of the attachment at `position`.
    pub const fn attachment(plan: u64, position: u32) -> (u32, u32) {
        let what = (plan >> shift(position)) as u32 & 0xfff;
        (what & 7, what >> 3)
    }
    /// The plan of a call whose argument `arg` selects another one, by its low seven
    /// bits alone when `low` (futex operations carry flags above them).
    pub const fn with_selector(plan: u64, arg: u64, low: bool) -> u64 {
        let what = arg & 7 | (low as u64) << 3;
        plan & !(0xf0 | 0xfff << shift(3)) | special::SELECTED << 4 | what << shift(3)
    }
    /// The argument that selects, and the bits of it that do.
    pub const fn selector(plan: u64) -> (u32, u32) {
        let what = (plan >> shift(3)) as u32;
        (what & 7, if what & 8 != 0 { 0x7f } else { u32::MAX })
    }
    /// The plan without what selects another.
    pub const fn without_selector(plan: u64) -> u64 {
        plan & !(0xfff << shift(3))
    }
    /// The key of `SELECTED` for the call at `index` (see [`super::call_index`]).
    pub const fn selected_key(index: u32, value: u32) -> u64 {
        (index as u64) << 32 | value as u64
    }
    /// A call that is not in the table: all six words are kept.
    pub const UNKNOWN: u64 = new(6, special::NONE);
}

/// How one thing is read from the memory of a process, a value of the map `READINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// A [`reading`] kind.
    pub kind: u8,
    /// A [`when`].
    pub when: u8,
    /// The part of the argument it is, see [`attachment_part`].
    pub part: u8,
    /// The argument that has the count; for what follows a structure, the offset in it.
    pub count_at: u8,
    /// For what follows a structure: the offset of the pointer in it.
    pub pointer_at: u8,
    /// Not 0 when pointers in structures have four bytes.
    pub narrow: u8,
    /// Bytes of one element.
    pub element_bytes: u16,
    /// Bytes kept at most, not more than [`MEMORY_BYTES_MAX`].
    pub bytes_max: u16,
    /// Where `is_data`: bytes kept at most when the descriptor is a socket.
    pub network_bytes_max: u16,
    /// Not 0 for what a program reads and writes through the descriptor that is its
    /// first argument: which it is decides how much is kept, and of what the kernel
    /// tells about processes nothing is.
    pub is_data: u8,
    /// For what is read at entry: its first word in [`Slot::entered`], at most
    /// [`ENTERED_PLACE_MAX`].
    pub entered_at: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

/// Words of [`Slot::entered`]: three sets of descriptors and a time.
pub const ENTERED_WORDS: usize = 5;

/// The largest [`Reading::entered_at`]: a mask, so that the verifier sees a bound, and from
/// here there are two words.
pub const ENTERED_PLACE_MAX: u8 = 3;

const _: () = assert!(ENTERED_PLACE_MAX as usize + 2 == ENTERED_WORDS);

const _: () = assert!(size_of::<Reading>() == 16);

/// Kinds of [`Reading`]: what tells how many elements there are.
pub mod reading {
    /// Nothing is read.
    pub const NONE: u8 = 0;
    /// It ends with a NUL.
    pub const STRING: u8 = 1;
    /// One.
    pub const ONE: u8 = 2;
    /// Argument `count_at`.
    pub const ARGUMENT: u8 = 3;
    /// The result.
    pub const RESULT: u8 = 4;
    /// The 32-bit number that argument `count_at` points to.
    pub const POINTED: u8 = 5;
    /// The 32-bit number at offset `count_at` of what is read.
    pub const INSIDE: u8 = 6;
    /// As many bits as argument `count_at` says, in whole words.
    pub const BITS: u8 = 7;
    /// The 32-bit number at offset `count_at` of the structure read before; the pointer
    /// is in it as well.
    pub const FOLLOW: u8 = 8;
    /// A string; the pointer is in the structure read before.
    pub const FOLLOW_STRING: u8 = 9;
    /// As many as the version of capabilities says that was read at entry as the first word,
    /// see [`super::capability_sets`]. Like what is read at entry it is attached by itself,
    /// and to the others it follows a structure that is not there.
    pub const VERSION: u8 = 10;
}

/// When something is read.
pub mod when {
    /// Always: the program wrote it.
    pub const ALWAYS: u8 = 0;
    /// When the call succeeded: the kernel wrote it.
    pub const SUCCESS: u8 = 1;
    /// When the result is more than 0.
    pub const POSITIVE: u8 = 2;
    /// When a signal interrupted the call: what is left of its time.
    pub const INTERRUPTED: u8 = 3;
    /// When the call was entered: the kernel may write there.
    pub const ENTERED: u8 = 4;
    /// The same, and what stands there when it returns, where [`is_changed`] says so.
    pub const CHANGED: u8 = 5;

    /// Whether it is read for a call with this result.
    pub const fn holds(when: u8, ret: i64) -> bool {
        match when {
            ALWAYS => true,
            SUCCESS => ret >= 0,
            POSITIVE => ret > 0,
            // EINTR, ERESTART_RESTARTBLOCK.
            INTERRUPTED => ret == -4 || ret == -516,
            // That was before.
            _ => false,
        }
    }

    /// Whether a call with this result may have changed what it was given: it has done
    /// something, or a signal ended its wait (`EINTR`, `ERESTARTNOHAND`). When its time is
    /// up nothing is left of it, and that goes without saying.
    pub const fn is_changed(ret: i64) -> bool {
        ret > 0 || ret == -4 || ret == -514
    }
}

/// How many `struct __user_cap_data_struct` a call on capabilities has by the version in its
/// header (include/uapi/linux/capability.h): one of 32 bits each, since 2.6.25 two of which
/// the second has the upper halves. 0 for a version the kernel does not know: it takes none.
pub const fn capability_sets(version: u32) -> u32 {
    match version {
        0x1998_0330 => 1,
        0x2007_1026 | 0x2008_0522 => 2,
        _ => 0,
    }
}

/// Entries of `PLAN` and `CALLS`: native calls, then 32-bit ones.
pub const CALLS_MAX: u32 = 1024;
/// Where the 32-bit calls begin.
pub const CALLS_COMPAT: u32 = 512;

/// The place of a call in `PLAN` and `CALLS`. Numbers no table has share the last place.
pub const fn call_index(nr: i64, compat: bool) -> u32 {
    let place = if nr >= 0 && nr < CALLS_COMPAT as i64 - 1 { nr as u32 } else { CALLS_COMPAT - 1 };
    if compat { CALLS_COMPAT + place } else { place }
}

/// Per call and CPU, a value of the map `CALLS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CallCounts {
    /// Calls that reached their exit (or the entry of one that does not return)
    /// and were not filtered.
    pub seen: u64,
    /// Those whose record found no room.
    pub lost: u64,
}

/// What a new thread shares with the one that made it.
pub mod shared {
    /// Its table of descriptors.
    pub const FILES: u32 = 1 << 0;
    /// Its working directory.
    pub const DIRECTORY: u32 = 1 << 1;
    /// Its control group of version 2.
    pub const CONTROL_GROUP: u32 = 1 << 2;
    /// Its parent, of a process: it is a sibling, not a child.
    pub const PARENT: u32 = 1 << 3;
    /// Not known: this kernel does not say.
    pub const UNKNOWN: u32 = 1 << 31;
}

/// What became of a control group.
pub mod group_change {
    /// It was there at the window's left edge.
    pub const THERE: u32 = 0;
    /// It was made.
    pub const MADE: u32 = 1;
    /// It was removed.
    pub const REMOVED: u32 = 2;
}

/// Why an event was not offered to the ring.
pub mod filtered {
    /// It was the recorder's own.
    pub const OWN: usize = 0;
    /// The first return of a new thread, which is not a call.
    pub const CHILD_RETURN: usize = 1;
    /// How many reasons there are.
    pub const COUNT: usize = 2;
    /// Their names.
    pub const NAMES: [&str; COUNT] = ["own", "child_return"];
}

/// Why events are missing.
pub mod lost {
    /// The ring was full.
    pub const RING_FULL: u32 = 1;
    /// The kernel did not run the program.
    pub const KERNEL_SKIPPED: u32 = 2;
    /// The spool could not take it in time. Only a snapshot that was made of one has it.
    pub const NOT_SPOOLED: u32 = 3;
    /// Their names, by number.
    pub const NAMES: [&str; 4] = ["unknown", "ring_full", "kernel_skipped", "not_spooled"];
}

/// Kinds counted per CPU; a kind's number is its place.
pub const KINDS_MAX: usize = 32;

/// Counters of one CPU, a value of the map `COUNTERS`. None of them is ever reset.
///
/// Only task context with preemption disabled touches what counts system calls: plain
/// increments. Everything else can meet an interrupt on the same CPU and is added
/// atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// System calls offered: the running number.
    pub calls: u64,
    /// System calls filtered, by reason.
    pub calls_filtered: [u64; filtered::COUNT],
    /// Events of other kinds that were filtered.
    pub others_filtered: u64,
    /// Events offered to the ring, by kind.
    pub seen: [u64; KINDS_MAX],
    /// Events the ring took, by kind.
    pub stored: [u64; KINDS_MAX],
    /// Events the ring had no room for, by kind.
    pub lost: [u64; KINDS_MAX],
    /// How many programs are between their first count and their last on this CPU.
    pub busy: u64,
    /// Losses since the last `lost` record.
    pub pending_lost: u64,
    /// How many of them say which processes there are: forks, execs, ends, renames.
    pub pending_lost_process: u64,
    /// The first of them.
    pub pending_first_ns: u64,
    /// The last of them.
    pub pending_last_ns: u64,
    /// Calls filtered or lost since the last record of a call.
    pub pending_skipped: u64,
    /// One more than the reader's position when it was last woken. Of a BPF ring buffer, as
    /// the next one; a mapped ring has its own.
    pub woken_at: u64,
    /// Bytes the ring can take before it may be half full: until then nobody asks how full
    /// it is. An interrupt may go uncounted here, which matters little: there is the other
    /// half.
    pub unasked_bytes: u64,
}

/// Everything one CPU counts, in one value of the maps `COUNTERS` and `CUTS`:
/// one look-up per event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PerCpu {
    /// Totals and the ledger.
    pub counters: Counters,
    /// By call, see [`call_index`].
    pub calls: [CallCounts; CALLS_MAX as usize],
}

/// The slot of a thread: the call it is in, a value of the map `SLOTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// When the call was entered.
    pub entry_ns: u64,
    /// Its number.
    pub nr: i64,
    /// Its arguments.
    pub args: [u64; SYSCALL_ARGS_MAX],
    /// A [`slot_state`].
    pub state: u32,
    /// [`flag::COMPAT`] or 0, and above [`SLOT_ENTERED`] a bit for each word of `entered`
    /// with which something begins that could be read.
    pub flags: u32,
    /// What was read at entry, see [`Reading::entered_at`]. With it a slot still has the
    /// same size in the kernel's allocator: 192 bytes with what task storage adds.
    pub entered: [u64; ENTERED_WORDS],
}

/// The first bit of [`Slot::flags`] that says what could be read at entry.
pub const SLOT_ENTERED: u32 = 16;

/// States of a [`Slot`].
pub mod slot_state {
    /// The thread is in no call.
    pub const EMPTY: u32 = 0;
    /// The thread is in the call the slot holds.
    pub const IN_CALL: u32 = 1;
    /// The thread was just created: its first return is not a call.
    pub const CHILD: u32 = 2;
}

/// What the task iterator writes for a thread that is in a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SlotRow {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Its slot.
    pub slot: Slot,
}

/// What both sides know of a ring. The two halves are in cache lines of their own, and
/// of the pairs of lines that processors fetch at once.
#[repr(C)]
#[derive(Debug)]
pub struct RingControl {
    /// Bytes put in since the beginning. Programs write it.
    pub head: u64,
    /// As long as `head` is not beyond, the ring is not half full, and nobody asks how
    /// full it is.
    pub unasked_until: u64,
    /// One more than the reader's position when it was last woken.
    pub woken_at: u64,
    /// Nothing.
    pub unused: [u64; 13],
    /// Bytes taken out since the beginning. The reader writes it.
    pub tail: u64,
}

/// How a ring lies in the memory that kernel and recorder share, a value of the map `RINGS`
/// for each CPU: a page that begins with a [`RingControl`], the ring, and a tail for a record that begins
/// before the ring's end.
///
/// A record begins at a multiple of 8 bytes. Before it lies a word that is written last,
/// [`published`](ring::published): it follows from the position the record was put at, counted
/// in bytes since the beginning, so that no other lap of the ring can be mistaken for it.
pub mod ring {
    use super::RECORD_BYTES_MAX;

    /// Bytes of the word before a record.
    pub const POSITION_BYTES: usize = 8;

    /// Where the ring begins.
    pub const CONTROL_BYTES: usize = 4096;

    /// Bytes behind the ring: the longest record and its word, in pages.
    pub const TAIL_BYTES: usize = (RECORD_BYTES_MAX + POSITION_BYTES).next_multiple_of(4096);

    /// The largest ring: before 5.20 a value may have 4 MiB (`array_map_alloc_check`,
    /// kernel/bpf/arraymap.c).
    pub const BYTES_MAX: usize = 2 << 20;

    /// Bytes of a value as the programs are compiled; the loader asks for what it needs.
    pub const VALUE_BYTES_DECLARED: usize = value_bytes(BYTES_MAX);

    /// Bytes of a value with a ring of `ring_bytes`, a power of two.
    pub const fn value_bytes(ring_bytes: usize) -> usize {
        CONTROL_BYTES + ring_bytes + TAIL_BYTES
    }

    /// How many bytes a ring may hold. Room is looked for and then taken, and an interrupt
    /// in between does the same; of those two can be at work at a time.
    pub const fn capacity(ring_bytes: usize) -> usize {
        ring_bytes - 2 * taken(RECORD_BYTES_MAX as u64) as usize
    }

    /// The word before a record that was put at `position`: one more than that, since memory
    /// that nobody wrote to is 0, and a key of the recording. Without the key whoever chooses
    /// arguments could write, in a lap before, what passes for a record in this one.
    pub const fn published(position: u64, key: u64) -> u64 {
        position.wrapping_add(1).wrapping_add(key)
    }

    /// What a record of `bytes` takes.
    pub const fn taken(bytes: u64) -> u64 {
        (POSITION_BYTES as u64 + bytes + 7) & !7
    }
}

/// First argument of the call by which the recorder checks that its own event
/// comes through the whole path: the only own call that is recorded. It asks for
/// the session (`getsid`) of a process whose number no kernel gives out
/// (`PID_MAX_LIMIT` is 2^22), so the call fails with `ESRCH` and does nothing.
pub const CANARY_PID: u64 = 0x4b46_5231;
