//! The self-test: does a scorer reproduce its golden vectors?

use std::fmt;

use crate::tensor::Tensor;
use crate::vectors::Vectors;
use crate::{ScoreError, Scorer};

/// What came of comparing a model's answers with its golden vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How many rows were compared.
    pub rows: usize,
    /// The number furthest from what was expected, measured in tolerances; `None` if all are equal.
    pub worst: Option<Worst>,
    /// Whether every number is near enough.
    pub passed: bool,
    /// The runtime that made the vectors, with its version.
    pub made_by: String,
}

/// One number of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// The output it belongs to.
    pub output: String,
    /// The row, from 0.
    pub row: usize,
    /// What the vectors say.
    pub expected: f64,
    /// What came.
    pub got: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.worst {
            Some(worst) if !self.passed => write!(
                f,
                "output `{}`, row {}: {} answers {}, this runtime (tract) computes {}; they disagree about \
                 the model, so it would answer wrongly on devices",
                worst.output, worst.row, self.made_by, worst.expected, worst.got
            ),
            _ => write!(f, "reproduces the {} rows of {}", self.rows, self.made_by),
        }
    }
}

/// Scores the vectors' inputs, as one batch and the first row alone, and compares the answers:
/// every number must fulfil `|got - expected| <= atol + rtol * |expected|`.
///
/// # Errors
///
/// [`ScoreError`] if the model does not take the vectors' inputs or fails on them.
pub fn check(scorer: &mut dyn Scorer, vectors: &Vectors) -> Result<Verdict, ScoreError> {
    let made_by = format!("{} {}", vectors.meta.runtime, vectors.meta.runtime_version).trim_end().to_owned();
    let mut verdict = Verdict { rows: vectors.rows, worst: None, passed: true, made_by };
    let block = scorer.signature().inputs.first().and_then(|spec| *spec.shape.first()?).map(|rows| rows as usize);
    let mut worst = 0.0;
    let ranges: Vec<_> = match block {
        Some(rows) => (0..vectors.rows / rows.max(1)).map(|n| n * rows..(n + 1) * rows).collect(),
        None => vec![0..vectors.rows, 0..1],
    };
    if ranges.is_empty() {
        let why = format!("the model takes blocks of {} rows, the vectors have {}", block.unwrap_or(1), vectors.rows);
        return Err(ScoreError::Failed(why));
    }
    for range in ranges {
        let cut = |tensor: &Tensor| tensor.row_range(range.clone());
        let inputs: Vec<Tensor> = vectors.inputs.iter().filter_map(cut).collect();
        let answers = scorer.run(&inputs)?;
        for answer in &answers {
            let name = &answer.name;
            let expected = vectors.outputs.iter().find(|tensor| tensor.name == *name).and_then(cut);
            let expected = expected.ok_or_else(|| ScoreError::Failed(format!("the vectors lack out/{name}")))?;
            if answer.shape() != expected.shape() {
                let (got, want) = (answer.shape(), expected.shape());
                return Err(ScoreError::Failed(format!(
                    "output `{name}` has shape {got:?}, the vectors have {want:?}"
                )));
            }
            compare(vectors, (answer, &expected), range.start, (&mut verdict, &mut worst));
        }
    }
    Ok(verdict)
}

fn compare(vectors: &Vectors, pair: (&Tensor, &Tensor), first: usize, (verdict, worst): (&mut Verdict, &mut f64)) {
    let (answer, expected) = pair;
    let width = (answer.data().len() / answer.rows().max(1)).max(1);
    for index in 0..answer.data().len() {
        let (Some(got), Some(want)) = (answer.data().number(index), expected.data().number(index)) else {
            continue;
        };
        let distance = distance(got, want, vectors.meta.atol + vectors.meta.rtol * want.abs());
        if distance > *worst {
            *worst = distance;
            let row = first + index / width;
            verdict.worst = Some(Worst { output: answer.name.to_string(), row, expected: want, got });
        }
        verdict.passed &= distance <= 1.0;
    }
}

/// How far apart in tolerances: 1 is just near enough.
#[expect(clippy::float_cmp, reason = "equal numbers are equal, infinities included")]
fn distance(got: f64, want: f64, tolerance: f64) -> f64 {
    if got == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let distance = (got - want).abs() / tolerance;
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;

    fn verdict(model: &[u8], vectors: &[u8]) -> Verdict {
        check(&mut Cpu::load(model).unwrap(), &Vectors::read(vectors).unwrap()).unwrap()
    }

    #[test]
    fn sound_models_reproduce_their_vectors() {
        let linear = include_bytes!("../../../tests/data/digits-linear.onnx");
        assert!(verdict(linear, include_bytes!("../../../tests/data/digits-linear.vectors.npz")).passed);
        let cnn = include_bytes!("../../../tests/data/digits-cnn.onnx");
        assert!(verdict(cnn, include_bytes!("../../../tests/data/digits-cnn.vectors.npz")).passed);
        let wrong = verdict(linear, include_bytes!("../../../tests/data/bad/wrong-answer.vectors.npz"));
        assert!(!wrong.passed);
    }

    #[test]
    fn one_step_of_a_quantised_softmax_is_found_out() {
        let model = include_bytes!("../../../tests/data/digits-cnn-int8.onnx");
        let verdict = verdict(model, include_bytes!("../../../tests/data/digits-cnn-int8.vectors.npz"));
        assert!(!verdict.passed);
        // With its optimisations onnxruntime rounds a quantised Softmax down; without them it answers as
        // this runtime does.
        let worst = verdict.worst.as_ref().unwrap();
        assert!((worst.got - worst.expected).abs() < 0.004, "{worst:?}");
        let text = verdict.to_string();
        assert!(text.contains("output `probabilities`, row ") && text.contains("onnxruntime 1.32.0 answers"), "{text}");
    }

    #[test]
    fn not_a_number_is_no_answer_to_a_number() {
        assert!(distance(f64::NAN, 1.0, 0.1).is_infinite());
        assert_eq!(distance(f64::NAN, f64::NAN, 0.1), 0.0);
        assert!(distance(0.1, 0.0, 0.0).is_infinite());
    }
}
