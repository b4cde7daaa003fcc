//! Counts of one window: rows, failures, and the time of calls in logarithmic buckets.

use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::trust::Scores;

/// Four buckets per doubling: a percentile is at most 19 % too high, in 512 bytes.
const PER_DOUBLING: u32 = 4;
const BUCKETS: usize = 128;

/// One window of one model.
#[derive(Clone, Debug)]
pub(super) struct Window {
    rows: u32,
    errors: u32,
    times: [u32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        Self { rows: 0, errors: 0, times: [0; BUCKETS] }
    }
}

impl Window {
    pub(super) fn scored(&mut self, rows: u32, micros: u32) {
        self.rows = self.rows.saturating_add(rows);
        if let Some(count) = self.times.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) const fn failed(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    /// Calls that were answered.
    pub(super) fn calls(&self) -> u32 {
        self.times.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The lower end of the bucket in which the 95th percentile lies: it took at least so long.
    pub(super) fn p95_at_least(&self) -> u32 {
        lower(self.bucket_of(95))
    }

    /// What to tell; nothing if nothing was scored.
    pub(super) fn scores(&self, name: &ModelName, version: Version) -> Option<Scores> {
        if self.rows == 0 && self.errors == 0 {
            return None;
        }
        let (p50_us, p95_us) = (self.percentile(50), self.percentile(95));
        Some(Scores { name: name.clone(), version, rows: self.rows, errors: self.errors, p50_us, p95_us })
    }

    /// The upper end of the bucket in which the percentile lies.
    fn percentile(&self, percent: u64) -> u32 {
        if self.calls() == 0 { 0 } else { upper(self.bucket_of(percent)) }
    }

    /// The bucket in which the percentile lies.
    fn bucket_of(&self, percent: u64) -> usize {
        let wanted = (u64::from(self.calls()) * percent).div_ceil(100);
        let mut below = 0;
        let reached = self.times.iter().position(|count| {
            below += u64::from(*count);
            below >= wanted
        });
        reached.unwrap_or_default()
    }
}

/// The bucket of a time: exact below four microseconds, then four per doubling.
fn bucket(micros: u32) -> usize {
    if micros < PER_DOUBLING {
        return micros as usize;
    }
    let doubling = micros.ilog2() - 2;
    let quarter = (micros >> doubling) - PER_DOUBLING;
    (PER_DOUBLING * (doubling + 1) + quarter) as usize
}

/// The shortest time in a bucket.
fn lower(index: usize) -> u32 {
    index.checked_sub(1).map_or(0, |before| upper(before).saturating_add(1))
}

/// The longest time in a bucket.
fn upper(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if index < PER_DOUBLING {
        return index;
    }
    let (doubling, quarter) = (index / PER_DOUBLING - 1, index % PER_DOUBLING);
    let end = u64::from(PER_DOUBLING + quarter + 1) << doubling;
    u32::try_from(end - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_every_time_and_are_narrow() {
        for micros in (0..10_000).chain([1 << 20, u32::MAX - 1, u32::MAX]) {
            let top = upper(bucket(micros));
            assert!(bucket(micros) < BUCKETS && top >= micros && lower(bucket(micros)) <= micros, "{micros}");
            assert!(f64::from(top) <= f64::from(micros) * 1.25, "{micros} {top}");
        }
    }

    #[test]
    fn percentiles_come_from_calls_not_rows() {
        let mut window = Window::default();
        for micros in 1..=100 {
            window.scored(10, micros);
        }
        let scores = window.scores(&"digits".parse().unwrap(), Version::FIRST).unwrap();
        assert_eq!(scores.rows, 1000);
        assert!((50..60).contains(&scores.p50_us) && (95..112).contains(&scores.p95_us), "{scores:?}");
    }
}
