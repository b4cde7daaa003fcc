//! Installs: one job at a time, in a thread where it takes long, its answer fed back to the brain.
//!
//! ```text
//!  Fetch     thread: look at the slot ─> parts from the link ─> thread: hash the whole
//!  Stage     thread: sync                 SelfTest  thread: trial in a child, then its host
//!  Activate  thread: point ─> swap        Return    thread: host the previous, point ─> swap
//! ```

use std::sync::{Arc, Weak};

use bellwether_agent_core::update::{Held, Install, Model, Step, Work};
use bellwether_agent_core::{Action, Input};
use bellwether_agent_disk::Download;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelName, TransferId};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::Part;
use bellwether_protocol::trust::Running;
use bellwether_runtime::crash;

use super::Driver;
use crate::error::Failed;
use crate::host::{Fault, Hosts, Place, Pulse};
use crate::score::Fitted;
use crate::slot::{ModelDir, SlotFile, Slots};
use crate::trial::Trial;

/// A model hosted by its self-test, ready to answer.
pub(crate) struct Loaded {
    release: Digest,
    fitted: Fitted,
}

impl Loaded {
    /// Whether its process is still there.
    fn is_up(&self) -> bool {
        self.fitted.pulse.as_ref().is_none_or(Pulse::is_up)
    }
}

/// What is being done for the brain.
pub(crate) struct Job {
    id: u64,
    name: ModelName,
    work: Work,
    held: Held,
    download: Option<Download<SlotFile>>,
    /// Gone with the job: a trial for it is given up then.
    wanted: Arc<()>,
}

/// A step of an install, for a thread.
struct Task {
    slots: Slots,
    trial: Trial,
    hosts: Hosts,
    name: ModelName,
    held: Held,
    loaded: Option<Loaded>,
    wanted: Weak<()>,
}

/// A thread's answer.
pub(crate) struct Done {
    id: u64,
    outcome: Outcome,
}

enum Outcome {
    Step(Step),
    /// The slot was looked at, and lacks something.
    Lacks(Box<Download<SlotFile>>),
    /// It went wrong.
    Failed(Failed),
    /// The self-test passed, or the pointer was moved; with the model, if one was loaded.
    Loaded(Step, Option<Loaded>),
}

impl Job {
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.download.as_ref().and_then(Download::deadline)
    }

    pub(super) fn reconnected(&mut self) {
        if let Some(download) = &mut self.download {
            download.reconnected();
        }
    }

    fn is(&self, action: &Action) -> bool {
        matches!(action, Action::Install { name, work, held } if *name == self.name && *work == self.work && *held == self.held)
    }

    /// Whether it may be left to itself: it changes nothing, or nothing is under way.
    fn may_be_left(&self) -> bool {
        self.work == Work::SelfTest || self.download.is_some()
    }
}

impl Driver {
    /// Brings what is being done in line with what the brain wants done.
    pub(super) fn work(&mut self) {
        let wanted = self.brain.install_action();
        if let Some(job) = &self.rest.job {
            match &wanted {
                Some(action) if job.is(action) => return self.pump(),
                _ if job.may_be_left() => self.rest.job = None,
                _ => return,
            }
        }
        let Some(Action::Install { name, work, held }) = wanted else { return };
        if matches!(work, Work::Fetch) {
            (self.rest.loaded, self.rest.trouble) = (None, None);
        }
        self.rest.jobs += 1;
        let id = self.rest.jobs;
        let job = Job { id, name, work, held, download: None, wanted: Arc::new(()) };
        let task = Task {
            slots: self.slots.clone(),
            trial: self.trial.clone(),
            hosts: self.hosts.clone(),
            name: job.name.clone(),
            held,
            loaded: self.rest.loaded.take().filter(|loaded| loaded.release == held.target.running.release),
            wanted: Arc::downgrade(&job.wanted),
        };
        self.rest.job = Some(job);
        self.spawn(id, move || task.perform(work).unwrap_or_else(Outcome::Failed));
    }

    fn spawn(&self, id: u64, job: impl FnOnce() -> Outcome + Send + 'static) {
        let done = self.done.clone();
        let span = self.span.clone();
        let thread = std::thread::Builder::new().name("install".into());
        let spawned = thread.spawn(move || {
            let _agent = span.entered();
            // Nobody listens any more when the agent is stopping.
            let _ = done.blocking_send(Done { id, outcome: job() });
        });
        if let Err(why) = spawned {
            let failed =
                Failed { reject: Reject::StorageFault, cause: format!("no thread for an install: {why}"), ended: None };
            let _ = self.done.try_send(Done { id, outcome: Outcome::Failed(failed) });
        }
    }

