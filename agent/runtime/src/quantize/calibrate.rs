//! Ranges of values over rows: the least and greatest number, what all but a few lie within, or what loses least.

use std::collections::BTreeMap;

use super::QuantizeError;
use super::probe::{Probe, cut};
use super::scale::{Range, Scale};
use crate::Tensor;
use crate::cpu::Reals;

/// How a range is taken from what was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calibrate {
    /// From the least number to the greatest.
    #[default]
    MinMax,
    /// What all lie within but one of ten thousand numbers: outliers are cut.
    Percentile,
    /// What has the least squared error once it is quantised.
    Mse,
}

impl Calibrate {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MinMax => "minmax",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
        }
    }
}

/// The share of numbers that [`Calibrate::Percentile`] cuts, half of them at each end.
const CUT: f64 = 1e-4;
/// Bins of a histogram: eight for each step of a byte.
const BINS: usize = 2048;
/// Ranges that [`Calibrate::Mse`] tries at each end, from a hundredth of what was seen up.
const TRIES: u32 = 100;
/// How often it looks at both ends.
const ROUNDS: u32 = 2;

/// What was seen of a value.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What its scale is made for.
    pub(super) range: Range,
    /// How many dimensions it has.
    pub(super) rank: usize,
}

/// Scores rows, and takes the range of each value; `tell` hears how many rows were scored, of [`passes`] times all.
///
/// # Errors
///
/// [`QuantizeError`], also where a value is infinite or no number.
pub(super) fn ranges(
    probe: &mut Probe,
    values: &[String],
    rows: &[Tensor],
    how: Calibrate,
    tell: &mut dyn FnMut(usize),
) -> Result<BTreeMap<String, Seen>, QuantizeError> {
    let blocks = probe.blocks(rows)?;
    let mut seen: Vec<Option<Seen>> = vec![None; values.len()];
    for block in &blocks {
        for ((seen, value), name) in seen.iter_mut().zip(probe.values(&cut(rows, block.clone()))?).zip(values) {
            widen(seen, &value).map_err(|row| QuantizeError::Inside { value: name.clone(), row: block.start + row })?;
        }
        tell(block.len());
    }
    let mut seen: Vec<Seen> = seen.into_iter().flatten().collect();
    if how != Calibrate::MinMax {
        let mut counts: Vec<Histogram> = seen.iter().map(|seen| Histogram::new(seen.range)).collect();
        for block in &blocks {
            for (histogram, value) in counts.iter_mut().zip(probe.values(&cut(rows, block.clone()))?) {
                histogram.count(&value.numbers);
            }
            tell(block.len());
        }
        for (seen, histogram) in seen.iter_mut().zip(counts) {
            seen.range = if how == Calibrate::Mse { histogram.least_error() } else { histogram.within(CUT) };
        }
    }
    Ok(values.iter().cloned().zip(seen).collect())
}

/// How often rows are scored for ranges.
pub(super) const fn passes(how: Calibrate) -> usize {
    match how {
        Calibrate::MinMax => 1,
        Calibrate::Percentile | Calibrate::Mse => 2,
    }
}

/// Takes numbers into a range, or gives the row of one that is none.
fn widen(seen: &mut Option<Seen>, value: &Reals) -> Result<(), usize> {
    let first = value.numbers.first().copied().unwrap_or(0.0);
    let mut range = seen.as_ref().map_or(Range { low: first, high: first }, |seen| seen.range);
    let width = value.numbers.len() / value.shape.first().copied().unwrap_or(1).max(1);
    for (element, number) in value.numbers.iter().enumerate() {
        if !number.is_finite() {
            return Err(element / width.max(1));
        }
        range = Range { low: range.low.min(*number), high: range.high.max(*number) };
    }
    *seen = Some(Seen { range, rank: value.shape.len() });
    Ok(())
}

/// The first bin with which more than `least` are counted.
fn edge<'c>(counts: impl Iterator<Item = &'c u64>, least: f64) -> usize {
    let mut sum = 0.0;
    let is_more = |count: &'c u64| {
        sum += *count as f64;
        sum > least
    };
    counts.map(is_more).position(|is_more| is_more).unwrap_or(0)
}

/// Counts of numbers within a range.
struct Histogram {
    range: Range,
    counts: Vec<u64>,
}

impl Histogram {
    fn new(range: Range) -> Self {
        Self { range, counts: vec![0; BINS] }
    }

    fn width(&self) -> f64 {
        (f64::from(self.range.high) - f64::from(self.range.low)) / BINS as f64
    }

