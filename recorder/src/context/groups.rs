//! Which control groups processes are in.
//!
//! A process has one group in each hierarchy. All its threads are taken to be where its
//! leader is: a thread that was moved alone, which version 1 and threaded groups of
//! version 2 allow, still belongs to its process' container and unit. A child is where its
//! maker was, in version 2 wherever the kernel says. Paths are kept for as long as a
//! process has them, whatever became of the group.

#[cfg(feature = "capture")]
mod seed;
#[cfg(test)]
mod tests;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use super::Processes;
use crate::{
    cgroup::{Attribution, Group, PATH_BYTES_MAX},
    event::{
        Attached, Event, Kind,
        wire::{group_change, shared},
    },
};

#[cfg(feature = "capture")]
pub use seed::scan_groups;

/// Index of the groups among the attachments of [`Kind::Process`].
pub(super) const ATTACHMENT_CGROUPS: u8 = 4;

/// Hierarchies there can be: version 2, and one for each controller or name of version 1,
/// of which the kernel has 14.
const HIERARCHIES_MAX: usize = 64;

/// Bytes of the groups of one process as text: every controller's with a path as long as
/// the kernel traces them (1,024).
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What an entry of a table takes beside its bytes, about.
const ENTRY_BYTES: u64 = 64;

/// What the place of a process takes.
const PLACE_BYTES: u64 = size_of::<Place>() as u64 + ENTRY_BYTES;

/// Entries beside those that are needed, before the others are looked for.
const SLACK: usize = 1_024;

/// The groups of a process, in all hierarchies.
#[derive(Debug)]
pub struct Membership {
    /// Lines as in `/proc/PID/cgroup`, in the order of the hierarchies' numbers.
    text: Vec<u8>,
    /// What they say, once somebody has asked.
    said: OnceLock<Attribution>,
}

impl Membership {
    /// The groups, one a line, as `/proc/PID/cgroup` has them. Groups that are the root of a
    /// hierarchy of version 1 are left out.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The groups one by one.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        groups_in(&self.text)
    }

    /// Container, pod and unit.
    pub fn attribution(&self) -> &Attribution {
        self.said.get_or_init(|| Attribution::of_groups(self.groups()))
    }

    fn bytes(&self) -> u64 {
        // The text twice: what it says is made of its parts.
        ENTRY_BYTES + size_of::<Membership>() as u64 + 2 * self.text.len() as u64
    }
}

/// A membership in the table of all of them, which is by its text.
#[derive(Clone, Debug)]
struct Interned(Arc<Membership>);

impl Borrow<[u8]> for Interned {
    fn borrow(&self) -> &[u8] {
        &self.0.text
    }
}

impl PartialEq for Interned {
    fn eq(&self, other: &Interned) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Interned {}

impl PartialOrd for Interned {
    fn partial_cmp(&self, other: &Interned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interned {
    fn cmp(&self, other: &Interned) -> std::cmp::Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

/// Where a process is.
#[derive(Clone, Debug)]
struct Place {
    groups: Arc<Membership>,
    /// When this was learnt.
    as_of_ns: u64,
}

/// The groups of the host and who is in them.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Controllers or names of hierarchies.
    hierarchies: BTreeMap<u32, Vec<u8>>,
    /// Paths of version 2 by id.
    paths: BTreeMap<u64, Vec<u8>>,
    /// By process.
    places: BTreeMap<u32, Place>,
    interned: BTreeSet<Interned>,
    /// The newest time of an event or fact that is in `paths`.
    as_of_ns: u64,
    bytes: u64,
    bytes_max: u64,
    cut: u64,
    /// How many memberships, and places, there may be before those nobody needs are
    /// dropped.
    interned_due: usize,
    places_due: usize,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups {
            hierarchies: BTreeMap::new(),
            paths: BTreeMap::new(),
            places: BTreeMap::new(),
            interned: BTreeSet::new(),
            as_of_ns: 0,
            bytes: 0,
            bytes_max: u64::MAX,
            cut: 0,
            interned_due: SLACK,
            places_due: SLACK,
        }
    }
}

impl Groups {
    /// The groups of a process.
    pub fn of_process(&self, pid: u32) -> Option<&Membership> {
        self.places.get(&pid).map(|place| place.groups.as_ref())
    }

