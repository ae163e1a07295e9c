//! What the kernel programs read for each call: plans, readings, and the plans of calls
//! with forms, as they follow from the table of calls.

use std::collections::{BTreeMap, HashMap};

use recorder_ebpf::{
    schema::{DataClass, Extent, Layout, Meaning},
    wire::{
        self, CALLS_COMPAT, CALLS_MAX, LIST_BYTES_MAX, MEMORY_BYTES_MAX, Reading,
        SOCKADDR_BYTES_MAX, SYSCALL_ATTACHMENTS_MAX, plan, reading, when,
    },
};

use super::{
    structure,
    syscall::{Abi, Arg, Syscall, lookup},
};

/// Bytes of their own data that are kept of what programs read, write, send and receive;
/// 0, the default, keeps none. At most [`MEMORY_BYTES_MAX`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataKept {
    /// Through descriptors: `read`, `write` and their like.
    pub file_bytes: u16,
    /// Over sockets: `sendto`, `recvfrom`.
    pub network_bytes: u16,
}

impl DataKept {
    fn of(self, class: DataClass) -> u16 {
        let bytes = match class {
            DataClass::File => self.file_bytes,
            DataClass::Network => self.network_bytes,
        };
        bytes.min(MEMORY_BYTES_MAX as u16)
    }
}

/// What the kernel programs are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// By [`wire::call_index`].
    pub plans: Vec<u64>,
    /// Places that plans name; the first is none.
    pub readings: Vec<Reading>,
    /// Plans of forms, by [`plan::selected_key`].
    pub selected: BTreeMap<u64, u64>,
}

impl Capture {
    /// For all calls a kernel takes.
    pub fn new(native: Abi, kept: DataKept) -> Capture {
        let mut builder = Builder { kept, ..Builder::default() };
        builder.capture.plans = vec![plan::UNKNOWN; CALLS_MAX as usize];
        builder.capture.readings = vec![Reading::default()];
        for (abi, compat) in [(Some(native), false), (native.compat(), true)] {
            let Some(abi) = abi else { continue };
            // The last place belongs to all numbers without a table.
            for nr in 0..i64::from(CALLS_COMPAT) - 1 {
                let Some(call) = lookup(abi, nr) else { continue };
                builder.add(call, abi, wire::call_index(nr, compat));
            }
        }
        builder.capture
    }
}

#[derive(Default)]
struct Builder {
    capture: Capture,
    kept: DataKept,
    places: HashMap<Reading, u64>,
}

impl Builder {
    fn add(&mut self, call: &Syscall, abi: Abi, index: u32) {
        let mut plan = self.plan(call, call.args, abi);
        if let Some(forms) = call.forms {
            for form in forms.rows {
                let other = self.plan(call, form.args, abi);
                for value in form.values {
                    self.capture.selected.insert(plan::selected_key(index, *value), other);
                }
            }
            plan = plan::with_selector(plan, u64::from(forms.arg), forms.low);
        }
        if let Some(place) = self.capture.plans.get_mut(index as usize) {
            *place = plan;
        }
    }

    fn plan(&mut self, call: &Syscall, args: &[Arg], abi: Abi) -> u64 {
        let plan = plan::new(args.len() as u64, call.special());
        let plan = plan::with_leaves(plan, call.leaves());
        let readings = readings(args, abi, self.kept);
        (0u32..).zip(readings.into_iter().take(SYSCALL_ATTACHMENTS_MAX)).fold(
            plan,
            |plan, (position, (arg, reading))| {
                let place = self.place(reading);
                plan::with_attachment(plan, position, u64::from(arg), place)
            },
        )
    }

    /// Where a reading stands; it is written once.
    fn place(&mut self, reading: Reading) -> u64 {
        let next = self.capture.readings.len() as u64;
        let place = *self.places.entry(reading).or_insert(next);
        if place == next {
            self.capture.readings.push(reading);
        }
        place
    }
}

/// What is read of arguments, with the number of the argument, in the order of the wire.
pub fn readings(args: &[Arg], abi: Abi, kept: DataKept) -> Vec<(u8, Reading)> {
    let mut found = Vec::new();
    let mut entered_words = 0;
    for (place, arg) in (0u8..).zip(args) {
        found.extend(reading_of(arg.meaning, place, abi, kept).map(|mut reading| {
            if reading.when >= when::ENTERED {
                reading.entered_at = entered_words;
                entered_words += reading.element_bytes.div_ceil(8) as u8;
            }
            (place, reading)
        }));
        if let Meaning::Memory(memory) = arg.meaning {
            let parts = parts_of(memory.layout, memory.when, abi);
            found.extend(parts.into_iter().map(|reading| (place, reading)));
        }
    }
    found
}

