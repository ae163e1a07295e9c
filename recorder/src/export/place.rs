//! What the state of the host adds to a call: the files behind its descriptors, and
//! where its paths begin.

use crate::{
    context::{OpenFile, Processes},
    event::{
        Call, Event, File, Meaning,
        syscall::{Arg, Syscall},
        wire::{ATTACHMENT_FILES, attachment_flag},
    },
};

/// `AT_FDCWD`, include/uapi/linux/fcntl.h.
pub(super) const AT_FDCWD: i32 = -100;

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
        open.and_then(OpenFile::file).as_ref().map(file_name)
    }

    /// The descriptor a call made, by what it returned.
    pub(super) fn returned(&self, call: Call<'_, '_>) -> Option<Vec<u8>> {
        let ret = i32::try_from(call.ret()).ok().filter(|ret| call.returned() && *ret >= 0)?;
        let files = self.event.attachment(ATTACHMENT_FILES)?;
        // A call such as `connect` has a descriptor as argument, and returns 0.
        File::all(files.bytes).find(|file| file.head.fd == ret && ret > 0).as_ref().map(file_name)
    }

    /// Where argument `place` of a call leads when it is a path that does not begin at the
    /// root. Nothing is resolved: links and `..` are the kernel's to follow.
    pub(super) fn full_path(
        &self,
        row: &Syscall,
        call: Call<'_, '_>,
        place: usize,
    ) -> Option<Vec<u8>> {
        let args = row.args_of(call.args());
        if args.get(place)?.meaning != Meaning::Path {
            return None;
        }
        let attached = self.event.attachment(place as u8)?;
        let is_whole = attached.flags & (attachment_flag::UNREADABLE | attachment_flag::CUT) == 0;
        if !is_whole || attached.bytes.first() == Some(&b'/') {
            return None;
        }
        // The directory a path belongs to stands right before it.
        let before = place.checked_sub(1).and_then(|before| args.get(before));
        let is_at = |arg: &&Arg| arg.meaning == Meaning::DirFd;
        let fd = match before.filter(is_at) {
            Some(_) => *call.args().get(place - 1)? as u32 as i32,
            None => AT_FDCWD,
        };
        let base = self.descriptor(fd).filter(|base| base.first() == Some(&b'/'))?;
        Some(join(base, attached.bytes))
    }

    /// Whether argument `place`, a directory, is what the path behind it begins at.
    pub(super) fn is_base(&self, place: usize) -> bool {
        let path = self.event.attachment(place as u8 + 1);
        path.is_none_or(|path| path.bytes.first() != Some(&b'/'))
    }
}

/// A path behind a directory, without the parts that lead nowhere.
fn join(base: Vec<u8>, path: &[u8]) -> Vec<u8> {
    let mut full = base;
    if full.last() == Some(&b'/') {
        full.pop();
    }
    for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(name, [] | [b'.'])) {
        full.push(b'/');
        full.extend(name);
    }
    if full.is_empty() {
        full.push(b'/');
    }
    full
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_not_resolved() {
        let join =
            |base: &str, path: &str| String::from_utf8(join(base.into(), path.as_bytes())).unwrap();
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "./b//c/"), "/a/b/c");
        assert_eq!(join("/a", "../b"), "/a/../b");
        assert_eq!(join("/a", ""), "/a");
        assert_eq!(join("/", "."), "/");
    }
}
