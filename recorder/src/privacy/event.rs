//! Masking of whole events: which attachments are strings of a process, and where in
//! them the strings are.

use std::ops::Range;

use super::{Form, Masker, names, text};
use crate::event::{
    ATTACHMENTS_MAX, Attached, Call, Event, Layout, Meaning, structure,
    syscall::{self, Abi},
    wire::{
        ATTACHMENT_FILES, ATTACHMENT_WAIT_CHANNEL, COMM_BYTES, FileHead, SocketHead,
        attachment_flag,
    },
};

/// `AF_UNIX`, include/linux/socket.h.
const FAMILY_UNIX: u16 = 1;

/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const MODE_TYPE: u32 = 0o170_000;
const MODE_SOCKET: u32 = 0o140_000;

/// What an attachment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Nothing a process wrote.
    Nothing,
    /// A path.
    Path,
    /// A string that is none: it may be the name of what the next one is.
    Text,
    /// A list of arguments.
    Arguments,
    /// The name of a thread: it may be the beginning of something longer.
    Comm,
    /// A socket address.
    Address,
    /// Files as the kernel resolved them.
    Files,
    /// A key, all of it.
    Key,
    /// What a program read or wrote, or the beginning of it.
    Data,
}

impl Masker {
    /// The event without its secrets, or `None` where it has none. Attachments that were
    /// masked carry [`attachment_flag::MASKED`]. `native` is the ABI of the host's calls.
    #[inline]
    pub fn event<'m>(&'m mut self, event: &Event<'m>, native: Abi) -> Option<Event<'m>> {
        if event.attached().is_empty() || !self.is_on() {
            return None;
        }
        self.attachments(event, native)
    }

    fn attachments<'m>(&'m mut self, event: &Event<'m>, native: Abi) -> Option<Event<'m>> {
        let mut masked: [Option<Range<usize>>; ATTACHMENTS_MAX] = [const { None }; ATTACHMENTS_MAX];
        self.kept.clear();
        let mut follows_telling = false;
        for (attached, masked) in event.attached().iter().zip(&mut masked) {
            let holds = holds(event, attached, native);
            let start = self.kept.len();
            // `fsconfig(fd, FSCONFIG_SET_STRING, "password", "x")`
            let is_secret = follows_telling && holds == Holds::Text;
            if self.attachment(attached, holds, is_secret) {
                *masked = Some(start..self.kept.len());
            }
            follows_telling = holds == Holds::Text
                && attached.bytes.len() <= names::NAME_BYTES_MAX
                && names::telling(attached.bytes, names::Place::Assignment, &self.rules.words)
                    .is_some();
        }
        if masked.iter().all(Option::is_none) {
            return None;
        }
        let mut event = *event;
        for (place, range) in masked.into_iter().enumerate() {
            let Some(range) = range else { continue };
            event.replace(place, self.kept.get(range).unwrap_or_default());
        }
        Some(event)
    }

    /// The same for files as they are described, one after the other.
    pub fn mask_files(&mut self, files: Vec<u8>) -> Vec<u8> {
        self.kept.clear();
        if self.is_on() && self.files(&files) { self.kept.clone() } else { files }
    }

    /// Puts what is left of an attachment behind what is kept. Answers whether it
    /// differs.
    fn attachment(&mut self, attached: &Attached<'_>, holds: Holds, is_secret: bool) -> bool {
        let bytes = attached.bytes;
        let is_cut = attached.flags & attachment_flag::CUT != 0;
        match holds {
            Holds::Nothing => false,
            Holds::Key if bytes.is_empty() || super::spans::is_masked(bytes) => false,
            Holds::Key => {
                self.privacy.count(super::Secret::Key);
                self.kept.extend_from_slice(super::MARKER);
                true
            }
            Holds::Text if is_secret && !text::is_plain(bytes, super::Secret::Password, false) => {
                self.privacy.count(super::Secret::Password);
                self.kept.extend_from_slice(super::MARKER);
                true
            }
            Holds::Data if is_environment(bytes, is_cut) && !super::spans::is_masked(bytes) => {
                self.privacy.count(super::Secret::Environment);
                self.kept.extend_from_slice(super::MARKER);
                true
            }
            Holds::Path | Holds::Text | Holds::Data => self.keep(bytes, Form::Text, is_cut),
            Holds::Arguments => self.keep(bytes, Form::Arguments, is_cut),
            Holds::Comm => {
                let comm = attached.text();
                self.keep(comm, Form::Text, comm.len() + 1 >= COMM_BYTES)
            }
            Holds::Address => self.address(bytes),
            Holds::Files => self.files(bytes),
        }
    }

