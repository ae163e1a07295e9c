//! What may be written: Landlock (Documentation/userspace-api/landlock.rst).
//!
//! Only rights that change something are handled: reading is free, since `/proc` and
//! `/sys` are what the recorder is about.
//!
//! Invariant: the thread that reads other processes is not held by it. Landlock keeps
//! whom it holds from processes that it does not hold (`hook_ptrace_access_check`,
//! security/landlock/task.c), which is all that thread does.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags,
};

use super::Confinement;

/// The newest rights that were looked at (Linux 6.15). What the kernel has of them is
/// taken.
const KNOWN: ABI = ABI::V7;

/// What a hook or a daemon opens for output nobody wants.
const NOWHERE: &str = "/dev/null";

/// Where a program that is started makes its temporary files.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];

/// What the kernel took.
pub(super) struct Restricted {
    /// The version of Landlock's interface; 0 where there is none.
    pub(super) abi: u32,
    /// What it does not do of what was asked for, and why.
    pub(super) less: Vec<(String, String)>,
}

/// Holds the calling thread, and those it will start, to what `confinement` says.
pub(super) fn restrict(confinement: &Confinement) -> Result<Restricted, String> {
    let mut less = Vec::new();
    let ruleset = ruleset(confinement, &mut less)?;
    let status = ruleset.restrict_self().map_err(|error| error.to_string())?;
    let abi = match status.landlock {
        LandlockStatus::NotImplemented => {
            return Err("this kernel has none: 5.13 is the first".to_string());
        }
        LandlockStatus::NotEnabled => {
            return Err(
                "this kernel has it switched off: add landlock to its lsm= list".to_string()
            );
        }
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => less.push((
            format!("not refused are {}", lost_below(abi)),
            format!("this kernel has version {abi} of it, all of that is refused by {KNOWN}"),
        )),
        RulesetStatus::NotEnforced => return Err("the kernel enforces nothing".to_string()),
    }
    Ok(Restricted { abi: abi as u32, less })
}

/// What an older version leaves free.
fn lost_below(abi: ABI) -> String {
    let since = [
        (ABI::V2, "moving files between directories that may be written"),
        (ABI::V3, "truncating a file"),
        (ABI::V4, "connecting and listening by TCP"),
        (ABI::V5, "ioctl on devices"),
        (ABI::V6, "signals to other processes"),
    ];
    let lost: Vec<&str> =
        since.into_iter().filter(|(first, _)| abi < *first).map(|(_, what)| what).collect();
    lost.join(", ")
}

/// What may be done where. A directory that is not there cannot be written anyway; it
/// is said in `less`.
fn ruleset(
    confinement: &Confinement,
    less: &mut Vec<(String, String)>,
) -> Result<RulesetCreated, String> {
    let failed = |error: landlock::RulesetError| error.to_string();
    let mut ruleset =
        Ruleset::default().handle_access(AccessFs::from_write(KNOWN)).map_err(failed)?;
    // A hook may speak to whomever it likes; the recorder itself only answers, on
    // sockets it has by now.
    if !confinement.executes {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN)).map_err(failed)?;
    }
    let mut created = ruleset.scope(Scope::Signal).map_err(failed)?.create().map_err(failed)?;
    for (path, access) in allowed(confinement) {
        created = match PathFd::new(path) {
            Ok(opened) => created.add_rule(PathBeneath::new(opened, access)).map_err(failed)?,
            Err(error) => {
                less.push((format!("{} cannot be written", path.display()), error.to_string()));
                created
            }
        };
    }
    Ok(created)
}

fn allowed(confinement: &Confinement) -> Vec<(&Path, BitFlags<AccessFs>)> {
    let executes = confinement.executes;
    let mut allowed: Vec<(&Path, BitFlags<AccessFs>)> = Vec::new();
    allowed.extend(confinement.writable.iter().map(|path| (&**path, in_directory(executes))));
    let removes = BitFlags::from(AccessFs::RemoveFile);
    allowed.extend(confinement.removable.iter().map(|path| (&**path, removes)));
    let nowhere = make_bitflags!(AccessFs::{WriteFile | Truncate});
    allowed.push((Path::new(NOWHERE), nowhere));
    if executes {
        allowed.extend(TEMPORARY.iter().map(|path| (Path::new(*path), in_directory(true))));
    }
    allowed
}

/// The recorder makes, writes, renames and removes plain files; a program it starts
/// may do what programs do, but for devices.
fn in_directory(executes: bool) -> BitFlags<AccessFs> {
    if executes {
        AccessFs::from_write(KNOWN) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev})
    } else {
        make_bitflags!(AccessFs::{MakeReg | WriteFile | RemoveFile | Truncate})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_kernel_leaves_free_is_said() {
        assert_eq!(lost_below(ABI::V6), "");
        assert_eq!(lost_below(ABI::V5), "signals to other processes");
        assert!(lost_below(ABI::V1).contains("truncating"));
    }
}
