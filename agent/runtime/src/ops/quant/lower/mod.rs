//! Rewrites a model's quantised parts before tract reads it, where operators still are what exporters
//! wrote: tract takes Gemm and others apart.
//!
//! ```text
//!  expand   QLinearSigmoid and the like ──> DequantizeLinear, Sigmoid, QuantizeLinear
//!  fuse     products between them ──> products of integers; what is quantised as it comes
//!  tables   everything else between them, as far as bytes suffice
//!  images   channels last from one operator on images to the next
//! ```
//!
//! The operators that come out have names that `validate` knows of no model.

mod expand;
mod fuse;
pub(crate) mod graph;
mod images;
mod tables;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;

use graph::Graph;

/// Rewrites a model that was validated.
pub(super) fn lower(mut model: ModelProto, framework: &Onnx) -> ModelProto {
    let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = model.opset_import.iter().find(|set| is_default(&set.domain)).map_or(1, |set| set.version);
    let Some(mut proto) = model.graph.take() else { return model };
    let is_quantised = |name: &str| name.contains("uantize") || name.starts_with("QLinear") || name.contains("Integer");
    if proto.node.iter().any(|node| is_quantised(&node.op_type)) {
        let mut graph = Graph::new(&mut proto);
        let mut is_changed = expand::expand(&mut graph, opset);
        is_changed |= fuse::dynamic(&mut graph);
        is_changed |= fuse::products(&mut graph);
        is_changed |= tables::rewrite(&mut graph, framework, &model);
        is_changed |= images::rewrite(&mut graph);
        graph.finish(&mut proto, is_changed);
    }
    model.graph = Some(proto);
    model
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tract_onnx::pb::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

    use super::*;

    /// Names of the operators of a model after the rewrite.
    fn lowered(bytes: &[u8]) -> Vec<String> {
        let model = ModelProto::decode(bytes).unwrap();
        let mut framework = tract_onnx::onnx();
        super::super::register(&mut framework.op_register);
        let model = lower(model, &framework);
        model.graph.unwrap().node.into_iter().map(|node| node.op_type).collect()
    }

    #[test]
    fn a_quantised_network_is_computed_on_integers() {
        assert_eq!(
            lowered(include_bytes!("../../../../../../tests/data/digits-cnn-int8.onnx")),
            [
                "Reshape",
                "QuantizeLinear",
                "QuantisedToLast",
                "FusedConv",
                "QuantisedMaxPool",
                "Flatten",
                "FusedGemm",
                "DequantizeLinear",
                "Softmax",
                "QuantizeLinear",
                "DequantizeLinear"
            ]
        );
    }

    #[test]
    fn a_network_of_floats_stays_as_it_is() {
        assert_eq!(
            lowered(include_bytes!("../../../../../../tests/data/digits-cnn.onnx")),
            ["Reshape", "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Softmax"]
        );
    }

    /// A scale of 0.5, a zero point of 10 and weights of 2 by 2 are stored; `x` comes in, `y` goes out.
    fn graph(nodes: &[(&str, &[&str], &str)]) -> ModelProto {
        let stored = |name: &str, data_type: i32, dims: &[i64], raw_data: &[u8]| TensorProto {
            name: name.to_owned(),
            data_type,
            dims: dims.to_vec(),
            raw_data: raw_data.to_vec(),
            ..TensorProto::default()
        };
        let node = |(operator, inputs, output): &(&str, &[&str], &str)| {
            graph::node(operator, output, inputs.iter().map(|name| (*name).to_owned()).collect(), output)
        };
        let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
        let graph = GraphProto {
            node: nodes.iter().map(node).collect(),
            initializer: vec![
                stored("s", 1, &[], &0.5_f32.to_le_bytes()),
                stored("z", 2, &[], &[10]),
                stored("wq", 3, &[2, 2], &[1, 2, 3, 4]),
                stored("wz", 3, &[], &[0]),
            ],
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        };
        let set = OperatorSetIdProto { domain: String::new(), version: 17 };
        ModelProto { ir_version: 9, opset_import: vec![set], graph: Some(graph), ..ModelProto::default() }
    }

    const READ: (&str, &[&str], &str) = ("DequantizeLinear", &["x", "s", "z"], "a");
    const WEIGHTS: (&str, &[&str], &str) = ("DequantizeLinear", &["wq", "s", "wz"], "w");
    const PRODUCT: (&str, &[&str], &str) = ("MatMul", &["a", "w"], "p");

    fn nodes(model: ModelProto) -> Vec<NodeProto> {
        let mut framework = tract_onnx::onnx();
        super::super::register(&mut framework.op_register);
        lower(model, &framework).graph.unwrap().node
    }

    #[test]
    fn an_activation_that_cuts_joins_the_product() {
        let cut = ("Relu", &["p"][..], "r");
        let fused = nodes(graph(&[READ, WEIGHTS, PRODUCT, cut, ("QuantizeLinear", &["r", "s", "z"], "y")]));
        assert_eq!(fused.len(), 1);
        assert_eq!(fused[0].input, ["x", "s", "z", "wq", "s", "wz", "", "s", "z"]);
        assert_eq!((graph::int(&fused[0], "low"), graph::int(&fused[0], "high")), (Some(10), None));
        let fused = nodes(graph(&[READ, WEIGHTS, PRODUCT, ("Relu", &["p"], "y")]));
        assert_eq!((fused.len(), graph::float(&fused[0], "floor")), (1, Some(0.0)));
    }

    #[test]
    fn what_others_read_too_is_not_taken_away() {
        let both = ("Add", &["p", "q"][..], "y");
        let kept = nodes(graph(&[READ, WEIGHTS, PRODUCT, ("QuantizeLinear", &["p", "s", "z"], "q"), both]));
        let names: Vec<&str> = kept.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(names, ["FusedGemm", "QuantizeLinear", "Add"]);
    }

    #[test]
    fn what_looks_at_more_than_one_number_becomes_no_table() {
        for (operator, expected) in [
            ("Softmax", &["DequantizeLinear", "Softmax", "QuantizeLinear"][..]),
            ("Sigmoid", &["QuantisedLookup"]),
            ("Transpose", &["Transpose"]),
        ] {
            let kept = nodes(graph(&[READ, (operator, &["a"], "f"), ("QuantizeLinear", &["f", "s", "z"], "y")]));
            let names: Vec<&str> = kept.iter().map(|node| node.op_type.as_str()).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_table_holds_what_the_function_makes_of_every_byte() {
        let kept = nodes(graph(&[READ, ("Sigmoid", &["a"], "f"), ("QuantizeLinear", &["f", "s", "z"], "y")]));
        let table = &kept[0].attribute[0].s;
        for (byte, got) in table.iter().enumerate() {
            let real = (byte as f32 - 10.0) * 0.5;
            let number = (1.0 / (1.0 + (-real).exp()) / 0.5).round_ties_even() + 10.0;
            assert_eq!(f32::from(*got), number, "{byte}");
        }
    }

    #[test]
    fn an_operator_of_three_parts_takes_no_name_that_exists() {
        let made = [("QLinearSigmoid", &["x", "s", "z", "s", "z"][..], "y~0"), ("Relu", &["y~0"], "y~0~0")];
        let last = ("Identity", &["y~0~0"][..], "y");
        let kept = nodes(graph(&[made[0], made[1], last]));
        let mut names: Vec<&String> = kept.iter().flat_map(|node| &node.output).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
