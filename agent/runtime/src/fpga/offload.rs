//! A model whose middle is scored by an engine, or by its twin, and whose ends by the CPU.
//!
//! ```text
//!   inputs ── before (tract) ── int8 rows ──► engine or twin ──► int8 rows ── after (tract) ── outputs
//! ```

use std::fmt::{self, Display};

use bellwether_fpga::board::Image;
use bellwether_fpga::compile::{Plan, Unfit, compile};
use bellwether_fpga::score::{Scores, Twin};
use bellwether_protocol::id::TensorName;
use bellwether_protocol::manifest::TensorSignature;
use prost::Message as _;
use tract_onnx::pb::ModelProto;

use super::{LiftError, Lifted, Port, halves, lift};
use crate::cpu::{Cpu, LoadError};
use crate::inspect::{self, InspectError};
use crate::tensor::{Data, Tensor};
use crate::{ScoreError, Scorer, arrange};

/// Why a model and a bitstream are no pair.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OffloadError {
    #[error("the bitstream is refused: {0}")]
    Bitstream(#[from] bellwether_fpga::bitstream::ice40::Refused),
    #[error(
        "the bitstream does not say which engine it is: its comment has no `build=`. Take fpga/rtl/up5k/bellwether.bin, \
         or one that `fpga/rtl/build bitstream` made"
    )]
    Nameless,
    #[error("the engine has nothing to do in this model: {0}")]
    Lift(#[from] LiftError),
    #[error("what the engine would do does not fit it: {0}")]
    Compile(#[from] Unfit),
    #[error("what is left to the CPU does not load: {0}")]
    Load(#[from] LoadError),
}

/// A model, divided between CPU and engine.
#[derive(Debug)]
pub struct Offload {
    signature: TensorSignature,
    before: Option<Cpu>,
    after: Option<Cpu>,
    lifted: Lifted,
    plan: Plan,
}

/// What of a model goes to an engine, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Offloads {
    /// What the bitstream says that its engine was built from.
    pub build: u32,
    /// Layers of the engine.
    pub layers: usize,
    /// Their multiplications for a row.
    pub macs: u64,
    /// Cycles of the engine for a row, within a few in a hundred.
    pub cycles: u64,
    /// What stays on the CPU, and why, in the order of the model.
    pub left: Vec<super::Left>,
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { build, layers, macs, cycles, left } = self;
        write!(f, "{layers} layers to the engine {build:08x}, {macs} multiplications in about {cycles} clk a row")?;
        for left in left {
            write!(f, "; {} `{}` stays on the CPU: {}", left.operator, left.name, left.why)?;
        }
        Ok(())
    }
}

impl Offload {
    /// Divides a model that was lowered for devices.
    ///
    /// # Errors
    ///
    /// [`OffloadError`].
    pub fn new(model: &[u8]) -> Result<Self, OffloadError> {
        let lifted = lift(model)?;
        let plan = compile(&lifted.network)?;
        let damaged = |why: prost::DecodeError| LiftError::from(InspectError::Damaged(why.to_string()));
        let proto = ModelProto::decode(model).map_err(damaged)?;
        let halves::Halves { before, after } = halves::cut(&proto, &lifted);
        let load = |half: Option<ModelProto>| half.map(|half| Cpu::load(&half.encode_to_vec())).transpose();
        let (before, after) = (load(before)?, load(after)?);
        let signature = inspect::inspect(model).map_err(LoadError::from)?.signature;
        Ok(Self { signature, before, after, lifted, plan })
    }

    /// What the engine must hold.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What goes to an engine of this bitstream.
    ///
    /// # Errors
    ///
    /// [`OffloadError::Nameless`].
    pub fn offloads(&self, bitstream: &Image) -> Result<Offloads, OffloadError> {
        let (lifted, costs) = (&self.lifted, &self.plan.costs);
        Ok(Offloads {
            build: bitstream.facts().build.ok_or(OffloadError::Nameless)?,
            layers: lifted.network.layers.len(),
            macs: costs.iter().map(|cost| cost.macs).sum(),
            cycles: costs.iter().map(|cost| cost.clk).sum(),
            left: lifted.before.iter().chain(&lifted.after).cloned().collect(),
        })
    }

