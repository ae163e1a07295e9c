//! What a number or a string of bytes says, by its meaning: one place for text
//! and JSON.

use super::structure;
use crate::event::{
    Attached, Event, File, Meaning, address, form, names,
    syscall::{AT_FDCWD, Abi, Arg},
    wire::{attachment_flag, attachment_part, lost},
};

/// A decoded value: a tree, which text and JSON print alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown<'a> {
    /// A number.
    Signed(i64),
    /// A number that is not negative.
    Unsigned(u64),
    /// A word: the name of a flag, a pointer.
    Word(String),
    /// A socket address.
    Address(Vec<u8>),
    /// Bytes of a program or of the file system, at most as UTF-8.
    Bytes(&'a [u8], bool),
    /// Strings one after the other.
    List(Vec<&'a [u8]>, bool),
    /// Values one after the other, and whether there were more.
    Items(Vec<Shown<'a>>, bool),
    /// Members of a structure by name, and whether there were more.
    Structure(Vec<(&'static str, Shown<'a>)>, bool),
    /// A single value behind a pointer.
    Pointee(Box<Shown<'a>>),
    /// The memory could not be read.
    Unreadable,
    /// A string that was not given: its address is 0. Not the string `NULL`.
    Null,
    /// There is nothing.
    Nothing,
}

/// What argument `place` of a call says.
pub(super) fn show_argument<'a>(
    event: &'a Event<'a>,
    args: &[Arg],
    values: &'a [u64],
    place: usize,
    abi: Abi,
) -> Shown<'a> {
    let value = values.get(place).copied().unwrap_or_default();
    let meaning = match args.get(place).map_or(Meaning::Address, |arg| arg.meaning) {
        Meaning::By(choice) => form::chosen(choice, values),
        meaning => meaning,
    };
    match pointed(event, meaning, values, place, abi) {
        Some(pointed) => structure::pointed(&pointed),
        None => show(meaning, value, event.attachment(place as u8), abi),
    }
}

/// What the kernel left in the place of what argument `place` of a call points to, where it
/// may have changed it and that says anything.
pub(super) fn show_left<'a>(
    event: &'a Event<'a>,
    args: &[Arg],
    values: &'a [u64],
    place: usize,
    abi: Abi,
) -> Option<Shown<'a>> {
    let meaning = args.get(place)?.meaning;
    structure::left(&pointed(event, meaning, values, place, abi)?)
}

/// What an argument points to, where that was read and is no string.
fn pointed<'a>(
    event: &'a Event<'a>,
    meaning: Meaning,
    values: &'a [u64],
    place: usize,
    abi: Abi,
) -> Option<structure::Pointed<'a>> {
    let Meaning::Memory(memory) = meaning else { return None };
    let attachment = |part| event.attachment(attachment_part(place as u8, part));
    let attached = attachment(0)?;
    let parts = [None, attachment(1), attachment(2), attachment(3)];
    Some(structure::Pointed { memory, attached, parts, values, abi })
}

/// What a number says. `attached` is what it points to, where that was read.
pub(super) fn show<'a>(
    meaning: Meaning,
    value: u64,
    attached: Option<&Attached<'a>>,
    abi: Abi,
) -> Shown<'a> {
    match attached.map(|attached| show_bytes(meaning, attached)) {
        // No address was given: the pointer says as much.
        Some(Shown::Nothing) | None => {}
        // Nothing lies at 0, and nobody looked there: calls such as `utimensat` take
        // the descriptor alone then.
        Some(Shown::Unreadable) if value == 0 => {}
        Some(shown) => return shown,
    }
    let low = value as u32;
    match meaning {
        Meaning::Number if abi == Abi::X86 => Shown::Signed(i64::from(low.cast_signed())),
        Meaning::Number | Meaning::SyscallResult | Meaning::SyscallNumber => {
            Shown::Signed(value.cast_signed())
        }
        Meaning::Int
        | Meaning::Pid
        | Meaning::Tid
        | Meaning::Uid
        | Meaning::Gid
        | Meaning::Fd
        | Meaning::SockaddrLen => Shown::Signed(i64::from(low.cast_signed())),
        Meaning::DirFd if low.cast_signed() == AT_FDCWD => Shown::Word("AT_FDCWD".to_string()),
        Meaning::DirFd => Shown::Signed(i64::from(low.cast_signed())),
        Meaning::Bytes | Meaning::DurationNs | Meaning::TimeNs => Shown::Unsigned(value),
        Meaning::Signal if low == 0 => Shown::Unsigned(0),
        Meaning::Signal => Shown::Word(names::signal_name(low).into_owned()),
        Meaning::TcpState => Shown::Word(names::tcp_state(low).into_owned()),
        Meaning::Mode if low == 0 => Shown::Word("0".to_string()),
        Meaning::Mode => Shown::Word(format!("0{low:o}")),
        Meaning::LossReason => {
            let name = lost::NAMES.get(value as usize).copied().unwrap_or("unknown");
            Shown::Word(name.to_string())
        }
        Meaning::Flags(set) => {
            let mut text = String::new();
            names::write_flags(set, value, abi, &mut text);
            Shown::Word(text)
        }
        Meaning::Device => Shown::Word(device(low)),
        Meaning::Hex if abi == Abi::X86 => Shown::Word(format!("{low:#x}")),
        Meaning::Hex => Shown::Word(format!("{value:#x}")),
        Meaning::Unsigned if abi == Abi::X86 => Shown::Unsigned(u64::from(low)),
        Meaning::Unsigned => Shown::Unsigned(value),
        Meaning::FileMode => Shown::Word(file_mode(low)),
        Meaning::Limit => Shown::Unsigned(value),
        Meaning::Handler if value == 0 => Shown::Word("SIG_DFL".to_string()),
        Meaning::Handler if value == 1 => Shown::Word("SIG_IGN".to_string()),
        Meaning::Handler if is_no_handler(value, abi) => Shown::Word("SIG_ERR".to_string()),
        Meaning::InetAddress => {
            // In network order, whoever reads it.
            let octets = low.to_le_bytes();
            Shown::Word(std::net::Ipv4Addr::from(octets).to_string())
        }
        Meaning::Path | Meaning::Text | Meaning::Memory(_) if value == 0 => Shown::Null,
        // A pointer whose target was not read, or an address.
        Meaning::Address
        | Meaning::Handler
        | Meaning::By(_)
        | Meaning::Memory(_)
        | Meaning::Data(_)
        | Meaning::Path
        | Meaning::Text
        | Meaning::Comm
        | Meaning::Argv
        | Meaning::File
        | Meaning::Sockaddr
        | Meaning::SockaddrOut => pointer(value),
    }
}

