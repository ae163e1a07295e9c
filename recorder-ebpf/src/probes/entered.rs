//! What the kernel changes in the memory of a caller, read before it does: the time of a
//! `select`, of which the kernel leaves there what is left, its sets of descriptors, the
//! offset of a `sendfile`. Entry puts it into the thread's slot, exit into the record.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use recorder_ebpf::wire::{
    AttachmentHead, ENTERED_PLACE_MAX, RECORD_BYTES_MAX, Reading, SLOT_ENTERED,
    SYSCALL_ATTACHMENTS_MAX, Slot, attachment_flag, attachment_part, flag,
    plan::{self, READINGS_MAX},
    reading, when,
};

use super::{
    attach::{Attaching, read_bytes, word},
    bound,
    syscall::{Call, own_slot},
};
use crate::maps::{READINGS, SCRATCH};

/// Entry: reads what the plan of a call says is to be read then.
#[inline(always)]
pub(super) fn keep_entered(slot: *mut Slot, plan: u64) {
    const { assert!(SYSCALL_ATTACHMENTS_MAX == 4) };
    // Not a loop: see `attach_all`.
    keep_one(slot, plan::attachment(plan, 0));
    keep_one(slot, plan::attachment(plan, 1));
    keep_one(slot, plan::attachment(plan, 2));
    keep_one(slot, plan::attachment(plan, 3));
}

/// Memory that is not there is not fetched: a program here cannot wait for a page. That is
/// marked, and at exit it is too late.
#[inline(always)]
fn keep_one(slot: *mut Slot, (arg, place): (u32, u32)) {
    let Some(reading) = READINGS.get(bound(place, READINGS_MAX - 1)) else { return };
    if reading.when < when::ENTERED {
        return;
    }
    let at = bound(u32::from(reading.entered_at), u32::from(ENTERED_PLACE_MAX));
    // SAFETY: the slot of the current thread; there are two words from the last `at`, and
    // what stands behind the arguments is in the slot as well. The helper checks the address.
    unsafe {
        let args = (&raw const (*slot).args).cast::<u64>();
        let pointer = args.wrapping_add(bound(arg, 7) as usize).read();
        let word = (&raw mut (*slot).entered).cast::<u64>().wrapping_add(at as usize);
        let pointer = pointer as *const c_void;
        let answer = if reading.element_bytes > 8 {
            bpf_probe_read_user(word.cast(), 16, pointer)
        } else if reading.element_bytes > 4 {
            bpf_probe_read_user(word.cast(), 8, pointer)
        } else {
            bpf_probe_read_user(word.cast(), 4, pointer)
        };
        if answer == 0 {
            (*slot).flags |= 1 << (SLOT_ENTERED + at);
        }
    }
}

/// Exit: attaches what entry read, and what follows from it.
#[inline(always)]
pub(super) fn attach_entered(plan: u64, call: &Call, attaching: Attaching) -> Attaching {
    // A call that has no result has changed nothing.
    let ret = if call.flags & flag::NO_RETURN == 0 { call.ret } else { -1 };
    let answer = attach_all_entered(attaching.at, plan, ret, u32::from(call.flags));
    let (at, count) = (answer & 0xffff, answer >> 16);
    Attaching { at, count: attaching.count + count, ..attaching }
}

/// Attaches all of it at `at`; answers where it ends, and how many there are above the low
/// half.
///
/// A global function to the verifier, as the next, which looks at each of them once by
/// itself: inlined among what is attached anyway the ways through both multiply, to about
/// the million steps there are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn attach_all_entered(at: u32, plan: u64, ret: i64, flags: u32) -> u32 {
    const { assert!(SYSCALL_ATTACHMENTS_MAX == 4) };
    let start = bound(at, RECORD_BYTES_MAX as u32 - 1);
    let first = attach_one_entered(start, plan >> plan::shift(0), ret, flags);
    let second = attach_one_entered(first, plan >> plan::shift(1), ret, flags);
    let third = attach_one_entered(second, plan >> plan::shift(2), ret, flags);
    let fourth = attach_one_entered(third, plan >> plan::shift(3), ret, flags);
    let end = bound(fourth, RECORD_BYTES_MAX as u32 - 1);
    let count = u32::from(first != start)
        + u32::from(second != first)
        + u32::from(third != second)
        + u32::from(fourth != third);
    end | count << 16
}

