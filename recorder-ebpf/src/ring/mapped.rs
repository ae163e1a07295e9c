//! A ring in a value of an array map that the recorder has mapped: it is read without a
//! system call and written without a helper's. See `wire::ring` for how it lies there.

use core::{
    ffi::c_void,
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_kernel, bpf_ringbuf_output},
};
use recorder_ebpf::wire::{Counters, RECORD_BYTES_MAX, RingControl, ring};

use super::Offer;
use crate::{
    maps::{CALLS_BYTES_MAX, DOORBELL, RING_BYTES_MAX, RING_KEY, RING_MASK, RINGS, WAKE_BYTES},
    probes::bound,
};

/// The ring of this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    control: *mut RingControl,
}

impl Ring {
    /// The ring of this CPU; `None` only if the map had no value, which cannot be.
    #[inline(always)]
    pub(crate) fn of_this_cpu(_counters: *mut Counters) -> Option<Ring> {
        // SAFETY: the helper only reads the CPU's number.
        let value = RINGS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
        Some(Ring { control: value.cast() })
    }

    /// Puts a record of `bytes` bytes into the ring. Answers whether there was room.
    ///
    /// # Safety
    /// `record` points to `bytes` readable bytes that the verifier accepts.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, record: *mut c_void, bytes: u64, offer: Offer) -> bool {
        let Some(reserved) = self.reserve(ring::taken(bytes), offer) else { return false };
        let bytes = bound(bytes as u32, 2 * RECORD_BYTES_MAX as u32 - 1);
        let bytes = if bytes > RECORD_BYTES_MAX as u32 { 0 } else { bytes };
        // SAFETY: the reservation has room for as many bytes; the caller vouches for
        // `record`.
        unsafe { bpf_probe_read_kernel(reserved.record().cast(), bytes, record) };
        reserved.publish();
        true
    }

    /// Whether a record that takes so many bytes leaves the ring less than half full, as far
    /// as was asked.
    #[inline(always)]
    pub(crate) fn has_room_unasked(&self, takes: u64) -> bool {
        let control = self.control;
        // SAFETY: the control page is in the value that the verifier knows. Volatile: an
        // interrupt may have changed it.
        unsafe { (&raw const (*control).head).read_volatile() + takes <= (*control).unasked_until }
    }

    /// Takes room for a record. Whoever does publishes it, in any case.
    #[inline(always)]
    fn reserve(&self, takes: u64, offer: Offer) -> Option<Reserved> {
        let control = self.control;
        let mut wake = matches!(offer, Offer::Mark);
        // SAFETY: as above; only programs on this CPU write what is written here.
        unsafe {
            if !self.has_room_unasked(takes) {
                let tail = (&raw const (*control).tail).read_volatile();
                let held = (&raw const (*control).head).read_volatile() - tail + takes;
                let held_max = match offer {
                    Offer::Call => CALLS_BYTES_MAX.load(),
                    Offer::Event | Offer::Loss | Offer::Mark => RING_BYTES_MAX.load(),
                };
                if held > u64::from(held_max) {
                    return None;
                }
                let wake_bytes = u64::from(WAKE_BYTES.load());
                if held <= wake_bytes {
                    (*control).unasked_until = tail + wake_bytes;
                } else if (*control).woken_at != tail + 1 && !matches!(offer, Offer::Loss) {
                    // Once since the reader's last visit: a wake-up costs a hundred times
                    // what a record costs. One more than the position: 0 means never.
                    (*control).woken_at = tail + 1;
                    wake = true;
                }
            }
        }
        Some(Reserved { wake, ..self.reserve_unasked(takes) })
    }

    /// Takes room that is there.
    #[inline(always)]
    pub(crate) fn reserve_unasked(&self, takes: u64) -> Reserved {
        let control = self.control;
        // An interrupt that comes between looking and taking finds the room taken, or takes
        // its own before: for two of them there is room beyond what was asked for. Not
        // relaxed: LLVM makes of that an addition that does not answer.
        // SAFETY: as above.
        let position = unsafe {
            core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::AcqRel }>(
                &raw mut (*control).head,
                takes,
            )
        };
        let place = bound(position as u32, RING_MASK.load());
        let at = control.cast::<u8>().wrapping_add(ring::CONTROL_BYTES + place as usize);
        Reserved { at, position, wake: false }
    }
}

/// Room that was taken for a record.
#[must_use]
pub(crate) struct Reserved {
    at: *mut u8,
    position: u64,
    wake: bool,
}

impl Reserved {
    /// Where the record is written: as many bytes as were asked for, or, which only the
    /// verifier needs to know, as the longest record has.
    #[inline(always)]
    pub(crate) fn record(&self) -> *mut u8 {
        self.at.wrapping_add(ring::POSITION_BYTES)
    }

    /// The record is whole: the reader sees all that was written before.
    #[inline(always)]
    pub(crate) fn publish(self) {
        let word = self.at.cast::<u64>();
        let published = ring::published(self.position, RING_KEY.load());
        compiler_fence(Ordering::SeqCst);
        // x86 keeps the order of stores; elsewhere an exchange is a barrier (BPF atomics
        // that answer are fully ordered, Documentation/bpf/standardization/instruction-set.rst).
        // SAFETY: `word` is in the value that the verifier knows.
        unsafe {
            #[cfg(bpf_target_arch = "x86_64")]
            word.write_volatile(published);
            #[cfg(not(bpf_target_arch = "x86_64"))]
            core::intrinsics::atomic_xchg::<u64, { core::intrinsics::AtomicOrdering::SeqCst }>(
                word, published,
            );
        }
        if self.wake {
            wake();
        }
    }
}

/// Rings for the reader.
#[inline(always)]
fn wake() {
    let mut rings = 1u64;
    let flags = u64::from(BPF_RB_FORCE_WAKEUP);
    let doorbell = (&raw const DOORBELL).cast_mut().cast();
    // SAFETY: a ring and eight bytes. A full one has been rung, and nobody has come yet.
    unsafe { bpf_ringbuf_output(doorbell, (&raw mut rings).cast(), 8, flags) };
}
