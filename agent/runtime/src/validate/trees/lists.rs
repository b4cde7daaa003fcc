//! TreeEnsembleClassifier and TreeEnsembleRegressor: lists with an entry for each node, which is named
//! by its tree and its id within that.

use tract_onnx::pb::NodeProto;

use super::super::attributes::find;
use super::super::{Fault, TREE_NODES_MAX, shown};
use super::{Branch, Child, Ensemble, Mode, Vote, equal, feature, index, list, reals, target, targets};

/// Reads and checks it, but for features and whether every node is reached.
pub(super) fn read(node: &NodeProto) -> Result<Ensemble, Fault> {
    let prefix = if node.op_type == "TreeEnsembleClassifier" { "class" } else { "target" };
    let nodes = Nodes::of(node)?;
    let mut ensemble = Ensemble { targets: targets(node)?, base: reals(node, "base_values")?, ..Ensemble::default() };
    let children = nodes.children(&mut ensemble);
    nodes.link(&mut ensemble, &children)?;
    votes(node, prefix, &nodes, &children, &mut ensemble)?;
    Ok(ensemble)
}

struct Nodes<'n> {
    trees: &'n [i64],
    ids: &'n [i64],
    features: &'n [i64],
    yes: &'n [i64],
    no: &'n [i64],
    gaps: &'n [i64],
    thresholds: Vec<f64>,
    /// `None` for a leaf.
    modes: Vec<Option<Mode>>,
    /// Tree, id and index of every node, in ascending order.
    known: Vec<(i64, i64, usize)>,
}

fn mode(name: &[u8]) -> Result<Option<Mode>, Fault> {
    Ok(Some(match name {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => Mode::AtMost,
        b"BRANCH_LT" => Mode::Below,
        b"BRANCH_GTE" => Mode::AtLeast,
        b"BRANCH_GT" => Mode::Above,
        b"BRANCH_EQ" => Mode::Equal,
        b"BRANCH_NEQ" => Mode::Unequal,
        other => return Err(Fault::broken(format!("mode `{}` is none", shown(&String::from_utf8_lossy(other))))),
    }))
}

impl<'n> Nodes<'n> {
    fn of(node: &'n NodeProto) -> Result<Self, Fault> {
        let (trees, ids) = (list(node, "nodes_treeids"), list(node, "nodes_nodeids"));
        let count = ids.len();
        if !(1..=TREE_NODES_MAX).contains(&count) {
            return Err(Fault::large(format!("{count} nodes of trees: 1 to {TREE_NODES_MAX} are supported")));
        }
        for name in ["nodes_treeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"] {
            equal(name, list(node, name).len(), count)?;
        }
        let thresholds = reals(node, "nodes_values")?;
        equal("nodes_values", thresholds.len(), count)?;
        let gaps = list(node, "nodes_missing_value_tracks_true");
        if !gaps.is_empty() {
            equal("nodes_missing_value_tracks_true", gaps.len(), count)?;
        }
        let modes = find(node, "nodes_modes").map_or(&[][..], |modes| modes.strings.as_slice());
        equal("nodes_modes", modes.len(), count)?;
        let modes = modes.iter().map(|name| mode(name)).collect::<Result<Vec<_>, Fault>>()?;
        let mut known: Vec<(i64, i64, usize)> =
            trees.iter().zip(ids).enumerate().map(|(index, (tree, id))| (*tree, *id, index)).collect();
        known.sort_unstable();
        let is_same = |pair: &[(i64, i64, usize)]| matches!(pair, [a, b] if (a.0, a.1) == (b.0, b.1));
        if known.windows(2).any(is_same) {
            return Err(Fault::broken("a node id occurs twice in a tree"));
        }
        Ok(Self {
            trees,
            ids,
            features: list(node, "nodes_featureids"),
            yes: list(node, "nodes_truenodeids"),
            no: list(node, "nodes_falsenodeids"),
            gaps,
            thresholds,
            modes,
            known,
        })
    }

    fn find(&self, tree: i64, id: i64) -> Option<usize> {
        let at = self.known.partition_point(|(t, i, _)| (*t, *i) < (tree, id));
        self.known.get(at).filter(|(t, i, _)| (*t, *i) == (tree, id)).map(|(_, _, index)| *index)
    }

