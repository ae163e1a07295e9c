//! Loading and attaching.

use std::{
    collections::HashMap,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::Path,
    sync::{Arc, Mutex},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, HashMap as KernelHashMap, Map, MapData, PerCpuArray, RingBuf},
    programs::{
        BtfTracePoint, Iter, RawTracePoint, RawTracePointRunOptions, TestRun as _, TracePoint,
    },
};
use memchr::memmem;
use object::{Object as _, ObjectSection as _};
use recorder_ebpf::wire::{Reading, plan::READINGS_MAX, ring};

use super::{BtfError, KernelTypes, PerCpuValue, ProbeError, Probes, program};
use crate::{event::capture::Capture, loss::Missing};

static OBJECT_BTF: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/recorder-btf.o"));
static OBJECT_CLASSIC: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/recorder-classic.o"));

/// Threads with a slot where there is no task storage; a thread id beyond it is
/// recorded without duration. 9 MiB of kernel memory at most.
const SLOTS_MAX: u32 = 131_072;

/// A value of the map `READINGS`, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct ReadingValue(Reading);

// SAFETY: `Reading` is `repr(C)`, has no padding, and any bytes are a valid one.
unsafe impl aya::Pod for ReadingValue {}

/// A BPF ring buffer.
pub type RingBuffer = RingBuf<MapData>;

/// The rings of all CPUs, as this kernel can have them.
pub enum Rings {
    /// Memory to be mapped: see [`ring`] for how it lies there.
    Mapped {
        /// The map with a value for each CPU.
        map: MapData,
        /// How many CPUs.
        cpus: usize,
        /// Bytes of one ring, a power of two.
        ring_bytes: usize,
        /// What the programs add to positions, see [`ring::published`].
        key: u64,
        /// Has something in it when a ring asks to be read.
        doorbell: Box<RingBuffer>,
    },
    /// A BPF ring buffer for each CPU.
    Buffers {
        /// The rings by CPU.
        rings: Vec<RingBuffer>,
        /// Bytes of one ring.
        ring_bytes: usize,
    },
}

impl Rings {
    /// Kernel memory that all of it takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Rings::Mapped { cpus, ring_bytes, .. } => {
                (cpus * ring::value_bytes(*ring_bytes)) as u64
            }
            Rings::Buffers { rings, ring_bytes } => (rings.len() * ring_bytes) as u64,
        }
    }
}

/// Loads and attaches everything this kernel can take. `capture` is what to read for
/// each call, `ring_bytes` a power of two. Answers the probes and one ring for
/// each of `cpus` possible CPUs.
///
/// A kernel whose BTF is there but not enough (5.10 has no task storage for tracing
/// programs, 5.11 no atomic addition that answers) gets the programs for kernels without.
pub fn load(capture: &Capture, cpus: u32, ring_bytes: u32) -> Result<(Probes, Rings), ProbeError> {
    let why = match KernelTypes::of_running_kernel() {
        Ok(types) => match load_object(OBJECT_BTF, Some(&types), capture, cpus, ring_bytes) {
            Err(error @ (ProbeError::NotPermitted(_) | ProbeError::NoObject)) => return Err(error),
            Err(error) => {
                tracing::debug!("{error:?}");
                chain(&error)
            }
            loaded => return loaded,
        },
        Err(error) => error.to_string(),
    };
    let (mut probes, rings) = load_object(OBJECT_CLASSIC, None, capture, cpus, ring_bytes)?;
    probes.missing.extend(without_btf(&why));
    Ok((probes, rings))
}

