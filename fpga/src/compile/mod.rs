//! From a quantised network to what the engine's memories must hold.
//!
//! ```text
//!   Network ── shapes ──► places in the two banks ──► layers, weights, biases and scales ──► Plan
//! ```
//!
//! Activations lie at the lower end of the banks and at the upper end in turn: what a layer reads and what
//! it writes must fit together. Words of padding, one for each value that padding has, lie above both.

mod layout;
pub mod network;
pub mod reference;
#[cfg(test)]
mod tests;
mod weights;

use std::string::String;
use std::vec::Vec;

pub use layout::Layout;
use network::{Network, Operation, Shape, What, Window};

use crate::frame::Place;
use crate::layer::{BANK_WORDS, Kind, LAYER_WORDS, Layer, Parameters, TABLE_WORDS, WEIGHT_WORDS, WORD_BYTES};
use crate::registers::{CLK_MAX, Space};
use crate::twin::Word;

/// What is loaded once, where input and output lie, and what a job costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To be written before the first job.
    pub sections: Vec<Section>,
    /// Where the input goes.
    pub input: Layout,
    /// Where the output is.
    pub output: Layout,
    /// Word of the first layer.
    pub first_layer: u16,
    /// What each layer costs.
    pub costs: Vec<Cost>,
}

/// Words for a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Where they begin.
    pub place: Place,
    /// The words.
    pub words: Vec<Word>,
}

/// What a layer costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of the layer.
    pub name: String,
    /// Multiplications that the network asks for.
    pub macs: u64,
    /// Clk that the engine needs, about: within a few in a hundred.
    pub clk: u64,
    /// Words of weights, biases and scales.
    pub words: u16,
}

/// Why a network does not go into the engine.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// There is nothing to do.
    #[error("the network has no layers")]
    Empty,
    /// A shape of no values.
    #[error("{layer}: {shape:?} has no values")]
    Hollow {
        /// Which layer, or the input.
        layer: String,
        /// What goes in or comes out.
        shape: Shape,
    },
    /// Something is larger than the engine counts.
    #[error("{layer}: {what} is {got}, and at most {most} here")]
    Large {
        /// Which layer.
        layer: String,
        /// What of it.
        what: &'static str,
        /// How large.
        got: usize,
        /// What could be.
        most: usize,
    },
    /// Weights, biases or scales are not as many as the shapes ask for.
    #[error("{layer}: {got} {what} where its shape asks for {expected}")]
    Count {
        /// Which layer.
        layer: String,
        /// What of it.
        what: &'static str,
        /// By the shapes.
        expected: usize,
        /// There are.
        got: usize,
    },
    /// The kernel is larger than the image with its padding.
    #[error("{layer}: its kernel is larger than its input")]
    Kernel {
        /// Which layer.
        layer: String,
    },
    /// A scale that is no positive normal number.
    #[error("{layer}: a scale of {scale:e}")]
    Scale {
        /// Which layer.
        layer: String,
        /// It.
        scale: f32,
    },
}

impl Plan {
    /// Clk after which a job has gone wrong: twice what it should take.
    #[must_use]
    pub fn limit_clk(&self) -> u32 {
        let clk = self.costs.iter().map(|cost| cost.clk).sum::<u64>();
        u32::try_from(2 * clk + 1000).unwrap_or(CLK_MAX).min(CLK_MAX)
    }
}

/// Makes a plan of a network.
///
/// # Errors
///
/// [`Unfit`] says what does not fit.
pub fn compile(network: &Network) -> Result<Plan, Unfit> {
    let mut shapes = Vec::from([filled("input", network.input)?]);
    for operation in &network.layers {
        let shape = output_shape(operation, shapes.last().copied().unwrap_or(network.input))?;
        shapes.push(filled(&operation.name, shape)?);
    }
    let pads = padding_values(network);
    let places = Places::new(&shapes, network, BANK_WORDS - pads.len())?;
    let mut build = Build::default();
    let layer_words = network.layers.len() * LAYER_WORDS;
    let mut zero_point = network.zero_point;
    for (number, operation) in network.layers.iter().enumerate() {
        let (Some(input), Some(output)) = (places.0.get(number), places.0.get(number + 1)) else {
            return Err(Unfit::Empty);
        };
        let pad = pads.iter().position(|pad| *pad == pad_value(operation, zero_point)).unwrap_or(0);
        let step = Step { operation, input, output, zero_point, pad_word: BANK_WORDS - 1 - pad };
        build.add(&step, layer_words)?;
        zero_point = if matches!(operation.what, What::Greatest) { zero_point } else { operation.output.zero_point };
    }
    build.finish(&places, &pads)
}

