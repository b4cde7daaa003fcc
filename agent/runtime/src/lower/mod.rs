//! Rewrites what devices do not have, on the publisher's machine: maps and texts become tensors of
//! numbers, and the names go to the model's metadata.
//!
//! ```text
//!  ZipMap(scores) ─────────────────> scores [N, classes], a column for each class
//!  labels that are texts ──────────> INT64: places in the list of classes
//!                                     │
//!      metadata  bellwether.classes/<output> = ["ash","birch"]
//! ```
//!
//! On request [`bind`] gives a size that varies its number.
//!
//! What comes out is standard ONNX and means the same. The same model gives the same bytes, and what
//! was rewritten once is not touched again. The model is not validated yet: nothing here trusts it, and
//! what is left of maps and texts is refused afterwards.

mod marks;
pub(crate) mod shapes;
mod sizes;
mod texts;

use std::borrow::Cow;

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorShapeProto, TypeProto, type_proto,
};

use crate::inspect::InspectError;

pub(crate) use marks::marked;
pub use marks::{sizes, source};
pub use sizes::{BindError, Bound, bind};

/// In front of an output's name: the key of the metadata that names its classes, as a JSON array.
pub const CLASSES_KEY: &str = "bellwether.classes/";
/// Element types, as in `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;
const STRING: i32 = 8;
/// Names that are shown of a list.
const SHOWN_MAX: usize = 5;

/// Rewrites a model file; gives its bytes as they were if there is nothing to rewrite, and says in words
/// what was.
///
/// # Errors
///
/// [`InspectError::Texts`] for what only a text can be given to. A file that does not read is none: it
/// is given back as it is.
pub fn lowered(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, Vec<String>), InspectError> {
    let Ok(mut model) = ModelProto::decode(bytes) else {
        return Ok((Cow::Borrowed(bytes), Vec::new()));
    };
    let rewritten = lower(&mut model)?;
    if rewritten.is_empty() {
        return Ok((Cow::Borrowed(bytes), rewritten));
    }
    Ok((Cow::Owned(model.encode_to_vec()), rewritten))
}

/// As [`lowered`], for a model that was decoded.
///
/// # Errors
///
/// [`InspectError::Texts`].
pub(crate) fn lower(model: &mut ModelProto) -> Result<Vec<String>, InspectError> {
    let Some(graph) = &mut model.graph else { return Ok(Vec::new()) };
    texts::inputs(graph)?;
    let mut named = maps(graph);
    named.extend(texts::lower(graph));
    let mut rewritten = Vec::new();
    for Named { output, names, what } in named {
        rewritten.push(format!("{what}: {}", shown(&names)));
        let key = format!("{CLASSES_KEY}{output}");
        let value = serde_json::Value::from(names).to_string();
        model.metadata_props.retain(|entry| entry.key != key);
        model.metadata_props.push(StringStringEntryProto { key, value });
    }
    Ok(rewritten)
}

/// An output whose classes have names.
struct Named {
    output: String,
    names: Vec<serde_json::Value>,
    /// What was done to it, in words.
    what: String,
}

/// The first names of a list.
fn shown(names: &[serde_json::Value]) -> String {
    let text = |name: &serde_json::Value| {
        let text = name.as_str().map_or_else(|| name.to_string(), ToOwned::to_owned);
        text.chars().filter(|letter| !letter.is_control()).take(40).collect::<String>()
    };
    let first: Vec<String> = names.iter().take(SHOWN_MAX).map(text).collect();
    let rest = if names.len() > SHOWN_MAX { format!(", … ({} classes)", names.len()) } else { String::new() };
    format!("{}{rest}", first.join(", "))
}

fn find<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Texts of an attribute; empty if there are none.
fn strings(node: &NodeProto, name: &str) -> Vec<String> {
    let list = find(node, name).map_or(&[][..], |attribute| attribute.strings.as_slice());
    list.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Lets the scores that a ZipMap reads be the output that it made.
fn maps(graph: &mut GraphProto) -> Vec<Named> {
    let rows = graph.input.iter().find_map(|input| shape(input.r#type.as_ref()?)?.dim.first().cloned());
    let mut named = Vec::new();
    for node in &mut graph.node {
        let is_map = node.op_type == "ZipMap" && node.domain == "ai.onnx.ml";
        let (true, [_], [output]) = (is_map, &node.input[..], &node.output[..]) else { continue };
        let Some(declared) = graph.output.iter_mut().find(|value| value.name == *output) else { continue };
        let whole = find(node, "classlabels_int64s").map_or(&[][..], |list| list.ints.as_slice());
        let mut names: Vec<serde_json::Value> = whole.iter().copied().map(Into::into).collect();
        names.extend(strings(node, "classlabels_strings").into_iter().map(serde_json::Value::from));
        let count = i64::try_from(names.len()).unwrap_or(0);
        let columns = Dimension { value: Some(dimension::Value::DimValue(count)), ..Dimension::default() };
        let shape = TensorShapeProto { dim: vec![rows.clone().unwrap_or_default(), columns] };
        let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
        declared.r#type =
            Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() });
        let what = format!("ZipMap at `{output}` removed, its columns are the scores of classes");
        named.push(Named { output: output.clone(), names, what });
        node.op_type = "Identity".to_owned();
        node.domain.clear();
        node.attribute.clear();
    }
    named
}

fn shape(kind: &TypeProto) -> Option<&TensorShapeProto> {
    let type_proto::Value::TensorType(tensor) = kind.value.as_ref()?;
    tensor.shape.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZIPPED: &[u8] = include_bytes!("../../tests/data/words.onnx");

    #[test]
    fn maps_and_texts_become_numbers_and_names() {
        let (bytes, said) = lowered(ZIPPED).unwrap();
        let model = ModelProto::decode(&bytes[..]).unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("ZipMap at `output_probability` removed") && said[0].ends_with(": ash, birch, oak")
        );
        assert!(said[1].contains("`output_label`"), "{said:?}");
        let classes: Vec<(&str, &str)> =
            model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        assert!(classes.contains(&("bellwether.classes/output_probability", r#"["ash","birch","oak"]"#)));
        assert!(classes.contains(&("bellwether.classes/output_label", r#"["ash","birch","oak"]"#)));
        let facts = crate::inspect::read(&bytes).unwrap().1;
        assert_eq!(crate::shape_text(&facts.signature.outputs[1]), "[-1, 3]");
        assert!(!facts.operators.contains_key("ai.onnx.ml::ZipMap"));
    }

    #[test]
    fn lowering_twice_changes_nothing() {
        let (once, _) = lowered(ZIPPED).unwrap();
        let (twice, said) = lowered(&once).unwrap();
        assert!(matches!(twice, Cow::Borrowed(_)) && said.is_empty());
        assert_eq!(once, twice);
        let plain = include_bytes!("../../../../tests/data/digits-linear.onnx");
        assert!(matches!(lowered(plain).unwrap(), (Cow::Borrowed(_), said) if said.is_empty()));
        assert!(matches!(lowered(b"no model").unwrap(), (Cow::Borrowed(_), said) if said.is_empty()));
    }

    #[test]
    fn what_takes_texts_is_refused_with_the_input_and_what_to_do() {
        let mut model = ModelProto::decode(ZIPPED).unwrap();
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let type_proto::Value::TensorType(tensor) = input.r#type.as_mut().unwrap().value.as_mut().unwrap();
        tensor.elem_type = STRING;
        let said = lower(&mut model).unwrap_err().to_string();
        assert!(said.contains("input `X` holds texts") && said.contains("encode"), "{said}");
    }
}
