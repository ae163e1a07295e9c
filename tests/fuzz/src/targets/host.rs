//! What the host says: `/proc`, the kernel's types, the configuration.

use std::{io::Write as _, path::Path, sync::LazyLock};

use recorder::{
    config::{ConfigError, RecorderConfig, Settings},
    context::{
        SOCKET_TABLES, Stat, parse_credentials, parse_open_flags, parse_sockets, parse_stat,
    },
    event::{File, file, syscall::Abi, wire::FileHead},
    probe::{KernelTypes, parse_call},
    trigger::rule::parse_pressure,
};
use recorder_tests::synth::{Made, Random};

use crate::{met, met_error, mutate};

const CONFIG: &str = r#"
window = "5m"
memory = "256MiB"
socket = "/run/recorder/control.sock"
snapshots = "/var/lib/recorder/snapshots"
spool = "/var/lib/recorder/spool"
spool_size = "64MiB"
listen = "127.0.0.1:9774"
log = "json"
names = ["db-1", "db-1.example.org"]

[trigger]
before = "2m"
after = "5s"
cooldown = "60s"
per_hour_max = 12
match = { severity = "page", instance = "{host}" }

[trigger.grafana]
timestamp_header = "x-time"

[trigger.pagerduty]
events = ["incident.triggered"]

[keep]
bytes_max = "10GiB"
count_max = 100
age_max = "720h"
free_percent_min = 5

[hook]
command = ["/bin/true", "{path}"]
timeout = "30s"

[[rule]]
name = "crash"
on = "signal"
command = "w*r"
signals = ["SIGSEGV", "SIGABRT"]
labels = { severity = "page" }
[[rule]]
name = "slow"
on = "slow_call"
calls = ["%file", "read"]
longer_than = "1ms"
again_after = "1s"
[[rule]]
name = "refused"
on = "failures"
errors = ["ECONNREFUSED"]
per_second = 2
before = "30s"
after = "1s"
[[rule]]
name = "resets"
on = "tcp_resets"
per_second = 1
[[rule]]
name = "memory"
on = "pressure"
resource = "memory"
kind = "full"
percent = 10
over = "1s"
"#;

const CONFIG_WORDS: [&str; 33] = [
    "[[rule]]\n",
    "name = \"x\"\n",
    "on = \"oom_kill\"\n",
    "\"failures\"",
    "calls = [\"all\"]\n",
    "\"*?*\"",
    "per_second",
    "percent",
    "over",
    "longer_than",
    "\"24h\"",
    "window",
    "memory",
    "listen",
    "[trigger]",
    "[[trigger]]",
    "[keep]",
    "match",
    "= ",
    "\"\"",
    "{ ",
    "[[[[[[[[",
    "true",
    "1e9",
    "0x7fffffffffffffff",
    "1979-05-27",
    "'''",
    "\\u0000",
    "[a.b.c.d]",
    "x.y.z = 1",
    "# x\n",
    "inf",
    "-1",
];

/// A file with every setting.
pub fn make_config(random: &mut Random) -> Vec<u8> {
    let lines: Vec<&str> = CONFIG.lines().filter(|_| !random.one_in(8)).collect();
    lines.join("\n").into_bytes()
}

/// Changes it word by word.
pub fn mutate_config(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &CONFIG_WORDS);
}

fn settings(text: &[u8]) -> Result<RecorderConfig, ConfigError> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("recorder-fuzz", flags).expect("memory for a file");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut file = std::fs::File::from(file);
    file.write_all(text).expect("a file in memory is written");
    RecorderConfig::new(Settings::default(), Some(Path::new(&path)))
}

/// The configuration file: settings, or one message that names the file.
pub fn config(input: &[u8]) {
    // Other files are named by it; these are not what is tried.
    if input.windows(5).any(|five| five == b"_file") {
        return;
    }
    match settings(input) {
        Ok(config) => {
            assert!(config.memory_bytes >= 16 << 20 && config.window_ns >= 1_000_000_000);
            assert!(config.ring_bytes(2).is_power_of_two());
            met(("window", config.window_ns.ilog2(), config.listen.is_some()));
            judged(&config, input.len() as u64);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            met_error("config", &error);
        }
    }
}