    /// Controllers or name of a hierarchy, as `/proc/PID/cgroup` has them.
    pub fn controllers(&self, hierarchy: u32) -> &[u8] {
        self.hierarchies.get(&hierarchy).map(Vec::as_slice).unwrap_or_default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Groups and processes that were left out for want of room.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Takes at most `bytes_max` from now on; what does not fit leaves and is counted.
    pub(super) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        if self.bytes > bytes_max {
            self.sweep_interned();
        }
        while self.bytes > bytes_max && !self.places.is_empty() {
            // Several go before it is known how much their groups took.
            for _ in 0..=self.places.len() / 16 {
                if self.places.pop_last().is_some() {
                    self.bytes -= PLACE_BYTES;
                    self.cut += 1;
                }
            }
            self.sweep_interned();
        }
        while self.bytes > bytes_max {
            let Some((_, path)) = self.paths.pop_last() else { break };
            self.bytes -= ENTRY_BYTES + path.len() as u64;
            self.cut += 1;
        }
    }

    /// Whether so many bytes more fit; where not, that is counted.
    fn takes(&mut self, bytes: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= self.bytes_max;
        if fits {
            self.bytes += bytes;
        } else {
            self.cut += 1;
        }
        fits
    }

    /// What is known of a hierarchy. `line` is one of `/proc/PID/cgroup`.
    pub(super) fn learn_hierarchy(&mut self, line: Group<'_>) {
        let name = line.controllers.get(..line.controllers.len().min(256)).unwrap_or_default();
        let is_new = !self.hierarchies.contains_key(&line.hierarchy);
        // They are few, and are not counted.
        if is_new && self.hierarchies.len() < HIERARCHIES_MAX {
            self.hierarchies.insert(line.hierarchy, name.to_vec());
        }
    }

    /// The path of a group of version 2, known at `as_of_ns`.
    pub(super) fn learn_path(&mut self, id: u64, path: &[u8], as_of_ns: u64) {
        self.as_of_ns = self.as_of_ns.max(as_of_ns);
        if id == 0 || !path.starts_with(b"/") || self.paths.contains_key(&id) {
            return;
        }
        let path = path.get(..path.len().min(PATH_BYTES_MAX)).unwrap_or_default();
        if self.takes(ENTRY_BYTES + path.len() as u64) {
            self.paths.insert(id, path.to_vec());
        }
    }

    fn forget_path(&mut self, id: u64) {
        if let Some(path) = self.paths.remove(&id) {
            self.bytes -= ENTRY_BYTES + path.len() as u64;
        }
    }

    /// Where a process was at `as_of_ns`: text of `/proc/PID/cgroup`.
    pub(super) fn seed(&mut self, pid: u32, text: &[u8], as_of_ns: u64) {
        let groups: BTreeMap<u32, Group<'_>> =
            groups_in(text).map(|group| (group.hierarchy, group)).collect();
        self.put(pid, &text_of(groups.values().copied()), as_of_ns);
    }

    /// Sets where a process is, unless something newer is known.
    fn put(&mut self, pid: u32, text: &[u8], as_of_ns: u64) {
        let Some(groups) = self.intern(text) else {
            // Not where it was, and where it is has no room.
            self.remove(pid);
            return;
        };
        self.put_interned(pid, groups, as_of_ns);
    }

    fn put_interned(&mut self, pid: u32, groups: Arc<Membership>, as_of_ns: u64) {
        let place = Place { groups, as_of_ns };
        if let Some(known) = self.places.get_mut(&pid) {
            if known.as_of_ns <= as_of_ns {
                *known = place;
            }
        } else if self.takes(PLACE_BYTES) {
            self.places.insert(pid, place);
        }
    }

    fn remove(&mut self, pid: u32) {
        if self.places.remove(&pid).is_some() {
            self.bytes -= PLACE_BYTES;
        }
    }

