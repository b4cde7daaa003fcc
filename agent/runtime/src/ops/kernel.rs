//! The shape of an operator of our own: what comes out, by type and shape, and how it is computed.
//! The rest, which tract asks of every operator, is here once.

use std::fmt::Debug;

use tract_onnx::prelude::{DatumType, SpecialOps as _, TDim, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel};
use tract_onnx::tract_core::internal::{
    DatumTypeExt as _, EvalContext, EvalOp, IntoTValue as _, Op, StaticName, TypedOp, as_op, bail, op_as_typed_op,
};
use tract_onnx::tract_core::prelude::OutletId;
use tract_onnx::tract_hir::infer::{InferenceOp, InferenceResult, ShapeFactoid, Solver, TensorProxy};
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

/// An input, as far as it is known before anything is scored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'k> {
    /// Its element type.
    pub(crate) datum_type: DatumType,
    /// Its shape; sizes that vary are symbols.
    pub(crate) shape: &'k [TDim],
    /// Its elements, if it is stored.
    pub(crate) value: Option<&'k Tensor>,
}

/// Type and shape of an output.
pub(crate) type Made = (DatumType, TVec<TDim>);

/// An operator of our own.
pub(crate) trait Kernel: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {
    /// As ONNX calls it.
    const NAME: &'static str;
    /// Inputs whose elements decide about shapes, so that they must be stored in the model.
    const STORED: &'static [usize] = &[];

    /// How many outputs there are.
    fn outputs(&self) -> usize {
        1
    }

    /// Type and shape of every output.
    ///
    /// # Errors
    ///
    /// What does not fit together.
    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>>;

    /// Computes every output.
    ///
    /// # Errors
    ///
    /// What of the elements is not lawful.
    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

/// A kernel as tract takes it.
pub(crate) fn operator(kernel: impl Kernel) -> Box<dyn InferenceOp> {
    expand(Own(kernel))
}

/// The input at `index`.
///
/// # Errors
///
/// If there is none.
pub(crate) fn input<T: Copy>(inputs: &[T], index: usize) -> TractResult<T> {
    match inputs.get(index) {
        Some(input) => Ok(*input),
        None => bail!("input {index} is missing"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Own<K>(K);

impl<K: Kernel> Op for Own<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    op_as_typed_op!();
}

impl<K: Kernel> EvalOp for Own<K> {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.eval(&EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs: TVec<&Tensor> = inputs.iter().map(|value| &**value).collect();
        Ok(self.0.compute(&inputs)?.into_iter().map(Tensor::into_tvalue).collect())
    }
}

impl<K: Kernel> TypedOp for Own<K> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: TVec<TVec<TDim>> = inputs.iter().map(|fact| fact.shape.to_tvec()).collect();
        let known: TVec<Known<'_>> = (inputs.iter().zip(&shapes))
            .map(|(fact, shape)| Known { datum_type: fact.datum_type, shape, value: fact.konst.as_deref() })
            .collect();
        let made = self.0.facts(&known)?;
        Ok(made.into_iter().map(|(datum_type, shape)| datum_type.fact(shape)).collect())
    }

    as_op!();
}

impl<K: Kernel> Expansion for Own<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let values = K::STORED.iter().filter_map(|index| inputs.get(*index)).map(|input| &input.value);
        solver.given_all(values, move |solver, values| {
            solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
                let values = values.clone();
                solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                    let value = |index: usize| {
                        let at = K::STORED.iter().position(|stored| *stored == index)?;
                        values.get(at).map(|value| &**value)
                    };
                    let known: TVec<Known<'_>> = (types.iter().zip(&shapes).enumerate())
                        .map(|(index, (datum_type, shape))| Known {
                            datum_type: *datum_type,
                            shape,
                            value: value(index),
                        })
                        .collect();
                    for (output, (datum_type, shape)) in outputs.iter().zip(self.0.facts(&known)?) {
                        solver.equals(&output.datum_type, datum_type)?;
                        solver.equals(&output.shape, ShapeFactoid::from(shape))?;
                    }
                    Ok(())
                })
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}
