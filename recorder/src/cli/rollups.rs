//! `recorder rollups`.

use std::{
    cmp::Reverse,
    io::{self, Write as _},
};

use clap::ValueEnum;
use serde_json::json;

use super::{
    Exit, Failure, FileArgument, RowFormat,
    output::{Out, grouped, printable, to_stdout},
    replay::damaged,
};
use crate::{
    event::syscall::Abi,
    export::rfc3339,
    filter::parse_moment,
    rollup::{Counted, Latencies, Row, blocks_of_rows},
    snapshot::{Header, SnapshotReader},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
    /// Per minute of all, per ten seconds of the busy, per second of the busiest
    #[arg(long, value_enum, default_value_t)]
    per: Per,
    /// Only of this process
    #[arg(long)]
    pid: Option<u32>,
    /// Only of processes of this name
    #[arg(long)]
    comm: Option<String>,
    /// Only of this call
    #[arg(long)]
    call: Option<String>,
    /// Only from then on: t-30s (before the trigger), -10m (before the end), 14:03:07
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only until then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// How many of each stretch of time, the busiest first; 0 is all
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// A table, or one JSON object per line
    #[arg(long, value_enum, default_value_t)]
    format: RowFormat,
}

/// Rows of one stretch that wait for its end; with more of them it is printed in parts.
const KEPT_MAX: usize = 262_144;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Per {
    /// Minutes
    #[default]
    #[value(name = "1m")]
    Minute,
    /// Ten seconds
    #[value(name = "10s")]
    TenSeconds,
    /// Seconds
    #[value(name = "1s")]
    Second,
}

impl Per {
    /// A stretch ends when somebody looks, so it may be longer, but not as long as the next.
    fn has(self, row: &Row) -> bool {
        let span_s = row.span_ns / 1_000_000_000;
        match self {
            Per::Second => span_s < 10 && !row.is_open,
            Per::TenSeconds => (10..60).contains(&span_s) && !row.is_open,
            Per::Minute => span_s >= 60 || row.is_open,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reader = SnapshotReader::open(&arguments.input.file)?;
    let header = reader.header();
    let native = Abi::native(&header.arch).unwrap_or(Abi::X86_64);
    let moment = |word: &Option<String>, otherwise| match word {
        Some(word) => parse_moment(word, header).map_err(|error| Failure::new(Exit::Usage, error)),
        None => Ok(otherwise),
    };
    let (since_ns, until_ns) = (moment(&arguments.since, 0)?, moment(&arguments.until, u64::MAX)?);
    let is_wanted = |row: &Row| {
        arguments.per.has(row)
            && row.start_ns.saturating_add(row.span_ns) >= since_ns
            && row.start_ns <= until_ns
            && arguments.pid.is_none_or(|pid| row.pid == pid)
            && arguments.comm.as_ref().is_none_or(|comm| row.comm == comm.as_bytes())
            && arguments.call.as_ref().is_none_or(|call| row.counted.name(native) == *call)
    };
    let mut damage = Vec::new();
    to_stdout(|out| {
        let mut printer = Printer { header, native, arguments, is_begun: false };
        // Of a stretch that may go on in the next block.
        let mut kept: Vec<Row> = Vec::new();
        for rows in blocks_of_rows(&reader, is_wanted) {
            match rows {
                Ok(rows) => kept.extend(rows),
                Err(error) => damage.push(error),
            }
            let last_ns = kept.iter().map(|row| row.start_ns).max().unwrap_or_default();
            let is_over = |row: &Row| row.start_ns < last_ns;
            let (over, rest) = match kept.len() {
                ..KEPT_MAX => kept.into_iter().partition(is_over),
                _ => (kept, Vec::new()),
            };
            kept = rest;
            printer.rows(over, out)?;
        }
        printer.rows(kept, out)?;
        printer.end(out)
    })?;
    let complaints = reader.complaints().iter().cloned();
    let damage: Vec<String> = complaints.chain(damage.iter().map(ToString::to_string)).collect();
    damaged(&reader, &damage)
}

fn object(header: &Header, native: Abi, row: &Row) -> serde_json::Value {
    let latencies = Latencies::from_bytes(&row.latencies);
    let mut object = json!({
        "ts": rfc3339(header.clock.wall_ns(row.start_ns)),
        "ts_ns": row.start_ns.to_string(),
        "span_ns": row.span_ns,
        "count": row.count,
        "errors": row.errors,
        "bytes": row.bytes,
    });
    if row.is_open {
        object["unfinished"] = json!(true);
    }
    let mut say = |name: &str, value: serde_json::Value| object[name] = value;
    match row.counted {
        Counted::Call(_) => {
            say("call", json!(row.counted.name(native)));
            match row.ended {
                0 => say("pid", json!(row.pid)),
                ended => say("ended_processes", json!(ended)),
            }
            say("comm", json!(String::from_utf8_lossy(&row.comm)));
        }
        Counted::Kind(_) => say("kind", json!(row.counted.name(native).replace("all of ", ""))),
        Counted::Others => say("others", json!(true)),
    }
    for (name, per_mille) in [("dur_ns_p50", 500), ("dur_ns_p99", 990), ("dur_ns_max", 1000)] {
        if let Some(below_ns) = latencies.below_ns(per_mille) {
            say(name, json!(below_ns));
        }
    }
    object
}

/// Prints rows as they come, those of one stretch together.
struct Printer<'a> {
    header: &'a Header,
    native: Abi,
    arguments: &'a Arguments,
    is_begun: bool,
}

impl Printer<'_> {
    fn rows(&mut self, mut rows: Vec<Row>, out: &mut Out) -> io::Result<()> {
        rows.sort_by_key(|row| (row.start_ns, Reverse(row.count), row.pid, row.counted));
        if let Some(first) = rows.first().filter(|_| !self.is_begun) {
            self.is_begun = true;
            self.heading(first, out)?;
        }
        let stretches = rows.chunk_by(|a, b| a.start_ns == b.start_ns);
        stretches.into_iter().try_for_each(|rows| self.stretch(rows, out))
    }

