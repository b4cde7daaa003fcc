//! Models, their versions, releases and grants as JSON.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::trust::RejectionView;

/// One model with the state of its latest version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// Its name.
    pub name: String,
    /// The latest version.
    pub latest: u32,
    /// How many versions there are.
    pub versions: u32,
    /// Tags of the latest version.
    pub tags_of_latest: BTreeMap<String, String>,
    /// Devices by the version that answers on them.
    #[serde(deserialize_with = "by_version")]
    pub running: BTreeMap<u32, u32>,
    /// State of the latest version.
    pub state_of_latest: VersionState,
    /// When the latest version was registered.
    pub updated_ms: u64,
}

/// Reads keys as the texts that they are in JSON: inside a flattened struct serde does not turn
/// them into numbers by itself.
fn by_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, u32>, D::Error> {
    let texts = BTreeMap::<String, u32>::deserialize(deserializer)?;
    let numbers = texts.into_iter().map(|(version, devices)| Ok((version.parse()?, devices)));
    numbers.collect::<Result<_, std::num::ParseIntError>>().map_err(D::Error::custom)
}

/// One model with all its versions, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDetail {
    /// The model.
    #[serde(flatten)]
    pub model: ModelView,
    /// Its versions.
    pub items: Vec<VersionView>,
}

/// Filter of the list of models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ModelQuery {
    /// `TAG=VALUE` that the latest version must carry.
    pub tag: Option<String>,
}

/// Where a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// Registered; no release was posted yet.
    Draft,
    /// Its release waits for signatures.
    AwaitingApproval,
    /// An approver refused to sign, and said why; it takes no more signatures.
    Rejected,
    /// Signed by publisher and enough approvers: it may roll out.
    Approved,
    /// Taken out of use.
    Retired,
}

impl VersionState {
    /// The state as a phrase for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::AwaitingApproval => "awaiting approval",
            Self::Rejected => "rejected",
            Self::Approved => "approved",
            Self::Retired => "retired",
        }
    }
}

/// One version of a model: what it is, where it came from, who approved it, where it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The model's name.
    pub name: String,
    /// The version, from 1 up.
    pub version: u32,
    /// `model`, `bitstream`, `agent` or `firmware`.
    pub kind: String,
    /// Where it stands.
    pub state: VersionState,
    /// Whether devices can run it.
    pub deployable: bool,
    /// How to make it deployable, if it is not.
    pub advice: Option<String>,
    /// What the golden vectors said.
    pub golden: GoldenView,
    /// What the publisher says it is.
    pub description: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The source tree it came from.
    pub git: Option<GitView>,
    /// The data it was trained on.
    pub dataset: Option<String>,
    /// The training run.
    pub run: Option<String>,
    /// Name of the file the publisher started from.
    pub file_name: String,
    /// Digest of that file.
    pub source: String,
    /// The prepared package.
    pub package: PackageView,
    /// The files in the package.
    pub files: Vec<FileView>,
    /// What the model takes.
    pub inputs: Vec<TensorView>,
    /// What the model gives.
    pub outputs: Vec<TensorView>,
    /// What was read from the model.
    pub facts: Option<FactsView>,
    /// When it was registered.
    pub registered_ms: u64,
    /// By whom.
    pub registered_by: String,
    /// The registry's attestation, a statement.
    pub attestation: Option<String>,
    /// Digest of the release's body, once posted.
    pub release: Option<String>,
    /// The person who published the release.
    pub publisher: Option<String>,
    /// Approvals given and needed.
    pub approvals: ApprovalsView,
    /// Who refused to approve it, and why, if somebody did.
    #[serde(default)]
    pub rejection: Option<RejectionView>,
    /// What a device must offer.
    pub requires: RequiresView,
    /// What it asks of the devices that run it.
    pub policy: PolicyView,
    /// Columns of its baseline; 0 if it came without one.
    pub baseline_columns: u32,
    /// Devices on which it answers.
    pub running_on: u32,
    /// Devices that should have it.
    pub desired_on: u32,
}

/// What a version asks of the devices that run it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Latency budget of its probation: 95th percentile of the time of a call, in microseconds.
    pub max_p95_us: Option<u32>,
    /// One row in so many is collected; none if 0.
    pub collect_one_in: u32,
    /// Also rows whose most probable answer is below this, per mille.
    pub collect_below: u16,
    /// Most rows a minute from each device.
    pub collect_per_minute: u16,
}

/// What the golden vectors said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GoldenView {
    /// Whether there were vectors and the model reproduced them.
    pub checked: bool,
    /// Rows compared.
    pub rows: Option<u32>,
    /// The runtime that reproduced them.
    pub runtime: Option<String>,
}

/// The source tree a file was registered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GitView {
    /// Commit.
    pub commit: String,
    /// Branch, or `HEAD` when detached.
    pub branch: String,
    /// Whether the tree had changes that were not committed.
    pub dirty: bool,
}

/// A package by digest and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageView {
    /// Digest of all bytes.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Its plain name.
    pub name: String,
    /// `model`, `vectors` or `extra`.
    pub role: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub digest: String,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TensorView {
    /// As the model names it.
    pub name: String,
    /// As the Open Inference Protocol names it, such as `FP32`.
    pub datatype: String,
    /// Dimensions; -1 where any size does.
    pub shape: Vec<i64>,
}

