//! What changes what counts: later roots, recalls and checkpoints, as people signed them, and which
//! of them a device still lacks.
//!
//! The hub keeps [`Counters`] as devices do, so what it believes is what a device that heard
//! everything believes. It can withhold these statements, but neither make nor change one.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, Version};
use bellwether_protocol::limit::ROOT_STEPS_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Counters, KeyEntry, KeyStatus, Known, PublicKey, Recall, RoleSet, Signed, Tick, TrustedRoot,
};
use serde::{Deserialize, Serialize};

use crate::error::Denied;
use crate::event::What;
use crate::fleet::Device;
use crate::registry::VersionRecord;
use crate::rules::{Change, Changes, Rules};
use crate::trust::HubPublic;

/// Recalls kept, those that no longer count included.
pub const RECALLS_KEPT_MAX: usize = 256;

/// A root after the first, as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStep {
    /// Its version, from 2.
    pub version: u32,
    /// A frame with the signed root.
    pub statement: Vec<u8>,
    /// When it arrived.
    pub at: Millis,
}

/// A recall as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallRecord {
    /// Counted from 1.
    pub number: u64,
    /// A frame with the signed recall.
    pub statement: Vec<u8>,
    /// When it arrived.
    pub at: Millis,
}

/// The latest checkpoint as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its number.
    pub number: u64,
    /// A frame with the signed checkpoint.
    pub statement: Vec<u8>,
    /// When it arrived.
    pub at: Millis,
}

/// What a device said it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// Version of its root.
    pub root: u32,
    /// Number of its checkpoint.
    pub checkpoint: u64,
    /// Digest of the recalls it knows.
    pub recalls: Digest,
    /// Its latest logical time.
    pub tick: Option<Tick>,
    /// When it said so.
    pub at: Millis,
}

/// Frames of signed statements that a device lacks, in the order in which it must hear them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking<'r> {
    /// Roots after the one it believes.
    pub roots: Vec<&'r [u8]>,
    /// All recalls, if it does not know exactly those.
    pub recalls: Vec<&'r [u8]>,
    /// The latest checkpoint, if it is later than its own.
    pub checkpoint: Option<&'r [u8]>,
}

impl Rules {
    /// Takes the root that follows the one in force; it must list this hub's own keys.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRoot`], [`Denied::BadRoot`], [`Denied::NotThisHub`].
    pub fn add_root(&self, statement: &[u8], hub: &HubPublic, who: &str, now: Millis) -> Result<Changes, Denied> {
        let next = step(self.trusted()?, statement).map_err(Denied::BadRoot)?;
        lists_hub(&next, hub)?;
        let version = next.root().version;
        let mut changes = self.changes(who, now);
        changes.event(What::RootRotated { version, persons: signers(&next, statement) });
        self.answer_key_requests(next.root(), &mut changes);
        changes.push(Change::RootStep(RootStep { version, statement: statement.to_vec(), at: now }));
        Ok(changes)
    }

    /// Takes a recall, and takes back every rollout of what it names.
    ///
    /// # Errors
    ///
    /// [`Denied::Statement`] with the reason why it does not count; [`Denied::NotNow`] if too many
    /// are kept.
    pub fn add_recall(&self, statement: &[u8], who: &str, now: Millis) -> Result<Changes, Denied> {
        let root = self.trusted()?;
        let signed: Signed<'_> = frame::decode(statement).map_err(Denied::Statement)?;
        let mut counters = self.counters.clone();
        let recall = counters.recall(root, &signed).map_err(Denied::Statement)?;
        let mut changes = self.changes(who, now);
        if counters == self.counters && self.recalls.iter().any(|record| record.statement == statement) {
            return Ok(changes);
        }
        if self.recalls.len() >= RECALLS_KEPT_MAX {
            let why = format!("{RECALLS_KEPT_MAX} recalls are kept; raise a floor by a checkpoint instead");
            return Err(Denied::NotNow { action: "recall", why });
        }
        let person = signers(root, statement);
        let versions = self.versions_recalled(&recall);
        let otherwise = recall.otherwise;
        changes.event(What::Recalled { name: recall.name.clone(), versions, person: person.clone(), otherwise });
        let number = self.recalls.last().map_or(1, |last| last.number.saturating_add(1));
        changes.push(Change::Recall(RecallRecord { number, statement: statement.to_vec(), at: now }));
        for release in &recall.releases {
            self.take_back(&mut changes, *release, &format!("recalled by {person}"), now);
        }
        Ok(changes)
    }

