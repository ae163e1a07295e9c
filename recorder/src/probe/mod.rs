//! Loads and attaches the kernel programs, says what could not be attached and
//! why, cuts, lists slots, reads counters.
//!
//! Invariant: whatever this module attaches is gone with the process: nothing is
//! pinned. It never interprets a record.

mod btf;
mod load;
mod slots;

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use recorder_ebpf::wire::PerCpu;

use crate::loss::Missing;
pub use btf::{BtfError, KernelTypes};

pub use load::{RingBuffer, Rings, load, possible_cpus};
pub use slots::{
    UnfinishedCall, calls_before_recording, numbers_in, parse_call, slots_bytes, unfinished_calls,
};

/// Loading, attaching or asking the kernel failed.
#[derive(Debug)]
pub enum ProbeError {
    /// The package was built without the kernel programs.
    NoObject,
    /// The kernel said no: privileges are missing.
    NotPermitted(String),
    /// The kernel is too old.
    TooOld(String),
    /// Something else failed.
    Failed(String, Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::NoObject => write!(
                f,
                "this binary was built without the kernel programs: build it again after \
                 `cargo xtask setup`"
            ),
            ProbeError::NotPermitted(what) => write!(
                f,
                "the kernel does not permit {what}: run as root, or with CAP_BPF, CAP_PERFMON, \
                 CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            ),
            ProbeError::TooOld(what) => {
                write!(f, "{what}: Linux 5.10 or later is needed")
            }
            ProbeError::Failed(what, _) => write!(f, "cannot {what}"),
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProbeError::Failed(_, source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl ProbeError {
    fn failed(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> ProbeError {
        let what = what.into();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                // EPERM; the verifier's refusals are EACCES or EINVAL.
                if io.raw_os_error() == Some(1) {
                    return ProbeError::NotPermitted(format!("to {what}"));
                }
            }
            cause = error.source();
        }
        ProbeError::Failed(what, Box::new(source))
    }
}

/// A value of the maps `COUNTERS` and `CUTS`, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct PerCpuValue(PerCpu);

// SAFETY: `PerCpu` is `repr(C)`, made of 64-bit words only, and any bytes are a
// valid one.
unsafe impl aya::Pod for PerCpuValue {}

/// The loaded and attached programs.
pub struct Probes {
    /// Everything attached lives as long as this. Locked only for calls that
    /// take microseconds.
    ebpf: Arc<Mutex<Ebpf>>,
    counters: PerCpuArray<MapData, PerCpuValue>,
    cuts: PerCpuArray<MapData, PerCpuValue>,
    /// What could not be attached, and what is missed because of it.
    missing: Vec<Missing>,
    /// Whether the slots are in task storage.
    btf: bool,
    own_pid: u32,
    /// The clock of the kernel when everything was attached.
    attached_ns: u64,
    #[cfg(feature = "debug-log")]
    log: aya_log::EbpfLogger<&'static dyn log::Log>,
}

/// How a request to cut a CPU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAnswer {
    /// The mark is in the ring.
    Marked,
    /// The ring had no room: drain it and ask again.
    Full,
    /// The CPU is off line: its counters stand still.
    Offline,
}

impl Probes {
    /// What is not recorded on this kernel.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The recorder's own process id in the initial pid namespace.
    pub fn own_pid(&self) -> u32 {
        self.own_pid
    }

    /// When recording began, on the kernel's clock.
    pub fn attached_ns(&self) -> u64 {
        self.attached_ns
    }

    /// What a dump asks of the kernel from its own thread.
    pub fn lister(&self) -> SlotLister {
        SlotLister { ebpf: Arc::clone(&self.ebpf), btf: self.btf }
    }

    /// Whether the kernel answers all that is asked of it after the start: a cut, the
    /// counters, the slots. The cut has the number 0, which no freeze waits for.
    pub fn answers(&self) -> bool {
        self.cut(0, 0).is_ok()
            && self.counters().is_ok()
            && unfinished_calls(&self.lister()).is_ok()
    }

    /// Puts a mark into the ring of `cpu` and copies its counters.
    pub fn cut(&self, cpu: u32, nonce: u64) -> Result<CutAnswer, ProbeError> {
        let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        let program: &mut RawTracePoint = program(&mut ebpf, "cut")?;
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = nonce;
        options.cpu = Some(cpu);
        match program.test_run(options) {
            Ok(result) if result.return_value == 0 => Ok(CutAnswer::Marked),
            Ok(_) => Ok(CutAnswer::Full),
            Err(error) => {
                let mut source: Option<&dyn std::error::Error> = Some(&error);
                while let Some(cause) = source {
                    // ENXIO, net/bpf/test_run.c: the CPU is not on line.
                    if cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
                        == Some(6)
                    {
                        return Ok(CutAnswer::Offline);
                    }
                    source = cause.source();
                }
                Err(ProbeError::failed("cut the ring of a CPU", error))
            }
        }
    }

    /// Hands what the programs logged to the recorder's own log.
    #[cfg(feature = "debug-log")]
    pub fn flush_log(&mut self) {
        self.log.flush();
    }

    /// The counters of every possible CPU as they run.
    pub fn counters(&self) -> Result<Vec<PerCpu>, ProbeError> {
        per_cpu(&self.counters)
    }

    /// The counters of every possible CPU as they were when it was last cut.
    pub fn counters_at_cut(&self) -> Result<Vec<PerCpu>, ProbeError> {
        per_cpu(&self.cuts)
    }

    /// How often the kernel did not run one of our programs because another one
    /// was running on the CPU (`recursion_misses` in the program's fdinfo, 5.12).
    pub fn kernel_skipped(&self) -> u64 {
        use std::os::fd::AsRawFd as _;
        let ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut skipped = 0;
        for (_, program) in ebpf.programs() {
            let Ok(fd) = program.fd() else { continue };
            let fd = std::os::fd::AsFd::as_fd(fd).as_raw_fd();
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            skipped += text
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.strip_prefix("recursion_misses:"))
                .filter_map(|count| count.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
        skipped
    }
}

fn per_cpu(map: &PerCpuArray<MapData, PerCpuValue>) -> Result<Vec<PerCpu>, ProbeError> {
    let values = map.get(&0, 0).map_err(|e| ProbeError::failed("read the counters", e))?;
    Ok(values.iter().map(|value| value.0).collect())
}

/// A loaded program by name.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(ProbeError::NoObject)?;
    program.try_into().map_err(|error| ProbeError::failed(format!("find program {name}"), error))
}

/// Lists the slots; usable from any thread.
#[derive(Clone)]
pub struct SlotLister {
    ebpf: Arc<Mutex<Ebpf>>,
    btf: bool,
}
