//! Models on the desk, without a hub or a device: `prepare` says what a model costs and what becomes of
//! it, `test` scores with it as a device would, `diff` holds two against each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_protocol::manifest::{DataType, FileRole, TensorSignature, TensorSpec};
use bellwether_protocol::package::Package;
use bellwether_runtime::expected::CLASSES;
use bellwether_runtime::lower::Bound;
use bellwether_runtime::profile::{NodeTime, profile};
use bellwether_runtime::{Beside, Cpu, Data, Sample, Scorer as _, Tensor, Vectors, inspect, prepare, shape_text};
use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::home::write_new;
use super::model::{contents, file_name, verified_package};
use super::sign::release_of;

/// Rows of answers that people are shown.
const SHOWN_ROWS: usize = 8;
/// Numbers of a row that people are shown.
const SHOWN_NUMBERS: usize = 12;
/// Slowest operators that people are shown.
const SHOWN_NODES: usize = 12;
/// How often one row is scored to time it.
const ROUNDS: usize = 51;

#[derive(Debug, Args)]
pub(super) struct Prepare {
    /// The model (.onnx)
    file: PathBuf,
    /// Golden vectors made by another runtime (.npz); see `bellwether model vectors`
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Give a size that varies a number: `height=96`, or `image.2=96` for axis 2 of an input; may be repeated
    #[arg(long = "bind", value_name = "NAME=SIZE")]
    sizes: Vec<Bound>,
    /// Say also what an FPGA would do of it: its bitstream, or `up5k` for the one that comes with this program
    #[arg(long, value_name = "FILE")]
    bitstream: Option<PathBuf>,
    /// Keep the package; the file must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the model in the package
    #[arg(long, default_value = "model", value_name = "NAME")]
    name: ModelName,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// NAME:VERSION of the hub, a package (.bwp) or a model (.onnx)
    model: String,
    /// Rows to score (.csv, .npy, .npz); otherwise the package's golden vectors
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The one: NAME:VERSION of the hub, a package (.bwp) or a model (.onnx)
    one: String,
    /// The other
    other: String,
    /// Rows to score (.csv, .npy, .npz); otherwise the golden vectors of either
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Times of one row, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct RowTime {
    p50_us: f64,
    p95_us: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    package: String,
    opset: u16,
    parameters: u64,
    nodes: usize,
    work_per_row: u64,
    operators: BTreeMap<String, u32>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    rewritten: Vec<String>,
    advice: Vec<String>,
    golden: Option<String>,
    offload: Option<String>,
    load_ms: f64,
    /// What the process held more with the model than before it, at most.
    memory_peak_kib: u64,
    row: RowTime,
    expected_us: BTreeMap<&'static str, f64>,
}

pub(super) fn prepared(context: &Context, given: &Prepare) -> Result<Exit, Failure> {
    let before = memory_kib("VmRSS:");
    let bytes = contents(&given.file)?;
    let vectors = given.vectors.as_deref().map(contents).transpose()?;
    let file_name = file_name(&given.file);
    let bitstream = given.bitstream.as_deref().map(super::model::bitstream).transpose()?;
    let beside = Beside {
        vectors: vectors.as_deref(),
        sizes: &given.sizes,
        bitstream: bitstream.as_deref(),
        ..Beside::default()
    };
    let prepared = prepare(&given.name, &file_name, &bytes, &beside).map_err(|fault| {
        Failure::new(Exit::Conflict, format!("{file_name} cannot be prepared: {fault}"))
            .next("mend the model or its vectors")
    })?;
    let (Some(facts), Ok(())) = (&prepared.facts, &prepared.deployable) else {
        let advice = prepared.deployable.err().unwrap_or_default();
        return Err(Failure::new(Exit::Conflict, format!("devices cannot run {file_name}")).next(advice));
    };
    if let Some(out) = &given.out {
        write_new(out, &prepared.package, 0o644)?;
    }
    let model = model_of(&prepared.package)?;
    let begun = Instant::now();
    let mut scorer = Cpu::load(&model).map_err(|fault| Failure::new(Exit::Conflict, fault.to_string()))?;
    let load_ms = begun.elapsed().as_secs_f64() * 1e3;
    let row = time(&mut scorer, &filled(&facts.signature)?)?;
    let report = Report {
        model: file_name.clone(),
        package: prepared.package_ref.digest.to_string(),
        opset: facts.opset,
        parameters: facts.parameters,
        nodes: facts.effort.nodes,
        work_per_row: facts.effort.work,
        operators: facts.operators.clone(),
        inputs: facts.signature.inputs.iter().map(spoken).collect(),
        outputs: facts.signature.outputs.iter().map(spoken).collect(),
        rewritten: prepared.rewritten.clone(),
        advice: bellwether_runtime::advice::quantisation(&model),
        golden: prepared.golden.as_ref().map(ToString::to_string),
        offload: prepared.offload.as_ref().map(ToString::to_string),
        load_ms,
        memory_peak_kib: memory_kib("VmHWM:").saturating_sub(before),
        row,
        expected_us: CLASSES.iter().map(|class| (class.name, class.row_us(&facts.effort).round())).collect(),
    };
    say(context, &report)?;
    if report.golden.is_none() {
        eprintln!("! unchecked: bellwether model vectors {file_name} --out vectors.npz makes golden vectors");
    }
    Ok(Exit::Ok)
}

fn say(context: &Context, report: &Report) -> Result<(), Failure> {
    let operators: Vec<String> = report.operators.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let mut fields = vec![
        ("model", report.model.clone()),
        ("inputs", report.inputs.join(", ")),
        ("outputs", report.outputs.join(", ")),
        ("operator set", report.opset.to_string()),
        ("operators", operators.join(", ")),
        ("parameters", report.parameters.to_string()),
        ("work per row", format!("{} multiply-adds", report.work_per_row)),
        ("golden check", report.golden.clone().unwrap_or_else(|| "unchecked".to_owned())),
        ("loads in", format!("{:.1} ms here", report.load_ms)),
        ("memory", format!("{} KiB at most, here", report.memory_peak_kib)),
        (
            "a row takes",
            format!("{:.1} us here, {:.1} us at the 95th percentile", report.row.p50_us, report.row.p95_us),
        ),
    ];
    fields.extend(report.rewritten.iter().map(|what| ("rewritten", what.clone())));
    fields.extend(report.offload.iter().map(|what| ("offload", what.clone())));
    fields.extend(report.advice.iter().map(|what| ("advice", what.clone())));
    let about = |class: &bellwether_runtime::expected::HardwareClass| {
        let us = report.expected_us.get(class.name).copied().unwrap_or_default();
        format!(
            "{}: about {}",
            class.name,
            if us < 1000.0 { format!("{us} us") } else { format!("{:.1} ms", us / 1e3) }
        )
    };
    fields.extend(CLASSES.iter().map(|class| ("expected", about(class))));
    fields.push(("package", report.package.clone()));
    context.output.one(report, &fields, &report.package)
}

/// A tensor as people read it: `image FP32 [-1, 64]`.
fn spoken(spec: &TensorSpec) -> String {
    format!("{} {} {}", spec.name, spec.datatype.name(), shape_text(spec))
}

#[derive(Debug, Serialize)]
struct Tested {
    model: String,
    rows: usize,
    row: RowTime,
    outputs: Vec<Answer>,
    operators: Vec<Operator>,
}

/// Where the time of a row goes.
#[derive(Debug, Serialize)]
struct Operator {
    name: String,
    operator: String,
    median_us: f64,
    output_bytes: usize,
}

impl From<NodeTime> for Operator {
    fn from(node: NodeTime) -> Self {
        let NodeTime { name, operator, time, output_bytes } = node;
        Self { name, operator, median_us: time.as_secs_f64() * 1e6, output_bytes }
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Answer {
    fn of(tensor: &Tensor) -> Self {
        let data = (0..tensor.data().len()).filter_map(|index| tensor.data().number(index)).collect();
        let (name, datatype) = (tensor.name.to_string(), tensor.datatype().name());
        Self { name, datatype, shape: tensor.shape().to_vec(), data }
    }

    fn width(&self) -> usize {
        self.data.len().checked_div(self.shape.first().copied().unwrap_or(1)).unwrap_or(0).max(1)
    }
}

pub(super) async fn tested(context: &Context, given: &Test) -> Result<Exit, Failure> {
    let desk = Desk::of(context, &given.model).await?;
    let inputs = match &given.input {
        Some(path) => read(path, &desk.signature)?,
        None => desk.golden.clone().ok_or_else(|| no_rows(&given.model))?,
    };
    let mut scorer = desk.load()?;
    let outputs = score(&mut scorer, &inputs)?;
    let first: Vec<Tensor> = inputs.iter().filter_map(|input| input.row_range(0..1)).collect();
    let row = time(&mut scorer, &first)?;
    let operators = profile(&desk.model, &first, ROUNDS).map_err(|fault| Failure::error(fault.to_string()))?;
    let operators = operators.into_iter().map(Operator::from).collect();
    let rows = inputs.first().map_or(0, Tensor::rows);
    let tested = Tested { model: given.model.clone(), rows, row, outputs, operators };
    let mut fields = vec![
        ("model", tested.model.clone()),
        ("rows", tested.rows.to_string()),
        ("a row takes", format!("{:.1} us, {:.1} us at the 95th percentile", row.p50_us, row.p95_us)),
    ];
    for answer in &tested.outputs {
        for (index, row) in answer.data.chunks(answer.width()).take(SHOWN_ROWS).enumerate() {
            fields.push(("answer", format!("row {index}: {} {}", answer.name, numbers(row))));
        }
    }
    let mut slowest: Vec<&Operator> = tested.operators.iter().collect();
    slowest.sort_by(|a, b| b.median_us.total_cmp(&a.median_us));
    let all: f64 = slowest.iter().map(|node| node.median_us).sum();
    for node in slowest.into_iter().take(SHOWN_NODES) {
        let share = if all > 0.0 { 100.0 * node.median_us / all } else { 0.0 };
        let (us, bytes) = (node.median_us, node.output_bytes);
        fields
            .push(("operator", format!("{us:8.1} us {share:5.1} % {bytes:9} bytes  {} {}", node.operator, node.name)));
    }
    context.output.one(&tested, &fields, &tested.model)?;
    Ok(Exit::Ok)
}

#[derive(Debug, Serialize)]
struct Difference {
    one: String,
    other: String,
    rows: usize,
    outputs: Vec<OutputDifference>,
    one_row: RowTime,
    other_row: RowTime,
    one_bytes: usize,
    other_bytes: usize,
}

#[derive(Debug, Serialize)]
struct OutputDifference {
    name: String,
    greatest: f64,
    mean: f64,
    /// Share of rows in which both have the largest number at the same place.
    agreement: f64,
    /// The first rows in which they have not.
    differing_rows: Vec<usize>,
}

pub(super) async fn differ(context: &Context, given: &Diff) -> Result<Exit, Failure> {
    let (one, other) = (Desk::of(context, &given.one).await?, Desk::of(context, &given.other).await?);
    if one.signature.inputs != other.signature.inputs {
        let spoken = |desk: &Desk| desk.signature.inputs.iter().map(spoken).collect::<Vec<_>>().join(", ");
        let what = format!("{} takes {}, {} takes {}", given.one, spoken(&one), given.other, spoken(&other));
        return Err(Failure::new(Exit::Conflict, what).next("two models are compared on the same rows"));
    }
    let inputs = match &given.input {
        Some(path) => read(path, &one.signature)?,
        None => one.golden.clone().or_else(|| other.golden.clone()).ok_or_else(|| no_rows(&given.one))?,
    };
    let first: Vec<Tensor> = inputs.iter().filter_map(|input| input.row_range(0..1)).collect();
    let (mut left, mut right) = (one.load()?, other.load()?);
    let (here, there) = (score(&mut left, &inputs)?, score(&mut right, &inputs)?);
    let outputs: Vec<OutputDifference> = here
        .iter()
        .filter_map(|mine| Some(between(mine, there.iter().find(|theirs| theirs.name == mine.name)?)))
        .collect();
    let difference = Difference {
        one: given.one.clone(),
        other: given.other.clone(),
        rows: inputs.first().map_or(0, Tensor::rows),
        outputs,
        one_row: time(&mut left, &first)?,
        other_row: time(&mut right, &first)?,
        one_bytes: one.model.len(),
        other_bytes: other.model.len(),
    };
    let mut fields = vec![("rows", difference.rows.to_string())];
    for output in &difference.outputs {
        let rows: Vec<String> = output.differing_rows.iter().map(ToString::to_string).collect();
        let rows = if rows.is_empty() { String::new() } else { format!(", not in rows {}", rows.join(", ")) };
        fields.push((
            "output",
            format!(
                "{}: {:.2} % of rows agree{rows}; greatest difference {:.3e}, mean {:.3e}",
                output.name,
                100.0 * output.agreement,
                output.greatest,
                output.mean
            ),
        ));
    }
    for (name, row, bytes) in [
        (&difference.one, difference.one_row, difference.one_bytes),
        (&difference.other, difference.other_row, difference.other_bytes),
    ] {
        fields.push(("takes", format!("{name}: {:.1} us a row, {bytes} bytes", row.p50_us)));
    }
    context.output.one(&difference, &fields, &difference.one)?;
    Ok(Exit::Ok)
}

fn between(one: &Answer, other: &Answer) -> OutputDifference {
    let apart: Vec<f64> = one.data.iter().zip(&other.data).map(|(a, b)| (a - b).abs()).collect();
    let largest = |row: &[f64]| {
        let places = row.iter().enumerate();
        places
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(place, number)| (place, if row.len() == 1 { number.round() } else { 0.0 }))
    };
    let rows = one.data.chunks(one.width()).zip(other.data.chunks(other.width()));
    let agrees: Vec<bool> = rows.map(|(a, b)| largest(a) == largest(b)).collect();
    let count = agrees.len().max(1) as f64;
    OutputDifference {
        name: one.name.clone(),
        greatest: apart.iter().copied().fold(0.0, f64::max),
        mean: apart.iter().sum::<f64>() / apart.len().max(1) as f64,
        agreement: agrees.iter().filter(|agrees| **agrees).count() as f64 / count,
        differing_rows: (agrees.iter().enumerate())
            .filter(|(_, agrees)| !**agrees)
            .map(|(row, _)| row)
            .take(SHOWN_ROWS)
            .collect(),
    }
}

/// A model as a device would have it, and rows to try it on.
struct Desk {
    model: Vec<u8>,
    signature: TensorSignature,
    golden: Option<Vec<Tensor>>,
}

impl Desk {
    /// From a file, or from the hub.
    async fn of(context: &Context, named: &str) -> Result<Self, Failure> {
        let path = Path::new(named);
        if !path.exists() {
            let model: ModelRef = named.parse().map_err(|bad| {
                Failure::new(Exit::NotFound, format!("there is no file `{named}`, and no version is named so: {bad}"))
            })?;
            let (_, release) = release_of(context, &model).await?;
            return Self::packed(named, &verified_package(context, &release).await?);
        }
        let bytes = contents(path)?;
        if Package::open(&bytes).is_ok() {
            return Self::packed(named, &bytes);
        }
        let refused = |fault: &dyn std::fmt::Display| Failure::new(Exit::Conflict, format!("{named}: {fault}"));
        let (model, _) = bellwether_runtime::lower::lowered(&bytes).map_err(|fault| refused(&fault))?;
        let model = model.into_owned();
        let signature = inspect(&model).map_err(|fault| refused(&fault))?.signature;
        Ok(Self { model, signature, golden: None })
    }

