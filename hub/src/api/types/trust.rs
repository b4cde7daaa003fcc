//! Keys that ask to be listed, and what an approver looks at before signing, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::VersionView;

/// Asks for a key to be listed in the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequestRequest {
    /// Its public half, in hexadecimal.
    pub public: String,
    /// Whose it is; thresholds count persons.
    pub person: String,
    /// Where its private half lives: `file`, `ssh-agent`, `pkcs11` or `browser`.
    pub class: String,
    /// What its owner calls it.
    pub name: String,
}

/// A key that asks to be listed in the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRequestView {
    /// The key's id, which is the request's too.
    pub id: String,
    /// Its public half.
    pub public: String,
    /// Whose it is, as the asker says.
    pub person: String,
    /// Where its private half lives, as the asker says.
    pub class: String,
    /// What its owner calls it.
    pub name: String,
    /// When it was asked for.
    pub at_ms: u64,
    /// By which token or session.
    pub by: String,
}

/// Rejects a version that waits for approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectRequest {
    /// Why; the publisher reads it.
    pub reason: String,
}

/// A rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectionView {
    /// Who.
    pub person: String,
    /// Why.
    pub why: String,
    /// When.
    pub at_ms: u64,
}

/// What an approver looks at before signing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalDetail {
    /// The version that waits.
    pub version: VersionView,
    /// The version that most devices run now.
    pub running: Option<VersionView>,
    /// The fleet; part of what is signed.
    pub fleet: String,
    /// The exact bytes of the release's body, in hexadecimal; absent before it was published.
    pub body: Option<String>,
    /// The exact bytes that a key signs, in hexadecimal: `"BWL1" 0x00 0x02 fleet body`.
    pub bytes: Option<String>,
    /// The digest of the body as words, to be read to one another.
    pub words: Option<String>,
    /// Once it is committed, no version below this comes back; 0 for none.
    pub floor: u32,
    /// What the root asks of an approval.
    pub policy: ApprovalPolicyView,
}

/// What the root asks of an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalPolicyView {
    /// Distinct persons who must approve, besides the publisher.
    pub needed: u32,
    /// The persons who could: with an active key for this model, the publisher left out.
    pub persons: Vec<String>,
    /// Whether one of them must sign with a key outside browsers.
    pub offline: bool,
    /// Whether such a signature was given.
    pub offline_given: bool,
}
