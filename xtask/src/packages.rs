//! Debian packages: what can be had, what is there, how to get the rest.

use std::{
    cell::Cell,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, toolchain::find_program};

/// The package manager of Debian and Ubuntu.
pub(crate) struct Apt {
    lists_are_fresh: Cell<bool>,
}

impl Apt {
    /// The package manager, where there is one.
    pub(crate) fn find() -> Option<Self> {
        find_program("apt-get").map(|_| Self { lists_are_fresh: Cell::new(false) })
    }

    /// Fetches the lists of packages, once, when we may.
    pub(crate) fn refresh(&self) -> Result<()> {
        if self.lists_are_fresh.get() || !process::is_root() {
            return Ok(());
        }
        say("apt-get update");
        process::run(apt_get().args(["update", "-q"]))?;
        self.lists_are_fresh.set(true);
        Ok(())
    }

    /// Whether `package` can be installed.
    pub(crate) fn offers(&self, package: &str) -> Result<bool> {
        let policy = process::capture(Command::new("apt-cache").args(["policy", package]))?;
        Ok(has_candidate(&policy))
    }

    /// Unpacks `package` into `home` without installing it: nothing of it starts, and
    /// nothing of the system changes. What is there stays.
    pub(crate) fn unpack(&self, package: &str, home: &Path) -> Result<()> {
        if home.is_dir() {
            return Ok(());
        }
        if !self.offers(package)? {
            self.refresh()?;
        }
        unpack_into(Command::new("apt-get"), package, home)
    }

    /// Installs those of `packages` that are not installed.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        let absent: Vec<&str> =
            packages.iter().copied().filter(|package| !is_installed(package)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        if !process::is_root() {
            bail!(
                "packages are missing and installing them needs root: run `apt-get update && apt-get install -y {}` as root, then this command again",
                absent.join(" ")
            );
        }
        self.refresh()?;
        say(&format!("apt-get install {}", absent.join(" ")));
        process::run(
            apt_get()
                .args(["install", "-q", "-y", "--no-install-recommends"])
                // Rather fail than take away a compiler somebody works with.
                .arg("--no-remove")
                .args(&absent),
        )
    }
}

/// Packages of another architecture, unpacked below a folder. Apt keeps what it knows of
/// them there as well: this machine stays one of a single architecture.
pub(crate) struct Foreign {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Foreign {
    /// Packages of `architecture`, as Debian calls it.
    pub(crate) fn new(architecture: &str, folder: &Path) -> Result<Self> {
        let (state, cache) = (folder.join("apt/state"), folder.join("apt/cache"));
        for folder in [state.join("lists/partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let configuration = folder.join("apt/configuration");
        let text = format!(
            "APT::Architecture \"{architecture}\";\nAPT::Architectures \"{architecture}\";\n\
             Dir::State \"{}\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{}\";\n\
             APT::Sandbox::User \"root\";\n",
            state.display(),
            cache.display()
        );
        fs::write(&configuration, text)
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let foreign = Self { folder: folder.join("packages"), configuration };
        say(&format!("apt-get update, for packages of {architecture}"));
        process::run(foreign.apt("apt-get").args(["update", "-q"]))?;
        Ok(foreign)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    /// What `package` depends on.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let said = process::capture(self.apt("apt-cache").args(["depends", package]))?;
        let depends = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(depends.map(str::to_owned).collect())
    }

    /// The folder that stands for `/` of a package.
    pub(crate) fn root(&self, package: &str) -> PathBuf {
        self.folder.join(package)
    }

    /// Unpacks `package`. What is there stays.
    pub(crate) fn unpack(&self, package: &str) -> Result<()> {
        unpack_into(self.apt("apt-get"), package, &self.root(package))
    }
}

/// Downloads `package` with this apt-get and unpacks it into `home`.
fn unpack_into(mut apt_get: Command, package: &str, home: &Path) -> Result<()> {
    if home.is_dir() {
        return Ok(());
    }
    // Under its final name only when it is whole.
    let partial = home.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    say(&format!("downloading {package}, it is not installed"));
    process::run(
        apt_get
            .current_dir(&partial)
            // Apt's own user may not enter this folder.
            .args(["-o", "APT::Sandbox::User=root", "-q", "download", package]),
    )?;
    let archive = file_with(&partial, |name| name.ends_with(".deb"))
        .with_context(|| format!("apt-get download left no package in {}", partial.display()))?;
    process::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&partial))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    fs::rename(&partial, home).with_context(|| format!("cannot make {}", home.display()))
}

/// The first file of a folder whose name fits.
pub(crate) fn file_with(folder: &Path, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find(|entry| fits(&entry.file_name().to_string_lossy())).map(|e| e.path())
}

/// What Debian asks before a package may start its service (Debian Policy 9.3.3).
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// While this lives no package starts the service it brings: we want programs, not
/// servers that listen on this host's ports.
pub(crate) struct NoServices {
    is_ours: bool,
}

impl NoServices {
    /// Leaves a policy that is there alone: its owner has decided already.
    pub(crate) fn forbid() -> Result<NoServices> {
        let policy =
            OpenOptions::new().write(true).create_new(true).mode(0o755).open(SERVICE_POLICY);
        match policy {
            Ok(mut file) => {
                let forbidden = NoServices { is_ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("cannot write {SERVICE_POLICY}"))?;
                Ok(forbidden)
            }
            // Not Debian's layout, or not root: then installing says what is wrong.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(NoServices { is_ours: false })
            }
            Err(_) if Path::new(SERVICE_POLICY).exists() => Ok(NoServices { is_ours: false }),
            Err(error) => Err(error).with_context(|| format!("cannot create {SERVICE_POLICY}")),
        }
    }

    /// Keeps a service that was just installed from starting with the next boot.
    pub(crate) fn disable(&self, service: &str) {
        let mut disable = Command::new("systemctl");
        disable.args(["disable", "--quiet", service]).stdout(Stdio::null()).stderr(Stdio::null());
        // Where there is no systemd there is nothing to disable.
        if disable.status().is_ok_and(|status| status.success()) {
            say(&format!("systemctl disable {service}"));
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            // Gone already is as good.
            let _ = fs::remove_file(SERVICE_POLICY);
        }
    }
}

/// One line per thing done, so that the user knows what changed on the machine.
pub(crate) fn say(what: &str) {
    println!("setup: {what}");
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    process::capture(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::has_candidate;

    #[test]
    fn a_candidate_is_a_version() {
        assert!(!has_candidate(""));
        assert!(!has_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(has_candidate("x:\n  Installed: (none)\n  Candidate: 1.2-3\n"));
    }
}