/// A layer and what is around it.
struct Step<'a> {
    operation: &'a Operation,
    input: &'a Layout,
    output: &'a Layout,
    zero_point: i8,
    pad_word: usize,
}

impl Step<'_> {
    fn large(&self, what: &'static str, got: usize, most: usize) -> Result<u16, Unfit> {
        let layer = || self.operation.name.clone();
        match u16::try_from(got) {
            Ok(fits) if got <= most => Ok(fits),
            Ok(_) | Err(_) => Err(Unfit::Large { layer: layer(), what, got, most }),
        }
    }
}

fn filled(layer: &str, shape: Shape) -> Result<Shape, Unfit> {
    if shape.count() == 0 { Err(Unfit::Hollow { layer: layer.into(), shape }) } else { Ok(shape) }
}

fn output_shape(operation: &Operation, input: Shape) -> Result<Shape, Unfit> {
    let Window { kernel, strides, before, after } = operation.window;
    let along = |size: u16, axis: usize| -> Option<u16> {
        let (kernel, stride) = (*kernel.get(axis)?, u16::from(*strides.get(axis)?));
        let padded = size.checked_add((*before.get(axis)?).into())?.checked_add((*after.get(axis)?).into())?;
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

fn is_padded(window: &Window) -> bool {
    window.before != [0, 0] || window.after != [0, 0]
}

/// What stands for nothing: zero, or what is greater than nothing.
fn pad_value(operation: &Operation, zero_point: i8) -> i8 {
    if matches!(operation.what, What::Greatest) { i8::MIN } else { zero_point }
}

fn padding_values(network: &Network) -> Vec<i8> {
    let mut values = Vec::new();
    let mut zero_point = network.zero_point;
    for operation in &network.layers {
        let value = pad_value(operation, zero_point);
        if is_padded(&operation.window) && !values.contains(&value) {
            values.push(value);
        }
        if !matches!(operation.what, What::Greatest) {
            zero_point = operation.output.zero_point;
        }
    }
    values
}

/// Where the input of each layer lies, and the output of the last.
struct Places(Vec<Layout>);

impl Places {
    fn new(shapes: &[Shape], network: &Network, room: usize) -> Result<Self, Unfit> {
        let mut layouts: Vec<Layout> = Vec::new();
        for (number, shape) in shapes.iter().enumerate() {
            let layout = Layout::new(*shape, 0);
            let before = layouts.last().map_or(0, Layout::words);
            if before + layout.words() > room {
                let layer = network.layers.get(number.saturating_sub(1)).map_or("input", |layer| &layer.name);
                let got = before + layout.words();
                return Err(Unfit::Large { layer: layer.into(), what: "words of input and output", got, most: room });
            }
            let from = if number % 2 == 0 { 0 } else { room - layout.words() };
            layouts.push(Layout { from: u16::try_from(from).unwrap_or(0), ..layout });
        }
        Ok(Self(layouts))
    }
}

#[derive(Default)]
struct Build {
    layers: Vec<Layer>,
    weights: Vec<Word>,
    table: Vec<Word>,
    costs: Vec<Cost>,
}

impl Build {
    fn add(&mut self, step: &Step<'_>, layer_words: usize) -> Result<(), Unfit> {
        let packed = weights::pack(step)?;
        let sums = matches!(step.operation.what, What::Convolution(_));
        let from_table = sums && self.table.len() + packed.parameters() <= TABLE_WORDS;
        let at = layer_words + self.weights.len();
        let parameters = if from_table {
            let from = u8::try_from(self.table.len()).unwrap_or(0);
            self.table.extend(packed.groups.iter().flat_map(|group| &group.parameters));
            Parameters::Table { from, step: 1 }
        } else {
            Parameters::Inline
        };
        for group in &packed.groups {
            self.weights.extend(&group.weights);
            if !from_table {
                self.weights.extend(&group.parameters);
            }
        }
        step.large("the end of its weights", layer_words + self.weights.len(), WEIGHT_WORDS)?;
        let layer = layer(step, &packed, parameters, at)?;
        self.costs.push(Cost {
            name: step.operation.name.clone(),
            macs: macs(step),
            clk: clk(&layer),
            words: u16::try_from(layer_words + self.weights.len() - at).unwrap_or(u16::MAX),
        });
        self.layers.push(layer);
        Ok(())
    }

    fn finish(mut self, places: &Places, pads: &[i8]) -> Result<Plan, Unfit> {
        self.layers.last_mut().ok_or(Unfit::Empty)?.last = true;
        let mut words: Vec<Word> = self.layers.iter().flat_map(Layer::encode).map(u64::to_le_bytes).collect();
        words.extend(&self.weights);
        let mut sections = Vec::from([Section { place: Place { space: Space::Weights, word: 0 }, words }]);
        if !self.table.is_empty() {
            sections.push(Section { place: Place { space: Space::Table, word: 0 }, words: self.table });
        }
        for (number, pad) in pads.iter().enumerate() {
            let words = Vec::from([[pad.to_ne_bytes()[0]; WORD_BYTES]]);
            for bank in 0..2 {
                let word = u16::try_from(BANK_WORDS - 1 - number).unwrap_or(0) + bank * Layout::BANK;
                sections.push(Section { place: Place { space: Space::Activations, word }, words: words.clone() });
            }
        }
        let (Some(input), Some(output)) = (places.0.first(), places.0.last()) else { return Err(Unfit::Empty) };
        Ok(Plan { sections, input: *input, output: *output, first_layer: 0, costs: self.costs })
    }
}

fn layer(step: &Step<'_>, packed: &weights::Packed, parameters: Parameters, at: usize) -> Result<Layer, Unfit> {
    let Step { operation, input, output, .. } = step;
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
    step.large("rows of the kernel", kernel_rows.into(), 256)?;
    step.large("columns of the kernel", kernel_columns.into(), 256)?;
    step.large("rows of the output", rows.into(), 256)?;
    step.large("columns of the output", columns.into(), 256)?;
    step.large("its stride along columns", columns_apart.into(), 2)?;
    step.large("its stride along rows", rows_apart.into(), 15)?;
    let height = step.large("rows of the input", input.shape.rows.into(), 255)?;
    let width = step.large("columns of the input", input.shape.columns.into(), 255)?;
    let [above, left] = before;
    step.large("its padding", above.max(left).into(), 127)?;
    let minus = |padding: u8| i8::try_from(padding).map_or(i8::MIN, |padding| -padding);
    let words = if kind == Kind::Sums { input.column_stride } else { 1 };
    let inline =
        if parameters == Parameters::Inline { packed.groups.first().map_or(0, |g| g.parameters.len()) } else { 0 };
    let weights_step = packed.groups.first().map_or(0, |group| group.weights.len()) + inline;
    let greatest = kind == Kind::Greatest;
    Ok(Layer {
        kind,
        pair: kind == Kind::Sums && columns > 1 && columns_apart == 1,
        last: false,
        parameters,
        rows,
        columns,
        kernel_rows,
        kernel_columns,
        rows_apart,
        columns_apart,
        first_row: minus(above),
        first_column: minus(left),
        height: u8::try_from(height).unwrap_or(u8::MAX),
        width: u8::try_from(width).unwrap_or(u8::MAX),
        pad_word: step.large("the word of padding", step.pad_word, BANK_WORDS)?,
        channels: step.large("channels", packed.channels, 1024)?,
        words: step.large("words of a pixel", words.into(), 1024)?,
        weights: step.large("the begin of its weights", at, WEIGHT_WORDS - 1)?,
        weights_step: if packed.shared { 0 } else { step.large("words of a channel", weights_step, WEIGHT_WORDS - 1)? },
        from: input.from,
        row_stride: input.row_stride(),
        column_stride: input.column_stride,
        out: output.from,
        out_stride: output.column_stride,
        zero_point: if greatest { 0 } else { operation.output.zero_point },
        lowest: operation.output.lowest,
        highest: operation.output.highest,
    })
}

fn macs(step: &Step<'_>) -> u64 {
    let [rows, columns] = step.operation.window.kernel;
    let taps = u64::from(rows) * u64::from(columns);
    let outputs = step.output.shape.count() as u64;
    match step.operation.what {
        What::Convolution(_) => outputs * taps * u64::from(step.input.shape.channels),
        What::Depthwise(_) => outputs * taps,
        What::Mean { .. } | What::Greatest => 0,
    }
}

/// What `rtl/bw_seq.v` takes for a layer.
fn clk(layer: &Layer) -> u64 {
    /// Reading the layer, and until the last result is written.
    const AROUND: u64 = 35;
    let taps = u64::from(layer.kernel_rows) * u64::from(layer.kernel_columns) * u64::from(layer.words);
    let steps = if layer.pair { layer.columns.div_ceil(2) } else { layer.columns };
    let groups = u64::from(layer.rows) * u64::from(steps);
    let channels = u64::from(layer.channels);
    let inline = u64::from(layer.parameters == Parameters::Inline);
    AROUND
        + channels
            * match layer.kind {
                Kind::Sums => {
                    let spacing = if layer.pair { 8 } else { 4 };
                    (groups - 1) * taps.max(spacing) + (taps + inline).max(8 + inline)
                }
                Kind::Lanes | Kind::Greatest => groups * (taps + 34),
            }
}
