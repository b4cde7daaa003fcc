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
    /// Whether its process is there and waits for a call.
    pub(crate) fn is_up(&self) -> bool {
        self.0.is_up()
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
        (Self { program, patience, call, memory_kib, crashes }, told)
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
        frames::request(&mut self.frame, &inputs)?;
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
