//! Control groups: which are made and removed, and who is moved to which.
//!
//! The kernel makes the path itself before it traces, from the root of the hierarchy
//! whatever namespace anybody is in. These programs run under a spin lock of it, one at a
//! time on the whole machine, in the context of the task that asked.

use recorder_ebpf::{
    schema::{Kind, record},
    wire::{AttachmentHead, STRING_BYTES_MAX},
};

use super::{STRING_READ_BYTES, bound, process::recorded_thread, string_answer};
use crate::{
    emit::{Scope, header, now_ns},
    maps::{SCRATCH, SCRATCH_BYTES},
};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

/// A group as the kernel names it.
#[derive(Clone, Copy)]
struct Group {
    hierarchy: u32,
    id: u64,
    path: *const u8,
}

/// Puts the path behind the fixed part; answers the length of the record.
///
/// # Safety
/// `scratch` is the scratch buffer, and ours: task context, preemption disabled.
#[inline(always)]
unsafe fn put_path(scratch: *mut u8, fixed_bytes: usize, path: *const u8) -> u32 {
    const HEAD: usize = size_of::<AttachmentHead>();
    // SAFETY: the buffer is longer than the fixed part and a path; the helper checks the
    // address.
    unsafe {
        let body = scratch.add(fixed_bytes + HEAD);
        let answer = bpf_probe_read_kernel_str(body.cast(), STRING_READ_BYTES, path.cast());
        let (length, flags) = string_answer(answer);
        scratch.add(fixed_bytes).cast::<AttachmentHead>().write_unaligned(AttachmentHead {
            index: 0,
            flags,
            bytes: length as u16,
        });
        bound((fixed_bytes + HEAD) as u32 + (length + 3 & !3), 2 * STRING_BYTES_MAX as u32 - 1)
    }
}

const _: () = assert!(2 * STRING_BYTES_MAX < SCRATCH_BYTES);

/// A group was made or removed.
#[inline(always)]
fn changed(change: u32, group: Group) {
    let Some(thread) = recorded_thread() else { return };
    let Some(scope) = Scope::enter() else { return };
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        let scratch = scratch.cast::<u8>();
        let now = now_ns();
        // SAFETY: see `put_path`; the fixed part is at the front of the buffer.
        unsafe {
            let bytes = put_path(scratch, size_of::<record::Cgroup>(), group.path);
            let fixed = scratch.cast::<record::Cgroup>();
            (*fixed).header = header(Kind::Cgroup, now, thread);
            (*fixed).header.bytes = bytes as u16;
            (*fixed).header.attachments = 1;
            (*fixed).hierarchy = group.hierarchy;
            (*fixed).change = change;
            (*fixed).id = group.id;
            scope.offer(Kind::Cgroup, scratch.cast(), u64::from(bytes), now);
        }
    }
    scope.leave();
}

/// A process, or one thread of it, was moved to a group by the current thread.
#[inline(always)]
fn moved(pid: u32, tid: u32, group: Group) {
    let Some(thread) = recorded_thread() else { return };
    let Some(scope) = Scope::enter() else { return };
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        let scratch = scratch.cast::<u8>();
        let now = now_ns();
        // SAFETY: as in `changed`.
        unsafe {
            let bytes = put_path(scratch, size_of::<record::CgroupAttach>(), group.path);
            let fixed = scratch.cast::<record::CgroupAttach>();
            (*fixed).header = header(Kind::CgroupAttach, now, thread);
            (*fixed).header.bytes = bytes as u16;
            (*fixed).header.attachments = 1;
            (*fixed).moved_pid = pid;
            (*fixed).moved_tid = tid;
            (*fixed).hierarchy = u64::from(group.hierarchy);
            (*fixed).id = group.id;
            scope.offer(Kind::CgroupAttach, scratch.cast(), u64::from(bytes), now);
        }
    }
    scope.leave();
}

#[cfg(feature = "btf")]
mod attached {
    use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
    use recorder_ebpf::wire::group_change;

    use super::{Group, changed, moved};
    use crate::{
        maps::{
            CSS_SET_GROUP, GROUP_NODE, GROUP_ROOT, GROUPS_KNOWN, NODE_ID, ROOT_HIERARCHY,
            TASK_CGROUPS, TASK_PID, TASK_TGID,
        },
        probes::read_field,
    };

    impl Group {
        /// The group `group` is, a `struct cgroup`; `None` where it is not known how to
        /// ask, which is among what is missing.
        #[inline(always)]
        fn of(group: *const u8, path: *const u8) -> Option<Group> {
            if GROUPS_KNOWN.load() == 0 {
                return None;
            }
            // SAFETY: the helper checks every address.
            unsafe {
                let root = read_field::<u64>(group, GROUP_ROOT.load()) as *const u8;
                let hierarchy = read_field(root, ROOT_HIERARCHY.load());
                Some(Group { hierarchy, id: id_of(group), path })
            }
        }
    }

