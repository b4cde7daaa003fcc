//! Quantises a float network with a sample of its data: weights and activations become bytes, what they cost is told.
//!
//! ```text
//!  model.onnx ── tidy ── plan ───────────────── rewrite ──> model-int8.onnx
//!   opset 13     │       layers, scales shared    │
//!                └─ probe ── calibrate ── scale ──┤ weights
//!                     │      half of the rows     │
//!                     └───── the other half ── report ──> what it costs
//! ```
//!
//! The form is ONNX's own: `QuantizeLinear` and `DequantizeLinear` around operators of float, which every runtime
//! reads and ours computes on integers. Activations are signed bytes with any zero point, weights lie within
//! -127 to 127 around zero with a scale for each output, a bias has 32 bits in the units of the products. The same
//! model and rows give the same bytes.

mod calibrate;
mod opset;
mod plan;
mod probe;
mod report;
mod rewrite;
mod scale;
#[cfg(test)]
mod tests;
mod tidy;
mod weights;

use std::collections::BTreeMap;

use prost::Message as _;
use tract_onnx::pb::{GraphProto, ModelProto};

use crate::inspect;
use crate::ops::quant::lower::graph::Graph;
use crate::sample::Sample;
use crate::{LoadError, ScoreError, Tensor};

pub use calibrate::Calibrate;
use calibrate::Seen;
pub use plan::Kept;
use plan::{Layer, Plan};
use probe::Probe;
pub use report::{Accuracy, LayerReport, OutputReport, Report, Tensors, WeightsReport};
use report::{Judged, Verdict};
use rewrite::Rewrite;
pub use scale::{Range, Scale};
use weights::Weights;

/// How a model is quantised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How ranges of activations are taken.
    pub calibrate: Calibrate,
    /// One scale for all weights of a layer, and not one for each output.
    pub per_tensor: bool,
}

/// Rows that calibrate, and others that judge.
#[derive(Clone, Debug)]
pub struct Rows {
    calibration: Vec<Tensor>,
    judged: Vec<Tensor>,
    /// Classes of the rows that judge.
    labels: Option<Vec<i64>>,
}

impl Rows {
    /// Takes so many rows of a sample to calibrate, evenly over all of it, or half of them; the others judge.
    ///
    /// # Errors
    ///
    /// [`QuantizeError`] if there is none for either, a number is infinite or none, or labels do not fit.
    pub fn of(sample: &Sample, labels: Option<&[i64]>, calibration: Option<usize>) -> Result<Self, QuantizeError> {
        let all = sample.rows;
        let wanted = calibration.unwrap_or(all / 2);
        if wanted == 0 || wanted >= all {
            return Err(QuantizeError::Rows { all, wanted });
        }
        if let Some((input, row)) = report::unlawful(&sample.inputs) {
            return Err(QuantizeError::NotFinite { input, row });
        }
        if let Some(labels) = labels.filter(|labels| labels.len() != all) {
            return Err(QuantizeError::Labels { got: labels.len(), rows: all });
        }
        // A sample may be sorted by class: neither part is its beginning.
        let calibrates = |row: usize| (row + 1) * wanted / all > row * wanted / all;
        let take = |is_wanted: bool| -> Vec<Tensor> {
            sample.inputs.iter().filter_map(|tensor| chosen(tensor, all, |row| calibrates(row) == is_wanted)).collect()
        };
        Ok(Self {
            calibration: take(true),
            judged: take(false),
            labels: labels.map(|labels| {
                labels.iter().enumerate().filter(|(row, _)| !calibrates(*row)).map(|(_, label)| *label).collect()
            }),
        })
    }
}

/// The rows of a tensor that are wanted.
fn chosen(tensor: &Tensor, rows: usize, is_wanted: impl Fn(usize) -> bool) -> Option<Tensor> {
    let mut found = tensor.row_range(0..0)?;
    for row in (0..rows).filter(|row| is_wanted(*row)) {
        found.extend_rows(&tensor.row_range(row..row + 1)?);
    }
    Some(found)
}

