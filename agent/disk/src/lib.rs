//! What of the agent stands between its brain and a disk, over ports: so that the simulator runs the
//! very same code on a disk that loses power in the middle of a write.
//!
//! ```text
//!   Outbox ──> Rows   ordered records of a store      the agent: sled, files
//!   Download ──> Place   a package in a slot          the simulator: memory that forgets
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

mod age;
mod fetch;
mod outbox;

use std::io;

use bellwether_protocol::error::Reject;

pub use fetch::Download;
pub use outbox::{Bounds, Due, Outbox, OutboxError, RESEND_MS_FIRST, newest};

/// What changes at once: a key with its new value, or without one to remove it.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Ordered records of a store. What was applied survives a power cut for certain only once it was
/// flushed; what was not may be there or not, but the earlier before the later.
pub trait Rows {
    /// Why the store does not work.
    type Fault: std::fmt::Display;

    /// A record.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Fault>;

    /// The records from this key on, in the order of their keys.
    fn from(&self, key: Vec<u8>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)>;

    /// Makes all of these changes or none.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    fn apply(&mut self, changes: Changes) -> Result<(), Self::Fault>;

    /// Brings everything applied to disk for good.
    ///
    /// # Errors
    ///
    /// If that fails; nothing is said then of what was applied since the last time.
    fn flush(&mut self) -> Result<(), Self::Fault>;
}

/// The place of a package on disk, with the table of its chunks beside it. What is written here may
/// be lost or torn by a power cut until the place is synced, which whoever stages it does.
pub trait Place {
    /// Makes the place `size` bytes long; what is there stays.
    ///
    /// # Errors
    ///
    /// As the disk.
    fn open(&mut self, size: u64) -> io::Result<()>;

    /// The table kept beside it, if there is one.
    fn table(&self) -> Option<Vec<u8>>;

    /// Keeps a table beside it.
    ///
    /// # Errors
    ///
    /// As the disk.
    fn put_table(&mut self, table: &[u8]) -> io::Result<()>;

    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    ///
    /// As the disk; if there is less.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes bytes at `offset`.
    ///
    /// # Errors
    ///
    /// As the disk.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// What a fault of the disk means on the wire.
#[must_use]
pub fn reject(why: &io::Error) -> Reject {
    let is_full =
        matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    if why.kind() == io::ErrorKind::OutOfMemory {
        return Reject::NotEnoughMemory;
    }
    if is_full { Reject::DiskFull } else { Reject::StorageFault }
}
