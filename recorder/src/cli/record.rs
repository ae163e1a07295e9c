//! `recorder record`: the daemon.

use std::{
    fs::DirBuilder,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

use super::{Exit, Failure, output::bytes};
use crate::{
    config::{ConfigError, LogFormat, RecorderConfig, Settings, check_listen},
    context,
    control::{self, CANARY_EVERY, Serving, SocketError, VISIT_AGE_MAX, Wanted},
    dispatch::{Dispatcher, Incoming},
    event::{capture::Capture, syscall::Abi, wire::CANARY_PID},
    loss::Missing,
    privacy::Privacy,
    privilege::{self, Confined, Confinement, Confining},
    probe::{self, ProbeError, Probes},
    recorder::{
        Dumper, DumperSetup, FIRINGS_MAX, Handle, Recorder, RecorderError, Setup,
        UNFINISHED_THREAD, UnfinishedReader, UnfinishedSetup, host_facts,
    },
    ring::{KernelRings, Wake},
    snapshot::{Header, Target, WriteError, remove_leftovers},
    spool::{Spool, SpoolFeed, SpoolSetup, SpoolWriter},
    trigger::{
        Trigger,
        body::Message,
        matching::HostNames,
        rule::{Firing, PressureSampler},
    },
    window::WindowLimits,
};

/// How long the first own event may take through the whole path.
const CANARY_WITHIN: Duration = Duration::from_secs(10);

/// How often it is asked for until then.
const FIRST_CANARY_EVERY: Duration = Duration::from_millis(50);

/// The thread that owns the rings and the window.
const INGEST_THREAD: &str = "ingest";

/// How long the end waits for the last blocks to be on disk.
const SPOOL_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The thread that writes the spool.
const SPOOL_THREAD: &str = "spool";

/// What the window may not have: scratch buffers, counters, tables, the stack of
/// the programs and the daemon itself.
const OVERHEAD_BYTES: u64 = 8 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How far back the window goes [default: 5m]
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    /// What everything that grows may take together [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
    /// The control socket [default: /run/recorder/control.sock]
    #[arg(long, env = "RECORDER_SOCKET", hide_env = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where snapshots go [default: /var/lib/recorder/snapshots]
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Keep the last minutes on disk too, for a crash: in this directory [default: none]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// What the spool takes on disk, always [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    spool_size: Option<String>,
    /// Also serve triggers and metrics on this address, such as 127.0.0.1:9774
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Keep so many bytes of what programs read, write, send and receive [default: 0]
    #[arg(long, value_name = "BYTES|file=BYTES,network=BYTES")]
    snaplen: Option<String>,
    /// How the recorder's own log looks [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// The configuration file [default: /etc/recorder/recorder.toml]
    #[arg(long, env = "RECORDER_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    fn config(&self) -> Result<RecorderConfig, ConfigError> {
        let said = Settings {
            window: self.window.clone(),
            memory: self.memory.clone(),
            socket: self.socket.clone(),
            snapshots: self.snapshots.clone(),
            spool: self.spool.clone(),
            spool_size: self.spool_size.clone(),
            listen: self.listen.clone(),
            snaplen: self.snaplen.clone(),
            log: self.log,
            ..Settings::default()
        };
        RecorderConfig::new(said, self.config.as_deref())
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config().map_err(|error| match error {
        ConfigError::Read(..) => Failure::new(Exit::Failed, error),
        _ => Failure::new(Exit::Usage, error),
    })?;
    log_to_stderr(config.log);
    let native = Abi::native(rustix::system::uname().machine().to_str().unwrap_or_default())
        .ok_or_else(|| Failure::new(Exit::Failed, "only x86_64 and aarch64 hosts are recorded"))?;
    let wanted = Wanted {
        socket: &config.socket,
        group: config.socket_group.as_deref(),
        listen: config.listen,
    };
    let bound = control::bind(&wanted).map_err(socket_failure)?;
    // An address that was inherited asks for the same as one of the configuration.
    if let Some(address) = bound.address() {
        check_listen(address, config.triggers.access.has_secret())
            .map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    // With what we will have: no capability opens this directory after the start.
    privilege::without_capabilities(|| prepare_directory(&config.snapshots))?;
    let started = Started::new(&config, native)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(attend(&arguments, config, bound, started))
}

fn socket_failure(error: SocketError) -> Failure {
    let exit = match &error {
        SocketError::Taken(_) => Exit::TryLater,
        SocketError::Io(_, cause) | SocketError::Tcp(_, cause)
            if cause.raw_os_error() == Some(13) =>
        {
            Exit::NotPermitted
        }
        SocketError::Group(_) => Exit::Usage,
        SocketError::NotASocket(_) | SocketError::Io(..) | SocketError::Tcp(..) => {
            Exit::CannotCreate
        }
        SocketError::Inherited(_) => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("RECORDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    // A second start in one process keeps the first log.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

/// Makes the directory, removes what a crash left there, and tries it.
fn prepare_directory(directory: &Path) -> Result<(), Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::new(
            Exit::CannotCreate,
            format!(
                "cannot use the snapshot directory {}: {error}; {}, or name another one with \
                 --snapshots",
                directory.display(),
                how_to_own(directory, error),
            ),
        )
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|error| cannot(&error))?;
    let removed = remove_leftovers(directory).map_err(|error| cannot(&error))?;
    if removed > 0 {
        tracing::warn!(removed, "unfinished snapshots of an earlier run were removed");
    }
    match Target::create(directory) {
        Ok(_) => Ok(()),
        Err(WriteError::Directory(_, error)) => Err(cannot(&error)),
        Err(error) => Err(Failure::new(Exit::CannotCreate, error)),
    }
}

/// What to do about a directory that cannot be used. Root is surprised by one: it
/// could write there, were it not that the recorder gives up what makes it root.
fn how_to_own(directory: &Path, error: &std::io::Error) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let nearest = directory.ancestors().find_map(|path| path.metadata().ok());
    let owner = nearest.map(|metadata| metadata.uid());
    let own = rustix::process::geteuid().as_raw();
    match owner {
        Some(owner) if owner != own && error.raw_os_error() == Some(13) => format!(
            "the recorder writes as user {own} without capabilities and the directory is user \
             {owner}'s: chown it, or start the recorder as that user"
        ),
        _ => "make it writable".to_string(),
    }
}

/// The recording, running on its own thread.
struct Started {
    handle: Handle,
    dumper: Arc<Dumper>,
    ended: oneshot::Receiver<Result<(), RecorderError>>,
    ring_total_bytes: u64,
    since: Instant,
    missing: usize,
    native: Abi,
    /// What rules say, and those about pressure, until the dispatcher has them.
    rules: Option<(Receiver<Firing>, PressureSampler)>,
    confined: Confined,
    /// Ends when the recording has.
    spooling: Option<thread::JoinHandle<()>>,
}

impl Started {
    fn new(config: &RecorderConfig, native: Abi) -> Result<Started, Failure> {
        let mut rules = config.rules(native).map_err(|error| Failure::new(Exit::Usage, error))?;
        let pressure = rules.take_pressure();
        let (firing, firings) = sync_channel(FIRINGS_MAX);
        let cpus = probe::possible_cpus().map_err(probe_failure)?;
        let ring_bytes = config.ring_bytes(u64::from(cpus));
        let capture = Capture::new(native, config.data_kept);
        let (probes, rings) =
            probe::load(&capture, cpus, ring_bytes as u32).map_err(probe_failure)?;
        let since = Instant::now();
        let mut missing = probes.missing().to_vec();
        missing.extend(privilege::missing_capabilities());
        for Missing { what, why } in &missing {
            tracing::warn!("not recorded: {what}: {why}");
        }
        let ring_total_bytes = rings.bytes();
        let limits = limits(config, ring_total_bytes);
        let privacy = Privacy::recording(config.privacy.clone(), config.data_kept);
        if !config.privacy.mask {
            tracing::warn!("secrets are not masked: mask = false in [privacy]");
        }
        let mut baseline = context::scan(&mut privacy.masker());
        context::scan_groups(&mut baseline, &mut privacy.masker());
        let cannot = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot start recording: {error}"))
        };
        let missing_count = missing.len();
        let host = host_facts(missing, config.memory_bytes);
        let (spool, feed, writer) = match spool(config, &host, &privacy) {
            Some((spool, feed, writer)) => (Some(spool), Some(feed), Some(writer)),
            None => (None, None, None),
        };
        let (unfinished, confining) = confine(config, &probes, native).map_err(cannot)?;
        let setup = Setup {
            probes,
            limits,
            ring_total_bytes,
            memory_bytes: config.memory_bytes,
            native,
            baseline,
            rules,
            privacy,
            firings: firing,
            spool: spool.zip(feed),
        };
        let wake = Wake::new().map_err(cannot)?;
        let rings = KernelRings::new(rings, &wake).map_err(cannot)?;
        let (recorder, handle) = Recorder::new(rings, wake, setup);
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name(INGEST_THREAD.to_string())
            // Nobody may be left to hear of the end.
            .spawn(move || drop(end.send(recorder.run())))
            .map_err(cannot)?;
        let confined = confining.finish();
        let spooling = writer.map(|writer| {
            thread::Builder::new().name(SPOOL_THREAD.to_string()).spawn(move || writer.run())
        });
        let dumper = Dumper::new(DumperSetup {
            handle: handle.clone(),
            unfinished,
            directory: config.snapshots.clone(),
            host,
            native,
        });
        let dumper = Arc::new(dumper);
        Ok(Started {
            handle,
            dumper,
            ended,
            ring_total_bytes,
            since,
            missing: missing_count,
            native,
            rules: Some((firings, pressure)),
            confined,
            spooling: spooling.transpose().map_err(cannot)?,
        })
    }
}

