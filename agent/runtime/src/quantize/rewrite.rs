//! Writes the quantised graph: `QuantizeLinear` and `DequantizeLinear` around what is computed on integers.
//!
//! ```text
//!   x ─────────── DequantizeLinear ─┐
//!   w~int8 ────── DequantizeLinear ─┼─ Conv or Gemm ─ (Relu or Clip) ─ QuantizeLinear ─ DequantizeLinear ─ y
//!   b~int32 ───── DequantizeLinear ─┘                   y~float          y~int8
//! ```
//!
//! A value keeps its name where it is real again, so that whatever stays float reads it as before.

use std::collections::BTreeMap;

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::QuantizeError;
use super::calibrate::Seen;
use super::plan::{Layer, Plan};
use super::scale::Scale;
use super::weights::{Weights, output_axis};
use crate::ops::quant::lower::graph::{FLOAT, Graph, INT8, INT32, float, node, with_int};

/// Names of the stored scale and zero point of a value.
struct Names {
    scale: String,
    zero: String,
}

pub(super) struct Rewrite<'p> {
    pub(super) graph: Graph,
    plan: &'p Plan,
    seen: &'p BTreeMap<String, Seen>,
    scales: &'p BTreeMap<String, Scale>,
    /// Of the values that have a scale of their own.
    names: BTreeMap<String, Names>,
    /// What inputs are called where they are real again.
    inputs: BTreeMap<String, String>,
    made: Vec<NodeProto>,
    is_whole: bool,
}

impl<'p> Rewrite<'p> {
    /// A rewrite of a tidy graph; `is_whole` for one scale of all weights of a layer.
    pub(super) fn new(
        graph: Graph,
        plan: &'p Plan,
        seen: &'p BTreeMap<String, Seen>,
        scales: &'p BTreeMap<String, Scale>,
        is_whole: bool,
    ) -> Self {
        let (names, inputs, made) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { graph, plan, seen, scales, names, inputs, made, is_whole }
    }

    /// Rewrites all; gives the graph, and the weights of the layers that have some, by the layer's place.
    pub(super) fn run(mut self, inputs: &[String]) -> Result<(Graph, BTreeMap<usize, Weights>), QuantizeError> {
        let plan = self.plan;
        for value in plan.own() {
            self.store_scale(value);
        }
        for input in inputs.iter().filter(|input| plan.roots.contains_key(*input)) {
            let real = self.graph.claim(&format!("{input}~real"));
            self.turn(input, input, &real);
            self.inputs.insert(input.clone(), real);
        }
        let products: BTreeMap<usize, &Layer> = plan.layers.iter().map(|layer| (layer.place, layer)).collect();
        let mut weights = BTreeMap::new();
        for place in 0..self.graph.nodes.len() {
            let Some(mut node) = self.graph.nodes.get_mut(place).and_then(Option::take) else { continue };
            if let Some(layer) = products.get(&place) {
                if layer.is_product {
                    weights.insert(place, self.product(layer, &mut node)?);
                } else {
                    self.saturate(layer, &mut node);
                }
                self.read_inputs(&mut node);
            } else if plan.moves.contains(&place) {
                self.read_inputs(&mut node);
            }
            self.push(node);
        }
        self.graph.nodes = self.made.into_iter().map(Some).collect();
        self.graph.index();
        Ok((self.graph, weights))
    }

    fn store_scale(&mut self, value: &str) {
        let Some(scale) = self.scales.get(value) else { return };
        let names = Names {
            scale: self.floats(&format!("{value}~scale"), vec![], &[scale.scale]),
            zero: self.bytes(&format!("{value}~zero"), vec![], &[scale.zero]),
        };
        self.names.insert(value.to_owned(), names);
    }

    /// Lets a node read inputs where they are real again.
    fn read_inputs(&self, node: &mut NodeProto) {
        for name in &mut node.input {
            if let Some(real) = self.inputs.get(name) {
                name.clone_from(real);
            }
        }
    }

    /// Adds a node, and quantises what it makes where that has a scale.
    fn push(&mut self, mut node: NodeProto) {
        let mut turned = Vec::new();
        for output in node.output.iter_mut().filter(|output| self.plan.roots.contains_key(*output)) {
            let float = self.graph.claim(&format!("{output}~float"));
            turned.push((float.clone(), std::mem::replace(output, float)));
        }
        self.made.push(node);
        for (float, value) in turned {
            self.turn(&value, &float, &value);
        }
    }

    /// Quantises `from` as `value` is, and makes it real again as `to`.
    fn turn(&mut self, value: &str, from: &str, to: &str) {
        let root = self.plan.roots.get(value).and_then(|root| self.names.get(root));
        let Some(Names { scale, zero }) = root else { return };
        let (scale, zero) = (scale.clone(), zero.clone());
        let bytes = self.graph.claim(&format!("{value}~int8"));
        let inputs = |first: &str| vec![first.to_owned(), scale.clone(), zero.clone()];
        self.made.push(node("QuantizeLinear", &format!("{value}~quantize"), inputs(from), &bytes));
        self.made.push(node("DequantizeLinear", &format!("{value}~dequantize"), inputs(&bytes), to));
    }

    /// Takes a `Relu` out behind a sum or a mean: the least byte is zero, and quantising saturates there. Runtimes
    /// then compute on integers what they would not with something between.
    fn saturate(&mut self, layer: &Layer, node: &mut NodeProto) {
        let Some((place, Some(cut))) = layer.cut.map(|place| (place, self.graph.nodes.get(place).cloned().flatten()))
        else {
            return;
        };
        let is_at_least = |scale: &Scale| scale.zero == i8::MIN;
        if cut.op_type == "Relu" && self.scales.get(&layer.output).is_some_and(is_at_least) {
            node.output = cut.output;
            self.graph.remove(place);
        }
    }

