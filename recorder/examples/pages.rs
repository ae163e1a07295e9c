//! Writes the manual pages and the completions of the command line into a directory.
//!
//! `cargo xtask dist` runs it. An example and not a command of the program: what is
//! needed once when a package is made is not shipped to every host.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// What stands below every page, in the language of the manual (man(7)).
const SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Done, also when nothing matched or the pipe was closed.
.TP
.BR 1 ", " 2
It failed; the arguments or the configuration are wrong.
.TP
.B 65
A damaged file, or no snapshot.
.TP
.B 69
No recorder answers on the socket.
.TP
.B 73
The file or the directory cannot be written.
.TP
.B 75
Not now: not recording yet, too many at once, or another recorder has the socket.
.TP
.B 77
Privileges are missing.
.PP
.B recorder check
ends with 0 to 3 as plugins of Nagios do.
.SH ENVIRONMENT
.TP
.B RECORDER_SOCKET
The control socket, where the command line names none.
.TP
.B RECORDER_CONFIG
The configuration file of
.BR "recorder record" .
.TP
.B RECORDER_LOG
What it writes to its log:
.BR error ", " warn ", " info ", " debug .
.SH FILES
.TP
.I /etc/recorder/recorder.toml
The configuration.
.TP
.I /run/recorder/control.sock
The control socket.
.TP
.I /var/lib/recorder/snapshots
The snapshots.
"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, date] = &arguments[..] else {
        eprintln!("pages: name the directory to write into and the date of the pages");
        return ExitCode::from(2);
    };
    let directory = PathBuf::from(directory);
    match pages(&directory, date) {
        Ok(count) => {
            println!("{count} pages and completions in {}", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pages: cannot write into {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn pages(directory: &Path, date: &str) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    let mut command = recorder::cli::Arguments::command().disable_help_subcommand(true);
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    for shell in shells {
        generate_to(shell, &mut command, "recorder", directory)?;
    }
    // Gives every subcommand its whole name.
    command.build();
    Ok(shells.len() + write_page(&command, directory, date)?)
}

/// The page of a command, and those of the commands below it.
fn write_page(command: &Command, directory: &Path, date: &str) -> io::Result<usize> {
    let name = page_name(command);
    let page = Man::new(command.clone())
        .manual("Flight recorder")
        .date(date)
        .source(format!("recorder {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        page.render_options_section(&mut text)?;
    }
    let below: Vec<&Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    if !below.is_empty() {
        page.render_subcommands_section(&mut text)?;
    }
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    // Line ends around an empty line are one too many for mandoc.
    let text = text.replace("\n.br\n\n.br\n", "\n.sp\n");
    let text = text + SECTIONS + &see_also(name, &below);
    fs::write(directory.join(format!("{name}.1")), text)?;
    let mut count = 1;
    for command in below {
        count += write_page(command, directory, date)?;
    }
    Ok(count)
}

/// What `build` has made of the names of the command and of those above it.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn see_also(name: &str, below: &[&Command]) -> String {
    let mut pages: Vec<String> =
        below.iter().map(|command| format!("{}(1)", page_name(command))).collect();
    pages.extend(name.rsplit_once('-').map(|(above, _)| format!("{above}(1)")));
    pages.push("recorder.toml(5)".to_string());
    pages.sort();
    let lines: Vec<String> = pages
        .iter()
        .map(|page| format!(".BR {}", page.replace('-', r"\-").replacen('(', " (", 1)))
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n", lines.join(" ,\n"))
}
