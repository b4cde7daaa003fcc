//! Keeps channels last between quantised operators on images, where they are computed fastest.
//!
//! ```text
//!  x ─ QuantisedToLast ─ FusedConv ─ QuantisedMaxPool ─┬─ Flatten ─ FusedGemm    its weights in that order
//!                                                      └─ QuantisedToSecond ─ whatever else reads it
//! ```

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{NodeProto, TensorProto};

use super::graph::{Graph, int, ints, node};

/// Rewrites every operator on images; whether there was one.
pub(super) fn rewrite(graph: &mut Graph) -> bool {
    // What nobody reads any more would ask for channels second.
    graph.prune();
    let nodes = graph.nodes.len();
    let mut work =
        Images { graph, made: Vec::new(), last: BTreeMap::new(), second: BTreeSet::new(), flat: BTreeMap::new() };
    for place in 0..nodes {
        work.node(place);
    }
    let (made, is_changed) = (work.made, !work.last.is_empty());
    graph.nodes = made.into_iter().map(Some).collect();
    graph.index();
    is_changed
}

/// A value whose channels are last.
#[derive(Clone)]
struct Last {
    name: String,
    rank: usize,
    channels: Option<usize>,
}

struct Images<'g> {
    graph: &'g mut Graph,
    made: Vec<NodeProto>,
    /// By the name of the value with channels second.
    last: BTreeMap<String, Last>,
    /// Values with channels second that nobody has asked for yet.
    second: BTreeSet<String>,
    /// Rows that were images with so many channels, last.
    flat: BTreeMap<String, usize>,
}

impl Images<'_> {
    fn node(&mut self, place: usize) {
        let Some(Some(old)) = self.graph.nodes.get(place) else { return };
        let is_flat = self.is_flat(old);
        let Some(mut node) = self.graph.nodes.get_mut(place).and_then(Option::take) else { return };
        if is_flat {
            self.flatten(&mut node);
        } else if let Some((inputs, rank, channels)) = self.image(&node) {
            for input in inputs {
                let Some(input) = node.input.get_mut(input) else { continue };
                *input = self.channels_last(input, rank);
            }
            let name = node.output.first().cloned().unwrap_or_default();
            let last = Last { name: self.graph.fresh(&name), rank, channels };
            node.op_type = match node.op_type.as_str() {
                "QLinearConv" => "ImageQLinearConv".to_owned(),
                "ConvInteger" => "ImageConvInteger".to_owned(),
                _ => node.op_type,
            };
            node.output = vec![last.name.clone()];
            self.last.insert(name.clone(), last);
            self.second.insert(name.clone());
            self.made.push(node);
            if self.graph.is_kept(&name) {
                self.channels_second(&name);
            }
            return;
        } else {
            for name in &node.input {
                self.channels_second(name);
            }
            self.take_flat(&mut node);
        }
        self.made.push(node);
    }

    /// Whether it is an operator on images: which of its inputs are, their rank, and the channels that
    /// come out.
    fn image(&self, node: &NodeProto) -> Option<(Vec<usize>, usize, Option<usize>)> {
        let image = |place: usize| {
            let name = node.input.get(place)?;
            self.last.get(name).filter(|_| self.second.contains(name))
        };
        let conv = |weights: usize| {
            let dims = &self.graph.stored(node.input.get(weights)?)?.dims;
            let channels = usize::try_from(*dims.first()?).ok();
            matches!(dims.len(), 3 | 4).then_some((vec![0], dims.len(), channels))
        };
        match node.op_type.as_str() {
            "FusedConv" | "QLinearConv" => conv(3),
            "ConvInteger" => conv(1),
            "QuantisedMaxPool" => {
                let channels = node.input.first().and_then(|name| self.last.get(name)?.channels);
                Some((vec![0], ints(node, "kernel_shape").len() + 2, channels))
            }
            "QuantisedLookup" => image(0).map(|image| (vec![0], image.rank, image.channels)),
            "QLinearAdd" | "QLinearMul" => {
                let (left, right) = (image(0)?, image(3)?);
                let channels = left.channels.filter(|_| left.channels == right.channels);
                (left.rank == right.rank).then_some((vec![0, 3], left.rank, channels))
            }
            _ => None,
        }
    }

    /// The name of a value with channels last.
    fn channels_last(&mut self, name: &str, rank: usize) -> String {
        if let Some(last) = self.last.get(name) {
            return last.name.clone();
        }
        let last = self.graph.fresh(name);
        self.made.push(node("QuantisedToLast", &last, vec![name.to_owned()], &last));
        self.last.insert(name.to_owned(), Last { name: last.clone(), rank, channels: None });
        last
    }

    /// Makes a value with channels second, if only the other one is there.
    fn channels_second(&mut self, name: &str) {
        if let (true, Some(last)) = (self.second.remove(name), self.last.get(name)) {
            // A node that made the value may have its name.
            let own = self.graph.fresh(name);
            self.made.push(node("QuantisedToSecond", &own, vec![last.name.clone()], name));
        }
    }

    /// Whether it makes rows of images, which only a product with stored weights reads.
    fn is_flat(&self, node: &NodeProto) -> bool {
        let image = node.input.first().filter(|name| self.second.contains(*name)).and_then(|name| self.last.get(name));
        let (Some(channels), Some((_, reader))) =
            (image.and_then(|image| image.channels), self.graph.only_reader(node))
        else {
            return false;
        };
        node.op_type == "Flatten"
            && int(node, "axis").unwrap_or(1) == 1
            && reader.input.first() == node.output.first()
            && by_pixels(self.graph, reader, channels).is_some()
    }

    fn flatten(&mut self, node: &mut NodeProto) {
        let (Some(input), Some(output)) = (node.input.first_mut(), node.output.first()) else { return };
        let Some(last) = self.last.get(input) else { return };
        input.clone_from(&last.name);
        self.flat.insert(output.clone(), last.channels.unwrap_or(1));
    }

    /// Brings weights into the order of the rows that they are multiplied with.
    fn take_flat(&mut self, node: &mut NodeProto) {
        let Some(channels) = node.input.first().and_then(|name| self.flat.get(name)) else { return };
        let Some(weights) = by_pixels(self.graph, node, *channels) else { return };
        let Some(name) = node.input.get_mut(WEIGHTS) else { return };
        *name = self.graph.store(weights, name);
    }
}

