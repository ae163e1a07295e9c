//! The reader's side of the books: what came out of the rings, and whether the
//! running numbers leave a gap that nothing explains.
//!
//! Invariant: no record is interpreted elsewhere, and none is dropped uncounted.

use std::collections::BTreeMap;

use crate::{
    decode::{Sequence, decode_into},
    event::{
        Event, Kind,
        syscall::{self, Abi},
        wire::{CALLS_COMPAT, CALLS_MAX, CallCounts, Counters, KINDS_MAX, PerCpu, filtered},
    },
    loss::{CallLedger, KindLedger, Ledger},
    window::Window,
};

/// What was read from one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct CpuTally {
    /// The running number of the last call, and whether there was one.
    last_seq: Option<u32>,
    /// The last clean cut.
    cut: u64,
    /// The counters are those that run: the CPU is off line.
    offline: bool,
    /// Sum of the losses that came as records.
    lost_records: u64,
    /// Records that were understood, by kind.
    decoded: [u64; KINDS_MAX],
    /// Records that were not.
    malformed: u64,
}

/// Counts what is read.
#[derive(Debug)]
pub struct Tally {
    cpus: Vec<CpuTally>,
    unaccounted: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An event: it belongs into the window.
    Event,
    /// The mark of the cut with this nonce.
    Mark(u64),
    /// Nothing that makes sense; it is counted.
    Malformed,
}

/// The kernel's side of the books.
#[derive(Clone, Copy, Debug)]
pub struct KernelCounts<'a> {
    /// The counters of every CPU at its last clean mark.
    pub at_cut: &'a [PerCpu],
    /// As they are: for CPUs that are off line.
    pub running: &'a [PerCpu],
    /// Events for which the kernel did not run the program.
    pub skipped: u64,
}

impl Tally {
    /// Nothing read from `cpus` CPUs.
    pub fn new(cpus: usize) -> Tally {
        Tally { cpus: vec![CpuTally::default(); cpus], unaccounted: 0 }
    }

