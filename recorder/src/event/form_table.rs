//! The forms of the calls that have many, by the value of the argument that tells them
//! apart. Sources: include/uapi/linux/{fcntl,prctl,futex,bpf,seccomp,mount,fs}.h,
//! include/uapi/asm-generic/{ioctls,fcntl,socket}.h of Linux 6.12.

use recorder_ebpf::schema::Choice;
use recorder_ebpf::schema::FlagSet::*;
use recorder_ebpf::schema::Layout::{self, *};
use recorder_ebpf::schema::Meaning::*;

use super::{Form, Forms};
use crate::event::syscall::{Arg, given, pointed, sized, sized_at_most, written};

macro_rules! forms {
    ($(#[doc = $doc:literal])* $table:ident $arg:literal $low:literal;
        $( $([$($value:expr),+] ($($name:ident: $meaning:expr),*);)+ )?
    ) => {
        $(#[doc = $doc])*
        pub const $table: &Forms = &Forms {
            arg: $arg,
            low: $low,
            rows: &[$($(Form {
                values: &[$($value),+],
                args: &[$(Arg { name: stringify!($name), meaning: $meaning }),*],
            }),+)?],
        };
    };
}

forms! {
    /// `fcntl(2)`, by its command.
    FCNTL 1 false;
    [1, 3, 9, 11, 1025, 1032, 1034] (fd: Fd, cmd: Flags(Fcntl));
    [0, 1030] (fd: Fd, cmd: Flags(Fcntl), arg: Int);
    [2] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(DescriptorFlags));
    [4] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Open));
    [6, 7, 37, 38] (fd: Fd, cmd: Flags(Fcntl), arg: given(FileLock));
    [5, 36] (fd: Fd, cmd: Flags(Fcntl), arg: written(FileLock));
    [8] (fd: Fd, cmd: Flags(Fcntl), arg: Pid);
    [10] (fd: Fd, cmd: Flags(Fcntl), arg: Signal);
    [15] (fd: Fd, cmd: Flags(Fcntl), arg: given(OwnerEx));
    [16] (fd: Fd, cmd: Flags(Fcntl), arg: written(OwnerEx));
    [1024] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(LockType));
    [1026] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Dnotify));
    [1027] (fd: Fd, cmd: Flags(Fcntl), arg: Fd);
    [1031] (fd: Fd, cmd: Flags(Fcntl), arg: Bytes);
    [1033] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Seals));
    [1035, 1037] (fd: Fd, cmd: Flags(Fcntl), arg: written(LongLongValue));
    [1036, 1038] (fd: Fd, cmd: Flags(Fcntl), arg: given(LongLongValue));
}

forms! {
    /// `fcntl64(2)` of 32-bit x86.
    FCNTL64 1 false;
    [1, 3, 9, 11, 1025, 1032, 1034] (fd: Fd, cmd: Flags(Fcntl));
    [0, 1030] (fd: Fd, cmd: Flags(Fcntl), arg: Int);
    [2] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(DescriptorFlags));
    [4] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Open));
    [6, 7] (fd: Fd, cmd: Flags(Fcntl), arg: given(FileLock));
    [5] (fd: Fd, cmd: Flags(Fcntl), arg: written(FileLock));
    [8] (fd: Fd, cmd: Flags(Fcntl), arg: Pid);
    [10] (fd: Fd, cmd: Flags(Fcntl), arg: Signal);
    [15] (fd: Fd, cmd: Flags(Fcntl), arg: given(OwnerEx));
    [16] (fd: Fd, cmd: Flags(Fcntl), arg: written(OwnerEx));
    [1024] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(LockType));
    [1026] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Dnotify));
    [1027] (fd: Fd, cmd: Flags(Fcntl), arg: Fd);
    [1031] (fd: Fd, cmd: Flags(Fcntl), arg: Bytes);
    [1033] (fd: Fd, cmd: Flags(Fcntl), arg: Flags(Seals));
    [1035, 1037] (fd: Fd, cmd: Flags(Fcntl), arg: written(LongLongValue));
    [1036, 1038] (fd: Fd, cmd: Flags(Fcntl), arg: given(LongLongValue));
    [12, 36] (fd: Fd, cmd: Flags(Fcntl), arg: written(FileLock64));
    [13, 14, 37, 38] (fd: Fd, cmd: Flags(Fcntl), arg: given(FileLock64));
}

