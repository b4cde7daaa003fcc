//! Who signs what: the keys of a fleet, by small seeds, and what people do with them.

use bellwether_hub_core::trust::{HubPublic, encode};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::Person;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::trust::{
    FleetId, KeyClass, KeyEntry, KeyStatus, PublicKey, RoleSet, Root, Signature, Signed, Statement, Thresholds, sign,
};
use serde::Deserialize;

/// Ada publishes; Bo, Cy and Dee approve, grant and keep the root.
pub(crate) const ADA: u8 = 1;
pub(crate) const BO: u8 = 2;
pub(crate) const CY: u8 = 3;
pub(crate) const DEE: u8 = 4;
pub(crate) const REGISTRY: u8 = 10;
pub(crate) const DIRECTOR: u8 = 11;
pub(crate) const TIME: u8 = 12;
/// Devices' seeds count up from here, in a space of their own.
const DEVICE: u8 = 0xd0;

/// The key of a person or of the hub.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The key that a device made when it was made anew for the `turn`th time.
pub(crate) fn device_key(n: usize, turn: u8) -> SigningKey {
    let mut seed = [DEVICE; 32];
    for (to, from) in seed.iter_mut().zip((n as u64).to_le_bytes().into_iter().chain([turn])) {
        *to = from;
    }
    SigningKey::from_bytes(&seed)
}

pub(crate) fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// The public halves of the hub's keys.
pub(crate) fn hub() -> HubPublic {
    HubPublic { director: public(&key(DIRECTOR)), registry: public(&key(REGISTRY)), time: public(&key(TIME)) }
}

fn entry(seed: u8, person: &str, roles: RoleSet, class: KeyClass) -> Option<KeyEntry> {
    Some(KeyEntry {
        public: public(&key(seed)),
        person: Person::parse(person).ok()?,
        roles,
        class,
        prefix: Text::new(),
        status: KeyStatus::Active,
    })
}

/// Version 1 of the root: two approve beside the publisher, two keep it, one grants.
pub(crate) fn root(nonce: u64) -> Root {
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    let keys = [
        entry(ADA, "Ada", RoleSet::PUBLISH, KeyClass::File),
        entry(BO, "Bo", decides, KeyClass::File),
        entry(CY, "Cy", decides, KeyClass::File),
        entry(DEE, "Dee", decides, KeyClass::File),
        entry(REGISTRY, "hub", RoleSet::REGISTRY, KeyClass::Hub),
        entry(DIRECTOR, "hub", RoleSet::DIRECTOR, KeyClass::Hub),
        entry(TIME, "hub", RoleSet::TIME, KeyClass::Hub),
    ];
    let mut random = [0; 16];
    for (to, from) in random.iter_mut().zip(nonce.to_le_bytes()) {
        *to = from;
    }
    Root {
        version: 1,
        nonce: random,
        keys: keys.into_iter().flatten().collect(),
        thresholds: Thresholds { root: 2, approve: 2, grant: 1 },
        offline_approval: false,
        director_generation: 1,
        time_generation: 1,
    }
}

/// The exact bytes of a statement; empty if it does not fit, which nobody signs.
pub(crate) fn body<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; STATEMENT_BYTES_MAX];
    frame::encode(value, &mut buffer).map(|body| body.to_vec()).unwrap_or_default()
}

/// A frame with a body and the signatures of these people.
pub(crate) fn signed<'b, T: Statement + Deserialize<'b>>(fleet: FleetId, body: &'b [u8], seeds: &[u8]) -> Vec<u8> {
    let one = |seed: &u8| -> Option<Signature> { sign::<T>(fleet, body, &key(*seed)).ok() };
    encode(&Signed { body, signatures: seeds.iter().filter_map(one).collect() })
}

/// Bytes that look like nothing in particular.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block = Digest::of(&seed.to_le_bytes());
    while bytes.len() < length {
        bytes.extend(block.0);
        block = Digest::of(&block.0);
    }
    bytes.truncate(length);
    bytes
}
