//! Exponential, sigmoid and hyperbolic tangent, eight at a time.
//!
//! The exponential is the polynomial of Cephes (S. Moshier, `expf`); relative errors stay below 1e-6 where the
//! result is a normal number.
#![expect(clippy::inline_always, reason = "vectors must not cross calls")]

use fearless_simd::prelude::*;
use fearless_simd::{Simd, f32x8, i32x8};

/// `e` to the power of each.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: f32x8<S>) -> f32x8<S> {
    /// Beyond these the result is no normal number; the exponent's bits would overflow.
    const LIMITS: [f32; 2] = [-87.336_54, 88.375_97];
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TERMS: [f32; 5] = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let splat = |value| f32x8::splat(simd, value);
    let is_none = x.simd_lt(splat(LIMITS[0]));
    let x = splat(LIMITS[1]).min(splat(LIMITS[0]).max(x));
    let power = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = power.mul_add(splat(-LN_2[0]), x);
    let rest = power.mul_add(splat(-LN_2[1]), rest);
    let mut sum = splat(1.987_569_1e-4);
    for term in TERMS {
        sum = sum.mul_add(rest, splat(term));
    }
    let value = sum.mul_add(rest * rest, rest) + 1.0;
    let bits: i32x8<S> = (power.to_int::<i32x8<S>>() + 127) << 23;
    is_none.select(splat(0.0), value * bits.bitcast::<f32x8<S>>())
}

/// Shares of `e` to the power of each number of a row.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(simd: S, row: &[f32], out: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = f32x8::splat(simd, 0.0);
    for (from, to) in row.chunks(8).zip(out.chunks_mut(8)) {
        // What is not there counts nothing.
        let mut values = [f32::NEG_INFINITY; 8];
        values.iter_mut().zip(from).for_each(|(value, from)| *value = from - most);
        let powers = exp(simd, f32x8::simd_from(simd, values));
        total += powers;
        to.iter_mut().zip(powers.to_array()).for_each(|(to, power)| *to = power);
    }
    let share = 1.0 / total.reduce_sum();
    out.iter_mut().for_each(|value| *value *= share);
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: f32x8<S>) -> f32x8<S> {
    f32x8::splat(simd, 1.0) / (exp(simd, -x) + 1.0)
}

/// The hyperbolic tangent: a quotient of polynomials in the square, as in Eigen's `ptanh`.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: f32x8<S>) -> f32x8<S> {
    /// Beyond this it is one, as nearly as single precision tells.
    const LIMIT: f32 = 9.0;
    const ABOVE: [f32; 6] =
        [2.000_188e-13, -8.604_672e-11, 5.122_297_3e-8, 1.485_722_35e-5, 6.372_619_5e-4, 4.893_524_6e-3];
    const BELOW: [f32; 3] = [1.185_347_1e-4, 2.268_434_7e-3, 4.893_525e-3];
    let splat = |value| f32x8::splat(simd, value);
    let x = splat(LIMIT).min(splat(-LIMIT).max(x));
    let square = x * x;
    let mut above = splat(-2.760_768_4e-16);
    for term in ABOVE {
        above = above.mul_add(square, splat(term));
    }
    let mut below = splat(1.198_258_4e-6);
    for term in BELOW {
        below = below.mul_add(square, splat(term));
    }
    // The last step of rounding may lead beyond.
    splat(1.0).min(splat(-1.0).max(above * x / below))
}

#[cfg(test)]
pub(crate) mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    /// Numbers between -1 and 1, other ones for each seed.
    pub(crate) fn numbers(seed: usize, count: usize) -> Vec<f32> {
        let mut state = seed as u64 + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / ((1_u64 << 23) as f32) - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[inline(always)]
    fn all<S: Simd>(simd: S, x: f32) -> [f32; 3] {
        let x = f32x8::splat(simd, x);
        [exp(simd, x)[3], sigmoid(simd, x)[3], tanh(simd, x)[3]]
    }

    #[test]
    fn curves_are_near_those_of_twice_the_precision() {
        for step in -40_000..=40_000 {
            let x = step as f32 * 2e-3 + 1e-4;
            let wide = f64::from(x);
            let want = [wide.exp(), 1.0 / (1.0 + (-wide).exp()), wide.tanh()];
            let got = dispatch!(Level::new(), simd => all(simd, x));
            for (got, want) in got.into_iter().zip(want) {
                assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs(), "at {x}: {got} {want}");
            }
        }
    }

    #[test]
    fn the_ends_are_finite_and_no_number_stays_none() {
        let at = |x| dispatch!(Level::new(), simd => all(simd, x));
        assert_eq!(at(f32::INFINITY)[1..], [1.0, 1.0]);
        assert_eq!(at(f32::NEG_INFINITY)[2], -1.0);
        assert!(at(f32::NEG_INFINITY)[1] < 1e-37);
        assert!(at(1e4)[0].is_finite());
        assert!(at(f32::NAN).iter().all(|value| value.is_nan()));
    }
}
