//! The state of the host as a fold over events: which threads there are, what
//! they are called, what they run.
//!
//! Seeded from `/proc`, hooks first: each fact carries the time it was read, an
//! event newer than the fact wins, an older one is already in it. The same fold
//! keeps the baseline while recording and gives names while replaying.

mod calls;
mod connections;
mod ends;
mod groups;
mod renames;
#[cfg(feature = "capture")]
mod seed;
mod settle;
#[cfg(feature = "capture")]
mod sockets;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use calls::Firsts;
use connections::Connections;
#[cfg(feature = "capture")]
pub use groups::scan_groups;
pub use groups::{Groups, Membership};
use renames::Renames;
#[cfg(feature = "capture")]
pub use seed::{Stat, parse_credentials, parse_open_flags, parse_stat, scan, scan_names};
#[cfg(feature = "capture")]
pub use sockets::{SOCKET_TABLES, parse_sockets};
use tables::Shared;
pub use tables::{Descriptors, OpenFile};

use groups::ATTACHMENT_CGROUPS;

use crate::event::{
    Attached, Event, Kind,
    syscall::Abi,
    wire::{COMM_BYTES, Credentials, STRING_BYTES_MAX, flag, lost, shared},
};

/// Threads kept at the most. A host at its default `threads-max` has fewer.
pub const THREADS_MAX: usize = 262_144;

/// Bytes of arguments kept of one process.
pub const ARGS_BYTES_MAX: usize = crate::event::wire::EXEC_ARGS_BYTES_MAX;

/// What is known of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFacts {
    /// Its process.
    pub pid: u32,
    /// The parent process, 0 when it is not known.
    pub ppid: u32,
    /// When it started, 0 when it is not known.
    pub start_ns: u64,
    /// When this was learnt.
    pub as_of_ns: u64,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its program; only the leader of a process has it.
    pub program: Vec<u8>,
    /// Its arguments, each ended by a NUL; only the leader of a process has them.
    pub args: Vec<u8>,
    /// Who it runs as, where it is known.
    pub credentials: Option<Credentials>,
    /// The process that began its session, 0 when it is not known.
    pub session: u32,
    /// It has ended and its process has not been reaped: others of its threads go on, or it
    /// is a zombie. Only leaders have it.
    pub has_ended: bool,
}

impl ThreadFacts {
    /// The arguments one by one.
    pub fn words(&self) -> Vec<&[u8]> {
        let args = self.args.strip_suffix(b"\0").unwrap_or(&self.args);
        args.split(|byte| *byte == 0).collect()
    }

    fn bytes(&self) -> u64 {
        (size_of::<ThreadFacts>() + self.comm.len() + self.program.len() + self.args.len()) as u64
    }
}

/// What a thread has that no thread of its process before it has.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// The thread.
    pub tid: u32,
    /// What is known of it.
    pub facts: &'a ThreadFacts,
    /// Its descriptors.
    pub files: Option<&'a Descriptors>,
    /// Its working directory.
    pub directory: Option<&'a OpenFile>,
}

/// Every thread, by its id.
#[derive(Clone, Debug)]
pub struct Processes {
    threads: BTreeMap<u32, ThreadFacts>,
    /// How many threads each process has.
    living: HashMap<u32, u32>,
    /// The children of each process, by parent and child: when it ends, they have another
    /// parent.
    children: BTreeSet<(u32, u32)>,
    files: Shared<Descriptors>,
    directories: Shared<OpenFile>,
    /// Before this, calls and ends may be missing.
    uncertain_ns: u64,
    /// Before this, forks, execs, ends and renames may be missing.
    names_uncertain_ns: u64,
    groups: Groups,
    /// What files were called that are called otherwise now.
    renames: Renames,
    connections: Connections,
    bytes: u64,
    bytes_max: u64,
    cut: u64,
}

impl Default for Processes {
    fn default() -> Processes {
        Processes {
            threads: BTreeMap::new(),
            living: HashMap::new(),
            children: BTreeSet::new(),
            files: Shared::default(),
            directories: Shared::default(),
            uncertain_ns: 0,
            names_uncertain_ns: 0,
            groups: Groups::default(),
            renames: Renames::default(),
            connections: Connections::default(),
            bytes: 0,
            bytes_max: u64::MAX,
            cut: 0,
        }
    }
}

