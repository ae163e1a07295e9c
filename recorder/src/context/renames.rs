//! What open files are called after their names were taken away or given anew.
//!
//! The kernel describes a file when it is opened; `/proc` shows what it is called now. So
//! the names that calls take away and give are kept for a while, and a file that is older
//! follows them when it is asked for. When enough have come all files follow at once
//! ([`Processes::settle`]): a rename costs no walk over everything that is open.
//!
//! Names are compared as they were given, behind the directory they begin at: a path that
//! leads over a symbolic link is another name here than the one the kernel found. A name
//! counts for the processes of one container, or of none: others have other files by it.

use std::{borrow::Cow, collections::HashMap};

use super::{Processes, tables::OpenFile};
use crate::event::{
    Attached, Call, Event, File, Meaning,
    syscall::{self, AT_FDCWD, Abi, Arg, Syscall},
    wire::attachment_flag,
};

/// `RENAME_EXCHANGE`, include/uapi/linux/fs.h.
const RENAME_EXCHANGE: u64 = 1 << 1;

/// Names kept until all files follow them.
const NAMES_MAX: usize = 4_096;

/// Bytes of them.
const NAMES_BYTES_MAX: u64 = 256 * 1024;

/// Names one file follows, one after the other; it keeps the last of them.
const FOLLOWED_MAX: usize = 16;

/// What became of a name.
#[derive(Clone, Debug)]
struct Fate {
    /// Files opened by the name before this are meant.
    ts_ns: u64,
    /// Fates that came before.
    order: u64,
    /// The other name; `None` when there is none any more.
    to: Option<Box<[u8]>>,
}

/// Names and what became of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Renames {
    /// By container and path, the oldest first.
    fates: HashMap<Box<[u8]>, Vec<Fate>>,
    count: usize,
    last_ns: u64,
    bytes: u64,
}

impl Renames {
    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= NAMES_MAX || self.bytes >= NAMES_BYTES_MAX
    }

    fn add(&mut self, scope: &[u8], from: &[u8], ts_ns: u64, to: Option<&[u8]>) {
        let name = scoped(scope, from);
        let fate = Fate { ts_ns, order: self.count as u64, to: to.map(Box::from) };
        self.bytes += bytes_of(name.len(), to);
        self.count += 1;
        self.last_ns = self.last_ns.max(ts_ns);
        self.fates.entry(name.into_boxed_slice()).or_default().push(fate);
    }

    /// What became of a file that had this name at `as_of_ns`: its name, and whether that is
    /// gone. `None` when nothing did.
    fn follow(&self, scope: &[u8], path: &[u8], as_of_ns: u64) -> Option<(Vec<u8>, bool)> {
        let mut name = scoped(scope, path);
        let mut after = None;
        for _ in 0..FOLLOWED_MAX {
            let Some((end, fate)) = self.next(&name, scope.len(), as_of_ns, after) else { break };
            after = Some(fate.order);
            let Some(to) = &fate.to else {
                name.drain(..scope.len());
                return Some((name, true));
            };
            name.splice(scope.len()..end, to.iter().copied());
        }
        after.map(|_| {
            name.drain(..scope.len());
            (name, false)
        })
    }

    /// The next thing that happened to a name, or to a directory above it, and where the
    /// part of the name ends that it happened to.
    fn next(
        &self,
        name: &[u8],
        scope_length: usize,
        as_of_ns: u64,
        after: Option<u64>,
    ) -> Option<(usize, &Fate)> {
        let is_end = |at: &usize| *at == name.len() || name.get(*at) == Some(&b'/');
        let ends = (scope_length + 1..=name.len()).filter(is_end);
        let fates = ends.filter_map(|end| {
            let fates = self.fates.get(name.get(..end)?)?;
            let is_next = |fate: &&Fate| match after {
                Some(after) => fate.order > after,
                None => fate.ts_ns > as_of_ns,
            };
            // A directory is empty when it goes: nothing below it has this name.
            let is_meant = |fate: &&Fate| fate.to.is_some() || end == name.len();
            Some((end, fates.iter().filter(is_meant).find(is_next)?))
        });
        fates.min_by_key(|(_, fate)| fate.order)
    }
}

