//! The packets: what they write, and which CRC covers it.

use super::{REVISION, Refused, Rest, Why};

const DUMMY: u32 = 0xffff_ffff;
const BUS_WIDTH: [u32; 2] = [0x0000_00bb, 0x1122_0044];
const SYNC: u32 = 0xaa99_5566;
const NOTHING: u32 = 0x2000_0000;
/// The two words that write, but for register and length.
const WRITE: u32 = 0x3000_0000;
const WRITE_LONG: u32 = 0x5000_0000;
const LENGTH: u32 = 0x7ff;
const LENGTH_LONG: u32 = 0x07ff_ffff;

/// Registers (UG470, "Configuration Registers").
const CRC: u32 = 0;
const FAR: u32 = 1;
const FDRI: u32 = 2;
const CMD: u32 = 4;
const CTL0: u32 = 5;
const MASK: u32 = 6;
const COR0: u32 = 9;
const MFWR: u32 = 10;
const CBC: u32 = 11;
const IDCODE: u32 = 12;
const AXSS: u32 = 13;
const COR1: u32 = 14;
const WBSTAR: u32 = 16;
const TIMER: u32 = 17;
/// Has no name; Vivado writes 0 to it.
const UNNAMED: u32 = 19;
const CTL1: u32 = 24;
const BSPI: u32 = 31;

/// Commands (UG470, "Command Register").
const NULL: u32 = 0;
const WCFG: u32 = 1;
const MFW: u32 = 2;
const LFRM: u32 = 3;
const START: u32 = 5;
const RCRC: u32 = 7;
const SWITCH: u32 = 9;
const GRESTORE: u32 = 10;
const SHUTDOWN: u32 = 11;
const DESYNC: u32 = 13;

/// Walks what goes to the part, and says how often the CRC was asked.
pub(super) fn walk(mut rest: Rest<'_>, idcode: u32) -> Result<u32, Refused> {
    synchronise(&mut rest)?;
    let mut walk = Walk::new(idcode);
    while !walk.done {
        walk.packet(&mut rest)?;
    }
    while !rest.bytes.is_empty() {
        let here = rest;
        let word = rest.word()?;
        if word != NOTHING {
            return Err(here.refuse(Why::Trailing(word)));
        }
    }
    Ok(walk.crcs)
}

fn synchronise(rest: &mut Rest<'_>) -> Result<(), Refused> {
    let mut told = false;
    loop {
        let here = *rest;
        match rest.word()? {
            DUMMY => {}
            SYNC => return Ok(()),
            word if word == BUS_WIDTH[0] && !told => {
                told = true;
                let here = *rest;
                let word = rest.word()?;
                if word != BUS_WIDTH[1] {
                    return Err(here.refuse(Why::NotABitstream(word)));
                }
            }
            word if [SYNC, BUS_WIDTH[0]].contains(&word.swap_bytes()) => return Err(here.refuse(Why::Swapped)),
            word => return Err(here.refuse(Why::NotABitstream(word))),
        }
    }
}

struct Walk {
    idcode: u32,
    /// Whether the bitstream named the part.
    named: bool,
    /// Of what was written since it began; none before.
    crc: Option<u32>,
    /// A bit for each register that was written before it began.
    early: u32,
    crcs: u32,
    /// Whether anything, and whether frames, were written since the CRC was asked.
    unchecked: bool,
    unchecked_frames: bool,
    /// Whether the next packet is a long one, of frames.
    long: bool,
    done: bool,
}

impl Walk {
    fn new(idcode: u32) -> Self {
        Self {
            idcode,
            named: false,
            crc: None,
            early: 0,
            crcs: 0,
            unchecked: false,
            unchecked_frames: false,
            long: false,
            done: false,
        }
    }

