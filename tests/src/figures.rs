//! Figures: the middle of what was measured in pairs, beside what it should be,
//! as text for people and JSON for machines. Pure: no clock, no machine.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The width no line of text exceeds.
pub const COLUMNS: usize = 80;

/// The middle of some samples, and the outermost ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the samples are smaller, half are larger.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Of these samples; `None` where there is none. What is no number (a division by
    /// zero) is left out.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut samples: Vec<f64> = samples.into_iter().filter(|s| s.is_finite()).collect();
        samples.sort_by(f64::total_cmp);
        let (low, high) = (*samples.first()?, *samples.last()?);
        let middle = samples.len() / 2;
        let upper = *samples.get(middle)?;
        let median = if samples.len().is_multiple_of(2) {
            f64::midpoint(*samples.get(middle - 1)?, upper)
        } else {
            upper
        };
        Some(Spread { median, low, high })
    }
}

/// Which side of a number is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    /// How far `value` is on the wrong side; `None` where it is not.
    pub fn missed_by(self, value: f64) -> Option<f64> {
        let over = match self {
            Bound::AtMost(most) => value - most,
            Bound::AtLeast(least) => least - value,
        };
        // What is no number reaches nothing.
        (over > 0.0 || over.is_nan()).then_some(over)
    }

    /// How bad a value is: by how much of the bound it is on the wrong side.
    fn excess(self, value: f64) -> f64 {
        let scale = self.number().abs().max(f64::MIN_POSITIVE);
        match self {
            _ if value.is_nan() => f64::INFINITY,
            Bound::AtMost(most) => (value - most) / scale,
            Bound::AtLeast(least) => (least - value) / scale,
        }
    }

    fn number(self) -> f64 {
        match self {
            Bound::AtMost(number) | Bound::AtLeast(number) => number,
        }
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// From where on it is reached.
    pub bound: Bound,
}

/// Everything that is to be reached, once; figures name these.
pub mod target {
    use super::{
        Bound::{AtLeast, AtMost},
        Target,
    };

