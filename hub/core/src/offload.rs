//! Where the rows of a model were scored whose package has a bitstream: sums of what its device tells.
//!
//! ```text
//!   not fallen ── by the twin, after the engine or with a cause ──> fallen      What::OffloadFell
//!   not fallen <────────────── by the engine ────────────────────── fallen      What::OffloadReturned
//! ```
//! A model that waits for the engine stays what it was, and so does one whose version changes.

use bellwether_protocol::limit::CAUSE_BYTES_MAX;
use bellwether_protocol::trust::{Accelerator, Offload, ScoredBy};
use serde::{Deserialize, Serialize};

/// Multiplications in a cycle that a device may claim: an engine has eight multipliers for each of
/// two columns.
pub const MACS_PER_CYCLE_MAX: u64 = 16;

/// Where the rows of one version were scored so far by one accelerator, and who scores now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloaded {
    /// The version.
    pub version: u32,
    /// What the device has.
    pub accelerator: Accelerator,
    /// What the engine in it said last that it was built from.
    pub build: Option<u32>,
    /// Who scores.
    pub by: ScoredBy,
    /// Whether the twin took over from the engine, which has not scored since.
    pub fallen: bool,
    /// Rows that the engine scored.
    pub engine_rows: u64,
    /// Rows that its twin scored, in software.
    pub twin_rows: u64,
    /// Cycles of the engine for its rows.
    pub cycles: u64,
    /// Multiplications that the network asks for, of the engine's rows.
    pub macs: u64,
    /// Cycles in a millisecond.
    pub clock_khz: u32,
    /// Faults of the engine after which it scored again.
    pub recovered: u64,
    /// The latest fault for people, at most [`CAUSE_BYTES_MAX`] and without control characters; empty
    /// if there was none.
    pub cause: String,
}

/// What people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The twin took over, and why.
    Fell(String),
    /// The engine scores again.
    Returned,
}

impl Offloaded {
    /// What is true after a device told this. Sums begin anew for another version, and for another
    /// accelerator: what a simulation scored is not what a part did.
    pub(crate) fn after(before: Option<Self>, told: &Offload<'_>) -> (Self, Option<Turn>) {
        let cause = clean(told.cause);
        let was_fallen = before.as_ref().is_some_and(|before| before.fallen);
        let fallen = match told.by {
            ScoredBy::Engine => false,
            ScoredBy::Waiting => was_fallen,
            ScoredBy::Twin => {
                let took_over = before.as_ref().is_some_and(|before| before.by == ScoredBy::Engine);
                was_fallen || took_over || !cause.is_empty()
            }
        };
        let turn = match (was_fallen, fallen) {
            (false, true) => Some(Turn::Fell(cause.clone())),
            (true, false) => Some(Turn::Returned),
            (true, true) | (false, false) => None,
        };
        let goes_on = |before: &Self| before.version == told.version.number() && before.accelerator == told.accelerator;
        let sums = before.filter(goes_on).unwrap_or_else(|| Self::new(told));
        (Self { fallen, ..sums.add(told, cause) }, turn)
    }

    const fn new(told: &Offload<'_>) -> Self {
        Self {
            version: told.version.number(),
            accelerator: told.accelerator,
            build: None,
            by: told.by,
            fallen: false,
            engine_rows: 0,
            twin_rows: 0,
            cycles: 0,
            macs: 0,
            clock_khz: 0,
            recovered: 0,
            cause: String::new(),
        }
    }

    fn add(self, told: &Offload<'_>, cause: String) -> Self {
        // Nobody works for no rows, nor multiplies more than there are multipliers.
        let cycles = if told.engine_rows == 0 { 0 } else { told.cycles };
        let macs = told.macs.min(cycles.saturating_mul(MACS_PER_CYCLE_MAX));
        Self {
            build: told.build,
            by: told.by,
            engine_rows: self.engine_rows.saturating_add(told.engine_rows.into()),
            twin_rows: self.twin_rows.saturating_add(told.twin_rows.into()),
            cycles: self.cycles.saturating_add(cycles),
            macs: self.macs.saturating_add(macs),
            clock_khz: told.clock_khz,
            recovered: self.recovered.saturating_add(told.recovered.into()),
            // A device forgets the fault when it starts again; it is of the rows counted here.
            cause: if cause.is_empty() { self.cause } else { cause },
            ..self
        }
    }
}

/// A cause as it may be shown: no device moves a cursor or fills a disk with it.
fn clean(cause: &str) -> String {
    let mut text = String::new();
    for letter in cause.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }) {
        if text.len() + letter.len_utf8() > CAUSE_BYTES_MAX {
            break;
        }
        text.push(letter);
    }
    text
}