    /// Puts the masked string behind what is kept; nothing where it has no secret.
    fn keep(&mut self, bytes: &[u8], form: Form, is_cut: bool) -> bool {
        if self.mask(bytes, form, is_cut).is_none() {
            return false;
        }
        let Masker { bytes, kept, .. } = self;
        kept.extend_from_slice(bytes);
        true
    }

    /// The path of a Unix socket.
    fn address(&mut self, bytes: &[u8]) -> bool {
        let Some((family, path)) = bytes.split_first_chunk::<2>() else { return false };
        if u16::from_ne_bytes(*family) != FAMILY_UNIX {
            return false;
        }
        // An abstract name begins with a NUL and may hold more of them.
        let start = self.kept.len();
        self.kept.extend_from_slice(family);
        let blank = path.iter().take_while(|byte| **byte == 0).count();
        let (blanks, path) = path.split_at(blank);
        self.kept.extend_from_slice(blanks);
        let is_masked = self.keep(path, Form::Text, false);
        if !is_masked {
            self.kept.truncate(start);
        }
        is_masked
    }

    /// Files of a call: each is a head, and behind it names or addresses.
    fn files(&mut self, bytes: &[u8]) -> bool {
        if !self.may_have_secret(bytes, Form::Text) {
            return false;
        }
        let start = self.kept.len();
        let mut is_masked = false;
        let mut rest = bytes;
        while let Some((head, body, next)) = file(rest) {
            self.kept.extend_from_slice(head);
            let at = self.kept.len();
            let differs = self.file_body(head, body);
            if !differs {
                self.kept.truncate(at);
                self.kept.extend_from_slice(body);
            }
            let length = (self.kept.len() - at) as u16;
            let place = at - head.len() + std::mem::offset_of!(FileHead, bytes);
            if let Some(bytes) = self.kept.get_mut(place..place + 2) {
                bytes.copy_from_slice(&length.to_ne_bytes());
            }
            let padded = at + usize::from(length).next_multiple_of(8);
            self.kept.resize(padded, 0);
            is_masked |= differs;
            rest = next;
        }
        if is_masked {
            self.kept.extend_from_slice(rest);
        } else {
            self.kept.truncate(start);
        }
        is_masked
    }

    fn file_body(&mut self, head: &[u8], body: &[u8]) -> bool {
        let mode = half(head, std::mem::offset_of!(FileHead, mode)).unwrap_or_default();
        if mode & MODE_TYPE == MODE_SOCKET {
            let Some((head, addresses)) = body.split_at_checked(size_of::<SocketHead>()) else {
                return false;
            };
            let family = half(head, 0).unwrap_or_default() as u16;
            self.kept.extend_from_slice(head);
            return family == FAMILY_UNIX && self.address(addresses);
        }
        // From the file up to the root; as a path it is the other way round.
        if !self.may_have_secret(body, Form::Text) {
            return false;
        }
        let names = body.strip_suffix(b"\0").unwrap_or(body);
        let path = [b"/", joined(names, 0, b'/').as_slice()].concat();
        let Some(masked) = self.mask(&path, Form::Text, false) else { return false };
        let mut names = joined(masked.strip_prefix(b"/").unwrap_or(masked), b'/', 0);
        names.push(0);
        // What the kernel gave is the most there is room for.
        names.truncate(body.len());
        self.kept.extend_from_slice(&names);
        true
    }
}

/// The parts in the opposite order, with another byte between them.
fn joined(parts: &[u8], between: u8, then: u8) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.len());
    for (place, part) in parts.rsplit(|byte| *byte == between).enumerate() {
        if place > 0 {
            joined.push(then);
        }
        joined.extend_from_slice(part);
    }
    joined
}

/// The next file: its head, its body, and what follows.
fn file(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<FileHead>())?;
    let length = half(head, std::mem::offset_of!(FileHead, bytes))? as u16;
    let (body, next) = rest.split_at_checked(usize::from(length))?;
    let padding = usize::from(length).next_multiple_of(8) - usize::from(length);
    Some((head, body, next.get(padding..).unwrap_or_default()))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Whether an attachment is data of a program: what it read, wrote, sent or received.
pub fn is_payload(event: &Event<'_>, attached: &Attached<'_>, native: Abi) -> bool {
    let Some(call) = Call::of(event) else { return false };
    let row = syscall::lookup(call.abi(native), call.nr());
    let args = row.map(|row| row.args_of(call.args())).unwrap_or_default();
    let arg = args.get(usize::from(attached.index));
    arg.is_some_and(|arg| matches!(arg.meaning, Meaning::Data(_)))
}