    macro_rules! targets {
        ($($(#[$doc:meta])* $name:ident = $key:literal, $label:literal, $bound:expr;)*) => {
            $( $(#[$doc])* pub const $name: Target = Target {
                name: $key,
                label: $label,
                bound: $bound,
            }; )*
            /// All of them, in the order in which they are printed.
            pub const ALL: &[Target] = &[$($name),*];
        };
    }

    targets! {
        /// What the recorder adds to a null call, by what two empty programs add.
        FLOORS = "null_call_floors", "null call, in floors", AtMost(3.0);
        /// The same above what two programs add that only read the clock, ns.
        ABOVE_CLOCK = "null_call_above_clock", "null call, above clocks", AtMost(30.0);
        /// CPU time of the daemon to read, decode, gather and compress an event, ns.
        USER_CPU = "cpu_per_event", "daemon's CPU per event", AtMost(100.0);
        /// Bytes per event in the file of a server, without the state of the host.
        DENSITY_SERVER = "density_server", "density, servers", AtMost(3.7);
        /// The same of a compile, which has many path strings.
        DENSITY_COMPILE = "density_compile", "density, compile", AtMost(5.5);
        /// Resident memory above `--memory`, MiB, whatever the load.
        RESIDENT = "resident_above_memory", "resident above --memory", AtMost(64.0);
        /// From the request until thirty million events are durable, ms; as good is 1.3 times
        /// what writing and fsyncing as many bytes takes on that disk.
        DUMP = "dump", "large window durable", AtMost(1_000.0);
        /// How long the hand-over of the window takes, ms.
        FREEZE = "freeze", "freeze", AtMost(1.0);
        /// Events lost because of a dump.
        DUMP_LOSS = "dump_loss", "lost because of dumps", AtMost(0.0);
        /// Million events a second of CPU time, filtered by process.
        REPLAY = "replay", "replay, filtered", AtLeast(5.0);
        /// From the start of a replay to its first event line, ms.
        FIRST_LINE = "first_line", "first line of a replay", AtMost(300.0);
        /// Ledgers that do not close.
        LEDGER = "ledger", "ledgers that do not close", AtMost(0.0);
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    key: String,
    label: String,
    unit: &'static str,
    decimals: usize,
    value: f64,
    spread: Option<Spread>,
    target: Option<Target>,
}

impl Figure {
    /// A figure that was measured once. `label` is at most 28 characters.
    pub fn new(key: &str, label: &str, value: f64, unit: &'static str, decimals: usize) -> Figure {
        let (key, label) = (key.to_string(), label.to_string());
        Figure { key, label, unit, decimals, value, spread: None, target: None }
    }

    /// The median of what was measured several times.
    pub fn median(
        key: &str,
        label: &str,
        samples: impl IntoIterator<Item = f64>,
        unit: &'static str,
        decimals: usize,
    ) -> Figure {
        let spread = Spread::of(samples);
        let value = spread.map_or(f64::NAN, |spread| spread.median);
        Figure { spread, ..Figure::new(key, label, value, unit, decimals) }
    }

    /// What it should be.
    pub fn target(self, target: Target) -> Figure {
        Figure { target: Some(target), ..self }
    }

    /// The value.
    pub fn value(&self) -> f64 {
        self.value
    }

    fn json(&self) -> Value {
        let mut json = Map::new();
        // JSON has no word for what is no number: it becomes null.
        json.insert("value".to_string(), json!(self.value));
        json.insert("unit".to_string(), json!(self.unit));
        if let Some(Spread { low, high, .. }) = self.spread {
            json.insert("low".to_string(), json!(low));
            json.insert("high".to_string(), json!(high));
        }
        if let Some(target) = self.target {
            json.insert("target".to_string(), json!(target.name));
            json.extend(self.verdict_json(target.bound));
        }
        Value::Object(json)
    }

    fn verdict_json(&self, bound: Bound) -> Map<String, Value> {
        let side = match bound {
            Bound::AtMost(_) => "at_most",
            Bound::AtLeast(_) => "at_least",
        };
        let mut json = Map::new();
        json.insert(side.to_string(), json!(bound.number()));
        let missed = bound.missed_by(self.value);
        json.insert("met".to_string(), json!(missed.is_none()));
        if let Some(by) = missed {
            json.insert("missed_by".to_string(), json!(by));
        }
        json
    }

    fn line(&self, label: &str) -> String {
        let value = shown(self.value, self.decimals);
        let mut line = format!("  {label:<28}{value:>11} {:<6}", self.unit);
        let rest = match (self.target, self.spread) {
            (Some(target), _) => self.verdict(target.bound),
            (None, Some(Spread { low, high, .. })) => {
                format!("{} to {}", shown(low, self.decimals), shown(high, self.decimals))
            }
            (None, None) => String::new(),
        };
        if line.chars().count() + 1 + rest.chars().count() > COLUMNS {
            let _ = write!(line, "\n{rest:>COLUMNS$}");
        } else {
            let _ = write!(line, " {rest}");
        }
        line.trim_end().to_string()
    }

    fn verdict(&self, bound: Bound) -> String {
        let side = match bound {
            Bound::AtMost(_) => "at most",
            Bound::AtLeast(_) => "at least",
        };
        let number = shown(bound.number(), self.decimals);
        match bound.missed_by(self.value) {
            None => format!("{side} {number}: met"),
            Some(by) => format!("{side} {number}: missed by {}", shown(by, self.decimals)),
        }
    }
}

/// Figures that were measured together.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its name in JSON.
    pub key: String,
    /// Its name for people.
    pub title: String,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What one must know to read them, a sentence each.
    pub notes: Vec<String>,
}

impl Section {
    /// A section without figures.
    pub fn new(key: &str, title: &str) -> Section {
        Section { key: key.to_string(), title: title.to_string(), ..Section::default() }
    }

    /// As lines.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for figure in &self.figures {
            let _ = writeln!(text, "{}", figure.line(&figure.label));
        }
        for note in &self.notes {
            text += &wrapped(note);
        }
        text
    }

    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| (figure.key.clone(), figure.json()));
        let mut json: Map<String, Value> = figures.collect();
        json.insert("notes".to_string(), json!(self.notes));
        Value::Object(json)
    }
}

/// Everything a run gave.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it was measured on: name and value.
    pub machine: Vec<(String, String)>,
    /// In the order of the run.
    pub sections: Vec<Section>,
}

impl Report {
    /// For each target the figure that is worst beside it, with its section; `None`
    /// where nothing of it was measured.
    pub fn worst(&self) -> Vec<(Target, Option<(&Section, &Figure)>)> {
        let excess = |figure: &Figure| match figure.target {
            Some(target) => target.bound.excess(figure.value),
            None => f64::NEG_INFINITY,
        };
        let of = |target: &Target| {
            let figures = self.sections.iter().flat_map(|section| {
                let is_of = |figure: &&Figure| figure.target.is_some_and(|t| t.name == target.name);
                section.figures.iter().filter(is_of).map(move |figure| (section, figure))
            });
            figures.max_by(|(_, a), (_, b)| excess(a).total_cmp(&excess(b)))
        };
        target::ALL.iter().map(|target| (*target, of(target))).collect()
    }

    /// The machine, as lines.
    pub fn machine_text(&self) -> String {
        self.machine.iter().map(|(name, value)| format!("{name:<12}{value}\n")).collect()
    }

