//! Scoring on the CPU with tract: load once, keep one plan for single rows and one for any batch.
//!
//! A plan with concrete sizes is the faster one for a single row and the only one for some recurrent
//! models (LSTM and GRU panic with a symbolic batch), so single rows get theirs at load; other
//! sizes use the symbolic plan if there is one, else a few concrete plans that are kept.
//!
//! The symbolic plan is asked for shapes only once those were analysed by themselves: in a release
//! build tract multiplies matrices whose sizes turn out not to fit, and reads past their end.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bellwether_protocol::manifest::{DataType, TensorSignature};
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{
    DatumType, InferenceFact, InferenceModel, InferenceModelExt as _, IntoRunnable as _, TValue, TVec,
    Tensor as TractTensor, TractResult, TypedFact, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_core::internal::DimLike as _;

use tract_onnx::tract_core::plan::eval;

use crate::inspect::{self, InspectError};
use crate::lower::shapes::Sizes;
use crate::profile::{NodeTime, parts_of};
use crate::tensor::{Data, Tensor};
use crate::{ScoreError, Scorer, arrange, ops, sizes};

/// Concrete plans kept beside the symbolic one: each holds its own copy of packed weights.
const PLANS_MAX: usize = 4;
/// Shapes kept that the symbolic plan may be asked for: as many sizes of batches as callers mix.
const SHAPES_MAX: usize = 64;

type Plan = Arc<TypedRunnableModel>;
type Shapes = Vec<Vec<usize>>;

/// Why a model cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is not a model this runtime reads.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The runtime refuses it.
    #[error("the runtime cannot load the model: {0}")]
    Refused(String),
    /// The runtime panicked on it; it was caught.
    #[error("the runtime crashed while loading the model: {0}")]
    Crashed(String),
}

/// A loaded model.
pub struct Cpu {
    signature: TensorSignature,
    model: InferenceModel,
    any: Option<Plan>,
    /// Whether `any` is for inputs of as many rows each, which the model does not say.
    assumes_rows: bool,
    plans: VecDeque<(Shapes, Plan)>,
    /// Shapes that were analysed, for the symbolic plan.
    analysed: VecDeque<Shapes>,
}

/// Numbers of a tensor as floats.
#[derive(Clone, Debug)]
pub(crate) struct Reals {
    /// The sizes of its dimensions.
    pub(crate) shape: Vec<usize>,
    /// Row-major.
    pub(crate) numbers: Vec<f32>,
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("signature", &self.signature)
            .field("plans", &self.plans.len())
            .finish_non_exhaustive()
    }
}

impl Cpu {
    /// Loads an ONNX model.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; a panic of the runtime is caught and becomes one.
    pub fn load(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::load_open(bytes, &[])
    }

