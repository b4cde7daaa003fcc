//! Collected rows: sealed into files as time passes, counted, shown and exported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_hub_core::Change;
use bellwether_hub_core::collect::Row;
use bellwether_protocol::id::{DeviceId, ModelRef, Version};
use bytes::Bytes;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::denied::{device_id, model_name, model_ref};
use super::{Hub, Refusal};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    CollectedView, ExportFormat, ExportQuery, LIMIT_DEFAULT, LIMIT_MAX, PartitionView, Role, RowView, RowsQuery,
};
use crate::clock;
use crate::collect::export::{Filter, Job};
use crate::collect::files::Listed;
use crate::collect::keep::{self, Bounds};
use crate::collect::seal::{self, Known};
use crate::collect::tensor::Signature;
use crate::collect::{Collected, Fault, Files, latest};
use crate::date::Date;
use crate::store::StoreError;
use crate::store::record::{self, ROWS};

/// Rows that wait before they are sealed without waiting for the time: one file's worth.
const WAITING_MAX: usize = seal::ROWS_MAX;
/// How often it is looked whether something is beyond what is kept.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Exports at once: each holds a file and a thread.
const EXPORTS_MAX: usize = 4;
/// Pieces that an export may be ahead of its reader.
const PIECES_AHEAD: usize = 8;

/// What the task and the facade share.
#[derive(Debug)]
pub(super) struct Collecting {
    files: Files,
    /// Held while rows move: two at once would write the same.
    sealing: Mutex<()>,
    arrived: AtomicUsize,
    enough: Notify,
    exports: Arc<Semaphore>,
}

impl Collecting {
    pub(super) fn new(files: Files) -> Self {
        Self {
            files,
            sealing: Mutex::default(),
            arrived: AtomicUsize::new(0),
            enough: Notify::new(),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        }
    }

    /// Counts the rows that were stored, and calls the task when many wait.
    pub(super) fn stored(&self, changes: &[Change]) {
        let rows = changes.iter().filter(|change| matches!(change, Change::Row(_))).count();
        if rows > 0 && self.arrived.fetch_add(rows, Ordering::Relaxed).saturating_add(rows) >= WAITING_MAX {
            self.enough.notify_one();
        }
    }
}

/// An export on its way.
#[derive(Debug)]
pub struct Export {
    /// How it is written.
    pub format: ExportFormat,
    /// Its pieces in order; an error ends it before it is whole.
    pub pieces: mpsc::Receiver<io::Result<Bytes>>,
}

impl Known for Hub {
    fn signature(&self, model: &ModelRef) -> Option<Signature> {
        Signature::of(&self.rules().version(model).ok()?.manifest.tensors)
    }

    fn is_enrolled(&self, device: &DeviceId) -> bool {
        self.rules().device(device).is_ok()
    }
}

/// For the task.
impl Hub {
    /// Moves rows into files and deletes what is beyond what is kept, until `stop` turns true.
    pub async fn collect(self, mut stop: watch::Receiver<bool>) {
        let mut seals = interval(Duration::from_secs(self.0.config.collect_seal_seconds.max(1)));
        let mut sweeps = interval(SWEEP_EVERY);
        seals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_seal = tokio::select! {
                _ = seals.tick() => true,
                () = self.0.collecting.enough.notified() => true,
                _ = sweeps.tick() => false,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let done = if is_seal { self.sealed().await } else { self.sweep().await };
            if let Err(fault) = done {
                tracing::error!(%fault, "collected rows stay in the store; it is tried again");
            }
        }
    }

    /// Moves every row that waits into files. Whoever asked may go away meanwhile: a sealing that was
    /// begun ends all the same, with its lock held, or two of them would work off one plan.
    async fn sealed(&self) -> Result<(), Fault> {
        let hub = self.clone();
        let seal = tokio::spawn(async move { hub.seal().await });
        seal.await.map_err(|fault| Fault::Broken(fault.to_string()))?
    }

