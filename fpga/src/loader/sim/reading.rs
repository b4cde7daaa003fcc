//! What the part makes of the bits: looser than the walk, as the part is, and written apart from
//! it, so that the one does not inherit the other's mistakes.

/// What a bit did.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing yet.
    Goes,
    /// The part gave up: it stays as it is until the next reset.
    Wrong,
    /// The last command woke the part.
    Woke,
}

/// A bitstream, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Reading {
    place: Place,
    /// The last 32 bits.
    last: u32,
    bits: u32,
    crc: u16,
    /// Whether the CRC was asked, and right.
    right: bool,
    bank: u32,
    width: u32,
    height: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// Looks for the preamble, at any bit.
    #[default]
    Hunting,
    Command,
    Argument {
        operation: u8,
        left: u8,
        value: u32,
    },
    Contents {
        left: u32,
    },
}

impl Reading {
    pub(super) fn bit(&mut self, bit: bool) -> Outcome {
        self.last = self.last << 1 | u32::from(bit);
        let carry = (self.crc >> 15 != 0) != bit;
        self.crc = self.crc << 1 ^ if carry { 0x1021 } else { 0 };
        if let Place::Hunting = self.place {
            if self.last == 0x7eaa_997e {
                self.place = Place::Command;
                self.bits = 0;
            }
            return Outcome::Goes;
        }
        self.bits += 1;
        let [.., byte] = self.last.to_be_bytes();
        if self.bits.is_multiple_of(8) { self.byte(byte) } else { Outcome::Goes }
    }

    fn byte(&mut self, byte: u8) -> Outcome {
        match self.place {
            Place::Hunting => {}
            Place::Command => {
                self.place = Place::Argument { operation: byte >> 4, left: byte & 15, value: 0 };
            }
            Place::Contents { left: 1 } => self.place = Place::Command,
            Place::Contents { left } => self.place = Place::Contents { left: left - 1 },
            Place::Argument { operation, left, value } => {
                let value = value << 8 | u32::from(byte);
                if left > 1 {
                    self.place = Place::Argument { operation, left: left - 1, value };
                } else {
                    self.place = Place::Command;
                    return self.obey(operation, value);
                }
            }
        }
        Outcome::Goes
    }

    fn obey(&mut self, operation: u8, value: u32) -> Outcome {
        match (operation, value) {
            (0, 1) if self.width == 692 && matches!(self.height, 176 | 336) => self.contents(),
            (0, 3) if self.width == 160 >> (self.bank & 1) => self.contents(),
            (0, 5) => self.crc = 0xffff,
            (0, 6) if self.right => return Outcome::Woke,
            (1, bank) => self.bank = bank,
            (2, _) if self.crc == 0 => self.right = true,
            (5 | 8 | 9, _) => {}
            (6, less_one) => self.width = (less_one & 0xffff) + 1,
            (7, height) => self.height = height & 0xffff,
            _ => return Outcome::Wrong,
        }
        Outcome::Goes
    }

    /// Rows, and the 0000 behind them.
    fn contents(&mut self) {
        self.place = Place::Contents { left: self.width * self.height / 8 + 2 };
    }
}
