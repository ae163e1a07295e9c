//! Every map and every global.

use aya_ebpf::{
    Global,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use recorder_ebpf::wire::{
    CALLS_MAX, PerCpu, RECORD_BYTES_MAX, Reading, STRING_BYTES_MAX,
    plan::{READINGS_MAX, SELECTED_MAX},
};

#[cfg(not(feature = "btf"))]
use aya_ebpf::btf_maps::ArrayOfMaps;
#[cfg(feature = "btf")]
use recorder_ebpf::wire::ring;

#[cfg(feature = "btf")]
use crate::storage::TaskStorage;

/// Room for every CPU the loader finds; it sets the real number.
const CPUS: usize = 1;

/// One ring per CPU: CPUs never meet at a lock. The loader sets the real size of a value:
/// it looks for this one.
#[cfg(feature = "btf")]
#[btf_map]
pub(crate) static RINGS: Array<[u8; ring::VALUE_BYTES_DECLARED], CPUS, BPF_F_MMAPABLE> =
    Array::new();

/// The map is mapped by the recorder (include/uapi/linux/bpf.h, Linux 5.5).
#[cfg(feature = "btf")]
const BPF_F_MMAPABLE: usize = 1 << 10;

/// What wakes the reader; nothing in it says anything. A page: 64 KiB is one everywhere.
#[cfg(feature = "btf")]
#[btf_map]
pub(crate) static DOORBELL: RingBuf<u64, { 64 * 1024 }> = RingBuf::new();

/// One ring per CPU: CPUs never meet at a lock. The loader sets the real size.
#[cfg(not(feature = "btf"))]
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<RingBuf<(), { 64 * 1024 }>, CPUS> = ArrayOfMaps::new();

/// The recorder's own process: filtered. Like all that is asked at every call it is no
/// value of a map that must be looked up.
#[unsafe(no_mangle)]
pub(crate) static mut OWN_PID: u32 = 0;

/// Not 0 while recording.
#[unsafe(no_mangle)]
pub(crate) static mut RECORDING: u32 = 0;

/// A ring that holds more than this many bytes wakes the reader.
#[unsafe(no_mangle)]
pub(crate) static WAKE_BYTES: Global<u32> = Global::new(0);

/// A ring that would hold more than this many bytes takes no system calls: what is left is
/// for what names follow from.
#[unsafe(no_mangle)]
pub(crate) static CALLS_BYTES_MAX: Global<u32> = Global::new(0);

/// What is added to a position where a record is published: nobody who only chooses what
/// records hold can make one that was never put there.
#[cfg(feature = "btf")]
#[unsafe(no_mangle)]
pub(crate) static RING_KEY: Global<u64> = Global::new(0);

/// What the exit program does for each call, see `wire::plan`.
#[unsafe(no_mangle)]
pub(crate) static PLAN: Global<[u64; CALLS_MAX as usize]> = Global::new([0; CALLS_MAX as usize]);

/// How memory is read; plans name places in it.
#[btf_map]
pub(crate) static READINGS: Array<Reading, { READINGS_MAX as usize }> = Array::new();

/// Plans of calls that an argument selects, by `wire::plan::selected_key`.
#[btf_map]
pub(crate) static SELECTED: HashMap<u64, u64, { SELECTED_MAX as usize }> = HashMap::new();

/// The counters as they run.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<PerCpu, 1> = PerCpuArray::new();

/// The counters as they were when the CPU was last cut.
#[btf_map]
pub(crate) static CUTS: PerCpuArray<PerCpu, 1> = PerCpuArray::new();

/// Bytes of the buffer a record is put together in: the largest offset an
/// attachment may begin at, and the largest attachment behind it.
pub(crate) const SCRATCH_BYTES: usize = NOTES_AT + NOTES_BYTES;

/// Where programs keep what the stack has no room for.
pub(crate) const NOTES_AT: usize = RECORD_BYTES_MAX + STRING_BYTES_MAX + 64;

/// Bytes of that.
pub(crate) const NOTES_BYTES: usize = 512;

/// Where a record of a system call or of an exec is put together. Only task
/// context uses it, with preemption disabled.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<[u8; SCRATCH_BYTES], 1> = PerCpuArray::new();

/// The path of an exec, read at its entry: when it succeeds the memory is gone.
#[repr(C)]
pub(crate) struct ExecPath {
    /// What `bpf_probe_read_user_str` answered: bytes with the NUL, or an error;
    /// [`EXEC_PATH_ABSENT`].
    pub(crate) answer: i64,
    /// The path.
    pub(crate) bytes: [u8; STRING_BYTES_MAX + 8],
}

/// The memory a path lies in was not there when the call was entered: after a fork the
/// pages of a file are not yet the child's. The kernel reads it a moment later.
pub(crate) const EXEC_PATH_ABSENT: i64 = -1;

/// By task; more execs than this at the same moment lose the path of the oldest.
#[btf_map]
pub(crate) static EXEC_PATHS: LruHashMap<u64, ExecPath, 128> = LruHashMap::new();

/// Who owns a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// The process.
    pub(crate) pid: u32,
    /// The thread that connected, listened or accepted.
    pub(crate) tid: u32,
}

