use super::*;
use crate::decode::Sequence;

fn window(span_ns: u64, bytes_max: u64) -> Window {
    let limits = WindowLimits { span_ns, bytes_max };
    Window::new(limits, 2, Abi::X86_64, Processes::default())
}

fn fork(ts_ns: u64, parent: u32, child: u32) -> Event<'static> {
    let mut event = Event::new(Kind::ProcessFork, ts_ns);
    (event.pid, event.tid) = (parent, parent);
    event.push_number(u64::from(child));
    event.push_number(u64::from(child));
    event
}

fn call(ts_ns: u64, cpu: u16, nr: u64) -> Event<'static> {
    let mut event = Event::new(Kind::Syscall, ts_ns);
    (event.pid, event.tid, event.cpu) = (9, 9, cpu);
    for number in [nr, 0, 100, ts_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15)] {
        event.push_number(number);
    }
    event
}

/// Every event a frozen window has, decoded.
fn events_of(frozen: &FrozenWindow) -> u64 {
    let blocks = frozen.blocks.iter().filter_map(|block| block.sealed().open());
    blocks.map(|block| block.len() as u64).sum()
}

#[test]
fn what_is_pushed_is_held_or_evicted_and_nothing_else() {
    let mut window = window(5_000_000_000, 60_000);
    for place in 0..40_000u64 {
        let ts_ns = 1 + place * 1_000_000;
        window.push(&call(ts_ns, (place % 2) as u16, 39));
        if place % 1_000 == 0 {
            window.push(&fork(ts_ns, 1, 100 + place as u32));
        }
        if place % 100 == 0 {
            window.tick(ts_ns);
            assert!(window.bytes() <= 60_000 + 40_000, "{} bytes", window.bytes());
        }
        if place % 7_000 == 0 {
            let frozen = window.freeze();
            assert_eq!(events_of(&frozen) + window.evicted().events, window.events());
        }
    }
    assert!(window.evicted().events > 30_000);
}

/// What known calls take is not asked for each time: the bound and the books hold all the
/// same.
#[test]
fn known_calls_are_counted_and_keep_the_bound() {
    const BYTES_MAX: u64 = 300_000;
    let mut window = window(u64::MAX, BYTES_MAX);
    let mut place = window.push(&call(1, 0, 39));
    let mut looked_up = 0;
    for turn in 2..400_000u64 {
        // Times that no block tells in few bytes.
        let ts_ns = turn * 1_000 + turn.wrapping_mul(0x9e37_79b9) % 900;
        let known = Recurrence {
            sequence: Sequence { seq: 0, skipped: 0 },
            ts_ns,
            ret: 0,
            dur_ns: turn.wrapping_mul(0x85eb_ca6b) % 5_000,
        };
        if !place.is_some_and(|place| window.push_known(0, &place, &known)) {
            place = window.push(&call(ts_ns, 0, 39));
            looked_up += 1;
        }
        if turn % 5_003 == 0 {
            let frozen = window.freeze();
            assert!(window.bytes() <= BYTES_MAX, "{} bytes", window.bytes());
            assert_eq!(events_of(&frozen) + window.evicted().events, window.events());
            drop(frozen);
            window.tick(ts_ns);
        }
    }
    assert_eq!(window.events(), 400_000 - 1);
    assert!(window.evicted().events > 0, "it was full");
    // A block that is sealed knows nothing any more.
    assert!((79..1_000).contains(&looked_up), "{looked_up} were looked up");
}

/// A window at its limit in bytes lost everything during a dump: evicting what
/// the dump holds gives no memory back, so one new block drove all of it out.
#[test]
fn a_dump_that_takes_long_does_not_empty_the_window() {
    let mut window = window(u64::MAX, 400_000);
    let fill = |window: &mut Window, from: u64| {
        for place in from..from + 20_000 {
            let ts_ns = 1 + place * 1_000_000;
            window.push(&call(ts_ns, 0, 39));
            if place % 100 == 0 {
                window.tick(ts_ns);
            }
        }
    };
    fill(&mut window, 0);
    fill(&mut window, 20_000);
    let before = window.holdings().iter().map(|holding| holding.events).sum::<u64>();
    let frozen = window.freeze();
    for place in 40_000..44_000 {
        window.push(&call(1 + place * 1_000_000, 0, 39));
        window.tick(1 + place * 1_000_000);
    }
    let during = window.holdings().iter().map(|holding| holding.events).sum::<u64>();
    assert!(during > before / 2, "{during} of {before} events are left during a dump");
    assert!(window.bytes() <= 400_000 + 100_000, "{} bytes", window.bytes());
    drop(frozen);
    window.tick(1 + 44_000 * 1_000_000);
    assert_eq!(window.pinned_bytes(), 0);
}

