//! Operators for which tract answers otherwise than ONNX says for some inputs: the greatest and least
//! of infinities or booleans, one-hot of a class that there is not.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, TDim, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::bail;
use tract_onnx::tract_hir::infer::InferenceOp;

use super::kernel::{Kernel, Known, Made, input, operator};

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ReduceMax", extremum);
    operators.insert("ReduceMin", extremum);
    operators.insert("OneHot", one_hot);
}

fn extremum(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let kernel = Extremum {
        axes: node.get_attr_opt_vec("axes")?.unwrap_or_default(),
        keeps_axes: node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) == 1,
        is_none_none: node.get_attr_opt::<i64>("noop_with_empty_axes")?.unwrap_or(0) == 1,
        is_greatest: node.op_type == "ReduceMax",
    };
    Ok((operator(kernel), vec![]))
}

fn one_hot(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((operator(OneHot { axis: node.get_attr_opt("axis")?.unwrap_or(-1) }), vec![]))
}

/// An axis counted from the front.
fn front(axis: i64, rank: usize) -> TractResult<usize> {
    let front = if axis < 0 { axis + i64::try_from(rank)? } else { axis };
    match usize::try_from(front) {
        Ok(front) if front < rank => Ok(front),
        _ => bail!("there is no axis {axis} of {rank}"),
    }
}

/// The greatest or least along axes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extremum {
    /// Axes that are an attribute; they are an input from operator set 18 on.
    axes: Vec<i64>,
    /// Whether the axes stay, with size 1.
    keeps_axes: bool,
    /// Whether no axes means none: otherwise it means all.
    is_none_none: bool,
    is_greatest: bool,
}

impl Extremum {
    fn axes(&self, rank: usize, given: Option<&Tensor>) -> TractResult<Vec<usize>> {
        let given = given.map(|axes| axes.cast_to::<i64>()).transpose()?;
        let axes = match &given {
            Some(given) => given.try_as_plain_ram()?.as_slice::<i64>()?.to_vec(),
            None => self.axes.clone(),
        };
        if axes.is_empty() && !self.is_none_none {
            return Ok((0..rank).collect());
        }
        axes.into_iter().map(|axis| front(axis, rank)).collect()
    }

    /// A shape without the axes, or with size 1 there.
    fn reduced<T: Clone + From<usize>>(&self, shape: &[T], axes: &[usize]) -> TVec<T> {
        let mut kept = tvec!();
        for (axis, size) in shape.iter().enumerate() {
            if !axes.contains(&axis) {
                kept.push(size.clone());
            } else if self.keeps_axes {
                kept.push(T::from(1));
            }
        }
        kept
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "types that no tensor of a device has")]
impl Kernel for Extremum {
    const NAME: &'static str = "Extremum";
    const STORED: &'static [usize] = &[1];

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let of = input(inputs, 0)?;
        let given = inputs.get(1).map(|axes| axes.value.ok_or("stored")).transpose();
        let Ok(given) = given else { bail!("the axes must be stored in the model") };
        let axes = self.axes(of.shape.len(), given)?;
        Ok(tvec!((of.datum_type, self.reduced::<TDim>(of.shape, &axes))))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let of = input(inputs, 0)?;
        let axes = self.axes(of.rank(), inputs.get(1).copied())?;
        let mut made = of.clone();
        for axis in &axes {
            made = match made.datum_type() {
                DatumType::Bool => along::<bool>(&made, *axis, self.is_greatest),
                DatumType::U8 => along::<u8>(&made, *axis, self.is_greatest),
                DatumType::U16 => along::<u16>(&made, *axis, self.is_greatest),
                DatumType::U32 => along::<u32>(&made, *axis, self.is_greatest),
                DatumType::U64 => along::<u64>(&made, *axis, self.is_greatest),
                DatumType::I8 => along::<i8>(&made, *axis, self.is_greatest),
                DatumType::I16 => along::<i16>(&made, *axis, self.is_greatest),
                DatumType::I32 => along::<i32>(&made, *axis, self.is_greatest),
                DatumType::I64 => along::<i64>(&made, *axis, self.is_greatest),
                DatumType::F64 => along::<f64>(&made, *axis, self.is_greatest),
                DatumType::F32 => along::<f32>(&made, *axis, self.is_greatest),
                DatumType::F16 => {
                    let numbers = along::<f32>(&*made.cast_to::<f32>()?, *axis, self.is_greatest)?;
                    Ok(numbers.cast_to_dt(DatumType::F16)?.into_owned())
                }
                other => bail!("the greatest of {other:?} is not supported"),
            }?;
        }
        let shape = self.reduced::<usize>(of.shape(), &axes);
        Ok(tvec!(made.into_shape(&shape)?))
    }
}

