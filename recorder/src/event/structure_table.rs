//! The members of every structure. Sources: include/uapi/linux, include/uapi/asm-generic
//! and arch/{x86,arm64}/include/uapi/asm of Linux 6.12; for 32-bit x86 also
//! include/linux/compat.h and arch/x86/include/asm/compat.h.

use recorder_ebpf::schema::FlagSet::*;
use recorder_ebpf::schema::Layout::{self, *};
use recorder_ebpf::schema::Meaning::{self, *};
use recorder_ebpf::wire::{LIST_BYTES_MAX, SOCKADDR_BYTES_MAX};

use super::Type::{self, *};
use super::{Abi, Body, Member, Part};

/// What the decoder leaves out.
const NOTHING: Meaning = Bytes;

macro_rules! members {
    ($($table:ident { $($name:ident: $kind:expr, $meaning:expr;)* })+) => {
        $(static $table: &[Member] = &[
            $(Member { name: stringify!($name), kind: $kind, meaning: $meaning }),*
        ];)+
    };
}

members! {
    TIMESPEC { tv_sec: Long, Number; tv_nsec: Long, Number; }
    TIMESPEC64 { tv_sec: I64, Number; tv_nsec: I64, Number; }
    TIMEVAL { tv_sec: Long, Number; tv_usec: Long, Number; }
    UTIMBUF { actime: Long, Number; modtime: Long, Number; }
    TIMEZONE { tz_minuteswest: I32, Number; tz_dsttime: I32, Number; }
    ITIMERVAL { it_interval: Of(Timeval), NOTHING; it_value: Of(Timeval), NOTHING; }
    ITIMERSPEC { it_interval: Of(Timespec), NOTHING; it_value: Of(Timespec), NOTHING; }
    ITIMERSPEC64 { it_interval: Of(Timespec64), NOTHING; it_value: Of(Timespec64), NOTHING; }
    TMS {
        tms_utime: Long, Number; tms_stime: Long, Number;
        tms_cutime: Long, Number; tms_cstime: Long, Number;
    }
    TIMEX {
        modes: U32, Flags(TimexModes); offset: Long, Number; freq: Long, Number;
        maxerror: Long, Number; esterror: Long, Number; status: I32, Flags(TimexStatus);
        constant: Long, Number; precision: Long, Number; tolerance: Long, Number;
        time: Of(Timeval), NOTHING; tick: Long, Number; ppsfreq: Long, Number;
        jitter: Long, Number; shift: I32, Number; stabil: Long, Number; jitcnt: Long, Number;
        calcnt: Long, Number; errcnt: Long, Number; stbcnt: Long, Number; tai: I32, Number;
        reserved: Pad(44), NOTHING;
    }
    SIGEVENT {
        sigev_value: Pointer, Hex; sigev_signo: I32, Signal; sigev_notify: I32, Flags(SigevNotify);
        sigev_notify_thread_id: I32, Tid;
    }
    IOVEC { iov_base: Pointer, Address; iov_len: Ulong, Bytes; }
    POLLFD { fd: I32, Fd; events: U16, Flags(Poll); revents: U16, Flags(Poll); }
    EPOLL_EVENT { events: U32, Flags(Epoll); data: U64, Unsigned; }
    SIGSET_ARGUMENT { ss: Pointer, Address; ss_len: Ulong, Bytes; }
    SIGACTION {
        sa_handler: Pointer, Handler; sa_flags: Ulong, Flags(SignalAction);
        sa_restorer: Pointer, Address; sa_mask: Of(Sigset), NOTHING;
    }
    OLD_SIGACTION {
        sa_handler: Pointer, Handler; sa_mask: U32, Hex;
        sa_flags: Ulong, Flags(SignalAction); sa_restorer: Pointer, Address;
    }
    SIGALTSTACK {
        ss_sp: Pointer, Address; ss_flags: I32, Flags(AltStack); ss_size: Ulong, Bytes;
    }
    RLIMIT { rlim_cur: Ulong, Limit; rlim_max: Ulong, Limit; }
    RLIMIT64 { rlim_cur: U64, Limit; rlim_max: U64, Limit; }
    USAGE {
        ru_utime: Of(Timeval), NOTHING; ru_stime: Of(Timeval), NOTHING; ru_maxrss: Long, Number;
        ru_ixrss: Long, Number; ru_idrss: Long, Number; ru_isrss: Long, Number;
        ru_minflt: Long, Number; ru_majflt: Long, Number; ru_nswap: Long, Number;
        ru_inblock: Long, Number; ru_oublock: Long, Number; ru_msgsnd: Long, Number;
        ru_msgrcv: Long, Number; ru_nsignals: Long, Number; ru_nvcsw: Long, Number;
        ru_nivcsw: Long, Number;
    }
    // The times behind it are not read: they are most of its bytes that differ from file
    // to file, and of what one asks a recording they are the least.
    STAT_X86_64 {
        st_dev: U64, Device; st_ino: U64, Unsigned; st_nlink: U64, Unsigned;
        st_mode: U32, FileMode; st_uid: U32, Uid; st_gid: U32, Gid; pad: Pad(4), NOTHING;
        st_rdev: U64, Device; st_size: I64, Number; st_blksize: I64, Number;
        st_blocks: I64, Number;
    }
    STAT_AARCH64 {
        st_dev: U64, Device; st_ino: U64, Unsigned; st_mode: U32, FileMode;
        st_nlink: U32, Unsigned; st_uid: U32, Uid; st_gid: U32, Gid; st_rdev: U64, Device;
        pad: Pad(8), NOTHING; st_size: I64, Number; st_blksize: I32, Number;
        pad2: Pad(4), NOTHING; st_blocks: I64, Number;
    }
    STAT_X86 {
        st_dev: U32, Device; st_ino: U32, Unsigned; st_mode: U16, FileMode;
        st_nlink: U16, Unsigned; st_uid: U16, Unsigned; st_gid: U16, Unsigned;
        st_rdev: U32, Device; st_size: U32, Unsigned; st_blksize: U32, Unsigned;
        st_blocks: U32, Unsigned; st_atime: U32, Unsigned; st_atime_nsec: U32, Unsigned;
        st_mtime: U32, Unsigned; st_mtime_nsec: U32, Unsigned; st_ctime: U32, Unsigned;
        st_ctime_nsec: U32, Unsigned;
    }
    STAT64_X86 {
        st_dev: U64, Device; pad: Pad(4), NOTHING; st_ino_low: Pad(4), NOTHING;
        st_mode: U32, FileMode; st_nlink: U32, Unsigned; st_uid: U32, Uid;
        st_gid: U32, Gid; st_rdev: U64, Device; pad3: Pad(4), NOTHING; st_size: I64, Number;
        st_blksize: U32, Unsigned; st_blocks: U64, Unsigned; st_atime: I32, Number;
        st_atime_nsec: U32, Unsigned; st_mtime: I32, Number; st_mtime_nsec: U32, Unsigned;
        st_ctime: I32, Number; st_ctime_nsec: U32, Unsigned; st_ino: U64, Unsigned;
    }
    STATX {
        stx_mask: U32, Flags(StatxMask); stx_blksize: U32, Unsigned;
        stx_attributes: U64, Flags(StatxAttributes); stx_nlink: U32, Unsigned; stx_uid: U32, Uid;
        stx_gid: U32, Gid; stx_mode: U16, FileMode; pad: Pad(2), NOTHING;
        stx_ino: U64, Unsigned; stx_size: U64, Unsigned; stx_blocks: U64, Unsigned;
        stx_attributes_mask: U64, Flags(StatxAttributes);
    }
    STATFS {
        f_type: Long, Flags(FileSystem); f_bsize: Long, Number; f_blocks: Ulong, Unsigned;
        f_bfree: Ulong, Unsigned; f_bavail: Ulong, Unsigned; f_files: Ulong, Unsigned;
        f_ffree: Ulong, Unsigned; f_fsid: Times(IntValue, 2), NOTHING; f_namelen: Long, Number;
        f_frsize: Long, Number; f_flags: Long, Flags(StatfsFlags); spare: Pad(32), NOTHING;
    }
    STATFS_X86 {
        f_type: U32, Flags(FileSystem); f_bsize: U32, Unsigned; f_blocks: U32, Unsigned;
        f_bfree: U32, Unsigned; f_bavail: U32, Unsigned; f_files: U32, Unsigned;
        f_ffree: U32, Unsigned; f_fsid: Times(IntValue, 2), NOTHING; f_namelen: U32, Unsigned;
        f_frsize: U32, Unsigned; f_flags: U32, Flags(StatfsFlags); spare: Pad(16), NOTHING;
    }
    STATFS64 {
        f_type: U32, Flags(FileSystem); f_bsize: U32, Unsigned; f_blocks: U64, Unsigned;
        f_bfree: U64, Unsigned; f_bavail: U64, Unsigned; f_files: U64, Unsigned;
        f_ffree: U64, Unsigned; f_fsid: Times(IntValue, 2), NOTHING; f_namelen: U32, Unsigned;
        f_frsize: U32, Unsigned; f_flags: U32, Flags(StatfsFlags); spare: Pad(16), NOTHING;
    }
    UTSNAME {
        sysname: Type::Text(65), NOTHING; nodename: Type::Text(65), NOTHING;
        release: Type::Text(65), NOTHING; version: Type::Text(65), NOTHING;
        machine: Type::Text(65), NOTHING; domainname: Type::Text(65), NOTHING;
    }
    SYSINFO {
        uptime: Long, Number; loads: Times(WordValue, 3), NOTHING; totalram: Ulong, Unsigned;
        freeram: Ulong, Unsigned; sharedram: Ulong, Unsigned; bufferram: Ulong, Unsigned;
        totalswap: Ulong, Unsigned; freeswap: Ulong, Unsigned; procs: U16, Unsigned;
        pad: Pad(2), NOTHING; totalhigh: Ulong, Unsigned; freehigh: Ulong, Unsigned;
        mem_unit: U32, Unsigned; spare: Pad(0), NOTHING;
    }
    SYSINFO_X86 {
        uptime: Long, Number; loads: Times(WordValue, 3), NOTHING; totalram: Ulong, Unsigned;
        freeram: Ulong, Unsigned; sharedram: Ulong, Unsigned; bufferram: Ulong, Unsigned;
        totalswap: Ulong, Unsigned; freeswap: Ulong, Unsigned; procs: U16, Unsigned;
        pad: Pad(2), NOTHING; totalhigh: Ulong, Unsigned; freehigh: Ulong, Unsigned;
        mem_unit: U32, Unsigned; spare: Pad(8), NOTHING;
    }
    CAP_HEADER { version: U32, Flags(CapVersion); pid: I32, Pid; }
    CAP_DATA {
        effective: U32, Flags(Capabilities); permitted: U32, Flags(Capabilities);
        inheritable: U32, Flags(Capabilities);
    }
    MSGHDR {
        msg_name: Pointer, Address; msg_namelen: I32, Number; msg_iov: Pointer, Address;
        msg_iovlen: Ulong, Unsigned; msg_control: Pointer, Address; msg_controllen: Ulong, Bytes;
        msg_flags: I32, Flags(Msg);
    }
    MMSGHDR { msg_hdr: Of(Msghdr), NOTHING; msg_len: U32, Unsigned; }
    LINGER { l_onoff: I32, Number; l_linger: I32, Number; }
    UCRED { pid: I32, Pid; uid: U32, Uid; gid: U32, Gid; }
    TERMIOS {
        c_iflag: U32, Flags(TerminalInput); c_oflag: U32, Flags(TerminalOutput);
        c_cflag: U32, Flags(TerminalControl); c_lflag: U32, Flags(TerminalLocal);
        c_line: U8, Unsigned; c_cc: Pad(19), NOTHING;
    }
    WINSIZE {
        ws_row: U16, Unsigned; ws_col: U16, Unsigned; ws_xpixel: U16, Unsigned;
        ws_ypixel: U16, Unsigned;
    }
    FLOCK {
        l_type: I16, Flags(LockType); l_whence: I16, Flags(Seek); l_start: Long, Number;
        l_len: Long, Number; l_pid: I32, Pid;
    }
    FLOCK64 {
        l_type: I16, Flags(LockType); l_whence: I16, Flags(Seek); l_start: I64, Number;
        l_len: I64, Number; l_pid: I32, Pid;
    }
    OWNER_EX { type_: I32, Flags(OwnerType); pid: I32, Pid; }
    IFREQ { ifr_name: Type::Text(16), NOTHING; ifr_data: Pad(24), NOTHING; }
    IFREQ_X86 { ifr_name: Type::Text(16), NOTHING; ifr_data: Pad(16), NOTHING; }
    IFCONF { ifc_len: I32, Number; ifc_buf: Pointer, Address; }
    FSXATTR {
        fsx_xflags: U32, Hex; fsx_extsize: U32, Unsigned; fsx_nextents: U32, Unsigned;
        fsx_projid: U32, Unsigned; fsx_cowextsize: U32, Unsigned; pad: Pad(8), NOTHING;
    }
    FILE_CLONE_RANGE {
        src_fd: I64, Fd; src_offset: U64, Unsigned; src_length: U64, Unsigned;
        dest_offset: U64, Unsigned;
    }
    CLONE_ARGS {
        flags: U64, Flags(CloneBits); pidfd: U64, Address; child_tid: U64, Address;
        parent_tid: U64, Address; exit_signal: U64, Signal; stack: U64, Address;
        stack_size: U64, Hex; tls: U64, Address; set_tid: U64, Address;
        set_tid_size: U64, Unsigned; cgroup: U64, Fd;
    }
    OPEN_HOW { flags: U64, Flags(Open); mode: U64, Mode; resolve: U64, Flags(Resolve); }
    MOUNT_ATTR {
        attr_set: U64, Flags(MountAttribute); attr_clr: U64, Flags(MountAttribute);
        propagation: U64, Flags(Mount); userns_fd: U64, Fd;
    }
    SCHED_PARAM { sched_priority: I32, Number; }
    SCHED_ATTR {
        size: U32, Unsigned; sched_policy: U32, Flags(SchedPolicy);
        sched_flags: U64, Flags(SchedFlags); sched_nice: I32, Number;
        sched_priority: U32, Unsigned; sched_runtime: U64, Unsigned;
        sched_deadline: U64, Unsigned; sched_period: U64, Unsigned;
        sched_util_min: U32, Unsigned; sched_util_max: U32, Unsigned;
    }
    IO_SQRING_OFFSETS {
        head: U32, Unsigned; tail: U32, Unsigned; ring_mask: U32, Unsigned;
        ring_entries: U32, Unsigned; flags: U32, Unsigned; dropped: U32, Unsigned;
        array: U32, Unsigned; resv1: Pad(4), NOTHING; user_addr: U64, Address;
    }
    IO_CQRING_OFFSETS {
        head: U32, Unsigned; tail: U32, Unsigned; ring_mask: U32, Unsigned;
        ring_entries: U32, Unsigned; overflow: U32, Unsigned; cqes: U32, Unsigned;
        flags: U32, Unsigned; resv1: Pad(4), NOTHING; user_addr: U64, Address;
    }
    IO_URING_PARAMS {
        sq_entries: U32, Unsigned; cq_entries: U32, Unsigned; flags: U32, Flags(IoUringSetup);
        sq_thread_cpu: U32, Unsigned; sq_thread_idle: U32, Unsigned;
        features: U32, Flags(IoUringFeatures); wq_fd: U32, Unsigned; resv: Pad(12), NOTHING;
        sq_off: Of(IoSqringOffsets), NOTHING; cq_off: Of(IoCqringOffsets), NOTHING;
    }
    PERF_EVENT_ATTR {
        type_: U32, Flags(PerfType); size: U32, Unsigned; config: U64, Hex;
        sample_period: U64, Unsigned; sample_type: U64, Flags(PerfSample);
        read_format: U64, Flags(PerfRead); flags: U64, Flags(PerfBits);
        wakeup_events: U32, Unsigned; bp_type: U32, Unsigned; config1: U64, Hex;
    }
    SOCK_FPROG { len: U16, Unsigned; filter: Pointer, Address; }
    BPF_MAP_CREATE {
        map_type: U32, Flags(BpfMapType); key_size: U32, Unsigned; value_size: U32, Unsigned;
        max_entries: U32, Unsigned; map_flags: U32, Flags(BpfMapFlags); inner_map_fd: I32, Fd;
        numa_node: U32, Unsigned; map_name: Type::Text(16), NOTHING; map_ifindex: U32, Unsigned;
        btf_fd: I32, Fd; btf_key_type_id: U32, Unsigned; btf_value_type_id: U32, Unsigned;
        btf_vmlinux_value_type_id: U32, Unsigned; map_extra: U64, Unsigned;
    }
    BPF_MAP_ELEMENT {
        map_fd: I32, Fd; pad: Pad(4), NOTHING; key: U64, Address; value: U64, Address;
        flags: U64, Flags(BpfElement);
    }
    BPF_PROG_LOAD {
        prog_type: U32, Flags(BpfProgType); insn_cnt: U32, Unsigned; insns: U64, Address;
        license: U64, Address; log_level: U32, Unsigned; log_size: U32, Unsigned;
        log_buf: U64, Address; kern_version: U32, Hex; prog_flags: U32, Hex;
        prog_name: Type::Text(16), NOTHING; prog_ifindex: U32, Unsigned;
        expected_attach_type: U32, Flags(BpfAttach); prog_btf_fd: I32, Fd;
        func_info_rec_size: U32, Unsigned; func_info: U64, Address; func_info_cnt: U32, Unsigned;
        line_info_rec_size: U32, Unsigned; line_info: U64, Address; line_info_cnt: U32, Unsigned;
        attach_btf_id: U32, Unsigned; attach_prog_fd: I32, Fd;
    }
    BPF_OBJECT {
        pathname: U64, Address; bpf_fd: I32, Fd; file_flags: U32, Hex; path_fd: I32, DirFd;
    }
    BPF_PROG_ATTACH {
        target_fd: I32, Fd; attach_bpf_fd: I32, Fd; attach_type: U32, Flags(BpfAttach);
        attach_flags: U32, Hex; replace_bpf_fd: I32, Fd;
    }
    BPF_TEST_RUN {
        prog_fd: I32, Fd; retval: U32, Unsigned; data_size_in: U32, Unsigned;
        data_size_out: U32, Unsigned; data_in: U64, Address; data_out: U64, Address;
        repeat: U32, Unsigned; duration: U32, Unsigned; ctx_size_in: U32, Unsigned;
        ctx_size_out: U32, Unsigned; ctx_in: U64, Address; ctx_out: U64, Address;
        flags: U32, Hex; cpu: U32, Unsigned;
    }
    BPF_NEXT_ID { id: U32, Unsigned; next_id: U32, Unsigned; open_flags: U32, Hex; }
    BPF_INFO { bpf_fd: I32, Fd; info_len: U32, Unsigned; info: U64, Address; }
    BPF_PROG_QUERY {
        target_fd: I32, Fd; attach_type: U32, Flags(BpfAttach); query_flags: U32, Hex;
        attach_flags: U32, Hex; prog_ids: U64, Address; prog_cnt: U32, Unsigned;
    }
    BPF_RAW_TRACEPOINT { name: U64, Address; prog_fd: I32, Fd; }
    BPF_BTF_LOAD {
        btf: U64, Address; btf_log_buf: U64, Address; btf_size: U32, Unsigned;
        btf_log_size: U32, Unsigned; btf_log_level: U32, Unsigned;
    }
    BPF_LINK_CREATE {
        prog_fd: I32, Fd; target_fd: I32, Fd; attach_type: U32, Flags(BpfAttach); flags: U32, Hex;
    }
    BPF_LINK_UPDATE { link_fd: I32, Fd; new_prog_fd: I32, Fd; flags: U32, Hex; }
    BPF_DESCRIPTOR { fd: I32, Fd; flags: U32, Hex; }
    MQ_ATTR {
        mq_flags: Long, Flags(Open); mq_maxmsg: Long, Number; mq_msgsize: Long, Number;
        mq_curmsgs: Long, Number; reserved: Times(WordValue, 4), NOTHING;
    }
    SEMBUF { sem_num: U16, Unsigned; sem_op: I16, Number; sem_flg: I16, Flags(IpcFlags); }
    FUTEX_WAITV {
        val: U64, Hex; uaddr: U64, Address; flags: U32, Flags(Futex2); reserved: Pad(4), NOTHING;
    }
    LANDLOCK_RULESET {
        handled_access_fs: U64, Flags(LandlockFiles); handled_access_net: U64, Flags(LandlockNet);
        scoped: U64, Flags(LandlockScope);
    }
    LANDLOCK_PATH { allowed_access: U64, Flags(LandlockFiles); parent_fd: I32, Fd; }
    LANDLOCK_PORT { allowed_access: U64, Flags(LandlockNet); port: U64, Unsigned; }
    FILE_HANDLE { handle_bytes: U32, Unsigned; handle_type: I32, Hex; }
    CACHESTAT_RANGE { off: U64, Unsigned; len: U64, Unsigned; }
    CACHESTAT {
        nr_cache: U64, Unsigned; nr_dirty: U64, Unsigned; nr_writeback: U64, Unsigned;
        nr_evicted: U64, Unsigned; nr_recently_evicted: U64, Unsigned;
    }
    USER_DESC {
        entry_number: U32, Unsigned; base_addr: U32, Hex; limit: U32, Hex; flags: U32, Hex;
    }
    IP_MREQ { imr_multiaddr: U32, InetAddress; imr_interface: U32, InetAddress; }
    IP_MREQN {
        imr_multiaddr: U32, InetAddress; imr_address: U32, InetAddress;
        imr_ifindex: I32, Number;
    }
    IPV6_MREQ { ipv6mr_multiaddr: Pad(16), NOTHING; ipv6mr_interface: I32, Number; }
    TCP_INFO {
        tcpi_state: U8, TcpState; tcpi_ca_state: U8, Unsigned;
        tcpi_retransmits: U8, Unsigned; tcpi_probes: U8, Unsigned; tcpi_backoff: U8, Unsigned;
        tcpi_options: U8, Hex; tcpi_wscale: U8, Hex; tcpi_bits: U8, Hex; tcpi_rto: U32, Unsigned;
        tcpi_ato: U32, Unsigned; tcpi_snd_mss: U32, Unsigned; tcpi_rcv_mss: U32, Unsigned;
        tcpi_unacked: U32, Unsigned; tcpi_sacked: U32, Unsigned; tcpi_lost: U32, Unsigned;
        tcpi_retrans: U32, Unsigned; tcpi_fackets: U32, Unsigned;
        tcpi_last_data_sent: U32, Unsigned; tcpi_last_ack_sent: U32, Unsigned;
        tcpi_last_data_recv: U32, Unsigned; tcpi_last_ack_recv: U32, Unsigned;
        tcpi_pmtu: U32, Unsigned; tcpi_rcv_ssthresh: U32, Unsigned; tcpi_rtt: U32, Unsigned;
        tcpi_rttvar: U32, Unsigned; tcpi_snd_ssthresh: U32, Unsigned; tcpi_snd_cwnd: U32, Unsigned;
    }
}

