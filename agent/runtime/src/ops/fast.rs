//! Puts our operators in the place of tract's, where weights are fixed.
//!
//! ```text
//!  Conv (+ scale) (+ bias) (+ Relu, Clip)       one operator over images with channels last
//!  EinSum with stored weights (+ the same)      one dense layer
//!  MaxPool, SumPool, a sum over all of space    a pool
//! ```
//!
//! Each value may exist in two layouts, as the model says and with channels last; the other one is made
//! when somebody asks for it. What works on single numbers takes whichever there is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::prelude::{Datum as _, OutletId, TVec, Tensor, TractResult, TypedFact, TypedModel, TypedNode, tvec};
use tract_onnx::tract_core::internal::{AxisOp, DimLike as _, SpecialOps as _, TypedOp, anyhow};
use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, MaxPool, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_core::ops::nn::{Reduce, Softmax, SoftmaxKind};

use super::image::{Conv as ImageConv, Dense, OnImages, Turn, Work};
use super::kernels::depthwise::{Depthwise, Slide};
use super::kernels::space::Pooling;
use super::kernels::{Clamp, Linear};
use super::product::{Axes, Plan};
use super::windows::{self, Image};

/// The same model with operators of ours.
///
/// # Errors
///
/// What tract says of a model that does not fit together any more.
pub(super) fn rewrite(model: &TypedModel) -> TractResult<TypedModel> {
    let to = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let mut work = Rewrite { from: model, to, plain: HashMap::new(), last: HashMap::new(), done: HashSet::new() };
    for outlet in model.input_outlets()? {
        let node = model.node(outlet.node);
        let made = work.to.add_source(&node.name, model.outlet_fact(*outlet)?.clone())?;
        work.plain.insert(*outlet, made);
        work.done.insert(outlet.node);
    }
    for id in model.eval_order()? {
        if !work.done.contains(&id) {
            work.node(model.node(id))?;
        }
    }
    let outputs: Vec<OutletId> =
        model.output_outlets()?.iter().map(|outlet| work.plain(*outlet)).collect::<TractResult<_>>()?;
    work.to.select_output_outlets(&outputs)?;
    Ok(work.to)
}

/// What follows an operator and can be part of it.
pub(super) struct Tail {
    /// Factor of each output channel.
    pub(super) scale: Vec<f32>,
    /// Added to each output channel.
    pub(super) bias: Vec<f32>,
    /// Bounds.
    pub(super) clamp: Clamp,
    /// The value that then is computed.
    outlet: OutletId,
    /// Nodes that are not needed any more.
    nodes: Vec<usize>,
}

struct Rewrite<'m> {
    from: &'m TypedModel,
    to: TypedModel,
    /// Values as the model has them, and with channels last.
    plain: HashMap<OutletId, OutletId>,
    last: HashMap<OutletId, OutletId>,
    done: HashSet<usize>,
}

