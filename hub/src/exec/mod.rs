//! Bounded children: what a stranger's model may do to the hub ends at a process of its own, with
//! limits on its memory, CPU time and output.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use bellwether_hub_core::registry::{Checks, Golden};
use bellwether_protocol::manifest::Manifest;
use bellwether_protocol::policy::Policy;
use bellwether_protocol::profile::Column;
pub use bellwether_runtime::child::this_program;
use bellwether_runtime::child::{Limits, asked};
use bellwether_runtime::{ExamineError, PrepareError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Name of the hidden subcommand that every program has which may serve as checker.
pub const SUBCOMMAND: &str = "check-package";
/// Most of what a child may answer: a manifest and an operator table.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Limits of a check.
#[derive(Clone, Debug)]
pub struct Checker {
    /// The program; this one if absent.
    pub program: Option<PathBuf>,
    /// CPU time, in seconds; the wall time is twice that.
    pub cpu_seconds: u64,
    /// Address space, in MiB.
    pub memory_mib: u64,
}

/// What a package is, found by checking it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// Its manifest.
    pub manifest: Manifest,
    /// What was found.
    pub checks: Checks,
    /// What it asks of devices.
    pub policy: Policy,
    /// What its values looked like where it was made.
    pub baseline: Vec<Column>,
}

/// Why a package is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CheckError {
    /// Its golden vectors are not reproduced.
    #[error("{0}")]
    Golden(String),
    /// It is malformed or does not load.
    #[error("{0}")]
    Refused(String),
    /// It took too much, or crashed the process that checked it.
    #[error("checking it {0}")]
    Killed(String),
    /// The hub could not check.
    #[error("the hub cannot run its checker: {0}")]
    Fault(String),
}

impl Checker {
    /// Checks a package in a child process.
    ///
    /// # Errors
    ///
    /// [`CheckError`].
    pub async fn check(&self, package: Bytes) -> Result<Examined, CheckError> {
        let fault = |error: std::io::Error| CheckError::Fault(error.to_string());
        let program = self.program.clone().unwrap_or_else(this_program);
        let limits = Limits { cpu_seconds: self.cpu_seconds, memory_kib: self.memory_mib.saturating_mul(1024) };
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .args(limits.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(fault)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(CheckError::Fault("its pipes are missing".to_owned()));
        };
        let mut answer = Vec::new();
        let run = async {
            let write = async {
                // A child that died does not read on; its exit tells why.
                let _written = input.write_all(&package).await;
                drop(input);
            };
            let mut limited = output.take(ANSWER_BYTES_MAX);
            let (_, read) = tokio::join!(write, limited.read_to_end(&mut answer));
            read?;
            child.wait().await
        };
        let limit = Duration::from_secs(self.cpu_seconds.saturating_mul(2));
        let status = tokio::time::timeout(limit, run)
            .await
            .map_err(|_| CheckError::Killed(format!("took longer than {} s", limit.as_secs())))?
            .map_err(fault)?;
        if answer.is_empty() {
            return Err(CheckError::Killed(format!(
                "ended the checker ({status}): too much memory or time, or a crash"
            )));
        }
        let answer: Result<Examined, CheckError> = serde_json::from_slice(&answer)
            .map_err(|error| CheckError::Killed(format!("gave no answer ({status}): {error}")))?;
        answer
    }
}

/// Runs as the child if the arguments say so; every program that contains a hub calls this first.
#[must_use]
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = asked(SUBCOMMAND)?;
    let bounded = match Limits::read(&mut arguments) {
        Some(limits) => limits.apply(),
        None => Err(std::io::ErrorKind::InvalidInput.into()),
    };
    let answer = match bounded {
        Ok(()) => examine_input(),
        Err(error) => Err(CheckError::Fault(format!("limits cannot be set: {error}"))),
    };
    let written = serde_json::to_writer(std::io::stdout().lock(), &answer);
    Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine_input() -> Result<Examined, CheckError> {
    let mut package = Vec::new();
    std::io::stdin().lock().read_to_end(&mut package).map_err(|error| CheckError::Fault(error.to_string()))?;
    examine(&package)
}

/// Checks a package in this process: what the child does.
///
/// # Errors
///
/// [`CheckError::Golden`] or [`CheckError::Refused`].
pub fn examine(package: &[u8]) -> Result<Examined, CheckError> {
    let examined = bellwether_runtime::examine(package).map_err(|error| match error {
        ExamineError::Model(PrepareError::Golden(_)) => CheckError::Golden(error.to_string()),
        ExamineError::Package(_)
        | ExamineError::NoModel
        | ExamineError::Tensors
        | ExamineError::NotDeployable(_)
        | ExamineError::Model(_) => CheckError::Refused(error.to_string()),
    })?;
    let facts = examined.facts.as_ref();
    let golden = examined.golden.as_ref().map(|verdict| Golden {
        rows: u32::try_from(verdict.rows).unwrap_or(u32::MAX),
        runtime: verdict.made_by.clone(),
    });
    Ok(Examined {
        checks: Checks {
            advice: examined.deployable.err(),
            golden,
            operators: facts.map(|facts| facts.operators.clone()).unwrap_or_default(),
            opset: facts.map_or(0, |facts| facts.opset),
            parameters: facts.map_or(0, |facts| facts.parameters),
            memory_kib: facts.map_or(0, |facts| facts.memory_kib),
        },
        manifest: examined.manifest,
        policy: examined.policy,
        baseline: examined.baseline,
    })
}
