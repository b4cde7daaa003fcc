//! The twin, faster: where a layer's results lie apart from what it reads, the order of its sums is nobody's
//! matter. What is under the kernel is gathered once and multiplied for all channels, many values at a time.

use super::{Banks, LANE_BITS, Memory, Word};
use crate::layer::{BANK_WORDS, Kind, Layer, WEIGHT_WORDS, WORD_BYTES};

/// Words under a kernel at most, of a dense layer all its inputs: enough for three by three of 256 channels.
const PATCH_WORDS: usize = 320;

/// What is under the kernel at one place, in the order of the weights.
struct Patch {
    words: [Word; PATCH_WORDS],
    /// Where a place's first word is, in which bank; none outside the image.
    taps: [(u8, Option<u16>); PATCH_WORDS],
}

impl Memory<'_> {
    /// Does a layer, if it is one that may be done in another order than the engine's.
    pub(super) fn apart(&self, layer: &Layer, banks: &mut Banks) -> bool {
        let count = usize::from(layer.kernel_rows) * usize::from(layer.kernel_columns);
        if count * usize::from(layer.words) > PATCH_WORDS || !is_apart(layer) {
            return false;
        }
        let mut patch = Patch { words: [[0; WORD_BYTES]; PATCH_WORDS], taps: [(0, None); PATCH_WORDS] };
        for row in 0..layer.rows {
            for column in 0..layer.columns {
                for (at, tap) in patch.taps.iter_mut().zip(layer.taps(row, column)) {
                    *at = ((tap.column & 1) as u8, tap.at(layer));
                }
                match layer.kind {
                    Kind::Sums => self.sums_at(layer, row, column, &mut patch, banks),
                    Kind::Lanes | Kind::Greatest => self.lanes_at(layer, row, column, &mut patch, banks),
                }
            }
        }
        true
    }

    fn sums_at(&self, layer: &Layer, row: u16, column: u16, patch: &mut Patch, banks: &mut Banks) {
        let patch = patch.gather(layer, 0, banks);
        for channel in 0..layer.channels {
            let from = layer.weights.wrapping_add(channel.wrapping_mul(layer.weights_step));
            let sum = match self.weights_from(from, patch.len()) {
                Some(weights) => product(weights.as_flattened(), patch.as_flattened()),
                None => {
                    let products =
                        self.weights_behind(from).zip(patch).map(|(weights, values)| product(&weights, values));
                    products.fold(0, i32::wrapping_add)
                }
            };
            let (bias, scale) = self.parameter(layer, channel, 0, from.wrapping_add(patch.len() as u16));
            let result = layer.result(sum.wrapping_add(bias), scale);
            layer.place(row, column, channel / 8, banks)[usize::from(channel % 8)] = result;
        }
    }

    fn lanes_at(&self, layer: &Layer, row: u16, column: u16, patch: &mut Patch, banks: &mut Banks) {
        for group in 0..layer.channels {
            let patch = patch.gather(layer, group, banks);
            let from = layer.weights.wrapping_add(group.wrapping_mul(layer.weights_step));
            let lanes = match self.weights_from(from, patch.len()) {
                Some(weights) => lanes(layer.kind, weights.iter().copied().zip(patch)),
                None => lanes(layer.kind, self.weights_behind(from).zip(patch)),
            };
            let behind = from.wrapping_add(patch.len() as u16);
            let results: Word = core::array::from_fn(|lane| {
                let (bias, scale) = self.parameter(layer, group, lane as u16, behind);
                let unused = i32::BITS - LANE_BITS;
                let kept = lanes[lane].wrapping_shl(unused).wrapping_shr(unused);
                layer.result(kept.wrapping_add(bias), scale)
            });
            *layer.place(row, column, group, banks) = results;
        }
    }

    /// So many words of the weight memory, if they lie behind each other and were all written.
    fn weights_from(&self, at: u16, count: usize) -> Option<&[Word]> {
        let at = usize::from(at) % WEIGHT_WORDS;
        self.weights.get(at..at + count)
    }

    /// Word after word, from the end of the memory on to its begin.
    fn weights_behind(&self, at: u16) -> impl Iterator<Item = Word> {
        (0..=u16::MAX).map(move |word| self.weight(at.wrapping_add(word)))
    }
}

