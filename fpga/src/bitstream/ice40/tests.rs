//! What is refused, on bitstreams that tools made and on ones that no tool would.

use std::vec;
use std::vec::Vec;

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{BYTES_MAX, Block, COMMENT_BYTES_MAX, Facts, Memory, Part, Refused, Walk, Why, check};

const BLINKY: &[u8] = include_bytes!("../../../tests/data/blinky-up5k.bin");
const OTHER_PART: &[u8] = include_bytes!("../../../tests/data/blinky-hx1k.bin");
/// Bytes of comment in [`BLINKY`].
const COMMENT: usize = 4;

#[test]
fn what_icepack_wrote_is_accepted() {
    let crc = u16::from_be_bytes([BLINKY[104_085], BLINKY[104_086]]);
    let facts = Facts {
        part: Part::Up5k,
        bytes: 104_090,
        comment_bytes: COMMENT,
        build: None,
        crc,
        warm_boot: true,
        no_sleep: false,
    };
    assert_eq!(check(BLINKY), Ok(facts));
    assert_eq!(check(&BLINKY[COMMENT..]).unwrap().comment_bytes, 0);
}

#[test]
fn the_shipped_engine_is_accepted_and_says_its_build() {
    let engine = include_bytes!("../../../rtl/up5k/bellwether.bin");
    let report = include_str!("../../../rtl/up5k/report.txt");
    let build = report.lines().find_map(|line| line.strip_prefix("build ")?.split_whitespace().next()).unwrap();
    let facts = check(engine).unwrap();
    assert_eq!((facts.part, facts.build), (Part::Up5k, Some(u32::from_str_radix(build, 16).unwrap())));
}

#[test]
fn a_comment_says_the_build_or_nothing() {
    let build = |strings: &[&str]| {
        let text: Vec<u8> = strings.iter().flat_map(|text| [text.as_bytes(), &[0]].concat()).collect();
        check(&[&[0xff, 0], &text[..], &[0, 0xff], &BLINKY[COMMENT..]].concat()).unwrap().build
    };
    assert_eq!(build(&["bellwether up5k build=4f63a8d7"]), Some(0x4f63_a8d7));
    assert_eq!(build(&["", "icepack", "bellwether up5k build=00000001", "more"]), Some(1));
    assert_eq!(build(&["bellwether up5k build=ffffffff", "bellwether up5k build=00000001"]), Some(u32::MAX));
    for other in [
        "",
        "bellwether up5k build=",
        "bellwether up5k build=4f63a8d",
        "bellwether up5k build=4f63a8d70",
        "bellwether up5k build=4F63A8D7",
        "bellwether up5k build=4f63a8g7",
        "bellwether up5k build=+f63a8d7",
        "bellwether  up5k build=4f63a8d7",
        " bellwether up5k build=4f63a8d7",
        "bellwether up5k build=4f63a8d7 ",
        "bellwether up5k bellwether up5k build=4f63a8d7",
    ] {
        assert_eq!(build(&[other]), None, "{other:?}");
        assert_eq!(build(&[other, "bellwether up5k build=4f63a8d7"]), Some(0x4f63_a8d7), "behind {other:?}");
    }
    let long = std::format!("bellwether up5k build={}", "0".repeat(COMMENT_BYTES_MAX - 27));
    assert_eq!(build(&[&long]), None);
}

#[test]
fn pieces_of_any_size_say_the_same() {
    for size in [1, 2, 3, 7, 256, 4096, 100_000] {
        let mut walk = Walk::new();
        for piece in BLINKY.chunks(size) {
            walk.push(piece).unwrap();
        }
        assert_eq!(walk.finish(), check(BLINKY), "pieces of {size}");
    }
}

#[test]
fn every_flipped_bit_outside_the_blocks_is_refused() {
    let mut bits = 0;
    let mut walk = Walk::new();
    let inside = blocks_of(BLINKY);
    for at in 0..BLINKY.len() {
        if !inside.iter().any(|block| block.contains(&at)) {
            for bit in 0..8 {
                assert_ne!(flipped(&walk, at, bit), None, "bit {bit} of byte {at}");
                bits += 1;
            }
        }
        walk.push(&BLINKY[at..=at]).unwrap();
    }
    assert_eq!(bits, 8 * (104_090 - 2 * (29_064 + 15_224) - 4 * (2_560 + 1_280)));
}

