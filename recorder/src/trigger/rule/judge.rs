//! Judges what may be what a rule is about, one thing after the other, in the order
//! of time: by then the names are those of that moment.

use std::collections::VecDeque;

use super::{
    Firing,
    gate::Gate,
    names::{Comm, Names, Pattern},
};
use crate::event::{
    names::{errno_name, signal_name},
    syscall::{self, Abi},
    wire::CALLS_COMPAT,
};

const SECOND_NS: u64 = 1_000_000_000;

/// Signals are seven bits of a status (wait(2)).
pub(super) const SIGNALS: usize = 128;

/// A set of rules, a bit for each.
pub(super) type RuleSet = u64;

/// A rule that is judged event by event.
#[derive(Debug)]
pub(super) struct StreamRule {
    pub(super) gate: Gate,
    pub(super) on: Condition,
}

/// What a rule asks for beside what its place in the tables says.
#[derive(Debug)]
pub(super) enum Condition {
    Signal(Pattern),
    OomKill(Pattern),
    SlowCall {
        command: Pattern,
        longer_than_ns: u64,
    },
    Failures {
        command: Pattern,
        rate: Rate,
    },
    /// What they are called, one and several.
    Segments {
        what: [&'static str; 2],
        rate: Rate,
    },
}

/// When the last ones were of as many as make a rule fire.
#[derive(Debug)]
pub(super) struct Rate {
    times: VecDeque<u64>,
    count: usize,
}

impl Rate {
    /// This many within a second fire; at least one.
    pub(super) fn new(count: u32) -> Rate {
        let count = count.max(1) as usize;
        Rate { times: VecDeque::with_capacity(count), count }
    }

    /// One more. When it and those before it are enough within one second: within how
    /// long.
    fn strike(&mut self, ts_ns: u64) -> Option<u64> {
        if self.times.len() == self.count {
            self.times.pop_front();
        }
        self.times.push_back(ts_ns);
        // Judged early, times can be out of order: then the difference tells nothing,
        // and is as large as can be.
        let span_ns = self.times.front()?.abs_diff(ts_ns);
        (self.times.len() == self.count && span_ns < SECOND_NS).then_some(span_ns)
    }

    fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<u64>()
    }
}

/// Something that changes names, or may be what a rule is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) ts_ns: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The thread made another one.
    Fork { child_tid: u32 },
    /// The thread has this name from now on, or had it then by `/proc`.
    Name(Option<Comm>),
    /// The thread took the number of its leader.
    Exec { old_tid: u32 },
    /// A call that was slow for at least one of these rules.
    Slow { rules: RuleSet, call: u16, dur_ns: u64 },
    /// A call that failed with an error each of these rules counts.
    Failed { rules: RuleSet, call: u16, errno: u16 },
    /// A segment each of these rules counts.
    Segment { rules: RuleSet },
    /// The thread was chosen to be killed.
    OomKill { comm: Option<Comm>, by_pid: u32, by_tid: u32 },
    /// The thread ended.
    Exit { signal: u32, comm: Option<Comm> },
}

const _: () = assert!(size_of::<Item>() <= 48);

impl Item {
    /// The order of items. At the same moment names change first, and whoever ends
    /// ends last.
    pub(super) fn rank(&self) -> (u64, u8) {
        let turn = match self.what {
            What::Fork { .. } | What::Name(_) | What::Exec { .. } => 0,
            What::Exit { .. } => 2,
            _ => 1,
        };
        (self.ts_ns, turn)
    }
}

/// A thread and its process, by name as far as they are known.
#[derive(Clone, Copy)]
struct Who {
    pid: u32,
    tid: u32,
    process: Option<Comm>,
    thread: Option<Comm>,
}

impl Who {
    /// The process's name, else the thread's.
    fn comm(&self) -> Option<Comm> {
        self.process.or(self.thread)
    }

    /// As replay prints it: `nginx[812]`, `mysqld[812/815]`.
    fn to_text(self) -> String {
        let comm = self.comm().map_or_else(|| "?".to_string(), Comm::to_text);
        if self.tid == self.pid {
            format!("{comm}[{}]", self.pid)
        } else {
            format!("{comm}[{}/{}]", self.pid, self.tid)
        }
    }

    fn facts(self) -> impl Iterator<Item = (&'static str, String)> {
        let comm = self.comm().map(|comm| ("command", comm.to_text()));
        comm.into_iter().chain([("pid", self.pid.to_string())])
    }
}

