//! `recorder status`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use super::{
    Failure, Format,
    dump::{client_failure, with_client},
    info::{ledger_text, privacy_text},
    output::{Out, bytes, grouped, to_stdout},
};
use crate::{
    config::SOCKET,
    control::Status,
    privilege::Confined,
    spool::{PARTS, SpoolHealth},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The control socket
    #[arg(long, env = "RECORDER_SOCKET", hide_env = true, default_value = SOCKET)]
    socket: PathBuf,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let status = with_client(&arguments.socket, async |client| client.status().await)?
        .map_err(client_failure)?;
    to_stdout(|out| match arguments.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &status)?;
            out.write_all(b"\n")
        }
        Format::Text => text(&status, out),
    })
}

fn text(status: &Status, out: &mut Out) -> io::Result<()> {
    let health = &status.health;
    let verb = if health.recording { "recording" } else { "NOT RECORDING YET" };
    writeln!(out, "{verb}, {} as process {}", status.program, status.pid)?;
    let window = &health.window;
    writeln!(out, "window    {:.1} s of {} s asked for", window.span_s, window.asked_s)?;
    for class in &window.classes {
        writeln!(
            out,
            "  {:<10}{:>10.1} s{:>16} events{:>12}",
            class.class,
            class.span_s,
            grouped(class.events),
            bytes(class.bytes)
        )?;
    }
    writeln!(
        out,
        "rate      {} events/s, {:.2} bytes per event",
        grouped(health.events_per_s as u64),
        health.bytes_per_event
    )?;
    let memory = &health.memory;
    writeln!(out, "memory    {} of {}", bytes(memory.total), bytes(memory.limit))?;
    for (name, part) in memory.parts() {
        writeln!(out, "  {name:<10}{:>12}", bytes(part))?;
    }
    let rollups = &health.rollups;
    writeln!(
        out,
        "rollups   {:.1} min of 60, {} rows",
        rollups.span_s / 60.0,
        grouped(rollups.rows)
    )?;
    writeln!(out, "cpu       {:.2} % of one CPU, up {:.0} s", health.cpu_percent, status.uptime_s)?;
    writeln!(out, "segments  {}", health.segments)?;
    writeln!(out, "snapshots {}", status.snapshots)?;
    if let Some(spool) = &status.spool {
        spool_text(spool, out)?;
    }
    if let Some(address) = &status.listen {
        writeln!(out, "listen    {address}")?;
    }
    let triggers = &status.triggers;
    let planned = triggers.planned.as_ref().map(|name| format!(", next: {name}"));
    let planned = planned.unwrap_or_default();
    writeln!(out, "triggered {} snapshots in the last hour{planned}", triggers.in_last_hour)?;
    let rules = &health.rules;
    for (name, firings) in &rules.firings {
        writeln!(out, "rule      {name}: fired {} times", grouped(*firings))?;
    }
    let uncertain = [
        (rules.dropped, "firings dropped, too many at once"),
        (rules.unnamed, "events not judged, nobody knew the thread's name"),
        (rules.judged_early, "events judged before all that came before them was read"),
        (rules.names_left_out, "names of threads left out, too many"),
    ];
    for (count, what) in uncertain.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "RULES     {} {what}", grouped(*count))?;
    }
    if health.lost_in_window > 0 {
        writeln!(out, "LOST      {} events in the window", grouped(health.lost_in_window))?;
    }
    for missing in &status.missing {
        writeln!(out, "missing   {}: {}", missing.what, missing.why)?;
    }
    confinement(&status.confinement, out)?;
    privacy_text(&health.privacy, out)?;
    ledger_text(&health.ledger, out)
}

fn spool_text(spool: &SpoolHealth, out: &mut Out) -> io::Result<()> {
    writeln!(
        out,
        "spool     {}, {} in {} files, {}/s written",
        spool.directory,
        bytes(spool.bytes),
        PARTS,
        bytes(spool.bytes_per_s as u64)
    )?;
    if let Some(snapshot) = &spool.recovered {
        writeln!(out, "  saved   {snapshot}, of a recording that ended without a word")?;
    }
    if spool.missed_events > 0 {
        writeln!(out, "  MISSED  {} events were not spooled", grouped(spool.missed_events))?;
    }
    if let Some(error) = &spool.error {
        writeln!(out, "  FAILED  {error}")?;
    }
    Ok(())
}

fn confinement(confined: &Confined, out: &mut Out) -> io::Result<()> {
    let mut said = Vec::new();
    if confined.landlock_abi > 0 {
        said.push(format!("landlock {}", confined.landlock_abi));
    }
    if confined.seccomp {
        said.push("seccomp".to_string());
    }
    if confined.no_new_privs {
        said.push("no new privileges".to_string());
    }
    for (thread, capabilities) in &confined.capabilities {
        said.push(format!("thread {thread} keeps {}", capabilities.join(" ")));
    }
    writeln!(out, "confined  {}", said.join(", "))?;
    for missing in &confined.missing {
        writeln!(out, "  not     {}: {}", missing.what, missing.why)?;
    }
    Ok(())
}
