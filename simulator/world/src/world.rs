//! Time, and what happens in it.
#![expect(clippy::indexing_slicing, reason = "the number of a device is its place, and none ever goes")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use bellwether_hub_core::rollout::{OnFailure, Policy, State, Step, Verb};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use bellwether_protocol::limit::{CHUNK_BYTES, CHUNKS_IN_FLIGHT_MAX};
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::{Chunk, Down, Table};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, Part, UpTopic};
use bellwether_protocol::trust::{
    Assignment, Cohort, FleetId, Otherwise, PackageRef, Recall, Release, Requires, Root, Signed, StageGrant,
    TrustedRoot,
};

use crate::chance::Chance;
use crate::check::{Check, Lawful, has_converged};
use crate::device::{Device, Sending};
use crate::hub::{Hub, Sent};
use crate::model::{Behaviour, Package, candidate, tensors_digest};
use crate::people::{ADA, BO, CY, DEE, body, device_key, hub, public, root, signed};
use crate::trace::Trace;
use crate::{Fault, Run, Scenario};

/// How long the fleet has to come to rest once nothing breaks any more.
const REST: Millis = Millis(1_500_000);
/// How often the hub's time passes.
const TURN: Millis = Millis(500);
/// How often people look.
const LOOK: Millis = Millis(3_000);
/// Desired states that a forgetful broker may still have.
const RETAINED: usize = 4;
const MODELS: [&str; 2] = ["digits", "defects"];

#[derive(Debug)]
enum Event {
    Wake(usize),
    Job { n: usize, boot: u64, id: u64 },
    ToHub { n: usize, topic: UpTopic, payload: Rc<Vec<u8>> },
    ToDevice { n: usize, session: (u64, u32), topic: DownTopic, payload: Rc<Vec<u8>> },
    Connect(usize),
    Breaks { n: usize, session: (u64, u32) },
    PowerOn(usize),
    Joins(usize),
    DiskFree(usize),
    HubTurn,
    HubOn,
    People,
    Fault,
}

