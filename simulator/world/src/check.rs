//! What must hold: after every step for the device it was about, after every turn of the hub for what
//! it told, and at the end for everything.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_agent_core::State;
use bellwether_hub_core::Rules;
use bellwether_hub_core::fleet::{Device as Known, Standing};
use bellwether_hub_core::rollout::Rollout;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::{DeviceId, ModelName};
use bellwether_protocol::trust::{Cohort, FleetId, KeyId, Order, OutboxId};

use crate::device::{Device, Pushed};
use crate::hub::Stored;

/// A release as people signed it.
#[derive(Clone, Debug)]
pub(crate) struct Lawful {
    pub(crate) name: ModelName,
    pub(crate) salt: [u8; 16],
    pub(crate) floor: u32,
    pub(crate) grants: Vec<Cohort>,
}

impl Lawful {
    fn reaches(&self, fleet: FleetId, device: KeyId) -> bool {
        self.grants.iter().any(|cohort| cohort.reaches(fleet, &self.salt, device))
    }
}

/// What was seen of one device so far.
#[derive(Clone, Debug, Default)]
struct Seen {
    order: Order,
    root: u32,
    floors: BTreeMap<ModelName, u32>,
    /// Rows it put into its outboxes, and those that it was told to forget.
    pushed: BTreeMap<(OutboxId, u64), u64>,
    acknowledged: BTreeSet<u64>,
    told: Order,
}

/// Everything that is held against what happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Check {
    pub(crate) lawful: BTreeMap<Digest, Lawful>,
    devices: BTreeMap<DeviceId, Seen>,
    /// What the hub told each device under each order.
    said: BTreeMap<(DeviceId, Order), Digest>,
    /// The hub came back from a backup: what it acknowledged or told after that is gone.
    pub(crate) was_restored: bool,
    pub(crate) commits: BTreeSet<(DeviceId, Digest)>,
}

impl Check {
    fn floor_max(&self, name: &ModelName) -> u32 {
        self.lawful.values().filter(|lawful| lawful.name == *name).map(|lawful| lawful.floor).max().unwrap_or(0)
    }

    /// What a device has committed, as it may have told others even if it has no power any more.
    pub(crate) fn committed(&mut self, device: &Device) {
        let models = device.agent.iter().flat_map(|agent| &agent.brain.state().models);
        let releases = models.flat_map(|model| &model.committed);
        self.commits.extend(releases.map(|release| (device.id.clone(), *release)));
    }

    /// A device after a step of its own.
    pub(crate) fn device(&mut self, device: &Device, key: KeyId, fleet: FleetId) -> Result<(), String> {
        let Some(agent) = &device.agent else { return Ok(()) };
        let state: &State = agent.brain.state();
        for model in &state.models {
            let who = || format!("{} of {}", model.name, device.id);
            for held in [model.active, model.previous].into_iter().flatten() {
                let release = held.target.running.release;
                if !self.lawful.contains_key(&release) {
                    return Err(format!("{}: {release} answers, and people never approved it", who()));
                }
            }
            if let Some(target) = model.install.target() {
                let release = target.running.release;
                let Some(lawful) = self.lawful.get(&release) else {
                    return Err(format!("{}: {release} is installed, and people never approved it", who()));
                };
                if !lawful.reaches(fleet, key) && !model.committed.contains(&release) {
                    return Err(format!("{}: {release} is installed, and no grant reaches the device", who()));
                }
            }
            if model.floor > self.floor_max(&model.name) {
                return Err(format!("{}: its floor {} is above what any release says", who(), model.floor));
            }
            if let (Some(active), Some(previous)) = (model.active, model.previous)
                && active.slot == previous.slot
            {
                return Err(format!("{}: two releases in one slot", who()));
            }
        }
        for (name, running) in &agent.serving {
            let active = state.models.iter().find(|model| model.name == *name).and_then(|model| model.active);
            let is_active = active.is_some_and(|held| held.target.running.release == running.release);
            if !is_active && !device.is_busy() {
                return Err(format!("{name} of {}: {} answers, and is not what is active", device.id, running.version));
            }
        }
        let seen = self.devices.entry(device.id.clone()).or_default();
        if state.seen < seen.order {
            return Err(format!("{}: its order went from {:?} to {:?}", device.id, seen.order, state.seen));
        }
        let root = agent.brain.root().root().version;
        if root < seen.root {
            return Err(format!("{}: its root went from {} to {root}", device.id, seen.root));
        }
        for model in &state.models {
            let floor = seen.floors.entry(model.name.clone()).or_default();
            if model.floor < *floor {
                return Err(format!("{} of {}: its floor went from {floor} to {}", model.name, device.id, model.floor));
            }
        }
        // What is on disk, or was told to others as if it were, never goes back.
        if device.stands_by_it() {
            (seen.order, seen.root) = (state.seen, root);
            for model in &state.models {
                seen.floors.insert(model.name.clone(), model.floor);
            }
        }
        Ok(())
    }

