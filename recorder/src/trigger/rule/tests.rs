//! The rules on the stream, event by event.

use serde_json::{Value, json};

use super::{KnownThread, Rule, Rules, stream::ITEMS_MAX};
use crate::event::{Attached, Event, Kind, syscall::Abi};

const MS: u64 = 1_000_000;
const OPENAT: u64 = 257;
const CONNECT: u64 = 42;
const FUTEX: u64 = 202;
const ECONNREFUSED: i64 = 111;

/// Checked rules, given as JSON; the names of this many threads are there already.
fn rules(written: Value, known: &[(u32, &str)]) -> Rules {
    let written: Vec<Rule> = serde_json::from_value(written).unwrap();
    let mut rules = Rules::check(&written, Abi::X86_64).unwrap();
    let known = known.iter();
    rules.seed(known.map(|(tid, comm)| KnownThread {
        tid: *tid,
        comm: comm.as_bytes(),
        as_of_ns: 1,
    }));
    rules
}

fn event(kind: Kind, ts_ns: u64, pid: u32, tid: u32, numbers: &[u64]) -> Event<'static> {
    let mut event = Event::new(kind, ts_ns);
    (event.pid, event.tid) = (pid, tid);
    for number in numbers {
        event.push_number(*number);
    }
    event
}

fn call(ts_ns: u64, tid: u32, nr: u64, ret: i64, dur_ns: u64) -> Event<'static> {
    event(Kind::Syscall, ts_ns, tid, tid, &[nr, ret.cast_unsigned(), dur_ns])
}

