//! Takes a snapshot: freezes, asks for the calls that have not returned, writes.
//! Runs on a thread of its own; the recording goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Frozen, Handle, RecorderError,
    turns::Turns,
    unfinished::{OwnedEvent, UnfinishedReader},
};
use crate::{
    clock::ClockAnchor,
    event::{Class, syscall::Abi},
    loss::Missing,
    rollup::Row,
    snapshot::{self, Contents, Header, WindowInfo, WriteError, Written, snapshot_name},
    trigger::Trigger,
    window::{Block, blocks_of},
};

/// What a snapshot is to have.
#[derive(Clone, Debug, Default)]
pub struct DumpRequest {
    /// What the file is to be called.
    pub name: String,
    /// Why.
    pub trigger: Trigger,
    /// Only this far back, nanoseconds.
    pub since_ns: Option<u64>,
    /// How long it may take: what is not written by then is left out. Half of it is the most
    /// that the recording may take to hand over the window, an eighth to list the calls that
    /// have not returned.
    pub deadline: Option<Duration>,
    /// Whether another one that is asked for at the same time will do as well.
    pub may_share: bool,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The file.
    pub written: Written,
    /// How long the hand-over took.
    pub freeze: Duration,
    /// Whether it was taken for somebody else, too, who sees to what is to be done behind it.
    pub is_shared: bool,
}

/// A snapshot that is to be written.
struct Prepared {
    name: String,
    header: Header,
    blocks: Vec<Block>,
    asked: Instant,
    deadline: Option<Instant>,
    freeze: Duration,
}

/// The least a snapshot may take: header, context and end are written in any case.
pub const DEADLINE_MIN: Duration = Duration::from_millis(100);

/// Takes snapshots. One is written at a time.
pub struct Dumper {
    handle: Handle,
    unfinished: UnfinishedReader,
    directory: PathBuf,
    /// What does not change between snapshots.
    host: Header,
    native: Abi,
    /// Snapshots asked for and not finished.
    asked: AtomicUsize,
    /// By how far back they go.
    turns: Turns<Option<u64>, DumpRequest, Result<Taken, Arc<DumpError>>>,
}

/// Snapshots asked for at the same time; each holds blocks of its moment, so one
/// more is told to try later.
pub(super) const DUMPS_MAX: usize = 8;

/// What a dumper needs to know of the recording.
pub struct DumperSetup {
    /// Freezes the window.
    pub handle: Handle,
    /// Reads the calls that have not returned.
    pub unfinished: UnfinishedReader,
    /// Where snapshots go.
    pub directory: PathBuf,
    /// What is known of the host.
    pub host: Header,
    /// The ABI of the host's calls.
    pub native: Abi,
}

/// Taking a snapshot failed.
#[derive(Debug)]
pub enum DumpError {
    /// The window could not be frozen.
    Recorder(RecorderError),
    /// The file could not be written.
    Write(WriteError),
    /// No event of our own has come through yet.
    NotRecording,
    /// Too many are being taken.
    TooMany,
    /// The one it was to share could not be taken.
    Shared(Arc<DumpError>),
}

impl DumpError {
    /// What really failed.
    pub fn root(&self) -> &DumpError {
        match self {
            DumpError::Shared(error) => error.root(),
            error => error,
        }
    }
}

