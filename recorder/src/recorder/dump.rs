//! Takes a snapshot: freezes, asks for the calls that have not returned, writes.
//! Runs on a thread of its own; the recording goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Frozen, Handle, RecorderError,
    unfinished::{OwnedEvent, UnfinishedReader},
};
use crate::{
    clock::ClockAnchor,
    event::{Class, syscall::Abi},
    loss::Missing,
    snapshot::{self, Contents, Header, WindowInfo, WriteError, Written, snapshot_name},
    trigger::Trigger,
    window::{FrozenWindow, blocks_of},
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
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The file.
    pub written: Written,
    /// How long the hand-over took.
    pub freeze: Duration,
}

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
    writing: Mutex<()>,
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
}

impl std::fmt::Display for DumpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DumpError::Recorder(error) => write!(f, "{error}"),
            DumpError::Write(error) => write!(f, "{error}"),
            DumpError::NotRecording => write!(f, "not recording yet: try again"),
            DumpError::TooMany => write!(f, "{DUMPS_MAX} snapshots are being taken: try again"),
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
            writing: Mutex::new(()),
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
        if self.asked.fetch_add(1, Ordering::AcqRel) >= DUMPS_MAX {
            self.asked.fetch_sub(1, Ordering::AcqRel);
            return Err(DumpError::TooMany);
        }
        let taken = self.take_one(request);
        self.asked.fetch_sub(1, Ordering::AcqRel);
        taken
    }

    fn take_one(&self, request: DumpRequest) -> Result<Taken, DumpError> {
        let asked = Instant::now();
        // The moment of the snapshot is the moment of the request, even when
        // another one is being written.
        let mut frozen = self.handle.freeze().map_err(DumpError::Recorder)?;
        let mut unfinished = self.unfinished.ask(frozen.moment_ns);
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
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
        let FrozenWindow { blocks, mut baseline, .. } = frozen.window;
        if !baseline.is_settled() {
            // A copy: the window goes on with its own.
            Arc::make_mut(&mut baseline).settle();
        }
        let mut all = blocks_of(baseline.to_events(), Class::Context);
        all.extend(blocks);
        all.extend(blocks_of(
            unfinished.events.iter().map(OwnedEvent::as_event),
            Class::Unfinished,
        ));
        let contents = Contents { header: &header, blocks: all, asked };
        let written =
            snapshot::write(&self.directory, &name, contents).map_err(DumpError::Write)?;
        Ok(Taken { written, freeze: frozen.freeze })
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
        header.window = window_info(&frozen.window, frozen.moment_ns);
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

fn window_info(window: &FrozenWindow, moment_ns: u64) -> WindowInfo {
    let mut info = WindowInfo {
        start_ns: moment_ns,
        end_ns: moment_ns,
        asked_ns: window.limits.span_ns,
        ..WindowInfo::default()
    };
    window.blocks.iter().for_each(|block| info.count(block.meta()));
    info
}

/// Leaves out what is older.
fn cut_before(frozen: &mut Frozen, oldest_ns: u64) {
    let events = frozen.window.cut_before(oldest_ns);
    frozen.ledger.in_window -= events;
    frozen.ledger.evicted += events;
}
