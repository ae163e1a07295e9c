//! What can be watched from outside: counters that live as long as the recorder, and
//! readings taken when somebody looks.

use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use super::keep::Stored;
use crate::{
    privacy::{MaskState, Secret},
    recorder::Health,
    spool::SpoolHealth,
};

/// Bounds of the time a snapshot takes: a second is what is promised.
const DURATION_SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// Bounds of the time the rings wait: a millisecond is what is promised.
const FREEZE_SECONDS: [f64; 8] = [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.1];

/// The counters.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// By door and outcome.
    pub(super) triggers: IntCounterVec,
    /// By source and result.
    pub(super) snapshots: IntCounterVec,
    pub(super) durations: Histogram,
    pub(super) freezes: Histogram,
    pub(super) last_at: Gauge,
    pub(super) last_bytes: Gauge,
    /// By result.
    pub(super) hooks: IntCounterVec,
    /// By rule.
    pub(super) rule_firings: IntCounterVec,
    /// By what was reached.
    pub(super) limits: IntCounterVec,
}

impl Metrics {
    /// All of them at nothing.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let histogram = |name: &str, help: &str, bounds: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            registered(&registry, Histogram::with_opts(options)?)
        };
        let gauge = |name: &str, help: &str| {
            registered(&registry, Gauge::with_opts(Opts::new(name, help))?)
        };
        Ok(Metrics {
            triggers: counters(
                "recorder_triggers_total",
                "Triggers that came in, by door and what became of them.",
                &["source", "outcome"],
            )?,
            snapshots: counters(
                "recorder_snapshots_total",
                "Snapshots taken, by who asked and how it ended.",
                &["source", "result"],
            )?,
            durations: histogram(
                "recorder_snapshot_duration_seconds",
                "From the request until a snapshot was durable.",
                &DURATION_SECONDS,
            )?,
            freezes: histogram(
                "recorder_snapshot_freeze_seconds",
                "How long the rings waited while a snapshot was handed over.",
                &FREEZE_SECONDS,
            )?,
            last_at: gauge(
                "recorder_last_snapshot_timestamp_seconds",
                "When the last snapshot was durable; 0 before the first one.",
            )?,
            last_bytes: gauge("recorder_last_snapshot_bytes", "Size of the last snapshot.")?,
            hooks: counters(
                "recorder_hook_runs_total",
                "Runs of the program for finished snapshots, by how they ended.",
                &["result"],
            )?,
            rule_firings: counters(
                "recorder_rule_firings_total",
                "Firings of rules on the stream, by rule.",
                &["rule"],
            )?,
            limits: counters(
                "recorder_limits_reached_total",
                "Requests that were refused because a limit was reached, by which one.",
                &["limit"],
            )?,
            registry,
        })
    }

    /// Requests that were refused because this limit was reached.
    pub fn limit(&self, limit: &str) -> prometheus::IntCounter {
        self.limits.with_label_values(&[limit])
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self, readings: &Readings<'_>) -> Result<String, prometheus::Error> {
        let now = Registry::new();
        readings.register(&now)?;
        let mut families = self.registry.gather();
        families.extend(now.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// What is read when somebody looks.
pub struct Readings<'a> {
    /// The recording.
    pub health: &'a Health,
    /// The snapshots there are; `None` where their directory cannot be read.
    pub stored: Option<Stored>,
    /// When an event of our own came through last, seconds since 1970.
    pub canary_at: f64,
    /// The daemon itself.
    pub process: Process,
    /// The black box on disk, where there is one.
    pub spool: Option<SpoolHealth>,
}

/// The daemon itself, as Prometheus names it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// CPU time, seconds.
    pub cpu_seconds: f64,
    /// Memory in use.
    pub resident_bytes: u64,
    /// When it started, seconds since 1970.
    pub started_at: f64,
    /// Open descriptors.
    pub open_fds: u64,
}

