//! All that is true at the hub, and the one way to change it.

use std::collections::BTreeMap;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Counters, KeyId, Order, TrustedRoot};

use crate::audit::linked;
use crate::chain::{CheckpointRecord, RecallRecord, RootStep};
use crate::collect::{Row, Troubles};
use crate::drift::{Baseline, Key, Monitor, Policy, Window};
use crate::event::{Event, What};
use crate::fleet::{Device, Issued};
use crate::keyring::KeyRequest;
use crate::registry::{Model, VersionRecord};
use crate::rollout::Rollout;
use crate::trust::{RootRecord, Verdict, open_root};

/// All that is true at the hub.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(crate) root: Option<TrustedRoot>,
    pub(crate) key_requests: BTreeMap<KeyId, KeyRequest>,
    pub(crate) chain: Vec<RootStep>,
    pub(crate) recalls: Vec<RecallRecord>,
    pub(crate) checkpoint: Option<CheckpointRecord>,
    pub(crate) counters: Counters,
    pub(crate) models: BTreeMap<ModelName, Model>,
    pub(crate) versions: BTreeMap<ModelRef, VersionRecord>,
    pub(crate) verdicts: BTreeMap<ModelRef, Verdict>,
    pub(crate) devices: BTreeMap<DeviceId, Device>,
    pub(crate) rollouts: BTreeMap<u64, Rollout>,
    pub(crate) troubles: BTreeMap<DeviceId, Troubles>,
    pub(crate) baselines: BTreeMap<ModelRef, Baseline>,
    pub(crate) windows: BTreeMap<Key, Window>,
    pub(crate) monitors: BTreeMap<Key, Monitor>,
    pub(crate) drift: Policy,
    /// Rows of one device that are stored in an hour, if it is said.
    pub(crate) rows_max: Option<u32>,
    last_event: u64,
    head: Digest,
}

/// One thing that becomes true.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each carries the record that is stored")]
pub enum Change {
    Root(RootRecord),
    KeyRequest(Box<KeyRequest>),
    KeyRequestGone(KeyId),
    RootStep(RootStep),
    Recall(RecallRecord),
    Checkpoint(CheckpointRecord),
    Model(Model),
    Version(Box<VersionRecord>),
    VersionGone(ModelRef),
    Device(Box<Device>),
    DeviceGone(DeviceId),
    Rollout(Box<Rollout>),
    Event(Event),
    Row(Box<Row>),
    Troubles(Box<Troubles>),
    TroublesGone(DeviceId),
    Baseline(Box<Baseline>),
    BaselineGone(ModelRef),
    Window(Box<Window>),
    WindowGone(Key),
    Monitor(Box<Monitor>),
    MonitorGone(Key),
}

/// What a decision makes true, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    list: Vec<Change>,
    who: String,
    now: Millis,
    sequence: u64,
    head: Digest,
}

