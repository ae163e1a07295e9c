//! What the process gives up once it records: capabilities, new privileges, writing
//! elsewhere, and calls it never makes.
//!
//! Loading, attaching and the first look into `/proc` need privileges; answering
//! requests and writing files do not. So everything is given up in between, in steps,
//! because each mechanism reaches another set of threads:
//!
//! 1. [`Confining::begin`]: seccomp and `no_new_privs`, for all threads there are.
//! 2. The thread that reads other processes is started and calls [`keep_to_read`].
//! 3. [`Confining::narrow`]: Landlock and capabilities, for the calling thread and
//!    those it starts from then on.
//! 4. [`Confining::finish`]: the rest, for the calling thread and those it starts.
//!
//! Invariant: what cannot be given up is said and does not keep the recorder from
//! recording. Capabilities are no wall between the threads of a process, which share
//! their memory: they keep a confused thread from doing what only another one may.

mod calls;
mod capabilities;
mod files;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use rustix::thread::CapabilitySet;

pub use capabilities::{
    READS_PROCESSES, bpf_after_start, missing_capabilities, without_capabilities,
};

use crate::loss::Missing;

/// What is still to be done after the start; everything else is given up.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// Directories in which files are made, written, renamed and removed. What is
    /// mounted there later, or made anew in their place, is another directory.
    pub writable: Vec<PathBuf>,
    /// Directories in which files are removed, no more.
    pub removable: Vec<PathBuf>,
    /// Whether other programs are started. They inherit all of this, and may besides
    /// write the directories for temporary files and connect by TCP.
    pub executes: bool,
}

/// What was given up: `confinement` in what `status` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confined {
    /// The capabilities that are left, by the name of the thread that has them. A
    /// thread that is not named has none.
    pub capabilities: BTreeMap<String, Vec<String>>,
    /// Whether a program that is started can have no more than we have.
    pub no_new_privs: bool,
    /// Whether calls that are never made are refused.
    pub seccomp: bool,
    /// The version of Landlock that keeps us from writing elsewhere; 0 without.
    pub landlock_abi: u32,
    /// Where we still may write.
    pub writable: Vec<PathBuf>,
    /// Whether other programs may be started: there is a hook.
    pub executes: bool,
    /// What could not be given up, and why.
    pub missing: Vec<Missing>,
}

/// What a thread is left with.
#[derive(Clone, Debug)]
pub struct Kept {
    capabilities: CapabilitySet,
    missing: Vec<Missing>,
}

/// Giving up, step by step.
#[derive(Debug)]
pub struct Confining {
    confinement: Confinement,
    confined: Confined,
}

impl Confining {
    /// For every thread of the process, those that will be started included: no new
    /// privileges, and no call that is never made. Nothing is loaded or attached after
    /// this.
    pub fn begin(confinement: Confinement) -> Confining {
        let executes = confinement.executes;
        let mut confined = Confined { executes, ..Confined::default() };
        match rustix::thread::set_no_new_privs(true) {
            Ok(()) => confined.no_new_privs = true,
            Err(error) => confined.lacks("no new privileges", error.to_string()),
        }
        capabilities::empty_bounding_set();
        match calls::refuse_for_all(executes) {
            Ok(()) => confined.seccomp = true,
            Err(why) => confined.lacks("seccomp: no call is refused", why),
        }
        Confining { confinement, confined }
    }

    /// Takes down what the thread called `name` keeps.
    pub fn note(&mut self, name: &str, kept: Kept) {
        if kept.missing.is_empty() && kept.capabilities.contains(CapabilitySet::BPF) {
            let why =
                "this kernel refuses bpf(2) without it, or may: 5.19 is the first that does not";
            self.confined.lacks(&format!("thread {name} keeps CAP_BPF"), why.to_string());
        }
        let names = capabilities::names(kept.capabilities);
        if !names.is_empty() {
            self.confined.capabilities.insert(name.to_string(), names);
        }
        self.confined.missing.extend(kept.missing);
    }

    /// For the calling thread and those it will start: writing where the confinement
    /// says and nowhere else, and of all capabilities at most `kept`, which are those
    /// of the thread called `name`, the next to be started.
    pub fn narrow(&mut self, name: &str, kept: CapabilitySet) {
        match files::restrict(&self.confinement) {
            Ok(restricted) => {
                self.confined.landlock_abi = restricted.abi;
                self.confined.writable.clone_from(&self.confinement.writable);
                for (what, why) in restricted.less {
                    self.confined.lacks(&format!("landlock: {what}"), why);
                }
            }
            Err(why) => self.confined.lacks("landlock: files can be written anywhere", why),
        }
        self.note(name, keep(kept));
    }

    /// For the calling thread and those it will start: no capability. Answers, and
    /// logs, what was not to be had.
    pub fn finish(mut self) -> Confined {
        self.note("others", keep(CapabilitySet::empty()));
        for Missing { what, why } in &self.confined.missing {
            tracing::warn!("not confined: {what}: {why}");
        }
        self.confined
    }
}

impl Confined {
    /// Whether all of `confinement` can still be done.
    pub fn allows(&self, confinement: &Confinement) -> bool {
        let may_write = |path| self.landlock_abi == 0 || self.writable.contains(path);
        (self.executes || !self.seccomp || !confinement.executes)
            && confinement.writable.iter().all(may_write)
    }

    fn lacks(&mut self, what: &str, why: String) {
        self.missing.push(Missing { what: what.to_string(), why });
    }
}

/// Gives up what the calling thread does not need to read other processes: all
/// capabilities but `kept`, and whatever writes.
pub fn keep_to_read(kept: CapabilitySet) -> Kept {
    let mut kept = keep(kept);
    if let Err(why) = calls::refuse_writing() {
        let what = "seccomp: the thread that reads other processes may write".to_string();
        kept.missing.push(Missing { what, why });
    }
    kept
}

fn keep(kept: CapabilitySet) -> Kept {
    match capabilities::keep(kept) {
        Ok(capabilities) => Kept { capabilities, missing: Vec::new() },
        Err(error) => {
            let what = "capabilities cannot be given up".to_string();
            let missing = vec![Missing { what, why: error.to_string() }];
            // Said to be all, since nobody knows.
            Kept { capabilities: CapabilitySet::all(), missing }
        }
    }
}
