//! Tree ensembles.
//!
//! ```text
//!  NodeProto ──validate::trees::read──> Ensemble ──forest──> Forest: flat nodes, walked in lanes
//!                                                              │
//!                     finish: base values, transforms, labels <─┴─ votes summed
//! ```
//!
//! Floats are walked as floats and doubles as doubles; other numbers become floats, as in onnxruntime.

mod finish;
mod forest;
mod walk;

use std::sync::OnceLock;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{bail, format_err, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::{find, ints, text};
use super::kernel::{Fact, Kernel, only, operator, rows, single};
use super::scores::Transform;
use crate::validate::trees::{Ensemble, read};
use finish::{Finish, Fold, Task};
use forest::{Forest, Real};

/// What an operator of this module is built of.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An ensemble with what is done with its votes.
#[derive(Debug)]
struct Trees {
    name: &'static str,
    ensemble: Ensemble,
    fold: Fold,
    transform: Transform,
    task: Task,
    /// Whether doubles give doubles.
    keeps_doubles: bool,
    floats: OnceLock<Forest<f32>>,
    doubles: OnceLock<Forest<f64>>,
}

/// Builds a TreeEnsembleClassifier.
pub(super) fn classifier(_context: &ParsingContext, node: &NodeProto) -> Built {
    let ensemble = read(node, None).map_err(|fault| format_err!("{}", fault.what()))?;
    let labels = ints(node, "classlabels_int64s");
    let transform = Transform::named(text(node, "post_transform"))?;
    let task = Task::classes(labels, &ensemble);
    Ok(operator(Trees::new("TreeEnsembleClassifier", ensemble, Fold::Sum, transform, task)))
}

/// Builds a TreeEnsembleRegressor or a TreeEnsemble.
pub(super) fn regressor(_context: &ParsingContext, node: &NodeProto) -> Built {
    let ensemble = read(node, None).map_err(|fault| format_err!("{}", fault.what()))?;
    if node.op_type == "TreeEnsemble" {
        let number = |name: &str, default: i64| find(node, name).map_or(default, |attribute| attribute.i);
        let fold = Fold::numbered(number("aggregate_function", 1))?;
        let transform = Transform::numbered(number("post_transform", 0))?;
        let mut trees = Trees::new("TreeEnsemble", ensemble, fold, transform, Task::Targets);
        trees.keeps_doubles = true;
        return Ok(operator(trees));
    }
    let fold = Fold::named(text(node, "aggregate_function"))?;
    let transform = Transform::named(text(node, "post_transform"))?;
    Ok(operator(Trees::new("TreeEnsembleRegressor", ensemble, fold, transform, Task::Targets)))
}

impl Trees {
    fn new(name: &'static str, ensemble: Ensemble, fold: Fold, transform: Transform, task: Task) -> Self {
        let (floats, doubles) = (OnceLock::new(), OnceLock::new());
        Self { name, ensemble, fold, transform, task, keeps_doubles: false, floats, doubles }
    }

    fn width(&self) -> usize {
        self.ensemble.targets
    }

    /// Labels, if it is a classifier, and scores.
    fn score<T: Real>(&self, input: &Tensor, forest: &Forest<T>) -> TractResult<TVec<Tensor>> {
        let (count, width) = rows(input.shape())?;
        if width < forest.features() {
            bail!("rows of {width} features: its trees look at {}", forest.features());
        }
        let data = input.try_as_plain_ram()?.as_slice::<T>()?;
        let finish = Finish::<T>::new(&self.ensemble, self.fold, self.transform, &self.task);
        let mut scores = Vec::with_capacity(count * self.width());
        let mut labels = Vec::with_capacity(count);
        walk::rows(forest, self.fold, data, width, |votes, seen| {
            labels.push(finish.row(votes, seen, &mut scores));
        });
        let mut scores = Tensor::from_shape(&[count, self.width()], &scores)?;
        if !self.keeps_doubles && T::datum_type() != DatumType::F32 {
            scores = scores.cast_to_dt(DatumType::F32)?.into_owned();
        }
        if self.outputs() == 1 {
            return Ok(tvec!(scores));
        }
        Ok(tvec!(Tensor::from_shape(&[count], &labels)?, scores))
    }
}

impl Kernel for Trees {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self) -> usize {
        match self.task {
            Task::Classes { .. } => 2,
            Task::Targets => 1,
        }
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (datum_type, shape) = only(inputs)?;
        let (count, _) = rows(shape)?;
        let is_double = self.keeps_doubles && *datum_type == DatumType::F64;
        let scores = if is_double { DatumType::F64 } else { DatumType::F32 };
        let mut facts: TVec<Fact> = tvec!((scores, tvec!(count.clone(), self.width().into())));
        if self.outputs() == 2 {
            facts.insert(0, (DatumType::I64, tvec!(count)));
        }
        Ok(facts)
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = single(inputs)?;
        if input.datum_type() == DatumType::F64 {
            let forest = self.doubles.get_or_init(|| Forest::new(&self.ensemble));
            return self.score::<f64>(input, forest);
        }
        let input = input.cast_to::<f32>()?;
        let forest = self.floats.get_or_init(|| Forest::new(&self.ensemble));
        self.score::<f32>(&input, forest)
    }
}

impl Real for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "stored floats are read as doubles and come back exactly")]
    fn of(number: f64) -> Self {
        number as Self
    }

    fn below(self) -> Self {
        self.next_down()
    }
}

impl Real for f64 {
    fn of(number: f64) -> Self {
        number
    }

    fn below(self) -> Self {
        self.next_down()
    }
}
