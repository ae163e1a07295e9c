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
    /// The number of a device.
    Device,
    /// A plain number in hexadecimal: a magic number, a mask without names.
    Hex,
    /// A plain unsigned number.
    Unsigned,
    /// A file's type and permission bits.
    FileMode,
    /// A resource limit.
    Limit,
    /// A signal handler, or what stands for one.
    Handler,
    /// An IPv4 address in network order.
    InetAddress,
    /// What another argument says it is.
    By(Choice),
    /// It points to a structure or a list of them.
    Memory(Memory),
    /// It points to bytes that are the program's own: read only where that is asked for.
    Data(DataClass),
}

/// Whose bytes they are: how many are read is set by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataClass {
    /// What is read and written through descriptors.
    File,
    /// What is sent and received over sockets.
    Network,
}

/// Arguments whose meaning two others give; one is no matter for a choice but for a
/// form of the call, see `recorder::event::form`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The option of `setsockopt(2)`, by the level.
    SocketOption,
    /// The third argument of `socket(2)`, by the family.
    Protocol,
}

/// What an argument points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What lies there.
    pub layout: Layout,
    /// How much of it.
    pub extent: Extent,
    /// When it is read: a `wire::when`.
    pub when: u8,
}

/// How much lies behind a pointer; numbers are places of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One.
    One,
    /// As many as an argument says.
    Count(u8),
    /// As many as the call returned.
    Result,
    /// As many bytes as an argument says.
    Bytes(u8),
    /// The same, and not more than the second number.
    BytesUpTo(u8, u8),
    /// As many bytes as the call returned.
    ResultBytes,
    /// As many bytes as the number says an argument points to.
    Pointed(u8),
    /// As many bytes as the number at this offset of it says.
    Inside(u8),
    /// As many bits as an argument says.
    Bits(u8),
    /// As many as the version says that an argument points to, see
    /// [`crate::wire::capability_sets`].
    Version(u8),
}

