//! The first state: every thread that `/proc` shows, with what it has open.

use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
    sync::Arc,
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{
    ARGS_BYTES_MAX, COMM_LENGTH_MAX, Descriptors, OpenFile, Processes, THREADS_MAX, ThreadFacts,
    sockets::{self, Known},
};
use crate::{
    clock,
    event::{
        file,
        wire::{Credentials, FILE_WORKING_DIRECTORY, FileHead, file_flag},
    },
    privacy::{Form, Masker},
    probe::numbers_in,
};

/// Nanoseconds of a tick of `/proc/PID/stat`: `USER_HZ` is 100 on every
/// architecture we run on (include/asm-generic/param.h).
const TICK_NS: u64 = 10_000_000;

/// Descriptors read at the most, of all processes together. Each takes three calls.
const DESCRIPTORS_MAX: usize = 262_144;

/// `O_CLOEXEC`, the same on every architecture we run on.
const O_CLOEXEC: u32 = 0o2_000_000;

/// Reads every thread, without the secrets `masker` finds. A thread that ends half way
/// is left out or has less: its exit is among the events.
pub fn scan(masker: &mut Masker) -> Processes {
    let mut processes = Processes::default();
    let mut tables = Tables { sockets: HashMap::new(), count: 0, masker };
    let suspended_ns = clock::suspended_ns();
    for pid in numbers_in("/proc") {
        let directory = format!("/proc/{pid}");
        // Before anything is read: what changes in between comes as an event that is
        // newer, and wins.
        let as_of_ns = clock::monotonic_ns();
        let mut program = fs::read_link(format!("{directory}/exe"))
            .map(|path| path.into_os_string().into_encoded_bytes())
            .unwrap_or_default();
        tables.masker.mask_vec(&mut program, Form::Text, false);
        let args = args(&directory, tables.masker);
        let status = fs::read(format!("{directory}/status")).unwrap_or_default();
        let credentials = parse_credentials(&status);
        let mut first = None;
        for tid in numbers_in(&format!("{directory}/task")) {
            if processes.len() >= THREADS_MAX {
                return processes;
            }
            let facts = thread(pid, tid, suspended_ns, tables.masker);
            let Some(mut facts) = facts else { continue };
            (facts.as_of_ns, facts.credentials) = (as_of_ns, credentials);
            if tid == pid {
                (facts.program, facts.args) = (program.clone(), args.clone());
            }
            let has_ended = facts.has_ended;
            processes.insert(tid, facts);
            if has_ended {
                continue;
            }
            // Threads of one process hardly ever have tables of their own, and `/proc`
            // does not say: one that takes its own from now on is seen to. A leader that has
            // ended has none; those of any other thread are found by its number too.
            match first {
                None => {
                    let files = tables.descriptors(tid, as_of_ns);
                    processes.set_tables(tid, files, tables.directory(tid, as_of_ns));
                }
                Some(first) => processes.join_tables(tid, first),
            }
            first = first.or(Some(tid));
        }
    }
    processes
}

/// The same with names alone, which is one file for each thread.
pub fn scan_names(masker: &mut Masker) -> Processes {
    let mut processes = Processes::default();
    let suspended_ns = clock::suspended_ns();
    for pid in numbers_in("/proc") {
        for tid in numbers_in(&format!("/proc/{pid}/task")) {
            if processes.len() >= THREADS_MAX {
                return processes;
            }
            let as_of_ns = clock::monotonic_ns();
            if let Some(facts) = thread(pid, tid, suspended_ns, masker) {
                processes.insert(tid, ThreadFacts { as_of_ns, ..facts });
            }
        }
    }
    processes
}

/// What `/proc/PID/task/TID/stat` says of a thread. It counts from the boot with suspends,
/// events without.
fn thread(pid: u32, tid: u32, suspended_ns: u64, masker: &mut Masker) -> Option<ThreadFacts> {
    let stat = fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let stat = parse_stat(&stat)?;
    // Nobody waits for a thread that has ended, or for what is being let go of.
    if stat.state == b'X' || stat.state == b'Z' && tid != pid {
        return None;
    }
    let mut comm = stat.comm.to_vec();
    let is_cut = comm.len() == COMM_LENGTH_MAX;
    masker.mask_vec(&mut comm, Form::Text, is_cut);
    Some(ThreadFacts {
        pid,
        ppid: stat.ppid,
        start_ns: stat.start_ticks.saturating_mul(TICK_NS).saturating_sub(suspended_ns),
        comm,
        session: stat.session,
        has_ended: stat.state == b'Z',
        ..ThreadFacts::default()
    })
}

