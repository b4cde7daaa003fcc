//! What an operator of ours must say so that tract can carry it: types and shapes of its outputs, what
//! it prepares once from stored inputs, and how it computes.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::optional_inputs;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::op_out_of_plan;
use tract_onnx::tract_hir::internal::{
    DatumType, DatumTypeExt as _, EvalContext, EvalOp, Expansion, InferenceOp, InferenceResult, Op, OutletId, Solver,
    StaticName, TDim, TValue, TVec, Tensor, TensorProxy, TractResult, TypedFact, TypedModel, TypedOp, as_op, bail,
    expand, format_err, op_as_typed_op,
};

/// An element type and a shape.
pub(super) type Fact = (DatumType, TVec<TDim>);

/// The inputs of an operator by place; an optional one may be absent.
#[derive(Debug)]
pub(super) struct Slots<'a, T>(pub(super) &'a [Option<T>]);

impl<T> Clone for Slots<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slots<'_, T> {}

impl<'a, T> Slots<'a, T> {
    /// The input at a place, if it is there.
    pub(super) fn at(self, place: usize) -> Option<&'a T> {
        self.0.get(place)?.as_ref()
    }

    /// The input at a place.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn need(self, place: usize) -> TractResult<&'a T> {
        self.at(place).ok_or_else(|| format_err!("input {place} is missing"))
    }
}

/// An operator.
pub(super) trait Kernel: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// How many outputs it has.
    fn outputs(&self) -> usize {
        1
    }

    /// Types and shapes of its outputs.
    ///
    /// # Errors
    ///
    /// What does not fit together.
    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>>;

    /// Prepares what follows from stored inputs alone; the others are absent here.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn prepare(&mut self, stored: Slots<'_, Arc<Tensor>>) -> TractResult<()> {
        let _unused = stored;
        Ok(())
    }

    /// Computes.
    ///
    /// # Errors
    ///
    /// What does not fit together.
    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>>;
}

/// Reads a kernel with its inputs out of a node.
pub(super) fn parse<K: Kernel>(node: &NodeProto, kernel: K) -> (Box<dyn InferenceOp>, Vec<String>) {
    let present = optional_inputs(node).take(node.input.len()).map(|input| input.is_some()).collect();
    (expand(Unplaced { kernel, present }), Vec::new())
}

/// A kernel whose inputs are not known yet.
#[derive(Clone, Debug)]
struct Unplaced<K> {
    kernel: K,
    /// Which inputs there are.
    present: Vec<bool>,
}

impl<K> Unplaced<K> {
    /// What is given for the inputs that there are, by place.
    fn slots<T>(&self, given: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
        let mut given = given.into_iter();
        self.present.iter().map(|is_there| if *is_there { given.next() } else { None }).collect()
    }
}

impl<K: Kernel> Expansion for Unplaced<K> {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.kernel.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let count = self.present.iter().filter(|is_there| **is_there).count();
        if inputs.len() != count || outputs.len() != self.kernel.outputs() {
            bail!("{} has {} inputs and {} outputs", self.kernel.name(), inputs.len(), outputs.len());
        }
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types: Vec<DatumType>| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes: Vec<TVec<TDim>>| {
                let facts = self.slots(types.iter().copied().zip(shapes));
                for (output, (kind, shape)) in outputs.iter().zip(self.kernel.facts(Slots(&facts))?) {
                    solver.equals(&output.datum_type, kind)?;
                    solver.equals(&output.shape, shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut moving = TVec::new();
        let mut stored = Vec::with_capacity(self.present.len());
        for input in self.slots(inputs.iter().copied()) {
            let constant = input.map(|input| model.outlet_fact(input).map(|fact| fact.konst.clone())).transpose()?;
            stored.push(match (input, constant.flatten()) {
                (Some(input), None) => {
                    moving.push(input);
                    Input::Moving
                }
                (_, Some(constant)) => Input::Stored(constant),
                (None, None) => Input::Absent,
            });
        }
        // An operator without inputs would be taken for a source.
        if let (true, Some(first)) = (moving.is_empty(), inputs.first()) {
            moving.push(*first);
            if let Some(slot) = stored.iter_mut().find(|slot| matches!(slot, Input::Stored(_))) {
                *slot = Input::Moving;
            }
        }
        let mut kernel = self.kernel.clone();
        let known: Vec<Option<Arc<Tensor>>> = stored.iter().map(|input| input.stored().cloned()).collect();
        kernel.prepare(Slots(&known))?;
        model.wire_node(prefix, Placed { kernel, inputs: stored }, &moving)
    }
}

/// Where an input of a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Absent,
    Moving,
    Stored(Arc<Tensor>),
}

impl Input {
    const fn stored(&self) -> Option<&Arc<Tensor>> {
        match self {
            Self::Stored(tensor) => Some(tensor),
            Self::Absent | Self::Moving => None,
        }
    }
}

/// A kernel that holds its stored inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed<K> {
    kernel: K,
    inputs: Vec<Input>,
}

impl<K> Placed<K> {
    fn slots<T>(&self, moving: impl IntoIterator<Item = T>, stored: impl Fn(&Arc<Tensor>) -> T) -> Vec<Option<T>> {
        let mut moving = moving.into_iter();
        let slot = |input: &Input| match input {
            Input::Absent => None,
            Input::Moving => moving.next(),
            Input::Stored(tensor) => Some(stored(tensor)),
        };
        self.inputs.iter().map(slot).collect()
    }
}

impl<K: Kernel> Op for Placed<K> {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    op_as_typed_op!();
}

impl<K: Kernel> EvalOp for Placed<K> {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let values = self.slots(inputs, |tensor| TValue::from_const(Arc::clone(tensor)));
        self.kernel.compute(Slots(&values))
    }
}

impl<K: Kernel> TypedOp for Placed<K> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shaped = |tensor: &Arc<Tensor>| {
            (tensor.datum_type(), tensor.shape().iter().map(|size| TDim::from(*size)).collect::<TVec<TDim>>())
        };
        let moving = inputs.iter().map(|fact| (fact.datum_type, fact.shape.to_tvec()));
        let facts = self.slots(moving, shaped);
        let facts = self.kernel.facts(Slots(&facts))?;
        Ok(facts.into_iter().map(|(kind, shape)| kind.fact(shape)).collect())
    }

    as_op!();
}
