//! Rows leave the store for files, and each is in exactly one file.
//!
//! ```text
//!  1 plan     the keys of the rows that go now            commit "seal", flush
//!  2 files    one for each model, version and day         put: temporary name, fsync, rename
//!  3 remove   those rows and the plan; latest rows kept   one commit
//! ```
//! # Why a crash doubles nothing
//!
//! The plan is durable before the first file is. Whoever dies between 1 and 3 finds it again at the
//! next start and does the same once more: the same keys give the same groups, the same first row
//! and the same number of rows, so that each file is written again under the name it has. Rows that
//! came in between are not in the plan and wait for the next one; this matters, for a device whose
//! name sorts before the others would otherwise become the first row and change the name. Rows are
//! immutable and only step 3 removes them. The flush in step 1 also makes the rows themselves
//! durable: none is in a file that its device would send again.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_hub_core::collect::Row;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::place::{FilePath, Identity, Place};
use super::tensor::Signature;
use super::{Collected, Fault, latest, parquet};
use crate::date::Date;
use crate::store::record::{self, ROWS};
use crate::store::{Store, StoreError, Stored, Write};

/// Key of the plan that is being carried out.
const PLAN: &str = "seal";
/// Rows sealed at once: a file stays small enough to be held in memory.
pub(crate) const ROWS_MAX: usize = 4096;
/// Bytes of records sealed at once, where rows are large.
const RECORDS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Records read at once.
const PAGE: usize = 512;

/// What the rules know of rows.
pub(crate) trait Known {
    /// The signature of a version; `None` if there is none any more.
    fn signature(&self, model: &ModelRef) -> Option<Signature>;

    /// Whether a device is enrolled.
    fn is_enrolled(&self, device: &DeviceId) -> bool;
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Plan {
    keys: Vec<String>,
}

/// A plan that was worked out: files to write, then what to commit.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) files: Vec<(FilePath, Bytes)>,
    writes: Vec<Write>,
    /// Rows that are in the files.
    pub(crate) rows: u64,
    /// Rows that fit no version and are in none.
    pub(crate) dropped: u64,
    /// Whether rows were left for the next batch.
    pub(crate) more: bool,
}

impl Batch {
    /// Step 2.
    pub(crate) async fn put(&self, files: &Files) -> Result<(), Fault> {
        for (path, bytes) in &self.files {
            files.put(path, bytes.clone()).await?;
        }
        Ok(())
    }

    /// Step 3.
    pub(crate) fn remove(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.commit(&self.writes)
    }
}