#[test]
fn a_flipped_bit_in_a_block_is_found_by_the_crc() {
    let mut walk = Walk::new();
    let inside = blocks_of(BLINKY);
    for at in 0..BLINKY.len() {
        // A stride without a common factor with 8: every bit of a byte has its turn.
        if at % 11 == 0 && inside.iter().any(|block| block.contains(&at)) {
            let found = flipped(&walk, at, at / 11 % 8);
            assert!(matches!(found, Some(Refused { at: 104_086, why: Why::Crc { .. } })), "byte {at}: {found:?}");
        }
        walk.push(&BLINKY[at..=at]).unwrap();
    }
}

#[test]
fn a_bitstream_cut_anywhere_is_refused() {
    let mut walk = Walk::new();
    for at in 0..BLINKY.len() {
        assert_eq!(walk.clone().finish(), Err(Refused { at, why: Why::Short }));
        walk.push(&BLINKY[at..=at]).unwrap();
    }
    walk.finish().unwrap();
}

#[test]
fn more_than_a_bitstream_is_refused() {
    for more in [&[0][..], &[0xff], &[0; 4096], BLINKY] {
        assert_eq!(why(&[BLINKY, more].concat()), Why::Trailing);
    }
}

#[test]
fn other_files_are_refused() {
    assert_eq!(why(b""), Why::Short);
    assert_eq!(why(b"module blinky (input clock, output led);\n"), Why::NotABitstream);
    assert_eq!(why(b"\x7fELF\x02\x01\x01\0"), Why::NotABitstream);
    assert_eq!(why(&[0xff; 1024]), Why::NotABitstream);
    assert_eq!(why(&[0; 1024]), Why::NotABitstream);
    let (one, other) = BLINKY.split_at(BLINKY.len() / 2);
    assert_eq!(why(&[other, one].concat()), Why::NotABitstream);
    assert_eq!(why(&[BLINKY, &[0; 512]].concat()[512..]), Why::NotABitstream);
}

#[test]
fn another_part_is_refused_by_its_name() {
    assert_eq!(check(OTHER_PART), Err(Refused { at: 27, why: Why::Part(Part::Hx1k) }));
    for (part, width, height) in super::PARTS {
        let mut made = Made::begun();
        let block = Block { memory: Memory::Cram, bank: 0, row: 0, width, height };
        made.block(block);
        let found = why(&made.0);
        assert_eq!(found, if part == Part::Up5k { Why::Short } else { Why::Part(part) });
    }
}

#[test]
fn a_block_that_the_part_has_not_is_refused() {
    let right = Block { memory: Memory::Bram, bank: 1, row: 128, width: 80, height: 128 };
    for wrong in [
        Block { width: 160, ..right },
        Block { height: 256, ..right },
        Block { row: 256, ..right },
        Block { bank: 4, ..right },
        Block { memory: Memory::Cram, ..right },
        Block { width: 65_536, height: 65_535, ..right },
    ] {
        let mut made = Made::begun();
        made.block(wrong);
        assert_eq!(why(&made.0), Why::Geometry(wrong));
    }
    let mut unset = Made::begun();
    unset.command(&[0x01, 0x03]);
    assert!(matches!(why(&unset.0), Why::Geometry(_)));
}

#[test]
fn blocks_may_come_in_any_order_but_once_and_all() {
    let mut blocks = every_block();
    blocks.reverse();
    assert_eq!(check(&Made::of(&blocks).0).unwrap().part, Part::Up5k);
    for missing in 0..blocks.len() {
        let mut fewer = blocks.clone();
        let left_out = fewer.remove(missing);
        assert_eq!(why(&Made::of(&fewer).0), Why::Incomplete { written: 11 });
        let again = fewer[0];
        assert_eq!(why(&Made::of(&[&fewer[..], &[again, left_out]].concat()).0), Why::Twice(again));
    }
}

