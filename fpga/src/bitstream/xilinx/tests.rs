//! What is refused, on streams made here word by word.

use std::vec;
use std::vec::Vec;

use proptest::prelude::{any, prop, prop_assert, proptest};

use super::walk::crc32;
use super::{Facts, Header, Refused, Why, check};

/// XC7A35T.
const IDCODE: u32 = 0x0362_d093;

#[test]
fn a_bin_is_accepted() {
    let bytes = made(true);
    let facts = Facts { header: None, idcode: IDCODE, bytes: bytes.len(), crcs: 2 };
    assert_eq!(check(&bytes, IDCODE), Ok(facts));
    assert_eq!(check(&bytes, 0x1362_d093), Ok(facts), "another revision");
    assert_eq!(check(&made(false), IDCODE).unwrap().crcs, 2, "frames in a long packet");
}

#[test]
fn a_bit_tells_what_it_is() {
    let (bytes, bin) = (bit(&made(true)), made(true));
    let header = Header { design: "top;Version=1", part: "7a35tcpg236", date: "2026/01/02", time: "03:04:05" };
    assert_eq!(check(&bytes, IDCODE), Ok(Facts { header: Some(header), idcode: IDCODE, bytes: bin.len(), crcs: 2 }));
}

/// The vectors of Project X-Ray's own test, and the last writes of every bitstream of Vivado
/// with the CRC that it wrote after them.
#[test]
fn the_crc_is_the_parts() {
    assert_eq!(crc32(0, 0, 0), 0);
    assert_eq!(crc32(0, 16, 0), 0x82f6_3b78);
    assert_eq!(crc32(0, 31, u32::MAX), 0xbf86_d4df);
    assert_eq!(crc32(u32::MAX, 0, 0), 0xc631_e365);
    let crc = LAST.into_iter().fold(0, |crc, (register, word)| crc32(crc, register, word));
    assert_eq!(crc, 0x6150_09a6);
}

#[test]
fn another_part_is_refused_by_its_idcode() {
    let found = check(&made(true), 0x0372_d093).unwrap_err();
    assert_eq!(found.why, Why::Part { got: IDCODE, want: 0x0372_d093 });
}

