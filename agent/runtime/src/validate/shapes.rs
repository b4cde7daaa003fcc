//! Sizes of what is computed, as far as they follow from stored shapes: what does not fit is
//! refused, and so is what would take too much memory or time. A size that varies counts as one
//! row.

use tract_onnx::pb::{NodeProto, TensorProto};

use super::attributes::{int, ints, text};
use super::inputs as asked;
use super::operators::Rule;
use super::{ELEMENTS_MAX, Fault, RANK_MAX, classical, moved, product, quantised, recurrent, tensors, windows};

/// Sizes of dimensions; `None` where one varies or is not known.
pub(super) type Shape = Vec<Option<u64>>;

/// What is known of a value.
#[derive(Clone, Debug)]
pub(super) struct Fact<'m> {
    /// Its shape; `None` if not even the number of its dimensions is known.
    pub(super) shape: Option<Shape>,
    /// Where it is stored, if it is.
    pub(super) tensor: Option<&'m TensorProto>,
    /// Its numbers, if it is a small list that describes a shape.
    pub(super) numbers: Option<Vec<i64>>,
    /// Whether it is the same for every row, so that tract may compute it in advance.
    pub(super) is_constant: bool,
    /// How many times over the sizes that vary stand for those of the input.
    pub(super) factor: u64,
}

impl Default for Fact<'_> {
    fn default() -> Self {
        Self { shape: None, tensor: None, numbers: None, is_constant: false, factor: 1 }
    }
}

impl<'m> Fact<'m> {
    pub(super) fn of(shape: Shape) -> Self {
        Self { shape: Some(shape), ..Self::default() }
    }

    /// What is known of a stored tensor.
    pub(super) fn stored(tensor: &'m TensorProto) -> Result<Self, Fault> {
        let shape = tensors::check(tensor)?.into_iter().map(Some).collect();
        let numbers = tensors::ints(tensor);
        Ok(Self { shape: Some(shape), tensor: Some(tensor), numbers, is_constant: true, ..Self::default() })
    }

    fn counted(numbers: Vec<i64>) -> Self {
        let length = numbers.len() as u64;
        Self { shape: Some(vec![Some(length)]), numbers: Some(numbers), is_constant: true, ..Self::default() }
    }

    /// How many elements it has for one row; 1 if that is not known.
    pub(super) fn elements(&self) -> u64 {
        self.shape.as_deref().map_or(1, elements).saturating_mul(self.factor)
    }

    /// Size of a dimension, if it is known.
    pub(super) fn size(&self, axis: usize) -> Option<u64> {
        *self.shape.as_ref()?.get(axis)?
    }

    fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }
}

/// Elements for one row.
pub(super) fn elements(shape: &[Option<u64>]) -> u64 {
    product(shape.iter().map(|size| size.unwrap_or(1)))
}

/// The inputs of a node; an absent one is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a, 'm>(pub(super) &'a [Fact<'m>]);

impl<'a, 'm> Inputs<'a, 'm> {
    pub(super) fn at(self, index: usize) -> Option<&'a Fact<'m>> {
        self.0.get(index)
    }

    pub(super) fn shape(self, index: usize) -> Option<&'a [Option<u64>]> {
        self.at(index)?.shape.as_deref()
    }

    pub(super) fn numbers(self, index: usize) -> Option<&'a [i64]> {
        self.at(index)?.numbers.as_deref()
    }
}

/// What a node computes.
#[derive(Debug, Default)]
pub(super) struct Computed<'m> {
    /// The first outputs; of the others nothing is known.
    pub(super) outputs: Vec<Fact<'m>>,
    /// Multiplications for one row.
    pub(super) work: u64,
    /// Elements that do not depend on the row, and that are not stored.
    pub(super) in_advance: u64,
}

impl Computed<'_> {
    pub(super) fn one(shape: Option<Shape>) -> Self {
        Self { outputs: vec![Fact { shape, ..Fact::default() }], ..Self::default() }
    }
}

