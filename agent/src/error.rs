//! Why an agent does not start or does not go on, each saying what to do next; why an install failed.

use std::io;
use std::path::PathBuf;

use bellwether_protocol::error::Reject;
use bellwether_runtime::ExamineError;

use crate::config::ConfigError;
use crate::ended::Ended;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{what} {}: {why}", path.display())]
    Disk { what: &'static str, path: PathBuf, why: io::Error },
    #[error("{}: {why}", path.display())]
    Key { path: PathBuf, why: &'static str },
    #[error("the store in {} cannot be opened: {why}; does another agent use this directory?", path.display())]
    Store { path: PathBuf, why: String },
    #[error("the store failed: {0}")]
    Storage(String),
    #[error(
        "this device is not enrolled: start it with --token TOKEN (an admin makes one with `bellwether device token`)"
    )]
    NotEnrolled,
    #[error("the token is not readable: expected bw1.FLEET.SECRET as the hub's command line printed it, whole")]
    BadToken,
    #[error("the hub at {hub} cannot be reached: {why}; is the address right and the hub running?")]
    Unreachable { hub: String, why: String },
    #[error("the hub at {hub} answered something unexpected: {why}; is it a Bellwether hub of this version?")]
    Misbehaved { hub: String, why: String },
    #[error(
        "the hub serves another fleet than the token names ({why}): do not trust it, or ask for a token of this hub"
    )]
    WrongFleet { why: Reject },
    #[error("this directory belongs to fleet {have}, the token to fleet {asked}: use another --data")]
    OtherFleet { have: String, asked: String },
    #[error("the hub refuses to enrol this device: {detail} {hint}")]
    Refused { code: String, detail: String, hint: String },
    #[error("cannot listen on {at}: {why}; choose another address with --listen")]
    Listen { at: String, why: io::Error },
}

impl AgentError {
    /// The exit code of the program: 2 configuration, 3 the hub refuses, 4 the hub is not there,
    /// 5 the device's disk, 1 anything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NotEnrolled | Self::BadToken | Self::OtherFleet { .. } | Self::Listen { .. } => 2,
            Self::Refused { .. } | Self::WrongFleet { .. } => 3,
            Self::Unreachable { .. } => 4,
            Self::Disk { .. } | Self::Key { .. } | Self::Store { .. } | Self::Storage(_) => 5,
            Self::Misbehaved { .. } => 1,
        }
    }
}

/// Why a step of an install failed: a code for the hub, a cause for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) reject: Reject,
    pub(crate) cause: String,
    /// How the process that had the model ended, if one did.
    pub(crate) ended: Option<Ended>,
}

impl From<Reject> for Failed {
    fn from(reject: Reject) -> Self {
        Self { reject, cause: reject.text().to_owned(), ended: None }
    }
}

impl From<io::Error> for Failed {
    fn from(why: io::Error) -> Self {
        let reject = bellwether_agent_disk::reject(&why);
        Self { reject, cause: format!("{}: {why}", reject.text()), ended: None }
    }
}

impl From<ExamineError> for Failed {
    fn from(why: ExamineError) -> Self {
        Self { reject: why.reject(), cause: why.to_string(), ended: None }
    }
}
