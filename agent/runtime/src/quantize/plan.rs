//! What of a graph is quantised: layers, what moves their numbers, and which values share a scale.
//!
//! ```text
//!   image ─ Reshape ─ Conv ─ Relu ─ MaxPool ─ Flatten ─ Gemm ─ Softmax
//!   └──── one ────┘   └─ layer ─┘ ── one scale ────┘    layer   floats
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tract_onnx::pb::NodeProto;

use super::weights::output_axis;
use crate::ops::quant::lower::graph::{FLOAT, Graph, float, int};

/// What moves numbers and looks at none, or at their order alone: scales stay as they are.
const MOVES: [&str; 7] = ["Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
/// What stays float for the sake of the answers.
const DELICATE: [&str; 4] = ["LogSoftmax", "Sigmoid", "Softmax", "Tanh"];
/// Dimensions of the weights of a convolution over lines or images.
const CONV_RANKS: [usize; 2] = [3, 4];

/// A product, a mean or a sum with what follows it until its numbers are quantised.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The place of the product, the mean or the sum.
    pub(super) place: usize,
    /// The place of the sum with a stored bias that follows a `MatMul`.
    pub(super) bias: Option<usize>,
    /// The place of the activation at its end.
    pub(super) cut: Option<usize>,
    /// Whether it has weights.
    pub(super) is_product: bool,
    /// Its name.
    pub(super) name: String,
    /// Its operators, in order.
    pub(super) operators: Vec<String>,
    /// The values that it reads, without those that are stored.
    pub(super) inputs: Vec<String>,
    /// The value that it makes.
    pub(super) output: String,
}

/// A node that stays float, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What it computes.
    pub operator: String,
    /// Why it is not quantised.
    pub why: String,
}

/// What becomes of a graph.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of the graph.
    pub(super) layers: Vec<Layer>,
    /// Every value that is quantised, with the one whose scale it has.
    pub(super) roots: BTreeMap<String, String>,
    /// Places of the nodes that move quantised numbers.
    pub(super) moves: BTreeSet<usize>,
    /// What stays float.
    pub(super) kept: Vec<Kept>,
}

impl Plan {
    /// Plans for a graph that is tidy.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut plan = Self { layers: Vec::new(), roots: BTreeMap::new(), moves: BTreeSet::new(), kept: Vec::new() };
        let floats = plan.find_layers(graph);
        let needed = plan.needed(graph, &floats);
        plan.share(graph, &floats, &needed);
        for (place, why) in floats {
            if let (Some(Some(node)), false) = (graph.nodes.get(place), plan.moves.contains(&place)) {
                plan.kept.push(Kept { name: name(node), operator: node.op_type.clone(), why });
            }
        }
        plan
    }

    /// Values that have a scale of their own, in the order of their names.
    pub(super) fn own(&self) -> impl Iterator<Item = &String> {
        self.roots.iter().filter(|(value, root)| value == root).map(|(value, _)| value)
    }

    /// Finds the layers; the other nodes by place, with what speaks against each.
    fn find_layers(&mut self, graph: &Graph) -> BTreeMap<usize, String> {
        let (mut floats, mut taken) = (BTreeMap::new(), BTreeSet::new());
        // Values that are certain to be quantised, and so to be FP32.
        let mut known = BTreeSet::new();
        for (place, node) in graph.nodes.iter().enumerate() {
            let Some(node) = node.as_ref().filter(|_| !taken.contains(&place)) else { continue };
            match layer(graph, place, node, &known) {
                Ok((layer, places)) => {
                    taken.extend(places);
                    known.insert(layer.output.clone());
                    self.layers.push(layer);
                }
                Err(why) => {
                    if is_move(node) && node.input.first().is_some_and(|from| known.contains(from)) {
                        known.extend(node.output.iter().cloned());
                    }
                    floats.insert(place, why);
                }
            }
        }
        floats
    }

    /// Values that a layer reads, and those that they are moved from.
    fn needed(&self, graph: &Graph, floats: &BTreeMap<usize, String>) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> = self.layers.iter().flat_map(|layer| &layer.inputs).cloned().collect();
        for place in floats.keys().rev() {
            if let Some(Some(node)) = graph.nodes.get(*place)
                && let (true, Some(from), Some(to)) = (is_move(node), node.input.first(), node.output.first())
                && needed.contains(to)
                && graph.stored(from).is_none()
            {
                needed.insert(from.clone());
            }
        }
        needed
    }

    /// Gives every quantised value the one whose scale it has.
    fn share(&mut self, graph: &Graph, floats: &BTreeMap<usize, String>, needed: &BTreeSet<String>) {
        let outputs: BTreeSet<&String> = self.layers.iter().map(|layer| &layer.output).collect();
        self.roots.extend(needed.iter().chain(outputs).map(|value| (value.clone(), value.clone())));
        for place in floats.keys() {
            let Some(Some(node)) = graph.nodes.get(*place) else { continue };
            if let (true, Some(from), Some(to)) = (is_move(node), node.input.first(), node.output.first())
                && let Some(root) = self.roots.get(from).cloned()
            {
                self.roots.insert(to.clone(), root);
                self.moves.insert(*place);
            }
        }
    }
}

