//! Who is whose child, from the kernel's own structures.

use super::read_field;
use crate::maps::{
    ACTION_FLAGS, ACTION_HANDLER, ACTION_MASK, ENDS_KNOWN, FAMILY_KNOWN, PID_LEVEL,
    PID_NAMESPACE_REAPER, PID_NUMBERS, SIGHAND_ACTION, SIGNAL_LIVE, SIGNAL_SUBREAPER,
    SIGNAL_SUBREAPER_BIT, TASK_EXIT_SIGNAL, TASK_LEADER, TASK_PTRACE, TASK_REAL_PARENT,
    TASK_SIGHAND, TASK_SIGNAL, TASK_TGID, TASK_THREAD_PID, UPID_NAMESPACE,
};

/// `struct upid`, include/linux/pid.h: a number and a pointer.
const UPID_BYTES: usize = 16;

/// Namespaces in one another at the most, include/linux/pid_namespace.h.
const LEVELS_MAX: u32 = 32;

/// `SIGCHLD`, `SIG_IGN` and `SA_NOCLDWAIT` of x86-64 and aarch64,
/// include/uapi/asm-generic/signal.h.
const SIGCHLD: u32 = 17;
const SIG_IGN: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;

/// Bytes of `sigset_t`, behind which a `k_sigaction` ends.
const SIGSET_BYTES: u32 = 8;

/// Whether a new task has the parent of the one that made it.
///
/// # Safety
/// None really: the helper checks every address.
#[inline(always)]
pub(crate) unsafe fn is_sibling(maker: *const u8, child: *const u8) -> bool {
    if FAMILY_KNOWN.load() == 0 {
        return false;
    }
    // SAFETY: the helper checks every address.
    unsafe { parent(maker) == parent(child) }
}

#[inline(always)]
unsafe fn parent(task: *const u8) -> *const u8 {
    // SAFETY: the helper checks the address.
    unsafe { read_field::<u64>(task, TASK_REAL_PARENT.load()) as *const u8 }
}

/// The process that inherits the children of a process whose last thread ends, which is
/// `task`: as `find_new_reaper` of kernel/exit.c finds it, the nearest ancestor in the same
/// namespace that asked for them, else the first process of the namespace. 0 while other
/// threads live: one of those inherits.
///
/// # Safety
/// None really: the helper checks every address.
#[inline(always)]
pub(crate) unsafe fn reaper(task: *const u8) -> u32 {
    if FAMILY_KNOWN.load() == 0 {
        return 0;
    }
    // SAFETY: the helper checks every address.
    unsafe {
        let signal = read_field::<u64>(task, TASK_SIGNAL.load()) as *const u8;
        // Counted down before the tracepoint, in 5.10 and in 6.18.
        if read_field::<u32>(signal, SIGNAL_LIVE.load()) != 0 {
            return 0;
        }
        let (namespace, level) = namespace_of(task);
        let first = read_field::<u64>(namespace, PID_NAMESPACE_REAPER.load()) as *const u8;
        let mut ancestor = task;
        let mut found = 0;
        macro_rules! steps {
            ($($step:literal)*) => { $( if found == 0 {
                let _ = $step;
                ancestor = parent(ancestor);
                if ancestor == first || namespace_of(ancestor).1 != level {
                    found = 2;
                } else if asks_for_orphans(ancestor) {
                    found = 1;
                }
            } )* };
        }
        // Not a loop: 5.10 has none that the verifier follows far enough.
        steps! { 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 }
        read_field(if found == 1 { ancestor } else { first }, TASK_TGID.load())
    }
}

/// The pid namespace of a task, and how deep it lies.
#[inline(always)]
unsafe fn namespace_of(task: *const u8) -> (*const u8, u32) {
    // SAFETY: the helper checks every address.
    unsafe {
        let pid = read_field::<u64>(task, TASK_THREAD_PID.load()) as *const u8;
        let level: u32 = read_field(pid, PID_LEVEL.load());
        let level = if level < LEVELS_MAX { level } else { 0 };
        let numbers = pid.wrapping_add(PID_NUMBERS.load() as usize);
        let own = numbers.wrapping_add(level as usize * UPID_BYTES);
        (read_field::<u64>(own, UPID_NAMESPACE.load()) as *const u8, level)
    }
}

/// Whether a process that has threads left is a subreaper, see `PR_SET_CHILD_SUBREAPER`.
#[inline(always)]
unsafe fn asks_for_orphans(task: *const u8) -> bool {
    // SAFETY: the helper checks every address.
    unsafe {
        let signal = read_field::<u64>(task, TASK_SIGNAL.load()) as *const u8;
        let bits = read_field::<u8>(signal, SIGNAL_SUBREAPER.load());
        bits >> (SIGNAL_SUBREAPER_BIT.load() & 7) & 1 != 0
            && read_field::<u32>(signal, SIGNAL_LIVE.load()) != 0
    }
}

/// Whether the process whose last thread ends, which is `task`, leaves no zombie behind,
/// as `do_notify_parent` of kernel/signal.c decides a moment later: its parent ignores
/// `SIGCHLD` or has said `SA_NOCLDWAIT`. Where it is traced the tracer decides, later.
///
/// # Safety
/// None really: the helper checks every address.
#[inline(always)]
pub(crate) unsafe fn leaves_nothing(task: *const u8) -> bool {
    if ENDS_KNOWN.load() == 0 {
        return false;
    }
    // SAFETY: the helper checks every address.
    unsafe {
        let signal = read_field::<u64>(task, TASK_SIGNAL.load()) as *const u8;
        let leader = read_field::<u64>(task, TASK_LEADER.load()) as *const u8;
        if read_field::<u32>(signal, SIGNAL_LIVE.load()) != 0
            || read_field::<u32>(leader, TASK_EXIT_SIGNAL.load()) != SIGCHLD
            || read_field::<u32>(leader, TASK_PTRACE.load()) != 0
        {
            return false;
        }
        let handlers = read_field::<u64>(parent(leader), TASK_SIGHAND.load()) as *const u8;
        let action_bytes = ACTION_MASK.load() + SIGSET_BYTES;
        let at = SIGHAND_ACTION.load() + (SIGCHLD - 1) * action_bytes;
        let action = handlers.wrapping_add(at as usize);
        read_field::<u64>(action, ACTION_HANDLER.load()) == SIG_IGN
            || read_field::<u64>(action, ACTION_FLAGS.load()) & SA_NOCLDWAIT != 0
    }
}
