//! Processes: fork, exec, exit, rename.

use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{AttachmentHead, COMM_BYTES, flag},
};

use super::{Subject, subject};
use crate::emit::{Scope, add, header, now_ns};

/// A rename as it lies in the ring.
#[repr(C)]
struct Rename {
    fixed: record::ProcessRename,
    head: AttachmentHead,
    comm: [u8; COMM_BYTES],
    pad: u32,
}

/// An end as it lies in the ring.
#[repr(C)]
struct Exit {
    fixed: record::ProcessExit,
    head: AttachmentHead,
    comm: [u8; COMM_BYTES],
    pad: u32,
}

/// What is no zombie any more, as it lies in the ring. Where the name is not known the
/// record ends before its head.
#[repr(C)]
struct Reap {
    fixed: record::ProcessReap,
    head: AttachmentHead,
    comm: [u8; COMM_BYTES],
    pad: u32,
}

/// Counts an event of the recorder's own that is not offered.
#[inline(always)]
fn filter_own() {
    if let Some(scope) = Scope::enter() {
        // SAFETY: a map value of this CPU.
        unsafe { add(&raw mut (*scope.per_cpu()).counters.others_filtered, 1) };
        scope.leave();
    }
}

/// The current thread, or `None` when nothing is recorded or it is our own.
#[inline(always)]
pub(super) fn recorded_thread() -> Option<u64> {
    // SAFETY: the helper only reads two numbers.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    match subject(pid_tgid) {
        Subject::Other => Some(pid_tgid),
        Subject::Own => {
            filter_own();
            None
        }
        Subject::Nobody => None,
    }
}

#[inline(always)]
fn exited(pid_tgid: u64, status: Option<u32>, reaper: u32, gone: bool) {
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    // As in wait(2): the code in the second byte, the signal in the low seven bits.
    let (code, signal, flags) = match status {
        Some(status) => (status >> 8 & 0xff, status & 0x7f, 0),
        None => (0, 0, flag::NO_ARGS),
    };
    let mut exit = Exit {
        fixed: record::ProcessExit {
            header: header(Kind::ProcessExit, now, pid_tgid),
            code,
            signal,
            reaper: u64::from(reaper),
            gone: u64::from(gone),
        },
        head: AttachmentHead { index: 0, flags: 0, bytes: COMM_BYTES as u16 },
        comm: [0; COMM_BYTES],
        pad: 0,
    };
    let bytes = size_of::<Exit>() as u64;
    exit.fixed.header.bytes = bytes as u16;
    exit.fixed.header.attachments = 1;
    exit.fixed.header.flags = flags;
    // SAFETY: `exit` is on the stack and as long as is said; the one that ends is
    // the current thread, and its name is as long as the kernel's.
    unsafe {
        bpf_get_current_comm((&raw mut exit.comm).cast(), COMM_BYTES as u32);
        scope.offer(Kind::ProcessExit, (&raw mut exit).cast(), bytes, now);
    }
    scope.leave();
}

/// The kernel lets go of a task that nobody can find any more (`delayed_put_task_struct`,
/// kernel/exit.c, 5.10 to 6.18). It does so in an interrupt or a thread of its own, whoever
/// was running: the event is the task's.
#[inline(always)]
fn reaped(pid_tgid: u64, start_ns: u64, comm: Option<[u8; COMM_BYTES]>) {
    if subject(pid_tgid) != Subject::Other {
        return;
    }
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    let mut reap = Reap {
        fixed: record::ProcessReap { header: header(Kind::ProcessReap, now, pid_tgid), start_ns },
        head: AttachmentHead { index: 0, flags: 0, bytes: COMM_BYTES as u16 },
        comm: [0; COMM_BYTES],
        pad: 0,
    };
    let mut bytes = size_of::<record::ProcessReap>() as u64;
    if let Some(comm) = comm {
        reap.comm = comm;
        reap.fixed.header.attachments = 1;
        bytes = size_of::<Reap>() as u64;
    }
    reap.fixed.header.bytes = bytes as u16;
    // SAFETY: `reap` is on the stack and at least as long as is said.
    unsafe { scope.offer(Kind::ProcessReap, (&raw mut reap).cast(), bytes, now) };
    scope.leave();
}

