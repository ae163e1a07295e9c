//! The host as it was at a moment: its processes, what they had open, its sockets. A
//! snapshot is a checkpoint and a log, so any moment of its window can be had.
//!
//! Invariant: what a loss has made doubtful says so, row by row.

mod files;
mod processes;
mod sockets;

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use serde::{Serializer as _, ser::SerializeMap as _};

use crate::{
    clock::ClockAnchor,
    context::{Processes, ThreadFacts},
    export::push_escaped,
    replay::{Replayed, replay_into},
    snapshot::{BlockEntry, SnapshotReader},
};

/// The host at a moment.
pub struct HostState {
    /// Every process.
    pub processes: Processes,
    /// The moment, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Processes, like ps
    #[default]
    Ps,
    /// Open files, like lsof
    Files,
    /// Sockets, like ss
    Sockets,
}

impl HostState {
    /// The state behind all events up to `at_ns`. Answers also which blocks could not be
    /// read.
    pub fn at(
        reader: &SnapshotReader,
        at_ns: u64,
        progress: &mut dyn FnMut(u64),
    ) -> (HostState, Replayed) {
        let mut processes = Processes::default();
        let carries_none = |_: &BlockEntry| true;
        let replayed =
            replay_into(&mut processes, reader, &carries_none, progress, &mut |event, _| {
                if event.ts_ns > at_ns { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        processes.settle();
        (HostState { processes, at_ns }, replayed)
    }

    /// Writes a table for people. `clock` gives wall time.
    pub fn write_text(
        &self,
        what: What,
        clock: ClockAnchor,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match what {
            What::Ps => self.write_processes(clock, out),
            What::Files => self.write_files(out),
            What::Sockets => self.write_sockets(out),
        }
    }

    /// Writes one JSON object for each row.
    pub fn write_json(
        &self,
        what: What,
        clock: ClockAnchor,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match what {
            What::Ps => self.write_processes_json(clock, out),
            What::Files => self.write_files_json(out),
            What::Sockets => self.write_sockets_json(out),
        }
    }

    /// Whether what was learnt at `as_of_ns` may have changed unseen.
    fn is_uncertain(&self, as_of_ns: u64) -> bool {
        as_of_ns < self.processes.uncertain_ns()
    }

    /// Every process by its leader, in the order of its id.
    fn leaders(&self) -> impl Iterator<Item = (u32, &ThreadFacts)> {
        self.processes.iter().filter(|(tid, facts)| *tid == facts.pid)
    }
}

/// A JSON object that is being written.
type Object<'a, 'w> =
    serde_json::ser::Compound<'a, &'w mut dyn Write, serde_json::ser::CompactFormatter>;

/// Writes a JSON object on a line of its own.
fn write_object(
    out: &mut dyn Write,
    fields: impl FnOnce(&mut Object<'_, '_>) -> Result<(), serde_json::Error>,
) -> io::Result<()> {
    {
        let writer: &mut dyn Write = out;
        let mut serializer = serde_json::Serializer::new(writer);
        let mut object = serializer.serialize_map(None)?;
        fields(&mut object)?;
        object.end()?;
    }
    out.write_all(b"\n")
}

/// Bytes of the host, harmless to a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_escaped(bytes, &mut text);
    text
}

/// Rows of words, every column as wide as its widest; the last one as it is.
fn write_table(head: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let width = |place: usize| {
        let words = rows.iter().filter_map(|row| row.get(place)).map(|word| word.chars().count());
        words.chain(head.get(place).map(|word| word.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |words: &[&str]| {
        let mut text = String::new();
        for (word, width) in words.iter().zip(&widths) {
            text.push_str(&format!("{word:<width$} ", width = *width.min(&WIDTH_MAX)));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(head)?;
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// No column pushes the others further: a word that is longer stands out.
const WIDTH_MAX: usize = 40;