impl Patch {
    /// Fills it from the words that begin `first` behind each place's own.
    fn gather(&mut self, layer: &Layer, first: u16, banks: &Banks) -> &[Word] {
        let (count, words) = (usize::from(layer.kernel_rows * layer.kernel_columns), usize::from(layer.words));
        let patch = &mut self.words[..count * words];
        for ((bank, at), to) in self.taps.iter().zip(patch.chunks_exact_mut(words)) {
            let bank = &banks[usize::from(*bank)];
            match at {
                Some(at) => {
                    let at = usize::from(at.wrapping_add(first) & ADDRESS);
                    to.copy_from_slice(&bank[at..at + words]);
                }
                None => to.fill(bank[usize::from(layer.pad_word & ADDRESS)]),
            }
        }
        patch
    }
}

/// Bits of an address that a bank decodes.
const ADDRESS: u16 = 0x3ff;

/// Whether all that the layer reads lies in its bank without a turn, and all that it writes, once and elsewhere.
fn is_apart(layer: &Layer) -> bool {
    if [layer.rows, layer.columns, layer.kernel_rows, layer.kernel_columns, layer.channels, layer.words].contains(&0) {
        return false;
    }
    let reach = |first: i8, apart: u8, count: u16, kernel: u16, size: u8| {
        let last = i32::from(first) + i32::from(apart) * i32::from(count - 1) + i32::from(kernel) - 1;
        (i32::from(first).max(0), last.min(i32::from(size) - 1))
    };
    let (top, bottom) = reach(layer.first_row, layer.rows_apart, layer.rows, layer.kernel_rows, layer.height);
    let (left, right) =
        reach(layer.first_column, layer.columns_apart, layer.columns, layer.kernel_columns, layer.width);
    let (groups, out_words) = match layer.kind {
        Kind::Sums => (1, layer.channels.div_ceil(8)),
        Kind::Lanes | Kind::Greatest => (layer.channels, layer.channels),
    };
    let place = |row: i32, column: i32| {
        i32::from(layer.from) + row * i32::from(layer.row_stride) + column / 2 * i32::from(layer.column_stride)
    };
    let read = if top <= bottom && left <= right {
        span(place(top, left), place(bottom, right) + i32::from(groups - 1 + layer.words))
    } else {
        Some((0, 0))
    };
    let out = i32::from(layer.out);
    let last = out
        + i32::from(Layer::row_words(layer.columns, layer.out_stride)) * i32::from(layer.rows - 1)
        + i32::from((layer.columns - 1) / 2) * i32::from(layer.out_stride);
    let (Some(read), Some(written)) = (read, span(out, last + i32::from(out_words))) else { return false };
    let pad = i32::from(layer.pad_word & ADDRESS);
    layer.out_stride >= out_words
        && pad < BANK_WORDS as i32
        && !(written.0..written.1).contains(&pad)
        && (read.1 <= written.0 || written.1 <= read.0)
}

/// Words of a bank, from and to; none if they do not lie behind each other in it.
fn span(from: i32, to: i32) -> Option<(i32, i32)> {
    let first = from & i32::from(ADDRESS);
    let behind = first + (to - from);
    (behind <= BANK_WORDS as i32).then_some((first, behind))
}

/// The sum of the products; it wraps only to be made vectors of: 2,560 products of 15 bits fit.
fn product(weights: &[u8], values: &[u8]) -> i32 {
    let products = weights.iter().zip(values).map(|(weight, value)| i32::from(*weight as i8) * i32::from(*value as i8));
    products.fold(0, i32::wrapping_add)
}

/// The sums of the products of each channel, or the greatest of them.
fn lanes<'a>(kind: Kind, words: impl Iterator<Item = (Word, &'a Word)>) -> [i32; WORD_BYTES] {
    let product = |weight: u8, value: &u8| i32::from(weight as i8) * i32::from(*value as i8);
    if kind == Kind::Greatest {
        return words.fold([i32::MIN; WORD_BYTES], |mut lanes, (weights, values)| {
            for ((lane, weight), value) in lanes.iter_mut().zip(weights).zip(values) {
                *lane = (*lane).max(i32::from(product(weight, value) as i8));
            }
            lanes
        });
    }
    words.fold([0; WORD_BYTES], |mut lanes: [i32; WORD_BYTES], (weights, values)| {
        for ((lane, weight), value) in lanes.iter_mut().zip(weights).zip(values) {
            *lane = lane.wrapping_add(product(weight, value));
        }
        lanes
    })
}
