//! Verifies a desired state: who says it, whether it is newer, and for each release whether people
//! approved it, granted it to this device, and whether the device can run it.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::Version;
use bellwether_protocol::limit::PACKAGE_BYTES_MAX;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Desired, Evidence};
use bellwether_protocol::trust::{
    Approved, Assignment, Mode, Order, Release, RoleSet, Running, Signed, Statement, TrustedRoot, Wanted,
};
use serde::Deserialize;

use crate::Config;
use crate::update::{Model, Target};

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

/// Checks one wanted release against its evidence. `model` is what the device knows of it so far.
pub(crate) fn consider(
    (root, config): (&TrustedRoot, &Config),
    wanted: &Wanted,
    desired: &Desired<'_>,
    model: &Model,
) -> Result<Target, Unfit> {
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
    match wanted.mode {
        Mode::Active => {}
        Mode::Shadow => return Err(unfit(Reject::WrongMode)),
    }
    runs_here(config, release).map_err(unfit)?;
    if release.version.number() < model.floor {
        return Err(unfit(Reject::BelowFloor));
    }
    if !model.committed.contains(&wanted.release) {
        granted(root, config, &approved, evidence).map_err(unfit)?;
    }
    Ok(target(release, wanted.release))
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
    // Neither epochs nor checkpoints reach this agent yet, so what depends on them is refused.
    if release.validity.is_some() {
        return Err(Reject::NotInEpoch);
    }
    if release.checkpoint > 0 {
        return Err(Reject::CheckpointMissing);
    }
    Ok(())
}

/// Whether people granted the release to this device.
fn granted(root: &TrustedRoot, config: &Config, approved: &Approved, evidence: &Evidence<'_>) -> Result<(), Reject> {
    let signed = evidence.grant.as_ref().ok_or(Reject::NotGranted)?;
    let granted = root.grant(approved, signed)?;
    if !root.reaches(approved, &granted, config.key) {
        return Err(Reject::NotGranted);
    }
    if granted.grant().validity.is_some() {
        return Err(Reject::NotInEpoch);
    }
    if granted.grant().checkpoint > 0 {
        return Err(Reject::CheckpointMissing);
    }
    Ok(())
}
