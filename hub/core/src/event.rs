//! Domain events: ids and facts only. Audit trail, dashboard feed and hooks all come from here.

use std::fmt;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef, Version};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{FleetId, KeyId, Otherwise, Phase};
use serde::{Deserialize, Serialize};

use crate::drift::Group;

/// Something that happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 without a gap.
    pub sequence: u64,
    /// When, by the hub's clock.
    pub at: Millis,
    /// Who did it: a person, `hub`, or a device.
    pub who: String,
    /// What happened.
    pub what: What,
    /// Head of the audit chain after it ([`crate::audit`]); the last field, as the chain needs it.
    #[serde(default)]
    pub head: Digest,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the sentence made of each variant says it")]
pub enum What {
    RootSet { fleet: FleetId },
    KeyRequested { key: KeyId, person: String, name: String },
    KeyRequestWithdrawn { key: KeyId, person: String },
    RootRotated { version: u32, persons: String },
    Recalled { name: ModelName, versions: Vec<Version>, person: String, otherwise: Otherwise },
    CheckpointTaken { number: u64, person: String },
    VersionRegistered { model: ModelRef, deployable: bool, golden: bool },
    RegistrationRefused { name: ModelName, why: String },
    VersionDeleted { model: ModelRef },
    ReleasePublished { model: ModelRef, person: String },
    ApprovalGiven { model: ModelRef, person: String, given: usize, needed: usize },
    ReleaseRejected { model: ModelRef, person: String, why: String },
    GrantGiven { model: ModelRef, cohort: String },
    TokenMade { name: String },
    TokenRevoked { name: String },
    EnrolmentTokenMade { uses: u32 },
    DeviceEnrolled { device: DeviceId },
    DeviceRemoved { device: DeviceId },
    DeviceReplaced { device: DeviceId, key: KeyId },
    DevicesImported { devices: u32 },
    DeviceTagged { device: DeviceId },
    DeviceOnline { device: DeviceId },
    DeviceOffline { device: DeviceId },
    DeviceRefused { device: DeviceId, reject: Reject },
    RecordsMissing { device: DeviceId, records: u64 },
    ClockSet { by_ms: i64 },
    Install { device: DeviceId, model: ModelRef, phase: Phase, reject: Option<Reject> },
    RolloutStarted { rollout: u64, model: ModelRef },
    StageOffered { rollout: u64, model: ModelRef, stage: usize, devices: usize },
    StagePassed { rollout: u64, model: ModelRef, stage: usize },
    GrantAwaited { rollout: u64, model: ModelRef, stage: usize },
    RolloutPaused { rollout: u64, model: ModelRef, why: String },
    RolloutResumed { rollout: u64, model: ModelRef },
    RolloutPromoted { rollout: u64, model: ModelRef },
    RolloutAborted { rollout: u64, model: ModelRef, why: String },
    RolloutCompleted { rollout: u64, model: ModelRef },
    RolloutRollingBack { rollout: u64, model: ModelRef, stage: usize, why: String },
    RolloutRolledBack { rollout: u64, model: ModelRef, why: String },
    DriftAlertRaised { model: ModelRef, group: Group, since: Millis, columns: Vec<String>, rows: u64 },
    DriftAlertCleared { model: ModelRef, group: Group },
    OffloadFell { device: DeviceId, model: ModelRef, why: String },
    OffloadReturned { device: DeviceId, model: ModelRef },
}