/// How many rows wait.
pub(crate) fn waiting(store: &dyn Store) -> Result<u64, StoreError> {
    let mut count = 0;
    record::each(store, ROWS, |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Step 1, and the files worked out; `None` if no row waits.
///
/// # Errors
///
/// As the store; the next call tries the same again.
pub(crate) fn prepare(store: &dyn Store, known: &dyn Known) -> Result<Option<Batch>, Fault> {
    let (stored, more) = match store.get(PLAN)? {
        Some(plan) => (planned(store, record::decode(PLAN, &plan.value)?)?, true),
        None => {
            let (stored, more) = next(store)?;
            if stored.is_empty() {
                return Ok(None);
            }
            let plan = Plan { keys: stored.iter().map(|row| row.key.clone()).collect() };
            store.commit(&[Write::put(PLAN.to_owned(), record::encode(&plan)?)])?;
            (stored, more)
        }
    };
    // Also if the plan was found: whoever made it may have failed before it was durable.
    store.flush()?;
    let batch = work_out(store, known, &stored)?;
    Ok(Some(Batch { more, ..batch }))
}

/// The rows of a plan that was made before.
fn planned(store: &dyn Store, plan: Plan) -> Result<Vec<Stored>, StoreError> {
    let mut stored = Vec::with_capacity(plan.keys.len());
    for key in plan.keys {
        stored.extend(store.get(&key)?);
    }
    Ok(stored)
}

/// The next rows in order of their keys, and whether more may follow.
fn next(store: &dyn Store) -> Result<(Vec<Stored>, bool), StoreError> {
    let (mut rows, mut bytes): (Vec<Stored>, usize) = (Vec::new(), 0);
    while rows.len() < ROWS_MAX && bytes < RECORDS_BYTES_MAX {
        let after = rows.last().map(|row| row.key.clone());
        let page = store.scan(ROWS, after.as_deref(), PAGE.min(ROWS_MAX - rows.len()))?;
        if page.is_empty() {
            return Ok((rows, false));
        }
        bytes += page.iter().map(|row| row.value.len()).sum::<usize>();
        rows.extend(page);
    }
    Ok((rows, true))
}

/// Groups rows into files, and says what is committed once they are written.
fn work_out(store: &dyn Store, known: &dyn Known, stored: &[Stored]) -> Result<Batch, Fault> {
    let mut writes = vec![Write::remove(PLAN.to_owned())];
    let mut groups: BTreeMap<Place, Vec<Row>> = BTreeMap::new();
    let mut by_device: BTreeMap<DeviceId, Vec<Row>> = BTreeMap::new();
    for stored in stored {
        writes.push(Write::remove(stored.key.clone()));
        let row: Row = match record::decode(&stored.key, &stored.value) {
            Ok(row) => row,
            Err(error) => {
                tracing::warn!(key = stored.key, %error, "a collected row does not read and is dropped");
                continue;
            }
        };
        let place = Place { model: row.model.clone(), date: Date::of(row.taken_at) };
        by_device.entry(row.device.clone()).or_default().push(row.clone());
        groups.entry(place).or_default().push(row);
    }
    let mut batch = Batch { files: Vec::new(), writes, rows: 0, dropped: stored.len() as u64, more: false };
    for (place, rows) in groups {
        file(&mut batch, known, place, &rows)?;
    }
    for (device, rows) in by_device {
        let write =
            if known.is_enrolled(&device) { latest::keep(store, &device, rows)? } else { latest::forget(&device) };
        batch.writes.push(write);
    }
    batch.dropped = batch.dropped.saturating_sub(batch.rows);
    Ok(batch)
}

fn file(batch: &mut Batch, known: &dyn Known, place: Place, rows: &[Row]) -> Result<(), Fault> {
    let Some(signature) = known.signature(&place.model) else {
        let (model, rows) = (place.model.to_string(), rows.len());
        tracing::warn!(model, rows, "collected rows of a version that is not there are dropped");
        return Ok(());
    };
    let mut first = None;
    let mut columns = Vec::with_capacity(rows.len());
    let mut unfit = BTreeSet::new();
    for row in rows {
        let Some(collected) = Collected::of(row, &signature) else {
            unfit.insert(&row.device);
            continue;
        };
        columns.push(collected);
        first.get_or_insert_with(|| Identity {
            device: row.device.clone(),
            outbox: row.outbox,
            sequence: row.sequence,
        });
    }
    if !unfit.is_empty() {
        let (model, rows) = (place.model.to_string(), rows.len() - columns.len());
        tracing::warn!(model, rows, devices = ?unfit, "collected rows do not fit the signature and are dropped");
    }
    let Some(first) = first else { return Ok(()) };
    let bytes = parquet::write(&place.model, &signature, &columns)?;
    let count = columns.len() as u64;
    batch.rows += count;
    batch.files.push((FilePath { place, first, rows: count }, bytes.into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::time::Millis;

    use super::super::fixtures::{DAY, Digits, Place, row};
    use super::*;

    fn numbered(device: &str, numbers: std::ops::Range<u64>) -> impl Iterator<Item = Row> {
        numbers.map(move |number| row(device, number, "digits:1", DAY))
    }

    #[tokio::test]
    async fn rows_are_filed_by_model_version_and_day() {
        let place = Place::new();
        let later = Millis(DAY.0 + 24 * 3600 * 1000);
        place.add([row("a", 1, "digits:1", DAY), row("a", 2, "digits:2", DAY), row("b", 1, "digits:1", later)]);
        assert_eq!(waiting(&place.store).unwrap(), 3);
        place.seal().await;
        let outbox = "07".repeat(16);
        let paths: Vec<String> = place.files.list().await.unwrap().iter().map(|file| file.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                format!("model=digits/version=1/date=2026-11-24/a.{outbox}.00000000000000000001.1.parquet"),
                format!("model=digits/version=1/date=2026-11-25/b.{outbox}.00000000000000000001.1.parquet"),
                format!("model=digits/version=2/date=2026-11-24/a.{outbox}.00000000000000000002.1.parquet"),
            ]
        );
        assert_eq!(waiting(&place.store).unwrap(), 0);
        assert!(place.store.get(PLAN).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_crash_before_the_removal_doubles_no_row_and_loses_none() {
        for crash_before_the_files in [true, false] {
            let place = Place::new();
            place.add(numbered("m", 0..5));
            let batch = prepare(&place.store, &Digits).unwrap().unwrap();
            if !crash_before_the_files {
                batch.put(&place.files).await.unwrap();
            }
            drop(batch);
            // One that sorts before all others, and more of the same.
            place.add(numbered("a", 0..3));
            place.add(numbered("m", 5..9));
            place.seal().await;
            let expected = (0..3).map(|n| ("a".to_owned(), n)).chain((0..9).map(|n| ("m".to_owned(), n)));
            assert_eq!(place.rows().await, expected.collect());
            assert_eq!(waiting(&place.store).unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn many_rows_go_in_several_files_each_once() {
        let place = Place::new();
        let count = ROWS_MAX as u64 + 100;
        place.add(numbered("a", 0..count));
        let first = prepare(&place.store, &Digits).unwrap().unwrap();
        assert_eq!((first.rows, first.more), (ROWS_MAX as u64, true));
        place.seal().await;
        assert_eq!(place.rows().await.len() as u64, count);
        assert_eq!(place.files.list().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_row_that_fits_no_version_is_dropped_and_holds_up_nobody() {
        let place = Place::new();
        let short = Row { inputs: vec![1], ..row("a", 1, "digits:1", DAY) };
        let endless = Row { sequence: u64::MAX, ..row("a", 1, "digits:1", DAY) };
        place.add([short, endless, row("a", 2, "digits:1", DAY), row("a", 3, "faces:1", DAY)]);
        place.store.commit(&[Write::put(format!("{ROWS}b/damaged"), vec![9])]).unwrap();
        let batch = prepare(&place.store, &Digits).unwrap().unwrap();
        assert_eq!((batch.rows, batch.dropped), (1, 4));
        place.seal().await;
        assert_eq!(place.rows().await, [("a".to_owned(), 2)].into());
        assert_eq!(waiting(&place.store).unwrap(), 0);
    }

    #[tokio::test]
    async fn the_latest_rows_of_a_device_stay_at_hand() {
        let place = Place::new();
        let timed = |device: &str, number: u64| row(device, number, "digits:1", Millis(DAY.0 + number));
        place.add((0..10).map(|number| timed("a", number)));
        place.add([timed("gone", 1)]);
        place.seal().await;
        place.add((10..30).map(|number| timed("a", number)));
        place.seal().await;
        let kept = latest::read(&place.store, &"a".parse().unwrap()).unwrap();
        assert_eq!(kept.iter().map(|row| row.sequence).collect::<Vec<_>>(), (14..30).rev().collect::<Vec<_>>());
        assert_eq!(latest::read(&place.store, &"gone".parse().unwrap()).unwrap(), []);
        assert!(place.rows().await.contains(&("gone".to_owned(), 1)));
    }
}
