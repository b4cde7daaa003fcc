//! How a computation over rows becomes an operator of tract: once for shapes that are being inferred,
//! once for a model whose shapes are known.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{
    DatumType, IntoTValue as _, SpecialOps as _, TDim, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel,
};
use tract_onnx::tract_core::internal::{EvalContext, EvalOp, Op, OutletId, StaticName, as_op, bail, op_as_typed_op};
use tract_onnx::tract_core::internal::{op_out_of_plan, tvec};
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_hir::infer::{InferenceOp, InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::{Expansion, expand};

/// What tract calls to make an operator of a node.
pub(super) type Build = fn(&ParsingContext, &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)>;
/// Element type and shape of a value.
pub(super) type Fact = (DatumType, TVec<TDim>);

/// A computation without a state.
pub(super) trait Kernel: Debug + Send + Sync + 'static {
    /// The operator's name.
    fn name(&self) -> &'static str;

    /// How many values it gives.
    fn outputs(&self) -> usize {
        1
    }

    /// Types and shapes of what it gives.
    ///
    /// # Errors
    ///
    /// If it does not take such inputs.
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>>;

    /// Computes.
    ///
    /// # Errors
    ///
    /// If inputs are not as it takes them.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

/// The operator with a kernel, as tract's builders give it.
pub(super) fn operator(kernel: impl Kernel) -> (Box<dyn InferenceOp>, Vec<String>) {
    (expand(Own(Arc::new(kernel))), Vec::new())
}

/// An operator with a kernel.
#[derive(Clone, Debug)]
struct Own(Arc<dyn Kernel>);

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Own {}

impl Expansion for Own {
    fn name(&self) -> StaticName {
        self.0.name().into()
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
        if outputs.len() != self.0.outputs() {
            bail!("{} gives {} values, {} are asked for", self.0.name(), self.0.outputs(), outputs.len());
        }
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types: Vec<DatumType>| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes: Vec<TVec<TDim>>| {
                let facts: Vec<Fact> = types.iter().copied().zip(shapes).collect();
                for (output, (datum_type, shape)) in outputs.iter().zip(self.0.facts(&facts)?) {
                    solver.equals(&output.datum_type, datum_type)?;
                    solver.equals(&output.shape, shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Own {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Own {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs: TVec<&Tensor> = inputs.iter().map(|input| &**input).collect();
        Ok(self.0.run(&inputs)?.into_iter().map(Tensor::into_tvalue).collect())
    }
}

impl TypedOp for Own {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let facts: Vec<Fact> = inputs.iter().map(|fact| (fact.datum_type, fact.shape.to_tvec())).collect();
        Ok(self
            .0
            .facts(&facts)?
            .into_iter()
            .map(|(datum_type, shape)| TypedFact::dt_shape(datum_type, &*shape))
            .collect())
    }

    as_op!();
}

/// The only input.
///
/// # Errors
///
/// If there are more or none.
pub(super) fn single<'t, T: ?Sized>(inputs: &[&'t T]) -> TractResult<&'t T> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{} inputs: one is needed", inputs.len()),
    }
}

/// How many rows a shape has, and how wide they are: a vector is a row.
///
/// # Errors
///
/// If it is neither vector nor matrix.
pub(super) fn rows<D: Clone + From<usize>>(shape: &[D]) -> TractResult<(D, D)> {
    match shape {
        [width] => Ok((1.into(), width.clone())),
        [rows, width] => Ok((rows.clone(), width.clone())),
        _ => bail!("its input has {} dimensions: rows of features are needed", shape.len()),
    }
}

/// The fact of the only input.
///
/// # Errors
///
/// If there are more or none.
pub(super) fn only(inputs: &[Fact]) -> TractResult<&Fact> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{} inputs: one is needed", inputs.len()),
    }
}

/// Facts of a classifier: a label for each row, and so many scores.
///
/// # Errors
///
/// If its input is no matrix.
pub(super) fn classified(inputs: &[Fact], scores: usize) -> TractResult<TVec<Fact>> {
    let (count, _) = rows(&only(inputs)?.1)?;
    let label: TVec<TDim> = tvec!(count.clone());
    Ok(tvec!((DatumType::I64, label), (DatumType::F32, tvec!(count, scores.into()))))
}

/// Rows of floats, whatever numbers they were.
#[derive(Debug)]
pub(super) struct Rows {
    /// How many there are.
    pub(super) count: usize,
    /// Features of each.
    pub(super) width: usize,
    tensor: Tensor,
}

impl Rows {
    /// Reads the only input.
    ///
    /// # Errors
    ///
    /// If it is no matrix of numbers.
    pub(super) fn of(inputs: &[&Tensor]) -> TractResult<Self> {
        let input = single(inputs)?;
        let (count, width) = rows(input.shape())?;
        let tensor = input.cast_to_dt(DatumType::F32)?.into_owned();
        Ok(Self { count, width, tensor })
    }

    /// All numbers, row after row.
    ///
    /// # Errors
    ///
    /// If they do not lie in memory.
    pub(super) fn data(&self) -> TractResult<&[f32]> {
        self.tensor.try_as_plain_ram()?.as_slice::<f32>()
    }
}
