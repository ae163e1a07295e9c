//! Which triggers concern this host.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, UdpSocket},
};

use serde::Deserialize;

use super::Trigger;

/// Labels that name a host, where nothing else is configured.
const HOST_LABELS: [&str; 2] = ["instance", "host"];

/// Stands for any name of this host in a pattern.
const THIS_HOST: &str = "{host}";

/// The longest pattern, and the longest value it is compared with.
const PATTERN_BYTES_MAX: usize = 1024;

/// The names of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNames {
    names: Vec<String>,
}

impl HostNames {
    /// The node's name, and more that it is known by.
    pub fn new(node: &str, more: &[String]) -> HostNames {
        let mut names: Vec<String> = Vec::new();
        for name in std::iter::once(node).chain(more.iter().map(String::as_str)) {
            let name = name.trim().trim_end_matches('.').to_ascii_lowercase();
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        HostNames { names }
    }

    /// Whether `said`, such as `db-1`, `db-1.example.org:9100` or `10.0.0.5:9100`, is
    /// this host. A short name is that of the full one; `localhost` is this host only
    /// to those who are `local` to it.
    pub fn are(&self, said: &str, local: bool, is_local_address: fn(IpAddr) -> bool) -> bool {
        let said = without_port(said.trim()).trim_end_matches('.').to_ascii_lowercase();
        if said == "localhost" {
            return local;
        }
        if let Ok(address) = said.trim_matches(['[', ']']).parse::<IpAddr>() {
            let named = self.names.iter().any(|name| name.parse() == Ok(address));
            return named || if address.is_loopback() { local } else { is_local_address(address) };
        }
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_string();
        self.names.iter().any(|name| {
            // Two full names of different domains are two hosts.
            let full = name.contains('.') && said.contains('.');
            *name == said || !full && short(name) == short(&said)
        })
    }
}

fn without_port(said: &str) -> &str {
    match said.rsplit_once(':') {
        // `::1` has no port, `[::1]:80` has.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            if host.contains(':') && !host.ends_with(']') { said } else { host }
        }
        _ => said,
    }
}

/// Whether this host has the address: only then it can be bound. Nothing is sent.
pub fn is_local_address(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What labels must be for a trigger to fire: all of it. Without one, `instance` and
/// `host` must be absent or name this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Match {
    patterns: BTreeMap<String, String>,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchError(String);

impl fmt::Display for MatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MatchError {}

impl TryFrom<BTreeMap<String, String>> for Match {
    type Error = MatchError;

    fn try_from(patterns: BTreeMap<String, String>) -> Result<Match, MatchError> {
        for (label, pattern) in &patterns {
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(MatchError(format!(
                    "the pattern of label {label} has {} bytes, at most {PATTERN_BYTES_MAX}",
                    pattern.len()
                )));
            }
        }
        Ok(Match { patterns })
    }
}

/// Whom a trigger is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// This host's names.
    pub names: &'a HostNames,
    /// Whether the trigger was sent from this host.
    pub local: bool,
    /// Whether an address is one of this host.
    pub is_local_address: fn(IpAddr) -> bool,
}

impl Match {
    /// Why a trigger does not fire here; `None` when it does.
    pub fn refuses(&self, trigger: &Trigger, here: &Here<'_>) -> Option<String> {
        let value = |label: &str| trigger.labels.get(label).map(String::as_str).unwrap_or_default();
        let is_here = |said: &str| here.names.are(said, here.local, here.is_local_address);
        if self.patterns.is_empty() {
            let elsewhere = HOST_LABELS.into_iter().find(|label| {
                let said = value(label);
                !said.is_empty() && !is_here(said)
            })?;
            return Some(format!(
                "label {elsewhere} is {:.64}, which is not this host",
                value(elsewhere)
            ));
        }
        let differs = |(label, pattern): &(&String, &String)| {
            let said = value(label);
            let fits =
                if pattern.as_str() == THIS_HOST { is_here(said) } else { glob(pattern, said) };
            !fits
        };
        let (label, pattern) = self.patterns.iter().find(differs)?;
        Some(format!("label {label} is \"{:.64}\", not {pattern}", value(label)))
    }
}

/// Whether `text` is as `pattern` says: `*` is any text, `?` any character. Bounded
/// by the product of both lengths.
pub fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().take(PATTERN_BYTES_MAX + 1).collect();
    let (mut at, mut place) = (0, 0);
    // Where the last star stands, and how much text it takes.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || Some(wanted) == text.get(place) => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                place = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ADDRESS: fn(IpAddr) -> bool = |_| false;

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("db-*", "db-1"),
            ("*.example", "a.b.example"),
            ("a?c*e", "abcxxe"),
            ("**a**", "xxaxx"),
            ("a*b*c", "aXbYbZc"),
            ("é?", "éx"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("db-*", "xdb-1"), ("a*b", "abc"), ("A", "a")]
        {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        let long = "a".repeat(PATTERN_BYTES_MAX);
        assert!(!glob(&format!("{}b", "*a".repeat(100)), &long), "ends");
    }

    #[test]
    fn a_host_has_many_names() {
        let names = HostNames::new("db-1.prod.example", &["10.0.0.5".to_string()]);
        let are = |said: &str, local: bool| names.are(said, local, NO_ADDRESS);
        for said in
            ["db-1", "DB-1.prod.example:9100", "db-1:9100", "db-1.prod.example.", "10.0.0.5:1"]
        {
            assert!(are(said, false), "{said}");
        }
        for said in ["db-2", "db-1.stage.example", "db", "10.0.0.6", "", "localhost:9090", "::1"] {
            assert!(!are(said, false), "{said}");
        }
        assert!(are("localhost:9090", true) && are("[::1]:80", true) && are("127.0.0.1", true));
        assert!(names.are("[fe80::1]:9100", false, |_| true));
        assert!(HostNames::new("db-1", &[]).are("db-1.prod.example:9100", false, NO_ADDRESS));
    }

    #[test]
    fn a_trigger_for_another_host_does_not_fire() {
        let names = HostNames::new("db-1", &[]);
        let here = Here { names: &names, local: false, is_local_address: NO_ADDRESS };
        let with = |labels: &[(&str, &str)]| {
            let mut trigger = Trigger::default();
            labels.iter().for_each(|(name, value)| trigger.label(name, *value));
            trigger
        };
        let default = Match::default();
        assert_eq!(default.refuses(&with(&[]), &here), None);
        assert_eq!(default.refuses(&with(&[("instance", "db-1:9100")]), &here), None);
        let refused = default.refuses(&with(&[("instance", "db-2:9100")]), &here);
        assert!(refused.unwrap().contains("db-2"), "the reason names it");
        assert!(default.refuses(&with(&[("host", "db-2")]), &here).is_some());

        let own: Match = BTreeMap::from([
            ("severity".to_string(), "page".to_string()),
            ("node".to_string(), "{host}".to_string()),
        ])
        .try_into()
        .unwrap();
        let good = [("severity", "page"), ("node", "db-1"), ("instance", "elsewhere")];
        assert_eq!(own.refuses(&with(&good), &here), None, "it stands in place of the default");
        assert!(own.refuses(&with(&good[..1]), &here).is_some());
        assert!(own.refuses(&with(&[("severity", "info"), ("node", "db-1")]), &here).is_some());
        let long = BTreeMap::from([("l".to_string(), "x".repeat(PATTERN_BYTES_MAX + 1))]);
        assert!(Match::try_from(long).is_err());
    }
}
