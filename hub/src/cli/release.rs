//! Statements on the operator's machine: the pinned root, what is signed, base64 and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::{SIGNATURES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{
    FleetId, KeyStatus, PublicKey, RoleSet, Signature, Signed, Statement, TrustedRoot, sign,
};
use bellwether_protocol::{SigningKey, frame, heapless};
use serde::Deserialize;

use super::Context;
use super::failure::{Exit, Failure};

/// A frame with the largest body and all signatures.
const SIGNED_BYTES_MAX: usize = STATEMENT_BYTES_MAX + SIGNATURES_MAX * 96 + 64;

/// A statement as bytes that own themselves.
#[derive(Debug)]
pub(super) struct Held(Vec<u8>);

impl Held {
    /// Reads base64.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let bytes = STANDARD.decode(text).map_err(|fault| Failure::error(format!("the hub's statement: {fault}")))?;
        if bytes.len() > SIGNED_BYTES_MAX {
            return Err(Failure::error("the hub's statement is larger than any can be"));
        }
        Ok(Self(bytes))
    }

    pub(super) fn signed(&self) -> Result<Signed<'_>, Failure> {
        frame::decode(&self.0).map_err(|reject| refused("the hub's statement", reject))
    }
}

/// A refusal by the protocol's rules.
pub(super) fn refused(what: &str, reject: Reject) -> Failure {
    Failure::error(format!("{what}: {reject}"))
}

/// The bytes to be signed.
pub(super) fn body_of(value: &impl Statement) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; STATEMENT_BYTES_MAX];
    frame::encode(value, &mut buffer).map(|body| body.to_vec()).map_err(|reject| refused("the statement", reject))
}

/// Signs a body with each key and writes the statement as the API takes it.
pub(super) fn signed_by<'b, T: Statement + Deserialize<'b>>(
    fleet: FleetId,
    body: &'b [u8],
    keys: &[SigningKey],
) -> Result<String, Failure> {
    let mut signatures: heapless::Vec<Signature, SIGNATURES_MAX> = heapless::Vec::new();
    for key in keys {
        let signature = sign::<T>(fleet, body, key).map_err(|reject| refused("the statement", reject))?;
        signatures.push(signature).map_err(|_| refused("the signatures", Reject::TooLarge))?;
    }
    let mut buffer = vec![0; SIGNED_BYTES_MAX];
    let frame: &[u8] =
        frame::encode(&Signed { body, signatures }, &mut buffer).map_err(|reject| refused("the statement", reject))?;
    Ok(STANDARD.encode(frame))
}

/// The root of the fleet that is pinned here, fetched from the hub and checked: the hub cannot put
/// another in its place.
pub(super) async fn trusted_root(context: &Context) -> Result<TrustedRoot, Failure> {
    let view = context.client.root().await?;
    let base = context.client.base();
    let Some(fleet) = context.home.pinned(base)? else {
        return Err(Failure::new(Exit::Conflict, format!("no fleet is pinned for {base} on this machine"))
            .next(format!("compare with whoever made the root, then: bellwether root pin {}", view.fleet)));
    };
    if view.fleet != fleet.to_string() {
        let cause = format!("{base} is the hub of the fleet {}, but {fleet} is pinned here", view.fleet);
        return Err(Failure::new(Exit::Conflict, cause)
            .next("use the right hub; only if its root was truly made anew: bellwether root pin FLEET"));
    }
    let statement = Held::read(&view.statement)?;
    TrustedRoot::first(fleet, &statement.signed()?).map_err(|reject| refused("the hub's root", reject))
}

/// Refuses to sign with a key whose signature would not count.
pub(super) fn may_sign(
    root: &TrustedRoot,
    name: &str,
    key: &SigningKey,
    role: RoleSet,
    verb: &str,
) -> Result<(), Failure> {
    let id = PublicKey(key.verifying_key().to_bytes()).id();
    let refused = |why: &str| {
        Failure::new(Exit::NotAllowed, format!("the key {name} {why}"))
            .next("bellwether root show lists who may do what")
    };
    let entry = root.root().key(id).ok_or_else(|| refused("is not in this fleet's root"))?;
    if entry.status != KeyStatus::Active {
        return Err(refused("is no longer in use"));
    }
    if !entry.roles.contains(role) {
        return Err(refused(&format!("may not {verb}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_protocol::trust::{Cohort, PublicKey, StageGrant, open_by};

    #[test]
    fn a_statement_reads_back_as_it_was_signed() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let fleet = FleetId([9; 16]);
        let grant = StageGrant {
            release: bellwether_protocol::digest::Digest::of(b"x"),
            cohort: Cohort::Buckets(250),
            gate: bellwether_protocol::digest::Digest::default(),
            checkpoint: 0,
            validity: None,
        };
        let text = signed_by::<StageGrant>(fleet, &body_of(&grant).unwrap(), std::slice::from_ref(&key)).unwrap();
        let held = Held::read(&text).unwrap();
        let public = PublicKey(key.verifying_key().to_bytes());
        assert_eq!(open_by::<StageGrant>(fleet, &held.signed().unwrap(), &public).unwrap(), grant);
        assert!(Held::read("not base64!").is_err());
        assert!(Held::read("AAAA").unwrap().signed().is_err());
    }
}
