//! Settings: what the command line says, else the configuration file, else the
//! default. Checked here, once.

pub mod trigger;
mod words;

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
pub use trigger::TriggerConfig;
use trigger::{AccessSettings, HookSettings, KeepSettings, TriggerSettings};
pub use words::parse_bytes;

use crate::{
    clock::parse_duration_ns,
    event::{capture::DataKept, syscall::Abi},
    privacy,
    trigger::rule::{Rule, Rules},
};

/// The least a spool may have: each of its files must have room for what is known of a
/// small host.
pub const SPOOL_BYTES_MIN: u64 = 16 << 20;

/// The default control socket.
pub const SOCKET: &str = "/run/recorder/control.sock";
/// The default directory of snapshots.
pub const SNAPSHOTS: &str = "/var/lib/recorder/snapshots";
/// The configuration file that is read when it is there.
pub const CONFIG: &str = "/etc/recorder/recorder.toml";

/// The shortest and the longest window.
const WINDOW_NS: std::ops::RangeInclusive<u64> = 1_000_000_000..=86_400_000_000_000;
/// More names of this host.
const NAMES_MAX: usize = 64;
/// The least memory: below it the rings alone would not fit.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// A ring of one CPU: as large as this, less where all together would take more
/// than a quarter of the memory, never less than the smallest.
const RING_BYTES_MAX: u64 = 2 << 20;
const RING_BYTES_MIN: u64 = 64 << 10;

/// A setting that cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file is not understood; the message has line and column.
    Parse(PathBuf, Box<toml::de::Error>),
    /// A value is not one.
    Value(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            ConfigError::Parse(path, error) => {
                write!(f, "{}: {}", path.display(), error.to_string().trim_end())
            }
            ConfigError::Value(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the file and the command line may say; the same names in both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How far back the window goes.
    pub window: Option<String>,
    /// What everything that grows may take together.
    pub memory: Option<String>,
    /// The control socket.
    pub socket: Option<PathBuf>,
    /// The group that may use the control socket.
    pub socket_group: Option<String>,
    /// Where snapshots go.
    pub snapshots: Option<PathBuf>,
    /// Where the black box on disk is; there is none where nothing is said.
    pub spool: Option<PathBuf>,
    /// What its files take together.
    pub spool_size: Option<String>,
    /// Where triggers and metrics are served over TCP.
    pub listen: Option<String>,
    /// How the recorder's own log looks.
    pub log: Option<LogFormat>,
    /// More names of this host.
    pub names: Option<Vec<String>>,
    /// Who may ask over TCP.
    #[serde(default)]
    pub access: AccessSettings,
    /// When a trigger becomes a snapshot.
    #[serde(default)]
    pub trigger: TriggerSettings,
    /// Which snapshots are kept.
    #[serde(default)]
    pub keep: KeepSettings,
    /// What is run when a snapshot is finished.
    pub hook: Option<HookSettings>,
    /// How much is kept of what programs read, write, send and receive.
    pub snaplen: Option<String>,
    /// What is masked.
    #[serde(default)]
    pub privacy: PrivacySettings,
    /// When the stream itself asks for a snapshot.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// What is masked, in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacySettings {
    /// Whether secrets are masked; they are when nothing is said.
    pub mask: Option<bool>,
    /// Further names behind which a secret stands.
    #[serde(default)]
    pub words: Vec<String>,
}

impl PrivacySettings {
    fn check(&self) -> Result<privacy::Rules, ConfigError> {
        let words = privacy::check_words(&self.words)
            .map_err(|error| ConfigError::Value(format!("words in [privacy]: {error}")))?;
        let mask = self.mask.unwrap_or(true);
        Ok(privacy::Rules { mask, words, ..privacy::Rules::default() })
    }
}

/// How the recorder's own log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Checked settings of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// How far back the window goes.
    pub window_ns: u64,
    /// What everything that grows may take together.
    pub memory_bytes: u64,
    /// The control socket.
    pub socket: PathBuf,
    /// The group that may use the control socket; that of the process when `None`.
    pub socket_group: Option<String>,
    /// Where snapshots go.
    pub snapshots: PathBuf,
    /// Where the black box on disk is, and what its files take together.
    pub spool: Option<(PathBuf, u64)>,
    /// Where triggers and metrics are served over TCP.
    pub listen: Option<SocketAddr>,
    /// How the recorder's own log looks.
    pub log: LogFormat,
    /// More names of this host.
    pub names: Vec<String>,
    /// What triggers do.
    pub triggers: TriggerConfig,
    /// How much is kept of what programs read, write, send and receive.
    pub data_kept: DataKept,
    /// What is masked.
    pub privacy: privacy::Rules,
    rules: Vec<Rule>,
}

