//! The child in which models are opened: it reads one after the other and says what came of each.
//! What a model does to it, it does to nobody else.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use bellwether_protocol::manifest::{DataType, TensorSpec};
use bellwether_runtime::child::{Limits, asked, die_with_parent};
use bellwether_runtime::{Beside, Data, LoadError, PrepareError, ScoreError, Scorer, Tensor, examine, open, prepare};
use serde::{Deserialize, Serialize};

/// Name of the subcommand.
pub(crate) const SUBCOMMAND: &str = "open-models";

/// What came of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It was refused, for this reason.
    Refused(String),
    /// It is no ONNX, and kept as a file that no device runs.
    Kept,
    /// It loads, and every row was answered or refused.
    Scored,
    /// The runtime panicked on it, which was caught: the reason of the refusal.
    Caught(String),
    /// Who made the package and who received it do not agree.
    Disagreed(String),
    /// It ended the child, as the operating system says it.
    Died(String),
    /// It took more than its time.
    TooLong,
}

impl Outcome {
    /// Whether the child was still there afterwards.
    pub(crate) const fn is_survived(&self) -> bool {
        !matches!(self, Self::Died(_) | Self::TooLong)
    }
}

/// Runs as the child if the arguments say so.
pub(crate) fn run_if_child() -> Option<ExitCode> {
    let limits = Limits::read(&mut asked(SUBCOMMAND)?)?;
    limits.apply().ok()?;
    die_with_parent().ok()?;
    // What is caught is an outcome; who reads this wants the outcome alone.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    loop {
        let mut length = [0; 4];
        if input.read_exact(&mut length).is_err() {
            return Some(ExitCode::SUCCESS);
        }
        let mut model = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut model).ok()?;
        let line = serde_json::to_string(&opened(&model)).ok()?;
        writeln!(output, "{line}").and_then(|()| output.flush()).ok()?;
    }
}

/// What publisher, hub and device do with a model, and a first score.
fn opened(model: &[u8]) -> Outcome {
    let prepared = match prepare(&"hostile".parse().unwrap(), "model.onnx", model, &Beside::default()) {
        Ok(prepared) => prepared,
        Err(PrepareError::Load(LoadError::Crashed(why)) | PrepareError::Score(ScoreError::Crashed(why))) => {
            return Outcome::Caught(why);
        }
        Err(why) => return Outcome::Refused(why.to_string()),
    };
    if let Err(why) = examine(&prepared.package) {
        return Outcome::Disagreed(format!("examined: {why}"));
    }
    if prepared.deployable.is_err() {
        return Outcome::Kept;
    }
    let mut scorer = match open(&prepared.package) {
        Ok((_, scorer)) => scorer,
        Err(why) => return Outcome::Disagreed(format!("opened: {why}")),
    };
    for rows in [1, 3] {
        // Any other refusal of rows is lawful.
        if let Err(ScoreError::Crashed(why)) = score(scorer.as_mut(), rows) {
            return Outcome::Caught(format!("{rows} rows: {why}"));
        }
    }
    Outcome::Scored
}

fn score(scorer: &mut dyn Scorer, rows: usize) -> Result<(), ScoreError> {
    let inputs: Vec<Tensor> = scorer.signature().inputs.iter().map(|spec| filled(spec, rows)).collect();
    scorer.run(&inputs).map(drop)
}

/// An input of ones, with `rows` wherever a size varies.
fn filled(spec: &TensorSpec, rows: usize) -> Tensor {
    let shape: Vec<usize> = spec.shape.iter().map(|size| size.map_or(rows, |size| size as usize)).collect();
    let count = shape.iter().product();
    let data = match spec.datatype {
        DataType::Bool => Data::Bool(vec![true; count]),
        DataType::Uint8 => Data::Uint8(vec![1; count]),
        DataType::Int8 => Data::Int8(vec![1; count]),
        DataType::Int32 => Data::Int32(vec![1; count]),
        DataType::Int64 => Data::Int64(vec![1; count]),
        DataType::Fp32 => Data::Fp32(vec![1.0; count]),
        DataType::Fp64 => Data::Fp64(vec![1.0; count]),
        DataType::Int16 => Data::Int16(vec![1; count]),
        DataType::Uint16 => Data::Uint16(vec![1; count]),
        DataType::Uint32 => Data::Uint32(vec![1; count]),
        DataType::Uint64 => Data::Uint64(vec![1; count]),
    };
    Tensor::new(spec.name.clone(), shape, data).unwrap()
}
