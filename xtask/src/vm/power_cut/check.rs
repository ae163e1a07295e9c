//! A look at what a power cut left on a disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};

use super::{Cut, MOUNTED, disk};
use crate::process;

/// What a disk had, and what is wrong with that.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Snapshots that nobody was told of.
    pub(crate) more_files: usize,
    /// Files that have no final name yet.
    pub(crate) unfinished: usize,
    pub(crate) spool: Saved,
    pub(crate) problems: Vec<String>,
}

/// The snapshot that was made of the spool.
#[derive(Default)]
pub(crate) struct Saved {
    /// With the moment of its last event.
    name: String,
    pub(crate) events: u64,
    /// Something in it was not whole: the last blocks reached the disk in part.
    pub(crate) is_damaged: bool,
    /// How long before the last printed snapshot its last event was.
    pub(crate) behind_s: u64,
}

/// Looks at everything on the disk that `cut` left.
pub(crate) fn check(cut: &Cut, recorder: &Path, folder: &Path) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    // Mounting repairs it, and one that is bad is kept as it was.
    let copy = folder.join("checked");
    disk::copy(&cut.image, &copy)?;
    let mounted = match Mounted::new(&copy, &folder.join("mounted")) {
        Ok(mounted) => mounted,
        Err(problem) => {
            verdict.problems.push(format!("{problem:#}"));
            return Ok(verdict);
        }
    };
    let promised: Vec<PathBuf> =
        cut.printed.iter().map(|path| mounted.folder.join(below_disk(path))).collect();
    for path in &promised {
        verify(recorder, path, &mut verdict)?;
    }
    let of_crashes =
        check_others(&mounted.folder.join("snapshots"), &promised, recorder, &mut verdict)?;
    let all_saved = of_crashes >= cut.recordings;
    if cut.is_recording && !all_saved {
        let recordings = cut.recordings;
        verdict.problems.push(format!(
            "{recordings} recordings were cut before, {of_crashes} of them became snapshots at \
             the next start"
        ));
    }
    // A start that was cut early has the spool of the recording before, or a snapshot of it.
    let must_save = cut.is_recording || !all_saved;
    let spool = mounted.folder.join("spool");
    recover(recorder, &spool, &folder.join("recovered"), must_save, &mut verdict)?;
    let last = cut.printed.last().map_or("", String::as_str);
    verdict.spool.behind_s = seconds_between(&verdict.spool.name, last).unwrap_or_default();
    Ok(verdict)
}

/// Looks at the files of the directory that nobody was told of. Answers how many of all are
/// snapshots of recordings that ended without one.
fn check_others(
    snapshots: &Path,
    promised: &[PathBuf],
    recorder: &Path,
    verdict: &mut Verdict,
) -> Result<usize> {
    let mut of_crashes = 0;
    // A directory that is not there has lost all that was promised, which was said.
    for entry in fs::read_dir(snapshots).into_iter().flatten() {
        let path = entry.with_context(|| format!("cannot list {}", snapshots.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        of_crashes += usize::from(name.contains("-crash-"));
        if name.starts_with('.') {
            verdict.unfinished += usize::from(name.ends_with(".kfr-part"));
        } else if name.ends_with(".kfr") && !promised.contains(&path) {
            verdict.more_files += 1;
            verify(recorder, &path, verdict)?;
        }
    }
    Ok(of_crashes)
}

fn verify(recorder: &Path, path: &Path, verdict: &mut Verdict) -> Result<()> {
    let output = answer(Command::new(recorder).arg("verify").arg(path))?;
    if !output.status.success() {
        verdict.problems.push(format!("verify, {}: {}", output.status, said(&output)));
    }
    Ok(())
}

/// Makes a snapshot of the spool in `into`, which must be whole. Whether there must be one
/// with events in it says `must_save`.
fn recover(
    recorder: &Path,
    spool: &Path,
    into: &Path,
    must_save: bool,
    verdict: &mut Verdict,
) -> Result<()> {
    // Of the last cut.
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let output = answer(Command::new(recorder).arg("recover").arg(spool).current_dir(into))?;
    let told = said(&output);
    if !output.status.success() {
        if must_save {
            verdict.problems.push(format!("recover, {}: {told}", output.status));
        }
        return Ok(());
    }
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match saved_events(&told) {
        Some(events) if events > 0 => verdict.spool.events = events,
        _ if !must_save => {}
        _ => verdict.problems.push(format!("recover saved no events: {told}")),
    }
    verdict.spool.is_damaged = !told.contains("it was whole");
    verify(recorder, &into.join(&name), verdict)?;
    verdict.spool.name = name;
    Ok(())
}

fn answer(command: &mut Command) -> Result<Output> {
    let line = process::shell_line(command);
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// The number before the word `events`, which has commas.
fn saved_events(told: &str) -> Option<u64> {
    let words: Vec<&str> = told.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "events")?;
    words.get(at.checked_sub(1)?)?.replace(',', "").parse().ok()
}

/// From the moment in the name of one snapshot to that of another: 0 when that was before.
fn seconds_between(earlier: &str, later: &str) -> Option<u64> {
    let (earlier, later) = (second_of_day(earlier)?, second_of_day(later)?);
    let day = 86_400;
    let between = (later + day - earlier) % day;
    Some(if between < day / 2 { between } else { 0 })
}

/// Of a name with `-20261201T133231Z-` in it.
fn second_of_day(name: &str) -> Option<u64> {
    let word = name.rsplit('-').find(|word| word.len() == 16 && word.ends_with('Z'))?;
    let time: u64 = word.get(9..15)?.parse().ok()?;
    Some(time / 10_000 * 3600 + time / 100 % 100 * 60 + time % 100)
}

/// A path of the machine, from the top of its disk on.
fn below_disk(path: &str) -> &str {
    path.strip_prefix(MOUNTED).unwrap_or(path).trim_start_matches('/')
}

/// A disk that is mounted as long as this lives.
struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    fn new(image: &Path, folder: &Path) -> Result<Mounted> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        process::run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(folder))
            .context("the file system did not survive the power cut")?;
        Ok(Mounted { folder: folder.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = process::run(Command::new("umount").arg(&self.folder)) {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_from_what_recover_says() {
        let told = "recorder: 12 blocks with 3,456 events of /x are saved; it was whole; /y";
        assert_eq!(saved_events(told), Some(3456));
        assert_eq!(saved_events("error: events"), None);
        assert_eq!(saved_events("events"), None);
    }

    #[test]
    fn moments_are_read_from_names() {
        let name =
            |time: &str| format!("/disk/snapshots/recorder-vm-20261201T{time}Z-manual-1.kfr");
        let between = |a: &str, b: &str| seconds_between(&name(a), &name(b));
        assert_eq!(between("133231", "133301"), Some(30));
        assert_eq!(between("133232", "133231"), Some(0));
        assert_eq!(between("235959", "000001"), Some(2));
        assert_eq!(seconds_between("", &name("000001")), None);
    }

    #[test]
    fn paths_of_the_machine_are_found_on_its_disk() {
        assert_eq!(below_disk("/disk/snapshots/a.kfr"), "snapshots/a.kfr");
    }
}
