//! What people write.

use std::sync::LazyLock;

use recorder::{
    clock::parse_duration_ns,
    context::Processes,
    event::{Attached, Event, Kind, syscall::Abi},
    filter::{Filter, FilterWords, parse_moment},
    snapshot::Header,
};
use recorder_tests::synth::{Made, Random, Synth};

use crate::{met, mutate};

static HEADER: LazyLock<Header> = LazyLock::new(|| Synth::sample().header);

const FILTER_WORDS: [&str; 24] = [
    "trace=",
    "%file",
    "%net",
    "%process",
    "%desc",
    "%signal",
    "%memory",
    "openat",
    "read",
    "all",
    "tcp_state",
    "lost",
    ",",
    "/etc/",
    "t-30s",
    "-1m",
    "+2s",
    "@1700000000.5",
    "14:03:07",
    "250ms",
    "1h30m",
    "2026-11-23T02:26:24Z",
    "\n",
    "systemd",
];

/// The words of a filter, one kind a line.
pub fn make_filter(random: &mut Random) -> Vec<u8> {
    let mut word = |list: &[&'static str]| {
        if random.one_in(3) { "" } else { mutate::one_of(random, list) }
    };
    let lines = [
        word(&["trace=openat,read", "trace=%net", "%file", "all"]),
        word(&["1", "100,200"]),
        word(&["cat", "systemd"]),
        word(&["/etc/", "/usr/bin/cat"]),
        word(&["failed"]),
        word(&["10ms", "0s", "1us"]),
        word(&["t-30s", "-1m", "+1s", "02:26:20", "@1795400780"]),
        word(&["t", "-1ms", "2026-11-23T02:26:24Z"]),
        word(&["web", "4fa6e0f0c678"]),
        word(&["nginx", "user@1000.service"]),
        word(&["2c48913c"]),
    ];
    lines.join("\n").into_bytes()
}

/// Changes it word by word.
pub fn mutate_filter(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &FILTER_WORDS);
}

/// Processes of which some are in containers and units.
fn contained() -> Processes {
    let groups: [&[u8]; 3] = [
        b"0::/lxc.payload.web/system.slice/nginx.service\n",
        b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n",
        b"0::/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/crio-\
          4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2\n",
    ];
    let mut processes = Processes::default();
    for (pid, groups) in (1..).zip(groups) {
        let mut event = Event::new(Kind::Process, 0);
        (event.pid, event.tid) = (pid, pid);
        event.attach(Attached { index: 4, flags: 0, bytes: groups });
        processes.apply(&event, Abi::X86_64);
    }
    processes
}

/// A filter: refused in words, or it says yes or no to every event.
pub fn filter(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut line = || lines.next().map(str::to_string).filter(|line| !line.is_empty());
    let words = FilterWords {
        expressions: line().into_iter().collect(),
        pids: line()
            .iter()
            .flat_map(|pids| pids.split(',').map(str::to_string).collect::<Vec<_>>())
            .filter_map(|pid| pid.parse().ok())
            .collect(),
        comms: line().into_iter().collect(),
        paths: line().into_iter().collect(),
        failed: line().is_some(),
        duration: line(),
        since: line(),
        until: line(),
        containers: line().into_iter().collect(),
        units: line().into_iter().collect(),
        pods: line().into_iter().collect(),
    };
    let header = &*HEADER;
    for native in [Abi::X86_64, Abi::Aarch64] {
        let filter = match Filter::new(&words, header, native) {
            Ok(filter) => filter,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                let words = ["moment", "duration", "trace"];
                met(words.map(|word| error.to_string().contains(word)));
                continue;
            }
        };
        let mut random = Random::new(input.len() as u64);
        let processes = contained();
        let passed = (0..20)
            .filter(|place| {
                let made = Made::random(&mut random, place * 1_000_000_000, 2);
                filter.passes(&made.as_event(), &processes)
            })
            .count();
        met(("passed", passed));
    }
}

const WORDS: [&str; 30] = [
    "t",
    "t-",
    "t+",
    "-",
    "+",
    "@",
    "30s",
    "5m",
    "1h30m",
    "250ms",
    "10us",
    "1ns",
    "1d",
    "PT1H",
    "1700000000.5",
    "14:03:07.250",
    "2026-11-23T02:26:24Z",
    "2026-11-23 02:26:24",
    "256MiB",
    "1GiB",
    "500MB",
    "18446744073709551615",
    "-9223372036854775808",
    "+02:00",
    "[UTC]",
    " ",
    ".",
    "e9",
    "ago",
    "weeks",
];

/// A moment, a duration or an amount.
pub fn make_word(random: &mut Random) -> Vec<u8> {
    let list = ["t-30s", "-1m", "+2s", "@1795400774.5", "02:26:14", "1h30m", "256MiB", "250ms"];
    mutate::one_of(random, &list).as_bytes().to_vec()
}

/// Changes it piece by piece.
pub fn mutate_word(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &WORDS);
}

/// Every parser of a word: it is refused with what would be right, or understood.
pub fn words(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let header = &*HEADER;
    match parse_moment(&text, header) {
        Ok(ns) => met(("moment", ns.checked_ilog2())),
        Err(error) => assert!(error.contains("t-30s"), "{error}"),
    }
    match parse_duration_ns(&text) {
        Ok(ns) => {
            met(("duration", ns.checked_ilog2()));
            // Nanoseconds can be written as they are.
            assert_eq!(parse_duration_ns(&format!("{ns}ns")).ok(), small(ns));
        }
        Err(error) => assert!(error.contains("250ms"), "{error}"),
    }
    #[cfg(feature = "capture")]
    match recorder::config::parse_bytes(&text) {
        Ok(bytes) => {
            met(("amount", bytes.checked_ilog2()));
            assert_eq!(recorder::config::parse_bytes(&bytes.to_string()), Ok(bytes));
        }
        Err(error) => assert!(error.contains("256MiB"), "{error}"),
    }
}

/// A duration of so many nanoseconds, where a duration can be as long.
fn small(ns: u64) -> Option<u64> {
    i64::try_from(ns).is_ok().then_some(ns)
}
