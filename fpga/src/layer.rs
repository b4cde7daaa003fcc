//! A layer as the engine reads it: five words of its weight memory.

/// Bytes of a word: what the memories are counted in.
pub const WORD_BYTES: usize = 8;
/// Words of the weight memory (128 KiB).
pub const WEIGHT_WORDS: usize = 16_384;
/// Words of each of the two banks of the activation memory (6 KiB).
pub const BANK_WORDS: usize = 768;
/// Words of the table of biases and scales.
pub const TABLE_WORDS: usize = 256;
/// Words of a layer's description.
pub const LAYER_WORDS: usize = 5;

/// What a layer does with the values under its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sums over all input channels: dense layers and convolutions. Eight or sixteen products a clk.
    Sums,
    /// A sum for each channel by itself, eight channels at once: depthwise convolutions, mean pools.
    Lanes,
    /// The greatest value of each channel. All its weights are 1.
    Greatest,
}

/// Where the bias and scale of a channel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Behind the channel's weights.
    Inline,
    /// In the table from this word on.
    Table {
        /// The first channel's word.
        from: u8,
        /// Words from a channel, or group of eight, to the next: 1 or 8, or 0 if they share.
        step: u8,
    },
}

/// A layer: where its input lies, how it is walked, where its output goes.
///
/// An image of `[rows, columns, channels]` lies in both banks: pixel `(y, x)`, channels `8c..8c+8` is in
/// bank `x % 2`, word `from + y * row_stride + x / 2 * column_stride + c`. A row of numbers is an image of
/// one pixel, two rows are one of two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What is done.
    pub kind: Kind,
    /// [`Kind::Sums`] with columns one apart: two columns at once.
    pub pair: bool,
    /// The job ends with this layer.
    pub last: bool,
    /// Where bias and scale are.
    pub parameters: Parameters,
    /// Rows of the output, 1..=256.
    pub rows: u16,
    /// Columns of the output, 1..=256.
    pub columns: u16,
    /// Rows of the kernel, 1..=256.
    pub kernel_rows: u16,
    /// Columns of the kernel, 1..=256.
    pub kernel_columns: u16,
    /// Input rows between two output rows, 1..=15.
    pub rows_apart: u8,
    /// Input columns between two output columns, 1 or 2.
    pub columns_apart: u8,
    /// Row of the input under the first row of the kernel at the start: minus the padding above.
    pub first_row: i8,
    /// Likewise for columns.
    pub first_column: i8,
    /// Rows of the input that exist, 0..=255; what lies outside is padding.
    pub height: u8,
    /// Columns of the input that exist, 0..=255.
    pub width: u8,
    /// Word of both banks that is read instead of what lies outside.
    pub pad_word: u16,
    /// [`Kind::Sums`]: output channels; else groups of eight channels. 1..=1024.
    pub channels: u16,
    /// Words of a column that are summed up, 1..=1024. One for lanes.
    pub words: u16,
    /// First word of the weights.
    pub weights: u16,
    /// Words from a channel's weights to the next one's; 0 if all have the same.
    pub weights_step: u16,
    /// Word of the input's row 0, column 0.
    pub from: u16,
    /// Words from a row of the input to the next.
    pub row_stride: u16,
    /// Words from a column of the input to the next of the same bank.
    pub column_stride: u16,
    /// Word of the output's row 0, column 0.
    pub out: u16,
    /// Words from a column of the output to the next of the same bank; rows follow each other.
    pub out_stride: u16,
    /// Of the output.
    pub zero_point: i8,
    /// Smallest value of the output.
    pub lowest: i8,
    /// Greatest value of the output.
    pub highest: i8,
}

impl Layer {
    /// The five words.
    #[must_use]
    pub fn encode(&self) -> [u64; LAYER_WORDS] {
        let steps = if self.pair { self.columns.div_ceil(2) } else { self.columns };
        let (in_table, from, step) = match self.parameters {
            Parameters::Inline => (0, 0, 0),
            Parameters::Table { from, step } => (1, from, step),
        };
        let kind = match self.kind {
            Kind::Sums => 0,
            Kind::Lanes => 1,
            Kind::Greatest => 2,
        };
        let flags = kind
            | u64::from(self.pair) << 2
            | in_table << 3
            | u64::from(self.columns_apart == 2) << 4
            | u64::from(self.columns % 2 == 1) << 5
            | u64::from(self.last) << 6;
        [
            flags
                | less_one(self.rows) << 8
                | less_one(steps) << 16
                | less_one(self.kernel_rows) << 24
                | less_one(self.kernel_columns) << 32
                | byte(self.zero_point) << 40
                | byte(self.lowest) << 48
                | byte(self.highest) << 56,
            u64::from(self.weights & 0x3fff)
                | u64::from(self.weights_step & 0x3fff) << 16
                | u64::from(from) << 32
                | u64::from(step & 0xf) << 40
                | u64::from(self.rows_apart & 0xf) << 44
                | byte(self.first_row) << 48
                | byte(self.first_column) << 56,
            u64::from(self.start())
                | u64::from(self.row_stride & 0x3ff) << 16
                | u64::from(self.row_step()) << 32
                | u64::from(self.column_stride & 0x3ff) << 48,
            u64::from(self.words.wrapping_sub(1) & 0x3ff)
                | u64::from(self.channels.wrapping_sub(1) & 0x3ff) << 16
                | u64::from(self.out & 0x3ff) << 32
                | u64::from(self.out_stride & 0x3ff) << 48,
            u64::from(self.height) | u64::from(self.width) << 8 | u64::from(self.pad_word & 0x3ff) << 16,
        ]
    }

