//! Walks trees: several rows or several trees side by side, so that what one waits for is what another
//! computes.

use super::finish::Fold;
use super::forest::{Forest, Node, Real, Votes};
use crate::validate::trees::Mode;

/// Walks side by side: each waits some ten cycles for its node and its feature.
const LANES: usize = 8;
/// Rows that pass through a tree while it is in the nearest cache.
const BLOCK: usize = 64;

/// Walks all rows of `width` features and gives their votes, which may be changed, in order; with them
/// goes for which targets there was one.
pub(super) fn rows<T: Real>(
    forest: &Forest<T>,
    fold: Fold,
    data: &[T],
    width: usize,
    mut done: impl FnMut(&mut [T], &[bool]),
) {
    let targets = forest.targets;
    let (mut votes, mut seen) = (Vec::new(), Vec::new());
    // Rows of no features are no rows: such a forest has leaves only.
    for block in data.chunks(BLOCK * width.max(1)) {
        let count = block.len() / width.max(1);
        votes.clear();
        votes.resize(count * targets, T::zero());
        // Where each leaf votes for all targets there is nothing to remember.
        let is_sum = matches!(fold, Fold::Sum | Fold::Average);
        let is_full = is_sum && matches!(forest.votes, Votes::Single(_) | Votes::All(_));
        seen.clear();
        seen.resize(count * targets, is_full);
        let mut tally = Tally { fold, targets, votes: &mut votes, seen: &mut seen };
        if !forest.odd.is_empty() {
            walk(forest, block, width, &mut tally, |node, number, at| oddly(forest, *node, number, at));
        } else if block.iter().any(|number| number.is_nan()) {
            walk(forest, block, width, &mut tally, |node, number, at| {
                let is_left = number.is_nan() && forest.gap_left.get(at).copied().unwrap_or(true);
                number.is_nan() != is_left || number > node.threshold
            });
        } else {
            walk(forest, block, width, &mut tally, |node, number, _| number > node.threshold);
        }
        for (votes, seen) in votes.chunks_exact_mut(targets).zip(seen.chunks_exact(targets)) {
            done(votes, seen);
        }
    }
}

/// Whether a row goes to the second child where comparisons are of all kinds.
fn oddly<T: Real>(forest: &Forest<T>, node: Node<T>, number: T, at: usize) -> bool {
    let Some(odd) = forest.odd.get(at).filter(|_| node.left as usize != at) else {
        return false;
    };
    if number.is_nan() {
        return !forest.gap_left.get(at).copied().unwrap_or(true);
    }
    let holds = match odd.mode {
        Mode::AtMost => number <= odd.threshold,
        Mode::Below => number < odd.threshold,
        Mode::AtLeast => number >= odd.threshold,
        Mode::Above => number > odd.threshold,
        Mode::Equal => number == odd.threshold,
        Mode::Unequal => number != odd.threshold,
        Mode::Member(start, end) => {
            forest.members.get(start as usize..end as usize).unwrap_or_default().contains(&number)
        }
    };
    !holds
}

/// Where votes are counted.
struct Tally<'t, T> {
    fold: Fold,
    targets: usize,
    /// Row after row.
    votes: &'t mut [T],
    seen: &'t mut [bool],
}

impl<T: Real> Tally<'_, T> {
    /// Counts what a leaf votes for, for a row.
    #[inline]
    fn add(&mut self, forest: &Forest<T>, row: usize, leaf: u32) {
        let leaf = leaf as usize;
        let start = row * self.targets;
        let votes = self.votes.get_mut(start..start + self.targets).unwrap_or_default();
        let seen = self.seen.get_mut(start..start + self.targets).unwrap_or_default();
        let is_sum = matches!(self.fold, Fold::Sum | Fold::Average);
        match &forest.votes {
            Votes::Single(weights) => {
                if let ([vote], [seen], Some(weight)) = (votes, seen, weights.get(leaf)) {
                    if is_sum {
                        *vote = *vote + *weight;
                    } else {
                        *vote = folded(self.fold, *vote, *seen, *weight);
                        *seen = true;
                    }
                }
            }
            Votes::All(weights) => {
                let first = leaf * self.targets;
                let weights = weights.get(first..first + self.targets).unwrap_or_default();
                if is_sum {
                    votes.iter_mut().zip(weights).for_each(|(vote, weight)| *vote = *vote + *weight);
                } else {
                    for ((vote, seen), weight) in votes.iter_mut().zip(&*seen).zip(weights) {
                        *vote = folded(self.fold, *vote, *seen, *weight);
                    }
                    seen.fill(true);
                }
            }
            Votes::Some { spans, votes: all } => {
                let (start, end) = spans.get(leaf).copied().unwrap_or_default();
                for (target, weight) in all.get(start as usize..end as usize).unwrap_or_default() {
                    let target = *target as usize;
                    if let (Some(vote), Some(seen)) = (votes.get_mut(target), seen.get_mut(target)) {
                        *vote = if is_sum { *vote + *weight } else { folded(self.fold, *vote, *seen, *weight) };
                        *seen = true;
                    }
                }
            }
        }
    }
}

/// The least or greatest of votes.
fn folded<T: Real>(fold: Fold, vote: T, seen: bool, weight: T) -> T {
    let is_better = match fold {
        Fold::Min => weight < vote,
        Fold::Max => weight > vote,
        Fold::Sum | Fold::Average => return vote + weight,
    };
    if !seen || is_better { weight } else { vote }
}

/// Walks every row of a block through every tree; votes are counted tree by tree, so that sums are
/// rounded as they are where one tree follows the other.
fn walk<T: Real>(
    forest: &Forest<T>,
    block: &[T],
    width: usize,
    tally: &mut Tally<'_, T>,
    goes_right: impl Fn(&Node<T>, T, usize) -> bool + Copy,
) {
    let count = block.len() / width.max(1);
    let wide = count - count % LANES;
    for root in &forest.roots {
        for first in (0..wide).step_by(LANES) {
            let mut at = [*root; LANES];
            let rows: [usize; LANES] = std::array::from_fn(|lane| (first + lane) * width);
            descend(forest, block, rows, &mut at, goes_right);
            for (lane, at) in at.into_iter().enumerate() {
                tally.add(forest, first + lane, forest.leaf.get(at as usize).copied().unwrap_or_default());
            }
        }
    }
    for row in wide..count {
        for roots in forest.roots.chunks(LANES) {
            // Lanes without a tree walk the first one once more, and are not counted.
            let mut at: [u32; LANES] =
                std::array::from_fn(|lane| roots.get(lane).or(roots.first()).copied().unwrap_or(0));
            descend(forest, block, [row * width; LANES], &mut at, goes_right);
            for at in at.into_iter().take(roots.len()) {
                tally.add(forest, row, forest.leaf.get(at as usize).copied().unwrap_or_default());
            }
        }
    }
}

/// Walks from nodes to leaves: each lane has a row that begins at a place in `data`.
#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "children are nodes by construction, and no feature is beyond the width: both were proved before"
)]
fn descend<T: Real>(
    forest: &Forest<T>,
    data: &[T],
    rows: [usize; LANES],
    at: &mut [u32; LANES],
    goes_right: impl Fn(&Node<T>, T, usize) -> bool,
) {
    loop {
        let mut moved = 0;
        for lane in 0..LANES {
            let here = at[lane];
            let node = &forest.nodes[here as usize];
            let number = data[rows[lane].wrapping_add(node.feature as usize)];
            let next = node.left.wrapping_add(u32::from(goes_right(node, number, here as usize)));
            moved |= next ^ here;
            at[lane] = next;
        }
        if moved == 0 {
            return;
        }
    }
}
