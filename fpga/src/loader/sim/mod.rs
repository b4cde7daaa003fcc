//! The configuration port of a UP5K, simulated: a part that minds every rule of it.
//!
//! Time is what the delays and the clocks add up to. The bits are read one by one, and by a
//! reading of its own, looser than [`crate::bitstream`] as the part's is; CDONE rises only after
//! the right CRC and rows as wide as the part's. A rule that was broken is kept for
//! [`Part::broken`], and the part stays dead until the next reset.

mod port;
mod reading;
mod wires;

use core::cell::{Cell, RefCell};

use port::Port;
pub use wires::{Bus, Delay, Failed, Wire};

use super::{Loader, Pin};

/// What is wrong with the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// CDONE is shorted to the supply.
    DoneHigh,
    /// CDONE is shorted to ground.
    DoneLow,
    /// CRESET is open, and pulled up at the part.
    ResetOpen,
    /// This bit of what comes with SS low arrives as its opposite.
    FlippedBit(u64),
    /// This byte of what comes with SS low does not arrive.
    LostByte(u64),
    /// The bus fails after so many bytes.
    BusFails(u64),
    /// A pin of the processor fails.
    PinFails(Pin),
    /// CDONE rises only so many clocks after the part woke.
    LateDone(u32),
}

/// A rule of the port that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// CRESET was low for too short a time.
    ResetShort,
    /// SS was high when CRESET rose: the part reads a flash.
    SelectHigh,
    /// Clocks, or SS, while the part cleared its memory.
    Early,
    /// Fewer than eight clocks with SS high before the bitstream.
    Lead,
    /// SS rose within the bitstream.
    Interrupted,
    /// A pin was moved or read while the bus was not flushed.
    Unflushed,
}

/// The part, and the board around it.
#[derive(Debug)]
pub struct Part {
    port: RefCell<Port>,
    defect: Cell<Defect>,
}

impl Part {
    /// After power-up, with nothing to run.
    #[must_use]
    pub fn blank(defect: Defect) -> Self {
        Self { port: RefCell::new(Port::blank()), defect: Cell::new(defect) }
    }

    /// While some design runs.
    #[must_use]
    pub fn running(defect: Defect) -> Self {
        Self { port: RefCell::new(Port::running()), defect: Cell::new(defect) }
    }

    /// A loader, wired to this part.
    pub fn loader(&self) -> Loader<Bus<'_>, Wire<'_>, Wire<'_>, Wire<'_>, Delay<'_>> {
        let wire = |pin| Wire { part: self, pin };
        Loader {
            bus: Bus { part: self },
            select: wire(Pin::Select),
            reset: wire(Pin::Reset),
            done: wire(Pin::Done),
            delay: Delay { part: self },
        }
    }

    /// Mends the board, or breaks it otherwise.
    pub fn set_defect(&self, defect: Defect) {
        self.defect.set(defect);
    }

    /// Whether a design runs and has its pins.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.port.borrow().runs()
    }

    /// Whether the part is held in reset, with SS high for others on the bus.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.port.borrow().is_held()
    }

    /// The first rule that was broken since power-up.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.port.borrow().broken()
    }

    /// What passed since power-up, in ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.port.borrow().now_ns()
    }
}
