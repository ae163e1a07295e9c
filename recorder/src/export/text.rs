//! Text like strace's: time, thread, what happened, result, duration.

use std::io::{self, Write};

use super::{
    Exporter,
    place::Place,
    value::{Shown, show, show_argument, show_bytes, show_left},
};
use crate::{
    cgroup::{Attribution, Container},
    clock::ClockAnchor,
    context::Processes,
    event::{
        Call, Event, FlagSet, Kind, Layout, Meaning, names,
        syscall::{self, Abi, Arg, Syscall},
        wire::{ATTACHMENT_WAIT_CHANNEL, flag},
    },
};

/// Arguments of an exec shown before the rest is counted.
const ARGS_SHOWN_MAX: usize = 32;

/// The text format.
pub struct Text {
    clock: ClockAnchor,
    native: Abi,
    /// Print when calls were entered instead of when they returned.
    entry_times: bool,
    /// Print behind every thread in which container or unit it is.
    containers: bool,
    line: String,
}

impl Text {
    /// Text of a file with these clocks and calls of this ABI.
    pub fn new(clock: ClockAnchor, native: Abi, entry_times: bool) -> Text {
        Text { clock, native, entry_times, containers: false, line: String::new() }
    }

    /// With the container or the unit of every thread, and not only of a program that
    /// begins.
    pub fn with_containers(mut self, containers: bool) -> Text {
        self.containers = containers;
        self
    }

    fn thread(&mut self, event: &Event<'_>, processes: &Processes) {
        if event.tid == 0 {
            self.line.push_str("- ");
            return;
        }
        let comm = processes.comm_of(event);
        if comm.is_empty() {
            self.line.push('?');
        } else {
            push_escaped(comm, &mut self.line);
            if processes.is_comm_uncertain(event) {
                self.line.push('?');
            }
        }
        if event.tid == event.pid {
            self.line.push_str(&format!("[{}]", event.pid));
        } else {
            self.line.push_str(&format!("[{}/{}]", event.pid, event.tid));
        }
        let said = processes.attribution_of(event.pid).filter(|_| self.containers);
        if let Some(place) = said.and_then(place_of) {
            self.line.push('@');
            push_escaped(place, &mut self.line);
            if processes.is_attribution_uncertain(event.pid) {
                self.line.push('?');
            }
        }
        self.line.push(' ');
    }

    /// Behind a program that begins: in which container.
    fn container(&mut self, event: &Event<'_>, processes: &Processes) {
        let said = processes.attribution_of(event.pid).filter(|_| !self.containers);
        let Some(container) = said.and_then(|said| said.container.as_ref()) else { return };
        self.line.push_str(" in ");
        if let Some(runtime) = container.runtime {
            self.line.push_str(&format!("{runtime}:"));
        }
        push_escaped(container.short_id(), &mut self.line);
        if processes.is_attribution_uncertain(event.pid) {
            self.line.push('?');
        }
    }

    fn call(&mut self, event: &Event<'_>, call: Call<'_, '_>, processes: &Processes) {
        let where_from = Place { event, processes };
        let abi = call.abi(self.native);
        let row = syscall::lookup(abi, call.nr());
        self.line.push_str(&syscall::name(abi, call.nr()));
        if event.has(flag::COMPAT) {
            self.line.push_str("@32");
        }
        self.line.push('(');
        let values = call.args();
        let args = row.map(|row| row.args_of(values)).unwrap_or_default();
        let mut left = String::new();
        for place in 0..values.len() {
            if row.is_some_and(|row| !row.reads_arg(place, values)) {
                continue;
            }
            if place > 0 {
                self.line.push_str(", ");
            }
            push(&show_argument(event, args, values, place, abi), &mut self.line);
            if let Some(shown) = show_left(event, args, values, place, abi) {
                self.left(args.get(place), &shown, &mut left);
            }
            let meaning = args.get(place).map_or(Meaning::Address, |arg| arg.meaning);
            let value = values.get(place).copied().unwrap_or_default() as u32 as i32;
            let name = match meaning {
                Meaning::Fd => where_from.descriptor(value),
                Meaning::DirFd if where_from.is_base(place) => where_from.descriptor(value),
                // The directory before it says where it begins.
                Meaning::Path if place > 0 && args.get(place - 1).is_some_and(is_directory) => None,
                _ => row.and_then(|row| where_from.full_path(row, call, place)),
            };
            self.between_angles(name);
        }
        if event.has(flag::UNFINISHED) {
            self.unfinished(event, call);
            return;
        }
        self.line.push(')');
        self.result(event, call, row, where_from, &left);
    }

