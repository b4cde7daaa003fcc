//! Scaler, Normalizer, Imputer and Binarizer: a number for each number.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::{float, floats, int, ints, text};
use super::kernel::{Fact, Kernel, Rows, only, operator, rows, single};

/// What an operator of this module is built of.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

/// Builds a Scaler.
pub(super) fn scaler(_context: &ParsingContext, node: &NodeProto) -> Built {
    let (offset, scale) = (floats(node, "offset"), floats(node, "scale"));
    if scale.is_empty() || scale.len() != offset.len() {
        bail!("{} offsets and {} scales", offset.len(), scale.len());
    }
    Ok(operator(Scaler { offset, scale }))
}

impl Kernel for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec!((DatumType::F32, only(inputs)?.1.clone())))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        if self.scale.len() != 1 && self.scale.len() != rows.width {
            bail!("{} scales for rows of {} features", self.scale.len(), rows.width);
        }
        let each = self.offset.iter().zip(&self.scale).cycle();
        let scaled: Vec<f32> =
            rows.data()?.iter().zip(each).map(|(number, (offset, scale))| (number - offset) * scale).collect();
        Ok(tvec!(Tensor::from_shape(single(inputs)?.shape(), &scaled)?))
    }
}

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Normalizer {
    Max,
    L1,
    L2,
}

/// Builds a Normalizer.
pub(super) fn normalizer(_context: &ParsingContext, node: &NodeProto) -> Built {
    Ok(operator(match text(node, "norm") {
        "" | "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("norm `{other}` is none of the specification"),
    }))
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (_, shape) = only(inputs)?;
        rows(shape)?;
        Ok(tvec!((DatumType::F32, shape.clone())))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        let mut data = rows.data()?.to_vec();
        for row in data.chunks_exact_mut(rows.width.max(1)) {
            let norm = match self {
                Self::Max => row.iter().copied().fold(f32::MIN, f32::max),
                Self::L1 => row.iter().map(|number| number.abs()).sum(),
                Self::L2 => row.iter().map(|number| number * number).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                row.iter_mut().for_each(|number| *number /= norm);
            }
        }
        Ok(tvec!(Tensor::from_shape(single(inputs)?.shape(), &data)?))
    }
}

#[derive(Debug)]
struct Imputer {
    /// What stands for a missing number, and what is put in its place.
    floats: (f32, Vec<f32>),
    ints: (i64, Vec<i64>),
}

/// Builds an Imputer.
pub(super) fn imputer(_context: &ParsingContext, node: &NodeProto) -> Built {
    let floats = (float(node, "replaced_value_float").unwrap_or(0.0), floats(node, "imputed_value_floats"));
    let ints = (int(node, "replaced_value_int64").unwrap_or(0), ints(node, "imputed_value_int64s"));
    if floats.1.is_empty() == ints.1.is_empty() {
        bail!("either floats or integers are imputed");
    }
    Ok(operator(Imputer { floats, ints }))
}

/// Puts values in the place of what is missing.
fn imputed<T: Datum + Copy>(
    input: &Tensor,
    values: impl Iterator<Item = T> + Clone,
    is_missing: impl Fn(T) -> bool,
) -> TractResult<Tensor> {
    let data = input.try_as_plain_ram()?.as_slice::<T>()?;
    let filled: Vec<T> = data
        .iter()
        .zip(values.cycle())
        .map(|(number, value)| if is_missing(*number) { value } else { *number })
        .collect();
    Tensor::from_shape(input.shape(), &filled)
}

impl Kernel for Imputer {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (datum_type, shape) = only(inputs)?;
        rows(shape)?;
        match (datum_type, self.floats.1.is_empty()) {
            (DatumType::F32 | DatumType::F64, false) | (DatumType::I32 | DatumType::I64, true) => {}
            _ => bail!("it imputes another type than its input has: {datum_type:?}"),
        }
        Ok(tvec!((*datum_type, shape.clone())))
    }

    #[expect(clippy::float_cmp, reason = "what stands for a missing number is exactly that")]
    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = single(inputs)?;
        let (_, width) = rows(input.shape())?;
        let ((gap, floats), (hole, ints)) = (&self.floats, &self.ints);
        // Another number of values than features: the first one serves all.
        let used = |count: usize| if count == width { count } else { 1 };
        let floats = floats.iter().copied().take(used(floats.len()));
        let ints = ints.iter().copied().take(used(ints.len()));
        Ok(tvec!(match input.datum_type() {
            DatumType::F32 => imputed(input, floats, |n: f32| n == *gap || (n.is_nan() && gap.is_nan()))?,
            DatumType::F64 => {
                imputed(input, floats.map(f64::from), |n: f64| n == f64::from(*gap) || (n.is_nan() && gap.is_nan()))?
            }
            DatumType::I64 => imputed(input, ints, |n: i64| n == *hole)?,
            #[expect(clippy::cast_possible_truncation, reason = "as onnxruntime casts")]
            DatumType::I32 => imputed(input, ints.map(|n| n as i32), |n: i32| i64::from(n) == *hole)?,
            other => bail!("{other:?} is not imputed"),
        }))
    }
}

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

/// Builds a Binarizer.
pub(super) fn binarizer(_context: &ParsingContext, node: &NodeProto) -> Built {
    Ok(operator(Binarizer { threshold: float(node, "threshold").unwrap_or(0.0) }))
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec!(only(inputs)?.clone()))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = single(inputs)?;
        let numbers = input.cast_to::<f64>()?;
        let threshold = f64::from(self.threshold);
        let data = numbers.try_as_plain_ram()?.as_slice::<f64>()?;
        let found: Vec<f64> = data.iter().map(|number| f64::from(u8::from(*number > threshold))).collect();
        let found = Tensor::from_shape(input.shape(), &found)?;
        Ok(tvec!(found.cast_to_dt(input.datum_type())?.into_owned()))
    }
}
