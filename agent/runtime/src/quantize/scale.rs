//! Scales and zero points of activations: `real = (byte - zero) * scale`, with bytes from -128 to 127.

use serde::Serialize;

/// Steps between the least byte and the greatest.
const STEPS: f64 = 255.0;
/// What a value has that is always zero: any step would do.
const STEP_OF_ZEROS: f32 = 1.0 / 255.0;

/// How a tensor of signed bytes is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scale {
    /// A step.
    pub scale: f32,
    /// The byte that is zero.
    #[serde(rename = "zero_point")]
    pub zero: i8,
}

/// The least and the greatest number of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The least.
    pub low: f32,
    /// The greatest.
    pub high: f32,
}

impl Scale {
    /// The finest that holds a range, and zero exactly.
    pub(super) fn of(range: Range) -> Self {
        let (low, high) = (f64::from(range.low.min(0.0)), f64::from(range.high.max(0.0)));
        #[expect(clippy::cast_possible_truncation, reason = "scales are of single precision")]
        let scale = ((high - low) / STEPS) as f32;
        if !scale.is_normal() {
            return Self { scale: STEP_OF_ZEROS, zero: 0 };
        }
        let zero = (f64::from(i8::MIN) - low / f64::from(scale)).round_ties_even();
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped to a byte")]
        let zero = zero.clamp(f64::from(i8::MIN), f64::from(i8::MAX)) as i8;
        Self { scale, zero }
    }

    /// What comes back of a number that was quantised.
    pub(super) fn kept(self, real: f64) -> f64 {
        let (scale, zero) = (f64::from(self.scale), f64::from(self.zero));
        let byte = ((real / scale).round_ties_even() + zero).clamp(f64::from(i8::MIN), f64::from(i8::MAX));
        (byte - zero) * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(low: f32, high: f32) -> Scale {
        Scale::of(Range { low, high })
    }

    #[test]
    fn a_range_fills_the_bytes_and_holds_zero() {
        assert_eq!(of(0.0, 2.55), Scale { scale: 0.01, zero: -128 });
        assert_eq!(of(-2.55, 0.0), Scale { scale: 0.01, zero: 127 });
        assert_eq!(of(1.0, 2.55), of(0.0, 2.55));
        assert_eq!(of(-1.0, 1.55), Scale { scale: 0.01, zero: -28 });
        assert_eq!(of(0.0, 0.0), Scale { scale: STEP_OF_ZEROS, zero: 0 });
        assert_eq!(of(0.0, f32::MIN_POSITIVE), of(0.0, 0.0));
        assert!(of(f32::MIN, f32::MAX).scale.is_finite());
    }

    #[test]
    fn what_is_kept_lies_within_half_a_step_or_at_the_end() {
        let scale = of(-1.0, 1.55);
        for (real, kept) in [(0.0, 0.0), (0.004, 0.0), (0.006, 0.01), (9.0, 1.55), (-9.0, -1.0)] {
            assert!((scale.kept(real) - kept).abs() < 1e-6, "{real}");
        }
    }
}