    /// Scored by the engine's twin.
    #[must_use]
    pub fn by_twin(self) -> Offloaded<Twin> {
        let twin = Twin::new(self.plan.clone());
        self.by(twin)
    }

    /// Scored by whatever has this plan.
    #[must_use]
    pub fn by<S>(self, scores: S) -> Offloaded<S> {
        Offloaded { offload: self, scores }
    }
}

/// A model whose middle is scored by `S`.
#[derive(Debug)]
pub struct Offloaded<S> {
    offload: Offload,
    scores: S,
}

impl<S> Offloaded<S> {
    /// Who scores the middle.
    pub const fn scores(&mut self) -> &mut S {
        &mut self.scores
    }
}

impl<S: Scores<Error: Display> + Send> Offloaded<S> {
    /// The engine's rows of a tensor of bytes, one after the other, each in the model's order.
    fn middle(&mut self, given: &Tensor) -> Result<Tensor, ScoreError> {
        let Lifted { input, output, .. } = &self.offload.lifted;
        let failed = |why: String| ScoreError::Failed(why);
        let values = from_bytes(given.data()).ok_or_else(|| failed("what goes into the engine is no bytes".to_owned()))?;
        let row = input.shape.count();
        if row == 0 || !values.len().is_multiple_of(row) {
            return Err(failed(format!("{} values go into the engine, {row} a row", values.len())));
        }
        let mut made = Vec::with_capacity(values.len() / row * output.shape.count());
        for values in values.chunks(row) {
            let values = input.to_engine(values).ok_or_else(|| failed("a row is cut short".to_owned()))?;
            let scored = self.scores.score(&values).map_err(|why| failed(why.to_string()))?;
            made.extend(output.from_engine(&scored).into_iter().map(|value| output.quantised.byte(value)));
        }
        let shape: Vec<usize> = std::iter::once(values.len() / row).chain(output.sizes.iter().copied()).collect();
        tensor(output, &self.offload, shape, made)
    }
}

/// The engine's output, as what comes behind takes it: under the name that it has there.
fn tensor(output: &Port, offload: &Offload, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Tensor, ScoreError> {
    let specs = match &offload.after {
        Some(after) => &after.signature().inputs,
        None => &offload.signature.outputs,
    };
    let name: Option<TensorName> = specs.first().map(|spec| spec.name.clone());
    let data = if output.quantised.is_unsigned {
        Data::Uint8(bytes)
    } else {
        Data::Int8(bytes.into_iter().map(u8::cast_signed).collect())
    };
    let name = name.ok_or_else(|| ScoreError::Failed("the model has no output".to_owned()))?;
    Tensor::new(name, shape, data).map_err(|why| ScoreError::Failed(why.to_string()))
}

/// As the engine has them.
fn from_bytes(data: &Data) -> Option<Vec<i8>> {
    match data {
        Data::Int8(values) => Some(values.clone()),
        Data::Uint8(values) => Some(values.iter().map(|value| (value ^ 0x80).cast_signed()).collect()),
        Data::Bool(_)
        | Data::Int32(_)
        | Data::Int64(_)
        | Data::Fp32(_)
        | Data::Fp64(_)
        | Data::Int16(_)
        | Data::Uint16(_)
        | Data::Uint32(_)
        | Data::Uint64(_) => None,
    }
}

impl<S: Scores<Error: Display> + Send> Scorer for Offloaded<S> {
    fn signature(&self) -> &TensorSignature {
        &self.offload.signature
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
        let arranged = arrange(&self.offload.signature, inputs)?;
        let [given] = arranged[..] else {
            return Err(ScoreError::Failed("an engine takes models of one input".to_owned()));
        };
        let nothing = || ScoreError::Failed("nothing comes out before the engine".to_owned());
        let made = match &mut self.offload.before {
            Some(before) => {
                let mut made = before.run(std::slice::from_ref(given))?;
                self.middle(&made.pop().ok_or_else(nothing)?)?
            }
            None => self.middle(given)?,
        };
        match &mut self.offload.after {
            Some(after) => after.run(&[made]),
            None => Ok(vec![made]),
        }
    }
}
