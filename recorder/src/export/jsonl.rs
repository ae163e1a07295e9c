//! One JSON object per event and line.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    Exporter,
    place::Place,
    rfc3339,
    value::{Shown, show, show_argument, show_bytes, show_left},
};
use crate::{
    cgroup::Attribution,
    clock::ClockAnchor,
    context::Processes,
    event::{
        Call, Event, Meaning, names,
        syscall::{self, Abi},
        wire::{ATTACHMENT_WAIT_CHANNEL, flag},
    },
};

/// Numbers beyond this lose digits in programs that keep them as doubles.
const EXACT_MAX: u64 = 1 << 53;

/// The JSON format.
pub struct JsonLines {
    clock: ClockAnchor,
    native: Abi,
}

impl JsonLines {
    /// JSON of a file with these clocks and calls of this ABI.
    pub fn new(clock: ClockAnchor, native: Abi) -> JsonLines {
        JsonLines { clock, native }
    }
}

impl Exporter for JsonLines {
    fn event(
        &mut self,
        event: &Event<'_>,
        processes: &Processes,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let object = Object { event, processes, clock: self.clock, native: self.native };
        let mut line = serde_json::to_vec(&object)?;
        line.push(b'\n');
        out.write_all(&line)
    }
}

struct Object<'e> {
    event: &'e Event<'e>,
    processes: &'e Processes,
    clock: ClockAnchor,
    native: Abi,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &rfc3339(self.clock.wall_ns(event.ts_ns)))?;
        map.serialize_entry("ts_ns", &event.ts_ns.to_string())?;
        map.serialize_entry("kind", event.kind.schema().name)?;
        // A call that has not returned is nowhere in particular.
        if !event.has(flag::UNFINISHED) {
            map.serialize_entry("cpu", &event.cpu)?;
        }
        if event.tid != 0 {
            map.serialize_entry("pid", &event.pid)?;
            map.serialize_entry("tid", &event.tid)?;
            let comm = self.processes.comm_of(event);
            if !comm.is_empty() {
                put_bytes(&mut map, "comm", comm, false)?;
                if self.processes.is_comm_uncertain(event) {
                    map.serialize_entry("comm_uncertain", &true)?;
                }
            }
            if let Some(start_ns) = self.start_ns() {
                map.serialize_entry("pid_start_ns", &start_ns.to_string())?;
            }
            if let Some(said) = self.processes.attribution_of(event.pid) {
                put_attribution(&mut map, said)?;
                if self.processes.is_attribution_uncertain(event.pid) {
                    map.serialize_entry("container_uncertain", &true)?;
                }
            }
        }
        match Call::of(event) {
            Some(call) => self.call(call, &mut map)?,
            None => self.fields(&mut map)?,
        }
        map.end()
    }
}

