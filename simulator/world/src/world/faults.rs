//! What breaks: the faults that a scenario draws, and the words of a hub that was taken over.

use std::rc::Rc;

use bellwether_agent_core::Holds;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::message::Down;
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Assignment, Cohort, Hold, Mode, Release, Requires, Signed, StageGrant};

use super::{Event, TURN, World};
use crate::Fault;
use crate::model::{Behaviour, Package, tensors_digest};
use crate::people::{ADA, BO, body, signed};

/// A day.
const DAY_MS: u64 = 24 * 3600 * 1000;

impl World {
    pub(super) fn breaks_something(&mut self) -> Result<(), String> {
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
            Fault::HubCrashes | Fault::Restores | Fault::Usurpers if !self.hub.is_up => {}
            Fault::HubCrashes | Fault::Restores | Fault::Usurpers => self.hub_breaks(fault),
            Fault::RogueHub => self.rogue(n),
            Fault::Conditions => {
                let bits = self.chance.within(0, 31);
                let holds = Hold::ALL.into_iter().filter(|hold| bits & 1 << *hold as u64 != 0);
                let wait = self.chance.within(2_000, 60_000);
                self.after(wait, Event::Free(n));
                return self.hold(n, holds.fold(Holds::NONE, Holds::with));
            }
            Fault::Clocks => self.set_a_clock(n),
            Fault::SlowDevices => {
                let slow = self.chance.one_in(2);
                self.places[n].slow = slow;
            }
        }
        Ok(())
    }

    /// The hub crashes, comes back from a backup, or is replaced.
    fn hub_breaks(&mut self, fault: Fault) {
        if fault == Fault::HubCrashes && self.chance.one_in(4) {
            if self.chance.one_in(2) {
                self.hub_fuse = true;
            } else {
                self.say("the hub crashes");
                self.hub_down();
            }
        }
        if fault == Fault::Restores && self.chance.one_in(8) && self.hub.restore() {
            self.check.was_restored = true;
            self.say("the hub comes back from a backup");
            self.hub_down();
        }
        if fault == Fault::Usurpers && self.chance.one_in(8) {
            self.usurped = true;
            self.say("a rogue hub takes the place of the hub");
            self.hub_down();
        }
    }

    /// What installs on a device wait for from now on.
    pub(super) fn hold(&mut self, n: usize, holds: Holds) -> Result<(), String> {
        if self.devices[n].holds != holds {
            self.say(&format!("cam-{n:03} waits for {holds:?}"));
        }
        self.with(n, |device, now, _| device.hold(now, holds))
    }

    /// The clock of the hub or of a device is set, by seconds or by weeks.
    fn set_a_clock(&mut self, n: usize) {
        let span = if self.chance.one_in(2) { 20_000 } else { 30 * DAY_MS };
        let size = i64::try_from(self.chance.within(1, span)).unwrap_or(1);
        let by = if self.chance.one_in(2) { size } else { -size };
        if self.chance.one_in(2) {
            self.devices[n].skew = self.devices[n].skew.saturating_add(by);
            self.say(&format!("the clock of cam-{n:03} is set by {by} ms"));
        } else {
            self.skew = self.skew.saturating_add(by);
            self.set_by = self.hub.is_up.then(|| self.set_by.unwrap_or(0).saturating_add(by));
            self.say(&format!("the clock of the hub is set by {by} ms"));
        }
    }

    /// The hub is what it was, and its director of a new generation: what the rogue one signed counts
    /// no more.
    pub(super) fn take_back(&mut self) -> Result<(), String> {
        self.usurped = false;
        self.hub.is_up = true;
        self.say("people take the hub back");
        self.hand_in_roots();
        self.rotate(true);
        self.hub.flush();
        for n in 0..self.devices.len() {
            if let Some(session) = self.session(n) {
                self.breaks(n, session)?;
            }
        }
        self.after(TURN.0, Event::HubTurn);
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
    pub(super) fn rogue(&mut self, n: usize) {
        let device = &self.devices[n];
        let Some(known) = self.hub.rules().device(&device.id).ok() else { return };
        let Some(mut order) = known.assignment.as_ref().map(|issued| issued.order) else { return };
        // In the hub's place it can also use up all numbers there are.
        let is_last = self.usurped && self.chance.one_in(8);
        order.sequence = if is_last { u64::MAX } else { order.sequence.saturating_add(self.chance.within(1, 5)) };
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
            mode: Mode::Urgent,
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
}