/// The layer that begins with a node, and the places of all its nodes.
fn layer(
    graph: &Graph,
    place: usize,
    node: &NodeProto,
    known: &BTreeSet<String>,
) -> Result<(Layer, Vec<usize>), String> {
    let is_product = matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
    match node.op_type.as_str() {
        _ if !node.domain.is_empty() && node.domain != "ai.onnx" => return Err(strange()),
        "Conv" | "Gemm" | "MatMul" => product(graph, node)?,
        "AveragePool" | "GlobalAveragePool" => {}
        "Add" => {
            if node.input.iter().any(|name| graph.stored(name).is_some()) {
                return Err("it adds stored numbers, and follows no MatMul".to_owned());
            }
            if !node.input.iter().any(|name| known.contains(name)) {
                return Err("nothing that it adds is quantised".to_owned());
            }
        }
        "Relu" | "Clip" => return Err("it follows no layer that it could join".to_owned()),
        name if MOVES.contains(&name) => return Err("what comes in is not quantised".to_owned()),
        name if DELICATE.contains(&name) => return Err("eight bits would blur its answers".to_owned()),
        _ => return Err(strange()),
    }
    let (mut last, mut places, mut bias, mut end) = (node, vec![place], None, None);
    if let Some((at, add)) = graph.only_reader(node).filter(|_| node.op_type == "MatMul")
        && is_bias(graph, node, add)
    {
        (last, bias) = (add, Some(at));
        places.push(at);
    }
    if let Some((at, cut)) = graph.only_reader(last).filter(|(_, reader)| is_cut(graph, reader)) {
        (last, end) = (cut, Some(at));
        places.push(at);
    }
    let operators = places.iter().filter_map(|at| Some(graph.nodes.get(*at)?.as_ref()?.op_type.clone())).collect();
    let inputs = node.input.iter().take(if is_product { 1 } else { 2 }).filter(|name| !name.is_empty());
    let layer = Layer {
        place,
        bias,
        cut: end,
        is_product,
        name: name(node),
        operators,
        inputs: inputs.cloned().collect(),
        output: last.output.first().cloned().unwrap_or_default(),
    };
    Ok((layer, places))
}

fn strange() -> String {
    "it is not among the operators that are quantised".to_owned()
}

