//! The recording: one thread owns the rings and the window, and does whatever
//! happens to them; everybody else sends it a message.
//!
//! Invariant: nothing here waits for a file, a lock somebody may hold for long,
//! or the network. What it cannot do in microseconds another thread does.

mod dump;
mod pulse;
mod rate;
mod repeats;
mod tally;
mod turns;
mod unfinished;
mod watcher;

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use rate::Rate;
use serde::{Deserialize, Serialize};
use watcher::Watcher;

pub use dump::{DEADLINE_MIN, DumpError, DumpRequest, Dumper, DumperSetup, Taken, host_facts};
pub use pulse::Pulse;
pub use repeats::{Places, Repeats};
pub use tally::{KernelCounts, Record, Tally};
pub use unfinished::{UNFINISHED_THREAD, UnfinishedReader, UnfinishedSetup};
pub use watcher::FIRINGS_MAX;

use crate::{
    clock::{self, ClockAnchor},
    context::{self, Processes},
    event::{
        Class, Event, Kind,
        syscall::Abi,
        wire::{CANARY_PID, lost},
    },
    loss::Ledger,
    privacy::{Masker, Privacy, PrivacyFacts},
    probe::{self, CutAnswer, ProbeError, Probes},
    ring::{RecordSource, Wake},
    rollup::{RollupHealth, Rollups},
    spool::{Spool, SpoolFeed, SpoolHealth},
    trigger::rule::{Firing, Rules, RulesHealth},
    window::{FrozenWindow, Holding, Window, WindowLimits},
};

/// How long the rings are left alone when nobody asks: they wake us when half full.
const VISIT_EVERY: Duration = Duration::from_millis(100);

/// Records taken from one CPU before the next has its turn.
const BATCH_RECORDS: usize = 8_192;

/// Messages that may wait; whoever sends one more is told to try later.
const MESSAGES_MAX: usize = 64;

/// How often a CPU is cut again because a program was running on it.
const CUTS_MAX: usize = 10_000;

/// How long the recording has to answer before whoever asked is told that it failed, where
/// they do not say themselves.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the recording cannot go on, or cannot answer.
#[derive(Debug)]
pub enum RecorderError {
    /// The kernel side failed.
    Probe(ProbeError),
    /// Waiting for the rings failed.
    Wait(io::Error),
    /// Too many requests are waiting.
    Busy,
    /// It has ended, or does not answer.
    Gone,
    /// It did not answer within this time, which was all there was.
    Late(Duration),
    /// The rings could not be cut.
    Cut(u32),
}

impl fmt::Display for RecorderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecorderError::Probe(error) => write!(f, "{error}"),
            RecorderError::Wait(error) => write!(f, "cannot wait for the rings: {error}"),
            RecorderError::Busy => write!(f, "too many requests are waiting: try again"),
            RecorderError::Gone => write!(f, "the recording has ended or does not answer"),
            RecorderError::Late(within) => {
                write!(
                    f,
                    "the recording did not answer within {within:?}: try again, or allow more time"
                )
            }
            RecorderError::Cut(cpu) => write!(f, "the ring of CPU {cpu} cannot be cut: try again"),
        }
    }
}

impl std::error::Error for RecorderError {}

impl From<ProbeError> for RecorderError {
    fn from(error: ProbeError) -> RecorderError {
        RecorderError::Probe(error)
    }
}

/// The window and its books at one moment.
pub struct Frozen {
    /// The window.
    pub window: FrozenWindow,
    /// Counts of the last hour: blocks, and rows since the last of them.
    pub rollups: Rollups,
    /// The books, at exactly the place where the window ends.
    pub ledger: Ledger,
    /// The moment: nothing later is in it.
    pub moment_ns: u64,
    /// Both clocks at that moment.
    pub clock: ClockAnchor,
    /// How long reading up to the request and closing the books took.
    pub drain: Duration,
    /// How long the hand-over took.
    pub freeze: Duration,
}

/// How the recording is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// Whether an event of our own came through the whole path.
    pub recording: bool,
    /// What the window holds.
    pub window: WindowHealth,
    /// Events a second, over the last second or more.
    pub events_per_s: f64,
    /// CPU time of the daemon over the same time, in percent of one CPU.
    pub cpu_percent: f64,
    /// Compressed bytes per event of what is sealed.
    pub bytes_per_event: f64,
    /// Bytes, part by part.
    pub memory: MemoryHealth,
    /// How many segments the window has.
    pub segments: usize,
    /// Events lost since the window began.
    pub lost_in_window: u64,
    /// Milliseconds since an event of our own was made that came through the whole
    /// path.
    pub canary_age_ms: Option<u64>,
    /// The rules on the stream.
    pub rules: RulesHealth,
    /// What is masked, and how much was.
    pub privacy: PrivacyFacts,
    /// The counts of the last hour.
    #[serde(default)]
    pub rollups: RollupHealth,
    /// The books.
    pub ledger: Ledger,
}

