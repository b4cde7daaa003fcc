//! The install machine of one model: fetch, stage, self-test, switch, probation, then stay or go back.
//!
//! ```text
//!  Idle, Settled ──wanted──> Deferred ──free──> Fetching ──Fetched──> Hashed ──Staged──> SelfTest
//!        ^  ^                    │                 │                    │                  │ Passed
//!        │  └───── Failed, superseded ─────────────┴────────────────────┴──────────────────┤
//!        │                                                                                 v
//!        ├──<── enough time without errors ── Probation <──────── Activated ────────── Activating
//!        │        (floor rises here)              │ errors, crashes, superseded            │
//!        └──<── Returned ── RollingBack <─────────┴─────────────────────────────────────<──┘
//! ```
//! A start leads from Hashed back to Fetching: what no sync brought to disk may be gone with the power.
//!
//! What is held goes back from before the switch to Deferred. What is wanted in the shadow only passes
//! from `SelfTest` to Shadow, and begins anew, with its bytes there, when it is to answer.
//!
//! Slots: `active` answers; the other slot is the spare one, where the next release is fetched,
//! and which holds `previous` from the switch until the next fetch begins.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::Vec;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::trust::{Mode, PackageRef, Phase, Running};
use serde::{Deserialize, Serialize};

/// Releases remembered as once committed: going back to one of them needs no live grant.
pub const COMMITTED_MAX: usize = 8;
/// Starts of the agent within one self-test or probation, after which the model is held to be what
/// makes it crash.
pub const STARTS_MAX: u8 = 5;

/// One of the two places of a model on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "two names for two places")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A release that was verified and may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Version and release digest.
    pub running: Running,
    /// Its package.
    pub package: PackageRef,
    /// Digest of the frame with the package's tensor signature.
    pub tensors: Digest,
    /// The floor once it commits, at most its own version.
    pub floor: u32,
}

/// A release in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What.
    pub target: Target,
    /// Where.
    pub slot: Slot,
}

/// How far an install is; persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Install {
    /// Nothing tried.
    Idle,
    /// Waits for another model's install to end.
    Deferred(Target),
    /// Chunks are arriving in the spare slot.
    Fetching(Target),
    /// All bytes are there and have the approved digest, but a power cut may still take them.
    Hashed(Target),
    /// It is on disk for good and reproduces its golden vectors.
    SelfTest {
        /// What.
        target: Target,
        /// How often the agent started in this state.
        starts: u8,
    },
    /// The pointer is being switched.
    Activating(Target),
    /// It answers; the previous one is kept.
    Probation {
        /// What.
        target: Target,
        /// How often the agent started in this state.
        starts: u8,
    },
    /// The previous one is being put back.
    RollingBack {
        /// What is taken away.
        target: Target,
        /// Why.
        reject: Reject,
    },
    /// The last install ended.
    Settled {
        /// What was tried.
        running: Running,
        /// [`Phase::Committed`], [`Phase::Rejected`] or [`Phase::RolledBack`].
        phase: Phase,
        /// Why it went no further.
        reject: Option<Reject>,
    },
    /// It passed its self-test and scores beside what answers, from the spare slot, until it is wanted
    /// to answer.
    Shadow(Target),
}

/// What the shell answers about an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All bytes are in the spare slot and have the approved digest.
    Fetched,
    /// They are on disk for good: file and directory are synced.
    Staged,
    /// The self-test passed.
    Passed,
    /// The pointer is switched and the new model answers.
    Activated,
    /// The pointer is back and the previous model, if any, answers.
    Returned,
    /// It went wrong, in whatever state.
    Failed(Reject),
}

/// What the shell must do about an install; repeated until a [`Step`] answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Bring the package into the slot: keep what is there and right, ask for the rest.
    Fetch,
    /// Sync file and directory.
    Stage,
    /// Open the package, load the model, reproduce its vectors.
    SelfTest,
    /// Point at the slot and let its model answer.
    Activate,
    /// Point back at `Held`, or at nothing, and let that answer.
    Return(Option<Held>),
}

/// One model on the device; persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// Least version that may be installed; never goes down.
    pub floor: u32,
    /// What answers.
    pub active: Option<Held>,
    /// What answered before and is still in the other slot.
    pub previous: Option<Held>,
    /// What is being installed.
    pub install: Install,
    /// What follows when the install in progress has been undone.
    pub next: Option<Target>,
    /// Releases once committed here, the newest last.
    pub committed: Vec<Digest, COMMITTED_MAX>,
}