forms! {
    /// `prctl(2)`, by its option.
    PRCTL 0 false;
    [3, 7, 14, 21, 27, 30, 31, 32, 34, 39, 42, 46, 51, 56, 58, 64, 66, 68] (option: Flags(Prctl));
    [1] (option: Flags(Prctl), arg2: Signal);
    [4] (option: Flags(Prctl), arg2: Flags(Dumpable));
    [8, 29, 36, 41, 43, 44, 45, 54, 57, 60, 61, 63, 65, 67] (option: Flags(Prctl), arg2: Unsigned);
    [2] (option: Flags(Prctl), arg2: written(SignalNumber));
    [23, 24] (option: Flags(Prctl), arg2: Flags(Capability));
    [28] (option: Flags(Prctl), arg2: Flags(Securebits));
    [22] (option: Flags(Prctl), arg2: Flags(SeccompMode));
    [5, 9, 11, 19, 25] (option: Flags(Prctl), arg2: written(IntValue));
    [26] (option: Flags(Prctl), arg2: Flags(Tsc));
    [13] (option: Flags(Prctl), arg2: Flags(Timing));
    [6, 10, 12, 20, 50, 55, 75, 76] (option: Flags(Prctl), arg2: Hex);
    [40] (option: Flags(Prctl), arg2: written(PointerValue));
    [74] (option: Flags(Prctl), arg2: written(LongLongValue));
    [15] (option: Flags(Prctl), arg2: Text);
    [16] (option: Flags(Prctl), arg2: written(ThreadName));
    [38] (option: Flags(Prctl), arg2: Unsigned, arg3: Unsigned, arg4: Unsigned, arg5: Unsigned);
    [47] (option: Flags(Prctl), arg2: Flags(AmbientCapability), arg3: Flags(Capability), arg4: Unsigned, arg5: Unsigned);
    [52] (option: Flags(Prctl), arg2: Flags(Speculation));
    [53] (option: Flags(Prctl), arg2: Flags(Speculation), arg3: Flags(SpeculationControl));
    [33] (option: Flags(Prctl), arg2: Unsigned, arg3: Unsigned);
    [35] (option: Flags(Prctl), arg2: Flags(MemoryMap), arg3: Address, arg4: Address, arg5: Address);
    [59] (option: Flags(Prctl), arg2: Unsigned, arg3: Address, arg4: Bytes, arg5: Address);
    [62] (option: Flags(Prctl), arg2: Unsigned, arg3: Tid, arg4: Unsigned, arg5: Address);
    [0x53564d41] (option: Flags(Prctl), arg2: Flags(VmaAttribute), arg3: Address, arg4: Bytes, arg5: Text);
    [0x59616d61] (option: Flags(Prctl), arg2: Pid);
    [0x41555856] (option: Flags(Prctl), arg2: Address, arg3: Bytes);
}

forms! {
    /// `arch_prctl(2)`, by its option.
    ARCH_PRCTL 0 false;
    [0x1001, 0x1002, 0x1012, 0x1023, 0x1025, 0x2001, 0x2002, 0x2003, 0x4002, 0x5001, 0x5002, 0x5003, 0x5004] (option: Flags(ArchPrctl), arg2: Address);
    [0x1003, 0x1004] (option: Flags(ArchPrctl), arg2: written(PointerValue));
    [0x1011] (option: Flags(ArchPrctl));
    [0x1021, 0x1022, 0x1024, 0x4001, 0x4003, 0x5005] (option: Flags(ArchPrctl), arg2: written(LongLongValue));
}

