//! A model whose middle is scored by an engine, or by its twin, and whose ends by the CPU.
//!
//! ```text
//!   inputs ── before (tract) ── int8 rows ──► engine or twin ──► int8 rows ── after (tract) ── outputs
//! ```

use std::fmt::{self, Display};

use bellwether_fpga::board::Image;
use bellwether_fpga::compile::{Plan, Unfit, compile};
use bellwether_fpga::layer::WORD_BYTES;
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
    /// Cycles from the first bit of a row to the last of its answer, over SPI as fast as the engine's clock.
    pub whole_cycles: u64,
    /// Bytes of weights that do not fit in the engine and are sent for each row.
    pub streamed_bytes: u64,
    /// What stays on the CPU, and why, in the order of the model.
    pub left: Vec<super::Left>,
}

impl Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { build, layers, macs, cycles, whole_cycles, streamed_bytes, left } = self;
        write!(f, "{layers} layers to the engine {build:08x}, {macs} multiplications in about {cycles} clk a row")?;
        write!(f, ", {whole_cycles} with the bus")?;
        if *streamed_bytes > 0 {
            write!(f, ", over which {streamed_bytes} bytes of weights go for each row, as they do not fit")?;
        }
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
            whole_cycles: self.plan.whole_clk(),
            streamed_bytes: (self.plan.streamed_words() * WORD_BYTES) as u64,
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
        let values =
            from_bytes(given.data()).ok_or_else(|| failed("what goes into the engine is no bytes".to_owned()))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::Vectors;
    use crate::{Beside, Cpu, check, npz, prepare};
    use bellwether_fpga::board::UP5K;

    const CNN: &[u8] = include_bytes!("../../../../tests/data/digits-cnn-eight.onnx");
    const VECTORS: &[u8] = include_bytes!("../../../../tests/data/digits-cnn-eight.vectors.npz");
    const LINEAR: &[u8] = include_bytes!("../../../../tests/data/digits-linear.onnx");
    const DIGITS: &[u8] = include_bytes!("../../../../tests/data/digits.npz");

    /// Every digit of the set, in one batch.
    fn digits() -> Tensor {
        let arrays = npz::read(DIGITS).unwrap();
        let Data::Uint8(pixels) = &arrays["images"].data else { panic!("images are bytes") };
        let pixels: Vec<f32> = pixels.iter().map(|pixel| f32::from(*pixel) / 16.0).collect();
        Tensor::new("image".parse().unwrap(), vec![pixels.len() / 64, 64], Data::Fp32(pixels)).unwrap()
    }

    #[test]
    fn an_offloaded_model_answers_as_the_whole_one_does() {
        let mut offloaded = Offload::new(CNN).unwrap().by_twin();
        assert!(check(&mut offloaded, &Vectors::read(VECTORS).unwrap()).unwrap().passed);
        let (input, mut cpu) = (digits(), Cpu::load(CNN).unwrap());
        let (ours, whole) =
            (offloaded.run(std::slice::from_ref(&input)).unwrap(), cpu.run(std::slice::from_ref(&input)).unwrap());
        assert_eq!((ours.len(), &ours[0].name, ours[0].shape()), (whole.len(), &whole[0].name, whole[0].shape()));
        let count = ours[0].shape().iter().product::<usize>();
        assert_eq!(count, 1797 * 10);
        let apart = |at| (ours[0].data().number(at).unwrap() - whole[0].data().number(at).unwrap()).abs();
        let apart = (0..count).map(apart).fold(0.0, f64::max);
        assert!(apart <= 1e-6, "{apart}");
    }

    #[test]
    fn what_is_wrong_with_an_input_is_said_as_for_any_model() {
        let mut offloaded = Offload::new(CNN).unwrap().by_twin();
        let short = Tensor::new("image".parse().unwrap(), vec![1, 63], Data::Fp32(vec![0.0; 63])).unwrap();
        assert!(matches!(offloaded.run(&[short]), Err(ScoreError::Shape { .. })));
        assert!(matches!(offloaded.run(&[]), Err(ScoreError::Missing { .. })));
    }

    fn with(bitstream: &[u8]) -> Beside<'_> {
        Beside { vectors: Some(VECTORS), bitstream: Some(bitstream), ..Beside::default() }
    }

    #[test]
    fn a_package_holds_a_model_and_its_bitstream_or_no_mixed_pair() {
        let name = "digits".parse().unwrap();
        let prepared = prepare(&name, "m.onnx", CNN, &with(UP5K)).unwrap();
        let offload = prepared.offload.clone().unwrap();
        assert_eq!((offload.layers, offload.macs, offload.streamed_bytes), (3, 47_104, 0), "{offload}");
        assert!(offload.whole_cycles > offload.cycles, "{offload}");
        assert_eq!(crate::repeat(&prepared.package).unwrap().package, prepared.package);
        assert_eq!(crate::examine(&prepared.package).unwrap().offload, prepared.offload);
        let (_, image) = crate::open_offload(&prepared.package).unwrap().unwrap();
        assert_eq!(image.facts().build, Some(offload.build));
        let says =
            |model: &[u8], bitstream: &[u8]| prepare(&name, "m.onnx", model, &with(bitstream)).unwrap_err().to_string();
        let mut flipped = UP5K.to_vec();
        flipped[5000] ^= 1;
        assert!(says(CNN, &flipped).contains("the bitstream is refused"), "{}", says(CNN, &flipped));
        assert!(says(CNN, &UP5K[..UP5K.len() / 2]).contains("the bitstream is refused"));
        let linear = Beside { bitstream: Some(UP5K), ..Beside::default() };
        let why = prepare(&name, "m.onnx", LINEAR, &linear).unwrap_err().to_string();
        assert!(why.contains("not quantised: run `bellwether model quantize`"), "{why}");
        // The same, of a bitstream whose comment says nothing.
        let ends = UP5K.windows(2).position(|pair| pair == [0x00, 0xff]).unwrap();
        let nameless = [&[0xff, 0x00], &UP5K[ends..]].concat();
        assert!(says(CNN, &nameless).contains("does not say which engine"), "{}", says(CNN, &nameless));
    }
}
