//! Random layers of every kind: each byte of both banks is what the twin says.

use bellwether_fpga::bus::Bus;
use bellwether_fpga::layer::{BANK_WORDS, Kind, LAYER_WORDS, Layer, Parameters, WORD_BYTES};
use bellwether_fpga::twin::{Banks, Memory, Word};

use crate::dice::Dice;
use crate::{bank, engine, setting, table, weights};

/// Clk of a job at most.
const LIMIT_CLK: u32 = 10_000_000;
const LAYERS_PER_JOB: usize = 32;
/// Words of weights that are checked while a job runs, which takes a clk of the memories from it every four.
const CHECKED_WORDS: usize = 1000;
/// Words of weights of a layer at most, so that those of a job fit.
const LAYER_WEIGHTS_MAX: u16 = 480;

struct Job {
    layers: Vec<Layer>,
    weights: Vec<Word>,
    table: Vec<Word>,
    banks: Banks,
}

impl Job {
    /// Layers that have nothing to do with each other, over whatever the one before left in the banks.
    fn roll(dice: &mut Dice) -> Self {
        let extreme = dice.below(4) == 0;
        let mut weights = vec![[0; WORD_BYTES]; LAYERS_PER_JOB * LAYER_WORDS];
        let mut layers = Vec::new();
        while layers.len() < LAYERS_PER_JOB {
            if let Some(layer) = roll_layer(dice, weights.len() as u16) {
                push_weights(dice, &layer, extreme, &mut weights);
                layers.push(layer);
            }
        }
        layers.last_mut().unwrap().last = true;
        for (layer, words) in layers.iter().zip(weights.chunks_mut(LAYER_WORDS)) {
            words.copy_from_slice(&layer.encode().map(u64::to_le_bytes));
            assert_eq!(Layer::decode(layer.encode()).unwrap(), *layer);
        }
        let table = (0..256).map(|_| parameter(dice, 20)).collect();
        let mut banks: Banks = [[[0; WORD_BYTES]; BANK_WORDS]; 2];
        banks.iter_mut().flatten().flatten().for_each(|byte| *byte = dice.byte(extreme));
        Self { layers, weights, table, banks }
    }
}

fn roll_layer(dice: &mut Dice, weights: u16) -> Option<Layer> {
    let kind = [Kind::Sums, Kind::Sums, Kind::Lanes, Kind::Greatest][dice.below(4) as usize];
    let sums = kind == Kind::Sums;
    let small = |dice: &mut Dice, high: u64| if dice.below(4) == 0 { 1 } else { dice.within(1, high) };
    let (height, width) = (small(dice, 24) as u8, small(dice, 24) as u8);
    let (kernel_rows, kernel_columns) = (small(dice, 4) as u16, small(dice, 4) as u16);
    let columns_apart = dice.within(1, 2) as u8;
    let rows_apart = dice.within(1, 3) as u8;
    let most_words = if dice.below(8) == 0 { 40 } else { 8 };
    let words = if sums { dice.within(1, most_words) as u16 } else { 1 };
    let channels = dice.within(1, if sums { 32 } else { 4 }) as u16;
    let column_stride = if sums { words } else { channels + dice.below(2) as u16 };
    let in_table = dice.coin();
    let each = if sums { 1 } else { 8 };
    let taps = kernel_rows * kernel_columns * words;
    let shared = dice.below(4) == 0;
    let mut layer = Layer {
        kind,
        pair: sums && columns_apart == 1 && dice.coin(),
        last: false,
        parameters: Parameters::Inline,
        rows: dice.within(1, u64::from(height / rows_apart).max(1)) as u16,
        columns: dice.within(1, u64::from(width / columns_apart).max(1)) as u16,
        kernel_rows,
        kernel_columns,
        rows_apart,
        columns_apart,
        first_row: -(dice.below(kernel_rows.into()) as i8),
        first_column: -(dice.below(kernel_columns.into()) as i8),
        height,
        width,
        pad_word: 0,
        channels,
        words,
        weights,
        weights_step: if shared { 0 } else { taps + if in_table { 0 } else { each } },
        from: 0,
        row_stride: Layer::row_words(width.into(), column_stride),
        column_stride,
        out: 0,
        out_stride: if sums { channels.div_ceil(8) } else { channels },
        zero_point: dice.byte(false) as i8,
        lowest: -128,
        highest: 127,
    };
    if in_table {
        let rows = u64::from(each) * u64::from(if shared { 1 } else { channels });
        let from = dice.below(256 - rows + 1) as u8;
        layer.parameters = Parameters::Table { from, step: if shared { 0 } else { each as u8 } };
    }
    if dice.coin() {
        let (a, b) = (dice.byte(false) as i8, dice.byte(false) as i8);
        (layer.lowest, layer.highest) = (a.min(b), a.max(b));
    }
    if layer.weights_step.max(taps + each) * channels > LAYER_WEIGHTS_MAX {
        return None;
    }
    // Input, output, a word of padding, and whatever is left in front.
    let input = layer.row_stride * u16::from(height);
    let output = Layer::row_words(layer.columns, layer.out_stride) * layer.rows;
    let spare = (BANK_WORDS as u16).checked_sub(input + output + 1)?;
    layer.from = dice.below(u64::from(spare) + 1) as u16;
    layer.out = layer.from + input;
    layer.pad_word = layer.out + output;
    Some(layer)
}

