//! Sums and scales at every edge: the rounding of the engine is that of a CPU's floats.

use bellwether_fpga::layer::Layer;
use bellwether_fpga::requant::requantize;

use crate::dice::Dice;
use crate::{bank, engine, one_place, setting, weights};

const CHANNELS: usize = 1024;

/// One tap of zeros for each channel: what comes out is the bias, scaled.
#[test]
fn the_rounding_is_that_of_floats() {
    let rounds = setting("BELLWETHER_FPGA_ROUNDS", 12);
    let mut engine = engine();
    let mut dice = Dice::new(7);
    let layer = Layer {
        channels: CHANNELS as u16,
        weights: 8,
        weights_step: 2,
        out: 1,
        out_stride: CHANNELS as u16 / 8,
        ..one_place(1)
    };
    let mut counted = 0;
    for _ in 0..rounds {
        let layer = Layer { zero_point: dice.byte(true) as i8, ..layer };
        let parameters: Vec<(i32, f32)> = (0..CHANNELS).map(|_| edge(&mut dice)).collect();
        engine.load(weights(0), layer.encode().map(u64::to_le_bytes).as_flattened()).unwrap();
        let mut words = Vec::new();
        for (sum, scale) in &parameters {
            words.push([0; 8]);
            words.push((u64::from(scale.to_bits()) << 32 | u64::from(sum.cast_unsigned())).to_le_bytes());
        }
        engine.load(weights(8), words.as_flattened()).unwrap();
        engine.choose(0, 100_000).unwrap();
        engine.begin(bank(0, 0), &[0; 8]).unwrap();
        engine.finish(1000).unwrap();
        let mut got = [0; CHANNELS];
        engine.fetch(bank(0, 1), &mut got).unwrap();
        for ((sum, scale), got) in parameters.iter().zip(got) {
            let expected = requantize(*sum, *scale, layer.zero_point, -128, 127);
            assert_eq!(got as i8, expected, "{sum} * {scale:e} ({:#010x}) + {}", scale.to_bits(), layer.zero_point);
            counted += 1;
        }
    }
    println!("{counted} sums rounded alike");
}

/// A sum and a scale whose product lies near a half, or at the ends of what either can be.
fn edge(dice: &mut Dice) -> (i32, f32) {
    let sum = match dice.below(5) {
        0 => [i32::MIN, i32::MAX, 0, 1, -1, (1 << 24) + 1, 1 << 24, -(1 << 24) - 1][dice.below(8) as usize],
        1 => 1 << dice.below(31),
        2 => ((1 << dice.within(1, 30)) - 1) * if dice.coin() { 1 } else { -1 },
        _ => (dice.next() as i32) >> dice.below(31),
    };
    let half = dice.below(300) as f64 + 0.5;
    let scale = (half / f64::from(sum).abs().max(1.0)) as f32;
    let near = f32::from_bits((scale.to_bits() + dice.below(5) as u32).saturating_sub(2));
    match dice.below(8) {
        0 => (sum, f32::MIN_POSITIVE),
        1 => (sum, f32::MAX),
        2 => (sum, 2_f32.powi(dice.within(0, 60) as i32 - 40)),
        _ if near.is_normal() => (sum, near),
        _ => (sum, 1.0),
    }
}
