//! Checks tree ensembles before tract sees them: unchecked class ids there were measured to write
//! out of bounds (`docs`), so every index is proved in range here.

use tract_onnx::pb::{AttributeProto, NodeProto};

/// Why a tree ensemble is refused, if it is. Attributes as in `ai.onnx.ml` TreeEnsembleClassifier.
pub(crate) fn fault(node: &NodeProto) -> Option<String> {
    if !node.op_type.starts_with("TreeEnsemble") {
        return None;
    }
    check(node).err().map(|why| format!("{} `{}`: {why}", node.op_type, node.name))
}

fn check(node: &NodeProto) -> Result<(), String> {
    let ints = |name: &str| attribute(node, name).map_or(&[][..], |attribute| attribute.ints.as_slice());
    let floats = |name: &str| attribute(node, name).map_or(0, |attribute| attribute.floats.len());
    let nodes = ints("nodes_treeids").len();
    for name in ["nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"] {
        equal(name, ints(name).len(), nodes)?;
    }
    equal("nodes_values", floats("nodes_values"), nodes)?;
    equal("nodes_modes", attribute(node, "nodes_modes").map_or(0, |attribute| attribute.strings.len()), nodes)?;
    let labels = ["classlabels_strings", "classlabels_int64s"]
        .into_iter()
        .filter_map(|name| attribute(node, name))
        .map(|attribute| attribute.strings.len().max(attribute.ints.len()))
        .max()
        .unwrap_or(0);
    let targets = attribute(node, "n_targets").map_or(labels, |attribute| usize::try_from(attribute.i).unwrap_or(0));
    for (prefix, bound) in [("class", labels), ("target", targets)] {
        let ids = ints(&format!("{prefix}_ids"));
        for name in ["nodeids", "treeids"] {
            equal(&format!("{prefix}_{name}"), ints(&format!("{prefix}_{name}")).len(), ids.len())?;
        }
        equal(&format!("{prefix}_weights"), floats(&format!("{prefix}_weights")), ids.len())?;
        if let Some(id) = ids.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= bound)) {
            return Err(format!("{prefix} id {id} is not below the {bound} declared"));
        }
    }
    if let Some(id) = ints("nodes_featureids").iter().find(|id| !(0..=i64::from(u16::MAX)).contains(*id)) {
        return Err(format!("feature id {id} is not in 0 to 65535"));
    }
    links(ints("nodes_treeids"), ints("nodes_nodeids"), [ints("nodes_truenodeids"), ints("nodes_falsenodeids")])
}

/// Every branch leads to a node of its own tree, and forwards, so that no walk is endless.
fn links(trees: &[i64], nodes: &[i64], branches: [&[i64]; 2]) -> Result<(), String> {
    let known: std::collections::BTreeSet<_> = trees.iter().zip(nodes).collect();
    if known.len() != nodes.len() {
        return Err("a node id occurs twice in a tree".to_owned());
    }
    for branch in branches {
        for ((tree, node), to) in trees.iter().zip(nodes).zip(branch) {
            let is_leaf = *to == 0;
            if !is_leaf && (to <= node || !known.contains(&(tree, to))) {
                return Err(format!(
                    "node {node} of tree {tree} leads to {to}, which is not a later node of that tree"
                ));
            }
        }
    }
    Ok(())
}

fn equal(name: &str, got: usize, expected: usize) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("`{name}` has {got} entries, {expected} are needed")) }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(class_id: i64) -> NodeProto {
        let ints = |name: &str, ints: &[i64]| AttributeProto {
            name: name.into(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        };
        let floats = |name: &str, floats: &[f32]| AttributeProto {
            name: name.into(),
            floats: floats.to_vec(),
            ..AttributeProto::default()
        };
        let strings = |name: &str, strings: &[&str]| AttributeProto {
            name: name.into(),
            strings: strings.iter().map(|text| text.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        };
        NodeProto {
            op_type: "TreeEnsembleClassifier".into(),
            attribute: vec![
                ints("nodes_treeids", &[0, 0, 0]),
                ints("nodes_nodeids", &[0, 1, 2]),
                ints("nodes_featureids", &[0, 0, 0]),
                ints("nodes_truenodeids", &[1, 0, 0]),
                ints("nodes_falsenodeids", &[2, 0, 0]),
                floats("nodes_values", &[0.5, 0.0, 0.0]),
                strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
                ints("classlabels_int64s", &[0, 1]),
                ints("class_ids", &[0, class_id]),
                ints("class_nodeids", &[1, 2]),
                ints("class_treeids", &[0, 0]),
                floats("class_weights", &[1.0, 1.0]),
            ],
            ..NodeProto::default()
        }
    }

    #[test]
    fn a_class_id_beyond_the_labels_is_refused() {
        assert_eq!(fault(&stump(1)), None);
        assert!(fault(&stump(2)).unwrap().contains("class id 2 is not below the 2"));
        assert!(fault(&stump(-1)).is_some());
    }

    #[test]
    fn a_branch_that_leads_back_is_refused() {
        let mut looping = stump(1);
        looping.attribute[3].ints = vec![1, 1, 0];
        assert!(fault(&looping).unwrap().contains("not a later node"));
    }
}
