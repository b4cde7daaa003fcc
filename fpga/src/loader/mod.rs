//! Loads a bitstream into an iCE40 through its configuration port, as the processor beside it.
//!
//! ```text
//!   SS      ‾‾\___________________/‾‾‾\_______________________/‾‾‾‾‾‾‾
//!   CRESET  ‾‾‾‾\______/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾
//!   SCK                             8   bitstream   0 to 104     56
//!   CDONE   ??????\___________________________________/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾
//!               1 µs     1200 µs
//! ```
//!
//! SS low at the rising edge of CRESET is what makes the part listen instead of reading a flash
//! of its own: that is why this takes the pins and an [`SpiBus`], and no `SpiDevice`, which has
//! SS to itself. The bus must run at 1 to 25 MHz and sample at the rising edge, so in mode 0 or
//! 3: at 1 MHz, loading takes 0.84 s.
//!
//! A bitstream is read twice, in pieces: once to the end, to check it, while what ran before
//! still runs; then again, to send it. Each piece is walked again before it is sent, so that a
//! storage that changes its mind is refused before the part wakes. After any fault the part is
//! held in reset, where it drives no pin. How often to try is the caller's to say.
//!
//! Sources: Lattice FPGA-TN-02001 (before: TN1248), "SPI Slave Configuration"; Linux,
//! `drivers/fpga/ice40-spi.c`, which sends no clocks before the bitstream; Zephyr,
//! `drivers/fpga/fpga_ice40.c`, which does. Never tried on hardware; `sim` stands in for it.

#[cfg(any(test, feature = "std"))]
pub mod fpga_manager;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

#[cfg(test)]
mod tests;

use core::convert::Infallible;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{self, InputPin, OutputPin};
use embedded_hal::spi::{self, SpiBus};

use crate::bitstream::ice40::{Facts, Refused, Walk};

/// Bytes that are read and sent at a time; they lie on the stack.
pub const PIECE_BYTES: usize = 256;
/// How long CRESET stays low: five times the 200 ns that it must.
const RESET_NS: u32 = 1_000;
/// How long the part clears its memory afterwards.
const HOUSEKEEPING_US: u32 = 1_200;
/// Eight clocks with SS high, between the clearing and the bitstream.
const LEAD_BYTES: usize = 1;
/// The 100 clocks within which CDONE must rise.
const DONE_BYTES_MAX: usize = 13;
/// The 49 clocks after which the pins belong to the design.
const WAKE_BYTES: usize = 7;

/// Where a bitstream comes from: memory, flash, a file. One that also hashes what it reads must
/// fail before it gives out the last three bytes, which wake the part.
pub trait Image {
    /// What can go wrong in reading.
    type Error;

    /// Fills the beginning of `into` with the bytes from `at` on, and says how many; none means
    /// that `at` is the end.
    ///
    /// # Errors
    ///
    /// What the storage says; loading ends.
    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Image for &[u8] {
    type Error = Infallible;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<usize, Infallible> {
        let rest = self.get(at..).unwrap_or_default();
        Ok(into.iter_mut().zip(rest).map(|(to, from)| *to = *from).count())
    }
}

/// Why a bitstream is not loaded. Except for a refusal at the first reading, which touches
/// nothing, the part is in reset afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// The bitstream is not right.
    #[error("the bitstream is refused: {0}; build it again for this part, or fetch it again")]
    Refused(#[from] Refused),
    /// The bitstream cannot be read.
    #[error("the bitstream cannot be read: {0}; look at the storage it lies in")]
    Image(E),
    /// The bus failed.
    #[error("the SPI bus failed: {0}; look at its pins and at who else uses it, then load again")]
    Bus(spi::ErrorKind),
    /// A pin failed.
    #[error("the pin {pin:?} failed: {kind}; look at how it is set up, then load again")]
    Pin {
        /// Which.
        pin: Pin,
        /// How.
        kind: digital::ErrorKind,
    },
    /// CDONE is high while CRESET is low.
    #[error("CDONE is high in reset; look whether CRESET reaches the part, and what else drives CDONE")]
    DoneStuckHigh,
    /// CDONE is low after a whole bitstream.
    #[error(
        "CDONE is low after the whole bitstream; look at the pull-up of CDONE, at SS, SCK and data between here \
         and the part, at its supplies and at the clock, which must be 1 to 25 MHz, then load again"
    )]
    DoneStuckLow,
}

