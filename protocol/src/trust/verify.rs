//! The one verifier. Only it makes an [`Approved`] release or a [`Granted`] one, so whoever asks
//! for these types cannot act on anything unchecked.
//!
//! Serialised, a [`TrustedRoot`] is for the store of whoever verified it: who can write there can
//! do what they like anyway. It never travels.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, FleetId, KeyClass, KeyEntry, KeyId, KeyStatus, PublicKey, Recall, Release, RoleSet, Root, Signed,
    StageGrant, Statement, message,
};
use crate::digest::Digest;
use crate::error::Reject;
use crate::id::{ModelName, Person};
use crate::limit::{BUCKETS, SIGNATURES_MAX};

/// Reads a statement that must be signed by exactly this key and no other.
///
/// # Errors
///
/// [`Reject::UnknownKey`], [`Reject::BadSignature`], or why the body does not decode.
pub fn open_by<'a, T: Statement + Deserialize<'a>>(
    fleet: FleetId,
    signed: &Signed<'a>,
    key: &PublicKey,
) -> Result<T, Reject> {
    let [signature] = signed.signatures.as_slice() else { return Err(Reject::TooFewSignatures) };
    if !signature.key.names(key.id()) {
        return Err(Reject::UnknownKey);
    }
    if !key.verifies(&message(T::TYPE, fleet, signed.body)?, &signature.bytes) {
        return Err(Reject::BadSignature);
    }
    signed.peek()
}

/// A root whose signatures hold, and the fleet it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedRoot {
    fleet: FleetId,
    root: Root,
}

/// A release that one publisher and k approvers signed; made only here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    release: Release,
    digest: Digest,
}

impl Approved {
    /// The release.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// The digest of its body.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// A stage grant that people signed for an approved release; made only here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    grant: StageGrant,
}

impl Granted {
    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> &StageGrant {
        &self.grant
    }
}

impl TrustedRoot {
    /// Accepts version 1 of a fleet's root: its digest is the fleet id, it is whole, and its own
    /// threshold signed it.
    ///
    /// # Errors
    ///
    /// [`Reject::WrongFleet`], [`Reject::Malformed`] for a root that cannot work, or why a
    /// signature does not count.
    pub fn first(fleet: FleetId, signed: &Signed<'_>) -> Result<Self, Reject> {
        if FleetId::of_root(signed.body) != fleet {
            return Err(Reject::WrongFleet);
        }
        let root: Root = signed.peek()?;
        if root.version != 1 || root.check().is_err() {
            return Err(Reject::Malformed);
        }
        let threshold = root.thresholds.root;
        let trusted = Self { fleet, root };
        let signed_by = persons(&trusted.signers::<Root>(signed)?, RoleSet::ROOT, &[]).len();
        if signed_by < usize::from(threshold) { Err(Reject::TooFewSignatures) } else { Ok(trusted) }
    }

    /// Accepts the root that follows this one: its version is the next, it is whole, and the
    /// threshold of this root and its own signed it (TUF, section 5.3.4).
    ///
    /// # Errors
    ///
    /// [`Reject::RootSkipped`] for any other version, [`Reject::Malformed`] for a root that cannot
    /// work, or why a signature does not count under the old root or the new.
    pub fn next(&self, signed: &Signed<'_>) -> Result<Self, Reject> {
        let root: Root = signed.peek()?;
        if self.root.version.checked_add(1) != Some(root.version) {
            return Err(Reject::RootSkipped);
        }
        // A signature names its key by a tag, which must not mean one key here and another there.
        let is_other = |key: &KeyEntry| {
            let before = self.root.named(key.id().into());
            before.is_some_and(|before| before.public != key.public)
        };
        if root.check().is_err()
            || root.keys.iter().any(is_other)
            || root.director_generation < self.root.director_generation
            || root.time_generation < self.root.time_generation
        {
            return Err(Reject::Malformed);
        }
        let next = Self { fleet: self.fleet, root };
        // A key that only one of the two lists is a stranger to the other, and one that the new root
        // revokes may sign itself away under the old: neither is a mistake. Whoever has left signs no
        // root any more, so retired keys do not count.
        for (trusted, is_new) in [(self, false), (&next, true)] {
            let counts = |signature: &&super::Signature| {
                let key = trusted.root.named(signature.key);
                key.is_some_and(|key| !is_new || key.status != KeyStatus::Revoked)
            };
            let own =
                Signed { body: signed.body, signatures: signed.signatures.iter().filter(counts).copied().collect() };
            let mut signers = trusted.signers::<Root>(&own)?;
            signers.retain(|key| key.status == KeyStatus::Active);
            if persons(&signers, RoleSet::ROOT, &[]).len() < usize::from(trusted.root.thresholds.root) {
                return Err(Reject::TooFewSignatures);
            }
        }
        if signed.signatures.iter().any(|one| self.root.named(one.key).is_none() && next.root.named(one.key).is_none())
        {
            return Err(Reject::UnknownKey);
        }
        Ok(next)
    }

