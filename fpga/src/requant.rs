//! int32 → int8, as the engine and onnxruntime's `QLinear` operators do it.

/// Multiplies a sum by a scale in `f32`, rounds to the nearest integer (ties to even), adds the zero point
/// and clamps to `lowest..=highest`.
///
/// Both the conversion of the sum and the product are rounded to 24 bits first, which is what a CPU does;
/// `rtl/bw_requant.v` does the same with integers. The scale is positive and normal.
///
/// Source: IEEE 754-2019, 4.3.1 and 5.9.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the first is the rounding that is meant; what is truncated lies in -512..=512"
)]
pub fn requantize(sum: i32, scale: f32, zero_point: i8, lowest: i8, highest: i8) -> i8 {
    /// Added and taken away again, it leaves no fraction: at 1.5 * 2^23 two floats are one apart.
    const INTEGERS: f32 = 12_582_912.0;
    /// What no zero point brings back into eight bits.
    const FAR: f32 = 512.0;

    let value = (sum as f32 * scale).clamp(-FAR, FAR);
    let rounded = (value + INTEGERS) - INTEGERS;
    let whole = rounded as i32 + i32::from(zero_point);
    whole.clamp(i32::from(lowest), i32::from(highest)) as i8
}

/// Whether the engine multiplies by this scale as a CPU does: positive and normal.
#[must_use]
pub fn is_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_even_side() {
        for (sum, expected) in [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (-3, -2), (-5, -2)] {
            assert_eq!(requantize(sum, 0.5, 0, -128, 127), expected, "{sum} / 2");
        }
    }

    #[test]
    fn what_is_far_ends_at_the_bounds() {
        assert_eq!(requantize(i32::MAX, 1.0, 0, -128, 127), 127);
        assert_eq!(requantize(i32::MIN, 1e30, 127, -128, 127), -128);
        assert_eq!(requantize(1, 1e-30, 3, -128, 127), 3);
        assert_eq!(requantize(-400, 1.0, 127, -128, 100), -128);
        assert_eq!(requantize(50, 1.0, 0, 0, 6), 6);
    }

    #[test]
    fn sums_of_more_than_24_bits_are_rounded_first() {
        // 2^24 + 1 is no float: it becomes 2^24, and the half that would have rounded up is gone.
        let scale = 1.5 / 16_777_216.0;
        assert_eq!(requantize((1 << 24) + 1, scale, 0, -128, 127), 2);
        assert_eq!(requantize((1 << 24) + 3, scale, 0, -128, 127), 2);
        assert_eq!(requantize(-(1 << 24) - 1, scale, 0, -128, 127), -2);
    }
}
