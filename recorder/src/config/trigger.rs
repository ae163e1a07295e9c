//! Settings of triggers: the doors, who may use them, what is kept, what is run.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    ConfigError,
    words::{Amount, Duration, SecretFile},
};
use crate::trigger::{
    body::PAGERDUTY_EVENTS,
    matching::Match,
    policy::{DoorPolicy, PolicySettings},
    signature::{SECRETS_MAX, Secret},
};

/// The longest file of secrets.
const SECRETS_BYTES_MAX: u64 = 64 << 10;

/// The longest time recording may go on for a trigger: whoever wants more asks twice.
const AFTER_NS_MAX: u64 = 600_000_000_000;

/// The longest list of arguments of the hook.
const HOOK_WORDS_MAX: usize = 64;

/// The longest list of directories a hook may write.
const HOOK_WRITABLE_MAX: usize = 16;

/// `[access]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    token_file: Option<SecretFile>,
}

/// `[trigger]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerSettings {
    before: Option<Duration>,
    after: Option<Duration>,
    cooldown: Option<Duration>,
    per_hour_max: Option<usize>,
    #[serde(rename = "match")]
    matching: Option<Match>,
    #[serde(default)]
    alertmanager: DoorSettings,
    #[serde(default)]
    grafana: GrafanaSettings,
    #[serde(default)]
    pagerduty: PagerDutySettings,
    #[serde(default)]
    generic: DoorSettings,
}

/// `[trigger.NAME]`: what differs from `[trigger]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DoorSettings {
    before: Option<Duration>,
    after: Option<Duration>,
    #[serde(rename = "match")]
    matching: Option<Match>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrafanaSettings {
    before: Option<Duration>,
    after: Option<Duration>,
    #[serde(rename = "match")]
    matching: Option<Match>,
    secret_file: Option<SecretFile>,
    timestamp_header: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerDutySettings {
    before: Option<Duration>,
    after: Option<Duration>,
    #[serde(rename = "match")]
    matching: Option<Match>,
    secret_file: Option<SecretFile>,
    events: Option<Vec<String>>,
}

/// `[keep]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepSettings {
    bytes_max: Option<Amount>,
    count_max: Option<usize>,
    age_max: Option<Duration>,
    free_percent_min: Option<u8>,
}

/// `[hook]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    command: Vec<String>,
    timeout: Option<Duration>,
    #[serde(default)]
    writable: Vec<PathBuf>,
}

/// Who may do what over TCP, and whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `Authorization: Bearer`: one of these.
    pub tokens: Vec<Secret>,
    /// Secrets Grafana signs with.
    pub grafana: Vec<Secret>,
    /// The header in which Grafana sends the time it signed, lower case.
    pub grafana_timestamp_header: Option<String>,
    /// Secrets PagerDuty signs with.
    pub pagerduty: Vec<Secret>,
    /// The events of PagerDuty that take a snapshot.
    pub pagerduty_events: Vec<String>,
}

impl Access {
    /// Whether anything protects the triggers.
    pub fn has_secret(&self) -> bool {
        !(self.tokens.is_empty() && self.grafana.is_empty() && self.pagerduty.is_empty())
    }
}

/// Which finished snapshots are kept. The oldest go first; one with a file
/// `NAME.keep` beside it stays and counts all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Bytes of all snapshots.
    pub bytes_max: u64,
    /// Snapshots.
    pub count_max: usize,
    /// Older ones go; none does for its age when `None`.
    pub age_ns_max: Option<u64>,
    /// What stays free of the file system.
    pub free_percent_min: u8,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { bytes_max: 20 << 30, count_max: 50, age_ns_max: None, free_percent_min: 5 }
    }
}

/// What is run when a snapshot is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// Then it is ended, nanoseconds.
    pub timeout_ns: u64,
    /// Where it may write, beside the snapshot directory and those for temporary files.
    pub writable: Vec<PathBuf>,
}

/// Everything about triggers, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerConfig {
    /// When one becomes a snapshot.
    pub policy: PolicySettings,
    /// Who may ask.
    pub access: Access,
    /// What is kept.
    pub keep: Keep,
    /// What is run.
    pub hook: Option<Hook>,
}

impl TriggerConfig {
    /// Checks the settings and reads the secrets.
    pub fn new(
        trigger: TriggerSettings,
        access: AccessSettings,
        keep: KeepSettings,
        hook: Option<HookSettings>,
    ) -> Result<TriggerConfig, ConfigError> {
        let timestamp_header = trigger.grafana.timestamp_header.clone();
        let events = trigger.pagerduty.events.clone();
        let access = Access {
            tokens: secrets(access.token_file.as_ref())?,
            grafana: secrets(trigger.grafana.secret_file.as_ref())?,
            grafana_timestamp_header: timestamp_header.map(|name| name.to_ascii_lowercase()),
            pagerduty: secrets(trigger.pagerduty.secret_file.as_ref())?,
            pagerduty_events: events.unwrap_or_else(|| PAGERDUTY_EVENTS.map(String::from).into()),
        };
        Ok(TriggerConfig {
            policy: policy(trigger)?,
            access,
            keep: kept(&keep)?,
            hook: hook.map(checked_hook).transpose()?,
        })
    }
}

