//! Whole networks: what a plain interpreter says, the twin says, and so does the Verilog.

use bellwether_fpga::bus::SpiBus;
use bellwether_fpga::compile::network::{Network, Shape, Window};
use bellwether_fpga::compile::{Plan, Unfit, compile, reference};
use bellwether_fpga::cosim::Cosim;
use bellwether_fpga::engine::Engine;
use bellwether_fpga::layer::{LAYER_WORDS, Layer};
use bellwether_fpga::score::{Loaded, Scores, Twin};

use crate::dice::Dice;
use crate::maker::Maker;
use crate::{engine, setting, weights};

const ROWS: usize = 3;

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
        ("dense 64-64", mlp(10, &[64, 64])),
        ("dense 128-128", mlp(11, &[128, 128])),
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
        ("ds-cnn 49x10", ds_cnn()),
        ("anomaly 640-128x4-8-128x4-640", mlp(8, &[640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640])),
        ("wide cnn 12x12", wide_cnn()),
        ("mobilenet 96x96", mobilenet()),
    ]
}

/// MLPerf Tiny's keyword spotting: its activations fit only over each other.
fn ds_cnn() -> Network {
    let first = Window { kernel: [10, 4], strides: [2, 2], before: [4, 1], after: [5, 1] };
    let mut maker = Maker::new(7, Shape { rows: 49, columns: 10, channels: 1 }).convolution_by(64, first);
    for _ in 0..4 {
        maker = maker.depthwise(1).convolution(64, 1, 1);
    }
    maker.mean().dense(12, false).network
}

/// Neither its activations nor its weights fit plainly.
fn wide_cnn() -> Network {
    let mut maker = Maker::new(9, Shape { rows: 12, columns: 12, channels: 3 });
    for _ in 0..5 {
        maker = maker.convolution(64, 3, 1);
    }
    maker.mean().dense(10, false).network
}

/// MLPerf Tiny's visual wake words: its larger images are on the host, and its weights are streamed.
fn mobilenet() -> Network {
    let mut maker = Maker::new(10, Shape { rows: 96, columns: 96, channels: 3 }).convolution(8, 3, 2);
    let wide = [(128, 1); 5];
    let pairs =
        [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)].iter().chain(&wide).chain(&[(256, 2), (256, 1)]);
    for (outputs, stride) in pairs {
        maker = maker.depthwise(*stride).convolution(*outputs, 1, 1);
    }
    maker.mean().dense(2, false).network
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

/// `BELLWETHER_FPGA_CLK` leaves out networks that take longer, as the netlist is slow.
#[test]
fn the_engine_says_what_its_twin_says() {
    let most = setting("BELLWETHER_FPGA_CLK", u64::MAX);
    println!(
        "network                              MACs     clk  estimate  of 8 a clk   bytes   end to end  Cortex-M4: engine, end to end"
    );
    let mut dice = Dice::new(12);
    for (name, network) in networks() {
        let plan = compile(&network).unwrap();
        if estimate(&plan) + 64 * plan.bus_words() as u64 > most {
            println!("{name:<34} left out");
            continue;
        }
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
        let plan = loaded.plan().clone();
        let alone = clk(loaded.engine(), &plan);
        // While weights are streamed, bus and check take a clk of the memories now and then.
        let (alone_clk, most) = (u64::from(alone), if plan.segments.len() == 1 { 4 } else { 5 });
        let taken = loaded.clk().unwrap();
        assert!((alone_clk..=alone_clk * most / 4).contains(&taken), "{name}: {alone}, {taken}");
        let told = plan.whole_clk();
        assert!((whole * 9 / 10..whole * 11 / 10).contains(&told), "{name}: about {told}, {whole}");
        report(name, &plan, alone, whole);
    }
}

/// Clk of all jobs, with nobody in their way.
fn clk(engine: &mut Engine<SpiBus<Cosim>>, plan: &Plan) -> u32 {
    let jobs = plan.segments.iter().map(|segment| {
        if let Some(streamed) = &segment.streamed {
            engine.load(streamed.section.place, streamed.section.words.as_flattened()).unwrap();
        }
        engine.choose(segment.first_layer, segment.limit_clk()).unwrap();
        engine.begin(weights(segment.first_layer), &segment.head).unwrap();
        engine.finish(100_000).unwrap();
        engine.cycles().unwrap()
    });
    jobs.sum()
}

fn estimate(plan: &Plan) -> u64 {
    plan.costs.iter().map(|cost| cost.clk).sum()
}

/// Clk for a multiplication that a Cortex-M4 takes: MLPerf Tiny's autoencoder, 264,192 of them, in 10.05 ms
/// at 120 MHz, as its results were published. The ratio is of clk, for networks of another shape.
const CORTEX_M4_CLK_PER_MAC: f64 = 10.05e-3 * 120e6 / 264_192.0;