impl Processes {
    /// What is known of a thread.
    pub fn get(&self, tid: u32) -> Option<&ThreadFacts> {
        self.threads.get(&tid)
    }

    /// The name of a thread, empty when it is not known.
    pub fn comm(&self, tid: u32) -> &[u8] {
        self.threads.get(&tid).map(|facts| facts.comm.as_slice()).unwrap_or_default()
    }

    /// The name of an event's thread: the one that came with it, else what is known of
    /// the thread. Empty when neither is there.
    pub fn comm_of<'e>(&'e self, event: &Event<'e>) -> &'e [u8] {
        let own = event.comm().map(Attached::text).filter(|comm| !comm.is_empty());
        own.unwrap_or_else(|| self.comm(event.tid))
    }

    /// The descriptors of a thread, where they are known.
    pub fn descriptors(&self, tid: u32) -> Option<&Descriptors> {
        self.files.get(tid)
    }

    /// What a descriptor of a thread refers to.
    pub fn file(&self, tid: u32, fd: i32) -> Option<&OpenFile> {
        self.files.get(tid)?.get(fd)
    }

    /// The working directory of a thread.
    pub fn directory(&self, tid: u32) -> Option<&OpenFile> {
        self.directories.get(tid)
    }

    /// The tables of each process: one that threads of it share is that of the first of
    /// them, which is the leader where it has the table. Processes that share one have it
    /// each, as `/proc` shows it.
    pub fn tables(&self) -> impl Iterator<Item = Tables<'_>> {
        let mut order: Vec<(u32, bool, u32)> =
            self.iter().map(|(tid, facts)| (facts.pid, facts.pid != tid, tid)).collect();
        order.sort_unstable();
        let mut seen = HashSet::new();
        order.into_iter().filter_map(move |(pid, _, tid)| {
            let files = self.files.number(tid).filter(|number| seen.insert((pid, true, *number)));
            let directory = self.directories.number(tid);
            let directory = directory.filter(|number| seen.insert((pid, false, *number)));
            Some(Tables {
                tid,
                facts: self.get(tid)?,
                files: files.and_then(|_| self.descriptors(tid)),
                directory: directory.and_then(|_| self.directory(tid)),
            })
        })
    }

    /// Events were lost until then: what was learnt before may have changed unseen. 0
    /// where none was.
    pub fn uncertain_ns(&self) -> u64 {
        self.uncertain_ns
    }

    /// Whether the name of an event's thread is doubtful: forks, execs, ends or renames were
    /// lost since it was learnt, and the number may be somebody else's by now.
    pub fn is_comm_uncertain(&self, event: &Event<'_>) -> bool {
        event.comm().is_none()
            && self.get(event.tid).is_some_and(|facts| facts.as_of_ns < self.names_uncertain_ns)
    }

    /// Whether what a thread is may be somebody else's by now.
    pub fn is_uncertain(&self, facts: &ThreadFacts) -> bool {
        facts.as_of_ns < self.names_uncertain_ns
    }

    /// How many threads are known.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let tables = self.files.bytes() + self.directories.bytes();
        let unsettled = self.renames.bytes() + self.connections.bytes();
        self.bytes + tables + self.groups.bytes() + unsettled
    }

    /// Takes at most `bytes_max` from now on. What is there and does not fit leaves
    /// as if it came now: programs and arguments, then tables of descriptors, then
    /// threads; all are counted.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        self.groups.set_bytes_max(bytes_max / 4);
        self.settle();
        let mut cut = BTreeSet::new();
        let tables = self.bytes() - self.bytes;
        for (tid, facts) in &mut self.threads {
            let words = facts.program.len() + facts.args.len();
            if self.bytes + tables <= bytes_max {
                break;
            }
            if words > 0 {
                (facts.program, facts.args) = (Vec::new(), Vec::new());
                self.bytes -= words as u64;
                cut.insert(*tid);
            }
        }
        if self.bytes() > bytes_max {
            let others = self.bytes + self.groups.bytes();
            self.cut += self.files.shrink(bytes_max.saturating_sub(others));
        }
        while self.bytes() > bytes_max {
            let Some(tid) = self.threads.keys().next_back().copied() else { break };
            self.remove(tid);
            cut.insert(tid);
        }
        self.cut += cut.len() as u64;
    }

    /// Threads and tables that were left out because there were too many, or too large
    /// ones.
    pub fn cut(&self) -> u64 {
        self.cut + self.groups.cut()
    }

    /// Every thread, in the order of its id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &ThreadFacts)> {
        self.threads.iter().map(|(tid, facts)| (*tid, facts))
    }

    /// Sets what is known of a thread. Where there is no room its program and
    /// arguments are left out, then the thread; both are counted.
    pub fn insert(&mut self, tid: u32, mut facts: ThreadFacts) {
        self.take_out(tid);
        if self.bytes() + facts.bytes() > self.bytes_max {
            facts.program.clear();
            facts.args.clear();
            self.cut += 1;
        }
        let fits = self.bytes() + facts.bytes() <= self.bytes_max;
        if self.threads.len() >= THREADS_MAX || !fits {
            self.cut += u64::from(fits);
            self.leave_tables(tid);
            return;
        }
        self.bytes += facts.bytes();
        *self.living.entry(facts.pid).or_default() += 1;
        if facts.pid == tid {
            self.children.insert((facts.ppid, tid));
        }
        self.threads.insert(tid, facts);
    }

    /// Takes a thread out; its tables stay.
    fn take_out(&mut self, tid: u32) -> Option<ThreadFacts> {
        let facts = self.threads.remove(&tid)?;
        self.bytes -= facts.bytes();
        self.children.remove(&(facts.ppid, tid));
        if let Some(living) = self.living.get_mut(&facts.pid) {
            *living -= 1;
            if *living == 0 {
                self.living.remove(&facts.pid);
            }
        }
        Some(facts)
    }

    fn remove(&mut self, tid: u32) -> Option<ThreadFacts> {
        self.leave_tables(tid);
        self.take_out(tid)
    }

    fn leave_tables(&mut self, tid: u32) {
        self.files.leave(tid);
        self.directories.leave(tid);
    }

    /// Changes a thread in place, where its facts are older than `ts_ns`.
    fn update(&mut self, tid: u32, ts_ns: u64, change: impl FnOnce(&mut ThreadFacts)) {
        let mut facts = self.threads.get(&tid).cloned().unwrap_or_default();
        if facts.as_of_ns > ts_ns {
            return;
        }
        facts.as_of_ns = ts_ns;
        change(&mut facts);
        self.insert(tid, facts);
    }

    /// Takes an event into account. Of its words no more is kept than the kernel
    /// gives: those of a file can have any length, and forks multiply them.
    ///
    /// `native` is the ABI of the host's 64-bit programs.
    pub fn apply(&mut self, event: &Event<'_>, native: Abi) {
        let attached = |index, most| {
            let text = event.attachment(index).map(Attached::text).unwrap_or_default();
            text.get(..text.len().min(most)).unwrap_or_default().to_vec()
        };
        let args = |index| {
            let args = event.attachment(index).map(|args| args.bytes).unwrap_or_default();
            args.get(..args.len().min(ARGS_BYTES_MAX)).unwrap_or_default().to_vec()
        };
        self.apply_to_groups(event);
        match event.kind {
            Kind::Syscall => self.call(event, native),
            Kind::ProcessFork => self.fork(event),
            Kind::ProcessExec => {
                self.take_leaders_place(event);
                let credentials = (!event.has(flag::NO_ARGS) && event.numbers().len() > 5)
                    .then(|| credentials_of(event, 2));
                self.update(event.tid, event.ts_ns, |facts| {
                    facts.pid = event.pid;
                    facts.has_ended = false;
                    facts.program = attached(0, STRING_BYTES_MAX);
                    facts.args = args(1);
                    facts.credentials = credentials.or(facts.credentials);
                });
                self.files.copy(event.tid, event.tid);
                self.change_files(event.tid, event.ts_ns, Descriptors::close_on_exec);
                // The directory stays shared with whom it was: kernel/fork.c, `CLONE_FS`.
            }
            Kind::Lost => self.lose(event),
            Kind::TcpState => self.connection(event),
            Kind::Descriptor => self.open_before(event),
            Kind::ProcessRename => {
                self.update(event.tid, event.ts_ns, |facts| {
                    facts.pid = event.pid;
                    facts.comm = attached(0, COMM_LENGTH_MAX);
                });
            }
            Kind::ProcessExit => self.end(event),
            Kind::ProcessReap => self.let_go(event),
            Kind::Process => {
                let numbers = event.numbers();
                let known = numbers.get(2).is_some_and(|uid| *uid as u32 != u32::MAX);
                let facts = ThreadFacts {
                    pid: event.pid,
                    ppid: event.number(0) as u32,
                    start_ns: event.number(1),
                    as_of_ns: event.ts_ns,
                    comm: attached(0, COMM_LENGTH_MAX),
                    program: attached(1, STRING_BYTES_MAX),
                    args: args(2),
                    credentials: known.then(|| credentials_of(event, 2)),
                    session: event.number(6) as u32,
                    has_ended: event.has(flag::NO_RETURN),
                };
                self.insert(event.tid, facts);
                self.tables_before(event);
            }
            _ => {}
        }
    }

    /// Events are missing up to a moment. An older file does not say which.
    fn lose(&mut self, event: &Event<'_>) {
        let until_ns = event.number(2);
        self.uncertain_ns = self.uncertain_ns.max(until_ns);
        if event.numbers().get(3).is_none_or(|process_events| *process_events > 0) {
            self.names_uncertain_ns = self.names_uncertain_ns.max(until_ns);
        }
    }

    fn fork(&mut self, event: &Event<'_>) {
        let (child_pid, child_tid) = (event.number(0) as u32, event.number(1) as u32);
        let parent = self.threads.get(&event.tid).cloned().unwrap_or_default();
        let is_thread = child_pid == event.pid;
        // Program and arguments belong to the process: its leader has them.
        let leader = self.threads.get(&event.pid).cloned();
        // So do its session, which another thread may have begun, and its parent.
        let (session, above) = match &leader {
            Some(leader) => (leader.session, leader.ppid),
            None => (parent.session, parent.ppid),
        };
        let leader = leader.filter(|_| !is_thread).unwrap_or_default();
        let shares = event.number(2) as u32;
        let is_sibling = is_thread || shares & shared::PARENT != 0;
        if self.get(child_tid).is_some_and(|facts| facts.as_of_ns > event.ts_ns) {
            return;
        }
        self.remove(child_tid);
        self.insert(
            child_tid,
            ThreadFacts {
                pid: child_pid,
                ppid: if is_sibling { above } else { event.pid },
                start_ns: event.ts_ns,
                as_of_ns: event.ts_ns,
                comm: parent.comm,
                program: leader.program,
                args: leader.args,
                credentials: parent.credentials,
                session,
                has_ended: false,
            },
        );
        if self.get(child_tid).is_some() {
            self.fork_tables(event, is_thread);
        }
    }

    /// The thread that calls exec becomes the leader: what the process is, the leader
    /// knows; what it has open, the caller. Its new name came before, to the leader.
    fn take_leaders_place(&mut self, event: &Event<'_>) {
        let old_tid = event.number(0) as u32;
        if old_tid == event.tid {
            return;
        }
        self.files.join(event.tid, old_tid);
        self.directories.join(event.tid, old_tid);
        let Some(caller) = self.remove(old_tid) else { return };
        let leader = self.take_out(event.tid);
        let mut facts = leader.unwrap_or_else(|| caller.clone());
        facts.has_ended = false;
        facts.credentials = caller.credentials;
        self.insert(event.tid, facts);
    }

    /// The control groups and the threads as events, to be stored as a block. What is
    /// open is as it was described until [`Processes::settle`].
    pub fn to_events(&self) -> impl Iterator<Item = Event<'_>> {
        // The first makes names doubtful, the second what is open.
        let losses = [(self.names_uncertain_ns, 1), (self.uncertain_ns, 0)];
        let lost = losses.into_iter().filter(|(until_ns, _)| *until_ns != 0).map(
            |(until_ns, process_events)| {
                let mut event = Event::new(Kind::Lost, until_ns);
                for number in [u64::from(lost::RING_FULL), 0, until_ns, process_events] {
                    event.push_number(number);
                }
                event
            },
        );
        let firsts = Firsts::of(self);
        let threads: Vec<Event<'_>> =
            self.threads.iter().map(|(tid, facts)| self.to_event(*tid, facts, &firsts)).collect();
        lost.chain(self.groups.to_events()).chain(threads).chain(self.descriptor_events(firsts))
    }

    fn to_event<'a>(&'a self, tid: u32, facts: &'a ThreadFacts, firsts: &Firsts) -> Event<'a> {
        let mut event = Event::new(Kind::Process, facts.as_of_ns);
        event.pid = facts.pid;
        event.tid = tid;
        event.flags = if facts.has_ended { flag::NO_RETURN } else { 0 };
        let unknown = u32::MAX;
        let who = facts.credentials.unwrap_or(Credentials {
            uid: unknown,
            gid: unknown,
            euid: unknown,
            egid: unknown,
        });
        let [files_of, directory_of] = firsts.of_thread(self, tid);
        event.push_number(u64::from(facts.ppid));
        event.push_number(facts.start_ns);
        let others = [who.uid, who.gid, who.euid, who.egid, facts.session, files_of, directory_of];
        for number in others {
            event.push_number(u64::from(number));
        }
        for (index, bytes) in [&facts.comm, &facts.program, &facts.args].into_iter().enumerate() {
            event.attach(Attached { index: index as u8, flags: 0, bytes });
        }
        if let Some(directory) = self.directory(tid).filter(|_| directory_of == tid) {
            event.attach(Attached { index: 3, flags: 0, bytes: &directory.file });
        }
        if let Some(groups) = self.groups.of_process(tid).filter(|_| tid == facts.pid) {
            let bytes = groups.text();
            event.attach(Attached { index: ATTACHMENT_CGROUPS, flags: 0, bytes });
        }
        event
    }
}

