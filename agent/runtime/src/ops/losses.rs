//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`: models that are trained further carry
//! them, and a device that is shown the right answers can measure how far off its model is.
//!
//! <https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html>

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::bail;
use tract_onnx::tract_hir::infer::InferenceOp;

use super::kernel::{Kernel, Known, Made, input, operator};

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("NegativeLogLikelihoodLoss", loss);
    operators.insert("SoftmaxCrossEntropyLoss", loss);
}

fn loss(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("mean") {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => bail!("reduction `{other}` is none of none, sum, mean"),
    };
    let of_logits = node.op_type == "SoftmaxCrossEntropyLoss";
    let ignored = node.get_attr_opt::<i64>("ignore_index")?;
    let tells_shares = of_logits && node.output.get(1).is_some_and(|name| !name.is_empty());
    Ok((operator(Loss { of_logits, tells_shares, reduction, ignored }), vec![]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

/// Scores `[N, C, …]`, the right classes `[N, …]` and perhaps weights `[C]` to a loss for each class or
/// a single one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loss {
    /// Whether the scores are logits: otherwise they are logarithms of probabilities.
    of_logits: bool,
    /// Whether the logarithms of the probabilities are a second output.
    tells_shares: bool,
    reduction: Reduction,
    /// A class that does not count.
    ignored: Option<i64>,
}

impl Kernel for Loss {
    const NAME: &'static str = "Loss";

    fn outputs(&self) -> usize {
        1 + usize::from(self.tells_shares)
    }

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let (scores, classes) = (input(inputs, 0)?, input(inputs, 1)?);
        if scores.shape.len() < 2 || classes.shape.len() + 1 != scores.shape.len() {
            bail!("scores of {:?} for classes of {:?}", scores.shape, classes.shape);
        }
        let shape = if self.reduction == Reduction::None { classes.shape.into() } else { tvec!() };
        let mut made = tvec!((scores.datum_type, shape));
        if self.tells_shares {
            made.push((scores.datum_type, scores.shape.into()));
        }
        Ok(made)
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (scores, classes) = (input(inputs, 0)?, input(inputs, 1)?);
        let kind = scores.datum_type();
        let shape: TVec<usize> = scores.shape().into();
        let (&[rows, count, ..], true) = (shape.as_slice(), shape.len() == classes.rank() + 1) else {
            bail!("scores of {shape:?} for classes of {:?}", classes.shape());
        };
        let inner: usize = shape.iter().skip(2).product();
        let mut shares = floats(scores)?;
        let classes = classes.cast_to::<i64>()?;
        let classes = classes.try_as_plain_ram()?.as_slice::<i64>()?;
        let weights = inputs.get(2).map(|weights| floats(weights)).transpose()?;
        if classes.len() != rows * inner || shares.len() != rows * count * inner {
            bail!("{} scores and {} classes", shares.len(), classes.len());
        }
        if self.of_logits {
            shares.chunks_mut((count * inner).max(1)).for_each(|row| log_softmax(row, inner));
        }
        let mut losses = Vec::with_capacity(classes.len());
        let mut weighed = 0.0;
        for (place, class) in classes.iter().enumerate() {
            let (row, column) = (place.checked_div(inner).unwrap_or(0), place.checked_rem(inner).unwrap_or(0));
            if self.ignored == Some(*class) {
                losses.push(0.0);
                continue;
            }
            let at = usize::try_from(*class).ok().filter(|class| *class < count);
            let share = at.and_then(|class| shares.get((row * count + class) * inner + column));
            let weight = match &weights {
                Some(weights) => at.and_then(|class| weights.get(class)).copied(),
                None => Some(1.0),
            };
            let (Some(share), Some(weight)) = (share, weight) else {
                bail!("class {class} is none of the {count} that there are");
            };
            losses.push(-share * weight);
            weighed += weight;
        }
        let sum: f64 = losses.iter().sum();
        let loss = match self.reduction {
            Reduction::None => {
                let shape: TVec<usize> =
                    shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, size)| *size).collect();
                Tensor::from_shape(&shape, &losses)?
            }
            Reduction::Sum => Tensor::from_shape(&[], &[sum])?,
            Reduction::Mean => Tensor::from_shape(&[], &[sum / weighed])?,
        };
        let mut made = tvec!(as_kind(&loss, kind)?);
        if self.tells_shares {
            made.push(as_kind(&Tensor::from_shape(&shape, &shares)?, kind)?);
        }
        Ok(made)
    }
}

fn floats(tensor: &Tensor) -> TractResult<Vec<f64>> {
    Ok(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

fn as_kind(tensor: &Tensor, kind: DatumType) -> TractResult<Tensor> {
    Ok(tensor.cast_to_dt(kind)?.into_owned())
}

/// Over the classes of one row `[C, inner]`.
fn log_softmax(row: &mut [f64], inner: usize) {
    for column in 0..inner {
        let of_column = || row.iter().skip(column).step_by(inner);
        let greatest = of_column().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = of_column().map(|score| (score - greatest).exp()).sum();
        let least = greatest + sum.ln();
        row.iter_mut().skip(column).step_by(inner).for_each(|score| *score -= least);
    }
}
