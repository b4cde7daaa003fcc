//! The loop: something happens, the brain decides, its state is written, then it is done.
//!
//! Everything here runs in one task and never waits: what takes long (disk, self-test) runs in a
//! thread of its own and comes back as a [`Done`]; what goes out is handed to the link's queue.

mod collect;
mod failure;
mod inbound;
mod offload;
mod outward;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bellwether_agent_core::{Action, Brain, Input, Refused, State};
use bellwether_agent_disk::Outbox;
use bellwether_link::{Arrival, Link};
use bellwether_protocol::SigningKey;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Accelerator, FleetId, Record, RecordBody};
use tokio::sync::{mpsc, watch};

use crate::clock::{self, Clock};
use crate::conditions::Conditions;
use crate::host::{Crash, Hosts};
use crate::offload::Offloaded;
use crate::outbox::TreeRows;
use crate::run::Status;
use crate::score::Scoring;
use crate::slot::Slots;
use crate::store::Store;
use crate::trial::Trial;
pub(crate) use outward::Greeter;
use work::Job;
pub(crate) use work::{Done, open};

/// Longest sleep: scoring failures are looked at this often.
const TICK: Millis = Millis(1_000);
/// Finished jobs not looked at yet; there is one at a time, and some given up.
pub(crate) const DONE_MAX: usize = 16;

/// What threads of this agent tell the loop: jobs that are done, models' processes that ended, offload.
pub(crate) type Heard = (mpsc::Receiver<Done>, mpsc::Receiver<Crash>, mpsc::Receiver<Offloaded>);

/// Everything the loop holds.
pub(crate) struct Driver {
    /// Boxed, as it and its state are some 20 KiB and live in a future.
    pub(crate) brain: Box<Brain>,
    pub(crate) store: Store,
    pub(crate) outbox: Outbox<TreeRows>,
    pub(crate) scoring: Scoring,
    pub(crate) slots: Slots,
    pub(crate) trial: Trial,
    pub(crate) hosts: Hosts,
    pub(crate) conditions: Conditions,
    pub(crate) link: Link,
    pub(crate) key: SigningKey,
    pub(crate) fleet: FleetId,
    pub(crate) clock: Clock,
    /// Number of the newest connection of this boot, counted by the greeting.
    pub(crate) session: Arc<AtomicU32>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) window: Millis,
    pub(crate) profile_window: Millis,
    /// The span of this agent, around all it does: its journal is there.
    pub(crate) span: tracing::Span,
    pub(crate) rest: Rest,
}

/// What the loop keeps for itself.
#[derive(Default)]
pub(crate) struct Rest {
    /// What is on disk; installs wait while it is not what the brain has.
    saved: Box<State>,
    job: Option<Job>,
    jobs: u64,
    loaded: Option<work::Loaded>,
    trouble: Option<failure::Trouble>,
    window_at: Millis,
    profile_at: Millis,
    offloads: offload::Offloads,
}

impl Rest {
    /// Of a device with this accelerator.
    pub(crate) fn new(accelerator: Option<Accelerator>) -> Self {
        Self { offloads: offload::Offloads::new(accelerator), ..Self::default() }
    }
}

