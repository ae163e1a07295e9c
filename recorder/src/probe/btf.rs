//! Where fields lie in the running kernel's structures, from its own BTF.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Only what a field's offset
//! needs is read. The input is the kernel's, but nothing here trusts it.

use std::{fmt, fs, io, path::Path};

/// The kernel's BTF could not be used.
#[derive(Debug)]
pub enum BtfError {
    /// The file could not be read; without BTF there is none.
    Read(io::Error),
    /// The bytes are not BTF.
    Format(&'static str),
    /// There is no structure of this name.
    NoStruct(String),
    /// The structure has no such field.
    NoField(String, String),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Read(error) => write!(f, "cannot read the kernel's BTF: {error}"),
            BtfError::Format(what) => write!(f, "the kernel's BTF is not as documented: {what}"),
            BtfError::NoStruct(name) => write!(f, "the kernel has no structure {name}"),
            BtfError::NoField(name, field) => write!(f, "the kernel's {name} has no field {field}"),
        }
    }
}

impl std::error::Error for BtfError {}

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Anonymous members nest this deep at most.
const NESTING_MAX: u32 = 8;

/// Members looked at for one field: the largest structure has a few hundred.
const MEMBERS_MAX: u32 = 100_000;

/// The types of the running kernel.
#[derive(Debug)]
pub struct KernelTypes {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where each type begins in `types`; type 0 is void.
    starts: Vec<u32>,
}

impl KernelTypes {
    /// Reads `/sys/kernel/btf/vmlinux`.
    pub fn of_running_kernel() -> Result<KernelTypes, BtfError> {
        Self::read(Path::new("/sys/kernel/btf/vmlinux"))
    }

    /// Reads the BTF in `path`.
    pub fn read(path: &Path) -> Result<KernelTypes, BtfError> {
        Self::parse(&fs::read(path).map_err(BtfError::Read)?)
    }

