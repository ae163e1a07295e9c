//! `recorder replay`.

use std::{io, ops::ControlFlow};

use clap::ValueEnum;

use super::{
    Exit, Failure, FileArgument,
    output::{Out, printable, progress, to_stdout},
};
use crate::{
    event::syscall::Abi,
    export::{Exporter, JsonLines, Text, rfc3339},
    filter::{Filter, FilterWords},
    replay::{Replayed, replay},
    snapshot::{Header, SnapshotReader},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
    /// Text like strace's, or one JSON object per line
    #[arg(long, value_enum, default_value_t)]
    format: EventFormat,
    /// Only these: trace=NAMES or %file, %net, %process, %desc, %signal, %memory
    #[arg(short, value_name = "trace=NAMES")]
    expression: Vec<String>,
    /// Only these processes or threads
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only threads of these names
    #[arg(long, value_delimiter = ',')]
    comm: Vec<String>,
    /// Only calls with this path, or a path below it when it ends in a slash
    #[arg(long)]
    path: Vec<String>,
    /// Only processes in these containers: a name, or the beginning of an id
    #[arg(long, value_name = "ID|NAME", value_delimiter = ',')]
    container: Vec<String>,
    /// Only processes of these units, such as nginx.service
    #[arg(long, value_delimiter = ',')]
    unit: Vec<String>,
    /// Only processes of these pods: the beginning of a uid
    #[arg(long, value_name = "UID", value_delimiter = ',')]
    pod: Vec<String>,
    /// Only calls that failed
    #[arg(long)]
    failed: bool,
    /// Only calls that lasted at least so long, such as 10ms
    #[arg(long, value_name = "MIN")]
    duration: Option<String>,
    /// Nothing before: t-30s (before the trigger), -1m (before the end), 14:03:07
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Nothing after
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Print behind every thread in which container or unit it is
    #[arg(long)]
    containers: bool,
    /// Print when calls returned, or when they were entered
    #[arg(long, value_enum, default_value_t)]
    time: Moment,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EventFormat {
    /// Like strace
    #[default]
    Text,
    /// One JSON object per line
    Jsonl,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Moment {
    /// When the call returned, which is the order of the lines
    #[default]
    Return,
    /// When the call was entered
    Entry,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reader = SnapshotReader::open(&arguments.input.file)?;
    let header = reader.header();
    let native = Abi::native(&header.arch).ok_or_else(|| {
        let arch = printable(&header.arch);
        Failure::new(
            Exit::BadData,
            format!("calls of a {arch} host are not known: use a newer recorder"),
        )
    })?;
    let filter = Filter::new(&words(arguments), header, native)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut replayed = Replayed::default();
    to_stdout(|out| {
        let mut exporter: Box<dyn Exporter> = match arguments.format {
            EventFormat::Text => {
                first_line(header, out)?;
                let text = Text::new(header.clock, native, arguments.time == Moment::Entry);
                Box::new(text.with_containers(arguments.containers))
            }
            EventFormat::Jsonl => Box::new(JsonLines::new(header.clock, native)),
        };
        let (done, result) = write_events(&reader, &filter, exporter.as_mut(), out);
        replayed = done;
        result
    })?;
    let damage: Vec<String> = reader.complaints().iter().cloned().chain(replayed.damage).collect();
    damaged(&reader, &damage)
}

fn words(arguments: &Arguments) -> FilterWords {
    FilterWords {
        expressions: arguments.expression.clone(),
        pids: arguments.pid.clone(),
        comms: arguments.comm.clone(),
        paths: arguments.path.clone(),
        containers: arguments.container.clone(),
        units: arguments.unit.clone(),
        pods: arguments.pod.clone(),
        failed: arguments.failed,
        duration: arguments.duration.clone(),
        since: arguments.since.clone(),
        until: arguments.until.clone(),
    }
}

/// The day and the host: the lines below only have the time of day.
fn first_line(header: &Header, out: &mut Out) -> io::Result<()> {
    use io::Write as _;
    let moment = |ns| rfc3339(header.clock.wall_ns(ns));
    writeln!(
        out,
        "# {} Linux {}, {} to {}, times in UTC",
        printable(&header.host),
        printable(&header.kernel),
        moment(header.window.start_ns),
        moment(header.window.end_ns),
    )
}

fn write_events(
    reader: &SnapshotReader,
    filter: &Filter,
    exporter: &mut dyn Exporter,
    out: &mut Out,
) -> (Replayed, io::Result<()>) {
    let bar = progress(reader.bytes(), true);
    let mut result = Ok(());
    let replayed = replay(
        reader,
        &|entry| filter.rules_out(entry),
        &mut |bytes| bar.set_position(bytes),
        &mut |event, processes| {
            if filter.passes(event, processes) {
                result = exporter.event(event, processes, out);
            }
            if result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    bar.finish_and_clear();
    (replayed, result)
}

/// One line about damage, when there is some.
pub(super) fn damaged(reader: &SnapshotReader, damage: &[String]) -> Result<(), Failure> {
    let Some(first) = damage.first() else { return Ok(()) };
    let more = match damage.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more; `recorder verify` lists them)"),
    };
    let path = reader.path().display();
    Err(Failure::new(
        Exit::BadData,
        format!("{path} is damaged, what is whole was read: {first}{more}"),
    ))
}
