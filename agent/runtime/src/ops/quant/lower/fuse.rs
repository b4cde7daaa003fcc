//! Products between numbers made real and quantised again become products of integers.
//!
//! ```text
//!  x ─ DequantizeLinear ─┐
//!  w ─ DequantizeLinear ─┼─ Conv, MatMul or Gemm ─ (Relu or Clip) ─ QuantizeLinear ─ y
//!  b ─ DequantizeLinear ─┘                          nothing from here on: floats come out
//!
//!  x ─ DynamicQuantizeLinear ─ MatMulInteger ─ Cast ─ Mul (of both scales) ─ (Add b) ─ y
//! ```

use tract_onnx::pb::{AttributeProto, NodeProto};

use super::graph::{FLOAT, Graph, INT8, INT32, Scaled, UINT8, float, int, node, with_float, with_int};

/// Fuses every product that is computed of stored weights; whether there was one.
pub(super) fn products(graph: &mut Graph) -> bool {
    let mut is_changed = false;
    for place in 0..graph.nodes.len() {
        let Some(Some(old)) = graph.nodes.get(place) else { continue };
        if matches!(old.op_type.as_str(), "Conv" | "MatMul" | "Gemm")
            && let Some(fused) = product(graph, place, old)
        {
            fused.places.iter().for_each(|place| graph.remove(*place));
            graph.replace(fused.last, fused.node);
            is_changed = true;
        }
    }
    is_changed
}

/// A node, the place where it stands, and the places of those that it replaces.
struct Fused {
    node: NodeProto,
    last: usize,
    places: Vec<usize>,
}

/// The weights of a product: stored value, scales and zero points.
struct Weights {
    value: String,
    scale: String,
    zero: String,
    scales: Vec<f32>,
}

fn product(graph: &Graph, place: usize, old: &NodeProto) -> Option<Fused> {
    let data = graph.real(old.input.first()?).filter(|data| is_byte(data.kind))?;
    let (operator, axis) = match old.op_type.as_str() {
        "Conv" => ("FusedConv", 0),
        "MatMul" => ("FusedGemm", 1),
        _ => {
            let is_one = |name: &str| float(old, name).is_none_or(|factor| factor.to_bits() == 1.0_f32.to_bits());
            let is_plain = is_one("alpha") && is_one("beta") && int(old, "transA").unwrap_or(0) == 0;
            if !is_plain {
                return None;
            }
            ("FusedGemm", if int(old, "transB").unwrap_or(0) != 0 { 0 } else { 1 })
        }
    };
    let rank = if operator == "FusedConv" { None } else { Some(2) };
    let weights = weights(graph, old.input.get(1)?, axis, rank)?;
    let bias = match old.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => bias(graph, name, data.scale, &weights, operator)?,
        None => String::new(),
    };
    let ending = ending(graph, place, old)?;
    let mut inputs = vec![data.value, data.scale_name, data.zero_name, weights.value, weights.scale, weights.zero];
    inputs.push(bias);
    let mut fused = node(operator, &old.name, inputs, &ending.value);
    fused.attribute = old.attribute.iter().filter(|a| !matches!(a.name.as_str(), "alpha" | "beta")).cloned().collect();
    fused.attribute.extend(ending.cut);
    if let Some(out) = &ending.out {
        fused.input.extend([out.scale_name.clone(), out.zero_name.clone()]);
    }
    while fused.input.last().is_some_and(String::is_empty) {
        fused.input.pop();
    }
    Some(Fused { node: fused, last: ending.last, places: ending.places })
}

const fn is_byte(kind: i32) -> bool {
    matches!(kind, UINT8 | INT8)
}

