//! Who signed what: collects approvals and grants. Only the protocol's verifier makes an
//! [`Approved`] release.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Approved, FleetId, Granted, KeyEntry, KeyId, KeyStatus, PublicKey, Release, RoleSet, Signature, SignatureBytes,
    Signed, StageGrant, TrustedRoot,
};
use serde::{Deserialize, Serialize};

use crate::chain::lists_hub;
use crate::error::Denied;
use crate::event::What;
use crate::registry::VersionRecord;
use crate::rules::{Change, Changes, Rules};

/// Grants of one version: more than a rollout has stages, few enough to look through.
pub const GRANTS_MAX: usize = 64;

/// Releases of one version that are kept beside the latest: each renewal makes one.
pub const RELEASES_MAX: usize = 16;

/// The public halves of the hub's own keys, as its root must list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubPublic {
    /// Signs assignments, commands and acknowledgements.
    pub director: PublicKey,
    /// Attests registered versions.
    pub registry: PublicKey,
    /// Signs logical time.
    pub time: PublicKey,
}

/// The fleet's root as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// The fleet.
    pub fleet: FleetId,
    /// A frame with the signed root.
    pub statement: Vec<u8>,
}

/// A release and every signature given so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// The exact bytes that are signed.
    pub body: Vec<u8>,
    /// The publisher's first, then the approvers'.
    pub signatures: Vec<GivenSignature>,
}

/// A signature and when it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenSignature {
    /// A frame with the whole id of the key, and the signature.
    pub signature: Vec<u8>,
    /// Whose key it is.
    pub person: String,
    /// When it arrived.
    pub at: Millis,
}

impl GivenSignature {
    /// The signature as statements carry it, and the id of the key; `None` if the record is damaged.
    #[must_use]
    pub fn read(&self) -> Option<(Signature, KeyId)> {
        let (id, bytes): (KeyId, SignatureBytes) = frame::decode(&self.signature).ok()?;
        Some((Signature { key: id.into(), bytes }, id))
    }
}

/// A release that an approver will not sign, and says why. It is the hub's word, not a signature:
/// it takes the version out of the queue, and its publisher registers a better one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Who.
    pub person: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Millis,
}

/// What the verifier says of a version under the root in force.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    approved: Result<Approved, Reject>,
    /// For each grant, if it holds.
    granted: Vec<Option<Granted>>,
}

/// A grant as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// A frame with the signed grant.
    pub statement: Vec<u8>,
    /// When it arrived.
    pub at: Millis,
}

impl ReleaseRecord {
    /// The digest of the body.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// The statement with all signatures.
    #[must_use]
    pub fn signed(&self) -> Signed<'_> {
        let signatures = self.signatures.iter().filter_map(GivenSignature::read);
        Signed { body: &self.body, signatures: signatures.map(|(signature, _)| signature).collect() }
    }

    /// A frame with the statement and all signatures.
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        encode(&self.signed())
    }
}

/// Writes a signed statement as a frame.
#[must_use]
pub fn encode(signed: &Signed<'_>) -> Vec<u8> {
    let mut buffer = vec![0; STATEMENT_BYTES_MAX + 1024];
    let length = frame::encode(signed, &mut buffer).map_or(0, |frame| frame.len());
    assert!(length > 0, "a statement within its limits fits with all its signatures");
    buffer.truncate(length);
    buffer
}

/// How far a release's approval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Distinct persons other than the publisher who approved.
    pub given: usize,
    /// How many the root requires.
    pub needed: usize,
}

impl Rules {
    /// Takes version 1 of the root, which must list this hub's own keys; a time key it may lack, but
    /// not have from another hub.
    ///
    /// # Errors
    ///
    /// [`Denied::RootExists`], [`Denied::BadRoot`], [`Denied::NotThisHub`].
    pub fn set_root(&self, statement: &[u8], hub: &HubPublic, who: &str, now: Millis) -> Result<Changes, Denied> {
        if let Some(root) = &self.root {
            return Err(Denied::RootExists { fleet: root.fleet().to_string() });
        }
        let trusted = open_root(statement).map_err(Denied::BadRoot)?;
        lists_hub(&trusted, hub)?;
        let mut changes = self.changes(who, now);
        changes.event(What::RootSet { fleet: trusted.fleet() });
        self.answer_key_requests(trusted.root(), &mut changes);
        changes.push(Change::Root(RootRecord { fleet: trusted.fleet(), statement: statement.to_vec() }));
        Ok(changes)
    }

