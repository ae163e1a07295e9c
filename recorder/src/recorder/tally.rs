//! The reader's side of the books: what came out of the rings, and whether the
//! running numbers leave a gap that nothing explains.

use std::collections::BTreeMap;

use crate::{
    decode::Sequence,
    event::{
        Event, Kind,
        syscall::{self, Abi},
        wire::{CALLS_COMPAT, CALLS_MAX, CallCounts, PerCpu, filtered},
    },
    loss::{CallLedger, Ledger},
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
}

/// Counts what is read.
#[derive(Debug)]
pub(super) struct Tally {
    cpus: Vec<CpuTally>,
    decoded: u64,
    malformed: u64,
    unaccounted: u64,
}

impl Tally {
    pub(super) fn new(cpus: usize) -> Tally {
        Tally { cpus: vec![CpuTally::default(); cpus], decoded: 0, malformed: 0, unaccounted: 0 }
    }

    /// A record that made no sense.
    pub(super) fn malformed(&mut self) {
        self.malformed += 1;
    }

    /// An event of a CPU, in ring order.
    pub(super) fn event(&mut self, cpu: usize, event: &Event<'_>, sequence: Sequence) {
        let Some(tally) = self.cpus.get_mut(cpu) else { return };
        if event.kind == Kind::Lost {
            tally.lost_records += event.number(1);
            return;
        }
        self.decoded += 1;
        if event.kind == Kind::Syscall {
            // The first call of a CPU has the number one plus what was skipped.
            let last = tally.last_seq.unwrap_or_default();
            let step = sequence.seq.wrapping_sub(last);
            self.unaccounted += difference(step, sequence.skipped.wrapping_add(1));
            tally.last_seq = Some(sequence.seq);
        }
    }

    /// Events that were lost, as far as their records have been read.
    pub(super) fn lost(&self) -> u64 {
        self.cpus.iter().map(|tally| tally.lost_records).sum()
    }

    /// A mark of a CPU: clean when no program was running there.
    pub(super) fn cut(&mut self, cpu: usize, nonce: u64, busy: u64) {
        if let Some(tally) = self.cpus.get_mut(cpu).filter(|_| busy == 0) {
            tally.cut = nonce;
            tally.offline = false;
        }
    }

    /// Whether this mark came and was clean.
    pub(super) fn is_cut(&self, cpu: usize, nonce: u64) -> bool {
        self.cpus.get(cpu).is_some_and(|tally| tally.cut == nonce)
    }

    /// The CPU is off line: its counters stand still and need no mark.
    pub(super) fn offline(&mut self, cpu: usize) {
        if let Some(tally) = self.cpus.get_mut(cpu) {
            tally.offline = true;
        }
    }

    /// The books. `at_cut` are the counters of every CPU at its last clean mark,
    /// `running` as they are: for CPUs that are off line.
    pub(super) fn ledger(&self, at_cut: &[PerCpu], running: &[PerCpu], native: Abi) -> Ledger {
        let mut ledger = Ledger {
            decoded: self.decoded,
            malformed: self.malformed,
            unaccounted: self.unaccounted,
            ..Ledger::default()
        };
        let mut lost = 0;
        let mut filtered_by = [0u64; filtered::COUNT];
        let mut others_filtered = 0;
        let mut calls = vec![CallCounts::default(); CALLS_MAX as usize];
        for (cpu, tally) in self.cpus.iter().enumerate() {
            let from = if tally.offline { running } else { at_cut };
            let Some(per_cpu) = from.get(cpu) else { continue };
            let counters = &per_cpu.counters;
            ledger.seen += counters.calls + counters.others_filtered;
            for kind in Kind::ALL {
                let place = *kind as usize;
                let of = |counts: &[u64]| counts.get(place).copied().unwrap_or_default();
                if *kind != Kind::Syscall {
                    ledger.seen += of(&counters.seen);
                }
                ledger.stored += of(&counters.stored);
                lost += of(&counters.lost);
            }
            others_filtered += counters.others_filtered;
            for (sum, count) in filtered_by.iter_mut().zip(&counters.calls_filtered) {
                *sum += count;
            }
            // After the last call that was stored, only skipped ones may follow.
            let last = tally.last_seq.unwrap_or_default();
            let step = (counters.calls as u32).wrapping_sub(last);
            ledger.unaccounted += difference(step, counters.pending_skipped as u32);
            // Every loss must have come as a record, but for those since the last.
            let lost_here: u64 = counters.lost.iter().sum();
            ledger.unaccounted += lost_here.abs_diff(tally.lost_records + counters.pending_lost);
            for (sum, count) in calls.iter_mut().zip(&per_cpu.calls) {
                sum.seen += count.seen;
                sum.lost += count.lost;
            }
        }
        if lost > 0 {
            ledger.lost.insert("ring_full".to_string(), lost);
        }
        for (name, count) in filtered::NAMES.iter().zip(filtered_by) {
            ledger.filtered_by.insert((*name).to_string(), count);
        }
        *ledger.filtered_by.entry("own".to_string()).or_default() += others_filtered;
        ledger.filtered = ledger.filtered_by.values().sum();
        ledger.calls = by_name(&calls, native);
        ledger
    }
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
