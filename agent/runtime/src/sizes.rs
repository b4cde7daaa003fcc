//! Sizes of a model that tract has typed: what `validate` could not know, because only tract works
//! out every shape, and what tract itself does not check before it runs.

use tract_onnx::prelude::{TractResult, TypedFact, TypedModel};
use tract_onnx::tract_core::internal::{DimLike as _, bail};
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_core::ops::cnn::{Conv, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::scan::Scan;

use crate::validate::{DEPTH_MAX, ELEMENTS_MAX};

/// Refuses tensors that are too large, and windows that are wider than what they slide over: tract
/// was measured to read out of bounds then.
///
/// # Errors
///
/// The node and its sizes.
pub(crate) fn check(model: &TypedModel) -> TractResult<()> {
    within(model, 0)
}

fn within(model: &TypedModel, depth: usize) -> TractResult<()> {
    if depth > DEPTH_MAX {
        bail!("graphs are nested deeper than {DEPTH_MAX}");
    }
    for node in model.nodes() {
        for output in &node.outputs {
            let elements = elements(&output.fact);
            if elements > ELEMENTS_MAX {
                bail!("node `{}` makes {elements} elements: at most {ELEMENTS_MAX} are supported", node.name);
            }
        }
        let op = node.op.as_ref();
        if let (Some(spec), Some(input)) = (window(op), node.inputs.first())
            && !fits(spec, model.outlet_fact(*input)?)?
        {
            bail!("the kernel of node `{}`, {:?}, is wider than what it slides over", node.name, spec.kernel_shape);
        }
        if let Some(scan) = op.downcast_ref::<Scan>() {
            within(&scan.body, depth + 1)?;
        }
    }
    Ok(())
}

/// As far as its sizes are known; a negative one is as bad as a huge one.
fn elements(fact: &TypedFact) -> u64 {
    let sizes = fact.shape.iter().filter_map(|size| size.to_i64().ok());
    sizes.fold(1, |product: u64, size| product.saturating_mul(u64::try_from(size).unwrap_or(u64::MAX).max(1)))
}

fn window(op: &dyn TypedOp) -> Option<&PoolSpec> {
    let conv = op.downcast_ref::<Conv>().map(|op| &op.pool_spec);
    let max = op.downcast_ref::<MaxPool>().map(|op| &op.pool_spec);
    conv.or(max).or_else(|| op.downcast_ref::<SumPool>().map(|op| &op.pool_spec))
}

fn fits(spec: &PoolSpec, input: &TypedFact) -> TractResult<bool> {
    let shape = spec.data_format.shape(input.shape.to_tvec())?;
    let mut fits = true;
    for (axis, (size, kernel)) in shape.hw_dims().iter().zip(&spec.kernel_shape).enumerate() {
        let pads = match &spec.padding {
            PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                before.get(axis).copied().unwrap_or(0).saturating_add(after.get(axis).copied().unwrap_or(0))
            }
            PaddingSpec::Valid => 0,
            // As much as is needed.
            PaddingSpec::SameUpper | PaddingSpec::SameLower => continue,
        };
        let dilation = spec.dilations.as_ref().and_then(|list| list.get(axis).copied()).unwrap_or(1);
        let reach = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        fits &= size.to_usize().map_or(true, |size| size.saturating_add(pads) >= reach);
    }
    Ok(fits)
}