/// Shapes of a node's outputs, of which none is too large.
pub(super) fn compute<'m>(
    node: &'m NodeProto,
    rule: Rule,
    inputs: Inputs<'_, 'm>,
    opset: i64,
) -> Result<Computed<'m>, Fault> {
    asked::check(node, inputs)?;
    let mut computed = match rule {
        Rule::Same => {
            same(node, inputs)?;
            Computed::one(inputs.shape(0).map(<[_]>::to_vec))
        }
        Rule::Broadcast => Computed::one(broadcast(inputs.0.iter().map(|fact| fact.shape.as_deref()))?),
        Rule::Own => own(node, inputs, opset)?,
        Rule::Classical => classical::compute(node, inputs)?,
    };
    if matches!(node.op_type.as_str(), "Identity" | "Cast") {
        let numbers = inputs.numbers(0).map(<[i64]>::to_vec);
        computed.outputs.iter_mut().for_each(|output| output.numbers.clone_from(&numbers));
    }
    let is_constant =
        node.op_type == "Constant" || (!inputs.0.is_empty() && inputs.0.iter().all(|fact| fact.is_constant));
    let factor = moved::factor(node, inputs);
    let is_stored = node.op_type == "Constant";
    for output in &mut computed.outputs {
        output.is_constant |= is_constant;
        output.factor = factor;
        if output.rank().is_some_and(|rank| rank > RANK_MAX) {
            return Err(Fault::broken(format!("its output has more than {RANK_MAX} dimensions")));
        }
        let nonzero = output.shape.iter().flatten().map(|size| size.unwrap_or(1).max(1));
        let elements = product(nonzero).saturating_mul(factor);
        if elements > ELEMENTS_MAX {
            return Err(Fault::large(format!(
                "its output has {elements} elements for one row: at most {ELEMENTS_MAX}"
            )));
        }
        computed.work = computed.work.saturating_add(elements);
        if is_constant && !is_stored {
            computed.in_advance = computed.in_advance.saturating_add(elements);
        }
    }
    Ok(computed)
}

/// Where the first output is as the first input.
fn same(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let rank = inputs.at(0).and_then(Fact::rank);
    if let (Some(rank), Some(value)) = (rank, int(node, "axis")) {
        let is_per_tensor = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
            && inputs.at(1).is_none_or(|scale| scale.elements() <= 1);
        if !is_per_tensor && rank > 0 {
            axis(value, rank)?;
        }
    }
    let channels = inputs.at(0).and_then(|input| input.size(1));
    match node.op_type.as_str() {
        "QuantizeLinear" | "DequantizeLinear" => quantisation(node, inputs, [0, 1, 2]),
        "BatchNormalization" | "InstanceNormalization" => {
            (1..inputs.0.len()).try_for_each(|index| per_channel(inputs, index, channels))
        }
        "Scatter" | "ScatterElements" if rank.zip(inputs.at(1).and_then(Fact::rank)).is_some_and(|(a, b)| a != b) => {
            Err(Fault::broken("data and indices have not the same number of dimensions"))
        }
        _ => Ok(()),
    }
}

/// A vector of one number for each channel.
fn per_channel(inputs: Inputs<'_, '_>, index: usize, channels: Option<u64>) -> Result<(), Fault> {
    let Some(shape) = inputs.shape(index) else { return Ok(()) };
    let size = shape.first().copied().flatten();
    if shape.len() == 1 && (size.is_none() || channels.is_none() || size == channels) {
        return Ok(());
    }
    Err(Fault::broken(format!(
        "input {index} has shape {}, one number for each of {channels:?} channels is needed",
        shown(shape)
    )))
}

