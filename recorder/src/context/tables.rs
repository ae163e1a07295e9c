//! Tables that threads share: descriptors and working directories.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::event::File;

/// A file that is open, or a working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// What it is, see [`OpenFile::file`].
    pub file: Arc<[u8]>,
    /// Whether an exec closes it.
    pub close_on_exec: bool,
    /// When this was learnt.
    pub as_of_ns: u64,
    /// It came where another one was still open, whose close is to come yet.
    pub(super) took_over: bool,
}

impl OpenFile {
    /// What it is.
    pub fn file(&self) -> Option<File<'_>> {
        File::first(&self.file)
    }

    fn is_same_socket(&self, other: &OpenFile) -> bool {
        let inode =
            |open: &OpenFile| open.file().filter(File::is_socket).map(|file| file.head.inode);
        inode(self).is_some_and(|own| inode(other) == Some(own))
    }

    fn bytes(&self) -> u64 {
        // With what a tree keeps beside each entry.
        (size_of::<OpenFile>() + 16 + self.file.len()) as u64
    }
}

/// The descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    files: BTreeMap<i32, OpenFile>,
    /// What is older is in it.
    as_of_ns: u64,
    bytes: u64,
}

impl Descriptors {
    /// A table that was read at this moment.
    pub fn as_of(as_of_ns: u64) -> Descriptors {
        Descriptors { as_of_ns, ..Descriptors::default() }
    }

    /// Every descriptor, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &OpenFile)> {
        self.files.iter().map(|(fd, file)| (*fd, file))
    }

    /// What a descriptor refers to.
    pub fn get(&self, fd: i32) -> Option<&OpenFile> {
        self.files.get(&fd)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn is_newer(&self, ts_ns: u64) -> bool {
        self.as_of_ns > ts_ns
    }

    pub(super) fn insert(&mut self, fd: i32, file: OpenFile) {
        self.bytes += file.bytes();
        if let Some(old) = self.files.insert(fd, file) {
            self.bytes -= old.bytes();
        }
    }

    /// A descriptor that a call made, or shows with other addresses.
    pub(super) fn install(&mut self, fd: i32, mut file: OpenFile) {
        if let Some(old) = self.files.get(&fd) {
            // A socket keeps its number for life: this one only has other addresses.
            file.took_over = !file.is_same_socket(old) || old.took_over;
        }
        self.insert(fd, file);
    }

    /// A close that was entered at `entry_ns`. A descriptor is not given out while it is
    /// open: whatever came in its place meanwhile came after the close had done its work,
    /// however late the close returned.
    pub(super) fn close(&mut self, fd: i32, entry_ns: u64) {
        match self.files.get_mut(&fd) {
            Some(file) if file.took_over && file.as_of_ns >= entry_ns => file.took_over = false,
            _ => self.remove(fd),
        }
    }

    /// The same file, described anew.
    pub(super) fn describe(&mut self, fd: i32, file: Arc<[u8]>) {
        if let Some(open) = self.files.get_mut(&fd) {
            self.bytes -= open.bytes();
            open.file = file;
            self.bytes += open.bytes();
        }
    }

    pub(super) fn remove(&mut self, fd: i32) {
        if let Some(old) = self.files.remove(&fd) {
            self.bytes -= old.bytes();
        }
    }

    pub(super) fn close_range(&mut self, first: i32, last: i32) {
        let gone: Vec<i32> = self.range(first, last).collect();
        gone.into_iter().for_each(|fd| self.remove(fd));
    }

    pub(super) fn mark_range(&mut self, first: i32, last: i32) {
        let marked: Vec<i32> = self.range(first, last).collect();
        marked.into_iter().for_each(|fd| self.mark(fd, true));
    }

    fn range(&self, first: i32, last: i32) -> impl Iterator<Item = i32> {
        self.files.range(first..).take_while(move |(fd, _)| **fd <= last).map(|(fd, _)| *fd)
    }

    pub(super) fn mark(&mut self, fd: i32, close_on_exec: bool) {
        if let Some(file) = self.files.get_mut(&fd) {
            file.close_on_exec = close_on_exec;
        }
    }

    pub(super) fn close_on_exec(&mut self) {
        let gone: Vec<i32> =
            self.iter().filter(|(_, file)| file.close_on_exec).map(|(fd, _)| fd).collect();
        gone.into_iter().for_each(|fd| self.remove(fd));
    }
}

