//! Loading, into a simulated part on boards that are right and on ones that are not.

use core::convert::Infallible;
use std::vec::Vec;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{self, InputPin, OutputPin};
use embedded_hal::spi::{self, SpiBus};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::sim::{Broken, Defect, Part};
use super::{Fault, Image, Pin};
use crate::bitstream::ice40::{self, Why};

const BLINKY: &[u8] = include_bytes!("../../tests/data/blinky-up5k.bin");
const OTHER_PART: &[u8] = include_bytes!("../../tests/data/blinky-hx1k.bin");

fn load(part: &Part) -> Result<ice40::Facts, Fault<Infallible>> {
    part.loader().load(&mut &*BLINKY)
}

#[test]
fn a_bitstream_is_loaded_and_runs() {
    for part in [Part::blank(Defect::None), Part::running(Defect::None)] {
        assert_eq!(load(&part), Ok(ice40::check(BLINKY).unwrap()));
        assert!(part.runs());
        assert_eq!(part.broken(), None);
        assert!(part.now_ns() < 840_000_000, "{} ns", part.now_ns());
        assert!(load(&part).is_ok() && part.runs(), "it can be loaded again");
    }
}

#[test]
fn a_refused_bitstream_leaves_alone_what_runs() {
    let mut flipped = BLINKY.to_vec();
    flipped[50_000] ^= 1;
    for image in [&flipped[..], &BLINKY[..104_089], OTHER_PART, b""] {
        let part = Part::running(Defect::None);
        let refused = ice40::check(image).unwrap_err();
        assert_eq!(part.loader().load(&mut &*image), Err(Fault::Refused(refused)));
        assert!(part.runs() && part.now_ns() == 0);
    }
}

#[test]
fn each_defect_is_told_and_leaves_the_part_in_reset() {
    let pin = |pin| Fault::Pin { pin, kind: digital::ErrorKind::Other };
    for (defect, blank, running) in [
        (Defect::DoneHigh, Fault::DoneStuckHigh, Fault::DoneStuckHigh),
        (Defect::DoneLow, Fault::DoneStuckLow, Fault::DoneStuckLow),
        (Defect::ResetOpen, Fault::DoneStuckLow, Fault::DoneStuckHigh),
        (Defect::LateDone(200), Fault::DoneStuckLow, Fault::DoneStuckLow),
        (Defect::PinFails(Pin::Done), pin(Pin::Done), pin(Pin::Done)),
        (Defect::PinFails(Pin::Reset), pin(Pin::Reset), pin(Pin::Reset)),
        (Defect::PinFails(Pin::Select), pin(Pin::Select), pin(Pin::Select)),
    ] {
        for (part, fault) in [(Part::blank(defect), blank), (Part::running(defect), running)] {
            assert_eq!(load(&part), Err(fault), "{defect:?}");
            assert_eq!(part.broken(), None, "{defect:?}");
            assert!(part.is_held() || matches!(defect, Defect::PinFails(Pin::Reset)), "{defect:?}");
        }
    }
}

#[test]
fn the_next_load_mends_what_a_defect_left() {
    for defect in [Defect::DoneLow, Defect::BusFails(5_000), Defect::LostByte(70_000)] {
        let part = Part::blank(defect);
        load(&part).unwrap_err();
        part.set_defect(Defect::None);
        load(&part).unwrap();
        assert!(part.runs());
    }
}

#[test]
fn cdone_may_rise_a_hundred_clocks_late() {
    for clocks in [1, 8, 9, 100, 108] {
        let part = Part::blank(Defect::LateDone(clocks));
        load(&part).unwrap();
        assert!(part.runs() && part.broken().is_none(), "{clocks} clocks");
    }
}

/// What a storage may do between the first reading and the second.
struct Shifty {
    image: Vec<u8>,
    later: Vec<u8>,
    piece: usize,
    reads: u32,
}

impl Image for Shifty {
    type Error = &'static str;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<usize, Self::Error> {
        if at == 0 {
            self.reads += 1;
        }
        let piece = self.piece.min(into.len());
        let image = if self.reads < 2 { &self.image } else { &self.later };
        if at > 0 && image.is_empty() {
            return Err("gone");
        }
        (&image[..]).read(at, &mut into[..piece]).map_err(|never| match never {})
    }
}

#[test]
fn a_storage_that_changes_its_mind_is_refused_before_the_part_wakes() {
    let mut flipped = BLINKY.to_vec();
    flipped[100_000] ^= 0x10;
    for later in [flipped, BLINKY[..90_000].to_vec(), OTHER_PART.to_vec(), [BLINKY, BLINKY].concat()] {
        let why = ice40::check(&later).unwrap_err();
        let part = Part::running(Defect::None);
        let mut image = Shifty { image: BLINKY.to_vec(), later, piece: 256, reads: 0 };
        assert_eq!(part.loader().load(&mut image), Err(Fault::Refused(why)));
        assert!(!part.runs() && part.is_held());
        assert_ne!(part.now_ns(), 0, "the first reading was right");
    }
}

#[test]
fn a_storage_may_give_little_at_a_time_and_fail() {
    let part = Part::blank(Defect::None);
    let mut image = Shifty { image: BLINKY.to_vec(), later: BLINKY.to_vec(), piece: 7, reads: 0 };
    assert!(part.loader().load(&mut image).is_ok() && part.runs());

    struct Gone;
    impl Image for Gone {
        type Error = &'static str;
        fn read(&mut self, _: usize, _: &mut [u8]) -> Result<usize, Self::Error> {
            Err("gone")
        }
    }
    assert_eq!(part.loader().load(&mut Gone), Err(Fault::Image("gone")));
    assert!(part.runs());
}