#[derive(Debug)]
struct Due {
    at: Millis,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What the world knows of a device beside the device.
#[derive(Debug, Default)]
struct Place {
    cut_off: bool,
    wakes_at: Option<Millis>,
    slow: bool,
    retained: Vec<Rc<Vec<u8>>>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct World {
    scenario: Scenario,
    chance: Chance,
    now: Millis,
    started: Millis,
    number: u64,
    due: BinaryHeap<Reverse<Due>>,
    fleet: FleetId,
    hub: Hub,
    devices: Vec<Device>,
    places: Vec<Place>,
    packages: BTreeMap<Digest, Package>,
    check: Check,
    trace: Trace,
    calm: bool,
    turns_at: Option<Millis>,
    /// The hub crashes in the middle of its next turn.
    hub_fuse: bool,
    /// Every root after the first, as people keep it.
    roots: Vec<Vec<u8>>,
    steps: u64,
    seeds: u64,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Option<Self> {
        let mut chance = Chance::of(scenario.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let first = body(&root(scenario.seed));
        let fleet = FleetId::of_root(&first);
        let statement = signed::<Root>(fleet, &first, &[BO, CY]);
        let trusted = TrustedRoot::first(fleet, &frame::decode(&statement).ok()?).ok()?;
        let now = Millis(1_000_000);
        let mut hub = Hub::new(scenario.mutant);
        let set = hub.rules().set_root(&statement, &crate::people::hub(), "Bo", now);
        hub.take(set).ok()?;
        let mut devices = Vec::new();
        for n in 0..scenario.devices {
            let key: SigningKey = device_key(n, 0);
            let device = Device::new(n, (key, fleet, trusted.clone()), chance.number(), scenario.mutant)?;
            let enrolled = hub.rules().enrol(&device.id, public(&device.key), BTreeMap::new(), now);
            hub.take(enrolled).ok()?;
            devices.push(device);
        }
        hub.flush();
        let places = (0..scenario.devices).map(|_| Place::default()).collect();
        Some(Self {
            scenario: scenario.clone(),
            chance,
            now,
            started: now,
            number: 0,
            due: BinaryHeap::new(),
            fleet,
            hub,
            devices,
            places,
            packages: BTreeMap::new(),
            check: Check::default(),
            trace: Trace::new(scenario.whole),
            calm: false,
            turns_at: None,
            hub_fuse: false,
            roots: Vec::new(),
            steps: 0,
            seeds: 0,
        })
    }

    /// Runs to the end, or to the first thing that does not hold.
    pub(crate) fn run(mut self) -> Run {
        let violation = self.all().err();
        if let Some(violation) = &violation {
            self.say(&format!("VIOLATION: {violation}"));
        }
        let counts: Vec<(u64, u64)> = self.devices.iter().map(|device| device.disk.counts()).collect();
        let device_ms = self.now.since(self.started).0 * self.devices.len() as u64;
        let (commits, rows) = (self.check.commits.len() as u64, self.hub.disk().rows.len() as u64);
        let (trace, lines) = self.trace.end();
        Run {
            seed: self.scenario.seed,
            steps: self.steps,
            device_ms,
            disk_operations: counts.iter().map(|(operations, _)| operations).sum(),
            cut_points: counts.iter().map(|(_, cuts)| cuts).sum(),
            commits,
            rows,
            trace,
            timeline: if self.scenario.whole || violation.is_some() { lines } else { Vec::new() },
            violation,
        }
    }

    fn all(&mut self) -> Result<(), String> {
        for n in 0..self.devices.len() {
            let wait = self.chance.within(0, 2_000);
            self.after(wait, Event::PowerOn(n));
        }
        self.after(TURN.0, Event::HubTurn);
        self.after(1_000, Event::People);
        self.after(3_000, Event::Fault);
        let chaos_ends = self.now.saturating_add(Millis(self.scenario.chaos_ms));
        self.until(chaos_ends, false)?;
        self.calm_down();
        let rests = self.now.saturating_add(REST);
        self.until(rests, true)?;
        match self.unrest() {
            Some(why) => Err(format!("it does not come to rest: {why}")),
            None => self.check.rows(self.hub.disk()),
        }
    }

    fn until(&mut self, end: Millis, to_rest: bool) -> Result<(), String> {
        let mut looks = self.now;
        while let Some(Reverse(next)) = self.due.pop() {
            if next.at > end {
                self.due.push(Reverse(next));
                break;
            }
            self.now = next.at;
            self.steps += 1;
            self.happen(next.event)?;
            if to_rest && self.now >= looks {
                looks = self.now.saturating_add(Millis(5_000));
                if self.unrest().is_none() {
                    return Ok(());
                }
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn say(&mut self, text: &str) {
        let since = self.now.since(self.started);
        self.trace.line(since, text);
    }

    fn after(&mut self, wait_ms: u64, event: Event) {
        self.number += 1;
        let at = self.now.saturating_add(Millis(wait_ms));
        self.due.push(Reverse(Due { at, number: self.number, event }));
    }

    fn has(&self, fault: Fault) -> bool {
        !self.calm && self.scenario.faults.has(fault)
    }

    /// Lets a device do something, and what follows from it.
    fn with(
        &mut self,
        n: usize,
        act: impl FnOnce(&mut Device, Millis, &dyn Fn(&Digest) -> Option<Behaviour>),
    ) -> Result<(), String> {
        let packages = &self.packages;
        let behaviour = |digest: &Digest| packages.get(digest).map(|package| package.behaviour);
        let Some(device) = self.devices.get_mut(n) else { return Ok(()) };
        act(device, self.now, &behaviour);
        self.settle(n)
    }

    fn settle(&mut self, n: usize) -> Result<(), String> {
        let Some(device) = self.devices.get_mut(n) else { return Ok(()) };
        let (sending, jobs) = (std::mem::take(&mut device.sending), std::mem::take(&mut device.jobs));
        let pushed = std::mem::take(&mut device.pushed);
        let forgotten = std::mem::take(&mut device.forgotten);
        let id = device.id.clone();
        let boot = device.agent.as_ref().map(|agent| agent.boot);
        for one in pushed {
            self.check.pushed(&id, one);
        }
        for one in forgotten {
            self.check.forgotten(&id, one, self.hub.disk())?;
        }
        for Sending { topic, payload } in sending {
            self.send_up(n, topic, &Rc::new(payload));
        }
        let slow = self.places.get(n).is_some_and(|place| place.slow);
        for (id, takes) in jobs {
            if let Some(boot) = boot {
                self.after(if slow { takes * 20 } else { takes }, Event::Job { n, boot, id });
            }
        }
        let Some(device) = self.devices.get_mut(n) else { return Ok(()) };
        self.check.committed(device);
        if device.disk.is_dead() || std::mem::take(&mut device.is_taken_down) {
            return self.cut(n);
        }
        let key = public(&device.key).id();
        let device = &self.devices[n];
        self.check.device(device, key, self.fleet)?;
        self.check.loaded(device)?;
        if let Some(at) = device.wake_at(self.now)
            && let Some(place) = self.places.get_mut(n)
            && place.wakes_at.is_none_or(|planned| planned > at || planned <= self.now)
        {
            place.wakes_at = Some(at);
            let wait = at.since(self.now).0;
            self.after(wait, Event::Wake(n));
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Wake(n) => {
                let planned = self.places.get(n).and_then(|place| place.wakes_at);
                if planned == Some(self.now) {
                    self.places[n].wakes_at = None;
                    self.with(n, |device, now, behaviour| device.wake(now, behaviour))?;
                }
                Ok(())
            }
            Event::Job { n, boot, id } => {
                let is_same = self
                    .devices
                    .get(n)
                    .and_then(|device| device.agent.as_ref())
                    .is_some_and(|agent| agent.boot == boot);
                if is_same {
                    self.with(n, |device, now, behaviour| device.finished(now, id, behaviour))
                } else {
                    Ok(())
                }
            }
            Event::ToHub { n, topic, payload } => self.hub_hears(n, topic, &payload),
            Event::ToDevice { n, session, topic, payload } => {
                if self.session(n) == Some(session) {
                    self.with(n, |device, now, behaviour| device.hear(now, topic, &payload, behaviour))?;
                }
                Ok(())
            }
            Event::Connect(n) => self.connect(n),
            Event::Breaks { n, session } => self.breaks(n, session),
            Event::PowerOn(n) => self.power_on(n),
            Event::Joins(n) => {
                self.places[n].cut_off = false;
                Ok(())
            }
            Event::DiskFree(n) => {
                self.devices[n].disk.fill(false);
                Ok(())
            }
            Event::HubTurn => self.hub_turn(),
            Event::HubOn => {
                self.hub.is_up = true;
                self.say("the hub is back");
                if self.chance.one_in(2) {
                    // Somebody was waiting for it.
                    self.people();
                }
                self.after(TURN.0, Event::HubTurn);
                Ok(())
            }
            Event::People => {
                self.people();
                self.after(LOOK.0, Event::People);
                Ok(())
            }
            Event::Fault => {
                if !self.calm {
                    self.breaks_something()?;
                    let pause = self.chance.within(50, self.scenario.pause_ms * 2);
                    self.after(pause, Event::Fault);
                }
                Ok(())
            }
        }
    }

    // ------------------------------------------------------------------ devices and their sessions

    fn session(&self, n: usize) -> Option<(u64, u32)> {
        let agent = self.devices.get(n)?.agent.as_ref()?;
        agent.is_up.then_some((agent.boot, agent.session))
    }

    fn power_on(&mut self, n: usize) -> Result<(), String> {
        if self.devices.get(n).is_none_or(|device| device.agent.is_some()) {
            return Ok(());
        }
        self.say(&format!("cam-{n:03} starts"));
        if self.has(Fault::PowerCuts) && self.chance.one_in(6) {
            // It loses power again while it recovers.
            let fuse = self.chance.within(0, 12);
            self.devices[n].disk.fuse(fuse);
        }
        // Before it goes on: what it lost is known only now.
        if let Some(newest) = self.devices[n].newest_on_disk() {
            let id = self.devices[n].id.clone();
            self.check.restarted(&id, newest);
        }
        self.with(n, |device, now, behaviour| device.start(now, behaviour))?;
        let wait = self.chance.within(20, 1_500);
        self.after(wait, Event::Connect(n));
        Ok(())
    }

    /// A device is without power.
    fn cut(&mut self, n: usize) -> Result<(), String> {
        self.say(&format!("cam-{n:03} loses power"));
        let session = self.session(n);
        let will = self.devices[n].will();
        let device = &mut self.devices[n];
        device.agent = None;
        device.disk.cut();
        (device.is_taken_down, device.sending, device.jobs) = (false, Vec::new(), Vec::new());
        self.places[n].wakes_at = None;
        if let (Some(_), Some(will)) = (session, will) {
            let wait = self.chance.within(500, 45_000);
            self.after(wait, Event::ToHub { n, topic: UpTopic::Gone, payload: Rc::new(will) });
        }
        let away = if self.calm { 1_000 } else { self.chance.within(300, 40_000) };
        self.after(away, Event::PowerOn(n));
        Ok(())
    }

    fn connect(&mut self, n: usize) -> Result<(), String> {
        let Some(device) = self.devices.get_mut(n) else { return Ok(()) };
        if device.agent.as_ref().is_none_or(|agent| agent.is_up) {
            return Ok(());
        }
        let reachable = self.hub.is_up && !self.places[n].cut_off;
        let counter = if reachable { device.connect() } else { None };
        let opened = counter.is_some_and(|counter| {
            let decided = self.hub.rules().connect(&self.devices[n].id, counter, self.now);
            self.hub.take(decided).is_ok()
        });
        if self.devices[n].disk.is_dead() {
            return self.cut(n);
        }
        if !opened {
            let wait = self.chance.within(500, 8_000);
            self.after(wait, Event::Connect(n));
            return Ok(());
        }
        self.with(n, |device, now, behaviour| device.connected(now, behaviour))?;
        let stale = self.has(Fault::StaleRetained) && self.chance.one_in(3);
        let retained = &self.places[n].retained;
        let payload = if stale { retained.first() } else { retained.last() }.cloned();
        if let (Some(payload), Some(session)) = (payload, self.session(n)) {
            self.after(5, Event::ToDevice { n, session, topic: DownTopic::Desired, payload });
        }
        Ok(())
    }

    fn breaks(&mut self, n: usize, session: (u64, u32)) -> Result<(), String> {
        if self.session(n) != Some(session) {
            return Ok(());
        }
        if let Some(will) = self.devices[n].will() {
            let wait = self.chance.within(10, 40_000);
            self.after(wait, Event::ToHub { n, topic: UpTopic::Gone, payload: Rc::new(will) });
        }
        self.with(n, |device, now, behaviour| device.disconnected(now, behaviour))?;
        let wait = self.chance.within(100, 5_000);
        self.after(wait, Event::Connect(n));
        Ok(())
    }

    // ------------------------------------------------------------------------------- the network

    /// When a message arrives: never, once, or twice.
    fn delays(&mut self) -> Vec<u64> {
        if self.has(Fault::Loss) && self.chance.per_mille(self.scenario.loss) {
            return Vec::new();
        }
        let most = if self.has(Fault::Delays) { self.scenario.delay_ms } else { 20 };
        let mut delays = vec![self.chance.within(1, most)];
        if self.has(Fault::Repeats) && self.chance.per_mille(self.scenario.repeats) {
            delays.push(self.chance.within(1, most * 2));
        }
        delays
    }

    fn send_up(&mut self, n: usize, topic: UpTopic, payload: &Rc<Vec<u8>>) {
        if self.places.get(n).is_none_or(|place| place.cut_off) {
            return;
        }
        for delay in self.delays() {
            self.after(delay, Event::ToHub { n, topic, payload: payload.clone() });
        }
    }

    fn send_down(&mut self, n: usize, topic: DownTopic, payload: &Rc<Vec<u8>>) {
        let cut_off = self.places.get(n).is_none_or(|place| place.cut_off);
        let Some(session) = self.session(n).filter(|_| !cut_off) else { return };
        for delay in self.delays() {
            self.after(delay, Event::ToDevice { n, session, topic, payload: payload.clone() });
        }
    }

    // ------------------------------------------------------------------------------------ the hub

    fn hub_hears(&mut self, n: usize, topic: UpTopic, payload: &[u8]) -> Result<(), String> {
        if !self.hub.is_up {
            return Ok(());
        }
        let Some(id) = self.devices.get(n).map(|device| device.id.clone()) else { return Ok(()) };
        if let Err(denied) = self.hub.hear(&id, topic, payload, self.now) {
            self.say(&format!("the hub refuses {topic:?} of {id}: {denied}"));
        }
        // What is owed goes out soon, not with the next turn.
        let soon = self.now.saturating_add(Millis(20));
        if self.turns_at.is_none_or(|at| at > soon) {
            self.turns_at = Some(soon);
            self.after(20, Event::HubTurn);
        }
        Ok(())
    }

    fn hub_turn(&mut self) -> Result<(), String> {
        let was_planned = self.turns_at.take_if(|at| *at <= self.now).is_some();
        if !self.hub.is_up {
            return Ok(());
        }
        let before: Vec<(u64, State)> =
            self.hub.rules().rollouts().map(|rollout| (rollout.id, rollout.state.clone())).collect();
        let sent = self.hub.turn(self.now);
        self.tell_of_rollouts(&before);
        for rollout in self.hub.rules().rollouts() {
            let passed = rollout.stages.iter().rposition(|stage| stage.passed_at == Some(self.now));
            if let Some(stage) = passed {
                self.check.passed(self.hub.rules(), rollout, stage)?;
            }
        }
        self.check.told(self.hub.rules())?;
        for one in sent {
            match one {
                Sent::Message(device, (topic, payload)) => {
                    let Some(n) = self.number_of(&device) else { continue };
                    let payload = Rc::new(payload);
                    if topic == DownTopic::Desired {
                        self.says(&device, &payload)?;
                        let retained = &mut self.places[n].retained;
                        if retained.len() >= RETAINED {
                            retained.remove(0);
                        }
                        retained.push(payload.clone());
                    }
                    self.send_down(n, topic, &payload);
                }
                Sent::Parts(device, package, need) => self.send_parts(&device, package, &need),
            }
        }
        if std::mem::take(&mut self.hub_fuse) {
            self.say("the hub crashes, having just told what it decided");
            self.hub_down();
        } else if !was_planned {
            self.after(TURN.0, Event::HubTurn);
        }
        Ok(())
    }

    fn tell_of_rollouts(&mut self, before: &[(u64, State)]) {
        let moved: Vec<String> = self
            .hub
            .rules()
            .rollouts()
            .filter(|rollout| before.iter().any(|(id, state)| *id == rollout.id && *state != rollout.state))
            .map(|rollout| format!("rollout {} of {}: {:?}", rollout.id, rollout.model, rollout.state))
            .collect();
        for line in moved {
            self.say(&line);
        }
    }

    fn says(&mut self, device: &DeviceId, payload: &[u8]) -> Result<(), String> {
        if let Ok(Down::Desired(desired)) = frame::decode(payload)
            && let Ok(assignment) = desired.assignment.peek::<Assignment>()
        {
            self.check.desired(device, assignment.order, desired.assignment.digest())?;
        }
        Ok(())
    }

    fn number_of(&self, device: &DeviceId) -> Option<usize> {
        device.as_str().strip_prefix("cam-")?.parse().ok()
    }

    fn send_parts(&mut self, device: &DeviceId, package: PackageRef, need: &bellwether_protocol::message::Need) {
        let Some(n) = self.number_of(device) else { return };
        let Some(stored) = self.packages.get(&package.digest) else { return };
        let transfer = package.digest.transfer();
        let mut parts = Vec::new();
        let mut add = |part: Part, down: &Down<'_>| {
            let mut buffer = vec![0; CHUNK_BYTES + 256];
            if let Ok(frame) = frame::encode(down, &mut buffer) {
                parts.push((DownTopic::Part(transfer, part), frame.to_vec()));
            }
        };
        if need.table {
            add(Part::Table, &Down::Table(Table { digests: &stored.table }));
        }
        for number in need.chunks(CHUNKS_IN_FLIGHT_MAX) {
            if let Some(bytes) = stored.bytes.chunks(CHUNK_BYTES).nth(usize::from(number)) {
                add(Part::Chunk(number), &Down::Chunk(Chunk { bytes }));
            }
        }
        for (topic, frame) in parts {
            self.send_down(n, topic, &Rc::new(frame));
        }
    }

    fn hub_down(&mut self) {
        self.hub.crash(&mut self.chance);
        self.turns_at = None;
        for n in 0..self.devices.len() {
            if let Some(session) = self.session(n) {
                let wait = self.chance.within(100, 30_000);
                self.after(wait, Event::Breaks { n, session });
            }
        }
        let away = self.chance.within(200, 20_000);
        self.after(away, Event::HubOn);
    }

    // --------------------------------------------------------------------------------- the people

    fn people(&mut self) {
        if !self.hub.is_up {
            return;
        }
        self.hand_in_roots();
        if self.calm {
            return self.bring_to_an_end();
        }
        let index = self.chance.index(MODELS.len());
        let Some(Ok(name)) = MODELS.get(index).map(|name| name.parse::<ModelName>()) else { return };
        match self.chance.within(0, 19) {
            0..=4 => self.release(&name),
            5..=9 => self.start(&name),
            10..=14 => self.grant_what_waits(250),
            15 | 16 => self.grant_what_waits(1000),
            17 => self.steer(),
            18 if self.chance.one_in(4) => self.recall(&name),
            18 => self.hub.back_up(),
            _ if self.chance.one_in(3) => self.rotate(),
            _ => {}
        }
        self.hub.flush();
    }

    /// Registers, publishes and approves the next version.
    fn release(&mut self, name: &ModelName) {
        self.seeds += 1;
        let behaviour = if self.has(Fault::BadModels) { Behaviour::draw(&mut self.chance) } else { Behaviour::Good };
        let length = match self.chance.within(0, 3) {
            0 => self.chance.within(CHUNK_BYTES as u64, CHUNK_BYTES as u64 * 2),
            _ => self.chance.within(500, 12_000),
        };
        let seed = self.scenario.seed ^ self.seeds << 40;
        let package = Package::new(seed, usize::try_from(length).unwrap_or(1000), behaviour);
        let (Some(candidate), Some(tensors)) = (candidate(name, &package), tensors_digest()) else { return };
        let registered = self.hub.rules().register(candidate, Vec::new(), "Ada", self.now);
        let Ok(model) = self.hub.make(registered) else { return };
        let version = model.version.number();
        let mut salt = [0; 16];
        for (to, from) in salt.iter_mut().zip(self.chance.number().to_le_bytes()) {
            *to = from;
        }
        let security_floor = if self.chance.one_in(4) { version.saturating_sub(1) } else { 0 };
        let release = Release {
            kind: Kind::Model,
            name: name.clone(),
            version: model.version,
            source: package.reference.digest,
            package: package.reference,
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 8 },
            hardware: Few::new(),
            tensors,
            security_floor,
            salt,
            checkpoint: 0,
            validity: None,
        };
        let bytes = body(&release);
        self.packages.insert(package.reference.digest, package);
        let published =
            self.hub.rules().publish(&model, &signed::<Release>(self.fleet, &bytes, &[ADA]), "Ada", self.now);
        let mut done = self.hub.take(published);
        for approver in [BO, CY] {
            let statement = signed::<Release>(self.fleet, &bytes, &[approver]);
            let signed = self.hub.rules().sign(&model, &statement, "approver", self.now);
            done = done.and(self.hub.take(signed));
        }
        if done.is_ok() {
            let lawful = Lawful { name: name.clone(), salt, floor: security_floor.min(version), grants: Vec::new() };
            self.check.lawful.insert(Digest::of(&bytes), lawful);
            self.say(&format!("{model} is approved: {behaviour:?}, {length} bytes, floor {security_floor}"));
        }
    }

    fn latest(&self, name: &ModelName) -> Option<ModelRef> {
        let rules = self.hub.rules();
        let approved = rules.versions_of(name).filter(|record| rules.approved(record).is_ok());
        approved.map(|record| record.model.clone()).last()
    }

    fn start(&mut self, name: &ModelName) {
        let Some(model) = self.latest(name) else { return };
        let count = self.devices.len();
        let named = self.chance.index(count);
        let canary = self.devices.get(named).map(|device| public(&device.key).id());
        let mut stages = vec![Cohort::Buckets(250), Cohort::Buckets(1000)];
        if self.chance.one_in(2) {
            stages.insert(0, Cohort::Devices(canary.into_iter().collect()));
        }
        let policy = Policy {
            soak: Millis(self.chance.within(0, 15_000)),
            failures_max: u32::try_from(self.chance.within(0, 3)).unwrap_or(0),
            silence: Millis(self.chance.within(20_000, 90_000)),
            on_failure: if self.chance.one_in(2) { OnFailure::Pause } else { OnFailure::RollBack },
            p95_us_max: None,
        };
        let started = self.hub.rules().start_rollout(&model, stages, policy, "Olga", self.now);
        if let Ok(id) = self.hub.make(started) {
            self.say(&format!("rollout {id} of {model} starts"));
        }
    }

    /// Grants the stages that wait, as far as `below` of 1000.
    fn grant_what_waits(&mut self, below: u16) {
        let waiting: Vec<(ModelRef, Option<Cohort>)> = self
            .hub
            .rules()
            .rollouts()
            .filter_map(|rollout| match rollout.state {
                State::Going { stage, step: Step::WaitingForGrant } => {
                    Some((rollout.model.clone(), rollout.stages.get(stage).map(|stage| stage.cohort.clone())))
                }
                State::Going { .. }
                | State::Paused { .. }
                | State::Completed
                | State::Aborted
                | State::RollingBack { .. }
                | State::RolledBack { .. } => None,
            })
            .collect();
        for (model, cohort) in waiting {
            let cohort = match cohort {
                Some(Cohort::Buckets(needed)) => Cohort::Buckets(needed.max(below)),
                Some(named) => named,
                None => continue,
            };
            self.grant(&model, &cohort);
        }
    }

    fn grant(&mut self, model: &ModelRef, cohort: &Cohort) {
        let Ok(record) = self.hub.rules().version(model) else { return };
        let Some(release) = record.release.as_ref().map(|release| release.digest()) else { return };
        let grant =
            StageGrant { release, cohort: cohort.clone(), gate: Digest::default(), checkpoint: 0, validity: None };
        let statement = signed::<StageGrant>(self.fleet, &body(&grant), &[BO]);
        let granted = self.hub.rules().add_grant(model, &statement, "Bo", self.now);
        if self.hub.take(granted).is_ok()
            && let Some(lawful) = self.check.lawful.get_mut(&release)
        {
            lawful.grants.push(cohort.clone());
            self.say(&format!("{model} is granted to {cohort:?}"));
        }
    }

    fn steer(&mut self) {
        let going: Vec<u64> =
            self.hub.rules().rollouts().filter(|rollout| rollout.is_going()).map(|rollout| rollout.id).collect();
        let Some(id) = going.get(self.chance.index(going.len())).copied() else { return };
        let verb = Verb::ALL[self.chance.index(Verb::ALL.len())];
        let steered = self.hub.rules().steer(id, verb, "because", "Olga", self.now);
        if self.hub.take(steered).is_ok() {
            self.say(&format!("rollout {id}: Olga says {}", verb.name()));
        }
    }

    fn recall(&mut self, name: &ModelName) {
        let Some(model) = self.latest(name) else { return };
        let Ok(record) = self.hub.rules().version(&model) else { return };
        let Some(release) = record.release.as_ref().map(|release| release.digest()) else { return };
        let otherwise = if self.chance.one_in(2) { Otherwise::Stop } else { Otherwise::Keep };
        let recall = Recall { name: name.clone(), releases: std::iter::once(release).collect(), otherwise };
        let statement = signed::<Recall>(self.fleet, &body(&recall), &[CY]);
        let recalled = self.hub.rules().add_recall(&statement, "Cy", self.now);
        if self.hub.take(recalled).is_ok() {
            self.hub.tell_lagging();
            self.say(&format!("{model} is recalled, otherwise {otherwise:?}"));
        }
    }

    /// A hub that came back from a backup gets the roots again that it has lost.
    fn hand_in_roots(&mut self) {
        let known = self.hub.rules().chain().len();
        for statement in self.roots.iter().skip(known) {
            let added = self.hub.rules().add_root(statement, &hub(), "Bo", self.now);
            if self.hub.take(added).is_err() {
                break;
            }
            self.hub.tell_lagging();
        }
    }

    /// The next root: another generation of the director, or Dee leaves.
    fn rotate(&mut self) {
        let Ok(trusted) = self.hub.rules().trusted() else { return };
        let mut next = trusted.root().clone();
        next.version += 1;
        if self.chance.one_in(2) {
            next.director_generation += 1;
        } else if let Some(dee) = next.keys.iter_mut().find(|entry| entry.public == public(&crate::people::key(DEE))) {
            dee.status = bellwether_protocol::trust::KeyStatus::Retired;
        }
        let statement = signed::<Root>(self.fleet, &body(&next), &[BO, CY]);
        let rotated = self.hub.rules().add_root(&statement, &hub(), "Bo", self.now);
        if self.hub.take(rotated).is_ok() {
            self.roots.push(statement);
            self.hub.tell_lagging();
            self.say(&format!("root {} is in force", next.version));
        }
    }

    /// Nobody wants anything new: what is going is granted to the end or given up.
    fn bring_to_an_end(&mut self) {
        self.grant_what_waits(1000);
        let paused: Vec<u64> = self
            .hub
            .rules()
            .rollouts()
            .filter(|rollout| matches!(rollout.state, State::Paused { .. }))
            .map(|rollout| rollout.id)
            .collect();
        for id in paused {
            let verb = if self.chance.one_in(2) { Verb::Resume } else { Verb::Abort };
            let steered = self.hub.rules().steer(id, verb, "the end", "Olga", self.now);
            if self.hub.take(steered).is_ok() {
                self.say(&format!("rollout {id}: Olga says {}", verb.name()));
            }
        }
        self.hub.flush();
    }

    // --------------------------------------------------------------------------------- what breaks

    fn breaks_something(&mut self) -> Result<(), String> {
        let faults: Vec<Fault> = self.scenario.faults.iter().collect();
        let Some(fault) = faults.get(self.chance.index(faults.len())).copied() else { return Ok(()) };
        let n = self.chance.index(self.devices.len());
        match fault {
            Fault::Loss | Fault::Repeats | Fault::Delays | Fault::StaleRetained | Fault::BadModels => {
                if let Some(session) = self.session(n).filter(|_| self.chance.one_in(3)) {
                    return self.breaks(n, session);
                }
            }
            Fault::Partitions => {
                self.places[n].cut_off = true;
                self.say(&format!("cam-{n:03} is cut off"));
                if let Some(session) = self.session(n) {
                    let wait = self.chance.within(1_000, 45_000);
                    self.after(wait, Event::Breaks { n, session });
                }
                let wait = self.chance.within(2_000, 60_000);
                self.after(wait, Event::Joins(n));
            }
            Fault::PowerCuts => {
                if self.devices[n].agent.is_some() {
                    if self.chance.one_in(4) {
                        return self.cut(n);
                    }
                    let fuse = self.chance.within(0, 40);
                    self.devices[n].disk.fuse(fuse);
                }
            }
            Fault::FullDisks => {
                self.devices[n].disk.fill(true);
                self.say(&format!("the disk of cam-{n:03} is full"));
                let wait = self.chance.within(2_000, 30_000);
                self.after(wait, Event::DiskFree(n));
            }
            Fault::BitRot => self.rot(n),
            Fault::HubCrashes => {
                if self.hub.is_up && self.chance.one_in(4) {
                    if self.chance.one_in(2) {
                        self.hub_fuse = true;
                    } else {
                        self.say("the hub crashes");
                        self.hub_down();
                    }
                }
            }
            Fault::Restores => {
                if self.hub.is_up && self.chance.one_in(8) && self.hub.restore() {
                    self.check.was_restored = true;
                    self.say("the hub comes back from a backup");
                    self.hub_down();
                }
            }
            Fault::RogueHub => self.rogue(n),
            Fault::SlowDevices => {
                let slow = self.chance.one_in(2);
                self.places[n].slow = slow;
            }
        }
        Ok(())
    }

    fn rot(&mut self, n: usize) {
        let Some(agent) = &self.devices[n].agent else { return };
        let models: Vec<ModelName> = agent.brain.state().models.iter().map(|model| model.name.clone()).collect();
        let Some(name) = models.get(self.chance.index(models.len())).cloned() else { return };
        let slot = if self.chance.one_in(2) {
            bellwether_agent_core::update::Slot::A
        } else {
            bellwether_agent_core::update::Slot::B
        };
        if self.devices[n].disk.rot(&name, slot) {
            self.say(&format!("a bit turns in slot {slot:?} of {name} on cam-{n:03}"));
        }
    }

    /// Somebody with the director's key tells a device to have what people did not sign for it.
    fn rogue(&mut self, n: usize) {
        let device = &self.devices[n];
        let Some(known) = self.hub.rules().device(&device.id).ok() else { return };
        let Some(mut order) = known.assignment.as_ref().map(|issued| issued.order) else { return };
        order.sequence += self.chance.within(1, 5);
        let lawful: Vec<Digest> = self.check.lawful.keys().copied().collect();
        let evil = Package::new(self.chance.number(), 600, Behaviour::Good);
        let Ok(name) = "digits".parse::<ModelName>() else { return };
        let Some(tensors) = tensors_digest() else { return };
        let Ok(version) = bellwether_protocol::id::Version::new(99) else { return };
        let release = Release {
            kind: Kind::Model,
            name: name.clone(),
            version,
            source: evil.reference.digest,
            package: evil.reference,
            requires: Requires { agent: [0, 1, 0], operators: 17, memory_kib: 8 },
            hardware: Few::new(),
            tensors,
            security_floor: 0,
            salt: [1; 16],
            checkpoint: 0,
            validity: None,
        };
        let bytes = body(&release);
        // One approval too few; or the publisher's own for the second.
        let seeds: &[u8] = if self.chance.one_in(2) { &[ADA, BO] } else { &[ADA, ADA, BO] };
        let statement = signed::<Release>(self.fleet, &bytes, seeds);
        let grant = StageGrant {
            release: Digest::of(&bytes),
            cohort: Cohort::Buckets(1000),
            gate: Digest::default(),
            checkpoint: 0,
            validity: None,
        };
        let grant = signed::<StageGrant>(self.fleet, &body(&grant), &[ADA]);
        let stolen = lawful.get(self.chance.index(lawful.len())).copied().filter(|_| self.chance.one_in(2));
        let wanted = bellwether_protocol::trust::Wanted {
            name,
            release: stolen.unwrap_or_else(|| Digest::of(&bytes)),
            mode: bellwether_protocol::trust::Mode::Active,
        };
        let assignment = Assignment {
            device: device.id.clone(),
            order,
            models: std::iter::once(wanted).collect(),
            audit: Digest::default(),
        };
        let mut buffer = vec![0; 4096];
        let Ok(assignment) =
            bellwether_protocol::trust::seal(&assignment, self.fleet, self.hub.director(), &mut buffer)
        else {
            return;
        };
        let (Ok(release), Ok(grant)) = (frame::decode::<Signed<'_>>(&statement), frame::decode::<Signed<'_>>(&grant))
        else {
            return;
        };
        let evidence = bellwether_protocol::message::Evidence { release, grant: Some(grant) };
        let desired =
            bellwether_protocol::message::Desired { assignment, evidence: std::iter::once(evidence).collect() };
        if let Ok((topic, frame)) = bellwether_hub_core::talk::message(DownTopic::Desired, &Down::Desired(desired)) {
            self.say(&format!("a rogue hub speaks to cam-{n:03}"));
            self.send_down(n, topic, &Rc::new(frame));
        }
    }

    // -------------------------------------------------------------------------------- coming to rest

    fn calm_down(&mut self) {
        self.calm = true;
        self.say("nothing breaks any more");
        for (n, place) in self.places.iter_mut().enumerate() {
            (place.cut_off, place.slow) = (false, false);
            if let Some(device) = self.devices.get(n) {
                device.disk.fill(false);
            }
        }
        if !self.hub.is_up {
            self.after(100, Event::HubOn);
        }
        for n in 0..self.devices.len() {
            self.after(200, Event::PowerOn(n));
            self.after(400, Event::Connect(n));
        }
    }

    /// Why the fleet is not at rest yet.
    fn unrest(&self) -> Option<String> {
        if !self.hub.is_up {
            return Some("the hub is away".to_owned());
        }
        if let Some(going) = self.hub.rules().rollouts().find(|rollout| rollout.is_going()) {
            return Some(format!("rollout {} of {} goes on: {:?}", going.id, going.model, going.state));
        }
        for (n, device) in self.devices.iter().enumerate() {
            if self.session(n).is_none() {
                return Some(format!("{} is not connected", device.id));
            }
            let Ok(known) = self.hub.rules().device(&device.id) else { continue };
            if !has_converged(known) {
                return Some(format!("{} is not as it should be: {:?}", device.id, known.report));
            }
            if known
                .assignment
                .as_ref()
                .is_some_and(|issued| known.report.as_ref().is_none_or(|report| report.seen < issued.order))
            {
                return Some(format!(
                    "{} has not seen its assignment {:?}: {:?}",
                    device.id, known.assignment, known.report
                ));
            }
            if device.is_busy() {
                return Some(format!("{} installs", device.id));
            }
        }
        None
    }
}
