//! Where arguments may differ, and why both are right or one cannot know.

use super::arguments::Difference;

/// Why an argument differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Environment,
    Data,
    SocketEnds,
    ReturnsFromSignal,
    Unused,
    WrittenThere,
    Script,
    IgnoredPointer,
    FailedLength,
    LengthNotNul,
    ThreadName,
    NamesOfZero,
    MoreThanStrace,
    OtherMoment,
    NotDecoded,
}

/// Every reason in words. Those of the first group are no decoding: what they are about
/// is not recorded.
pub(super) const REASONS: &[(Reason, &str)] = &[
    (Reason::Environment, "the environment of a program is never recorded"),
    (Reason::Data, "bytes that programs read and write are not recorded by default"),
    (
        Reason::SocketEnds,
        "strace says the number of a socket, the recorder its protocol and its ends",
    ),
    (
        Reason::ReturnsFromSignal,
        "strace reads what lies on the stack of a handler, which is gone when rt_sigreturn returns",
    ),
    (
        Reason::Unused,
        "an argument the call does not look at with these flags: strace leaves it out",
    ),
    (
        Reason::WrittenThere,
        "strace prints the number the kernel wrote there beside the address, the recorder the address",
    ),
    (
        Reason::Script,
        "the words of a script begin with its interpreter once the kernel has started that",
    ),
    (
        Reason::IgnoredPointer,
        "a pointer this kernel, or the call with these flags, ignores: strace prints the address",
    ),
    (
        Reason::FailedLength,
        "of a call that failed strace prints the length the program gave; the recorder reads none",
    ),
    (
        Reason::LengthNotNul,
        "a string with a NUL and a length: the kernel wants both to agree, strace prints the length",
    ),
    (Reason::ThreadName, "strace stops after 15 bytes, and does not look whether there are more"),
    (Reason::NamesOfZero, "strace has names for settings that are 0"),
    (
        Reason::MoreThanStrace,
        "a structure, a name or a flag that this strace does not decode, and the recorder does",
    ),
    (Reason::OtherMoment, "strace reads it when the call begins, the recorder when it returns"),
    (
        Reason::NotDecoded,
        "masks of memory nodes, priorities of input and output, the filter of ICMP, an error as the value of an option: numbers or addresses to the recorder",
    ),
];

/// Whether what it is about is not recorded at all, and so cannot be decoded.
pub(super) fn is_unrecorded(reason: Reason) -> bool {
    matches!(reason, Reason::Environment | Reason::Data)
}

/// The reason for a difference.
pub(super) fn reason(difference: &Difference) -> Option<Reason> {
    let Difference { place, traced, recorded, failed } = difference;
    let is_address = recorded.starts_with("\"0x");
    let is_text = traced.starts_with('"');
    Some(match place.as_str() {
        "execve.envp" | "execveat.envp" => Reason::Environment,
        "execve.argv[script]" => Reason::Script,
        "getdents64.dirent" | "getdents.dirent" if is_address => Reason::Data,
        _ if place.ends_with(".iov_base") && is_address => Reason::Data,
        "sendto.buff" | "recvfrom.ubuf" if is_address => Reason::Data,
        _ if is_text && is_address => Reason::Data,
        _ if place.ends_with("<file>") && traced.starts_with("socket:[") => Reason::SocketEnds,
        // Another process removed the file while the call went on.
        _ if place.ends_with("<file>")
            && recorded.strip_suffix(" (deleted)") == Some(traced.as_str()) =>
        {
            Reason::OtherMoment
        }
        _ if place.starts_with("rt_sigreturn.") => Reason::ReturnsFromSignal,
        "clone.parent_tidptr"
        | "clone.tls"
        | "clone.child_tidptr"
        | "mknodat.dev"
        | "mknod.dev"
        | "mremap.new_addr"
        | "reboot.arg"
        | "preadv.pos_h"
        | "pwritev.pos_h"
            if traced == "nothing" =>
        {
            Reason::Unused
        }
        _ if place.starts_with("prctl.") && recorded == "\"nothing\"" => Reason::Unused,
        "clone3.uargs.parent_tid" | "clone3.uargs.pidfd" | "clone.parent_tidptr" if is_address => {
            Reason::WrittenThere
        }
        "epoll_ctl.event" if traced.starts_with("0x") => Reason::IgnoredPointer,
        "mount.type" | "fsconfig.key" | "create_module.name" | "query_module.name"
            if traced.starts_with("0x") =>
        {
            Reason::IgnoredPointer
        }
        _ if place.ends_with("addrlen")
            || place.ends_with("addr_len")
            || place.ends_with("optlen") =>
        {
            if !is_address || !failed {
                return None;
            }
            Reason::FailedLength
        }
        "kexec_file_load.cmdline_ptr" => Reason::LengthNotNul,
        "prctl.arg2" if traced.ends_with("...") => Reason::ThreadName,
        "ioctl.arg.c_oflag" | "ioctl.arg.c_iflag" | "ioctl.arg.c_cflag" => Reason::NamesOfZero,
        "setsockopt.optval" | "getsockopt.optval" if is_text => Reason::MoreThanStrace,
        "ioctl.arg" if recorded.starts_with("\"O_") => Reason::MoreThanStrace,
        "set_mempolicy.nmask"
        | "get_mempolicy.nmask"
        | "get_mempolicy.policy"
        | "ioprio_set.ioprio" => Reason::NotDecoded,
        "setsockopt.optname" if traced == "ICMP_FILTER" => Reason::NotDecoded,
        "setsockopt.optval" if traced.starts_with("~[ICMP_") => Reason::NotDecoded,
        "getsockopt.optval" if traced.contains("[E") || traced.starts_with('E') => {
            Reason::NotDecoded
        }
        _ => return None,
    })
}
