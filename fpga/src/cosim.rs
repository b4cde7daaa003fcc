//! The engine's Verilog as a process, behind [`SpiDevice`].
//!
//! `fpga/rtl/build sim` makes the program with Verilator; [`Cosim::start`] runs it. A transaction goes to it
//! by its standard input and comes back by its standard output, so nothing here is unsafe and what the
//! program does cannot touch this process.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::vec::Vec;

use embedded_hal::spi::{Error, ErrorKind, ErrorType, Operation, SpiDevice};

/// Ticks of half a clk period, in which the program counts time.
pub const CLK_HALF_TICKS: u32 = 60;

/// The running program.
#[derive(Debug)]
pub struct Cosim {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

/// The program ended, or its pipes did.
#[derive(Debug, thiserror::Error)]
#[error("the simulated engine does not answer: {0}")]
pub struct Gone(#[from] io::Error);

impl Error for Gone {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Cosim {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// [`Gone`] if it cannot be started.
    pub fn start(program: &Path) -> Result<Self, Gone> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(ask), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Gone(io::Error::other("no pipes")));
        };
        Ok(Self { child, ask, answer: BufReader::new(answer) })
    }

    /// One transaction: the bytes go out, and those that came in stand in their place.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn transfer(&mut self, bytes: &mut [u8]) -> Result<(), Gone> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.say(b't', length, bytes)?;
        Ok(self.answer.read_exact(bytes)?)
    }

    /// Lets so many clk pass; whether a job has ended since the last began.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn clocks(&mut self, count: u32) -> Result<bool, Gone> {
        self.say(b'r', count, &[])?;
        let mut irq = [0];
        self.answer.read_exact(&mut irq)?;
        Ok(irq != [0])
    }

    /// Clk since the beginning.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn now(&mut self) -> Result<u64, Gone> {
        self.ask.write_all(b"c")?;
        self.ask.flush()?;
        let mut clk = [0; 8];
        self.answer.read_exact(&mut clk)?;
        Ok(u64::from_le_bytes(clk))
    }

    /// Half a period of SCK, in ticks: [`CLK_HALF_TICKS`] is the fastest that the engine takes.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn sck_half(&mut self, ticks: u32) -> Result<(), Gone> {
        self.say(b's', ticks, &[])
    }

    fn say(&mut self, what: u8, number: u32, bytes: &[u8]) -> Result<(), Gone> {
        self.ask.write_all(&[what])?;
        self.ask.write_all(&number.to_le_bytes())?;
        self.ask.write_all(bytes)?;
        Ok(self.ask.flush()?)
    }
}

impl Drop for Cosim {
    fn drop(&mut self) {
        // It ends with its input, but that would be closed only after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ErrorType for Cosim {
    type Error = Gone;
}

impl SpiDevice for Cosim {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Gone> {
        let mut bytes: Vec<u8> = Vec::new();
        for operation in &*operations {
            match operation {
                Operation::Read(read) => bytes.resize(bytes.len() + read.len(), 0),
                Operation::Write(write) => bytes.extend_from_slice(write),
                Operation::Transfer(read, write) => {
                    bytes.extend_from_slice(write);
                    bytes.resize(bytes.len() + read.len().saturating_sub(write.len()), 0);
                }
                Operation::TransferInPlace(both) => bytes.extend_from_slice(both),
                Operation::DelayNs(_) => {}
            }
        }
        self.transfer(&mut bytes)?;
        let mut rest = bytes.as_slice();
        for operation in operations {
            let (length, read) = match operation {
                Operation::Read(read) => (read.len(), Some(&mut **read)),
                Operation::Write(write) => (write.len(), None),
                Operation::Transfer(read, write) => (read.len().max(write.len()), Some(&mut **read)),
                Operation::TransferInPlace(both) => (both.len(), Some(&mut **both)),
                Operation::DelayNs(_) => (0, None),
            };
            let (here, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = behind;
            if let Some(read) = read {
                for (to, from) in read.iter_mut().zip(here) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }
}
