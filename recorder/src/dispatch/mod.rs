//! Turns triggers into snapshots: asks the policy, takes what is due, keeps the
//! directory tidy, runs the hook, and counts.
//!
//! Whoever asks is answered at once; one thread takes what was planned.
//!
//! Invariant: the lock is held for decisions only, never while a file is written.

mod hook;
pub mod keep;
pub mod metrics;
mod rules;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, SystemTime},
};

use metrics::Metrics;

use crate::{
    clock::{self, ClockAnchor},
    config::TriggerConfig,
    json,
    recorder::{DumpError, DumpRequest, Dumper, RecorderError, Taken},
    snapshot::{Target, WriteError},
    trigger::{
        Trigger,
        body::Message,
        matching::{Here, HostNames, is_local_address},
        policy::{Decision, Memory, Offer, Planned, Policy},
    },
};

/// What an earlier run remembered, in the directory of the snapshots it speaks of.
const MEMORY: &str = ".triggers.json";

/// The largest such file: it has one short line for each alert.
const MEMORY_BYTES_MAX: u64 = 4 << 20;

/// How often a promised snapshot is tried when the recording is busy, and how long
/// is waited in between.
const TRIES_MAX: usize = 5;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Doors, and other sources of snapshots, that metrics tell apart.
const SOURCES: [&str; 7] =
    ["alertmanager", "grafana", "pagerduty", "generic", "rule", "signal", "manual"];

/// What came in by a door.
pub struct Incoming<'a> {
    /// Which.
    pub door: &'a str,
    /// What it says.
    pub message: Message,
    /// Whether it was sent from this host.
    pub local: bool,
    /// Other than the door's settings, nanoseconds.
    pub before_ns: Option<u64>,
    /// Other than the door's settings, nanoseconds.
    pub after_ns: Option<u64>,
}

/// What a person asks for.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Why.
    pub trigger: Trigger,
    /// Only this far back, nanoseconds.
    pub since_ns: Option<u64>,
    /// Whether it is marked to stay.
    pub keep: bool,
    /// How long it may take.
    pub deadline: Option<Duration>,
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum OrderError {
    /// No room for it.
    NoRoom(String),
    /// It could not be taken.
    Dump(DumpError),
}

