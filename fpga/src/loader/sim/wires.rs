//! What a processor sees of the part: a bus, three pins and time.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{self, InputPin, OutputPin};
use embedded_hal::spi::{self, SpiBus};

use super::{Defect, Part};
use crate::loader::Pin;

/// The SPI bus.
#[derive(Debug)]
pub struct Bus<'a> {
    pub(super) part: &'a Part,
}

/// One of the pins.
#[derive(Debug)]
pub struct Wire<'a> {
    pub(super) part: &'a Part,
    pub(super) pin: Pin,
}

/// What waits.
#[derive(Debug)]
pub struct Delay<'a> {
    pub(super) part: &'a Part,
}

/// What a defect makes of a bus or a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl spi::Error for Failed {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

impl digital::Error for Failed {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl spi::ErrorType for Bus<'_> {
    type Error = Failed;
}

impl SpiBus for Bus<'_> {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Failed> {
        words.fill(0);
        self.write(words)
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Failed> {
        let mut port = self.part.port.borrow_mut();
        let all = words.iter().all(|&word| port.byte(word, self.part.defect.get()));
        if all { Ok(()) } else { Err(Failed) }
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Failed> {
        read.fill(0);
        self.write(write)
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Failed> {
        self.write(words)
    }

    fn flush(&mut self) -> Result<(), Failed> {
        self.part.port.borrow_mut().flush();
        Ok(())
    }
}

impl digital::ErrorType for Wire<'_> {
    type Error = Failed;
}

impl Wire<'_> {
    fn works(&self) -> Result<Defect, Failed> {
        let defect = self.part.defect.get();
        if defect == Defect::PinFails(self.pin) { Err(Failed) } else { Ok(defect) }
    }

    fn set(&self, high: bool) -> Result<(), Failed> {
        let defect = self.works()?;
        self.part.port.borrow_mut().set(self.pin, high, defect);
        Ok(())
    }
}

impl OutputPin for Wire<'_> {
    fn set_low(&mut self) -> Result<(), Failed> {
        self.set(false)
    }

    fn set_high(&mut self) -> Result<(), Failed> {
        self.set(true)
    }
}

impl InputPin for Wire<'_> {
    fn is_high(&mut self) -> Result<bool, Failed> {
        let defect = self.works()?;
        Ok(self.part.port.borrow_mut().done(defect))
    }

    fn is_low(&mut self) -> Result<bool, Failed> {
        self.is_high().map(|high| !high)
    }
}

impl DelayNs for Delay<'_> {
    fn delay_ns(&mut self, ns: u32) {
        self.part.port.borrow_mut().wait(u64::from(ns));
    }
}