fn scoped(scope: &[u8], path: &[u8]) -> Vec<u8> {
    [scope, path].concat()
}

/// What one fate takes, with what a table keeps beside each entry.
fn bytes_of(name_bytes: usize, to: Option<&[u8]>) -> u64 {
    (name_bytes + to.map_or(0, <[u8]>::len) + size_of::<Fate>() + 64) as u64
}

/// What a name was, when, and what it is since.
type Renamed<'a> = (&'a [u8], u64, Option<&'a [u8]>);

impl Processes {
    /// A call took a name away.
    pub(super) fn unlink(&mut self, event: &Event<'_>, call: Call<'_, '_>, abi: Abi) {
        if let [Some(path), _] = self.paths(event, call, abi) {
            self.keep_fates(event.pid, &[(&path, event.ts_ns, None)]);
        }
    }

    /// A call gave a file another name, or two files each other's.
    pub(super) fn rename(&mut self, event: &Event<'_>, call: Call<'_, '_>, abi: Abi) {
        let [Some(from), Some(to)] = self.paths(event, call, abi) else { return };
        if from == to {
            return;
        }
        let ts_ns = event.ts_ns;
        if call.args().get(4).is_some_and(|flags| flags & RENAME_EXCHANGE != 0) {
            let between = exchange_name(&from);
            let fates = [
                (&*to, ts_ns, Some(&*between)),
                (&*from, ts_ns, Some(&*to)),
                (&*between, ts_ns, Some(&*from)),
            ];
            return self.keep_fates(event.pid, &fates);
        }
        // What was opened by the new name while the call ran may be either file.
        let entry_ns = ts_ns.saturating_sub(call.dur_ns().unwrap_or_default());
        self.keep_fates(event.pid, &[(&to, entry_ns, None), (&from, ts_ns, Some(&to))]);
    }

