//! What people and the hub want of one device, update after update: ten kinds, again and again.
//!
//! ```text
//!  Plain  Reused  FailsTest  Floored  FailsTrial  Superseded  Back  Recalled  Rotated  Resized
//!  stays  stays   rejected   stays    goes back   second one  old   goes back stays    stays
//! ```
//! All statements are signed beforehand by the keys of the fleet, and the device verifies them as shipped.

use std::collections::BTreeMap;
use std::rc::Rc;

use bellwether_hub_core::talk;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::{DeviceId, ModelName, TransferId, Version};
use bellwether_protocol::limit::CHUNK_BYTES;
use bellwether_protocol::manifest::Kind as PackageKind;
use bellwether_protocol::message::{Chunk, Desired, Down, Evidence, Table};
use bellwether_protocol::topic::{DownTopic, Part};
use bellwether_protocol::trust::{
    Assignment, Cohort, Counters, FleetId, Mode, Order, Otherwise, Phase, Recall, Release, Requires, Root, Signed,
    StageGrant, TrustedRoot, Wanted, seal,
};

use crate::check::Lawful;
use crate::model::{Behaviour, Package, tensors_digest};
use crate::people::{ADA, BO, CY, DIRECTOR, body, key, noise, root, signed};

/// A message down.
pub(super) type Message = (DownTopic, Rc<Vec<u8>>);

/// The kinds of updates, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new release, which stays.
    Plain,
    /// One whose first chunk is in the slot already.
    Reused,
    /// One that does not pass its self-test.
    FailsTest,
    /// One that raises the floor.
    Floored,
    /// One that is taken back in probation.
    FailsTrial,
    /// One that another takes the place of, midway.
    Superseded,
    /// One that was committed before.
    Back,
    /// One that is recalled.
    Recalled,
    /// One that comes with a new root.
    Rotated,
    /// One of another size, in a single chunk.
    Resized,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Plain,
        Self::Reused,
        Self::FailsTest,
        Self::Floored,
        Self::FailsTrial,
        Self::Superseded,
        Self::Back,
        Self::Recalled,
        Self::Rotated,
        Self::Resized,
    ];
}

/// When the hub says the next thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The device asks for chunks.
    Need,
    /// It reports the release in this phase.
    Phase(Phase),
    /// The update is over.
    End,
}

/// What the hub says at a time.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) desired: Message,
    pub(super) order: Order,
    pub(super) release: Digest,
    /// What the device must know by then, and is told until it says so.
    pub(super) recalls: Digest,
    pub(super) until: Until,
}

/// How an update ends if nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// What answers.
    pub(super) release: Digest,
    /// What is said of what was tried last.
    pub(super) phase: Phase,
    pub(super) reject: Option<Reject>,
}

/// One update.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) stages: Vec<Stage>,
    /// Roots after the first, and recalls, as far as they are there by the end of it.
    pub(super) roots: Vec<Message>,
    pub(super) recalls: Vec<Message>,
    pub(super) ends: Ends,
    /// Releases that may be on the device by then.
    pub(super) lawful: BTreeMap<Digest, Lawful>,
}

/// A release with what is needed to offer it.
#[derive(Clone, Debug)]
struct Offer {
    digest: Digest,
    version: u32,
    release: Vec<u8>,
    grant: Vec<u8>,
    bytes: Rc<Vec<u8>>,
}

/// Everything that was ever said and signed.
#[derive(Debug)]
pub(crate) struct Script {
    pub(super) fleet: FleetId,
    pub(super) device: DeviceId,
    pub(super) first: TrustedRoot,
    pub(super) updates: Vec<Rc<Update>>,
    pub(super) behaviours: BTreeMap<Digest, Behaviour>,
    pub(super) parts: BTreeMap<TransferId, (Message, Vec<Message>)>,
}