fn holds(event: &Event<'_>, attached: &Attached<'_>, native: Abi) -> Holds {
    // Of a call or a fork; no other kind has so many.
    if attached.index == ATTACHMENT_FILES {
        return Holds::Files;
    }
    let Some(call) = Call::of(event) else {
        let schema = event.kind.schema().attachments;
        let meaning = schema.get(usize::from(attached.index)).map(|found| found.meaning);
        return meaning.map_or(Holds::Nothing, holds_of);
    };
    // See `wire::attachment_part`.
    let (place, part) = (attached.index & 7, attached.index >> 3);
    let row = syscall::lookup(call.abi(native), call.nr());
    let args = row.map(|row| row.args_of(call.args())).unwrap_or_default();
    let meaning = args.get(usize::from(place)).map(|arg| arg.meaning);
    match meaning {
        Some(Meaning::Memory(memory)) if part > 0 => {
            let parts = structure::parts(memory.layout);
            let part = parts.iter().find(|one| one.number == part);
            part.map_or(Holds::Nothing, |part| holds_layout(part.layout))
        }
        Some(Meaning::Memory(_)) if place == 3 && is_key(row, call.args()) => Holds::Key,
        // `PR_SET_NAME`: the kernel takes fifteen bytes of it.
        Some(Meaning::Text) if row.is_some_and(|row| row.name == "prctl") => Holds::Comm,
        Some(meaning) if part == 0 => holds_of(meaning),
        // A string in a place that has no meaning in our tables is still one.
        None if attached.index < ATTACHMENT_WAIT_CHANNEL => Holds::Path,
        _ => Holds::Nothing,
    }
}

/// Whether data is an environment that a program copies as it lies in memory: a program
/// that reads one from `/proc`, of which nothing is kept, often writes it somewhere.
fn is_environment(data: &[u8], is_cut: bool) -> bool {
    let is_variable = |part: &[u8]| {
        let name = part.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
        let name = name.count();
        let begins = part.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        begins && part.get(name) == Some(&b'=')
    };
    let mut parts = data.split(|byte| *byte == 0);
    let first = parts.next().unwrap_or_default();
    let is_alone = first.len() == data.len();
    if is_alone {
        // Of one that was cut within its first variable.
        return is_cut && is_variable(first) && memchr::memchr(b'\n', first).is_none();
    }
    parts.any(is_variable)
}

fn holds_of(meaning: Meaning) -> Holds {
    match meaning {
        Meaning::Path => Holds::Path,
        Meaning::Text => Holds::Text,
        Meaning::Data(_) => Holds::Data,
        Meaning::Argv => Holds::Arguments,
        Meaning::Comm => Holds::Comm,
        Meaning::Sockaddr | Meaning::SockaddrOut => Holds::Address,
        Meaning::File => Holds::Files,
        Meaning::Memory(memory) => holds_layout(memory.layout),
        _ => Holds::Nothing,
    }
}

fn holds_layout(layout: Layout) -> Holds {
    match layout {
        Layout::Words => Holds::Path,
        Layout::SocketAddress => Holds::Address,
        _ => Holds::Nothing,
    }
}

/// Whether the value of a `setsockopt(2)` is the key of a cipher: all of it is a secret.
/// Numbers of include/linux/socket.h and include/uapi/linux/tcp.h, Linux 6.18.
fn is_key(row: Option<&syscall::Syscall>, args: &[u64]) -> bool {
    const SOL_TCP: u32 = 6;
    const SOL_ALG: u32 = 279;
    const SOL_TLS: u32 = 282;
    // TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_FASTOPEN_KEY, TCP_AO_ADD_KEY.
    const TCP_KEYS: [u32; 4] = [14, 32, 33, 38];
    let value = |place: usize| args.get(place).copied().unwrap_or_default() as u32;
    row.is_some_and(|row| row.name == "setsockopt")
        && (matches!(value(1), SOL_ALG | SOL_TLS)
            || value(1) == SOL_TCP && TCP_KEYS.contains(&value(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_environment_is_known() {
        for data in [&b"A=1\0B=2\0"[..], b"rt of a value\0HOME=/root\0", b"\0PATH=/bin"] {
            assert!(is_environment(data, false), "{}", data.escape_ascii());
        }
        assert!(is_environment(b"LS_COLORS=rs=0:di=01", true));
        for data in [&b"a=1\nb=2\n"[..], b"GET / HTTP/1.1", b"\0\0\0\x01=", b"", b"x=1"] {
            assert!(!is_environment(data, false), "{}", data.escape_ascii());
        }
    }
}
