//! Times models against onnxruntime and against tract without our layer, one thread each.
//!
//! ```text
//! BELLWETHER_MODELS_PYTHON=python cargo bench -p bellwether-runtime --bench score [-- PART_OF_A_NAME…]
//! ```
//!
//! Python needs onnx, onnxruntime, scikit-learn, skl2onnx, lightgbm and onnxmltools; `BELLWETHER_BENCH_MODELS` names a
//! folder that `models.py make` has filled already. The three take turns in blocks on one core, and
//! ratios are medians over the turns, with their quartiles. `load_us` is reading, checking and the
//! first plan; our first batch of another size builds one more plan, which is not timed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a benchmark ends by panicking, counts small numbers and prints"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use bellwether_runtime::{Cpu, Data, Scorer as _, Tensor, each_type, npz};
use tract_onnx::prelude::{
    Framework as _, InferenceFact, InferenceModelExt as _, IntoRunnable as _, TValue, TVec, Tensor as TractTensor,
    TractResult, TypedRunnableModel,
};

/// Turns of each of the three.
const TURNS: usize = 21;
/// About how long one turn takes.
const TURN_NANOS: f64 = 4e6;
/// Differences to onnxruntime that are told: what float arithmetic in another order gives is smaller.
const DIFFERENCE: f64 = 1e-3;

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/models.py");
    let python = std::env::var("BELLWETHER_MODELS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = std::env::var_os("BELLWETHER_BENCH_MODELS").map_or_else(|| made(&python, &here), PathBuf::from);
    pin();
    let mut peer = Peer::start(&python, &here);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|ending| ending == "onnx"));
    models.sort();
    println!(
        "{:<16} {:>5} {:>10} {:>10} {:>10} {:>8} {:>11} {:>10} {:>9} {:>9}",
        "model", "batch", "ours_us", "tract_us", "ort_us", "ours/ort", "quartiles", "ours/tract", "load_us", "ort_load"
    );
    let (mut fast, mut all) = (0, 0);
    for model in models {
        let name = model.file_stem().unwrap().to_str().unwrap().to_owned();
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        for batch in [1, 64] {
            let ratio = compare(&mut peer, &model, &name, batch);
            all += 1;
            fast += usize::from(ratio.is_some_and(|ratio| ratio <= 1.0));
        }
    }
    println!("{fast} of {all} take no longer than onnxruntime");
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
}

fn made(python: &str, script: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench-models");
    if !folder.exists() {
        let status = Command::new(python).arg(script).arg("make").arg(&folder).status().expect("Python starts");
        assert!(status.success(), "{} ended with {status}", script.display());
    }
    folder
}

