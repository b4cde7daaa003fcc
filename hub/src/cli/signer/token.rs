//! Keys in a token behind PKCS#11 (OASIS, version 3.0 for `CKM_EDDSA`): the module is a library of
//! the token's maker, loaded when a key is made or used and at no other time.

use std::cell::OnceCell;
use std::path::Path;

use bellwether_protocol::trust::PublicKey;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::{Keeper, pin};
use crate::cli::failure::{Exit, Failure};
use crate::cli::key::PublicFile;

/// The curve by name, as a DER `PrintableString`: "edwards25519" (PKCS#11 3.0, section 2.3.10).
const CURVE: [u8; 14] = *b"\x13\x0cedwards25519";
/// Bytes of the id that ties the two halves together in a token.
const ID_BYTES: usize = 16;

/// A token, and the key to ask it for.
pub(in crate::cli) struct Token {
    module: String,
    label: String,
    name: String,
    key: PublicKey,
    open: OnceCell<Session>,
}

/// A key that is in a token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Found {
    /// It was there.
    Adopted(PublicKey),
    /// It was made.
    Made(PublicKey),
}

impl Token {
    /// The token that a key's `.pub` file names.
    pub(super) fn holding(half: &PublicFile) -> Result<Self, Failure> {
        let (Some(module), Some(label)) = (&half.module, &half.token) else {
            return Err(Failure::error(format!("{}.pub names no module and token", half.name))
                .next("adopt the key again: bellwether key new NAME --person PERSON --class pkcs11 --module FILE --token LABEL"));
        };
        Ok(Self {
            module: module.clone(),
            label: label.clone(),
            name: half.name.clone(),
            key: half.key()?,
            open: OnceCell::new(),
        })
    }

    /// The Ed25519 key with this label in a token, or a new one that never leaves it.
    pub(in crate::cli) fn find_or_make(module: &str, label: &str, name: &str) -> Result<Found, Failure> {
        let says = |fault| failed(label, &fault);
        let session = log_in(module, label)?;
        let mut found = halves(&session, Some(name)).map_err(says)?.into_iter();
        match (found.next(), found.next()) {
            (Some((key, _)), None) => return Ok(Found::Adopted(key)),
            (Some(_), Some(_)) => {
                let cause = format!("the token {label} holds several Ed25519 keys with the label {name}");
                return Err(Failure::new(Exit::Conflict, cause).next("name one that is there once: --identity LABEL"));
            }
            (None, _) => {}
        }
        make(&session, name).map_err(says)?;
        match halves(&session, Some(name)).map_err(says)?.as_slice() {
            [(key, _)] => Ok(Found::Made(*key)),
            _ => Err(Failure::error(format!("the token {label} made a key but does not show its public half"))),
        }
    }

    fn session(&self) -> Result<&Session, Failure> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let session = log_in(&self.module, &self.label)?;
        Ok(self.open.get_or_init(|| session))
    }
}

impl Keeper for Token {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Failure> {
        let session = self.session()?;
        let says = |fault| failed(&self.label, &fault);
        let halves = halves(session, None).map_err(says)?;
        let missing = || {
            let cause = format!("the token {} does not hold the key {} ({})", self.label, self.name, self.key.id());
            Failure::new(Exit::NotFound, cause).next("is it the right token? `bellwether key show` names it")
        };
        let (_, id) = halves.into_iter().find(|(key, _)| *key == self.key).ok_or_else(missing)?;
        let wanted =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::EC_EDWARDS), Attribute::Id(id)];
        let private = session.find_objects(&wanted).map_err(says)?.into_iter().next().ok_or_else(missing)?;
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let bytes = session.sign(&mechanism, private, message).map_err(says)?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| Failure::error(format!("the token gave a signature of {length} bytes, not 64")))
    }
}

fn log_in(module: &str, label: &str) -> Result<Session, Failure> {
    let says = |fault| failed(label, &fault);
    let context = Pkcs11::new(module).map_err(|fault| {
        let exit = if Path::new(module).exists() { Exit::Error } else { Exit::NotFound };
        Failure::new(exit, format!("the PKCS#11 module {module} does not load: {fault}"))
            .next("name the library that came with the token: --module /usr/lib/softhsm/libsofthsm2.so")
    })?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another key of this command is behind the same module.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(fault) => return Err(says(fault)),
    }
    let session = context.open_rw_session(slot(&context, label)?).map_err(says)?;
    match session.login(UserType::User, Some(&AuthPin::from(pin::ask(label)?))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(fault) => Err(says(fault)),
    }
}

