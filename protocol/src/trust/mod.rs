//! Signed statements and the one verifier that hub, agent, command line and simulator call.
//!
//! What is signed is `"BWL1" 0x00 type fleet-id body`, the body being the exact bytes received;
//! nothing is written again to check a signature. Keys are Ed25519 (RFC 8032), checked strictly.
//!
//! ```text
//!  Root --lists--> keys of persons and of the hub
//!   |                  |
//!   |   Release  <-----+-- one publisher, k approvers (distinct persons)
//!   |   StageGrant <---+-- the grant threshold: whom a stage may reach
//!   |   Recall, Checkpoint <-- an approver; a witness for checkpoints
//!   |   Assignment, Command, Ack <-- the hub's director key, online
//!   |   Epoch <-- the hub's time key, answering a device's nonce
//!   |   Attestation, AuditHead <-- the hub's registry key; never stands in for a person
//!  Report, Known, Batch, Connect, Enrol <-- the device's own key
//! ```

mod counters;
mod device;
mod key;
mod online;
mod recall;
mod record;
mod release;
mod root;
mod verify;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use counters::{Counters, Tick};
pub use device::{Batch, Connect, Enrol, Hold, Known, ModelReport, Nonce, OutboxId, Phase, Report, Running};
pub use key::{FleetId, KeyId, KeyName, KeyTag, PublicKey, Signature, SignatureBytes};
pub use online::{Ack, Assignment, Attestation, AuditHead, Command, Epoch, Mode, Order, Request, Wanted};
pub use recall::{Checkpoint, Floor, Otherwise, Recall, Recalled};
pub use record::{
    Accelerator, Agreement, Event, Exit, Failure, Log, LogWhy, Offload, Profile, Reason, Record, RecordBody, Sample,
    ScoredBy, Scores,
};
pub use release::{Cohort, PackageRef, Release, Requires, StageGrant, Validity, bucket};
pub use root::{KeyClass, KeyEntry, KeyStatus, RoleSet, Root, RootFault, Thresholds};
pub use verify::{Approved, Granted, TrustedRoot, open_by};

use crate::digest::Digest;
use crate::error::Reject;
use crate::frame;
use crate::limit::{SIGNATURES_MAX, STATEMENT_BYTES_MAX};

/// The type of a statement; part of what is signed, so that no statement passes for another.
/// Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each names the statement of the same name")]
pub enum StatementType {
    Root = 1,
    Release = 2,
    StageGrant = 3,
    Recall = 4,
    Checkpoint = 5,
    Assignment = 6,
    Command = 7,
    Ack = 8,
    Epoch = 9,
    Report = 10,
    Batch = 11,
    Connect = 12,
    Enrol = 13,
    Attestation = 14,
    Known = 15,
    AuditHead = 16,
}

/// A value that can be signed.
pub trait Statement: Serialize {
    /// Which type it is signed as.
    const TYPE: StatementType;
}

/// The exact bytes of a statement and the signatures over them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<'a> {
    /// A frame with the statement; at most [`STATEMENT_BYTES_MAX`].
    pub body: &'a [u8],
    /// Signatures, in any order.
    #[serde(with = "key::list")]
    pub signatures: Vec<Signature, SIGNATURES_MAX>,
}

impl<'a> Signed<'a> {
    /// The digest of the body: how other statements refer to this one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.body)
    }

    /// Reads the statement without checking any signature: to show it, never to act on it.
    ///
    /// # Errors
    ///
    /// As [`frame::decode`], and [`Reject::TooLarge`].
    pub fn peek<T: Statement + Deserialize<'a>>(&self) -> Result<T, Reject> {
        if self.body.len() > STATEMENT_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        frame::decode(self.body)
    }
}

/// Signs a body of type `T` for a fleet.
///
/// # Errors
///
/// [`Reject::TooLarge`] above [`STATEMENT_BYTES_MAX`]; otherwise as [`frame::decode`] if the body
/// is not a `T`.
pub fn sign<'b, T: Statement + Deserialize<'b>>(
    fleet: FleetId,
    body: &'b [u8],
    key: &crate::SigningKey,
) -> Result<Signature, Reject> {
    let signature = signature(T::TYPE, fleet, body, key)?;
    frame::decode::<T>(body)?;
    Ok(signature)
}

/// The bytes that a signer outside this process signs, such as a token or an agent of keys, for a
/// body of type `T`.
///
/// # Errors
///
/// As [`sign`].
pub fn signing_bytes<'b, T: Statement + Deserialize<'b>>(
    fleet: FleetId,
    body: &'b [u8],
) -> Result<Vec<u8, MESSAGE_BYTES_MAX>, Reject> {
    let message = message(T::TYPE, fleet, body)?;
    frame::decode::<T>(body)?;
    Ok(message)
}

/// What a key in this process gives over [`signing_bytes`].
#[must_use]
pub fn signature_bytes(message: &[u8], key: &crate::SigningKey) -> [u8; 64] {
    use ed25519_dalek::Signer as _;

    key.sign(message).to_bytes()
}

/// The signature that such a signer gave over [`signing_bytes`], checked strictly: a device that
/// signs something else, or with another key, is found out here.
///
/// # Errors
///
/// [`Reject::BadSignature`].
pub fn signature_made(message: &[u8], key: &PublicKey, bytes: [u8; 64]) -> Result<Signature, Reject> {
    let bytes = SignatureBytes::new(bytes);
    if key.verifies(message, &bytes) {
        Ok(Signature { key: key.id().into(), bytes })
    } else {
        Err(Reject::BadSignature)
    }
}

fn signature(kind: StatementType, fleet: FleetId, body: &[u8], key: &crate::SigningKey) -> Result<Signature, Reject> {
    let message = message(kind, fleet, body)?;
    let bytes = SignatureBytes::new(signature_bytes(&message, key));
    Ok(Signature { key: PublicKey(key.verifying_key().to_bytes()).id().into(), bytes })
}

/// Writes a statement with one signature into `buffer`: what a device or the hub does online.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit.
pub fn seal<'b, T: Statement>(
    value: &T,
    fleet: FleetId,
    key: &crate::SigningKey,
    buffer: &'b mut [u8],
) -> Result<Signed<'b>, Reject> {
    let body: &[u8] = frame::encode(value, buffer)?;
    let mut signatures = Vec::new();
    signatures.push(signature(T::TYPE, fleet, body, key)?).map_err(|_| Reject::TooLarge)?;
    Ok(Signed { body, signatures })
}

const PREFIX: [u8; 5] = *b"BWL1\0";
/// Most bytes that one signature covers.
pub const MESSAGE_BYTES_MAX: usize = PREFIX.len() + 1 + 16 + STATEMENT_BYTES_MAX;

/// What is signed.
fn message(kind: StatementType, fleet: FleetId, body: &[u8]) -> Result<Vec<u8, MESSAGE_BYTES_MAX>, Reject> {
    let mut message = Vec::new();
    for part in [PREFIX.as_slice(), &[kind as u8], &fleet.0, body] {
        message.extend_from_slice(part).map_err(|_| Reject::TooLarge)?;
    }
    Ok(message)
}
