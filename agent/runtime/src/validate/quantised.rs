//! Quantised operators of `com.microsoft`: shapes, scales and zero points, and what of their attributes this
//! runtime computes.

use tract_onnx::pb::NodeProto;

use super::attributes::int;
use super::shapes::{Computed, Inputs, Shape, broadcast, product_of, quantisation, shown};
use super::{Fault, moved, recurrent, windows};

const NCHW: &str = "quantise the model with channels first, as PyTorch has them";
const PLAIN: &str = "quantise again with onnxruntime.quantization, or leave this operator out by nodes_to_exclude";

/// The operators of this module.
pub(super) const NAMES: [&str; 13] = [
    "QLinearAdd",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearConcat",
    "QLinearWhere",
    "QGemm",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
];

/// Shapes and work of one of them.
pub(super) fn compute<'m>(node: &'m NodeProto, inputs: Inputs<'_, 'm>, opset: i64) -> Result<Computed<'m>, Fault> {
    if int(node, "channels_last").unwrap_or(0) != 0 {
        return Err(Fault::new("its channels are last", NCHW));
    }
    let scaled = |places: &[[usize; 3]]| places.iter().try_for_each(|at| whole(node, inputs, *at));
    match node.op_type.as_str() {
        "QLinearAdd" | "QLinearMul" => {
            scaled(&[[0, 1, 2], [3, 4, 5], [0, 6, 7]])?;
            Ok(Computed::one(broadcast([inputs.shape(0), inputs.shape(3)].into_iter())?))
        }
        "QLinearWhere" => {
            scaled(&[[1, 2, 3], [4, 5, 6], [1, 7, 8]])?;
            Ok(Computed::one(broadcast([inputs.shape(0), inputs.shape(1), inputs.shape(4)].into_iter())?))
        }
        "QLinearConcat" => {
            let parts: Vec<usize> = (2..inputs.0.len()).step_by(3).collect();
            if parts.last().is_none_or(|last| last + 3 != inputs.0.len()) {
                return Err(Fault::broken("its inputs are not three for each tensor"));
            }
            whole(node, inputs, [2, 0, 1])?;
            parts.iter().try_for_each(|at| whole(node, inputs, [*at, at + 1, at + 2]))?;
            let shapes: Option<Vec<_>> = parts.iter().map(|at| inputs.at(*at).cloned()).collect();
            Ok(Computed::one(moved::concat(node, Inputs(&shapes.unwrap_or_default()))?))
        }
        "QGemm" => {
            scaled(&[[0, 1, 2], [0, 7, 8]])?;
            if int(node, "transA").unwrap_or(0) != 0 {
                return Err(Fault::new("its first matrix is transposed", PLAIN));
            }
            let turned: Option<Shape> = inputs.shape(3).map(|shape| shape.iter().rev().copied().collect());
            let weights = if int(node, "transB").unwrap_or(0) == 0 { inputs.shape(3) } else { turned.as_deref() };
            if [inputs.shape(0), weights].into_iter().flatten().any(|shape| shape.len() != 2) {
                return Err(Fault::broken("its inputs are no matrices"));
            }
            product_of(inputs.shape(0), weights)
        }
        "MatMulIntegerToFloat" => product_of(inputs.shape(0), inputs.shape(1)),
        "DynamicQuantizeMatMul" => product_of(inputs.shape(0), inputs.shape(1)),
        "DynamicQuantizeLSTM" => lstm(node, inputs),
        _ => {
            scaled(&[[0, 1, 2], [0, 3, 4]])?;
            match node.op_type.as_str() {
                "QLinearAveragePool" => windows::pool(node, inputs),
                "QLinearGlobalAveragePool" => moved::shape(node, inputs, opset).map(Computed::one),
                _ => Ok(Computed::one(inputs.shape(0).map(<[_]>::to_vec))),
            }
        }
    }
}

/// One positive scale and one zero point for a whole tensor.
fn whole(node: &NodeProto, inputs: Inputs<'_, '_>, at: [usize; 3]) -> Result<(), Fault> {
    let [_, scale, zero] = at;
    for place in [scale, zero] {
        if let Some(shape) = inputs.shape(place)
            && shape.iter().any(|size| size.is_some_and(|size| size != 1))
        {
            return Err(Fault::new(
                format!("input {place} has shape {}, where one number for the whole tensor is needed", shown(shape)),
                PLAIN,
            ));
        }
    }
    quantisation(node, inputs, at)
}

