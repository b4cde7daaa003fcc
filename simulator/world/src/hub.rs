//! The hub: the shipped rules, what of them is on disk, and what is owed to devices.
//!
//! A decision changes the rules at once and the disk at the next flush; a crash in between takes it
//! back. What is owed goes out only after a flush, or it would be taken back, too.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_hub_core::fleet::Device;
use bellwether_hub_core::rollout::Rollout;
use bellwether_hub_core::talk::{Message, Reply};
use bellwether_hub_core::{Change, Changes, Denied, Rules};
use bellwether_protocol::SigningKey;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::UpTopic;
use bellwether_protocol::trust::{OutboxId, Phase, Running};

use crate::Mutant;
use crate::chance::Chance;
use crate::people::{DIRECTOR, TIME, key};

/// Rows by device, outbox and number.
pub(crate) type StoredRows = BTreeMap<(DeviceId, OutboxId, u64), u64>;

/// What survives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) rules: Rules,
    pub(crate) rows: StoredRows,
}

impl Stored {
    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Row(row) = change {
                let id = row.inputs.as_slice().try_into().map(u64::from_le_bytes).unwrap_or_default();
                self.rows.insert((row.device.clone(), row.outbox, row.sequence), id);
            }
            self.rules.apply(change.clone());
        }
    }
}

/// The hub.
#[derive(Debug)]
pub(crate) struct Hub {
    now: Stored,
    disk: Stored,
    pending: Vec<Vec<Change>>,
    owed: Vec<(DeviceId, Reply)>,
    tell: BTreeSet<DeviceId>,
    backup: Option<Stored>,
    pub(crate) is_up: bool,
    mutant: Option<Mutant>,
    director: SigningKey,
    time: SigningKey,
}

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// One message; the desired state is retained.
    Message(DeviceId, Message),
    /// Parts of a package.
    Parts(DeviceId, bellwether_protocol::trust::PackageRef, bellwether_protocol::message::Need),
}

