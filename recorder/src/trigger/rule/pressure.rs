//! Pressure: the share of the time in which tasks waited for something of which
//! there was too little, by the totals in `/proc/pressure`.
//!
//! The kernel's own averages are over ten seconds and more; the totals, read twice,
//! give the share over any time.

use std::collections::VecDeque;

use super::{Firing, PressureKind, Resource, gate::Gate, judge::span};

/// How often the files should be read while there is a rule about them.
pub const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// Readings kept for a rule: when they come faster than a hundredth of the time the
/// share is taken over, some are left out.
const READINGS_PER_SPAN: u64 = 100;

/// What the kernel says of one resource: microseconds since its start in which at
/// least one task waited, and in which all did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task waited.
    pub some_us: Option<u64>,
    /// All tasks that were not idle waited.
    pub full_us: Option<u64>,
}

/// Reads the text of a file in `/proc/pressure` (Documentation/accounting/psi.rst).
/// Any bytes give an answer; what is not understood is not there.
pub fn parse_pressure(text: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let total = match words.next() {
            Some("some") => &mut pressure.some_us,
            Some("full") => &mut pressure.full_us,
            _ => continue,
        };
        *total = words.find_map(|word| word.strip_prefix("total=")?.parse().ok());
    }
    pressure
}

/// A checked rule about pressure.
#[derive(Debug)]
pub(super) struct PressureRule {
    pub(super) gate: Gate,
    pub(super) resource: Resource,
    pub(super) kind: PressureKind,
    pub(super) percent: u32,
    pub(super) over_ns: u64,
    /// Moment and total, oldest first; the first is as old as the share is taken over.
    readings: VecDeque<(u64, u64)>,
}

impl PressureRule {
    pub(super) fn new(
        gate: Gate,
        resource: Resource,
        kind: PressureKind,
        percent: u32,
        over_ns: u64,
    ) -> PressureRule {
        PressureRule { gate, resource, kind, percent, over_ns, readings: VecDeque::new() }
    }

    fn sample(&mut self, total_us: u64, now_ns: u64) -> Option<Firing> {
        let (last_ns, last_us) = self.readings.back().copied().unwrap_or_default();
        if now_ns < last_ns || total_us < last_us {
            // Another clock or another kernel: what was read before says nothing.
            self.readings.clear();
        }
        let age = |reading: Option<&(u64, u64)>| reading.map(|(ns, _)| now_ns - ns);
        while age(self.readings.get(1)) >= Some(self.over_ns) {
            self.readings.pop_front();
        }
        let first = self.readings.front().copied();
        if age(self.readings.back()).is_none_or(|age| age >= self.over_ns / READINGS_PER_SPAN) {
            self.readings.push_back((now_ns, total_us));
        }
        let (first_ns, first_us) = first?;
        let span_ns = now_ns - first_ns;
        let waited_ns = (total_us - first_us).saturating_mul(1_000);
        // In 128 bits: a total may be anything.
        let share = u128::from(waited_ns) * 100;
        let holds = span_ns >= self.over_ns
            && share >= u128::from(span_ns) * u128::from(self.percent)
            && !self.gate.is_silent(now_ns);
        holds.then(|| {
            let (resource, kind) = (self.resource.name(), self.kind.name());
            let percent = (share / u128::from(span_ns)).min(100);
            let reason =
                format!("{resource} pressure ({kind}) was {percent} % over {}", span(span_ns));
            self.gate.fire(now_ns, reason, [("resource", resource.to_string())])
        })
    }
}

/// The rules about pressure. Whoever owns them reads the files of
/// [`PressureSampler::resources`] every [`SAMPLE_EVERY`].
#[derive(Debug, Default)]
pub struct PressureSampler {
    pub(super) rules: Vec<PressureRule>,
}

impl PressureSampler {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the rules are about, each once.
    pub fn resources(&self) -> Vec<Resource> {
        let mut resources: Vec<Resource> = self.rules.iter().map(|rule| rule.resource).collect();
        resources.sort_unstable();
        resources.dedup();
        resources
    }

    /// Takes what was just read of a resource; `now_ns` is the moment on the kernel's
    /// clock. A rule fires when tasks waited for its share of the time since the
    /// youngest reading that is as old as it asks for.
    pub fn sample(&mut self, resource: Resource, text: &[u8], now_ns: u64) -> Vec<Firing> {
        let pressure = parse_pressure(text);
        let about = self.rules.iter_mut().filter(|rule| rule.resource == resource);
        about
            .filter_map(|rule| {
                let total_us = match rule.kind {
                    PressureKind::Some => pressure.some_us,
                    PressureKind::Full => pressure.full_us,
                };
                rule.sample(total_us?, now_ns)
            })
            .collect()
    }

