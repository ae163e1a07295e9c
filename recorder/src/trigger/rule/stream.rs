//! The rules that are judged on the stream: what is looked at when an event is
//! read, and what waits until it can be judged.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{
    Firing,
    judge::{Item, Judge, RuleSet, What},
    names::{Comm, NAMES_MAX},
    pressure::PressureSampler,
};
use crate::event::{
    Attached, Event, Kind,
    wire::{call_index, flag},
};

/// Things that wait to be judged, at the most. When one more comes the older half is
/// judged at once: by the names that are known then, which is counted.
pub(super) const ITEMS_MAX: usize = 32_768;

/// How long the names of the threads that were there are waited for.
const NAMES_WITHIN_NS: u64 = 10_000_000_000;

/// Checked rules. Without one, an event costs one compare.
///
/// On the ingest thread: [`Rules::look`] for every event, and [`Rules::settle`] after
/// every visit of the rings. In between, whatever a rule may be about waits: rings
/// are read one after the other, so that the fork or the rename before an event may
/// be read after it. What is due is judged in the order of time, beside everything
/// that changes names; so the name of a thread is the one it had at that moment, and
/// is forgotten only behind the last event that needs it.
#[derive(Debug, Default)]
pub struct Rules {
    pub(super) stream: Option<Box<Stream>>,
    pub(super) pressure: PressureSampler,
}

/// A thread that is there, as `/proc` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownThread<'a> {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub comm: &'a [u8],
    /// When it was read, on the kernel's clock.
    pub as_of_ns: u64,
}

/// How the rules are doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RulesHealth {
    /// How often each rule fired.
    pub firings: BTreeMap<String, u64>,
    /// Firings nobody took: too many at once.
    pub dropped: u64,
    /// Times a rule could not be judged because nobody knew the name of the thread.
    pub unnamed: u64,
    /// Events that were judged before all that came before them had been read, because
    /// too many waited.
    pub judged_early: u64,
    /// Threads whose name is remembered.
    pub names: u64,
    /// Names that were left out because there were too many.
    pub names_left_out: u64,
}

impl Rules {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.stream.is_none() && self.pressure.is_empty()
    }

    /// Takes out the rules about pressure, for whoever reads the kernel's files.
    pub fn take_pressure(&mut self) -> PressureSampler {
        std::mem::take(&mut self.pressure)
    }

    /// Whether a rule needs to know the names of the threads that are there, and nobody
    /// has told them yet.
    pub fn awaits_names(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.awaits != Awaits::Nothing)
    }

    /// Tells the names of the threads that are there, as `/proc` has them after the
    /// first event could be looked at. Nothing is judged before, for ten seconds.
    pub fn seed<'a>(&mut self, threads: impl IntoIterator<Item = KnownThread<'a>>) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.needs_names) {
            stream.seed(threads);
        }
    }

    /// Bounds what is remembered to a sixteenth of `memory_bytes`.
    pub fn bound(&mut self, memory_bytes: u64) {
        if let Some(stream) = &mut self.stream {
            stream.judge.names.bound(memory_bytes);
        }
    }

    /// Goes on where other rules were: one that keeps its name stays silent as long as
    /// it would have, and its firings are counted on. Names that are known stay known.
    /// What still waits is judged by what is known, and answered.
    pub fn take_over(&mut self, mut old: Rules) -> Vec<Firing> {
        let firings = old.settle(u64::MAX);
        if let (Some(new), Some(old)) = (&mut self.stream, old.stream) {
            new.take_over(*old);
        }
        firings
    }

    /// Looks at an event that was just read. Keeps a copy of the little that may have
    /// to be judged.
    #[inline]
    pub fn look(&mut self, event: &Event<'_>) {
        if let Some(stream) = &mut self.stream {
            stream.look(event);
        }
    }

    /// Whether no rule is about a call that returned `ret` after `dur_ns`, whichever it is.
    #[inline]
    pub fn passes(&self, ret: u64, dur_ns: u64) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.passes(ret, dur_ns))
    }

    /// Judges everything up to a moment before which nothing is unread, see
    /// [`super::Progress`].
    pub fn settle(&mut self, until_ns: u64) -> Vec<Firing> {
        match &mut self.stream {
            Some(stream) => stream.settle(until_ns),
            None => Vec::new(),
        }
    }

    /// How they are doing.
    pub fn health(&self) -> RulesHealth {
        let Some(stream) = &self.stream else { return RulesHealth::default() };
        let Judge { rules, names, unnamed, .. } = &stream.judge;
        let firings = rules.iter().map(|rule| (rule.gate.name.clone(), rule.gate.firings));
        RulesHealth {
            firings: firings.collect(),
            dropped: 0,
            unnamed: *unnamed,
            judged_early: stream.judged_early,
            names: names.len() as u64,
            names_left_out: names.left_out(),
        }
    }

    /// Bytes of what they remember.
    pub fn bytes(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.bytes() as u64)
    }
}

