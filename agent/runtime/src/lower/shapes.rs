//! What a model declares of its outputs' shapes, against what they are: converters of trees declare one
//! column for several targets, and one label for many rows.

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{ModelProto, TensorShapeProto, type_proto};

/// Sizes of an output's dimensions; `None` where one varies.
pub(crate) type Sizes = Vec<Option<usize>>;

/// The model with outputs of these shapes, and what was declared otherwise in words; `None` if nothing
/// was.
pub(crate) fn declared(bytes: &[u8], outputs: &[Sizes]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut model = ModelProto::decode(bytes).ok()?;
    let mut said = Vec::new();
    for (output, sizes) in model.graph.as_mut()?.output.iter_mut().zip(outputs) {
        let type_proto::Value::TensorType(tensor) = output.r#type.as_mut()?.value.as_mut()?;
        let shape = tensor.shape.as_mut()?;
        if fits(shape, sizes) {
            continue;
        }
        let named: Vec<Dimension> = shape.dim.clone();
        shape.dim = sizes.iter().enumerate().map(|(place, size)| dim(*size, named.get(place))).collect();
        let text: Vec<String> =
            sizes.iter().map(|size| size.map_or_else(|| "-1".to_owned(), |size| size.to_string())).collect();
        let name: String = output.name.chars().filter(|letter| !letter.is_control()).take(80).collect();
        said.push(format!("the shape of `{name}` is declared anew: [{}]", text.join(", ")));
    }
    (!said.is_empty()).then(|| (model.encode_to_vec(), said))
}

/// A size that varies may be declared of any that does not, not the other way around.
fn fits(shape: &TensorShapeProto, sizes: &[Option<usize>]) -> bool {
    let is_fitting = |(dim, size): (&Dimension, &Option<usize>)| match &dim.value {
        Some(dimension::Value::DimValue(declared)) if *declared > 0 => {
            size.is_some_and(|size| i64::try_from(size) == Ok(*declared))
        }
        Some(dimension::Value::DimValue(_) | dimension::Value::DimParam(_)) | None => true,
    };
    shape.dim.len() == sizes.len() && shape.dim.iter().zip(sizes).all(is_fitting)
}

/// A size, under the name it had if it varies.
fn dim(size: Option<usize>, before: Option<&Dimension>) -> Dimension {
    let named = before.filter(|dim| matches!(dim.value, Some(dimension::Value::DimParam(_))));
    match size.and_then(|size| i64::try_from(size).ok()) {
        Some(size) => Dimension { value: Some(dimension::Value::DimValue(size)), ..Dimension::default() },
        None => named.cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_declared_anew_only_where_it_is_another() {
        let model = include_bytes!("../../../../tests/data/digits-linear.onnx");
        assert!(declared(model, &[vec![None, Some(10)]]).is_none());
        let (bytes, said) = declared(model, &[vec![None, Some(11)]]).unwrap();
        assert_eq!(said, ["the shape of `probabilities` is declared anew: [-1, 11]"]);
        assert!(declared(&bytes, &[vec![None, Some(11)]]).is_none());
        let signature = crate::inspect::read(&bytes).unwrap().1.signature;
        assert_eq!(crate::shape_text(&signature.outputs[0]), "[-1, 11]");
        assert_eq!(declared(model, &[vec![None]]).unwrap().1.len(), 1);
    }
}
