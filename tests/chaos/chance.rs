//! What chance decides, from one seed: the same seed wants the same things in the same order, even if
//! the processes they happen to are faster or slower.

use std::time::Duration;

/// The variable that names a seed.
const SEED: &str = "BELLWETHER_CHAOS_SEED";

/// Numbers from a seed.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    /// A time of `least` to `most` milliseconds.
    pub(crate) fn millis(&mut self, least: usize, most: usize) -> Duration {
        Duration::from_millis((least + self.below(most - least + 1)) as u64)
    }

    /// One of these.
    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        from.get(self.below(from.len()))
    }
}

/// The seed that the environment names, or a new one.
pub(crate) fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SEED} is `{text}`: expected a number")),
        Err(_) => bellwether_tests::files::fresh() % 1_000_000_000,
    }
}

/// How long chaos lasts in all.
pub(crate) fn duration() -> Duration {
    const NAME: &str = "BELLWETHER_CHAOS_SECONDS";
    let seconds = std::env::var(NAME)
        .map_or(90, |text| text.parse().unwrap_or_else(|_| panic!("{NAME} is `{text}`: expected a number of seconds")));
    Duration::from_secs(seconds)
}