impl RecorderConfig {
    /// `said` on the command line, and the file `config`, or the default one where
    /// it is there.
    pub fn new(said: Settings, config: Option<&Path>) -> Result<RecorderConfig, ConfigError> {
        let file = match config {
            Some(path) => read(path)?,
            None if Path::new(CONFIG).exists() => read(Path::new(CONFIG))?,
            None => Settings::default(),
        };
        let window = said.window.or(file.window).unwrap_or_else(|| "5m".to_string());
        let memory = said.memory.or(file.memory).unwrap_or_else(|| "256MiB".to_string());
        let window_ns = parse_duration_ns(&window).map_err(ConfigError::Value)?;
        if !WINDOW_NS.contains(&window_ns) {
            return Err(ConfigError::Value(format!(
                "the window is {window}: it must be between 1s and 24h"
            )));
        }
        let memory_bytes = parse_bytes(&memory).map_err(ConfigError::Value)?;
        if memory_bytes < MEMORY_BYTES_MIN {
            return Err(ConfigError::Value(format!(
                "the memory is {memory}: at least 16MiB is needed"
            )));
        }
        let spool_size = said.spool_size.or(file.spool_size);
        let spool = spool(said.spool.or(file.spool), spool_size.as_deref())?;
        let names = file.names.unwrap_or_default();
        if names.len() > NAMES_MAX {
            return Err(ConfigError::Value(format!(
                "names has {} names, at most {NAMES_MAX}",
                names.len()
            )));
        }
        let triggers = TriggerConfig::new(file.trigger, file.access, file.keep, file.hook)?;
        let listen = said.listen.or(file.listen).map(|word| parse_listen(&word)).transpose()?;
        if let Some(address) = listen {
            check_listen(address, triggers.access.has_secret())?;
        }
        let snaplen = said.snaplen.or(file.snaplen).unwrap_or_else(|| "0".to_string());
        let config = RecorderConfig {
            data_kept: words::parse_snaplen(&snaplen).map_err(ConfigError::Value)?,
            window_ns,
            memory_bytes,
            socket: said.socket.or(file.socket).unwrap_or_else(|| SOCKET.into()),
            socket_group: file.socket_group,
            snapshots: said.snapshots.or(file.snapshots).unwrap_or_else(|| SNAPSHOTS.into()),
            spool,
            listen,
            log: said.log.or(file.log).unwrap_or_default(),
            names,
            triggers,
            privacy: file.privacy.check()?,
            rules: file.rules,
        };
        // A wrong one is refused with everything else that is wrong.
        let native = Abi::native(std::env::consts::ARCH).unwrap_or(Abi::X86_64);
        config.rules(native).map(|_| config)
    }

    /// The rules on the stream, for calls of ABI `native`.
    pub fn rules(&self, native: Abi) -> Result<Rules, ConfigError> {
        Rules::check(&self.rules, native).map_err(|error| ConfigError::Value(error.to_string()))
    }

    /// The names of all rules.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Bytes of the ring of one CPU, a power of two.
    pub fn ring_bytes(&self, cpus: u64) -> u64 {
        let mut bytes = RING_BYTES_MAX;
        while bytes > RING_BYTES_MIN && bytes * cpus > self.memory_bytes / 4 {
            bytes /= 2;
        }
        bytes
    }
}

/// The spool and its size; an empty name stands for none, so that the command line can do
/// without the one of the file.
fn spool(
    directory: Option<PathBuf>,
    size: Option<&str>,
) -> Result<Option<(PathBuf, u64)>, ConfigError> {
    let bytes = parse_bytes(size.unwrap_or("256MiB")).map_err(ConfigError::Value)?;
    if bytes < SPOOL_BYTES_MIN {
        return Err(ConfigError::Value(format!(
            "the size of the spool is {}: at least 16MiB is needed",
            size.unwrap_or_default()
        )));
    }
    Ok(directory.filter(|directory| !directory.as_os_str().is_empty()).map(|path| (path, bytes)))
}

/// `127.0.0.1:9774`, `[::1]:9774`, `:9774` for every address.
fn parse_listen(word: &str) -> Result<SocketAddr, ConfigError> {
    let whole = if word.starts_with(':') { format!("[::]{word}") } else { word.to_string() };
    whole.parse().map_err(|_| {
        ConfigError::Value(format!(
            "listen is `{word}`: write an address and a port, like 127.0.0.1:9774"
        ))
    })
}

