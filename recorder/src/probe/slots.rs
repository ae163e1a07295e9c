//! Calls that have not returned: the slots of all threads, read at a dump, and
//! the calls that were already running when the recording began.

use std::{fs, io::Read as _};

use aya::{maps::Array, programs::Iter};
use recorder_ebpf::wire::{SYSCALL_ARGS_MAX, Slot, SlotRow, flag, slot_state};

use super::{ProbeError, SlotLister, program};

/// Threads listed at the most: beyond it a host has more threads than
/// `threads-max` allows by default.
const ROWS_MAX: usize = 1 << 20;

/// Bytes of kernel memory the slots take: one for each thread that lives, with what
/// task storage adds (`struct bpf_local_storage_elem`, and its hash bucket).
pub fn slots_bytes() -> u64 {
    let threads = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split('/').nth(1)?.split(' ').next()?.parse::<u64>().ok());
    threads.unwrap_or_default() * (size_of::<Slot>() as u64 + 128)
}

/// A thread in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfinishedCall {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// When the call was entered; 0 when before the recording.
    pub entry_ns: u64,
    /// The number of the call.
    pub nr: i64,
    /// Its arguments.
    pub args: [u64; SYSCALL_ARGS_MAX],
    /// Whether it is a 32-bit call.
    pub compat: bool,
}

/// A value of the map `SLOTS` where it is an array, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct SlotValue(Slot);

// SAFETY: `Slot` is `repr(C)`, has no padding, and any bytes are a valid one.
unsafe impl aya::Pod for SlotValue {}

/// The calls that are running now, by the slots.
pub fn unfinished_calls(lister: &SlotLister) -> Result<Vec<UnfinishedCall>, ProbeError> {
    if !lister.btf {
        return listed_by_array(lister);
    }
    let file = {
        let mut ebpf = lister.ebpf.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slots: &mut Iter = program(&mut ebpf, "slots")?;
        let failed = |error| ProbeError::failed("list the calls that have not returned", error);
        let link = slots.attach().map_err(failed)?;
        let link = slots.take_link(link).map_err(failed)?;
        link.into_file().map_err(|e| ProbeError::failed("read the list of running calls", e))?
    };
    let mut bytes = Vec::new();
    file.take((ROWS_MAX * size_of::<SlotRow>()) as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| ProbeError::failed("read the list of running calls", e))?;
    Ok(bytes.chunks_exact(size_of::<SlotRow>()).filter_map(row).collect())
}

/// One row as the iterator wrote it.
fn row(bytes: &[u8]) -> Option<UnfinishedCall> {
    let bytes = bytes.get(..size_of::<SlotRow>())?;
    let half = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let slot = std::mem::offset_of!(SlotRow, slot);
    let mut args = [0; SYSCALL_ARGS_MAX];
    for (place, arg) in args.iter_mut().enumerate() {
        *arg = word(slot + std::mem::offset_of!(Slot, args) + 8 * place)?;
    }
    Some(UnfinishedCall {
        pid: half(std::mem::offset_of!(SlotRow, pid))?,
        tid: half(std::mem::offset_of!(SlotRow, tid))?,
        entry_ns: word(slot + std::mem::offset_of!(Slot, entry_ns))?,
        nr: word(slot + std::mem::offset_of!(Slot, nr))?.cast_signed(),
        args,
        compat: half(slot + std::mem::offset_of!(Slot, flags))? & u32::from(flag::COMPAT) != 0,
    })
}

/// The array's values at the ids of the threads that live now.
fn listed_by_array(lister: &SlotLister) -> Result<Vec<UnfinishedCall>, ProbeError> {
    let ebpf = lister.ebpf.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let map = ebpf.map("SLOTS").ok_or(ProbeError::NoObject)?;
    let slots: Array<_, SlotValue> =
        Array::try_from(map).map_err(|error| ProbeError::failed("find the slots", error))?;
    let mut calls = Vec::new();
    for (pid, tid) in threads() {
        let Ok(SlotValue(slot)) = slots.get(&tid, 0) else { continue };
        if slot.state == slot_state::IN_CALL {
            calls.push(UnfinishedCall {
                pid,
                tid,
                entry_ns: slot.entry_ns,
                nr: slot.nr,
                args: slot.args,
                compat: slot.flags & u32::from(flag::COMPAT) != 0,
            });
        }
    }
    Ok(calls)
}

