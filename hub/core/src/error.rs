//! Who refused, and why: each refusal names the rule, its facts and the next step.

use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use bellwether_protocol::trust::{KeyId, KeyName};

/// A rule said no; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its facts are")]
pub enum Denied {
    #[error("there is no root yet")]
    NoRoot,
    #[error("this hub already has a root, of fleet {fleet}")]
    RootExists { fleet: String },
    #[error("the root does not hold: {0}")]
    BadRoot(Reject),
    #[error("the root does not list this hub's {0} key")]
    NotThisHub(&'static str),
    #[error("there is no model {0}")]
    NoModel(ModelName),
    #[error("there is no version {0}")]
    NoVersion(ModelRef),
    #[error("there is no device {0}")]
    NoDevice(DeviceId),
    #[error("there is no rollout {0}")]
    NoRollout(u64),
    #[error("{model} is in use: {by}")]
    InUse { model: ModelRef, by: String },
    #[error("version numbers of {0} are used up")]
    VersionsUsedUp(ModelName),
    #[error("{model} cannot be deployed: {advice}")]
    NotDeployable { model: ModelRef, advice: String },
    #[error("the statement is refused: {0}")]
    Statement(Reject),
    #[error("the statement names {got}, but {expected} is asked for")]
    OtherModel { expected: ModelRef, got: String },
    #[error("the release does not describe the registered package: {0}")]
    OtherPackage(&'static str),
    #[error("{0} already has a release that was signed otherwise")]
    OtherRelease(ModelRef),
    #[error("{0} has no release yet: its publisher has not signed")]
    NoRelease(ModelRef),
    #[error("{person} published {model}; approval takes other persons")]
    OwnPublication { person: String, model: ModelRef },
    #[error("{person} has signed {model} already; thresholds count persons")]
    PersonSigned { person: String, model: ModelRef },
    #[error("the signature slots of {0} are full")]
    SignaturesFull(ModelRef),
    #[error("{0} has as many grants as it can hold")]
    GrantsFull(ModelRef),
    #[error("key {key} {why}")]
    Key { key: KeyId, why: &'static str },
    #[error("the root lists no key that begins with {0}")]
    KeyUnlisted(KeyName),
    #[error("{model} is not approved: {given} given, {needed} needed")]
    NotApproved { model: ModelRef, given: usize, needed: usize },
    #[error("{person} rejected {model}: {why}")]
    Rejected { model: ModelRef, person: String, why: String },
    #[error("key {0} is not a usable Ed25519 key of a person")]
    WeakKey(KeyId),
    #[error("key {0} is listed in the root already")]
    KeyListed(KeyId),
    #[error("key {0} was asked for already, with another person, class or name")]
    KeyAsked(KeyId),
    #[error("as many key requests wait as are kept")]
    KeyRequestsFull,
    #[error("no key {0} asks to be listed")]
    NoKeyRequest(KeyId),
    #[error("{0}")]
    BadPlan(String),
    #[error("rollout {id} of {model} is still going")]
    RolloutGoing { id: u64, model: ModelRef },
    #[error("cannot {action}: {why}")]
    NotNow { action: &'static str, why: String },
    #[error("device {0} is enrolled with another key")]
    OtherKey(DeviceId),
    #[error("the batch begins at {first}, but {taken} is the last record taken")]
    OutOfOrder { first: u64, taken: u64 },
    #[error("the report is older than the latest, number {latest}")]
    OldReport { latest: u64 },
}