/// The arguments of a process. A program that writes a title over them may write on into
/// its environment, and a title without an end makes the kernel give what follows in
/// the environment (`get_mm_cmdline` in fs/proc/base.c, 6.18): so of what lies behind the
/// arguments' own room nothing is kept.
fn args(directory: &str, masker: &mut Masker) -> Vec<u8> {
    let mut args = fs::read(format!("{directory}/cmdline")).unwrap_or_default();
    let stat = fs::read(format!("{directory}/stat")).unwrap_or_default();
    let room = args_room(&stat, &args).min(ARGS_BYTES_MAX);
    let is_cut = args.len() > room;
    args.truncate(room);
    masker.mask_vec(&mut args, Form::Arguments, is_cut);
    args
}

/// How many bytes of memory the arguments have, from `/proc/PID/stat`: fields 48 and 49
/// (proc_pid_stat(5)). They are 0 where we may not know: then a list of several
/// arguments is one, and a single string may be a title.
fn args_room(stat: &[u8], args: &[u8]) -> usize {
    let room = || {
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        // The state is field 3.
        let mut fields = rest.split_whitespace().skip(48 - 3);
        let start: u64 = fields.next()?.parse().ok()?;
        let end: u64 = fields.next()?.parse().ok()?;
        usize::try_from(end.checked_sub(start)?).ok().filter(|room| *room > 0)
    };
    let is_list = || args.split_last().is_some_and(|(_, inner)| inner.contains(&0));
    room().unwrap_or(if is_list() { args.len() } else { 0 })
}

/// What reading tables has found out.
struct Tables<'m> {
    /// The sockets of each network namespace, by what its link says.
    sockets: HashMap<Vec<u8>, HashMap<u64, Known>>,
    /// Descriptors so far.
    count: usize,
    /// Masks secrets in paths.
    masker: &'m mut Masker,
}

impl Tables<'_> {
    fn descriptors(&mut self, pid: u32, as_of_ns: u64) -> Descriptors {
        let mut files = Descriptors::as_of(as_of_ns);
        for fd in numbers_in(&format!("/proc/{pid}/fd")) {
            if self.count >= DESCRIPTORS_MAX {
                break;
            }
            self.count += 1;
            let fd = fd.cast_signed();
            if let Some(open) = self.open_file(pid, fd, as_of_ns) {
                files.insert(fd, open);
            }
        }
        files
    }

    fn open_file(&mut self, pid: u32, fd: i32, as_of_ns: u64) -> Option<OpenFile> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let name = fs::read_link(&path).ok()?.into_os_string().into_vec();
        let mut head = head_of(Path::new(&path), fd);
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let flags = parse_open_flags(&info).unwrap_or_default();
        head.open_flags = flags & !O_CLOEXEC;
        let close_on_exec = flags & O_CLOEXEC != 0;
        if close_on_exec {
            head.flags |= file_flag::CLOSE_ON_EXEC;
        }
        let socket =
            if name.starts_with(b"socket:[") { self.socket(pid, head.inode) } else { None };
        let socket = socket.map(|(head, addresses)| (*head, addresses.as_slice()));
        let file = file::describe(head, &name, socket);
        let file = Arc::from(self.masker.mask_files(file));
        Some(OpenFile { file, close_on_exec, as_of_ns, took_over: false })
    }

    fn directory(&mut self, pid: u32, as_of_ns: u64) -> Option<OpenFile> {
        let path = format!("/proc/{pid}/cwd");
        let name = fs::read_link(&path).ok()?;
        let head = head_of(Path::new(&path), FILE_WORKING_DIRECTORY);
        let file = file::describe(head, name.as_os_str().as_bytes(), None);
        let file = Arc::from(self.masker.mask_files(file));
        Some(OpenFile { file, close_on_exec: false, as_of_ns, took_over: false })
    }

    fn socket(&mut self, pid: u32, inode: u64) -> Option<&Known> {
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        let sockets = self
            .sockets
            .entry(namespace.into_os_string().into_vec())
            .or_insert_with(|| sockets::of_process(pid));
        sockets.get(&inode)
    }
}

/// Type, device and inode of what a link of `/proc` leads to, as the kernel remembers them:
/// to ask the server of a file that is gone would hang the start.
fn head_of(path: &Path, fd: i32) -> FileHead {
    let mut head = FileHead { fd, ..FileHead::default() };
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::INO;
    if let Ok(found) = statx(CWD, path, AtFlags::STATX_DONT_SYNC, wanted) {
        head.mode = u32::from(found.stx_mode);
        head.inode = found.stx_ino;
        // As the kernel keeps it, include/linux/kdev_t.h.
        head.device = found.stx_dev_major << 20 | found.stx_dev_minor;
    }
    head
}

/// The flags of an open file from `/proc/PID/fdinfo/FD`, in octal, with `O_CLOEXEC`
/// (fs/proc/fd.c, `seq_show`).
pub fn parse_open_flags(info: &str) -> Option<u32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}

/// Real and effective ids from `/proc/PID/status` (fs/proc/array.c, `task_state`).
pub fn parse_credentials(status: &[u8]) -> Option<Credentials> {
    let ids = |name: &[u8]| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let ((uid, euid), (gid, egid)) = (ids(b"Uid:")?, ids(b"Gid:")?);
    Some(Credentials { uid, gid, euid, egid })
}

