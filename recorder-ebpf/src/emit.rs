//! The only way into a ring: count, put, or count as lost.

use core::{
    ffi::c_void,
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{Counters, Header, PerCpu, lost},
};

#[cfg(feature = "btf")]
use recorder_ebpf::wire::ring;

#[cfg(feature = "btf")]
use crate::ring::Reserved;
use crate::{
    maps::COUNTERS,
    ring::{Offer, Ring},
};

/// Adds where an interrupt on the same CPU may add too.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, value: u64) {
    // SAFETY: `counter` points into a map value; the intrinsic is one BPF
    // instruction, and nothing else writes the word except by the same one.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
            counter, value,
        );
    }
}

/// A program at work on this CPU. While one exists the counters and the ring
/// may disagree, which `Counters::busy` says.
pub(crate) struct Scope {
    per_cpu: *mut PerCpu,
    outermost: bool,
}

impl Scope {
    /// Enters; `None` only if the map had no value, which cannot be.
    #[inline(always)]
    pub(crate) fn enter() -> Option<Scope> {
        let per_cpu = COUNTERS.get_ptr_mut(0)?;
        // SAFETY: a map value of this CPU. A plain increment is right: an
        // interrupt in between adds and takes off again before we go on.
        let outermost = unsafe {
            let busy = (*per_cpu).counters.busy;
            (*per_cpu).counters.busy = busy + 1;
            busy == 0
        };
        Some(Scope { per_cpu, outermost })
    }

    /// Leaves. Not a `Drop`: every path must be visible to the verifier.
    #[inline(always)]
    pub(crate) fn leave(self) {
        // What was counted is counted before.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as in `enter`.
        unsafe { (*self.per_cpu).counters.busy -= 1 };
    }

    /// The counters of this CPU.
    #[inline(always)]
    pub(crate) fn per_cpu(&self) -> *mut PerCpu {
        self.per_cpu
    }

    /// Offers a record of `bytes` bytes to this CPU's ring. Counts it as seen,
    /// and as stored or lost. Answers whether it was stored.
    ///
    /// # Safety
    /// As for [`Ring::put`].
    #[inline(always)]
    pub(crate) unsafe fn offer(
        &self,
        kind: Kind,
        record: *mut c_void,
        bytes: u64,
        ts_ns: u64,
    ) -> bool {
        let offer = if matches!(kind, Kind::Syscall) { Offer::Call } else { Offer::Event };
        // SAFETY: the caller vouches for `record`.
        let stored =
            unsafe { self.ring_for(kind).is_some_and(|ring| ring.put(record, bytes, offer)) };
        self.settle(kind, stored, ts_ns);
        stored
    }

    /// Counts an event as seen. Answers the ring of this CPU, which has what was lost before.
    #[inline(always)]
    pub(crate) fn ring_for(&self, kind: Kind) -> Option<Ring> {
        // SAFETY: a map value of this CPU; the place of a kind is below `KINDS_MAX`.
        unsafe {
            let counters = &raw mut (*self.per_cpu).counters;
            count(kind, &raw mut (*counters).seen[kind as usize]);
            let ring = Ring::of_this_cpu(counters)?;
            if self.outermost {
                flush_losses(ring, counters);
            }
            Some(ring)
        }
    }

    /// Counts an event that was seen as stored or lost.
    #[inline(always)]
    pub(crate) fn settle(&self, kind: Kind, stored: bool, ts_ns: u64) {
        let place = kind as usize;
        // SAFETY: a map value of this CPU; the place of a kind is below `KINDS_MAX`. The two
        // times are plain stores: an interrupt between them can only widen the interval by
        // its own, later loss.
        unsafe {
            let counters = &raw mut (*self.per_cpu).counters;
            if stored {
                count(kind, &raw mut (*counters).stored[place]);
                return;
            }
            add(&raw mut (*counters).lost[place], 1);
            if (*counters).pending_lost == 0 {
                (*counters).pending_first_ns = ts_ns;
            }
            (*counters).pending_last_ns = ts_ns;
            if says_processes(kind) {
                add(&raw mut (*counters).pending_lost_process, 1);
            }
            add(&raw mut (*counters).pending_lost, 1);
        }
    }
}

/// A program at work on this CPU that puts one record of a call into a ring that has room
/// for it, and before which nothing was lost.
#[cfg(feature = "btf")]
pub(crate) struct QuietScope {
    scope: Scope,
    ring: Ring,
}

