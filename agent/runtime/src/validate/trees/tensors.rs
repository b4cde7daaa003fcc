//! TreeEnsemble of operator set 5: branches and leaves in lists of their own, children by index.

use tract_onnx::pb::NodeProto;

use super::super::attributes::find;
use super::super::{Fault, TREE_NODES_MAX, tensors};
use super::{Branch, Child, Ensemble, Mode, Vote, equal, feature, index, list, target, targets};

/// The number of `BRANCH_MEMBER`.
const MEMBER: i64 = 6;

/// Reads and checks it, but for features and whether every branch is reached.
pub(super) fn read(node: &NodeProto) -> Result<Ensemble, Fault> {
    let count = list(node, "nodes_featureids").len();
    let weights = stored(node, "leaf_weights")?;
    if !(1..=TREE_NODES_MAX).contains(&count) || !(1..=TREE_NODES_MAX).contains(&weights.len()) {
        let leaves = weights.len();
        return Err(Fault::large(format!("{count} branches and {leaves} leaves: 1 to {TREE_NODES_MAX} are supported")));
    }
    let targets = targets(node)?;
    let ids = list(node, "leaf_targetids");
    equal("leaf_targetids", ids.len(), weights.len())?;
    let mut ensemble = Ensemble { targets, ..Ensemble::default() };
    for (place, (id, weight)) in ids.iter().zip(weights).enumerate() {
        ensemble.votes.push(Vote { target: target(*id, targets)?, weight });
        ensemble.leaves.push((index(place)?, index(place + 1)?));
    }
    let modes = modes(node, count, &mut ensemble)?;
    branches(node, &modes, &mut ensemble)?;
    Ok(ensemble)
}

fn stored(node: &NodeProto, name: &str) -> Result<Vec<f64>, Fault> {
    let tensor = find(node, name).and_then(|attribute| attribute.t.as_ref());
    tensor.and_then(tensors::reals).ok_or_else(|| Fault::broken(format!("`{name}` is no tensor of floats or doubles")))
}

/// The modes of all branches; a set ends with what is not a number.
fn modes(node: &NodeProto, count: usize, ensemble: &mut Ensemble) -> Result<Vec<Mode>, Fault> {
    let tensor = find(node, "nodes_modes").and_then(|attribute| attribute.t.as_ref());
    let numbers =
        tensor.and_then(tensors::bytes).ok_or_else(|| Fault::broken("`nodes_modes` is no tensor of UINT8"))?;
    equal("nodes_modes", numbers.len(), count)?;
    let mut sets = Vec::new();
    if find(node, "membership_values").is_some() {
        ensemble.members = stored(node, "membership_values")?;
        let mut start = 0;
        for (place, value) in ensemble.members.iter().enumerate() {
            if value.is_nan() {
                sets.push(Mode::Member(index(start)?, index(place)?));
                start = place + 1;
            }
        }
    }
    let mut sets = sets.into_iter();
    numbers
        .into_iter()
        .map(|number| match i64::from(number) {
            0 => Ok(Mode::AtMost),
            1 => Ok(Mode::Below),
            2 => Ok(Mode::AtLeast),
            3 => Ok(Mode::Above),
            4 => Ok(Mode::Equal),
            5 => Ok(Mode::Unequal),
            MEMBER => sets.next().ok_or_else(|| Fault::broken("fewer sets than branches that look one up")),
            other => Err(Fault::broken(format!("mode {other} is none"))),
        })
        .collect()
}

/// Makes branches and roots; every branch has one parent, a leaf may have several.
fn branches(node: &NodeProto, modes: &[Mode], ensemble: &mut Ensemble) -> Result<(), Fault> {
    let count = modes.len();
    let lists = ["nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs"];
    for name in lists {
        equal(name, list(node, name).len(), count)?;
    }
    let [yes, yes_leaf, no, no_leaf] = lists.map(|name| list(node, name));
    let splits = stored(node, "nodes_splits")?;
    equal("nodes_splits", splits.len(), count)?;
    let gaps = list(node, "nodes_missing_value_tracks_true");
    if !gaps.is_empty() {
        equal("nodes_missing_value_tracks_true", gaps.len(), count)?;
    }
    let roots = list(node, "tree_roots");
    if roots.is_empty() {
        return Err(Fault::broken("it has no trees"));
    }
    let mut has_parent = vec![false; count];
    let leaves = ensemble.leaves.len();
    // A tree that is only a leaf is written as a branch with twice the same leaf.
    let mut child = |to: i64, is_leaf: i64| {
        let place = usize::try_from(to).ok();
        if is_leaf != 0 {
            return place
                .filter(|place| *place < leaves)
                .map(Child::Leaf)
                .ok_or_else(|| Fault::broken(format!("a branch leads to leaf {to} of {leaves}")));
        }
        match place.and_then(|place| has_parent.get_mut(place)) {
            Some(parent) if !*parent => {
                *parent = true;
                Ok(Child::Branch(place.unwrap_or(0)))
            }
            _ => Err(Fault::broken(format!("a branch leads to {to}, which is no branch with one parent"))),
        }
    };
    for root in roots {
        let root = child(*root, 0)?;
        ensemble.roots.push(root);
    }
    let children = yes.iter().zip(yes_leaf).zip(no.iter().zip(no_leaf));
    let values = modes.iter().zip(splits).zip(list(node, "nodes_featureids"));
    for (at, (((yes, yes_leaf), (no, no_leaf)), ((mode, threshold), id))) in children.zip(values).enumerate() {
        ensemble.branches.push(Branch {
            feature: feature(*id)?,
            threshold,
            mode: *mode,
            is_gap_true: gaps.get(at) == Some(&1),
            yes: child(*yes, *yes_leaf)?,
            no: child(*no, *no_leaf)?,
        });
    }
    Ok(())
}
