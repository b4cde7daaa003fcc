//! One step of one row: curves over the gates, eight numbers at a time.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "gates are as many times `hidden` numbers as the caller made them; vectors must not cross calls"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Simd, f32x8};

use crate::ops::kernels::curves::{sigmoid, tanh};

/// A curve through which gates go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Curve {
    Sigmoid,
    Tanh,
    Relu,
    HardSigmoid(f32, f32),
    Affine(f32, f32),
    LeakyRelu(f32),
    Softsign,
}

impl Curve {
    /// By ONNX's name, with its defaults.
    pub(super) fn named(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "hardsigmoid" => Self::HardSigmoid(alpha.unwrap_or(0.2), beta.unwrap_or(0.5)),
            "affine" => Self::Affine(alpha.unwrap_or(1.0), beta.unwrap_or(0.0)),
            "leakyrelu" => Self::LeakyRelu(alpha.unwrap_or(0.01)),
            "softsign" => Self::Softsign,
            _ => return None,
        })
    }

    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: f32x8<S>, clip: f32) -> f32x8<S> {
        let splat = |value: f32| f32x8::splat(simd, value);
        let x = splat(clip).min(splat(-clip).max(x));
        match self {
            Self::Sigmoid => sigmoid(simd, x),
            Self::Tanh => tanh(simd, x),
            Self::Relu => splat(0.0).max(x),
            Self::HardSigmoid(alpha, beta) => splat(1.0).min(splat(0.0).max(x * alpha + beta)),
            Self::Affine(alpha, beta) => x * alpha + beta,
            Self::LeakyRelu(alpha) => x.simd_lt(splat(0.0)).select(x * alpha, x),
            Self::Softsign => x / (x.abs() + 1.0),
        }
    }
}

/// What all steps have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) curves: &'a [Curve],
    pub(super) clip: f32,
    pub(super) is_forget_coupled: bool,
    pub(super) peepholes: Option<&'a [f32]>,
}

/// Eight numbers, or as many as there are and zeros.
#[inline(always)]
fn take<S: Simd>(simd: S, from: &[f32], at: usize) -> f32x8<S> {
    let mut values = [0.0; 8];
    match from[at..].first_chunk::<8>() {
        Some(whole) => values = *whole,
        None => values[..from.len() - at].copy_from_slice(&from[at..]),
    }
    f32x8::simd_from(simd, values)
}

#[inline(always)]
fn put<S: Simd>(values: f32x8<S>, to: &mut [f32], at: usize) {
    let values = values.to_array();
    match to[at..].first_chunk_mut::<8>() {
        Some(whole) => *whole = values,
        None => {
            let left = to.len() - at;
            to[at..].copy_from_slice(&values[..left]);
        }
    }
}

/// Gates i, o, f, c.
#[inline(always)]
pub(super) fn lstm<S: Simd>(simd: S, rules: Rules<'_>, gates: &[f32], h: &mut [f32], c: &mut [f32]) {
    let size = h.len();
    let [f, g, last] = [rules.curves[0], rules.curves[1], rules.curves[2]];
    let gate = |index: usize| &gates[index * size..(index + 1) * size];
    let peep = |index: usize| rules.peepholes.map(|all| &all[index * size..(index + 1) * size]);
    let mut at = 0;
    while at < size {
        let before = take(simd, c, at);
        let with = |simd: S, index: usize, peephole: usize, state: f32x8<S>| {
            let sum = take(simd, gate(index), at);
            match peep(peephole) {
                Some(weights) => take(simd, weights, at).mul_add(state, sum),
                None => sum,
            }
        };
        let input = f.of(simd, with(simd, 0, 0, before), rules.clip);
        let forget = if rules.is_forget_coupled {
            f32x8::splat(simd, 1.0) - input
        } else {
            f.of(simd, with(simd, 2, 2, before), rules.clip)
        };
        let cell = forget * before + input * g.of(simd, take(simd, gate(3), at), rules.clip);
        let output = f.of(simd, with(simd, 1, 1, cell), rules.clip);
        put(cell, c, at);
        put(output * last.of(simd, cell, f32::INFINITY), h, at);
        at += 8;
    }
}

/// Gates z, r and h of the input; `recurrent` has what came of the last h, for h after the reset.
#[inline(always)]
pub(super) fn gru<S: Simd>(simd: S, rules: Rules<'_>, gates: &[f32], recurrent: &[f32], h: &mut [f32]) {
    let size = h.len();
    let mut at = 0;
    while at < size {
        let sum = |simd: S, index: usize| {
            take(simd, &gates[index * size..(index + 1) * size], at)
                + take(simd, &recurrent[index * size..(index + 1) * size], at)
        };
        let update = rules.curves[0].of(simd, sum(simd, 0), rules.clip);
        let reset = rules.curves[0].of(simd, sum(simd, 1), rules.clip);
        let inner = take(simd, &recurrent[2 * size..3 * size], at);
        let new = reset.mul_add(inner, take(simd, &gates[2 * size..3 * size], at));
        let new = rules.curves[1].of(simd, new, rules.clip);
        let before = take(simd, h, at);
        put(update.mul_add(before - new, new), h, at);
        at += 8;
    }
}

/// The first half of a GRU that resets before the product: `reset` becomes r ⊙ h, `gates` keep z.
#[inline(always)]
pub(super) fn gru_reset<S: Simd>(simd: S, rules: Rules<'_>, gates: &mut [f32], h: &[f32], reset: &mut [f32]) {
    let size = h.len();
    let mut at = 0;
    while at < size {
        let update = rules.curves[0].of(simd, take(simd, &gates[..size], at), rules.clip);
        let opened = rules.curves[0].of(simd, take(simd, &gates[size..2 * size], at), rules.clip);
        put(update, &mut gates[..size], at);
        put(opened * take(simd, h, at), reset, at);
        at += 8;
    }
}

/// The second half: `new` has the sum for h.
#[inline(always)]
pub(super) fn gru_update<S: Simd>(simd: S, rules: Rules<'_>, gates: &[f32], new: &[f32], h: &mut [f32]) {
    let size = h.len();
    let mut at = 0;
    while at < size {
        let new = rules.curves[1].of(simd, take(simd, new, at), rules.clip);
        let (update, before) = (take(simd, &gates[..size], at), take(simd, h, at));
        put(update.mul_add(before - new, new), h, at);
        at += 8;
    }
}

/// A single gate.
#[inline(always)]
pub(super) fn rnn<S: Simd>(simd: S, rules: Rules<'_>, gates: &[f32], h: &mut [f32]) {
    let mut at = 0;
    while at < h.len() {
        put(rules.curves[0].of(simd, take(simd, gates, at), rules.clip), h, at);
        at += 8;
    }
}
