//! Debian's kernels: found by the package that always names the newest one,
//! unpacked into the target folder, never installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    packages::{Apt, file_with},
    process,
};

/// A kernel of the matrix.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As given on the command line.
    pub(crate) version: &'static str,
    /// The package that depends on the newest build of it.
    package: &'static str,
}

/// The cloud builds: all drivers of virtual machines and the tracing options of
/// the ordinary kernel, in a quarter of the download.
const KERNELS: &[Kernel] = &[
    Kernel { version: "6.1", package: "linux-image-cloud-amd64" },
    Kernel { version: "6.12", package: "linux-image-6.12-cloud-amd64" },
];

/// The kernels `wanted` stands for: one, or `all`.
pub(crate) fn choose(wanted: &str) -> Result<Vec<&'static Kernel>> {
    let chosen: Vec<_> =
        KERNELS.iter().filter(|kernel| wanted == "all" || kernel.version == wanted).collect();
    if chosen.is_empty() {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.version).collect();
        bail!("no kernel {wanted}: choose {} or all", known.join(", "));
    }
    Ok(chosen)
}

impl Kernel {
    /// Unpacks the newest build below `folder` and returns its boot image.
    pub(crate) fn fetch(&self, folder: &Path) -> Result<PathBuf> {
        let package = self.newest_build()?;
        let home = folder.join(&package);
        if let Some(image) = boot_image(&home) {
            return Ok(image);
        }
        let apt = Apt::find().context("the kernels are Debian packages, and apt-get is missing")?;
        apt.unpack(&package, &home)?;
        boot_image(&home).with_context(|| format!("{package} has no boot/vmlinuz-*"))
    }

    fn newest_build(&self) -> Result<String> {
        let apt = Apt::find().context("the kernels are Debian packages, and apt-get is missing")?;
        if !apt.offers(self.package)? {
            apt.refresh()?;
        }
        let depends =
            process::capture(Command::new("apt-cache").args(["depends", self.package]))
                .with_context(|| format!("this distribution has no kernel {}", self.version))?;
        depended(&depends, self.version).map(str::to_owned).with_context(|| {
            format!("package {} depends on no kernel {} here", self.package, self.version)
        })
    }
}

/// The image package of `version` in what `apt-cache depends` prints.
fn depended<'a>(depends: &'a str, version: &str) -> Option<&'a str> {
    let image = format!("linux-image-{version}.");
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with(&image))
}

fn boot_image(home: &Path) -> Option<PathBuf> {
    file_with(&home.join("boot"), |name| name.starts_with("vmlinuz-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_version() {
        assert_eq!(choose("all").unwrap().len(), KERNELS.len());
        assert_eq!(choose("6.1").unwrap()[0].version, "6.1");
        assert!(choose("2.6").unwrap_err().to_string().contains("choose 6.1, 6.12 or all"));
    }

    #[test]
    fn six_one_is_not_six_twelve() {
        let depends = "linux-image-x\n  Depends: linux-image-6.12.5+deb12-cloud-amd64\n";
        assert_eq!(depended(depends, "6.12"), Some("linux-image-6.12.5+deb12-cloud-amd64"));
        assert_eq!(depended(depends, "6.1"), None);
    }
}
