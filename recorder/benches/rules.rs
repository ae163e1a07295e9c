//! What rules cost on the ingest thread: nanoseconds for each event of pushing it
//! into the window, without and with rules that look at it.
//!
//! `cargo bench --package recorder --no-default-features --bench rules`. The ways
//! alternate, and each is compared with the plain one that ran just before it; the
//! cost of walking over the events is taken off, and medians are printed.

#![expect(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::{hint::black_box, time::Instant};

use recorder::{
    context::Processes,
    event::{Attached, Event, Kind, syscall::Abi},
    trigger::rule::{KnownThread, Rule, Rules},
    window::{Window, WindowLimits},
};
use serde_json::json;

/// Events of one measurement.
const EVENTS: usize = 200_000;
/// Different ones: as many as stay in the cache, where the decoder has just put them.
const DIFFERENT: usize = 256;
const ROUNDS: usize = 41;
/// A reader's visit of the rings.
const VISIT: usize = 20_000;

/// Calls of a server: mostly short, some that wait, some that fail in daily life, now
/// and then a new process.
fn events() -> Vec<Event<'static>> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    // read, write, openat, close, futex, epoll_wait, recvfrom, sendto.
    let calls = [0, 1, 257, 3, 202, 232, 45, 44];
    let mut ts_ns = 1_000_000_000;
    (0..DIFFERENT)
        .map(|place| {
            ts_ns += 1_000 + next(4_000);
            let tid = 100 + next(16) as u32;
            if place == 0 {
                let mut event = Event::new(Kind::ProcessRename, ts_ns);
                (event.pid, event.tid) = (tid, tid);
                event.attach(Attached { index: 0, flags: 0, bytes: b"worker\0\0\0\0\0\0\0\0\0\0" });
                return event;
            }
            let nr = calls[next(8) as usize];
            let ret = match next(20) {
                0 => -11,
                1 => -2,
                _ => next(4096).cast_signed(),
            };
            let waits = nr == 232 || nr == 202;
            let dur_ns = if waits { next(20_000_000) } else { 500 + next(3_000) };
            let mut event = Event::new(Kind::Syscall, ts_ns);
            (event.pid, event.tid) = (tid, tid);
            for number in
                [nr, i64::cast_unsigned(ret), dur_ns, next(64), 0x7f00_0000 + next(8) * 4096]
            {
                event.push_number(number);
            }
            event
        })
        .collect()
}

/// Rules as people have them, over and over again.
fn rules(count: usize) -> Rules {
    let written: Vec<Rule> = (0..count)
        .map(|place| {
            let mut rule = match place % 5 {
                0 => json!({"on": "slow_call", "command": "postgres", "longer_than": "500ms",
                    "calls": ["fsync", "fdatasync"]}),
                1 => json!({"on": "signal", "command": "nginx*"}),
                2 => json!({"on": "failures", "errors": ["ECONNREFUSED"], "per_second": 100}),
                3 => json!({"on": "tcp_retransmits", "per_second": 50}),
                _ => json!({"on": "oom_kill"}),
            };
            rule["name"] = json!(format!("rule-{place}"));
            serde_json::from_value(rule).expect("a rule")
        })
        .collect();
    let mut rules = Rules::check(&written, Abi::X86_64).expect("rules");
    rules.seed((100..116).map(|tid| KnownThread { tid, comm: b"worker", as_of_ns: 1 }));
    rules
}

fn window() -> Window {
    let limits = WindowLimits { span_ns: 300_000_000_000, bytes_max: 64 << 20 };
    Window::new(limits, 1, Abi::X86_64, Processes::default())
}

/// Nanoseconds for each of many events: `work` is handed one after the other,
/// `visited` the time of the last one of each visit.
fn timed<S, T>(
    state: &mut S,
    pool: &[Event<'_>],
    work: impl Fn(&mut S, &Event<'_>) -> T,
    visited: impl Fn(&mut S, u64),
) -> f64 {
    let mut ts_ns = 1_000_000_000;
    let began = Instant::now();
    for place in 0..EVENTS {
        let Some(event) = pool.get(place % DIFFERENT) else { continue };
        ts_ns += 2_000;
        let mut event = *event;
        event.ts_ns = ts_ns;
        work(state, black_box(&event));
        if place % VISIT == VISIT - 1 {
            visited(state, ts_ns);
        }
    }
    began.elapsed().as_nanos() as f64 / EVENTS as f64
}

fn walk_alone(pool: &[Event<'_>]) -> f64 {
    timed(&mut (), pool, |(), _| {}, |(), _| {})
}

fn look_alone(pool: &[Event<'_>], count: usize) -> f64 {
    let settle = |rules: &mut Rules, ts_ns| drop(black_box(rules.settle(ts_ns)));
    timed(&mut rules(count), pool, Rules::look, settle)
}

fn push_alone(pool: &[Event<'_>]) -> f64 {
    timed(&mut window(), pool, Window::push, Window::tick)
}

fn push_and_look(pool: &[Event<'_>], count: usize) -> f64 {
    timed(
        &mut (window(), rules(count)),
        pool,
        |(window, rules), event| {
            rules.look(event);
            window.push(event);
        },
        |(window, rules), ts_ns| {
            drop(black_box(rules.settle(ts_ns)));
            window.tick(ts_ns);
        },
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let pool = events();
    let times = |work: &dyn Fn() -> f64| median((0..ROUNDS).map(|_| work()).collect());
    let walk = times(&|| walk_alone(&pool));
    println!("{EVENTS} events, medians of {ROUNDS} rounds");
    println!("push alone               {:8.2} ns per event", times(&|| push_alone(&pool)) - walk);
    for count in [0, 1, 20] {
        let (mut ratios, mut looks) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (before, after) = (push_alone(&pool), push_and_look(&pool, count));
            ratios.push((after - walk) / (before - walk));
            looks.push(look_alone(&pool, count) - walk);
        }
        println!(
            "look alone, {count:>2} rules     {:8.2} ns per event; push and look {:.3} of push alone",
            median(looks),
            median(ratios)
        );
    }
}
