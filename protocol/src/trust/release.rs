//! Releases and grants: what people sign.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{FleetId, KeyId, Statement, StatementType};
use crate::digest::{Digest, Hasher};
use crate::id::{HardwareClass, ModelName, ModelRef, Version};
use crate::limit::{BUCKETS, GRANT_DEVICES_MAX, HARDWARE_MAX};
use crate::manifest::Kind;

/// One version of one model, as its publisher made it and k approvers checked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What the package is for.
    pub kind: Kind,
    /// The model.
    pub name: ModelName,
    /// The version the registry gave.
    pub version: Version,
    /// Digest of the file the publisher started from.
    pub source: Digest,
    /// The prepared package.
    pub package: PackageRef,
    /// What a device must offer.
    pub requires: Requires,
    /// Hardware classes it runs on; empty for any.
    pub hardware: Vec<HardwareClass, HARDWARE_MAX>,
    /// Digest of the frame with the package's tensor signature.
    pub tensors: Digest,
    /// Once committed, no version below this may come back.
    pub security_floor: u32,
    /// Drawn on a person's machine; with it nobody online chooses who goes first.
    pub salt: [u8; 16],
    /// Least checkpoint a device must know.
    pub checkpoint: u64,
    /// When it may be newly installed; always, if absent.
    pub validity: Option<Validity>,
}

impl Statement for Release {
    const TYPE: StatementType = StatementType::Release;
}

impl Release {
    /// Model and version, for people.
    #[must_use]
    pub fn model(&self) -> ModelRef {
        ModelRef { name: self.name.clone(), version: self.version }
    }
}

/// A package by its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRef {
    /// Digest of all bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the table of chunk digests, 32 bytes each.
    pub chunks: Digest,
}

/// What a device must offer to run a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requires {
    /// Least agent version: major, minor, patch.
    pub agent: [u16; 3],
    /// Least version of the ONNX operator set.
    pub operators: u16,
    /// Memory for the loaded model, in KiB.
    pub memory_kib: u32,
}

/// Logical epochs, both included, in which a statement may start something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// First epoch.
    pub from: u64,
    /// Last epoch.
    pub until: u64,
}

/// Whom a stage may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageGrant {
    /// Digest of the release's body.
    pub release: Digest,
    /// The devices.
    pub cohort: Cohort,
    /// Digest of the gate policy that the signer saw.
    pub gate: Digest,
    /// Least checkpoint a device must know.
    pub checkpoint: u64,
    /// When it may start something new; always, if absent.
    pub validity: Option<Validity>,
}

impl Statement for StageGrant {
    const TYPE: StatementType = StatementType::StageGrant;
}

/// A set of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "no allocation here")]
pub enum Cohort {
    /// Devices whose [`bucket`] is below this number of 1000.
    Buckets(u16),
    /// Devices by their keys.
    Devices(Vec<KeyId, GRANT_DEVICES_MAX>),
}

impl Cohort {
    /// Whether the device with this key belongs to the cohort of `release`.
    #[must_use]
    pub fn reaches(&self, fleet: FleetId, salt: &[u8; 16], device: KeyId) -> bool {
        match self {
            Self::Buckets(below) => bucket(fleet, salt, device) < *below,
            Self::Devices(devices) => devices.contains(&device),
        }
    }
}

/// The device's bucket of [`BUCKETS`] for one release:
/// `SHA-256("bw-bucket" fleet salt device-key)`, its first eight bytes as a number, modulo 1000.
#[must_use]
pub fn bucket(fleet: FleetId, salt: &[u8; 16], device: KeyId) -> u16 {
    let mut hasher = Hasher::default();
    for part in [b"bw-bucket".as_slice(), &fleet.0, salt, &device.0] {
        hasher.update(part);
    }
    let number = hasher.finish().transfer().0;
    u16::try_from(number % u64::from(BUCKETS)).unwrap_or(u16::MAX)
}
