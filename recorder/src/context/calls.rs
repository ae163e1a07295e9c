//! What calls do to the tables of their callers, and the tables as events.

use std::{collections::HashMap, sync::Arc};

use super::{
    Processes,
    ends::{waited, waited_by_id},
    tables::{Descriptors, OpenFile},
};
use crate::event::{
    Attached, Call, Event, File, Kind,
    class::{EBADF, F_SETFD, FIOCLEX, FIONCLEX},
    syscall::{self, Abi, Effect},
    wire::{
        ATTACHMENT_CREDENTIALS, ATTACHMENT_FILES, Credentials, FILE_WORKING_DIRECTORY, file_flag,
        shared,
    },
};

/// `CLOSE_RANGE_UNSHARE` and `CLOSE_RANGE_CLOEXEC`, include/uapi/linux/close_range.h.
const CLOSE_RANGE_UNSHARE: u64 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u64 = 1 << 2;

/// `CLONE_FS` and `CLONE_FILES`, include/uapi/linux/sched.h. A new mount or user namespace
/// comes with a directory of its own (kernel/fork.c, `ksys_unshare`).
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// `FD_CLOEXEC`, include/uapi/asm-generic/fcntl.h.
const FD_CLOEXEC: u64 = 1;

impl Processes {
    pub(super) fn call(&mut self, event: &Event<'_>, native: Abi) {
        let Some(call) = Call::of(event).filter(Call::returned) else { return };
        let abi = call.abi(native);
        let effect = syscall::effect(abi, call.nr());
        if effect != Effect::Nothing {
            self.effect(event, call, abi, effect);
        }
        for attached in event.attached() {
            match attached.index {
                ATTACHMENT_FILES => self.left_files(event, event.tid, attached),
                ATTACHMENT_CREDENTIALS => self.left_credentials(event, attached),
                _ => {}
            }
        }
    }

    fn effect(&mut self, event: &Event<'_>, call: Call<'_, '_>, abi: Abi, effect: Effect) {
        let arg = |place: usize| call.args().get(place).copied().unwrap_or_default();
        let (tid, ts_ns) = (event.tid, event.ts_ns);
        let failed = call.errno().is_some();
        let fd = arg(0) as u32 as i32;
        match effect {
            Effect::Close if call.errno() != Some(EBADF) => {
                let entry_ns = ts_ns.saturating_sub(call.dur_ns().unwrap_or_default());
                self.change_files(tid, ts_ns, |files| files.close(fd, entry_ns));
            }
            Effect::CloseRange if !failed => self.close_range(event, arg(0), arg(1), arg(2)),
            Effect::Fcntl if !failed && arg(1) == F_SETFD => {
                self.change_files(tid, ts_ns, |files| files.mark(fd, arg(2) & FD_CLOEXEC != 0));
            }
            Effect::Ioctl if !failed && [FIOCLEX, FIONCLEX].contains(&arg(1)) => {
                self.change_files(tid, ts_ns, |files| files.mark(fd, arg(1) == FIOCLEX));
            }
            Effect::Unshare if !failed => {
                if arg(0) & CLONE_FILES != 0 {
                    self.files.copy(tid, tid);
                }
                if arg(0) & (CLONE_FS | CLONE_NEWNS | CLONE_NEWUSER) != 0 {
                    self.directories.copy(tid, tid);
                }
            }
            Effect::Unlink if !failed => self.unlink(event, call, abi),
            Effect::Rename if !failed => self.rename(event, call, abi),
            Effect::Wait if !failed => self.take_note(event, waited(event, call)),
            Effect::WaitId if !failed => self.take_note(event, waited_by_id(event, call, abi)),
            Effect::Session if !failed => {
                // Whichever thread called it: the leader stands for the process.
                self.update(event.pid, ts_ns, |facts| {
                    (facts.pid, facts.session) = (event.pid, event.pid);
                });
            }
            _ => {}
        }
    }

