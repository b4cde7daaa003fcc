//! The one source of chance of a run: the same seed draws the same.

use rand::{RngExt as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;

/// Draws.
#[derive(Clone, Debug)]
pub(crate) struct Chance(XorShiftRng);

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        Self(XorShiftRng::seed_from_u64(seed))
    }

    /// True once in `n` times on average.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n.max(1)) == 0
    }

    /// True `per_mille` times of a thousand on average.
    pub(crate) fn per_mille(&mut self, per_mille: u32) -> bool {
        self.0.random_range(0..1000) < per_mille
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// A place in a list of this length, which is not empty.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length.max(1))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.random()
    }
}