impl std::fmt::Display for DumpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DumpError::Recorder(error) => write!(f, "{error}"),
            DumpError::Write(error) => write!(f, "{error}"),
            DumpError::NotRecording => write!(f, "not recording yet: try again"),
            DumpError::TooMany => write!(f, "{DUMPS_MAX} snapshots are being taken: try again"),
            DumpError::Shared(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for DumpError {}

impl Dumper {
    /// Is ready.
    pub fn new(setup: DumperSetup) -> Dumper {
        Dumper {
            host: setup.host,
            native: setup.native,
            handle: setup.handle,
            unfinished: setup.unfinished,
            directory: setup.directory,
            asked: AtomicUsize::new(0),
            turns: Turns::new(),
        }
    }

    /// Where snapshots go.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The recording it is taken of.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A name for a snapshot that `source` asks for now.
    pub fn name(&self, source: &str) -> String {
        snapshot_name(&self.host, &ClockAnchor::now(), source)
    }

    /// What is known of the host.
    pub fn host(&self) -> &Header {
        &self.host
    }

    /// Takes a snapshot and answers when it is durable.
    pub fn take(&self, request: DumpRequest) -> Result<Taken, DumpError> {
        if !self.handle.is_recording() {
            return Err(DumpError::NotRecording);
        }
        if request.may_share && request.deadline.is_none() {
            if self.turns.waiting() >= DUMPS_MAX {
                return Err(DumpError::TooMany);
            }
            let asked = Instant::now();
            let work = |requests: Vec<DumpRequest>| {
                let mut requests = requests.into_iter();
                let mut first = requests.next().unwrap_or_default();
                // As far back from the request, though it had to wait for its turn.
                let waited_ns = asked.elapsed().as_nanos() as u64;
                first.since_ns = first.since_ns.map(|since| since.saturating_add(waited_ns));
                requests.for_each(|request| first.trigger.join(request.trigger));
                self.counted(|| self.write(self.freeze(first)?)).map_err(Arc::new)
            };
            return match self.turns.take(request.since_ns, request, work) {
                (taken, false) => taken.map_err(|error| match Arc::try_unwrap(error) {
                    Ok(error) => error,
                    Err(shared) => DumpError::Shared(shared),
                }),
                (Ok(taken), true) => Ok(Taken { is_shared: true, ..taken }),
                (Err(error), true) => Err(DumpError::Shared(error)),
            };
        }
        // The moment of the snapshot is the moment of the request, even when another one
        // is being written. One that has no time waits for none.
        let has_time = request.deadline.is_none();
        self.counted(|| {
            let frozen = self.freeze(request)?;
            if has_time { self.turns.alone(|| self.write(frozen)) } else { self.write(frozen) }
        })
    }

    /// Does `work` unless too much is done already.
    fn counted(&self, work: impl FnOnce() -> Result<Taken, DumpError>) -> Result<Taken, DumpError> {
        if self.asked.fetch_add(1, Ordering::AcqRel) >= DUMPS_MAX {
            self.asked.fetch_sub(1, Ordering::AcqRel);
            return Err(DumpError::TooMany);
        }
        let taken = work();
        self.asked.fetch_sub(1, Ordering::AcqRel);
        taken
    }

    /// Freezes the window, and gathers what else belongs into the file.
    fn freeze(&self, request: DumpRequest) -> Result<Prepared, DumpError> {
        let asked = Instant::now();
        let deadline = request.deadline.map(|within| asked + within.max(DEADLINE_MIN));
        let waits_max = request.deadline.map_or(Duration::MAX, |within| within / 8);
        // What is left must do for the rest, and for writing.
        let freeze_max = request.deadline.map(|within| within.max(DEADLINE_MIN) / 2);
        let mut frozen = self.handle.freeze(freeze_max).map_err(DumpError::Recorder)?;
        let mut unfinished = self.unfinished.ask(frozen.moment_ns, waits_max);
        if let Some(since_ns) = request.since_ns {
            let oldest_ns = frozen.moment_ns.saturating_sub(since_ns);
            cut_before(&mut frozen, oldest_ns);
        }
        let name = request.name.clone();
        let mut masker = self.handle.privacy().masker();
        for event in &mut unfinished.events {
            event.mask(&mut masker, self.native);
        }
        let mut header = self.header(&frozen, request);
        header.trigger.each_text(&mut |text| masker.mask_string(text));
        header.privacy = self.handle.privacy().facts();
        if let Some(missing) = unfinished.missing {
            tracing::warn!("missing in a snapshot: {}: {}", missing.what, missing.why);
            header.missing.push(missing);
        }
        let mut all = frozen.window.context();
        let mut blocks = frozen.window.blocks;
        if deadline.is_some() {
            most_precious_first(&mut blocks);
        }
        let unfinished = unfinished.events.iter().map(OwnedEvent::as_event);
        let unfinished = blocks_of(unfinished, Class::Unfinished);
        let (rollups, rows) = frozen.rollups.into_rows(frozen.moment_ns);
        let mut rollups: Vec<Block> = rollups.into_iter().map(Block::Sealed).collect();
        rollups.extend(blocks_of(rows.iter().map(Row::as_event), Class::Rollup));
        // What hangs may be all that somebody wants to know.
        if deadline.is_some() {
            all.extend(unfinished);
            all.extend(blocks);
            all.extend(rollups);
        } else {
            all.extend(rollups);
            all.extend(blocks);
            all.extend(unfinished);
        }
        Ok(Prepared { name, header, blocks: all, asked, deadline, freeze: frozen.freeze })
    }

    fn write(&self, prepared: Prepared) -> Result<Taken, DumpError> {
        let Prepared { name, header, blocks, asked, deadline, freeze } = prepared;
        let contents = Contents { header: &header, blocks, asked, deadline };
        let written =
            snapshot::write(&self.directory, &name, contents).map_err(DumpError::Write)?;
        Ok(Taken { written, freeze, is_shared: false })
    }

    fn header(&self, frozen: &Frozen, request: DumpRequest) -> Header {
        let since_ns = request.since_ns;
        let mut header = self.host.clone();
        header.clock = frozen.clock;
        header.trigger = request.trigger;
        if header.trigger.at_ns == 0 {
            header.trigger.at_ns = frozen.moment_ns;
        }
        header.freeze_us = frozen.freeze.as_micros() as u64;
        header.drain_us = frozen.drain.as_micros() as u64;
        header.ledger = frozen.ledger.clone();
        let window = &frozen.window;
        let metas = window.blocks.iter().map(Block::meta);
        header.window = WindowInfo::of(metas, frozen.moment_ns, window.limits.span_ns);
        header.window.asked_ns = since_ns
            .map_or(header.window.asked_ns, |since_ns| since_ns.min(header.window.asked_ns));
        header.context_cut = frozen.window.baseline.cut();
        header
    }
}

/// What does not change between snapshots: `missing` is what this kernel does not give,
/// `memory_bytes` is `--memory`.
pub fn host_facts(missing: Vec<Missing>, memory_bytes: u64) -> Header {
    let uname = rustix::system::uname();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Header {
        format_version: snapshot::FORMAT_VERSION,
        program: format!("recorder {}", env!("CARGO_PKG_VERSION")),
        host: uname.nodename().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_string(),
        cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get() as u32),
        missing,
        memory_bytes,
        ..Header::default()
    }
}

/// What names follow from, in the order of time; then what is precious, then the rest, the
/// newest first.
fn most_precious_first(blocks: &mut [Block]) {
    blocks.sort_by_key(|block| {
        let meta = block.meta();
        match meta.class {
            Class::State => (0, meta.first_ns),
            Class::Precious => (1, u64::MAX - meta.last_ns),
            _ => (2, u64::MAX - meta.last_ns),
        }
    });
}

/// Leaves out what is older.
fn cut_before(frozen: &mut Frozen, oldest_ns: u64) {
    let events = frozen.window.cut_before(oldest_ns);
    frozen.ledger.in_window -= events;
    frozen.ledger.evicted += events;
}
