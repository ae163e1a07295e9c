//! Inputs that are kept: a folder for each target. The fuzzer begins with them and goes
//! on from there; a test tries all of them.
//!
//! `cargo xtask fuzz --keep` adds what meets something new, named by its checksum, and
//! drops what others meet too. An input that failed is copied here by hand once its bug
//! is fixed, by a name that says what it was: such names are never dropped.
//!
//! A new version of a format makes others of these inputs than they were meant as:
//! files of a version that is still read go on to be read, records and messages become
//! what any bytes are. That is no harm, and no test can tell: after such a change
//! `--keep` puts inputs of the new one beside them.

use std::{
    cmp::Reverse,
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Target, met_by, run::tried};

/// The largest input that is kept by itself.
pub const INPUT_BYTES_MAX: usize = 3 << 10;

/// The most inputs of one target.
pub const INPUTS_MAX: usize = 20;

/// The files of a folder, by name.
pub fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The inputs of a folder, by name.
pub fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    paths(folder).iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Adds an input, unless it is too large to be kept.
pub fn add(folder: &Path, input: &[u8]) -> io::Result<()> {
    if input.len() > INPUT_BYTES_MAX {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{:08x}", crc32c::crc32c(input))), input)
}

/// Whether somebody gave it a name.
fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() != 8 || !name.chars().all(|c| c.is_ascii_hexdigit())
}

/// Leaves those of which each meets most that the others before it do not, and what has a
/// name. Answers how many that are.
pub fn tidy(target: &Target, folder: &Path) -> io::Result<usize> {
    let (named, mut rest): (Vec<PathBuf>, Vec<PathBuf>) =
        paths(folder).into_iter().partition(|path| is_named(path));
    let mut known = HashSet::new();
    for path in &named {
        known.extend(met_of(target, &fs::read(path)?));
    }
    let mut candidates = Vec::new();
    for path in rest.drain(..) {
        let input = fs::read(&path)?;
        candidates.push((path, input.len(), met_of(target, &input)));
    }
    let mut kept = named.len();
    while kept < INPUTS_MAX {
        let new = |met: &HashSet<u64>| met.difference(&known).count();
        let best = (0..candidates.len()).max_by_key(|at| {
            let (_, bytes, met) = &candidates[*at];
            (new(met), Reverse(*bytes))
        });
        let Some(best) = best.filter(|best| new(&candidates[*best].2) > 0) else { break };
        known.extend(candidates.swap_remove(best).2);
        kept += 1;
    }
    for (path, ..) in candidates {
        fs::remove_file(path)?;
    }
    Ok(kept)
}

fn met_of(target: &Target, input: &[u8]) -> HashSet<u64> {
    met_by(|| drop(tried(target, input)))
}
