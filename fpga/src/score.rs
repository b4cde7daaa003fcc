//! Scoring by a plan: on an engine, or on its twin.
//!
//! A plan whose weights do not all fit has several jobs. Over the bus goes what the next one needs while one
//! runs and what it was given is checked:
//!
//! ```text
//!   bus      input | weights 1 | weights 2 | ...
//!   engine           job 0     | job 1     | job 2
//!   check                      | weights 1 | weights 2
//! ```

use std::boxed::Box;
use std::vec::Vec;

use crate::bus::{Bus, BusFault};
use crate::compile::{Layout, Plan, Segment};
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
        self.plan.segments.first().map_or(Ok(()), |segment| choose(&mut self.engine, segment))
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
}

impl<B: Bus> Scores for Loaded<B> {
    type Error = EngineFault;

    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, EngineFault> {
        let (expected, got) = (self.plan.input.shape.count(), input.len());
        if got != expected {
            return Err(EngineFault::Length { expected, got });
        }
        let Some((first, others)) = self.plan.segments.split_first() else { return Ok(Vec::new()) };
        // It is chosen already if there is no other.
        if !others.is_empty() {
            choose(&mut self.engine, first)?;
        }
        for bank in 1..self.plan.input.banks() {
            self.engine.load(self.plan.input.place(bank), self.plan.input.pack(bank, input).as_flattened())?;
        }
        self.engine.begin(self.plan.input.place(0), self.plan.input.pack(0, input).as_flattened())?;
        let mut running = first;
        for segment in others {
            stream(&mut self.engine, running, segment)?;
            running = segment;
        }
        end(&mut self.engine, running)?;
        let mut output = std::vec![0; self.plan.output.shape.count()];
        for bank in 0..self.plan.output.banks() {
            let mut words = std::vec![[0; WORD_BYTES]; self.plan.output.words()];
            self.engine.fetch(self.plan.output.place(bank), words.as_flattened_mut())?;
            self.plan.output.unpack(bank, &words, &mut output);
        }
        Ok(output)
    }
}

fn choose<B: Bus>(engine: &mut Engine<B>, segment: &Segment) -> Result<(), EngineFault> {
    engine.choose(segment.first_layer, segment.limit_clk())
}

/// Writes what a job needs while another is running, and begins it when that has ended.
fn stream<B: Bus>(engine: &mut Engine<B>, running: &Segment, next: &Segment) -> Result<(), EngineFault> {
    let Some(streamed) = &next.streamed else { return Ok(()) };
    let place = streamed.section.place;
    let Some((last, words)) = streamed.section.words.split_last() else { return Ok(()) };
    let count = u16::try_from(words.len()).map_err(|_| BusFault::Length(words.len()))?;
    if count > 0 {
        engine.load(place, words.as_flattened())?;
    }
    end(engine, running)?;
    choose(engine, next)?;
    engine.begin(Place { word: place.word + count, ..place }, last)?;
    engine.begin_check(place.word, words.len() + 1)
}

/// Waits for the end of a job, and whether it had the weights that it should.
fn end<B: Bus>(engine: &mut Engine<B>, segment: &Segment) -> Result<(), EngineFault> {
    engine.finish(LOOKS_MAX)?;
    match &segment.streamed {
        Some(streamed) => engine.checked(streamed.section.place.word, streamed.crc, LOOKS_MAX),
        None => Ok(()),
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
        for bank in 0..self.plan.input.banks() {
            let words = self.plan.input.pack(bank, input);
            self.activations(self.plan.input.place(bank).word, &words);
        }
        for segment in &self.plan.segments {
            if let Some(streamed) = &segment.streamed {
                put(&mut self.weights, streamed.section.place.word, &streamed.section.words);
            }
            let memory = Memory { weights: &self.weights, table: &self.table };
            memory.run(segment.first_layer, &mut self.banks)?;
        }
        let mut output = std::vec![0; self.plan.output.shape.count()];
        for bank in 0..self.plan.output.banks() {
            let at = usize::from(self.plan.output.from);
            let words = self.banks.get(usize::from(bank)).and_then(|bank| bank.get(at..)).unwrap_or_default();
            self.plan.output.unpack(bank, words, &mut output);
        }
        Ok(output)
    }
}

fn put(memory: &mut [Word], at: u16, words: &[Word]) {
    for (to, word) in memory.iter_mut().skip(at.into()).zip(words) {
        *to = *word;
    }
}