    /// The membership with this text, made if there is none and there is room.
    fn intern(&mut self, text: &[u8]) -> Option<Arc<Membership>> {
        if let Some(known) = self.interned.get(text) {
            return Some(Arc::clone(&known.0));
        }
        if self.interned.len() >= self.interned_due {
            self.sweep_interned();
        }
        let made = Arc::new(Membership { text: text.to_vec(), said: OnceLock::new() });
        if !self.takes(made.bytes()) {
            return None;
        }
        self.interned.insert(Interned(Arc::clone(&made)));
        Some(made)
    }

    /// Drops memberships nobody has. Doubling what may be there keeps this cheap.
    fn sweep_interned(&mut self) {
        let bytes = &mut self.bytes;
        self.interned.retain(|known| {
            let is_needed = Arc::strong_count(&known.0) > 1;
            if !is_needed {
                *bytes -= known.0.bytes();
            }
            is_needed
        });
        self.interned_due = 2 * self.interned.len() + SLACK;
    }

    /// Whether it is time to say which processes have threads left, see
    /// [`Groups::keep_processes`].
    fn wants_processes(&self) -> bool {
        self.places.len() >= self.places_due
    }

    /// Drops every process but these.
    fn keep_processes(&mut self, is_alive: impl Fn(u32) -> bool) {
        let before = self.places.len();
        self.places.retain(|pid, _| is_alive(*pid));
        let dropped = (before - self.places.len()) as u64;
        self.bytes -= dropped * (PLACE_BYTES);
        self.places_due = 2 * self.places.len() + SLACK;
        self.sweep_interned();
    }

    /// Takes an event into account.
    fn apply(&mut self, event: &Event<'_>) {
        match event.kind {
            Kind::ProcessFork => self.fork(event),
            Kind::Process => self.context(event),
            Kind::Cgroup => self.changed(event),
            Kind::CgroupAttach => self.moved(event),
            _ => {}
        }
    }

    fn fork(&mut self, event: &Event<'_>) {
        let child_pid = event.number(0) as u32;
        if child_pid == event.pid {
            return;
        }
        let known = self.places.get(&event.pid).map(|place| Arc::clone(&place.groups));
        let (shares, id) = (event.number(2) as u32, event.number(3));
        let stayed = id == 0 || shares & shared::CONTROL_GROUP != 0;
        if stayed && let Some(groups) = known {
            if let Some(own) = groups.groups().find(|group| group.hierarchy == 0) {
                // Who is in a group tells its path.
                self.learn_path(id, own.path, event.ts_ns);
            }
            self.put_interned(child_pid, groups, event.ts_ns);
            return;
        }
        let path = self.paths.get(&id).cloned();
        let text = known.as_ref().map(|known| known.text.as_slice()).unwrap_or_default();
        let others = groups_in(text).filter(|group| group.hierarchy != 0);
        let own = path.as_deref().map(|path| Group { hierarchy: 0, controllers: b"", path });
        let text = text_of(own.into_iter().chain(others));
        if known.is_some() || own.is_some() {
            self.put(child_pid, &text, event.ts_ns);
        } else {
            // Whoever had the number before was somewhere else.
            self.remove(child_pid);
        }
    }

    fn context(&mut self, event: &Event<'_>) {
        // Its leader has what belongs to a process.
        let groups = event.attachment(ATTACHMENT_CGROUPS).filter(|_| event.tid == event.pid);
        if let Some(groups) = groups {
            self.seed(event.pid, groups.bytes, event.ts_ns);
        }
    }

    fn changed(&mut self, event: &Event<'_>) {
        let hierarchy = event.number(0) as u32;
        let path = event.attachment(0).map(Attached::text).unwrap_or_default();
        if let Some(controllers) = event.attachment(1) {
            let controllers = controllers.text();
            self.learn_hierarchy(Group { hierarchy, controllers, path });
        }
        match event.number(1) as u32 {
            group_change::REMOVED if hierarchy == 0 => self.forget_path(event.number(2)),
            _ if hierarchy == 0 => self.learn_path(event.number(2), path, event.ts_ns),
            _ => {}
        }
    }

