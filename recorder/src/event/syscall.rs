//! The system calls: their numbers, names and arguments, and what the kernel
//! programs have to do for each.

use std::borrow::Cow;
use std::sync::LazyLock;

use recorder_ebpf::schema::{Extent, FlagSet, Layout, Meaning, Memory};
use recorder_ebpf::wire::{self, CALLS_COMPAT, when};

use super::form::Forms;

#[path = "syscall_table.rs"]
mod table;

/// The ABI a system call was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// Calls of 64-bit programs on x86-64.
    X86_64,
    /// Calls of 32-bit programs on x86-64.
    X86,
    /// Calls of 64-bit programs on aarch64.
    Aarch64,
}

impl Abi {
    /// The ABI of 64-bit programs on an architecture named as by `uname -m`.
    pub fn native(arch: &str) -> Option<Abi> {
        match arch {
            "x86_64" => Some(Abi::X86_64),
            "aarch64" => Some(Abi::Aarch64),
            _ => None,
        }
    }

    /// The ABI of 32-bit programs on the same kernel; there is no table for 32-bit arm.
    pub fn compat(self) -> Option<Abi> {
        match self {
            Abi::X86_64 | Abi::X86 => Some(Abi::X86),
            Abi::Aarch64 => None,
        }
    }

    /// The kernel's name of the call with this number.
    fn known_name(self, nr: usize) -> Option<&'static str> {
        let name = match self {
            Abi::X86_64 => syscalls::x86_64::Sysno::new(nr)?.name(),
            Abi::X86 => syscalls::x86::Sysno::new(nr)?.name(),
            Abi::Aarch64 => syscalls::aarch64::Sysno::new(nr)?.name(),
        };
        Some(match name {
            "r#break" => "break",
            // What the kernel's headers call it, on every 64-bit architecture.
            "fstatat" => "newfstatat",
            _ => name,
        })
    }

    /// Calls that are made in another way than elsewhere.
    fn own_calls(self) -> &'static [Syscall] {
        match self {
            Abi::X86_64 => &[],
            Abi::X86 => table::CALLS_X86,
            Abi::Aarch64 => table::CALLS_AARCH64,
        }
    }

    fn by_number(self) -> &'static [Option<&'static Syscall>] {
        static X86_64: LazyLock<ByNumber> = LazyLock::new(|| rows_by_number(Abi::X86_64));
        static X86: LazyLock<ByNumber> = LazyLock::new(|| rows_by_number(Abi::X86));
        static AARCH64: LazyLock<ByNumber> = LazyLock::new(|| rows_by_number(Abi::Aarch64));
        match self {
            Abi::X86_64 => &X86_64,
            Abi::X86 => &X86,
            Abi::Aarch64 => &AARCH64,
        }
    }
}

type ByNumber = Vec<Option<&'static Syscall>>;

fn rows_by_number(abi: Abi) -> ByNumber {
    (0..CALLS_COMPAT as usize)
        .map(|nr| {
            let name = abi.known_name(nr)?;
            find(abi.own_calls(), name).or_else(|| by_name(name))
        })
        .collect()
}

fn find(rows: &'static [Syscall], name: &str) -> Option<&'static Syscall> {
    let place = rows.binary_search_by(|row| row.name.cmp(name)).ok()?;
    rows.get(place)
}

/// One argument of a system call.
#[derive(Debug)]
pub struct Arg {
    /// Its name, the kernel's own.
    pub name: &'static str,
    /// What it means.
    pub meaning: Meaning,
}

impl Arg {
    /// Whether what it points to is read when the call is entered.
    pub fn is_read_at_entry(&self) -> bool {
        matches!(self.meaning, Meaning::Memory(memory) if memory.when >= when::ENTERED)
    }
}

/// One system call.
#[derive(Debug)]
pub struct Syscall {
    /// Its name, the kernel's own.
    pub name: &'static str,
    /// Its arguments, at most six.
    pub args: &'static [Arg],
    /// Where one argument says what the others are.
    pub forms: Option<&'static Forms>,
    /// The groups it belongs to.
    pub groups: Groups,
    /// Whether descriptors, directories, credentials or the names of what is open may
    /// differ after it.
    pub changes_state: bool,
}

impl Syscall {
    /// What is special about it, a [`wire::plan::special`].
    pub fn special(&self) -> u64 {
        use wire::plan::special;

        match self.name {
            "execve" | "execveat" => special::EXEC,
            "exit" | "exit_group" => special::EXIT,
            "rt_sigreturn" | "sigreturn" => special::SIGRETURN,
            "accept" | "accept4" => special::ACCEPT,
            _ if self.args.iter().any(Arg::is_read_at_entry) => special::ENTERED,
            _ => special::NONE,
        }
    }

    /// Its arguments when they have these values: one of them may say what the others
    /// are, see [`super::form`].
    pub fn args_of(&self, values: &[u64]) -> &'static [Arg] {
        let form = self.forms.and_then(|forms| forms.find(values));
        form.map_or(self.args, |form| form.args)
    }
}

