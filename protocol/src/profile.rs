//! Profiles: what values look like, counted in bins whose edges are the baseline's quantiles.
//!
//! ```text
//!  baseline sample ──Bins::of_sorted──> edges   below │ b0 │ b1 │ ... │ b31 │ above   nan  null
//!  values of a window ─────────────────────────> Counter::take
//!  windows of many devices ────────────────────> sums: the same edges, so they are exact
//! ```
//! Bin `i` holds `lower[i] <= x < lower[i + 1]`, the last one `lower[last] <= x <= top`. Values that
//! repeat (integers, categories, a constant) give fewer bins, never empty ones.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::error::Reject;
use crate::frame;
use crate::limit::{BASELINE_BYTES_MAX, BINS_MAX, COLUMNS_MAX, TENSORS_MAX, TEXT_BYTES_MAX};

/// The edges of a column's bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Lower edges, strictly rising.
    pub lower: Vec<f32, BINS_MAX>,
    /// The greatest value, at least the last lower edge.
    pub top: f32,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the first bin.
    Below,
    /// In the bin of this number.
    In(usize),
    /// Above the last bin.
    Above,
    /// It is no number.
    Nan,
}

impl Bins {
    /// Bins at the quantiles `0/32, 1/32 ... 32/32` of a sample (the value at position
    /// `i * n / 32`); `None` if the sample is empty.
    ///
    /// `sorted` holds finite values in rising order.
    #[must_use]
    pub fn of_sorted(sorted: &[f32]) -> Option<Self> {
        let top = *sorted.last()?;
        let mut lower: Vec<f32, BINS_MAX> = Vec::new();
        for bin in 0..BINS_MAX {
            let edge = *sorted.get(bin * sorted.len() / BINS_MAX)?;
            if lower.last().is_none_or(|last| *last < edge) {
                lower.push(edge).ok()?;
            }
        }
        Some(Self { lower, top })
    }

    /// Whether the edges are finite and in order.
    ///
    /// # Errors
    ///
    /// [`Reject::Malformed`].
    pub fn check(&self) -> Result<(), Reject> {
        let rises = self.lower.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let last = self.lower.last().ok_or(Reject::Malformed)?;
        let finite = self.lower.iter().chain([&self.top]).all(|edge| edge.is_finite());
        if rises && finite && *last <= self.top { Ok(()) } else { Err(Reject::Malformed) }
    }

    /// Where a value lies.
    #[must_use]
    pub fn place(&self, value: f32) -> Place {
        if value.is_nan() {
            Place::Nan
        } else if value > self.top {
            Place::Above
        } else {
            match self.lower.partition_point(|edge| *edge <= value) {
                0 => Place::Below,
                bins => Place::In(bins - 1),
            }
        }
    }
}

/// How many values lay where, and their moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Values in each bin.
    pub bins: Vec<u32, BINS_MAX>,
    /// Values below the first.
    pub below: u32,
    /// Values above the last.
    pub above: u32,
    /// Values that are no number.
    pub nan: u32,
    /// Values that were missing.
    pub null: u32,
    /// Least value; of numbers only, as all that follow.
    pub min: f32,
    /// Greatest value.
    pub max: f32,
    /// Mean.
    pub mean: f32,
    /// Sum of the squared distances from the mean (Welford).
    pub m2: f32,
}

impl Counts {
    /// Nothing counted yet, in as many bins as `bins` has.
    #[must_use]
    pub fn new(bins: &Bins) -> Self {
        let mut counts = Self::default();
        counts.bins.extend(bins.lower.iter().map(|_| 0));
        counts
    }

    /// Values that are numbers.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.bins.iter().chain([&self.below, &self.above]).fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Counts that are being made.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    counts: Counts,
    /// Finite values so far: those of the moments.
    finite: u32,
}

impl Counter {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(bins: &Bins) -> Self {
        Self { counts: Counts::new(bins), finite: 0 }
    }

    /// The counts so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts a value: one comparison for each doubling of the bins, one addition, four for the
    /// moments.
    pub fn take(&mut self, bins: &Bins, value: f32) {
        let counts = &mut self.counts;
        let counter = match bins.place(value) {
            Place::Nan => {
                counts.nan = counts.nan.saturating_add(1);
                return;
            }
            Place::Below => &mut counts.below,
            Place::Above => &mut counts.above,
            Place::In(bin) => match counts.bins.get_mut(bin) {
                Some(counter) => counter,
                None => return,
            },
        };
        *counter = counter.saturating_add(1);
        // An infinity has no place in moments.
        if !value.is_finite() {
            return;
        }
        self.finite = self.finite.saturating_add(1);
        if self.finite == 1 {
            (counts.min, counts.max) = (value, value);
        }
        (counts.min, counts.max) = (counts.min.min(value), counts.max.max(value));
        #[expect(clippy::cast_precision_loss, reason = "a count of one window")]
        let share = 1.0 / self.finite as f32;
        // What overflows stays at the largest number.
        let apart = |mean: f32| (value - mean).clamp(f32::MIN, f32::MAX);
        let before = apart(counts.mean);
        counts.mean = (counts.mean + before * share).clamp(f32::MIN, f32::MAX);
        counts.m2 = (counts.m2 + before * apart(counts.mean)).clamp(0.0, f32::MAX);
    }