/// The baseline of a dump was not counted once the window's own had changed.
#[test]
fn what_only_a_dump_holds_is_counted() {
    let mut window = window(2_000_000_000, u64::MAX);
    for place in 1..1_000 {
        window.push(&fork(place * 1_000, 1, 100 + place as u32));
    }
    let fill = |window: &mut Window, seconds: std::ops::Range<u64>| {
        for second in seconds {
            window.push(&fork(second * 1_000_000_000, 1, second as u32));
            window.tick(second * 1_000_000_000);
        }
    };
    fill(&mut window, 1..10);
    let frozen = window.freeze();
    fill(&mut window, 10..20);
    assert!(window.pinned_bytes() > frozen.baseline.bytes());
    drop(frozen);
    fill(&mut window, 20..21);
    assert_eq!(window.pinned_bytes(), 0);
}

/// The columns that a freeze hands over stayed in memory, uncounted, when the
/// window had compressed them, until the dump had written them.
#[test]
fn columns_are_gone_when_they_are_compressed() {
    let mut window = window(u64::MAX, u64::MAX);
    for place in 1..5_000 {
        window.push(&call(place * 1_000, 0, 39));
    }
    let frozen = window.freeze();
    window.tick(1);
    let [Block::Handed(handed)] = frozen.blocks.as_slice() else { panic!("one block") };
    assert!(!handed.is_open() && !window.has_handed_blocks());
    assert_eq!(events_of(&frozen), 4_999);
}