    /// Goes on where other rules were, see [`super::Rules::take_over`].
    pub fn take_over(&mut self, old: &PressureSampler) {
        for rule in &mut self.rules {
            for old in &old.rules {
                rule.gate.take_over(&old.gate);
            }
        }
    }

    /// How often each rule fired.
    pub fn firings(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules.iter().map(|rule| (rule.gate.name.as_str(), rule.gate.firings))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MS: u64 = 1_000_000;

    fn rule(percent: u32, over_ns: u64) -> PressureRule {
        let gate = Gate {
            name: "memory".to_string(),
            before_ns: None,
            after_ns: None,
            again_after_ns: 10_000 * MS,
            labels: BTreeMap::new(),
            fired_ns: None,
            firings: 0,
        };
        PressureRule::new(gate, Resource::Memory, PressureKind::Some, percent, over_ns)
    }

    #[test]
    fn totals_are_read_and_nothing_else() {
        let text = b"some avg10=0.04 avg60=0.12 avg300=0.30 total=6179638\n\
                     full avg10=0.00 avg60=0.01 avg300=0.23 total=5163673\n";
        let read = Pressure { some_us: Some(6_179_638), full_us: Some(5_163_673) };
        assert_eq!(parse_pressure(text), read);
        // The file of interrupts has no line for some.
        let irq = parse_pressure(b"full avg10=0.00 total=7\n");
        assert_eq!(irq, Pressure { some_us: None, full_us: Some(7) });
        for text in [
            &b""[..],
            b"\n\n",
            b"some",
            b"some total=",
            b"some total=-1",
            b"some total=99999999999999999999",
            b"some \xff total=1",
            b"none total=1",
            b"total=1 some",
        ] {
            assert_eq!(parse_pressure(text), Pressure::default(), "{text:?}");
        }
    }

    #[test]
    fn the_share_is_taken_over_the_time_that_was_asked_for() {
        let mut rule = rule(20, 1_000 * MS);
        let mut total_us = 50_000_000;
        let mut now_ns = 1_000 * MS;
        let mut step = |rule: &mut PressureRule, waited_us: u64| {
            total_us += waited_us;
            now_ns += 200 * MS;
            rule.sample(total_us, now_ns)
        };
        // 15 % is too little, however long.
        for _ in 0..30 {
            assert_eq!(step(&mut rule, 30_000), None);
        }
        // Half of the time: the second that ends here reaches 20 % in the second step.
        assert_eq!(step(&mut rule, 50_000), None, "17 %");
        let firing = step(&mut rule, 100_000).expect("24 %");
        assert_eq!(firing.reason, "memory pressure (some) was 24 % over 1.000 s");
        assert_eq!(firing.labels, [("resource".to_string(), "memory".to_string())].into());
        for _ in 0..49 {
            assert_eq!(step(&mut rule, 200_000), None, "silent for ten seconds");
        }
        assert!(step(&mut rule, 200_000).is_some(), "it still holds");
        assert_eq!(rule.gate.firings, 2);
    }

    #[test]
    fn nothing_fires_before_a_whole_span_was_seen() {
        let mut rule = rule(1, 1_000 * MS);
        for step in 0..5 {
            assert_eq!(rule.sample(step * 200_000, 1 + step * 200 * MS), None, "{step}");
        }
        assert!(rule.sample(1_000_000, 1 + 1_000 * MS).is_some());
    }

    #[test]
    fn strange_readings_are_survived_and_kept_few() {
        let mut rule = rule(1, 1_000 * MS);
        for now_ns in 0..100_000u64 {
            rule.sample(0, now_ns * MS / 100);
        }
        assert!(rule.readings.len() <= READINGS_PER_SPAN as usize + 2, "{}", rule.readings.len());
        assert_eq!(rule.sample(u64::MAX, 900 * MS), None, "time went back");
        assert_eq!(rule.sample(0, 901 * MS), None, "a total went back");
        assert_eq!(rule.sample(0, 902 * MS), None);
        let firing = rule.sample(u64::MAX, 1 << 60).expect("as large as can be");
        assert!(firing.reason.contains("100 % over"), "{firing:?}");
        assert_eq!(rule.sample(u64::MAX, 1 << 60), None, "silent");
    }
}