    /// Takes a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Denied::Statement`] with the reason why it does not count.
    pub fn add_checkpoint(&self, statement: &[u8], who: &str, now: Millis) -> Result<Changes, Denied> {
        let root = self.trusted()?;
        let signed: Signed<'_> = frame::decode(statement).map_err(Denied::Statement)?;
        let mut counters = self.counters.clone();
        let checkpoint = counters.checkpoint(root, &signed).map_err(Denied::Statement)?;
        let mut changes = self.changes(who, now);
        if self.checkpoint.as_ref().is_some_and(|known| known.number == checkpoint.number) {
            // Two different checkpoints of one number would divide the fleet.
            let same = self.checkpoint.as_ref().is_some_and(|known| known.statement == statement);
            return if same { Ok(changes) } else { Err(Denied::Statement(Reject::StaleCheckpoint)) };
        }
        let number = checkpoint.number;
        changes.event(What::CheckpointTaken { number, person: signers(root, statement) });
        changes.push(Change::Checkpoint(CheckpointRecord { number, statement: statement.to_vec(), at: now }));
        for recalled in &checkpoint.recalls {
            self.take_back(&mut changes, recalled.release, &format!("recalled by checkpoint {number}"), now);
        }
        Ok(changes)
    }

    /// Takes what a device says it knows, already verified against its key.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn learnt(&self, known: &Known, now: Millis) -> Result<Changes, Denied> {
        let device = self.device(&known.device)?;
        let Known { root, checkpoint, recalls, tick, .. } = known.clone();
        let learnt = Some(Learnt { root, checkpoint, recalls, tick, at: now });
        let mut changes = self.changes(known.device.as_str(), now);
        changes.push(Change::Device(Box::new(Device { learnt, ..device.clone() })));
        Ok(changes)
    }

    /// What a device lacks, going by what it last said it knows; everything, if it never did.
    #[must_use]
    pub fn lacking(&self, device: &Device) -> Lacking<'_> {
        let learnt = device.learnt.as_ref();
        let root = learnt.map_or(1, |learnt| learnt.root);
        let roots = self.chain.iter().filter(|step| step.version > root);
        let knows_recalls = learnt.is_some_and(|learnt| learnt.recalls == self.counters.recalls_digest());
        let counting = |record: &&RecallRecord| !knows_recalls && self.counts_still(record);
        let number = learnt.map_or(0, |learnt| learnt.checkpoint);
        Lacking {
            roots: roots.take(ROOT_STEPS_MAX).map(|step| step.statement.as_slice()).collect(),
            recalls: self.recalls.iter().filter(counting).map(|record| record.statement.as_slice()).collect(),
            checkpoint: self
                .checkpoint
                .as_ref()
                .filter(|known| known.number > number)
                .map(|known| known.statement.as_slice()),
        }
    }

    /// Devices that lack something and can be told now.
    pub fn lagging(&self) -> impl Iterator<Item = &DeviceId> {
        let open = self.devices.values().filter(|device| device.session.open);
        open.filter(|device| self.lacking(device) != Lacking::default()).map(|device| &device.id)
    }

    /// How many devices have not said yet that they know everything that counts.
    #[must_use]
    pub fn behind(&self) -> usize {
        let all = self.all_that_counts();
        self.devices.values().filter(|device| !knows(device, &all)).count()
    }

    /// Whether a device said that it knows everything that counts.
    #[must_use]
    pub fn knows_all(&self, device: &Device) -> bool {
        knows(device, &self.all_that_counts())
    }

    fn all_that_counts(&self) -> (u32, Digest, u64) {
        let version = self.root.as_ref().map_or(0, |root| root.root().version);
        (version, self.counters.recalls_digest(), self.counters.checkpoint_number())
    }

    /// Recalls, checkpoint and floors in force.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every root after the first, in order.
    #[must_use]
    pub fn chain(&self) -> &[RootStep] {
        &self.chain
    }

    /// Every recall, oldest first.
    #[must_use]
    pub fn recalls(&self) -> &[RecallRecord] {
        &self.recalls
    }

    /// The latest checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> Option<&CheckpointRecord> {
        self.checkpoint.as_ref()
    }

    /// Whether a version's release was recalled.
    #[must_use]
    pub fn is_recalled(&self, record: &VersionRecord) -> bool {
        let release = record.release.as_ref().map(|release| release.digest());
        release.is_some_and(|digest| self.counters.recalled(&record.model.name, digest).is_some())
    }

    pub(crate) fn apply_root_step(&mut self, record: RootStep) {
        let next = self.root.as_ref().and_then(|root| step(root, &record.statement).ok());
        // A step that does not hold was never decided: damage, and then nothing after it holds.
        let Some(next) = next else { return };
        self.counters.root_changed(&next);
        self.root = Some(next);
        self.chain.push(record);
    }

    pub(crate) fn apply_recall(&mut self, record: RecallRecord) {
        if let (Some(root), Ok(signed)) = (&self.root, frame::decode(&record.statement)) {
            // One whose key was revoked since does not count any more.
            let _refused = self.counters.recall(root, &signed);
        }
        self.recalls.push(record);
    }

    pub(crate) fn apply_checkpoint(&mut self, record: CheckpointRecord) {
        if let (Some(root), Ok(signed)) = (&self.root, frame::decode(&record.statement))
            && self.counters.checkpoint(root, &signed).is_ok()
        {
            self.checkpoint = Some(record);
        }
    }

    fn counts_still(&self, record: &RecallRecord) -> bool {
        let signed = frame::decode::<Signed<'_>>(&record.statement).ok();
        self.root.as_ref().zip(signed).is_some_and(|(root, signed)| root.recall(&signed).is_ok())
    }

    fn versions_recalled(&self, recall: &Recall) -> Vec<Version> {
        let is_named = |record: &&VersionRecord| {
            record.release.as_ref().is_some_and(|release| recall.releases.contains(&release.digest()))
        };
        self.versions_of(&recall.name).filter(is_named).map(|record| record.model.version).collect()
    }
}

