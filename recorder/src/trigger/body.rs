//! What alerting systems send, as triggers. Fields nobody here knows are ignored:
//! every one of these formats has grown, and will.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{NAME_BYTES_MAX, Trigger, VALUE_BYTES_MAX, signature::fingerprint};
use crate::json;

/// Alerts looked at in one message; the rest is counted as left out.
pub const ALERTS_MAX: usize = 1024;

/// The events of PagerDuty that mean a new or a worse incident.
pub const PAGERDUTY_EVENTS: [&str; 1] = ["incident.triggered"];

/// What a message asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Alerts that fire, each on its own.
    pub firing: Vec<Trigger>,
    /// Why nothing fires, where nothing does.
    pub quiet: Option<String>,
    /// Alerts beyond [`ALERTS_MAX`], or which the sender says that it left out.
    pub left_out: u64,
}

impl Message {
    /// One alert that fires.
    pub fn one(trigger: Trigger) -> Message {
        Message { firing: vec![trigger], ..Message::default() }
    }

    fn quiet(why: impl Into<String>) -> Message {
        Message { quiet: Some(why.into()), ..Message::default() }
    }
}

/// A body that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyError(String);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BodyError {}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, BodyError> {
    json::parse(body).map_err(|error| BodyError(format!("no {what}: {error}")))
}

/// A label's value: text, or what a template made of it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertsBody {
    alerts: Alerts,
    #[serde(default)]
    version: Option<Value>,
    #[serde(default)]
    group_key: Value,
    #[serde(default, rename = "externalURL")]
    external_url: Value,
    #[serde(default)]
    truncated_alerts: u64,
}

/// As many alerts as are looked at, and how many there are.
struct Alerts {
    kept: Vec<AlertBody>,
    total: usize,
}

impl<'de> Deserialize<'de> for Alerts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Alerts, D::Error> {
        deserializer.deserialize_seq(Alerts { kept: Vec::new(), total: 0 })
    }
}

