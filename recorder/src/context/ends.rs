//! The ends of processes, and what is left of them.
//!
//! A process all of whose threads have ended stays, as a zombie, until its parent has taken
//! note of that: by a call that waits, whose result says so, or because the kernel does not
//! ask it. An end says whether the kernel asks. What neither says, the kernel does when it
//! lets go of the process, somewhat later: where the parent is in a pid namespace of its own
//! and calls its children by other numbers, or where it waits without wanting to know whom
//! it got.

use super::{Processes, ThreadFacts};
use crate::event::{Call, Event, syscall::Abi};

/// `WNOHANG`, `WNOWAIT` and `P_PID`, include/uapi/linux/wait.h.
const WNOHANG: u64 = 1;
const WNOWAIT: u64 = 0x0100_0000;
const P_PID: u64 = 1;

/// `CLD_EXITED`, `CLD_KILLED` and `CLD_DUMPED`, include/uapi/asm-generic/siginfo.h.
const ENDS: std::ops::RangeInclusive<u32> = 1..=3;

/// Where `siginfo_t` has its code, and its process: behind what must be aligned to a pointer.
const CODE_AT: usize = 8;
const PID_AT: usize = 16;
const PID_AT_NARROW: usize = 12;

/// What `wait4(2)` says of a child that stopped, in its low byte, or goes on.
const STOPPED: u32 = 0x7f;
const CONTINUED: u32 = 0xffff;

/// A process is said to start when the kernel tells of it. That is later than its own time,
/// by as long as copying its parent's memory takes, at the most.
const FORK_NS_MAX: u64 = 1_000_000_000;

impl Processes {
    /// A thread ended. The leader of a process stays: it has the name, and an exec of another
    /// thread continues it. Behind the last thread it is a zombie, unless the kernel said that
    /// nothing is left; an older file does not say, and has nothing that ends a zombie.
    pub(super) fn end(&mut self, event: &Event<'_>) {
        let tid = event.tid;
        // A thread that started later has only the number in common.
        if self.get(tid).is_some_and(|facts| facts.start_ns > event.ts_ns) {
            return;
        }
        if let Some(pid) = self.get(tid).map(|facts| facts.pid) {
            let leaves_nothing = event.numbers().get(3).is_none_or(|gone| *gone != 0);
            // Without the kernel's types a thread is taken for a process until it ends.
            if pid == tid && event.pid == tid {
                self.leave_tables(tid);
                if let Some(facts) = self.threads.get_mut(&tid) {
                    facts.has_ended = true;
                }
            } else {
                self.remove(tid);
            }
            if leaves_nothing && self.is_zombie(pid) {
                self.remove(pid);
            }
            if !self.living.contains_key(&pid) {
                self.leave_groups(pid);
            }
        }
        if let Some(reaper) = event.numbers().get(2).filter(|reaper| **reaper != 0) {
            self.inherit(event, *reaper as u32);
        }
    }

    /// Whether a process has ended, with all its threads, and is still there.
    pub fn is_zombie(&self, pid: u32) -> bool {
        self.living.get(&pid) == Some(&1) && self.get(pid).is_some_and(|facts| facts.has_ended)
    }

    /// The children of a process that ended have another parent, and so have its zombies.
    fn inherit(&mut self, event: &Event<'_>, reaper: u32) {
        let orphans = self.children.range((event.pid, 0)..=(event.pid, u32::MAX));
        let orphans: Vec<u32> = orphans.map(|(_, child)| *child).collect();
        for child in orphans {
            self.update(child, event.ts_ns, |facts| facts.ppid = reaper);
        }
    }

    /// A process is no zombie any more. What began later has only the number in common.
    pub(super) fn reap(&mut self, pid: u32, ts_ns: u64) {
        if self.is_zombie(pid) && self.get(pid).is_some_and(|facts| facts.start_ns <= ts_ns) {
            self.remove(pid);
            self.leave_groups(pid);
        }
    }

    /// The kernel lets go of a process, which may have been reaped long before: its number may
    /// be that of another one by now, which may be a zombie too.
    pub(super) fn let_go(&mut self, event: &Event<'_>) {
        let start_ns = event.number(0);
        let is_other = |facts: &ThreadFacts| facts.start_ns > start_ns.saturating_add(FORK_NS_MAX);
        if start_ns == 0 || !self.get(event.pid).is_some_and(is_other) {
            self.reap(event.pid, event.ts_ns);
        }
    }

