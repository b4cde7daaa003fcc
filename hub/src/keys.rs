//! The hub's own keys and secrets: made at first start, files of mode 0600 in the data directory.
//!
//! A key is replaced in three steps, and the hub serves through all of them: [`new_key`] makes the
//! next one beside it; people sign a root that lists it; from then on [`Online::under`] chooses it,
//! and [`HubKeys::settle`] throws the old one away.

use std::io::{self, Write as _};
use std::path::Path;

use bellwether_protocol::SigningKey;
use bellwether_protocol::trust::{KeyStatus, PublicKey, RoleSet, Root};

/// The hub's secrets.
pub struct HubKeys {
    /// Signs assignments, commands and acknowledgements.
    pub director: Online,
    /// Attests registered versions.
    pub registry: Online,
    /// Signs logical time.
    pub time: Online,
    /// From it come the passwords of devices at a broker that cannot check signatures.
    pub broker_secret: [u8; 32],
}

impl std::fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubKeys").field("director", &self.director).finish_non_exhaustive()
    }
}

/// A key that signs online.
pub struct Online {
    role: RoleSet,
    now: SigningKey,
    /// Made to take its place.
    next: Option<SigningKey>,
}

impl std::fmt::Debug for Online {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Online").field("now", &public(&self.now)).finish_non_exhaustive()
    }
}

impl Online {
    /// The key to sign with while this root is in force: the next one as soon as it is listed.
    #[must_use]
    pub fn under(&self, root: &Root) -> &SigningKey {
        self.next.as_ref().filter(|key| self.is_listed(root, key)).unwrap_or(&self.now)
    }

    /// The key in use before there is a root.
    #[must_use]
    pub const fn first(&self) -> &SigningKey {
        &self.now
    }

    fn is_listed(&self, root: &Root, key: &SigningKey) -> bool {
        let listed = root.key(public(key).id());
        listed.is_some_and(|key| key.roles.contains(self.role) && key.status == KeyStatus::Active)
    }
}

/// Names of the files, for backup.
pub const FILES: [&str; 4] = ["director.key", "registry.key", "broker.secret", TIME];
/// The youngest of them: a hub or a backup from before it has none, and makes it at its next start.
pub const TIME: &str = "time.key";
/// Files that are there only while a key waits to take another's place.
pub const NEXT_FILES: [&str; 3] = ["director.next.key", "registry.next.key", "time.next.key"];

/// Which of the hub's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Signs assignments, commands and acknowledgements.
    Director,
    /// Attests registered versions and the audit trail.
    Registry,
    /// Signs logical time.
    Time,
}

impl Which {
    const ALL: [Self; 3] = [Self::Director, Self::Registry, Self::Time];

    const fn role(self) -> RoleSet {
        match self {
            Self::Director => RoleSet::DIRECTOR,
            Self::Registry => RoleSet::REGISTRY,
            Self::Time => RoleSet::TIME,
        }
    }

    /// The files of the key in use and of the one that waits.
    const fn files(self) -> [&'static str; 2] {
        match self {
            Self::Director => [FILES[0], NEXT_FILES[0]],
            Self::Registry => [FILES[1], NEXT_FILES[1]],
            Self::Time => [TIME, NEXT_FILES[2]],
        }
    }

    fn open(self, directory: &Path) -> io::Result<Online> {
        let [now, next] = self.files().map(|name| directory.join(name));
        let next = if next.exists() { Some(SigningKey::from_bytes(&secret(&next)?)) } else { None };
        Ok(Online { role: self.role(), now: SigningKey::from_bytes(&secret(&now)?), next })
    }
}

/// Makes the key that is to take another's place, or finds the one that waits already. A hub may be
/// running: it looks for it when a root lists it.
///
/// # Errors
///
/// As the file system.
pub fn new_key(directory: &Path, which: Which) -> io::Result<PublicKey> {
    let [_, next] = which.files();
    Ok(public(&SigningKey::from_bytes(&secret(&directory.join(next))?)))
}

impl HubKeys {
    /// Reads the keys in `directory`, or makes those that are missing.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or does not hold 64 hexadecimal digits.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            director: Which::Director.open(directory)?,
            registry: Which::Registry.open(directory)?,
            time: Which::Time.open(directory)?,
            broker_secret: secret(&directory.join("broker.secret"))?,
        })
    }

    /// Puts each next key that this root lists in the place of the one before, which is gone then.
    ///
    /// # Errors
    ///
    /// As the file system; the keys are the right ones all the same, and the next call tries again.
    pub fn settle(directory: &Path, root: &Root) -> io::Result<()> {
        for which in Which::ALL {
            let online = which.open(directory)?;
            if online.next.as_ref().is_some_and(|key| online.is_listed(root, key)) {
                let [now, next] = which.files().map(|name| directory.join(name));
                std::fs::rename(next, now)?;
            }
        }
        std::fs::File::open(directory)?.sync_all()
    }
}

