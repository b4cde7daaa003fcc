//! The fixed values behind the golden frames, made with fixed keys: whoever changes one changes
//! the wire.

use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::{String as Text, Vec as List};
use bellwether_protocol::id::{DeviceId, ModelRef, Version};
use bellwether_protocol::manifest::{DataType, File, FileRole, Kind, Manifest, TensorSignature, TensorSpec};
use bellwether_protocol::message::{Chunk, Desired, Down, Evidence, Gone, Hello, Need, Table, Up};
use bellwether_protocol::package::{chunk_digests, encode_head};
use bellwether_protocol::profile::{Bins, Column, Counts, Of, Side, Source, append};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Accelerator, Ack, Agreement, Assignment, Attestation, AuditHead, Batch, Checkpoint, Cohort, Command, Connect,
    Enrol, Epoch, Event, Exit, Failure, FleetId, Floor, Hold, KeyClass, KeyEntry, KeyStatus, Known, Log, LogWhy, Mode,
    ModelReport, Offload, Order, Otherwise, OutboxId, PackageRef, Phase, Profile, PublicKey, Reason, Recall, Recalled,
    Record, RecordBody, Release, Report, Request, Requires, RoleSet, Root, Running, Sample, ScoredBy, Scores, Signed,
    StageGrant, Statement, Thresholds, Tick, Validity, Wanted, seal,
};

/// Publisher, two approvers, the hub's registry and director, two devices: by their seeds.
const PUBLISHER: u8 = 1;
const APPROVERS: [u8; 2] = [2, 3];
const REGISTRY: u8 = 10;
const DIRECTOR: u8 = 11;
const DEVICE: u8 = 20;

/// Name, words and frame of a statement.
pub(crate) type Named<'v, T> = Vec<(&'static str, &'static str, T)>;

/// Everything that is frozen.
pub(crate) struct Values {
    pub(crate) fleet: FleetId,
    pub(crate) manifest: Manifest,
    pub(crate) package: Vec<u8>,
    table: Vec<u8>,
    statements: Named<'static, Vec<u8>>,
}

/// The private key with this seed.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

impl Values {
    #[expect(clippy::too_many_lines, reason = "a table with a line for each statement")]
    pub(crate) fn new() -> Self {
        let manifest = manifest();
        let package = package(&manifest);
        let table: Vec<u8> = chunk_digests(&package).flat_map(|digest| digest.0).collect();
        let root = root();
        let body = body(&root);
        let fleet = FleetId::of_root(&body);
        let release = release(&manifest, &package, &table);
        let release_digest = Digest::of(&self::body(&release));
        let device = |value: &dyn Fn(FleetId) -> Vec<u8>| value(fleet);
        let statements = vec![
            ("root-v1", "Version 1 of a root, signed by its own threshold.", signed(&root, fleet, &APPROVERS)),
            (
                "release",
                "Version 3 of the model digits, signed by its publisher and two approvers.",
                signed(&release, fleet, &[PUBLISHER, 2, 3]),
            ),
            (
                "grant-buckets",
                "A grant that reaches every bucket.",
                signed(&grant(release_digest, Cohort::Buckets(1000)), fleet, &[2]),
            ),
            (
                "grant-devices",
                "A grant for two devices, by their keys.",
                signed(&grant(release_digest, named_devices()), fleet, &[3]),
            ),
            (
                "assignment",
                "What the device cam-1 should have, signed by the director.",
                signed(&assignment(release_digest), fleet, &[DIRECTOR]),
            ),
            ("command", "The director asks cam-1 for a report.", signed(&command(), fleet, &[DIRECTOR])),
            ("ack", "The hub has taken records 1 to 300 of an outbox.", signed(&ack(), fleet, &[DIRECTOR])),
            (
                "report",
                "What cam-1 says it has, signed with its own key.",
                device(&|fleet| signed(&report(release_digest), fleet, &[DEVICE])),
            ),
            ("batch", "Three records of cam-1's outbox: a gap, scores, an event.", signed(&batch(), fleet, &[DEVICE])),
            (
                "batch-watched",
                "Four more: one column of a profile, a sampled row, a failure and a piece of its log.",
                signed(&batch_watched(), fleet, &[DEVICE]),
            ),
            (
                "assignment-modes",
                "The next assignment of cam-1: one release is urgent, one waits for a clock.",
                signed(&assignment_modes(release_digest), fleet, &[DIRECTOR]),
            ),
            (
                "report-held",
                "What cam-1 says next: each reason for which an install waits, and a model in the shadow.",
                signed(&report_held(release_digest), fleet, &[DEVICE]),
            ),
            (
                "batch-agreement",
                "One more record: how a model in the shadow did.",
                signed(&batch_agreement(), fleet, &[DEVICE]),
            ),
            (
                "batch-offload",
                "One more: where rows were scored of a model that an FPGA takes.",
                signed(&batch_offload(), fleet, &[DEVICE]),
            ),
            ("command-log", "A command to cam-1: send the end of the log.", signed(&command_log(), fleet, &[DIRECTOR])),
            ("connect", "The password with which cam-1 opens a session.", signed(&connect(), fleet, &[DEVICE])),
            ("enrol", "cam-1 enrols: it holds the key.", signed(&enrol(), fleet, &[DEVICE])),
            (
                "attestation",
                "The registry gave this version and repeated the checks.",
                signed(&attestation(&package), fleet, &[REGISTRY]),
            ),
            (
                "root-v2",
                "The root that follows: a key lost, a new director generation; signed by the old and the new.",
                signed(&next_root(root), fleet, &APPROVERS),
            ),
            ("recall", "One approver recalls that release of digits.", signed(&recall(release_digest), fleet, &[2])),
            (
                "checkpoint",
                "Checkpoint 7: one recall and a floor, so that k approvers signed it.",
                signed(&checkpoint(release_digest), fleet, &APPROVERS),
            ),
            ("epoch", "The time, in answer to the nonce of known.hex.", signed(&epoch(), fleet, &[DIRECTOR])),
            (
                "audit-head",
                "The registry signs how far the audit chain goes.",
                signed(&audit_head(), fleet, &[REGISTRY]),
            ),
            ("known", "What cam-1 knows of roots, recalls and time.", signed(&known(), fleet, &[DEVICE])),
        ];
        Self { fleet, manifest, package, table, statements }
    }