fn report(name: &str, plan: &Plan, clk: u32, whole: u64) {
    let macs: u64 = plan.costs.iter().map(|cost| cost.macs).sum();
    let estimate = estimate(plan);
    let share = 100.0 * macs as f64 / 8.0 / f64::from(clk);
    let cortex = CORTEX_M4_CLK_PER_MAC * macs as f64;
    let (engine, end) = (cortex / f64::from(clk), cortex / whole as f64);
    let bytes = 8 * plan.bus_words();
    println!(
        "{name:<34} {macs:>8} {clk:>7} {estimate:>8} {share:>9.1} % {bytes:>8} {whole:>12} {engine:>19.1} x {end:>8.1} x"
    );
    let off = estimate as f64 / f64::from(clk);
    assert!((0.9..1.1).contains(&off), "{name}: {estimate} clk estimated, {clk} taken");
}

/// Networks of any layers; those that fit, with their plans.
struct AnyNetwork {
    dice: Dice,
    /// Multiplications at most.
    macs: u64,
    /// How many did not fit.
    unfit: u32,
}

impl AnyNetwork {
    fn new(macs: u64) -> Self {
        Self { dice: Dice::new(setting("BELLWETHER_FPGA_SEED", 1)), macs, unfit: 0 }
    }

    fn roll(&mut self) -> Network {
        let dice = &mut self.dice;
        let channels = [1, 2, 3, 8, 12, 40][dice.below(6) as usize];
        let input = Shape { rows: dice.within(1, 40) as u16, columns: dice.within(1, 24) as u16, channels };
        let mut maker = Maker::new(dice.next(), input).any();
        for _ in 0..dice.below(5) {
            maker = maker.any();
        }
        if dice.coin() && maker.shape.count() < 8000 {
            maker = maker.dense(dice.within(1, 80) as u16, false);
        }
        maker.network
    }
}

impl Iterator for AnyNetwork {
    type Item = (Network, Plan);

    fn next(&mut self) -> Option<(Network, Plan)> {
        loop {
            let network = self.roll();
            match compile(&network) {
                Ok(plan) if plan.costs.iter().map(|cost| cost.macs).sum::<u64>() <= self.macs => {
                    return Some((network, plan));
                }
                Ok(_) => {}
                Err(Unfit::Large { .. } | Unfit::Tight { .. }) => self.unfit += 1,
                Err(why) => panic!("{why}: {network:?}"),
            }
        }
    }
}

/// `BELLWETHER_FPGA_NETWORKS` says how many networks are compared.
#[test]
fn any_network_that_fits_says_what_a_plain_interpreter_says() {
    let mut networks = AnyNetwork::new(2_000_000);
    let mut dice = Dice::new(13);
    let (mut banded, mut streamed, mut tiled) = (0, 0, 0);
    let wanted = setting("BELLWETHER_FPGA_NETWORKS", 300);
    for (network, plan) in networks.by_ref().take(wanted as usize) {
        banded += u64::from(plan.segments.len() == 1 && layers(&plan) > network.layers.len());
        streamed += u64::from(plan.segments.iter().any(|segment| segment.streamed.is_some()));
        tiled += u64::from(plan.segments.iter().skip(1).any(|segment| segment.writes.is_some()));
        let input = rows(&mut dice, network.input.count());
        let expected = reference::run(&network, &input);
        assert_eq!(Twin::new(plan).score(&input).unwrap(), expected, "{:?}", network.layers);
    }
    let counts = format!("{banded} in bands, {streamed} with weights streamed, {tiled} with rows");
    println!("{wanted} networks: {counts}; {} did not fit", networks.unfit);
    assert!(banded > 0 && streamed > 0 && tiled > 0, "{counts}");
}

/// The tenth part of `BELLWETHER_FPGA_NETWORKS`.
#[test]
fn any_network_that_fits_says_the_same_in_the_engine() {
    let wanted = setting("BELLWETHER_FPGA_NETWORKS", 300) / 10;
    let mut dice = Dice::new(14);
    let mut engine = engine();
    for (network, plan) in AnyNetwork::new(500_000).take(wanted as usize) {
        let input = rows(&mut dice, network.input.count());
        let expected = Twin::new(plan.clone()).score(&input).unwrap();
        let mut loaded = Loaded::new(engine, plan).unwrap();
        assert_eq!(loaded.score(&input).unwrap(), expected, "{:?}", network.layers);
        engine = loaded.into_engine();
    }
}

/// Layers of the first job.
fn layers(plan: &Plan) -> usize {
    let words = plan.sections[0].words.as_chunks::<LAYER_WORDS>().0;
    let last = |words: &[[u8; 8]; LAYER_WORDS]| Layer::decode(words.map(u64::from_le_bytes)).unwrap().last;
    words.iter().position(last).unwrap() + 1
}
