//! Collected rows as JSON, and what is asked of them.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One row that a device scored and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowView {
    /// The device.
    pub device: String,
    /// The site of the device when the hub took the row.
    pub site: Option<String>,
    /// The model.
    pub model: String,
    /// The version that answered.
    pub version: u32,
    /// When it was scored, by the device's clock, which may be wrong.
    pub at_ms: u64,
    /// When the hub took it.
    pub taken_at_ms: u64,
    /// Why it was sampled: `turn` or `uncertain`.
    pub reason: String,
    /// The outbox it came from; with device and `sequence` it names the row for ever.
    pub outbox: String,
    /// Its number in that outbox.
    pub sequence: u64,
    /// What was given.
    pub inputs: Vec<TensorValues>,
    /// What was answered.
    pub outputs: Vec<TensorValues>,
}

/// A tensor with its elements, as the Open Inference Protocol writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TensorValues {
    /// As the model names it.
    pub name: String,
    /// Such as `FP32`.
    pub datatype: String,
    /// Dimensions; the batch is 1.
    pub shape: Vec<u32>,
    /// The elements, flat, the last dimension running fastest.
    pub data: Elements,
}

/// Elements of a tensor; what is no finite number is `null`, for JSON has no word for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Elements {
    /// `BOOL`.
    Bool(Vec<bool>),
    /// Whole numbers.
    Whole(Vec<i64>),
    /// `UINT64`, where one is beyond 2⁶³ - 1.
    Natural(Vec<u64>),
    /// `FP64`; also what is read back of `FP32`.
    Double(Vec<Option<f64>>),
    /// `FP32`, with no more digits than it has.
    Single(Vec<Option<f32>>),
}

/// Page of the latest rows of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    /// How many of the latest, at most 500.
    pub limit: Option<u32>,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectedView {
    /// Rows that are not in a file yet.
    pub waiting_rows: u64,
    /// What is in files, by model, version and day.
    pub items: Vec<PartitionView>,
}

/// The files of one model, version and day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionView {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The day in UTC on which the hub took the rows, such as `2026-11-24`.
    pub date: String,
    /// Rows.
    pub rows: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Which rows are exported, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// Only this model.
    pub model: Option<String>,
    /// Only this version of it.
    pub version: Option<u32>,
    /// From this day on, in UTC, such as `2026-11-24`.
    pub from: Option<String>,
    /// Through this day.
    pub until: Option<String>,
    /// Only this device; not with `parquet`.
    pub device: Option<String>,
    /// Only of this site; not with `parquet`.
    pub site: Option<String>,
    /// `ndjson` if absent.
    pub format: Option<ExportFormat>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// One row of JSON a line.
    #[default]
    Ndjson,
    /// Comma-separated values with a header; inputs and outputs as JSON in a cell each.
    Csv,
    /// The Parquet files as they lie at the hub, in an uncompressed tar archive.
    Parquet,
}

impl ExportFormat {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/x-tar",
        }
    }

    /// Name of a file that holds it.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Ndjson => "collected.ndjson",
            Self::Csv => "collected.csv",
            Self::Parquet => "collected.tar",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_from_its_json() {
        let tensor =
            |name: &str, data| TensorValues { name: name.to_owned(), datatype: String::new(), shape: vec![1], data };
        let row = RowView {
            device: "gw-1".to_owned(),
            site: None,
            model: "digits".to_owned(),
            version: 3,
            at_ms: 5,
            taken_at_ms: 6,
            reason: "turn".to_owned(),
            outbox: "00".to_owned(),
            sequence: 7,
            inputs: vec![tensor("a", Elements::Whole(vec![i64::MIN])), tensor("b", Elements::Bool(vec![true]))],
            outputs: vec![tensor("c", Elements::Double(vec![Some(1.0), None]))],
        };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<RowView>(&text).unwrap(), row);
    }
}
