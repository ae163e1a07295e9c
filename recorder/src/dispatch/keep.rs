//! The directory of snapshots: what is there, what is kept, what room is left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{config::trigger::Keep, snapshot::EXTENSION};

/// Snapshots listed at the most; a directory with more is not one that is tended.
const LISTED_MAX: usize = 65_536;

/// The end of the name of the file that says that the one beside it stays.
const KEEP: &str = ".keep";

/// The file system snapshots go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// What an ordinary user may still write.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Snapshots.
    pub count: u64,
    /// Their size together.
    pub bytes: u64,
    /// Where they are.
    pub disk: Disk,
}

/// A snapshot in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was finished, seconds since 1970.
    pub finished_s: u64,
    /// Whether it is marked to stay.
    pub kept: bool,
}

/// Whether a name is one the recorder gives: `<host>-<UTC>-<source>-<8 hex>.kfr`.
/// Nothing else is ever removed, opened or marked.
pub fn is_snapshot_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(EXTENSION).and_then(|stem| stem.strip_suffix('.')) else {
        return false;
    };
    let hash = stem.rsplit_once('-').map(|(_, hash)| hash).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    hash.len() == 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !name.starts_with('.')
        && name.chars().all(plain)
}

/// The file system of a directory.
pub fn disk(directory: &Path) -> io::Result<Disk> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(Disk {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

impl Disk {
    /// Why a snapshot of about `bytes` has no room; `None` when it has.
    pub fn refuses(&self, keep: &Keep, bytes: u64) -> Option<String> {
        let stays = self.total_bytes / 100 * u64::from(keep.free_percent_min);
        let left = self.free_bytes.saturating_sub(bytes);
        let mib = |bytes: u64| bytes >> 20;
        (left < stays).then(|| {
            format!(
                "no space left for a snapshot: {} MiB of {} MiB are free, it takes about {} MiB, \
                 and {} % stay free; remove old snapshots, or change free_percent_min in [keep]",
                mib(self.free_bytes),
                mib(self.total_bytes),
                mib(bytes),
                keep.free_percent_min
            )
        })
    }
}

/// The snapshots of a directory, oldest first.
pub fn list(directory: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(directory)?.flatten().take(2 * LISTED_MAX) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // One that is removed meanwhile is not there any more.
        let Ok(found) = entry.metadata() else { continue };
        if !found.is_file() || !is_snapshot_name(&name) || listed.len() >= LISTED_MAX {
            continue;
        }
        let finished = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let snapshot = Listed {
            kept: mark_path(directory, &name).exists(),
            name,
            bytes: found.len(),
            finished_s: since_1970(finished).as_secs(),
        };
        // Several may be finished in one second.
        listed.push((finished, snapshot));
    }
    listed.sort_by(|(at, one), (other_at, other)| (at, &one.name).cmp(&(other_at, &other.name)));
    Ok(listed.into_iter().map(|(_, snapshot)| snapshot).collect())
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What is there, for the metrics.
pub fn stored(directory: &Path) -> io::Result<Stored> {
    let listed = list(directory)?;
    Ok(Stored {
        count: listed.len() as u64,
        bytes: listed.iter().map(|snapshot| snapshot.bytes).sum(),
        disk: disk(directory)?,
    })
}

fn mark_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{KEEP}"))
}

/// Marks a snapshot to stay, or no longer.
pub fn mark(directory: &Path, name: &str, stays: bool) -> io::Result<()> {
    let path = mark_path(directory, name);
    if stays {
        let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
        match created {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    } else {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Which snapshots go, oldest first: the newest one and those that are marked stay.
pub fn expired(listed: &[Listed], keep: &Keep, now_s: u64) -> Vec<String> {
    let mut count = listed.len();
    let mut bytes: u64 = listed.iter().map(|snapshot| snapshot.bytes).sum();
    let mut gone = Vec::new();
    let older = listed.split_last().map(|(_, older)| older).unwrap_or_default();
    for snapshot in older.iter().filter(|snapshot| !snapshot.kept) {
        let age_s = now_s.saturating_sub(snapshot.finished_s);
        let too_old = keep.age_ns_max.is_some_and(|most| age_s > most / 1_000_000_000);
        if count > keep.count_max || bytes > keep.bytes_max || too_old {
            count -= 1;
            bytes -= snapshot.bytes;
            gone.push(snapshot.name.clone());
        }
    }
    gone
}

/// Removes what is not kept; answers the names.
pub fn tidy(directory: &Path, keep: &Keep) -> io::Result<Vec<String>> {
    let now_s = since_1970(SystemTime::now()).as_secs();
    let gone = expired(&list(directory)?, keep, now_s);
    for name in &gone {
        fs::remove_file(directory.join(name))?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_snapshots() {
        assert!(is_snapshot_name("db-1-20261123T022624Z-manual-0a1b2c3d.kfr"));
        for other in [
            "x.kfr",
            ".db-20261123T022624Z-manual-0a1b2c3d.kfr",
            "a/db-20261123T022624Z-manual-0a1b2c3d.kfr",
            "db-20261123T022624Z-manual-0a1b2c3d.kfr.keep",
            "db-20261123T022624Z-manual-0a1b2c3g.kfr",
            "..-0a1b2c3d.kfr\n",
            "",
        ] {
            assert!(!is_snapshot_name(other), "{other:?}");
        }
    }

    fn listed(finished_s: u64, kept: bool) -> Listed {
        let name = format!("h-t-manual-{finished_s:08x}.kfr");
        Listed { name, bytes: 100, finished_s, kept }
    }

    #[test]
    fn the_oldest_go_first_and_marked_ones_and_the_newest_stay() {
        let all: Vec<Listed> = (0..5).map(|place| listed(place, place == 1)).collect();
        let keep = Keep { count_max: 3, ..Keep::default() };
        let names = |places: &[usize]| -> Vec<String> {
            places.iter().map(|place| all[*place].name.clone()).collect()
        };
        assert_eq!(expired(&all, &keep, 5), names(&[0, 2]));
        let keep = Keep { bytes_max: 1, ..Keep::default() };
        assert_eq!(expired(&all, &keep, 5), names(&[0, 2, 3]), "the newest stays whatever it is");
        let keep = Keep { age_ns_max: Some(2_000_000_000), ..Keep::default() };
        assert_eq!(expired(&all, &keep, 5), names(&[0, 2]));
        assert_eq!(expired(&all, &Keep::default(), 5), [""; 0]);
        assert_eq!(expired(&[], &keep, 5), [""; 0]);
    }

    #[test]
    fn a_share_of_the_disk_stays_free() {
        let keep = Keep::default();
        let disk = Disk { free_bytes: 60, total_bytes: 1000 };
        assert_eq!(disk.refuses(&keep, 10), None);
        assert!(disk.refuses(&keep, 11).unwrap().contains("no space left"));
        let all = Keep { free_percent_min: 0, ..keep };
        assert_eq!(disk.refuses(&all, 1000), None);
    }

    #[test]
    fn a_mark_keeps_and_is_taken_away_again() {
        let directory = std::env::temp_dir().join(format!("recorder-keep-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let names: Vec<String> = (0..3).map(|at| format!("h-t-manual-0000000{at}.kfr")).collect();
        for (place, name) in names.iter().enumerate() {
            fs::write(directory.join(name), "x").unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + place as u64);
            let file = fs::File::options().write(true).open(directory.join(name)).unwrap();
            file.set_modified(at).unwrap();
        }
        fs::write(directory.join("other.kfr"), "x").unwrap();
        mark(&directory, &names[0], true).unwrap();
        mark(&directory, &names[0], true).unwrap();
        let keep = Keep { count_max: 1, ..Keep::default() };
        assert_eq!(tidy(&directory, &keep).unwrap(), [names[1].clone()]);
        mark(&directory, &names[0], false).unwrap();
        mark(&directory, &names[0], false).unwrap();
        assert_eq!(tidy(&directory, &keep).unwrap(), [names[0].clone()]);
        assert_eq!(list(&directory).unwrap().len(), 1);
        assert!(directory.join("other.kfr").exists(), "it is not ours");
        fs::remove_dir_all(&directory).unwrap();
    }
}