    /// Reads the next record of a CPU into an event that is new.
    #[inline]
    pub fn read<'r>(&mut self, cpu: usize, record: &'r [u8], event: &mut Event<'r>) -> Record {
        let sequence = match decode_into(record, cpu as u16, event) {
            Ok(sequence) => sequence,
            Err(error) => {
                tracing::debug!(cpu, %error, "a record makes no sense");
                return self.malformed(cpu);
            }
        };
        match event.kind {
            Kind::Cut => {
                self.cut(cpu, event.number(0), event.number(1));
                Record::Mark(event.number(0))
            }
            // Of no class of the window: only the recorder makes them.
            Kind::Process | Kind::Descriptor | Kind::Rollup => {
                tracing::debug!(cpu, "a record is of a kind that no program writes");
                self.malformed(cpu)
            }
            _ => {
                self.event(cpu, event, sequence);
                Record::Event
            }
        }
    }

    fn malformed(&mut self, cpu: usize) -> Record {
        if let Some(tally) = self.cpus.get_mut(cpu) {
            tally.malformed += 1;
        }
        Record::Malformed
    }

    /// An event of a CPU, in ring order.
    fn event(&mut self, cpu: usize, event: &Event<'_>, sequence: Sequence) {
        let Some(tally) = self.cpus.get_mut(cpu) else { return };
        if event.kind == Kind::Lost {
            // Whatever the record says: a sum that is too large matches nothing.
            tally.lost_records = tally.lost_records.saturating_add(event.number(1));
            return;
        }
        if event.kind == Kind::Syscall {
            return self.call(cpu, sequence);
        }
        if let Some(decoded) = tally.decoded.get_mut(event.kind as usize) {
            *decoded += 1;
        }
    }

    /// A call of a CPU, in ring order.
    #[inline]
    pub(super) fn call(&mut self, cpu: usize, sequence: Sequence) {
        let Some(tally) = self.cpus.get_mut(cpu) else { return };
        if let Some(decoded) = tally.decoded.get_mut(Kind::Syscall as usize) {
            *decoded += 1;
        }
        // The first call of a CPU has the number one plus what was skipped.
        let last = tally.last_seq.unwrap_or_default();
        let step = sequence.seq.wrapping_sub(last);
        self.unaccounted += difference(step, sequence.skipped.wrapping_add(1));
        tally.last_seq = Some(sequence.seq);
    }

    /// Events that were lost, as far as their records have been read.
    pub(super) fn lost(&self) -> u64 {
        self.cpus.iter().fold(0, |lost, tally| lost.saturating_add(tally.lost_records))
    }

    /// A mark of a CPU: clean when no program was running there.
    fn cut(&mut self, cpu: usize, nonce: u64, busy: u64) {
        if let Some(tally) = self.cpus.get_mut(cpu).filter(|_| busy == 0) {
            tally.cut = nonce;
            tally.offline = false;
        }
    }

    /// Whether this mark came and was clean.
    pub fn is_cut(&self, cpu: usize, nonce: u64) -> bool {
        self.cpus.get(cpu).is_some_and(|tally| tally.cut == nonce)
    }

    /// The CPU is off line: its counters stand still and need no mark.
    pub fn offline(&mut self, cpu: usize) {
        if let Some(tally) = self.cpus.get_mut(cpu) {
            tally.offline = true;
        }
    }

    /// The books at the last cut, with the window every event went into.
    pub fn ledger(&self, kernel: KernelCounts<'_>, window: &Window, native: Abi) -> Ledger {
        let mut ledger = Ledger {
            decoded: self.cpus.iter().flat_map(|tally| tally.decoded).sum(),
            malformed: self.cpus.iter().map(|tally| tally.malformed).sum(),
            unaccounted: self.unaccounted,
            evicted: window.evicted().events,
            in_window: window.holdings().iter().map(|holding| holding.events).sum(),
            ..Ledger::default()
        };
        let mut sums = Sums::default();
        for (cpu, tally) in self.cpus.iter().enumerate() {
            let from = if tally.offline { kernel.running } else { kernel.at_cut };
            let Some(per_cpu) = from.get(cpu) else { continue };
            let counters = &per_cpu.counters;
            sums.add(per_cpu);
            ledger.unaccounted = ledger.unaccounted.saturating_add(disagreement(per_cpu));
            // After the last call that was stored, only skipped ones may follow.
            let last = tally.last_seq.unwrap_or_default();
            let step = (counters.calls as u32).wrapping_sub(last);
            ledger.unaccounted += difference(step, counters.pending_skipped as u32);
            // Every loss must have come as a record, but for those since the last.
            let known = tally.lost_records.saturating_add(counters.pending_lost);
            let lost: u64 = counters.lost.iter().sum();
            ledger.unaccounted = ledger.unaccounted.saturating_add(lost.abs_diff(known));
            // What the ring took came out of it, as what it was.
            let kinds = counters.stored.iter().zip(tally.decoded);
            let changed: u64 = kinds.map(|(stored, decoded)| stored.abs_diff(decoded)).sum();
            ledger.unaccounted += changed.saturating_sub(tally.malformed);
        }
        sums.write(&mut ledger, native);
        ledger.seen += kernel.skipped;
        if kernel.skipped > 0 {
            ledger.lost.insert("kernel_skipped".to_string(), kernel.skipped);
        }
        ledger.closes = ledger.sums_hold();
        ledger
    }
}

/// The kernel's counters over all CPUs.
struct Sums {
    seen: u64,
    stored: u64,
    lost: u64,
    calls_filtered: [u64; filtered::COUNT],
    others_filtered: u64,
    calls: Vec<CallCounts>,
    kinds: BTreeMap<&'static str, KindLedger>,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums {
            seen: 0,
            stored: 0,
            lost: 0,
            calls_filtered: [0; filtered::COUNT],
            others_filtered: 0,
            calls: vec![CallCounts::default(); CALLS_MAX as usize],
            kinds: BTreeMap::new(),
        }
    }
}

impl Sums {
    fn add(&mut self, per_cpu: &PerCpu) {
        let counters = &per_cpu.counters;
        self.seen += counters.calls + counters.others_filtered;
        for kind in Kind::ALL {
            if *kind != Kind::Syscall {
                self.seen += of(&counters.seen, *kind);
            }
            self.stored += of(&counters.stored, *kind);
            self.lost += of(&counters.lost, *kind);
            if of(&counters.seen, *kind) > 0 {
                let sum = self.kinds.entry(kind.schema().name).or_default();
                sum.seen += of(&counters.seen, *kind);
                sum.lost += of(&counters.lost, *kind);
            }
        }
        self.others_filtered += counters.others_filtered;
        for (sum, count) in self.calls_filtered.iter_mut().zip(&counters.calls_filtered) {
            *sum += count;
        }
        for (sum, count) in self.calls.iter_mut().zip(&per_cpu.calls) {
            sum.seen += count.seen;
            sum.lost += count.lost;
        }
    }

