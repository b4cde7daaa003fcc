//! The manifest: what a package contains and what its model expects and gives.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{FileName, ModelName, TensorName};
use crate::limit::{FILES_MAX, RANK_MAX, TENSORS_MAX};

/// What a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A model to score with.
    Model,
    /// Gateware for an FPGA.
    Bitstream,
    /// The agent itself.
    Agent,
    /// Firmware of a microcontroller.
    Firmware,
}

/// What a package contains. The version is not here: the registry gives it afterwards, in the
/// signed release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the package is for.
    pub kind: Kind,
    /// The model's name.
    pub name: ModelName,
    /// The files, in the order in which their bytes follow.
    pub files: Vec<File, FILES_MAX>,
    /// What the model takes and gives.
    pub tensors: TensorSignature,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A plain name.
    pub name: FileName,
    /// What the file is for.
    pub role: FileRole,
    /// Its size in bytes.
    pub size: u32,
    /// Its digest.
    pub digest: Digest,
}

/// What a file of a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRole {
    /// The ONNX model; exactly one in a package of [`Kind::Model`].
    Model,
    /// Golden vectors, made by another runtime; at most one.
    Vectors,
    /// Anything else, kept beside the model.
    Extra,
    /// What its values looked like where it was made: a [`crate::profile::Baseline`]; at most one.
    Baseline,
    /// What is asked of devices that run it: a [`crate::policy::Policy`]; at most one.
    Policy,
    /// What is loaded into the FPGA of a device that has one, for this model; at most one.
    Bitstream,
}

/// The tensors a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSignature {
    /// Inputs in the model's order.
    pub inputs: Vec<TensorSpec, TENSORS_MAX>,
    /// Outputs in the model's order.
    pub outputs: Vec<TensorSpec, TENSORS_MAX>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// As the model names it.
    pub name: TensorName,
    /// The type of its elements.
    pub datatype: DataType,
    /// Its dimensions; `None` where any size does (the batch).
    pub shape: Vec<Option<u32>, RANK_MAX>,
}

/// The type of a tensor's elements, named as the Open Inference Protocol does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataType {
    Bool,
    Uint8,
    Int8,
    Int32,
    Int64,
    Fp32,
    Fp64,
    Int16,
    Uint16,
    Uint32,
    Uint64,
}

impl DataType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::Bool,
        Self::Uint8,
        Self::Int8,
        Self::Int32,
        Self::Int64,
        Self::Fp32,
        Self::Fp64,
        Self::Int16,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
    ];

    /// The name in the Open Inference Protocol v2, such as `FP32`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Int8 => "INT8",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Int16 => "INT16",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 | Self::Fp32 => 4,
            Self::Int64 | Self::Uint64 | Self::Fp64 => 8,
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }
}