impl What {
    /// The kind, as `snake_case` text.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RootSet { .. } => "root_set",
            Self::KeyRequested { .. } => "key_requested",
            Self::KeyRequestWithdrawn { .. } => "key_request_withdrawn",
            Self::RootRotated { .. } => "root_rotated",
            Self::Recalled { .. } => "recalled",
            Self::CheckpointTaken { .. } => "checkpoint_taken",
            Self::VersionRegistered { .. } => "version_registered",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::VersionDeleted { .. } => "version_deleted",
            Self::ReleasePublished { .. } => "release_published",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::ReleaseRejected { .. } => "release_rejected",
            Self::GrantGiven { .. } => "grant_given",
            Self::TokenMade { .. } => "token_made",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::EnrolmentTokenMade { .. } => "enrolment_token_made",
            Self::DeviceEnrolled { .. } => "device_enrolled",
            Self::DeviceRemoved { .. } => "device_removed",
            Self::DeviceReplaced { .. } => "device_replaced",
            Self::DevicesImported { .. } => "devices_imported",
            Self::DeviceTagged { .. } => "device_tagged",
            Self::DeviceOnline { .. } => "device_online",
            Self::DeviceOffline { .. } => "device_offline",
            Self::DeviceRefused { .. } => "device_refused",
            Self::RecordsMissing { .. } => "records_missing",
            Self::ClockSet { .. } => "clock_set",
            Self::Install { .. } => "install",
            Self::RolloutStarted { .. } => "rollout_started",
            Self::StageOffered { .. } => "stage_offered",
            Self::StagePassed { .. } => "stage_passed",
            Self::GrantAwaited { .. } => "grant_awaited",
            Self::RolloutPaused { .. } => "rollout_paused",
            Self::RolloutResumed { .. } => "rollout_resumed",
            Self::RolloutPromoted { .. } => "rollout_promoted",
            Self::RolloutAborted { .. } => "rollout_aborted",
            Self::RolloutCompleted { .. } => "rollout_completed",
            Self::RolloutRollingBack { .. } => "rollout_rolling_back",
            Self::RolloutRolledBack { .. } => "rollout_rolled_back",
            Self::DriftAlertRaised { .. } => "drift_alert_raised",
            Self::DriftAlertCleared { .. } => "drift_alert_cleared",
            Self::OffloadFell { .. } => "offload_fell",
            Self::OffloadReturned { .. } => "offload_returned",
        }
    }

    /// The model version concerned.
    #[must_use]
    pub const fn model(&self) -> Option<&ModelRef> {
        match self {
            Self::VersionRegistered { model, .. }
            | Self::VersionDeleted { model }
            | Self::ReleasePublished { model, .. }
            | Self::ApprovalGiven { model, .. }
            | Self::ReleaseRejected { model, .. }
            | Self::GrantGiven { model, .. }
            | Self::Install { model, .. }
            | Self::RolloutStarted { model, .. }
            | Self::StageOffered { model, .. }
            | Self::StagePassed { model, .. }
            | Self::GrantAwaited { model, .. }
            | Self::RolloutPaused { model, .. }
            | Self::RolloutResumed { model, .. }
            | Self::RolloutPromoted { model, .. }
            | Self::RolloutAborted { model, .. }
            | Self::RolloutCompleted { model, .. }
            | Self::RolloutRollingBack { model, .. }
            | Self::RolloutRolledBack { model, .. }
            | Self::DriftAlertRaised { model, .. }
            | Self::DriftAlertCleared { model, .. }
            | Self::OffloadFell { model, .. }
            | Self::OffloadReturned { model, .. } => Some(model),
            Self::RootSet { .. }
            | Self::KeyRequested { .. }
            | Self::KeyRequestWithdrawn { .. }
            | Self::RootRotated { .. }
            | Self::Recalled { .. }
            | Self::CheckpointTaken { .. }
            | Self::RegistrationRefused { .. }
            | Self::TokenMade { .. }
            | Self::TokenRevoked { .. }
            | Self::EnrolmentTokenMade { .. }
            | Self::DeviceEnrolled { .. }
            | Self::DeviceRemoved { .. }
            | Self::DeviceReplaced { .. }
            | Self::DevicesImported { .. }
            | Self::DeviceTagged { .. }
            | Self::DeviceOnline { .. }
            | Self::DeviceOffline { .. }
            | Self::DeviceRefused { .. }
            | Self::RecordsMissing { .. }
            | Self::ClockSet { .. } => None,
        }
    }

    /// The device concerned.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "most events concern none")]
    pub const fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::DeviceEnrolled { device }
            | Self::DeviceRemoved { device }
            | Self::DeviceReplaced { device, .. }
            | Self::DeviceTagged { device }
            | Self::DeviceOnline { device }
            | Self::DeviceOffline { device }
            | Self::DeviceRefused { device, .. }
            | Self::RecordsMissing { device, .. }
            | Self::Install { device, .. }
            | Self::OffloadFell { device, .. }
            | Self::OffloadReturned { device, .. } => Some(device),
            _ => None,
        }
    }

    /// The rollout concerned.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "most events concern none")]
    pub const fn rollout(&self) -> Option<u64> {
        match self {
            Self::RolloutStarted { rollout, .. }
            | Self::StageOffered { rollout, .. }
            | Self::StagePassed { rollout, .. }
            | Self::GrantAwaited { rollout, .. }
            | Self::RolloutPaused { rollout, .. }
            | Self::RolloutResumed { rollout, .. }
            | Self::RolloutPromoted { rollout, .. }
            | Self::RolloutAborted { rollout, .. }
            | Self::RolloutCompleted { rollout, .. }
            | Self::RolloutRollingBack { rollout, .. }
            | Self::RolloutRolledBack { rollout, .. } => Some(*rollout),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    #[expect(clippy::too_many_lines, reason = "a table with a sentence for each kind")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootSet { fleet } => write!(f, "root of fleet {fleet} set"),
            Self::KeyRequested { key, person, name } => {
                write!(f, "{person} asks for key {name} ({key}) to be listed in the root")
            }
            Self::KeyRequestWithdrawn { key, person } => {
                write!(f, "the request to list key {key} of {person} was withdrawn")
            }
            Self::RootRotated { version, persons } => write!(f, "root version {version} set, signed by {persons}"),
            Self::Recalled { name, versions, person, otherwise } => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                let versions = if versions.is_empty() { "?".to_owned() } else { versions.join(", ") };
                write!(f, "{name}:{versions} recalled by {person}; without another lawful one: {}", otherwise.name())
            }
            Self::CheckpointTaken { number, person } => write!(f, "checkpoint {number} taken, signed by {person}"),
            Self::VersionRegistered { model, deployable: false, .. } => {
                write!(f, "{model} registered, not deployable")
            }
            Self::VersionRegistered { model, golden: true, .. } => {
                write!(f, "{model} registered, golden vectors reproduced")
            }
            Self::VersionRegistered { model, .. } => write!(f, "{model} registered, unchecked"),
            Self::RegistrationRefused { name, why } => {
                write!(f, "a version of {name} refused: {why}")
            }
            Self::VersionDeleted { model } => write!(f, "{model} deleted"),
            Self::ReleasePublished { model, person } => write!(f, "{model} published by {person}"),
            Self::ApprovalGiven { model, person, given, needed } => {
                write!(f, "{model} approved by {person}: {given} given, {needed} needed")
            }
            Self::ReleaseRejected { model, person, why } => write!(f, "{model} rejected by {person}: {why}"),
            Self::GrantGiven { model, cohort } => write!(f, "{model} granted to {cohort}"),
            Self::TokenMade { name } => write!(f, "token {name} made"),
            Self::TokenRevoked { name } => write!(f, "token {name} revoked"),
            Self::EnrolmentTokenMade { uses } => {
                write!(f, "enrolment token made for {}", counted(u64::from(*uses), "device"))
            }
            Self::DeviceEnrolled { device } => write!(f, "{device} enrolled"),
            Self::DeviceReplaced { device, key } => write!(f, "{device} replaced; its key is now {key}"),
            Self::DevicesImported { devices } => write!(f, "{devices} devices registered by their keys"),
            Self::DeviceRemoved { device } => write!(f, "{device} decommissioned"),
            Self::DeviceTagged { device } => write!(f, "tags of {device} changed"),
            Self::DeviceOnline { device } => write!(f, "{device} online"),
            Self::DeviceOffline { device } => write!(f, "{device} offline"),
            Self::DeviceRefused { device, reject } => {
                write!(f, "{device} refused its assignment: {reject}")
            }
            Self::RecordsMissing { device, records } => {
                write!(f, "{} of {device} missing", counted(*records, "record"))
            }
            Self::ClockSet { by_ms } => {
                let way = if *by_ms < 0 { "back" } else { "forward" };
                write!(f, "the hub's clock was set {way} by {} s", by_ms.unsigned_abs() / 1000)
            }
            Self::Install { device, model, phase, reject: None } => {
                write!(f, "{model} on {device}: {}", words(*phase))
            }
            Self::Install { device, model, phase, reject: Some(reject) } => {
                write!(f, "{model} on {device}: {}, {reject}", words(*phase))
            }
            Self::RolloutStarted { rollout, model } => {
                write!(f, "rollout {rollout} of {model} started")
            }
            Self::StageOffered { model, stage, devices, .. } => {
                write!(f, "{model} stage {} offered to {}", stage + 1, counted(*devices as u64, "device"))
            }
            Self::StagePassed { model, stage, .. } => {
                write!(f, "{model} stage {} passed its gate", stage + 1)
            }
            Self::GrantAwaited { model, stage, .. } => {
                write!(f, "{model} stage {} waits for a grant", stage + 1)
            }
            Self::RolloutPaused { rollout, model, why } => {
                write!(f, "rollout {rollout} of {model} paused: {why}")
            }
            Self::RolloutResumed { rollout, model } => {
                write!(f, "rollout {rollout} of {model} resumed")
            }
            Self::RolloutPromoted { rollout, model } => {
                write!(f, "rollout {rollout} of {model} promoted")
            }
            Self::RolloutAborted { rollout, model, why } => {
                write!(f, "rollout {rollout} of {model} aborted: {why}")
            }
            Self::RolloutCompleted { rollout, model } => {
                write!(f, "rollout {rollout} of {model} completed")
            }
            Self::RolloutRollingBack { rollout, model, stage, why } => {
                write!(f, "rollout {rollout} of {model} stopped in stage {} and rolling back: {why}", stage + 1)
            }
            Self::RolloutRolledBack { rollout, model, why } => {
                write!(f, "rollout {rollout} of {model} rolled back: {why}")
            }
            Self::DriftAlertRaised { model, group, columns, rows, .. } => {
                write!(f, "{} of {model} shifted at {group}: {} looked at", listed(columns), counted(*rows, "row"))
            }
            Self::DriftAlertCleared { model, group } => {
                write!(f, "{model} at {group} looks like its baseline again")
            }
            Self::OffloadFell { device, model, why } => {
                let why = if why.is_empty() { "it did not say why" } else { why };
                write!(f, "{model} on {device} fell back from the engine to software: {why}")
            }
            Self::OffloadReturned { device, model } => write!(f, "{model} on {device} is scored by the engine again"),
        }
    }
}

/// The first few names, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn words(phase: Phase) -> String {
    phase.name().replace('_', " ")
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