/// What has a size.
pub(super) trait Held {
    /// Bytes held.
    fn bytes(&self) -> u64;
}

impl Held for Descriptors {
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Held for OpenFile {
    fn bytes(&self) -> u64 {
        OpenFile::bytes(self)
    }
}

/// Values that threads have, some of them together.
#[derive(Clone, Debug)]
pub(super) struct Shared<T> {
    of_thread: HashMap<u32, u64>,
    values: HashMap<u64, Value<T>>,
    next: u64,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Value<T> {
    threads: u32,
    /// Copied only when one of those that have it changes it.
    value: Arc<T>,
}

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared { of_thread: HashMap::new(), values: HashMap::new(), next: 0, bytes: 0 }
    }
}

/// What the two tables take for one thread that has a value of its own.
const THREAD_BYTES: u64 = 80;

impl<T: Clone + Held> Shared<T> {
    pub(super) fn get(&self, tid: u32) -> Option<&T> {
        let value = self.of_thread.get(&tid)?;
        self.values.get(value).map(|value| value.value.as_ref())
    }

    /// A number that all threads with the same value have in common.
    pub(super) fn number(&self, tid: u32) -> Option<u64> {
        self.of_thread.get(&tid).copied()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives a thread a value of its own.
    pub(super) fn set(&mut self, tid: u32, value: T) {
        self.leave(tid);
        self.bytes += value.bytes() + THREAD_BYTES;
        self.next += 1;
        self.of_thread.insert(tid, self.next);
        self.values.insert(self.next, Value { threads: 1, value: Arc::new(value) });
    }

    /// Gives a thread the value of another one; they change it together.
    pub(super) fn join(&mut self, tid: u32, other: u32) {
        let Some(number) = self.of_thread.get(&other).copied() else { return self.leave(tid) };
        if self.of_thread.get(&tid) == Some(&number) {
            return;
        }
        self.leave(tid);
        if let Some(value) = self.values.get_mut(&number) {
            value.threads += 1;
            self.of_thread.insert(tid, number);
            self.bytes += THREAD_BYTES;
        }
    }

    /// Gives a thread a copy of the value of another one, or of its own.
    pub(super) fn copy(&mut self, tid: u32, other: u32) {
        let number = self.of_thread.get(&other);
        let Some(value) = number.and_then(|number| self.values.get(number)) else {
            return self.leave(tid);
        };
        let value = Arc::clone(&value.value);
        self.leave(tid);
        self.bytes += value.bytes() + THREAD_BYTES;
        self.next += 1;
        self.of_thread.insert(tid, self.next);
        self.values.insert(self.next, Value { threads: 1, value });
    }

    /// Changes the value of a thread, for all that have it.
    pub(super) fn change(&mut self, tid: u32, change: impl FnOnce(&mut T)) {
        let number = self.of_thread.get(&tid);
        let Some(value) = number.and_then(|number| self.values.get_mut(number)) else { return };
        self.bytes -= value.value.bytes();
        change(Arc::make_mut(&mut value.value));
        self.bytes += value.value.bytes();
    }

    /// Lets go of the largest values until at most `bytes_max` are held; answers how many
    /// went.
    pub(super) fn shrink(&mut self, bytes_max: u64) -> u64 {
        let mut sizes: Vec<(u64, u64)> =
            self.values.iter().map(|(number, value)| (value.value.bytes(), *number)).collect();
        sizes.sort_unstable_by_key(|(bytes, number)| Reverse((*bytes, *number)));
        let mut gone = 0;
        for (bytes, number) in sizes {
            if self.bytes <= bytes_max {
                break;
            }
            self.values.remove(&number);
            self.bytes -= bytes;
            gone += 1;
        }
        let before = self.of_thread.len();
        self.of_thread.retain(|_, number| self.values.contains_key(number));
        self.bytes -= (before - self.of_thread.len()) as u64 * THREAD_BYTES;
        gone
    }

    /// A thread has no value any more.
    pub(super) fn leave(&mut self, tid: u32) {
        let Some(number) = self.of_thread.remove(&tid) else { return };
        self.bytes -= THREAD_BYTES;
        if let Some(value) = self.values.get_mut(&number) {
            value.threads -= 1;
            if value.threads == 0 {
                self.bytes -= value.value.bytes();
                self.values.remove(&number);
            }
        }
    }
}