    /// Whether what a device loads is what was approved.
    pub(crate) fn loaded(&self, device: &Device) -> Result<(), String> {
        let Some(agent) = &device.agent else { return Ok(()) };
        if let Some(name) = &device.lost {
            return Err(format!("{name} of {}: it answered before the power cut, and its bytes are gone", device.id));
        }
        for model in &agent.brain.state().models {
            let Some(active) = model.active else { continue };
            let serves = agent
                .serving
                .iter()
                .any(|(name, running)| *name == model.name && running.release == active.target.running.release);
            if serves && !device.read_right(&model.name) {
                return Err(format!("{} of {}: it was loaded from bytes that nobody approved", model.name, device.id));
            }
        }
        Ok(())
    }

    pub(crate) fn pushed(&mut self, device: &DeviceId, pushed: Pushed) {
        let seen = self.devices.entry(device.clone()).or_default();
        seen.pushed.insert((pushed.outbox, pushed.number), pushed.id);
    }

    /// A device has power again: numbers that never came to its disk are given to other records.
    pub(crate) fn restarted(&mut self, device: &DeviceId, (outbox, newest): (OutboxId, u64)) {
        let seen = self.devices.entry(device.clone()).or_default();
        seen.pushed.retain(|(of, number), _| *of == outbox && *number <= newest);
    }

    /// A device was told to forget: what it had there must be with the hub for good.
    pub(crate) fn forgotten(
        &mut self,
        device: &DeviceId,
        (outbox, through): (OutboxId, u64),
        stored: &Stored,
    ) -> Result<(), String> {
        let seen = self.devices.entry(device.clone()).or_default();
        let gone: Vec<((OutboxId, u64), u64)> =
            seen.pushed.range((outbox, 0)..=(outbox, through)).map(|(place, id)| (*place, *id)).collect();
        let dropped = stored.rules.device(device).map_or(0, |known| known.missing);
        for (place, id) in gone {
            seen.pushed.remove(&place);
            let is_there = stored.rows.get(&(device.clone(), place.0, place.1)) == Some(&id);
            if !is_there && !self.was_restored && dropped == 0 {
                return Err(format!("row {id} of {device} was acknowledged, and the hub has not got it for good"));
            }
            if is_there {
                seen.acknowledged.insert(id);
            }
        }
        Ok(())
    }

    /// What the hub told, after a turn.
    pub(crate) fn told(&mut self, rules: &Rules) -> Result<(), String> {
        let Ok(trusted) = rules.trusted() else { return Ok(()) };
        for device in rules.devices() {
            let Some(issued) = &device.assignment else { continue };
            let seen = self.devices.entry(device.id.clone()).or_default();
            if issued.order == seen.told {
                continue;
            }
            if issued.order < seen.told && !self.was_restored {
                return Err(format!("the hub went back from {:?} to {:?} for {}", seen.told, issued.order, device.id));
            }
            seen.told = issued.order;
            for want in &issued.models {
                let Some(lawful) = self.lawful.get(&want.release) else {
                    return Err(format!("{} was told to have {}, which nobody approved", device.id, want.model));
                };
                if !lawful.reaches(trusted.fleet(), device.key_id()) {
                    return Err(format!("{} was told to have {} without a grant", device.id, want.model));
                }
            }
        }
        Ok(())
    }

    /// A stage passed its gate: whoever counts as healthy has committed the release.
    pub(crate) fn passed(&self, rules: &Rules, rollout: &Rollout, stage: usize) -> Result<(), String> {
        for device in rules.reached(rollout, stage + 1) {
            let counts = device.standing(&rollout.model.name, rollout.release) == Standing::Healthy;
            if counts && !self.commits.contains(&(device.id.clone(), rollout.release)) {
                return Err(format!("{} counts as healthy for {}, and never committed it", device.id, rollout.model));
            }
        }
        Ok(())
    }

    /// A desired state leaves the hub: one order means one content.
    pub(crate) fn desired(&mut self, device: &DeviceId, order: Order, body: Digest) -> Result<(), String> {
        let before = self.said.insert((device.clone(), order), body);
        if before.is_some_and(|before| before != body) && !self.was_restored {
            return Err(format!("{device} was told two things under the order {order:?}"));
        }
        Ok(())
    }

    /// At the end: every row once.
    pub(crate) fn rows(&self, stored: &Stored) -> Result<(), String> {
        let mut once = BTreeMap::new();
        for ((device, outbox, number), id) in &stored.rows {
            if let Some(before) = once.insert(*id, (device, outbox, number)) {
                return Err(format!("row {id} of {device} counts twice: as {before:?} and as {number}"));
            }
        }
        for (id, seen) in &self.devices {
            let counted =
                stored.rows.range((id.clone(), OutboxId([0; 16]), 0)..).take_while(|((device, ..), _)| device == id);
            let collected = stored.rules.device(id).map_or(0, |known| known.collected);
            let counted = counted.count() as u64;
            if counted != collected && !self.was_restored {
                return Err(format!("{id} has {counted} rows, and {collected} are counted"));
            }
            if let Some(lost) = seen.acknowledged.iter().find(|id| !once.contains_key(id))
                && !self.was_restored
            {
                return Err(format!("row {lost} of {id} was acknowledged and is gone"));
            }
        }
        Ok(())
    }
}

/// Whether a device is as it should be, or said why it cannot.
pub(crate) fn has_converged(known: &Known) -> bool {
    known.assignment.as_ref().is_none_or(|issued| {
        issued.models.iter().all(|want| !matches!(known.standing(&want.model.name, want.release), Standing::Updating))
    })
}
