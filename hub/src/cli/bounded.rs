//! Commands that open a model run in a process of their own, with limits on memory and CPU time: a
//! model can make the runtime loop or die, and whoever tries one deserves a sentence then.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use bellwether_runtime::child::{CPU_SIGNAL, Limits, asked, die_with_parent, this_program};
use clap::Args;

use super::args;
use super::catalogue::ModelCommand;
use super::failure::{Exit, Failure};

/// Name of the hidden subcommand.
const SUBCOMMAND: &str = "bounded";

/// What opening a model may take.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Bounds {
    /// CPU time that a command which opens a model may take
    #[arg(long, global = true, env = "BELLWETHER_MODEL_SECONDS", default_value_t = 120, value_name = "SECONDS")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    model_seconds: u64,
    /// Memory that it may take, its own program included
    #[arg(long, global = true, env = "BELLWETHER_MODEL_MIB", default_value_t = 2048, value_name = "MIB")]
    #[arg(hide_short_help = true, hide_env_values = true)]
    model_mib: u64,
}

/// Whether a command opens a model here.
pub(super) const fn opens_model(command: &args::Command) -> bool {
    if let args::Command::Model(command) = command {
        return matches!(
            command,
            ModelCommand::Register(_)
                | ModelCommand::Publish { .. }
                | ModelCommand::Prepare(_)
                | ModelCommand::Vectors(_)
                | ModelCommand::Quantize(_)
                | ModelCommand::Test(_)
                | ModelCommand::Diff(_)
        );
    }
    matches!(command, args::Command::Approve(_) | args::Command::Verify(_))
}

/// What to know of a model that needs more than a command may take.
pub(super) const fn beyond(command: &args::Command) -> &'static str {
    if matches!(command, args::Command::Model(ModelCommand::Quantize(_))) {
        "fewer rows take less time"
    } else {
        "devices would refuse it as well"
    }
}

/// Runs this command line once more as a bounded child, and ends as that does.
pub(super) fn run(bounds: Bounds, words: &[OsString], beyond: &str) -> Result<Exit, Failure> {
    let limits = Limits { cpu_seconds: bounds.model_seconds, memory_kib: bounds.model_mib.saturating_mul(1024) };
    let mut child = Command::new(this_program());
    child.arg(SUBCOMMAND).args(limits.arguments()).args(words.iter().skip(1));
    let status = child.status().map_err(|fault| Failure::error(format!("no process for the model: {fault}")))?;
    if let Some(code) = status.code() {
        return Ok(Exit::of(code));
    }
    let (what, next) = if status.signal() == Some(CPU_SIGNAL) {
        (format!("the model took more than {} s of CPU time", bounds.model_seconds), "--model-seconds allows it more")
    } else {
        (format!("the model ended the process that opened it ({status})"), "--model-mib allows it more memory")
    };
    Err(Failure::new(Exit::Conflict, what).next(format!("{beyond}; {next}")))
}

/// Runs as the child if the arguments say so.
pub(super) fn run_if_child(run: impl FnOnce(Vec<OsString>) -> Exit) -> Option<ExitCode> {
    let mut words = asked(SUBCOMMAND)?;
    let bounded = match Limits::read(&mut words) {
        Some(limits) => die_with_parent().and_then(|()| limits.apply()),
        None => Err(std::io::ErrorKind::InvalidInput.into()),
    };
    if let Err(fault) = bounded {
        return Some(Failure::error(format!("limits cannot be set: {fault}")).report().code());
    }
    Some(run(std::iter::once(OsString::from("bellwether")).chain(words).collect()).code())
}