#[inline(always)]
fn renamed(thread: u64, comm: [u8; COMM_BYTES]) {
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    let mut rename = Rename {
        fixed: record::ProcessRename { header: header(Kind::ProcessRename, now, thread) },
        head: AttachmentHead { index: 0, flags: 0, bytes: COMM_BYTES as u16 },
        comm,
        pad: 0,
    };
    let bytes = size_of::<Rename>() as u64;
    rename.fixed.header.bytes = bytes as u16;
    rename.fixed.header.attachments = 1;
    // SAFETY: `rename` is on the stack and as long as is said.
    unsafe { scope.offer(Kind::ProcessRename, (&raw mut rename).cast(), bytes, now) };
    scope.leave();
}

#[cfg(feature = "btf")]
mod attached {
    use aya_ebpf::{
        bindings::task_struct,
        helpers::generated::{
            bpf_get_current_task_btf, bpf_probe_read_kernel_str, bpf_probe_read_user,
        },
        macros::btf_tracepoint,
        programs::BtfTracePointContext,
    };
    use recorder_ebpf::{
        schema::{Kind, record},
        wire::{
            AttachmentHead, COMM_BYTES, EXEC_ARGS_BYTES_MAX, RECORD_BYTES_MAX, STRING_BYTES_MAX,
            attachment_flag, shared, slot_state,
        },
    };

    use super::{exited, reaped, recorded_thread, renamed};
    use crate::{
        emit::{Scope, header, now_ns},
        maps::{
            BPRM_FILENAME, ENDS_KNOWN, FILES_KNOWN, MM_ARG_END, MM_ARG_START, SCRATCH, TASK_COMM,
            TASK_EXIT_CODE, TASK_FILES, TASK_FS, TASK_MM, TASK_PID, TASK_START, TASK_TGID,
        },
        probes::{
            STRING_READ_BYTES, bound,
            cgroup::group_of,
            family::{is_sibling, leaves_nothing, reaper},
            files::credentials,
            fork::attach_differing,
            read_field, string_answer,
            syscall::{resolve_exec_path, slot_of},
        },
    };