impl Object<'_> {
    /// When the process started: with it its number is its own for ever.
    fn start_ns(&self) -> Option<u64> {
        let facts = self.processes.get(self.event.pid)?;
        (facts.start_ns != 0).then_some(facts.start_ns)
    }

    fn call<M: SerializeMap>(&self, call: Call<'_, '_>, map: &mut M) -> Result<(), M::Error> {
        let event = self.event;
        let abi = call.abi(self.native);
        let row = syscall::lookup(abi, call.nr());
        map.serialize_entry("name", &syscall::name(abi, call.nr()))?;
        let place = Place { event, processes: self.processes };
        map.serialize_entry("args", &Args { call, place, native: self.native })?;
        if call.returned() {
            put_signed(map, "ret", call.ret())?;
        }
        if let Some(file) = row.and_then(|row| place.returned(row, call)) {
            put_bytes(map, "ret_file", &file, false)?;
        }
        if let Some(errno) = call.errno() {
            let name = names::errno_name(errno).map_or(errno.to_string(), str::to_string);
            map.serialize_entry("errno", &name)?;
        }
        if let Some(dur_ns) = call.dur_ns() {
            put_unsigned(map, "dur_ns", dur_ns)?;
        }
        let flags = [
            ("unfinished", flag::UNFINISHED),
            ("before_recording", flag::BEFORE_RECORDING),
            ("no_return", flag::NO_RETURN),
            ("no_entry", flag::NO_ENTRY),
            ("compat", flag::COMPAT),
            ("late", flag::LATE),
        ];
        for (name, bit) in flags {
            if event.has(bit) {
                map.serialize_entry(name, &true)?;
            }
        }
        if let Some(channel) = event.attachment(ATTACHMENT_WAIT_CHANNEL) {
            put_bytes(map, "wait_channel", channel.bytes, false)?;
        }
        Ok(())
    }

    fn fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let event = self.event;
        let schema = event.kind.schema();
        // What this kernel did not say is absent, not 0.
        let unknown = event.has(flag::NO_ARGS);
        // Nor has an older file what was added later.
        let known = if unknown { 0 } else { event.numbers().len() };
        let fields = schema.fields.iter().enumerate().take(known);
        for (place, field) in fields {
            let value = event.number(place);
            if field.meaning == Meaning::TimeNs {
                // Like `ts_ns`: a moment is a string.
                map.serialize_entry(field.name, &value.to_string())?;
            } else {
                put(map, field.name, &show(field.meaning, value, None, self.native))?;
            }
        }
        let attachments = schema.attachments.iter().enumerate();
        // The name of the thread stands in front, as with every event.
        for (index, schema) in attachments.filter(|(_, schema)| !schema.is_comm()) {
            if let Some(attached) = event.attachment(index as u8) {
                put(map, schema.name, &show_bytes(schema.meaning, attached))?;
            }
        }
        Ok(())
    }
}

/// Container, pod and unit, as far as they are known.
pub(crate) fn put_attribution<M: SerializeMap>(
    map: &mut M,
    said: &Attribution,
) -> Result<(), M::Error> {
    if let Some(container) = &said.container {
        put_bytes(map, "container_id", &container.id, false)?;
        if let Some(runtime) = container.runtime {
            map.serialize_entry("container_runtime", runtime)?;
        }
    }
    if let Some(pod) = &said.pod {
        put_bytes(map, "pod_uid", &pod.uid, false)?;
        map.serialize_entry("pod_qos", pod.qos)?;
    }
    for (name, unit) in [("unit", &said.unit), ("user_unit", &said.user_unit)] {
        if let Some(unit) = unit {
            put_bytes(map, name, unit, false)?;
        }
    }
    Ok(())
}

struct Args<'e> {
    call: Call<'e, 'e>,
    place: Place<'e>,
    native: Abi,
}

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let abi = self.call.abi(self.native);
        let row = syscall::lookup(abi, self.call.nr());
        let mut map = serializer.serialize_map(None)?;
        let values = self.call.args();
        let args = row.map(|row| row.args_of(values)).unwrap_or_default();
        for place in 0..values.len() {
            if row.is_some_and(|row| !row.reads_arg(place, values)) {
                continue;
            }
            let unnamed = format!("arg{place}");
            let name = args.get(place).map_or(unnamed.as_str(), |arg| arg.name);
            let meaning = args.get(place).map_or(Meaning::Address, |arg| arg.meaning);
            put(&mut map, name, &show_argument(self.place.event, args, values, place, abi))?;
            if let Some(left) = show_left(self.place.event, args, values, place, abi) {
                put(&mut map, &format!("{name}_left"), &left)?;
            }
            let value = values.get(place).copied().unwrap_or_default();
            if matches!(meaning, Meaning::Fd | Meaning::DirFd)
                && let Some(file) = self.place.descriptor(value as u32 as i32)
            {
                put_bytes(&mut map, &format!("{name}_file"), &file, false)?;
            }
            if let Some(full) = row.and_then(|row| self.place.full_path(row, self.call, place)) {
                put_bytes(&mut map, &format!("{name}_full"), &full, false)?;
            }
        }
        map.end()
    }
}

