//! Stored forms: which key a record has, and its bytes: a format byte, then JSON.

use bellwether_hub_core::collect::Row;
use bellwether_hub_core::drift::Key;
use bellwether_hub_core::{Change, Rules};
use bellwether_protocol::id::ModelRef;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, Write};

/// The format written; formats read are this one only, until there is a second.
const FORMAT: u8 = 1;
/// Records read at once when the hub starts.
const PAGE: usize = 1000;

/// Prefix of every event's key; the sequence follows.
pub const EVENTS: &str = "event/";

/// Prefix of the keys of collected rows that are not in files yet.
pub const ROWS: &str = "row/";

/// The key of an event.
#[must_use]
pub fn event_key(sequence: u64) -> String {
    format!("{EVENTS}{sequence:020}")
}

/// Writes a record.
///
/// # Errors
///
/// [`StoreError::Fault`] if it cannot be written as JSON.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, record).map_err(|error| StoreError::Fault(error.to_string()))?;
    Ok(bytes)
}

/// Reads a record.
///
/// # Errors
///
/// [`StoreError::Fault`] for an unknown format or a damaged record.
pub fn decode<T: for<'de> Deserialize<'de>>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => {
            serde_json::from_slice(json).map_err(|error| StoreError::Fault(format!("record {key}: {error}")))
        }
        Some((format, _)) => {
            Err(StoreError::Fault(format!("record {key} has format {format}: written by a newer hub")))
        }
        None => Err(StoreError::Fault(format!("record {key} is empty"))),
    }
}

/// The JSON of a record, exactly as it is stored.
///
/// # Errors
///
/// [`StoreError::Fault`] for an unknown format or a record that is no text.
pub fn text<'b>(key: &str, bytes: &'b [u8]) -> Result<&'b str, StoreError> {
    let json = bytes.strip_prefix(&[FORMAT]).and_then(|json| std::str::from_utf8(json).ok());
    json.ok_or_else(|| StoreError::Fault(format!("record {key} is damaged, or written by a newer hub")))
}

/// The write that makes a change durable.
///
/// # Errors
///
/// As [`encode`].
pub fn write(change: &Change) -> Result<Write, StoreError> {
    Ok(match change {
        Change::Root(root) => Write::put("root".to_owned(), encode(root)?),
        Change::KeyRequest(request) => Write::put(format!("key-request/{}", request.id()), encode(request)?),
        Change::KeyRequestGone(id) => Write::remove(format!("key-request/{id}")),
        Change::RootStep(step) => Write::put(format!("root-step/{:010}", step.version), encode(step)?),
        Change::Recall(recall) => Write::put(format!("recall/{:020}", recall.number), encode(recall)?),
        Change::Checkpoint(checkpoint) => Write::put("checkpoint".to_owned(), encode(checkpoint)?),
        Change::Model(model) => Write::put(format!("model/{}", model.name), encode(model)?),
        Change::Version(record) => Write::put(version_key(&record.model), encode(record)?),
        Change::VersionGone(model) => Write::remove(version_key(model)),
        Change::Device(device) => Write::put(format!("device/{}", device.id), encode(device)?),
        Change::DeviceGone(id) => Write::remove(format!("device/{id}")),
        Change::Rollout(rollout) => Write::put(format!("rollout/{:020}", rollout.id), encode(rollout)?),
        Change::Event(event) => Write::put(event_key(event.sequence), encode(event)?),
        Change::Row(row) => Write::put(row_key(row), encode(row)?),
        Change::Baseline(baseline) => Write::put(baseline_key(&baseline.model), encode(baseline)?),
        Change::BaselineGone(model) => Write::remove(baseline_key(model)),
        Change::Window(window) => Write::put(key_of("window", &window.key), encode(window)?),
        Change::WindowGone(key) => Write::remove(key_of("window", key)),
        Change::Monitor(monitor) => Write::put(key_of("monitor", &monitor.key), encode(monitor)?),
        Change::MonitorGone(key) => Write::remove(key_of("monitor", key)),
        Change::Troubles(troubles) => Write::put(format!("troubles/{}", troubles.device), encode(troubles)?),
        Change::TroublesGone(id) => Write::remove(format!("troubles/{id}")),
    })
}

/// The key of a collected row: its device, outbox and sequence, so that one that comes twice is one.
fn row_key(row: &Row) -> String {
    format!("{ROWS}{}/{}/{:020}", row.device, row.outbox, row.sequence)
}

fn baseline_key(model: &ModelRef) -> String {
    format!("baseline/{}/{:010}", model.name, model.version.number())
}

fn key_of(what: &str, key: &Key) -> String {
    format!("{what}/{}/{:010}/{}", key.model.name, key.model.version.number(), key.group)
}

fn version_key(model: &ModelRef) -> String {
    format!("version/{}/{:010}", model.name, model.version.number())
}

/// Reads everything that is true from the store.
///
/// # Errors
///
/// [`StoreError::Fault`]: a hub that cannot read its records does not start.
pub fn load(store: &dyn Store) -> Result<Rules, StoreError> {
    let mut rules = Rules::default();
    if let Some(root) = store.get("root")? {
        rules.apply(Change::Root(decode(&root.key, &root.value)?));
    }
    load_each(store, &mut rules, "key-request/", |request| Change::KeyRequest(Box::new(request)))?;
    // In this order: each is checked against what came before it.
    load_each(store, &mut rules, "root-step/", Change::RootStep)?;
    load_each(store, &mut rules, "recall/", Change::Recall)?;
    if let Some(checkpoint) = store.get("checkpoint")? {
        rules.apply(Change::Checkpoint(decode(&checkpoint.key, &checkpoint.value)?));
    }
    load_each(store, &mut rules, "model/", Change::Model)?;
    load_each(store, &mut rules, "version/", |record| Change::Version(Box::new(record)))?;
    load_each(store, &mut rules, "device/", |device| Change::Device(Box::new(device)))?;
    load_each(store, &mut rules, "rollout/", |rollout| Change::Rollout(Box::new(rollout)))?;
    load_each(store, &mut rules, "troubles/", |troubles| Change::Troubles(Box::new(troubles)))?;
    load_each(store, &mut rules, "baseline/", |baseline| Change::Baseline(Box::new(baseline)))?;
    load_each(store, &mut rules, "window/", |window| Change::Window(Box::new(window)))?;
    load_each(store, &mut rules, "monitor/", |monitor| Change::Monitor(Box::new(monitor)))?;
    load_each(store, &mut rules, EVENTS, Change::Event)?;
    Ok(rules)
}

fn load_each<T: for<'de> Deserialize<'de>>(
    store: &dyn Store,
    rules: &mut Rules,
    prefix: &str,
    change: impl Fn(T) -> Change,
) -> Result<(), StoreError> {
    each(store, prefix, |key, bytes| {
        rules.apply(change(decode(key, bytes)?));
        Ok(())
    })
}

/// Calls `with` for every record under `prefix`, in order.
///
/// # Errors
///
/// As the store and `with`.
pub fn each(
    store: &dyn Store,
    prefix: &str,
    mut with: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let page = store.scan(prefix, after.as_deref(), PAGE)?;
        for stored in &page {
            with(&stored.key, &stored.value)?;
        }
        match page.last() {
            Some(last) => after = Some(last.key.clone()),
            None => return Ok(()),
        }
    }
}