#[test]
fn the_crc_begins_once_and_is_asked_once_before_the_part_wakes() {
    let body = |made: &mut Made| every_block().into_iter().for_each(|block| made.block(block));
    let mut without = Made::begun();
    body(&mut without);
    without.command(&[0x01, 0x06]);
    assert_eq!(why(&without.0), Why::Argument { command: 0x01, value: 6 });

    let mut again = Made::begun();
    body(&mut again);
    again.command(&[0x01, 0x05]);
    assert_eq!(why(&again.0), Why::Argument { command: 0x01, value: 5 });

    let mut never = Made(BLINKY[COMMENT..COMMENT + 6].to_vec());
    never.command(&[0x92, 0x00, 0x20]);
    assert_eq!(why(&never.0), Why::Argument { command: 0x92, value: 0x20 });

    let mut after = Made::of(&every_block());
    after.0.truncate(after.0.len() - 3);
    after.command(&[0x11, 0x00]);
    assert_eq!(why(&after.0), Why::Argument { command: 0x11, value: 0 });
}

#[test]
fn commands_beyond_what_icepack_writes_are_refused() {
    // A boot address, and a reading of the memory: a part may know them.
    for (command, found) in [
        (&[0x44, 0, 0, 0, 0][..], Why::Command(0x44)),
        (&[0x01, 0x02], Why::Argument { command: 0x01, value: 2 }),
        (&[0x01, 0x08], Why::Argument { command: 0x01, value: 8 }),
        (&[0x92, 0x00, 0x10], Why::Argument { command: 0x92, value: 0x10 }),
        (&[0x12, 0x00, 0x00], Why::Command(0x12)),
    ] {
        let mut made = Made::begun();
        made.command(command);
        assert_eq!(why(&made.0), found);
    }
    let medium = [&BLINKY[COMMENT..COMMENT + 5], &[0x01]].concat();
    assert_eq!(why(&medium), Why::Argument { command: 0x51, value: 1 });
}

#[test]
fn commands_without_end_are_refused() {
    let mut made = Made::begun();
    while made.0.len() <= BYTES_MAX {
        made.command(&[0x11, 0x00]);
    }
    assert_eq!(check(&made.0), Err(Refused { at: BYTES_MAX, why: Why::Long }));
}

#[test]
fn a_comment_is_text_and_counted() {
    let with = |comment: &[u8]| [b"\xff\x00", comment, b"\x00\xff", &BLINKY[COMMENT..]].concat();
    assert_eq!(check(&with(b"blinky\0made\ttoday\0")).unwrap().comment_bytes, 22);
    assert_eq!(check(&with(&vec![b'x'; COMMENT_BYTES_MAX - 4])).unwrap().comment_bytes, COMMENT_BYTES_MAX);
    assert_eq!(why(&with(&vec![b'x'; COMMENT_BYTES_MAX - 3])), Why::Comment);
    assert_eq!(why(&with(b"\x7e\xaa\x99\x7e")), Why::Comment);
    assert_eq!(why(&[b"\xff\x00text\xff", &BLINKY[COMMENT..]].concat()), Why::Comment);
    assert_eq!(why(&[b"\xff\x00\xff", &BLINKY[COMMENT..]].concat()), Why::Comment);
}

#[test]
fn what_was_refused_stays_refused() {
    let mut walk = Walk::new();
    let refused = walk.push(b"nonsense").unwrap_err();
    assert_eq!(walk.push(BLINKY), Err(refused));
    assert_eq!(walk.finish(), Err(refused));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>, begun: bool) {
        let bytes = if begun { [&BLINKY[..12], &bytes].concat() } else { bytes };
        prop_assert!(check(&bytes).is_err());
    }

    /// A burst of at most 16 bits is what a CRC-16 always finds.
    #[test]
    fn a_burst_is_refused(at in 0..BLINKY.len() - 1, burst in 1..=u16::MAX) {
        let mut bytes = BLINKY.to_vec();
        for (byte, flips) in bytes[at..].iter_mut().zip(burst.to_be_bytes()) {
            *byte ^= flips;
        }
        prop_assert!(check(&bytes).is_err());
    }

    /// In the runs of 00 of a real bitstream, too, where what is lost looks like what follows.
    #[test]
    fn lost_and_gained_bytes_are_refused(at in 0..BLINKY.len(), lost in 0..64_usize, gained in prop::collection::vec(any::<u8>(), 0..64)) {
        let end = BLINKY.len().min(at + lost);
        let bytes = [&BLINKY[..at], &gained, &BLINKY[end..]].concat();
        prop_assert!(bytes.len() == BLINKY.len() || check(&bytes).is_err());
    }

    #[test]
    fn pieces_are_refused_like_the_whole(mut bytes in prop::collection::vec(any::<u8>(), 1..64), at in 0..BLINKY.len(), size in 1..5000_usize) {
        bytes.splice(0..0, BLINKY[..at].iter().copied());
        let mut walk = Walk::new();
        let refused = bytes.chunks(size).find_map(|piece| walk.push(piece).err());
        prop_assert_eq!(refused.or_else(|| walk.finish().err()), check(&bytes).err());
    }
}

