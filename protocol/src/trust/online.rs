//! What the hub signs with its online keys.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{Nonce, OutboxId, Statement, StatementType};
use crate::digest::Digest;
use crate::id::{DeviceId, ModelName, ModelRef};
use crate::limit::MODELS_MAX;
use crate::time::Millis;

/// The place of a director's statement in the order of all: generation, then sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order {
    /// The root's director generation.
    pub generation: u32,
    /// Counts up within the generation, per device.
    pub sequence: u64,
}

/// One device's whole desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The device.
    pub device: DeviceId,
    /// Later ones replace earlier ones.
    pub order: Order,
    /// Every model the device should have; what is not named is left as it is.
    pub models: Vec<Wanted, MODELS_MAX>,
    /// Head of the hub's audit chain.
    pub audit: Digest,
}

impl Statement for Assignment {
    const TYPE: StatementType = StatementType::Assignment;
}

/// One model a device should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The model.
    pub name: ModelName,
    /// Digest of the release's body.
    pub release: Digest,
    /// How it should run.
    pub mode: Mode,
}

/// How a model should run, and what its install waits for: a maintenance window, mains, a connection
/// that costs nothing, an application that is busy. Append only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It answers. Its install waits for all of that, but not for a clock: a device that has a window
    /// and does not know the time goes on.
    #[default]
    Active,
    /// It scores beside the active one and answers nobody. Its install waits as for `Active`.
    Shadow,
    /// It answers, and its install waits for nothing.
    Urgent,
    /// It answers. A device that has a window and does not know the time waits until it does.
    Patient,
}

/// A request to one device, from a fixed list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The device.
    pub device: DeviceId,
    /// Carried out once, in order; counted apart from assignments.
    pub order: Order,
    /// What to do.
    pub request: Request,
}

impl Statement for Command {
    const TYPE: StatementType = StatementType::Command;
}

/// What a command may ask. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Send a report and the scores so far, now.
    Report,
    /// Send the end of the log, now.
    Log,
}

/// What the hub has durably taken from one outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The device.
    pub device: DeviceId,
    /// The outbox, as it named itself at its creation.
    pub outbox: OutboxId,
    /// Every record up to and including this sequence.
    pub through: u64,
}

impl Statement for Ack {
    const TYPE: StatementType = StatementType::Ack;
}

/// Logical time, told to one device in answer to its nonce. It raises no floor: it only says
/// whether what has a validity may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The root's time generation.
    pub generation: u32,
    /// Counts up within the generation; days since 1970 by the hub's clock.
    pub epoch: u64,
    /// The nonce of the [`super::Known`] that it answers.
    pub nonce: Nonce,
}

impl Statement for Epoch {
    const TYPE: StatementType = StatementType::Epoch;
}

/// The registry's word on how far the audit chain goes and what its head is: who holds it finds any
/// edit or cut before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Number of the last event.
    pub sequence: u64,
    /// The head after it.
    pub head: Digest,
    /// The hub's clock.
    pub at: Millis,
}

impl Statement for AuditHead {
    const TYPE: StatementType = StatementType::AuditHead;
}

/// The registry's word that it gave this version and repeated the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Model and version.
    pub model: ModelRef,
    /// Digest of the package.
    pub package: Digest,
    /// Whether its golden vectors were reproduced; false when it came without.
    pub golden: bool,
}

impl Statement for Attestation {
    const TYPE: StatementType = StatementType::Attestation;
}
