//! Validates a decoded model before the runtime sees it: every count, name, index and size that
//! tract believes is proved here, or the model is refused.
//!
//! ```text
//!  bytes ──decode──> ModelProto ──validate──> tract (parse, optimise, run)
//!                                   │
//!   graph       names, order, nesting, subgraphs          refusal: where, what, what to do
//!   operators   which exist, by domain; how many inputs and outputs
//!   attributes  lengths and ranges
//!   inputs      dimensions and stored numbers that operators ask for
//!   tensors     element types, sizes, lengths of data
//!   shapes      sizes of what is computed, as far as they are known
//!   moved       what moves, repeats, cuts or reduces
//!   windows     convolutions and pools
//!   quantised   those of com.microsoft
//!   recurrent   LSTM, GRU, RNN
//!   classical   `ai.onnx.ml`
//!   trees       tree ensembles
//! ```
//!
//! `sizes` looks at every shape again once tract has worked them out. [`crate::inspect`] calls this, and nothing reaches tract but what that has read: publisher, hub,
//! trial and device take the same way. What it cannot know is left to the child process: sizes that
//! depend on the input's values, and operators whose shapes are not computed here.

mod attributes;
mod classical;
mod graph;
mod inputs;
mod moved;
mod operators;
mod quantised;
mod recurrent;
mod shapes;
mod tensors;
#[cfg(test)]
mod tests;
pub(crate) mod trees;
mod windows;

use std::collections::BTreeMap;

use tract_onnx::pb::{ModelProto, NodeProto, OperatorSetIdProto};

pub(crate) use attributes::{find, int, ints, text};

/// Most nodes of a model, inner graphs included: a MobileNet has 300, a transformer of twelve layers
/// 1,500; a chain of 2,400 transpositions takes tract
/// 2.4 seconds to load, and one twice as long four times that.
pub const NODES_MAX: usize = 2_000;
/// Most stored tensors of a model: the largest networks have two for each node.
pub const INITIALIZERS_MAX: usize = 2 * NODES_MAX;
/// Most graphs inside one another (`If`, `Scan`): deeper ones are attacks on the stack.
pub const DEPTH_MAX: usize = 8;
/// Most nodes that read one value: tract walks all readers at every rewrite.
pub const READERS_MAX: usize = 1_000;
/// Longest name of a node or value, in bytes: exporters write paths of some hundred.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Longest name of a size that varies, in bytes: it is parsed as an expression.
pub const SIZE_NAME_BYTES_MAX: usize = 64;
/// Most dimensions of any tensor: the largest that exporters make have eight.
pub const RANK_MAX: usize = 8;
/// Most elements of one tensor: 128 MiB of floats, where a large image network has 13 MiB.
pub const ELEMENTS_MAX: u64 = 1 << 25;
/// Most elements that are held at the same time for one row, constants included.
pub const LIVE_ELEMENTS_MAX: u64 = 1 << 26;
/// Most elements that are computed in advance: a positional encoding has half a million, and tract
/// computes them at every load.
pub const CONSTANT_ELEMENTS_MAX: u64 = 1 << 22;
/// Most steps of a sequence: each is a run of a small graph.
pub const STEPS_MAX: u64 = 1 << 14;
/// Most nodes run for one row within `Scan`, all steps together.
pub const SCANNED_NODES_MAX: u64 = 1 << 20;
/// Most entries of metadata: exporters write some ten.
pub const METADATA_MAX: usize = 1_000;
/// Most multiplications for one row: a ResNet-50 has 4 thousand million.
pub const WORK_MAX: u64 = 1 << 35;
/// Most numbers in a list that is an attribute, outside of `ai.onnx.ml` and `Constant`: longer ones
/// have no meaning in any operator.
pub const LIST_MAX: usize = 1_024;
/// Greatest extent of a kernel, stride, dilation or pad: beyond any image a device looks at.
pub const EXTENT_MAX: i64 = 4_096;
/// Newest default operator set that is looked at: there are fewer than half as many.
pub const OPERATOR_SET_MAX: i64 = 64;
/// Most operator sets: there are three that this runtime knows.
pub const OPERATOR_SETS_MAX: usize = 64;
/// Most nodes of a tree ensemble: tract walks every tree for every row.
pub const TREE_NODES_MAX: usize = 1_000_000;

const EXPORT: &str = "export the model anew and check it with onnx.checker";
const SMALLER: &str = "make the model smaller, or cut what is computed in advance";
const PREPARE: &str = "prepare the model with this program, which rewrites such outputs, and register what that gives";
const INLINE: &str = "export for operator sets up to 21 without custom operators or functions";

