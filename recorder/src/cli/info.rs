//! `recorder info`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    Failure, FileArgument, Format,
    output::{bytes, grouped, printable, to_stdout},
    replay::damaged,
};
use crate::{
    export::rfc3339,
    loss::{Ledger, Missing},
    privacy::{MaskState, MaskedCounts, PayloadFacts, PrivacyFacts},
    snapshot::{Header, SnapshotReader},
    trigger::{ALSO_MAX, Trigger},
};

/// Calls listed by what they lost.
const CALLS_SHOWN_MAX: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: FileArgument,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Info<'a> {
    format_version: u32,
    program: &'a str,
    host: &'a str,
    kernel: &'a str,
    arch: &'a str,
    boot_id: &'a str,
    cpus: u32,
    trigger: TriggerShown<'a>,
    window: Window,
    events: BTreeMap<String, u64>,
    bytes: u64,
    context_bytes: u64,
    bytes_per_event: f64,
    dump: Dump,
    missing: &'a [Missing],
    ledger: &'a Ledger,
    /// Secrets that were masked.
    masked: u64,
    privacy: &'a PrivacyFacts,
    complete: bool,
}

#[derive(Serialize)]
struct TriggerShown<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    reason: &'a str,
    at: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    starts_at: &'a str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    links: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<TriggerShown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    also_left_out: Option<u64>,
}

