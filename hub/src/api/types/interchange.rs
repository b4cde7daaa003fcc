//! A release as an in-toto statement in a DSSE envelope, for programs that know those and not our
//! own statements. The names of fields outside the predicate are those of in-toto and DSSE.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::GoldenView;

/// `_type` of an in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What the predicate is. The name `.example` belongs to nobody (RFC 2606), so nobody else can
/// give this name a meaning; it is not there to be fetched.
pub const PREDICATE_TYPE: &str = "https://bellwether.example/attestation/release/v1";

/// A DSSE envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvelopeView {
    /// Base64 of the statement's exact bytes.
    pub payload: String,
    /// `application/vnd.in-toto+json`.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The hub's registry key signed it.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvelopeSignature {
    /// The key's id, as the root has it.
    pub keyid: String,
    /// Base64 of an Ed25519 signature.
    pub sig: String,
}

/// An in-toto statement (v1) of one approved release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttestationView {
    /// `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The package, by its digest.
    pub subject: Vec<SubjectView>,
    /// Which predicate follows.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What the hub says of it.
    pub predicate: ReleasePredicate,
}

/// What an attestation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectView {
    /// `NAME:VERSION`.
    pub name: String,
    /// Its digest by the name of the function: `sha256`.
    pub digest: BTreeMap<String, String>,
}

/// What the hub attests of a release. It quotes the native statements, which can be checked
/// without believing the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleasePredicate {
    /// Whose word this is, in a sentence.
    pub attested: String,
    /// The fleet.
    pub fleet: String,
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// Digest of the release's body.
    pub release_digest: String,
    /// Base64 of the release with every signature, as devices get it.
    pub release: String,
    /// Base64 of the roots, the first to the latest: whose keys count.
    pub roots: Vec<String>,
    /// Who published it.
    pub publisher: Vec<AttestedSigner>,
    /// Who approved it.
    pub approvers: Vec<AttestedSigner>,
    /// What came of the golden vectors at this hub.
    pub golden: GoldenView,
    /// When this hub registered it (RFC 3339).
    pub registered_at: String,
}

/// Whoever signed a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttestedSigner {
    /// The person, as the root has it.
    pub person: String,
    /// The key's id.
    pub keyid: String,
}
