//! The hub's own keys and secrets: made at first start, files of mode 0600 in the data directory.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bellwether_protocol::SigningKey;
use bellwether_protocol::trust::PublicKey;

/// The hub's secrets.
pub struct HubKeys {
    /// Signs assignments, commands and acknowledgements.
    pub director: SigningKey,
    /// Attests registered versions.
    pub registry: SigningKey,
    /// Signs logical time.
    pub time: SigningKey,
    /// From it come the passwords of devices at a broker that cannot check signatures.
    pub broker_secret: [u8; 32],
}

impl std::fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubKeys").field("director", &public(&self.director)).finish_non_exhaustive()
    }
}

/// Names of the files, for backup.
pub const FILES: [&str; 4] = ["director.key", "registry.key", "broker.secret", TIME];
/// The youngest of them: a hub or a backup from before it has none, and makes it at its next start.
pub const TIME: &str = "time.key";

impl HubKeys {
    /// Reads the keys in `directory`, or makes those that are missing.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or does not hold 64 hexadecimal digits.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let [director, registry, broker, time] = FILES;
        Ok(Self {
            director: SigningKey::from_bytes(&secret(&directory.join(director))?),
            registry: SigningKey::from_bytes(&secret(&directory.join(registry))?),
            time: SigningKey::from_bytes(&secret(&directory.join(time))?),
            broker_secret: secret(&directory.join(broker))?,
        })
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
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
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
            let bytes = random();
            write_secret(path, hex::encode(bytes).as_bytes())?;
            Ok(bytes)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_readable_by_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = HubKeys::open(directory.path()).unwrap();
        let second = HubKeys::open(directory.path()).unwrap();
        assert_eq!(first.director.to_bytes(), second.director.to_bytes());
        for name in FILES {
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        std::fs::remove_file(directory.path().join(TIME)).unwrap();
        let older = HubKeys::open(directory.path()).unwrap();
        assert_eq!(first.director.to_bytes(), older.director.to_bytes());
        assert_ne!(first.time.to_bytes(), older.time.to_bytes(), "a directory from before the time key gets one");
        std::fs::write(directory.path().join("director.key"), "zz").unwrap();
        assert!(HubKeys::open(directory.path()).is_err());
    }
}