    /// The fleet.
    #[must_use]
    pub const fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// The root.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Checks a release: one publisher and k approvers who are distinct persons other than the
    /// publisher, all enrolled for this model, none revoked, and if the root says so one of them
    /// with a key outside browsers.
    ///
    /// # Errors
    ///
    /// The [`Reject`] that names what is wrong.
    pub fn approve(&self, signed: &Signed<'_>) -> Result<Approved, Reject> {
        let signers = self.signers::<Release>(signed)?;
        let release: Release = signed.peek()?;
        all_cover(&signers, &release.name)?;
        let publishers = persons(&signers, RoleSet::PUBLISH, &[]);
        if publishers.is_empty() {
            return Err(Reject::NoPublisher);
        }
        let approvers = persons(&signers, RoleSet::APPROVE, &publishers);
        if approvers.len() < usize::from(self.root.thresholds.approve) {
            return Err(Reject::TooFewSignatures);
        }
        let offline = |key: &&KeyEntry| {
            key.roles.contains(RoleSet::APPROVE) && key.class != KeyClass::Browser && approvers.contains(&&key.person)
        };
        if self.root.offline_approval && !signers.iter().any(offline) {
            return Err(Reject::OfflineKeyMissing);
        }
        Ok(Approved { release, digest: signed.digest() })
    }

    /// Checks a grant for this release.
    ///
    /// # Errors
    ///
    /// [`Reject::GrantMismatch`] for another release, [`Reject::TooFewSignatures`], or why a
    /// signature does not count.
    pub fn grant(&self, approved: &Approved, signed: &Signed<'_>) -> Result<Granted, Reject> {
        let signers = self.signers::<StageGrant>(signed)?;
        let grant: StageGrant = signed.peek()?;
        if grant.release != approved.digest {
            return Err(Reject::GrantMismatch);
        }
        if let super::Cohort::Buckets(below) = grant.cohort
            && below > BUCKETS
        {
            return Err(Reject::Malformed);
        }
        all_cover(&signers, &approved.release.name)?;
        if persons(&signers, RoleSet::GRANT, &[]).len() < usize::from(self.root.thresholds.grant) {
            return Err(Reject::TooFewSignatures);
        }
        Ok(Granted { grant })
    }

    /// Whether the grant reaches the device with this key.
    #[must_use]
    pub fn reaches(&self, approved: &Approved, granted: &Granted, device: KeyId) -> bool {
        granted.grant.release == approved.digest
            && granted.grant.cohort.reaches(self.fleet, &approved.release.salt, device)
    }

    /// Reads a recall: every signer approves, and is enrolled for this model.
    ///
    /// # Errors
    ///
    /// [`Reject::TooFewSignatures`] for none, [`Reject::WrongRole`], [`Reject::WrongPrefix`], or why
    /// a signature does not count.
    pub fn recall(&self, signed: &Signed<'_>) -> Result<Recall, Reject> {
        let signers = self.signers::<Recall>(signed)?;
        let recall: Recall = signed.peek()?;
        all_may(&signers, |roles| roles.contains(RoleSet::APPROVE))?;
        all_cover(&signers, &recall.name)?;
        Ok(recall)
    }