    /// Each target with its worst figure, as lines.
    pub fn targets_text(&self) -> String {
        let mut text = "figures to reach (the worst of this run)\n".to_string();
        for (target, worst) in self.worst() {
            let line = match worst {
                Some((_, figure)) => figure.line(target.label),
                None => format!("  {:<28}{:>11}", target.label, "not measured"),
            };
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// One object.
    pub fn json(&self) -> Value {
        let machine: Map<String, Value> =
            self.machine.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let sections: Map<String, Value> =
            self.sections.iter().map(|section| (section.key.clone(), section.json())).collect();
        let targets: Vec<Value> = self
            .worst()
            .into_iter()
            .filter_map(|(target, worst)| {
                let (section, figure) = worst?;
                let mut json = figure.verdict_json(figure.target?.bound);
                json.insert("target".to_string(), json!(target.name));
                json.insert("section".to_string(), json!(section.key));
                json.insert("value".to_string(), json!(figure.value));
                json.insert("unit".to_string(), json!(figure.unit));
                Some(Value::Object(json))
            })
            .collect();
        json!({"machine": machine, "sections": sections, "targets": targets})
    }
}

/// A number with groups of three digits; `none` for what is no number.
fn shown(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "none".to_string();
    }
    let plain = format!("{value:.decimals$}");
    let (digits, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let behind = digits.len() - place;
        if place > 0 && behind.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A sentence as indented lines.
fn wrapped(sentence: &str) -> String {
    let mut text = String::new();
    let mut line = "  #".to_string();
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text += &line;
            text.push('\n');
            line = "   ".to_string();
        }
        line.push(' ');
        line += word;
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_samples() {
        let median = |samples: &[f64]| Spread::of(samples.iter().copied()).map(|s| s.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[100.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        let spread = Spread::of([3.0, f64::NAN, 1.0, 1.0 / 0.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
    }

    #[test]
    fn a_bound_is_missed_on_its_wrong_side_only() {
        assert_eq!(Bound::AtMost(3.0).missed_by(3.0), None);
        assert_eq!(Bound::AtMost(3.0).missed_by(5.5), Some(2.5));
        assert_eq!(Bound::AtLeast(5.0).missed_by(6.0), None);
        assert_eq!(Bound::AtLeast(5.0).missed_by(4.0), Some(1.0));
        assert!(Bound::AtMost(3.0).missed_by(f64::NAN).is_some(), "nothing measured meets nothing");
    }

    fn report() -> Report {
        let section = |key: &str, ns: f64| Section {
            figures: vec![
                Figure::median("cpu", "CPU per event", [ns, ns - 1.0, ns + 1.0], "ns", 1)
                    .target(target::USER_CPU),
                Figure::median("rate", "events", [1_234_567.0, 1_000.0], "/s", 0),
            ],
            notes: vec!["a note ".repeat(20)],
            ..Section::new(key, key)
        };
        let machine = vec![("kernel".to_string(), "6.18".to_string())];
        Report { machine, sections: vec![section("redis", 350.0), section("nginx", 99.0)] }
    }

    #[test]
    fn a_target_is_judged_by_its_worst_figure() {
        let report = report();
        let worst = report.worst();
        let (_, cpu) = worst.iter().find(|(target, _)| target.name == "cpu_per_event").unwrap();
        let (section, figure) = cpu.unwrap();
        assert_eq!((section.key.as_str(), figure.value()), ("redis", 350.0));
        assert_eq!(worst.iter().filter(|(_, worst)| worst.is_some()).count(), 1);
        let text = report.targets_text();
        assert!(text.contains("350.0 ns     at most 100.0: missed by 250.0\n"), "{text}");
        assert_eq!(text.matches("not measured").count(), target::ALL.len() - 1);
    }

    #[test]
    fn text_fits_the_columns() {
        let mut report = report();
        let (most, least) = (Bound::AtMost(1_000_000.5), Bound::AtLeast(123_456_789.5));
        for bound in [most, least] {
            let figure = Figure::new("x", &"x".repeat(28), 9_876_543.25, "events", 2);
            report.sections[0].figures.push(figure.target(Target { bound, ..target::REPLAY }));
        }
        let sections: String = report.sections.iter().map(Section::text).collect();
        let text = sections + &report.targets_text() + &report.machine_text();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert!(text.contains("617,784 /s     1,000 to 1,234,567\n"), "{text}");
    }

    #[test]
    fn numbers_are_grouped_and_what_is_none_says_so() {
        assert_eq!(shown(1_234_567.0, 0), "1,234,567");
        assert_eq!(shown(-1_234.56, 1), "-1,234.6");
        assert_eq!(shown(-123.0, 0), "-123");
        assert_eq!(shown(0.5, 3), "0.500");
        assert_eq!(shown(f64::NAN, 2), "none");
    }

    #[test]
    fn json_has_every_figure_and_every_verdict() {
        let json = report().json();
        assert_eq!(json["machine"]["kernel"], "6.18");
        let cpu = &json["sections"]["redis"]["cpu"];
        assert_eq!(
            (&cpu["value"], &cpu["low"], &cpu["high"]),
            (&json!(350.0), &json!(349.0), &json!(351.0))
        );
        assert_eq!((&cpu["at_most"], &cpu["met"]), (&json!(100.0), &json!(false)));
        assert_eq!(json["targets"][0]["missed_by"], 250.0);
        assert_eq!(json["sections"]["nginx"]["cpu"]["met"], true);
    }
}