fn why(bytes: &[u8]) -> Why {
    check(bytes).unwrap_err().why
}

/// What a flipped bit at `at` is refused by, after a walk up to there.
fn flipped(walk: &Walk, at: usize, bit: usize) -> Option<Refused> {
    let mut walk = walk.clone();
    let bytes = [BLINKY[at] ^ 1 << bit];
    let pushed = walk.push(&bytes).and_then(|()| walk.push(&BLINKY[at + 1..]));
    pushed.and_then(|()| walk.finish()).err()
}

/// Where the contents of blocks are, by a reading of its own.
fn blocks_of(bytes: &[u8]) -> Vec<core::ops::Range<usize>> {
    let (mut at, mut width, mut height, mut blocks) = (COMMENT + 4, 0, 0, Vec::new());
    while at < bytes.len() - 1 {
        let argument = &bytes[at + 1..at + 1 + usize::from(bytes[at] & 15)];
        let value = argument.iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
        at += 1 + argument.len();
        match bytes[at - 1 - argument.len()] >> 4 {
            0 if value == 1 || value == 3 => {
                blocks.push(at..at + width * height / 8);
                at += width * height / 8 + 2;
            }
            6 => width = value + 1,
            7 => height = value,
            _ => {}
        }
    }
    blocks
}

fn every_block() -> Vec<Block> {
    let cram = [336, 176, 336, 176].map(|height| (Memory::Cram, 0, 692, height));
    let half = |row| [160, 80, 160, 80].map(|width| (Memory::Bram, row, width, 128));
    let banks = [cram, half(0), half(128)].map(|banks| banks.into_iter().zip(0..));
    let block = |((memory, row, width, height), bank)| Block { memory, bank, row, width, height };
    banks.into_iter().flatten().map(block).collect()
}

/// A bitstream that is written here.
struct Made(Vec<u8>);

impl Made {
    /// Up to where the CRC begins.
    fn begun() -> Self {
        Self(vec![0x7e, 0xaa, 0x99, 0x7e, 0x51, 0x00, 0x01, 0x05])
    }

    /// A whole one with these blocks.
    fn of(blocks: &[Block]) -> Self {
        let mut made = Self::begun();
        blocks.iter().for_each(|&block| made.block(block));
        made.command(&[0x22]);
        let crc = crc16_bit_by_bit(&made.0[8..]);
        made.command(&crc.to_be_bytes());
        made.command(&[0x01, 0x06, 0x00]);
        made
    }

    fn command(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn block(&mut self, Block { memory, bank, row, width, height }: Block) {
        let number = |value: usize| u16::try_from(value).unwrap().to_be_bytes();
        for (command, value) in [(0x62, number(width - 1)), (0x72, number(height)), (0x82, row.to_be_bytes())] {
            self.command(&[command, value[0], value[1]]);
        }
        self.command(&[0x11, u8::try_from(bank).unwrap()]);
        self.command(&[0x01, if memory == Memory::Cram { 0x01 } else { 0x03 }]);
        // A block that the part has not is refused before its contents.
        if width * height < 1 << 20 {
            self.0.resize(self.0.len() + width * height / 8 + 2, 0);
        }
    }
}

fn crc16_bit_by_bit(bytes: &[u8]) -> u16 {
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    bits.fold(0xffff, |crc, bit| crc << 1 ^ if crc >> 15 == bit { 0 } else { 0x1021 })
}
