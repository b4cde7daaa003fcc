//! What a publisher can do about a quantised model that loses by it: which parts of it cost accuracy or
//! time, and how to export it instead.
//!
//! It is said of the file alone, without running it: a model that this module finds nothing about may
//! still have lost, and golden vectors tell.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Channels whose greatest weights differ by more than this lose three bits to a scale that they share.
const SPREAD_MAX: f32 = 8.0;
/// Most nodes that one advice names.
const NAMED_MAX: usize = 4;
/// Functions whose numbers crowd at the ends of their range, or are differences of great ones.
const DELICATE: [&str; 6] =
    ["Softmax", "LogSoftmax", "Sigmoid", "LayerNormalization", "RMSNormalization", "InstanceNormalization"];
/// The same on integers, in the form of operators.
const DELICATE_INTEGER: [&str; 2] = ["QLinearSoftmax", "QLinearSigmoid"];
/// `TensorProto.DataType`.
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// Advice for the publisher of an ONNX file; none if it is not quantised, or well, or no ONNX file.
#[must_use]
pub fn quantisation(model: &[u8]) -> Vec<String> {
    ModelProto::decode(model).ok().and_then(|model| model.graph).map_or_else(Vec::new, |graph| of(&graph))
}

fn of(graph: &GraphProto) -> Vec<String> {
    let view = View::new(graph);
    [view.delicate(), view.saturating(), view.uneven(), view.dynamic_convolutions()].into_iter().flatten().collect()
}

/// Values by name.
struct View<'g> {
    graph: &'g GraphProto,
    makers: BTreeMap<&'g str, &'g NodeProto>,
    readers: BTreeMap<&'g str, Vec<&'g NodeProto>>,
    stored: BTreeMap<&'g str, &'g TensorProto>,
}

/// Weights of a product, with the type of what they are multiplied with.
struct Weights<'g> {
    node: &'g NodeProto,
    tensor: &'g TensorProto,
    scales: usize,
    data_kind: Option<i32>,
    /// Along which axis the outputs lie.
    axis: usize,
}

impl<'g> View<'g> {
    fn new(graph: &'g GraphProto) -> Self {
        let mut view = Self {
            graph,
            makers: BTreeMap::new(),
            readers: BTreeMap::new(),
            stored: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
        };
        for node in &graph.node {
            view.makers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            for name in &node.input {
                view.readers.entry(name).or_default().push(node);
            }
        }
        view
    }