forms! {
    /// `futex(2)`, by its operation without the bits above it.
    FUTEX 1 true;
    [0] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec));
    [1] (uaddr: Address, op: Flags(Futex), val: Int);
    [2] (uaddr: Address, op: Flags(Futex), val: Signal);
    [3] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address);
    [4, 12] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address, val3: Unsigned);
    [5] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address, val3: Hex);
    [6, 13] (uaddr: Address, op: Flags(Futex), val: Int, utime: given(Timespec));
    [7, 8] (uaddr: Address, op: Flags(Futex));
    [9] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec), uaddr2: Address, val3: Flags(FutexBitset));
    [10] (uaddr: Address, op: Flags(Futex), val: Int, utime: Address, uaddr2: Address, val3: Flags(FutexBitset));
    [11] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec), uaddr2: Address);
}

forms! {
    /// `futex_time64(2)` of 32-bit x86.
    FUTEX_TIME64 1 true;
    [0] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec64));
    [1] (uaddr: Address, op: Flags(Futex), val: Int);
    [2] (uaddr: Address, op: Flags(Futex), val: Signal);
    [3] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address);
    [4, 12] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address, val3: Unsigned);
    [5] (uaddr: Address, op: Flags(Futex), val: Int, val2: Int, uaddr2: Address, val3: Hex);
    [6, 13] (uaddr: Address, op: Flags(Futex), val: Int, utime: given(Timespec64));
    [7, 8] (uaddr: Address, op: Flags(Futex));
    [9] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec64), uaddr2: Address, val3: Flags(FutexBitset));
    [10] (uaddr: Address, op: Flags(Futex), val: Int, utime: Address, uaddr2: Address, val3: Flags(FutexBitset));
    [11] (uaddr: Address, op: Flags(Futex), val: Unsigned, utime: given(Timespec64), uaddr2: Address);
}

forms! {
    /// `bpf(2)`, by its command.
    BPF 0 false;
    [0] (cmd: Flags(Bpf), uattr: sized(BpfMapCreate, 2), size: Bytes);
    [1, 2, 3, 4, 21] (cmd: Flags(Bpf), uattr: sized(BpfMapElement, 2), size: Bytes);
    [5] (cmd: Flags(Bpf), uattr: sized(BpfProgLoad, 2), size: Bytes);
    [6, 7] (cmd: Flags(Bpf), uattr: sized(BpfObject, 2), size: Bytes);
    [8, 9] (cmd: Flags(Bpf), uattr: sized(BpfProgAttach, 2), size: Bytes);
    [10] (cmd: Flags(Bpf), uattr: sized(BpfTestRun, 2), size: Bytes);
    [11, 12, 13, 14, 19, 23, 30, 31] (cmd: Flags(Bpf), uattr: sized(BpfNextId, 2), size: Bytes);
    [15] (cmd: Flags(Bpf), uattr: sized(BpfInfo, 2), size: Bytes);
    [16] (cmd: Flags(Bpf), uattr: sized(BpfProgQuery, 2), size: Bytes);
    [17] (cmd: Flags(Bpf), uattr: sized(BpfRawTracepoint, 2), size: Bytes);
    [18] (cmd: Flags(Bpf), uattr: sized(BpfBtfLoad, 2), size: Bytes);
    [28] (cmd: Flags(Bpf), uattr: sized(BpfLinkCreate, 2), size: Bytes);
    [29] (cmd: Flags(Bpf), uattr: sized(BpfLinkUpdate, 2), size: Bytes);
    [22, 32, 33, 34, 35, 36, 37] (cmd: Flags(Bpf), uattr: sized(BpfDescriptor, 2), size: Bytes);
}

forms! {
    /// `seccomp(2)`, by its operation.
    SECCOMP 0 false;
    [0] (op: Flags(Seccomp), flags: Unsigned, uargs: Address);
    [1] (op: Flags(Seccomp), flags: Flags(SeccompFlags), uargs: given(SockFprog));
    [2] (op: Flags(Seccomp), flags: Unsigned, uargs: given(HexValue));
    [3] (op: Flags(Seccomp), flags: Unsigned, uargs: Address);
}