fn rename(ts_ns: u64, tid: u32, comm: &'static str) -> Event<'static> {
    let mut event = event(Kind::ProcessRename, ts_ns, tid, tid, &[]);
    event.attach(Attached { index: 0, flags: 0, bytes: comm.as_bytes() });
    event
}

fn exit(ts_ns: u64, pid: u32, tid: u32, signal: u64, comm: &'static str) -> Event<'static> {
    let mut event = event(Kind::ProcessExit, ts_ns, pid, tid, &[0, signal]);
    event.attach(Attached { index: 0, flags: 0, bytes: comm.as_bytes() });
    event
}

/// What fires when these events are read in this order.
fn fired(rules: &mut Rules, events: &[Event<'_>]) -> Vec<String> {
    events.iter().for_each(|event| rules.look(event));
    let firings = rules.settle(u64::MAX).into_iter();
    firings.map(|firing| format!("{}: {}", firing.rule, firing.reason)).collect()
}

#[test]
fn a_process_is_named_by_its_first_thread_or_the_one_that_ends() {
    let written = json!([
        {"name": "crash", "on": "signal", "command": "my*"},
        {"name": "killed", "on": "signal", "command": "worker", "signals": ["SIGKILL"]},
    ]);
    let mut rules = rules(written, &[(10, "mysqld"), (11, "worker"), (20, "sh")]);
    let ends = |signal| [exit(5 * MS, 10, 11, signal, "worker"), exit(6 * MS, 20, 20, 11, "sh")];
    assert_eq!(fired(&mut rules, &ends(0)), [""; 0], "nobody died by a signal that counts");
    assert_eq!(fired(&mut rules, &ends(9)), ["killed: mysqld[10/11] was killed by SIGKILL"]);
    assert_eq!(fired(&mut rules, &ends(11)), ["crash: mysqld[10/11] was killed by SIGSEGV"]);
    assert_eq!(fired(&mut rules, &ends(6)), [""; 0], "silent for five minutes");
    let later = exit(400_000 * MS, 30, 30, 6, "mytool");
    assert_eq!(fired(&mut rules, &[later]), ["crash: mytool[30] was killed by SIGABRT"]);
}

/// `SIGQUIT` and `SIGKILL` are everyday ends: whoever wants them names them.
#[test]
fn a_signal_that_somebody_sends_on_purpose_is_no_crash() {
    let mut rules = rules(json!([{"name": "crash", "on": "signal", "again_after": "1s"}]), &[]);
    let mut fires = |signal: u64| {
        let end = exit(2_000 * MS * signal, 7, 7, signal, "x");
        !fired(&mut rules, &[end]).is_empty()
    };
    let signals: Vec<u64> = (1..=64).filter(|signal| fires(*signal)).collect();
    assert_eq!(signals, [4, 5, 6, 7, 8, 11, 24, 25, 31]);
}

#[test]
fn a_kill_for_want_of_memory_names_both_sides() {
    let written = json!([{"name": "oom", "on": "oom_kill", "command": "post*"}]);
    let mut rules = rules(written, &[(7, "postgres"), (9, "java")]);
    let named = |comm: &'static str| {
        let mut kill = event(Kind::OomKill, 5 * MS, 7, 7, &[9, 9]);
        kill.attach(Attached { index: 0, flags: 0, bytes: comm.as_bytes() });
        kill
    };
    assert_eq!(fired(&mut rules, &[named("renamed")]), [""; 0], "the kernel's name wins");
    let without = event(Kind::OomKill, 6 * MS, 7, 7, &[9, 9]);
    let expected = "oom: postgres[7] was killed for want of memory, java[9] asked for it";
    assert_eq!(fired(&mut rules, &[without]), [expected]);
}

#[test]
fn a_slow_call_fires_unless_it_waits_by_nature() {
    let written = json!([
        {"name": "any", "on": "slow_call", "longer_than": "100ms", "again_after": "1s"},
        {"name": "named", "on": "slow_call", "longer_than": "50ms", "calls": ["futex"]},
    ]);
    let mut rules = rules(written, &[(7, "db")]);
    let at = |ms: u64, nr, dur_ms| call(ms * MS, 7, nr, 0, dur_ms * MS);
    assert_eq!(fired(&mut rules, &[at(1, OPENAT, 100), at(2, FUTEX, 50)]), [""; 0], "no longer");
    let slow = [at(3, OPENAT, 101), at(4, FUTEX, 2_500)];
    let expected = [
        "any: openat of db[7] took 101.0 ms, longer than 100.0 ms",
        "named: futex of db[7] took 2.500 s, longer than 50.0 ms",
    ];
    assert_eq!(fired(&mut rules, &slow), expected);
    assert_eq!(fired(&mut rules, &[at(9_000, FUTEX, 2_500)]), [""; 0]);
}

#[test]
fn failures_are_counted_by_call_error_and_command() {
    let written = json!([{
        "name": "refused", "on": "failures", "command": "web", "calls": ["connect"],
        "errors": ["ECONNREFUSED"], "per_second": 3, "labels": {"team": "web"}
    }]);
    let mut rules = rules(written, &[(7, "web"), (8, "other")]);
    let mut events = Vec::new();
    for place in 0..5u64 {
        let at = (1_000 + place) * MS;
        events.push(call(at, 8, CONNECT, -ECONNREFUSED, 0));
        events.push(call(at, 7, OPENAT, -ECONNREFUSED, 0));
        events.push(call(at, 7, CONNECT, -2, 0));
        events.push(call(at, 7, CONNECT, ECONNREFUSED, 0));
    }
    assert_eq!(fired(&mut rules, &events), [""; 0]);
    let at = |ms| call(ms * MS, 7, CONNECT, -ECONNREFUSED, 0);
    let two = [at(2_000), at(2_999), at(3_000)];
    assert_eq!(fired(&mut rules, &two), [""; 0], "a second from the first to the third");
    rules.look(&at(3_900));
    let firings = rules.settle(u64::MAX);
    let [firing] = firings.as_slice() else { panic!("{firings:?}") };
    assert_eq!(
        firing.reason,
        "3 calls failed within 901.0 ms, the last one connect of web[7] with ECONNREFUSED"
    );
    let labels = ["call=connect", "command=web", "error=ECONNREFUSED", "pid=7", "team=web"];
    let found: Vec<String> =
        firing.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(found, labels);
}

#[test]
fn segments_are_counted_on_all_cpus_together() {
    let written = json!([
        {"name": "resets", "on": "tcp_resets", "per_second": 4},
        {"name": "again", "on": "tcp_retransmits", "per_second": 2},
    ]);
    let mut rules = rules(written, &[]);
    assert!(!rules.awaits_names());
    let at = |kind, ms: u64| event(kind, ms * MS, 0, 0, &[1]);
    // The rings are read one after the other: times go back.
    let events = [
        at(Kind::TcpResetSent, 1_900),
        at(Kind::TcpResetSent, 2_700),
        at(Kind::TcpRetransmit, 5_000),
        at(Kind::TcpResetReceived, 1_800),
        at(Kind::TcpResetReceived, 2_600),
        at(Kind::TcpRetransmit, 4_001),
    ];
    let one = json!([{"name": "one", "on": "tcp_resets", "per_second": 1}]);
    assert_eq!(fired(&mut self::rules(one, &[]), &events[..1]), ["one: a TCP reset"]);
    let expected =
        ["resets: 4 TCP resets within 900.0 ms", "again: 2 TCP retransmissions within 999.0 ms"];
    assert_eq!(fired(&mut rules, &events), expected);
}

/// A shell forks, the child becomes another program, works and dies, and the
/// rings give it backwards.
#[test]
fn events_are_judged_by_the_names_of_their_moment() {
    let written = json!([
        {"name": "slow", "on": "slow_call", "command": "cat", "longer_than": "1ms",
         "again_after": "1s"},
        {"name": "crash", "on": "signal", "command": "cat"},
    ]);
    let mut rules = rules(written, &[(1, "sh")]);
    let fork = |ms: u64| event(Kind::ProcessFork, ms * MS, 1, 1, &[2, 2]);
    let backwards = [
        // The number is given out again, while the first owner's events are unread.
        rename(70 * MS, 2, "ls"),
        fork(60),
        exit(50 * MS, 2, 2, 11, "cat"),
        call(40 * MS, 2, OPENAT, 3, 2 * MS),
        event(Kind::ProcessExec, 30 * MS, 2, 2, &[2, 0]),
        rename(30 * MS, 2, "cat"),
        call(20 * MS, 2, OPENAT, 3, 2 * MS),
        fork(10),
    ];
    backwards.iter().for_each(|event| rules.look(event));
    assert_eq!(rules.settle(35 * MS), [], "until here it was a shell");
    assert_eq!(rules.health().names, 2);
    let reasons: Vec<String> =
        rules.settle(65 * MS).into_iter().map(|firing| firing.reason).collect();
    let expected =
        ["openat of cat[2] took 2.0 ms, longer than 1.0 ms", "cat[2] was killed by SIGSEGV"];
    assert_eq!(reasons, expected);
    assert_eq!(rules.settle(u64::MAX), []);
    assert_eq!((rules.health().names, rules.health().unnamed), (2, 0));
}

#[test]
fn an_exec_beside_other_threads_leaves_one_name() {
    let written = json!([{"name": "slow", "on": "slow_call", "longer_than": "1ms"}]);
    let mut rules = rules(written, &[(1, "java"), (2, "thread")]);
    let events = [event(Kind::ProcessExec, 5 * MS, 1, 1, &[2, 0]), rename(6 * MS, 1, "true")];
    assert_eq!(fired(&mut rules, &events), [""; 0]);
    assert_eq!(rules.health().names, 1);
}

/// Hooks first, then `/proc`: a fact is newer than the events before it.
#[test]
fn names_of_proc_take_their_place_among_the_events() {
    let written = json!([{"name": "slow", "on": "slow_call", "longer_than": "1ms",
        "again_after": "1s"}]);
    let written: Vec<Rule> = serde_json::from_value(written).unwrap();
    let mut rules = Rules::check(&written, Abi::X86_64).unwrap();
    assert!(rules.awaits_names());
    for event in [
        rename(10 * MS, 5, "old"),
        rename(30 * MS, 6, "newer"),
        exit(10 * MS, 7, 7, 0, "dead"),
        exit(30 * MS, 8, 8, 0, "dead"),
        // While `/proc` was being read, by a thread that nothing named before: its
        // call was judged before the fact, by nobody's name.
        call(5 * MS, 9, OPENAT, 0, 2 * MS),
        call(1_040 * MS, 5, OPENAT, 0, 2 * MS),
        call(2_080 * MS, 6, OPENAT, 0, 2 * MS),
    ] {
        rules.look(&event);
    }
    assert_eq!(rules.settle(2_100 * MS), [], "nobody knows the names yet");
    let known = |tid| KnownThread { tid, comm: b"known", as_of_ns: 20 * MS };
    rules.seed([5, 6, 7, 8, 9].map(known));
    let reasons: Vec<String> =
        rules.settle(2_100 * MS).into_iter().map(|firing| firing.reason).collect();
    assert_eq!(
        reasons,
        [
            "openat of known[9] took 2.0 ms, longer than 1.0 ms",
            "openat of known[5] took 2.0 ms, longer than 1.0 ms",
            "openat of newer[6] took 2.0 ms, longer than 1.0 ms"
        ]
    );
    assert_eq!(rules.health().names, 4, "the one that died later is forgotten");
}

#[test]
fn names_that_never_come_hold_nothing_up_for_long() {
    let written = json!([{"name": "crash", "on": "signal"}]);
    let written: Vec<Rule> = serde_json::from_value(written).unwrap();
    let mut rules = Rules::check(&written, Abi::X86_64).unwrap();
    rules.look(&exit(MS, 7, 7, 11, "x"));
    assert_eq!(rules.settle(2 * MS), []);
    assert_eq!(rules.settle(9_000 * MS), []);
    assert_eq!(rules.settle(10_003 * MS), []);
    assert_eq!(rules.settle(10_004 * MS).len(), 1);
}

#[test]
fn a_command_nobody_knows_fires_for_anybody_only() {
    let written = json!([
        {"name": "some", "on": "slow_call", "command": "a*", "longer_than": "1ms"},
        {"name": "any", "on": "slow_call", "longer_than": "1ms"},
    ]);
    let mut rules = rules(written, &[]);
    let expected = ["any: openat of ?[7] took 2.0 ms, longer than 1.0 ms"];
    assert_eq!(fired(&mut rules, &[call(MS, 7, OPENAT, 0, 2 * MS)]), expected);
    assert_eq!(rules.health().unnamed, 1);
}

/// A flood of what rules are about must not take all memory, nor silence them.
#[test]
fn too_much_at_once_is_judged_early_and_counted() {
    let written = json!([{"name": "flood", "on": "tcp_resets", "per_second": 10_000}]);
    let mut rules = rules(written, &[]);
    for place in 0..3 * ITEMS_MAX as u64 {
        rules.look(&event(Kind::TcpResetSent, place * 1_000, 0, 0, &[1]));
    }
    assert!(rules.bytes() < 4 << 20, "{} bytes", rules.bytes());
    assert_eq!(rules.settle(0).len(), 1, "it fired while the events came in");
    let early = rules.health().judged_early;
    assert!((ITEMS_MAX as u64..3 * ITEMS_MAX as u64).contains(&early), "{early}");
}

#[test]
fn rules_that_are_read_again_stay_silent() {
    let written = json!([
        {"name": "crash", "on": "signal", "again_after": "1h"},
        {"name": "memory", "on": "pressure", "resource": "memory", "percent": 1},
    ]);
    let mut old = rules(written.clone(), &[]);
    let end = |minute: u64| exit(minute * 60_000 * MS, 7, 7, 11, "x");
    assert_eq!(fired(&mut old, &[end(1)]).len(), 1);
    let written: Vec<Rule> = serde_json::from_value(written).unwrap();
    let mut new = Rules::check(&written, Abi::X86_64).unwrap();
    assert_eq!(new.take_pressure().resources().len(), 1);
    assert!(new.take_pressure().is_empty());
    assert!(new.awaits_names());
    assert_eq!(new.take_over(old), []);
    assert!(!new.awaits_names(), "the old ones know them");
    assert_eq!(fired(&mut new, &[end(60)]), [""; 0]);
    assert_eq!(fired(&mut new, &[end(61)]).len(), 1);
    assert_eq!(new.health().firings, [("crash".to_string(), 2)].into());
}

#[test]
fn without_rules_nothing_is_kept() {
    let mut rules = Rules::default();
    assert!(rules.is_empty() && !rules.awaits_names());
    assert_eq!(fired(&mut rules, &[exit(MS, 7, 7, 11, "x")]), [""; 0]);
    assert_eq!((rules.bytes(), rules.health().firings.len()), (0, 0));
}

/// Rules that wait for the names of threads were settled at the end of the clock: the moment
/// up to which they wait is none.
#[test]
fn rules_that_wait_for_names_are_settled_at_the_end_of_the_clock() {
    let written: Vec<Rule> =
        serde_json::from_value(json!([{"name": "crash", "on": "signal", "command": "my*"}]))
            .unwrap();
    let mut rules = Rules::check(&written, Abi::X86_64).unwrap();
    assert!(rules.settle(u64::MAX).is_empty());
    assert!(rules.settle(u64::MAX).is_empty());
}