fn reading_of(meaning: Meaning, place: u8, abi: Abi, kept: DataKept) -> Option<Reading> {
    let of_kind = |kind, when| Reading { kind, when, element_bytes: 1, ..Reading::default() };
    let behind = Reading {
        count_at: place + 1,
        bytes_max: SOCKADDR_BYTES_MAX as u16,
        ..of_kind(reading::ARGUMENT, when::ALWAYS)
    };
    Some(match meaning {
        Meaning::Path | Meaning::Text => of_kind(reading::STRING, when::ALWAYS),
        Meaning::Sockaddr => behind,
        Meaning::SockaddrOut => Reading { kind: reading::POINTED, when: when::SUCCESS, ..behind },
        Meaning::Memory(memory) => {
            let element = structure::bytes(memory.layout, abi) as u16;
            let list = LIST_BYTES_MAX as u16;
            let (kind, count_at, element_bytes, bytes_max) = match memory.extent {
                Extent::One => (reading::ONE, 0, element, element),
                Extent::Count(arg) => (reading::ARGUMENT, arg, element, list),
                Extent::Result => (reading::RESULT, 0, element, list),
                Extent::Bytes(arg) => (reading::ARGUMENT, arg, 1, list),
                Extent::BytesUpTo(arg, most) => (reading::ARGUMENT, arg, 1, u16::from(most)),
                Extent::ResultBytes => (reading::RESULT, 0, 1, list),
                Extent::Pointed(arg) => (reading::POINTED, arg, 1, list),
                Extent::Inside(offset) => (reading::INSIDE, offset, 1, list),
                Extent::Bits(arg) => (reading::BITS, arg, element, SOCKADDR_BYTES_MAX as u16),
                Extent::Version(arg) => (reading::VERSION, arg, element, 2 * element),
            };
            Reading { count_at, element_bytes, bytes_max, ..of_kind(kind, memory.when) }
        }
        Meaning::Data(class) => {
            let (bytes_max, network_bytes_max) = match class {
                // What is read from a descriptor that is a socket is network all the same.
                DataClass::File => (kept.of(class), kept.of(DataClass::Network)),
                DataClass::Network => (kept.of(class), 0),
            };
            if bytes_max == 0 && network_bytes_max == 0 {
                return None;
            }
            let is_data = u8::from(class == DataClass::File);
            let kind = of_kind(reading::RESULT, when::POSITIVE);
            Reading { bytes_max, network_bytes_max, is_data, ..kind }
        }
        _ => return None,
    })
}

