//! Whole networks: what a plain interpreter says, the twin says, and so does the Verilog.

use bellwether_fpga::compile::network::{Network, Operation, Output, Shape, Weights, What, Window};
use bellwether_fpga::compile::{Plan, compile, reference};
use bellwether_fpga::score::{Loaded, Scores, Twin};

use crate::dice::Dice;
use crate::engine;

const ROWS: usize = 3;

/// Makes layers with random weights and scales that fill eight bits.
struct Maker {
    dice: Dice,
    network: Network,
    shape: Shape,
    zero_point: i8,
}

impl Maker {
    fn new(seed: u64, input: Shape) -> Self {
        let network = Network { input, zero_point: -3, layers: Vec::new() };
        Self { dice: Dice::new(seed), zero_point: network.zero_point, network, shape: input }
    }

    fn weights(&mut self, outputs: u16, each: u16) -> Weights {
        let size = (f32::from(each)).sqrt() * 74.0 * 74.0;
        Weights {
            values: (0..outputs * each).map(|_| (self.dice.byte(false) as i8).max(-127)).collect(),
            bias: (0..outputs).map(|_| self.dice.below(20_000) as i32 - 10_000).collect(),
            scales: (0..outputs).map(|_| 60.0 / size * (0.5 + self.dice.below(1000) as f32 / 1000.0)).collect(),
        }
    }

    fn push(mut self, name: &str, window: Window, what: What, relu: bool) -> Self {
        let zero_point = if relu { -128 } else { 5 };
        // The greatest value is one of those that were there.
        let zero_point = if what == What::Greatest { self.zero_point } else { zero_point };
        let lowest = if relu { zero_point } else { -128 };
        let output = Output { zero_point, lowest, highest: 127 };
        self.zero_point = zero_point;
        let along = |size: u16, axis: usize| {
            (size + u16::from(window.before[axis]) + u16::from(window.after[axis]) - window.kernel[axis])
                / u16::from(window.strides[axis])
                + 1
        };
        let channels =
            if let What::Convolution(weights) = &what { weights.bias.len() as u16 } else { self.shape.channels };
        self.shape = Shape { rows: along(self.shape.rows, 0), columns: along(self.shape.columns, 1), channels };
        self.network.layers.push(Operation { name: name.into(), window, what, output });
        self
    }

    fn dense(mut self, outputs: u16, relu: bool) -> Self {
        let window = Window::whole(self.shape);
        let weights = self.weights(outputs, self.shape.count() as u16);
        self.push(&format!("dense {outputs}"), window, What::Convolution(weights), relu)
    }

    fn convolution(mut self, outputs: u16, kernel: u16, stride: u8) -> Self {
        let window = same(kernel, stride);
        let weights = self.weights(outputs, kernel * kernel * self.shape.channels);
        self.push(&format!("convolution {kernel}x{kernel} {outputs}"), window, What::Convolution(weights), true)
    }

    fn depthwise(mut self, stride: u8) -> Self {
        let weights = self.weights(self.shape.channels, 9);
        self.push("depthwise 3x3", same(3, stride), What::Depthwise(weights), true)
    }

    fn pool(self, greatest: bool) -> Self {
        let window = Window { kernel: [2, 2], strides: [2, 2], before: [0, 0], after: [0, 0] };
        let what = if greatest { What::Greatest } else { What::Mean { sum_scale: 1.3 / 4.0 } };
        self.push("pool 2x2", window, what, false)
    }

    fn mean(self) -> Self {
        let window = Window::whole(self.shape);
        let places = f32::from(self.shape.rows * self.shape.columns);
        self.push("mean", window, What::Mean { sum_scale: 1.1 / places }, false)
    }
}

const fn same(kernel: u16, stride: u8) -> Window {
    let pad = (kernel / 2) as u8;
    Window { kernel: [kernel, kernel], strides: [stride, stride], before: [pad, pad], after: [pad, pad] }
}

