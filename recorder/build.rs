//! Compiles the kernel programs into the recorder.
//!
//! Only with the feature `capture`: the offline half builds with stable Rust
//! alone. Two objects are made from the same sources, for kernels with and
//! without BTF; the recorder picks one when it starts.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

/// Set, it replaces the objects by empty files: enough for clippy and rustdoc.
const SKIP: &str = "RECORDER_SKIP_KERNEL_OBJECT";

/// Set, it makes the build say which toolchain it took.
const VERBOSE: &str = "RECORDER_BUILD_VERBOSE";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CAPTURE").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=../xtask/src/toolchain.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=../recorder-ebpf/Cargo.toml");
    println!("cargo::rerun-if-changed=../recorder-ebpf/src");
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-env-changed={VERBOSE}");

    if let Err(problem) = build() {
        // Cargo prints these lines as they are; after a panic or an exit code it
        // would wrap them into everything the script has ever printed.
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    if env::var_os(SKIP).is_some_and(|value| value != "0") {
        println!("cargo::rustc-env=RECORDER_KERNEL_TOOLCHAIN=none, {SKIP} was set");
        return toolchain::OBJECTS
            .iter()
            .try_for_each(|object| write_empty(&out_dir.join(object.file)));
    }

    let toolchain = toolchain::find().map_err(|missing| missing.to_string())?;
    let description = toolchain.describe();
    println!("cargo::rustc-env=RECORDER_KERNEL_TOOLCHAIN={description}");
    if env::var_os(VERBOSE).is_some() {
        println!("cargo::warning=kernel programs are built with {description}");
    }

    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let sources = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../recorder-ebpf");
    let target_dir = out_dir.join("kernel");
    let log = env::var_os("CARGO_FEATURE_DEBUG_LOG").map(|_| "log");
    for object in toolchain::OBJECTS {
        let said = toolchain
            .build_object(&sources, &arch, object, log.as_slice(), &target_dir, &out_dir)
            .map_err(|output| {
                format!("the kernel programs ({}) do not compile\n{output}", object.file)
            })?;
        for line in said.lines() {
            println!("cargo::warning={line}");
        }
    }
    Ok(())
}

fn write_empty(path: &Path) -> Result<(), String> {
    fs::write(path, []).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("cargo did not set {name}: {error}"))
}
