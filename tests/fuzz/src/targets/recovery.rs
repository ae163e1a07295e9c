//! Files that are made of damaged ones: what is saved of a snapshot or a spool, and what
//! is left of a snapshot without its secrets.

use std::{
    cell::RefCell,
    env, fs,
    path::{Path, PathBuf},
};

use recorder::{
    privacy::Rules,
    snapshot::{Header, RecoverError, ScrubError, SnapshotReader, Wanted, recover, scrub, verify},
    spool::{self, PARTS, SpoolError},
};

use super::files::{opened, path_of};
use crate::{met, met_error, mutate::spool::unpacked};

/// What the folder of a process is called, and then its id.
const FOLDER: &str = "recorder-fuzz-";

/// Where the one file goes that is written.
const SAVED: &str = "saved.kfr";

thread_local! {
    static FOLDER_OF_THREAD: RefCell<Option<Folder>> = const { RefCell::new(None) };
}

/// A folder that is gone with its thread.
struct Folder(PathBuf);

impl Folder {
    /// Makes one. Those of processes that were ended are removed.
    fn new() -> Folder {
        let around = memory_folder();
        for entry in fs::read_dir(&around).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
            let process = of.and_then(|of| of.split('-').next());
            if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let path = around.join(format!("{FOLDER}{}-{thread}", std::process::id()));
        fs::create_dir_all(path.join("spool")).expect("a folder can be made");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where files need no disk: what is saved is made durable each time.
pub fn memory_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { env::temp_dir() }
}

/// A folder of this thread's own, with an empty one named `spool` in it.
fn folder() -> PathBuf {
    FOLDER_OF_THREAD.with_borrow_mut(|folder| folder.get_or_insert_with(Folder::new).0.clone())
}

/// What was written is a snapshot and whole; answers it.
fn whole(path: &Path) -> SnapshotReader {
    let verdict = verify(path, &mut |_, _| {}).expect("what was saved is a snapshot");
    assert_eq!(verdict.complaints, Vec::<String>::new(), "what was saved is whole");
    let reader = SnapshotReader::open(path).expect("it was opened a moment ago");
    assert_eq!(reader.header().spool, None, "what was saved is no part of a spool");
    reader
}

fn kinds_of_words(header: &Header) {
    header.missing.iter().for_each(|missing| met_error("missing", &missing.what));
}

/// Saves what is whole of a snapshot: that and no more is in a file that is whole.
pub fn recovered(input: &[u8]) {
    let reader = match SnapshotReader::open_without_header(&path_of(input)) {
        Ok(reader) => reader,
        Err(error) => return met_error("open", &error),
    };
    let folder = folder();
    let blocks = reader.blocks().iter().filter(|entry| reader.block(entry).is_ok());
    let blocks: Vec<_> = blocks.map(|entry| entry.meta).collect();
    let saved = match recover(&reader, (&folder, SAVED, true), &mut |_| {}) {
        Ok(saved) => saved,
        Err(error @ RecoverError::Nothing(..)) => {
            assert!(blocks.is_empty(), "{} blocks are whole: {error}", blocks.len());
            return met_error("nothing", &error);
        }
        Err(error) => panic!("it can be written: {error}"),
    };
    let found = whole(&saved.path);
    let kept: Vec<_> = found.blocks().iter().map(|entry| entry.meta).collect();
    assert!(kept == blocks, "{} blocks of {} are saved", kept.len(), blocks.len());
    assert_eq!(saved.blocks, blocks.len() as u64);
    assert_eq!(found.header().ledger.in_window, saved.events);
    saved.complaints.iter().for_each(|complaint| met_error("complaint", complaint));
    kinds_of_words(found.header());
    met(("saved", reader.has_header(), saved.absent.is_some(), blocks.len().min(8)));
}

/// Makes snapshots of every recording a spool has something of. The newest is what
/// `recorder recover DIR` makes one of.
pub fn spooled(input: &[u8]) {
    let folder = folder();
    let directory = folder.join("spool");
    let files = unpacked(input);
    for slot in 0..PARTS {
        let path = directory.join(format!("{slot}.kfr-spool"));
        let of_slot = files.iter().rfind(|(number, _)| usize::from(*number) == slot);
        match of_slot {
            Some((_, bytes)) => fs::write(path, bytes).expect("a part can be written"),
            None => drop(fs::remove_file(path)),
        }
    }
    let mut sessions = spool::sessions(&directory).expect("the folder is there");
    met(("sessions", sessions.len()));
    let newest = sessions.pop();
    for session in sessions {
        saved_of_spool(spool::recover_session(session, &folder, Some((SAVED, true))));
    }
    match spool::recover(&directory, &folder, Some((SAVED, true))) {
        Err(SpoolError::Empty(_)) => assert!(newest.is_none(), "a recording is there"),
        saved => saved_of_spool(saved),
    }
}

fn saved_of_spool(saved: Result<recorder::snapshot::Recovered, SpoolError>) {
    let saved = match saved {
        Ok(saved) => saved,
        Err(error @ SpoolError::Recover(RecoverError::Nothing(..))) => {
            return met_error("nothing", &error);
        }
        Err(error) => panic!("it can be read and written: {error}"),
    };
    let found = whole(&saved.path);
    let ledger = &found.header().ledger;
    assert_eq!((ledger.in_window, ledger.closes), (saved.events, false));
    assert_eq!(found.blocks().len() as u64, saved.blocks);
    saved.complaints.iter().for_each(|complaint| met_error("complaint", complaint));
    kinds_of_words(found.header());
    let classes = found.blocks().iter().fold(0u8, |all, entry| all | 1 << entry.meta.class as u8);
    met(("saved", classes, saved.blocks.min(8), saved.events.checked_ilog2()));
}

/// Writes a snapshot without its secrets: whole, with as many events, or refused.
pub fn scrubbed(input: &[u8]) {
    let Some(reader) = opened(input) else { return };
    let folder = folder();
    let wanted = Wanted { damaged: true, payload: input.len().is_multiple_of(2) };
    let place = (folder.as_path(), SAVED, true);
    let scrubbed = match scrub(&reader, Rules::default(), place, wanted, &mut |_| {}) {
        Ok(scrubbed) => scrubbed,
        Err(ScrubError::Write(error)) => panic!("it can be written: {error}"),
        Err(error) => return met_error("scrub", &error),
    };
    let found = whole(&scrubbed.path);
    let blocks = reader.blocks().iter().filter(|entry| reader.block(entry).is_ok());
    let counts = |meta: &recorder::window::codec::BlockMeta| (meta.class, meta.cpu, meta.kinds);
    let blocks: Vec<_> = blocks.map(|entry| counts(&entry.meta)).collect();
    let kept: Vec<_> = found.blocks().iter().map(|entry| counts(&entry.meta)).collect();
    assert!(kept == blocks, "{} blocks became {}", blocks.len(), kept.len());
    scrubbed.complaints.iter().for_each(|complaint| met_error("complaint", complaint));
    met((scrubbed.masked.by_kind.keys().cloned().collect::<Vec<_>>(), kept.len().min(8)));
}
