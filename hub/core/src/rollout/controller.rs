//! Drives rollouts: starts them, ticks them, and derives from them what each device should have.

use std::collections::BTreeMap;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, Granted, Phase, Running};

use super::gate::{Input, next};
use super::{Counts, FAILED_DEVICES_MAX, Failures, Pause, Policy, Rollout, Stage, State, Step, covers, plan};
use crate::error::Denied;
use crate::event::What;
use crate::fleet::{Agreed, Desired, Device, Presence, Standing};
use crate::rules::{Change, Changes, Rules};

/// What a device should have, one entry per model.
pub type Desires = Vec<Desired>;

/// What a person can do to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Offer nothing new.
    Pause,
    /// Go on.
    Resume,
    /// End the stage now.
    Promote,
    /// Take it back.
    Abort,
    /// Take it back, and follow until every device that can be reached has returned.
    RollBack,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Promote, Self::Abort, Self::RollBack];

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::RollBack => "rollback",
        }
    }
}

impl Rules {
    /// A rollout.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRollout`].
    pub fn rollout(&self, id: u64) -> Result<&Rollout, Denied> {
        self.rollouts.get(&id).ok_or(Denied::NoRollout(id))
    }

    /// Starts a rollout of an approved version.
    ///
    /// # Errors
    ///
    /// [`Denied::NotApproved`] and its kin, [`Denied::BadPlan`], or [`Denied::RolloutGoing`] while
    /// another one of the same model has not ended.
    pub fn start_rollout(
        &self,
        model: &ModelRef,
        stages: Vec<Cohort>,
        policy: Policy,
        who: &str,
        now: Millis,
    ) -> Result<(u64, Changes), Denied> {
        let approved = self.approved(self.version(model)?)?;
        plan::check(&stages).map_err(Denied::BadPlan)?;
        if let Some(other) = self.of_model(&model.name).find(|rollout| rollout.is_going()) {
            return Err(Denied::RolloutGoing { id: other.id, model: other.model.clone() });
        }
        let id = self.rollouts.keys().next_back().map_or(1, |last| last.saturating_add(1));
        let ran = |other: &&Rollout| other.state == State::Completed && !other.is_shadow() && other.model != *model;
        let before = self.of_model(&model.name).filter(ran).last();
        let rollout = Rollout {
            id,
            model: model.clone(),
            release: approved.digest(),
            salt: approved.release().salt,
            from: before.map(|rollout| rollout.model.version),
            stages: stages
                .into_iter()
                .map(|cohort| Stage { cohort, offered_at: None, passed_at: None, stopped: None })
                .collect(),
            policy,
            state: State::Going { stage: 0, step: Step::WaitingForGrant },
            started_at: now,
            started_by: who.to_owned(),
            ended_at: None,
            failures: Vec::new(),
        };
        let mut changes = self.changes(who, now);
        changes.event(What::RolloutStarted { rollout: id, model: model.clone() });
        let state = self.past_grant(&rollout, rollout.state.clone(), now);
        if state == rollout.state {
            changes.event(What::GrantAwaited { rollout: id, model: model.clone(), stage: 0 });
            changes.push(Change::Rollout(Box::new(rollout)));
        } else {
            self.enter(&mut changes, &rollout, state, "", now);
        }
        Ok((id, changes))
    }