fn stat(abi: Abi) -> &'static [Member] {
    match abi {
        Abi::X86_64 => STAT_X86_64,
        Abi::X86 => STAT_X86,
        Abi::Aarch64 => STAT_AARCH64,
    }
}

/// Bytes of what has no members.
const SIGSET_BYTES: u16 = 8;
/// The front of `siginfo_t`: nothing that is decoded lies behind it.
const SIGINFO_BYTES: u16 = 48;

pub(super) fn body(layout: Layout, abi: Abi) -> Body {
    let is_narrow = abi == Abi::X86;
    match layout {
        IntValue => Body::One(I32, Number),
        UnsignedValue => Body::One(U32, Unsigned),
        HexValue => Body::One(U32, Hex),
        LongLongValue => Body::One(U64, Unsigned),
        OffsetValue => Body::One(I64, Number),
        WordValue => Body::One(Long, Number),
        PointerValue => Body::One(Pointer, Address),
        UserId => Body::One(U32, Uid),
        GroupId => Body::One(U32, Gid),
        GroupId16 => Body::One(U16, Unsigned),
        Descriptor => Body::One(I32, Fd),
        ThreadId => Body::One(I32, Tid),
        SignalNumber => Body::One(I32, Signal),
        WaitStatus => Body::Whole(4),
        DescriptorPair => Body::Whole(8),
        Raw | Words | SocketValue | SocketAddress | Controls => Body::Whole(1),
        ThreadName => Body::Whole(16),
        FdSet | CpuSet => Body::Whole(8),
        Sigset => Body::Whole(SIGSET_BYTES),
        Siginfo => Body::Whole(SIGINFO_BYTES),
        TimespecPair => Body::Whole(if is_narrow { 16 } else { 32 }),
        TimespecPair64 => Body::Whole(32),
        TimevalPair => Body::Whole(if is_narrow { 16 } else { 32 }),
        RobustListHead => Body::Whole(if is_narrow { 12 } else { 24 }),
        // The same bytes for 32-bit programs, and on x86-64 for that reason.
        EpollEvent if abi == Abi::X86_64 => Body::Packed(EPOLL_EVENT),
        _ => Body::Members(members(layout, abi)),
    }
}