    /// Quantises the weights and the bias of a product.
    fn product(&mut self, layer: &Layer, product: &mut NodeProto) -> Result<Weights, QuantizeError> {
        let missing = || QuantizeError::Layer(layer.name.clone());
        let data = layer.inputs.first().ok_or_else(missing)?;
        let scale = *self.plan.roots.get(data).and_then(|root| self.scales.get(root)).ok_or_else(missing)?;
        let name = product.input.get(1).ok_or_else(missing)?.clone();
        let dims = self.graph.stored(&name).ok_or_else(missing)?.dims.clone();
        let axis = output_axis(product);
        let mut floats = self.graph.floats(&name).ok_or_else(missing)?;
        let add = layer.bias.and_then(|place| self.graph.nodes.get(place)?.clone());
        let bias_name = match &add {
            Some(add) => add.input.iter().find(|name| Some(*name) != product.output.first()).cloned(),
            None => product.input.get(2).filter(|name| !name.is_empty()).cloned(),
        };
        let mut bias =
            bias_name.as_ref().map_or(Some(Vec::new()), |name| self.graph.floats(name)).ok_or_else(missing)?;
        factor(&mut floats, product, "alpha");
        factor(&mut bias, product, "beta");
        product.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "alpha" | "beta" | "transA"));
        let outputs = dims.get(axis).and_then(|size| usize::try_from(*size).ok()).ok_or_else(missing)?;
        if let ([one], true) = (&bias[..], outputs > 1) {
            bias = vec![*one; outputs];
        }
        if floats.iter().chain(&bias).any(|number| !number.is_finite()) {
            return Err(QuantizeError::Weights(layer.name.clone()));
        }
        let weights = Weights::of(&floats, (&dims, axis), &bias, scale, self.is_whole).ok_or_else(missing)?;
        let stored = self.bytes(&format!("{name}~int8"), dims, &weights.numbers);
        let real = self.real(&name, stored, &weights.scales, weights.axis);
        product.input.truncate(1);
        product.input.push(real);
        if let Some(bias_name) = bias_name {
            let numbers = weights.bias(&bias, scale);
            let stored = self.sums(&format!("{bias_name}~int32"), &numbers);
            let real = self.real(&bias_name, stored, &weights.sum_scales(scale), 0);
            match (add, layer.bias) {
                (Some(add), Some(place)) => self.add(data, product, (add, place), (&bias_name, real)),
                _ => product.input.push(real),
            }
        }
        Ok(weights)
    }

    /// Lets a product of matrices take its bias over; one of more dimensions leaves it to the sum.
    fn add(&mut self, data: &str, product: &mut NodeProto, (mut add, place): (NodeProto, usize), bias: (&str, String)) {
        let (name, real) = bias;
        if self.seen.get(data).is_some_and(|seen| seen.rank == 2) {
            "Gemm".clone_into(&mut product.op_type);
            product.input.push(real);
            product.output = add.output;
            self.graph.remove(place);
            return;
        }
        add.input.iter_mut().filter(|input| *input == name).for_each(|input| input.clone_from(&real));
        if let Some(old) = self.graph.nodes.get_mut(place) {
            *old = Some(add);
        }
    }

    /// Makes a stored tensor of integers real around zero, and gives the name of that.
    fn real(&mut self, value: &str, stored: String, scales: &[f32], axis: usize) -> String {
        let is_whole = scales.len() == 1;
        let dims = if is_whole { vec![] } else { length(scales.len()) };
        let scale = self.floats(&format!("{stored}~scale"), dims.clone(), scales);
        let zeros = format!("{stored}~zero");
        let is_byte = self.graph.stored(&stored).is_some_and(|tensor| tensor.data_type == INT8);
        let zero = if is_byte {
            self.bytes(&zeros, dims, &vec![0; scales.len()])
        } else {
            self.keep(&zeros, INT32, dims, vec![0; scales.len() * size_of::<i32>()])
        };
        let real = self.graph.claim(&format!("{value}~real"));
        let mut made = node("DequantizeLinear", &real, vec![stored, scale, zero], &real);
        made.attribute.extend(axis_of(axis).filter(|_| !is_whole));
        self.made.push(made);
        real
    }

    fn floats(&mut self, name: &str, dims: Vec<i64>, numbers: &[f32]) -> String {
        self.keep(name, FLOAT, dims, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    fn bytes(&mut self, name: &str, dims: Vec<i64>, numbers: &[i8]) -> String {
        self.keep(name, INT8, dims, numbers.iter().map(|number| number.cast_unsigned()).collect())
    }

    fn sums(&mut self, name: &str, numbers: &[i32]) -> String {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.keep(name, INT32, length(numbers.len()), bytes)
    }

    fn keep(&mut self, name: &str, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        self.graph.keep(TensorProto { name: name.to_owned(), data_type, dims, raw_data, ..TensorProto::default() })
    }
}

/// Multiplies numbers with a factor of a product, if it has one.
fn factor(numbers: &mut [f32], product: &NodeProto, name: &str) {
    if let Some(factor) = float(product, name) {
        numbers.iter_mut().for_each(|number| *number *= factor);
    }
}

fn length(length: usize) -> Vec<i64> {
    i64::try_from(length).into_iter().collect()
}

fn axis_of(axis: usize) -> Option<AttributeProto> {
    Some(with_int("axis", i64::try_from(axis).ok()?))
}