    /// The thread of the event has taken note of the end of this child. The number is that of
    /// its pid namespace: whoever is not a child of its process is not meant. A debugger that
    /// waits for somebody else's child leaves it to its parent.
    pub(super) fn take_note(&mut self, event: &Event<'_>, child: Option<u32>) {
        let is_child = |pid: &u32| self.get(*pid).is_some_and(|facts| facts.ppid == event.pid);
        if let Some(child) = child.filter(is_child) {
            self.reap(child, event.ts_ns);
        }
    }
}

/// Whose end `wait4` or `waitpid` gave.
pub(super) fn waited(event: &Event<'_>, call: Call<'_, '_>) -> Option<u32> {
    let status = event.attachment(1).and_then(|status| number_at(status.bytes, 0));
    let goes_on = status.is_some_and(|status| status & 0xff == STOPPED || status == CONTINUED);
    u32::try_from(call.ret()).ok().filter(|pid| *pid != 0 && !goes_on)
}

/// Whose end `waitid` gave.
pub(super) fn waited_by_id(event: &Event<'_>, call: Call<'_, '_>, abi: Abi) -> Option<u32> {
    let arg = |place: usize| call.args().get(place).copied().unwrap_or_default();
    let options = arg(3);
    if options & WNOWAIT != 0 {
        return None;
    }
    let Some(info) = event.attachment(2) else {
        // It did not want to know, and waited until there was something.
        let is_known = u64::from(arg(0) as u32) == P_PID && options & WNOHANG == 0;
        return is_known.then_some(arg(1) as u32);
    };
    let pid_at = if abi == Abi::X86 { PID_AT_NARROW } else { PID_AT };
    let is_end = number_at(info.bytes, CODE_AT).is_some_and(|code| ENDS.contains(&code));
    number_at(info.bytes, pid_at).filter(|pid| is_end && *pid != 0)
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::ThreadFacts,
        event::{Attached, Kind},
    };

    const WAIT4: u64 = 61;
    const WAITID: u64 = 247;

    /// Process 7 and its child 9.
    fn family() -> Processes {
        let mut processes = Processes::default();
        for (pid, ppid) in [(1, 0), (7, 1), (9, 7)] {
            processes.insert(pid, ThreadFacts { pid, ppid, ..ThreadFacts::default() });
        }
        processes
    }

    fn end(ts_ns: u64, pid: u32, tid: u32, numbers: &[u64]) -> Event<'static> {
        let mut event = Event::new(Kind::ProcessExit, ts_ns);
        (event.pid, event.tid) = (pid, tid);
        for number in numbers {
            event.push_number(*number);
        }
        event
    }

    fn call(pid: u32, nr: u64, ret: i64, args: &[u64]) -> Event<'static> {
        let mut event = Event::new(Kind::Syscall, 200);
        (event.pid, event.tid) = (pid, pid);
        for number in [nr, ret.cast_unsigned(), 10].iter().chain(args) {
            event.push_number(*number);
        }
        event
    }

    /// Whether 9 is there after it ended and this happened.
    fn is_left_after(event: &Event<'_>) -> bool {
        let mut processes = family();
        processes.apply(&end(100, 9, 9, &[0, 0, 1, 0]), Abi::X86_64);
        assert!(processes.is_zombie(9));
        processes.apply(event, Abi::X86_64);
        processes.get(9).is_some()
    }

    #[test]
    fn a_zombie_goes_when_its_parent_takes_note_and_not_before() {
        assert!(!is_left_after(&call(7, WAIT4, 9, &[9, 0, 0, 0])));
        assert!(is_left_after(&call(7, WAIT4, 0, &[9, 0, WNOHANG, 0])));
        assert!(is_left_after(&call(1, WAIT4, 9, &[9, 0, 0, 0])), "a debugger");
        for (status, is_left) in [(0u32, false), (9, false), (0x137f, true), (0xffff, true)] {
            let bytes = status.to_le_bytes();
            let mut event = call(7, WAIT4, 9, &[9, 1, 0, 0]);
            event.attach(Attached { index: 1, flags: 0, bytes: &bytes });
            assert_eq!(is_left_after(&event), is_left, "{status:#x}");
        }
    }

    #[test]
    fn waitid_says_whose_end_it_was() {
        let info = |code: u32, pid: u32| {
            [[17, 0, code, 0, pid, 0, 0, 0]].concat().into_iter().flat_map(u32::to_le_bytes)
        };
        for (code, pid, options, is_left) in [
            (1, 9, 4, false),
            (2, 9, 4, false),
            (1, 9, 4 | WNOWAIT, true),
            (5, 9, 6, true),
            (1, 8, 4, true),
            (0, 0, 5, true),
        ] {
            let bytes: Vec<u8> = info(code, pid).collect();
            let mut event = call(7, WAITID, 0, &[0, 0, 1, options, 0]);
            event.attach(Attached { index: 2, flags: 0, bytes: &bytes });
            assert_eq!(is_left_after(&event), is_left, "{code} {pid} {options:#x}");
        }
        for (which, options, is_left) in [(1, 4, false), (1, 5, true), (0, 4, true)] {
            let event = call(7, WAITID, 0, &[which, 9, 0, options, 0]);
            assert_eq!(is_left_after(&event), is_left, "{which} {options}");
        }
        let mut short = call(7, WAITID, 0, &[1, 9, 1, 4, 0]);
        short.attach(Attached { index: 2, flags: 0, bytes: b"short" });
        assert!(is_left_after(&short));
    }

    #[test]
    fn what_the_kernel_lets_go_of_is_no_zombie() {
        let reap = |ts_ns: u64, pid: u32| {
            let mut event = Event::new(Kind::ProcessReap, ts_ns);
            (event.pid, event.tid) = (pid, pid);
            event
        };
        assert!(!is_left_after(&reap(300, 9)));
        for (start_ns, is_left) in [(0, false), (1, true), (9_000_000_000, false)] {
            let mut processes = family();
            processes.update(9, 0, |facts| facts.start_ns = 9_500_000_000);
            processes.apply(&end(10_000_000_000, 9, 9, &[0, 0, 1, 0]), Abi::X86_64);
            let mut event = reap(11_000_000_000, 9);
            event.push_number(start_ns);
            processes.apply(&event, Abi::X86_64);
            assert_eq!(processes.get(9).is_some(), is_left, "started at {start_ns}");
        }
        let mut processes = family();
        processes.apply(&reap(300, 9), Abi::X86_64);
        assert!(processes.get(9).is_some(), "the number is somebody else's by now");
        // Nobody asks: gone with its end. So it is in files that say nothing of it.
        for numbers in [&[0, 0, 1, 1][..], &[0, 0, 1], &[0, 0]] {
            let mut processes = family();
            processes.apply(&end(100, 9, 9, numbers), Abi::X86_64);
            assert!(processes.get(9).is_none(), "{numbers:?}");
        }
    }

    /// Its threads end after it, in any order.
    #[test]
    fn a_process_is_a_zombie_behind_its_last_thread() {
        let mut processes = family();
        processes.insert(10, ThreadFacts { pid: 9, ppid: 7, ..ThreadFacts::default() });
        processes.apply(&end(100, 9, 9, &[0, 0, 0, 0]), Abi::X86_64);
        assert!(processes.get(9).is_some_and(|facts| facts.has_ended) && !processes.is_zombie(9));
        processes.apply(&call(7, WAIT4, 9, &[9, 0, 0, 0]), Abi::X86_64);
        assert!(processes.get(9).is_some(), "a thread goes on");
        processes.apply(&end(300, 9, 10, &[0, 0, 1, 0]), Abi::X86_64);
        assert!(processes.is_zombie(9));
        let mut again = Processes::default();
        processes.to_events().for_each(|event| again.apply(&event, Abi::X86_64));
        assert!(again.is_zombie(9), "at the left edge too");
        // Its parent ends and leaves it to the first process.
        processes.apply(&end(400, 7, 7, &[0, 0, 1, 1]), Abi::X86_64);
        assert_eq!(processes.get(9).map(|facts| facts.ppid), Some(1));
        let mut note = call(1, WAIT4, 9, &[9, 0, 0, 0]);
        note.ts_ns = 500;
        processes.apply(&note, Abi::X86_64);
        assert_eq!(processes.len(), 1, "{processes:?}");
        assert_eq!(processes.files.bytes() + processes.directories.bytes(), 0);
    }

    /// Without the kernel's types a thread is a process until its end says whose it was.
    #[test]
    fn a_thread_that_was_taken_for_a_process_is_no_zombie() {
        let mut processes = family();
        processes.insert(10, ThreadFacts { pid: 10, ppid: 9, ..ThreadFacts::default() });
        processes.apply(&end(100, 9, 10, &[0, 0, 0, 0]), Abi::X86_64);
        assert!(processes.get(10).is_none());
    }
}