    fn close_range(&mut self, event: &Event<'_>, first: u64, last: u64, flags: u64) {
        let number = |number: u64| i32::try_from(number as u32).unwrap_or(i32::MAX);
        if flags & CLOSE_RANGE_UNSHARE != 0 {
            self.files.copy(event.tid, event.tid);
        }
        self.change_files(event.tid, event.ts_ns, |files| {
            if flags & CLOSE_RANGE_CLOEXEC != 0 {
                files.mark_range(number(first), number(last));
            } else {
                files.close_range(number(first), number(last));
            }
        });
    }

    /// Changes the descriptors of a thread, where they are older than `ts_ns`.
    pub(super) fn change_files(
        &mut self,
        tid: u32,
        ts_ns: u64,
        change: impl FnOnce(&mut Descriptors),
    ) {
        if self.files.get(tid).is_some_and(|files| !files.is_newer(ts_ns)) {
            self.files.change(tid, change);
        }
    }

    /// What an event says that a thread has open.
    fn left_files(&mut self, event: &Event<'_>, tid: u32, attached: &Attached<'_>) {
        for file in File::all(attached.bytes) {
            let open = open_file(&file, event.ts_ns);
            if file.head.fd == FILE_WORKING_DIRECTORY {
                self.enter_directory(tid, open);
                continue;
            }
            if file.head.flags & file_flag::CLOSED != 0 {
                self.change_files(tid, event.ts_ns, |files| files.remove(file.head.fd));
                continue;
            }
            if self.bytes() + attached.bytes.len() as u64 > self.bytes_max {
                self.cut += 1;
                continue;
            }
            if self.files.get(tid).is_none() && self.get(tid).is_some() {
                self.files.set(tid, Descriptors::default());
            }
            self.change_files(tid, event.ts_ns, |files| files.install(file.head.fd, open));
        }
    }

    fn enter_directory(&mut self, tid: u32, open: OpenFile) {
        let is_older = |old: &OpenFile| old.as_of_ns <= open.as_of_ns;
        match self.directories.get(tid) {
            Some(old) if is_older(old) => self.directories.change(tid, |old| *old = open),
            None if self.get(tid).is_some() => self.directories.set(tid, open),
            _ => {}
        }
    }

