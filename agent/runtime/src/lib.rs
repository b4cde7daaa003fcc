//! Scoring: named tensors in, named tensors out.
//!
//! ```text
//!  model.onnx ──inspect──> ModelFacts          what it is, without running it
//!      │
//!      ├──fpga───────────> Lifted                what of a quantised one an engine in gateware can do
//!      │
//!      ├──────cpu────────> Scorer <──check── vectors (another runtime's answers)
//!      │                                        │
//!      ├──lower──prepare──> package bytes       └─> Verdict
//!      │                       │
//!      │                   examine   the same checks again, by whoever receives a package
//!      └──quantize──> model-int8.onnx, Report   eight bits, by a sample of data
//! ```
//!
//! Publisher, hub and device run this same code, so what is refused on a device was refused before.
//! Deliberately absent: files, sockets, clocks (but in [`profile`]). A model that nobody approved yet belongs in a child
//! process with limits ([`child`]): tract can be made to loop or to eat memory, panics are caught here.
//! [`crash`] ends a process where a test says so.
#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests compare exact numbers"))]

pub mod advice;
pub mod baseline;
pub mod check;
pub mod child;
pub mod columns;
pub mod cpu;
pub mod crash;
pub mod expected;
pub mod fpga;
pub mod inspect;
pub mod lower;
pub mod npz;
mod ops;
pub mod prepare;
pub mod profile;
pub mod quantize;
pub mod sample;
mod sizes;
pub mod tensor;
pub mod validate;
pub mod vectors;

use bellwether_protocol::heapless;
use bellwether_protocol::id::TensorName;
use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};

pub use baseline::Samples;
pub use check::{Verdict, Worst, check};
pub use cpu::{Cpu, LoadError};
pub use inspect::{InspectError, ModelFacts, advice, inspect};
pub use prepare::{
    Beside, Described, ExamineError, Examined, Extra, PrepareError, Prepared, describe, examine, open, open_offload,
    prepare, repeat, repeat_from,
};
pub use profile::{NodeTime, ProfileError, profile};
pub use sample::{Sample, SampleError};
pub use tensor::{BadLength, Data, Tensor};
pub use validate::{Effort, Invalid};
pub use vectors::{Vectors, VectorsError};

/// Newest version of the default ONNX operator set that this runtime is known to compute rightly.
pub const OPERATORS_NEWEST: u16 = 21;

/// Something that scores rows.
pub trait Scorer: Send {
    /// What it takes and gives.
    fn signature(&self) -> &TensorSignature;

    /// Scores: every input of the signature, in any order; every output comes back, in order.
    ///
    /// # Errors
    ///
    /// [`ScoreError`], which says what was expected.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError>;
}

/// Why a call to [`Scorer::run`] gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// An input the model does not have.
    #[error("there is no input `{got}`: the model takes {expected}")]
    UnknownInput {
        /// Its name.
        got: String,
        /// The names of the model's inputs.
        expected: String,
    },
    /// An input given twice.
    #[error("input `{0}` is given twice")]
    Twice(TensorName),
    /// An input left out.
    #[error("input `{name}` is missing: expected {expected}")]
    Missing {
        /// Its name.
        name: TensorName,
        /// Its type and shape.
        expected: String,
    },
    /// An input of another type.
    #[error("input `{name}` has type {}: expected {}", got.name(), expected.name())]
    Type {
        /// Its name.
        name: TensorName,
        /// The type that came.
        got: DataType,
        /// The type that the model takes.
        expected: DataType,
    },
    /// An input of another shape.
    #[error("input `{name}` has shape {got}: expected {expected}, where -1 is any size from 1 up")]
    Shape {
        /// Its name.
        name: TensorName,
        /// The shape that came.
        got: String,
        /// The shape that the model takes.
        expected: String,
    },
    /// The runtime gave up.
    #[error("the runtime could not score: {0}")]
    Failed(String),
    /// The runtime panicked; it was caught.
    #[error("the runtime crashed while scoring: {0}")]
    Crashed(String),
    /// The process that has the model ended in this call, or is not there yet: it is being started
    /// again.
    #[error("the model's process is being started again: {0}")]
    Away(String),
}

