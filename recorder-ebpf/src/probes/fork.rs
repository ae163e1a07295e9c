//! What a new process has open that its parent has not any more, or not yet.
//!
//! The kernel copies the tables of the parent when it begins to make a child, and tells of
//! the child when it is made, after its memory has been copied: milliseconds later. Another
//! thread can open, close and move on meanwhile. So where others have the parent's table
//! too the tables are compared, and what differs is told with the fork.

use recorder_ebpf::wire::{
    ATTACHMENT_FILES, AttachmentHead, FILE_WORKING_DIRECTORY, FILES_FORKED_MAX, RECORD_BYTES_MAX,
    attachment_flag, shared,
};

use super::{
    bound,
    files::{Notes, describe, notes},
    read_field,
};
use crate::maps::{
    FDTABLE_CLOSE_ON_EXEC, FDTABLE_FD, FDTABLE_MAX, FILES_COUNT, FILES_FDT, FILES_KNOWN, FS_DENTRY,
    FS_MOUNT, SCRATCH, TASK_FILES, TASK_FS,
};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Nothing is compared: there is one of each.
const BOTH: u32 = shared::FILES | shared::DIRECTORY;

/// Descriptors compared at a time: as many as a word of the kernel's bitmaps has. The
/// length of a table is a multiple of it (fs/file.c, `alloc_fdtable`).
const CHUNK: u32 = 64;

/// Bytes of as many pointers.
const CHUNK_BYTES: u32 = 8 * CHUNK;

/// Where they are read to: records begin at the other end.
const CHUNKS_AT: usize = RECORD_BYTES_MAX - 2 * CHUNK_BYTES as usize;

/// No file begins behind this: the largest one fits before the end of a record.
const FILE_AT_MAX: u32 = RECORD_BYTES_MAX as u32 - 5_120;

/// Attaches what `child` has open otherwise than `parent`, at `at` in the scratch buffer;
/// answers where it ended, which is `at` when nothing differs. `shares` is what they have
/// in common.
///
/// # Safety
/// None really: the helper checks every address.
#[inline(always)]
pub(crate) unsafe fn attach_differing(
    scratch: *mut u8,
    at: u32,
    parent: *const u8,
    child: *const u8,
    shares: u32,
) -> u32 {
    if FILES_KNOWN.load() == 0 || shares & BOTH == BOTH {
        return at;
    }
    let notes = notes(scratch);
    // SAFETY: the notes are ours, `at` is where a record has its first attachment, and the
    // helper checks the rest.
    unsafe {
        (*notes).task = child as u64;
        (*notes).parent = parent as u64;
        (*notes).count = 0;
        if shares & shared::DIRECTORY == 0 && directory(parent) != directory(child) {
            note(notes, FILE_WORKING_DIRECTORY);
        }
        let mut more = 0;
        let files = read_field::<u64>(parent, TASK_FILES.load()) as *const u8;
        if shares & shared::FILES == 0 && read_field::<u32>(files, FILES_COUNT.load()) > 1 {
            let mut going = 1;
            macro_rules! chunks {
                ($($chunk:literal)*) => { $( if going == 1 { going = differ(CHUNK * $chunk); } )* };
            }
            // Not a loop: see `attach_all`.
            chunks! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
            more = going;
        }
        let count = (*notes).count;
        if count == 0 && more == 0 {
            return at;
        }
        let body = at + size_of::<AttachmentHead>() as u32;
        let mut end = body;
        macro_rules! files {
            ($($place:literal)*) => { $(
                if count > $place && end <= FILE_AT_MAX { end = describe(end, $place); }
            )* };
        }
        const { assert!(FILES_FORKED_MAX == 32) };
        files! {
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        }
        if end > FILE_AT_MAX || count > FILES_FORKED_MAX as u32 {
            more = 1;
        }
        let end = bound(end, RECORD_BYTES_MAX as u32 - 1);
        scratch.wrapping_add(at as usize).cast::<AttachmentHead>().write_unaligned(
            AttachmentHead {
                index: ATTACHMENT_FILES,
                flags: if more == 0 { 0 } else { attachment_flag::CUT },
                bytes: end.wrapping_sub(body) as u16,
            },
        );
        end
    }
}