    /// Does what a person asks.
    ///
    /// # Errors
    ///
    /// [`Denied::NotNow`] with the reason.
    pub fn steer(&self, id: u64, verb: Verb, reason: &str, who: &str, now: Millis) -> Result<Changes, Denied> {
        let rollout = self.rollout(id)?;
        let input = match verb {
            Verb::Pause => Input::Pause(reason.to_owned()),
            Verb::Resume => Input::Resume,
            Verb::Promote => Input::Promote(self.counts(rollout, now)),
            Verb::Abort => Input::Abort,
            Verb::RollBack => {
                self.may_roll_back(rollout)?;
                Input::RollBack(reason.to_owned())
            }
        };
        let state = next(&rollout.state, now, input, rollout.policy, rollout.stages.len())
            .map_err(|refused| Denied::NotNow { action: verb.name(), why: refused.to_string() })?;
        let mut changes = self.changes(who, now);
        let (rollout_id, model) = (rollout.id, rollout.model.clone());
        match verb {
            Verb::Resume => changes.event(What::RolloutResumed { rollout: rollout_id, model }),
            Verb::Promote => changes.event(What::RolloutPromoted { rollout: rollout_id, model }),
            Verb::Pause | Verb::Abort | Verb::RollBack => {}
        }
        let mut rollout = rollout.clone();
        // Whoever goes on in spite of failures bears those there are: one more pauses it again.
        if matches!(verb, Verb::Resume | Verb::Promote)
            && matches!(rollout.state, State::Paused { why: Pause::Failures(_) | Pause::Latency(_), .. })
        {
            let Counts { failed, slow, .. } = self.counts(&rollout, now);
            rollout.policy.failures_max = rollout.policy.failures_max.max(failed.saturating_add(slow));
        }
        let state = self.past_grant(&rollout, state, now);
        self.enter(&mut changes, &rollout, state, reason, now);
        Ok(changes)
    }

    /// Takes back every rollout of a release that was recalled.
    pub(crate) fn take_back(&self, changes: &mut Changes, release: Digest, reason: &str, now: Millis) {
        for rollout in self.rollouts.values().filter(|rollout| rollout.release == release) {
            let input = Input::RollBack(reason.to_owned());
            // What ended or is going back already stays so.
            if let Ok(state) = next(&rollout.state, now, input, rollout.policy, rollout.stages.len()) {
                self.enter(changes, rollout, state, reason, now);
            }
        }
    }

    /// A stage that is granted already does not wait for a grant.
    fn past_grant(&self, rollout: &Rollout, state: State, now: Millis) -> State {
        match state {
            State::Going { stage, step: Step::WaitingForGrant } if self.stage_granted(rollout, stage) => {
                State::Going { stage, step: Step::Offering { since: now } }
            }
            State::Going { .. }
            | State::Paused { .. }
            | State::Completed
            | State::Aborted
            | State::RollingBack { .. }
            | State::RolledBack { .. } => state,
        }
    }

    /// Why `verb` would be refused now; `None` if it would be done.
    #[must_use]
    pub fn refusal(&self, rollout: &Rollout, verb: Verb, now: Millis) -> Option<String> {
        let denied = self.steer(rollout.id, verb, "", "", now).err()?;
        Some(if let Denied::NotNow { why, .. } = denied { why } else { denied.to_string() })
    }

    /// Lets time pass for every rollout.
    #[must_use]
    pub fn tick(&self, now: Millis) -> Changes {
        let mut changes = self.changes("hub", now);
        let moves = |state: &State| matches!(state, State::Going { .. } | State::RollingBack { .. });
        for rollout in self.rollouts.values().filter(|rollout| moves(&rollout.state)) {
            let granted = rollout.place().is_some_and(|(stage, _)| self.stage_granted(rollout, stage));
            let returned = matches!(rollout.state, State::RollingBack { .. }) && self.has_returned(rollout, now);
            let input = Input::Tick { granted, counts: self.counts(rollout, now), returned };
            let state = next(&rollout.state, now, input, rollout.policy, rollout.stages.len());
            if let Ok(state) = state
                && state != rollout.state
            {
                let state = self.past_grant(rollout, state, now);
                self.enter(&mut changes, rollout, state, "", now);
            }
        }
        changes
    }

    /// Whether a grant covers this stage of a rollout.
    #[must_use]
    pub fn stage_granted(&self, rollout: &Rollout, stage: usize) -> bool {
        let Some(stage) = rollout.stages.get(stage) else { return false };
        self.granted(&rollout.model).iter().any(|granted| covers(&granted.grant().cohort, &stage.cohort))
    }

    fn granted(&self, model: &ModelRef) -> Vec<Granted> {
        let Ok(record) = self.version(model) else { return Vec::new() };
        let Ok(approved) = self.approved(record) else { return Vec::new() };
        self.grants(record, &approved).map(|(granted, _)| granted).collect()
    }