/// Who writes it.
struct Writer {
    script: Script,
    seed: u64,
    name: ModelName,
    tensors: Digest,
    root: Root,
    trusted: TrustedRoot,
    counters: Counters,
    roots: Vec<Message>,
    recalls: Vec<Message>,
    order: Order,
    version: u32,
    /// Those that stayed, the newest last.
    committed: Vec<Offer>,
    /// What is in the slot that the next one goes to.
    spare: Option<Offer>,
    /// Those that were offered, the newest last.
    offered: Vec<Digest>,
    lawful: BTreeMap<Digest, Lawful>,
}

/// Bytes of a package: a chunk and a part of another.
const PACKAGE_BYTES: usize = CHUNK_BYTES + 5_000;
/// Bytes of a larger one: two chunks and a part of a third.
const LARGE_BYTES: usize = 2 * CHUNK_BYTES + 5_000;
/// Releases that are remembered as lawful: a device holds three and remembers eight.
const LAWFUL_MAX: usize = 16;

impl Script {
    /// Everything for so many updates; `None` if a statement does not fit, which none does.
    pub(super) fn write(updates: u32, seed: u64) -> Option<Self> {
        let root = root(seed);
        let first = body(&root);
        let fleet = FleetId::of_root(&first);
        let trusted =
            TrustedRoot::first(fleet, &frame::decode(&signed::<Root>(fleet, &first, &[BO, CY])).ok()?).ok()?;
        let script = Self {
            fleet,
            device: DeviceId::parse("cam-000").ok()?,
            first: trusted.clone(),
            updates: Vec::new(),
            behaviours: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let mut writer = Writer {
            script,
            seed,
            name: "digits".parse().ok()?,
            tensors: tensors_digest()?,
            order: Order { generation: root.director_generation, sequence: 0 },
            root,
            trusted,
            counters: Counters::default(),
            roots: Vec::new(),
            recalls: Vec::new(),
            version: 0,
            committed: Vec::new(),
            spare: None,
            offered: Vec::new(),
            lawful: BTreeMap::new(),
        };
        for number in 0..updates {
            writer.update(number)?;
        }
        Some(writer.script)
    }
}

impl Writer {
    fn update(&mut self, number: u32) -> Option<()> {
        let kind = *Kind::ALL.get(number as usize % Kind::ALL.len())?;
        let turn = number as usize / Kind::ALL.len();
        let (stages, ends) = match kind {
            Kind::Plain => self.stays(LARGE_BYTES, 0)?,
            Kind::Resized => self.stays(if turn.is_multiple_of(2) { 9_000 } else { CHUNK_BYTES + 1 }, 0)?,
            Kind::Floored => {
                let floor = self.committed.len().checked_sub(2).and_then(|back| self.committed.get(back))?.version;
                self.stays(PACKAGE_BYTES, floor)?
            }
            Kind::Rotated => {
                self.rotate(turn)?;
                self.stays(PACKAGE_BYTES, 0)?
            }
            Kind::Reused => {
                let mut bytes = self.noise(PACKAGE_BYTES);
                let old = self.spare.as_ref().map(|spare| spare.bytes.clone()).unwrap_or_default();
                bytes.iter_mut().zip(old.iter().take(CHUNK_BYTES)).for_each(|(to, from)| *to = *from);
                self.stays_with(bytes, 0)?
            }
            Kind::FailsTest => {
                let (behaviour, reject) = if turn.is_multiple_of(2) {
                    (Behaviour::FailsGolden, Reject::GoldenMismatch)
                } else {
                    (Behaviour::CrashesInTest, Reject::Crashed)
                };
                self.fails(behaviour, Phase::Rejected, reject)?
            }
            Kind::FailsTrial => {
                let (behaviour, reject) = if turn.is_multiple_of(2) {
                    (Behaviour::Errs, Reject::ScoringErrors)
                } else {
                    (Behaviour::Slow, Reject::LatencyBudget)
                };
                self.fails(behaviour, Phase::RolledBack, reject)?
            }
            Kind::Superseded => {
                let until =
                    *[Until::Need, Until::Phase(Phase::SelfTest), Until::Phase(Phase::Probation)].get(turn % 3)?;
                let first = self.offer(LARGE_BYTES, Behaviour::Good, 0)?;
                let mut stages = vec![self.stage(&first, until, true)?];
                let (more, ends) = self.stays(PACKAGE_BYTES, 0)?;
                stages.extend(more);
                (stages, ends)
            }
            Kind::Back => {
                let back = self.committed.len().checked_sub(2 + turn % 2)?;
                let offer = self.committed.remove(back);
                let stage = self.stage(&offer, Until::End, false)?;
                (vec![stage], self.commits(offer))
            }
            Kind::Recalled => self.recalled(turn)?,
        };
        let (roots, recalls, lawful) = (self.roots.clone(), self.recalls.clone(), self.lawful.clone());
        self.script.updates.push(Rc::new(Update { number, kind, stages, roots, recalls, ends, lawful }));
        Some(())
    }

