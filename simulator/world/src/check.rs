//! What must hold: after every step for the device it was about, after every turn of the hub for what
//! it told, and at the end for everything.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_agent_core::update::{Install, Model};
use bellwether_agent_core::{Holds, State as Brain};
use bellwether_hub_core::Rules;
use bellwether_hub_core::fleet::{Device as Known, Standing};
use bellwether_hub_core::rollout::{Rollout, State, Step, Verb};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::{DeviceId, ModelName};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, FleetId, Hold, KeyId, Mode, Order, OutboxId};

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
    /// The rollouts that it was told to follow.
    follows: BTreeSet<u64>,
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
    /// Releases that scored in the shadow on a device.
    shadows: BTreeSet<(DeviceId, Digest)>,
    /// Since when, in virtual time, each stage is watched that the hub has watched without a gap.
    pub(crate) soaking: BTreeMap<(u64, usize), Millis>,
    /// Failures that each rollout bears.
    pub(crate) borne: BTreeMap<u64, u32>,
}

impl Check {
    fn floor_max(&self, name: &ModelName) -> u32 {
        self.lawful.values().filter(|lawful| lawful.name == *name).map(|lawful| lawful.floor).max().unwrap_or(0)
    }

    /// What a device has committed or tried in the shadow, as it may have told others even if it has no power any more.
    pub(crate) fn committed(&mut self, device: &Device) {
        for model in device.agent.iter().flat_map(|agent| &agent.brain.state().models) {
            self.commits.extend(model.committed.iter().map(|release| (device.id.clone(), *release)));
            if let Install::Shadow(target) = model.install {
                self.shadows.insert((device.id.clone(), target.running.release));
            }
        }
    }

    /// A device after a step of its own.
    pub(crate) fn device(&mut self, device: &Device, key: KeyId, fleet: FleetId) -> Result<(), String> {
        let Some(agent) = &device.agent else { return Ok(()) };
        let state: &Brain = agent.brain.state();
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
            installs_lawfully(model, (device.holds, state.mode(&model.name)))
                .map_err(|why| format!("{}: {why}", who()))?;
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
            let before = std::mem::take(&mut seen.follows);
            seen.follows = issued.models.iter().map(|want| want.rollout).collect();
            for want in &issued.models {
                let is_new = !before.contains(&want.rollout);
                let may = rules.rollout(want.rollout).is_ok_and(|rollout| match rollout.state {
                    State::Going { .. } | State::Completed => true,
                    State::Paused { .. } => !is_new,
                    State::Aborted | State::RollingBack { .. } | State::RolledBack { .. } => false,
                });
                if !may && !self.was_restored {
                    return Err(format!("{} was told to have {}, whose rollout offers nothing", device.id, want.model));
                }
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

    /// A stage passed its gate: whoever counts as healthy has committed the release, or has it in the
    /// shadow if that is what was wanted.
    pub(crate) fn passed(&self, rules: &Rules, rollout: &Rollout, stage: usize) -> Result<(), String> {
        for device in rules.reached(rollout, stage + 1) {
            let counts =
                device.standing(&rollout.model.name, rollout.release, rollout.policy.mode) == Standing::Healthy;
            let place = (device.id.clone(), rollout.release);
            let has_it = self.commits.contains(&place) || rollout.is_shadow() && self.shadows.contains(&place);
            if counts && !has_it {
                return Err(format!("{} counts as healthy for {}, and never had it", device.id, rollout.model));
            }
        }
        Ok(())
    }

    /// Somebody lets a rollout go on: it bears what the rules say from now on.
    pub(crate) fn goes_on(&mut self, rules: &Rules, id: u64, verb: Verb) {
        if let (Verb::Resume | Verb::Promote, Ok(rollout)) = (verb, rules.rollout(id)) {
            self.borne.insert(id, rollout.policy.failures_max);
        }
    }

    /// No stage passes before it was watched for as long as was asked for, whatever clocks say.
    pub(crate) fn soaks(
        &mut self,
        rules: &Rules,
        before: &[(u64, State)],
        (hub_now, now): (Millis, Millis),
    ) -> Result<(), String> {
        for rollout in rules.rollouts() {
            let was = before.iter().find(|(id, _)| *id == rollout.id).map(|(_, state)| state);
            if let Some(State::Going { stage, step: Step::Soaking { .. } }) = was
                && rollout.stages.get(*stage).is_some_and(|stage| stage.passed_at == Some(hub_now))
                && let Some(since) = self.soaking.remove(&(rollout.id, *stage))
                && now.since(since) < rollout.policy.soak
            {
                let watched = now.since(since).0;
                let asked = rollout.policy.soak.0;
                return Err(format!("rollout {} was watched for {watched} ms of {asked}", rollout.id));
            }
            if let State::Going { stage, step: Step::Soaking { since } } = rollout.state {
                if since == hub_now {
                    self.soaking.insert((rollout.id, stage), now);
                }
            } else {
                self.soaking.retain(|(id, _), _| *id != rollout.id);
            }
        }
        Ok(())
    }

    /// What goes on bears no more failures than it was told to, after a turn.
    pub(crate) fn bears(&self, rules: &Rules, now: Millis) -> Result<(), String> {
        for rollout in rules.rollouts().filter(|rollout| matches!(rollout.state, State::Going { .. })) {
            let counts = rules.counts(rollout, now);
            let failed = counts.failed.saturating_add(counts.slow);
            let borne = self.borne.get(&rollout.id).copied().unwrap_or(u32::MAX);
            if failed > borne && !self.was_restored {
                return Err(format!("rollout {} goes on with {failed} failures, and bears {borne}", rollout.id));
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

/// Whether an install goes on only while it need not wait, and a shadow is one of something else.
fn installs_lawfully(model: &Model, (holds, mode): (Holds, Mode)) -> Result<(), String> {
    let waits = match model.install {
        Install::Fetching(_) => [Hold::Window, Hold::Power, Hold::Metered, Hold::Busy].as_slice(),
        Install::Hashed(_) | Install::SelfTest { .. } => &[Hold::Window, Hold::Power, Hold::Busy],
        Install::Idle
        | Install::Deferred(_)
        | Install::Activating(_)
        | Install::Probation { .. }
        | Install::RollingBack { .. }
        | Install::Settled { .. }
        | Install::Shadow(_) => &[],
    };
    if let Some(hold) = waits.iter().find(|hold| holds.has(**hold) && mode != Mode::Urgent) {
        return Err(format!("it goes on with its install in spite of {hold:?}"));
    }
    if let (Install::Shadow(target), Some(active)) = (model.install, model.active)
        && target.running.release == active.target.running.release
    {
        return Err("it answers and is its own shadow".to_owned());
    }
    Ok(())
}

/// Whether a device is as it should be, or said why it cannot.
pub(crate) fn has_converged(known: &Known) -> bool {
    known.assignment.as_ref().is_none_or(|issued| {
        issued.models.iter().all(|want| !matches!(known.stands(want), Standing::Updating | Standing::Held(_)))
    })
}