/// Scales are positive, and there are as many zero points: `at` says where data, scale and zero
/// point are.
pub(super) fn quantisation(node: &NodeProto, inputs: Inputs<'_, '_>, at: [usize; 3]) -> Result<(), Fault> {
    let [data, scale, zero] = at;
    let Some(scales) = inputs.at(scale) else { return Ok(()) };
    let is_positive = |scale: &f32| scale.is_normal() && *scale > 0.0;
    let found = scales.tensor.and_then(tensors::floats).unwrap_or_default();
    if let Some(bad) = found.iter().find(|scale| !is_positive(scale)) {
        return Err(Fault::broken(format!("the scale in input {scale} is {bad}: a positive number is needed")));
    }
    let Some(shape) = &scales.shape else { return Ok(()) };
    if scales.elements() == 0 || (shape.len() > 1 && scales.elements() > 1) {
        return Err(Fault::broken(format!(
            "the scale in input {scale} has shape {}: a number or a list is needed",
            shown(shape)
        )));
    }
    let zeros = inputs.at(zero).filter(|zeros| zeros.shape.is_some()).map(Fact::elements);
    if let Some(zeros) = zeros.filter(|zeros| *zeros != scales.elements()) {
        return Err(Fault::broken(format!("{} scales and {zeros} zero points", scales.elements())));
    }
    if let (true, Some(input)) = (scales.elements() > 1, inputs.shape(data)) {
        let along = axis(int(node, "axis").unwrap_or(1), input.len())?;
        if input.get(along).copied().flatten().is_some_and(|size| size != scales.elements()) {
            return Err(Fault::broken(format!("{} scales along axis {along} of {}", scales.elements(), shown(input))));
        }
    }
    Ok(())
}

/// An axis counted from the front.
pub(super) fn axis(value: i64, rank: usize) -> Result<usize, Fault> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let front = if value < 0 { value.saturating_add(signed) } else { value };
    match usize::try_from(front) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(Fault::broken(format!("axis {value} is outside of a tensor with {rank} dimensions"))),
    }
}

/// Numpy's rule; `None` if the rank of one is not known.
pub(super) fn broadcast<'s>(shapes: impl Iterator<Item = Option<&'s [Option<u64>]>>) -> Result<Option<Shape>, Fault> {
    let mut joint: Shape = Vec::new();
    for shape in shapes {
        let Some(shape) = shape else { return Ok(None) };
        let ranks = (joint.len(), shape.len());
        let wider = ranks.0.max(ranks.1);
        let mut next = Vec::with_capacity(wider);
        for place in 0..wider {
            let size = |of: &[Option<u64>]| {
                (place + of.len()).checked_sub(wider).map_or(Some(1), |index| of.get(index).copied().flatten())
            };
            next.push(match (size(&joint), size(shape)) {
                (Some(1), other) | (other, Some(1)) => other,
                (Some(a), Some(b)) if a == b => Some(a),
                (Some(a), Some(b)) => {
                    return Err(Fault::broken(format!("sizes {a} and {b} of {} do not go together", shown(shape))));
                }
                (known, None) | (None, known) => known,
            });
        }
        joint = next;
    }
    Ok(Some(joint))
}

/// A shape as messages show it.
pub(super) fn shown(shape: &[Option<u64>]) -> String {
    let sizes: Vec<String> =
        shape.iter().map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

/// Sizes given as numbers.
fn given(numbers: &[i64]) -> Result<Shape, Fault> {
    Ok(tensors::sizes(numbers)?.into_iter().map(Some).collect())
}

fn own<'m>(node: &'m NodeProto, inputs: Inputs<'_, 'm>, opset: i64) -> Result<Computed<'m>, Fault> {
    let name = node.op_type.as_str();
    match name {
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" => windows::convolution(node, inputs),
        "MaxPool" | "AveragePool" => windows::pool(node, inputs),
        "LSTM" | "GRU" | "RNN" => recurrent::check(node, inputs),
        "MatMul" | "MatMulInteger" => product_of(inputs.shape(0), inputs.shape(1)),
        "QLinearMatMul" => {
            [[0, 1, 2], [3, 4, 5], [0, 6, 7]].into_iter().try_for_each(|at| quantisation(node, inputs, at))?;
            product_of(inputs.shape(0), inputs.shape(3))
        }
        "Gemm" => gemm(node, inputs),
        "CenterCropPad" | "Col2Im" => Ok(Computed::one(placed(node, inputs)?)),
        name if quantised::NAMES.contains(&name) => quantised::compute(node, inputs, opset),
        "Einsum" => einsum(node, inputs),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "Constant" | "Shape" | "Size" | "ConstantOfShape"
        | "Range" | "OneHot" | "RandomNormal" | "RandomUniform" => made(node, inputs),
        _ => moved::shape(node, inputs, opset).map(Computed::one),
    }
}