    fn noise(&self, length: usize) -> Vec<u8> {
        noise(self.seed ^ u64::from(self.version + 1) << 32, length)
    }

    fn stays(&mut self, length: usize, floor: u32) -> Option<(Vec<Stage>, Ends)> {
        self.stays_with(self.noise(length), floor)
    }

    fn stays_with(&mut self, bytes: Vec<u8>, floor: u32) -> Option<(Vec<Stage>, Ends)> {
        let offer = self.offer_of(bytes, Behaviour::Good, floor)?;
        let stage = self.stage(&offer, Until::End, true)?;
        Some((vec![stage], self.commits(offer)))
    }

    /// It stays: what answered before is in the spare slot now.
    fn commits(&mut self, offer: Offer) -> Ends {
        self.spare = self.committed.last().cloned();
        let ends = Ends { release: offer.digest, phase: Phase::Committed, reject: None };
        self.committed.push(offer);
        ends
    }

    fn fails(&mut self, behaviour: Behaviour, phase: Phase, reject: Reject) -> Option<(Vec<Stage>, Ends)> {
        let offer = self.offer(PACKAGE_BYTES, behaviour, 0)?;
        let stage = self.stage(&offer, Until::End, true)?;
        self.spare = Some(offer);
        let ends = Ends { release: self.committed.last()?.digest, phase, reject: Some(reject) };
        Some((vec![stage], ends))
    }

    /// A release is recalled while it comes, on trial, or once it stayed; then the one before is wanted.
    fn recalled(&mut self, turn: usize) -> Option<(Vec<Stage>, Ends)> {
        let phases = [Phase::SelfTest, Phase::Probation, Phase::Committed];
        let offer = self.offer(PACKAGE_BYTES, Behaviour::Good, 0)?;
        let first = self.stage(&offer, Until::Phase(*phases.get(turn % 3)?), true)?;
        let recall = Recall {
            name: self.name.clone(),
            releases: std::iter::once(offer.digest).collect(),
            otherwise: Otherwise::Stop,
        };
        let bytes = body(&recall);
        let statement = signed::<Recall>(self.script.fleet, &bytes, &[CY]);
        let statement: Signed<'_> = frame::decode(&statement).ok()?;
        self.counters.recall(&self.trusted, &statement).ok()?;
        self.recalls.push(message(DownTopic::Trust, &Down::Recall(statement))?);
        let before = self.committed.last()?.clone();
        let second = self.stage(&before, Until::End, false)?;
        self.spare = Some(offer);
        Some((vec![first, second], Ends { release: before.digest, phase: Phase::Committed, reject: None }))
    }

    /// A new root: the director's next generation, or the same again.
    fn rotate(&mut self, turn: usize) -> Option<()> {
        self.root.version += 1;
        if turn.is_multiple_of(2) {
            self.root.director_generation += 1;
            self.order = Order { generation: self.root.director_generation, sequence: 0 };
        }
        let bytes = body(&self.root);
        let statement = signed::<Root>(self.script.fleet, &bytes, &[BO, CY]);
        let statement: Signed<'_> = frame::decode(&statement).ok()?;
        self.trusted = self.trusted.next(&statement).ok()?;
        self.counters.root_changed(&self.trusted);
        self.roots.push(message(DownTopic::Trust, &Down::Root(statement))?);
        Some(())
    }

