//! The hub itself as JSON: its identity, root, keys, tokens and overview.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::scope::Scope;
use super::drift::MonitorView;
use super::rollout::RolloutView;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads; devices and rollouts.
    Operator,
    /// Reads; registers and releases.
    Publisher,
    /// Reads; approves and grants.
    Approver,
    /// Everything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Operator, Self::Publisher, Self::Approver, Self::Admin];

    /// The role as a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Whether whoever has this role may do what needs `needed`.
    #[must_use]
    pub fn may(self, needed: Self) -> bool {
        self == needed || self == Self::Admin || needed == Self::Viewer
    }
}

/// The hub: what anyone may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HubView {
    /// Its version.
    pub version: String,
    /// The fleet, once the root is set.
    pub fleet: Option<String>,
    /// Its director key, to be listed in the root.
    pub director_key: String,
    /// Its registry key, to be listed in the root.
    pub registry_key: String,
    /// Its time key, to be listed in the root.
    pub time_key: String,
    /// Its clock.
    pub time_ms: u64,
    /// Its broker.
    pub broker: BrokerView,
    /// Whether it takes new work.
    pub accepting_work: bool,
    /// Why it does not.
    pub refusing_because: Option<String>,
}

/// The broker devices connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerView {
    /// `embedded` or `external`.
    pub kind: String,
    /// `mqtt://host:port`.
    pub url: String,
}

/// The root of trust as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootView {
    /// The fleet.
    pub fleet: String,
    /// `Signed<Root>`, version 1: the one that the fleet id pins.
    pub statement: String,
    /// The version in force.
    #[serde(default)]
    pub version: u32,
    /// `Signed<Root>` of every version after the first, in order.
    #[serde(default)]
    pub later: Vec<String>,
}

/// A recall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecallView {
    /// The model.
    pub model: String,
    /// The versions it names, as far as this hub knows them.
    pub versions: Vec<u32>,
    /// Digests of the releases it names.
    pub releases: Vec<String>,
    /// What devices do that have no other lawful version: `keep` or `stop`.
    pub otherwise: String,
    /// Who signed it.
    pub persons: Vec<String>,
    /// Whether it counts: not once its key was revoked.
    pub in_force: bool,
    /// When it arrived.
    pub at_ms: u64,
    /// `Signed<Recall>`.
    pub statement: String,
}

/// The latest checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// Its number.
    pub number: u64,
    /// How many recalls are in it.
    pub recalls: usize,
    /// The floors in it.
    pub floors: Vec<FloorView>,
    /// Who signed it.
    pub persons: Vec<String>,
    /// When it arrived.
    pub at_ms: u64,
    /// `Signed<Checkpoint>`.
    pub statement: String,
}

/// The least version of a model that may be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FloorView {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
}

/// The fleet that a new root made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetView {
    /// Its id.
    pub fleet: String,
}

/// The keys of the root, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeysView {
    /// How many persons must sign what.
    pub thresholds: ThresholdsView,
    /// Whether a release needs an approval by a key outside browsers.
    #[serde(default)]
    pub offline_approval: bool,
    /// The keys.
    pub keys: Vec<KeyView>,
    /// Version of the root in force.
    pub version: u32,
    /// Who signed it.
    pub signed_by: Vec<String>,
    /// When it arrived; absent for the first.
    pub signed_ms: Option<u64>,
    /// Devices that have not said yet that they know this root, every recall and the checkpoint.
    pub devices_behind: usize,
}

/// How many distinct persons must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThresholdsView {
    /// A root.
    pub root: u32,
    /// A release.
    pub approve: u32,
    /// A grant.
    pub grant: u32,
}

/// One key of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Its public half.
    pub public: String,
    /// Whose it is.
    pub person: String,
    /// `root`, `publish`, `approve`, `grant`, `registry`, `director`, `time`, `witness`.
    pub roles: Vec<String>,
    /// `file`, `ssh-agent`, `pkcs11`, `browser` or `hub`.
    pub class: String,
    /// The models it may decide about begin with this.
    pub prefix: String,
    /// `active`, `retired` or `revoked`.
    pub status: String,
}

/// Asks for an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Who or what will use it; shown in the audit trail.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// How long it is valid; 90 days if absent.
    #[serde(default)]
    pub valid_days: Option<u32>,
    /// Whether it is valid for ever instead.
    #[serde(default)]
    pub forever: bool,
    /// What it is limited to besides: `read`, `model=PREFIX`, or groups of routes such as
    /// `models:write` or `devices:enrol`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
}

/// A new API token; shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// Its id.
    pub id: String,
    /// The token itself.
    pub token: String,
}

/// An API token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// Who or what uses it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends.
    pub expires_ms: Option<u64>,
    /// What it is limited to besides its role.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
}

/// The first page at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverviewView {
    /// Devices by state.
    pub devices: DeviceTotals,
    /// Distinct models that answer somewhere.
    pub models_running: u32,
    /// Rows scored in all.
    pub rows_scored: u64,
    /// Rows collected in all.
    pub rows_collected: u64,
    /// Alerts for drift that stand, as sentences.
    pub alerts: Vec<MonitorView>,
    /// Rows scored in the latest minute.
    pub scores_per_minute: u64,
    /// What waits for a person, most urgent first.
    pub needs: Vec<NeedView>,
    /// Rollouts that have not ended.
    pub rollouts: Vec<RolloutView>,
    /// Devices by the value of their `site` tag.
    pub sites: Vec<SiteView>,
}

/// Devices by state: `online` and `offline` add up to the total; the others are among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceTotals {
    /// All.
    pub total: u32,
    /// Connected.
    pub online: u32,
    /// Not connected.
    pub offline: u32,
    /// With an install in progress.
    pub updating: u32,
    /// Whose last install failed.
    pub failed: u32,
}

/// Something that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeedView {
    /// `approval`, `grant`, `rollout`, `drift`, `device`, `root` or `disk`.
    pub kind: String,
    /// What waits.
    pub title: String,
    /// Since when, why, how much.
    pub detail: String,
    /// The page about it.
    pub link: String,
    /// The word on the button.
    pub action: String,
}

/// The devices of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    /// The site; empty for devices without the tag.
    pub site: String,
    /// Its devices.
    pub devices: Vec<SiteDevice>,
}

/// One square of the fleet map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteDevice {
    /// The device.
    pub id: String,
    /// Its state.
    pub state: DeviceState,
}

/// A device in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It runs what it should.
    Healthy,
    /// An install is in progress.
    Updating,
    /// Its last install failed.
    Failed,
    /// It is not connected.
    Offline,
    /// It has nothing to run yet.
    Idle,
}

impl DeviceState {
    /// The state as a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Updating => "updating",
            Self::Failed => "failed",
            Self::Offline => "offline",
            Self::Idle => "idle",
        }
    }
}