    /// Takes BTF apart; any bytes give types or an error.
    pub fn parse(bytes: &[u8]) -> Result<KernelTypes, BtfError> {
        let word = |at: usize| word(bytes, at).ok_or(BtfError::Format("it is cut short"));
        if bytes.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            return Err(BtfError::Format("it does not begin with the magic number"));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            bytes.get(start..start.checked_add(length as usize)?).map(<[u8]>::to_vec)
        };
        let cut = BtfError::Format("a section lies outside the file");
        let types = section(word(8)?, word(12)?).ok_or(cut)?;
        let cut = BtfError::Format("a section lies outside the file");
        let strings = section(word(16)?, word(20)?).ok_or(cut)?;
        let starts = starts(&types)?;
        Ok(KernelTypes { types, strings, starts })
    }

    /// The byte offset of `field`, a path of names such as `thread_info.status`,
    /// in `structure`. Anonymous members are looked through.
    pub fn offset(&self, structure: &str, field: &str) -> Result<u32, BtfError> {
        Ok(self.bit_offset(structure, field)? / 8)
    }

    /// The same in bits, for a field of some bits.
    pub fn bit_offset(&self, structure: &str, field: &str) -> Result<u32, BtfError> {
        let mut id = self
            .find(KIND_STRUCT, structure)
            .ok_or_else(|| BtfError::NoStruct(structure.to_string()))?;
        let mut bits = 0;
        for name in field.split('.') {
            let none = || BtfError::NoField(structure.to_string(), field.to_string());
            let mut members = MEMBERS_MAX;
            let (offset, member) = self.member(id, name, 0, &mut members).ok_or_else(none)?;
            bits = offset.checked_add(bits).ok_or_else(none)?;
            id = member;
        }
        Ok(bits)
    }

    /// Whether the kernel has this tracepoint as a typed one.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.find(KIND_TYPEDEF, &format!("btf_trace_{name}")).is_some()
    }

    /// How many arguments a typed tracepoint hands over.
    pub fn tracepoint_args(&self, name: &str) -> Option<u32> {
        let pointer = self.find(KIND_TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.resolve(pointer)?;
        let function = word(&self.types, self.start(pointer)? + 8)?;
        // The first parameter is the programs' own.
        (self.kind(function)? == KIND_FUNC_PROTO)
            .then(|| self.info(function).map(|info| (info & 0xffff).saturating_sub(1)))?
    }

    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        (1..self.starts.len() as u32)
            .find(|id| self.kind(*id) == Some(kind) && self.name_is(*id, name))
    }

    fn kind(&self, id: u32) -> Option<u32> {
        Some(self.info(id)? >> 24 & 0x1f)
    }

    fn info(&self, id: u32) -> Option<u32> {
        word(&self.types, self.start(id)? + 4)
    }

    fn start(&self, id: u32) -> Option<usize> {
        self.starts.get(id as usize).map(|start| *start as usize)
    }

    fn name_is(&self, id: u32, name: &str) -> bool {
        let Some(offset) = self.start(id).and_then(|start| word(&self.types, start)) else {
            return false;
        };
        self.string_is(offset, name)
    }

    fn string_is(&self, offset: u32, name: &str) -> bool {
        let Some(rest) = self.strings.get(offset as usize..) else { return false };
        rest.get(..name.len()) == Some(name.as_bytes()) && rest.get(name.len()) == Some(&0)
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &str, depth: u32, members: &mut u32) -> Option<(u32, u32)> {
        let id = self.resolve(id)?;
        let kind = self.kind(id)?;
        if depth > NESTING_MAX || (kind != KIND_STRUCT && kind != KIND_UNION) {
            return None;
        }
        let info = self.info(id)?;
        let bit_field = info >> 31 == 1;
        let first = self.start(id)? + 12;
        for place in 0..(info & 0xffff) as usize {
            *members = members.checked_sub(1)?;
            let at = first + place * 12;
            let name_offset = word(&self.types, at)?;
            let member_type = word(&self.types, at + 4)?;
            let mut offset = word(&self.types, at + 8)?;
            if bit_field {
                offset &= 0xff_ffff;
            }
            if name_offset == 0 || self.string_is(name_offset, "") {
                let inner = self.member(member_type, name, depth + 1, members);
                if let Some((inner, found)) = inner {
                    let sum = offset.checked_add(inner);
                    if sum.is_none() {
                        // Of such types no other member is believed either.
                        *members = 0;
                    }
                    return Some((sum?, found));
                }
            } else if self.string_is(name_offset, name) {
                return Some((offset, member_type));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..32 {
            match self.kind(id)? {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = word(&self.types, self.start(id)? + 8)?;
                }
                _ => return Some(id),
            }
        }
        None
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Where each type begins. Type 0 is void and has no bytes.
fn starts(types: &[u8]) -> Result<Vec<u32>, BtfError> {
    let mut starts = vec![u32::MAX];
    let mut at = 0;
    while at < types.len() {
        let info = word(types, at + 4).ok_or(BtfError::Format("a type is cut short"))?;
        let members = (info & 0xffff) as usize;
        let extra = match info >> 24 & 0x1f {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * 12,
            KIND_ENUM | KIND_FUNC_PROTO => members * 8,
            _ => 0,
        };
        starts.push(at as u32);
        at += 12 + extra;
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_btf_is_refused() {
        for bytes in [&b""[..], b"\x9f", b"\x9f\xeb\x01\x00", &[0u8; 64]] {
            assert!(KernelTypes::parse(bytes).is_err(), "{bytes:?}");
        }
        let mut lying = vec![0u8; 24];
        lying[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        lying[4..8].copy_from_slice(&24u32.to_ne_bytes());
        lying[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(KernelTypes::parse(&lying).is_err());
    }

    /// Types with two members: the first is anonymous and of type `of`, the second is
    /// at the last bit there is.
    fn nested(of: u32) -> Vec<u8> {
        let strings = b"\0outer\0last\0";
        let member = [0, of, 1, 7, 1, u32::MAX];
        let words = [[1, 4 << 24 | 2, 0].as_slice(), &member].concat();
        let header = [24, 0, words.len() as u32 * 4, words.len() as u32 * 4, strings.len() as u32];
        let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        btf.extend(header.iter().chain(&words).flat_map(|word| word.to_ne_bytes()));
        btf.extend(strings);
        btf
    }

    /// The sum of two offsets went beyond 32 bits: found by the fuzzer.
    #[test]
    fn offsets_that_cannot_be_are_no_offsets() {
        let types = KernelTypes::parse(&nested(1)).unwrap();
        // Itself in itself, eight deep; the innermost one has the field.
        assert!(types.offset("outer", "last").is_err());
        let types = KernelTypes::parse(&nested(0)).unwrap();
        assert_eq!(types.offset("outer", "last").ok(), Some(u32::MAX / 8));
        assert!(types.offset("outer", "last.last").is_err());
    }

    /// A structure that has itself many times over took for ever.
    #[test]
    fn a_structure_of_structures_is_looked_through_for_a_while() {
        let mut btf = nested(1);
        let member: Vec<u8> = [0u32, 1, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let more = member.repeat(1_000);
        btf[28..32].copy_from_slice(&(4u32 << 24 | 1_002).to_ne_bytes());
        btf.splice(36..36, more.iter().copied());
        let types = 36 - 24 + 1_002 * 12u32;
        btf[12..16].copy_from_slice(&types.to_ne_bytes());
        btf[16..20].copy_from_slice(&types.to_ne_bytes());
        let types = KernelTypes::parse(&btf).unwrap();
        assert!(types.offset("outer", "nothing").is_err());
    }

    #[test]
    fn offsets_of_the_running_kernel_are_found_through_anonymous_members() {
        let Ok(kernel) = KernelTypes::of_running_kernel() else {
            // Not `println!`: what a test that passes prints is never seen.
            let _ = io::Write::write_all(&mut io::stderr(), b"\nSKIPPED: this kernel has no BTF\n");
            return;
        };
        assert_eq!(kernel.offset("task_struct", "thread_info").ok(), Some(0));
        assert!(kernel.offset("sock_common", "skc_num").is_ok());
        assert!(kernel.offset("sock_common", "no_such_field").is_err());
        assert!(kernel.has_tracepoint("sys_enter"));
        assert!(!kernel.has_tracepoint("no_such_tracepoint"));
        assert_eq!(kernel.tracepoint_args("sys_enter"), Some(2));
        assert_eq!(kernel.tracepoint_args("no_such_tracepoint"), None);
    }
}
