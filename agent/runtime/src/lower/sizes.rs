//! Gives sizes that vary a number: `height=96` for one that the model names, `image.2=96` for an axis of
//! an input that it does not. A model of fixed sizes is checked more closely and scored faster; the first
//! dimension is best left open.

use std::str::FromStr;

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{ModelProto, TensorShapeProto, ValueInfoProto, type_proto};

/// A size that varies, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As the model calls it, or `INPUT.AXIS`.
    pub name: String,
    /// The number.
    pub size: u32,
}

/// Why a size is not bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BindError {
    #[error("`{0}` is not NAME=SIZE or INPUT.AXIS=SIZE with a size from 1 up")]
    Form(String),
    #[error("no size that varies is called `{name}`: the model has {known}")]
    Unknown { name: String, known: String },
}

impl FromStr for Bound {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let form = || BindError::Form(text.to_owned());
        let (name, size) = text.split_once('=').ok_or_else(form)?;
        let size = size.parse().ok().filter(|size| *size > 0).ok_or_else(form)?;
        if name.is_empty() { Err(form()) } else { Ok(Self { name: name.to_owned(), size }) }
    }
}

/// Binds sizes of a model file, and says in words which. A file that does not read is given back.
///
/// # Errors
///
/// [`BindError::Unknown`] with the names that there are.
pub fn bind(bytes: &[u8], sizes: &[Bound]) -> Result<(Vec<u8>, Vec<String>), BindError> {
    let mut model = match ModelProto::decode(bytes) {
        Ok(model) if !sizes.is_empty() => model,
        _ => return Ok((bytes.to_vec(), Vec::new())),
    };
    let mut said = Vec::new();
    let Some(graph) = &mut model.graph else { return Ok((bytes.to_vec(), said)) };
    let known = names(&graph.input);
    for Bound { name, size } in sizes {
        let mut count = 0;
        for (place, value) in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).enumerate() {
            let axis = name.strip_prefix(value.name.as_str()).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
            let axis: Option<usize> = axis.filter(|_| place < known.1);
            let Some(shape) = shape(value) else { continue };
            for (index, dimension) in shape.dim.iter_mut().enumerate() {
                let is_named = matches!(&dimension.value, Some(dimension::Value::DimParam(known)) if known == name);
                let is_open = !matches!(dimension.value, Some(dimension::Value::DimValue(fixed)) if fixed > 0);
                if is_named || (axis == Some(index) && is_open) {
                    dimension.value = Some(dimension::Value::DimValue(i64::from(*size)));
                    count += 1;
                }
            }
        }
        if count == 0 {
            let known = if known.0.is_empty() { "none".to_owned() } else { known.0.join(", ") };
            return Err(BindError::Unknown { name: name.clone(), known });
        }
        said.push(format!("size `{name}` is {size}"));
    }
    Ok((model.encode_to_vec(), said))
}

/// What the sizes of the inputs that vary are called, and how many inputs there are.
fn names(inputs: &[ValueInfoProto]) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    for value in inputs {
        let mut value = value.clone();
        let input = value.name.clone();
        for (axis, dimension) in shape(&mut value).iter().flat_map(|shape| shape.dim.iter().enumerate()) {
            let name = match &dimension.value {
                Some(dimension::Value::DimParam(name)) if !name.is_empty() => format!("`{name}`"),
                Some(dimension::Value::DimValue(fixed)) if *fixed > 0 => continue,
                _ => format!("`{input}.{axis}`"),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    (names, inputs.len())
}

fn shape(value: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_mut()?.value.as_mut()?;
    tensor.shape.as_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: &[u8] = include_bytes!("../../../../tests/data/digits-linear.onnx");

    #[test]
    fn a_size_is_bound_by_its_name_or_by_its_axis() {
        let open = crate::inspect(LINEAR).unwrap().signature;
        assert_eq!(crate::shape_text(&open.inputs[0]), "[-1, 64]");
        let why = bind(LINEAR, &["rows=4".parse().unwrap()]).unwrap_err().to_string();
        let name = why.split('`').nth(3).unwrap().to_owned();
        for name in [name, "image.0".to_owned()] {
            let (bytes, said) = bind(LINEAR, &[Bound { name: name.clone(), size: 4 }]).unwrap();
            assert_eq!(said, [format!("size `{name}` is 4")]);
            let bound = crate::inspect(&bytes).unwrap().signature;
            assert_eq!(crate::shape_text(&bound.inputs[0]), "[4, 64]");
            assert!(bind(&bytes, &[Bound { name, size: 4 }]).is_err(), "it does not vary any more");
        }
        assert!("height".parse::<Bound>().is_err() && "height=0".parse::<Bound>().is_err());
        assert_eq!(bind(LINEAR, &[]).unwrap().0, LINEAR);
    }
}