/// The public half.
#[must_use]
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// Random bytes from the operating system.
///
/// # Panics
///
/// If the operating system has none: nothing safe can be done then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    assert!(filled.is_ok(), "the operating system gives random bytes");
    bytes
}

/// Writes a file that only its owner can read; fails if it exists.
///
/// # Errors
///
/// As the file system.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    // Whole or not at all: half a key would keep the hub from starting.
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?.sync_all()
}

fn secret(path: &Path) -> io::Result<[u8; 32]> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} does not hold 64 hexadecimal digits", path.display()),
                )
            })?;
            Ok(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = path.parent().map_or_else(random, fresh);
            write_secret(path, hex::encode(bytes).as_bytes())?;
            Ok(bytes)
        }
        Err(error) => Err(error),
    }
}

/// A new secret whose key no other in the directory is taken for: signatures name theirs by its first
/// two bytes, and a root refuses two keys that begin alike.
fn fresh(directory: &Path) -> [u8; 32] {
    let start = |seed: &[u8; 32]| {
        let id = public(&SigningKey::from_bytes(seed)).id();
        id.to_string().chars().take(4).collect::<String>()
    };
    let names = Which::ALL.into_iter().flat_map(Which::files).map(|name| directory.join(name));
    let taken: Vec<String> =
        names.filter(|path| path.exists()).filter_map(|path| Some(start(&secret(&path).ok()?))).collect();
    loop {
        let seed = random();
        if !taken.contains(&start(&seed)) {
            return seed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_protocol::heapless;
    use bellwether_protocol::trust::{KeyClass, KeyEntry, Thresholds};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_readable_by_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = HubKeys::open(directory.path()).unwrap();
        let second = HubKeys::open(directory.path()).unwrap();
        assert_eq!(first.director.now.to_bytes(), second.director.now.to_bytes());
        for name in FILES {
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        std::fs::remove_file(directory.path().join(TIME)).unwrap();
        let older = HubKeys::open(directory.path()).unwrap();
        assert_eq!(first.director.now.to_bytes(), older.director.now.to_bytes());
        assert_ne!(
            first.time.now.to_bytes(),
            older.time.now.to_bytes(),
            "a directory from before the time key gets one"
        );
        std::fs::write(directory.path().join("director.key"), "zz").unwrap();
        assert!(HubKeys::open(directory.path()).is_err());
    }

    fn lists(key: PublicKey, role: RoleSet) -> Root {
        let entry = KeyEntry {
            public: key,
            person: "hub".parse().unwrap(),
            roles: role,
            class: KeyClass::Hub,
            prefix: heapless::String::new(),
            status: KeyStatus::Active,
        };
        Root {
            version: 2,
            nonce: [0; 16],
            keys: std::iter::once(entry).collect(),
            thresholds: Thresholds { root: 1, approve: 1, grant: 1 },
            offline_approval: false,
            director_generation: 2,
            time_generation: 1,
        }
    }

    #[test]
    fn the_next_key_signs_as_soon_as_the_root_lists_it_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let old = public(HubKeys::open(directory.path()).unwrap().director.first());
        let made = new_key(directory.path(), Which::Director).unwrap();
        assert_eq!(new_key(directory.path(), Which::Director).unwrap(), made, "asked twice, made once");
        let (before, after) = (lists(old, RoleSet::DIRECTOR), lists(made, RoleSet::DIRECTOR));
        let keys = HubKeys::open(directory.path()).unwrap();
        let chosen = |root: &Root| public(keys.director.under(root));
        assert_eq!((chosen(&before), chosen(&after)), (old, made));
        assert_eq!(chosen(&lists(made, RoleSet::TIME)), old, "listed as something else");
        HubKeys::settle(directory.path(), &before).unwrap();
        assert!(directory.path().join(NEXT_FILES[0]).exists(), "it still waits");
        HubKeys::settle(directory.path(), &after).unwrap();
        assert!(!directory.path().join(NEXT_FILES[0]).exists());
        assert_eq!(public(HubKeys::open(directory.path()).unwrap().director.first()), made);
    }
}
