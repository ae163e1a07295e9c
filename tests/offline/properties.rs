//! What must hold for any events and any bytes. Each case has a seed, and every
//! failure names it.

use std::{collections::BTreeMap, ops::ControlFlow};

use recorder::{
    context::{Processes, ThreadFacts},
    decode::decode,
    event::{
        Call, Class, Kind,
        syscall::{self, Abi},
        wire,
    },
    export::{Exporter as _, JsonLines, Text},
    filter::{Filter, FilterWords},
    loss::Ledger,
    replay::replay,
    snapshot::{Header, SnapshotReader},
    window::{
        FrozenWindow, SEGMENT_SPAN_NS, Window, WindowLimits,
        codec::{Columns, DecodedBlock, EVENTS_MAX, RAW_BYTES_MAX},
    },
};
use recorder_tests::synth::{Made, Random, Synth};

use crate::{
    memory,
    scratch::{Scratch, rounds},
};

/// How often each event is there.
fn counted(events: impl Iterator<Item = Made>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for made in events {
        *counts.entry(format!("{made:?}")).or_default() += 1;
    }
    counts
}

fn events_of(frozen: &FrozenWindow) -> Vec<Made> {
    let blocks = frozen.blocks.iter().map(|block| block.sealed().open().unwrap());
    blocks
        .flat_map(|block| block.events().map(|event| Made::from(&event)).collect::<Vec<_>>())
        .collect()
}

/// Against the simplest window there is: a list of everything.
#[test]
fn the_window_keeps_what_is_young_and_drops_what_is_old() {
    const GAP_NS: u64 = 150_000_000;
    const LAG_NS: u64 = 3_000_000;
    const SPAN_NS: u64 = 4_000_000_000;
    for seed in 0..rounds(20) {
        let mut random = Random::new(seed);
        let limits = WindowLimits { span_ns: SPAN_NS, bytes_max: u64::MAX };
        let mut window = Window::new(limits, 3, Abi::X86_64, Processes::default());
        let (mut pushed, mut now_ns) = (Vec::new(), 10_000_000_000);
        for _ in 0..600 {
            now_ns += random.below(GAP_NS);
            let lag_ns = if random.one_in(10) { random.below(LAG_NS) } else { 0 };
            let made = Made::random(&mut random, now_ns - lag_ns, 3);
            window.push(&made.as_event());
            window.tick(now_ns);
            pushed.push(made);
            if random.one_in(60) {
                let kept = events_of(&window.freeze());
                let counted_kept =
                    kept.iter().filter(|made| made.kind != Kind::Lost).count() as u64;
                assert_eq!(counted_kept + window.evicted().events, window.events(), "seed {seed}");
                let oldest = kept.iter().map(|made| made.ts_ns).min().unwrap_or(now_ns);
                let bound = now_ns - SPAN_NS - SEGMENT_SPAN_NS - GAP_NS - LAG_NS;
                assert!(oldest >= bound, "seed {seed}: {oldest} is older than {bound}");
                let young = |made: &&Made| made.ts_ns >= now_ns - SPAN_NS;
                let of_kept = counted(kept.iter().filter(young).cloned());
                let of_pushed = counted(pushed.iter().filter(young).cloned());
                assert_eq!(of_kept, of_pushed, "seed {seed}");
            }
        }
    }
}