/// By the address of `struct sock`.
#[btf_map]
pub(crate) static SOCKET_OWNERS: LruHashMap<u64, Owner, 16384> = LruHashMap::new();

/// Listeners by network namespace and local port, see `network::listener_key`: a
/// connection belongs to its listener's process until somebody accepts it.
#[btf_map]
pub(crate) static LISTENERS: LruHashMap<u64, Owner, 4096> = LruHashMap::new();

/// Where fields lie in kernel structures, from the running kernel's BTF. Set
/// before load, so that the verifier sees constants.
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $( $(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: Global<u32> = Global::new(0); )*
    };
}

#[cfg(feature = "btf")]
offsets! {
    /// No offset: bytes of a ring less one.
    RING_MASK;
    /// The most bytes a ring holds, see `wire::ring::capacity`.
    RING_BYTES_MAX;
    /// The word of `task_struct.thread_info` that holds `COMPAT_BIT`.
    TASK_COMPAT_WORD;
    /// `task_struct.pid`.
    TASK_PID;
    /// `task_struct.tgid`.
    TASK_TGID;
    /// `task_struct.comm`.
    TASK_COMM;
    /// `task_struct.exit_code`.
    TASK_EXIT_CODE;
    /// `task_struct.pending.signal`.
    TASK_PENDING_SIGNALS;
    /// `task_struct.mm`.
    TASK_MM;
    /// `task_struct.files`.
    TASK_FILES;
    /// `files_struct.fdt`.
    FILES_FDT;
    /// `fdtable.fd`.
    FDTABLE_FD;
    /// `fdtable.max_fds`.
    FDTABLE_MAX;
    /// `files_struct.count`.
    FILES_COUNT;
    /// `fdtable.close_on_exec`.
    FDTABLE_CLOSE_ON_EXEC;
    /// Not 0 when every offset that [`crate::probes::files`] needs is known.
    FILES_KNOWN;
    /// `file.f_inode`.
    FILE_INODE;
    /// `file.f_flags`.
    FILE_FLAGS;
    /// `file.f_path.mnt`.
    FILE_MOUNT;
    /// `file.f_path.dentry`.
    FILE_DENTRY;
    /// `inode.i_mode`.
    INODE_MODE;
    /// `inode.i_ino`.
    INODE_NUMBER;
    /// `inode.i_sb`.
    INODE_SUPER_BLOCK;
    /// `super_block.s_dev`.
    SUPER_BLOCK_DEVICE;
    /// `super_block.s_magic`.
    SUPER_BLOCK_MAGIC;
    /// `dentry.d_parent`.
    DENTRY_PARENT;
    /// `dentry.d_name.name`.
    DENTRY_NAME;
    /// `dentry.d_inode`.
    DENTRY_INODE;
    /// `dentry.d_hash.pprev`.
    DENTRY_HASHED;
    /// `mount.mnt`.
    MOUNT_VFSMOUNT;
    /// `mount.mnt.mnt_root`.
    MOUNT_ROOT;
    /// `mount.mnt_parent`.
    MOUNT_PARENT;
    /// `mount.mnt_mountpoint`.
    MOUNT_POINT;
    /// `task_struct.fs`.
    TASK_FS;
    /// `fs_struct.pwd.mnt`.
    FS_MOUNT;
    /// `fs_struct.pwd.dentry`.
    FS_DENTRY;
    /// Not 0 when every offset that [`crate::probes::family`] needs is known.
    FAMILY_KNOWN;
    /// `task_struct.real_parent`.
    TASK_REAL_PARENT;
    /// `task_struct.signal`.
    TASK_SIGNAL;
    /// `task_struct.thread_pid`.
    TASK_THREAD_PID;
    /// `signal_struct.live`.
    SIGNAL_LIVE;
    /// The byte of `signal_struct.is_child_subreaper`.
    SIGNAL_SUBREAPER;
    /// Its bit in there.
    SIGNAL_SUBREAPER_BIT;
    /// `pid.level`.
    PID_LEVEL;
    /// `pid.numbers`.
    PID_NUMBERS;
    /// `upid.ns`.
    UPID_NAMESPACE;
    /// `pid_namespace.child_reaper`.
    PID_NAMESPACE_REAPER;
    /// Not 0 when every offset is known of what says which ends leave nothing behind.
    ENDS_KNOWN;
    /// `task_struct.group_leader`.
    TASK_LEADER;
    /// `task_struct.start_time`.
    TASK_START;
    /// `task_struct.exit_signal`.
    TASK_EXIT_SIGNAL;
    /// `task_struct.ptrace`.
    TASK_PTRACE;
    /// `task_struct.sighand`.
    TASK_SIGHAND;
    /// `sighand_struct.action`.
    SIGHAND_ACTION;
    /// `k_sigaction.sa.sa_handler`.
    ACTION_HANDLER;
    /// `k_sigaction.sa.sa_flags`.
    ACTION_FLAGS;
    /// `k_sigaction.sa.sa_mask`, the last of its fields.
    ACTION_MASK;
    /// `task_struct.cred`.
    TASK_CRED;
    /// `cred.uid`.
    CRED_UID;
    /// `cred.gid`.
    CRED_GID;
    /// `cred.euid`.
    CRED_EUID;
    /// `cred.egid`.
    CRED_EGID;
    /// `socket.type`.
    SOCKET_TYPE;
    /// `sock.sk_socket`.
    SOCK_SOCKET;
    /// `socket_alloc.vfs_inode`.
    SOCKET_INODE;
    /// `unix_sock.addr`, 0 where the kernel's types do not say.
    UNIX_ADDRESS;
    /// `unix_sock.peer`.
    UNIX_PEER;
    /// `unix_address.len`.
    UNIX_ADDRESS_LENGTH;
    /// `unix_address.name`.
    UNIX_ADDRESS_NAME;
    /// Not 0 when every offset that [`crate::probes::cgroup`] needs is known.
    GROUPS_KNOWN;
    /// `task_struct.cgroups`.
    TASK_CGROUPS;
    /// `css_set.dfl_cgrp`.
    CSS_SET_GROUP;
    /// `cgroup.kn`.
    GROUP_NODE;
    /// `cgroup.root`.
    GROUP_ROOT;
    /// `kernfs_node.id`.
    NODE_ID;
    /// `cgroup_root.hierarchy_id`.
    ROOT_HIERARCHY;
    /// `file.private_data`.
    FILE_PRIVATE_DATA;
    /// `mm_struct.arg_start`.
    MM_ARG_START;
    /// `mm_struct.arg_end`.
    MM_ARG_END;
    /// `linux_binprm.filename`.
    BPRM_FILENAME;
    /// `sock_common.skc_family`.
    SOCK_FAMILY;
    /// `sock_common.skc_num`.
    SOCK_NUM;
    /// `sock_common.skc_dport`.
    SOCK_DPORT;
    /// `sock_common.skc_rcv_saddr`.
    SOCK_SADDR;
    /// `sock_common.skc_daddr`.
    SOCK_DADDR;
    /// `sock_common.skc_v6_rcv_saddr`.
    SOCK_SADDR6;
    /// `sock_common.skc_v6_daddr`.
    SOCK_DADDR6;
    /// `sock_common.skc_net`.
    SOCK_NET;
    /// `net.ns.inum`.
    NET_INUM;
    /// `sock_common.skc_state`.
    SOCK_STATE;
    /// `sock.sk_protocol`.
    SOCK_PROTOCOL;
    /// `inet_sock.inet_sport`.
    SOCK_SPORT;
    /// `socket.sk`.
    SOCKET_SK;
    /// `sk_buff.head`.
    SKB_HEAD;
    /// `sk_buff.network_header`.
    SKB_NETWORK_HEADER;
    /// `sk_buff.transport_header`.
    SKB_TRANSPORT_HEADER;
    /// No offset: whether `mark_victim` hands over a task (1) or its number (0).
    OOM_HAS_TASK;
}