/// How far back the window goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WindowHealth {
    /// The longest span of a class, seconds.
    pub span_s: f64,
    /// The span that was asked for, seconds.
    pub asked_s: f64,
    /// Class by class.
    pub classes: Vec<ClassHealth>,
}

/// What the window holds of one class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClassHealth {
    /// The class.
    pub class: String,
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
    /// Seconds since the oldest.
    pub span_s: f64,
}

/// Where the memory is, bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryHealth {
    /// The rings, in the kernel.
    pub rings: u64,
    /// The slots of all threads, in the kernel.
    pub slots: u64,
    /// Sealed blocks.
    pub window: u64,
    /// Columns that are still open.
    pub open: u64,
    /// Blocks that left the window and are still being written to a file.
    pub pinned: u64,
    /// Threads at the window's left edge.
    pub baseline: u64,
    /// What rules remember; the window has so much less.
    pub rules: u64,
    /// Counts of the last hour; the same.
    #[serde(default)]
    pub rollups: u64,
    /// Where calls that come again are known; the same.
    #[serde(default)]
    pub repeats: u64,
    /// All of it.
    pub total: u64,
    /// What it may be.
    pub limit: u64,
}

impl MemoryHealth {
    /// Its parts by name.
    pub fn parts(&self) -> [(&'static str, u64); 9] {
        [
            ("rings", self.rings),
            ("slots", self.slots),
            ("window", self.window),
            ("open", self.open),
            ("pinned", self.pinned),
            ("baseline", self.baseline),
            ("rules", self.rules),
            ("rollups", self.rollups),
            ("repeats", self.repeats),
        ]
    }
}

enum Message {
    Freeze(SyncSender<Result<Frozen, RecorderError>>),
    Health(SyncSender<Result<Health, RecorderError>>),
    Limits(WindowLimits, u64),
    Rules(Rules, SyncSender<Result<bool, RecorderError>>),
    Names(Box<Processes>),
    Stop,
}

/// Sends messages to the recording.
#[derive(Clone)]
pub struct Handle {
    messages: SyncSender<Message>,
    wake: Wake,
    pulse: Arc<Pulse>,
    privacy: Arc<Privacy>,
    spool: Option<Spool>,
}

impl Handle {
    /// How the spool is doing, where there is one.
    pub fn spool(&self) -> Option<SpoolHealth> {
        self.spool.as_ref().map(Spool::health)
    }

    /// Whether an event of our own came through the whole path.
    pub fn is_recording(&self) -> bool {
        self.pulse.is_recording()
    }

    /// What can be known without asking.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What is masked: everything that is kept goes through it.
    pub fn privacy(&self) -> &Arc<Privacy> {
        &self.privacy
    }

    /// Freezes the window: everything that had returned before is in it. Waits for at most
    /// `within`, and never longer than ten seconds.
    pub fn freeze(&self, within: Option<Duration>) -> Result<Frozen, RecorderError> {
        match within.filter(|within| *within < ANSWER_WITHIN) {
            None => self.ask(Message::Freeze),
            Some(within) => self.ask_within(within, Message::Freeze),
        }
    }

    /// Asks how the recording is doing.
    pub fn health(&self) -> Result<Health, RecorderError> {
        self.ask(Message::Health)
    }

    /// Changes the limits of the window, and `--memory` they follow from.
    pub fn set_limits(&self, limits: WindowLimits, memory_bytes: u64) -> Result<(), RecorderError> {
        self.send(Message::Limits(limits, memory_bytes))
    }

    /// Changes the rules. One that keeps its name stays silent as long as it would have.
    /// Reads `/proc` where they need the names of the threads that are there.
    pub fn set_rules(&self, rules: Rules) -> Result<(), RecorderError> {
        let want_names = self.ask(|answer| Message::Rules(rules, answer))?;
        // Only now: what is newer is looked at, what is older is in it.
        if want_names {
            self.send(Message::Names(Box::new(context::scan_names(&mut self.privacy.masker()))))
        } else {
            Ok(())
        }
    }

    /// Ends the recording.
    pub fn stop(&self) -> Result<(), RecorderError> {
        self.send(Message::Stop)
    }