/// Bytes are a bound as hard as time: sealed blocks never exceed it for long.
#[test]
fn the_window_stays_below_its_bytes() {
    for seed in 0..rounds(5) {
        let mut random = Random::new(seed);
        let limits = WindowLimits { span_ns: u64::MAX, bytes_max: 300_000 };
        let mut window = Window::new(limits, 2, Abi::X86_64, Processes::default());
        let mut held = Vec::new();
        for place in 0..20_000u64 {
            let made = Made::random(&mut random, 1_000_000_000 + place * 1_000_000, 2);
            window.push(&made.as_event());
            window.tick(made.ts_ns);
            if random.one_in(2_000) {
                held.push(window.freeze());
            }
            if random.one_in(3_000) {
                held.clear();
            }
        }
        held.clear();
        window.tick(100_000_000_000);
        let open = window.open_bytes() + window.baseline_bytes();
        assert!(window.bytes() <= limits.bytes_max + open, "seed {seed}: {}", window.bytes());
        let kept = events_of(&window.freeze());
        let counted_kept = kept.iter().filter(|made| made.kind != Kind::Lost).count() as u64;
        assert_eq!(counted_kept + window.evicted().events, window.events(), "seed {seed}");
    }
}

#[test]
fn any_events_come_back_from_a_block() {
    for seed in 0..rounds(300) {
        let mut random = Random::new(seed);
        let mut columns = Columns::default();
        let count = random.below(60) as usize;
        let mut pushed: Vec<Made> = (0..count)
            .map(|_| {
                let ts_ns = if random.one_in(10) { random.number() } else { random.below(1_000) };
                Made { cpu: u16::MAX, ..Made::random(&mut random, ts_ns, 1) }
            })
            .collect();
        pushed.iter().for_each(|made| columns.push(&made.as_event()));
        let bytes = columns.to_bytes(Class::Bulk, u16::MAX);
        let block =
            DecodedBlock::read(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        pushed.sort_by_key(|made| made.ts_ns);
        let read: Vec<Made> = block.events().map(|event| Made::from(&event)).collect();
        assert_eq!(read, pushed, "seed {seed}");
    }
}

#[test]
fn replay_gives_everything_once_and_never_goes_back_in_time() {
    let scratch = Scratch::new();
    for seed in 0..rounds(20) {
        let mut random = Random::new(seed);
        let synth =
            Synth::random(seed, 1 + random.below(5) as u16, 400 + random.below(800) as usize);
        let reader = SnapshotReader::open(&synth.write(scratch.path())).unwrap();
        let (mut last_ns, mut replayed) = (0, Vec::new());
        let done = replay(&reader, &|_| false, &mut |_| {}, &mut |event, _| {
            assert!(event.ts_ns >= last_ns, "seed {seed}: {} after {last_ns}", event.ts_ns);
            last_ns = event.ts_ns;
            replayed.push(Made::from(event));
            ControlFlow::Continue(())
        });
        assert_eq!((done.events, done.damage), (replayed.len() as u64, Vec::new()), "seed {seed}");
        let (replayed, made) = (counted(replayed.into_iter()), counted(synth.events.into_iter()));
        assert_eq!(replayed, made, "seed {seed}");
    }
}

#[test]
fn a_ledger_closes_only_when_every_number_is_right() {
    for seed in 0..rounds(2_000) {
        let mut random = Random::new(seed);
        let mut few = || random.below(1_000);
        let mut ledger = Ledger {
            filtered: few(),
            aggregated: few(),
            malformed: few(),
            in_flight: few(),
            evicted: few(),
            in_window: few(),
            lost: [("a".to_string(), few()), ("b".to_string(), few())].into(),
            ..Ledger::default()
        };
        ledger.decoded = ledger.in_window + ledger.evicted;
        ledger.stored = ledger.decoded + ledger.malformed + ledger.in_flight;
        ledger.seen = ledger.stored + ledger.filtered + ledger.aggregated + ledger.lost_total();
        assert!(ledger.sums_hold() && ledger.complaints().is_empty(), "seed {seed}: {ledger:?}");
        let wrong = 1 + random.number() % 1_000_000;
        let fields = [
            &mut ledger.seen,
            &mut ledger.stored,
            &mut ledger.filtered,
            &mut ledger.aggregated,
            &mut ledger.malformed,
            &mut ledger.in_flight,
            &mut ledger.decoded,
            &mut ledger.evicted,
            &mut ledger.in_window,
            &mut ledger.unaccounted,
        ];
        let place = random.below(fields.len() as u64) as usize;
        for field in fields.into_iter().skip(place).take(1) {
            *field += wrong;
        }
        assert!(!ledger.sums_hold(), "seed {seed}: {ledger:?}");
        assert!(!ledger.complaints().is_empty(), "seed {seed}: {ledger:?}");
    }
}

/// One filter in words, and what it means, said as simply as possible.
#[derive(Debug, Default)]
struct Wanted {
    calls: Vec<&'static str>,
    group: Option<&'static str>,
    pids: Vec<u32>,
    comms: Vec<&'static str>,
    path: Option<&'static str>,
    failed: bool,
    least_ns: Option<u64>,
    since_ns: u64,
    until_ns: u64,
}

impl Wanted {
    fn random(random: &mut Random) -> Wanted {
        let mut wanted = Wanted { until_ns: 1_000, ..Wanted::default() };
        for name in ["openat", "read", "tcp_state", "process_exit"] {
            if random.one_in(5) {
                wanted.calls.push(name);
            }
        }
        if random.one_in(4) {
            let groups = ["%file", "%process", "%net"];
            wanted.group = groups.get(random.below(3) as usize).copied();
        }
        if random.one_in(3) {
            wanted.pids = vec![random.below(6) as u32, random.below(12) as u32];
        }
        if random.one_in(3) {
            wanted.comms = vec!["even"];
        }
        if random.one_in(3) {
            let paths = ["/etc/", "/etc/hosts", "/etc"];
            wanted.path = paths.get(random.below(3) as usize).copied();
        }
        wanted.failed = random.one_in(4);
        wanted.least_ns = random.one_in(4).then(|| random.below(2_000));
        if random.one_in(3) {
            wanted.since_ns = random.below(500);
            wanted.until_ns = 500 + random.below(500);
        }
        wanted
    }

    fn words(&self) -> FilterWords {
        let names: Vec<&str> = self.calls.iter().copied().chain(self.group).collect();
        FilterWords {
            expressions: if names.is_empty() {
                Vec::new()
            } else {
                vec![format!("trace={}", names.join(","))]
            },
            pids: self.pids.clone(),
            comms: self.comms.iter().map(ToString::to_string).collect(),
            paths: self.path.iter().map(ToString::to_string).collect(),
            failed: self.failed,
            duration: self.least_ns.map(|ns| format!("{ns}ns")),
            since: Some(format!("+{}ns", self.since_ns)),
            until: Some(format!("+{}ns", self.until_ns)),
        }
    }

    fn passes(&self, made: &Made) -> bool {
        if made.kind == Kind::Lost {
            return made.numbers[2] >= self.since_ns && made.ts_ns <= self.until_ns;
        }
        let event = made.as_event();
        let call = Call::of(&event);
        let row = call.and_then(|call| syscall::lookup(call.abi(Abi::X86_64), call.nr()));
        let name =
            if call.is_some() { row.map(|row| row.name) } else { Some(made.kind.schema().name) };
        let in_group = self.group.is_some_and(|group| match row {
            Some(row) => row.groups.intersects(syscall::Groups::parse(group).unwrap()),
            None => {
                let prefix = if group == "%net" { "tcp" } else { "process" };
                call.is_none() && group != "%file" && made.kind.schema().name.starts_with(prefix)
            }
        });
        let any = self.calls.is_empty() && self.group.is_none();
        let traced = any || in_group || name.is_some_and(|name| self.calls.contains(&name));
        let pid =
            self.pids.is_empty() || self.pids.iter().any(|p| [made.pid, made.tid].contains(p));
        let comm = self.comms.is_empty() || made.tid.is_multiple_of(2);
        let failed = !self.failed || call.and_then(|call| call.errno()).is_some_and(|e| e < 512);
        let long = self
            .least_ns
            .is_none_or(|ns| call.and_then(|call| call.dur_ns()).is_some_and(|dur| dur >= ns));
        // A call that has not returned is part of all the time since its entry.
        let unfinished = call.filter(|_| event.has(wire::flag::UNFINISHED));
        let age_ns = unfinished.and_then(|call| call.dur_ns()).unwrap_or_default();
        let entered_ns = made.ts_ns.saturating_sub(age_ns);
        let time = made.ts_ns >= self.since_ns && entered_ns <= self.until_ns;
        let path = self.path.is_none_or(|path| {
            made.attached.iter().any(|(index, _, bytes)| {
                let index = usize::from(*index);
                let meaning = match (call, row) {
                    (Some(_), row) => row.and_then(|row| Some(row.args.get(index)?.meaning)),
                    (None, _) => {
                        made.kind.schema().attachments.get(index).map(|bytes| bytes.meaning)
                    }
                };
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                meaning == Some(recorder::event::Meaning::Path)
                    && (text == path.as_bytes()
                        || path.ends_with('/') && text.starts_with(path.as_bytes()))
            })
        });
        traced && pid && comm && failed && long && time && path
    }
}

#[test]
fn a_filter_means_what_its_words_say() {
    let mut processes = Processes::default();
    for tid in (0..20).step_by(2) {
        processes.insert(tid, ThreadFacts { comm: b"even".to_vec(), ..ThreadFacts::default() });
    }
    let mut passed = 0;
    for seed in 0..rounds(400) {
        let mut random = Random::new(seed);
        let wanted = Wanted::random(&mut random);
        let filter = Filter::new(&wanted.words(), &Header::default(), Abi::X86_64).unwrap();
        for _ in 0..200 {
            let ts_ns = random.below(1_000);
            let mut made = Made::random(&mut random, ts_ns, 1);
            if made.kind == Kind::Syscall && random.one_in(2) {
                made.numbers[0] = if random.one_in(2) { 257 } else { 0 };
            }
            let passes = filter.passes(&made.as_event(), &processes);
            assert_eq!(passes, wanted.passes(&made), "seed {seed}: {wanted:?} {made:?}");
            passed += u64::from(passes);
        }
    }
    assert!(passed > 1_000, "only {passed} events passed anything");
}

#[test]
fn any_event_can_be_printed() {
    let header = Synth::sample().header;
    let mut processes = Processes::default();
    for seed in 0..rounds(10_000) {
        let mut random = Random::new(seed);
        let ts_ns = random.number();
        let made = Made::random(&mut random, ts_ns, 2);
        let native = if random.one_in(2) { Abi::X86_64 } else { Abi::Aarch64 };
        let event = made.as_event();
        let mut text = Vec::new();
        Text::new(header.clock, native, random.one_in(2))
            .event(&event, &processes, &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap_or_else(|_| panic!("seed {seed}: {made:?}"));
        let (line, end) = text.split_at(text.len() - 1);
        assert!(end == "\n" && !line.contains(char::is_control), "seed {seed}: {text:?}");
        let mut json = Vec::new();
        JsonLines::new(header.clock, native).event(&event, &processes, &mut json).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(object["ts_ns"], ts_ns.to_string(), "seed {seed}");
        processes.apply(&event);
    }
}

/// A record as the kernel writes it.
fn record(random: &mut Random) -> Vec<u8> {
    let kind = Kind::ALL[random.below(Kind::ALL.len() as u64) as usize];
    let mut record: Vec<u8> =
        (0..kind.schema().fixed_bytes).map(|_| random.next_u64() as u8).collect();
    let args = if kind == Kind::Syscall { random.below(7) } else { 0 };
    record.extend((0..8 * args).map(|_| random.next_u64() as u8));
    let attachments = random.below(5);
    for _ in 0..attachments {
        let bytes = random.bytes(60);
        record.extend([random.below(7) as u8, random.below(4) as u8]);
        record.extend((bytes.len() as u16).to_ne_bytes());
        record.extend(&bytes);
        record.resize(record.len().next_multiple_of(4), 0);
    }
    let bytes = (record.len() as u16).to_ne_bytes();
    record[..2].copy_from_slice(&bytes);
    (record[2], record[3], record[6]) = (kind as u8, args as u8, attachments as u8);
    record
}

#[test]
fn any_bytes_from_a_ring_are_survived() {
    let mut random = Random::new(17);
    let mut understood = 0;
    for case in 0..rounds(200_000) {
        let mut bytes = if case % 2 == 0 { record(&mut random) } else { random.bytes(200) };
        if case % 2 == 0 && !random.one_in(10) {
            for _ in 0..random.below(4) {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] = random.next_u64() as u8;
            }
            bytes.truncate(bytes.len() - random.below(3).min(random.below(9)) as usize);
        }
        if let Ok((event, _)) = decode(&bytes, case as u16) {
            understood += 1;
            assert!(event.attached().iter().all(|attached| attached.bytes.len() <= bytes.len()));
        }
    }
    assert!(understood > 10_000, "only {understood} records were understood");
}

/// However its bytes lie, a block takes no more memory than the largest honest one.
#[test]
fn any_bytes_of_a_block_are_survived_in_bounded_memory() {
    /// Per event: its row, 9 numbers, a context of 9 numbers and its key, 4
    /// attachments, each in a vector or table that may have just doubled; and the
    /// strings.
    const BYTES_MAX: usize = EVENTS_MAX * 4 * (56 + 9 * 8 + (16 + 9 * 8) + 4 * 24) + RAW_BYTES_MAX;
    let mut understood = 0;
    for seed in 0..rounds(4_000) {
        let mut random = Random::new(seed);
        let mut columns = Columns::default();
        for _ in 0..random.below(40) {
            columns.push(&Made::random(&mut random, seed, 1).as_event());
        }
        let mut bytes = columns.to_bytes(Class::State, 0);
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[place] = random.next_u64() as u8,
                1 => bytes[place] ^= 1 << random.below(8),
                2 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, random.next_u64() as u8),
            }
        }
        let (peak, block) = memory::peak_of(|| DecodedBlock::read(&bytes));
        assert!(peak < BYTES_MAX, "seed {seed}: {peak} bytes");
        if let Ok(block) = block {
            understood += 1;
            assert!(block.len() <= EVENTS_MAX);
            assert_eq!(block.events().count(), block.len(), "seed {seed}");
        }
    }
    assert!(understood > 100, "only {understood} blocks were understood");
}