fn members(layout: Layout, abi: Abi) -> &'static [Member] {
    let is_narrow = abi == Abi::X86;
    match layout {
        Timespec => TIMESPEC,
        Timespec64 => TIMESPEC64,
        Timeval => TIMEVAL,
        Utimbuf => UTIMBUF,
        Timezone => TIMEZONE,
        Itimerval => ITIMERVAL,
        Itimerspec => ITIMERSPEC,
        Itimerspec64 => ITIMERSPEC64,
        Tms => TMS,
        Timex => TIMEX,
        Sigevent => SIGEVENT,
        Iovec => IOVEC,
        Pollfd => POLLFD,
        EpollEvent => EPOLL_EVENT,
        SigsetArgument => SIGSET_ARGUMENT,
        Sigaction => SIGACTION,
        OldSigaction => OLD_SIGACTION,
        Sigaltstack => SIGALTSTACK,
        Rlimit => RLIMIT,
        Rlimit64 => RLIMIT64,
        Usage => USAGE,
        Stat => stat(abi),
        Stat64 => STAT64_X86,
        Statx => STATX,
        Statfs if is_narrow => STATFS_X86,
        Statfs => STATFS,
        Statfs64 => STATFS64,
        Utsname => UTSNAME,
        Sysinfo if is_narrow => SYSINFO_X86,
        Sysinfo => SYSINFO,
        CapHeader => CAP_HEADER,
        CapData => CAP_DATA,
        Msghdr => MSGHDR,
        Mmsghdr => MMSGHDR,
        Linger => LINGER,
        Ucred => UCRED,
        IpMreq => IP_MREQ,
        IpMreqn => IP_MREQN,
        Ipv6Mreq => IPV6_MREQ,
        TcpInfo => TCP_INFO,
        Termios => TERMIOS,
        Winsize => WINSIZE,
        FileLock => FLOCK,
        FileLock64 => FLOCK64,
        OwnerEx => OWNER_EX,
        Ifreq if is_narrow => IFREQ_X86,
        Ifreq => IFREQ,
        Ifconf => IFCONF,
        Fsxattr => FSXATTR,
        FileCloneRange => FILE_CLONE_RANGE,
        CloneArgs => CLONE_ARGS,
        OpenHow => OPEN_HOW,
        MountAttr => MOUNT_ATTR,
        SchedParam => SCHED_PARAM,
        SchedAttr => SCHED_ATTR,
        IoUringParams => IO_URING_PARAMS,
        IoSqringOffsets => IO_SQRING_OFFSETS,
        IoCqringOffsets => IO_CQRING_OFFSETS,
        PerfEventAttr => PERF_EVENT_ATTR,
        SockFprog => SOCK_FPROG,
        MqAttr => MQ_ATTR,
        Sembuf => SEMBUF,
        FutexWaitv => FUTEX_WAITV,
        LandlockRuleset => LANDLOCK_RULESET,
        LandlockPath => LANDLOCK_PATH,
        LandlockPort => LANDLOCK_PORT,
        FileHandle => FILE_HANDLE,
        CachestatRange => CACHESTAT_RANGE,
        Cachestat => CACHESTAT,
        UserDesc => USER_DESC,
        _ => bpf_members(layout),
    }
}

