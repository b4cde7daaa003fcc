//! What profiling costs: bytes per column and window, and time per value.

use std::hint::black_box;
use std::time::Instant;

use bellwether_protocol::profile::{Column, Counter, Counts, append};
use bellwether_runtime::columns::value;
use bellwether_runtime::{Cpu, Data, Samples, Scorer as _, Tensor, baseline};
use bellwether_simulator::data::{csv, held_out};
use bellwether_tests::files::data;

/// Rows of a window: a minute of a camera at ten pictures a second.
const WINDOW_ROWS: usize = 600;
/// Windows that are timed; the median counts.
const WINDOWS: usize = 101;
/// The project's own limit.
const BYTES_MAX: f64 = 80.0;

pub(crate) fn measure() {
    let mut model = Cpu::load(&std::fs::read(data("digits-cnn.onnx")).expect("the model is there")).expect("it loads");
    let signature = model.signature().clone();
    let read = |held_out| {
        let text = csv(held_out).expect("the digits are built in");
        bellwether_runtime::Sample::read("digits.csv", text.as_bytes(), &signature).expect("the digits fit")
    };
    let samples = Samples { inputs: Some(read(false)), held_out: Some(read(true)) };
    let file = baseline::make(&mut model, &samples).expect("the model takes the digits");
    let columns = baseline::read(&file, &signature).expect("what was made reads");
    let images = held_out().expect("the digits are built in");
    let pixels: Vec<f32> = (0..WINDOW_ROWS)
        .flat_map(|row| match images.get(row % images.len()).map(|image| image.tensor.data()) {
            Some(Data::Fp32(pixels)) => pixels.clone(),
            _ => Vec::new(),
        })
        .collect();
    let input = Tensor::new("image".parse().unwrap(), vec![WINDOW_ROWS, 64], Data::Fp32(pixels)).unwrap();
    let outputs = model.run(std::slice::from_ref(&input)).expect("the model scores");
    let mut times = Vec::new();
    let mut counted = Vec::new();
    for _ in 0..WINDOWS {
        let start = Instant::now();
        counted = columns.iter().map(|column| count(column, &input, outputs.first().expect("one output"))).collect();
        times.push(start.elapsed());
        black_box(&counted);
    }
    let mut buffer = [0; 512];
    let bytes: usize = counted.iter().map(|counts| append(counts, &mut buffer).expect("a column fits")).sum();
    let values = (WINDOW_ROWS * columns.len()) as f64;
    let each = super::median(times).as_secs_f64() * 1e9 / values;
    let mean = bytes as f64 / columns.len() as f64;
    println!("profile, {} columns, window of {WINDOW_ROWS} rows", columns.len());
    let verdict = if mean <= BYTES_MAX { "within 80" } else { "ABOVE 80" };
    println!("  bytes per column and window       {mean:>8.1}       {verdict}");
    println!("  baseline in the package           {:>8.1} KiB", file.len() as f64 / 1024.0);
    println!(
        "  time per value                    {each:>8.1} ns    ({:.2} us a row)",
        each * columns.len() as f64 / 1e3
    );
}

fn count(column: &Column, input: &Tensor, output: &Tensor) -> Counts {
    let tensor = match column.source.side {
        bellwether_protocol::profile::Side::Input => input,
        bellwether_protocol::profile::Side::Output => output,
    };
    let mut counts = Counter::new(&column.bins);
    for row in 0..WINDOW_ROWS {
        if let Some(value) = value(tensor, row, column.source.of) {
            counts.take(&column.bins, value);
        }
    }
    counts.into()
}
