//! The hub at work: what the rules decide is committed, applied, and told; nothing else changes
//! anything. Pages, API and tests all call the one [`Hub`].
//!
//! ```text
//!  decide: lock -> rules look at what is true -> store.commit -> rules.apply -> unlock -> tell
//! ```
//! A role is checked in the first line of every method that needs one, so that no door is wider
//! than another.

mod approvals;
mod audit;
mod chain;
mod collected;
mod denied;
mod desired;
mod disk;
mod drift;
mod events;
mod evict;
mod fleet;
mod interchange;
mod overview;
mod people;
mod pump;
mod registry;
mod releases;
mod rollouts;
mod view;
mod webhooks;

use std::collections::VecDeque;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use bellwether_hub_core::{Change, Changes, Denied, Rules};
use bellwether_link::Link;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Connect, Signed, open_by};
use tokio::sync::{Notify, Semaphore, watch};

use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{BrokerView, HubView, Role};
use crate::backup;
use crate::blob::Blobs;
use crate::broker::{Broker, Gatekeeper};
use crate::clock;
use crate::collect;
use crate::config::Config;
use crate::exec::Checker;
use crate::keys::{self, HubKeys, Online};
use crate::outlet::Desk;
use crate::store::{Store, StoreError, Write, record};

pub use collected::Export;
pub(crate) use events::view as event_view;
pub use people::{FirstLogin, TOKEN_DAYS};

/// Checks of packages that run at once: each takes a core and up to its memory limit.
const CHECKS_AT_ONCE: usize = 2;

/// The hub. Cheap to clone; every clone is the same hub.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    config: Config,
    data: PathBuf,
    keys: RwLock<Arc<HubKeys>>,
    store: Box<dyn Store>,
    blobs: Blobs,
    checker: Checker,
    checks: Semaphore,
    rules: RwLock<Rules>,
    people: Mutex<people::People>,
    disk: Mutex<disk::Disk>,
    rates: Mutex<VecDeque<(Millis, u64)>>,
    changes: watch::Sender<u64>,
    /// Turns true when the hub stops: whoever waits for events is answered.
    closing: watch::Sender<bool>,
    work: Notify,
    /// Held while a package is taken into use or thrown away, so that neither overtakes the other.
    packages: tokio::sync::Mutex<()>,
    backups: Semaphore,
    sending: pump::Sending,
    collecting: collected::Collecting,
    desk: Desk,
    broker: OnceLock<Box<dyn Broker>>,
    link: OnceLock<Link>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("data", &self.0.data).finish_non_exhaustive()
    }
}

/// What a hub is made of.
#[derive(Debug)]
pub struct Parts {
    /// How it runs.
    pub config: Config,
    /// Its keys.
    pub keys: HubKeys,
    /// Its records.
    pub store: Box<dyn Store>,
    /// Its packages.
    pub blobs: Blobs,
    /// Its files of collected rows.
    pub collected: collect::Files,
}

