//! A moment: everybody is held, and the host is asked what it shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use recorder::clock::monotonic_ns;
use recorder_tests::{run, wait_until};

/// A process as `ps` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) ppid: u64,
    pub(super) session: u64,
    pub(super) threads: u64,
    pub(super) euid: u64,
    /// Its leader has ended.
    pub(super) is_zombie: bool,
    pub(super) comm: String,
}

/// Whose a table is: a process, and the first of its threads that has the table.
pub(super) type Owner = (i32, i32);

/// What a descriptor is: its name, and whether an exec closes it.
pub(super) type Descriptor = (String, bool);

/// A socket as `ss` prints it: state, this end, the other end. Unix sockets have their
/// inodes as ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) protocol: String,
    pub(super) state: String,
    pub(super) local: String,
    pub(super) remote: String,
}

/// What the host showed.
#[derive(Default)]
pub(super) struct Moment {
    pub(super) at_ns: u64,
    /// Of the run, and some of the machine's own.
    pub(super) processes: BTreeMap<i32, Process>,
    pub(super) descriptors: BTreeMap<(Owner, i32), Descriptor>,
    pub(super) directories: BTreeMap<Owner, String>,
    /// Those that a process of the run has open, by inode.
    pub(super) sockets: BTreeMap<u64, Socket>,
    /// Processes of the run, with its zombies.
    pub(super) run: BTreeSet<i32>,
}

impl Moment {
    /// Whether nothing happens to a process while the host is asked: the zombie of a parent
    /// that is not held can go at any time.
    pub(super) fn holds(&self, process: &Process) -> bool {
        let parent = i32::try_from(process.ppid);
        !process.is_zombie || parent.is_ok_and(|parent| self.run.contains(&parent))
    }
}

/// Everybody with a mark, stopped.
pub(super) struct Held {
    pids: BTreeSet<i32>,
    mark: i32,
}

fn numbers_in(directory: &Path) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Every process with this mark that is more than a zombie.
pub(super) fn marked(mark: i32) -> Vec<i32> {
    with_zombies(mark).into_iter().filter(|pid| !is_zombie(*pid)).collect()
}

/// Every process with this mark. A zombie has kept it.
fn with_zombies(mark: i32) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let own = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
        own.trim().parse() == Ok(mark)
    };
    numbers_in(Path::new("/proc")).into_iter().filter(is_ours).collect()
}

fn threads_of(pid: i32) -> Vec<i32> {
    numbers_in(Path::new(&format!("/proc/{pid}/task")))
}

/// The letter of `/proc/PID/stat`, `X` for one that is gone.
fn state_of(pid: i32, tid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.chars().next()).unwrap_or('X')
}

fn is_zombie(pid: i32) -> bool {
    threads_of(pid).into_iter().all(|tid| matches!(state_of(pid, tid), 'Z' | 'X'))
}

/// A thread that does nothing until it is let go: stopped, gone, or waiting for a stopped
/// child to become a program.
fn is_still(pid: i32, tid: i32) -> bool {
    match state_of(pid, tid) {
        'T' | 'Z' | 'X' => true,
        'D' => {
            let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"));
            let call = call.unwrap_or_default();
            let nr = call.split_whitespace().next().and_then(|nr| nr.parse().ok());
            let forks = [libc::SYS_clone, libc::SYS_clone3];
            nr.is_some_and(|nr: libc::c_long| forks.contains(&nr))
        }
        _ => false,
    }
}

fn moves(pid: i32) -> bool {
    threads_of(pid).into_iter().any(|tid| !is_still(pid, tid))
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: numbers; the process has our mark.
    unsafe { libc::kill(pid, signal) };
}

impl Held {
    /// Stops every process with this mark. What is still cannot make another process: two
    /// looks that find the same, all still, have seen all.
    pub(super) fn hold(mark: i32) -> Held {
        let mut before = BTreeSet::new();
        let mut moving: Vec<i32> = Vec::new();
        wait_until("all processes of the run to be held", || {
            // A look at everybody makes so many calls that it fills the recorder's rings:
            // first those are waited for that are known.
            moving.retain(|pid| moves(*pid));
            if !moving.is_empty() {
                return false;
            }
            let pids: BTreeSet<i32> = marked(mark).into_iter().collect();
            moving.extend(pids.iter().copied().filter(|pid| moves(*pid)));
            moving.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
            let all_still = moving.is_empty() && pids == before;
            before = if moving.is_empty() { pids } else { BTreeSet::new() };
            all_still
        });
        Held { pids: before, mark }
    }

    /// Asks the host.
    pub(super) fn look(&self, others: &[i32], still: i32) -> Moment {
        let mut moment = Moment { at_ns: monotonic_ns(), ..Moment::default() };
        moment.run = self.pids.iter().copied().chain(with_zombies(self.mark)).collect();
        let mut sockets = BTreeSet::new();
        for pid in self.pids.iter().copied().chain([still]) {
            look_at_tables(pid, &mut moment, &mut sockets);
        }
        let wanted: BTreeSet<i32> =
            moment.run.iter().chain(others).chain([&still]).copied().collect();
        let mut processes = by_ps(&wanted);
        processes.retain(|_, process| moment.holds(process));
        moment.processes = processes;
        moment.sockets = by_ss(&sockets);
        moment
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pids.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
    }
}

/// Ends everybody with this mark.
pub(super) fn end_all(mark: i32) {
    wait_until("all processes of the run to be gone", || {
        let left = marked(mark);
        left.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
        left.is_empty()
    });
}

