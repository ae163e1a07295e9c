//! Events for people and for programs: text like strace's, and JSON, one object
//! per line. Both say the same, from the same schema.
//!
//! Invariant: nothing an event holds can change the meaning of the output: control
//! characters are escaped in text, bytes that are not UTF-8 have a twin in JSON.

mod fields;
mod jsonl;
mod place;
mod structure;
mod text;
mod value;

use std::io::{self, Write};

pub use fields::Fields;
pub use jsonl::JsonLines;
pub(crate) use jsonl::{put_attribution, put_bytes, put_list};
pub(crate) use place::file_name;
pub use text::Text;
pub(crate) use text::push_escaped;

use crate::{context::Processes, event::Event};

/// Writes events one by one.
pub trait Exporter {
    /// Writes one event; `processes` is the host's state at its moment.
    fn event(
        &mut self,
        event: &Event<'_>,
        processes: &Processes,
        out: &mut dyn Write,
    ) -> io::Result<()>;
}

/// A moment as RFC 3339 in UTC with nanoseconds.
pub fn rfc3339(wall_ns: i64) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap_or_default();
    format!("{stamp:.9}")
}
