//! The bitstream of a Xilinx 7-series part, as Vivado writes it: `.bit` with a header, or `.bin`
//! without. Never tried on hardware.
//!
//! ```text
//!   0009 0ff0 0ff0 0ff0 0ff0 00 0001      .bit only
//!   'a' llll design 00                    each length in 2 bytes
//!   'b' llll part 00
//!   'c' llll date 00
//!   'd' llll time 00
//!   'e' llllllll                          in 4 bytes, of all that follows
//!
//!   ffffffff …  000000bb 11220044  ffffffff …    what the width of the bus is told by
//!   aa995566                                     synchronise
//!   packets, up to CMD = DESYNC
//!   20000000 …                                   clocks for the start
//! ```
//!
//! A packet is a word, high byte first, and its data:
//!
//! ```text
//!   001 op 000000000 register 00 length     type 1: 5 bits of register, 11 of length, in words
//!   010 op length                           type 2: 27 bits of length, of the register before
//!   20000000                                nothing, which has op 00; writing has 10
//! ```
//!
//! A CRC-32C is made of the register and the word of each write, 37 bits, low bit first. RCRC
//! begins it, a write to the register CRC asks it and begins it again. Here it must begin once,
//! before anything is written but zero to three registers, be asked before START and again before
//! DESYNC, so that nothing counts which no CRC covers. Bitstreams made without CRC, encrypted ones, partial
//! ones and those that read, reboot or pass on to a second part are refused.
//!
//! What is not checked: how many frames a part has, which the CRC makes up for, and whether a
//! `.bin`, which does not say its length, lost some of the clocks at its end.
//!
//! Sources: Xilinx UG470, "Configuration Packets", for packets, registers and commands; Project
//! X-Ray, `icap_crc`, for the CRC; both CRCs of ten compressed bitstreams that Vivado 2017 made for
//! Spartan-7, Artix-7, Kintex-7 and Virtex-7 came out right by it. IDCODEs: UG470, "Device
//! Identification".

mod walk;

#[cfg(test)]
mod tests;

const BIT: [u8; 13] = [0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01];
/// What differs between revisions of one part, and is not looked at.
const REVISION: u32 = 0xf000_0000;

/// What a bitstream says of itself; only a whole and right one has these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The header, of a `.bit`. No CRC covers it.
    pub header: Option<Header<'a>>,
    /// The IDCODE of the part, without its revision.
    pub idcode: u32,
    /// Length of what goes to the part, in bytes.
    pub bytes: usize,
    /// How often the CRC was asked.
    pub crcs: u32,
}

/// The fields of a `.bit`, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The design, and how it was made.
    pub design: &'a str,
    /// The part and its package.
    pub part: &'a str,
    /// The day it was made.
    pub date: &'a str,
    /// The time of that day.
    pub time: &'a str,
}

/// Why a bitstream is refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {why}")]
pub struct Refused {
    /// Where what gave it away begins.
    pub at: usize,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a bitstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Neither a header nor what comes before the packets.
    #[error("this is no bitstream of a 7-series part: {0:08x} has no place before aa995566")]
    NotABitstream(u32),
    /// The bytes of each word are turned round, as Zynq's own loader wants them.
    #[error("the bytes of each word are turned round: give the .bit, or the .bin as Vivado writes it")]
    Swapped,
    /// A field of the header is not as it must be.
    #[error("field {0:?} of the header is missing or no text that ends with 00")]
    Field(char),
    /// The header tells another length.
    #[error("the header tells {told} bytes, and {got} follow")]
    Length {
        /// What the header says.
        told: usize,
        /// What is there.
        got: usize,
    },
    /// The bytes end before the bitstream does.
    #[error("cut short: the bitstream ends here, before it is complete")]
    Short,
    /// Something else than clocks behind the end.
    #[error("trailing data: {0:08x} after the end, where only 20000000 may be")]
    Trailing(u32),
    /// A word that is no packet, or none that writes.
    #[error("{0:08x} is no packet that writes")]
    Packet(u32),
    /// A register that no bitstream of one whole part writes.
    #[error("register {0} is not one that the bitstream of one whole part writes")]
    Register(u32),
    /// The data are encrypted.
    #[error("encrypted: what is in it cannot be checked")]
    Encrypted,
    /// A command that no bitstream of one whole part gives, or not here.
    #[error("command {0} does not belong here")]
    Command(u32),
    /// Written before the CRC begins.
    #[error("register {0} is written before the CRC begins")]
    Uncovered(u32),
    /// Written, and no CRC asked after.
    #[error("the part would go on before the CRC of what was written is asked")]
    Unchecked,
    /// The bytes are not those that the CRC was made of.
    #[error("the CRC is {got:08x} where the writes give {want:08x}")]
    Crc {
        /// What the bitstream says.
        got: u32,
        /// What its writes give.
        want: u32,
    },
    /// Made for another part.
    #[error("made for the part with IDCODE {got:08x}, not {want:08x}")]
    Part {
        /// What the bitstream says.
        got: u32,
        /// What was asked for.
        want: u32,
    },
    /// Nothing says for which part.
    #[error("frames are written before the IDCODE says for which part")]
    NoPart,
}

/// Walks a bitstream for the part with this IDCODE, such as `0362_d093` of an XC7A35T; the
/// revision in its upper four bits does not matter.
///
/// # Errors
///
/// [`Refused`] by the first word that is wrong.
pub fn check(bytes: &[u8], idcode: u32) -> Result<Facts<'_>, Refused> {
    let mut rest = Rest { at: 0, bytes };
    let header = if bytes.starts_with(&BIT) { Some(rest.header()?) } else { None };
    let length = rest.bytes.len();
    let crcs = walk::walk(rest, idcode & !REVISION)?;
    Ok(Facts { header, idcode: idcode & !REVISION, bytes: length, crcs })
}

/// What is not walked yet.
#[derive(Clone, Copy, Debug)]
struct Rest<'a> {
    at: usize,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn refuse(&self, why: Why) -> Refused {
        Refused { at: self.at, why }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, bytes) = self.bytes.split_at_checked(length).ok_or(self.refuse(Why::Short))?;
        *self = Rest { at: self.at + length, bytes };
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, Refused> {
        Ok(number(self.take(4)?))
    }

    fn header(&mut self) -> Result<Header<'a>, Refused> {
        self.take(BIT.len())?;
        let header =
            Header { design: self.field('a')?, part: self.field('b')?, date: self.field('c')?, time: self.field('d')? };
        self.key('e')?;
        let told = usize::try_from(self.word()?).unwrap_or(usize::MAX);
        let got = self.bytes.len();
        if told == got { Ok(header) } else { Err(self.refuse(Why::Length { told, got })) }
    }

    fn field(&mut self, key: char) -> Result<&'a str, Refused> {
        self.key(key)?;
        let length = number(self.take(2)?);
        let here = *self;
        let field = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = field.split_last().filter(|&(&last, text)| last == 0 && text.iter().all(is_text));
        let text = text.and_then(|(_, text)| core::str::from_utf8(text).ok());
        text.ok_or(here.refuse(Why::Field(key)))
    }

    fn key(&mut self, key: char) -> Result<(), Refused> {
        let here = *self;
        if char::from_u32(number(self.take(1)?)) == Some(key) { Ok(()) } else { Err(here.refuse(Why::Field(key))) }
    }
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// High byte first, of four at most.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
