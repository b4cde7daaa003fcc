//! One fleet's statements: a publisher, two who approve and grant, a hub, a device with one model.

use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::trust::{
    Assignment, Checkpoint, Cohort, Epoch, FleetId, Floor, KeyClass, KeyEntry, KeyStatus, Mode, ModelReport, Order,
    Otherwise, PackageRef, Phase, PublicKey, Recall, Recalled, Release, Report, Requires, RoleSet, Root, Running,
    Signed, StageGrant, Statement, Thresholds, TrustedRoot, Wanted, seal,
};

/// Seeds of the keys.
pub(crate) const PUBLISHER: u8 = 1;
pub(crate) const APPROVERS: [u8; 2] = [2, 3];
pub(crate) const REGISTRY: u8 = 10;
pub(crate) const DIRECTOR: u8 = 11;
pub(crate) const TIME: u8 = 12;
pub(crate) const DEVICE: u8 = 20;

/// Bytes of the package: a small convolutional network.
pub(crate) const PACKAGE_BYTES: u64 = 96 * 1024;

/// Frames, each of a signed statement, but for `desired`.
pub(crate) struct Native {
    pub(crate) trusted: TrustedRoot,
    pub(crate) root: Vec<u8>,
    pub(crate) next_root: Vec<u8>,
    pub(crate) release: Vec<u8>,
    pub(crate) grant: Vec<u8>,
    pub(crate) assignment: Vec<u8>,
    pub(crate) recall: Vec<u8>,
    pub(crate) checkpoint: Vec<u8>,
    pub(crate) epoch: Vec<u8>,
    pub(crate) report: Vec<u8>,
    /// What travels to a device: assignment, release and grant in one message.
    pub(crate) desired: Vec<u8>,
}

impl Native {
    pub(crate) fn new() -> Self {
        let first = root();
        let body = encoded(&first);
        let fleet = FleetId::of_root(&body);
        let root = signed(&first, fleet, &APPROVERS);
        let trusted = TrustedRoot::first(fleet, &opened(&root)).expect("the root holds");
        let next = Root { version: 2, director_generation: 2, ..first };
        let release = signed(&release(), fleet, &[PUBLISHER, 2, 3]);
        let digest = opened(&release).digest();
        let grant = StageGrant {
            release: digest,
            cohort: Cohort::Buckets(250),
            gate: Digest::of(b"gate"),
            checkpoint: 0,
            validity: None,
        };
        let grant = signed(&grant, fleet, &[2]);
        let assignment = signed(&assignment(digest), fleet, &[DIRECTOR]);
        let evidence = Evidence { release: opened(&release), grant: Some(opened(&grant)) };
        let desired = Desired { assignment: opened(&assignment), evidence: std::iter::once(evidence).collect() };
        let desired = encoded(&Down::Desired(desired));
        let recall = Recall { name: name(), releases: std::iter::once(digest).collect(), otherwise: Otherwise::Stop };
        Self {
            trusted,
            root,
            next_root: signed(&next, fleet, &APPROVERS),
            recall: signed(&recall, fleet, &[2]),
            checkpoint: signed(&checkpoint(digest), fleet, &APPROVERS),
            epoch: signed(&Epoch { generation: 1, epoch: 20_782, nonce: [8; 16] }, fleet, &[TIME]),
            report: signed(&report(digest), fleet, &[DEVICE]),
            release,
            grant,
            assignment,
            desired,
        }
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

fn name() -> ModelName {
    "digits".parse().expect("a name")
}

fn version(number: u32) -> Version {
    Version::new(number).expect("a version")
}

fn root() -> Root {
    let entry = |seed: u8, person: &str, roles: RoleSet, class| KeyEntry {
        public: public(seed),
        person: person.parse().expect("a person"),
        roles,
        class,
        prefix: Text::new(),
        status: KeyStatus::Active,
    };
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    let keys = [
        entry(PUBLISHER, "Ada", RoleSet::PUBLISH, KeyClass::File),
        entry(2, "Bo", decides, KeyClass::File),
        entry(3, "Cy", decides, KeyClass::SshAgent),
        entry(REGISTRY, "hub", RoleSet::REGISTRY, KeyClass::Hub),
        entry(DIRECTOR, "hub", RoleSet::DIRECTOR, KeyClass::Hub),
        entry(TIME, "hub", RoleSet::TIME, KeyClass::Hub),
    ];
    Root {
        version: 1,
        nonce: [9; 16],
        keys: keys.into_iter().collect(),
        thresholds: Thresholds { root: 2, approve: 2, grant: 1 },
        offline_approval: true,
        director_generation: 1,
        time_generation: 1,
    }
}

fn release() -> Release {
    Release {
        kind: Kind::Model,
        name: name(),
        version: version(3),
        source: Digest::of(b"source"),
        package: PackageRef { digest: Digest::of(b"package"), size: PACKAGE_BYTES, chunks: Digest::of(b"chunks") },
        requires: Requires { agent: [0, 2, 0], operators: 17, memory_kib: 4096 },
        hardware: ["linux-x86_64", "linux-aarch64"].iter().map(|one| one.parse().expect("a class")).collect(),
        tensors: Digest::of(b"tensors"),
        security_floor: 0,
        salt: [7; 16],
        checkpoint: 0,
        validity: None,
    }
}

fn assignment(release: Digest) -> Assignment {
    Assignment {
        device: "lyon-camera-03".parse().expect("a device"),
        order: Order { generation: 1, sequence: 70_000 },
        models: std::iter::once(Wanted { name: name(), release, mode: Mode::Active }).collect(),
        audit: Digest::of(b"audit"),
    }
}

fn checkpoint(release: Digest) -> Checkpoint {
    let recalled = Recalled { name: name(), release, stop: true };
    let floor = Floor { name: name(), version: version(4) };
    Checkpoint { number: 7, recalls: std::iter::once(recalled).collect(), floors: std::iter::once(floor).collect() }
}

fn report(release: Digest) -> Report {
    let running = Running { version: version(3), release };
    let model = ModelReport {
        name: name(),
        active: Some(running),
        target: Some(running),
        phase: Phase::Committed,
        reject: None,
        progress: 1000,
    };
    Report {
        device: "lyon-camera-03".parse().expect("a device"),
        boot: u64::MAX,
        sequence: 12,
        seen: Order { generation: 1, sequence: 70_000 },
        agent: [0, 2, 0],
        operators: 21,
        hardware: "linux-x86_64".parse().expect("a class"),
        memory_kib: 262_144,
        models: std::iter::once(model).collect(),
        refused: None,
        audit: Digest::of(b"audit"),
    }
}

fn signed<T: Statement>(value: &T, fleet: FleetId, seeds: &[u8]) -> Vec<u8> {
    let body = encoded(value);
    let one = |seed: &u8| {
        let mut buffer = vec![0; 8192];
        let sealed = seal(value, fleet, &key(*seed), &mut buffer).expect("it is sealed");
        sealed.signatures.first().copied().expect("a sealed statement has a signature")
    };
    encoded(&Signed { body: &body, signatures: seeds.iter().map(one).collect() })
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 16 * 1024];
    frame::encode(value, &mut buffer).expect("it fits").to_vec()
}

fn opened(statement: &[u8]) -> Signed<'_> {
    frame::decode(statement).expect("what was written reads")
}