/// Whoever can reach an address of a network could fill the disk with snapshots.
pub fn check_listen(address: SocketAddr, has_secret: bool) -> Result<(), ConfigError> {
    if address.ip().to_canonical().is_loopback() || has_secret {
        return Ok(());
    }
    Err(ConfigError::Value(format!(
        "listen is {address}, which others can reach: name a file with a token as token_file in \
         [access], or a secret_file of the door that is used, or listen on 127.0.0.1"
    )))
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_path_buf(), e))?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse(path.to_path_buf(), Box::new(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_take_at_most_a_quarter() {
        let config = |memory: &str| {
            let said = Settings { memory: Some(memory.to_string()), ..Settings::default() };
            RecorderConfig::new(said, None).unwrap()
        };
        assert_eq!(config("256MiB").ring_bytes(2), 2 << 20);
        assert_eq!(config("256MiB").ring_bytes(128), 512 << 10);
        assert_eq!(config("16MiB").ring_bytes(4096), 64 << 10);
    }

    fn in_file(text: &str) -> Result<RecorderConfig, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        let rules = settings.rules;
        let said = Settings { window: Some("1m".to_string()), ..Settings::default() };
        let config = RecorderConfig::new(said, None).map_err(|error| error.to_string())?;
        let config = RecorderConfig { rules, ..config };
        config.rules(Abi::X86_64).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn rules_are_tables_that_are_checked() {
        let crash = "[[rule]]\nname = \"crash\"\non = \"signal\"\ncommand = \"nginx*\"\n";
        let slow = "[[rule]]\nname = \"slow\"\non = \"slow_call\"\nlonger_than = \"500ms\"\n";
        let config = in_file(&format!("{crash}{slow}labels = {{ team = \"db\" }}\n")).unwrap();
        assert_eq!(config.rule_names().collect::<Vec<_>>(), ["crash", "slow"]);
        let typo = in_file(&format!("{crash}comand = \"x\"\n")).unwrap_err();
        assert!(typo.contains("comand") && typo.contains("line 5"), "{typo}");
        let wrong = in_file(&format!("{crash}signals = [\"SIGSEGFAULT\"]\n")).unwrap_err();
        assert_eq!(wrong, "rule `crash`: signals: there is no signal `SIGSEGFAULT`");
    }

    #[test]
    fn words_of_secrets_are_checked() {
        let privacy = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.privacy.check().map_err(|error| error.to_string())
        };
        assert!(privacy("").unwrap().mask);
        let rules = privacy("[privacy]\nmask = false\nwords = [\"badge_number\"]\n").unwrap();
        assert_eq!((rules.mask, rules.words), (false, vec![b"badge_number".to_vec()]));
        let wrong = privacy("[privacy]\nwords = [\"a b\"]\n").unwrap_err();
        assert!(wrong.starts_with("words in [privacy]: `a b`"), "{wrong}");
    }

    #[test]
    fn a_typo_in_the_file_is_named_with_its_place() {
        let directory =
            std::env::temp_dir().join(format!("recorder-config-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("recorder.toml");
        fs::write(&path, "window = \"1m\"\nmemroy = \"1GiB\"\n").unwrap();
        let error = RecorderConfig::new(Settings::default(), Some(&path)).unwrap_err().to_string();
        assert!(error.contains("memroy") && error.contains("line 2"), "{error}");
        fs::write(&path, "window = \"1m\"\n").unwrap();
        let read = RecorderConfig::new(Settings::default(), Some(&path)).unwrap();
        assert_eq!(read.window_ns, 60_000_000_000);
        fs::remove_dir_all(&directory).unwrap();
    }

    /// What the shipped file calls a default is one.
    #[test]
    fn the_shipped_file_changes_nothing_with_its_defaults_in_force() {
        let shipped = include_str!("../../../packaging/recorder.toml");
        let mut text = String::new();
        let mut defaults = 0;
        for line in shipped.lines() {
            let setting = line.strip_prefix('#').unwrap_or(line);
            let is_default = setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
                && !setting.ends_with("# no default");
            if is_default {
                text += setting;
                defaults += u32::from(!setting.starts_with('['));
            }
            text.push('\n');
        }
        assert!(defaults > 10, "{text}");
        let settings: Settings = toml::from_str(&text).unwrap();
        assert_eq!(settings.window.as_deref(), Some("5m"));
        let name = format!("recorder-shipped-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let config = |text: &str| {
            fs::write(&path, text).unwrap();
            RecorderConfig::new(Settings::default(), Some(&path)).unwrap()
        };
        assert_eq!(config(&text), config(""));
        fs::remove_file(&path).unwrap();
    }
}