    fn ask<T>(
        &self,
        message: impl FnOnce(SyncSender<Result<T, RecorderError>>) -> Message,
    ) -> Result<T, RecorderError> {
        self.ask_within(ANSWER_WITHIN, message).map_err(|error| match error {
            RecorderError::Late(_) => RecorderError::Gone,
            error => error,
        })
    }

    fn ask_within<T>(
        &self,
        within: Duration,
        message: impl FnOnce(SyncSender<Result<T, RecorderError>>) -> Message,
    ) -> Result<T, RecorderError> {
        let (answer, answered) = sync_channel(1);
        self.send(message(answer))?;
        match answered.recv_timeout(within) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(RecorderError::Late(within)),
            Err(RecvTimeoutError::Disconnected) => Err(RecorderError::Gone),
        }
    }

    fn send(&self, message: Message) -> Result<(), RecorderError> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => RecorderError::Busy,
            TrySendError::Disconnected(_) => RecorderError::Gone,
        })?;
        self.wake.wake();
        Ok(())
    }
}

/// The recording. Owns the rings and the window.
pub struct Recorder<S> {
    source: S,
    probes: Probes,
    window: Window,
    feed: Option<SpoolFeed>,
    rollups: Rollups,
    repeats: Repeats,
    /// What the window may have together with what rules remember.
    limits: WindowLimits,
    watcher: Watcher,
    privacy: Arc<Privacy>,
    masker: Masker,
    tally: Tally,
    native: Abi,
    messages: Receiver<Message>,
    pulse: Arc<Pulse>,
    ring_total_bytes: u64,
    memory_bytes: u64,
    nonce: u64,
    rate: Rate,
    /// Events the kernel skipped, at the last cut, and when that was.
    skipped: (u64, u64),
}

/// What a recording needs beside its rings.
pub struct Setup {
    /// The attached programs.
    pub probes: Probes,
    /// The window's limits.
    pub limits: WindowLimits,
    /// Bytes of all rings.
    pub ring_total_bytes: u64,
    /// `--memory`.
    pub memory_bytes: u64,
    /// The ABI of the host's calls.
    pub native: Abi,
    /// The threads of the host when recording began.
    pub baseline: Processes,
    /// What is to fire.
    pub rules: Rules,
    /// What is masked.
    pub privacy: Arc<Privacy>,
    /// Where firings go: at most [`FIRINGS_MAX`] wait, more are dropped and counted.
    pub firings: SyncSender<Firing>,
    /// What keeps the window on disk, and our end of it.
    pub spool: Option<(Spool, SpoolFeed)>,
}

impl<S: RecordSource> Recorder<S> {
    /// A recording and the handle to it. `wake` is the one `source` waits for.
    pub fn new(source: S, wake: Wake, setup: Setup) -> (Recorder<S>, Handle) {
        let (sender, messages) = sync_channel(MESSAGES_MAX);
        let pulse = Arc::new(Pulse::default());
        let cpus = source.cpus();
        let (spool, feed) = setup.spool.unzip();
        let handle = Handle {
            messages: sender,
            wake,
            pulse: Arc::clone(&pulse),
            privacy: Arc::clone(&setup.privacy),
            spool,
        };
        let mut watcher = Watcher::new(setup.rules, cpus, setup.firings);
        watcher.bound(setup.memory_bytes);
        watcher.seed(&setup.baseline);
        let mut rollups =
            Rollups::new(setup.native, rollup_bytes_max(setup.memory_bytes), &setup.baseline);
        let mut window = Window::new(setup.limits, cpus, setup.native, setup.baseline);
        if feed.is_some() {
            window.keep_unseen();
            rollups.keep_unseen();
        }
        let recorder = Recorder {
            source,
            window,
            feed,
            rollups,
            repeats: Repeats::new(cpus, setup.memory_bytes),
            limits: setup.limits,
            watcher,
            masker: setup.privacy.masker(),
            privacy: setup.privacy,
            tally: Tally::new(cpus),
            native: setup.native,
            probes: setup.probes,
            messages,
            pulse,
            ring_total_bytes: setup.ring_total_bytes,
            memory_bytes: setup.memory_bytes,
            nonce: 0,
            rate: Rate::new(),
            skipped: (0, clock::monotonic_ns()),
        };
        (recorder, handle)
    }