    /// Asks for what a download lacks.
    fn pump(&mut self) {
        let now = self.clock.now();
        let Some(download) = self.rest.job.as_mut().and_then(|job| job.download.as_mut()) else {
            return;
        };
        if !self.link.is_up() {
            return;
        }
        let transfer = download.transfer();
        if let Some(need) = download.need(now)
            && !self.ask(transfer, need)
        {
            tracing::debug!("a request for chunks was not taken: it is asked again at its deadline");
        }
    }

    /// A part of a transfer came.
    pub(super) fn part(&mut self, transfer: TransferId, part: Part, bytes: &[u8]) {
        let Some(job) = self.rest.job.as_mut() else { return };
        let Some(download) = job.download.as_mut().filter(|download| download.transfer() == transfer) else {
            return;
        };
        let (name, release) = (job.name.clone(), job.held.target.running.release);
        let before = download.progress();
        if let Err(reject) = download.take(part, bytes) {
            self.rest.job = None;
            let _ = self.handle(Input::Install { name: &name, release, step: Step::Failed(reject) });
            return;
        }
        let after = download.progress();
        if before < 500 && after >= 500 {
            crash::point("agent.fetch.midway");
        }
        // In tenths, so that reports are few.
        let present = after / 100 * 100;
        self.hash_if_complete();
        // Refused when the brain has moved on, which the next turn sees.
        let _ = self.handle(Input::Progress { name: &name, present });
    }

    /// Every chunk is there: the whole is hashed.
    fn hash_if_complete(&mut self) {
        let Some(job) = self.rest.job.as_mut() else { return };
        let Some(download) = job.download.take_if(|download| download.is_complete()) else {
            return;
        };
        let (id, held, name, slots) = (job.id, *download.held(), job.name.clone(), self.slots.clone());
        self.spawn(id, move || whole(&slots, &name, held).map_or_else(Outcome::Failed, Outcome::Step));
    }

    /// A thread answered.
    pub(super) fn finished(&mut self, done: Done) {
        let Some(job) = self.rest.job.take_if(|job| job.id == done.id) else { return };
        let is_wanted = self.brain.install_action().is_some_and(|action| job.is(&action));
        let step = match done.outcome {
            Outcome::Lacks(download) => {
                self.rest.job = Some(Job { download: Some(*download), ..job });
                self.hash_if_complete();
                return;
            }
            Outcome::Step(step) => step,
            Outcome::Failed(failed) => {
                let step = Step::Failed(failed.reject);
                if is_wanted {
                    self.keep_trouble(&job.name, job.held.target.running.version, failed);
                }
                step
            }
            Outcome::Loaded(step, loaded) => {
                if is_wanted {
                    self.take(&job, step, loaded);
                }
                step
            }
        };
        match step {
            Step::Fetched => crash::point("agent.hashed"),
            Step::Activated => crash::point("agent.activate.pointed"),
            Step::Staged | Step::Passed | Step::Returned | Step::Failed(_) => {}
        }
        let release = job.held.target.running.release;
        let taken = self.handle(Input::Install { name: &job.name, release, step });
        if step == Step::Activated && taken.is_ok() && self.is_saved() {
            crash::point("agent.probation");
        }
        if let (Step::Failed(_), Work::Return(_)) = (step, job.work) {
            // What answered all along may still do so, whatever came of the way back.
            let mut models = self.brain.state().models.iter();
            if !models.any(|model| model.name == job.name && model.active.is_some()) {
                self.scoring.remove(&job.name);
            }
        }
    }

    /// Lets those score in the shadow that the brain has there, and no others. What is to begin comes
    /// from the self-test that it has just passed.
    pub(super) fn look_at_shadows(&mut self) {
        let wanted: Vec<(ModelName, Running)> = self.brain.state().models.iter().filter_map(shadow_of).collect();
        // Also of models that the brain has forgotten.
        for (name, running) in self.scoring.shadows() {
            if !wanted.contains(&(name.clone(), running)) {
                self.scoring.unshadow(&name);
            }
        }
        for (name, running) in wanted {
            if self.scoring.shadowed(&name) == Some(running) {
                continue;
            }
            let loaded = self.rest.loaded.take_if(|loaded| loaded.release == running.release);
            let begun = match loaded {
                Some(loaded) => self.scoring.shadow(&name, running, loaded.fitted).map_err(|why| why.to_string()),
                None => Err("what was loaded for it is gone".to_owned()),
            };
            if let Err(why) = begun {
                tracing::error!(model = %name, why, "it cannot score in the shadow");
                let step = Step::Failed(Reject::StorageFault);
                let _ = self.handle(Input::Install { name: &name, release: running.release, step });
            }
        }
    }