    fn left_credentials(&mut self, event: &Event<'_>, attached: &Attached<'_>) {
        let number = |at: usize| {
            let bytes = attached.bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let credentials = || {
            Some(Credentials {
                uid: number(0)?,
                gid: number(4)?,
                euid: number(8)?,
                egid: number(12)?,
            })
        };
        if let Some(credentials) = credentials() {
            self.update(event.tid, event.ts_ns, |facts| facts.credentials = Some(credentials));
        }
    }

    /// The tables of a new thread.
    pub(super) fn fork_tables(&mut self, event: &Event<'_>, is_thread: bool) {
        let child = event.number(1) as u32;
        let shares = event.numbers().get(2).map(|shares| *shares as u32);
        let shares = shares.filter(|shares| shares & shared::UNKNOWN == 0);
        // Without the kernel's word: threads share both, processes none.
        let shares = shares.unwrap_or(if is_thread { u32::MAX } else { 0 });
        if shares & shared::FILES != 0 {
            self.files.join(child, event.tid);
        } else {
            self.files.copy(child, event.tid);
        }
        if shares & shared::DIRECTORY != 0 {
            self.directories.join(child, event.tid);
        } else {
            self.directories.copy(child, event.tid);
        }
        // The copies were made when the call began: what other threads of the parent did
        // since then is not the child's.
        if let Some(differing) = event.attachment(ATTACHMENT_FILES) {
            self.left_files(event, child, differing);
        }
    }

    /// The tables of a thread at the window's left edge: its own, which follows, or that of
    /// a thread before it.
    pub(super) fn tables_before(&mut self, event: &Event<'_>) {
        let of = |place: usize| event.numbers().get(place).map(|tid| *tid as u32);
        match of(7) {
            Some(first) if first == event.tid => {
                self.files.set(event.tid, Descriptors::as_of(event.ts_ns));
            }
            Some(first) if first != 0 => self.files.join(event.tid, first),
            _ => self.files.leave(event.tid),
        }
        match of(8) {
            Some(first) if first == event.tid => {
                let file = event.attachment(3).and_then(|attached| File::first(attached.bytes));
                if let Some(file) = file {
                    self.directories.set(event.tid, open_file(&file, event.ts_ns));
                }
            }
            Some(first) if first != 0 => self.directories.join(event.tid, first),
            _ => self.directories.leave(event.tid),
        }
    }

    /// A descriptor at the window's left edge.
    pub(super) fn open_before(&mut self, event: &Event<'_>) {
        let fd = event.number(0) as u32 as i32;
        let Some(attached) = event.attachment(0) else { return };
        let Some(file) = File::first(attached.bytes) else { return };
        if self.bytes() + attached.bytes.len() as u64 > self.bytes_max {
            self.cut += 1;
            return;
        }
        let mut open = open_file(&file, event.ts_ns);
        open.close_on_exec = event.number(1) != 0;
        self.files.change(event.tid, |files| files.insert(fd, open));
    }

    /// Sets the tables of a thread, as they were read from `/proc`.
    #[cfg(feature = "capture")]
    pub(super) fn set_tables(&mut self, tid: u32, files: Descriptors, directory: Option<OpenFile>) {
        self.files.set(tid, files);
        match directory {
            Some(directory) => self.directories.set(tid, directory),
            None => self.directories.leave(tid),
        }
        if self.bytes() > self.bytes_max {
            self.leave_tables(tid);
            self.cut += 1;
        }
    }

    /// The same tables as another thread.
    #[cfg(feature = "capture")]
    pub(super) fn join_tables(&mut self, tid: u32, other: u32) {
        self.files.join(tid, other);
        self.directories.join(tid, other);
    }

    /// Every table as events, of the first thread that has it.
    pub(super) fn descriptor_events(&self, firsts: Firsts) -> impl Iterator<Item = Event<'_>> {
        let own = move |tid: u32| firsts.of_thread(self, tid)[0] == tid;
        let threads = self.threads.iter().filter(move |(tid, _)| own(**tid));
        threads.flat_map(|(tid, facts)| {
            let files = self.descriptors(*tid).into_iter().flat_map(Descriptors::iter);
            files.map(|(fd, open)| {
                let mut event = Event::new(Kind::Descriptor, open.as_of_ns);
                (event.pid, event.tid) = (facts.pid, *tid);
                event.push_number(i64::from(fd).cast_unsigned());
                event.push_number(u64::from(open.close_on_exec));
                event.attach(Attached { index: 0, flags: 0, bytes: &open.file });
                event
            })
        })
    }
}

/// The first thread of each table.
pub(super) struct Firsts {
    files: HashMap<u64, u32>,
    directories: HashMap<u64, u32>,
}

impl Firsts {
    pub(super) fn of(processes: &Processes) -> Firsts {
        let mut firsts = Firsts { files: HashMap::new(), directories: HashMap::new() };
        for tid in processes.threads.keys() {
            if let Some(number) = processes.files.number(*tid) {
                firsts.files.entry(number).or_insert(*tid);
            }
            if let Some(number) = processes.directories.number(*tid) {
                firsts.directories.entry(number).or_insert(*tid);
            }
        }
        firsts
    }

    /// Threads with a table of descriptors, one for each table.
    pub(super) fn with_files(&self) -> impl Iterator<Item = u32> {
        self.files.values().copied()
    }

    /// Threads with a working directory, one for each that is shared.
    pub(super) fn with_directory(&self) -> impl Iterator<Item = u32> {
        self.directories.values().copied()
    }

    /// For descriptors and for the directory; 0 where a thread has none.
    pub(super) fn of_thread(&self, processes: &Processes, tid: u32) -> [u32; 2] {
        let files = processes.files.number(tid).and_then(|number| self.files.get(&number));
        let directory =
            processes.directories.number(tid).and_then(|number| self.directories.get(&number));
        [files, directory].map(|first| first.copied().unwrap_or_default())
    }
}

