//! Events as JSON: the audit trail and the feed in one.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Longest wait for events, in seconds: below the time in which reading must answer.
pub const WAIT_SECONDS_MAX: u32 = 25;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Counts up without a gap.
    pub seq: u64,
    /// When.
    pub at_ms: u64,
    /// Who: a person, a token's name, a device, or `hub`.
    pub who: String,
    /// What kind, such as `version_registered`.
    pub kind: String,
    /// What happened, for people.
    pub text: String,
    /// The model it is about.
    pub model: Option<String>,
    /// The version.
    pub version: Option<u32>,
    /// The device.
    pub device: Option<String>,
    /// The rollout.
    pub rollout: Option<String>,
}

/// Filter and page of the list of events. Without `after` the latest page is answered; with it the
/// events that follow that sequence number. Either way oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events after this sequence number.
    pub after: Option<u64>,
    /// Only events before this sequence number: the page further back.
    pub before: Option<u64>,
    /// Items of this page, at most 500.
    pub limit: Option<u32>,
    /// Only kinds that begin with this; several are separated by commas.
    pub kind: Option<String>,
    /// Only about this device.
    pub device: Option<String>,
    /// Only about this model.
    pub model: Option<String>,
    /// With `after`: wait until there is one, at most 25 s; `next` then always says where to go on.
    pub wait_seconds: Option<u32>,
}
