//! A busy run: processes and threads that do at random whatever changes what is open,
//! where one is and who one is. Nothing here checks anything; any call may fail, since
//! threads close one another's descriptors.
//!
//! A process made by the bare call `clone` has copies of the locks of the C library as
//! they were: what an [`Actor`] does takes no memory.

use std::{
    ffi::{CStr, CString},
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
};

use recorder_tests::{machine_code, synth::Random};

mod ways;

/// Workers, each a process with threads.
const WORKERS: u64 = 4;

/// Threads of one worker beside its first, at the most.
const THREADS_MAX: i32 = 4;

/// Generations below a worker.
const DEPTH_MAX: u32 = 3;

/// What a process below a worker does before it ends, at the most.
const STEPS_MAX: u64 = 40;

/// How many directories lie in one another, and how many files are in each.
const DIRECTORIES: usize = 12;
const FILES: u64 = 3;

/// Descriptors with which processes pass one another descriptors, out of the reach of
/// calls that take any number.
pub(super) const EXCHANGE: [i32; 2] = [900, 901];

/// The numbers that calls take at random.
const FD_MAX: u64 = 120;

/// What all processes share.
pub(super) struct Shared {
    /// Steps so far: by these the run is measured.
    pub(super) steps: AtomicU64,
    /// Everybody ends.
    pub(super) stop: AtomicBool,
}

impl Shared {
    fn new() -> &'static Shared {
        let bytes = size_of::<Shared>();
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping of zeroes, which are a counter and a flag, and which
        // nobody ever unmaps.
        unsafe {
            let memory = libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED, "memory");
            &*memory.cast::<Shared>()
        }
    }
}

/// Where all of it happens, made before the first fork.
pub(super) struct Stage {
    pub(super) shared: &'static Shared,
    /// Whole paths, some through links.
    files: Vec<CString>,
    /// Names in any of the directories.
    names: Vec<CString>,
    directories: Vec<CString>,
    /// Programs that wait, and one that ends.
    programs: Vec<CString>,
    /// Where new files and sockets go, with a stroke at the end.
    scratch: Vec<u8>,
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without NUL")
}

impl Stage {
    /// Makes directories, files, links and programs below `top`.
    pub(super) fn new(top: &Path) -> Stage {
        let top = top.canonicalize().expect("the directory of the test");
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        let mut deep = top.join("deep");
        for level in 0..DIRECTORIES {
            fs::create_dir(&deep).expect("a directory");
            directories.push(c_path(&deep));
            for number in 0..FILES {
                let file = deep.join(format!("file-{number}"));
                fs::write(&file, b"content").expect("a file");
                symlink(&file, deep.join(format!("link-{number}"))).expect("a link");
                files.push(c_path(&file));
                files.push(c_path(&deep.join(format!("link-{number}"))));
            }
            symlink(&top, deep.join("top")).expect("a link");
            files.push(c_path(&deep.join("top/deep/file-0")));
            deep.push(format!("level-{level}"));
        }
        let everywhere = ["/etc/hostname", "/dev/null", "/proc/version", "/proc/self/status"];
        files.extend(everywhere.map(|path| {
            CString::from_vec_with_nul([path.as_bytes(), b"\0"].concat()).expect("a path")
        }));
        let names = [
            "file-0",
            "file-1",
            "link-2",
            "../deep/file-0",
            "top/deep/link-1",
            ".",
            "..",
            "./file-2",
            "top",
        ];
        let names = names.map(|name| CString::new(name).expect("a name")).to_vec();
        let scratch = top.join("new");
        fs::create_dir(&scratch).expect("a directory");
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&scratch, everybody).expect("its mode");
        Stage {
            shared: Shared::new(),
            files,
            names,
            directories,
            programs: programs(&top),
            scratch: [scratch.as_os_str().as_bytes(), b"/"].concat(),
        }
    }
}

/// Programs of a few calls: they close, copy and begin sessions, and wait for their alarm.
fn programs(top: &Path) -> Vec<CString> {
    let wait = [(libc::SYS_alarm, 1), (libc::SYS_pause, 0), (libc::SYS_exit_group, 0)];
    let sorts: [&[(libc::c_long, u32)]; 5] = [
        &[],
        &[(libc::SYS_close, 5), (libc::SYS_dup, 0), (libc::SYS_close, 900)],
        &[(libc::SYS_setsid, 0), (libc::SYS_dup, 1)],
        &[(libc::SYS_setuid, 4711), (libc::SYS_epoll_create1, 0)],
        &[(libc::SYS_exit_group, 0)],
    ];
    let written = sorts.iter().enumerate().map(|(number, calls)| {
        let path = top.join(format!("program-{number}"));
        fs::write(&path, machine_code::program(&[*calls, &wait].concat())).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        c_path(&path)
    });
    written.collect()
}

