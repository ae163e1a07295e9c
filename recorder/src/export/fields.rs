//! Everything an event can hold, by name: kinds with their fields, calls with their
//! arguments and forms, structures, bits. Made from the tables that decode them, so that
//! it cannot say anything else than what is printed.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use crate::event::{
    Extent, FlagSet, Kind, Layout, Meaning, Memory, names,
    structure::{self, Body, Type},
    syscall::{self, Abi, Arg, Groups, Syscall},
    wire::{CALLS_COMPAT, when},
};

/// A call of the list, and its number on each architecture that has it.
type Row<'a> = (&'a Syscall, BTreeMap<&'a str, u32>);

/// The ABIs, as they are called in the list.
const ABIS: [(&str, Abi); 3] =
    [("x86_64", Abi::X86_64), ("x86@32", Abi::X86), ("aarch64", Abi::Aarch64)];

/// All of it.
#[derive(Debug, Serialize)]
pub struct Fields {
    kinds: Vec<KindFields>,
    calls: Vec<CallFields>,
    structures: Vec<StructureFields>,
    flags: BTreeMap<String, Vec<FlagName>>,
}

#[derive(Debug, Serialize)]
struct KindFields {
    name: &'static str,
    number: u8,
    doc: &'static str,
    fields: Vec<Described>,
}

#[derive(Debug, Serialize)]
struct Described {
    name: &'static str,
    meaning: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    doc: &'static str,
}

#[derive(Debug, Serialize)]
struct CallFields {
    name: &'static str,
    numbers: BTreeMap<&'static str, u32>,
    args: Vec<Described>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forms: Vec<FormFields>,
    groups: Vec<&'static str>,
    changes_state: bool,
}

#[derive(Debug, Serialize)]
struct FormFields {
    argument: &'static str,
    values: Vec<String>,
    args: Vec<Described>,
}

#[derive(Debug, Serialize)]
struct StructureFields {
    name: String,
    members: Vec<Described>,
}

#[derive(Debug, Serialize)]
struct FlagName {
    name: &'static str,
    value: i64,
}

/// What the list needs to say of structures and flags, as they are met.
#[derive(Default)]
struct Met {
    layouts: BTreeMap<String, Layout>,
    sets: BTreeMap<String, FlagSet>,
}

impl Fields {
    /// As the tables have it.
    pub fn new() -> Fields {
        let mut met = Met::default();
        let kinds = Kind::ALL.iter().map(|kind| met.kind(*kind)).collect();
        let calls = met.calls();
        let structures = met.structures();
        let flags = met.sets.iter().map(|(name, set)| (name.clone(), names_of(*set))).collect();
        Fields { kinds, calls, structures, flags }
    }

    /// As a page: Markdown, which is also text for people.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "# Fields\n\n{INTRODUCTION}\n\n## Kinds of events\n")?;
        for kind in &self.kinds {
            writeln!(out, "### `{}` ({})\n\n{}\n", kind.name, kind.number, kind.doc.trim())?;
            for field in &kind.fields {
                writeln!(out, "- `{}`: {}. {}", field.name, field.meaning, field.doc.trim())?;
            }
            if !kind.fields.is_empty() {
                writeln!(out)?;
            }
        }
        writeln!(out, "## System calls\n")?;
        for call in &self.calls {
            write_call(call, out)?;
        }
        writeln!(out, "\n## Structures\n")?;
        for structure in &self.structures {
            writeln!(out, "- `{}`: {}", structure.name, signature(&structure.members))?;
        }
        writeln!(out, "\n## Flags\n")?;
        for (name, flags) in &self.flags {
            let shown = |flag: &FlagName| match flag.value {
                value @ -1024..=9 => format!("{} = {value}", flag.name),
                value => format!("{} = {value:#x}", flag.name),
            };
            let flags: Vec<String> = flags.iter().map(shown).collect();
            writeln!(out, "- `{name}`: {}", flags.join(", "))?;
        }
        Ok(())
    }
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::new()
    }
}

const INTRODUCTION: &str = "Made by `recorder fields`; `--format json` has the same for programs.

Every event has `ts`, `ts_ns`, `kind`, `cpu`, and where it belongs to a thread `pid`, `tid` and
`comm`. A call has `name`, `args`, `ret`, `errno` and `dur_ns` besides. Arguments have the names
of the kernel. *given* is read of whatever the program passed, *written* only when the call
succeeded; a list is cut at 256 bytes, which `<name>_cut` says, and what could not be read is
null with `<name>_unreadable`. What the kernel overwrites is given *at entry*: it is read before
that. Where it is *changed* then, `<name>_left` is what stood there when the call had done
something or a signal had ended it: the descriptors of a set that were ready, of anything else
what is not as it was. Of a set the first 64 descriptors are given. The arguments of an exec
(*argv*) stand in its call when it failed, and else in `process_exec`. Bits without a name are
numbers. Under a call stand its forms: the arguments it has where another argument says what they
are. Numbers in brackets are those of x86-64, of 32-bit calls on x86-64 (`@32`) and of aarch64.";

