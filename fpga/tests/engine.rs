//! The engine's Verilog against its twin: random layers, each byte of both banks compared.

use bellwether_fpga::bus::SpiBus;
use bellwether_fpga::cosim::Cosim;
use bellwether_fpga::engine::Engine;
use bellwether_fpga::frame::{Place, Space};
use bellwether_fpga::layer::{BANK_WORDS, Kind, Layer, Parameters, WORD_BYTES};
use bellwether_fpga::twin::{Banks, Memory, Word};

/// xorshift64*: the same layers in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
    fn byte(&mut self, extreme: bool) -> u8 {
        if extreme { [0x80, 0x7f, 0x81, 0, 0xff, 1][self.below(6) as usize] } else { self.next() as u8 }
    }
}

struct Case {
    layers: Vec<Layer>,
    weights: Vec<Word>,
    table: Vec<Word>,
    banks: Banks,
}

fn case(dice: &mut Dice) -> Case {
    loop {
        if let Some(case) = attempt(dice) {
            return case;
        }
    }
}

fn attempt(dice: &mut Dice) -> Option<Case> {
    let kind = [Kind::Sums, Kind::Sums, Kind::Lanes, Kind::Greatest][dice.below(4) as usize];
    let sums = kind == Kind::Sums;
    let small = |dice: &mut Dice, high: u64| if dice.below(4) == 0 { 1 } else { dice.within(1, high) };
    let (height, width) = (small(dice, 9) as u8, small(dice, 9) as u8);
    let (kernel_rows, kernel_columns) = (small(dice, 4) as u16, small(dice, 4) as u16);
    let (above, left) = (dice.below(kernel_rows.into()) as i8, dice.below(kernel_columns.into()) as i8);
    let rows_apart = dice.within(1, 3) as u8;
    let columns_apart = dice.within(1, 2) as u8;
    let pair = sums && columns_apart == 1 && dice.coin();
    // As many as keep the kernel's first tap inside or in the padding.
    let rows = dice.within(1, (u64::from(height) / u64::from(rows_apart)).max(1)) as u16;
    let columns = dice.within(1, (u64::from(width) / u64::from(columns_apart)).max(1)) as u16;
    let many = if dice.below(8) == 0 { 40 } else { 8 };
    let words = if sums { dice.within(1, many) as u16 } else { 1 };
    let channels = dice.within(1, if sums { 20 } else { 4 }) as u16;
    let column_stride = if sums { words } else { channels + dice.below(2) as u16 };
    let row_stride = Layer::row_words(width.into(), column_stride);
    let input = row_stride * u16::from(height);
    let out_stride = if sums { channels.div_ceil(8) } else { channels };
    let output = Layer::row_words(columns, out_stride) * rows;
    if usize::from(input + output + 1) > BANK_WORDS {
        return None;
    }
    let free = BANK_WORDS as u16 - input - output - 1;
    let from = dice.below(u64::from(free) + 1) as u16;
    let out = from + input;
    let pad_word = out + output;
    let table = dice.coin();
    let shared = dice.below(4) == 0;
    let lanes = if sums { 1 } else { 8 };
    let taps = kernel_rows * kernel_columns * words;
    let step = taps + if table { 0 } else { lanes };
    let parameters = if table {
        let step = if shared { 0 } else { lanes as u8 };
        let most = 256 - u64::from(lanes) * u64::from(if shared { 1 } else { channels });
        Parameters::Table { from: dice.below(most + 1) as u8, step }
    } else {
        Parameters::Inline
    };
    let zero_point = dice.byte(false) as i8;
    let (a, b) = (dice.byte(false) as i8, dice.byte(false) as i8);
    let (lowest, highest) = if dice.coin() { (-128, 127) } else { (a.min(b), a.max(b)) };
    let layer = Layer {
        kind, pair, last: true, parameters, rows, columns, kernel_rows, kernel_columns, rows_apart, columns_apart,
        first_row: -above, first_column: -left, height, width, pad_word, channels, words,
        weights: 5, weights_step: if shared { 0 } else { step }, from, row_stride, column_stride, out, out_stride,
        zero_point, lowest, highest,
    };
    let extreme = dice.below(4) == 0;
    let mut weights: Vec<Word> = layer.encode().map(u64::to_le_bytes).to_vec();
    for _ in 0..if shared { 1 } else { channels } {
        for _ in 0..taps {
            weights.push(if kind == Kind::Greatest { [1; 8] } else { std::array::from_fn(|_| dice.byte(extreme)) });
        }
        if !table {
            for _ in 0..lanes {
                weights.push(parameter(dice, taps));
            }
        }
    }
    let table = (0..256).map(|_| parameter(dice, taps)).collect();
    let mut banks: Banks = [[[0; WORD_BYTES]; BANK_WORDS]; 2];
    for byte in banks.iter_mut().flatten().flatten() {
        *byte = dice.byte(extreme);
    }
    Some(Case { layers: vec![layer], weights, table, banks })
}

