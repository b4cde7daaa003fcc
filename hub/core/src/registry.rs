//! Models and their versions: numbering, lineage, and what may not be deleted.

use std::collections::BTreeMap;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::{ModelName, ModelRef, Version};
use bellwether_protocol::manifest::{Kind, Manifest};
use bellwether_protocol::policy::Policy;
use bellwether_protocol::profile::Column;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::PackageRef;
use serde::{Deserialize, Serialize};

use crate::drift::Baseline;
use crate::error::Denied;
use crate::event::What;
use crate::fleet::Device;
use crate::rules::{Change, Changes, Rules};
use crate::trust::{GrantRecord, Rejection, ReleaseRecord};

/// Versions that a hub may have given since its backup was made.
pub const FORGOTTEN_MAX: u32 = 1000;

/// A model: a name and the last number given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name.
    pub name: ModelName,
    /// The last version given; deleted numbers are never given again.
    pub last: Version,
}

/// What a registrant says about a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// For people.
    pub description: String,
    /// `TAG=VALUE`.
    pub tags: BTreeMap<String, String>,
    /// State of the directory it was registered from.
    pub git: Option<Git>,
    /// The data it was trained on.
    pub dataset: Option<String>,
    /// The run that trained it.
    pub run: Option<String>,
    /// The file the publisher started from.
    pub file_name: String,
}

/// State of a git work tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    pub commit: String,
    /// The branch, if on one.
    pub branch: Option<String>,
    /// Whether files differ from the commit.
    pub dirty: bool,
}

/// What the hub found when it repeated the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Why it cannot be deployed and how to convert it; `None` if it can.
    pub advice: Option<String>,
    /// Golden vectors reproduced; `None` if it came without: *unchecked*.
    pub golden: Option<Golden>,
    /// Operators and how often each occurs.
    pub operators: BTreeMap<String, u32>,
    /// ONNX operator set.
    pub opset: u16,
    /// Number of weights.
    pub parameters: u64,
    /// Memory the loaded model needs, in KiB.
    pub memory_kib: u32,
}

/// Golden vectors that were reproduced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Golden {
    /// Rows compared.
    pub rows: u32,
    /// The runtime that made them.
    pub runtime: String,
}

/// A package that passed the hub's checks and asks for a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The package's manifest.
    pub manifest: Manifest,
    /// The package.
    pub package: PackageRef,
    /// Digest of the file the publisher started from.
    pub source: Digest,
    /// What its registrant says.
    pub lineage: Lineage,
    /// What the hub found.
    pub checks: Checks,
    /// What it asks of devices.
    pub policy: Policy,
    /// What its values looked like where it was made; empty if it came without a baseline.
    pub baseline: Vec<Column>,
}

/// A registered version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Name and number.
    pub model: ModelRef,
    /// What the package is for.
    pub kind: Kind,
    /// The package's manifest.
    pub manifest: Manifest,
    /// The package.
    pub package: PackageRef,
    /// Digest of the file the publisher started from.
    pub source: Digest,
    /// What its registrant says.
    pub lineage: Lineage,
    /// What the hub found.
    pub checks: Checks,
    /// What it asks of devices.
    #[serde(default)]
    pub policy: Policy,
    /// When it was registered.
    pub registered_at: Millis,
    /// By whom.
    pub registered_by: String,
    /// The registry's signed attestation; a frame.
    pub attestation: Vec<u8>,
    /// What the publisher signed, with every signature so far.
    pub release: Option<ReleaseRecord>,
    /// Who rejected that, and why, if somebody did.
    #[serde(default)]
    pub rejection: Option<Rejection>,
    /// Grants for it.
    pub grants: Vec<GrantRecord>,
    /// Releases of it that were signed before: recalled since, or renewed. Devices may run them.
    #[serde(default)]
    pub earlier: Vec<ReleaseRecord>,
}

impl VersionRecord {
    /// Every release of it, the latest first.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseRecord> {
        self.release.iter().chain(self.earlier.iter().rev())
    }
}

impl Rules {
    /// The version the next registration of `name` gets.
    ///
    /// # Errors
    ///
    /// [`Denied::VersionsUsedUp`].
    pub fn next_version(&self, name: &ModelName) -> Result<Version, Denied> {
        let last = self.models.get(name).map(|model| model.last).max(self.reported(name));
        last.map_or(Ok(Version::FIRST), |last| last.next().ok_or_else(|| Denied::VersionsUsedUp(name.clone())))
    }