    /// Keeps a loaded model for its activation, or lets it answer.
    fn take(&mut self, job: &Job, step: Step, loaded: Option<Loaded>) {
        match (step, loaded, job.work) {
            (Step::Passed, loaded, _) => self.rest.loaded = loaded,
            (Step::Activated, Some(loaded), _) => {
                self.scoring.swap(&job.name, job.held.target.running, loaded.fitted);
            }
            (Step::Returned, Some(loaded), Work::Return(Some(held))) => {
                self.scoring.swap(&job.name, held.target.running, loaded.fitted);
            }
            (Step::Returned, None, Work::Return(None)) => self.scoring.remove(&job.name),
            _ => {}
        }
    }
}

impl Task {
    /// Does one step of an install; in a thread.
    fn perform(mut self, work: Work) -> Result<Outcome, Failed> {
        let held = self.held;
        let dir = self.slots.of(&self.name)?;
        Ok(match work {
            Work::Fetch if dir.is_whole(held.slot, &held.target.package)? => Outcome::Step(Step::Fetched),
            Work::Fetch => Outcome::Lacks(Box::new(Download::open(SlotFile::new(dir, held.slot), held)?)),
            Work::Stage => {
                dir.sync(held.slot)?;
                Outcome::Step(Step::Staged)
            }
            Work::SelfTest => {
                self.trial.run(&dir.package(held.slot), &held.target.package, &self.wanted)?;
                Outcome::Loaded(Step::Passed, Some(self.host(&dir, &held)?))
            }
            Work::Activate => {
                let loaded = match self.loaded.take().filter(Loaded::is_up) {
                    Some(loaded) => loaded,
                    None => self.host(&dir, &held)?,
                };
                dir.point(Some(held.slot))?;
                Outcome::Loaded(Step::Activated, Some(loaded))
            }
            Work::Return(back) => {
                let loaded = back.map(|back| self.host(&dir, &back)).transpose()?;
                // Which slot answers is the brain's state: a model that can answer is not lost for this.
                if let Err(why) = dir.point(back.map(|back| back.slot)) {
                    tracing::error!(name = %self.name, %why, "the pointer is not back: it names the wrong slot");
                }
                Outcome::Loaded(Step::Returned, loaded)
            }
        })
    }

    fn host(&self, dir: &ModelDir, held: &Held) -> Result<Loaded, Failed> {
        let (fitted, loaded) = open(&self.hosts, dir, &self.name, held)?;
        loaded.map_err(Fault::into_failed)?;
        Ok(Loaded { release: held.target.running.release, fitted })
    }
}

/// What the brain has in the shadow of a model.
fn shadow_of(model: &Model) -> Option<(ModelName, Running)> {
    let Install::Shadow(target) = model.install else { return None };
    Some((model.name.clone(), target.running))
}

/// Hashes the whole slot.
fn whole(slots: &Slots, name: &ModelName, held: Held) -> Result<Step, Failed> {
    let is_whole = slots.of(name)?.is_whole(held.slot, &held.target.package)?;
    if is_whole { Ok(Step::Fetched) } else { Err(Reject::DigestMismatch.into()) }
}

/// Reads the approved bytes, checks that they are this model's, and has a process of their own load
/// them and reproduce their golden vectors. What is loaded comes from the very bytes that were hashed.
/// With it, why it is not ready yet if it is not.
pub(crate) fn open(
    hosts: &Hosts,
    dir: &ModelDir,
    name: &ModelName,
    held: &Held,
) -> Result<(Fitted, Result<(), Fault>), Failed> {
    let bytes = dir.read(held.slot, &held.target.package)?;
    let described = bellwether_runtime::describe(&bytes)?;
    if described.manifest.name != *name {
        return Err(Reject::ManifestMismatch.into());
    }
    let signature = described.manifest.tensors;
    if bellwether_runtime::prepare::tensors_digest(&signature)? != held.target.tensors {
        return Err(Reject::TensorMismatch.into());
    }
    let place = Place { dir: dir.clone(), name: name.clone(), held: *held };
    let (host, loaded) = hosts.start(place, signature, bytes);
    Ok((Fitted::hosted(host, described.policy, described.baseline, held.target.package.size), loaded))
}
