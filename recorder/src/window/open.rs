//! Columns that events still go into.

use super::codec::{Columns, EVENTS_MAX, KnownAs};
use crate::event::Class;

/// Events between two sealings.
#[derive(Default)]
pub(super) struct Open {
    pub(super) columns: Columns,
    /// How many came before it.
    pub(super) number: u64,
    /// What the columns held when it was last asked.
    held_bytes: u64,
}

impl Open {
    /// The columns as they are, and what is counted of them; `next` takes their place.
    pub(super) fn replace(&mut self, next: Columns) -> (Columns, u64) {
        self.number += 1;
        (std::mem::replace(&mut self.columns, next), std::mem::take(&mut self.held_bytes))
    }

    /// What the columns hold more than when it was last asked.
    pub(super) fn grown_bytes(&mut self) -> u64 {
        let held_bytes = self.columns.held_bytes() as u64;
        held_bytes - std::mem::replace(&mut self.held_bytes, held_bytes)
    }
}

/// Calls that are known come so many times before somebody asks what the columns hold: each
/// is a few bytes.
pub(super) const ASK_EVERY: usize = 64;

const _: () = assert!(EVENTS_MAX.is_multiple_of(ASK_EVERY), "a full block is noticed");

/// Where the window has what it knows of an event, until it seals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) class: Class,
    /// The number of the open block.
    pub(super) number: u64,
    pub(super) known: KnownAs,
}