/// What is wrong with a model, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {mend}")]
pub struct Invalid {
    /// The node with its operator, or the part of the file.
    pub place: String,
    /// What was found, and what the limit is.
    pub what: String,
    /// What to do.
    pub mend: &'static str,
}

/// As [`Invalid`], without the place, which the caller knows.
#[derive(Debug)]
pub(crate) struct Fault {
    what: String,
    mend: &'static str,
}

impl Fault {
    /// What was found.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    fn new(what: impl Into<String>, mend: &'static str) -> Self {
        Self { what: what.into(), mend }
    }

    /// The model contradicts the format.
    fn broken(what: impl Into<String>) -> Self {
        Self::new(what, EXPORT)
    }

    /// It is lawful and too much.
    fn large(what: impl Into<String>) -> Self {
        Self::new(what, SMALLER)
    }

    fn at(self, place: String) -> Invalid {
        Invalid { place, what: self.what, mend: self.mend }
    }
}

/// What one row costs, as far as it follows from stored shapes; a size that varies counts as 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Nodes, inner graphs included.
    pub nodes: usize,
    /// Multiplications with additions, and one for each element that is computed.
    pub work: u64,
    /// The most elements held at one time, weights included.
    pub held: u64,
}

/// Refuses what tract cannot be trusted with; what the rest costs.
///
/// # Errors
///
/// [`Invalid`], for the first fault found.
pub(crate) fn validate(model: &ModelProto) -> Result<Effort, Invalid> {
    let opset = operator_set(model).map_err(|fault| fault.at("the model".to_owned()))?;
    graph::check(model, opset)
}

/// Sizes of every value of a model's outer graph, as far as they are known; `None` where one varies.
///
/// # Errors
///
/// As [`validate`].
pub(crate) fn shapes(model: &ModelProto) -> Result<BTreeMap<&str, Vec<Option<u64>>>, Invalid> {
    let opset = operator_set(model).map_err(|fault| fault.at("the model".to_owned()))?;
    model.graph.as_ref().map_or_else(|| Ok(BTreeMap::new()), |graph| graph::shapes(graph, opset))
}

fn operator_set(model: &ModelProto) -> Result<i64, Fault> {
    if let Some(function) = model.functions.first() {
        return Err(Fault::new(format!("it defines the function `{}`", shown(function.name())), INLINE));
    }
    if model.metadata_props.len() > METADATA_MAX {
        let got = model.metadata_props.len();
        return Err(Fault::large(format!("it has {got} entries of metadata: at most {METADATA_MAX}")));
    }
    if model.opset_import.len() > OPERATOR_SETS_MAX {
        let got = model.opset_import.len();
        return Err(Fault::broken(format!("it imports {got} operator sets: at most {OPERATOR_SETS_MAX}")));
    }
    for (index, import) in model.opset_import.iter().enumerate() {
        let domain = operators::plain_domain(&import.domain);
        // Some exporters write the same import twice.
        let is_other = |before: &&OperatorSetIdProto| {
            operators::plain_domain(&before.domain) == domain && before.version != import.version
        };
        if model.opset_import.iter().take(index).any(|before| is_other(&before)) {
            return Err(Fault::broken(format!("it imports two versions of the operator set `{}`", shown(domain))));
        }
        if !(1..=OPERATOR_SET_MAX).contains(&import.version) {
            let (domain, version) = (shown(domain), import.version);
            return Err(Fault::new(
                format!("version {version} of operator set `{domain}` is not in 1 to {OPERATOR_SET_MAX}"),
                INLINE,
            ));
        }
    }
    let default = model.opset_import.iter().find(|import| operators::plain_domain(&import.domain).is_empty());
    // Models of trees import `ai.onnx.ml` alone; tract takes the default set to be of version 0 then.
    Ok(default.map_or(0, |import| import.version))
}

/// A node as messages name it.
fn place(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().unwrap_or(&node.name) } else { &node.name };
    format!("node `{}` ({})", shown(name), shown(&node.op_type))
}

/// A stranger's text, short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).take(SHOWN_CHARS_MAX).collect()
}

/// The product, or the most there can be.
fn product(sizes: impl IntoIterator<Item = u64>) -> u64 {
    // A zero counts wherever it stands.
    let sizes: Vec<u64> = sizes.into_iter().collect();
    if sizes.contains(&0) { 0 } else { sizes.into_iter().fold(1, u64::saturating_mul) }
}