    /// As [`Hub::sealed`], in a task that nobody drops.
    async fn seal(&self) -> Result<(), Fault> {
        let _only = self.0.collecting.sealing.lock().await;
        self.0.collecting.arrived.store(0, Ordering::Relaxed);
        loop {
            let hub = self.clone();
            let Some(batch) = off_thread(move || seal::prepare(hub.0.store.as_ref(), &hub)).await? else {
                return Ok(());
            };
            batch.put(&self.0.collecting.files).await?;
            bellwether_runtime::crash::point("hub.rows.filed");
            let (files, rows, dropped, more) = (batch.files.len(), batch.rows, batch.dropped, batch.more);
            let hub = self.clone();
            off_thread(move || Ok(batch.remove(hub.0.store.as_ref())?)).await?;
            tracing::debug!(files, rows, dropped, "collected rows sealed");
            if !more {
                return Ok(());
            }
        }
    }

    async fn sweep(&self) -> Result<(), Fault> {
        let config = &self.0.config;
        let bounds = Bounds { days: config.collect_retention_days, bytes_max: config.collect_bytes_max };
        keep::sweep(&self.0.collecting.files, Date::of(clock::now()), bounds).await
    }
}

/// For people.
impl Hub {
    /// The latest rows of a device, newest first: those that are not in files yet, and the last that
    /// went.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404.
    pub fn latest_rows(&self, caller: &Caller, id: &str, query: &RowsQuery) -> Result<Vec<RowView>, Problem> {
        caller.need(Role::Operator)?;
        let device = device_id(id)?;
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
        // Rows of a device that had this name before are not its own.
        let since = self.rules().device(&device)?.enrolled_at;
        // In this order: a row that moves in between is then in both, and shown once.
        let mut rows = self.waiting_rows(&device).map_err(Refusal::from)?;
        rows.extend(latest::read(self.0.store.as_ref(), &device).map_err(Refusal::from)?);
        rows.retain(|row| row.taken_at >= since);
        let view = |row: Row| {
            let signature = self.signature(&row.model)?;
            Some(Collected::of(&row, &signature)?.view(&row.model, &signature))
        };
        Ok(latest::newest(rows, limit).into_iter().filter_map(view).collect())
    }

