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

impl KeyId {
    /// The tag of this key.
    #[must_use]
    pub const fn tag(self) -> KeyTag {
        KeyTag([self.0[0], self.0[1]])
    }
}

/// The first 2 bytes of a key's id. A root lists no two keys with one tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyTag(pub [u8; 2]);
hex_text!(KeyTag, 2, "key tag", "4 lower-case hexadecimal digits");

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

/// What names a key beside its signature. It only says which key to try; the signature proves it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyName {
    /// Its tag: what is written today.
    Tag(KeyTag),
    /// Its whole id: what was written before tags, and is read for ever.
    Id(KeyId),
}

impl KeyName {
    /// Whether it is the name of the key with this id.
    #[must_use]
    pub fn names(self, id: KeyId) -> bool {
        match self {
            Self::Tag(tag) => id.tag() == tag,
            Self::Id(whole) => id == whole,
        }
    }

    /// The tag of the key that it names.
    #[must_use]
    pub const fn tag(self) -> KeyTag {
        match self {
            Self::Tag(tag) => tag,
            Self::Id(id) => id.tag(),
        }
    }
}

impl From<KeyId> for KeyName {
    fn from(id: KeyId) -> Self {
        Self::Tag(id.tag())
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "{tag}…"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who signed, and the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The signer's key.
    pub key: KeyName,
    /// The signature.
    pub bytes: SignatureBytes,
}

/// How the signatures of a statement are written: a byte with their number, then each with the name
/// of its key before it. Bit 4 of that byte says that the names are tags; without it they are whole
/// ids, as in every statement from before tags.
pub(super) mod list {
    use core::fmt;

    use heapless::Vec;
    use serde::de::{Error as _, SeqAccess, Visitor};
    use serde::ser::SerializeTuple as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{KeyId, KeyName, KeyTag, Signature, SignatureBytes};
    use crate::limit::SIGNATURES_MAX;

    const TAGS: u8 = 0x10;

    type Signatures = Vec<Signature, SIGNATURES_MAX>;

    pub(crate) fn serialize<S: Serializer>(signatures: &Signatures, serializer: S) -> Result<S::Ok, S::Error> {
        let is_id = |signature: &Signature| matches!(signature.key, KeyName::Id(_));
        let are_ids = signatures.iter().all(is_id);
        let mut tuple = serializer.serialize_tuple(1 + 2 * signatures.len())?;
        let number = u8::try_from(signatures.len()).unwrap_or(u8::MAX);
        tuple.serialize_element(&if are_ids { number } else { number | TAGS })?;
        for Signature { key, bytes } in signatures {
            match key {
                KeyName::Id(id) if are_ids => tuple.serialize_element(id)?,
                KeyName::Id(_) | KeyName::Tag(_) => tuple.serialize_element(&key.tag())?,
            }
            tuple.serialize_element(bytes)?;
        }
        tuple.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signatures, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Signatures;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {SIGNATURES_MAX} signatures")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Signatures, A::Error> {
                let head: u8 = next(&mut seq)?;
                let number = usize::from(head & !TAGS);
                if number > SIGNATURES_MAX {
                    return Err(A::Error::invalid_length(number, &self));
                }
                let mut signatures = Signatures::new();
                for _ in 0..number {
                    let key = if head & TAGS == 0 {
                        KeyName::Id(next::<KeyId, A>(&mut seq)?)
                    } else {
                        KeyName::Tag(next::<KeyTag, A>(&mut seq)?)
                    };
                    let signature = Signature { key, bytes: next::<SignatureBytes, A>(&mut seq)? };
                    signatures.push(signature).map_err(|_| A::Error::invalid_length(number, &self))?;
                }
                Ok(signatures)
            }
        }

        deserializer.deserialize_tuple(1 + 2 * SIGNATURES_MAX, List)
    }

    fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
        seq.next_element()?.ok_or_else(|| A::Error::custom("a signature is missing"))
    }
}

fn first_half(digest: Digest) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest.0) {
        *to = from;
    }
    half
}