/// Where a product with stored weights has them.
const WEIGHTS: usize = 3;

/// The weights of a product with the rows of each pixel side by side, and not those of each channel.
fn by_pixels(graph: &Graph, product: &NodeProto, channels: usize) -> Option<TensorProto> {
    if !matches!(product.op_type.as_str(), "FusedGemm" | "QGemm") {
        return None;
    }
    let name = product.input.get(WEIGHTS)?;
    let (dims, numbers) = (&graph.stored(name)?.dims, graph.integers(name)?);
    let [rows, columns] = dims[..] else { return None };
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    let is_turned = int(product, "transB").unwrap_or(0) != 0;
    let depth = if is_turned { columns } else { rows };
    if channels == 0 || !depth.is_multiple_of(channels) {
        return None;
    }
    let space = depth / channels;
    let from = |at: usize| at % channels * space + at / channels;
    let place = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        if is_turned { row * columns + from(column) } else { from(row) * columns + column }
    };
    let int32_data = (0..rows * columns).map(|at| numbers.get(place(at)).copied()).collect::<Option<_>>()?;
    let data_type = graph.stored(name)?.data_type;
    Some(TensorProto { data_type, dims: dims.clone(), int32_data, ..TensorProto::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tract_onnx::pb::{GraphProto, ValueInfoProto};

    use super::super::graph::INT8;
    use super::*;

    /// A convolution of two channels and what reads it: weights of a product of two pixels are stored.
    fn rewritten(readers: &[NodeProto]) -> GraphProto {
        let stored = |name: &str, dims: &[i64], numbers: &[i32]| TensorProto {
            name: name.to_owned(),
            data_type: INT8,
            dims: dims.to_vec(),
            int32_data: numbers.to_vec(),
            ..TensorProto::default()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut nodes = vec![node("FusedConv", "c", names(&["x", "", "", "k"]), "c")];
        nodes.extend_from_slice(readers);
        let mut proto = GraphProto {
            node: nodes,
            initializer: vec![stored("k", &[2, 1, 1], &[1, 1]), stored("w", &[4, 1], &[1, 2, 3, 4])],
            output: vec![ValueInfoProto { name: "y".to_owned(), ..ValueInfoProto::default() }],
            ..GraphProto::default()
        };
        let mut graph = Graph::new(&mut proto);
        assert!(rewrite(&mut graph));
        graph.finish(&mut proto, true);
        proto
    }

    fn reader(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        node(operator, output, inputs.iter().map(|name| (*name).to_owned()).collect(), output)
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| node.op_type.as_str()).collect()
    }

    #[test]
    fn rows_of_pixels_meet_weights_in_their_order() {
        let graph = rewritten(&[reader("Flatten", &["c"], "f"), reader("FusedGemm", &["f", "", "", "w"], "y")]);
        assert_eq!(operators(&graph), ["QuantisedToLast", "FusedConv", "Flatten", "FusedGemm"]);
        let weights = graph.initializer.iter().find(|tensor| tensor.name == graph.node[3].input[3]).unwrap();
        assert_eq!(weights.int32_data, [1, 3, 2, 4]);
    }

    #[test]
    fn others_get_channels_second_from_a_node_with_a_name_of_its_own() {
        let graph = rewritten(&[reader("QuantisedLookup", &["c"], "l"), reader("Softmax", &["l"], "y")]);
        let expected = ["QuantisedToLast", "FusedConv", "QuantisedLookup", "QuantisedToSecond", "Softmax"];
        assert_eq!(operators(&graph), expected);
        let names: BTreeSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names.len(), graph.node.len());
        assert_eq!(graph.node[3].output, ["l"]);
    }
}
