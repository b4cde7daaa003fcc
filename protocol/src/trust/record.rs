//! The numbered records of a device's outbox: what travels in a signed [`super::Batch`].

use serde::{Deserialize, Serialize};

use super::Phase;
use crate::error::Reject;
use crate::id::{ModelName, Version};
use crate::time::Millis;

/// Something that happened on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Milliseconds since 1970 by the device's clock, which may be wrong.
    pub at: Millis,
    /// What happened.
    #[serde(borrow)]
    pub body: RecordBody<'a>,
}

/// What a record says. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordBody<'a> {
    /// Scores since the previous such record.
    Scores(Scores),
    /// A step of an install.
    Event(Event),
    /// This many records were dropped here, for want of room or because they were too old.
    Gap(u64),
    /// What the values of one window looked like, or some columns of it.
    #[serde(borrow)]
    Profile(Profile<'a>),
    /// One row that was scored.
    Sample(Sample<'a>),
    /// Why an install failed, beside its [`Event`].
    Failure(Failure<'a>),
    /// A piece of the device's log.
    Log(Log<'a>),
    /// How often a model in the shadow said what the one that answers said.
    Agreement(Agreement),
    /// Where rows were scored of a model that an FPGA takes.
    Offload(Offload<'a>),
}

/// How scoring went in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores {
    /// The model.
    pub name: ModelName,
    /// The version that answered.
    pub version: Version,
    /// Rows scored.
    pub rows: u32,
    /// Calls that failed.
    pub errors: u32,
    /// Median time of a call, in microseconds.
    pub p50_us: u32,
    /// 95th percentile of the time of a call, in microseconds.
    pub p95_us: u32,
}

/// How a model in the shadow did in one window, beside the one that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The model.
    pub name: ModelName,
    /// The version in the shadow.
    pub version: Version,
    /// The version that answered.
    pub against: Version,
    /// Rows that both scored.
    pub rows: u32,
    /// Of those, how many they agreed on.
    pub agreed: u32,
    /// Rows that it did not get, as it was busy with others or its process was away.
    pub passed_by: u32,
    /// Calls that failed in the shadow alone.
    pub errors: u32,
    /// 95th percentile of the time of a call in the shadow, in microseconds.
    pub p95_us: u32,
}

/// Where rows were scored of a model whose package has a bitstream, since the previous such record of it.
/// Rows are those of calls that were answered; what a self-test scores does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload<'a> {
    /// The model.
    pub name: ModelName,
    /// The version that answered.
    pub version: Version,
    /// What the device has.
    pub accelerator: Accelerator,
    /// What the engine in it says it was built from; none before it was asked, and of a twin.
    pub build: Option<u32>,
    /// Who scores now.
    pub by: ScoredBy,
    /// Rows that the engine scored.
    pub engine_rows: u32,
    /// Rows that its twin scored, in software.
    pub twin_rows: u32,
    /// Cycles of the engine for its rows.
    pub cycles: u64,
    /// Multiplications that the network asks for, of the engine's rows.
    pub macs: u64,
    /// Cycles in a millisecond.
    pub clock_khz: u32,
    /// Faults of the engine after which it scored again.
    pub recovered: u16,
    /// The latest fault for people, at most [`crate::limit::CAUSE_BYTES_MAX`]; empty if there was none.
    pub cause: &'a str,
}

/// What a device has to offload models to. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Accelerator {
    /// Software that gives the answers of an engine, where there is none.
    Twin,
    /// The engine's gateware in simulation, cycle by cycle.
    Simulated,
    /// The engine in an iCE40 UP5K.
    Ice40Up5k,
}

impl Accelerator {
    /// In `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Twin => "twin",
            Self::Simulated => "simulated",
            Self::Ice40Up5k => "ice40_up5k",
        }
    }
}

/// Who scores a model whose package has a bitstream. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScoredBy {
    /// The twin: the engine is another model's, or nobody has called yet.
    Waiting,
    /// The engine.
    Engine,
    /// The twin: the engine failed, or there is none.
    Twin,
}

impl ScoredBy {
    /// In `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Engine => "engine",
            Self::Twin => "twin",
        }
    }
}

/// A step of an install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// Where it arrived.
    pub phase: Phase,
    /// Why it went no further.
    pub reject: Option<Reject>,
}

/// What values looked like in one window: counts in the bins of the version's baseline. A window of
/// many columns is told in several records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile<'a> {
    /// The model.
    pub name: ModelName,
    /// The version that answered, whose baseline the bins are of.
    pub version: Version,
    /// Length of the window, which ended at the record's time.
    pub span: Millis,
    /// Rows scored in it.
    pub rows: u32,
    /// Number of the first column here, in the order of the baseline.
    pub first: u16,
    /// The columns from there, one [`crate::profile::Counts`] after the other; read them with
    /// [`crate::profile::columns`].
    pub columns: &'a [u8],
}

/// One row that was scored, and its answer. What is sampled must have the shape of its tensors known
/// but for the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample<'a> {
    /// The model.
    pub name: ModelName,
    /// The version that answered.
    pub version: Version,
    /// Why this row.
    pub reason: Reason,
    /// The row of every input, little endian, in the order of the tensor signature.
    pub inputs: &'a [u8],
    /// The row of every output, likewise.
    pub outputs: &'a [u8],
}

/// Why a row was sampled. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// It was the turn of one in so many.
    Turn,
    /// The model was not sure of its answer.
    Uncertain,
}

impl Reason {
    /// The reason in `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Uncertain => "uncertain",
        }
    }
}

/// Why an install failed. The log follows as [`Log`] records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure<'a> {
    /// The model.
    pub name: ModelName,
    /// The version that failed.
    pub version: Version,
    /// The code.
    pub reject: Reject,
    /// The cause for people, at most [`crate::limit::CAUSE_BYTES_MAX`].
    pub cause: &'a str,
    /// How the process that tried the model ended, if one of its own did.
    pub exit: Option<Exit>,
    /// Most memory that process took, in KiB; 0 if not known.
    pub peak_kib: u32,
}

/// How a process ended. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A piece of a device's log; the pieces of one log follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log<'a> {
    /// What it was sent for.
    pub why: LogWhy,
    /// Number of this piece, from 0.
    pub piece: u8,
    /// How many pieces there are.
    pub pieces: u8,
    /// Its bytes, of a text in UTF-8 that may be cut anywhere; at most
    /// [`crate::limit::LOG_PIECE_BYTES_MAX`].
    pub text: &'a [u8],
}

/// Why a log was sent. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogWhy {
    /// Somebody asked.
    Asked,
    /// The [`Failure`] just before.
    Failure,
}
