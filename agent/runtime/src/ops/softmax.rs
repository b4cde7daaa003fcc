//! Softmax over the last axis.

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::prelude::{Datum as _, TValue, TVec, TractResult, TypedFact, tvec};
use tract_onnx::tract_core::internal::{
    EvalContext, EvalOp, Op, StaticName, TypedOp, as_op, ensure, op_as_typed_op, op_out_of_plan,
};

use super::image::{filled, first};
use super::kernels::curves;

/// Each row of the last axis becomes shares of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Softmax;

impl Op for Softmax {
    fn name(&self) -> StaticName {
        "Softmax".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Softmax {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = first(&inputs)?;
        let width = input.shape().last().copied().unwrap_or(1).max(1);
        filled(input.shape(), |out| {
            let data = input.try_as_plain_ram()?.as_slice::<f32>()?;
            ensure!(data.len() == out.len());
            dispatch!(Level::new(), simd => rows(simd, data, width, out));
            Ok(())
        })
    }
}

#[expect(clippy::inline_always, reason = "vectors must not cross calls")]
#[inline(always)]
fn rows<S: Simd>(simd: S, data: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in data.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        curves::softmax(simd, row, out);
    }
}

impl TypedOp for Softmax {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = *first(inputs)?;
        ensure!(input.datum_type == f32::datum_type());
        Ok(tvec![input.without_value()])
    }
}