impl Syscall {
    /// What a call that succeeds leaves behind in its caller's tables, a
    /// [`wire::plan::leaves`] value.
    pub fn leaves(&self) -> u32 {
        use wire::plan::leaves;
        match self.name {
            "open"
            | "openat"
            | "openat2"
            | "creat"
            | "open_by_handle_at"
            | "open_tree"
            | "open_tree_attr"
            | "socket"
            | "accept"
            | "accept4"
            | "dup"
            | "dup2"
            | "dup3"
            | "epoll_create"
            | "epoll_create1"
            | "eventfd"
            | "eventfd2"
            | "signalfd"
            | "signalfd4"
            | "timerfd_create"
            | "inotify_init"
            | "inotify_init1"
            | "fanotify_init"
            | "memfd_create"
            | "memfd_secret"
            | "userfaultfd"
            | "perf_event_open"
            | "pidfd_open"
            | "pidfd_getfd"
            | "mq_open"
            | "fsopen"
            | "fsmount"
            | "fspick"
            | "io_uring_setup"
            | "landlock_create_ruleset" => leaves::RETURNED,
            "pipe" | "pipe2" => leaves::PAIR_AT_FIRST,
            "socketpair" => leaves::PAIR_AT_FOURTH,
            "bind" | "connect" | "listen" => leaves::ADDRESS,
            "chdir" | "fchdir" => leaves::DIRECTORY,
            "recvmsg" => leaves::RIGHTS,
            "fcntl" | "fcntl64" => leaves::FCNTL,
            "ioctl" => leaves::IOCTL,
            "clone" => leaves::CLONE,
            "clone3" => leaves::CLONE3,
            "bpf" => leaves::BPF,
            "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid"
            | "setuid32" | "setgid32" | "setreuid32" | "setregid32" | "setresuid32"
            | "setresgid32" => leaves::CREDENTIALS,
            _ => leaves::NOTHING,
        }
    }

    /// Whether what it returns is a descriptor, when it left its caller with any. It may be
    /// 0, where that was closed.
    pub fn returns_descriptor(&self) -> bool {
        use wire::plan::leaves;
        matches!(self.leaves(), leaves::RETURNED | leaves::FCNTL | leaves::IOCTL | leaves::BPF)
    }

    /// What a call with these arguments returns, where that is no number, count or
    /// descriptor.
    pub fn result_of(&self, values: &[u64]) -> Option<Meaning> {
        // include/uapi/asm-generic/fcntl.h.
        const F_GETFD: u64 = 1;
        const F_GETFL: u64 = 3;
        match (self.name, values.get(1)) {
            ("brk" | "mmap" | "mmap2" | "mremap" | "shmat", _) => Some(Meaning::Address),
            ("umask", _) => Some(Meaning::Mode),
            ("fcntl" | "fcntl64", Some(&F_GETFD)) => Some(Meaning::Flags(FlagSet::DescriptorFlags)),
            ("fcntl" | "fcntl64", Some(&F_GETFL)) => Some(Meaning::Flags(FlagSet::Open)),
            _ => None,
        }
    }

    /// Whether argument `place`, a path, begins nowhere when it does not begin at the root.
    /// What a symbolic link will say is text until somebody follows it, and then it begins
    /// at the folder of the link; what is mounted may be a device, and is a mere word to
    /// most file systems.
    pub fn is_left_as_given(&self, place: usize) -> bool {
        place == 0 && matches!(self.name, "symlink" | "symlinkat" | "mount")
    }

