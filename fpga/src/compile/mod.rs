//! From a quantised network to what the engine's memories must hold.
//!
//! ```text
//!   Network ── turn, fold ──► shapes ── places ──► layers in bands ── jobs ──► Plan
//! ```
//!
//! Words of padding, one for each value that padding has, lie in the banks above all images.

mod fold;
mod jobs;
mod layout;
pub mod network;
mod places;
pub mod reference;
mod shapes;
mod step;
#[cfg(test)]
mod tests;
mod turn;
mod weights;

use std::string::String;
use std::vec::Vec;

use fold::Fold;
pub use fold::Input;
use jobs::{Jobs, Part};
pub use layout::{Layout, Tile};
use network::{Network, Shape};
use places::Image;
use step::Step;

use crate::frame::Place;
use crate::layer::{BANK_WORDS, WEIGHT_WORDS, WORD_BYTES};
use crate::registers::{CLK_MAX, Space};
use crate::twin::Word;

/// What is loaded once, where input and output lie, the jobs of an inference and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To be written before the first job.
    pub sections: Vec<Section>,
    /// What comes in.
    pub input: Input,
    /// Where the output is, if it is in the banks as a whole.
    pub output: Layout,
    /// One behind the other, over the same activations. One if everything fits.
    pub segments: Vec<Segment>,
    /// Values of the input, and of what each layer makes: 0 if the host never has them.
    pub images: Vec<usize>,
    /// What each layer costs.
    pub costs: Vec<Cost>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What is written each time before it begins, and may be while the one before is running.
    pub streamed: Option<Streamed>,
    /// Rows of an image that are written when the one before has ended.
    pub writes: Option<Tile>,
    /// Word of its first layer.
    pub first_layer: u16,
    /// What is there.
    pub head: Word,
    /// Clk that it takes, about.
    pub clk: u64,
    /// Rows of an image that are read when it has ended.
    pub reads: Option<Tile>,
}

/// Layers and weights that are written for each input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// Where, and what.
    pub section: Section,
    /// CRC-32 of its words.
    pub crc: u32,
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
    pub words: usize,
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
    /// Input and output of a layer do not fit, not even a row of the output and what it needs.
    #[error(
        "{layer}: {input} words of input in a bank and {output} of output do not go into {most}, not even a \
         row at a time: fewer channels or columns would help"
    )]
    Tight {
        /// Which layer.
        layer: String,
        /// Words of its input.
        input: usize,
        /// Words of its output.
        output: usize,
        /// Words of a bank.
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
    /// Words that go over the bus for each input: images, or rows of them, and what is streamed.
    #[must_use]
    pub fn bus_words(&self) -> usize {
        self.segments.iter().map(Segment::bus_words).sum()
    }

    /// Words of layers and weights among them, which do not fit and are sent for each input.
    #[must_use]
    pub fn streamed_words(&self) -> usize {
        self.segments.iter().map(Segment::streamed_words).sum()
    }

    /// Clk from the first bit of an input to the last of its output, about, SCK as fast as clk: what is streamed
    /// for a job goes over the bus while the one before runs.
    #[must_use]
    pub fn whole_clk(&self) -> u64 {
        let bus = |words: usize| WORD_CLK * words as u64;
        let streamed = self.segments.iter().map(|segment| bus(segment.streamed_words()));
        let runs = self.segments.iter().map(|segment| segment.clk);
        let before = streamed.clone().next().unwrap_or(0);
        let both: u64 = runs.zip(streamed.skip(1).chain([0])).map(|(run, next)| run.max(next)).sum();
        let frames = if self.segments.len() == 1 { ONLY_JOB_CLK } else { JOB_CLK * self.segments.len() as u64 };
        before + both + bus(self.bus_words() - self.streamed_words()) + frames
    }
}

/// Clk of a word on the bus.
const WORD_CLK: u64 = 64;
/// Clk of the frames around a job, about: one of many is chosen, and what it was sent is checked.
const JOB_CLK: u64 = 1550;
/// The same, of one that is alone: around its input and its output, and one look whether it is done.
const ONLY_JOB_CLK: u64 = 430;

impl Segment {
    fn bus_words(&self) -> usize {
        let tiles = [self.writes, self.reads].into_iter().flatten().map(|tile| tile.bus_words());
        tiles.sum::<usize>() + self.streamed_words()
    }

    fn streamed_words(&self) -> usize {
        self.streamed.as_ref().map_or(0, |streamed| streamed.section.words.len())
    }

    /// Clk for the host to write and begin a job of so many words, about, SCK as fast as clk.
    const fn written_clk(words: usize) -> u64 {
        WORD_CLK * words as u64 + JOB_CLK
    }

    /// Clk after which it has gone wrong: twice what it should take.
    #[must_use]
    pub fn limit_clk(&self) -> u32 {
        u32::try_from(2 * self.clk + 1000).unwrap_or(CLK_MAX).min(CLK_MAX)
    }
}

