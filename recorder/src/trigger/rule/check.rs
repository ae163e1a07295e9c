//! From a rule as it is written to one that can be judged.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    COMMAND_BYTES_MAX, LABEL_BYTES_MAX, LABEL_NAME_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, On,
    PER_SECOND_MAX, PressureKind, RULES_MAX, Resource, Rule, RuleError, Rules, WORDS_MAX,
    calls::{self, Waiting},
    gate::Gate,
    judge::{Condition, Judge, Rate, RuleSet, SIGNALS, StreamRule},
    names::{Names, Pattern},
    pressure::{PressureRule, PressureSampler},
    stream::Stream,
};
use crate::{
    clock::parse_duration_ns,
    event::{
        class::ORDINARY_FAILURES,
        names::{errno_number, signal_number},
        syscall::Abi,
        wire::CALLS_MAX,
    },
};

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;

/// Signals by which a program ends through a fault of its own, see [`Rule::signals`].
const FAULTS: [&str; 9] =
    ["SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGXCPU", "SIGXFSZ", "SIGSYS"];

/// Error numbers are below (`MAX_ERRNO`, include/linux/err.h).
const ERRORS: usize = 4096;

/// The keys that only some rules have.
const OWN_KEYS: [&str; 10] = [
    "command",
    "signals",
    "calls",
    "longer_than",
    "errors",
    "per_second",
    "resource",
    "kind",
    "percent",
    "over",
];

impl On {
    /// Its name in rules, and the keys it has beside those of every rule.
    fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            On::Signal => ("signal", &["command", "signals"]),
            On::OomKill => ("oom_kill", &["command"]),
            On::SlowCall => ("slow_call", &["command", "calls", "longer_than"]),
            On::Failures => ("failures", &["command", "calls", "errors", "per_second"]),
            On::TcpResets => ("tcp_resets", &["per_second"]),
            On::TcpRetransmits => ("tcp_retransmits", &["per_second"]),
            On::Pressure => ("pressure", &["resource", "kind", "percent", "over"]),
        }
    }
}

impl Rules {
    /// Checks rules for a host whose calls are of ABI `native`.
    pub fn check(rules: &[Rule], native: Abi) -> Result<Rules, RuleError> {
        if rules.len() > RULES_MAX {
            return Err(RuleError::TooMany(rules.len()));
        }
        let mut names = BTreeSet::new();
        let mut building = Building::new(native);
        for rule in rules {
            check_name(&rule.name)?;
            if !names.insert(&rule.name) {
                return Err(RuleError::NameTaken(rule.name.clone()));
            }
            building.add(&Checked { rule })?;
        }
        Ok(building.finish())
    }
}

fn check_name(name: &str) -> Result<(), RuleError> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_letter) {
        Ok(())
    } else {
        Err(RuleError::Name(name.chars().take(NAME_BYTES_MAX).collect()))
    }
}

/// Rules that are put together.
struct Building {
    native: Abi,
    stream: Stream,
    pressure: Vec<PressureRule>,
}

impl Building {
    fn new(native: Abi) -> Building {
        let judge = Judge {
            native,
            rules: Vec::new(),
            signals: [0; SIGNALS],
            oom_kill: 0,
            names: Names::new(),
            unnamed: 0,
            fired: Vec::new(),
        };
        Building { native, stream: Stream::new(judge), pressure: Vec::new() }
    }