    /// Counts a value that is missing.
    pub const fn take_null(&mut self) {
        self.counts.null = self.counts.null.saturating_add(1);
    }
}

impl From<Counter> for Counts {
    fn from(counter: Counter) -> Self {
        counter.counts
    }
}

/// Where a column's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Before or behind the model.
    pub side: Side,
    /// Number of the tensor in the signature.
    pub tensor: u8,
    /// What of it.
    pub of: Of,
}

/// Before or behind the model. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Side {
    Input,
    Output,
}

/// What of a row's tensor is counted. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Of {
    /// One element.
    Element(u32),
    /// The mean of all elements.
    Mean,
    /// The variance of all elements.
    Variance,
    /// The number of the greatest element: the class that was predicted.
    Greatest,
}

/// One column of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name for people.
    pub name: String<TEXT_BYTES_MAX>,
    /// Where its values come from.
    pub source: Source,
    /// Its bins.
    pub bins: Bins,
    /// The baseline's own values in them.
    pub counts: Counts,
}

/// What the values of a version looked like where it was made: inputs from a sample of data,
/// outputs from rows held out of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline<'a> {
    /// Number of columns.
    pub columns: u16,
    /// The columns one after the other; read them with [`Baseline::iter`].
    pub bytes: &'a [u8],
}

impl<'a> Baseline<'a> {
    /// Reads the file of a package; every column is checked.
    ///
    /// # Errors
    ///
    /// As [`frame::decode`]; [`Reject::TooLarge`] beyond a limit; [`Reject::Malformed`] for bins out
    /// of order or counts that do not fit them.
    pub fn read(file: &'a [u8]) -> Result<Self, Reject> {
        if file.len() > BASELINE_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        let baseline: Self = frame::decode(file)?;
        if usize::from(baseline.columns) > COLUMNS_MAX {
            return Err(Reject::TooLarge);
        }
        let mut found = 0u16;
        for column in baseline.iter() {
            let column = column?;
            column.bins.check()?;
            let Counts { min, max, mean, m2, .. } = column.counts;
            let fits = column.counts.bins.len() == column.bins.lower.len()
                && [min, max, mean, m2].iter().all(|moment| moment.is_finite())
                && usize::from(column.source.tensor) < TENSORS_MAX
                && !column.name.is_empty();
            found = found.checked_add(1).filter(|_| fits).ok_or(Reject::Malformed)?;
        }
        if found == baseline.columns { Ok(baseline) } else { Err(Reject::Malformed) }
    }

    /// The columns in order; ends at the first that does not read.
    pub fn iter(&self) -> impl Iterator<Item = Result<Column, Reject>> + use<'a> {
        Parts { bytes: self.bytes, part: core::marker::PhantomData }
    }
}

/// The columns of a [`crate::trust::Profile`] in order; ends at the first that does not read.
pub fn columns(bytes: &[u8]) -> impl Iterator<Item = Result<Counts, Reject>> + use<'_> {
    Parts { bytes, part: core::marker::PhantomData }
}

/// Writes one value behind the others of a run, such as a column; returns how many bytes it took.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit.
pub fn append<T: Serialize>(value: &T, buffer: &mut [u8]) -> Result<usize, Reject> {
    postcard::to_slice(value, buffer).map(|written| written.len()).map_err(|_| Reject::TooLarge)
}

struct Parts<'b, T> {
    bytes: &'b [u8],
    part: core::marker::PhantomData<T>,
}

