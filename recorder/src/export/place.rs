//! What the state of the host adds to a call: the files behind its descriptors, and
//! where its paths begin.

use crate::{
    context::Processes,
    event::{
        Call, Event, File,
        syscall::{AT_FDCWD, Syscall},
        wire::ATTACHMENT_FILES,
    },
};

/// A call and what is known of its thread.
#[derive(Clone, Copy)]
pub(super) struct Place<'e> {
    pub(super) event: &'e Event<'e>,
    pub(super) processes: &'e Processes,
}

impl Place<'_> {
    /// What stands for a descriptor: a path, the ends of a socket, or what `/proc/PID/fd`
    /// shows. `None` where it is not known.
    pub(super) fn descriptor(&self, fd: i32) -> Option<Vec<u8>> {
        let open = if fd == AT_FDCWD {
            self.processes.directory(self.event.tid)
        } else {
            self.processes.file(self.event.tid, fd)
        };
        let file = self.processes.named_now(self.event.tid, open?);
        File::first(&file).as_ref().map(file_name)
    }

    /// The descriptor a call made, by what it returned. What others return, such as the
    /// bytes of a `recvmsg`, may be the number of one it brought by chance.
    pub(super) fn returned(&self, row: &Syscall, call: Call<'_, '_>) -> Option<Vec<u8>> {
        if !call.returned() || !row.returns_descriptor() {
            return None;
        }
        let ret = i32::try_from(call.ret()).ok().filter(|ret| *ret >= 0)?;
        let files = self.event.attachment(ATTACHMENT_FILES)?;
        File::all(files.bytes).find(|file| file.head.fd == ret).as_ref().map(file_name)
    }

    /// Where argument `place` of a call leads when it is a path that does not begin at the
    /// root. Nothing is resolved: links and `..` are the kernel's to follow.
    pub(super) fn full_path(
        &self,
        row: &Syscall,
        call: Call<'_, '_>,
        place: usize,
    ) -> Option<Vec<u8>> {
        let given = self.event.attachment(place as u8)?;
        if given.bytes.first() == Some(&b'/') {
            return None;
        }
        self.processes.path(self.event, call, row, place)
    }

    /// Whether argument `place`, a directory, is what the path behind it begins at.
    pub(super) fn is_base(&self, place: usize) -> bool {
        let path = self.event.attachment(place as u8 + 1);
        path.is_none_or(|path| path.bytes.first() != Some(&b'/'))
    }
}

/// What stands for a file.
pub(crate) fn file_name(file: &File<'_>) -> Vec<u8> {
    match file.socket() {
        // Of one that is known by its number alone.
        Some(socket) if socket.head.family == 0 => file.name(),
        Some(socket) => socket.name(file.head.inode),
        None => file.name(),
    }
}
