//! "Sign these bytes with the key named X": one way to ask, whatever keeps the private half.
//!
//! ```text
//!   X.pub ──class──> file       X.key beside it, 64 hexadecimal digits, for its owner only
//!                    ssh-agent  a process that holds it, found by SSH_AUTH_SOCK
//!                    pkcs11     a token behind a module that is loaded only now
//! ```
//!
//! What comes back is checked strictly against the public half before anybody uses it.

mod agent;
mod file;
mod pin;
mod token;

use bellwether_protocol::trust::{FleetId, PublicKey, Signature, Statement, signature_made, signing_bytes};
use serde::Deserialize;

use super::failure::{Exit, Failure};
use super::home::Home;
use super::key::{Class, PublicFile, public};

pub(super) use agent::{Agent, Identity};
pub(super) use file::make;
pub(super) use token::{Found, Token};

/// What holds a private key and never gives it away.
trait Keeper {
    /// The 64 bytes of an Ed25519 signature (RFC 8032) over `message`.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Failure>;
}

/// A key that can sign here.
pub(super) struct Signer {
    name: String,
    public: PublicKey,
    keeper: Box<dyn Keeper>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).field("public", &self.public).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key with this name, or in the file with this path.
    pub(super) fn find(home: &Home, key: &str) -> Result<Self, Failure> {
        if let Some(path) = file::path(home, key) {
            let signing = file::read_private(&path)?;
            let public = PublicKey(signing.verifying_key().to_bytes());
            return Ok(Self { name: key.to_owned(), public, keeper: Box::new(signing) });
        }
        let half = public(home, key)?;
        let keeper: Box<dyn Keeper> = match half.class()? {
            Class::SshAgent => Box::new(Agent::holding(&half.name, half.key()?)?),
            Class::Pkcs11 => Box::new(Token::holding(&half)?),
            Class::File | Class::Browser => return Err(elsewhere(home, &half)),
        };
        Ok(Self { name: half.name.clone(), public: half.key()?, keeper })
    }

    /// Whether the private half of this key can be reached from this machine.
    pub(super) fn is_here(home: &Home, key: &str) -> bool {
        if file::path(home, key).is_some() {
            return true;
        }
        let Ok(half) = public(home, key) else { return false };
        match (half.class(), half.key()) {
            (Ok(Class::SshAgent), Ok(public)) => Agent::holding(&half.name, public).is_ok(),
            (Ok(Class::Pkcs11), Ok(_)) => {
                home.keys().join(format!("{key}.pub")).exists()
                    && half.module.as_ref().is_some_and(|module| std::path::Path::new(module).exists())
            }
            _ => false,
        }
    }

    /// What it is called here.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub(super) const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a body of type `T` for a fleet.
    pub(super) fn sign<'b, T: Statement + Deserialize<'b>>(
        &self,
        fleet: FleetId,
        body: &'b [u8],
    ) -> Result<Signature, Failure> {
        let refused = |reject| Failure::error(format!("the statement cannot be signed by {}: {reject}", self.name));
        let message = signing_bytes::<T>(fleet, body).map_err(refused)?;
        let bytes = self.keeper.sign(&message)?;
        signature_made(&message, &self.public, bytes).map_err(|_| {
            Failure::error(format!("what holds the key {} gave a signature that is not its own", self.name))
                .next("nothing was sent; `bellwether key show` says which key is expected where")
        })
    }
}

fn elsewhere(home: &Home, half: &PublicFile) -> Failure {
    let cause = format!("the private half of `{}` is not on this machine ({})", half.name, home.keys().display());
    Failure::new(Exit::NotFound, cause)
        .next("`bellwether key list` shows the keys here; BELLWETHER_KEYS names another folder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_protocol::SigningKey;
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::trust::{Cohort, StageGrant};

    struct Other(SigningKey);
    impl Keeper for Other {
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], Failure> {
            self.0.sign(message)
        }
    }

    #[test]
    fn a_signature_of_another_key_is_found_out_before_it_is_used() {
        let grant = StageGrant {
            release: Digest::of(b"x"),
            cohort: Cohort::Buckets(1),
            gate: Digest::default(),
            checkpoint: 0,
            validity: None,
        };
        let body = crate::cli::release::body_of(&grant).unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = PublicKey(key.verifying_key().to_bytes());
        let signer = |seed| Signer {
            name: "x".to_owned(),
            public,
            keeper: Box::new(Other(SigningKey::from_bytes(&[seed; 32]))),
        };
        let fleet = FleetId([1; 16]);
        assert_eq!(signer(3).sign::<StageGrant>(fleet, &body).unwrap().key, public.id().into());
        assert!(signer(4).sign::<StageGrant>(fleet, &body).is_err());
        assert!(signer(3).sign::<bellwether_protocol::trust::Root>(fleet, &body).is_err(), "the body is no root");
    }
}
