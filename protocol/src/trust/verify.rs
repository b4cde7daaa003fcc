//! The one verifier. Only it makes an [`Approved`] release or a [`Granted`] one, so whoever asks
//! for these types cannot act on anything unchecked.

use heapless::Vec;
use serde::Deserialize;

use super::{
    FleetId, KeyClass, KeyEntry, KeyId, KeyStatus, PublicKey, Release, RoleSet, Root, Signed, StageGrant, Statement,
    message,
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
    if signature.key != key.id() {
        return Err(Reject::UnknownKey);
    }
    if !key.verifies(&message(T::TYPE, fleet, signed.body)?, &signature.bytes) {
        return Err(Reject::BadSignature);
    }
    signed.peek()
}

/// A root whose signatures hold, and the fleet it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            let key = self.root.key(signature.key).ok_or(Reject::UnknownKey)?;
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
