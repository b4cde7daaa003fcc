//! An iCE40 beside a processor under Linux: `spidev`, and three lines of GPIO. Never tried on hardware.

use std::boxed::Box;
use std::fmt::Display;
use std::format;
use std::path::PathBuf;
use std::string::String;

use linux_embedded_hal::gpio_cdev::{self, Chip, LineRequestFlags};
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{CdevPin, Delay, SpidevBus};

use super::Shared;
use crate::loader::Loader;

/// Who holds the lines, as `gpioinfo` shows it.
const CONSUMER: &str = "bellwether";

/// Where the part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Such as `/dev/spidev0.0`. Its own select line is left alone.
    pub spi: PathBuf,
    /// Such as `/dev/gpiochip0`.
    pub gpio: PathBuf,
    /// The line that selects the part, SS for its configuration port and CS for the engine.
    pub select: u32,
    /// The line of CRESET.
    pub reset: u32,
    /// The line of CDONE.
    pub done: u32,
    /// SCK: 1 to 24 MHz, at most the engine's clock.
    pub hz: u32,
}

impl Wiring {
    /// Opens the devices. The part is left as it is.
    ///
    /// # Errors
    ///
    /// Which of them cannot be opened, in words.
    pub fn board(&self) -> Result<Shared, String> {
        let spi = |why: &dyn Display| {
            format!("{}: {why}; is spidev bound to it, and may this user open it?", self.spi.display())
        };
        let mut bus = SpidevBus::open(&self.spi).map_err(|why| spi(&why))?;
        let mode = SpiModeFlags::SPI_MODE_0 | SpiModeFlags::SPI_NO_CS;
        let options = SpidevOptions::new().bits_per_word(8).max_speed_hz(self.hz).mode(mode).build();
        bus.0.configure(&options).map_err(|why| spi(&why))?;
        let select = self.line(self.select, LineRequestFlags::OUTPUT)?;
        let reset = self.line(self.reset, LineRequestFlags::OUTPUT)?;
        let done = self.line(self.done, LineRequestFlags::INPUT)?;
        Ok(Shared::new(Box::new(Loader { bus, select, reset, done, delay: Delay })))
    }

    fn line(&self, line: u32, way: LineRequestFlags) -> Result<CdevPin, String> {
        const HIGH: u8 = 1;
        let fault = |why: gpio_cdev::Error| {
            format!("line {line} of {}: {why}; is it free, and may this user open it?", self.gpio.display())
        };
        let mut chip = Chip::new(&self.gpio).map_err(fault)?;
        let handle = chip.get_line(line).and_then(|line| line.request(way, HIGH, CONSUMER)).map_err(fault)?;
        CdevPin::new(handle).map_err(fault)
    }
}
