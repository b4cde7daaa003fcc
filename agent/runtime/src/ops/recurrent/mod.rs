//! LSTM, GRU and RNN as one operator each, for any batch: forward, reverse or both, with lengths,
//! initial states, peepholes and `linear_before_reset`, with batch or time first.
//!
//! ```text
//!  x · W + bias, for many steps at once ──> gates of a step + h · R ──> curves ──> h, c
//! ```
//!
//! Weights must be stored in the model. Shapes and the order of gates are those of ONNX's operators of
//! version 14 and later.

mod cell;
mod unrolled;

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum as _, OutletId, TVec, Tensor, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{
    IntoArcTensor as _, IntoTValue as _, SpecialOps as _, StaticName, anyhow, bail, ensure,
};
use tract_onnx::tract_hir::internal::{Expansion, InferenceOp, InferenceResult, Solver, TensorProxy, expand};

use cell::Curve;
use unrolled::{Direction, Unrolled};

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("LSTM", |context, node| parse(context, node, Kind::Lstm));
    operators.insert("GRU", |context, node| parse(context, node, Kind::Gru));
    operators.insert("RNN", |context, node| parse(context, node, Kind::Rnn));
}

/// Which operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    const fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }

    const fn curves(self) -> &'static [Curve] {
        match self {
            Self::Lstm => &[Curve::Sigmoid, Curve::Tanh, Curve::Tanh],
            Self::Gru => &[Curve::Sigmoid, Curve::Tanh],
            Self::Rnn => &[Curve::Tanh],
        }
    }
}

/// A node as the model has it.
#[derive(Clone, Debug)]
struct Recurrent {
    kind: Kind,
    /// For each direction whether it runs backwards, and its curves.
    directions: Vec<(bool, Vec<Curve>)>,
    clip: f32,
    is_reset_after: bool,
    is_forget_coupled: bool,
    is_batch_first: bool,
    /// Which input is the bias, the lengths, the first h, the first c, the peepholes.
    given: [Option<usize>; 5],
    /// Which output is the sequence, the last h, the last c.
    made: [Option<usize>; 3],
}

fn parse(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
    kind: Kind,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let backwards: &[bool] = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => &[false],
    };
    let count = kind.curves().len();
    let names = node.get_attr_opt_vec_text("activations");
    ensure!(names.is_empty() || names.len() == backwards.len() * count, "{} activations", names.len());
    let number = |name: &str, index: usize| {
        node.attribute.iter().find(|attribute| attribute.name == name).and_then(|list| list.floats.get(index)).copied()
    };
    let mut directions = Vec::new();
    for (place, is_backward) in backwards.iter().enumerate() {
        let mut curves = kind.curves().to_vec();
        for (at, curve) in curves.iter_mut().enumerate() {
            let index = place * count + at;
            if let Some(name) = names.get(index) {
                *curve = Curve::named(name, number("activation_alpha", index), number("activation_beta", index))
                    .ok_or_else(|| anyhow!("an activation that is not computed"))?;
            }
        }
        directions.push((*is_backward, curves));
    }
    let mut inputs = optional_inputs(node).skip(3);
    let mut outputs = optional_outputs(node);
    let op = Recurrent {
        kind,
        directions,
        clip: node.get_attr_opt("clip")?.unwrap_or(f32::INFINITY),
        is_reset_after: node.get_attr_opt::<i64>("linear_before_reset")?.unwrap_or(0) != 0,
        is_forget_coupled: node.get_attr_opt::<i64>("input_forget")?.unwrap_or(0) != 0,
        is_batch_first: node.get_attr_opt::<i64>("layout")?.unwrap_or(0) == 1,
        given: [(); 5].map(|()| inputs.next().flatten()),
        made: [(); 3].map(|()| outputs.next().flatten()),
    };
    ensure!(op.clip > 0.0, "a clip of {}", op.clip);
    ensure!(op.made.iter().any(Option::is_some), "nothing is made");
    Ok((expand(op), vec![]))
}

/// Texts of an attribute; none if it is absent.
trait Texts {
    fn get_attr_opt_vec_text(&self, name: &str) -> Vec<String>;
}

impl Texts for NodeProto {
    fn get_attr_opt_vec_text(&self, name: &str) -> Vec<String> {
        let found = self.attribute.iter().find(|attribute| attribute.name == name);
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        found.map(|list| list.strings.iter().map(text).collect()).unwrap_or_default()
    }
}

