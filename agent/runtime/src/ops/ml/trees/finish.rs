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
    /// A label and scores.
    Classes {
        /// The label of each class.
        labels: Vec<i64>,
        /// Whether all leaves vote for one of two classes.
        is_binary: bool,
        /// Whether no vote is negative.
        is_positive: bool,
    },
    /// A number for each target.
    Targets,
}

impl Task {
    /// A classifier with these labels.
    pub(super) fn classes(labels: Vec<i64>, ensemble: &Ensemble) -> Self {
        let first = ensemble.votes.first().map(|vote| vote.target);
        let is_same = first.is_some() && ensemble.votes.iter().all(|vote| Some(vote.target) == first);
        let is_positive = ensemble.votes.iter().all(|vote| vote.weight >= 0.0);
        Self::Classes { is_binary: labels.len() == 2 && is_same, labels, is_positive }
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
        match self.task {
            Task::Targets => {
                self.targets(votes, scores);
                0
            }
            Task::Classes { labels, is_binary, is_positive } if votes.len() <= 2 => {
                self.few(votes, seen, (labels, *is_binary, *is_positive), scores)
            }
            Task::Classes { labels, .. } => self.many(votes, seen, labels, scores),
        }
    }

    fn targets(&self, votes: &mut [T], scores: &mut Vec<T>) {
        if self.fold == Fold::Average {
            votes.iter_mut().for_each(|vote| *vote = *vote / self.trees);
        }
        if self.base.len() == votes.len() {
            votes.iter_mut().zip(&self.base).for_each(|(vote, base)| *vote = *vote + *base);
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

    /// One or two classes. Votes are often for one of two; what the other has follows from them.
    fn few(&self, votes: &[T], seen: &[bool], task: (&[i64], bool, bool), scores: &mut Vec<T>) -> i64 {
        let (labels, is_binary, is_positive) = task;
        let has_second = seen.get(1) == Some(&true);
        let first = votes.first().copied().unwrap_or_else(T::zero);
        let second = votes.get(1).copied();
        // The score of the first class, of the second if it counts, and what the second follows by.
        let (pair, mut follows) = match (&self.base[..], second) {
            ([_, base], Some(_)) if has_second => {
                let second = first + *base;
                ((-second, Some(second)), None)
            }
            ([base, other], Some(second)) => ((first + *base, Some(second + *other)), None),
            ([base], _) => ((first + *base, second.filter(|_| has_second)), None),
            _ => ((first, second.filter(|_| has_second)), Some(Second::Opposite)),
        };
        let positive = if has_second { pair.1.unwrap_or(pair.0) } else { pair.0 };
        let limit = if is_positive && is_binary { T::of(0.5) } else { T::zero() };
        let is_second = positive > limit;
        if is_binary {
            follows = Some(if is_positive { Second::Complement } else { Second::Opposite });
        }
        let label = labels.get(usize::from(is_second)).copied().filter(|_| is_binary);
        match (pair, follows) {
            ((first, Some(second)), _) => {
                let mut both = [first, second];
                self.transform.apply(&mut both);
                scores.extend(both);
            }
            ((score, None), _) if votes.len() == 1 => scores.push(match self.transform {
                Transform::Probit => Second::Opposite.pair(Transform::Probit, score)[0],
                _ => score,
            }),
            ((score, None), Some(follows)) => scores.extend(follows.pair(self.transform, score)),
            ((score, None), None) => scores.extend([score, T::zero()]),
        }
        label.unwrap_or(i64::from(is_second))
    }
}
