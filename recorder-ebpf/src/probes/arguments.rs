//! The arguments of an exec that failed: they are still in memory when it returns. Of one
//! that succeeded `process_exec` has them, as the kernel put them into the new memory.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use recorder_ebpf::wire::{
    AttachmentHead, EXEC_ARGS_BYTES_MAX, RECORD_BYTES_MAX, STRING_BYTES_MAX, attachment_flag, flag,
    plan,
};

use super::{
    attach::{Attaching, word},
    bound,
    syscall::Call,
};
use crate::maps::{NOTES_AT, NOTES_BYTES, SCRATCH};

/// What is written down on the way through the list, in the place of other notes: an exec
/// that failed leaves nothing behind that these are about.
#[repr(C)]
struct List {
    /// Where the list of pointers lies in the memory of the process.
    pointer: u64,
    /// Not 0 when its pointers have four bytes.
    narrow: u32,
    /// Where the first string goes.
    start: u32,
    /// Bytes so far.
    used: u32,
    /// [`attachment_flag`] bits.
    flags: u32,
}

const _: () = assert!(size_of::<List>() <= NOTES_BYTES);

/// The last byte a string can be read to.
const END_MAX: usize = 2 * STRING_BYTES_MAX + EXEC_ARGS_BYTES_MAX + 2 * EXEC_ARGS_BYTES_MAX;
const _: () = assert!(END_MAX <= NOTES_AT);

#[inline(always)]
fn list(scratch: *mut u8) -> *mut List {
    scratch.wrapping_add(NOTES_AT).cast()
}

/// Attaches the arguments of an exec that failed, as the memory of a program that starts has
/// them: strings one after the other, each with its NUL, as many bytes as are kept there, and
/// not more than 256 strings.
#[inline(always)]
pub(super) fn attach_arguments(
    scratch: *mut u8,
    plan: u64,
    call: &Call,
    attaching: Attaching,
) -> Attaching {
    // They stand behind the path.
    let arg = plan::attachment(plan, 0).0 + 1;
    let pointer = word(scratch, arg);
    let at = read_arguments(attaching.at, arg, pointer, u32::from(call.flags), call.ret);
    Attaching { at, count: attaching.count + u32::from(at != attaching.at), ..attaching }
}

/// Attaches a list at `start`; answers where it ends, which is `start` when there is none or
/// the call has not failed.
///
/// A global function to the verifier, as those below: it looks at each of them once by
/// itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_arguments(start: u32, arg: u32, pointer: u64, flags: u32, ret: i64) -> u32 {
    let start = bound(start, RECORD_BYTES_MAX as u32 - 1);
    let has_failed = ret < 0 || flags & u32::from(flag::NO_RETURN) != 0;
    if pointer == 0 || !has_failed {
        return start;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return start };
    let scratch = scratch.cast::<u8>();
    let body = start + size_of::<AttachmentHead>() as u32;
    let narrow = flags & u32::from(flag::COMPAT);
    // SAFETY: the notes have room for it.
    unsafe { list(scratch).write(List { pointer, narrow, start: body, used: 0, flags: 0 }) };
    // SAFETY: as above; `start` is below `RECORD_BYTES_MAX`, and the buffer goes on behind it.
    unsafe {
        if read_strings(0) != 0 {
            // There may be more: only its end says how long a list is.
            (*list(scratch)).flags |= u32::from(attachment_flag::CUT);
        }
        let (length, flags) = ((*list(scratch)).used, (*list(scratch)).flags);
        let length = bound(length, 2 * EXEC_ARGS_BYTES_MAX as u32 - 1);
        scratch.wrapping_add(start as usize).cast::<AttachmentHead>().write_unaligned(
            AttachmentHead { index: arg as u8, flags: flags as u8, bytes: length as u16 },
        );
        bound(body + (length + 3 & !3), RECORD_BYTES_MAX as u32 - 1)
    }
}