    /// Frames of [`Signed`], one for each statement.
    pub(crate) fn statements(&self) -> Named<'_, &[u8]> {
        self.statements.iter().map(|(name, words, frame)| (*name, *words, frame.as_slice())).collect()
    }

    /// Every message up.
    pub(crate) fn ups(&self) -> Named<'_, Up<'_>> {
        let boot = 0x0102_0304_0506_0708;
        vec![
            ("up-hello", "I am here: the second session of this boot.", Up::Hello(Hello { boot, session: 2 })),
            ("up-gone", "Last will of that session.", Up::Gone(Gone { boot, session: 2 })),
            ("up-state", "A report; see report.txt.", Up::State(self.signed("report"))),
            ("up-batch", "Outbox records; see batch.txt.", Up::Batch(self.signed("batch"))),
            (
                "up-need",
                "Chunks 256, 257 and 319 are missing.",
                Up::Need(Need { table: false, base: 256, mask: 1 << 63 | 3 }),
            ),
            ("up-known", "What the device knows; see known.txt.", Up::Known(self.signed("known"))),
            ("up-need-table", "The table is missing.", Up::Need(Need { table: true, base: 0, mask: 0 })),
        ]
    }

    /// Every message down.
    pub(crate) fn downs(&self) -> Named<'_, Down<'_>> {
        let both = [Some("grant-buckets"), None]
            .map(|grant| Evidence { release: self.signed("release"), grant: grant.map(|name| self.signed(name)) });
        let desired = Desired { assignment: self.signed("assignment"), evidence: both.into_iter().collect() };
        vec![
            (
                "down-desired",
                "An assignment with evidence; see assignment.txt, release.txt, grant-buckets.txt.",
                Down::Desired(desired),
            ),
            ("down-command", "A command; see command.txt.", Down::Command(self.signed("command"))),
            ("down-ack", "An acknowledgement; see ack.txt.", Down::Ack(self.signed("ack"))),
            (
                "down-chunk",
                "A short chunk: the last 16 bytes of package.hex.",
                Down::Chunk(Chunk { bytes: self.package.last_chunk::<16>().map_or(&[], |last| last) }),
            ),
            ("down-root", "The next root; see root-v2.txt.", Down::Root(self.signed("root-v2"))),
            ("down-recall", "A recall; see recall.txt.", Down::Recall(self.signed("recall"))),
            ("down-checkpoint", "A checkpoint; see checkpoint.txt.", Down::Checkpoint(self.signed("checkpoint"))),
            ("down-epoch", "The time; see epoch.txt.", Down::Epoch(self.signed("epoch"))),
            ("down-table", "The table of package.hex.", Down::Table(Table { digests: &self.table })),
        ]
    }

    fn signed(&self, name: &str) -> Signed<'_> {
        let found = self.statements.iter().find(|(known, ..)| *known == name);
        found.and_then(|(.., frame)| frame::decode(frame).ok()).unwrap()
    }
}

