//! A real agent that runs an approved version under a hub that was taken over; and beside it the
//! verifier and the brain alone, which must say the same to everything that is sent.

use std::sync::Mutex;
use std::time::Duration;

use bellwether_agent_core::update::{Step, Work};
use bellwether_agent_core::{Action, Brain, Config, Holds, Input, Refused, State, Told};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::limit::FRAME_BYTES_MAX;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{
    Assignment, Cohort, Epoch, Mode, Order, PackageRef, Phase, Release, Report, Requires, Root, Signed, StageGrant,
    Wanted,
};
use bellwether_runtime::prepare::tensors_digest;
use bellwether_runtime::{Beside, prepare};
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::files::data;
use bellwether_tests::wait::{wait_for, wait_until};

use crate::rogue::{ADA, BO, CY, DIRECTOR, Rogue, TIME, body, by, root};

/// The device's name.
pub(crate) const DEVICE: &str = "gw-1";
/// The seeds whose signatures make a release count.
pub(crate) const ALL: [u8; 3] = [ADA, BO, CY];

/// A real agent, the rogue hub, and the brain that is told the same.
pub(crate) struct Stage {
    pub(crate) rogue: Rogue,
    pub(crate) agent: Agent,
    pub(crate) brain: Mutex<Brain>,
    /// The release that runs.
    pub(crate) one: Vec<u8>,
    /// Generation of the director's statements.
    pub(crate) generation: u32,
}

/// A model as a package, with what a release says of it.
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) source: Digest,
    pub(crate) tensors: Digest,
}

/// Packs a model of the test data.
pub(crate) fn packed(file: &str) -> Packed {
    let model = std::fs::read(data(&format!("{file}.onnx"))).unwrap();
    let vectors = std::fs::read(data(&format!("{file}.vectors.npz"))).unwrap();
    let beside = Beside { vectors: Some(&vectors), ..Beside::default() };
    let prepared = prepare(&"digits".parse().unwrap(), "model.onnx", &model, &beside).unwrap();
    let tensors = tensors_digest(&prepared.manifest.tensors).unwrap();
    Packed { source: prepared.source, tensors, bytes: prepared.package }
}

/// A release of `digits` that its people would sign.
pub(crate) fn release(version: u32, packed: &Packed) -> Release {
    let chunks: Vec<u8> = bellwether_protocol::package::chunk_digests(&packed.bytes).flat_map(|d| d.0).collect();
    Release {
        kind: Kind::Model,
        name: "digits".parse().unwrap(),
        version: version.try_into().unwrap(),
        source: packed.source,
        package: PackageRef {
            digest: Digest::of(&packed.bytes),
            size: packed.bytes.len() as u64,
            chunks: Digest::of(&chunks),
        },
        requires: Requires { agent: [0, 1, 0], operators: 13, memory_kib: 1024 },
        hardware: std::iter::empty().collect(),
        tensors: packed.tensors,
        security_floor: 0,
        salt: [3; 16],
        checkpoint: 0,
        validity: None,
    }
}

/// A grant for a release.
pub(crate) fn grant(release: &[u8], cohort: Cohort) -> StageGrant {
    StageGrant { release: Digest::of(release), cohort, gate: Digest::default(), checkpoint: 0, validity: None }
}

impl Stage {
    /// The agent runs version 1; the brain beside it, too.
    pub(crate) async fn running() -> Self {
        Self::under(&root(), "").await
    }

    /// The same under another root, with more of the agent's configuration.
    pub(crate) async fn under(root: &Root, config: &str) -> Self {
        let rogue = Rogue::start(root, DEVICE).await;
        let agent = Agent::start_as(&rogue.url, &rogue.token(), DEVICE, &Settings { config, ..Settings::default() });
        let key = wait_for("the device enrols", async || rogue.key()).await;
        let first = wait_for("its first report", async || rogue.report()).await;
        let config = Config {
            device: rogue.device.clone(),
            key: key.id(),
            boot: first.boot,
            agent: first.agent,
            operators: first.operators,
            hardware: first.hardware,
            memory_kib: first.memory_kib,
            probation: Millis(500),
            errors_max: 3,
            self_test: Millis(60_000),
            heartbeat: Millis(2000),
            holds: Holds::NONE,
        };
        let brain = Mutex::new(Brain::restore(config, rogue.trusted.clone(), State::default()));
        let linear = packed("digits-linear");
        rogue.keep(&linear.bytes);
        let one = body(&release(1, &linear));
        let stage = Self { rogue, agent, brain, one, generation: 1 };
        let offer = stage.offer(&stage.one, &ALL, Some((Cohort::Buckets(1000), &[BO])));
        stage.installs(offer, 1).await;
        stage
    }

