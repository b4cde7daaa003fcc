//! From a quantised ONNX model to the network that the FPGA's compiler takes.
//!
//! ```text
//!  model.onnx ── validate ── Reshape, QuantizeLinear │ Conv, MaxPool, Gemm │ DequantizeLinear, Softmax
//!                               before: on the CPU   │  Network: the engine │  after: on the CPU
//! ```
//!
//! It follows the one way from the model's input for as long as there is nothing on it but what the engine
//! computes as onnxruntime does; what is left out says why.
//!
//! [`Offload`] scores a model so divided: its middle by an engine or the twin, its ends by the CPU.
//!
//! **Not here:** what fits into the engine. That is the compiler's to say.

mod chain;
mod halves;
mod layers;
mod model;
mod offload;
mod quantised;
mod stored;
#[cfg(test)]
mod tests;
mod view;
mod window;

use bellwether_fpga::compile::network::{Network, Shape};
use prost::Message as _;
use tract_onnx::pb::{ModelProto, NodeProto};

use crate::inspect::InspectError;
use crate::validate;
use chain::{Chain, Reached, Stop, output};
use model::{FLOAT, INT8, Model, UINT8, named};
use view::View;

/// The bitstream of this version for an iCE40 UP5K.
pub use bellwether_fpga::board::UP5K;
pub use offload::{Offload, OffloadError, Offloaded, Offloads};
pub use quantised::Quantised;
pub use view::Order;

/// A model, divided between engine and CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifted {
    /// What the engine does.
    pub network: Network,
    /// What goes into it.
    pub input: Port,
    /// What comes out of it.
    pub output: Port,
    /// Operators before it, in the order of the model.
    pub before: Vec<Left>,
    /// Operators behind it, in the order of the model.
    pub after: Vec<Left>,
}

/// Where values go from CPU to engine, or back.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The quantised value's name in the model.
    pub value: String,
    /// Its sizes in the model, without the batch.
    pub sizes: Vec<usize>,
    /// In which order the model has its values.
    pub order: Order,
    /// What the engine has for one row of the batch.
    pub shape: Shape,
    /// How its values stand for real ones.
    pub quantised: Quantised,
}

impl Port {
    /// Puts a row of values in the model's order into the engine's; `None` if they are too few.
    #[must_use]
    pub fn to_engine<T: Copy>(&self, values: &[T]) -> Option<Vec<T>> {
        self.order.places(self.shape).map(|place| values.get(place).copied()).collect()
    }

    /// Puts a row of values in the engine's order into the model's.
    #[must_use]
    pub fn from_engine<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut turned = vec![T::default(); values.len()];
        for (place, value) in self.order.places(self.shape).zip(values) {
            if let Some(slot) = turned.get_mut(place) {
                *slot = *value;
            }
        }
        turned
    }
}

/// An operator that stays on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its kind.
    pub operator: String,
    /// Its name, or that of its first output.
    pub name: String,
    /// Why the engine does not take it.
    pub why: String,
}

impl Left {
    fn new(node: &NodeProto, why: impl Into<String>) -> Self {
        let name = if node.name.is_empty() { output(node) } else { &node.name };
        Self { operator: validate::shown(&node.op_type), name: validate::shown(name), why: why.into() }
    }
}

/// Why a model has nothing for the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LiftError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("the model is not quantised: run `bellwether model quantize` first")]
    NotQuantised,
    #[error("{node} quantises by what comes, row by row, which the engine cannot: export with static quantisation")]
    Dynamic { node: String },
    #[error("`{name}` is of 16-bit floats: quantise the model of 32-bit floats")]
    Float16 { name: String },
    #[error("{got} inputs: the engine takes models of one")]
    Inputs { got: usize },
    #[error("{node} has a graph within: the engine takes layers one after the other")]
    Within { node: String },
    #[error("the shape of `{name}` is not known: declare that of the model's input (onnx.shape_inference helps)")]
    NoShape { name: String },
    #[error("the model's input is never quantised: quantise its first layers as well")]
    NoQuantisedInput,
    #[error("no layer is for the engine: the first is {node}: {why}")]
    NoLayer { node: String, why: String },
}

