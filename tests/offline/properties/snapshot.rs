//! Whatever was in a window is in its file, comes back in the order of time, and is
//! found by a filter as if one had looked at every event.

use std::{collections::BTreeMap, ops::ControlFlow};

use recorder::{
    context::Processes,
    event::{Class, Event, Kind, syscall::Abi, wire::flag},
    filter::{Filter, FilterWords},
    replay::replay,
    snapshot::{BlockEntry, SnapshotReader, verify},
};
use recorder_tests::{
    property::{Case, check, met, seeds},
    synth::{Made, Random, Synth},
};

use crate::scratch::Scratch;

fn counted(events: impl Iterator<Item = Made>) -> BTreeMap<Made, u64> {
    let mut counts = BTreeMap::new();
    for made in events {
        *counts.entry(made).or_default() += 1;
    }
    counts
}

/// What a snapshot is made of beside its events.
#[derive(Clone, Debug)]
struct Setup {
    cpus: u16,
    unfinished: Vec<Made>,
    end_ns: u64,
}

/// Events of all kinds, on several CPUs, neighbours turned round, with times at the
/// edges of the clock now and then.
fn case(random: &mut Random) -> Case<Setup, Made> {
    let cpus = 1 + random.below(6) as u16;
    let mut now_ns = 5_000_000_000;
    let mut steps = Vec::new();
    for _ in 0..random.below(800) {
        now_ns += random.below(4_000_000);
        let lag_ns = if random.one_in(20) { random.below(3_000_000) } else { 0 };
        let ts_ns = if random.one_in(200) { random.number() } else { now_ns - lag_ns };
        let mut made = Made::random(random, ts_ns, cpus);
        // What was recorded had returned.
        made.flags &= !flag::UNFINISHED;
        steps.push(made);
    }
    let unfinished = (0..random.below(4)).map(|_| {
        let tid = 1 + random.below(12) as u32;
        let rest = [random.number(), 3, 0];
        Made::call(now_ns, 0, tid, random.below(330).cast_signed(), 0, &rest)
            .flagged(flag::UNFINISHED)
    });
    let unfinished = unfinished.collect();
    Case { setup: Setup { cpus, unfinished, end_ns: now_ns }, steps }
}

fn synth(case: &Case<Setup, Made>) -> Synth {
    let Setup { cpus, unfinished, end_ns } = case.setup.clone();
    let mut synth = Synth::random(0, cpus, 0);
    (synth.events, synth.unfinished) = (case.steps.clone(), unfinished);
    synth.header.clock.monotonic_ns = end_ns;
    synth
}