fn body<T: Statement>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 8192];
    frame::encode(value, &mut buffer).unwrap().to_vec()
}

fn signed<T: Statement>(value: &T, fleet: FleetId, seeds: &[u8]) -> Vec<u8> {
    let body = body(value);
    let one = |seed: &u8| {
        let mut buffer = vec![0; 8192];
        *seal(value, fleet, &key(*seed), &mut buffer).unwrap().signatures.first().unwrap()
    };
    let signatures = seeds.iter().map(one).collect();
    let mut buffer = vec![0; 8192];
    frame::encode(&Signed { body: &body, signatures }, &mut buffer).unwrap().to_vec()
}

fn device() -> DeviceId {
    "cam-1".parse().unwrap()
}

fn digits(version: u32) -> ModelRef {
    ModelRef { name: "digits".parse().unwrap(), version: Version::new(version).unwrap() }
}

fn root() -> Root {
    let person = |seed: u8, person: &str, roles: RoleSet, class, prefix: &str, status| KeyEntry {
        public: public(seed),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: Text::try_from(prefix).unwrap(),
        status,
    };
    let decides = RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT);
    use KeyStatus::{Active, Retired, Revoked};
    let keys = [
        person(PUBLISHER, "Ada", RoleSet::PUBLISH, KeyClass::File, "digits", Active),
        person(2, "Bo", decides, KeyClass::SshAgent, "", Active),
        person(3, "Çelik Δ", decides, KeyClass::Browser, "dig", Active),
        person(4, "Dee", RoleSet::APPROVE, KeyClass::Pkcs11, "", Retired),
        person(5, "Eve", RoleSet::WITNESS, KeyClass::File, "", Revoked),
        person(REGISTRY, "hub", RoleSet::REGISTRY, KeyClass::Hub, "", Active),
        person(DIRECTOR, "hub", RoleSet::DIRECTOR.with(RoleSet::TIME), KeyClass::Hub, "", Active),
    ];
    Root {
        version: 1,
        nonce: [9; 16],
        keys: keys.into_iter().collect(),
        thresholds: Thresholds { root: 2, approve: 2, grant: 1 },
        offline_approval: true,
        director_generation: 1,
        time_generation: 0,
    }
}

fn next_root(mut root: Root) -> Root {
    root.version = 2;
    root.director_generation = 2;
    root.keys.iter_mut().filter(|key| key.public == public(4)).for_each(|key| key.status = KeyStatus::Revoked);
    root
}

fn recall(release: Digest) -> Recall {
    let name = "digits".parse().unwrap();
    Recall { name, releases: std::iter::once(release).collect(), otherwise: Otherwise::Stop }
}

fn checkpoint(release: Digest) -> Checkpoint {
    let recalled = Recalled { name: "digits".parse().unwrap(), release, stop: true };
    let floor = Floor { name: "digits".parse().unwrap(), version: Version::new(4).unwrap() };
    Checkpoint { number: 7, recalls: std::iter::once(recalled).collect(), floors: std::iter::once(floor).collect() }
}

fn epoch() -> Epoch {
    Epoch { generation: 0, epoch: 20_782, nonce: [8; 16] }
}

fn audit_head() -> AuditHead {
    AuditHead { sequence: 1234, head: Digest::of(b"head"), at: Millis(1_795_600_000_000) }
}

fn known() -> Known {
    Known {
        device: device(),
        nonce: [8; 16],
        root: 1,
        checkpoint: 6,
        recalls: Digest::of(b"recalls"),
        tick: Some(Tick { generation: 0, epoch: 20_781 }),
    }
}

fn tensor(name: &str, datatype: DataType, shape: &[Option<u32>]) -> TensorSpec {
    TensorSpec { name: name.parse().unwrap(), datatype, shape: shape.iter().copied().collect() }
}

fn files() -> [(&'static str, FileRole, &'static [u8]); 2] {
    [
        ("model.onnx", FileRole::Model, b"not really a model, but its bytes"),
        ("vectors.npz", FileRole::Vectors, b"nor are these vectors"),
    ]
}

fn manifest() -> Manifest {
    let files = files().map(|(name, role, bytes)| File {
        name: name.parse().unwrap(),
        role,
        size: bytes.len().try_into().unwrap(),
        digest: Digest::of(bytes),
    });
    let inputs = [tensor("image", DataType::Fp32, &[None, Some(64)])];
    let outputs =
        [tensor("label", DataType::Int64, &[None]), tensor("probabilities", DataType::Fp32, &[None, Some(10)])];
    Manifest {
        kind: Kind::Model,
        name: digits(3).name,
        files: files.into_iter().collect(),
        tensors: TensorSignature { inputs: inputs.into_iter().collect(), outputs: outputs.into_iter().collect() },
    }
}

