//! The verifier as the whole world sees it: a frame, and which rule accepts it.

use bellwether_protocol::SigningKey;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::trust::{
    Ack, Approved, Assignment, Attestation, AuditHead, Batch, Command, Connect, Enrol, Epoch, FleetId, Known,
    PublicKey, Report, RoleSet, Signed, TrustedRoot, open_by,
};

/// The seed of the device's key in the vectors.
const DEVICE: u8 = 20;

/// A fleet that believes the root of the vectors.
pub(crate) struct Verifier {
    root: TrustedRoot,
    approved: Approved,
    device: PublicKey,
}

type Rule = fn(&Verifier, &Signed<'_>) -> Result<(), Reject>;

/// Each signed statement among the vectors, and the rule by which it is taken.
pub(crate) const STATEMENTS: &[(&str, Rule)] = &[
    ("root-v1", |fleet, signed| TrustedRoot::first(fleet.root.fleet(), signed).map(drop)),
    ("root-v2", |fleet, signed| fleet.root.next(signed).map(drop)),
    ("release", |fleet, signed| fleet.root.approve(signed).map(drop)),
    ("grant-buckets", |fleet, signed| fleet.root.grant(&fleet.approved, signed).map(drop)),
    ("grant-devices", |fleet, signed| fleet.root.grant(&fleet.approved, signed).map(drop)),
    ("recall", |fleet, signed| fleet.root.recall(signed).map(drop)),
    ("checkpoint", |fleet, signed| fleet.root.checkpoint(signed).map(drop)),
    ("assignment", |fleet, signed| fleet.root.hub::<Assignment>(signed, RoleSet::DIRECTOR).map(drop)),
    ("command", |fleet, signed| fleet.root.hub::<Command>(signed, RoleSet::DIRECTOR).map(drop)),
    ("command-log", |fleet, signed| fleet.root.hub::<Command>(signed, RoleSet::DIRECTOR).map(drop)),
    ("ack", |fleet, signed| fleet.root.hub::<Ack>(signed, RoleSet::DIRECTOR).map(drop)),
    ("epoch", |fleet, signed| fleet.root.hub::<Epoch>(signed, RoleSet::TIME).map(drop)),
    ("attestation", |fleet, signed| fleet.root.hub::<Attestation>(signed, RoleSet::REGISTRY).map(drop)),
    ("audit-head", |fleet, signed| fleet.root.hub::<AuditHead>(signed, RoleSet::REGISTRY).map(drop)),
    ("report", |fleet, signed| open_by::<Report>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
    ("batch", |fleet, signed| open_by::<Batch<'_>>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
    ("batch-watched", |fleet, signed| open_by::<Batch<'_>>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
    ("connect", |fleet, signed| open_by::<Connect>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
    ("enrol", |fleet, signed| open_by::<Enrol>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
    ("known", |fleet, signed| open_by::<Known>(fleet.root.fleet(), signed, &fleet.device).map(drop)),
];

impl Verifier {
    /// Believes this root, and this release.
    pub(crate) fn new(root: &[u8], release: &[u8]) -> Self {
        let signed: Signed<'_> = frame::decode(root).expect("the root of the vectors decodes");
        let root = TrustedRoot::first(FleetId::of_root(signed.body), &signed).expect("its signatures hold");
        let release = frame::decode(release).expect("the release of the vectors decodes");
        let approved = root.approve(&release).expect("its approvals hold");
        let device = PublicKey(SigningKey::from_bytes(&[DEVICE; 32]).verifying_key().to_bytes());
        Self { root, approved, device }
    }

    /// Whether a frame is taken by a rule.
    pub(crate) fn takes(&self, rule: Rule, bytes: &[u8]) -> bool {
        frame::decode::<Signed<'_>>(bytes).is_ok_and(|signed| rule(self, &signed).is_ok())
    }

    /// The name of a rule that takes a frame, and the body it then acts on.
    pub(crate) fn taken<'b>(&self, bytes: &'b [u8]) -> Option<(&'static str, &'b [u8])> {
        let signed: Signed<'b> = frame::decode(bytes).ok()?;
        let (name, _) = STATEMENTS.iter().find(|(_, rule)| rule(self, &signed).is_ok())?;
        Some((*name, signed.body))
    }
}