    /// Whether the kernel looks at argument `place` of a call with these arguments:
    /// the mode of an `open` only counts when it makes a file, and holds whatever
    /// the register held otherwise; so do the arguments that a form of a call does not
    /// have.
    pub fn reads_arg(&self, place: usize, values: &[u64]) -> bool {
        // O_CREAT and O_TMPFILE, the same on every architecture we know
        // (include/uapi/asm-generic/fcntl.h).
        const CREATES: u64 = 0o100 | 0o20_000_000;
        let args = self.args_of(values);
        let is_mode = args.get(place).is_some_and(|arg| arg.meaning == Meaning::Mode);
        let flags =
            args.iter().zip(values).find(|(arg, _)| arg.meaning == Meaning::Flags(FlagSet::Open));
        let is_beyond = self.forms.is_some() && place >= args.len();
        !is_beyond && (!is_mode || flags.is_none_or(|(_, flags)| flags & CREATES != 0))
    }
}

/// `AT_FDCWD`, include/uapi/linux/fcntl.h: the working directory.
pub const AT_FDCWD: i32 = -100;

/// What a call does to the tables of its caller that does not stand in its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    Nothing,
    /// Closes its first argument.
    Close,
    /// Closes a range, or marks it to be closed by an exec.
    CloseRange,
    /// Marks a descriptor when it is `F_SETFD`.
    Fcntl,
    /// Marks a descriptor when it is `FIOCLEX` or `FIONCLEX`.
    Ioctl,
    /// Takes tables of its own.
    Unshare,
    /// Begins a session.
    Session,
    /// Takes a name away.
    Unlink,
    /// Gives a file another name, or two each other's.
    Rename,
    /// Takes note of the end of a child: it returns whose.
    Wait,
    /// The same: what it writes says whose.
    WaitId,
}

impl Effect {
    fn of(name: &str) -> Effect {
        match name {
            "close" => Effect::Close,
            "close_range" => Effect::CloseRange,
            "fcntl" | "fcntl64" => Effect::Fcntl,
            "ioctl" => Effect::Ioctl,
            "unshare" => Effect::Unshare,
            "setsid" => Effect::Session,
            "unlink" | "unlinkat" | "rmdir" => Effect::Unlink,
            "rename" | "renameat" | "renameat2" => Effect::Rename,
            "wait4" | "waitpid" => Effect::Wait,
            "waitid" => Effect::WaitId,
            _ => Effect::Nothing,
        }
    }
}

/// What the call with this number does to the tables of its caller.
pub fn effect(abi: Abi, nr: i64) -> Effect {
    on_state(abi, nr).0
}

/// The same, and whether it changes state when it succeeds. Asked for every event.
pub(super) fn on_state(abi: Abi, nr: i64) -> (Effect, bool) {
    type OnState = Vec<(Effect, bool)>;
    static X86_64: LazyLock<OnState> = LazyLock::new(|| all_on_state(Abi::X86_64));
    static X86: LazyLock<OnState> = LazyLock::new(|| all_on_state(Abi::X86));
    static AARCH64: LazyLock<OnState> = LazyLock::new(|| all_on_state(Abi::Aarch64));
    let calls = match abi {
        Abi::X86_64 => &X86_64,
        Abi::X86 => &X86,
        Abi::Aarch64 => &AARCH64,
    };
    usize::try_from(nr).ok().and_then(|nr| calls.get(nr).copied()).unwrap_or_default()
}

fn all_on_state(abi: Abi) -> Vec<(Effect, bool)> {
    let of = |row: &Syscall| (Effect::of(row.name), row.changes_state);
    abi.by_number().iter().map(|row| row.map_or_else(Default::default, of)).collect()
}

/// The call with this number.
pub fn lookup(abi: Abi, nr: i64) -> Option<&'static Syscall> {
    *abi.by_number().get(usize::try_from(nr).ok()?)?
}

/// The call with this name, in the form most ABIs have it.
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    find(table::CALLS, name)
}

/// The name of the call with this number, or the number as a name: `syscall_999`.
pub fn name(abi: Abi, nr: i64) -> Cow<'static, str> {
    match lookup(abi, nr) {
        Some(call) => Cow::Borrowed(call.name),
        None => Cow::Owned(format!("syscall_{nr}")),
    }
}

/// It points to one, which the program wrote.
pub(super) const fn given(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::ALWAYS)
}

/// It points to one, which the kernel wrote.
pub(crate) const fn written(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::SUCCESS)
}

