//! A device: the shipped brain, outbox and download on a disk that loses power, in virtual time.
//!
//! It keeps the contract of every shell: the brain decides, its state is brought to disk, then it is
//! done. What takes long is a job that ends later, if there is still power then.

mod load;
mod work;

use bellwether_agent_core::update::{Install, Model};
use bellwether_agent_core::{Action, Brain, Config, Holds, Input, State, Told, outbox};
use bellwether_agent_disk::{Bounds, Download, Outbox, newest};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless;
use bellwether_protocol::id::{DeviceId, ModelName};
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::message::{Down, Gone, Hello, Up};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, UpTopic};
use bellwether_protocol::trust::{
    FleetId, OutboxId, Reason, Record, RecordBody, Running, Sample, Signed, Statement, TrustedRoot, seal,
};

use crate::Mutant;
use crate::chance::Chance;
use crate::disk::{Disk, Table};
use crate::model::Behaviour;
use crate::people::public;
use work::Job;

const STATE: &[u8] = b"brain";
const CONNECTS: &[u8] = b"connects";
const STATE_BYTES_MAX: usize = 64 * 1024;
/// Small, so that a device that is away long has to drop.
const OUTBOX_BYTES_MAX: u64 = 24 * 1024;
/// So short that a device that is cut off long has to drop; of every other device, so that the rest
/// drop for want of room only.
const OUTBOX_AGE_MAX: Millis = Millis(15_000);
/// Longest sleep.
const TICK: Millis = Millis(5_000);

/// A message up.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) topic: UpTopic,
    pub(crate) payload: Vec<u8>,
}

/// A device with power.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) brain: Box<Brain>,
    saved: Box<State>,
    outbox: Outbox<Table>,
    job: Option<Job>,
    jobs: u64,
    /// What answers, by model.
    pub(crate) serving: Vec<(ModelName, Running)>,
    /// The self-test loaded it.
    loaded: Option<Digest>,
    pub(crate) is_up: bool,
    pub(crate) session: u32,
    pub(crate) boot: u64,
    sample_at: Millis,
    calls: u32,
}

/// A row that was put into the outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed {
    pub(crate) outbox: OutboxId,
    pub(crate) number: u64,
    pub(crate) id: u64,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) key: SigningKey,
    fleet: FleetId,
    root: TrustedRoot,
    pub(crate) disk: Disk,
    pub(crate) agent: Option<Agent>,
    /// What its installs wait for now.
    pub(crate) holds: Holds,
    /// By how much its clock is ahead.
    pub(crate) skew: i64,
    /// Its place, which its samples and jobs are drawn from.
    chance: Chance,
    /// Messages that go out after this turn.
    pub(crate) sending: Vec<Sending>,
    /// Jobs that end so many milliseconds after this turn.
    pub(crate) jobs: Vec<(u64, u64)>,
    /// Rows put into the outbox since the world last looked, and those it was told to forget.
    pub(crate) pushed: Vec<Pushed>,
    pub(crate) forgotten: Vec<(OutboxId, u64)>,
    /// It is to lose power at the end of this turn: a model took it down.
    pub(crate) is_taken_down: bool,
    pub(crate) mutant: Option<Mutant>,
    samples: u64,
    /// Its jobs take the same time whenever they are done, and it does not sign: nothing then tells two
    /// lives of it apart but its disk and what it is told.
    is_steady: bool,
    /// Its outbox keeps records for seconds.
    forgets_early: bool,
    /// Models that were loaded from other bytes than the approved ones.
    wrong: Vec<ModelName>,
    /// What answered before a cut, whose bytes are gone although nothing turned them.
    pub(crate) lost: Option<ModelName>,
}

impl Device {
    pub(crate) fn new(
        n: usize,
        (key, fleet, root): (SigningKey, FleetId, TrustedRoot),
        seed: u64,
        mutant: Option<Mutant>,
    ) -> Option<Self> {
        Some(Self {
            id: DeviceId::parse(&format!("cam-{n:03}")).ok()?,
            key,
            fleet,
            root,
            disk: Disk::new(seed),
            agent: None,
            holds: Holds::NONE,
            skew: 0,
            chance: Chance::of(seed ^ 1),
            sending: Vec::new(),
            jobs: Vec::new(),
            pushed: Vec::new(),
            forgotten: Vec::new(),
            is_taken_down: false,
            mutant,
            samples: (n as u64) << 32,
            is_steady: false,
            forgets_early: (n as u64 ^ seed) & 1 == 1,
            wrong: Vec::new(),
            lost: None,
        })
    }

