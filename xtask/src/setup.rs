//! Installs what is missing and says what it does.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    packages::{Apt, NoServices, say},
    process,
    programs::{self, Program},
    toolchain::{self, KernelToolchain, Missing, find_program},
    workspace,
};

/// Debian's compiler with a ready-made `core`, and what linking a program needs.
const DISTRIBUTION_PACKAGES: &[&str] =
    &["rustc-web", "libstd-rust-web-dev-bpf", "gcc", "libc6-dev", "pkg-config", "libzstd-dev"];

/// The package that tells whether this distribution has the compiler we need:
/// older releases have `rustc-web` without it.
const DISTRIBUTION_CORE: &str = "libstd-rust-web-dev-bpf";

/// The LLVM of that compiler at the time of writing. Only a guess, to install
/// everything at once; the compiler is asked before the linker is built.
const EXPECTED_LLVM: &str = "22";

/// The version of bpf-linker this was built and tested with.
const LINKER_VERSION: &str = "0.13.0";

/// Where the authors of bpf-linker publish binaries with LLVM inside.
const LINKER_RELEASES: &str = "https://github.com/aya-rs/bpf-linker/releases/download";

/// What to install beside the toolchain.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Also install the programs the tests start
    #[arg(long)]
    pub(crate) tests: bool,
    /// Also those that only the full tests start
    #[arg(long)]
    pub(crate) full: bool,
    /// Also install what virtual machines need
    #[arg(long)]
    pub(crate) vm: bool,
    /// Also install the servers and clients the bench measures
    #[arg(long)]
    pub(crate) bench: bool,
}

/// Sees to it that everything asked for is there.
pub(crate) fn run(options: &Options) -> Result<()> {
    let apt = Apt::find();
    let toolchain = match toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => install_toolchain(apt.as_ref(), &missing)?,
    };
    say(&format!("kernel programs are built with {}", toolchain.describe()));
    if options.tests {
        install_checkers()?;
        install_programs(apt.as_ref(), programs::TESTS)?;
        let folder = unpacked_folder()?;
        for package in programs::UNPACKED {
            match &apt {
                Some(apt) => apt.unpack(package, &folder.join(package))?,
                None => say(&format!("{package} is not tried: there is no apt-get here")),
            }
        }
        install_programs(apt.as_ref(), programs::ORACLE)?;
        install_programs(apt.as_ref(), programs::PACKAGING)?;
    }
    if options.full {
        install_kubernetes_validate()?;
    }
    if options.vm {
        install_programs(apt.as_ref(), programs::VM)?;
    }
    if options.bench {
        install_programs(apt.as_ref(), programs::BENCH)?;
    }
    Ok(())
}

/// Where packages are unpacked that the tests use and nobody installs.
pub(crate) fn unpacked_folder() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("packages"))
}

fn install_toolchain(apt: Option<&Apt>, missing: &Missing) -> Result<KernelToolchain> {
    say(&format!("Debian's compiler lacks: {}", missing.distribution.join(", ")));
    let distribution = match apt {
        Some(apt) => {
            apt.refresh()?;
            apt.offers(DISTRIBUTION_CORE)?.then_some(apt)
        }
        None => None,
    };
    if let Some(apt) = distribution {
        install_distribution(apt)?;
    } else {
        say(&format!("no package {DISTRIBUTION_CORE} here, taking rustup's nightly"));
        say(&format!("nightly lacks: {}", missing.nightly.join(", ")));
        install_nightly(apt)?;
    }
    toolchain::find().map_err(|missing| {
        anyhow::anyhow!("everything was installed, but there is still {missing}")
    })
}

/// Debian's compiler, and bpf-linker built against the LLVM of that compiler.
fn install_distribution(apt: &Apt) -> Result<()> {
    if find_program("bpf-linker").is_some() {
        return apt.install(DISTRIBUTION_PACKAGES);
    }
    let expected = llvm_packages(EXPECTED_LLVM);
    let mut packages = DISTRIBUTION_PACKAGES.to_vec();
    for package in &expected {
        if apt.offers(package)? {
            packages.push(package);
        }
    }
    apt.install(&packages)?;

    let llvm = process::capture(Command::new(toolchain::DISTRIBUTION_RUSTC).arg("-vV"))
        .map(|version| llvm_major(&version).map(str::to_owned))?
        .with_context(|| format!("{} -vV names no LLVM", toolchain::DISTRIBUTION_RUSTC))?;
    apt.install(&llvm_packages(&llvm).each_ref().map(String::as_str))?;

    let mut install = process::cargo();
    install
        .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        // Without it the build looks in folders Debian does not use.
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
        // What cargo leaves behind belongs into its temporary folder.
        .env_remove("CARGO_TARGET_DIR");
    say(&format!("{} (about a minute)", process::shell_line(&install)));
    process::run(&mut install)
}

