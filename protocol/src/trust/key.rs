//! Keys, their ids, signatures, and the id of a fleet.

use core::fmt;
use core::str::FromStr;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, hex_serde, parse_hex};
use crate::id::BadId;

macro_rules! hex_text {
    ($name:ident, $bytes:literal, $what:literal, $rule:literal) => {
        hex_serde!($name, $bytes);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hex::<$bytes>(text).map(Self).ok_or(BadId { what: $what, rule: $rule })
            }
        }
    };
}

/// A fleet: the first 16 bytes of the SHA-256 of the body of its root, version 1, so that whoever
/// knows the fleet id knows the root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetId(pub [u8; 16]);
hex_text!(FleetId, 16, "fleet id", "32 lower-case hexadecimal digits");

impl FleetId {
    /// The fleet whose first root has this body.
    #[must_use]
    pub fn of_root(body: &[u8]) -> Self {
        Self(first_half(Digest::of(body)))
    }
}

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);
hex_text!(PublicKey, 32, "public key", "64 lower-case hexadecimal digits");

impl PublicKey {
    /// The id of this key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(first_half(Digest::of(&self.0)))
    }

    /// Whether it is a point of the curve and not of small order.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    /// Whether `signature` over `message` was made by this key, checked strictly: no malleable,
    /// small-order or non-canonical values.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &SignatureBytes) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            !key.is_weak()
                && key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.to_bytes())).is_ok()
        })
    }
}

/// A key's name: the first 16 bytes of the SHA-256 of the public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);
hex_text!(KeyId, 16, "key id", "32 lower-case hexadecimal digits");

/// The 64 bytes of an Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureBytes([[u8; 32]; 2]);

impl SignatureBytes {
    /// From the 64 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 64]) -> Self {
        let mut halves = [[0; 32]; 2];
        for (half, part) in halves.iter_mut().zip(bytes.chunks_exact(32)) {
            half.copy_from_slice(part);
        }
        Self(halves)
    }

    /// The 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (part, half) in bytes.chunks_exact_mut(32).zip(&self.0) {
            part.copy_from_slice(half);
        }
        bytes
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().flatten().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who signed, and the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signer's key.
    pub key: KeyId,
    /// The signature.
    pub bytes: SignatureBytes,
}

fn first_half(digest: Digest) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest.0) {
        *to = from;
    }
    half
}
