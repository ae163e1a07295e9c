//! What happened to open files behind their descriptors, written into the tables.

use std::sync::Arc;

use super::{Processes, calls::Firsts, connections::CHANGE_BYTES, tables::OpenFile};
use crate::event::Event;

/// What is not settled takes at most this part of all bytes.
const UNSETTLED_SHARE: u64 = 16;

impl Processes {
    /// Whether nothing is left for [`Processes::settle`].
    pub fn is_settled(&self) -> bool {
        self.renames.is_empty() && self.connections.is_empty()
    }

    /// Gives every open file the name it has now, and every connection its state. Until
    /// then they are as the kernel last described them.
    pub fn settle(&mut self) {
        if self.is_settled() {
            return;
        }
        // What is kept for this goes when it is done.
        let room = self.bytes_max.saturating_add(self.renames.bytes() + self.connections.bytes());
        let firsts = Firsts::of(self);
        for tid in firsts.with_files() {
            let files = self.files.get(tid).into_iter().flat_map(|files| files.iter());
            let settled: Vec<(i32, Vec<u8>)> =
                files.filter_map(|(fd, open)| Some((fd, self.settled(tid, open)?))).collect();
            let bytes: usize = settled.iter().map(|(_, file)| file.len()).sum();
            if !settled.is_empty() && self.has_room(bytes, room) {
                self.files.change(tid, |files| {
                    settled.into_iter().for_each(|(fd, file)| files.describe(fd, Arc::from(file)));
                });
            }
        }
        for tid in firsts.with_directory() {
            let directory = self.directories.get(tid);
            if let Some(file) = directory.and_then(|directory| self.renamed(tid, directory))
                && self.has_room(file.len(), room)
            {
                self.directories.change(tid, |directory| directory.file = Arc::from(file));
            }
        }
        self.renames = Default::default();
        self.connections = Default::default();
    }

    /// Whether there is room for so many more bytes, else counts what is left as it was.
    fn has_room(&mut self, bytes: usize, room: u64) -> bool {
        let has_room = self.bytes() + bytes as u64 <= room;
        self.cut += u64::from(!has_room);
        has_room
    }

    fn settled(&self, tid: u32, open: &OpenFile) -> Option<Vec<u8>> {
        self.connections.changed(open).or_else(|| self.renamed(tid, open))
    }

    /// A connection came to be in another state.
    pub(super) fn connection(&mut self, event: &Event<'_>) {
        if self.makes_room(CHANGE_BYTES) {
            self.connections.change(event);
        }
    }

    /// Makes room for so many bytes of what is to be settled; counts what finds none.
    pub(super) fn makes_room(&mut self, bytes: u64) -> bool {
        let unsettled = self.renames.bytes() + self.connections.bytes();
        let is_much = unsettled >= self.bytes_max / UNSETTLED_SHARE;
        if is_much || self.renames.is_full() || self.connections.is_full() {
            self.settle();
        }
        let fits = self.bytes() + bytes <= self.bytes_max;
        self.cut += u64::from(!fits);
        fits
    }
}