/// Attaches what the plan names from the low bits of `what` on, if it is read that way;
/// answers where it ends.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn attach_one_entered(at: u32, what: u64, ret: i64, flags: u32) -> u32 {
    let at = bound(at, RECORD_BYTES_MAX as u32 - 1);
    let (arg, place) = (what as u32 & 7, bound(what as u32 >> 3, READINGS_MAX - 1));
    let Some(reading) = READINGS.get(place) else { return at };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return at };
    let scratch = scratch.cast::<u8>();
    let pointer = word(scratch, arg);
    let is_version = reading.kind == reading::VERSION;
    if pointer == 0 || !is_version && reading.when < when::ENTERED {
        return at;
    }
    let slot = if flags & u32::from(flag::NO_ENTRY) == 0 { own_slot() } else { None };
    let head = scratch.wrapping_add(at as usize);
    let body = head.wrapping_add(size_of::<AttachmentHead>());
    let (length, flags) = if is_version {
        let sets = capability_sets(slot);
        // The kernel does not look at what its version does not tell.
        if sets == 0 || !when::holds(reading.when, ret) {
            return at;
        }
        let bytes = u64::from(reading.element_bytes) * u64::from(sets);
        read_bytes(body, pointer, bytes, reading.bytes_max)
    } else {
        let mut bytes = u64::from(reading.element_bytes);
        if reading.kind == reading::BITS {
            let count = word(scratch, u32::from(reading.count_at)) & 0xffff_ffff;
            bytes *= count + 63 >> 6;
        }
        match slot {
            _ if bytes == 0 => (0, attachment_flag::ENTERED),
            Some(slot) => read_entered(body, slot, pointer, bytes, reading, ret),
            None => (0, attachment_flag::UNREADABLE),
        }
    };
    // SAFETY: `at` is below `RECORD_BYTES_MAX`, and the buffer goes on behind it.
    unsafe {
        head.cast::<AttachmentHead>().write_unaligned(AttachmentHead {
            index: attachment_part(arg as u8, reading.part),
            flags,
            bytes: length as u16,
        });
    }
    at + size_of::<AttachmentHead>() as u32 + (length + 3 & !3)
}

/// How many sets of capabilities a call has whose header was read at entry.
#[inline(always)]
fn capability_sets(slot: Option<*mut Slot>) -> u32 {
    let Some(slot) = slot else { return 0 };
    // SAFETY: the slot is that of the current thread.
    let (version, flags) =
        unsafe { ((&raw const (*slot).entered).cast::<u32>().read(), (*slot).flags) };
    if flags >> SLOT_ENTERED & 1 == 0 {
        return 0;
    }
    recorder_ebpf::wire::capability_sets(version)
}

/// Writes one element as it was passed, and behind it `bytes` of what stands there now when
/// the call may have changed them. Answers how much that is, and flags.
#[inline(always)]
fn read_entered(
    body: *mut u8,
    slot: *mut Slot,
    pointer: u64,
    bytes: u64,
    reading: &Reading,
    ret: i64,
) -> (u32, u8) {
    let at = bound(u32::from(reading.entered_at), u32::from(ENTERED_PLACE_MAX));
    let (is_half, is_long) = (reading.element_bytes <= 4, reading.element_bytes > 8);
    // SAFETY: the slot is that of the current thread, and has two words from every `at` on;
    // the buffer goes on for more than that behind every `body`, which lies at a multiple of
    // four.
    unsafe {
        if (*slot).flags >> (SLOT_ENTERED + at) & 1 == 0 {
            return (0, attachment_flag::UNREADABLE);
        }
        let from = (&raw const (*slot).entered).cast::<u64>().wrapping_add(at as usize);
        let (from, to) = (from.cast::<u32>(), body.cast::<u32>());
        to.write(from.read());
        to.wrapping_add(1).write(from.wrapping_add(1).read());
        if is_long {
            to.wrapping_add(2).write(from.wrapping_add(2).read());
            to.wrapping_add(3).write(from.wrapping_add(3).read());
        }
    }
    let passed = if is_long {
        16
    } else if is_half {
        4
    } else {
        8
    };
    let cut = if bytes > u64::from(passed) { attachment_flag::CUT } else { 0 };
    // Sets are written when something was found (`core_sys_select`, fs/select.c).
    let is_left = reading.kind != reading::BITS || ret > 0;
    let mut length = passed;
    if reading.when == when::CHANGED && when::is_changed(ret) && is_left {
        let body = body.wrapping_add(bound(passed, 31) as usize);
        length += read_bytes(body, pointer, bytes, reading.bytes_max).0;
    }
    (length, attachment_flag::ENTERED | cut)
}