fn slot(context: &Pkcs11, label: &str) -> Result<Slot, Failure> {
    let mut labels = Vec::new();
    for slot in context.get_slots_with_initialized_token().map_err(|fault| failed(label, &fault))? {
        let found = context.get_token_info(slot).map_err(|fault| failed(label, &fault))?.label().trim_end().to_owned();
        if found == label {
            return Ok(slot);
        }
        labels.push(found);
    }
    let there = if labels.is_empty() { "none is there".to_owned() } else { format!("there is {}", labels.join(", ")) };
    Err(Failure::new(Exit::NotFound, format!("no token has the label {label}: {there}")).next("name it with --token"))
}

/// The Ed25519 keys in a token, each with the id that ties its halves together.
fn halves(session: &Session, label: Option<&str>) -> Result<Vec<(PublicKey, Vec<u8>)>, Error> {
    let mut wanted = vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC_EDWARDS)];
    wanted.extend(label.map(|label| Attribute::Label(label.into())));
    let mut found = Vec::new();
    for object in session.find_objects(&wanted)? {
        found.extend(half(session, object)?);
    }
    Ok(found)
}

fn half(session: &Session, object: ObjectHandle) -> Result<Option<(PublicKey, Vec<u8>)>, Error> {
    let (mut key, mut id) = (None, None);
    for attribute in session.get_attributes(object, &[AttributeType::EcPoint, AttributeType::Id])? {
        if let Attribute::EcPoint(point) = &attribute {
            key = point_of(point);
        }
        if let Attribute::Id(bytes) = attribute {
            id = Some(bytes);
        }
    }
    Ok(key.zip(id))
}

/// A point as tokens write it: bare, or in a DER `OCTET STRING`.
fn point_of(bytes: &[u8]) -> Option<PublicKey> {
    let bare = if bytes.len() == 34 { bytes.strip_prefix(&[0x04, 32])? } else { bytes };
    bare.try_into().ok().map(PublicKey)
}

fn make(session: &Session, name: &str) -> Result<(), Error> {
    let id = crate::keys::random::<ID_BYTES>().to_vec();
    let both = [Attribute::Token(true), Attribute::Label(name.into()), Attribute::Id(id)];
    let public =
        [&both[..], &[Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(CURVE.to_vec())]];
    let private = [
        &both[..],
        &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)],
    ];
    session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public.concat(), &private.concat()).map(drop)
}

fn failed(label: &str, fault: &Error) -> Failure {
    let said = |exit, what: &str| Failure::new(exit, format!("the token {label} {what}"));
    let Error::Pkcs11(code, _) = fault else { return said(Exit::Error, &format!("gave up: {fault}")) };
    if matches!(code, RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid) {
        return said(Exit::NotAllowed, "does not take this PIN")
            .next("try again with the right one: a token locks itself after a few wrong ones");
    }
    if matches!(code, RvError::PinLocked) {
        return said(Exit::NotAllowed, "has locked itself after wrong PINs")
            .next("unlock it with its maker's tool and the security officer's PIN");
    }
    let failure = said(Exit::Error, &format!("gave up: {fault}"));
    if matches!(code, RvError::MechanismInvalid) {
        return failure.next("this token does not do Ed25519 (CKM_EDDSA); use another, or another class of key");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_bare_and_as_an_octet_string() {
        let key = PublicKey([9; 32]);
        assert_eq!(point_of(&[9; 32]), Some(key));
        assert_eq!(point_of(&[&[0x04, 32][..], &[9; 32]].concat()), Some(key));
        assert_eq!(point_of(&[9; 34]), None);
        assert_eq!(point_of(&[9; 33]), None);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let why = log_in("/nowhere/module.so", "people").unwrap_err();
        assert!(format!("{why:?}").contains("/nowhere/module.so"));
    }
}
