//! What a block may have, in few bits: so that a filter need not open it.

use crate::event::wire::{call_index, flag};

/// Which processes, threads and calls a block may have. Each sets a bit, which it may share
/// with others: where a bit is not set there is none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// By [`Present::thread_bit`] of processes and threads.
    pub threads: u64,
    /// By [`Present::call_bit`].
    pub calls: u128,
}

impl Present {
    /// Nobody knows: anything may be there.
    pub const UNKNOWN: Present = Present { threads: u64::MAX, calls: u128::MAX };

    /// The bit of a process or thread. Neighbours have different ones.
    pub fn thread_bit(id: u32) -> u64 {
        1 << (id.wrapping_mul(0x9e37_79b1) >> 26)
    }

    /// The bit of a call, by [`call_index`].
    pub fn call_bit(index: u32) -> u128 {
        1 << (index % u128::BITS)
    }

    pub(super) fn note_thread(&mut self, pid: u32, tid: u32) {
        self.threads |= Present::thread_bit(pid) | Present::thread_bit(tid);
    }

    pub(super) fn note_call(&mut self, nr: u64, flags: u16) {
        let index = call_index(nr.cast_signed(), flags & flag::COMPAT != 0);
        self.calls |= Present::call_bit(index);
    }
}
