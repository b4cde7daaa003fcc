//! Devices and their enrolment as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::offload::OffloadView;

/// Whether a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Connected.
    Online,
    /// Connected, but silent for longer than it should be.
    Stale,
    /// Gone.
    Offline,
    /// Enrolled, never seen.
    Never,
}

impl Presence {
    /// The presence as a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
            Self::Never => "never seen",
        }
    }
}

/// A device: what it is, what it should have, what it reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// Its name.
    pub id: String,
    /// Id of its key.
    pub key: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is connected.
    pub presence: Presence,
    /// When it was last heard.
    pub last_seen_ms: Option<u64>,
    /// When it was enrolled.
    pub enrolled_ms: u64,
    /// Version of its agent.
    pub agent: Option<String>,
    /// Class of its hardware.
    pub hardware: Option<String>,
    /// Memory a model may take, in KiB.
    pub memory_kib: Option<u32>,
    /// Newest ONNX operator set it knows.
    pub operators: Option<u32>,
    /// Its models.
    pub models: Vec<ModelOnDevice>,
    /// Whether it runs what it should.
    pub in_sync: bool,
    /// Why it refused its latest assignment as a whole.
    pub refused: Option<RejectView>,
    /// Rows scored since it was enrolled.
    pub rows_scored: u64,
    /// Records it dropped for want of room, and rows that were refused.
    pub gaps: u64,
    /// Rows of it that were collected.
    pub rows_collected: u64,
}

/// What a device told of its troubles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TroublesView {
    /// Its latest failures, the newest first.
    pub failures: Vec<FailedView>,
    /// The end of its log, if it was asked for.
    pub log: Option<LogView>,
}

/// Why an install failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedView {
    /// When the hub heard of it.
    pub at_ms: u64,
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The code, and what it means.
    pub reject: RejectView,
    /// The cause.
    pub cause: String,
    /// How the process that tried the model ended: `exit code 3`, `signal 9`.
    pub exit: Option<String>,
    /// Most memory it took, in KiB; absent if not known.
    pub peak_kib: Option<u32>,
    /// The end of its log and the device's, at most 4 KiB.
    pub log: String,
}

/// A log that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// When it came.
    pub at_ms: u64,
    /// Whether all of it came.
    pub whole: bool,
    /// Its text.
    pub text: String,
}

/// One model on a device, desired beside reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelOnDevice {
    /// The model.
    pub name: String,
    /// What answers now.
    pub active: Option<RunningView>,
    /// What is being installed, or was last tried.
    pub target: Option<RunningView>,
    /// How far the target is: `idle`, `checking`, `deferred`, `fetching`, `hashed`, `staged`,
    /// `self_test`, `shadow`, `activating`, `probation`, `committed`, `rejected`, `rolling_back`,
    /// `rolled_back`; or what it waits for: `held_window`, `held_clock`, `held_power`, `held_metered`,
    /// `held_busy`.
    pub phase: String,
    /// Why the target was rejected or rolled back.
    pub reject: Option<RejectView>,
    /// Per mille of the target's bytes that are on the device.
    pub progress: u16,
    /// The version it should have.
    pub desired_version: Option<u32>,
    /// Rows scored.
    pub rows_scored: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Median time of a call in the latest window, in microseconds.
    pub p50_us: Option<u32>,
    /// 95th percentile of it.
    pub p95_us: Option<u32>,
    /// How a version in the shadow did beside the one that answers; absent if none was compared.
    #[serde(default)]
    pub shadow: Option<ShadowView>,
    /// Where the version that answers was scored, if its package has a bitstream; absent otherwise.
    #[serde(default)]
    pub offload: Option<OffloadView>,
}

/// A version in the shadow beside the one that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowView {
    /// The version in the shadow.
    pub version: u32,
    /// The version that answered.
    pub against: u32,
    /// Rows that both scored.
    pub rows: u64,
    /// Of those, how many they agreed on: every label equal, of several scores the same the largest,
    /// single numbers within a hundredth.
    pub agreed: u64,
    /// Rows that it did not get, as it was busy or away.
    pub passed_by: u64,
    /// Calls that failed in the shadow alone.
    pub errors: u64,
    /// 95th percentile of the time of a call in the last window, in microseconds.
    pub p95_us: u32,
}

/// A release on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningView {
    /// Its version.
    pub version: u32,
    /// Digest of the release.
    pub release: String,
}

/// A numbered refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectView {
    /// The protocol's code.
    pub code: u16,
    /// What it means.
    pub text: String,
}

/// Filter and page of the list of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeviceQuery {
    /// `TAG=VALUE` that the device must carry.
    pub tag: Option<String>,
    /// `online`, `stale`, `offline`, `never`, `updating`, `failed` or `out_of_sync`.
    pub state: Option<String>,
    /// Part of the device's name.
    pub text: Option<String>,
    /// Cursor from the previous page's `next`.
    pub after: Option<String>,
    /// Items of this page, at most 500.
    pub limit: Option<u32>,
}

/// What a device last reported, as it signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// The device.
    pub device: String,
    /// Its key, in hexadecimal.
    pub public: String,
    /// Whether it is connected.
    pub presence: Presence,
    /// The signed report, in base64; absent before there is one.
    pub statement: Option<String>,
}

/// Replaces a device's tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct TagsRequest {
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// Asks for a token with which devices enrol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenRequest {
    /// How many devices may use it; 1 if absent.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Tags that each of them gets.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How long it is valid; the hub's default if absent.
    #[serde(default)]
    pub valid_seconds: Option<u64>,
    /// The one name that may enrol with it; any, if absent.
    #[serde(default)]
    pub device: Option<String>,
    /// Whether that name may be taken from the device that has it: replaced, wiped or lost.
    #[serde(default)]
    pub replace: bool,
}

/// A token with which devices enrol; shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceTokenView {
    /// The secret. What a device is given is `bw1.FLEET.SECRET`, put together by whoever pins the
    /// root: the hub's word on the fleet is none.
    pub secret: String,
}

/// Devices whose keys were made elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// At most 1,000.
    pub devices: Vec<ImportedDevice>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedDevice {
    /// Its name.
    pub device: String,
    /// Its public key, in hexadecimal.
    pub key: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// How many of them are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportView {
    /// Registered now.
    pub registered: u32,
    /// Known already, with the same key.
    pub known: u32,
}

/// A device asks to be enrolled; the secret is its permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The name it asks for.
    pub device: String,
    /// The token's secret; empty for a device whose key was imported.
    pub secret: String,
    /// `Signed<Enrol>` by the device's own key.
    pub statement: String,
    /// Tags of its own; the token's win.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Where an enrolled device connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolView {
    /// Its name.
    pub device: String,
    /// The broker.
    pub broker: EnrolBroker,
}

/// A broker as a device sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolBroker {
    /// `mqtt://host:port`, or `mqtts://host:port`.
    pub url: String,
    /// A password, where the broker wants one instead of the device's own signature.
    pub password: Option<String>,
}
