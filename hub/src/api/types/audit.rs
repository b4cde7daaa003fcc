//! The audit chain as JSON, and what is asked of it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::EventView;

/// Which part of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Events after this number; from the oldest kept one without it.
    pub after: Option<u64>,
}

/// A day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DayQuery {
    /// The day in UTC, such as 2026-11-25.
    pub date: String,
}

/// How far the chain goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHeadView {
    /// Number of the last event.
    pub sequence: u64,
    /// The head after it.
    pub head: String,
    /// `Signed<AuditHead>`, by the registry; absent before there is a root.
    pub statement: Option<String>,
}

/// What ran on one device on one day, who approved it, and why it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceAuditView {
    /// The device.
    pub device: String,
    /// Its key.
    pub key: String,
    /// The day.
    pub date: String,
    /// What ran, in the order in which it began.
    pub ran: Vec<RanView>,
    /// Everything that was recorded of the device that day.
    pub events: Vec<EventView>,
    /// The chain's head when this was written: it holds every event above.
    pub head: AuditHeadView,
}

/// One version that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RanView {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// From when on, as the hub learnt it; it may lie before the day.
    pub from_ms: u64,
    /// Until when; absent if it ran at the end of the day.
    pub until_ms: Option<u64>,
    /// Why it ended.
    pub ended: Option<String>,
    /// Digest of its release.
    pub release: Option<String>,
    /// The release as it was signed: `Signed<Release>`.
    pub statement: Option<String>,
    /// Who published it.
    pub publisher: Option<SignedByView>,
    /// Who approved it.
    pub approvers: Vec<SignedByView>,
    /// What granted it, and to whom.
    pub grants: Vec<GrantedView>,
    /// Why it came: the rollouts of this version, and who started them.
    pub rollouts: Vec<String>,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedByView {
    /// The person.
    pub person: String,
    /// When the signature arrived.
    pub at_ms: u64,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantedView {
    /// Whom it reaches, in words.
    pub cohort: String,
    /// Who signed it.
    pub persons: Vec<String>,
    /// When it arrived.
    pub at_ms: u64,
    /// Whether it reaches this device.
    pub reaches: bool,
}