/// `union bpf_attr`, by command.
fn bpf_members(layout: Layout) -> &'static [Member] {
    match layout {
        BpfMapCreate => BPF_MAP_CREATE,
        BpfMapElement => BPF_MAP_ELEMENT,
        BpfProgLoad => BPF_PROG_LOAD,
        BpfObject => BPF_OBJECT,
        BpfProgAttach => BPF_PROG_ATTACH,
        BpfTestRun => BPF_TEST_RUN,
        BpfNextId => BPF_NEXT_ID,
        BpfInfo => BPF_INFO,
        BpfProgQuery => BPF_PROG_QUERY,
        BpfRawTracepoint => BPF_RAW_TRACEPOINT,
        BpfBtfLoad => BPF_BTF_LOAD,
        BpfLinkCreate => BPF_LINK_CREATE,
        BpfLinkUpdate => BPF_LINK_UPDATE,
        BpfDescriptor => BPF_DESCRIPTOR,
        // Those without members have their size in `body`.
        _ => &[],
    }
}

/// Every layout that others follow.
#[cfg(test)]
pub(super) const WITH_PARTS: &[Layout] =
    &[Msghdr, Mmsghdr, SigsetArgument, BpfObject, BpfRawTracepoint, CloneArgs];

const fn part(
    number: u8,
    pointer: &'static str,
    count: Option<&'static str>,
    layout: Layout,
    bytes_max: usize,
) -> Part {
    Part { number, pointer, count, layout, bytes_max: bytes_max as u16 }
}

const MESSAGE: &[Part] = &[
    part(1, "msg_name", Some("msg_namelen"), SocketAddress, SOCKADDR_BYTES_MAX),
    part(2, "msg_iov", Some("msg_iovlen"), Iovec, LIST_BYTES_MAX),
    part(3, "msg_control", Some("msg_controllen"), Controls, LIST_BYTES_MAX),
];

pub(super) fn parts(layout: Layout) -> &'static [Part] {
    const SIGSET: &[Part] = &[part(1, "ss", Some("ss_len"), Raw, SIGSET_BYTES as usize)];
    const PATH: &[Part] = &[part(1, "pathname", None, Words, 0)];
    const NAME: &[Part] = &[part(1, "name", None, Words, 0)];
    const TIDS: &[Part] = &[part(1, "set_tid", Some("set_tid_size"), ThreadId, 128)];
    match layout {
        Msghdr | Mmsghdr => MESSAGE,
        SigsetArgument => SIGSET,
        BpfObject => PATH,
        BpfRawTracepoint => NAME,
        CloneArgs => TIDS,
        _ => &[],
    }
}
