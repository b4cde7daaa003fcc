//! The bitstream of an iCE40 UP5K, as `icepack` writes it.
//!
//! ```text
//!   ff 00  text 00 text 00  00 ff   comment, may be missing
//!   7e aa 99 7e                     preamble
//!   51 00                           range of the part's own oscillator: low
//!   01 05                           the CRC begins, at ffff
//!   92 00 ff                        flags: 01 stays awake, 20 warm boot        |
//!   62 ww ww                        width of a bank, in bits less one          |
//!   72 hh hh                        height, in rows                            | what the
//!   82 oo oo                        first row                                  | CRC covers
//!   11 bb                           bank                                       |
//!   01 01  width x height / 8  00 00     those rows of configuration (CRAM)    |
//!   01 03  width x height / 8  00 00     those rows of block RAM (BRAM)        |
//!   22 cc cc                        the CRC: with it, the sum is 0
//!   01 06                           wake up
//!   00                              eight clocks more
//! ```
//!
//! A command is one byte, operation above and length of its argument below; numbers come high
//! byte first. Between the start of the CRC and the CRC, commands may come in any order, as long
//! as each of the twelve blocks of the part is written once, with its own geometry:
//!
//! | | bank 0, 2 | bank 1, 3 |
//! |---|---|---|
//! | CRAM, row 0 | 692 × 336 | 692 × 176 |
//! | BRAM, rows 0 and 128 | 160 × 128 | 80 × 128 |
//!
//! The part itself would take more: it is refused here, because nothing needs it. A range of the
//! oscillator other than low matters only to a part that reads a flash itself, and stands
//! outside the CRC. A bitstream without contents of the block RAM (`icepack -n`) leaves in it
//! what was there before. The CRC may begin only once and is asked once, so that nothing hides
//! before a second beginning. Lattice's own tool sometimes writes the end of the comment into its
//! text; such a file is refused too.
//!
//! Source: Project IceStorm, "Bitstream File Format Documentation", and what `iceunpack -vv` says
//! of files that `icepack` made.

mod comment;
mod walk;

#[cfg(test)]
mod tests;

pub use walk::Walk;

/// Longest bitstream: the 104,086 bytes that `icepack` writes, the longest comment, and room for
/// commands that repeat.
pub const BYTES_MAX: usize = 112 * 1024;
/// Longest comment: room for a tool's name, a date and some paths.
pub const COMMENT_BYTES_MAX: usize = 4096;

/// Blocks of the UP5K: four banks of CRAM, and two halves of four banks of BRAM.
const BLOCKS: u32 = 12;

/// What a bitstream says of itself; only a whole and right one has these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The part it is for.
    pub part: Part,
    /// Length, in bytes.
    pub bytes: usize,
    /// How many of these are comment, which the CRC does not cover and the part skips.
    pub comment_bytes: usize,
    /// Of which build the comment says that the engine is: `bellwether up5k build=` and eight digits. It
    /// may say anything; the engine's own register tells once it is loaded.
    pub build: Option<u32>,
    /// The CRC-16 of the rest.
    pub crc: u16,
    /// Whether the design may reboot the part into another image of its flash.
    pub warm_boot: bool,
    /// Whether the part stays awake when its power-saving pin asks for sleep.
    pub no_sleep: bool,
}

/// Parts of the family that a bitstream can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// iCE40 UltraPlus UP5K, the one that is loaded here.
    Up5k,
    /// iCE40 LP384.
    Lp384,
    /// iCE40 LP1K or HX1K.
    Hx1k,
    /// iCE40 LP8K or HX8K, and the 4K parts, which are the same die.
    Hx8k,
    /// iCE40 Ultra U4K.
    U4k,
    /// iCE40 LM4K.
    Lm4k,
}

/// Each part with the width and height of its bank 0 of configuration.
const PARTS: [(Part, usize, usize); 6] = [
    (Part::Up5k, 692, 336),
    (Part::Lp384, 182, 80),
    (Part::Hx1k, 332, 144),
    (Part::Hx8k, 872, 272),
    (Part::U4k, 692, 176),
    (Part::Lm4k, 656, 176),
];

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Up5k => "iCE40 UP5K",
            Self::Lp384 => "iCE40 LP384",
            Self::Hx1k => "iCE40 LP1K or HX1K",
            Self::Hx8k => "iCE40 LP8K, HX8K or a 4K of that die",
            Self::U4k => "iCE40 U4K",
            Self::Lm4k => "iCE40 LM4K",
        })
    }
}

/// The two memories of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The configuration.
    Cram,
    /// Contents of the block RAM.
    Bram,
}

