//! Operators that move, repeat, cut or reduce elements.

use tract_onnx::pb::NodeProto;

use super::attributes::{int, ints};
use super::shapes::{Inputs, Shape, axis, broadcast, elements, shown};
use super::{Fault, RANK_MAX, product, tensors};

/// The shape of the first output; `None` if it is not computed here.
pub(super) fn shape(node: &NodeProto, inputs: Inputs<'_, '_>, opset: i64) -> Result<Option<Shape>, Fault> {
    match node.op_type.as_str() {
        "Concat" => concat(node, inputs),
        "Reshape" => reshape(inputs),
        "Expand" => {
            let Some(sizes) = inputs.numbers(1) else { return Ok(None) };
            let sizes: Shape = tensors::sizes(sizes)?.into_iter().map(Some).collect();
            broadcast([inputs.shape(0), Some(&sizes)].into_iter())
        }
        "Tile" => tile(inputs),
        "Pad" => pad(node, inputs),
        "Resize" => resize(inputs),
        "Transpose" => transpose(node, inputs),
        "Flatten" => flatten(node, inputs),
        "Squeeze" | "Unsqueeze" => axes_changed(node, inputs),
        "Gather" => gather(node, inputs),
        "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" | "QLinearGlobalAveragePool" => {
            let Some(shape) = inputs.shape(0) else { return Ok(None) };
            if shape.len() < 3 {
                return Err(Fault::broken(format!("{} has no space to pool", shown(shape))));
            }
            Ok(Some(shape.iter().enumerate().map(|(index, size)| if index < 2 { *size } else { Some(1) }).collect()))
        }
        "DepthToSpace" | "SpaceToDepth" => blocks(node, inputs),
        "Split" => split(node, inputs),
        "Slice" => slice(node, inputs),
        "TopK" | "ArgMax" | "ArgMin" | "Compress" | "GatherElements" => {
            let default = if node.op_type == "TopK" { -1 } else { 0 };
            if let Some(shape) = inputs.shape(0).filter(|shape| !shape.is_empty()) {
                axis(int(node, "axis").unwrap_or(default), shape.len())?;
            }
            Ok(None)
        }
        name if name.starts_with("Reduce") => reduce(node, inputs, opset),
        _ => Ok(None),
    }
}

pub(super) fn concat(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(first) = inputs.shape(0) else { return Ok(None) };
    let along = axis(int(node, "axis").unwrap_or(1), first.len())?;
    let mut joint = first.to_vec();
    for index in 1..inputs.0.len() {
        let Some(shape) = inputs.shape(index) else { return Ok(None) };
        if shape.len() != joint.len() {
            return Err(Fault::broken(format!("{} is joined with {}", shown(first), shown(shape))));
        }
        for (place, (size, other)) in joint.iter_mut().zip(shape).enumerate() {
            match (&size, other) {
                _ if place == along => *size = size.zip(*other).map(|(a, b)| a.saturating_add(b)),
                (Some(a), Some(b)) if a != b => {
                    return Err(Fault::broken(format!("{} is joined with {}", shown(first), shown(shape))));
                }
                (None, Some(_)) => *size = *other,
                _ => {}
            }
        }
    }
    Ok(Some(joint))
}

