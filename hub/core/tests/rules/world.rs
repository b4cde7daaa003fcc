//! A hub's rules with a root, and devices that do as they are told: what the tests play with.

use std::collections::BTreeMap;

use bellwether_hub_core::registry::{Candidate, Checks, Lineage};
use bellwether_hub_core::rollout::{OnFailure, Policy, Rollout, State, Step};
use bellwether_hub_core::trust::HubPublic;
use bellwether_hub_core::{Change, Changes, Denied, Rules, event::What};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use bellwether_protocol::manifest::{File, FileRole, Kind, Manifest, TensorSignature};
use bellwether_protocol::message::Hello;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Cohort, FleetId, KeyClass, KeyEntry, KeyId, KeyStatus, Mode, ModelReport, Order, PackageRef, Phase, PublicKey,
    Release, Report, Requires, RoleSet, Root, Running, SignatureBytes, Signed, StageGrant, Statement, Thresholds, sign,
};
use serde::Deserialize;

/// Ada publishes, and may not approve what she published, though she has a key for it.
pub(crate) const ADA: u8 = 1;
pub(crate) const ADA_APPROVES: u8 = 2;
/// Bo (two keys), Cy and Dee approve and grant.
pub(crate) const BO: u8 = 3;
pub(crate) const BO_AGAIN: u8 = 4;
pub(crate) const CY: u8 = 5;
pub(crate) const DEE: u8 = 6;
/// Publishes and approves for models whose names begin with `other`.
pub(crate) const OTHER: u8 = 7;
pub(crate) const OTHER_PUBLISHES: u8 = 8;
pub(crate) const RETIRED: u8 = 9;
const REGISTRY: u8 = 10;
const DIRECTOR: u8 = 11;
pub(crate) const TIME: u8 = 13;
/// Not in the root.
pub(crate) const STRANGER: u8 = 12;
/// Devices' seeds count up from here.
pub(crate) const DEVICE: u8 = 100;

/// No soak, no failure borne, a minute of silence.
pub(crate) const POLICY: Policy = Policy {
    soak: Millis(0),
    failures_max: 0,
    silence: Millis::from_secs(60),
    on_failure: OnFailure::Pause,
    p95_us_max: None,
    mode: Mode::Active,
};

/// The rules, the clock that is handed to them, and all that ever became true.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) now: Millis,
    pub(crate) log: Vec<Change>,
    pub(crate) reports: BTreeMap<DeviceId, u64>,
}

impl World {
    /// A hub with its root set.
    pub(crate) fn new() -> Self {
        let mut world = Self { now: Millis(1_000_000), ..Self::default() };
        world.set_root();
        world
    }

    /// Sets the root, signed by Bo and Cy.
    pub(crate) fn set_root(&mut self) {
        let body = body(&root());
        let statement = signed::<Root>(FleetId::of_root(&body), &body, &[BO, CY]);
        let set = self.rules.set_root(&statement, &hub_public(), "Bo", self.now);
        self.take(set);
    }

    pub(crate) fn fleet(&self) -> FleetId {
        self.rules.trusted().unwrap().fleet()
    }

    /// Makes a decision true, as the shell does, or says who refused.
    pub(crate) fn make(&mut self, decided: Result<Changes, Denied>) -> Result<(), Denied> {
        for change in decided?.list() {
            self.log.push(change.clone());
            self.rules.apply(change.clone());
        }
        Ok(())
    }

    /// The same for a decision that must hold.
    pub(crate) fn take(&mut self, decided: Result<Changes, Denied>) {
        self.make(decided).unwrap();
    }

    /// Registers the next version.
    pub(crate) fn register(&mut self, name: &str) -> ModelRef {
        self.register_as(candidate(name))
    }

    /// Registers a candidate under its next version.
    pub(crate) fn register_as(&mut self, candidate: Candidate) -> ModelRef {
        let (model, changes) = self.rules.register(candidate, b"attestation".to_vec(), "Ada", self.now).unwrap();
        self.take(Ok(changes));
        model
    }

