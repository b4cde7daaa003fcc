//! Logarithms of sums of exponentials that do not overflow: tract takes the three one after the other,
//! and an exponential of 90 is no float any more. Naive Bayes models have such numbers.

use tract_onnx::prelude::{DatumType, SpecialOps as _, Tensor, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{OutletId, TypedModelPatch, TypedNode, format_err};
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::math::{Exp, Ln, add, exp, ln, max, min, sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

/// Takes the greatest number of each sum out of it.
///
/// # Errors
///
/// What tract says of a model that does not fit together.
pub(super) fn rewrite(mut model: TypedModel) -> TractResult<TypedModel> {
    let found: Vec<usize> = (0..model.nodes().len()).filter(|id| is_log_sum(&model, *id)).collect();
    for id in found {
        if let Some(patch) = stable(&model, id)? {
            patch.apply(&mut model)?;
        }
    }
    Ok(model)
}

fn node(model: &TypedModel, id: usize) -> Option<&TypedNode> {
    model.nodes().get(id)
}

fn is<T: ElementWiseMiniOp>(node: &TypedNode) -> bool {
    node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<T>())
}

/// The node before, if nothing else reads what it gives.
fn before<'m>(model: &'m TypedModel, node: &TypedNode) -> Option<&'m TypedNode> {
    let input = node.inputs.first()?;
    let found = self::node(model, input.node)?;
    let is_only = found.outputs.first()?.successors.len() == 1 && !model.output_outlets().ok()?.contains(input);
    is_only.then_some(found)
}

fn is_log_sum(model: &TypedModel, id: usize) -> bool {
    node(model, id).filter(|node| is::<Ln>(node)).is_some_and(|log| sum_of(model, log).is_some())
}

/// The sum of exponentials that a logarithm is taken of, and the exponential.
fn sum_of<'m>(model: &'m TypedModel, log: &TypedNode) -> Option<(&'m Reduce, &'m TypedNode)> {
    let sum = before(model, log)?;
    let reduce = sum.op_as::<Reduce>().filter(|reduce| reduce.reducer == Reducer::Sum)?;
    let exponential = before(model, sum).filter(|node| is::<Exp>(node))?;
    Some((reduce, exponential))
}

fn stable(model: &TypedModel, id: usize) -> TractResult<Option<TypedModelPatch>> {
    let Some(log) = node(model, id) else { return Ok(None) };
    let Some((reduce, exponential)) = sum_of(model, log) else { return Ok(None) };
    let Some(input) = exponential.inputs.first() else { return Ok(None) };
    let fact = model.outlet_fact(*input)?;
    if !matches!(fact.datum_type, DatumType::F32 | DatumType::F64) {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let x = patch.tap_model(model, *input)?;
    let name = |part: &str| format!("{}.{part}", log.name);
    let limit =
        |limit: f32| Tensor::from(limit).cast_to_dt(fact.datum_type)?.into_owned().broadcast_into_rank(fact.rank());
    let least = patch.add_const(name("least"), limit(f32::MIN)?)?;
    let greatest = patch.add_const(name("greatest"), limit(f32::MAX)?)?;
    let most = patch.wire_node(name("most"), Reduce::new(reduce.axes.clone(), Reducer::Max), &[x])?;
    // Infinities stay where they are: taken out they would leave what is not a number.
    let most = patch.wire_node(name("above"), max(), &[first(&most)?, least])?;
    let most = first(&patch.wire_node(name("below"), min(), &[first(&most)?, greatest])?)?;
    let shifted = patch.wire_node(name("shifted"), sub(), &[x, most])?;
    let powers = patch.wire_node(name("exp"), exp(), &shifted)?;
    let sum = patch.wire_node(name("sum"), Reduce::new(reduce.axes.clone(), Reducer::Sum), &powers)?;
    let log_sum = patch.wire_node(name("ln"), ln(), &sum)?;
    let whole = patch.wire_node(&log.name, add(), &[first(&log_sum)?, most])?;
    patch.shunt_outside(model, log.id.into(), first(&whole)?)?;
    Ok(Some(patch))
}

fn first(outlets: &[OutletId]) -> TractResult<OutletId> {
    outlets.first().copied().ok_or_else(|| format_err!("a node gives nothing"))
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::{IntoRunnable as _, IntoTValue as _, TypedFact, tvec};

    use super::*;

    #[test]
    fn the_logarithm_of_a_sum_of_great_exponentials_is_a_number() {
        let mut model = TypedModel::default();
        let x = model.add_source("x", TypedFact::dt_shape(DatumType::F32, [2, 3])).unwrap();
        let powers = model.wire_node("exp", exp(), &[x]).unwrap();
        let sum = model.wire_node("sum", Reduce::new(tvec![1], Reducer::Sum), &powers).unwrap();
        let log = model.wire_node("ln", ln(), &sum).unwrap();
        model.select_output_outlets(&log).unwrap();
        let model = rewrite(model).unwrap().into_decluttered().unwrap();
        let x = Tensor::from_shape(&[2, 3], &[90.0_f32, 100.0, 100.0, f32::NEG_INFINITY, -200.0, 1.0]).unwrap();
        let answers = model.into_runnable().unwrap().run(tvec!(x.into_tvalue())).unwrap();
        let answers = answers[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap();
        assert!((answers[0] - 100.693_17).abs() < 1e-4 && (answers[1] - 1.0).abs() < 1e-6, "{answers:?}");
    }
}
