//! Tree ensembles: unchecked class ids were measured to write out of bounds, so every index is
//! proved in range here.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::NodeProto;

use super::attributes::{find, int, ints};
use super::{Fault, TREE_NODES_MAX};

/// Greatest feature: wider rows than any sample that is taken.
const FEATURES_MAX: i64 = 1 << 16;
/// Most classes or targets.
const LABELS_MAX: usize = 1 << 16;
const MODES: [&[u8]; 7] =
    [b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ"];
const LEAF: &[u8] = b"LEAF";

/// Checks a tree ensemble (attributes as in `ai.onnx.ml` TreeEnsembleClassifier) whose input has
/// `width` features, if that is known.
pub(super) fn check(node: &NodeProto, width: Option<u64>) -> Result<(), Fault> {
    let (trees, nodes) = (list(node, "nodes_treeids"), list(node, "nodes_nodeids"));
    if nodes.is_empty() || nodes.len() > TREE_NODES_MAX {
        return Err(Fault::large(format!("{} nodes of trees: 1 to {TREE_NODES_MAX} are supported", nodes.len())));
    }
    lengths(node, nodes.len())?;
    let labels = ["classlabels_strings", "classlabels_int64s"]
        .into_iter()
        .filter_map(|name| find(node, name))
        .map(|attribute| attribute.strings.len().max(attribute.ints.len()))
        .max()
        .unwrap_or(0);
    let targets = int(node, "n_targets").map_or(labels, |targets| usize::try_from(targets).unwrap_or(0));
    if !(1..=LABELS_MAX).contains(&labels.max(targets)) {
        return Err(Fault::broken(format!(
            "{} classes or targets: 1 to {LABELS_MAX} are supported",
            labels.max(targets)
        )));
    }
    let features = width.and_then(|width| i64::try_from(width).ok()).unwrap_or(FEATURES_MAX).min(FEATURES_MAX);
    if let Some(id) = list(node, "nodes_featureids").iter().find(|id| !(0..features).contains(*id)) {
        return Err(Fault::broken(format!("feature id {id} is not below the {features} of its input")));
    }
    let modes = find(node, "nodes_modes").map_or(&[][..], |modes| modes.strings.as_slice());
    if let Some(mode) = modes.iter().find(|mode| !MODES.contains(&mode.as_slice())) {
        return Err(Fault::broken(format!("mode `{}` is none", super::shown(&String::from_utf8_lossy(mode)))));
    }
    let leaves = links(node, trees, nodes, modes)?;
    for (prefix, bound) in [("class", labels), ("target", targets)] {
        weights(node, prefix, bound, &leaves)?;
    }
    Ok(())
}

fn list<'n>(node: &'n NodeProto, name: &str) -> &'n [i64] {
    ints(node, name).unwrap_or_default()
}

fn floats(node: &NodeProto, name: &str) -> usize {
    find(node, name).map_or(0, |attribute| attribute.floats.len())
}

/// Every array that describes nodes has an entry for each.
fn lengths(node: &NodeProto, nodes: usize) -> Result<(), Fault> {
    for name in ["nodes_treeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"] {
        equal(name, list(node, name).len(), nodes)?;
    }
    equal("nodes_values", floats(node, "nodes_values"), nodes)?;
    equal("nodes_modes", find(node, "nodes_modes").map_or(0, |modes| modes.strings.len()), nodes)?;
    for name in ["nodes_hitrates", "nodes_missing_value_tracks_true"] {
        if let Some(attribute) = find(node, name) {
            equal(name, attribute.floats.len().max(attribute.ints.len()), nodes)?;
        }
    }
    Ok(())
}

/// What leaves vote for exists, and they are leaves.
fn weights(node: &NodeProto, prefix: &str, bound: usize, leaves: &BTreeSet<(i64, i64)>) -> Result<(), Fault> {
    let name = |of: &str| format!("{prefix}_{of}");
    let ids = list(node, &name("ids"));
    let (nodes, trees) = (list(node, &name("nodeids")), list(node, &name("treeids")));
    equal(&name("nodeids"), nodes.len(), ids.len())?;
    equal(&name("treeids"), trees.len(), ids.len())?;
    equal(&name("weights"), floats(node, &name("weights")), ids.len())?;
    if let Some(id) = ids.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= bound)) {
        return Err(Fault::broken(format!("{prefix} id {id} is not below the {bound} declared")));
    }
    if let Some((tree, node)) = trees.iter().zip(nodes).find(|(tree, node)| !leaves.contains(&(**tree, **node))) {
        return Err(Fault::broken(format!("`{prefix}_nodeids` names node {node} of tree {tree}, which is no leaf")));
    }
    Ok(())
}

