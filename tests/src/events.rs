//! Questions to the events `replay --format jsonl` printed.

use std::{ops::ControlFlow, path::Path};

use recorder::{replay::replay, snapshot::SnapshotReader};
use serde_json::Value;

use crate::synth::Made;

/// Every event of a snapshot as it was recorded, before anything is made of it.
#[track_caller]
pub fn recorded(file: &Path) -> Vec<Made> {
    let reader = SnapshotReader::open(file).expect("a snapshot");
    let mut events = Vec::new();
    replay(&reader, &|_| false, &mut |_| {}, &mut |event, _| {
        events.push(Made::from(event));
        ControlFlow::Continue(())
    });
    events
}

/// The finished and unfinished calls of this name.
pub fn calls<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["name"] == name).collect()
}

/// The events of this kind.
pub fn kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["kind"] == kind).collect()
}

/// The last thing a process did: when the kernel lets go of it is the kernel's affair, and
/// may be before a dump or after it.
pub fn last_deed(events: &[Value]) -> Option<&Value> {
    events.iter().rfind(|event| event["kind"] != "process_reap")
}

/// The events of this process.
pub fn of_pid(events: &[Value], pid: i32) -> Vec<Value> {
    events.iter().filter(|event| event["pid"] == pid).cloned().collect()
}

/// The only event `wanted` accepts.
#[track_caller]
pub fn one<'a>(events: &'a [Value], what: &str, wanted: impl Fn(&Value) -> bool) -> &'a Value {
    let found: Vec<&Value> = events.iter().filter(|event| wanted(event)).collect();
    match found.as_slice() {
        [event] => event,
        _ => panic!(
            "{} times {what}: {found:#?}\namong {} events: {}",
            found.len(),
            events.len(),
            summary(events)
        ),
    }
}

/// The place of the first event `wanted` accepts.
#[track_caller]
pub fn position(events: &[Value], what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
    match events.iter().position(wanted) {
        Some(place) => place,
        None => panic!("no {what} among {} events: {}", events.len(), summary(events)),
    }
}

/// A number of nanoseconds that JSON has as a string.
#[track_caller]
pub fn ns(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).expect("nanoseconds as a string")
}

/// A number that is there.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A number, or a word of the kernel as `0x` and digits.
#[track_caller]
pub fn word(value: &Value) -> u64 {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let word = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    word.unwrap_or_else(|| number(value))
}

/// A string that is there.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

/// What the `lost` events say is missing.
pub fn lost_count(events: &[Value]) -> u64 {
    kind(events, "lost").iter().map(|event| number(&event["count"])).sum()
}

/// The last events, short.
fn summary(events: &[Value]) -> String {
    let skip = events.len().saturating_sub(40);
    events.iter().skip(skip).fold(String::new(), |text, event| {
        let name = event["name"].as_str().or(event["kind"].as_str()).unwrap_or_default();
        format!("{text}\n  {} {name} {} -> {}", event["pid"], event["args"], event["ret"])
    })
}
