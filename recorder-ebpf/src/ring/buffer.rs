//! A BPF ring buffer for each CPU, for kernels without BTF, among them those before 5.12,
//! which have no atomic addition that answers what was there.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output, bpf_ringbuf_query},
};
use recorder_ebpf::wire::Counters;

use super::Offer;
use crate::maps::{CALLS_BYTES_MAX, RINGS, WAKE_BYTES};

/// The ring of this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    map: *mut c_void,
    counters: *mut Counters,
}

impl Ring {
    /// The ring of the CPU whose counters these are; `None` only if the map had no value,
    /// which cannot be.
    #[inline(always)]
    pub(crate) fn of_this_cpu(counters: *mut Counters) -> Option<Ring> {
        // SAFETY: the helper only reads the CPU's number.
        let ring = RINGS.get(unsafe { bpf_get_smp_processor_id() })?;
        Some(Ring { map: ptr::from_ref(ring).cast_mut().cast(), counters })
    }

    /// Puts a record of `bytes` bytes into the ring. Answers whether there was room.
    ///
    /// # Safety
    /// `record` points to `bytes` readable bytes that the verifier accepts.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, record: *mut c_void, bytes: u64, offer: Offer) -> bool {
        let wake = match offer {
            Offer::Mark => u64::from(BPF_RB_FORCE_WAKEUP),
            Offer::Loss => u64::from(BPF_RB_NO_WAKEUP),
            Offer::Call | Offer::Event => {
                // SAFETY: a ring and counters of this CPU.
                let room = unsafe { self.room_of(bytes) };
                if !room.calls && matches!(offer, Offer::Call) {
                    return false;
                }
                room.wake
            }
        };
        // SAFETY: the caller vouches for `record`.
        unsafe { bpf_ringbuf_output(self.map, record, bytes, wake) == 0 }
    }

    /// Looks whether there is room for a record of `bytes`. Asking the ring costs a call
    /// and the reader's cache line, so it is asked again only when it may be half full.
    ///
    /// # Safety
    /// The ring and the counters are those of this CPU.
    #[inline(always)]
    unsafe fn room_of(&self, bytes: u64) -> Room {
        let (ring, counters) = (self.map, self.counters);
        let no_wake = u64::from(BPF_RB_NO_WAKEUP);
        let takes = taken(bytes);
        // SAFETY: map values of this CPU.
        unsafe {
            let unasked = (*counters).unasked_bytes;
            if unasked >= takes {
                (*counters).unasked_bytes = unasked - takes;
                return Room { calls: true, wake: no_wake };
            }
            let wake_bytes = u64::from(WAKE_BYTES.load());
            let held = bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA));
            if held + takes <= wake_bytes {
                (*counters).unasked_bytes = wake_bytes - held - takes;
                return Room { calls: true, wake: no_wake };
            }
            Room {
                calls: held <= u64::from(CALLS_BYTES_MAX.load()),
                wake: wake_flag(ring, counters, held, wake_bytes),
            }
        }
    }
}

/// What a ring can take.
struct Room {
    /// Whether it takes system calls.
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
