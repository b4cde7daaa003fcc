//! The device's brain: what to install, when to report, what to believe. Rules only.
//!
//! ```text
//!            Input                                 Action
//!  shell ────────────> Brain { State, Session } ────────────> shell
//!    ^                    │                                     │
//!    └── persists State <─┘                 does it, answers <──┘
//! ```
//!
//! The shell (Linux agent, firmware, simulator) always does the same: [`Brain::handle`], write
//! [`Brain::state`] to disk if it changed, then [`Brain::poll_action`] and do it. Actions derive
//! from the state, so a power cut between writing and doing repeats an action and loses none.
//!
//! Map of modules: [`update`] is the install machine of one model; `crashes` counts those of what
//! answers; [`hold`] says what installs wait for; `desired` verifies what the hub
//! wants against what people signed; [`trust`] takes what changes what counts; `session` says when to report; [`outbox`] has the rules of what
//! goes up; [`sampler`] which rows are collected. Deliberately absent: clocks, sockets, disks, allocation, the digest of a package.
#![no_std]

mod crashes;
mod desired;
pub mod hold;
pub mod outbox;
mod probation;
mod report;
pub mod sampler;
mod session;
pub mod trust;
pub mod update;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::{Deque, Vec};
use bellwether_protocol::id::{DeviceId, HardwareClass, ModelName};
use bellwether_protocol::limit::MODELS_MAX;
use bellwether_protocol::message::Desired;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Command, Event, KeyId, Mode, Order, Request, Signed, TrustedRoot};
use serde::{Deserialize, Serialize};

pub use crashes::{CRASHES_MAX, CRASHES_QUIET, Crashes};
pub use hold::{Holds, Wish};
pub use probation::LATENCY_CALLS_MIN;
pub use session::REPORTS_RESERVED;
use session::Session;
pub use trust::{Told, Trust};
use update::{Held, Install, Model, Step, Work};

/// How long after a question for the time the next one is asked on the same connection.
pub const ASK_AGAIN: Millis = Millis(6 * 3_600_000);
/// How long a time that was told says what may begin; and how long without one makes a device stale.
pub const FRESH_FOR: Millis = Millis(24 * 3_600_000);
/// Events kept until the shell takes them; an install makes eight.
const EVENTS_MAX: usize = 32;

/// What the shell knows about its device and decides for it; not persisted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The device.
    pub device: DeviceId,
    /// Id of its key: what grants name and buckets are drawn from.
    pub key: KeyId,
    /// Random at each start.
    pub boot: u64,
    /// The agent's version: major, minor, patch.
    pub agent: [u16; 3],
    /// Newest ONNX operator set the runtime knows.
    pub operators: u16,
    /// The hardware.
    pub hardware: HardwareClass,
    /// Memory a model may take, in KiB.
    pub memory_kib: u32,
    /// How long a new model must answer before it stays.
    pub probation: Millis,
    /// Calls that may fail in that time.
    pub errors_max: u32,
    /// How long a self-test may take.
    pub self_test: Millis,
    /// Longest silence between two reports.
    pub heartbeat: Millis,
    /// What installs wait for at the start; [`Input::Holds`] says when that changes.
    pub holds: Holds,
}