    /// Takes the release that a publisher signed for a registered version.
    ///
    /// # Errors
    ///
    /// [`Denied`] if the statement, its signature or what it says does not fit.
    pub fn publish(&self, model: &ModelRef, statement: &[u8], who: &str, now: Millis) -> Result<Changes, Denied> {
        let record = self.version(model)?;
        if let Some(advice) = &record.checks.advice {
            return Err(Denied::NotDeployable { model: model.clone(), advice: advice.clone() });
        }
        let signed: Signed<'_> = frame::decode(statement).map_err(Denied::Statement)?;
        let release: Release = signed.peek().map_err(Denied::Statement)?;
        describes(record, &release)?;
        let [signature] = signed.signatures.as_slice() else {
            return Err(Denied::Statement(Reject::NoPublisher));
        };
        let key = self.signer(&signed, signature, RoleSet::PUBLISH, "does not publish")?;
        if !key.covers(&model.name) {
            return Err(Denied::Key { key: key.id(), why: "is enrolled for other model names" });
        }
        match &record.release {
            Some(existing) if existing.body == signed.body => return Ok(self.changes(who, now)),
            Some(_) if record.earlier.iter().any(|earlier| earlier.body == signed.body) => {
                return Err(Denied::OtherRelease(model.clone()));
            }
            Some(_) => self.may_renew(record)?,
            None => {}
        }
        let person = key.person.to_string();
        let mut changes = self.changes(who, now);
        changes.event(What::ReleasePublished { model: model.clone(), person: person.clone() });
        let mut record = record.clone();
        record.earlier.extend(record.release.take());
        // Whoever refused to sign refused what was there before.
        record.rejection = None;
        record.release =
            Some(ReleaseRecord { body: signed.body.to_vec(), signatures: vec![given(signature, key, now)] });
        changes.push(Change::Version(Box::new(record)));
        Ok(changes)
    }