impl Rewrite<'_> {
    fn node(&mut self, node: &TypedNode) -> TractResult<()> {
        // What is known already is stored when somebody asks for it.
        if !node.outputs.is_empty() && node.outputs.iter().all(|output| output.fact.konst.is_some()) {
            return Ok(());
        }
        let op: &dyn TypedOp = node.op.as_ref();
        let is_done = if let Some(conv) = op.downcast_ref::<Conv>() {
            self.conv(node, conv)?
        } else if let Some(einsum) = op.downcast_ref::<EinSum>() {
            self.dense(node, einsum)?
        } else if let Some(pool) = op.downcast_ref::<MaxPool>() {
            pool.with_index_outputs.is_none() && self.pool(node, windows::of_max(pool, self.input(node)?))?
        } else if let Some(pool) = op.downcast_ref::<SumPool>() {
            self.pool(node, windows::of_sum(pool, self.input(node)?))?
        } else if let Some(reduce) = op.downcast_ref::<Reduce>() {
            self.pool(node, windows::of_all(reduce, self.input(node)?))?
        } else if let Some(softmax) = op.downcast_ref::<Softmax>() {
            self.softmax(node, softmax)?
        } else {
            self.alike(node)?
        };
        if is_done { Ok(()) } else { self.copy(node) }
    }

    fn input(&self, node: &TypedNode) -> TractResult<&TypedFact> {
        self.from.outlet_fact(*node.inputs.first().ok_or_else(|| anyhow!("a node without inputs"))?)
    }

    /// The node as it is.
    fn copy(&mut self, node: &TypedNode) -> TractResult<()> {
        let inputs: TVec<OutletId> =
            node.inputs.iter().map(|outlet| self.plain(*outlet)).collect::<TractResult<_>>()?;
        let made = self.to.wire_node(&node.name, node.op.clone(), &inputs)?;
        for (slot, outlet) in made.into_iter().enumerate() {
            self.plain.insert(OutletId::new(node.id, slot), outlet);
        }
        Ok(())
    }

    /// A value as the model has it.
    fn plain(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let (Some(konst), false) = (&self.from.outlet_fact(outlet)?.konst, self.plain.contains_key(&outlet)) {
            let name = &self.from.node(outlet.node).name;
            let name = if outlet.slot == 0 { name.clone() } else { format!("{name}.{}", outlet.slot) };
            let made = self.to.add_const(name, Arc::clone(konst))?;
            self.plain.insert(outlet, made);
        }
        turned(&mut self.to, outlet, &self.last, &mut self.plain, &Turn { to_last: false })
    }

    /// A value with channels last.
    fn last(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        turned(&mut self.to, outlet, &self.plain, &mut self.last, &Turn { to_last: true })
    }

    /// Wires an operator that gives channels last.
    fn wire_last(&mut self, node: &TypedNode, op: impl Into<Box<dyn TypedOp>>, tail: &Tail) -> TractResult<bool> {
        let Some(input) = node.inputs.first() else { return Ok(false) };
        let input = self.last(*input)?;
        let made = self.to.wire_node(&node.name, op, &[input])?;
        self.finish(tail, made, true);
        Ok(true)
    }

    fn finish(&mut self, tail: &Tail, made: TVec<OutletId>, is_last: bool) {
        let list = if is_last { &mut self.last } else { &mut self.plain };
        list.extend(made.into_iter().take(1).map(|made| (tail.outlet, made)));
        self.done.extend(&tail.nodes);
    }

    fn pool(&mut self, node: &TypedNode, found: Option<(Image, Slide, Pooling)>) -> TractResult<bool> {
        let Some((image, slide, how)) = found else { return Ok(false) };
        // Where nothing has channels last, turning costs more than tract's own pools.
        if !node.inputs.iter().all(|input| self.last.contains_key(input)) {
            return Ok(false);
        }
        let Image { size, channels, is_line } = image;
        let op = OnImages { work: Arc::new(Work::Pool(slide, how)), size, channels, is_line };
        let tail = Tail {
            scale: Vec::new(),
            bias: Vec::new(),
            clamp: Clamp::default(),
            outlet: node.id.into(),
            nodes: Vec::new(),
        };
        self.wire_last(node, op, &tail)
    }

    fn conv(&mut self, node: &TypedNode, conv: &Conv) -> TractResult<bool> {
        let facts = self.from.node_input_facts(node.id)?;
        let [input, weights, bias] = facts.as_slice() else { return Ok(false) };
        let (Some((image, slide)), Some(weights), Some(bias)) =
            (windows::of_conv(conv, input), floats(weights), floats(bias))
        else {
            return Ok(false);
        };
        let outputs = conv.pool_spec.output_channels;
        let mut tail = self.tail(node.id.into(), outputs, 1)?;
        let biases: Vec<f32> = match bias.as_slice() {
            [one] => vec![*one; outputs],
            many if many.len() == outputs => many.to_vec(),
            _ => return Ok(false),
        };
        for ((to, bias), scale) in tail.bias.iter_mut().zip(biases).zip(&tail.scale) {
            *to += bias * scale;
        }
        let is_depthwise = conv.group == image.channels && outputs == image.channels && conv.group > 1;
        if conv.group != 1 && !is_depthwise {
            return Ok(false);
        }
        let Some(weights) = windows::taps(&conv.kernel_fmt, &weights, conv, &tail.scale) else { return Ok(false) };
        if slide.is_pointwise() && !is_depthwise {
            let linear = Arc::new(Linear::new(&weights, outputs, Some(&tail.bias), tail.clamp)?);
            return self.wire_last(node, Dense { linear, taken: 1 }, &tail);
        }
        let work = if is_depthwise {
            Work::Depthwise(slide, Depthwise::new(slide, weights, tail.bias.clone(), tail.clamp)?)
        } else {
            let linear = Linear::new(&weights, outputs, Some(&tail.bias), tail.clamp)?;
            Work::Conv(ImageConv::new(slide, linear, image.size, image.channels))
        };
        let Image { size, channels, is_line } = image;
        self.wire_last(node, OnImages { work: Arc::new(work), size, channels, is_line }, &tail)
    }

    fn softmax(&mut self, node: &TypedNode, softmax: &Softmax) -> TractResult<bool> {
        let input = self.input(node)?;
        let is_ours = input.datum_type == f32::datum_type()
            && softmax.kind == SoftmaxKind::Softmax
            && softmax.quant_output_dt.is_none()
            && softmax.axes.iter().map(|axis| axis + 1).eq([input.rank()]);
        let (Some(input), true) = (node.inputs.first(), is_ours) else { return Ok(false) };
        let input = self.plain(*input)?;
        let made = self.to.wire_node(&node.name, super::softmax::Softmax, &[input])?;
        self.plain.extend(made.into_iter().map(|made| (node.id.into(), made)));
        Ok(true)
    }

    /// A product of one value with stored weights.
    fn dense(&mut self, node: &TypedNode, einsum: &EinSum) -> TractResult<bool> {
        let f32 = f32::datum_type();
        if einsum.q_params.is_some() || einsum.operating_dt != f32 || node.inputs.len() != 2 {
            return Ok(false);
        }
        let facts = self.from.node_input_facts(node.id)?;
        let Some(stored) = facts.iter().rposition(|fact| fact.konst.is_some()) else { return Ok(false) };
        let (Some(fact), Some(from), Some(input)) =
            (facts.get(stored), facts.get(1 - stored), node.inputs.get(1 - stored))
        else {
            return Ok(false);
        };
        let (Some(weights), true) = (fact.konst.as_ref(), from.datum_type == f32) else { return Ok(false) };
        if weights.datum_type() != f32 {
            return Ok(false);
        }
        let axes = Axes::read(einsum, stored);
        if self.flat(node, *input, &axes, weights)? {
            return Ok(true);
        }
        let has_last = self.last.contains_key(input);
        for (is_last_in, is_last_out) in [(has_last || axes.is_image(), true), (has_last, false), (false, false)] {
            let Some(plan) = axes.fit(weights, is_last_in, is_last_out)? else { continue };
            let axis = if is_last_out { 1 } else { axes.made().saturating_sub(1) };
            let input = if is_last_in { self.last(*input)? } else { self.plain(*input)? };
            self.wire_dense(node, input, &plan, axis, is_last_out)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Wires a dense layer whose outputs are at `axis` of what the model has.
    fn wire_dense(
        &mut self,
        node: &TypedNode,
        input: OutletId,
        plan: &Plan,
        axis: usize,
        is_last: bool,
    ) -> TractResult<()> {
        let tail = self.tail(node.id.into(), plan.width, axis)?;
        let scaled: Vec<f32> = plan
            .weights
            .chunks_exact(plan.width)
            .flat_map(|row| row.iter().zip(&tail.scale).map(|(weight, scale)| weight * scale))
            .collect();
        let linear = Arc::new(Linear::new(&scaled, plan.width, Some(&tail.bias), tail.clamp)?);
        let made = self.to.wire_node(&node.name, Dense { linear, taken: plan.taken }, &[input])?;
        self.finish(&tail, made, is_last);
        Ok(())
    }

    /// A dense layer over all of an image with channels last, which the model flattens: the weights are
    /// put in that order instead.
    fn flat(&mut self, node: &TypedNode, input: OutletId, axes: &Axes, weights: &Tensor) -> TractResult<bool> {
        let flatten = self.from.node(input.node);
        let (Some(AxisOp::Reshape(1, from, to)), Some(image)) =
            (flatten.op.downcast_ref::<AxisOp>(), flatten.inputs.first())
        else {
            return Ok(false);
        };
        let (true, [_]) = (self.last.contains_key(image), to.as_slice()) else { return Ok(false) };
        let sizes: Option<Vec<usize>> = from.iter().map(|size| size.to_usize().ok()).collect();
        let is_whole = self.from.outlet_fact(*image)?.rank() == from.len() + 1;
        let (Some([channels, space @ ..]), true) = (sizes.as_deref(), is_whole) else { return Ok(false) };
        let Some(mut plan) = axes.fit(weights, false, false)?.filter(|plan| plan.taken == 1 && axes.made() == 2) else {
            return Ok(false);
        };
        let space: usize = space.iter().product();
        let rows: Vec<&[f32]> = plan.weights.chunks_exact(plan.width).collect();
        if rows.len() != channels * space {
            return Ok(false);
        }
        let order = (0..space).flat_map(|place| (0..*channels).map(move |channel| channel * space + place));
        plan.weights = order.filter_map(|row| rows.get(row).copied()).flatten().copied().collect();
        plan.taken = from.len();
        let input = self.last(*image)?;
        self.wire_dense(node, input, &plan, 1, false)?;
        Ok(true)
    }

    /// What works on single numbers, or puts values side by side, with channels last where they are.
    fn alike(&mut self, node: &TypedNode) -> TractResult<bool> {
        let facts = self.from.node_input_facts(node.id)?;
        let f32 = f32::datum_type();
        if node.outputs.iter().any(|output| output.fact.datum_type != f32)
            || facts.iter().any(|fact| fact.datum_type != f32)
        {
            return Ok(false);
        }
        let is_made = |outlet: &OutletId| self.last.contains_key(outlet);
        let is_known = node.inputs.iter().zip(&facts).all(|(outlet, fact)| is_made(outlet) || fact.konst.is_some());
        // A value that is there in both layouts stays as the model has it.
        let is_wanted = node.inputs.iter().any(|outlet| is_made(outlet) && !self.plain.contains_key(outlet));
        let op: Option<Box<dyn TypedOp>> = match node.op.downcast_ref::<TypedConcat>() {
            Some(concat) => match (facts.first().map(|fact| fact.rank()), concat.axis) {
                (Some(rank), 1) => Some(Box::new(TypedConcat { axis: rank - 1 })),
                (Some(_), axis) => Some(Box::new(TypedConcat { axis: axis.saturating_sub(1) })),
                (None, _) => None,
            },
            None if node.op.is::<ElementWiseOp>() || node.op.is::<TypedBinOp>() => Some(node.op.clone()),
            None => None,
        };
        let (Some(op), true, true) = (op, is_known && is_wanted, node.outputs.len() == 1) else { return Ok(false) };
        let mut inputs: TVec<OutletId> = tvec![];
        for (outlet, fact) in node.inputs.iter().zip(&facts) {
            let input = match &fact.konst {
                Some(konst) if !self.last.contains_key(outlet) => {
                    let mut turned = Tensor::clone(konst);
                    if turned.rank() > 2 {
                        turned = turned.move_axis(1, konst.rank() - 1)?;
                    }
                    let name = format!("{}.last.{}", node.name, inputs.len());
                    self.to.add_const(name, turned)?
                }
                _ => self.last(*outlet)?,
            };
            inputs.push(input);
        }
        let made = self.to.wire_node(&node.name, op, &inputs)?;
        self.last.extend(made.into_iter().map(|made| (node.id.into(), made)));
        Ok(true)
    }

    /// Follows scales, biases and bounds along the channels at `axis`.
    fn tail(&self, start: OutletId, channels: usize, axis: usize) -> TractResult<Tail> {
        let mut tail = Tail {
            scale: vec![1.0; channels],
            bias: vec![0.0; channels],
            clamp: Clamp::default(),
            outlet: start,
            nodes: Vec::new(),
        };
        loop {
            let successors = &self.from.node(tail.outlet.node).outputs.first().map(|output| &output.successors);
            let Some([next]) = successors.map(|list| list.as_slice()) else { return Ok(tail) };
            if self.from.output_outlets()?.contains(&tail.outlet) {
                return Ok(tail);
            }
            let node = self.from.node(next.node);
            let Some(op) = node.op.downcast_ref::<TypedBinOp>() else { return Ok(tail) };
            let facts = self.from.node_input_facts(node.id)?;
            let (Some(other), Some(made)) = (facts.get(1 - next.slot), node.outputs.first()) else { return Ok(tail) };
            let is_same = made.fact.datum_type == f32::datum_type()
                && self.from.outlet_fact(tail.outlet)?.shape == made.fact.shape;
            let Some(values) = along(other, channels, axis).filter(|_| is_same && op.1.is_none()) else {
                return Ok(tail);
            };
            if !tail.takes(op, &values) {
                return Ok(tail);
            }
            tail.nodes.push(node.id);
            tail.outlet = node.id.into();
        }
    }
}

impl Tail {
    /// Whether the operator could be taken in.
    fn takes(&mut self, op: &TypedBinOp, values: &[f32]) -> bool {
        let is_open = self.clamp == Clamp::default();
        let all = values.first().copied().filter(|first| values.iter().all(|value| value.to_bits() == first.to_bits()));
        match all {
            _ if op.0.is::<Add>() && is_open => {
                self.bias.iter_mut().zip(values).for_each(|(bias, value)| *bias += value);
            }
            _ if op.0.is::<Mul>() && is_open => {
                for ((bias, scale), value) in self.bias.iter_mut().zip(&mut self.scale).zip(values) {
                    *bias *= value;
                    *scale *= value;
                }
            }
            Some(low) if op.0.is::<Max>() && is_open => self.clamp.low = low,
            Some(high) if op.0.is::<Min>() && self.clamp.high.is_infinite() && self.clamp.high > 0.0 => {
                self.clamp.high = high
            }
            _ => return false,
        }
        true
    }
}

/// A stored tensor as one number for each channel, if it is that.
fn along(fact: &TypedFact, channels: usize, axis: usize) -> Option<Vec<f32>> {
    let values = floats(fact)?;
    let sizes = fact.shape.iter().map(|size| size.to_usize().ok()).collect::<Option<Vec<_>>>()?;
    match values.as_slice() {
        [one] => Some(vec![*one; channels]),
        many if many.len() == channels && sizes.get(axis) == Some(&channels) => Some(many.to_vec()),
        _ => None,
    }
}

/// Numbers of a stored tensor.
pub(super) fn floats(fact: &TypedFact) -> Option<Vec<f32>> {
    let konst = fact.konst.as_ref().filter(|konst| konst.datum_type() == f32::datum_type())?;
    Some(konst.as_plain_ram()?.as_slice::<f32>().ok()?.to_vec())
}

/// A value in a layout, made of the other one if need be.
fn turned(
    to: &mut TypedModel,
    outlet: OutletId,
    other: &HashMap<OutletId, OutletId>,
    wanted: &mut HashMap<OutletId, OutletId>,
    turn: &Turn,
) -> TractResult<OutletId> {
    if let Some(made) = wanted.get(&outlet) {
        return Ok(*made);
    }
    let from = *other.get(&outlet).ok_or_else(|| anyhow!("a value that nobody made"))?;
    let side = if turn.to_last { "last" } else { "first" };
    let name = format!("{}.channels_{side}", to.node(from.node).name);
    let made = *to.wire_node(name, turn.clone(), &[from])?.first().ok_or_else(|| anyhow!("nothing was wired"))?;
    wanted.insert(outlet, made);
    Ok(made)
}