fn policy(trigger: TriggerSettings) -> Result<PolicySettings, ConfigError> {
    let default = DoorPolicy {
        before_ns: trigger.before.map(|before| before.ns),
        after_ns: trigger.after.map_or(0, |after| after.ns),
        matching: trigger.matching.unwrap_or_default(),
    };
    let grafana = DoorSettings {
        before: trigger.grafana.before,
        after: trigger.grafana.after,
        matching: trigger.grafana.matching,
    };
    let pagerduty = DoorSettings {
        before: trigger.pagerduty.before,
        after: trigger.pagerduty.after,
        matching: trigger.pagerduty.matching,
    };
    let doors = [
        ("alertmanager", trigger.alertmanager),
        ("grafana", grafana),
        ("pagerduty", pagerduty),
        ("generic", trigger.generic),
        // What alerts must have to concern this host says nothing of what happens on it.
        ("rule", DoorSettings { matching: Some(Match::default()), ..DoorSettings::default() }),
    ];
    let settings = PolicySettings {
        doors: doors
            .into_iter()
            .map(|(name, door)| (name.to_string(), door_policy(door, &default)))
            .collect(),
        default,
        cooldown_ns: trigger.cooldown.map_or(60_000_000_000, |cooldown| cooldown.ns),
        per_hour_max: trigger.per_hour_max.unwrap_or(12),
    };
    let all = std::iter::once(&settings.default).chain(settings.doors.values());
    if all.map(|door| door.after_ns).any(|after_ns| after_ns > AFTER_NS_MAX) {
        return Err(ConfigError::Value("trigger: after is at most 10m".to_string()));
    }
    Ok(settings)
}

fn door_policy(door: DoorSettings, default: &DoorPolicy) -> DoorPolicy {
    DoorPolicy {
        before_ns: door.before.map(|before| before.ns).or(default.before_ns),
        after_ns: door.after.map_or(default.after_ns, |after| after.ns),
        matching: door.matching.unwrap_or_else(|| default.matching.clone()),
    }
}

fn kept(keep: &KeepSettings) -> Result<Keep, ConfigError> {
    let default = Keep::default();
    let free_percent_min = keep.free_percent_min.unwrap_or(default.free_percent_min);
    if free_percent_min > 99 {
        return Err(ConfigError::Value(format!(
            "keep: free_percent_min is {free_percent_min}: it must be between 0 and 99"
        )));
    }
    Ok(Keep {
        bytes_max: keep.bytes_max.map_or(default.bytes_max, |amount| amount.bytes),
        count_max: keep.count_max.unwrap_or(default.count_max).max(1),
        age_ns_max: keep.age_max.map(|age| age.ns),
        free_percent_min,
    })
}

fn checked_hook(hook: HookSettings) -> Result<Hook, ConfigError> {
    let program = hook.command.first().map(String::as_str).unwrap_or_default();
    if !Path::new(program).is_absolute() {
        return Err(ConfigError::Value(format!(
            "hook: command is a list whose first word is the whole path of a program, not \
             `{program}`"
        )));
    }
    if hook.command.len() > HOOK_WORDS_MAX {
        return Err(ConfigError::Value(format!(
            "hook: command has {} words, at most {HOOK_WORDS_MAX}",
            hook.command.len()
        )));
    }
    let timeout_ns = hook.timeout.map_or(60_000_000_000, |timeout| timeout.ns);
    if let Some(path) = hook.writable.iter().find(|path| !path.is_absolute()) {
        return Err(ConfigError::Value(format!(
            "hook: writable is a list of whole paths of directories, not `{}`",
            path.display()
        )));
    }
    if hook.writable.len() > HOOK_WRITABLE_MAX {
        return Err(ConfigError::Value(format!(
            "hook: writable has {} directories, at most {HOOK_WRITABLE_MAX}",
            hook.writable.len()
        )));
    }
    Ok(Hook { command: hook.command, timeout_ns, writable: hook.writable })
}

/// The secrets of a file, one a line: while keys are rotated there are two.
fn secrets(file: Option<&SecretFile>) -> Result<Vec<Secret>, ConfigError> {
    let Some(SecretFile { path }) = file else { return Ok(Vec::new()) };
    let cannot = |error| ConfigError::Read(path.clone(), error);
    let opened = fs::File::open(path).map_err(cannot)?;
    let mode = opened.metadata().map_err(cannot)?.mode();
    if mode & 0o007 != 0 {
        return Err(ConfigError::Value(format!(
            "{} holds secrets and everybody may read it: chmod o-rwx it",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    opened.take(SECRETS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let secrets: Vec<Secret> =
        lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(Secret::new).collect();
    let fits = bytes.len() as u64 <= SECRETS_BYTES_MAX && secrets.len() <= SECRETS_MAX;
    if secrets.is_empty() || !fits {
        return Err(ConfigError::Value(format!(
            "{} must hold between one and {SECRETS_MAX} secrets, one a line",
            path.display()
        )));
    }
    Ok(secrets)
}