    fn maker(&self, name: Option<&String>) -> Option<&'g NodeProto> {
        self.makers.get(name?.as_str()).copied()
    }

    fn kind(&self, name: Option<&String>) -> Option<i32> {
        Some(self.stored.get(name?.as_str())?.data_type)
    }

    /// Functions that are quantised and should not be.
    fn delicate(&self) -> Option<String> {
        let is_within = |node: &&NodeProto| {
            let op = node.op_type.as_str();
            let from = self.maker(node.input.first()).is_some_and(|maker| maker.op_type == "DequantizeLinear");
            let readers = node.output.first().and_then(|name| self.readers.get(name.as_str()));
            let to = readers.is_some_and(|readers| readers.iter().any(|reader| reader.op_type == "QuantizeLinear"));
            DELICATE_INTEGER.contains(&op) || (DELICATE.contains(&op) && from && to)
        };
        let found: Vec<&NodeProto> = self.graph.node.iter().filter(is_within).collect();
        let types: BTreeSet<&str> = found.iter().map(|node| node.op_type.trim_start_matches("QLinear")).collect();
        let types: Vec<&str> = types.into_iter().collect();
        (!found.is_empty()).then(|| {
            format!(
                "{} {} quantised ({}): 256 steps blur its answers, and runtimes round them differently, so that \
                 golden vectors may not be reproduced. Quantise again with nodes_to_exclude=[those names], or with \
                 op_types_to_quantize=['Conv', 'MatMul', 'Gemm']",
                types.join(" and "),
                if types.len() == 1 { "is" } else { "are" },
                named(&found)
            )
        })
    }

    /// Unsigned data with signed weights that use all 8 bits.
    fn saturating(&self) -> Option<String> {
        let is_full = |weights: &Weights<'_>| {
            let wide = bytes(weights.tensor).iter().any(|byte| !(-64..=64).contains(&byte.cast_signed()));
            weights.data_kind == Some(UINT8) && weights.tensor.data_type == INT8 && wide
        };
        let found: Vec<&NodeProto> = self.weights().into_iter().filter(is_full).map(|weights| weights.node).collect();
        (!found.is_empty()).then(|| {
            format!(
                "unsigned activations are multiplied with signed weights of the full range ({}): onnxruntime adds \
                 their products in 16 bits on processors without VNNI and saturates, so that its answers, and golden \
                 vectors made by it, may be wrong. Quantise again with reduce_range=True, or make the vectors where \
                 VNNI is",
                named(&found)
            )
        })
    }

    /// One scale for channels that differ much.
    fn uneven(&self) -> Option<String> {
        let is_uneven =
            |weights: &Weights<'_>| weights.scales == 1 && spread(weights.tensor, weights.axis) > SPREAD_MAX;
        let found: Vec<&NodeProto> = self.weights().into_iter().filter(is_uneven).map(|weights| weights.node).collect();
        (!found.is_empty()).then(|| {
            format!(
                "one scale serves channels whose weights differ more than {SPREAD_MAX} times ({}): the small ones \
                 keep few bits. Quantise again with per_channel=True",
                named(&found)
            )
        })
    }

    /// Convolutions whose data is quantised as it comes.
    fn dynamic_convolutions(&self) -> Option<String> {
        let found: Vec<&NodeProto> = self.graph.node.iter().filter(|node| node.op_type == "ConvInteger").collect();
        (!found.is_empty()).then(|| {
            format!(
                "convolutions are quantised dynamically ({}): every call looks for the range of whole images, and \
                 answers depend on what else is in the batch. Use quantize_static with a calibration set, or \
                 quantize_dynamic with op_types_to_quantize=['MatMul', 'LSTM']",
                named(&found)
            )
        })
    }

    /// Weights of 8 bits of all products.
    fn weights(&self) -> Vec<Weights<'g>> {
        self.graph.node.iter().filter_map(|node| self.weights_of(node)).collect()
    }

    fn weights_of(&self, node: &'g NodeProto) -> Option<Weights<'g>> {
        let input = |place: usize| node.input.get(place);
        let turned = node.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i != 0);
        let axis = if node.op_type.contains("Conv") || turned { 0 } else { 1 };
        let (value, scale, data_kind) = match node.op_type.as_str() {
            "Conv" | "MatMul" | "Gemm" => {
                let (data, weight) = (self.maker(input(0))?, self.maker(input(1))?);
                if data.op_type != "DequantizeLinear" || weight.op_type != "DequantizeLinear" {
                    return None;
                }
                (weight.input.first(), weight.input.get(1), self.kind(data.input.get(2)))
            }
            "QLinearConv" | "QLinearMatMul" | "QGemm" => (input(3), input(4), self.kind(input(2))),
            // What is quantised as it comes is unsigned; scales are applied further on.
            "MatMulInteger" | "ConvInteger" => (input(1), None, Some(UINT8)),
            "DynamicQuantizeMatMul" => (input(1), input(2), Some(UINT8)),
            _ => return None,
        };
        let tensor = *self.stored.get(value?.as_str())?;
        if !matches!(tensor.data_type, INT8 | UINT8) {
            return None;
        }
        let scales = match scale {
            Some(scale) => self.stored.get(scale.as_str())?.dims.iter().product::<i64>(),
            None => 0,
        };
        Some(Weights { node, tensor, scales: usize::try_from(scales).ok()?, data_kind, axis })
    }
}

/// Names of nodes, the first few of them.
fn named(nodes: &[&NodeProto]) -> String {
    let name = |node: &&NodeProto| {
        let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
        let shown: String = name.chars().filter(|letter| !letter.is_control()).take(60).collect();
        format!("`{shown}`")
    };
    let first: Vec<String> = nodes.iter().take(NAMED_MAX).map(name).collect();
    match nodes.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", first.join(", ")),
        None => first.join(", "),
    }
}