    /// The release of a registered version, as its publisher would write it.
    pub(crate) fn release(&self, model: &ModelRef) -> Vec<u8> {
        let record = self.rules.version(model).unwrap();
        let mut buffer = [0; 1024];
        let mut hasher = Hasher::default();
        hasher.update(frame::encode(&record.manifest.tensors, &mut buffer).unwrap());
        let salt = [u8::try_from(model.version.number() % 251).unwrap(); 16];
        body(&Release {
            kind: record.kind,
            name: model.name.clone(),
            version: model.version,
            source: record.source,
            package: record.package,
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 8 },
            hardware: std::iter::empty().collect(),
            tensors: hasher.finish(),
            security_floor: 0,
            salt,
            checkpoint: 0,
            validity: None,
        })
    }

    pub(crate) fn publish_by(&mut self, model: &ModelRef, seeds: &[u8]) -> Result<(), Denied> {
        let statement = signed::<Release>(self.fleet(), &self.release(model), seeds);
        self.make(self.rules.publish(model, &statement, "Ada", self.now))
    }

    pub(crate) fn approve_by(&mut self, model: &ModelRef, seeds: &[u8]) -> Result<(), Denied> {
        let statement = signed::<Release>(self.fleet(), &self.release(model), seeds);
        self.make(self.rules.sign(model, &statement, "approver", self.now))
    }

    pub(crate) fn grant_by(&mut self, model: &ModelRef, cohort: Cohort, seeds: &[u8]) -> Result<(), Denied> {
        let grant = StageGrant {
            release: Digest::of(&self.release(model)),
            cohort,
            gate: Digest::default(),
            checkpoint: 0,
            validity: None,
        };
        let statement = signed::<StageGrant>(self.fleet(), &body(&grant), seeds);
        self.make(self.rules.add_grant(model, &statement, "approver", self.now))
    }

    pub(crate) fn grant(&mut self, model: &ModelRef, cohort: Cohort) {
        self.grant_by(model, cohort, &[BO]).unwrap();
    }

    /// Registers, publishes and approves the next version.
    pub(crate) fn approved(&mut self, name: &str) -> ModelRef {
        let model = self.register(name);
        self.publish_by(&model, &[ADA]).unwrap();
        self.approve_by(&model, &[BO]).unwrap();
        self.approve_by(&model, &[CY]).unwrap();
        model
    }

    pub(crate) fn start(&mut self, model: &ModelRef, stages: &[Cohort]) -> Result<u64, Denied> {
        self.start_with(model, stages, POLICY)
    }

    pub(crate) fn start_with(&mut self, model: &ModelRef, stages: &[Cohort], policy: Policy) -> Result<u64, Denied> {
        let (id, changes) = self.rules.start_rollout(model, stages.to_vec(), policy, "Olga", self.now)?;
        self.take(Ok(changes));
        Ok(id)
    }

    /// Enrols device number `n` and opens its session.
    pub(crate) fn enrol(&mut self, n: u8) -> DeviceId {
        let id = device(n);
        self.take(self.rules.enrol(&id, device_key(n), BTreeMap::new(), self.now));
        self.take(self.rules.hello(&id, Hello { boot: u64::from(n), session: 1 }, self.now));
        id
    }

    /// What a device was told to have of a model.
    pub(crate) fn told(&self, id: &DeviceId, name: &str) -> Option<ModelRef> {
        let issued = self.rules.device(id).unwrap().assignment.as_ref()?;
        issued.models.iter().find(|want| want.model.name.as_str() == name).map(|want| want.model.clone())
    }

    /// A device obeys its assignment: it runs all of it, or refuses all of it for `reject`.
    pub(crate) fn obey(&mut self, id: &DeviceId, reject: Option<Reject>) {
        let device = self.rules.device(id).unwrap();
        let issued = device.assignment.clone();
        let before = device.report.clone();
        let old = |name: &ModelName| {
            let models = before.iter().flat_map(|report| &report.models);
            models.filter(|model| model.name == *name).find_map(|model| model.active)
        };
        let report_of = |want: &bellwether_hub_core::fleet::Desired| {
            let target = Running { version: want.model.version, release: want.release };
            let (active, phase) = match reject {
                None => (Some(target), Phase::Committed),
                Some(_) => (old(&want.model.name), Phase::Rejected),
            };
            ModelReport { name: want.model.name.clone(), active, target: Some(target), phase, reject, progress: 1000 }
        };
        let models = issued.iter().flat_map(|issued| &issued.models).map(report_of).collect();
        let seen = issued.as_ref().map_or(Order::default(), |issued| issued.order);
        let report = self.next_report(id, seen, models);
        self.take(self.rules.report(report, unchecked(), self.now));
    }

    pub(crate) fn next_report(
        &mut self,
        id: &DeviceId,
        seen: Order,
        models: bellwether_protocol::heapless::Vec<ModelReport, 8>,
    ) -> Report {
        let sequence = self.reports.entry(id.clone()).or_default();
        *sequence += 1;
        Report {
            device: id.clone(),
            boot: 1,
            sequence: *sequence,
            seen,
            agent: [0, 1, 0],
            operators: 21,
            hardware: "linux-x86_64".parse().unwrap(),
            memory_kib: 1024,
            models,
            refused: None,
            audit: Digest::default(),
        }
    }

    /// Time passes: gates are asked, and assignments follow.
    pub(crate) fn tick(&mut self, by: u64) {
        self.now = self.now.saturating_add(Millis(by));
        let ticked = self.rules.tick(self.now);
        self.take(Ok(ticked));
        let judged = self.rules.judge(self.now);
        self.take(Ok(judged));
        let issued = self.rules.issue(self.now);
        self.take(Ok(issued));
    }

    /// Every device does as it was told, until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.tick(1000);
            let behind = self.rules.devices().filter(|device| !device.in_sync());
            let behind: Vec<DeviceId> = behind.map(|device| device.id.clone()).collect();
            for id in &behind {
                self.obey(id, None);
            }
        }
    }

    pub(crate) fn rollout(&self, id: u64) -> &Rollout {
        self.rules.rollout(id).unwrap()
    }

    pub(crate) fn waits(&self, id: u64, stage: usize) -> bool {
        self.rollout(id).state == State::Going { stage, step: Step::WaitingForGrant }
    }

    /// The devices that were told to have this version.
    pub(crate) fn told_to(&self, model: &ModelRef) -> Vec<DeviceId> {
        let has = |id: &&DeviceId| self.told(id, model.name.as_str()).as_ref() == Some(model);
        self.rules.devices().map(|device| &device.id).filter(has).cloned().collect()
    }

    /// The events so far, oldest first.
    pub(crate) fn events(&self) -> impl Iterator<Item = &What> {
        self.log.iter().filter_map(|change| if let Change::Event(event) = change { Some(&event.what) } else { None })
    }
}

