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
    rollup::{Counted, Latencies, Row, rows},
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
    fn has(self, span_ns: u64) -> bool {
        let span_s = span_ns / 1_000_000_000;
        match self {
            Per::Second => span_s < 10,
            Per::TenSeconds => (10..60).contains(&span_s),
            Per::Minute => span_s >= 60,
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
        arguments.per.has(row.span_ns)
            && row.start_ns.saturating_add(row.span_ns) >= since_ns
            && row.start_ns <= until_ns
            && arguments.pid.is_none_or(|pid| row.pid == pid)
            && arguments.comm.as_ref().is_none_or(|comm| row.comm == comm.as_bytes())
            && arguments.call.as_ref().is_none_or(|call| row.counted.name(native) == *call)
    };
    let (mut wanted, mut damage) = (Vec::new(), Vec::new());
    rows(&reader, &mut damage, &mut |row| {
        if is_wanted(&row) {
            wanted.push(row);
        }
    });
    wanted.sort_by_key(|row| (row.start_ns, Reverse(row.count), row.pid, row.counted));
    to_stdout(|out| match arguments.format {
        RowFormat::Text => table(header, native, &wanted, arguments, out),
        RowFormat::Jsonl => {
            let stretches = wanted.chunk_by(|a, b| a.start_ns == b.start_ns);
            stretches.flat_map(|rows| top(rows, arguments.top)).try_for_each(|row| {
                serde_json::to_writer(&mut *out, &object(header, native, row))?;
                out.write_all(b"\n")
            })
        }
    })?;
    let complaints = reader.complaints().iter().cloned();
    let damage: Vec<String> = complaints.chain(damage.iter().map(ToString::to_string)).collect();
    damaged(&reader, &damage)
}

fn top(rows: &[Row], most: usize) -> &[Row] {
    rows.get(..if most == 0 { rows.len() } else { most }).unwrap_or(rows)
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

fn table(
    header: &Header,
    native: Abi,
    rows: &[Row],
    arguments: &Arguments,
    out: &mut Out,
) -> io::Result<()> {
    let moment = |ns| rfc3339(header.clock.wall_ns(ns));
    let host = printable(&header.host);
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return writeln!(
            out,
            "# {host}: no such counts, or no whole stretch of time yet: try --per 1s"
        );
    };
    writeln!(
        out,
        "# {host}, {} to {}, UTC",
        moment(first.start_ns),
        moment(last.start_ns.saturating_add(last.span_ns))
    )?;
    writeln!(out, "# half, 99 %: so many took less than that")?;
    writeln!(
        out,
        "{:<8} {:<18} {:<14} {:>9} {:>6} {:>6} {:>6} {:>6}",
        "time", "process", "call", "count", "errors", "half", "99 %", "bytes"
    )?;
    for rows in rows.chunk_by(|a, b| a.start_ns == b.start_ns) {
        let shown = top(rows, arguments.top);
        for row in shown {
            line(header, native, row, out)?;
        }
        let left = rows.get(shown.len()..).unwrap_or_default();
        if !left.is_empty() {
            let count: u64 = left.iter().map(|row| row.count).fold(0, u64::saturating_add);
            writeln!(
                out,
                "{:<8} and {} more with {}",
                "",
                grouped(left.len() as u64),
                grouped(count)
            )?;
        }
    }
    Ok(())
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
    writeln!(
        out,
        "{:<8} {:<18} {:<14} {:>9} {:>6} {:>6} {:>6} {:>6}",
        time.get(11..19).unwrap_or(&time),
        process,
        row.counted.name(native),
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
