//! The engine as its host sees it: made from `rtl/registers.toml`; change that.

/// What [`Register::Id`] reads.
pub const ID: u32 = 0x31455742;
/// Clk that a job takes at most.
pub const CLK_MAX: u32 = 0xffffff;
/// Of [`Register::Status`]: a job is running.
pub const STATUS_BUSY: u32 = 1 << 0;
/// Of [`Register::Status`]: the last job stopped by itself: at its limit, or at a layer of no kind.
pub const STATUS_FAILED: u32 = 1 << 1;
/// Of [`Register::Status`]: a job ended and none has begun since; also a pin.
pub const STATUS_ENDED: u32 = 1 << 2;
/// Of [`Register::Status`]: a range of the weights is being checked.
pub const STATUS_CHECKING: u32 = 1 << 3;

/// A memory of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// (read, write) the registers below, of which the lower 32 bits mean something.
    Registers = 0,
    /// (read, write, run) layers, weights, biases and scales.
    Weights = 1,
    /// (read, write, run) bank 0 from word 0, bank 1 from word 1024; each has 768.
    Activations = 2,
    /// (write, run) biases and scales that layers find by number.
    Table = 3,
}

/// A word of [`Space::Registers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// (read) `id`: that it is an engine, and which driver it wants.
    Id = 0,
    /// (read) first four bytes of the SHA-256 of what it was built from.
    Build = 1,
    /// (read) where it stands; bits 15:8 are the tag of the job begun last.
    Status = 2,
    /// (read) clk of the last job, 24 bits.
    Cycles = 3,
    /// (read) words of weights multiplied in the last job, for each column once: times eight, its multiplications, 24 bits.
    Taps = 4,
    /// (read, write) write: bits 13:0 the first word, 29:16 the number of words less one, to make a CRC-32 of; read: the CRC-32.
    Check = 5,
    /// (write) bits 13:0 the first layer's word, 55:32 after how many clk the watchdog stops it.
    Job = 6,
    /// (write) anything: ends the job.
    Stop = 7,
}