    fn heading(&self, first: &Row, out: &mut Out) -> io::Result<()> {
        if !self.is_text() {
            return Ok(());
        }
        let host = printable(&self.header.host);
        let since = rfc3339(self.header.clock.wall_ns(first.start_ns));
        writeln!(out, "# {host}, from {since} on, UTC")?;
        writeln!(out, "# half, 99 %: so many took less than that")?;
        writeln!(
            out,
            "{:<8} {:<18} {:<14} {:>9} {:>6} {:>6} {:>6} {:>6}",
            "time", "process", "call", "count", "errors", "half", "99 %", "bytes"
        )
    }

    fn stretch(&self, rows: &[Row], out: &mut Out) -> io::Result<()> {
        if let Some(row) = rows.first().filter(|row| row.is_open && self.is_text()) {
            let so_far_s = row.span_ns / 1_000_000_000;
            writeln!(out, "# the minute that goes on, {so_far_s} s so far")?;
        }
        let most = if self.arguments.top == 0 { usize::MAX } else { self.arguments.top };
        let (shown, left) = rows.split_at(most.min(rows.len()));
        for row in shown {
            if self.is_text() {
                line(self.header, self.native, row, out)?;
            } else {
                serde_json::to_writer(&mut *out, &object(self.header, self.native, row))?;
                out.write_all(b"\n")?;
            }
        }
        if left.is_empty() || !self.is_text() {
            return Ok(());
        }
        let count: u64 = left.iter().map(|row| row.count).fold(0, u64::saturating_add);
        let (rows, count) = (grouped(left.len() as u64), grouped(count));
        writeln!(out, "{:<8} and {rows} more with {count}", "")
    }

    fn end(&self, out: &mut Out) -> io::Result<()> {
        if self.is_begun || !self.is_text() {
            return Ok(());
        }
        let host = printable(&self.header.host);
        let hint = match self.arguments.per {
            Per::Minute => "",
            Per::Second | Per::TenSeconds => ", or no whole stretch of time yet: try without --per",
        };
        writeln!(out, "# {host}: no such counts{hint}")
    }

    fn is_text(&self) -> bool {
        self.arguments.format == RowFormat::Text
    }
}

fn line(header: &Header, native: Abi, row: &Row, out: &mut Out) -> io::Result<()> {
    let time = rfc3339(header.clock.wall_ns(row.start_ns));
    let latencies = Latencies::from_bytes(&row.latencies);
    let below = |per_mille| latencies.below_ns(per_mille).map_or("-".to_string(), duration);
    let process = match row.counted {
        Counted::Call(_) => {
            let name = String::from_utf8_lossy(&row.comm);
            let name = if name.is_empty() { "?".to_string() } else { printable(&name) };
            match row.ended {
                0 => format!("{name}[{}]", row.pid),
                ended => format!("{name}, {} ended", grouped(ended)),
            }
        }
        Counted::Kind(_) | Counted::Others => "-".to_string(),
    };
    // A long name takes of the room of the other, so that lines stay within 80 columns.
    let what = format!("{process:<18} {}", row.counted.name(native));
    writeln!(
        out,
        "{:<8} {what:<33} {:>9} {:>6} {:>6} {:>6} {:>6}",
        time.get(11..19).unwrap_or(&time),
        grouped(row.count),
        grouped(row.errors),
        below(500),
        below(990),
        amount(row.bytes)
    )
}

/// `512ns`, `16us`, `2.1s`.
fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", ns / 1_000_000),
        _ => format!("{:.1}s", ns as f64 / 1e9),
    }
}

/// `999`, `12.3K`, `4.0G`: bytes in a narrow column.
fn amount(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1}{unit}", bytes as f64 / (1u64 << shift) as f64),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_narrow() {
        assert_eq!([0, 999, 12_595, u64::MAX].map(amount), ["0", "999", "12.3K", "16777216.0T"]);
        let durations = [512, 16_384, 16_777_216, 2 << 31].map(duration);
        assert_eq!(durations, ["512ns", "16us", "16ms", "4.3s"]);
    }
}