/// The calls that `/proc` says are running: read after the hooks are attached,
/// those without a slot began before.
pub fn calls_before_recording(own_pid: u32) -> Vec<UnfinishedCall> {
    threads()
        .filter(|(pid, _)| *pid != own_pid)
        .take(ROWS_MAX)
        .filter_map(|(pid, tid)| call_in_proc(pid, tid))
        .map(|call| UnfinishedCall { compat: runs_32_bit(call.pid), ..call })
        .collect()
}

/// Whether the program of a process is a 32-bit one: byte 4 of an ELF file is 1
/// (elf(5), `EI_CLASS`). Its calls are then taken for 32-bit ones.
fn runs_32_bit(pid: u32) -> bool {
    let mut head = [0; 5];
    let read = fs::File::open(format!("/proc/{pid}/exe"))
        .and_then(|mut program| program.read_exact(&mut head));
    read.is_ok() && head == *b"\x7fELF\x01"
}

/// The call a thread is in, by `/proc/PID/task/TID/syscall`
/// (Documentation/filesystems/proc.rst); `None` when it is in none or is gone.
pub(super) fn call_in_proc(pid: u32, tid: u32) -> Option<UnfinishedCall> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    parse_call(&text).map(|(nr, args)| UnfinishedCall {
        pid,
        tid,
        entry_ns: 0,
        nr,
        args,
        compat: false,
    })
}

impl UnfinishedCall {
    /// Whether the thread is still in the same call, by `/proc`.
    pub fn still_running(&self) -> bool {
        call_in_proc(self.pid, self.tid)
            .is_some_and(|now| now.nr == self.nr && now.args == self.args)
    }
}

/// `0 0x3 0x7ffe... <sp> <pc>`; `running`; `-1 <sp> <pc>` outside a call. A thread
/// of the kernel is in no call and has nothing but zeros there.
pub fn parse_call(text: &str) -> Option<(i64, [u64; SYSCALL_ARGS_MAX])> {
    let word = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let mut words = text.split_whitespace();
    let nr: i64 = words.next()?.parse().ok()?;
    if nr < 0 {
        return None;
    }
    let mut args = [0; SYSCALL_ARGS_MAX];
    for arg in &mut args {
        *arg = word(words.next()?)?;
    }
    let (_sp, pc) = (word(words.next()?)?, word(words.next()?)?);
    (pc != 0).then_some((nr, args))
}

/// Every thread in `/proc`, as process and thread.
fn threads() -> impl Iterator<Item = (u32, u32)> {
    numbers_in("/proc").into_iter().flat_map(|pid| {
        let tasks = numbers_in(&format!("/proc/{pid}/task"));
        tasks.into_iter().map(move |tid| (pid, tid))
    })
}

/// The entries of a directory of `/proc` that are numbers; none where it is gone.
pub fn numbers_in(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_syscall_is_read() {
        let line = "0 0x3 0x7ffe1000 0x1 0x0 0x0 0x0 0x7ffe0ff8 0x7f0000001000\n";
        assert_eq!(parse_call(line), Some((0, [3, 0x7ffe_1000, 1, 0, 0, 0])));
        // Threads of the kernel were once listed as reading from descriptor 0.
        let kernel_thread = "0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n";
        let outside = "-1 0x7ffe 0x7f00\n";
        for not_a_call in ["running\n", outside, kernel_thread, "", "0 0x3", "0 3 4 5 6 7 8"] {
            assert_eq!(parse_call(not_a_call), None, "{not_a_call:?}");
        }
    }

    #[test]
    fn a_row_that_is_cut_short_is_no_row() {
        assert_eq!(row(&[0; size_of::<SlotRow>() - 1]), None);
        assert!(row(&[0; size_of::<SlotRow>()]).is_some());
    }
}
