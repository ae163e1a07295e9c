//! `recorder record`: the daemon.

use std::{
    fs::DirBuilder,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
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
    config::{ConfigError, RecorderConfig, Settings},
    context,
    control::{self, Serving, SocketError},
    event::{
        syscall::{Abi, plans},
        wire::CANARY_PID,
    },
    loss::Missing,
    probe::{self, ProbeError},
    recorder::{DumpRequest, Dumper, DumperSetup, Handle, Recorder, RecorderError, Setup},
    ring::{KernelRings, Wake},
    snapshot::{Target, Trigger, remove_leftovers},
    window::WindowLimits,
};

/// How long the first own event may take through the whole path.
const CANARY_WITHIN: Duration = Duration::from_secs(10);

/// How often it is asked for.
const CANARY_EVERY: Duration = Duration::from_millis(50);

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
        };
        RecorderConfig::new(said, self.config.as_deref())
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config().map_err(|error| match error {
        ConfigError::Read(..) => Failure::new(Exit::Failed, error),
        _ => Failure::new(Exit::Usage, error),
    })?;
    log_to_stderr();
    let native = Abi::native(rustix::system::uname().machine().to_str().unwrap_or_default())
        .ok_or_else(|| Failure::new(Exit::Failed, "only x86_64 and aarch64 hosts are recorded"))?;
    let bound = control::bind(&config.socket).map_err(|error| {
        let exit = match &error {
            SocketError::Taken(_) => Exit::TryLater,
            SocketError::NotASocket(_) => Exit::CannotCreate,
            SocketError::Io(_, cause) if cause.raw_os_error() == Some(13) => Exit::NotPermitted,
            SocketError::Io(..) => Exit::CannotCreate,
        };
        Failure::new(exit, error)
    })?;
    prepare_directory(&config.snapshots)?;
    let started = Started::new(&config, native)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(attend(&arguments, config, bound, started))
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("RECORDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second start in one process keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}

/// Makes the directory, removes what a crash left there, and tries it.
fn prepare_directory(directory: &Path) -> Result<(), Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::CannotCreate,
            format!(
                "cannot use the snapshot directory {}: {error}; make it writable, or name \
                 another one with --snapshots",
                directory.display()
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
    Target::create(directory).map(drop).map_err(|error| Failure::new(Exit::CannotCreate, error))
}

/// The recording, running on its own thread.
struct Started {
    handle: Handle,
    dumper: Arc<Dumper>,
    ended: oneshot::Receiver<Result<(), RecorderError>>,
    ring_total_bytes: u64,
    since: Instant,
    missing: usize,
}

impl Started {
    fn new(config: &RecorderConfig, native: Abi) -> Result<Started, Failure> {
        let cpus = probe::possible_cpus().map_err(probe_failure)?;
        let ring_bytes = config.ring_bytes(u64::from(cpus));
        let (probes, rings) =
            probe::load(&plans(native), cpus, ring_bytes as u32).map_err(probe_failure)?;
        let since = Instant::now();
        let missing = probes.missing().to_vec();
        for Missing { what, why } in &missing {
            tracing::warn!("not recorded: {what}: {why}");
        }
        let ring_total_bytes = ring_bytes * u64::from(cpus);
        let limits = limits(config, ring_total_bytes);
        let (lister, attached_ns, own_pid) =
            (probes.lister(), probes.attached_ns(), probes.own_pid());
        let missing_count = missing.len();
        let setup = Setup {
            probes,
            limits,
            ring_bytes,
            memory_bytes: config.memory_bytes,
            native,
            baseline: context::scan(),
        };
        let cannot = |error: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot start recording: {error}"))
        };
        let wake = Wake::new().map_err(cannot)?;
        let rings = KernelRings::new(rings, &wake).map_err(cannot)?;
        let (recorder, handle) = Recorder::new(rings, wake, setup);
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("ingest".to_string())
            // Nobody may be left to hear of the end.
            .spawn(move || drop(end.send(recorder.run())))
            .map_err(cannot)?;
        let dumper = Dumper::new(DumperSetup {
            handle: handle.clone(),
            lister,
            attached_ns,
            own_pid,
            native,
            directory: config.snapshots.clone(),
            missing,
            memory_bytes: config.memory_bytes,
        });
        let dumper = Arc::new(dumper);
        Ok(Started { handle, dumper, ended, ring_total_bytes, since, missing: missing_count })
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
    let serving = Serving {
        handle: started.handle.clone(),
        dumper: Arc::clone(&started.dumper),
        started: started.since,
    };
    let served = control::serve(bound, serving);
    tokio::pin!(served);
    let ready = wait_for_canary(&started.handle);
    tokio::pin!(ready);
    let mut is_ready = false;
    loop {
        tokio::select! {
            result = &mut ready, if !is_ready => {
                result?;
                is_ready = true;
                announce(&config, &started);
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
            _ = signals.dump.recv() => dump_by_signal(&started),
            _ = signals.reload.recv() => reload(arguments, &started),
            _ = signals.end.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    // Gone already is as good.
    let _ = started.handle.stop();
    let _ = started.ended.await;
    Ok(())
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
        // Fails by design: no process has this number. The call itself is the event.
        let _ = rustix::process::getsid(rustix::process::Pid::from_raw(CANARY_PID as i32));
        tokio::time::sleep(CANARY_EVERY).await;
    }
    Ok(())
}

fn announce(config: &RecorderConfig, started: &Started) {
    let window_s = config.window_ns as f64 / 1e9;
    let missing = match started.missing {
        0 => String::new(),
        count => format!(", {count} things missing on this kernel (see `recorder status`)"),
    };
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output does not want to know.
    let _ = writeln!(
        out,
        "recording: window {window_s} s, memory {} (rings {}), socket {}, snapshots {}{missing}",
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

fn dump_by_signal(started: &Started) {
    let dumper = Arc::clone(&started.dumper);
    let trigger = Trigger {
        source: "signal".to_string(),
        reason: "SIGUSR2".to_string(),
        at_ns: crate::clock::monotonic_ns(),
        ..Trigger::default()
    };
    // The snapshots of signals queue up behind one another; the name tells.
    tokio::task::spawn_blocking(move || {
        match dumper.take(DumpRequest { trigger, since_ns: None }) {
            Ok(written) => tracing::info!("snapshot {}", written.path.display()),
            Err(error) => tracing::error!("{error}"),
        }
    });
}

/// Reads the configuration again: window and memory change at once, paths at the
/// next start.
fn reload(arguments: &Arguments, started: &Started) {
    match arguments.config() {
        Ok(config) => {
            let limits = limits(&config, started.ring_total_bytes);
            match started.handle.set_limits(limits, config.memory_bytes) {
                Ok(()) => tracing::info!("configuration read again"),
                Err(error) => tracing::error!("the new configuration was not taken: {error}"),
            }
        }
        Err(error) => tracing::error!("the old configuration stays: {error}"),
    }
}
