//! The rules on the stream against the simplest judge there is: one that has all
//! events, sorts them by time and only then looks at them.

use std::collections::BTreeMap;

use recorder::{
    event::{Kind, syscall::Abi},
    trigger::rule::{Firing, KnownThread, Progress, Rule, Rules, parse_pressure},
};
use recorder_tests::synth::{Made, Random};
use serde_json::json;

use crate::scratch::rounds;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const OPENAT: i64 = 257;
const FUTEX: i64 = 202;
const EIO: i64 = 5;
const NAMES: [&str; 5] = ["a", "ab", "b", "ba", "abc"];

/// The rules of the test, as they are written.
fn written() -> Vec<Rule> {
    let rules = json!([
        {"name": "crash", "on": "signal", "command": "a*", "again_after": "1s"},
        {"name": "killed", "on": "signal", "signals": ["SIGKILL"], "again_after": "3s"},
        {"name": "oom", "on": "oom_kill", "command": "b", "again_after": "1s"},
        {"name": "slow", "on": "slow_call", "command": "a?", "longer_than": "1ms",
         "again_after": "2s"},
        {"name": "futex", "on": "slow_call", "calls": ["futex"], "longer_than": "2ms",
         "again_after": "1s"},
        {"name": "errors", "on": "failures", "command": "*b*", "errors": ["EIO"],
         "per_second": 3, "again_after": "1s"},
        {"name": "resets", "on": "tcp_resets", "per_second": 5, "again_after": "1s"},
        {"name": "again", "on": "tcp_retransmits", "per_second": 3, "again_after": "2s"},
    ]);
    serde_json::from_value(rules).unwrap()
}

/// An event, and when it was written into its ring: a program that is interrupted
/// writes later than the interrupt, whose event is younger.
struct Recorded {
    made: Made,
    written_ns: u64,
}

/// A host that makes events.
struct Host {
    random: Random,
    cpus: u64,
    now_ns: u64,
    /// Process by thread.
    threads: BTreeMap<u32, u32>,
    events: Vec<Recorded>,
}

impl Host {
    fn put(&mut self, kind: Kind, pid: u32, tid: u32, numbers: &[u64], name: Option<&str>) {
        self.now_ns += 1 + self.random.below(60 * MS);
        let cpu = self.random.below(self.cpus) as u16;
        let mut made = Made::new(kind, self.now_ns, cpu, tid, numbers);
        made.pid = pid;
        if let Some(name) = name {
            made = made.with(0, format!("{name:\0<16}").as_bytes());
        }
        // What follows from it happens after it was written; interrupts do not wait.
        let delay_ns = if self.random.one_in(4) { self.random.below(5 * MS) } else { 0 };
        self.events.push(Recorded { made, written_ns: self.now_ns + delay_ns });
        if delay_ns > 1 {
            let ts_ns = self.now_ns + 1 + self.random.below(delay_ns - 1);
            let made = Made::new(Kind::TcpRetransmit, ts_ns, cpu, 0, &[1]);
            self.events.push(Recorded { made, written_ns: ts_ns });
        }
        self.now_ns += delay_ns;
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len() as u64) as usize]
    }

    fn step(&mut self) {
        let place = self.random.below(self.threads.len() as u64) as usize;
        let Some((tid, pid)) = self.threads.iter().nth(place).map(|(tid, pid)| (*tid, *pid)) else {
            return;
        };
        match self.random.below(10) {
            0 => {
                // Numbers are few, so that they are given out again.
                let child_tid = 10 + self.random.below(12) as u32;
                if !self.threads.contains_key(&child_tid) {
                    let child_pid = if self.random.one_in(2) { pid } else { child_tid };
                    let numbers = [u64::from(child_pid), u64::from(child_tid)];
                    self.put(Kind::ProcessFork, pid, tid, &numbers, None);
                    self.threads.insert(child_tid, child_pid);
                }
            }
            1 | 2 => {
                let name = self.name();
                self.put(Kind::ProcessRename, pid, tid, &[], Some(name));
            }
            3 if self.threads.len() > 4 => {
                let signals = [0, 0, 9, 11, 6, 15];
                let signal = signals[self.random.below(6) as usize];
                self.put(Kind::ProcessExit, pid, tid, &[0, signal], None);
                self.threads.remove(&tid);
            }
            4 if tid != pid && self.threads.contains_key(&pid) => {
                self.put(Kind::ProcessExit, pid, pid, &[0, 0], None);
                self.put(Kind::ProcessExec, pid, pid, &[u64::from(tid), 0], Some("/bin/x"));
                let name = self.name();
                self.put(Kind::ProcessRename, pid, pid, &[], Some(name));
                self.threads.remove(&tid);
            }
            5 => self.put(Kind::OomKill, pid, tid, &[1, 1], None),
            6 => {
                let kinds = [Kind::TcpResetSent, Kind::TcpResetReceived, Kind::TcpRetransmit];
                let kind = kinds[self.random.below(3) as usize];
                for _ in 0..self.random.below(4) {
                    self.put(kind, 0, 0, &[1], None);
                }
            }
            _ => {
                let nr = if self.random.one_in(3) { FUTEX } else { OPENAT };
                let ret = [0, -EIO, -2][self.random.below(3) as usize];
                let dur_ns = self.random.below(4 * MS);
                let numbers = [nr.cast_unsigned(), i64::cast_unsigned(ret), dur_ns, 0];
                self.put(Kind::Syscall, pid, tid, &numbers, None);
            }
        }
    }
}

