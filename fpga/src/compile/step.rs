//! A layer and what is around it, as the engine reads it.

use std::ops::Range;
use std::vec::Vec;

use super::Unfit;
use super::jobs::{Band, Part};
use super::network::{Network, Operation, Shape, What, Window};
use super::places::{self, Image, Rows};
use super::weights;
use crate::layer::{BANK_WORDS, Kind, Layer, Parameters};

/// A layer and what is around it.
pub(super) struct Step<'a> {
    pub(super) operation: &'a Operation,
    pub(super) input: &'a Image,
    pub(super) output: &'a Image,
    pub(super) zero_point: i8,
    pub(super) pad_word: usize,
    /// Words of a bank below those of padding.
    pub(super) room: usize,
}

impl Step<'_> {
    /// `got` if it is no more than `most`.
    pub(super) fn large(&self, what: &'static str, got: usize, most: usize) -> Result<u16, Unfit> {
        let layer = || self.operation.name.clone();
        match u16::try_from(got) {
            Ok(fits) if got <= most => Ok(fits),
            Ok(_) | Err(_) => Err(Unfit::Large { layer: layer(), what, got, most }),
        }
    }

    /// The layer in bands, and its weights.
    pub(super) fn part(&self) -> Result<Part, Unfit> {
        let packed = weights::pack(self)?;
        let whole = self.layer()?;
        let rows = places::rows(self.operation, self.input, self.output, self.room).unwrap_or_default();
        Ok(Part { bands: rows.iter().map(|rows| self.band(&whole, rows)).collect(), packed })
    }

    /// So many rows of the layer's output.
    fn band(&self, whole: &Layer, rows: &Rows) -> Band {
        let [_, stride, before, _] = self.operation.window.along(0);
        let Range { start, end } = rows.made;
        // What lies above the first row that is needed is left out, as the first row counts to 127 only.
        let above = (start * stride).saturating_sub(before).min(whole.height.into());
        let below = whole.height.saturating_sub(u8::try_from(above).unwrap_or(u8::MAX));
        let (input, output) = (&self.input.layout, &self.output.layout);
        let layer = Layer {
            rows: end - start,
            rows_apart: if end - start == 1 { 1 } else { whole.rows_apart },
            first_row: minus(before.saturating_sub(start * stride)),
            height: rows.input.map_or(below, |tile| below.min(u8::try_from(tile.layout.shape.rows).unwrap_or(u8::MAX))),
            from: rows.input.map_or_else(|| input.from + above * input.row_stride(), |tile| tile.layout.from),
            out: rows.output.map_or_else(|| output.from + start * output.row_stride(), |tile| tile.layout.from),
            ..*whole
        };
        Band { layer, input: rows.input, output: rows.output }
    }

    /// All of it, without its places and its weights.
    fn layer(&self) -> Result<Layer, Unfit> {
        let (operation, input, output) = (self.operation, &self.input.layout, &self.output.layout);
        let Window { kernel: [kernel_rows, kernel_columns], strides: [rows_apart, columns_apart], before, .. } =
            operation.window;
        let kind = match operation.what {
            What::Convolution(_) => Kind::Sums,
            What::Depthwise(_) | What::Mean { .. } => Kind::Lanes,
            What::Greatest => Kind::Greatest,
        };
        let Shape { rows, columns, .. } = output.shape;
        // Of one row or column nothing is apart.
        let rows_apart = if rows == 1 { 1 } else { rows_apart };
        let columns_apart = if columns == 1 { 1 } else { columns_apart };
        self.large("rows of the kernel", kernel_rows.into(), 256)?;
        self.large("columns of the kernel", kernel_columns.into(), 256)?;
        self.large("rows of the output", rows.into(), 256)?;
        self.large("columns of the output", columns.into(), 256)?;
        self.large("its stride along columns", columns_apart.into(), 2)?;
        self.large("its stride along rows", rows_apart.into(), 15)?;
        let height = self.large("rows of the input", input.shape.rows.into(), 255)?;
        let width = self.large("columns of the input", input.shape.columns.into(), 255)?;
        let [above, left] = before;
        self.large("its padding", above.max(left).into(), 127)?;
        let words = if kind == Kind::Sums { input.column_stride } else { 1 };
        let greatest = kind == Kind::Greatest;
        Ok(Layer {
            kind,
            pair: kind == Kind::Sums && columns > 1 && columns_apart == 1,
            last: false,
            parameters: Parameters::Inline,
            rows,
            columns,
            kernel_rows,
            kernel_columns,
            rows_apart,
            columns_apart,
            first_row: minus(above.into()),
            first_column: minus(left.into()),
            height: u8::try_from(height).unwrap_or(u8::MAX),
            width: u8::try_from(width).unwrap_or(u8::MAX),
            pad_word: self.large("the word of padding", self.pad_word, BANK_WORDS)?,
            channels: 0,
            words: self.large("words of a pixel", words.into(), 1024)?,
            weights: 0,
            weights_step: 0,
            from: 0,
            row_stride: input.row_stride(),
            column_stride: input.column_stride,
            out: 0,
            out_stride: output.column_stride,
            zero_point: if greatest { 0 } else { operation.output.zero_point },
            lowest: operation.output.lowest,
            highest: operation.output.highest,
        })
    }
}

/// First row or column under the kernel.
fn minus(padding: u16) -> i8 {
    i8::try_from(padding).map_or(i8::MIN, |padding| -padding)
}

fn is_padded(window: &Window) -> bool {
    window.before != [0, 0] || window.after != [0, 0]
}

/// What stands for nothing: zero, or what is greater than nothing.
pub(super) fn pad_value(operation: &Operation, zero_point: i8) -> i8 {
    if matches!(operation.what, What::Greatest) { i8::MIN } else { zero_point }
}

/// All values that padding has.
pub(super) fn padding_values(network: &Network) -> Vec<i8> {
    let mut values = Vec::new();
    let mut zero_point = network.zero_point;
    for operation in &network.layers {
        let value = pad_value(operation, zero_point);
        if is_padded(&operation.window) && !values.contains(&value) {
            values.push(value);
        }
        zero_point = zero_point_after(operation, zero_point);
    }
    values
}

/// The zero point of what a layer makes: the greatest value keeps that of its input.
pub(super) const fn zero_point_after(operation: &Operation, before: i8) -> i8 {
    if matches!(operation.what, What::Greatest) { before } else { operation.output.zero_point }
}
