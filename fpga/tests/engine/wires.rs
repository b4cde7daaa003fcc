//! Bad wires: whatever bit is flipped, in either direction, it is seen, and the result is the same.

use bellwether_fpga::bus::{Bus, BusFault, SpiBus};
use bellwether_fpga::cosim::{Cosim, Gone};
use bellwether_fpga::engine::{Engine, EngineFault};
use bellwether_fpga::frame::Garbled;
use bellwether_fpga::layer::Layer;
use embedded_hal::spi::{ErrorType, Operation, SpiDevice};

use crate::{bank, cosim, one_place, weights};

/// A wire that flips one bit of one transaction.
struct Wire {
    cosim: Cosim,
    /// Transactions until then.
    countdown: Option<u32>,
    /// Of the bits out, then of those in.
    bit: usize,
    /// Bits out and in of the transaction that was hit.
    bits: usize,
}

impl ErrorType for Wire {
    type Error = Gone;
}

impl SpiDevice for Wire {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Gone> {
        let [Operation::TransferInPlace(bytes)] = operations else { panic!("the driver transfers in place") };
        let hit = match &mut self.countdown {
            Some(0) => {
                self.countdown = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let half = bytes.len() * 8;
        if hit {
            self.bits = 2 * half;
            if self.bit < half {
                bytes[self.bit / 8] ^= 0x80 >> (self.bit % 8);
            }
        }
        self.cosim.transfer(bytes)?;
        if hit && self.bit >= half && self.bit < 2 * half {
            bytes[(self.bit - half) / 8] ^= 0x80 >> (self.bit % 8);
        }
        Ok(())
    }
}

/// 16 inputs, 8 outputs.
fn small_layer() -> Layer {
    // The output lies over the input: a job that ran twice would give something else.
    Layer { channels: 8, weights: 5, weights_step: 3, ..one_place(2) }
}

fn image() -> Vec<u8> {
    let mut bytes: Vec<u8> = small_layer().encode().iter().flat_map(|word| word.to_le_bytes()).collect();
    for channel in 0..8_u8 {
        bytes.extend((0..16_u8).map(|i| i.wrapping_mul(37).wrapping_add(channel * 11)));
        bytes.extend(i32::from(channel).to_le_bytes());
        bytes.extend(0.003_f32.to_bits().to_le_bytes());
    }
    bytes
}

const INPUT: [u8; 16] = [1, 250, 3, 4, 128, 127, 7, 8, 9, 10, 11, 200, 13, 14, 15, 16];

fn score(engine: &mut Engine<SpiBus<Wire>>) -> Result<[u8; 8], EngineFault> {
    engine.load(weights(0), &image())?;
    engine.choose(0, 10_000)?;
    engine.begin(bank(0, 0), &INPUT)?;
    engine.finish(100)?;
    let mut output = [0; 8];
    engine.fetch(bank(0, 0), &mut output)?;
    Ok(output)
}

#[test]
fn every_flipped_bit_is_seen_and_changes_nothing() {
    let wire = Wire { cosim: cosim(), countdown: None, bit: 0, bits: 0 };
    let mut engine = Engine::new(SpiBus::new(wire));
    let clean = score(&mut engine).unwrap();
    assert_ne!(clean, [0; 8]);
    let (mut flips, mut seen) = (0, 0);
    // Weights, the job's register, input and start, status, output; idle and ignored bits cannot matter.
    for transaction in 0..5 {
        let mut bit = 0;
        loop {
            let device = engine.bus().device();
            (device.countdown, device.bit) = (Some(transaction), bit);
            let before = engine.bus().garbled();
            assert_eq!(score(&mut engine).unwrap(), clean, "transaction {transaction}, bit {bit}");
            seen += engine.bus().garbled() - before;
            flips += 1;
            let device = engine.bus().device();
            assert_eq!(device.countdown, None, "the transaction came");
            // Of the long one every seventh bit, of the others each.
            bit += if transaction == 0 { 7 } else { 1 };
            if bit >= device.bits {
                break;
            }
        }
    }
    println!("{flips} flipped bits, {seen} of them in bytes that say something: each of these sent again");
    assert!(seen * 3 > flips, "most bits that count were noticed: {seen} of {flips}");
}

/// Wires that say the same whatever is asked.
struct Stuck(u8);

impl ErrorType for Stuck {
    type Error = core::convert::Infallible;
}

impl SpiDevice for Stuck {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Self::Error> {
        for operation in operations {
            if let Operation::TransferInPlace(bytes) = operation {
                bytes.fill(self.0);
            }
        }
        Ok(())
    }
}

#[test]
fn a_dead_bus_is_no_engine() {
    for level in [0x00, 0xff] {
        let fault = Engine::new(SpiBus::new(Stuck(level))).identify().unwrap_err();
        assert_eq!(fault, EngineFault::Bus(BusFault::Garbled(Garbled::Silent(level))));
    }
}

#[test]
fn frames_that_are_cut_short_or_make_no_sense_change_nothing() {
    let mut engine = Engine::new(SpiBus::new(Wire { cosim: cosim(), countdown: None, bit: 0, bits: 0 }));
    let clean = score(&mut engine).unwrap();
    let mut frame = [0; 64];
    let whole =
        bellwether_fpga::frame::write(bellwether_fpga::frame::Ask::Run, 99, bank(0, 0), &INPUT, &mut frame).unwrap();
    for length in 1..whole - 6 {
        let mut cut = frame;
        engine.bus().device().cosim.transfer(&mut cut[..length]).unwrap();
        assert!(!engine.progress().unwrap().busy, "{length} bytes began a job");
    }
    for nonsense in [[0x00; 40], [0xff; 40], [0x57; 40]] {
        let mut bytes = nonsense;
        engine.bus().device().cosim.transfer(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 40], "nonsense is not answered");
    }
    assert_eq!(score(&mut engine).unwrap(), clean);
}

#[test]
fn a_job_without_an_end_is_stopped_and_the_next_one_runs() {
    let mut engine = Engine::new(SpiBus::new(Wire { cosim: cosim(), countdown: None, bit: 0, bits: 0 }));
    let clean = score(&mut engine).unwrap();

    engine.choose(0, 20).unwrap();
    engine.begin(bank(0, 0), &INPUT).unwrap();
    assert!(matches!(engine.finish(100), Err(EngineFault::Stopped(20..=24))));

    let mut endless = small_layer().encode();
    endless[0] |= 3;
    engine.load(weights(0), &endless.map(u64::to_le_bytes).concat()).unwrap();
    engine.choose(0, 10_000).unwrap();
    engine.begin(bank(0, 0), &INPUT).unwrap();
    assert!(matches!(engine.finish(100), Err(EngineFault::Stopped(_))), "a kind that there is not");

    assert_eq!(score(&mut engine).unwrap(), clean);
}

#[test]
fn changed_weights_are_found() {
    let mut engine = Engine::new(SpiBus::new(Wire { cosim: cosim(), countdown: None, bit: 0, bits: 0 }));
    let mut bytes = image();
    engine.load(weights(0), &bytes).unwrap();
    engine.check(0, &bytes, 100).unwrap();
    bytes[70] ^= 4;
    assert!(matches!(engine.check(0, &bytes, 100), Err(EngineFault::Changed { word: 0, .. })));
}

#[test]
fn a_job_is_never_taken_for_one_of_long_ago() {
    let mut engine = Engine::new(SpiBus::new(cosim()));
    let run = |engine: &mut Engine<SpiBus<Cosim>>| {
        engine.begin(bank(0, 0), &INPUT).unwrap();
        engine.finish(100).unwrap();
        let mut output = [0; 8];
        engine.fetch(bank(0, 0), &mut output).unwrap();
        output
    };
    engine.load(weights(0), &image()).unwrap();
    engine.choose(0, 10_000).unwrap();
    let clean = run(&mut engine);
    // As many frames as there are tags.
    for frames in 250..260 {
        for _ in 0..frames {
            engine.progress().unwrap();
        }
        assert_eq!(run(&mut engine), clean, "after {frames} frames");
    }
    // A driver that knows nothing of the jobs before it.
    for _ in 0..3 {
        engine = Engine::new(SpiBus::new(engine.into_bus().into_device()));
        assert_eq!(run(&mut engine), clean, "a new driver");
    }
}