/// What lies in memory; the members stand in `recorder::event::structure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `int`.
    IntValue,
    /// `unsigned int`.
    UnsignedValue,
    /// `unsigned int`, in hexadecimal.
    HexValue,
    /// `__u64`.
    LongLongValue,
    /// `loff_t`.
    OffsetValue,
    /// `long`.
    WordValue,
    /// A pointer.
    PointerValue,
    /// A user id.
    UserId,
    /// A group id.
    GroupId,
    /// A group id of 16 bits.
    GroupId16,
    /// A descriptor.
    Descriptor,
    /// A thread id.
    ThreadId,
    /// A signal.
    SignalNumber,
    /// Two descriptors.
    DescriptorPair,
    /// What `wait4(2)` says of an end.
    WaitStatus,
    /// Bytes that are shown as they are.
    Raw,
    /// A string in a buffer of its own.
    Words,
    /// The name of a thread in its 16 bytes.
    ThreadName,
    /// The value of an option of a socket: level and option say what it is.
    SocketValue,
    /// A socket address.
    SocketAddress,
    /// Control messages of a socket.
    Controls,
    /// `struct timespec` of this ABI.
    Timespec,
    /// `struct __kernel_timespec`.
    Timespec64,
    /// `struct timeval`.
    Timeval,
    /// Two of `struct timespec`: access and modification.
    TimespecPair,
    /// Two of `struct __kernel_timespec`.
    TimespecPair64,
    /// Two of `struct timeval`.
    TimevalPair,
    /// `struct utimbuf`.
    Utimbuf,
    /// `struct timezone`.
    Timezone,
    /// `struct itimerval`.
    Itimerval,
    /// `struct itimerspec`.
    Itimerspec,
    /// `struct __kernel_itimerspec`.
    Itimerspec64,
    /// `struct tms`.
    Tms,
    /// `struct timex`.
    Timex,
    /// `struct sigevent`.
    Sigevent,
    /// `struct iovec`.
    Iovec,
    /// `struct pollfd`.
    Pollfd,
    /// `struct epoll_event`.
    EpollEvent,
    /// `fd_set`.
    FdSet,
    /// A set of CPUs.
    CpuSet,
    /// A set of signals.
    Sigset,
    /// The sixth argument of `pselect6(2)`.
    SigsetArgument,
    /// `struct sigaction` as the kernel has it.
    Sigaction,
    /// The old one of 32-bit x86.
    OldSigaction,
    /// `siginfo_t`.
    Siginfo,
    /// `stack_t`.
    Sigaltstack,
    /// `struct rlimit`.
    Rlimit,
    /// `struct rlimit64`.
    Rlimit64,
    /// `struct rusage`.
    Usage,
    /// `struct stat`, up to its times.
    Stat,
    /// `struct stat64` of 32-bit x86.
    Stat64,
    /// `struct statx`, up to its times.
    Statx,
    /// `struct statfs`.
    Statfs,
    /// `struct statfs64` of 32-bit x86.
    Statfs64,
    /// `struct new_utsname`.
    Utsname,
    /// `struct sysinfo`.
    Sysinfo,
    /// `struct __user_cap_header_struct`.
    CapHeader,
    /// `struct __user_cap_data_struct`.
    CapData,
    /// `struct msghdr`.
    Msghdr,
    /// `struct mmsghdr`.
    Mmsghdr,
    /// `struct linger`.
    Linger,
    /// `struct ucred`.
    Ucred,
    /// `struct ip_mreq`.
    IpMreq,
    /// `struct ip_mreqn`.
    IpMreqn,
    /// `struct ipv6_mreq`.
    Ipv6Mreq,
    /// The front of `struct tcp_info`.
    TcpInfo,
    /// `struct termios` of the kernel.
    Termios,
    /// `struct winsize`.
    Winsize,
    /// `struct flock`.
    FileLock,
    /// `struct flock64` of 32-bit x86.
    FileLock64,
    /// `struct f_owner_ex`.
    OwnerEx,
    /// `struct ifreq`: a name and what belongs to it.
    Ifreq,
    /// `struct ifconf`.
    Ifconf,
    /// `struct fsxattr`.
    Fsxattr,
    /// `struct file_clone_range`.
    FileCloneRange,
    /// `struct clone_args`.
    CloneArgs,
    /// `struct open_how`.
    OpenHow,
    /// `struct mount_attr`.
    MountAttr,
    /// `struct sched_param`.
    SchedParam,
    /// `struct sched_attr`.
    SchedAttr,
    /// `struct io_uring_params`.
    IoUringParams,
    /// `struct io_sqring_offsets`.
    IoSqringOffsets,
    /// `struct io_cqring_offsets`.
    IoCqringOffsets,
    /// The front of `struct perf_event_attr`.
    PerfEventAttr,
    /// `struct sock_fprog`.
    SockFprog,
    /// `union bpf_attr` of `BPF_MAP_CREATE`.
    BpfMapCreate,
    /// That of calls on an element of a map.
    BpfMapElement,
    /// That of `BPF_PROG_LOAD`.
    BpfProgLoad,
    /// That of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
    BpfObject,
    /// That of `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
    BpfProgAttach,
    /// That of `BPF_PROG_TEST_RUN`.
    BpfTestRun,
    /// That of calls that give ids.
    BpfNextId,
    /// That of `BPF_OBJ_GET_INFO_BY_FD`.
    BpfInfo,
    /// That of `BPF_PROG_QUERY`.
    BpfProgQuery,
    /// That of `BPF_RAW_TRACEPOINT_OPEN`.
    BpfRawTracepoint,
    /// That of `BPF_BTF_LOAD`.
    BpfBtfLoad,
    /// That of `BPF_LINK_CREATE`.
    BpfLinkCreate,
    /// That of `BPF_LINK_UPDATE`.
    BpfLinkUpdate,
    /// That of calls that take one descriptor.
    BpfDescriptor,
    /// `struct mq_attr`.
    MqAttr,
    /// `struct sembuf`.
    Sembuf,
    /// `struct futex_waitv`.
    FutexWaitv,
    /// `struct landlock_ruleset_attr`.
    LandlockRuleset,
    /// `struct landlock_path_beneath_attr`.
    LandlockPath,
    /// `struct landlock_net_port_attr`.
    LandlockPort,
    /// `struct file_handle`, without the handle.
    FileHandle,
    /// `struct cachestat_range`.
    CachestatRange,
    /// `struct cachestat`.
    Cachestat,
    /// `struct robust_list_head`.
    RobustListHead,
    /// `struct user_desc`.
    UserDesc,
}