/// How many times more rows a size that varies stands for after this node.
pub(super) fn factor(node: &NodeProto, inputs: Inputs<'_, '_>) -> u64 {
    let most = inputs.0.iter().map(|fact| fact.factor).max().unwrap_or(1);
    match node.op_type.as_str() {
        "Concat" | "QLinearConcat" => {
            // Between quantised tensors stand their scales and zero points.
            let (first, step) = if node.op_type == "Concat" { (0, 1) } else { (2, 3) };
            let parts = || inputs.0.iter().skip(first).step_by(step);
            let rank = inputs.shape(first).map_or(0, <[_]>::len);
            let along = axis(int(node, "axis").unwrap_or(1), rank).unwrap_or(0);
            let is_open = parts().any(|fact| fact.size(along).is_none());
            let sum = parts().fold(0u64, |sum, fact| sum.saturating_add(fact.factor));
            if is_open { sum } else { most }
        }
        "Tile" => {
            let (shape, repeats) = (inputs.shape(0).unwrap_or_default(), inputs.numbers(1).unwrap_or_default());
            let open = shape.iter().zip(repeats).filter(|(size, _)| size.is_none());
            product(open.map(|(_, times)| u64::try_from(*times).unwrap_or(1).max(1))).saturating_mul(most)
        }
        "Pad" => {
            let pads = inputs.numbers(1).unwrap_or_default().iter().copied().max().unwrap_or(0);
            let is_open = inputs.shape(0).is_some_and(|shape| shape.iter().any(Option::is_none));
            if is_open { u64::try_from(pads).unwrap_or(0).saturating_add(1).saturating_mul(most) } else { most }
        }
        "Gather" | "Slice" | "Shape" | "Size" | "TopK" | "ArgMax" | "ArgMin" | "Split" => 1,
        name if name.starts_with("Reduce") || name.starts_with("Global") => 1,
        _ => most,
    }
}

fn reshape(inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(numbers) = inputs.numbers(1) else { return Ok(None) };
    if numbers.len() > RANK_MAX {
        return Err(Fault::broken(format!("it makes {} dimensions: at most {RANK_MAX}", numbers.len())));
    }
    if numbers.iter().filter(|size| **size == -1).count() > 1 || numbers.iter().any(|size| *size < -1) {
        return Err(Fault::broken(format!("{numbers:?} is no shape")));
    }
    let from = inputs.shape(0);
    let mut shape: Shape = Vec::with_capacity(numbers.len());
    for (place, size) in numbers.iter().enumerate() {
        shape.push(match u64::try_from(*size) {
            Ok(0) => match from {
                Some(from) if place >= from.len() => {
                    return Err(Fault::broken(format!("{numbers:?} keeps a dimension that {} lacks", shown(from))));
                }
                Some(from) => from.get(place).copied().flatten(),
                None => None,
            },
            Ok(size) => Some(size),
            Err(_) => None,
        });
    }
    let Some(from) = from.filter(|from| from.iter().all(Option::is_some)) else { return Ok(Some(shape)) };
    let (had, rest) = (elements(from), product(shape.iter().map(|size| size.unwrap_or(1))));
    let open = numbers.iter().position(|size| *size == -1);
    match open {
        Some(at) if rest > 0 && had.is_multiple_of(rest) => {
            if let Some(size) = shape.get_mut(at) {
                *size = Some(had / rest);
            }
            Ok(Some(shape))
        }
        None if had == rest => Ok(Some(shape)),
        _ => Err(Fault::broken(format!("{} cannot be given the shape {numbers:?}", shown(from)))),
    }
}

fn tile(inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let (Some(shape), Some(repeats)) = (inputs.shape(0), inputs.numbers(1)) else { return Ok(None) };
    if repeats.len() != shape.len() {
        return Err(Fault::broken(format!("{} repeats for {}", repeats.len(), shown(shape))));
    }
    let repeats = tensors::sizes(repeats)?;
    let times = |(size, times): (&Option<u64>, u64)| size.map(|size| size.saturating_mul(times));
    Ok(Some(shape.iter().zip(repeats).map(times).collect()))
}

fn pad(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let Some(pads) = inputs.numbers(1).or_else(|| ints(node, "pads")) else { return Ok(None) };
    let axes: Vec<usize> = match inputs.numbers(3) {
        Some(axes) => axes.iter().map(|value| axis(*value, shape.len())).collect::<Result<_, _>>()?,
        None if inputs.at(3).is_some_and(|axes| axes.shape.is_some()) => return Ok(None),
        None => (0..shape.len()).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|pad| *pad < 0) {
        return Err(Fault::broken(format!("pads {pads:?} for {} axes: two for each, none negative", axes.len())));
    }
    let pads = pads.iter().map(|pad| u64::try_from(*pad).unwrap_or(0));
    let mut padded = shape.to_vec();
    for (along, pad) in axes.iter().chain(&axes).zip(pads) {
        if let Some(Some(size)) = padded.get_mut(*along) {
            *size = size.saturating_add(pad);
        }
    }
    Ok(Some(padded))
}

