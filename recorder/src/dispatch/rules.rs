//! Makes triggers of the firings of rules, and reads what rules about pressure need.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::{
        Arc, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Dispatcher, Incoming, StartError};
use crate::{
    clock,
    trigger::{
        Trigger,
        body::Message,
        rule::{Firing, PressureSampler, Resource, SAMPLE_EVERY},
    },
};

/// How often is looked whether there are rules about pressure by now.
const IDLE: Duration = Duration::from_secs(1);

/// Bytes read of a file in `/proc/pressure`: it has two short lines.
const PRESSURE_BYTES_MAX: u64 = 4096;

/// The rules about pressure, and which files of the kernel cannot be read.
#[derive(Default)]
pub(super) struct Pressures {
    sampler: PressureSampler,
    unreadable: Vec<Resource>,
}

impl Pressures {
    /// Reads every file once and answers what fires.
    fn sample(&mut self) -> Vec<Firing> {
        let mut firings = Vec::new();
        for resource in self.sampler.resources() {
            match read(resource) {
                Ok(text) => {
                    firings.extend(self.sampler.sample(resource, &text, clock::monotonic_ns()));
                }
                Err(error) if !self.unreadable.contains(&resource) => {
                    self.unreadable.push(resource);
                    let path = resource.path();
                    tracing::warn!(
                        "{path}: {error}: rules about this pressure never fire; a kernel that has \
                         it may want psi=1 on its command line"
                    );
                }
                Err(_) => {}
            }
        }
        firings
    }
}

fn read(resource: Resource) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(resource.path())?.take(PRESSURE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

impl Dispatcher {
    /// Makes triggers of firings on a thread of its own, which ends when nobody can send
    /// any more: when the recording has ended.
    pub fn follow(self: &Arc<Self>, firings: Receiver<Firing>) -> Result<(), StartError> {
        let dispatcher = Arc::clone(self);
        let named = std::thread::Builder::new().name("rules".to_string());
        named.spawn(move || dispatcher.take_firings(&firings)).map_err(StartError::Thread)?;
        Ok(())
    }

    /// Other rules from now on: those about pressure, and the names of all of them.
    pub fn set_rules<'a>(
        &self,
        mut pressure: PressureSampler,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        // A rate needs the zero from which it rises.
        for name in names {
            self.metrics.rule_firings.with_label_values(&[name]).inc_by(0);
        }
        let mut pressures = self.pressures();
        pressure.take_over(&pressures.sampler);
        *pressures = Pressures { sampler: pressure, unreadable: Vec::new() };
    }

    /// How often each rule about pressure fired.
    pub fn pressure_firings(&self) -> Vec<(String, u64)> {
        let pressures = self.pressures();
        pressures.sampler.firings().map(|(name, count)| (name.to_string(), count)).collect()
    }

    fn pressures(&self) -> MutexGuard<'_, Pressures> {
        self.pressures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_firings(&self, firings: &Receiver<Firing>) {
        let mut sample_at = Instant::now();
        loop {
            match firings.recv_timeout(sample_at.saturating_duration_since(Instant::now())) {
                Ok(firing) => self.fired(firing),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let mut pressures = self.pressures();
                    let every = if pressures.sampler.is_empty() { IDLE } else { SAMPLE_EVERY };
                    let fired = pressures.sample();
                    drop(pressures);
                    fired.into_iter().for_each(|firing| self.fired(firing));
                    sample_at = Instant::now() + every;
                }
            }
        }
    }

    fn fired(&self, firing: Firing) {
        self.metrics.rule_firings.with_label_values(&[firing.rule.as_str()]).inc();
        tracing::info!(rule = firing.rule, "{}", firing.reason);
        let mut trigger = Trigger::new("rule", firing.reason);
        trigger.name = firing.rule;
        trigger.at_ns = firing.ts_ns;
        for (name, value) in firing.labels {
            trigger.label(&name, value);
        }
        self.offer(Incoming {
            door: "rule",
            message: Message::one(trigger),
            local: true,
            before_ns: firing.before_ns,
            after_ns: firing.after_ns,
        });
    }
}