/// The rules that are judged event by event, and the names they need.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) native: Abi,
    /// A rule's place is its bit.
    pub(super) rules: Vec<StreamRule>,
    /// Rules about an end by each signal.
    pub(super) signals: [RuleSet; SIGNALS],
    /// Rules about a kill for want of memory.
    pub(super) oom_kill: RuleSet,
    pub(super) names: Names,
    /// Times a rule could not be judged because nobody knows the name.
    pub(super) unnamed: u64,
    pub(super) fired: Vec<Firing>,
}

impl Judge {
    /// Takes one thing into account. They must come in the order of [`Item::rank`].
    pub(super) fn judge(&mut self, item: &Item) {
        match item.what {
            What::Fork { child_tid } => match self.names.get(item.tid) {
                Some(comm) => self.names.set(child_tid, comm),
                // Not the name of whoever had the number before.
                None => self.names.forget(child_tid),
            },
            What::Name(Some(comm)) => self.names.set(item.tid, comm),
            What::Name(None) => self.names.forget(item.tid),
            What::Exec { old_tid } if old_tid != item.tid => self.names.forget(old_tid),
            What::Exec { .. } => {}
            What::Slow { rules, call, dur_ns } => self.slow(item, rules, call, dur_ns),
            What::Failed { rules, call, errno } => self.failed(item, rules, call, errno),
            What::Segment { rules } => self.segment(item, rules),
            What::OomKill { comm, by_pid, by_tid } => {
                let victim = self.who(item.pid, item.tid, comm);
                let by = self.who(by_pid, by_tid, None);
                self.oom_kill(item, victim, by);
            }
            What::Exit { signal, comm } => {
                self.ended(item, signal, comm);
                self.names.forget(item.tid);
            }
        }
    }

    /// A thread and its process; `own` is the name that came with the event.
    fn who(&self, pid: u32, tid: u32, own: Option<Comm>) -> Who {
        let thread = own.or_else(|| self.names.get(tid));
        let process = if tid == pid { thread } else { self.names.get(pid) };
        Who { pid, tid, process, thread }
    }

    /// Whether a rule's command is one of these; counts where nobody knows.
    fn takes(&mut self, command: &Pattern, who: &Who) -> bool {
        if command.takes_all() {
            return true;
        }
        if who.comm().is_none() {
            self.unnamed += 1;
        }
        let mut known = [who.process, who.thread].into_iter().flatten();
        known.any(|comm| command.takes(comm.as_bytes()))
    }

    fn ended(&mut self, item: &Item, signal: u32, comm: Option<Comm>) {
        let rules = self.signals.get(signal as usize).copied().unwrap_or_default();
        if rules == 0 {
            return;
        }
        let who = self.who(item.pid, item.tid, comm);
        self.for_each(rules, |judge, rule| {
            let Condition::Signal(command) = &rule.on else { return };
            if rule.gate.is_silent(item.ts_ns) || !judge.takes(command, &who) {
                return;
            }
            let signal = signal_name(signal);
            let reason = format!("{} was killed by {signal}", who.to_text());
            let facts = who.facts().chain([("signal", signal.into_owned())]);
            judge.fired.push(rule.gate.fire(item.ts_ns, reason, facts));
        });
    }

    fn oom_kill(&mut self, item: &Item, victim: Who, by: Who) {
        self.for_each(self.oom_kill, |judge, rule| {
            let Condition::OomKill(command) = &rule.on else { return };
            if rule.gate.is_silent(item.ts_ns) || !judge.takes(command, &victim) {
                return;
            }
            let (victim_text, by) = (victim.to_text(), by.to_text());
            let reason = format!("{victim_text} was killed for want of memory, {by} asked for it");
            judge.fired.push(rule.gate.fire(item.ts_ns, reason, victim.facts()));
        });
    }

    fn slow(&mut self, item: &Item, rules: RuleSet, call: u16, dur_ns: u64) {
        let who = self.who(item.pid, item.tid, None);
        self.for_each(rules, |judge, rule| {
            let Condition::SlowCall { command, longer_than_ns } = &rule.on else { return };
            let is_slow = dur_ns > *longer_than_ns && !rule.gate.is_silent(item.ts_ns);
            if !is_slow || !judge.takes(command, &who) {
                return;
            }
            let (call, took) = (judge.call_name(call), span(dur_ns));
            let longer = span(*longer_than_ns);
            let reason = format!("{call} of {} took {took}, longer than {longer}", who.to_text());
            let facts = who.facts().chain([("call", call)]);
            judge.fired.push(rule.gate.fire(item.ts_ns, reason, facts));
        });
    }

