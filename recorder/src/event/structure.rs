//! The structures that calls take and fill, as one table: members in their order, with
//! the type of C and what it means. Offsets and sizes follow from the ABI.
//!
//! To add one: a name in `Layout` (`recorder_ebpf::schema`), its members here, and the
//! argument in the table of calls. What is no plain list of members (a set of signals,
//! an address, control messages) has its decoder in `export`.

use recorder_ebpf::schema::{Layout, Meaning};

use super::syscall::Abi;

#[path = "structure_table.rs"]
mod table;

/// A type of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `unsigned char`.
    U8,
    /// `short`.
    I16,
    /// `unsigned short`.
    U16,
    /// `int`.
    I32,
    /// `unsigned int`.
    U32,
    /// `long long`.
    I64,
    /// `unsigned long long`.
    U64,
    /// `long`.
    Long,
    /// `unsigned long`, `size_t`.
    Ulong,
    /// A pointer.
    Pointer,
    /// A string in so many bytes.
    Text(u16),
    /// So many bytes that mean nothing.
    Pad(u16),
    /// A structure within.
    Of(Layout),
    /// So many of them.
    Times(Layout, u16),
}

/// One member of a structure.
#[derive(Debug)]
pub struct Member {
    /// Its name in C.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// What it means.
    pub meaning: Meaning,
}

/// What lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Members one after the other, aligned as C does.
    Members(&'static [Member]),
    /// Members without gaps.
    Packed(&'static [Member]),
    /// One value.
    One(Type, Meaning),
    /// So many bytes that are no list of members.
    Whole(u16),
}

/// Bytes and alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    bytes: usize,
    align: usize,
}

impl Size {
    const fn plain(bytes: usize) -> Size {
        Size { bytes, align: bytes }
    }
}

impl Type {
    fn size(self, abi: Abi) -> Size {
        let is_narrow = abi == Abi::X86;
        match self {
            Type::U8 => Size::plain(1),
            Type::I16 | Type::U16 => Size::plain(2),
            Type::I32 | Type::U32 => Size::plain(4),
            // 32-bit x86 aligns them to four.
            Type::I64 | Type::U64 => Size { bytes: 8, align: if is_narrow { 4 } else { 8 } },
            Type::Long | Type::Ulong | Type::Pointer => Size::plain(if is_narrow { 4 } else { 8 }),
            Type::Text(bytes) | Type::Pad(bytes) => Size { bytes: usize::from(bytes), align: 1 },
            Type::Of(layout) => size(layout, abi),
            Type::Times(layout, count) => {
                let one = size(layout, abi);
                Size { bytes: one.bytes * usize::from(count), ..one }
            }
        }
    }

    /// Its bytes.
    pub fn bytes(self, abi: Abi) -> usize {
        self.size(abi).bytes
    }

    /// Whether its numbers have a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, Type::I16 | Type::I32 | Type::I64 | Type::Long)
    }
}

/// A member and where it begins.
pub struct Placed {
    /// The member.
    pub member: &'static Member,
    /// Its offset in bytes.
    pub offset: usize,
}

/// The members of a structure with their offsets.
pub fn placed(body: Body, abi: Abi) -> impl Iterator<Item = Placed> {
    let (members, is_packed) = match body {
        Body::Members(members) => (members, false),
        Body::Packed(members) => (members, true),
        Body::One(..) | Body::Whole(_) => (&[][..], true),
    };
    members.iter().scan(0usize, move |end, member| {
        let size = member.kind.size(abi);
        let align = if is_packed { 1 } else { size.align };
        let offset = end.next_multiple_of(align);
        *end = offset + size.bytes;
        Some(Placed { member, offset })
    })
}

fn size(layout: Layout, abi: Abi) -> Size {
    let body = body(layout, abi);
    match body {
        Body::Whole(bytes) => Size { bytes: usize::from(bytes), align: 1 },
        Body::One(kind, _) => kind.size(abi),
        Body::Members(members) => {
            let align = members.iter().map(|member| member.kind.size(abi).align).max();
            let align = align.unwrap_or(1);
            let last = placed(body, abi).last();
            let end = last.map_or(0, |last| last.offset + last.member.kind.bytes(abi));
            Size { bytes: end.next_multiple_of(align), align }
        }
        Body::Packed(members) => {
            Size { bytes: members.iter().map(|member| member.kind.bytes(abi)).sum(), align: 1 }
        }
    }
}

/// Bytes of one of them in an ABI.
pub fn bytes(layout: Layout, abi: Abi) -> usize {
    size(layout, abi).bytes
}

/// The members of a structure with this name, for people: as in most ABIs.
pub fn members(layout: Layout) -> &'static [Member] {
    match body(layout, Abi::X86_64) {
        Body::Members(members) | Body::Packed(members) => members,
        Body::One(..) | Body::Whole(_) => &[],
    }
}

/// What a layout is made of in an ABI.
pub fn body(layout: Layout, abi: Abi) -> Body {
    table::body(layout, abi)
}

