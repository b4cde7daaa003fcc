//! Rollouts as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::device::ShadowView;
use super::model::CohortView;

/// Starts a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The stages in order, each reaching more devices than the one before.
    pub stages: Vec<CohortView>,
    /// How long a stage must stay healthy before the next; the hub's default if absent.
    #[serde(default)]
    pub soak_seconds: Option<u32>,
    /// Devices that may fail or be slow; one more stops the rollout. None if absent.
    #[serde(default)]
    pub max_failures: Option<u32>,
    /// What stopping means; rolling back if absent.
    #[serde(default)]
    pub on_failure: Option<FailureAction>,
    /// A device whose calls take longer than this at the 95th percentile counts like one that
    /// failed, in microseconds; the version's own budget if absent.
    #[serde(default)]
    pub max_p95_us: Option<u32>,
    /// How devices run it, and what its install waits for; active if absent.
    #[serde(default)]
    pub mode: RolloutMode,
}

/// What happens when more devices fail than are borne.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Nothing new is offered until a person decides.
    Pause,
    /// Every device goes back to what it had.
    #[default]
    Rollback,
}

/// How devices run a version, and what its install waits for on them: a maintenance window, mains, a
/// connection that costs nothing, an application that is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutMode {
    /// It answers. A device that has a window and does not know the time installs it all the same.
    #[default]
    Active,
    /// It scores beside what answers, and answers nobody.
    Shadow,
    /// It answers, and its install waits for nothing.
    Urgent,
    /// It answers. A device that has a window and does not know the time waits until it does.
    Patient,
}

impl RolloutMode {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Active, Self::Shadow, Self::Urgent, Self::Patient];

    /// The mode as a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Shadow => "shadow",
            Self::Urgent => "urgent",
            Self::Patient => "patient",
        }
    }
}

impl std::str::FromStr for RolloutMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.word() == text);
        found.ok_or_else(|| "active, shadow, urgent or patient".to_owned())
    }
}

/// Why someone acts on a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// For the timeline and the audit trail.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What can be done to a rollout that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutAction {
    /// Offer it to no further device.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go to the next stage without waiting for the gate.
    Promote,
    /// Give it up: devices return to the version before.
    Abort,
    /// Give it up, or take back what completed, and follow until every device has returned.
    Rollback,
}

impl RolloutAction {
    /// All, in the order of the page.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Promote, Self::Abort, Self::Rollback];

    /// The one verb used in page, command line and API.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It goes on by itself.
    Running,
    /// Nothing new is offered until someone resumes it.
    Paused,
    /// Its last stage passed.
    Completed,
    /// Given up.
    Aborted,
    /// Devices are returning to what they had.
    RollingBack,
    /// Every device that could be reached has returned.
    RolledBack,
}

impl RolloutState {
    /// The state as a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Aborted | Self::RolledBack)
    }
}

/// What a running rollout does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPhase {
    /// Devices of the stage are getting the version.
    Offering,
    /// All have it; it must stay healthy for a while.
    Soaking,
    /// Its figures are compared with the thresholds.
    Gate,
    /// A person must sign the grant of this stage.
    WaitingForGrant,
}

impl RolloutPhase {
    /// The phase as a phrase.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Offering => "offering",
            Self::Soaking => "soaking",
            Self::Gate => "at the gate",
            Self::WaitingForGrant => "waiting for a grant",
        }
    }
}

/// A rollout, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Its id.
    pub id: String,
    /// The model.
    pub model: String,
    /// The version that rolls out.
    pub version: u32,
    /// The version it replaces.
    pub from_version: Option<u32>,
    /// Where it stands.
    pub state: RolloutState,
    /// What it does now; absent once it has ended.
    pub phase: Option<RolloutPhase>,
    /// What it waits for, as a phrase: `3 of 6 devices healthy`.
    pub waiting_on: String,
    /// Why it is paused or rolled back.
    pub stopped_because: Option<String>,
    /// Index of the current stage, from 0.
    pub stage: u32,
    /// The stages.
    pub stages: Vec<StageView>,
    /// Failures by cause, most frequent first.
    pub failures: Vec<FailureView>,
    /// What may be done now.
    pub actions: ActionsView,
    /// How long a stage must stay healthy.
    pub soak_seconds: u32,
    /// Devices that may fail or be slow; one more stops it.
    pub max_failures: u32,
    /// What stopping means.
    pub on_failure: FailureAction,
    /// Above this 95th percentile of the time of a call a device is slow, in microseconds.
    pub max_p95_us: Option<u32>,
    /// How devices run it, and what its install waits for.
    #[serde(default)]
    pub mode: RolloutMode,
    /// Where it scores in the shadow: how it did there, over all devices that compared.
    #[serde(default)]
    pub agreement: Option<ShadowView>,
    /// When it started.
    pub started_ms: u64,
    /// By whom.
    pub started_by: String,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// What happened, latest first.
    pub timeline: Vec<TimelineView>,
}

/// Whether a stage is behind, now, or ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Passed.
    Done,
    /// Going on.
    Now,
    /// To come.
    Next,
    /// Where it was rolled back.
    Stopped,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageView {
    /// Whom it reaches.
    pub cohort: CohortView,
    /// The cohort as a phrase: `gw-1`, `25 %`, `all`.
    pub label: String,
    /// Where it stands.
    pub state: StageState,
    /// Whether enough persons signed its grant.
    pub granted: bool,
    /// Its devices by state.
    pub counts: CountsView,
    /// Since when it is where it stands.
    pub since_ms: Option<u64>,
}

/// Devices of a stage by state; healthy, updating, held, failed and offline add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountsView {
    /// All.
    pub total: u32,
    /// The version answers and stays, or scores in the shadow where that is wanted.
    pub healthy: u32,
    /// On the way.
    pub updating: u32,
    /// Waiting for a window, power, a free connection or an application of theirs; they hold nobody up.
    #[serde(default)]
    pub held: u32,
    /// Rejected or rolled back.
    pub failed: u32,
    /// Not connected.
    pub offline: u32,
    /// Of the healthy ones, how many are slower than the rollout allows.
    pub slow: u32,
}

/// Devices that failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// The protocol's code.
    pub code: u16,
    /// What it means.
    pub text: String,
    /// How many devices.
    pub count: u32,
    /// The devices, the first hundred.
    pub devices: Vec<String>,
}

/// For each action: nothing if it may be done now, otherwise why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionsView {
    /// Pause.
    pub pause: Option<String>,
    /// Resume.
    pub resume: Option<String>,
    /// Promote.
    pub promote: Option<String>,
    /// Abort.
    pub abort: Option<String>,
    /// Roll back.
    pub rollback: Option<String>,
}

impl ActionsView {
    /// Why the action may not be done now; nothing if it may.
    #[must_use]
    pub fn refusal(&self, action: RolloutAction) -> Option<&str> {
        match action {
            RolloutAction::Pause => self.pause.as_deref(),
            RolloutAction::Resume => self.resume.as_deref(),
            RolloutAction::Promote => self.promote.as_deref(),
            RolloutAction::Abort => self.abort.as_deref(),
            RolloutAction::Rollback => self.rollback.as_deref(),
        }
    }
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineView {
    /// When.
    pub at_ms: u64,
    /// Who: a person, a token's name, or `hub`.
    pub who: String,
    /// What and why.
    pub what: String,
}