    /// Keeps what one call did to names: all of it or nothing, so that no file follows half
    /// a call.
    fn keep_fates(&mut self, pid: u32, fates: &[Renamed<'_>]) {
        let scope = self.scope(pid).to_vec();
        let bytes = fates.iter().map(|(from, _, to)| bytes_of(scope.len() + from.len(), *to));
        if self.makes_room(bytes.sum()) {
            for (from, ts_ns, to) in fates {
                self.renames.add(&scope, from, *ts_ns, *to);
            }
        }
    }

    /// The container of a process, empty for the host.
    fn scope(&self, pid: u32) -> &[u8] {
        let groups = self.groups.of_process(pid);
        let container = groups.and_then(|groups| groups.attribution().container.as_ref());
        container.map(|container| container.id.as_slice()).unwrap_or_default()
    }

    /// A file as it is called now.
    pub fn named_now<'a>(&self, tid: u32, open: &'a OpenFile) -> Cow<'a, [u8]> {
        if self.renames.is_empty() || self.renames.last_ns <= open.as_of_ns {
            return Cow::Borrowed(&open.file);
        }
        self.renamed(tid, open).map_or(Cow::Borrowed(&*open.file), Cow::Owned)
    }

    /// A file that is called otherwise now.
    pub(super) fn renamed(&self, tid: u32, open: &OpenFile) -> Option<Vec<u8>> {
        let file = open.file()?;
        let path = file.whole_path()?;
        let scope = self.get(tid).map(|facts| self.scope(facts.pid)).unwrap_or_default();
        let (path, is_gone) = self.renames.follow(scope, &path, open.as_of_ns)?;
        Some(file.with_path(&path, is_gone))
    }

    /// The first two paths a call was given, from the root; `None` where one is not whole.
    fn paths(&self, event: &Event<'_>, call: Call<'_, '_>, abi: Abi) -> [Option<Vec<u8>>; 2] {
        let Some(row) = syscall::lookup(abi, call.nr()) else { return [None, None] };
        let args = row.args_of(call.args()).iter().enumerate();
        let mut places = args.filter(|(_, arg)| arg.meaning == Meaning::Path);
        std::array::from_fn(|_| {
            let (place, _) = places.next()?;
            self.path(event, call, row, place).map(|path| without_dots(&path))
        })
    }

    /// Where argument `place` of a call leads when it is a path: behind the directory it
    /// begins at. Nothing is resolved: links and `..` are the kernel's to follow. `None`
    /// where either is not known to its end.
    pub fn path(
        &self,
        event: &Event<'_>,
        call: Call<'_, '_>,
        row: &Syscall,
        place: usize,
    ) -> Option<Vec<u8>> {
        let args = row.args_of(call.args());
        if args.get(place)?.meaning != Meaning::Path {
            return None;
        }
        let attached = event.attachment(place as u8)?;
        if attached.flags & (attachment_flag::UNREADABLE | attachment_flag::CUT) != 0 {
            return None;
        }
        let path = Attached::text(attached);
        if path.first() == Some(&b'/') {
            return Some(path.to_vec());
        }
        if row.is_left_as_given(place) {
            return None;
        }
        // The directory a path belongs to stands right before it.
        let before = place.checked_sub(1).and_then(|before| args.get(before));
        let is_at = |arg: &&Arg| arg.meaning == Meaning::DirFd;
        let fd = match before.filter(is_at) {
            Some(_) => *call.args().get(place - 1)? as u32 as i32,
            None => AT_FDCWD,
        };
        let base = match fd {
            AT_FDCWD => self.directory(event.tid),
            fd => self.file(event.tid, fd),
        };
        let base = self.named_now(event.tid, base?);
        let base = File::first(&base)?.name();
        (base.first() == Some(&b'/')).then(|| join(base, path))
    }
}