/// The simplest judge: events in the order of time, all times remembered.
#[derive(Default)]
struct Model {
    names: BTreeMap<u32, String>,
    fired: BTreeMap<&'static str, u64>,
    times: BTreeMap<&'static str, Vec<u64>>,
    firings: Vec<(String, u64, Option<String>)>,
}

impl Model {
    fn fire(&mut self, rule: &'static str, made: &Made, again_after_s: u64) {
        let silent =
            self.fired.get(rule).is_some_and(|at| made.ts_ns < at + again_after_s * SECOND);
        if !silent {
            self.fired.insert(rule, made.ts_ns);
            let name = self.names.get(&made.pid).or_else(|| self.names.get(&made.tid)).cloned();
            self.firings.push((rule.to_string(), made.ts_ns, name));
        }
    }

    /// Fires when as many were within one second, this one the last.
    fn strike(&mut self, rule: &'static str, made: &Made, count: usize, again_after_s: u64) {
        let times = self.times.entry(rule).or_default();
        times.push(made.ts_ns);
        if times.iter().filter(|at| made.ts_ns - **at < SECOND).count() >= count {
            self.fire(rule, made, again_after_s);
        }
    }

    fn any_name(&self, made: &Made, takes: fn(&str) -> bool) -> bool {
        [made.pid, made.tid].iter().any(|tid| self.names.get(tid).is_some_and(|name| takes(name)))
    }

    fn take(&mut self, made: &Made) {
        let number = |place: usize| made.numbers.get(place).copied().unwrap_or_default();
        let attached = made.attached.first().map(|(_, _, bytes)| {
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(text.to_vec()).unwrap()
        });
        match made.kind {
            Kind::ProcessFork => match self.names.get(&made.tid).cloned() {
                Some(name) => drop(self.names.insert(number(1) as u32, name)),
                None => drop(self.names.remove(&(number(1) as u32))),
            },
            Kind::ProcessRename => drop(self.names.insert(made.tid, attached.unwrap())),
            Kind::ProcessExec if number(0) as u32 != made.tid => {
                self.names.remove(&(number(0) as u32));
            }
            Kind::ProcessExit => {
                if [6, 11].contains(&number(1)) && self.any_name(made, |n| n.starts_with('a')) {
                    self.fire("crash", made, 1);
                }
                if number(1) == 9 {
                    self.fire("killed", made, 3);
                }
                self.names.remove(&made.tid);
            }
            Kind::OomKill if self.any_name(made, |name| name == "b") => self.fire("oom", made, 1),
            Kind::TcpResetSent | Kind::TcpResetReceived => {
                self.strike("resets", made, 5, 1);
            }
            Kind::TcpRetransmit => self.strike("again", made, 3, 2),
            Kind::Syscall => {
                let (nr, ret, dur_ns) = (number(0), number(1).cast_signed(), number(2));
                let two = |name: &str| name.len() == 2 && name.starts_with('a');
                if nr == OPENAT.cast_unsigned() && dur_ns > MS && self.any_name(made, two) {
                    self.fire("slow", made, 2);
                }
                if nr == FUTEX.cast_unsigned() && dur_ns > 2 * MS {
                    self.fire("futex", made, 1);
                }
                if ret == -EIO && self.any_name(made, |name| name.contains('b')) {
                    self.strike("errors", made, 3, 1);
                }
            }
            _ => {}
        }
    }
}

