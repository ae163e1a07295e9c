//! The files as they lie on a host.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, toolchain::find_program, workspace};

/// Whole folders of `packaging`, and where they go.
const FOLDERS: &[(&str, &str)] = &[
    ("systemd", "usr/lib/systemd/system"),
    ("sysusers.d", "usr/lib/sysusers.d"),
    ("tmpfiles.d", "usr/lib/tmpfiles.d"),
    ("alertmanager", "usr/share/recorder/alertmanager"),
    ("grafana", "usr/share/recorder/grafana"),
    ("icinga2", "usr/share/recorder/icinga2"),
    ("kubernetes", "usr/share/recorder/kubernetes"),
    ("nagios", "usr/share/recorder/nagios"),
    ("prometheus", "usr/share/recorder/prometheus"),
];

/// Single files of the workspace, and where they go.
const FILES: &[(&str, &str)] = &[
    ("packaging/recorder.toml", "etc/recorder/recorder.toml"),
    ("packaging/magic", "usr/share/recorder/magic"),
    ("README.md", "usr/share/doc/recorder/README.md"),
    ("LICENSE", "usr/share/doc/recorder/copyright"),
    ("recorder/src/snapshot/FORMAT.md", "usr/share/doc/recorder/FORMAT.md"),
];

/// What the recorder's example writes beside the manual, and where it goes.
const COMPLETIONS: &[(&str, &str)] = &[
    ("recorder.bash", "usr/share/bash-completion/completions/recorder"),
    // Where Debian's shells look; others have `site-functions` and `completions`.
    ("_recorder", "usr/share/zsh/vendor-completions/_recorder"),
    ("recorder.fish", "usr/share/fish/vendor_completions.d/recorder.fish"),
];

/// What of the tree is configuration: an upgrade leaves alone what somebody changed.
pub(super) const CONFIGURATION: &[&str] = &["/etc/recorder/recorder.toml"];

/// Makes the tree anew.
pub(super) fn stage(tree: &Path, program: &Path, pages: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    let root = workspace::root();
    install_program(program, &tree.join("usr/bin/recorder"))?;
    for (from, to) in FILES {
        install(&root.join(from), &tree.join(to))?;
    }
    for (from, to) in FOLDERS {
        install_folder(&root.join("packaging").join(from), &tree.join(to))?;
    }
    for (from, to) in COMPLETIONS {
        install(&pages.join(from), &tree.join(to))?;
    }
    let manual = tree.join("usr/share/man");
    let mut count = 0;
    for page in entries(pages)? {
        if page.extension().is_some_and(|extension| extension == "1") {
            install_page(&page, &manual.join("man1"))?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("there are no pages of the manual in {}", pages.display());
    }
    install_page(&root.join("packaging/man/recorder.toml.5"), &manual.join("man5"))
}

fn install(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    set_mode(to, 0o644)
}

fn install_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in entries(from)? {
        let name = entry.file_name().context("an entry has a name")?;
        if entry.is_dir() {
            install_folder(&entry, &to.join(name))?;
        } else {
            install(&entry, &to.join(name))?;
        }
    }
    Ok(())
}

fn install_program(from: &Path, to: &Path) -> Result<()> {
    install(from, to)?;
    if let Some(strip) = find_program("strip") {
        // Nobody on the host has the sources the lines belong to.
        process::run(Command::new(strip).args(["--strip-unneeded"]).arg(to))?;
    }
    set_mode(to, 0o755)
}

fn install_page(from: &Path, folder: &Path) -> Result<()> {
    let name = from.file_name().context("a page has a name")?;
    let to = folder.join(name);
    install(from, &to)?;
    // The same bytes at any time: no name and no date inside.
    process::run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&to))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// What a folder holds, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        found.push(entry.with_context(cannot)?.path());
    }
    found.sort();
    Ok(found)
}

/// Every file below `tree`.
pub(super) fn files(tree: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in entries(tree)? {
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The mode of folders must not depend on the umask of whoever builds.
pub(super) fn open_folders(tree: &Path) -> Result<()> {
    set_mode(tree, 0o755)?;
    for entry in entries(tree)?.iter().filter(|entry| entry.is_dir()) {
        open_folders(entry)?;
    }
    Ok(())
}