/// Everything that survives a restart. The shell writes it before it acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The latest assignment taken.
    pub seen: Order,
    /// Digest of that assignment's body: the same order with other content is refused.
    pub assignment: Digest,
    /// Its audit head.
    pub audit: Digest,
    /// The latest command carried out.
    pub commanded: Order,
    /// Report numbers below this may have been used.
    pub reports: u64,
    /// The models.
    pub models: Vec<Model, MODELS_MAX>,
    /// What it learnt of roots, recalls, checkpoints and time.
    pub trust: Trust,
    /// How often what answers crashed, as far as that is not forgotten.
    pub crashes: Vec<Crashes, MODELS_MAX>,
    /// How models are to run that do not simply answer.
    pub wishes: Vec<Wish, MODELS_MAX>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Connection number `session` of this boot stands.
    Connected {
        /// Counted from 1.
        session: u32,
    },
    /// The connection is gone.
    Disconnected,
    /// A desired state came.
    Desired(&'a Desired<'a>),
    /// A signed [`Command`] came.
    Command(&'a Signed<'a>),
    /// A statement came that changes what counts.
    Told(Told<'a>),
    /// What is known was handed to the link.
    Asked,
    /// The hello was handed to the link.
    Greeted,
    /// The report was handed to the link.
    Reported,
    /// The log is in the outbox.
    Logged,
    /// The answer to [`Action::Install`], or the news that a model cannot answer any more.
    Install {
        /// The model.
        name: &'a ModelName,
        /// Digest of the release it is about.
        release: Digest,
        /// What happened.
        step: Step,
    },
    /// The process of a model that answers ended, by itself or for what it did.
    Crashed {
        /// The model.
        name: &'a ModelName,
        /// Digest of the release it is about.
        release: Digest,
    },
    /// Calls that failed since the last such input.
    ScoringErrors {
        /// The model.
        name: &'a ModelName,
        /// How many.
        errors: u32,
    },
    /// How fast a model answered so far, that has a latency budget.
    Latency {
        /// The model.
        name: &'a ModelName,
        /// Digest of the release it is about.
        release: Digest,
        /// Calls so far.
        calls: u32,
        /// 95th percentile of their time, in microseconds.
        p95_us: u32,
        /// The budget.
        p95_us_max: u32,
    },
    /// Per mille of the chunks that are on the device.
    Progress {
        /// The model.
        name: &'a ModelName,
        /// 0 to 1000.
        present: u16,
    },
    /// A deadline passed, or nothing in particular.
    Tick,
    /// What installs wait for now.
    Holds(Holds),
    /// The agent is about to stop in good order.
    Stopping,
}

/// What the shell must do; repeated until answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "no allocation here; one action at a time")]
pub enum Action {
    /// Send [`Brain::known`]; answer [`Input::Asked`].
    Known,
    /// Send a hello for this connection; answer [`Input::Greeted`].
    Hello {
        /// As in [`Input::Connected`].
        session: u32,
    },
    /// Send [`Brain::report`], after the scores so far if `flush`; answer [`Input::Reported`].
    Report {
        /// Put the scores so far into the outbox and send it.
        flush: bool,
    },
    /// Put the end of the log into the outbox; answer [`Input::Logged`].
    Log,
    /// Do one step of an install; answer [`Input::Install`]. What runs for another action of this
    /// kind is to be given up.
    Install {
        /// The model.
        name: ModelName,
        /// What to do.
        work: Work,
        /// The release and its slot.
        held: Held,
    },
}

/// Why [`Brain::deadline`] wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What is known is to be told.
    Known,
    /// A report is due.
    Report,
    /// A self-test takes too long.
    SelfTest,
    /// A probation ends.
    Probation,
}

/// Why an input was refused; the persisted state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The verifier or an order rule refused it; the next report says so.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// It does not belong to the state: a late answer to something given up.
    #[error("it does not belong to the state")]
    OutOfTurn,
}

/// The brain of one device.
#[derive(Clone, Debug)]
pub struct Brain {
    config: Config,
    root: TrustedRoot,
    state: State,
    session: Session,
    /// When the self-test or probation in progress began in this boot, and failed calls since.
    since: Option<Millis>,
    errors: u32,
    /// When a model crashed last in this boot, or when the boot was first heard of.
    crashed_at: Option<Millis>,
    refused: Option<Reject>,
    /// Whether the time was told in answer to this connection's nonce, not long ago.
    fresh: bool,
    /// When it was told last, or when this boot was first heard of; and when it was asked for, how often.
    told_at: Option<Millis>,
    asked_at: Millis,
    questions: u32,
    progress: u16,
    events: Deque<Event, EVENTS_MAX>,
}

impl Brain {
    /// Resumes from what was persisted; [`State::default`] at the first start. `first` is version 1 of
    /// the fleet's root, which later ones follow. Afterwards persist
    /// [`Brain::state`]: numbers are reserved and starts are counted.
    #[must_use]
    pub fn restore(config: Config, first: TrustedRoot, mut state: State) -> Self {
        let root = state.trust.latest(first);
        let sequence = state.reports.max(1);
        state.reports = sequence.saturating_add(REPORTS_RESERVED);
        for model in &mut state.models {
            model.restarted();
        }
        let kept: Vec<bool, MODELS_MAX> =
            state.models.iter().map(|model| state.kept(model, config.holds).is_some()).collect();
        state.models.iter_mut().zip(kept).filter(|(_, kept)| *kept).for_each(|(model, _)| model.put_off());
        let session = Session::new(sequence);
        let mut brain = Self {
            config,
            root,
            state,
            session,
            since: None,
            errors: 0,
            crashed_at: None,
            refused: None,
            fresh: false,
            told_at: None,
            asked_at: Millis(0),
            questions: 0,
            progress: 0,
            events: Deque::new(),
        };
        brain.schedule();
        brain
    }

