//! Monitors as JSON: what values look like now against what they looked like where a version was made.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which monitors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MonitorQuery {
    /// Only of this model.
    pub model: Option<String>,
    /// Only of this version.
    pub version: Option<u32>,
    /// Only of devices with this tag `site`.
    pub site: Option<String>,
    /// Also of versions that no device runs any more.
    pub all: Option<bool>,
}

/// Whose values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GroupQuery {
    /// Of devices with this tag `site`; of the whole fleet if absent.
    pub site: Option<String>,
}

/// How a monitor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorState {
    /// An alert is raised.
    Alarm,
    /// A column is shifted, not for long enough.
    Watch,
    /// No window had enough rows yet.
    NotEnoughData,
    /// It looks like the baseline.
    Calm,
}

impl MonitorState {
    /// The state as a phrase.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Alarm => "alert",
            Self::Watch => "watching",
            Self::NotEnoughData => "not enough data",
            Self::Calm => "calm",
        }
    }
}

/// One version watched in one group of devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorView {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The site; absent for the whole fleet.
    pub site: Option<String>,
    /// The group as a phrase: `fleet`, `site lyon`.
    pub group: String,
    /// How it stands.
    pub state: MonitorState,
    /// What, where, since when, as a sentence.
    pub sentence: String,
    /// Since when it is not calm.
    pub since_ms: Option<u64>,
    /// Devices of the group that run the version.
    pub devices: u32,
    /// Rows of the last window that was judged.
    pub rows: u64,
    /// When that window ended.
    pub judged_ms: Option<u64>,
    /// Rows so far in the window that is open.
    pub open_rows: u64,
    /// Rows without which a window is not judged.
    pub rows_min: u64,
    /// Least length of a window, in seconds.
    pub window_seconds: u64,
    /// Columns of the baseline.
    pub columns: u32,
    /// Columns that are shifted, the worst first.
    pub shifted: Vec<String>,
    /// The worst score of each window, the oldest first.
    pub timeline: Vec<PointView>,
}

/// One window of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PointView {
    /// When it ended.
    pub at_ms: u64,
    /// Its rows.
    pub rows: u64,
    /// The column with the highest score.
    pub column: String,
    /// Its PSI, less its bias.
    pub psi: f64,
}

/// A monitor with every column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorDetail {
    /// The monitor.
    #[serde(flatten)]
    pub monitor: MonitorView,
    /// The columns, the highest score first.
    pub items: Vec<ColumnView>,
}

/// One column: reference and current, in the same bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnView {
    /// Its name.
    pub name: String,
    /// `input` or `output`.
    pub side: String,
    /// Population stability index as computed from the two histograms, over the buckets (below, bins,
    /// above, missing) that hold anything in either, half a value added to each.
    pub psi: f64,
    /// PSI less its bias, `(K - 1)(1/n + 1/m)`.
    pub corrected: f64,
    /// What `corrected` must exceed to count as a shift.
    pub threshold: f64,
    /// Whether it does.
    pub shifted: bool,
    /// Lower edge of each bin; the last one ends at `top`, which it holds.
    pub lower: Vec<f32>,
    /// End of the last bin.
    pub top: f32,
    /// The baseline.
    pub reference: HistogramView,
    /// The last window that was judged.
    pub current: HistogramView,
}

/// Counts in the bins of a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistogramView {
    /// Values in each bin.
    pub bins: Vec<u64>,
    /// Values below the first.
    pub below: u64,
    /// Values above the last.
    pub above: u64,
    /// Values missing or no number.
    pub missing: u64,
    /// All of them.
    pub n: u64,
    /// Mean of the numbers.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Least number.
    pub min: Option<f64>,
    /// Greatest number.
    pub max: Option<f64>,
}
