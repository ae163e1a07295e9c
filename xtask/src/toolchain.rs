//! Finds what compiles the kernel programs, and compiles them.
//!
//! Stable Rust has no `core` for the BPF target. There are two ways to get one:
//! Debian ships it ready-made beside its own compiler ([`KernelToolchain::Distribution`]),
//! and a nightly toolchain with its sources can build it ([`KernelToolchain::Nightly`]).
//! Both link with `bpf-linker`. The first that is complete is taken.
//!
//! Invariant: this file uses the standard library alone and installs nothing.
//! It is compiled twice, into `xtask` and, through `#[path]`, into the build
//! script of `recorder`, so that both always mean the same toolchain.

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the kernel programs. All kernels we support run on
/// little-endian machines.
const BPF_TARGET: &str = "bpfel-unknown-none";

/// Where Debian's compiler lives. The one on the PATH is usually rustup's.
pub(crate) const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

const LINKER: &str = "bpf-linker";

/// An object of kernel programs.
pub(crate) struct KernelObject {
    /// The name of its file.
    pub(crate) file: &'static str,
    /// The program of `recorder-ebpf` it is made from.
    pub(crate) bin: &'static str,
    /// The features that is built with.
    pub(crate) features: &'static [&'static str],
}

/// The objects of the recorder, made from one set of sources. It picks one when it
/// starts, by whether the kernel describes its types (BTF).
pub(crate) const OBJECTS: &[KernelObject] = &[
    KernelObject { file: "recorder-btf.o", bin: "recorder-ebpf", features: &["probes", "btf"] },
    KernelObject { file: "recorder-classic.o", bin: "recorder-ebpf", features: &["probes"] },
];