/// Loads and attaches one object, the typed one with `types`.
fn load_object(
    object: &[u8],
    types: Option<&KernelTypes>,
    capture: &Capture,
    cpus: u32,
    ring_bytes: u32,
) -> Result<(Probes, Rings), ProbeError> {
    if object.is_empty() {
        return Err(ProbeError::NoObject);
    }
    let mut missing = Vec::new();
    let offsets = match types {
        Some(types) => btf_offsets(types, &mut missing)?,
        None => format_offsets(&mut missing),
    };
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps();
    loader.map_max_entries("RINGS", cpus);
    if types.is_none() {
        loader.map_max_entries("SLOTS", SLOTS_MAX.min(pid_max()));
    }
    for (name, offset) in &offsets {
        loader.override_global(name, offset, true);
    }
    loader.override_global("PLAN", capture.plans.as_slice(), true);
    let bytes_max = match types {
        Some(_) => ring::capacity(ring_bytes as usize) as u32,
        None => ring_bytes,
    };
    let (ring_mask, wake_bytes) = (ring_bytes - 1, bytes_max / 2);
    let calls_bytes_max = bytes_max - bytes_max / 8;
    loader.override_global("WAKE_BYTES", &wake_bytes, true);
    loader.override_global("CALLS_BYTES_MAX", &calls_bytes_max, true);
    // Random, and of this recording alone.
    let key = RandomState::new().build_hasher().finish();
    let sized;
    let object = if types.is_some() {
        loader.override_global("RING_MASK", &ring_mask, true);
        loader.override_global("RING_BYTES_MAX", &bytes_max, true);
        loader.override_global("RING_KEY", &key, true);
        sized = SizedObject::new(object, ring::value_bytes(ring_bytes as usize) as u32)
            .ok_or(ProbeError::NoObject)?;
        sized.bytes()
    } else {
        object
    };
    let mut ebpf = loader.load(object).map_err(|e| ProbeError::failed("load BPF maps", e))?;
    #[cfg(feature = "debug-log")]
    let log = aya_log::EbpfLogger::init(&mut ebpf)
        .map_err(|error| ProbeError::failed("read the log of the BPF programs", error))?;
    let rings = match types {
        Some(_) => take_rings(&mut ebpf, cpus, ring_bytes, key)?,
        None => make_rings(&mut ebpf, cpus, ring_bytes)?,
    };
    fill_readings(&mut ebpf, capture)?;
    let own_pid = enroll(&mut ebpf)?;
    attach(&mut ebpf, types, &mut missing)?;
    let counters = take_counters(&mut ebpf, "COUNTERS")?;
    let cuts = take_counters(&mut ebpf, "CUTS")?;
    run(&mut ebpf, "begin")?;
    let probes = Probes {
        ebpf: Arc::new(Mutex::new(ebpf)),
        counters,
        cuts,
        missing,
        btf: types.is_some(),
        own_pid,
        attached_ns: crate::clock::monotonic_ns(),
        #[cfg(feature = "debug-log")]
        log,
    };
    Ok((probes, rings))
}

/// The object with the number of bytes that a ring of this recording has. The loader can
/// set how many values a map has, but not how long they are.
struct SizedObject {
    bytes: Vec<u8>,
    /// Where it begins: at a multiple of 8, as the loader wants it.
    start: usize,
    end: usize,
}

impl SizedObject {
    /// `None` when the types of its maps do not say in exactly one place how long a value
    /// is.
    fn new(object: &[u8], value_bytes: u32) -> Option<SizedObject> {
        let declared = (ring::VALUE_BYTES_DECLARED as u32).to_ne_bytes();
        let (types_at, types_bytes) =
            object::File::parse(object).ok()?.section_by_name(".BTF")?.file_range()?;
        let types = object.get(types_at as usize..(types_at + types_bytes) as usize)?;
        let mut places = memmem::find_iter(types, &declared);
        let place = types_at as usize + places.next()?;
        if places.next().is_some() {
            return None;
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(object.len() + 8);
        let start = bytes.as_ptr().align_offset(8);
        bytes.resize(start, 0);
        bytes.extend_from_slice(object);
        bytes[start + place..start + place + declared.len()]
            .copy_from_slice(&value_bytes.to_ne_bytes());
        Some(SizedObject { end: bytes.len(), bytes, start })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

/// How many CPUs this machine can have.
pub fn possible_cpus() -> Result<u32, ProbeError> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| ProbeError::failed(format!("read {path}"), error))?;
    Ok(cpus as u32)
}

fn pid_max() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(32_768) + 1
}

