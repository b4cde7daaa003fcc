//! What the engine leaves to the CPU, as models of their own: what comes before it, and what comes behind.

use std::collections::BTreeSet;

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

use super::model::{INT8, UINT8};
use super::{Lifted, Port};

/// Names of the values between CPU and engine: theirs in the model may be such as no tensor may have.
const TO_ENGINE: &str = "to_engine";
const FROM_ENGINE: &str = "from_engine";

/// The parts of a model that stay on the CPU; none where there is nothing to do.
pub(super) struct Halves {
    pub(super) before: Option<ModelProto>,
    pub(super) after: Option<ModelProto>,
}

/// Cuts a model where the engine begins and ends.
pub(super) fn cut(model: &ModelProto, lifted: &Lifted) -> Halves {
    let Some(graph) = &model.graph else { return Halves { before: None, after: None } };
    let (input, output) = (&lifted.input, &lifted.output);
    let is_stored = |value: &ValueInfoProto| graph.initializer.iter().any(|tensor| tensor.name == value.name);
    let inputs: Vec<ValueInfoProto> = graph.input.iter().filter(|value| !is_stored(value)).cloned().collect();
    let rows = inputs.first().and_then(first_size);
    let is_input = inputs.iter().any(|value| value.name == input.value);
    let is_output = graph.output.iter().any(|value| value.name == output.value);
    let before = (!is_input).then(|| {
        let mut part = part(graph, None, &[input.value.as_str()]);
        rename(&mut part, &input.value, TO_ENGINE);
        part.input = inputs;
        part.output = vec![port(input, TO_ENGINE, rows.clone())];
        with(model, part)
    });
    let after = (!is_output).then(|| {
        let wanted: Vec<&str> = graph.output.iter().map(|value| value.name.as_str()).collect();
        let mut part = part(graph, Some(&output.value), &wanted);
        rename(&mut part, &output.value, FROM_ENGINE);
        part.input = vec![port(output, FROM_ENGINE, rows)];
        part.output.clone_from(&graph.output);
        with(model, part)
    });
    Halves { before, after }
}

fn with(model: &ModelProto, graph: GraphProto) -> ModelProto {
    ModelProto { graph: Some(graph), ..model.clone() }
}

/// The nodes that make the wanted values, as far back as `from`, with what is stored for them.
fn part(graph: &GraphProto, from: Option<&str>, wanted: &[&str]) -> GraphProto {
    let mut needed: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut nodes: Vec<NodeProto> = Vec::new();
    for node in graph.node.iter().rev() {
        let is_needed = |output: &String| needed.contains(output.as_str()) && from != Some(output);
        if node.output.iter().any(is_needed) {
            needed.extend(node.input.iter().map(String::as_str));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let initializer =
        graph.initializer.iter().filter(|tensor| needed.contains(tensor.name.as_str())).cloned().collect();
    GraphProto { name: graph.name.clone(), node: nodes, initializer, ..GraphProto::default() }
}

fn rename(graph: &mut GraphProto, from: &str, to: &str) {
    for node in &mut graph.node {
        for name in node.input.iter_mut().chain(&mut node.output).filter(|name| *name == from) {
            to.clone_into(name);
        }
    }
}

fn port(port: &Port, name: &str, rows: Option<Dimension>) -> ValueInfoProto {
    let size = |size: &usize| Dimension {
        value: Some(dimension::Value::DimValue(i64::try_from(*size).unwrap_or(i64::MAX))),
        ..Dimension::default()
    };
    let dim = std::iter::once(rows.unwrap_or_default()).chain(port.sizes.iter().map(size)).collect();
    let tensor = type_proto::Tensor {
        elem_type: if port.quantised.is_unsigned { UINT8 } else { INT8 },
        shape: Some(TensorShapeProto { dim }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn first_size(value: &ValueInfoProto) -> Option<Dimension> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref()?.value.as_ref() else { return None };
    tensor.shape.as_ref()?.dim.first().cloned()
}
