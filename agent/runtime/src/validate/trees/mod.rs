//! Tree ensembles: every index is proved in range here, and that every tree is one, so that no walk is
//! endless. What was proved is given as an [`Ensemble`], which the operators are built from.

mod lists;
mod tensors;
#[cfg(test)]
mod tests;

use tract_onnx::pb::NodeProto;

use super::Fault;
use super::attributes::{find, int, ints};

/// Greatest feature: wider rows than any sample that is taken.
pub(super) const FEATURES_MAX: u32 = 1 << 16;
/// Most classes or targets.
pub(super) const LABELS_MAX: usize = 1 << 16;

/// Trees whose every index is in range.
#[derive(Debug, Default)]
pub(crate) struct Ensemble {
    /// Where a row is compared with something.
    pub(crate) branches: Vec<Branch>,
    /// Where a walk ends: first and last but one of its votes.
    pub(crate) leaves: Vec<(u32, u32)>,
    /// Votes, leaf after leaf.
    pub(crate) votes: Vec<Vote>,
    /// Where each tree begins.
    pub(crate) roots: Vec<Child>,
    /// Classes or targets.
    pub(crate) targets: usize,
    /// What is added: nothing, one number, or one for each target.
    pub(crate) base: Vec<f64>,
    /// Sets that features are looked up in, one after the other.
    pub(crate) members: Vec<f64>,
}

/// A node with two children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    /// The feature that is compared.
    pub(crate) feature: u32,
    /// What it is compared with; exactly the stored number.
    pub(crate) threshold: f64,
    /// How.
    pub(crate) mode: Mode,
    /// Whether a row without this feature takes the way of those where the comparison holds.
    pub(crate) is_gap_true: bool,
    /// Where the comparison holds.
    pub(crate) yes: Child,
    /// Where it does not.
    pub(crate) no: Child,
}

/// Index of a branch or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    /// Of [`Ensemble::branches`].
    Branch(usize),
    /// Of [`Ensemble::leaves`].
    Leaf(usize),
}

/// What a leaf adds to a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Vote {
    /// Index of the class or target.
    pub(crate) target: u32,
    /// Exactly the stored number.
    pub(crate) weight: f64,
}

/// How a feature is compared with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `BRANCH_LEQ`
    AtMost,
    /// `BRANCH_LT`
    Below,
    /// `BRANCH_GTE`
    AtLeast,
    /// `BRANCH_GT`
    Above,
    /// `BRANCH_EQ`
    Equal,
    /// `BRANCH_NEQ`
    Unequal,
    /// `BRANCH_MEMBER`: among [`Ensemble::members`] from the first of these to before the second.
    Member(u32, u32),
}

/// Reads a TreeEnsembleClassifier, TreeEnsembleRegressor or TreeEnsemble whose input has `width`
/// features, if that is known.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn read(node: &NodeProto, width: Option<u64>) -> Result<Ensemble, Fault> {
    let ensemble = if node.op_type == "TreeEnsemble" { tensors::read(node)? } else { lists::read(node)? };
    let most = FEATURES_MAX.min(width.and_then(|width| u32::try_from(width).ok()).unwrap_or(FEATURES_MAX));
    if let Some(branch) = ensemble.branches.iter().find(|branch| branch.feature >= most) {
        let id = branch.feature;
        return Err(Fault::broken(format!("feature id {id} is not below the {most} of its input")));
    }
    let base = ensemble.base.len();
    if base > 1 && base != ensemble.targets {
        return Err(Fault::broken(format!("{base} base values for {} targets", ensemble.targets)));
    }
    ensemble.reached()?;
    Ok(ensemble)
}

impl Ensemble {
    /// Every branch is reached from a root: with one parent each, there is no circle then.
    fn reached(&self) -> Result<(), Fault> {
        let mut open = self.roots.clone();
        let mut count = 0;
        while let Some(child) = open.pop() {
            if let Child::Branch(index) = child
                && let Some(branch) = self.branches.get(index)
            {
                count += 1;
                if count > self.branches.len() {
                    break;
                }
                open.extend([branch.yes, branch.no]);
            }
        }
        if count == self.branches.len() {
            return Ok(());
        }
        let all = self.branches.len();
        Err(Fault::broken(format!("{count} of {all} branches are reached from the roots: the trees are none")))
    }
}

/// How many classes or targets are asked for.
fn targets(node: &NodeProto) -> Result<usize, Fault> {
    let labels = ints(node, "classlabels_int64s").map_or(0, <[i64]>::len);
    let targets = if node.op_type == "TreeEnsembleClassifier" {
        labels
    } else {
        int(node, "n_targets").map_or(1, |targets| usize::try_from(targets).unwrap_or(0))
    };
    if (1..=LABELS_MAX).contains(&targets) {
        return Ok(targets);
    }
    Err(Fault::broken(format!("{targets} classes or targets: 1 to {LABELS_MAX} are supported")))
}

fn list<'n>(node: &'n NodeProto, name: &str) -> &'n [i64] {
    ints(node, name).unwrap_or_default()
}

/// The floats of a list or, under the same name with `_as_tensor`, of a tensor.
fn reals(node: &NodeProto, name: &str) -> Result<Vec<f64>, Fault> {
    let tensor = find(node, &format!("{name}_as_tensor")).and_then(|attribute| attribute.t.as_ref());
    match tensor {
        Some(tensor) => super::tensors::reals(tensor)
            .ok_or_else(|| Fault::broken(format!("`{name}_as_tensor` holds neither floats nor doubles"))),
        None => Ok(find(node, name).map_or_else(Vec::new, |list| list.floats.iter().copied().map(f64::from).collect())),
    }
}

fn equal(name: &str, got: usize, expected: usize) -> Result<(), Fault> {
    if got == expected {
        return Ok(());
    }
    Err(Fault::broken(format!("`{name}` has {got} entries, {expected} are needed")))
}

/// An index of 32 bits.
fn index(value: usize) -> Result<u32, Fault> {
    u32::try_from(value).map_err(|_| Fault::large(format!("an index of {value} in a tree ensemble")))
}

/// A feature's index, which is not negative.
fn feature(id: i64) -> Result<u32, Fault> {
    u32::try_from(id).map_err(|_| Fault::broken(format!("feature id {id} is none")))
}

/// A target's index, which is one of so many.
fn target(id: i64, targets: usize) -> Result<u32, Fault> {
    u32::try_from(id)
        .ok()
        .filter(|id| (*id as usize) < targets)
        .ok_or_else(|| Fault::broken(format!("class or target id {id} is not below the {targets} declared")))
}
