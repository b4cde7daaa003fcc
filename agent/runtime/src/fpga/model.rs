//! A model's graph by names: who makes a value, who reads it, what is stored.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use super::LiftError;
use super::chain::Stop;
use super::quantised::Quantised;
use super::stored;
use crate::inspect::InspectError;
use crate::validate;

/// Element types, as in `TensorProto.DataType`.
pub(super) const FLOAT: i32 = 1;
pub(super) const UINT8: i32 = 2;
pub(super) const INT8: i32 = 3;
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

/// Operators that quantise by what comes, row by row.
const DYNAMIC: [&str; 6] = [
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulIntegerToFloat",
    "MatMulInteger",
    "ConvInteger",
];

/// A validated model.
pub(super) struct Model<'m> {
    pub(super) nodes: &'m [NodeProto],
    makers: BTreeMap<&'m str, &'m NodeProto>,
    readers: BTreeMap<&'m str, Vec<&'m NodeProto>>,
    stored: BTreeMap<&'m str, &'m TensorProto>,
    outputs: BTreeSet<&'m str>,
    sizes: BTreeMap<&'m str, Vec<Option<u64>>>,
    input: &'m ValueInfoProto,
}

impl<'m> Model<'m> {
    /// Validates a model; refuses what has nothing for the engine.
    pub(super) fn new(proto: &'m ModelProto) -> Result<Self, LiftError> {
        let sizes = validate::shapes(proto).map_err(InspectError::from)?;
        let Some(graph) = &proto.graph else {
            return Err(InspectError::NotOnnx("it has no graph").into());
        };
        let mut model = Self {
            nodes: &graph.node,
            makers: BTreeMap::new(),
            readers: BTreeMap::new(),
            stored: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            outputs: graph.output.iter().map(|output| output.name.as_str()).collect(),
            sizes,
            input: only_input(graph)?,
        };
        for node in &graph.node {
            model.index(node)?;
        }
        model.is_quantised()?;
        Ok(model)
    }

    fn index(&mut self, node: &'m NodeProto) -> Result<(), LiftError> {
        if node.attribute.iter().any(|attribute| attribute.g.is_some()) {
            return Err(LiftError::Within { node: named(node) });
        }
        if let ("Constant", Some(output)) = (node.op_type.as_str(), node.output.first()) {
            self.stored
                .extend(validate::find(node, "value").and_then(|value| Some((output.as_str(), value.t.as_ref()?))));
        }
        self.makers.extend(node.output.iter().map(|output| (output.as_str(), node)));
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            self.readers.entry(input).or_default().push(node);
        }
        Ok(())
    }

    fn is_quantised(&self) -> Result<(), LiftError> {
        let is_half = |tensor: &&&TensorProto| matches!(tensor.data_type, FLOAT16 | BFLOAT16);
        if let Some(half) = self.stored.values().find(is_half) {
            return Err(LiftError::Float16 { name: validate::shown(&half.name) });
        }
        if let Some(node) = self.nodes.iter().find(|node| DYNAMIC.contains(&node.op_type.as_str())) {
            return Err(LiftError::Dynamic { node: named(node) });
        }
        let is_quantised = |node: &NodeProto| {
            matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear" | "QGemm")
                || node.op_type.starts_with("QLinear")
        };
        if self.nodes.iter().any(is_quantised) { Ok(()) } else { Err(LiftError::NotQuantised) }
    }

    /// The name of the input and its element type.
    pub(super) fn input(&self) -> (&'m str, i32) {
        let kind = self.input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
        let Some(type_proto::Value::TensorType(tensor)) = kind else { return (&self.input.name, 0) };
        (&self.input.name, tensor.elem_type)
    }

    /// Sizes of a value without its first dimension, the rows of a batch.
    pub(super) fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let (_, sizes) = self.sizes.get(name)?.split_first()?;
        sizes.iter().map(|size| usize::try_from((*size)?).ok()).collect()
    }

    /// The one node that reads a value; a value that is the model's output is read by its caller as well.
    pub(super) fn reader(&self, name: &str) -> Result<&'m NodeProto, Stop<'m>> {
        match self.readers.get(name).map(Vec::as_slice).unwrap_or_default() {
            [] => Err(Stop::End),
            [node] if !self.outputs.contains(name) => Ok(node),
            [node] => {
                Err(Stop::at(node, format!("what it reads, `{}`, is an output of the model", validate::shown(name))))
            }
            [node, ..] => Err(Stop::at(node, format!("a branch: others read `{}` too", validate::shown(name)))),
        }
    }

    /// Who makes a value.
    pub(super) fn maker(&self, name: &str) -> Option<&'m NodeProto> {
        self.makers.get(name).copied()
    }

    /// A stored tensor.
    pub(super) fn stored(&self, name: &str) -> Option<&'m TensorProto> {
        self.stored.get(name).copied()
    }

    /// A stored tensor that a node reads; `None` if the input is absent.
    pub(super) fn operand(&self, node: &NodeProto, at: usize) -> Result<Option<&'m TensorProto>, String> {
        match node.input.get(at).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => match self.stored(name) {
                Some(tensor) => Ok(Some(tensor)),
                None => Err(format!("its input {at}, `{}`, is not stored", validate::shown(name))),
            },
        }
    }

    /// The stored floats that a node reads.
    pub(super) fn floats(&self, node: &NodeProto, at: usize) -> Result<Vec<f32>, String> {
        let found = self.operand(node, at)?.and_then(stored::floats);
        found.ok_or_else(|| format!("its input {at} is missing or has no floats"))
    }

    /// The floats of a value that is stored, or that a `DequantizeLinear` makes of a stored one.
    pub(super) fn real(&self, name: &str) -> Option<Vec<f32>> {
        if let Some(tensor) = self.stored(name) {
            return stored::floats(tensor);
        }
        let node = self.maker(name).filter(|node| node.op_type == "DequantizeLinear")?;
        let tensor = self.stored(node.input.first()?)?;
        let quantised = Quantised::read(self, node, [1, 2], tensor.data_type == UINT8).ok()?;
        Some(stored::bytes(tensor)?.into_iter().map(|value| quantised.real(value)).collect())
    }

    /// Names of values that depend on the model's input.
    pub(super) fn dependent(&self) -> BTreeSet<&'m str> {
        let mut found = BTreeSet::from([self.input.name.as_str()]);
        for node in self.nodes {
            if node.input.iter().any(|input| found.contains(input.as_str())) {
                found.extend(node.output.iter().map(String::as_str));
            }
        }
        found
    }
}

fn only_input(graph: &GraphProto) -> Result<&ValueInfoProto, LiftError> {
    let is_stored = |input: &&ValueInfoProto| graph.initializer.iter().any(|tensor| tensor.name == input.name);
    let inputs: Vec<_> = graph.input.iter().filter(|input| !is_stored(input)).collect();
    match inputs[..] {
        [input] => {
            let kind = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
            let is_half = matches!(kind, Some(type_proto::Value::TensorType(tensor)) if matches!(tensor.elem_type, FLOAT16 | BFLOAT16));
            if is_half { Err(LiftError::Float16 { name: validate::shown(&input.name) }) } else { Ok(input) }
        }
        _ => Err(LiftError::Inputs { got: inputs.len() }),
    }
}

/// A node as messages name it.
pub(super) fn named(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().unwrap_or(&node.name) } else { &node.name };
    format!("{} `{}`", validate::shown(&node.op_type), validate::shown(name))
}