/// Whose data is kept follows from the file it goes to.
const FILES_MISSED: &str = "the files behind descriptors, and the data that snaplen asks for";

fn without_btf(why: &str) -> Vec<Missing> {
    [
        "which 32-bit calls are 32-bit calls",
        "which new threads are processes",
        "the arguments of a program that is started, and how a process ended",
        "who accepted a connection",
        FILES_MISSED,
        "a process that is started in another control group than its maker's",
        "TCP retransmissions and resets",
    ]
    .map(|what| Missing { what: what.to_string(), why: why.to_string() })
    .to_vec()
}

/// Global, structure, field.
const BTF_OFFSETS: &[(&str, &str, &str)] = &[
    #[cfg(target_arch = "x86_64")]
    ("TASK_COMPAT_WORD", "task_struct", "thread_info.status"),
    #[cfg(target_arch = "aarch64")]
    ("TASK_COMPAT_WORD", "task_struct", "thread_info.flags"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_COMM", "task_struct", "comm"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("TASK_PENDING_SIGNALS", "task_struct", "pending.signal"),
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_FILES", "task_struct", "files"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDTABLE_FD", "fdtable", "fd"),
    ("FILE_PRIVATE_DATA", "file", "private_data"),
    ("TASK_CRED", "task_struct", "cred"),
    ("CRED_UID", "cred", "uid"),
    ("CRED_GID", "cred", "gid"),
    ("CRED_EUID", "cred", "euid"),
    ("CRED_EGID", "cred", "egid"),
    ("MM_ARG_START", "mm_struct", "arg_start"),
    ("MM_ARG_END", "mm_struct", "arg_end"),
    ("BPRM_FILENAME", "linux_binprm", "filename"),
    ("SOCK_FAMILY", "sock_common", "skc_family"),
    ("SOCK_NUM", "sock_common", "skc_num"),
    ("SOCK_DPORT", "sock_common", "skc_dport"),
    ("SOCK_SADDR", "sock_common", "skc_rcv_saddr"),
    ("SOCK_DADDR", "sock_common", "skc_daddr"),
    ("SOCK_SADDR6", "sock_common", "skc_v6_rcv_saddr"),
    ("SOCK_DADDR6", "sock_common", "skc_v6_daddr"),
    ("SOCK_NET", "sock_common", "skc_net.net"),
    ("NET_INUM", "net", "ns.inum"),
    ("SOCK_STATE", "sock_common", "skc_state"),
    ("SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("SOCK_SPORT", "inet_sock", "inet_sport"),
    ("SOCKET_SK", "socket", "sk"),
    ("SKB_HEAD", "sk_buff", "head"),
    ("SKB_NETWORK_HEADER", "sk_buff", "network_header"),
    ("SKB_TRANSPORT_HEADER", "sk_buff", "transport_header"),
];

/// What the kernel has to say of a file and of where it lies. Without one of them none of
/// it is read.
const FILE_OFFSETS: &[(&str, &str, &str)] = &[
    ("FILES_COUNT", "files_struct", "count"),
    ("FDTABLE_MAX", "fdtable", "max_fds"),
    ("FDTABLE_CLOSE_ON_EXEC", "fdtable", "close_on_exec"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_FLAGS", "file", "f_flags"),
    ("FILE_MOUNT", "file", "f_path.mnt"),
    ("FILE_DENTRY", "file", "f_path.dentry"),
    ("INODE_MODE", "inode", "i_mode"),
    ("INODE_NUMBER", "inode", "i_ino"),
    ("INODE_SUPER_BLOCK", "inode", "i_sb"),
    ("SUPER_BLOCK_DEVICE", "super_block", "s_dev"),
    ("SUPER_BLOCK_MAGIC", "super_block", "s_magic"),
    ("DENTRY_PARENT", "dentry", "d_parent"),
    ("DENTRY_NAME", "dentry", "d_name.name"),
    ("DENTRY_INODE", "dentry", "d_inode"),
    ("DENTRY_HASHED", "dentry", "d_hash.pprev"),
    ("MOUNT_VFSMOUNT", "mount", "mnt"),
    ("MOUNT_ROOT", "mount", "mnt.mnt_root"),
    ("MOUNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_POINT", "mount", "mnt_mountpoint"),
    ("TASK_FS", "task_struct", "fs"),
    ("FS_MOUNT", "fs_struct", "pwd.mnt"),
    ("FS_DENTRY", "fs_struct", "pwd.dentry"),
    ("SOCKET_TYPE", "socket", "type"),
    ("SOCK_SOCKET", "sock", "sk_socket"),
    ("SOCKET_INODE", "socket_alloc", "vfs_inode"),
];

/// What says which control group a task is in, and which a group is. Without one of them
/// neither is read.
const GROUP_OFFSETS: &[(&str, &str, &str)] = &[
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("CSS_SET_GROUP", "css_set", "dfl_cgrp"),
    ("GROUP_NODE", "cgroup", "kn"),
    ("GROUP_ROOT", "cgroup", "root"),
    ("NODE_ID", "kernfs_node", "id"),
    ("ROOT_HIERARCHY", "cgroup_root", "hierarchy_id"),
];

/// Unix sockets can be a module, whose types are elsewhere: their addresses and other
/// ends are left out then.
const UNIX_OFFSETS: &[(&str, &str, &str)] = &[
    ("UNIX_ADDRESS", "unix_sock", "addr"),
    ("UNIX_PEER", "unix_sock", "peer"),
    ("UNIX_ADDRESS_LENGTH", "unix_address", "len"),
    ("UNIX_ADDRESS_NAME", "unix_address", "name"),
];

/// What the kernel has to say of who inherits whose children.
const FAMILY_OFFSETS: &[(&str, &str, &str)] = &[
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("TASK_THREAD_PID", "task_struct", "thread_pid"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("SIGNAL_SUBREAPER", "signal_struct", SUBREAPER),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("UPID_NAMESPACE", "upid", "ns"),
    ("PID_NAMESPACE_REAPER", "pid_namespace", "child_reaper"),
];

/// What the kernel has to say of ends that leave no zombie.
const END_OFFSETS: &[(&str, &str, &str)] = &[
    ("TASK_LEADER", "task_struct", "group_leader"),
    ("TASK_START", "task_struct", "start_time"),
    ("TASK_EXIT_SIGNAL", "task_struct", "exit_signal"),
    ("TASK_PTRACE", "task_struct", "ptrace"),
    ("TASK_SIGHAND", "task_struct", "sighand"),
    ("SIGHAND_ACTION", "sighand_struct", "action"),
    ("ACTION_HANDLER", "k_sigaction", "sa.sa_handler"),
    ("ACTION_FLAGS", "k_sigaction", "sa.sa_flags"),
    ("ACTION_MASK", "k_sigaction", "sa.sa_mask"),
];

/// One bit.
const SUBREAPER: &str = "is_child_subreaper";

/// Fields that a kernel may be configured without: their readers get 0 then.
const OPTIONAL: &[&str] = &["SOCK_SADDR6", "SOCK_DADDR6", "SOCK_NET", "NET_INUM"];

fn btf_offsets(
    types: &KernelTypes,
    missing: &mut Vec<Missing>,
) -> Result<Vec<(&'static str, u32)>, ProbeError> {
    let mut offsets = Vec::new();
    for (global, structure, field) in BTF_OFFSETS {
        match types.offset(structure, field) {
            Ok(offset) => offsets.push((*global, offset)),
            Err(error) if OPTIONAL.contains(global) => missing.push(Missing {
                what: format!("what lies in {structure}.{field}"),
                why: error.to_string(),
            }),
            // Reading another field in its place would be a lie.
            Err(error) => return Err(ProbeError::failed("find a field of the kernel", error)),
        }
    }
    let files = group(types, FILE_OFFSETS, FILES_MISSED, missing);
    offsets.push(("FILES_KNOWN", u32::from(files.is_some())));
    offsets.extend(files.unwrap_or_default());
    let groups = group(types, GROUP_OFFSETS, "which control groups processes are in", missing);
    offsets.push(("GROUPS_KNOWN", u32::from(groups.is_some())));
    offsets.extend(groups.unwrap_or_default());
    let family = group(types, FAMILY_OFFSETS, "the parents of orphans", missing);
    let has_family = family.is_some();
    offsets.push(("FAMILY_KNOWN", u32::from(has_family)));
    offsets.extend(family.unwrap_or_default());
    let ends = group(
        types,
        END_OFFSETS,
        "at once that an end leaves no zombie, and which process a late end of one is of",
        missing,
    );
    offsets.push(("ENDS_KNOWN", u32::from(ends.is_some() && has_family)));
    offsets.extend(ends.unwrap_or_default());
    let bit = types.bit_offset("signal_struct", SUBREAPER).unwrap_or_default() % 8;
    offsets.push(("SIGNAL_SUBREAPER_BIT", bit));
    let unix = group(types, UNIX_OFFSETS, "addresses and peers of Unix sockets", missing);
    offsets.extend(unix.unwrap_or_default());
    // Before 6.9, where that was not brought over, the tracepoint has the number of the
    // thread and nothing else.
    let has_task = types.tracepoint_args("mark_victim") != Some(1);
    offsets.push(("OOM_HAS_TASK", u32::from(has_task)));
    if !has_task {
        missing.push(Missing {
            what: "the name of a process that is killed because another one asked for memory"
                .to_string(),
            why: "this kernel gives its number only; 6.9 gives the name".to_string(),
        });
    }
    Ok(offsets)
}

/// Offsets of which all are needed: without one of them `what` is missing.
fn group(
    types: &KernelTypes,
    wanted: &'static [(&str, &str, &str)],
    what: &str,
    missing: &mut Vec<Missing>,
) -> Option<Vec<(&'static str, u32)>> {
    let found: Result<Vec<_>, _> = wanted
        .iter()
        .map(|(global, structure, field)| Ok((*global, types.offset(structure, field)?)))
        .collect();
    found
        .map_err(|error: BtfError| {
            missing.push(Missing { what: what.to_string(), why: error.to_string() });
        })
        .ok()
}

/// Global, tracepoint, field of its format.
const FORMAT_OFFSETS: &[(&str, &str, &str)] = &[
    ("FORK_CHILD_PID", "sched/sched_process_fork", "child_pid"),
    ("EXEC_FILENAME", "sched/sched_process_exec", "filename"),
    ("EXEC_OLD_PID", "sched/sched_process_exec", "old_pid"),
    ("FREE_PID", "sched/sched_process_free", "pid"),
    ("RENAME_PID", "task/task_rename", "pid"),
    ("RENAME_NEWCOMM", "task/task_rename", "newcomm"),
    ("STATE_SKADDR", "sock/inet_sock_set_state", "skaddr"),
    ("STATE_OLD", "sock/inet_sock_set_state", "oldstate"),
    ("STATE_NEW", "sock/inet_sock_set_state", "newstate"),
    ("STATE_SPORT", "sock/inet_sock_set_state", "sport"),
    ("STATE_FAMILY", "sock/inet_sock_set_state", "family"),
    ("STATE_PROTOCOL", "sock/inet_sock_set_state", "protocol"),
    ("STATE_SADDR", "sock/inet_sock_set_state", "saddr"),
    ("STATE_SADDR6", "sock/inet_sock_set_state", "saddr_v6"),
    ("GROUP_HIERARCHY", "cgroup/cgroup_mkdir", "root"),
    ("GROUP_ID", "cgroup/cgroup_mkdir", "id"),
    ("GROUP_PATH", "cgroup/cgroup_mkdir", "path"),
    ("ATTACH_HIERARCHY", "cgroup/cgroup_attach_task", "dst_root"),
    ("ATTACH_ID", "cgroup/cgroup_attach_task", "dst_id"),
    ("ATTACH_PATH", "cgroup/cgroup_attach_task", "dst_path"),
    ("ATTACH_PID", "cgroup/cgroup_attach_task", "pid"),
    ("OOM_PID", "oom/mark_victim", "pid"),
    ("OOM_COMM", "oom/mark_victim", "comm"),
];

fn tracefs() -> Option<&'static Path> {
    ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_dir())
}

fn format_offsets(missing: &mut Vec<Missing>) -> Vec<(&'static str, u32)> {
    let mut offsets = Vec::new();
    let mut formats = HashMap::new();
    for (global, tracepoint, field) in FORMAT_OFFSETS {
        let text = formats.entry(*tracepoint).or_insert_with(|| {
            let path = tracefs().map(|events| events.join(tracepoint).join("format"));
            path.and_then(|path| fs::read_to_string(path).ok())
        });
        match text.as_deref().and_then(|text| format_offset(text, field)) {
            Some(offset) => offsets.push((*global, offset)),
            None => missing.push(Missing {
                what: format!("{field} of {tracepoint}"),
                why: match text {
                    Some(_) => "this kernel's format does not have it",
                    None => {
                        "its format is not in tracefs: mount -t tracefs none /sys/kernel/tracing"
                    }
                }
                .to_string(),
            }),
        }
    }
    offsets
}

/// The offset of a field in the text of a tracepoint's format.
fn format_offset(text: &str, field: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.split_whitespace().last()?;
        let name = name.split('[').next()?.trim_start_matches('*');
        if name != field {
            return None;
        }
        rest.trim().strip_prefix("offset:")?.split(';').next()?.parse().ok()
    })
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, ProbeError> {
    ebpf.map_mut(name).ok_or(ProbeError::NoObject)
}

