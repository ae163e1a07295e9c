//! A file recorded under a kernel of the other architecture, for the tests that read it.
//!
//! Nothing of it runs here but in emulation: the recorder is built with Debian's cross
//! compiler and the standard library of Debian's own Rust for that architecture, the
//! kernel and the programs it watches are Debian's, unpacked ([`crate::packages`]).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    initramfs::Initramfs,
    machine::{self, FILE_BEGINS, FILE_ENDS, FINISHED, STARTED},
};
use crate::{
    packages::{Apt, Foreign, file_with},
    process, programs, setup, toolchain, workspace,
};

/// As Rust calls it.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// As Debian calls it.
const ARCHITECTURE: &str = "arm64";

/// The package that depends on the newest kernel.
const KERNEL: &str = "linux-image-cloud-arm64";

/// Debian's Rust keeps the standard library of each architecture in a package of that one.
const STANDARD_LIBRARY: &str = "libstd-rust-web-dev";

/// What the machine runs, and what that needs.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dash",
    "coreutils",
    "libc6",
    "libgcc-s1",
    "libselinux1",
    "libpcre2-8-0",
    "libacl1",
    "libattr1",
    "perl-base",
    "libcrypt1",
];

/// Programs of [`PACKAGES`], so that the calls are those of real programs.
const PROGRAMS: &[&str] = &[
    "base64", "busybox", "cat", "chroot", "dash", "dd", "ln", "ls", "mkdir", "mkfifo", "mv",
    "perl", "rm", "rmdir", "sleep", "timeout", "truncate",
];

/// Where a package of Debian 12 may have a program.
const PROGRAM_FOLDERS: &[&str] = &["bin", "sbin", "usr/bin", "usr/sbin"];

/// What is recorded: the file is small, and has files, pipes, sockets, signals, containers
/// and whatever else differs between architectures in it.
const WORKLOAD: &[(&str, &str)] =
    &[("/workload", include_str!("workload.sh")), ("/workload.pl", include_str!("workload.pl"))];

/// A snapshot larger than this has no place in the tree.
const FILE_BYTES_MAX: usize = 60_000;

/// Records [`WORKLOAD`] and writes the snapshot to `out`.
pub(crate) fn record(out: &Path) -> Result<()> {
    setup::run(&setup::Options::default())?;
    let apt = Apt::find().context("this needs Debian's packages, and apt-get is missing")?;
    setup::install_programs(Some(&apt), programs::VM_AARCH64)?;
    apt.install(&["libc6-dev-arm64-cross"])?;
    let folder = workspace::target_dir()?.join("vm").join(ARCHITECTURE);
    let foreign = Foreign::new(ARCHITECTURE, &folder)?;
    let kernel = foreign
        .depends(KERNEL)?
        .into_iter()
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("package {KERNEL} depends on no kernel"))?;
    for package in PACKAGES.iter().copied().chain([STANDARD_LIBRARY, kernel.as_str()]) {
        foreign.unpack(package)?;
    }
    let root = |package: &str| foreign.root(package);
    let vmlinuz = file_with(&root(&kernel).join("boot"), |name| name.starts_with("vmlinuz-"))
        .with_context(|| format!("{kernel} has no boot/vmlinuz-*"))?;
    let recorder = build_recorder(&root(STANDARD_LIBRARY), &folder)?;

    let image = folder.join("initramfs");
    let content = collect(&foreign, &recorder)?;
    fs::write(&image, content.archive())
        .with_context(|| format!("cannot write {}", image.display()))?;
    let lines = machine::boot(&mut qemu(&vmlinuz, &image))?;
    let file = decode(&lines)?;
    if file.len() > FILE_BYTES_MAX {
        bail!("the snapshot has {} bytes, at most {FILE_BYTES_MAX} are kept", file.len());
    }
    fs::write(out, &file).with_context(|| format!("cannot write {}", out.display()))?;
    println!("vm: {} has {} bytes", out.display(), file.len());
    Ok(())
}