/// Where to look at an event, and what waits.
#[derive(Debug)]
pub(super) struct Stream {
    /// A call that lasted no longer is slow for no rule.
    pub(super) slow_over_ns: u64,
    /// A result above it is an error some rule may count: -4096, or nothing is.
    pub(super) fails_over: u64,
    /// By [`call_index`], the rules about its duration.
    pub(super) slow: Vec<RuleSet>,
    /// By [`call_index`], the rules about its failures.
    pub(super) failing: Vec<RuleSet>,
    /// By error number, the rules about it.
    pub(super) errors: Vec<RuleSet>,
    /// Rules about resets.
    pub(super) resets: RuleSet,
    /// Rules about retransmissions.
    pub(super) retransmits: RuleSet,
    pub(super) needs_names: bool,
    pub(super) judge: Judge,
    items: Vec<Item>,
    /// Names `/proc` had; they wait beside `items`, as they are many only once.
    known: Vec<Item>,
    awaits: Awaits,
    judged_early: u64,
}

/// The names of the threads that were there.
#[derive(Debug, PartialEq, Eq)]
enum Awaits {
    /// They are to come.
    Names,
    /// They are to come until this moment.
    NamesUntil(u64),
    /// They are there, or nobody needs them.
    Nothing,
}

impl Stream {
    /// Rules that look at nothing yet.
    pub(super) fn new(judge: Judge) -> Stream {
        Stream {
            slow_over_ns: u64::MAX,
            fails_over: u64::MAX,
            slow: Vec::new(),
            failing: Vec::new(),
            errors: Vec::new(),
            resets: 0,
            retransmits: 0,
            needs_names: false,
            judge,
            items: Vec::new(),
            known: Vec::new(),
            awaits: Awaits::Nothing,
            judged_early: 0,
        }
    }

    /// From now on names are needed, those of the threads that are there first.
    pub(super) fn need_names(&mut self) {
        self.needs_names = true;
        self.awaits = Awaits::Names;
    }

    #[inline]
    fn look(&mut self, event: &Event<'_>) {
        if event.kind != Kind::Syscall {
            self.other(event);
        } else if let [nr, ret, dur_ns, ..] = *event.numbers()
            && !self.passes(ret, dur_ns)
        {
            self.call(event, nr, ret, dur_ns);
        }
    }

    #[inline]
    fn passes(&self, ret: u64, dur_ns: u64) -> bool {
        dur_ns <= self.slow_over_ns && ret <= self.fails_over
    }

    /// A call that is slow or failed: rare, and still seldom what a rule is about.
    #[cold]
    fn call(&mut self, event: &Event<'_>, nr: u64, ret: u64, dur_ns: u64) {
        let call = call_index(nr.cast_signed(), event.has(flag::COMPAT)) as usize;
        let of = |sets: &[RuleSet], place: usize| sets.get(place).copied().unwrap_or_default();
        if dur_ns > self.slow_over_ns {
            let rules = of(&self.slow, call);
            if rules != 0 {
                self.push(event, What::Slow { rules, call: call as u16, dur_ns });
            }
        }
        if ret > self.fails_over {
            let errno = ret.wrapping_neg() as u16;
            let rules = of(&self.failing, call) & of(&self.errors, usize::from(errno));
            if rules != 0 {
                self.push(event, What::Failed { rules, call: call as u16, errno });
            }
        }
    }