fn take_rings(ebpf: &mut Ebpf, cpus: u32, ring_bytes: u32, key: u64) -> Result<Rings, ProbeError> {
    let Some(Map::Array(map)) = ebpf.take_map("RINGS") else { return Err(ProbeError::NoObject) };
    let doorbell = ebpf.take_map("DOORBELL").ok_or(ProbeError::NoObject)?;
    let doorbell = RingBuffer::try_from(doorbell)
        .map_err(|error| ProbeError::failed("find the map DOORBELL", error))?;
    let (cpus, ring_bytes) = (cpus as usize, ring_bytes as usize);
    Ok(Rings::Mapped { map, cpus, ring_bytes, key, doorbell: Box::new(doorbell) })
}

fn make_rings(ebpf: &mut Ebpf, cpus: u32, ring_bytes: u32) -> Result<Rings, ProbeError> {
    let failed = |error| ProbeError::failed("make the rings", error);
    let mut array: ArrayOfMaps<_, RingBuffer> =
        ArrayOfMaps::try_from(map_mut(ebpf, "RINGS")?).map_err(failed)?;
    let mut rings = Vec::new();
    for cpu in 0..cpus {
        let parameters = aya_obj::Map::new_from_params(
            aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32,
            0,
            0,
            ring_bytes,
            0,
        );
        let data = MapData::create(parameters, "recorder_ring", None).map_err(failed)?;
        let ring = RingBuffer::try_from(Map::RingBuf(data)).map_err(failed)?;
        array.set(cpu, &ring, 0).map_err(failed)?;
        rings.push(ring);
    }
    Ok(Rings::Buffers { rings, ring_bytes: ring_bytes as usize })
}

