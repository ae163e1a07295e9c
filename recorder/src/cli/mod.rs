//! The command line. Arguments are checked first and nothing is done; then one
//! command runs, and its failure is one line and an exit code.

#[cfg(feature = "capture")]
mod check;
#[cfg(feature = "capture")]
mod dump;
mod fields;
mod info;
mod output;
#[cfg(feature = "capture")]
mod record;
mod recover;
mod replay;
mod rollups;
mod scrub;
mod state;
#[cfg(feature = "capture")]
mod status;
#[cfg(feature = "capture")]
mod trigger;
mod verify;

use std::{fmt, io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

pub use info::{write_info, write_info_json};

use crate::snapshot::SnapshotError;

/// A kernel-event flight recorder: keeps the last minutes of every system call,
/// process and connection, and puts them into a file when asked.
#[derive(Debug, Parser)]
#[command(name = "recorder", version, max_term_width = 80)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RowFormat {
    /// A table
    #[default]
    Text,
    /// One JSON object per line
    Jsonl,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record, in the foreground, until SIGTERM
    #[cfg(feature = "capture")]
    Record(record::Arguments),
    /// Take a snapshot and print its path when it is durable
    #[cfg(feature = "capture")]
    Dump(dump::Arguments),
    /// Say how the recording is doing
    #[cfg(feature = "capture")]
    Status(status::Arguments),
    /// Hand in a trigger, as an alerting system would
    #[cfg(feature = "capture")]
    Trigger(trigger::Arguments),
    /// Check the recording as a plugin of Nagios or Icinga
    #[cfg(feature = "capture")]
    Check(check::Arguments),
    /// Print the events of a snapshot in order, like strace
    Replay(replay::Arguments),
    /// Print the processes, files or sockets of a moment, like ps and ss
    State(state::Arguments),
    /// Print how often who did what, over the last hour
    Rollups(rollups::Arguments),
    /// Say what a snapshot is, what it covers and what it lost
    Info(info::Arguments),
    /// Check every checksum of a snapshot
    Verify(verify::Arguments),
    /// Save what is whole of a cut or damaged snapshot
    Recover(recover::Arguments),
    /// Write a snapshot again without what looks like a secret
    Scrub(scrub::Arguments),
    /// List every kind of event, call, structure and flag there is
    Fields(fields::Arguments),
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What a command ends with: sysexits(3) where it has a word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something failed.
    Failed = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// The file is damaged or no snapshot.
    BadData = 65,
    /// No daemon answers.
    NoDaemon = 69,
    /// A file cannot be made.
    CannotCreate = 73,
    /// Not now.
    TryLater = 75,
    /// Privileges are missing.
    NotPermitted = 77,
}

/// One line that says what failed, and the exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure in these words.
    fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(feature = "capture")]
impl Failure {
    /// Whether it failed because nobody answers.
    fn is_no_daemon(&self) -> bool {
        self.exit == Exit::NoDaemon
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Failure {
        let exit = match &error {
            SnapshotError::Io(_, cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                Exit::NotPermitted
            }
            SnapshotError::Io(..) => Exit::Failed,
            SnapshotError::NotASnapshot(..)
            | SnapshotError::Version(..)
            | SnapshotError::Block { .. } => Exit::BadData,
        };
        Failure::new(exit, error)
    }
}

/// The snapshot a command reads.
#[derive(Debug, clap::Args)]
struct FileArgument {
    /// The snapshot
    file: PathBuf,
}

/// The exit code of wrong arguments. A plugin of Nagios that is configured wrongly
/// knows nothing: 2 would say that the recorder is in trouble.
fn usage_code() -> u8 {
    let is_check = std::env::args_os().nth(1).is_some_and(|word| word == "check");
    if is_check && cfg!(feature = "capture") { 3 } else { Exit::Usage as u8 }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { usage_code() } else { 0 };
            // Whoever closed the pipe does not want the help any more.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command {
        #[cfg(feature = "capture")]
        Command::Record(arguments) => record::run(arguments),
        #[cfg(feature = "capture")]
        Command::Dump(arguments) => dump::run(&arguments),
        #[cfg(feature = "capture")]
        Command::Status(arguments) => status::run(&arguments),
        #[cfg(feature = "capture")]
        Command::Trigger(arguments) => trigger::run(&arguments),
        #[cfg(feature = "capture")]
        Command::Check(arguments) => return check::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::State(arguments) => state::run(&arguments),
        Command::Rollups(arguments) => rollups::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Scrub(arguments) => scrub::run(&arguments),
        Command::Fields(arguments) => fields::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("recorder: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}