    /// Whether a version may get another release: one was recalled, or none of its rollouts goes on.
    fn may_renew(&self, record: &VersionRecord) -> Result<(), Denied> {
        if record.earlier.len() >= RELEASES_MAX {
            return Err(Denied::OtherRelease(record.model.clone()));
        }
        match self.rollouts.values().find(|rollout| rollout.model == record.model && rollout.is_going()) {
            Some(going) if !self.is_recalled(record) => {
                Err(Denied::RolloutGoing { id: going.id, model: record.model.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Takes one approver's signature over the published release.
    ///
    /// # Errors
    ///
    /// [`Denied`] with the reason why the signature does not count.
    pub fn sign(&self, model: &ModelRef, statement: &[u8], who: &str, now: Millis) -> Result<Changes, Denied> {
        let record = self.version(model)?;
        let release = record.release.as_ref().ok_or_else(|| Denied::NoRelease(model.clone()))?;
        let signed: Signed<'_> = frame::decode(statement).map_err(Denied::Statement)?;
        if signed.body != release.body {
            return Err(Denied::OtherRelease(model.clone()));
        }
        if let Some(Rejection { person, why, .. }) = record.rejection.clone() {
            return Err(Denied::Rejected { model: model.clone(), person, why });
        }
        let mut release = release.clone();
        let mut changes = self.changes(who, now);
        let mut record = record.clone();
        for signature in &signed.signatures {
            if release.signed().signatures.iter().any(|known| known.bytes == signature.bytes) {
                continue;
            }
            let key = self.signer(&signed, signature, RoleSet::APPROVE, "does not approve")?;
            // Against what this statement has brought so far, too: it may hold several signatures.
            self.may_sign(model, key, &release)?;
            release.signatures.push(given(signature, key, now));
            record.release = Some(release.clone());
            let Approval { given, needed } = self.approval(&record);
            let person = key.person.to_string();
            changes.event(What::ApprovalGiven { model: model.clone(), person, given, needed });
        }
        let own = release.signatures.first();
        if changes.is_empty()
            && let [signature] = signed.signatures.as_slice()
            && let Some(own) = own.filter(|own| own.read().is_some_and(|(known, _)| known.bytes == signature.bytes))
        {
            return Err(Denied::OwnPublication { person: own.person.clone(), model: model.clone() });
        }
        if !changes.is_empty() {
            changes.push(Change::Version(Box::new(record)));
        }
        Ok(changes)
    }

    /// Takes an approver's refusal: the version takes no more signatures here.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRelease`], [`Denied::Rejected`] if somebody was faster, [`Denied::NotNow`] once
    /// it is approved.
    pub fn reject(&self, model: &ModelRef, why: &str, who: &str, now: Millis) -> Result<Changes, Denied> {
        let record = self.version(model)?;
        if record.release.is_none() {
            return Err(Denied::NoRelease(model.clone()));
        }
        if let Some(Rejection { person, why, .. }) = record.rejection.clone() {
            return Err(Denied::Rejected { model: model.clone(), person, why });
        }
        if self.approved(record).is_ok() {
            let why = "it is approved already; abort its rollout instead".to_owned();
            return Err(Denied::NotNow { action: "reject", why });
        }
        let mut changes = self.changes(who, now);
        let (person, why) = (who.to_owned(), why.to_owned());
        changes.event(What::ReleaseRejected { model: model.clone(), person: person.clone(), why: why.clone() });
        let rejection = Some(Rejection { person, why, at: now });
        changes.push(Change::Version(Box::new(VersionRecord { rejection, ..record.clone() })));
        Ok(changes)
    }

    fn may_sign(&self, model: &ModelRef, key: &KeyEntry, release: &ReleaseRecord) -> Result<(), Denied> {
        let person = key.person.as_str();
        if !key.covers(&model.name) {
            return Err(Denied::Key { key: key.id(), why: "is enrolled for other model names" });
        }
        match release.signatures.iter().position(|given| given.person == person) {
            Some(0) => Err(Denied::OwnPublication { person: person.to_owned(), model: model.clone() }),
            Some(_) => Err(Denied::PersonSigned { person: person.to_owned(), model: model.clone() }),
            None if release.signed().signatures.is_full() => Err(Denied::SignaturesFull(model.clone())),
            None => Ok(()),
        }
    }

    /// Takes a stage grant for an approved version.
    ///
    /// # Errors
    ///
    /// [`Denied::NotApproved`] before the approvals are complete, or why the grant does not hold.
    pub fn add_grant(&self, model: &ModelRef, statement: &[u8], who: &str, now: Millis) -> Result<Changes, Denied> {
        let record = self.version(model)?;
        let approved = self.approved(record)?;
        let signed: Signed<'_> = frame::decode(statement).map_err(Denied::Statement)?;
        let granted = self.trusted()?.grant(&approved, &signed).map_err(Denied::Statement)?;
        let mut changes = self.changes(who, now);
        if record.grants.iter().any(|grant| grant.statement == statement) {
            return Ok(changes);
        }
        if record.grants.len() >= GRANTS_MAX {
            return Err(Denied::GrantsFull(model.clone()));
        }
        changes
            .event(What::GrantGiven { model: model.clone(), cohort: crate::rollout::label(&granted.grant().cohort) });
        let mut record = record.clone();
        record.grants.push(GrantRecord { statement: statement.to_vec(), at: now });
        changes.push(Change::Version(Box::new(record)));
        Ok(changes)
    }

    /// The root, if it was set.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRoot`].
    pub fn trusted(&self) -> Result<&TrustedRoot, Denied> {
        self.root.as_ref().ok_or(Denied::NoRoot)
    }

    /// How far a version's approval is.
    #[must_use]
    pub fn approval(&self, record: &VersionRecord) -> Approval {
        let needed = self.root.as_ref().map_or(0, |root| usize::from(root.root().thresholds.approve));
        let given = record.release.as_ref().map_or(0, |release| release.signatures.len().saturating_sub(1));
        Approval { given, needed }
    }

    /// The proof that a version is approved.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRelease`], [`Denied::NotApproved`], or why its signatures do not hold.
    pub fn approved(&self, record: &VersionRecord) -> Result<Approved, Denied> {
        let release = record.release.as_ref().ok_or_else(|| Denied::NoRelease(record.model.clone()))?;
        if self.is_recalled(record) {
            return Err(Denied::Statement(Reject::Recalled));
        }
        let verdict = self.verdict(record).map(|verdict| verdict.approved.clone());
        let approved = match verdict {
            Some(approved) => approved,
            None => self.trusted()?.approve(&release.signed()),
        };
        approved.map_err(|reject| {
            if reject != Reject::TooFewSignatures {
                return Denied::Statement(reject);
            }
            let Approval { given, needed } = self.approval(record);
            Denied::NotApproved { model: record.model.clone(), given, needed }
        })
    }

    /// The grants of an approved version that hold, with their exact bytes.
    pub fn grants<'r>(
        &'r self,
        record: &'r VersionRecord,
        approved: &'r Approved,
    ) -> impl Iterator<Item = (Granted, &'r GrantRecord)> + 'r {
        let verdict = self.verdict(record).filter(|verdict| verdict.approved.as_ref() == Ok(approved));
        record.grants.iter().enumerate().filter_map(move |(index, grant)| {
            let granted = match verdict {
                Some(verdict) => verdict.granted.get(index).cloned().flatten(),
                None => granted(self.root.as_ref()?, approved, grant),
            };
            Some((granted?, grant))
        })
    }

    /// The proof that one of a version's releases is approved, whether it was recalled or not.
    pub(crate) fn proof(&self, record: &VersionRecord, release: &ReleaseRecord) -> Option<Approved> {
        let is_latest = record.release.as_ref().is_some_and(|latest| std::ptr::eq(latest, release));
        match self.verdict(record).filter(|_| is_latest) {
            Some(verdict) => verdict.approved.clone().ok(),
            None => self.root.as_ref()?.approve(&release.signed()).ok(),
        }
    }

    /// What the verifier said of a version as it is kept here; nothing of one that is being changed.
    fn verdict(&self, record: &VersionRecord) -> Option<&Verdict> {
        let kept = self.versions.get(&record.model)?;
        if std::ptr::eq(kept, record) { self.verdicts.get(&record.model) } else { None }
    }

    /// Asks the verifier about a version, once for each change of it or of the root: rollouts look at
    /// it many times a second.
    pub(crate) fn judge_version(&mut self, model: &ModelRef) {
        let verdict = self.versions.get(model).and_then(|record| {
            let root = self.root.as_ref()?;
            let approved = root.approve(&record.release.as_ref()?.signed());
            let granted = match &approved {
                Ok(approved) => record.grants.iter().map(|grant| granted(root, approved, grant)).collect(),
                Err(_) => Vec::new(),
            };
            Some(Verdict { approved, granted })
        });
        match verdict {
            Some(verdict) => drop(self.verdicts.insert(model.clone(), verdict)),
            None => drop(self.verdicts.remove(model)),
        }
    }

    /// The same for all of them, under a new root.
    pub(crate) fn judge_versions(&mut self) {
        let models: Vec<ModelRef> = self.versions.keys().cloned().collect();
        for model in models {
            self.judge_version(&model);
        }
    }

    fn signer(
        &self,
        signed: &Signed<'_>,
        signature: &Signature,
        role: RoleSet,
        otherwise: &'static str,
    ) -> Result<&KeyEntry, Denied> {
        let trusted = self.trusted()?;
        let entry = trusted.root().named(signature.key).ok_or(Denied::KeyUnlisted(signature.key))?;
        let key = entry.id();
        if !entry.roles.contains(role) {
            return Err(Denied::Key { key, why: otherwise });
        }
        if entry.status != KeyStatus::Active {
            return Err(Denied::Key { key, why: "is no longer active" });
        }
        let mut alone = Signed { body: signed.body, signatures: bellwether_protocol::heapless::Vec::new() };
        let pushed = alone.signatures.push(*signature);
        assert!(pushed.is_ok(), "one signature fits");
        trusted.hub::<Release>(&alone, role).map_err(Denied::Statement)?;
        Ok(entry)
    }
}

fn granted(root: &TrustedRoot, approved: &Approved, grant: &GrantRecord) -> Option<Granted> {
    let signed: Signed<'_> = frame::decode(&grant.statement).ok()?;
    root.grant(approved, &signed).ok()
}

/// Opens a root from the frame it travels in.
///
/// # Errors
///
/// Why it does not hold.
pub fn open_root(statement: &[u8]) -> Result<TrustedRoot, Reject> {
    let signed: Signed<'_> = frame::decode(statement)?;
    TrustedRoot::first(FleetId::of_root(signed.body), &signed)
}

/// Reads a grant without checking it.
#[must_use]
pub fn peek_grant(record: &GrantRecord) -> Option<StageGrant> {
    frame::decode::<Signed<'_>>(&record.statement).ok()?.peek().ok()
}

fn given(signature: &Signature, key: &KeyEntry, at: Millis) -> GivenSignature {
    let mut buffer = [0; 128];
    let frame = frame::encode(&(key.id(), signature.bytes), &mut buffer);
    GivenSignature {
        signature: frame.map(|frame| frame.to_vec()).unwrap_or_default(),
        person: key.person.to_string(),
        at,
    }
}

fn describes(record: &VersionRecord, release: &Release) -> Result<(), Denied> {
    let got = release.model();
    if got != record.model {
        return Err(Denied::OtherModel { expected: record.model.clone(), got: got.to_string() });
    }
    let mut buffer = vec![0; STATEMENT_BYTES_MAX];
    let tensors = frame::encode(&record.manifest.tensors, &mut buffer).map(|frame| Digest::of(frame));
    let differs = [
        ("package", release.package != record.package),
        ("source", release.source != record.source),
        ("kind", release.kind != record.kind),
        ("tensor signature", Ok(release.tensors) != tensors),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((what, _)) => Err(Denied::OtherPackage(what)),
        None => Ok(()),
    }
}
