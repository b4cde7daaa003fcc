//! Reads a sample of data, from CSV or NumPy, into the tensors a model takes.

use std::collections::BTreeMap;

use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};

use crate::npz::{self, Array, NpzError};
use crate::shape_text;
use crate::tensor::{Data, Tensor};

/// Most rows of a sample: quantiles do not get better with more.
pub const SAMPLE_ROWS_MAX: usize = 1_000_000;

/// Rows of data as a model takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// One tensor for each input, in the model's order.
    pub inputs: Vec<Tensor>,
    /// How many rows.
    pub rows: usize,
    /// Names of the elements of a single input, if a header gave them.
    pub names: Option<Vec<String>>,
}

/// Why a sample is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SampleError {
    #[error(transparent)]
    Npz(#[from] NpzError),
    #[error("line {line}: {why}")]
    Csv { line: u64, why: String },
    #[error("{got} columns: expected {expected}, one for each element of input `{input}`")]
    Width { got: usize, expected: usize, input: String },
    #[error("a model of {0} inputs takes its sample as .npz, with an array named after each input")]
    Inputs(usize),
    #[error("input `{0}` has an open dimension besides the rows: a sample cannot fill it")]
    Open(String),
    #[error("array `{name}` has {got}: expected {expected}")]
    Array { name: String, got: String, expected: String },
    #[error("there is no array `{0}`: an .npz sample has one for each input")]
    Missing(String),
    #[error("{0} rows: expected 1 to {SAMPLE_ROWS_MAX}")]
    Rows(usize),
    #[error("`{0}` is of an unknown kind: expected .csv, .npy or .npz")]
    Kind(String),
}

impl Sample {
    /// Reads a file, whose name tells its kind.
    ///
    /// # Errors
    ///
    /// [`SampleError`].
    pub fn read(file_name: &str, bytes: &[u8], signature: &TensorSignature) -> Result<Self, SampleError> {
        let kind = file_name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let sample = match kind.as_str() {
            "csv" => Self::csv(bytes, only(signature)?)?,
            "npy" => {
                let spec = only(signature)?;
                let array = npz::read_one(bytes)?;
                Self { rows: rows(&array), inputs: vec![tensor(spec, &array)?], names: None }
            }
            "npz" => Self::npz(npz::read(bytes)?, signature)?,
            _ => return Err(SampleError::Kind(file_name.to_owned())),
        };
        if (1..=SAMPLE_ROWS_MAX).contains(&sample.rows) { Ok(sample) } else { Err(SampleError::Rows(sample.rows)) }
    }

    fn npz(mut arrays: BTreeMap<String, Array>, signature: &TensorSignature) -> Result<Self, SampleError> {
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            let name = spec.name.as_str();
            let array = arrays.remove(name).or_else(|| arrays.remove(&format!("in/{name}")));
            inputs.push(tensor(spec, &array.ok_or_else(|| SampleError::Missing(name.to_owned()))?)?);
        }
        let rows = inputs.first().map_or(0, Tensor::rows);
        match inputs.iter().find(|tensor| tensor.rows() != rows) {
            None => Ok(Self { inputs, rows, names: None }),
            Some(other) => Err(SampleError::Array {
                name: other.name.to_string(),
                got: format!("{} rows", other.rows()),
                expected: format!("{rows}, as the first input has"),
            }),
        }
    }

    /// One row a line; the first line is a header if it holds anything that is no number.
    fn csv(bytes: &[u8], spec: &TensorSpec) -> Result<Self, SampleError> {
        let width = elements(spec)?;
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(bytes);
        let (mut numbers, mut rows, mut names) = (Vec::new(), 0, None);
        for record in reader.records() {
            let line = |record: &csv::StringRecord| record.position().map_or(0, csv::Position::line);
            let record = record.map_err(|why| SampleError::Csv { line: 0, why: why.to_string() })?;
            if record.len() != width {
                return Err(SampleError::Width { got: record.len(), expected: width, input: spec.name.to_string() });
            }
            let parsed: Vec<Option<f32>> = record.iter().map(read_number).collect();
            if rows == 0 && names.is_none() && parsed.iter().any(Option::is_none) {
                names = Some(record.iter().map(ToOwned::to_owned).collect());
                continue;
            }
            for (field, number) in record.iter().zip(parsed) {
                let why = || SampleError::Csv { line: line(&record), why: format!("`{field:.40}` is no number") };
                numbers.push(number.ok_or_else(why)?);
            }
            rows += 1;
            if rows > SAMPLE_ROWS_MAX {
                return Err(SampleError::Rows(rows));
            }
        }
        let array = Array { shape: vec![rows, width], data: Data::Fp32(numbers) };
        Ok(Self { inputs: vec![tensor(spec, &array)?], rows, names })
    }
}