fn open_file(file: &File<'_>, as_of_ns: u64) -> OpenFile {
    OpenFile {
        file: Arc::from(file.raw()),
        close_on_exec: file.head.flags & file_flag::CLOSE_ON_EXEC != 0,
        as_of_ns,
        took_over: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::ThreadFacts,
        event::{
            file,
            wire::{FileHead, flag},
        },
    };

    /// A call of x86-64 by thread 7 that took 10 ns.
    fn call(ts_ns: u64, nr: u64, args: &[u64], ret: i64) -> Event<'static> {
        let mut event = Event::new(Kind::Syscall, ts_ns);
        (event.pid, event.tid) = (7, 7);
        for number in [nr, ret.cast_unsigned(), 10].iter().chain(args) {
            event.push_number(*number);
        }
        event
    }

    fn file(fd: i32, path: &str, flags: u16) -> Vec<u8> {
        file::describe(FileHead { fd, flags, ..FileHead::default() }, path.as_bytes(), None)
    }

    const OPENAT: u64 = 257;
    const CLOSE: u64 = 3;
    const CLOSE_ON_EXEC: u16 = file_flag::CLOSE_ON_EXEC;

    /// A process 7 of which everything is known at time 0.
    fn known() -> Processes {
        let mut processes = Processes::default();
        processes.insert(7, ThreadFacts { pid: 7, ..ThreadFacts::default() });
        processes.files.set(7, Descriptors::default());
        processes
    }

    fn open(processes: &mut Processes, ts_ns: u64, tid: u32, file: &[u8]) {
        let fd = File::first(file).unwrap().head.fd;
        let mut event = call(ts_ns, OPENAT, &[0; 4], i64::from(fd));
        event.tid = tid;
        event.attach(Attached { index: ATTACHMENT_FILES, flags: 0, bytes: file });
        processes.apply(&event, Abi::X86_64);
    }

    fn names(processes: &Processes, tid: u32) -> Vec<(i32, String)> {
        let files = processes.descriptors(tid).into_iter().flat_map(Descriptors::iter);
        files
            .map(|(fd, open)| {
                let name = open.file().unwrap().name();
                (fd, String::from_utf8(name).unwrap())
            })
            .collect()
    }

    fn fork(processes: &mut Processes, ts_ns: u64, child: (u32, u32), shares: u32) {
        let mut event = Event::new(Kind::ProcessFork, ts_ns);
        (event.pid, event.tid) = (7, 7);
        for number in [child.0, child.1, shares] {
            event.push_number(u64::from(number));
        }
        processes.apply(&event, Abi::X86_64);
    }

    /// The open of another thread got the number while the close had not returned yet.
    #[test]
    fn a_close_that_returns_late_does_not_close_what_came_meanwhile() {
        let mut processes = known();
        open(&mut processes, 100, 7, &file(3, "/first", 0));
        // The close is entered at 195 and returns at 205.
        open(&mut processes, 200, 7, &file(3, "/second", 0));
        processes.apply(&call(205, CLOSE, &[3], 0), Abi::X86_64);
        assert_eq!(names(&processes, 7), [(3, "/second".to_string())]);
        processes.apply(&call(300, CLOSE, &[3], 0), Abi::X86_64);
        assert_eq!(names(&processes, 7), []);
        // Nothing was open: what came while the close waited is what it closed.
        open(&mut processes, 400, 7, &file(3, "/third", 0));
        processes.apply(&call(405, CLOSE, &[3], 0), Abi::X86_64);
        assert_eq!(names(&processes, 7), []);
    }

    #[test]
    fn a_failing_close_has_closed_unless_there_was_nothing() {
        let mut processes = known();
        open(&mut processes, 100, 7, &file(3, "/nfs", 0));
        processes.apply(&call(150, CLOSE, &[3], -i64::from(EBADF)), Abi::X86_64);
        assert_eq!(names(&processes, 7).len(), 1);
        processes.apply(&call(200, CLOSE, &[3], -5), Abi::X86_64);
        assert_eq!(names(&processes, 7), []);
    }

    #[test]
    fn a_fork_shares_or_copies_as_the_kernel_says() {
        let mut processes = known();
        open(&mut processes, 100, 7, &file(3, "/a", 0));
        fork(&mut processes, 110, (7, 8), shared::FILES | shared::DIRECTORY);
        fork(&mut processes, 120, (9, 9), 0);
        fork(&mut processes, 130, (10, 10), shared::FILES);
        processes.apply(&call(200, CLOSE, &[3], 0), Abi::X86_64);
        open(&mut processes, 210, 8, &file(4, "/b", 0));
        let b = || vec![(4, "/b".to_string())];
        assert_eq!([7, 8, 10].map(|tid| names(&processes, tid)), [b(), b(), b()]);
        assert_eq!(names(&processes, 9), [(3, "/a".to_string())]);
        // unshare(CLONE_FILES)
        processes.apply(&call(300, 272, &[CLONE_FILES], 0), Abi::X86_64);
        processes.apply(&call(310, CLOSE, &[4], 0), Abi::X86_64);
        assert_eq!([7, 8, 10].map(|tid| names(&processes, tid)), [vec![], b(), b()]);
    }

    /// Another thread closed, opened and moved on after the kernel had copied the tables and
    /// before it told of the child, which had what its parent had then.
    #[test]
    fn a_child_has_what_its_fork_says_it_has() {
        let mut processes = known();
        open(&mut processes, 100, 7, &file(3, "/kept", 0));
        open(&mut processes, 100, 7, &file(4, "/opened/since", 0));
        open(&mut processes, 100, 7, &file(FILE_WORKING_DIRECTORY, "/since", 0));
        let differing = [
            padded(file(FILE_WORKING_DIRECTORY, "/before", 0)),
            padded(file::describe(
                FileHead { fd: 4, flags: file_flag::CLOSED, ..FileHead::default() },
                b"",
                None,
            )),
            file(5, "/closed/since", CLOSE_ON_EXEC),
        ]
        .concat();
        let mut event = Event::new(Kind::ProcessFork, 110);
        (event.pid, event.tid) = (7, 7);
        for number in [9, 9, 0] {
            event.push_number(number);
        }
        event.attach(Attached { index: ATTACHMENT_FILES, flags: 0, bytes: &differing });
        processes.apply(&event, Abi::X86_64);
        let expected = [(3, "/kept".to_string()), (5, "/closed/since".to_string())];
        assert_eq!(names(&processes, 9), expected);
        assert!(processes.file(9, 5).unwrap().close_on_exec);
        let directory = processes.directory(9).and_then(OpenFile::file).unwrap();
        assert_eq!(directory.name(), b"/before");
        assert_eq!(names(&processes, 7).len(), 2, "the parent has what it has");
    }

    /// As it stands before another one.
    fn padded(mut file: Vec<u8>) -> Vec<u8> {
        file.resize(file.len().next_multiple_of(8), 0);
        file
    }

    #[test]
    fn an_exec_closes_what_is_marked() {
        let mut processes = known();
        for (fd, flags) in [(3, CLOSE_ON_EXEC), (4, 0), (5, 0), (6, CLOSE_ON_EXEC), (7, 0)] {
            open(&mut processes, 100, 7, &file(fd, "/file", flags));
        }
        // fcntl(5, F_SETFD, FD_CLOEXEC), ioctl(6, FIONCLEX), close_range(7, ~0, CLOEXEC)
        processes.apply(&call(110, 72, &[5, F_SETFD, FD_CLOEXEC], 0), Abi::X86_64);
        processes.apply(&call(120, 16, &[6, FIONCLEX], 0), Abi::X86_64);
        let every = u64::from(u32::MAX);
        processes.apply(&call(130, 436, &[7, every, CLOSE_RANGE_CLOEXEC], 0), Abi::X86_64);
        let mut exec = Event::new(Kind::ProcessExec, 200);
        (exec.pid, exec.tid) = (7, 7);
        for number in [7, 0, 1000, 1000, 0, 0] {
            exec.push_number(number);
        }
        processes.apply(&exec, Abi::X86_64);
        let left: Vec<i32> = names(&processes, 7).into_iter().map(|(fd, _)| fd).collect();
        assert_eq!(left, [4, 6]);
        let who = processes.get(7).and_then(|facts| facts.credentials).unwrap();
        assert_eq!((who.uid, who.euid), (1000, 0));
    }

    /// A program whose first thread ends has lost its name, and the program that another
    /// thread then started had no parent.
    #[test]
    fn a_leader_that_ended_stays_until_its_threads_have() {
        let mut processes = known();
        fork(&mut processes, 110, (7, 8), shared::FILES);
        let end = |tid, ts_ns| {
            let mut event = Event::new(Kind::ProcessExit, ts_ns);
            (event.pid, event.tid) = (7, tid);
            event
        };
        processes.apply(&end(7, 200), Abi::X86_64);
        assert!(processes.get(7).is_some_and(|facts| facts.has_ended));
        let mut again = Processes::default();
        processes.to_events().for_each(|event| again.apply(&event, Abi::X86_64));
        assert!(again.get(7).is_some_and(|facts| facts.has_ended));
        processes.apply(&end(8, 300), Abi::X86_64);
        assert!(processes.is_empty() && processes.bytes() == 0, "{processes:?}");
    }

    #[test]
    fn tables_as_events_and_back_are_the_same() {
        let mut processes = known();
        open(&mut processes, 100, 7, &file(FILE_WORKING_DIRECTORY, "/home", 0));
        open(&mut processes, 100, 7, &file(3, "/a", CLOSE_ON_EXEC));
        processes.apply(&call(110, 72, &[3, F_SETFD, 0], 0), Abi::X86_64);
        fork(&mut processes, 120, (7, 8), shared::FILES | shared::DIRECTORY);
        fork(&mut processes, 130, (9, 9), 0);
        let mut lost = Event::new(Kind::Lost, 140);
        for number in [1, 5, 150] {
            lost.push_number(number);
        }
        processes.apply(&lost, Abi::X86_64);
        let mut events: Vec<_> = processes.to_events().collect();
        assert!(events.iter().filter(|event| event.kind == Kind::Descriptor).count() == 2);
        let mut again = Processes::default();
        events.drain(..).for_each(|event| again.apply(&event, Abi::X86_64));
        assert_eq!(again.uncertain_ns(), 150);
        assert_eq!(again.bytes(), processes.bytes());
        for tid in [7, 8, 9] {
            assert_eq!(names(&again, tid), [(3, "/a".to_string())]);
            assert!(!again.file(tid, 3).unwrap().close_on_exec);
            assert!(again.directory(tid).is_some());
        }
        processes.apply(&call(200, CLOSE, &[3], 0), Abi::X86_64);
        again.apply(&call(200, CLOSE, &[3], 0), Abi::X86_64);
        assert_eq!(
            [7, 8, 9].map(|tid| names(&again, tid)),
            [7, 8, 9].map(|tid| names(&processes, tid))
        );
    }

    #[test]
    fn tables_leave_before_threads_when_there_is_no_room() {
        let mut processes = known();
        for fd in 3..200 {
            open(&mut processes, 100, 7, &file(fd, "/a/path/of/some/length", 0));
        }
        fork(&mut processes, 120, (9, 9), 0);
        let most = processes.bytes();
        processes.set_bytes_max(most / 2);
        assert!(processes.bytes() <= most / 2 && processes.len() == 2 && processes.cut() > 0);
        let cut = processes.cut();
        processes.set_bytes_max(processes.bytes());
        open(&mut processes, 200, 7, &file(3, "/one/more", 0));
        assert!(processes.cut() > cut && processes.bytes() <= most / 2);
        let mut end = Event::new(Kind::ProcessExit, 300);
        for tid in [7, 9] {
            (end.pid, end.tid) = (tid, tid);
            end.flags = flag::NO_ARGS;
            processes.apply(&end, Abi::X86_64);
        }
        assert_eq!(processes.bytes(), 0);
    }
}
