//! Keys that ask to be listed in the root: who made them, where their private half lives, and how
//! many may wait. Listing one is for people and the root; nothing here gives a key any right.

use bellwether_protocol::id::Person;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{KeyClass, KeyId, PublicKey, Root};
use serde::{Deserialize, Serialize};

use crate::error::Denied;
use crate::event::What;
use crate::rules::{Change, Changes, Rules};

/// Requests that may wait at once: more than twice what a root can list.
pub const KEY_REQUESTS_MAX: usize = 64;

/// A key that asks to be listed in the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// The public half.
    pub public: PublicKey,
    /// Whose key it is, as the asker says; whoever lists it makes sure.
    pub person: Person,
    /// Where the private half lives, as the asker says.
    pub class: KeyClass,
    /// What the asker calls it.
    pub name: String,
    /// When it was asked for.
    pub at: Millis,
    /// By which token or session.
    pub by: String,
}

impl KeyRequest {
    /// The key's id, which is the request's too.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public.id()
    }
}

impl Rules {
    /// Takes a request; the same one twice is one.
    ///
    /// # Errors
    ///
    /// [`Denied::WeakKey`], [`Denied::KeyListed`], [`Denied::KeyAsked`],
    /// [`Denied::KeyRequestsFull`].
    pub fn request_key(&self, request: KeyRequest) -> Result<Changes, Denied> {
        let id = request.id();
        let mut changes = self.changes(&request.by, request.at);
        if !request.public.is_usable() || request.class == KeyClass::Hub {
            return Err(Denied::WeakKey(id));
        }
        if self.root.as_ref().is_some_and(|root| root.root().key(id).is_some()) {
            return Err(Denied::KeyListed(id));
        }
        if let Some(before) = self.key_requests.get(&id) {
            let same = KeyRequest { at: before.at, by: before.by.clone(), ..request } == *before;
            return if same { Ok(changes) } else { Err(Denied::KeyAsked(id)) };
        }
        if self.key_requests().count() >= KEY_REQUESTS_MAX {
            return Err(Denied::KeyRequestsFull);
        }
        changes.event(What::KeyRequested { key: id, person: request.person.to_string(), name: request.name.clone() });
        changes.push(Change::KeyRequest(Box::new(request)));
        Ok(changes)
    }

    /// Takes a request back.
    ///
    /// # Errors
    ///
    /// [`Denied::NoKeyRequest`].
    pub fn withdraw_key_request(&self, id: KeyId, who: &str, now: Millis) -> Result<Changes, Denied> {
        let request = self.key_request(id)?;
        let mut changes = self.changes(who, now);
        changes.event(What::KeyRequestWithdrawn { key: id, person: request.person.to_string() });
        changes.push(Change::KeyRequestGone(id));
        Ok(changes)
    }

    /// A request that waits.
    ///
    /// # Errors
    ///
    /// [`Denied::NoKeyRequest`].
    pub fn key_request(&self, id: KeyId) -> Result<&KeyRequest, Denied> {
        self.key_requests().find(|request| request.id() == id).ok_or(Denied::NoKeyRequest(id))
    }

    /// The requests that wait, by key id: those whose key no root lists.
    pub fn key_requests(&self) -> impl Iterator<Item = &KeyRequest> {
        let listed = |id: KeyId| self.root.as_ref().is_some_and(|root| root.root().key(id).is_some());
        self.key_requests.iter().filter(move |(id, _)| !listed(**id)).map(|(_, request)| request)
    }

    /// Drops the requests that a new root answers; whoever takes a root calls it.
    pub fn answer_key_requests(&self, root: &Root, changes: &mut Changes) {
        for id in self.key_requests.keys().filter(|id| root.key(**id).is_some()) {
            changes.push(Change::KeyRequestGone(*id));
        }
    }
}
