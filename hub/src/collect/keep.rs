//! What is deleted when: days that are over, then the oldest while there are too many bytes.

use std::collections::BTreeMap;

use super::Fault;
use super::files::{Files, Listed};
use super::place::Place;
use crate::date::Date;

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Days kept besides today.
    pub(crate) days: u64,
    /// Bytes of all files.
    pub(crate) bytes_max: u64,
}

/// Deletes what is beyond the bounds.
///
/// # Errors
///
/// As the files; what is left is tried again the next time.
pub(crate) async fn sweep(files: &Files, today: Date, bounds: Bounds) -> Result<(), Fault> {
    let mut deleted: BTreeMap<Place, (u64, u64)> = BTreeMap::new();
    let mut outcome = Ok(());
    for listed in condemned(files.list().await?, today, bounds) {
        if let Err(fault) = files.remove(&listed.path).await {
            outcome = Err(fault.into());
            break;
        }
        let (count, bytes) = deleted.entry(listed.path.place).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(listed.bytes);
    }
    for (Place { model, date }, (count, bytes)) in deleted {
        tracing::info!(%model, %date, files = count, bytes, "collected rows deleted: beyond what is kept");
    }
    outcome
}

/// The files beyond the bounds, oldest first.
fn condemned(mut listed: Vec<Listed>, today: Date, bounds: Bounds) -> Vec<Listed> {
    listed.sort_by(|a, b| (a.path.place.date, a.written_ms, &a.path).cmp(&(b.path.place.date, b.written_ms, &b.path)));
    let first = today.before(bounds.days);
    let mut bytes = listed.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    listed.retain(|file| {
        let beyond = file.path.place.date < first || bytes > bounds.bytes_max;
        if beyond {
            bytes = bytes.saturating_sub(file.bytes);
        }
        beyond
    });
    listed
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::time::Millis;

    use super::super::fixtures::{DAY, Place, row};
    use super::*;

    const FOR_EVER: Bounds = Bounds { days: u64::MAX, bytes_max: u64::MAX };

    async fn five_days() -> Place {
        let place = Place::new();
        place.add((0..5).map(|day| row("a", day, "digits:1", Millis(DAY.0 + day * 24 * 3600 * 1000))));
        place.seal().await;
        place
    }

    async fn left(place: &Place) -> Vec<i64> {
        place.rows().await.into_iter().map(|(_, sequence)| sequence).collect()
    }

    fn today() -> Date {
        "2026-11-28".parse().unwrap()
    }

    #[tokio::test]
    async fn days_that_are_over_are_deleted() {
        let place = five_days().await;
        sweep(&place.files, today(), FOR_EVER).await.unwrap();
        assert_eq!(left(&place).await, [0, 1, 2, 3, 4]);
        sweep(&place.files, today(), Bounds { days: 2, ..FOR_EVER }).await.unwrap();
        assert_eq!(left(&place).await, [2, 3, 4]);
    }

    #[tokio::test]
    async fn beyond_the_bytes_the_oldest_goes_first() {
        let place = five_days().await;
        let each = place.files.list().await.unwrap()[0].bytes;
        sweep(&place.files, today(), Bounds { bytes_max: each * 3 + 1, ..FOR_EVER }).await.unwrap();
        assert_eq!(left(&place).await, [2, 3, 4]);
        sweep(&place.files, today(), Bounds { bytes_max: 0, ..FOR_EVER }).await.unwrap();
        assert_eq!(left(&place).await, [] as [i64; 0]);
    }

    #[tokio::test]
    async fn what_is_not_ours_is_never_deleted() {
        let place = five_days().await;
        let foreign = [
            "packages/model",
            "collected/notes.txt",
            "collected/model=digits/version=1/date=1999-01-01/notes.parquet",
            "collected/model=digits/version=1/date=2026-11-24/a.parquet",
            "collected/model=..%2F../version=1/date=2020-01-01/a.parquet",
        ];
        for path in foreign {
            let path = place.home().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"kept").unwrap();
        }
        sweep(&place.files, today(), Bounds { days: 0, bytes_max: 0 }).await.unwrap();
        assert_eq!(left(&place).await, [] as [i64; 0]);
        for path in foreign {
            assert_eq!(std::fs::read(place.home().join(path)).unwrap(), b"kept", "{path}");
        }
        assert!(place.home().join("store").exists());
    }
}
