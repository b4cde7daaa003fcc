//! The loop between broker and rules: what comes up is verified, decided and answered; what
//! becomes due goes down. Nothing here waits for a device.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_hub_core::Change;
use bellwether_hub_core::rollout::State;
use bellwether_hub_core::talk::Reply;
use bellwether_link::{Arrival, Link, Options, Qos};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{CHUNK_BYTES, CHUNKS_IN_FLIGHT_MAX};
use bellwether_protocol::message::{Chunk, Down, Need, Table};
use bellwether_protocol::topic::{DownTopic, HUB_FILTER, Part, Topic, UpTopic};
use bellwether_protocol::trust::{Nonce, OutboxId, PackageRef};
use bellwether_runtime::crash;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::desired::{Message, message};
use super::{Hub, Refusal};
use crate::broker::Broker;
use crate::clock;

/// How often time passes for rollouts when nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// Least time between two looks at what is due while messages stream in: a look costs a few hashes
/// for every device.
const DUE_EVERY: Duration = Duration::from_millis(50);
/// Silence after which the broker ends the hub's session.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Messages taken before what they cause is flushed and told.
const BURST_MAX: usize = 256;
/// Chunks read and sent at once: 64 KiB each.
const SENDING_MAX: usize = 64;

/// Tables of chunk digests kept at hand: one for each package that is being rolled out.
const TABLES_MAX: usize = 16;

/// What goes out beside the pump: at most one transfer to a device, and greetings that are due.
#[derive(Debug, Default)]
pub(super) struct Sending {
    transfers: Mutex<BTreeMap<DeviceId, AbortHandle>>,
    greetings: Mutex<BTreeSet<DeviceId>>,
    /// Devices to be told what changes what counts, with the nonce of those that asked.
    pub(super) telling: Mutex<BTreeMap<DeviceId, Option<Nonce>>>,
    tables: Mutex<BTreeMap<Digest, Bytes>>,
}

/// Nothing is left half-done by a panic while one of these locks is held.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An acknowledgement that is owed once the store was flushed.
type Owed = (DeviceId, OutboxId, u64);

impl Hub {
    /// Opens the hub's own session at the broker.
    ///
    /// # Errors
    ///
    /// The broker's address does not read.
    pub fn open_link(&self, broker: &dyn Broker) -> Result<Receiver<Arrival>, bellwether_link::BadAddress> {
        let access = broker.hub_access();
        let login = Some((access.username.clone(), access.password));
        let options = Options {
            address: access.url.parse()?,
            trust: access.trust,
            client_id: access.username,
            subscriptions: vec![HUB_FILTER.to_owned()],
            keep_alive: KEEP_ALIVE,
            greet: Box::new(move || Ok(bellwether_link::Greeting { login: login.clone(), will: None })),
        };
        let (link, arrivals) = Link::open(options);
        let set = self.0.link.set(link);
        assert!(set.is_ok(), "a hub opens one link");
        Ok(arrivals)
    }