    fn packet(&mut self, rest: &mut Rest<'_>) -> Result<(), Refused> {
        let here = *rest;
        let word = rest.word()?;
        let (register, length) = if core::mem::take(&mut self.long) {
            if word & !LENGTH_LONG != WRITE_LONG {
                return Err(here.refuse(Why::Packet(word)));
            }
            (FDRI, word & LENGTH_LONG)
        } else if word == NOTHING {
            return Ok(());
        } else {
            let (register, length) = (word >> 13 & 31, word & LENGTH);
            self.long = register == FDRI && length == 0;
            let fits = length == 1 || self.long || length > 0 && matches!(register, FDRI | MFWR);
            if word != WRITE | register << 13 | length || !fits {
                return Err(here.refuse(Why::Packet(word)));
            }
            (register, length)
        };
        for _ in 0..length {
            let here = *rest;
            let word = rest.word()?;
            self.write(register, word).map_err(|why| here.refuse(why))?;
        }
        Ok(())
    }

    fn write(&mut self, register: u32, word: u32) -> Result<(), Why> {
        match (register, word) {
            (CMD, command) => return self.command(command),
            (CRC, crc) => return self.judge(crc),
            (WBSTAR | TIMER, 0) if self.crc.is_none() => return self.early(register),
            (IDCODE, got) if got & !REVISION != self.idcode => return Err(Why::Part { got, want: self.idcode }),
            (IDCODE, _) => self.named = true,
            (FDRI | MFWR, _) if !self.named => return Err(Why::NoPart),
            (FDRI | MFWR, _) => self.unchecked_frames = true,
            (CBC, _) => return Err(Why::Encrypted),
            (FAR | CTL0 | MASK | COR0 | AXSS | COR1 | WBSTAR | TIMER | UNNAMED | CTL1 | BSPI, _) => {}
            (unknown, _) => return Err(Why::Register(unknown)),
        }
        self.cover(register, word)
    }

    fn command(&mut self, command: u32) -> Result<(), Why> {
        match command {
            NULL if self.crc.is_none() => return self.early(CMD),
            RCRC if self.crc.is_none() => {
                self.crc = Some(0);
                return Ok(());
            }
            START if self.unchecked_frames || self.crcs == 0 => return Err(Why::Unchecked),
            DESYNC if self.unchecked || self.crcs == 0 => return Err(Why::Unchecked),
            DESYNC => {
                self.done = true;
                return Ok(());
            }
            NULL | WCFG | MFW | LFRM | START | SWITCH | GRESTORE | SHUTDOWN => {}
            unknown => return Err(Why::Command(unknown)),
        }
        self.cover(CMD, command)
    }

    /// Zero, once to a register, is all that may be written without a CRC.
    fn early(&mut self, register: u32) -> Result<(), Why> {
        let again = self.early & 1 << register != 0;
        self.early |= 1 << register;
        if again { Err(Why::Uncovered(register)) } else { Ok(()) }
    }

    fn cover(&mut self, register: u32, word: u32) -> Result<(), Why> {
        let crc = self.crc.ok_or(Why::Uncovered(register))?;
        self.crc = Some(crc32(crc, register, word));
        self.unchecked = true;
        Ok(())
    }

    fn judge(&mut self, got: u32) -> Result<(), Why> {
        let want = self.crc.ok_or(Why::Uncovered(CRC))?;
        if got != want {
            return Err(Why::Crc { got, want });
        }
        self.crc = Some(0);
        self.crcs += 1;
        self.unchecked = false;
        self.unchecked_frames = false;
        Ok(())
    }
}

/// CRC-32C of a word and the five bits of its register, low bit first.
pub(super) fn crc32(crc: u32, register: u32, word: u32) -> u32 {
    let step = |crc: u32, bit: u32| crc >> 1 ^ if (crc ^ bit) & 1 == 0 { 0 } else { 0x82f6_3b78 };
    let crc = (0..32).fold(crc, |crc, bit| step(crc, word >> bit));
    (0..5).fold(crc, |crc, bit| step(crc, register >> bit))
}