    fn moved(&mut self, event: &Event<'_>) {
        let (pid, tid) = (event.number(0) as u32, event.number(1) as u32);
        let hierarchy = event.number(2) as u32;
        let Some(path) = event.attachment(0).map(Attached::text) else { return };
        if hierarchy == 0 {
            self.learn_path(event.number(3), path, event.ts_ns);
        }
        let known = self.places.get(&pid);
        if pid != tid || known.is_some_and(|place| place.as_of_ns > event.ts_ns) {
            return;
        }
        let known = known.map(|place| Arc::clone(&place.groups));
        let text = known.as_ref().map(|known| known.text.as_slice()).unwrap_or_default();
        let controllers = self.controllers(hierarchy).to_vec();
        let mut groups: BTreeMap<u32, Group<'_>> =
            groups_in(text).map(|group| (group.hierarchy, group)).collect();
        groups.insert(hierarchy, Group { hierarchy, controllers: &controllers, path });
        let text = text_of(groups.values().copied());
        self.put(pid, &text, event.ts_ns);
    }

    /// Hierarchies and groups as events, to be stored as a block.
    pub(super) fn to_events(&self) -> impl Iterator<Item = Event<'_>> {
        let there = |hierarchy: u32, id: u64| {
            let mut event = Event::new(Kind::Cgroup, self.as_of_ns);
            event.push_number(u64::from(hierarchy));
            event.push_number(u64::from(group_change::THERE));
            event.push_number(id);
            event
        };
        let hierarchies = self.hierarchies.iter().map(move |(hierarchy, controllers)| {
            // The root has the id 1 in each of them (kernfs_create_root, fs/kernfs/dir.c).
            let mut event = there(*hierarchy, 1);
            event.attach(Attached { index: 0, flags: 0, bytes: b"/" });
            event.attach(Attached { index: 1, flags: 0, bytes: controllers });
            event
        });
        let paths = self.paths.iter().map(move |(id, path)| {
            let mut event = there(0, *id);
            event.attach(Attached { index: 0, flags: 0, bytes: path });
            event
        });
        hierarchies.chain(paths)
    }
}

impl Processes {
    /// The groups of the host and who is in them.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What the groups of a process say of it, where they say anything. Threads that
    /// outlive their leader are where it was.
    pub fn attribution_of(&self, pid: u32) -> Option<&Attribution> {
        let said = self.groups.of_process(pid)?.attribution();
        (!said.is_empty()).then_some(said)
    }

    /// Whether that is doubtful: forks or moves were lost since it was learnt.
    pub fn is_attribution_uncertain(&self, pid: u32) -> bool {
        let place = self.groups.places.get(&pid);
        place.is_some_and(|place| place.as_of_ns < self.names_uncertain_ns)
    }

    /// Takes an event into account, before threads change by it.
    pub(super) fn apply_to_groups(&mut self, event: &Event<'_>) {
        if event.kind == Kind::CgroupAttach {
            // A kernel without types gives a number that may be a thread's.
            let moved = event.number(1) as u32;
            if self.get(moved).is_some_and(|thread| thread.pid != moved) {
                return;
            }
        }
        if self.groups.wants_processes() {
            let living = &self.living;
            self.groups.keep_processes(|pid| living.contains_key(&pid));
        }
        self.groups.apply(event);
    }

    /// The last thread of a process has ended.
    pub(super) fn leave_groups(&mut self, pid: u32) {
        self.groups.remove(pid);
    }
}

/// The groups of a text like `/proc/PID/cgroup`.
fn groups_in(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    let mut text = text;
    if let Some(most) = text.get(..TEXT_BYTES_MAX).filter(|most| most.len() < text.len()) {
        // Half a line would be another path.
        let end = most.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        text = most.get(..end).unwrap_or_default();
    }
    text.split(|byte| *byte == b'\n').filter_map(Group::parse).take(HIERARCHIES_MAX)
}

/// The same as text. In version 1 a root says nothing; in version 2 that a process is
/// there is known, and not that nothing is.
fn text_of<'g>(groups: impl Iterator<Item = Group<'g>>) -> Vec<u8> {
    let mut text = Vec::new();
    for group in groups.filter(|group| group.hierarchy == 0 || group.path != b"/") {
        let number = group.hierarchy.to_string();
        let line = [number.as_bytes(), b":", group.controllers, b":", group.path, b"\n"].concat();
        if text.len() + line.len() <= TEXT_BYTES_MAX {
            text.extend(line);
        }
    }
    text
}
