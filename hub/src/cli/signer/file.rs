//! Keys in files: 64 hexadecimal digits, mode 0600.

use std::path::{Path, PathBuf};

use bellwether_protocol::SigningKey;
use bellwether_protocol::trust::{PublicKey, signature_bytes};

use super::Keeper;
use crate::cli::failure::Failure;
use crate::cli::home::{Home, private, read, write_new};

impl Keeper for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Failure> {
        Ok(signature_bytes(message, self))
    }
}

/// The file with the private half, if the key is in one.
pub(super) fn path(home: &Home, key: &str) -> Option<PathBuf> {
    let named = home.keys().join(format!("{key}.key"));
    if named.exists() {
        return Some(named);
    }
    let path = Path::new(key);
    (path.extension().is_some_and(|kind| kind == "key") && path.exists()).then(|| path.to_owned())
}

/// Reads a private half that others cannot.
pub(super) fn read_private(path: &Path) -> Result<SigningKey, Failure> {
    private(path)?;
    let text = read(path)?;
    let bytes = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(|seed| SigningKey::from_bytes(&seed)).ok_or_else(|| {
        Failure::error(format!("{} is no private key: 64 hexadecimal digits are expected", path.display()))
    })
}

/// Makes a key and writes its private half; never over another.
///
/// Signatures name their key by its first two bytes, and a root refuses two keys that begin alike: it
/// begins like none of the ids in `taken`.
pub(in crate::cli) fn make(path: &Path, taken: &[String]) -> Result<SigningKey, Failure> {
    const ALIKE: usize = 4;
    loop {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|fault| Failure::error(format!("no randomness: {fault}")))?;
        let key = SigningKey::from_bytes(&seed);
        let id = PublicKey(key.verifying_key().to_bytes()).id().to_string();
        if taken.iter().any(|other| other.get(..ALIKE) == id.get(..ALIKE)) {
            continue;
        }
        write_new(path, format!("{}\n", hex::encode(seed)).as_bytes(), 0o600)?;
        return Ok(key);
    }
}
