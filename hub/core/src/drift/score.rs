//! The population stability index (PSI): how far a window lies from the baseline, and how far it
//! would lie by chance.
//!
//! With buckets *below, b0 ... b31, above, missing*, of which the `K` that hold anything then or now
//! count, `c` of `n` values now and `r` of `m` values then, half a value added to each so that none
//! is empty:
//!
//! ```text
//!   p = (c + 1/2) / (n + K/2)     q = (r + 1/2) / (m + K/2)     PSI = sum (p - q) ln(p / q)
//! ```
//! Both being samples of the same thing, PSI over `1/n + 1/m` is about chi-squared with `K - 1`
//! degrees of freedom. So its mean, `(K - 1)(1/n + 1/m)`, is taken off, and what is left means
//! nothing before it exceeds what chance gives once in 100,000 times (Wilson and Hilferty, 1931).
#![expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact as f64")]

use serde::{Deserialize, Serialize};

use super::{Baseline, Merged, Window};

/// The standard normal value that is exceeded once in 100,000 times.
const RARE: f64 = 4.265;

/// How far one column lies from its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Number of the column.
    pub column: u16,
    /// PSI as it is computed.
    pub psi: f64,
    /// PSI less its bias; may be below zero.
    pub corrected: f64,
    /// What `corrected` must exceed for the column to count as shifted.
    pub threshold: f64,
    /// Values in the window.
    pub n: u64,
    /// Values in the baseline.
    pub m: u64,
}

/// The scores of a window, column by column.
#[must_use]
pub fn all(baseline: &Baseline, window: &Window, effect: f64) -> Vec<Score> {
    let pairs = baseline.columns.iter().zip(&window.columns);
    (0..)
        .zip(pairs)
        .map(|(index, (column, merged))| one(index, &Merged::from(&column.counts), merged, effect))
        .collect()
}

/// The score of one column, both counted in the same bins.
#[must_use]
pub fn one(column: u16, then: &Merged, now: &Merged, effect: f64) -> Score {
    let (reference, current) = (buckets(then), buckets(now));
    let (m, n) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    if n == 0 || m == 0 {
        return Score { column, psi: 0.0, corrected: 0.0, threshold: effect, n, m };
    }
    let psi = psi(&reference, &current);
    let held = reference.iter().zip(&current).filter(|(then, now)| **then > 0 || **now > 0).count();
    let free = held.saturating_sub(1) as f64;
    let unit = 1.0 / n as f64 + 1.0 / m as f64;
    let threshold = effect.max((rare(free) - free) * unit);
    Score { column, psi, corrected: psi - free * unit, threshold, n, m }
}

/// What chi-squared with `free` degrees of freedom exceeds once in 100,000 times.
fn rare(free: f64) -> f64 {
    if free < 1.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * free);
    free * (1.0 - spread + RARE * spread.sqrt()).powi(3)
}

/// PSI of two counts of the same buckets; those that are empty in both do not count.
#[must_use]
pub fn psi(reference: &[u64], current: &[u64]) -> f64 {
    let held = || reference.iter().zip(current).filter(|(then, now)| **then > 0 || **now > 0);
    let half = held().count() as f64 / 2.0;
    let share = |count: u64, all: u64| (count as f64 + 0.5) / (all as f64 + half);
    let (m, n) = (reference.iter().sum(), current.iter().sum());
    let terms = held().map(|(then, now)| {
        let (q, p) = (share(*then, m), share(*now, n));
        (p - q) * (p / q).ln()
    });
    terms.sum()
}

fn buckets(counts: &Merged) -> Vec<u64> {
    let missing = counts.nan.saturating_add(counts.null);
    let mut buckets = vec![counts.below];
    buckets.extend(&counts.bins);
    buckets.extend([counts.above, missing]);
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(bins: &[u64]) -> Merged {
        Merged { bins: bins.to_vec(), ..Merged::default() }
    }

    #[test]
    fn the_index_is_that_of_its_definition() {
        // By hand: K = 2, n = m = 10, p = (8.5, 2.5) / 11 and q = (5.5, 5.5) / 11, two empty buckets.
        let expected = (3.0 / 11.0) * (8.5f64 / 5.5).ln() - (3.0 / 11.0) * (2.5f64 / 5.5).ln();
        assert!((psi(&[0, 5, 5, 0], &[0, 8, 2, 0]) - expected).abs() < 1e-12);
        assert!(psi(&[3, 4], &[30, 40]).abs() < 0.01);
    }

    #[test]
    fn by_chance_the_corrected_score_is_near_zero_and_below_its_threshold() {
        // 32 bins, expected 20 and 5 in each, off by one standard deviation either way.
        let then = counted(&[20; 32]);
        let now: Vec<u64> = (0..32).map(|bin| if bin % 2 == 0 { 7 } else { 3 }).collect();
        let score = one(0, &then, &counted(&now), 0.2);
        assert!(score.psi > 0.1, "uncorrected it looks like a shift: {score:?}");
        assert!(score.corrected < 0.05 && score.threshold > 0.2, "{score:?}");
        let nothing = one(0, &then, &counted(&[0; 32]), 0.2);
        assert_eq!((nothing.n, nothing.m), (0, 640));
    }

    #[test]
    fn a_large_baseline_does_not_make_a_small_window_look_shifted() {
        let then = counted(&[31_250; 32]);
        let now: Vec<u64> = (0..32).map(|bin| 6 + u64::from(bin % 4 == 0)).collect();
        let score = one(0, &then, &counted(&now), 0.2);
        assert!(score.psi < 0.02 && score.corrected < 0.0, "{score:?}");
    }

    #[test]
    fn what_is_rare_is_that_of_the_tables() {
        for (free, quantile, off) in [(1.0, 19.51, 0.12), (10.0, 41.30, 0.02), (33.0, 79.62, 0.005)] {
            assert!((rare(free) / quantile - 1.0f64).abs() < off, "{free}: {}", rare(free));
        }
    }

    #[test]
    fn values_outside_or_missing_count_as_a_shift() {
        let then = counted(&[100; 8]);
        for now in [Merged { above: 400, ..counted(&[50; 8]) }, Merged { nan: 200, null: 200, ..counted(&[50; 8]) }] {
            let score = one(0, &then, &now, 0.2);
            assert!(score.corrected > score.threshold, "{score:?}");
        }
    }
}
