//! What arrived, against what the device said that it confirmed.

use std::collections::BTreeMap;

use crate::records::Number;

/// What one run of the device said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// It may have pushed through this place.
    pub(crate) pushing: u32,
    /// It pushed and flushed through this place.
    pub(crate) flushed: u32,
    /// It has pushed all it was to push, and nothing waits; so many numbers were given in all.
    pub(crate) empty: Option<u64>,
}

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last: Option<Number>,
    through: BTreeMap<u32, u32>,
    pub(crate) arrived: u64,
    /// Came again, or after one that follows it.
    pub(crate) double: u64,
    /// Left out before one that came.
    pub(crate) skipped: u64,
    /// The device told that it dropped some.
    pub(crate) gaps: u64,
}

impl Ledger {
    /// Takes the next record that the hub took.
    pub(crate) fn take(&mut self, carried: Option<Number>) {
        let Some(number) = carried else {
            self.gaps += 1;
            return;
        };
        let last = self.last.unwrap_or(Number { run: 0, place: 0 });
        if number <= last {
            self.double += 1;
            return;
        }
        let before = if number.run == last.run { last.place } else { 0 };
        self.skipped += u64::from(number.place - before - 1);
        self.last = Some(number);
        self.through.insert(number.run, number.place);
        self.arrived += 1;
    }

    /// Through which place of a run it arrived.
    pub(crate) fn through(&self, run: u32) -> u32 {
        self.through.get(&run).copied().unwrap_or(0)
    }
}
