//! What a call left behind in kernel objects: descriptors with the files they refer to,
//! working directories, credentials. Read at the exit of the call that made them, from
//! the kernel's own structures: the path a program gave may have led anywhere.

use recorder_ebpf::wire::{
    ATTACHMENT_CREDENTIALS, ATTACHMENT_FILES, AttachmentHead, Credentials, FILE_DEPTH_MAX,
    FILE_PATH_BYTES_MAX, FILE_WORKING_DIRECTORY, FILES_FORKED_MAX, FILES_MAX, FileHead,
    INET_SOCKADDR_BYTES, RECORD_BYTES_MAX, SOCKADDR_BYTES_MAX, SocketHead, attachment_flag,
    file_flag, flag, plan::leaves,
};

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
};

use super::{
    attach::{Attaching, CLASS_FILE, CLASS_NETWORK, CLASS_NONE},
    bound,
    network::Address,
    read_field,
    syscall::Call,
};
use crate::maps::{
    CRED_EGID, CRED_EUID, CRED_GID, CRED_UID, DENTRY_HASHED, DENTRY_INODE, DENTRY_NAME,
    DENTRY_PARENT, FDTABLE_CLOSE_ON_EXEC, FDTABLE_FD, FDTABLE_MAX, FILE_DENTRY, FILE_FLAGS,
    FILE_INODE, FILE_MOUNT, FILE_PRIVATE_DATA, FILES_FDT, FILES_KNOWN, FS_DENTRY, FS_MOUNT,
    INODE_MODE, INODE_NUMBER, INODE_SUPER_BLOCK, MOUNT_PARENT, MOUNT_POINT, MOUNT_ROOT,
    MOUNT_VFSMOUNT, NOTES_AT, NOTES_BYTES, SCRATCH, SOCK_DADDR, SOCK_DADDR6, SOCK_DPORT,
    SOCK_FAMILY, SOCK_NUM, SOCK_PROTOCOL, SOCK_SADDR, SOCK_SADDR6, SOCK_SOCKET, SOCK_STATE,
    SOCKET_INODE, SOCKET_SK, SOCKET_TYPE, SUPER_BLOCK_DEVICE, SUPER_BLOCK_MAGIC, TASK_CRED,
    TASK_FILES, TASK_FS, UNIX_ADDRESS, UNIX_ADDRESS_LENGTH, UNIX_ADDRESS_NAME, UNIX_PEER,
};