impl ScoreError {
    /// Whether the caller sent something wrong, as opposed to the model failing.
    #[must_use]
    pub const fn is_callers(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::Crashed(_) | Self::Away(_))
    }
}

/// Puts the inputs into the order of the signature and checks names, types and shapes.
///
/// # Errors
///
/// [`ScoreError`], which says what was expected.
pub fn arrange<'t>(signature: &TensorSignature, inputs: &'t [Tensor]) -> Result<Vec<&'t Tensor>, ScoreError> {
    for (index, tensor) in inputs.iter().enumerate() {
        if !signature.inputs.iter().any(|spec| spec.name == tensor.name) {
            let names: Vec<_> = signature.inputs.iter().map(|spec| format!("`{}`", spec.name)).collect();
            return Err(ScoreError::UnknownInput { got: tensor.name.to_string(), expected: names.join(", ") });
        }
        if inputs.iter().take(index).any(|before| before.name == tensor.name) {
            return Err(ScoreError::Twice(tensor.name.clone()));
        }
    }
    signature.inputs.iter().map(|spec| fitting(spec, inputs)).collect()
}

fn fitting<'t>(spec: &TensorSpec, inputs: &'t [Tensor]) -> Result<&'t Tensor, ScoreError> {
    let tensor = inputs.iter().find(|tensor| tensor.name == spec.name).ok_or_else(|| ScoreError::Missing {
        name: spec.name.clone(),
        expected: format!("{} {}", spec.datatype.name(), shape_text(spec)),
    })?;
    if tensor.datatype() != spec.datatype {
        return Err(ScoreError::Type { name: spec.name.clone(), got: tensor.datatype(), expected: spec.datatype });
    }
    let fits = tensor.shape().len() == spec.shape.len()
        && tensor.shape().iter().zip(&spec.shape).all(|(got, want)| {
            let wanted = want.map(|size| size as usize);
            *got > 0 && wanted.is_none_or(|size| size == *got)
        });
    if fits {
        Ok(tensor)
    } else {
        Err(ScoreError::Shape {
            name: spec.name.clone(),
            got: format!("{:?}", tensor.shape()),
            expected: shape_text(spec),
        })
    }
}

/// A shape as the Open Inference Protocol writes it: `[-1, 64]`.
#[must_use]
pub fn shape_text(spec: &TensorSpec) -> String {
    let sizes: heapless::Vec<String, 8> =
        spec.shape.iter().map(|size| size.map_or_else(|| "-1".into(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TensorSignature {
        let image = TensorSpec {
            name: "image".parse().unwrap(),
            datatype: DataType::Fp32,
            shape: [None, Some(64)].into_iter().collect(),
        };
        TensorSignature { inputs: [image].into_iter().collect(), outputs: heapless::Vec::new() }
    }

    fn tensor(name: &str, shape: &[usize], data: Data) -> Tensor {
        Tensor::new(name.parse().unwrap(), shape.to_vec(), data).unwrap()
    }

    #[test]
    fn a_refused_input_says_what_was_expected() {
        let floats = |n| Data::Fp32(vec![0.0; n]);
        let says = |inputs: &[Tensor]| arrange(&spec(), inputs).unwrap_err().to_string();
        assert!(arrange(&spec(), &[tensor("image", &[2, 64], floats(128))]).is_ok());
        assert!(says(&[tensor("x", &[1, 64], floats(64))]).contains("the model takes `image`"));
        assert!(says(&[]).contains("expected FP32 [-1, 64]"));
        assert!(says(&[tensor("image", &[1, 63], floats(63))]).contains("[1, 63]: expected [-1, 64]"));
        assert!(says(&[tensor("image", &[64], floats(64))]).contains("expected [-1, 64]"));
        assert!(says(&[tensor("image", &[0, 64], floats(0))]).contains("from 1 up"));
        assert!(says(&[tensor("image", &[1, 64], Data::Int8(vec![0; 64]))]).contains("INT8: expected FP32"));
        let twice = tensor("image", &[1, 64], floats(64));
        assert!(says(&[twice.clone(), twice]).contains("twice"));
    }
}