impl<'b, T: Deserialize<'b>> Iterator for Parts<'b, T> {
    type Item = Result<T, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(self.bytes) {
            Ok((value, rest)) => {
                self.bytes = rest;
                Some(Ok(value))
            }
            Err(_) => {
                self.bytes = &[];
                Some(Err(Reject::Malformed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(bins: &Bins, values: impl IntoIterator<Item = f32>) -> Counter {
        let mut counter = Counter::new(bins);
        values.into_iter().for_each(|value| counter.take(bins, value));
        counter
    }

    fn counted(bins: &Bins, values: impl IntoIterator<Item = f32>) -> Counts {
        counter(bins, values).into()
    }

    #[test]
    fn quantiles_share_a_sample_evenly() {
        let sample: Vec<f32, 640> = (0..640u16).map(f32::from).collect();
        let bins = Bins::of_sorted(&sample).unwrap();
        assert_eq!((bins.lower.len(), bins.lower[0], bins.top), (32, 0.0, 639.0));
        let counts = counted(&bins, sample.iter().copied());
        assert!(counts.bins.iter().all(|count| *count == 20), "{counts:?}");
        assert_eq!((counts.below, counts.above, counts.min, counts.max), (0, 0, 0.0, 639.0));
        assert!((counts.mean - 319.5).abs() < 0.01);
        assert!((counts.m2 / 640.0 / 34133.25 - 1.0).abs() < 0.001);
    }

    #[test]
    fn values_that_repeat_make_fewer_bins() {
        let bins = Bins::of_sorted(&[3.0; 5]).unwrap();
        assert_eq!((bins.lower.as_slice(), bins.top), ([3.0].as_slice(), 3.0));
        let places = [2.9, 3.0, 3.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|value| bins.place(value));
        assert_eq!(places, [Place::Below, Place::In(0), Place::Above, Place::Nan, Place::Above, Place::Below]);
        let three = Bins::of_sorted(&[0.0, 0.0, 0.0, 1.0, 1.0, 2.0]).unwrap();
        assert_eq!(counted(&three, [0.0, 0.5, 1.0, 2.0, 2.0]).bins, [2, 1, 2]);
        assert_eq!(Bins::of_sorted(&[]), None);
    }

    #[test]
    fn infinities_and_nothing_do_not_reach_the_moments() {
        let bins = Bins::of_sorted(&[0.0, 1.0]).unwrap();
        let mut counter = counter(&bins, [1.0, f32::INFINITY, f32::NAN, f32::MAX, f32::MIN]);
        counter.take_null();
        let counts = counter.counts();
        assert_eq!((counts.above, counts.below, counts.nan, counts.null, counts.numbers()), (2, 1, 1, 1, 4));
        assert_eq!((counts.min, counts.max), (f32::MIN, f32::MAX));
        assert!(counts.mean.is_finite() && counts.m2.is_finite(), "{counts:?}");
    }

    #[test]
    fn a_baseline_is_checked_column_by_column() {
        let bins = Bins::of_sorted(&[0.0, 1.0]).unwrap();
        let counts = counted(&bins, [0.0, 1.0]);
        let source = Source { side: Side::Input, tensor: 0, of: Of::Element(7) };
        let column = Column { name: String::try_from("pixel").unwrap(), source, bins, counts };
        let (mut bytes, mut file) = ([0; 256], [0; 256]);
        let length = append(&column, &mut bytes).unwrap();
        let write = |columns, bytes: &[u8], file: &mut [u8; 256]| {
            let length = frame::encode(&Baseline { columns, bytes }, file).unwrap().len();
            Baseline::read(&file[..length]).map(|baseline| baseline.iter().count())
        };
        assert_eq!(write(1, &bytes[..length], &mut file), Ok(1));
        assert_eq!(write(2, &bytes[..length], &mut file), Err(Reject::Malformed));
        assert_eq!(write(1, &bytes[..length - 1], &mut file), Err(Reject::Malformed));
        let wrong = Column { counts: Counts::default(), ..column.clone() };
        let length = append(&wrong, &mut bytes).unwrap();
        assert_eq!(write(1, &bytes[..length], &mut file), Err(Reject::Malformed));
        let falling = Bins { lower: [1.0, 0.0].into_iter().collect(), top: 1.0 };
        let length = append(&Column { bins: falling, ..column }, &mut bytes).unwrap();
        assert_eq!(write(1, &bytes[..length], &mut file), Err(Reject::Malformed));
    }

    #[test]
    fn a_column_of_a_window_takes_at_most_80_bytes() {
        let sample: Vec<f32, 64> = (0..64u16).map(f32::from).collect();
        let bins = Bins::of_sorted(&sample).unwrap();
        // A thousand rows a window: about 31 in each bin.
        let counts = counted(&bins, (0..1000).map(|row| (row % 64) as f32));
        let mut buffer = [0; 128];
        let length = append(&counts, &mut buffer).unwrap();
        assert!(length <= 80, "{length}");
        assert_eq!(columns(&buffer[..length]).next(), Some(Ok(counts)));
        assert_eq!(columns(&buffer[..length - 1]).next(), Some(Err(Reject::Malformed)));
    }
}
