//! The engine's registers. Made from `rtl/registers.toml`; change that.

/// What register 0 reads: `BWE1`.
pub const ID: u32 = 0x3145_5742;
/// Clk that a job may take at most.
pub const CLK_MAX: u32 = 0xff_ffff;
/// A job is running.
pub const STATUS_BUSY: u32 = 1;
/// The last job was stopped.
pub const STATUS_FAILED: u32 = 2;
/// A job ended and none has begun since.
pub const STATUS_ENDED: u32 = 4;
/// A range of the weight memory is being checked.
pub const STATUS_CHECKING: u32 = 8;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Read: [`ID`].
    Id = 0,
    /// Read: what it was built from.
    Build = 1,
    /// Read: where it stands.
    Status = 2,
    /// Read: clk of the last job.
    Cycles = 3,
    /// Read: words of weights that were multiplied in the last job, for each column once.
    Taps = 4,
    /// Write: check a range. Read: its CRC-32.
    Check = 5,
    /// Write: first layer and limit of the next job.
    Job = 6,
    /// Write: end the job.
    Stop = 7,
}
