//! What lies in memory, as a tree: by the table of `event::structure`, and by hand what is
//! no list of members. A total function: any bytes give a tree, and what they are too
//! short for is not in it.

use std::fmt::Write as _;

use super::value::{Shown, show};
use crate::event::{
    Attached, Extent, FlagSet, Layout, Meaning, Memory, address, form, names,
    structure::{self, Body, Member, Type},
    syscall::Abi,
    wire::attachment_flag,
};

/// Elements of a list that are shown; more are not recorded of anything but bits.
const ELEMENTS_MAX: usize = 256;

/// What an argument points to.
pub(super) struct Pointed<'e> {
    /// Its meaning.
    pub(super) memory: Memory,
    /// What was read there.
    pub(super) attached: &'e Attached<'e>,
    /// What its structure points to in turn, by part.
    pub(super) parts: [Option<&'e Attached<'e>>; 4],
    /// The arguments of the call.
    pub(super) values: &'e [u64],
    /// Its ABI.
    pub(super) abi: Abi,
}

/// What an argument points to, as a tree.
pub(super) fn pointed<'e>(pointed: &Pointed<'e>) -> Shown<'e> {
    if pointed.attached.flags & attachment_flag::UNREADABLE != 0 {
        return Shown::Unreadable;
    }
    let cut = pointed.attached.flags & attachment_flag::CUT != 0;
    what_lies_there(pointed, pointed.as_passed().0, cut)
}

/// What the kernel left in the place of an argument, where that is told and says anything:
/// of sets of descriptors those that were ready, of anything else what is not as it was.
pub(super) fn left<'e>(pointed: &Pointed<'e>) -> Option<Shown<'e>> {
    let (passed, left) = pointed.as_passed();
    let is_set = pointed.memory.layout == Layout::FdSet;
    if left.is_empty() || left == passed && !is_set {
        return None;
    }
    let is_cut = is_set && pointed.bits().is_some_and(|bits| bits > 8 * left.len());
    Some(what_lies_there(pointed, left, is_cut))
}

impl<'e> Pointed<'e> {
    /// What was passed, and what the kernel left in its place. Of what was not read at entry
    /// nothing is known but what stood there at the end.
    fn as_passed(&self) -> (&'e [u8], &'e [u8]) {
        let bytes = self.attached.bytes;
        if self.attached.flags & attachment_flag::ENTERED == 0 {
            return (bytes, &[]);
        }
        let one = structure::bytes(self.memory.layout, self.abi);
        bytes.split_at_checked(one).unwrap_or((bytes, &[]))
    }

    /// How many bits there are, where another argument says so.
    fn bits(&self) -> Option<usize> {
        match self.memory.extent {
            Extent::Bits(arg) => {
                self.values.get(usize::from(arg)).map(|most| *most as u32 as usize)
            }
            _ => None,
        }
    }
}

fn what_lies_there<'e>(pointed: &Pointed<'e>, bytes: &'e [u8], cut: bool) -> Shown<'e> {
    let Memory { layout, extent, .. } = pointed.memory;
    match layout {
        Layout::SocketValue => {
            let layout = form::socket_layout(pointed.values, bytes.len());
            return match layout {
                Layout::GroupId => elements(layout, bytes, pointed, cut),
                _ => boxed(layout, decode(layout, bytes, pointed, cut)),
            };
        }
        Layout::CpuSet | Layout::FdSet => return bit_numbers(bytes, pointed, cut),
        Layout::CapData => return capability_sets(bytes, pointed.abi),
        Layout::Msghdr => return message(bytes, pointed),
        _ => {}
    }
    match extent {
        Extent::Count(_) | Extent::Result => elements(layout, bytes, pointed, cut),
        _ => boxed(layout, decode(layout, bytes, pointed, cut)),
    }
}

