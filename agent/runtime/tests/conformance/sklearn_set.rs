//! Models of scikit-learn, LightGBM and XGBoost, prepared as a publisher does.
//!
//! `sklearn_set.txt` says what becomes of each. Refused are the two with a KNNImputer: skl2onnx writes it
//! as functions with branches whose shapes depend on where values are missing.

use std::path::Path;

use bellwether_runtime::{Beside, PrepareError, Scorer, Tensor, open, prepare, repeat};

use crate::cases::{self, Outcome};

/// Nearness of every number, relative and absolute.
const NEAR: f64 = 1e-4;

#[test]
fn models_of_classical_libraries_answer_as_their_own_runtime_does() {
    let folder = cases::made_by("sklearn_set");
    let outcomes = cases::outcomes(&folder, judge);
    let all = cases::told(&outcomes);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/sklearn_set.txt");
    cases::held_to(&list, &outcomes);
    assert_eq!((all.get("wrong"), all.get("failed")), (None, None), "an accepted model answers, and rightly");
}

/// Prepares, repeats that, and scores all rows and the last one by itself.
fn judge(case: &Path) -> Outcome {
    let model = std::fs::read(case.join("model.onnx")).unwrap();
    let prepared = match prepare(&"model".parse().unwrap(), "model.onnx", &model, &Beside::default()) {
        Ok(prepared) => prepared,
        Err(PrepareError::Load(why)) => return cases::refusal(why),
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    if repeat(&prepared.package).map(|again| again.package == prepared.package) != Ok(true) {
        return Outcome::Failed("it repeats to another package".to_owned());
    }
    let (examined, mut scorer) = match open(&prepared.package) {
        Ok(opened) => opened,
        Err(why) => return Outcome::Failed(format!("a device refuses it: {why}")),
    };
    if examined.facts != prepared.facts {
        return Outcome::Failed(format!("a device finds {:?}", examined.facts));
    }
    match cases::compared(&mut *scorer, case, NEAR, NEAR) {
        Outcome::Pass => alone(&mut *scorer, case),
        other @ (Outcome::Near(_) | Outcome::Refused(_) | Outcome::Failed(_) | Outcome::Wrong(_)) => other,
    }
}

/// Whether the last row gives the same by itself.
fn alone(scorer: &mut dyn Scorer, case: &Path) -> Outcome {
    let (inputs, outputs) = cases::arrays(case);
    let last: Vec<Tensor> =
        inputs.iter().map(|tensor| tensor.row_range(tensor.rows() - 1..tensor.rows()).unwrap()).collect();
    let answers = match scorer.run(&last) {
        Ok(answers) => answers,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    for (answer, spec) in answers.iter().zip(&scorer.signature().outputs) {
        let is_declared =
            |(size, declared): (&usize, &Option<u32>)| declared.is_none_or(|declared| declared as usize == *size);
        if answer.shape().len() != spec.shape.len() || !answer.shape().iter().zip(&spec.shape).all(is_declared) {
            return Outcome::Wrong(format!("`{}` is not declared as {:?}", answer.name, answer.shape()));
        }
        let expected = outputs.iter().find(|output| output.name == answer.name).unwrap();
        let start = expected.data().len() - answer.data().len();
        for index in 0..answer.data().len() {
            let (got, want) = (answer.data().number(index).unwrap(), expected.data().number(start + index).unwrap());
            if (got - want).abs() > NEAR + NEAR * want.abs() {
                return Outcome::Wrong(format!("alone `{}`[{index}] is {got}, not {want}", answer.name));
            }
        }
    }
    Outcome::Pass
}
