//! The engine in software, bit for bit: what it would have left in its memories.
//!
//! It is what answers where there is no FPGA, or one that no longer does, and what the gateware is held to.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "addresses wrap as the engine's do, to the size of the memory they index"
)]

mod apart;
#[cfg(test)]
mod tests;

use crate::layer::{BANK_WORDS, Kind, LAYER_WORDS, Layer, Parameters, TABLE_WORDS, WEIGHT_WORDS, WORD_BYTES};
use crate::requant::requantize;

/// Bits of a lane's sum.
const LANE_BITS: u32 = 21;

/// Eight bytes, of eight channels.
pub type Word = [u8; WORD_BYTES];

/// What the host wrote into the engine's memories, and what jobs left there.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// [`WEIGHT_WORDS`] or fewer words: layers, weights, biases and scales. What is not there is zero.
    pub weights: &'a [Word],
    /// [`TABLE_WORDS`] or fewer words.
    pub table: &'a [Word],
}

/// The two banks of activations.
pub type Banks = [[Word; BANK_WORDS]; 2];

/// Why a job did not end as it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A layer of a kind that there is not.
    #[error("the layer at word {at} is of kind 3, which there is not")]
    Kind {
        /// Word of the weight memory.
        at: u16,
    },
    /// The input is of another size than the plan's.
    #[error("an input of {got} values came where the plan has {expected}")]
    Length {
        /// By the plan.
        expected: usize,
        /// Came.
        got: usize,
    },
    /// So many layers and no end.
    #[error("a job of more than {0} layers: none of them is the last")]
    Endless(usize),
}

/// Layers of a job at most: all that the weight memory could hold.
pub const LAYERS_MAX: usize = WEIGHT_WORDS / LAYER_WORDS;

impl Memory<'_> {
    /// Does a job, from the layer at word `from` to the last.
    ///
    /// # Errors
    ///
    /// [`Fault`] if there is no such layer.
    pub fn run(&self, from: u16, banks: &mut Banks) -> Result<(), Fault> {
        let mut at = from;
        for _ in 0..LAYERS_MAX {
            let words = core::array::from_fn(|i| u64::from_le_bytes(self.weight(at.wrapping_add(i as u16))));
            let layer = Layer::decode(words).ok_or(Fault::Kind { at })?;
            self.layer(&layer, banks);
            if layer.last {
                return Ok(());
            }
            at = at.wrapping_add(LAYER_WORDS as u16);
        }
        Err(Fault::Endless(LAYERS_MAX))
    }

    /// Does one layer.
    pub fn layer(&self, layer: &Layer, banks: &mut Banks) {
        if !self.apart(layer, banks) {
            self.in_order(layer, banks);
        }
    }

    /// Does one layer as the engine does it: a channel after the other, each over the whole image.
    fn in_order(&self, layer: &Layer, banks: &mut Banks) {
        for channel in 0..layer.channels {
            for row in 0..layer.rows {
                for column in 0..layer.columns {
                    match layer.kind {
                        Kind::Sums => self.sum(layer, channel, row, column, banks),
                        Kind::Lanes | Kind::Greatest => self.lanes(layer, channel, row, column, banks),
                    }
                }
            }
        }
    }

    fn weight(&self, at: u16) -> Word {
        self.weights.get(usize::from(at) % WEIGHT_WORDS).copied().unwrap_or_default()
    }

    /// Bias and scale number `lane` of a channel, `behind` its weights or in the table.
    fn parameter(&self, layer: &Layer, channel: u16, lane: u16, behind: u16) -> (i32, f32) {
        let word = match layer.parameters {
            Parameters::Inline => self.weight(behind.wrapping_add(lane)),
            Parameters::Table { from, step } => {
                let at = u16::from(from).wrapping_add(channel.wrapping_mul(u16::from(step))).wrapping_add(lane);
                self.table.get(usize::from(at) % TABLE_WORDS).copied().unwrap_or_default()
            }
        };
        let [a, b, c, d, e, f, g, h] = word;
        (i32::from_le_bytes([a, b, c, d]), f32::from_bits(u32::from_le_bytes([e, f, g, h]) & 0x7fff_ffff))
    }

    fn sum(&self, layer: &Layer, channel: u16, row: u16, column: u16, banks: &mut Banks) {
        let mut weights = layer.weights.wrapping_add(channel.wrapping_mul(layer.weights_step));
        let mut sum = 0_i32;
        for tap in layer.taps(row, column) {
            for word in 0..layer.words {
                let values = tap.word(layer, word, banks);
                sum = sum.wrapping_add(product(&self.weight(weights), values));
                weights = weights.wrapping_add(1);
            }
        }
        let (bias, scale) = self.parameter(layer, channel, 0, weights);
        let result = layer.result(sum.wrapping_add(bias), scale);
        layer.place(row, column, channel / 8, banks)[usize::from(channel % 8)] = result;
    }

    fn lanes(&self, layer: &Layer, group: u16, row: u16, column: u16, banks: &mut Banks) {
        let mut weights = layer.weights.wrapping_add(group.wrapping_mul(layer.weights_step));
        let mut lanes = if layer.kind == Kind::Greatest { [i32::MIN; WORD_BYTES] } else { [0; WORD_BYTES] };
        for tap in layer.taps(row, column) {
            for word in 0..layer.words {
                let weight = self.weight(weights);
                let values = tap.word(layer, group.wrapping_add(word), banks);
                for (lane, (value, weight)) in lanes.iter_mut().zip(values.iter().zip(weight)) {
                    let product = i32::from(*value as i8) * i32::from(weight as i8);
                    *lane = match layer.kind {
                        Kind::Greatest => (*lane).max(i32::from(product as i8)),
                        Kind::Sums | Kind::Lanes => lane.wrapping_add(product),
                    };
                }
                weights = weights.wrapping_add(1);
            }
        }
        for (lane, sum) in lanes.into_iter().enumerate() {
            let (bias, scale) = self.parameter(layer, group, lane as u16, weights);
            let kept = sum.wrapping_shl(i32::BITS - LANE_BITS).wrapping_shr(i32::BITS - LANE_BITS);
            let result = layer.result(kept.wrapping_add(bias), scale);
            layer.place(row, column, group, banks)[lane] = result;
        }
    }
}