/// What is cut, filled or put together to sizes that are given as numbers.
fn placed(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let (Some(of), Some(sizes)) = (inputs.shape(0), inputs.numbers(1).map(given).transpose()?) else { return Ok(None) };
    if node.op_type == "Col2Im" {
        let block = inputs.numbers(2).map(given).transpose()?.map(|block| elements(&block));
        let channels = of.get(1).copied().flatten().zip(block).and_then(|(columns, block)| columns.checked_div(block));
        return Ok(Some([of.first().copied().flatten(), channels].into_iter().chain(sizes).collect()));
    }
    let all: Vec<i64> = (0..).take(of.len()).collect();
    let mut shape = of.to_vec();
    for (along, size) in ints(node, "axes").unwrap_or(&all).iter().zip(sizes) {
        let along = axis(*along, of.len())?;
        shape.iter_mut().skip(along).take(1).for_each(|old| *old = size);
    }
    Ok(Some(shape))
}

/// Values made from numbers.
fn made<'m>(node: &'m NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let fact = match node.op_type.as_str() {
        "Constant" => match node.attribute.first() {
            Some(value) if value.t.is_some() => value.t.as_ref().map(Fact::stored).transpose()?.unwrap_or_default(),
            Some(value) if value.name == "value_ints" => Fact::counted(value.ints.clone()),
            Some(value) if value.name == "value_int" => {
                Fact { shape: Some(Vec::new()), ..Fact::counted(vec![value.i]) }
            }
            Some(value) => Fact::of(if value.name.ends_with('s') {
                vec![Some(value.floats.len().max(value.strings.len()) as u64)]
            } else {
                Vec::new()
            }),
            None => return Err(Fault::broken("it has no value")),
        },
        "Shape" => match inputs.shape(0) {
            Some(shape) if int(node, "start").is_none() && int(node, "end").is_none() => {
                match shape.iter().map(|size| size.and_then(|size| i64::try_from(size).ok())).collect() {
                    Some(numbers) => Fact::counted(numbers),
                    None => Fact::of(vec![Some(shape.len() as u64)]),
                }
            }
            _ => Fact::of(vec![None]),
        },
        "Size" => Fact::of(Vec::new()),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
            Fact { shape: inputs.numbers(0).map(given).transpose()?, ..Fact::default() }
        }
        "ConstantOfShape" => Fact { shape: inputs.numbers(0).map(given).transpose()?, ..Fact::default() },
        "RandomNormal" | "RandomUniform" => {
            Fact { shape: ints(node, "shape").map(given).transpose()?, ..Fact::default() }
        }
        "Range" => Fact::of(vec![range(inputs)?]),
        _ => {
            let depth = inputs.numbers(1).and_then(|depth| depth.first()).copied();
            let depth =
                depth.map(|depth| tensors::sizes(&[depth])).transpose()?.and_then(|sizes| sizes.first().copied());
            let mut shape = inputs.shape(0).map(<[_]>::to_vec);
            if let Some(shape) = &mut shape {
                let at = axis(int(node, "axis").unwrap_or(-1), shape.len() + 1)?;
                shape.insert(at, depth);
            }
            Fact { shape, ..Fact::default() }
        }
    };
    Ok(Computed { outputs: vec![fact], ..Computed::default() })
}

