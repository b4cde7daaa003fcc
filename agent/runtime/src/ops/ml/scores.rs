//! From raw scores to what a model answers: `post_transform`, and the second score of two classes.

use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::bail;
use tract_onnx::tract_hir::tract_num_traits::Float;

/// What is done with scores at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// Reads its name; nothing is none.
    ///
    /// # Errors
    ///
    /// For a name that the specification does not have.
    pub(super) fn named(name: &str) -> TractResult<Self> {
        Ok(match name {
            "" | "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => bail!("post_transform `{name}` is none of the specification"),
        })
    }

    /// Its place in the list of `TreeEnsemble`.
    ///
    /// # Errors
    ///
    /// For a place outside of the list.
    pub(super) fn numbered(number: i64) -> TractResult<Self> {
        Ok(match number {
            0 => Self::None,
            1 => Self::Softmax,
            2 => Self::Logistic,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            _ => bail!("post_transform {number} is none of the specification"),
        })
    }

    /// Applies it to the scores of one row.
    pub(super) fn apply<T: Float>(self, scores: &mut [T]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores, |_| false),
            Self::SoftmaxZero => {
                let tiny = T::from(1e-7).unwrap_or_else(T::zero);
                softmax(scores, |score| score.abs() <= tiny);
            }
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

/// How one raw score becomes the scores of two classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// It is a probability.
    Complement,
    /// Its sign decides.
    Opposite,
}

impl Second {
    /// The scores of the first and the second class.
    pub(super) fn pair<T: Float>(self, transform: Transform, score: T) -> [T; 2] {
        match (self, transform) {
            // Only the first place is written then.
            (_, Transform::Probit) => [probit(score), T::zero()],
            (Self::Complement, _) => [T::one() - score, score],
            (Self::Opposite, Transform::Logistic) => [logistic(-score), logistic(score)],
            (Self::Opposite, _) => [-score, score],
        }
    }
}

/// Exponentials over their sum; what `is_zero` names is scaled and stays out of the sum.
fn softmax<T: Float>(scores: &mut [T], is_zero: impl Fn(T) -> bool) {
    let most = scores.iter().copied().fold(T::min_value(), T::max);
    let mut sum = T::zero();
    for score in &mut *scores {
        if is_zero(*score) {
            *score = *score * (-most).exp();
        } else {
            *score = (*score - most).exp();
            sum = sum + *score;
        }
    }
    scores.iter_mut().for_each(|score| *score = *score / sum);
}

/// One over one plus an exponential, without overflow.
pub(super) fn logistic<T: Float>(score: T) -> T {
    let half = T::one() / (T::one() + (-score.abs()).exp());
    if score < T::zero() { T::one() - half } else { half }
}

/// The inverse of the normal distribution by Winitzki's approximation of the inverse error function,
/// with the constants of onnxruntime.
fn probit<T: Float>(score: T) -> T {
    let number = |value: f64| T::from(value).unwrap_or_else(T::zero);
    let x = number(2.0) * score - T::one();
    let log = ((T::one() - x) * (T::one() + x)).ln();
    let v = number(2.0 / (3.14159 * 0.147)) + number(0.5) * log;
    let root = ((v * v - log / number(0.147)).sqrt() - v).sqrt();
    number(std::f64::consts::SQRT_2) * if x < T::zero() { -root } else { root }
}

/// The place of the greatest score, the first of several.
pub(super) fn greatest<T: PartialOrd + Copy>(scores: &[T]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if scores.get(best).is_some_and(|most| score > most) {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_those_of_the_specification() {
        let after = |transform: Transform, mut scores: Vec<f32>| {
            transform.apply(&mut scores);
            scores
        };
        let soft = after(Transform::Softmax, vec![1.0, 2.0, 3.0]);
        assert!((soft.iter().sum::<f32>() - 1.0).abs() < 1e-6 && (soft[2] - 0.665_240_96).abs() < 1e-6);
        let zero = after(Transform::SoftmaxZero, vec![0.0, 2.0, 2.0]);
        assert_eq!(zero, [0.0, 0.5, 0.5]);
        assert_eq!(after(Transform::Logistic, vec![0.0, 100.0, -100.0]), [0.5, 1.0, 0.0]);
        let probit = after(Transform::Probit, vec![0.5, 0.975]);
        assert!(probit[0].abs() < 1e-3 && (probit[1] - 1.96).abs() < 1e-2, "{probit:?}");
        assert_eq!(Second::Complement.pair(Transform::None, 0.25_f32), [0.75, 0.25]);
        assert_eq!(Second::Opposite.pair(Transform::None, 0.25_f32), [-0.25, 0.25]);
        assert!(Transform::named("EXP").is_err() && Transform::numbered(5).is_err());
    }
}