    /// match-proto: `trace_sched_process_fork(struct task_struct *, struct task_struct *)`
    #[btf_tracepoint(function = "sched_process_fork")]
    fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
        let child: *mut task_struct = ctx.arg(1);
        // SAFETY: the child is alive and not yet running; reads are checked.
        unsafe {
            // Marked whoever forks: the mark keeps its first return from being
            // taken for a call.
            if let Some(slot) = slot_of(child, true) {
                (*slot).state = slot_state::CHILD;
            }
            let Some(parent) = recorded_thread() else { return 0 };
            let pid = read_field(child.cast(), TASK_TGID.load());
            let tid = read_field(child.cast(), TASK_PID.load());
            let own: *const u8 = bpf_get_current_task_btf().cast_const().cast();
            let child: *const u8 = child.cast_const().cast();
            let group = group_of(child);
            let mut shares = shares(own, child);
            if group != 0 && group == group_of(own) {
                shares |= shared::CONTROL_GROUP;
            }
            if pid == tid && is_sibling(own, child) {
                shares |= shared::PARENT;
            }
            let Some(scope) = Scope::enter() else { return 0 };
            if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
                // The time first: what the parent does from now on is not the child's.
                let now = now_ns();
                let scratch = scratch.cast::<u8>();
                let end = attach_differing(scratch, FORK_BYTES, own, child, shares);
                let fork = scratch.cast::<record::ProcessFork>();
                (*fork).header = header(Kind::ProcessFork, now, parent);
                (*fork).header.bytes = end as u16;
                (*fork).header.attachments = u8::from(end > FORK_BYTES);
                (*fork).child_pid = pid;
                (*fork).child_tid = tid;
                (*fork).shares = u64::from(shares);
                (*fork).child_cgroup = group;
                let bytes = u64::from(bound(end, RECORD_BYTES_MAX as u32 - 1));
                scope.offer(Kind::ProcessFork, scratch.cast(), bytes, now);
            }
            scope.leave();
        }
        0
    }

    /// Where the first attachment of a fork begins.
    const FORK_BYTES: u32 = size_of::<record::ProcessFork>() as u32;

    /// What two tasks have in common.
    #[inline(always)]
    unsafe fn shares(parent: *const u8, child: *const u8) -> u32 {
        if FILES_KNOWN.load() == 0 {
            return shared::UNKNOWN;
        }
        let mut shares = 0;
        // SAFETY: the helper checks every address.
        unsafe {
            let files: u64 = read_field(parent, TASK_FILES.load());
            if files == read_field::<u64>(child, TASK_FILES.load()) {
                shares |= shared::FILES;
            }
            let directory: u64 = read_field(parent, TASK_FS.load());
            if directory == read_field::<u64>(child, TASK_FS.load()) {
                shares |= shared::DIRECTORY;
            }
        }
        shares
    }

    /// match-proto: `trace_sched_process_exit(struct task_struct *)`
    #[btf_tracepoint(function = "sched_process_exit")]
    fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
        let Some(thread) = recorded_thread() else { return 0 };
        // SAFETY: the current task is the one that ends.
        unsafe {
            let task = bpf_get_current_task_btf();
            if let Some(slot) = slot_of(task, false) {
                (*slot).state = slot_state::EMPTY;
            }
            let status: u32 = read_field(task.cast_const().cast(), TASK_EXIT_CODE.load());
            let task = task.cast_const().cast();
            exited(thread, Some(status), reaper(task), leaves_nothing(task));
        }
        0
    }

    /// match-proto: `trace_sched_process_free(struct task_struct *)`
    #[btf_tracepoint(function = "sched_process_free")]
    fn sched_process_free(ctx: BtfTracePointContext) -> i32 {
        let task: *const u8 = ctx.arg(0);
        let mut comm = [0u8; COMM_BYTES];
        // SAFETY: `comm` is as long as is said; the helpers check every address.
        unsafe {
            let pid: u32 = read_field(task, TASK_TGID.load());
            let tid: u32 = read_field(task, TASK_PID.load());
            // Other threads leave nothing behind. A leader whose place another thread took
            // by exec has got that one's number (`exchange_tids`, kernel/pid.c).
            if pid == tid {
                let name = task.wrapping_add(TASK_COMM.load() as usize);
                bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), COMM_BYTES as u32, name.cast());
                let is_known = ENDS_KNOWN.load() != 0;
                let start_ns = if is_known { read_field(task, TASK_START.load()) } else { 0 };
                reaped(u64::from(pid) << 32 | u64::from(tid), start_ns, Some(comm));
            }
        }
        0
    }

    /// match-proto: `trace_task_rename(struct task_struct *, const char *)`
    #[btf_tracepoint(function = "task_rename")]
    fn task_rename(ctx: BtfTracePointContext) -> i32 {
        let task: *const task_struct = ctx.arg(0);
        let name: *const u8 = ctx.arg(1);
        if recorded_thread().is_none() {
            return 0;
        }
        let mut comm = [0u8; COMM_BYTES];
        // SAFETY: `comm` is as long as is said; the helper checks the address.
        unsafe {
            bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), COMM_BYTES as u32, name.cast());
            let pid: u32 = read_field(task.cast(), TASK_TGID.load());
            let tid: u32 = read_field(task.cast(), TASK_PID.load());
            renamed(u64::from(pid) << 32 | u64::from(tid), comm);
        }
        0
    }

    /// match-proto: `trace_sched_process_exec(struct task_struct *, pid_t, struct linux_binprm *)`
    #[btf_tracepoint(function = "sched_process_exec")]
    fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
        let task: *const u8 = ctx.arg(0);
        let old_tid: u32 = ctx.arg(1);
        let bprm: *const u8 = ctx.arg(2);
        let Some(thread) = recorded_thread() else { return 0 };
        let Some(scope) = Scope::enter() else { return 0 };
        // SAFETY: this is task context, so the scratch buffer is ours; it is
        // longer than the fixed part, a path and the arguments. The helpers
        // check every address.
        unsafe {
            executed(&scope, thread, task, old_tid, bprm);
        }
        scope.leave();
        0
    }

    #[inline(always)]
    unsafe fn executed(scope: &Scope, thread: u64, task: *const u8, old_tid: u32, bprm: *const u8) {
        const HEAD: usize = size_of::<AttachmentHead>();
        const FIXED: usize = size_of::<record::ProcessExec>();
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
        let scratch = scratch.cast::<u8>();
        let now = now_ns();
        // SAFETY: see the caller.
        unsafe {
            let name: *const u8 = read_field::<u64>(bprm, BPRM_FILENAME.load()) as *const u8;
            let answer = bpf_probe_read_kernel_str(
                scratch.add(FIXED + HEAD).cast(),
                STRING_READ_BYTES,
                name.cast(),
            );
            resolve_exec_path(task as u64, name);
            let (length, flags) = string_answer(answer);
            scratch.add(FIXED).cast::<AttachmentHead>().write_unaligned(AttachmentHead {
                index: 0,
                flags,
                bytes: length as u16,
            });
            let at = FIXED as u32 + HEAD as u32 + (length + 3 & !3);
            let at = bound(at, 2 * STRING_BYTES_MAX as u32 - 1);

            let mm: *const u8 = read_field::<u64>(task, TASK_MM.load()) as *const u8;
            let start: u64 = read_field(mm, MM_ARG_START.load());
            let end: u64 = read_field(mm, MM_ARG_END.load());
            let total = end.wrapping_sub(start) as u32;
            let kept =
                if total > EXEC_ARGS_BYTES_MAX as u32 { EXEC_ARGS_BYTES_MAX as u32 } else { total };
            let kept = bound(kept, 2 * EXEC_ARGS_BYTES_MAX as u32 - 1);
            let body = scratch.add(at as usize + HEAD);
            let mut flags = if kept < total { attachment_flag::CUT } else { 0 };
            let mut length = kept;
            if bpf_probe_read_user(body.cast(), kept, start as *const core::ffi::c_void) != 0 {
                flags = attachment_flag::UNREADABLE;
                length = 0;
            }
            scratch.add(at as usize).cast::<AttachmentHead>().write_unaligned(AttachmentHead {
                index: 1,
                flags,
                bytes: length as u16,
            });
            let bytes = at + HEAD as u32 + (length + 3 & !3);
            let bytes = bound(bytes, 4 * STRING_BYTES_MAX as u32 - 1);
            let fixed = scratch.cast::<record::ProcessExec>();
            (*fixed).header = header(Kind::ProcessExec, now, thread);
            (*fixed).header.bytes = bytes as u16;
            (*fixed).header.attachments = 2;
            (*fixed).old_tid = old_tid;
            (*fixed).args_bytes = total;
            let who = credentials(task);
            (*fixed).uid = who.uid;
            (*fixed).gid = who.gid;
            (*fixed).euid = who.euid;
            (*fixed).egid = who.egid;
            scope.offer(Kind::ProcessExec, scratch.cast(), u64::from(bytes), now);
        }
    }
}