/// The compiler is Debian's, because its standard library for the other architecture is.
fn build_recorder(library: &Path, folder: &Path) -> Result<PathBuf> {
    let sysroot = folder.join("sysroot");
    let link = sysroot.join("lib/rustlib").join(TARGET);
    fs::create_dir_all(sysroot.join("lib/rustlib"))
        .with_context(|| format!("cannot create {}", sysroot.display()))?;
    // One of an earlier version is in the way.
    let _ = fs::remove_file(&link);
    let from = library.join("usr/lib/rustlib").join(TARGET);
    std::os::unix::fs::symlink(&from, &link)
        .with_context(|| format!("cannot link {} to {}", link.display(), from.display()))?;
    let target = folder.join("target");
    process::run(
        process::cargo()
            .current_dir(workspace::root())
            .args(["build", "-p", "recorder", "--target", TARGET, "--target-dir"])
            .arg(&target)
            .env("RUSTC", toolchain::DISTRIBUTION_RUSTC)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
                format!("--sysroot {} -Cstrip=symbols", sysroot.display()),
            )
            .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc"),
    )?;
    Ok(target.join(TARGET).join("debug/recorder"))
}

/// The file system of the machine.
fn collect(foreign: &Foreign, recorder: &Path) -> Result<Initramfs> {
    let mut content = Initramfs::default();
    content.add("/init", 0o755, init_script().into_bytes());
    for (path, text) in WORKLOAD {
        content.add(path, 0o644, text.as_bytes().to_vec());
    }
    content.add("/etc/hostname", 0o644, b"recorder-arm64\n".to_vec());
    content.add("/etc/hosts", 0o644, b"127.0.0.1 localhost\n".to_vec());
    content.add_file("/bin/recorder", recorder)?;
    for program in PROGRAMS {
        let folders = PACKAGES.iter().flat_map(|package| {
            PROGRAM_FOLDERS.iter().map(|folder| foreign.root(package).join(folder))
        });
        let from = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
        let from = from.with_context(|| format!("no package has the program {program}"))?;
        content.add_file(&format!("/bin/{program}"), &from)?;
    }
    for package in PACKAGES.iter().filter(|package| package.starts_with("lib")) {
        for below in ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"] {
            let Ok(files) = fs::read_dir(foreign.root(package).join(below)) else { continue };
            for file in files.flatten().filter(|file| file.path().is_file()) {
                let name = file.file_name().to_string_lossy().into_owned();
                content.add_file(&format!("/lib/aarch64-linux-gnu/{name}"), &file.path())?;
                if name.starts_with("ld-linux-") {
                    content.add_file(&format!("/lib/{name}"), &file.path())?;
                }
            }
        }
    }
    Ok(content)
}

/// The first process: it records the workload, and prints the snapshot.
fn init_script() -> String {
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /applets /proc /sys /dev /tmp /run /root /var/lib
/bin/busybox --install -s /applets
export PATH=/bin:/applets HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname -F /etc/hostname
ip link set lo up
ulimit -l unlimited
echo "{STARTED} $(uname -r)"
# Older than the recording, so that it is known from /proc alone.
sleep 3600 < /etc/hosts &
recorder record --socket /run/socket --snapshots /tmp/snapshots --memory 64MiB > /tmp/log 2>&1 &
recorder=$!
left=300
while [ $left -gt 0 ] && ! grep -q ^recording /tmp/log; do sleep 0.2; left=$((left - 1)); done
cat /tmp/log
dash /workload
file=$(recorder dump --socket /run/socket --reason "recorded by hand")
code=$?
kill $recorder
recorder info "$file"
echo "{FILE_BEGINS}"
base64 "$file"
echo "{FILE_ENDS}"
echo "{FINISHED} $code"
poweroff -f
"#
    )
}

fn qemu(kernel: &Path, initramfs: &Path) -> Command {
    let mut command = Command::new("qemu-system-aarch64");
    command
        .args(["-machine", "virt", "-accel", "tcg", "-cpu", "max,pauth-impdef=on"])
        .args(["-smp", "1", "-m", "1G"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyAMA0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The bytes that these lines of base64 stand for.
fn decode(lines: &[String]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0u32, 0);
    for digit in lines.iter().flat_map(|line| line.bytes()).filter(|digit| *digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("the machine printed something in the middle of the file"),
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_it_is_written() {
        let read = |lines: &[&str]| {
            decode(&lines.iter().map(ToString::to_string).collect::<Vec<_>>()).ok()
        };
        assert_eq!(read(&["KLUv/Q=="]).as_deref(), Some(b"\x28\xb5\x2f\xfd".as_slice()));
        assert_eq!(read(&["aGVs", "bG8="]).as_deref(), Some(b"hello".as_slice()));
        assert_eq!(read(&[]).as_deref(), Some(b"".as_slice()));
        assert_eq!(read(&["[    1.0] BUG"]), None);
    }
}
