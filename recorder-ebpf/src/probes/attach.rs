//! What a call points to, read at its exit into the record: strings, addresses,
//! structures, lists, and what a structure points to in turn.
//!
//! One program serves all calls: the plan names up to four places in `READINGS`, and
//! each of them is read by the same instructions. Not a loop: kernels before 6.8 refuse
//! one that the compiler enters by falling through (`back-edge`).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use recorder_ebpf::{
    schema::record,
    wire::{
        AttachmentHead, MEMORY_BYTES_MAX, RECORD_BYTES_MAX, Reading, SYSCALL_ATTACHMENTS_MAX,
        attachment_flag, attachment_part, flag,
        plan::{self, READINGS_MAX, special},
        reading, when,
    },
};

#[cfg(feature = "btf")]
use super::files::data_class;
use super::{STRING_READ_BYTES, bound, string_answer, syscall::Call};
use crate::maps::{EXEC_PATHS, READINGS, SCRATCH_BYTES, SELECTED};

/// Nobody's data: it is not known whose, or the environment may be in it.
pub(super) const CLASS_NONE: u32 = 0;
/// What lies in files, pipes and terminals.
pub(super) const CLASS_FILE: u32 = 1;
/// What goes over sockets.
pub(super) const CLASS_NETWORK: u32 = 2;

/// Whose data goes through a descriptor: this kernel does not say.
#[cfg(not(feature = "btf"))]
fn data_class(_fd: u32) -> u32 {
    CLASS_NONE
}

/// How far the attachments of a record have come.
#[derive(Clone, Copy)]
pub(crate) struct Attaching {
    /// Bytes of the record so far.
    pub(crate) at: u32,
    /// Attachments so far.
    pub(crate) count: u32,
    /// Where the head of the last structure lies that others may follow; 0 for none.
    pub(crate) base: u32,
}

/// The plan of a call, where an argument says what the others are.
#[inline(always)]
pub(super) fn selected(scratch: *mut u8, plan: u64, index: u32) -> u64 {
    let (arg, mask) = plan::selector(plan);
    let value = word(scratch, arg) as u32 & mask;
    let key = plan::selected_key(index, value);
    // SAFETY: nothing changes an entry while it is read but the recorder, as a whole.
    match unsafe { SELECTED.get(&key) } {
        Some(other) => *other | plan & plan::FILES,
        None => plan::without_selector(plan),
    }
}

/// Reads what the plan names.
#[inline(always)]
pub(super) fn attach_all(scratch: *mut u8, plan: u64, args: u32, call: &Call) -> Attaching {
    const { assert!(SYSCALL_ATTACHMENTS_MAX == 4) };
    let fixed = size_of::<record::Syscall>() as u32;
    let mut attaching = Attaching { at: fixed + 8 * args, count: 0, base: 0 };
    let special = plan::special_of(plan);
    let what = plan >> plan::shift(0);
    if what != 0 {
        attaching = attach_one(scratch, special, what, call, attaching);
        if what >> 12 != 0 {
            attaching = attach_one(scratch, special, what >> 12, call, attaching);
            if what >> 24 != 0 {
                attaching = attach_one(scratch, special, what >> 24, call, attaching);
                if what >> 36 != 0 {
                    attaching = attach_one(scratch, special, what >> 36, call, attaching);
                }
            }
        }
    }
    attaching.at = bound(attaching.at, RECORD_BYTES_MAX as u32 - 1);
    attaching
}