/// A place under the kernel: a column of the input, or padding.
struct Tap {
    row: i32,
    column: i32,
}

impl Tap {
    /// The address of its first word; none outside the image.
    fn at(&self, layer: &Layer) -> Option<u16> {
        let inside =
            (0..i32::from(layer.height)).contains(&self.row) && (0..i32::from(layer.width)).contains(&self.column);
        let at = i32::from(layer.from)
            + self.row * i32::from(layer.row_stride)
            + self.column.div_euclid(2) * i32::from(layer.column_stride);
        inside.then_some(at as u16)
    }

    fn word<'a>(&self, layer: &Layer, word: u16, banks: &'a Banks) -> &'a Word {
        let at = self.at(layer).map_or(layer.pad_word, |at| at.wrapping_add(word));
        &banks[(self.column & 1) as usize][in_bank(at)]
    }
}

impl Layer {
    /// What is under the kernel, in the order of the weights.
    fn taps(&self, row: u16, column: u16) -> impl Iterator<Item = Tap> {
        let top = i32::from(self.first_row) + i32::from(row) * i32::from(self.rows_apart);
        let left = i32::from(self.first_column) + i32::from(column) * i32::from(self.columns_apart);
        let columns = self.kernel_columns;
        (0..self.kernel_rows).flat_map(move |ky| {
            (0..columns).map(move |kx| Tap { row: top + i32::from(ky), column: left + i32::from(kx) })
        })
    }

    /// The word of an output pixel.
    fn place<'a>(&self, row: u16, column: u16, word: u16, banks: &'a mut Banks) -> &'a mut Word {
        let row_words = Self::row_words(self.columns, self.out_stride);
        let at = self
            .out
            .wrapping_add(row.wrapping_mul(row_words))
            .wrapping_add((column / 2).wrapping_mul(self.out_stride))
            .wrapping_add(word);
        &mut banks[usize::from(column % 2)][in_bank(at)]
    }

    fn result(&self, sum: i32, scale: f32) -> u8 {
        requantize(sum, scale, self.zero_point, self.lowest, self.highest) as u8
    }
}

/// An address of ten bits in a bank of 768 words: the upper ones decode no more than eight bits.
const fn in_bank(at: u16) -> usize {
    (if at & 0x200 == 0 { at & 0x1ff } else { 0x200 | at & 0xff }) as usize
}

fn product(weights: &Word, values: &Word) -> i32 {
    weights.iter().zip(values).map(|(weight, value)| i32::from(*weight as i8) * i32::from(*value as i8)).sum()
}
