//! What comes in by HTTP.

use std::collections::BTreeMap;

use recorder::{
    clock::ClockAnchor,
    control::{DumpAnswer, DumpOrder, Problem, Status, TriggerAnswer},
    dispatch::keep::is_snapshot_name,
    snapshot::{Header, snapshot_name},
    trigger::{
        ALSO_MAX, NAME_BYTES_MAX, TRIGGER_BYTES_MAX, Trigger, VALUE_BYTES_MAX, WORDS_MAX,
        body::{self, ALERTS_MAX, CloudEvent, Message, PAGERDUTY_EVENTS},
        matching::{Here, HostNames, Match, glob},
        policy::{Memory, Offer, Policy, PolicySettings},
        signature::{self, Secret},
    },
};
use recorder_tests::synth::Random;

use crate::{met, met_error, mutate};

const ALERTMANAGER: &str = r#"{"receiver":"rec","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"HighLatency","instance":"db-1","severity":"page"},"annotations":{"summary":"p99 > 1s"},"startsAt":"2026-11-23T02:26:24.469621545Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prom/graph","fingerprint":"3899d7aab40bf7bf"},{"status":"resolved","labels":{"alertname":"Other"},"annotations":{},"startsAt":"2026-11-23T02:00:00Z","fingerprint":"00"}],"groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://vm:9093","version":"4","groupKey":"{}:{alertname=\"HighLatency\"}","truncatedAlerts":1}"#;

const GRAFANA: &str = r#"{"receiver":"r","status":"firing","orgId":1,"version":"1","alerts":[{"status":"firing","labels":{"alertname":"T","host":"db-1"},"annotations":{},"startsAt":"2026-11-23T02:26:24Z","fingerprint":"57c6d9296de2ad39","dashboardURL":"https://g/d/1","panelURL":"https://g/d/1?viewPanel=2","silenceURL":"https://g/s","imageURL":"","values":{"B":22,"C":1.5},"valueString":"[ var='B' ]"}],"groupKey":"{}:{}","truncatedAlerts":0,"title":"[FIRING:1]","state":"alerting","message":"m"}"#;

const PAGERDUTY: &str = r#"{"event":{"id":"5ac64822","event_type":"incident.triggered","resource_type":"incident","occurred_at":"2026-11-23T02:26:24.000Z","agent":null,"data":{"id":"PGR0VU2","number":2,"status":"triggered","incident_key":"d3640fbd","title":"A little bump in the road","urgency":"high","html_url":"https://acme.pagerduty.com/incidents/PGR0VU2","service":{"id":"PF9KMXH","summary":"API Service"},"priority":{"summary":"P1"}}}}"#;

const GENERIC: &str = r#"{"reason":"disk slow","labels":{"a":1,"b":true,"host":"db-1"},"annotations":{"x":"y"},"links":{"dashboard":"http://g"},"key":"k1","count":3,"source":"icinga","name":"n","starts_at":"now","status":"firing","nested":{"x":[1,2]}}"#;

const CONTROL: [&str; 5] = [
    r#"{"reason":"by hand","since_ns":30000000000,"post_ns":5,"labels":{"a":"b"},"keep":true}"#,
    r#"{"path":"/var/lib/x.kfr","name":"x.kfr","bytes":1234,"total_ms":12}"#,
    r#"{"title":"Not Found","status":404,"detail":"there is no snapshot of this name"}"#,
    r#"{"id":"x","path":"/x.kfr","joined":true,"ignored":"resolved"}"#,
    r#"{"seen":{"k":{"name":"a.kfr","last_s":1795400784}},"taken_s":[1795400784,1795400000]}"#,
];

/// A message of Alertmanager.
pub fn make_alertmanager(_random: &mut Random) -> Vec<u8> {
    ALERTMANAGER.into()
}

/// A message of Grafana.
pub fn make_grafana(_random: &mut Random) -> Vec<u8> {
    GRAFANA.into()
}

/// A message of PagerDuty.
pub fn make_pagerduty(_random: &mut Random) -> Vec<u8> {
    PAGERDUTY.into()
}

/// Some JSON.
pub fn make_generic(random: &mut Random) -> Vec<u8> {
    mutate::one_of(random, &[GENERIC, "\"just words\"", "[1,2,{\"a\":null}]", "17"]).into()
}

