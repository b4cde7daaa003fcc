//! Verifies a desired state: who says it, whether it is newer, and for each release whether people
//! approved it, granted it to this device, and whether the device can run it.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::Vec;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::limit::{MODELS_MAX, PACKAGE_BYTES_MAX};
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Desired, Evidence};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Approved, Assignment, Counters, Order, Release, RoleSet, Running, Signed, Statement, TrustedRoot, Validity, Wanted,
};
use serde::Deserialize;

use crate::update::{Install, Model, Target};
use crate::{Brain, Config, Refused, report};

/// Reads a statement of the director for this device, of the generation in the root.
pub(crate) fn of_director<'a, T: Statement + Addressed + Deserialize<'a>>(
    root: &TrustedRoot,
    config: &Config,
    signed: &Signed<'a>,
) -> Result<T, Reject> {
    let statement: T = root.hub(signed, RoleSet::DIRECTOR)?;
    if *statement.device() != config.device {
        return Err(Reject::WrongDevice);
    }
    if statement.order().generation != root.root().director_generation {
        return Err(Reject::StaleGeneration);
    }
    Ok(statement)
}

/// A statement with a device and a place in the director's order.
pub(crate) trait Addressed {
    fn device(&self) -> &bellwether_protocol::id::DeviceId;
    fn order(&self) -> Order;
}

impl Addressed for Assignment {
    fn device(&self) -> &bellwether_protocol::id::DeviceId {
        &self.device
    }
    fn order(&self) -> Order {
        self.order
    }
}

impl Addressed for bellwether_protocol::trust::Command {
    fn device(&self) -> &bellwether_protocol::id::DeviceId {
        &self.device
    }
    fn order(&self) -> Order {
        self.order
    }
}

/// Why one wanted release is refused; with its version where the release could be read.
pub(crate) struct Unfit {
    pub(crate) version: Option<Version>,
    pub(crate) reject: Reject,
}

/// What a release is checked against.
#[derive(Clone, Copy)]
struct Context<'b> {
    root: &'b TrustedRoot,
    config: &'b Config,
    counters: &'b Counters,
    /// Whether the time known was told on this connection.
    fresh: bool,
}

impl Context<'_> {
    /// Whether something may begin under this validity: only a time told on this connection says so.
    fn admits(&self, validity: Option<Validity>) -> Result<(), Reject> {
        if validity.is_some() && !self.fresh {
            return Err(Reject::NotInEpoch);
        }
        self.counters.admits(validity)
    }
}

/// Checks one wanted release against its evidence. `model` is what the device knows of it so far.
/// Gives it with the time in which it may begin to answer.
fn consider(
    context: Context<'_>,
    wanted: &Wanted,
    desired: &Desired<'_>,
    model: &Model,
) -> Result<(Target, Option<Validity>), Unfit> {
    let Context { root, config, counters, .. } = context;
    let unread = |reject| Unfit { version: None, reject };
    let evidence = desired
        .evidence
        .iter()
        .find(|evidence| evidence.release.digest() == wanted.release)
        .ok_or(unread(Reject::EvidenceMissing))?;
    // What the release says of its version is shown in the report even where signatures fail.
    let version = evidence.release.peek::<Release>().ok().map(|release| release.version);
    let unfit = |reject| Unfit { version, reject };
    let approved = root.approve(&evidence.release).map_err(unfit)?;
    let release = approved.release();
    if release.name != wanted.name {
        return Err(unfit(Reject::EvidenceMissing));
    }
    runs_here(config, release).map_err(unfit)?;
    if release.version.number() < model.floor {
        return Err(unfit(Reject::BelowFloor));
    }
    counters.lawful(release, wanted.release).map_err(unfit)?;
    let mut validity = None;
    // Going back to what once proved itself here needs no live grant, and never expires.
    if !model.committed.contains(&wanted.release) {
        let granted = granted(context, &approved, evidence).map_err(unfit)?;
        context.admits(release.validity).map_err(unfit)?;
        validity = narrower(release.validity, granted);
    }
    Ok((target(release, wanted.release), validity))
}

/// The time that lies in both.
fn narrower(one: Option<Validity>, other: Option<Validity>) -> Option<Validity> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Some(Validity { from: one.from.max(other.from), until: one.until.min(other.until) })
        }
        (one, other) => one.or(other),
    }
}

fn target(release: &Release, digest: Digest) -> Target {
    Target {
        running: Running { version: release.version, release: digest },
        package: release.package,
        tensors: release.tensors,
        floor: release.security_floor,
    }
}

/// What the release asks of hardware, agent and memory.
fn runs_here(config: &Config, release: &Release) -> Result<(), Reject> {
    if release.kind != Kind::Model {
        return Err(Reject::WrongKind);
    }
    if !release.hardware.is_empty() && !release.hardware.contains(&config.hardware) {
        return Err(Reject::WrongHardware);
    }
    if release.requires.agent > config.agent {
        return Err(Reject::AgentTooOld);
    }
    if release.requires.operators > config.operators {
        return Err(Reject::OperatorsUnsupported);
    }
    if release.requires.memory_kib > config.memory_kib {
        return Err(Reject::NotEnoughMemory);
    }
    if release.package.size > PACKAGE_BYTES_MAX {
        return Err(Reject::TooLarge);
    }
    Ok(())
}

/// Whether people granted the release to this device; and until when.
fn granted(context: Context<'_>, approved: &Approved, evidence: &Evidence<'_>) -> Result<Option<Validity>, Reject> {
    let signed = evidence.grant.as_ref().ok_or(Reject::NotGranted)?;
    let granted = context.root.grant(approved, signed)?;
    if !context.root.reaches(approved, &granted, context.config.key) {
        return Err(Reject::NotGranted);
    }
    context.counters.knows(granted.grant().checkpoint)?;
    context.admits(granted.grant().validity)?;
    Ok(granted.grant().validity)
}