/// The rules of a configuration, on events that may be anything.
fn judged(config: &RecorderConfig, seed: u64) {
    let mut random = Random::new(seed);
    for native in [Abi::X86_64, Abi::Aarch64] {
        let mut rules = config.rules(native).expect("they were checked");
        rules.bound(config.memory_bytes);
        let mut fired = 0;
        for place in 0..60 {
            let ts_ns = if random.one_in(20) { random.number() } else { place * 30_000_000 };
            let made = Made::random(&mut random, ts_ns, 2);
            rules.look(&made.as_event());
            if random.one_in(10) {
                fired += rules.settle(place * 30_000_000).len();
            }
        }
        fired += rules.settle(u64::MAX).len();
        let counted: u64 = rules.health().firings.values().sum();
        assert_eq!(counted, fired as u64, "a rule counts what it fires");
        met(("fired", fired.min(4)));
    }
}

const PRESSURE_WORDS: [&str; 10] =
    ["some ", "full ", "total=", "avg10=", "\n", "\0", "0.00", "-1", "18446744073709551615", " "];

/// What `/proc/pressure/memory` says, several times.
pub fn make_pressure(random: &mut Random) -> Vec<u8> {
    let mut total = 0;
    let mut text = String::new();
    for _ in 0..random.below(12) {
        total += random.below(400_000);
        text += &format!("some avg10=0.22 avg60=0.17 avg300=1.11 total={total}\n");
        text += &format!("full avg10=0.22 avg60=0.16 avg300=1.08 total={}\n\0", total / 2);
    }
    text.into_bytes()
}

/// Changes it word by word.
pub fn mutate_pressure(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &PRESSURE_WORDS);
}

/// Readings of `/proc/pressure`, judged by rules about them.
pub fn pressure(input: &[u8]) {
    static RULES: LazyLock<RecorderConfig> = LazyLock::new(|| {
        let text = "[[rule]]\nname = \"a\"\non = \"pressure\"\nresource = \"memory\"\npercent = 10\n\
                    again_after = \"1s\"\n[[rule]]\nname = \"b\"\non = \"pressure\"\n\
                    resource = \"memory\"\nkind = \"full\"\npercent = 1\nover = \"500ms\"\n";
        settings(text.as_bytes()).expect("the rules are right")
    });
    let mut rules = RULES.rules(Abi::X86_64).expect("they were checked");
    let mut sampler = rules.take_pressure();
    let (mut now_ns, mut fired) = (1_000_000_000u64, 0);
    for text in input.split(|byte| *byte == 0) {
        // The clock goes on, by what the text is like; for an odd one it may go back.
        let step = text.iter().fold(0u64, |sum, byte| sum * 3 % 1_000 + u64::from(*byte));
        now_ns = if step == 777 { step } else { now_ns.saturating_add(step * 1_000_000) };
        for resource in sampler.resources() {
            fired += sampler.sample(resource, text, now_ns).len() as u64;
        }
        let parsed = parse_pressure(text);
        met((parsed.some_us.map(u64::checked_ilog2), parsed.full_us.is_some()));
    }
    assert_eq!(sampler.firings().map(|(_, firings)| firings).sum::<u64>(), fired);
    met(("fired", fired.min(4)));
}

const PROC_WORDS: [&str; 22] = [
    "Uid:\t0\t1000\t0\t0\n",
    "Gid:\t0\t0\t0\t0\n",
    "flags:\t02100002\n",
    "0100007F:1F90",
    "00000000000000000000000001000000:0050",
    "@",
    "(",
    ")",
    ") S ",
    "running",
    "-1",
    "0x0",
    "0xffffffffffffffff",
    "0x",
    "\n",
    " ",
    "\0",
    "S",
    "R",
    "99999999999999999999",
    "(a) (b",
    "0 0x3 0x7ffe1000 0x1 0x0 0x0 0x0 0x7ffe0ff8 0x7f0000001000",
];

/// A line of `stat` or `syscall`, of what a file was opened with, who a process runs as,
/// or of a socket.
pub fn make_proc(random: &mut Random) -> Vec<u8> {
    let lines = [
        "pos:\t0\nflags:\t02100002\nmnt_id:\t9\n",
        "Name:\tsh\nUid:\t0\t1000\t0\t0\nGid:\t0\t0\t0\t0\n",
        "   0: 0100007F:1F90 0200000A:C350 01 0:0 00:0 00 1000 0 4711 1 0 100\n",
        "1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 \
         0 0 0 12 1 0\n",
        "0000000000000000: 00000002 00000000 00010000 0001 01 33 /run/a b\n",
        "0: 2 0 0 0002 01 34 @name\n",
        "ffff8 16 1 00000440 0 0 0 2 0 17000\n",
        "42 (a) (b c) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0",
        "0 0x3 0x7ffe1000 0x1 0x0 0x0 0x0 0x7ffe0ff8 0x7f0000001000\n",
        "-1 0x7ffe 0x7f00\n",
        "running\n",
    ];
    mutate::one_of(random, &lines).as_bytes().to_vec()
}

