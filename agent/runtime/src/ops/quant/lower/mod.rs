//! Rewrites a model's quantised parts before tract reads it, where operators still are what exporters
//! wrote: tract takes Gemm and others apart.
//!
//! ```text
//!  expand   QLinearSigmoid and the like ──> DequantizeLinear, Sigmoid, QuantizeLinear
//!  fuse     products between them ──> products of integers; what is quantised as it comes
//!  tables   everything else between them, as far as bytes suffice
//! ```
//!
//! The operators that come out have names that `validate` knows of no model.

mod expand;
mod fuse;
mod graph;
mod tables;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;

use graph::Graph;

/// Rewrites a model that was validated.
pub(super) fn lower(mut model: ModelProto, framework: &Onnx) -> ModelProto {
    let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = model.opset_import.iter().find(|set| is_default(&set.domain)).map_or(1, |set| set.version);
    let Some(mut proto) = model.graph.take() else { return model };
    let is_quantised =
        |name: &str| name.contains("Quantize") || name.starts_with("QLinear") || name.contains("Integer");
    if proto.node.iter().any(|node| is_quantised(&node.op_type)) {
        let mut graph = Graph::new(&mut proto);
        let mut is_changed = expand::expand(&mut graph, opset);
        is_changed |= fuse::dynamic(&mut graph);
        is_changed |= fuse::products(&mut graph);
        is_changed |= tables::rewrite(&mut graph, framework, &model);
        graph.finish(&mut proto, is_changed);
    }
    model.graph = Some(proto);
    model
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

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
}
