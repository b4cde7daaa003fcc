//! Which rows are collected: what the package asks for, capped by what the device allows.

use bellwether_protocol::policy::Collect;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Reason;

/// The span that rows are counted in.
const MINUTE: Millis = Millis::from_secs(60);

/// Chooses rows of one model. Deterministic: the same rows at the same times give the same choice.
#[derive(Clone, Debug)]
pub struct Sampler {
    collect: Collect,
    since_turn: u32,
    minute: Option<Millis>,
    taken: u16,
}

impl Sampler {
    /// A sampler for a package that asks for `collect`, on a device that lets `rows_per_minute_max`
    /// rows out.
    #[must_use]
    pub fn new(collect: Collect, rows_per_minute_max: u16) -> Self {
        let rows_per_minute_max = collect.rows_per_minute_max.min(rows_per_minute_max);
        Self { collect: Collect { rows_per_minute_max, ..collect }, since_turn: 0, minute: None, taken: 0 }
    }

    /// Whether it ever chooses a row.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.collect.is_on()
    }

    /// Whether to keep the row just scored, and why; `certainty` is its most probable answer, per
    /// mille, where the model gives probabilities.
    pub fn choose(&mut self, now: Millis, certainty: Option<u16>) -> Option<Reason> {
        if !self.is_on() {
            return None;
        }
        self.since_turn = self.since_turn.saturating_add(1);
        let is_turn = self.collect.one_in > 0 && self.since_turn >= self.collect.one_in;
        let is_uncertain = certainty.is_some_and(|certainty| certainty < self.collect.uncertain_below);
        let reason = match (is_turn, is_uncertain) {
            (true, _) => Reason::Turn,
            (false, true) => Reason::Uncertain,
            (false, false) => return None,
        };
        if self.minute.is_none_or(|since| now.since(since) >= MINUTE || now < since) {
            (self.minute, self.taken) = (Some(now), 0);
        }
        // Rows of doubt leave half of the minute to turns, or nothing unbiased would be left.
        let most = self.collect.rows_per_minute_max;
        let room = if is_turn || self.collect.one_in == 0 { most } else { most.div_ceil(2) };
        if self.taken >= room {
            return None;
        }
        self.taken += 1;
        if is_turn {
            self.since_turn = 0;
        }
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECT: Collect = Collect { one_in: 3, uncertain_below: 600, rows_per_minute_max: 4 };

    fn chosen(sampler: &mut Sampler, rows: u64, at: u64, certainty: u16) -> usize {
        (0..rows).filter(|row| sampler.choose(Millis(at + row), Some(certainty)).is_some()).count()
    }

    #[test]
    fn turns_and_doubts_are_kept_up_to_the_cap() {
        let mut sampler = Sampler::new(COLLECT, 100);
        let reasons: [_; 4] =
            core::array::from_fn(|row| sampler.choose(Millis(0), Some(if row == 1 { 500 } else { 900 })));
        assert_eq!(reasons, [None, Some(Reason::Uncertain), Some(Reason::Turn), None]);
        assert_eq!(chosen(&mut sampler, 100, 1, 900), 2, "four a minute");
        assert_eq!(chosen(&mut sampler, 100, 60_000, 900), 4);
    }

    #[test]
    fn doubts_leave_half_of_the_minute_to_turns() {
        let mut sampler = Sampler::new(Collect { one_in: 10, ..COLLECT }, 100);
        let (mut turns, mut doubts) = (0, 0);
        for _ in 0..100 {
            match sampler.choose(Millis(0), Some(100)) {
                Some(Reason::Turn) => turns += 1,
                Some(Reason::Uncertain) => doubts += 1,
                None => {}
            }
        }
        assert_eq!((turns, doubts), (2, 2));
    }

    #[test]
    fn the_device_caps_what_the_package_asks_for() {
        assert_eq!(chosen(&mut Sampler::new(COLLECT, 1), 100, 0, 100), 1);
        let mut off = Sampler::new(COLLECT, 0);
        assert!(!off.is_on() && chosen(&mut off, 100, 0, 100) == 0);
        assert!(!Sampler::new(Collect::default(), 100).is_on());
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_stop_it() {
        let mut sampler = Sampler::new(COLLECT, 100);
        assert_eq!(chosen(&mut sampler, 100, 1_000_000, 900), 4);
        assert_eq!(chosen(&mut sampler, 100, 0, 900), 4);
    }
}