impl<'de> Visitor<'de> for Alerts {
    type Value = Alerts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of alerts")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut alerts: A) -> Result<Alerts, A::Error> {
        while self.kept.len() < ALERTS_MAX {
            let Some(alert) = alerts.next_element()? else { break };
            self.kept.push(alert);
        }
        self.total = self.kept.len();
        while alerts.next_element::<IgnoredAny>()?.is_some() {
            self.total += 1;
        }
        Ok(self)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody {
    #[serde(default)]
    status: Value,
    #[serde(default)]
    labels: BTreeMap<String, Value>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    starts_at: Value,
    #[serde(default)]
    fingerprint: Value,
    #[serde(default, rename = "generatorURL")]
    generator_url: Value,
    #[serde(default, rename = "dashboardURL")]
    dashboard_url: Value,
    #[serde(default, rename = "panelURL")]
    panel_url: Value,
    #[serde(default, rename = "silenceURL")]
    silence_url: Value,
    #[serde(default, rename = "imageURL")]
    image_url: Value,
    #[serde(default)]
    values: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    value_string: Value,
}

/// The webhook of Alertmanager, version 4.
pub fn alertmanager(body: &[u8]) -> Result<Message, BodyError> {
    let body: AlertsBody = parsed(body, "message of Alertmanager")?;
    match &body.version {
        Some(version) if words(version) != "4" => Err(BodyError(format!(
            "version {version} of Alertmanager's message is not known, only \"4\""
        ))),
        _ => Ok(alerts("alertmanager", body)),
    }
}

/// The webhook of Grafana's alerting: Alertmanager's with more in it, and a version
/// of its own.
pub fn grafana(body: &[u8]) -> Result<Message, BodyError> {
    Ok(alerts("grafana", parsed(body, "message of Grafana")?))
}

fn alerts(source: &str, body: AlertsBody) -> Message {
    let group_key = words(&body.group_key);
    let Alerts { kept, total } = body.alerts;
    let mut message = Message {
        left_out: body.truncated_alerts.saturating_add((total - kept.len()) as u64),
        ..Message::default()
    };
    for alert in kept {
        if !words(&alert.status).eq_ignore_ascii_case("resolved") {
            let mut trigger = alert_trigger(source, alert, &group_key);
            trigger.link(source, words(&body.external_url));
            message.firing.push(trigger);
        }
    }
    if message.firing.is_empty() {
        let none = if total == 0 { "it has no alerts" } else { "resolved" };
        message.quiet = Some(none.to_string());
    }
    message
}

fn alert_trigger(source: &str, alert: AlertBody, group_key: &str) -> Trigger {
    let mut trigger = Trigger { source: source.to_string(), ..Trigger::default() };
    for (name, value) in &alert.labels {
        trigger.label(name, words(value));
    }
    for (name, value) in &alert.annotations {
        trigger.annotate(name, words(value));
    }
    for (name, value) in alert.values.iter().flatten() {
        trigger.annotate(&format!("value {name}"), words(value));
    }
    let value_string = words(&alert.value_string);
    if alert.values.is_none() && !value_string.is_empty() {
        trigger.annotate("values", value_string);
    }
    let links = [
        ("generator", &alert.generator_url),
        ("dashboard", &alert.dashboard_url),
        ("panel", &alert.panel_url),
        ("silence", &alert.silence_url),
        ("image", &alert.image_url),
    ];
    for (name, value) in links {
        trigger.link(name, words(value));
    }
    let name = alert.labels.get("alertname").map(words).unwrap_or_default();
    trigger.name = trigger.kept(name, NAME_BYTES_MAX);
    let said = ["summary", "description", "message", "title"];
    let summary = said.iter().find_map(|name| alert.annotations.get(*name)).map(words);
    let reason = summary.filter(|words| !words.is_empty()).unwrap_or_else(|| trigger.name.clone());
    trigger.reason = trigger.kept(reason, VALUE_BYTES_MAX);
    let starts_at = words(&alert.starts_at);
    let own = words(&alert.fingerprint);
    // Old senders have no fingerprint: then it is what it is made of.
    let own = if own.is_empty() { format!("{:?}", alert.labels) } else { own };
    trigger.key = fingerprint(&[source, group_key, &own, &starts_at]);
    trigger.starts_at = trigger.kept(starts_at, NAME_BYTES_MAX);
    trigger
}

#[derive(Deserialize)]
struct PagerDutyBody {
    event: PagerDutyEvent,
}

#[derive(Deserialize)]
struct PagerDutyEvent {
    #[serde(default)]
    id: Value,
    event_type: String,
    #[serde(default)]
    occurred_at: Value,
    #[serde(default)]
    data: PagerDutyData,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PagerDutyData {
    id: Value,
    number: Value,
    title: Value,
    status: Value,
    urgency: Value,
    html_url: Value,
    incident_key: Value,
    message: Value,
    service: Value,
    priority: Value,
}

/// The name of something PagerDuty refers to.
fn summary(reference: &Value) -> String {
    reference.get("summary").map(words).unwrap_or_default()
}

/// PagerDuty's webhook, version 3. `delivery` is `X-Webhook-Id`, the same when it is
/// sent again; only the events named are triggers. An event that occurred more than
/// `old_s` seconds before `now_s` is played again by somebody, or of no use.
pub fn pagerduty(
    body: &[u8],
    delivery: Option<&str>,
    events: &[String],
    now_s: i64,
    old_s: i64,
) -> Result<Message, PagerDutyError> {
    let PagerDutyBody { event } =
        parsed(body, "message of PagerDuty").map_err(PagerDutyError::Body)?;
    let occurred_at = words(&event.occurred_at);
    if let Ok(occurred) = occurred_at.parse::<jiff::Timestamp>()
        && now_s.saturating_sub(occurred.as_second()) > old_s
    {
        return Err(PagerDutyError::Old(old_s));
    }
    if !events.contains(&event.event_type) {
        let kind = event.event_type.chars().take(64).collect::<String>();
        return Ok(Message::quiet(format!("{kind} takes no snapshot")));
    }
    let mut trigger = Trigger { source: "pagerduty".to_string(), ..Trigger::default() };
    let data = &event.data;
    let title = words(&data.title);
    let title = if title.is_empty() { words(&data.message) } else { title };
    trigger.reason = trigger.kept(title, VALUE_BYTES_MAX);
    trigger.name = trigger.kept(words(&data.id), NAME_BYTES_MAX);
    trigger.label("event", event.event_type.as_str());
    let labels = [
        ("incident", words(&data.id)),
        ("number", words(&data.number)),
        ("status", words(&data.status)),
        ("urgency", words(&data.urgency)),
        ("incident_key", words(&data.incident_key)),
        ("service", summary(&data.service)),
        ("priority", summary(&data.priority)),
    ];
    for (name, value) in labels.into_iter().filter(|(_, value)| !value.is_empty()) {
        trigger.label(name, value);
    }
    trigger.link("incident", words(&data.html_url));
    let id = words(&event.id);
    trigger.key = match (id.as_str(), delivery) {
        ("", None) => String::new(),
        // The id of the event is signed, that of the delivery is not.
        ("", Some(delivery)) => fingerprint(&["pagerduty", "delivery", delivery]),
        (id, _) => fingerprint(&["pagerduty", "event", id]),
    };
    trigger.starts_at = trigger.kept(occurred_at, NAME_BYTES_MAX);
    Ok(Message::one(trigger))
}

/// Why a message of PagerDuty is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PagerDutyError {
    /// It makes no sense.
    Body(BodyError),
    /// It is older than so many seconds.
    Old(i64),
}

/// What CloudEvents has in headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudEvent {
    /// `ce-id`.
    pub id: String,
    /// `ce-source`.
    pub source: String,
    /// `ce-type`.
    pub kind: String,
}

