//! The harness: a recorder of one's own in a directory of one's own, children that
//! do what a test wants recorded, and waits that say what they waited for.
//!
//! Invariant: nothing here sleeps to give something else time. A wait asks for a
//! fact again and again, and fails after [`LIMIT`] with the fact it missed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot go on fails the test"
)]

use std::io::Write as _;

mod cgroup;
mod child;
mod daemon;
mod directory;
mod events;
pub mod figures;
mod hierarchy;
pub mod http;
pub mod machine_code;
pub mod memory;
pub mod property;
pub mod secrets;
pub mod simulated;
pub mod strace;
pub mod synth;
mod wait;
pub mod written;

pub use cgroup::{MemoryGroup, take_memory};
pub use child::{Child, Ended, Pipe, errno, pin, rename_thread, this_thread};
pub use daemon::{Outcome, RecorderProcess, Start, binary, run};
pub use directory::TestDirectory;
pub use events::{
    calls, kind, last_deed, lost_count, ns, number, of_pid, one, position, recorded, text, word,
};
pub use hierarchy::{ControlGroup, Hierarchy};
pub use wait::{LIMIT, wait_for, wait_until};

/// How much work a test does: everything the promise names, or enough to notice.
#[derive(Clone, Copy, Debug)]
pub struct Counts;

impl Counts {
    /// `RECORDER_TEST_FULL=1`: the numbers as they are promised.
    pub fn full() -> bool {
        std::env::var_os("RECORDER_TEST_FULL").is_some_and(|value| value == "1")
    }

    /// `number` in a full run, a twentieth of it, but 5 at least, in any other.
    pub fn of(number: u64) -> u64 {
        if Counts::full() { number } else { (number / 20).max(5) }
    }
}

/// Says that a test did not test, and why. Always printed: a skip is never green
/// in silence.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    say(&format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test")));
}

/// Prints lines that are seen also when the test passes.
pub fn say(lines: &str) {
    // Not `println!`: what a test that passes prints is never seen.
    let _ = std::io::stderr().write_all(format!("\n{lines}").as_bytes());
}

/// A Debian package that was unpacked for the tests and not installed, because its
/// service would start: the folder that stands for `/`.
pub fn unpacked(package: &str) -> Option<std::path::PathBuf> {
    let folder = std::path::PathBuf::from(std::env::var_os("RECORDER_TEST_PACKAGES")?);
    Some(folder.join(package)).filter(|folder| folder.is_dir())
}

/// What a shell does in a network of its own, so that it has a peer that never answers.
pub const SILENT_PEER: &str = "ip link set lo up && ip link add silent0 type veth peer name silent1 \
    && ip addr add 192.0.2.1/24 dev silent0 && ip link set silent0 up && ip link set silent1 up \
    && ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev silent0";

/// What this host is called.
pub fn this_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    name.trim().to_string()
}

/// An address that was free a moment ago. Another program could take it before the
/// server that is meant to does; then the server says so.
pub fn free_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// Whether a program of this name can be started.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let default = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(default).any(|dir| dir.join(name).is_file())
}
