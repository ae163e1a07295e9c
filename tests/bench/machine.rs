//! What it is measured on, and clocks.

use std::{fs, thread::available_parallelism};

/// What a reader must know of the machine to make sense of the figures.
pub(crate) fn facts() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let cpus = available_parallelism().map_or(0, std::num::NonZero::get);
    let info = read("/proc/cpuinfo");
    let model = field(&info, "model name").unwrap_or("unknown");
    let guest = field(&info, "flags").is_some_and(|flags| flags.contains("hypervisor"));
    let place = if guest { ", a virtual machine" } else { "" };
    let memory = read("/proc/meminfo");
    let kib =
        field(&memory, "MemTotal").and_then(|text| text.split_whitespace().next()?.parse().ok());
    let total = kib.map_or("unknown".to_string(), |kib: u64| {
        format!("{:.1} GiB", kib as f64 / f64::from(1 << 20))
    });
    let mut facts = vec![
        ("kernel".to_string(), read("/proc/sys/kernel/osrelease")),
        ("machine".to_string(), format!("{cpus} of {model}{place}, {total} memory")),
        ("load".to_string(), load_average()),
    ];
    // Statistics of BPF programs read the clock twice more for each run of one.
    if read("/proc/sys/kernel/bpf_stats_enabled") == "1" {
        let warning = "kernel.bpf_stats_enabled is 1 and makes every program dearer";
        facts.push(("warning".to_string(), warning.to_string()));
    }
    facts
}

/// How many programs wanted a CPU over the last minute, on average.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_string()
}

/// The value of the first `name : value` or `name: value`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once(':')?;
        (left.trim() == name).then(|| right.trim())
    })
}

/// CPU time of the current thread: other programs on the same CPU do not count.
pub(crate) fn thread_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of a process and all its threads.
pub(crate) fn process_ns(pid: i32) -> u64 {
    let mut clock = 0;
    // SAFETY: `clock` is writable.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    assert_eq!(failed, 0, "the clock of process {pid}");
    clock_ns(clock)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut now) };
    assert_eq!(failed, 0, "clock {clock}: {}", std::io::Error::last_os_error());
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The most memory a process has had resident, bytes.
pub(crate) fn resident_bytes_max(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = field(&status, "VmHWM").and_then(|text| text.split_whitespace().next()?.parse().ok());
    let kib: u64 = kib.unwrap_or_else(|| panic!("no VmHWM of process {pid}: {status}"));
    kib << 10
}
