//! From summed votes to labels and scores, as onnxruntime does it.

use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::bail;

use super::super::scores::{Second, Transform};
use super::forest::Real;
use crate::validate::trees::Ensemble;

/// How the votes of trees become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Average,
    Min,
    Max,
}

impl Fold {
    /// Reads its name; nothing is a sum.
    ///
    /// # Errors
    ///
    /// For a name that the specification does not have.
    pub(super) fn named(name: &str) -> TractResult<Self> {
        Ok(match name {
            "" | "SUM" => Self::Sum,
            "AVERAGE" => Self::Average,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            _ => bail!("aggregate_function `{name}` is none of the specification"),
        })
    }

    /// Its place in the list of `TreeEnsemble`.
    ///
    /// # Errors
    ///
    /// For a place outside of the list.
    pub(super) fn numbered(number: i64) -> TractResult<Self> {
        Ok(match number {
            0 => Self::Average,
            1 => Self::Sum,
            2 => Self::Min,
            3 => Self::Max,
            _ => bail!("aggregate_function {number} is none of the specification"),
        })
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Task {
    /// One of two labels by the sum of all votes, and scores of both.
    Pair {
        /// The label of each class.
        labels: [i64; 2],
        /// Whether the votes are for the second class and say nothing of the first.
        is_second: bool,
        /// Whether no vote is negative.
        is_positive: bool,
    },
    /// One of three labels or more, and scores.
    Classes(Vec<i64>),
    /// A number for each target.
    Targets,
}

impl Task {
    /// A classifier with these labels; the votes of one for two classes become those for one target.
    pub(super) fn classes(labels: Vec<i64>, ensemble: &mut Ensemble) -> Self {
        let &[first, second] = &labels[..] else {
            return Self::Classes(labels);
        };
        let is_second = ensemble.votes.iter().any(|vote| vote.target == 1);
        let is_positive = ensemble.votes.iter().all(|vote| vote.weight >= 0.0);
        ensemble.targets = 1;
        ensemble.votes.iter_mut().for_each(|vote| vote.target = 0);
        Self::Pair { labels: [first, second], is_second, is_positive }
    }
}

/// What is done with the votes of a row.
#[derive(Debug)]
pub(super) struct Finish<'e, T> {
    base: Vec<T>,
    trees: T,
    fold: Fold,
    transform: Transform,
    task: &'e Task,
}

impl<'e, T: Real> Finish<'e, T> {
    /// For the votes of this ensemble.
    pub(super) fn new(ensemble: &Ensemble, fold: Fold, transform: Transform, task: &'e Task) -> Self {
        let base = ensemble.base.iter().copied().map(T::of).collect();
        #[expect(clippy::cast_precision_loss, reason = "there are fewer trees than that")]
        let trees = T::of(ensemble.roots.len() as f64);
        Self { base, trees, fold, transform, task }
    }

    /// Appends the scores of a row and gives its label; `seen` says for which targets there was a vote.
    pub(super) fn row(&self, votes: &mut [T], seen: &[bool], scores: &mut Vec<T>) -> i64 {
        match (self.task, &*votes, seen) {
            (Task::Pair { labels: [first, second], is_second, is_positive }, [score], [seen]) => {
                let score = if *seen { *score + self.base.first().copied().unwrap_or_else(T::zero) } else { T::zero() };
                self.pair(score, *is_second, *is_positive, scores);
                let limit = if *is_positive { T::of(0.5) } else { T::zero() };
                if score > limit { *second } else { *first }
            }
            (Task::Classes(labels), ..) => self.many(votes, seen, labels, scores),
            (Task::Pair { .. } | Task::Targets, ..) => {
                self.targets(votes, seen, scores);
                0
            }
        }
    }

    fn pair(&self, score: T, is_second: bool, is_positive: bool, scores: &mut Vec<T>) {
        if is_second {
            let mut both = [T::zero(), score];
            self.transform.apply(&mut both);
            scores.extend(both);
            return;
        }
        let follows = if is_positive { Second::Complement } else { Second::Opposite };
        scores.extend(follows.pair(self.transform, score));
    }

    fn targets(&self, votes: &mut [T], seen: &[bool], scores: &mut Vec<T>) {
        if self.fold == Fold::Average {
            votes.iter_mut().for_each(|vote| *vote = *vote / self.trees);
        }
        if self.base.len() == votes.len() {
            votes.iter_mut().zip(&self.base).for_each(|(vote, base)| *vote = *vote + *base);
        }
        if votes.len() > 1 {
            // Nobody's target has no base value either.
            votes.iter_mut().zip(seen).filter(|(_, seen)| !**seen).for_each(|(vote, _)| *vote = T::zero());
        }
        // A single target is not transformed by onnxruntime, but for PROBIT.
        if votes.len() > 1 || self.transform == Transform::Probit {
            self.transform.apply(votes);
        }
        scores.extend_from_slice(votes);
    }

    /// Three classes or more: the greatest of those that had a vote.
    fn many(&self, votes: &mut [T], seen: &[bool], labels: &[i64], scores: &mut Vec<T>) -> i64 {
        votes.iter_mut().zip(&self.base).for_each(|(vote, base)| *vote = *vote + *base);
        let mut best: Option<(usize, T)> = None;
        for (place, (vote, seen)) in votes.iter().zip(seen).enumerate() {
            let counts = *seen || place < self.base.len();
            if counts && best.is_none_or(|(_, most)| *vote > most) {
                best = Some((place, *vote));
            }
        }
        self.transform.apply(votes);
        scores.extend_from_slice(votes);
        best.and_then(|(place, _)| labels.get(place)).or(labels.first()).copied().unwrap_or_default()
    }
}
