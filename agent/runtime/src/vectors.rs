//! Golden vectors: rows of input and what another runtime answers to them.

use serde::Deserialize;

use crate::npz::{self, Array, NpzError};
use crate::tensor::{Data, Tensor};

/// Most rows: the self-test runs on the device at every install.
pub const ROWS_MAX: usize = 1024;

/// Golden vectors, read from an `.npz` with arrays `in/<tensor>`, `out/<tensor>` and `meta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// Inputs, rows first.
    pub inputs: Vec<Tensor>,
    /// What was answered; compared as numbers whatever their type.
    pub outputs: Vec<Tensor>,
    /// How many rows.
    pub rows: usize,
    /// Who answered, and how near is near enough.
    pub meta: Meta,
}

/// Where vectors come from; an absent `meta` means an unknown runtime and the tolerances below.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The runtime that made the outputs.
    pub runtime: String,
    /// Its version.
    pub runtime_version: String,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
}

impl Default for Meta {
    fn default() -> Self {
        Self { runtime: "an unnamed runtime".into(), runtime_version: String::new(), rtol: 1e-3, atol: 1e-4 }
    }
}

/// Why vectors are not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum VectorsError {
    #[error(transparent)]
    Npz(#[from] NpzError),
    #[error("array `{0}` is unexpected: arrays are named in/<input>, out/<output> and meta")]
    Unexpected(String),
    #[error("no array named {0}/<tensor>")]
    None(&'static str),
    #[error("array `{name}` has {got} rows, others have {expected}")]
    Rows { name: String, got: usize, expected: usize },
    #[error("{0} rows: expected 1 to {ROWS_MAX}")]
    RowCount(usize),
    #[error("array `{name}`: {why}")]
    Array { name: String, why: String },
    #[error("`meta` is not readable: {0}")]
    Meta(String),
}

impl Vectors {
    /// Reads vectors.
    ///
    /// # Errors
    ///
    /// [`VectorsError`].
    pub fn read(bytes: &[u8]) -> Result<Self, VectorsError> {
        let (mut inputs, mut outputs, mut meta) = (Vec::new(), Vec::new(), Meta::default());
        for (name, array) in npz::read(bytes)? {
            if let Some(input) = name.strip_prefix("in/") {
                inputs.push(tensor(&name, input, array)?);
            } else if let Some(output) = name.strip_prefix("out/") {
                outputs.push(tensor(&name, output, array)?);
            } else if name == "meta" {
                meta = read_meta(&array.data)?;
            } else {
                return Err(VectorsError::Unexpected(name));
            }
        }
        let rows = inputs.first().ok_or(VectorsError::None("in"))?.rows();
        if outputs.is_empty() {
            return Err(VectorsError::None("out"));
        }
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(VectorsError::RowCount(rows));
        }
        for (side, tensor) in inputs.iter().map(|t| ("in", t)).chain(outputs.iter().map(|t| ("out", t))) {
            if tensor.rows() != rows {
                let name = format!("{side}/{}", tensor.name);
                return Err(VectorsError::Rows { name, got: tensor.rows(), expected: rows });
            }
        }
        Ok(Self { inputs, outputs, rows, meta })
    }
}

fn tensor(array_name: &str, name: &str, array: Array) -> Result<Tensor, VectorsError> {
    let fault = |why: String| VectorsError::Array { name: array_name.to_owned(), why };
    if array.shape.is_empty() {
        return Err(fault("it is a single number: the first axis must be the rows".into()));
    }
    let name = name.parse().map_err(|bad: bellwether_protocol::id::BadId| fault(bad.to_string()))?;
    Tensor::new(name, array.shape, array.data).map_err(|bad| fault(bad.to_string()))
}

fn read_meta(data: &Data) -> Result<Meta, VectorsError> {
    let Data::Uint8(bytes) = data else {
        return Err(VectorsError::Meta("it must be a uint8 array with the bytes of a JSON text".into()));
    };
    let meta: Meta = serde_json::from_slice(bytes).map_err(|why| VectorsError::Meta(why.to_string()))?;
    for (name, value) in [("rtol", meta.rtol), ("atol", meta.atol)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(VectorsError::Meta(format!("{name} is {value}: expected 0 to 1")));
        }
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_name_the_runtime_that_made_them() {
        let vectors = Vectors::read(include_bytes!("../../../tests/data/digits-cnn.vectors.npz")).unwrap();
        assert_eq!((vectors.rows, vectors.meta.runtime.as_str()), (16, "onnxruntime"));
        assert_eq!(vectors.outputs[0].shape(), [16, 10]);
    }

    #[test]
    fn vectors_without_outputs_are_refused() {
        let bytes = include_bytes!("../../../tests/data/bad/missing-output.vectors.npz");
        assert_eq!(Vectors::read(bytes), Err(VectorsError::None("out")));
        assert!(matches!(
            Vectors::read(include_bytes!("../../../tests/data/digits.npz")),
            Err(VectorsError::Unexpected(_))
        ));
    }
}