fn package(manifest: &Manifest) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut package = encode_head(manifest, &mut buffer).unwrap().to_vec();
    for (.., bytes) in files() {
        package.extend_from_slice(bytes);
    }
    package
}

fn release(manifest: &Manifest, package: &[u8], table: &[u8]) -> Release {
    let mut buffer = [0; 1024];
    let mut hasher = Hasher::default();
    hasher.update(frame::encode(&manifest.tensors, &mut buffer).unwrap());
    Release {
        kind: Kind::Model,
        name: manifest.name.clone(),
        version: Version::new(3).unwrap(),
        source: Digest::of(b"the file the publisher started from"),
        package: PackageRef {
            digest: Digest::of(package),
            size: package.len().try_into().unwrap(),
            chunks: Digest::of(table),
        },
        requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 2048 },
        hardware: ["linux-x86_64", "linux-aarch64"].iter().map(|class| class.parse().unwrap()).collect(),
        tensors: hasher.finish(),
        security_floor: 2,
        salt: [7; 16],
        checkpoint: 0,
        validity: Some(Validity { from: 1, until: 300 }),
    }
}

fn grant(release: Digest, cohort: Cohort) -> StageGrant {
    StageGrant { release, cohort, gate: Digest::of(b"gate policy"), checkpoint: 0, validity: None }
}

fn named_devices() -> Cohort {
    Cohort::Devices([DEVICE, DEVICE + 1].iter().map(|seed| public(*seed).id()).collect())
}

fn assignment(release: Digest) -> Assignment {
    let active = Wanted { name: digits(3).name, release, mode: Mode::Active };
    let shadow = Wanted { name: "digits-next".parse().unwrap(), release: Digest::of(b"other"), mode: Mode::Shadow };
    Assignment {
        device: device(),
        order: Order { generation: 1, sequence: 70_000 },
        models: [active, shadow].into_iter().collect(),
        audit: Digest::of(b"audit head"),
    }
}

fn assignment_modes(release: Digest) -> Assignment {
    let urgent = Wanted { name: digits(3).name, release, mode: Mode::Urgent };
    let patient = Wanted { name: "digits-next".parse().unwrap(), release: Digest::of(b"other"), mode: Mode::Patient };
    let before = assignment(release);
    let order = Order { sequence: before.order.sequence + 1, ..before.order };
    Assignment { order, models: [urgent, patient].into_iter().collect(), ..before }
}

fn report_held(release: Digest) -> Report {
    let before = report(release);
    let target = Some(Running { version: Version::new(3).unwrap(), release });
    let phases = Hold::ALL.into_iter().map(Phase::Held).chain([Phase::Shadow]);
    let line = |(n, phase): (usize, Phase)| ModelReport {
        name: format!("model-{n}").parse().unwrap(),
        active: None,
        target,
        phase,
        reject: None,
        progress: 0,
    };
    Report { sequence: 13, models: phases.enumerate().map(line).collect(), refused: None, ..before }
}

fn batch_agreement() -> Batch<'static> {
    let ModelRef { name, version } = digits(3);
    let against = Version::new(2).unwrap();
    let agreement =
        Agreement { name, version, against, rows: 1797, agreed: 1790, passed_by: 12, errors: 1, p95_us: 420 };
    let record = Record { at: Millis(1_700_000_120_000), body: RecordBody::Agreement(agreement) };
    let records = std::iter::once(record).collect();
    Batch { device: device(), outbox: OutboxId([0xab; 16]), oldest: 305, first: 305, records }
}

fn batch_offload() -> Batch<'static> {
    let ModelRef { name, version } = digits(3);
    let offload = Offload {
        name,
        version,
        accelerator: Accelerator::Ice40Up5k,
        build: Some(0x1234_abcd),
        by: ScoredBy::Twin,
        engine_rows: 1797,
        twin_rows: 12,
        cycles: 1797 * 11_405,
        macs: 1797 * 84_224,
        clock_khz: 24_000,
        recovered: 1,
        cause: "the engine's answer to a known question is wrong",
    };
    let record = Record { at: Millis(1_700_000_180_000), body: RecordBody::Offload(offload) };
    let records = std::iter::once(record).collect();
    Batch { device: device(), outbox: OutboxId([0xab; 16]), oldest: 306, first: 306, records }
}