/// Every event that `skip` does not rule out, in the order in which they come.
fn replayed(
    reader: &SnapshotReader,
    skip: &dyn Fn(&BlockEntry) -> bool,
    passes: &dyn Fn(&Event<'_>, &Processes) -> bool,
) -> Vec<Made> {
    let mut events = Vec::new();
    let done = replay(reader, skip, &mut |_| {}, &mut |event, processes| {
        if passes(event, processes) {
            events.push(Made::from(event));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(done.damage, [""; 0]);
    events
}

#[test]
fn whatever_is_written_is_read_once_and_in_the_order_of_time() {
    let scratch = Scratch::new();
    check(30, case, |case| {
        let synth = synth(case);
        let path = synth.write(scratch.path());
        let reader = SnapshotReader::open(&path).unwrap();
        assert_eq!(reader.complaints(), [""; 0]);
        let verdict = verify(&path, &mut |_, _| {}).unwrap();
        assert_eq!(verdict.complaints, [""; 0]);
        let events = replayed(&reader, &|_| false, &|_, _| true);
        for two in events.windows(2) {
            assert!(two[0].ts_ns <= two[1].ts_ns, "{two:?}");
            let is_unfinished = |made: &Made| synth.unfinished.contains(made);
            let is_last =
                two[0].ts_ns < two[1].ts_ns || !is_unfinished(&two[0]) || is_unfinished(&two[1]);
            assert!(is_last, "{two:?}");
        }
        let all = synth.events.iter().chain(&synth.unfinished).cloned();
        assert!(counted(events.into_iter()) == counted(all), "other events come out");
        assert_eq!(reader.header().ledger.in_window, in_ledger(&synth.events));
        let kinds = reader.events();
        for kind in Kind::ALL {
            let of = |made: &&Made| made.kind == *kind;
            let count = synth.events.iter().chain(&synth.unfinished).filter(of).count() as u64;
            let said = kinds.get(kind.schema().name).copied().unwrap_or_default();
            assert_eq!(said, count, "{kind:?}");
        }
        std::fs::remove_file(path).unwrap();
    });
}

fn in_ledger(events: &[Made]) -> u64 {
    events.iter().filter(|made| made.kind != Kind::Lost).count() as u64
}

/// A filter rules out whole blocks by the index: that must not change the answer.
#[test]
fn a_block_that_is_ruled_out_has_nothing_that_passes() {
    let scratch = Scratch::new();
    let (mut skipped, mut found) = (0, 0);
    for seed in seeds(20) {
        let mut random = Random::new(seed);
        let case = case(&mut random);
        let synth = synth(&case);
        let path = synth.write(scratch.path());
        let reader = SnapshotReader::open(&path).unwrap();
        let window = &reader.header().window;
        let span_ns = window.end_ns.saturating_sub(window.start_ns).max(1);
        for _ in 0..8 {
            let at = random.below(span_ns);
            let words = FilterWords {
                since: random.one_in(2).then(|| format!("+{at}ns")),
                until: random.one_in(2).then(|| format!("+{}ns", at + random.below(span_ns / 3))),
                failed: random.one_in(4),
                pids: if random.one_in(4) { vec![random.below(12) as u32] } else { Vec::new() },
                expressions: random
                    .one_in(4)
                    .then(|| expression(&mut random))
                    .into_iter()
                    .collect(),
                ..FilterWords::default()
            };
            let filter = Filter::new(&words, reader.header(), Abi::X86_64).unwrap();
            let passes = |event: &Event<'_>, processes: &Processes| filter.passes(event, processes);
            let all = replayed(&reader, &|_| false, &passes);
            let some = replayed(&reader, &|entry| filter.rules_out(entry), &passes);
            assert!(all == some, "seed {seed}: {words:?}: {} of {}", some.len(), all.len());
            skipped += reader.blocks().iter().filter(|entry| filter.rules_out(entry)).count();
            found += all.len();
            let naive = replayed(&reader, &|_| false, &|_, _| true);
            let bound = |word: &Option<String>| {
                let ns = word.as_ref()?.strip_prefix('+')?.strip_suffix("ns")?;
                Some(window.start_ns + ns.parse::<u64>().unwrap())
            };
            if !words.failed && words.pids.is_empty() && words.expressions.is_empty() {
                let since = bound(&words.since).unwrap_or_default();
                let until = bound(&words.until).unwrap_or(u64::MAX);
                let count = naive.iter().filter(|made| is_within(made, since, until)).count();
                assert_eq!(all.len(), count, "seed {seed}: {words:?}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }
    met(skipped as u64, 20, "blocks were ruled out");
    met(found as u64, 100, "events were found");
}

/// Two events of one nanosecond and CPU came the other way round when a block before them
/// was not read: their order was that of the places the reader had for blocks.
#[test]
fn events_of_one_moment_have_the_same_order_whichever_blocks_are_read() {
    const START_NS: u64 = 5_000_000_000;
    let call =
        |after_ns: u64, nr: i64, ret: i64| Made::call(START_NS + after_ns, 0, 7, nr, ret, &[1, 0]);
    let mut synth = Synth::random(0, 1, 0);
    // `getppid` is bulk, a `read` with EIO precious, `close` state.
    synth.events =
        vec![call(1, 110, 1), call(3, 0, -5), call(4, 110, 1), call(100, 0, -5), call(100, 3, 0)];
    synth.header.clock.monotonic_ns = START_NS + 100;
    let scratch = Scratch::new();
    let reader = SnapshotReader::open(&synth.write(scratch.path())).unwrap();
    let last = |event: &Event<'_>, _: &Processes| event.ts_ns == START_NS + 100;
    let all = replayed(&reader, &|_| false, &last);
    let some = replayed(&reader, &|entry| entry.meta.class == Class::Bulk, &last);
    assert_eq!(all.len(), 2);
    assert_eq!(all, some);
}

/// A call that may be among those of a case, or something else.
fn expression(random: &mut Random) -> String {
    let words = ["read", "write", "open", "close", "%process", "%net", "process_exit", "lost"];
    format!("trace={}", words[random.below(words.len() as u64) as usize])
}

/// From the first moment that belongs to an event to the last.
fn is_within(made: &Made, since_ns: u64, until_ns: u64) -> bool {
    let is_unfinished = made.flags & flag::UNFINISHED != 0;
    let has_age =
        made.kind == Kind::Syscall && made.flags & (flag::NO_ENTRY | flag::NO_RETURN) == 0;
    let age_ns = if is_unfinished && has_age { made.numbers[2] } else { 0 };
    let last_ns = if made.kind == Kind::Lost { made.numbers[2] } else { made.ts_ns };
    last_ns >= since_ns && made.ts_ns.saturating_sub(age_ns) <= until_ns
}

/// The blocks of a class hold that class, and only what the class is for.
#[test]
fn every_event_is_in_a_block_of_its_class() {
    let scratch = Scratch::new();
    for seed in seeds(10) {
        let case = case(&mut Random::new(seed));
        let path = synth(&case).write(scratch.path());
        let reader = SnapshotReader::open(&path).unwrap();
        for entry in reader.blocks() {
            for event in reader.block(entry).unwrap().events() {
                let class = match entry.meta.class {
                    Class::Context | Class::Unfinished => continue,
                    class => class,
                };
                assert_eq!(Class::of(&event, Abi::X86_64), class, "seed {seed}: {event:?}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }
}
