//! Units of systemd: the first name of a path that is no slice, if it is a unit's
//! (systemd's documentation, "The New Control Group Interfaces").

/// The units of a path.
pub(super) struct Units {
    /// The unit of the system's service manager.
    pub(super) unit: Vec<u8>,
    /// Where it stands.
    pub(super) place: usize,
    /// Within it that of a user's, and where it stands.
    pub(super) user_unit: Option<(Vec<u8>, usize)>,
}

/// The longest name of a unit (systemd's `UNIT_NAME_MAX`).
const UNIT_BYTES_MAX: usize = 255;

/// What runtimes put between a container's group and that of its first process.
const WRAPPERS: [&[u8]; 3] = [b"payload", b"ns", b"container"];

/// The units that these names say. `in_container`: they begin within a container, whose
/// runtime may have put a group of its own there.
pub(super) fn find(names: &[&[u8]], in_container: bool) -> Option<Units> {
    let is_wrapped = in_container && names.first().is_some_and(|name| WRAPPERS.contains(name));
    let from = usize::from(is_wrapped);
    let place = from + first_unit(names.get(from..)?)?;
    let unit = name_of(names.get(place)?);
    let is_user_manager = unit.starts_with(b"user@") && unit.ends_with(b".service");
    let below = names.get(place + 1..).filter(|_| is_user_manager);
    let user_unit = below.and_then(|below| {
        let within = first_unit(below)?;
        Some((name_of(below.get(within)?), place + 1 + within))
    });
    Some(Units { unit, place, user_unit })
}

/// The place behind the slices, if a unit is there.
fn first_unit(names: &[&[u8]]) -> Option<usize> {
    let place = names.iter().position(|name| !name.ends_with(b".slice"))?;
    names.get(place).filter(|name| is_unit(name)).map(|_| place)
}

/// Whether this is the name of a unit that can have processes and is no slice.
fn is_unit(name: &[u8]) -> bool {
    const KINDS: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(byte);
    let base = KINDS.iter().find_map(|kind| name.strip_suffix(*kind));
    base.is_some_and(|base| !base.is_empty() && !base.starts_with(b"@"))
        && name.len() <= UNIT_BYTES_MAX
        && name.iter().all(is_fine)
}

/// The unit of a group: systemd puts `_` before a name that would otherwise be one of
/// the kernel's own files.
fn name_of(group: &[u8]) -> Vec<u8> {
    group.strip_prefix(b"_").unwrap_or(group).to_vec()
}

/// A name within the name of a unit: `\x2d` is a dash there, and `-` is a slash, which no
/// name of a machine has.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let byte = (*first == b'\\').then(|| {
            let digits = behind.strip_prefix(b"x")?.get(..2)?;
            let are_digits = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(digits).ok().filter(|_| are_digits)?;
            u8::from_str_radix(digits, 16).ok()
        });
        if let Some(Some(byte)) = byte {
            plain.push(byte);
            rest = behind.get(3..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}