    /// As [`Cpu::load`], for [`Cpu::reals`] alone: values inside the graph come out behind its outputs.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub(crate) fn load_open(bytes: &[u8], inside: &[String]) -> Result<Self, LoadError> {
        let (mut proto, facts) = inspect::read(bytes)?;
        if let Some(graph) = &mut proto.graph {
            let value = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
            graph.output.extend(inside.iter().map(value));
        }
        let assumes_rows = proto.graph.as_mut().is_some_and(name_rows);
        let parse = || ops::parse(proto);
        let model = caught(parse).map_err(LoadError::Crashed)?.map_err(|why| LoadError::Refused(chain(&why)))?;
        let mut cpu = Self {
            signature: facts.signature,
            model,
            any: None,
            assumes_rows,
            plans: VecDeque::new(),
            analysed: VecDeque::new(),
        };
        let is_concrete = cpu.signature.inputs.iter().all(|spec| spec.shape.iter().all(Option::is_some));
        if !is_concrete {
            let model = cpu.model.clone();
            cpu.any = caught(|| optimised(model)?.into_runnable()).ok().and_then(Result::ok);
        }
        let single: Shapes = cpu
            .signature
            .inputs
            .iter()
            .map(|spec| spec.shape.iter().map(|size| size.map_or(1, |size| size as usize)).collect())
            .collect();
        match cpu.concrete(&single) {
            Ok(plan) => cpu.plans.push_back((single, plan)),
            // Where one row of length one is not a lawful input, the symbolic plan must do.
            Err(_) if cpu.any.is_some() => {}
            Err(ScoreError::Crashed(why)) => return Err(LoadError::Crashed(why)),
            Err(why) => return Err(LoadError::Refused(why.to_string())),
        }
        Ok(cpu)
    }

    /// Sizes of every output as they are, whatever is declared; `None` if that is not known for all
    /// sizes of inputs.
    pub(crate) fn outputs(&self) -> Option<Vec<Sizes>> {
        let is_concrete = self.signature.inputs.iter().all(|spec| spec.shape.iter().all(Option::is_some));
        let only = self.plans.front().filter(|_| is_concrete).map(|(_, plan)| plan);
        let model = self.any.as_ref().or(only)?.model();
        let sizes = |fact: &TypedFact| fact.shape.iter().map(|size| size.to_usize().ok()).collect();
        (0..self.signature.outputs.len()).map(|index| model.output_fact(index).ok().map(sizes)).collect()
    }

    /// A plan for exactly these shapes.
    fn concrete(&self, shapes: &[Vec<usize>]) -> Result<Plan, ScoreError> {
        self.shaped(shapes, |model| optimised(model)?.into_runnable())
    }

    /// Builds something of the model with inputs of exactly these shapes.
    fn shaped<T>(
        &self,
        shapes: &[Vec<usize>],
        build: impl FnOnce(InferenceModel) -> TractResult<T>,
    ) -> Result<T, ScoreError> {
        let work = || -> TractResult<T> {
            let mut model = self.model.clone();
            for (index, (shape, spec)) in shapes.iter().zip(&self.signature.inputs).enumerate() {
                model.set_input_fact(index, InferenceFact::dt_shape(datum_type(spec.datatype), shape.as_slice()))?;
            }
            build(model)
        };
        caught(work).map_err(ScoreError::Crashed)?.map_err(|why| ScoreError::Failed(chain(&why)))
    }

    /// Scores without giving the outputs, and tells of each node that ran.
    pub(crate) fn observe(&mut self, inputs: &[Tensor], tell: &mut dyn FnMut(NodeTime)) -> Result<(), ScoreError> {
        let inputs = arrange(&self.signature, inputs)?;
        let plan = self.plan(&inputs)?;
        let work = || -> TractResult<()> {
            let values = inputs.iter().map(|tensor| Ok(into_tract(tensor)?.into())).collect::<TractResult<_>>()?;
            plan.spawn()?.run_plan_with_eval(values, |context, state, node, inputs| {
                let start = Instant::now();
                let (outputs, parts) = parts_of(|| eval(context, state, node, inputs));
                let time = start.elapsed();
                if !parts.is_empty() {
                    parts.into_iter().for_each(&mut *tell);
                    return outputs;
                }
                let size = |value: &TValue| value.len().saturating_mul(value.datum_type().size_of());
                let output_bytes = outputs.iter().flatten().map(size).sum();
                let (name, operator) = (node.name.clone(), node.op.name().into_owned());
                tell(NodeTime { name, operator, time, output_bytes });
                outputs
            })?;
            Ok(())
        };
        caught(work).map_err(ScoreError::Crashed)?.map_err(|why| ScoreError::Failed(chain(&why)))
    }

    /// Scores; every output as it comes, and values inside behind them.
    ///
    /// # Errors
    ///
    /// [`ScoreError`]; also where a value inside does not hold FP32.
    pub(crate) fn reals(&mut self, inputs: &[Tensor]) -> Result<Vec<Reals>, ScoreError> {
        let declared = self.signature.outputs.len();
        let real = |(place, value): (usize, &TValue)| {
            let kind = value.datum_type();
            if place >= declared && kind != DatumType::F32 {
                return Err(ScoreError::Failed(format!("a value inside holds {kind:?}: FP32 is expected")));
            }
            let data = from_tract(value, DataType::Fp32).map_err(|why| ScoreError::Failed(chain(&why)))?;
            let Data::Fp32(numbers) = data else { return Err(ScoreError::Failed("no floats came".to_owned())) };
            Ok(Reals { shape: value.shape().to_vec(), numbers })
        };
        self.scored(inputs)?.iter().enumerate().map(real).collect()
    }

    fn scored(&mut self, inputs: &[Tensor]) -> Result<TVec<TValue>, ScoreError> {
        let inputs = arrange(&self.signature, inputs)?;
        let plan = self.plan(&inputs)?;
        caught(|| -> TractResult<TVec<TValue>> {
            let values = inputs.iter().map(|tensor| Ok(into_tract(tensor)?.into())).collect::<TractResult<_>>()?;
            plan.run(values)
        })
        .map_err(ScoreError::Crashed)?
        .map_err(|why| ScoreError::Failed(chain(&why)))
    }

    /// The plan for these inputs, made if there is none.
    fn plan(&mut self, inputs: &[&Tensor]) -> Result<Plan, ScoreError> {
        let fits = |shapes: &Shapes| shapes.iter().zip(inputs).all(|(shape, tensor)| shape == tensor.shape());
        if let Some((_, plan)) = self.plans.iter().find(|(shapes, _)| fits(shapes)) {
            return Ok(Arc::clone(plan));
        }
        let shapes: Shapes = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
        let is_even = inputs.windows(2).all(|pair| matches!(pair, [a, b] if a.shape().first() == b.shape().first()));
        if let Some(plan) = self.any.as_ref().filter(|_| is_even || !self.assumes_rows) {
            let plan = Arc::clone(plan);
            if !self.analysed.contains(&shapes) {
                self.shaped(&shapes, typed)?;
                self.analysed.truncate(SHAPES_MAX - 1);
                self.analysed.push_front(shapes);
            }
            return Ok(plan);
        }
        let plan = self.concrete(&shapes)?;
        if self.plans.len() >= PLANS_MAX {
            // The plan for one row is the first and stays.
            self.plans.remove(1);
        }
        self.plans.push_back((shapes, Arc::clone(&plan)));
        Ok(plan)
    }
}

