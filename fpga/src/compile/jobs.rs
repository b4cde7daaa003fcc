//! Layers and their weights into the weight memory: all at once, or what does not fit in several loads.
//!
//! ```text
//!   word 0                                          16,384
//!   | load 0: stays            | window 1 | window 0 |
//!                                load 1, 3  load 2, 4
//! ```
//!
//! While a job runs, the host writes the next load into the other window. A layer that does not fit into what
//! is left is cut by output channels. A load is one job, or several where the host writes or reads rows in
//! between.

use std::ops::Range;
use std::vec::Vec;

use super::layout::Tile;
use super::weights::{Group, Packed};
use super::{Section, Segment, Streamed};
use crate::engine::crc32;
use crate::frame::Place;
use crate::layer::{Kind, LAYER_WORDS, Layer, Parameters, TABLE_WORDS, WEIGHT_WORDS, WORD_BYTES};
use crate::registers::Space;
use crate::twin::Word;

/// Words that the size of a window is a multiple of.
const WINDOW_STEP: usize = 256;

/// Channels of a layer at most, as it counts them.
const CHANNELS_MAX: usize = 1024;

/// Some rows of a layer, what the host writes before them and what it reads behind them.
#[derive(Clone, Copy)]
pub(super) struct Band {
    pub(super) layer: Layer,
    pub(super) input: Option<Tile>,
    pub(super) output: Option<Tile>,
}

/// A layer, in bands that share its weights.
pub(super) struct Part {
    pub(super) bands: Vec<Band>,
    pub(super) packed: Packed,
}

impl Part {
    fn is_sums(&self) -> bool {
        self.bands.first().is_some_and(|band| band.layer.kind == Kind::Sums)
    }

    /// Words of a channel, or of eight lanes.
    fn step(&self, in_table: bool) -> usize {
        let each = |group: &Group| group.weights.len() + if in_table { 0 } else { group.parameters.len() };
        self.packed.groups.first().map_or(0, each)
    }

    /// Channels of so many that `words` have room for: of sums whole eights, as a job writes whole words.
    fn channels(&self, words: usize, in_table: bool, left: usize) -> usize {
        let step = self.step(in_table);
        if self.packed.shared {
            return if step <= words { left } else { 0 };
        }
        let most = (words / step.max(1)).min(CHANNELS_MAX);
        if most >= left || !self.is_sums() { most.min(left) } else { most - most % WORD_BYTES }
    }

    /// Words that it needs at least.
    pub(super) fn least(&self) -> usize {
        let channels = if self.packed.shared || !self.is_sums() { 1 } else { self.packed.channels.min(WORD_BYTES) };
        LAYER_WORDS + channels * self.step(false)
    }
}

/// Layers and weights that are in the weight memory together.
#[derive(Default)]
struct Load {
    bands: Vec<Band>,
    weights: Vec<Word>,
}

/// Jobs, one behind the other.
pub(super) struct Jobs {
    window: usize,
    done: Vec<Load>,
    load: Load,
    table: Vec<Word>,
    /// Of each part: clk, and words of weights.
    pub(super) costs: Vec<(u64, usize)>,
}

impl Jobs {
    /// All parts, at best in one job, else with the windows that are quickest; `None` if a part needs more
    /// than there is.
    pub(super) fn of(parts: &[Part]) -> Option<Self> {
        let windows = (1..=WEIGHT_WORDS / 2 / WINDOW_STEP).map(|steps| steps * WINDOW_STEP);
        let streamed = || windows.filter_map(|window| Self::with(window, parts)).min_by_key(Self::whole_clk);
        Self::with(0, parts).or_else(streamed)
    }

    fn with(window: usize, parts: &[Part]) -> Option<Self> {
        let (done, table, costs) = (Vec::new(), Vec::new(), Vec::new());
        let mut jobs = Self { window, done, load: Load::default(), table, costs };
        for part in parts {
            jobs.costs.push((0, 0));
            jobs.add(part)?;
        }
        Some(jobs)
    }

    fn add(&mut self, part: &Part) -> Option<()> {
        let all = part.packed.channels;
        let bands = part.bands.len();
        let is_whole = self.room(part, bands, 0) == all;
        // Bands that share weights are better off together, if a job has room for them.
        let fits_next = part.channels(self.window.saturating_sub(bands * LAYER_WORDS), false, all) == all;
        if !is_whole && bands > 1 && fits_next {
            self.next()?;
        }
        let together = if is_whole || fits_next { bands } else { 1 };
        for bands in part.bands.chunks(together) {
            let mut from = 0;
            while from < all {
                match self.room(part, bands.len(), from) {
                    0 => self.next()?,
                    count => {
                        self.push(part, bands, from..from + count);
                        from += count;
                    }
                }
            }
        }
        Some(())
    }

    /// Channels of a part, from one on, that the job has room for.
    fn room(&self, part: &Part, bands: usize, from: usize) -> usize {
        let size = if self.done.is_empty() { WEIGHT_WORDS - 2 * self.window } else { self.window };
        let taken = (self.load.bands.len() + bands) * LAYER_WORDS + self.load.weights.len();
        let left = part.packed.channels - from;
        part.channels(size.saturating_sub(taken), self.is_for_table(part, left), left)
    }

