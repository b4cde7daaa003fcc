//! A board by its pins: configuration port and engine share SPI and select line.

use std::string::{String, ToString as _};

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::spi::{Error as _, ErrorKind, Operation, SpiBus};

use super::Board;
use crate::loader::Loader;

impl<Bus, Select, Reset, Done, Delay> Board for Loader<Bus, Select, Reset, Done, Delay>
where
    Bus: SpiBus + Send,
    Select: OutputPin + Send,
    Reset: OutputPin + Send,
    Done: InputPin + Send,
    Delay: DelayNs + Send,
{
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        let select = |_| ErrorKind::ChipSelectFault;
        self.select.set_low().map_err(select)?;
        let done = operations.iter_mut().try_for_each(|operation| match operation {
            Operation::Read(read) => self.bus.read(read),
            Operation::Write(write) => self.bus.write(write),
            Operation::Transfer(read, write) => self.bus.transfer(read, write),
            Operation::TransferInPlace(both) => self.bus.transfer_in_place(both),
            Operation::DelayNs(ns) => {
                self.delay.delay_ns(*ns);
                Ok(())
            }
        });
        let flushed = self.bus.flush();
        // Also after a fault: the next frame begins with a fall of it.
        self.select.set_high().map_err(select)?;
        done.and(flushed).map_err(|fault| fault.kind())
    }

    fn load(&mut self, image: &[u8]) -> Result<(), String> {
        Self::load(self, &mut &*image).map(|_| ()).map_err(|fault| fault.to_string())
    }
}
