//! What stands between numbers made real and quantised again, and is no product: functions of one number
//! become tables, sums and products of two tensors one operator, and what only moves numbers moves bytes.

use tract_onnx::Onnx;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto, type_proto,
};
use tract_onnx::prelude::{Framework as _, InferenceModelExt as _, IntoRunnable as _, IntoTValue as _, Tensor, tvec};

use super::super::number::{Target, floats};
use super::super::pointwise::{IS_SIGNED, TABLE};
use super::graph::{FLOAT, Graph, INT8, Scaled, UINT8, int, ints, node, with_int};

/// Functions of one number.
const FUNCTIONS: [&str; 30] = [
    "Abs",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

/// What moves numbers and looks at none, or looks at their order alone.
const MOVES: [&str; 6] = ["Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Rewrites every such node; whether there was one.
pub(super) fn rewrite(graph: &mut Graph, framework: &Onnx, model: &ModelProto) -> bool {
    let mut is_changed = false;
    for place in 0..graph.nodes.len() {
        let Some(Some(old)) = graph.nodes.get(place) else { continue };
        let Some(out) = graph.quantised(old).filter(|out| matches!(out.kind, UINT8 | INT8)) else { continue };
        let Some((maker, before)) = old.input.first().and_then(|name| graph.maker(name)) else { continue };
        let before = before.clone();
        let is_alone = graph.only_reader(&before).is_some_and(|(reader, _)| reader == place);
        let done = match before.op_type.as_str() {
            "DequantizeLinear" => again(graph, place, &out),
            _ if !is_alone || before.output.len() > 1 => None,
            "Add" | "Mul" => joined(graph, (maker, place), &before, &out),
            "Concat" => concat(graph, (maker, place), &before, &out),
            name if MOVES.contains(&name) => moved(graph, (maker, place), &before, &out),
            name if FUNCTIONS.contains(&name) => tabulated(graph, (maker, place), &before, &out, (framework, model)),
            _ => None,
        };
        is_changed |= done.is_some();
    }
    is_changed
}

fn is_byte(scaled: &Scaled) -> bool {
    matches!(scaled.kind, UINT8 | INT8)
}

fn is_same(one: &Scaled, other: &Scaled) -> bool {
    (one.scale.to_bits(), one.zero, one.kind) == (other.scale.to_bits(), other.zero, other.kind)
}

/// Numbers that are made real and quantised with other parameters.
fn again(graph: &mut Graph, place: usize, out: &Scaled) -> Option<()> {
    let quantise = graph.nodes.get(place)?.as_ref()?;
    let from = graph.real(quantise.input.first()?).filter(is_byte)?;
    let table = table(&from, out, |real| Some(real.to_vec()))?;
    graph.replace(place, lookup(&from.value, &out.value, table, out));
    Some(())
}

fn tabulated(
    graph: &mut Graph,
    (maker, place): (usize, usize),
    old: &NodeProto,
    out: &Scaled,
    (framework, model): (&Onnx, &ModelProto),
) -> Option<()> {
    let from = graph.real(old.input.first()?).filter(is_byte)?;
    let table = table(&from, out, |real| computed(graph, old, real, framework, model))?;
    graph.remove(maker);
    graph.replace(place, lookup(&from.value, &out.value, table, out));
    Some(())
}

fn lookup(from: &str, to: &str, table: Vec<u8>, out: &Scaled) -> NodeProto {
    let mut lookup = node("QuantisedLookup", to, vec![from.to_owned()], to);
    lookup.attribute.push(AttributeProto { name: TABLE.to_owned(), r#type: 3, s: table, ..AttributeProto::default() });
    lookup.attribute.push(with_int(IS_SIGNED, i64::from(out.kind == INT8)));
    lookup
}

/// The bytes that come out for the bytes 0 to 255.
fn table(from: &Scaled, out: &Scaled, function: impl FnOnce(&[f32]) -> Option<Vec<f32>>) -> Option<Vec<u8>> {
    let number = |byte: u8| if from.kind == INT8 { i32::from(byte.cast_signed()) } else { i32::from(byte) };
    let reals: Vec<f32> = (0..=u8::MAX).map(|byte| number(byte).wrapping_sub(from.zero) as f32 * from.scale).collect();
    let reals = function(&reals)?;
    let byte = |real: &f32| {
        if out.kind == INT8 {
            Target::of::<i8>(out.zero).number::<i8>(real / out.scale).cast_unsigned()
        } else {
            Target::of::<u8>(out.zero).number::<u8>(real / out.scale)
        }
    };
    (reals.len() == 256).then(|| reals.iter().map(byte).collect())
}

/// What the node makes of these numbers.
fn computed(graph: &Graph, old: &NodeProto, reals: &[f32], framework: &Onnx, model: &ModelProto) -> Option<Vec<f32>> {
    let mut alone = old.clone();
    let others = alone.input.iter().skip(1).filter(|name| !name.is_empty());
    let initializer = others.map(|name| graph.stored(name).cloned()).collect::<Option<Vec<_>>>()?;
    if initializer.iter().any(|tensor| tensor.dims.iter().any(|size| *size != 1)) {
        return None;
    }
    *alone.input.first_mut()? = "numbers".to_owned();
    *alone.output.first_mut()? = "results".to_owned();
    let size = tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(256)),
        ..tensor_shape_proto::Dimension::default()
    };
    let kind = type_proto::Tensor { elem_type: FLOAT, shape: Some(TensorShapeProto { dim: vec![size] }) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(kind)), ..TypeProto::default() };
    let value = |name: &str| ValueInfoProto { name: name.to_owned(), r#type: Some(kind.clone()), ..Default::default() };
    let function = ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.iter().map(|set| OperatorSetIdProto { ..set.clone() }).collect(),
        graph: Some(GraphProto {
            node: vec![alone],
            name: "function".to_owned(),
            initializer,
            input: vec![value("numbers")],
            output: vec![value("results")],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let plan = framework.model_for_proto_model(&function).ok()?.into_optimized().ok()?.into_runnable().ok()?;
    let outputs = plan.run(tvec![Tensor::from_shape(&[256], reals).ok()?.into_tvalue()]).ok()?;
    floats(outputs.first()?).ok()
}

/// A sum or product of two tensors of the type of the result.
fn joined(graph: &mut Graph, (maker, place): (usize, usize), old: &NodeProto, out: &Scaled) -> Option<()> {
    let (left, right) = (graph.real(old.input.first()?)?, graph.real(old.input.get(1)?)?);
    if left.kind != out.kind || right.kind != out.kind {
        return None;
    }
    let operator = if old.op_type == "Add" { "QLinearAdd" } else { "QLinearMul" };
    let mut inputs = Vec::with_capacity(8);
    for scaled in [left, right] {
        inputs.extend([scaled.value, scaled.scale_name, scaled.zero_name]);
    }
    inputs.extend([out.scale_name.clone(), out.zero_name.clone()]);
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    graph.remove(maker);
    graph.replace(place, node(operator, &old.name, inputs, &out.value));
    Some(())
}

/// Something that moves numbers, with the same parameters before and after.
fn moved(graph: &mut Graph, (maker, place): (usize, usize), old: &NodeProto, out: &Scaled) -> Option<()> {
    let from = graph.real(old.input.first()?).filter(|from| is_same(from, out))?;
    let mut moved = old.clone();
    *moved.input.first_mut()? = from.value;
    *moved.output.first_mut()? = out.value.clone();
    let has_plain_windows = int(old, "ceil_mode").unwrap_or(0) == 0
        && ints(old, "dilations").iter().all(|dilation| *dilation == 1)
        && matches!(ints(old, "kernel_shape").len(), 1 | 2);
    if old.op_type == "MaxPool" && has_plain_windows {
        moved.op_type = "QuantisedMaxPool".to_owned();
    }
    graph.remove(maker);
    graph.replace(place, moved);
    Some(())
}

/// Tensors that are joined end to end: those with other parameters than the result go through a table.
fn concat(graph: &mut Graph, (maker, place): (usize, usize), old: &NodeProto, out: &Scaled) -> Option<()> {
    let parts: Vec<Scaled> = old.input.iter().map(|name| graph.real(name).filter(is_byte)).collect::<Option<_>>()?;
    let mut joined = old.clone();
    *joined.output.first_mut()? = out.value.clone();
    if parts.iter().all(|part| is_same(part, out)) {
        joined.input = parts.into_iter().map(|part| part.value).collect();
        graph.remove(maker);
        graph.replace(place, joined);
        return Some(());
    }
    // One table before, in the place of the operator; more of them are left to what is quantised anyway.
    let others: Vec<usize> =
        parts.iter().enumerate().filter(|(_, part)| !is_same(part, out)).map(|(index, _)| index).collect();
    let [index] = others[..] else { return None };
    let part = parts.get(index)?;
    let table = table(part, out, |real| Some(real.to_vec()))?;
    let name = graph.fresh(&out.value);
    let before = lookup(&part.value, &name, table, out);
    joined.input = parts.iter().map(|part| part.value.clone()).collect();
    *joined.input.get_mut(index)? = name;
    graph.replace(maker, before);
    graph.replace(place, joined);
    Some(())
}
