//! An engine that may fail, and answers that do not.
//!
//! ```text
//!   score ──► engine ──ok──────────────────────────────► answer
//!               │ fault
//!               ├─► weights again ──► engine ──ok───────► answer, Recovered(Weights)
//!               ├─► bitstream and weights ──► engine ─ok► answer, Recovered(Bitstream)
//!               └─► twin ───────────────────────────────► the same answer, Fallen
//!                      after ROWS_APART rows: up the ladder again ──ok──► Returned
//! ```
//!
//! Single bits lost on the wires are the bus's to repair and do not come here. What comes here costs time,
//! never a row, and never changes an answer: the twin is the engine bit for bit.

use std::string::String;
use std::vec::Vec;

use crate::bus::Bus;
use crate::compile::Plan;
use crate::engine::{Engine, EngineFault};
use crate::score::{Loaded, Scores, Twin};
use crate::twin::Fault;

/// Rows that the twin scores before the engine is tried again.
const ROWS_APART: u32 = 1000;
/// Rows after which the engine's weights are compared with the plan's.
const ROWS_UNCHECKED_MAX: u32 = 10_000;
/// Events that wait for [`Accelerator::poll_event`] at most; the oldest give way.
const EVENTS_MAX: usize = 64;

/// Loads the bitstream, by whatever the board has for it.
pub trait Reload {
    /// Loads it.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    fn reload(&mut self) -> Result<(), String>;

    /// What the engine must say it was built from once this is loaded; `None` if any will do. An engine that
    /// says something else is loaded anew before it gets any weights.
    fn build(&self) -> Option<u32> {
        None
    }
}

/// How far down the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The weights were loaded again.
    Weights,
    /// The bitstream was loaded again, and the weights.
    Bitstream,
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The engine failed and scores again.
    Recovered {
        /// By what.
        by: Rung,
        /// From what.
        from: EngineFault,
    },
    /// The engine failed and the twin scores.
    Fallen {
        /// Why, at last.
        from: EngineFault,
        /// Why the bitstream could not be loaded again, if that is it.
        reload: Option<String>,
    },
    /// The engine scores again, after the twin.
    Returned,
}

/// Who scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The engine.
    Engine,
    /// Its twin, for so many rows yet.
    Twin {
        /// Until the engine is tried again.
        rows_left: u32,
    },
}

/// The engine works again: by what, and what it said to the row that was asked.
struct Climbed {
    by: Rung,
    answer: Option<Vec<i8>>,
}

/// It does not.
struct Failed {
    fault: EngineFault,
    reload: Option<String>,
}

/// An engine, how to load it, and its twin.
#[derive(Debug)]
pub struct Accelerator<B, R> {
    loaded: Loaded<B>,
    reload: R,
    twin: Twin,
    known: (Vec<i8>, Vec<i8>),
    backend: Backend,
    unchecked: u32,
    events: Vec<Event>,
}

impl<B: Bus, R: Reload> Accelerator<B, R> {
    /// Loads the plan into the engine and has it answer a question of which the answer is known. An engine
    /// that cannot is an event, not an error: then the twin scores.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the plan makes no sense, not even to the twin.
    pub fn new(engine: Engine<B>, reload: R, plan: Plan) -> Result<Self, Fault> {
        let mut twin = Twin::new(plan.clone());
        let question: Vec<i8> = (0..=u8::MAX)
            .cycle()
            .map(|value| i8::from_ne_bytes([value.wrapping_mul(157)]))
            .take(plan.input.shape.count())
            .collect();
        let answer = twin.score(&question)?;
        let loaded = Loaded::later(engine, plan);
        let backend = Backend::Twin { rows_left: 0 };
        let mut accelerator =
            Self { loaded, reload, twin, known: (question, answer), backend, unchecked: 0, events: Vec::new() };
        match accelerator.climb(None) {
            Ok(_) => accelerator.backend = Backend::Engine,
            Err(failed) => accelerator.fall(failed),
        }
        Ok(accelerator)
    }

    /// Who scores.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// The engine.
    pub const fn engine(&mut self) -> &mut Engine<B> {
        self.loaded.engine()
    }

    /// Clk that the engine takes for an input, in all its jobs; it scores one to know it.
    ///
    /// # Errors
    ///
    /// [`EngineFault`].
    pub fn clk(&mut self) -> Result<u64, EngineFault> {
        self.loaded.clk()
    }

    /// The oldest event that nobody has taken.
    pub fn poll_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// Loads the weights and asks the known question; if that is no use, after the bitstream. Says by which.
    fn climb(&mut self, row: Option<&[i8]>) -> Result<Climbed, Failed> {
        let fault = match self.prove(row) {
            Ok(answer) => return Ok(Climbed { by: Rung::Weights, answer }),
            Err(fault) => fault,
        };
        if let Err(why) = self.reload.reload() {
            return Err(Failed { fault, reload: Some(why) });
        }
        match self.prove(row) {
            Ok(answer) => Ok(Climbed { by: Rung::Bitstream, answer }),
            Err(fault) => Err(Failed { fault, reload: None }),
        }
    }

    fn prove(&mut self, row: Option<&[i8]>) -> Result<Option<Vec<i8>>, EngineFault> {
        if let Some(expected) = self.reload.build() {
            let got = self.loaded.engine().identify()?.build;
            if got != expected {
                return Err(EngineFault::Build { expected, got });
            }
        }
        self.loaded.load()?;
        self.unchecked = 0;
        let (question, answer) = &self.known;
        if self.loaded.score(question)? != *answer {
            return Err(EngineFault::Wrong);
        }
        row.map(|row| self.loaded.score(row)).transpose()
    }

    fn fall(&mut self, failed: Failed) {
        self.tell(Event::Fallen { from: failed.fault, reload: failed.reload });
        self.backend = Backend::Twin { rows_left: ROWS_APART };
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(event);
    }

    fn by_engine(&mut self, input: &[i8]) -> Result<Vec<i8>, EngineFault> {
        if self.unchecked == ROWS_UNCHECKED_MAX {
            self.loaded.check()?;
            self.unchecked = 0;
        }
        self.unchecked += 1;
        self.loaded.score(input)
    }
}

impl<B: Bus, R: Reload> Scores for Accelerator<B, R> {
    type Error = Fault;

    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, Fault> {
        // No fault of the engine, and nothing to climb for.
        if input.len() != self.known.0.len() {
            return self.twin.score(input);
        }
        let (climbed, from) = match self.backend {
            Backend::Engine => match self.by_engine(input) {
                Ok(answer) => return Ok(answer),
                Err(fault) => (self.climb(Some(input)), Some(fault)),
            },
            Backend::Twin { rows_left: 0 } => (self.climb(Some(input)), None),
            Backend::Twin { rows_left } => {
                self.backend = Backend::Twin { rows_left: rows_left - 1 };
                return self.twin.score(input);
            }
        };
        match climbed {
            Ok(Climbed { by, answer: Some(answer) }) => {
                self.backend = Backend::Engine;
                self.tell(from.map_or(Event::Returned, |from| Event::Recovered { by, from }));
                return Ok(answer);
            }
            Ok(Climbed { answer: None, .. }) => {}
            Err(failed) if from.is_some() => self.fall(failed),
            // That it fails was said when it first did.
            Err(_) => self.backend = Backend::Twin { rows_left: ROWS_APART },
        }
        self.twin.score(input)
    }
}