    /// A desired state with one release, signed by these, with a grant by those.
    pub(crate) fn offer(&self, release: &[u8], signers: &[u8], granted: Option<(Cohort, &[u8])>) -> Vec<u8> {
        let signed = by::<Release>(self.rogue.fleet, release, signers);
        self.offer_signed(&signed, granted)
    }

    /// The same with signatures as they stand.
    pub(crate) fn offer_signed(&self, release: &Signed<'_>, granted: Option<(Cohort, &[u8])>) -> Vec<u8> {
        let grant = granted.map(|(cohort, seeds)| (body(&grant(release.body, cohort)), seeds));
        let grant = grant.as_ref().map(|(body, seeds)| by::<StageGrant>(self.rogue.fleet, body, seeds));
        self.desired(release, grant.as_ref(), self.rogue.next())
    }

    /// The same with a grant as it stands, under this number of the director.
    pub(crate) fn desired(&self, release: &Signed<'_>, grant: Option<&Signed<'_>>, sequence: u64) -> Vec<u8> {
        let assignment = self.assignment(release.digest(), sequence);
        let assignment = body(&assignment);
        let signed = by::<Assignment>(self.rogue.fleet, &assignment, &[DIRECTOR]);
        let evidence = Evidence { release: release.clone(), grant: grant.cloned() };
        let desired = Desired { assignment: signed, evidence: std::iter::once(evidence).collect() };
        framed(&Down::Desired(desired))
    }

    /// What the director would sign for this device.
    pub(crate) fn assignment(&self, release: Digest, sequence: u64) -> Assignment {
        let wanted = Wanted { name: "digits".parse().unwrap(), release, mode: Mode::Active };
        Assignment {
            device: self.rogue.device.clone(),
            order: Order { generation: self.generation, sequence },
            models: std::iter::once(wanted).collect(),
            audit: Digest::default(),
        }
    }

    /// Sends a desired state; agent and brain refuse it with this code, and version 1 answers on.
    pub(crate) async fn refuses(&self, desired: Vec<u8>, expected: Reject) {
        let code = self.brain_hears(&desired);
        assert_eq!(code, Some(expected), "the brain alone");
        let before = self.rogue.report().map_or(0, |report| report.sequence);
        self.rogue.send_bytes(DownTopic::Desired, desired, false).await;
        wait_until(&format!("the agent refuses with {expected}"), async || {
            self.rogue.report().is_some_and(|report| report.sequence > before && refusal(&report) == Some(expected))
        })
        .await;
        self.still_runs("1").await;
    }

    /// Sends a desired state that is lawful; the agent installs this version.
    pub(crate) async fn installs(&self, desired: Vec<u8>, version: u32) {
        let code = self.brain_hears(&desired);
        assert_eq!(code, None, "the brain alone");
        self.brain_installs();
        self.rogue.send_bytes(DownTopic::Desired, desired, false).await;
        self.runs(version).await;
    }

    /// Waits until the agent has committed this version.
    pub(crate) async fn runs(&self, version: u32) {
        wait_until(&format!("version {version} is committed"), async || {
            let report = self.rogue.report();
            let model = report.iter().flat_map(|report| &report.models).next();
            model.is_some_and(|model| {
                model.phase == Phase::Committed && model.active.is_some_and(|active| active.version.number() == version)
            })
        })
        .await;
        self.still_runs(&version.to_string()).await;
    }

    /// Waits until the agent refuses what it was told with this code, and version 1 answers on.
    pub(crate) async fn refused(&self, expected: Reject) {
        wait_until(&format!("the agent refuses with {expected}"), async || {
            self.rogue.report().is_some_and(|report| refusal(&report) == Some(expected))
        })
        .await;
        self.still_runs("1").await;
    }

    /// The version that answers over HTTP is this one, and it sees a seven.
    pub(crate) async fn still_runs(&self, version: &str) {
        assert_eq!(self.agent.score().await, Some((version.to_owned(), 7)));
    }