/// Every tree is one: ids from 0 without a gap, as tract counts them; each node but the first has
/// one parent, which stands before it, so that no walk is endless. Gives the leaves.
fn links(node: &NodeProto, trees: &[i64], nodes: &[i64], modes: &[Vec<u8>]) -> Result<BTreeSet<(i64, i64)>, Fault> {
    let mut sizes: BTreeMap<i64, usize> = BTreeMap::new();
    for tree in trees {
        *sizes.entry(*tree).or_default() += 1;
    }
    let known: BTreeSet<(i64, i64)> = trees.iter().copied().zip(nodes.iter().copied()).collect();
    if known.len() != nodes.len() {
        return Err(Fault::broken("a node id occurs twice in a tree"));
    }
    for (tree, id) in &known {
        let size = sizes.get(tree).copied().unwrap_or(0);
        if usize::try_from(*id).map_or(true, |id| id >= size) {
            return Err(Fault::broken(format!("the node ids of tree {tree} are not numbered from 0: there is {id}")));
        }
    }
    let (mut leaves, mut children) = (BTreeSet::new(), BTreeSet::new());
    let branches = list(node, "nodes_truenodeids").iter().zip(list(node, "nodes_falsenodeids"));
    for (((tree, id), mode), (yes, no)) in trees.iter().zip(nodes).zip(modes).zip(branches) {
        if mode == LEAF {
            leaves.insert((*tree, *id));
            continue;
        }
        for to in [yes, no] {
            if to <= id || !known.contains(&(*tree, *to)) || !children.insert((*tree, *to)) {
                return Err(Fault::broken(format!(
                    "node {id} of tree {tree} leads to {to}, which is not a later node of that tree with one parent"
                )));
            }
        }
    }
    // One root per tree: all nodes but one have a parent.
    let parents = |tree: i64| children.range((tree, i64::MIN)..=(tree, i64::MAX)).count();
    match sizes.iter().find(|(tree, size)| parents(**tree) + 1 != **size) {
        Some((tree, _)) => Err(Fault::broken(format!("tree {tree} has more than one root"))),
        None => Ok(leaves),
    }
}

fn equal(name: &str, got: usize, expected: usize) -> Result<(), Fault> {
    if got == expected {
        return Ok(());
    }
    Err(Fault::broken(format!("`{name}` has {got} entries, {expected} are needed")))
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;

    use super::*;

    fn fault(node: &NodeProto) -> String {
        check(node, Some(1)).err().map_or_else(String::new, |fault| fault.what)
    }

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
        assert_eq!(fault(&stump(1)), "");
        assert!(fault(&stump(2)).contains("class id 2 is not below the 2"));
        assert!(fault(&stump(-1)).contains("class id -1"));
    }

    #[test]
    fn a_branch_that_leads_back_is_refused() {
        let mut looping = stump(1);
        looping.attribute[3].ints = vec![0, 0, 0];
        assert!(fault(&looping).contains("not a later node"));
    }

    #[test]
    fn a_feature_beyond_the_input_and_a_second_root_are_refused() {
        assert!(check(&stump(1), Some(1)).is_ok());
        let mut wide = stump(1);
        wide.attribute[2].ints = vec![1, 0, 0];
        assert!(fault(&wide).contains("feature id 1 is not below the 1"));
        let mut forest = stump(1);
        forest.attribute[6].strings[0] = b"LEAF".to_vec();
        assert!(fault(&forest).contains("more than one root"));
        let mut other = stump(1);
        other.attribute[9].ints = vec![0, 1];
        other.attribute[10].ints = vec![0, 1];
        assert!(fault(&other).contains("no leaf"));
    }
}
