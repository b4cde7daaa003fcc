//! What is lifted for an engine on an FPGA, held byte for byte to what onnxruntime has inside.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use bellwether_fpga::compile::network::What;
use bellwether_fpga::compile::{compile, reference};
use bellwether_fpga::score::{Scores, Twin};
use bellwether_runtime::fpga::{self, Lifted, Port};
use bellwether_runtime::npz::{self, Array};
use bellwether_runtime::tensor::Data;

use crate::cases::{self, Outcome};

/// Most steps that a network with means may be off: onnxruntime takes the mean of real values, and one that
/// lies in the middle of two bytes goes to either side with the last bit of a sum.
const APART_MAX: u16 = 1;

/// Numbers that are the same, of how many.
#[derive(Clone, Copy)]
struct Same {
    same: usize,
    all: usize,
    /// The most that two differ by.
    apart: u16,
}

impl Same {
    fn of(got: &[i8], want: &[i8]) -> Self {
        assert_eq!(got.len(), want.len());
        let apart = |(got, want): (&i8, &i8)| i16::from(*got).abs_diff(i16::from(*want));
        let same = got.iter().zip(want).filter(|(got, want)| got == want).count();
        Self { same, all: want.len(), apart: got.iter().zip(want).map(apart).max().unwrap_or(0) }
    }

    const fn is_all(self) -> bool {
        self.same == self.all
    }
}

impl fmt::Display for Same {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all - self.same {
            0 => write!(f, "all {}", self.all),
            other => write!(f, "{other} of {} by up to {}", self.all, self.apart),
        }
    }
}

#[test]
fn lifted_networks_answer_as_onnxruntime_does_inside() {
    let mut models = Vec::new();
    for set in ["quantised_set", "fpga_set"] {
        models.extend(std::fs::read_dir(cases::made_by(set)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ends = here.join("../../target/conformance/fpga");
    let _absent = std::fs::remove_dir_all(&ends);
    let (mut lifted, mut outcomes) = (BTreeMap::new(), BTreeMap::new());
    for case in models {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        match fpga::lift(&std::fs::read(case.join("model.onnx")).unwrap()) {
            Ok(found) => {
                ask(&ends.join(&name), &case, &found);
                lifted.insert(name, found);
            }
            Err(why) => {
                outcomes.insert(name, Outcome::Refused(why.to_string()));
            }
        }
    }
    let python = std::env::var("BELLWETHER_MODELS_PYTHON").expect("BELLWETHER_MODELS_PYTHON names a Python with onnx");
    let script = here.join("tests/conformance/fpga_ends.py");
    assert!(Command::new(python).arg(script).arg(&ends).status().unwrap().success());
    println!("bytes that differ:\n| model | layers | precise | plain | floats | left behind | the engine |");
    println!("|---|---|---|---|---|---|");
    for (name, found) in &lifted {
        outcomes.insert(name.clone(), held(name, &ends.join(name), found));
    }
    let _counts = cases::told(&outcomes);
    assert!(!outcomes.values().any(|outcome| matches!(outcome, Outcome::Wrong(_))), "what is lifted answers rightly");
    cases::held_to(&here.join("tests/conformance/fpga.txt"), &outcomes);
}

/// Writes down what onnxruntime is asked.
fn ask(folder: &Path, case: &Path, found: &Lifted) {
    let port = |port: &Port| {
        let quantised = port.quantised;
        let zero = i16::from(quantised.zero_point) + if quantised.is_unsigned { 128 } else { 0 };
        serde_json::json!({
            "value": port.value, "scale": quantised.scale, "zero": zero, "unsigned": quantised.is_unsigned,
        })
    };
    std::fs::create_dir_all(folder).unwrap();
    let asked = serde_json::json!({
        "model": case.join("model.onnx"), "vectors": case.join("vectors.npz"),
        "input": port(&found.input), "output": port(&found.output),
    });
    std::fs::write(folder.join("ends.json"), asked.to_string()).unwrap();
}

fn held(name: &str, folder: &Path, found: &Lifted) -> Outcome {
    let ends: BTreeMap<String, Array> = npz::read(&std::fs::read(folder.join("ends.npz")).unwrap()).unwrap();
    let inputs = bytes(&ends["input"]);
    let mut out = Vec::new();
    let plan = compile(&found.network);
    let fits = plan.as_ref().map_or_else(ToString::to_string, |_| "fits".to_owned());
    let mut twin = plan.ok().map(Twin::new);
    for row in inputs.chunks(found.input.shape.count()) {
        let row = found.input.to_engine(row).unwrap();
        let answer = reference::run(&found.network, &row);
        if let Some(twin) = &mut twin {
            assert_eq!(twin.score(&row).unwrap(), answer, "{name}: the engine's twin");
        }
        out.extend(found.output.from_engine(&answer));
    }
    let same = |name: &str| ends.get(name).map(|array| Same::of(&out, &bytes(array)));
    let shown = |same: Option<Same>| same.map_or_else(|| "-".to_owned(), |same| same.to_string());
    let (precise, plain, floats) = (same("precise"), same("plain"), same("floats"));
    let left: Vec<&str> = found.after.iter().map(|left| left.operator.as_str()).collect();
    let [a, b, c] = [precise, plain, floats].map(shown);
    println!("| {name} | {} | {a} | {b} | {c} | {} | {fits} |", found.network.layers.len(), left.join(" "));
    let case: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("ends.json")).unwrap()).unwrap();
    let vectors = Path::new(case["vectors"].as_str().unwrap()).parent().unwrap();
    if !found.before.iter().any(|left| left.operator == "Transpose") && quantised(vectors, found) != inputs {
        return Outcome::Wrong("its input is quantised otherwise".to_owned());
    }
    let has_mean = found.network.layers.iter().any(|layer| matches!(layer.what, What::Mean { .. }));
    match precise.or(plain) {
        Some(same) if same.is_all() => Outcome::Pass,
        Some(same) if has_mean && same.apart <= APART_MAX => Outcome::Near(same.to_string()),
        other => Outcome::Wrong(shown(other)),
    }
}

/// The input as whoever drives the engine quantises it.
fn quantised(case: &Path, found: &Lifted) -> Vec<i8> {
    let (inputs, _) = cases::arrays(case);
    let Data::Fp32(reals) = inputs[0].data() else { panic!("inputs are floats") };
    reals.iter().map(|real| found.input.quantised.quantise(*real)).collect()
}

/// As the engine has them.
fn bytes(array: &Array) -> Vec<i8> {
    if let Data::Int8(values) = &array.data {
        return values.clone();
    }
    let Data::Uint8(values) = &array.data else { panic!("onnxruntime has bytes there") };
    values.iter().map(|value| (value ^ 0x80).cast_signed()).collect()
}