    /// Sends a statement that changes what counts; agent and brain take it, or refuse it with this
    /// code.
    pub(crate) async fn tells(&self, down: Down<'_>, expected: Result<(), Reject>) {
        let heard = self.brain_told(&down);
        assert_eq!(heard, expected, "the brain alone");
        let logged = self.agent.log().matches(&logged(expected)).count();
        self.rogue.send(DownTopic::Trust, &down, false).await;
        wait_until(&format!("the agent says {expected:?}"), async || {
            self.agent.log().matches(&crate::stage::logged(expected)).count() > logged
        })
        .await;
    }

    /// The time, told on this connection in answer to what the agent asked last.
    pub(crate) async fn tell_time(&self, epoch: u64) {
        let known = wait_for("the device says what it knows", async || self.rogue.known()).await;
        let value = Epoch { generation: self.time_generation(), epoch, nonce: known.nonce };
        let bytes = body(&value);
        self.rogue.send(DownTopic::Trust, &Down::Epoch(by::<Epoch>(self.rogue.fleet, &bytes, &[TIME])), false).await;
        let taken = || self.agent.log().matches("statement=\"epoch\"").count();
        let before = taken();
        wait_until("the time is taken", async || taken() > before || before > 0).await;
        let mut brain = self.brain.lock().unwrap();
        let _ = brain.handle(Millis(0), Input::Connected { session: 1 });
        let nonce = brain.known().nonce;
        let own = body(&Epoch { nonce, ..value });
        brain.handle(Millis(0), Input::Told(Told::Epoch(&by::<Epoch>(self.rogue.fleet, &own, &[TIME])))).unwrap();
    }

    pub(crate) fn time_generation(&self) -> u32 {
        self.brain.lock().unwrap().root().root().time_generation
    }

    fn brain_told(&self, down: &Down<'_>) -> Result<(), Reject> {
        let told = match down {
            Down::Root(signed) => Told::Root(signed),
            Down::Recall(signed) => Told::Recall(signed),
            Down::Checkpoint(signed) => Told::Checkpoint(signed),
            Down::Epoch(signed) => Told::Epoch(signed),
            Down::Desired(_) | Down::Command(_) | Down::Ack(_) | Down::Chunk(_) | Down::Table(_) => {
                panic!("not a statement that changes what counts: {down:?}")
            }
        };
        match self.brain.lock().unwrap().handle(Millis(0), Input::Told(told)) {
            Ok(()) => Ok(()),
            Err(Refused::Rejected(reject)) => Err(reject),
            Err(Refused::OutOfTurn) => panic!("statements belong everywhere"),
        }
    }

    /// The brain's answer to a frame on `down/desired`: the code with which it refuses.
    fn brain_hears(&self, frame: &[u8]) -> Option<Reject> {
        let Ok(Down::Desired(desired)) = frame::decode::<Down<'_>>(frame) else { panic!("not a desired state") };
        let mut brain = self.brain.lock().unwrap();
        // Refusals are in the report.
        let _ = brain.handle(Millis(0), Input::Desired(&desired));
        refusal(&brain.report())
    }

    /// The brain does what it wants to do, well.
    fn brain_installs(&self) {
        let mut brain = self.brain.lock().unwrap();
        while let Some(Action::Install { name, work, held }) = brain.install_action() {
            let step = match work {
                Work::Fetch => Step::Fetched,
                Work::Stage => Step::Staged,
                Work::SelfTest => Step::Passed,
                Work::Activate => Step::Activated,
                Work::Return(_) => Step::Returned,
            };
            let release = held.target.running.release;
            brain.handle(Millis(0), Input::Install { name: &name, release, step }).unwrap();
        }
        brain.handle(Millis(60_000), Input::Tick).unwrap();
    }
}

/// What the agent logs when it takes or refuses a statement.
pub(crate) fn logged(answer: Result<(), Reject>) -> String {
    match answer {
        Ok(()) => "taken".to_owned(),
        Err(reject) => format!("(code {})", reject.code()),
    }
}

/// Why the latest assignment, or its one model, was refused.
pub(crate) fn refusal(report: &Report) -> Option<Reject> {
    report.refused.or_else(|| report.models.iter().find_map(|model| model.reject))
}

/// A message as bytes.
pub(crate) fn framed(down: &Down<'_>) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    frame::encode(down, &mut buffer).unwrap().to_vec()
}

/// A little time for what must not happen to happen.
pub(crate) async fn a_while() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