/// Reads one thing; `what` is the plan from its place on.
#[inline(always)]
fn attach_one(
    scratch: *mut u8,
    special: u64,
    what: u64,
    call: &Call,
    attaching: Attaching,
) -> Attaching {
    let arg = what as u32 & 7;
    let Some(reading) = READINGS.get(bound(what as u32 >> 3, READINGS_MAX - 1)) else {
        return attaching;
    };
    // A call that has no result has not succeeded.
    let ret = if call.flags & flag::NO_RETURN == 0 { call.ret } else { -1 };
    if !when::holds(reading.when, ret) {
        return attaching;
    }
    let mut bytes_max = reading.bytes_max;
    if reading.is_data != 0 {
        bytes_max = match data_class(word(scratch, 0) as u32) {
            CLASS_FILE => bytes_max,
            CLASS_NETWORK => reading.network_bytes_max,
            _ => 0,
        };
        if bytes_max == 0 {
            return attaching;
        }
    }
    let Some(memory) = memory_of(scratch, reading, arg, call, attaching.base) else {
        return attaching;
    };
    // Through memory, after which the verifier knows nothing of them: the ways that led
    // here are one way for it, and not their product over four attachments.
    let at = forget(scratch, 0, u64::from(attaching.at)) as u32;
    let pointer = forget(scratch, 1, memory.pointer);
    let start = bound(at, RECORD_BYTES_MAX as u32 - 1);
    let head = scratch.wrapping_add(start as usize);
    let body = head.wrapping_add(size_of::<AttachmentHead>());
    let (length, flags) =
        if reading.kind == reading::STRING || reading.kind == reading::FOLLOW_STRING {
            read_string(body, pointer, call, special)
        } else {
            let bytes = forget(scratch, 2, memory.bytes);
            read_bytes(body, pointer, bytes, bytes_max)
        };
    let length = forget(scratch, 3, u64::from(length)) as u32;
    // SAFETY: `start` is below `RECORD_BYTES_MAX` and the buffer goes on for more
    // than a head behind it.
    unsafe {
        head.cast::<AttachmentHead>().write_unaligned(AttachmentHead {
            index: attachment_part(arg as u8, reading.part),
            flags,
            bytes: length as u16,
        });
    }
    let at = start + size_of::<AttachmentHead>() as u32 + (length + 3 & !3);
    let base = if reading.part != 0 {
        attaching.base
    } else if flags & attachment_flag::UNREADABLE == 0 {
        start
    } else {
        0
    };
    Attaching { at, count: attaching.count + 1, base }
}

/// Where something lies in the memory of the process, and how long it is.
struct Memory {
    pointer: u64,
    bytes: u64,
}

/// Finds out; `None` when there is nothing to be read.
#[inline(always)]
fn memory_of(
    scratch: *mut u8,
    reading: &Reading,
    arg: u32,
    call: &Call,
    base: u32,
) -> Option<Memory> {
    let kind = reading.kind;
    let element = u64::from(reading.element_bytes);
    let mut pointer = word(scratch, arg);
    let mut count = 1u64;
    if kind >= reading::FOLLOW {
        if base == 0 {
            return None;
        }
        let head = scratch.wrapping_add(bound(base, RECORD_BYTES_MAX as u32 - 1) as usize);
        // What lies behind its length belongs to another record.
        // SAFETY: `base` is where a head was written.
        let held = unsafe { head.wrapping_add(2).cast::<u16>().read() };
        if u32::from(held) < u32::from(reading.pointer_at) + 8 {
            return None;
        }
        let base = head.wrapping_add(size_of::<AttachmentHead>());
        let low = half(base, reading.pointer_at);
        let high =
            if reading.narrow == 0 { half(base, reading.pointer_at.wrapping_add(4)) } else { 0 };
        pointer = u64::from(low) | u64::from(high) << 32;
        count = u64::from(half(base, reading.count_at));
    } else if kind == reading::RESULT {
        count = call.ret as u64 & 0xffff_ffff;
    } else if kind == reading::INSIDE {
        count = u64::from(user_half(pointer.wrapping_add(u64::from(reading.count_at))));
    } else if kind >= reading::ARGUMENT {
        let value = word(scratch, u32::from(reading.count_at));
        if kind == reading::POINTED {
            count = u64::from(user_half(value));
        } else if kind == reading::BITS {
            count = (value & 0xffff_ffff) + 63 >> 6;
        } else {
            count = value & 0xffff_ffff;
        }
    }
    if pointer == 0 { None } else { Some(Memory { pointer, bytes: element * count }) }
}

