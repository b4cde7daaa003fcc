//! The embedded adapter: sled, with the version in the first eight bytes of each value.

use std::path::Path;

use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Expect, Store, StoreError, Stored, Write};

/// Cache of the store, in bytes: sled's default of 1 GiB is meant for another kind of machine.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// Records in a sled database.
#[derive(Debug)]
pub struct SledStore {
    tree: sled::Db,
}

impl SledStore {
    /// Opens or creates the database in `directory`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fault`], also when another process has it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let config = || sled::Config::new().cache_capacity(CACHE_BYTES).flush_every_ms(Some(500));
        Ok(Self { tree: bellwether_database::open(directory, config).map_err(fault)? })
    }
}

impl Store for SledStore {
    fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let found = self.tree.get(key).map_err(fault)?;
        found.map(|bytes| stored(key.as_bytes(), &bytes)).transpose()
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let outcome = self.tree.transaction(|tree| {
            for write in writes {
                let before = tree.get(&write.key)?.map(|bytes| version(&bytes));
                let holds = match write.expect {
                    Expect::Anything => true,
                    Expect::Absent => before.is_none(),
                    Expect::Version(expected) => before == Some(expected),
                };
                if !holds {
                    return Err(ConflictableTransactionError::Abort(write.key.clone()));
                }
            }
            for write in writes {
                match &write.value {
                    None => tree.remove(write.key.as_str())?,
                    Some(value) => {
                        let mut bytes = tree.generate_id()?.to_be_bytes().to_vec();
                        bytes.extend_from_slice(value);
                        tree.insert(write.key.as_str(), bytes)?
                    }
                };
            }
            Ok(())
        });
        outcome.map_err(|error| match error {
            TransactionError::Abort(key) => StoreError::Conflict { key },
            TransactionError::Storage(error) => fault(error),
        })
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => std::ops::Bound::Excluded(after.as_bytes()),
            _ => std::ops::Bound::Included(prefix.as_bytes()),
        };
        self.tree
            .range::<&[u8], _>((start, std::ops::Bound::Unbounded))
            .map(|entry| entry.map_err(fault))
            .take_while(|entry| entry.as_ref().map_or(true, |(key, _)| key.starts_with(prefix.as_bytes())))
            .take(limit)
            .map(|entry| entry.and_then(|(key, bytes)| stored(&key, &bytes)))
            .collect()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.tree.flush().map(|_| ()).map_err(fault)
    }
}

fn version(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |version| u64::from_be_bytes(*version))
}

fn stored(key: &[u8], bytes: &[u8]) -> Result<Stored, StoreError> {
    let (version, value) =
        bytes.split_first_chunk::<8>().ok_or_else(|| StoreError::Fault("a record is cut short".to_owned()))?;
    Ok(Stored {
        key: String::from_utf8_lossy(key).into_owned(),
        version: u64::from_be_bytes(*version),
        value: value.to_vec(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn fault(error: sled::Error) -> StoreError {
    StoreError::Fault(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sled_keeps_the_laws() {
        let directory = tempfile::tempdir().unwrap();
        super::super::laws::hold(|| Box::new(SledStore::open(directory.path()).unwrap()));
    }
}
