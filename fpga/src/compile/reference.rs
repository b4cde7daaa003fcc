//! What a network answers, computed in the plainest way: what everything faster is held to.

use std::vec::Vec;

use super::network::{Network, Operation, Shape, Weights, What, Window};
use crate::requant::requantize;

/// The shape that a layer makes of one.
fn shape(layer: &Operation, input: Shape) -> Shape {
    let Window { kernel, strides, before, after } = layer.window;
    let along = |size: u16, kernel: u16, stride: u8, [before, after]: [u8; 2]| {
        let padded = u32::from(size) + u32::from(before) + u32::from(after);
        let steps = padded.saturating_sub(u32::from(kernel)) / u32::from(stride.max(1));
        u16::try_from(steps + 1).unwrap_or(u16::MAX)
    };
    let rows = along(input.rows, kernel[0], strides[0], [before[0], after[0]]);
    let columns = along(input.columns, kernel[1], strides[1], [before[1], after[1]]);
    let channels = match &layer.what {
        What::Convolution(weights) => u16::try_from(weights.scales.len()).unwrap_or(u16::MAX),
        What::Depthwise(_) | What::Mean { .. } | What::Greatest => input.channels,
    };
    Shape { rows, columns, channels }
}

/// An image `[rows, columns, channels]`.
struct Image<'v> {
    shape: Shape,
    values: &'v [i8],
}

impl Image<'_> {
    /// The value at a place; `None` outside.
    fn at(&self, row: i32, column: i32, channel: u16) -> Option<i8> {
        let (row, column) = (u16::try_from(row).ok()?, u16::try_from(column).ok()?);
        let Shape { rows, columns, channels } = self.shape;
        let place = usize::from(row) * usize::from(columns) + usize::from(column);
        let is_inside = row < rows && column < columns;
        is_inside.then(|| self.values.get(place * usize::from(channels) + usize::from(channel)).copied())?
    }
}

/// The last layer's values for one input `[rows, columns, channels]`.
///
/// Weights that are missing count as 0.
#[must_use]
pub fn run(network: &Network, input: &[i8]) -> Vec<i8> {
    let (mut at, mut zero_point, mut values) = (network.input, network.zero_point, input.to_vec());
    for layer in &network.layers {
        let out = shape(layer, at);
        let image = Image { shape: at, values: &values };
        let mut made = Vec::with_capacity(out.count());
        for row in 0..out.rows {
            for column in 0..out.columns {
                for channel in 0..out.channels {
                    made.push(value(layer, &image, zero_point, [row, column, channel]));
                }
            }
        }
        (at, zero_point, values) = (out, layer.output.zero_point, made);
    }
    values
}

/// One value of a layer's output.
fn value(layer: &Operation, image: &Image<'_>, zero_point: i8, [row, column, channel]: [u16; 3]) -> i8 {
    let [height, width] = layer.window.kernel;
    let [down, right] = layer.window.strides.map(i32::from);
    let [above, left] = layer.window.before.map(i32::from);
    let under = |y: u16, x: u16, channel: u16| {
        image.at(i32::from(row) * down - above + i32::from(y), i32::from(column) * right - left + i32::from(x), channel)
    };
    // What lies outside is zero.
    let real =
        |y: u16, x: u16, channel: u16| under(y, x, channel).map_or(0, |value| i32::from(value) - i32::from(zero_point));
    let kernel = || (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let number = |y: u16, x: u16| {
        usize::from(channel) * usize::from(height) * usize::from(width)
            + usize::from(y) * usize::from(width)
            + usize::from(x)
    };
    let weight = |weights: &Weights, at: usize| weights.values.get(at).map_or(0, |weight| i32::from(*weight));
    let done = |weights: &Weights, sum: i32| {
        let bias = weights.bias.get(usize::from(channel)).copied().unwrap_or(0);
        (sum.wrapping_add(bias), weights.scales.get(usize::from(channel)).copied().unwrap_or(0.0))
    };
    let (sum, scale) = match &layer.what {
        What::Convolution(weights) => {
            let inputs = image.shape.channels;
            let products = kernel().flat_map(|(y, x)| {
                (0..inputs).map(move |input| {
                    real(y, x, input) * weight(weights, number(y, x) * usize::from(inputs) + usize::from(input))
                })
            });
            done(weights, products.fold(0, i32::wrapping_add))
        }
        What::Depthwise(weights) => {
            let products = kernel().map(|(y, x)| real(y, x, channel) * weight(weights, number(y, x)));
            done(weights, products.fold(0, i32::wrapping_add))
        }
        What::Mean { sum_scale } => (kernel().map(|(y, x)| real(y, x, channel)).sum(), *sum_scale),
        What::Greatest => {
            let greatest = kernel().filter_map(|(y, x)| under(y, x, channel)).max().unwrap_or(i8::MIN);
            return greatest.clamp(layer.output.lowest, layer.output.highest);
        }
    };
    let Operation { output, .. } = layer;
    requantize(sum, scale, output.zero_point, output.lowest, output.highest)
}