/// A quantised model, and what was done.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// ONNX.
    pub model: Vec<u8>,
    /// What was done, and what it costs.
    pub report: Report,
}

/// Why a model is not quantised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum QuantizeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the model does not take the rows: {0}")]
    Score(#[from] ScoreError),
    #[error("it is quantised already: node `{name}` is {operator}; quantise the float model that it was made from")]
    Already { name: String, operator: String },
    #[error(
        "it has no Conv, Gemm or MatMul with stored FP32 weights that can be quantised{0}; trees and other classical \
         models are best left as they are"
    )]
    NoWeights(String),
    #[error(
        "{0} cannot be brought to operator set 13, which quantised models need: export for 13 to 21, or \
         onnx.version_converter.convert_version(model, 17)"
    )]
    OperatorSet(String),
    #[error(
        "{all} rows, {wanted} of them to calibrate: at least one must be left to judge by, and one to calibrate; \
         give more rows, or another --calibration-rows"
    )]
    Rows { all: usize, wanted: usize },
    #[error("the model takes blocks of {block} rows, and {rows} are left for one part: give at least {}", block * 2)]
    Block { block: usize, rows: usize },
    #[error("input `{input}`, row {row} holds a number that is infinite or none: take such rows out")]
    NotFinite { input: String, row: usize },
    #[error("{got} labels for {rows} rows: there must be one for each")]
    Labels { got: usize, rows: usize },
    #[error("value `{value}` becomes infinite or no number in row {row} of those that calibrate: mend the model")]
    Inside { value: String, row: usize },
    #[error("layer `{0}` has weights that are infinite or no numbers: mend the model")]
    Weights(String),
    #[error("layer `{0}` has sizes that do not fit together: export the model anew and check it with onnx.checker")]
    Layer(String),
    #[error("a value that should be quantised does not hold FP32: export the model with single precision")]
    NotSingle,
}

