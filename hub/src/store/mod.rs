//! Records: an ordered key-value store behind one trait, so that the embedded engine can be
//! replaced where a fleet outgrows one machine.
//!
//! # Laws
//!
//! Every adapter passes [`laws`]:
//! 1. What was committed is read back, with a version that differs from every version before.
//! 2. A commit is all or nothing; a write whose expectation fails commits nothing.
//! 3. A scan gives keys in byte order, only those with the prefix, only those after the cursor.
//! 4. What was flushed survives a restart.

#[cfg(test)]
pub(crate) mod laws;
pub mod record;
mod sled;

pub use self::sled::SledStore;

/// What a write expects of the record it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever there is.
    Anything,
    /// No record.
    Absent,
    /// The record with this version.
    Version(u64),
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What must hold for the commit.
    pub expect: Expect,
    /// The new value; `None` removes the record.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Puts a value, whatever there was.
    #[must_use]
    pub const fn put(key: String, value: Vec<u8>) -> Self {
        Self { key, expect: Expect::Anything, value: Some(value) }
    }

    /// Removes a record, if there is one.
    #[must_use]
    pub const fn remove(key: String) -> Self {
        Self { key, expect: Expect::Anything, value: None }
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Its version, for [`Expect::Version`].
    pub version: u64,
    /// Its value.
    pub value: Vec<u8>,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An expectation failed; nothing was committed.
    #[error("record {key} is not as expected")]
    Conflict {
        /// The record.
        key: String,
    },
    /// The machine failed.
    #[error("the store failed: {0}")]
    Fault(String),
}

/// An ordered key-value store; see the laws above.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Reads one record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fault`].
    fn get(&self, key: &str) -> Result<Option<Stored>, StoreError>;

    /// Commits all writes or none. Visible at once, durable after [`Store::flush`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if an expectation fails, [`StoreError::Fault`].
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;

    /// At most `limit` records whose keys begin with `prefix` and lie after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fault`].
    fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Stored>, StoreError>;

    /// Returns once every commit before the call is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fault`].
    fn flush(&self) -> Result<(), StoreError>;
}
