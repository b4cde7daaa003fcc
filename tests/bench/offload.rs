//! The engine beside a processor, clk for clk: the same models by the simulated Verilog, and by the runtime on
//! one core of this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellwether_fpga::board::{Image, UP5K, simulated::Simulated};
use bellwether_fpga::score::{Scores as _, Twin};
use bellwether_runtime::fpga::Offload;
use bellwether_runtime::{Cpu, Data, Scorer as _, Tensor};
use bellwether_tests::files::{data, repository};

/// Rows for one figure.
const ROWS: usize = 2000;
/// What the engine is shipped at.
const ENGINE_HZ: f64 = 24e6;
/// Clk of a Cortex-M4 for a multiplication: MLPerf Tiny's autoencoder, 264,192 of them in 10.05 ms at 120 MHz.
const M4_CLK: f64 = 120e6 * 10.05e-3 / 264_192.0;

/// Prints the table.
pub(crate) fn measure() {
    let program = repository().join("target/fpga/sim/bw_sim");
    assert!(program.exists(), "no {}: make it with `fpga/rtl/build sim`", program.display());
    let clock_hz = clock_hz();
    println!(
        "one row, clk                    engine   of 8 a clk   at 24 MHz   this CPU   its twin   CPU / engine   twin / CPU   Cortex-M4 / engine"
    );
    for model in models() {
        let name = model.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let bytes = std::fs::read(&model).expect("the model is there");
        let offload = match Offload::new(&bytes) {
            Ok(offload) => offload,
            Err(why) => {
                println!("  {name:<20} not offloaded: {why}");
                continue;
            }
        };
        let image = Image::read(UP5K.to_vec()).expect("the shipped bitstream reads");
        let plan = offload.plan().clone();
        let row = vec![0; plan.input.shape.count()];
        let mut engine = Simulated::board(&program).accelerator(image, plan.clone()).expect("the plan makes sense");
        engine.score(&row).expect("a row is scored");
        let macs = plan.costs.iter().map(|cost| cost.macs).sum::<u64>() as f64;
        let clk = engine.clk().expect("the engine says its cycles") as f64;
        let cpu = cpu_row(&bytes).as_secs_f64() * clock_hz;
        let mut software = Twin::new(plan);
        let twin = median(|| drop(software.score(&row).expect("a row is scored"))).as_secs_f64() * clock_hz;
        println!(
            "  {name:<24} {clk:>12.0} {:>11.0} % {:>8.2} ms {cpu:>10.0} {twin:>10.0} {:>12.1} x {:>10.1} x {:>18.1} x",
            macs / clk / 8.0 * 100.0,
            clk / ENGINE_HZ * 1e3,
            cpu / clk,
            twin / cpu,
            macs * M4_CLK / clk,
        );
    }
    println!(
        "  this CPU at {:.2} GHz, as it says; it has vectors of its own. hls4ml and FINN, each a circuit for one network\n  \
         on a Pynq-Z2 (220 multipliers, 53,200 tables of six inputs), publish 52,760 and 57,257 inferences a second\n  \
         for MLPerf Tiny; the UP5K has 8 multipliers and 5,280 tables of four, and takes another network in milliseconds.",
        clock_hz / 1e9
    );
}

/// Quantised models: the digits, and those of the other benchmark if it was run.
fn models() -> Vec<PathBuf> {
    let others = std::fs::read_dir(repository().join("target/bench-models")).into_iter().flatten().flatten();
    let mut others: Vec<PathBuf> = others.map(|entry| entry.path()).filter(|path| is_quantised(path)).collect();
    others.sort();
    [vec![data("digits-cnn-eight.onnx")], others].concat()
}

fn is_quantised(path: &std::path::Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with("int8.onnx"))
}

/// The median time of a row.
fn cpu_row(model: &[u8]) -> Duration {
    let mut cpu = Cpu::load(model).expect("the model loads");
    let spec = cpu.signature().inputs.first().expect("an input").clone();
    let shape: Vec<usize> = spec.shape.iter().map(|size| size.map_or(1, |size| size as usize)).collect();
    let values = vec![0.5; shape.iter().product()];
    let input = Tensor::new(spec.name, shape, Data::Fp32(values)).expect("as many values as the shape has");
    median(|| drop(cpu.run(std::slice::from_ref(&input)).expect("a row is scored")))
}

/// Of [`ROWS`] times.
fn median(mut score: impl FnMut()) -> Duration {
    let mut spent: Vec<Duration> = (0..ROWS)
        .map(|_| {
            let begun = Instant::now();
            score();
            begun.elapsed()
        })
        .collect();
    spent.sort_unstable();
    spent.get(ROWS / 2).copied().unwrap_or_default()
}

fn clock_hz() -> f64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu MHz"));
    let mhz: Option<f64> = line.and_then(|line| line.trim_start_matches([' ', '\t', ':']).parse().ok());
    mhz.expect("/proc/cpuinfo says the clock") * 1e6
}