    fn add(&mut self, checked: &Checked<'_>) -> Result<(), RuleError> {
        checked.refuse_foreign_keys()?;
        let gate = checked.gate()?;
        let rule = checked.rule;
        let bit: RuleSet = 1 << self.stream.judge.rules.len();
        let on = match rule.on {
            On::Pressure => {
                self.pressure.push(checked.pressure(gate)?);
                return Ok(());
            }
            On::Signal => {
                for signal in checked.signals()? {
                    if let Some(rules) = self.stream.judge.signals.get_mut(signal as usize) {
                        *rules |= bit;
                    }
                }
                Condition::Signal(checked.command()?)
            }
            On::OomKill => {
                self.stream.judge.oom_kill |= bit;
                Condition::OomKill(checked.command()?)
            }
            On::SlowCall => {
                let longer_than = checked.needed("longer_than", rule.longer_than.as_deref())?;
                let range = 1_000_000..=DAY_NS;
                let longer_than_ns = checked.duration("longer_than", longer_than, range)?;
                let calls = checked.calls(self.native, Waiting::WhenNamed)?;
                mark(&mut self.stream.slow, CALLS_MAX as usize, calls, bit);
                self.stream.slow_over_ns = self.stream.slow_over_ns.min(longer_than_ns);
                Condition::SlowCall { command: checked.command()?, longer_than_ns }
            }
            On::Failures => {
                let calls = checked.calls(self.native, Waiting::LikeOthers)?;
                mark(&mut self.stream.failing, CALLS_MAX as usize, calls, bit);
                mark(&mut self.stream.errors, ERRORS, checked.errors()?, bit);
                self.stream.fails_over = (ERRORS as u64).wrapping_neg();
                Condition::Failures { command: checked.command()?, rate: checked.rate()? }
            }
            On::TcpResets => {
                self.stream.resets |= bit;
                Condition::Segments { what: ["TCP reset", "TCP resets"], rate: checked.rate()? }
            }
            On::TcpRetransmits => {
                self.stream.retransmits |= bit;
                Condition::Segments {
                    what: ["TCP retransmission", "TCP retransmissions"],
                    rate: checked.rate()?,
                }
            }
        };
        // Where anybody's command will do, the name still goes into the words.
        if !matches!(on, Condition::Segments { .. }) {
            self.stream.need_names();
        }
        self.stream.judge.rules.push(StreamRule { gate, on });
        Ok(())
    }

    fn finish(self) -> Rules {
        let is_empty = self.stream.judge.rules.is_empty();
        Rules {
            stream: (!is_empty).then(|| Box::new(self.stream)),
            pressure: PressureSampler { rules: self.pressure },
        }
    }
}

/// Puts a rule into the places of a table, which is made when it is first needed.
fn mark(
    table: &mut Vec<RuleSet>,
    length: usize,
    places: impl IntoIterator<Item = usize>,
    bit: RuleSet,
) {
    table.resize(length, 0);
    for place in places {
        if let Some(rules) = table.get_mut(place) {
            *rules |= bit;
        }
    }
}

/// A rule while its keys are looked at one after the other.
struct Checked<'r> {
    rule: &'r Rule,
}