/// Any JSON. Of an object these are understood: `source`, `name`, `reason` (or
/// `summary`, `title`, `message`, `text`), `labels`, `annotations`, `links`, `key`
/// (or `id`), `status`, `starts_at`; other plain values are kept as annotations.
pub fn generic(body: &[u8], event: Option<&CloudEvent>) -> Result<Message, BodyError> {
    let body: Value = parsed(body, "JSON")?;
    let Value::Object(fields) = body else {
        return Ok(Message::one(with_event(Trigger::new("generic", words(&body)), event)));
    };
    let said = |name: &str| fields.get(name).map(words).filter(|words| !words.is_empty());
    let status = said("status").unwrap_or_default();
    if ["resolved", "ok", "recovery"].iter().any(|word| status.eq_ignore_ascii_case(word)) {
        return Ok(Message::quiet("resolved"));
    }
    let reasons = ["reason", "summary", "title", "message", "text"];
    let reason = reasons.iter().find_map(|name| said(name)).unwrap_or_default();
    let mut trigger = Trigger::new("generic", reason);
    trigger.source = source_word(&said("source").unwrap_or_default());
    trigger.name = trigger.kept(said("name").unwrap_or_default(), NAME_BYTES_MAX);
    trigger.starts_at = trigger.kept(said("starts_at").unwrap_or_default(), NAME_BYTES_MAX);
    for (name, value) in &fields {
        match (name.as_str(), value) {
            ("labels", Value::Object(labels)) => {
                labels.iter().for_each(|(name, value)| trigger.label(name, words(value)));
            }
            ("annotations", Value::Object(annotations)) => {
                annotations.iter().for_each(|(name, value)| trigger.annotate(name, words(value)));
            }
            ("links", Value::Object(links)) => {
                links.iter().for_each(|(name, value)| trigger.link(name, words(value)));
            }
            ("instance" | "host", Value::String(host)) => trigger.label(name, host.as_str()),
            ("source" | "name" | "reason" | "key" | "id" | "starts_at", _) => {}
            (_, Value::Object(_) | Value::Array(_) | Value::Null) => {}
            (name, plain) => trigger.annotate(name, words(plain)),
        }
    }
    if let Some(key) = said("key").or_else(|| said("id")) {
        trigger.key = fingerprint(&[&trigger.source, &key]);
    }
    Ok(Message::one(with_event(trigger, event)))
}

/// A source is a part of the file's name, a label of a metric and a word in a log.
fn source_word(said: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = !said.is_empty() && said.len() <= 32 && said.chars().all(plain);
    // These are the recorder's own.
    let ours = ["manual", "signal", "rule", "alertmanager", "grafana", "pagerduty"];
    if fits && !ours.contains(&said) { said.to_string() } else { "generic".to_string() }
}