#[cfg(not(feature = "btf"))]
mod attached {
    use aya_ebpf::{
        EbpfContext as _,
        helpers::generated::{
            bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel_str,
        },
        macros::tracepoint,
        programs::TracePointContext,
    };
    use recorder_ebpf::{
        schema::{Kind, record},
        wire::{AttachmentHead, COMM_BYTES, STRING_BYTES_MAX, flag, shared, slot_state},
    };

    use super::{exited, reaped, recorded_thread, renamed};
    use crate::{
        emit::{Scope, header, now_ns},
        maps::{
            EXEC_FILENAME, EXEC_OLD_PID, FORK_CHILD_PID, FREE_PID, RENAME_NEWCOMM, RENAME_PID,
            SCRATCH,
        },
        probes::{
            STRING_READ_BYTES, bound, read_field, string_answer,
            syscall::{resolve_exec_path, slot_of},
        },
    };

    /// The format does not say whether the child is a thread: it is taken for a
    /// process of its own.
    #[tracepoint(category = "sched", name = "sched_process_fork")]
    fn sched_process_fork(ctx: TracePointContext) -> i32 {
        // SAFETY: the helper checks the address.
        let child: u32 = unsafe { read_field(ctx.as_ptr().cast(), FORK_CHILD_PID.load()) };
        if let Some(slot) = slot_of(child) {
            // SAFETY: a map value; the child is not yet running.
            unsafe { (*slot).state = slot_state::CHILD };
        }
        if let Some(parent) = recorded_thread() {
            forked(parent, child);
        }
        0
    }

    #[inline(always)]
    fn forked(pid_tgid: u64, child: u32) {
        let Some(scope) = Scope::enter() else { return };
        let now = now_ns();
        let mut fork = record::ProcessFork {
            header: header(Kind::ProcessFork, now, pid_tgid),
            child_pid: child,
            child_tid: child,
            shares: u64::from(shared::UNKNOWN),
            child_cgroup: 0,
        };
        // SAFETY: `fork` is on the stack and as long as is said.
        unsafe {
            let bytes = size_of::<record::ProcessFork>() as u64;
            scope.offer(Kind::ProcessFork, (&raw mut fork).cast(), bytes, now);
        }
        scope.leave();
    }

