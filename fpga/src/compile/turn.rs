//! Rows for columns: a network that lies on its side.
//!
//! The engine takes two columns at once, of an odd number the last alone, and its strides are short along
//! columns only. So 25 x 5 is quicker as 5 x 25, and fits a smaller memory.

use std::vec::Vec;

use super::network::{Network, Operation, Shape, Weights, What, Window};

pub(super) const fn shape(shape: Shape) -> Shape {
    Shape { rows: shape.columns, columns: shape.rows, channels: shape.channels }
}

/// `[rows, columns, channels]` to `[columns, rows, channels]`.
pub(super) fn values(shape: Shape, values: &[i8]) -> Vec<i8> {
    let Shape { rows, columns, channels } = shape;
    let pixel = |row: u16, column: u16| {
        let at = (usize::from(row) * usize::from(columns) + usize::from(column)) * usize::from(channels);
        values.get(at..at + usize::from(channels)).unwrap_or_default()
    };
    (0..columns).flat_map(|column| (0..rows).flat_map(move |row| pixel(row, column))).copied().collect()
}

/// The network whose input is turned, and so all of its images; `None` if that would change its output, or
/// if its weights are not as many as they should be.
pub(super) fn network(network: &Network, shapes: &[Shape]) -> Option<Network> {
    let output = shapes.last()?;
    if output.rows != 1 || output.columns != 1 {
        return None;
    }
    let layers = network.layers.iter().zip(shapes).map(|(layer, input)| operation(layer, *input));
    Some(Network { input: shape(network.input), layers: layers.collect::<Option<_>>()?, ..*network })
}

fn operation(layer: &Operation, input: Shape) -> Option<Operation> {
    let what = match &layer.what {
        What::Convolution(of) => What::Convolution(weights(of, layer.window.kernel, input.channels)?),
        What::Depthwise(of) => What::Depthwise(weights(of, layer.window.kernel, 1)?),
        What::Mean { .. } | What::Greatest => layer.what.clone(),
    };
    let Window { kernel: [rows, columns], strides: [down, right], before: [above, left], after: [below, behind] } =
        layer.window;
    let window =
        Window { kernel: [columns, rows], strides: [right, down], before: [left, above], after: [behind, below] };
    Some(Operation { name: layer.name.clone(), window, what, output: layer.output })
}

fn weights(weights: &Weights, [rows, columns]: [u16; 2], channels: u16) -> Option<Weights> {
    let kernel = Shape { rows, columns, channels };
    if weights.values.len() != weights.bias.len() * kernel.count() {
        return None;
    }
    let turned = weights.values.chunks(kernel.count()).flat_map(|of| values(kernel, of)).collect();
    Some(Weights { values: turned, bias: weights.bias.clone(), scales: weights.scales.clone() })
}
