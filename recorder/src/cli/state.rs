//! `recorder state`.

use std::io::{self, Write as _};

use super::{
    Exit, Failure, FileArgument, RowFormat,
    output::{Out, printable, progress, to_stdout},
    replay::damaged,
};
use crate::{
    event::Class,
    export::rfc3339,
    filter::parse_moment,
    snapshot::{Header, SnapshotReader},
    state::{HostState, What},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
    /// What to print
    #[arg(value_enum, default_value_t)]
    what: What,
    /// The moment: t-30s (before the trigger), -1m (before the end), 20%, 14:03:07
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "now")]
    at: String,
    /// A table, or one JSON object per line
    #[arg(long, value_enum, default_value_t)]
    format: RowFormat,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reader = SnapshotReader::open(&arguments.input.file)?;
    let header = reader.header();
    let at_ns =
        parse_moment(&arguments.at, header).map_err(|error| Failure::new(Exit::Usage, error))?;
    within_window(header, at_ns)?;
    let bar = progress(reader.bytes(), false);
    let (host, replayed) = HostState::at(&reader, at_ns, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    to_stdout(|out| match arguments.format {
        RowFormat::Text => {
            first_line(header, &host, out)?;
            host.write_text(arguments.what, header.clock, out)
        }
        RowFormat::Jsonl => host.write_json(arguments.what, header.clock, out),
    })?;
    let damage: Vec<String> = reader.complaints().iter().cloned().chain(replayed.damage).collect();
    damaged(&reader, &damage)
}

/// Nothing is known of moments outside of the window, and guessing would be a lie.
fn within_window(header: &Header, at_ns: u64) -> Result<(), Failure> {
    let state = header.window.start_ns_by_class.get(Class::State.name()).copied();
    let earliest_ns = state.unwrap_or(header.window.start_ns);
    if (earliest_ns..=header.window.end_ns).contains(&at_ns) {
        return Ok(());
    }
    let moment = |ns| rfc3339(header.clock.wall_ns(ns));
    Err(Failure::new(
        Exit::Usage,
        format!(
            "{} is outside of what the snapshot knows: {} to {}",
            moment(at_ns),
            moment(earliest_ns),
            moment(header.window.end_ns)
        ),
    ))
}

fn first_line(header: &Header, host: &HostState, out: &mut Out) -> io::Result<()> {
    let moment = |ns| rfc3339(header.clock.wall_ns(ns));
    writeln!(
        out,
        "# {} Linux {} at {}, times in UTC",
        printable(&header.host),
        printable(&header.kernel),
        moment(host.at_ns),
    )?;
    let uncertain_ns = host.processes.uncertain_ns();
    if uncertain_ns != 0 {
        writeln!(
            out,
            "# events were lost until {}: what is marked ? may have changed unseen",
            moment(uncertain_ns)
        )?;
    }
    if header.context_cut != 0 {
        writeln!(out, "# {} threads or tables were left out for want of room", header.context_cut)?;
    }
    Ok(())
}
