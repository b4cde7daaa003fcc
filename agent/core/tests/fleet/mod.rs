//! A little fleet with its keys: what people and a hub would sign. Also used by the agent's own tests.
#![allow(dead_code, reason = "each test uses a part of it")]

use bellwether_agent_core::{Config, Holds};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::{String, Vec as Fixed};
use bellwether_protocol::id::ModelName;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Desired, Evidence};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Assignment, Cohort, Command, FleetId, KeyClass, KeyEntry, KeyId, KeyStatus, Mode, Order, PackageRef, PublicKey,
    Release, Request, Requires, RoleSet, Root, Signature, Signed, StageGrant, Statement, Thresholds, TrustedRoot,
    Validity, Wanted, sign,
};
use serde::Deserialize;

const PUBLISHER: u8 = 2;
const APPROVERS: [u8; 2] = [3, 4];
pub(crate) const DIRECTOR: u8 = 5;

pub(crate) fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn entry(seed: u8, person: &str, roles: RoleSet, class: KeyClass) -> KeyEntry {
    KeyEntry {
        public: PublicKey(key(seed).verifying_key().to_bytes()),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: String::new(),
        status: KeyStatus::Active,
    }
}

pub(crate) fn config() -> Config {
    Config {
        device: "gw-1".parse().unwrap(),
        key: KeyId([7; 16]),
        boot: 1,
        agent: [0, 1, 0],
        operators: 21,
        hardware: "linux-x86_64".parse().unwrap(),
        memory_kib: 1 << 20,
        probation: Millis(10_000),
        errors_max: 3,
        self_test: Millis(60_000),
        heartbeat: Millis(30_000),
        holds: Holds::NONE,
    }
}

/// A body and who signs it.
pub(crate) struct Fleet {
    pub(crate) root_body: Vec<u8>,
    pub(crate) fleet: FleetId,
}

/// A release.
pub(crate) struct Made {
    pub(crate) digest: Digest,
    pub(crate) name: ModelName,
    body: Vec<u8>,
}

/// How a release is offered.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'m> {
    pub(crate) made: &'m Made,
    /// Buckets of the grant.
    pub(crate) grant: Option<u16>,
    pub(crate) approvals: usize,
    pub(crate) evidence: bool,
    pub(crate) mode: Mode,
    /// A bit of the publisher's signature is flipped.
    pub(crate) flip: bool,
    /// What the grant says of its validity.
    pub(crate) validity: Option<Validity>,
    /// Generation of the director's statement.
    pub(crate) generation: u32,
}

impl<'m> Offer<'m> {
    pub(crate) fn granted(made: &'m Made) -> Self {
        Self {
            made,
            grant: Some(1000),
            approvals: 2,
            evidence: true,
            mode: Mode::Active,
            flip: false,
            validity: None,
            generation: 1,
        }
    }
}

pub(crate) fn encode<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = [0; STATEMENT_BYTES_MAX];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let hub = RoleSet::DIRECTOR.with(RoleSet::REGISTRY).with(RoleSet::TIME);
        let root = Root {
            version: 1,
            nonce: [1; 16],
            keys: [
                entry(1, "ruth", RoleSet::ROOT.with(RoleSet::GRANT), KeyClass::File),
                entry(PUBLISHER, "paul", RoleSet::PUBLISH, KeyClass::File),
                entry(APPROVERS[0], "ada", RoleSet::APPROVE, KeyClass::File),
                entry(APPROVERS[1], "ben", RoleSet::APPROVE, KeyClass::File),
                entry(DIRECTOR, "hub", hub, KeyClass::Hub),
            ]
            .into_iter()
            .collect(),
            thresholds: Thresholds { root: 1, approve: 2, grant: 1 },
            offline_approval: false,
            director_generation: 1,
            time_generation: 1,
        };
        let root_body = encode(&root);
        Self { fleet: FleetId::of_root(&root_body), root_body }
    }

    pub(crate) fn signed<'b, T: Statement + Deserialize<'b>>(&self, body: &'b [u8], seeds: &[u8]) -> Signed<'b> {
        let signatures: Fixed<Signature, 8> =
            seeds.iter().map(|seed| sign::<T>(self.fleet, body, &key(*seed)).unwrap()).collect();
        Signed { body, signatures }
    }

    pub(crate) fn root(&self) -> TrustedRoot {
        TrustedRoot::first(self.fleet, &self.signed::<Root>(&self.root_body, &[1])).unwrap()
    }

    pub(crate) fn release(&self, name: &str, version: u32) -> Made {
        self.release_with(name, version, |_| {})
    }

    pub(crate) fn release_with(&self, model: &str, version: u32, change: impl FnOnce(&mut Release)) -> Made {
        let content = Digest::of(format!("{model}:{version}").as_bytes());
        let mut release = Release {
            kind: Kind::Model,
            name: name(model),
            version: version.try_into().unwrap(),
            source: content,
            package: PackageRef { digest: content, size: 1000, chunks: content },
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 100 },
            hardware: Fixed::new(),
            tensors: content,
            security_floor: 0,
            salt: [9; 16],
            checkpoint: 0,
            validity: None,
        };
        change(&mut release);
        let body = encode(&release);
        Made { digest: Digest::of(&body), name: name(model), body }
    }

    pub(crate) fn assign(&self, sequence: u64, offers: &[Offer<'_>], take: impl FnMut(&Desired<'_>)) {
        self.assign_to("gw-1", sequence, offers, take);
    }

    /// A command of the hub, encoded in a frame of its own.
    pub(crate) fn command(&self, sequence: u64, request: Request) -> Vec<u8> {
        encode(&Command { device: "gw-1".parse().unwrap(), order: Order { generation: 1, sequence }, request })
    }

    pub(crate) fn assign_to(
        &self,
        device: &str,
        sequence: u64,
        offers: &[Offer<'_>],
        mut take: impl FnMut(&Desired<'_>),
    ) {
        let wanted =
            |offer: &Offer<'_>| Wanted { name: offer.made.name.clone(), release: offer.made.digest, mode: offer.mode };
        let assignment = encode(&Assignment {
            device: device.parse().unwrap(),
            order: Order { generation: offers.first().map_or(1, |offer| offer.generation), sequence },
            models: offers.iter().map(wanted).collect(),
            audit: Digest::default(),
        });
        let grants: Vec<Vec<u8>> =
            offers.iter().map(|offer| grant(offer.made.digest, offer.grant.unwrap_or(0), offer.validity)).collect();
        let evidence = offers.iter().zip(&grants).filter(|(offer, _)| offer.evidence).map(|(offer, grant)| {
            let mut signers = vec![PUBLISHER];
            signers.extend(APPROVERS.iter().take(offer.approvals));
            let mut release = self.signed::<Release>(&offer.made.body, &signers);
            if offer.flip {
                release.signatures.swap(0, 1);
                let bytes = release.signatures[0].bytes;
                release.signatures[0].bytes = release.signatures[1].bytes;
                release.signatures[1].bytes = bytes;
            }
            Evidence { release, grant: offer.grant.map(|_| self.signed::<StageGrant>(grant, &[1])) }
        });
        let desired =
            Desired { assignment: self.signed::<Assignment>(&assignment, &[DIRECTOR]), evidence: evidence.collect() };
        take(&desired);
    }
}

fn grant(release: Digest, buckets: u16, validity: Option<Validity>) -> Vec<u8> {
    let grant =
        StageGrant { release, cohort: Cohort::Buckets(buckets), gate: Digest::default(), checkpoint: 0, validity };
    encode(&grant)
}