/// What cargo may inherit from the cargo that called us. Everything else that
/// starts with `CARGO_` configures the outer build: its target, profile and flags.
const INHERITED: &[&str] = &[
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// A complete set of tools for the BPF target.
#[derive(Debug)]
pub(crate) enum KernelToolchain {
    /// A compiler of the distribution with a ready-made `core`.
    Distribution {
        /// The compiler.
        rustc: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
    /// Rustup's nightly with the sources of `core`.
    Nightly {
        /// The folder that holds nightly's `bin` and `lib`.
        sysroot: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
}

/// What each of the two ways still needs.
#[derive(Debug)]
pub(crate) struct Missing {
    /// Missing for [`KernelToolchain::Distribution`].
    pub(crate) distribution: Vec<String>,
    /// Missing for [`KernelToolchain::Nightly`].
    pub(crate) nightly: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "no toolchain for the kernel programs (Debian's compiler lacks: {}; rustup's nightly lacks: {}): run `cargo xtask setup`",
            self.distribution.join(", "),
            self.nightly.join(", "),
        )
    }
}

/// The first complete toolchain, or what is missing for either.
pub(crate) fn find() -> Result<KernelToolchain, Missing> {
    let linker = find_program(LINKER);
    let mut missing = Missing { distribution: Vec::new(), nightly: Vec::new() };

    let rustc = PathBuf::from(DISTRIBUTION_RUSTC);
    let has_core = has_ready_made_core(&rustc);
    if let (true, Some(linker)) = (has_core, &linker) {
        return Ok(KernelToolchain::Distribution { rustc, linker: linker.clone() });
    }
    if !has_core {
        missing.distribution.push(format!("`core` for {BPF_TARGET} under {DISTRIBUTION_RUSTC}"));
    }

    match (nightly_with_sources(), &linker) {
        (Ok(sysroot), Some(linker)) => {
            return Ok(KernelToolchain::Nightly { sysroot, linker: linker.clone() });
        }
        (Err(what), _) => missing.nightly.push(what),
        (Ok(_), None) => {}
    }
    if linker.is_none() {
        missing.distribution.push(LINKER.to_owned());
        missing.nightly.push(LINKER.to_owned());
    }
    Err(missing)
}

impl KernelToolchain {
    /// One line for people: which compiler and which linker.
    pub(crate) fn describe(&self) -> String {
        let (kind, rustc, linker) = match self {
            Self::Distribution { rustc, linker } => ("distribution", rustc.clone(), linker),
            Self::Nightly { sysroot, linker } => ("nightly", sysroot.join("bin/rustc"), linker),
        };
        let version = |program: &Path| {
            first_line(Command::new(program).arg("--version"))
                .unwrap_or_else(|| format!("{} of unknown version", program.display()))
        };
        format!("{}, {} ({kind})", version(&rustc), version(linker))
    }

    /// Compiles an object from the kernel programs in `manifest_dir` for kernels of
    /// `arch` (`x86_64` or `aarch64`) into the folder `out_dir`. `more_features` are
    /// added to its own.
    ///
    /// Returns what the compiler had to say, which is empty when it had no
    /// warnings; the error is its whole output.
    pub(crate) fn build_object(
        &self,
        manifest_dir: &Path,
        arch: &str,
        object: &KernelObject,
        more_features: &[&str],
        target_dir: &Path,
        out_dir: &Path,
    ) -> Result<String, String> {
        let features: Vec<&str> = object.features.iter().chain(more_features).copied().collect();
        let mut cargo = self.cargo(arch, target_dir);
        cargo
            .current_dir(manifest_dir)
            .args(["build", "--quiet", "--release", "--bin", object.bin])
            .args(["--target", BPF_TARGET])
            .arg("--features")
            .arg(features.join(","))
            .arg("--target-dir")
            .arg(target_dir);
        if let Self::Nightly { .. } = self {
            cargo.args(["-Z", "build-std=core"]);
        }

        let output = cargo.output().map_err(|error| format!("cannot start {cargo:?}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(format!("{cargo:?} failed ({})\n{said}", output.status));
        }
        let built = target_dir.join(BPF_TARGET).join("release").join(object.bin);
        let out = out_dir.join(object.file);
        fs::copy(&built, &out).map_err(|error| {
            format!("cannot copy {} to {}: {error}", built.display(), out.display())
        })?;
        Ok(said)
    }

    /// A cargo that knows nothing of the build it runs in.
    fn cargo(&self, arch: &str, target_dir: &Path) -> Command {
        let (program, rustc, linker) = match self {
            Self::Distribution { rustc, linker } => {
                (env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), rustc.clone(), linker)
            }
            Self::Nightly { sysroot, linker } => {
                (sysroot.join("bin/cargo").into_os_string(), sysroot.join("bin/rustc"), linker)
            }
        };
        let mut cargo = Command::new(program);
        for (name, _) in env::vars_os() {
            if configures_outer_build(&name) {
                cargo.env_remove(name);
            }
        }
        let flags = [
            &format!("-Clinker={}", linker.display()),
            // The instruction set of 5.1 and later: 32-bit arithmetic and atomic
            // operations with result.
            "-Ctarget-cpu=v3",
            // The types of maps and programs reach the kernel as BTF, which the
            // linker makes from full debug information.
            "-Cdebuginfo=2",
            "-Clink-arg=--btf",
            &format!("--cfg=bpf_target_arch=\"{arch}\""),
        ];
        cargo
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("RUSTC", rustc)
            // The programs need unstable intrinsics; this is the switch that
            // Debian's compiler, which is a stable one, has for it.
            .env("RUSTC_BOOTSTRAP", "1")
            // Set and empty overrules a wrapper from the user's configuration.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            // A build folder shared by configuration would be locked by the
            // outer cargo, which waits for us.
            .env("CARGO_BUILD_BUILD_DIR", target_dir)
            // The verifier wants one flat piece of code and no unwinding.
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
        if let Self::Nightly { sysroot, .. } = self {
            // A linker without an LLVM of its own looks for the compiler's.
            cargo.env("LD_LIBRARY_PATH", sysroot.join("lib"));
        }
        cargo
    }
}

/// Where `name` is, on the PATH or where `cargo install` puts programs.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_bin = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    env::split_paths(&path)
        .chain(cargo_bin)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

fn has_ready_made_core(rustc: &Path) -> bool {
    let mut ask = Command::new(rustc);
    ask.args(["--print", "target-libdir", "--target", BPF_TARGET]);
    let Some(folder) = first_line(&mut ask) else { return false };
    let Ok(files) = fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// The sysroot of rustup's nightly, or what it lacks.
fn nightly_with_sources() -> Result<PathBuf, String> {
    let rustup = find_program("rustup").ok_or("rustup")?;
    let mut ask = Command::new(rustup);
    // Looking must not download anything.
    ask.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let sysroot = PathBuf::from(first_line(&mut ask).ok_or("a nightly toolchain")?);
    if sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
        Ok(sysroot)
    } else {
        Err("its component rust-src".to_owned())
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

fn configures_outer_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    if name.starts_with("CARGO_") {
        return !INHERITED.iter().any(|kept| name.starts_with(kept));
    }
    name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS"
}
