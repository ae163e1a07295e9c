//! System calls that are refused: seccomp(2).
//!
//! The list says what is refused, not what is allowed. A list of what is allowed
//! would hold less by far, but it would have to know every call that the C library,
//! the allocator and the runtime of tomorrow make: one that it does not know would
//! end the recording on the day the host is updated, or worse, on the day something
//! fails for the first time and takes a path nobody tried. The recorder never
//! causes the outage, so it refuses what it knows it never does, and answers EPERM,
//! which is an error like any other, not a signal.
//!
//! Invariant: nothing here ends the process, but one thing: a call of another ABI
//! (32-bit code), which the recorder does not have.

use std::collections::BTreeMap;

use aya_obj::generated::bpf_cmd;
use rustix::{fs::OFlags, io::Errno, net::AddressFamily, thread::UnshareFlags};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, apply_filter_all_threads,
};
use syscalls::Sysno;

/// What no thread does after the start.
const NEVER: &[&str] = &[
    // To other processes.
    "kcmp",
    "migrate_pages",
    "move_pages",
    "pidfd_getfd",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    // To who it is.
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
    // To where it is.
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "pivot_root",
    "setns",
    "umount2",
    "unshare",
    // To the kernel and the machine.
    "acct",
    "adjtimex",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "setdomainname",
    "sethostname",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "vhangup",
    // Ways into the kernel that it does not use.
    "add_key",
    "fanotify_init",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "modify_ldt",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "request_key",
    "userfaultfd",
];

/// What no thread does unless other programs are started, which may.
const ONLY_PROGRAMS: &[&str] = &[
    // Start another program.
    "execve",
    "execveat",
    // Change what is known of a file: Landlock does not look at that, and root owns
    // most files.
    "chmod",
    "chown",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "file_setattr",
    "fremovexattr",
    "fsetxattr",
    "futimesat",
    "lchown",
    "lremovexattr",
    "lsetxattr",
    "removexattr",
    "removexattrat",
    "setxattr",
    "setxattrat",
    "utime",
    "utimensat",
    "utimes",
];

/// What the thread that reads other processes does not do either: it keeps
/// capabilities, and Landlock, which would also keep it from those processes, does
/// not hold it.
const NEVER_WHILE_READING: &[&str] = &[
    // Change a file by its path.
    "creat",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "truncate",
    "unlink",
    "unlinkat",
    // Speak to others. Not tgkill: abort(3) is a signal to oneself.
    "kill",
    "pidfd_send_signal",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "socket",
    "socketpair",
    "tkill",
];

/// Its flags lie in memory, where a filter cannot look. The C library takes clone(2)
/// when the kernel has none.
const LOOKS_ABSENT: &[&str] = &["clone3"];

/// The same of openat2(2) and openat(2).
const LOOKS_ABSENT_WHILE_READING: &[&str] = &["openat2"];

/// What is asked of bpf(2) after the start: counters, cuts, the slots.
const BPF_COMMANDS: &[bpf_cmd] = &[
    bpf_cmd::BPF_MAP_LOOKUP_ELEM,
    bpf_cmd::BPF_PROG_TEST_RUN,
    bpf_cmd::BPF_LINK_CREATE,
    bpf_cmd::BPF_ITER_CREATE,
];

/// Who one speaks to: the commands, systemd, and whoever comes by TCP.
const FAMILIES: &[AddressFamily] =
    &[AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];