    fn waiting_rows(&self, device: &DeviceId) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        record::each(self.0.store.as_ref(), &format!("{ROWS}{device}/"), |key, bytes| {
            rows.push(record::decode(key, bytes)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// What was collected, by model, version and day.
    ///
    /// # Errors
    ///
    /// 503 if store or files do not answer.
    pub async fn collected(&self, caller: &Caller) -> Result<CollectedView, Problem> {
        caller.need(Role::Viewer)?;
        let hub = self.clone();
        let waiting_rows = off_thread(move || Ok(seal::waiting(hub.0.store.as_ref())?)).await?;
        let listed = self.0.collecting.files.list().await.map_err(Fault::from)?;
        let mut items: Vec<PartitionView> = Vec::new();
        for Listed { path, bytes, .. } in listed {
            let (model, version) = (path.place.model.name.to_string(), path.place.model.version.number());
            let date = path.place.date.to_string();
            let same = |last: &&mut PartitionView| (&last.model, last.version, &last.date) == (&model, version, &date);
            match items.last_mut().filter(same) {
                Some(last) => {
                    last.rows = last.rows.saturating_add(path.rows);
                    last.bytes = last.bytes.saturating_add(bytes);
                    last.files += 1;
                }
                None => items.push(PartitionView { model, version, date, rows: path.rows, bytes, files: 1 }),
            }
        }
        Ok(CollectedView { waiting_rows, items })
    }

    /// Exports rows, each once. Rows that wait are sealed first, so that nothing that was
    /// acknowledged to a device is missing.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 400 for a filter that does not read or does not go with the format; 409
    /// while too many exports go on.
    pub async fn export(&self, caller: &Caller, query: ExportQuery) -> Result<Export, Problem> {
        caller.need(Role::Operator)?;
        let (filter, format) = (filter(&query)?, query.format.unwrap_or_default());
        let permit = Arc::clone(&self.0.collecting.exports).try_acquire_owned().map_err(|_| {
            Problem::conflict("exports_going", format!("{EXPORTS_MAX} exports go on already"))
                .hint("wait until one of them is done")
        })?;
        self.sealed().await?;
        let files = self.0.collecting.files.clone();
        let mut listed = files.list().await.map_err(Fault::from)?;
        listed.retain(|listed| filter.covers(&listed.path.place));
        tracing::info!(who = caller.name, ?filter, ?format, files = listed.len(), "collected rows exported");
        let (out, pieces) = mpsc::channel(PIECES_AHEAD);
        let job = Job { files, listed, filter, format };
        tokio::task::spawn_blocking(move || {
            job.run(out);
            drop(permit);
        });
        Ok(Export { format, pieces })
    }
}

fn filter(query: &ExportQuery) -> Result<Filter, Problem> {
    let date = |text: &Option<String>| -> Result<Option<Date>, Problem> {
        let bad = |error: crate::date::BadDate| {
            Problem::bad_request("bad_date", error.to_string()).hint("days are those of UTC")
        };
        text.as_deref().map(str::parse).transpose().map_err(bad)
    };
    if query.format == Some(ExportFormat::Parquet) && (query.device.is_some() || query.site.is_some()) {
        return Err(Problem::bad_request("whole_files", "parquet hands out whole files, which hold many devices")
            .hint("leave device and site out and filter where you read, or choose ndjson or csv"));
    }
    let model = query.model.as_deref().map(model_name).transpose()?;
    let version: Option<Version> = match (&query.model, query.version) {
        (_, None) => None,
        (Some(name), Some(version)) => Some(model_ref(name, version)?.version),
        (None, Some(_)) => {
            return Err(Problem::bad_request("no_model_named", "a version says nothing without its model")
                .hint("name both: model=digits&version=3"));
        }
    };
    let device = query.device.as_deref().map(device_id).transpose()?;
    Ok(Filter {
        model,
        version,
        from: date(&query.from)?,
        until: date(&query.until)?,
        device,
        site: query.site.clone(),
    })
}

/// Runs what reads or writes much off the threads that answer.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Fault::Broken(error.to_string()))?
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        tracing::error!(%fault, "collected rows");
        Self::unavailable("collect_failed", fault.to_string())
            .hint("look at the disk of the hub; rows stay in its store until they are in a file")
    }
}

#[cfg(test)]
mod tests {
    use bellwether_hub_core::registry::{Candidate, Checks, Lineage};
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::heapless;
    use bellwether_protocol::manifest::{DataType, Kind, Manifest, TensorSignature, TensorSpec};
    use bellwether_protocol::time::Millis;
    use bellwether_protocol::trust::{OutboxId, PackageRef, PublicKey, Reason};

    use super::*;
    use crate::api::types::Elements;
    use crate::client::{Client, ClientError};
    use crate::config::Config;
    use crate::run::{self, Running};

    fn candidate() -> Candidate {
        let spec = |name: &str, datatype, size| {
            let shape = [None, Some(size)].into_iter().collect();
            std::iter::once(TensorSpec { name: name.parse().unwrap(), datatype, shape }).collect()
        };
        let tensors =
            TensorSignature { inputs: spec("image", DataType::Fp32, 2), outputs: spec("class", DataType::Int64, 1) };
        let digest = Digest::of(b"package");
        Candidate {
            manifest: Manifest {
                kind: Kind::Model,
                name: "digits".parse().unwrap(),
                files: heapless::Vec::new(),
                tensors,
            },
            package: PackageRef { digest, size: 1, chunks: digest },
            source: digest,
            lineage: Lineage::default(),
            checks: Checks {
                advice: None,
                golden: None,
                operators: std::collections::BTreeMap::new(),
                opset: 17,
                parameters: 1,
                memory_kib: 1,
            },
            policy: bellwether_protocol::policy::Policy::default(),
            baseline: Vec::new(),
        }
    }

    /// A hub with `digits:1` and the device `gw-1`, and clients that may operate and look.
    async fn hub(data: &std::path::Path) -> (Running, Client, Client) {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let broker = Some("embedded://127.0.0.1:0".to_owned());
        let config = Config { data: data.to_owned(), listen, broker, ..Config::default() };
        let running = run::start(config).await.unwrap();
        let hub = running.hub();
        if hub.rules().device(&"gw-1".parse().unwrap()).is_err() {
            hub.decide(|rules, now| rules.register(candidate(), Vec::new(), "test", now)).unwrap();
            let enrol = |rules: &bellwether_hub_core::Rules, now| {
                rules.enrol(&"gw-1".parse().unwrap(), PublicKey([1; 32]), [].into(), now)
            };
            hub.decide(|rules, now| Ok(((), enrol(rules, now)?))).unwrap();
        }
        let client = |role| Client::new(&running.url(), Some(hub.make_token("test", role, None).unwrap())).unwrap();
        let (operator, viewer) = (client(Role::Operator), client(Role::Viewer));
        (running, operator, viewer)
    }

