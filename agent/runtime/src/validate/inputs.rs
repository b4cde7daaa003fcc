//! What operators ask of their inputs beyond their number: how many dimensions, and which stored
//! numbers. Tract indexes, divides and shifts by them unseen.

use tract_onnx::pb::{NodeProto, TensorProto};

use super::attributes::int;
use super::shapes::{Inputs, axis, shown};
use super::{ELEMENTS_MAX, Fault, RANK_MAX, tensors};

/// Operators, an input of theirs, and its fewest and most dimensions.
const RANKS: [(&[&str], usize, (usize, usize)); 16] = [
    (&["Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "CumSum", "TopK"], 0, (1, RANK_MAX)),
    (&["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"], 0, (1, RANK_MAX)),
    (&["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"], 0, (1, RANK_MAX)),
    (&["Scatter", "ScatterElements", "ScatterND", "Gather", "GatherElements", "GatherND"], 0, (1, RANK_MAX)),
    (&["Scatter", "ScatterElements", "ScatterND", "GatherElements", "GatherND"], 1, (1, RANK_MAX)),
    (&["Trilu", "MatMulInteger", "EyeLike", "BatchNormalization", "DFT", "STFT", "MatMulNBits"], 0, (2, RANK_MAX)),
    (&["MatMulInteger"], 1, (2, RANK_MAX)),
    (&["QLinearMatMul"], 0, (2, RANK_MAX)),
    (&["QLinearMatMul"], 3, (2, RANK_MAX)),
    (&["GatherBlockQuantized", "Multinomial"], 0, (2, 2)),
    (&["InstanceNormalization", "GroupNormalization", "LRN"], 0, (3, RANK_MAX)),
    (&["MultiHeadAttention", "GroupQueryAttention", "NonMaxSuppression"], 0, (3, 5)),
    (&["Attention"], 0, (3, 4)),
    (&["Attention"], 1, (3, 4)),
    (&["Attention"], 2, (3, 4)),
    (&["GridSample"], 0, (4, 4)),
];

/// Checks the inputs of a node.
pub(super) fn check(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let name = node.op_type.as_str();
    for (_, index, (least, most)) in RANKS.iter().filter(|(names, _, _)| names.contains(&name)) {
        let Some(shape) = inputs.shape(*index) else { continue };
        if !(*least..=*most).contains(&shape.len()) {
            let shape = shown(shape);
            return Err(Fault::broken(format!("input {index} is {shape}, {least} to {most} dimensions are needed")));
        }
    }
    match name {
        "TopK" => largest(node, inputs),
        "Dropout" => untrained(inputs),
        "Attention" => plain_attention(node, inputs),
        "Trilu" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
            let (index, least) = if name == "Trilu" { (1, -LIMIT) } else { (0, 1) };
            numbers(inputs, index, least, LIMIT)
        }
        "OneHot" => numbers(inputs, 1, 1, LIMIT),
        "Range" => (0..3).try_for_each(|index| numbers(inputs, index, -RANGE_MAX, RANGE_MAX)),
        "Slice" => {
            numbers(inputs, 3, -RANK, RANK - 1)?;
            numbers(inputs, 4, -STEP_MAX, STEP_MAX)
        }
        "Pad" => numbers(inputs, 3, -RANK, RANK - 1),
        "CumSum" | "Squeeze" | "Unsqueeze" => numbers(inputs, 1, -RANK, RANK - 1),
        name if name.starts_with("Reduce") => numbers(inputs, 1, -RANK, RANK - 1),
        "Mod" | "Div" => divisors(inputs),
        "BitShift" => shifts(inputs),
        "Neg" | "Abs" => numbers(inputs, 0, -i64::MAX, i64::MAX),
        "Pow" => powers(inputs),
        "GatherElements" | "Scatter" | "ScatterElements" => elements_at(node, inputs),
        "GatherND" | "ScatterND" => places_at(inputs),
        "MatMulNBits" | "GatherBlockQuantized" if int(node, "block_size").is_some_and(|size| size < 16) => {
            Err(Fault::broken("its blocks have fewer than 16 numbers"))
        }
        _ => Ok(()),
    }
}

/// A dropout that drops nothing.
fn untrained(inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let Some(mode) = inputs.at(2).filter(|mode| mode.shape.is_some() || mode.tensor.is_some()) else { return Ok(()) };
    let is_false = |tensor: &&TensorProto| tensor.raw_data == [0] || tensor.int32_data == [0];
    if mode.tensor.as_ref().is_some_and(is_false) {
        return Ok(());
    }
    Err(Fault::new(
        "it may be in training mode, in which it answers by chance",
        "export the model for inference (PyTorch: model.eval(); ONNX: training_mode false)",
    ))
}

/// Attention as it was before operator set 24: tract leaves what came later out without a word.
fn plain_attention(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let has_window =
        ["left_window_size", "right_window_size"].iter().any(|name| int(node, name).is_some_and(|n| n >= 0));
    let has_past =
        inputs.0.iter().skip(4).any(|past| past.shape.is_some()) || node.input.iter().skip(4).any(|n| !n.is_empty());
    if has_window || (has_past && int(node, "is_causal") == Some(1)) {
        return Err(Fault::new(
            "attention within a window, or causal attention that goes on from a past, is not supported",
            "export for operator set 18, where attention is written out in MatMul and Softmax",
        ));
    }
    Ok(())
}

/// The most dimensions, as a signed number.
const RANK: i64 = RANK_MAX.cast_signed() as i64;
/// The most elements, as a signed number.
const LIMIT: i64 = ELEMENTS_MAX.cast_signed();
/// Greatest number in a range: tract adds a step to it.
const RANGE_MAX: i64 = 1 << 40;
/// Greatest step of a slice: tract keeps it in 32 bits.
const STEP_MAX: i64 = (1 << 31) - 1;

/// Stored numbers of an input lie between these.
fn numbers(inputs: Inputs<'_, '_>, index: usize, least: i64, most: i64) -> Result<(), Fault> {
    match inputs.numbers(index).unwrap_or_default().iter().find(|number| !(least..=most).contains(*number)) {
        Some(number) => Err(Fault::broken(format!("input {index} holds {number}: {least} to {most} is supported"))),
        None => Ok(()),
    }
}

fn largest(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let Some(count) = inputs.numbers(1).and_then(|count| count.first()).copied().or(int(node, "k")) else {
        return Ok(());
    };
    let shape = inputs.shape(0).unwrap_or_default();
    let size = if shape.is_empty() {
        None
    } else {
        shape.get(axis(int(node, "axis").unwrap_or(-1), shape.len())?).copied().flatten()
    };
    let most = size.and_then(|size| i64::try_from(size).ok()).unwrap_or(LIMIT);
    if (0..=most).contains(&count) {
        return Ok(());
    }
    Err(Fault::broken(format!("the {count} greatest of {most}")))
}

fn divisors(inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    numbers(inputs, 1, -STEP_MAX, STEP_MAX)?;
    let stored = inputs.at(1).and_then(|fact| fact.tensor).and_then(tensors::whole);
    let known = stored.or_else(|| inputs.numbers(1).map(<[i64]>::to_vec)).unwrap_or_default();
    if known.contains(&0) { Err(Fault::broken("it divides integers by 0")) } else { Ok(()) }
}

fn shifts(inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let Some(tensor) = inputs.at(1).and_then(|fact| fact.tensor) else { return Ok(()) };
    let bits = tensors::bits(tensor.data_type);
    match tensors::whole(tensor).unwrap_or_default().into_iter().find(|shift| !(0..bits).contains(shift)) {
        Some(shift) => Err(Fault::broken(format!("it shifts {bits} bits by {shift}"))),
        None => Ok(()),
    }
}

fn powers(inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let (Some(bases), Some(powers)) = (inputs.numbers(0), inputs.numbers(1)) else { return Ok(()) };
    for base in bases {
        for power in powers {
            let is_held = u32::try_from(*power).ok().and_then(|power| base.checked_pow(power)).is_some();
            if !is_held {
                return Err(Fault::broken(format!("{base} to the power of {power} is no integer of 64 bits")));
            }
        }
    }
    Ok(())
}

/// Stored indices along one axis.
fn elements_at(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(()) };
    let along = axis(int(node, "axis").unwrap_or(0), shape.len())?;
    let size = shape.get(along).copied().flatten().and_then(|size| i64::try_from(size).ok()).unwrap_or(LIMIT);
    numbers(inputs, 1, -size, size - 1)
}

/// Stored places: the last dimension of the indices holds one for each of the first axes, and tract
/// does not count them from the end.
fn places_at(inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    let (Some(shape), Some(places)) = (inputs.shape(0), inputs.shape(1)) else { return Ok(()) };
    let depth = places.last().copied().flatten().and_then(|depth| usize::try_from(depth).ok()).unwrap_or(0);
    if depth > shape.len() {
        return Err(Fault::broken(format!("places of {depth} numbers in {}", shown(shape))));
    }
    let sizes = shape.iter().take(depth).map(|size| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(LIMIT));
    for (place, size) in inputs.numbers(1).unwrap_or_default().iter().zip(sizes.collect::<Vec<_>>().iter().cycle()) {
        if !(0..*size).contains(place) {
            return Err(Fault::broken(format!("a place at {place} of {}", shown(shape))));
        }
    }
    Ok(())
}
