//! Attributes: named once, of the right length, within range.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::{ELEMENTS_MAX, EXTENT_MAX, Fault, LIST_MAX, RANK_MAX, shown, tensors};

/// Most attributes of a node: a tree ensemble has fifteen.
const ATTRIBUTES_MAX: usize = 64;
/// Greatest rank as a signed number.
const RANK: i64 = RANK_MAX.cast_signed() as i64;
/// Most heads, blocks, hidden units and the like.
const COUNT_MAX: i64 = 1 << 16;

/// Lists with an entry or two for each dimension: name, least and greatest value.
const PER_AXIS: [(&str, i64, i64); 12] = [
    ("kernel_shape", 1, EXTENT_MAX),
    ("strides", 1, EXTENT_MAX),
    ("dilations", 1, EXTENT_MAX),
    ("pads", 0, EXTENT_MAX),
    ("output_padding", 0, EXTENT_MAX),
    ("output_shape", 0, COUNT_MAX),
    ("axes", -RANK, RANK - 1),
    ("perm", 0, RANK - 1),
    ("scan_input_axes", -RANK, RANK - 1),
    ("scan_output_axes", -RANK, RANK - 1),
    ("starts", i64::MIN, i64::MAX),
    ("ends", i64::MIN, i64::MAX),
];

/// Single numbers: name, least and greatest value.
const NUMBERS: [(&str, i64, i64); 25] = [
    ("axis", -RANK - 1, RANK),
    ("batch_axis", -RANK, RANK - 1),
    ("group", 1, COUNT_MAX),
    ("num_groups", 1, COUNT_MAX),
    ("blocksize", 1, EXTENT_MAX),
    ("block_size", 0, COUNT_MAX),
    ("bits", 1, 8),
    ("hidden_size", 1, COUNT_MAX),
    ("num_heads", 1, COUNT_MAX),
    ("kv_num_heads", 1, COUNT_MAX),
    ("q_num_heads", 1, COUNT_MAX),
    ("rotary_embedding_dim", 0, COUNT_MAX),
    ("num_outputs", 1, 512),
    ("num_scan_inputs", 1, 512),
    ("num_keys", 1, COUNT_MAX),
    ("size", 1, EXTENT_MAX),
    ("p", 1, 64),
    ("k", -ELEMENTS_MAX.cast_signed(), ELEMENTS_MAX.cast_signed()),
    ("K", 1, i64::MAX),
    ("N", 1, i64::MAX),
    ("sample_size", 1, COUNT_MAX),
    ("batch_dims", 0, RANK),
    ("start", i64::MIN, i64::MAX),
    ("end", i64::MIN, i64::MAX),
    ("targets", 1, COUNT_MAX),
];

/// The attribute of this name.
pub(crate) fn find<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// A number, if there is one.
pub(crate) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name).map(|attribute| attribute.i)
}

/// A list of numbers, if there is one.
pub(crate) fn ints<'n>(node: &'n NodeProto, name: &str) -> Option<&'n [i64]> {
    find(node, name).map(|attribute| attribute.ints.as_slice())
}

/// A text, empty if there is none.
pub(crate) fn text<'n>(node: &'n NodeProto, name: &str) -> &'n str {
    find(node, name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok()).unwrap_or_default()
}

/// An inner graph.
pub(super) fn graph<'n>(node: &'n NodeProto, name: &str) -> Result<&'n GraphProto, Fault> {
    let found = find(node, name).and_then(|attribute| attribute.g.as_ref());
    found.ok_or_else(|| Fault::broken(format!("attribute `{name}` is missing or is no graph")))
}