    /// Runs until `stop` turns true.
    pub async fn pump(self, mut arrivals: Receiver<Arrival>, mut stop: watch::Receiver<bool>) {
        let mut watch = clock::Watch::start();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sending = Arc::new(Semaphore::new(SENDING_MAX));
        let mut burst = Vec::with_capacity(BURST_MAX);
        let mut looked = Instant::now();
        let mut due = Vec::new();
        loop {
            let urgent = tokio::select! {
                count = arrivals.recv_many(&mut burst, BURST_MAX) => if count == 0 { break } else { false },
                _ = ticks.tick() => true,
                () = self.0.work.notified() => true,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            if let Some(by_ms) = watch.set_by() {
                self.clock_set(by_ms);
            }
            let owed: Vec<Owed> = burst.drain(..).filter_map(|arrival| self.take(arrival, &sending)).collect();
            if urgent || looked.elapsed() >= DUE_EVERY {
                looked = Instant::now();
                due.extend(self.due());
                due.extend(std::mem::take(&mut *unpoisoned(&self.0.sending.greetings)));
            }
            let telling = std::mem::take(&mut *unpoisoned(&self.0.sending.telling));
            if owed.is_empty() && due.is_empty() && telling.is_empty() {
                continue;
            }
            // Durable before it is told: assignments keep their numbers, acknowledged records stay.
            if let Err(error) = self.flushed().await {
                tracing::error!(%error, "nothing is acknowledged until the store is durable again");
                continue;
            }
            if !owed.is_empty() {
                crash::point("hub.batch.committed");
            }
            if self.is_rolling_back() {
                crash::point("hub.rollback.begun");
            }
            self.send_acks(owed).await;
            // Before the desired state: it may rest on a root that the device does not know yet.
            for (device, nonce) in telling {
                self.send_trust(&device, nonce).await;
            }
            for device in due.drain(..) {
                self.send_desired(&device).await;
            }
        }
        if let Some(link) = self.0.link.get() {
            link.stop();
        }
    }

    /// Returns once everything decided so far is durable.
    pub(crate) async fn flushed(&self) -> Result<(), crate::store::StoreError> {
        let hub = self.clone();
        let flush = tokio::task::spawn_blocking(move || hub.0.store.flush());
        flush.await.map_err(|error| crate::store::StoreError::Fault(error.to_string()))?
    }

    fn is_rolling_back(&self) -> bool {
        self.rules().rollouts().any(|rollout| matches!(rollout.state, State::RollingBack { .. }))
    }

    async fn send_acks(&self, mut owed: Vec<Owed>) {
        owed.sort();
        // The last of each outbox says it all.
        let last = |index: usize, (device, outbox, _): &Owed| {
            owed.get(index + 1).is_none_or(|(next, other, _)| (next, other) != (device, outbox))
        };
        for (index, ack) in owed.iter().enumerate().filter(|(index, ack)| last(*index, ack)) {
            let (device, outbox, through) = ack;
            match self.ack(device, *outbox, *through) {
                Ok(message) => self.publish(message, Qos::AtLeastOnce, false).await,
                Err(denied) => {
                    tracing::warn!(%device, %denied, index, "acknowledgement not signed")
                }
            }
        }
    }

    pub(super) async fn publish(&self, (topic, payload): Message, qos: Qos, retain: bool) {
        let Some(link) = self.0.link.get() else { return };
        if let Err(error) = link.publish(&topic, payload, qos, retain).await {
            tracing::debug!(topic, %error, "not published; the device asks again");
        }
    }

    /// Lets the spans that are being measured go on as if the clock had not been set.
    fn clock_set(&self, by_ms: i64) {
        tracing::warn!(by_ms, "the machine's clock was set");
        if let Err(error) = self.decide(|rules, now| Ok(((), rules.clock_set(by_ms, now)))) {
            tracing::error!(%error, "soaks and deadlines are off by what the clock was set");
        }
    }

    /// Lets time pass and gives out assignments; the devices whose assignment is new.
    fn due(&self) -> Vec<DeviceId> {
        let ticked = self.decide(|rules, now| Ok(((), rules.tick(now))));
        let judged = self.decide(|rules, now| Ok(((), rules.judge(now))));
        let issued = self.decide(|rules, now| {
            let changes = rules.issue(now);
            let device =
                |change: &Change| if let Change::Device(device) = change { Some(device.id.clone()) } else { None };
            let devices = changes.list().iter().filter_map(device);
            Ok((devices.collect(), changes))
        });
        if let Err(error) = ticked {
            tracing::error!(%error, "rollouts stand still");
        }
        if let Err(error) = judged {
            tracing::error!(%error, "drift is not judged");
        }
        issued.unwrap_or_else(|error| {
            tracing::error!(%error, "no assignment is given out");
            Vec::new()
        })
    }

    async fn send_desired(&self, id: &DeviceId) {
        let desired = {
            let rules = self.rules();
            rules.device(id).and_then(|device| self.desired(&rules, device))
        };
        match desired {
            Ok(Some(message)) => self.publish(message, Qos::AtLeastOnce, true).await,
            Ok(None) => {}
            Err(denied) => tracing::warn!(device = %id, %denied, "no desired state"),
        }
    }

    /// Takes one arrival; gives the acknowledgement that is owed for it.
    fn take(&self, arrival: Arrival, sending: &Arc<Semaphore>) -> Option<Owed> {
        let (topic, payload) = match arrival {
            Arrival::Up => {
                tracing::info!("connected to the broker");
                self.greet_all();
                return None;
            }
            Arrival::Down { why } => {
                tracing::warn!(why, "broker lost");
                return None;
            }
            Arrival::Message { topic, payload } => (topic, payload),
        };
        let Some(Topic::Up(device, kind)) = Topic::parse(&topic) else {
            tracing::warn!(topic, "not a topic of ours");
            return None;
        };
        match self.heard(&device, kind, &payload, sending) {
            Ok(owed) => owed,
            Err(refusal) => {
                tracing::warn!(%device, ?kind, %refusal, "refused");
                None
            }
        }
    }

    fn heard(
        &self,
        device: &DeviceId,
        kind: UpTopic,
        payload: &[u8],
        sending: &Arc<Semaphore>,
    ) -> Result<Option<Owed>, Refusal> {
        if let UpTopic::Need(_) = kind {
            // Chunks are asked for often, and nothing changes by it.
            let replies = self.rules().hear(device, kind, payload, clock::now())?.0;
            for reply in replies {
                if let Reply::Parts(package, need) = reply {
                    self.send_parts(device, package, need, sending);
                }
            }
            return Ok(None);
        }
        let mut owed = None;
        for reply in self.decide(|rules, now| rules.hear(device, kind, payload, now))? {
            match reply {
                Reply::Desired => self.greet(device.clone()),
                Reply::Trust(asked) => {
                    let mut telling = unpoisoned(&self.0.sending.telling);
                    let nonce = telling.entry(device.clone()).or_default();
                    *nonce = asked.or(*nonce);
                }
                Reply::Ack(outbox, through) => owed = Some((device.clone(), outbox, through)),
                Reply::Parts(..) => {}
            }
        }
        Ok(owed)
    }

    /// Has a device told its desired state again, once everything decided is durable.
    fn greet(&self, device: DeviceId) {
        unpoisoned(&self.0.sending.greetings).insert(device);
    }

    fn greet_all(&self) {
        let devices: Vec<DeviceId> = self.rules().devices().map(|device| device.id.clone()).collect();
        unpoisoned(&self.0.sending.greetings).extend(devices);
    }

    /// Sends the parts of a package that a device lacks.
    fn send_parts(&self, device: &DeviceId, package: PackageRef, need: Need, sending: &Arc<Semaphore>) {
        let transfer = package.digest.transfer();
        let (hub, id, sending) = (self.clone(), device.clone(), sending.clone());
        let task = tokio::spawn(async move {
            let parts = need.table.then_some(Part::Table).into_iter();
            for part in parts.chain(need.chunks(CHUNKS_IN_FLIGHT_MAX).map(Part::Chunk)) {
                let Ok(_permit) = sending.acquire().await else { return };
                if let Err(error) = hub.send_part(&id, package, part).await {
                    tracing::warn!(device = %id, %transfer, error, "part not sent");
                    return;
                }
            }
        });
        // What a device asks last is what it lacks: an older transfer to it is no longer of use.
        let mut transfers = unpoisoned(&self.0.sending.transfers);
        transfers.retain(|_, task| !task.is_finished());
        if let Some(older) = transfers.insert(device.clone(), task.abort_handle()) {
            older.abort();
        }
    }

    async fn send_part(&self, device: &DeviceId, package: PackageRef, part: Part) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let bytes = match part {
            Part::Table => self.table(package.digest).await.map_err(|error| text(&error))?,
            Part::Chunk(n) => {
                let start = u64::from(n) * CHUNK_BYTES as u64;
                if start >= package.size {
                    return Err(format!("there is no chunk {n}"));
                }
                self.0.blobs.range(package.digest, start, CHUNK_BYTES as u64).await.map_err(|error| text(&error))?
            }
        };
        let down = match part {
            Part::Table => Down::Table(Table { digests: &bytes }),
            Part::Chunk(_) => Down::Chunk(Chunk { bytes: &bytes }),
        };
        let topic = DownTopic::Part(package.digest.transfer(), part);
        let message = message(device, topic, &down).map_err(|error| text(&error))?;
        self.publish(message, Qos::AtMostOnce, false).await;
        Ok(())
    }

    /// The digests of a package's chunks; read and hashed once, then kept at hand.
    async fn table(&self, package: Digest) -> Result<Bytes, String> {
        let known = unpoisoned(&self.0.sending.tables).get(&package).cloned();
        if let Some(table) = known {
            return Ok(table);
        }
        let whole = self.0.blobs.get(package).await.map_err(|error| error.to_string())?;
        let digests = move || bellwether_protocol::package::chunk_digests(&whole).flat_map(|digest| digest.0).collect();
        let table: Vec<u8> = tokio::task::spawn_blocking(digests).await.map_err(|error| error.to_string())?;
        let table = Bytes::from(table);
        let mut tables = unpoisoned(&self.0.sending.tables);
        if tables.len() >= TABLES_MAX {
            tables.pop_first();
        }
        tables.insert(package, table.clone());
        Ok(table)
    }
}
