//! Takes records out of the rings.
//!
//! Invariant: nothing is allocated per record, nothing is interpreted; a record
//! is bytes.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::Errno,
};

use crate::probe::{RingBuffer, Rings};

mod mapped;

pub use mapped::MappedRings;

/// Wakes whoever waits for records, from any thread.
#[derive(Clone)]
pub struct Wake {
    counter: Arc<OwnedFd>,
}

impl Wake {
    /// A wake-up nobody has used.
    pub fn new() -> io::Result<Wake> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { counter: Arc::new(counter) })
    }

    /// Ends the wait that is going on, or the next one.
    pub fn wake(&self) {
        // A full counter wakes just as well.
        let _ = rustix::io::write(&self.counter, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        // An empty counter is as clear.
        let _ = rustix::io::read(&self.counter, &mut [0u8; 8]);
    }
}

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

    /// Waits until a ring asks to be read, somebody wakes us, or the time is up.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;
}

/// The rings the kernel programs write.
pub struct KernelRings {
    rings: Source,
    wake: Wake,
    epoll: OwnedFd,
}

enum Source {
    Mapped { rings: MappedRings, doorbell: Box<RingBuffer> },
    Buffers(Vec<RingBuffer>),
}

impl KernelRings {
    /// The rings by CPU number. `wake` ends their wait.
    pub fn new(rings: Rings, wake: &Wake) -> io::Result<KernelRings> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &wake.counter, data, epoll::EventFlags::IN)?;
        // Edge-triggered: a ring with records in it is always readable, but only the
        // programs know when a visit is worth its price.
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let rings = match rings {
            Rings::Mapped { map, cpus, ring_bytes, key, doorbell } => {
                epoll::add(&epoll, doorbell.as_fd(), data, edge)?;
                let rings = MappedRings::new(map.fd().as_fd(), cpus, ring_bytes, key)?;
                Source::Mapped { rings, doorbell }
            }
            Rings::Buffers { rings, .. } => {
                for ring in &rings {
                    epoll::add(&epoll, ring.as_fd(), data, edge)?;
                }
                Source::Buffers(rings)
            }
        };
        Ok(KernelRings { rings, wake: wake.clone(), epoll })
    }
}

impl RecordSource for KernelRings {
    fn cpus(&self) -> usize {
        match &self.rings {
            Source::Mapped { rings, .. } => rings.cpus(),
            Source::Buffers(rings) => rings.len(),
        }
    }

    fn drain(
        &mut self,
        cpu: usize,
        records_max: usize,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> usize {
        match &mut self.rings {
            Source::Mapped { rings, .. } => rings.drain(cpu, records_max, take),
            Source::Buffers(rings) => {
                let Some(ring) = rings.get_mut(cpu) else { return 0 };
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
        }
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut woken = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        match epoll::wait(&self.epoll, &mut woken, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.wake.clear();
        if let Source::Mapped { doorbell, .. } = &mut self.rings {
            while doorbell.next().is_some() {}
        }
        Ok(())
    }
}