/// So many devices that run version 1, and version 2 approved for all.
pub(crate) fn running_one(devices: u8) -> (World, ModelRef, ModelRef) {
    let mut world = World::new();
    for n in 0..devices {
        world.enrol(n);
    }
    let one = world.approved("digits");
    world.grant(&one, buckets(1000));
    world.start(&one, &[buckets(1000)]).unwrap();
    world.settle();
    let two = world.approved("digits");
    world.grant(&two, buckets(1000));
    (world, one, two)
}

/// Everyone whose bucket lies below this.
pub(crate) fn buckets(below: u16) -> Cohort {
    Cohort::Buckets(below)
}

/// Exactly these devices.
pub(crate) fn named(devices: &[u8]) -> Cohort {
    Cohort::Devices(devices.iter().map(|n| device_key(*n).id()).collect())
}

pub(crate) fn device(n: u8) -> DeviceId {
    format!("cam-{n:03}").parse().unwrap()
}

pub(crate) fn device_key(n: u8) -> PublicKey {
    public(DEVICE + n)
}

pub(crate) fn key_id(seed: u8) -> KeyId {
    public(seed).id()
}

/// A package that passed the checks.
pub(crate) fn candidate(name: &str) -> Candidate {
    let file =
        File { name: "model.onnx".parse().unwrap(), role: FileRole::Model, size: 5, digest: Digest::of(b"model") };
    let package = Digest::of(name.as_bytes());
    Candidate {
        manifest: Manifest {
            kind: Kind::Model,
            name: name.parse().unwrap(),
            files: std::iter::once(file).collect(),
            tensors: TensorSignature::default(),
        },
        package: PackageRef { digest: package, size: 100, chunks: Digest::of(&package.0) },
        policy: bellwether_protocol::policy::Policy::default(),
        baseline: Vec::new(),
        source: Digest::of(b"source"),
        lineage: Lineage::default(),
        checks: Checks {
            advice: None,
            golden: None,
            operators: BTreeMap::new(),
            opset: 17,
            parameters: 650,
            memory_kib: 8,
        },
    }
}