/// A number behind a pointer is marked as one: text writes `[3]`.
fn boxed(layout: Layout, shown: Shown<'_>) -> Shown<'_> {
    match structure::body(layout, Abi::X86_64) {
        Body::One(..) => Shown::Pointee(Box::new(shown)),
        _ if layout == Layout::WaitStatus => Shown::Pointee(Box::new(shown)),
        _ => shown,
    }
}

fn elements<'e>(layout: Layout, bytes: &'e [u8], of: &Pointed<'e>, cut: bool) -> Shown<'e> {
    let one = structure::bytes(layout, of.abi).max(1);
    let mut chunks = bytes.chunks(one).take(ELEMENTS_MAX).peekable();
    let mut list = Vec::new();
    // The first of several messages is the one whose parts were read.
    if layout == Layout::Mmsghdr && chunks.peek().is_some() {
        list.extend(chunks.next().map(|first| first_message(first, of)));
    }
    let rest = chunks.filter(|chunk| chunk.len() == one || !cut);
    list.extend(rest.map(|chunk| decode(layout, chunk, of, false)));
    Shown::Items(list, cut)
}

/// One of a layout.
fn decode<'e>(layout: Layout, bytes: &'e [u8], of: &Pointed<'e>, cut: bool) -> Shown<'e> {
    let abi = of.abi;
    match layout {
        Layout::Sigset => Shown::Word(signal_set(bytes)),
        Layout::WaitStatus => word(bytes, 0).map_or(Shown::Nothing, wait_status),
        Layout::DescriptorPair => {
            let end = |at| word(bytes, at).map(|fd| show(Meaning::Fd, u64::from(fd), None, abi));
            Shown::Items([0, 4].into_iter().filter_map(end).collect(), false)
        }
        Layout::Siginfo => signal_info(bytes, abi),
        Layout::TimespecPair => pair(Layout::Timespec, bytes, of),
        Layout::TimespecPair64 => pair(Layout::Timespec64, bytes, of),
        Layout::TimevalPair => pair(Layout::Timeval, bytes, of),
        Layout::SigsetArgument => sigset_argument(bytes, of),
        Layout::Msghdr => message(bytes, of),
        Layout::SocketAddress => address::show(bytes).map_or(Shown::Nothing, Shown::Address),
        Layout::Words | Layout::ThreadName => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Shown::Bytes(bytes.get(..end).unwrap_or_default(), cut)
        }
        Layout::Ifreq => members(layout, bytes, of, true),
        Layout::Raw | Layout::Controls | Layout::RobustListHead | Layout::SocketValue => {
            Shown::Word(hexadecimal(bytes))
        }
        _ => match structure::body(layout, abi) {
            Body::One(kind, meaning) => number(bytes, 0, kind, abi)
                .map_or(Shown::Nothing, |value| value_of(meaning, value, kind, abi)),
            _ => members(layout, bytes, of, cut),
        },
    }
}

/// The members of a structure, as many as there are bytes for.
fn members<'e>(layout: Layout, bytes: &'e [u8], of: &Pointed<'e>, cut: bool) -> Shown<'e> {
    let abi = of.abi;
    let mut found = Vec::new();
    for placed in structure::placed(structure::body(layout, abi), abi) {
        let end = placed.offset + placed.member.kind.bytes(abi);
        let Some(own) = bytes.get(placed.offset..end) else { break };
        if let Some(shown) = member(layout, placed.member, own, of) {
            found.push((name_of(placed.member), shown));
        }
    }
    if matches!(layout, Layout::Sigaction | Layout::OldSigaction) {
        drop_restorer(&mut found, bytes, layout, abi);
    }
    add_parts(layout, &mut found, of);
    Shown::Structure(found, cut)
}

/// Without `SA_RESTORER` the kernel brings its own code for the way back from a handler
/// (`setup_return`, arch/arm64/kernel/signal.c), and what stands in the place of a pointer
/// to it is whatever lay on the stack.
fn drop_restorer(
    found: &mut Vec<(&'static str, Shown<'_>)>,
    bytes: &[u8],
    layout: Layout,
    abi: Abi,
) {
    const SA_RESTORER: u64 = 0x0400_0000;
    let flags = structure::placed(structure::body(layout, abi), abi)
        .find(|placed| placed.member.name == "sa_flags")
        .and_then(|placed| number(bytes, placed.offset, placed.member.kind, abi));
    if flags.is_some_and(|flags| flags & SA_RESTORER == 0) {
        found.retain(|(name, _)| *name != "sa_restorer");
    }
}

/// The name of a member in C; one is a word of Rust.
fn name_of(member: &Member) -> &'static str {
    if member.name == "type_" { "type" } else { member.name }
}

