//! The thread that writes a spool.

use std::{
    collections::VecDeque,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::{
    PARTS, SpoolFeed, SpoolHealth, SpoolSession,
    feed::{Checkpoint, Gap, MESSAGES_MAX, Message},
    part_path, recover_session, sessions,
};
use crate::{
    clock::monotonic_ns,
    event::{Class, Event, Kind, wire::lost},
    privacy::Privacy,
    snapshot::{Header, SpoolPart, WindowInfo, header_frame},
    window::{Block, SealedBlock, blocks_of},
};

/// Which sessions ended well, or were made a snapshot of, and of which it was tried: one in
/// each line, the newest last.
const DONE: &str = "done";

/// What stands behind the name of a session of which it was tried.
const TRIED: &str = " tried";

/// How often that is tried: a snapshot that ends the recorder must not be made again and
/// again, and one that a power cut ended deserves another start.
const TRIES_MAX: usize = 3;

/// How many lines are remembered: a spool has parts of fewer sessions.
const DONE_MAX: usize = 4 * PARTS;

/// The most bytes of that file.
const DONE_BYTES_MAX: u64 = 4096;

/// The part of a file that the counts of the last hour may take where it begins.
const ROLLUPS_SHARE: u64 = 8;

/// How long what was written may stay in the page cache: a power cut costs as much.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How long a spool that could not be written is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Over how long the bandwidth is taken.
const RATE_OVER: Duration = Duration::from_secs(10);

/// What a spool needs to know.
pub struct SpoolSetup {
    /// Where it is.
    pub directory: PathBuf,
    /// What its files take together.
    pub bytes: u64,
    /// Where a snapshot goes that is made of a recording that ended without one.
    pub snapshots: PathBuf,
    /// What is known of the host.
    pub host: Header,
    /// What is masked.
    pub privacy: Arc<Privacy>,
}

/// A spool, as others than its writer see it.
#[derive(Clone)]
pub struct Spool {
    health: Arc<Mutex<SpoolHealth>>,
}

impl Spool {
    /// A spool, the end of it that the recording has, and what is to be run on a thread of
    /// its own.
    pub fn new(setup: SpoolSetup) -> (Spool, SpoolFeed, SpoolWriter) {
        let (messages, received) = sync_channel(MESSAGES_MAX);
        let wants_checkpoint = Arc::new(AtomicBool::new(false));
        let health = Arc::new(Mutex::new(SpoolHealth {
            directory: setup.directory.to_string_lossy().into_owned(),
            bytes: setup.bytes,
            ..SpoolHealth::default()
        }));
        let feed = SpoolFeed::new(messages, Arc::clone(&wants_checkpoint));
        let spool = Spool { health: Arc::clone(&health) };
        let writer = SpoolWriter {
            session: format!("{}-{}", setup.host.boot_id, monotonic_ns()),
            setup,
            received,
            wants_checkpoint,
            health,
            lock: None,
            part: None,
            sequence: 0,
            wants_part: false,
            gap: Gap::default(),
            synced: Instant::now(),
            is_dirty: false,
            retry_at: None,
            rate: (Instant::now(), 0),
        };
        (spool, feed, writer)
    }

    /// How it is doing.
    pub fn health(&self) -> SpoolHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The part that is written.
struct Part {
    file: File,
    at: u64,
}

/// Writes a spool until the recording ends.
pub struct SpoolWriter {
    setup: SpoolSetup,
    session: String,
    received: Receiver<Message>,
    wants_checkpoint: Arc<AtomicBool>,
    health: Arc<Mutex<SpoolHealth>>,
    /// Held as long as this is: no other recorder writes here.
    lock: Option<File>,
    part: Option<Part>,
    /// The number of the next part.
    sequence: u64,
    /// Whether the next part is to begin: of several checkpoints on their way one is enough.
    wants_part: bool,
    /// What is not in the spool, until that is written.
    gap: Gap,
    synced: Instant,
    is_dirty: bool,
    /// When to try again after a failure.
    retry_at: Option<Instant>,
    /// Since when the bandwidth is taken, and what was written then.
    rate: (Instant, u64),
}

impl SpoolWriter {
    /// Makes a snapshot of what an earlier recording left, then writes what this one seals.
    pub fn run(mut self) {
        self.begin();
        loop {
            let message = self.received.recv_timeout(SYNC_EVERY);
            match message {
                Ok(Message::Sealed(blocks, gap)) => {
                    self.gap.merge(&gap);
                    self.missed(gap);
                    self.append(&blocks);
                }
                Ok(Message::Checkpoint(mut checkpoint)) => self.rotate(&mut checkpoint),
                Ok(Message::End) => {
                    self.sync();
                    self.note(self.session.clone());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if self.is_dirty && self.synced.elapsed() >= SYNC_EVERY {
                self.sync();
            }
            if self.retry_at.is_some_and(|at| Instant::now() >= at) {
                self.begin();
            }
            self.take_rate();
        }
    }

    /// Gets everything ready that needs the disk.
    fn begin(&mut self) {
        self.retry_at = None;
        self.wants_part = false;
        match self.prepare() {
            Ok(()) => {
                self.update(|health| health.error = None);
                self.ask_for_part();
            }
            Err(error) => self.fail(&format!("its files cannot be made: {error}")),
        }
    }

    fn prepare(&mut self) -> io::Result<()> {
        let directory = self.setup.directory.clone();
        DirBuilder::new().recursive(true).mode(0o750).create(&directory)?;
        check_directory(&directory)?;
        if self.lock.is_none() {
            let lock = open(&directory.join("lock"))?;
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| io::Error::other("another recorder writes here"))?;
            self.lock = Some(lock);
            self.save_last(&directory);
        }
        let bytes = self.part_bytes();
        for part in 0..PARTS {
            reserve(&open(&part_path(&directory, part))?, bytes)?;
        }
        Ok(())
    }

    /// Makes a snapshot of the last recording, if that did not end as it should.
    fn save_last(&mut self, directory: &Path) {
        let Ok(mut all) = sessions(directory) else { return };
        let done = read_done(directory);
        // Clocks go back: what is done is told by name.
        let is_new = |session: &SpoolSession| !is_done(&done, session.name());
        let Some(newest) = all.iter().rposition(is_new) else { return };
        let last = all.remove(newest);
        let names = || all.iter().filter(|session| is_new(session)).map(SpoolSession::name);
        let names: Vec<String> = names().chain([last.name()]).map(str::to_string).collect();
        drop(all);
        self.note(format!("{}{TRIED}", last.name()));
        match recover_session(last, &self.setup.snapshots, None) {
            Ok(recovered) => {
                // It is durable now. Of those before it nobody waits for one.
                names.into_iter().for_each(|name| self.note(name));
                let path = recovered.path.display().to_string();
                tracing::warn!(
                    snapshot = path,
                    events = recovered.events,
                    "the last recording ended without a word: what its spool had is a snapshot now"
                );
                self.update(|health| health.recovered = Some(path));
            }
            Err(error) => tracing::error!(
                "nothing of the last recording's spool is saved: {error}; the next start tries again, \
                 and until it is written over `recorder recover {}` can do it",
                directory.display()
            ),
        }
    }

    /// Writes down what became of a session.
    fn note(&self, line: String) {
        let mut done = read_done(&self.setup.directory);
        done.push(line);
        let first = done.len().saturating_sub(DONE_MAX);
        let text = done.get(first..).unwrap_or_default().join("\n") + "\n";
        let path = self.setup.directory.join(DONE);
        let written = open(&path).and_then(|file| {
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        });
        // The next start makes one snapshot too many.
        if let Err(error) = written {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
    }

    fn part_bytes(&self) -> u64 {
        self.setup.bytes / PARTS as u64
    }

    fn ask_for_part(&mut self) {
        if !self.wants_part {
            self.wants_part = true;
            self.wants_checkpoint.store(true, Ordering::Release);
        }
    }

    /// Begins the next part.
    fn rotate(&mut self, checkpoint: &mut Checkpoint) {
        if self.retry_at.is_some() || !self.wants_part {
            return;
        }
        self.sync();
        self.part = None;
        if let Err(error) = self.begin_part(checkpoint) {
            self.fail(&format!("cannot write a part: {error}"));
        }
    }

    fn begin_part(&mut self, checkpoint: &mut Checkpoint) -> io::Result<()> {
        let Checkpoint { window, rollups, clock } = checkpoint;
        let context = window.context();
        let bytes = self.part_bytes();
        let state = context.iter().chain(&window.blocks).map(Block::sealed);
        let mut blocks: Vec<SealedBlock> = state.collect();
        let bytes_of = |blocks: &[SealedBlock]| -> u64 {
            blocks.iter().map(|block| block.frame.len() as u64).sum()
        };
        let state_bytes = bytes_of(&blocks);
        blocks.extend(newest_within(rollups, bytes / ROLLUPS_SHARE).cloned());
        let checkpoint_bytes = bytes_of(&blocks);
        let mut header = self.setup.host.clone();
        header.clock = *clock;
        header.window = WindowInfo { asked_ns: window.limits.span_ns, ..WindowInfo::default() };
        header.context_cut = window.baseline.cut();
        header.privacy = self.setup.privacy.facts();
        header.spool = Some(SpoolPart {
            session: self.session.clone(),
            sequence: self.sequence,
            checkpoint_bytes,
        });
        let head = header_frame(&header, 0)?;
        if head.len() as u64 + state_bytes > bytes / 2 {
            return Err(io::Error::other(format!(
                "the state of the host takes {} of the {bytes} bytes of a part: give --spool-size \
                 more",
                head.len() as u64 + state_bytes
            )));
        }
        let path = part_path(&self.setup.directory, (self.sequence % PARTS as u64) as usize);
        let file = open(&path)?;
        clear(&file, bytes)?;
        let mut part = Part { file, at: 0 };
        // The header last: a part without one does not count.
        let mut at = head.len() as u64;
        for block in &blocks {
            part.file.write_all_at(&block.frame, at)?;
            at += block.frame.len() as u64;
        }
        part.file.write_all_at(&head, 0)?;
        part.at = at;
        part.file.sync_data()?;
        self.sequence += 1;
        self.wants_part = false;
        self.part = Some(part);
        self.wrote(at);
        Ok(())
    }

    /// Appends blocks; what does not fit is missing.
    fn append(&mut self, blocks: &[Block]) {
        let bytes = self.part_bytes();
        let Some(part) = &mut self.part else { return self.leave_out(blocks) };
        let mut frames = Vec::new();
        if self.gap.blocks > 0 {
            frames.extend(blocks_of([gap_event(&self.gap)].into_iter(), Class::State));
        }
        let mut whole = Vec::new();
        for block in frames.iter().chain(blocks).map(Block::sealed) {
            whole.extend_from_slice(&block.frame);
        }
        if part.at + whole.len() as u64 > bytes {
            self.ask_for_part();
            return self.leave_out(blocks);
        }
        if let Err(error) = part.file.write_all_at(&whole, part.at) {
            self.leave_out(blocks);
            return self.fail(&format!("cannot write: {error}"));
        }
        part.at += whole.len() as u64;
        // Some room is left for what is sealed until the next part begins.
        if part.at > bytes - bytes / 8 {
            self.ask_for_part();
        }
        self.gap = Gap::default();
        self.is_dirty = true;
        self.wrote(whole.len() as u64);
    }

    fn leave_out(&mut self, blocks: &[Block]) {
        // Nothing was promised before the first part.
        if self.sequence == 0 && self.retry_at.is_none() {
            return;
        }
        let mut gap = Gap::default();
        gap.add(blocks);
        self.gap.merge(&gap);
        self.missed(gap);
    }

    fn missed(&self, gap: Gap) {
        if gap.blocks > 0 {
            self.update(|health| {
                health.missed_blocks += gap.blocks;
                health.missed_events += gap.events;
            });
        }
    }

    fn sync(&mut self) {
        if !self.is_dirty {
            return;
        }
        self.is_dirty = false;
        self.synced = Instant::now();
        if let Some(Err(error)) = self.part.as_ref().map(|part| part.file.sync_data()) {
            self.fail(&format!("cannot make durable what was written: {error}"));
        }
    }

    /// Says why nothing is written, once, and tries again later.
    fn fail(&mut self, why: &str) {
        self.part = None;
        self.is_dirty = false;
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        let directory = self.setup.directory.display();
        let is_new = self.health().error.as_deref() != Some(why);
        if is_new {
            tracing::error!("the spool {directory} is not written: {why}; recording goes on");
        }
        self.update(|health| health.error = Some(why.to_string()));
    }

    fn health(&self) -> SpoolHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn written_bytes(&self) -> u64 {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).written_bytes
    }

    fn update(&self, change: impl FnOnce(&mut SpoolHealth)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wrote(&self, bytes: u64) {
        self.update(|health| health.written_bytes += bytes);
    }

    fn take_rate(&mut self) {
        let (since, before) = self.rate;
        let elapsed = since.elapsed();
        if elapsed >= RATE_OVER {
            let written = self.written_bytes();
            let rate = (written - before) as f64 / elapsed.as_secs_f64();
            self.update(|health| health.bytes_per_s = rate);
            self.rate = (Instant::now(), written);
        }
    }
}

/// The newest blocks that take no more than `bytes` together, oldest first.
fn newest_within(blocks: &VecDeque<SealedBlock>, bytes: u64) -> impl Iterator<Item = &SealedBlock> {
    let mut left = bytes;
    let fits = |block: &&SealedBlock| {
        let rest = left.checked_sub(block.frame.len() as u64);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    let count = blocks.iter().rev().take_while(fits).count();
    blocks.iter().skip(blocks.len() - count)
}

/// A loss at its place in the stream.
fn gap_event(gap: &Gap) -> Event<'static> {
    let mut event = Event::new(Kind::Lost, gap.first_ns);
    for number in [u64::from(lost::NOT_SPOOLED), gap.events, gap.last_ns, gap.state_events] {
        event.push_number(number);
    }
    event
}

/// Whether nothing needs to be saved of a session.
fn is_done(done: &[String], session: &str) -> bool {
    let tries = done.iter().filter(|line| line.strip_suffix(TRIED) == Some(session)).count();
    tries >= TRIES_MAX || done.iter().any(|line| line == session)
}

/// What became of sessions.
fn read_done(directory: &Path) -> Vec<String> {
    let mut text = String::new();
    let read = open(&directory.join(DONE));
    let read = read.and_then(|file| file.take(DONE_BYTES_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        tracing::warn!("cannot read what was saved of {}: {error}", directory.display());
    }
    text.lines().map(str::to_string).collect()
}

/// Bits of a mode: what a group or others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Bits that no file of ours has: a group may read it, as it may a snapshot, nobody else may.
const OPEN_TO_OTHERS: u32 = 0o027;

/// Whoever may write in the directory of the spool can put another file in the place of one
/// of ours and read what is written from then on; whoever owns it can have that.
fn check_directory(directory: &Path) -> io::Result<()> {
    let metadata = directory.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let shown = directory.display();
    if owner != own && owner != 0 {
        return Err(io::Error::other(format!(
            "{shown} is user {owner}'s, who could replace its files: chown it to user {own}, or name \
             another directory with --spool"
        )));
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(format!(
            "{shown} has mode {mode:04o}, so that others could replace its files: chmod go-w it, or \
             name another directory with --spool"
        )));
    }
    Ok(())
}

/// One that was there before must be as closed as one that is made, and ours.
fn check_file(path: &Path, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let (owner, mode, shown) = (metadata.uid(), metadata.mode() & 0o7777, path.display());
    if !metadata.is_file() {
        return Err(io::Error::other(format!("{shown} is no regular file")));
    }
    if owner != own && owner != 0 {
        return Err(io::Error::other(format!(
            "{shown} is user {owner}'s, who could read it: remove it, or chown it to user {own}"
        )));
    }
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(io::Error::other(format!(
            "{shown} has mode {mode:04o}, so that others could read or change it: remove it, or \
             chmod it to 640"
        )));
    }
    Ok(())
}

/// Opens a file of the spool, made when it is not there. Nothing else than a plain file that
/// is ours alone.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .custom_flags(flags)
        .open(path)?;
    check_file(path, &file)?;
    Ok(file)
}

/// Has a file take `bytes` on its disk, whatever it holds.
fn reserve(mut file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system that cannot: the space is taken by writing.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let chunk = vec![0; 1 << 20];
            let mut at = file.metadata()?.len();
            io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
            while at < bytes {
                let length = (bytes - at).min(chunk.len() as u64);
                file.write_all(&chunk[..length as usize])?;
                at += length;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a file zeros that keep their place on the disk.
fn clear(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
            file.set_len(0)?;
            reserve(file, bytes)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown},
    };

    use super::*;

    /// Somebody else put a file of theirs in the place of one of ours and read what came.
    #[test]
    fn what_others_could_read_or_replace_is_refused() {
        let directory = std::env::temp_dir().join(format!("spool-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let change = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let said = |result: io::Result<()>| result.err().map(|error| error.to_string());
        for (mode, expected) in [
            (0o700, None),
            (0o750, None),
            (0o755, None),
            (0o770, Some("mode 0770")),
            (0o757, Some("chmod go-w it, or name another directory with --spool")),
            (0o1777, Some("mode 1777")),
        ] {
            change(&directory, mode);
            let said = said(check_directory(&directory));
            let is_right = match (&said, expected) {
                (None, None) => true,
                (Some(said), Some(expected)) => said.contains(expected),
                _ => false,
            };
            assert!(is_right, "{mode:o}: {said:?}");
        }
        change(&directory, 0o750);
        let path = directory.join("part");
        assert!(open(&path).is_ok(), "one that is made");
        for (mode, is_fine) in
            [(0o600, true), (0o640, true), (0o644, false), (0o660, false), (0o641, false)]
        {
            change(&path, mode);
            let said = said(open(&path).map(drop));
            assert_eq!(said.is_none(), is_fine, "{mode:o}: {said:?}");
            assert!(said.is_none_or(|said| said.contains("chmod it to 640")));
        }
        change(&path, 0o640);
        // Only root can give files away.
        if rustix::process::geteuid().is_root() {
            let own = rustix::process::geteuid().as_raw();
            chown(&path, Some(own + 4711), None).unwrap();
            let error = said(open(&path).map(drop)).unwrap_or_default();
            assert!(error.contains("user 4711's") && error.contains("remove it"), "{error}");
            chown(&directory, Some(own + 4711), None).unwrap();
            let error = said(check_directory(&directory)).unwrap_or_default();
            assert!(error.contains("chown it to user 0"), "{error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