impl Scorer for Cpu {
    fn signature(&self) -> &TensorSignature {
        &self.signature
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
        let outputs = self.scored(inputs)?;
        let specs = &self.signature.outputs;
        if outputs.len() != specs.len() {
            return Err(ScoreError::Failed(format!("{} outputs came, {} were declared", outputs.len(), specs.len())));
        }
        specs
            .iter()
            .zip(&outputs)
            .map(|(spec, value)| {
                let data = from_tract(value, spec.datatype).map_err(|why| ScoreError::Failed(chain(&why)))?;
                Tensor::new(spec.name.clone(), value.shape().to_vec(), data)
                    .map_err(|why| ScoreError::Failed(why.to_string()))
            })
            .collect()
    }
}

/// Gives the first size of inputs a name where it varies without one, as it does in what skl2onnx
/// writes: tract plans for any size only what has a name. Tells whether there were any.
fn name_rows(graph: &mut GraphProto) -> bool {
    const ROWS: &str = "unnamed_rows";
    let stored: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut found = false;
    for input in graph.input.iter_mut().filter(|input| !stored.contains(input.name.as_str())) {
        let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        else {
            continue;
        };
        let Some(first) = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut()) else { continue };
        if first.value.is_none() {
            first.value = Some(dimension::Value::DimParam(ROWS.to_owned()));
            found = true;
        }
    }
    found
}

/// Every shape worked out, and none of them beyond what is safe to run.
fn typed(model: InferenceModel) -> TractResult<TypedModel> {
    let model = model.into_typed()?;
    sizes::check(&model)?;
    Ok(model)
}

/// As [`typed`], as fast as we know how to make it.
fn optimised(model: InferenceModel) -> TractResult<TypedModel> {
    ops::rewrite(typed(model)?)?.into_optimized()
}

/// Runs `work`; a panic becomes its message.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Nothing that `work` could leave half-changed is looked at after a panic: plans are immutable
    // and a value under construction is dropped.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
    })
}

/// The whole chain of causes on one line, bounded: tract prints whole tensors into some.
fn chain(why: &tract_onnx::prelude::TractError) -> String {
    const TEXT_CHARS_MAX: usize = 400;
    let text = format!("{why:#}").replace('\n', " ");
    text.chars().take(TEXT_CHARS_MAX).collect()
}