impl Readings<'_> {
    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        self.recording(registry)?;
        self.books(registry)?;
        self.disk(registry)?;
        self.spool(registry)?;
        let process = self.process;
        let opts = Opts::new("process_cpu_seconds_total", "CPU time of the recorder.");
        let cpu = registered(registry, prometheus::Counter::with_opts(opts)?)?;
        cpu.inc_by(process.cpu_seconds.max(0.0));
        gauge(
            registry,
            "process_resident_memory_bytes",
            "Resident set of the recorder.",
            process.resident_bytes as f64,
        )?;
        gauge(
            registry,
            "process_start_time_seconds",
            "When the recorder started.",
            process.started_at,
        )?;
        gauge(
            registry,
            "process_open_fds",
            "Open descriptors of the recorder.",
            process.open_fds as f64,
        )
    }

    fn recording(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let health = self.health;
        let build = gauges(registry, "recorder_build_info", "The program.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let recording = f64::from(u8::from(health.recording));
        gauge(
            registry,
            "recorder_recording",
            "1 once an event of its own came through the whole path.",
            recording,
        )?;
        gauge(
            registry,
            "recorder_canary_timestamp_seconds",
            "When an event of its own came through the whole path last.",
            self.canary_at,
        )?;
        gauge(
            registry,
            "recorder_window_seconds",
            "How far back the window goes now.",
            health.window.span_s,
        )?;
        gauge(
            registry,
            "recorder_window_asked_seconds",
            "How far back it is set to go.",
            health.window.asked_s,
        )?;
        let help = "How far back it goes for one class of events.";
        let classes = gauges(registry, "recorder_window_class_seconds", help, &["class"])?;
        for class in &health.window.classes {
            classes.with_label_values(&[class.class.as_str()]).set(class.span_s);
        }
        let memory = &health.memory;
        let help = "Memory of what grows, part by part.";
        let parts = gauges(registry, "recorder_memory_bytes", help, &["part"])?;
        for (part, bytes) in memory.parts() {
            parts.with_label_values(&[part]).set(bytes as f64);
        }
        gauge(
            registry,
            "recorder_memory_limit_bytes",
            "What all of it may be together.",
            memory.limit as f64,
        )
    }

    fn books(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let ledger = &self.health.ledger;
        let totals = [
            ("recorder_events_total", "Events the hooks saw.", ledger.seen),
            ("recorder_events_stored_total", "Events a ring took.", ledger.stored),
            (
                "recorder_events_malformed_total",
                "Records that made no sense to the reader.",
                ledger.malformed,
            ),
            ("recorder_events_evicted_total", "Events that left the window.", ledger.evicted),
            (
                "recorder_rule_firings_dropped_total",
                "Firings of rules that nobody took, because too many came at once.",
                self.health.rules.dropped,
            ),
            (
                "recorder_rule_events_unnamed_total",
                "Times a rule could not be judged because nobody knew the name of the thread.",
                self.health.rules.unnamed,
            ),
            (
                "recorder_rule_events_judged_early_total",
                "Events rules judged before all that came before them had been read.",
                self.health.rules.judged_early,
            ),
        ];
        for (name, help, total) in totals {
            let counter = prometheus::IntCounter::with_opts(Opts::new(name, help))?;
            registered(registry, counter)?.inc_by(total);
        }
        let by_reason = [
            (
                "recorder_events_filtered_total",
                "Events that were not wanted, by reason.",
                &ledger.filtered_by,
            ),
            ("recorder_events_lost_total", "Events that are missing, by reason.", &ledger.lost),
        ];
        for (name, help, counts) in by_reason {
            let counters = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
            let counters = registered(registry, counters)?;
            // A rate needs the zero from which it rises.
            if counts.is_empty() {
                counters.with_label_values(&["ring_full"]).inc_by(0);
            }
            for (reason, count) in counts {
                counters.with_label_values(&[reason.as_str()]).inc_by(*count);
            }
        }
        let help = "Secrets that were masked, by kind.";
        let masked = IntCounterVec::new(Opts::new("recorder_masked_total", help), &["kind"])?;
        let masked = registered(registry, masked)?;
        for secret in Secret::ALL {
            let count = self.health.privacy.masked.by_kind.get(secret.name());
            masked.with_label_values(&[secret.name()]).inc_by(count.copied().unwrap_or_default());
        }
        gauge(
            registry,
            "recorder_masking",
            "1 if secrets were masked ever since the recording began.",
            f64::from(u8::from(self.health.privacy.mask == MaskState::On)),
        )?;
        gauge(
            registry,
            "recorder_ledger_closes",
            "1 while every event is accounted for.",
            f64::from(u8::from(ledger.closes)),
        )
    }

    fn disk(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let Some(stored) = self.stored else { return Ok(()) };
        let readings = [
            ("recorder_snapshots_stored", "Snapshots that are kept.", stored.count),
            ("recorder_snapshots_stored_bytes", "Their size together.", stored.bytes),
            ("recorder_disk_free_bytes", "Free space where snapshots go.", stored.disk.free_bytes),
            (
                "recorder_disk_bytes",
                "Size of the file system where snapshots go.",
                stored.disk.total_bytes,
            ),
        ];
        for (name, help, reading) in readings {
            gauge(registry, name, help, reading as f64)?;
        }
        Ok(())
    }

    fn spool(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let Some(spool) = &self.spool else { return Ok(()) };
        gauge(
            registry,
            "recorder_spool_up",
            "1 while the spool is written.",
            f64::from(u8::from(spool.error.is_none())),
        )?;
        gauge(registry, "recorder_spool_bytes", "What its files take.", spool.bytes as f64)?;
        let counters = [
            ("recorder_spool_written_bytes_total", "Bytes written to it.", spool.written_bytes),
            (
                "recorder_spool_missed_events_total",
                "Events that were not written to it: the disk was too slow, or full.",
                spool.missed_events,
            ),
        ];
        for (name, help, value) in counters {
            let counter = prometheus::IntCounter::with_opts(Opts::new(name, help))?;
            registered(registry, counter)?.inc_by(value);
        }
        Ok(())
    }
}

fn gauge(registry: &Registry, name: &str, help: &str, value: f64) -> Result<(), prometheus::Error> {
    registered(registry, Gauge::with_opts(Opts::new(name, help))?)?.set(value);
    Ok(())
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    registered(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::keep::Disk;

    #[test]
    fn every_line_has_a_family_with_help() {
        let metrics = Metrics::new().unwrap();
        metrics.triggers.with_label_values(&["generic", "accepted"]).inc();
        metrics.durations.observe(0.2);
        let health = Health::default();
        let disk = Disk { free_bytes: 1, total_bytes: 2 };
        let stored = Some(Stored { count: 3, bytes: 4, disk });
        let process = Process::default();
        let spool = Some(SpoolHealth { missed_events: 5, ..SpoolHealth::default() });
        let readings = Readings { health: &health, stored, canary_at: 1.0, process, spool };
        let text = metrics.text(&readings).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffixes = ["_bucket", "_sum", "_count"];
            let family =
                suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(text.contains(&format!("# HELP {family} ")), "{line}");
        }
        assert!(
            text.contains("recorder_triggers_total{outcome=\"accepted\",source=\"generic\"} 1")
        );
        assert!(text.contains("recorder_snapshots_stored 3"));
        assert!(text.contains("recorder_spool_missed_events_total 5"));
        assert!(text.contains("recorder_events_lost_total{reason=\"ring_full\"} 0"));
    }
}
