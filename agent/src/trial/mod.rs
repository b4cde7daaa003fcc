//! The trial: a new model's first load, in a process of its own, so that what dies of it is not the
//! agent.
//!
//! ```text
//!  agent ── SUBCOMMAND, limits, digest, size, file ──> child: reads, loads, golden vectors
//!    ^                                                   │
//!    ├── a line of JSON: the verdict <── stdout ─────────┤
//!    ├── the end of what it logged <──── stderr ─────────┤
//!    └── VmHWM, every 1 to 20 ms <────── /proc/PID ──────┘
//! ```
//!
//! Once it has passed, [`crate::host`] starts the process in which it stays.

mod child;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Weak;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use bellwether_protocol::error::Reject;
use bellwether_protocol::trust::{Exit, PackageRef};
use bellwether_runtime::child::Limits;

use crate::ended::{Ended, Verdict, died, end, exit_of, out_of_memory_kills, peak_of, program_of, tail};
use crate::error::Failed;
pub(crate) use child::run_if_child;

/// Name of the hidden subcommand that every program has in which agents run.
const SUBCOMMAND: &str = "try-package";
/// When the memory of a child is looked at for the second time, as most small models take some
/// milliseconds; doubled up to [`SAMPLE_LAST`]. What it took after the last look before a crash is missed.
const SAMPLE_FIRST: Duration = Duration::from_millis(1);
const SAMPLE_LAST: Duration = Duration::from_millis(20);
/// Address space beside model and package: the program, and what loading takes for a moment.
const ROOM_KIB: u64 = 256 * 1024;
/// Most of what a child may answer: a code and a cause.
const VERDICT_BYTES_MAX: u64 = 64 * 1024;

/// How trials are done.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// The program; this one if absent.
    program: Option<PathBuf>,
    /// How long one may take.
    patience: Duration,
    /// Memory that a model may take, in KiB.
    memory_kib: u32,
}

/// Why a child did not end by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killed {
    TooLong,
    GivenUp,
}

impl Trial {
    /// Trials by `program`, of at most `patience_ms`, of models that take at most `memory_kib`.
    pub(crate) const fn new(program: Option<PathBuf>, patience_ms: u64, memory_kib: u32) -> Self {
        Self { program, patience: Duration::from_millis(patience_ms), memory_kib }
    }

    /// Tries the package in `file`; blocks until that has ended. Once nobody holds what `wanted`
    /// points to, it is given up.
    pub(crate) fn run(&self, file: &Path, package: &PackageRef, wanted: &Weak<()>) -> Result<Ended, Failed> {
        let kills = out_of_memory_kills();
        let begun = Instant::now();
        let (child, verdict, ended, killed) = self.watch(file, package, wanted).map_err(|why| {
            let program = program_of(self.program.as_ref());
            let cause = format!(
                "the process for the self-test cannot be run: {why}; is {} there, and memory for it?",
                program.display()
            );
            Failed { reject: Reject::Crashed, cause, ended: None }
        })?;
        tracing::info!(pid = child, exit = ?ended.exit, peak_kib = ended.peak_kib, ms = begun.elapsed().as_millis(), "trial ended");
        let (reject, cause) = match (killed, verdict, ended.exit) {
            (Some(Killed::TooLong), _, _) => {
                (Reject::SelfTestTimeout, format!("the self-test took longer than {} ms", self.patience.as_millis()))
            }
            (Some(Killed::GivenUp), _, _) => (Reject::Withdrawn, Reject::Withdrawn.text().to_owned()),
            (None, Some(Verdict { reject: None, .. }), Exit::Code(0)) => return Ok(ended),
            (None, Some(Verdict { reject: Some(reject), cause, .. }), _) => (reject, cause),
            (None, Some(Verdict { reject: None, .. }) | None, exit) => {
                died("the self-test", exit, &ended.log, out_of_memory_kills() > kills)
            }
        };
        Err(Failed { reject, cause, ended: Some(ended) })
    }

