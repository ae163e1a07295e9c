//! A disk with a write cache that loses what is in it when the power goes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::random::Random;
use crate::process;

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// The disk: what the machine reads from it, what is durable, and between the two what
/// was written since the last flush.
pub(crate) struct Disk {
    bytes: u64,
    now: File,
    durable: File,
    durable_path: PathBuf,
    cache: Vec<Write>,
}

/// A write that no flush followed yet.
struct Write {
    offset: u64,
    data: Vec<u8>,
}

/// What became of the write cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Writes that were in it.
    pub(crate) writes: usize,
    /// Those of which at least a sector did not reach the disk.
    pub(crate) lost: usize,
}

impl Disk {
    /// A disk that begins as `image`, which stays as it is, with its files in `folder`.
    pub(crate) fn open(image: &Path, folder: &Path) -> Result<Disk> {
        let (now_path, durable_path) = (folder.join("now"), folder.join("durable"));
        copy(image, &now_path)?;
        copy(image, &durable_path)?;
        let (now, durable) = (open(&now_path)?, open(&durable_path)?);
        let metadata = now.metadata().with_context(|| format!("no {}", now_path.display()))?;
        Ok(Disk { bytes: metadata.len(), now, durable, durable_path, cache: Vec::new() })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.now.read_exact_at(buffer, offset)
    }

    pub(crate) fn write(&mut self, data: Vec<u8>, offset: u64) -> io::Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.now.write_all_at(&data, offset)?;
        self.cache.push(Write { offset, data });
        Ok(())
    }

    /// Whether a power cut now may cost something.
    pub(crate) fn has_unflushed(&self) -> bool {
        !self.cache.is_empty()
    }

    /// Makes durable what was written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        for Write { offset, data } in self.cache.drain(..) {
            self.durable.write_all_at(&data, offset)?;
        }
        Ok(())
    }

    /// Writes to `image` what a power cut at this moment could leave.
    pub(crate) fn cut(&self, image: &Path, random: &mut Random) -> Result<Cache> {
        copy(&self.durable_path, image)?;
        let file = open(image)?;
        let lengths: Vec<u64> = self.cache.iter().map(|write| write.data.len() as u64).collect();
        let kept = survivors(&lengths, random);
        for (write, kept) in self.cache.iter().zip(&kept) {
            let data = write.data.get(..*kept as usize).unwrap_or_default();
            file.write_all_at(data, write.offset)
                .with_context(|| format!("cannot write {}", image.display()))?;
        }
        let lost = lengths.iter().zip(&kept).filter(|(length, kept)| length > kept).count();
        Ok(Cache { writes: lengths.len(), lost })
    }
}

/// How much of each write of these lengths reached the disk on its own before the power
/// went. The disk owed nothing: it is nothing of any of them, or of each all, nothing or
/// the first sectors.
fn survivors(lengths: &[u64], random: &mut Random) -> Vec<u64> {
    let nothing = random.below(3) == 0;
    let mut kept = |length: u64| match random.below(5) {
        _ if nothing => 0,
        0 | 1 => 0,
        2 => random.below(length / SECTOR + 1) * SECTOR,
        _ => length,
    };
    lengths.iter().map(|length| kept(*length)).collect()
}

/// Copies a file with its holes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn nothing_that_was_flushed_is_lost_and_of_the_rest_anything_may_be() {
        let folder = env::temp_dir().join(format!("recorder-power-cut-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (image, left) = (folder.join("image"), folder.join("left"));
        fs::write(&image, [0; 4096]).unwrap();
        let mut disk = Disk::open(&image, &folder).unwrap();
        disk.write(vec![1; 512], 0).unwrap();
        disk.flush().unwrap();
        disk.write(vec![2; 1024], 512).unwrap();
        assert!(disk.write(vec![3; 512], 4096).is_err());
        let mut buffer = [0; 1024];
        disk.read(&mut buffer, 512).unwrap();
        assert_eq!(buffer, [2; 1024]);

        let mut kinds = [0; 3];
        for seed in 0..50 {
            let cache = disk.cut(&left, &mut Random::new(seed)).unwrap();
            let bytes = fs::read(&left).unwrap();
            assert_eq!(bytes[..512], [1; 512]);
            let kept = bytes[512..].iter().take_while(|byte| **byte == 2).count();
            assert!(kept.is_multiple_of(SECTOR as usize), "{kept}");
            assert!(bytes[512 + kept..].iter().all(|byte| *byte == 0));
            assert_eq!(cache, Cache { writes: 1, lost: usize::from(kept < 1024) });
            kinds[kept / SECTOR as usize] += 1;
        }
        assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