#[test]
fn a_fault_says_what_to_look_at() {
    let refused = Fault::<Infallible>::Refused(ice40::check(OTHER_PART).unwrap_err());
    assert_eq!(
        std::format!("{refused}"),
        "the bitstream is refused: byte 27: made for iCE40 LP1K or HX1K, not for iCE40 UP5K; \
         build it again for this part, or fetch it again"
    );
    let pin = Fault::<Infallible>::Pin { pin: Pin::Done, kind: digital::ErrorKind::Other };
    assert!(std::format!("{pin}").starts_with("the pin Done failed: "));
    assert!(matches!(ice40::check(b"x").unwrap_err().why, Why::NotABitstream));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bit_that_flips_on_the_wire_is_told(byte in 0..BLINKY.len(), bit in 0..8_usize) {
        // The comment, the range of the oscillator and the last clocks are no part of the CRC.
        let covered = (4..8).contains(&byte) || (10..BLINKY.len() - 1).contains(&byte);
        let part = Part::blank(Defect::FlippedBit((byte * 8 + bit).try_into().unwrap()));
        let loaded = load(&part);
        prop_assert!(!covered || loaded == Err(Fault::DoneStuckLow));
        prop_assert_eq!(part.runs(), loaded.is_ok());
    }

    #[test]
    fn a_byte_that_is_lost_on_the_wire_is_told(byte in 4..BLINKY.len() - 1) {
        let part = Part::blank(Defect::LostByte(byte.try_into().unwrap()));
        prop_assert_eq!(load(&part), Err(Fault::DoneStuckLow));
        prop_assert!(!part.runs() && part.is_held());
    }

    #[test]
    fn a_bus_that_fails_anywhere_is_told(bytes in 0..BLINKY.len() as u64 + 8) {
        let part = Part::running(Defect::BusFails(bytes));
        prop_assert_eq!(load(&part), Err(Fault::Bus(spi::ErrorKind::Other)));
        prop_assert!(!part.runs() && part.is_held());
    }
}

/// How a careless loader goes about it.
#[derive(Clone, Copy)]
struct Manner {
    select_first: bool,
    reset_ns: u32,
    housekeeping_us: u32,
    lead_bytes: usize,
    interrupts: bool,
    flushes: bool,
    wake_bytes: usize,
}

const RIGHT: Manner = Manner {
    select_first: true,
    reset_ns: 200,
    housekeeping_us: 1_200,
    lead_bytes: 1,
    interrupts: false,
    flushes: true,
    wake_bytes: 7,
};

fn drive(part: &Part, manner: Manner) {
    let mut wires = part.loader();
    if manner.select_first {
        wires.select.set_low().unwrap();
    }
    wires.reset.set_low().unwrap();
    wires.delay.delay_ns(manner.reset_ns);
    wires.reset.set_high().unwrap();
    wires.select.set_low().unwrap();
    wires.delay.delay_us(manner.housekeeping_us);
    wires.select.set_high().unwrap();
    wires.bus.write(&[0; 8][..manner.lead_bytes]).unwrap();
    wires.bus.flush().unwrap();
    wires.select.set_low().unwrap();
    let (one, other) = BLINKY.split_at(1_000);
    wires.bus.write(one).unwrap();
    if manner.interrupts {
        wires.bus.flush().unwrap();
        wires.select.set_high().unwrap();
        wires.select.set_low().unwrap();
    }
    wires.bus.write(other).unwrap();
    if manner.flushes {
        wires.bus.flush().unwrap();
    }
    wires.done.is_high().unwrap();
    wires.bus.write(&[0; 8][..manner.wake_bytes]).unwrap();
    wires.bus.flush().unwrap();
}

#[test]
fn the_simulated_part_minds_its_rules() {
    for (manner, broken) in [
        (Manner { select_first: false, ..RIGHT }, Broken::SelectHigh),
        (Manner { reset_ns: 199, ..RIGHT }, Broken::ResetShort),
        (Manner { housekeeping_us: 1_199, ..RIGHT }, Broken::Early),
        (Manner { lead_bytes: 0, ..RIGHT }, Broken::Lead),
        (Manner { interrupts: true, ..RIGHT }, Broken::Interrupted),
        (Manner { flushes: false, ..RIGHT }, Broken::Unflushed),
    ] {
        let part = Part::running(Defect::None);
        drive(&part, manner);
        assert_eq!(part.broken(), Some(broken));
        assert!(!part.runs());
    }
    // 8 clocks come with the last byte of the bitstream, so 41 are missing.
    for (wake_bytes, runs) in [(5, false), (6, true), (7, true)] {
        let part = Part::blank(Defect::None);
        drive(&part, Manner { wake_bytes, ..RIGHT });
        assert_eq!((part.broken(), part.runs()), (None, runs));
    }
}

#[test]
fn the_simulated_part_takes_no_bitstream_of_another_part_or_with_a_wrong_crc() {
    let mut wrong = BLINKY.to_vec();
    wrong[60_000] ^= 1;
    for (image, runs) in [(BLINKY, true), (OTHER_PART, false), (&wrong, false)] {
        let part = Part::blank(Defect::None);
        let mut wires = part.loader();
        wires.listen::<Infallible>().unwrap();
        wires.bus.write(image).unwrap();
        wires.bus.flush().unwrap();
        assert_eq!(wires.wake::<Infallible>().is_ok(), runs);
        assert_eq!(part.runs(), runs);
    }
}
