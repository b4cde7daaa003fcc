//! The network, which loses, repeats and delays, and the hub's turns at its end.

use std::rc::Rc;

use bellwether_hub_core::rollout::State;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{CHUNK_BYTES, CHUNKS_IN_FLIGHT_MAX};
use bellwether_protocol::message::{Chunk, Down, Need, Table};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, Part, UpTopic};
use bellwether_protocol::trust::{Assignment, PackageRef};

use super::{Event, TURN, World};
use crate::hub::Sent;
use crate::{Fault, Mutant};

/// Desired states that a forgetful broker may still have.
const RETAINED: usize = 4;

impl World {
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

    pub(super) fn send_up(&mut self, n: usize, topic: UpTopic, payload: &Rc<Vec<u8>>) {
        if self.places.get(n).is_none_or(|place| place.cut_off) {
            return;
        }
        for delay in self.delays() {
            self.after(delay, Event::ToHub { n, topic, payload: payload.clone() });
        }
    }

    pub(super) fn send_down(&mut self, n: usize, topic: DownTopic, payload: &Rc<Vec<u8>>) {
        let cut_off = self.places.get(n).is_none_or(|place| place.cut_off);
        let Some(session) = self.session(n).filter(|_| !cut_off) else { return };
        for delay in self.delays() {
            self.after(delay, Event::ToDevice { n, session, topic, payload: payload.clone() });
        }
    }

    pub(super) fn hub_hears(&mut self, n: usize, topic: UpTopic, payload: &[u8]) -> Result<(), String> {
        if self.usurped && self.chance.one_in(2) {
            self.rogue(n);
        }
        if !self.hub.is_up {
            return Ok(());
        }
        let Some(id) = self.devices.get(n).map(|device| device.id.clone()) else { return Ok(()) };
        if let Err(denied) = self.hub.hear(&id, topic, payload, self.hub_now()) {
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

    pub(super) fn hub_turn(&mut self) -> Result<(), String> {
        let was_planned = self.turns_at.take_if(|at| *at <= self.now).is_some();
        if !self.hub.is_up {
            return Ok(());
        }
        let before: Vec<(u64, State)> =
            self.hub.rules().rollouts().map(|rollout| (rollout.id, rollout.state.clone())).collect();
        let notices = self.scenario.mutant != Some(Mutant::UnnoticedClocks);
        if let Some(by) = self.set_by.take().filter(|_| notices) {
            let set = self.hub.rules().clock_set(by, self.hub_now());
            let _never = self.hub.take(Ok(set));
        }
        let now = self.hub_now();
        let sent = self.hub.turn(now);
        self.tell_of_rollouts(&before);
        for rollout in self.hub.rules().rollouts() {
            let passed = rollout.stages.iter().rposition(|stage| stage.passed_at == Some(now));
            if let Some(stage) = passed {
                self.check.passed(self.hub.rules(), rollout, stage)?;
            }
        }
        self.check.told(self.hub.rules())?;
        self.check.bears(self.hub.rules(), now)?;
        self.check.soaks(self.hub.rules(), &before, (now, self.now))?;
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

    fn send_parts(&mut self, device: &DeviceId, package: PackageRef, need: &Need) {
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

    pub(super) fn hub_down(&mut self) {
        self.hub.crash(&mut self.chance);
        self.turns_at = None;
        // A hub that starts knows nothing of how its clock was set while it was away.
        self.set_by = None;
        self.check.soaking.clear();
        for n in 0..self.devices.len() {
            if let Some(session) = self.session(n) {
                let wait = self.chance.within(100, 30_000);
                self.after(wait, Event::Breaks { n, session });
            }
        }
        let away = self.chance.within(200, 20_000);
        self.after(away, if self.usurped { Event::TakenBack } else { Event::HubOn });
    }
}
