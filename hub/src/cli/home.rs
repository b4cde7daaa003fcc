//! The files the command line keeps: API tokens and pinned fleets by hub, and signing keys. Secret
//! files are readable by their owner only, and one that is not is refused.
//!
//! ```text
//! $BELLWETHER_CONFIG or ~/.config/bellwether
//!   tokens.json  0600   hub address -> API token
//!   fleets.json         hub address -> fleet id, pinned
//!   heads.json          hub address -> the last audit heads seen, NUMBER:HEAD with spaces between
//!   roots.json          fleet id -> highest version of its root that was seen
//!   keys/               $BELLWETHER_KEYS or here
//!     bob.key    0600   the private half: 64 hexadecimal digits
//!     bob.pub           the public half, with the person and what keeps the private half
//! ```

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bellwether_protocol::digest::Digest;
use bellwether_protocol::trust::FleetId;

use super::failure::{Exit, Failure};

/// Largest file of ours: whatever is larger is not ours.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Audit heads kept for one hub: each holds everything before it, so few are enough.
const HEADS_MAX: usize = 32;

type ByHub = BTreeMap<String, String>;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Home {
    config: PathBuf,
    keys: PathBuf,
}

impl Home {
    pub(super) fn find() -> Result<Self, Failure> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("BELLWETHER_CONFIG")
            .or_else(|| set("XDG_CONFIG_HOME").map(|base| base.join("bellwether")))
            .or_else(|| set("HOME").map(|home| home.join(".config/bellwether")))
            .ok_or_else(|| Failure::error("neither HOME nor BELLWETHER_CONFIG is set").next("set one of them"))?;
        let keys = set("BELLWETHER_KEYS").unwrap_or_else(|| config.join("keys"));
        Ok(Self { config, keys })
    }

    #[cfg(test)]
    pub(super) fn at(folder: &Path) -> Self {
        Self { config: folder.to_owned(), keys: folder.join("keys") }
    }

    /// Where keys are.
    pub(super) fn keys(&self) -> &Path {
        &self.keys
    }

    /// The API token kept for this hub.
    pub(super) fn token(&self, hub: &str) -> Result<Option<String>, Failure> {
        let path = self.config.join("tokens.json");
        if path.exists() {
            private(&path)?;
        }
        Ok(by_hub(&path)?.remove(hub.trim_end_matches('/')))
    }

    /// Keeps an API token for this hub, or forgets it.
    pub(super) fn keep_token(&self, hub: &str, token: Option<&str>) -> Result<PathBuf, Failure> {
        self.keep("tokens.json", hub, token)
    }

    /// The fleet pinned for this hub.
    pub(super) fn pinned(&self, hub: &str) -> Result<Option<FleetId>, Failure> {
        let path = self.config.join("fleets.json");
        let Some(text) = by_hub(&path)?.remove(hub) else { return Ok(None) };
        text.parse().map(Some).map_err(|bad| Failure::error(format!("{}: {bad}", path.display())))
    }

    /// Pins a fleet for this hub.
    pub(super) fn pin(&self, hub: &str, fleet: FleetId) -> Result<(), Failure> {
        self.keep("fleets.json", hub, Some(&fleet.to_string())).map(drop)
    }

    /// The audit heads seen of this hub, oldest first.
    pub(super) fn heads(&self, hub: &str) -> Result<Vec<(u64, Digest)>, Failure> {
        let path = self.config.join("heads.json");
        let Some(text) = by_hub(&path)?.remove(hub) else { return Ok(Vec::new()) };
        let read = |pair: &str| {
            let (sequence, head) = pair.split_once(':')?;
            Some((sequence.parse().ok()?, head.parse().ok()?))
        };
        let heads: Option<Vec<(u64, Digest)>> = text.split_whitespace().map(read).collect();
        heads.ok_or_else(|| {
            Failure::error(format!("{} does not read", path.display())).next("mend it from a copy; do not delete it")
        })
    }

    /// Keeps an audit head seen of this hub, with those before it.
    pub(super) fn keep_head(&self, hub: &str, head: (u64, Digest)) -> Result<(), Failure> {
        let mut heads = self.heads(hub)?;
        if heads.last() != Some(&head) {
            heads.push(head);
        }
        let kept = heads.len().saturating_sub(HEADS_MAX);
        let text: Vec<String> = heads.iter().skip(kept).map(|(sequence, head)| format!("{sequence}:{head}")).collect();
        self.keep("heads.json", hub, Some(&text.join(" "))).map(drop)
    }

    /// Whether this fleet is pinned for any hub.
    pub(super) fn pins(&self, fleet: FleetId) -> Result<bool, Failure> {
        let all = by_hub(&self.config.join("fleets.json"))?;
        Ok(all.values().any(|pinned| *pinned == fleet.to_string()))
    }

    /// The highest version of a fleet's root that was seen here; 0 if none was.
    pub(super) fn root_seen(&self, fleet: FleetId) -> Result<u32, Failure> {
        let path = self.config.join("roots.json");
        let Some(text) = by_hub(&path)?.remove(&fleet.to_string()) else { return Ok(0) };
        text.parse().map_err(|bad| Failure::error(format!("{}: {bad}", path.display())))
    }

    /// Keeps the highest version of a fleet's root.
    pub(super) fn keep_root_seen(&self, fleet: FleetId, version: u32) -> Result<(), Failure> {
        if version > self.root_seen(fleet)? {
            self.keep("roots.json", &fleet.to_string(), Some(&version.to_string()))?;
        }
        Ok(())
    }

    fn keep(&self, file: &str, hub: &str, value: Option<&str>) -> Result<PathBuf, Failure> {
        let path = self.config.join(file);
        let mut all = by_hub(&path)?;
        let hub = hub.trim_end_matches('/').to_owned();
        match value {
            Some(value) => drop(all.insert(hub, value.to_owned())),
            None => drop(all.remove(&hub)),
        }
        let text = serde_json::to_string_pretty(&all).map_err(|fault| Failure::error(fault.to_string()))?;
        folder(&self.config)?;
        let fresh = self.config.join(format!(".{file}.new"));
        if fresh.exists() {
            fs::remove_file(&fresh).map_err(|fault| Failure::file(&fresh, &fault))?;
        }
        write_new(&fresh, text.as_bytes(), 0o600)?;
        fs::rename(&fresh, &path).map_err(|fault| Failure::file(&path, &fault))?;
        Ok(path)
    }
}