const fn datum_type(datatype: DataType) -> DatumType {
    match datatype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Int8 => DatumType::I8,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Int16 => DatumType::I16,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
    }
}

fn into_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    crate::each_type!(tensor.data(), values => TractTensor::from_shape(tensor.shape(), values))
}

/// Casts to the declared type: tract gives symbolic dimensions where ONNX says INT64.
fn from_tract(value: &TractTensor, datatype: DataType) -> TractResult<Data> {
    let cast = value.cast_to_dt(datum_type(datatype))?;
    let view = cast.try_as_plain_ram()?;
    Ok(match datatype {
        DataType::Bool => Data::Bool(view.as_slice::<bool>()?.to_vec()),
        DataType::Uint8 => Data::Uint8(view.as_slice::<u8>()?.to_vec()),
        DataType::Int8 => Data::Int8(view.as_slice::<i8>()?.to_vec()),
        DataType::Int32 => Data::Int32(view.as_slice::<i32>()?.to_vec()),
        DataType::Int64 => Data::Int64(view.as_slice::<i64>()?.to_vec()),
        DataType::Fp32 => Data::Fp32(view.as_slice::<f32>()?.to_vec()),
        DataType::Fp64 => Data::Fp64(view.as_slice::<f64>()?.to_vec()),
        DataType::Int16 => Data::Int16(view.as_slice::<i16>()?.to_vec()),
        DataType::Uint16 => Data::Uint16(view.as_slice::<u16>()?.to_vec()),
        DataType::Uint32 => Data::Uint32(view.as_slice::<u32>()?.to_vec()),
        DataType::Uint64 => Data::Uint64(view.as_slice::<u64>()?.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CNN: &[u8] = include_bytes!("../../../tests/data/digits-cnn.onnx");

    #[test]
    fn a_row_scores_the_same_alone_and_in_a_batch() {
        const ROWS: usize = 19;
        let mut cpu = Cpu::load(CNN).unwrap();
        let pixels: Vec<f32> = (0..ROWS * 64).map(|i| (i % 17 + i / 64) as f32 / 32.0).collect();
        let some = |pixels: &[f32]| {
            Tensor::new("image".parse().unwrap(), vec![pixels.len() / 64, 64], Data::Fp32(pixels.to_vec())).unwrap()
        };
        let batch = cpu.run(&[some(&pixels)]).unwrap();
        assert_eq!(batch[0].shape(), [ROWS, 10]);
        for (row, pixels) in pixels.chunks(64).enumerate() {
            let single = cpu.run(&[some(pixels)]).unwrap();
            for class in 0..10 {
                let (one, all) = (single[0].data().number(class), batch[0].data().number(row * 10 + class));
                assert!((one.unwrap() - all.unwrap()).abs() < 1e-6, "row {row}, class {class}: {one:?} {all:?}");
            }
        }
    }

    #[test]
    fn rows_without_a_name_are_planned_for_once() {
        let (bytes, _) = crate::lower::lowered(include_bytes!("../tests/data/words.onnx")).unwrap();
        let mut cpu = Cpu::load(&bytes).unwrap();
        for rows in [1, 2, 3, 7] {
            let x = Tensor::new("X".parse().unwrap(), vec![rows, 4], Data::Fp32(vec![0.5; rows * 4])).unwrap();
            assert_eq!(cpu.run(&[x]).unwrap()[1].shape(), [rows, 3]);
        }
        assert_eq!(cpu.plans.len(), 1);
        assert_eq!(cpu.outputs().unwrap(), [vec![None], vec![None, Some(3)]]);
    }

    #[test]
    fn what_the_runtime_lacks_is_refused_at_load() {
        let pooled = include_bytes!("../../../tests/data/bad/unsupported-operator.onnx");
        let why = Cpu::load(pooled).unwrap_err().to_string();
        assert!(why.contains("LpPool"), "{why}");
        assert!(matches!(
            Cpu::load(include_bytes!("../../../tests/data/bad/truncated.onnx")),
            Err(LoadError::Inspect(_))
        ));
    }
}