/// It points to one, which the kernel wrote when the result is more than 0.
pub(super) const fn ended(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::POSITIVE)
}

/// It points to one, which the kernel wrote when a signal came.
pub(super) const fn left(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::INTERRUPTED)
}

/// It points to as many as argument `arg` says.
pub(super) const fn list(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Count(arg), when::ALWAYS)
}

/// It points to as many as the call returned.
pub(super) const fn results(layout: Layout) -> Meaning {
    memory(layout, Extent::Result, when::SUCCESS)
}

/// It points to as many bytes as the call returned.
pub(super) const fn result_bytes(layout: Layout) -> Meaning {
    memory(layout, Extent::ResultBytes, when::POSITIVE)
}

/// It points to as many bytes as argument `arg` says.
pub(super) const fn sized(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Bytes(arg), when::ALWAYS)
}

/// The same, of which at most so many are kept.
pub(super) const fn sized_at_most(layout: Layout, arg: u8, bytes_max: u8) -> Meaning {
    memory(layout, Extent::BytesUpTo(arg, bytes_max), when::ALWAYS)
}

/// It points to as many bytes as argument `arg` says, which the kernel wrote.
pub(super) const fn written_sized(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Bytes(arg), when::SUCCESS)
}

/// It points to as many bytes as the number argument `arg` points to, which the kernel
/// wrote.
pub(super) const fn pointed(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Pointed(arg), when::SUCCESS)
}

/// It points to a structure that says at this offset how long it is.
pub(super) const fn inside(layout: Layout, offset: u8) -> Meaning {
    memory(layout, Extent::Inside(offset), when::ALWAYS)
}

/// It points to as many bits as argument `arg` says, which the program wrote and the kernel
/// overwrites.
pub(crate) const fn changed_bits(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Bits(arg), when::CHANGED)
}

/// It points to one, which the program wrote and the kernel may overwrite: with what is left
/// of a time, with where an offset has come to.
pub(crate) const fn changed(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::CHANGED)
}

/// It points to one, which the program wrote and the kernel may overwrite with what is of
/// no account.
pub(super) const fn entered(layout: Layout) -> Meaning {
    memory(layout, Extent::One, when::ENTERED)
}

/// It points to as many as the version says that argument `arg` points to, which the
/// program wrote.
pub(super) const fn versions(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Version(arg), when::ALWAYS)
}

/// The same, which the kernel wrote.
pub(super) const fn written_versions(layout: Layout, arg: u8) -> Meaning {
    memory(layout, Extent::Version(arg), when::SUCCESS)
}

const fn memory(layout: Layout, extent: Extent, when: u8) -> Meaning {
    Meaning::Memory(Memory { layout, extent, when })
}

/// A set of groups of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups(u8);

impl Groups {
    /// No group.
    pub const NONE: Groups = Groups(0);
    /// Calls that take a path.
    pub const FILE: Groups = Groups(1 << 0);
    /// Calls on sockets.
    pub const NETWORK: Groups = Groups(1 << 1);
    /// Calls that begin, end or await processes.
    pub const PROCESS: Groups = Groups(1 << 2);
    /// Calls that take or make descriptors.
    pub const DESCRIPTOR: Groups = Groups(1 << 3);
    /// Calls that send, take or mask signals.
    pub const SIGNAL: Groups = Groups(1 << 4);
    /// Calls that change the memory map.
    pub const MEMORY: Groups = Groups(1 << 5);

    /// The group with this name in filters, the percent sign included.
    pub fn parse(name: &str) -> Option<Groups> {
        match name {
            "%file" => Some(Groups::FILE),
            "%net" | "%network" => Some(Groups::NETWORK),
            "%process" => Some(Groups::PROCESS),
            "%desc" => Some(Groups::DESCRIPTOR),
            "%signal" => Some(Groups::SIGNAL),
            "%memory" => Some(Groups::MEMORY),
            _ => None,
        }
    }

    /// The groups in either set.
    pub const fn union(self, other: Groups) -> Groups {
        Groups(self.0 | other.0)
    }

    /// Whether a group is in both sets.
    pub const fn intersects(self, other: Groups) -> bool {
        self.0 & other.0 != 0
    }