    /// What the kernel left in the place of an argument: of sets and times that goes behind
    /// the result, of anything else behind the argument.
    fn left(&mut self, arg: Option<&Arg>, shown: &Shown<'_>, behind: &mut String) {
        let Some(&Arg { name, meaning: Meaning::Memory(memory) }) = arg else { return };
        let label = match (memory.layout, name) {
            (Layout::FdSet, _) if *shown == Shown::Items(Vec::new(), false) => return,
            (Layout::FdSet, "inp") => "in ",
            (Layout::FdSet, "outp") => "out ",
            (Layout::FdSet, _) => "except ",
            (Layout::Timespec | Layout::Timespec64 | Layout::Timeval, _) => "left ",
            _ => {
                self.line.push_str(" => ");
                push(shown, &mut self.line);
                return;
            }
        };
        behind.push_str(if behind.is_empty() { "" } else { ", " });
        behind.push_str(label);
        push(shown, behind);
    }

    fn between_angles(&mut self, name: Option<Vec<u8>>) {
        if let Some(name) = name {
            self.line.push('<');
            push_escaped(&name, &mut self.line);
            self.line.push('>');
        }
    }

    fn unfinished(&mut self, event: &Event<'_>, call: Call<'_, '_>) {
        let age = seconds(call.dur_ns().unwrap_or_default());
        let least = if event.has(flag::BEFORE_RECORDING) { "at least " } else { "" };
        self.line.push_str(&format!(" <unfinished ...> <{least}{age}>"));
        if let Some(channel) = event.attachment(ATTACHMENT_WAIT_CHANNEL) {
            self.line.push_str(" waits in ");
            push_escaped(channel.bytes, &mut self.line);
        }
        if event.has(flag::LATE) && self.has_strings(event, call) {
            self.line.push_str(" <strings read late>");
        }
    }

    fn result(
        &mut self,
        event: &Event<'_>,
        call: Call<'_, '_>,
        row: Option<&Syscall>,
        place: Place<'_>,
        left: &str,
    ) {
        match call.errno() {
            Some(errno) => {
                let name = names::errno_name(errno).map_or(errno.to_string(), str::to_string);
                self.line.push_str(&format!(" = -1 {name}"));
                if let Some(text) = names::errno_text(errno) {
                    self.line.push_str(&format!(" ({text})"));
                }
            }
            None if call.returned() => {
                self.returned(call, row);
                self.between_angles(row.and_then(|row| place.returned(row, call)));
            }
            None => self.line.push_str(" = ?"),
        }
        if !left.is_empty() {
            self.line.push_str(&format!(" ({left})"));
        }
        match call.dur_ns() {
            Some(dur) => self.line.push_str(&format!(" <{}>", seconds(dur))),
            None if event.has(flag::NO_ENTRY) => self.line.push_str(" <entry not seen>"),
            None => {}
        }
        if event.has(flag::LATE) && self.has_strings(event, call) {
            self.line.push_str(" <strings read late>");
        }
    }

    /// What a call that succeeded returned.
    fn returned(&mut self, call: Call<'_, '_>, row: Option<&Syscall>) {
        let (ret, abi) = (call.ret(), call.abi(self.native));
        self.line.push_str(" = ");
        match row.and_then(|row| row.result_of(call.args())) {
            Some(Meaning::Flags(_)) if ret == 0 => self.line.push('0'),
            Some(Meaning::Flags(set)) => {
                self.line.push_str(&format!("{ret:#x} ("));
                names::write_flags(set, ret.cast_unsigned(), abi, &mut self.line);
                self.line.push(')');
            }
            Some(meaning) => {
                push(&show(meaning, ret.cast_unsigned(), None, abi), &mut self.line);
            }
            // What is no small number is a pointer, whatever the call.
            None if (-4095..=0xffff_ffff).contains(&ret) => self.line.push_str(&ret.to_string()),
            None => self.line.push_str(&format!("{ret:#x}")),
        }
    }

