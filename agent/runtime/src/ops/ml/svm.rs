//! SVMClassifier and SVMRegressor: kernels against support vectors, or plain weighted sums.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::{floats, int, ints, text};
use super::kernel::{Fact, Kernel, Rows, classified, only, operator, rows};
use super::linear::dot;
use super::scores::{Second, Transform, greatest, logistic};

/// How alike a row and a vector are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Likeness {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Likeness {
    fn of(node: &NodeProto) -> TractResult<Self> {
        let (gamma, coef0, degree) = match floats(node, "kernel_params")[..] {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree] => (gamma, coef0, degree),
            _ => bail!("`kernel_params` are gamma, coef0 and degree"),
        };
        Ok(match text(node, "kernel_type") {
            "" | "LINEAR" => Self::Linear,
            "POLY" => Self::Poly { gamma, coef0, degree },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => bail!("`kernel_type` {other} is none of the specification"),
        })
    }

    fn between(self, row: &[f32], vector: &[f32]) -> f32 {
        match self {
            Self::Linear => dot(row, vector),
            Self::Poly { gamma, coef0, degree } => (gamma * dot(row, vector) + coef0).powf(degree),
            Self::Rbf { gamma } => (-gamma * distance(row, vector)).exp(),
            Self::Sigmoid { gamma, coef0 } => (gamma * dot(row, vector) + coef0).tanh(),
        }
    }
}