fn by_hub(path: &Path) -> Result<ByHub, Failure> {
    if !path.exists() {
        return Ok(ByHub::new());
    }
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|fault| {
        Failure::error(format!("{}: {fault}", path.display())).next("mend the file, or remove it and log in again")
    })
}

/// Reads a small text file.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// Reads a text file of at most so many bytes.
pub(super) fn read_up_to(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    let facts = fs::metadata(path).map_err(|fault| Failure::file(path, &fault))?;
    if facts.len() > bytes_max {
        return Err(Failure::error(format!("{}: {} bytes, which is no file of ours", path.display(), facts.len())));
    }
    fs::read_to_string(path).map_err(|fault| Failure::file(path, &fault))
}

/// Makes a folder for its owner only.
pub(super) fn folder(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|fault| Failure::file(path, &fault))
}

/// Writes a file that must not exist yet.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|fault| {
        if fault.kind() != std::io::ErrorKind::AlreadyExists {
            return Failure::file(path, &fault);
        }
        Failure::new(Exit::Conflict, format!("{} exists already", path.display()))
            .next("choose another name, or move it away")
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|fault| Failure::file(path, &fault))
}

/// Refuses a secret file that others may read.
pub(super) fn private(path: &Path) -> Result<(), Failure> {
    let facts = fs::metadata(path).map_err(|fault| Failure::file(path, &fault))?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::NotAllowed, format!("{} may be read by others (mode {mode:o})", path.display()))
        .next(format!("chmod 600 {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_by_hub_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("config"));
        let path = home.keep_token("http://a:1/", Some("secret")).unwrap();
        home.keep_token("http://b:1", Some("other")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(home.token("http://a:1").unwrap().as_deref(), Some("secret"));
        home.keep_token("http://a:1", None).unwrap();
        assert_eq!(home.token("http://a:1").unwrap(), None);
        assert_eq!(home.token("http://b:1").unwrap().as_deref(), Some("other"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(home.token("http://b:1").is_err());
    }

    #[test]
    fn a_pinned_fleet_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        assert_eq!(home.pinned("http://a:1").unwrap(), None);
        home.pin("http://a:1", FleetId([7; 16])).unwrap();
        assert_eq!(home.pinned("http://a:1").unwrap(), Some(FleetId([7; 16])));
        assert!(home.pins(FleetId([7; 16])).unwrap() && !home.pins(FleetId([8; 16])).unwrap());
        home.keep_root_seen(FleetId([7; 16]), 3).unwrap();
        home.keep_root_seen(FleetId([7; 16]), 2).unwrap();
        assert_eq!(home.root_seen(FleetId([7; 16])).unwrap(), 3, "it never goes back");
        assert_eq!(home.root_seen(FleetId([8; 16])).unwrap(), 0);
        fs::write(folder.path().join("fleets.json"), "{").unwrap();
        assert!(home.pinned("http://a:1").is_err());
    }
}