    /// Whether a string or an address was read of what the program gave: structures are
    /// the kernel's to change as well, and say nothing by having changed.
    fn has_strings(&self, event: &Event<'_>, call: Call<'_, '_>) -> bool {
        let row = syscall::lookup(call.abi(self.native), call.nr());
        let args = row.map(|row| row.args_of(call.args())).unwrap_or_default();
        event.attached().iter().any(|attached| {
            let meaning = args.get(usize::from(attached.index)).map(|arg| arg.meaning);
            matches!(meaning, Some(Meaning::Path | Meaning::Text | Meaning::Sockaddr))
        })
    }

    fn lost(&mut self, event: &Event<'_>) {
        let until = time_of_day(self.clock.wall_ns(event.number(2)));
        let reason = show(Meaning::LossReason, event.number(0), None, self.native);
        self.line.push_str(&format!("CPU:{} [LOST {} EVENTS] ", event.cpu, event.number(1)));
        push(&reason, &mut self.line);
        self.line.push_str(&format!(" until {until}"));
    }

    fn other(&mut self, event: &Event<'_>) {
        let attached = |index: usize| {
            let meaning = event.kind.schema().attachments.get(index)?.meaning;
            let mut text = String::new();
            push(&show_bytes(meaning, event.attachment(index as u8)?), &mut text);
            Some(text)
        };
        let text = |index| attached(index).unwrap_or_default();
        let state = |place| names::tcp_state(event.number(place) as u32);
        let line = match event.kind {
            Kind::ProcessFork => {
                let what =
                    if event.number(0) == u64::from(event.pid) { "thread" } else { "process" };
                format!("+++ new {what} {} +++", event.number(1))
            }
            Kind::ProcessExec => format!("+++ exec {} {} +++", text(0), text(1)),
            Kind::ProcessExit if event.has(flag::NO_ARGS) => "+++ ended +++".to_string(),
            Kind::ProcessExit if event.number(1) != 0 => {
                format!("+++ killed by {} +++", names::signal_name(event.number(1) as u32))
            }
            Kind::ProcessExit => format!("+++ exited with {} +++", event.number(0)),
            Kind::ProcessRename => format!("+++ renamed to {} +++", text(0)),
            Kind::ProcessReap => "+++ no zombie any more +++".to_string(),
            Kind::TcpState => {
                format!("tcp {} -> {} {} to {}", text(0), text(1), state(0), state(1))
            }
            Kind::TcpRetransmit => {
                format!("tcp {} -> {} retransmitted in {}", text(0), text(1), state(0))
            }
            Kind::TcpResetSent => format!("tcp {} -> {} reset sent", text(0), text(1)),
            Kind::TcpResetReceived => format!("tcp {} -> {} reset received", text(0), text(1)),
            Kind::OomKill => {
                format!("+++ chosen by the OOM killer, {} asked for memory +++", event.number(1))
            }
            Kind::Cgroup => {
                let change =
                    show(Meaning::Flags(FlagSet::GroupChange), event.number(1), None, self.native);
                let mut line = format!("+++ control group {} ", text(0));
                push(&change, &mut line);
                format!("{line} +++")
            }
            Kind::CgroupAttach => {
                let (pid, tid) = (event.number(0), event.number(1));
                let thread = if pid == tid { String::new() } else { format!("/{tid}") };
                format!("+++ moved {pid}{thread} to control group {} +++", text(0))
            }
            Kind::Process
            | Kind::Descriptor
            | Kind::Cut
            | Kind::Syscall
            | Kind::Lost
            | Kind::Rollup => event.kind.schema().name.to_string(),
        };
        self.line.push_str(&line);
    }
}