/// Reads a quantised model, and takes from it the longest chain of layers that begins at its input and that
/// the engine can do.
///
/// # Errors
///
/// [`LiftError`], if that is none.
pub fn lift(model: &[u8]) -> Result<Lifted, LiftError> {
    let proto = ModelProto::decode(model).map_err(|why| InspectError::Damaged(why.to_string()))?;
    let model = Model::new(&proto)?;
    let mut before = Vec::new();
    let reached = quantised_input(&model, &mut before)?;
    let (value, quantised) = (reached.name, reached.quantised);
    let mut chain = Chain::new(&model, reached);
    let stop = loop {
        if let Err(stop) = chain.step() {
            break stop;
        }
    };
    let Some((input, held)) = chain.at.view.input.zip(chain.at.view.held).filter(|_| !chain.layers.is_empty()) else {
        return Err(no_layer(&stop));
    };
    let sizes = model.sizes(value).unwrap_or_default();
    let input = Port { value: value.to_owned(), sizes, order: input.order, shape: input.shape, quantised };
    let after = after(&chain, &stop, &before);
    let Chain { at, layers, .. } = chain;
    let output = Port {
        value: at.name.to_owned(),
        sizes: at.view.sizes,
        order: held.order,
        shape: held.shape,
        quantised: at.quantised,
    };
    let before = before.into_iter().map(|(node, why)| Left::new(node, why)).collect();
    let network = Network { input: input.shape, zero_point: quantised.zero_point, layers };
    Ok(Lifted { network, input, output, before, after })
}

fn no_layer(stop: &Stop<'_>) -> LiftError {
    match stop {
        Stop::At { node, why } => LiftError::NoLayer { node: named(node), why: why.clone() },
        Stop::End => LiftError::NoQuantisedInput,
    }
}

/// The first quantised value, and the nodes that make it of the input.
fn quantised_input<'m>(
    model: &'m Model<'m>,
    before: &mut Vec<(&'m NodeProto, &'static str)>,
) -> Result<Reached<'m>, LiftError> {
    let (mut name, kind) = model.input();
    let quantised = loop {
        let node = model.reader(name).map_err(|stop| no_layer(&stop))?;
        let fault = |why: String| LiftError::NoLayer { node: named(node), why };
        // Bytes that come in say at their first reader what they mean.
        let is_here = matches!(kind, INT8 | UINT8) && before.is_empty();
        if is_here && (node.op_type == "DequantizeLinear" || node.op_type.starts_with("QLinear")) {
            break Quantised::read(model, node, [1, 2], kind == UINT8).map_err(fault)?;
        }
        let is_quantiser = node.op_type == "QuantizeLinear" && kind == FLOAT;
        before.push((node, if is_quantiser { "it quantises what comes in" } else { "its input is not quantised yet" }));
        name = output(node);
        if is_quantiser {
            break Quantised::read(model, node, [1, 2], true).map_err(fault)?;
        }
    };
    let sizes = model.sizes(name).ok_or_else(|| LiftError::NoShape { name: validate::shown(name) })?;
    Ok(Reached { name, quantised, view: View::input(sizes) })
}

/// What comes behind the chain, with the reason for the first of them that the engine does not take.
fn after(chain: &Chain<'_>, stop: &Stop<'_>, before: &[(&NodeProto, &str)]) -> Vec<Left> {
    let dependent = chain.model.dependent();
    let is_after = |node: &&NodeProto| {
        let name = output(node);
        dependent.contains(name)
            && !chain.taken.contains(name)
            && !before.iter().any(|(earlier, _)| output(earlier) == name)
    };
    let reason = |node: &NodeProto| match stop {
        Stop::At { node: first, why } if output(first) == output(node) => why.clone(),
        _ if node.input.first().is_some_and(|name| name == chain.at.name) => {
            "what it reads comes out of the engine".to_owned()
        }
        Stop::At { .. } | Stop::End => "it comes behind what the engine does not take".to_owned(),
    };
    chain.model.nodes.iter().filter(is_after).map(|node| Left::new(node, reason(node))).collect()
}
