//! System calls: one record per finished call, made at exit; the slot knows what
//! entry saw, and is what a dump lists as not returned.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel_str, bpf_probe_read_user_str,
};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{
        CALLS_MAX, CANARY_PID, CallCounts, LATE_NS, PerCpu, SYSCALL_ARGS_MAX, Slot, call_index,
        filtered, flag,
        plan::{self, special},
        slot_state,
    },
};

#[cfg(feature = "btf")]
use super::files::attach_left;
use super::{
    STRING_READ_BYTES, Subject,
    attach::{Attaching, attach_all, selected},
    bound,
    network::accepted,
    subject,
};
use crate::{
    emit::{Scope, header, now_ns},
    maps::{EXEC_PATH_ABSENT, EXEC_PATHS, ExecPath, PLAN, SCRATCH, SCRATCH_BYTES},
    registers::CallRegisters,
};

/// A call as it is put into a record.
pub(crate) struct Call {
    nr: i64,
    pub(crate) ret: i64,
    entry_ns: u64,
    pub(crate) flags: u16,
    pub(crate) task: u64,
}

/// Entry: fill the slot. Calls that never return are recorded here.
#[inline(always)]
pub(crate) fn enter(
    regs: &impl CallRegisters,
    nr: i64,
    slot: Option<*mut Slot>,
    compat: bool,
    task: u64,
) {
    let pid_tgid = current_thread();
    if subject(pid_tgid) != Subject::Other {
        return;
    }
    let args = regs.args(compat);
    let flags = if compat { flag::COMPAT } else { 0 };
    let plan = plan_of(nr, compat);
    if plan::special_of(plan) == special::EXIT {
        // It never returns, and ends where it begins: no slot, no duration.
        let Some(scope) = Scope::enter() else { return };
        let call = Call { nr, ret: 0, entry_ns: 0, flags: flag::NO_RETURN | flags, task };
        record_call(&scope, pid_tgid, call, &args);
        scope.leave();
        return;
    }
    let Some(slot) = slot else { return };
    // SAFETY: the slot belongs to the current thread, which is here.
    unsafe {
        (*slot).entry_ns = now_ns();
        (*slot).nr = nr;
        (*slot).args = args;
        (*slot).flags = u32::from(flags);
        (*slot).state = slot_state::IN_CALL;
    }
    if plan::special_of(plan) == special::EXEC {
        let (path, _) = plan::attachment(plan, 0);
        let is_at = path == 1;
        save_exec_path(if is_at { args[1] } else { args[0] }, is_at, task);
    }
}

/// Exit: take what entry saw, or say that nothing did.
#[inline(always)]
pub(crate) fn exit(
    regs: &impl CallRegisters,
    ret: i64,
    slot: Option<*mut Slot>,
    compat: bool,
    task: u64,
) {
    let pid_tgid = current_thread();
    let whose = subject(pid_tgid);
    if whose == Subject::Nobody {
        return;
    }
    let Some(scope) = Scope::enter() else { return };
    if whose == Subject::Own {
        let args = regs.args(compat);
        if args[0] == CANARY_PID {
            let call = Call { nr: regs.nr(), ret, entry_ns: 0, flags: flag::NO_ENTRY, task };
            record_call(&scope, pid_tgid, call, &args);
        } else {
            count_filtered(&scope, filtered::OWN);
        }
        scope.leave();
        return;
    }
    let mut slot_args = [0u64; SYSCALL_ARGS_MAX];
    let mut state = slot_state::EMPTY;
    let mut call = Call { nr: regs.nr(), ret, entry_ns: 0, flags: flag::NO_ENTRY, task };
    if let Some(slot) = slot {
        // SAFETY: the slot belongs to the current thread, which is here.
        unsafe {
            state = (*slot).state;
            (*slot).state = slot_state::EMPTY;
            if state == slot_state::IN_CALL {
                call.nr = (*slot).nr;
                call.entry_ns = (*slot).entry_ns;
                call.flags = (*slot).flags as u16;
                slot_args = (*slot).args;
            }
        }
    }
    if state == slot_state::CHILD {
        count_filtered(&scope, filtered::CHILD_RETURN);
    } else {
        if state == slot_state::EMPTY {
            if compat {
                call.flags |= flag::COMPAT;
            }
            slot_args = regs.args(compat);
            if attached::is_answered_by_signal(task) {
                // The kernel has put back what the register held: no result.
                call.flags |= flag::NO_RETURN;
                call.ret = 0;
            }
        }
        record_call(&scope, pid_tgid, call, &slot_args);
    }
    scope.leave();
}