/// What follows a structure. Only strings have no count.
fn parts_of(layout: Layout, when: u8, abi: Abi) -> Vec<Reading> {
    let offset = |name| structure::offset_of(layout, name, abi).unwrap_or_default() as u8;
    let of_part = |part: &structure::Part| {
        let is_string = part.count.is_none();
        // The pointers in the structures of bpf(2) and clone3(2) are 64 bits everywhere.
        let narrow = abi == Abi::X86 && !structure::has_wide_pointers(layout);
        Reading {
            kind: if is_string { reading::FOLLOW_STRING } else { reading::FOLLOW },
            when,
            part: part.number,
            count_at: part.count.map_or(0, offset),
            pointer_at: offset(part.pointer),
            narrow: u8::from(narrow),
            element_bytes: structure::bytes(part.layout, abi) as u16,
            bytes_max: part.bytes_max,
            ..Reading::default()
        }
    };
    structure::parts(layout).iter().map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use recorder_ebpf::wire::{
        ENTERED_PLACE_MAX, ENTERED_WORDS, RECORD_BYTES_MAX, STRING_BYTES_MAX, plan::special,
    };

    use super::*;
    use crate::event::syscall::by_name;

    const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X86, Abi::Aarch64];

    const ALL: DataKept = DataKept { file_bytes: u16::MAX, network_bytes: u16::MAX };

    fn number(abi: Abi, name: &str) -> i64 {
        (0..512).find(|&nr| lookup(abi, nr).is_some_and(|call| call.name == name)).unwrap()
    }

    /// The plan of a call and what it reads, with the arguments.
    fn plan_of(abi: Abi, name: &str) -> (u64, Vec<(u32, Reading)>) {
        let capture = Capture::new(abi, DataKept::default());
        let index = wire::call_index(number(abi, name), false) as usize;
        read_by(&capture, capture.plans[index])
    }

    fn read_by(capture: &Capture, plan: u64) -> (u64, Vec<(u32, Reading)>) {
        let places = (0..SYSCALL_ATTACHMENTS_MAX as u32)
            .map(|position| plan::attachment(plan, position))
            .filter(|(_, place)| *place != 0);
        let found = places.map(|(arg, place)| (arg, capture.readings[place as usize]));
        (plan & 0xff, found.collect())
    }

    #[test]
    fn what_is_read_of_well_known_calls() {
        let string = Reading { kind: reading::STRING, element_bytes: 1, ..Reading::default() };
        let plain = |args| plan::new(args, special::NONE);
        for abi in [Abi::X86_64, Abi::Aarch64] {
            assert_eq!(plan_of(abi, "openat"), (plain(4), vec![(1, string)]));
            assert_eq!(plan_of(abi, "getpid"), (0, vec![]));
            assert_eq!(plan_of(abi, "read"), (plain(3), vec![]));
            assert_eq!(plan_of(abi, "execve"), (plan::new(3, special::EXEC), vec![(0, string)]));
            assert_eq!(plan_of(abi, "execveat").1, [(1, string)]);
            assert_eq!(plan_of(abi, "exit").0, plan::new(1, special::EXIT));
            assert_eq!(plan_of(abi, "rt_sigreturn"), (plan::new(0, special::SIGRETURN), vec![]));
            assert_eq!(plan_of(abi, "mount").1, [(0, string), (1, string), (2, string)]);
            assert_eq!(plan_of(abi, "renameat2").1, [(1, string), (3, string)]);
            let (accept, read) = plan_of(abi, "accept4");
            assert_eq!(accept, plan::new(4, special::ACCEPT));
            assert_eq!((read[0].1.kind, read[0].1.when), (reading::POINTED, when::SUCCESS));
            let (_, read) = plan_of(abi, "sendmsg");
            let parts: Vec<_> = read.iter().map(|(_, reading)| reading.part).collect();
            assert_eq!(
                (parts, read[3].1.pointer_at, read[3].1.count_at),
                (vec![0, 1, 2, 3], 32, 40)
            );
        }
    }

    #[test]
    fn nothing_of_a_call_is_left_out_and_every_record_fits() {
        for abi in ABIS {
            for call in (0..512).filter_map(|nr| lookup(abi, nr)) {
                let forms = call.forms.map(|forms| forms.rows).unwrap_or_default();
                // A selector takes the last place of the row it stands in.
                let row_max = SYSCALL_ATTACHMENTS_MAX - usize::from(call.forms.is_some());
                let rows = [(call.args, row_max)].into_iter();
                let rows =
                    rows.chain(forms.iter().map(|form| (form.args, SYSCALL_ATTACHMENTS_MAX)));
                for (args, most) in rows {
                    let found = readings(args, abi, ALL);
                    assert!(found.len() <= most, "{}: {found:?}", call.name);
                    let bytes = |(_, reading): &(u8, Reading)| match reading.kind {
                        reading::STRING | reading::FOLLOW_STRING => STRING_BYTES_MAX,
                        _ => usize::from(reading.bytes_max),
                    };
                    let sum: usize =
                        found.iter().map(|found| bytes(found).next_multiple_of(4) + 4).sum();
                    assert!(sum + 104 < RECORD_BYTES_MAX, "{}", call.name);
                    for (arg, reading) in found {
                        assert!(usize::from(arg) < args.len(), "{}", call.name);
                        let of_argument = matches!(
                            reading.kind,
                            reading::ARGUMENT | reading::POINTED | reading::BITS
                        );
                        let count_at = usize::from(reading.count_at);
                        assert!(!of_argument || count_at < args.len(), "{}", call.name);
                        let is_string = reading.kind == reading::STRING
                            || reading.kind == reading::FOLLOW_STRING;
                        assert!(is_string || reading.bytes_max > 0, "{}: {reading:?}", call.name);
                    }
                }
            }
        }
    }

    #[test]
    fn there_is_room_for_all_of_them() {
        for abi in ABIS {
            let capture = Capture::new(abi, ALL);
            assert!(capture.readings.len() <= plan::READINGS_MAX as usize);
            assert!(capture.selected.len() <= plan::SELECTED_MAX as usize);
            assert_eq!(capture.plans.len(), CALLS_MAX as usize);
        }
    }

    /// What is read at entry has room in a slot, whole words of it, and the header of
    /// capabilities comes first: its version says how many there are.
    #[test]
    fn what_is_read_at_entry_has_its_place() {
        let mut count = 0;
        for abi in ABIS {
            for call in (0..512).filter_map(|nr| lookup(abi, nr)) {
                let found = readings(call.args, abi, ALL);
                let entered = found.iter().filter(|(_, reading)| reading.when >= when::ENTERED);
                let mut next = 0;
                for (_, reading) in entered {
                    assert_eq!(reading.entered_at, next, "{}", call.name);
                    assert!(reading.entered_at <= ENTERED_PLACE_MAX, "{}", call.name);
                    assert!(matches!(reading.element_bytes, 4 | 8 | 16), "{}", call.name);
                    assert!(matches!(reading.kind, reading::ONE | reading::BITS), "{}", call.name);
                    next += reading.element_bytes.div_ceil(8) as u8;
                }
                assert!(usize::from(next) <= ENTERED_WORDS, "{}", call.name);
                assert_eq!(next > 0, call.special() == special::ENTERED, "{}", call.name);
                let by_version = found.iter().find(|(_, reading)| reading.kind == reading::VERSION);
                if let Some((_, reading)) = by_version {
                    let header = &found[usize::from(reading.count_at)];
                    assert_eq!((header.1.when, header.1.entered_at), (when::ENTERED, 0));
                }
                // The plan of a form does not say that anything is read then.
                let forms = call.forms.map(|forms| forms.rows).unwrap_or_default();
                let mut args = forms.iter().flat_map(|form| form.args);
                assert!(!args.any(Arg::is_read_at_entry), "{}", call.name);
                count += usize::from(next > 0);
            }
        }
        assert!(count > 20, "{count}");
        let special = |name| plan::is_special_at_entry(plan_of(Abi::X86_64, name).0);
        assert!(["execve", "exit", "select", "sendfile", "capset"].into_iter().all(special));
        assert!(!["read", "accept", "fcntl", "rt_sigreturn", "poll"].into_iter().any(special));
    }

    /// What programs read and write is their own.
    #[test]
    fn data_is_read_only_where_that_is_asked_for() {
        let read = |kept, name| readings(by_name(name).unwrap().args, Abi::X86_64, kept);
        for name in ["read", "write", "pread64", "pwrite64"] {
            assert!(read(DataKept::default(), name).is_empty());
            let kept = DataKept { file_bytes: 64, network_bytes: 0 };
            assert_eq!(read(kept, name)[0].1.bytes_max, 64);
        }
        let kept = DataKept { file_bytes: 0, network_bytes: 9999 };
        assert_eq!(read(kept, "sendto")[0].1.bytes_max, MEMORY_BYTES_MAX as u16);
        // A descriptor may be a socket, and only the kernel knows.
        let read = read(kept, "read")[0].1;
        assert_eq!((read.is_data, read.bytes_max), (1, 0));
        assert_eq!(read.network_bytes_max, MEMORY_BYTES_MAX as u16);
    }

    /// The last place of a row is for the selector, and its form has another plan.
    #[test]
    fn a_form_has_its_own_plan() {
        let capture = Capture::new(Abi::X86_64, DataKept::default());
        let nr = number(Abi::X86_64, "fcntl");
        let index = wire::call_index(nr, false);
        let row = capture.plans[index as usize];
        assert_eq!(
            (plan::special_of(row), plan::selector(row)),
            (special::SELECTED, (1, u32::MAX))
        );
        let form = |value| read_by(&capture, capture.selected[&plan::selected_key(index, value)]);
        assert_eq!(form(1), (2, vec![]), "F_GETFD has two arguments");
        let (count, read) = form(6);
        assert_eq!((count, read[0].0, read[0].1.bytes_max), (3, 2, 32), "F_SETLK");
        let futex = wire::call_index(number(Abi::X86_64, "futex"), false);
        assert_eq!(plan::selector(capture.plans[futex as usize]), (1, 0x7f));
    }

    #[test]
    fn numbers_without_a_table_keep_all_words() {
        let capture = Capture::new(Abi::Aarch64, DataKept::default());
        let compat = &capture.plans[CALLS_COMPAT as usize..];
        assert!(compat.iter().all(|&plan| plan == plan::UNKNOWN), "no table for 32-bit arm");
        let last = wire::call_index(-1, false) as usize;
        assert_eq!(capture.plans[last], plan::UNKNOWN);
    }
}