    /// What to persist.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The root that this brain believes.
    #[must_use]
    pub const fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// What the shell told about the device.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Applies one input at `now`.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the persisted state is then unchanged.
    pub fn handle(&mut self, now: Millis, input: Input<'_>) -> Result<(), Refused> {
        let result = self.apply(now, input);
        self.expire(now);
        result
    }

    fn apply(&mut self, now: Millis, input: Input<'_>) -> Result<(), Refused> {
        match input {
            Input::Connected { session } => {
                self.fresh = false;
                self.asked_at = now;
                self.session.connected(now, session);
            }
            Input::Disconnected => {
                self.fresh = false;
                self.session.disconnected();
            }
            Input::Asked => self.session.asked(),
            Input::Told(told) => self.told(now, told)?,
            Input::Greeted => self.session.hello = false,
            Input::Reported => self.reported(now),
            Input::Logged => self.session.log = false,
            Input::Latency { name, release, calls, p95_us, p95_us_max } => {
                self.latency(now, (name, release), calls, (p95_us, p95_us_max));
            }
            Input::Tick => {}
            Input::Holds(holds) => self.held(now, holds),
            Input::Stopping => self.state.models.iter_mut().for_each(Model::stopping),
            Input::Desired(desired) => self.desired(now, desired)?,
            Input::Command(signed) => self.command(now, signed)?,
            Input::Install { name, release, step } => self.install(now, name, release, step)?,
            Input::Crashed { name, release } => self.crashed(now, name, release)?,
            Input::ScoringErrors { name, errors } => self.scoring_errors(now, name, errors)?,
            Input::Progress { name, present } => self.progressed(now, name, present)?,
        }
        Ok(())
    }

    /// The one thing to do at `now`, if any.
    #[must_use]
    pub fn poll_action(&self, now: Millis) -> Option<Action> {
        if self.session.is_asking(now) {
            return Some(Action::Known);
        }
        if let (Some(session), true) = (self.session.number, self.session.hello) {
            return Some(Action::Hello { session });
        }
        if self.session.log {
            return Some(Action::Log);
        }
        if self.session.is_due(now) {
            return Some(Action::Report { flush: self.session.flush });
        }
        self.install_action()
    }

    /// The step of an install that is to be done, whatever else is due.
    #[must_use]
    pub fn install_action(&self) -> Option<Action> {
        let model = self.in_flight()?;
        let (work, held) = model.work()?;
        Some(Action::Install { name: model.name.clone(), work, held })
    }

    /// The oldest event not taken yet, for the outbox.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Brain::handle`] with [`Input::Tick`] at the latest, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Millis, Why)> {
        let install = self.in_flight().and_then(|model| {
            let since = self.since?;
            match model.install {
                Install::SelfTest { .. } => Some((since.saturating_add(self.config.self_test), Why::SelfTest)),
                Install::Probation { .. } => Some((since.saturating_add(self.config.probation), Why::Probation)),
                Install::Idle
                | Install::Deferred(_)
                | Install::Fetching(_)
                | Install::Hashed(_)
                | Install::Activating(_)
                | Install::RollingBack { .. }
                | Install::Settled { .. }
                | Install::Shadow(_) => None,
            }
        });
        let asks = self.session.number.map(|_| (self.asked_at.saturating_add(ASK_AGAIN), Why::Known));
        [self.session.deadline(), asks, install].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn in_flight(&self) -> Option<&Model> {
        self.state.models.iter().find(|model| model.install.is_in_flight())
    }

    fn reported(&mut self, now: Millis) {
        self.session.reported(now, self.config.heartbeat);
        if !self.fresh && self.was_refused() {
            // The question for the time, or its answer, may be lost.
            self.session.ask(now);
        }
        if self.session.sequence >= self.state.reports {
            self.state.reports = self.session.sequence.saturating_add(REPORTS_RESERVED);
        }
    }

    fn refuse(&mut self, now: Millis, reject: Reject) -> Result<(), Refused> {
        self.refused = Some(reject);
        self.session.changed(now);
        Err(Refused::Rejected(reject))
    }

