//! What the path of a control group says of those in it: their container, pod and unit.
//!
//! A path is the only thing about a container that the kernel knows. Whoever starts one
//! has a way of naming its group, and these ways are all that is known here: a path that
//! follows none of them says nothing, and what it does not say is left out.
//!
//! Invariant: no input, no output; any bytes are a path.

mod container;
#[cfg(test)]
mod paths;
mod unit;

pub use container::{Container, Pod};

/// Bytes of a path that are looked at: the kernel's own bound for what it shows
/// (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;

/// The most names of a path that are looked at. Containers within containers within pods
/// have a dozen.
const NAMES_MAX: usize = 64;

/// Whose the processes of a group are, as far as its path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// The innermost container.
    pub container: Option<Container>,
    /// The innermost pod of Kubernetes.
    pub pod: Option<Pod>,
    /// The innermost unit of a service manager, of the host's or of the container's own.
    /// As systemd writes it, escapes and all. That of a container's scope is left out:
    /// it says no more than the container.
    pub unit: Option<Vec<u8>>,
    /// The unit of a user's service manager, within `unit`.
    pub user_unit: Option<Vec<u8>>,
}

/// A group of one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The number of the hierarchy; 0 is that of version 2.
    pub hierarchy: u32,
    /// Its controllers or its name, as `/proc/PID/cgroup` has them; empty for version 2,
    /// and where it is not known.
    pub controllers: &'a [u8],
    /// The path from the root of the hierarchy.
    pub path: &'a [u8],
}

impl<'a> Group<'a> {
    /// A line of `/proc/PID/cgroup`: cgroups(7).
    pub fn parse(line: &'a [u8]) -> Option<Group<'a>> {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let hierarchy = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let controllers = parts.next()?;
        let path = parts.next()?;
        // What the kernel adds once a group is removed and its last process is not yet.
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let is_path = path.starts_with(b"/") && path.len() <= PATH_BYTES_MAX;
        is_path.then_some(Group { hierarchy, controllers, path })
    }

    /// Which hierarchy is asked first. Every one of them may be managed by somebody else,
    /// and the others then have the path of whoever started that one: version 2 first,
    /// because it is alone where it is used; then the one service managers keep, then
    /// those which runtimes need for limits.
    fn rank(&self) -> usize {
        const ORDER: [&[u8]; 8] = [
            b"name=systemd",
            b"pids",
            b"memory",
            b"cpu",
            b"devices",
            b"freezer",
            b"blkio",
            b"cpuset",
        ];
        if self.hierarchy == 0 {
            return 0;
        }
        let mut controllers = self.controllers.split(|byte| *byte == b',');
        let place = |name: &[u8]| ORDER.iter().position(|known| *known == name);
        controllers.by_ref().filter_map(place).min().map_or(ORDER.len() + 1, |place| place + 1)
    }
}

impl Attribution {
    /// What one path says.
    pub fn of_path(path: &[u8]) -> Attribution {
        let path = path.get(..path.len().min(PATH_BYTES_MAX)).unwrap_or_default();
        // A group outside of the namespace it is looked at from begins with `..`.
        let names = path.split(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty() && *name != b"..");
        let names: Vec<&[u8]> = names.take(NAMES_MAX).collect();
        let mut found = Attribution::default();
        let mut begins = 0;
        for place in 0..names.len() {
            if let Some(pod) = Pod::of(&names, place) {
                found.pod = Some(pod);
            }
            if let Some(container) = Container::of(&names, place) {
                let (outside, inside) = (&names, place + 1);
                found.take_units(outside.get(begins..inside).unwrap_or_default(), begins > 0, true);
                found.container = Some(container);
                begins = inside;
            }
        }
        found.take_units(names.get(begins..).unwrap_or_default(), begins > 0, false);
        found
    }

    /// What the names between two containers say of units. `in_container`: they begin
    /// behind one; `to_container`: the last one is one.
    fn take_units(&mut self, names: &[&[u8]], in_container: bool, to_container: bool) {
        let Some(units) = unit::find(names, in_container) else { return };
        let is_containers = |unit: &[u8], place: usize| {
            to_container && place + 1 == names.len() && unit.ends_with(b".scope")
        };
        if is_containers(&units.unit, units.place) {
            return;
        }
        let user_unit = units.user_unit.filter(|(unit, place)| !is_containers(unit, *place));
        self.unit = Some(units.unit);
        self.user_unit = user_unit.map(|(unit, _)| unit);
    }

    /// What the groups of one process say together. Each hierarchy may say something:
    /// container and pod belong together and are those of the first that knows a
    /// container, the unit is that of the first that knows one.
    pub fn of_groups<'a>(groups: impl Iterator<Item = Group<'a>>) -> Attribution {
        let mut groups: Vec<Group<'a>> = groups.collect();
        groups.sort_by_key(|group| (group.rank(), group.hierarchy));
        // Mostly all of them have one path.
        groups.dedup_by_key(|group| group.path);
        let mut all = Attribution::default();
        for group in groups {
            let said = Attribution::of_path(group.path);
            if all.container.is_none() && said.container.is_some() {
                (all.container, all.pod) = (said.container, said.pod);
            } else if all.container.is_none() && all.pod.is_none() {
                all.pod = said.pod;
            }
            if all.unit.is_none() {
                (all.unit, all.user_unit) = (said.unit, said.user_unit);
            }
        }
        all
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.container.is_none() && self.pod.is_none() && self.unit.is_none()
    }
}

/// Whether these are so many hexadecimal digits, as programs write them.
fn is_hex(text: &[u8], digits: usize) -> bool {
    text.len() == digits && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is a UUID, as programs write it.
fn is_uuid(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'-');
    let digits = [8, 4, 4, 4, 12];
    digits.iter().all(|digits| parts.next().is_some_and(|part| is_hex(part, *digits)))
        && parts.next().is_none()
}
