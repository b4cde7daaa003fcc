//! The JSON of the Open Inference Protocol v2: requests and answers.
//! <https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md>

use std::fmt;

use bellwether_protocol::limit::RANK_MAX;
use bellwether_protocol::manifest::{DataType, TensorSpec};
use bellwether_runtime::{Data, each_type};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A request.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) parameters: Parameters,
    pub(super) inputs: Vec<Input>,
    #[serde(default)]
    pub(super) outputs: Vec<Output>,
}

/// The parameters of the binary tensor extension; others are ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) binary_data_size: Option<usize>,
    pub(super) binary_data: Option<bool>,
    pub(super) binary_data_output: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) datatype: String,
    #[serde(default)]
    pub(super) parameters: Parameters,
    pub(super) data: Option<Flat>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: Parameters,
}

/// A number before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

/// Elements, nested or flat, in row-major order.
#[derive(Debug, Default)]
pub(super) struct Flat(Vec<Number>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Vec::new();
        Level { flat: &mut flat, depth: 0 }.deserialize(deserializer)?;
        Ok(Self(flat))
    }
}

struct Level<'f> {
    flat: &'f mut Vec<Number>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbers or booleans, nested at most {RANK_MAX} deep")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.flat.push(Number::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.flat.push(Number::Signed(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.flat.push(Number::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.flat.push(Number::Float(value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth > RANK_MAX {
            return Err(serde::de::Error::invalid_value(serde::de::Unexpected::Seq, &self));
        }
        while seq.next_element_seed(Level { flat: self.flat, depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }
}

impl Number {
    #[expect(clippy::cast_possible_truncation, reason = "to the nearest FP32, as JSON has no narrower numbers")]
    fn fp32(self) -> Option<f32> {
        self.fp64().map(|value| value as f32)
    }

    #[expect(clippy::cast_precision_loss, reason = "whole numbers beyond 2^53 round, as in every JSON reader")]
    fn fp64(self) -> Option<f64> {
        match self {
            Self::Bool(_) => None,
            Self::Signed(value) => Some(value as f64),
            Self::Unsigned(value) => Some(value as f64),
            Self::Float(value) => Some(value),
        }
    }

    fn whole<T: TryFrom<i64> + TryFrom<u64>>(self) -> Option<T> {
        match self {
            Self::Signed(value) => T::try_from(value).ok(),
            Self::Unsigned(value) => T::try_from(value).ok(),
            Self::Bool(_) | Self::Float(_) => None,
        }
    }

    fn bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Unsigned(0) => Some(false),
            Self::Unsigned(1) => Some(true),
            Self::Signed(_) | Self::Unsigned(_) | Self::Float(_) => None,
        }
    }
}

impl Flat {
    /// The elements as a type; otherwise the place of the first that is not of it.
    pub(super) fn into_data(self, datatype: DataType) -> Result<Data, usize> {
        fn all<T>(numbers: &[Number], of: impl Fn(Number) -> Option<T>) -> Result<Vec<T>, usize> {
            numbers.iter().enumerate().map(|(index, number)| of(*number).ok_or(index)).collect()
        }
        let numbers = self.0.as_slice();
        Ok(match datatype {
            DataType::Bool => Data::Bool(all(numbers, Number::bool)?),
            DataType::Uint8 => Data::Uint8(all(numbers, Number::whole)?),
            DataType::Int8 => Data::Int8(all(numbers, Number::whole)?),
            DataType::Int32 => Data::Int32(all(numbers, Number::whole)?),
            DataType::Int64 => Data::Int64(all(numbers, Number::whole)?),
            DataType::Fp32 => Data::Fp32(all(numbers, Number::fp32)?),
            DataType::Fp64 => Data::Fp64(all(numbers, Number::fp64)?),
            DataType::Int16 => Data::Int16(all(numbers, Number::whole)?),
            DataType::Uint16 => Data::Uint16(all(numbers, Number::whole)?),
            DataType::Uint32 => Data::Uint32(all(numbers, Number::whole)?),
            DataType::Uint64 => Data::Uint64(all(numbers, Number::whole)?),
        })
    }
}

/// An answer.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub(super) model_name: &'a str,
    pub(super) model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    pub(super) outputs: Vec<Answer<'a>>,
}

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) name: &'a str,
    pub(super) datatype: &'static str,
    pub(super) shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Elements<'a>>,
}

#[derive(Serialize)]
pub(super) struct Size {
    pub(super) binary_data_size: usize,
}

/// Elements as a flat array.
pub(super) struct Elements<'a>(pub(super) &'a Data);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        each_type!(self.0, values => values.serialize(serializer))
    }
}

/// What a model takes or gives.
#[derive(Serialize)]
pub(super) struct Spec {
    name: String,
    datatype: &'static str,
    shape: Vec<i64>,
}

impl From<&TensorSpec> for Spec {
    fn from(spec: &TensorSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            datatype: spec.datatype.name(),
            shape: spec.shape.iter().map(|size| size.map_or(-1, i64::from)).collect(),
        }
    }
}
