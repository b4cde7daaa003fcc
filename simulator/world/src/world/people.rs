//! What people do: register, approve, roll out, grant, steer, recall, rotate; and at the end, end it.

use bellwether_hub_core::rollout::{OnFailure, Policy, State, Step, Verb};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_protocol::limit::CHUNK_BYTES;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, Mode, Otherwise, Recall, Release, Requires, Root, StageGrant};

use super::World;
use crate::Fault;
use crate::check::Lawful;
use crate::model::{Behaviour, Package, candidate, tensors_digest};
use crate::people::{ADA, BO, CY, DEE, body, hub, public, signed};

const MODELS: [&str; 2] = ["digits", "defects"];

impl World {
    pub(super) fn people(&mut self) {
        if !self.hub.is_up {
            return;
        }
        self.hand_in_roots();
        if self.calm {
            return self.bring_to_an_end();
        }
        let index = self.chance.index(MODELS.len());
        let Some(Ok(name)) = MODELS.get(index).map(|name| name.parse::<ModelName>()) else { return };
        match self.chance.within(0, 19) {
            0..=4 => self.release(&name),
            5..=9 => self.start(&name),
            10..=14 => self.grant_what_waits(250),
            15 | 16 => self.grant_what_waits(1000),
            17 => self.steer(),
            18 if self.chance.one_in(4) => self.recall(&name),
            18 => self.hub.back_up(),
            _ if self.chance.one_in(3) => self.rotate(false),
            _ => {}
        }
        self.hub.flush();
    }