impl Expansion for Recurrent {
    fn name(&self) -> StaticName {
        format!("{:?}", self.kind).into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.made.iter().flatten().count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let ([x, weights, recurrence, ..], true) = (inputs, outputs.len() == self.made.iter().flatten().count()) else {
            bail!("inputs or outputs are missing");
        };
        s.equals(&x.datum_type, f32::datum_type())?;
        for input in [x, weights, recurrence] {
            s.equals(&input.rank, 3)?;
        }
        let (steps, batch) = if self.is_batch_first { (1, 0) } else { (0, 1) };
        for (index, slot) in self.made.iter().enumerate() {
            let Some(output) = slot.and_then(|slot| outputs.get(slot)) else { continue };
            s.equals(&output.datum_type, f32::datum_type())?;
            s.equals(&output.rank, if index == 0 { 4 } else { 3 })?;
            let [step, direction, row, last] = match (index, self.is_batch_first) {
                (0, false) => [0, 1, 2, 3],
                (0, true) => [1, 2, 0, 3],
                (_, false) => [usize::MAX, 0, 1, 2],
                (_, true) => [usize::MAX, 1, 0, 2],
            };
            if index == 0 {
                s.equals(&output.shape[step], &x.shape[steps])?;
            }
            s.equals(&output.shape[direction], &weights.shape[0])?;
            s.equals(&output.shape[row], &x.shape[batch])?;
            s.equals(&output.shape[last], &recurrence.shape[2])?;
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let at = |index: usize| inputs.get(index).copied().ok_or_else(|| anyhow!("input {index} is missing"));
        let [bias, lengths, hidden, cell, peepholes] = self.given;
        let weights = stored(model, at(1)?, 0)?;
        let recurrence = stored(model, at(2)?, 0)?;
        let bias = bias.map(|index| stored(model, at(index)?, 0)).transpose()?;
        let peepholes = peepholes.map(|index| stored(model, at(index)?, 0)).transpose()?;
        let ([_, _, width], [count, _, size]) = (weights.shape(), recurrence.shape()) else {
            bail!("weights of shape {:?} and {:?}", weights.shape(), recurrence.shape());
        };
        ensure!(*count == self.directions.len(), "weights for {count} directions");
        let mut directions = Vec::new();
        for (index, (is_backward, curves)) in self.directions.iter().enumerate() {
            let part = |tensor: &Option<Arc<Tensor>>| -> TractResult<Option<Vec<f32>>> {
                tensor.as_ref().map(|tensor| one_of(tensor, *count, index)).transpose()
            };
            directions.push(Direction::new(
                self.kind,
                [*width, *size],
                self.is_reset_after,
                (*is_backward, curves.clone()),
                (one_of(&weights, *count, index)?, one_of(&recurrence, *count, index)?),
                (part(&bias)?, part(&peepholes)?),
            )?);
        }
        let mut taken = vec![at(0)?];
        let mut take = |index: Option<usize>| -> TractResult<Option<usize>> {
            let Some(index) = index else { return Ok(None) };
            taken.push(at(index)?);
            Ok(Some(taken.len() - 1))
        };
        let given = [take(lengths)?, take(hidden)?, take(cell)?];
        let op = Unrolled {
            kind: self.kind,
            directions: Arc::new(directions),
            hidden: *size,
            clip: self.clip,
            is_reset_after: self.is_reset_after,
            is_forget_coupled: self.is_forget_coupled,
            is_batch_first: self.is_batch_first,
            given,
            made: self.made,
        };
        model.wire_node(prefix, op, &taken)
    }
}

/// The numbers of one direction.
fn one_of(tensor: &Tensor, directions: usize, index: usize) -> TractResult<Vec<f32>> {
    ensure!(tensor.datum_type() == f32::datum_type(), "weights that are no FP32");
    let view = tensor.try_as_plain_ram()?;
    let all = view.as_slice::<f32>()?;
    let size = all.len() / directions.max(1);
    all.get(index * size..(index + 1) * size).map(<[f32]>::to_vec).ok_or_else(|| anyhow!("weights are missing"))
}

/// A stored value, or one that follows from stored ones in a few nodes: a cast, a dequantisation.
fn stored(model: &TypedModel, outlet: OutletId, depth: usize) -> TractResult<Arc<Tensor>> {
    const NODES_MAX: usize = 8;
    if let Some(konst) = &model.outlet_fact(outlet)?.konst {
        return Ok(Arc::clone(konst));
    }
    let node = model.node(outlet.node);
    ensure!(depth < NODES_MAX && !node.inputs.is_empty(), "weights that are not stored in the model");
    let inputs: TVec<_> = node
        .inputs
        .iter()
        .map(|input| Ok(stored(model, *input, depth + 1)?.into_tvalue()))
        .collect::<TractResult<_>>()?;
    let outputs = node.op.eval_out_of_plan(inputs)?.ok_or_else(|| anyhow!("weights that are not stored"))?;
    let value = outputs.into_iter().nth(outlet.slot).ok_or_else(|| anyhow!("weights are missing"))?;
    Ok(value.into_arc_tensor())
}