/// Counts a call that is not offered to the ring.
#[inline(always)]
fn count_filtered(scope: &Scope, reason: usize) {
    // SAFETY: a map value of this CPU that only task context touches.
    unsafe {
        let counters = &raw mut (*scope.per_cpu()).counters;
        (*counters).calls += 1;
        (*counters).calls_filtered[reason] += 1;
        (*counters).pending_skipped += 1;
    }
}

#[inline(always)]
fn current_thread() -> u64 {
    // SAFETY: the helper only reads two numbers.
    unsafe { bpf_get_current_pid_tgid() }
}

#[inline(always)]
fn plan_of(nr: i64, compat: bool) -> u64 {
    match PLAN.get(call_index(nr, compat)) {
        Some(plan) => *plan,
        None => plan::UNKNOWN,
    }
}

/// Puts the record together in the scratch buffer and offers it.
#[inline(always)]
fn record_call(scope: &Scope, pid_tgid: u64, call: Call, args: &[u64; SYSCALL_ARGS_MAX]) {
    let now = now_ns();
    let compat = call.flags & flag::COMPAT != 0;
    let index = call_index(call.nr, compat);
    // SAFETY: a map value of this CPU that only task context touches.
    let (seq, skipped) = unsafe {
        let per_cpu = scope.per_cpu();
        (*per_cpu).counters.calls += 1;
        (*call_place(per_cpu, index)).seen += 1;
        ((*per_cpu).counters.calls as u32, (*per_cpu).counters.pending_skipped as u32)
    };
    let mut plan = plan_of(call.nr, compat);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    let scratch = scratch.cast::<u8>();
    let dur_ns = if call.entry_ns == 0 { 0 } else { now.wrapping_sub(call.entry_ns) };
    let mut flags = call.flags;
    // The path of a program that was started was read at entry, or by the kernel.
    let is_started = plan::special_of(plan) == special::EXEC && call.ret == 0;
    if dur_ns > LATE_NS && !is_started {
        flags |= flag::LATE;
    }
    let fixed = scratch.cast::<record::Syscall>();
    let words = scratch.wrapping_add(size_of::<record::Syscall>()).cast::<u64>();
    // SAFETY: the scratch buffer is far longer than the fixed part and six words.
    unsafe {
        for place in 0..SYSCALL_ARGS_MAX {
            words.wrapping_add(place).write(args[place]);
        }
    }
    let special = plan::special_of(plan);
    if special == special::SELECTED {
        plan = selected(scratch, plan, index);
    }
    let mut count = plan as u32 & 7;
    if special == special::SIGRETURN {
        count = 0;
        flags |= flag::NO_ARGS;
    } else if special == special::ACCEPT && call.ret >= 0 {
        accepted(call.task, call.ret as u64);
    }
    let attaching = attach_all(scratch, plan, count, &call);
    #[cfg(feature = "btf")]
    let attaching = attach_left(scratch, plan::leaves_of(plan), &call, args, attaching);
    let Attaching { at: bytes, count: attachments, .. } = attaching;
    // SAFETY: as above.
    unsafe {
        (*fixed).header = header(Kind::Syscall, now, pid_tgid);
        (*fixed).header.bytes = bytes as u16;
        (*fixed).header.args = count as u8;
        (*fixed).header.flags = flags;
        (*fixed).header.attachments = attachments as u8;
        (*fixed).header.seq = seq;
        (*fixed).header.skipped = skipped;
        (*fixed).nr = call.nr;
        (*fixed).ret = call.ret;
        (*fixed).dur_ns = dur_ns;
        let stored = scope.offer(Kind::Syscall, scratch.cast(), u64::from(bytes), now);
        let per_cpu = scope.per_cpu();
        if stored {
            (*per_cpu).counters.pending_skipped = 0;
        } else {
            (*call_place(per_cpu, index)).lost += 1;
            (*per_cpu).counters.pending_skipped += 1;
        }
    }
}