    /// Records until it is stopped.
    pub fn run(mut self) -> Result<(), RecorderError> {
        loop {
            let busiest = self.drain_all();
            self.watcher.settle();
            self.fit_window();
            let now_ns = clock::monotonic_ns();
            self.window.tick(now_ns);
            self.rollups.tick(now_ns);
            self.feed_spool();
            self.pulse.visited(now_ns, self.window.bytes());
            let window = Duration::from_nanos(self.window.limits().span_ns);
            self.rate.take(self.window.events(), self.lost(), window);
            #[cfg(feature = "debug-log")]
            self.probes.flush_log();
            while let Ok(message) = self.messages.try_recv() {
                match message {
                    // Whoever asked may be gone: then nobody needs the answer.
                    Message::Freeze(answer) => drop(answer.send(self.freeze())),
                    Message::Health(answer) => drop(answer.send(self.health())),
                    Message::Limits(limits, memory_bytes) => {
                        (self.limits, self.memory_bytes) = (limits, memory_bytes);
                        self.watcher.bound(memory_bytes);
                        self.repeats.bound(memory_bytes);
                        self.rollups.set_bytes_max(rollup_bytes_max(memory_bytes));
                    }
                    Message::Rules(rules, answer) => {
                        let want_names = self.watcher.set(rules, self.memory_bytes);
                        drop(answer.send(Ok(want_names)));
                    }
                    Message::Names(threads) => self.watcher.seed(&threads),
                    Message::Stop => {
                        self.window.seal_all();
                        self.feed_spool();
                        self.feed.take().into_iter().for_each(SpoolFeed::end);
                        return Ok(());
                    }
                }
            }
            if busiest < BATCH_RECORDS && !self.window.has_handed_blocks() {
                self.source.wait(VISIT_EVERY).map_err(RecorderError::Wait)?;
            }
        }
    }

    /// Hands the spool what was sealed since the last time, where there is one.
    fn feed_spool(&mut self) {
        if let Some(feed) = &mut self.feed {
            let sealed = self.rollups.take_unseen();
            feed.take(&mut self.window, self.rollups.sealed(), sealed);
        }
    }

    /// Visits every ring once; answers how many records the fullest gave.
    fn drain_all(&mut self) -> usize {
        let mut busiest = 0;
        for cpu in 0..self.source.cpus() {
            let began_ns = clock::monotonic_ns();
            let records = self.drain(cpu, BATCH_RECORDS, 0);
            self.watcher.visited(cpu, began_ns, records < BATCH_RECORDS);
            busiest = busiest.max(records);
        }
        busiest
    }

    /// Bytes of what has its share of the window's.
    fn beside_window(&self) -> u64 {
        self.watcher.bytes() + self.rollups.bytes() + self.repeats.bytes()
    }

    /// The window has what the others do not take.
    fn fit_window(&mut self) {
        let bytes_max = self.limits.bytes_max.saturating_sub(self.beside_window());
        let limits = WindowLimits { bytes_max, ..self.limits };
        if limits != self.window.limits() {
            self.window.set_limits(limits);
        }
    }

    /// Reads the ring of a CPU: at most `records_max`, and not beyond the mark
    /// `nonce`, whether or not it came.
    fn drain(&mut self, cpu: usize, records_max: usize, nonce: u64) -> usize {
        let Recorder {
            source,
            window,
            watcher,
            masker,
            tally,
            pulse,
            probes,
            rollups,
            repeats,
            ..
        } = self;
        let (own_pid, native) = (probes.own_pid(), self.native);
        source.drain(cpu, records_max, &mut |record| {
            repeats.follow(masker.rules());
            let call = repeats.split(record);
            if let Some((key, call)) = &call
                && let Some(places) = repeats.find(cpu, *key)
                && watcher.passes(call)
                && rollups.is_current(places.cell)
                && window.push_known(cpu as u16, &places.window, call)
            {
                tally.call(cpu, call.sequence);
                rollups.push_known(places.cell, call);
                return true;
            }
            let mut event = Event::new(Kind::Lost, 0);
            match tally.read(cpu, record, &mut event) {
                Record::Event => {}
                Record::Mark(mark) => return nonce == 0 || mark != nonce,
                Record::Malformed => return true,
            }
            if event.pid == own_pid && event.number(3) == CANARY_PID {
                pulse.canary(event.ts_ns);
                window.push(&event);
                return true;
            }
            // Before anybody keeps anything of it: no secret gets further than here.
            if let Some(masked) = masker.event(&event, native) {
                watcher.look(&masked);
                rollups.push(&masked);
                window.push(&masked);
                return true;
            }
            watcher.look(&event);
            let cell = rollups.push(&event);
            let place = window.push(&event);
            if let (Some((key, _)), Some(cell), Some(window)) = (call, cell, place) {
                repeats.learn(cpu, key, &event, Places { window, cell });
            }
            true
        })
    }

