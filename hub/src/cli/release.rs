//! Statements on the operator's machine: the pinned root and its chain, what is signed, base64 and
//! back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::{SIGNATURES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{FleetId, KeyStatus, RoleSet, Signature, Signed, Statement, TrustedRoot};
use bellwether_protocol::{frame, heapless};
use serde::Deserialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::signer::Signer;

/// A frame with the largest body and all signatures.
const SIGNED_BYTES_MAX: usize = STATEMENT_BYTES_MAX + SIGNATURES_MAX * 96 + 64;
/// Longest chain of roots that is walked: a rotation a week for five years.
pub(super) const ROOTS_MAX: usize = 256;

/// A statement as bytes that own themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held(Vec<u8>);

impl Held {
    /// Reads base64.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let bytes = STANDARD.decode(text).map_err(|fault| Failure::error(format!("a statement: {fault}")))?;
        if bytes.len() > SIGNED_BYTES_MAX {
            return Err(Failure::error("a statement is larger than any can be"));
        }
        Ok(Self(bytes))
    }

    /// Writes a statement.
    pub(super) fn of(signed: &Signed<'_>) -> Result<Self, Failure> {
        let mut buffer = vec![0; SIGNED_BYTES_MAX];
        let frame = frame::encode(signed, &mut buffer).map_err(|reject| refused("the statement", reject))?;
        Ok(Self(frame.to_vec()))
    }

    /// As base64.
    pub(super) fn text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    pub(super) fn signed(&self) -> Result<Signed<'_>, Failure> {
        frame::decode(&self.0).map_err(|reject| refused("a statement", reject))
    }

    /// The same with these signatures too; one of each key.
    pub(super) fn with(&self, more: &[Signature]) -> Result<Self, Failure> {
        let mut signed = self.signed()?;
        for signature in more {
            if signed.signatures.iter().any(|given| given.key.tag() == signature.key.tag()) {
                continue;
            }
            signed.signatures.push(*signature).map_err(|_| {
                Failure::new(Exit::Conflict, format!("a statement holds at most {SIGNATURES_MAX} signatures"))
            })?;
        }
        Self::of(&signed)
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

/// Signs a body with each key.
pub(super) fn signed_by<'b, T: Statement + Deserialize<'b>>(
    fleet: FleetId,
    body: &'b [u8],
    signers: &[Signer],
) -> Result<Held, Failure> {
    let signatures: Result<Vec<Signature>, Failure> =
        signers.iter().map(|signer| signer.sign::<T>(fleet, body)).collect();
    Held::of(&Signed { body, signatures: heapless::Vec::new() })?.with(&signatures?)
}

/// A fleet's roots from its first to the one that counts, checked step by step.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Base64 of each.
    pub(super) statements: Vec<String>,
    /// The last.
    pub(super) trusted: TrustedRoot,
}

impl Chain {
    /// Walks the roots of this fleet: whoever knows its id needs to trust nobody for the rest.
    pub(super) fn walk(fleet: FleetId, statements: Vec<String>) -> Result<Self, Failure> {
        let (Some(first), true) = (statements.first(), statements.len() <= ROOTS_MAX) else {
            let cause = format!("a chain of {} roots: 1 to {ROOTS_MAX} are expected", statements.len());
            return Err(Failure::error(cause));
        };
        let mut trusted = TrustedRoot::first(fleet, &Held::read(first)?.signed()?)
            .map_err(|reject| refused(&format!("the first root is not that of {fleet}"), reject))?;
        for text in statements.iter().skip(1) {
            let version = trusted.root().version;
            trusted = trusted
                .next(&Held::read(text)?.signed()?)
                .map_err(|reject| refused(&format!("the root after version {version}"), reject))?;
        }
        Ok(Self { statements, trusted })
    }
}

/// The roots of the fleet that is pinned here, fetched from the hub and checked: the hub cannot put
/// another in their place, nor withhold a version that was seen here before.
pub(super) async fn chain(context: &Context) -> Result<Chain, Failure> {
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
    let chain = Chain::walk(fleet, std::iter::once(view.statement).chain(view.later).collect())?;
    let (version, seen) = (chain.trusted.root().version, context.home.root_seen(fleet)?);
    if version < seen {
        let cause = format!("{base} shows root version {version}, but {seen} was seen here");
        return Err(Failure::new(Exit::Conflict, cause)
            .next("sign nothing: the hub was restored from an old backup, or hides a rotation; ask who runs it"));
    }
    context.home.keep_root_seen(fleet, version)?;
    Ok(chain)
}

/// The root that counts now.
pub(super) async fn trusted_root(context: &Context) -> Result<TrustedRoot, Failure> {
    Ok(chain(context).await?.trusted)
}

/// Refuses to sign with a key whose signature would not count.
pub(super) fn may_sign(root: &TrustedRoot, signer: &Signer, role: RoleSet, verb: &str) -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::new(Exit::NotAllowed, format!("the key {} {why}", signer.name()))
            .next("bellwether root show lists who may do what")
    };
    let entry = root.root().key(signer.public().id()).ok_or_else(|| refused("is not in this fleet's root"))?;
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
    use bellwether_protocol::SigningKey;
    use bellwether_protocol::trust::{Cohort, PublicKey, StageGrant, open_by, sign};

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
        let body = body_of(&grant).unwrap();
        let signature = sign::<StageGrant>(fleet, &body, &key).unwrap();
        let held = signed_by::<StageGrant>(fleet, &body, &[]).unwrap().with(&[signature, signature]).unwrap();
        let held = Held::read(&held.text()).unwrap();
        let public = PublicKey(key.verifying_key().to_bytes());
        assert_eq!(open_by::<StageGrant>(fleet, &held.signed().unwrap(), &public).unwrap(), grant);
        assert!(Held::read("not base64!").is_err());
        assert!(Held::read("AAAA").unwrap().signed().is_err());
    }
}