/// The counts of a call. The index is masked, so that the verifier sees a bound.
///
/// # Safety
/// `per_cpu` is a map value.
#[inline(always)]
unsafe fn call_place(per_cpu: *mut PerCpu, index: u32) -> *mut CallCounts {
    let index = bound(index, CALLS_MAX - 1) as usize;
    // SAFETY: `index` is below the length of the array.
    unsafe { (&raw mut (*per_cpu).calls).cast::<CallCounts>().add(index) }
}

/// What the kernel itself read as the path of an exec, where the program at entry
/// could not: a program that fails is recorded as it is, one that succeeds by this.
#[inline(always)]
pub(crate) fn resolve_exec_path(task: u64, name: *const u8) {
    if let Some(saved) = EXEC_PATHS.get_ptr_mut(&task) {
        // SAFETY: a map value; the helper stops at the NUL or at the size.
        unsafe {
            if (*saved).answer == EXEC_PATH_ABSENT {
                let bytes = (&raw mut (*saved).bytes).cast();
                (*saved).answer = bpf_probe_read_kernel_str(bytes, STRING_READ_BYTES, name.cast());
            }
        }
    }
}

/// Reads the path of an exec while its memory is still there.
#[inline(always)]
fn save_exec_path(pointer: u64, is_at: bool, task: u64) {
    // The scratch buffer is free: entry and exit do not meet on a CPU.
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    let path = scratch.cast::<ExecPath>();
    const { assert!(size_of::<ExecPath>() <= SCRATCH_BYTES) };
    // SAFETY: the buffer is longer than an `ExecPath`.
    unsafe {
        (*path).answer = bpf_probe_read_user_str(
            (&raw mut (*path).bytes).cast(),
            STRING_READ_BYTES,
            pointer as *const c_void,
        );
        // With a directory the kernel has another path than it was given
        // (`/dev/fd/3/name`, fs/exec.c): that one stays unreadable.
        if (*path).answer < 0 && !is_at {
            (*path).answer = EXEC_PATH_ABSENT;
        }
        // A full map evicts the oldest; a failure is found at exit as unreadable.
        let _ = EXEC_PATHS.insert(&task, &*path, 0);
    }
}

#[cfg(feature = "btf")]
mod attached {
    use aya_ebpf::{
        bindings::task_struct,
        helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
        macros::btf_tracepoint,
        programs::BtfTracePointContext,
    };
    use recorder_ebpf::wire::Slot;

    use crate::{
        maps::{SLOTS, TASK_COMPAT_WORD, TASK_PENDING_SIGNALS},
        probes::read_field,
        registers::{COMPAT_BIT, PtRegs},
    };

    /// The slot of a task; made when `create`.
    ///
    /// # Safety
    /// `task` is a task the verifier trusts.
    #[inline(always)]
    pub(crate) unsafe fn slot_of(task: *mut task_struct, create: bool) -> Option<*mut Slot> {
        let map = (&raw const SLOTS).cast_mut().cast();
        // SAFETY: the caller vouches for `task`; the map is a task storage map.
        let slot =
            unsafe { bpf_task_storage_get(map, task, core::ptr::null_mut(), u64::from(create)) };
        if slot.is_null() { None } else { Some(slot.cast()) }
    }

