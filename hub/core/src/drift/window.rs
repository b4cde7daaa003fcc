//! A window: the merged counts of every device of a group.
#![expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact as f64")]

use bellwether_protocol::profile::{Counts, columns};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Profile;
use serde::{Deserialize, Serialize};

use super::{Baseline, Key};

/// Most rows one device tells of in one profile: what is beyond is made up.
const PROFILE_ROWS_MAX: u32 = 10_000_000;

/// Merged counts of a group since an instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Whose.
    pub key: Key,
    /// When it was opened, by the hub's clock.
    pub opened_at: Millis,
    /// Rows, counted by the profiles of the first column.
    pub rows: u64,
    /// One for each column of the baseline, in its order.
    pub columns: Vec<Merged>,
}

/// Counts of one column over many devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// Values in each bin.
    pub bins: Vec<u64>,
    /// Values below the first.
    pub below: u64,
    /// Values above the last.
    pub above: u64,
    /// Values that are no number.
    pub nan: u64,
    /// Values that were missing.
    pub null: u64,
    /// Least value; `None` before the first number.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// Mean of the numbers.
    pub mean: f64,
    /// Sum of their squared distances from the mean.
    pub m2: f64,
}

impl Window {
    pub(super) fn open(key: Key, baseline: &Baseline, now: Millis) -> Self {
        let none = |bins: usize| Merged { bins: vec![0; bins], ..Merged::default() };
        let columns = baseline.columns.iter().map(|column| none(column.bins.lower.len())).collect();
        Self { key, opened_at: now, rows: 0, columns }
    }

    pub(super) fn add(&mut self, profile: &Profile<'_>, counted: &[Counts]) {
        if profile.first == 0 {
            self.rows = self.rows.saturating_add(u64::from(profile.rows));
        }
        for (merged, counts) in self.columns.iter_mut().skip(usize::from(profile.first)).zip(counted) {
            merged.add(counts);
        }
    }
}

impl Merged {
    /// Adds counts of the same bins; in any order the sums are the same.
    pub fn add(&mut self, counts: &Counts) {
        let (before, added) = (self.numbers() as f64, f64::from(counts.numbers()));
        for (sum, count) in self.bins.iter_mut().zip(&counts.bins) {
            *sum = sum.saturating_add(u64::from(*count));
        }
        for (sum, count) in [
            (&mut self.below, counts.below),
            (&mut self.above, counts.above),
            (&mut self.nan, counts.nan),
            (&mut self.null, counts.null),
        ] {
            *sum = sum.saturating_add(u64::from(count));
        }
        let sane = [counts.min, counts.max, counts.mean, counts.m2].iter().all(|moment| moment.is_finite());
        if added == 0.0 || !sane {
            return;
        }
        let (min, max) = (f64::from(counts.min), f64::from(counts.max));
        self.min = Some(self.min.map_or(min, |least| least.min(min)));
        self.max = Some(self.max.map_or(max, |most| most.max(max)));
        // Chan, Golub and LeVeque (1979): the moments of two samples put together.
        let (all, apart) = (before + added, f64::from(counts.mean) - self.mean);
        self.mean += apart * added / all;
        self.m2 += f64::from(counts.m2) + apart * apart * before * added / all;
    }

    /// Values that are numbers.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.bins.iter().chain([&self.below, &self.above]).fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl From<&Counts> for Merged {
    fn from(counts: &Counts) -> Self {
        let mut merged = Self { bins: vec![0; counts.bins.len()], ..Self::default() };
        merged.add(counts);
        merged
    }
}

/// The counts of a profile, if each fits its column of the baseline and tells of as many values as
/// there were rows.
pub(super) fn fitting(baseline: &Baseline, profile: &Profile<'_>) -> Option<Vec<Counts>> {
    let counted = columns(profile.columns).collect::<Result<Vec<Counts>, _>>().ok()?;
    let expected = baseline.columns.get(usize::from(profile.first)..)?.get(..counted.len())?;
    let fits = |(counts, column): (&Counts, &bellwether_protocol::profile::Column)| {
        let told = counts.numbers().checked_add(counts.nan).and_then(|sum| sum.checked_add(counts.null));
        counts.bins.len() == column.bins.lower.len() && told == Some(profile.rows)
    };
    let fit = profile.rows <= PROFILE_ROWS_MAX && !counted.is_empty() && counted.iter().zip(expected).all(fits);
    fit.then_some(counted)
}
