//! Models that this runtime quantises: onnxruntime reads them, and answers within one step of what is answered here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bellwether_runtime::quantize::{Calibrate, Options, Quantised, Rows, quantize};
use bellwether_runtime::{Cpu, Data, Sample, Scorer as _, inspect, npz};

use crate::cases;

/// The least share of rows whose greatest answer is that of the float model.
const AGREEMENT: f64 = 0.97;
/// The same for `concat`, whose features spread over three steps of their bytes: means of 64 numbers far from zero.
/// Of what onnxruntime's quantiser makes of it, with the same rows and a scale for each output, 94.4 % agree.
const AGREEMENT_CONCAT: f64 = 0.944;
/// The file of a case's rows, and of its float model.
const ROWS: &str = "rows.npz";
const FLOAT: &str = "model.onnx";

/// Every way of quantising, by the name of its file.
const WAYS: [(&str, Options); 4] = [
    ("minmax", Options { calibrate: Calibrate::MinMax, per_tensor: false }),
    ("minmax-tensor", Options { calibrate: Calibrate::MinMax, per_tensor: true }),
    ("percentile", Options { calibrate: Calibrate::Percentile, per_tensor: false }),
    ("mse", Options { calibrate: Calibrate::Mse, per_tensor: false }),
];

#[test]
fn models_quantised_here_are_answered_by_onnxruntime_within_a_step() {
    let folder = cases::made_by("float_set");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.is_dir());
    cases.sort();
    let mut made = BTreeMap::new();
    for case in &cases {
        for (way, options) in WAYS {
            let quantised = quantised(case, options);
            std::fs::write(case.join(way).with_extension("onnx"), &quantised.model).unwrap();
            made.insert((case.clone(), way), quantised);
        }
    }
    answered(&folder);
    let faults: Vec<String> = made.iter().flat_map(|((case, way), quantised)| judged(case, way, quantised)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn sample(case: &Path) -> (Sample, Vec<i64>) {
    let bytes = std::fs::read(case.join(ROWS)).unwrap();
    let signature = inspect(&std::fs::read(case.join(FLOAT)).unwrap()).unwrap().signature;
    let label = npz::read(&bytes).unwrap().remove("label").unwrap();
    let Data::Int64(labels) = label.data else { panic!("labels are no integers") };
    (Sample::read(ROWS, &bytes, &signature).unwrap(), labels)
}

fn quantised(case: &Path, options: Options) -> Quantised {
    let (sample, labels) = sample(case);
    let rows = Rows::of(&sample, Some(&labels), None).unwrap();
    quantize(&std::fs::read(case.join(FLOAT)).unwrap(), &rows, options, &mut |_, _| {}).unwrap()
}

/// Asks onnxruntime.
fn answered(folder: &Path) {
    let python = std::env::var("BELLWETHER_MODELS_PYTHON").expect("BELLWETHER_MODELS_PYTHON names a Python with onnx");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/float_set.py");
    let status = Command::new(python).arg(&script).arg(folder).arg("answers").status().expect("Python starts");
    assert!(status.success(), "{} ended with {status}", script.display());
}

/// What is wrong with a quantised model.
fn judged(case: &Path, way: &str, quantised: &Quantised) -> Vec<String> {
    let name = format!("{}-{way}", case.file_name().unwrap().to_str().unwrap());
    let (report, mut faults) = (&quantised.report, Vec::new());
    let (agreement, accuracy) = (report.outputs[0].agreement.unwrap(), report.accuracy.unwrap());
    let step = f64::from(report.layers.last().unwrap().output.scale.scale);
    let answers = npz::read(&std::fs::read(case.join(way).with_extension("npz")).unwrap()).unwrap();
    let got = &Cpu::load(&quantised.model).unwrap().run(&sample(case).0.inputs).unwrap()[0];
    let apart = |other: &str| {
        let steps = |place: usize| (number(got.data(), place) - number(&answers[other].data, place)).abs() / step;
        let steps: Vec<f64> = (0..got.data().len()).map(steps).collect();
        let others = steps.iter().filter(|steps| **steps > 0.5).count() as f64 / steps.len() as f64;
        (steps.iter().copied().fold(0.0, f64::max), others)
    };
    let (exact, fused) = (apart("exact"), apart("fused"));
    println!(
        "{name}: {:.2} % agree, accuracy {:.3} to {:.3}; from onnxruntime {:.2} and {:.2} steps, in {:.2} % and {:.2} %",
        100.0 * agreement,
        accuracy.before,
        accuracy.after,
        exact.0,
        fused.0,
        100.0 * exact.1,
        100.0 * fused.1,
    );
    if agreement < if name.starts_with("concat") { AGREEMENT_CONCAT } else { AGREEMENT } {
        faults.push(format!("{name}: {agreement} of the rows agree with float"));
    }
    // Scales are of single precision.
    if exact.0 > 1.001 || fused.0 > 1.001 {
        faults.push(format!("{name}: onnxruntime is {} and {} steps away", exact.0, fused.0));
    }
    faults
}

fn number(data: &Data, place: usize) -> f64 {
    data.number(place).unwrap()
}