    /// The format has no exit code: the record says that it is not known.
    #[tracepoint(category = "sched", name = "sched_process_exit")]
    fn sched_process_exit(_ctx: TracePointContext) -> i32 {
        let Some(thread) = recorded_thread() else { return 0 };
        if let Some(slot) = slot_of(thread as u32) {
            // SAFETY: a map value of the current thread.
            unsafe { (*slot).state = slot_state::EMPTY };
        }
        exited(thread, None, 0, false);
        0
    }

    /// Of any thread: the format does not say whether it is a process.
    #[tracepoint(category = "sched", name = "sched_process_free")]
    fn sched_process_free(ctx: TracePointContext) -> i32 {
        // SAFETY: the helper checks the address.
        let pid: u32 = unsafe { read_field(ctx.as_ptr().cast(), FREE_PID.load()) };
        reaped(u64::from(pid) << 32 | u64::from(pid), 0, None);
        0
    }

    #[tracepoint(category = "task", name = "task_rename")]
    fn task_rename(ctx: TracePointContext) -> i32 {
        if recorded_thread().is_none() {
            return 0;
        }
        let mut comm = [0u8; COMM_BYTES];
        // SAFETY: `comm` is as long as is said; the helpers check every address.
        unsafe {
            let name = ctx.as_ptr().cast::<u8>().wrapping_add(RENAME_NEWCOMM.load() as usize);
            bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), COMM_BYTES as u32, name.cast());
            let tid: u32 = read_field(ctx.as_ptr().cast(), RENAME_PID.load());
            let current = bpf_get_current_pid_tgid();
            // Another thread's name can be changed by /proc: its process is not known.
            renamed(if current as u32 == tid { current } else { u64::from(tid) }, comm);
        }
        0
    }

    #[tracepoint(category = "sched", name = "sched_process_exec")]
    fn sched_process_exec(ctx: TracePointContext) -> i32 {
        const HEAD: usize = size_of::<AttachmentHead>();
        const FIXED: usize = size_of::<record::ProcessExec>();
        let Some(thread) = recorded_thread() else { return 0 };
        let Some(scope) = Scope::enter() else { return 0 };
        if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
            let scratch = scratch.cast::<u8>();
            let now = now_ns();
            // SAFETY: task context, so the scratch buffer is ours, and it is longer
            // than the fixed part and a path. The helpers check every address.
            unsafe {
                let context = ctx.as_ptr().cast::<u8>();
                // A data location: the low half is the offset in the record.
                let location: u32 = read_field(context, EXEC_FILENAME.load());
                let name = context.wrapping_add((location & 0xffff) as usize);
                let body = scratch.add(FIXED + HEAD);
                let size = STRING_READ_BYTES;
                let answer = bpf_probe_read_kernel_str(body.cast(), size, name.cast());
                resolve_exec_path(bpf_get_current_task(), name);
                let (length, flags) = string_answer(answer);
                scratch.add(FIXED).cast::<AttachmentHead>().write_unaligned(AttachmentHead {
                    index: 0,
                    flags,
                    bytes: length as u16,
                });
                let bytes = (FIXED + HEAD) as u32 + (length + 3 & !3);
                let bytes = bound(bytes, 2 * STRING_BYTES_MAX as u32 - 1);
                let fixed = scratch.cast::<record::ProcessExec>();
                (*fixed).header = header(Kind::ProcessExec, now, thread);
                (*fixed).header.bytes = bytes as u16;
                (*fixed).header.attachments = 1;
                (*fixed).header.flags = flag::NO_ARGS;
                let old_tid: u32 = read_field(context, EXEC_OLD_PID.load());
                (*fixed).old_tid = old_tid;
                (*fixed).args_bytes = 0;
                // As little known as the arguments.
                (*fixed).uid = 0;
                (*fixed).gid = 0;
                (*fixed).euid = 0;
                (*fixed).egid = 0;
                move_slot(old_tid, thread as u32);
                scope.offer(Kind::ProcessExec, scratch.cast(), u64::from(bytes), now);
            }
        }
        scope.leave();
        0
    }

    /// A thread that is not the leader takes the leader's id when it calls exec.
    #[inline(always)]
    fn move_slot(old_tid: u32, tid: u32) {
        if old_tid == tid {
            return;
        }
        if let (Some(old), Some(new)) = (slot_of(old_tid), slot_of(tid)) {
            // SAFETY: two map values of the current thread.
            unsafe {
                *new = *old;
                (*old).state = slot_state::EMPTY;
            }
        }
    }
}