impl Install {
    /// What is being installed.
    #[must_use]
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::Idle | Self::Settled { .. } => None,
            Self::Deferred(target)
            | Self::Fetching(target)
            | Self::Hashed(target)
            | Self::SelfTest { target, .. }
            | Self::Activating(target)
            | Self::Probation { target, .. }
            | Self::RollingBack { target, .. }
            | Self::Shadow(target) => Some(target),
        }
    }

    /// Whether it holds the device's one place for an install.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        !matches!(self, Self::Idle | Self::Settled { .. } | Self::Deferred(_) | Self::Shadow(_))
    }

    /// What a report says of it.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Deferred(_) => Phase::Deferred,
            Self::Fetching(_) => Phase::Fetching,
            Self::Hashed(_) => Phase::Hashed,
            Self::SelfTest { .. } => Phase::SelfTest,
            Self::Activating(_) => Phase::Activating,
            Self::Probation { .. } => Phase::Probation,
            Self::RollingBack { .. } => Phase::RollingBack,
            Self::Settled { phase, .. } => *phase,
            Self::Shadow(_) => Phase::Shadow,
        }
    }
}

const fn settled(target: &Target, phase: Phase, reject: Option<Reject>) -> Install {
    Install::Settled { running: target.running, phase, reject }
}

impl Model {
    /// A model that the device does not have yet.
    #[must_use]
    pub const fn new(name: ModelName) -> Self {
        Self { name, floor: 0, active: None, previous: None, install: Install::Idle, next: None, committed: Vec::new() }
    }

    /// The release that answers.
    #[must_use]
    pub fn answers(&self) -> Option<Digest> {
        self.active.map(|held| held.target.running.release)
    }

    /// The slot where the next release goes.
    #[must_use]
    pub fn spare(&self) -> Slot {
        self.active.map_or(Slot::A, |held| held.slot.other())
    }

    /// The slot in which the release being installed is or will be.
    fn target_slot(&self, target: &Target) -> Slot {
        match self.active {
            Some(held) if held.target.running.release == target.running.release => held.slot,
            _ => self.spare(),
        }
    }

    /// The one thing to do for the install in progress, and in which slot.
    #[must_use]
    pub fn work(&self) -> Option<(Work, Held)> {
        let target = *self.install.target()?;
        let work = match self.install {
            Install::Idle
            | Install::Settled { .. }
            | Install::Deferred(_)
            | Install::Probation { .. }
            | Install::Shadow(_) => return None,
            Install::Fetching(_) => Work::Fetch,
            Install::Hashed(_) => Work::Stage,
            Install::SelfTest { .. } => Work::SelfTest,
            Install::Activating(_) => Work::Activate,
            Install::RollingBack { .. } => Work::Return(self.refuge(&target)),
        };
        Some((work, Held { target, slot: self.target_slot(&target) }))
    }

    /// Where a roll-back of `target` leads.
    fn refuge(&self, target: &Target) -> Option<Held> {
        if self.answers() == Some(target.running.release) { self.previous } else { self.active }
    }

    /// A verified release is wanted: begin, go on, or undo what it supersedes. One that scored in the
    /// shadow and is to answer begins anew: its bytes are there, and are looked at once more.
    pub(crate) fn want(&mut self, target: Target, mode: Mode) {
        let is_same = |other: &Target| other.running.release == target.running.release;
        let steps_out = matches!(self.install, Install::Shadow(_)) && mode != Mode::Shadow;
        let goes_back = matches!(self.install, Install::RollingBack { .. });
        if self.install.target().is_some_and(is_same) && !goes_back && !steps_out {
            self.next = None;
            return;
        }
        match self.install {
            Install::Idle
            | Install::Settled { .. }
            | Install::Deferred(_)
            | Install::Fetching(_)
            | Install::Hashed(_)
            | Install::SelfTest { .. }
            | Install::Shadow(_) => self.begin(target),
            Install::Activating(current) | Install::Probation { target: current, .. } => {
                // With nothing to go back to, the newcomer waits for the end of the probation.
                if self.refuge(&current).is_some() {
                    self.install = Install::RollingBack { target: current, reject: Reject::Withdrawn };
                }
                self.next = Some(target);
            }
            Install::RollingBack { .. } => self.next = Some(target),
        }
    }

    fn begin(&mut self, target: Target) {
        self.next = None;
        self.install = if self.answers() == Some(target.running.release) {
            settled(&target, Phase::Committed, None)
        } else {
            Install::Deferred(target)
        };
    }

    /// A release was refused before anything was fetched. What is under way for another release is
    /// superseded by it all the same; what answers stays.
    pub(crate) fn refuse(&mut self, release: Digest, version: Option<Version>, reject: Reject) {
        let Some(version) = version else { return };
        let running = Running { version, release };
        match self.install {
            Install::Activating(_) | Install::Probation { .. } | Install::RollingBack { .. } => {}
            Install::Idle
            | Install::Settled { .. }
            | Install::Deferred(_)
            | Install::Fetching(_)
            | Install::Hashed(_)
            | Install::SelfTest { .. }
            | Install::Shadow(_) => {
                self.next = None;
                self.install = Install::Settled { running, phase: Phase::Rejected, reject: Some(reject) };
            }
        }
    }