    /// What each node becomes: the leaves are made, without votes.
    fn children(&self, ensemble: &mut Ensemble) -> Vec<Child> {
        let (mut branches, mut leaves) = (0, 0);
        let children = self.modes.iter().map(|mode| match mode {
            Some(_) => {
                branches += 1;
                Child::Branch(branches - 1)
            }
            None => {
                leaves += 1;
                Child::Leaf(leaves - 1)
            }
        });
        let children = children.collect();
        ensemble.leaves = vec![(0, 0); leaves];
        children
    }

    /// Makes branches and roots: every node has one parent, but for the first one of each tree.
    fn link(&self, ensemble: &mut Ensemble, children: &[Child]) -> Result<(), Fault> {
        let mut has_parent = vec![false; children.len()];
        let lists = self.trees.iter().zip(self.ids).zip(self.features).zip(self.yes).zip(self.no);
        let values = self.modes.iter().zip(&self.thresholds);
        for (at, (((((tree, id), feature_id), yes), no), (mode, threshold))) in lists.zip(values).enumerate() {
            let Some(mode) = mode else { continue };
            let mut child = |to: i64| {
                let found = self.find(*tree, to).filter(|found| *found != at);
                let parent = found.and_then(|found| has_parent.get_mut(found));
                match (found.and_then(|found| children.get(found)), parent) {
                    (Some(child), Some(parent)) if !*parent => {
                        *parent = true;
                        Ok(*child)
                    }
                    _ => Err(Fault::broken(format!(
                        "node {id} of tree {tree} leads to {to}, which is no other node of that tree with one parent"
                    ))),
                }
            };
            ensemble.branches.push(Branch {
                feature: feature(*feature_id)?,
                threshold: *threshold,
                mode: *mode,
                is_gap_true: self.gaps.get(at) == Some(&1),
                yes: child(*yes)?,
                no: child(*no)?,
            });
        }
        let mut last = None;
        for ((tree, child), has_parent) in self.trees.iter().zip(children).zip(has_parent) {
            if (last != Some(tree)) == has_parent {
                return Err(Fault::broken(format!("the first node of tree {tree} is not its only root")));
            }
            if !has_parent {
                ensemble.roots.push(*child);
            }
            last = Some(tree);
        }
        Ok(())
    }
}

/// What leaves vote for exists, and they are leaves.
fn votes(
    node: &NodeProto,
    prefix: &str,
    nodes: &Nodes<'_>,
    children: &[Child],
    ensemble: &mut Ensemble,
) -> Result<(), Fault> {
    let name = |of: &str| format!("{prefix}_{of}");
    let ids = list(node, &name("ids"));
    let (in_tree, at_node) = (list(node, &name("treeids")), list(node, &name("nodeids")));
    let weights = reals(node, &name("weights"))?;
    equal(&name("nodeids"), at_node.len(), ids.len())?;
    equal(&name("treeids"), in_tree.len(), ids.len())?;
    equal(&name("weights"), weights.len(), ids.len())?;
    let mut found = Vec::with_capacity(ids.len());
    for (((id, tree), node), weight) in ids.iter().zip(in_tree).zip(at_node).zip(weights) {
        let leaf = match nodes.find(*tree, *node).and_then(|index| children.get(index)) {
            Some(Child::Leaf(leaf)) => *leaf,
            _ => {
                return Err(Fault::broken(format!(
                    "`{prefix}_nodeids` names node {node} of tree {tree}, which is no leaf"
                )));
            }
        };
        found.push((leaf, Vote { target: target(*id, ensemble.targets)?, weight }));
    }
    found.sort_by_key(|(leaf, _)| *leaf);
    let mut start = 0;
    for group in found.chunk_by(|a, b| a.0 == b.0) {
        let end = start + group.len();
        let span = (index(start)?, index(end)?);
        if let Some(leaf) = group.first().and_then(|(leaf, _)| ensemble.leaves.get_mut(*leaf)) {
            *leaf = span;
        }
        start = end;
    }
    ensemble.votes = found.into_iter().map(|(_, vote)| vote).collect();
    Ok(())
}