    /// Biases and scales of sums go into the table as long as it lasts; it is written once.
    fn is_for_table(&self, part: &Part, channels: usize) -> bool {
        self.done.is_empty() && part.is_sums() && self.table.len() + channels <= TABLE_WORDS
    }

    fn push(&mut self, part: &Part, bands: &[Band], channels: Range<usize>) {
        let (first, count) = (channels.start, channels.len());
        let in_table = self.is_for_table(part, part.packed.channels - first);
        let at = self.load.weights.len();
        let groups = if part.packed.shared { 0..1 } else { channels };
        let groups = part.packed.groups.get(groups).unwrap_or_default();
        let parameters = if in_table {
            let from = u8::try_from(self.table.len()).unwrap_or(u8::MAX);
            self.table.extend(groups.iter().flat_map(|group| &group.parameters));
            Parameters::Table { from, step: 1 }
        } else {
            Parameters::Inline
        };
        for group in groups {
            self.load.weights.extend(&group.weights);
            if !in_table {
                self.load.weights.extend(&group.parameters);
            }
        }
        let step = if part.packed.shared { 0 } else { part.step(in_table) };
        let words = if part.is_sums() { first / WORD_BYTES } else { first };
        for Band { layer, input, output } in bands {
            let layer = Layer {
                parameters,
                channels: word(count),
                weights: word(at),
                weights_step: word(step),
                from: if part.is_sums() { layer.from } else { layer.from + word(words) },
                out: layer.out + word(words),
                ..*layer
            };
            if let Some(cost) = self.costs.last_mut() {
                cost.0 += clk(&layer);
            }
            let input = input.filter(|_| first == 0);
            let output = output.filter(|_| first + count == part.packed.channels);
            self.load.bands.push(Band { layer, input, output });
        }
        if let Some(cost) = self.costs.last_mut() {
            cost.1 += self.load.weights.len() - at;
        }
    }

    /// Ends the job and begins one in a window; `None` if nothing has come into it, or if there are none.
    fn next(&mut self) -> Option<()> {
        if self.window == 0 || self.load.bands.is_empty() {
            return None;
        }
        self.done.push(std::mem::take(&mut self.load));
        Some(())
    }

    /// Clk of all of it, about, but for the rows that the host writes and reads: what is streamed comes while
    /// the last job before it is running.
    fn whole_clk(&self) -> u64 {
        let (mut whole, mut running) = (0, 0);
        for (number, load) in self.done.iter().chain([&self.load]).enumerate() {
            let words = if number == 0 { 0 } else { load.bands.len() * LAYER_WORDS + load.weights.len() };
            whole += Segment::written_clk(words).max(running);
            for job in load.jobs(0) {
                whole += job.clk;
                running = job.clk;
            }
            whole -= running;
        }
        whole + running
    }

    /// What is written once, and the jobs.
    pub(super) fn finish(mut self) -> (Vec<Section>, Vec<Segment>) {
        self.done.push(self.load);
        let (mut sections, mut segments) = (Vec::new(), Vec::new());
        for (number, load) in self.done.into_iter().enumerate() {
            let from = word(if number == 0 { 0 } else { WEIGHT_WORDS - self.window * (1 + number % 2) });
            let mut jobs = load.jobs(from);
            let section = load.section(from);
            for job in &mut jobs {
                job.head = section.words.get(usize::from(job.first_layer - from)).copied().unwrap_or_default();
            }
            if number == 0 {
                sections.push(section);
            } else if let Some(first) = jobs.first_mut() {
                let crc = crc32(section.words.as_flattened());
                first.streamed = Some(Streamed { section, crc });
            }
            segments.append(&mut jobs);
        }
        if !self.table.is_empty() {
            sections.push(Section { place: Place { space: Space::Table, word: 0 }, words: self.table });
        }
        (sections, segments)
    }
}

impl Load {
    /// Whether a job ends behind a layer.
    fn ends(&self, number: usize) -> bool {
        let [this, next] = [number, number + 1].map(|number| self.bands.get(number));
        this.is_some_and(|this| this.output.is_some()) || next.is_none_or(|next| next.input.is_some())
    }

    /// Its jobs, once it lies from a word on.
    fn jobs(&self, from: u16) -> Vec<Segment> {
        let mut jobs: Vec<Segment> = Vec::new();
        let mut begins = true;
        for (number, band) in self.bands.iter().enumerate() {
            if begins {
                let first_layer = from + word(number * LAYER_WORDS);
                let (writes, head) = (band.input, Word::default());
                jobs.push(Segment { streamed: None, writes, first_layer, head, clk: 0, reads: None });
            }
            if let Some(job) = jobs.last_mut() {
                job.clk += clk(&band.layer);
                job.reads = band.output;
            }
            begins = self.ends(number);
        }
        jobs
    }

    /// Its layers, and its weights behind them.
    fn section(self, from: u16) -> Section {
        let behind = from + word(self.bands.len() * LAYER_WORDS);
        let layer = |(number, band): (usize, &Band)| Layer {
            weights: band.layer.weights + behind,
            last: self.ends(number),
            ..band.layer
        };
        let layers = self.bands.iter().enumerate().map(layer);
        let mut words: Vec<Word> = layers.flat_map(|layer| layer.encode()).map(u64::to_le_bytes).collect();
        words.extend(self.weights);
        Section { place: Place { space: Space::Weights, word: from }, words }
    }
}

/// Words of a memory have fewer than 16 bits.
fn word(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
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