/// The public halves of the hub's keys; its root is from before there was a time key.
pub(crate) fn hub_public() -> HubPublic {
    HubPublic { director: public(DIRECTOR), registry: public(REGISTRY), time: public(TIME) }
}

/// The first root, signed, listing this key as the hub's for time.
pub(crate) fn root_with_time_key(time: Option<u8>) -> Vec<u8> {
    let mut root = root();
    let hub = root.keys.iter().find(|key| key.class == KeyClass::Hub).unwrap().clone();
    if let Some(seed) = time {
        let mut entry = hub;
        (entry.public, entry.roles) = (public(seed), RoleSet::TIME);
        root.keys.push(entry).unwrap();
    }
    let body = body(&root);
    signed::<Root>(FleetId::of_root(&body), &body, &[BO, CY])
}

fn root() -> Root {
    let entry = |seed: u8, person: &str, roles, class, prefix: &str, status| KeyEntry {
        public: public(seed),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: Text::try_from(prefix).unwrap(),
        status,
    };
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    use KeyClass::{File as Disk, Hub};
    use KeyStatus::{Active, Retired};
    let keys = [
        entry(ADA, "Ada", RoleSet::PUBLISH, Disk, "", Active),
        entry(ADA_APPROVES, "Ada", decides, Disk, "", Active),
        entry(BO, "Bo", decides, Disk, "", Active),
        entry(BO_AGAIN, "Bo", decides, Disk, "", Active),
        entry(CY, "Cy", decides, Disk, "", Active),
        entry(DEE, "Dee", decides, Disk, "", Active),
        entry(OTHER, "Otto", decides, Disk, "other", Active),
        entry(OTHER_PUBLISHES, "Otto", RoleSet::PUBLISH, Disk, "other", Active),
        entry(RETIRED, "Rea", RoleSet::APPROVE, Disk, "", Retired),
        entry(REGISTRY, "hub", RoleSet::REGISTRY, Hub, "", Active),
        entry(DIRECTOR, "hub", RoleSet::DIRECTOR, Hub, "", Active),
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

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

/// A signature where nobody looks at it: the rules take what was verified.
pub(crate) fn unchecked() -> SignatureBytes {
    SignatureBytes::new([0; 64])
}

pub(crate) fn body<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 8192];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

/// A frame with a body and the signatures of the keys with these seeds.
pub(crate) fn signed<'b, T: Statement + Deserialize<'b>>(fleet: FleetId, body: &'b [u8], seeds: &[u8]) -> Vec<u8> {
    let signatures = seeds.iter().map(|seed| sign::<T>(fleet, body, &key(*seed)).unwrap()).collect();
    let mut buffer = vec![0; 8192];
    frame::encode(&Signed { body, signatures }, &mut buffer).unwrap().to_vec()
}