/// An empty field is a missing value.
fn read_number(field: &str) -> Option<f32> {
    if field.is_empty() { Some(f32::NAN) } else { field.parse().ok() }
}

fn only(signature: &TensorSignature) -> Result<&TensorSpec, SampleError> {
    match signature.inputs.as_slice() {
        [spec] => Ok(spec),
        inputs => Err(SampleError::Inputs(inputs.len())),
    }
}

fn rows(array: &Array) -> usize {
    array.shape.first().copied().unwrap_or(0)
}

fn elements(spec: &TensorSpec) -> Result<usize, SampleError> {
    let open = || SampleError::Open(spec.name.to_string());
    spec.shape
        .iter()
        .skip(1)
        .try_fold(1usize, |product, size| size.and_then(|size| product.checked_mul(size as usize)).ok_or_else(open))
}

/// An array as the input takes it: any number of rows, any shape of as many elements, any type that
/// holds the same numbers.
fn tensor(spec: &TensorSpec, array: &Array) -> Result<Tensor, SampleError> {
    let (width, rows) = (elements(spec)?, rows(array));
    let wrong = || SampleError::Array {
        name: spec.name.to_string(),
        got: format!("shape {:?}", array.shape),
        expected: shape_text(spec),
    };
    if rows.checked_mul(width) != Some(array.data.len()) {
        return Err(wrong());
    }
    let shape = std::iter::once(rows).chain(spec.shape.iter().skip(1).flatten().map(|size| *size as usize)).collect();
    let shape = if spec.shape.is_empty() { vec![rows] } else { shape };
    Tensor::new(spec.name.clone(), shape, as_type(spec.datatype, &array.data)).map_err(|_| wrong())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and says so of no sample that fits"
)]
fn as_type(datatype: DataType, data: &Data) -> Data {
    if data.datatype() == datatype {
        return data.clone();
    }
    let numbers = (0..data.len()).filter_map(|index| data.number(index));
    match datatype {
        DataType::Bool => Data::Bool(numbers.map(|number| number != 0.0).collect()),
        DataType::Uint8 => Data::Uint8(numbers.map(|number| number as u8).collect()),
        DataType::Int8 => Data::Int8(numbers.map(|number| number as i8).collect()),
        DataType::Int32 => Data::Int32(numbers.map(|number| number as i32).collect()),
        DataType::Int64 => Data::Int64(numbers.map(|number| number as i64).collect()),
        DataType::Fp32 => Data::Fp32(numbers.map(|number| number as f32).collect()),
        DataType::Fp64 => Data::Fp64(numbers.collect()),
        DataType::Int16 => Data::Int16(numbers.map(|number| number as i16).collect()),
        DataType::Uint16 => Data::Uint16(numbers.map(|number| number as u16).collect()),
        DataType::Uint32 => Data::Uint32(numbers.map(|number| number as u32).collect()),
        DataType::Uint64 => Data::Uint64(numbers.map(|number| number as u64).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(width: u32) -> TensorSignature {
        let shape = [None, Some(width)].into_iter().collect();
        let spec = TensorSpec { name: "x".parse().unwrap(), datatype: DataType::Fp32, shape };
        TensorSignature { inputs: std::iter::once(spec).collect(), ..TensorSignature::default() }
    }

    #[test]
    fn a_csv_is_read_with_and_without_a_header() {
        let plain = Sample::read("a.csv", b"1,2\n3,\n", &signature(2)).unwrap();
        assert_eq!((plain.rows, plain.names), (2, None));
        let Data::Fp32(values) = plain.inputs[0].data() else { panic!("not floats") };
        assert_eq!(values[..3], [1.0, 2.0, 3.0]);
        assert!(values[3].is_nan(), "an empty field is missing");
        let named = Sample::read("A.CSV", b"temp, rms\n1,2\n", &signature(2)).unwrap();
        assert_eq!((named.rows, named.names), (1, Some(vec!["temp".to_owned(), "rms".to_owned()])));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_was_expected() {
        let says = |name: &str, bytes: &[u8]| Sample::read(name, bytes, &signature(2)).unwrap_err().to_string();
        assert!(says("a.csv", b"1,2,3\n").contains("3 columns: expected 2"));
        assert!(says("a.csv", b"1,2\n3,cat\n").contains("line 2: `cat` is no number"));
        assert!(says("a.csv", b"").contains("0 rows"));
        assert!(says("a.parquet", b"").contains("expected .csv, .npy or .npz"));
        assert!(says("a.npy", b"nothing").contains("does not begin like a .npy"));
        assert!(says("a.npz", include_bytes!("../../../tests/data/digits.npz")).contains("no array `x`"));
    }
}