    /// The layer that these words describe; `None` if its kind is none.
    ///
    /// Of words that [`Layer::encode`] did not make, what cannot be said in a [`Layer`] is lost.
    #[must_use]
    pub fn decode(words: [u64; LAYER_WORDS]) -> Option<Self> {
        let [control, places, strides, counts, bounds] = words;
        let flag = |bit: u32| control >> bit & 1 == 1;
        let kind = match control & 3 {
            0 => Kind::Sums,
            1 => Kind::Lanes,
            2 => Kind::Greatest,
            _ => return None,
        };
        let (pair, steps) = (flag(2), eight(control >> 16) + 1);
        let columns = if pair { 2 * steps - u16::from(flag(5)) } else { steps };
        let table = Parameters::Table { from: low_byte(places >> 32), step: low_byte(places >> 40) & 0xf };
        let layer = Self {
            kind,
            pair,
            last: flag(6),
            parameters: if flag(3) { table } else { Parameters::Inline },
            rows: eight(control >> 8) + 1,
            columns,
            kernel_rows: eight(control >> 24) + 1,
            kernel_columns: eight(control >> 32) + 1,
            rows_apart: low_byte(places >> 44) & 0xf,
            columns_apart: if flag(4) { 2 } else { 1 },
            first_row: signed(places >> 48),
            first_column: signed(places >> 56),
            height: low_byte(bounds),
            width: low_byte(bounds >> 8),
            pad_word: ten(bounds >> 16),
            channels: ten(counts >> 16) + 1,
            words: ten(counts) + 1,
            weights: fourteen(places),
            weights_step: fourteen(places >> 16),
            from: 0,
            row_stride: ten(strides >> 16),
            column_stride: ten(strides >> 48),
            out: ten(counts >> 32),
            out_stride: ten(counts >> 48),
            zero_point: signed(control >> 40),
            lowest: signed(control >> 48),
            highest: signed(control >> 56),
        };
        let from = ten(strides).wrapping_sub(layer.start()) & 0x3ff;
        Some(Self { from, ..layer })
    }

    /// Word under the first tap, which may lie before the image: modulo 1024, as the engine counts.
    fn start(&self) -> u16 {
        let rows = u16::from_ne_bytes(i16::from(self.first_row).to_ne_bytes()).wrapping_mul(self.row_stride);
        let half = i16::from(self.first_column).div_euclid(2);
        let columns = u16::from_ne_bytes(half.to_ne_bytes()).wrapping_mul(self.column_stride);
        self.from.wrapping_add(rows).wrapping_add(columns) & 0x3ff
    }

    fn row_step(&self) -> u16 {
        u16::from(self.rows_apart).wrapping_mul(self.row_stride) & 0x3ff
    }

    /// Words of an input of `columns`, one row.
    #[must_use]
    pub const fn row_words(columns: u16, column_stride: u16) -> u16 {
        columns.div_ceil(2) * column_stride
    }
}

fn low_byte(bits: u64) -> u8 {
    bits.to_le_bytes()[0]
}

fn signed(bits: u64) -> i8 {
    i8::from_ne_bytes([low_byte(bits)])
}

fn eight(bits: u64) -> u16 {
    u16::from(low_byte(bits))
}

fn ten(bits: u64) -> u16 {
    sixteen(bits) & 0x3ff
}

fn fourteen(bits: u64) -> u16 {
    sixteen(bits) & 0x3fff
}

fn sixteen(bits: u64) -> u16 {
    let [low, high, ..] = bits.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn less_one(count: u16) -> u64 {
    u64::from(count.wrapping_sub(1) & 0xff)
}

fn byte(value: i8) -> u64 {
    u64::from(value.to_ne_bytes()[0])
}
