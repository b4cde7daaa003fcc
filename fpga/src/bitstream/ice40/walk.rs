//! The walk itself: a place in the picture for each state, and one byte or the rest of a block
//! at a time.

use super::comment::Comment;
use super::{BLOCKS, BYTES_MAX, Block, COMMENT_BYTES_MAX, Facts, Memory, Part, Refused, Why};

const PREAMBLE: [u8; 4] = [0x7e, 0xaa, 0x99, 0x7e];
/// Where the CRC begins.
const CRC_START: u16 = 0xffff;
const FLAG_NO_SLEEP: u16 = 0x01;
const FLAG_WARM_BOOT: u16 = 0x20;

/// A walk over a bitstream that comes in pieces, of any size.
///
/// It holds some tens of bytes, so a microcontroller can walk what it could never hold. No piece
/// may reach a part before it was walked.
#[derive(Clone, Debug)]
pub struct Walk {
    at: usize,
    place: Place,
    comment: Comment,
    comment_bytes: usize,
    /// Of what it covers, so far.
    crc: u16,
    /// What the next data fill.
    block: Block,
    /// A bit for each block that was written.
    written: u16,
    flags: u16,
}

/// Where in the picture the walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    CommentOpens,
    /// `ends`: the last byte was 00, so that ff ends the comment.
    Comment {
        ends: bool,
    },
    /// How much of the preamble was there.
    Preamble {
        got: usize,
    },
    Command(Section),
    /// `left` bytes of the argument are missing; `sum` is the CRC up to the command.
    Argument {
        section: Section,
        command: u8,
        left: u8,
        value: u16,
        sum: u16,
    },
    /// `left` bytes of a block are missing.
    Data {
        left: usize,
    },
    /// `left` bytes of the 0000 after a block are missing.
    Close {
        left: u8,
    },
    Padding,
    Done,
    Refused(Refused),
}

