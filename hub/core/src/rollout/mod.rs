//! A rollout: stages of devices, each offered a release, watched, and passed by its gate.
//!
//! ```text
//!            grant            settled            soaked            last stage
//! WaitingForGrant --> Offering -------> Soaking --------> (next stage) ------> Completed
//!                        |                 |                  ^  promote
//!                        +---- failures, silence, pause ------+
//!                        |           v
//!                        |        Paused -- resume --> Offering        any -- abort --> Aborted
//!                        v                             any, also Completed -- roll back
//!       failures or latency, if the policy says so          |
//!                        +------------> RollingBack <-------+
//!                                            | nobody who can be reached has it, or long enough
//!                                        RolledBack
//! ```
//!
//! The machine holds no clock and no devices: each [`Input::Tick`] brings the counts of the stage
//! and whether a grant for it exists. What devices should have derives from the state
//! ([`Rollout::offers`]), so that a crash at any point resumes in the same place.

mod controller;
mod gate;
mod plan;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelRef, Version};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, FleetId, KeyId, Mode};
use serde::{Deserialize, Serialize};

pub use controller::{Desires, Verb};
pub use gate::{Counts, Refused};
pub use plan::{STAGES_MAX, covers, label};

/// A rollout as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Counted from 1.
    pub id: u64,
    /// What is rolled out.
    pub model: ModelRef,
    /// Digest of the release's body.
    pub release: Digest,
    /// The release's salt for buckets.
    pub salt: [u8; 16],
    /// What the fleet ran before.
    pub from: Option<Version>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What the gates ask.
    pub policy: Policy,
    /// Where it is.
    pub state: State,
    /// When it was started.
    pub started_at: Millis,
    /// By whom.
    pub started_by: String,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// Devices that failed when it was taken back; their later reports tell of what came after.
    #[serde(default)]
    pub failures: Vec<Failures>,
}

/// Devices that failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The reason.
    pub reject: Reject,
    /// How many devices.
    pub count: u32,
    /// Their names, at most [`FAILED_DEVICES_MAX`].
    pub devices: Vec<DeviceId>,
}

/// Devices that are named for one reason; more are only counted.
pub const FAILED_DEVICES_MAX: usize = 100;

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its devices.
    pub cohort: Cohort,
    /// When it was first offered.
    pub offered_at: Option<Millis>,
    /// When it passed its gate.
    pub passed_at: Option<Millis>,
    /// How its devices stood when the rollout was taken back.
    #[serde(default)]
    pub stopped: Option<Counts>,
}

/// What the gates ask of every stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a settled stage is watched.
    pub soak: Millis,
    /// Failed devices that are borne; one more pauses the rollout.
    pub failures_max: u32,
    /// How long devices that are online may take.
    pub silence: Millis,
    /// What happens when more devices fail or are slow than are borne.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// A device whose calls take longer than this at the 95th percentile is slow and counts like one
    /// that failed; in microseconds.
    #[serde(default)]
    pub p95_us_max: Option<u32>,
    /// How devices run it, and what they wait for.
    #[serde(default)]
    pub mode: Mode,
}

/// What happens when a gate fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing new is offered until a person decides.
    #[default]
    Pause,
    /// Every device goes back to what it had.
    RollBack,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Going on by itself.
    Going {
        /// The stage, from 0.
        stage: usize,
        /// The step within it.
        step: Step,
    },
    /// Offers nothing new until a person decides.
    Paused {
        /// The stage, from 0.
        stage: usize,
        /// The step within it.
        step: Step,
        /// Why.
        why: Pause,
    },
    /// Every stage passed; devices that come later follow.
    Completed,
    /// Taken back; devices return to what they had.
    Aborted,
    /// Devices are returning to what they had.
    RollingBack {
        /// The stage in which it was stopped, from 0.
        stage: usize,
        /// Why.
        why: Pause,
        /// Since when.
        since: Millis,
    },
    /// No device that can be reached has it; the others follow when they return.
    RolledBack {
        /// The stage in which it was stopped, from 0.
        stage: usize,
        /// Why.
        why: Pause,
    },
}

/// A step within a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Nobody has signed a grant that covers the stage.
    WaitingForGrant,
    /// Devices are installing.
    Offering {
        /// Since when.
        since: Millis,
    },
    /// All that can be reached have it; it is watched.
    Soaking {
        /// Since when.
        since: Millis,
    },
}

/// Why a rollout was stopped: paused, or rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pause {
    /// A person said so.
    Manual(String),
    /// More devices failed than are borne.
    Failures(u32),
    /// Devices that are online did not finish in time.
    Silence(u32),
    /// More devices are slower than the policy allows, or failed for it, than are borne.
    Latency(u32),
}

impl Pause {
    /// The reason for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Manual(why) if why.is_empty() => "by hand".to_owned(),
            Self::Manual(why) => why.clone(),
            Self::Failures(1) => "1 device failed".to_owned(),
            Self::Failures(count) => format!("{count} devices failed"),
            Self::Latency(1) => "1 device is slower than the latency budget".to_owned(),
            Self::Latency(count) => format!("{count} devices are slower than the latency budget"),
            Self::Silence(count) => format!("{count} online devices did not finish in time"),
        }
    }
}

impl Rollout {
    /// Whether it has not ended.
    #[must_use]
    pub const fn is_going(&self) -> bool {
        matches!(self.state, State::Going { .. } | State::Paused { .. } | State::RollingBack { .. })
    }

    /// Whether devices only try it beside what answers.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.policy.mode == Mode::Shadow
    }

    /// The stage it is in, and the step; `None` once it ended.
    #[must_use]
    pub const fn place(&self) -> Option<(usize, Step)> {
        match self.state {
            State::Going { stage, step } | State::Paused { stage, step, .. } => Some((stage, step)),
            State::Completed | State::Aborted | State::RollingBack { .. } | State::RolledBack { .. } => None,
        }
    }

    /// How many stages have been offered.
    #[must_use]
    pub fn offered(&self) -> usize {
        match (&self.state, self.place()) {
            (_, Some((stage, Step::WaitingForGrant))) => stage,
            (_, Some((stage, Step::Offering { .. } | Step::Soaking { .. }))) => stage.saturating_add(1),
            (State::Completed, None) => self.stages.len(),
            _ => 0,
        }
    }

    /// Whether the device with this key belongs to the first `stages` stages.
    #[must_use]
    pub fn reaches(&self, fleet: FleetId, stages: usize, key: KeyId) -> bool {
        self.stages.iter().take(stages).any(|stage| stage.cohort.reaches(fleet, &self.salt, key))
    }
}