    /// Reads a checkpoint: every signer approves or is a witness, and is enrolled for every model in
    /// it; with floors in it, as many persons signed as approve a release.
    ///
    /// # Errors
    ///
    /// As [`TrustedRoot::recall`].
    pub fn checkpoint(&self, signed: &Signed<'_>) -> Result<Checkpoint, Reject> {
        let signers = self.signers::<Checkpoint>(signed)?;
        let checkpoint: Checkpoint = signed.peek()?;
        all_may(&signers, |roles| roles.contains(RoleSet::APPROVE) || roles.contains(RoleSet::WITNESS))?;
        let recalled = checkpoint.recalls.iter().map(|recalled| &recalled.name);
        for name in recalled.chain(checkpoint.floors.iter().map(|floor| &floor.name)) {
            all_cover(&signers, name)?;
        }
        let approvers = persons(&signers, RoleSet::APPROVE, &[]).len();
        if !checkpoint.floors.is_empty() && approvers < usize::from(self.root.thresholds.approve) {
            return Err(Reject::TooFewSignatures);
        }
        Ok(checkpoint)
    }

    /// The key that signed first: it vouches for what is remembered.
    pub(super) fn first_signer(&self, signed: &Signed<'_>) -> Result<KeyId, Reject> {
        let first = signed.signatures.first().ok_or(Reject::TooFewSignatures)?;
        self.root.named(first.key).map(KeyEntry::id).ok_or(Reject::UnknownKey)
    }

    /// How many distinct persons who approve signed a checkpoint.
    pub(super) fn approvers(&self, signed: &Signed<'_>) -> Result<usize, Reject> {
        Ok(persons(&self.signers::<Checkpoint>(signed)?, RoleSet::APPROVE, &[]).len())
    }

    /// Reads a statement of the hub, signed once by a key that has `role` and is active.
    ///
    /// # Errors
    ///
    /// The [`Reject`] that names what is wrong.
    pub fn hub<'a, T: Statement + Deserialize<'a>>(&self, signed: &Signed<'a>, role: RoleSet) -> Result<T, Reject> {
        let signers = self.signers::<T>(signed)?;
        let [key] = signers.as_slice() else { return Err(Reject::TooFewSignatures) };
        if !key.roles.contains(role) || key.status != KeyStatus::Active {
            return Err(Reject::WrongRole);
        }
        signed.peek()
    }

    /// Who signed, each key checked: known, not revoked, not twice, its signature good.
    fn signers<T: Statement>(&self, signed: &Signed<'_>) -> Result<Vec<&KeyEntry, SIGNATURES_MAX>, Reject> {
        let message = message(T::TYPE, self.fleet, signed.body)?;
        let mut signers: Vec<&KeyEntry, SIGNATURES_MAX> = Vec::new();
        for signature in &signed.signatures {
            let key = self.root.named(signature.key).ok_or(Reject::UnknownKey)?;
            if signers.iter().any(|before| before.public == key.public) {
                return Err(Reject::DuplicateKey);
            }
            if key.status == KeyStatus::Revoked {
                return Err(Reject::KeyRevoked);
            }
            if !key.public.verifies(&message, &signature.bytes) {
                return Err(Reject::BadSignature);
            }
            signers.push(key).map_err(|_| Reject::TooLarge)?;
        }
        Ok(signers)
    }
}

/// Somebody signed, and all of them may.
fn all_may(signers: &[&KeyEntry], may: impl Fn(RoleSet) -> bool) -> Result<(), Reject> {
    if signers.is_empty() {
        return Err(Reject::TooFewSignatures);
    }
    if signers.iter().all(|key| may(key.roles)) { Ok(()) } else { Err(Reject::WrongRole) }
}

fn all_cover(signers: &[&KeyEntry], name: &ModelName) -> Result<(), Reject> {
    if signers.iter().all(|key| key.covers(name)) { Ok(()) } else { Err(Reject::WrongPrefix) }
}

/// The distinct persons among the signers who have `role` and are not in `except`.
fn persons<'k>(signers: &[&'k KeyEntry], role: RoleSet, except: &[&Person]) -> Vec<&'k Person, SIGNATURES_MAX> {
    let mut persons: Vec<&Person, SIGNATURES_MAX> = Vec::new();
    for key in signers.iter().filter(|key| key.roles.contains(role)) {
        if !persons.contains(&&key.person) && !except.contains(&&key.person) {
            let pushed = persons.push(&key.person);
            assert!(pushed.is_ok(), "there are no more persons than signatures");
        }
    }
    persons
}