impl Brain {
    pub(crate) fn desired(&mut self, now: Millis, desired: &Desired<'_>) -> Result<(), Refused> {
        let assignment: Assignment = match of_director(&self.root, &self.config, &desired.assignment) {
            Ok(assignment) => assignment,
            Err(reject) => return self.refuse(now, reject),
        };
        let digest = desired.assignment.digest();
        let is_repeat = assignment.order == self.state.seen && digest == self.state.assignment;
        if assignment.order <= self.state.seen && !is_repeat {
            return self.refuse(now, Reject::StaleSequence);
        }
        if let Err(reject) = self.has_place(&assignment) {
            return self.refuse(now, reject);
        }
        self.refused = None;
        (self.state.seen, self.state.assignment, self.state.audit) = (assignment.order, digest, assignment.audit);
        self.withdraw(&assignment);
        self.make_place(&assignment);
        for wanted in &assignment.models {
            self.want(wanted, desired, is_repeat);
        }
        self.put_off(now);
        // A repeat is answered too: the hub sends it because it wants to know.
        self.session.changed(now);
        Ok(())
    }

    /// Whether every model is named once and can have a place, those that may be forgotten aside.
    fn has_place(&self, assignment: &Assignment) -> Result<(), Reject> {
        for (index, wanted) in assignment.models.iter().enumerate() {
            if assignment.models.iter().take(index).any(|before| before.name == wanted.name) {
                return Err(Reject::Malformed);
            }
        }
        let kept = self.state.models.iter().filter(|model| !is_named(assignment, &model.name) && !model.is_blank());
        let is_room = kept.count() + assignment.models.len() <= MODELS_MAX;
        if is_room { Ok(()) } else { Err(Reject::TooManyModels) }
    }

    /// Gives up what is under way for models that the hub does not name any more.
    fn withdraw(&mut self, assignment: &Assignment) {
        let mut moved: Vec<(ModelName, Install), MODELS_MAX> = Vec::new();
        for model in self.state.models.iter_mut().filter(|model| !is_named(assignment, &model.name)) {
            let pushed = moved.push((model.name.clone(), model.install));
            assert!(pushed.is_ok(), "there are no more than the models");
            model.withdraw();
        }
        for (name, before) in moved {
            self.arrived(&name, before);
        }
    }

    /// Gives every model named a place; where there is none, the oldest blank one makes room.
    fn make_place(&mut self, assignment: &Assignment) {
        for wanted in &assignment.models {
            if self.state.models.iter().any(|model| model.name == wanted.name) {
                continue;
            }
            if self.state.models.is_full() {
                let is_free = |model: &Model| !is_named(assignment, &model.name) && model.is_blank();
                if let Some(free) = self.state.models.iter().position(is_free) {
                    self.state.models.remove(free);
                }
            }
            let pushed = self.state.models.push(Model::new(wanted.name.clone()));
            assert!(pushed.is_ok(), "the places were counted before");
        }
    }

    fn want(&mut self, wanted: &Wanted, desired: &Desired<'_>, is_repeat: bool) {
        if self.state.is_given_up(&wanted.name, wanted.release) {
            if is_repeat {
                return;
            }
            self.forgive_crashes(&wanted.name);
        }
        let counters = self.state.trust.counters();
        let context = Context { root: &self.root, config: &self.config, counters, fresh: self.fresh };
        let is_recalled = counters.recalled(&wanted.name, wanted.release).is_some();
        let Some(model) = self.state.models.iter_mut().find(|model| model.name == wanted.name) else {
            return;
        };
        let known = known_target(model, wanted.release);
        // What failed here after its signatures held is not tried again for a mere repeat.
        if is_repeat && known.is_none() && has_failed(&model.install, wanted.release) {
            return;
        }
        let target = match known {
            Some(target) if !is_recalled => Ok((target, None)),
            _ => consider(context, wanted, desired, model),
        };
        let before = model.install;
        let mut expires = None;
        let is_taken = target.is_ok();
        match target {
            Ok((target, validity)) => {
                model.want(target, wanted.mode);
                if known.is_none() {
                    expires = Some((target.running.release, validity));
                }
            }
            Err(unfit) => {
                if unfit.version.is_none() {
                    self.refused = Some(unfit.reject);
                }
                model.refuse(wanted.release, unfit.version, unfit.reject);
            }
        }
        if is_taken {
            self.state.wish(&wanted.name, wanted.mode);
        }
        if let Some((release, validity)) = expires {
            self.state.trust.expires(&self.state.models, release, validity);
        }
        self.arrived(&wanted.name, before);
    }
}

fn is_named(assignment: &Assignment, name: &ModelName) -> bool {
    assignment.models.iter().any(|wanted| wanted.name == *name)
}

/// The release, if it was verified before and is what is being installed, or answers already; not
/// one that is being taken away.
fn known_target(model: &Model, release: Digest) -> Option<Target> {
    let installing = model.install.target();
    if matches!(model.install, Install::RollingBack { .. })
        && installing.is_some_and(|target| target.running.release == release)
    {
        return None;
    }
    let answering = model.active.as_ref().map(|held| &held.target);
    installing.into_iter().chain(answering).find(|target| target.running.release == release).copied()
}

/// Whether this release was tried here and failed by what it is, not by how it was signed.
fn has_failed(install: &Install, release: Digest) -> bool {
    let tried = report::target(install).is_some_and(|running| running.release == release);
    tried && report::reject(install).is_some_and(|reject| reject.code() >= Reject::DigestMismatch.code())
}