forms! {
    /// `fsconfig(2)`, by its command. The value of an option may be a password: it is not read.
    FSCONFIG 1 false;
    [0, 6, 7, 8] (fd: Fd, cmd: Flags(FsConfig), key: Text, value: Address, aux: Int);
    [1] (fd: Fd, cmd: Flags(FsConfig), key: Text, value: Address, aux: Int);
    [2] (fd: Fd, cmd: Flags(FsConfig), key: Text, value: Address, aux: Bytes);
    [3, 4] (fd: Fd, cmd: Flags(FsConfig), key: Text, value: Path, aux: DirFd);
    [5] (fd: Fd, cmd: Flags(FsConfig), key: Text, value: Address, aux: Fd);
}

forms! {
    /// `setsockopt(2)`, by its level. Values of other levels are not read: keys of `SOL_TLS` and
    /// `SOL_ALG` are among them, and those of TCP lie behind the first eight bytes.
    SETSOCKOPT 1 false;
    [0, 1, 17, 41, 58, 263, 270] (fd: Fd, level: Flags(SocketLevel), optname: By(Choice::SocketOption), optval: sized(SocketValue, 4), optlen: Bytes);
    [6] (fd: Fd, level: Flags(SocketLevel), optname: By(Choice::SocketOption), optval: sized_at_most(SocketValue, 4, 8), optlen: Bytes);
}

forms! {
    /// `getsockopt(2)`, by its level.
    GETSOCKOPT 1 false;
    [0, 1, 6, 17, 41, 58, 263, 270] (fd: Fd, level: Flags(SocketLevel), optname: By(Choice::SocketOption), optval: pointed(SocketValue, 4), optlen: written(IntValue));
}

