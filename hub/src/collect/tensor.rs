//! The values of one row: raw bytes in, typed columns and JSON out.

use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::api::types::{Elements, TensorValues};

/// What a version takes and gives for one row. Every file carries it, so that the file still reads
/// after the version was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<Spec>,
    pub(crate) outputs: Vec<Spec>,
}

/// One tensor of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// As the Open Inference Protocol names it, such as `FP32`.
    pub(crate) datatype: String,
    /// The dimensions, the batch being 1.
    pub(crate) shape: Vec<u32>,
}

/// The elements of one tensor; the small whole numbers share the width that Parquet has for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
}

impl Signature {
    /// The signature for one row; `None` where a dimension besides the batch is open.
    pub(crate) fn of(tensors: &TensorSignature) -> Option<Self> {
        let specs = |specs: &[TensorSpec]| specs.iter().map(Spec::of).collect::<Option<Vec<Spec>>>();
        Some(Self { inputs: specs(&tensors.inputs)?, outputs: specs(&tensors.outputs)? })
    }

    /// All tensors, inputs first, with the name of their column.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (String, &Spec)> {
        let inputs = self.inputs.iter().map(|spec| (format!("input.{}", spec.name), spec));
        inputs.chain(self.outputs.iter().map(|spec| (format!("output.{}", spec.name), spec)))
    }
}

impl Spec {
    fn of(spec: &TensorSpec) -> Option<Self> {
        let mut shape = Vec::with_capacity(spec.shape.len());
        for (axis, size) in spec.shape.iter().enumerate() {
            shape.push(if axis == 0 { 1 } else { (*size)? });
        }
        let made = Self { name: spec.name.to_string(), datatype: spec.datatype.name().to_owned(), shape };
        made.elements().map(|_| made)
    }

    pub(crate) fn datatype(&self) -> Option<DataType> {
        DataType::from_name(&self.datatype)
    }

    /// How many elements a row has; `None` beyond all memory.
    pub(crate) fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?))
    }
}

/// Reads the tensors of one row, little endian one after the other; `None` if the bytes are not
/// exactly those of `specs`.
pub(crate) fn read(specs: &[Spec], mut bytes: &[u8]) -> Option<Vec<Values>> {
    let mut tensors = Vec::with_capacity(specs.len());
    for spec in specs {
        let datatype = spec.datatype()?;
        let (tensor, rest) = bytes.split_at_checked(spec.elements()?.checked_mul(datatype.bytes())?)?;
        tensors.push(values(datatype, tensor));
        bytes = rest;
    }
    bytes.is_empty().then_some(tensors)
}

fn values(datatype: DataType, bytes: &[u8]) -> Values {
    let twos = || bytes.as_chunks::<2>().0.iter().copied();
    let fours = || bytes.as_chunks::<4>().0.iter().copied();
    let eights = || bytes.as_chunks::<8>().0.iter().copied();
    match datatype {
        DataType::Bool => Values::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
        DataType::Uint8 => Values::Int32(bytes.iter().map(|byte| i32::from(*byte)).collect()),
        DataType::Int8 => Values::Int32(bytes.iter().map(|byte| i32::from(byte.cast_signed())).collect()),
        DataType::Int32 => Values::Int32(fours().map(i32::from_le_bytes).collect()),
        DataType::Int64 => Values::Int64(eights().map(i64::from_le_bytes).collect()),
        DataType::Fp32 => Values::Fp32(fours().map(f32::from_le_bytes).collect()),
        DataType::Fp64 => Values::Fp64(eights().map(f64::from_le_bytes).collect()),
        DataType::Int16 => Values::Int32(twos().map(|pair| i32::from(i16::from_le_bytes(pair))).collect()),
        DataType::Uint16 => Values::Int32(twos().map(|pair| i32::from(u16::from_le_bytes(pair))).collect()),
        // Parquet has no unsigned numbers: their bits lie in signed ones.
        DataType::Uint32 => Values::Int32(fours().map(i32::from_le_bytes).collect()),
        DataType::Uint64 => Values::Int64(eights().map(i64::from_le_bytes).collect()),
    }
}

/// Tensors as the Open Inference Protocol writes them in JSON.
pub(crate) fn views(specs: &[Spec], tensors: Vec<Values>) -> Vec<TensorValues> {
    let view = |(spec, values): (&Spec, Values)| TensorValues {
        name: spec.name.clone(),
        datatype: spec.datatype.clone(),
        shape: spec.shape.clone(),
        data: elements(spec, values),
    };
    specs.iter().zip(tensors).map(view).collect()
}

fn elements(spec: &Spec, values: Values) -> Elements {
    match (spec.datatype(), values) {
        (Some(DataType::Uint32), Values::Int32(values)) => {
            Elements::Whole(values.into_iter().map(|bits| i64::from(bits.cast_unsigned())).collect())
        }
        (Some(DataType::Uint64), Values::Int64(values)) => {
            Elements::Natural(values.into_iter().map(i64::cast_unsigned).collect())
        }
        (_, values) => plain(values),
    }
}

fn plain(values: Values) -> Elements {
    match values {
        Values::Bool(values) => Elements::Bool(values),
        Values::Int32(values) => Elements::Whole(values.into_iter().map(i64::from).collect()),
        Values::Int64(values) => Elements::Whole(values),
        Values::Fp32(values) => Elements::Single(values.into_iter().map(|x| x.is_finite().then_some(x)).collect()),
        Values::Fp64(values) => Elements::Double(values.into_iter().map(|x| x.is_finite().then_some(x)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(datatype: DataType, shape: &[u32]) -> Spec {
        Spec { name: "x".to_owned(), datatype: datatype.name().to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn bytes_that_do_not_fit_the_signature_are_no_row() {
        let specs = [spec(DataType::Fp32, &[1, 2]), spec(DataType::Bool, &[1])];
        let bytes: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).chain([1]).collect();
        assert_eq!(read(&specs, &bytes).unwrap(), [Values::Fp32(vec![1.5, -2.0]), Values::Bool(vec![true])]);
        assert_eq!(read(&specs, &bytes[1..]), None);
        assert_eq!(read(&specs, &[&bytes[..], &[0]].concat()), None);
        assert_eq!(read(&specs, &[]), None);
        assert_eq!(read(&[spec(DataType::Fp64, &[1, u32::MAX, u32::MAX, u32::MAX])], &bytes), None);
        assert_eq!(read(&[Spec { datatype: "BYTES".to_owned(), ..spec(DataType::Bool, &[1]) }], &[1]), None);
    }

    #[test]
    fn json_has_the_shortest_digits_of_a_number_and_null_for_what_is_none() {
        let specs = [spec(DataType::Fp32, &[1, 3]), spec(DataType::Uint8, &[1, 1]), spec(DataType::Int64, &[1])];
        let values = [0.1_f32, f32::NAN, 2.0].iter().flat_map(|x| x.to_le_bytes()).chain([255]);
        let bytes: Vec<u8> = values.chain(i64::MAX.to_le_bytes()).collect();
        let text = serde_json::to_string(&views(&specs, read(&specs, &bytes).unwrap())).unwrap();
        assert!(text.contains(r#""shape":[1,3],"data":[0.1,null,2.0]"#), "{text}");
        assert!(text.contains(r#""datatype":"UINT8","shape":[1,1],"data":[255]"#), "{text}");
        assert!(text.contains("[9223372036854775807]"), "{text}");
    }
}