/// A bias and a scale that leave something of most sums, some of neither, and ties.
fn parameter(dice: &mut Dice, taps: u16) -> Word {
    let bias = match dice.below(8) {
        0 => i32::MAX,
        1 => i32::MIN,
        2 => 0,
        _ => (dice.next() as i32) >> dice.within(8, 24),
    };
    let size = f32::from(taps) * 8.0 * 4000.0;
    let scale = match dice.below(8) {
        0 => 2_f32.powi(-(dice.within(0, 24) as i32)),
        1 => f32::from_bits(dice.within(1 << 23, 0x7f7f_ffff) as u32),
        2 => 1.5 * 2_f32.powi(-(dice.within(0, 24) as i32)),
        _ => 300.0 / size * (0.25 + dice.below(1 << 20) as f32 / (1 << 19) as f32),
    };
    let [a, b, c, d] = bias.to_le_bytes();
    let [e, f, g, h] = scale.to_bits().to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

#[test]
fn random_layers_leave_the_same_bytes() {
    let mut engine = Engine::new(SpiBus::new(Cosim::start(std::path::Path::new("/work/tmp/vsim/obj/bw_sim")).unwrap()));
    engine.identify().unwrap();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let cases: u32 = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(200);
    let (mut outputs, mut clk, mut taps) = (0_u64, 0_u64, 0_u64);
    for number in 0..cases {
        let case = case(&mut dice);
        engine.load(Place { space: Space::Weights, word: 0 }, case.weights.as_flattened()).unwrap();
        engine.load(Place { space: Space::Table, word: 0 }, case.table.as_flattened()).unwrap();
        for (bank, words) in case.banks.iter().enumerate() {
            engine.load(Place { space: Space::Activations, word: bank as u16 * 1024 }, words.as_flattened()).unwrap();
        }
        engine.check(0, case.weights.as_flattened(), 1000).unwrap();
        engine.choose(0, 1_000_000).unwrap();
        engine.begin(Place { space: Space::Activations, word: 0 }, &case.banks[0][0]).unwrap();
        engine.finish(10_000).unwrap();
        let mut twin = case.banks;
        Memory { weights: &case.weights, table: &case.table }.run(0, &mut twin).unwrap();
        let mut got = case.banks;
        for (bank, words) in got.iter_mut().enumerate() {
            engine.fetch(Place { space: Space::Activations, word: bank as u16 * 1024 }, words.as_flattened_mut()).unwrap();
        }
        for bank in 0..2 {
            for word in 0..BANK_WORDS {
                assert_eq!(got[bank][word], twin[bank][word], "case {number}, bank {bank}, word {word} (before {:?}): {:#?}", case.banks[bank][word], case.layers);
            }
        }
        let layer = case.layers[0];
        outputs += u64::from(layer.rows) * u64::from(layer.columns) * u64::from(layer.channels) * if layer.kind == Kind::Sums { 1 } else { 8 };
        clk += u64::from(engine.cycles().unwrap());
        taps += u64::from(engine.taps().unwrap());
    }
    println!("{cases} layers, {outputs} outputs equal; {clk} clk, {taps} taps");
}