/// Reads the rings like the recorder: one after the other, again and again, each to
/// its end or for a while, and judges after every visit.
fn read(rules: &mut Rules, random: &mut Random, cpus: u64, events: &[Recorded]) -> Vec<Firing> {
    let mut rings: Vec<Vec<&Recorded>> = vec![Vec::new(); cpus as usize];
    for recorded in events {
        rings[usize::from(recorded.made.cpu)].push(recorded);
    }
    for ring in &mut rings {
        ring.sort_by_key(|recorded| recorded.written_ns);
    }
    let mut progress = Progress::new(rings.len());
    let mut now_ns = events.first().map_or(0, |recorded| recorded.made.ts_ns);
    let mut firings = Vec::new();
    while rings.iter().any(|ring| !ring.is_empty()) {
        for (cpu, ring) in rings.iter_mut().enumerate() {
            now_ns += random.below(200 * MS);
            let there = ring.partition_point(|recorded| recorded.written_ns <= now_ns);
            let most = if random.one_in(3) { random.below(8) as usize } else { usize::MAX };
            let taken: Vec<_> = ring.drain(..there.min(most)).collect();
            taken.iter().for_each(|recorded| rules.look(&recorded.made.as_event()));
            if there <= most {
                progress.read_all(cpu, now_ns);
            } else if let Some(last) = taken.last() {
                progress.read_some(cpu, last.made.ts_ns);
            }
        }
        firings.extend(rules.settle(progress.until_ns()));
    }
    firings.extend(rules.settle(u64::MAX));
    firings
}

#[test]
fn rules_fire_as_if_all_events_had_been_in_order() {
    let mut fired: BTreeMap<String, u64> = BTreeMap::new();
    // 205: what a ring was read to the end of was taken for all there was, but a program
    // that was interrupted had yet to write.
    for seed in (0..rounds(200)).chain([205]) {
        let mut random = Random::new(seed);
        let cpus = 1 + random.below(4);
        // Threads that were there; nobody knows the name of the last one.
        let threads: Vec<u32> = (1..6).collect();
        let mut host = Host {
            random: Random::new(seed ^ 0x5eed),
            cpus,
            now_ns: SECOND,
            threads: threads.iter().map(|tid| (*tid, *tid)).collect(),
            events: Vec::new(),
        };
        (0..400).for_each(|_| host.step());
        let mut rules = Rules::check(&written(), Abi::X86_64).unwrap();
        let mut model = Model::default();
        let known = threads.iter().zip(NAMES).take(4);
        rules.seed(known.clone().map(|(tid, name)| KnownThread {
            tid: *tid,
            comm: name.as_bytes(),
            as_of_ns: 1,
        }));
        model.names = known.map(|(tid, name)| (*tid, name.to_string())).collect();

        let found = read(&mut rules, &mut random, cpus, &host.events);
        host.events.sort_by_key(|recorded| recorded.made.ts_ns);
        host.events.iter().for_each(|recorded| model.take(&recorded.made));
        let row = |firing: &Firing| {
            let command = firing.labels.get("command").cloned();
            (firing.rule.clone(), firing.ts_ns, command)
        };
        let found: Vec<_> = found.iter().map(row).collect();
        for (rule, ..) in &found {
            *fired.entry(rule.clone()).or_default() += 1;
        }
        let rates = ["resets", "again"];
        let expected = model.firings.into_iter().map(|(rule, ts_ns, name)| {
            let name = name.filter(|_| !rates.contains(&rule.as_str()));
            (rule, ts_ns, name)
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "seed {seed}");
        let health = rules.health();
        assert_eq!(health.names, model.names.len() as u64, "seed {seed}");
        assert_eq!(health.judged_early, 0, "seed {seed}");
    }
    assert_eq!(fired.len(), written().len(), "every rule fired: {fired:?}");
    assert!(fired.values().all(|count| *count >= 20), "{fired:?}");
}

#[test]
fn any_text_is_a_pressure_or_none() {
    let words = ["some", "full", "total=", "total=1", "avg10=0.5", " ", "\n", "\0", "9", "\u{ff}"];
    for seed in 0..rounds(2_000) {
        let mut random = Random::new(seed);
        let mut text = Vec::new();
        for _ in 0..random.below(12) {
            if random.one_in(5) {
                text.extend(random.bytes(6));
            } else {
                let word = words[random.below(words.len() as u64) as usize];
                text.extend(word.as_bytes());
            }
        }
        let _ = parse_pressure(&text);
    }
}