    /// How the devices of the stages offered so far stand.
    #[must_use]
    pub fn counts(&self, rollout: &Rollout, now: Millis) -> Counts {
        self.counts_through(rollout, rollout.offered(), now)
    }

    /// How the devices of the first `stages` stages stand.
    #[must_use]
    pub fn counts_through(&self, rollout: &Rollout, stages: usize, now: Millis) -> Counts {
        let mut counts = Counts::default();
        for device in self.reached(rollout, stages) {
            counts.total += 1;
            match (standing(device, rollout), device.presence(now)) {
                (Standing::Healthy, _) => {
                    counts.healthy += 1;
                    counts.slow += u32::from(is_slow(device, rollout));
                }
                (Standing::Failed(reject), _) => {
                    counts.failed += 1;
                    counts.failed_slow += u32::from(reject == Reject::LatencyBudget);
                }
                (Standing::Updating, Presence::Online) => counts.updating += 1,
                (Standing::Held(_), Presence::Online) => counts.held += 1,
                (Standing::Updating | Standing::Held(_), Presence::Stale | Presence::Offline | Presence::Never) => {
                    counts.offline += 1;
                }
            }
        }
        counts
    }

    /// The devices of the first `stages` stages.
    pub fn reached<'r>(&'r self, rollout: &'r Rollout, stages: usize) -> impl Iterator<Item = &'r Device> {
        let fleet = self.root.as_ref().map(|root| root.fleet());
        self.devices
            .values()
            .filter(move |device| fleet.is_some_and(|fleet| rollout.reaches(fleet, stages, device.key_id())))
    }

    /// Moves a rollout into `state`, notes stage times, and tells what happened.
    fn enter(&self, changes: &mut Changes, before: &Rollout, state: State, reason: &str, now: Millis) {
        let mut rollout = Rollout { state, ..before.clone() };
        let (id, model) = (rollout.id, rollout.model.clone());
        if is_taken_back(&rollout.state) && !is_taken_back(&before.state) {
            self.note_failures(&mut rollout, before, now);
        }
        let was = before.place();
        let is = rollout.place();
        if let Some((stage, _)) = was
            && is.is_none_or(|(now_at, _)| now_at > stage)
            && !is_taken_back(&rollout.state)
        {
            if let Some(passed) = rollout.stages.get_mut(stage) {
                passed.passed_at = Some(now);
            }
            changes.event(What::StagePassed { rollout: id, model: model.clone(), stage });
            if let Some((stage, _)) = is
                && !self.stage_granted(&rollout, stage)
            {
                changes.event(What::GrantAwaited { rollout: id, model: model.clone(), stage });
            }
        }
        if let Some((stage, Step::Offering { .. })) = is
            && rollout.stages.get(stage).is_some_and(|stage| stage.offered_at.is_none())
        {
            let devices = self.reached(&rollout, stage + 1).count();
            if let Some(offered) = rollout.stages.get_mut(stage) {
                offered.offered_at = Some(now);
            }
            changes.event(What::StageOffered { rollout: id, model: model.clone(), stage, devices });
        }
        match &rollout.state {
            State::Paused { why, .. } => {
                changes.event(What::RolloutPaused { rollout: id, model, why: Pause::text(why) });
            }
            State::Completed => changes.event(What::RolloutCompleted { rollout: id, model }),
            State::Aborted => changes.event(What::RolloutAborted { rollout: id, model, why: reason.to_owned() }),
            State::RollingBack { stage, why, .. } => {
                changes.event(What::RolloutRollingBack { rollout: id, model, stage: *stage, why: why.text() });
            }
            State::RolledBack { why, .. } => {
                changes.event(What::RolloutRolledBack { rollout: id, model, why: why.text() });
            }
            State::Going { .. } => {}
        }
        rollout.ended_at = if rollout.is_going() { None } else { rollout.ended_at.or(Some(now)) };
        changes.push(Change::Rollout(Box::new(rollout)));
    }