fn resize(inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    if let Some(sizes) = inputs.numbers(3).filter(|sizes| !sizes.is_empty()) {
        if sizes.len() != shape.len() {
            return Err(Fault::broken(format!("{} sizes for {}", sizes.len(), shown(shape))));
        }
        return Ok(Some(tensors::sizes(sizes)?.into_iter().map(Some).collect()));
    }
    // Up to operator set 10 the scales are the second input.
    let scales = [2, 1].into_iter().filter_map(|index| inputs.at(index)?.tensor.and_then(tensors::floats));
    let Some(scales) = scales.into_iter().find(|scales| !scales.is_empty()) else { return Ok(None) };
    if scales.len() != shape.len() || scales.iter().any(|scale| !(scale.is_finite() && *scale > 0.0)) {
        return Err(Fault::broken(format!("scales {scales:?} for {}", shown(shape))));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    let scaled = |(size, scale): (&Option<u64>, f32)| size.map(|size| (size as f64 * f64::from(scale)) as u64);
    Ok(Some(shape.iter().zip(scales).map(scaled).collect()))
}

fn transpose(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let Some(perm) = ints(node, "perm") else { return Ok(Some(shape.iter().rev().copied().collect())) };
    if perm.len() != shape.len() {
        return Err(Fault::broken(format!("`perm` has {} entries for {}", perm.len(), shown(shape))));
    }
    let at = |place: &i64| usize::try_from(*place).ok().and_then(|place| shape.get(place).copied()).flatten();
    Ok(Some(perm.iter().map(at).collect()))
}

fn flatten(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    // One past the end is lawful here.
    let value = int(node, "axis").unwrap_or(1);
    let along = if usize::try_from(value) == Ok(shape.len()) { shape.len() } else { axis(value, shape.len())? };
    let (rows, columns) = shape.split_at_checked(along).unwrap_or((shape, &[]));
    let joint = |sizes: &[Option<u64>]| sizes.iter().all(Option::is_some).then(|| elements(sizes));
    Ok(Some(vec![joint(rows), joint(columns)]))
}

/// Axes as an attribute, or as an input since operator set 13.
fn axes_of(node: &NodeProto, inputs: Inputs<'_, '_>, rank: usize) -> Result<Option<Vec<usize>>, Fault> {
    let given = ints(node, "axes").or_else(|| inputs.numbers(1));
    given.map(|axes| axes.iter().map(|value| axis(*value, rank)).collect::<Result<Vec<_>, _>>()).transpose()
}

fn axes_changed(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let more = if node.op_type == "Unsqueeze" {
        let axes = ints(node, "axes").or_else(|| inputs.numbers(1));
        axes.map_or(0, <[i64]>::len)
    } else {
        0
    };
    if shape.len() + more > RANK_MAX {
        return Err(Fault::broken(format!("it makes {} dimensions: at most {RANK_MAX}", shape.len() + more)));
    }
    let Some(mut axes) = axes_of(node, inputs, shape.len() + more)? else { return Ok(None) };
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Fault::broken("it names an axis twice"));
    }
    let mut changed = shape.to_vec();
    if more > 0 {
        axes.iter().for_each(|along| changed.insert((*along).min(changed.len()), Some(1)));
        return Ok(Some(changed));
    }
    for along in axes.iter().rev() {
        if changed.remove(*along).is_some_and(|size| size != 1) {
            return Err(Fault::broken(format!("axis {along} of {} has not size 1", shown(shape))));
        }
    }
    Ok(Some(changed))
}

fn gather(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(data) = inputs.shape(0) else { return Ok(None) };
    let along = axis(int(node, "axis").unwrap_or(0), data.len())?;
    if let (Some(size), Some(indices)) = (data.get(along).copied().flatten(), inputs.numbers(1)) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if let Some(index) = indices.iter().find(|index| !(-size..size).contains(*index)) {
            return Err(Fault::broken(format!("index {index} is outside of axis {along} of {}", shown(data))));
        }
    }
    let Some(indices) = inputs.shape(1) else { return Ok(None) };
    let (before, after) = data.split_at_checked(along).unwrap_or((data, &[]));
    Ok(Some(before.iter().chain(indices).chain(after.iter().skip(1)).copied().collect()))
}

