//! A small fleet for tests: fixed keys by their seeds, a root that lists them, a release and
//! grants signed by whoever a test names. No assertions.

use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::Version;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::trust::{
    Cohort, FleetId, KeyClass, KeyEntry, KeyStatus, PackageRef, PublicKey, Release, Requires, RoleSet, Root, Signature,
    Signed, StageGrant, Statement, Thresholds, TrustedRoot, sign,
};
use serde::Deserialize;

/// Ada publishes. Her second key approves: it must not help her own releases.
pub const ADA: u8 = 1;
pub const ADA_APPROVES: u8 = 2;
/// Bo, Cy and Dee approve, grant and keep the root; Bo has two keys.
pub const BO: u8 = 3;
pub const BO_AGAIN: u8 = 4;
pub const CY: u8 = 5;
pub const DEE: u8 = 6;
/// Approves, but only models whose name begins with `other`.
pub const OTHER: u8 = 7;
/// Approved once and left; approved once and lost the key.
pub const RETIRED: u8 = 8;
pub const REVOKED: u8 = 9;
/// The hub's keys.
pub const REGISTRY: u8 = 10;
pub const DIRECTOR: u8 = 11;
/// An approver whose key lives in a browser.
pub const BROWSER: u8 = 12;
/// Not in the root.
pub const STRANGER: u8 = 99;
/// Devices count up from here.
pub const DEVICE: u8 = 20;

/// The private key with this seed.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

/// A key of the root.
pub fn entry(seed: u8, person: &str, roles: RoleSet, class: KeyClass) -> KeyEntry {
    KeyEntry {
        public: public(seed),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: Text::new(),
        status: KeyStatus::Active,
    }
}

/// The root of the fleet: two approvers, one grant, two for the root.
pub fn root() -> Root {
    let approves = RoleSet::APPROVE;
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    let other = KeyEntry {
        prefix: Text::try_from("other").unwrap(),
        ..entry(OTHER, "Otto", approves.with(RoleSet::GRANT), KeyClass::File)
    };
    let retired = entry(RETIRED, "Rea", approves, KeyClass::File);
    let revoked = entry(REVOKED, "Rex", approves, KeyClass::File);
    let keys = [
        entry(ADA, "Ada", RoleSet::PUBLISH, KeyClass::File),
        entry(ADA_APPROVES, "Ada", decides, KeyClass::File),
        entry(BO, "Bo", decides, KeyClass::File),
        entry(BO_AGAIN, "Bo", decides, KeyClass::SshAgent),
        entry(CY, "Cy", decides, KeyClass::File),
        entry(DEE, "Dee", decides, KeyClass::Pkcs11),
        other,
        KeyEntry { status: KeyStatus::Retired, ..retired },
        KeyEntry { status: KeyStatus::Revoked, ..revoked },
        entry(REGISTRY, "hub", RoleSet::REGISTRY, KeyClass::Hub),
        entry(DIRECTOR, "hub", RoleSet::DIRECTOR, KeyClass::Hub),
        entry(BROWSER, "Web", approves, KeyClass::Browser),
    ];
    Root {
        version: 1,
        nonce: [1; 16],
        keys: keys.into_iter().collect(),
        thresholds: Thresholds { root: 2, approve: 2, grant: 1 },
        offline_approval: false,
        director_generation: 1,
        time_generation: 0,
    }
}

/// The root as a device pins it.
pub fn trusted(root: &Root) -> TrustedRoot {
    let body = body(root);
    let fleet = FleetId::of_root(&body);
    TrustedRoot::first(fleet, &by::<Root>(fleet, &body, &[BO, CY])).unwrap()
}

/// A release of `digits`.
pub fn release() -> Release {
    Release {
        kind: Kind::Model,
        name: "digits".parse().unwrap(),
        version: Version::FIRST,
        source: Digest::of(b"source"),
        package: PackageRef { digest: Digest::of(b"package"), size: 7, chunks: Digest::of(&Digest::of(b"package").0) },
        requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 64 },
        hardware: std::iter::empty().collect(),
        tensors: Digest::of(b"tensors"),
        security_floor: 0,
        salt: [3; 16],
        checkpoint: 0,
        validity: None,
    }
}

/// A grant for the release with this body.
pub fn grant(release: &[u8], cohort: Cohort) -> StageGrant {
    StageGrant { release: Digest::of(release), cohort, gate: Digest::of(b"gate"), checkpoint: 0, validity: None }
}

/// The exact bytes of a statement.
pub fn body<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 8192];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

/// A body with the signatures of the keys with these seeds.
pub fn by<'b, T: Statement + Deserialize<'b>>(fleet: FleetId, body: &'b [u8], seeds: &[u8]) -> Signed<'b> {
    let one = |seed: &u8| -> Signature { sign::<T>(fleet, body, &key(*seed)).unwrap() };
    Signed { body, signatures: seeds.iter().map(one).collect() }
}
