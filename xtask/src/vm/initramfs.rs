//! The first file system of a machine: a cpio archive in the "newc" format, as
//! the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`
//! describes it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// Name and data of an entry begin at a multiple of this.
const ALIGNMENT: usize = 4;

/// Files by path. A folder sorts before what is in it, as the kernel, which
/// unpacks in order, requires.
#[derive(Default)]
pub(crate) struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    data: Vec<u8>,
}

impl Initramfs {
    /// Adds a file at an absolute `path`, and the folders above it.
    pub(crate) fn add(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let folder = Entry { mode: DIRECTORY | 0o755, data: Vec::new() };
            self.entries.entry(path[..end].to_owned()).or_insert(folder);
        }
        self.entries.insert(path.to_owned(), Entry { mode: REGULAR | permissions, data });
    }

    /// Adds the program or library `from`; links are followed.
    pub(crate) fn add_file(&mut self, path: &str, from: &Path) -> Result<()> {
        let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(path, 0o755, data);
        Ok(())
    }

    /// The archive as the kernel wants it.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (name, entry)) in (1..).zip(&self.entries) {
            write_entry(&mut out, number, name, entry);
        }
        let end = Entry { mode: 0, data: Vec::new() };
        write_entry(&mut out, 0, "TRAILER!!!", &end);
        out
    }
}

fn write_entry(out: &mut Vec<u8>, number: u32, name: &str, entry: &Entry) {
    // Inode, mode, owner, group, links, time, size, device and special device
    // (each major and minor), length of the name with its zero byte, checksum.
    let links = 1;
    let size = entry.data.len();
    let fields =
        [number as usize, entry.mode as usize, 0, 0, links, 0, size, 0, 0, 0, 0, name.len() + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    align(out);
    out.extend_from_slice(&entry.data);
    align(out);
}

fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_folders_first_and_a_trailer_last() {
        let mut content = Initramfs::default();
        content.add("/bin/x", 0o755, b"data!".to_vec());
        let archive = content.archive();
        assert_eq!(archive.len() % ALIGNMENT, 0);
        let text = String::from_utf8(archive).unwrap();
        let position = |what: &str| text.find(what).unwrap();
        assert!(position("bin\0") < position("bin/x\0"));
        assert!(position("bin/x\0") < position("data!"));
        assert!(position("data!") < position("TRAILER!!!\0"));
        // Header of `bin/x`: second entry, regular file 0755, 5 bytes, name of 6.
        let header = &text[position("bin/x\0") - 110..position("bin/x\0")];
        assert!(header.starts_with("07070100000002000081ed"), "{header}");
        assert_eq!(&header[54..62], "00000005");
        assert_eq!(&header[94..102], "00000006");
    }
}