impl Checked<'_> {
    fn wrong(&self, key: &'static str, why: impl Into<String>) -> RuleError {
        RuleError::Key { rule: self.rule.name.clone(), key, why: why.into() }
    }

    fn needed<T>(&self, key: &'static str, value: Option<T>) -> Result<T, RuleError> {
        let (on, _) = self.rule.on.keys();
        value.ok_or_else(|| self.wrong(key, format!("a rule on `{on}` needs it")))
    }

    fn refuse_foreign_keys(&self) -> Result<(), RuleError> {
        let (on, own) = self.rule.on.keys();
        let Rule { command, signals, calls, longer_than, errors, .. } = self.rule;
        let Rule { per_second, resource, kind, percent, over, .. } = self.rule;
        let given = [
            command.is_some(),
            signals.is_some(),
            calls.is_some(),
            longer_than.is_some(),
            errors.is_some(),
            per_second.is_some(),
            resource.is_some(),
            kind.is_some(),
            percent.is_some(),
            over.is_some(),
        ];
        for (key, is_given) in OWN_KEYS.into_iter().zip(given) {
            if is_given && !own.contains(&key) {
                let own = own.join("`, `");
                let why = format!("a rule on `{on}` has no such key, it has `{own}`");
                return Err(self.wrong(key, why));
            }
        }
        Ok(())
    }

    fn gate(&self) -> Result<Gate, RuleError> {
        let rule = self.rule;
        let optional = |key, word: &Option<String>, range| {
            word.as_deref().map(|word| self.duration(key, word, range)).transpose()
        };
        let again_after = rule.again_after.as_deref().unwrap_or("5m");
        Ok(Gate {
            name: rule.name.clone(),
            before_ns: optional("before", &rule.before, SECOND_NS..=DAY_NS)?,
            after_ns: optional("after", &rule.after, 0..=600 * SECOND_NS)?,
            again_after_ns: self.duration("again_after", again_after, SECOND_NS..=7 * DAY_NS)?,
            labels: self.labels()?,
            fired_ns: None,
            firings: 0,
        })
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, RuleError> {
        let labels = &self.rule.labels;
        if labels.len() > LABELS_MAX {
            let why = format!("there are {}, at most {LABELS_MAX} can be", labels.len());
            return Err(self.wrong("labels", why));
        }
        for (name, value) in labels {
            let is_name = (1..=LABEL_NAME_BYTES_MAX).contains(&name.len());
            if !is_name || name.chars().any(char::is_control) {
                let why = format!(
                    "`{}` is no name: 1 to {LABEL_NAME_BYTES_MAX} bytes of text on one line",
                    name.escape_default()
                );
                return Err(self.wrong("labels", why));
            }
            if value.len() > LABEL_BYTES_MAX {
                let why = format!("`{name}` has more than {LABEL_BYTES_MAX} bytes");
                return Err(self.wrong("labels", why));
            }
        }
        Ok(labels.clone())
    }

    fn duration(
        &self,
        key: &'static str,
        word: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, RuleError> {
        let ns = parse_duration_ns(word).map_err(|why| self.wrong(key, why))?;
        if range.contains(&ns) {
            return Ok(ns);
        }
        let (least, most) = (in_words(*range.start()), in_words(*range.end()));
        Err(self.wrong(key, format!("it is {word}: between {least} and {most} can be")))
    }

    fn number(
        &self,
        key: &'static str,
        value: Option<u32>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, RuleError> {
        let value = self.needed(key, value)?;
        if range.contains(&value) {
            return Ok(value);
        }
        let why = format!("it is {value}: {} to {} can be", range.start(), range.end());
        Err(self.wrong(key, why))
    }

    fn rate(&self) -> Result<Rate, RuleError> {
        self.number("per_second", self.rule.per_second, 1..=PER_SECOND_MAX).map(Rate::new)
    }

    fn command(&self) -> Result<Pattern, RuleError> {
        let command = self.rule.command.as_deref().unwrap_or("*");
        if (1..=COMMAND_BYTES_MAX).contains(&command.len()) {
            return Ok(Pattern::new(command));
        }
        let why = format!("it has {} bytes: 1 to {COMMAND_BYTES_MAX} can be", command.len());
        Err(self.wrong("command", why))
    }

    /// The words of a list, or `None` where it is not there.
    fn words<'a>(
        &self,
        key: &'static str,
        words: &'a Option<Vec<String>>,
    ) -> Result<Option<&'a [String]>, RuleError> {
        match words {
            None => Ok(None),
            Some(words) if (1..=WORDS_MAX).contains(&words.len()) => Ok(Some(words)),
            Some(words) => {
                let why = format!("there are {}: 1 to {WORDS_MAX} can be", words.len());
                Err(self.wrong(key, why))
            }
        }
    }

    fn unknown(&self, key: &'static str, what: &str, word: &str) -> RuleError {
        let word: String = word.chars().take(NAME_BYTES_MAX).collect();
        self.wrong(key, format!("there is no {what} `{}`", word.escape_default()))
    }

    fn signals(&self) -> Result<Vec<u32>, RuleError> {
        let signal =
            |name: &str| signal_number(name).ok_or_else(|| self.unknown("signals", "signal", name));
        match self.words("signals", &self.rule.signals)? {
            Some(names) => names.iter().map(|name| signal(name)).collect(),
            None => FAULTS.into_iter().map(signal).collect(),
        }
    }

    fn errors(&self) -> Result<Vec<usize>, RuleError> {
        match self.words("errors", &self.rule.errors)? {
            Some(names) => names
                .iter()
                .map(|name| match errno_number(name) {
                    Some(number) => Ok(number as usize),
                    None => Err(self.unknown("errors", "error", name)),
                })
                .collect(),
            None => {
                let ordinary = |number: &usize| ORDINARY_FAILURES.contains(&(*number as i32));
                Ok((1..ERRORS).filter(|number| !ordinary(number)).collect())
            }
        }
    }

    /// The places of the calls in the tables, see [`calls::places`].
    fn calls(&self, native: Abi, waiting: Waiting) -> Result<Vec<usize>, RuleError> {
        let words = self.words("calls", &self.rule.calls)?;
        for word in words.unwrap_or_default() {
            if !calls::is_known(word) {
                return Err(self.unknown("calls", "call or group of calls", word));
            }
        }
        Ok(calls::places(words, native, waiting))
    }

    fn pressure(&self, gate: Gate) -> Result<PressureRule, RuleError> {
        let rule = self.rule;
        let resource = self.needed("resource", rule.resource)?;
        let kind = match (resource, rule.kind) {
            (Resource::Irq, None) => PressureKind::Full,
            (Resource::Irq, Some(PressureKind::Some)) => {
                return Err(self.wrong("kind", "the kernel knows `irq` as `full` only"));
            }
            // Always 0 since 5.13 (Documentation/accounting/psi.rst).
            (Resource::Cpu, Some(PressureKind::Full)) => {
                let why = "of a whole host the kernel knows `cpu` as `some` only";
                return Err(self.wrong("kind", why));
            }
            (_, kind) => kind.unwrap_or(PressureKind::Some),
        };
        let percent = self.number("percent", rule.percent, 1..=100)?;
        let over = rule.over.as_deref().unwrap_or("1s");
        let over_ns = self.duration("over", over, SECOND_NS / 2..=60 * SECOND_NS)?;
        Ok(PressureRule::new(gate, resource, kind, percent, over_ns))
    }
}