    /// How the devices of one stage alone stand.
    #[must_use]
    pub fn counts_of_stage(&self, rollout: &Rollout, stage: &Stage, now: Millis) -> Counts {
        if let Some(stopped) = stage.stopped {
            return stopped;
        }
        let only = Rollout { stages: vec![stage.clone()], ..rollout.clone() };
        let counts = self.counts_through(&only, 1, now);
        if stage.offered_at.is_some() {
            return counts;
        }
        // Before it is offered nobody is updating: devices that are not healthy yet simply wait.
        Counts { updating: 0, held: 0, offline: 0, ..counts }
    }

    /// How a rollout in the shadow did beside what answers, over the devices of the stages offered so
    /// far: against the version that most rows were compared with.
    #[must_use]
    pub fn agreement(&self, rollout: &Rollout) -> Option<Agreed> {
        let mut by_version: BTreeMap<u32, Agreed> = BTreeMap::new();
        for device in self.reached(rollout, rollout.offered()) {
            let Some(told) = device.agreements.get(&rollout.model.name) else { continue };
            if !rollout.is_shadow() || told.version != rollout.model.version.number() {
                continue;
            }
            let none = Agreed { version: told.version, against: told.against, ..Agreed::default() };
            let sum = by_version.entry(told.against).or_insert(none);
            sum.rows = sum.rows.saturating_add(told.rows);
            sum.agreed = sum.agreed.saturating_add(told.agreed);
            sum.passed_by = sum.passed_by.saturating_add(told.passed_by);
            sum.errors = sum.errors.saturating_add(told.errors);
            sum.p95_us = sum.p95_us.max(told.p95_us);
        }
        by_version.into_values().max_by_key(|agreed| agreed.rows)
    }

    /// Devices of the stages offered so far that failed, by reason, the most frequent first.
    #[must_use]
    pub fn failures(&self, rollout: &Rollout) -> Vec<Failures> {
        if is_taken_back(&rollout.state) {
            return rollout.failures.clone();
        }
        let mut by_reason: BTreeMap<u16, Failures> = BTreeMap::new();
        for device in self.reached(rollout, rollout.offered()) {
            let slow = is_slow(device, rollout);
            let reject = match standing(device, rollout) {
                Standing::Failed(reject) => reject,
                Standing::Healthy if slow => Reject::LatencyBudget,
                Standing::Healthy | Standing::Updating | Standing::Held(_) => continue,
            };
            let none = || Failures { reject, count: 0, devices: Vec::new() };
            let failures = by_reason.entry(reject.code()).or_insert_with(none);
            failures.count += 1;
            if failures.devices.len() < FAILED_DEVICES_MAX {
                failures.devices.push(device.id.clone());
            }
        }
        let mut failures: Vec<Failures> = by_reason.into_values().collect();
        failures.sort_by_key(|failures| std::cmp::Reverse(failures.count));
        failures
    }

    /// Keeps how things stood when a rollout is taken back.
    fn note_failures(&self, rollout: &mut Rollout, before: &Rollout, now: Millis) {
        rollout.failures = self.failures(before);
        for stage in &mut rollout.stages {
            stage.stopped = Some(self.counts_of_stage(before, stage, now));
        }
    }

    /// Whether going back leads anywhere: nothing newer of the model has been rolled out since.
    fn may_roll_back(&self, rollout: &Rollout) -> Result<(), Denied> {
        let newer =
            self.of_model(&rollout.model.name).find(|other| other.id > rollout.id && !is_taken_back(&other.state));
        match newer {
            Some(newer) if rollout.state == State::Completed => {
                let why = format!("rollout {} of {} came after it: roll that back", newer.id, newer.model);
                Err(Denied::NotNow { action: Verb::RollBack.name(), why })
            }
            _ => Ok(()),
        }
    }