/// The spool, where one is wanted.
fn spool(
    config: &RecorderConfig,
    host: &Header,
    privacy: &Arc<Privacy>,
) -> Option<(Spool, SpoolFeed, SpoolWriter)> {
    let (directory, bytes) = config.spool.clone()?;
    // Landlock knows directories that are there. One that cannot be made is said by the
    // thread that writes: it costs the spool, not the recording.
    let _ = privilege::without_capabilities(|| {
        DirBuilder::new().recursive(true).mode(0o750).create(&directory)
    });
    Some(Spool::new(SpoolSetup {
        directory,
        bytes,
        snapshots: config.snapshots.clone(),
        host: host.clone(),
        privacy: Arc::clone(privacy),
    }))
}

/// All that needs privileges is done, but for reading other processes: gives them up,
/// as far as the thread that is started next does not need them.
fn confine(
    config: &RecorderConfig,
    probes: &Probes,
    native: Abi,
) -> std::io::Result<(UnfinishedReader, Confining)> {
    let bpf = privilege::bpf_after_start(|| probes.answers());
    let mut confining = Confining::begin(confinement(config));
    let (unfinished, kept) = UnfinishedReader::start(UnfinishedSetup {
        lister: probes.lister(),
        attached_ns: probes.attached_ns(),
        own_pid: probes.own_pid(),
        native,
        keeps: privilege::READS_PROCESSES | bpf,
    })?;
    confining.note(UNFINISHED_THREAD, kept);
    confining.narrow(INGEST_THREAD, bpf);
    Ok((unfinished, confining))
}