forms! {
    /// `ioctl(2)`, by its request. What is not here is a number and a pointer: nobody knows
    /// whose bytes lie there.
    IOCTL 1 false;
    [0x5401] (fd: Fd, cmd: Flags(Ioctl), arg: written(Termios));
    [0x5402, 0x5403, 0x5404] (fd: Fd, cmd: Flags(Ioctl), arg: given(Termios));
    [0x1, 0x301, 0x30d, 0x1266, 0x1267, 0x1269, 0x1277, 0x127d, 0x127e, 0x127f, 0x2285, 0x4b33, 0x4c02, 0x4c03, 0x4c04, 0x4c05, 0x4c0a, 0x5382, 0x5405, 0x5406, 0x5407, 0x5408, 0x5412, 0x541c, 0x541e, 0x541f, 0x5603, 0x890b, 0x890c, 0x8982, 0x89a0, 0x89a1, 0x40085203, 0x40182103, 0x402c542b, 0x402c542c, 0x402c542d, 0x50009403, 0x8010aa01, 0x8010aa02, 0x80111500, 0x802c542a, 0x80811501, 0xc0182101, 0xc0185879, 0xc0189436, 0xc018aa3f, 0xc020660b, 0xc020aa00, 0xc028aa03, 0xc0502100] (fd: Fd, cmd: Flags(Ioctl), arg: Address);
    [0x2402, 0x4c80, 0x4c81, 0x5326, 0x5409, 0x540e, 0x5425, 0x5606, 0x5607, 0x400454c8, 0x400454c9, 0x400454cb] (fd: Fd, cmd: Flags(Ioctl), arg: Int);
    [0x540a] (fd: Fd, cmd: Flags(Ioctl), arg: Flags(FlowControl));
    [0x540b] (fd: Fd, cmd: Flags(Ioctl), arg: Flags(FlushQueue));
    [0x125f, 0x1261, 0x4c01, 0x4c07, 0x4c82, 0x5207, 0x5309, 0x540c, 0x540d, 0x541d, 0x5422, 0x5427, 0x5428, 0x5450, 0x5451, 0x5453, 0x894c, 0xae00, 0xae04, 0xae80, 0xb701, 0xb702, 0xb703, 0xc0045877, 0xc0045878] (fd: Fd, cmd: Flags(Ioctl));
    [0x2, 0x125e, 0x1268, 0x127a, 0x4b3b, 0x4b44, 0x5386, 0x540f, 0x5411, 0x5419, 0x541b, 0x5424, 0x5429, 0x5600, 0x8903, 0x8904, 0x8905, 0x80045200, 0x80045438, 0x80045439, 0x80045440, 0x80081270, 0x80087601] (fd: Fd, cmd: Flags(Ioctl), arg: written(IntValue));
    [0x125d, 0x5410, 0x541a, 0x5420, 0x5421, 0x5423, 0x5452, 0x8901, 0x8902, 0x40045201, 0x40045431, 0x40081271] (fd: Fd, cmd: Flags(Ioctl), arg: given(IntValue));
    [0x5413] (fd: Fd, cmd: Flags(Ioctl), arg: written(Winsize));
    [0x5414] (fd: Fd, cmd: Flags(Ioctl), arg: given(Winsize));
    [0x5415, 0x80086601] (fd: Fd, cmd: Flags(Ioctl), arg: written(HexValue));
    [0x5416, 0x5417, 0x5418, 0x40086602] (fd: Fd, cmd: Flags(Ioctl), arg: given(HexValue));
    [0x5460] (fd: Fd, cmd: Flags(Ioctl), arg: written(OffsetValue));
    [0x1278, 0x1279, 0x127b, 0x127c, 0x80045430] (fd: Fd, cmd: Flags(Ioctl), arg: written(UnsignedValue));
    [0x5441] (fd: Fd, cmd: Flags(Ioctl), arg: Flags(Open));
    [0x2405, 0x4c00, 0x4c06, 0x40042408, 0x40049409] (fd: Fd, cmd: Flags(Ioctl), arg: Fd);
    [0x4020940d] (fd: Fd, cmd: Flags(Ioctl), arg: given(FileCloneRange));
    [0x801c581f] (fd: Fd, cmd: Flags(Ioctl), arg: written(Fsxattr));
    [0x401c5820] (fd: Fd, cmd: Flags(Ioctl), arg: given(Fsxattr));
    [0x1260, 0x1263, 0x1265] (fd: Fd, cmd: Flags(Ioctl), arg: written(WordValue));
    [0x1262, 0x1264, 0x4b3a, 0x4b45, 0x4c08, 0x4c09, 0x5331, 0xae01, 0xae03, 0xae41, 0x40042409] (fd: Fd, cmd: Flags(Ioctl), arg: Unsigned);
    [0x80081272, 0x80082407] (fd: Fd, cmd: Flags(Ioctl), arg: written(LongLongValue));
    [0x8906] (fd: Fd, cmd: Flags(Ioctl), arg: written(Timeval));
    [0x8907] (fd: Fd, cmd: Flags(Ioctl), arg: written(Timespec));
    [0x8910, 0x800454d2] (fd: Fd, cmd: Flags(Ioctl), arg: written(Ifreq));
    [0x8912] (fd: Fd, cmd: Flags(Ioctl), arg: written(Ifconf));
    [0x8913, 0x8914, 0x8915, 0x8916, 0x8917, 0x8918, 0x8919, 0x891a, 0x891b, 0x891c, 0x891d, 0x891e, 0x8921, 0x8922, 0x8923, 0x8924, 0x8927, 0x8933, 0x8942, 0x8943, 0x8946, 0x400454ca] (fd: Fd, cmd: Flags(Ioctl), arg: given(Ifreq));
    [0xb704] (fd: Fd, cmd: Flags(Ioctl), arg: written(UserId));
    [0x2400, 0x2401, 0x2403, 0x400454d0] (fd: Fd, cmd: Flags(Ioctl), arg: Hex);
    [0x40082102, 0x40082404] (fd: Fd, cmd: Flags(Ioctl), arg: given(LongLongValue));
    [0x40082406] (fd: Fd, cmd: Flags(Ioctl), arg: Text);
    [0x400454cc] (fd: Fd, cmd: Flags(Ioctl), arg: Uid);
}

