//! Weights and biases as integers: signed bytes around zero, and sums of 32 bits in the units of the products.

use tract_onnx::pb::NodeProto;

use super::scale::Scale;
use crate::ops::quant::lower::graph::int;

/// The greatest weight: its negative is one as well.
pub(super) const WEIGHT_MAX: f32 = 127.0;
/// The greatest bias: a quarter of what 32 bits hold, so that sums of products have room beside it.
const BIAS_MAX: f64 = (1 << 29) as f64;

/// Quantised weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) numbers: Vec<i8>,
    /// One, or one for each output.
    pub(super) scales: Vec<f32>,
    /// As the weights are laid out, the axis of the outputs.
    pub(super) axis: usize,
}

/// The axis of a product's weights along which its outputs lie.
pub(super) fn output_axis(node: &NodeProto) -> usize {
    let is_turned = int(node, "transB").unwrap_or(0) != 0;
    if node.op_type == "Conv" || is_turned { 0 } else { 1 }
}

/// To which place along an axis an element belongs.
pub(super) fn channel_of(element: usize, dims: &[i64], axis: usize) -> Option<usize> {
    let size = |size: &i64| usize::try_from(*size).ok();
    let inner = dims.iter().skip(axis + 1).map(size).try_fold(1, |product: usize, size| product.checked_mul(size?))?;
    element.checked_div(inner)?.checked_rem(size(dims.get(axis)?)?)
}

impl Weights {
    /// Quantises weights, each output by the greatest of its own, or all by the greatest. A scale is greater where
    /// the bias would else not fit; `None` where sizes do not fit together.
    pub(super) fn of(
        floats: &[f32],
        (dims, axis): (&[i64], usize),
        bias: &[f32],
        data: Scale,
        is_whole: bool,
    ) -> Option<Self> {
        let channels = usize::try_from(*dims.get(axis)?).ok()?;
        let count = if is_whole { 1 } else { channels };
        let mut greatest = vec![0.0_f32; count];
        let place = |element: usize| Some(if is_whole { 0 } else { channel_of(element, dims, axis)? });
        for (element, weight) in floats.iter().enumerate() {
            let most = greatest.get_mut(place(element)?)?;
            *most = most.max(weight.abs());
        }
        let all = greatest.iter().copied().fold(0.0, f32::max);
        let mut scales: Vec<f32> = greatest
            .into_iter()
            // Outputs without weights take the scale of the others, in which their bias is told as finely.
            .map(|most| if most > 0.0 { most } else if all > 0.0 { all } else { 1.0 } / WEIGHT_MAX)
            .collect();
        for (output, bias) in bias.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "scales are of single precision")]
            let least = (f64::from(bias.abs()) / (f64::from(data.scale) * BIAS_MAX)) as f32;
            let scale = scales.get_mut(if is_whole { 0 } else { output })?;
            *scale = scale.max(least);
        }
        scales.iter_mut().for_each(|scale| *scale = scale.max(f32::MIN_POSITIVE));
        #[expect(clippy::cast_possible_truncation, reason = "it is clamped to a byte")]
        let number = |(element, weight): (usize, &f32)| {
            let number = (weight / scales.get(place(element)?)?).round_ties_even();
            Some(number.clamp(-WEIGHT_MAX, WEIGHT_MAX) as i8)
        };
        let numbers = floats.iter().enumerate().map(number).collect::<Option<_>>()?;
        Some(Self { numbers, scales, axis })
    }

    /// The scales of the sums, one for each of the weights' scales.
    pub(super) fn sum_scales(&self, data: Scale) -> Vec<f32> {
        self.scales.iter().map(|scale| (scale * data.scale).max(f32::MIN_POSITIVE)).collect()
    }

    /// The bias in the units of the sums.
    pub(super) fn bias(&self, bias: &[f32], data: Scale) -> Vec<i32> {
        let scales = self.sum_scales(data);
        let scale = |output: usize| scales.get(output).or(scales.first()).copied().unwrap_or(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let number =
            |(output, bias): (usize, &f32)| (f64::from(*bias) / f64::from(scale(output))).round_ties_even() as i32;
        bias.iter().enumerate().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Scale = Scale { scale: 0.5, zero: 3 };

    #[test]
    fn every_output_has_the_scale_of_its_greatest_weight() {
        let columns = Weights::of(&[1.0, 0.1, -0.5, 0.2], (&[2, 2], 1), &[], DATA, false).unwrap();
        assert_eq!(columns.scales, [1.0 / 127.0, 0.2 / 127.0]);
        assert_eq!(columns.numbers, [127, 64, -64, 127]);
        let rows = Weights::of(&[1.0, 0.1, -0.5, 0.2], (&[2, 2], 0), &[], DATA, false).unwrap();
        assert_eq!(rows.numbers, [127, 13, -127, 51]);
        let whole = Weights::of(&[1.0, 0.1, -0.5, 0.2], (&[2, 2], 0), &[], DATA, true).unwrap();
        assert_eq!((whole.scales.len(), whole.numbers), (1, vec![127, 13, -64, 25]));
    }

    #[test]
    fn a_bias_is_counted_in_the_units_of_the_sums() {
        let weights = Weights::of(&[1.27, 0.0], (&[2, 1], 0), &[1.0, -2.0], DATA, false).unwrap();
        assert_eq!(weights.scales, [0.01, 0.01], "an output without weights takes the scale of the others");
        assert_eq!(weights.bias(&[1.0, -2.0], DATA), [200, -400]);
    }

    #[test]
    fn a_bias_that_would_not_fit_makes_its_scale_greater() {
        let bias = [3.0e6];
        let weights = Weights::of(&[1e-6], (&[1, 1], 0), &bias, DATA, false).unwrap();
        let number = weights.bias(&bias, DATA)[0];
        assert!((f64::from(number) - BIAS_MAX).abs() < 64.0, "{number}");
        assert_eq!(Weights::of(&[0.0], (&[1, 1], 0), &[], DATA, false).unwrap().numbers, [0]);
    }

    #[test]
    fn elements_know_their_channel() {
        let of = |axis| (0..6).map(|element| channel_of(element, &[2, 3], axis).unwrap()).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec![0, 0, 0, 1, 1, 1], vec![0, 1, 2, 0, 1, 2]));
        assert_eq!(channel_of(0, &[0, 3], 0), None);
    }
}
