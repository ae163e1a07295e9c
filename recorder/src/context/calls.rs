//! What calls do to the tables of their callers, and the tables as events.

use std::{collections::HashMap, sync::Arc};

use super::{
    Processes,
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
        let effect = syscall::effect(call.abi(native), call.nr());
        if effect != Effect::Nothing {
            self.effect(event, call, effect);
        }
        for attached in event.attached() {
            match attached.index {
                ATTACHMENT_FILES => self.left_files(event, attached),
                ATTACHMENT_CREDENTIALS => self.left_credentials(event, attached),
                _ => {}
            }
        }
    }

    fn effect(&mut self, event: &Event<'_>, call: Call<'_, '_>, effect: Effect) {
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
            Effect::Session if !failed => {
                self.update(tid, ts_ns, |facts| facts.session = event.pid);
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

    fn left_files(&mut self, event: &Event<'_>, attached: &Attached<'_>) {
        for file in File::all(attached.bytes) {
            let open = open_file(&file, event.ts_ns);
            if file.head.fd == FILE_WORKING_DIRECTORY {
                self.enter_directory(event.tid, open);
                continue;
            }
            if self.bytes() + attached.bytes.len() as u64 > self.bytes_max {
                self.cut += 1;
                continue;
            }
            if self.files.get(event.tid).is_none() && self.get(event.tid).is_some() {
                self.files.set(event.tid, Descriptors::default());
            }
            self.change_files(event.tid, event.ts_ns, |files| files.install(file.head.fd, open));
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
