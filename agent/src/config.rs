//! One struct from one file; an empty file runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bellwether_agent_disk::Bounds;
use bellwether_link::tls::{self, Identity, Trust};
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use serde::Deserialize;

pub use crate::conditions::{BadWindow, Window};
pub use crate::offload::Accelerator;
use crate::score::Pace;

/// Where the agent scores unless told otherwise; a free port if this one is taken.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8600);

/// Everything an agent can be told.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the device; the host's name by default.
    pub name: Option<String>,
    /// Address of the hub's HTTP service.
    pub hub: String,
    /// Authorities to trust at an `https` hub and an `mqtts` broker (PEM); those of this machine if
    /// absent.
    pub ca: Option<PathBuf>,
    /// Certificate to show to a broker that wants one (PEM).
    pub client_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub client_key: Option<PathBuf>,
    /// Enrolment token; needed once.
    pub token: Option<String>,
    /// Directory for everything the agent keeps.
    pub data: PathBuf,
    /// Where to serve scores; [`LISTEN_DEFAULT`] or a free port if absent.
    pub listen: Option<SocketAddr>,
    /// Whether to serve scores over HTTP at all.
    pub serve: bool,
    /// Tags told at enrolment.
    pub tags: BTreeMap<String, String>,
    /// Memory a model may take, in KiB; half of the machine's if absent.
    pub memory_kib: Option<u32>,
    /// Length of a window of scores, in milliseconds.
    pub scores_window_ms: u64,
    /// Length of a window of profiles, in milliseconds.
    pub profile_window_ms: u64,
    /// Rows a minute that may leave this device, for each model, where the model's package asks for
    /// them; none unless this is set, whatever packages and hub say.
    pub collect_rows_per_minute_max: u16,
    /// How long a new model must answer without errors before it stays, in milliseconds.
    pub probation_ms: u64,
    /// Calls that may fail in that time.
    pub probation_errors_max: u32,
    /// How long a self-test may take, in milliseconds; and again when the model, having passed it in
    /// a process of its own, is loaded to answer.
    pub self_test_ms: u64,
    /// How long one call of a model may take, in milliseconds; its process is ended then and started
    /// again.
    pub call_ms_max: u64,
    /// Program that tries and hosts models in processes of their own; the one that runs if absent. It
    /// must begin with [`crate::run_if_child`].
    pub trial_program: Option<PathBuf>,
    /// Longest silence between two reports, in milliseconds.
    pub heartbeat_ms: u64,
    /// Room for what waits for the hub, in bytes; the oldest goes first. On disk it may take three times as
    /// much, and some 10 MiB.
    pub outbox_bytes_max: u64,
    /// How long it waits at most, in hours that the agent runs; what is older goes. Neither a wrong
    /// clock nor time without power counts.
    pub outbox_hours_max: u64,
    /// Times in which installs may go on, by the device's local time, such as `22:00-05:00` or `sat,sun
    /// 00:00-24:00`; always if there is none. Rollouts that are urgent do not ask.
    pub install_windows: Vec<Window>,
    /// Whether installs wait while the device runs on its battery.
    pub install_on_mains: bool,
    /// What models are offloaded to whose packages have a bitstream; nothing if absent.
    pub accelerator: Option<Accelerator>,
    /// How slow a simulated device is; a real one is measured.
    #[serde(skip)]
    pub pace: Option<Pace>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            hub: "http://127.0.0.1:8080".into(),
            ca: None,
            client_cert: None,
            client_key: None,
            token: None,
            data: "bellwether-agent".into(),
            listen: None,
            serve: true,
            tags: BTreeMap::new(),
            memory_kib: None,
            scores_window_ms: 10_000,
            profile_window_ms: 60_000,
            collect_rows_per_minute_max: 0,
            probation_ms: 10_000,
            probation_errors_max: 0,
            self_test_ms: 60_000,
            call_ms_max: 10_000,
            trial_program: None,
            heartbeat_ms: 30_000,
            outbox_bytes_max: 16 * 1024 * 1024,
            outbox_hours_max: 30 * 24,
            install_windows: Vec::new(),
            install_on_mains: false,
            accelerator: None,
            pace: None,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("configuration {}: {why}", path.display())]
    File { path: PathBuf, why: FileError },
    #[error("`{key}` is {got}: expected {expected}")]
    Value { key: &'static str, got: String, expected: &'static str },
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FileError {
    #[error("{0}")]
    Read(String),
    #[error("{0}")]
    Toml(String),
    #[error("there is no key `{got}`; the nearest is `{nearest}`")]
    UnknownKey { got: String, nearest: String },
}