/// The square of the distance, eight features at a time.
fn distance(left: &[f32], right: &[f32]) -> f32 {
    const WIDE: usize = 8;
    let mut sums = [0.0; WIDE];
    let (left, right) = (left.chunks_exact(WIDE), right.chunks_exact(WIDE));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (left, right) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Vectors that rows are compared with.
#[derive(Debug)]
struct Vectors {
    likeness: Likeness,
    /// Vector after vector.
    data: Vec<f32>,
    count: usize,
}

impl Vectors {
    fn of(node: &NodeProto, count: usize) -> TractResult<Self> {
        let (likeness, data, count) = if count == 0 {
            (Likeness::Linear, floats(node, "coefficients"), 1)
        } else {
            (Likeness::of(node)?, floats(node, "support_vectors"), count)
        };
        if data.is_empty() || !data.len().is_multiple_of(count) {
            bail!("{} numbers for {count} vectors", data.len());
        }
        Ok(Self { likeness, data, count })
    }

    fn width(&self) -> usize {
        self.data.len() / self.count
    }

    /// How alike a row and each vector are.
    fn compare(&self, row: &[f32], found: &mut Vec<f32>) {
        found.clear();
        found.extend(self.data.chunks_exact(self.width()).map(|vector| self.likeness.between(row, vector)));
    }

    fn fitting(&self, rows: &Rows) -> TractResult<()> {
        if rows.width != self.width() {
            bail!("rows of {} features, its vectors have {}", rows.width, self.width());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Regressor {
    vectors: Vectors,
    /// A weight for each vector; empty where the weights are the vector.
    weights: Vec<f32>,
    rho: f32,
    one_class: bool,
}

/// Builds an SVMRegressor.
pub(super) fn regressor(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let count = usize::try_from(int(node, "n_supports").unwrap_or(0))?;
    let vectors = Vectors::of(node, count)?;
    let weights = if count == 0 { Vec::new() } else { floats(node, "coefficients") };
    let (Some(rho), true) = (floats(node, "rho").first().copied(), weights.len() == count) else {
        bail!("{} coefficients for {count} support vectors, or no `rho`", weights.len());
    };
    Ok(operator(Regressor { vectors, weights, rho, one_class: int(node, "one_class").unwrap_or(0) != 0 }))
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (count, _) = rows(&only(inputs)?.1)?;
        Ok(tvec!((DatumType::F32, tvec!(count, 1.into()))))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        self.vectors.fitting(&rows)?;
        let (mut alike, mut answers) = (Vec::new(), Vec::with_capacity(rows.count));
        for row in rows.data()?.chunks_exact(rows.width) {
            self.vectors.compare(row, &mut alike);
            let sum = if self.weights.is_empty() { alike.iter().sum() } else { dot(&alike, &self.weights) } + self.rho;
            answers.push(match self.one_class {
                true if sum > 0.0 => 1.0,
                true => -1.0,
                false => sum,
            });
        }
        Ok(tvec!(Tensor::from_shape(&[rows.count, 1], &answers)?))
    }
}

#[derive(Debug)]
struct Classifier {
    labels: Vec<i64>,
    kind: Kind,
    transform: Transform,
    /// Whether no coefficient is negative.
    is_positive: bool,
}

#[derive(Debug)]
enum Kind {
    /// A weighted sum for each class.
    Linear { weights: Vectors, rho: f32 },
    /// A decision between each two classes.
    Pairs(Pairs),
}

#[derive(Debug)]
struct Pairs {
    vectors: Vectors,
    /// First vector and number of vectors of each class.
    of_class: Vec<(usize, usize)>,
    /// As many rows as classes but one, each with a weight for every vector.
    weights: Vec<f32>,
    rho: Vec<f32>,
    /// Slope and offset of the probability of each decision; empty if none is asked for.
    sure: Vec<(f32, f32)>,
}

/// Builds an SVMClassifier.
pub(super) fn classifier(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let labels = ints(node, "classlabels_ints");
    if labels.is_empty() {
        bail!("it has no integers as class labels");
    }
    let (weights, rho) = (floats(node, "coefficients"), floats(node, "rho"));
    let is_positive = weights.iter().all(|weight| *weight >= 0.0);
    let transform = Transform::named(text(node, "post_transform"))?;
    let mut of_class = Vec::new();
    let mut count = 0;
    for size in ints(node, "vectors_per_class") {
        let size = usize::try_from(size)?;
        of_class.push((count, size));
        count += size;
    }
    let kind = if count == 0 {
        let (false, Some(rho)) = (weights.is_empty() || !weights.len().is_multiple_of(labels.len()), rho.first())
        else {
            bail!("{} coefficients for {} classes, or no `rho`", weights.len(), labels.len());
        };
        let weights = Vectors { likeness: Likeness::Linear, data: weights, count: labels.len() };
        Kind::Linear { weights, rho: *rho }
    } else {
        let pairs = labels.len() * (labels.len() - 1) / 2;
        let (a, b) = (floats(node, "prob_a"), floats(node, "prob_b"));
        let is_sure = a.len() == b.len() && (a.is_empty() || a.len() >= pairs);
        if pairs == 0 || of_class.len() != labels.len() || !is_sure {
            bail!("{} classes with vectors and {} probabilities for {} labels", of_class.len(), a.len(), labels.len());
        }
        if weights.len() < (labels.len() - 1) * count || rho.len() < pairs {
            bail!("{} coefficients and {} `rho` for {count} vectors", weights.len(), rho.len());
        }
        let sure = a.into_iter().zip(b).collect();
        Kind::Pairs(Pairs { vectors: Vectors::of(node, count)?, of_class, weights, rho, sure })
    };
    Ok(operator(Classifier { labels, kind, transform, is_positive }))
}

impl Pairs {
    fn classes(&self) -> usize {
        self.of_class.len()
    }

    /// The decision between each two classes, and how often each class won.
    fn decide(&self, alike: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let (mut decisions, mut won) = (Vec::with_capacity(self.rho.len()), vec![0; self.classes()]);
        let part = |row: usize, (start, size): (usize, usize)| -> f64 {
            let first = row * self.vectors.count + start;
            let weights = self.weights.get(first..first + size).unwrap_or_default();
            let alike = alike.get(start..start + size).unwrap_or_default();
            weights.iter().zip(alike).map(|(weight, alike)| f64::from(weight * alike)).sum()
        };
        let mut rho = self.rho.iter();
        for (i, one) in self.of_class.iter().enumerate() {
            for (j, other) in self.of_class.iter().enumerate().skip(i + 1) {
                let sum = part(j - 1, *one) + part(i, *other) + f64::from(rho.next().copied().unwrap_or(0.0));
                #[expect(clippy::cast_possible_truncation, reason = "scores are floats")]
                decisions.push(sum as f32);
                if let Some(count) = won.get_mut(if sum > 0.0 { i } else { j }) {
                    *count += 1;
                }
            }
        }
        (decisions, won)
    }

    /// The probability of each class, by the second method of Wu, Lin and Weng (2004).
    fn probabilities(&self, decisions: &[f32]) -> Vec<f32> {
        const LEAST: f32 = 1e-7;
        let classes = self.classes();
        let mut between = vec![vec![0.0_f32; classes]; classes];
        let mut sure = decisions.iter().zip(&self.sure);
        for i in 0..classes {
            for j in i + 1..classes {
                let (decision, (a, b)) = sure.next().unwrap_or((&0.0, &(0.0, 0.0)));
                let one = (1.0 - logistic(decision * a + b)).clamp(LEAST, 1.0 - LEAST);
                for (row, column, value) in [(i, j, one), (j, i, 1.0 - one)] {
                    if let Some(place) = between.get_mut(row).and_then(|row| row.get_mut(column)) {
                        *place = value;
                    }
                }
            }
        }
        coupled(&between)
    }
}

/// Probabilities of classes from those of each two: the fixed point of `p Q p` by at most a hundred
/// rounds.
#[expect(clippy::indexing_slicing, reason = "all are squares of the same size")]
fn coupled(between: &[Vec<f32>]) -> Vec<f32> {
    const ROUNDS: usize = 100;
    let classes = between.len();
    #[expect(clippy::cast_precision_loss, reason = "there are few classes")]
    let count = classes as f32;
    let mut q = vec![vec![0.0_f32; classes]; classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            q[i][i] += between[j][i] * between[j][i];
            q[i][j] = -between[j][i] * between[i][j];
        }
    }
    let mut p = vec![1.0 / count; classes];
    for _ in 0..ROUNDS {
        let mut qp: Vec<f32> = q.iter().map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < 0.005 / count) {
            break;
        }
        for i in 0..classes {
            let step = (pqp - qp[i]) / q[i][i];
            p[i] += step;
            pqp = (pqp + step * (step * q[i][i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[i][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

impl Classifier {
    fn width(&self) -> usize {
        match &self.kind {
            Kind::Pairs(pairs) if pairs.sure.is_empty() && pairs.classes() > 2 => {
                pairs.classes() * (pairs.classes() - 1) / 2
            }
            Kind::Pairs(_) | Kind::Linear { .. } => self.labels.len(),
        }
    }

    /// The place of a row's label, and its scores.
    fn score(&self, row: &[f32], alike: &mut Vec<f32>) -> (usize, Vec<f32>) {
        let pairs = match &self.kind {
            Kind::Linear { weights, rho } => {
                weights.compare(row, alike);
                let mut scores: Vec<f32> = alike.iter().map(|sum| sum + rho).collect();
                let place = self.of_linear(&scores);
                self.transform.apply(&mut scores);
                return (place, scores);
            }
            Kind::Pairs(pairs) => pairs,
        };
        pairs.vectors.compare(row, alike);
        let (decisions, won) = pairs.decide(alike);
        let place = greatest(&won);
        let scores = match decisions[..] {
            _ if !pairs.sure.is_empty() => {
                let mut scores = pairs.probabilities(&decisions);
                self.transform.apply(&mut scores);
                scores
            }
            [decision] => {
                let second = if self.transform == Transform::None { Second::Opposite } else { Second::Complement };
                second.pair(self.transform, decision).to_vec()
            }
            _ => {
                let mut scores = decisions;
                self.transform.apply(&mut scores);
                scores
            }
        };
        (place, scores)
    }

    /// With two classes the sign of the greater sum decides, or whether it is a half.
    fn of_linear(&self, scores: &[f32]) -> usize {
        let place = greatest(scores);
        let most = scores.get(place).copied().unwrap_or(0.0);
        let is_second = if self.is_positive { most >= 0.5 } else { most > 0.0 };
        if scores.len() == 2 && is_second { 1 } else { place }
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        classified(inputs, self.width())
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let rows = Rows::of(inputs)?;
        match &self.kind {
            Kind::Linear { weights, .. } => weights.fitting(&rows)?,
            Kind::Pairs(pairs) => pairs.vectors.fitting(&rows)?,
        }
        let mut labels = Vec::with_capacity(rows.count);
        let mut scores = Vec::with_capacity(rows.count * self.width());
        let mut alike = Vec::new();
        for row in rows.data()?.chunks_exact(rows.width) {
            let (place, found) = self.score(row, &mut alike);
            labels.push(self.labels.get(place).copied().unwrap_or_default());
            scores.extend(found);
        }
        let shape = [rows.count, self.width()];
        Ok(tvec!(Tensor::from_shape(&[rows.count], &labels)?, Tensor::from_shape(&shape, &scores)?))
    }
}