    fn offer(&mut self, length: usize, behaviour: Behaviour, floor: u32) -> Option<Offer> {
        self.offer_of(self.noise(length), behaviour, floor)
    }

    /// A package is prepared, released and granted.
    fn offer_of(&mut self, bytes: Vec<u8>, behaviour: Behaviour, security_floor: u32) -> Option<Offer> {
        self.version += 1;
        let version = self.version;
        let package = Package::of(bytes, behaviour);
        let release = Release {
            kind: PackageKind::Model,
            name: self.name.clone(),
            version: Version::new(version).ok()?,
            source: package.reference.digest,
            package: package.reference,
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 8 },
            hardware: Few::new(),
            tensors: self.tensors,
            security_floor,
            salt: [3; 16],
            checkpoint: 0,
            validity: None,
        };
        let fleet = self.script.fleet;
        let bytes = body(&release);
        let digest = Digest::of(&bytes);
        let release = signed::<Release>(fleet, &bytes, &[ADA, BO, CY]);
        let cohort = Cohort::Buckets(1000);
        let grant = StageGrant {
            release: digest,
            cohort: cohort.clone(),
            gate: Digest::default(),
            checkpoint: 0,
            validity: None,
        };
        let grant = signed::<StageGrant>(fleet, &body(&grant), &[BO]);
        let lawful = Lawful { name: self.name.clone(), salt: [3; 16], floor: security_floor, grants: vec![cohort] };
        self.lawful.insert(digest, lawful);
        self.offered.push(digest);
        let is_known = |digest: &Digest| {
            let committed = self.committed.iter().rev().take(LAWFUL_MAX).map(|offer| &offer.digest);
            committed.chain(self.offered.iter().rev().take(4)).any(|known| known == digest)
        };
        self.lawful.retain(|digest, _| is_known(digest));
        self.script.behaviours.insert(package.reference.digest, behaviour);
        let transfer = package.reference.digest.transfer();
        let table = message(DownTopic::Part(transfer, Part::Table), &Down::Table(Table { digests: &package.table }))?;
        let chunk = |(n, bytes): (usize, &[u8])| {
            let part = Part::Chunk(u16::try_from(n).ok()?);
            message(DownTopic::Part(transfer, part), &Down::Chunk(Chunk { bytes }))
        };
        let chunks = package.bytes.chunks(CHUNK_BYTES).enumerate().map(chunk).collect::<Option<Vec<_>>>()?;
        self.script.parts.insert(transfer, (table, chunks));
        Some(Offer { digest, version, release, grant, bytes: Rc::new(package.bytes) })
    }

    /// The hub wants a release.
    fn stage(&mut self, offer: &Offer, until: Until, is_granted: bool) -> Option<Stage> {
        self.order.sequence += 1;
        let wanted = Wanted { name: self.name.clone(), release: offer.digest, mode: Mode::Active };
        let assignment = Assignment {
            device: self.script.device.clone(),
            order: self.order,
            models: std::iter::once(wanted).collect(),
            audit: Digest::default(),
        };
        let mut buffer = vec![0; 4096];
        let assignment = seal(&assignment, self.script.fleet, &key(DIRECTOR), &mut buffer).ok()?;
        let release: Signed<'_> = frame::decode(&offer.release).ok()?;
        let grant = if is_granted { Some(frame::decode::<Signed<'_>>(&offer.grant).ok()?) } else { None };
        let desired = Desired { assignment, evidence: std::iter::once(Evidence { release, grant }).collect() };
        let desired = message(DownTopic::Desired, &Down::Desired(desired))?;
        let recalls = self.counters.recalls_digest();
        Some(Stage { desired, order: self.order, release: offer.digest, recalls, until })
    }
}

fn message(topic: DownTopic, down: &Down<'_>) -> Option<Message> {
    talk::message(topic, down).ok().map(|(topic, frame)| (topic, Rc::new(frame)))
}