/// A name nothing has: that of two files which change names, between one and the other.
fn exchange_name(from: &[u8]) -> Vec<u8> {
    [b"\0", from].concat()
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

/// A path without `.` and `..`, where no link is on the way.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            [] | [b'.'] => {}
            [b'.', b'.'] => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    [&b"/"[..], &names.join(&b'/')].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::{Descriptors, ThreadFacts},
        event::{
            Kind, file,
            wire::{ATTACHMENT_FILES, FILE_WORKING_DIRECTORY, FileHead},
        },
    };

    const OPENAT: u64 = 257;
    const RENAME: u64 = 82;
    const RENAMEAT2: u64 = 316;
    const RMDIR: u64 = 84;
    const UNLINK: u64 = 87;
    const UNLINKAT: u64 = 263;
    const AT_FDCWD_ARG: u64 = AT_FDCWD as u64;

    /// Process 7 and its descriptors; time goes on by ten with each call.
    struct Host {
        processes: Processes,
        ts_ns: u64,
    }

    impl Host {
        fn new() -> Host {
            let mut processes = Processes::default();
            processes.insert(7, ThreadFacts { pid: 7, ..ThreadFacts::default() });
            processes.files.set(7, Descriptors::default());
            Host { processes, ts_ns: 100 }
        }

        fn apply(&mut self, nr: u64, args: &[u64], strings: &[(u8, &str)], files: &[u8]) {
            self.ts_ns += 10;
            let mut event = Event::new(Kind::Syscall, self.ts_ns);
            (event.pid, event.tid) = (7, 7);
            for number in [nr, 0, 1].iter().chain(args) {
                event.push_number(*number);
            }
            let strings: Vec<(u8, Vec<u8>)> =
                strings.iter().map(|(at, text)| (*at, [text.as_bytes(), b"\0"].concat())).collect();
            for (index, bytes) in &strings {
                event.attach(Attached { index: *index, flags: 0, bytes });
            }
            if !files.is_empty() {
                event.attach(Attached { index: ATTACHMENT_FILES, flags: 0, bytes: files });
            }
            self.processes.apply(&event, Abi::X86_64);
        }

        fn open(&mut self, fd: i32, path: &str) {
            let file =
                file::describe(FileHead { fd, ..FileHead::default() }, path.as_bytes(), None);
            self.apply(OPENAT, &[0; 4], &[], &file);
        }

        fn rename(&mut self, from: &str, to: &str) {
            self.apply(RENAME, &[0; 2], &[(0, from), (1, to)], &[]);
        }

        fn unlink(&mut self, path: &str) {
            self.apply(UNLINK, &[0], &[(0, path)], &[]);
        }

        fn name(&self, fd: i32) -> String {
            let open = match fd {
                FILE_WORKING_DIRECTORY => self.processes.directory(7),
                fd => self.processes.file(7, fd),
            };
            let file = self.processes.named_now(7, open.unwrap());
            String::from_utf8(File::first(&file).unwrap().name()).unwrap()
        }

        /// What is said before files follow and after.
        fn assert_named(&mut self, expected: &[(i32, &str)]) {
            for _ in 0..2 {
                for (fd, name) in expected {
                    assert_eq!(self.name(*fd), *name, "{fd}");
                }
                self.processes.settle();
                assert_eq!(self.processes.renames.bytes(), 0);
            }
        }
    }

    /// `/proc` showed files that had been removed as deleted, and the snapshot did not.
    #[test]
    fn what_was_opened_before_its_name_went_is_gone() {
        let mut host = Host::new();
        host.open(3, "/a/x");
        host.open(4, "/a/x/y");
        host.open(5, "/a");
        host.unlink("/a/x");
        host.open(6, "/a/x");
        host.assert_named(&[(3, "/a/x (deleted)"), (4, "/a/x/y"), (5, "/a"), (6, "/a/x")]);
        host.open(FILE_WORKING_DIRECTORY, "/gone");
        host.apply(RMDIR, &[0], &[(0, "/other/../gone/")], &[]);
        host.assert_named(&[(FILE_WORKING_DIRECTORY, "/gone (deleted)"), (6, "/a/x")]);
    }

    #[test]
    fn a_file_follows_its_name_and_those_above_it() {
        let mut host = Host::new();
        host.open(3, "/log/access.log");
        host.open(4, "/log/access.log.1");
        host.rename("/log/access.log", "/log/access.log.1");
        host.open(5, "/log/access.log");
        host.rename("/log", "/old");
        host.unlink("/old/access.log");
        host.assert_named(&[
            (3, "/old/access.log.1"),
            (4, "/log/access.log.1 (deleted)"),
            (5, "/old/access.log (deleted)"),
        ]);
    }

    #[test]
    fn paths_begin_where_the_call_says() {
        let mut host = Host::new();
        host.open(FILE_WORKING_DIRECTORY, "/base");
        host.open(3, "/srv");
        host.open(4, "/base/a");
        host.open(5, "/srv/b");
        host.open(6, "/srv/c");
        host.rename("/srv", "/data");
        host.apply(UNLINKAT, &[AT_FDCWD_ARG, 0, 0], &[(1, "./a")], &[]);
        host.apply(UNLINKAT, &[3, 0, 0], &[(1, "b")], &[]);
        host.apply(RENAMEAT2, &[3, 0, AT_FDCWD_ARG, 0, 0], &[(1, "c"), (3, "d")], &[]);
        host.assert_named(&[(4, "/base/a (deleted)"), (5, "/data/b (deleted)"), (6, "/base/d")]);
    }

    /// `symlink("a", "/b/c")` of a program in `/base` said `/base/a`.
    #[test]
    fn what_a_link_will_say_begins_nowhere() {
        let mut host = Host::new();
        host.open(FILE_WORKING_DIRECTORY, "/base");
        let mut event = Event::new(Kind::Syscall, 200);
        (event.pid, event.tid) = (7, 7);
        for number in [88, 0, 1, 0, 0] {
            event.push_number(number);
        }
        for (index, bytes) in [(0, &b"a\0"[..]), (1, b"c\0")] {
            event.attach(Attached { index, flags: 0, bytes });
        }
        let row = syscall::lookup(Abi::X86_64, 88).unwrap();
        let call = Call::of(&event).unwrap();
        let path = |place| host.processes.path(&event, call, row, place);
        assert_eq!((row.name, path(0), path(1)), ("symlink", None, Some(b"/base/c".to_vec())));
    }

    #[test]
    fn two_files_change_names() {
        let mut host = Host::new();
        host.open(3, "/a");
        host.open(4, "/b");
        host.open(5, "/a/below");
        let args = [AT_FDCWD_ARG, 0, AT_FDCWD_ARG, 0, RENAME_EXCHANGE];
        host.apply(RENAMEAT2, &args, &[(1, "/a"), (3, "/b")], &[]);
        host.assert_named(&[(3, "/b"), (4, "/a"), (5, "/b/below")]);
    }

    /// All files followed in the middle of an exchange, and one had the name between the two.
    #[test]
    fn no_file_follows_half_an_exchange() {
        for before in NAMES_MAX - 4..NAMES_MAX {
            let mut host = Host::new();
            host.open(3, "/a");
            host.open(4, "/b");
            (0..before).for_each(|number| host.unlink(&format!("/{number}")));
            let args = [AT_FDCWD_ARG, 0, AT_FDCWD_ARG, 0, RENAME_EXCHANGE];
            host.apply(RENAMEAT2, &args, &[(1, "/a"), (3, "/b")], &[]);
            host.assert_named(&[(3, "/b"), (4, "/a")]);
        }
    }

    /// A failing call changes nothing, and a name that is cut is none.
    #[test]
    fn what_is_not_known_to_its_end_changes_nothing() {
        let mut host = Host::new();
        host.open(3, "/a");
        host.ts_ns += 10;
        for (ret, flags) in
            [(-1_i64, 0), (0, attachment_flag::CUT), (0, attachment_flag::UNREADABLE)]
        {
            let mut event = Event::new(Kind::Syscall, host.ts_ns);
            (event.pid, event.tid) = (7, 7);
            for number in [UNLINK, ret.cast_unsigned(), 1, 0] {
                event.push_number(number);
            }
            event.attach(Attached { index: 0, flags, bytes: b"/a\0" });
            host.processes.apply(&event, Abi::X86_64);
        }
        assert!(host.processes.renames.is_empty());
        // No directory to begin at.
        host.unlink("a");
        host.assert_named(&[(3, "/a")]);
    }

    #[test]
    fn names_and_what_a_file_follows_are_bounded() {
        let mut host = Host::new();
        host.open(3, "/0");
        for number in 0..3 * NAMES_MAX {
            host.rename(&format!("/{number}"), &format!("/{}", number + 1));
            assert!(host.processes.renames.bytes() <= NAMES_BYTES_MAX + 8_192);
            assert!(host.processes.renames.count <= NAMES_MAX + 1);
        }
        // It followed some of them, and never another file.
        let name: usize = host.name(3)[1..].parse().unwrap();
        assert!((FOLLOWED_MAX..=3 * NAMES_MAX).contains(&name), "{name}");
        host.processes.settle();
        host.processes.set_bytes_max(host.processes.bytes());
        let cut = host.processes.cut();
        host.unlink("/no/room");
        assert!(host.processes.cut() > cut && host.processes.renames.is_empty());
    }

    #[test]
    fn dots_lead_nowhere_and_up() {
        let without_dots = |path: &str| String::from_utf8(without_dots(path.as_bytes())).unwrap();
        assert_eq!(without_dots("/a/./b//c/"), "/a/b/c");
        assert_eq!(without_dots("/a/../b/../../c"), "/c");
        assert_eq!(without_dots("/.."), "/");
    }

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