impl Driver {
    /// Runs until `stop` says true.
    pub(crate) async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        (mut done, mut crashes, mut offloaded): Heard,
        mut stop: watch::Receiver<bool>,
    ) {
        (self.rest.window_at, self.rest.profile_at) = (self.window, self.profile_window);
        self.save();
        loop {
            self.turn();
            let wake = tokio::time::Instant::from_std(self.clock.instant(self.wake_at()));
            tokio::select! {
                Some(arrival) = arrivals.recv() => self.arrived(arrival),
                Some(done) = done.recv() => self.finished(done),
                Some(crash) = crashes.recv() => self.crashed(crash),
                Some(said) = offloaded.recv() => self.offloaded(said),
                () = tokio::time::sleep_until(wake) => self.tick(),
                // A sender that is gone is a drop, which ends the task without a farewell.
                Ok(_) = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.close().await;
    }

    /// The brain takes an input; what it refuses changes nothing and is logged.
    pub(crate) fn handle(&mut self, input: Input<'_>) -> Result<(), Refused> {
        self.look_at_trial();
        let result = self.brain.handle(self.clock.now(), input);
        if let Err(why) = &result {
            tracing::info!(%why, "refused");
        }
        self.save();
        result
    }

    fn save(&mut self) {
        if *self.brain.state() == *self.rest.saved {
            return;
        }
        match self.store.put_state(self.brain.state()) {
            Ok(()) => *self.rest.saved = self.brain.state().clone(),
            Err(why) => tracing::error!(%why, "the state cannot be written: installs wait"),
        }
    }

    fn is_saved(&self) -> bool {
        *self.brain.state() == *self.rest.saved
    }

    /// Does everything that is due.
    fn turn(&mut self) {
        const ACTIONS_MAX: usize = 8;
        for _ in 0..ACTIONS_MAX {
            let is_done = match self.brain.poll_action(self.clock.now()) {
                Some(Action::Known) => self.tell_known() && self.handle(Input::Asked).is_ok(),
                Some(Action::Hello { session }) => self.greet(session) && self.handle(Input::Greeted).is_ok(),
                Some(Action::Report { flush }) => {
                    if flush {
                        self.close_window();
                    }
                    self.report() && self.handle(Input::Reported).is_ok()
                }
                Some(Action::Log) => {
                    self.note_journal();
                    self.handle(Input::Logged).is_ok()
                }
                Some(Action::Install { .. }) | None => false,
            };
            if !is_done {
                break;
            }
        }
        self.note_events();
        self.look_at_shadows();
        if self.is_saved() {
            self.work();
        }
        self.note_events();
        self.send_batch();
        self.tell_status();
    }

    fn tick(&mut self) {
        self.save();
        self.look_at_conditions();
        for (name, release, errors) in self.scoring.take_failed() {
            if self.brain.state().models.iter().any(|model| model.name == name && model.answers() == Some(release)) {
                // Never refused for a model that is there.
                let _ = self.handle(Input::ScoringErrors { name: &name, errors });
            }
        }
        let _ = self.handle(Input::Tick);
        if let Err(why) = self.outbox.tick(self.clock.now(), clock::wall()) {
            tracing::error!(%why, "the outbox cannot be written: what is too old stays");
        }
        let is_over = self.clock.now() >= self.rest.profile_at;
        self.collect(is_over);
        if self.clock.now() >= self.rest.window_at {
            self.close_window();
        }
    }

    /// Tells the brain what installs wait for now.
    pub(super) fn look_at_conditions(&mut self) {
        let known_day = self.brain.state().trust.counters().tick().map_or(0, |tick| tick.epoch);
        let holds = self.conditions.holds(self.clock.now(), clock::wall(), known_day);
        if holds != self.brain.config().holds {
            tracing::info!(?holds, "what installs wait for changed");
            // Never refused.
            let _ = self.handle(Input::Holds(holds));
        }
    }

    /// Puts what was scored since the last time into the outbox.
    fn close_window(&mut self) {
        self.rest.window_at = self.clock.now().saturating_add(self.window);
        self.note_offloads();
        let scores = self.scoring.take_windows();
        let agreements = self.scoring.take_agreements();
        if scores.is_empty() && agreements.is_empty() {
            return;
        }
        for scores in scores {
            self.note(RecordBody::Scores(scores));
        }
        for agreement in agreements {
            self.note(RecordBody::Agreement(agreement));
        }
        if let Err(why) = self.store.flush() {
            tracing::error!(%why, "the outbox cannot be brought to disk");
        }
    }

    fn note_events(&mut self) {
        while let Some(event) = self.brain.poll_event() {
            let (model, version) = (&event.name, event.version);
            tracing::info!(%model, %version, phase = ?event.phase, reject = ?event.reject, "install");
            self.note(RecordBody::Event(event.clone()));
            self.note_failure(&event);
        }
    }

    fn note(&mut self, body: RecordBody<'_>) {
        if let Err(why) = self.outbox.push(&Record { at: clock::wall(), body }) {
            tracing::error!(%why, "the outbox cannot be written: a record is lost");
        }
    }

    fn wake_at(&self) -> Millis {
        let now = self.clock.now();
        let brain = self.brain.deadline().map(|(at, _)| at);
        // Without a connection nothing can be asked for or sent again.
        let (download, batch) = match self.link.is_up() {
            true => (self.rest.job.as_ref().and_then(Job::deadline), self.outbox.deadline()),
            false => (None, None),
        };
        let windows = [Some(self.rest.window_at), Some(self.rest.profile_at)];
        let all = [brain, download, batch, Some(now.saturating_add(TICK))].into_iter().chain(windows);
        // A deadline that passed while its action could not be done must not make the loop spin.
        const PAUSE: Millis = Millis(5);
        all.flatten().min().unwrap_or(now).max(now.saturating_add(PAUSE))
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Up => {
                let session = self.session.load(Ordering::Acquire);
                self.outbox.reconnected();
                if let Some(job) = &mut self.rest.job {
                    job.reconnected();
                }
                tracing::info!(session, "connected");
                let _ = self.handle(Input::Connected { session });
            }
            Arrival::Down { why } => {
                tracing::warn!(why, "not connected; trying again");
                let _ = self.handle(Input::Disconnected);
            }
            Arrival::Message { topic, payload } => self.message(&topic, &payload),
        }
    }

    fn tell_status(&self) {
        let report = self.brain.report();
        let next = Status {
            device: report.device,
            connected: self.link.is_up(),
            stale: self.brain.is_stale(self.clock.now()),
            seen: report.seen,
            refused: report.refused,
            models: report.models.to_vec(),
            waiting: self.outbox.waiting(),
        };
        self.status.send_if_modified(|status| {
            let is_new = *status != next;
            *status = next;
            is_new
        });
    }

    /// Says farewell and brings everything to disk.
    async fn close(mut self) {
        // Never refused.
        let _ = self.handle(Input::Stopping);
        self.collect(true);
        self.close_window();
        self.send_batch();
        self.leave();
        self.link.stop();
        self.tell_status();
        if let Err(why) = self.store.flush() {
            tracing::error!(%why, "the store cannot be brought to disk");
        }
        // The link empties its queue and then lets go of the client.
        let link = self.link.clone();
        let gone = async {
            while link.is_up() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), gone).await;
    }
}