/// What was read from a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactsView {
    /// How often each operator occurs.
    pub operators: BTreeMap<String, u32>,
    /// Version of the ONNX operator set.
    pub opset: u32,
    /// Numbers in its initialisers.
    pub parameters: u64,
}

/// Approvals given and needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalsView {
    /// Each approval, oldest first.
    pub given: Vec<ApprovalView>,
    /// How many distinct persons must approve.
    pub needed: u32,
}

/// One approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Who.
    pub person: String,
    /// Id of the key.
    pub key: String,
    /// When.
    pub at_ms: u64,
}

/// What a device must offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequiresView {
    /// Least version of the agent, such as `0.1.0`.
    pub agent: String,
    /// Least version of the ONNX operator set.
    pub operators: u32,
    /// Memory for the loaded model, in KiB.
    pub memory_kib: u32,
}

/// Registers an uploaded package as the next version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Digest of a package uploaded before.
    pub package: String,
    /// Digest of the file it was made from.
    pub source: String,
    /// Name of that file.
    pub file_name: String,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The source tree.
    #[serde(default)]
    pub git: Option<GitView>,
    /// The data it was trained on.
    #[serde(default)]
    pub dataset: Option<String>,
    /// The training run.
    #[serde(default)]
    pub run: Option<String>,
}

/// A signed statement on its way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementRequest {
    /// Base64 of a frame holding a `trust::Signed`.
    pub statement: String,
}

/// A signed statement on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// Base64 of a frame holding a `trust::Signed`.
    pub statement: String,
    /// Digest of its body.
    pub digest: String,
}

/// A set of devices: `{"devices": ["gw-1"]}` or `{"percent": 25.0}`.
///
/// In a rollout devices go by name; in a grant too, the statement itself holding their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CohortView {
    /// Devices by name.
    Devices(Vec<String>),
    /// This share of the fleet, in percent, to a tenth.
    Percent(f64),
}

impl CohortView {
    /// The cohort as a phrase: `gw-1`, `3 devices`, `25 %`, `all`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Devices(ids) => match ids.as_slice() {
                [one] => one.clone(),
                many => format!("{} devices", many.len()),
            },
            Self::Percent(percent) if *percent >= 100.0 => "all".to_owned(),
            Self::Percent(percent) => format!("{percent} %"),
        }
    }

    /// The cohort as `rollout start --stage` takes it: `device=gw-1,gw-2` or `25%`.
    #[must_use]
    pub fn as_stage(&self) -> String {
        match self {
            Self::Devices(ids) => format!("device={}", ids.join(",")),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }

    /// The cohort as `grant` takes it: `--device gw-1 --device gw-2` or `--percent 25`.
    #[must_use]
    pub fn as_grant(&self) -> String {
        match self {
            Self::Devices(ids) => ids.iter().map(|id| format!("--device {id}")).collect::<Vec<_>>().join(" "),
            Self::Percent(percent) => format!("--percent {percent}"),
        }
    }
}

/// A text that is no cohort.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no stage: write device=gw-1,gw-2 or a share such as 25%")]
pub struct BadCohort(pub String);

impl std::str::FromStr for CohortView {
    type Err = BadCohort;

    fn from_str(text: &str) -> Result<Self, BadCohort> {
        let bad = || BadCohort(text.to_owned());
        let trimmed = text.trim();
        if let Some(list) = trimmed.strip_prefix("device=").or_else(|| trimmed.strip_prefix("devices=")) {
            let ids: Vec<String> = list.split(',').map(|id| id.trim().to_owned()).collect();
            return if ids.iter().any(String::is_empty) { Err(bad()) } else { Ok(Self::Devices(ids)) };
        }
        if trimmed == "all" {
            return Ok(Self::Percent(100.0));
        }
        let number = trimmed.strip_suffix('%').ok_or_else(bad)?.trim();
        let percent: f64 = number.parse().map_err(|_| bad())?;
        if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(bad()) }
    }
}

/// A grant: whom a stage may reach, and who allowed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// Whom it reaches.
    pub cohort: CohortView,
    /// Who signed.
    pub persons: Vec<String>,
    /// When.
    pub at_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_reads_back_as_it_was_written() {
        for text in ["device=gw-1,gw-2", "25%", "0.5%", "100%"] {
            assert_eq!(text.parse::<CohortView>().unwrap().as_stage(), text);
        }
        for bad in ["", "25", "0%", "101%", "NaN%", "device=", "device=a,,b", "-1%"] {
            assert!(bad.parse::<CohortView>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_model_that_runs_somewhere_reads_back_with_its_versions() {
        let model = ModelView {
            name: "digits".to_owned(),
            latest: 2,
            versions: 2,
            tags_of_latest: BTreeMap::new(),
            running: [(1, 3), (2, 4)].into(),
            state_of_latest: VersionState::Approved,
            updated_ms: 5,
        };
        let detail = ModelDetail { model, items: Vec::new() };
        let text = serde_json::to_string(&detail).unwrap();
        assert_eq!(serde_json::from_str::<ModelDetail>(&text).unwrap(), detail);
    }

    #[test]
    fn a_cohort_in_json_is_one_named_field() {
        let text = serde_json::to_string(&CohortView::Percent(25.0)).unwrap();
        assert_eq!(text, r#"{"percent":25.0}"#);
        assert!(serde_json::from_str::<CohortView>(r#"{"devices":["a"],"percent":1}"#).is_err());
    }
}
