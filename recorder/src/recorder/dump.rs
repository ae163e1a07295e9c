//! Takes a snapshot: freezes, asks for the calls that have not returned, writes.
//! Runs on a thread of its own; the recording goes on.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Frozen, Handle, RecorderError};
use crate::{
    clock::ClockAnchor,
    event::{
        ATTACHMENTS_MAX, Attached, Class, Event, Kind, Meaning,
        syscall::{self, Abi},
        wire::{
            ATTACHMENT_WAIT_CHANNEL, SOCKADDR_BYTES_MAX, STRING_BYTES_MAX, attachment_flag, flag,
        },
    },
    loss::Missing,
    probe::{self, SlotLister, UnfinishedCall},
    snapshot::{self, Contents, Header, WindowInfo, WriteError, Written, snapshot_name},
    trigger::Trigger,
    window::{Block, FrozenWindow, blocks_of},
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
    lister: SlotLister,
    /// Calls that began before the recording, as far as they may still run.
    before: Mutex<HashMap<u32, UnfinishedCall>>,
    attached_ns: u64,
    own_pid: u32,
    native: Abi,
    directory: PathBuf,
    /// What does not change between snapshots.
    host: Header,
    /// Snapshots asked for and not finished.
    asked: AtomicUsize,
    writing: Mutex<()>,
}

/// Snapshots asked for at the same time; each holds blocks of its moment, so one
/// more is told to try later.
const DUMPS_MAX: usize = 8;

/// What a dumper needs to know of the recording.
pub struct DumperSetup {
    /// Freezes the window.
    pub handle: Handle,
    /// Lists the slots.
    pub lister: SlotLister,
    /// When the hooks were attached.
    pub attached_ns: u64,
    /// The recorder's own process.
    pub own_pid: u32,
    /// The ABI of the host's calls.
    pub native: Abi,
    /// Where snapshots go.
    pub directory: PathBuf,
    /// What this kernel does not give.
    pub missing: Vec<Missing>,
    /// `--memory`.
    pub memory_bytes: u64,
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
    /// Lists the calls that are running already, and is ready.
    pub fn new(setup: DumperSetup) -> Dumper {
        let before = probe::calls_before_recording(setup.own_pid);
        Dumper {
            before: Mutex::new(before.into_iter().map(|call| (call.tid, call)).collect()),
            host: host_facts(setup.missing, setup.memory_bytes),
            handle: setup.handle,
            lister: setup.lister,
            attached_ns: setup.attached_ns,
            own_pid: setup.own_pid,
            native: setup.native,
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
        let unfinished = self.unfinished(frozen.moment_ns);
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since_ns) = request.since_ns {
            let oldest_ns = frozen.moment_ns.saturating_sub(since_ns);
            cut_before(&mut frozen, oldest_ns);
        }
        let name = request.name.clone();
        let header = self.header(&frozen, request);
        let FrozenWindow { blocks, baseline, .. } = frozen.window;
        let mut all = blocks_of(baseline.to_events(), Class::Context);
        all.extend(blocks);
        all.extend(blocks_of(unfinished.iter().map(OwnedEvent::as_event), Class::Unfinished));
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

    /// The calls that had not returned at `moment_ns`: by the slots, and those
    /// that began before the recording.
    fn unfinished(&self, moment_ns: u64) -> Vec<OwnedEvent> {
        let listed = match probe::unfinished_calls(&self.lister) {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "calls that have not returned are missing in a snapshot");
                return Vec::new();
            }
        };
        let mut events: Vec<OwnedEvent> = listed
            .iter()
            .filter(|call| call.entry_ns <= moment_ns && call.pid != self.own_pid)
            .map(|call| {
                let age_ns = moment_ns - call.entry_ns;
                OwnedEvent::of_call(call, moment_ns, age_ns, self.native, 0)
            })
            .collect();
        self.drop_changed(&listed, &mut events);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        for call in &listed {
            // It has a slot, so it has returned since and made another call.
            before.remove(&call.tid);
        }
        before.retain(|_, call| call.still_running());
        // Whoever has a slot by now was between two calls a moment ago.
        for call in probe::unfinished_calls(&self.lister).unwrap_or_default() {
            before.remove(&call.tid);
        }
        let age_ns = moment_ns.saturating_sub(self.attached_ns);
        events.extend(before.values().map(|call| {
            OwnedEvent::of_call(call, moment_ns, age_ns, self.native, flag::BEFORE_RECORDING)
        }));
        events
    }

    /// Strings were read while the threads ran on: where the slot has changed
    /// since, they may belong to another call, and are dropped.
    fn drop_changed(&self, listed: &[UnfinishedCall], events: &mut [OwnedEvent]) {
        if events.iter().all(|event| event.attached.is_empty()) {
            return;
        }
        let again = probe::unfinished_calls(&self.lister).unwrap_or_default();
        let again: HashMap<u32, UnfinishedCall> =
            again.into_iter().map(|call| (call.tid, call)).collect();
        let before: HashMap<u32, &UnfinishedCall> =
            listed.iter().map(|call| (call.tid, call)).collect();
        for event in events {
            if again.get(&event.tid) != before.get(&event.tid).copied() {
                event.attached.clear();
            }
        }
    }
}

