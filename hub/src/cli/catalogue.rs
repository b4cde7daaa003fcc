//! What may be typed about models and their versions.

use std::path::PathBuf;

use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_runtime::lower::Bound;
use clap::{Args, Subcommand};

use super::args::{milliseconds, pair, share};

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Check, package, upload and sign a model as the next version of a name
    #[command(
        after_help = "Example:\n  bellwether model register digits model.onnx --vectors digits.npz --tag team=vision --key alice"
    )]
    Register(Box<Register>),
    /// What a model costs, what becomes of it, and whether devices can run it, without a hub
    #[command(after_help = "Examples:\n  bellwether model prepare model.onnx\n  \
                      bellwether model prepare model.onnx --vectors vectors.npz --out model.bwp")]
    Prepare(super::workbench::Prepare),
    /// Make golden vectors with onnxruntime
    #[command(after_help = "Examples:\n  bellwether model vectors model.onnx --input rows.npz --out vectors.npz\n  \
                      bellwether model vectors model.onnx --out vectors.npz --python .venv/bin/python")]
    Vectors(super::vectors::NewVectors),
    /// Make a float network one of eight bits, by a sample of its data, and say what that costs
    #[command(after_help = "Examples:\n  \
                      bellwether model quantize model.onnx --input rows.npz --out model-int8.onnx\n  \
                      bellwether model quantize model.onnx --input rows.npz --labels y --calibrate mse --out int8.onnx\n\n\
                      Half of the rows calibrate: ranges of values are taken from them. The other half judges: \
                      errors, agreement\nand accuracy are told of rows that did not calibrate.")]
    Quantize(super::quantize::Quantize),
    /// Score rows here exactly as a device would, with the time that every operator takes
    #[command(after_help = "Examples:\n  bellwether model test digits:3 --input rows.csv\n  \
                      bellwether model test model.onnx --input rows.npz -o json")]
    Test(super::workbench::Test),
    /// Score the same rows with two models, and say where they differ
    #[command(after_help = "Examples:\n  bellwether model diff digits:2 digits:3 --input rows.csv\n  \
                      bellwether model diff float.onnx int8.onnx --input rows.npz")]
    Diff(super::workbench::Diff),
    /// Sign the release of a version that was registered without a key
    #[command(after_help = "Example:\n  bellwether model publish digits:1 --key alice")]
    Publish {
        /// Model and version
        model: ModelRef,
        /// The publisher's key
        #[arg(long)]
        key: String,
        /// Sign another release of what was published before, with a new draw of who goes first, to be
        /// approved again: after its validity ended, a key of its signers was revoked, or a recall
        #[arg(long)]
        renew: bool,
        /// Let it be newly installed for so many days only; devices that cannot tell the day refuse it
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        valid_days: Option<u32>,
    },
    /// Keep the package of a version in a file, checked against its release
    #[command(after_help = "Example:\n  bellwether model download digits:1 digits-1.bwp --release digits-1.json")]
    Download {
        /// Model and version
        model: ModelRef,
        /// Where to; it must not exist
        file: PathBuf,
        /// Also the release with all its signatures, for `bellwether verify` and `bellwether sign`
        #[arg(long, value_name = "FILE")]
        release: Option<PathBuf>,
    },
    /// An approved release as an in-toto statement in a DSSE envelope, for programs that know those
    #[command(after_help = "Example:\n  bellwether model export digits:1 --out digits-1.dsse.json")]
    Export(super::export::Export),
    /// The models
    List {
        /// Only with this tag
        #[arg(long, value_name = "TAG=VALUE")]
        tag: Option<String>,
    },
    /// A model with its versions, or one version
    #[command(after_help = "Examples:\n  bellwether model show digits\n  bellwether model show digits:3")]
    Show {
        /// NAME or NAME:VERSION
        model: String,
    },
    /// Delete a version that no device desires or reports
    Delete {
        /// Model and version
        model: ModelRef,
    },
}

#[derive(Debug, Args)]
pub(super) struct Register {
    /// Name of the model
    pub(super) name: ModelName,
    /// The model's file
    pub(super) file: PathBuf,
    /// Golden vectors made by another runtime (.npz)
    #[arg(long, value_name = "FILE")]
    pub(super) vectors: Option<PathBuf>,
    /// Give a size that varies a number: `height=96`, or `image.2=96` for axis 2 of an input; may be repeated
    #[arg(long = "bind", value_name = "NAME=SIZE")]
    pub(super) sizes: Vec<Bound>,
    /// Offload the model to the FPGA of devices that have one: its bitstream, or `up5k` for the one that comes
    /// with this program
    #[arg(long, value_name = "FILE")]
    pub(super) bitstream: Option<PathBuf>,
    /// A file that travels beside the model, such as labels
    #[arg(long, value_name = "FILE")]
    pub(super) extra: Vec<PathBuf>,
    /// A sample of data (.csv, .npy, .npz), against which drift of the inputs is measured
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
    /// Rows held out of training, against which drift of the outputs is measured
    #[arg(long, value_name = "FILE")]
    pub(super) held_out: Option<PathBuf>,
    /// Latency budget: a device slower than this at the 95th percentile in probation goes back
    #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
    pub(super) max_p95_ms: Option<f64>,
    /// Collect one row in so many, where the device's own configuration allows it
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) collect_one_in: u32,
    /// Collect also rows whose most probable answer is below this share, such as 0.6
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) collect_below: Option<f64>,
    /// Most rows that a device may send a minute
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    pub(super) collect_per_minute: u16,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "TAG=VALUE", value_parser = pair)]
    pub(super) tags: Vec<(String, String)>,
    /// What it is
    #[arg(long, default_value = "")]
    pub(super) description: String,
    /// The data it was trained on
    #[arg(long)]
    pub(super) dataset: Option<String>,
    /// The training run
    #[arg(long)]
    pub(super) run: Option<String>,
    /// The publisher's key; without one the version stays a draft
    #[arg(long)]
    pub(super) key: Option<String>,
}
