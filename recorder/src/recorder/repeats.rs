//! Calls that were read before, and where window and counts have what they know of them.
//!
//! Most of what a busy host does is the same call once more. Then nothing of the record is
//! to be decoded, masked or compared: window and counts only need times and result.
//!
//! Invariant: nothing depends on what is remembered but the time it takes. What is not, or
//! has no place any more, is read as if it came for the first time.

use crate::{
    decode::{Key, Keys, Recurrence},
    event::{Call, Class, Event},
    rollup::CellPlace,
    window,
};

/// Calls that have one place to be remembered at: the one that came last, and the one before.
const WAYS: usize = 2;

/// Calls that are remembered of a CPU, at the most and at the least.
const CALLS_MAX: usize = 4_096;
const CALLS_MIN: usize = 64;

/// The part of all memory they may take.
const SHARE_OF_MEMORY: u64 = 32;

/// A call, and where it is known.
#[derive(Clone, Copy)]
struct Repeat {
    key: Key,
    places: Places,
}

/// Where a call is known.
#[derive(Clone, Copy)]
pub struct Places {
    /// In the window.
    pub window: window::Place,
    /// In the counts.
    pub cell: CellPlace,
}

/// Of each CPU, the calls that were read last.
pub struct Repeats {
    keys: Keys,
    /// By CPU, then by bits of the key; nothing where a CPU made no call.
    cpus: Vec<Box<[[Option<Repeat>; WAYS]]>>,
    sets: usize,
    /// What was masked by other rules is not remembered.
    rules: u64,
}

impl Repeats {
    /// Nothing remembered of `cpus` CPUs; takes a small part of `memory_bytes`.
    pub fn new(cpus: usize, memory_bytes: u64) -> Repeats {
        let mut repeats = Repeats {
            keys: Keys::default(),
            cpus: (0..cpus).map(|_| Box::default()).collect(),
            sets: 0,
            rules: 0,
        };
        repeats.bound(memory_bytes);
        repeats
    }

    /// Another bound; what was remembered is forgotten if it is not the same.
    pub fn bound(&mut self, memory_bytes: u64) {
        let share = memory_bytes / SHARE_OF_MEMORY / self.cpus.len().max(1) as u64;
        let calls = usize::try_from(share).unwrap_or(usize::MAX) / size_of::<Option<Repeat>>();
        let calls = calls.clamp(CALLS_MIN, CALLS_MAX);
        // A power of two that is not larger.
        let sets = 1 << (calls / WAYS).ilog2();
        if sets != self.sets {
            self.sets = sets;
            self.forget();
        }
    }