impl Changes {
    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.list.push(change);
    }

    /// Adds an event, with the next sequence number.
    pub fn event(&mut self, what: What) {
        self.sequence += 1;
        let event = linked(self.head, (self.sequence, self.now), &self.who, what);
        self.head = event.head;
        self.list.push(Change::Event(event));
    }

    /// The changes in order.
    #[must_use]
    pub fn list(&self) -> &[Change] {
        &self.list
    }

    /// The changes in order, to be applied.
    #[must_use]
    pub fn into_list(self) -> Vec<Change> {
        self.list
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Rules {
    /// Begins a set of changes by `who` at `now`.
    #[must_use]
    pub fn changes(&self, who: &str, now: Millis) -> Changes {
        Changes { list: Vec::new(), who: who.to_owned(), now, sequence: self.last_event, head: self.head }
    }

    /// Makes changes true; also how stored records are read back.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Root(record) => {
                self.root = open_root(&record.statement).ok();
                self.judge_versions();
            }
            Change::KeyRequest(request) => {
                self.key_requests.insert(request.id(), *request);
            }
            Change::KeyRequestGone(id) => {
                self.key_requests.remove(&id);
            }
            Change::RootStep(record) => {
                self.apply_root_step(record);
                self.judge_versions();
            }
            Change::Recall(record) => self.apply_recall(record),
            Change::Checkpoint(record) => self.apply_checkpoint(record),
            Change::Model(model) => {
                self.models.insert(model.name.clone(), model);
            }
            Change::Version(record) => {
                let model = record.model.clone();
                self.versions.insert(model.clone(), *record);
                self.judge_version(&model);
            }
            Change::VersionGone(model) => {
                self.versions.remove(&model);
                self.verdicts.remove(&model);
            }
            Change::Device(device) => {
                self.devices.insert(device.id.clone(), *device);
            }
            Change::DeviceGone(id) => {
                self.devices.remove(&id);
            }
            Change::Rollout(rollout) => {
                self.rollouts.insert(rollout.id, *rollout);
            }
            // Rows are stored and shown; no rule looks at them.
            Change::Row(_) => {}
            Change::Troubles(troubles) => {
                self.troubles.insert(troubles.device.clone(), *troubles);
            }
            Change::TroublesGone(id) => {
                self.troubles.remove(&id);
            }
            Change::Baseline(baseline) => {
                self.baselines.insert(baseline.model.clone(), *baseline);
            }
            Change::BaselineGone(model) => {
                self.baselines.remove(&model);
            }
            Change::Window(window) => {
                self.windows.insert(window.key.clone(), *window);
            }
            Change::WindowGone(key) => {
                self.windows.remove(&key);
            }
            Change::Monitor(monitor) => {
                self.monitors.insert(monitor.key.clone(), *monitor);
            }
            Change::MonitorGone(key) => {
                self.monitors.remove(&key);
            }
            Change::Event(event) if event.sequence > self.last_event => {
                (self.last_event, self.head) = (event.sequence, event.head);
            }
            Change::Event(_) => {}
        }
    }

    /// The devices whose assignment is not what they should have, with the new one. Also those that
    /// have seen a later one than this hub knows of, or another of the same order: the hub was
    /// restored from a backup, or the device enrolled anew.
    #[must_use]
    pub fn issue(&self, now: Millis) -> Changes {
        let mut changes = self.changes("hub", now);
        let Some(root) = &self.root else { return changes };
        for device in self.devices.values() {
            let models = self.desires(device);
            let generation = root.root().director_generation;
            let issued = device.assignment.as_ref().map_or(Order::default(), |issued| issued.order);
            // No director was ever of a later generation than the root's, whatever a device says.
            let report = device.report.as_ref().filter(|report| report.seen.generation <= generation);
            let seen = report.map_or(Order::default(), |report| report.seen);
            let other = report.is_some_and(|report| report.refused == Some(Reject::StaleSequence)) && seen == issued;
            // What an earlier director signed, no device takes any more.
            let is_same = |known: &Issued| known.models == models && known.order.generation == generation;
            let same = device.assignment.as_ref().map_or(models.is_empty(), is_same);
            if same && seen <= issued && !other {
                continue;
            }
            let last = issued.max(seen);
            let sequence = if last.generation < generation { 1 } else { last.sequence.saturating_add(1) };
            let order = Order { generation, sequence };
            if order <= issued {
                continue; // the numbers are used up; a new director generation begins anew
            }
            changes.push(Change::Device(Box::new(Device {
                assignment: Some(Issued { order, models, audit: self.head }),
                ..device.clone()
            })));
        }
        changes
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }

    /// All devices, by name.
    pub fn devices(&self) -> impl DoubleEndedIterator<Item = &Device> {
        self.devices.values()
    }

    /// All rollouts, oldest first.
    pub fn rollouts(&self) -> impl DoubleEndedIterator<Item = &Rollout> {
        self.rollouts.values()
    }

    /// What a device told of its troubles, if it did.
    #[must_use]
    pub fn troubles(&self, device: &DeviceId) -> Option<&Troubles> {
        self.troubles.get(device)
    }

    /// Head of the audit chain after the latest event.
    #[must_use]
    pub const fn audit_head(&self) -> Digest {
        self.head
    }

    /// Sequence of the latest event.
    #[must_use]
    pub const fn last_event(&self) -> u64 {
        self.last_event
    }
}