fn member<'e>(
    layout: Layout,
    member: &'static Member,
    bytes: &'e [u8],
    of: &Pointed<'e>,
) -> Option<Shown<'e>> {
    let abi = of.abi;
    Some(match member.kind {
        Type::Pad(_) => return None,
        Type::Text(_) => decode(Layout::Words, bytes, of, false),
        Type::Of(inner) => decode(inner, bytes, of, false),
        Type::Times(inner, _) => elements(inner, bytes, of, false),
        kind => {
            let value = number(bytes, 0, kind, abi)?;
            if layout == Layout::EpollEvent && member.name == "data" {
                let low = Shown::Unsigned(value & u64::from(u32::MAX));
                return Some(Shown::Structure(
                    vec![("u32", low), ("u64", Shown::Unsigned(value))],
                    false,
                ));
            }
            value_of(member.meaning, value, kind, abi)
        }
    })
}

/// What a structure points to, in the place of its pointer.
fn add_parts<'e>(layout: Layout, found: &mut Vec<(&'static str, Shown<'e>)>, of: &Pointed<'e>) {
    // Those of messages and sets have functions of their own.
    if !matches!(layout, Layout::BpfObject | Layout::BpfRawTracepoint | Layout::CloneArgs) {
        return;
    }
    for part in structure::parts(layout) {
        let Some(attached) = of.parts.get(usize::from(part.number)).copied().flatten() else {
            continue;
        };
        let shown = part_value(part.layout, attached, of);
        if let Some((_, place)) = found.iter_mut().find(|(name, _)| *name == part.pointer) {
            *place = shown;
        }
    }
}

fn part_value<'e>(layout: Layout, attached: &'e Attached<'e>, of: &Pointed<'e>) -> Shown<'e> {
    let cut = attached.flags & attachment_flag::CUT != 0;
    if attached.flags & attachment_flag::UNREADABLE != 0 {
        return Shown::Unreadable;
    }
    match layout {
        Layout::Iovec | Layout::ThreadId => elements(layout, attached.bytes, of, cut),
        Layout::Controls => controls(attached.bytes, of, cut),
        _ => decode(layout, attached.bytes, of, cut),
    }
}

/// What a number in memory says. All its bits count.
fn value_of(meaning: Meaning, value: u64, kind: Type, abi: Abi) -> Shown<'static> {
    let is_wide = kind.bytes(abi) == 8;
    match meaning {
        Meaning::Number => Shown::Signed(value.cast_signed()),
        Meaning::Flags(set) if is_wide => {
            let mut text = String::new();
            names::write_wide_flags(set, value, abi, &mut text);
            Shown::Word(text)
        }
        Meaning::Limit => Shown::Word(limit(value, kind, abi)),
        _ => show(meaning, value, None, abi),
    }
}

/// `RLIM64_INFINITY` is all bits of its type; amounts in KiB as strace writes them.
fn limit(value: u64, kind: Type, abi: Abi) -> String {
    let is_wide = kind.bytes(abi) == 8;
    let infinite = if is_wide { u64::MAX } else { u64::from(u32::MAX) };
    if value == infinite {
        let name = if kind == Type::U64 || is_wide { "RLIM64_INFINITY" } else { "RLIM_INFINITY" };
        return name.to_string();
    }
    if value > 1024 && value.is_multiple_of(1024) {
        return format!("{}*1024", value / 1024);
    }
    value.to_string()
}

/// A number of the type at `at`, widened.
fn number(bytes: &[u8], at: usize, kind: Type, abi: Abi) -> Option<u64> {
    let width = kind.bytes(abi);
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(match (width, kind.is_signed()) {
        (1, _) => u64::from(*bytes.first()?),
        (2, true) => i64::from(i16::from_le_bytes(bytes.try_into().ok()?)).cast_unsigned(),
        (2, false) => u64::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        (4, true) => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)).cast_unsigned(),
        (4, false) => u64::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        _ => u64::from_le_bytes(bytes.try_into().ok()?),
    })
}