    /// The hub names this model no more: what is under way is given up, what answers stays. With
    /// nothing to go back to, what answers or is about to is kept.
    pub(crate) fn withdraw(&mut self) {
        self.next = None;
        match self.install {
            Install::Deferred(target)
            | Install::Fetching(target)
            | Install::Hashed(target)
            | Install::SelfTest { target, .. }
            | Install::Shadow(target) => {
                self.install = settled(&target, Phase::Rejected, Some(Reject::Withdrawn));
            }
            Install::Activating(target) | Install::Probation { target, .. } => {
                if self.refuge(&target).is_some() {
                    self.install = Install::RollingBack { target, reject: Reject::Withdrawn };
                }
            }
            Install::Idle | Install::Settled { .. } | Install::RollingBack { .. } => {}
        }
    }

    /// Releases were recalled: `recalled` says of each whether nothing may answer rather than it. None
    /// of them is installed or gone back to; one that answers gives way to the previous one, or to
    /// nothing if it must, and else goes on until another is installed.
    pub(crate) fn recall(&mut self, recalled: impl Fn(Digest) -> Option<bool>) {
        let of = |target: &Target| recalled(target.running.release);
        self.next = self.next.filter(|next| of(next).is_none());
        self.previous = self.previous.filter(|held| of(&held.target).is_none());
        if let Some(target) = self.install.target().filter(|target| of(target).is_some()).copied() {
            match self.install {
                Install::Deferred(_)
                | Install::Fetching(_)
                | Install::Hashed(_)
                | Install::SelfTest { .. }
                | Install::Shadow(_) => {
                    self.install = settled(&target, Phase::Rejected, Some(Reject::Recalled));
                }
                Install::Activating(_) => self.install = Install::RollingBack { target, reject: Reject::Recalled },
                Install::Idle | Install::Settled { .. } | Install::Probation { .. } | Install::RollingBack { .. } => {}
            }
        }
        let Some(active) = self.active else { return };
        let Some(stop) = of(&active.target) else { return };
        match self.install {
            // What is going back already goes back to nothing, if it must.
            Install::RollingBack { target, .. } => {
                if stop && target.running.release != active.target.running.release {
                    self.active = None;
                }
            }
            Install::Fetching(_) | Install::Hashed(_) | Install::SelfTest { .. } | Install::Activating(_) => {
                if stop {
                    self.lose_active(Reject::Recalled);
                }
            }
            Install::Idle
            | Install::Settled { .. }
            | Install::Deferred(_)
            | Install::Probation { .. }
            | Install::Shadow(_) => {
                if self.previous.is_some() || stop {
                    self.lose_active(Reject::Recalled);
                } else if !matches!(self.install, Install::Deferred(_) | Install::Shadow(_)) {
                    self.install = settled(&active.target, Phase::RolledBack, Some(Reject::Recalled));
                }
            }
        }
    }

    /// Whether forgetting this model, once withdrawn, forgets nothing that must survive: nothing
    /// answers or is being switched, no floor rose, no release was committed.
    pub(crate) fn is_blank(&self) -> bool {
        let is_switching =
            matches!(self.install, Install::Activating(_) | Install::Probation { .. } | Install::RollingBack { .. });
        !is_switching && self.active.is_none() && self.floor == 0 && self.committed.is_empty()
    }

    /// The device's one place is free: a deferred install begins. The spare slot is overwritten
    /// from here on, so what it held is forgotten, unless it is the very thing wanted.
    pub(crate) fn start(&mut self) {
        if let Install::Deferred(target) = self.install {
            self.previous = None;
            self.install = Install::Fetching(target);
        }
    }

    /// It must wait, with what was fetched kept in its slot. Only before anything is switched.
    pub(crate) fn put_off(&mut self) {
        if let Install::Fetching(target) | Install::Hashed(target) | Install::SelfTest { target, .. } = self.install {
            self.install = Install::Deferred(target);
        }
    }

