//! The device's key: made here, kept here, readable by nobody else.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bellwether_protocol::SigningKey;
use bellwether_protocol::trust::PublicKey;

use crate::error::AgentError;

const FILE: &str = "device.key";

/// The public half of a device's key.
pub(crate) fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// Reads the key of this directory, or makes one at the first start.
pub(crate) fn load_or_make(data: &Path) -> Result<SigningKey, AgentError> {
    let path = data.join(FILE);
    let disk = |why| AgentError::Disk { what: "cannot use the key file", path: path.clone(), why };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if std::fs::metadata(&path).map_err(disk)?.mode() & 0o077 != 0 {
                return Err(AgentError::Key { path, why: "the device's key is readable by others: chmod 600 it" });
            }
            let bytes = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let bytes = bytes.ok_or(AgentError::Key {
                path,
                why: "not a key (64 hexadecimal digits): restore it, or delete it and enrol anew",
            })?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(why) if why.kind() == ErrorKind::NotFound => make(data, &path),
        Err(why) => Err(disk(why)),
    }
}

fn make(data: &Path, path: &Path) -> Result<SigningKey, AgentError> {
    let disk = |why| AgentError::Disk { what: "cannot write", path: path.to_owned(), why };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|why| disk(std::io::Error::other(why.to_string())))?;
    let half = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half).map_err(disk)?;
    let written = writeln!(file, "{}", hex::encode(seed)).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&half, path)).and_then(|()| File::open(data)?.sync_all()).map_err(disk)?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_secret() {
        let data = tempfile::tempdir().unwrap();
        let key = load_or_make(data.path()).unwrap();
        assert_eq!(load_or_make(data.path()).unwrap(), key);
        let path = data.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_make(data.path()).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_key_is_not_replaced_silently() {
        let data = tempfile::tempdir().unwrap();
        load_or_make(data.path()).unwrap();
        std::fs::write(data.path().join(FILE), "zz").unwrap();
        assert!(load_or_make(data.path()).unwrap_err().to_string().contains("not a key"));
    }
}