/// Keeps this process and what it starts on one core, where `taskset` is.
fn pin() {
    let core = std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    let pinned = Command::new("taskset")
        .args(["-cp", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status();
    if !pinned.is_ok_and(|status| status.success()) {
        println!("not pinned to a core: there is no taskset");
    }
}

/// Times the three in turn and prints a line; how long ours takes as a multiple of onnxruntime.
fn compare(peer: &mut Peer, model: &Path, name: &str, batch: usize) -> Option<f64> {
    let bytes = std::fs::read(model).unwrap();
    let npz_path = model.with_file_name(format!("{name}.{batch}.npz"));
    let inputs = tensors(&npz_path);
    let peer_load = peer.ask(&format!("load {} {}", model.display(), npz_path.display()));
    let start = Instant::now();
    let cpu = Cpu::load(&bytes);
    let load = start.elapsed().as_micros();
    let mut cpu = match cpu {
        Ok(cpu) => cpu,
        Err(why) => {
            println!("{name:<16} {batch:>5} refused: {why}");
            return None;
        }
    };
    match cpu.run(&inputs) {
        Ok(outputs) => tell_difference(&outputs, &npz_path),
        Err(why) => {
            println!("{name:<16} {batch:>5} failed: {why}");
            return None;
        }
    }
    let bare = std::panic::catch_unwind(|| bare(&bytes, &inputs)).ok().and_then(Result::ok);
    let mut ours = |count: u64| timed(count, || drop(cpu.run(&inputs).unwrap()));
    let tract = |count: u64| {
        bare.as_ref().map(|(plan, values)| timed(count, || drop(plan.run(values.clone()).unwrap()))).unwrap_or(f64::NAN)
    };
    let mut ort = |count: u64| peer.ask(&format!("time {count}")) / count as f64;
    let counts = [ours(3), tract(3), ort(3)].map(|nanos| if nanos > 0.0 { (TURN_NANOS / nanos) as u64 + 1 } else { 1 });
    let turns: Vec<[f64; 3]> = (0..TURNS).map(|_| [ours(counts[0]), tract(counts[1]), ort(counts[2])]).collect();
    let time = |of: usize| quantile(turns.iter().map(|turn| turn[of] / 1e3), 0.5);
    let ratio = |to: usize, at: f64| quantile(turns.iter().map(|turn| turn[0] / turn[to]), at);
    let quartiles = format!("{:.2}-{:.2}", ratio(2, 0.25), ratio(2, 0.75));
    println!(
        "{name:<16} {batch:>5} {:>10.1} {:>10.1} {:>10.1} {:>8.2} {quartiles:>11} {:>10.2} {load:>9} {peer_load:>9}",
        time(0),
        time(1),
        time(2),
        ratio(2, 0.5),
        ratio(1, 0.5),
    );
    Some(ratio(2, 0.5))
}

/// Nanoseconds of one call.
fn timed(count: u64, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..count).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / count as f64
}

fn quantile(values: impl Iterator<Item = f64>, at: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at) as usize]
}

fn tensors(path: &Path) -> Vec<Tensor> {
    let arrays = npz::read(&std::fs::read(path).unwrap()).unwrap();
    arrays
        .into_iter()
        .map(|(name, array)| Tensor::new(name.parse().unwrap(), array.shape, array.data).unwrap())
        .collect()
}

/// Says where outputs are not those of onnxruntime: a fast wrong answer is none.
fn tell_difference(outputs: &[Tensor], npz_path: &Path) {
    let expected = tensors(Path::new(&format!("{}.out.npz", npz_path.display())));
    for output in outputs {
        let Some(other) = expected.iter().find(|other| other.name == output.name) else { continue };
        let number = |data: &Data, index| data.number(index).unwrap();
        let far = (0..output.data().len())
            .map(|index| (number(output.data(), index) - number(other.data(), index)).abs())
            .fold(0.0, f64::max);
        if far > DIFFERENCE {
            println!("# output `{}` is up to {far} away from onnxruntime's", output.name);
        }
    }
}

/// A plan of tract for exactly these inputs, without any code of ours.
fn bare(bytes: &[u8], inputs: &[Tensor]) -> TractResult<(std::sync::Arc<TypedRunnableModel>, TVec<TValue>)> {
    let onnx =
        tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true).with_ignore_output_types(true);
    let mut model = onnx.model_for_read(&mut &bytes[..])?;
    let mut values = TVec::new();
    for (index, tensor) in inputs.iter().enumerate() {
        let value: TractTensor =
            each_type!(tensor.data(), numbers => TractTensor::from_shape(tensor.shape(), numbers))?;
        model.set_input_fact(index, InferenceFact::dt_shape(value.datum_type(), tensor.shape()))?;
        values.push(value.into());
    }
    let plan = model.into_optimized()?.into_runnable()?;
    plan.run(values.clone())?;
    Ok((plan, values))
}

/// onnxruntime in a process of Python.
struct Peer {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &str, script: &Path) -> Self {
        let mut child = Command::new(python)
            .arg(script)
            .arg("peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, answers }
    }

    fn ask(&mut self, line: &str) -> f64 {
        writeln!(self.asks, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().expect("the peer answers with a number")
    }
}
