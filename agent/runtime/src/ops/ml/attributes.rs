//! Attributes of a node: empty or a default where there is none.

use tract_onnx::pb::{AttributeProto, NodeProto};

/// The attribute of this name.
pub(super) fn find<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// A list of floats.
pub(super) fn floats(node: &NodeProto, name: &str) -> Vec<f32> {
    find(node, name).map_or_else(Vec::new, |attribute| attribute.floats.clone())
}

/// A list of integers.
pub(super) fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    find(node, name).map_or_else(Vec::new, |attribute| attribute.ints.clone())
}

/// A float.
pub(super) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    find(node, name).map(|attribute| attribute.f)
}

/// An integer.
pub(super) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name).map(|attribute| attribute.i)
}

/// A text; empty if there is none.
pub(super) fn text<'n>(node: &'n NodeProto, name: &str) -> &'n str {
    find(node, name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok()).unwrap_or_default()
}
