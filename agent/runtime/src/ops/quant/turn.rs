//! Moves the channels of images from second to last, or back, where quantised operators meet others.

use tract_onnx::prelude::{DatumType, IntoTValue as _, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::{Datum, bail};

use super::node::{Fact, Kernel, Slots};
use super::number::{filled, with_type};
use crate::ops::image;

/// The way that channels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    to_last: bool,
}

impl Turn {
    /// To last.
    pub(super) const LAST: Self = Self { to_last: true };
    /// Back to second.
    pub(super) const SECOND: Self = Self { to_last: false };

    /// The same of a list of sizes.
    pub(super) fn sizes<T: Clone>(&self, sizes: &[T]) -> TVec<T> {
        image::Turn { to_last: self.to_last }.sizes(sizes)
    }

    /// The same of a tensor.
    ///
    /// # Errors
    ///
    /// Its type, or it is no image.
    pub(super) fn tensor(&self, tensor: &Tensor) -> TractResult<Tensor> {
        let kind = tensor.datum_type().unquantized();
        if kind == DatumType::I32 {
            self.typed::<i32>(tensor)
        } else if kind == DatumType::F32 {
            self.typed::<f32>(tensor)
        } else {
            with_type!(kind, Q => self.typed::<Q>(tensor))
        }
    }

    fn typed<T: Datum + Copy>(&self, tensor: &Tensor) -> TractResult<Tensor> {
        let ([_, second, .., last], space) = (tensor.shape(), tensor.shape().iter().skip(1).product::<usize>()) else {
            bail!("an image of shape {:?}", tensor.shape());
        };
        let rows = if self.to_last { *second } else { space / (*last).max(1) };
        let view = tensor.try_as_plain_ram()?;
        let from = view.as_slice::<T>()?;
        filled(&self.sizes(tensor.shape()), |to| {
            turn(from, (rows, space / rows.max(1)), to);
            Ok(())
        })
    }
}

impl Kernel for Turn {
    fn name(&self) -> &'static str {
        if self.to_last { "QuantisedToLast" } else { "QuantisedToSecond" }
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let (kind, shape) = inputs.need(0)?;
        if shape.len() < 3 {
            bail!("an image of shape {shape:?}");
        }
        Ok(tvec![(*kind, self.sizes(shape))])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec![self.tensor(inputs.need(0)?)?.into_tvalue()])
    }
}

/// Turns matrices `[rows, columns]`, one after another, into `[columns, rows]`.
fn turn<T: Copy>(from: &[T], (rows, columns): (usize, usize), to: &mut [T]) {
    let size = rows * columns;
    for (from, to) in from.chunks_exact(size).zip(to.chunks_exact_mut(size)) {
        match rows {
            1 => to.copy_from_slice(from),
            2 => few::<T, 2>(from, columns, to),
            3 => few::<T, 3>(from, columns, to),
            4 => few::<T, 4>(from, columns, to),
            _ => tiled(from, (rows, columns), to),
        }
    }
}

/// A picture's few colours.
fn few<T: Copy, const ROWS: usize>(from: &[T], columns: usize, to: &mut [T]) {
    let (pixels, _) = to.as_chunks_mut::<ROWS>();
    for (row, values) in from.chunks_exact(columns).enumerate() {
        for (pixel, value) in pixels.iter_mut().zip(values) {
            if let Some(to) = pixel.get_mut(row) {
                *to = *value;
            }
        }
    }
}

/// In tiles that stay near.
fn tiled<T: Copy>(from: &[T], (rows, columns): (usize, usize), to: &mut [T]) {
    const TILE: usize = 16;
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let to = to.get_mut(column * rows + top..(column + 1) * rows).unwrap_or_default();
                let from = from.get(top * columns + column..).unwrap_or_default();
                for (to, from) in to.iter_mut().take(TILE).zip(from.iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_back_gives_what_was_there() {
        for shape in
            [&[2, 1, 5][..], &[1, 2, 3, 7], &[3, 3, 4, 5], &[2, 4, 9], &[2, 37, 5, 7], &[2, 0, 3], &[1, 5, 1, 1]]
        {
            let count: usize = shape.iter().product();
            let numbers: Vec<i32> = (0..count).map(|number| i32::try_from(number).unwrap()).collect();
            let first = Tensor::from_shape(shape, &numbers).unwrap();
            let last = Turn::LAST.tensor(&first).unwrap();
            assert_eq!(last, first.clone().move_axis(1, shape.len() - 1).unwrap());
            assert_eq!(Turn::SECOND.tensor(&last).unwrap(), first);
        }
    }
}
