//! From the hub to the device.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limit::MODELS_MAX;
use crate::trust::Signed;

/// What the hub sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "no allocation here; one message is decoded at a time")]
pub enum Down<'a> {
    /// The whole desired state with its proof; on `down/desired`.
    #[serde(borrow)]
    Desired(Desired<'a>),
    /// A signed [`crate::trust::Command`]; on `down/cmd`.
    Command(Signed<'a>),
    /// A signed [`crate::trust::Ack`]; on `down/ack`.
    Ack(Signed<'a>),
    /// One chunk; on `down/x/{transfer}/{n}`.
    Chunk(Chunk<'a>),
    /// The digests of all chunks; on `down/x/{transfer}/table`.
    Table(Table<'a>),
    /// The next signed [`crate::trust::Root`]; on `down/trust`, as all that follow.
    Root(Signed<'a>),
    /// A signed [`crate::trust::Recall`].
    Recall(Signed<'a>),
    /// A signed [`crate::trust::Checkpoint`].
    Checkpoint(Signed<'a>),
    /// A signed [`crate::trust::Epoch`].
    Epoch(Signed<'a>),
}

/// A signed [`crate::trust::Assignment`] and, for each release it names, what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired<'a> {
    /// The assignment, signed by the director.
    #[serde(borrow)]
    pub assignment: Signed<'a>,
    /// One for each release in the assignment, in any order.
    pub evidence: Vec<Evidence<'a>, MODELS_MAX>,
}

/// What proves that a device may install a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence<'a> {
    /// A [`crate::trust::Release`], signed by its publisher and approvers.
    #[serde(borrow)]
    pub release: Signed<'a>,
    /// A [`crate::trust::StageGrant`] for it that reaches the device; absent when the device goes
    /// back to a release it once committed.
    pub grant: Option<Signed<'a>>,
}

/// A chunk's bytes; its number is in the topic, its digest in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// At most [`crate::limit::CHUNK_BYTES`].
    pub bytes: &'a [u8],
}

/// The digests of all chunks in order, 32 bytes each; their digest is in the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table<'a> {
    /// A multiple of 32 bytes.
    pub digests: &'a [u8],
}
