//! Capabilities (capabilities(7)): each thread has its own, and hands them to the
//! threads it starts.

use std::{fs, io};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::loss::Missing;

/// What reading the memory, the calls and the wait channels of other users'
/// processes takes. Tried on 6.18: `/proc/PID/mem` and `/proc/PID/task/TID/syscall`
/// want both, `wchan` the first.
pub const READS_PROCESSES: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// The first kernel on which `kernel.unprivileged_bpf_disabled` refuses no more than
/// making maps and loading programs. Before, it refuses every bpf(2) call of a thread
/// without CAP_BPF (`__sys_bpf`, kernel/bpf/syscall.c, 5.18 and 5.19).
const BPF_FREE_SINCE: (u32, u32) = (5, 19);

/// Runs `work` with no effective capability: whatever it can do, it can do after the
/// start as well.
pub fn without_capabilities<T>(work: impl FnOnce() -> T) -> T {
    let before = capabilities(None);
    let lowered = before.is_ok_and(|before| {
        let none = CapabilitySets { effective: CapabilitySet::empty(), ..before };
        set_capabilities(None, none).is_ok()
    });
    let done = work();
    if let (true, Ok(before)) = (lowered, before)
        && let Err(error) = set_capabilities(None, before)
    {
        // What is permitted may be made effective; should it ever not be, the next
        // call that needs it says what is missing.
        tracing::warn!(%error, "capabilities cannot be raised again");
    }
    done
}

/// The capability that bpf(2) takes after the start, or none: tried by making the
/// calls, in `answers`, without any.
pub fn bpf_after_start(answers: impl FnOnce() -> bool) -> CapabilitySet {
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    // Unknown is as good as off: then nothing is proven.
    let switched = disabled.is_ok_and(|value| value.trim() != "0");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    needs_bpf(without_capabilities(answers), switched, &release)
}

/// A try proves nothing while the switch is off on a kernel where it would matter:
/// somebody may switch it on later, and the recording would end.
fn needs_bpf(answered: bool, switched: bool, release: &str) -> CapabilitySet {
    let proven = switched || version(release).is_some_and(|version| version >= BPF_FREE_SINCE);
    if answered && proven { CapabilitySet::empty() } else { CapabilitySet::BPF }
}

/// `6.1.0-41-cloud-amd64` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Gives up everything but `kept`, for the calling thread and those it will start.
/// Answers what the thread has then.
pub(super) fn keep(kept: CapabilitySet) -> io::Result<CapabilitySet> {
    clear_ambient_capability_set()?;
    let permitted = capabilities(None)?.permitted & kept;
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    Ok(capabilities(None)?.permitted)
}

/// Empties the bounding set where we may (CAP_SETPCAP, which only root has). Without
/// it nothing is won either: `no_new_privs` already keeps a program that is started
/// from getting more than it has.
pub(super) fn empty_bounding_set() {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // EINVAL: the kernel has no more; EPERM: we may not.
        if remove_capability_from_bounding_set(capability).is_err() {
            return;
        }
    }
}

/// `CAP_SYS_PTRACE`, ...
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// What is not recorded because this thread lacks a capability. Without CAP_BPF and
/// CAP_PERFMON nothing is: loading says so.
pub fn missing_capabilities() -> Vec<Missing> {
    // Always given for the own thread; otherwise everything was given up already.
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    lacking(held)
}

fn lacking(held: CapabilitySet) -> Vec<Missing> {
    let missing = |what: &str, why: &str| Missing { what: what.to_string(), why: why.to_string() };
    let mut found = Vec::new();
    if !held.contains(READS_PROCESSES) {
        let absent = names(READS_PROCESSES - held).join(" and ");
        found.push(missing(
            "strings of calls of other users that have not returned, and their calls from before \
             the recording",
            &format!("{absent} is missing: give it to the recorder"),
        ));
    }
    if !held.contains(CapabilitySet::SYS_PTRACE) {
        found.push(missing(
            "where calls of other users wait, and the programs of their processes from before the \
             recording",
            "CAP_SYS_PTRACE is missing: give it to the recorder",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_is_given_up_only_where_that_is_proven() {
        let none = CapabilitySet::empty();
        let bpf = CapabilitySet::BPF;
        // It was tried, and the kernel answered with its switch on.
        assert_eq!(needs_bpf(true, true, "5.14.0-503.el9.x86_64"), none);
        assert_eq!(needs_bpf(true, true, "6.1.0-41-cloud-amd64"), none);
        assert_eq!(needs_bpf(false, true, "5.10.0-30-amd64"), bpf);
        // With the switch off every kernel answers; only a newer one goes on to.
        assert_eq!(needs_bpf(true, false, "6.18.44"), none);
        assert_eq!(needs_bpf(true, false, "5.19.0"), none);
        assert_eq!(needs_bpf(true, false, "5.18.19"), bpf);
        assert_eq!(needs_bpf(true, false, "strange"), bpf);
        // Refused for whatever reason.
        assert_eq!(needs_bpf(false, false, "6.18.44"), bpf);
    }

    #[test]
    fn a_release_begins_with_its_version() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.4-rc1"), Some((5, 4)));
        for strange in ["", "6", "six.one", "6."] {
            assert_eq!(version(strange), None, "{strange:?}");
        }
    }

    #[test]
    fn each_capability_that_is_lacking_is_named() {
        assert_eq!(lacking(CapabilitySet::all()), []);
        assert_eq!(lacking(READS_PROCESSES), []);
        let of_dac = lacking(CapabilitySet::SYS_PTRACE);
        assert_eq!(of_dac.len(), 1);
        assert!(of_dac[0].why.starts_with("CAP_DAC_READ_SEARCH is missing"), "{of_dac:?}");
        let of_ptrace = lacking(CapabilitySet::DAC_READ_SEARCH);
        assert_eq!(of_ptrace.len(), 2);
        assert!(of_ptrace.iter().all(|row| row.why.starts_with("CAP_SYS_PTRACE is")));
        let of_both = lacking(CapabilitySet::empty());
        assert!(of_both[0].why.contains("CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"), "{of_both:?}");
    }
}
