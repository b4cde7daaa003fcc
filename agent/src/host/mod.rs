//! Hosts: each model that answers is loaded and scored in a process of its own, which is started
//! again when it ends.
//!
//! ```text
//!  score ── Host::run ── inputs ──> socket ──> child: tract
//!             │     <── outputs ──    │          limits on address space, CPU time, wall time
//!             v                       │          ended with the agent, or with its Host
//!            Line <──── up, away ── keeper: starts it, hands it the package, reads its log,
//!                                     │     waits for its end, starts it again ever later
//!                                     └──> Crash ──> drive ──> brain: take it back, or count
//! ```
//!
//! A call is answered by one child or not at all: the call in which a child ends is not repeated on
//! the next one, as it may be what ended it. Whoever calls while there is none is told so at once.

mod child;
mod frames;
mod keeper;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as channel};
use std::time::{Duration, Instant};

use bellwether_agent_core::update::Held;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::manifest::TensorSignature;
use bellwether_protocol::trust::Running;
use bellwether_runtime::{ScoreError, Scorer, Tensor, arrange};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::ended::program_of;
use crate::error::Failed;
use crate::offload::{Offloaded, Setup};
use crate::slot::ModelDir;
pub(crate) use child::run_if_child;
use frames::{Broken, Connection};
use keeper::{Keeper, Line};

/// Name of the hidden subcommand that every program has in which agents run.
const SUBCOMMAND: &str = "host-model";
/// How long a call keeps a thread that others wait for; longer ones let it go.
const INLINE_MAX: Duration = Duration::from_millis(20);
/// Crashes not looked at yet: a few of each model.
const CRASHES_WAITING_MAX: usize = 32;

/// How models are hosted.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// The program; this one if absent.
    program: Option<PathBuf>,
    /// How long a model may take to load.
    patience: Duration,
    /// How long one call may take.
    call: Duration,
    /// Memory that a model may take, in KiB.
    memory_kib: u32,
    crashes: mpsc::Sender<Crash>,
    /// What models are offloaded to, and who is told of it.
    offload: Option<(Arc<Setup>, mpsc::Sender<Offloaded>)>,
}

/// The release in a slot that a host has.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: ModelDir,
    pub(crate) name: ModelName,
    pub(crate) held: Held,
}

/// A model's process ended.
#[derive(Debug)]
pub(crate) struct Crash {
    pub(crate) name: ModelName,
    pub(crate) running: Running,
    pub(crate) failed: Failed,
    /// Whether it cannot be started again, as its package is not what it was.
    pub(crate) is_final: bool,
}

/// Why there is no process with the model.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The package was refused: it would be again.
    Refused(Failed),
    /// The process ended, or could not be started: it may work another time.
    Died(Failed),
}

impl Fault {
    pub(crate) fn into_failed(self) -> Failed {
        match self {
            Self::Refused(failed) | Self::Died(failed) => failed,
        }
    }
}

/// A model in a process of its own. The process ends with this.
#[derive(Debug)]
pub(crate) struct Host {
    signature: TensorSignature,
    line: Arc<Line>,
    call: Duration,
    frame: Vec<u8>,
}

/// How a host is.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Line>);

impl Pulse {
    /// Whether its process is there and has loaded the model.
    pub(crate) fn is_up(&self) -> bool {
        self.0.is_up()
    }

    /// From now on those who call get what it says.
    pub(crate) fn answers(&self) {
        self.0.answers();
    }

    /// Whether a call takes so long just now that nobody should wait for its end on a thread that
    /// others wait for.
    pub(crate) fn is_slow(&self) -> bool {
        self.0.is_slow()
    }
}

impl Hosts {
    /// Hosts by `program`, which load within `patience_ms` and answer within `call_ms`, of models that
    /// take at most `memory_kib`; and what is told of their crashes.
    pub(crate) fn new(
        program: Option<PathBuf>,
        patience_ms: u64,
        call_ms: u64,
        memory_kib: u32,
    ) -> (Self, mpsc::Receiver<Crash>) {
        let (crashes, told) = mpsc::channel(CRASHES_WAITING_MAX);
        let (patience, call) = (Duration::from_millis(patience_ms), Duration::from_millis(call_ms));
        (Self { program, patience, call, memory_kib, crashes, offload: None }, told)
    }

    /// The same, with something to offload models to if there is; and what is told of that.
    pub(crate) fn offloading(self, setup: Option<Setup>) -> (Self, mpsc::Receiver<Offloaded>) {
        let (tell, told) = mpsc::channel(CRASHES_WAITING_MAX);
        (Self { offload: setup.map(|setup| (Arc::new(setup), tell)), ..self }, told)
    }

