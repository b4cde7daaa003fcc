//! The shapes of a network's images, and what is to be multiplied.

use std::vec::Vec;

use super::Unfit;
use super::network::{Network, Operation, Shape, What};

/// Of the input, and of what each layer makes of it.
pub(super) fn of(network: &Network) -> Result<Vec<Shape>, Unfit> {
    let mut at = filled("input", network.input)?;
    let mut shapes = Vec::from([at]);
    for operation in &network.layers {
        at = filled(&operation.name, output_shape(operation, at)?)?;
        shapes.push(at);
    }
    Ok(shapes)
}

/// Multiplications of each layer.
pub(super) fn macs(network: &Network, shapes: &[Shape]) -> impl Iterator<Item = u64> {
    network.layers.iter().zip(shapes.windows(2)).map(|(operation, around)| {
        let [input, output] = around else { return 0 };
        let [rows, columns] = operation.window.kernel.map(u64::from);
        let each = match operation.what {
            What::Convolution(_) => rows * columns * u64::from(input.channels),
            What::Depthwise(_) => rows * columns,
            What::Mean { .. } | What::Greatest => 0,
        };
        output.count() as u64 * each
    })
}

fn filled(layer: &str, shape: Shape) -> Result<Shape, Unfit> {
    if shape.count() == 0 { Err(Unfit::Hollow { layer: layer.into(), shape }) } else { Ok(shape) }
}

fn output_shape(operation: &Operation, input: Shape) -> Result<Shape, Unfit> {
    let along = |size: u16, axis: usize| -> Option<u16> {
        let [kernel, stride, before, after] = operation.window.along(axis);
        let padded = size.checked_add(before)?.checked_add(after)?;
        Some(padded.checked_sub(kernel)?.checked_div(stride)? + 1).filter(|_| kernel > 0)
    };
    let (Some(rows), Some(columns)) = (along(input.rows, 0), along(input.columns, 1)) else {
        return Err(Unfit::Kernel { layer: operation.name.clone() });
    };
    let channels = match &operation.what {
        What::Convolution(weights) => u16::try_from(weights.bias.len()).unwrap_or(u16::MAX),
        What::Depthwise(_) | What::Mean { .. } | What::Greatest => input.channels,
    };
    Ok(Shape { rows, columns, channels })
}