fn knows(device: &Device, (version, recalls, checkpoint): &(u32, Digest, u64)) -> bool {
    device
        .learnt
        .as_ref()
        .is_some_and(|learnt| learnt.root >= *version && learnt.recalls == *recalls && learnt.checkpoint >= *checkpoint)
}

/// Checks that a root lists this hub's own keys; a time key it may lack, but not have from another
/// hub.
///
/// # Errors
///
/// [`Denied::NotThisHub`].
pub(crate) fn lists_hub(root: &TrustedRoot, hub: &HubPublic) -> Result<(), Denied> {
    let active = |key: &&KeyEntry| key.status == KeyStatus::Active;
    let has = |role: RoleSet, public: PublicKey| {
        root.root().keys.iter().filter(active).any(|key| key.public == public && key.roles.contains(role))
    };
    for (name, key, role) in
        [("director", hub.director, RoleSet::DIRECTOR), ("registry", hub.registry, RoleSet::REGISTRY)]
    {
        if !has(role, key) {
            return Err(Denied::NotThisHub(name));
        }
    }
    let is_timed = root.root().keys.iter().filter(active).any(|key| key.roles.contains(RoleSet::TIME));
    if is_timed && !has(RoleSet::TIME, hub.time) {
        return Err(Denied::NotThisHub("time"));
    }
    Ok(())
}

fn step(root: &TrustedRoot, statement: &[u8]) -> Result<TrustedRoot, Reject> {
    root.next(&frame::decode(statement)?)
}

/// Who signed, by name, for people.
fn signers(root: &TrustedRoot, statement: &[u8]) -> String {
    let Ok(signed) = frame::decode::<Signed<'_>>(statement) else { return String::new() };
    let mut persons: Vec<&str> = Vec::new();
    for key in signed.signatures.iter().filter_map(|signature| root.root().named(signature.key)) {
        if !persons.contains(&key.person.as_str()) {
            persons.push(key.person.as_str());
        }
    }
    persons.join(", ")
}