/// A trigger is within its limits, and is the same when it was written down.
fn is_bounded(trigger: &Trigger) {
    for words in [&trigger.labels, &trigger.annotations, &trigger.links] {
        assert!(words.len() <= WORDS_MAX);
        for (name, value) in words {
            assert!(name.len() <= NAME_BYTES_MAX && value.len() <= VALUE_BYTES_MAX);
        }
    }
    assert!(trigger.reason.len() <= VALUE_BYTES_MAX && trigger.name.len() <= NAME_BYTES_MAX);
    assert!(trigger.source.len() <= NAME_BYTES_MAX && trigger.starts_at.len() <= NAME_BYTES_MAX);
    let written = serde_json::to_vec(trigger).expect("a trigger is JSON");
    let again: Trigger = serde_json::from_slice(&written).expect("it was just written");
    assert!(again == *trigger, "a trigger changes when it is written down");
    let host = Header { host: trigger.name.clone(), ..Header::default() };
    let clock = ClockAnchor { monotonic_ns: 1, wall_ns: 1_795_400_784_000_000_000 };
    let name = snapshot_name(&host, &clock, &trigger.source);
    assert!(is_snapshot_name(&name), "{name:?} is no name of a snapshot");
}

fn here(names: &HostNames) -> Here<'_> {
    Here { names, local: true, is_local_address: |_| false }
}

fn message(door: &str, message: Message) {
    assert!(message.firing.len() <= ALERTS_MAX);
    assert_eq!(message.quiet.is_some(), message.firing.is_empty());
    met((door, message.firing.len().min(4), message.left_out.min(2)));
    let names = HostNames::new("db-1.example.org", &[]);
    // A snapshot's limits are those of its first trigger with all that join it.
    for trigger in message.firing.iter().take(20) {
        is_bounded(trigger);
        let refused = Match::default().refuses(trigger, &here(&names));
        met((door, trigger.labels.len().min(8), trigger.cut.min(2), refused.is_some()));
    }
    let mut all = message.firing.into_iter();
    let Some(mut first) = all.next() else { return };
    all.for_each(|further| first.join(further));
    assert!(first.also.len() <= ALSO_MAX);
    let written = serde_json::to_vec(&first).expect("a trigger is JSON");
    // A control character takes six bytes of JSON, names and signs come to that.
    assert!(written.len() <= 7 * (TRIGGER_BYTES_MAX + (64 << 10)), "{} bytes", written.len());
}

/// `POST /v1/trigger/alertmanager`.
pub fn alertmanager(input: &[u8]) {
    match body::alertmanager(input) {
        Ok(said) => message("alertmanager", said),
        Err(error) => met_error("alertmanager", &error),
    }
}

/// `POST /v1/trigger/grafana`.
pub fn grafana(input: &[u8]) {
    match body::grafana(input) {
        Ok(said) => message("grafana", said),
        Err(error) => met_error("grafana", &error),
    }
}

/// `POST /v1/trigger/pagerduty`.
pub fn pagerduty(input: &[u8]) {
    let events = PAGERDUTY_EVENTS.map(str::to_string);
    let delivery = input.len().is_multiple_of(2).then_some("d1");
    match body::pagerduty(input, delivery, &events, 1_795_400_784, 1_800) {
        Ok(said) => message("pagerduty", said),
        Err(error) => met_error("pagerduty", &format!("{error:?}")),
    }
}

/// `POST /v1/trigger/generic`.
pub fn generic(input: &[u8]) {
    let event = CloudEvent { id: "1".into(), source: "/s".into(), kind: "t".into() };
    let event = input.len().is_multiple_of(2).then_some(&event);
    match body::generic(input, event) {
        Ok(said) => message("generic", said),
        Err(error) => met_error("generic", &error),
    }
}

/// Three headers, and the body behind them, each ended by a NUL.
pub fn make_signature(random: &mut Random) -> Vec<u8> {
    let hex = |random: &mut Random| {
        let words: Vec<String> = (0..4).map(|_| format!("{:016x}", random.next_u64())).collect();
        words.concat()
    };
    let signature = match random.below(3) {
        0 => hex(random),
        1 => format!("v1={},v1={}", hex(random), hex(random)),
        _ => format!("Bearer {}", hex(random)),
    };
    format!("{signature}\0{}\0body", 1_795_400_784u64).into_bytes()
}

/// Changes it word by word.
pub fn mutate_signature(random: &mut Random, text: &mut Vec<u8>) {
    let words = ["v1=", "v2=", "Bearer ", "bearer\t", ",", "\0", "0", "deadbeef", "-1", " "];
    mutate::text::mutate(random, text, &words);
}

/// Whoever does not know the secret is never believed.
pub fn signature(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next();
    let (said, timestamp, body) = (part(), part(), part().unwrap_or_default());
    let secrets = [Secret::new(b"a secret of 19 bytes"), Secret::new(b"")];
    // Anybody knows the empty one.
    let secrets = &secrets[..1];
    let answers = [
        signature::grafana(said, timestamp, body, secrets, 1_795_400_784),
        signature::grafana(said, None, body, secrets, 1_795_400_784),
        signature::pagerduty(said, body, secrets),
        signature::bearer(said, secrets),
    ];
    for (place, answer) in answers.into_iter().enumerate() {
        let error = answer.expect_err("nobody knows the secret");
        met((place, error as u8));
    }
}