impl<'a> TriggerShown<'a> {
    fn of(trigger: &'a Trigger, moment: &impl Fn(u64) -> String) -> TriggerShown<'a> {
        let some = |count: u64| (count > 0).then_some(count);
        // Those that joined have none of their own: no file nests deeper.
        let also = trigger.also.iter().take(ALSO_MAX);
        let also = also.map(|also| TriggerShown { also: Vec::new(), ..Self::flat(also, moment) });
        TriggerShown {
            also: also.collect(),
            also_left_out: some(trigger.also_left_out),
            ..Self::flat(trigger, moment)
        }
    }

    fn flat(trigger: &'a Trigger, moment: &impl Fn(u64) -> String) -> TriggerShown<'a> {
        TriggerShown {
            source: &trigger.source,
            name: &trigger.name,
            reason: &trigger.reason,
            at: moment(trigger.at_ns),
            starts_at: &trigger.starts_at,
            labels: &trigger.labels,
            annotations: &trigger.annotations,
            links: &trigger.links,
            cut: (trigger.cut > 0).then_some(trigger.cut),
            also: Vec::new(),
            also_left_out: None,
        }
    }

    fn title(&self) -> String {
        let words = [self.source, self.name, self.reason].map(printable);
        // An alert without a summary has its name for a reason.
        let words = words.iter().filter(|word| !word.is_empty());
        let mut said: Vec<&str> = words.map(String::as_str).collect();
        said.dedup();
        said.join(": ")
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "trigger   {}", self.title())?;
        let words = [("label", self.labels), ("note", self.annotations), ("link", self.links)];
        for (kind, words) in words {
            for (name, value) in words {
                writeln!(out, "  {kind:<8}{}={}", printable(name), printable(value))?;
            }
        }
        if !self.starts_at.is_empty() {
            writeln!(out, "  since   {}", printable(self.starts_at))?;
        }
        for also in &self.also {
            writeln!(out, "  also    {} at {}", also.title(), also.at)?;
        }
        if let Some(count) = self.also_left_out {
            writeln!(out, "  also    {count} more that are not kept")?;
        }
        writeln!(out, "at        {}", self.at)
    }
}

#[derive(Serialize)]
struct Window {
    start: String,
    end: String,
    span_s: f64,
    asked_s: f64,
    span_s_by_class: BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Dump {
    freeze_us: u64,
    drain_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ms: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reader = SnapshotReader::open(&arguments.input.file)?;
    to_stdout(|out| match arguments.format {
        Format::Json => write_info_json(&reader, out),
        Format::Text => write_info(&reader, out),
    })?;
    damaged(&reader, reader.complaints())
}

/// Writes what is known of a file, for people.
pub fn write_info(reader: &SnapshotReader, out: &mut dyn Write) -> io::Result<()> {
    Info::of(reader).text(reader, out)
}

/// The same as one JSON object.
pub fn write_info_json(reader: &SnapshotReader, mut out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, &Info::of(reader))?;
    out.write_all(b"\n")
}

impl<'a> Info<'a> {
    fn of(reader: &'a SnapshotReader) -> Info<'a> {
        let header: &Header = reader.header();
        let moment = |ns| rfc3339(header.clock.wall_ns(ns));
        let window = &header.window;
        let span = |start: u64| window.end_ns.saturating_sub(start) as f64 / 1e9;
        let events = reader.events();
        let count: u64 = events.values().sum();
        let context_bytes = reader.trailer().map_or(0, |trailer| trailer.context_bytes);
        let bytes = reader.bytes();
        let own = bytes.saturating_sub(context_bytes) as f64;
        let by_class = &window.start_ns_by_class;
        Info {
            format_version: header.format_version,
            program: &header.program,
            host: &header.host,
            kernel: &header.kernel,
            arch: &header.arch,
            boot_id: &header.boot_id,
            cpus: header.cpus,
            trigger: TriggerShown::of(&header.trigger, &moment),
            window: Window {
                start: moment(window.start_ns),
                end: moment(window.end_ns),
                span_s: span(window.start_ns),
                asked_s: window.asked_ns as f64 / 1e9,
                span_s_by_class: by_class.iter().map(|(c, at)| (c.clone(), span(*at))).collect(),
            },
            events,
            bytes,
            context_bytes,
            bytes_per_event: if count == 0 { 0.0 } else { own / count as f64 },
            dump: Dump {
                freeze_us: header.freeze_us,
                drain_us: header.drain_us,
                total_ms: reader.trailer().map(|trailer| trailer.total_ms),
            },
            missing: &header.missing,
            ledger: &header.ledger,
            masked: header.privacy.masked.total(),
            privacy: &header.privacy,
            complete: reader.complaints().is_empty(),
        }
    }

    fn text(&self, reader: &SnapshotReader, out: &mut dyn Write) -> io::Result<()> {
        let Info { host, kernel, arch, cpus, trigger, window, dump, ledger, .. } = self;
        writeln!(out, "snapshot  {}", reader.path().display())?;
        let (host, kernel, arch) = (printable(host), printable(kernel), printable(arch));
        writeln!(out, "host      {host}, Linux {kernel} {arch}, {cpus} CPUs")?;
        trigger.text(out)?;
        writeln!(out, "window    {:.1} s of {} s asked for", window.span_s, window.asked_s)?;
        for (class, span_s) in &window.span_s_by_class {
            writeln!(out, "  {:<10}{span_s:.1} s", printable(class))?;
        }
        let count: u64 = self.events.values().sum();
        writeln!(out, "events    {}", grouped(count))?;
        for (kind, count) in &self.events {
            writeln!(out, "  {kind:<20}{:>14}", grouped(*count))?;
        }
        writeln!(
            out,
            "size      {}, {:.2} bytes per event, context {}",
            bytes(self.bytes),
            self.bytes_per_event,
            bytes(self.context_bytes)
        )?;
        if let Some(total_ms) = dump.total_ms {
            let (freeze, drain) = (dump.freeze_us as f64 / 1e3, dump.drain_us as f64 / 1e3);
            writeln!(
                out,
                "dump      durable after {total_ms} ms; rings read {drain:.2} ms, frozen {freeze:.2} ms"
            )?;
        }
        let cut = reader.header().context_cut;
        if cut > 0 {
            writeln!(out, "missing   {} threads of the context: no room", grouped(cut))?;
        }
        for Missing { what, why } in self.missing {
            writeln!(out, "missing   {}: {}", printable(what), printable(why))?;
        }
        privacy_text(self.privacy, out)?;
        ledger_text(ledger, out)
    }
}

/// What was masked.
pub(super) fn privacy_text(privacy: &PrivacyFacts, out: &mut dyn Write) -> io::Result<()> {
    match privacy.mask {
        MaskState::Off => writeln!(out, "masked    NOTHING: secrets are as they were")?,
        MaskState::Partly => {
            writeln!(out, "masked    NOT ALL THE TIME: it was switched off meanwhile")?;
        }
        MaskState::On => {}
        // Of a program that masked nothing, and said nothing of it.
        MaskState::None => writeln!(out, "masked    NOTHING: its recorder did not mask secrets")?,
    }
    let masked = &privacy.masked;
    if privacy.mask == MaskState::On || masked.total() > 0 {
        writeln!(out, "masked    {} secrets", grouped(masked.total()))?;
    }
    kinds_text(masked, out)?;
    let PayloadFacts { file_bytes, network_bytes } = privacy.payload;
    if !privacy.payload.is_nothing() {
        writeln!(
            out,
            "PAYLOAD   of each call up to {file_bytes} bytes of files and {network_bytes} bytes of \
             the network are recorded"
        )?;
    }
    for scrub in &privacy.scrubs {
        let (total, program) = (grouped(scrub.masked.total()), printable(&scrub.program));
        let (words, texts) = (scrub.words, scrub.texts);
        writeln!(
            out,
            "scrubbed  {total} secrets by {program}, with {words} further names and {texts} texts"
        )?;
        kinds_text(&scrub.masked, out)?;
    }
    Ok(())
}

fn kinds_text(masked: &MaskedCounts, out: &mut dyn Write) -> io::Result<()> {
    for (kind, count) in &masked.by_kind {
        writeln!(out, "  {:<20}{:>14}", printable(kind), grouped(*count))?;
    }
    Ok(())
}

/// The books, and whether they close.
pub(super) fn ledger_text(ledger: &Ledger, out: &mut dyn Write) -> io::Result<()> {
    let verdict = if ledger.closes { "closes" } else { "DOES NOT CLOSE" };
    writeln!(
        out,
        "ledger    {verdict}: seen {} = stored {} + filtered {} + aggregated {} + lost {}",
        grouped(ledger.seen),
        grouped(ledger.stored),
        grouped(ledger.filtered),
        grouped(ledger.aggregated),
        grouped(ledger.lost_total())
    )?;
    writeln!(
        out,
        "          stored = decoded {} + malformed {} + in flight {}",
        grouped(ledger.decoded),
        grouped(ledger.malformed),
        grouped(ledger.in_flight)
    )?;
    writeln!(
        out,
        "          decoded = in window {} + evicted {}; unaccounted {}",
        grouped(ledger.in_window),
        grouped(ledger.evicted),
        grouped(ledger.unaccounted)
    )?;
    for complaint in ledger.complaints() {
        writeln!(out, "          {complaint}")?;
    }
    for (reason, count) in &ledger.lost {
        writeln!(out, "LOST      {} events: {}", grouped(*count), printable(reason))?;
    }
    let mut calls: Vec<_> = ledger.calls.iter().filter(|(_, call)| call.lost > 0).collect();
    calls.sort_by_key(|(_, call)| std::cmp::Reverse(call.lost));
    for (name, call) in calls.iter().take(CALLS_SHOWN_MAX) {
        let (name, lost) = (printable(name), grouped(call.lost));
        writeln!(out, "  {name:<20}{lost} of {}", grouped(call.seen))?;
    }
    Ok(())
}
