//! About how long a row takes on other machines: an order of magnitude from the model's work, to choose
//! hardware by before a device is on the desk. Only a measurement there says more.
//!
//! A core's peak is its clock times the multiply-adds of single precision that its vector unit does in a
//! cycle, as its maker states them; small networks reach about a quarter of that. To it comes what each
//! operator costs by itself.

use crate::validate::Effort;

/// What a core does, as a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardwareClass {
    /// What people call it.
    pub name: &'static str,
    /// Cycles in a second.
    clock: f64,
    /// Multiply-adds of single precision in a cycle, at most.
    width: f64,
    /// Microseconds that an operator takes beside its work.
    each_us: f64,
}

/// Share of the peak that small networks reach.
const REACHED: f64 = 0.25;

/// From servers down to microcontrollers.
pub const CLASSES: [HardwareClass; 6] = [
    HardwareClass { name: "x86-64 with AVX2, 3.0 GHz", clock: 3.0e9, width: 16.0, each_us: 1.0 },
    HardwareClass { name: "Cortex-A76, 2.4 GHz", clock: 2.4e9, width: 8.0, each_us: 2.0 },
    HardwareClass { name: "Cortex-A72, 1.5 GHz", clock: 1.5e9, width: 4.0, each_us: 4.0 },
    HardwareClass { name: "Cortex-A53, 1.4 GHz", clock: 1.4e9, width: 2.0, each_us: 8.0 },
    HardwareClass { name: "Cortex-A7, 0.9 GHz", clock: 0.9e9, width: 1.0, each_us: 20.0 },
    HardwareClass { name: "Cortex-M4F, 120 MHz", clock: 0.12e9, width: 0.5, each_us: 20.0 },
];

impl HardwareClass {
    /// About how many microseconds one row takes on one core.
    #[must_use]
    pub fn row_us(&self, effort: &Effort) -> f64 {
        let work = effort.work as f64 / (self.clock * self.width * REACHED) * 1e6;
        work + effort.nodes as f64 * self.each_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_classes_take_longer_and_more_work_does_too() {
        let small = Effort { nodes: 3, work: 10_000, held: 0 };
        let times: Vec<f64> = CLASSES.iter().map(|class| class.row_us(&small)).collect();
        assert!(times.is_sorted(), "{times:?}");
        let large = Effort { work: 20_000_000, ..small };
        assert!(CLASSES.iter().all(|class| class.row_us(&large) > class.row_us(&small)));
    }
}
