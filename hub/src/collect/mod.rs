//! Sampled rows: from the store, where each is written once, into files that any tool reads.
//!
//! ```text
//!  device -- batch --> rules -- one commit --> row/DEVICE/OUTBOX/SEQUENCE      latest/DEVICE
//!                                                   |                               ^
//!                                                   | seal: every minute, or when   |
//!                                                   | many wait                     | in the same commit
//!                                                   v                               |
//!     collected/model=digits/version=3/date=2026-11-24/FIRST.ROWS.parquet -- rows leave the store
//!                                                   |
//!                      keep: days over, or too many bytes          export: ndjson, csv, tar
//! ```
//! Rooms: [`date`] and [`place`] where a file lies, as types; [`tensor`] bytes as values;
//! [`parquet`] the file; [`files`] the folder; [`seal`] from the store into files, exactly once;
//! [`keep`] what is deleted when; [`latest`] the last rows of each device; [`export`] the way out.

pub(crate) mod export;
pub(crate) mod files;
#[cfg(test)]
mod fixtures;
pub(crate) mod keep;
pub(crate) mod latest;
pub(crate) mod parquet;
pub(crate) mod place;
pub(crate) mod seal;
pub(crate) mod tensor;

use std::path::{Path, PathBuf};

use bellwether_hub_core::collect::Row;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::time::Millis;

use crate::api::types::RowView;
use crate::store::StoreError;
pub use files::Files;
use tensor::{Signature, Values};

/// Where the files lie in the data directory.
#[must_use]
pub fn directory(data: &Path) -> PathBuf {
    data.join("collected")
}

/// Why rows were not moved or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the files of collected rows: {0}")]
    Files(#[from] object_store::Error),
    #[error("the file {path} does not read: {cause}")]
    Damaged { path: String, cause: String },
    #[error("a file of collected rows cannot be made: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    #[error("{0}")]
    Broken(String),
}

/// A row with its tensors as values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collected {
    pub(crate) device: String,
    pub(crate) outbox: String,
    pub(crate) sequence: i64,
    pub(crate) site: Option<String>,
    pub(crate) at: Millis,
    pub(crate) taken_at: Millis,
    pub(crate) reason: String,
    pub(crate) inputs: Vec<Values>,
    pub(crate) outputs: Vec<Values>,
}

impl Collected {
    /// Reads the bytes of a row; `None` if they do not fit the signature.
    pub(crate) fn of(row: &Row, signature: &Signature) -> Option<Self> {
        Some(Self {
            device: row.device.to_string(),
            outbox: row.outbox.to_string(),
            sequence: i64::try_from(row.sequence).ok()?,
            site: row.site.clone(),
            at: row.at,
            taken_at: row.taken_at,
            reason: row.reason.name().to_owned(),
            inputs: tensor::read(&signature.inputs, &row.inputs)?,
            outputs: tensor::read(&signature.outputs, &row.outputs)?,
        })
    }

    /// The row as the API shows it.
    pub(crate) fn view(self, model: &ModelRef, signature: &Signature) -> RowView {
        RowView {
            device: self.device,
            site: self.site,
            model: model.name.to_string(),
            version: model.version.number(),
            at_ms: self.at.0,
            taken_at_ms: self.taken_at.0,
            reason: self.reason,
            outbox: self.outbox,
            sequence: self.sequence.unsigned_abs(),
            inputs: tensor::views(&signature.inputs, self.inputs),
            outputs: tensor::views(&signature.outputs, self.outputs),
        }
    }
}