    fn failed(&mut self, item: &Item, rules: RuleSet, call: u16, errno: u16) {
        let who = self.who(item.pid, item.tid, None);
        self.for_each(rules, |judge, rule| {
            let Condition::Failures { command, rate } = &mut rule.on else { return };
            if !judge.takes(command, &who) {
                return;
            }
            // Counted while the rule is silent too: it goes on in the middle of things.
            let Some(within_ns) = rate.strike(item.ts_ns) else { return };
            if rule.gate.is_silent(item.ts_ns) {
                return;
            }
            let call = judge.call_name(call);
            let error = errno_name(i32::from(errno)).map_or(errno.to_string(), str::to_string);
            let last = format!("{call} of {}", who.to_text());
            let reason = match rate.count {
                1 => format!("{last} failed with {error}"),
                count => {
                    let within = span(within_ns);
                    format!(
                        "{count} calls failed within {within}, the last one {last} with {error}"
                    )
                }
            };
            let facts = who.facts().chain([("call", call), ("error", error)]);
            judge.fired.push(rule.gate.fire(item.ts_ns, reason, facts));
        });
    }

    fn segment(&mut self, item: &Item, rules: RuleSet) {
        self.for_each(rules, |judge, rule| {
            let Condition::Segments { what, rate } = &mut rule.on else { return };
            let Some(within_ns) = rate.strike(item.ts_ns) else { return };
            if !rule.gate.is_silent(item.ts_ns) {
                let [one, several] = *what;
                let reason = match rate.count {
                    1 => format!("a {one}"),
                    count => format!("{count} {several} within {}", span(within_ns)),
                };
                judge.fired.push(rule.gate.fire(item.ts_ns, reason, []));
            }
        });
    }

    /// Hands each rule of a set over, and the judge beside it.
    fn for_each(&mut self, mut rules: RuleSet, mut judge: impl FnMut(&mut Judge, &mut StreamRule)) {
        let mut all = std::mem::take(&mut self.rules);
        while rules != 0 {
            if let Some(rule) = all.get_mut(rules.trailing_zeros() as usize) {
                judge(self, rule);
            }
            rules &= rules - 1;
        }
        self.rules = all;
    }

    fn call_name(&self, call: u16) -> String {
        let index = u32::from(call);
        let (abi, nr) = match index.checked_sub(CALLS_COMPAT) {
            Some(nr) => (self.native.compat().unwrap_or(self.native), nr),
            None => (self.native, index),
        };
        // Numbers no table has share the last place.
        if nr == CALLS_COMPAT - 1 {
            return "a call".to_string();
        }
        syscall::name(abi, i64::from(nr)).into_owned()
    }

    /// Bytes of what grows, and of what rates remember.
    pub(super) fn bytes(&self) -> usize {
        let rates = self.rules.iter().map(|rule| match &rule.on {
            Condition::Failures { rate, .. } | Condition::Segments { rate, .. } => rate.bytes(),
            _ => 0,
        });
        self.names.bytes() + rates.sum::<usize>()
    }
}

/// A duration for people.
pub(super) fn span(ns: u64) -> String {
    if ns < SECOND_NS {
        format!("{:.1} ms", ns as f64 / 1e6)
    } else {
        format!("{:.3} s", ns as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_exact_over_any_second() {
        let mut rate = Rate::new(3);
        let at_ms = |ms: u64| ms * 1_000_000;
        assert_eq!(rate.strike(at_ms(100)), None);
        assert_eq!(rate.strike(at_ms(1_050)), None);
        assert_eq!(rate.strike(at_ms(1_100)), None, "the first is a second ago");
        assert_eq!(rate.strike(at_ms(2_049)), Some(at_ms(999)));
        assert_eq!(rate.strike(at_ms(2_200)), None);
        assert_eq!(Rate::new(1).strike(5), Some(0));
        let mut early = Rate::new(2);
        assert_eq!((early.strike(at_ms(9_000)), early.strike(at_ms(1_000))), (None, None));
    }

    #[test]
    fn durations_are_written_for_people() {
        assert_eq!(span(1_500_000), "1.5 ms");
        assert_eq!(span(1_234_567_890), "1.235 s");
    }
}