/// A limit as it is written.
fn in_words(ns: u64) -> String {
    match ns {
        0 => "0s".to_string(),
        _ if ns.is_multiple_of(DAY_NS) => format!("{}h", 24 * (ns / DAY_NS)),
        _ if ns.is_multiple_of(60 * SECOND_NS) => format!("{}m", ns / 60 / SECOND_NS),
        _ if ns.is_multiple_of(SECOND_NS) => format!("{}s", ns / SECOND_NS),
        _ => format!("{}ms", ns / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(written: Value) -> Result<Rules, String> {
        let written: Vec<Rule> = serde_json::from_value(written).map_err(|e| e.to_string())?;
        Rules::check(&written, Abi::X86_64).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(rule: Value, words: &[&str]) {
        let error = check(json!([rule])).map(drop).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word:?} is missing: {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn every_kind_of_rule_is_taken() {
        let rules = check(json!([
            {"name": "a", "on": "signal", "command": "nginx*", "signals": ["SIGSEGV", "SIGRT_3"]},
            {"name": "b", "on": "oom_kill", "command": "*", "before": "1m", "after": "0s"},
            {"name": "c", "on": "slow_call", "command": "postgres", "calls": ["fsync", "%net"],
             "longer_than": "500ms", "again_after": "10m", "labels": {"team": "db"}},
            {"name": "d", "on": "failures", "errors": ["EWOULDBLOCK"], "per_second": 100},
            {"name": "e", "on": "tcp_resets", "per_second": 50},
            {"name": "f", "on": "tcp_retransmits", "per_second": 50},
            {"name": "g", "on": "pressure", "resource": "memory", "kind": "full", "percent": 20,
             "over": "1s"},
            {"name": "h", "on": "pressure", "resource": "irq", "percent": 20},
        ]))
        .unwrap();
        assert_eq!(rules.pressure.resources(), [Resource::Memory, Resource::Irq]);
        assert_eq!(rules.stream.unwrap().judge.rules.len(), 6);
        assert!(check(json!([])).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_rule_is_refused_by_name_and_key() {
        let slow = |key: &str, value: Value| {
            let mut rule = json!({"name": "x", "on": "slow_call", "longer_than": "1s"});
            rule[key] = value;
            rule
        };
        refused(slow("comand", json!("a")), &["comand"]);
        refused(slow("on", json!("slow")), &["slow", "slow_call"]);
        refused(slow("name", json!("")), &["no name"]);
        refused(slow("name", json!("a b\n")), &["a b\\n"]);
        refused(slow("name", json!("x".repeat(65))), &["no name", "64"]);
        refused(slow("command", json!("")), &["`x`", "command", "0 bytes"]);
        refused(slow("command", json!("x".repeat(65))), &["command", "65"]);
        refused(slow("calls", json!(["fsnyc"])), &["`x`", "calls", "fsnyc"]);
        refused(slow("calls", json!([])), &["calls", "1 to 256"]);
        refused(slow("calls", json!(vec!["read"; 257])), &["calls", "257"]);
        refused(slow("longer_than", json!("5")), &["longer_than", "duration"]);
        refused(slow("longer_than", json!("999us")), &["longer_than", "1ms"]);
        refused(slow("longer_than", json!("25h")), &["longer_than", "24h"]);
        refused(slow("longer_than", json!(5)), &["string"]);
        refused(slow("signals", json!(["SIGSEGV"])), &["signals", "slow_call", "longer_than"]);
        refused(slow("again_after", json!("0s")), &["again_after", "1s", "168h"]);
        refused(slow("before", json!("10ms")), &["before", "1s"]);
        refused(slow("after", json!("11m")), &["after", "0s", "10m"]);
        refused(slow("labels", json!({"": "x"})), &["labels"]);
        refused(slow("labels", json!({"a\nb": "x"})), &["labels", "a\\nb"]);
        refused(slow("labels", json!({"a": "x".repeat(1025)})), &["labels", "1024"]);
        let labels: Value = (0..33).map(|n| (n.to_string(), json!("x"))).collect();
        refused(slow("labels", labels), &["labels", "33"]);
        refused(json!({"name": "x", "on": "slow_call"}), &["longer_than", "needs"]);
        refused(json!({"name": "x", "on": "signal", "signals": ["SEGV"]}), &["signals", "SEGV"]);
        let failures = |key: &str, value: Value| {
            let mut rule = json!({"name": "x", "on": "failures", "per_second": 1});
            rule[key] = value;
            rule
        };
        refused(failures("errors", json!(["ECONREFUSED"])), &["errors", "ECONREFUSED"]);
        refused(failures("per_second", json!(0)), &["per_second", "1 to 10000"]);
        refused(failures("per_second", json!(10_001)), &["per_second", "10001"]);
        refused(failures("per_second", json!(-1)), &["-1"]);
        refused(json!({"name": "x", "on": "tcp_resets"}), &["per_second", "needs"]);
        let pressure = |key: &str, value: Value| {
            let mut rule = json!({"name": "x", "on": "pressure", "resource": "cpu", "percent": 20});
            rule[key] = value;
            rule
        };
        refused(pressure("resource", json!("disk")), &["disk", "memory"]);
        refused(pressure("percent", json!(0)), &["percent", "1 to 100"]);
        refused(pressure("percent", json!(101)), &["percent", "101"]);
        refused(pressure("kind", json!("full")), &["kind", "some"]);
        refused(pressure("over", json!("100ms")), &["over", "500ms", "1m"]);
        refused(pressure("per_second", json!(1)), &["per_second", "pressure"]);
        refused(json!({"name": "x", "on": "pressure", "percent": 1}), &["resource", "needs"]);
        let irq = json!({"name": "x", "on": "pressure", "resource": "irq", "kind": "some",
            "percent": 1});
        refused(irq, &["irq", "full"]);
    }

    #[test]
    fn there_are_not_too_many_and_no_two_of_one_name() {
        let rule = |name: String| json!({"name": name, "on": "tcp_resets", "per_second": 1});
        let many = |count: usize| (0..count).map(|place| rule(place.to_string())).collect();
        assert!(check(many(RULES_MAX)).is_ok());
        assert!(check(many(RULES_MAX + 1)).unwrap_err().contains("65"));
        let twice = json!([rule("a".to_string()), rule("b".to_string()), rule("a".to_string())]);
        assert_eq!(check(twice).unwrap_err(), "two rules are called `a`");
    }

    #[test]
    fn every_key_has_its_place_in_the_table() {
        let all = [
            On::Signal,
            On::OomKill,
            On::SlowCall,
            On::Failures,
            On::TcpResets,
            On::TcpRetransmits,
            On::Pressure,
        ];
        let used: BTreeSet<&str> = all.iter().flat_map(|on| on.keys().1).copied().collect();
        assert_eq!(used, OWN_KEYS.into_iter().collect());
        for on in all {
            let name = serde_json::from_value::<On>(json!(on.keys().0)).unwrap();
            assert_eq!(name, on);
        }
    }

    #[test]
    fn daily_life_is_no_failure_unless_named() {
        let errors = |rule: Value| {
            let stream = check(json!([rule])).unwrap().stream.unwrap();
            (0..ERRORS).filter(|place| stream.errors[*place] != 0).collect::<Vec<_>>()
        };
        let mut rule = json!({"name": "x", "on": "failures", "per_second": 1});
        let by_default = errors(rule.clone());
        assert!(by_default.contains(&5) && by_default.contains(&2));
        for ordinary in ORDINARY_FAILURES {
            assert!(!by_default.contains(&(ordinary as usize)), "{ordinary}");
        }
        rule["errors"] = json!(["EAGAIN", "EINTR"]);
        assert_eq!(errors(rule), [4, 11]);
    }
}