/// The greatest or least along one axis; what is no number is the answer wherever it stands.
fn along<T: Datum + PartialOrd + Copy>(of: &Tensor, axis: usize, is_greatest: bool) -> TractResult<Tensor> {
    let mut shape: TVec<usize> = of.shape().into();
    let inner: usize = shape.iter().skip(axis + 1).product();
    let Some(size) = shape.get_mut(axis).map(|size| std::mem::replace(size, 1)) else {
        bail!("there is no axis {axis} in {:?}", of.shape());
    };
    if size == 0 || inner == 0 {
        bail!("there is no greatest or least of nothing: {:?}", of.shape());
    }
    let mut made = Vec::with_capacity(shape.iter().product());
    for block in of.try_as_plain_ram()?.as_slice::<T>()?.chunks_exact(size * inner) {
        let mut rows = block.chunks_exact(inner);
        let start = made.len();
        made.extend(rows.next().into_iter().flatten());
        for row in rows {
            for (best, value) in made.iter_mut().skip(start).zip(row) {
                let is_better = if is_greatest { *value > *best } else { *value < *best };
                if is_better || value.partial_cmp(value).is_none() {
                    *best = *value;
                }
            }
        }
    }
    Tensor::from_shape(&shape, &made)
}

/// Indices, a number of classes and the two values: a class that there is not is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OneHot {
    axis: i64,
}

/// The number of classes.
fn depth(tensor: &Tensor) -> TractResult<usize> {
    let depth = tensor.cast_to::<i64>()?;
    match depth.try_as_plain_ram()?.as_slice::<i64>()? {
        [depth] => Ok(usize::try_from(*depth)?),
        other => bail!("{} numbers of classes", other.len()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "types that no tensor of a device has")]
impl Kernel for OneHot {
    const NAME: &'static str = "OneHot";
    const STORED: &'static [usize] = &[1];

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let mut shape: TVec<TDim> = input(inputs, 0)?.shape.into();
        let Some(classes) = input(inputs, 1)?.value else { bail!("the number of classes must be stored in the model") };
        shape.insert(front(self.axis, shape.len() + 1)?, depth(classes)?.into());
        Ok(tvec!((input(inputs, 2)?.datum_type, shape)))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (of, count, values) = (input(inputs, 0)?, depth(input(inputs, 1)?)?, input(inputs, 2)?);
        let mut shape: TVec<usize> = of.shape().into();
        let axis = front(self.axis, shape.len() + 1)?;
        let inner: usize = shape.iter().skip(axis).product();
        shape.insert(axis, count);
        let classes = of.cast_to::<i64>()?;
        let classes = classes.try_as_plain_ram()?;
        let places = classes.as_slice::<i64>()?.iter().enumerate().filter_map(|(place, class)| {
            let class = if *class < 0 { class.checked_add(i64::try_from(count).ok()?)? } else { *class };
            let class = usize::try_from(class).ok().filter(|class| *class < count)?;
            let (block, column) = (place.checked_div(inner)?, place.checked_rem(inner)?);
            Some((block * count + class) * inner + column)
        });
        let made = match values.datum_type() {
            DatumType::Bool => hot::<bool>(&shape, values, places),
            DatumType::U8 => hot::<u8>(&shape, values, places),
            DatumType::U16 => hot::<u16>(&shape, values, places),
            DatumType::U32 => hot::<u32>(&shape, values, places),
            DatumType::U64 => hot::<u64>(&shape, values, places),
            DatumType::I8 => hot::<i8>(&shape, values, places),
            DatumType::I16 => hot::<i16>(&shape, values, places),
            DatumType::I32 => hot::<i32>(&shape, values, places),
            DatumType::I64 => hot::<i64>(&shape, values, places),
            DatumType::F32 => hot::<f32>(&shape, values, places),
            DatumType::F64 => hot::<f64>(&shape, values, places),
            other => bail!("one-hot of {other:?} is not supported"),
        }?;
        Ok(tvec!(made))
    }
}

fn hot<T: Datum + Copy>(shape: &[usize], values: &Tensor, places: impl Iterator<Item = usize>) -> TractResult<Tensor> {
    let [off, on] = *values.try_as_plain_ram()?.as_slice::<T>()? else { bail!("off and on are not two values") };
    let mut made = vec![off; shape.iter().product()];
    for place in places {
        if let Some(element) = made.get_mut(place) {
            *element = on;
        }
    }
    Tensor::from_shape(shape, &made)
}