fn command() -> Command {
    Command { device: device(), order: Order { generation: 1, sequence: 4 }, request: Request::Report }
}

fn ack() -> Ack {
    Ack { device: device(), outbox: OutboxId([0xab; 16]), through: 300 }
}

fn report(release: Digest) -> Report {
    let active = Running { version: Version::new(2).unwrap(), release: Digest::of(b"version 2") };
    let target = Running { version: Version::new(3).unwrap(), release };
    let idle = ModelReport {
        name: "defects".parse().unwrap(),
        active: Some(active),
        target: None,
        phase: Phase::Idle,
        reject: None,
        progress: 0,
    };
    let refused = ModelReport {
        name: digits(3).name,
        active: Some(active),
        target: Some(target),
        phase: Phase::RolledBack,
        reject: Some(Reject::ScoringErrors),
        progress: 1000,
    };
    Report {
        device: device(),
        boot: u64::MAX,
        sequence: 12,
        seen: Order { generation: 1, sequence: 70_000 },
        agent: [0, 1, 0],
        operators: 21,
        hardware: "linux-x86_64".parse().unwrap(),
        memory_kib: 262_144,
        models: [idle, refused].into_iter().collect(),
        refused: Some(Reject::EvidenceMissing),
        audit: Digest::of(b"audit head"),
    }
}

fn batch() -> Batch<'static> {
    let at = Millis(1_700_000_000_000);
    let ModelRef { name, version } = digits(3);
    let scores = Scores { name: name.clone(), version, rows: 1797, errors: 1, p50_us: 180, p95_us: 420 };
    let event = Event { name, version, phase: Phase::Rejected, reject: Some(Reject::GoldenMismatch) };
    let bodies = [RecordBody::Gap(288), RecordBody::Scores(scores), RecordBody::Event(event)];
    let mut records = List::new();
    for body in bodies {
        records.push(Record { at, body }).unwrap();
    }
    Batch { device: device(), outbox: OutboxId([0xab; 16]), oldest: 298, first: 298, records }
}

/// One column of a baseline.
pub(crate) fn column() -> Vec<u8> {
    let bins = Bins { lower: [0.0, 0.5].into_iter().collect(), top: 1.0 };
    let counts =
        Counts { bins: [3, 4].into_iter().collect(), min: 0.0, max: 1.0, mean: 0.5, m2: 0.25, ..Counts::default() };
    let source = Source { side: Side::Input, tensor: 0, of: Of::Element(12) };
    let column = Column { name: Text::try_from("image[12]").unwrap(), source, bins, counts };
    let mut buffer = [0; 256];
    let length = append(&column, &mut buffer).unwrap();
    buffer.get(..length).unwrap().to_vec()
}

/// Counts of one column: 3 below, 5 and 0 in two bins, 1 above, none missing.
const COLUMN: &[u8] = &[2, 5, 0, 3, 1, 0, 0, 0, 0, 128, 191, 0, 0, 64, 64, 0, 0, 0, 63, 0, 0, 128, 64];

fn batch_watched() -> Batch<'static> {
    let at = Millis(1_700_000_060_000);
    let ModelRef { name, version } = digits(3);
    let profile = Profile { name: name.clone(), version, span: Millis(60_000), rows: 9, first: 64, columns: COLUMN };
    let sample =
        Sample { name: name.clone(), version, reason: Reason::Uncertain, inputs: b"pixels", outputs: b"shares" };
    let failure = Failure {
        name,
        version,
        reject: Reject::Crashed,
        cause: "the runtime crashed while loading",
        exit: Some(Exit::Signal(11)),
        peak_kib: 24_576,
    };
    let log = Log { why: LogWhy::Failure, piece: 0, pieces: 2, text: b"thread main" };
    let mut records = List::new();
    for body in
        [RecordBody::Profile(profile), RecordBody::Sample(sample), RecordBody::Failure(failure), RecordBody::Log(log)]
    {
        records.push(Record { at, body }).unwrap();
    }
    Batch { device: device(), outbox: OutboxId([0xab; 16]), oldest: 301, first: 301, records }
}

fn command_log() -> Command {
    Command { order: Order { generation: 1, sequence: 5 }, request: Request::Log, ..command() }
}

fn connect() -> Connect {
    Connect { device: device(), counter: 65_536 }
}

fn enrol() -> Enrol {
    Enrol { device: device(), key: public(DEVICE), token: Digest::of(b"secret") }
}

fn attestation(package: &[u8]) -> Attestation {
    Attestation { model: digits(3), package: Digest::of(package), golden: true }
}