impl Hub {
    /// Whether browsers reach it by HTTPS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.config.tls_cert.is_some()
    }

    /// A hub with what its store says is true.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records cannot be read.
    pub fn new(parts: Parts) -> Result<Self, StoreError> {
        let Parts { config, keys, store, blobs, collected } = parts;
        let mut rules = record::load(store.as_ref())?;
        rules.judge_drift(config.drift());
        rules.limit_rows(config.collect_rows_hourly_max);
        let checker = Checker {
            program: config.checker.clone(),
            cpu_seconds: config.check_seconds,
            memory_mib: config.check_memory_mib,
        };
        Ok(Self(Arc::new(Inner {
            data: config.data.clone(),
            checker,
            checks: Semaphore::new(CHECKS_AT_ONCE),
            changes: watch::Sender::new(rules.last_event()),
            rules: RwLock::new(rules),
            people: Mutex::default(),
            disk: Mutex::default(),
            rates: Mutex::default(),
            closing: watch::Sender::new(false),
            work: Notify::new(),
            packages: tokio::sync::Mutex::default(),
            backups: Semaphore::new(1),
            sending: pump::Sending::default(),
            collecting: collected::Collecting::new(collected),
            desk: Desk::default(),
            broker: OnceLock::new(),
            link: OnceLock::new(),
            config,
            keys: RwLock::new(Arc::new(keys)),
            store,
            blobs,
        })))
    }

    /// Gives the hub its broker; once.
    pub fn attach(&self, broker: Box<dyn Broker>) {
        let attached = self.0.broker.set(broker);
        assert!(attached.is_ok(), "a hub has one broker");
    }

    /// The broker, once attached.
    #[must_use]
    pub fn broker(&self) -> Option<&dyn Broker> {
        self.0.broker.get().map(AsRef::as_ref)
    }

    /// Lets the rules decide, commits, applies, and tells. Concurrent decisions queue.
    fn decide<T>(&self, decision: impl FnOnce(&Rules, Millis) -> Result<(T, Changes), Denied>) -> Result<T, Refusal> {
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        let (outcome, changes) = decision(&rules, clock::now())?;
        if changes.is_empty() {
            return Ok(outcome);
        }
        let mut writes = changes.list().iter().map(record::write).collect::<Result<Vec<Write>, StoreError>>()?;
        let kept = self.0.config.events_max;
        for change in changes.list() {
            if let Change::Event(event) = change
                && let Some(old) = event.sequence.checked_sub(kept)
            {
                writes.push(Write::remove(record::event_key(old)));
            }
        }
        self.0.store.commit(&writes)?;
        self.0.collecting.stored(changes.list());
        for change in changes.into_list() {
            if let Change::Event(event) = &change {
                tracing::info!(who = event.who, kind = event.what.kind(), text = %event.what, "event");
            }
            rules.apply(change);
        }
        drop(rules);
        self.told();
        Ok(outcome)
    }

    /// As [`Hub::decide`], and waits until it is durable: what is answered survives a crash.
    fn decide_durably<T>(
        &self,
        decision: impl FnOnce(&Rules, Millis) -> Result<(T, Changes), Denied>,
    ) -> Result<T, Refusal> {
        let outcome = self.decide(decision)?;
        self.0.store.flush()?;
        self.0.work.notify_one();
        Ok(outcome)
    }

    fn told(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn people(&self) -> MutexGuard<'_, people::People> {
        self.0.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers whoever waits for events: the hub is about to stop.
    pub fn close(&self) {
        self.0.closing.send_replace(true);
    }

    /// Changes at every visible change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The hub's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        clock::now().0
    }

    /// Whether it can serve.
    ///
    /// # Errors
    ///
    /// 503 if its store does not answer.
    pub fn healthy(&self) -> Result<(), Problem> {
        self.0.store.get("root").map(|_| ()).map_err(|error| Problem::from(Refusal::from(error)))
    }

    /// The whole state in an open temporary file, at its start.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 503 if it cannot be written.
    pub async fn backup(&self, caller: &Caller) -> Result<tokio::fs::File, Problem> {
        caller.need(Role::Admin)?;
        let _only = self.0.backups.try_acquire().map_err(|_| {
            Problem::conflict("backup_going", "another backup is being written").hint("wait until it is done")
        })?;
        let hub = self.clone();
        let write = tokio::task::spawn_blocking(move || -> std::io::Result<std::fs::File> {
            let mut file = tempfile::tempfile_in(&hub.0.data)?;
            backup::write(&hub.0.data, hub.0.store.as_ref(), std::io::BufWriter::new(&file))?;
            file.rewind()?;
            Ok(file)
        });
        let written = write.await.map_err(|error| Problem::internal(error.to_string()))?;
        let file = written.map_err(|error| Problem::unavailable("backup_failed", error.to_string()))?;
        Ok(tokio::fs::File::from_std(file))
    }

    /// Writes the whole state into a new file that only its owner can read.
    ///
    /// # Errors
    ///
    /// If the file exists or cannot be written.
    pub fn backup_to(&self, path: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        backup::write(&self.0.data, self.0.store.as_ref(), std::io::BufWriter::new(&file))?;
        file.sync_all()
    }

    /// From it come the passwords of devices at an external broker.
    #[must_use]
    pub fn broker_secret(&self) -> [u8; 32] {
        self.keys().broker_secret
    }

    /// The hub's keys. Take them while a root is read-locked, and they are the ones for it.
    fn keys(&self) -> Arc<HubKeys> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys anew: one that waits may have been made since.
    fn look_for_new_keys(&self) -> std::io::Result<()> {
        let [_, _, directory] = backup::directories(&self.0.data);
        let keys = Arc::new(HubKeys::open(&directory)?);
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Throws away what the root in force has replaced. Until that worked the right key is chosen all
    /// the same.
    pub(crate) fn settle_keys(&self) {
        let [_, _, directory] = backup::directories(&self.0.data);
        let settled = match self.rules().trusted() {
            Ok(root) => HubKeys::settle(&directory, root.root()),
            Err(_) => Ok(()),
        };
        if let Err(error) = settled.and_then(|()| self.look_for_new_keys()) {
            tracing::warn!(%error, "an old key of this hub is still in its directory");
        }
    }

    /// Returns once everything decided so far is durable.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.store.flush()
    }

    /// What anybody may know about it.
    #[must_use]
    pub fn hub_view(&self) -> HubView {
        let refusing = self.refusing_because();
        let (rules, keys) = (self.rules(), self.keys());
        let root = rules.trusted().ok();
        let in_use = |online: &Online| {
            let key = root.map_or_else(|| online.first(), |root| online.under(root.root()));
            keys::public(key).to_string()
        };
        HubView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fleet: root.map(|root| root.fleet().to_string()),
            director_key: in_use(&keys.director),
            registry_key: in_use(&keys.registry),
            time_key: in_use(&keys.time),
            time_ms: self.now_ms(),
            broker: BrokerView {
                kind: self.broker().map_or("none", Broker::kind).to_owned(),
                url: self.broker().map(Broker::url).unwrap_or_default().to_owned(),
            },
            accepting_work: refusing.is_none(),
            refusing_because: refusing,
        }
    }
}

impl Gatekeeper for Hub {
    fn admits(&self, device: &DeviceId, password: &[u8]) -> bool {
        let admitted = self.decide(|rules, now| {
            let counter = connect_counter(rules, device, password)?;
            Ok(((), rules.connect(device, counter, now)?))
        });
        if let Err(refusal) = &admitted {
            tracing::warn!(%device, %refusal, "session refused");
        }
        admitted.is_ok()
    }
}

/// The counter in a device's password, once its signature was checked.
fn connect_counter(rules: &Rules, device: &DeviceId, password: &[u8]) -> Result<u64, Denied> {
    let malformed = || Denied::Statement(bellwether_protocol::error::Reject::Malformed);
    let fleet = rules.trusted()?.fleet();
    let key = rules.device(device)?.key;
    let bytes = hex::decode(password).map_err(|_| malformed())?;
    let signed: Signed<'_> = frame::decode(&bytes).map_err(Denied::Statement)?;
    let connect: Connect = open_by(fleet, &signed, &key).map_err(Denied::Statement)?;
    if connect.device == *device { Ok(connect.counter) } else { Err(malformed()) }
}

/// Why something was not done: a rule, or the machine.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}