/// What the daemon still does with files once it records: snapshots, the socket that it
/// removes at the end, and what the hook is for.
fn confinement(config: &RecorderConfig) -> Confinement {
    let parent = config.socket.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).to_path_buf();
    let hook = config.triggers.hook.as_ref();
    let mut writable = vec![config.snapshots.clone()];
    writable.extend(config.spool.as_ref().map(|(directory, _)| directory.clone()));
    writable.extend(hook.into_iter().flat_map(|hook| hook.writable.iter().cloned()));
    Confinement {
        writable,
        // A socket that was inherited may have another place.
        removable: Some(parent).filter(|parent| parent.exists()).into_iter().collect(),
        executes: hook.is_some(),
    }
}

fn limits(config: &RecorderConfig, ring_total_bytes: u64) -> WindowLimits {
    WindowLimits {
        span_ns: config.window_ns,
        bytes_max: config.memory_bytes.saturating_sub(ring_total_bytes + OVERHEAD_BYTES),
    }
}

fn probe_failure(error: ProbeError) -> Failure {
    let exit = match &error {
        ProbeError::NotPermitted(_) => Exit::NotPermitted,
        _ => Exit::Failed,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let line = error.to_string();
        message = format!("{message}: {}", line.lines().next().unwrap_or_default());
        cause = error.source();
    }
    Failure::new(exit, message)
}

