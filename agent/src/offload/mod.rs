//! Offload: a model whose package has a bitstream is scored by the FPGA of this device, if it has one.
//!
//! ```text
//!  agent ── setup, which calls answer ──> the model's process
//!    ^                                      │ holds the lock: one model has the engine, others the twin
//!    │                                      v
//!  drive <── totals, a line of JSON ── Meter ──> Accelerator ──> board
//!    └──> record for the hub; in probation, a release that stops the engine goes back
//! ```
//!
//! Model and bitstream are one package, so both change at once and go back at once. The engine is taken by
//! the first call of a model that answers, after it was answered: nobody waits for a bitstream to load. The
//! process that had it before gives it up by ending.

mod meter;
mod told;

use std::path::{Path, PathBuf};

use bellwether_fpga::board::Shared;
use bellwether_fpga::board::linux::Wiring;
use bellwether_fpga::board::simulated::Simulated;
use bellwether_protocol::trust;
use serde::{Deserialize, Serialize};

pub(crate) use meter::{Hosted, Meter, TELL_EVERY};
pub(crate) use told::{Offloaded, Origin, Totals, listen};

/// Name of the file in the agent's directory that the model with the engine has locked.
const LOCK: &str = "accelerator.lock";

/// What this device has to offload models to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Accelerator {
    /// Nothing but software that gives an engine's answers: for trying out. With braces, so that a key that it
    /// does not have is refused.
    Twin {},
    /// The engine's gateware, simulated.
    Simulated {
        /// What `fpga/rtl/build sim` made.
        program: PathBuf,
    },
    /// The engine in an iCE40 UP5K that this device loads.
    Ice40 {
        /// Its SPI, such as `/dev/spidev0.0`.
        spi: PathBuf,
        /// The chip of its lines, such as `/dev/gpiochip0`.
        gpio: PathBuf,
        /// The line that selects it.
        select: u32,
        /// The line of CRESET.
        reset: u32,
        /// The line of CDONE.
        done: u32,
        /// SCK, 1 to 24 MHz.
        #[serde(default = "usual_hz")]
        hz: u32,
    },
}

const fn usual_hz() -> u32 {
    12_000_000
}

impl Accelerator {
    /// As reports name it.
    #[must_use]
    pub const fn reported(&self) -> trust::Accelerator {
        match self {
            Self::Twin {} => trust::Accelerator::Twin,
            Self::Simulated { .. } => trust::Accelerator::Simulated,
            Self::Ice40 { .. } => trust::Accelerator::Ice40Up5k,
        }
    }

    /// The board with the engine; none for a twin.
    fn board(&self) -> Result<Option<Shared>, String> {
        match self {
            Self::Twin {} => Ok(None),
            Self::Simulated { program } => Ok(Some(Simulated::board(program))),
            Self::Ice40 { spi, gpio, select, reset, done, hz } => {
                let (spi, gpio) = (spi.clone(), gpio.clone());
                let wiring = Wiring { spi, gpio, select: *select, reset: *reset, done: *done, hz: *hz };
                wiring.board().map(Some)
            }
        }
    }
}

/// What a model's process is told, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) accelerator: Accelerator,
    /// A file that is locked by whoever has the engine.
    pub(crate) lock: PathBuf,
}

impl Setup {
    pub(crate) fn new(accelerator: Accelerator, data: &Path) -> Self {
        Self { accelerator, lock: data.join(LOCK) }
    }

    /// Cycles in a millisecond: what the engine is shipped at, as README and report say.
    pub(crate) const CLOCK_KHZ: u32 = 24_000;
}
