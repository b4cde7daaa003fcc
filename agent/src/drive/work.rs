//! Installs: one job at a time, in a thread where it takes long, its answer fed back to the brain.
//!
//! ```text
//!  Fetch     thread: look at the slot ─> parts from the link ─> thread: hash the whole
//!  Stage     thread: sync                 SelfTest  thread: load, golden vectors
//!  Activate  thread: point ─> swap        Return    thread: load the previous, point ─> swap
//! ```

use bellwether_agent_core::update::{Held, Step, Work};
use bellwether_agent_core::{Action, Input};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelName, TransferId};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::Part;
use bellwether_runtime::Scorer;

use super::Driver;
use crate::fetch::Download;
use crate::slot::{ModelDir, Slots, reject};

/// A model loaded by its self-test, ready to answer.
pub(crate) struct Loaded {
    release: Digest,
    scorer: Box<dyn Scorer>,
}

/// What is being done for the brain.
pub(crate) struct Job {
    id: u64,
    name: ModelName,
    work: Work,
    held: Held,
    download: Option<Download>,
}

/// A thread's answer.
pub(crate) struct Done {
    id: u64,
    outcome: Outcome,
}

enum Outcome {
    Step(Step),
    /// The slot was looked at, and lacks something.
    Lacks(Box<Download>),
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
            self.rest.loaded = None;
        }
        self.rest.jobs += 1;
        let id = self.rest.jobs;
        self.rest.job = Some(Job { id, name: name.clone(), work, held, download: None });
        let loaded = self.rest.loaded.take().filter(|loaded| loaded.release == held.target.running.release);
        let slots = self.slots.clone();
        self.spawn(id, move || perform(&slots, &name, work, held, loaded));
    }

    fn spawn(&self, id: u64, job: impl FnOnce() -> Outcome + Send + 'static) {
        let done = self.done.clone();
        let thread = std::thread::Builder::new().name("install".into());
        let spawned = thread.spawn(move || {
            // Nobody listens any more when the agent is stopping.
            let _ = done.blocking_send(Done { id, outcome: job() });
        });
        if let Err(why) = spawned {
            tracing::error!(%why, "no thread for an install");
            let _ = self.done.try_send(Done { id, outcome: Outcome::Step(Step::Failed(Reject::StorageFault)) });
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
        if let Err(reject) = download.take(part, bytes) {
            self.rest.job = None;
            let _ = self.handle(Input::Install { name: &name, release, step: Step::Failed(reject) });
            return;
        }
        // In tenths, so that reports are few.
        let present = download.progress() / 100 * 100;
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
        self.spawn(id, move || Outcome::Step(whole(&slots, &name, held)));
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
            Outcome::Loaded(step, loaded) => {
                if is_wanted {
                    self.take(&job, step, loaded);
                }
                step
            }
        };
        let release = job.held.target.running.release;
        let _ = self.handle(Input::Install { name: &job.name, release, step });
        if let (Step::Failed(_), Work::Return(_)) = (step, job.work) {
            // What answered all along may still do so, whatever came of the way back.
            let mut models = self.brain.state().models.iter();
            if !models.any(|model| model.name == job.name && model.active.is_some()) {
                self.scoring.remove(&job.name);
            }
        }
    }

    /// Keeps a loaded model for its activation, or lets it answer.
    fn take(&mut self, job: &Job, step: Step, loaded: Option<Loaded>) {
        match (step, loaded, job.work) {
            (Step::Passed, loaded, _) => self.rest.loaded = loaded,
            (Step::Activated, Some(loaded), _) => {
                self.scoring.swap(&job.name, job.held.target.running, loaded.scorer);
            }
            (Step::Returned, Some(loaded), Work::Return(Some(held))) => {
                self.scoring.swap(&job.name, held.target.running, loaded.scorer);
            }
            (Step::Returned, None, Work::Return(None)) => self.scoring.remove(&job.name),
            _ => {}
        }
    }
}

/// Does one step of an install; in a thread.
fn perform(slots: &Slots, name: &ModelName, work: Work, held: Held, loaded: Option<Loaded>) -> Outcome {
    let failed = |reject| Outcome::Step(Step::Failed(reject));
    let dir = match slots.of(name) {
        Ok(dir) => dir,
        Err(why) => return failed(reject(&why)),
    };
    let on_disk = |result: std::io::Result<()>, good: Outcome| match result {
        Ok(()) => good,
        Err(why) => {
            tracing::error!(%name, %why, "the slot failed");
            failed(reject(&why))
        }
    };
    match work {
        Work::Fetch => match dir.is_whole(held.slot, &held.target.package) {
            Ok(true) => Outcome::Step(Step::Fetched),
            Ok(false) => Download::open(dir, held).map_or_else(failed, |download| Outcome::Lacks(Box::new(download))),
            Err(why) => failed(reject(&why)),
        },
        Work::Stage => on_disk(dir.sync(held.slot), Outcome::Step(Step::Staged)),
        Work::SelfTest => match load(&dir, name, &held) {
            Ok(scorer) => Outcome::Loaded(Step::Passed, Some(Loaded { release: held.target.running.release, scorer })),
            Err(why) => failed(why),
        },
        Work::Activate => match loaded.map_or_else(|| load_again(&dir, name, &held), Ok) {
            Ok(loaded) => on_disk(dir.point(Some(held.slot)), Outcome::Loaded(Step::Activated, Some(loaded))),
            Err(why) => failed(why),
        },
        Work::Return(back) => match back.map(|back| load_again(&dir, name, &back)).transpose() {
            Ok(loaded) => {
                // Which slot answers is the brain's state: a model that can answer is not lost for this.
                if let Err(why) = dir.point(back.map(|back| back.slot)) {
                    tracing::error!(%name, %why, "the pointer is not back: it names the wrong slot");
                }
                Outcome::Loaded(Step::Returned, loaded)
            }
            Err(why) => failed(why),
        },
    }
}

fn load_again(dir: &ModelDir, name: &ModelName, held: &Held) -> Result<Loaded, Reject> {
    load(dir, name, held).map(|scorer| Loaded { release: held.target.running.release, scorer })
}

/// Hashes the whole slot.
fn whole(slots: &Slots, name: &ModelName, held: Held) -> Step {
    match slots.of(name).and_then(|dir| dir.is_whole(held.slot, &held.target.package)) {
        Ok(true) => Step::Fetched,
        Ok(false) => Step::Failed(Reject::DigestMismatch),
        Err(why) => Step::Failed(reject(&why)),
    }
}

/// Reads the approved bytes, checks that they are this model's, loads it and reproduces its golden
/// vectors. What is loaded comes from the very bytes that were hashed.
pub(crate) fn load(dir: &ModelDir, name: &ModelName, held: &Held) -> Result<Box<dyn Scorer>, Reject> {
    let bytes = dir.read(held.slot, &held.target.package)?;
    let (examined, scorer) = bellwether_runtime::open(&bytes).map_err(|why| {
        tracing::warn!(%name, version = %held.target.running.version, %why, "the self-test failed");
        why.reject()
    })?;
    if examined.manifest.name != *name {
        return Err(Reject::ManifestMismatch);
    }
    if bellwether_runtime::prepare::tensors_digest(&examined.manifest.tensors)? != held.target.tensors {
        return Err(Reject::TensorMismatch);
    }
    Ok(scorer)
}