    /// Forgets everything if the rules by which secrets are masked are others.
    pub fn follow(&mut self, rules: u64) {
        if rules != self.rules {
            self.rules = rules;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.cpus.iter_mut().for_each(|sets| *sets = Box::default());
    }

    /// Bytes of what is remembered.
    pub fn bytes(&self) -> u64 {
        self.cpus.iter().map(|sets| size_of_val::<[_]>(sets) as u64).sum()
    }

    /// The record of a call that ended as most do, taken apart.
    #[inline]
    pub fn split(&self, record: &[u8]) -> Option<(Key, Recurrence)> {
        let (key, call) = self.keys.split(record)?;
        Class::is_ordinary(call.errno(), Some(call.dur_ns)).then_some((key, call))
    }

    /// Where a call is known that was read before.
    #[inline]
    pub fn find(&self, cpu: usize, key: Key) -> Option<&Places> {
        let sets = self.cpus.get(cpu)?;
        let set = sets.get(key.bits() as usize & sets.len().wrapping_sub(1))?;
        let repeat = set.iter().flatten().find(|repeat| repeat.key == key)?;
        Some(&repeat.places)
    }

    /// Remembers the call that was just read, nothing of which was masked.
    pub fn learn(&mut self, cpu: usize, key: Key, event: &Event<'_>, places: Places) {
        // One without a beginning or an end has other columns.
        if !Call::of(event).is_some_and(|call| call.returned() && call.dur_ns().is_some()) {
            return;
        }
        let sets = self.sets;
        let Some(known) = self.cpus.get_mut(cpu) else { return };
        if known.is_empty() {
            *known = vec![[None; WAYS]; sets].into();
        }
        let Some(set) = known.get_mut(key.bits() as usize & (sets - 1)) else { return };
        let [last, before] = set;
        if last.is_some_and(|last| last.key != key) {
            *before = *last;
        }
        *last = Some(Repeat { key, places });
    }
}

const _: () = assert!(size_of::<Option<Repeat>>() <= 64, "one line of a cache");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::Processes,
        decode::decode,
        event::{Kind, syscall::Abi, wire::flag},
        rollup::Rollups,
        window::{Window, WindowLimits},
    };

    /// A record of `getppid`, of thread `tid`.
    fn record(tid: u32, ret: i64, dur_ns: u64) -> Vec<u8> {
        let mut record = vec![0; 56];
        record[..3].copy_from_slice(&[56, 0, Kind::Syscall as u8]);
        record[24..28].copy_from_slice(&7u32.to_ne_bytes());
        record[28..32].copy_from_slice(&tid.to_ne_bytes());
        record[32..40].copy_from_slice(&110u64.to_ne_bytes());
        record[40..48].copy_from_slice(&ret.to_ne_bytes());
        record[48..56].copy_from_slice(&dur_ns.to_ne_bytes());
        record
    }

    /// Reads a record as one that came for the first time.
    fn learn(repeats: &mut Repeats, record: &[u8]) -> Option<Key> {
        let limits = WindowLimits { span_ns: u64::MAX, bytes_max: 1 << 30 };
        let mut window = Window::new(limits, 2, Abi::X86_64, Processes::default());
        let mut rollups = Rollups::new(Abi::X86_64, 1 << 20, &Processes::default());
        let (key, _) = repeats.split(record)?;
        let (event, _) = decode(record, 1).unwrap();
        let places =
            Places { cell: rollups.push(&event).unwrap(), window: window.push(&event).unwrap() };
        repeats.learn(1, key, &event, places);
        Some(key)
    }

    #[test]
    fn a_call_is_found_again_on_its_cpu_until_masking_changes() {
        let mut repeats = Repeats::new(2, 256 << 20);
        let key = learn(&mut repeats, &record(7, 1, 100)).unwrap();
        let (again, call) = repeats.split(&record(7, 2, 999)).unwrap();
        assert_eq!((again, call.ret, call.dur_ns), (key, 2, 999));
        assert!(repeats.find(1, key).is_some());
        assert!(repeats.find(0, key).is_none(), "each CPU has its own blocks");
        let (other, _) = repeats.split(&record(8, 1, 100)).unwrap();
        assert!(repeats.find(1, other).is_none());
        repeats.follow(1);
        assert!(repeats.find(1, key).is_none(), "it may be masked now");
    }

    /// Their class does not follow from their arguments.
    #[test]
    fn what_failed_or_took_long_or_did_not_return_is_not_remembered() {
        let mut repeats = Repeats::new(2, 256 << 20);
        assert!(learn(&mut repeats, &record(7, -2, 100)).is_none(), "ENOENT");
        assert!(learn(&mut repeats, &record(7, 0, 200_000_000)).is_none(), "0.2 s");
        let key = learn(&mut repeats, &record(7, -11, 100)).unwrap();
        assert!(repeats.find(1, key).is_some(), "EAGAIN is daily life");
        for flag in [flag::NO_ENTRY, flag::NO_RETURN, flag::UNFINISHED] {
            let mut record = record(7, 0, 0);
            record[4..6].copy_from_slice(&flag.to_ne_bytes());
            let key = learn(&mut repeats, &record).unwrap();
            assert!(repeats.find(1, key).is_none(), "flag {flag}");
        }
    }

    #[test]
    fn they_take_their_share_and_no_more() {
        for (cpus, memory_bytes) in [(2, 64 << 20), (8, 256 << 20), (256, 64 << 20)] {
            let mut repeats = Repeats::new(cpus, memory_bytes);
            for tid in 0..5_000 {
                learn(&mut repeats, &record(tid, 0, 0));
            }
            let most = (memory_bytes / SHARE_OF_MEMORY / cpus as u64).max(64 * 64);
            assert!((1..=most).contains(&repeats.bytes()), "{} of {most}", repeats.bytes());
        }
    }
}
