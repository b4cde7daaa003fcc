//! Where an image lies in the banks.

use std::ops::Range;
use std::vec::Vec;

use super::network::Shape;
use crate::frame::Place;
use crate::layer::WORD_BYTES;
use crate::registers::Space;
use crate::twin::Word;

/// An image in the two banks: even columns in the first, odd ones in the second, channels by eights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows, columns, channels.
    pub shape: Shape,
    /// Its first word, in both banks.
    pub from: u16,
    /// Words of a pixel.
    pub column_stride: u16,
}

/// Rows of an image that the host has, and where they lie in the banks for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Which image: 0 is the input, each layer makes the next.
    pub image: usize,
    /// The first of the rows.
    pub first_row: u16,
    /// Where they lie.
    pub layout: Layout,
}

impl Tile {
    /// Which values of the image it has.
    #[must_use]
    pub const fn values(&self) -> Range<usize> {
        let Shape { rows, columns, channels } = self.layout.shape;
        let row = columns as usize * channels as usize;
        let first = self.first_row as usize * row;
        first..first + rows as usize * row
    }

    /// Words on the bus.
    #[must_use]
    pub const fn bus_words(&self) -> usize {
        self.layout.words() * self.layout.banks() as usize
    }
}

impl Layout {
    /// From a bank's word to that of the other.
    pub const BANK: u16 = 1024;

    pub(super) const fn new(shape: Shape, from: u16) -> Self {
        Self { shape, from, column_stride: shape.channels.div_ceil(8) }
    }

    /// Words from a row to the next.
    #[must_use]
    pub const fn row_stride(&self) -> u16 {
        self.shape.columns.div_ceil(2) * self.column_stride
    }

    /// Words of a bank that it takes.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.shape.rows as usize * self.shape.columns.div_ceil(2) as usize * self.column_stride as usize
    }

    /// Banks that it takes: one if it has one column.
    #[must_use]
    pub const fn banks(&self) -> u16 {
        if self.shape.columns > 1 { 2 } else { 1 }
    }

    /// Its first word in a bank.
    #[must_use]
    pub const fn place(&self, bank: u16) -> Place {
        Place { space: Space::Activations, word: self.from + bank * Self::BANK }
    }

    /// The words of a bank for `values`, `[rows, columns, channels]`; what is missing is zero.
    #[must_use]
    pub fn pack(&self, bank: u16, values: &[i8]) -> Vec<Word> {
        let mut words = std::vec![[0; WORD_BYTES]; self.words()];
        for (pixel, channels) in values.chunks(self.shape.channels.into()).enumerate() {
            let Some(at) = self.word_of(pixel, bank) else { continue };
            let there = words.get_mut(at..).unwrap_or_default().as_flattened_mut();
            for (to, value) in there.iter_mut().zip(channels) {
                *to = value.to_ne_bytes()[0];
            }
        }
        words
    }

    /// Takes the values of a bank's words.
    pub fn unpack(&self, bank: u16, words: &[Word], values: &mut [i8]) {
        for (pixel, channels) in values.chunks_mut(self.shape.channels.into()).enumerate() {
            let Some(at) = self.word_of(pixel, bank) else { continue };
            let there = words.get(at..).unwrap_or_default().as_flattened();
            for (value, from) in channels.iter_mut().zip(there) {
                *value = i8::from_ne_bytes([*from]);
            }
        }
    }

    /// Word of a pixel, if it is in this bank.
    fn word_of(&self, pixel: usize, bank: u16) -> Option<usize> {
        let columns = usize::from(self.shape.columns);
        let (row, column) = (pixel / columns, pixel % columns);
        (column % 2 == usize::from(bank))
            .then(|| row * usize::from(self.row_stride()) + column / 2 * usize::from(self.column_stride))
    }
}