fn put<M: SerializeMap>(map: &mut M, name: &str, shown: &Shown<'_>) -> Result<(), M::Error> {
    match shown {
        Shown::Signed(number) => put_signed(map, name, *number),
        Shown::Unsigned(number) => put_unsigned(map, name, *number),
        Shown::Word(word) => map.serialize_entry(name, word),
        Shown::Address(address) => put_bytes(map, name, address, false),
        Shown::Bytes(bytes, cut) => put_bytes(map, name, bytes, *cut),
        Shown::List(list, cut) => put_list(map, name, list, *cut),
        Shown::Items(_, cut) | Shown::Structure(_, cut) => {
            map.serialize_entry(name, &Tree(shown))?;
            put_cut(map, name, *cut)
        }
        Shown::Pointee(value) => put(map, name, value),
        Shown::Nothing | Shown::Null => map.serialize_entry(name, &()),
        Shown::Unreadable => {
            map.serialize_entry(name, &())?;
            map.serialize_entry(&format!("{name}_unreadable"), &true)
        }
    }
}

fn put_signed<M: SerializeMap>(map: &mut M, name: &str, number: i64) -> Result<(), M::Error> {
    if number.unsigned_abs() <= EXACT_MAX {
        map.serialize_entry(name, &number)
    } else {
        map.serialize_entry(name, &number.to_string())
    }
}

fn put_unsigned<M: SerializeMap>(map: &mut M, name: &str, number: u64) -> Result<(), M::Error> {
    if number <= EXACT_MAX {
        map.serialize_entry(name, &number)
    } else {
        map.serialize_entry(name, &number.to_string())
    }
}

pub(crate) fn put_bytes<M: SerializeMap>(
    map: &mut M,
    name: &str,
    bytes: &[u8],
    cut: bool,
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(name, text)?,
        Err(_) => {
            map.serialize_entry(name, &String::from_utf8_lossy(bytes))?;
            map.serialize_entry(&format!("{name}_hex"), &hex(bytes))?;
        }
    }
    put_cut(map, name, cut)
}

pub(crate) fn put_list<M: SerializeMap>(
    map: &mut M,
    name: &str,
    list: &[&[u8]],
    cut: bool,
) -> Result<(), M::Error> {
    map.serialize_entry(name, &Lossy(list))?;
    if list.iter().any(|bytes| std::str::from_utf8(bytes).is_err()) {
        let hexes: Vec<String> = list.iter().map(|bytes| hex(bytes)).collect();
        map.serialize_entry(&format!("{name}_hex"), &hexes)?;
    }
    put_cut(map, name, cut)
}

/// Says beside a value that there was more.
fn put_cut<M: SerializeMap>(map: &mut M, name: &str, cut: bool) -> Result<(), M::Error> {
    if cut { map.serialize_entry(&format!("{name}_cut"), &true) } else { Ok(()) }
}

/// A value within a list, or a list or structure: there is no room for twins in a list.
struct Tree<'t, 'a>(&'t Shown<'a>);

impl Serialize for Tree<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Shown::Signed(number) if number.unsigned_abs() <= EXACT_MAX => {
                serializer.serialize_i64(*number)
            }
            Shown::Signed(number) => serializer.collect_str(number),
            Shown::Unsigned(number) if *number <= EXACT_MAX => serializer.serialize_u64(*number),
            Shown::Unsigned(number) => serializer.collect_str(number),
            Shown::Word(word) => serializer.serialize_str(word),
            Shown::Address(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Shown::Bytes(bytes, _) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Shown::List(list, _) => Lossy(list).serialize(serializer),
            Shown::Items(items, _) => serializer.collect_seq(items.iter().map(Tree)),
            Shown::Structure(members, _) => {
                let mut map = serializer.serialize_map(None)?;
                for (name, member) in members {
                    put(&mut map, name, member)?;
                }
                map.end()
            }
            Shown::Pointee(value) => Tree(value).serialize(serializer),
            Shown::Unreadable | Shown::Null | Shown::Nothing => serializer.serialize_unit(),
        }
    }
}

struct Lossy<'a>(&'a [&'a [u8]]);

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for bytes in self.0 {
            list.serialize_element(&String::from_utf8_lossy(bytes))?;
        }
        list.end()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