    /// Whether no device that can be reached has, or is on its way to, what is being taken back. A
    /// device that should have nothing else, or the same by another rollout, keeps what it has; one
    /// that refuses what it should have instead has nowhere to go.
    fn has_returned(&self, rollout: &Rollout, now: Millis) -> bool {
        let name = &rollout.model.name;
        self.devices.values().all(|device| {
            let Some(report) = device.report.as_ref().filter(|_| device.presence(now) == Presence::Online) else {
                return true;
            };
            let Some(model) = report.models.iter().find(|model| model.name == *name) else { return true };
            let has = |running: Option<Running>| running.is_some_and(|running| running.release == rollout.release);
            let is_moving =
                !matches!(model.phase, Phase::Idle | Phase::Committed | Phase::Rejected | Phase::RolledBack);
            let keeps = match self.desires(device).iter().find(|desired| desired.model.name == *name) {
                None => true,
                Some(desired) if desired.release == rollout.release => true,
                Some(desired) => matches!(device.stands(desired), Standing::Failed(_)),
            };
            keeps || !(has(model.active) || has(model.target) && is_moving)
        })
    }

    /// What a device should have: for each model the newest rollout that was not taken back and has
    /// offered it to this device. So a rollout that was taken back gives way to the one before, and a device
    /// that joins late follows the ones that completed. A model scores in the shadow once what should
    /// answer answers: a device without that gets it first.
    #[must_use]
    pub fn desires(&self, device: &Device) -> Desires {
        let Some(fleet) = self.root.as_ref().map(|root| root.fleet()) else { return Vec::new() };
        let key = device.key_id();
        let mut desires: Desires = Vec::new();
        let mut shadows: Desires = Vec::new();
        for rollout in self.rollouts.values().rev() {
            let settled = desires.iter().any(|desired| desired.model.name == rollout.model.name);
            let is_recalled = self.counters.recalled(&rollout.model.name, rollout.release).is_some();
            let is_lost = is_recalled || self.is_beyond(device, &rollout.model);
            if settled || is_lost || !rollout.reaches(fleet, rollout.offered(), key) {
                continue;
            }
            let has = |issued: &crate::fleet::Issued| issued.models.iter().any(|want| want.rollout == rollout.id);
            let paused = matches!(rollout.state, State::Paused { .. });
            if paused && !device.assignment.as_ref().is_some_and(has) {
                continue;
            }
            let (model, release) = (rollout.model.clone(), rollout.release);
            let desired = Desired { model, release, rollout: rollout.id, mode: rollout.policy.mode };
            let shadow = shadows.iter().position(|shadow| shadow.model.name == desired.model.name);
            match shadow {
                None if rollout.is_shadow() => shadows.push(desired),
                // The newest is in the shadow of the newest that answers.
                Some(_) if rollout.is_shadow() => {}
                Some(at) if device.rests_on(&desired.model.name, desired.release) => desires.push(shadows.remove(at)),
                Some(at) => {
                    shadows.remove(at);
                    desires.push(desired);
                }
                None => desires.push(desired),
            }
        }
        desires.append(&mut shadows);
        // Beyond what a device holds, what it has comes before what is new.
        let has = |desired: &Desired| {
            let issued = device.assignment.iter().flat_map(|issued| &issued.models);
            issued.into_iter().any(|want| want.model.name == desired.model.name)
        };
        desires.sort_by_key(|desired| !has(desired));
        desires.truncate(bellwether_protocol::limit::MODELS_MAX);
        desires.sort_by(|a, b| a.model.name.cmp(&b.model.name));
        desires
    }

    fn of_model(&self, name: &ModelName) -> impl Iterator<Item = &Rollout> {
        self.rollouts.values().filter(move |rollout| rollout.model.name == *name)
    }
}

/// How a device stands towards what a rollout offers.
fn standing(device: &Device, rollout: &Rollout) -> Standing {
    device.standing(&rollout.model.name, rollout.release, rollout.policy.mode)
}

/// Whether a device took longer than the policy allows since the rollout began.
fn is_slow(device: &Device, rollout: &Rollout) -> bool {
    device.is_slow(&rollout.model, rollout.policy.p95_us_max, rollout.started_at)
}

/// Whether devices return to what they had.
const fn is_taken_back(state: &State) -> bool {
    matches!(state, State::Aborted | State::RollingBack { .. } | State::RolledBack { .. })
}