fn blocks(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let block = int(node, "blocksize").and_then(|block| u64::try_from(block).ok()).filter(|block| *block > 0);
    let (Some(block), [rows, depth, height, width]) = (block, shape) else {
        return Err(Fault::broken(format!("{} has not four dimensions, or there is no block size", shown(shape))));
    };
    let is_split = |size: &Option<u64>, by: u64| size.is_none_or(|size| size.is_multiple_of(by));
    let area = block.saturating_mul(block);
    let fits = if node.op_type == "DepthToSpace" {
        is_split(depth, area)
    } else {
        is_split(height, block) && is_split(width, block)
    };
    if !fits {
        return Err(Fault::broken(format!("{} cannot be cut into blocks of {block}", shown(shape))));
    }
    let (times, over) = (
        |size: &Option<u64>, by: u64| size.map(|size| size.saturating_mul(by)),
        |size: &Option<u64>, by: u64| size.map(|size| size / by),
    );
    Ok(Some(if node.op_type == "DepthToSpace" {
        vec![*rows, over(depth, area), times(height, block), times(width, block)]
    } else {
        vec![*rows, times(depth, area), over(height, block), over(width, block)]
    }))
}

fn split(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let along = axis(int(node, "axis").unwrap_or(0), shape.len())?;
    let Some(parts) = ints(node, "split").or_else(|| inputs.numbers(1)) else { return Ok(None) };
    let sizes: Vec<u64> = parts.iter().filter_map(|part| u64::try_from(*part).ok()).collect();
    let total = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
    let whole = shape.get(along).copied().flatten();
    if sizes.len() != parts.len() || sizes.len() != node.output.len() || whole.is_some_and(|whole| whole != total) {
        return Err(Fault::broken(format!(
            "{parts:?} does not split axis {along} of {} into {} outputs",
            shown(shape),
            node.output.len()
        )));
    }
    Ok(None)
}

fn slice(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let starts = ints(node, "starts").or_else(|| inputs.numbers(1));
    let ends = ints(node, "ends").or_else(|| inputs.numbers(2));
    let (Some(starts), Some(ends)) = (starts, ends) else { return Ok(None) };
    let axes = ints(node, "axes").or_else(|| inputs.numbers(3));
    let steps = inputs.numbers(4);
    let is_even = starts.len() == ends.len()
        && axes.is_none_or(|axes| axes.len() == starts.len())
        && steps.is_none_or(|steps| {
            steps.len() == starts.len() && steps.iter().all(|step| *step != 0 && *step != i64::MIN)
        });
    if !is_even || starts.len() > shape.len() {
        return Err(Fault::broken("its starts, ends, axes and steps are not as many, or a step is 0"));
    }
    if let Some(axes) = axes {
        axes.iter().try_for_each(|value| axis(*value, shape.len()).map(drop))?;
    }
    Ok(Some(vec![None; shape.len()]))
}

fn reduce(node: &NodeProto, inputs: Inputs<'_, '_>, opset: i64) -> Result<Option<Shape>, Fault> {
    let Some(shape) = inputs.shape(0) else { return Ok(None) };
    let axes = axes_of(node, inputs, shape.len())?;
    // Of what reduces by an input that is computed, only the number of dimensions may be known.
    if opset >= 13 && axes.is_none() && inputs.at(1).is_some() {
        return Ok(None);
    }
    if axes.as_ref().is_some_and(Vec::is_empty) && int(node, "noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(Some(shape.to_vec()));
    }
    let is_reduced = |index: &usize| axes.as_ref().is_none_or(|axes| axes.is_empty() || axes.contains(index));
    let keeps = int(node, "keepdims").unwrap_or(1) != 0;
    let sizes = shape.iter().enumerate().filter_map(|(index, size)| match (is_reduced(&index), keeps) {
        (true, true) => Some(Some(1)),
        (true, false) => None,
        (false, _) => Some(*size),
    });
    Ok(Some(sizes.collect()))
}
