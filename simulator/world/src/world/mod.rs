//! Time, and what happens in it: here the events, and devices with their sessions; [`wire`] the network
//! and the hub's turns; [`people`] what people do; [`faults`] what breaks.
#![expect(clippy::indexing_slicing, reason = "the number of a device is its place, and none ever goes")]

mod faults;
mod people;
mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use bellwether_agent_core::Holds;
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, UpTopic};
use bellwether_protocol::trust::{FleetId, Root, TrustedRoot};

use crate::chance::Chance;
use crate::check::{Check, has_converged};
use crate::device::{Device, Sending};
use crate::hub::Hub;
use crate::model::{Behaviour, Package};
use crate::people::{BO, CY, body, device_key, public, root, signed};
use crate::trace::Trace;
use crate::{Fault, Run, Scenario};

/// How long the fleet has to come to rest once nothing breaks any more.
const REST: Millis = Millis(1_500_000);
/// How often the hub's time passes.
const TURN: Millis = Millis(500);
/// How often people look.
const LOOK: Millis = Millis(3_000);
/// What the hub's clock shows at the beginning of virtual time.
const HUB_CLOCK: Millis = Millis(20_000 * 24 * 3600 * 1000);

#[derive(Debug)]
enum Event {
    Wake(usize),
    Job {
        n: usize,
        boot: u64,
        id: u64,
    },
    ToHub {
        n: usize,
        topic: UpTopic,
        payload: Rc<Vec<u8>>,
    },
    ToDevice {
        n: usize,
        session: (u64, u32),
        topic: DownTopic,
        payload: Rc<Vec<u8>>,
    },
    Connect(usize),
    Breaks {
        n: usize,
        session: (u64, u32),
    },
    PowerOn(usize),
    Joins(usize),
    DiskFree(usize),
    /// It may be disturbed again.
    Free(usize),
    /// People take the hub back from whoever took its place.
    TakenBack,
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
    /// By how much the hub's clock is ahead of where it began, and by how much it was set since its last
    /// turn.
    skew: i64,
    set_by: Option<i64>,
    /// A rogue hub is in the place of the hub.
    usurped: bool,
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
        let set = hub.rules().set_root(&statement, &crate::people::hub(), "Bo", HUB_CLOCK);
        hub.take(set).ok()?;
        let mut devices = Vec::new();
        for n in 0..scenario.devices {
            let key: SigningKey = device_key(n, 0);
            let device = Device::new(n, (key, fleet, trusted.clone()), chance.number(), scenario.mutant)?;
            let enrolled = hub.rules().enrol(&device.id, public(&device.key), BTreeMap::new(), HUB_CLOCK);
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
            skew: 0,
            set_by: None,
            usurped: false,
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

    /// The hub's clock: any day, and set at times.
    const fn hub_now(&self) -> Millis {
        Millis(HUB_CLOCK.0.saturating_add(self.now.0).saturating_add_signed(self.skew))
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
                    self.with(n, |device, now, _| device.hear(now, topic, &payload))?;
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
            Event::Free(n) => self.hold(n, Holds::NONE),
            Event::TakenBack => self.take_back(),
            Event::HubTurn => self.hub_turn(),
            Event::HubOn => {
                if self.hub.is_up || self.usurped {
                    return Ok(());
                }
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
        let reachable = (self.hub.is_up || self.usurped) && !self.places[n].cut_off;
        let counter = if reachable { device.connect() } else { None };
        let opened = counter.is_some_and(|counter| {
            if self.usurped {
                return true;
            }
            let decided = self.hub.rules().connect(&self.devices[n].id, counter, self.hub_now());
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
        self.with(n, |device, now, _| device.connected(now))?;
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
        self.with(n, |device, now, _| device.disconnected(now))?;
        let wait = self.chance.within(100, 5_000);
        self.after(wait, Event::Connect(n));
        Ok(())
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
        if self.usurped {
            self.after(100, Event::TakenBack);
        } else if !self.hub.is_up {
            self.after(100, Event::HubOn);
        }
        for n in 0..self.devices.len() {
            self.after(100, Event::Free(n));
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