pub(crate) fn networks() -> Vec<(&'static str, Network)> {
    let mlp = |seed, widths: &[u16]| {
        let mut maker = Maker::new(seed, Shape::row(widths[0]));
        for (number, width) in widths[1..].iter().enumerate() {
            maker = maker.dense(*width, number + 2 < widths.len());
        }
        maker.network
    };
    let image = |rows, columns, channels| Shape { rows, columns, channels };
    vec![
        ("mlp 64-32-10", mlp(1, &[64, 32, 10])),
        ("mlp 64-64-32-10", mlp(2, &[64, 64, 32, 10])),
        ("mlp 64-128-64-10", mlp(3, &[64, 128, 64, 10])),
        ("autoencoder 640-80-80-8-80-80-640", mlp(4, &[640, 80, 80, 8, 80, 80, 640])),
        (
            "digits cnn",
            Maker::new(5, image(8, 8, 1))
                .convolution(16, 3, 1)
                .pool(true)
                .convolution(32, 3, 1)
                .pool(false)
                .dense(10, false)
                .network,
        ),
        (
            "separable cnn 16x16",
            Maker::new(6, image(16, 16, 3))
                .convolution(16, 3, 2)
                .depthwise(1)
                .convolution(32, 1, 1)
                .depthwise(2)
                .convolution(64, 1, 1)
                .mean()
                .dense(10, false)
                .network,
        ),
    ]
}

fn rows(dice: &mut Dice, count: usize) -> Vec<i8> {
    (0..count).map(|_| dice.byte(false) as i8).collect()
}

#[test]
fn the_twin_says_what_a_plain_interpreter_says() {
    let mut dice = Dice::new(11);
    for (name, network) in networks() {
        let mut twin = Twin::new(compile(&network).unwrap());
        for _ in 0..ROWS {
            let input = rows(&mut dice, network.input.count());
            let expected = reference::run(&network, &input);
            assert_eq!(twin.score(&input).unwrap(), expected, "{name}");
            assert!(expected.iter().any(|value| *value != expected[0]), "{name} says something");
        }
    }
}

#[test]
fn the_engine_says_what_its_twin_says() {
    println!(
        "network                              MACs    clk  estimate  of 8 a clk   end to end  Cortex-M4: engine, end to end"
    );
    let mut dice = Dice::new(12);
    for (name, network) in networks() {
        let plan = compile(&network).unwrap();
        let mut twin = Twin::new(plan.clone());
        let mut loaded = Loaded::new(engine(), plan).unwrap();
        let mut whole = 0;
        for _ in 0..ROWS {
            let input = rows(&mut dice, network.input.count());
            let before = loaded.engine().bus().device().now().unwrap();
            let got = loaded.score(&input).unwrap();
            whole = loaded.engine().bus().device().now().unwrap() - before;
            assert_eq!(got, twin.score(&input).unwrap(), "{name}");
        }
        let clk = loaded.engine().cycles().unwrap();
        report(name, loaded.plan(), clk, whole);
    }
}

/// Clk for a multiplication that a Cortex-M4 takes: MLPerf Tiny's autoencoder, 264,192 of them, in 10.05 ms
/// at 120 MHz, as its results were published. The ratio is of clk, for networks of another shape.
const CORTEX_M4_CLK_PER_MAC: f64 = 10.05e-3 * 120e6 / 264_192.0;

fn report(name: &str, plan: &Plan, clk: u32, whole: u64) {
    let macs: u64 = plan.costs.iter().map(|cost| cost.macs).sum();
    let estimate: u64 = plan.costs.iter().map(|cost| cost.clk).sum();
    let share = 100.0 * macs as f64 / 8.0 / f64::from(clk);
    let cortex = CORTEX_M4_CLK_PER_MAC * macs as f64;
    let (engine, end) = (cortex / f64::from(clk), cortex / whole as f64);
    println!("{name:<34} {macs:>8} {clk:>6} {estimate:>8} {share:>9.1} % {whole:>12} {engine:>19.1} x {end:>8.1} x");
    let off = estimate as f64 / f64::from(clk);
    assert!((0.9..1.1).contains(&off), "{name}: {estimate} clk estimated, {clk} taken");
}
