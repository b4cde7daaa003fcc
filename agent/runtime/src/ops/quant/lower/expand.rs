//! Operators of `com.microsoft` that are a float operator between numbers made real and quantised
//! again: they become that, and what can be done on integers is found afterwards.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::graph::{FLOAT, Graph, int, node};

/// Rewrites every such operator; whether there was one.
pub(super) fn expand(graph: &mut Graph, opset: i64) -> bool {
    let mut made = Vec::with_capacity(graph.nodes.len());
    let mut is_changed = false;
    for node in std::mem::take(&mut graph.nodes).into_iter().flatten() {
        let wider = match node.op_type.as_str() {
            "DynamicQuantizeLSTM" => lstm(graph, &node).map(|lstm| vec![lstm]),
            _ => plain(graph, &node, opset),
        };
        is_changed |= wider.is_some();
        made.extend(wider.unwrap_or_else(|| vec![node]).into_iter().map(Some));
    }
    graph.nodes = made;
    graph.index();
    is_changed
}

/// Where the quantised inputs and the parameters of the output stand; each input is followed by its
/// scale and zero point.
struct Form {
    operator: &'static str,
    /// Inputs that are taken as they are, before the quantised ones.
    plain: Vec<String>,
    quantised: Vec<usize>,
    out_scale: usize,
}

fn form(node: &NodeProto) -> Option<Form> {
    let unary = |operator| Form { operator, plain: Vec::new(), quantised: vec![0], out_scale: 3 };
    Some(match node.op_type.as_str() {
        "QLinearSigmoid" => unary("Sigmoid"),
        "QLinearLeakyRelu" => unary("LeakyRelu"),
        "QLinearSoftmax" => unary("Softmax"),
        "QLinearAveragePool" => unary("AveragePool"),
        "QLinearGlobalAveragePool" => unary("GlobalAveragePool"),
        "QLinearConcat" => Form {
            operator: "Concat",
            plain: Vec::new(),
            quantised: (2..node.input.len()).step_by(3).collect(),
            out_scale: 0,
        },
        "QLinearWhere" => Form {
            operator: "Where",
            plain: node.input.iter().take(1).cloned().collect(),
            quantised: vec![1, 4],
            out_scale: 7,
        },
        _ => return None,
    })
}

fn plain(graph: &mut Graph, old: &NodeProto, opset: i64) -> Option<Vec<NodeProto>> {
    let form = form(old)?;
    let last = old.output.first()?;
    if form.operator == "Softmax" && !means_the_same(old, opset) {
        return None;
    }
    let input = |place: usize| old.input.get(place).cloned().unwrap_or_default();
    let mut made = Vec::new();
    let mut inputs = form.plain;
    for place in form.quantised {
        let real = graph.fresh(last);
        let mut dequantise = node("DequantizeLinear", &real, vec![input(place), input(place + 1)], &real);
        dequantise.input.extend(Some(input(place + 2)).filter(|zero| !zero.is_empty()));
        made.push(dequantise);
        inputs.push(real);
    }
    let real = graph.fresh(last);
    let mut float = node(form.operator, &old.name, inputs, &real);
    let is_own = |attribute: &&AttributeProto| {
        !matches!(attribute.name.as_str(), "opset" | "channels_last")
            && (attribute.name != "axis" || matches!(form.operator, "Softmax" | "Concat"))
    };
    float.attribute = old.attribute.iter().filter(is_own).cloned().collect();
    made.push(float);
    let mut quantise = node("QuantizeLinear", last, vec![real, input(form.out_scale)], last);
    quantise.input.extend(Some(input(form.out_scale + 1)).filter(|zero| !zero.is_empty()));
    made.push(quantise);
    Some(made)
}

/// Whether Softmax goes along the same axes in the operator set that the node names and in the model's.
fn means_the_same(node: &NodeProto, opset: i64) -> bool {
    let own = int(node, "opset").unwrap_or(13);
    (own < 13) == (opset < 13) || int(node, "axis").unwrap_or(-1) == -1
}

/// An LSTM whose weights are stored in 8 bits becomes one with stored floats.
fn lstm(graph: &mut Graph, old: &NodeProto) -> Option<NodeProto> {
    let name = |place: usize| old.input.get(place).cloned().unwrap_or_default();
    let weights = real_and_turned(graph, &name(1), &name(8), &name(9))?;
    let recurrent = real_and_turned(graph, &name(2), &name(10), &name(11))?;
    let mut lstm = old.clone();
    lstm.op_type = "LSTM".to_owned();
    lstm.domain.clear();
    lstm.input.truncate(8);
    let [_, first, second, ..] = lstm.input.as_mut_slice() else { return None };
    *first = graph.store(weights, "weights");
    *second = graph.store(recurrent, "recurrent");
    while lstm.input.last().is_some_and(String::is_empty) {
        lstm.input.pop();
    }
    Some(lstm)
}

/// `[directions, inputs, gates]` of 8 bits as `[directions, gates, inputs]` of floats.
fn real_and_turned(graph: &Graph, name: &str, scale: &str, zero: &str) -> Option<TensorProto> {
    let [directions, inputs, gates] = graph.stored(name)?.dims[..] else { return None };
    let size = |size: i64| usize::try_from(size).ok().filter(|size| *size > 0);
    let (directions, inputs, gates) = (size(directions)?, size(inputs)?, size(gates)?);
    let numbers = graph.integers(name)?;
    let (scales, zeros) = (graph.floats(scale)?, graph.integers(zero).unwrap_or_else(|| vec![0]));
    // One for all, for each direction, or for each gate of each direction.
    let of = |count: usize, direction: usize, gate: usize| match count {
        1 => Some(0),
        _ if count == directions => Some(direction),
        _ if count == directions * gates => Some(direction * gates + gate),
        _ => None,
    };
    let mut floats = Vec::with_capacity(numbers.len());
    for direction in 0..directions {
        for gate in 0..gates {
            let scale = *scales.get(of(scales.len(), direction, gate)?)?;
            let zero = *zeros.get(of(zeros.len(), direction, gate)?)?;
            for input in 0..inputs {
                let number = numbers.get((direction * inputs + input) * gates + gate)?;
                floats.push(number.wrapping_sub(zero) as f32 * scale);
            }
        }
    }
    let dims = [directions, gates, inputs].map(|size| i64::try_from(size).unwrap_or(0)).to_vec();
    Some(TensorProto { data_type: FLOAT, dims, float_data: floats, ..TensorProto::default() })
}
