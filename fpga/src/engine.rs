//! Driving an engine: what it is, what is loaded into it, jobs.

use crate::bus::{Bus, BusFault};
use crate::frame::{Place, Space, WORDS_MAX};
use crate::layer::WORD_BYTES;
use crate::registers::{self, Register};

/// What an engine says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// First bytes of the digest of the sources it was built from.
    pub build: u32,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It is running.
    pub busy: bool,
    /// It was stopped: by its limit, by [`Engine::stop`], or at a layer that makes no sense.
    pub failed: bool,
    /// A range of the weight memory is being checked.
    pub checking: bool,
}

/// Why the engine did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineFault {
    /// Words do not get through.
    #[error(transparent)]
    Bus(#[from] BusFault),
    /// Something else answers.
    #[error("register 0 reads {0:#010x}, which is no engine of ours. Load its bitstream first")]
    Stranger(u32),
    /// An engine of another bitstream answers.
    #[error("the engine says that it was built from {got:08x}, its bitstream says {expected:08x}")]
    Build {
        /// By its bitstream.
        expected: u32,
        /// By itself.
        got: u32,
    },
    /// What was written is not what is there.
    #[error("the weight memory from word {word} on has CRC-32 {got:#010x} and should have {expected:#010x}")]
    Changed {
        /// First word of the range.
        word: u16,
        /// As written.
        expected: u32,
        /// As it is.
        got: u32,
    },
    /// The job was stopped, by its limit or at a layer that makes no sense.
    #[error("the job was stopped after {0} clk")]
    Stopped(u32),
    /// The input is of another size than the plan's.
    #[error("an input of {got} values came where the plan has {expected}")]
    Length {
        /// By the plan.
        expected: usize,
        /// Came.
        got: usize,
    },
    /// It answered a known question with something else.
    #[error("the engine's answer to a known question is wrong")]
    Wrong,
    /// Still not done after so many looks.
    #[error("not done after {0} looks")]
    Late(u32),
}

/// An engine behind a bus.
#[derive(Debug)]
pub struct Engine<B> {
    bus: B,
}

impl<B: Bus> Engine<B> {
    /// The engine behind `bus`.
    pub const fn new(bus: B) -> Self {
        Self { bus }
    }

    /// The bus, alone.
    pub fn into_bus(self) -> B {
        self.bus
    }

    /// The bus.
    pub const fn bus(&mut self) -> &mut B {
        &mut self.bus
    }

    /// What answers.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Stranger`] if that is no engine of this version.
    pub fn identify(&mut self) -> Result<Identity, EngineFault> {
        let id = self.register(Register::Id)?;
        if id != registers::ID {
            return Err(EngineFault::Stranger(id));
        }
        Ok(Identity { build: self.register(Register::Build)? })
    }

    /// Where the job stands.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn progress(&mut self) -> Result<Progress, EngineFault> {
        let status = self.register(Register::Status)?;
        let flag = |bit: u32| status & bit != 0;
        Ok(Progress {
            busy: flag(registers::STATUS_BUSY),
            failed: flag(registers::STATUS_FAILED),
            checking: flag(registers::STATUS_CHECKING),
        })
    }

    /// Whole words into a memory.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn load(&mut self, place: Place, words: &[u8]) -> Result<(), EngineFault> {
        Ok(self.bus.write(place, words)?)
    }

    /// Whole words out of a memory.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn fetch(&mut self, place: Place, words: &mut [u8]) -> Result<(), EngineFault> {
        Ok(self.bus.read(place, words)?)
    }

    /// Compares what is in the weight memory from `word` on with what should be there, by the CRC-32 that the
    /// engine makes of it. `looks` at the status at most.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Changed`] if it differs.
    pub fn check(&mut self, word: u16, words: &[u8], looks: u32) -> Result<(), EngineFault> {
        if words.is_empty() {
            return Ok(());
        }
        self.begin_check(word, words.len() / WORD_BYTES)?;
        self.checked(word, crc32(words), looks)
    }

    /// Has the engine make the CRC-32 of at least one word, whatever else it does: 32 clk each.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn begin_check(&mut self, word: u16, count: usize) -> Result<(), EngineFault> {
        let less_one = u16::try_from(count).ok().and_then(|count| count.checked_sub(1));
        let less_one = less_one.ok_or(BusFault::Length(count * WORD_BYTES))?;
        self.set(Register::Check, u64::from(word) | u64::from(less_one) << 16)
    }

    /// Waits for the CRC-32 that was begun from `word` on, and compares it.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Changed`] if it differs.
    pub fn checked(&mut self, word: u16, expected: u32, looks: u32) -> Result<(), EngineFault> {
        self.until(looks, |progress| !progress.checking)?;
        let got = self.register(Register::Check)?;
        if got != expected {
            return Err(EngineFault::Changed { word, expected, got });
        }
        Ok(())
    }

    /// Which job [`Engine::begin`] begins, and after how many clk its watchdog stops it.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn choose(&mut self, first_layer: u16, limit_clk: u32) -> Result<(), EngineFault> {
        self.set(Register::Job, u64::from(first_layer) | u64::from(limit_clk & registers::CLK_MAX) << 32)
    }

    /// Writes the input, whole words, and begins the job with its last frame.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn begin(&mut self, place: Place, input: &[u8]) -> Result<(), EngineFault> {
        let frames = input.len().div_ceil(WORDS_MAX * WORD_BYTES).max(1);
        let (before, last) = input.split_at_checked((frames - 1) * WORDS_MAX * WORD_BYTES).unwrap_or((&[], input));
        if !before.is_empty() {
            self.bus.write(place, before)?;
        }
        let words = u16::try_from(before.len() / WORD_BYTES).map_err(|_| BusFault::Length(input.len()))?;
        Ok(self.bus.run(Place { word: place.word.wrapping_add(words), ..place }, last)?)
    }

    /// Looks at the status until the job is done, `looks` times at most.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Stopped`], [`EngineFault::Late`].
    pub fn finish(&mut self, looks: u32) -> Result<(), EngineFault> {
        let progress = self.until(looks, |progress| !progress.busy)?;
        if progress.failed {
            return Err(EngineFault::Stopped(self.cycles()?));
        }
        Ok(())
    }

    /// Ends a job.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn stop(&mut self) -> Result<(), EngineFault> {
        self.set(Register::Stop, 0)
    }

    /// Clk of the last job.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn cycles(&mut self) -> Result<u32, EngineFault> {
        self.register(Register::Cycles)
    }

    /// Multiplications of the last job, in eights.
    ///
    /// # Errors
    ///
    /// [`EngineFault::Bus`].
    pub fn taps(&mut self) -> Result<u32, EngineFault> {
        self.register(Register::Taps)
    }

    fn until(&mut self, looks: u32, done: impl Fn(&Progress) -> bool) -> Result<Progress, EngineFault> {
        for _ in 0..looks {
            let progress = self.progress()?;
            if done(&progress) {
                return Ok(progress);
            }
        }
        Err(EngineFault::Late(looks))
    }

    fn register(&mut self, register: Register) -> Result<u32, EngineFault> {
        let mut word = [0; WORD_BYTES];
        self.bus.read(Place { space: Space::Registers, word: register as u16 }, &mut word)?;
        let [a, b, c, d, ..] = word;
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    fn set(&mut self, register: Register, value: u64) -> Result<(), EngineFault> {
        Ok(self.bus.write(Place { space: Space::Registers, word: register as u16 }, &value.to_le_bytes())?)
    }
}

/// CRC-32 as Ethernet and zlib have it.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