fn range(inputs: Inputs<'_, '_>) -> Result<Option<u64>, Fault> {
    let number = |index: usize| -> Option<f64> {
        let whole = inputs.numbers(index).and_then(|numbers| numbers.first()).map(|number| *number as f64);
        let float = || inputs.at(index)?.tensor.and_then(tensors::floats)?.first().map(|number| f64::from(*number));
        whole.or_else(float)
    };
    let (Some(start), Some(limit), Some(step)) = (number(0), number(1), number(2)) else { return Ok(None) };
    let count = ((limit - start) / step).ceil();
    // Tract divides by the number of an empty one.
    if !(1.0..=ELEMENTS_MAX as f64).contains(&count) {
        return Err(Fault::large(format!("a range of {count} numbers: 1 to {ELEMENTS_MAX} are supported")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the limit")]
    let count = count as u64;
    Ok(Some(count))
}

/// Shapes of a matrix product, which may be one of many.
pub(super) fn product_of<'m>(
    left: Option<&[Option<u64>]>,
    right: Option<&[Option<u64>]>,
) -> Result<Computed<'m>, Fault> {
    let (Some(left), Some(right)) = (left, right) else { return Ok(Computed::one(None)) };
    let ([left_many @ .., inner], false) = (left, right.is_empty()) else {
        return Err(Fault::broken("a product of a single number"));
    };
    let (right_many, matched) = match right {
        [many @ .., matched, _] => (many, *matched),
        _ => (&[][..], right.first().copied().flatten()),
    };
    if inner.zip(matched).is_some_and(|(a, b)| a != b) {
        return Err(Fault::broken(format!("{} cannot be multiplied with {}", shown(left), shown(right))));
    }
    let (many, row) = match left_many {
        [many @ .., row] => (many, Some(*row)),
        [] => (&[][..], None),
    };
    let mut shape = broadcast([Some(many), Some(right_many)].into_iter())?.unwrap_or_default();
    shape.extend(row);
    shape.extend(right.get(1..).and_then(<[_]>::last).copied());
    let work = elements(&shape).saturating_mul(inner.or(matched).unwrap_or(1));
    Ok(Computed { work, ..Computed::one(Some(shape)) })
}

fn gemm<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let (Some(a), Some(b)) = (inputs.shape(0), inputs.shape(1)) else { return Ok(Computed::one(None)) };
    let turned = |shape: &[Option<u64>], name: &str| match shape {
        [rows, columns] if int(node, name).unwrap_or(0) == 0 => Ok([*rows, *columns]),
        [rows, columns] => Ok([*columns, *rows]),
        _ => Err(Fault::broken(format!("{} is no matrix", shown(shape)))),
    };
    let computed = product_of(Some(&turned(a, "transA")?), Some(&turned(b, "transB")?))?;
    let shape = computed.outputs.first().and_then(|output| output.shape.as_deref());
    if let (Some(shape), Some(added)) = (shape, inputs.shape(2)) {
        if added.len() > 2 || elements(added) > elements(shape).max(1) && shape.iter().all(Option::is_some) {
            return Err(Fault::broken(format!("{} cannot be added to {}", shown(added), shown(shape))));
        }
        broadcast([Some(shape), Some(added)].into_iter())?;
    }
    Ok(computed)
}

/// `ab,bc->ac`: letters only, and every letter of the result in an input.
fn einsum<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let equation: String = text(node, "equation").chars().filter(|letter| !letter.is_whitespace()).collect();
    let (left, right) = equation.split_once("->").unwrap_or((&equation, ""));
    let terms: Vec<&str> = left.split(',').collect();
    let is_term = |term: &&str| term.len() <= RANK_MAX && term.bytes().all(|letter| letter.is_ascii_alphabetic());
    if !terms.iter().all(is_term)
        || !is_term(&right)
        || terms.len() != inputs.0.len()
        || right.chars().any(|letter| !left.contains(letter))
    {
        return Err(Fault::broken("its equation has other signs than letters, or not a term for each input"));
    }
    let mut sizes: std::collections::BTreeMap<char, u64> = std::collections::BTreeMap::new();
    for (term, fact) in terms.iter().zip(inputs.0) {
        let Some(shape) = &fact.shape else { continue };
        if shape.len() != term.len() {
            return Err(Fault::broken(format!("`{term}` does not name the dimensions of {}", shown(shape))));
        }
        for (letter, size) in term.chars().zip(shape) {
            let Some(size) = size else { continue };
            if sizes.insert(letter, *size).is_some_and(|before| before != *size) {
                return Err(Fault::broken(format!("`{letter}` of its equation has two sizes")));
            }
        }
    }
    let shape = equation.contains("->").then(|| right.chars().map(|letter| sizes.get(&letter).copied()).collect());
    Ok(Computed { work: product(sizes.values().copied()), ..Computed::one(shape) })
}