/// Answers requests and signals until the end.
async fn attend(
    arguments: &Arguments,
    config: RecorderConfig,
    bound: control::Bound,
    mut started: Started,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let names = host_names(&config, &started);
    let (dispatcher, worker) =
        Dispatcher::start(Arc::clone(&started.dumper), config.triggers.clone(), names)
            .map_err(|error| Failure::new(Exit::Failed, error))?;
    if let Some((firings, pressure)) = started.rules.take() {
        dispatcher.set_rules(pressure, config.rule_names());
        dispatcher.follow(firings).map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    let address = bound.address();
    let serving =
        Serving::new(Arc::clone(&dispatcher), started.since, address, started.confined.clone());
    let served = control::serve(&bound, serving);
    tokio::pin!(served);
    let ready = wait_for_canary(&started.handle);
    tokio::pin!(ready);
    let mut is_ready = false;
    let mut heartbeat = tokio::time::interval(heartbeat_every());
    loop {
        tokio::select! {
            result = &mut ready, if !is_ready => {
                result?;
                is_ready = true;
                announce(&config, &started, address);
            }
            result = &mut served => {
                let why = result.err().map_or("it ended".to_string(), |error| error.to_string());
                return Err(Failure::new(Exit::Failed, format!("the control socket failed: {why}")));
            }
            ended = &mut started.ended => {
                let why = match ended {
                    Ok(Err(error)) => error.to_string(),
                    _ => "its thread ended".to_string(),
                };
                return Err(Failure::new(Exit::Failed, format!("the recording failed: {why}")));
            }
            _ = heartbeat.tick(), if is_ready => beat(&started.handle),
            _ = signals.dump.recv() => dump_by_signal(&dispatcher),
            _ = signals.reload.recv() => reload(arguments, &started, &dispatcher, address),
            _ = signals.end.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    dispatcher.end();
    // What was promised is written while the recording still answers.
    let _ = tokio::task::spawn_blocking(move || worker.join()).await;
    // Gone already is as good.
    let _ = started.handle.stop();
    let _ = started.ended.await;
    if let Some(spooling) = started.spooling {
        // A disk that hangs must not hold up the end.
        let until = Instant::now() + SPOOL_ENDS_WITHIN;
        while !spooling.is_finished() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Often enough for the service manager's watchdog.
fn heartbeat_every() -> Duration {
    let watchdog = sd_notify::watchdog_enabled();
    watchdog.map_or(CANARY_EVERY, |within| (within / 3).min(CANARY_EVERY))
}

/// Makes an event of our own, by which readiness is known, and tells the watchdog
/// that the rings are visited. The event may be lost in a flood: that is no reason to
/// be started anew.
fn beat(handle: &Handle) {
    canary();
    let age = handle.pulse().visit_age_ns().map(Duration::from_nanos);
    if age.is_some_and(|age| age < VISIT_AGE_MAX) {
        notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// What this host is called.
fn host_names(config: &RecorderConfig, started: &Started) -> HostNames {
    let mut names = config.names.clone();
    // What Kubernetes calls it, by the downward API.
    names.extend(std::env::var("NODE_NAME"));
    HostNames::new(&started.dumper.host().host, &names)
}

struct Signals {
    dump: Signal,
    reload: Signal,
    end: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let of = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot take signals: {error}"))
            })
        };
        Ok(Signals {
            dump: of(SignalKind::user_defined2())?,
            reload: of(SignalKind::hangup())?,
            end: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }
}

/// Makes an event of our own until one came through the whole path.
async fn wait_for_canary(handle: &Handle) -> Result<(), Failure> {
    let began = Instant::now();
    while !handle.is_recording() {
        if began.elapsed() > CANARY_WITHIN {
            return Err(Failure::new(
                Exit::Failed,
                "attached, but no event came through the whole path within 10 s: this kernel \
                 gives none",
            ));
        }
        canary();
        tokio::time::sleep(FIRST_CANARY_EVERY).await;
    }
    Ok(())
}

/// Fails by design: no process has this number. The call itself is the event.
fn canary() {
    let _ = rustix::process::getsid(rustix::process::Pid::from_raw(CANARY_PID as i32));
}

fn announce(config: &RecorderConfig, started: &Started, address: Option<SocketAddr>) {
    let window_s = config.window_ns as f64 / 1e9;
    let missing = match started.missing {
        0 => String::new(),
        count => format!(", {count} things missing on this kernel (see `recorder status`)"),
    };
    let listen = address.map(|address| format!(", listen {address}")).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output does not want to know.
    let _ = writeln!(
        out,
        "recording: window {window_s} s, memory {} (rings {}), socket {}, snapshots \
         {}{listen}{missing}",
        bytes(config.memory_bytes),
        bytes(started.ring_total_bytes),
        config.socket.display(),
        config.snapshots.display(),
    );
    let _ = out.flush();
    notify(&[sd_notify::NotifyState::Ready]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

fn dump_by_signal(dispatcher: &Arc<Dispatcher>) {
    let dispatcher = Arc::clone(dispatcher);
    // A disk that hangs must not hold up the thread that answers everybody. What
    // becomes of the trigger stands in the log.
    tokio::task::spawn_blocking(move || {
        dispatcher.offer(Incoming {
            door: "signal",
            message: Message::one(Trigger::new("signal", "SIGUSR2")),
            local: true,
            before_ns: None,
            after_ns: None,
        })
    });
}

/// Other rules from now on. The recording may have to be told the names of all threads,
/// which takes a while.
fn reload_rules(config: &RecorderConfig, started: &Started, dispatcher: &Dispatcher) {
    match config.rules(started.native) {
        Ok(mut rules) => {
            dispatcher.set_rules(rules.take_pressure(), config.rule_names());
            let handle = started.handle.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = handle.set_rules(rules) {
                    tracing::error!("the new rules were not taken: {error}");
                }
            });
        }
        Err(error) => tracing::error!("the old rules stay: {error}"),
    }
}

/// Reads the configuration again: window, memory, triggers, rules, what is masked, secrets
/// and the hook change at once, paths and addresses at the next start.
fn reload(
    arguments: &Arguments,
    started: &Started,
    dispatcher: &Dispatcher,
    address: Option<SocketAddr>,
) {
    let config = arguments.config().and_then(|config| {
        // What is listened on stays: without a secret everybody could ask.
        let has_secret = config.triggers.access.has_secret();
        address.map_or(Ok(()), |address| check_listen(address, has_secret)).map(|()| config)
    });
    match config {
        Ok(config) => {
            if !started.confined.allows(&confinement(&config)) {
                tracing::warn!(
                    "another snapshot directory, a first hook, and where a hook may write take \
                     effect at the next start"
                );
            }
            dispatcher.set_config(config.triggers.clone(), host_names(&config, started));
            reload_rules(&config, started, dispatcher);
            started.handle.privacy().set_rules(config.privacy.clone());
            let limits = limits(&config, started.ring_total_bytes);
            match started.handle.set_limits(limits, config.memory_bytes) {
                Ok(()) => tracing::info!("configuration read again"),
                Err(error) => tracing::error!("the new configuration was not taken: {error}"),
            }
        }
        Err(ConfigError::Read(path, cause)) if cause.raw_os_error() == Some(13) => tracing::error!(
            "the old configuration stays: since its start the recorder has no capabilities, let \
             its user read {}",
            path.display()
        ),
        Err(error) => tracing::error!("the old configuration stays: {error}"),
    }
}
