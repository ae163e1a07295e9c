//! The first state: what `/proc` and the file system of control groups show.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Groups;
use crate::{
    cgroup::Group,
    clock,
    context::Processes,
    privacy::{Form, Masker},
    probe::numbers_in,
};

/// Groups of version 2 that are looked at. A host with a thousand containers has a few
/// thousand.
const DIRECTORIES_MAX: usize = 65_536;

/// The inode of the first namespace of control groups (`PROC_CGROUP_INIT_INO`,
/// include/linux/proc_ns.h).
const FIRST_NAMESPACE_INODE: u64 = 0xEFFF_FFFB;

/// Reads which groups there are, and where every process is, without the secrets `masker`
/// finds in their paths. To be called after the hooks are attached: what happens meanwhile is
/// newer than what is read here, or in it.
pub fn scan_groups(processes: &mut Processes, masker: &mut Masker) {
    let groups = &mut processes.groups;
    let own = masked(&fs::read("/proc/self/cgroup").unwrap_or_default(), masker);
    for line in own.split(|byte| *byte == b'\n').filter_map(Group::parse) {
        groups.learn_hierarchy(line);
    }
    // Elsewhere paths begin where the namespace does, and not where the kernel traces them
    // from. What is learnt from processes is good all the same.
    let namespace = fs::metadata("/proc/self/ns/cgroup").map(|file| file.ino());
    if namespace.is_ok_and(|inode| inode == FIRST_NAMESPACE_INODE) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(root) = mounts.lines().find_map(unified_root) {
            walk(groups, &root, masker);
        }
    }
    for pid in numbers_in("/proc") {
        let as_of_ns = clock::monotonic_ns();
        // A process that has ended meanwhile has no such file.
        if let Ok(text) = fs::read(format!("/proc/{pid}/cgroup")) {
            groups.seed(pid, &masked(&text, masker), as_of_ns);
        }
    }
}

/// The lines of `/proc/PID/cgroup`. Paths and the names of hierarchies are masked one by one,
/// as they are where they come with events: in a line there are colons between them.
fn masked(text: &[u8], masker: &mut Masker) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    for group in text.split(|byte| *byte == b'\n').filter_map(Group::parse) {
        let [mut controllers, mut path] = [group.controllers, group.path].map(<[u8]>::to_vec);
        masker.mask_vec(&mut controllers, Form::Text, false);
        masker.mask_vec(&mut path, Form::Text, false);
        let number = group.hierarchy.to_string();
        for part in [number.as_bytes(), b":", &controllers, b":", &path, b"\n"] {
            kept.extend_from_slice(part);
        }
    }
    kept
}

/// Where the whole of version 2 is mounted, if this line of `/proc/PID/mountinfo` says so
/// (proc_pid_mountinfo(5)).
fn unified_root(line: &str) -> Option<PathBuf> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let is_whole = root == "/" && kind.split(' ').next() == Some("cgroup2");
    // A backslash is the beginning of an escape.
    (is_whole && !point.contains('\\')).then(|| PathBuf::from(point))
}

/// Learns the id of every group: it is the inode of its directory
/// (`kernfs_ino`, fs/kernfs/kernfs-internal.h).
fn walk(groups: &mut Groups, root: &Path, masker: &mut Masker) {
    let mut waiting = vec![root.to_path_buf()];
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        let as_of_ns = clock::monotonic_ns();
        let Ok(metadata) = fs::symlink_metadata(&directory) else { continue };
        let Ok(path) = directory.strip_prefix(root) else { continue };
        let mut path = [b"/", path.as_os_str().as_encoded_bytes()].concat();
        masker.mask_vec(&mut path, Form::Text, false);
        groups.learn_path(metadata.ino(), &path, as_of_ns);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            if seen < DIRECTORIES_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                seen += 1;
                waiting.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::{Privacy, Rules};

    /// Paths of groups that were there before the recording were kept as they were.
    #[test]
    fn what_is_there_has_no_secrets_as_what_comes_has_none() {
        let privacy = Privacy::new(Rules::default());
        let mut masker = privacy.masker();
        let lines = b"9:name=systemd:/job/password=hunter22\n0::/a/token=xyzzy1234/b\nno line\n";
        let expected = b"9:name=systemd:/job/password=***\n0::/a/token=***/b\n";
        let kept = masked(lines, &mut masker);
        assert_eq!(kept.as_slice(), expected, "{}", String::from_utf8_lossy(&kept));
        assert_eq!(privacy.masked().total(), 2);
        let id = "0123456789abcdef".repeat(4);
        let container = format!("0::/system.slice/docker-{id}.scope\n");
        assert_eq!(masked(container.as_bytes(), &mut masker), container.as_bytes());
        assert_eq!(masked(&kept, &mut masker), expected, "twice is once");
        let directory = std::env::temp_dir().join(format!("groups-{}", std::process::id()));
        fs::create_dir_all(directory.join("password=hunter22")).unwrap();
        let mut groups = Groups::default();
        walk(&mut groups, &directory, &mut masker);
        fs::remove_dir_all(&directory).unwrap();
        let paths: Vec<&[u8]> = groups.paths.values().map(Vec::as_slice).collect();
        assert!(paths.contains(&&b"/password=***"[..]) && paths.len() == 2, "{paths:?}");
    }

    #[test]
    fn the_root_of_version_2_is_found_among_mounts() {
        let found = |line| unified_root(line).map(|path| path.to_string_lossy().into_owned());
        let line = "35 25 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(found(line).as_deref(), Some("/sys/fs/cgroup/unified"));
        for line in [
            "",
            " - ",
            "35 25 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "35 25 0:31 /system.slice /mnt rw - cgroup2 cgroup2 rw",
            "35 25 0:31 / /a\\040b rw - cgroup2 cgroup2 rw",
            "35 25 0:31 - cgroup2",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn this_process_is_where_proc_says() {
        let mut processes = Processes::default();
        let rules = Rules { mask: false, ..Rules::default() };
        scan_groups(&mut processes, &mut Privacy::new(rules).masker());
        let own = processes.groups.of_process(std::process::id()).expect("this process");
        let text = fs::read("/proc/self/cgroup").expect("this process");
        let roots = |group: &Group<'_>| group.hierarchy == 0 || group.path != b"/";
        let mut said: Vec<Group<'_>> =
            text.split(|byte| *byte == b'\n').filter_map(Group::parse).filter(roots).collect();
        said.sort_by_key(|group| group.hierarchy);
        assert_eq!(own.groups().collect::<Vec<_>>(), said);
    }
}
