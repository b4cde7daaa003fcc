//! One struct from one TOML file: an empty file runs, an unknown key names the nearest known one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bellwether_hub_core::drift::Policy;
use bellwether_hub_core::intake::ROWS_MAX;
use bellwether_link::tls::{Identity, Trust};
use bellwether_protocol::time::Millis;
use serde::Deserialize;

use crate::tls::Refused;

/// How the hub runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of everything it keeps.
    pub data: PathBuf,
    /// Where it serves HTTP; a free port if the default one is taken.
    pub listen: Option<SocketAddr>,
    /// `embedded://ADDRESS:PORT`, or `mqtt://USER:PASSWORD@HOST:PORT` (`mqtts://` with TLS) of a
    /// broker of its own.
    pub broker: Option<String>,
    /// The name by which devices and browsers reach this hub; the address listened on if absent.
    pub host: Option<String>,
    /// Certificate that the hub shows (PEM), for HTTPS and for MQTT at the embedded broker.
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// Authorities of which devices must show a certificate at the embedded broker (PEM).
    pub tls_client_ca: Option<PathBuf>,
    /// Authorities to trust at a broker of its own (PEM); those of this machine if absent.
    pub broker_ca: Option<PathBuf>,
    /// Certificate to show to a broker that wants one (PEM).
    pub broker_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub broker_key: Option<PathBuf>,
    /// Whether plain text may leave this machine: something else protects the way.
    pub insecure_listen: bool,
    /// Events kept; older ones are deleted.
    pub events_max: u64,
    /// Below this much free disk no new work is taken, in MiB.
    pub disk_free_mib: u64,
    /// How long checking a package may take, in seconds of CPU time.
    pub check_seconds: u64,
    /// Memory that checking a package may take, in MiB.
    pub check_memory_mib: u64,
    /// How long online devices may take for a stage, in seconds.
    pub silence_seconds: u64,
    /// Least length of a window in which values are compared with their baseline, in seconds.
    pub drift_window_seconds: u64,
    /// Rows without which such a window stays open.
    pub drift_rows_min: u64,
    /// Population stability index, corrected for its bias, from which a column counts as shifted.
    pub drift_psi_min: f64,
    /// Program that checks packages (`PROGRAM check-package`); this program if absent.
    pub checker: Option<PathBuf>,
    /// Tries of an event before it becomes a webhook's dead letter.
    pub webhook_attempts_max: u32,
    /// How long a webhook's receiver may take to answer, in milliseconds.
    pub webhook_timeout_ms: u64,
    /// Pause after the first failed try, in milliseconds; it doubles, up to five minutes.
    pub webhook_retry_ms_first: u64,
    /// How often collected rows are moved from the store into files, in seconds; sooner if many wait.
    pub collect_seal_seconds: u64,
    /// Rows of one device that are stored in an hour; what is beyond counts as missing.
    pub collect_rows_hourly_max: u32,
    /// Days for which files of collected rows are kept, besides today.
    pub collect_retention_days: u64,
    /// Bytes that files of collected rows may have in all; the oldest are deleted first.
    pub collect_bytes_max: u64,
}

const KEYS: [&str; 27] = [
    "data",
    "listen",
    "broker",
    "host",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "broker_ca",
    "broker_cert",
    "broker_key",
    "insecure_listen",
    "events_max",
    "disk_free_mib",
    "check_seconds",
    "check_memory_mib",
    "silence_seconds",
    "drift_window_seconds",
    "drift_rows_min",
    "drift_psi_min",
    "checker",
    "webhook_attempts_max",
    "webhook_timeout_ms",
    "webhook_retry_ms_first",
    "collect_seal_seconds",
    "collect_rows_hourly_max",
    "collect_retention_days",
    "collect_bytes_max",
];

/// Where HTTP is served unless the configuration says otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// Where the embedded broker listens unless the configuration says otherwise.
pub const BROKER_DEFAULT: &str = "127.0.0.1:1883";

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("bellwether-data"),
            listen: None,
            broker: None,
            host: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            broker_ca: None,
            broker_cert: None,
            broker_key: None,
            insecure_listen: false,
            events_max: 100_000,
            disk_free_mib: 256,
            check_seconds: 60,
            check_memory_mib: 2048,
            silence_seconds: 600,
            drift_window_seconds: 3600,
            drift_rows_min: 200,
            drift_psi_min: 0.2,
            checker: None,
            webhook_attempts_max: 12,
            webhook_timeout_ms: 10_000,
            webhook_retry_ms_first: 1000,
            collect_seal_seconds: 60,
            collect_rows_hourly_max: ROWS_MAX,
            collect_retention_days: 30,
            collect_bytes_max: 10 * 1024 * 1024 * 1024,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The text is not TOML or a value has the wrong type.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// A key that does not exist.
    #[error("there is no setting `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// What was written.
        key: String,
        /// What exists.
        nearest: &'static str,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text)
    }

    /// Whom the hub trusts at a broker of its own, and as whom it appears there.
    ///
    /// # Errors
    ///
    /// [`Refused::Half`].
    pub fn broker_trust(&self) -> Result<Trust, Refused> {
        let identity = match (&self.broker_cert, &self.broker_key) {
            (Some(cert), Some(key)) => Some(Identity { cert: cert.clone(), key: key.clone() }),
            (None, None) => None,
            (Some(_), None) => return Err(Refused::Half { has: "broker_cert", lacks: "broker_key" }),
            (None, Some(_)) => return Err(Refused::Half { has: "broker_key", lacks: "broker_cert" }),
        };
        Ok(Trust { ca: self.broker_ca.clone(), identity })
    }

    /// How drift is judged.
    #[must_use]
    pub fn drift(&self) -> Policy {
        Policy {
            window: Millis::from_secs(self.drift_window_seconds),
            rows_min: self.drift_rows_min,
            effect: self.drift_psi_min,
            ..Policy::default()
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse()?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS.into_iter().min_by_key(|known| strsim::levenshtein(known, key)).unwrap_or_default();
            return Err(ConfigError::UnknownKey { key: key.clone(), nearest });
        }
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_runs() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = Config::parse("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert_eq!(error.to_string(), "there is no setting `lisen`; did you mean `listen`?");
        assert!(Config::parse("listen = 5").is_err());
        assert!(Config::parse("listen = ").is_err());
    }
}
