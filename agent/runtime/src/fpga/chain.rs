//! Walks from a quantised value to the next one, layer by layer, as far as the engine can.
//!
//! ```text
//!  value ─ DequantizeLinear ─ [moves] ─ Conv ─ [Relu, Clip, moves] ─ QuantizeLinear ─ value
//!  value ─ QLinearConv ─ value
//! ```

use std::collections::BTreeSet;

use bellwether_fpga::compile::network::{Operation, Output};
use tract_onnx::pb::NodeProto;

use super::layers::{self, Half, Work};
use super::model::{Model, named};
use super::quantised::{Parameter, Quantised, bias, spread};
use super::view::View;
use crate::validate::find;

/// Why a chain is no longer.
#[derive(Debug)]
pub(super) enum Stop<'m> {
    /// Nobody reads what comes out of it.
    End,
    /// The engine does not take this one.
    At { node: &'m NodeProto, why: String },
}

impl<'m> Stop<'m> {
    pub(super) const fn at(node: &'m NodeProto, why: String) -> Self {
        Self::At { node, why }
    }
}

/// A quantised value.
#[derive(Clone)]
pub(super) struct Reached<'m> {
    pub(super) name: &'m str,
    pub(super) quantised: Quantised,
    pub(super) view: View,
}

/// The layers so far.
pub(super) struct Chain<'m> {
    pub(super) model: &'m Model<'m>,
    /// What the last one makes.
    pub(super) at: Reached<'m>,
    pub(super) layers: Vec<Operation>,
    /// What the nodes in them make.
    pub(super) taken: BTreeSet<&'m str>,
}

const CROSSED: &str = "its bounds leave nothing between them";

/// Bounds of real values.
#[derive(Clone, Copy)]
struct Bounds {
    low: f32,
    high: f32,
}

impl Bounds {
    const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    fn is_none(&self) -> bool {
        self.low == f32::NEG_INFINITY && self.high == f32::INFINITY
    }

    /// Whether no quantised value lies beyond them but for whole steps.
    fn are_steps(&self, quantised: &Quantised) -> bool {
        let is_step = |bound: f32| {
            bound.is_infinite() || quantised.real(quantised.quantise(bound)).to_bits() == (bound + 0.0).to_bits()
        };
        is_step(self.low) && is_step(self.high)
    }

    fn quantised(&self, quantised: &Quantised) -> Output {
        Output {
            zero_point: quantised.zero_point,
            lowest: quantised.quantise(self.low),
            highest: quantised.quantise(self.high),
        }
    }
}

/// A step of the chain.
struct Step<'m> {
    /// Who is to blame if it cannot be done.
    node: &'m NodeProto,
    /// The layer in it, if it is more than moves.
    work: Option<Half>,
    /// Bounds of what goes into it.
    before: Bounds,
    /// Bounds of what comes out.
    bounds: Bounds,
    /// All its nodes, the last of which makes the next value.
    nodes: Vec<&'m NodeProto>,
}

impl<'m> Step<'m> {
    /// Of one node on quantised values.
    fn of(node: &'m NodeProto, work: Option<Half>) -> Self {
        Self { node, work, before: Bounds::NONE, bounds: Bounds::NONE, nodes: vec![node] }
    }
}

/// What lies between a `DequantizeLinear` and the next `QuantizeLinear`.
struct Group<'m> {
    /// The value that it has come to.
    value: &'m str,
    view: View,
    /// Bounds of what goes into it.
    before: Bounds,
    work: Option<(&'m NodeProto, Half)>,
    /// Bounds of what comes out.
    bounds: Bounds,
    nodes: Vec<&'m NodeProto>,
}

impl<'m> Chain<'m> {
    pub(super) fn new(model: &'m Model<'m>, at: Reached<'m>) -> Self {
        Self { model, at, layers: Vec::new(), taken: BTreeSet::new() }
    }

