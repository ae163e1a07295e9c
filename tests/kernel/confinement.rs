//! What `privilege` refuses, tried for real: each test confines a child and lets it
//! do what it may not. They run as root, who may do all of it otherwise.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use recorder::privilege::{
    CapabilitySet, Confined, Confinement, Confining, READS_PROCESSES, keep_to_read,
};
use recorder_tests::{Child, Ended, TestDirectory, errno, has_program, skip};

/// A directory that is neither the confined one nor for temporary files.
pub(crate) struct Outside(PathBuf);

impl Outside {
    pub(crate) fn new(name: &str) -> Outside {
        let path = Path::new("/run").join(format!("recorder-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory below /run");
        fs::write(path.join("kept"), "kept").expect("a file in it");
        Outside(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The next start of the machine does it otherwise.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares and says what was wrong: the words of a child are caught by nobody.
fn is<T: PartialEq + std::fmt::Debug>(what: &str, answer: T, wanted: T) -> bool {
    if answer != wanted {
        let line = format!("\n{what}: {answer:?}, not {wanted:?}\n");
        let _ = io::stderr().write_all(line.as_bytes());
    }
    answer == wanted
}

fn error_of<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

/// Runs `work`, which answers whether everything was as it should be, in a child.
#[track_caller]
fn in_child(work: impl FnOnce() -> bool) {
    let mut child = Child::fork(|| if work() { 0 } else { 1 });
    assert_eq!(child.wait(), Ended::Code(0), "the child says what was wrong");
}

fn confine(writable: &Path, executes: bool) -> Confined {
    let writable = vec![writable.to_path_buf()];
    let mut confining = Confining::begin(Confinement { writable, removable: Vec::new(), executes });
    confining.narrow("next", CapabilitySet::empty());
    confining.finish()
}

/// Whether this kernel confines writing; a child is asked, since it cannot be undone.
fn has_landlock(directory: &TestDirectory) -> bool {
    let mut child = Child::fork(|| i32::from(confine(directory.path(), false).landlock_abi > 0));
    child.wait() == Ended::Code(1)
}

#[test]
fn writing_elsewhere_is_refused() {
    let directory = TestDirectory::new();
    let outside = Outside::new("outside");
    if !has_landlock(&directory) {
        skip("this kernel has no Landlock");
        return;
    }
    let inside = |name: &str| directory.join(name);
    in_child(|| {
        let confined = confine(directory.path(), false);
        let create = |path: PathBuf| error_of(fs::File::create(path));
        let mut good = is("make inside", create(inside("new")), 0);
        good &= is("rename inside", error_of(fs::rename(inside("new"), inside("named"))), 0);
        good &= is("read outside", error_of(fs::read(outside.join("kept"))), 0);
        good &= is("read /proc", error_of(fs::read("/proc/1/stat")), 0);
        good &= is("make outside", create(outside.join("new")), libc::EACCES);
        good &= is("make anywhere", create("/recorder-planted".into()), libc::EACCES);
        let open = |path| fs::OpenOptions::new().write(true).open(path);
        good &= is("write outside", error_of(open(outside.join("kept"))), libc::EACCES);
        good &= is("write /proc", error_of(open("/proc/self/oom_score_adj".into())), libc::EACCES);
        good &= is("write nowhere", error_of(open("/dev/null".into())), 0);
        good &= is("remove", error_of(fs::remove_file(outside.join("kept"))), libc::EACCES);
        good &= is("directory", error_of(fs::create_dir(outside.join("d"))), libc::EACCES);
        let link = std::os::unix::fs::symlink("kept", outside.join("l"));
        good &= is("symbolic link", error_of(link), libc::EACCES);
        let away = error_of(fs::rename(inside("named"), outside.join("named")));
        good &= is("move outside", away == libc::EACCES || away == libc::EXDEV, true);
        let socket = std::os::unix::net::UnixListener::bind(outside.join("s"));
        good &= is("socket", error_of(socket), libc::EACCES);
        // Landlock does not look at these; the filter does.
        let mode = fs::set_permissions(outside.join("kept"), fs::Permissions::from_mode(0o666));
        good &= is("mode", error_of(mode), libc::EPERM);
        let owner = std::os::unix::fs::chown(outside.join("kept"), Some(1), None);
        good &= is("owner", error_of(owner), libc::EPERM);
        if confined.landlock_abi >= 4 {
            let tcp = std::net::TcpStream::connect("127.0.0.1:1");
            good &= is("connect", error_of(tcp), libc::EACCES);
            let tcp = std::net::TcpListener::bind("127.0.0.1:0");
            good &= is("listen", error_of(tcp), libc::EACCES);
        }
        good & is("remove inside", error_of(fs::remove_file(inside("named"))), 0)
    });
    assert_eq!(fs::read_to_string(outside.join("kept")).ok().as_deref(), Some("kept"));
    // Not left behind when it was made after all.
    assert!(fs::remove_file("/recorder-planted").is_err(), "a file in the root directory");
}

#[test]
fn where_only_removing_is_allowed_nothing_is_made() {
    let directory = TestDirectory::new();
    if !has_landlock(&directory) {
        skip("this kernel has no Landlock");
        return;
    }
    fs::write(directory.join("socket"), "").expect("a file");
    in_child(|| {
        let removable = vec![directory.path().to_path_buf()];
        let mut confining = Confining::begin(Confinement { removable, ..Confinement::default() });
        confining.narrow("next", CapabilitySet::empty());
        confining.finish();
        let made = fs::File::create(directory.join("new"));
        is("make", error_of(made), libc::EACCES)
            & is("remove", error_of(fs::remove_file(directory.join("socket"))), 0)
    });
}

/// Calls with arguments that make no sense: EPERM can only come from the filter, as
/// root, who makes them here before it gives up a capability, may make all of them.
fn refused_calls() -> Vec<(&'static str, libc::c_long, [i64; 3])> {
    let plain = |name, number| (name, number, [-1, -1, -1]);
    vec![
        plain("execve", libc::SYS_execve),
        plain("execveat", libc::SYS_execveat),
        plain("ptrace", libc::SYS_ptrace),
        plain("process_vm_writev", libc::SYS_process_vm_writev),
        plain("process_vm_readv", libc::SYS_process_vm_readv),
        plain("mount", libc::SYS_mount),
        plain("umount2", libc::SYS_umount2),
        plain("move_mount", libc::SYS_move_mount),
        plain("fsopen", libc::SYS_fsopen),
        plain("pivot_root", libc::SYS_pivot_root),
        plain("chroot", libc::SYS_chroot),
        plain("init_module", libc::SYS_init_module),
        plain("finit_module", libc::SYS_finit_module),
        plain("delete_module", libc::SYS_delete_module),
        plain("kexec_load", libc::SYS_kexec_load),
        plain("kexec_file_load", libc::SYS_kexec_file_load),
        plain("reboot", libc::SYS_reboot),
        plain("swapon", libc::SYS_swapon),
        plain("swapoff", libc::SYS_swapoff),
        ("setuid", libc::SYS_setuid, [0, 0, 0]),
        ("setgid", libc::SYS_setgid, [0, 0, 0]),
        ("setresuid", libc::SYS_setresuid, [0, 0, 0]),
        ("setgroups", libc::SYS_setgroups, [0, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUTS.into(), 0, 0]),
        plain("setns", libc::SYS_setns),
        plain("keyctl", libc::SYS_keyctl),
        plain("add_key", libc::SYS_add_key),
        plain("perf_event_open", libc::SYS_perf_event_open),
        plain("userfaultfd", libc::SYS_userfaultfd),
        plain("io_uring_setup", libc::SYS_io_uring_setup),
        // BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_PROG_ATTACH: include/uapi/linux/bpf.h.
        ("bpf map create", libc::SYS_bpf, [0, -1, 0]),
        ("bpf program load", libc::SYS_bpf, [5, -1, 0]),
        ("bpf program attach", libc::SYS_bpf, [8, -1, 0]),
        ("socket netlink", libc::SYS_socket, [libc::AF_NETLINK.into(), -1, 0]),
        ("socket packet", libc::SYS_socket, [libc::AF_PACKET.into(), -1, 0]),
        ("socket vsock", libc::SYS_socket, [libc::AF_VSOCK.into(), -1, 0]),
        (
            "clone user",
            libc::SYS_clone,
            [i64::from(libc::CLONE_NEWUSER | libc::CLONE_THREAD), 0, 0],
        ),
    ]
}

/// The error of a call; 0 when it was made.
fn call(number: libc::c_long, arguments: [i64; 3]) -> i32 {
    let [first, second, third] = arguments;
    // SAFETY: no argument is a pointer the kernel could write to.
    match unsafe { libc::syscall(number, first, second, third) } {
        -1 => errno(),
        _ => 0,
    }
}

#[test]
fn calls_that_are_never_made_are_refused() {
    in_child(|| {
        // As it is before: otherwise this test could not fail.
        let before = |(_, number, arguments)| {
            // These would be done, and have arguments that cannot be wrong.
            let done = [libc::SYS_unshare, libc::SYS_setuid, libc::SYS_setgid];
            let done = done.contains(&number) || number == libc::SYS_setresuid;
            done || number == libc::SYS_setgroups || call(number, arguments) != libc::EPERM
        };
        let mut good = true;
        for refused in refused_calls() {
            good &= is(&format!("before, {}", refused.0), before(refused), true);
        }
        // A thread that was there already is held as well.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let elder = std::thread::spawn(move || {
            let _ = wait.recv();
            call(libc::SYS_setuid, [0, 0, 0])
        });
        let _confining = Confining::begin(Confinement::default());
        for (name, number, arguments) in refused_calls() {
            good &= is(name, call(number, arguments), libc::EPERM);
        }
        drop(go);
        good &= is("setuid of an elder thread", elder.join().unwrap_or(-1), libc::EPERM);
        // SYS_clone3: so that the C library takes clone.
        good &= is("clone3", call(libc::SYS_clone3, [-1, -1, -1]), libc::ENOSYS);
        #[cfg(target_arch = "x86_64")]
        {
            // The number of getpid in the third ABI.
            good &= is("getpid of x32", call(0x4000_0000 | libc::SYS_getpid, [0; 3]), libc::EPERM);
        }
        // What is still asked of bpf(2): a lookup in no map.
        good &= is("bpf lookup", call(libc::SYS_bpf, [1, 0, 0]) != libc::EPERM, true);
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            let opened = call(libc::SYS_socket, [family.into(), libc::SOCK_STREAM.into(), 0]);
            good &= is("a socket", opened, 0);
        }
        let younger = std::thread::spawn(|| 7);
        good &= is("a thread", younger.join().unwrap_or(0), 7);
        good & is("a program", error_of(Command::new("true").status()), libc::EPERM)
    });
}

#[test]
fn programs_run_where_they_are_wanted_and_are_held_too() {
    let directory = TestDirectory::new();
    let outside = Outside::new("hook");
    let has_landlock = has_landlock(&directory);
    in_child(|| {
        confine(directory.path(), true);
        let sh = |script: &str, path: &Path| {
            let run = Command::new("sh").args(["-c", script, "sh"]).arg(path).output();
            run.map_or(-1, |output| output.status.code().unwrap_or(-1))
        };
        let mut good = is("write inside", sh("echo x > \"$1\"/made", directory.path()), 0);
        good &= is("read", sh("cat \"$1\"/kept", &outside.0), 0);
        good &= is("nothing to keep", sh("cat /proc/self/status | cat", &outside.0), 0);
        if has_landlock {
            let refused = sh("echo x > \"$1\"/made", &outside.0);
            good &= is("write outside", refused != 0, true);
        }
        let set = fs::read_to_string("/proc/self/status").unwrap_or_default();
        good &= is("no capability", set.contains("CapEff:\t0000000000000000"), true);
        if has_program("unshare") {
            good &= is("a namespace", sh("unshare -U true", &outside.0) != 0, true);
        }
        good
    });
    assert!(directory.join("made").exists() && !outside.join("made").exists());
}

#[test]
fn the_thread_that_reads_other_processes_cannot_write() {
    let outside = Outside::new("reader");
    in_child(|| {
        let _kept = keep_to_read(READS_PROCESSES);
        let open = |write: bool| {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(write).open(outside.join("kept"))
        };
        let mut good = is("read", error_of(open(false)), 0);
        good &= is("write", error_of(open(true)), libc::EPERM);
        good &= is("make", error_of(fs::File::create(outside.join("new"))), libc::EPERM);
        let append = fs::OpenOptions::new().append(true).open(outside.join("kept"));
        good &= is("append", error_of(append), libc::EPERM);
        let empty = fs::OpenOptions::new().write(true).truncate(true).open(outside.join("kept"));
        good &= is("truncate", error_of(empty), libc::EPERM);
        good &= is("remove", error_of(fs::remove_file(outside.join("kept"))), libc::EPERM);
        let name = fs::rename(outside.join("kept"), outside.join("named"));
        good &= is("rename", error_of(name), libc::EPERM);
        good &= is("directory", error_of(fs::create_dir(outside.join("d"))), libc::EPERM);
        let mode = fs::set_permissions(outside.join("kept"), fs::Permissions::from_mode(0o666));
        good &= is("mode", error_of(mode), libc::EPERM);
        good &= is("socket", error_of(std::net::UdpSocket::bind("127.0.0.1:0")), libc::EPERM);
        good &= is("openat2", call(libc::SYS_openat2, [-1, -1, -1]), libc::ENOSYS);
        good &= is("kill", call(libc::SYS_kill, [1, 0, 0]), libc::EPERM);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        good & is("keeps two", status.contains("CapEff:\t0000000000080004"), true)
    });
    assert_eq!(fs::read_to_string(outside.join("kept")).ok().as_deref(), Some("kept"));
}

/// Kernels before 5.19 refuse bpf(2) to a thread without CAP_BPF.
#[test]
fn what_an_older_kernel_needs_is_kept_by_one_thread() {
    let effective = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        line.unwrap_or_default().trim().to_string()
    };
    in_child(|| {
        let mut confining = Confining::begin(Confinement::default());
        confining.narrow("ingest", CapabilitySet::BPF);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let ingest = std::thread::spawn(move || {
            let _ = wait.recv();
            effective()
        });
        let confined = confining.finish();
        drop(go);
        let later = std::thread::spawn(effective);
        let keeps = [("ingest".to_string(), vec!["CAP_BPF".to_string()])];
        let said = confined.missing.iter().any(|row| row.what == "thread ingest keeps CAP_BPF");
        // CAP_BPF is number 39.
        is("ingest", ingest.join().unwrap_or_default(), format!("{:016x}", 1u64 << 39))
            & is("this one", effective(), "0".repeat(16))
            & is("a later one", later.join().unwrap_or_default(), "0".repeat(16))
            & is("what status says", confined.capabilities, keeps.into())
            & is("that it says so", said, true)
    });
}

/// What happens when something fails for the first time: it must not end otherwise
/// than it would have.
#[test]
fn a_confined_process_can_still_panic_and_abort() {
    let directory = TestDirectory::new();
    let panics = || {
        std::panic::set_hook(Box::new(|_| ()));
        let caught = std::panic::catch_unwind(|| Vec::<u8>::new()[..].first().copied().unwrap());
        caught.is_err()
    };
    in_child(|| {
        confine(directory.path(), false);
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        is("a panic", panics(), true)
            & is("a backtrace", trace.contains("confinement"), true)
            & is("a thread's panic", std::thread::spawn(panics).join().unwrap_or(false), true)
    });
    let mut aborts = Child::fork(|| {
        confine(directory.path(), false);
        std::process::abort()
    });
    assert_eq!(aborts.wait(), Ended::Signal(libc::SIGABRT));
}
