//! Takes records out of the rings.
//!
//! Invariant: nothing is allocated per record, nothing is interpreted; a record
//! is bytes.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::probe::Ring;

/// Where records come from, one stream per CPU. The rings of the kernel are one
/// source; tests have others.
pub trait RecordSource {
    /// How many streams there are.
    fn cpus(&self) -> usize;

    /// Hands at most `records_max` records of one CPU to `take`, oldest first.
    /// Answers how many there were. `take` answers whether to go on.
    fn drain(
        &mut self,
        cpu: usize,
        records_max: usize,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> usize;

    /// Waits until a ring asks to be read, `other` is readable, or the time is up.
    fn wait(&self, other: BorrowedFd<'_>, timeout: Duration) -> io::Result<()>;
}

/// The standard BPF ring buffer, one per CPU.
pub struct KernelRings {
    rings: Vec<Ring>,
}

impl KernelRings {
    /// The rings by CPU number.
    pub fn new(rings: Vec<Ring>) -> KernelRings {
        KernelRings { rings }
    }
}

impl RecordSource for KernelRings {
    fn cpus(&self) -> usize {
        self.rings.len()
    }

    fn drain(
        &mut self,
        cpu: usize,
        records_max: usize,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> usize {
        let Some(ring) = self.rings.get_mut(cpu) else { return 0 };
        let mut records = 0;
        while records < records_max {
            let Some(item) = ring.next() else { break };
            records += 1;
            if !take(&item) {
                break;
            }
        }
        records
    }

    fn wait(&self, other: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = self
            .rings
            .iter()
            .map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN))
            .collect();
        fds.push(PollFd::from_borrowed_fd(other, PollFlags::IN));
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
