//! The kernel tests on other kernels, in virtual machines.
//!
//! Nothing is installed into the kernel of this machine and no image is needed:
//! a kernel package of Debian is unpacked ([`kernel`]), the test binary with what
//! it needs becomes the initial file system ([`initramfs`]), and qemu runs both
//! under software emulation ([`machine`]). [`power_cut`] takes the power away from such
//! machines, [`aarch64`] takes a file from one of another architecture.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    fuzz, process,
    programs::{self, Program},
    setup,
    toolchain::find_program,
    workspace,
};

mod aarch64;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod power_cut;

use initramfs::Initramfs;

/// Which kernels, which tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The kernel to boot: 6.1, 6.12 or all
    #[arg(long, default_value = "all")]
    kernel: String,
    /// Run only tests whose name contains NAME
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Run the tests in their full length
    #[arg(long)]
    full: bool,
    /// Instead, record a small snapshot under Debian's arm64 kernel into FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "filter", "full"])]
    aarch64: Option<PathBuf>,
    /// Instead, cut the power of machines N times on each file system, and check what their
    /// disks have
    #[arg(long, value_name = "N", conflicts_with_all = ["filter", "full", "aarch64"])]
    power_cut: Option<usize>,
    /// Only on this file system
    #[arg(long, value_name = "NAME", requires = "power_cut")]
    file_system: Option<power_cut::FileSystem>,
    /// Makes the moments of the cuts, and what each leaves. From the clock otherwise
    #[arg(long, requires = "power_cut")]
    seed: Option<u64>,
    /// Also promise copies that nobody made durable: fails when none of them is lost
    #[arg(long, requires = "power_cut")]
    canary: bool,
}

/// Boots every kernel asked for and runs the kernel tests on it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!("virtual machines are made for x86_64, this is {}", env::consts::ARCH);
    }
    if let Some(out) = &options.aarch64 {
        return aarch64::record(out);
    }
    let kernels = kernel::choose(&options.kernel)?;
    if let Some(cuts) = options.power_cut {
        let seed = options.seed.map_or_else(fuzz::seed_of_the_clock, Ok)?;
        return power_cut::run(&power_cut::Order {
            cuts,
            seed,
            file_system: options.file_system,
            kernels,
            canary: options.canary,
        });
    }
    setup::run(&setup::Options { tests: true, vm: true, ..setup::Options::default() })?;
    let folder = workspace::target_dir()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;

    let image = folder.join("initramfs");
    let content = collect(options)?;
    fs::write(&image, content.archive())
        .with_context(|| format!("cannot write {}", image.display()))?;

    let mut failed = Vec::new();
    for kernel in &kernels {
        println!("== kernel {}", kernel.version);
        let vmlinuz = kernel.fetch(&folder)?;
        match machine::boot(&mut machine::qemu(&vmlinuz, &image)) {
            Ok(_) => println!("== kernel {}: passed\n", kernel.version),
            Err(problem) => {
                println!("== kernel {}: {problem:#}\n", kernel.version);
                failed.push(kernel.version);
            }
        }
    }
    if !failed.is_empty() {
        bail!("vm: the kernel tests fail on {}", failed.join(" and "));
    }
    println!("vm: the kernel tests passed on {} kernels", kernels.len());
    Ok(())
}

/// The file system of the machine: init, the tests, the recorder, and the
/// programs the tests start, each with its shared libraries.
fn collect(options: &Options) -> Result<Initramfs> {
    let mut content = Initramfs::default();
    content.add("/init", 0o755, init_script(options).into_bytes());
    for (path, text) in FILES {
        content.add(path, 0o644, text.as_bytes().to_vec());
    }
    add_program(&mut content, "/bin/kernel-tests", &build_tests()?)?;
    add_program(&mut content, "/bin/recorder", &build_recorder()?)?;
    add_program(&mut content, "/bin/busybox", &locate("busybox")?)?;
    for Program { name, .. } in programs::BASE.iter().chain(programs::TESTS) {
        add_program(&mut content, &format!("/bin/{name}"), &locate(name)?)?;
    }
    Ok(content)
}

/// What programs expect below /etc.
const FILES: &[(&str, &str)] = &[
    ("/etc/hostname", "recorder-vm\n"),
    ("/etc/hosts", "127.0.0.1 localhost recorder-vm\n::1 localhost\n"),
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// The first process. Its applets stand last in the PATH: where the real program
/// is there, tests see the calls of the real program.
fn init_script(options: &Options) -> String {
    let full = if options.full { "export RECORDER_TEST_FULL=1" } else { "" };
    let mut tests = Command::new("/bin/kernel-tests");
    tests.arg("--test-threads=1").args(&options.filter);
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /applets /proc /sys /dev /tmp /run /root /var/lib
/bin/busybox --install -s /applets
export PATH=/bin:/applets HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname -F /etc/hostname
ip link set lo up
ulimit -l unlimited
export RECORDER_BIN=/bin/recorder RECORDER_VM=1 RUST_BACKTRACE=1
{full}
echo "{started} $(uname -r)"
{tests}
echo "{finished} $?"
poweroff -f
"#,
        started = machine::STARTED,
        finished = machine::FINISHED,
        tests = process::shell_line(&tests),
    )
}

fn build_tests() -> Result<PathBuf> {
    let messages = process::capture(
        process::cargo()
            .current_dir(workspace::root())
            .args(["test", "--workspace", "--no-run", "--message-format=json"])
            .args(["--features", "recorder-tests/kernel", "--test", "kernel"])
            .stderr(Stdio::inherit()),
    )?;
    messages
        .lines()
        .filter(|line| line.contains(r#""name":"kernel""#))
        .find_map(|line| workspace::json_string(line, "executable"))
        .map(PathBuf::from)
        .context("cargo built no test named `kernel`")
}

fn build_recorder() -> Result<PathBuf> {
    process::run(process::cargo().current_dir(workspace::root()).args(["build", "--workspace"]))?;
    Ok(workspace::target_dir()?.join("debug/recorder"))
}

fn locate(program: &str) -> Result<PathBuf> {
    find_program(program).with_context(|| format!("{program} is not on the PATH"))
}

fn add_program(content: &mut Initramfs, at: &str, from: &Path) -> Result<()> {
    content.add_file(at, from)?;
    // A static program has none; ldd says so with a failure.
    let Ok(said) = process::capture(Command::new("ldd").arg(from)) else { return Ok(()) };
    for library in libraries(&said) {
        content.add_file(library, Path::new(library))?;
    }
    Ok(())
}

/// The paths in what ldd prints: `name => /path (address)` and, for the loader,
/// `/path (address)`.
fn libraries(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_ldd_names() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(libraries(said).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
        assert_eq!(libraries("\tstatically linked\n").count(), 0);
    }

    #[test]
    fn init_runs_the_tests_that_were_asked_for() {
        let options = Options {
            kernel: "all".into(),
            filter: Some("a b".into()),
            full: true,
            aarch64: None,
            power_cut: None,
            file_system: None,
            seed: None,
            canary: false,
        };
        let script = init_script(&options);
        assert!(script.contains("\n/bin/kernel-tests --test-threads=1 'a b'\n"), "{script}");
        assert!(script.contains("\nexport RECORDER_TEST_FULL=1\n"), "{script}");
    }
}
