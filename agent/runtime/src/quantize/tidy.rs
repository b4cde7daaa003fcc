//! Brings a float graph to the form that is quantised: what means the same with fewer operators.
//!
//! ```text
//!  Constant                      ──> a stored tensor
//!  Identity, Dropout             ──> nothing
//!  Conv or Gemm, BatchNorm       ──> the product with other weights
//!  MaxPool or Reshape …, Relu    ──> Relu, MaxPool: the activation joins the product before it
//! ```

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::plan::{is_move, is_plain};
use super::weights::{channel_of, output_axis};
use crate::ops::quant::lower::graph::{FLOAT, Graph, float, int};

/// Type of a list of 64-bit integers, as in `TensorProto.DataType`.
const INT64: i32 = 7;
/// What the specification takes where `BatchNormalization` does not say.
const EPSILON: f32 = 1e-5;

/// Rewrites a graph that was validated.
pub(super) fn tidy(proto: &mut GraphProto) {
    constants(proto);
    let mut graph = Graph::new(proto);
    for place in 0..graph.nodes.len() {
        if pass_through(&mut graph, place) {
            graph.index();
        }
    }
    for place in 0..graph.nodes.len() {
        if normalised(&mut graph, place).is_some() {
            graph.index();
        }
    }
    for place in 0..graph.nodes.len() {
        let mut at = Some(place);
        while let Some(place) = at {
            at = sooner(&mut graph, place);
        }
    }
    graph.finish(proto, true);
}

/// Stores what `Constant` nodes hold.
fn constants(proto: &mut GraphProto) {
    let mut stored = Vec::new();
    let is_output = |tensor: &TensorProto| proto.output.iter().any(|output| output.name == tensor.name);
    proto.node.retain(|node| match constant(node).filter(|tensor| !is_output(tensor)) {
        Some(tensor) => {
            stored.push(tensor);
            false
        }
        None => true,
    });
    proto.initializer.extend(stored);
}

fn constant(node: &NodeProto) -> Option<TensorProto> {
    let ("Constant", [attribute], Some(name)) = (node.op_type.as_str(), &node.attribute[..], node.output.first())
    else {
        return None;
    };
    let list = |length: usize| i64::try_from(length).map(|length| vec![length]).ok();
    let mut tensor = match attribute.name.as_str() {
        "value" => attribute.t.clone()?,
        "value_float" => TensorProto { data_type: FLOAT, float_data: vec![attribute.f], ..TensorProto::default() },
        "value_floats" => TensorProto {
            data_type: FLOAT,
            dims: list(attribute.floats.len())?,
            float_data: attribute.floats.clone(),
            ..TensorProto::default()
        },
        "value_int" => TensorProto { data_type: INT64, int64_data: vec![attribute.i], ..TensorProto::default() },
        "value_ints" => TensorProto {
            data_type: INT64,
            dims: list(attribute.ints.len())?,
            int64_data: attribute.ints.clone(),
            ..TensorProto::default()
        },
        _ => return None,
    };
    tensor.name.clone_from(name);
    Some(tensor)
}

/// Takes out a node that changes nothing; whether it was one.
fn pass_through(graph: &mut Graph, place: usize) -> bool {
    let Some(Some(node)) = graph.nodes.get(place) else { return false };
    let ("Identity" | "Dropout", Some(from), [to]) = (node.op_type.as_str(), node.input.first(), &node.output[..])
    else {
        return false;
    };
    // One that makes an output gives it its name.
    if graph.is_kept(to) {
        return false;
    }
    let (from, to) = (from.clone(), to.clone());
    graph.remove(place);
    let inputs = graph.nodes.iter_mut().flatten().flat_map(|node| &mut node.input);
    inputs.filter(|name| **name == to).for_each(|name| name.clone_from(&from));
    true
}

/// Lets a product take over the normalisation that alone reads it.
fn normalised(graph: &mut Graph, place: usize) -> Option<()> {
    let node = graph.nodes.get(place)?.as_ref()?;
    if node.op_type != "BatchNormalization" || int(node, "training_mode").unwrap_or(0) != 0 || node.output.len() != 1 {
        return None;
    }
    let (before, product) = graph.maker(node.input.first()?)?;
    let is_fitting = matches!(product.op_type.as_str(), "Conv" | "Gemm") && is_plain(product);
    if !is_fitting || graph.only_reader(product).is_none_or(|(reader, _)| reader != place) {
        return None;
    }
    let parts: Vec<Vec<f32>> = (1..5).map(|at| graph.floats(node.input.get(at)?)).collect::<Option<_>>()?;
    let [scale, shift, mean, variance] = &parts[..] else { return None };
    let name = product.input.get(1)?;
    let dims = graph.stored(name)?.dims.clone();
    let (mut weights, axis) = (graph.floats(name)?, output_axis(product));
    let channels = usize::try_from(*dims.get(axis)?).ok()?;
    let bias = match product.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => graph.floats(name)?,
        None => vec![0.0; channels],
    };
    if parts.iter().chain([&bias]).any(|list| list.len() != channels) {
        return None;
    }
    let epsilon = f64::from(float(node, "epsilon").unwrap_or(EPSILON));
    let factor: Vec<f64> = (scale.iter().zip(variance))
        .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + epsilon).sqrt())
        .collect();
    #[expect(clippy::cast_possible_truncation, reason = "weights are of single precision")]
    for (at, weight) in weights.iter_mut().enumerate() {
        *weight = (f64::from(*weight) * factor.get(channel_of(at, &dims, axis)?)?) as f32;
    }
    #[expect(clippy::cast_possible_truncation, reason = "so are biases")]
    let bias = (bias.iter().zip(mean).zip(factor.iter().zip(shift)))
        .map(|((bias, mean), (factor, shift))| {
            ((f64::from(*bias) - f64::from(*mean)) * factor + f64::from(*shift)) as f32
        })
        .collect();
    let mut product = product.clone();
    product.output.clone_from(&node.output);
    let kept = |dims: Vec<i64>, float_data: Vec<f32>| TensorProto {
        data_type: FLOAT,
        dims,
        float_data,
        ..TensorProto::default()
    };
    let weights = graph.store(kept(dims, weights), name_of(&product, 1));
    let bias = graph.store(kept(vec![i64::try_from(channels).ok()?], bias), &weights);
    product.input.truncate(1);
    product.input.extend([weights, bias]);
    graph.remove(place);
    graph.replace(before, product);
    Some(())
}

fn name_of(node: &NodeProto, input: usize) -> &str {
    node.input.get(input).map_or("", String::as_str)
}

/// Lets an activation that cuts change places with what moves numbers before it, and keeps their order; where it
/// stands then.
fn sooner(graph: &mut Graph, place: usize) -> Option<usize> {
    let node = graph.nodes.get(place)?.as_ref()?;
    if !matches!(node.op_type.as_str(), "Relu" | "Clip") {
        return None;
    }
    let (before, mover) = graph.maker(node.input.first()?)?;
    if !is_move(mover) || graph.only_reader(mover).is_none_or(|(reader, _)| reader != place) {
        return None;
    }
    // Its bounds are made before both only if they are stored.
    if node.input.iter().skip(1).any(|name| !name.is_empty() && graph.stored(name).is_none()) {
        return None;
    }
    let (mut first, mut second) = (node.clone(), mover.clone());
    std::mem::swap(first.input.first_mut()?, second.input.first_mut()?);
    std::mem::swap(&mut first.output, &mut second.output);
    graph.replace(before, first);
    graph.replace(place, second);
    Some(before)
}