/// The part of a structure that says what the kernel puts where: what stands behind a
/// pointer of it, as an attachment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1: see `wire::attachment_part`.
    pub number: u8,
    /// The member that points to it.
    pub pointer: &'static str,
    /// The member that says how long it is; none for a string.
    pub count: Option<&'static str>,
    /// What lies there.
    pub layout: Layout,
    /// Bytes kept of it at most.
    pub bytes_max: u16,
}

/// What follows a structure.
pub fn parts(layout: Layout) -> &'static [Part] {
    table::parts(layout)
}

/// Whether pointers in a structure have 64 bits in every ABI.
pub fn has_wide_pointers(layout: Layout) -> bool {
    matches!(layout, Layout::CloneArgs | Layout::BpfObject | Layout::BpfRawTracepoint)
}

/// The offset of a member, or of one in a structure within, in bytes.
pub fn offset_of(layout: Layout, name: &str, abi: Abi) -> Option<usize> {
    placed(body(layout, abi), abi).find_map(|placed| match placed.member.kind {
        _ if placed.member.name == name => Some(placed.offset),
        Type::Of(inner) => Some(placed.offset + offset_of(inner, name, abi)?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of(layout: Layout, abi: Abi) -> usize {
        bytes(layout, abi)
    }

    /// Sizes of include/uapi/ and arch/*/include/uapi/ of Linux 6.12, as a compiler for
    /// each ABI gives them.
    #[test]
    fn sizes_are_those_of_c() {
        use Layout::*;
        for (layout, wide, narrow) in [
            (Timespec, 16, 8),
            (Timespec64, 16, 16),
            (Timeval, 16, 8),
            (Itimerval, 32, 16),
            (Itimerspec, 32, 16),
            (Itimerspec64, 32, 32),
            (Timezone, 8, 8),
            (Tms, 32, 16),
            (Timex, 208, 128),
            (Utimbuf, 16, 8),
            (Iovec, 16, 8),
            (Pollfd, 8, 8),
            (Sigset, 8, 8),
            (Sigaction, 32, 20),
            (Sigaltstack, 24, 12),
            (Rlimit, 16, 8),
            (Rlimit64, 16, 16),
            (Usage, 144, 72),
            (Statx, 64, 64),
            (Statfs, 120, 64),
            (Utsname, 390, 390),
            (Sysinfo, 112, 64),
            (Msghdr, 56, 28),
            (Mmsghdr, 64, 32),
            (Linger, 8, 8),
            (Ucred, 12, 12),
            (Termios, 36, 36),
            (Winsize, 8, 8),
            (FileLock, 32, 16),
            (OwnerEx, 8, 8),
            (CloneArgs, 88, 88),
            (OpenHow, 24, 24),
            (MountAttr, 32, 32),
            (SchedAttr, 56, 56),
            (IoUringParams, 120, 120),
            (SockFprog, 16, 8),
            (MqAttr, 64, 32),
            (Sembuf, 6, 6),
            (FutexWaitv, 24, 24),
            (CapHeader, 8, 8),
            (CapData, 12, 12),
        ] {
            assert_eq!(size_of(layout, Abi::X86_64), wide, "{layout:?}");
            assert_eq!(size_of(layout, Abi::Aarch64), wide, "{layout:?} on aarch64");
            assert_eq!(size_of(layout, Abi::X86), narrow, "{layout:?} of 32 bits");
        }
        assert_eq!(size_of(EpollEvent, Abi::X86_64), 12);
        assert_eq!(size_of(EpollEvent, Abi::X86), 12);
        assert_eq!(size_of(EpollEvent, Abi::Aarch64), 16);
        assert_eq!(size_of(FileLock64, Abi::X86), 24);
        assert_eq!(size_of(Statfs64, Abi::X86), 84);
    }

    /// What is read of a `struct stat` ends before its times.
    #[test]
    fn a_stat_is_read_up_to_its_times() {
        assert_eq!(size_of(Layout::Stat, Abi::X86_64), 72);
        assert_eq!(size_of(Layout::Stat, Abi::Aarch64), 72);
        assert_eq!(size_of(Layout::Stat64, Abi::X86), 96);
        assert_eq!(offset_of(Layout::Stat, "st_size", Abi::X86_64), Some(48));
        assert_eq!(offset_of(Layout::Stat, "st_blocks", Abi::X86_64), Some(64));
        assert_eq!(offset_of(Layout::Stat, "st_size", Abi::Aarch64), Some(48));
        assert_eq!(offset_of(Layout::Stat, "st_uid", Abi::Aarch64), Some(24));
        assert_eq!(offset_of(Layout::Stat64, "st_ino", Abi::X86), Some(88));
    }

    #[test]
    fn members_that_are_pointed_from_exist() {
        for layout in table::WITH_PARTS {
            for part in parts(*layout) {
                for abi in [Abi::X86_64, Abi::X86, Abi::Aarch64] {
                    let pointer = offset_of(*layout, part.pointer, abi);
                    assert!(pointer.is_some_and(|at| at + 8 <= 256), "{layout:?} {part:?}");
                    let count = part.count.map(|name| offset_of(*layout, name, abi));
                    assert_ne!(count, Some(None), "{layout:?} {part:?}");
                }
            }
        }
    }
}