/// Calls a function with each number from `first` on, until one answers 0.
macro_rules! sixteen {
    ($function:ident, $first:expr, $step:literal) => {
        sixteen!(@ $function, $first, $step, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $function:ident, $first:expr, $step:literal, $($place:literal)*) => { $(
        if $function($first + $step * $place) == 0 {
            return 0;
        }
    )* };
}

/// Reads up to 256 strings; answers 0 when there are no more. Not a loop: see `attach_all`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn read_strings(first: u32) -> u32 {
    sixteen!(read_some_strings, first, 16);
    1
}

/// Reads up to sixteen.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_some_strings(first: u32) -> u32 {
    sixteen!(read_string_at, first, 1);
    1
}

/// Reads one; answers 0 when it was the end of the list, or the last there is room for, or
/// could not be read. What could be read before is kept, and the rest is missing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_string_at(place: u32) -> u32 {
    const STRINGS_MAX: u32 = 256;
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let scratch = scratch.cast::<u8>();
    let list = list(scratch);
    let place = u64::from(bound(place, STRINGS_MAX - 1));
    // SAFETY: the notes are ours; a string ends before them, see `END_MAX`. The helpers check
    // every address.
    unsafe {
        let mut pointer = 0u64;
        let is_narrow = (*list).narrow != 0;
        let answer = if is_narrow {
            let from = (*list).pointer.wrapping_add(4 * place) as *const c_void;
            bpf_probe_read_user((&raw mut pointer).cast(), 4, from)
        } else {
            let from = (*list).pointer.wrapping_add(8 * place) as *const c_void;
            bpf_probe_read_user((&raw mut pointer).cast(), 8, from)
        };
        if answer != 0 {
            return missing(list);
        }
        if pointer == 0 {
            return 0;
        }
        let start = bound((*list).start, 2 * STRING_BYTES_MAX as u32 - 1);
        let used = bound((*list).used, EXEC_ARGS_BYTES_MAX as u32 - 1);
        let room = EXEC_ARGS_BYTES_MAX as u32 - used;
        // One byte more than there is room for: what fills it is not whole.
        let size = bound(room + 1, 2 * EXEC_ARGS_BYTES_MAX as u32 - 1);
        let to = scratch.wrapping_add(start as usize).wrapping_add(used as usize);
        let answer = bpf_probe_read_user_str(to.cast(), size, pointer as *const c_void);
        if answer < 0 {
            return missing(list);
        }
        // Older kernels answer 0 for an empty string (`strncpy_from_user_nofault`, mm/maccess.c,
        // 6.1 and 6.12); it has a NUL all the same.
        let answer = if answer == 0 {
            to.write(0);
            1
        } else {
            answer as u64
        };
        if answer > u64::from(room) {
            (*list).used = EXEC_ARGS_BYTES_MAX as u32;
            (*list).flags = u32::from(attachment_flag::CUT);
            return 0;
        }
        (*list).used = used + answer as u32;
        // There may be nothing more, and then it is whole.
        if (*list).used >= EXEC_ARGS_BYTES_MAX as u32 {
            return is_last(list, place);
        }
    }
    1
}

/// A string, or the pointer to it, cannot be read: of the first one that is all there is to
/// say, else the list goes on somehow.
///
/// # Safety
/// `list` are the notes.
#[inline(always)]
unsafe fn missing(list: *mut List) -> u32 {
    // SAFETY: the caller vouches for it.
    unsafe {
        let is_first = (*list).used == 0;
        let flag = if is_first { attachment_flag::UNREADABLE } else { attachment_flag::CUT };
        (*list).flags = u32::from(flag);
    }
    0
}

/// There is no room for more: says whether there is more.
///
/// # Safety
/// As for `missing`.
#[inline(always)]
unsafe fn is_last(list: *mut List, place: u64) -> u32 {
    let mut pointer = 0u64;
    // SAFETY: the caller vouches for it; `pointer` is as long as is read.
    unsafe {
        let next = place + 1;
        let (bytes, width) = if (*list).narrow != 0 { (4, 4) } else { (8, 8) };
        let from = (*list).pointer.wrapping_add(width * next) as *const c_void;
        let answer = bpf_probe_read_user((&raw mut pointer).cast(), bytes, from);
        if answer != 0 || pointer != 0 {
            (*list).flags = u32::from(attachment_flag::CUT);
        }
    }
    0
}