/// The first process: makes the workers, and waits until it is told to end. Lines in
/// `/proc/PID/oom_score_adj` are inherited whatever happens: by `mark` they are found.
pub(super) fn run(stage: &Stage, seed: u64, mark: i32) -> i32 {
    fs::write("/proc/self/oom_score_adj", mark.to_string()).expect("a mark");
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors, and plain calls.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK;
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()), 0);
        for (from, to) in pair.into_iter().zip(EXCHANGE) {
            assert_eq!(libc::dup2(from, to), to);
            libc::close(from);
        }
    }
    for number in 0..WORKERS {
        // SAFETY: one thread, and the child never comes back.
        if unsafe { libc::fork() } == 0 {
            work(stage, seed.wrapping_add(number).wrapping_mul(0x9e37_79b9), number);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
    }
    while !stage.shared.stop.load(Ordering::Relaxed) {
        reap();
        rest(2_000_000);
    }
    reap();
    0
}

/// A worker: does what the others do, and makes threads and processes with threads.
fn work(stage: &Stage, seed: u64, number: u64) {
    if number.is_multiple_of(2) {
        // SAFETY: a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    }
    let threads = AtomicI32::new(0);
    let mut actor = Actor::new(stage, seed, 0);
    std::thread::scope(|scope| {
        while actor.goes_on() {
            actor.step();
            match actor.random.below(120) {
                0..=4 if threads.load(Ordering::Relaxed) < THREADS_MAX => {
                    threads.fetch_add(1, Ordering::Relaxed);
                    let (seed, threads) = (actor.random.next_u64(), &threads);
                    scope.spawn(move || {
                        let mut other = Actor::new(stage, seed, 0);
                        other.steps(STEPS_MAX * 4);
                        threads.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                5 => process_of_threads(stage, actor.random.next_u64()),
                _ => {}
            }
        }
    });
}

/// A process of some threads. Its first thread ends before the others, or all of them end
/// because one of them becomes another program, or because the first one ends the process.
fn process_of_threads(stage: &Stage, seed: u64) {
    // SAFETY: the C library puts its locks in order for the child, which never comes back.
    if unsafe { libc::fork() } != 0 {
        return;
    }
    let mut actor = Actor::new(stage, seed, DEPTH_MAX);
    let end = actor.random.below(3);
    // The threads end the process, so what they borrow lives as long as they do.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let seed = actor.random.next_u64();
            scope.spawn(move || {
                let mut other = Actor::new(stage, seed, DEPTH_MAX);
                other.steps(STEPS_MAX);
                if end == 0 {
                    other.become_program();
                }
                // SAFETY: ends this thread and nothing else; nothing is left to drop.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
        }
        actor.steps(STEPS_MAX / 2);
        // SAFETY: ends this thread, or the process.
        unsafe {
            match end {
                0 | 1 => libc::syscall(libc::SYS_exit, 0),
                _ => libc::syscall(libc::SYS_exit_group, 0),
            };
        }
    });
}

/// Takes note of every child that ended.
fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// The pace of the run. Nobody relies on it.
fn rest(ns: i64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: ns };
    // SAFETY: a time that is there.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// A thread that acts.
struct Actor<'s> {
    stage: &'s Stage,
    random: Random,
    /// Generations above it.
    depth: u32,
    /// Files it made.
    made: u64,
}

impl<'s> Actor<'s> {
    fn new(stage: &'s Stage, seed: u64, depth: u32) -> Actor<'s> {
        Actor { stage, random: Random::new(seed), depth, made: 0 }
    }

    fn goes_on(&self) -> bool {
        !self.stage.shared.stop.load(Ordering::Relaxed)
    }

    /// At most so many steps.
    fn steps(&mut self, most: u64) {
        let mut left = 1 + self.random.below(most);
        while left > 0 && self.goes_on() {
            self.step();
            left -= 1;
        }
    }

    fn any<'a>(&mut self, of: &'a [CString]) -> &'a CStr {
        of.get(self.random.below(of.len() as u64) as usize).expect("one of them")
    }

    /// Any number of a descriptor, which may be open or not.
    fn fd(&mut self) -> i32 {
        3 + self.random.below(FD_MAX) as i32
    }

    fn flag(&mut self, flag: i32) -> i32 {
        if self.random.below(2) == 0 { flag } else { 0 }
    }

    /// Every fourth time or so.
    fn rarely(&mut self) -> bool {
        self.random.below(4) == 0
    }
}
