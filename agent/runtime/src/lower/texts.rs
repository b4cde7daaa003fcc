//! Texts within a model: where they come from, where they go, and numbers in their place.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use super::{INT64, Named, STRING, find, strings};
use crate::inspect::InspectError;

/// `AttributeProto.AttributeType`.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;
/// Operators that give of texts the same texts.
const MOVES: [&str; 14] = [
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Concat",
    "Gather",
    "GatherElements",
    "GatherND",
    "Slice",
    "Expand",
    "Where",
    "ArrayFeatureExtractor",
];

/// Refuses inputs that are texts.
///
/// # Errors
///
/// [`InspectError::Texts`], for the first of them.
pub(super) fn inputs(graph: &GraphProto) -> Result<(), InspectError> {
    let is_text = |input: &&ValueInfoProto| {
        let stored = graph.initializer.iter().any(|tensor| tensor.name == input.name);
        !stored && matches!(kind(input), Some(tensor) if tensor.elem_type == STRING)
    };
    match graph.input.iter().find(is_text) {
        Some(input) => Err(InspectError::Texts { input: input.name.clone() }),
        None => Ok(()),
    }
}

fn kind(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// Values that hold texts of the same list: what can be compared or chosen from has one list.
#[derive(Default)]
struct Groups {
    of_value: BTreeMap<String, usize>,
    /// Names in the order in which they first come up.
    names: Vec<Vec<String>>,
}

impl Groups {
    fn add(&mut self, value: &str, names: Vec<String>) {
        self.of_value.insert(value.to_owned(), self.names.len());
        let mut known = BTreeSet::new();
        self.names.push(names.into_iter().filter(|name| known.insert(name.clone())).collect());
    }

    fn of(&self, value: &str) -> Option<usize> {
        self.of_value.get(value).copied()
    }

    /// Makes the groups of these values one, which is given.
    fn joined(&mut self, values: &[String]) -> Option<usize> {
        let found: BTreeSet<usize> = values.iter().filter_map(|value| self.of(value)).collect();
        let mut found = found.into_iter();
        let first = found.next()?;
        for other in found {
            let names = self.names.get_mut(other).map(std::mem::take).unwrap_or_default();
            if let Some(into) = self.names.get_mut(first) {
                let known: BTreeSet<String> = into.iter().cloned().collect();
                into.extend(names.into_iter().filter(|name| !known.contains(name)));
            }
            self.of_value.values_mut().filter(|group| **group == other).for_each(|group| *group = first);
        }
        Some(first)
    }

    /// The place of each text in the list of a value's group; -1 for what is not in it.
    fn places(&self, value: &str, texts: &[String]) -> Vec<i64> {
        let names = self.of(value).and_then(|group| self.names.get(group)).map_or(&[][..], Vec::as_slice);
        let places: BTreeMap<&str, i64> = names.iter().map(String::as_str).zip(0..).collect();
        texts.iter().map(|text| places.get(text.as_str()).copied().unwrap_or(-1)).collect()
    }
}

/// Puts numbers in the place of texts; gives the outputs that were texts. A model that does something
/// else with texts than choosing among them stays as it is.
pub(super) fn lower(graph: &mut GraphProto) -> Vec<Named> {
    let Some(groups) = followed(graph) else { return Vec::new() };
    if groups.of_value.is_empty() {
        return Vec::new();
    }
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == STRING) {
        let places = groups.places(&tensor.name.clone(), &texts(tensor));
        whole(tensor, places);
    }
    for node in &mut graph.node {
        rewrite(node, &groups);
    }
    let mut named = Vec::new();
    for value in graph.value_info.iter_mut().chain(&mut graph.output) {
        if groups.of(&value.name).is_none() {
            continue;
        }
        if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.elem_type = INT64;
        }
    }
    for output in &graph.output {
        let Some(names) = groups.of(&output.name).and_then(|group| groups.names.get(group)) else { continue };
        named.push(Named {
            output: output.name.clone(),
            names: names.iter().cloned().map(serde_json::Value::from).collect(),
            what: format!("the texts at `{}` are INT64 now, places in the list of classes", output.name),
        });
    }
    named
}

/// Which values hold which texts; `None` if an operator works on them.
fn followed(graph: &GraphProto) -> Option<Groups> {
    let mut groups = Groups::default();
    for tensor in graph.initializer.iter().filter(|tensor| tensor.data_type == STRING) {
        groups.add(&tensor.name, texts(tensor));
    }
    for node in &graph.node {
        let output = node.output.first()?;
        let takes_texts = node.input.iter().any(|input| groups.of(input).is_some());
        if takes_texts {
            match node.op_type.as_str() {
                name if MOVES.contains(&name) || is_cast_to_text(node) => {
                    let group = groups.joined(&node.input)?;
                    groups.of_value.insert(output.clone(), group);
                }
                "Equal" => {
                    groups.joined(&node.input)?;
                }
                "LabelEncoder" | "OneHotEncoder" => {}
                _ => return None,
            }
        } else if is_cast_to_text(node) {
            return None;
        }
        let made = made(node);
        if !made.is_empty() {
            groups.add(output, made);
        }
    }
    Some(groups)
}