/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_SOCKET: u32 = 0o140_000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6`, include/linux/socket.h.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `EINPROGRESS`: a socket that begins to connect has its address already.
const EINPROGRESS: i64 = 115;
/// `F_DUPFD`, `F_DUPFD_CLOEXEC`, include/uapi/linux/fcntl.h.
const F_DUPFD: u64 = 0;
const F_DUPFD_CLOEXEC: u64 = 1030;
/// Requests that answer with a descriptor: `TIOCGPTPEER` (asm-generic/ioctls.h),
/// `NS_GET_USERNS` and `NS_GET_PARENT` (linux/nsfs.h), `KVM_CREATE_VM`, `KVM_CREATE_VCPU`
/// (linux/kvm.h).
const DESCRIPTOR_REQUESTS: [u64; 5] = [0x5441, 0xb701, 0xb702, 0xae01, 0xae41];
/// `CLONE_PIDFD`, include/uapi/linux/sched.h.
const CLONE_PIDFD: u64 = 0x1000;
/// `SOL_SOCKET` and `SCM_RIGHTS`, include/linux/socket.h.
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
/// `struct user_msghdr`, include/linux/socket.h: where the control messages are, and how
/// many bytes the kernel wrote there.
const MSGHDR_CONTROL: usize = 32;
const MSGHDR_CONTROL_LENGTH: usize = 40;
/// Bytes of `struct cmsghdr`.
const CONTROL_HEAD_BYTES: u64 = 16;
/// Commands of `bpf(2)` that answer with a descriptor, one bit each, include/uapi/linux/bpf.h:
/// maps, programs, objects, raw tracepoints, BTF, links, iterators, statistics, tokens.
const DESCRIPTOR_COMMANDS: u64 = 1
    | 1 << 5
    | 1 << 7
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 28
    | 1 << 30
    | 1 << 32
    | 1 << 33
    | 1 << 36;

/// What is written down while a file is described, see `NOTES_AT`.
#[repr(C)]
pub(super) struct Notes {
    /// Whose files are described. Here it is a number to the verifier, which hands no
    /// pointer to a global function.
    pub(super) task: u64,
    /// Its parent while a fork is told, when descriptors it has not are told too; else 0.
    pub(super) parent: u64,
    /// The directory entry the walk has come to.
    dentry: u64,
    /// The `struct mount` it is in.
    mount: u64,
    /// Where the next name goes.
    at: u32,
    /// Where the first name stands.
    start: u32,
    /// Names so far.
    names: u32,
    /// How many descriptors were found that differ between a parent and its child.
    pub(super) count: u32,
    /// The descriptors to describe.
    pub(super) fds: [i32; FILES_FORKED_MAX],
    /// What every file has: on the stack there is no room for it before 6.13.
    head: FileHead,
}

const _: () = assert!(size_of::<Notes>() <= NOTES_BYTES);

#[inline(always)]
pub(super) fn notes(scratch: *mut u8) -> *mut Notes {
    scratch.wrapping_add(NOTES_AT).cast()
}

/// Attaches what the plan says the call leaves behind.
#[inline(always)]
pub(crate) fn attach_left(
    scratch: *mut u8,
    left: u32,
    call: &Call,
    args: &[u64; 6],
    attaching: Attaching,
) -> Attaching {
    if left == leaves::NOTHING {
        return attaching;
    }
    if left == leaves::CREDENTIALS {
        return if call.ret == 0 {
            attach_credentials(scratch, call, attaching)
        } else {
            attaching
        };
    }
    if FILES_KNOWN.load() == 0 {
        return attaching;
    }
    let (count, more) = descriptors(scratch, left, call, args);
    if count == 0 {
        return attaching;
    }
    let start = bound(attaching.at, RECORD_BYTES_MAX as u32 - 1);
    let body = start + size_of::<AttachmentHead>() as u32;
    // SAFETY: the notes are ours.
    unsafe {
        (*notes(scratch)).task = call.task;
        (*notes(scratch)).parent = 0;
    }
    let end = describe_all(body, count);
    let end = bound(end, RECORD_BYTES_MAX as u32 - 1);
    let bytes = end.wrapping_sub(body);
    if bytes == 0 || bytes > RECORD_BYTES_MAX as u32 {
        return attaching;
    }
    // SAFETY: `start` is below `RECORD_BYTES_MAX`, and the buffer goes on behind it.
    unsafe {
        scratch.wrapping_add(start as usize).cast::<AttachmentHead>().write_unaligned(
            AttachmentHead {
                index: ATTACHMENT_FILES,
                flags: if more { attachment_flag::CUT } else { 0 },
                bytes: bytes as u16,
            },
        );
    }
    Attaching { at: end, count: attaching.count + 1, ..attaching }
}

#[inline(always)]
fn attach_credentials(scratch: *mut u8, call: &Call, attaching: Attaching) -> Attaching {
    let start = bound(attaching.at, RECORD_BYTES_MAX as u32 - 1);
    let head = scratch.wrapping_add(start as usize);
    let bytes = size_of::<Credentials>();
    // SAFETY: `start` is below `RECORD_BYTES_MAX`, and the buffer goes on behind it.
    unsafe {
        head.cast::<AttachmentHead>().write_unaligned(AttachmentHead {
            index: ATTACHMENT_CREDENTIALS,
            flags: 0,
            bytes: bytes as u16,
        });
        head.wrapping_add(size_of::<AttachmentHead>())
            .cast::<Credentials>()
            .write_unaligned(credentials(call.task as *const u8));
    }
    let at = start + (size_of::<AttachmentHead>() + bytes) as u32;
    Attaching { at, count: attaching.count + 1, ..attaching }
}

/// Who a task is.
///
/// # Safety
/// None really: the helper checks every address.
#[inline(always)]
pub(crate) unsafe fn credentials(task: *const u8) -> Credentials {
    // SAFETY: the helper checks every address.
    unsafe {
        let cred = read_field::<u64>(task, TASK_CRED.load()) as *const u8;
        Credentials {
            uid: read_field(cred, CRED_UID.load()),
            gid: read_field(cred, CRED_GID.load()),
            euid: read_field(cred, CRED_EUID.load()),
            egid: read_field(cred, CRED_EGID.load()),
        }
    }
}

/// Writes down which descriptors are to be described; answers how many, and whether
/// there are more.
#[inline(always)]
fn descriptors(scratch: *mut u8, left: u32, call: &Call, args: &[u64; 6]) -> (u32, bool) {
    let fds = notes(scratch).wrapping_byte_add(core::mem::offset_of!(Notes, fds)).cast::<i32>();
    let mut fd = call.ret as i32;
    if left == leaves::ADDRESS {
        if call.ret != 0 && call.ret != -EINPROGRESS {
            return (0, false);
        }
        fd = args[0] as i32;
    } else if call.ret < 0 {
        return (0, false);
    } else if left == leaves::DIRECTORY {
        fd = FILE_WORKING_DIRECTORY;
    } else if left == leaves::PAIR_AT_FIRST || left == leaves::PAIR_AT_FOURTH {
        let pair = if left == leaves::PAIR_AT_FIRST { args[0] } else { args[3] };
        // SAFETY: the notes have room for two; the helper checks the address.
        let answer = unsafe { bpf_probe_read_user(fds.cast(), 8, pair as *const _) };
        return (if answer == 0 { 2 } else { 0 }, false);
    } else if left == leaves::RIGHTS {
        return received(fds, call, args[1]);
    } else if left == leaves::FCNTL {
        if args[1] != F_DUPFD && args[1] != F_DUPFD_CLOEXEC {
            return (0, false);
        }
    } else if left == leaves::IOCTL {
        let [a, b, c, d, e] = DESCRIPTOR_REQUESTS;
        let request = args[1] & 0xffff_ffff;
        if request != a && request != b && request != c && request != d && request != e {
            return (0, false);
        }
    } else if left == leaves::BPF {
        if args[0] > 63 || DESCRIPTOR_COMMANDS >> (args[0] & 63) & 1 == 0 {
            return (0, false);
        }
    } else if left == leaves::CLONE || left == leaves::CLONE3 {
        let mut flags_and_pointer = [args[0], args[2]];
        if left == leaves::CLONE3 {
            // `struct clone_args` begins with its flags and the pointer.
            // SAFETY: two words; the helper checks the address.
            unsafe {
                bpf_probe_read_user((&raw mut flags_and_pointer).cast(), 16, args[0] as *const _);
            }
        }
        let [flags, pointer] = flags_and_pointer;
        if flags & CLONE_PIDFD == 0 {
            return (0, false);
        }
        // SAFETY: the notes have room; the helper checks the address.
        let answer = unsafe { bpf_probe_read_user(fds.cast(), 4, pointer as *const _) };
        return (u32::from(answer == 0), false);
    }
    // SAFETY: the notes have room.
    unsafe { fds.write(fd) };
    (1, false)
}

/// The descriptors that came with a message: its first control message that has some.
#[inline(always)]
fn received(fds: *mut i32, call: &Call, message: u64) -> (u32, bool) {
    if call.flags & flag::COMPAT != 0 {
        return (0, false);
    }
    let message = message as *const u8;
    let mut control = [0u64; 2];
    const { assert!(MSGHDR_CONTROL + 8 == MSGHDR_CONTROL_LENGTH) };
    // SAFETY: all buffers are as long as is read; the helper checks every address.
    unsafe {
        let at = message.wrapping_add(MSGHDR_CONTROL);
        bpf_probe_read_user((&raw mut control).cast(), 16, at.cast());
        let [mut pointer, bytes] = control;
        if pointer == 0 || bytes < CONTROL_HEAD_BYTES + 4 {
            return (0, false);
        }
        let mut head = ControlHead::default();
        bpf_probe_read_user((&raw mut head).cast(), 16, pointer as *const _);
        if head.level == SOL_SOCKET && head.kind != SCM_RIGHTS {
            // Credentials come before descriptors.
            let first = head.bytes.wrapping_add(7) & !7;
            if first > bytes {
                return (0, false);
            }
            pointer = pointer.wrapping_add(first);
            bpf_probe_read_user((&raw mut head).cast(), 16, pointer as *const _);
        }
        if head.level != SOL_SOCKET || head.kind != SCM_RIGHTS || head.bytes < CONTROL_HEAD_BYTES {
            return (0, false);
        }
        let there = (head.bytes - CONTROL_HEAD_BYTES) / 4;
        let more = there > FILES_MAX as u64;
        let count = if more { FILES_MAX as u32 } else { there as u32 };
        let bytes = bound(4 * count, 63);
        if bytes > 4 * FILES_MAX as u32 {
            return (0, false);
        }
        let from = pointer.wrapping_add(CONTROL_HEAD_BYTES) as *const _;
        if bpf_probe_read_user(fds.cast(), bytes, from) != 0 {
            return (0, false);
        }
        (count, more)
    }
}

/// `struct cmsghdr`.
#[repr(C)]
#[derive(Default)]
struct ControlHead {
    bytes: u64,
    level: u32,
    kind: u32,
}

/// Describes the first `count` descriptors of the notes; answers where it ended.
#[inline(always)]
fn describe_all(at: u32, count: u32) -> u32 {
    const { assert!(FILES_MAX == 8) };
    let mut at = at;
    macro_rules! one_more {
        ($($place:literal)*) => { $( if count > $place { at = describe(at, $place); } )* };
    }
    // Not a loop: see `attach_all`.
    one_more! { 0 1 2 3 4 5 6 7 }
    at
}

/// Describes descriptor `place` of the notes at `at`; answers where it ended, which is
/// `at` when a call made it and there is no such descriptor any more.
///
/// A global function to the verifier, which looks at it once by itself and not once for
/// every way it can be reached: inlined, forty steps of eight files take it minutes.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn describe(at: u32, place: u32) -> u32 {
    let at = bound(at, RECORD_BYTES_MAX as u32 - 1);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return at };
    let scratch = scratch.cast::<u8>();
    let notes = notes(scratch);
    // SAFETY: the notes have room for every place; `at` is below `RECORD_BYTES_MAX` and the
    // buffer goes on for more than the largest path behind it; the helper checks the rest.
    unsafe {
        let fds = notes.wrapping_byte_add(core::mem::offset_of!(Notes, fds)).cast::<i32>();
        let task = (*notes).task as *const u8;
        let head = &raw mut (*notes).head;
        head.write(FileHead::default());
        (*head).fd = fds.wrapping_add(bound(place, FILES_FORKED_MAX as u32 - 1) as usize).read();
        let (mount, file_private, inode);
        if (*head).fd == FILE_WORKING_DIRECTORY {
            let fs = read_field::<u64>(task, TASK_FS.load()) as *const u8;
            mount = read_field::<u64>(fs, FS_MOUNT.load());
            (*notes).dentry = read_field(fs, FS_DENTRY.load());
            inode = read_field::<u64>((*notes).dentry as *const u8, DENTRY_INODE.load());
            file_private = 0;
        } else {
            let file = file_of(task, head);
            if file.is_null() {
                if (*notes).parent == 0 {
                    return at;
                }
                (*head).flags = file_flag::CLOSED;
                scratch.wrapping_add(at as usize).cast::<FileHead>().write_unaligned(head.read());
                return at + size_of::<FileHead>() as u32;
            }
            (*head).open_flags = read_field(file, FILE_FLAGS.load());
            mount = read_field::<u64>(file, FILE_MOUNT.load());
            (*notes).dentry = read_field(file, FILE_DENTRY.load());
            inode = read_field::<u64>(file, FILE_INODE.load());
            file_private = read_field::<u64>(file, FILE_PRIVATE_DATA.load());
        }
        let inode = inode as *const u8;
        (*head).mode = u32::from(read_field::<u16>(inode, INODE_MODE.load()));
        (*head).inode = read_field(inode, INODE_NUMBER.load());
        let super_block = read_field::<u64>(inode, INODE_SUPER_BLOCK.load()) as *const u8;
        (*head).device = read_field(super_block, SUPER_BLOCK_DEVICE.load());
        (*head).magic = read_field::<u64>(super_block, SUPER_BLOCK_MAGIC.load()) as u32;
        let body = at + size_of::<FileHead>() as u32;
        let length = if (*head).mode & TYPE_MASK == TYPE_SOCKET && file_private != 0 {
            describe_socket(scratch, body, file_private as *const u8)
        } else {
            (*notes).mount = mount.wrapping_sub(u64::from(MOUNT_VFSMOUNT.load()));
            let (length, flags) = describe_path(scratch, body);
            (*head).flags |= flags;
            length
        };
        (*head).bytes = length as u16;
        scratch.wrapping_add(at as usize).cast::<FileHead>().write_unaligned(head.read());
        body + (length + 7 & !7)
    }
}

/// Whose data goes through a descriptor. Files of `/proc` are nobody's: one of them is
/// the environment of a process, which is never recorded.
///
/// A global function, see [`describe`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn data_class(fd: u32) -> u32 {
    /// include/uapi/linux/magic.h
    const PROC_SUPER_MAGIC: u32 = 0x9fa0;
    if FILES_KNOWN.load() == 0 {
        return CLASS_NONE;
    }
    let mut head = FileHead { fd: fd as i32, ..FileHead::default() };
    // SAFETY: the current task, as a number: a pointer the verifier trusts is no argument
    // of a global function. The helper checks every address.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let file = file_of(task, &raw mut head);
        if file.is_null() {
            return CLASS_NONE;
        }
        let inode = read_field::<u64>(file, FILE_INODE.load()) as *const u8;
        let mode = u32::from(read_field::<u16>(inode, INODE_MODE.load()));
        if mode & TYPE_MASK == TYPE_SOCKET {
            return CLASS_NETWORK;
        }
        let super_block = read_field::<u64>(inode, INODE_SUPER_BLOCK.load()) as *const u8;
        let magic = read_field::<u64>(super_block, SUPER_BLOCK_MAGIC.load()) as u32;
        if magic == PROC_SUPER_MAGIC { CLASS_NONE } else { CLASS_FILE }
    }
}

/// The file behind a descriptor, or null; notes whether an exec closes it.
#[inline(always)]
unsafe fn file_of(task: *const u8, head: *mut FileHead) -> *const u8 {
    // SAFETY: the notes are ours; the helper checks every address.
    unsafe {
        let fd = (*head).fd as u32;
        let files = read_field::<u64>(task, TASK_FILES.load()) as *const u8;
        let table = read_field::<u64>(files, FILES_FDT.load()) as *const u8;
        if fd >= read_field::<u32>(table, FDTABLE_MAX.load()) {
            return core::ptr::null();
        }
        let words = read_field::<u64>(table, FDTABLE_CLOSE_ON_EXEC.load()) as *const u64;
        let word = read_field::<u64>(words.wrapping_add(fd as usize / 64).cast(), 0);
        if word >> (fd & 63) & 1 != 0 {
            (*head).flags = file_flag::CLOSE_ON_EXEC;
        }
        let entries = read_field::<u64>(table, FDTABLE_FD.load()) as *const u64;
        read_field::<u64>(entries.wrapping_add(fd as usize).cast(), 0) as *const u8
    }
}

/// Writes the names from the file of the notes up to the root; answers bytes and flags.
#[inline(always)]
unsafe fn describe_path(scratch: *mut u8, at: u32) -> (u32, u16) {
    let notes = notes(scratch);
    // SAFETY: the notes are ours; the helper checks the rest.
    unsafe {
        (*notes).at = at;
        (*notes).start = at;
        (*notes).names = 0;
        let first = (*notes).dentry as *const u8;
        let root = read_field::<u64>((*notes).mount as *const u8, MOUNT_ROOT.load());
        let hashed = read_field::<u64>(first, DENTRY_HASHED.load());
        // The root of a file system has no name either, and is not deleted.
        let mut flags = 0;
        if hashed == 0 && root != first as u64 {
            flags = file_flag::DELETED;
        }
        let mut going = 1;
        macro_rules! steps {
            ($($step:literal)*) => { $( if going == 1 { let _ = $step; going = climb(); } )* };
        }
        const { assert!(FILE_DEPTH_MAX == 40) };
        // Not a loop: see `attach_all`.
        steps! {
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
            21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40
        }
        if going != 0 {
            flags |= file_flag::CUT;
        }
        (bound((*notes).at.wrapping_sub(at), 2 * FILE_PATH_BYTES_MAX as u32 - 1), flags)
    }
}

/// One step up: 1 when there is another one, 0 at the root, 2 when the rest is cut.
/// A global function, see [`describe`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn climb() -> u32 {
    /// `NAME_MAX` and the NUL.
    const NAME_BYTES: u32 = 256;
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 2 };
    let scratch = scratch.cast::<u8>();
    let notes = notes(scratch);
    // SAFETY: the notes are ours; a name is written below `RECORD_BYTES_MAX`, behind which
    // the buffer goes on for longer than a name; the helper checks the rest.
    unsafe {
        let dentry = (*notes).dentry;
        let mount = (*notes).mount as *const u8;
        if dentry == read_field::<u64>(mount, MOUNT_ROOT.load()) {
            let above = read_field::<u64>(mount, MOUNT_PARENT.load());
            if above == mount as u64 {
                return 0;
            }
            (*notes).dentry = read_field(mount, MOUNT_POINT.load());
            (*notes).mount = above;
            return 1;
        }
        let parent = read_field::<u64>(dentry as *const u8, DENTRY_PARENT.load());
        if parent == dentry && (*notes).names > 0 {
            return 0;
        }
        let at = (*notes).at;
        if at.wrapping_sub((*notes).start) > FILE_PATH_BYTES_MAX as u32 - NAME_BYTES {
            return 2;
        }
        let to = scratch.wrapping_add(bound(at, RECORD_BYTES_MAX as u32 - 1) as usize);
        let name = read_field::<u64>(dentry as *const u8, DENTRY_NAME.load());
        let length = bpf_probe_read_kernel_str(to.cast(), NAME_BYTES, name as *const _);
        if length <= 0 {
            return 2;
        }
        (*notes).at = at + bound(length as u32, 2 * NAME_BYTES - 1);
        (*notes).names += 1;
        (*notes).dentry = parent;
        u32::from(parent != dentry)
    }
}

/// Writes both addresses of a socket, piece by piece: the stack has no room for them.
#[inline(always)]
unsafe fn write_ends(sock: *const u8, family: u16, ends: *mut u8) {
    const ADDRESS: usize = INET_SOCKADDR_BYTES;
    let (port, word, six) = (
        core::mem::offset_of!(Address, port),
        core::mem::offset_of!(Address, word),
        core::mem::offset_of!(Address, address),
    );
    // SAFETY: the caller vouches for the room; the helper checks the rest.
    unsafe {
        for place in 0..2 * ADDRESS / 8 {
            ends.wrapping_add(8 * place).cast::<u64>().write_unaligned(0);
        }
        let remote = ends.wrapping_add(ADDRESS);
        ends.cast::<u16>().write_unaligned(family);
        remote.cast::<u16>().write_unaligned(family);
        let local_port = read_field::<u16>(sock, SOCK_NUM.load()).to_be();
        ends.wrapping_add(port).cast::<u16>().write_unaligned(local_port);
        copy(remote.wrapping_add(port), sock, SOCK_DPORT.load(), 2);
        if family == AF_INET {
            copy(ends.wrapping_add(word), sock, SOCK_SADDR.load(), 4);
            copy(remote.wrapping_add(word), sock, SOCK_DADDR.load(), 4);
        } else if SOCK_SADDR6.load() != 0 {
            copy(ends.wrapping_add(six), sock, SOCK_SADDR6.load(), 16);
            copy(remote.wrapping_add(six), sock, SOCK_DADDR6.load(), 16);
        }
    }
}

/// Copies `bytes` at `offset` of a kernel object.
#[inline(always)]
unsafe fn copy(to: *mut u8, object: *const u8, offset: u32, bytes: u32) {
    let from = object.wrapping_add(offset as usize);
    // SAFETY: the caller vouches for the room; the helper checks the address. What cannot
    // be read leaves zeroes.
    unsafe { bpf_probe_read_kernel(to.cast(), bytes, from.cast()) };
}

/// Describes a socket at `at`; answers how many bytes that took.
#[inline(always)]
unsafe fn describe_socket(scratch: *mut u8, at: u32, socket: *const u8) -> u32 {
    const HEAD: u32 = size_of::<SocketHead>() as u32;
    let body = scratch.wrapping_add(at as usize);
    let ends = body.wrapping_add(HEAD as usize);
    // SAFETY: `at` is below `RECORD_BYTES_MAX` and a little, behind which the buffer goes
    // on for kilobytes; the helper checks the rest.
    unsafe {
        let sock = read_field::<u64>(socket, SOCKET_SK.load()) as *const u8;
        let mut head = SocketHead {
            family: read_field(sock, SOCK_FAMILY.load()),
            kind: read_field(socket, SOCKET_TYPE.load()),
            protocol: read_field(sock, SOCK_PROTOCOL.load()),
            state: u16::from(read_field::<u8>(sock, SOCK_STATE.load())),
            peer: 0,
        };
        let mut length = HEAD;
        if head.family == AF_INET || head.family == AF_INET6 {
            write_ends(sock, head.family, ends);
            length += 2 * INET_SOCKADDR_BYTES as u32;
        } else if head.family == AF_UNIX && UNIX_ADDRESS.load() != 0 {
            let peer = read_field::<u64>(sock, UNIX_PEER.load()) as *const u8;
            if !peer.is_null() {
                let other = read_field::<u64>(peer, SOCK_SOCKET.load()) as *const u8;
                if !other.is_null() {
                    head.peer = read_field(other, SOCKET_INODE.load() + INODE_NUMBER.load());
                }
            }
            let address = read_field::<u64>(sock, UNIX_ADDRESS.load()) as *const u8;
            if !address.is_null() {
                let bytes: u32 = read_field(address, UNIX_ADDRESS_LENGTH.load());
                let bytes = bound(bytes, SOCKADDR_BYTES_MAX as u32 - 1);
                let name = address.wrapping_add(UNIX_ADDRESS_NAME.load() as usize);
                if bpf_probe_read_kernel(ends.cast(), bytes, name.cast()) == 0 {
                    length += bytes;
                }
            }
        }
        body.cast::<SocketHead>().write_unaligned(head);
        length
    }
}
