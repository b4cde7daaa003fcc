//! Scoring by a plan: on an engine, or on its twin.
//!
//! A plan of what does not fit at once has several jobs. While one runs and its weights are checked, those of
//! the next go over the bus; rows of images that are on the host go before and after:
//!
//! ```text
//!   bus      input | weights 1 | weights 2 | rows |       | rows | rows |       | output
//!   engine           job 0     | job 1     |      | job 2 |             | job 3 |
//!   check                      | weights 1 |      | weights 2
//! ```

use std::boxed::Box;
use std::vec::Vec;

use crate::bus::Bus;
use crate::compile::{Layout, Plan, Segment, Streamed, Tile};
use crate::engine::{Engine, EngineFault};
use crate::frame::Place;
use crate::layer::{BANK_WORDS, TABLE_WORDS, WEIGHT_WORDS, WORD_BYTES};
use crate::registers::Space;
use crate::twin::{Banks, Fault, Memory, Word};

/// Looks at the status until a job is done, at most: each takes as long as a frame of ten bytes.
const LOOKS_MAX: u32 = 1_000_000;

/// Where a row's scores come from.
pub trait Scores {
    /// What can go wrong.
    type Error;

    /// Scores one input, `[rows, columns, channels]`.
    ///
    /// # Errors
    ///
    /// If there is no output.
    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, Self::Error>;
}

/// An engine with a plan in it.
#[derive(Debug)]
pub struct Loaded<B> {
    engine: Engine<B>,
    plan: Plan,
}

impl<B: Bus> Loaded<B> {
    /// Loads the plan and has the engine check that its weights arrived.
    ///
    /// # Errors
    ///
    /// [`EngineFault`].
    pub fn new(engine: Engine<B>, plan: Plan) -> Result<Self, EngineFault> {
        let mut loaded = Self::later(engine, plan);
        loaded.load()?;
        Ok(loaded)
    }

    /// To be loaded with [`Loaded::load`] before it scores.
    pub const fn later(engine: Engine<B>, plan: Plan) -> Self {
        Self { engine, plan }
    }

    /// Loads the plan, again if need be, and has the engine check that its weights arrived.
    ///
    /// # Errors
    ///
    /// [`EngineFault`].
    pub fn load(&mut self) -> Result<(), EngineFault> {
        self.engine.identify()?;
        self.engine.stop()?;
        for section in &self.plan.sections {
            self.engine.load(section.place, section.words.as_flattened())?;
        }
        self.check()?;
        match self.plan.segments.first() {
            Some(segment) => self.engine.choose(segment.first_layer, segment.limit_clk()),
            None => Ok(()),
        }
    }

    /// Compares the weights that stay in the engine with the plan's; those that do not are, whenever they come.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Changed`].
    pub fn check(&mut self) -> Result<(), EngineFault> {
        for section in self.plan.sections.iter().filter(|section| section.place.space == Space::Weights) {
            self.engine.check(section.place.word, section.words.as_flattened(), LOOKS_MAX)?;
        }
        Ok(())
    }

    /// Clk that the engine takes for an input, in all its jobs: that of zeros is scored to know it.
    ///
    /// # Errors
    ///
    /// [`EngineFault`].
    pub fn clk(&mut self) -> Result<u64, EngineFault> {
        let mut clk = 0;
        self.run(&std::vec![0; self.plan.input.shape.count()], |engine| {
            clk += u64::from(engine.cycles()?);
            Ok(())
        })?;
        Ok(clk)
    }

    /// The engine.
    pub const fn engine(&mut self) -> &mut Engine<B> {
        &mut self.engine
    }