/// A value that the verifier knows nothing of: it went through the end of the buffer.
#[inline(always)]
fn forget(scratch: *mut u8, place: usize, value: u64) -> u64 {
    // The end of the notes, which nobody else uses.
    let words = scratch.wrapping_add(SCRATCH_BYTES - 32).cast::<u64>();
    // SAFETY: `place` is below 4, within the buffer; volatile, so that the compiler
    // does not know better than the verifier shall.
    unsafe {
        words.wrapping_add(place).write_volatile(value);
        words.wrapping_add(place).read_volatile()
    }
}

/// How far the attachments have come by whatever way, and the plan: what comes behind is one
/// way to the verifier, and not one for each number of attachments and each kind of call.
#[cfg(feature = "btf")]
#[inline(always)]
pub(super) fn forget_ways(scratch: *mut u8, attaching: Attaching, plan: u64) -> (Attaching, u64) {
    let at = forget(scratch, 0, u64::from(attaching.at)) as u32;
    let count = forget(scratch, 1, u64::from(attaching.count)) as u32;
    let plan = forget(scratch, 2, plan);
    (Attaching { at: bound(at, RECORD_BYTES_MAX as u32 - 1), count, base: 0 }, plan)
}

/// An argument, from the words already in the buffer.
#[inline(always)]
pub(super) fn word(scratch: *mut u8, arg: u32) -> u64 {
    let words = scratch.wrapping_add(size_of::<record::Syscall>()).cast::<u64>();
    // SAFETY: at most eight words into a buffer of kilobytes.
    unsafe { words.wrapping_add(bound(arg, 7) as usize).read() }
}

/// Half a word of a structure in the buffer; structures lie at multiples of four.
#[inline(always)]
fn half(base: *mut u8, offset: u8) -> u32 {
    let offset = bound(u32::from(offset), 0xfc) as usize;
    // SAFETY: the buffer goes on for kilobytes behind every structure.
    unsafe { base.wrapping_add(offset).cast::<u32>().read() }
}

/// Half a word of the process; 0 when it cannot be read.
#[inline(always)]
fn user_half(pointer: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: `value` is as long as is read; the helper leaves it alone or fills it.
    unsafe { bpf_probe_read_user((&raw mut value).cast(), 4, pointer as *const c_void) };
    value
}

#[inline(always)]
pub(super) fn read_bytes(body: *mut u8, pointer: u64, bytes: u64, bytes_max: u16) -> (u32, u8) {
    let is_cut = bytes > u64::from(bytes_max);
    let length = if is_cut { u32::from(bytes_max) } else { bytes as u32 };
    let length = bound(length, MEMORY_BYTES_MAX as u32);
    // SAFETY: the buffer goes on for more than `MEMORY_BYTES_MAX` behind every `body`.
    let answer = unsafe { bpf_probe_read_user(body.cast(), length, pointer as *const c_void) };
    if answer < 0 {
        return (0, attachment_flag::UNREADABLE);
    }
    (length, if is_cut { attachment_flag::CUT } else { 0 })
}

#[inline(always)]
fn read_string(body: *mut u8, pointer: u64, call: &Call, special: u64) -> (u32, u8) {
    let size = STRING_READ_BYTES;
    if special == special::EXEC {
        // The memory of a caller that succeeded is gone: what entry read is all there
        // is. Taken out in any case, so that no later exec can meet it.
        let answer = match EXEC_PATHS.get_ptr_mut(&call.task) {
            // SAFETY: a map value; the helper stops at the NUL or at `size`.
            Some(saved) if call.ret == 0 => unsafe {
                if (*saved).answer < 0 {
                    (*saved).answer
                } else {
                    bpf_probe_read_kernel_str(body.cast(), size, (&raw const (*saved).bytes).cast())
                }
            },
            _ => -1,
        };
        let _ = EXEC_PATHS.remove(&call.task);
        if call.ret == 0 {
            return string_answer(answer);
        }
    }
    // SAFETY: the buffer goes on for `size` bytes behind every `body`.
    string_answer(unsafe { bpf_probe_read_user_str(body.cast(), size, pointer as *const c_void) })
}