/// Checks every attribute by itself.
pub(super) fn check(node: &NodeProto) -> Result<(), Fault> {
    if node.attribute.len() > ATTRIBUTES_MAX {
        return Err(Fault::broken(format!("{} attributes: at most {ATTRIBUTES_MAX}", node.attribute.len())));
    }
    let may_be_long = node.domain == "ai.onnx.ml" || matches!(node.op_type.as_str(), "Constant" | "TfIdfVectorizer");
    for (index, attribute) in node.attribute.iter().enumerate() {
        let fault = |what: &str| Fault::broken(format!("attribute `{}` {what}", shown(&attribute.name)));
        if attribute.name.is_empty() || node.attribute.iter().take(index).any(|before| before.name == attribute.name) {
            return Err(fault("has no name, or one that another has"));
        }
        if !attribute.ref_attr_name.is_empty() {
            return Err(fault("refers to a function's attribute"));
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() || !attribute.tensors.is_empty() {
            return Err(fault("is sparse, or a list of tensors"));
        }
        let is_graph = matches!(
            (node.op_type.as_str(), attribute.name.as_str()),
            ("If", "then_branch" | "else_branch") | ("Scan", "body")
        );
        if !attribute.graphs.is_empty() || attribute.g.is_some() != is_graph {
            return Err(fault("is a graph where none belongs, or the other way around"));
        }
        let length = attribute.ints.len().max(attribute.floats.len()).max(attribute.strings.len());
        if length > LIST_MAX && !may_be_long {
            return Err(fault(&format!("has {length} entries: at most {LIST_MAX}")));
        }
        if let Some(tensor) = &attribute.t {
            tensors::check(tensor).map_err(|why| Fault {
                what: format!("attribute `{}`: {}", shown(&attribute.name), why.what),
                ..why
            })?;
        }
        if node.domain != "ai.onnx.ml" || attribute.name == "targets" {
            values(node, attribute)?;
        }
    }
    Ok(())
}

fn values(node: &NodeProto, attribute: &AttributeProto) -> Result<(), Fault> {
    let name = attribute.name.as_str();
    let within = |value: &i64, least: i64, greatest: i64| {
        if (least..=greatest).contains(value) {
            return Ok(());
        }
        Err(Fault::broken(format!("attribute `{name}` has {value}: {least} to {greatest} is supported")))
    };
    if let Some((_, least, greatest)) = PER_AXIS.iter().find(|(known, _, _)| *known == name) {
        let most = if name == "pads" { 2 * RANK_MAX } else { RANK_MAX };
        let most = if name.starts_with("scan_") { LIST_MAX } else { most };
        if attribute.ints.len() > most {
            return Err(Fault::broken(format!(
                "attribute `{name}` has {} entries: at most {most}",
                attribute.ints.len()
            )));
        }
        attribute.ints.iter().try_for_each(|value| within(value, *least, *greatest))?;
        let is_repeated =
            |(index, value): (usize, &i64)| attribute.ints.iter().take(index).any(|before| before == value);
        if matches!(name, "axes" | "perm") && attribute.ints.iter().enumerate().any(is_repeated) {
            return Err(Fault::broken(format!("attribute `{name}` names an axis twice")));
        }
    }
    if name == "perm"
        && attribute.ints.iter().any(|axis| usize::try_from(*axis).map_or(true, |axis| axis >= attribute.ints.len()))
    {
        return Err(Fault::broken("attribute `perm` is no permutation"));
    }
    if name == "split" {
        attribute.ints.iter().try_for_each(|value| within(value, 0, i64::from(u32::MAX)))?;
    }
    if name == "shape" {
        tensors::sizes(&attribute.ints)?;
    }
    if matches!(name, "to" | "dtype" | "output_datatype" | "output_dtype") && !tensors::is_kind(attribute.i) {
        return Err(Fault::broken(format!(
            "attribute `{name}` has {}, which is no element type of this runtime",
            attribute.i
        )));
    }
    match NUMBERS.iter().find(|(known, _, _)| *known == name) {
        // Of Constant and others with a list of this name.
        Some(_) if node.op_type == "Constant" || !attribute.ints.is_empty() => Ok(()),
        Some((_, least, greatest)) => within(&attribute.i, *least, *greatest),
        None => Ok(()),
    }
}