    /// Runs a child to its end, however that comes.
    fn watch(
        &self,
        file: &Path,
        package: &PackageRef,
        wanted: &Weak<()>,
    ) -> io::Result<(u32, Option<Verdict>, Ended, Option<Killed>)> {
        let begun = Instant::now();
        let mut child = self.start(file, package)?;
        let mut peak_kib = peak_of(child.id());
        let stderr = child.stderr.take();
        let (log_to, log_here) = mpsc::channel();
        let reader = std::thread::Builder::new().name("trial-log".into()).spawn(move || {
            // Nobody waits for it only when the reader below has failed.
            let _ = log_to.send(stderr.map(tail).unwrap_or_default());
        });
        if let Err(why) = reader {
            end(&mut child);
            return Err(why);
        }
        let (mut sample_every, mut killed) = (SAMPLE_FIRST, None);
        // The child's stderr is closed when it ends.
        let log = loop {
            match log_here.recv_timeout(sample_every) {
                Ok(log) => break log,
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            peak_kib = peak_kib.max(peak_of(child.id()));
            sample_every = (sample_every * 2).min(SAMPLE_LAST);
            if killed.is_none() && wanted.strong_count() == 0 {
                killed = Some(Killed::GivenUp);
                end(&mut child);
            } else if killed.is_none() && begun.elapsed() >= self.patience {
                killed = Some(Killed::TooLong);
                end(&mut child);
            }
        };
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(VERDICT_BYTES_MAX).read_to_end(&mut answer)?;
        }
        let exit = exit_of(child.wait()?);
        let verdict: Option<Verdict> = serde_json::from_slice(&answer).ok();
        peak_kib = peak_kib.max(verdict.as_ref().map_or(0, |verdict| verdict.peak_kib));
        Ok((child.id(), verdict, Ended { exit, peak_kib, log }, killed))
    }

    fn start(&self, file: &Path, package: &PackageRef) -> io::Result<Child> {
        let model_kib = u64::from(self.memory_kib).saturating_add(package.size / 1024 * 2);
        let limits = Limits {
            cpu_seconds: self.patience.as_secs().saturating_add(1),
            memory_kib: model_kib.saturating_add(ROOM_KIB),
        };
        let mut command = crate::ended::command(self.program.as_ref(), SUBCOMMAND);
        command.args(limits.arguments());
        command.arg(package.digest.to_string()).arg(package.size.to_string()).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use bellwether_runtime::child::KILL_SIGNAL;

    use super::*;

    /// A program that takes the arguments of a trial and does `script` instead.
    fn trial(dir: &tempfile::TempDir, script: &str, patience: Duration) -> Trial {
        let program = dir.path().join("program");
        // Written by another process: what a process has open for writing it may fail to start.
        let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").arg("-c").arg(write).arg(&program).arg(script).status().unwrap().success());
        Trial { program: Some(program), patience, memory_kib: 1024 }
    }

    fn package() -> PackageRef {
        bellwether_runtime::prepare::package_ref(b"package")
    }

    #[test]
    fn what_a_child_does_is_reported_with_its_memory_and_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Arc::new(());
        let run = |script: &str, patience| {
            trial(&dir, script, patience).run(Path::new("none"), &package(), &Arc::downgrade(&wanted))
        };
        let long = Duration::from_secs(60);
        let why = run("echo dying >&2; sleep 0.1; kill -SEGV $$", long).unwrap_err();
        let ended = why.ended.unwrap();
        assert_eq!(
            (why.reject, ended.exit, ended.log.as_slice()),
            (Reject::Crashed, Exit::Signal(11), &b"dying\n"[..])
        );
        assert!(ended.peak_kib > 0);
        let why = run("echo '{\"reject\":81,\"cause\":\"wrong\",\"peak_kib\":7000000}'; exit 3", long).unwrap_err();
        let ended = why.ended.unwrap();
        assert_eq!((why.reject, why.cause.as_str(), ended.exit), (Reject::GoldenMismatch, "wrong", Exit::Code(3)));
        assert_eq!(ended.peak_kib, 7_000_000);
        let why = run("exec sleep 100", Duration::from_millis(50)).unwrap_err();
        assert_eq!((why.reject, why.ended.unwrap().exit), (Reject::SelfTestTimeout, Exit::Signal(KILL_SIGNAL)));
        assert_eq!(run("echo '{\"reject\":null,\"cause\":\"\",\"peak_kib\":1}'", long).unwrap().exit, Exit::Code(0));
    }

    #[test]
    fn a_trial_that_nobody_waits_for_ends_and_one_that_cannot_start_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let long = trial(&dir, "exec sleep 100", Duration::from_secs(60));
        let why = long.run(Path::new("none"), &package(), &Weak::new()).unwrap_err();
        assert_eq!(why.reject, Reject::Withdrawn);
        let none = Trial { program: Some(dir.path().join("none")), ..long };
        let why = none.run(Path::new("none"), &package(), &Weak::new()).unwrap_err();
        assert!(why.reject == Reject::Crashed && why.cause.contains("/none there"), "{}", why.cause);
    }
}