/// `KCMP_FILES` and `KCMP_FS`, include/uapi/linux/kcmp.h.
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;

fn same(first: i32, second: i32, what: i32) -> bool {
    // SAFETY: numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, first, second, what, 0, 0) == 0 }
}

/// The threads of a process that have a table none before them has.
fn firsts(threads: &[i32], what: i32) -> Vec<i32> {
    let mut firsts: Vec<i32> = Vec::new();
    for tid in threads {
        if !firsts.iter().any(|first| same(*first, *tid, what)) {
            firsts.push(*tid);
        }
    }
    firsts
}

fn look_at_tables(pid: i32, moment: &mut Moment, sockets: &mut BTreeSet<u64>) {
    let mut living = threads_of(pid);
    // The leader first.
    living.sort_by_key(|tid| (*tid != pid, *tid));
    living.retain(|tid| !matches!(state_of(pid, *tid), 'Z' | 'X'));
    for tid in firsts(&living, KCMP_FILES) {
        let directory = format!("/proc/{pid}/task/{tid}");
        for fd in numbers_in(Path::new(&format!("{directory}/fd"))) {
            let name = fs::read_link(format!("{directory}/fd/{fd}")).expect("a name");
            let name = name.to_str().expect("text").to_string();
            let info = fs::read_to_string(format!("{directory}/fdinfo/{fd}")).expect("its flags");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
            let close_on_exec = flags.expect("flags") & libc::O_CLOEXEC != 0;
            sockets.extend(inode_of(&name));
            moment.descriptors.insert(((pid, tid), fd), (name, close_on_exec));
        }
    }
    for tid in firsts(&living, KCMP_FS) {
        let directory = fs::read_link(format!("/proc/{pid}/task/{tid}/cwd")).expect("a directory");
        moment.directories.insert((pid, tid), directory.to_str().expect("text").to_string());
    }
}

fn inode_of(name: &str) -> Option<u64> {
    name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn by_ps(wanted: &BTreeSet<i32>) -> BTreeMap<i32, Process> {
    let columns = "pid,ppid,sid,nlwp,euid,stat,comm";
    let outcome = run(Command::new("ps").args(["-eo", columns, "--no-headers"])).succeeded();
    let row = |line: &str| {
        let mut rest = line;
        let mut number = || {
            let trimmed = rest.trim_start();
            let (word, after) = trimmed.split_once(' ')?;
            rest = after;
            word.parse::<u64>().ok()
        };
        let pid = i32::try_from(number()?).ok()?;
        let (ppid, session, threads, euid) = (number()?, number()?, number()?, number()?);
        let (state, comm) = rest.trim_start().split_once(' ')?;
        let is_zombie = state.starts_with('Z');
        let comm = comm.trim_start().trim_end();
        let comm = comm.strip_suffix(" <defunct>").unwrap_or(comm).to_string();
        Some((pid, Process { ppid, session, threads, euid, is_zombie, comm }))
    };
    let rows = outcome.text().lines().filter_map(row);
    rows.filter(|(pid, _)| wanted.contains(pid)).collect()
}

/// What `ss` calls states, and their names in the kernel.
const STATES: [(&str, &str); 11] = [
    ("ESTAB", "ESTABLISHED"),
    ("SYN-SENT", "SYN_SENT"),
    ("SYN-RECV", "SYN_RECV"),
    ("FIN-WAIT-1", "FIN_WAIT1"),
    ("FIN-WAIT-2", "FIN_WAIT2"),
    ("TIME-WAIT", "TIME_WAIT"),
    ("UNCONN", "CLOSE"),
    ("CLOSE-WAIT", "CLOSE_WAIT"),
    ("LAST-ACK", "LAST_ACK"),
    ("LISTEN", "LISTEN"),
    ("CLOSING", "CLOSING"),
];

fn by_ss(wanted: &BTreeSet<u64>) -> BTreeMap<u64, Socket> {
    if !recorder_tests::has_program("ss") {
        return BTreeMap::new();
    }
    let lines = |options: &str| {
        let outcome = run(Command::new("ss").args([options])).succeeded();
        outcome.text().lines().map(str::to_string).collect::<Vec<_>>()
    };
    let state = |word: &str| {
        let known = STATES.iter().find(|(theirs, _)| *theirs == word);
        known.map_or(word, |(_, kernels)| kernels).to_string()
    };
    let inet = lines("-tunaeH").into_iter().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let inode = words.iter().find_map(|word| word.strip_prefix("ino:"))?.parse().ok()?;
        let [protocol, state_word, _, _, local, remote, ..] = words.as_slice() else { return None };
        let end = |word: &str| if word.ends_with(":*") { String::new() } else { word.to_string() };
        let (local, remote, protocol) = (end(local), end(remote), protocol.to_uppercase());
        Some((inode, Socket { protocol, state: state(state_word), local, remote }))
    });
    let unix = lines("-xaH").into_iter().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, state_word, _, _, path, inode, _, peer, ..] = words.as_slice() else {
            return None;
        };
        let kind = match *protocol {
            "u_str" => "UNIX-STREAM",
            "u_dgr" => "UNIX-DGRAM",
            _ => "UNIX-SEQPACKET",
        };
        let local = path.strip_prefix('*').unwrap_or(path).to_string();
        let remote = if *peer == "0" { String::new() } else { (*peer).to_string() };
        let socket = Socket { protocol: kind.to_string(), state: state(state_word), local, remote };
        Some((inode.parse().ok()?, socket))
    });
    inet.chain(unix).filter(|(inode, _)| wanted.contains(inode)).collect()
}
