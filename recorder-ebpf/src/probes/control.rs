//! What the recorder itself runs: enrol, begin, cut, and (with BTF) list the slots.
//!
//! Raw tracepoints that are never attached. Not by the macro for those: it makes programs
//! that always answer 0.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
#[cfg(feature = "log")]
use aya_ebpf::programs::RawTracePointContext;
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{CALLS_MAX, PerCpu},
};

use crate::{
    emit::{flush_losses, header, now_ns},
    maps::{COUNTERS, CUTS, OWN_PID, RECORDING},
    ring::{Offer, Ring},
};

/// Run once by the recorder, before anything is attached: the process that runs it is the
/// recorder, by its id in the initial pid namespace, whichever one it sees itself in.
/// Answers the id.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_enter")]
extern "C" fn enroll(_ctx: *mut c_void) -> i32 {
    // SAFETY: the helper only reads two numbers.
    let own_pid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // SAFETY: nothing else writes it.
    unsafe { (&raw mut OWN_PID).write_volatile(own_pid) };
    #[cfg(feature = "log")]
    aya_log_ebpf::info!(&RawTracePointContext::new(_ctx), "the recorder is process {}", own_pid);
    own_pid as i32
}

/// Run once by the recorder, when everything is attached: recording begins.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_enter")]
extern "C" fn begin(_ctx: *mut c_void) -> i32 {
    // SAFETY: nothing else writes it.
    unsafe { (&raw mut RECORDING).write_volatile(1) };
    0
}

/// Run on each CPU when the window is frozen: copies the counters and puts a
/// mark into the ring, so that both speak of the same moment.
///
/// On another CPU it runs in an interrupt, and may find a program half way
/// between its first count and its last: `busy` says so, and the recorder asks
/// again.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_enter")]
extern "C" fn cut(ctx: *mut c_void) -> i32 {
    // SAFETY: the first of the arguments the recorder gave it.
    let nonce = unsafe { ctx.cast::<u64>().read() };
    let (Some(from), Some(to)) = (COUNTERS.get_ptr_mut(0), CUTS.get_ptr_mut(0)) else { return 0 };
    // SAFETY: map values of this CPU.
    unsafe {
        let busy = (*from).counters.busy;
        let Some(ring) = Ring::of_this_cpu(&raw mut (*from).counters) else { return 0 };
        if busy == 0 {
            flush_losses(ring, &raw mut (*from).counters);
            if (*from).counters.pending_lost != 0 {
                // The mark is smaller and might still fit: then the file would not
                // show where the loss was.
                return 1;
            }
            copy(from, to);
        }
        let mut mark = record::Cut { header: header(Kind::Cut, now_ns(), 0), nonce, busy };
        let bytes = size_of::<record::Cut>() as u64;
        // The answer is the program's own: 0 the mark is in the ring, 1 it found
        // no room, and the recorder drains and asks again.
        if ring.put((&raw mut mark).cast(), bytes, Offer::Mark) { 0 } else { 1 }
    }
}

/// Copies a value word by word: there is no `memcpy` of 16 KiB in BPF.
///
/// # Safety
/// Both are map values.
#[inline(always)]
unsafe fn copy(from: *const PerCpu, to: *mut PerCpu) {
    // SAFETY: the caller vouches for both.
    unsafe {
        (*to).counters = (*from).counters;
        for place in 0..CALLS_MAX as usize {
            (*to).calls[place].seen = (*from).calls[place].seen;
            (*to).calls[place].lost = (*from).calls[place].lost;
        }
    }
}

#[cfg(feature = "btf")]
mod listing {
    use core::ffi::c_void;

    use aya_ebpf::{bindings::task_struct, helpers::generated::bpf_seq_write};
    use recorder_ebpf::wire::{SlotRow, slot_state};

    use crate::{
        maps::{TASK_PID, TASK_TGID},
        probes::{read_field, syscall::slot_of},
    };

    /// `struct bpf_iter_meta`, include/linux/bpf.h.
    #[repr(C)]
    struct IterMeta {
        seq: *mut c_void,
    }

    /// `struct bpf_iter__task`, kernel/bpf/task_iter.c.
    #[repr(C)]
    struct IterTask {
        meta: *const IterMeta,
        task: *mut task_struct,
    }

    /// Writes a row for every thread that is in a call.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/task")]
    extern "C" fn slots(ctx: *const c_void) -> i32 {
        let ctx = ctx.cast::<IterTask>();
        // SAFETY: the context of a task iterator; loads are checked against BTF.
        unsafe {
            let task = (*ctx).task;
            if task.is_null() {
                return 0;
            }
            let Some(slot) = slot_of(task, false) else { return 0 };
            if (*slot).state != slot_state::IN_CALL {
                return 0;
            }
            let mut row = SlotRow {
                pid: read_field(task.cast(), TASK_TGID.load()),
                tid: read_field(task.cast(), TASK_PID.load()),
                slot: *slot,
            };
            let seq = (*(*ctx).meta).seq;
            bpf_seq_write(seq.cast(), (&raw mut row).cast(), size_of::<SlotRow>() as u32);
        }
        0
    }
}