    /// It has this disk and is steady, and its next row is the one after `samples`.
    pub(crate) fn steady(self, disk: Disk, samples: u64) -> Self {
        Self { disk, samples, is_steady: true, forgets_early: false, ..self }
    }

    /// It gets power, and goes on from what is on its disk.
    pub(crate) fn start(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        let state = self.disk.read(STATE).and_then(|bytes| frame::decode::<State>(&bytes).ok()).unwrap_or_default();
        let boot = self.chance.number();
        let Ok(hardware) = "linux-x86_64".parse() else { return };
        let config = Config {
            device: self.id.clone(),
            key: public(&self.key).id(),
            boot,
            agent: [0, 2, 0],
            operators: 21,
            hardware,
            memory_kib: 1 << 20,
            probation: Millis(8_000),
            errors_max: 5,
            self_test: Millis(20_000),
            heartbeat: Millis(30_000),
            holds: if self.mutant == Some(Mutant::DeafToHolds) { Holds::NONE } else { self.holds },
        };
        let brain = Box::new(Brain::restore(config, self.root.clone(), state));
        let fresh = self.chance.number();
        let age_max = if self.forgets_early { OUTBOX_AGE_MAX } else { Millis(u64::MAX) };
        let bounds = Bounds { bytes_max: OUTBOX_BYTES_MAX, age_max };
        let outbox = Outbox::open(self.disk.outbox(self.mutant != Some(Mutant::UnflushedNumbers)), bounds, || {
            let mut id = [0; 16];
            id.iter_mut().zip(fresh.to_le_bytes()).for_each(|(to, from)| *to = from);
            OutboxId(id)
        });
        let Ok(outbox) = outbox else { return };
        let saved = Box::default();
        self.agent = Some(Agent {
            brain,
            saved,
            outbox,
            job: None,
            jobs: 0,
            serving: Vec::new(),
            loaded: None,
            is_up: false,
            session: 0,
            boot,
            sample_at: now,
            calls: 0,
        });
        self.save();
        self.load_all(now, behaviour);
        self.load_shadows(now, behaviour);
        self.turn(now);
    }

    fn save(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if *agent.brain.state() == *agent.saved {
            return;
        }
        if self.mutant == Some(Mutant::ActBeforePersist) && !self.chance.one_in(3) {
            return;
        }
        let mut buffer = vec![0; STATE_BYTES_MAX];
        let Ok(bytes) = frame::encode(agent.brain.state(), &mut buffer) else { return };
        if self.disk.put(STATE, bytes).is_ok() {
            *agent.saved = agent.brain.state().clone();
        }
    }

    fn is_saved(&self) -> bool {
        let lies = self.mutant == Some(Mutant::ActBeforePersist);
        self.agent.as_ref().is_some_and(|agent| lies || *agent.brain.state() == *agent.saved)
    }

    /// The brain takes an input; what it refuses changes nothing.
    fn handle(&mut self, now: Millis, input: Input<'_>) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        let taken = agent.brain.handle(now, input).is_ok();
        if self.mutant == Some(Mutant::FloorAtStage) {
            raise_floors(agent, &self.root);
        }
        self.save();
        taken
    }

    fn publish(&mut self, topic: UpTopic, up: &Up<'_>) -> bool {
        if self.disk.is_dead() || !self.agent.as_ref().is_some_and(|agent| agent.is_up) {
            return false;
        }
        let mut buffer = vec![0; STATEMENT_BYTES_MAX + 512];
        if let Ok(frame) = frame::encode(up, &mut buffer) {
            self.sending.push(Sending { topic, payload: frame.to_vec() });
        }
        true
    }

