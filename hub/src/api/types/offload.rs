//! Where rows are scored of a model that an FPGA takes, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a device has to offload models to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Software that gives the answers of an engine, where there is none.
    Twin,
    /// The engine's gateware in simulation, cycle by cycle.
    Simulated,
    /// The engine in an iCE40 UP5K.
    Ice40Up5k,
}

impl Accelerator {
    /// What it is, for people: a simulation and a twin are called so.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Twin => "software twin",
            Self::Simulated => "simulated gateware",
            Self::Ice40Up5k => "iCE40 UP5K",
        }
    }
}

/// Who scores a model whose package has a bitstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoredBy {
    /// The twin: the engine is another model's, or nobody has called yet.
    Waiting,
    /// The engine.
    Engine,
    /// The twin: the engine failed, or there is none.
    Twin,
}

impl ScoredBy {
    /// Who scores, for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "twin, waiting",
            Self::Engine => "engine",
            Self::Twin => "twin",
        }
    }
}

/// Where rows were scored of the version that answers, since the device first spoke of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OffloadView {
    /// What the device has.
    pub accelerator: Accelerator,
    /// First four bytes of the SHA-256 of what the engine was built from, in hexadecimal, as it says
    /// itself; absent of a twin, and before it was asked.
    pub build: Option<String>,
    /// Who scores now.
    pub by: ScoredBy,
    /// Rows that the engine scored.
    pub engine_rows: u64,
    /// Rows that its twin scored, in software.
    pub twin_rows: u64,
    /// Cycles of the engine for a row, on average; absent while it scored none.
    pub cycles_per_row: Option<u64>,
    /// Multiplications that the network asks for in a row, on average; absent while the engine scored none.
    pub macs_per_row: Option<u64>,
    /// Of these in a cycle, as per mille of the 8 that the engine's array does for one column:
    /// 1000 is a dense layer without a pause, and convolutions, which take two columns at once, come
    /// to at most 2000. Absent while it scored none.
    pub utilisation: Option<u32>,
    /// Cycles in a millisecond.
    pub clock_khz: u32,
    /// Microseconds of the engine for a row: its cycles at this clock, without the way there and back,
    /// and as if a simulation ran as fast. Absent while it scored none, or if the clock is not known.
    pub us_per_row: Option<u64>,
    /// Faults of the engine after which it scored again.
    pub recovered: u64,
    /// The latest fault; absent if there was none.
    pub cause: Option<String>,
}

#[cfg(test)]
impl OffloadView {
    /// Of an engine that fell once: nine rows of ten are its own.
    pub(crate) fn example(accelerator: Accelerator, by: ScoredBy) -> Self {
        Self {
            accelerator,
            build: Some("1234abcd".to_owned()),
            by,
            engine_rows: 1_797,
            twin_rows: 203,
            cycles_per_row: Some(11_405),
            macs_per_row: Some(84_224),
            utilisation: Some(923),
            clock_khz: 24_000,
            us_per_row: Some(475),
            recovered: 1,
            cause: None,
        }
    }
}