/// A number of 32 bits. Both architectures have the low byte first, whoever reads.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn pair<'e>(layout: Layout, bytes: &'e [u8], of: &Pointed<'e>) -> Shown<'e> {
    let one = structure::bytes(layout, of.abi).max(1);
    let mut list = Vec::new();
    for half in bytes.chunks_exact(one) {
        // UTIME_NOW, UTIME_OMIT: include/linux/stat.h.
        let nanoseconds = number(half, one / 2, Type::Long, of.abi);
        list.push(match nanoseconds {
            Some(0x3fff_ffff) if layout != Layout::Timeval => Shown::Word("UTIME_NOW".to_string()),
            Some(0x3fff_fffe) if layout != Layout::Timeval => Shown::Word("UTIME_OMIT".to_string()),
            _ => decode(layout, half, of, false),
        });
    }
    Shown::Items(list, false)
}

/// A set of signals as strace writes it: `[INT CHLD]`, and `~[KILL STOP]` when more are in
/// it than not.
pub(super) fn signal_set(bytes: &[u8]) -> String {
    let mut whole = [0u8; 8];
    let length = bytes.len().min(8);
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    let set = u64::from_le_bytes(whole);
    let all = if length == 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
    let is_most = set.count_ones() as usize > 4 * length;
    let named = if is_most { !set & all } else { set };
    let mut text = if is_most { "~[".to_string() } else { "[".to_string() };
    for signal in (1..=64).filter(|signal| named >> (signal - 1) & 1 != 0) {
        if !text.ends_with('[') {
            text.push(' ');
        }
        let name = names::signal_name(signal);
        text.push_str(name.strip_prefix("SIG").unwrap_or(&name));
    }
    text.push(']');
    text
}

/// The numbers of the bits that are set.
fn bit_numbers<'e>(bytes: &'e [u8], of: &Pointed<'e>, cut: bool) -> Shown<'e> {
    let bits = (0..bytes.len() * 8).take(of.bits().unwrap_or(usize::MAX));
    let is_set = |bit: &usize| bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0);
    let set: Vec<usize> = bits.filter(is_set).collect();
    Shown::Items(set.into_iter().map(|bit| Shown::Unsigned(bit as u64)).collect(), cut)
}

/// Sets of capabilities: each has 32 bits in one structure, and where there is a second one
/// its upper 32 there (`mk_kernel_cap`, kernel/capability.c).
fn capability_sets<'e>(bytes: &'e [u8], abi: Abi) -> Shown<'e> {
    let one = structure::bytes(Layout::CapData, abi);
    let mut found = Vec::new();
    for placed in structure::placed(structure::body(Layout::CapData, abi), abi) {
        let Some(low) = word(bytes, placed.offset) else { break };
        let high = word(bytes, one + placed.offset).unwrap_or_default();
        let mut text = String::new();
        let set = u64::from(low) | u64::from(high) << 32;
        names::write_wide_flags(FlagSet::Capabilities, set, abi, &mut text);
        found.push((placed.member.name, Shown::Word(text)));
    }
    Shown::Structure(found, false)
}

/// How a process ended or stopped (include/uapi/linux/wait.h, bits of wait(2)), in the
/// words of C.
fn wait_status(status: u32) -> Shown<'static> {
    let (low, high) = (status & 0x7f, status >> 8 & 0xff);
    let core = if status & 0x80 != 0 { " && WCOREDUMP(s)" } else { "" };
    let mut text = String::from("{");
    // Writing to a string cannot fail.
    let _ = match (low, status & 0xffff) {
        (_, 0xffff) => write!(text, "WIFCONTINUED(s)"),
        (0, _) => write!(text, "WIFEXITED(s) && WEXITSTATUS(s) == {high}"),
        (0x7f, _) => {
            let name = names::signal_name(high & 0x7f);
            let trap = if high & 0x80 != 0 { " | 0x80" } else { "" };
            write!(text, "WIFSTOPPED(s) && WSTOPSIG(s) == {name}{trap}")
        }
        (signal, _) => {
            let name = names::signal_name(signal);
            write!(text, "WIFSIGNALED(s) && WTERMSIG(s) == {name}{core}")
        }
    };
    text.push('}');
    // What stands above is the event of a tracer.
    if status >> 16 != 0 {
        let _ = write!(text, " | {:#x}", status & 0xffff_0000);
    }
    Shown::Word(text)
}

