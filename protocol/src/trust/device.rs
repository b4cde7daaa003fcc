//! What a device signs with its own key.

use core::fmt;
use core::str::FromStr;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{KeyId, Order, PublicKey, Record, Statement, StatementType, Tick};
use crate::digest::{Digest, hex_serde, parse_hex};
use crate::error::Reject;
use crate::id::{BadId, DeviceId, HardwareClass, ModelName, Version};
use crate::limit::{MODELS_MAX, RECORDS_MAX};

/// A device's reported state, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The device.
    pub device: DeviceId,
    /// Random at each start of the agent.
    pub boot: u64,
    /// Counts up for ever on this device; an older report is ignored.
    pub sequence: u64,
    /// The latest assignment seen.
    pub seen: Order,
    /// The agent's version: major, minor, patch.
    pub agent: [u16; 3],
    /// Newest ONNX operator set the runtime knows.
    pub operators: u16,
    /// The hardware.
    pub hardware: HardwareClass,
    /// Memory a model may take, in KiB.
    pub memory_kib: u32,
    /// Every model on the device.
    pub models: Vec<ModelReport, MODELS_MAX>,
    /// Why the latest assignment as a whole was refused, if it was.
    pub refused: Option<Reject>,
    /// Audit head of the latest assignment.
    pub audit: Digest,
}

impl Statement for Report {
    const TYPE: StatementType = StatementType::Report;
}

/// Never used before by the device that says it; what answers it is fresh.
pub type Nonce = [u8; 16];

/// What a device knows of the statements that change what counts, and its question for the time:
/// the hub answers with what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The device.
    pub device: DeviceId,
    /// New for every connection.
    pub nonce: Nonce,
    /// Version of the root it believes.
    pub root: u32,
    /// Number of the latest checkpoint; 0 before one.
    pub checkpoint: u64,
    /// As [`super::Counters::recalls_digest`].
    pub recalls: Digest,
    /// The latest logical time.
    pub tick: Option<Tick>,
}

impl Statement for Known {
    const TYPE: StatementType = StatementType::Known;
}

/// One model on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The model.
    pub name: ModelName,
    /// What answers now.
    pub active: Option<Running>,
    /// What is being installed, or was last tried.
    pub target: Option<Running>,
    /// How far the target is.
    pub phase: Phase,
    /// Why the target was rejected or rolled back.
    pub reject: Option<Reject>,
    /// Per mille of the target's chunks that are on the device.
    pub progress: u16,
}

/// A release on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its version.
    pub version: Version,
    /// Digest of the release's body.
    pub release: Digest,
}

/// How far an install is, in the order in which it goes. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing in progress, nothing tried.
    Idle,
    /// Its signatures, grant and requirements are being checked.
    Checking,
    /// Waits: another install is in flight.
    Deferred,
    /// Chunks are arriving.
    Fetching,
    /// All bytes are there and have the approved digest.
    Hashed,
    /// It is in its slot, on disk.
    Staged,
    /// It is reproducing its golden vectors.
    SelfTest,
    /// The pointer is being switched.
    Activating,
    /// It answers; the previous one is kept until it proves healthy.
    Probation,
    /// It answers and stays.
    Committed,
    /// Refused before it answered.
    Rejected,
    /// The previous one is being put back.
    RollingBack,
    /// The previous one answers again.
    RolledBack,
    /// Waits: the device is not to be disturbed now.
    Held(Hold),
    /// It scores beside what answers, and answers nobody.
    Shadow,
}

/// Why a device does not go on with an install now. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hold {
    /// Its maintenance window is closed.
    Window,
    /// It has a maintenance window, and does not know the time.
    Clock,
    /// It runs on its battery.
    Power,
    /// Its connection is paid for by the byte.
    Metered,
    /// An application said that it is busy.
    Busy,
}

impl Hold {
    /// Every one, in the order in which they are told.
    pub const ALL: [Self; 5] = [Self::Window, Self::Clock, Self::Power, Self::Metered, Self::Busy];
}

impl Phase {
    /// The phase in `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking => "checking",
            Self::Deferred => "deferred",
            Self::Fetching => "fetching",
            Self::Hashed => "hashed",
            Self::Staged => "staged",
            Self::SelfTest => "self_test",
            Self::Activating => "activating",
            Self::Probation => "probation",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Held(Hold::Window) => "held_window",
            Self::Held(Hold::Clock) => "held_clock",
            Self::Held(Hold::Power) => "held_power",
            Self::Held(Hold::Metered) => "held_metered",
            Self::Held(Hold::Busy) => "held_busy",
            Self::Shadow => "shadow",
        }
    }
}

/// A run of numbered outbox records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch<'a> {
    /// The device.
    pub device: DeviceId,
    /// The outbox.
    pub outbox: OutboxId,
    /// Sequence of the oldest record the outbox still holds. Only a batch that begins there may be
    /// ahead of what the hub has taken: after a [`RecordBody::Gap`], or when the hub was restored
    /// from a backup and has forgotten what it acknowledged.
    pub oldest: u64,
    /// Sequence of the first record here, from 1; the others follow without a gap.
    pub first: u64,
    /// The records.
    #[serde(borrow)]
    pub records: Vec<Record<'a>, RECORDS_MAX>,
}

impl Statement for Batch<'_> {
    const TYPE: StatementType = StatementType::Batch;
}

/// An outbox: random at its creation, not at boot, so that numbers never start anew unseen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxId(pub [u8; 16]);
hex_serde!(OutboxId, 16);

impl FromStr for OutboxId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        parse_hex(text).map(Self).ok_or(BadId { what: "outbox id", rule: "32 lower-case hexadecimal digits" })
    }
}

impl fmt::Display for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a device signs to open an MQTT session; its counter only goes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The device.
    pub device: DeviceId,
    /// Higher than at every session before.
    pub counter: u64,
}

impl Statement for Connect {
    const TYPE: StatementType = StatementType::Connect;
}

/// What a device signs to enrol: it holds the private half of this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The name it asks for.
    pub device: DeviceId,
    /// Its key.
    pub key: PublicKey,
    /// Digest of the token's secret.
    pub token: Digest,
}

impl Statement for Enrol {
    const TYPE: StatementType = StatementType::Enrol;
}

impl Enrol {
    /// The id of the key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key.id()
    }
}
