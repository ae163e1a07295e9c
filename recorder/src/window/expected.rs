//! Which string an attachment refers to next: both who writes a block and who reads it
//! know the same, so that what was expected costs next to nothing.

use hashbrown::HashMap;

use crate::event::{Kind, wire::SYSCALL_ARGS_MAX};

/// Calls with their arguments that are remembered for what they pointed to.
const SAME_CALLS_MAX: usize = 8192;

/// A kind and the place of an attachment, and the numbers of the event without what it
/// returned and how long it took.
pub(super) type SameCall = [u64; 2 + SYSCALL_ARGS_MAX];

/// Which string comes next. Threads do the same again, and so do their children: behind a
/// string stands what stood there last. And the same call with the same arguments points
/// to the same.
#[derive(Default)]
pub(super) struct Expected {
    /// By string, the one that followed it last; 0 is the beginning of a thread, and no
    /// string.
    followers: Vec<u32>,
    /// By thread, the last string.
    last: Vec<u32>,
    /// By call, the last string at this place.
    same: HashMap<SameCall, u32>,
}

impl Expected {
    /// What should come next, by what came before in the thread and by the call; 0 when
    /// nothing is known.
    pub(super) fn next(&self, thread: u32, call: &SameCall) -> (u32, u32) {
        let last = self.last.get(thread as usize).copied().unwrap_or_default();
        let follower = self.followers.get(last as usize).copied().unwrap_or_default();
        (follower, self.same.get(call).copied().unwrap_or_default())
    }

    /// Notes what did.
    pub(super) fn note(&mut self, thread: u32, call: SameCall, string: u32) {
        let (thread, most) = (thread as usize, string.max(1) as usize);
        if self.last.len() <= thread {
            self.last.resize(thread + 1, 0);
        }
        if self.followers.len() <= most {
            self.followers.resize(most + 1, 0);
        }
        if let Some(last) = self.last.get_mut(thread) {
            if let Some(follower) = self.followers.get_mut(*last as usize) {
                *follower = string;
            }
            *last = string;
        }
        let has_room = self.same.len() < SAME_CALLS_MAX;
        match self.same.get_mut(&call) {
            Some(same) => *same = string,
            None if has_room => drop(self.same.insert(call, string)),
            None => {}
        }
    }

    pub(super) fn clear(&mut self) {
        self.followers.clear();
        self.last.clear();
        self.same.clear();
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        const SAME: usize = size_of::<(SameCall, u32)>();
        (self.followers.len() + self.last.len()) * size_of::<u32>() + self.same.len() * SAME
    }
}

/// What tells calls apart: everything but result and duration.
pub(super) fn same_call(kind: Kind, index: u8, numbers: &[u64]) -> SameCall {
    let mut call = [0; 2 + SYSCALL_ARGS_MAX];
    let told = numbers.iter().enumerate().filter(|(place, _)| !matches!(place, 1 | 2));
    let values = std::iter::once(u64::from(kind as u8) << 8 | u64::from(index));
    for (to, from) in call.iter_mut().zip(values.chain(told.map(|(_, number)| *number))) {
        *to = from;
    }
    call
}
