//! A quantised network, as it comes to the compiler: from ONNX or from anywhere else.

use std::string::String;
use std::vec::Vec;

/// An image `[rows, columns, channels]` of int8; a row of numbers has one row and one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// Channels.
    pub channels: u16,
}

impl Shape {
    /// A row of `channels` numbers.
    #[must_use]
    pub const fn row(channels: u16) -> Self {
        Self { rows: 1, columns: 1, channels }
    }

    /// Numbers in it.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.rows as usize * self.columns as usize * self.channels as usize
    }
}

/// Layers one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// What goes in.
    pub input: Shape,
    /// The int8 value that means zero in what goes in.
    pub zero_point: i8,
    /// At least one.
    pub layers: Vec<Operation>,
}

/// How a kernel goes over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [u16; 2],
    /// Rows and columns from one place to the next.
    pub strides: [u8; 2],
    /// Rows of padding above, columns left.
    pub before: [u8; 2],
    /// Rows of padding below, columns right.
    pub after: [u8; 2],
}

impl Window {
    /// The whole image at once.
    #[must_use]
    pub const fn whole(shape: Shape) -> Self {
        Self { kernel: [shape.rows, shape.columns], strides: [1, 1], before: [0, 0], after: [0, 0] }
    }

    /// Along rows (0) or columns (1): kernel, stride, padding before and after.
    pub(super) fn along(&self, axis: usize) -> [u16; 4] {
        let of = |[rows, columns]: [u16; 2]| if axis == 0 { rows } else { columns };
        let Self { kernel, strides, before, after } = *self;
        [of(kernel), of(strides.map(u16::from)), of(before.map(u16::from)), of(after.map(u16::from))]
    }
}

/// What a layer's sums become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The int8 value that means zero.
    pub zero_point: i8,
    /// Smallest value: the zero point for a ReLU.
    pub lowest: i8,
    /// Greatest value.
    pub highest: i8,
}

/// A layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What to call it in reports.
    pub name: String,
    /// How its kernel goes.
    pub window: Window,
    /// What it computes.
    pub what: What,
    /// What comes out.
    pub output: Output,
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A convolution over all channels, or a dense layer.
    Convolution(Weights),
    /// A convolution of each channel by itself; as many outputs as inputs.
    Depthwise(Weights),
    /// The mean of each channel; what lies outside of the image counts as zero.
    Mean {
        /// What the sum over all places of the kernel is multiplied by: the scale of the input over that of
        /// the output and the number of places, `input / (output * places)`.
        sum_scale: f32,
    },
    /// The greatest of each channel, of what lies within the image; quantised like the input.
    Greatest,
}

/// Symmetric weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `[outputs, kernel rows, kernel columns, inputs]`; without inputs if depthwise.
    pub values: Vec<i8>,
    /// For each output, in units of input scale times weight scale; the input's zero point not yet in it.
    pub bias: Vec<i32>,
    /// For each output: input scale times weight scale, over output scale.
    pub scales: Vec<f32>,
}
