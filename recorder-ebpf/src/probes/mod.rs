//! One file per subject.

#[cfg(feature = "btf")]
mod arguments;
mod attach;
mod cgroup;
mod control;
#[cfg(feature = "btf")]
mod entered;
#[cfg(feature = "btf")]
mod family;
#[cfg(feature = "btf")]
mod files;
#[cfg(feature = "btf")]
mod fork;
mod memory;
mod network;
mod process;
mod syscall;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use recorder_ebpf::wire::{STRING_BYTES_MAX, attachment_flag};

use crate::maps::{OWN_PID, RECORDING};

/// Whether to look at this thread at all.
#[derive(PartialEq, Eq)]
enum Subject {
    /// Not recording yet.
    Nobody,
    /// The recorder itself.
    Own,
    /// Anybody else.
    Other,
}

/// Whose thread `pid_tgid` is.
#[inline(always)]
fn subject(pid_tgid: u64) -> Subject {
    // SAFETY: whole words that the recorder's own programs change, one after the other;
    // volatile, since others run meanwhile.
    let (recording, own_pid) =
        unsafe { ((&raw const RECORDING).read_volatile(), (&raw const OWN_PID).read_volatile()) };
    if recording == 0 {
        Subject::Nobody
    } else if own_pid == (pid_tgid >> 32) as u32 {
        Subject::Own
    } else {
        Subject::Other
    }
}

/// Reads a value at `offset` bytes in a kernel object; 0 when it cannot be read.
///
/// # Safety
/// None really: the helper checks the address. `T` must be plain numbers.
#[inline(always)]
pub(crate) unsafe fn read_field<T: Copy + Default>(object: *const u8, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: `value` is as long as is read; the helper leaves it alone or fills it.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            object.wrapping_add(offset as usize).cast(),
        );
    }
    value
}

/// `value & mask`, kept as an instruction: the compiler may know the bound, the
/// verifier only believes what it sees.
#[inline(always)]
pub(crate) fn bound(value: u32, mask: u32) -> u32 {
    let mut value = u64::from(value);
    let mask = u64::from(mask);
    // SAFETY: one instruction on one register.
    unsafe {
        core::arch::asm!(
            "{value} &= {mask}",
            value = inout(reg) value,
            mask = in(reg) mask,
            options(pure, nomem, nostack)
        );
    }
    value as u32
}

/// How much of a string is asked for: one byte more than is kept, so that the
/// longest that is kept whole is not taken for one that was cut.
const STRING_READ_BYTES: u32 = STRING_BYTES_MAX as u32 + 1;

/// Length without the NUL, and flags.
#[inline(always)]
fn string_answer(answer: i64) -> (u32, u8) {
    if answer < 0 {
        return (0, attachment_flag::UNREADABLE);
    }
    let length = bound(answer as u32, 2 * STRING_BYTES_MAX as u32 - 1);
    if length == 0 {
        return (0, 0);
    }
    if length >= STRING_READ_BYTES {
        return (STRING_BYTES_MAX as u32 - 1, attachment_flag::CUT);
    }
    (bound(length - 1, STRING_BYTES_MAX as u32 - 1), 0)
}