/// Makes a plan of a network: of all the ways to lay out its input, the quickest.
///
/// # Errors
///
/// [`Unfit`] says what does not fit.
pub fn compile(network: &Network) -> Result<Plan, Unfit> {
    let shapes = shapes::of(network)?;
    if network.layers.is_empty() {
        return Err(Unfit::Empty);
    }
    let mut best = lay_out(network, Fold::plain(network));
    // Whatever else is wrong is wrong in every way.
    if matches!(best, Ok(_) | Err(Unfit::Large { .. } | Unfit::Tight { .. })) {
        let turned = turn::network(network, &shapes);
        let ways = folded(network, false).into_iter().chain(turned.iter().flat_map(|network| folded(network, true)));
        for plan in ways.filter_map(|(network, fold)| lay_out(&network, fold).ok()) {
            if !best.as_ref().is_ok_and(|best| best.whole_clk() <= plan.whole_clk()) {
                best = Ok(plan);
            }
        }
    }
    let mut plan = best?;
    for (cost, macs) in plan.costs.iter_mut().zip(shapes::macs(network, &shapes)) {
        cost.macs = macs;
    }
    plan.input.shape = network.input;
    Ok(plan)
}

/// A network in all the ways to fold its input.
fn folded(network: &Network, turned: bool) -> Vec<(Network, Fold)> {
    let ways = Fold::all(network, turned).into_iter();
    ways.filter_map(|fold| Some((fold.network(network)?, fold))).collect()
}

/// The plan of a network whose input has been folded so.
fn lay_out(network: &Network, fold: Fold) -> Result<Plan, Unfit> {
    let shapes = shapes::of(network)?;
    let pads = step::padding_values(network);
    let room = BANK_WORDS - pads.len();
    let images = places::places(&shapes, network, room)?;
    let mut parts = Vec::new();
    let mut zero_point = network.zero_point;
    for (operation, around) in network.layers.iter().zip(images.windows(2)) {
        let [input, output] = around else { continue };
        let pad = step::pad_value(operation, zero_point);
        let pad = pads.iter().position(|value| *value == pad).unwrap_or(0);
        let step = Step { operation, input, output, zero_point, pad_word: BANK_WORDS - 1 - pad, room };
        parts.push(step.part()?);
        zero_point = step::zero_point_after(operation, zero_point);
    }
    let (Some(input), Some(output)) = (images.first(), images.last()) else { return Err(Unfit::Empty) };
    ends(&mut parts, input, output);
    let jobs = Jobs::of(&parts).ok_or_else(|| too_large(network, &parts))?;
    let names = network.layers.iter().map(|operation| operation.name.clone());
    let costs = names.zip(&jobs.costs).map(|(name, (clk, words))| Cost { name, macs: 0, clk: *clk, words: *words });
    let costs = costs.collect();
    let (mut sections, segments) = jobs.finish();
    sections.extend(padding(&pads));
    let is_seen = |image: &Image| image.is_on_host || image.number == 0 || image.number == network.layers.len();
    let sizes = images.iter().map(|image| if is_seen(image) { image.layout.shape.count() } else { 0 }).collect();
    let input = Input { shape: input.layout.shape, fold };
    Ok(Plan { sections, input, output: output.layout, segments, images: sizes, costs })
}

/// The input comes from the host and the output goes there, as a whole if nothing else was said.
fn ends(parts: &mut [Part], input: &Image, output: &Image) {
    let whole = |image: &Image| Some(image.tile(&(0..image.layout.shape.rows)));
    if let Some(first) = parts.first_mut().and_then(|part| part.bands.first_mut()) {
        first.input = first.input.or_else(|| whole(input));
    }
    if let Some(last) = parts.last_mut().and_then(|part| part.bands.last_mut()) {
        last.output = last.output.or_else(|| whole(output));
    }
}

/// Names the part of which the least is the most.
fn too_large(network: &Network, parts: &[Part]) -> Unfit {
    let largest = network.layers.iter().zip(parts).max_by_key(|(_, part)| part.least());
    largest.map_or(Unfit::Empty, |(operation, part)| Unfit::Large {
        layer: operation.name.clone(),
        what: "words of weights at once",
        got: part.least(),
        most: WEIGHT_WORDS / 2,
    })
}

fn padding(pads: &[i8]) -> impl Iterator<Item = Section> {
    pads.iter().enumerate().flat_map(|(number, pad)| {
        let words = Vec::from([[pad.to_ne_bytes()[0]; WORD_BYTES]]);
        let word = u16::try_from(BANK_WORDS - 1 - number).unwrap_or(u16::MAX);
        [word, word + Layout::BANK]
            .map(|word| Section { place: Place { space: Space::Activations, word }, words: words.clone() })
    })
}