    fn packed(named: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let refused = |fault: &dyn std::fmt::Display| Failure::new(Exit::Conflict, format!("{named}: {fault}"));
        let package = Package::open(bytes).map_err(|reject| refused(&reject))?;
        let model = model_of(bytes)?;
        let golden = match package.file(FileRole::Vectors) {
            Some(vectors) => Some(Vectors::read(vectors).map_err(|fault| refused(&fault))?.inputs),
            None => None,
        };
        Ok(Self { model, signature: package.manifest().tensors.clone(), golden })
    }

    fn load(&self) -> Result<Cpu, Failure> {
        Cpu::load(&self.model).map_err(|fault| Failure::new(Exit::Conflict, fault.to_string()))
    }
}

/// The model in a package.
fn model_of(package: &[u8]) -> Result<Vec<u8>, Failure> {
    let opened = Package::open(package).map_err(|reject| Failure::new(Exit::Conflict, reject.to_string()))?;
    let model = opened.file(FileRole::Model);
    model.map(<[u8]>::to_vec).ok_or_else(|| Failure::new(Exit::Conflict, "the package has no model"))
}

fn no_rows(model: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{model} has no golden vectors")).next("give rows: --input rows.csv")
}

fn read(path: &Path, signature: &TensorSignature) -> Result<Vec<Tensor>, Failure> {
    let sample = Sample::read(&file_name(path), &contents(path)?, signature);
    Ok(sample.map_err(|fault| Failure::new(Exit::Conflict, format!("{}: {fault}", path.display())))?.inputs)
}

fn score(scorer: &mut Cpu, inputs: &[Tensor]) -> Result<Vec<Answer>, Failure> {
    let answers = scorer.run(inputs).map_err(|fault| Failure::new(Exit::Conflict, fault.to_string()))?;
    Ok(answers.iter().map(Answer::of).collect())
}

/// A row of halves, or of ones where numbers are whole.
fn filled(signature: &TensorSignature) -> Result<Vec<Tensor>, Failure> {
    let tensor = |spec: &TensorSpec| {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.map_or(1, |size| size as usize)).collect();
        let bytes = if spec.datatype == DataType::Fp32 {
            0.5_f32.to_le_bytes().to_vec()
        } else if spec.datatype == DataType::Fp64 {
            0.5_f64.to_le_bytes().to_vec()
        } else {
            std::iter::once(1).chain(std::iter::repeat_n(0, spec.datatype.bytes() - 1)).collect()
        };
        let data = Data::from_le_bytes(spec.datatype, &bytes.repeat(shape.iter().product()));
        let data = data.ok_or_else(|| Failure::error("no row can be made"))?;
        Tensor::new(spec.name.clone(), shape, data).map_err(|bad| Failure::error(bad.to_string()))
    };
    signature.inputs.iter().map(tensor).collect()
}

/// How long one row takes.
fn time(scorer: &mut Cpu, row: &[Tensor]) -> Result<RowTime, Failure> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        scorer.run(row).map_err(|fault| Failure::new(Exit::Conflict, fault.to_string()))?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(ROUNDS * share / 100).copied().unwrap_or_default();
    Ok(RowTime { p50_us: at(50), p95_us: at(95) })
}

/// A line of `/proc/self/status`, in KiB; 0 where there is none.
fn memory_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Numbers of a row, the first of them.
fn numbers(row: &[f64]) -> String {
    let mut shown: Vec<String> = row.iter().take(SHOWN_NUMBERS).map(|number| format!("{number:.4}")).collect();
    if row.len() > SHOWN_NUMBERS {
        shown.push(format!("… {} numbers", row.len()));
    }
    format!("[{}]", shown.join(", "))
}