    /// Whether a filter answered the current call, which had no entry, with a signal:
    /// `SIGSYS` then waits to be delivered (`force_sig_seccomp`, kernel/signal.c).
    #[inline(always)]
    pub(super) fn is_answered_by_signal(task: u64) -> bool {
        const SIGSYS: u64 = 31;
        // SAFETY: the helper checks the address.
        let pending: u64 = unsafe { read_field(task as *const u8, TASK_PENDING_SIGNALS.load()) };
        pending >> (SIGSYS - 1) & 1 != 0
    }

    /// Whether the current call is a 32-bit one.
    #[inline(always)]
    fn is_compat(task: *const task_struct) -> bool {
        let word = task.cast::<u8>().wrapping_add(TASK_COMPAT_WORD.load() as usize).cast::<u32>();
        // SAFETY: a direct load from the current task that the verifier checks
        // against BTF; the offset is a constant to it.
        unsafe { word.read_volatile() & COMPAT_BIT != 0 }
    }

    #[btf_tracepoint(function = "sys_enter")]
    fn sys_enter(ctx: BtfTracePointContext) -> i32 {
        let regs: *const PtRegs = ctx.arg(0);
        let nr: i64 = ctx.arg(1);
        // SAFETY: the current task is alive; `regs` are its registers, and the
        // verifier checks each load against BTF.
        unsafe {
            let task = bpf_get_current_task_btf();
            let slot = slot_of(task, true);
            super::enter(&*regs, nr, slot, is_compat(task), task as u64);
        }
        0
    }

    #[btf_tracepoint(function = "sys_exit")]
    fn sys_exit(ctx: BtfTracePointContext) -> i32 {
        let regs: *const PtRegs = ctx.arg(0);
        let ret: i64 = ctx.arg(1);
        // SAFETY: as above.
        unsafe {
            let task = bpf_get_current_task_btf();
            let slot = slot_of(task, false);
            super::exit(&*regs, ret, slot, is_compat(task), task as u64);
        }
        0
    }
}

#[cfg(not(feature = "btf"))]
mod attached {
    use aya_ebpf::{
        helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task},
        macros::raw_tracepoint,
        programs::RawTracePointContext,
    };
    use recorder_ebpf::wire::Slot;

    use crate::{
        maps::SLOTS,
        registers::{CopiedRegisters, PtRegs},
    };

    /// The slot of a thread, when its id is within the array.
    #[inline(always)]
    pub(crate) fn slot_of(tid: u32) -> Option<*mut Slot> {
        SLOTS.get_ptr_mut(tid)
    }

    /// Without BTF nothing says which signals wait.
    pub(super) fn is_answered_by_signal(_task: u64) -> bool {
        false
    }

    /// Without BTF nothing says where the kernel keeps that a call is 32 bits
    /// wide; such calls are decoded as native ones, and `status` says so.
    const COMPAT: bool = false;

    #[raw_tracepoint(tracepoint = "sys_enter")]
    fn sys_enter(ctx: RawTracePointContext) -> i32 {
        let regs: *const PtRegs = ctx.arg(0);
        let nr: i64 = ctx.arg(1);
        // SAFETY: the helper checks the address; the other two only read.
        unsafe {
            let regs = CopiedRegisters::read(regs);
            let slot = slot_of(bpf_get_current_pid_tgid() as u32);
            super::enter(&regs, nr, slot, COMPAT, bpf_get_current_task());
        }
        0
    }

    #[raw_tracepoint(tracepoint = "sys_exit")]
    fn sys_exit(ctx: RawTracePointContext) -> i32 {
        let regs: *const PtRegs = ctx.arg(0);
        let ret: i64 = ctx.arg(1);
        // SAFETY: as above.
        unsafe {
            let regs = CopiedRegisters::read(regs);
            let slot = slot_of(bpf_get_current_pid_tgid() as u32);
            super::exit(&regs, ret, slot, COMPAT, bpf_get_current_task());
        }
        0
    }
}

pub(crate) use attached::slot_of;
