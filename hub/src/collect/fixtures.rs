//! Rows for tests: of `digits`, whose versions take two numbers and give one.

use std::collections::BTreeSet;

use bellwether_hub_core::Change;
use bellwether_hub_core::collect::Row;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{OutboxId, Reason};

use super::seal::{self, Known};
use super::tensor::{Signature, Spec};
use super::{Collected, Files, parquet};
use crate::store::{SledStore, Store as _, record};

/// 2026-11-24T00:00:00Z.
pub(super) const DAY: Millis = Millis(1_795_478_400_000);

/// Knows every version of `digits` and every device but `gone`.
pub(super) struct Digits;

impl Known for Digits {
    fn signature(&self, model: &ModelRef) -> Option<Signature> {
        let spec = |name: &str, datatype: &str, size| Spec {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![1, size],
        };
        let signature = Signature { inputs: vec![spec("image", "FP32", 2)], outputs: vec![spec("class", "INT64", 1)] };
        (model.name.as_str() == "digits").then_some(signature)
    }

    fn is_enrolled(&self, device: &DeviceId) -> bool {
        device.as_str() != "gone"
    }
}

pub(super) fn row(device: &str, sequence: u64, model: &str, taken_at: Millis) -> Row {
    Row {
        device: device.parse().unwrap(),
        outbox: OutboxId([7; 16]),
        sequence,
        model: model.parse().unwrap(),
        at: taken_at,
        taken_at,
        site: Some("Lyon".to_owned()),
        reason: Reason::Turn,
        inputs: [0.5_f32, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
        outputs: sequence.to_le_bytes().to_vec(),
    }
}

/// A store and a folder.
pub(super) struct Place {
    home: tempfile::TempDir,
    pub(super) store: SledStore,
    pub(super) files: Files,
}

impl Place {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = super::directory(home.path());
        std::fs::create_dir(&folder).unwrap();
        let store = SledStore::open(&home.path().join("store")).unwrap();
        Self { store, files: Files::in_directory(&folder).unwrap(), home }
    }

    pub(super) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    pub(super) fn add(&self, rows: impl IntoIterator<Item = Row>) {
        let writes: Vec<_> = rows.into_iter().map(|row| record::write(&Change::Row(Box::new(row))).unwrap()).collect();
        self.store.commit(&writes).unwrap();
    }

    /// Seals until nothing waits.
    pub(super) async fn seal(&self) {
        while let Some(batch) = seal::prepare(&self.store, &Digits).unwrap() {
            batch.put(&self.files).await.unwrap();
            batch.remove(&self.store).unwrap();
        }
    }

    /// Device and sequence of every row in every file; fails if one is there twice.
    pub(super) async fn rows(&self) -> BTreeSet<(String, i64)> {
        let mut found = BTreeSet::new();
        for listed in self.files.list().await.unwrap() {
            let bytes = self.files.read(&listed.path).await.unwrap().unwrap();
            let (.., rows) = parquet::read(bytes).unwrap();
            assert_eq!(rows.len() as u64, listed.path.rows, "{}", listed.path);
            for Collected { device, sequence, .. } in rows {
                assert!(found.insert((device.clone(), sequence)), "{device} {sequence} is there twice");
            }
        }
        found
    }
}
