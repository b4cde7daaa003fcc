//! `bellwether model quantize`: a float network becomes one of eight bits, by a sample of its data, and people are
//! told what that costs.

use std::path::{Path, PathBuf};

use bellwether_runtime::lower::{Bound, bind, lowered};
use bellwether_runtime::quantize::{Calibrate, LayerReport, Options, OutputReport, Report, Rows, Tensors, quantize};
use bellwether_runtime::{Data, Sample, advice, inspect, npz};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::failure::{Exit, Failure};
use super::home::write_new;
use super::model::{contents, file_name};

#[derive(Debug, Args)]
pub(super) struct Quantize {
    /// The float model (.onnx)
    file: PathBuf,
    /// Rows as the model takes them (.npz with the model's input names, .npy or .csv): some calibrate, the others
    /// judge
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the quantised model goes (.onnx); it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many rows calibrate, spread evenly over the file; the others judge [default: half of them]
    #[arg(long, value_name = "NUMBER")]
    calibration_rows: Option<usize>,
    /// Array of the .npz with the class of each row, counted from 0: accuracy is told before and after
    #[arg(long, value_name = "NAME")]
    labels: Option<String>,
    /// How the range of a value is taken from what was seen
    #[arg(long, value_enum, default_value_t = How::Minmax)]
    calibrate: How,
    /// One scale for all weights of a layer, and not one for each output
    #[arg(long)]
    per_tensor: bool,
    /// Give a size that varies a number, as when the model is prepared; may be repeated
    #[arg(long = "bind", value_name = "NAME=SIZE")]
    sizes: Vec<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// From the least number to the greatest
    Minmax,
    /// Without the most extreme of ten thousand numbers
    Percentile,
    /// What loses least in the mean square
    Mse,
}

impl From<How> for Calibrate {
    fn from(how: How) -> Self {
        match how {
            How::Minmax => Self::MinMax,
            How::Percentile => Self::Percentile,
            How::Mse => Self::Mse,
        }
    }
}

pub(super) fn run(context: &Context, given: &Quantize) -> Result<Exit, Failure> {
    if given.out.exists() {
        return Err(
            Failure::new(Exit::Conflict, format!("{} exists", given.out.display())).next("choose another --out")
        );
    }
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Failure::new(Exit::Conflict, format!("{}: {fault}", path.display())).next("no model was written")
    };
    let model = contents(&given.file)?;
    let (model, _) = bind(&model, &given.sizes).map_err(|fault| refused(&given.file, &fault))?;
    let (model, _) = lowered(&model).map_err(|fault| refused(&given.file, &fault))?;
    let facts = inspect(&model).map_err(|fault| {
        let next = advice(&file_name(&given.file), &model).unwrap_or("no model was written");
        refused(&given.file, &fault).next(next)
    })?;
    let bytes = contents(&given.input)?;
    let sample = Sample::read(&file_name(&given.input), &bytes, &facts.signature);
    let sample = sample.map_err(|fault| refused(&given.input, &fault))?;
    let labels = given.labels.as_ref().map(|name| labels(&bytes, name).map_err(|fault| refused(&given.input, &fault)));
    let labels = labels.transpose()?;
    let rows = Rows::of(&sample, labels.as_deref(), given.calibration_rows);
    let rows = rows.map_err(|fault| refused(&given.input, &fault))?;
    let options = Options { calibrate: given.calibrate.into(), per_tensor: given.per_tensor };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("scoring {bar:30} {pos}/{len} rows {eta}") {
        bar.set_style(style);
    }
    let made = quantize(&model, &rows, options, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let made = made.map_err(|fault| refused(&given.file, &fault))?;
    write_new(&given.out, &made.model, 0o644)?;
    let name = given.out.display().to_string();
    context.output.one(&made.report, &fields(&made.report, &name), &name)?;
    if context.output.for_people() {
        eprintln!("next: bellwether model vectors {name} --input {} --out vectors.npz", given.input.display());
    }
    Ok(Exit::Ok)
}

/// The classes of the rows, from an array of whole numbers.
fn labels(bytes: &[u8], name: &str) -> Result<Vec<i64>, String> {
    let arrays = npz::read(bytes).map_err(|fault| format!("labels are read of an .npz: {fault}"))?;
    let array = arrays.get(name).ok_or_else(|| {
        let names: Vec<&str> = arrays.keys().map(String::as_str).collect();
        format!("there is no array `{name}` for --labels: it has {}", names.join(", "))
    })?;
    if array.shape.len() != 1 || matches!(array.data, Data::Fp32(_) | Data::Fp64(_) | Data::Bool(_)) {
        return Err(format!("array `{name}` is no list of classes: expected whole numbers of shape [rows]"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "they are whole numbers, and classes are few")]
    let class = |row: usize| array.data.number(row).map(|class| class as i64);
    Ok((0..array.data.len()).filter_map(class).collect())
}

fn fields(report: &Report, name: &str) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("model", format!("{name}, {} bytes, of {}", report.bytes_after, report.bytes_before)),
        ("calibrated", format!("on {} rows, by {}", report.calibration_rows, report.calibrate)),
        ("judged", format!("on {} other rows", report.judged_rows)),
    ];
    fields.extend(report.layers.iter().map(|layer| ("layer", layer_text(layer))));
    fields.extend(
        report.kept.iter().map(|kept| ("stays float", format!("{} {}: {}", kept.operator, kept.name, kept.why))),
    );
    fields.extend(report.outputs.iter().map(|output| ("output", output_text(output))));
    if let Some(accuracy) = report.accuracy {
        let [before, after] = [accuracy.before, accuracy.after].map(|share| 100.0 * share);
        fields.push(("accuracy", format!("{before:.2} % before, {after:.2} % after")));
    }
    fields
}

/// `31.5 dB  Conv+Relu conv1  x [0, 1] / 0.00392 + -128 …`
fn layer_text(layer: &LayerReport) -> String {
    let snr = layer.snr_db.map_or_else(|| "    exact".to_owned(), |snr| format!("{snr:6.1} dB"));
    let inputs: Vec<String> = layer.inputs.iter().map(tensor_text).collect();
    let weights = layer.weights.map_or_else(String::new, |weights| {
        let (least, greatest) = (weights.least, weights.greatest);
        match weights.scales {
            1 => format!(", weights in steps of {least:.3e}"),
            scales => format!(", weights in steps of {least:.3e} to {greatest:.3e} ({scales})"),
        }
    });
    let (operator, name) = (&layer.operator, &layer.name);
    format!("{snr}  {operator} {name}: {} to {}{weights}", inputs.join(" and "), tensor_text(&layer.output))
}

/// `[-1.2, 3.4] in steps of 0.018 from -128`
fn tensor_text(tensor: &Tensors) -> String {
    let Tensors { range, scale, .. } = tensor;
    format!("[{:.4}, {:.4}] in steps of {:.3e}, zero at {}", range.low, range.high, scale.scale, scale.zero)
}

fn output_text(output: &OutputReport) -> String {
    let agreement = output.agreement.map_or_else(String::new, |share| {
        format!("the greatest answer is the same in {:.2} % of rows; ", 100.0 * share)
    });
    let OutputReport { name, greatest, mean, .. } = output;
    format!("{name}: {agreement}greatest difference {greatest:.3e}, mean {mean:.3e}")
}
