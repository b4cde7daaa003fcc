//! Brings a graph to the operator set in which each output of a layer may have a scale of its own.

use tract_onnx::pb::{ModelProto, NodeProto, TensorProto, type_proto};

use crate::ops::quant::lower::graph::{FLOAT, Graph, float, int, ints, with_int};

/// `DequantizeLinear` has an axis from here on.
const LEAST: i64 = 13;
/// The oldest that is raised: from here on operators broadcast as they do now.
const OLDEST: i64 = 7;
/// What means the same in all of them, as it is written or as it is rewritten here.
const SAME: [&str; 32] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "Div",
    "Elu",
    "Exp",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LeakyRelu",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "PRelu",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
];
/// Integers of 64 bits, as in `TensorProto.DataType`.
const INT64: i32 = 7;

/// Raises a tidy model to the least operator set that holds a quantised one.
///
/// # Errors
///
/// The operator that would mean something else.
pub(super) fn raise(model: &mut ModelProto) -> Result<(), String> {
    let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let found = model.opset_import.iter().filter(|set| is_default(&set.domain)).map(|set| set.version).max();
    let version = found.unwrap_or(1);
    if version >= LEAST {
        return Ok(());
    }
    let Some(proto) = model.graph.as_mut().filter(|_| version >= OLDEST) else {
        return Err(format!("operator set {version}"));
    };
    let ranks: Vec<(String, usize)> = proto.output.iter().filter_map(declared_rank).collect();
    let mut graph = Graph::new(proto);
    for place in 0..graph.nodes.len() {
        let Some(Some(mut node)) = graph.nodes.get(place).cloned() else { continue };
        raise_node(&mut graph, &mut node, &ranks)?;
        graph.replace(place, node);
    }
    graph.finish(proto, false);
    model.opset_import.iter_mut().filter(|set| is_default(&set.domain)).for_each(|set| set.version = LEAST);
    Ok(())
}

fn declared_rank(output: &tract_onnx::pb::ValueInfoProto) -> Option<(String, usize)> {
    let type_proto::Value::TensorType(tensor) = output.r#type.as_ref()?.value.as_ref()?;
    Some((output.name.clone(), tensor.shape.as_ref()?.dim.len()))
}

fn raise_node(graph: &mut Graph, node: &mut NodeProto, ranks: &[(String, usize)]) -> Result<(), String> {
    let operator = node.op_type.clone();
    match operator.as_str() {
        "Clip" if node.input.len() == 1 => {
            let bounds = ["min", "max"].map(|name| float(node, name));
            node.attribute.clear();
            for bound in bounds {
                let stored = bound.map(|bound| TensorProto {
                    data_type: FLOAT,
                    float_data: vec![bound],
                    ..TensorProto::default()
                });
                node.input.push(stored.map_or_else(String::new, |bound| graph.store(bound, "bound")));
            }
        }
        // Before, all from the axis on was one row.
        "Softmax" => {
            let output = node.output.first().cloned().unwrap_or_default();
            let is_matrix = ranks.contains(&(output, 2));
            if !is_matrix || int(node, "axis").unwrap_or(1) != 1 {
                return Err(operator);
            }
            node.attribute = vec![with_int("axis", 1)];
        }
        "Squeeze" | "Unsqueeze" if node.input.len() == 1 && !ints(node, "axes").is_empty() => {
            let axes = ints(node, "axes").to_vec();
            let dims = i64::try_from(axes.len()).map(|length| vec![length]).unwrap_or_default();
            let stored = TensorProto { data_type: INT64, dims, int64_data: axes, ..TensorProto::default() };
            node.attribute.clear();
            node.input.push(graph.store(stored, "axes"));
        }
        name if SAME.contains(&name) => {}
        _ => return Err(operator),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{GraphProto, OperatorSetIdProto};

    use super::*;
    use crate::ops::quant::lower::graph::node;

    fn raised(version: i64, operator: &str) -> Result<ModelProto, String> {
        let set = OperatorSetIdProto { domain: String::new(), version };
        let mut node = node(operator, "n", vec!["x".to_owned()], "y");
        node.attribute = vec![with_int("axes", 0)];
        node.attribute[0].ints = vec![1, 2];
        let graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let mut model = ModelProto { opset_import: vec![set], graph: Some(graph), ..ModelProto::default() };
        raise(&mut model).map(|()| model)
    }

    #[test]
    fn axes_become_an_input() {
        let model = raised(11, "Squeeze").unwrap();
        assert_eq!(model.opset_import[0].version, LEAST);
        let graph = model.graph.unwrap();
        assert_eq!((graph.node[0].input.len(), graph.node[0].attribute.len()), (2, 0));
        assert_eq!(
            (&graph.initializer[0].name, &graph.initializer[0].int64_data),
            (&graph.node[0].input[1], &vec![1, 2])
        );
        assert_eq!(raised(17, "Squeeze").unwrap().graph.unwrap().node[0].input.len(), 1, "as it was");
    }

    #[test]
    fn what_meant_something_else_is_refused_by_name() {
        assert_eq!(raised(9, "Upsample"), Err("Upsample".to_owned()));
        assert_eq!(raised(12, "Softmax"), Err("Softmax".to_owned()), "nobody says that it is of a matrix");
        assert_eq!(raised(5, "Relu"), Err("operator set 5".to_owned()));
    }
}