    fn publish_signed<T: Statement>(
        &mut self,
        topic: UpTopic,
        value: &T,
        wrap: impl for<'s> FnOnce(Signed<'s>) -> Up<'s>,
    ) -> bool {
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let Ok(signed) = self.seal(value, &mut body) else { return true };
        self.publish(topic, &wrap(signed))
    }

    fn seal<'b, T: Statement>(&self, value: &T, body: &'b mut [u8]) -> Result<Signed<'b>, Reject> {
        if self.is_steady {
            let body: &[u8] = frame::encode(value, body)?;
            return Ok(Signed { body, signatures: heapless::Vec::new() });
        }
        seal(value, self.fleet, &self.key, body)
    }

    /// A connection is opened: the counter it is opened with, which the world hands to the hub, or
    /// nothing if that cannot be written.
    pub(crate) fn connect(&mut self) -> Option<u64> {
        let last = self.disk.read(CONNECTS).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let counter = last + 1;
        self.disk.put(CONNECTS, &counter.to_be_bytes()).ok()?;
        Some(counter)
    }

    pub(crate) fn connected(&mut self, now: Millis) {
        let Some(agent) = &mut self.agent else { return };
        agent.is_up = true;
        agent.session += 1;
        agent.outbox.reconnected();
        if let Some(download) = agent.job.as_mut().and_then(|job| job.download.as_mut()) {
            download.reconnected();
        }
        let session = agent.session;
        self.handle(now, Input::Connected { session });
        self.turn(now);
    }

    pub(crate) fn disconnected(&mut self, now: Millis) {
        let Some(agent) = &mut self.agent else { return };
        if agent.is_up {
            agent.is_up = false;
            self.handle(now, Input::Disconnected);
            self.turn(now);
        }
    }

    /// The will that the broker publishes when this connection breaks.
    pub(crate) fn will(&self) -> Option<Vec<u8>> {
        let agent = self.agent.as_ref()?;
        let mut buffer = [0; 64];
        let gone = Up::Gone(Gone { boot: agent.boot, session: agent.session });
        frame::encode(&gone, &mut buffer).ok().map(|frame| frame.to_vec())
    }

    /// A message arrives.
    pub(crate) fn hear(&mut self, now: Millis, topic: DownTopic, payload: &[u8]) {
        match (topic, frame::decode::<Down<'_>>(payload)) {
            (DownTopic::Desired, Ok(Down::Desired(desired))) => drop(self.handle(now, Input::Desired(&desired))),
            (DownTopic::Command, Ok(Down::Command(signed))) => drop(self.handle(now, Input::Command(&signed))),
            (DownTopic::Trust, Ok(Down::Root(signed))) => drop(self.handle(now, Input::Told(Told::Root(&signed)))),
            (DownTopic::Trust, Ok(Down::Recall(signed))) => {
                self.handle(now, Input::Told(Told::Recall(&signed)));
            }
            (DownTopic::Trust, Ok(Down::Checkpoint(signed))) => {
                self.handle(now, Input::Told(Told::Checkpoint(&signed)));
            }
            (DownTopic::Trust, Ok(Down::Epoch(signed))) => drop(self.handle(now, Input::Told(Told::Epoch(&signed)))),
            (DownTopic::Ack, Ok(Down::Ack(signed))) => self.acknowledged(&signed),
            (DownTopic::Part(transfer, part), Ok(Down::Chunk(chunk))) => {
                self.part(now, transfer, part, chunk.bytes);
            }
            (DownTopic::Part(transfer, part), Ok(Down::Table(table))) => self.part(now, transfer, part, table.digests),
            _ => {}
        }
        self.turn(now);
    }

    fn acknowledged(&mut self, signed: &Signed<'_>) {
        let Some(agent) = &mut self.agent else { return };
        let newest = agent.outbox.newest();
        if let Ok(through) = outbox::acknowledged(agent.brain.root(), &self.id, newest, signed)
            && agent.outbox.acknowledged(through).is_ok()
            && !self.disk.is_dead()
        {
            self.forgotten.push((newest.0, through));
        }
    }

    /// What its installs wait for changed.
    pub(crate) fn hold(&mut self, now: Millis, holds: Holds) {
        self.holds = holds;
        if self.agent.is_some() && self.mutant != Some(Mutant::DeafToHolds) {
            self.handle(now, Input::Holds(holds));
            self.turn(now);
        }
    }

    /// Its own clock.
    const fn wall(&self, now: Millis) -> Millis {
        Millis(now.0.saturating_add_signed(self.skew))
    }

    /// A deadline passed.
    pub(crate) fn wake(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        self.save();
        self.look_at_trial(now, behaviour);
        self.handle(now, Input::Tick);
        if let Some(agent) = &mut self.agent {
            // What cannot be dropped now is dropped later.
            let _ = agent.outbox.tick(now, now);
        }
        self.score(now);
        self.turn(now);
    }

    /// What a model does in the shadow: it takes nothing down but its own process.
    fn look_at_shadows(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        let Some(agent) = &self.agent else { return };
        let crashes = |model: &Model| {
            let Install::Shadow(target) = model.install else { return None };
            let ends = behaviour(&target.package.digest) == Some(Behaviour::TakesDown);
            ends.then(|| (model.name.clone(), target.running.release))
        };
        if let Some((name, release)) = agent.brain.state().models.iter().find_map(crashes)
            && self.chance.one_in(3)
        {
            self.handle(now, Input::Crashed { name: &name, release });
        }
    }

    /// What a model in probation does to whoever calls it.
    fn look_at_trial(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        self.look_at_shadows(now, behaviour);
        let Some(agent) = &mut self.agent else { return };
        let on_trial = |model: &Model| {
            let Install::Probation { target, .. } = model.install else { return None };
            Some((model.name.clone(), target))
        };
        let Some((name, target)) = agent.brain.state().models.iter().find_map(on_trial) else { return };
        agent.calls += 10;
        let (calls, release) = (agent.calls, target.running.release);
        match behaviour(&target.package.digest) {
            Some(Behaviour::Errs) => drop(self.handle(now, Input::ScoringErrors { name: &name, errors: 3 })),
            Some(Behaviour::Slow) => {
                let input = Input::Latency { name: &name, release, calls, p95_us: 9_000, p95_us_max: 5_000 };
                self.handle(now, input);
            }
            Some(Behaviour::TakesDown) => self.is_taken_down |= self.chance.one_in(3),
            Some(Behaviour::Good | Behaviour::FailsGolden | Behaviour::CrashesInTest) | None => {}
        }
    }

    /// One row is scored by what answers, and put into the outbox.
    fn score(&mut self, now: Millis) {
        let Some(agent) = &mut self.agent else { return };
        if now < agent.sample_at {
            return;
        }
        agent.sample_at = now.saturating_add(Millis(4_000));
        let Some((name, running)) = agent.serving.first().cloned() else { return };
        self.samples += 1;
        let id = self.samples;
        let inputs = id.to_le_bytes();
        let sample = Sample { name, version: running.version, reason: Reason::Turn, inputs: &inputs, outputs: &[] };
        let at = Millis(now.0.saturating_add_signed(self.skew));
        if agent.outbox.push(&Record { at, body: RecordBody::Sample(sample) }).is_ok() && !self.disk.is_dead() {
            let (outbox, number) = agent.outbox.newest();
            self.pushed.push(Pushed { outbox, number, id });
        }
    }

    /// Does everything that is due.
    fn turn(&mut self, now: Millis) {
        const ACTIONS_MAX: usize = 8;
        for _ in 0..ACTIONS_MAX {
            let Some(agent) = &self.agent else { return };
            let done = match agent.brain.poll_action(now) {
                Some(Action::Known) => {
                    let known = agent.brain.known();
                    self.publish_signed(UpTopic::Known, &known, known_of) && self.handle(now, Input::Asked)
                }
                Some(Action::Hello { session }) => {
                    let hello = Hello { boot: agent.boot, session };
                    self.publish(UpTopic::Hello, &Up::Hello(hello)) && self.handle(now, Input::Greeted)
                }
                Some(Action::Report { .. }) => {
                    let report = agent.brain.report();
                    self.publish_signed(UpTopic::State, &report, state_of) && self.handle(now, Input::Reported)
                }
                Some(Action::Log) => self.handle(now, Input::Logged),
                Some(Action::Install { .. }) | None => false,
            };
            if !done {
                break;
            }
        }
        self.note_events(now);
        if self.is_saved() {
            self.work(now);
        }
        self.note_events(now);
        self.send_batch(now);
    }

    fn note_events(&mut self, now: Millis) {
        let at = self.wall(now);
        let Some(agent) = &mut self.agent else { return };
        while let Some(event) = agent.brain.poll_event() {
            // A record that cannot be written is lost, which the hub does not hear of.
            let _ = agent.outbox.push(&Record { at, body: RecordBody::Event(event) });
        }
    }

    fn send_batch(&mut self, now: Millis) {
        loop {
            let Some(agent) = self.agent.as_mut().filter(|agent| agent.is_up) else { return };
            let Some(due) = agent.outbox.due(now) else { return };
            if self.disk.is_dead() {
                return;
            }
            let batch = due.batch(&self.id);
            let last = batch.first + batch.records.len() as u64 - 1;
            let mut body = vec![0; STATEMENT_BYTES_MAX];
            let Ok(signed) = self.seal(&batch, &mut body) else { return };
            let mut buffer = vec![0; STATEMENT_BYTES_MAX + 512];
            let Ok(frame) = frame::encode(&Up::Batch(signed), &mut buffer) else { return };
            self.sending.push(Sending { topic: UpTopic::Batch, payload: frame.to_vec() });
            if self.mutant == Some(Mutant::ForgetOnSend)
                && let Some(agent) = &mut self.agent
                && agent.outbox.acknowledged(last).is_ok()
            {
                let outbox = agent.outbox.newest().0;
                self.forgotten.push((outbox, last));
            }
        }
    }

    /// When it wants to be woken.
    pub(crate) fn wake_at(&self, now: Millis) -> Option<Millis> {
        let agent = self.agent.as_ref()?;
        let brain = agent.brain.deadline().map(|(at, _)| at);
        let download = agent.job.as_ref().and_then(|job| job.download.as_ref()).and_then(Download::deadline);
        let (download, batch) = if agent.is_up { (download, agent.outbox.deadline()) } else { (None, None) };
        let all = [brain, download, batch, Some(agent.sample_at), Some(now.saturating_add(TICK))];
        all.into_iter().flatten().min().map(|at| at.max(now.saturating_add(Millis(50))))
    }

    /// The outbox on its disk, and the number of the newest record there.
    pub(crate) fn newest_on_disk(&self) -> Option<(OutboxId, u64)> {
        let outbox = OutboxId(self.disk.read(b"omid")?.try_into().ok()?);
        Some((outbox, newest(&self.disk.outbox(true)).ok()?))
    }

    /// Whether an install is under way, so that what answers may be about to change.
    pub(crate) fn is_busy(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.job.is_some() || agent.brain.install_action().is_some())
    }

    /// How many records wait in its outbox.
    pub(crate) fn waiting(&self) -> u64 {
        self.agent.as_ref().map_or(0, |agent| agent.outbox.waiting())
    }

    /// Whether what the brain has is on disk, or the device acts as if it were.
    pub(crate) fn stands_by_it(&self) -> bool {
        !self.disk.is_dead() && self.is_saved()
    }

    /// Whether what answers for a model was loaded from what was approved.
    pub(crate) fn read_right(&self, name: &ModelName) -> bool {
        !self.wrong.contains(name)
    }
}

fn known_of(signed: Signed<'_>) -> Up<'_> {
    Up::Known(signed)
}

fn state_of(signed: Signed<'_>) -> Up<'_> {
    Up::State(signed)
}

/// The planted bug: the floor rises when a release is staged, not when it is committed.
fn raise_floors(agent: &mut Agent, root: &TrustedRoot) {
    let mut state = agent.brain.state().clone();
    let mut raised = false;
    for model in &mut state.models {
        if let Install::SelfTest { target, .. } = model.install
            && model.floor < target.running.version.number()
        {
            model.floor = target.running.version.number();
            raised = true;
        }
    }
    if raised {
        let config = agent.brain.config().clone();
        *agent.brain = Brain::restore(config, root.clone(), state);
    }
}