    fn add(hub: &Hub, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            hub.decide(|rules, now| {
                let mut changes = rules.changes("gw-1", now);
                changes.push(Change::Row(Box::new(Row {
                    device: "gw-1".parse().unwrap(),
                    outbox: OutboxId([7; 16]),
                    sequence,
                    model: "digits:1".parse().unwrap(),
                    at: Millis(5),
                    taken_at: now,
                    site: None,
                    reason: Reason::Uncertain,
                    inputs: [0.1_f32, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
                    outputs: sequence.to_le_bytes().to_vec(),
                })));
                Ok(((), changes))
            })
            .unwrap();
        }
    }

    async fn sequences(client: &Client) -> Vec<u64> {
        let text = client.export(&ExportQuery::default()).await.unwrap().text().await.unwrap();
        text.lines().map(|line| serde_json::from_str::<RowView>(line).unwrap().sequence).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_has_every_row_once_whether_it_waited_or_not() {
        let data = tempfile::tempdir().unwrap();
        let (running, operator, viewer) = hub(data.path()).await;
        add(running.hub(), 0..20);
        assert_eq!(sequences(&operator).await, (0..20).collect::<Vec<_>>());
        add(running.hub(), 20..23);
        let counts = viewer.collected().await.unwrap();
        assert_eq!((counts.waiting_rows, counts.items[0].rows), (3, 20));
        // Two where the hub's own turn came between the first rows.
        assert!((1..=2).contains(&counts.items[0].files), "{counts:?}");
        let latest = operator.latest_rows("gw-1", &RowsQuery { limit: Some(5) }).await.unwrap().items;
        assert_eq!(latest.iter().map(|row| row.sequence).collect::<Vec<_>>(), [22, 21, 20, 19, 18]);
        assert_eq!(latest[0].inputs[0].data, Elements::Double(vec![Some(0.1), Some(1.0)]));
        assert_eq!((latest[0].inputs[0].shape.as_slice(), latest[0].reason.as_str()), ([1, 2].as_slice(), "uncertain"));
        running.stop().await;

        let (running, operator, _) = hub(data.path()).await;
        add(running.hub(), 23..24);
        assert_eq!(sequences(&operator).await, (0..24).collect::<Vec<_>>());
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_export_cannot_do_it_refuses_with_the_next_step() {
        let data = tempfile::tempdir().unwrap();
        let (running, operator, viewer) = hub(data.path()).await;
        let refused = async |client: &Client, query: ExportQuery| match client.export(&query).await {
            Err(ClientError::Refused(problem)) => (problem.status, problem.code, problem.hint.is_empty()),
            other => panic!("{other:?}"),
        };
        let all = ExportQuery::default();
        assert_eq!(refused(&viewer, all.clone()).await, (403, "forbidden".to_owned(), false));
        let parquet = ExportQuery { format: Some(ExportFormat::Parquet), device: Some("gw-1".into()), ..all.clone() };
        assert_eq!(refused(&operator, parquet).await, (400, "whole_files".to_owned(), false));
        let version = ExportQuery { version: Some(1), ..all.clone() };
        assert_eq!(refused(&operator, version).await, (400, "no_model_named".to_owned(), false));
        for hostile in ["../../etc", "2026-02-30"] {
            let query = ExportQuery { from: Some(hostile.to_owned()), ..all.clone() };
            assert_eq!(refused(&operator, query).await, (400, "bad_date".to_owned(), false));
        }
        let climbing = ExportQuery { model: Some("../keys".to_owned()), ..all };
        assert_eq!(refused(&operator, climbing).await, (400, "bad_id".to_owned(), false));
        let nobody = viewer.latest_rows("gw-1", &RowsQuery::default()).await.unwrap_err();
        assert_eq!(nobody.problem().unwrap().status, 403);
        running.stop().await;
    }
}