/// `siginfo_t`: what it holds depends on the signal and on where it came from.
fn signal_info(bytes: &[u8], abi: Abi) -> Shown<'static> {
    let int = |at| word(bytes, at);
    let (Some(signal), Some(code)) = (int(0), int(8)) else { return Shown::Nothing };
    let mut found = vec![("si_signo", show(Meaning::Signal, u64::from(signal), None, abi))];
    const SIGCHLD: u32 = 17;
    let set = if signal == SIGCHLD && code.cast_signed() > 0 {
        FlagSet::ChildCode
    } else {
        FlagSet::SignalCode
    };
    found.push(("si_code", show(Meaning::Flags(set), u64::from(code), None, abi)));
    if let Some(errno) = int(4).filter(|errno| *errno != 0) {
        let name = names::errno_name(errno.cast_signed());
        found.push((
            "si_errno",
            name.map_or(Shown::Unsigned(u64::from(errno)), |name| Shown::Word(name.to_string())),
        ));
    }
    // The union is aligned for its pointers.
    let start = if abi == Abi::X86 { 12 } else { 16 };
    let mut push = |name, meaning, at: usize| {
        if let Some(value) = int(start + at) {
            found.push((name, show(meaning, u64::from(value), None, abi)));
        }
    };
    match (signal, code.cast_signed()) {
        (0, _) => {}
        (SIGCHLD, 1..) => {
            push("si_pid", Meaning::Pid, 0);
            push("si_uid", Meaning::Uid, 4);
            // Killed and stopped by a signal, ended with a number.
            push("si_status", if code == 1 { Meaning::Int } else { Meaning::Signal }, 8);
        }
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV of the kernel.
        (4 | 5 | 7 | 8 | 11, 1..) => {
            let kind = Type::Pointer;
            if let Some(address) = number(bytes, start, kind, abi) {
                found.push(("si_addr", show(Meaning::Address, address, None, abi)));
            }
        }
        // SI_TIMER has the number of a timer there.
        (_, -2) => push("si_timerid", Meaning::Hex, 0),
        _ => {
            push("si_pid", Meaning::Pid, 0);
            push("si_uid", Meaning::Uid, 4);
        }
    }
    Shown::Structure(found, false)
}

/// The set of signals of `pselect6`.
fn sigset_argument<'e>(bytes: &'e [u8], of: &Pointed<'e>) -> Shown<'e> {
    let Shown::Structure(mut found, cut) = members(Layout::SigsetArgument, bytes, of, false) else {
        return Shown::Nothing;
    };
    if let (Some((_, place)), Some(Some(part))) = (found.first_mut(), of.parts.get(1)) {
        *place = match part.flags & attachment_flag::UNREADABLE {
            0 => Shown::Word(signal_set(part.bytes)),
            _ => Shown::Unreadable,
        };
    }
    Shown::Structure(found, cut)
}

/// The first of several messages.
fn first_message<'e>(bytes: &'e [u8], of: &Pointed<'e>) -> Shown<'e> {
    let header = structure::bytes(Layout::Msghdr, of.abi);
    let mut found = vec![("msg_hdr", message(bytes.get(..header).unwrap_or(bytes), of))];
    if let Some(sent) = word(bytes, header) {
        found.push(("msg_len", Shown::Unsigned(u64::from(sent))));
    }
    Shown::Structure(found, false)
}

/// `struct msghdr` with what it points to.
fn message<'e>(bytes: &'e [u8], of: &Pointed<'e>) -> Shown<'e> {
    let Shown::Structure(mut found, cut) = members(Layout::Msghdr, bytes, of, false) else {
        return Shown::Nothing;
    };
    for part in structure::parts(Layout::Msghdr) {
        let Some(attached) = of.parts.get(usize::from(part.number)).copied().flatten() else {
            continue;
        };
        let mut shown = part_value(part.layout, attached, of);
        // A name of no bytes is none.
        if shown == Shown::Nothing {
            shown = Shown::Null;
        }
        if let Some((_, place)) = found.iter_mut().find(|(name, _)| *name == part.pointer) {
            *place = shown;
        }
    }
    Shown::Structure(found, cut)
}