    /// Cuts every ring and reads up to the cuts.
    fn cut(&mut self) -> Result<(), RecorderError> {
        for cpu in 0..self.source.cpus() {
            let mut cuts = 0;
            loop {
                if cuts == CUTS_MAX {
                    return Err(RecorderError::Cut(cpu as u32));
                }
                cuts += 1;
                self.nonce += 1;
                match self.probes.cut(cpu as u32, self.nonce)? {
                    CutAnswer::Offline => {
                        self.drain(cpu, usize::MAX, 0);
                        self.tally.offline(cpu);
                        break;
                    }
                    CutAnswer::Full => {
                        self.drain(cpu, BATCH_RECORDS, 0);
                    }
                    CutAnswer::Marked => {
                        self.drain(cpu, usize::MAX, self.nonce);
                        if self.tally.is_cut(cpu, self.nonce) {
                            break;
                        }
                    }
                }
            }
        }
        self.note_skipped();
        Ok(())
    }

    /// Puts what the kernel skipped since the last cut into the stream. Nobody knows
    /// when in between that was, nor on which CPU.
    fn note_skipped(&mut self) {
        let (before, since_ns) = self.skipped;
        let skipped = self.probes.kernel_skipped();
        let now_ns = clock::monotonic_ns();
        if skipped > before {
            let mut lost = Event::new(Kind::Lost, since_ns);
            for number in [u64::from(lost::KERNEL_SKIPPED), skipped - before, now_ns] {
                lost.push_number(number);
            }
            self.window.push(&lost);
        }
        self.skipped = (skipped, now_ns);
    }

    /// The books at the cut that was just made.
    fn ledger(&self) -> Result<Ledger, RecorderError> {
        let at_cut = self.probes.counters_at_cut()?;
        let running = self.probes.counters()?;
        let (skipped, _) = self.skipped;
        let kernel = KernelCounts { at_cut: &at_cut, running: &running, skipped };
        Ok(self.tally.ledger(kernel, &self.window, self.native))
    }

    fn freeze(&mut self) -> Result<Frozen, RecorderError> {
        let asked = Instant::now();
        self.cut()?;
        let ledger = self.ledger()?;
        let drain = asked.elapsed();
        let started = Instant::now();
        let window = self.window.freeze();
        let rollups = self.rollups.clone();
        let clock = ClockAnchor::now();
        let freeze = started.elapsed();
        let moment_ns = clock.monotonic_ns;
        Ok(Frozen { window, rollups, ledger, moment_ns, clock, drain, freeze })
    }

    /// Events known to be lost, by the records of losses.
    fn lost(&self) -> u64 {
        self.tally.lost() + self.skipped.0
    }

    fn health(&mut self) -> Result<Health, RecorderError> {
        self.cut()?;
        let ledger = self.ledger()?;
        let now_ns = clock::monotonic_ns();
        let holdings = self.window.holdings();
        let span = |holding: &Holding| {
            holding.first_ns.map_or(0.0, |first| now_ns.saturating_sub(first) as f64 / 1e9)
        };
        let classes = Class::RECORDED.iter().zip(&holdings).map(|(class, holding)| ClassHealth {
            class: class.name().to_string(),
            events: holding.events,
            bytes: holding.bytes,
            span_s: span(holding),
        });
        let rings = self.ring_total_bytes;
        let slots = probe::slots_bytes();
        let memory = MemoryHealth {
            rings,
            slots,
            window: self.window.sealed_bytes(),
            open: self.window.open_bytes(),
            pinned: self.window.pinned_bytes(),
            baseline: self.window.baseline_bytes(),
            rules: self.watcher.bytes(),
            rollups: self.rollups.bytes(),
            repeats: self.repeats.bytes(),
            total: rings + slots + self.window.bytes() + self.beside_window(),
            limit: self.memory_bytes,
        };
        Ok(Health {
            recording: self.pulse.is_recording(),
            window: WindowHealth {
                span_s: holdings.iter().map(span).fold(0.0, f64::max),
                asked_s: self.window.limits().span_ns as f64 / 1e9,
                classes: classes.collect(),
            },
            events_per_s: self.rate.events_per_s,
            cpu_percent: self.rate.cpu_percent,
            bytes_per_event: self.window.bytes_per_event(),
            memory,
            segments: self.window.segments(),
            lost_in_window: self.rate.lost_in_window(self.lost()),
            rules: self.watcher.health(),
            privacy: self.privacy.facts(),
            canary_age_ms: self.pulse.canary_age_ns().map(|age_ns| age_ns / 1_000_000),
            rollups: self.rollups.health(now_ns),
            ledger,
        })
    }
}

/// Counts take an eighth of the memory at most.
fn rollup_bytes_max(memory_bytes: u64) -> u64 {
    memory_bytes / 8
}
