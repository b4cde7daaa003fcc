//! Models as onnxruntime quantises them.

use std::path::Path;

use bellwether_runtime::{Scorer as _, Tensor};

use crate::cases::{self, Outcome};

/// The least share of rows for which the greatest answer must be the same one: roundings fall to the
/// other side now and then, and two classes may be equally likely then.
const AGREEMENT: f64 = 0.995;
/// The same for LSTMs: onnxruntime quantises what goes in and the state at every step, this runtime
/// the weights alone.
const AGREEMENT_LSTM: f64 = 0.99;

#[test]
fn quantised_models_answer_as_onnxruntime_does() {
    let folder = cases::made_by("quantised_set");
    let outcomes = cases::outcomes(&folder, judge);
    for (name, outcome) in outcomes.iter().filter(|(_, outcome)| !matches!(outcome, Outcome::Pass)) {
        println!("{name}: {outcome}");
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/quantised_set.txt");
    cases::held_to(&list, &outcomes);
    let is_right = |outcome: &Outcome| matches!(outcome, Outcome::Pass | Outcome::Refused(_));
    assert!(outcomes.values().all(is_right), "an accepted model answers, and rightly");
}

fn judge(case: &Path) -> Outcome {
    let mut cpu = match cases::load(case) {
        Ok(cpu) => cpu,
        Err(outcome) => return outcome,
    };
    let (inputs, outputs) = cases::arrays(case);
    let answers = match cpu.run(&inputs) {
        Ok(answers) => answers,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    let (got, want) = (&answers[0], &outputs[0]);
    if got.shape() != want.shape() {
        return Outcome::Wrong(format!("shape {:?}, not {:?}", got.shape(), want.shape()));
    }
    let rows = want.rows();
    let same = (0..rows).filter(|row| greatest(got, *row) == greatest(want, *row)).count();
    let share = same as f64 / rows as f64;
    let is_lstm = case.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("lstm"));
    if share < if is_lstm { AGREEMENT_LSTM } else { AGREEMENT } {
        return Outcome::Wrong(format!("{same} of {rows} rows agree"));
    }
    Outcome::Pass
}

/// The first place of the greatest number in a row.
fn greatest(tensor: &Tensor, row: usize) -> usize {
    let width = tensor.data().len() / tensor.rows();
    let number = |place: usize| tensor.data().number(row * width + place).unwrap();
    (0..width).rev().max_by(|a, b| number(*a).total_cmp(&number(*b))).unwrap()
}
