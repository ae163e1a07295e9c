//! What an event is, whoever made it: the kernel, a file, `/proc`.
//!
//! The schema itself stands in `recorder_ebpf::schema`. This module adds the
//! event as a value, the tables of system calls and names, and the classes.
//!
//! Invariant: no input or output, no knowledge of where an event lies.

pub(crate) mod address;
pub mod capture;
pub mod class;
pub mod file;
pub mod form;
pub mod names;
pub mod structure;
pub mod syscall;

pub use class::Class;
pub use file::File;
pub use recorder_ebpf::{
    schema::{
        Attachment as AttachmentSchema, Extent, Field, FlagSet, Kind, KindSchema, Layout, Meaning,
        Memory, record,
    },
    wire,
};
use wire::{SYSCALL_ARGS_MAX, flag};

/// The most numbers an event has: the fixed fields of a system call and its arguments.
pub const NUMBERS_MAX: usize = 3 + SYSCALL_ARGS_MAX;

/// The most attachments an event has: those of a call, and what it left behind or where it
/// waits.
pub const ATTACHMENTS_MAX: usize = wire::SYSCALL_ATTACHMENTS_MAX + 1;

/// Bytes that belong to an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached<'a> {
    /// An argument's number, or the index in the schema.
    pub index: u8,
    /// `wire::attachment_flag` bits.
    pub flags: u8,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// One event. The bytes are borrowed: from the ring, or from a decoded block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// `wire::flag` bits.
    pub flags: u16,
    /// On which CPU.
    pub cpu: u16,
    /// In which process, 0 when in none.
    pub pid: u32,
    /// In which thread, 0 when in none.
    pub tid: u32,
    /// When, `CLOCK_MONOTONIC`.
    pub ts_ns: u64,
    numbers: [u64; NUMBERS_MAX],
    numbers_len: u8,
    attached: [Attached<'a>; ATTACHMENTS_MAX],
    attached_len: u8,
}

impl<'a> Event<'a> {
    /// An event without numbers and attachments.
    pub fn new(kind: Kind, ts_ns: u64) -> Event<'a> {
        Event {
            kind,
            flags: 0,
            cpu: 0,
            pid: 0,
            tid: 0,
            ts_ns,
            numbers: [0; NUMBERS_MAX],
            numbers_len: 0,
            attached: [Attached::default(); ATTACHMENTS_MAX],
            attached_len: 0,
        }
    }

    /// The fields of the kind in the order of the schema, then the arguments of a
    /// system call. Signed fields are sign-extended.
    pub fn numbers(&self) -> &[u64] {
        self.numbers.get(..usize::from(self.numbers_len)).unwrap_or_default()
    }

    /// Number `place`, or 0 where there is none.
    pub fn number(&self, place: usize) -> u64 {
        self.numbers().get(place).copied().unwrap_or_default()
    }

    /// Adds a number; answers whether there was room.
    pub fn push_number(&mut self, number: u64) -> bool {
        match self.numbers.get_mut(usize::from(self.numbers_len)) {
            Some(place) => {
                *place = number;
                self.numbers_len += 1;
                true
            }
            None => false,
        }
    }

    /// What is attached.
    pub fn attached(&self) -> &[Attached<'a>] {
        self.attached.get(..usize::from(self.attached_len)).unwrap_or_default()
    }

    /// The attachment with this index.
    pub fn attachment(&self, index: u8) -> Option<&Attached<'a>> {
        self.attached().iter().find(|attached| attached.index == index)
    }

    /// Adds an attachment; answers whether there was room.
    pub fn attach(&mut self, attached: Attached<'a>) -> bool {
        match self.attached.get_mut(usize::from(self.attached_len)) {
            Some(place) => {
                *place = attached;
                self.attached_len += 1;
                true
            }
            None => false,
        }
    }

    /// The same event, and nothing attached to it.
    pub fn without_attachments(&self) -> Event<'static> {
        Event {
            kind: self.kind,
            flags: self.flags,
            cpu: self.cpu,
            pid: self.pid,
            tid: self.tid,
            ts_ns: self.ts_ns,
            numbers: self.numbers,
            numbers_len: self.numbers_len,
            attached: [Attached::default(); ATTACHMENTS_MAX],
            attached_len: 0,
        }
    }

    /// Other bytes in the place of an attachment, which says then that it was masked.
    pub fn replace(&mut self, place: usize, bytes: &'a [u8]) {
        let attached = self.attached.get_mut(..usize::from(self.attached_len));
        if let Some(attached) = attached.and_then(|attached| attached.get_mut(place)) {
            attached.flags |= wire::attachment_flag::MASKED;
            attached.bytes = bytes;
        }
    }

    /// The name of its thread that came with it from the kernel, as it lies there: an
    /// attachment called `comm`. It is right whatever was lost before the event.
    pub fn comm(&self) -> Option<&Attached<'a>> {
        let attachments = self.kind.schema().attachments;
        let place = attachments.iter().position(AttachmentSchema::is_comm)?;
        self.attachment(place as u8)
    }

    /// Whether a flag of `wire::flag` is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A system call, seen through the names of its fields.
#[derive(Clone, Copy, Debug)]
pub struct Call<'e, 'a> {
    event: &'e Event<'a>,
}

impl<'e, 'a> Call<'e, 'a> {
    /// The event as a call, if it is one.
    pub fn of(event: &'e Event<'a>) -> Option<Call<'e, 'a>> {
        (event.kind == Kind::Syscall).then_some(Call { event })
    }

    /// Its number in its ABI.
    pub fn nr(&self) -> i64 {
        self.event.number(0).cast_signed()
    }

    /// What it returned; meaningless unless [`Call::returned`].
    pub fn ret(&self) -> i64 {
        self.event.number(1).cast_signed()
    }

    /// How long it took, or has lasted; `None` when its entry was not seen, or when it
    /// ends where it begins (`exit`).
    pub fn dur_ns(&self) -> Option<u64> {
        (!self.event.has(flag::NO_ENTRY | flag::NO_RETURN)).then(|| self.event.number(2))
    }

    /// Its arguments.
    pub fn args(&self) -> &'e [u64] {
        self.event.numbers().get(3..).unwrap_or_default()
    }

    /// Whether it has a result at all.
    pub fn returned(&self) -> bool {
        !self.event.has(flag::NO_RETURN | flag::UNFINISHED)
    }

    /// The error it failed with.
    pub fn errno(&self) -> Option<i32> {
        let ret = self.ret();
        (self.returned() && (-4095..0).contains(&ret)).then(|| -ret as i32)
    }

    /// The ABI it was made in.
    pub fn abi(&self, native: syscall::Abi) -> syscall::Abi {
        if self.event.has(flag::COMPAT) { native.compat().unwrap_or(native) } else { native }
    }
}
