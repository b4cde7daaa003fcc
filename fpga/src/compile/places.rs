//! Where images lie in the banks, and in which order their rows are made.
//!
//! Images lie at the lower end of the banks and at the upper end in turn. If what a layer reads and what it
//! makes do not fit beside each other, they may overlap: its output is made in bands of rows, each over rows
//! of the input that nobody needs any more.
//!
//! ```text
//!            up, the last rows first                  down, the first rows first
//!   word 0   input 0 1 2 3 4                          output 0 1 2 3 4
//!                     output 0 1 2 3 4                        input 0 1 2 3 4
//! ```

use std::ops::Range;
use std::vec::Vec;

use super::Unfit;
use super::layout::Layout;
use super::network::{Network, Operation, Shape, What};

/// The input of each layer, and the output of the last.
pub(super) fn places(shapes: &[Shape], network: &Network, room: usize) -> Result<Vec<Layout>, Unfit> {
    let mut layouts: Vec<Layout> = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        let maker = number.checked_sub(1).and_then(|number| network.layers.get(number));
        let name = || maker.map_or("input", |layer| &layer.name).into();
        let layout = Layout::new(*shape, 0);
        let got = layout.words();
        let Some(above) = room.checked_sub(got) else {
            return Err(Unfit::Large { layer: name(), what: "words of an image in a bank", got, most: room });
        };
        // Lanes of eight channels stay apart where whole pixels lie above each other.
        let upper = above - above % usize::from(layout.column_stride);
        let from = if number % 2 == 0 { 0 } else { upper };
        let layout = Layout { from: u16::try_from(from).unwrap_or(u16::MAX), ..layout };
        if let (Some(input), Some(maker)) = (layouts.last(), maker)
            && bands(maker, input, &layout).is_none()
        {
            return Err(Unfit::Tight { layer: name(), input: input.words(), output: got, most: room });
        }
        layouts.push(layout);
    }
    Ok(layouts)
}

/// Rows of the output that are made at a time, in the order in which they are; `None` if they would be
/// written over what is still read.
pub(super) fn bands(operation: &Operation, input: &Layout, output: &Layout) -> Option<Vec<Range<u16>>> {
    let rows = output.shape.rows;
    let rules = Rules { operation, input, output };
    let is_apart = rules.made(rows) <= input.from.into() || rules.made(0) >= rules.end();
    if is_apart || (rules.are_lanes() && (0..rows).all(|row| rules.made(row + 1) <= rules.first_read(row))) {
        return Some(std::iter::once(0..rows).collect());
    }
    let mut bands = Vec::new();
    if output.from < input.from {
        let mut from = 0;
        while from < rows {
            let to = (from + 1..=rows).rev().find(|to| rules.made(*to) <= rules.first_read(from))?;
            bands.push(from..to);
            from = to;
        }
    } else {
        let mut to = rows;
        while to > 0 {
            let from = (0..to).find(|from| rules.made(*from) >= rules.last_read(to - 1))?;
            bands.push(from..to);
            to = from;
        }
    }
    Some(bands)
}

/// Words between which a layer reads and writes.
struct Rules<'a> {
    operation: &'a Operation,
    input: &'a Layout,
    output: &'a Layout,
}

impl Rules<'_> {
    /// Eight channels of the output depend on the same eight of the input, and lie over these only.
    fn are_lanes(&self) -> bool {
        let stride = self.input.column_stride;
        !matches!(self.operation.what, What::Convolution(_)) && self.input.from % stride == self.output.from % stride
    }

    /// Where a row of the output begins.
    fn made(&self, row: u16) -> usize {
        usize::from(self.output.from) + usize::from(row) * usize::from(self.output.row_stride())
    }

    /// Where what a row of the output needs begins.
    fn first_read(&self, row: u16) -> usize {
        self.input_row(row, 0)
    }

    /// Where what a row of the output needs ends.
    fn last_read(&self, row: u16) -> usize {
        let [kernel, ..] = self.operation.window.along(0);
        self.input_row(row, kernel)
    }

    /// Where the input ends.
    fn end(&self) -> usize {
        usize::from(self.input.from) + self.input.words()
    }

    /// Where the row of the input begins that lies under a row of the kernel.
    fn input_row(&self, row: u16, kernel_row: u16) -> usize {
        let [_, stride, before, _] = self.operation.window.along(0).map(usize::from);
        let padded = usize::from(row) * stride + usize::from(kernel_row);
        let at = padded.saturating_sub(before).min(self.input.shape.rows.into());
        usize::from(self.input.from) + at * usize::from(self.input.row_stride())
    }
}
