//! The drivers a machine must load itself: those that its kernel package has as files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// What stands before the names of the modules that one needs.
const DEPENDS: &[u8] = b"\0depends=";

/// A module of a kernel.
pub(crate) struct Module {
    /// Without folder and ending.
    pub(crate) name: String,
    /// As `insmod` takes it: not compressed.
    pub(crate) data: Vec<u8>,
}

/// The modules of `names` and what they need, in the order in which they can be loaded,
/// from the kernel package unpacked in `home`. What is part of the kernel is left out.
pub(crate) fn load_order(home: &Path, names: &[&str]) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    find_files(&home.join("lib/modules"), &mut files)?;
    let mut found = Vec::new();
    for name in names {
        add(&files, name, &mut found)?;
    }
    Ok(found)
}

/// Adds what `name` needs, then `name`.
fn add(files: &[PathBuf], name: &str, found: &mut Vec<Module>) -> Result<()> {
    if found.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(file) = files.iter().find(|file| module_name(file).as_deref() == Some(name)) else {
        return check_built_in(files, name);
    };
    let data = read(file)?;
    for needed in dependencies(&data) {
        add(files, &needed, found)?;
    }
    found.push(Module { name: name.to_owned(), data });
    Ok(())
}

fn find_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The kernel calls its modules with `_` where some of their files have `-`.
fn module_name(file: &Path) -> Option<String> {
    let (name, ending) = file.file_name()?.to_str()?.split_once('.')?;
    matches!(ending, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

/// Fails when a module is neither a file nor part of the kernel.
fn check_built_in(files: &[PathBuf], name: &str) -> Result<()> {
    let list = files.iter().find(|file| file.ends_with("modules.builtin"));
    let text = list.map(fs::read_to_string).transpose().context("cannot read modules.builtin")?;
    let is_built_in = |line: &str| module_name(Path::new(line)).as_deref() == Some(name);
    if !text.unwrap_or_default().lines().any(is_built_in) {
        bail!("the kernel has no module {name}");
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|ending| ending == "ko") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(file).output().context("cannot start xz")?;
    if !output.status.success() {
        bail!("xz cannot read {}", file.display());
    }
    Ok(output.stdout)
}

/// The modules that the one in `data` names as needed.
fn dependencies(data: &[u8]) -> Vec<String> {
    let at = data.windows(DEPENDS.len()).position(|window| window == DEPENDS);
    let Some(after) = at.and_then(|at| data.get(at + DEPENDS.len()..)) else { return Vec::new() };
    let text = after.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(text);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        let data = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0";
        assert_eq!(dependencies(data), ["virtio", "virtio_ring"]);
        assert_eq!(dependencies(b"\0depends=\0name=x\0"), [""; 0]);
        assert_eq!(dependencies(b""), [""; 0]);
    }

    #[test]
    fn files_are_found_by_the_name_of_the_module() {
        let name = |file: &str| module_name(Path::new(file));
        assert_eq!(name("kernel/fs/xfs/xfs.ko").as_deref(), Some("xfs"));
        assert_eq!(name("a/virtio-rng.ko.xz").as_deref(), Some("virtio_rng"));
        assert_eq!(name("modules.builtin"), None);
    }
}