/// What the commands set and the next data fill: rows of one bank of one memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which memory.
    pub memory: Memory,
    /// Which quarter of the die.
    pub bank: u16,
    /// First row.
    pub row: u16,
    /// Bits in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Block {
    /// Before any command: a block of no part.
    const UNSET: Self = Self { memory: Memory::Cram, bank: u16::MAX, row: u16::MAX, width: 0, height: 0 };

    /// Which of the [`BLOCKS`] of the UP5K this is; none, if the part has no such block.
    fn index(self) -> Option<u16> {
        let (index, width, height) = match (self.memory, self.bank, self.row) {
            (Memory::Cram, bank @ (0 | 2), 0) => (bank, 692, 336),
            (Memory::Cram, bank @ (1 | 3), 0) => (bank, 692, 176),
            (Memory::Bram, bank @ (0 | 2), 0) => (4 + bank, 160, 128),
            (Memory::Bram, bank @ (1 | 3), 0) => (4 + bank, 80, 128),
            (Memory::Bram, bank @ (0 | 2), 128) => (8 + bank, 160, 128),
            (Memory::Bram, bank @ (1 | 3), 128) => (8 + bank, 80, 128),
            _ => return None,
        };
        (self.width == width && self.height == height).then_some(index)
    }

    /// The other part that has this as its first bank.
    fn other_part(self) -> Option<Part> {
        let first = self.memory == Memory::Cram && self.bank == 0 && self.row == 0;
        let mut parts = PARTS.into_iter().filter(|&(part, ..)| first && part != Part::Up5k);
        parts.find(|&(_, width, height)| (width, height) == (self.width, self.height)).map(|(part, ..)| part)
    }

    fn bytes(self) -> usize {
        self.width * self.height / 8
    }
}

impl core::fmt::Display for Block {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { memory, bank, row, width, height } = self;
        let memory = match memory {
            Memory::Cram => "CRAM",
            Memory::Bram => "BRAM",
        };
        write!(f, "{width} x {height} bits of {memory} bank {bank} from row {row}")
    }
}

/// Why a bitstream is refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {why}")]
pub struct Refused {
    /// Bytes before the one that gave it away.
    pub at: usize,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a bitstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Neither a comment nor the preamble.
    #[error("this is no iCE40 bitstream: it begins with neither ff00 nor 7eaa997e")]
    NotABitstream,
    /// The comment is not strings, or longer than [`COMMENT_BYTES_MAX`].
    #[error("the comment is not text of {COMMENT_BYTES_MAX} bytes at most that ends with 00ff")]
    Comment,
    /// The bytes end before the bitstream does.
    #[error("cut short: the bitstream ends here, before it is complete")]
    Short,
    /// There is more than the bitstream.
    #[error("trailing data: the bitstream is complete, and more bytes follow")]
    Trailing,
    /// More commands than a bitstream has.
    #[error("longer than the {BYTES_MAX} bytes that a bitstream of this part may have")]
    Long,
    /// No such command, or not in this place.
    #[error("command {0:02x} is unknown, or does not belong here")]
    Command(u8),
    /// The argument of a command is not one that is known.
    #[error("command {command:02x} with {value:04x} is unknown, or does not belong here")]
    Argument {
        /// The command.
        command: u8,
        /// Its argument.
        value: u16,
    },
    /// Made for another part.
    #[error("made for {0}, not for {up5k}", up5k = Part::Up5k)]
    Part(Part),
    /// The part has no such block.
    #[error("{up5k} has no {0}", up5k = Part::Up5k)]
    Geometry(Block),
    /// A block that was written before.
    #[error("{0} is written for the second time")]
    Twice(Block),
    /// What follows a block is not 0000.
    #[error("{got:02x} follows a block where 00 must")]
    Unclosed {
        /// What follows instead.
        got: u8,
    },
    /// The CRC comes before every block was written.
    #[error("only {written} of {BLOCKS} blocks are written")]
    Incomplete {
        /// How many were.
        written: u32,
    },
    /// The bytes are not those that the CRC was made of.
    #[error("the CRC is {got:04x} where the bytes give {want:04x}")]
    Crc {
        /// What the bitstream says.
        got: u16,
        /// What its bytes give.
        want: u16,
    },
    /// The last byte is not 00.
    #[error("padded with {0:02x} where 00 must be")]
    Padding(u8),
}

/// Walks a bitstream that is whole in memory.
///
/// # Errors
///
/// [`Refused`] by the first byte that is wrong.
pub fn check(bytes: &[u8]) -> Result<Facts, Refused> {
    let mut walk = Walk::new();
    walk.push(bytes)?;
    walk.finish()
}