fn write_call(call: &CallFields, out: &mut dyn Write) -> io::Result<()> {
    let number = |abi| call.numbers.get(abi).map_or("-".to_string(), u32::to_string);
    let numbers: Vec<String> = ABIS.iter().map(|(abi, _)| number(*abi)).collect();
    write!(out, "- `{}({})`", call.name, signature(&call.args))?;
    write!(out, " [{}]", numbers.join(", "))?;
    for group in &call.groups {
        write!(out, " {group}")?;
    }
    writeln!(out, "{}", if call.changes_state { " state" } else { "" })?;
    for form in &call.forms {
        let values = form.values.join(", ");
        writeln!(out, "  - {values}: `({})`", signature(&form.args))?;
    }
    Ok(())
}

fn signature(args: &[Described]) -> String {
    let args: Vec<String> =
        args.iter().map(|arg| format!("{}: {}", arg.name, arg.meaning)).collect();
    args.join(", ")
}

fn names_of(set: FlagSet) -> Vec<FlagName> {
    let listed = names::listed(set, Abi::X86_64);
    listed.map(|(value, name)| FlagName { name, value }).collect()
}

impl Met {
    fn kind(&mut self, kind: Kind) -> KindFields {
        let schema = kind.schema();
        let numbers = schema.fields.iter().map(|field| (field.name, field.meaning, field.doc));
        let bytes = schema.attachments.iter().map(|bytes| (bytes.name, bytes.meaning, bytes.doc));
        let described =
            |(name, meaning, doc)| Described { name, meaning: self.meaning(meaning, &[]), doc };
        KindFields {
            name: schema.name,
            number: kind as u8,
            doc: schema.doc,
            fields: numbers.chain(bytes).map(described).collect(),
        }
    }

    fn calls(&mut self) -> Vec<CallFields> {
        // A row that several ABIs have stands once, with its numbers.
        let mut rows: BTreeMap<(&str, usize), Row<'_>> = BTreeMap::new();
        for (name, abi) in ABIS {
            for nr in 0..CALLS_COMPAT {
                let Some(row) = syscall::lookup(abi, i64::from(nr)) else { continue };
                let key = (row.name, std::ptr::from_ref(row) as usize);
                rows.entry(key).or_insert((row, BTreeMap::new())).1.insert(name, nr);
            }
        }
        let mut calls: Vec<_> = rows.into_values().collect();
        // Places in memory are no order.
        calls.sort_by_key(|(row, numbers)| {
            (row.name, !numbers.contains_key("x86_64"), numbers.clone())
        });
        calls.into_iter().map(|(row, numbers)| self.call(row, numbers)).collect()
    }

    fn call(&mut self, row: &Syscall, numbers: BTreeMap<&'static str, u32>) -> CallFields {
        let mut forms = Vec::new();
        if let Some(of_call) = row.forms {
            let teller = row.args.get(usize::from(of_call.arg));
            for form in of_call.rows {
                let meaning = teller.map_or(Meaning::Int, |arg| arg.meaning);
                let name_of = |value: &u32| match meaning {
                    Meaning::Flags(set) => {
                        let mut text = String::new();
                        names::write_flags(set, u64::from(*value), Abi::X86_64, &mut text);
                        text
                    }
                    _ => value.to_string(),
                };
                forms.push(FormFields {
                    argument: teller.map_or("", |arg| arg.name),
                    values: form.values.iter().map(name_of).collect(),
                    args: self.args(form.args),
                });
            }
        }
        let groups = ["%file", "%net", "%process", "%desc", "%signal", "%memory"];
        let is_in =
            |name: &&str| Groups::parse(name).is_some_and(|group| row.groups.intersects(group));
        CallFields {
            name: row.name,
            numbers,
            args: self.args(row.args),
            forms,
            groups: groups.into_iter().filter(is_in).collect(),
            changes_state: row.changes_state,
        }
    }

    fn args(&mut self, args: &[Arg]) -> Vec<Described> {
        let described = |arg: &Arg| Described {
            name: arg.name,
            meaning: self.meaning(arg.meaning, args),
            doc: "",
        };
        args.iter().map(described).collect()
    }

    /// Structures, and those within them.
    fn structures(&mut self) -> Vec<StructureFields> {
        let mut found = BTreeMap::new();
        while let Some((name, layout)) = self
            .layouts
            .iter()
            .find(|(name, _)| !found.contains_key(*name))
            .map(|(n, l)| (n.clone(), *l))
        {
            let members = structure::members(layout).iter().filter_map(|member| {
                let meaning = match member.kind {
                    Type::Pad(_) => return None,
                    Type::Text(bytes) => format!("text in {bytes} bytes"),
                    Type::Of(inner) => self.layout(inner),
                    Type::Times(inner, count) => format!("{count} of {}", self.layout(inner)),
                    kind => format!("{} {}", c_type(kind), self.meaning(member.meaning, &[])),
                };
                let name = if member.name == "type_" { "type" } else { member.name };
                Some(Described { name, meaning, doc: "" })
            });
            let members: Vec<Described> = members.collect();
            found.insert(name, members);
        }
        let named = found.into_iter().filter(|(_, members)| !members.is_empty());
        named.map(|(name, members)| StructureFields { name, members }).collect()
    }

