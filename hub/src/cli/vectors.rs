//! `bellwether model vectors`: golden vectors by a second runtime. The one under test never makes its
//! own: what both compute from one file, neither computes by the other's mistakes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bellwether_runtime::lower::{Bound, bind, lowered};
use bellwether_runtime::{Cpu, Vectors, check};
use clap::Args;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::Context;
use super::failure::{Exit, Failure};
use super::home::write_new;
use super::model::contents;

/// Runs the model in onnxruntime.
const SCRIPT: &str = include_str!("vectors.py");
/// What must be installed for it.
const INSTALL: &str = "python3 -m pip install onnxruntime numpy, or --python PYTHON that has them";

#[derive(Debug, Args)]
pub(super) struct NewVectors {
    /// The model (.onnx)
    file: PathBuf,
    /// Where the vectors go (.npz); it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Rows to score (.npz with the model's input names, .npy or .csv); without it they are drawn at
    /// random, which tells less
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Give a size that varies a number, as when the model is prepared; may be repeated
    #[arg(long = "bind", value_name = "NAME=SIZE")]
    sizes: Vec<Bound>,
    /// How many rows at most
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rows: u32,
    /// What random rows are drawn from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Relative tolerance of devices
    #[arg(long, value_name = "SHARE", default_value_t = 1e-3)]
    rtol: f64,
    /// Absolute tolerance of devices
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-4)]
    atol: f64,
    /// A Python that has onnxruntime and numpy
    #[arg(long, value_name = "PROGRAM", default_value = "python3", env = "BELLWETHER_PYTHON")]
    python: PathBuf,
}

#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    rows: usize,
    made_by: String,
    agrees: bool,
    verdict: String,
}

pub(super) fn run(context: &Context, given: &NewVectors) -> Result<Exit, Failure> {
    if given.out.exists() {
        return Err(
            Failure::new(Exit::Conflict, format!("{} exists", given.out.display())).next("choose another --out")
        );
    }
    let model = contents(&given.file)?;
    let refused = |fault: &dyn std::fmt::Display| {
        Failure::new(Exit::Conflict, format!("{}: {fault}", given.file.display())).next("no vectors were made")
    };
    // What a device would run: names in the place of what only one runtime knows.
    let (model, _) = bind(&model, &given.sizes).map_err(|fault| refused(&fault))?;
    let (lowered, _) = lowered(&model).map_err(|fault| refused(&fault))?;
    let bytes = second_runtime(given, &lowered)?;
    let vectors = Vectors::read(&bytes).map_err(|fault| refused(&fault))?;
    write_new(&given.out, &bytes, 0o644)?;
    let mut scorer = Cpu::load(&lowered).map_err(|fault| {
        refused(&fault).next(format!("the vectors are in {}; devices cannot run the model", given.out.display()))
    })?;
    let verdict = check(&mut scorer, &vectors).map_err(|fault| refused(&fault))?;
    if given.input.is_none() {
        eprintln!("! the rows were drawn at random: real ones say more (--input FILE)");
    }
    let made = Made {
        file: given.out.clone(),
        rows: vectors.rows,
        made_by: format!("{} {}", vectors.meta.runtime, vectors.meta.runtime_version),
        agrees: verdict.passed,
        verdict: verdict.to_string(),
    };
    let name = given.out.display().to_string();
    let fields = [
        ("vectors", name.clone()),
        ("rows", made.rows.to_string()),
        ("made by", made.made_by.clone()),
        ("this runtime", made.verdict.clone()),
    ];
    context.output.one(&made, &fields, &name)?;
    if verdict.passed {
        Ok(Exit::Ok)
    } else {
        Err(Failure::new(Exit::Conflict, "the two runtimes disagree, so that the model cannot be registered")
            .next("bellwether model prepare says what in the model may be the cause"))
    }
}

/// The vectors, as a Python process with onnxruntime makes them.
fn second_runtime(given: &NewVectors, model: &[u8]) -> Result<Vec<u8>, Failure> {
    let fault = |fault: std::io::Error| Failure::error(format!("no temporary file: {fault}"));
    let (kept, out) = (NamedTempFile::new().map_err(fault)?, NamedTempFile::new().map_err(fault)?);
    std::fs::write(kept.path(), model).map_err(fault)?;
    let mut python = Command::new(&given.python);
    python.arg("-c").arg(SCRIPT).arg(kept.path()).arg(out.path());
    python.args([given.rows.to_string(), given.seed.to_string(), given.rtol.to_string(), given.atol.to_string()]);
    python.args(given.input.as_deref().map(Path::as_os_str));
    let ran = python
        .stdin(Stdio::null())
        .output()
        .map_err(|fault| Failure::new(Exit::NotFound, format!("{}: {fault}", given.python.display())).next(INSTALL))?;
    if ran.status.success() {
        return std::fs::read(out.path()).map_err(|fault| Failure::file(out.path(), &fault));
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let next = if last.contains("ModuleNotFoundError") { INSTALL } else { "mend the rows or the model" };
    Err(Failure::new(Exit::Conflict, format!("the second runtime: {last}")).next(next))
}
