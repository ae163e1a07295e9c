//! System calls: one record per finished call, made at exit; the slot knows what
//! entry saw, and is what a dump lists as not returned.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel_str, bpf_probe_read_user,
    bpf_probe_read_user_str,
};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{
        AttachmentHead, CALLS_MAX, CANARY_PID, CallCounts, LATE_NS, PerCpu, RECORD_BYTES_MAX,
        SOCKADDR_BYTES_MAX, SYSCALL_ARGS_MAX, SYSCALL_ATTACHMENTS_MAX, Slot, attachment_flag,
        call_index, filtered, flag,
        plan::{self, attach, special},
        slot_state,
    },
};

#[cfg(feature = "btf")]
use super::files::attach_left;
use super::{STRING_READ_BYTES, Subject, bound, network::accepted, string_answer, subject};
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
    if plan >> 4 & 15 == special::EXIT {
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
    if plan >> 4 & 15 == special::EXEC {
        let is_at = plan >> 8 & 7 == 1;
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
fn plan_of(nr: i64, compat: bool) -> u32 {
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
    let plan = plan_of(call.nr, compat);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    let scratch = scratch.cast::<u8>();
    let dur_ns = if call.entry_ns == 0 { 0 } else { now.wrapping_sub(call.entry_ns) };
    let mut flags = call.flags;
    // The path of a program that was started was read at entry, or by the kernel.
    let is_started = plan >> 4 & 15 == special::EXEC && call.ret == 0;
    if dur_ns > LATE_NS && !is_started {
        flags |= flag::LATE;
    }
    let mut count = plan & 7;
    if plan >> 4 & 15 == special::SIGRETURN {
        count = 0;
        flags |= flag::NO_ARGS;
    } else if plan >> 4 & 15 == special::ACCEPT && call.ret >= 0 {
        accepted(call.task, call.ret as u64);
    }
    let fixed = scratch.cast::<record::Syscall>();
    let words = scratch.wrapping_add(size_of::<record::Syscall>()).cast::<u64>();
    // SAFETY: the scratch buffer is far longer than the fixed part and six words.
    unsafe {
        for place in 0..SYSCALL_ARGS_MAX {
            words.wrapping_add(place).write(args[place]);
        }
    }
    let attaching = attach_all(scratch, plan, count, &call);
    #[cfg(feature = "btf")]
    let attaching = attach_left(scratch, plan::leaves_of(plan), &call, args, attaching);
    let Attaching { at: bytes, count: attachments } = attaching;
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

/// How far the attachments of a record have come.
#[derive(Clone, Copy)]
pub(crate) struct Attaching {
    /// Bytes of the record so far.
    pub(crate) at: u32,
    /// Attachments so far.
    pub(crate) count: u32,
}

/// Reads the strings and addresses the plan names. Not a loop: kernels before 6.8
/// refuse one that the compiler enters by falling through (`back-edge`).
#[inline(always)]
fn attach_all(scratch: *mut u8, plan: u32, args: u32, call: &Call) -> Attaching {
    const { assert!(SYSCALL_ATTACHMENTS_MAX == 3) };
    let fixed = size_of::<record::Syscall>() as u32;
    let mut attaching = Attaching { at: fixed + 8 * args, count: 0 };
    if plan >> 8 & 0x3f != 0 {
        attaching = attach_one(scratch, plan, plan >> 8, call, attaching);
        if plan >> 16 & 0x3f != 0 {
            attaching = attach_one(scratch, plan, plan >> 16, call, attaching);
            if plan >> 24 & 0x3f != 0 {
                attaching = attach_one(scratch, plan, plan >> 24, call, attaching);
            }
        }
    }
    attaching.at = bound(attaching.at, RECORD_BYTES_MAX as u32 - 1);
    attaching
}

/// Reads one string or address, `what` by the low byte of the plan's entry.
#[inline(always)]
fn attach_one(
    scratch: *mut u8,
    plan: u32,
    what: u32,
    call: &Call,
    attaching: Attaching,
) -> Attaching {
    let kind = what >> 3 & 7;
    let arg = what & 7;
    let start = bound(attaching.at, RECORD_BYTES_MAX as u32 - 1);
    let head = scratch.wrapping_add(start as usize);
    let body = head.wrapping_add(size_of::<AttachmentHead>());
    let (pointer, next) = argument_pair(scratch, arg);
    let (length, flags) = if kind == attach::STRING {
        read_string(body, pointer, call, plan)
    } else if kind == attach::SOCKADDR {
        read_sockaddr(body, pointer, next)
    } else if call.ret < 0 || pointer == 0 {
        // The kernel wrote nothing there.
        return attaching;
    } else {
        read_sockaddr_out(body, pointer, next)
    };
    // SAFETY: `start` is below `RECORD_BYTES_MAX` and the buffer goes on for more
    // than a head behind it.
    unsafe {
        head.cast::<AttachmentHead>().write_unaligned(AttachmentHead {
            index: arg as u8,
            flags,
            bytes: length as u16,
        });
    }
    let at = start + size_of::<AttachmentHead>() as u32 + (length + 3 & !3);
    Attaching { at, count: attaching.count + 1 }
}

/// An argument and the one behind it, from the words already in the buffer.
#[inline(always)]
fn argument_pair(scratch: *mut u8, arg: u32) -> (u64, u64) {
    let words = scratch.wrapping_add(size_of::<record::Syscall>()).cast::<u64>();
    let arg = bound(arg, 7) as usize;
    // SAFETY: at most nine words into a buffer of kilobytes.
    unsafe { (words.wrapping_add(arg).read(), words.wrapping_add(arg + 1).read()) }
}

#[inline(always)]
fn read_string(body: *mut u8, pointer: u64, call: &Call, plan: u32) -> (u32, u8) {
    let size = STRING_READ_BYTES;
    if plan >> 4 & 15 == special::EXEC {
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

#[inline(always)]
fn read_sockaddr(body: *mut u8, pointer: u64, length: u64) -> (u32, u8) {
    let length = length as u32;
    let cut = length > SOCKADDR_BYTES_MAX as u32;
    let length = if cut { SOCKADDR_BYTES_MAX as u32 } else { length };
    let length = bound(length, 255);
    // SAFETY: the buffer goes on for more than 255 bytes behind every `body`.
    let answer = unsafe { bpf_probe_read_user(body.cast(), length, pointer as *const c_void) };
    if answer < 0 {
        return (0, attachment_flag::UNREADABLE);
    }
    (length, if cut { attachment_flag::CUT } else { 0 })
}

#[inline(always)]
fn read_sockaddr_out(body: *mut u8, pointer: u64, length_pointer: u64) -> (u32, u8) {
    let mut length = 0u32;
    // SAFETY: `length` is as long as is read.
    let answer = unsafe {
        bpf_probe_read_user((&raw mut length).cast(), 4, length_pointer as *const c_void)
    };
    if answer < 0 {
        return (0, attachment_flag::UNREADABLE);
    }
    read_sockaddr(body, pointer, u64::from(length))
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