    /// Registers, publishes and approves the next version.
    fn release(&mut self, name: &ModelName) {
        self.seeds += 1;
        let behaviour = if self.has(Fault::BadModels) { Behaviour::draw(&mut self.chance) } else { Behaviour::Good };
        let length = match self.chance.within(0, 3) {
            0 => self.chance.within(CHUNK_BYTES as u64, CHUNK_BYTES as u64 * 2),
            _ => self.chance.within(500, 12_000),
        };
        let seed = self.scenario.seed ^ self.seeds << 40;
        let package = Package::new(seed, usize::try_from(length).unwrap_or(1000), behaviour);
        let (Some(candidate), Some(tensors)) = (candidate(name, &package), tensors_digest()) else { return };
        let registered = self.hub.rules().register(candidate, Vec::new(), "Ada", self.hub_now());
        let Ok(model) = self.hub.make(registered) else { return };
        let version = model.version.number();
        let mut salt = [0; 16];
        for (to, from) in salt.iter_mut().zip(self.chance.number().to_le_bytes()) {
            *to = from;
        }
        let security_floor = if self.chance.one_in(4) { version.saturating_sub(1) } else { 0 };
        let release = Release {
            kind: Kind::Model,
            name: name.clone(),
            version: model.version,
            source: package.reference.digest,
            package: package.reference,
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 8 },
            hardware: Few::new(),
            tensors,
            security_floor,
            salt,
            checkpoint: 0,
            validity: None,
        };
        let bytes = body(&release);
        self.packages.insert(package.reference.digest, package);
        let published =
            self.hub.rules().publish(&model, &signed::<Release>(self.fleet, &bytes, &[ADA]), "Ada", self.hub_now());
        let mut done = self.hub.take(published);
        for approver in [BO, CY] {
            let statement = signed::<Release>(self.fleet, &bytes, &[approver]);
            let signed = self.hub.rules().sign(&model, &statement, "approver", self.hub_now());
            done = done.and(self.hub.take(signed));
        }
        if done.is_ok() {
            let lawful = Lawful { name: name.clone(), salt, floor: security_floor.min(version), grants: Vec::new() };
            self.check.lawful.insert(Digest::of(&bytes), lawful);
            self.say(&format!("{model} is approved: {behaviour:?}, {length} bytes, floor {security_floor}"));
        }
    }

    fn latest(&self, name: &ModelName) -> Option<ModelRef> {
        let rules = self.hub.rules();
        let approved = rules.versions_of(name).filter(|record| rules.approved(record).is_ok());
        approved.map(|record| record.model.clone()).last()
    }

    /// Most rollouts are to answer when a device may be disturbed.
    fn mode(&mut self) -> Mode {
        let modes = [Mode::Active, Mode::Active, Mode::Active, Mode::Shadow, Mode::Urgent, Mode::Patient];
        modes.get(self.chance.index(modes.len())).copied().unwrap_or_default()
    }

    fn start(&mut self, name: &ModelName) {
        let Some(model) = self.latest(name) else { return };
        let count = self.devices.len();
        let named = self.chance.index(count);
        let canary = self.devices.get(named).map(|device| public(&device.key).id());
        let mut stages = vec![Cohort::Buckets(250), Cohort::Buckets(1000)];
        if self.chance.one_in(2) {
            stages.insert(0, Cohort::Devices(canary.into_iter().collect()));
        }
        let policy = Policy {
            soak: Millis(self.chance.within(0, 15_000)),
            failures_max: u32::try_from(self.chance.within(0, 3)).unwrap_or(0),
            silence: Millis(self.chance.within(20_000, 90_000)),
            on_failure: if self.chance.one_in(2) { OnFailure::Pause } else { OnFailure::RollBack },
            p95_us_max: None,
            mode: self.mode(),
        };
        let started = self.hub.rules().start_rollout(&model, stages, policy, "Olga", self.hub_now());
        if let Ok(id) = self.hub.make(started) {
            self.check.borne.insert(id, policy.failures_max);
            self.say(&format!("rollout {id} of {model} starts"));
        }
    }

    /// Grants the stages that wait, as far as `below` of 1000.
    fn grant_what_waits(&mut self, below: u16) {
        let waiting: Vec<(ModelRef, Option<Cohort>)> = self
            .hub
            .rules()
            .rollouts()
            .filter_map(|rollout| match rollout.state {
                State::Going { stage, step: Step::WaitingForGrant } => {
                    Some((rollout.model.clone(), rollout.stages.get(stage).map(|stage| stage.cohort.clone())))
                }
                State::Going { .. }
                | State::Paused { .. }
                | State::Completed
                | State::Aborted
                | State::RollingBack { .. }
                | State::RolledBack { .. } => None,
            })
            .collect();
        for (model, cohort) in waiting {
            let cohort = match cohort {
                Some(Cohort::Buckets(needed)) => Cohort::Buckets(needed.max(below)),
                Some(named) => named,
                None => continue,
            };
            self.grant(&model, &cohort);
        }
    }

    fn grant(&mut self, model: &ModelRef, cohort: &Cohort) {
        let Ok(record) = self.hub.rules().version(model) else { return };
        let Some(release) = record.release.as_ref().map(|release| release.digest()) else { return };
        let grant =
            StageGrant { release, cohort: cohort.clone(), gate: Digest::default(), checkpoint: 0, validity: None };
        let statement = signed::<StageGrant>(self.fleet, &body(&grant), &[BO]);
        let granted = self.hub.rules().add_grant(model, &statement, "Bo", self.hub_now());
        if self.hub.take(granted).is_ok()
            && let Some(lawful) = self.check.lawful.get_mut(&release)
        {
            lawful.grants.push(cohort.clone());
            self.say(&format!("{model} is granted to {cohort:?}"));
        }
    }

    fn steer(&mut self) {
        let going: Vec<u64> =
            self.hub.rules().rollouts().filter(|rollout| rollout.is_going()).map(|rollout| rollout.id).collect();
        let Some(id) = going.get(self.chance.index(going.len())).copied() else { return };
        let verb = Verb::ALL[self.chance.index(Verb::ALL.len())];
        let steered = self.hub.rules().steer(id, verb, "because", "Olga", self.hub_now());
        if self.hub.take(steered).is_ok() {
            self.check.goes_on(self.hub.rules(), id, verb);
            self.say(&format!("rollout {id}: Olga says {}", verb.name()));
        }
    }

    fn recall(&mut self, name: &ModelName) {
        let Some(model) = self.latest(name) else { return };
        let Ok(record) = self.hub.rules().version(&model) else { return };
        let Some(release) = record.release.as_ref().map(|release| release.digest()) else { return };
        let otherwise = if self.chance.one_in(2) { Otherwise::Stop } else { Otherwise::Keep };
        let recall = Recall { name: name.clone(), releases: std::iter::once(release).collect(), otherwise };
        let statement = signed::<Recall>(self.fleet, &body(&recall), &[CY]);
        let recalled = self.hub.rules().add_recall(&statement, "Cy", self.hub_now());
        if self.hub.take(recalled).is_ok() {
            self.hub.tell_lagging();
            self.say(&format!("{model} is recalled, otherwise {otherwise:?}"));
        }
    }

    /// A hub that came back from a backup gets the roots again that it has lost.
    pub(super) fn hand_in_roots(&mut self) {
        let known = self.hub.rules().chain().len();
        for statement in self.roots.iter().skip(known) {
            let added = self.hub.rules().add_root(statement, &hub(), "Bo", self.hub_now());
            if self.hub.take(added).is_err() {
                break;
            }
            self.hub.tell_lagging();
        }
    }

    /// The next root: another generation of the director, or Dee leaves.
    pub(super) fn rotate(&mut self, generation: bool) {
        let Ok(trusted) = self.hub.rules().trusted() else { return };
        let mut next = trusted.root().clone();
        next.version += 1;
        if generation || self.chance.one_in(2) {
            next.director_generation += 1;
        } else if let Some(dee) = next.keys.iter_mut().find(|entry| entry.public == public(&crate::people::key(DEE))) {
            dee.status = bellwether_protocol::trust::KeyStatus::Retired;
        }
        let statement = signed::<Root>(self.fleet, &body(&next), &[BO, CY]);
        let rotated = self.hub.rules().add_root(&statement, &hub(), "Bo", self.hub_now());
        if self.hub.take(rotated).is_ok() {
            self.roots.push(statement);
            self.hub.tell_lagging();
            self.say(&format!("root {} is in force", next.version));
        }
    }

    /// Nobody wants anything new: what is going is granted to the end or given up.
    fn bring_to_an_end(&mut self) {
        self.grant_what_waits(1000);
        let paused: Vec<u64> = self
            .hub
            .rules()
            .rollouts()
            .filter(|rollout| matches!(rollout.state, State::Paused { .. }))
            .map(|rollout| rollout.id)
            .collect();
        for id in paused {
            let verb = if self.chance.one_in(2) { Verb::Resume } else { Verb::Abort };
            let steered = self.hub.rules().steer(id, verb, "the end", "Olga", self.hub_now());
            if self.hub.take(steered).is_ok() {
                self.check.goes_on(self.hub.rules(), id, verb);
                self.say(&format!("rollout {id}: Olga says {}", verb.name()));
            }
        }
        self.hub.flush();
    }
}