#[test]
fn every_flipped_bit_of_what_goes_to_the_part_is_refused() {
    for long in [true, false] {
        let bytes = made(long);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(check(&flipped, IDCODE).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn a_bit_cut_anywhere_is_refused() {
    let bytes = bit(&made(true));
    for at in 0..bytes.len() {
        assert!(check(&bytes[..at], IDCODE).is_err(), "{at} bytes");
    }
}

#[test]
fn a_bin_cut_before_its_last_clocks_is_refused() {
    let bytes = made(true);
    for at in 0..bytes.len() - 4 * CLOCKS {
        assert_eq!(check(&bytes[..at], IDCODE).unwrap_err().why, Why::Short, "{at} bytes");
    }
}

#[test]
fn more_than_a_bitstream_is_refused() {
    let bin = made(true);
    let twice = [&bin[..], &bin].concat();
    assert_eq!(check(&twice, IDCODE), Err(Refused { at: bin.len(), why: Why::Trailing(u32::MAX) }));
    let twice = [bit(&bin), bit(&bin)].concat();
    assert!(matches!(check(&twice, IDCODE).unwrap_err().why, Why::Length { .. }));
}

#[test]
fn other_files_are_refused() {
    for bytes in [&b"module blinky;\n"[..], &[0; 64], b"\x7fELF\x02\x01\x01\0", &[0x7e, 0xaa, 0x99, 0x7e]] {
        assert!(matches!(check(bytes, IDCODE).unwrap_err().why, Why::NotABitstream(_)));
    }
    assert_eq!(check(&[], IDCODE), Err(Refused { at: 0, why: Why::Short }));
    let swapped: Vec<u8> = made(true).chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    assert_eq!(check(&swapped, IDCODE).unwrap_err().why, Why::Swapped);
}

#[test]
fn a_header_is_text_with_the_right_length() {
    let bytes = bit(&made(true));
    for (at, why) in [(13, Why::Field('a')), (16, Why::Field('a')), (30, Why::Field('b'))] {
        let mut wrong = bytes.clone();
        wrong[at] = 0x80;
        assert_eq!(check(&wrong, IDCODE).unwrap_err().why, why);
    }
}

#[test]
fn nothing_is_written_that_no_crc_covers() {
    let begin = |stream: &mut Stream| [(4, 7), (12, IDCODE), (4, 1), (1, 0)].map(|(to, word)| stream.write(to, word));
    // Watchdog and boot address count from the first packet on, and the CRC does not.
    for (register, why) in [(17, Why::Uncovered(17)), (16, Why::Uncovered(16)), (9, Why::Uncovered(9))] {
        let mut stream = Stream::begun();
        stream.write(register, 0x4000_0000);
        assert_eq!(stream.why(), why);
    }
    let cases: [(&[(u32, u32)], Why); 5] = [
        (&[(4, 7)], Why::Command(7)),
        (&[(2, 1), (4, 5)], Why::Unchecked),
        (&[(4, 13)], Why::Unchecked),
        (&[(4, 15)], Why::Command(15)),
        (&[(0, 1)], Why::Crc { got: 1, want: 0 }),
    ];
    for (writes, found) in cases {
        let mut stream = Stream::begun();
        begin(&mut stream);
        writes.iter().for_each(|&(register, word)| stream.write(register, word));
        let want = stream.crc;
        assert_eq!(stream.why(), if let Why::Crc { got, .. } = found { Why::Crc { got, want } } else { found });
    }
}

#[test]
fn what_no_whole_part_needs_is_refused() {
    for (register, why) in [(11, Why::Encrypted), (8, Why::Register(8)), (22, Why::Register(22)), (2, Why::NoPart)] {
        let mut stream = Stream::begun();
        stream.write(4, 7);
        stream.write(register, 0);
        assert_eq!(stream.why(), why);
    }
    for word in [0x2800_6001, 0x3800_6001, 0x3000_2801, 0x5000_0001, 0x2000_0001, 0x3000_2000, 0x3000_8002, 0] {
        let mut stream = Stream::begun();
        stream.word(word);
        assert_eq!(stream.why(), Why::Packet(word));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>, begun: bool) {
        let bytes = if begun { [&made(true)[..40], &bytes].concat() } else { bytes };
        prop_assert!(check(&bytes, IDCODE).is_err());
    }

    #[test]
    fn headers_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 13..120_usize) {
        bytes.splice(0..0, bit(&made(true))[..cut].iter().copied());
        prop_assert!(check(&bytes, IDCODE).is_err());
    }

    /// A burst of at most 32 bits is what a CRC-32 always finds.
    #[test]
    fn a_burst_is_refused(word in 0..made(true).len() / 4, burst in 1..=u32::MAX) {
        let mut bytes = made(true);
        for (byte, flips) in bytes[4 * word..].iter_mut().zip(burst.to_be_bytes()) {
            *byte ^= flips;
        }
        prop_assert!(check(&bytes, IDCODE).is_err());
    }
}

/// Clocks after the last packet.
const CLOCKS: usize = 16;
/// What Vivado writes between the two CRCs: register and word.
const LAST: [(u32, u32); 8] = [(4, 10), (4, 3), (6, 0x1000), (24, 0), (4, 5), (1, 0x03be_0000), (6, 0x501), (5, 0x501)];

/// A stream in the order of Vivado's, with a few words for frames.
fn made(long: bool) -> Vec<u8> {
    let mut stream = Stream::begun();
    for (register, word) in [(17, 0), (16, 0), (4, 0), (4, 7)] {
        stream.write(register, word);
    }
    stream.word(0x2000_0000);
    for (register, word) in [(19, 0), (9, 0x0200_3fe5), (14, 0), (12, IDCODE), (4, 9), (6, 0x401), (5, 0x501), (1, 0)] {
        stream.write(register, word);
    }
    stream.write(4, 1);
    let frames: Vec<u32> = (0..50).map(|word| word * 0x0101_0307).collect();
    if long {
        stream.word(0x3000_4000);
        stream.word(0x5000_0000 + 50);
    } else {
        stream.word(0x3000_4000 + 50);
    }
    frames.into_iter().for_each(|word| stream.data(2, word));
    stream.ask();
    LAST.into_iter().for_each(|(register, word)| stream.write(register, word));
    stream.ask();
    stream.write(4, 13);
    (0..CLOCKS).for_each(|_| stream.word(0x2000_0000));
    stream.bytes
}

/// A `.bit` of a `.bin`.
fn bit(bin: &[u8]) -> Vec<u8> {
    let mut bytes = super::BIT.to_vec();
    for (key, text) in [(b'a', "top;Version=1"), (b'b', "7a35tcpg236"), (b'c', "2026/01/02"), (b'd', "03:04:05")] {
        bytes.push(key);
        bytes.extend(u16::try_from(text.len() + 1).unwrap().to_be_bytes());
        bytes.extend(text.bytes().chain([0]));
    }
    bytes.push(b'e');
    bytes.extend(u32::try_from(bin.len()).unwrap().to_be_bytes());
    bytes.extend(bin);
    bytes
}

struct Stream {
    bytes: Vec<u8>,
    crc: u32,
}

impl Stream {
    fn begun() -> Self {
        let mut stream = Self { bytes: vec![], crc: 0 };
        for word in [u32::MAX, 0xbb, 0x1122_0044, u32::MAX, 0xaa99_5566] {
            stream.word(word);
        }
        stream
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend(word.to_be_bytes());
    }

    fn write(&mut self, register: u32, word: u32) {
        self.word(0x3000_0001 | register << 13);
        self.data(register, word);
    }

    fn data(&mut self, register: u32, word: u32) {
        self.word(word);
        self.crc = match (register, word) {
            (0, _) => self.crc,
            (4, 7) => 0,
            _ => crc32_high_bit_first(self.crc, register, word),
        };
    }

    fn ask(&mut self) {
        self.word(0x3000_0001);
        self.word(self.crc);
        self.crc = 0;
    }

    fn why(&self) -> Why {
        check(&self.bytes, IDCODE).unwrap_err().why
    }
}

/// The same CRC by a long division of the turned bits.
fn crc32_high_bit_first(crc: u32, register: u32, word: u32) -> u32 {
    let message = u64::from(register) << 32 | u64::from(word);
    let turned = (0..37).fold(crc.reverse_bits(), |crc, bit| {
        let carry = crc >> 31 != u32::from(message >> bit & 1 == 1);
        crc << 1 ^ if carry { 0x1edc_6f41 } else { 0 }
    });
    turned.reverse_bits()
}