/// What the value of an option of a socket is, where it is no plain number.
pub(super) fn socket_value(level: u32, option: u32) -> Option<Layout> {
    Some(match (level, option) {
        // SO_LINGER, SO_PEERCRED, SO_RCVTIMEO_OLD, SO_SNDTIMEO_OLD, SO_BINDTODEVICE,
        // SO_ATTACH_FILTER, SO_PEERSEC.
        (1, 13) => Linger,
        (1, 17) => Ucred,
        (1, 20 | 21) => Timeval,
        (1, 25 | 31) => Words,
        (1, 26) => SockFprog,
        // SO_COOKIE, SO_PEERGROUPS, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW.
        (1, 57) => LongLongValue,
        (1, 59) => GroupId,
        (1, 66 | 67) => Timespec64,
        // TCP_INFO, TCP_CONGESTION, TCP_ULP.
        (6, 11) => TcpInfo,
        (6, 13 | 31) => Words,
        // IP_MULTICAST_IF, IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP.
        (0, 32) => IpMreqn,
        (0, 35 | 36) => IpMreqn,
        // IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP.
        (41, 20 | 21) => Ipv6Mreq,
        _ => return None,
    })
}

/// Every request of `ioctl(2)` that has a name.
pub(in crate::event) const REQUESTS: &[(i64, &str)] = &[
    (0x1, "FIBMAP"),
    (0x2, "FIGETBSZ"),
    (0x301, "HDIO_GETGEO"),
    (0x30d, "HDIO_GET_IDENTITY"),
    (0x125d, "BLKROSET"),
    (0x125e, "BLKROGET"),
    (0x125f, "BLKRRPART"),
    (0x1260, "BLKGETSIZE"),
    (0x1261, "BLKFLSBUF"),
    (0x1262, "BLKRASET"),
    (0x1263, "BLKRAGET"),
    (0x1264, "BLKFRASET"),
    (0x1265, "BLKFRAGET"),
    (0x1266, "BLKSECTSET"),
    (0x1267, "BLKSECTGET"),
    (0x1268, "BLKSSZGET"),
    (0x1269, "BLKPG"),
    (0x1277, "BLKDISCARD"),
    (0x1278, "BLKIOMIN"),
    (0x1279, "BLKIOOPT"),
    (0x127a, "BLKALIGNOFF"),
    (0x127b, "BLKPBSZGET"),
    (0x127c, "BLKDISCARDZEROES"),
    (0x127d, "BLKSECDISCARD"),
    (0x127e, "BLKROTATIONAL"),
    (0x127f, "BLKZEROOUT"),
    (0x2285, "SG_IO"),
    (0x2400, "PERF_EVENT_IOC_ENABLE"),
    (0x2401, "PERF_EVENT_IOC_DISABLE"),
    (0x2402, "PERF_EVENT_IOC_REFRESH"),
    (0x2403, "PERF_EVENT_IOC_RESET"),
    (0x2405, "PERF_EVENT_IOC_SET_OUTPUT"),
    (0x4b33, "KDGKBTYPE"),
    (0x4b3a, "KDSETMODE"),
    (0x4b3b, "KDGETMODE"),
    (0x4b44, "KDGKBMODE"),
    (0x4b45, "KDSKBMODE"),
    (0x4c00, "LOOP_SET_FD"),
    (0x4c01, "LOOP_CLR_FD"),
    (0x4c02, "LOOP_SET_STATUS"),
    (0x4c03, "LOOP_GET_STATUS"),
    (0x4c04, "LOOP_SET_STATUS64"),
    (0x4c05, "LOOP_GET_STATUS64"),
    (0x4c06, "LOOP_CHANGE_FD"),
    (0x4c07, "LOOP_SET_CAPACITY"),
    (0x4c08, "LOOP_SET_DIRECT_IO"),
    (0x4c09, "LOOP_SET_BLOCK_SIZE"),
    (0x4c0a, "LOOP_CONFIGURE"),
    (0x4c80, "LOOP_CTL_ADD"),
    (0x4c81, "LOOP_CTL_REMOVE"),
    (0x4c82, "LOOP_CTL_GET_FREE"),
    (0x5207, "RNDRESEEDCRNG"),
    (0x5309, "CDROMEJECT"),
    (0x5326, "CDROM_DRIVE_STATUS"),
    (0x5331, "CDROM_GET_CAPABILITY"),
    (0x5382, "SCSI_IOCTL_GET_IDLUN"),
    (0x5386, "SCSI_IOCTL_GET_BUS_NUMBER"),
    (0x5401, "TCGETS"),
    (0x5402, "TCSETS"),
    (0x5403, "TCSETSW"),
    (0x5404, "TCSETSF"),
    (0x5405, "TCGETA"),
    (0x5406, "TCSETA"),
    (0x5407, "TCSETAW"),
    (0x5408, "TCSETAF"),
    (0x5409, "TCSBRK"),
    (0x540a, "TCXONC"),
    (0x540b, "TCFLSH"),
    (0x540c, "TIOCEXCL"),
    (0x540d, "TIOCNXCL"),
    (0x540e, "TIOCSCTTY"),
    (0x540f, "TIOCGPGRP"),
    (0x5410, "TIOCSPGRP"),
    (0x5411, "TIOCOUTQ"),
    (0x5412, "TIOCSTI"),
    (0x5413, "TIOCGWINSZ"),
    (0x5414, "TIOCSWINSZ"),
    (0x5415, "TIOCMGET"),
    (0x5416, "TIOCMBIS"),
    (0x5417, "TIOCMBIC"),
    (0x5418, "TIOCMSET"),
    (0x5419, "TIOCGSOFTCAR"),
    (0x541a, "TIOCSSOFTCAR"),
    (0x541b, "FIONREAD"),
    (0x541c, "TIOCLINUX"),
    (0x541d, "TIOCCONS"),
    (0x541e, "TIOCGSERIAL"),
    (0x541f, "TIOCSSERIAL"),
    (0x5420, "TIOCPKT"),
    (0x5421, "FIONBIO"),
    (0x5422, "TIOCNOTTY"),
    (0x5423, "TIOCSETD"),
    (0x5424, "TIOCGETD"),
    (0x5425, "TCSBRKP"),
    (0x5427, "TIOCSBRK"),
    (0x5428, "TIOCCBRK"),
    (0x5429, "TIOCGSID"),
    (0x5441, "TIOCGPTPEER"),
    (0x5450, "FIONCLEX"),
    (0x5451, "FIOCLEX"),
    (0x5452, "FIOASYNC"),
    (0x5453, "TIOCSERCONFIG"),
    (0x5460, "FIOQSIZE"),
    (0x5600, "VT_OPENQRY"),
    (0x5603, "VT_GETSTATE"),
    (0x5606, "VT_ACTIVATE"),
    (0x5607, "VT_WAITACTIVE"),
    (0x8901, "FIOSETOWN"),
    (0x8902, "SIOCSPGRP"),
    (0x8903, "FIOGETOWN"),
    (0x8904, "SIOCGPGRP"),
    (0x8905, "SIOCATMARK"),
    (0x8906, "SIOCGSTAMP_OLD"),
    (0x8907, "SIOCGSTAMPNS_OLD"),
    (0x890b, "SIOCADDRT"),
    (0x890c, "SIOCDELRT"),
    (0x8910, "SIOCGIFNAME"),
    (0x8912, "SIOCGIFCONF"),
    (0x8913, "SIOCGIFFLAGS"),
    (0x8914, "SIOCSIFFLAGS"),
    (0x8915, "SIOCGIFADDR"),
    (0x8916, "SIOCSIFADDR"),
    (0x8917, "SIOCGIFDSTADDR"),
    (0x8918, "SIOCSIFDSTADDR"),
    (0x8919, "SIOCGIFBRDADDR"),
    (0x891a, "SIOCSIFBRDADDR"),
    (0x891b, "SIOCGIFNETMASK"),
    (0x891c, "SIOCSIFNETMASK"),
    (0x891d, "SIOCGIFMETRIC"),
    (0x891e, "SIOCSIFMETRIC"),
    (0x8921, "SIOCGIFMTU"),
    (0x8922, "SIOCSIFMTU"),
    (0x8923, "SIOCSIFNAME"),
    (0x8924, "SIOCSIFHWADDR"),
    (0x8927, "SIOCGIFHWADDR"),
    (0x8933, "SIOCGIFINDEX"),
    (0x8942, "SIOCGIFTXQLEN"),
    (0x8943, "SIOCSIFTXQLEN"),
    (0x8946, "SIOCETHTOOL"),
    (0x894c, "SIOCGSKNS"),
    (0x8982, "SIOCGIFVLAN"),
    (0x89a0, "SIOCBRADDBR"),
    (0x89a1, "SIOCBRDELBR"),
    (0xae00, "KVM_GET_API_VERSION"),
    (0xae01, "KVM_CREATE_VM"),
    (0xae03, "KVM_CHECK_EXTENSION"),
    (0xae04, "KVM_GET_VCPU_MMAP_SIZE"),
    (0xae41, "KVM_CREATE_VCPU"),
    (0xae80, "KVM_RUN"),
    (0xb701, "NS_GET_USERNS"),
    (0xb702, "NS_GET_PARENT"),
    (0xb703, "NS_GET_NSTYPE"),
    (0xb704, "NS_GET_OWNER_UID"),
    (0x40042408, "PERF_EVENT_IOC_SET_BPF"),
    (0x40042409, "PERF_EVENT_IOC_PAUSE_OUTPUT"),
    (0x40045201, "RNDADDTOENTCNT"),
    (0x40045431, "TIOCSPTLCK"),
    (0x400454c8, "TUNSETNOCSUM"),
    (0x400454c9, "TUNSETDEBUG"),
    (0x400454ca, "TUNSETIFF"),
    (0x400454cb, "TUNSETPERSIST"),
    (0x400454cc, "TUNSETOWNER"),
    (0x400454d0, "TUNSETOFFLOAD"),
    (0x40049409, "FICLONE"),
    (0x40081271, "BLKBSZSET"),
    (0x40082102, "SECCOMP_IOCTL_NOTIF_ID_VALID"),
    (0x40082404, "PERF_EVENT_IOC_PERIOD"),
    (0x40082406, "PERF_EVENT_IOC_SET_FILTER"),
    (0x40085203, "RNDADDENTROPY"),
    (0x40086602, "FS_IOC_SETFLAGS"),
    (0x40182103, "SECCOMP_IOCTL_NOTIF_ADDFD"),
    (0x401c5820, "FS_IOC_FSSETXATTR"),
    (0x4020940d, "FICLONERANGE"),
    (0x402c542b, "TCSETS2"),
    (0x402c542c, "TCSETSW2"),
    (0x402c542d, "TCSETSF2"),
    (0x50009403, "BTRFS_IOC_RESIZE"),
    (0x80045200, "RNDGETENTCNT"),
    (0x80045430, "TIOCGPTN"),
    (0x80045438, "TIOCGPKT"),
    (0x80045439, "TIOCGPTLCK"),
    (0x80045440, "TIOCGEXCL"),
    (0x800454d2, "TUNGETIFF"),
    (0x80081270, "BLKBSZGET"),
    (0x80081272, "BLKGETSIZE64"),
    (0x80082407, "PERF_EVENT_IOC_ID"),
    (0x80086601, "FS_IOC_GETFLAGS"),
    (0x80087601, "FS_IOC_GETVERSION"),
    (0x8010aa01, "UFFDIO_UNREGISTER"),
    (0x8010aa02, "UFFDIO_WAKE"),
    (0x80111500, "FS_IOC_GETFSUUID"),
    (0x801c581f, "FS_IOC_FSGETXATTR"),
    (0x802c542a, "TCGETS2"),
    (0x80811501, "FS_IOC_GETFSSYSFSPATH"),
    (0xc0045877, "FIFREEZE"),
    (0xc0045878, "FITHAW"),
    (0xc0182101, "SECCOMP_IOCTL_NOTIF_SEND"),
    (0xc0185879, "FITRIM"),
    (0xc0189436, "FIDEDUPERANGE"),
    (0xc018aa3f, "UFFDIO_API"),
    (0xc020660b, "FS_IOC_FIEMAP"),
    (0xc020aa00, "UFFDIO_REGISTER"),
    (0xc028aa03, "UFFDIO_COPY"),
    (0xc0502100, "SECCOMP_IOCTL_NOTIF_RECV"),
];