#[cfg(feature = "btf")]
impl QuietScope {
    /// Enters for a record of `bytes`; `None` when it is not as quiet as that.
    #[inline(always)]
    pub(crate) fn enter(bytes: u32) -> Option<QuietScope> {
        let takes = ring::taken(u64::from(bytes));
        let per_cpu = COUNTERS.get_ptr_mut(0)?;
        // SAFETY: a map value of this CPU.
        let counters = unsafe { &raw mut (*per_cpu).counters };
        let ring = Ring::of_this_cpu(counters)?;
        // SAFETY: as above.
        if unsafe { (*counters).pending_lost } != 0 || !ring.has_room_unasked(takes) {
            return None;
        }
        // SAFETY: as above. Calls happen in task context, which interrupts no program.
        unsafe {
            (*counters).busy += 1;
            count(Kind::Syscall, &raw mut (*counters).seen[Kind::Syscall as usize]);
        }
        Some(QuietScope { scope: Scope { per_cpu, outermost: true }, ring })
    }

    /// The counters of this CPU.
    #[inline(always)]
    pub(crate) fn per_cpu(&self) -> *mut PerCpu {
        self.scope.per_cpu
    }

    /// The room for the record, of as many bytes as it entered for.
    #[inline(always)]
    pub(crate) fn reserve(&self, bytes: u32) -> Reserved {
        self.ring.reserve_unasked(ring::taken(u64::from(bytes)))
    }

    /// Leaves; the record is in the ring.
    #[inline(always)]
    pub(crate) fn leave(self) {
        self.scope.settle(Kind::Syscall, true, 0);
        self.scope.leave();
    }
}

/// Whether names of processes follow from it.
#[inline(always)]
fn says_processes(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ProcessFork
            | Kind::ProcessExec
            | Kind::ProcessExit
            | Kind::ProcessRename
            | Kind::ProcessReap
            | Kind::CgroupAttach
    )
}

/// Counts one of a kind. Calls only happen in task context, whose programs do not meet on
/// a CPU: an atomic addition costs as much as all else that is counted of a call.
///
/// # Safety
/// `counter` points into the counters of this CPU.
#[inline(always)]
unsafe fn count(kind: Kind, counter: *mut u64) {
    if matches!(kind, Kind::Syscall) {
        // SAFETY: the caller vouches for it.
        unsafe { *counter += 1 };
    } else {
        add(counter, 1);
    }
}

/// Puts what was lost since the last record before the next one, so that a loss
/// has its place in the stream. Only the outermost program does so: an interrupt
/// in between would report the same losses twice.
///
/// # Safety
/// `ring` and `counters` are those of this CPU.
#[inline(always)]
pub(crate) unsafe fn flush_losses(ring: Ring, counters: *mut Counters) {
    // SAFETY: the caller vouches for both.
    unsafe {
        if (*counters).pending_lost != 0 {
            tell_losses(ring, counters);
        }
    }
}

/// A function of its own: its record lies on the stack, and programs that call one another
/// have 512 bytes together.
///
/// # Safety
/// As for `flush_losses`.
#[inline(never)]
unsafe fn tell_losses(ring: Ring, counters: *mut Counters) {
    // SAFETY: map values of this CPU.
    unsafe {
        let count = (*counters).pending_lost;
        // Read later: an interrupt in between makes it too large at worst, and the next
        // record too small.
        let process_events = (*counters).pending_lost_process;
        let mut loss = record::Lost {
            header: header(Kind::Lost, (*counters).pending_first_ns, 0),
            reason: lost::RING_FULL,
            count,
            until_ns: (*counters).pending_last_ns,
            process_events,
        };
        let bytes = size_of::<record::Lost>() as u64;
        if ring.put((&raw mut loss).cast(), bytes, Offer::Loss) {
            add(&raw mut (*counters).pending_lost, count.wrapping_neg());
            add(&raw mut (*counters).pending_lost_process, process_events.wrapping_neg());
        }
    }
}

/// The header of a record without attachments, of the thread `pid_tgid`.
#[inline(always)]
pub(crate) fn header(kind: Kind, ts_ns: u64, pid_tgid: u64) -> Header {
    Header {
        bytes: kind.schema().fixed_bytes as u16,
        kind: kind as u8,
        args: 0,
        flags: 0,
        attachments: 0,
        reserved: 0,
        seq: 0,
        skipped: 0,
        ts_ns,
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}