/// The credentials that begin at number `place` of an event.
fn credentials_of(event: &Event<'_>, place: usize) -> Credentials {
    let number = |after: usize| event.number(place + after) as u32;
    Credentials { uid: number(0), gid: number(1), euid: number(2), egid: number(3) }
}

impl<'a> Attached<'a> {
    /// The bytes up to the first NUL: names in the ring have a fixed length.
    pub fn text(&self) -> &'a [u8] {
        let end = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(self.bytes.len());
        self.bytes.get(..end).unwrap_or_default()
    }
}

/// The longest name a thread can have, without the NUL.
pub const COMM_LENGTH_MAX: usize = COMM_BYTES - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(kind: Kind, ts_ns: u64, pid: u32, tid: u32) -> Event<'static> {
        let mut event = Event::new(kind, ts_ns);
        (event.pid, event.tid) = (pid, tid);
        event
    }

    fn rename(ts_ns: u64, tid: u32, comm: &'static [u8]) -> Event<'static> {
        let mut event = thread(Kind::ProcessRename, ts_ns, tid, tid);
        event.attach(Attached { index: 0, flags: 0, bytes: comm });
        event
    }

    #[test]
    fn a_child_has_its_parents_name_until_it_gets_its_own() {
        let mut processes = Processes::default();
        processes.apply(&rename(10, 1, b"shell\0\0\0"), Abi::X86_64);
        let mut fork = thread(Kind::ProcessFork, 20, 1, 1);
        fork.push_number(2);
        fork.push_number(2);
        processes.apply(&fork, Abi::X86_64);
        assert_eq!(processes.comm(2), b"shell");
        assert_eq!(processes.get(2).map(|facts| facts.ppid), Some(1));
        processes.apply(&rename(30, 2, b"cat\0"), Abi::X86_64);
        assert_eq!(processes.comm(2), b"cat");
        processes.apply(&thread(Kind::ProcessExit, 40, 2, 2), Abi::X86_64);
        assert!(processes.get(2).is_none());
        assert_eq!(
            processes.bytes(),
            processes.iter().map(|(_, facts)| facts.bytes()).sum::<u64>()
        );
    }

    /// `ps` said a parent that had long ended, or the maker where the maker had asked for
    /// a sibling.
    #[test]
    fn orphans_and_siblings_have_the_parents_the_kernel_gave_them() {
        let fork = |ts_ns, by: (u32, u32), child: (u32, u32), shares: u32| {
            let mut fork = thread(Kind::ProcessFork, ts_ns, by.0, by.1);
            for number in [child.0, child.1, shares] {
                fork.push_number(u64::from(number));
            }
            fork
        };
        let end = |ts_ns, pid, tid, reaper: u64| {
            let mut end = thread(Kind::ProcessExit, ts_ns, pid, tid);
            for number in [0, 0, reaper] {
                end.push_number(number);
            }
            end
        };
        let mut processes = Processes::default();
        let parent = |processes: &Processes, pid| processes.get(pid).map(|facts| facts.ppid);
        processes.apply(&rename(5, 1, b"init"), Abi::X86_64);
        processes.apply(&fork(10, (1, 1), (2, 2), 0), Abi::X86_64);
        processes.apply(&fork(20, (2, 2), (2, 3), 0), Abi::X86_64);
        processes.apply(&fork(30, (2, 3), (4, 4), 0), Abi::X86_64);
        processes.apply(&fork(40, (2, 3), (5, 5), shared::PARENT), Abi::X86_64);
        assert_eq!([4, 5].map(|pid| parent(&processes, pid)), [Some(2), Some(1)]);
        processes.apply(&end(50, 2, 3, 0), Abi::X86_64);
        assert_eq!(parent(&processes, 4), Some(2), "another thread inherits");
        processes.apply(&end(60, 2, 2, 1), Abi::X86_64);
        assert_eq!([2, 4].map(|pid| parent(&processes, pid)), [None, Some(1)]);
        processes.apply(&end(70, 4, 4, 1), Abi::X86_64);
        processes.apply(&end(80, 5, 5, 1), Abi::X86_64);
        assert_eq!(processes.children.len(), 1, "{processes:?}");
    }

    #[test]
    fn a_fact_newer_than_an_event_wins() {
        let mut processes = Processes::default();
        processes.insert(
            7,
            ThreadFacts { pid: 7, as_of_ns: 100, comm: b"new".to_vec(), ..ThreadFacts::default() },
        );
        processes.apply(&rename(99, 7, b"old"), Abi::X86_64);
        assert_eq!(processes.comm(7), b"new");
        processes.apply(&rename(101, 7, b"newer"), Abi::X86_64);
        assert_eq!(processes.comm(7), b"newer");
    }

    /// A host with many threads of long command lines made the baseline larger than
    /// the whole window, which then emptied itself.
    #[test]
    fn the_baseline_keeps_its_bound_and_says_what_it_left_out() {
        let mut processes = Processes::default();
        processes.set_bytes_max(50_000);
        for tid in 1..1_000 {
            let facts = ThreadFacts { pid: tid, args: vec![b'x'; 4_000], ..Default::default() };
            processes.insert(tid, facts);
            assert!(processes.bytes() <= 50_000);
        }
        assert!(processes.len() > 12, "threads without arguments still fit");
        assert_eq!(processes.len() as u64 + processes.cut(), 999 + without_args(&processes));
    }

    /// The bound was that of the start: with less memory after a reload, and on a
    /// host whose `/proc` had more from the beginning, nothing else had room.
    #[test]
    fn a_bound_that_is_set_later_holds_for_what_is_there() {
        let mut processes = Processes::default();
        for tid in 1..=100 {
            let args = vec![b'x'; if tid % 2 == 0 { 1_000 } else { 0 }];
            processes.insert(tid, ThreadFacts { pid: tid, args, ..Default::default() });
        }
        processes.set_bytes_max(40_000);
        assert!(processes.bytes() <= 40_000 && processes.len() == 100, "{}", processes.bytes());
        assert_eq!(processes.cut() + 50, without_args(&processes));
        processes.set_bytes_max(1_000);
        assert!(processes.bytes() <= 1_000 && !processes.is_empty());
        assert!(processes.cut() > 90, "{}", processes.cut());
        processes.set_bytes_max(u64::MAX);
        processes.insert(7, ThreadFacts { args: vec![b'x'; 5_000], ..Default::default() });
        assert_eq!(processes.get(7).map(|facts| facts.args.len()), Some(5_000));
        let bytes: u64 = processes.iter().map(|(_, facts)| facts.bytes()).sum();
        assert_eq!(processes.bytes(), bytes);
    }

    /// Threads that are there, but were counted because their arguments are not.
    fn without_args(processes: &Processes) -> u64 {
        processes.iter().filter(|(_, facts)| facts.args.is_empty()).count() as u64
    }

    #[test]
    fn as_events_and_back_is_the_same() {
        let mut processes = Processes::default();
        processes.apply(&rename(10, 1, b"one"), Abi::X86_64);
        processes.apply(&rename(11, 2, b"two"), Abi::X86_64);
        let mut again = Processes::default();
        for event in processes.to_events() {
            again.apply(&event, Abi::X86_64);
        }
        assert_eq!(again.iter().collect::<Vec<_>>(), processes.iter().collect::<Vec<_>>());
    }
}