/// Stored weights of 8 bits with one scale, or one for each output along an axis.
fn weights(graph: &Graph, name: &str, axis: usize, rank: Option<usize>) -> Option<Weights> {
    let (_, made) = graph.maker(name)?;
    if made.op_type != "DequantizeLinear" || int(made, "block_size").unwrap_or(0) != 0 {
        return None;
    }
    let (value, scale) = (made.input.first()?, made.input.get(1)?);
    let tensor = graph.stored(value).filter(|tensor| is_byte(tensor.data_type))?;
    let dims = tensor.dims.len();
    if rank.is_some_and(|rank| rank != dims) || (rank.is_none() && !(3..=4).contains(&dims)) {
        return None;
    }
    let scales = graph.floats(scale)?;
    let signed = i64::try_from(dims).ok()?;
    let along = int(made, "axis").unwrap_or(1);
    let along = usize::try_from(if along < 0 { along + signed } else { along }).ok()?;
    let is_whole = scales.len() == 1;
    if !is_whole && (along != axis || i64::try_from(scales.len()).ok() != tensor.dims.get(axis).copied()) {
        return None;
    }
    let zero = made.input.get(2).cloned().unwrap_or_default();
    if !zero.is_empty() && graph.integers(&zero)?.len() != scales.len() {
        return None;
    }
    Some(Weights { value: value.clone(), scale: scale.clone(), zero, scales })
}

/// The name of the bias: stored integers in the units of the sums, or floats of any kind.
fn bias(graph: &Graph, name: &str, data_scale: f32, weights: &Weights, operator: &str) -> Option<String> {
    let fits = |name: &str, kind: i32| {
        let tensor = graph.stored(name).filter(|tensor| tensor.data_type == kind)?;
        let is_list = match tensor.dims[..] {
            [] | [_] => true,
            [rows, _] => rows == 1 && operator == "FusedGemm",
            _ => false,
        };
        is_list.then_some(())
    };
    if let Some((_, made)) = graph.maker(name).filter(|(_, made)| made.op_type == "DequantizeLinear") {
        let (value, scale) = (made.input.first()?, made.input.get(1)?);
        let zero = made.input.get(2).map_or(Some(vec![0]), |zero| graph.integers(zero))?;
        let scales = graph.floats(scale)?;
        let fit = |(scale, weight): (&f32, &f32)| (scale - data_scale * weight).abs() <= 1e-5 * scale.abs();
        let is_same = scales.len() == weights.scales.len() && scales.iter().zip(&weights.scales).all(fit);
        if zero.iter().all(|zero| *zero == 0) && is_same && fits(value, INT32).is_some() {
            return Some(value.clone());
        }
        // The reals that it makes are stored as well.
        return fits(value, INT32).or_else(|| fits(value, INT8)).map(|()| name.to_owned());
    }
    fits(name, FLOAT).map(|()| name.to_owned())
}

/// What follows a product: an activation that cuts, and a quantisation.
struct Ending {
    /// The value that comes out.
    value: String,
    /// How it is quantised, if it is.
    out: Option<Scaled>,
    cut: Vec<AttributeProto>,
    /// Where it is made, and the places of the product and of what follows it.
    last: usize,
    places: Vec<usize>,
}

fn ending(graph: &Graph, place: usize, product: &NodeProto) -> Option<Ending> {
    let quantised = |node: &NodeProto| graph.quantised(node).filter(|out| is_byte(out.kind));
    let mut ending =
        Ending { value: product.output.first()?.clone(), out: None, cut: Vec::new(), last: place, places: vec![place] };
    let Some((mut next, mut reader)) = graph.only_reader(product) else { return Some(ending) };
    let (mut low, mut high) = (None, None);
    if let Some(found) = bounds(graph, reader) {
        (low, high) = found;
        ending.value.clone_from(reader.output.first()?);
        ending.last = next;
        ending.places.push(next);
        ending.cut = [("floor", low), ("ceiling", high)]
            .into_iter()
            .filter_map(|(name, real)| Some(with_float(name, real?)))
            .collect();
        let Some(after) = graph.only_reader(reader) else { return Some(ending) };
        (next, reader) = after;
    }
    if let Some(out) = quantised(reader) {
        #[expect(clippy::cast_possible_truncation, reason = "it saturates, and is clamped to a byte later")]
        let number = |real: f32| i64::from(((real / out.scale).round_ties_even() as i32).saturating_add(out.zero));
        ending.cut = [("low", low), ("high", high)]
            .into_iter()
            .filter_map(|(name, real)| Some(with_int(name, number(real?))))
            .collect();
        ending.value.clone_from(&out.value);
        ending.last = next;
        ending.places.push(next);
        ending.out = Some(out);
    }
    Some(ending)
}