fn host_facts(missing: Vec<Missing>, memory_bytes: u64) -> Header {
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
    for block in &window.blocks {
        let meta = block.meta();
        info.start_ns = info.start_ns.min(meta.first_ns);
        let first = info.start_ns_by_class.entry(meta.class.name().to_string());
        first.and_modify(|first| *first = (*first).min(meta.first_ns)).or_insert(meta.first_ns);
    }
    info
}

/// Leaves out what is older; state events among it go into the baseline.
fn cut_before(frozen: &mut Frozen, oldest_ns: u64) {
    let blocks = std::mem::take(&mut frozen.window.blocks);
    let (kept, dropped): (Vec<Block>, Vec<Block>) =
        blocks.into_iter().partition(|block| block.meta().last_ns >= oldest_ns);
    frozen.window.blocks = kept;
    frozen.window.fold(&dropped);
    let events: u64 = dropped.iter().map(|block| block.meta().ledger_events()).sum();
    frozen.ledger.in_window -= events;
    frozen.ledger.evicted += events;
}

/// An event that owns its bytes.
struct OwnedEvent {
    pid: u32,
    tid: u32,
    ts_ns: u64,
    flags: u16,
    numbers: Vec<u64>,
    attached: Vec<(u8, u8, Vec<u8>)>,
}

impl OwnedEvent {
    fn of_call(
        call: &UnfinishedCall,
        moment_ns: u64,
        age_ns: u64,
        native: Abi,
        flags: u16,
    ) -> OwnedEvent {
        let abi = if call.compat { native.compat().unwrap_or(native) } else { native };
        let compat = if call.compat { flag::COMPAT } else { 0 };
        let row = syscall::lookup(abi, call.nr);
        let count = row.map_or(call.args.len(), |row| row.args.len());
        let mut numbers = vec![call.nr.cast_unsigned(), 0, age_ns];
        numbers.extend(call.args.iter().take(count));
        let mut attached = Vec::new();
        for (place, arg) in row.map(|row| row.args).unwrap_or_default().iter().enumerate() {
            let pointer = call.args.get(place).copied().unwrap_or_default();
            let next = call.args.get(place + 1).copied().unwrap_or_default();
            let read = match arg.meaning {
                Meaning::Path | Meaning::Text => read_string(call.pid, pointer),
                Meaning::Sockaddr => read_memory(call.pid, pointer, next as usize),
                _ => continue,
            };
            if attached.len() + 1 < ATTACHMENTS_MAX {
                attached.push(match read {
                    Ok(bytes) => (place as u8, 0, bytes),
                    Err(_) => (place as u8, attachment_flag::UNREADABLE, Vec::new()),
                });
            }
        }
        attached.extend(wait_channel(call).map(|name| (ATTACHMENT_WAIT_CHANNEL, 0, name)));
        OwnedEvent {
            pid: call.pid,
            tid: call.tid,
            ts_ns: moment_ns,
            flags: flag::UNFINISHED | compat | flags,
            numbers,
            attached,
        }
    }

    fn as_event(&self) -> Event<'_> {
        let mut event = Event::new(Kind::Syscall, self.ts_ns);
        (event.pid, event.tid, event.flags) = (self.pid, self.tid, self.flags);
        for number in &self.numbers {
            event.push_number(*number);
        }
        for (index, flags, bytes) in &self.attached {
            event.attach(Attached { index: *index, flags: *flags, bytes });
        }
        event
    }
}

/// The function of the kernel a thread waits in; `None` when it does not wait.
fn wait_channel(call: &UnfinishedCall) -> Option<Vec<u8>> {
    let path = format!("/proc/{}/task/{}/wchan", call.pid, call.tid);
    let name = fs::read(path).ok()?;
    (!name.is_empty() && name != b"0").then_some(name)
}

/// Reads a string of another process up to its NUL.
fn read_string(pid: u32, pointer: u64) -> io::Result<Vec<u8>> {
    let mut bytes = read_memory(pid, pointer, STRING_BYTES_MAX)?;
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

/// Reads memory of another process, less where it ends before. `/proc/PID/mem`
/// gives what `process_vm_readv` gives, without an unsafe call.
fn read_memory(pid: u32, pointer: u64, length: usize) -> io::Result<Vec<u8>> {
    let length = length.min(STRING_BYTES_MAX.max(SOCKADDR_BYTES_MAX));
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut bytes = vec![0; length];
    let read = memory.read_at(&mut bytes, pointer)?;
    bytes.truncate(read);
    if read == 0 && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