/// Changes it word by word.
pub fn mutate_proc(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &PROC_WORDS);
}

/// `/proc/PID/stat`, `syscall`, `status`, `fdinfo` and `net`.
pub fn proc(input: &[u8]) {
    sockets(input);
    met(("credentials", parse_credentials(input).is_some()));
    if let Some(Stat { comm, ppid, start_ticks, .. }) = parse_stat(input) {
        assert!(comm.len() <= recorder::context::COMM_LENGTH_MAX);
        met(("stat", comm.len().min(2), ppid > 0, start_ticks.checked_ilog2()));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    met(("flags", parse_open_flags(text).map(u32::count_ones)));
    if let Some((nr, args)) = parse_call(text) {
        assert!(nr >= 0);
        met(("call", nr > 0, args.iter().filter(|arg| **arg > 0).count()));
    }
}

/// The files of `/proc/PID/net`: what they say of a socket can be kept and told.
fn sockets(input: &[u8]) {
    for table in SOCKET_TABLES {
        for (inode, (head, addresses)) in parse_sockets(table, input) {
            let name = format!("socket:[{inode}]");
            let socket = Some((head, addresses.as_slice()));
            let kept = file::describe(FileHead::default(), name.as_bytes(), socket);
            let socket = File::first(&kept).and_then(|file| file.socket());
            let name = socket.map(|socket| socket.name(inode)).unwrap_or_default();
            assert!(!name.is_empty(), "a socket of {table} has no name");
            met((table, head.state, addresses.len().min(64)));
        }
    }
}

/// Types of a kernel that has two structures, a typedef and a function.
pub fn make_btf(random: &mut Random) -> Vec<u8> {
    let mut strings = vec![0];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.as_bytes());
        strings.push(0);
        at
    };
    let words: Vec<u32> = vec![
        // 1: int, 4 bytes.
        name("int"),
        1 << 24,
        4,
        32,
        // 2: struct inner { int a; int b; }
        name("inner"),
        4 << 24 | 2,
        8,
        name("a"),
        1,
        0,
        name("b"),
        1,
        32,
        // 3: struct outer { int first; struct inner; inner named; }
        name("outer"),
        4 << 24 | 3,
        20,
        name("first"),
        1,
        0,
        0,
        2,
        32,
        name("named"),
        4,
        96,
        // 4: typedef inner.
        name("inner_t"),
        8 << 24,
        2,
        // 5: a function of three parameters, 6: a pointer to it, 7: the tracepoint.
        0,
        13 << 24 | 3,
        0,
        0,
        1,
        0,
        1,
        0,
        1,
        0,
        2 << 24,
        5,
        name("btf_trace_sys_enter"),
        8 << 24,
        6,
    ];
    let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
    btf.extend([1, 0]);
    let header = 24u32;
    let padding = random.below(3) as u32 * 4;
    let lengths = [types.len() as u32, strings.len() as u32];
    for word in [header, padding, lengths[0], padding + lengths[0], lengths[1]] {
        btf.extend(word.to_ne_bytes());
    }
    btf.extend(vec![0; padding as usize]);
    btf.extend(types);
    btf.extend(strings);
    btf
}

/// Changes a word of it, or any bytes.
pub fn mutate_btf(random: &mut Random, btf: &mut Vec<u8>) {
    if random.one_in(3) {
        return mutate::bytes(random, btf);
    }
    let words = btf.len() as u64 / 4;
    let at = random.below(words) as usize * 4;
    let word = match random.below(3) {
        0 => mutate::edge(random) as u32,
        1 => (random.below(20) as u32) << 24 | random.below(5) as u32,
        _ => random.below(24) as u32,
    };
    if let Some(place) = btf.get_mut(at..at + 4) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

/// The kernel's types: an offset, or none.
pub fn btf(input: &[u8]) {
    let types = match KernelTypes::parse(input) {
        Ok(types) => types,
        Err(error) => return met_error("btf", &error),
    };
    for (structure, field) in [
        ("outer", "first"),
        ("outer", "a"),
        ("outer", "named.b"),
        ("outer", "named.b.c"),
        ("inner", "nothing"),
    ] {
        match types.offset(structure, field) {
            Ok(offset) => met((structure, field, offset.checked_ilog2())),
            Err(error) => met_error(field, &error),
        }
    }
    met((types.has_tracepoint("sys_enter"), types.tracepoint_args("sys_enter")));
}