#[cfg(not(feature = "btf"))]
offsets! {
    /// `child_pid` in the format of `sched/sched_process_fork`.
    FORK_CHILD_PID;
    /// `filename` (a data location) in the format of `sched/sched_process_exec`.
    EXEC_FILENAME;
    /// `old_pid` in the format of `sched/sched_process_exec`.
    EXEC_OLD_PID;
    /// `pid` in the format of `task/task_rename`.
    RENAME_PID;
    /// `newcomm` in the format of `task/task_rename`.
    RENAME_NEWCOMM;
    /// `pid` in the format of `sched/sched_process_free`.
    FREE_PID;
    /// `skaddr` in the format of `sock/inet_sock_set_state`.
    STATE_SKADDR;
    /// `oldstate` in the format of `sock/inet_sock_set_state`.
    STATE_OLD;
    /// `newstate` in the format of `sock/inet_sock_set_state`.
    STATE_NEW;
    /// `sport`, then `dport`, in the format of `sock/inet_sock_set_state`.
    STATE_SPORT;
    /// `family` in the format of `sock/inet_sock_set_state`.
    STATE_FAMILY;
    /// `protocol` in the format of `sock/inet_sock_set_state`.
    STATE_PROTOCOL;
    /// `saddr`, then `daddr`, in the format of `sock/inet_sock_set_state`.
    STATE_SADDR;
    /// `saddr_v6`, then `daddr_v6`, in the format of `sock/inet_sock_set_state`.
    STATE_SADDR6;
    /// `root` in the formats of `cgroup/cgroup_mkdir` and `cgroup_rmdir`.
    GROUP_HIERARCHY;
    /// `id` in the formats of `cgroup/cgroup_mkdir` and `cgroup_rmdir`.
    GROUP_ID;
    /// `path` (a data location) in the formats of `cgroup/cgroup_mkdir` and `cgroup_rmdir`.
    GROUP_PATH;
    /// `dst_root` in the format of `cgroup/cgroup_attach_task`.
    ATTACH_HIERARCHY;
    /// `dst_id` in the format of `cgroup/cgroup_attach_task`.
    ATTACH_ID;
    /// `dst_path` (a data location) in the format of `cgroup/cgroup_attach_task`.
    ATTACH_PATH;
    /// `pid` in the format of `cgroup/cgroup_attach_task`.
    ATTACH_PID;
    /// `pid` in the format of `oom/mark_victim`.
    OOM_PID;
    /// `comm` (a data location) in the format of `oom/mark_victim`; on older kernels it is
    /// not there, and 0.
    OOM_COMM;
}

/// The kernel's array by thread id where there is no task storage. A thread
/// whose id is beyond it is recorded without duration.
#[cfg(not(feature = "btf"))]
#[btf_map]
pub(crate) static SLOTS: Array<recorder_ebpf::wire::Slot, 1> = Array::new();

/// The call each thread is in. Grows with live threads and dies with them.
#[cfg(feature = "btf")]
#[btf_map]
pub(crate) static SLOTS: TaskStorage<recorder_ebpf::wire::Slot> = TaskStorage::new();