/// Least and greatest real of an activation that does nothing but cut.
fn bounds(graph: &Graph, node: &NodeProto) -> Option<(Option<f32>, Option<f32>)> {
    match node.op_type.as_str() {
        "Relu" => Some((Some(0.0), None)),
        "Clip" => {
            let bound = |place: usize, name: &str| match node.input.get(place).filter(|input| !input.is_empty()) {
                Some(input) => match graph.floats(input)?[..] {
                    [bound] if !bound.is_nan() => Some(Some(bound)),
                    _ => None,
                },
                None => Some(float(node, name).filter(|bound| !bound.is_nan())),
            };
            Some((bound(1, "min")?, bound(2, "max")?))
        }
        _ => None,
    }
}

/// Fuses products of numbers that are quantised as they come; whether there was one.
pub(super) fn dynamic(graph: &mut Graph) -> bool {
    let mut is_changed = false;
    for place in 0..graph.nodes.len() {
        let Some(Some(old)) = graph.nodes.get(place) else { continue };
        if old.op_type == "MatMulInteger"
            && let Some(fused) = dynamic_product(graph, place, old)
        {
            fused.places.iter().for_each(|place| graph.remove(*place));
            graph.replace(fused.last, fused.node);
            is_changed = true;
        }
    }
    is_changed
}

fn dynamic_product(graph: &Graph, place: usize, old: &NodeProto) -> Option<Fused> {
    let (_, range) = graph.maker(old.input.first()?)?;
    let [bytes, data_scale, data_zero] = range.output.as_slice() else { return None };
    let is_dynamic = range.op_type == "DynamicQuantizeLinear"
        && Some(bytes) == old.input.first()
        && Some(data_zero) == old.input.get(2);
    let weight = old.input.get(1)?;
    if !is_dynamic || graph.stored(weight)?.dims.len() != 2 {
        return None;
    }
    let (cast_place, cast) = graph.only_reader(old)?;
    if cast.op_type != "Cast" || int(cast, "to") != Some(i64::from(FLOAT)) {
        return None;
    }
    let (mul_place, mul) = graph.only_reader(cast).filter(|(_, mul)| mul.op_type == "Mul")?;
    let scales = mul.input.iter().find(|name| Some(*name) != cast.output.first())?;
    let (_, both) = graph.maker(scales).filter(|(_, both)| both.op_type == "Mul")?;
    let weight_scale = both.input.iter().find(|name| *name != data_scale)?;
    if !both.input.contains(data_scale) || !is_list(graph, weight_scale, FLOAT) {
        return None;
    }
    let mut places = vec![place, cast_place, mul_place];
    let (mut last, mut output, mut bias) = (mul_place, mul.output.first()?.clone(), String::new());
    if let Some((add_place, add)) = graph.only_reader(mul).filter(|(_, add)| add.op_type == "Add") {
        let other = add.input.iter().find(|name| Some(*name) != mul.output.first())?;
        if is_list(graph, other, FLOAT) && graph.floats(other).map(|list| list.len()) == columns(graph, weight) {
            places.push(add_place);
            (last, output, bias) = (add_place, add.output.first()?.clone(), other.clone());
        }
    }
    let mut cut = Vec::new();
    let end = graph.nodes.get(last)?.as_ref()?;
    if let Some((next, reader)) = graph.only_reader(end)
        && let Some((low, high)) = bounds(graph, reader)
    {
        cut.extend(low.map(|low| with_float("floor", low)));
        cut.extend(high.map(|high| with_float("ceiling", high)));
        places.push(next);
        (last, output) = (next, reader.output.first()?.clone());
    }
    let zero = old.input.get(3).cloned().unwrap_or_default();
    let inputs = vec![range.input.first()?.clone(), weight.clone(), weight_scale.clone(), zero, bias];
    let mut fused = node("FusedDynamicGemm", &old.name, inputs, &output);
    fused.attribute = cut;
    Some(Fused { node: fused, last, places })
}

fn columns(graph: &Graph, weight: &str) -> Option<usize> {
    usize::try_from(*graph.stored(weight)?.dims.last()?).ok()
}

/// Whether it is stored as one number or one list.
fn is_list(graph: &Graph, name: &str, kind: i32) -> bool {
    graph.stored(name).is_some_and(|tensor| tensor.data_type == kind && tensor.dims.len() <= 1)
}