/// Control messages (include/linux/socket.h): length, level, type, and data.
fn controls<'e>(bytes: &'e [u8], of: &Pointed<'e>, cut: bool) -> Shown<'e> {
    let long = Type::Ulong.bytes(of.abi);
    let (head, mut rest, mut list) = (long + 8, bytes, Vec::new());
    while list.len() < ELEMENTS_MAX {
        let Some(length) = number(rest, 0, Type::Ulong, of.abi) else { break };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (Some(level), Some(kind)) = (word(rest, long), word(rest, long + 4)) else { break };
        if length < head {
            break;
        }
        let data = rest.get(head..length.min(rest.len())).unwrap_or_default();
        list.push(control(length, level, kind, data, of));
        // A length near the end of numbers has nothing behind it.
        let next = length.checked_next_multiple_of(long).and_then(|next| rest.get(next..));
        let Some(next) = next else { break };
        rest = next;
    }
    Shown::Items(list, cut)
}

fn control<'e>(
    length: usize,
    level: u32,
    kind: u32,
    data: &'e [u8],
    of: &Pointed<'e>,
) -> Shown<'e> {
    const SOL_SOCKET: u32 = 1;
    let abi = of.abi;
    let word_of = |set, value: u32| show(Meaning::Flags(set), u64::from(value), None, abi);
    let set = match level {
        SOL_SOCKET if kind <= 4 => FlagSet::ControlType,
        SOL_SOCKET => FlagSet::SocketOption,
        0 => FlagSet::IpOption,
        41 => FlagSet::Ipv6Option,
        17 => FlagSet::UdpOption,
        _ => FlagSet::OtherOption,
    };
    let shown = match (level, kind) {
        (SOL_SOCKET, 1) => elements(Layout::Descriptor, data, of, false),
        (SOL_SOCKET, 2) => decode(Layout::Ucred, data, of, false),
        (SOL_SOCKET, 4) => decode(Layout::Descriptor, data, of, false),
        // SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_OLD.
        (SOL_SOCKET, 29) => decode(Layout::Timeval, data, of, false),
        (SOL_SOCKET, 35) => decode(Layout::Timespec, data, of, false),
        _ => Shown::Word(hexadecimal(data)),
    };
    Shown::Structure(
        vec![
            ("cmsg_len", Shown::Unsigned(length as u64)),
            ("cmsg_level", word_of(FlagSet::SocketLevel, level)),
            ("cmsg_type", word_of(set, kind)),
            ("cmsg_data", shown),
        ],
        false,
    )
}

