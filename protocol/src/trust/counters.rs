//! What a verifier remembers of statements that came before: recalls, the checkpoint, the epoch.
//! Nothing here ever goes back, but for what a revoked key had signed.
//!
//! ```text
//!  Recall ──────> recalls          one approver       ──┐
//!  Checkpoint ──> number, recalls  approver, witness  ──┼─> is this release lawful now?
//!             └─> floors           k approvers        ──┤
//!  Epoch ───────> logical time     the hub's time key ──┘
//! ```
//! Agent, firmware, simulator and hub keep one of these each, so what the hub believes is what a
//! device that heard everything believes.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, Epoch, Floor, KeyEntry, KeyId, KeyStatus, Nonce, Recall, Recalled, Release, RoleSet, Signed,
    TrustedRoot, Validity,
};
use crate::digest::{Digest, Hasher};
use crate::error::Reject;
use crate::id::ModelName;
use crate::limit::{MODELS_MAX, RECALLS_MAX, SIGNATURES_MAX};

/// What was learnt from statements and must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    recalls: Vec<Entry, RECALLS_MAX>,
    checkpoint: u64,
    /// Who signed the checkpoint that set the number.
    checkpoint_by: Vec<KeyId, SIGNATURES_MAX>,
    floors: Vec<Floor, MODELS_MAX>,
    epoch: Option<Tick>,
}

/// A recall and a key that vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    recalled: Recalled,
    key: KeyId,
}

/// A logical time and the generation of the time key that told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tick {
    /// The root's time generation.
    pub generation: u32,
    /// The epoch.
    pub epoch: u64,
}

impl Counters {
    /// Takes a recall.
    ///
    /// # Errors
    ///
    /// Why it is not one: [`TrustedRoot::recall`]; [`Reject::RecallsFull`] if there is no room, and
    /// then nothing of it is taken.
    pub fn recall(&mut self, root: &TrustedRoot, signed: &Signed<'_>) -> Result<Recall, Reject> {
        let recall = root.recall(signed)?;
        let key = root.first_signer(signed)?;
        let stop = recall.otherwise == super::Otherwise::Stop;
        let of = |release: &Digest| Recalled { name: recall.name.clone(), release: *release, stop };
        self.merge(recall.releases.iter().map(of), key)?;
        Ok(recall)
    }

    /// Takes a checkpoint later than the one known.
    ///
    /// # Errors
    ///
    /// As [`TrustedRoot::checkpoint`]; [`Reject::StaleCheckpoint`] for an earlier number;
    /// [`Reject::RecallsFull`].
    pub fn checkpoint(&mut self, root: &TrustedRoot, signed: &Signed<'_>) -> Result<Checkpoint, Reject> {
        let checkpoint = root.checkpoint(signed)?;
        if checkpoint.number < self.checkpoint {
            return Err(Reject::StaleCheckpoint);
        }
        let key = root.first_signer(signed)?;
        self.merge(checkpoint.recalls.iter().cloned(), key)?;
        self.checkpoint = checkpoint.number;
        self.checkpoint_by =
            signed.signatures.iter().filter_map(|one| root.root().named(one.key)).map(KeyEntry::id).collect();
        // Who alone signs a checkpoint can neither raise a floor nor lower one.
        if root.approvers(signed)? >= usize::from(root.root().thresholds.approve) {
            self.floors.clone_from(&checkpoint.floors);
        }
        Ok(checkpoint)
    }

    /// Takes a logical time, if it answers `nonce` and does not go back.
    ///
    /// # Errors
    ///
    /// Why its signature does not count; [`Reject::StaleGeneration`], [`Reject::NonceMismatch`],
    /// [`Reject::StaleEpoch`].
    pub fn epoch(&mut self, root: &TrustedRoot, signed: &Signed<'_>, nonce: &Nonce) -> Result<Tick, Reject> {
        let Epoch { generation, epoch, nonce: echoed } = root.hub(signed, RoleSet::TIME)?;
        if generation != root.root().time_generation {
            return Err(Reject::StaleGeneration);
        }
        if echoed != *nonce {
            return Err(Reject::NonceMismatch);
        }
        let tick = Tick { generation, epoch };
        if self.epoch.is_some_and(|known| tick < known) {
            return Err(Reject::StaleEpoch);
        }
        self.epoch = Some(tick);
        Ok(tick)
    }

