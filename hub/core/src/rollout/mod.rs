//! A rollout: stages of devices, each offered a release, watched, and passed by its gate.
//!
//! ```text
//!            grant            settled            soaked            last stage
//! WaitingForGrant --> Offering -------> Soaking --------> (next stage) ------> Completed
//!                        |                 |                  ^  promote
//!                        +---- failures, silence, pause ------+
//!                                    v
//!                                 Paused -- resume --> Offering        any -- abort --> Aborted
//! ```
//!
//! The machine holds no clock and no devices: each [`Input::Tick`] brings the counts of the stage
//! and whether a grant for it exists. What devices should have derives from the state
//! ([`Rollout::offers`]), so that a crash at any point resumes in the same place.

mod controller;
mod gate;
mod plan;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::{ModelRef, Version};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, FleetId, KeyId};
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
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its devices.
    pub cohort: Cohort,
    /// When it was first offered.
    pub offered_at: Option<Millis>,
    /// When it passed its gate.
    pub passed_at: Option<Millis>,
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

/// Why a rollout is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pause {
    /// A person said so.
    Manual(String),
    /// More devices failed than are borne.
    Failures(u32),
    /// Devices that are online did not finish in time.
    Silence(u32),
}

impl Pause {
    /// The reason for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Manual(why) if why.is_empty() => "paused by hand".to_owned(),
            Self::Manual(why) => why.clone(),
            Self::Failures(1) => "1 device failed".to_owned(),
            Self::Failures(count) => format!("{count} devices failed"),
            Self::Silence(count) => format!("{count} online devices did not finish in time"),
        }
    }
}

impl Rollout {
    /// Whether it has not ended.
    #[must_use]
    pub const fn is_going(&self) -> bool {
        matches!(self.state, State::Going { .. } | State::Paused { .. })
    }

    /// The stage it is in, and the step; `None` once it ended.
    #[must_use]
    pub const fn place(&self) -> Option<(usize, Step)> {
        match self.state {
            State::Going { stage, step } | State::Paused { stage, step, .. } => Some((stage, step)),
            State::Completed | State::Aborted => None,
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