const KEYS: [&str; 25] = [
    "name",
    "hub",
    "ca",
    "client_cert",
    "client_key",
    "token",
    "data",
    "listen",
    "serve",
    "tags",
    "memory_kib",
    "scores_window_ms",
    "profile_window_ms",
    "collect_rows_per_minute_max",
    "probation_ms",
    "probation_errors_max",
    "self_test_ms",
    "call_ms_max",
    "trial_program",
    "heartbeat_ms",
    "outbox_bytes_max",
    "outbox_hours_max",
    "install_windows",
    "install_on_mains",
    "accelerator",
];

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault = |why| ConfigError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|why| fault(FileError::Read(why.to_string())))?;
        Self::parse(&text).map_err(fault)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// [`FileError`], naming the nearest key for an unknown one.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let table: toml::Table = text.parse().map_err(|why: toml::de::Error| FileError::Toml(why.to_string()))?;
        if let Some(got) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest =
                KEYS.iter().min_by_key(|key| strsim::damerau_levenshtein(key, got)).copied().unwrap_or_default();
            return Err(FileError::UnknownKey { got: got.clone(), nearest: nearest.into() });
        }
        toml::from_str(text).map_err(|why| FileError::Toml(why.to_string()))
    }

    /// The device's name: as told, else the host's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] if it is no device id.
    pub fn device(&self) -> Result<DeviceId, ConfigError> {
        let host = || {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
            host.trim().chars().map(plain).take(64).collect()
        };
        let name: String = self.name.clone().unwrap_or_else(host);
        let expected = "1 to 64 of A-Z a-z 0-9 _ - (set it with --name)";
        DeviceId::parse(&name).map_err(|_| ConfigError::Value { key: "name", got: format!("`{name}`"), expected })
    }

    /// Checks what no type checks.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if !["http://", "https://"].iter().any(|scheme| self.hub.starts_with(scheme)) {
            let expected = "http://HOST:PORT or https://HOST:PORT";
            return Err(ConfigError::Value { key: "hub", got: format!("`{}`", self.hub), expected });
        }
        for (key, path) in [("ca", &self.ca), ("client_cert", &self.client_cert)] {
            if let Some(Err(why)) = path.as_deref().map(tls::certificates) {
                return Err(ConfigError::Value { key, got: why.to_string(), expected: "certificates (PEM)" });
            }
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            let key = if self.client_cert.is_some() { "client_key" } else { "client_cert" };
            return Err(ConfigError::Value { key, got: "missing".into(), expected: "the other half of the pair" });
        }
        let day = 86_400_000;
        for (key, got, least, most, expected) in [
            ("scores_window_ms", self.scores_window_ms, 100, day, "100 to 86400000"),
            ("probation_ms", self.probation_ms, 1, 7 * day, "1 to 604800000"),
            ("self_test_ms", self.self_test_ms, 100, day, "100 to 86400000"),
            ("call_ms_max", self.call_ms_max, 10, day, "10 to 86400000"),
            ("heartbeat_ms", self.heartbeat_ms, 500, day, "500 to 86400000"),
            ("outbox_bytes_max", self.outbox_bytes_max, 64 * 1024, 1 << 40, "65536 or more"),
            ("outbox_hours_max", self.outbox_hours_max, 1, 10 * 8_766, "1 to 87660"),
        ] {
            if !(least..=most).contains(&got) {
                return Err(ConfigError::Value { key, got: got.to_string(), expected });
            }
        }
        if let Some(Accelerator::Ice40 { hz, .. }) = self.accelerator
            && !(1_000_000..=24_000_000).contains(&hz)
        {
            let expected = "1000000 to 24000000";
            return Err(ConfigError::Value { key: "accelerator.hz", got: hz.to_string(), expected });
        }
        Ok(())
    }

    /// Whom the device trusts, and as whom it appears.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let pair = self.client_cert.clone().zip(self.client_key.clone());
        Trust { ca: self.ca.clone(), identity: pair.map(|(cert, key)| Identity { cert, key }) }
    }

    /// How much of what is to reach the hub waits on the device at most.
    #[must_use]
    pub const fn outbox(&self) -> Bounds {
        let age_max = Millis::from_secs(self.outbox_hours_max.saturating_mul(3_600));
        Bounds { bytes_max: self.outbox_bytes_max, age_max }
    }

    /// Memory a model may take: as told, else half of the machine's.
    #[must_use]
    pub fn memory(&self) -> u32 {
        const UNKNOWN_KIB: u32 = 256 * 1024;
        let half = || {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(u32::try_from(kib / 2).unwrap_or(u32::MAX))
        };
        self.memory_kib.unwrap_or_else(|| half().unwrap_or(UNKNOWN_KIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_runs() {
        let config = Config::parse("").unwrap();
        assert_eq!((config.hub.as_str(), config.scores_window_ms), ("http://127.0.0.1:8080", 10_000));
        config.check().unwrap();
        assert!(config.memory() > 0);
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let why = Config::parse("heartbeat = 5").unwrap_err();
        assert_eq!(why.to_string(), "there is no key `heartbeat`; the nearest is `heartbeat_ms`");
        assert!(matches!(Config::parse("hub = 5"), Err(FileError::Toml(_))));
        let why = Config::parse("install_windows = ['22-05']").unwrap_err().to_string();
        assert!(why.contains("`22-05` is no window: expected HH:MM-HH:MM"), "{why}");
        assert!(matches!(Config::parse("hub = "), Err(FileError::Toml(_))));
        for key in KEYS {
            let why = Config::parse(&format!("{key} = {{ x = [] }}"));
            assert!(!matches!(why, Err(FileError::UnknownKey { .. })), "{key}");
        }
    }

    #[test]
    fn an_accelerator_is_read_as_its_kind_says() {
        let board = "[accelerator]\nkind = 'ice40'\nspi = 'a'\ngpio = 'b'\nselect = 8\nreset = 25\ndone = 24\n";
        let config = Config::parse(board).unwrap();
        config.check().unwrap();
        assert!(matches!(config.accelerator, Some(Accelerator::Ice40 { hz: 12_000_000, done: 24, .. })));
        let why = Config::parse(&format!("{board}hz = 48000000\n")).unwrap().check().unwrap_err().to_string();
        assert_eq!(why, "`accelerator.hz` is 48000000: expected 1000000 to 24000000");
        for bad in ["kind = 'gpu'", "kind = 'simulated'", "kind = 'ice40'\nspi = 'a'", "kind = 'twin'\nx = 1"] {
            assert!(matches!(Config::parse(&format!("[accelerator]\n{bad}\n")), Err(FileError::Toml(_))), "{bad}");
        }
    }

    #[test]
    fn values_out_of_range_say_what_is_expected() {
        let mut config = Config { heartbeat_ms: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "`heartbeat_ms` is 0: expected 500 to 86400000");
        config = Config { outbox_hours_max: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "`outbox_hours_max` is 0: expected 1 to 87660");
        config = Config { hub: "hub:8080".into(), ..Config::default() };
        assert!(config.check().is_err());
        config = Config { ca: Some("missing/ca.pem".into()), ..Config::default() };
        assert!(config.check().unwrap_err().to_string().contains("`ca` is missing/ca.pem: No such file"));
        config = Config { client_key: Some("a".into()), ..Config::default() };
        assert!(config.check().unwrap_err().to_string().contains("`client_cert` is missing"));
        config = Config { hub: "https://hub:8443".into(), ..Config::default() };
        config.check().unwrap();
        config = Config { name: Some("a b".into()), ..Config::default() };
        assert!(config.device().unwrap_err().to_string().contains("--name"));
    }
}
