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
//!
//! If even that does not fit, the larger image is on the host, and comes or goes in tiles of rows.

use std::ops::Range;
use std::vec::Vec;

use super::Unfit;
use super::layout::{Layout, Tile};
use super::network::{Network, Operation, Shape, What};

/// An image, in the banks or on the host.
pub(super) struct Image {
    pub(super) number: usize,
    pub(super) layout: Layout,
    /// The host has it, and the banks only some rows at a time.
    pub(super) is_on_host: bool,
}

impl Image {
    /// So many of its rows, wherever they lie.
    pub(super) fn tile(&self, rows: &Range<u16>) -> Tile {
        let shape = Shape { rows: rows.end - rows.start, ..self.layout.shape };
        Tile { image: self.number, first_row: rows.start, layout: Layout { shape, ..self.layout } }
    }
}

/// Rows of a layer's output that are made at a time, and what comes from the host or goes there.
pub(super) struct Rows {
    pub(super) made: Range<u16>,
    pub(super) input: Option<Tile>,
    pub(super) output: Option<Tile>,
}

/// The input of each layer, and the output of the last.
pub(super) fn places(shapes: &[Shape], network: &Network, room: usize) -> Result<Vec<Image>, Unfit> {
    let mut images: Vec<Image> = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        let layout = Layout::new(*shape, 0);
        let words = layout.words();
        let row = words / usize::from(shape.rows);
        if row > room {
            let maker = number.checked_sub(1).and_then(|number| network.layers.get(number));
            let layer = maker.map_or("input", |layer| &layer.name).into();
            return Err(Unfit::Large { layer, what: "words of a row in a bank", got: row, most: room });
        }
        // Lanes of eight channels stay apart where whole pixels lie above each other.
        let above = room.checked_sub(words);
        let upper = above.map_or(0, |above| above - above % usize::from(layout.column_stride));
        let from = if number % 2 == 0 { 0 } else { upper };
        let layout = Layout { from: u16::try_from(from).unwrap_or(u16::MAX), ..layout };
        images.push(Image { number, layout, is_on_host: above.is_none() });
    }
    // Each time round, one more is on the host.
    while let Some(stuck) = (0..network.layers.len()).find(|layer| {
        let around = network.layers.get(*layer).zip(images.get(*layer..layer + 2));
        matches!(around, Some((operation, [input, output])) if rows(operation, input, output, room).is_none())
    }) {
        let around = images.get_mut(stuck..stuck + 2).unwrap_or_default();
        let [input, output] = [0, 1].map(|which| around.get(which).map_or(0, |image| image.layout.words()));
        let there = around.iter_mut().filter(|image| !image.is_on_host).max_by_key(|image| image.layout.words());
        let Some(larger) = there else {
            let layer = network.layers.get(stuck).map_or("input", |layer| &layer.name).into();
            return Err(Unfit::Tight { layer, input, output, most: room });
        };
        larger.is_on_host = true;
    }
    Ok(images)
}

/// All rows of a layer's output; `None` if there is no room for what it reads and makes.
pub(super) fn rows(operation: &Operation, input: &Image, output: &Image, room: usize) -> Option<Vec<Rows>> {
    if !input.is_on_host && !output.is_on_host {
        let bands = bands(operation, &input.layout, &output.layout)?;
        return Some(bands.into_iter().map(|made| Rows { made, input: None, output: None }).collect());
    }
    let all = output.layout.shape.rows;
    let (mut tiles, mut from) = (Vec::new(), 0);
    while from < all {
        let tile = (from + 1..=all).rev().find_map(|to| tiled(operation, input, output, from..to, room))?;
        from = tile.made.end;
        tiles.push(tile);
    }
    Some(tiles)
}

/// Some rows of a layer's output, beside each other with what they need.
fn tiled(operation: &Operation, input: &Image, output: &Image, made: Range<u16>, room: usize) -> Option<Rows> {
    let reads = input.tile(&needed(operation, input.layout.shape.rows, &made));
    let reads = match (input.is_on_host, output.is_on_host) {
        (false, _) => None,
        (true, false) => Some(beside(reads, &output.layout, room)?),
        (true, true) => Some(Tile { layout: Layout { from: 0, ..reads.layout }, ..reads }),
    };
    let makes = if output.is_on_host {
        let other = reads.map_or(input.layout, |tile| tile.layout);
        Some(beside(output.tile(&made), &other, room)?)
    } else {
        None
    };
    Some(Rows { made, input: reads, output: makes })
}

/// A tile at the other end of the banks.
fn beside(tile: Tile, other: &Layout, room: usize) -> Option<Tile> {
    let words = tile.layout.words();
    let from = if other.from == 0 {
        room.checked_sub(words).filter(|from| *from >= other.words())?
    } else {
        Some(0).filter(|_| words <= other.from.into())?
    };
    Some(Tile { layout: Layout { from: u16::try_from(from).ok()?, ..tile.layout }, ..tile })
}

/// Rows of the input that some of the output need: one at least.
fn needed(operation: &Operation, height: u16, made: &Range<u16>) -> Range<u16> {
    let [kernel, stride, before, _] = operation.window.along(0).map(u32::from);
    let row = |padded: u32| u16::try_from(padded.saturating_sub(before)).unwrap_or(u16::MAX);
    let first = row(u32::from(made.start) * stride).min(height - 1);
    let end = row(u32::from(made.end - 1) * stride + kernel).min(height);
    first..end.max(first + 1)
}

/// Rows of the output that are made at a time, in the order in which they are; `None` if they would be
/// written over what is still read.
fn bands(operation: &Operation, input: &Layout, output: &Layout) -> Option<Vec<Range<u16>>> {
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