/// Rustup's nightly with sources, and the published bpf-linker: building it
/// would need the very LLVM of that nightly.
fn install_nightly(apt: Option<&Apt>) -> Result<()> {
    let rustup = find_program("rustup").context(
        "rustup is not installed: install it from https://rustup.rs, then run this command again",
    )?;
    let mut install = Command::new(rustup);
    install.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    install.args(["--component", "rust-src"]);
    say(&process::shell_line(&install));
    process::run(&mut install)?;

    if find_program("bpf-linker").is_some() {
        return Ok(());
    }
    for (program, package) in [("curl", "curl"), ("tar", "tar"), ("zstd", "zstd")] {
        if find_program(program).is_none() {
            let apt = apt.with_context(|| format!("{program} is missing: install it"))?;
            apt.install(&[package, "ca-certificates"])?;
        }
    }
    download_linker()
}

fn download_linker() -> Result<()> {
    let folder = cargo_bin()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let url = format!(
        "{LINKER_RELEASES}/v{LINKER_VERSION}/bpf-linker-{}-unknown-linux-musl.tar.zst",
        env::consts::ARCH
    );
    let archive = env::temp_dir().join(format!("bpf-linker-{}.tar.zst", std::process::id()));
    let mut download = Command::new("curl");
    download.args(["-fsSL", "--retry", "3", "-o"]).arg(&archive).arg(&url);
    say(&process::shell_line(&download));
    let unpacked = process::run(&mut download).and_then(|()| {
        let mut unpack = Command::new("tar");
        unpack.arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&folder);
        say(&process::shell_line(&unpack));
        process::run(&mut unpack)
    });
    // Gone already when nothing was downloaded.
    let _ = fs::remove_file(&archive);
    unpacked.context("bpf-linker is not installed")
}

fn cargo_bin() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set, so there is no place for bpf-linker")?;
    Ok(home.join("bin"))
}

/// A minimal rustup profile comes without rustfmt and clippy.
fn install_checkers() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let there = process::cargo()
            .args([verb, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !there {
            let mut install = Command::new("rustup");
            install.args(["component", "add", component]);
            say(&process::shell_line(&install));
            process::run(&mut install)?;
        }
    }
    Ok(())
}

pub(crate) fn install_programs(apt: Option<&Apt>, wanted: &[Program]) -> Result<()> {
    let absent: Vec<&Program> =
        wanted.iter().filter(|program| find_program(program.name).is_none()).collect();
    for program in &absent {
        say(&format!("{} is missing: {}", program.name, program.why));
    }
    let packages: Vec<&str> = absent.iter().map(|program| program.package).collect();
    match apt {
        _ if absent.is_empty() => return Ok(()),
        Some(apt) => {
            let services = NoServices::forbid()?;
            apt.install(&packages)?;
            for service in absent.iter().filter_map(|program| program.service) {
                services.disable(service);
            }
        }
        None => bail!("there is no apt-get here: install {} by hand", packages.join(", ")),
    }
    if let Some(program) = absent.iter().find(|program| find_program(program.name).is_none()) {
        bail!(
            "{} is not on the PATH though package {} is installed",
            program.name,
            program.package
        );
    }
    Ok(())
}

/// Into the folder of what nobody installs; 144 MB, and half a minute.
fn install_kubernetes_validate() -> Result<()> {
    let (name, package) = programs::KUBERNETES_VALIDATE;
    let home = unpacked_folder()?.join(name);
    if home.join("bin").join(name).is_file() {
        return Ok(());
    }
    let python = find_program("python3").context("python3 is missing: install python3-venv")?;
    say(&format!("python3 -m venv {0}, and pip install {package} there", home.display()));
    process::run(Command::new(python).args(["-m", "venv"]).arg(&home))?;
    process::run(Command::new(home.join("bin/pip")).args([
        "--quiet",
        "--disable-pip-version-check",
        "install",
        package,
    ]))
}

/// What building bpf-linker against LLVM of this major version needs.
fn llvm_packages(llvm: &str) -> [String; 2] {
    [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")]
}

fn llvm_major(version: &str) -> Option<&str> {
    let number = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    number.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_of_a_compiler_is_its_major_version() {
        assert_eq!(llvm_major("rustc 1.96.0\nLLVM version: 22.1.8\n"), Some("22"));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
