//! The programs beside cargo that tests, virtual machines and the bench use.

/// A program, the Debian package that brings it, and what it is needed for.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
    /// The service its package would run from now on, which nobody asked for.
    pub(crate) service: Option<&'static str>,
}

impl Program {
    const fn with_service(self, service: &'static str) -> Program {
        Program { service: Some(service), ..self }
    }
}

/// What the tests start. `setup --tests` installs these.
pub(crate) const TESTS: &[Program] = &[
    program("curl", "curl", "a client whose connect, sockets and name the network tests expect"),
    program("strace", "strace", "a second opinion on the calls of a process, and a tracer"),
    program("openssl", "openssl", "signatures made by somebody else, and many calls at the start"),
    program("ps", "procps", "states and wait channels of blocked processes"),
    program("ss", "iproute2", "sockets and their ends, by another witness"),
];

/// What the tests start from a folder of its own: installed, its service would start
/// too, or bring a mail server; a runtime of containers is nothing a host gets by the way.
pub(crate) const UNPACKED: &[&str] =
    &["prometheus", "prometheus-alertmanager", "nagios4-core", "runc"];

/// What the oracle runs beside what every Debian has. Not for virtual machines: most
/// of them are useless without the files of their package. It also runs postgres, java,
/// node, gdb, vim and tclsh where they are: they are too large to download for it.
pub(crate) const ORACLE: &[Program] = &[
    program("gcc", "gcc", "a compiler, its passes and the files between them"),
    program("git", "git", "an index, objects and locks"),
    program("perl", "perl-base", "an interpreter that forks"),
    program("python3", "python3-minimal", "threads, signals, and execs in all their forms"),
    program("sqlite3", "sqlite3", "a database with locks and journals"),
    program("nginx", "nginx-light", "a server of several processes that sends files")
        .with_service("nginx"),
    program("redis-server", "redis-server", "a server of several threads")
        .with_service("redis-server"),
    program("redis-cli", "redis-tools", "its client"),
    program("ssh-keygen", "openssh-client", "keys, and a client that is refused"),
    program("wget", "wget", "another client"),
    program("ping", "iputils-ping", "a socket with options of its own, and control messages"),
    program("ip", "iproute2", "messages of netlink"),
    program("jq", "jq", "a filter"),
    program("gpg", "gpg", "locks and locked memory"),
    program("make", "make", "a parent that asks what it may do"),
    program("xz", "xz-utils", "threads that compress"),
    program("zstd", "zstd", "threads that compress"),
    program("bzip2", "bzip2", "a file, its times and its owner"),
];

/// What judges the files that are shipped, on this side as well.
pub(crate) const PACKAGING: &[Program] = &[
    program("systemd-analyze", "systemd", "the units, and the machine the service is tested on"),
    program("mandoc", "mandoc", "the pages of the manual"),
    program("zsh", "zsh", "its completions"),
];

/// What `--full` also tries, from the index of Python packages: the program, and the
/// package with the version it was written for.
pub(crate) const KUBERNETES_VALIDATE: (&str, &str) =
    ("kubernetes-validate", "kubernetes-validate==1.37.0");

/// What every Linux has, for the file systems of virtual machines, where only
/// what is listed exists.
pub(crate) const BASE: &[Program] = &[
    program("sh", "dash", "the parent in most workloads"),
    program("cat", "coreutils", "the reader in most workloads"),
    program("ls", "coreutils", "the call that fails in most workloads"),
    program("sleep", "coreutils", "a process that waits"),
    program("true", "coreutils", "the shortest process there is"),
    program("false", "coreutils", "the shortest process that fails"),
    program("mkfifo", "coreutils", "something an open blocks on"),
    program("dd", "coreutils", "many calls of a known number"),
    program("setpriv", "util-linux", "a process without privileges"),
];

/// What `cargo xtask vm` runs on this side.
pub(crate) const VM: &[Program] = &[
    program("qemu-system-x86_64", "qemu-system-x86", "the virtual machine"),
    program("busybox", "busybox-static", "its init and shell, without shared libraries"),
];

/// What `cargo xtask vm --power-cut` runs on this side besides.
pub(crate) const VM_POWER_CUT: &[Program] = &[
    program("mkfs.ext4", "e2fsprogs", "a disk with ext4"),
    program("mkfs.xfs", "xfsprogs", "a disk with XFS"),
    program("mount", "mount", "a look at what is left on a disk"),
    program("xz", "xz-utils", "modules of kernels are compressed"),
];

/// What `cargo xtask vm --aarch64` runs on this side.
pub(crate) const VM_AARCH64: &[Program] = &[
    program("qemu-system-aarch64", "qemu-system-arm", "the virtual machine"),
    program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "the linker of the recorder"),
];

/// What `cargo xtask bench` puts under load, and what makes the load. Installed, not
/// unpacked: they come with libraries.
pub(crate) const BENCH: &[Program] = &[
    program("redis-server", "redis-server", "a server of many small calls")
        .with_service("redis-server"),
    program("redis-benchmark", "redis-tools", "its clients"),
    program("nginx", "nginx-light", "a server that opens files and closes connections")
        .with_service("nginx"),
    program("wrk", "wrk", "its clients"),
    program("gcc", "gcc", "many short processes that open many files"),
    program("setpriv", "util-linux", "so that nothing outlives the bench"),
    program("perf", "linux-perf", "what it stores of the same loads"),
    program("strace", "strace", "the same"),
];

const fn program(name: &'static str, package: &'static str, why: &'static str) -> Program {
    Program { name, package, why, service: None }
}
