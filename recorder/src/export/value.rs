//! What a number or a string of bytes says, by its meaning: one place for text
//! and JSON.

use super::{address, place::AT_FDCWD};
use crate::event::{
    Attached, File, Meaning, names,
    syscall::Abi,
    wire::{attachment_flag, lost},
};

/// A decoded value.
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
    /// The memory could not be read.
    Unreadable,
    /// A string that was not given: its address is 0. Not the string `NULL`.
    Null,
    /// There is nothing.
    Nothing,
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
        Meaning::Path | Meaning::Text if value == 0 => Shown::Null,
        // A pointer whose target was not read, or an address.
        Meaning::Address
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
            let bytes = attached.bytes.strip_suffix(b"\0").unwrap_or(attached.bytes);
            if bytes.is_empty() {
                return Shown::List(Vec::new(), cut);
            }
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
