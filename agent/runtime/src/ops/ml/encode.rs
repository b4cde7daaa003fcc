//! OneHotEncoder and LabelEncoder: numbers that stand for kinds.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::{find, float, floats, int, ints};
use super::kernel::{Fact, Kernel, only, operator, single};

/// What an operator of this module is built of.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

#[derive(Debug)]
struct OneHot {
    /// Kinds with their places, in ascending order.
    kinds: Vec<(i64, usize)>,
    count: usize,
    /// Whether a kind that is not among them gives zeros; else it is an error.
    zeros: bool,
}

/// Builds a OneHotEncoder.
pub(super) fn one_hot(_context: &ParsingContext, node: &NodeProto) -> Built {
    let kinds = ints(node, "cats_int64s");
    if kinds.is_empty() {
        bail!("it has no integers as categories");
    }
    let count = kinds.len();
    let mut kinds: Vec<(i64, usize)> = kinds.into_iter().enumerate().map(|(place, kind)| (kind, place)).collect();
    kinds.sort_unstable();
    Ok(operator(OneHot { kinds, count, zeros: int(node, "zeros").unwrap_or(1) != 0 }))
}

impl Kernel for OneHot {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let mut shape = only(inputs)?.1.clone();
        shape.push(self.count.into());
        Ok(tvec!((DatumType::F32, shape)))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = single(inputs)?;
        let kinds = input.cast_to::<i64>()?;
        let kinds = kinds.try_as_plain_ram()?.as_slice::<i64>()?;
        let mut data = vec![0.0_f32; kinds.len() * self.count];
        for (kind, row) in kinds.iter().zip(data.chunks_exact_mut(self.count)) {
            // Of a kind that is listed twice the last place counts.
            let after = self.kinds.partition_point(|(known, _)| known <= kind);
            let found = after.checked_sub(1).and_then(|at| self.kinds.get(at)).filter(|(known, _)| known == kind);
            match found.and_then(|(_, place)| row.get_mut(*place)) {
                Some(place) => *place = 1.0,
                None if self.zeros => {}
                None => bail!("category {kind} is none of the model's"),
            }
        }
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(self.count);
        Ok(tvec!(Tensor::from_shape(&shape, &data)?))
    }
}

/// What a LabelEncoder looks up.
#[derive(Debug)]
enum Keys {
    /// Integers with their places, in ascending order.
    Ints(Vec<(i64, usize)>),
    /// The same for floats.
    Floats(Vec<(f64, usize)>),
}

#[derive(Debug)]
struct Labels {
    keys: Keys,
    /// What is given for each key, and at the end for what is none.
    values: Tensor,
}

/// Keys, values or the default of a LabelEncoder under one of their names, as a vector.
fn listed(context: &ParsingContext, node: &NodeProto, part: &str) -> TractResult<Option<Tensor>> {
    if let Some(tensor) = find(node, &format!("{part}_tensor")).and_then(|attribute| attribute.t.as_ref()) {
        return stored(context, tensor).map(Some);
    }
    let (whole, real) = (ints(node, &format!("{part}_int64s")), floats(node, &format!("{part}_floats")));
    Ok(match (whole.is_empty(), real.is_empty()) {
        (true, true) => None,
        (false, _) => Some(Tensor::from_shape(&[whole.len()], &whole)?),
        (true, false) => Some(Tensor::from_shape(&[real.len()], &real)?),
    })
}

/// A stored tensor as a vector.
fn stored(context: &ParsingContext, tensor: &TensorProto) -> TractResult<Tensor> {
    let tensor = context.load_tensor(tensor)?;
    let length = tensor.len();
    tensor.into_shape(&[length])
}

/// Builds a LabelEncoder.
pub(super) fn labels(context: &ParsingContext, node: &NodeProto) -> Built {
    let (Some(keys), Some(values)) = (listed(context, node, "keys")?, listed(context, node, "values")?) else {
        bail!("it has no numbers as keys and values");
    };
    if keys.len() != values.len() {
        bail!("{} keys and {} values", keys.len(), values.len());
    }
    let default = match find(node, "default_tensor").and_then(|attribute| attribute.t.as_ref()) {
        Some(tensor) => stored(context, tensor)?,
        None if values.datum_type().is_float() => {
            Tensor::from_shape(&[1], &[float(node, "default_float").unwrap_or(-0.0)])?
        }
        None => Tensor::from_shape(&[1], &[int(node, "default_int64").unwrap_or(-1)])?,
    };
    if default.len() != 1 {
        bail!("its default has {} values", default.len());
    }
    let default = default.cast_to_dt(values.datum_type())?.into_owned();
    let values = Tensor::stack_tensors(0, &[values, default])?;
    let keys = if keys.datum_type().is_float() {
        let keys = keys.cast_to::<f64>()?;
        let keys = keys.try_as_plain_ram()?.as_slice::<f64>()?;
        let mut keys: Vec<(f64, usize)> = keys.iter().enumerate().map(|(place, key)| (plain(*key), place)).collect();
        keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Keys::Floats(keys)
    } else {
        let keys = keys.cast_to::<i64>()?;
        let keys = keys.try_as_plain_ram()?.as_slice::<i64>()?;
        let mut keys: Vec<(i64, usize)> = keys.iter().enumerate().map(|(place, key)| (*key, place)).collect();
        keys.sort_unstable();
        Keys::Ints(keys)
    };
    Ok(operator(Labels { keys, values }))
}

/// One form of zero and of what is not a number.
fn plain(number: f64) -> f64 {
    if number.is_nan() { f64::NAN } else { number + 0.0 }
}

impl Labels {
    fn place_of_int(keys: &[(i64, usize)], number: i64) -> Option<usize> {
        let at = keys.partition_point(|(key, _)| *key < number);
        keys.get(at).filter(|(key, _)| *key == number).map(|(_, place)| *place)
    }

    fn place_of_float(keys: &[(f64, usize)], number: f64) -> Option<usize> {
        let number = plain(number);
        let at = keys.partition_point(|(key, _)| key.total_cmp(&number).is_lt());
        keys.get(at).filter(|(key, _)| key.total_cmp(&number).is_eq()).map(|(_, place)| *place)
    }

    /// For each number the place of its value.
    fn places(&self, input: &Tensor) -> TractResult<Tensor> {
        let none = self.values.len() - 1;
        let places: Vec<usize> = match &self.keys {
            Keys::Ints(keys) => {
                let numbers = input.cast_to::<i64>()?;
                let numbers = numbers.try_as_plain_ram()?.as_slice::<i64>()?;
                numbers.iter().map(|number| Self::place_of_int(keys, *number).unwrap_or(none)).collect()
            }
            Keys::Floats(keys) => {
                let numbers = input.cast_to::<f64>()?;
                let numbers = numbers.try_as_plain_ram()?.as_slice::<f64>()?;
                numbers.iter().map(|number| Self::place_of_float(keys, *number).unwrap_or(none)).collect()
            }
        };
        let places: Vec<i64> = places.into_iter().map(i64::try_from).collect::<Result<_, _>>()?;
        Tensor::from_shape(&[places.len()], &places)
    }
}

impl Kernel for Labels {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (datum_type, shape) = only(inputs)?;
        if matches!(self.keys, Keys::Ints(_)) && datum_type.is_float() {
            bail!("its keys are integers, its input has floats");
        }
        Ok(tvec!((self.values.datum_type(), shape.clone())))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = single(inputs)?;
        let found = super::features::chosen(&self.values, &self.places(input)?)?;
        Ok(tvec!(found.into_shape(input.shape())?))
    }
}
