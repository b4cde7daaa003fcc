//! What devices send besides scores: sampled rows, failures and logs.

use std::collections::VecDeque;

use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Exit, OutboxId, Reason};
use serde::{Deserialize, Serialize};

/// Failures remembered for one device; the oldest go first.
pub const FAILURES_MAX: usize = 4;

/// Bytes of a log that was asked for: what an agent keeps of it in memory.
pub const LOGGED_BYTES_MAX: usize = 16 * 1024;

/// One row that a device scored and sent. It is stored once and then moved to files; no rule needs
/// it, so that nothing of it stays in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The device.
    pub device: DeviceId,
    /// Its outbox; with the sequence below it names this row for ever.
    pub outbox: OutboxId,
    /// Number of the record in that outbox.
    pub sequence: u64,
    /// The model and the version that answered.
    pub model: ModelRef,
    /// When it was scored, by the device's clock, which may be wrong.
    pub at: Millis,
    /// When the hub took it.
    pub taken_at: Millis,
    /// The site of the device when the hub took it: its tag `site`.
    pub site: Option<String>,
    /// Why it was sampled.
    pub reason: Reason,
    /// The row of every input, little endian, in the order of the version's tensor signature.
    #[serde(with = "hexadecimal")]
    pub inputs: Vec<u8>,
    /// The row of every output, likewise.
    #[serde(with = "hexadecimal")]
    pub outputs: Vec<u8>,
}

/// What a device told of its troubles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubles {
    /// The device.
    pub device: DeviceId,
    /// Its latest failures, the newest last.
    pub failures: VecDeque<Failed>,
    /// The log it sent when it was last asked for it.
    pub log: Option<Logged>,
}

/// Why an install failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// When, by the hub's clock.
    pub at: Millis,
    /// The version.
    pub model: ModelRef,
    /// The code.
    pub reject: Reject,
    /// The cause for people.
    pub cause: String,
    /// How the process that tried the model ended, if one of its own did.
    pub exit: Option<Exit>,
    /// Most memory that process took, in KiB; 0 if not known.
    pub peak_kib: u32,
    /// The end of the log, at most [`bellwether_protocol::limit::LOG_BYTES_MAX`] bytes as far as they came.
    pub log: Vec<u8>,
}

/// A log that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// When its last piece came, by the hub's clock.
    pub at: Millis,
    /// Pieces that are still to come.
    pub awaited: u8,
    /// Its text as far as it came.
    pub text: Vec<u8>,
}

/// Adds a piece of a log, keeping the last `bytes_max` of it.
pub(crate) fn append(log: &mut Vec<u8>, piece: &[u8], bytes_max: usize) {
    log.extend_from_slice(piece);
    let excess = log.len().saturating_sub(bytes_max);
    log.drain(..excess);
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(from)?;
        let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.ok_or_else(|| serde::de::Error::custom("not pairs of hexadecimal digits"))
    }
}
