//! Weights, biases and scales in the order in which the engine reads them.

use std::vec::Vec;

use super::network::{Weights, What};
use super::{Step, Unfit};
use crate::layer::WORD_BYTES;
use crate::requant::is_scale;
use crate::twin::Word;

/// Sums of lanes have 21 bits: so much may the weights of a channel come to, each taken as positive.
const LANE_WEIGHTS_MAX: usize = 8191;

/// The weights of an output channel, or of eight lanes, and what comes behind them.
pub(super) struct Group {
    pub(super) weights: Vec<Word>,
    pub(super) parameters: Vec<Word>,
}

/// A layer's weights.
pub(super) struct Packed {
    pub(super) groups: Vec<Group>,
    /// All channels have the first group's.
    pub(super) shared: bool,
    /// Output channels, or eights of them.
    pub(super) channels: usize,
}

pub(super) fn pack(step: &Step<'_>) -> Result<Packed, Unfit> {
    let [rows, columns] = step.operation.window.kernel;
    let taps = usize::from(rows) * usize::from(columns);
    match &step.operation.what {
        What::Convolution(weights) => convolution(step, weights, taps),
        What::Depthwise(weights) => depthwise(step, weights, taps),
        What::Mean { sum_scale } => {
            let zero = i32::from(step.zero_point) * i32::try_from(taps).unwrap_or(i32::MAX);
            let parameter = parameter(step, zero.wrapping_neg(), *sum_scale)?;
            step.large("places of its kernel", taps, LANE_WEIGHTS_MAX)?;
            Ok(of_ones(step, taps, parameter))
        }
        What::Greatest => Ok(of_ones(step, taps, parameter(step, 0, 1.0)?)),
    }
}

fn of_ones(step: &Step<'_>, taps: usize, parameter: Word) -> Packed {
    let group = Group { weights: std::vec![[1; WORD_BYTES]; taps], parameters: std::vec![parameter; WORD_BYTES] };
    Packed { groups: Vec::from([group]), shared: true, channels: step.input.layout.column_stride.into() }
}

fn convolution(step: &Step<'_>, weights: &Weights, taps: usize) -> Result<Packed, Unfit> {
    let inputs = usize::from(step.input.layout.shape.channels);
    counted(step, weights, taps * inputs)?;
    let rows = weights.values.chunks(taps * inputs);
    let groups = rows.zip(weights.bias.iter().zip(&weights.scales)).map(|(row, (bias, scale))| {
        let words = row.chunks(inputs).flat_map(|pixel| pixel.chunks(WORD_BYTES)).map(word).collect();
        let bias = bias.wrapping_sub(zero(step, row.iter()));
        Ok(Group { weights: words, parameters: Vec::from([parameter(step, bias, *scale)?]) })
    });
    Ok(Packed { groups: groups.collect::<Result<_, Unfit>>()?, shared: false, channels: weights.bias.len() })
}

fn depthwise(step: &Step<'_>, weights: &Weights, taps: usize) -> Result<Packed, Unfit> {
    let channels = usize::from(step.input.layout.shape.channels);
    if weights.bias.len() != channels {
        return Err(count(step, "biases", channels, weights.bias.len()));
    }
    counted(step, weights, taps)?;
    let of = |channel: usize| weights.values.get(channel * taps..(channel + 1) * taps).unwrap_or_default();
    let lanes = |first: usize| first..(first + WORD_BYTES).min(channels);
    let groups = (0..channels).step_by(WORD_BYTES).map(|first| {
        let words = (0..taps).map(|tap| {
            let bytes: Vec<i8> = lanes(first).map(|channel| of(channel).get(tap).copied().unwrap_or(0)).collect();
            word(&bytes)
        });
        let mut parameters = std::vec![parameter(step, 0, 1.0)?; WORD_BYTES];
        for (channel, to) in lanes(first).zip(&mut parameters) {
            let size = of(channel).iter().map(|weight| usize::from(weight.unsigned_abs())).sum();
            step.large("the sum of a channel's weights", size, LANE_WEIGHTS_MAX)?;
            let (bias, scale) = (weights.bias.get(channel), weights.scales.get(channel));
            let bias = bias.copied().unwrap_or(0).wrapping_sub(zero(step, of(channel).iter()));
            *to = parameter(step, bias, scale.copied().unwrap_or(0.0))?;
        }
        Ok(Group { weights: words.collect(), parameters })
    });
    Ok(Packed { groups: groups.collect::<Result<_, Unfit>>()?, shared: false, channels: channels.div_ceil(WORD_BYTES) })
}

/// What the input's zero point adds to a sum.
fn zero<'a>(step: &Step<'_>, weights: impl Iterator<Item = &'a i8>) -> i32 {
    i32::from(step.zero_point).wrapping_mul(weights.map(|weight| i32::from(*weight)).sum())
}

fn counted(step: &Step<'_>, weights: &Weights, each: usize) -> Result<(), Unfit> {
    let outputs = weights.bias.len();
    if weights.scales.len() != outputs {
        return Err(count(step, "scales", outputs, weights.scales.len()));
    }
    if weights.values.len() != outputs * each || outputs == 0 {
        return Err(count(step, "weights", outputs * each, weights.values.len()));
    }
    Ok(())
}

fn count(step: &Step<'_>, what: &'static str, expected: usize, got: usize) -> Unfit {
    Unfit::Count { layer: step.operation.name.clone(), what, expected, got }
}

fn parameter(step: &Step<'_>, bias: i32, scale: f32) -> Result<Word, Unfit> {
    if !is_scale(scale) {
        return Err(Unfit::Scale { layer: step.operation.name.clone(), scale });
    }
    let [a, b, c, d] = bias.to_le_bytes();
    let [e, f, g, h] = scale.to_bits().to_le_bytes();
    Ok([a, b, c, d, e, f, g, h])
}

/// Up to eight weights, zeros behind them.
fn word(weights: &[i8]) -> Word {
    let mut word = [0; WORD_BYTES];
    for (to, weight) in word.iter_mut().zip(weights) {
        *to = weight.to_ne_bytes()[0];
    }
    word
}