    fn other(&mut self, event: &Event<'_>) {
        let comm = |attached: Option<&Attached<'_>>| {
            attached.and_then(|attached| Comm::new(attached.bytes))
        };
        match event.kind {
            Kind::ProcessFork if self.needs_names => {
                self.push(event, What::Fork { child_tid: event.number(1) as u32 });
            }
            Kind::ProcessRename if self.needs_names => {
                self.push(event, What::Name(comm(event.attachment(0))));
            }
            Kind::ProcessExec if self.needs_names => {
                self.push(event, What::Exec { old_tid: event.number(0) as u32 });
            }
            Kind::ProcessExit if self.needs_names => {
                let signal = event.number(1) as u32;
                self.push(event, What::Exit { signal, comm: comm(event.comm()) });
            }
            Kind::OomKill if self.judge.oom_kill != 0 => {
                let (by_pid, by_tid) = (event.number(0) as u32, event.number(1) as u32);
                self.push(event, What::OomKill { comm: comm(event.comm()), by_pid, by_tid });
            }
            Kind::TcpResetSent | Kind::TcpResetReceived if self.resets != 0 => {
                self.push(event, What::Segment { rules: self.resets });
            }
            Kind::TcpRetransmit if self.retransmits != 0 => {
                self.push(event, What::Segment { rules: self.retransmits });
            }
            _ => {}
        }
    }

    fn push(&mut self, event: &Event<'_>, what: What) {
        if self.items.len() >= ITEMS_MAX {
            self.awaits = Awaits::Nothing;
            self.items.sort_by_key(Item::rank);
            let middle = self.items.get(ITEMS_MAX / 2).map_or(u64::MAX, |item| item.ts_ns);
            self.judged_early += self.judge_until(middle);
        }
        let (ts_ns, pid, tid) = (event.ts_ns, event.pid, event.tid);
        self.items.push(Item { ts_ns, pid, tid, what });
    }

    fn take_over(&mut self, mut old: Stream) {
        for rule in &mut self.judge.rules {
            for old in &old.judge.rules {
                rule.gate.take_over(&old.gate);
            }
        }
        (self.judge.unnamed, self.judged_early) = (old.judge.unnamed, old.judged_early);
        if old.needs_names && old.awaits == Awaits::Nothing {
            std::mem::swap(&mut self.judge.names, &mut old.judge.names);
            self.awaits = Awaits::Nothing;
        }
    }

    fn seed<'a>(&mut self, threads: impl IntoIterator<Item = KnownThread<'a>>) {
        let facts = threads.into_iter().take(NAMES_MAX).map(|thread| Item {
            ts_ns: thread.as_of_ns,
            pid: 0,
            tid: thread.tid,
            what: What::Name(Comm::new(thread.comm)),
        });
        self.known.extend(facts);
        self.awaits = Awaits::Nothing;
    }

    fn settle(&mut self, until_ns: u64) -> Vec<Firing> {
        match self.awaits {
            Awaits::Nothing => drop(self.judge_until(until_ns)),
            Awaits::Names => {
                self.awaits = Awaits::NamesUntil(until_ns.saturating_add(NAMES_WITHIN_NS));
            }
            Awaits::NamesUntil(moment) if until_ns > moment => self.awaits = Awaits::Nothing,
            Awaits::NamesUntil(_) => {}
        }
        std::mem::take(&mut self.judge.fired)
    }

    /// Judges what waits up to a moment; answers how much that was.
    fn judge_until(&mut self, until_ns: u64) -> u64 {
        if self.items.is_empty() && self.known.is_empty() {
            return 0;
        }
        let had_known = !self.known.is_empty();
        self.place_known();
        self.items.sort_by_key(Item::rank);
        let due = self.items.partition_point(|item| item.ts_ns <= until_ns);
        for item in self.items.get(..due).unwrap_or_default() {
            self.judge.judge(item);
        }
        self.items.drain(..due);
        if had_known {
            self.known = Vec::new();
            self.items.shrink_to(ITEMS_MAX);
        }
        due as u64
    }

    /// Puts facts of `/proc` among what waits, each like a rename at its moment: what is
    /// older is in it, what is newer comes after it. A thread that nothing named before
    /// was called so all the time, and its events before are judged by that name.
    fn place_known(&mut self) {
        if self.known.is_empty() {
            return;
        }
        let mut named_ns: HashMap<u32, u64> = HashMap::new();
        for item in &self.items {
            let tid = match item.what {
                What::Fork { child_tid } => child_tid,
                What::Name(_) | What::Exit { .. } => item.tid,
                _ => continue,
            };
            let first = named_ns.entry(tid).or_insert(item.ts_ns);
            *first = item.ts_ns.min(*first);
        }
        for mut fact in self.known.drain(..) {
            if named_ns.get(&fact.tid).is_none_or(|named| *named > fact.ts_ns) {
                fact.ts_ns = 0;
            }
            self.items.push(fact);
        }
    }

    fn bytes(&self) -> usize {
        let waiting = self.items.capacity() + self.known.capacity();
        let tables = self.slow.len() + self.failing.len() + self.errors.len();
        self.judge.bytes() + waiting * size_of::<Item>() + tables * size_of::<RuleSet>()
    }
}
