//! System calls: one record per finished call, made at exit; the slot knows what
//! entry saw, and is what a dump lists as not returned.

use core::ffi::c_void;
#[cfg(feature = "btf")]
use core::mem::offset_of;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user_str};
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
use recorder_ebpf::wire::Header;

use super::{
    STRING_READ_BYTES, Subject,
    attach::{Attaching, attach_all, selected},
    bound,
    network::accepted,
    subject,
};
#[cfg(feature = "btf")]
use super::{
    arguments::attach_arguments,
    attach::forget_ways,
    entered::{attach_entered, keep_entered},
    files::attach_left,
};
#[cfg(feature = "btf")]
use crate::emit::QuietScope;
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

/// The thread that makes a call.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// Its process, and its own number in the low half.
    pub(crate) pid_tgid: u64,
    /// The address of its task.
    pub(crate) task: u64,
}

/// Entry: fill the slot. Calls that never return are recorded here.
#[inline(always)]
pub(crate) fn enter(
    regs: &impl CallRegisters,
    nr: i64,
    slot: Option<*mut Slot>,
    compat: bool,
    Caller { pid_tgid, task }: Caller,
) {
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
    unsafe { fill(slot, nr, args, flags) };
    #[cfg(feature = "btf")]
    if plan::special_of(plan) == special::ENTERED {
        keep_entered(slot, plan);
    }
    if plan::special_of(plan) == special::EXEC {
        let (path, _) = plan::attachment(plan, 0);
        let is_at = path == 1;
        save_exec_path(if is_at { args[1] } else { args[0] }, is_at, task);
    }
}

/// Keeps a call that begins.
///
/// # Safety
/// `slot` is the slot of the current thread.
#[inline(always)]
unsafe fn fill(slot: *mut Slot, nr: i64, args: [u64; SYSCALL_ARGS_MAX], flags: u16) {
    // SAFETY: the caller vouches for it.
    unsafe {
        (*slot).nr = nr;
        (*slot).args = args;
        (*slot).flags = u32::from(flags);
        (*slot).entry_ns = now_ns();
        (*slot).state = slot_state::IN_CALL;
    }
}

/// The entry of a native call that is not special. Answers whether it is one; if not, nothing
/// has happened.
///
/// # Safety
/// `slot` is the slot of the current thread.
#[cfg(feature = "btf")]
#[inline(always)]
unsafe fn enter_plain(slot: *mut Slot, regs: &impl CallRegisters, nr: i64, pid_tgid: u64) -> bool {
    if plan::is_special_at_entry(plan_of(nr, false)) || subject(pid_tgid) != Subject::Other {
        return false;
    }
    // SAFETY: the caller vouches for it.
    unsafe { fill(slot, nr, regs.args(false), 0) };
    true
}