/// What the CRC divides the commands into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Before,
    Covered,
    After,
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// Before the first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            at: 0,
            place: Place::Start,
            comment: Comment::new(),
            comment_bytes: 0,
            crc: CRC_START,
            block: Block::UNSET,
            written: 0,
            flags: 0,
        }
    }

    /// Walks the next piece.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the first byte that is wrong, and from then on always.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Refused> {
        if let Place::Refused(refused) = self.place {
            return Err(refused);
        }
        let mut rest = piece;
        while let Some((&byte, behind)) = rest.split_first() {
            if let Place::Data { left } = self.place {
                let (now, later) = rest.split_at(left.min(rest.len()));
                self.crc = now.iter().fold(self.crc, |crc, &byte| crc16(crc, byte));
                self.place = data(left - now.len());
                self.at += now.len();
                rest = later;
            } else {
                self.place = self.step(byte).map_err(|why| self.refuse(why))?;
                self.at += 1;
                rest = behind;
            }
        }
        Ok(())
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the bitstream is not complete, or was refused before.
    pub fn finish(self) -> Result<Facts, Refused> {
        if let Place::Refused(refused) = self.place {
            return Err(refused);
        }
        if self.place != Place::Done {
            return Err(Refused { at: self.at, why: Why::Short });
        }
        Ok(Facts {
            part: Part::Up5k,
            bytes: self.at,
            comment_bytes: self.comment_bytes,
            build: self.comment.build(),
            crc: self.crc,
            warm_boot: self.flags & FLAG_WARM_BOOT != 0,
            no_sleep: self.flags & FLAG_NO_SLEEP != 0,
        })
    }

    fn refuse(&mut self, why: Why) -> Refused {
        let refused = Refused { at: self.at, why };
        self.place = Place::Refused(refused);
        refused
    }

    /// Where `byte` leads.
    fn step(&mut self, byte: u8) -> Result<Place, Why> {
        if self.at >= BYTES_MAX {
            return Err(Why::Long);
        }
        match self.place {
            Place::Start if byte == 0xff => Ok(Place::CommentOpens),
            Place::Start => preamble(0, byte),
            Place::CommentOpens if byte == 0 => Ok(Place::Comment { ends: false }),
            Place::CommentOpens => Err(Why::NotABitstream),
            Place::Comment { ends } => self.comment(ends, byte),
            Place::Preamble { got } => preamble(got, byte),
            Place::Command(section) => self.command(section, byte),
            Place::Argument { section, command, left, value, sum } => {
                self.sum(section, byte);
                let value = value << 8 | u16::from(byte);
                match left - 1 {
                    0 => self.obey(section, command, value, sum),
                    left => Ok(Place::Argument { section, command, left, value, sum }),
                }
            }
            Place::Data { left } => {
                self.sum(Section::Covered, byte);
                Ok(data(left - 1))
            }
            Place::Close { left } => {
                self.sum(Section::Covered, byte);
                match (byte, left - 1) {
                    (0, 0) => Ok(Place::Command(Section::Covered)),
                    (0, left) => Ok(Place::Close { left }),
                    (got, _) => Err(Why::Unclosed { got }),
                }
            }
            Place::Padding if byte == 0 => Ok(Place::Done),
            Place::Padding => Err(Why::Padding(byte)),
            Place::Done => Err(Why::Trailing),
            Place::Refused(refused) => Err(refused.why),
        }
    }

    fn comment(&mut self, ends: bool, byte: u8) -> Result<Place, Why> {
        self.comment_bytes = self.at + 1;
        self.comment.push(byte);
        match byte {
            _ if self.comment_bytes > COMMENT_BYTES_MAX => Err(Why::Comment),
            0 => Ok(Place::Comment { ends: true }),
            b'\t' | b' '..=b'~' => Ok(Place::Comment { ends: false }),
            0xff if ends => Ok(Place::Preamble { got: 0 }),
            _ => Err(Why::Comment),
        }
    }

    fn command(&mut self, section: Section, command: u8) -> Result<Place, Why> {
        self.sum(section, command);
        match command {
            0x01 | 0x11 | 0x22 | 0x51 | 0x62 | 0x72 | 0x82 | 0x92 => {
                Ok(Place::Argument { section, command, left: command & 0x0f, value: 0, sum: self.crc })
            }
            unknown => Err(Why::Command(unknown)),
        }
    }

    /// Does what a command with its whole argument says.
    fn obey(&mut self, section: Section, command: u8, value: u16, sum: u16) -> Result<Place, Why> {
        match (section, command, value) {
            (Section::Before, 0x51, 0) => return Ok(Place::Command(Section::Before)),
            (Section::Before, 0x01, 5) => self.crc = CRC_START,
            (Section::Covered, 0x92, flags) if flags & !(FLAG_NO_SLEEP | FLAG_WARM_BOOT) == 0 => self.flags = flags,
            (Section::Covered, 0x62, less_one) => self.block.width = usize::from(less_one) + 1,
            (Section::Covered, 0x72, height) => self.block.height = usize::from(height),
            (Section::Covered, 0x82, row) => self.block.row = row,
            (Section::Covered, 0x11, bank) => self.block.bank = bank,
            (Section::Covered, 0x01, 1) => return self.open(Memory::Cram),
            (Section::Covered, 0x01, 3) => return self.open(Memory::Bram),
            (Section::Covered, 0x22, crc) => return self.judge(crc, sum),
            (Section::After, 0x01, 6) => return Ok(Place::Padding),
            _ => return Err(Why::Argument { command, value }),
        }
        Ok(Place::Command(Section::Covered))
    }

    /// Whether the block that was set is one of the part, and not written yet.
    fn open(&mut self, memory: Memory) -> Result<Place, Why> {
        self.block.memory = memory;
        let block = self.block;
        let Some(index) = block.index() else {
            return Err(block.other_part().map_or(Why::Geometry(block), Why::Part));
        };
        if self.written & 1 << index != 0 {
            return Err(Why::Twice(block));
        }
        self.written |= 1 << index;
        Ok(Place::Data { left: block.bytes() })
    }

    /// Whether everything is written, and right.
    fn judge(&mut self, got: u16, want: u16) -> Result<Place, Why> {
        let written = self.written.count_ones();
        if written != BLOCKS {
            return Err(Why::Incomplete { written });
        }
        if got != want {
            return Err(Why::Crc { got, want });
        }
        self.crc = got;
        Ok(Place::Command(Section::After))
    }

    fn sum(&mut self, section: Section, byte: u8) {
        if section == Section::Covered {
            self.crc = crc16(self.crc, byte);
        }
    }
}

fn preamble(got: usize, byte: u8) -> Result<Place, Why> {
    if PREAMBLE.get(got) != Some(&byte) {
        return Err(Why::NotABitstream);
    }
    let got = got + 1;
    Ok(if got == PREAMBLE.len() { Place::Command(Section::Before) } else { Place::Preamble { got } })
}

const fn data(left: usize) -> Place {
    if left == 0 { Place::Close { left: 2 } } else { Place::Data { left } }
}

/// CRC-16 of CCITT's polynomial 1021, high bit first, all eight bits of `byte` at once.
const fn crc16(crc: u16, byte: u8) -> u16 {
    let mut high = (crc >> 8) ^ byte as u16;
    high ^= high >> 4;
    crc << 8 ^ high << 12 ^ high << 5 ^ high
}