    fn layout(&mut self, layout: Layout) -> String {
        let name = format!("{layout:?}");
        match structure::body(layout, Abi::X86_64) {
            Body::One(kind, meaning) => format!("{} {}", c_type(kind), self.meaning(meaning, &[])),
            _ => {
                self.layouts.insert(name.clone(), layout);
                name
            }
        }
    }

    fn meaning(&mut self, meaning: Meaning, args: &[Arg]) -> String {
        match meaning {
            Meaning::Flags(set) => {
                let name = format!("{set:?}");
                self.sets.insert(name.clone(), set);
                format!("flags {name}")
            }
            Meaning::Memory(memory) => self.memory(memory, args),
            Meaning::By(choice) => format!("by other arguments ({choice:?})"),
            Meaning::Data(class) => format!("data ({class:?}), not read by default").to_lowercase(),
            Meaning::Address => "number or pointer".to_string(),
            Meaning::SockaddrOut => "written socket address".to_string(),
            Meaning::Sockaddr => "socket address".to_string(),
            Meaning::SockaddrLen => "length of the address".to_string(),
            Meaning::DirFd => "directory descriptor".to_string(),
            Meaning::Fd => "descriptor".to_string(),
            Meaning::TimeNs => "moment in ns".to_string(),
            Meaning::DurationNs => "duration in ns".to_string(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn memory(&mut self, memory: Memory, args: &[Arg]) -> String {
        let by = |place: u8| args.get(usize::from(place)).map_or("?", |arg| arg.name);
        let of = self.layout(memory.layout);
        let what = match memory.extent {
            Extent::One => of,
            Extent::Count(arg) => format!("list of {of}, as many as {}", by(arg)),
            Extent::Result => format!("list of {of}, as many as returned"),
            Extent::Bytes(arg) | Extent::BytesUpTo(arg, _) => {
                format!("{of} of {} bytes", by(arg))
            }
            Extent::ResultBytes => format!("{of} of as many bytes as returned"),
            Extent::Pointed(arg) => format!("{of}, as long as {} says", by(arg)),
            Extent::Inside(_) => format!("{of}, as long as it says"),
            Extent::Bits(arg) => format!("{of} of {} bits", by(arg)),
            Extent::Version(arg) => format!("{of}, as wide as {} says", by(arg)),
        };
        let how = match memory.when {
            when::ALWAYS => "given",
            when::ENTERED => "at entry given",
            when::CHANGED => "at entry given, then changed,",
            when::INTERRUPTED => "when interrupted written",
            _ => "written",
        };
        format!("{how} {what}")
    }
}

/// A type as C has it.
fn c_type(kind: Type) -> &'static str {
    match kind {
        Type::U8 => "u8",
        Type::I16 => "i16",
        Type::U16 => "u16",
        Type::I32 => "i32",
        Type::U32 => "u32",
        Type::I64 => "i64",
        Type::U64 => "u64",
        Type::Long => "long",
        Type::Ulong => "unsigned long",
        Type::Pointer => "pointer",
        Type::Text(_) | Type::Pad(_) | Type::Of(_) | Type::Times(..) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_every_abi_is_listed_with_its_forms() {
        let fields = Fields::new();
        for (abi_name, abi) in ABIS {
            for nr in 0..CALLS_COMPAT {
                let Some(row) = syscall::lookup(abi, i64::from(nr)) else { continue };
                let listed =
                    fields.calls.iter().find(|call| call.numbers.get(abi_name) == Some(&nr));
                let listed = listed.unwrap();
                assert_eq!((listed.name, listed.args.len()), (row.name, row.args.len()));
            }
        }
        let fcntl = fields.calls.iter().find(|call| call.name == "fcntl").unwrap();
        let get = fcntl.forms.iter().find(|form| form.values.contains(&"F_GETFD".to_string()));
        assert_eq!(get.unwrap().args.len(), 2);
        assert_eq!(fields.kinds.len(), Kind::ALL.len());
        assert!(fields.flags.contains_key("Open") && fields.flags.contains_key("Poll"));
        assert!(fields.structures.iter().any(|structure| structure.name == "Timeval"));
    }

    #[test]
    fn no_structure_or_set_is_without_members() {
        let fields = Fields::new();
        for (name, flags) in &fields.flags {
            let has_none = matches!(name.as_str(), "Capabilities" | "OtherOption");
            assert_eq!(flags.is_empty(), has_none, "{name}");
        }
    }
}