/// Rules by the number of the call; a call without rules matches always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refuses, for every thread there is and will be, what none of them does. Programs
/// that are started, where any are, are held to the same.
pub(super) fn refuse_for_all(executes: bool) -> Result<(), String> {
    let mut refused = always(NEVER);
    if !executes {
        refused.extend(always(ONLY_PROGRAMS));
    }
    for (name, rules) in by_argument().map_err(|error| error.to_string())? {
        refused.extend(number(name).map(|number| (number, rules)));
    }
    let programs = [
        other_numbers(),
        compiled(refused, Errno::PERM).map_err(|error| error.to_string())?,
        compiled(always(LOOKS_ABSENT), Errno::NOSYS).map_err(|error| error.to_string())?,
    ];
    for program in programs.iter().filter(|program| !program.is_empty()) {
        apply_filter_all_threads(program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Refuses, for the calling thread, whatever writes.
pub(super) fn refuse_writing() -> Result<(), String> {
    let mut refused = always(NEVER_WHILE_READING);
    refused.extend(always(ONLY_PROGRAMS));
    for (name, place) in [("open", 1), ("openat", 2)] {
        let rules = opens_to_write(place).map_err(|error| error.to_string())?;
        refused.extend(number(name).map(|number| (number, rules)));
    }
    let absent = always(LOOKS_ABSENT_WHILE_READING);
    for (rules, errno) in [(refused, Errno::PERM), (absent, Errno::NOSYS)] {
        let program = compiled(rules, errno).map_err(|error| error.to_string())?;
        apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The number of a call on this architecture; not every one has each.
fn number(name: &str) -> Option<i64> {
    name.parse::<Sysno>().ok().map(|call| i64::from(call.id()))
}

fn always(names: &[&str]) -> Rules {
    names.iter().filter_map(|name| number(name)).map(|number| (number, Vec::new())).collect()
}

fn compiled(rules: Rules, errno: Errno) -> Result<BpfProgram, BackendError> {
    let errno = errno.raw_os_error().unsigned_abs();
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), here)?.try_into()
}

/// Calls that are refused for what they are given.
fn by_argument() -> Result<Vec<(&'static str, Vec<SeccompRule>)>, BackendError> {
    let commands: Vec<u64> = BPF_COMMANDS.iter().map(|command| *command as u64).collect();
    let families: Vec<u64> = FAMILIES.iter().map(|family| u64::from(family.as_raw())).collect();
    Ok(vec![
        ("bpf", vec![none_of(0, &commands)?]),
        ("socket", vec![none_of(0, &families)?]),
        ("socketpair", vec![none_of(0, &families)?]),
        ("clone", new_namespaces()?),
    ])
}

/// Matches when argument `place` is none of `values`. The kernel looks at 32 bits of
/// an int.
fn none_of(place: u8, values: &[u64]) -> Result<SeccompRule, BackendError> {
    let differs = |value: &u64| {
        SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value)
    };
    SeccompRule::new(values.iter().map(differs).collect::<Result<_, _>>()?)
}

/// Matches when the bits `mask` of argument `place` are `value`.
fn masked(place: u8, mask: u32, value: u32) -> Result<SeccompRule, BackendError> {
    let masked = SeccompCmpOp::MaskedEq(u64::from(mask));
    let condition =
        SeccompCondition::new(place, SeccompCmpArgLen::Dword, masked, u64::from(value))?;
    SeccompRule::new(vec![condition])
}

/// A namespace of one's own is where one has every capability.
fn new_namespaces() -> Result<Vec<SeccompRule>, BackendError> {
    // Not CLONE_NEWTIME: its bit is part of the signal in the flags of clone(2).
    [
        UnshareFlags::NEWCGROUP,
        UnshareFlags::NEWIPC,
        UnshareFlags::NEWNET,
        UnshareFlags::NEWNS,
        UnshareFlags::NEWPID,
        UnshareFlags::NEWUSER,
        UnshareFlags::NEWUTS,
    ]
    .iter()
    .map(|flag| masked(0, flag.bits(), flag.bits()))
    .collect()
}

/// Opening a file for anything but reading; `place` is that of the flags.
fn opens_to_write(place: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = Vec::new();
    for mode in [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::RDWR] {
        rules.push(masked(place, OFlags::ACCMODE.bits(), mode.bits())?);
    }
    for flag in [OFlags::CREATE, OFlags::TRUNC] {
        rules.push(masked(place, flag.bits(), flag.bits())?);
    }
    Ok(rules)
}

/// Refuses the calls of x32, a third ABI that some kernels for x86-64 have: it has
/// numbers of its own (bit 30 is set), so that a list of numbers does not see them.
#[cfg(target_arch = "x86_64")]
fn other_numbers() -> BpfProgram {
    /// `__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h.
    const X32: u32 = 0x4000_0000;
    // include/uapi/linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JGE|BPF_K,
    // BPF_RET|BPF_K; include/uapi/linux/seccomp.h.
    const LOAD: u16 = 0x20;
    const JUMP_NOT_BELOW: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let statement = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    vec![
        // The number is the first word of struct seccomp_data.
        statement(LOAD, 0, 0, 0),
        statement(JUMP_NOT_BELOW, 0, 1, X32),
        statement(RETURN, 0, 0, refuse.into()),
        statement(RETURN, 0, 0, SeccompAction::Allow.into()),
    ]
}

/// Other architectures have one ABI for each width.
#[cfg(not(target_arch = "x86_64"))]
fn other_numbers() -> BpfProgram {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::{
        Errno, LOOKS_ABSENT, LOOKS_ABSENT_WHILE_READING, NEVER, NEVER_WHILE_READING, ONLY_PROGRAMS,
        always, by_argument, compiled, number,
    };

    /// A name with a typo would be left out as a call of another architecture.
    #[test]
    fn every_name_is_that_of_a_call() {
        let lists =
            [NEVER, ONLY_PROGRAMS, NEVER_WHILE_READING, LOOKS_ABSENT, LOOKS_ABSENT_WHILE_READING];
        for name in lists.into_iter().flatten() {
            let known = name.parse::<syscalls::x86_64::Sysno>().is_ok()
                || name.parse::<syscalls::aarch64::Sysno>().is_ok();
            assert!(known, "{name}");
        }
        for (name, rules) in by_argument().unwrap() {
            assert!(number(name).is_some() && !rules.is_empty(), "{name}");
        }
    }

    #[test]
    fn filters_fit_into_the_kernel() {
        // BPF_MAXINSNS, include/uapi/linux/bpf_common.h.
        let mut rules = always(NEVER);
        rules.extend(always(ONLY_PROGRAMS));
        rules.extend(always(NEVER_WHILE_READING));
        let program = compiled(rules, Errno::PERM).unwrap();
        assert!(program.len() < 4096, "{} instructions", program.len());
    }
}
