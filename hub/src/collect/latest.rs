//! The last rows of each device, kept at hand when they leave the store: a page about a device must
//! not open files.

use std::cmp::Reverse;

use bellwether_hub_core::collect::Row;
use bellwether_protocol::id::DeviceId;

use crate::store::{Store, StoreError, Write, record};

/// Rows kept for one device: a page shows them all.
const LATEST_MAX: usize = 16;

fn key(device: &DeviceId) -> String {
    format!("latest/{device}")
}

/// The rows at hand of a device, newest first.
pub(crate) fn read(store: &dyn Store, device: &DeviceId) -> Result<Vec<Row>, StoreError> {
    store.get(&key(device))?.map_or(Ok(Vec::new()), |stored| record::decode(&stored.key, &stored.value))
}

/// The write that keeps the newest of these and of those at hand.
pub(crate) fn keep(store: &dyn Store, device: &DeviceId, mut rows: Vec<Row>) -> Result<Write, StoreError> {
    rows.extend(read(store, device)?);
    Ok(Write::put(key(device), record::encode(&newest(rows, LATEST_MAX))?))
}

/// The write that forgets a device.
pub(crate) fn forget(device: &DeviceId) -> Write {
    Write::remove(key(device))
}

/// The newest of these rows, each once, newest first.
pub(crate) fn newest(mut rows: Vec<Row>, limit: usize) -> Vec<Row> {
    rows.sort_by_key(|row| Reverse((row.taken_at, row.outbox, row.sequence)));
    rows.dedup_by(|a, b| (a.outbox, a.sequence) == (b.outbox, b.sequence));
    rows.truncate(limit);
    rows
}