    fn count(&mut self, numbers: &[f32]) {
        let (low, width) = (f64::from(self.range.low), self.width());
        for number in numbers {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
            let bin = ((f64::from(*number) - low) / width) as usize;
            if let Some(count) = self.counts.get_mut(bin.min(BINS - 1)) {
                *count += 1;
            }
        }
    }

    /// The middles of bins with their counts.
    fn bins(&self) -> Vec<(f64, f64)> {
        let middle = |bin: usize| f64::from(self.range.low) + (bin as f64 + 0.5) * self.width();
        self.counts.iter().enumerate().map(|(bin, count)| (middle(bin), *count as f64)).collect()
    }

    /// The range without this share of the numbers, half of it cut at each end.
    fn within(&self, share: f64) -> Range {
        let least = self.counts.iter().sum::<u64>() as f64 * share / 2.0;
        let (first, last) = (edge(self.counts.iter(), least), edge(self.counts.iter().rev(), least));
        let last = BINS - 1 - last;
        let at = |bin: usize| f64::from(self.range.low) + bin as f64 * self.width();
        #[expect(clippy::cast_possible_truncation, reason = "ranges are of single precision")]
        let (low, high) = (at(first) as f32, at(last + 1) as f32);
        // The ends of what was seen are known exactly.
        Range {
            low: if first == 0 { self.range.low } else { low },
            high: if last + 1 == BINS { self.range.high } else { high },
        }
    }

    /// The range that loses least of what was seen.
    fn least_error(&self) -> Range {
        let bins: Vec<(f64, f64)> = self.bins().into_iter().filter(|(_, count)| *count > 0.0).collect();
        let error = |range: Range| {
            let scale = Scale::of(range);
            bins.iter().map(|(real, count)| (real - scale.kept(*real)).powi(2) * count).sum::<f64>()
        };
        let mut best = (self.range, error(self.range));
        let mut consider = |range: Range| {
            let error = error(range);
            if error < best.1 {
                best = (range, error);
            }
            best.0
        };
        let mut range = self.range;
        for _ in 0..ROUNDS {
            for high in (1..TRIES).map(|part| self.range.high * part as f32 / TRIES as f32) {
                if self.range.high > 0.0 {
                    range = consider(Range { low: range.low, high });
                }
            }
            for low in (1..TRIES).map(|part| self.range.low * part as f32 / TRIES as f32) {
                if self.range.low < 0.0 {
                    range = consider(Range { low, high: range.high });
                }
            }
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand numbers from -1 to 1, and one far away.
    fn numbers() -> Vec<f32> {
        (0..10_000).map(|at| (at as f32 - 5_000.0) / 5_000.0).chain([40.0]).collect()
    }

    fn histogram(numbers: &[f32]) -> Histogram {
        let low = numbers.iter().copied().fold(f32::INFINITY, f32::min);
        let high = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut histogram = Histogram::new(Range { low, high });
        histogram.count(numbers);
        histogram
    }

    #[test]
    fn a_percentile_cuts_what_lies_far_away() {
        let within = histogram(&numbers()).within(CUT * 4.0);
        assert_eq!(within.low, -1.0);
        assert!((0.99..1.05).contains(&within.high), "{within:?}");
        // One of so few is more than the share that may be cut.
        assert_eq!(histogram(&[0.0, 1.0, 40.0]).within(CUT), Range { low: 0.0, high: 40.0 });
    }

    #[test]
    fn the_least_error_cuts_an_outlier_only_where_that_pays() {
        let many: Vec<f32> = numbers().into_iter().cycle().take(100_000).chain([4.0]).collect();
        let seen = histogram(&many);
        let (whole, found) = (Scale::of(seen.range), Scale::of(seen.least_error()));
        let error =
            |scale: Scale| many.iter().map(|real| (f64::from(*real) - scale.kept(f64::from(*real))).powi(2)).sum();
        let (before, after): (f64, f64) = (error(whole), error(found));
        assert!(after <= before, "{before} {after}");
        let even: Vec<f32> = (0..1000).map(|at| at as f32 / 999.0).collect();
        assert!(histogram(&even).least_error().high > 0.95);
    }

    #[test]
    fn a_value_that_is_always_the_same_has_a_range() {
        let same = histogram(&[3.0; 5]);
        assert_eq!((same.within(CUT), same.least_error()), (Range { low: 3.0, high: 3.0 }, same.range));
        let zeros = histogram(&[0.0; 5]);
        assert_eq!((zeros.within(CUT).high, zeros.least_error().high), (0.0, 0.0));
    }

    #[test]
    fn what_is_no_number_is_found_with_its_row() {
        let value = Reals { shape: vec![2, 2], numbers: vec![1.0, 2.0, 3.0, f32::NAN] };
        assert_eq!(widen(&mut None, &value), Err(1));
    }
}
