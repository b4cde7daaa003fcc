//! Installs: one job at a time, whose work is done when it ends.

use bellwether_agent_core::update::{Held, Step, Work};
use bellwether_agent_core::{Action, Input};
use bellwether_agent_disk::Download;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelName, TransferId};
use bellwether_protocol::message::Up;
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{Part, UpTopic};
use bellwether_protocol::trust::Running;

use super::{Agent, Device};
use crate::Mutant;
use crate::disk::SlotPlace;
use crate::model::Behaviour;

/// What is being done for the brain.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    name: ModelName,
    work: Work,
    held: Held,
    pub(super) download: Option<Download<SlotPlace>>,
    /// The download is complete and is being hashed.
    hashing: bool,
}

impl Job {
    fn is(&self, action: &Action) -> bool {
        matches!(action, Action::Install { name, work, held } if *name == self.name && *work == self.work && *held == self.held)
    }

    fn may_be_left(&self) -> bool {
        self.work == Work::SelfTest || self.download.is_some()
    }
}

impl Device {
    pub(super) fn part(&mut self, now: Millis, transfer: TransferId, part: Part, bytes: &[u8]) {
        let Some(job) = self.agent.as_mut().and_then(|agent| agent.job.as_mut()) else { return };
        let Some(download) = job.download.as_mut().filter(|download| download.transfer() == transfer) else { return };
        let (name, release) = (job.name.clone(), job.held.target.running.release);
        if let Err(reject) = download.take(part, bytes) {
            if let Some(agent) = &mut self.agent {
                agent.job = None;
            }
            self.handle(now, Input::Install { name: &name, release, step: Step::Failed(reject) });
            return;
        }
        let present = download.progress() / 100 * 100;
        self.hash_if_complete();
        self.handle(now, Input::Progress { name: &name, present });
    }

    fn hash_if_complete(&mut self) {
        let Some(job) = self.agent.as_mut().and_then(|agent| agent.job.as_mut()) else { return };
        if job.download.take_if(|download| download.is_complete()).is_some() {
            job.hashing = true;
            let id = job.id;
            let takes = self.takes(2, 40);
            self.jobs.push((id, takes));
        }
    }

    /// Brings what is being done in line with what the brain wants done.
    pub(super) fn work(&mut self, now: Millis) {
        let Some(agent) = &mut self.agent else { return };
        let wanted = agent.brain.install_action();
        if let Some(job) = &agent.job {
            match &wanted {
                Some(action) if job.is(action) => return self.pump(now),
                _ if job.may_be_left() => agent.job = None,
                _ => return,
            }
        }
        let Some(Action::Install { name, work, held }) = wanted else { return };
        if matches!(work, Work::Fetch) {
            agent.loaded = None;
        }
        agent.jobs += 1;
        let id = agent.jobs;
        agent.job = Some(Job { id, name, work, held, download: None, hashing: false });
        let takes = match work {
            Work::SelfTest => self.takes(200, 3_000),
            Work::Fetch | Work::Stage | Work::Activate | Work::Return(_) => self.takes(1, 60),
        };
        self.jobs.push((id, takes));
    }

    /// How long a job takes, in milliseconds.
    fn takes(&mut self, least: u64, most: u64) -> u64 {
        if self.is_steady { u64::midpoint(least, most) } else { self.chance.within(least, most) }
    }

    /// Asks for what a download lacks.
    fn pump(&mut self, now: Millis) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.is_up) else { return };
        let Some(download) = agent.job.as_mut().and_then(|job| job.download.as_mut()) else { return };
        let transfer = download.transfer();
        if let Some(need) = download.need(now) {
            self.publish(UpTopic::Need(transfer), &Up::Need(need));
        }
    }

    /// A job ends.
    pub(crate) fn finished(&mut self, now: Millis, id: u64, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        let Some(agent) = &mut self.agent else { return };
        let Some(mut job) = agent.job.take_if(|job| job.id == id) else { return };
        let step = match self.perform(&mut job, behaviour) {
            Ok(Some(step)) => step,
            Ok(None) => {
                if let Some(agent) = &mut self.agent {
                    agent.job = Some(job);
                }
                self.hash_if_complete();
                return self.turn(now);
            }
            Err(reject) => Step::Failed(reject),
        };
        if self.disk.is_dead() {
            return;
        }
        let Some(agent) = &mut self.agent else { return };
        let running = job.held.target.running;
        let is_wanted = agent.brain.install_action().is_some_and(|action| job.is(&action));
        match (step, job.work) {
            (Step::Passed, _) => agent.loaded = Some(running.release),
            (Step::Activated, _) if is_wanted => serve(agent, &job.name, Some(running)),
            (Step::Returned, Work::Return(back)) if is_wanted => {
                serve(agent, &job.name, back.map(|back| back.target.running));
            }
            _ => {}
        }
        agent.calls = 0;
        self.handle(now, Input::Install { name: &job.name, release: running.release, step });
        if let (Step::Failed(_), Work::Return(_)) = (step, job.work)
            && self.active(&job.name).is_none()
            && let Some(agent) = &mut self.agent
        {
            serve(agent, &job.name, None);
        }
        self.turn(now);
    }

    /// What a job does, all at its end.
    fn perform(
        &mut self,
        job: &mut Job,
        behaviour: &dyn Fn(&Digest) -> Option<Behaviour>,
    ) -> Result<Option<Step>, Reject> {
        let (name, held) = (&job.name, job.held);
        let package = held.target.package;
        let loads = |device: &mut Self, held: &Held| {
            if device.loads(name, held, behaviour) { Ok(()) } else { Err(Reject::DigestMismatch) }
        };
        Ok(Some(match job.work {
            Work::Fetch if job.hashing || self.disk.is_whole(name, held.slot, &package) => {
                if !self.disk.is_whole(name, held.slot, &package) {
                    return Err(Reject::DigestMismatch);
                }
                Step::Fetched
            }
            Work::Fetch => {
                job.download = Some(Download::open(self.disk.place(name, held.slot), held)?);
                return Ok(None);
            }
            Work::Stage => {
                if self.mutant != Some(Mutant::StageWithoutSync) {
                    self.disk.sync(name, held.slot).map_err(|why| bellwether_agent_disk::reject(&why))?;
                }
                Step::Staged
            }
            Work::SelfTest => {
                loads(self, &held)?;
                match behaviour(&package.digest) {
                    Some(Behaviour::FailsGolden) => return Err(Reject::GoldenMismatch),
                    Some(Behaviour::CrashesInTest) => return Err(Reject::Crashed),
                    Some(Behaviour::Good | Behaviour::TakesDown | Behaviour::Errs | Behaviour::Slow) | None => {}
                }
                Step::Passed
            }
            Work::Activate => {
                if self.agent.as_ref().and_then(|agent| agent.loaded) != Some(held.target.running.release) {
                    loads(self, &held)?;
                }
                Step::Activated
            }
            Work::Return(back) => {
                back.map(|back| loads(self, &back)).transpose()?;
                Step::Returned
            }
        }))
    }
}

fn serve(agent: &mut Agent, name: &ModelName, running: Option<Running>) {
    agent.serving.retain(|(known, _)| known != name);
    agent.serving.extend(running.map(|running| (name.clone(), running)));
}
