//! Looking for files that are not there.
//!
//! A linker, a shell or an interpreter asks for the same name in one folder after the other,
//! and most are not there: daily life that drives out what one looks for. The first time a
//! process does not find a path may be the reason for everything after.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashMap};

use crate::event::{Call, Class, Event};

/// `ENOENT`.
const NOT_THERE: i32 = 2;

/// For so long the same failure is no news.
const REPEATS_NS: u64 = 10_000_000_000;

/// Failures that are remembered; with more than these the oldest are news again.
const REMEMBERED_MAX: usize = 8_192;

/// Which process did not find what by which call, and when.
#[derive(Default)]
pub(super) struct Misses {
    seen: HashMap<u64, u64>,
    hasher: DefaultHashBuilder,
}

impl Misses {
    /// The class of an event of class `class`: of failures to find something only the first
    /// by the same process, call and path in ten seconds is precious.
    pub(super) fn class_of(&mut self, event: &Event<'_>, class: Class) -> Class {
        let is_miss = || Call::of(event).is_some_and(|call| call.errno() == Some(NOT_THERE));
        if class != Class::Precious || !is_miss() {
            return class;
        }
        // Of two that have one hash the second is kept as bulk: it is not lost.
        let mut hasher = self.hasher.build_hasher();
        (event.pid, event.number(0)).hash(&mut hasher);
        for attached in event.attached() {
            attached.bytes.hash(&mut hasher);
        }
        let what = hasher.finish();
        if let Some(since_ns) = self.seen.get(&what)
            && event.ts_ns.abs_diff(*since_ns) < REPEATS_NS
        {
            return Class::Bulk;
        }
        if self.seen.len() >= REMEMBERED_MAX {
            let now_ns = event.ts_ns;
            self.seen.retain(|_, since_ns| now_ns.abs_diff(*since_ns) < REPEATS_NS);
            if self.seen.len() >= REMEMBERED_MAX {
                self.seen.clear();
            }
        }
        self.seen.insert(what, event.ts_ns);
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Attached, Kind, syscall::Abi};

    fn class_of(misses: &mut Misses, ts_s: u64, pid: u32, errno: i64, path: &[u8]) -> Class {
        let mut event = Event::new(Kind::Syscall, ts_s * 1_000_000_000);
        (event.pid, event.tid) = (pid, pid);
        for number in [257, (-errno).cast_unsigned(), 100] {
            event.push_number(number);
        }
        event.attach(Attached { index: 1, flags: 0, bytes: path });
        let class = Class::of(&event, Abi::X86_64);
        misses.class_of(&event, class)
    }

    #[test]
    fn only_the_first_of_the_same_failure_in_ten_seconds_is_precious() {
        let mut misses = Misses::default();
        assert_eq!(class_of(&mut misses, 1, 7, 2, b"/a"), Class::Precious);
        assert_eq!(class_of(&mut misses, 2, 7, 2, b"/a"), Class::Bulk);
        assert_eq!(class_of(&mut misses, 10, 7, 2, b"/a"), Class::Bulk);
        assert_eq!(class_of(&mut misses, 11, 7, 2, b"/a"), Class::Precious, "ten seconds later");
        assert_eq!(class_of(&mut misses, 11, 7, 2, b"/b"), Class::Precious, "another path");
        assert_eq!(class_of(&mut misses, 11, 8, 2, b"/a"), Class::Precious, "another process");
        assert_eq!(class_of(&mut misses, 11, 7, 13, b"/a"), Class::Precious, "EACCES");
        assert_eq!(class_of(&mut misses, 11, 7, 13, b"/a"), Class::Precious, "each of them");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut misses = Misses::default();
        for pid in 0..20_000 {
            assert_eq!(class_of(&mut misses, 1, pid, 2, b"/a"), Class::Precious);
            assert!(misses.seen.len() <= REMEMBERED_MAX);
        }
    }
}