/// Bytes nobody gives a meaning.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::syscall::{changed, changed_bits, written};

    const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X86, Abi::Aarch64];

    /// Every layout, as far as it has a name in a table of calls.
    fn layouts() -> Vec<Memory> {
        let mut found = Vec::new();
        for abi in ABIS {
            for row in (0..512).filter_map(|nr| crate::event::syscall::lookup(abi, nr)) {
                let forms = row.forms.map(|forms| forms.rows).unwrap_or_default();
                for args in std::iter::once(row.args).chain(forms.iter().map(|form| form.args)) {
                    found.extend(args.iter().filter_map(|arg| match arg.meaning {
                        Meaning::Memory(memory) => Some(memory),
                        _ => None,
                    }));
                }
            }
        }
        found
    }

    fn shown_with<'e>(
        memory: Memory,
        attached: &'e Attached<'e>,
        parts: [Option<&'e Attached<'e>>; 4],
        values: &'e [u64],
        abi: Abi,
    ) -> Shown<'e> {
        let of = Pointed { memory, attached, parts, values, abi };
        assert!(left(&of).is_none_or(|shown| text(&shown).len() < 200_000));
        pointed(&of)
    }

    fn memory_of(meaning: Meaning) -> Memory {
        match meaning {
            Meaning::Memory(memory) => memory,
            other => panic!("{other:?} is no memory"),
        }
    }

    fn text(shown: &Shown<'_>) -> String {
        let mut text = String::new();
        super::super::text::push(shown, &mut text);
        text
    }

    fn one(layout: Layout, bytes: &[u8], abi: Abi) -> String {
        let attached = Attached { index: 0, flags: 0, bytes };
        text(&shown_with(memory_of(written(layout)), &attached, [None; 4], &[], abi))
    }

    /// Whatever lies there, and however little of it.
    #[test]
    fn any_bytes_are_survived() {
        let mut bytes = [0u8; 300];
        for (seed, memory) in (0u32..).zip(layouts()) {
            for fill in 0u32..4 {
                for (place, byte) in bytes.iter_mut().enumerate() {
                    *byte = match fill {
                        0 => 0,
                        1 => 0xff,
                        _ => (seed.wrapping_mul(2_654_435_761).wrapping_add(fill * 97)
                            ^ (place as u32 * 31))
                            .wrapping_mul(40_503)
                            .to_le_bytes()[1],
                    };
                }
                for length in (0..64).chain([96, 120, 128, 255, 300]) {
                    let entered = attachment_flag::ENTERED * (length & 1) as u8;
                    let flags = (length % 3) as u8 | entered;
                    let attached = Attached { index: 0, flags, bytes: &bytes[..length] };
                    let parts = [None, Some(&attached), Some(&attached), Some(&attached)];
                    for abi in ABIS {
                        let values = [1, 6, 11, u64::MAX, 5, 6];
                        let shown = shown_with(memory, &attached, parts, &values, abi);
                        assert!(text(&shown).len() < 200_000, "{memory:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn structures_are_written_as_strace_writes_them() {
        let words = |values: &[u64]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let wide = |layout, values: &[u64]| one(layout, &words(values), Abi::X86_64);
        assert_eq!(wide(Layout::Timespec, &[1, 5]), "{tv_sec=1, tv_nsec=5}");
        assert_eq!(
            wide(Layout::Rlimit64, &[8 << 20, u64::MAX]),
            "{rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}"
        );
        assert_eq!(
            wide(Layout::Sigaction, &[1, 0x1400_0000, 0x7f00, 1 << 16]),
            "{sa_handler=SIG_IGN, sa_flags=SA_RESTORER|SA_RESTART, sa_restorer=0x7f00, \
             sa_mask=[CHLD]}"
        );
        // As the C library of aarch64 leaves it; the kernel does not look.
        let stack = [1, 0x1000_0000, 0xd877_0621_91b0_0000, 1 << 16];
        assert_eq!(
            one(Layout::Sigaction, &words(&stack), Abi::Aarch64),
            "{sa_handler=SIG_IGN, sa_flags=SA_RESTART, sa_mask=[CHLD]}"
        );
        assert_eq!(one(Layout::DescriptorPair, &[3, 0, 0, 0, 4, 0, 0, 0], Abi::X86_64), "[3, 4]");
        assert_eq!(one(Layout::IntValue, &[0xff; 4], Abi::X86_64), "[-1]");
        let halves: Vec<u8> = [1i32, -1].iter().flat_map(|half| half.to_le_bytes()).collect();
        // A 32-bit program has another structure of this name.
        assert_eq!(one(Layout::Timespec, &halves, Abi::X86), "{tv_sec=1, tv_nsec=-1}");
        let event = [1u8, 0, 0, 0x80, 5, 0, 0, 0, 1, 0, 0, 0];
        let expected = "{events=EPOLLIN|EPOLLET, data={u32=5, u64=4294967301}}";
        assert_eq!(one(Layout::EpollEvent, &event, Abi::X86_64), expected);
    }

    /// CAP_PERFMON, CAP_BPF and CAP_CHECKPOINT_RESTORE are above the first 32.
    #[test]
    fn both_halves_of_capabilities_are_one_set() {
        let sets: Vec<u8> =
            [1u32, 0x21, 0, 1 << 6 | 1 << 7 | 1 << 8, 1 << 31, 0].map(u32::to_le_bytes).concat();
        assert_eq!(
            one(Layout::CapData, &sets, Abi::X86_64),
            "{effective=1<<CAP_CHOWN|1<<CAP_PERFMON|1<<CAP_BPF|1<<CAP_CHECKPOINT_RESTORE, \
             permitted=1<<CAP_CHOWN|1<<CAP_KILL|0x8000000000000000, inheritable=0}"
        );
        // Version 1, and files of before have the first of them.
        let low = "{effective=1<<CAP_CHOWN, permitted=1<<CAP_CHOWN|1<<CAP_KILL, inheritable=0}";
        assert_eq!(one(Layout::CapData, &sets[..12], Abi::X86_64), low);
    }

    /// The time of a `select` and its sets as they were passed, and what came of them.
    #[test]
    fn what_was_passed_and_what_was_left_are_told_apart() {
        let of = |bytes: &[u8], flags, meaning, values: &[u64]| {
            let attached = Attached { index: 1, flags, bytes };
            let memory = memory_of(meaning);
            let parts = [None; 4];
            let of = Pointed { memory, attached: &attached, parts, values, abi: Abi::X86_64 };
            (text(&pointed(&of)), left(&of).map(|shown| text(&shown)))
        };
        let entered = attachment_flag::ENTERED;
        let words = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let time = changed(Layout::Timeval);
        let shown = |sec, usec| format!("{{tv_sec={sec}, tv_usec={usec}}}");
        let both = of(&words(&[1, 0, 0, 999_999]), entered, time, &[]);
        assert_eq!(both, (shown(1, 0), Some(shown(0, 999_999))));
        assert_eq!(of(&words(&[1, 0]), entered, time, &[]), (shown(1, 0), None));
        // The kernel left it alone.
        assert_eq!(of(&words(&[1, 0, 1, 0]), entered, time, &[]), (shown(1, 0), None));
        // Files of before have what was left, and nothing else.
        assert_eq!(of(&words(&[0, 5]), 0, time, &[]), (shown(0, 5), None));

        let set = changed_bits(Layout::FdSet, 0);
        let list = |text: &str| text.to_string();
        let of_set = |bytes: &[u64], flags, count| of(&words(bytes), flags, set, &[count]);
        assert_eq!(of_set(&[0x18], entered, 5), (list("[3, 4]"), None));
        assert_eq!(of_set(&[0x18, 8], entered, 5), (list("[3, 4]"), Some(list("[3]"))));
        assert_eq!(of_set(&[0x18, 0x18], entered, 4), (list("[3]"), Some(list("[3]"))));
        let cut = entered | attachment_flag::CUT;
        assert_eq!(of_set(&[1, 1, 2], cut, 128), (list("[0, ...]"), Some(list("[0, 65]"))));
        assert_eq!(of_set(&[1, 1], cut, 128), (list("[0, ...]"), Some(list("[0, ...]"))));
        assert_eq!(of_set(&[], entered, 0), (list("[]"), None));
    }

    #[test]
    fn ends_are_written_as_strace_writes_them() {
        let status = |status: u32| one(Layout::WaitStatus, &status.to_le_bytes(), Abi::X86_64);
        assert_eq!(status(0), "[{WIFEXITED(s) && WEXITSTATUS(s) == 0}]");
        assert_eq!(status(0x300), "[{WIFEXITED(s) && WEXITSTATUS(s) == 3}]");
        assert_eq!(status(9), "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}]");
        assert_eq!(status(0x8b), "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}]");
        assert_eq!(status(0x137f), "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}]");
        assert_eq!(status(0xffff), "[{WIFCONTINUED(s)}]");
        assert_eq!(status(0x3_057f), "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP} | 0x30000]");
    }

    #[test]
    fn sets_of_signals_are_short_either_way() {
        assert_eq!(signal_set(&0u64.to_le_bytes()), "[]");
        assert_eq!(signal_set(&0x1_0002u64.to_le_bytes()), "[INT CHLD]");
        assert_eq!(signal_set(&u64::MAX.to_le_bytes()), "~[]");
        assert_eq!(signal_set(&(!0x4_0100u64).to_le_bytes()), "~[KILL STOP]");
        assert_eq!(signal_set(&[0xff, 0xff, 0xff, 0xff]), "~[]");
        assert_eq!(signal_set(&[]), "[]");
    }

    #[test]
    fn control_messages_that_lie_about_their_length_end_the_list() {
        let memory = memory_of(written(Layout::Msghdr));
        let mut bytes = vec![0u8; 56];
        let attached = Attached { index: 1, flags: 0, bytes: &bytes.split_off(0) };
        for length in [0u64, 15, 16, 17, 20, 24, 1 << 40, u64::MAX] {
            let mut control = length.to_le_bytes().to_vec();
            control.extend([1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
            let part = Attached { index: 25, flags: 0, bytes: &control };
            let parts = [None, None, None, Some(&part)];
            let shown = text(&shown_with(memory, &attached, parts, &[], Abi::X86_64));
            assert_eq!(shown.contains("SCM_RIGHTS"), length >= 16, "{length}: {shown}");
        }
    }
}