fn pointer(value: u64) -> Shown<'static> {
    if value == 0 { Shown::Word("NULL".to_string()) } else { Shown::Word(format!("{value:#x}")) }
}

/// Whether a handler is what `signal(2)` answers when it fails: -1 in a pointer.
fn is_no_handler(value: u64, abi: Abi) -> bool {
    value == if abi == Abi::X86 { u64::from(u32::MAX) } else { u64::MAX }
}

/// A device as the kernel gives it to programs (include/linux/kdev_t.h).
fn device(number: u32) -> String {
    let major = number >> 8 & 0xfff;
    let minor = number & 0xff | number >> 12 & 0xfff00;
    format!("makedev({major:#x}, {minor:#x})")
}

/// Type, special bits and permissions of a file (include/uapi/linux/stat.h).
fn file_mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o140_000 => "S_IFSOCK",
        0o120_000 => "S_IFLNK",
        0o100_000 => "S_IFREG",
        0o060_000 => "S_IFBLK",
        0o040_000 => "S_IFDIR",
        0o020_000 => "S_IFCHR",
        0o010_000 => "S_IFIFO",
        0 => "",
        other => return format!("0{other:o}|0{:o}", mode & 0o7777),
    };
    let special = [(0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")];
    let set = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, name)| *name);
    let mut words: Vec<&str> = Some(kind).filter(|kind| !kind.is_empty()).into_iter().collect();
    words.extend(set);
    let permissions = format!("0{:o}", mode & 0o777);
    words.push(if mode & 0o777 == 0 { "000" } else { &permissions });
    words.join("|")
}

/// What bytes say.
pub(super) fn show_bytes<'a>(meaning: Meaning, attached: &Attached<'a>) -> Shown<'a> {
    if attached.flags & attachment_flag::UNREADABLE != 0 {
        return Shown::Unreadable;
    }
    let cut = attached.flags & attachment_flag::CUT != 0;
    match meaning {
        Meaning::Sockaddr | Meaning::SockaddrOut => match address::show(attached.bytes) {
            Some(address) => Shown::Address(address),
            None => Shown::Nothing,
        },
        Meaning::Argv => {
            if attached.bytes.is_empty() {
                return Shown::List(Vec::new(), cut);
            }
            let bytes = attached.bytes.strip_suffix(b"\0").unwrap_or(attached.bytes);
            Shown::List(bytes.split(|byte| *byte == 0).collect(), cut)
        }
        Meaning::Comm => Shown::Bytes(attached.text(), cut),
        Meaning::File => match File::first(attached.bytes) {
            Some(file) => Shown::Address(file.name()),
            None => Shown::Nothing,
        },
        _ => Shown::Bytes(attached.bytes, cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One empty argument was shown as none.
    #[test]
    fn lists_of_arguments_have_as_many_as_there_are() {
        let list = |bytes| match show_bytes(Meaning::Argv, &Attached { index: 0, flags: 0, bytes })
        {
            Shown::List(list, false) => list.len(),
            other => panic!("{other:?} is no list"),
        };
        let counts = [&b""[..], b"\0", b"a\0", b"a\0\0", b"\0\0", b"a\0b"].map(list);
        assert_eq!(counts, [0, 1, 1, 2, 2, 2]);
    }
}