    /// Goes on to the next quantised value.
    pub(super) fn step(&mut self) -> Result<(), Stop<'m>> {
        let node = self.model.reader(self.at.name)?;
        if node.op_type == "DequantizeLinear" { self.floats(node) } else { self.bytes(node) }
    }

    /// An operator on quantised values.
    fn bytes(&mut self, node: &'m NodeProto) -> Result<(), Stop<'m>> {
        let stop = |why: String| Stop::at(node, why);
        let mut view = self.at.view.clone();
        let Some(work) = Work::of(&node.op_type) else {
            if !is_move(node) {
                return Err(stop("the engine has no such operator".to_owned()));
            }
            view.moved(self.model, node).map_err(stop)?;
            return self.reach(Step::of(node, None), Reached { view, ..self.at.clone() });
        };
        let (half, output) = self.quantised(work, node, &mut view).map_err(stop)?;
        self.reach(Step::of(node, Some(half)), Reached { view, quantised: output, ..self.at.clone() })
    }

    /// A `QLinear` operator or a pool of bytes, and how its output is quantised.
    fn quantised(&self, work: Work, node: &NodeProto, view: &mut View) -> Result<(Half, Quantised), String> {
        let (model, input) = (self.model, &self.at.quantised);
        if node.input.first().is_none_or(|name| name != self.at.name) {
            return Err("what the engine has is not its first input".to_owned());
        }
        if work == Work::Greatest {
            return Ok((layers::pool(work, node, view, input)?, *input));
        }
        if !Quantised::read(model, node, [1, 2], input.is_unsigned)?.is_as(input) {
            return Err("it takes its input quantised otherwise than it was made".to_owned());
        }
        let (bias_at, output_at) = match node.op_type.as_str() {
            "QLinearConv" => (Some(8), [6, 7]),
            "QGemm" => (Some(6), [7, 8]),
            "QLinearMatMul" => (None, [6, 7]),
            "QLinearAveragePool" | "QLinearGlobalAveragePool" => (None, [3, 4]),
            _ => return Err("it computes with floats and has bytes".to_owned()),
        };
        if model.operand(node, output_at[0])?.is_none() {
            return Err("what it gives is not quantised".to_owned());
        }
        let output = Quantised::read(model, node, output_at, input.is_unsigned)?;
        if !work.is_trained() {
            return Ok((layers::pool(work, node, view, input)?, output));
        }
        let parameter = Parameter::beside(model, node, [3, 4, 5], work.outputs_axis(node))?;
        let stored = bias_at.map_or(Ok(None), |at| model.operand(node, at))?;
        let bias = |units: &[f32]| match stored {
            None => Ok(vec![0; units.len()]),
            Some(tensor) => spread(tensor, units.len()),
        };
        Ok((layers::trained(work, node, view, input, &parameter, &bias)?, output))
    }

    /// Operators on floats, between two that turn bytes into floats and floats into bytes.
    fn floats(&mut self, node: &'m NodeProto) -> Result<(), Stop<'m>> {
        let read = Quantised::read(self.model, node, [1, 2], self.at.quantised.is_unsigned);
        if !read.map_err(|why| Stop::at(node, why))?.is_as(&self.at.quantised) {
            return Err(Stop::at(node, "it turns bytes back otherwise than they were made".to_owned()));
        }
        let mut group = Group {
            value: output(node),
            view: self.at.view.clone(),
            before: Bounds::NONE,
            work: None,
            bounds: Bounds::NONE,
            nodes: vec![node],
        };
        loop {
            let node = match self.model.reader(group.value) {
                Err(Stop::End) => match group.work {
                    Some((node, _)) => return Err(Stop::at(node, "what it gives is not quantised".to_owned())),
                    None => return Err(Stop::End),
                },
                other => other?,
            };
            group.nodes.push(node);
            if node.op_type == "QuantizeLinear" {
                return self.quantise(node, group);
            }
            self.float(node, &mut group).map_err(|why| Stop::at(node, why))?;
            group.value = output(node);
        }
    }

    /// One operator on floats.
    fn float(&self, node: &'m NodeProto, group: &mut Group<'m>) -> Result<(), String> {
        let is_first = node.input.first().is_some_and(|name| name == group.value);
        match (node.op_type.as_str(), &mut group.work) {
            ("Add", Some((product, half))) if product.op_type == "MatMul" && output(product) == group.value => {
                let added = node.input.get(usize::from(is_first)).map_or("", String::as_str);
                return half.add(&|units| bias(self.model, added, units));
            }
            _ if !is_first => return Err("what the engine has is not its first input".to_owned()),
            ("Relu", _) => group.bounds.low = group.bounds.low.max(0.0),
            ("Clip", _) => self.clip(node, &mut group.bounds)?,
            (operator, work) => {
                let Some(kind) = Work::of(operator).filter(|_| node.domain.is_empty()) else {
                    if is_move(node) {
                        return group.view.moved(self.model, node);
                    }
                    return Err("the engine has no such operator".to_owned());
                };
                if work.is_some() || !group.bounds.are_steps(&self.at.quantised) {
                    return Err("what it takes is not quantised".to_owned());
                }
                group.before = std::mem::replace(&mut group.bounds, Bounds::NONE);
                *work = Some((node, self.worked(kind, node, &mut group.view)?));
            }
        }
        Ok(())
    }

    fn worked(&self, work: Work, node: &NodeProto, view: &mut View) -> Result<Half, String> {
        let input = &self.at.quantised;
        if !work.is_trained() {
            return layers::pool(work, node, view, input);
        }
        let name = |at: usize| node.input.get(at).map_or("", String::as_str);
        let parameter = Parameter::dequantised(self.model, name(1))?;
        layers::trained(work, node, view, input, &parameter, &|units| match name(2) {
            "" => Ok(vec![0; units.len()]),
            stored => bias(self.model, stored, units),
        })
    }

    /// Bounds are stored, or attributes before operator set 11.
    fn clip(&self, node: &NodeProto, bounds: &mut Bounds) -> Result<(), String> {
        let bound = |at: usize, name: &str| match node.input.get(at).filter(|input| !input.is_empty()) {
            None => Ok(find(node, name).map(|attribute| attribute.f)),
            Some(input) => match self.model.real(input).as_deref() {
                Some([bound]) => Ok(Some(*bound)),
                _ => Err(format!("its bound {at} is not stored")),
            },
        };
        let (low, high) = (bound(1, "min")?, bound(2, "max")?);
        bounds.low = low.map_or(bounds.low, |low| bounds.low.max(low));
        bounds.high = high.map_or(bounds.high, |high| bounds.high.min(high));
        if bounds.low > bounds.high { Err(CROSSED.to_owned()) } else { Ok(()) }
    }

    /// The end of a group: its floats are quantised.
    fn quantise(&mut self, node: &'m NodeProto, group: Group<'m>) -> Result<(), Stop<'m>> {
        let output = Quantised::read(self.model, node, [1, 2], true).map_err(|why| Stop::at(node, why))?;
        let Group { view, before, work, bounds, nodes, .. } = group;
        let reached = Reached { view, quantised: output, name: self.at.name };
        if let Some((worked, half)) = work {
            return self.reach(Step { node: worked, work: Some(half), before, bounds, nodes }, reached);
        }
        if !output.is_as(&self.at.quantised) {
            return Err(Stop::at(node, "it quantises anew, with no layer between".to_owned()));
        }
        self.reach(Step { node, work: None, before: bounds, bounds: Bounds::NONE, nodes }, reached)
    }

    /// Takes a step, or nothing of it.
    fn reach(&mut self, step: Step<'m>, reached: Reached<'m>) -> Result<(), Stop<'m>> {
        let Step { node, work, before, bounds, nodes } = step;
        let name = nodes.last().map_or("", |last| output(last));
        if self.model.sizes(name).is_some_and(|sizes| sizes != reached.view.sizes) {
            return Err(Stop::at(node, format!("its sizes come out as {:?}", reached.view.sizes)));
        }
        let made = work.map(|half| half.quantised(&self.at.quantised, &reached.quantised)).transpose();
        let made = made.map_err(|why| Stop::at(node, why))?;
        if !before.is_none() {
            self.narrow(before).map_err(|why| Stop::at(node, why))?;
        }
        if let Some((what, window)) = made {
            let output = bounds.quantised(&reached.quantised);
            self.layers.push(Operation { name: named(node), window, what, output });
        }
        self.taken.extend(nodes.iter().map(|node| output(node)));
        self.at = Reached { name, ..reached };
        Ok(())
    }

    /// Lets the last layer do what bounds its output.
    fn narrow(&mut self, bounds: Bounds) -> Result<(), String> {
        let Some(Operation { output, .. }) = self.layers.last_mut() else {
            return Err("there is no layer before its bounds".to_owned());
        };
        let narrow = bounds.quantised(&self.at.quantised);
        let (lowest, highest) = (output.lowest.max(narrow.lowest), output.highest.min(narrow.highest));
        if lowest > highest {
            return Err(CROSSED.to_owned());
        }
        (output.lowest, output.highest) = (lowest, highest);
        Ok(())
    }
}

/// The first value that a node makes.
pub(super) fn output(node: &NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}

/// Whether a node leaves the values as they are.
fn is_move(node: &NodeProto) -> bool {
    const MOVES: [&str; 7] = ["Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose"];
    MOVES.contains(&node.op_type.as_str()) && node.output.len() == 1
}
