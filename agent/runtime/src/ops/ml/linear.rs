//! LinearClassifier and LinearRegressor.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::{floats, int, ints, text};
use super::kernel::{Fact, Kernel, Rows, classified, only, operator, rows};
use super::scores::{Second, Transform, greatest};

/// Weighted sums of a row's features.
#[derive(Debug)]
struct Sums {
    /// Row after row, one for each sum.
    weights: Vec<f32>,
    /// What is added to each sum.
    added: Vec<f32>,
}

impl Sums {
    /// As many as `added` has; without those, as many as `expected`.
    fn of(node: &NodeProto, expected: usize) -> TractResult<Self> {
        let (weights, mut added) = (floats(node, "coefficients"), floats(node, "intercepts"));
        if added.is_empty() {
            added = vec![0.0; expected];
        }
        if added.is_empty() || weights.is_empty() || !weights.len().is_multiple_of(added.len()) {
            bail!("{} coefficients for {} sums", weights.len(), added.len());
        }
        Ok(Self { weights, added })
    }

    fn count(&self) -> usize {
        self.added.len()
    }

    /// The sums of each row, row after row.
    fn run(&self, rows: &Rows) -> TractResult<Vec<f32>> {
        if rows.width == 0 || self.weights.len() != self.count() * rows.width {
            bail!("{} coefficients for {} sums of {} features", self.weights.len(), self.count(), rows.width);
        }
        let mut sums = Vec::with_capacity(rows.count * self.count());
        for row in rows.data()?.chunks_exact(rows.width) {
            let weights = self.weights.chunks_exact(rows.width);
            sums.extend(weights.zip(&self.added).map(|(weights, added)| dot(row, weights) + added));
        }
        Ok(sums)
    }
}

/// The sum of products, eight at a time.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    const WIDE: usize = 8;
    let mut sums = [0.0; WIDE];
    let (left, right) = (left.chunks_exact(WIDE), right.chunks_exact(WIDE));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (left, right) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[derive(Debug)]
struct Classifier {
    sums: Sums,
    labels: Vec<i64>,
    transform: Transform,
}

/// Builds a LinearClassifier.
pub(super) fn classifier(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let labels = ints(node, "classlabels_ints");
    if labels.is_empty() {
        bail!("it has no integers as class labels");
    }
    let transform = Transform::named(text(node, "post_transform"))?;
    let sums = Sums::of(node, labels.len())?;
    if sums.count() > 1 && sums.count() > labels.len() {
        bail!("{} class labels for {} sums", labels.len(), sums.count());
    }
    Ok(operator(Classifier { sums, labels, transform }))
}

impl Classifier {
    /// Whether the only sum decides between two classes.
    fn is_pair(&self) -> bool {
        self.sums.count() == 1 && self.labels.len() == 2
    }

    fn label(&self, sums: &[f32]) -> i64 {
        let label = |place: usize| self.labels.get(place).copied();
        match sums {
            [score] => {
                let is_second = *score > 0.0;
                let pair = if self.is_pair() { label(usize::from(is_second)) } else { None };
                pair.unwrap_or(i64::from(is_second))
            }
            _ => label(greatest(sums)).unwrap_or_default(),
        }
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        classified(inputs, if self.is_pair() { 2 } else { self.sums.count() })
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        let mut sums = self.sums.run(&rows)?;
        let count = self.sums.count();
        let labels: Vec<i64> = sums.chunks_exact(count).map(|sums| self.label(sums)).collect();
        if self.is_pair() {
            sums = sums.into_iter().flat_map(|score| Second::Complement.pair(self.transform, score)).collect();
        } else if count > 1 || self.transform == Transform::Probit {
            sums.chunks_exact_mut(count).for_each(|sums| self.transform.apply(sums));
        }
        let width = if self.is_pair() { 2 } else { count };
        Ok(tvec!(Tensor::from_shape(&[rows.count], &labels)?, Tensor::from_shape(&[rows.count, width], &sums)?))
    }
}

#[derive(Debug)]
struct Regressor {
    sums: Sums,
    transform: Transform,
}

/// Builds a LinearRegressor.
pub(super) fn regressor(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let targets = usize::try_from(int(node, "targets").unwrap_or(1))?;
    let sums = Sums::of(node, targets)?;
    if sums.count() != targets {
        bail!("{} intercepts for {targets} targets", sums.count());
    }
    Ok(operator(Regressor { sums, transform: Transform::named(text(node, "post_transform"))? }))
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (count, _) = rows(&only(inputs)?.1)?;
        Ok(tvec!((DatumType::F32, tvec!(count, self.sums.count().into()))))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        let mut sums = self.sums.run(&rows)?;
        let count = self.sums.count();
        // A single score is not transformed by onnxruntime, but for PROBIT.
        if count > 1 || self.transform == Transform::Probit {
            sums.chunks_exact_mut(count).for_each(|sums| self.transform.apply(sums));
        }
        Ok(tvec!(Tensor::from_shape(&[rows.count, count], &sums)?))
    }
}
