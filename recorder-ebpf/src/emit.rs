//! The only way into a ring: count, reserve, write, or count as lost.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{
        bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output, bpf_ringbuf_query,
    },
};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{Counters, Header, PerCpu, lost},
};

use crate::maps::{CONFIG, COUNTERS, RINGS};

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
    /// `record` points to `bytes` readable bytes that the verifier accepts.
    #[inline(always)]
    pub(crate) unsafe fn offer(
        &self,
        kind: Kind,
        record: *mut c_void,
        bytes: u64,
        ts_ns: u64,
    ) -> bool {
        // SAFETY: a map value of this CPU.
        let counters = unsafe { &raw mut (*self.per_cpu).counters };
        let place = kind as usize;
        // SAFETY: `place` is below `KINDS_MAX` for every kind.
        unsafe { count(kind, &raw mut (*counters).seen[place]) };
        // SAFETY: the helper only reads the CPU's number.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        if let Some(ring) = RINGS.get(cpu) {
            let ring = ptr::from_ref(ring).cast_mut().cast::<c_void>();
            if self.outermost {
                // SAFETY: `counters` belongs to this CPU, `ring` too.
                unsafe { flush_losses(ring, counters) };
            }
            // SAFETY: the caller vouches for `record`; the helper reads positions of a ring
            // the verifier knows.
            let stored = unsafe {
                let room = room_of(ring, counters, bytes);
                (room.calls || !matches!(kind, Kind::Syscall))
                    && bpf_ringbuf_output(ring, record, bytes, room.wake) == 0
            };
            if stored {
                // SAFETY: as above.
                unsafe { count(kind, &raw mut (*counters).stored[place]) };
                return true;
            }
        }
        // SAFETY: as above. The two times are plain stores: an interrupt between
        // them can only widen the interval by its own, later loss.
        unsafe {
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
        false
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

/// What a ring can take.
struct Room {
    /// Whether it takes system calls. Under overload they are lost first: a lost end or
    /// exec would give its number's next events to a wrong program.
    calls: bool,
    /// The flag that wakes the reader, or not.
    wake: u64,
}

/// A record in a ring has a head of 8 bytes, and takes a multiple of 8
/// (kernel/bpf/ringbuf.c, Linux 6.18).
const RING_HEAD_BYTES: u64 = 8;

/// What a record of `bytes` takes, or up to 8 bytes more.
///
/// The sum begins with the constant: where a constant is added to a copy of `bytes`, the
/// verifier of 6.12 learns of `bytes` from what is learnt of the sum, and forgets its bound
/// (`sync_linked_regs`, kernel/bpf/verifier.c).
#[inline(always)]
fn taken(bytes: u64) -> u64 {
    let mut sum = 2 * RING_HEAD_BYTES;
    // SAFETY: one instruction on two registers.
    unsafe {
        core::arch::asm!(
            "{sum} += {bytes}",
            sum = inout(reg) sum,
            bytes = in(reg) bytes,
            options(pure, nomem, nostack)
        );
    }
    sum
}

/// Looks whether there is room for a record of `bytes`. Asking the ring costs a call and
/// the reader's cache line, so it is asked again only when it may be half full.
///
/// # Safety
/// `ring` and `counters` are those of this CPU.
#[inline(always)]
unsafe fn room_of(ring: *mut c_void, counters: *mut Counters, bytes: u64) -> Room {
    let no_wake = u64::from(BPF_RB_NO_WAKEUP);
    let takes = taken(bytes);
    // SAFETY: map values of this CPU.
    unsafe {
        let unasked = (*counters).unasked_bytes;
        if unasked >= takes {
            (*counters).unasked_bytes = unasked - takes;
            return Room { calls: true, wake: no_wake };
        }
        let Some(config) = CONFIG.get(0) else { return Room { calls: true, wake: no_wake } };
        let held = bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA));
        if held + takes <= config.wake_bytes {
            (*counters).unasked_bytes = config.wake_bytes - held - takes;
            return Room { calls: true, wake: no_wake };
        }
        Room {
            calls: held <= config.calls_bytes_max,
            wake: wake_flag(ring, counters, held, config.wake_bytes),
        }
    }
}

/// Wakes the reader once when the ring passes the mark since its last visit:
/// a wake-up costs a hundred times what a record costs.
///
/// # Safety
/// `ring` and `counters` are those of this CPU.
#[inline(always)]
unsafe fn wake_flag(ring: *mut c_void, counters: *mut Counters, held: u64, wake_bytes: u64) -> u64 {
    if held > wake_bytes {
        // SAFETY: as above.
        let visited = unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_CONS_POS)) };
        // SAFETY: a map value of this CPU. One more than the position, so that 0 means
        // never.
        unsafe {
            if (*counters).woken_at != visited + 1 {
                (*counters).woken_at = visited + 1;
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    u64::from(BPF_RB_NO_WAKEUP)
}

/// Puts what was lost since the last record before the next one, so that a loss
/// has its place in the stream. Only the outermost program does so: an interrupt
/// in between would report the same losses twice.
///
/// # Safety
/// `ring` and `counters` are those of this CPU.
#[inline(always)]
pub(crate) unsafe fn flush_losses(ring: *mut c_void, counters: *mut Counters) {
    // SAFETY: map values of this CPU.
    unsafe {
        let count = (*counters).pending_lost;
        if count == 0 {
            return;
        }
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
        let flags = u64::from(BPF_RB_NO_WAKEUP);
        if bpf_ringbuf_output(ring, (&raw mut loss).cast(), bytes, flags) == 0 {
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
