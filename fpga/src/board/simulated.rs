//! A board in simulation: the part's configuration port, and behind it the engine's Verilog.

use std::boxed::Box;
use std::ffi::OsString;
use std::format;
use std::path::{Path, PathBuf};
use std::string::{String, ToString as _};

use embedded_hal::spi::{Error as _, ErrorKind, Operation, SpiDevice as _};

use super::{Board, Shared};
use crate::cosim::Cosim;
use crate::loader::sim::{Defect, Part};

/// A board whose part is empty until a bitstream is loaded, through the pins that a real one has.
///
/// What a bitstream contains is not simulated: once the part has taken it, the program of
/// `fpga/rtl/build sim` stands for it. Where the same path with the bitstream's build behind it, such as
/// `bw_sim.1234abcd`, is a program, it is that one.
#[derive(Debug)]
pub struct Simulated {
    program: PathBuf,
    part: Part,
    engine: Option<Cosim>,
}

impl Simulated {
    /// A board after power-up.
    #[must_use]
    pub fn board(program: &Path) -> Shared {
        let part = Part::blank(Defect::None);
        Shared::new(Box::new(Self { program: program.to_path_buf(), part, engine: None }))
    }

    fn program(&self, build: Option<u32>) -> PathBuf {
        let mut named = OsString::from(&self.program);
        named.push(build.map_or_else(String::new, |build| format!(".{build:08x}")));
        let named = PathBuf::from(named);
        if named.is_file() { named } else { self.program.clone() }
    }
}

impl Board for Simulated {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        if let Some(engine) = &mut self.engine {
            return engine.transaction(operations).map_err(|gone| gone.kind());
        }
        // The wires of a part without a design are pulled up.
        for operation in operations {
            match operation {
                Operation::Read(read) | Operation::Transfer(read, _) | Operation::TransferInPlace(read) => {
                    read.fill(0xff)
                }
                Operation::Write(_) | Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }

    fn load(&mut self, image: &[u8]) -> Result<(), String> {
        self.engine = None;
        let facts = self.part.loader().load(&mut &*image).map_err(|fault| fault.to_string())?;
        let program = self.program(facts.build);
        let started = Cosim::start(&program).map_err(|gone| format!("{}: {gone}", program.display()))?;
        self.engine = Some(started);
        Ok(())
    }
}
