//! The Debian package, made by `dpkg-deb`.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{VERSION, tree};
use crate::{process, workspace};

/// The scripts dpkg runs.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Packages `tree`; the package lies in `home`.
pub(super) fn build(home: &Path, tree: &Path, epoch_s: u64) -> Result<PathBuf> {
    let control = tree.join("DEBIAN");
    let written = write_control(tree, &control).and_then(|()| pack(home, tree, epoch_s));
    // The tree is for archives and images as well.
    let removed = fs::remove_dir_all(&control);
    let deb = written?;
    removed.with_context(|| format!("cannot remove {}", control.display()))?;
    Ok(deb)
}

fn pack(home: &Path, tree: &Path, epoch_s: u64) -> Result<PathBuf> {
    tree::open_folders(tree)?;
    let deb = home.join(format!("recorder_{VERSION}_{}.deb", architecture()?));
    process::run(
        Command::new("dpkg-deb")
            .env("SOURCE_DATE_EPOCH", epoch_s.to_string())
            // Every dpkg can open it, and it takes no time.
            .args(["-Zgzip", "--root-owner-group", "--build"])
            .arg(tree)
            .arg(&deb),
    )?;
    Ok(deb)
}

fn write_control(tree: &Path, control: &Path) -> Result<()> {
    let sources = workspace::root().join("packaging/debian");
    let read = |name: &str| {
        let path = sources.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let files = tree::files(tree)?;
    let mut bytes = 0;
    for file in &files {
        let found = fs::metadata(file).with_context(|| format!("no {}", file.display()))?;
        bytes += found.len();
    }
    let fields = read("control")?
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", architecture()?)
        .replace("@KIBIBYTES@", &bytes.div_ceil(1024).to_string());
    fs::create_dir_all(control).with_context(|| format!("cannot create {}", control.display()))?;
    write(&control.join("control"), &fields, 0o644)?;
    write(&control.join("conffiles"), &(tree::CONFIGURATION.join("\n") + "\n"), 0o644)?;
    write(&control.join("md5sums"), &sums(tree, &files)?, 0o644)?;
    for script in SCRIPTS {
        write(&control.join(script), &read(script)?, 0o755)?;
    }
    Ok(())
}

/// What `dpkg --verify` compares with; not for the configuration.
fn sums(tree: &Path, files: &[PathBuf]) -> Result<String> {
    let names: Vec<&Path> = files
        .iter()
        .filter_map(|file| file.strip_prefix(tree).ok())
        .filter(|name| !tree::CONFIGURATION.iter().any(|path| Path::new(path).ends_with(name)))
        .collect();
    process::capture(Command::new("md5sum").current_dir(tree).arg("--").args(names))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    fs::write(path, text).with_context(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(cannot)
}

/// This machine, as Debian calls it.
fn architecture() -> Result<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no package is made for {other}"),
    }
}