/// A pattern, a text, and what is said of a host, each on its line.
pub fn make_matching(random: &mut Random) -> Vec<u8> {
    let pattern = mutate::one_of(random, &["db-*", "*.example", "a?c*e", "{host}", "**a**", "é?"]);
    let text = mutate::one_of(random, &["db-1", "a.b.example", "abcxxe", "xxaxx", "éx", ""]);
    let host = mutate::one_of(random, &["db-1.example.org:9100", "[::1]:80", "10.0.0.5", "db-1."]);
    format!("{pattern}\n{text}\n{host}").into_bytes()
}

/// Changes it word by word.
pub fn mutate_matching(random: &mut Random, text: &mut Vec<u8>) {
    let words = ["*", "?", "**", "a", "ab", "\n", "db-1", ":", "[", "]", ".", "é", "{host}", "::"];
    mutate::text::mutate(random, text, &words);
}

/// Whether a text is as a pattern says, by trying everything: a table of the two.
fn naive_glob(pattern: &[char], text: &[char]) -> bool {
    let mut fits = vec![vec![false; text.len() + 1]; pattern.len() + 1];
    fits[pattern.len()][text.len()] = true;
    for at in (0..pattern.len()).rev() {
        for place in (0..=text.len()).rev() {
            fits[at][place] = match pattern[at] {
                '*' => fits[at + 1][place] || place < text.len() && fits[at][place + 1],
                '?' => place < text.len() && fits[at + 1][place + 1],
                wanted => place < text.len() && text[place] == wanted && fits[at + 1][place + 1],
            };
        }
    }
    fits[0][0]
}

/// Patterns and names of hosts.
pub fn matching(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (pattern, said, host) = (line(), line(), line());
    // Longer ones are cut.
    if said.chars().count() <= 1_024 {
        let (all, chars): (Vec<char>, Vec<char>) =
            (pattern.chars().collect(), said.chars().collect());
        let fits = glob(pattern, said);
        assert_eq!(fits, naive_glob(&all, &chars), "{pattern:?} and {said:?}");
        met((fits, pattern.matches('*').count().min(4)));
    }
    let names = HostNames::new("db-1.example.org", &[pattern.to_string(), "10.0.0.5".to_string()]);
    assert!(
        names.are("db-1", false, |_| false) && names.are("db-1.example.org:9100", false, |_| false)
    );
    met(("host", names.are(host, true, |_| false), names.are(host, false, |_| true)));
    let patterns = BTreeMap::from([("instance".to_string(), pattern.to_string())]);
    if let Ok(matching) = Match::try_from(patterns) {
        let mut trigger = Trigger::new("generic", "r");
        trigger.label("instance", host);
        if let Some(why) = matching.refuses(&trigger, &here(&names)) {
            assert!(!why.is_empty());
        }
    }
}

/// The other bodies, and what is remembered across restarts.
pub fn make_control(random: &mut Random) -> Vec<u8> {
    if random.one_in(6) {
        return serde_json::to_vec(&Status::default()).expect("a status is JSON");
    }
    mutate::one_of(random, &CONTROL).into()
}

/// Orders and answers of the control socket, and the memory of the policy.
pub fn control(input: &[u8]) {
    fn tried<T: serde::Serialize + serde::de::DeserializeOwned>(
        what: &str,
        input: &[u8],
    ) -> Option<T> {
        match serde_json::from_slice::<T>(input) {
            Ok(value) => {
                met(what);
                let written = serde_json::to_vec(&value).expect("what was read can be written");
                serde_json::from_slice::<T>(&written).expect("it was just written");
                Some(value)
            }
            Err(error) => {
                met((what, error.classify() as u8));
                None
            }
        }
    }
    tried::<DumpOrder>("order", input);
    tried::<DumpAnswer>("answer", input);
    tried::<Problem>("problem", input);
    tried::<TriggerAnswer>("trigger", input);
    tried::<Status>("status", input);
    let Some(memory) = tried::<Memory>("memory", input) else { return };
    let settings = PolicySettings { per_hour_max: 2, ..PolicySettings::default() };
    let mut policy = Policy::new(settings, memory);
    let names = HostNames::new("db-1", &[]);
    for place in 0..5u64 {
        let now = ClockAnchor {
            monotonic_ns: place * 1_000_000_000,
            wall_ns: 1_795_400_784_000_000_000 + (place as i64) * 1_000_000_000,
        };
        let said = body::generic(GENERIC.as_bytes(), None).expect("it is some JSON");
        let offer = Offer {
            door: "generic",
            message: said,
            here: here(&names),
            before_ns: None,
            after_ns: None,
            no_room: None,
        };
        let decision = policy.offer(&now, offer, |_| "name.kfr".to_string());
        met(("decision", std::mem::discriminant(&decision)));
        policy.take(&now);
        assert!(policy.in_last_hour(&now) <= 3 + input.len());
    }
}