/// Whether a product has weights that can be quantised.
fn product(graph: &Graph, node: &NodeProto) -> Result<(), String> {
    let name = node.input.get(1).map_or("", String::as_str);
    let weights = graph.stored(name).ok_or("its weights are computed")?;
    if weights.data_type != FLOAT || graph.floats(name).is_none_or(|floats| floats.is_empty()) {
        return Err("its weights are not FP32".to_owned());
    }
    if node.input.first().is_none_or(|data| graph.stored(data).is_some()) {
        return Err("what it reads is stored".to_owned());
    }
    let rank = weights.dims.len();
    match node.op_type.as_str() {
        "Conv" if !CONV_RANKS.contains(&rank) => return Err(format!("its weights have {rank} dimensions")),
        "Gemm" | "MatMul" if rank != 2 => return Err(format!("its weights have {rank} dimensions")),
        "Gemm" if int(node, "transA").unwrap_or(0) != 0 => return Err("its first matrix is transposed".to_owned()),
        _ => {}
    }
    let outputs = weights.dims.get(output_axis(node)).copied().unwrap_or(0);
    match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(bias) if !is_list(graph, bias, outputs) => {
            Err("its bias is not stored, or not one number for each output".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether it is stored as one float, or one for each output.
fn is_list(graph: &Graph, name: &str, outputs: i64) -> bool {
    let Some(tensor) = graph.stored(name).filter(|tensor| tensor.data_type == FLOAT) else { return false };
    let (last, before) = tensor.dims.split_last().unwrap_or((&1, &[]));
    before.iter().all(|size| *size == 1) && (*last == 1 || *last == outputs)
}

fn is_bias(graph: &Graph, product: &NodeProto, add: &NodeProto) -> bool {
    let columns = product.input.get(1).and_then(|name| graph.stored(name)?.dims.last().copied());
    let other = add.input.iter().find(|name| Some(*name) != product.output.first());
    add.op_type == "Add" && columns.zip(other).is_some_and(|(columns, other)| is_list(graph, other, columns))
}

/// Whether it is an activation that does nothing but cut, at stored bounds.
fn is_cut(graph: &Graph, node: &NodeProto) -> bool {
    let has_stored = |name: &String| name.is_empty() || graph.floats(name).is_some_and(|bound| bound.len() == 1);
    match node.op_type.as_str() {
        "Relu" => true,
        "Clip" => node.input.iter().skip(1).all(has_stored),
        _ => false,
    }
}

/// Whether a node only moves numbers.
pub(super) fn is_move(node: &NodeProto) -> bool {
    let outputs = node.output.iter().filter(|name| !name.is_empty()).count();
    MOVES.contains(&node.op_type.as_str()) && node.domain.is_empty() && outputs == 1
}

/// Whether a product has no factors, and its first matrix is as it comes.
pub(super) fn is_plain(node: &NodeProto) -> bool {
    let is_one = |name: &str| float(node, name).is_none_or(|factor| factor.to_bits() == 1.0_f32.to_bits());
    is_one("alpha") && is_one("beta") && int(node, "transA").unwrap_or(0) == 0
}

/// The name of a node, or of what it makes.
pub(super) fn name(node: &NodeProto) -> String {
    let mut names = std::iter::once(&node.name).chain(&node.output);
    let name = names.find(|name| !name.is_empty()).unwrap_or(&node.name);
    name.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{GraphProto, TensorProto, ValueInfoProto};

    use super::*;
    use crate::ops::quant::lower::graph::node;

    /// A plan for nodes with weights `w` of 2 by 2; `x` comes in, `y` goes out.
    fn plan(nodes: &[(&str, &[&str], &str)]) -> Plan {
        let made = |(operator, inputs, output): &(&str, &[&str], &str)| {
            node(operator, "", inputs.iter().map(|name| (*name).to_owned()).collect(), output)
        };
        let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
        let weights = TensorProto {
            name: "w".to_owned(),
            data_type: FLOAT,
            dims: vec![2, 2],
            float_data: vec![1.0; 4],
            ..TensorProto::default()
        };
        let mut graph = GraphProto {
            node: nodes.iter().map(made).collect(),
            initializer: vec![weights],
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        };
        Plan::of(&Graph::new(&mut graph))
    }

    const PRODUCT: (&str, &[&str], &str) = ("MatMul", &["f", "w"], "p");

    #[test]
    fn what_only_moves_has_the_scale_of_what_comes_in() {
        let plan = plan(&[("Flatten", &["x"], "f"), PRODUCT, ("Relu", &["p"], "r"), ("Reshape", &["r", "s"], "y")]);
        let roots: Vec<(&str, &str)> = plan.roots.iter().map(|(value, root)| (value.as_str(), root.as_str())).collect();
        assert_eq!(roots, [("f", "x"), ("r", "r"), ("x", "x"), ("y", "r")]);
        assert_eq!((plan.layers[0].operators.join("+"), plan.kept), ("MatMul+Relu".to_owned(), vec![]));
    }

    #[test]
    fn sums_are_quantised_only_behind_layers() {
        let of_sizes = plan(&[("Shape", &["x"], "s"), ("Add", &["s", "s"], "y")]);
        assert!(of_sizes.layers.is_empty() && of_sizes.roots.is_empty(), "they may be of whole numbers");
        let both = plan(&[("Identity", &["x"], "f"), PRODUCT, ("Add", &["p", "f"], "a"), ("Relu", &["a"], "y")]);
        assert_eq!(both.layers[1].operators, ["Add", "Relu"]);
        assert_eq!(both.layers[1].inputs, ["p", "f"]);
    }

    #[test]
    fn an_activation_whose_numbers_others_read_too_stays_by_itself() {
        let plan = plan(&[("Identity", &["x"], "f"), PRODUCT, ("Relu", &["p"], "r"), ("Mul", &["p", "r"], "y")]);
        assert_eq!(plan.layers[0].output, "p");
        let kept: Vec<&str> = plan.kept.iter().map(|kept| kept.operator.as_str()).collect();
        assert_eq!(kept, ["Relu", "Mul"]);
        assert!(plan.kept[0].why.contains("no layer that it could join") && plan.kept[0].name == "r");
    }
}
