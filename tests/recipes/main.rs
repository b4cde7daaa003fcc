//! `docs/models.md` followed as a new user would: every recipe that it says is run by the tests makes a
//! model, and the commands of its first page bring that model to a package and look at it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]

use std::path::Path;
use std::process::Command;

use bellwether_tests::cli::{Cli, Ran};
use bellwether_tests::files::repository;
use bellwether_tests::hub::folder;
use serde_json::Value;

/// What stands under the heading of a recipe that is run.
const RUN: &str = "run by the tests";

fn python() -> String {
    std::env::var("BELLWETHER_MODELS_PYTHON")
        .expect("BELLWETHER_MODELS_PYTHON names a Python: `tests/run conformance` installs one")
}

/// The recipes of the page that are run, by name.
fn recipes() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(repository().join("docs/models.md")).unwrap();
    let recipe = |section: &str| {
        let (name, rest) = section.split_once('\n')?;
        let (said, code) = rest.split_once("```python\n")?;
        (said.contains(RUN) && !said.contains(&format!("not {RUN}")))
            .then(|| (name.to_owned(), code.split_once("```").unwrap().0.to_owned()))
    };
    page.split("\n### ").skip(1).filter_map(recipe).collect()
}

/// `bellwether` in a folder where no hub can be reached.
fn desk(folder: &Path) -> impl Fn(&[&str]) -> Ran {
    let cli = Cli::new("http://127.0.0.1:9", None, &folder.join("config"));
    let cli = cli.with("BELLWETHER_PYTHON", python());
    move |words: &[&str]| cli.run(words)
}

fn done(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{ran}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|why| panic!("{why}: {ran}"))
}

#[test]
fn every_recipe_of_the_page_ends_in_a_package_that_scores() {
    let recipes = recipes();
    assert_eq!(recipes.len(), 3, "scikit-learn, LightGBM, XGBoost: {recipes:?}");
    for (name, code) in recipes {
        let folder = folder();
        let at = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
        let ran = Command::new(python()).arg("-c").arg(code).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
        let run = desk(folder.path());
        let (model, rows, vectors, package) = (at("model.onnx"), at("rows.npz"), at("vectors.npz"), at("model.bwp"));
        let made = done(&run(&["model", "vectors", &model, "--input", &rows, "--out", &vectors, "-o", "json"]));
        assert_eq!((&made["rows"], &made["agrees"]), (&Value::from(50), &Value::from(true)), "{name}: {made}");
        let words = ["model", "prepare", &model, "--vectors", &vectors, "--out", &package, "-o", "json"];
        let report = done(&run(&words));
        println!("{name}: {report}");
        assert!(report["golden"].as_str().unwrap().contains("onnxruntime"), "{report}");
        assert!(report["row"]["p50_us"].as_f64().unwrap() > 0.0 && report["load_ms"].as_f64().unwrap() > 0.0);
        // Twice the same, to the byte.
        let again = at("again.bwp");
        done(&run(&["model", "prepare", &model, "--vectors", &vectors, "--out", &again, "-o", "json"]));
        assert_eq!(std::fs::read(&package).unwrap(), std::fs::read(&again).unwrap(), "{name}");
        let tested = done(&run(&["model", "test", &package, "--input", &rows, "-o", "json"]));
        assert_eq!(tested["rows"], 50, "{name}");
        assert!(!tested["operators"].as_array().unwrap().is_empty(), "{name}: {tested}");
        let difference = done(&run(&["model", "diff", &package, &model, "--input", &rows, "-o", "json"]));
        for output in difference["outputs"].as_array().unwrap() {
            assert_eq!((&output["agreement"], &output["greatest"]), (&Value::from(1.0), &Value::from(0.0)), "{output}");
        }
    }
}

#[test]
fn a_float_network_becomes_one_of_eight_bits() {
    let folder = folder();
    let run = desk(folder.path());
    let data = |file: &str| repository().join("tests/data").join(file).to_str().unwrap().to_owned();
    let at = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
    let (cnn, rows, out) = (data("digits-cnn.onnx"), data("digits-input.npz"), at("int8.onnx"));
    let report = done(&run(&["model", "quantize", &cnn, "--input", &rows, "--out", &out, "-o", "json"]));
    assert_eq!((&report["calibration_rows"], &report["judged_rows"]), (&Value::from(8), &Value::from(8)));
    assert_eq!(report["layers"][0]["operator"], "Conv+Relu", "{report}");
    assert_eq!((&report["outputs"][0]["agreement"], &report["accuracy"]), (&Value::from(1.0), &Value::Null));
    let again = at("again.onnx");
    let text = run(&["model", "quantize", &cnn, "--input", &rows, "--out", &again]);
    assert!(text.code == 0 && text.stdout.contains("stays float  Softmax softmax: eight bits"), "{text}");
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&again).unwrap());
    let prepared = done(&run(&["model", "prepare", &out, "-o", "json"]));
    assert_eq!((&prepared["advice"], prepared["operators"]["Conv"].as_u64()), (&Value::Array(vec![]), Some(1)));
    let refused = |words: &[&str], what: &str| {
        let ran = run(&[&["model", "quantize"], words].concat());
        assert!(ran.code == 6 && ran.stderr.contains(what), "{what}: {ran}");
    };
    let (new, wrong) = (at("new.onnx"), data("digits.npz"));
    refused(&[&cnn, "--input", &rows, "--out", &out], "exists");
    refused(&[&out, "--input", &rows, "--out", &new], "quantised already");
    refused(&[&cnn, "--input", &wrong, "--out", &new], "no array `image`");
    refused(&[&cnn, "--input", &rows, "--out", &new, "--labels", "y"], "no array `y` for --labels: it has image");
    refused(&[&cnn, "--input", &rows, "--out", &new, "--calibration-rows", "16"], "left to judge by");
    assert!(!folder.path().join("new.onnx").exists());
}

#[test]
fn what_cannot_be_done_is_said_with_the_next_step() {
    let folder = folder();
    let run = desk(folder.path());
    let data = |file: &str| repository().join("tests/data").join(file).to_str().unwrap().to_owned();
    let says =
        |ran: Ran, code: i32, what: &str| assert!(ran.code == code && ran.stderr.contains(what), "{what}: {ran}");
    let (cnn, out) = (data("digits-cnn.onnx"), folder.path().join("v.npz").to_str().unwrap().to_owned());
    says(run(&["model", "test", "no-such-file"]), 5, "no file `no-such-file`");
    says(run(&["model", "test", &cnn]), 2, "--input");
    says(run(&["model", "prepare", &data("digits.pkl")]), 6, "skl2onnx");
    says(run(&["model", "prepare", &data("bad/truncated.onnx")]), 6, "cut short");
    says(run(&["model", "vectors", &cnn, "--out", &out, "--python", "no-such-python"]), 5, "pip install onnxruntime");
    says(run(&["model", "prepare", &cnn, "--model-mib", "40"]), 6, "ended the process");
    let linear = data("digits-linear.onnx");
    let difference = run(&["model", "diff", &cnn, &linear, "--input", &data("digits-input.npz")]);
    assert!(difference.code == 0 && difference.stdout.contains("rows agree"), "{difference}");
    let other = data("bad/wrong-shape.vectors.npz");
    says(run(&["model", "diff", &cnn, &linear, "--input", &other]), 6, "wrong-shape");
}