macro_rules! flag_sets {
    ($( $(#[doc = $doc:literal])* $set:ident, )+) => {
        /// The named sets of bits and enumerations; the names stand in
        /// `recorder::event::names`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FlagSet {
            $( $(#[doc = $doc])* $set, )+
        }

        impl FlagSet {
            /// Every set.
            pub const ALL: &'static [FlagSet] = &[$(FlagSet::$set),+];
        }
    };
}

flag_sets! {
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
    /// `adjtimex(2)`: `ADJ_*`.
    TimexModes,
    /// `adjtimex(2)`: `STA_*`.
    TimexStatus,
    /// `sigevent`: `SIGEV_*`.
    SigevNotify,
    /// `poll(2)`: `POLL*`.
    Poll,
    /// `epoll_ctl(2)`: `EPOLL*` events.
    Epoll,
    /// `epoll_create1(2)`: `EPOLL_CLOEXEC`.
    EpollCreate,
    /// `timerfd_create(2)`: `TFD_*`.
    TimerfdCreate,
    /// `timerfd_settime(2)`: `TFD_TIMER_*`.
    TimerfdSet,
    /// `signalfd4(2)`: `SFD_*`.
    SignalfdCreate,
    /// `inotify_init1(2)`: `IN_*`.
    InotifyCreate,
    /// `pidfd_open(2)`: `PIDFD_*`.
    PidfdOpen,
    /// `fcntl(2)`: `FD_CLOEXEC`.
    DescriptorFlags,
    /// `rt_sigaction(2)`: `SA_*`.
    SignalAction,
    /// `sigaltstack(2)`: `SS_*`.
    AltStack,
    /// `statx(2)`: `STATX_ATTR_*`.
    StatxAttributes,
    /// `statx(2)`: `AT_*`, with the three ways to ask a server.
    AtStatx,
    /// `execveat(2)`: `AT_*`.
    AtExec,
    /// `statfs(2)`: magic numbers.
    FileSystem,
    /// `statfs(2)`: `ST_*`.
    StatfsFlags,
    /// `capget(2)`: `_LINUX_CAPABILITY_VERSION_*`.
    CapVersion,
    /// `capget(2)`: sets of `CAP_*`.
    Capabilities,
    /// `prctl(2)`: one `CAP_*`.
    Capability,
    /// `termios`: input modes.
    TerminalInput,
    /// `termios`: output modes.
    TerminalOutput,
    /// `termios`: control modes.
    TerminalControl,
    /// `termios`: local modes.
    TerminalLocal,
    /// `TCXONC`: `TCO*`, `TCI*`.
    FlowControl,
    /// `TCFLSH`: `TC*FLUSH`.
    FlushQueue,
    /// `fcntl(2)`: `F_RDLCK` and others.
    LockType,
    /// `fcntl(2)`: `F_OWNER_*`.
    OwnerType,
    /// `fcntl(2)`: `DN_*`.
    Dnotify,
    /// `fcntl(2)`: `F_SEAL_*`.
    Seals,
    /// `clone3(2)`: `CLONE_*`, without a signal.
    CloneBits,
    /// `openat2(2)`: `RESOLVE_*`.
    Resolve,
    /// `mount_setattr(2)`: `MOUNT_ATTR_*`.
    MountAttribute,
    /// `fsmount(2)`: `FSMOUNT_CLOEXEC`.
    FsMount,
    /// `fsopen(2)`: `FSOPEN_CLOEXEC`.
    FsOpen,
    /// `fspick(2)`: `FSPICK_*`.
    FsPick,
    /// `sched_setattr(2)`: `SCHED_FLAG_*`.
    SchedFlags,
    /// `io_uring_setup(2)`: `IORING_SETUP_*`.
    IoUringSetup,
    /// `io_uring_setup(2)`: `IORING_FEAT_*`.
    IoUringFeatures,
    /// `io_uring_enter(2)`: `IORING_ENTER_*`.
    IoUringEnter,
    /// `io_uring_register(2)` operations.
    IoUringRegister,
    /// `perf_event_open(2)`: `PERF_TYPE_*`.
    PerfType,
    /// `perf_event_open(2)`: `PERF_SAMPLE_*`.
    PerfSample,
    /// `perf_event_open(2)`: `PERF_FORMAT_*`.
    PerfRead,
    /// `perf_event_attr`: its bits, by name.
    PerfBits,
    /// `perf_event_open(2)`: `PERF_FLAG_*`.
    PerfOpen,
    /// `bpf(2)`: `BPF_MAP_TYPE_*`.
    BpfMapType,
    /// `bpf(2)`: `BPF_F_*` of a map.
    BpfMapFlags,
    /// `bpf(2)`: `BPF_ANY` and others.
    BpfElement,
    /// `bpf(2)`: `BPF_PROG_TYPE_*`.
    BpfProgType,
    /// `bpf(2)`: attach types.
    BpfAttach,
    /// `shmget(2)` and its like: `IPC_*`, and a mode.
    IpcFlags,
    /// `shmctl(2)` and its like.
    IpcCommand,
    /// `shmat(2)`: `SHM_*`.
    Shmat,
    /// `futex_waitv(2)`: `FUTEX2_*`.
    Futex2,
    /// `futex(2)`: `FUTEX_BITSET_MATCH_ANY`.
    FutexBitset,
    /// `landlock_add_rule(2)`: `LANDLOCK_ACCESS_FS_*`.
    LandlockFiles,
    /// `landlock_add_rule(2)`: `LANDLOCK_ACCESS_NET_*`.
    LandlockNet,
    /// `landlock_create_ruleset(2)`: `LANDLOCK_SCOPE_*`.
    LandlockScope,
    /// `landlock_create_ruleset(2)`: `LANDLOCK_CREATE_RULESET_*`.
    LandlockCreate,
    /// `landlock_add_rule(2)`: `LANDLOCK_RULE_*`.
    LandlockRule,
    /// `landlock_restrict_self(2)`: `LANDLOCK_RESTRICT_SELF_*`.
    LandlockRestrict,
    /// `setsockopt(2)`: `SO_*`.
    SocketOption,
    /// `setsockopt(2)`: `IP_*`.
    IpOption,
    /// `setsockopt(2)`: `IPV6_*`.
    Ipv6Option,
    /// `setsockopt(2)`: `TCP_*`.
    TcpOption,
    /// `setsockopt(2)`: `UDP_*`.
    UdpOption,
    /// `setsockopt(2)`: `PACKET_*`.
    PacketOption,
    /// `setsockopt(2)`: `NETLINK_*`.
    NetlinkOption,
    /// `setsockopt(2)`: options of levels without names.
    OtherOption,
    /// `socket(2)`: `IPPROTO_*`.
    InetProtocol,
    /// `socket(2)`: `NETLINK_*`.
    NetlinkProtocol,
    /// `sendmsg(2)`: `SCM_*`.
    ControlType,
    /// `ioctl(2)` requests.
    Ioctl,
    /// `prctl(2)`: `SUID_DUMP_*`.
    Dumpable,
    /// `prctl(2)`: `SECBIT_*`.
    Securebits,
    /// `prctl(2)`: `SECCOMP_MODE_*`.
    SeccompMode,
    /// `seccomp(2)`: `SECCOMP_FILTER_FLAG_*`.
    SeccompFlags,
    /// `prctl(2)`: `PR_TSC_*`.
    Tsc,
    /// `prctl(2)`: `PR_TIMING_*`.
    Timing,
    /// `prctl(2)`: `PR_CAP_AMBIENT_*`.
    AmbientCapability,
    /// `prctl(2)`: kinds of speculation.
    Speculation,
    /// `prctl(2)`: what is done about it.
    SpeculationControl,
    /// `prctl(2)`: `PR_SET_MM_*`.
    MemoryMap,
    /// `prctl(2)`: `PR_SET_VMA_*`.
    VmaAttribute,
    /// `fanotify_init(2)`: `FAN_*`.
    FanotifyInit,
    /// `fanotify_mark(2)`: `FAN_MARK_*`.
    FanotifyMark,
    /// `fanotify_mark(2)`: events.
    FanotifyMask,
    /// `membarrier(2)` commands.
    Membarrier,
    /// `membarrier(2)`: `MEMBARRIER_CMD_FLAG_*`.
    MembarrierFlags,
    /// `personality(2)`.
    Personality,
    /// `mlock2(2)`: `MLOCK_ONFAULT`.
    Mlock2,
    /// `kcmp(2)`: `KCMP_*`.
    Kcmp,
    /// `keyctl(2)` operations.
    Keyctl,
    /// `syslog(2)` actions.
    Syslog,
    /// `reboot(2)`: `LINUX_REBOOT_CMD_*`.
    Reboot,
    /// `ioprio_set(2)`: `IOPRIO_WHO_*`.
    IoprioWho,
    /// `finit_module(2)`: `MODULE_INIT_*`.
    ModuleInit,
    /// `mbind(2)`: `MPOL_*`.
    Mempolicy,
    /// `mbind(2)`: `MPOL_MF_*`.
    MbindFlags,
    /// `get_mempolicy(2)`: `MPOL_F_*`.
    GetMempolicy,
    /// `pkey_alloc(2)`: `PKEY_*`.
    PkeyRights,
    /// `siginfo_t`: where it came from.
    SignalCode,
    /// `siginfo_t` of `SIGCHLD`: `CLD_*`.
    ChildCode,
    /// What became of a control group, [`crate::wire::group_change`].
    GroupChange,
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
        /// What differs from it already, another thread having changed it meanwhile, comes
        /// as the files of a call do.
        /// As wide as it is so that nothing lies unwritten before the next field.
        shares: u64 => Meaning::Flags(FlagSet::Shared),
        /// The id of the control group it is in, of version 2: `clone3` can put it
        /// elsewhere than its maker. 0 where the kernel does not say.
        child_cgroup: u64 => Meaning::Number,
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
        /// The parent its children have from then on, when it was the last thread of its
        /// process; else 0.
        reaper: u64 => Meaning::Pid,
        /// 1 when nothing is left of its process, because its parent ignores ends or asked
        /// not to be left with them; else 0: what is left once the last thread has ended is a
        /// zombie, until a `process_reap` or a call of its parent's that waited for it.
        gone: u64 => Meaning::Number,
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
        /// How many of them were forks, execs, ends, renames and reaps of processes, and moves
        /// between control groups.
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
        /// The control groups of its process, like `/proc/PID/cgroup`, without those that
        /// are the root of a hierarchy of version 1.
        cgroups => Meaning::Text,
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
    /// A control group was made or removed. Also, made by the recorder: one that was there
    /// at the window's left edge.
    15 Cgroup "cgroup" {
        /// The number of its hierarchy; 0 is version 2.
        hierarchy: u32 => Meaning::Number,
        /// What became of it.
        change: u32 => Meaning::Flags(FlagSet::GroupChange),
        /// Its id, one of its own within its hierarchy.
        id: u64 => Meaning::Number,
        ;
        /// Its path from the root of the hierarchy.
        path => Meaning::Path,
        /// Controllers or name of the hierarchy, of its root.
        controllers => Meaning::Text,
    }
    /// How often something happened in a stretch of time that began at the time of the event.
    /// Made by the recorder, no event itself. Its process is 0 where it is of no single one.
    17 Rollup "rollup" {
        /// How long the stretch was.
        span_ns: u64 => Meaning::DurationNs,
        /// What is counted: a call by its number, one of 32 bits by 512 more, everything of
        /// a kind by 1024 more than its number, calls that are not told apart by 2^32 - 1.
        what: u64 => Meaning::Number,
        /// How often.
        count: u64 => Meaning::Number,
        /// How often it failed.
        errors: u64 => Meaning::Number,
        /// Bytes that were read, written, sent or received.
        bytes: u64 => Meaning::Bytes,
        /// How many processes that have ended are summed up in it, by their name.
        ended: u64 => Meaning::Number,
        ;
        /// What the process was called.
        name => Meaning::Comm,
        /// How long calls took: pairs of a power of two, nanoseconds, in one byte, and how
        /// many took as long or up to twice that, in bytes of seven bits.
        latencies => Meaning::Text,
    }
    /// A process was moved to another control group by the thread of the event.
    16 CgroupAttach "cgroup_attach" {
        /// The process that was moved.
        moved_pid: u32 => Meaning::Pid,
        /// Its leader, or the one thread that was moved.
        moved_tid: u32 => Meaning::Tid,
        /// The number of the hierarchy; 0 is version 2.
        hierarchy: u64 => Meaning::Number,
        /// The id of the group.
        id: u64 => Meaning::Number,
        ;
        /// The path of the group from the root of the hierarchy.
        path => Meaning::Path,
    }
    /// A process that had ended, process and thread of the event, is no zombie any more: its
    /// parent has taken note of its end, or never will. The kernel tells when nobody can be
    /// looking at it any more: some milliseconds later, and on an idle host up to seconds.
    18 ProcessReap "process_reap" {
        /// When it started, where the kernel says, else 0: its number may be another one's by
        /// then.
        start_ns: u64 => Meaning::TimeNs,
        ;
        /// Its name, where the kernel hands it over.
        comm => Meaning::Comm,
    }
}