/// The dearest block there is: every event has all there can be, all different.
#[test]
fn the_dearest_block_is_bounded() {
    let mut columns = Columns::default();
    let mut random = Random::new(23);
    while !columns.is_full(usize::MAX) {
        let numbers: Vec<u64> = (0..9).map(|_| random.below(100)).collect();
        let made =
            Made { numbers, ..Made::new(Kind::Syscall, 1, 0, columns.raw_bytes() as u32, &[]) };
        columns.push(&made.with(0, b"a").with(1, b"a").with(2, b"a").with(6, b"a").as_event());
    }
    let bytes = columns.to_bytes(Class::State, 0);
    assert!(bytes.len() <= RAW_BYTES_MAX);
    let (peak, block) = memory::peak_of(|| DecodedBlock::read(&bytes));
    assert!(block.is_ok_and(|block| block.len() > 10_000));
    assert!(peak < 48 << 20, "{peak} bytes");
    let words = [&[1u8, 0, 0][..], &[0xff; 9], &[0x7f], &[0xff; 64]].concat();
    let (peak, block) = memory::peak_of(|| DecodedBlock::read(&words));
    assert!(block.is_err() && peak < 4_096, "{peak} bytes");
    const { assert!(wire::KINDS_MAX == 16, "the index has room for 16 kinds: FORMAT.md") };
}