/// The bytes of a tensor of 8 bits, signed or not.
fn bytes(tensor: &TensorProto) -> Vec<u8> {
    let low = |number: &i32| number.to_le_bytes().first().copied().unwrap_or(0);
    if tensor.raw_data.is_empty() { tensor.int32_data.iter().map(low).collect() } else { tensor.raw_data.clone() }
}

/// How many times greater the greatest weight of one channel is than that of another; signed weights only,
/// whose zero point is 0.
fn spread(tensor: &TensorProto, axis: usize) -> f32 {
    let size = |size: &i64| usize::try_from(*size).unwrap_or(0);
    let channels = tensor.dims.get(axis).map_or(0, size);
    let inner: usize = tensor.dims.iter().skip(axis + 1).map(size).fold(1, usize::saturating_mul);
    if tensor.data_type != INT8 || channels < 2 || inner == 0 {
        return 1.0;
    }
    let mut greatest = vec![0_u8; channels];
    for (place, byte) in bytes(tensor).iter().enumerate() {
        if let Some(most) = greatest.get_mut(place / inner % channels) {
            *most = (*most).max(byte.cast_signed().unsigned_abs());
        }
    }
    // A channel of zeros was pruned.
    let used: Vec<u8> = greatest.into_iter().filter(|most| *most > 0).collect();
    let most = used.iter().max().copied().unwrap_or(1);
    f32::from(most) / f32::from(used.iter().min().copied().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op_type.to_owned(),
            name: format!("the {output}"),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn stored(name: &str, data_type: i32, dims: &[i64], raw_data: &[u8]) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_type,
            dims: dims.to_vec(),
            raw_data: raw_data.to_vec(),
            ..TensorProto::default()
        }
    }

    fn advice(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<String> {
        let graph = GraphProto { node, initializer, ..GraphProto::default() };
        quantisation(&ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec())
    }

    /// Two columns of weights between quantised data and a quantised result.
    fn dense(data_kind: i32, weights: [u8; 4]) -> Vec<String> {
        advice(
            vec![
                node("DequantizeLinear", &["q", "s", "z"], "x"),
                node("DequantizeLinear", &["wq", "s"], "w"),
                node("MatMul", &["x", "w"], "y"),
            ],
            vec![
                stored("z", data_kind, &[], &[0]),
                stored("s", 1, &[], &[0, 0, 0x80, 0x3f]),
                stored("wq", INT8, &[2, 2], &weights),
            ],
        )
    }

    #[test]
    fn a_softmax_in_the_quantised_part_is_found_in_a_real_model() {
        let advice = quantisation(include_bytes!("../../../tests/data/digits-cnn-int8.onnx"));
        assert!(advice[0].contains("Softmax is quantised (`softmax`)"), "{advice:?}");
        assert!(advice[0].contains("nodes_to_exclude"), "{advice:?}");
        assert!(quantisation(include_bytes!("../../../tests/data/digits-cnn.onnx")).is_empty());
        assert!(quantisation(b"no model").is_empty());
    }

    #[test]
    fn unsigned_data_with_wide_signed_weights_is_found() {
        let wide = dense(UINT8, [100, 50, 30, 100]);
        assert!(wide.len() == 1 && wide[0].contains("reduce_range=True") && wide[0].contains("`the y`"), "{wide:?}");
        assert!(dense(UINT8, [64, 50, 30, 64]).is_empty());
        assert!(dense(INT8, [100, 50, 30, 100]).is_empty());
    }

    #[test]
    fn columns_that_differ_much_ask_for_a_scale_each() {
        // The second column is [2, -3].
        let uneven = dense(INT8, [100, 2, 30, 253]);
        assert!(uneven.len() == 1 && uneven[0].contains("per_channel=True"), "{uneven:?}");
        assert!(dense(INT8, [100, 20, 30, 253]).is_empty());
        assert!(dense(INT8, [100, 0, 30, 0]).is_empty());
    }

    #[test]
    fn convolutions_that_are_quantised_as_they_come_are_found() {
        let many: Vec<NodeProto> = (0..6).map(|index| node("ConvInteger", &["x", "w"], &format!("y{index}"))).collect();
        let advice = advice(many, vec![]);
        assert!(advice.len() == 1 && advice[0].contains("quantize_static"), "{advice:?}");
        assert!(advice[0].contains("and 2 more"), "{advice:?}");
    }
}
