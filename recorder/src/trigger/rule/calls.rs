//! Which calls a rule is about.

use crate::event::{
    syscall::{self, Abi, Groups, Syscall},
    wire::{CALLS_COMPAT, call_index},
};

/// Calls that wait by nature: that they took long says nothing. A `read` waits for a
/// terminal, a pipe or a peer as often as for a disk, an `ioctl` for whatever a
/// driver does, and a multiplexer (`socketcall`, `ipc`) may be any of them.
const WAITING: &[&str] = &[
    "_newselect",
    "accept",
    "accept4",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "fcntl",
    "fcntl64",
    "flock",
    "futex",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_uring_enter",
    "ioctl",
    "ipc",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "msgrcv",
    "msgsnd",
    "nanosleep",
    "pause",
    "poll",
    "ppoll",
    "ppoll_time64",
    "pselect6",
    "pselect6_time64",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "restart_syscall",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "select",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "sigsuspend",
    "socketcall",
    "splice",
    "syslog",
    "tee",
    "vfork",
    "wait4",
    "waitid",
    "waitpid",
];

/// What becomes of calls that wait by nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// They count when they were named one by one.
    WhenNamed,
    /// They count like any other.
    LikeOthers,
}

/// Whether a word is a call or a group of calls.
pub(super) fn is_known(word: &str) -> bool {
    syscall::by_name(word).is_some() || Groups::parse(word).is_some()
}

/// The places (`wire::call_index`) of the calls and groups of these names, or of all
/// calls.
pub(super) fn places(words: Option<&[String]>, native: Abi, waiting: Waiting) -> Vec<usize> {
    let mut places = Vec::new();
    for (abi, compat) in [(Some(native), false), (native.compat(), true)] {
        let Some(abi) = abi else { continue };
        let numbers = 0..i64::from(CALLS_COMPAT);
        let wanted = numbers.filter(|nr| is_wanted(syscall::lookup(abi, *nr), words, waiting));
        places.extend(wanted.map(|nr| call_index(nr, compat) as usize));
    }
    places
}

fn is_wanted(row: Option<&Syscall>, words: Option<&[String]>, waiting: Waiting) -> bool {
    let waits = row.is_some_and(|row| WAITING.contains(&row.name));
    let left_out = waits && waiting == Waiting::WhenNamed;
    let Some(words) = words else { return !left_out };
    row.is_some_and(|row| {
        let mut groups = words.iter().filter_map(|word| Groups::parse(word));
        words.iter().any(|word| word == row.name)
            || !left_out && groups.any(|group| row.groups.intersects(group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_wait_are_calls_and_sorted() {
        assert!(WAITING.is_sorted());
        for name in WAITING {
            assert!(syscall::by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn calls_are_found_in_both_tables() {
        let of = |words: &[&str], waiting| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            places(Some(&words), Abi::X86_64, waiting)
        };
        let compat = CALLS_COMPAT as usize;
        assert_eq!(of(&["fsync"], Waiting::WhenNamed), [74, compat + 118]);
        assert_eq!(of(&["read"], Waiting::WhenNamed), [0, compat + 3], "named, so it counts");
        let net = of(&["%net"], Waiting::WhenNamed);
        assert!(net.contains(&42) && !net.contains(&45), "connect, but not recvfrom");
        assert!(of(&["%net"], Waiting::LikeOthers).contains(&45));
        let all = places(None, Abi::X86_64, Waiting::WhenNamed);
        assert!(!all.contains(&0) && all.contains(&1) && all.contains(&257), "read, write, openat");
        assert!(all.contains(&500), "a call no table has");
        assert!(all.contains(&(compat - 1)), "those with numbers beyond the table");
        assert_eq!(places(None, Abi::X86_64, Waiting::LikeOthers).len(), 2 * compat);
        assert_eq!(places(None, Abi::Aarch64, Waiting::LikeOthers).len(), compat);
    }

    #[test]
    fn a_word_is_a_call_or_a_group() {
        assert!(is_known("fsync") && is_known("%file"));
        assert!(!is_known("fsnyc") && !is_known("%files") && !is_known(""));
    }
}
