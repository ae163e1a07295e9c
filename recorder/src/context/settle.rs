//! What happened to open files behind their descriptors, written into the tables.

use std::sync::Arc;

use super::{Processes, calls::Firsts, tables::OpenFile};
use crate::event::Event;

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
        let firsts = Firsts::of(self);
        for tid in firsts.with_files() {
            let files = self.files.get(tid).into_iter().flat_map(|files| files.iter());
            let settled: Vec<(i32, Vec<u8>)> =
                files.filter_map(|(fd, open)| Some((fd, self.settled(tid, open)?))).collect();
            if !settled.is_empty() {
                self.files.change(tid, |files| {
                    settled.into_iter().for_each(|(fd, file)| files.describe(fd, Arc::from(file)));
                });
            }
        }
        for tid in firsts.with_directory() {
            let directory = self.directories.get(tid);
            if let Some(file) = directory.and_then(|directory| self.renamed(tid, directory)) {
                self.directories.change(tid, |directory| directory.file = Arc::from(file));
            }
        }
        self.renames = Default::default();
        self.connections = Default::default();
    }

    fn settled(&self, tid: u32, open: &OpenFile) -> Option<Vec<u8>> {
        self.connections.changed(open).or_else(|| self.renamed(tid, open))
    }

    /// A connection came to be in another state.
    pub(super) fn connection(&mut self, event: &Event<'_>) {
        if self.connections.is_full() {
            self.settle();
        }
        self.connections.change(event);
    }
}