    /// The engine, alone.
    pub fn into_engine(self) -> Engine<B> {
        self.engine
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Scores an input; `ended` after each job.
    fn run(
        &mut self,
        input: &[i8],
        mut ended: impl FnMut(&mut Engine<B>) -> Result<(), EngineFault>,
    ) -> Result<Vec<i8>, EngineFault> {
        let (expected, got) = (self.plan.input.shape.count(), input.len());
        if got != expected {
            return Err(EngineFault::Length { expected, got });
        }
        let mut images = Images::new(&self.plan, input);
        let mut running: Option<&Segment> = None;
        for segment in &self.plan.segments {
            if let Some(streamed) = &segment.streamed {
                self.engine.load(streamed.section.place, streamed.section.words.as_flattened())?;
            }
            if let Some(running) = running {
                end(&mut self.engine, running, &mut images)?;
                ended(&mut self.engine)?;
            }
            // It is chosen already if there is no other.
            if self.plan.segments.len() > 1 {
                self.engine.choose(segment.first_layer, segment.limit_clk())?;
            }
            begin(&mut self.engine, segment, &images)?;
            running = Some(segment);
        }
        if let Some(running) = running {
            end(&mut self.engine, running, &mut images)?;
            ended(&mut self.engine)?;
        }
        Ok(images.into_output())
    }
}

impl<B: Bus> Scores for Loaded<B> {
    type Error = EngineFault;

    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, EngineFault> {
        self.run(input, |_| Ok(()))
    }
}

/// Begins a job, and the check of what was streamed for it.
fn begin<B: Bus>(engine: &mut Engine<B>, segment: &Segment, images: &Images) -> Result<(), EngineFault> {
    if let Some(Streamed { section, .. }) = &segment.streamed {
        engine.begin_check(section.place.word, section.words.len())?;
    }
    let Some(tile) = &segment.writes else {
        // It takes a word to begin: one that is there already.
        return engine.begin(Place { space: Space::Weights, word: segment.first_layer }, &segment.head);
    };
    for bank in 1..tile.layout.banks() {
        engine.load(tile.layout.place(bank), tile.layout.pack(bank, images.of(tile)).as_flattened())?;
    }
    engine.begin(tile.layout.place(0), tile.layout.pack(0, images.of(tile)).as_flattened())
}

/// Waits for the end of a job, whether it had the weights that it should, and for what it made.
fn end<B: Bus>(engine: &mut Engine<B>, segment: &Segment, images: &mut Images) -> Result<(), EngineFault> {
    engine.finish(LOOKS_MAX)?;
    if let Some(Streamed { section, crc }) = &segment.streamed {
        engine.checked(section.place.word, *crc, LOOKS_MAX)?;
    }
    let Some(tile) = &segment.reads else { return Ok(()) };
    for bank in 0..tile.layout.banks() {
        let mut words = std::vec![[0; WORD_BYTES]; tile.layout.words()];
        engine.fetch(tile.layout.place(bank), words.as_flattened_mut())?;
        tile.layout.unpack(bank, &words, images.of_mut(tile));
    }
    Ok(())
}

/// What the host has of one inference: input, output, and what does not fit in between.
struct Images(Vec<Vec<i8>>);

impl Images {
    fn new(plan: &Plan, input: &[i8]) -> Self {
        let mut images: Vec<Vec<i8>> = plan.images.iter().map(|values| std::vec![0; *values]).collect();
        if let Some(first) = images.first_mut() {
            *first = plan.input.arrange(input);
        }
        Self(images)
    }

    fn of(&self, tile: &Tile) -> &[i8] {
        self.0.get(tile.image).and_then(|image| image.get(tile.values())).unwrap_or_default()
    }

    fn of_mut(&mut self, tile: &Tile) -> &mut [i8] {
        self.0.get_mut(tile.image).and_then(|image| image.get_mut(tile.values())).unwrap_or_default()
    }

    fn into_output(mut self) -> Vec<i8> {
        self.0.pop().unwrap_or_default()
    }
}

/// The twin with a plan in it.
#[derive(Clone, Debug)]
pub struct Twin {
    weights: Vec<Word>,
    table: Vec<Word>,
    banks: Box<Banks>,
    plan: Plan,
}

impl Twin {
    /// Loads the plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut twin = Self {
            weights: Vec::new(),
            table: std::vec![[0; WORD_BYTES]; TABLE_WORDS],
            banks: Box::new([[[0; WORD_BYTES]; BANK_WORDS]; 2]),
            plan,
        };
        for section in twin.plan.sections.clone() {
            match section.place.space {
                Space::Weights => {
                    twin.weights.resize(WEIGHT_WORDS, [0; WORD_BYTES]);
                    put(&mut twin.weights, section.place.word, &section.words);
                }
                Space::Table => put(&mut twin.table, section.place.word, &section.words),
                Space::Activations => twin.activations(section.place.word, &section.words),
                Space::Registers => {}
            }
        }
        twin
    }

    fn activations(&mut self, word: u16, words: &[Word]) {
        if let Some(bank) = self.banks.get_mut(usize::from(word / Layout::BANK)) {
            put(bank, word % Layout::BANK, words);
        }
    }
}

impl Scores for Twin {
    type Error = Fault;

    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, Fault> {
        let (expected, got) = (self.plan.input.shape.count(), input.len());
        if got != expected {
            return Err(Fault::Length { expected, got });
        }
        let mut images = Images::new(&self.plan, input);
        for segment in &self.plan.segments {
            if let Some(Streamed { section, .. }) = &segment.streamed {
                put(&mut self.weights, section.place.word, &section.words);
            }
            if let Some(tile) = &segment.writes {
                for (bank, words) in (0..tile.layout.banks()).zip(self.banks.iter_mut()) {
                    put(words, tile.layout.from, &tile.layout.pack(bank, images.of(tile)));
                }
            }
            let memory = Memory { weights: &self.weights, table: &self.table };
            memory.run(segment.first_layer, &mut self.banks)?;
            if let Some(tile) = &segment.reads {
                for (bank, words) in (0..tile.layout.banks()).zip(self.banks.iter()) {
                    let words = words.get(tile.layout.from.into()..).unwrap_or_default();
                    tile.layout.unpack(bank, words, images.of_mut(tile));
                }
            }
        }
        Ok(images.into_output())
    }
}

fn put(memory: &mut [Word], at: u16, words: &[Word]) {
    for (to, word) in memory.iter_mut().skip(at.into()).zip(words) {
        *to = *word;
    }
}