/// The least a block should have, times 64 CPUs and three classes, was 12 MiB: more
/// than a small window has, which then held nothing but open columns.
#[test]
fn open_columns_of_many_cpus_keep_the_bound() {
    let limits = WindowLimits { span_ns: u64::MAX, bytes_max: 1 << 20 };
    let mut window = Window::new(limits, 64, Abi::X86_64, Processes::default());
    for place in 0..100_000u64 {
        let ts_ns = 1 + place * 1_000;
        let mut call = call(ts_ns, (place % 64) as u16, 39);
        call.push_number(ts_ns.wrapping_mul(ts_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        window.push(&call);
        assert!(window.open_bytes() <= limits.bytes_max / 4 + 4_096);
        assert!(window.bytes() <= limits.bytes_max, "{} bytes", window.bytes());
    }
    let sealed = window.sealed_bytes();
    assert!(sealed > limits.bytes_max / 2, "{sealed} bytes of sealed blocks");
}

/// An hour on 64 CPUs that do little were 691,200 blocks of a second each, more than
/// the index of a file has room for: every snapshot was damaged when it was read.
#[test]
fn a_long_window_on_many_cpus_has_fewer_and_longer_blocks() {
    let span = |seconds: u64, cpus| {
        let limits = WindowLimits { span_ns: seconds * SECOND, bytes_max: u64::MAX };
        segment_span_ns(limits, cpus)
    };
    assert_eq!([span(300, 2), span(300, 256), span(3_600, 8)], [SECOND; 3]);
    for (seconds, cpus) in [(3_600, 64), (86_400, 256), (300, 4_096)] {
        let blocks = seconds * SECOND / span(seconds, cpus) * 3 * cpus as u64;
        assert!(blocks < BLOCKS_MAX as u64, "{blocks} in {seconds} s of {cpus} CPUs");
    }
    let mut window = window(u64::MAX, u64::MAX);
    (window.segment_span_ns, window.blocks_max) = (1, 200);
    for place in 1..=500 {
        for cpu in 0..2 {
            window.push(&call(place * 1_000, cpu, 39));
        }
        window.tick(place * 1_000);
        assert!(window.blocks <= window.blocks_max);
    }
    let frozen = window.freeze();
    assert_eq!(window.blocks, frozen.blocks.len());
    assert!(window.blocks > 100 && window.evicted().events > 700);
}

#[test]
fn nothing_older_than_the_window_stays() {
    let mut window = window(3_000_000_000, u64::MAX);
    for second in 1..60u64 {
        window.push(&call(second * 1_000_000_000, 0, 39));
        window.tick(second * 1_000_000_000 + 1);
    }
    let oldest = window.freeze().blocks.iter().map(|block| block.meta().first_ns).min();
    assert!(oldest >= Some((59 - 3 - 1) * 1_000_000_000), "{oldest:?}");
}

/// A record with a damaged time made the window as old as that: everything else
/// left at once, or, when the first record had it, nothing was ever sealed.
#[test]
fn a_record_with_a_wrong_time_costs_no_other() {
    for wrong_ns in [0, u64::MAX] {
        let mut window = window(3_000_000_000, u64::MAX);
        for second in 1..20u64 {
            window.push(&call(wrong_ns, 0, 39));
            window.push(&call(second * 1_000_000_000, 1, 39));
            window.tick(second * 1_000_000_000 + 1);
        }
        let frozen = window.freeze();
        let of_one = frozen.blocks.iter().filter(|block| block.meta().cpu == 1);
        let times: Vec<u64> = of_one.map(|block| block.meta().last_ns / 1_000_000_000).collect();
        assert!([17, 18, 19].iter().all(|second| times.contains(second)), "{times:?}");
        assert!(events_of(&frozen) < 2 * 6, "{} events", events_of(&frozen));
    }
}

#[test]
fn an_evicted_fork_is_in_the_baseline() {
    let mut window = window(2_000_000_000, u64::MAX);
    window.push(&fork(1_000_000_000, 1, 4_242));
    for second in 2..20u64 {
        window.push(&call(second * 1_000_000_000, 0, 39));
        window.tick(second * 1_000_000_000 + 1);
    }
    assert!(window.freeze().baseline.get(4_242).is_some());
}

const SECOND: u64 = 1_000_000_000;

/// The end of a process is read in one segment, the fork before it in the next.
fn end_before_its_fork(window: &mut Window) {
    let mut end = Event::new(Kind::ProcessExit, SECOND + 500);
    (end.cpu, end.pid, end.tid) = (1, 4_242, 4_242);
    window.push(&end);
    window.tick(1);
    window.tick(2 * SECOND);
    window.push(&fork(SECOND + 400, 1, 4_242));
}

/// Processes that had ended stayed in the baseline for ever.
#[test]
fn an_end_that_is_read_before_its_fork_is_folded_behind_it() {
    let mut window = window(2 * SECOND, u64::MAX);
    end_before_its_fork(&mut window);
    for second in 2..20 {
        window.push(&call(second * SECOND, 0, 39));
        window.tick(second * SECOND + 1);
        let frozen = window.freeze();
        let threads = frozen.baseline.len();
        assert!(threads < 2, "{second}: {threads}");
    }
    let frozen = window.freeze();
    assert!(frozen.baseline.get(4_242).is_none(), "the end came after the fork");
    assert_eq!(window.evicted().events + events_of(&frozen), 20);
}

/// The same where a snapshot leaves out what is old: the end lies in a block that goes, the
/// fork before it in one that stays.
#[test]
fn what_a_snapshot_leaves_out_is_folded_in_the_order_of_time() {
    let mut window = window(100 * SECOND, u64::MAX);
    end_before_its_fork(&mut window);
    window.push(&fork(3 * SECOND, 1, 4_243));
    window.tick(4 * SECOND);
    let whole = window.freeze();
    let mut cut = whole.clone();
    let went = cut.cut_before(2 * SECOND);
    assert_eq!(went + events_of(&cut), events_of(&whole));
    let mut processes = (*cut.baseline).clone();
    let mut events = Vec::new();
    let blocks: Vec<_> = cut.blocks.iter().filter_map(|block| block.sealed().open()).collect();
    blocks.iter().for_each(|block| events.extend(block.events()));
    events.sort_by_key(|event| event.ts_ns);
    events.iter().for_each(|event| processes.apply(event, Abi::X86_64));
    assert!(processes.get(4_242).is_none() && processes.get(4_243).is_some());
}

/// An event of a class, unlike all others.
fn event_of(class: Class, ts_ns: u64) -> Event<'static> {
    let mut event = call(ts_ns, 0, if class == Class::State { 3 } else { 39 });
    if class == Class::Precious {
        event = Event::new(Kind::TcpRetransmit, ts_ns);
        event.push_number(ts_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    assert_eq!(Class::of(&event, Abi::X86_64), class);
    event
}

/// Fills a window with `count` events of each of two classes and then with far more than it
/// holds of a third; answers what is left of each class.
fn flooded(first: [Class; 2], count: u64, flood: Class) -> [Holding; Class::RECORDED.len()] {
    const BYTES_MAX: u64 = 1 << 19;
    let mut window = window(u64::MAX, BYTES_MAX);
    let mut ts_ns = 1;
    for _ in 0..count {
        for class in first {
            ts_ns += 1_000_000;
            window.push(&event_of(class, ts_ns));
        }
        window.tick(ts_ns);
    }
    window.seal_all();
    while window.evicted().events < 60_000 {
        ts_ns += 10_000;
        window.push(&event_of(flood, ts_ns));
        if ts_ns % 100 == 1 {
            window.tick(ts_ns);
        }
        assert!(window.bytes() <= BYTES_MAX);
    }
    window.holdings()
}

#[test]
fn a_flood_of_the_ordinary_takes_nothing_from_what_is_kept() {
    let [state, precious, bulk] = flooded([Class::State, Class::Precious], 2_500, Class::Bulk);
    assert_eq!([state.events, precious.events], [2_500; 2]);
    assert!(bulk.bytes > (1 << 18), "{bulk:?}");
}

/// A loop of failures drove out all that had not failed.
#[test]
fn a_flood_of_what_is_kept_has_its_share_and_no_more() {
    for flood in [Class::State, Class::Precious] {
        let other = if flood == Class::State { Class::Precious } else { Class::State };
        let holdings = flooded([other, Class::Bulk], 5_000, flood);
        let [held, kept, bulk] = [flood, other, Class::Bulk].map(|class| holdings[class as usize]);
        assert_eq!([kept.events, bulk.events], [5_000; 2], "beside a flood of {flood:?}");
        assert!(held.bytes > (1 << 19) / 8, "{held:?}");
    }
}