    /// Starts a process with the package of `place`, which was read and hashed as `package`, and waits
    /// until that has loaded it. Where it has not, the host goes on trying for as long as it is kept.
    pub(crate) fn start(
        &self,
        place: Place,
        signature: TensorSignature,
        package: Vec<u8>,
    ) -> (Host, Result<(), Fault>) {
        let line = Arc::new(Line::default());
        let host = Host { signature, line: Arc::clone(&line), call: self.call, frame: Vec::new() };
        let (first, loaded) = channel::channel();
        let keeper = Keeper::new(self.clone(), place, line);
        let outcome = match keeper.spawn(package, first) {
            Ok(()) => loaded.recv().unwrap_or_else(|_| Err(Fault::Died(Reject::Crashed.into()))),
            Err(why) => Err(Fault::Died(self.cannot_run(&why))),
        };
        (host, outcome)
    }

    fn cannot_run(&self, why: &io::Error) -> Failed {
        let program = program_of(self.program.as_ref());
        let cause =
            format!("the model's process cannot be run: {why}; is {} there, and memory for it?", program.display());
        Failed { reject: Reject::Crashed, cause, ended: None }
    }
}

impl Host {
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.line))
    }

    /// Sends the frame that is ready and waits for the answer.
    fn exchange(&self, connection: &mut Connection) -> Result<Result<Vec<Tensor>, ScoreError>, Broken> {
        let begun = Instant::now();
        let until = begun + self.call;
        connection.send(&self.frame, Some(until))?;
        let length = match connection.receive(Some(begun + INLINE_MAX.min(self.call))) {
            Err(Broken::Silent) => self.line.slowly(|| patiently(|| connection.receive(Some(until))))?,
            received => received?,
        };
        let result = frames::answer(connection.frame(length), &self.signature.outputs).map_err(Broken::Garbled);
        connection.settle();
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.line.close();
    }
}

impl Scorer for Host {
    fn signature(&self) -> &TensorSignature {
        &self.signature
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
        let inputs = arrange(&self.signature, inputs)?;
        frames::request(&mut self.frame, self.line.is_answering(), &inputs)?;
        let (life, mut connection) = self.line.take().map_err(ScoreError::Away)?;
        match self.exchange(&mut connection) {
            Ok(result) => {
                self.line.put(life, connection);
                result
            }
            Err(broken) => {
                let blame = match &broken {
                    Broken::Silent => Some(format!("a call took longer than {} ms", self.call.as_millis())),
                    Broken::Garbled(what) => Some(format!("it answered a call with {what}")),
                    // How it ended says why.
                    Broken::HungUp | Broken::Socket(_) => None,
                };
                let told = blame.clone().unwrap_or_else(|| "it ended in this call".to_owned());
                self.line.give_up(life, blame);
                Err(ScoreError::Away(told))
            }
        }
    }
}

