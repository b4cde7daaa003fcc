//! What takes releases out of use: recalls, and checkpoints that say which recalls there are.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{Statement, StatementType};
use crate::digest::Digest;
use crate::id::{ModelName, Version};
use crate::limit::{MODELS_MAX, RECALL_RELEASES_MAX, RECALLS_MAX};

/// Releases of one model that must not run any more. One approver signs it, for stopping is
/// cheaper than starting; a recalled version comes back only as a new release, which takes k.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// The model.
    pub name: ModelName,
    /// Digests of the bodies of the releases.
    pub releases: Vec<Digest, RECALL_RELEASES_MAX>,
    /// What a device does that runs one of them and has nothing lawful to go back to.
    pub otherwise: Otherwise,
}

impl Statement for Recall {
    const TYPE: StatementType = StatementType::Recall;
}

/// What happens to a recalled release that runs and has no lawful one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Otherwise {
    /// It goes on answering until another one is installed.
    Keep,
    /// Nothing answers.
    Stop,
}

impl Otherwise {
    /// The choice in `snake_case`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Stop => "stop",
        }
    }
}

/// One recalled release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recalled {
    /// The model.
    pub name: ModelName,
    /// Digest of the release's body.
    pub release: Digest,
    /// Whether nothing answers rather than this ([`Otherwise::Stop`]).
    pub stop: bool,
}

/// All recalls and floors in force, numbered: whoever knows number n knows what came before it.
/// Signed by an approver or by a witness outside the hub; with floors in it, by as many persons as
/// approve a release, since a floor can lock a fleet out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Counts up.
    pub number: u64,
    /// Every recall in force.
    pub recalls: Vec<Recalled, RECALLS_MAX>,
    /// Least versions in force; they hold until a later checkpoint says otherwise.
    pub floors: Vec<Floor, MODELS_MAX>,
}

impl Statement for Checkpoint {
    const TYPE: StatementType = StatementType::Checkpoint;
}

/// The least version of a model that may be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
}