/// Where a task is.
#[inline(always)]
unsafe fn directory(task: *const u8) -> (u64, u64) {
    // SAFETY: the helper checks every address.
    unsafe {
        let fs = read_field::<u64>(task, TASK_FS.load()) as *const u8;
        (read_field(fs, FS_MOUNT.load()), read_field(fs, FS_DENTRY.load()))
    }
}

/// Notes a descriptor that differs; of too many only how many they are.
#[inline(always)]
unsafe fn note(notes: *mut Notes, fd: i32) {
    // SAFETY: the notes have room for a place below `FILES_FORKED_MAX`.
    unsafe {
        let place = (*notes).count;
        if place < FILES_FORKED_MAX as u32 {
            let fds = notes.wrapping_byte_add(core::mem::offset_of!(Notes, fds)).cast::<i32>();
            fds.wrapping_add(bound(place, FILES_FORKED_MAX as u32 - 1) as usize).write(fd);
        }
        (*notes).count = place + 1;
    }
}

/// Notes the descriptors from `first` on, as many as a chunk has, that differ: 1 when there
/// may be more behind them, 0 at the end of both tables.
///
/// A global function, see [`describe`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn differ(first: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let scratch = scratch.cast::<u8>();
    let notes = notes(scratch);
    let theirs = scratch.wrapping_add(CHUNKS_AT);
    let own = theirs.wrapping_add(CHUNK_BYTES as usize);
    // SAFETY: both chunks are in the scratch buffer, the notes are ours; the helper checks
    // every address.
    unsafe {
        let (of_parent, marked_of_parent) = read_chunk((*notes).parent, first, theirs);
        let (of_child, marked_of_child) = read_chunk((*notes).task, first, own);
        let longest = if of_parent > of_child { of_parent } else { of_child };
        if first >= longest {
            return 0;
        }
        let marked = marked_of_parent ^ marked_of_child;
        for place in 0..CHUNK {
            let at = 8 * place as usize;
            let theirs = theirs.wrapping_add(at).cast::<u64>().read_volatile();
            let own = own.wrapping_add(at).cast::<u64>().read_volatile();
            // A mark without a file means nothing.
            if theirs != own || own != 0 && marked >> place & 1 != 0 {
                note(notes, (first + place) as i32);
            }
        }
        u32::from(longest > first + CHUNK)
    }
}

/// Reads a chunk of a task's table: how long the table is, and which of these descriptors an
/// exec closes. All are zero where the table has none of them.
#[inline(always)]
unsafe fn read_chunk(task: u64, first: u32, to: *mut u8) -> (u32, u64) {
    // SAFETY: the caller vouches for the room; the helper checks every address, and fills
    // with zeroes what it cannot read.
    unsafe {
        let files = read_field::<u64>(task as *const u8, TASK_FILES.load()) as *const u8;
        let table = read_field::<u64>(files, FILES_FDT.load()) as *const u8;
        let length = read_field::<u32>(table, FDTABLE_MAX.load());
        let mut entries = core::ptr::null();
        let mut marked = 0;
        if first < length {
            entries = read_field::<u64>(table, FDTABLE_FD.load()) as *const u64;
            let words = read_field::<u64>(table, FDTABLE_CLOSE_ON_EXEC.load()) as *const u64;
            marked = read_field(words.wrapping_add((first / CHUNK) as usize).cast(), 0);
            entries = entries.wrapping_add(first as usize);
        }
        bpf_probe_read_kernel(to.cast(), CHUNK_BYTES, entries.cast());
        (length, marked)
    }
}
