//! Memory: whom the kernel kills for want of it.

use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{AttachmentHead, COMM_BYTES},
};

use super::{Subject, subject};
use crate::emit::{Scope, header, now_ns};

/// A kill as it lies in the ring. Where the name is not known the record ends
/// before its head.
#[repr(C)]
struct OomKill {
    fixed: record::OomKill,
    head: AttachmentHead,
    comm: [u8; COMM_BYTES],
    pad: u32,
}

/// Who was chosen, as far as the kernel says.
struct Victim {
    pid: u32,
    tid: u32,
    comm: Option<[u8; COMM_BYTES]>,
}

impl Victim {
    /// Where the kernel gives a number and nothing else. It has chosen a process
    /// and names its first thread that still has memory, which is its leader
    /// unless that has ended (`find_lock_task_mm`, mm/oom_kill.c).
    #[inline(always)]
    fn of_number(tid: u32) -> Victim {
        // SAFETY: the helper only reads two numbers.
        let current = unsafe { bpf_get_current_pid_tgid() };
        if current as u32 != tid {
            return Victim { pid: tid, tid, comm: None };
        }
        let mut comm = [0; COMM_BYTES];
        // SAFETY: `comm` is as long as is said.
        unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_BYTES as u32) };
        Victim { pid: (current >> 32) as u32, tid, comm: Some(comm) }
    }
}

/// The current thread asked for the memory. It may be the recorder itself: then
/// somebody else dies for it, which is no event of its own.
#[inline(always)]
fn chosen(victim: Victim) {
    if subject(0) == Subject::Nobody {
        return;
    }
    let Some(scope) = Scope::enter() else { return };
    let now = now_ns();
    // SAFETY: the helper only reads two numbers.
    let by = unsafe { bpf_get_current_pid_tgid() };
    let pid_tgid = u64::from(victim.pid) << 32 | u64::from(victim.tid);
    let mut kill = OomKill {
        fixed: record::OomKill {
            header: header(Kind::OomKill, now, pid_tgid),
            by_pid: (by >> 32) as u32,
            by_tid: by as u32,
        },
        head: AttachmentHead { index: 0, flags: 0, bytes: COMM_BYTES as u16 },
        comm: [0; COMM_BYTES],
        pad: 0,
    };
    let mut bytes = size_of::<record::OomKill>() as u64;
    if let Some(comm) = victim.comm {
        kill.comm = comm;
        kill.fixed.header.attachments = 1;
        bytes = size_of::<OomKill>() as u64;
    }
    kill.fixed.header.bytes = bytes as u16;
    // SAFETY: `kill` is on the stack and at least as long as is said.
    unsafe { scope.offer(Kind::OomKill, (&raw mut kill).cast(), bytes, now) };
    scope.leave();
}

#[cfg(feature = "btf")]
mod attached {
    use aya_ebpf::{
        helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
        programs::BtfTracePointContext,
    };
    use recorder_ebpf::wire::COMM_BYTES;

    use super::{Victim, chosen};
    use crate::{
        maps::{OOM_HAS_TASK, TASK_COMM, TASK_PID, TASK_TGID},
        probes::read_field,
    };

    /// match-proto: `trace_mark_victim(struct task_struct *, uid_t)` (6.9, and stable
    /// kernels that took it over), before `trace_mark_victim(int)`: the loader says which.
    #[btf_tracepoint(function = "mark_victim")]
    fn mark_victim(ctx: BtfTracePointContext) -> i32 {
        let first: u64 = ctx.arg(0);
        if OOM_HAS_TASK.load() == 0 {
            chosen(Victim::of_number(first as u32));
            return 0;
        }
        let task = first as *const u8;
        let mut comm = [0; COMM_BYTES];
        // SAFETY: `comm` is as long as is said; the helpers check every address.
        unsafe {
            let name = task.wrapping_add(TASK_COMM.load() as usize);
            bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), COMM_BYTES as u32, name.cast());
            chosen(Victim {
                pid: read_field(task, TASK_TGID.load()),
                tid: read_field(task, TASK_PID.load()),
                comm: Some(comm),
            });
        }
        0
    }
}

#[cfg(not(feature = "btf"))]
mod attached {
    use aya_ebpf::{
        EbpfContext as _, helpers::generated::bpf_probe_read_kernel_str, macros::tracepoint,
        programs::TracePointContext,
    };
    use recorder_ebpf::wire::COMM_BYTES;

    use super::{Victim, chosen};
    use crate::{
        maps::{OOM_COMM, OOM_PID},
        probes::read_field,
    };

    #[tracepoint(category = "oom", name = "mark_victim")]
    fn mark_victim(ctx: TracePointContext) -> i32 {
        let context = ctx.as_ptr().cast::<u8>();
        // SAFETY: the helper checks the address.
        let tid: u32 = unsafe { read_field(context, OOM_PID.load()) };
        let mut victim = Victim::of_number(tid);
        if OOM_COMM.load() != 0 {
            let mut comm = [0; COMM_BYTES];
            // SAFETY: `comm` is as long as is said; the helpers check every address.
            unsafe {
                // A data location: the low half is the offset in the record.
                let location: u32 = read_field(context, OOM_COMM.load());
                let name = context.wrapping_add((location & 0xffff) as usize);
                bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), COMM_BYTES as u32, name.cast());
            }
            victim.comm = Some(comm);
        }
        chosen(victim);
        0
    }
}