fn push_weights(dice: &mut Dice, layer: &Layer, extreme: bool, weights: &mut Vec<Word>) {
    let taps = layer.kernel_rows * layer.kernel_columns * layer.words;
    let each = if layer.kind == Kind::Sums { 1 } else { 8 };
    for _ in 0..if layer.weights_step == 0 { 1 } else { layer.channels } {
        for _ in 0..taps {
            let word = if layer.kind == Kind::Greatest { [1; 8] } else { std::array::from_fn(|_| dice.byte(extreme)) };
            weights.push(word);
        }
        if layer.parameters == Parameters::Inline {
            weights.extend((0..each).map(|_| parameter(dice, taps)));
        }
    }
}

/// A bias and a scale that leave something of most sums, nothing of some, and ties.
fn parameter(dice: &mut Dice, taps: u16) -> Word {
    let bias = match dice.below(8) {
        0 => i32::MAX,
        1 => i32::MIN,
        2 => 0,
        _ => (dice.next() as i32) >> dice.within(8, 24),
    };
    let usual = 300.0 / (f32::from(taps) * 32_000.0);
    let scale = match dice.below(8) {
        0 => 2_f32.powi(-(dice.within(0, 24) as i32)),
        1 => f32::from_bits(dice.within(1 << 23, 0x7f7f_ffff) as u32),
        2 => 1.5 * 2_f32.powi(-(dice.within(0, 24) as i32)),
        _ => usual * (0.25 + dice.below(1 << 20) as f32 / (1 << 19) as f32),
    };
    let [a, b, c, d] = bias.to_le_bytes();
    let [e, f, g, h] = scale.to_bits().to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// `BELLWETHER_FPGA_OUTPUTS` says how many outputs are compared at least.
#[test]
fn random_layers_leave_the_same_bytes() {
    let wanted = setting("BELLWETHER_FPGA_OUTPUTS", 1_000_000);
    let mut engine = engine();
    let mut dice = Dice::new(setting("BELLWETHER_FPGA_SEED", 1));
    let (mut outputs, mut jobs, mut clk) = (0, 0, 0);
    while outputs < wanted {
        let job = Job::roll(&mut dice);
        engine.load(weights(0), job.weights.as_flattened()).unwrap();
        engine.load(table(), job.table.as_flattened()).unwrap();
        engine.load(bank(0, 0), job.banks[0].as_flattened()).unwrap();
        engine.load(bank(1, 0), job.banks[1].as_flattened()).unwrap();
        engine.choose(0, LIMIT_CLK).unwrap();
        engine.begin(bank(0, 0), &job.banks[0][0]).unwrap();
        let checked = &job.weights[..job.weights.len().min(CHECKED_WORDS)];
        engine.check(0, checked.as_flattened(), 10_000).unwrap();
        engine.finish(10_000).unwrap();

        let mut expected = job.banks;
        Memory { weights: &job.weights, table: &job.table }.run(0, &mut expected).unwrap();
        let mut got = job.banks;
        for (number, words) in got.iter_mut().enumerate() {
            engine.fetch(bank(number, 0), words.as_flattened_mut()).unwrap();
        }
        for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let wrong = (0..BANK_WORDS).find(|word| got[*word] != expected[*word]);
            assert_eq!(
                wrong,
                None,
                "job {jobs}, bank {number}: {:?} {:#?}",
                wrong.map(|w| (got[w], expected[w])),
                job.layers
            );
        }
        outputs += job.layers.iter().map(results).sum::<u64>();
        clk += u64::from(engine.cycles().unwrap());
        jobs += 1;
    }
    assert_eq!(engine.bus().garbled(), 0, "nothing disturbs these wires");
    println!("{outputs} outputs of {jobs} jobs of {LAYERS_PER_JOB} layers equal, in {clk} clk");
}

fn results(layer: &Layer) -> u64 {
    let each = if layer.kind == Kind::Sums { 1 } else { WORD_BYTES as u64 };
    u64::from(layer.rows) * u64::from(layer.columns) * u64::from(layer.channels) * each
}