fn fill_readings(ebpf: &mut Ebpf, capture: &Capture) -> Result<(), ProbeError> {
    let failed = |error| ProbeError::failed("write the capture plan", error);
    let readings = map_mut(ebpf, "READINGS")?;
    let mut map: Array<_, ReadingValue> = Array::try_from(readings).map_err(failed)?;
    for (index, reading) in (0..READINGS_MAX).zip(&capture.readings) {
        map.set(index, ReadingValue(*reading), 0).map_err(failed)?;
    }
    let mut map: KernelHashMap<_, u64, u64> =
        KernelHashMap::try_from(map_mut(ebpf, "SELECTED")?).map_err(failed)?;
    for (key, plan) in &capture.selected {
        map.insert(key, plan, 0).map_err(failed)?;
    }
    Ok(())
}

/// Asks the kernel for our own process id: ours may be that of a pid namespace.
fn enroll(ebpf: &mut Ebpf) -> Result<u32, ProbeError> {
    for name in ["enroll", "begin", "cut"] {
        let loaded: &mut RawTracePoint = program(ebpf, name)?;
        loaded.load().map_err(|error| ProbeError::failed("load BPF programs", error))?;
    }
    run(ebpf, "enroll")
}

/// Runs a program that is not attached; its answer.
fn run(ebpf: &mut Ebpf, name: &str) -> Result<u32, ProbeError> {
    let loaded: &mut RawTracePoint = program(ebpf, name)?;
    let ran = loaded.test_run(RawTracePointRunOptions::new());
    Ok(ran.map_err(|error| ProbeError::failed("run a BPF program", error))?.return_value)
}