    #[inline(always)]
    unsafe fn id_of(group: *const u8) -> u64 {
        // SAFETY: the helper checks every address.
        unsafe {
            let node = read_field::<u64>(group, GROUP_NODE.load()) as *const u8;
            read_field(node, NODE_ID.load())
        }
    }

    /// The id of the group of version 2 that a task is in; 0 where it is not known. A
    /// child has its own before it is traced (`copy_process`, kernel/fork.c).
    ///
    /// # Safety
    /// None really: the helper checks every address.
    #[inline(always)]
    pub(crate) unsafe fn group_of(task: *const u8) -> u64 {
        if GROUPS_KNOWN.load() == 0 {
            return 0;
        }
        // SAFETY: the helper checks every address.
        unsafe {
            let set = read_field::<u64>(task, TASK_CGROUPS.load()) as *const u8;
            id_of(read_field::<u64>(set, CSS_SET_GROUP.load()) as *const u8)
        }
    }

    /// match-proto: `trace_cgroup_mkdir(struct cgroup *, const char *)`
    #[btf_tracepoint(function = "cgroup_mkdir")]
    fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
        if let Some(group) = Group::of(ctx.arg(0), ctx.arg(1)) {
            changed(group_change::MADE, group);
        }
        0
    }

    /// match-proto: `trace_cgroup_rmdir(struct cgroup *, const char *)`
    #[btf_tracepoint(function = "cgroup_rmdir")]
    fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
        if let Some(group) = Group::of(ctx.arg(0), ctx.arg(1)) {
            changed(group_change::REMOVED, group);
        }
        0
    }

    /// match-proto: `trace_cgroup_attach_task(struct cgroup *, const char *,
    /// struct task_struct *, bool)`
    #[btf_tracepoint(function = "cgroup_attach_task")]
    fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
        let task: *const u8 = ctx.arg(2);
        // SAFETY: the helper checks every address.
        let (pid, tid) =
            unsafe { (read_field(task, TASK_TGID.load()), read_field(task, TASK_PID.load())) };
        if let Some(group) = Group::of(ctx.arg(0), ctx.arg(1)) {
            moved(pid, tid, group);
        }
        0
    }
}

#[cfg(feature = "btf")]
pub(super) use attached::group_of;

#[cfg(not(feature = "btf"))]
mod attached {
    use aya_ebpf::{EbpfContext as _, macros::tracepoint, programs::TracePointContext};
    use recorder_ebpf::wire::group_change;

    use super::{Group, changed, moved};
    use crate::{
        maps::{
            ATTACH_HIERARCHY, ATTACH_ID, ATTACH_PATH, ATTACH_PID, GROUP_HIERARCHY, GROUP_ID,
            GROUP_PATH,
        },
        probes::read_field,
    };

    impl Group {
        /// The group whose fields lie there in the record of the tracepoint.
        #[inline(always)]
        fn of(ctx: &TracePointContext, hierarchy: u32, id: u32, path: u32) -> Group {
            let context = ctx.as_ptr().cast::<u8>().cast_const();
            // SAFETY: the helper checks every address.
            unsafe {
                // A data location: the low half is the offset in the record.
                let location: u32 = read_field(context, path);
                Group {
                    hierarchy: read_field(context, hierarchy),
                    id: read_field(context, id),
                    path: context.wrapping_add((location & 0xffff) as usize),
                }
            }
        }

        #[inline(always)]
        fn of_change(ctx: &TracePointContext) -> Group {
            Group::of(ctx, GROUP_HIERARCHY.load(), GROUP_ID.load(), GROUP_PATH.load())
        }
    }

    #[tracepoint(category = "cgroup", name = "cgroup_mkdir")]
    fn cgroup_mkdir(ctx: TracePointContext) -> i32 {
        changed(group_change::MADE, Group::of_change(&ctx));
        0
    }

    #[tracepoint(category = "cgroup", name = "cgroup_rmdir")]
    fn cgroup_rmdir(ctx: TracePointContext) -> i32 {
        changed(group_change::REMOVED, Group::of_change(&ctx));
        0
    }

    /// The format does not say whether one thread was moved or all: whoever knows the
    /// threads can tell.
    #[tracepoint(category = "cgroup", name = "cgroup_attach_task")]
    fn cgroup_attach_task(ctx: TracePointContext) -> i32 {
        // SAFETY: the helper checks the address.
        let pid: u32 = unsafe { read_field(ctx.as_ptr().cast(), ATTACH_PID.load()) };
        let (hierarchy, id) = (ATTACH_HIERARCHY.load(), ATTACH_ID.load());
        moved(pid, pid, Group::of(&ctx, hierarchy, id, ATTACH_PATH.load()));
        0
    }
}