/// An LSTM with stored weights `[directions, inputs, 4 * hidden]` and `[directions, hidden, 4 * hidden]`.
fn lstm<'m>(node: &'m NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let is_stored = [1, 2, 8, 10].into_iter().all(|place| inputs.at(place).is_some_and(|fact| fact.tensor.is_some()));
    let mut turned: Vec<_> = inputs.0.iter().take(8).cloned().collect();
    let weights = turned.iter_mut().skip(1).take(2);
    let shapes: Vec<&mut Shape> = weights.filter_map(|fact| fact.shape.as_mut()).collect();
    if !is_stored || shapes.iter().any(|shape| shape.len() != 3) {
        return Err(Fault::new("its weights and their scales are not stored", PLAIN));
    }
    shapes.into_iter().for_each(|shape| shape.swap(1, 2));
    recurrent::check(node, Inputs(&turned))
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;

    use super::super::shapes::Fact;
    use super::*;

    fn node(name: &str, attributes: &[(&str, i64)]) -> NodeProto {
        let attribute = attributes.iter().map(|(name, value)| AttributeProto {
            name: (*name).to_owned(),
            r#type: 2,
            i: *value,
            ..AttributeProto::default()
        });
        NodeProto { op_type: name.to_owned(), attribute: attribute.collect(), ..NodeProto::default() }
    }

    fn facts(shapes: &[&[u64]]) -> Vec<Fact<'static>> {
        shapes.iter().map(|shape| Fact::of(shape.iter().copied().map(Some).collect())).collect()
    }

    fn shape(node: &'static NodeProto, facts: &[Fact<'static>]) -> Result<Option<Shape>, String> {
        let computed = compute(node, Inputs(facts), 17).map_err(|fault| fault.what)?;
        Ok(computed.outputs.into_iter().next().and_then(|fact| fact.shape))
    }

    fn kept(node: NodeProto) -> &'static NodeProto {
        Box::leak(Box::new(node))
    }

    #[test]
    fn shapes_follow_from_the_quantised_inputs_alone() {
        let add = kept(node("QLinearAdd", &[]));
        let inputs = facts(&[&[2, 3], &[], &[], &[3], &[], &[], &[], &[]]);
        assert_eq!(shape(add, &inputs), Ok(Some(vec![Some(2), Some(3)])));
        let gemm = kept(node("QGemm", &[("transB", 1)]));
        let inputs = facts(&[&[2, 3], &[], &[], &[5, 3], &[5], &[5]]);
        assert_eq!(shape(gemm, &inputs), Ok(Some(vec![Some(2), Some(5)])));
        let concat = kept(node("QLinearConcat", &[("axis", 1)]));
        let inputs = facts(&[&[], &[], &[2, 3], &[], &[], &[2, 4], &[], &[]]);
        assert_eq!(shape(concat, &inputs), Ok(Some(vec![Some(2), Some(7)])));
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused() {
        let pool = kept(node("QLinearGlobalAveragePool", &[("channels_last", 1)]));
        assert!(shape(pool, &facts(&[&[1, 2, 3, 4], &[], &[], &[], &[]])).unwrap_err().contains("last"));
        let add = kept(node("QLinearAdd", &[]));
        let inputs = facts(&[&[2, 3], &[3], &[3], &[3], &[], &[], &[], &[]]);
        assert!(shape(add, &inputs).unwrap_err().contains("one number"));
        let concat = kept(node("QLinearConcat", &[("axis", 1)]));
        assert!(shape(concat, &facts(&[&[], &[], &[2, 3], &[]])).unwrap_err().contains("three"));
        let lstm = kept(node("DynamicQuantizeLSTM", &[("hidden_size", 4)]));
        assert!(shape(lstm, &facts(&[&[1, 1, 2], &[1, 2, 16], &[1, 4, 16]])).unwrap_err().contains("stored"));
    }
}