fn take_counters(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<PerCpuArray<MapData, PerCpuValue>, ProbeError> {
    let map = ebpf.take_map(name).ok_or(ProbeError::NoObject)?;
    PerCpuArray::try_from(map)
        .map_err(|error| ProbeError::failed(format!("find the map {name}"), error))
}

/// Program, what is missed without it, whether nothing works without it.
const TYPED: &[(&str, &str, bool)] = &[
    ("sched_process_fork", "new processes", true),
    ("sched_process_exit", "ended processes", true),
    ("sched_process_exec", "started programs", true),
    ("sched_process_free", "the moment from which an ended process is no zombie any more", false),
    ("task_rename", "renamed threads", false),
    ("inet_sock_set_state", "changes of TCP states", false),
    ("tcp_retransmit_skb", "TCP retransmissions", false),
    ("tcp_send_reset", "TCP resets sent", false),
    ("tcp_receive_reset", "TCP resets received", false),
    ("mark_victim", "processes killed for want of memory", false),
    ("cgroup_mkdir", "control groups that are made", false),
    ("cgroup_rmdir", "control groups that are removed", false),
    ("cgroup_attach_task", "processes moved to another control group", false),
    // Entry last but one and exit last: an exit whose entry was not seen is
    // then the exception and not the rule.
    ("sys_enter", "when calls were entered", true),
    ("sys_exit", "system calls", true),
];

fn attach(
    ebpf: &mut Ebpf,
    types: Option<&KernelTypes>,
    missing: &mut Vec<Missing>,
) -> Result<(), ProbeError> {
    let Some(types) = types else { return attach_classic(ebpf, missing) };
    let btf = Btf::from_sys_fs().map_err(|e| ProbeError::failed("read the kernel's BTF", e))?;
    let slots: &mut Iter = program(ebpf, "slots")?;
    slots.load("task", &btf).map_err(|e| ProbeError::failed("load the task iterator", e))?;
    // Since 6.10 the tracepoint has a reason, and fires without a socket too.
    if types.tracepoint_args("tcp_send_reset") == Some(2) {
        missing.push(Missing {
            what: "TCP resets sent for ports nobody listens on".to_string(),
            why: "this kernel only traces those of a socket; 6.10 traces all".to_string(),
        });
    }
    for (name, what, needed) in TYPED {
        let result = attach_typed(ebpf, name, &btf);
        let result = if types.has_tracepoint(name) {
            result
        } else {
            Err(ProbeError::TooOld(format!("this kernel has no tracepoint {name}")))
        };
        if let Err(error) = &result {
            tracing::debug!(program = name, "{error:?}");
        }
        match result {
            Ok(()) => {}
            Err(error) if *needed => return Err(error),
            Err(error) => {
                missing.push(Missing { what: (*what).to_string(), why: chain(&error) });
            }
        }
    }
    Ok(())
}

fn attach_typed(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<(), ProbeError> {
    let loaded: &mut BtfTracePoint = program(ebpf, name)?;
    loaded.load(name, btf).map_err(|e| ProbeError::failed(format!("load program {name}"), e))?;
    loaded.attach().map_err(|e| ProbeError::failed(format!("attach to {name}"), e))?;
    Ok(())
}

/// Program, category, what is missed without it.
const CLASSIC: &[(&str, &str, &str)] = &[
    ("sched_process_fork", "sched", "new processes"),
    ("sched_process_exit", "sched", "ended processes"),
    ("sched_process_exec", "sched", "started programs"),
    ("sched_process_free", "sched", "the moment from which an ended process is no zombie any more"),
    ("task_rename", "task", "renamed threads"),
    ("inet_sock_set_state", "sock", "changes of TCP states"),
    ("mark_victim", "oom", "processes killed for want of memory"),
    ("cgroup_mkdir", "cgroup", "control groups that are made"),
    ("cgroup_rmdir", "cgroup", "control groups that are removed"),
    ("cgroup_attach_task", "cgroup", "processes moved to another control group"),
];

fn attach_classic(ebpf: &mut Ebpf, missing: &mut Vec<Missing>) -> Result<(), ProbeError> {
    for (name, category, what) in CLASSIC {
        let result = program::<TracePoint>(ebpf, name).and_then(|classic| {
            classic
                .load()
                .and_then(|()| classic.attach(category, name))
                .map_err(|error| ProbeError::failed(format!("attach to {category}:{name}"), error))
        });
        if let Err(error) = result {
            missing.push(Missing { what: (*what).to_string(), why: chain(&error) });
        }
    }
    for name in ["sys_enter", "sys_exit"] {
        let raw: &mut RawTracePoint = program(ebpf, name)?;
        raw.load().map_err(|e| ProbeError::failed(format!("load program {name}"), e))?;
        raw.attach(name).map_err(|e| ProbeError::failed(format!("attach to {name}"), e))?;
    }
    Ok(())
}

/// An error and its causes on one line, without a verifier's log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        let line = line.lines().next().unwrap_or_default();
        text = format!("{text}: {line}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of a ring is found by its number, so the number must be of nothing else.
    #[test]
    fn the_object_says_once_how_long_a_ring_is() {
        if OBJECT_BTF.is_empty() {
            return;
        }
        let sized = SizedObject::new(OBJECT_BTF, 0x1234_5678).unwrap();
        assert_eq!(sized.bytes().as_ptr().align_offset(8), 0);
        assert_eq!(sized.bytes().len(), OBJECT_BTF.len());
        let changed = sized.bytes().iter().zip(OBJECT_BTF).filter(|(new, old)| new != old);
        assert!((1..=4).contains(&changed.count()));
        assert!(SizedObject::new(sized.bytes(), 1).is_none());
    }

    #[test]
    fn offsets_are_read_from_a_format() {
        let text = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                    \tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n\
                    \tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
                    \tfield:char newcomm[16];\toffset:28;\tsize:16;\tsigned:0;\n";
        assert_eq!(format_offset(text, "filename"), Some(8));
        assert_eq!(format_offset(text, "skaddr"), Some(16));
        assert_eq!(format_offset(text, "newcomm"), Some(28));
        assert_eq!(format_offset(text, "absent"), None);
        assert_eq!(format_offset("", "absent"), None);
    }
}
