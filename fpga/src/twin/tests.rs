//! Two ways to do a layer are one: random layers, lying anywhere.

use std::vec::Vec;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::ValueTree as _;

use super::{Banks, Memory, Word};
use crate::layer::{BANK_WORDS, Kind, Layer, Parameters, TABLE_WORDS, WEIGHT_WORDS};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Also where results lie over what is read, or beyond the end of a bank, or weights beyond theirs.
    #[test]
    fn the_order_of_sums_changes_nothing(layer in layers(), weights in words(600), is_full: bool, seed: u8) {
        let weights = if is_full { full(seed) } else { weights };
        let table: Vec<Word> = (0..TABLE_WORDS).map(|at| parameter(at as u8, seed)).collect();
        let memory = Memory { weights: &weights, table: &table };
        let mut quick = banks(seed);
        let mut plain = banks(seed);
        memory.layer(&layer, &mut quick);
        memory.in_order(&layer, &mut plain);
        prop_assert!(quick == plain);
    }
}

#[test]
fn layers_that_lie_apart_are_most_of_those_above() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let memory = Memory { weights: &[], table: &[] };
    let apart = (0..1000)
        .filter(|_| {
            let layer = layers().new_tree(&mut runner).unwrap().current();
            memory.apart(&layer, &mut banks(0))
        })
        .count();
    assert!((300..950).contains(&apart), "{apart} of 1000");
}

fn words(most: usize) -> impl Strategy<Value = Vec<Word>> {
    prop::collection::vec(any::<Word>(), 0..most)
}

fn full(seed: u8) -> Vec<Word> {
    (0..WEIGHT_WORDS as u64)
        .map(|word| ((word + u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .collect()
}

fn parameter(at: u8, seed: u8) -> Word {
    let [a, b, c, d] = (i32::from(at) * 37 - i32::from(seed)).to_le_bytes();
    let [e, f, g, h] = (0.001 * (f32::from(at) + 1.0)).to_bits().to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

fn banks(seed: u8) -> Banks {
    core::array::from_fn(|bank| {
        core::array::from_fn(|word| {
            core::array::from_fn(|byte| (seed as usize + bank * 5 + word * 11 + byte * 59) as u8)
        })
    })
}

fn layers() -> impl Strategy<Value = Layer> {
    let kind = prop_oneof![2 => Just(Kind::Sums), 1 => Just(Kind::Lanes), 1 => Just(Kind::Greatest)];
    let sizes = (1..12_u16, 1..12_u16, 1..4_u16, 1..4_u16, 1..20_u16, 1..6_u16);
    let starts = (-4..4_i8, -4..4_i8, 1..12_u8, 1..12_u8, 1..3_u8, 1..3_u8);
    let weights = prop_oneof![4 => 0..700_u16, 1 => 16_300..16_384_u16, 1 => 65_400..=u16::MAX];
    let step = prop_oneof![4 => 0..24_u16, 1 => 16_300..16_384_u16];
    let places = (0..1100_u16, 0..1100_u16, 0..800_u16, weights, step);
    (kind, sizes, starts, places, any::<(bool, i8, i8, i8)>()).prop_map(
        |(
            kind,
            (rows, columns, kernel_rows, kernel_columns, channels, words),
            starts,
            places,
            (in_table, a, b, zero),
        )| {
            let (first_row, first_column, height, width, rows_apart, columns_apart) = starts;
            let (from, out, pad_word, weights, step) = places;
            let column_stride = words.max(channels.min(4));
            Layer {
                kind,
                pair: false,
                last: true,
                parameters: if in_table { Parameters::Table { from: 3, step: 1 } } else { Parameters::Inline },
                rows,
                columns,
                kernel_rows,
                kernel_columns,
                rows_apart,
                columns_apart,
                first_row,
                first_column,
                height,
                width,
                pad_word,
                channels,
                words,
                weights,
                weights_step: step,
                from,
                row_stride: Layer::row_words(width.into(), column_stride),
                column_stride,
                out,
                out_stride: if kind == Kind::Sums { channels.div_ceil(8) } else { channels.saturating_sub(step % 2) },
                zero_point: zero,
                lowest: a.min(b),
                highest: a.max(b),
            }
        },
    )
}

const _: () = assert!(BANK_WORDS < 1100, "places reach beyond a bank");