    fn command(&mut self, now: Millis, signed: &Signed<'_>) -> Result<(), Refused> {
        let command: Command = desired::of_director(&self.root, &self.config, signed)?;
        if command.order <= self.state.commanded {
            return Err(Reject::StaleSequence.into());
        }
        self.state.commanded = command.order;
        match command.request {
            Request::Report => {
                self.session.flush = true;
                self.session.changed(now);
            }
            Request::Log => self.session.log = true,
        }
        Ok(())
    }

    fn install(&mut self, now: Millis, name: &ModelName, release: Digest, step: Step) -> Result<(), Refused> {
        let step = self.checked(name, release, step);
        let mode = self.state.mode(name);
        let model = self.state.models.iter_mut().find(|model| model.name == *name).ok_or(Refused::OutOfTurn)?;
        let before = model.install;
        let is_tried = before.is_in_flight() || matches!(before, Install::Shadow(_));
        let is_target = is_tried && before.target().is_some_and(|target| target.running.release == release);
        if is_target {
            model.step(step, mode).ok_or(Refused::OutOfTurn)?;
        } else if let (Step::Failed(reject), true) = (step, model.answers() == Some(release)) {
            model.lose_active(reject);
        } else {
            return Err(Refused::OutOfTurn);
        }
        self.moved(now, name, before);
        Ok(())
    }

    fn progressed(&mut self, now: Millis, name: &ModelName, present: u16) -> Result<(), Refused> {
        let model = self.in_flight().filter(|model| model.name == *name).ok_or(Refused::OutOfTurn)?;
        let is_fetching = matches!(model.install, Install::Fetching(_));
        let present = present.min(1000);
        if is_fetching && present != self.progress {
            self.progress = present;
            self.session.changed(now);
        }
        Ok(())
    }

    /// Ends what ran out of time, and starts the clock of what began.
    fn expire(&mut self, now: Millis) {
        self.ages(now);
        self.forget_crashes(now);
        let since = *self.since.get_or_insert(now);
        let (probation, self_test) = (self.config.probation, self.config.self_test);
        let Some(model) = self.state.models.iter_mut().find(|model| model.install.is_in_flight()) else {
            self.since = None;
            return;
        };
        let before = model.install;
        let spent = now.since(since);
        if matches!(before, Install::Probation { .. }) && spent >= probation {
            model.commit();
        } else if matches!(before, Install::SelfTest { .. }) && spent >= self_test {
            let failed = model.step(Step::Failed(Reject::SelfTestTimeout), Mode::Active);
            assert!(failed.is_some(), "a self-test can always fail");
        } else {
            return;
        }
        let name = model.name.clone();
        self.moved(now, &name, before);
    }

    /// An install went on: clock, events, report, and the next one in the queue.
    fn moved(&mut self, now: Millis, name: &ModelName, before: Install) {
        self.since = Some(now);
        self.errors = 0;
        self.progress = 0;
        self.arrived(name, before);
        self.schedule();
        self.session.changed(now);
    }

    /// Notes where a model's install arrived.
    fn arrived(&mut self, name: &ModelName, before: Install) {
        let Some(model) = self.state.models.iter().find(|model| model.name == *name) else {
            return;
        };
        let install = model.install;
        if install == before {
            return;
        }
        let was_tried = before.is_in_flight() || matches!(before, Install::Shadow(_));
        if let (Some(old), true) = (before.target(), was_tried)
            && report::target(&install).is_none_or(|running| running.release != old.running.release)
            && !matches!(before, Install::RollingBack { .. } | Install::Probation { .. })
        {
            self.note(report::event(
                name,
                old.running,
                bellwether_protocol::trust::Phase::Rejected,
                Some(Reject::Withdrawn),
            ));
        }
        if let Some(running) = report::target(&install) {
            self.note(report::event(name, running, install.phase(), report::reject(&install)));
        }
    }

    fn note(&mut self, event: Event) {
        if self.events.is_full() {
            self.events.pop_front();
        }
        let noted = self.events.push_back(event);
        assert!(noted.is_ok(), "room was made just above");
    }

    /// Gives the device's one place for an install to the first that waits for nothing else.
    fn schedule(&mut self) {
        if self.in_flight().is_some() {
            return;
        }
        let may_begin = |model: &Model| matches!(model.install, Install::Deferred(_)) && self.kept(model).is_none();
        let first = self.state.models.iter().position(may_begin);
        let Some(model) = first.and_then(|first| self.state.models.get_mut(first)) else { return };
        let (before, name) = (model.install, model.name.clone());
        model.start();
        (self.since, self.progress, self.errors) = (None, 0, 0);
        self.arrived(&name, before);
    }
}
