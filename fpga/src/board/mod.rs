//! Boards: an engine behind SPI, and the pins that load its bitstream.
//!
//! ```text
//!   Engine<SpiBus<Shared>> ──┐
//!                            ├──► Board, one of them at a time
//!   Bitstream: Reload ───────┘
//! ```

#[cfg(feature = "linux")]
pub mod linux;
mod pins;
#[cfg(feature = "sim")]
pub mod simulated;

use std::boxed::Box;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

use embedded_hal::spi::{self, ErrorKind, ErrorType, Operation, SpiDevice};

use crate::accelerator::{Accelerator, Reload};
use crate::bitstream::ice40::{Facts, Refused, Walk};
use crate::bus::SpiBus;
use crate::compile::Plan;
use crate::engine::Engine;
use crate::twin::Fault;

/// The bitstream of this version for an iCE40 UP5K, as `fpga/rtl/build ship` made it.
pub const UP5K: &[u8] = include_bytes!("../../rtl/up5k/bellwether.bin");

/// An engine with what loads it.
pub trait Board: Send {
    /// A transaction with the engine.
    ///
    /// # Errors
    ///
    /// What the host's SPI says.
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind>;

    /// Loads a bitstream.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    fn load(&mut self, image: &[u8]) -> Result<(), String>;
}

/// A board, shared by what talks to the engine and what loads it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Box<dyn Board>>>);

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// A board.
    #[must_use]
    pub fn new(board: Box<dyn Board>) -> Self {
        Self(Arc::new(Mutex::new(board)))
    }

    /// An engine on this board, with a plan in it and its twin beside it.
    ///
    /// # Errors
    ///
    /// As [`Accelerator::new`].
    pub fn accelerator(&self, bitstream: Image, plan: Plan) -> Result<OnBoard, Fault> {
        let Image { bytes, facts } = bitstream;
        let bitstream = Bitstream { board: self.clone(), bytes, build: facts.build };
        Accelerator::new(Engine::new(SpiBus::new(self.clone())), bitstream, plan)
    }
}

/// An engine on a board.
pub type OnBoard = Accelerator<SpiBus<Shared>, Bitstream>;

/// The host's SPI failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(ErrorKind);

impl spi::Error for Failed {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl ErrorType for Shared {
    type Error = Failed;
}

impl SpiDevice for Shared {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Failed> {
        // A panic in a transfer leaves the board as a fault would, which its user mends.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).transaction(operations).map_err(Failed)
    }
}

/// A bitstream of the UP5K that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    facts: Facts,
}

impl Image {
    /// Reads a bitstream.
    ///
    /// # Errors
    ///
    /// [`Refused`], for the part or for what is wrong with it.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Refused> {
        let mut walk = Walk::new();
        walk.push(&bytes)?;
        Ok(Self { facts: walk.finish()?, bytes })
    }

    /// What it says of itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// A board's bitstream, to be loaded when the engine is not what it says.
#[derive(Debug)]
pub struct Bitstream {
    board: Shared,
    bytes: Vec<u8>,
    build: Option<u32>,
}

impl Reload for Bitstream {
    fn reload(&mut self) -> Result<(), String> {
        self.board.0.lock().unwrap_or_else(PoisonError::into_inner).load(&self.bytes)
    }

    fn build(&self) -> Option<u32> {
        self.build
    }
}