fn with_event(mut trigger: Trigger, event: Option<&CloudEvent>) -> Trigger {
    let Some(event) = event else { return trigger };
    trigger.label("ce_source", event.source.as_str());
    trigger.label("ce_type", event.kind.as_str());
    trigger.label("ce_id", event.id.as_str());
    if trigger.key.is_empty() {
        trigger.key = fingerprint(&["cloudevents", &event.source, &event.id]);
    }
    trigger
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Alertmanager 0.25 sends it.
    const ALERTMANAGER: &[u8] = br#"{"receiver":"rec","status":"firing","alerts":[
        {"status":"firing","labels":{"alertname":"HighLatency","instance":"db-1","severity":"page"},
         "annotations":{"summary":"p99 \u003e 1s"},"startsAt":"2026-11-23T02:26:24.469621545Z",
         "endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prom/graph",
         "fingerprint":"3899d7aab40bf7bf"},
        {"status":"resolved","labels":{"alertname":"Other"},"annotations":{},
         "startsAt":"2026-11-23T02:00:00Z","endsAt":"2026-11-23T02:10:00Z","fingerprint":"00"}],
        "groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://vm:9093",
        "version":"4","groupKey":"{}:{alertname=\"HighLatency\"}","truncatedAlerts":1}"#;

    #[test]
    fn an_alert_of_alertmanager_has_its_words() {
        let message = alertmanager(ALERTMANAGER).unwrap();
        assert_eq!((message.firing.len(), message.left_out), (1, 1));
        let trigger = &message.firing[0];
        assert_eq!(trigger.source, "alertmanager");
        assert_eq!((trigger.name.as_str(), trigger.reason.as_str()), ("HighLatency", "p99 > 1s"));
        assert_eq!(trigger.labels["instance"], "db-1");
        assert_eq!(trigger.annotations["summary"], "p99 > 1s");
        assert_eq!(trigger.links["generator"], "http://prom/graph");
        assert_eq!(trigger.links["alertmanager"], "http://vm:9093");
        assert_eq!(trigger.starts_at, "2026-11-23T02:26:24.469621545Z");
        assert_eq!(trigger.key.len(), 32);
        let again = alertmanager(ALERTMANAGER).unwrap();
        assert_eq!(again.firing[0].key, trigger.key);
        for change in [("3899d", "3899e"), ("24.469", "25.469"), ("{}:{alert", "{}:{x,alert")] {
            let text = std::str::from_utf8(ALERTMANAGER).unwrap().replace(change.0, change.1);
            let other = alertmanager(text.as_bytes()).unwrap();
            assert_ne!(other.firing[0].key, trigger.key, "{change:?}");
        }
    }

    #[test]
    fn what_is_resolved_or_empty_is_quiet_and_another_version_is_refused() {
        let text = std::str::from_utf8(ALERTMANAGER).unwrap();
        let resolved = text.replace("\"firing\"", "\"resolved\"");
        let message = alertmanager(resolved.as_bytes()).unwrap();
        assert_eq!((message.firing.len(), message.quiet.as_deref()), (0, Some("resolved")));
        assert!(alertmanager(br#"{"alerts":[]}"#).unwrap().quiet.is_some());
        let five = text.replace("\"version\":\"4\"", "\"version\":\"5\"");
        assert!(alertmanager(five.as_bytes()).is_err());
        let deep = format!("{{\"alerts\":[{}{}]}}", "[".repeat(100_000), "]".repeat(100_000));
        for wrong in ["", "{", "[]", "null", "{}", "{\"alerts\":{}}", "{\"alerts\":[1]}", &deep] {
            assert!(alertmanager(wrong.as_bytes()).is_err(), "{wrong:.40}");
        }
        assert!(alertmanager(&text.as_bytes()[..text.len() - 1]).is_err());
    }

    /// A small message of empty alerts took three hundred times its size of memory:
    /// found by the fuzzer.
    #[test]
    fn alerts_beyond_the_limit_are_counted_and_not_kept() {
        let body = |count: usize| format!("{{\"alerts\":[{}{{}}]}}", "{},".repeat(count - 1));
        let message = alertmanager(body(ALERTS_MAX + 500).as_bytes()).unwrap();
        assert_eq!((message.firing.len(), message.left_out), (ALERTS_MAX, 500));
        let error = alertmanager(body(700_000).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("65536 values"), "{error}");
        let error = generic(format!("[{}0]", "0,".repeat(1_000_000)).as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains("65536 values"), "{error}");
    }

    #[test]
    fn grafana_adds_links_and_values() {
        let body = br#"{"receiver":"r","status":"firing","orgId":1,"version":"1","alerts":[
            {"status":"firing","labels":{"alertname":"T","host":"db-1"},"annotations":{},
             "startsAt":"2026-11-23T02:26:24Z","fingerprint":"57c6d9296de2ad39",
             "dashboardURL":"https://g/d/1","panelURL":"https://g/d/1?viewPanel=2",
             "silenceURL":"https://g/s","values":{"B":22,"C":1.5}}],
            "groupKey":"{}:{}","title":"[FIRING:1]","state":"alerting","message":"m"}"#;
        let message = grafana(body).unwrap();
        let trigger = &message.firing[0];
        assert_eq!(trigger.source, "grafana");
        assert_eq!(trigger.links["dashboard"], "https://g/d/1");
        assert_eq!(trigger.annotations["value B"], "22");
        assert_eq!(trigger.reason, "T", "without a summary the name says it");
    }

    const PAGERDUTY: &str = r#"{"event":{"id":"5ac64822-4adc-4fda-ade0-410becf0de4f",
        "event_type":"incident.triggered","resource_type":"incident",
        "occurred_at":"2026-11-23T02:26:24.000Z","agent":{"type":"user_reference"},"client":null,
        "data":{"id":"PGR0VU2","type":"incident","number":2,"status":"triggered",
        "incident_key":"d3640fbd","title":"A little bump in the road","urgency":"high",
        "html_url":"https://acme.pagerduty.com/incidents/PGR0VU2",
        "service":{"id":"PF9KMXH","summary":"API Service"},"priority":{"summary":"P1"}}}}"#;

    fn page(body: &str, delivery: Option<&str>, now_s: i64) -> Result<Message, PagerDutyError> {
        let events = PAGERDUTY_EVENTS.map(str::to_string);
        pagerduty(body.as_bytes(), delivery, &events, now_s, 1800)
    }

    #[test]
    fn an_incident_of_pagerduty_has_its_words() {
        let occurred_s = 1_795_400_784;
        let message = page(PAGERDUTY, Some("d1"), occurred_s).unwrap();
        let trigger = &message.firing[0];
        assert_eq!(trigger.reason, "A little bump in the road");
        assert_eq!((&*trigger.labels["service"], &*trigger.labels["number"]), ("API Service", "2"));
        assert_eq!(trigger.links["incident"], "https://acme.pagerduty.com/incidents/PGR0VU2");
        let again = page(PAGERDUTY, Some("d2"), occurred_s + 60).unwrap();
        assert_eq!(again.firing[0].key, trigger.key, "the delivery's id is not signed");
        let old = page(PAGERDUTY, Some("d1"), occurred_s + 1801);
        assert_eq!(old, Err(PagerDutyError::Old(1800)));
        for kind in ["incident.acknowledged", "incident.annotated", "incident.resolved"] {
            let other = PAGERDUTY.replace("incident.triggered", kind);
            let message = page(&other, None, occurred_s).unwrap();
            assert!(message.firing.is_empty() && message.quiet.is_some(), "{kind}");
        }
        for wrong in ["", "{}", "{\"event\":{}}", "{\"event\":{\"event_type\":3}}", "[]"] {
            assert!(page(wrong, None, occurred_s).is_err(), "{wrong}");
        }
    }

    #[test]
    fn any_json_is_a_trigger() {
        let body = br#"{"reason":"disk slow","labels":{"a":1,"b":true},"key":"k1","count":3,
                        "source":"../x","name":"n","host":"db-1","nested":{"x":1}}"#;
        let message = generic(body, None).unwrap();
        let trigger = &message.firing[0];
        assert_eq!((&*trigger.source, &*trigger.reason), ("generic", "disk slow"));
        assert_eq!((&*trigger.labels["a"], &*trigger.labels["b"]), ("1", "true"));
        assert_eq!((&*trigger.labels["host"], &*trigger.annotations["count"]), ("db-1", "3"));
        assert!(!trigger.key.is_empty());
        assert_eq!(generic(b"\"just words\"", None).unwrap().firing[0].reason, "just words");
        assert_eq!(generic(br#"{"source":"icinga"}"#, None).unwrap().firing[0].source, "icinga");
        assert_eq!(generic(br#"{"source":"manual"}"#, None).unwrap().firing[0].source, "generic");
        assert!(generic(br#"{"status":"resolved"}"#, None).unwrap().quiet.is_some());
        assert!(generic(b"", None).is_err() && generic(b"nonsense", None).is_err());
        let event = CloudEvent { id: "1".into(), source: "/s".into(), kind: "t".into() };
        let message = generic(b"{}", Some(&event)).unwrap();
        assert_eq!(message.firing[0].labels["ce_source"], "/s");
        assert_eq!(message.firing[0].key.len(), 32);
    }

    #[test]
    fn hostile_words_stay_words() {
        let label = format!("../../x\\u0000\\u001b[31m{}", "y".repeat(1 << 20));
        let body = format!(r#"{{"labels":{{"l":"{label}"}}}}"#);
        let message = generic(body.as_bytes(), None).unwrap();
        let trigger = &message.firing[0];
        assert_eq!((trigger.labels["l"].len(), trigger.cut), (VALUE_BYTES_MAX, 1));
        assert!(trigger.labels["l"].starts_with("../../x\0\u{1b}[31m"));
    }
}
