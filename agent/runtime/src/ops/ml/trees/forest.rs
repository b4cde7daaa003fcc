//! Trees as flat nodes: siblings side by side, leaves that lead to themselves.

use std::collections::VecDeque;
use std::fmt::Debug;

use tract_onnx::prelude::Datum;
use tract_onnx::tract_hir::tract_num_traits::Float;

use crate::validate::trees::{Branch, Child, Ensemble, Mode};

/// A float that trees are walked with.
pub(super) trait Real: Float + Datum + Debug {
    /// A stored number.
    fn of(number: f64) -> Self;
    /// The next smaller number.
    fn below(self) -> Self;
}

/// A row goes to `left`, or to the node after that if its feature is greater than `threshold`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<T> {
    pub(super) threshold: T,
    /// The feature that is compared; 0 in a leaf.
    pub(super) feature: u32,
    /// A leaf's is the leaf itself, and nothing is greater than its threshold.
    pub(super) left: u32,
}

/// How a branch compares that cannot be written as one comparison with a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Odd<T> {
    pub(super) mode: Mode,
    pub(super) threshold: T,
}

/// Trees, ready to be walked.
#[derive(Debug)]
pub(super) struct Forest<T> {
    /// All trees, one after the other.
    pub(super) nodes: Vec<Node<T>>,
    /// Whether a row without the feature goes to `left`, for each node.
    pub(super) gap_left: Vec<bool>,
    /// Index of the leaf, for each node; 0 for a branch.
    pub(super) leaf: Vec<u32>,
    /// The root of each tree.
    pub(super) roots: Vec<u32>,
    /// How each node compares; empty if thresholds say it all.
    pub(super) odd: Vec<Odd<T>>,
    /// Sets that `odd` looks up.
    pub(super) members: Vec<T>,
    /// What leaves vote for.
    pub(super) votes: Votes<T>,
    /// Classes or targets.
    pub(super) targets: usize,
    features: usize,
}

/// What leaves vote for.
#[derive(Debug)]
pub(super) enum Votes<T> {
    /// Every leaf has one vote for the only target.
    Single(Vec<T>),
    /// Every leaf has a vote for every target: leaf after leaf.
    All(Vec<T>),
    /// Some votes for some targets, with the place of each leaf's first; one more place at the end.
    Some {
        /// Where a leaf's votes begin and end.
        spans: Vec<(u32, u32)>,
        /// Targets and weights.
        votes: Vec<(u32, T)>,
    },
}

impl<T: Real> Forest<T> {
    /// Lays out trees whose indices were proved.
    pub(super) fn new(ensemble: &Ensemble) -> Self {
        let is_odd = ensemble.branches.iter().any(|branch| normal::<T>(branch).is_none());
        let mut forest = Self {
            nodes: Vec::new(),
            gap_left: Vec::new(),
            leaf: Vec::new(),
            roots: Vec::with_capacity(ensemble.roots.len()),
            odd: Vec::new(),
            members: ensemble.members.iter().copied().map(T::of).collect(),
            votes: votes(ensemble),
            targets: ensemble.targets,
            features: ensemble.branches.iter().map(|branch| branch.feature as usize + 1).max().unwrap_or(0),
        };
        for root in &ensemble.roots {
            forest.tree(ensemble, *root, is_odd);
        }
        forest
    }

    /// How wide rows are at least.
    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// Lays out a tree level by level, so that what most rows pass lies together.
    fn tree(&mut self, ensemble: &Ensemble, root: Child, is_odd: bool) {
        self.roots.push(position(self.nodes.len()));
        let mut open = VecDeque::from([root]);
        // Nodes that are in `nodes` or wait to be.
        let mut reserved = self.nodes.len() + 1;
        while let Some(child) = open.pop_front() {
            let branch = match child {
                Child::Branch(index) => ensemble.branches.get(index),
                Child::Leaf(_) => None,
            };
            let left = if branch.is_some() { reserved } else { self.nodes.len() };
            let leaf = if let Child::Leaf(index) = child { index } else { 0 };
            self.leaf.push(position(leaf));
            let (mut threshold, mut feature, mut gap_left) = (T::infinity(), 0, true);
            let mut odd = Odd { mode: Mode::AtMost, threshold };
            if let Some(branch) = branch {
                let (limit, is_swapped) = normal(branch).unwrap_or((T::infinity(), false));
                (threshold, feature) = (limit, branch.feature);
                // Not a number equals nothing, so it differs from everything.
                let is_gap_yes = branch.is_gap_true || branch.mode == Mode::Unequal;
                gap_left = is_gap_yes != is_swapped;
                odd = Odd { mode: branch.mode, threshold: T::of(branch.threshold) };
                if is_odd {
                    (threshold, gap_left) = (T::infinity(), is_gap_yes);
                }
                let is_swapped = is_swapped && !is_odd;
                let pair = if is_swapped { [branch.no, branch.yes] } else { [branch.yes, branch.no] };
                open.extend(pair);
                reserved += 2;
            }
            self.nodes.push(Node { threshold, feature, left: position(left) });
            self.gap_left.push(gap_left);
            if is_odd {
                self.odd.push(odd);
            }
        }
    }
}

/// An index of a node or leaf, of which there are at most some millions.
fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The threshold that a feature must not pass, and whether it is then that the comparison does not
/// hold; `None` if there is no such number.
fn normal<T: Real>(branch: &Branch) -> Option<(T, bool)> {
    let threshold = T::of(branch.threshold);
    let below = || Some(threshold.below()).filter(|_| threshold > T::neg_infinity());
    match branch.mode {
        _ if threshold.is_nan() => None,
        Mode::AtMost => Some((threshold, false)),
        Mode::Above => Some((threshold, true)),
        Mode::Below => Some((below()?, false)),
        Mode::AtLeast => Some((below()?, true)),
        Mode::Equal | Mode::Unequal | Mode::Member(..) => None,
    }
}

fn votes<T: Real>(ensemble: &Ensemble) -> Votes<T> {
    let of = |(start, end): &(u32, u32)| ensemble.votes.get(*start as usize..*end as usize).unwrap_or_default();
    let is_full = |span: &(u32, u32)| {
        let votes = of(span);
        let is_in_order = votes.iter().enumerate().all(|(place, vote)| vote.target as usize == place);
        votes.len() == ensemble.targets && is_in_order
    };
    if ensemble.leaves.iter().all(is_full) {
        let weights = ensemble.leaves.iter().flat_map(of).map(|vote| T::of(vote.weight)).collect();
        return if ensemble.targets == 1 { Votes::Single(weights) } else { Votes::All(weights) };
    }
    let votes = ensemble.votes.iter().map(|vote| (vote.target, T::of(vote.weight))).collect();
    Votes::Some { spans: ensemble.leaves.clone(), votes }
}