    /// Applies the shell's answer.
    pub(crate) fn step(&mut self, step: Step, mode: Mode) -> Option<()> {
        self.install = match (self.install, step) {
            (Install::Fetching(target), Step::Fetched) => Install::Hashed(target),
            (Install::Hashed(target), Step::Staged) => Install::SelfTest { target, starts: 0 },
            (Install::SelfTest { target, .. }, Step::Passed) if mode == Mode::Shadow => Install::Shadow(target),
            (Install::SelfTest { target, .. }, Step::Passed) => Install::Activating(target),
            (Install::Activating(target), Step::Activated) => {
                self.previous = self.active;
                self.active = Some(Held { target, slot: self.spare() });
                Install::Probation { target, starts: 0 }
            }
            (Install::RollingBack { target, reject }, Step::Returned) => {
                self.take_back(&target, reject);
                return Some(());
            }
            (
                Install::Fetching(target)
                | Install::Hashed(target)
                | Install::SelfTest { target, .. }
                | Install::Shadow(target),
                Step::Failed(reject),
            ) => settled(&target, Phase::Rejected, Some(reject)),
            (Install::Activating(target) | Install::Probation { target, .. }, Step::Failed(reject)) => {
                Install::RollingBack { target, reject }
            }
            (Install::RollingBack { target, reject }, Step::Failed(_)) => {
                // Not even the previous one can answer: nothing does, and the report says so. What
                // answered all along, as the target never came to it, still does.
                if self.answers() == Some(target.running.release) {
                    (self.active, self.previous) = (None, None);
                }
                self.take_back(&target, reject);
                return Some(());
            }
            _ => return None,
        };
        Some(())
    }

    fn take_back(&mut self, target: &Target, reject: Reject) {
        if self.answers() == Some(target.running.release) {
            self.active = self.previous.take();
        }
        let next = self.next.take();
        self.install = settled(target, Phase::RolledBack, Some(reject));
        if let Some(next) = next {
            self.begin(next);
        }
    }

    /// What answers can answer no more: its slot is damaged. Goes back to the previous one; an
    /// install in progress, which has overwritten that, begins anew in the slot that is now free.
    pub(crate) fn lose_active(&mut self, reject: Reject) {
        let Some(active) = self.active else { return };
        match self.install {
            Install::Fetching(target)
            | Install::Hashed(target)
            | Install::SelfTest { target, .. }
            | Install::Activating(target) => {
                (self.active, self.previous) = (None, None);
                self.install = Install::Deferred(target);
            }
            Install::Idle
            | Install::Settled { .. }
            | Install::Deferred(_)
            | Install::Probation { .. }
            | Install::RollingBack { .. }
            | Install::Shadow(_) => {
                if let Install::Deferred(waiting) | Install::Shadow(waiting) = self.install {
                    self.next = Some(waiting);
                }
                self.install = Install::RollingBack { target: active.target, reject };
            }
        }
    }

    /// What answers crashed too often: the previous release answers again, if that is lawful. Where
    /// there is none, something that answers at times is better than nothing: it is kept, and the
    /// report says what it does. Only while nothing is in flight.
    pub(crate) fn quarantine(&mut self) {
        let Some(active) = self.active else { return };
        self.previous = self.previous.filter(|held| held.target.running.version.number() >= self.floor);
        if self.previous.is_some() {
            self.lose_active(Reject::Crashed);
        } else if !matches!(self.install, Install::Deferred(_) | Install::Shadow(_)) {
            self.install = settled(&active.target, Phase::RolledBack, Some(Reject::Crashed));
        }
    }

    /// Probation is over: the model stays, and the floor rises.
    pub(crate) fn commit(&mut self) {
        let Install::Probation { target, .. } = self.install else { return };
        self.floor = self.floor.max(target.floor.min(target.running.version.number()));
        let release = target.running.release;
        self.committed.retain(|known| *known != release);
        if self.committed.is_full() {
            self.committed.remove(0);
        }
        let kept = self.committed.push(release);
        assert!(kept.is_ok(), "room was made just above");
        self.install = settled(&target, Phase::Committed, None);
        if let Some(next) = self.next.take() {
            // It was held against the floor before this rose.
            if next.running.version.number() < self.floor {
                self.install = settled(&next, Phase::Rejected, Some(Reject::BelowFloor));
            } else {
                self.begin(next);
            }
        }
    }

    /// The agent stops in good order: the start that follows is not the model's fault.
    pub(crate) fn stopping(&mut self) {
        if let Install::SelfTest { starts, .. } | Install::Probation { starts, .. } = &mut self.install {
            *starts = starts.saturating_sub(1);
        }
    }

    /// The agent starts: a model that takes it down again and again is given up, and what was not on
    /// disk for good is looked at again, or a power cut would make a good release fail its self-test.
    pub(crate) fn restarted(&mut self) {
        match &mut self.install {
            Install::Hashed(target) => self.install = Install::Fetching(*target),
            Install::SelfTest { target, starts } => {
                *starts = starts.saturating_add(1);
                if *starts >= STARTS_MAX {
                    self.install = settled(&target.clone(), Phase::Rejected, Some(Reject::Crashed));
                }
            }
            Install::Probation { target, starts } => {
                *starts = starts.saturating_add(1);
                if *starts >= STARTS_MAX {
                    self.install = Install::RollingBack { target: *target, reject: Reject::Crashed };
                }
            }
            Install::Idle
            | Install::Deferred(_)
            | Install::Fetching(_)
            | Install::Activating(_)
            | Install::RollingBack { .. }
            | Install::Settled { .. }
            | Install::Shadow(_) => {}
        }
    }
}