impl Exporter for Text {
    fn event(
        &mut self,
        event: &Event<'_>,
        processes: &Processes,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.line.clear();
        let call = Call::of(event);
        let back = call.and_then(|call| call.dur_ns()).filter(|_| self.entry_times);
        let moment = event.ts_ns.saturating_sub(back.unwrap_or_default());
        self.line.push_str(&time_of_day(self.clock.wall_ns(moment)));
        self.line.push(' ');
        if event.kind == Kind::Lost {
            self.lost(event);
        } else {
            self.thread(event, processes);
            match call {
                Some(call) => self.call(event, call, processes),
                None => self.other(event),
            }
            if event.kind == Kind::ProcessExec {
                self.container(event, processes);
            }
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }
}

fn is_directory(arg: &Arg) -> bool {
    arg.meaning == Meaning::DirFd
}

/// Where a process is, in a word: its container, or else its unit.
fn place_of(said: &Attribution) -> Option<&[u8]> {
    let unit = said.user_unit.as_deref().or(said.unit.as_deref());
    said.container.as_ref().map(Container::short_id).or(unit)
}

/// `14:03:07.123456`, UTC.
fn time_of_day(wall_ns: i64) -> String {
    let of_day = wall_ns.rem_euclid(86_400_000_000_000) / 1_000;
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

/// `0.000042`, seconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

/// A value as text.
pub(super) fn push(shown: &Shown<'_>, out: &mut String) {
    match shown {
        Shown::Signed(number) => out.push_str(&number.to_string()),
        Shown::Unsigned(number) => out.push_str(&number.to_string()),
        Shown::Word(word) => push_escaped(word.as_bytes(), out),
        Shown::Address(address) => push_escaped(address, out),
        Shown::Bytes(bytes, cut) => {
            out.push('"');
            push_escaped(bytes, out);
            out.push_str(if *cut { "\"..." } else { "\"" });
        }
        Shown::List(list, cut) => {
            out.push('[');
            for (place, bytes) in list.iter().take(ARGS_SHOWN_MAX).enumerate() {
                out.push_str(if place > 0 { ", \"" } else { "\"" });
                push_escaped(bytes, out);
                out.push('"');
            }
            let more = list.len().saturating_sub(ARGS_SHOWN_MAX);
            if more > 0 {
                out.push_str(&format!(", ... {more} more"));
            } else if *cut {
                out.push_str("...");
            }
            out.push(']');
        }
        Shown::Items(items, cut) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                push(item, out);
            }
            out.push_str(if *cut { ", ...]" } else { "]" });
        }
        Shown::Structure(members, cut) => {
            out.push('{');
            for (place, (name, member)) in members.iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                out.push_str(name);
                out.push('=');
                push(member, out);
            }
            out.push_str(if *cut { ", ...}" } else { "}" });
        }
        Shown::Pointee(value) => {
            out.push('[');
            push(value, out);
            out.push(']');
        }
        Shown::Unreadable => out.push_str("<unreadable>"),
        Shown::Null => out.push_str("NULL"),
        Shown::Nothing => out.push('-'),
    }
}

/// Bytes with everything escaped that a terminal could take for more than text.
pub(crate) fn push_escaped(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => {
                    out.push('\\');
                    out.push(c);
                }
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                // Controls, and what turns the direction of text round.
                c if c.is_control() || is_bidi(c) => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        out.push_str(&escape(byte));
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&escape(*byte));
        }
    }
}

fn escape(byte: u8) -> String {
    format!("\\x{byte:02x}")
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_unescaped() {
        let mut all = String::new();
        push_escaped(&(0..=255).collect::<Vec<u8>>(), &mut all);
        assert!(all.chars().all(|c| !c.is_control()), "{all}");
        let mut turned = String::new();
        push_escaped("a\u{202e}b".as_bytes(), &mut turned);
        assert_eq!(turned, "a\\xe2\\x80\\xaeb");
        let mut umlaut = String::new();
        push_escaped("ä".as_bytes(), &mut umlaut);
        assert_eq!(umlaut, "ä");
    }

    #[test]
    fn times_before_the_epoch_and_at_midnight() {
        assert_eq!(time_of_day(0), "00:00:00.000000");
        assert_eq!(time_of_day(-1_000), "23:59:59.999999");
        assert_eq!(time_of_day(86_399_999_999_999), "23:59:59.999999");
        assert_eq!(seconds(10_002_345_678), "10.002345");
    }
}