    /// The groups that follow from the meanings of the arguments.
    const fn of_args(args: &[Arg]) -> Groups {
        let mut groups = Groups::NONE;
        // Iterators cannot run in a constant.
        let mut i = 0;
        while i < args.len() {
            groups = groups.union(match args[i].meaning {
                Meaning::Path => Groups::FILE,
                Meaning::Fd | Meaning::DirFd => Groups::DESCRIPTOR,
                Meaning::Signal => Groups::SIGNAL,
                Meaning::Sockaddr | Meaning::SockaddrOut => Groups::NETWORK,
                _ => Groups::NONE,
            });
            i += 1;
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use recorder_ebpf::wire::SYSCALL_ARGS_MAX;

    use super::*;

    const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X86, Abi::Aarch64];

    fn number(abi: Abi, name: &str) -> i64 {
        (0..512).find(|&nr| lookup(abi, nr).is_some_and(|call| call.name == name)).unwrap()
    }

    fn all_rows() -> impl Iterator<Item = &'static Syscall> {
        [table::CALLS, table::CALLS_X86, table::CALLS_AARCH64].into_iter().flatten()
    }

    #[test]
    fn every_number_has_a_row_with_its_name() {
        for (abi, count) in [(Abi::X86_64, 383), (Abi::X86, 459), (Abi::Aarch64, 345)] {
            let mut seen = 0;
            for nr in 0..2048usize {
                let expected = match abi {
                    Abi::X86_64 => syscalls::x86_64::Sysno::new(nr).map(|call| call.name()),
                    Abi::X86 => syscalls::x86::Sysno::new(nr).map(|call| call.name()),
                    Abi::Aarch64 => syscalls::aarch64::Sysno::new(nr).map(|call| call.name()),
                };
                let row = lookup(abi, nr as i64).map(|call| call.name);
                match (abi, expected) {
                    (Abi::X86, Some("r#break")) => assert_eq!(row, Some("break")),
                    (Abi::Aarch64, Some("fstatat")) => assert_eq!(row, Some("newfstatat")),
                    _ => assert_eq!(row, expected, "{abi:?} {nr}"),
                }
                seen += usize::from(row.is_some());
            }
            assert!(seen >= count, "{abi:?}: {seen}");
        }
    }

    #[test]
    fn well_known_numbers() {
        assert_eq!(name(Abi::X86_64, 257), "openat");
        assert_eq!(name(Abi::X86, 295), "openat");
        assert_eq!(name(Abi::Aarch64, 56), "openat");
        assert_eq!(name(Abi::X86, 5), "open");
        assert_eq!(name(Abi::X86, 17), "break");
        assert_eq!(name(Abi::Aarch64, 79), "newfstatat");
        assert_eq!(name(Abi::X86_64, 469), "file_setattr");
    }

    #[test]
    fn numbers_out_of_range() {
        for abi in ABIS {
            for nr in [-1, 511, 512, 999, i64::from(u32::MAX), i64::MAX, i64::MIN] {
                assert!(lookup(abi, nr).is_none(), "{abi:?} {nr}");
            }
            assert_eq!(name(abi, 999), "syscall_999");
            assert_eq!(name(abi, -1), "syscall_-1");
        }
        assert!(by_name("").is_none());
        assert!(by_name("no_such_call").is_none());
    }

    #[test]
    fn abis() {
        assert_eq!(Abi::native("x86_64"), Some(Abi::X86_64));
        assert_eq!(Abi::native("aarch64"), Some(Abi::Aarch64));
        assert_eq!(Abi::native("i686"), None);
        assert_eq!(Abi::X86_64.compat(), Some(Abi::X86));
        assert_eq!(Abi::Aarch64.compat(), None);
    }

    #[test]
    fn tables_are_sorted_and_within_the_limits_of_the_wire() {
        for rows in [table::CALLS, table::CALLS_X86, table::CALLS_AARCH64] {
            assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        }
        for row in all_rows() {
            assert!(row.args.len() <= SYSCALL_ARGS_MAX, "{}", row.name);
        }
    }

    #[test]
    fn every_row_is_reached() {
        for row in table::CALLS {
            let mut calls =
                ABIS.into_iter().flat_map(|abi| (0..512).map(move |nr| lookup(abi, nr)));
            let reached = calls.any(|call| call.is_some_and(|call| std::ptr::eq(call, row)));
            assert!(reached, "{}", row.name);
        }
        for abi in ABIS {
            for row in abi.own_calls() {
                assert!(std::ptr::eq(lookup(abi, number(abi, row.name)).unwrap(), row));
            }
        }
    }