impl std::fmt::Display for OrderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OrderError::NoRoom(why) => f.write_str(why),
            OrderError::Dump(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for OrderError {}

struct State {
    policy: Policy,
    config: Arc<TriggerConfig>,
    names: Arc<HostNames>,
    ended: bool,
}

/// See the module.
pub struct Dispatcher {
    dumper: Arc<Dumper>,
    metrics: Metrics,
    state: Mutex<State>,
    changed: Condvar,
    hooks: SyncSender<hook::Job>,
    pressures: Mutex<rules::Pressures>,
}

impl Dispatcher {
    /// With what an earlier run remembered. Starts the threads that take snapshots
    /// and run hooks; they end with [`Dispatcher::end`].
    pub fn start(
        dumper: Arc<Dumper>,
        config: TriggerConfig,
        names: HostNames,
    ) -> Result<(Arc<Dispatcher>, std::thread::JoinHandle<()>), StartError> {
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let memory = recall(&dumper.directory().join(MEMORY));
        let (hooks, jobs) = sync_channel(hook::WAITING_MAX);
        let state = State {
            policy: Policy::new(config.policy.clone(), memory),
            config: Arc::new(config),
            names: Arc::new(names),
            ended: false,
        };
        let dispatcher = Arc::new(Dispatcher {
            dumper,
            metrics: metrics.clone(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            hooks,
            pressures: Mutex::default(),
        });
        let named = |name: &str| std::thread::Builder::new().name(name.to_string());
        named("hook").spawn(move || hook::run(&jobs, &metrics)).map_err(StartError::Thread)?;
        let worker = Arc::clone(&dispatcher);
        let worker = named("dispatch").spawn(move || worker.work()).map_err(StartError::Thread)?;
        Ok((dispatcher, worker))
    }

    /// Other settings from now on.
    pub fn set_config(&self, config: TriggerConfig, names: HostNames) {
        let mut state = self.state();
        state.policy.set(config.policy.clone());
        state.config = Arc::new(config);
        state.names = Arc::new(names);
        drop(state);
        self.changed.notify_all();
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<TriggerConfig> {
        Arc::clone(&self.state().config)
    }

    /// The recording snapshots are taken of.
    pub fn dumper(&self) -> &Arc<Dumper> {
        &self.dumper
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The snapshot that waits for its moment, and how many triggered ones the last
    /// hour had.
    pub fn planned(&self) -> (Option<String>, usize) {
        let mut state = self.state();
        let name = state.policy.planned().map(|planned| planned.name.clone());
        (name, state.policy.in_last_hour(&ClockAnchor::now()))
    }

    /// The path of a snapshot of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dumper.directory().join(name)
    }

    /// Decides about what came in, in microseconds unless the disk hangs.
    pub fn offer(&self, incoming: Incoming<'_>) -> Decision {
        let (config, names) = {
            let state = self.state();
            (Arc::clone(&state.config), Arc::clone(&state.names))
        };
        // A disk that hangs must hold up this trigger alone.
        let no_room = self.no_room(&config);
        let now = ClockAnchor::now();
        let here = Here { names: &names, local: incoming.local, is_local_address };
        let offer = Offer {
            door: incoming.door,
            message: incoming.message,
            here,
            before_ns: incoming.before_ns,
            after_ns: incoming.after_ns,
            no_room,
        };
        let name = |trigger: &Trigger| self.dumper.name(&trigger.source);
        let decision = self.state().policy.offer(&now, offer, name);
        let outcome = match &decision {
            Decision::Accepted(_) => "accepted",
            Decision::Joined(_) => "joined",
            Decision::Known(_) | Decision::Ignored(_) => "ignored",
            Decision::Refused { .. } => "refused",
        };
        self.metrics.triggers.with_label_values(&[source(incoming.door), outcome]).inc();
        tracing::info!(door = incoming.door, "trigger {}", said(&decision));
        self.changed.notify_all();
        decision
    }

    /// Takes the snapshot a person asked for, now, and answers when it is durable.
    pub fn order(&self, order: Order) -> Result<Taken, OrderError> {
        let config = self.config();
        let by = order.trigger.source.clone();
        if let Some(why) = self.no_room(&config) {
            self.metrics.snapshots.with_label_values(&[source(&by), "failed"]).inc();
            return Err(OrderError::NoRoom(why));
        }
        let request = DumpRequest {
            name: self.dumper.name(&by),
            trigger: order.trigger.clone(),
            since_ns: order.since_ns,
            deadline: order.deadline,
            may_share: true,
        };
        let taken = self.dumper.take(request);
        if order.keep
            && let Ok(taken) = &taken
            && let Some(name) = taken.written.path.file_name().and_then(|name| name.to_str())
            && let Err(error) = keep::mark(self.dumper.directory(), name, true)
        {
            tracing::error!("{name} is not marked to stay: {error}");
        }
        if !taken.as_ref().is_ok_and(|taken| taken.is_shared) {
            self.finished(&order.trigger, &taken);
        }
        taken.map_err(OrderError::Dump)
    }

    /// Takes what is still planned, and ends.
    pub fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a snapshot has no room.
    fn no_room(&self, config: &TriggerConfig) -> Option<String> {
        // Where the directory cannot be looked at, writing will say why.
        let disk = keep::disk(self.dumper.directory()).ok()?;
        let bytes = self.dumper.handle().pulse().window_bytes();
        let why = disk.refuses(&config.keep, bytes)?;
        self.metrics.limit("disk_free").inc();
        Some(why)
    }

    fn work(&self) {
        while let Some(planned) = self.next() {
            self.take(planned);
        }
    }

    /// Waits for the next planned snapshot; `None` at the end.
    fn next(&self) -> Option<Planned> {
        let mut state = self.state();
        loop {
            let now = ClockAnchor::now();
            if let Some(planned) = state.policy.due(&now) {
                return Some(planned);
            }
            if state.ended {
                // What was promised is taken before the window is gone.
                return state.policy.take(&now);
            }
            let until = state.policy.planned().map(|planned| planned.freeze_at_ns);
            let wait = until.map_or(Duration::from_secs(3600), |at_ns| {
                Duration::from_nanos(at_ns.saturating_sub(now.monotonic_ns))
            });
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, planned: Planned) {
        let Planned { name, trigger, before_ns, .. } = planned;
        // Counted from the trigger, not from the moment of the freeze.
        let since_ns = before_ns.map(|before_ns| {
            clock::monotonic_ns().saturating_sub(trigger.at_ns).saturating_add(before_ns)
        });
        let mut taken = Err(DumpError::NotRecording);
        for attempt in 1..=TRIES_MAX {
            let request = DumpRequest {
                name: name.clone(),
                trigger: trigger.clone(),
                since_ns,
                ..DumpRequest::default()
            };
            taken = self.dumper.take(request);
            let passing = matches!(
                taken,
                Err(DumpError::TooMany
                    | DumpError::NotRecording
                    | DumpError::Recorder(RecorderError::Busy | RecorderError::Cut(_)))
            );
            if !passing || attempt == TRIES_MAX {
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
        if taken.is_err() {
            self.state().policy.forget(&name);
        }
        self.finished(&trigger, &taken);
        self.remember();
    }

    /// Counts and logs, and does what is to be done behind every snapshot.
    fn finished(&self, trigger: &Trigger, taken: &Result<Taken, DumpError>) {
        let result = if taken.is_ok() { "ok" } else { "failed" };
        self.metrics.snapshots.with_label_values(&[source(&trigger.source), result]).inc();
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(source = trigger.source, "no snapshot: {error}");
                return;
            }
        };
        let path = &taken.written.path;
        tracing::info!(source = trigger.source, "snapshot {}", path.display());
        self.metrics.durations.observe(taken.written.total_ms as f64 / 1e3);
        self.metrics.freezes.observe(taken.freeze.as_secs_f64());
        self.metrics.last_bytes.set(taken.written.bytes as f64);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_at.set(now.as_secs_f64());
        let config = self.config();
        match keep::tidy(self.dumper.directory(), &config.keep) {
            Ok(gone) => gone.iter().for_each(|name| tracing::info!("{name} expired: removed")),
            Err(error) => tracing::error!("old snapshots are not removed: {error}"),
        }
        if let Some(hook) = &config.hook {
            let job = hook::Job {
                hook: hook.clone(),
                path: path.clone(),
                trigger: Trigger { also: Vec::new(), ..trigger.clone() },
            };
            self.send(job);
        }
    }

    fn send(&self, job: hook::Job) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.hooks.try_send(job)
        {
            let path = job.path.display();
            tracing::error!("{} hooks are waiting: none is run for {path}", hook::WAITING_MAX);
            self.metrics.hooks.with_label_values(&["dropped"]).inc();
        }
    }

    /// Writes down what must be known after a restart.
    fn remember(&self) {
        let text = serde_json::to_vec(self.state().policy.memory());
        let written = text.map_err(std::io::Error::from).and_then(|text| {
            let target = Target::create(self.dumper.directory()).map_err(io_error)?;
            target.file().write_all(&text)?;
            target.finish(MEMORY, true).map_err(io_error).map(drop)
        });
        if let Err(error) = written {
            tracing::error!("a restart will not know which alerts have their snapshot: {error}");
        }
    }
}

fn io_error(error: WriteError) -> std::io::Error {
    std::io::Error::other(error)
}

fn recall(path: &std::path::Path) -> Memory {
    let read = || -> std::io::Result<Memory> {
        use std::io::Read as _;
        let mut text = Vec::new();
        fs::File::open(path)?.take(MEMORY_BYTES_MAX).read_to_end(&mut text)?;
        json::parse(&text).map_err(std::io::Error::other)
    };
    match read() {
        Ok(memory) => memory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Memory::default(),
        Err(error) => {
            let path = path.display();
            tracing::warn!("{path}: {error}: alerts that have their snapshot may get another one");
            Memory::default()
        }
    }
}

/// A word that metrics may have: there are few.
fn source(word: &str) -> &'static str {
    SOURCES.into_iter().find(|source| *source == word).unwrap_or("generic")
}

fn said(decision: &Decision) -> String {
    match decision {
        Decision::Accepted(name) => format!("accepted: {name}"),
        Decision::Joined(name) => format!("joins {name}"),
        Decision::Known(name) => format!("is in {name} already"),
        Decision::Ignored(why) => format!("ignored: {why}"),
        Decision::Refused { why, .. } => format!("refused: {why}"),
    }
}

/// The dispatcher cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The metrics contradict one another.
    Metrics(prometheus::Error),
    /// There is no thread to be had.
    Thread(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Metrics(error) => write!(f, "cannot make the metrics: {error}"),
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
