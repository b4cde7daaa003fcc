//! DSSE, the envelope in which in-toto attestations travel: made, and checked.
//!
//! What is signed is `"DSSEv1" SP length(type) SP type SP length(payload) SP payload`, with lengths
//! in decimal digits (secure-systems-lab/dsse, protocol.md). No native statement begins so, since
//! those begin with `"BWL1" 0x00`: one key can sign both, and neither passes for the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_protocol::SigningKey;
use bellwether_protocol::trust::{KeyId, PublicKey, SignatureBytes, signature_bytes};

use crate::api::types::{EnvelopeSignature, EnvelopeView};
use crate::keys::public;

/// The payload's type: an in-toto statement as JSON.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Why an envelope does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// It holds something else.
    #[error("its payload is of type {0:?}, not {PAYLOAD_TYPE}")]
    OtherPayload(String),
    /// A field cannot be read.
    #[error("its {0} is not base64")]
    NotBase64(&'static str),
    /// The key that should have signed did not.
    #[error("key {0} did not sign it, or it was changed afterwards")]
    NotSigned(KeyId),
}

/// The bytes that are signed.
#[must_use]
pub fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Puts an in-toto statement into an envelope that `key` signed.
#[must_use]
pub fn seal(payload: &[u8], key: &SigningKey) -> EnvelopeView {
    let signature = signature_bytes(&signed_bytes(PAYLOAD_TYPE, payload), key);
    EnvelopeView {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![EnvelopeSignature { keyid: public(key).id().to_string(), sig: STANDARD.encode(signature) }],
    }
}

/// The statement in an envelope, once `key` is known to have signed it.
///
/// # Errors
///
/// The first [`DsseError`] found.
pub fn open(envelope: &EnvelopeView, key: &PublicKey) -> Result<Vec<u8>, DsseError> {
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(DsseError::OtherPayload(envelope.payload_type.chars().take(80).collect()));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| DsseError::NotBase64("payload"))?;
    let message = signed_bytes(PAYLOAD_TYPE, &payload);
    let id = key.id();
    for given in envelope.signatures.iter().filter(|given| given.keyid == id.to_string()) {
        let bytes = STANDARD.decode(&given.sig).map_err(|_| DsseError::NotBase64("signature"))?;
        if let Ok(bytes) = bytes.try_into()
            && key.verifies(&message, &SignatureBytes::new(bytes))
        {
            return Ok(payload);
        }
    }
    Err(DsseError::NotSigned(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_are_those_of_the_specification() {
        let bytes = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn an_envelope_opens_for_the_key_that_signed_it_as_it_was_signed() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let sealed = seal(b"{}", &key);
        assert_eq!(open(&sealed, &public(&key)).unwrap(), b"{}");
        let other = public(&SigningKey::from_bytes(&[2; 32]));
        assert_eq!(open(&sealed, &other), Err(DsseError::NotSigned(other.id())));
        let changed = EnvelopeView { payload: STANDARD.encode("[]"), ..sealed.clone() };
        assert_eq!(open(&changed, &public(&key)), Err(DsseError::NotSigned(public(&key).id())));
        let renamed = EnvelopeView { payload_type: "text/plain".to_owned(), ..sealed.clone() };
        assert!(matches!(open(&renamed, &public(&key)), Err(DsseError::OtherPayload(_))));
        let broken = EnvelopeView { payload: "%".to_owned(), ..sealed };
        assert_eq!(open(&broken, &public(&key)), Err(DsseError::NotBase64("payload")));
    }
}