fn is_cast_to_text(node: &NodeProto) -> bool {
    node.op_type == "Cast" && find(node, "to").is_some_and(|to| to.i == i64::from(STRING))
}

/// The texts that the first output of a node chooses from, if it makes texts of something else.
fn made(node: &NodeProto) -> Vec<String> {
    let stored = |name: &str| {
        let tensor = find(node, name).and_then(|attribute| attribute.t.as_ref());
        tensor.filter(|tensor| tensor.data_type == STRING).map_or_else(Vec::new, texts)
    };
    match node.op_type.as_str() {
        "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier" => strings(node, "classlabels_strings"),
        "LabelEncoder" => {
            let mut names =
                [strings(node, "values_strings"), stored("values_tensor"), stored("default_tensor")].concat();
            if !names.is_empty() {
                let default = find(node, "default_string").map(|text| String::from_utf8_lossy(&text.s).into_owned());
                // This one stands for none at all.
                names.extend(default.filter(|default| !default.is_empty() && default != "_Unused"));
            }
            names
        }
        "Constant" => [strings(node, "value_strings"), stored("value")].concat(),
        _ => Vec::new(),
    }
}

/// The texts of a stored tensor.
fn texts(tensor: &TensorProto) -> Vec<String> {
    tensor.string_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Makes a tensor of texts one of integers.
fn whole(tensor: &mut TensorProto, places: Vec<i64>) {
    tensor.data_type = INT64;
    tensor.string_data.clear();
    tensor.int64_data = places;
}

fn list(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: ATTRIBUTE_INTS, ints, ..AttributeProto::default() }
}

fn rewrite(node: &mut NodeProto, groups: &Groups) {
    let output = node.output.first().cloned().unwrap_or_default();
    let input = node.input.first().cloned().unwrap_or_default();
    match node.op_type.as_str() {
        "TreeEnsembleClassifier" => replace(node, "classlabels_strings", "classlabels_int64s", &output, groups),
        "LinearClassifier" | "SVMClassifier" => {
            replace(node, "classlabels_strings", "classlabels_ints", &output, groups);
        }
        "LabelEncoder" => {
            replace(node, "values_strings", "values_int64s", &output, groups);
            replace(node, "keys_strings", "keys_int64s", &input, groups);
            tensors(node, "values_tensor", &output, groups);
            tensors(node, "default_tensor", &output, groups);
            tensors(node, "keys_tensor", &input, groups);
            default(node, &output, groups);
        }
        "OneHotEncoder" => replace(node, "cats_strings", "cats_int64s", &input, groups),
        "Constant" => {
            replace(node, "value_strings", "value_ints", &output, groups);
            tensors(node, "value", &output, groups);
        }
        "Cast" if groups.of(&output).is_some() => {
            node.attribute.iter_mut().filter(|to| to.name == "to").for_each(|to| to.i = i64::from(INT64));
        }
        _ => {}
    }
}

/// Puts a list of integers in the place of a list of texts.
fn replace(node: &mut NodeProto, from: &str, to: &str, value: &str, groups: &Groups) {
    let texts = strings(node, from);
    if texts.is_empty() || groups.of(value).is_none() {
        return;
    }
    let mut places = groups.places(value, &texts);
    // What a key or category is that no value has: a number that is none's place, each another one.
    let mut other = -2;
    for place in places.iter_mut().filter(|place| **place < 0 && (from.starts_with("keys") || from.starts_with("cats")))
    {
        *place = other;
        other -= 1;
    }
    node.attribute.retain(|attribute| attribute.name != from && attribute.name != to);
    node.attribute.push(list(to, places));
}

fn tensors(node: &mut NodeProto, name: &str, value: &str, groups: &Groups) {
    let is_text = |attribute: &&mut AttributeProto| {
        attribute.name == name && attribute.t.as_ref().is_some_and(|tensor| tensor.data_type == STRING)
    };
    if let Some(tensor) = node.attribute.iter_mut().find(is_text).and_then(|attribute| attribute.t.as_mut()) {
        let places = groups.places(value, &texts(tensor));
        whole(tensor, places);
    }
}

/// What a LabelEncoder gives for what it does not know.
fn default(node: &mut NodeProto, output: &str, groups: &Groups) {
    if groups.of(output).is_none() {
        return;
    }
    let text = find(node, "default_string").map(|text| String::from_utf8_lossy(&text.s).into_owned());
    let place = text.and_then(|text| groups.places(output, &[text]).first().copied()).unwrap_or(-1);
    node.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "default_string" | "default_int64"));
    node.attribute.push(AttributeProto {
        name: "default_int64".to_owned(),
        r#type: ATTRIBUTE_INT,
        i: place,
        ..AttributeProto::default()
    });
}