/// The pins beside the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// SS, to the part, low when it is meant.
    Select,
    /// CRESET, to the part, low in reset.
    Reset,
    /// CDONE, from the part, high when it is configured.
    Done,
}

/// The configuration port of a part.
#[derive(Debug)]
pub struct Loader<Bus, Select, Reset, Done, Delay> {
    /// SCK and the data to the part; what comes back is not looked at.
    pub bus: Bus,
    /// SS.
    pub select: Select,
    /// CRESET.
    pub reset: Reset,
    /// CDONE.
    pub done: Done,
    /// What waits.
    pub delay: Delay,
}

impl<Bus: SpiBus, Select: OutputPin, Reset: OutputPin, Done: InputPin, Delay: DelayNs>
    Loader<Bus, Select, Reset, Done, Delay>
{
    /// Checks a bitstream, loads it and wakes the part.
    ///
    /// # Errors
    ///
    /// [`Fault`], which says what to look at.
    pub fn load<I: Image>(&mut self, image: &mut I) -> Result<Facts, Fault<I::Error>> {
        walked(image, |_| Ok(()))?;
        let loaded = self.send(image);
        if loaded.is_err() {
            self.hold();
        }
        loaded
    }

    fn send<I: Image>(&mut self, image: &mut I) -> Result<Facts, Fault<I::Error>> {
        self.listen()?;
        let facts = walked(image, |piece| self.bus.write(piece).map_err(bus))?;
        self.bus.flush().map_err(bus)?;
        self.wake()?;
        Ok(facts)
    }

    /// Clears the part and makes it listen.
    fn listen<E>(&mut self) -> Result<(), Fault<E>> {
        self.select.set_low().map_err(pin(Pin::Select))?;
        self.reset.set_low().map_err(pin(Pin::Reset))?;
        self.delay.delay_ns(RESET_NS);
        if self.done.is_high().map_err(pin(Pin::Done))? {
            return Err(Fault::DoneStuckHigh);
        }
        self.reset.set_high().map_err(pin(Pin::Reset))?;
        self.delay.delay_us(HOUSEKEEPING_US);
        self.select.set_high().map_err(pin(Pin::Select))?;
        self.clock::<LEAD_BYTES, E>()?;
        self.select.set_low().map_err(pin(Pin::Select))
    }

    /// Waits until the part took the bitstream, and gives the design its pins. SS is high by
    /// then, so that a design which listens there does not take these clocks for a call.
    fn wake<E>(&mut self) -> Result<(), Fault<E>> {
        let mut bytes = 0;
        while self.done.is_low().map_err(pin(Pin::Done))? {
            if bytes == DONE_BYTES_MAX {
                return Err(Fault::DoneStuckLow);
            }
            self.clock::<1, E>()?;
            bytes += 1;
        }
        self.select.set_high().map_err(pin(Pin::Select))?;
        self.clock::<WAKE_BYTES, E>()
    }

    fn clock<const BYTES: usize, E>(&mut self) -> Result<(), Fault<E>> {
        self.bus.write(&[0; BYTES]).and_then(|()| self.bus.flush()).map_err(bus)
    }

    /// Back into reset. What fails here failed before, and that is what gets told.
    fn hold(&mut self) {
        let _ = self.reset.set_low();
        let _ = self.bus.flush();
        let _ = self.select.set_high();
    }
}

/// Reads an image to its end, and hands on every piece that a walk has passed.
fn walked<I: Image>(
    image: &mut I,
    mut pass: impl FnMut(&[u8]) -> Result<(), Fault<I::Error>>,
) -> Result<Facts, Fault<I::Error>> {
    let mut walk = Walk::new();
    let mut buffer = [0; PIECE_BYTES];
    let mut at = 0;
    loop {
        let got = image.read(at, &mut buffer).map_err(Fault::Image)?;
        let (piece, _) = buffer.split_at(got.min(PIECE_BYTES));
        if piece.is_empty() {
            return Ok(walk.finish()?);
        }
        walk.push(piece)?;
        pass(piece)?;
        at += piece.len();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn bus<E>(error: impl spi::Error) -> Fault<E> {
    Fault::Bus(error.kind())
}

fn pin<E, P: digital::Error>(pin: Pin) -> impl Fn(P) -> Fault<E> {
    move |error| Fault::Pin { pin, kind: error.kind() }
}