    fn write(&self, ledger: &mut Ledger, native: Abi) {
        (ledger.seen, ledger.stored) = (self.seen, self.stored);
        if self.lost > 0 {
            ledger.lost.insert("ring_full".to_string(), self.lost);
        }
        for (name, count) in filtered::NAMES.iter().zip(self.calls_filtered) {
            ledger.filtered_by.insert((*name).to_string(), count);
        }
        *ledger.filtered_by.entry("own".to_string()).or_default() += self.others_filtered;
        ledger.filtered = ledger.filtered_by.values().sum();
        ledger.calls = by_name(&self.calls, native);
        let kinds = self.kinds.iter().map(|(kind, counts)| ((*kind).to_string(), *counts));
        ledger.kinds = kinds.collect();
    }
}

fn of(counts: &[u64], kind: Kind) -> u64 {
    counts.get(kind as usize).copied().unwrap_or_default()
}

/// By how much the counters of a CPU contradict each other. At a clean mark no
/// program is between two of them: every call was offered or filtered, and whatever
/// was offered is stored or lost, by kind and by call.
fn disagreement(per_cpu: &PerCpu) -> u64 {
    let Counters { calls, calls_filtered, seen, stored, lost, .. } = &per_cpu.counters;
    let (mut calls_seen, mut calls_lost) = (0, 0);
    for call in &per_cpu.calls {
        calls_seen += call.seen;
        calls_lost += call.lost;
    }
    let offered = of(seen, Kind::Syscall);
    let by_kind = seen.iter().zip(stored).zip(lost);
    calls.abs_diff(offered + calls_filtered.iter().sum::<u64>())
        + offered.abs_diff(calls_seen)
        + of(lost, Kind::Syscall).abs_diff(calls_lost)
        + by_kind.map(|((seen, stored), lost)| seen.abs_diff(stored + lost)).sum::<u64>()
}

/// Running numbers are 32 bits wide.
fn difference(step: u32, explained: u32) -> u64 {
    u64::from(step.wrapping_sub(explained).cast_signed().unsigned_abs())
}

fn by_name(calls: &[CallCounts], native: Abi) -> BTreeMap<String, CallLedger> {
    let mut named = BTreeMap::new();
    for (index, counts) in calls.iter().enumerate().filter(|(_, counts)| counts.seen > 0) {
        let index = index as u32;
        let (abi, nr) = if index < CALLS_COMPAT {
            (native, index)
        } else {
            (native.compat().unwrap_or(native), index - CALLS_COMPAT)
        };
        let compat = if index < CALLS_COMPAT { "" } else { "@32" };
        let name = if nr == CALLS_COMPAT - 1 {
            format!("other{compat}")
        } else {
            format!("{}{compat}", syscall::name(abi, i64::from(nr)))
        };
        named.insert(name, CallLedger { seen: counts.seen, lost: counts.lost, aggregated: 0 });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tally: &mut Tally, seq: u32, skipped: u32) {
        tally.event(0, &Event::new(Kind::Syscall, 1), Sequence { seq, skipped });
    }

    #[test]
    fn a_gap_that_nothing_explains_is_unaccounted() {
        let mut tally = Tally::new(1);
        for (seq, skipped) in [(1, 0), (2, 0), (5, 2), (6, 0)] {
            call(&mut tally, seq, skipped);
        }
        assert_eq!(tally.unaccounted, 0);
        call(&mut tally, 9, 0);
        assert_eq!(tally.unaccounted, 2);
    }

    #[test]
    fn running_numbers_may_wrap() {
        let mut tally = Tally::new(1);
        tally.cpus[0].last_seq = Some(u32::MAX - 1);
        call(&mut tally, u32::MAX, 0);
        call(&mut tally, 0, 0);
        call(&mut tally, 3, 2);
        assert_eq!(tally.unaccounted, 0);
    }
}