    /// The root changed: what a key signed that is revoked now no longer counts, nor does the time
    /// of an earlier generation.
    pub fn root_changed(&mut self, root: &TrustedRoot) {
        let is_revoked = |id: &KeyId| root.root().key(*id).is_some_and(|key| key.status == KeyStatus::Revoked);
        self.recalls.retain(|entry| !is_revoked(&entry.key));
        if self.checkpoint_by.iter().any(is_revoked) {
            self.checkpoint = 0;
            self.checkpoint_by.clear();
            self.floors.clear();
        }
        self.epoch = self.epoch.filter(|known| known.generation == root.root().time_generation);
    }

    /// Whether a release may be run at all, whoever granted it: not recalled, not below a floor in
    /// force, and the checkpoint that it asks for is known.
    ///
    /// # Errors
    ///
    /// [`Reject::Recalled`], [`Reject::BelowFloor`], [`Reject::CheckpointMissing`].
    pub fn lawful(&self, release: &Release, digest: Digest) -> Result<(), Reject> {
        if self.recalled(&release.name, digest).is_some() {
            return Err(Reject::Recalled);
        }
        if release.version.number() < self.floor(&release.name) {
            return Err(Reject::BelowFloor);
        }
        self.knows(release.checkpoint)
    }

    /// Whether checkpoint `number` is known.
    ///
    /// # Errors
    ///
    /// [`Reject::CheckpointMissing`].
    pub const fn knows(&self, number: u64) -> Result<(), Reject> {
        if number > self.checkpoint { Err(Reject::CheckpointMissing) } else { Ok(()) }
    }

    /// Whether something new may begin now under this validity.
    ///
    /// # Errors
    ///
    /// [`Reject::NotInEpoch`], also while no time is known.
    pub fn admits(&self, validity: Option<Validity>) -> Result<(), Reject> {
        let Some(Validity { from, until }) = validity else { return Ok(()) };
        let is_in = self.epoch.is_some_and(|Tick { epoch, .. }| (from..=until).contains(&epoch));
        if is_in { Ok(()) } else { Err(Reject::NotInEpoch) }
    }

    /// The recall of a release, if it was recalled.
    #[must_use]
    pub fn recalled(&self, name: &ModelName, release: Digest) -> Option<&Recalled> {
        self.recalls().find(|recalled| recalled.release == release && recalled.name == *name)
    }

    /// Every recall known, in the order in which they came.
    pub fn recalls(&self) -> impl Iterator<Item = &Recalled> {
        self.recalls.iter().map(|entry| &entry.recalled)
    }

    /// The floor in force for a model, by checkpoint; 0 without one.
    #[must_use]
    pub fn floor(&self, name: &ModelName) -> u32 {
        self.floors.iter().filter(|floor| floor.name == *name).map(|floor| floor.version.number()).max().unwrap_or(0)
    }

    /// The floors in force.
    #[must_use]
    pub fn floors(&self) -> &[Floor] {
        &self.floors
    }

    /// Number of the latest checkpoint; 0 before one.
    #[must_use]
    pub const fn checkpoint_number(&self) -> u64 {
        self.checkpoint
    }

    /// The latest logical time, if one is known.
    #[must_use]
    pub const fn tick(&self) -> Option<Tick> {
        self.epoch
    }

    /// A digest of the recalls known, whatever their order: two that agree know the same.
    #[must_use]
    pub fn recalls_digest(&self) -> Digest {
        let mut all: Vec<&Recalled, RECALLS_MAX> = self.recalls().collect();
        all.sort_unstable_by_key(|recalled| (&recalled.name, recalled.release));
        let mut hasher = Hasher::default();
        for recalled in all {
            hasher.update(recalled.name.as_str().as_bytes());
            hasher.update(&recalled.release.0);
            hasher.update(&[u8::from(recalled.stop)]);
        }
        hasher.finish()
    }

    /// Adds what is not known yet, all or nothing. A recall that says stop outweighs one that says
    /// keep.
    fn merge(&mut self, recalls: impl Iterator<Item = Recalled> + Clone, key: KeyId) -> Result<(), Reject> {
        let is_same =
            |entry: &Entry, new: &Recalled| entry.recalled.release == new.release && entry.recalled.name == new.name;
        let is_new = |new: &Recalled| !self.recalls.iter().any(|entry| is_same(entry, new));
        if self.recalls.len() + recalls.clone().filter(is_new).count() > RECALLS_MAX {
            return Err(Reject::RecallsFull);
        }
        for recalled in recalls {
            match self.recalls.iter_mut().find(|entry| is_same(entry, &recalled)) {
                Some(known) => known.recalled.stop |= recalled.stop,
                None => {
                    let pushed = self.recalls.push(Entry { recalled, key });
                    assert!(pushed.is_ok(), "the room was counted above");
                }
            }
        }
        Ok(())
    }
}
