//! Where a file of collected rows lies, as types: what does not parse is not ours, so that no name
//! leads out of the folder and no foreign file is ever deleted.
//!
//! ```text
//!  model=digits/version=3/date=2026-11-24/gw-1.0123…cdef.00000000000000000042.128.parquet
//!                                         |    |         |                    rows in it
//!                                         device, outbox, sequence of its first row
//! ```

use std::fmt;
use std::str::FromStr;

use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use bellwether_protocol::trust::OutboxId;

use crate::date::Date;

const ENDING: &str = ".parquet";

/// One model, one version, one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) model: ModelRef,
    pub(crate) date: Date,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, date } = self;
        write!(f, "model={}/version={}/date={date}", model.name, model.version)
    }
}

/// A row's name for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) device: DeviceId,
    pub(crate) outbox: OutboxId,
    pub(crate) sequence: u64,
}

/// The path of a file below the folder of collected rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePath {
    pub(crate) place: Place,
    pub(crate) first: Identity,
    pub(crate) rows: u64,
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { device, outbox, sequence } = &self.first;
        write!(f, "{}/{device}.{outbox}.{sequence:020}.{}{ENDING}", self.place, self.rows)
    }
}

/// A path that no file of ours has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign;

impl FromStr for FilePath {
    type Err = Foreign;

    fn from_str(text: &str) -> Result<Self, Foreign> {
        parse(text).filter(|path| path.to_string() == text).ok_or(Foreign)
    }
}

fn parse(text: &str) -> Option<FilePath> {
    let mut parts = text.split('/');
    let name: ModelName = parts.next()?.strip_prefix("model=")?.parse().ok()?;
    let version = parts.next()?.strip_prefix("version=")?.parse().ok()?;
    let date = parts.next()?.strip_prefix("date=")?.parse().ok()?;
    let mut fields = parts.next()?.strip_suffix(ENDING)?.split('.');
    let device = fields.next()?.parse().ok()?;
    let outbox = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let rows = fields.next()?.parse().ok()?;
    let place = Place { model: ModelRef { name, version }, date };
    Some(FilePath { place, first: Identity { device, outbox, sequence }, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "model=digits/version=3/date=2026-11-24/\
                        gw-1.000102030405060708090a0b0c0d0e0f.00000000000000000042.128.parquet";

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        let path: FilePath = OURS.parse().unwrap();
        assert_eq!(path.to_string(), OURS);
        assert_eq!((path.rows, path.first.sequence, path.place.model.version.number()), (128, 42, 3));
    }

    #[test]
    fn hostile_names_are_no_paths_of_ours() {
        let swapped = |from: &str, to: &str| OURS.replace(from, to);
        let hostile = [
            swapped("model=digits", "model=.."),
            swapped("model=digits", "model=a/.."),
            swapped("model=digits", "model="),
            swapped("version=3", "version=.."),
            swapped("version=3", "version=03"),
            swapped("date=2026-11-24", "date=2026-11-31"),
            swapped("date=2026-11-24", "date=../../.."),
            swapped("gw-1", "../gw-1"),
            swapped("gw-1", ".."),
            swapped(".128", ""),
            swapped(".128", ".+128"),
            format!("/{OURS}"),
            format!("../collected/{OURS}"),
            format!("{OURS}/x"),
            format!("{OURS}.exe"),
            "store/db".to_owned(),
        ];
        for path in hostile {
            assert_eq!(path.parse::<FilePath>(), Err(Foreign), "{path}");
        }
    }
}