impl Hub {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        Self {
            now: Stored::default(),
            disk: Stored::default(),
            pending: Vec::new(),
            owed: Vec::new(),
            tell: BTreeSet::new(),
            backup: None,
            is_up: true,
            mutant,
            director: key(DIRECTOR),
            time: key(TIME),
        }
    }

    /// What is true now.
    pub(crate) const fn rules(&self) -> &Rules {
        &self.now.rules
    }

    /// What would still be true after a crash.
    pub(crate) const fn disk(&self) -> &Stored {
        &self.disk
    }

    /// Makes a decision true.
    pub(crate) fn make<T>(&mut self, decided: Result<(T, Changes), Denied>) -> Result<T, Denied> {
        let (outcome, changes) = decided?;
        let changes = changes.into_list();
        if !changes.is_empty() {
            self.now.take(&changes);
            self.pending.push(changes);
        }
        Ok(outcome)
    }

    /// The same where nothing else comes of it.
    pub(crate) fn take(&mut self, decided: Result<Changes, Denied>) -> Result<(), Denied> {
        self.make(decided.map(|changes| ((), changes)))
    }

    /// A message arrives.
    pub(crate) fn hear(
        &mut self,
        device: &DeviceId,
        topic: UpTopic,
        payload: &[u8],
        now: Millis,
    ) -> Result<(), Denied> {
        let heard = self.now.rules.hear(device, topic, payload, now);
        for reply in self.make(heard)? {
            self.owed.push((device.clone(), reply));
        }
        Ok(())
    }

    /// Whoever lacks a root, a recall or a checkpoint is told.
    pub(crate) fn tell_lagging(&mut self) {
        self.tell.extend(self.now.rules.lagging().cloned());
    }

    /// Brings everything to disk.
    pub(crate) fn flush(&mut self) {
        for changes in self.pending.drain(..) {
            self.disk.take(&changes);
        }
    }

    /// Time passes: rollouts go on, assignments are given out, and all that is owed goes out.
    pub(crate) fn turn(&mut self, now: Millis) -> Vec<Sent> {
        if self.mutant == Some(Mutant::SilentIsHealthy) {
            self.believe_the_silent();
        }
        if self.mutant == Some(Mutant::DeafGate) {
            self.bear_everything();
        }
        let ticked = self.now.rules.tick(now);
        let _never = self.take(Ok(ticked));
        if self.mutant == Some(Mutant::TellBeforeFlush) {
            self.flush();
        }
        let issued = self.now.rules.issue(now);
        let device = |change: &Change| if let Change::Device(device) = change { Some(device.id.clone()) } else { None };
        let mut due: BTreeSet<DeviceId> = issued.list().iter().filter_map(device).collect();
        let _never = self.take(Ok(issued));
        let early = matches!(self.mutant, Some(Mutant::AckBeforeFlush | Mutant::TellBeforeFlush));
        if !early {
            self.flush();
        }
        let mut sent = Vec::new();
        let mut acks: BTreeMap<(DeviceId, OutboxId), u64> = BTreeMap::new();
        for (device, reply) in std::mem::take(&mut self.owed) {
            match reply {
                Reply::Desired => drop(due.insert(device)),
                Reply::Trust(nonce) => {
                    self.tell.remove(&device);
                    let told = self.now.rules.trust(&device, nonce, (&self.time, now.0 / DAY_MS));
                    sent.extend(told.into_iter().flatten().map(|message| Sent::Message(device.clone(), message)));
                }
                Reply::Ack(outbox, through) => drop(acks.insert((device, outbox), through)),
                Reply::Parts(package, need) => sent.push(Sent::Parts(device, package, need)),
            }
        }
        for ((device, outbox), through) in acks {
            let ack = self.now.rules.ack(&device, outbox, through, &self.director);
            sent.extend(ack.ok().map(|message| Sent::Message(device, message)));
        }
        for device in std::mem::take(&mut self.tell) {
            let told = self.now.rules.trust(&device, None, (&self.time, now.0 / DAY_MS));
            sent.extend(told.into_iter().flatten().map(|message| Sent::Message(device.clone(), message)));
        }
        for id in due {
            let desired = self.now.rules.device(&id).and_then(|device| self.desired(device));
            sent.extend(desired.ok().flatten().map(|message| Sent::Message(id, message)));
        }
        sent
    }

    /// The planted bug: no rollout minds what fails.
    fn bear_everything(&mut self) {
        let all: Vec<Rollout> = self.now.rules.rollouts().cloned().collect();
        for mut rollout in all {
            rollout.policy.failures_max = u32::MAX;
            self.now.rules.apply(Change::Rollout(Box::new(rollout)));
        }
    }

    /// The planted bug: whoever was told to have something and says nothing of it is taken to have it.
    fn believe_the_silent(&mut self) {
        let told: Vec<Device> = self.now.rules.devices().filter(|device| !device.in_sync()).cloned().collect();
        for mut device in told {
            let Some((report, issued)) = device.report.as_mut().zip(device.assignment.as_ref()) else { continue };
            for want in &issued.models {
                let running = Some(Running { version: want.model.version, release: want.release });
                let model = report.models.iter_mut().find(|model| model.name == want.model.name);
                if let Some(model) = model.filter(|model| model.reject.is_none()) {
                    (model.active, model.target, model.phase) = (running, running, Phase::Committed);
                }
            }
            self.now.rules.apply(Change::Device(Box::new(device)));
        }
    }

    fn desired(&self, device: &Device) -> Result<Option<Message>, Denied> {
        self.now.rules.desired(device, &self.director)
    }

    /// It loses what was not flushed, but for the first of it.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        let kept = chance.index(self.pending.len() + 1);
        for changes in self.pending.drain(..).take(kept) {
            self.disk.take(&changes);
        }
        self.now = self.disk.clone();
        self.owed.clear();
        self.tell.clear();
        self.is_up = false;
        if self.mutant == Some(Mutant::ForgetOutboxes) {
            let devices: Vec<Device> = self.now.rules.devices().cloned().collect();
            for device in devices {
                let forgetful = Device { outboxes: BTreeMap::new(), ..device };
                self.now.rules.apply(Change::Device(Box::new(forgetful)));
            }
        }
    }

    /// What a backup holds.
    pub(crate) fn back_up(&mut self) {
        self.flush();
        self.backup = Some(self.disk.clone());
    }

    /// It comes back as the backup has it; false without one.
    pub(crate) fn restore(&mut self) -> bool {
        let Some(backup) = self.backup.clone() else { return false };
        self.pending.clear();
        self.owed.clear();
        self.tell.clear();
        (self.now, self.disk) = (backup.clone(), backup);
        true
    }

    /// The director's key, for whoever has taken the hub over.
    pub(crate) const fn director(&self) -> &SigningKey {
        &self.director
    }
}

/// An epoch of the hub's clock.
const DAY_MS: u64 = 24 * 3600 * 1000;
