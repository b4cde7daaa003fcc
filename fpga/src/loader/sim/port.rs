//! The port: what levels, clocks and time do to the part.

use super::reading::{Outcome, Reading};
use super::{Broken, Defect};
use crate::loader::Pin;

/// The clock, in ns: the slowest that the part allows.
const CLOCK_NS: u64 = 1_000;
const RESET_NS_MIN: u64 = 200;
const HOUSEKEEPING_NS_MIN: u64 = 1_200_000;
const LEAD_CLOCKS_MIN: u32 = 8;
const WAKE_CLOCKS_MIN: u32 = 49;

/// Levels, time, and what the part makes of them.
#[derive(Debug)]
pub(super) struct Port {
    state: State,
    broken: Option<Broken>,
    now_ns: u64,
    /// When CRESET moved last.
    reset_ns: u64,
    select: bool,
    reset: bool,
    unflushed: bool,
    /// What came over the bus, and what of it came with SS low for the part to read.
    bytes: u64,
    read_bytes: u64,
}

/// What the part does.
#[derive(Debug)]
enum State {
    /// Nothing, and hears nothing.
    Deaf,
    /// In reset.
    Held,
    Clearing,
    /// Counts clocks with SS high.
    Leading {
        clocks: u32,
    },
    Reading(Reading),
    /// Counts clocks until its pins belong to the design.
    Waking {
        clocks: u32,
    },
    Running,
}

impl Port {
    pub(super) fn blank() -> Self {
        Self::new(State::Deaf)
    }

    pub(super) fn running() -> Self {
        Self::new(State::Running)
    }

    fn new(state: State) -> Self {
        Self {
            state,
            broken: None,
            now_ns: 0,
            reset_ns: 0,
            select: true,
            reset: true,
            unflushed: false,
            bytes: 0,
            read_bytes: 0,
        }
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.state, State::Running)
    }

    pub(super) fn is_held(&self) -> bool {
        !self.reset && self.select
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(super) fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    pub(super) fn flush(&mut self) {
        self.unflushed = false;
    }

    /// The processor moves a pin.
    pub(super) fn set(&mut self, pin: Pin, high: bool, defect: Defect) {
        self.touch();
        match pin {
            Pin::Select if high != self.select => {
                self.select = high;
                self.select_moved(high);
            }
            Pin::Reset if high != self.reset => {
                self.reset = high;
                if defect != Defect::ResetOpen {
                    self.reset_moved(high);
                }
            }
            Pin::Select | Pin::Reset | Pin::Done => {}
        }
    }

    /// The level of CDONE, which a pull-up makes high.
    pub(super) fn done(&mut self, defect: Defect) -> bool {
        self.touch();
        match self.state {
            _ if defect == Defect::DoneHigh => true,
            _ if defect == Defect::DoneLow => false,
            State::Running => true,
            State::Waking { clocks } => clocks >= late(defect),
            State::Deaf | State::Held | State::Clearing | State::Leading { .. } | State::Reading(_) => false,
        }
    }

    /// A byte comes over the bus; whether the bus could.
    pub(super) fn byte(&mut self, byte: u8, defect: Defect) -> bool {
        if defect == Defect::BusFails(self.bytes) {
            return false;
        }
        self.bytes += 1;
        self.unflushed = true;
        let read = !self.select && matches!(self.state, State::Reading(_));
        let lost = read && defect == Defect::LostByte(self.read_bytes);
        for bit in 0..8_u8 {
            self.now_ns += CLOCK_NS;
            let flipped = read && defect == Defect::FlippedBit(self.read_bytes * 8 + u64::from(bit));
            if !lost {
                self.clock((byte << bit & 0x80 != 0) != flipped, defect);
            }
        }
        self.read_bytes += u64::from(read);
        true
    }

    fn clock(&mut self, bit: bool, defect: Defect) {
        match &mut self.state {
            State::Clearing => self.breaks(if self.is_clear() { Broken::Lead } else { Broken::Early }),
            State::Leading { clocks } => *clocks += 1,
            State::Reading(reading) => match reading.bit(bit) {
                Outcome::Goes => {}
                Outcome::Wrong => self.state = State::Deaf,
                Outcome::Woke => self.state = State::Waking { clocks: 0 },
            },
            State::Waking { clocks } => {
                *clocks += 1;
                if *clocks >= WAKE_CLOCKS_MIN + late(defect) {
                    self.state = State::Running;
                }
            }
            State::Deaf | State::Held | State::Running => {}
        }
    }

    fn select_moved(&mut self, high: bool) {
        match self.state {
            State::Clearing if !self.is_clear() => self.breaks(Broken::Early),
            State::Clearing => self.state = State::Leading { clocks: 0 },
            State::Leading { clocks } if !high && clocks >= LEAD_CLOCKS_MIN => {
                self.state = State::Reading(Reading::default());
                self.read_bytes = 0;
            }
            State::Leading { .. } => self.breaks(Broken::Lead),
            State::Reading(_) => self.breaks(Broken::Interrupted),
            State::Deaf | State::Held | State::Waking { .. } | State::Running => {}
        }
    }

    fn reset_moved(&mut self, high: bool) {
        let was_low_ns = self.now_ns - self.reset_ns;
        self.reset_ns = self.now_ns;
        self.state = if high { State::Clearing } else { State::Held };
        if high && was_low_ns < RESET_NS_MIN {
            self.breaks(Broken::ResetShort);
        } else if high && self.select {
            self.breaks(Broken::SelectHigh);
        }
    }

    fn is_clear(&self) -> bool {
        self.now_ns - self.reset_ns >= HOUSEKEEPING_NS_MIN
    }

    /// A pin is moved or read, for which the bus must be at rest.
    fn touch(&mut self) {
        if self.unflushed {
            self.breaks(Broken::Unflushed);
        }
    }

    fn breaks(&mut self, rule: Broken) {
        self.broken = self.broken.or(Some(rule));
        self.state = State::Deaf;
    }
}

/// Clocks between the end of a bitstream and CDONE.
fn late(defect: Defect) -> u32 {
    if let Defect::LateDone(clocks) = defect { clocks } else { 0 }
}