    #[test]
    fn lengths_stand_behind_their_addresses() {
        for row in all_rows() {
            for (i, arg) in row.args.iter().enumerate() {
                let next = row.args.get(i + 1).map(|arg| arg.meaning);
                match arg.meaning {
                    Meaning::Sockaddr => {
                        assert_eq!(next, Some(Meaning::SockaddrLen), "{}", row.name);
                    }
                    Meaning::SockaddrOut => {
                        assert_eq!(next, Some(written(Layout::IntValue)), "{}", row.name);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn buffers_are_not_strings() {
        for (call, arg) in [
            ("readlink", "buf"),
            ("readlinkat", "buf"),
            ("getcwd", "buf"),
            ("write", "buf"),
            ("read", "buf"),
            ("pwrite64", "buf"),
            ("sethostname", "name"),
            ("syslog", "buf"),
            ("mq_timedsend", "u_msg_ptr"),
            ("listxattr", "list"),
            ("uname", "name"),
            ("openat2", "how"),
        ] {
            let row = by_name(call).unwrap();
            let arg = row.args.iter().find(|row| row.name == arg).unwrap();
            assert!(!matches!(arg.meaning, Meaning::Path | Meaning::Text), "{call}");
        }
    }

    #[test]
    fn the_mode_of_an_open_counts_only_when_it_makes_a_file() {
        let openat = by_name("openat").unwrap();
        assert!(!openat.reads_arg(3, &[0, 0, 0o2_000_000, 0xdead]));
        assert!(openat.reads_arg(3, &[0, 0, 0o102, 0o644]));
        assert!(openat.reads_arg(2, &[0, 0, 0, 0]));
        assert!(by_name("mkdirat").unwrap().reads_arg(2, &[0, 0, 0o755]));
        // F_GETFD takes nothing.
        assert!(!by_name("fcntl").unwrap().reads_arg(2, &[3, 1, 0xdead]));
        assert!(by_name("fcntl").unwrap().reads_arg(2, &[3, 4, 0x800]));
    }

    #[test]
    fn calls_that_differ_between_abis() {
        let names = |abi, call| -> Vec<_> {
            lookup(abi, number(abi, call)).unwrap().args.iter().map(|arg| arg.name).collect()
        };
        assert_eq!(names(Abi::X86_64, "clone")[3], "child_tidptr");
        assert_eq!(names(Abi::X86, "clone")[3], "tls");
        assert_eq!(names(Abi::Aarch64, "clone")[3], "tls");
        assert_eq!(names(Abi::X86, "mmap").len(), 1);
        assert_eq!(names(Abi::X86_64, "mmap").len(), 6);
        // The mask takes two registers, so the path moves.
        assert_eq!(names(Abi::X86, "fanotify_mark")[5], "pathname");
        let group = |abi| lookup(abi, number(abi, "getgroups")).unwrap().args[1].meaning;
        assert_eq!(group(Abi::X86), results(Layout::GroupId16));
        assert_eq!(group(Abi::X86_64), results(Layout::GroupId));
    }

    #[test]
    fn results_that_are_no_numbers() {
        let result = |name, values: &[u64]| by_name(name).unwrap().result_of(values);
        assert_eq!(result("brk", &[0]), Some(Meaning::Address));
        assert_eq!(result("umask", &[0]), Some(Meaning::Mode));
        assert_eq!(result("fcntl", &[5, 3, 0]), Some(Meaning::Flags(FlagSet::Open)));
        assert_eq!(result("fcntl", &[5, 1, 0]), Some(Meaning::Flags(FlagSet::DescriptorFlags)));
        assert_eq!(result("fcntl", &[5, 0, 10]), None);
        assert_eq!(result("fcntl", &[]), None);
        assert_eq!(result("read", &[3, 3, 3]), None);
        let returns_descriptor = |name| by_name(name).unwrap().returns_descriptor();
        assert!(["openat", "dup3", "fcntl", "accept4"].into_iter().all(returns_descriptor));
        assert!(!["recvmsg", "connect", "clone", "pipe2"].into_iter().any(returns_descriptor));
    }

    #[test]
    fn groups() {
        let groups = |name| by_name(name).unwrap().groups;
        assert_eq!(groups("openat"), Groups::FILE.union(Groups::DESCRIPTOR));
        assert_eq!(groups("open"), Groups::FILE.union(Groups::DESCRIPTOR));
        assert_eq!(groups("stat"), Groups::FILE);
        assert_eq!(groups("read"), Groups::DESCRIPTOR);
        assert_eq!(groups("connect"), Groups::NETWORK.union(Groups::DESCRIPTOR));
        assert_eq!(groups("execve"), Groups::FILE.union(Groups::PROCESS));
        assert_eq!(groups("kill"), Groups::SIGNAL.union(Groups::PROCESS));
        assert_eq!(groups("rt_sigprocmask"), Groups::SIGNAL);
        assert_eq!(groups("brk"), Groups::MEMORY);
        assert_eq!(groups("getpid"), Groups::NONE);
        assert_eq!(Groups::parse("%net"), Groups::parse("%network"));
        assert_eq!(Groups::parse("%file"), Some(Groups::FILE));
        assert_eq!(Groups::parse("file"), None);
        assert!(groups("openat").intersects(Groups::FILE));
        assert!(!groups("openat").intersects(Groups::NETWORK));
    }

    #[test]
    fn calls_that_change_state() {
        for name in
            ["openat", "close", "dup3", "fcntl", "execve", "exit", "setresuid32", "chdir", "rename"]
        {
            assert!(by_name(name).unwrap().changes_state, "{name}");
        }
        for name in ["read", "write", "getpid", "stat", "futex", "link", "pidfd_send_signal"] {
            assert!(!by_name(name).unwrap().changes_state, "{name}");
        }
    }

    #[test]
    fn flags_have_their_set() {
        let meaning = |name: &str, arg: usize| by_name(name).unwrap().args[arg].meaning;
        assert_eq!(meaning("openat", 2), Meaning::Flags(FlagSet::Open));
        assert_eq!(meaning("unlinkat", 2), Meaning::Flags(FlagSet::AtUnlink));
        assert_eq!(meaning("socket", 1), Meaning::Flags(FlagSet::SocketType));
    }

    #[test]
    fn the_running_kernel_agrees() {
        let Some(abi) = Abi::native(std::env::consts::ARCH) else { return };
        let directories = match fs::read_dir("/sys/kernel/tracing/events/syscalls") {
            Ok(directories) => directories,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied));
                // Not `println!`: what a test that passes prints is never seen.
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    b"\nSKIPPED: tracefs is not mounted\n",
                );
                return;
            }
        };
        let (mut compared, mut renamed) = (0, 0);
        for directory in directories {
            let directory = directory.unwrap();
            let file = directory.file_name().into_string().unwrap();
            let Some(kernel_name) = file.strip_prefix("sys_enter_") else { continue };
            // The functions in the kernel that are not called as their numbers are.
            let name = match kernel_name {
                "newstat" => "stat",
                "newfstat" => "fstat",
                "newlstat" => "lstat",
                "newuname" => "uname",
                "sendfile64" => "sendfile",
                "umount" => "umount2",
                name => name,
            };
            // A newer kernel has calls the table does not know.
            let Some(row) = find(abi.own_calls(), name).or_else(|| by_name(name)) else {
                println!("no row: {name}");
                continue;
            };
            let format = fs::read_to_string(directory.path().join("format")).unwrap();
            let expected: Vec<&str> = format
                .lines()
                .filter_map(|line| line.trim().strip_prefix("field:")?.split_once(';'))
                .filter_map(|(field, _)| field.rsplit_once([' ', '*']))
                .map(|(_, arg)| arg)
                .filter(|arg| !arg.starts_with("common_") && *arg != "__syscall_nr")
                .map(|arg| arg.trim_start_matches('_'))
                .collect();
            let found: Vec<&str> = row.args.iter().map(|arg| arg.name).collect();
            assert_eq!(found.len(), expected.len(), "{name}: {found:?}, {expected:?}");
            compared += 1;
            if found != expected {
                println!("{name}: {found:?}, the kernel says {expected:?}");
                renamed += 1;
            }
        }
        println!("compared {compared} calls, {renamed} with other names");
        assert!(compared > 200, "{compared}");
        // The names are no ABI: other versions of the kernel have changed a few.
        assert!(renamed * 10 < compared, "{renamed} of {compared}");
    }
}