/// Quantises a model that was lowered; `tell` hears how many rows were scored, and of how many.
///
/// # Errors
///
/// [`QuantizeError`].
pub fn quantize(
    model: &[u8],
    rows: &Rows,
    options: Options,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Quantised, QuantizeError> {
    let (mut tidy, facts) = inspect::read(model).map_err(LoadError::from)?;
    let names = |specs: &[bellwether_protocol::manifest::TensorSpec]| -> Vec<String> {
        specs.iter().map(|spec| spec.name.to_string()).collect()
    };
    let (inputs, outputs) = (names(&facts.signature.inputs), names(&facts.signature.outputs));
    let mut proto = tidy.graph.take().unwrap_or_default();
    refuse_quantised(&proto)?;
    tidy::tidy(&mut proto);
    tidy.graph = Some(proto);
    opset::raise(&mut tidy).map_err(QuantizeError::OperatorSet)?;
    let tidy_bytes = tidy.encode_to_vec();
    let mut proto = tidy.graph.take().unwrap_or_default();
    let graph = Graph::new(&mut proto);
    let plan = Plan::of(&graph);
    if !plan.layers.iter().any(|layer| layer.is_product) {
        return Err(QuantizeError::NoWeights(told(&plan.kept)));
    }
    let (calibrating, judging) = (rows_of(&rows.calibration), rows_of(&rows.judged));
    let all = calibrating * calibrate::passes(options.calibrate) + judging;
    let mut done = 0;
    let mut tell = |rows| {
        done += rows;
        tell(done, all);
    };
    let values = probed(&plan);
    let mut probe = Probe::new(&tidy_bytes, &values)?;
    let seen = calibrate::ranges(&mut probe, &values, &rows.calibration, options.calibrate, &mut tell)?;
    drop(probe);
    let scales: BTreeMap<String, Scale> =
        plan.own().filter_map(|value| Some((value.clone(), Scale::of(seen.get(value)?.range)))).collect();
    let (graph, weights) = Rewrite::new(graph, &plan, &seen, &scales, options.per_tensor).run(&inputs)?;
    graph.finish(&mut proto, true);
    let quantised = finished(tidy, proto);
    let values: Vec<String> = plan.layers.iter().map(|layer| layer.output.clone()).collect();
    let models = Judged { given: model, tidy: &tidy_bytes, quantised: &quantised };
    let verdict = report::judge(&models, &values, &outputs, rows, &mut tell)?;
    let scored = Scored { seen, scales, weights, verdict };
    let report = Report {
        calibrate: options.calibrate.name(),
        calibration_rows: calibrating,
        bytes_before: model.len(),
        bytes_after: quantised.len(),
        ..scored.report(plan)
    };
    Ok(Quantised { model: quantised, report })
}

fn rows_of(tensors: &[Tensor]) -> usize {
    tensors.first().map_or(0, Tensor::rows)
}

/// Refuses what somebody quantised before.
fn refuse_quantised(graph: &GraphProto) -> Result<(), QuantizeError> {
    let is_quantised = |name: &str| {
        name.contains("QuantizeLinear")
            || name.contains("DequantizeLinear")
            || name.contains("QuantizeMatMul")
            || name.contains("QuantizeLSTM")
            || name.starts_with("QLinear")
            || name.contains("Integer")
            || name == "QGemm"
    };
    match graph.node.iter().find(|node| is_quantised(&node.op_type)) {
        Some(node) => Err(QuantizeError::Already { name: plan::name(node), operator: node.op_type.clone() }),
        None => Ok(()),
    }
}

/// What keeps products float, in words.
fn told(kept: &[Kept]) -> String {
    let is_product = |kept: &&Kept| matches!(kept.operator.as_str(), "Conv" | "Gemm" | "MatMul");
    kept.iter().find(is_product).map_or_else(String::new, |kept| format!(" (`{}`: {})", kept.name, kept.why))
}

/// Values to look at: those with a scale of their own, and what a `MatMul` reads whose bias it may take over.
fn probed(plan: &Plan) -> Vec<String> {
    let read = plan.layers.iter().filter(|layer| layer.bias.is_some()).flat_map(|layer| &layer.inputs);
    let mut values: Vec<String> = plan.own().chain(read).cloned().collect();
    values.sort();
    values.dedup();
    values
}

/// The model with a new graph, without what is known of values that are gone.
fn finished(mut model: ModelProto, mut graph: GraphProto) -> Vec<u8> {
    let made: std::collections::BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    graph.value_info.retain(|info| made.contains(&info.name));
    model.graph = Some(graph);
    model.encode_to_vec()
}

/// What a report is made of.
struct Scored {
    seen: BTreeMap<String, Seen>,
    scales: BTreeMap<String, Scale>,
    weights: BTreeMap<usize, Weights>,
    verdict: Verdict,
}

impl Scored {
    fn report(self, plan: Plan) -> Report {
        let snr = self.verdict.snr.iter().copied();
        let layers = plan.layers.iter().zip(snr).filter_map(|(layer, snr)| self.layer(&plan, layer, snr)).collect();
        Report {
            calibrate: "",
            calibration_rows: 0,
            judged_rows: self.verdict.rows,
            layers,
            kept: plan.kept,
            outputs: self.verdict.outputs,
            accuracy: self.verdict.accuracy,
            bytes_before: 0,
            bytes_after: 0,
        }
    }

    fn layer(&self, plan: &Plan, layer: &Layer, snr_db: Option<f64>) -> Option<LayerReport> {
        let tensor = |value: &String| {
            let root = plan.roots.get(value)?;
            let (range, scale) = (self.seen.get(root)?.range, *self.scales.get(root)?);
            Some(Tensors { value: value.clone(), range, scale })
        };
        let weights = self.weights.get(&layer.place).map(|weights| WeightsReport {
            scales: weights.scales.len(),
            least: weights.scales.iter().copied().fold(f32::INFINITY, f32::min),
            greatest: weights.scales.iter().copied().fold(0.0, f32::max),
        });
        Some(LayerReport {
            name: layer.name.clone(),
            operator: layer.operators.join("+"),
            inputs: layer.inputs.iter().map(tensor).collect::<Option<_>>()?,
            output: tensor(&layer.output)?,
            weights,
            snr_db,
        })
    }
}