/// Exit: take what entry saw, or say that nothing did.
#[inline(always)]
pub(crate) fn exit(
    regs: &impl CallRegisters,
    ret: i64,
    slot: Option<*mut Slot>,
    compat: bool,
    Caller { pid_tgid, task }: Caller,
) {
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
fn plan_of(nr: i64, compat: bool) -> u64 {
    plan_at(bound(call_index(nr, compat), CALLS_MAX - 1))
}

/// The plan at a place, which is below [`CALLS_MAX`].
#[inline(always)]
fn plan_at(index: u32) -> u64 {
    // SAFETY: below the length; volatile, since the loader wrote it and not the compiler.
    unsafe { (&raw const PLAN).cast::<u64>().wrapping_add(index as usize).read_volatile() }
}

/// The exit of a call of which nothing is read but its arguments, when its ring has room that
/// nobody needs to ask for: its record is written straight into the ring. Most calls are such,
/// and this is all they cost. Answers whether it was; if not, nothing has happened.
///
/// What is needed last is read last, and twice rather than kept: four registers outlive a
/// helper, the rest goes through memory.
///
/// # Safety
/// `slot` is the slot of the current thread.
#[cfg(feature = "btf")]
#[inline(always)]
unsafe fn exit_short(
    slot: *mut Slot,
    caller: impl FnOnce() -> Caller,
    ret: impl FnOnce() -> i64,
) -> bool {
    // SAFETY: the caller vouches for `slot`; map values of this CPU that the verifier knows.
    // The counters of calls are only touched in task context; an interrupt that loses an event
    // or takes room after we looked finds enough of it.
    unsafe {
        let (_, _, index) = number_of(slot);
        let plan = plan_at(index);
        if (*slot).state != slot_state::IN_CALL || !plan::is_short(plan) {
            return false;
        }
        let Some(scope) = QuietScope::enter(plan::record_bytes(plan)) else { return false };
        (*slot).state = slot_state::EMPTY;
        let now = now_ns();
        let (nr, flags, index) = number_of(slot);
        let plan = plan_at(index);
        let numbered = Numbered::next(scope.per_cpu(), index);
        let reserved = scope.reserve(plan::record_bytes(plan));
        let fixed = reserved.record().cast::<record::Syscall>();
        (*fixed).nr = nr;
        let dur_ns = now.wrapping_sub((*slot).entry_ns);
        (*fixed).dur_ns = dur_ns;
        let late = if dur_ns > LATE_NS { flag::LATE } else { 0 };
        short_header(fixed.cast(), plan, flags | late);
        (*fixed).header.seq = numbered.seq;
        (*fixed).header.skipped = numbered.skipped;
        (*fixed).header.ts_ns = now;
        let thread = caller().pid_tgid;
        (*fixed).header.pid = (thread >> 32) as u32;
        (*fixed).header.tid = thread as u32;
        (*fixed).ret = ret();
        copy_args(fixed.wrapping_add(1).cast(), (&raw const (*slot).args).cast(), plan);
        reserved.publish();
        numbered.settle(scope.per_cpu(), true);
        scope.leave();
        true
    }
}

/// The number of the call a slot holds, its flags, and its place among the calls.
///
/// # Safety
/// `slot` is the slot of the current thread.
#[cfg(feature = "btf")]
#[inline(always)]
unsafe fn number_of(slot: *const Slot) -> (i64, u16, u32) {
    // SAFETY: the caller vouches for it. Volatile: to be read again where it is needed again.
    let (nr, flags) = unsafe {
        ((&raw const (*slot).nr).read_volatile(), (&raw const (*slot).flags).read_volatile())
    };
    let place = call_index(nr, flags & u32::from(flag::COMPAT) != 0);
    (nr, flags as u16, bound(place, CALLS_MAX - 1))
}

/// Copies `count` arguments. Not a loop: it would cost more than what it does.
///
/// # Safety
/// Both have room for as many.
#[cfg(feature = "btf")]
#[inline(always)]
unsafe fn copy_args(to: *mut u64, from: *const u64, count: u64) {
    const { assert!(SYSCALL_ARGS_MAX == 6) };
    macro_rules! copy {
        ($($place:literal)*) => { $(
            if count > $place {
                // SAFETY: the caller vouches for both.
                unsafe { to.wrapping_add($place).write(from.wrapping_add($place).read()) };
            }
        )* };
    }
    copy!(0 1 2 3 4 5);
}

/// The first word of the header of a short record, in one store; `plan` is the number of
/// arguments.
///
/// # Safety
/// `header` is where a header is written.
#[cfg(feature = "btf")]
#[inline(always)]
unsafe fn short_header(header: *mut u64, plan: u64, flags: u16) {
    const { assert!(cfg!(target_endian = "little")) };
    const { assert!(offset_of!(Header, kind) == 2 && offset_of!(Header, args) == 3) };
    const { assert!(offset_of!(Header, flags) == 4 && offset_of!(Header, seq) == 8) };
    let bytes = u64::from(plan::record_bytes(plan));
    let word = bytes | (Kind::Syscall as u64) << 16 | plan << 24 | u64::from(flags) << 32;
    // SAFETY: the caller vouches for it.
    unsafe { header.write(word) };
}

/// A call that was counted, and what its record says of that.
struct Numbered {
    /// Its place among the counts of calls.
    index: u32,
    seq: u32,
    skipped: u32,
}

impl Numbered {
    /// Counts the call at a place that is not filtered.
    ///
    /// # Safety
    /// `per_cpu` are the counters of this CPU.
    #[inline(always)]
    unsafe fn next(per_cpu: *mut PerCpu, index: u32) -> Numbered {
        // SAFETY: a map value of this CPU that only task context touches.
        unsafe {
            let counters = &raw mut (*per_cpu).counters;
            (*counters).calls += 1;
            (*call_place(per_cpu, index)).seen += 1;
            let (seq, skipped) = ((*counters).calls as u32, (*counters).pending_skipped as u32);
            Numbered { index, seq, skipped }
        }
    }

    /// Counts it as stored or lost.
    ///
    /// # Safety
    /// As for `next`.
    #[inline(always)]
    unsafe fn settle(&self, per_cpu: *mut PerCpu, stored: bool) {
        // SAFETY: as above.
        unsafe {
            if stored {
                (*per_cpu).counters.pending_skipped = 0;
            } else {
                (*call_place(per_cpu, self.index)).lost += 1;
                (*per_cpu).counters.pending_skipped += 1;
            }
        }
    }
}

/// Puts the record together in the scratch buffer and offers it.
#[inline(always)]
fn record_call(scope: &Scope, pid_tgid: u64, call: Call, args: &[u64; SYSCALL_ARGS_MAX]) {
    let now = now_ns();
    let index = call_index(call.nr, call.flags & flag::COMPAT != 0);
    // SAFETY: the counters of this CPU.
    let numbered = unsafe { Numbered::next(scope.per_cpu(), index) };
    let mut plan = plan_of(call.nr, call.flags & flag::COMPAT != 0);
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
        plan = selected(scratch, plan, numbered.index);
    }
    let mut count = plan as u32 & 7;
    if special == special::SIGRETURN {
        count = 0;
        flags |= flag::NO_ARGS;
    } else if special == special::ACCEPT && call.ret >= 0 {
        accepted(call.task, call.ret as u64);
    }
    // All that is known of the call is written before anything is attached, and what is still
    // needed is read again behind that: the ways there are many, and each one that is told
    // from the others by what it knows is followed to the end by the verifier.
    // SAFETY: as above.
    unsafe {
        (*fixed).header = header(Kind::Syscall, now, pid_tgid);
        (*fixed).header.args = count as u8;
        (*fixed).header.flags = flags;
        (*fixed).header.seq = numbered.seq;
        (*fixed).header.skipped = numbered.skipped;
        (*fixed).nr = call.nr;
        (*fixed).ret = call.ret;
        (*fixed).dur_ns = dur_ns;
    }
    let attaching = attach_all(scratch, plan, count, &call);
    // Without BTF the stack has no room for calls that deep: what the kernel overwrites and
    // the arguments of an exec that failed are addresses then.
    #[cfg(feature = "btf")]
    let attaching = {
        let (mut attaching, plan) = forget_ways(scratch, attaching, plan);
        // SAFETY: as above; volatile, so that the compiler does not know them.
        let call = unsafe {
            Call {
                ret: (&raw const (*fixed).ret).read_volatile(),
                flags: (&raw const (*fixed).header.flags).read_volatile(),
                ..call
            }
        };
        let special = plan::special_of(plan);
        if special == special::ENTERED {
            attaching = attach_entered(plan, &call, attaching);
        } else if special == special::EXEC {
            attaching = attach_arguments(scratch, plan, &call, attaching);
        }
        let (attaching, plan) = forget_ways(scratch, attaching, plan);
        attach_left(scratch, plan::leaves_of(plan), &call, args, attaching)
    };
    let Attaching { at: bytes, count: attachments, .. } = attaching;
    // SAFETY: as above.
    unsafe {
        (*fixed).header.bytes = bytes as u16;
        (*fixed).header.attachments = attachments as u8;
        let stored = scope.offer(Kind::Syscall, scratch.cast(), u64::from(bytes), now);
        numbered.settle(scope.per_cpu(), stored);
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
    use core::ffi::c_void;

    use aya_ebpf::{
        EbpfContext as _,
        bindings::task_struct,
        helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
        macros::btf_tracepoint,
        programs::BtfTracePointContext,
    };
    use recorder_ebpf::wire::Slot;

    use super::Caller;
    use crate::{
        maps::{SLOTS, TASK_COMPAT_WORD, TASK_PENDING_SIGNALS, TASK_PID, TASK_TGID},
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

    /// The slot of the current thread, where it has one.
    #[inline(always)]
    pub(crate) fn own_slot() -> Option<*mut Slot> {
        // SAFETY: the current task.
        unsafe { slot_of(bpf_get_current_task_btf(), false) }
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

    /// A word of the current task.
    #[inline(always)]
    fn word_of(task: *const task_struct, offset: u32) -> u32 {
        let word = task.cast::<u8>().wrapping_add(offset as usize).cast::<u32>();
        // SAFETY: a direct load from the current task that the verifier checks
        // against BTF; the offset is a constant to it.
        unsafe { word.read_volatile() }
    }

    /// Whether the current call is a 32-bit one.
    #[inline(always)]
    fn is_compat(task: *const task_struct) -> bool {
        word_of(task, TASK_COMPAT_WORD.load()) & COMPAT_BIT != 0
    }

    /// Who makes the current call, without a helper.
    #[inline(always)]
    fn caller(task: *const task_struct) -> Caller {
        let pid = u64::from(word_of(task, TASK_TGID.load()));
        let tid = u64::from(word_of(task, TASK_PID.load()));
        Caller { pid_tgid: pid << 32 | tid, task: task as u64 }
    }

    #[btf_tracepoint(function = "sys_enter")]
    fn sys_enter(ctx: BtfTracePointContext) -> i32 {
        let regs: *const PtRegs = ctx.arg(0);
        let nr: i64 = ctx.arg(1);
        // SAFETY: the current task is alive; `regs` are its registers, and the
        // verifier checks each load against BTF.
        unsafe {
            let task = bpf_get_current_task_btf();
            if let Some(slot) = slot_of(task, true)
                && !is_compat(task)
                && super::enter_plain(slot, &*regs, nr, caller(task).pid_tgid)
            {
                return 0;
            }
        }
        enter_any(ctx.as_ptr())
    }

    /// The entry of any call. As [`exit_any`] a function of its own: what it keeps on the
    /// stack costs the others nothing.
    #[inline(never)]
    extern "C" fn enter_any(ctx: *mut c_void) -> i32 {
        let ctx = BtfTracePointContext::new(ctx);
        let regs: *const PtRegs = ctx.arg(0);
        // SAFETY: as above.
        unsafe {
            let task = bpf_get_current_task_btf();
            let slot = slot_of(task, true);
            super::enter(&*regs, ctx.arg(1), slot, is_compat(task), caller(task));
        }
        0
    }

    #[btf_tracepoint(function = "sys_exit")]
    fn sys_exit(ctx: BtfTracePointContext) -> i32 {
        // SAFETY: as above; the slot is that of the current thread.
        unsafe {
            let task = bpf_get_current_task_btf();
            if let Some(slot) = slot_of(task, false)
                && super::exit_short(slot, || caller(task), || ctx.arg(1))
            {
                return 0;
            }
        }
        exit_any(ctx.as_ptr())
    }

    /// The exit of any call.
    #[inline(never)]
    extern "C" fn exit_any(ctx: *mut c_void) -> i32 {
        let ctx = BtfTracePointContext::new(ctx);
        let regs: *const PtRegs = ctx.arg(0);
        // SAFETY: as above.
        unsafe {
            let task = bpf_get_current_task_btf();
            let slot = slot_of(task, false);
            super::exit(&*regs, ctx.arg(1), slot, is_compat(task), caller(task));
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

    use super::Caller;
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

    /// Who makes the current call.
    #[inline(always)]
    fn caller() -> Caller {
        // SAFETY: the helpers only read.
        unsafe { Caller { pid_tgid: bpf_get_current_pid_tgid(), task: bpf_get_current_task() } }
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
            let caller = caller();
            super::enter(&regs, nr, slot_of(caller.pid_tgid as u32), COMPAT, caller);
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
            let caller = caller();
            super::exit(&regs, ret, slot_of(caller.pid_tgid as u32), COMPAT, caller);
        }
        0
    }
}

#[cfg(feature = "btf")]
pub(crate) use attached::own_slot;
pub(crate) use attached::slot_of;