/// Waits where others need this thread: what else waits for it goes on elsewhere.
fn patiently<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use bellwether_agent_core::update::{Slot, Target};
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::trust::Exit;

    use super::*;
    use crate::score::tests::{Constant, running, x};
    use crate::slot::Slots;

    const PACKAGE: &[u8] = b"package";
    /// Takes the package: its length and its bytes.
    const TAKE: &str = "head -c 15 <&0 >/dev/null";
    const READY: &str = r#"printf '\051\0\0\0{"reject":null,"cause":"","peak_kib":777}' >&0"#;
    /// Waits for a call.
    const CALLED: &str = "head -c 4 <&0 >/dev/null";

    struct Stage {
        dir: tempfile::TempDir,
        hosts: Hosts,
        told: mpsc::Receiver<Crash>,
    }

    impl Stage {
        /// Hosts by a program that does `script` with the socket as its standard input.
        fn new(script: &str, patience_ms: u64, call_ms: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("program");
            // Written by another process: what a process has open for writing it may fail to start.
            let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
            assert!(Command::new("sh").arg("-c").arg(write).arg(&program).arg(script).status().unwrap().success());
            let (hosts, told) = Hosts::new(Some(program), patience_ms, call_ms, 1024);
            Self { dir, hosts, told }
        }

        fn slot(&self) -> ModelDir {
            Slots::new(self.dir.path()).of(&"digits".parse().unwrap()).unwrap()
        }

        fn start(&self) -> (Host, Result<(), Fault>) {
            let dir = self.slot();
            std::fs::write(dir.package(Slot::A), PACKAGE).unwrap();
            let package = bellwether_runtime::prepare::package_ref(PACKAGE);
            let target = Target { running: running(1), package, tensors: Digest([0; 32]), floor: 0 };
            let held = Held { target, slot: Slot::A };
            let place = Place { dir, name: "digits".parse().unwrap(), held };
            self.hosts.start(place, Constant::boxed(1.0).signature().clone(), PACKAGE.to_vec())
        }

        fn crash(&mut self) -> (Failed, bool) {
            let crash = self.told.blocking_recv().unwrap();
            assert_eq!((crash.name.as_str(), crash.running), ("digits", running(1)));
            (crash.failed, crash.is_final)
        }
    }

    fn of(steps: &[&str]) -> String {
        steps.join("\n")
    }

    fn away(host: &mut Host) -> String {
        match host.run(&[x(1, 0.0)]) {
            Err(ScoreError::Away(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_child_that_lies_hangs_or_dies_costs_its_call_and_is_replaced() {
        for (last, call, told) in [
            (r"printf '\1\0\0\0\7' >&0; exec sleep 100", "an answer of no known kind", "an answer of no known kind"),
            (r"printf '\0\0\0\0' >&0; exec sleep 100", "an empty answer", "an empty answer"),
            (r"printf '\377\377\377\377' >&0; exec sleep 100", "too large", "a frame that is too large"),
            (r"printf '\1\0\0\0\1\1' >&0; exec sleep 100", "more than was asked", "more than was asked"),
            ("exec sleep 100", "took longer than 200 ms", "a call took longer than 200 ms"),
            ("echo dying >&2; kill -SEGV $$", "it ended in this call", "signal: 11 (SIGSEGV)"),
        ] {
            let mut stage = Stage::new(&of(&[TAKE, READY, CALLED, last]), 60_000, 200);
            let (mut host, loaded) = stage.start();
            loaded.unwrap();
            for life in 0..2 {
                let why = away(&mut host);
                assert!(why.contains(call), "{last}: {why}");
                let (failed, is_final) = stage.crash();
                assert!(failed.cause.contains(told) && !is_final, "{last}: {}", failed.cause);
                let ended = failed.ended.unwrap();
                assert!(ended.peak_kib >= 777, "{}", ended.peak_kib);
                if last.starts_with("echo") {
                    assert_eq!((ended.exit, ended.log.as_slice()), (Exit::Signal(11), &b"dying\n"[..]));
                }
                let begun = Instant::now();
                while life == 0 && !host.pulse().is_up() {
                    assert!(begun.elapsed() < Duration::from_secs(20), "{last}: it never came back");
                    std::thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn a_child_that_refuses_or_never_loads_is_told_apart() {
        let refuse = r#"printf '\051\0\0\0{"reject":81,"cause":"no","peak_kib":777}' >&0; exit 3"#;
        for (script, patience_ms, is_refused, reject, cause) in [
            (of(&[TAKE, refuse]), 60_000, true, Reject::GoldenMismatch, "no"),
            (of(&[TAKE, "exec sleep 100"]), 100, false, Reject::Crashed, "longer than 100 ms to load"),
            ("exit 7".to_owned(), 60_000, false, Reject::Crashed, "ended with code 7"),
            (of(&[TAKE, r"printf '\2\0\0\0{}' >&0; exec sleep 100"]), 60_000, false, Reject::Crashed, "does not read"),
        ] {
            let (_host, loaded) = Stage::new(&script, patience_ms, 100).start();
            let fault = loaded.unwrap_err();
            assert_eq!(matches!(fault, Fault::Refused(_)), is_refused, "{cause}: {fault:?}");
            let failed = fault.into_failed();
            assert!(failed.reject == reject && failed.cause.contains(cause), "{failed:?}");
        }
        let mut stage = Stage::new("", 60_000, 100);
        stage.hosts.program = Some(stage.dir.path().join("none"));
        let failed = stage.start().1.unwrap_err().into_failed();
        assert!(failed.cause.contains("/none there"), "{}", failed.cause);
    }

    #[test]
    fn what_is_started_again_is_what_was_hashed_or_nothing() {
        let mut stage = Stage::new(&of(&[TAKE, READY, CALLED]), 60_000, 10_000);
        let (mut host, loaded) = stage.start();
        loaded.unwrap();
        std::fs::write(stage.slot().package(Slot::A), b"another").unwrap();
        assert!(away(&mut host).contains("ended in this call"));
        assert!(!stage.crash().1);
        let (failed, is_final) = stage.crash();
        assert!(failed.reject == Reject::DigestMismatch && is_final, "{failed:?}");
        assert!(!away(&mut host).is_empty());
    }

    #[test]
    fn a_child_ends_with_its_host() {
        let stage = Stage::new(&of(&[TAKE, READY, "exec sleep 100"]), 60_000, 10_000);
        let (host, loaded) = stage.start();
        loaded.unwrap();
        let pulse = host.pulse();
        assert!(pulse.is_up());
        drop(host);
        drop(stage.hosts);
        let mut told = stage.told;
        // The keeper lets go of its end when the child is reaped.
        assert!(told.blocking_recv().is_none() && !pulse.is_up());
    }
}
