//! What is shipped: a tree of files as it lies on a host, and from it a Debian package
//! and an archive.
//!
//! A few dozen lines instead of a packaging tool, because a tool would have to be
//! built on every machine that makes or tests a package, and `dpkg-deb` and `tar` are
//! there. Nothing here depends on the recorder, which may not be buildable yet when
//! xtask runs: its own example writes the manual and the completions.

mod deb;
mod tree;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, setup, toolchain::find_program, workspace};

/// What is made of what.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Package the program the tests use, which needs this host's C library
    #[arg(long)]
    pub(crate) debug: bool,
}

/// What was made.
pub(crate) struct Made {
    /// The files as they lie on a host.
    pub(crate) tree: PathBuf,
    /// The Debian package, where there is a `dpkg-deb`.
    pub(crate) deb: Option<PathBuf>,
}

/// The version of everything in this workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds and packages, and says where it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(&setup::Options::default())?;
    let made = make(options)?;
    let archive = archive(&made.tree)?;
    for path in made.deb.iter().chain([&archive]) {
        let bytes = fs::metadata(path).with_context(|| format!("no {}", path.display()))?.len();
        println!("{}: {} KiB", path.display(), bytes / 1024);
    }
    println!("the files of both are in {}", made.tree.display());
    println!("an image: podman build -f packaging/container/Containerfile {}", made.tree.display());
    Ok(())
}

/// Builds the program, and makes tree and package of it.
pub(crate) fn make(options: &Options) -> Result<Made> {
    let built = build(options)?;
    let home = workspace::target_dir()?.join("dist").join(built.kind);
    let pages = home.join("pages");
    let epoch = epoch_s();
    process::run(Command::new(&built.pages).arg(&pages).arg(date(epoch)?))?;
    let tree = home.join("tree");
    tree::stage(&tree, &built.program, &pages)?;
    let deb = match find_program("dpkg-deb") {
        Some(_) => Some(deb::build(&home, &tree, epoch)?),
        None => {
            println!("there is no dpkg-deb here: no Debian package is made");
            None
        }
    };
    Ok(Made { tree, deb })
}

struct Built {
    kind: &'static str,
    program: PathBuf,
    pages: PathBuf,
}

fn build(options: &Options) -> Result<Built> {
    let target = workspace::target_dir()?;
    let mut cargo = process::cargo();
    cargo.current_dir(workspace::root());
    let (kind, folder) = if options.debug {
        // What `cargo xtask test` has built already.
        cargo.args(["build", "--workspace", "--bins", "--examples"]);
        ("debug", target.join("debug"))
    } else {
        let host = host()?;
        if !host.ends_with("-linux-gnu") && !host.ends_with("-linux-musl") {
            bail!("a static program cannot be built on {host}");
        }
        // One file for every distribution: the C library is in it.
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
        cargo.args(["build", "--release", "-p", "recorder", "--bin", "recorder"]);
        // With the target named, build scripts and macros stay dynamic, as they must.
        cargo.args(["--example", "pages", "--target", &host]);
        ("release", target.join(host).join("release"))
    };
    println!("$ {}", process::shell_line(&cargo));
    process::run(&mut cargo)?;
    Ok(Built { kind, program: folder.join("recorder"), pages: folder.join("examples/pages") })
}

fn host() -> Result<String> {
    let said = process::capture(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// The same sources make the same package: its time is that of the last commit, where
/// `SOURCE_DATE_EPOCH` does not say another one.
fn epoch_s() -> u64 {
    let said = env::var("SOURCE_DATE_EPOCH").ok();
    let committed = || {
        let mut git = Command::new("git");
        git.current_dir(workspace::root());
        // The tree may belong to somebody else than root, who runs the tests.
        git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]);
        process::capture(&mut git).ok()
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = said.or_else(committed).and_then(|text| text.trim().parse().ok());
    seconds.unwrap_or_else(now)
}

/// The day, for the manual.
fn date(epoch_s: u64) -> Result<String> {
    let at = format!("@{epoch_s}");
    let said = process::capture(Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%d"]))?;
    Ok(said.trim().to_owned())
}

/// A plain archive of the tree, for hosts without dpkg.
fn archive(tree: &Path) -> Result<PathBuf> {
    let home = tree.parent().context("the tree lies in a folder")?;
    let name = format!("recorder-{VERSION}-{}-linux", env::consts::ARCH);
    let archive = home.join(format!("{name}.tar.gz"));
    let tar = find_program("tar").context("tar is missing: install it")?;
    process::run(
        Command::new(tar)
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .arg(format!("--mtime=@{}", epoch_s()))
            .arg(format!("--transform=s,^\\.,{name},"))
            .arg("-C")
            .arg(tree)
            .arg("-czf")
            .arg(&archive)
            .arg("."),
    )?;
    Ok(archive)
}