    /// The highest version of a model that any device reports: a hub that was restored from a backup
    /// has forgotten numbers that it gave. What lies further ahead than a backup can is a device's
    /// fancy, and does not use the numbers up.
    fn reported(&self, name: &ModelName) -> Option<Version> {
        let last = self.models.get(name).map_or(0, |model| model.last.number());
        let reports = self.devices.values().filter_map(|device| device.report.as_ref());
        let models = reports.flat_map(|report| &report.models).filter(|model| model.name == *name);
        let versions = models.flat_map(|model| [model.active, model.target]).flatten().map(|running| running.version);
        versions.filter(|version| version.number().saturating_sub(last) <= FORGOTTEN_MAX).max()
    }

    /// Whether a device runs a version, no earlier than `model`, that this hub has forgotten: it is
    /// left as it is until something newer is rolled out.
    pub(crate) fn is_beyond(&self, device: &Device, model: &ModelRef) -> bool {
        let reported = device.report.iter().flat_map(|report| &report.models).find(|one| one.name == model.name);
        let Some(running) = reported.and_then(|reported| reported.active) else { return false };
        let is_it = |record: &VersionRecord| record.releases().any(|release| release.digest() == running.release);
        running.version >= model.version && !self.versions_of(&model.name).any(is_it)
    }

    /// Registers a candidate under the next version of its name, with the attestation that the
    /// shell signed for exactly that version.
    ///
    /// # Errors
    ///
    /// [`Denied::VersionsUsedUp`].
    pub fn register(
        &self,
        candidate: Candidate,
        attestation: Vec<u8>,
        who: &str,
        now: Millis,
    ) -> Result<(ModelRef, Changes), Denied> {
        let name = candidate.manifest.name.clone();
        let version = self.next_version(&name)?;
        let model = ModelRef { name: name.clone(), version };
        let record = VersionRecord {
            model: model.clone(),
            kind: candidate.manifest.kind,
            manifest: candidate.manifest,
            package: candidate.package,
            source: candidate.source,
            lineage: candidate.lineage,
            checks: candidate.checks,
            policy: candidate.policy,
            registered_at: now,
            registered_by: who.to_owned(),
            attestation,
            release: None,
            rejection: None,
            grants: Vec::new(),
            earlier: Vec::new(),
        };
        let mut changes = self.changes(who, now);
        changes.event(What::VersionRegistered {
            model: model.clone(),
            deployable: record.checks.advice.is_none(),
            golden: record.checks.golden.is_some(),
        });
        changes.push(Change::Model(Model { name, last: version }));
        changes.push(Change::Version(Box::new(record)));
        if !candidate.baseline.is_empty() {
            let baseline = Baseline { model: model.clone(), columns: candidate.baseline };
            changes.push(Change::Baseline(Box::new(baseline)));
        }
        Ok((model, changes))
    }

    /// Deletes a version that nothing needs.
    ///
    /// # Errors
    ///
    /// [`Denied::NoVersion`]; [`Denied::InUse`] if a device desires or reports it or a rollout
    /// names it.
    pub fn delete_version(&self, model: &ModelRef, who: &str, now: Millis) -> Result<Changes, Denied> {
        let record = self.version(model)?;
        let is_used = |device: &&Device| {
            device.needs(model, None) || record.releases().any(|release| device.needs(model, Some(release.digest())))
        };
        let user = self.devices.values().find(is_used);
        let rollout = self.rollouts.values().find(|rollout| rollout.model == *model);
        let by = match (user, rollout) {
            (Some(device), _) => format!("device {} desires or reports it", device.id),
            (None, Some(rollout)) => format!("rollout {} names it", rollout.id),
            (None, None) => {
                let mut changes = self.changes(who, now);
                changes.event(What::VersionDeleted { model: model.clone() });
                changes.push(Change::VersionGone(model.clone()));
                self.unwatch(&mut changes, model);
                return Ok(changes);
            }
        };
        Err(Denied::InUse { model: model.clone(), by })
    }

    /// A version.
    ///
    /// # Errors
    ///
    /// [`Denied::NoModel`] or [`Denied::NoVersion`].
    pub fn version(&self, model: &ModelRef) -> Result<&VersionRecord, Denied> {
        if !self.models.contains_key(&model.name) {
            return Err(Denied::NoModel(model.name.clone()));
        }
        self.versions.get(model).ok_or_else(|| Denied::NoVersion(model.clone()))
    }

    /// All versions of a model, oldest first.
    pub fn versions_of(&self, name: &ModelName) -> impl Iterator<Item = &VersionRecord> {
        let first = ModelRef { name: name.clone(), version: Version::FIRST };
        self.versions.range(first..).map(|(_, record)| record).take_while(|record| record.model.name == *name)
    }
}