/// What `/proc/PID/stat` says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// Its name.
    pub comm: &'a [u8],
    /// The letter of its state: `Z` has ended, `X` is being let go of.
    pub state: u8,
    /// The parent process.
    pub ppid: u32,
    /// The process that began its session.
    pub session: u32,
    /// When it started, ticks since the boot.
    pub start_ticks: u64,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name may hold blanks and brackets: it
/// ends at the last one.
pub fn parse_stat(stat: &[u8]) -> Option<Stat<'_>> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat.get(open + 1..close)?;
    let comm = comm.get(..comm.len().min(COMM_LENGTH_MAX))?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.bytes().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    // Field 22 counted from 1; the state is field 3.
    let start_ticks = fields.nth(15)?.parse().ok()?;
    Some(Stat { comm, state, ppid, session, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::{Privacy, Rules};

    fn scan_all() -> Processes {
        scan(&mut Privacy::new(Rules::default()).masker())
    }

    /// A title that fills the room of the arguments to its last byte runs on into the
    /// environment, and `/proc` gives what it meets there.
    #[test]
    fn what_lies_behind_the_arguments_is_none() {
        let stat = |start: u64, end: u64| {
            format!("1 (a b) S{} {start} {end} 0", " 0".repeat(44)).into_bytes()
        };
        assert_eq!(args_room(&stat(100, 108), b"title...TOKEN=x\0"), 8);
        assert_eq!(args_room(&stat(0, 0), b"title...TOKEN=x\0"), 0);
        assert_eq!(args_room(&stat(0, 0), b"cat\0file\0"), 9);
        assert_eq!(args_room(b"1 (a", b"cat\0file\0"), 9);
        assert_eq!(args_room(&stat(8, 0), b""), 0);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_whole() {
        let stat = b"42 (a) (b c) S 7 1 2 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let expected =
            Stat { comm: b"a) (b c", state: b'S', ppid: 7, session: 2, start_ticks: 12345 };
        assert_eq!(parse_stat(stat), Some(expected));
        for damaged in [&b""[..], b"42", b"42 (x", b"42 (x) S", b")(", b"42 (x) S 7 \xff"] {
            assert_eq!(parse_stat(damaged), None);
        }
    }

    #[test]
    fn this_process_is_found_with_its_program() {
        let processes = scan_all();
        let own = processes.get(std::process::id()).expect("this process is in /proc");
        assert!(!own.comm.is_empty() && !own.program.is_empty() && own.start_ns > 0);
        assert!(own.credentials.is_some());
        let directory = processes.directory(std::process::id()).and_then(OpenFile::file);
        let expected = std::env::current_dir().unwrap().into_os_string().into_encoded_bytes();
        assert_eq!(directory.map(|file| file.name()), Some(expected));
    }

    /// The session is the one a process began. This test's own may be 0: that of what the
    /// kernel started and nobody gave a session, as on a machine whose init runs the tests.
    #[test]
    fn a_process_is_found_with_the_session_it_began() {
        let mut leader = std::process::Command::new("setsid")
            .arg("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let found = loop {
            let processes = scan_all();
            let found = processes.get(leader.id()).filter(|found| found.comm.ends_with(b"cat"));
            if let Some(found) = found {
                break found.session;
            }
            assert!(std::time::Instant::now() < deadline, "setsid did not start cat");
        };
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert_eq!(found, leader.id());
    }

    /// What is open is found with its path, its flags and, for a socket, its addresses.
    #[test]
    fn what_this_process_has_open_is_found() {
        use std::os::fd::AsRawFd as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let processes = scan_all();
        let name = |fd| {
            let open = processes.file(std::process::id(), fd).expect("it is open");
            assert!(open.close_on_exec, "the standard library opens everything so");
            let file = open.file().unwrap();
            (file.name(), file.socket().map(|socket| socket.name(file.head.inode)))
        };
        assert_eq!(name(null.as_raw_fd()), (b"/dev/null".to_vec(), None));
        let (socket, addresses) = name(listener.as_raw_fd());
        assert!(socket.starts_with(b"socket:["), "{}", String::from_utf8_lossy(&socket));
        let expected = format!("TCP {}", listener.local_addr().unwrap());
        assert_eq!(addresses, Some(expected.into_bytes()));
    }

    #[test]
    fn flags_and_ids_are_read_or_not_there() {
        assert_eq!(parse_open_flags("pos:\t0\nflags:\t02100002\nmnt_id:\t9\n"), Some(0o2_100_002));
        assert_eq!(parse_open_flags("flags:\t9"), None);
        let status = b"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let expected = Credentials { uid: 1, gid: 5, euid: 2, egid: 6 };
        assert_eq!(parse_credentials(status), Some(expected));
        assert_eq!(parse_credentials(b"Uid:\t1\n"), None);
    }
}
