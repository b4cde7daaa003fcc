//! Roots as values: the first one, and the next one after a change. Pure, so that what is signed can
//! be made again, compared and shown.

use bellwether_protocol::heapless;
use bellwether_protocol::id::Person;
use bellwether_protocol::limit::{KEYS_MAX, MODEL_NAME_BYTES_MAX};
use bellwether_protocol::trust::{
    KeyClass, KeyEntry, KeyId, KeyStatus, PublicKey, RoleSet, Root, RootFault, Thresholds,
};

/// Why a root cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum BodyError {
    #[error("{0} keys are more than a root holds, which is {KEYS_MAX}")]
    TooManyKeys(usize),
    #[error("`{0}` is too long for a prefix of model names")]
    Prefix(String),
    #[error("the key {0} is not in the root")]
    NoKey(KeyId),
    #[error("the key {key} of {person} is in the root already")]
    IsIn { key: KeyId, person: String },
    #[error("the key {0} is retired: it can still be revoked, but not used again")]
    Ended(KeyId),
    #[error("the key {0} is the hub's: name the new one, with --new-director, --new-registry or --new-time")]
    Hubs(KeyId),
    #[error("the key {0} counts still: only what was retired or revoked by an earlier root can be forgotten")]
    Counts(KeyId),
    #[error("nothing would change")]
    Nothing,
    #[error("the version or a generation is at its end")]
    Counter,
    #[error("this root cannot work: {0}")]
    Fault(RootFault),
}

/// The hub's own keys.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct HubKeys {
    pub(in crate::cli) director: PublicKey,
    pub(in crate::cli) registry: PublicKey,
    pub(in crate::cli) time: PublicKey,
}

/// What the next root changes.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Changes {
    pub(in crate::cli) add: Vec<KeyEntry>,
    pub(in crate::cli) end: Vec<(KeyId, KeyStatus)>,
    pub(in crate::cli) forget: Vec<KeyId>,
    pub(in crate::cli) root: Option<u8>,
    pub(in crate::cli) approve: Option<u8>,
    pub(in crate::cli) grant: Option<u8>,
    pub(in crate::cli) offline_approval: Option<bool>,
    pub(in crate::cli) director: Option<PublicKey>,
    pub(in crate::cli) registry: Option<PublicKey>,
    pub(in crate::cli) time: Option<PublicKey>,
}

/// An active key.
pub(in crate::cli) fn entry(
    public: PublicKey,
    person: Person,
    roles: RoleSet,
    class: KeyClass,
    prefix: &str,
) -> Result<KeyEntry, BodyError> {
    let prefix: heapless::String<MODEL_NAME_BYTES_MAX> =
        heapless::String::try_from(prefix).map_err(|_| BodyError::Prefix(prefix.to_owned()))?;
    Ok(KeyEntry { public, person, roles, class, prefix, status: KeyStatus::Active })
}

/// Version 1.
pub(in crate::cli) fn first(
    nonce: [u8; 16],
    people: Vec<KeyEntry>,
    hub: &HubKeys,
    thresholds: Thresholds,
    offline_approval: bool,
) -> Result<Root, BodyError> {
    let mut keys = people;
    for (public, role) in
        [(hub.director, RoleSet::DIRECTOR), (hub.registry, RoleSet::REGISTRY), (hub.time, RoleSet::TIME)]
    {
        keys.push(hubs(public, role)?);
    }
    let root = Root {
        version: 1,
        nonce,
        keys: list(&keys)?,
        thresholds,
        offline_approval,
        director_generation: 1,
        time_generation: 1,
    };
    root.check().map_err(BodyError::Fault)?;
    Ok(root)
}

/// The version after `now`, with these changes. Keys that end stay listed, since what they signed is
/// still there to be judged, until they are forgotten by name.
pub(in crate::cli) fn next(now: &Root, changes: &Changes) -> Result<Root, BodyError> {
    let mut keys = now.keys.to_vec();
    for id in &changes.forget {
        let at = keys.iter().position(|key| key.id() == *id).ok_or(BodyError::NoKey(*id))?;
        if keys.remove(at).status == KeyStatus::Active {
            return Err(BodyError::Counts(*id));
        }
    }
    for (id, status) in &changes.end {
        let key = keys.iter_mut().find(|key| key.id() == *id).ok_or(BodyError::NoKey(*id))?;
        if key.class == KeyClass::Hub {
            return Err(BodyError::Hubs(*id));
        }
        if key.status == KeyStatus::Revoked || (key.status, *status) == (KeyStatus::Retired, KeyStatus::Retired) {
            return Err(BodyError::Ended(*id));
        }
        key.status = *status;
    }
    for new in &changes.add {
        if let Some(old) = keys.iter().find(|key| key.public == new.public) {
            return Err(BodyError::IsIn { key: old.id(), person: old.person.to_string() });
        }
        keys.push(new.clone());
    }
    let mut root = now.clone();
    for (public, role, generation) in [
        (changes.director, RoleSet::DIRECTOR, Some(&mut root.director_generation)),
        (changes.registry, RoleSet::REGISTRY, None),
        (changes.time, RoleSet::TIME, Some(&mut root.time_generation)),
    ] {
        let Some(public) = public else { continue };
        if keys.iter().any(|key| key.public == public) {
            return Err(BodyError::IsIn { key: public.id(), person: "the hub".to_owned() });
        }
        for key in keys.iter_mut().filter(|key| key.roles.contains(role) && key.status == KeyStatus::Active) {
            key.status = KeyStatus::Retired;
        }
        keys.push(hubs(public, role)?);
        if let Some(generation) = generation {
            *generation = generation.checked_add(1).ok_or(BodyError::Counter)?;
        }
    }
    root.keys = list(&keys)?;
    root.thresholds.root = changes.root.unwrap_or(now.thresholds.root);
    root.thresholds.approve = changes.approve.unwrap_or(now.thresholds.approve);
    root.thresholds.grant = changes.grant.unwrap_or(now.thresholds.grant);
    root.offline_approval = changes.offline_approval.unwrap_or(now.offline_approval);
    if root == *now {
        return Err(BodyError::Nothing);
    }
    root.version = now.version.checked_add(1).ok_or(BodyError::Counter)?;
    root.check().map_err(BodyError::Fault)?;
    Ok(root)
}

fn hubs(public: PublicKey, role: RoleSet) -> Result<KeyEntry, BodyError> {
    let person = Person::parse("hub").map_err(|_| BodyError::Prefix("hub".to_owned()))?;
    entry(public, person, role, KeyClass::Hub, "")
}

fn list(keys: &[KeyEntry]) -> Result<heapless::Vec<KeyEntry, KEYS_MAX>, BodyError> {
    heapless::Vec::from_slice(keys).map_err(|_| BodyError::TooManyKeys(keys.len()))
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use bellwether_protocol::SigningKey;

    pub(in crate::cli) fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey(key(seed).verifying_key().to_bytes())
    }

    pub(in crate::cli) fn person(seed: u8, name: &str, roles: RoleSet) -> KeyEntry {
        entry(public(seed), name.parse().unwrap(), roles, KeyClass::File, "").unwrap()
    }

    /// Ada (1) publishes; Bo (2) and Cy (3) decide, two for a root and for a release.
    pub(in crate::cli) fn small() -> Root {
        let decides = RoleSet::APPROVE.with(RoleSet::GRANT).with(RoleSet::ROOT);
        let people = vec![person(1, "Ada", RoleSet::PUBLISH), person(2, "Bo", decides), person(3, "Cy", decides)];
        let hub = HubKeys { director: public(11), registry: public(12), time: public(13) };
        first([7; 16], people, &hub, Thresholds { root: 2, approve: 2, grant: 1 }, false).unwrap()
    }

    #[test]
    fn the_same_choices_give_the_same_root() {
        assert_eq!(small(), small());
        assert_eq!((small().version, small().keys.len()), (1, 6));
    }

    #[test]
    fn a_key_that_ends_stays_listed_and_cannot_begin_again() {
        let changes = |status, seed| Changes { end: vec![(public(seed).id(), status)], ..Changes::default() };
        let add = Changes { add: vec![person(4, "Dee", RoleSet::APPROVE.with(RoleSet::ROOT))], ..Changes::default() };
        let wider = next(&small(), &add).unwrap();
        let retired = next(&wider, &changes(KeyStatus::Retired, 2)).unwrap();
        assert_eq!((retired.version, retired.key(public(2).id()).unwrap().status), (3, KeyStatus::Retired));
        assert_eq!(next(&retired, &changes(KeyStatus::Retired, 2)), Err(BodyError::Ended(public(2).id())));
        let revoked = next(&retired, &changes(KeyStatus::Revoked, 2)).unwrap();
        assert_eq!(next(&revoked, &changes(KeyStatus::Retired, 2)), Err(BodyError::Ended(public(2).id())));
        assert!(matches!(next(&retired, &add), Err(BodyError::IsIn { .. })));
        assert_eq!(next(&small(), &changes(KeyStatus::Revoked, 9)), Err(BodyError::NoKey(public(9).id())));
        assert_eq!(next(&small(), &changes(KeyStatus::Revoked, 11)), Err(BodyError::Hubs(public(11).id())));
    }

    #[test]
    fn a_key_is_forgotten_only_after_it_ended() {
        let forget = |seed| Changes { forget: vec![public(seed).id()], ..Changes::default() };
        let mut wider = small();
        for seed in 4..22 {
            let add =
                Changes { add: vec![person(seed + 60, &format!("P{seed}"), RoleSet::APPROVE)], ..Changes::default() };
            wider = next(&wider, &add).unwrap();
        }
        let one_more = Changes { add: vec![person(99, "Zoe", RoleSet::APPROVE)], ..Changes::default() };
        assert_eq!(next(&wider, &one_more), Err(BodyError::TooManyKeys(25)));
        assert_eq!(next(&wider, &forget(64)), Err(BodyError::Counts(public(64).id())));
        let end = Changes { end: vec![(public(64).id(), KeyStatus::Revoked)], ..Changes::default() };
        let ended = next(&wider, &end).unwrap();
        let room = next(&ended, &Changes { forget: vec![public(64).id()], ..one_more }).unwrap();
        assert_eq!((room.keys.len(), room.key(public(64).id())), (24, None));
        assert_eq!(next(&room, &forget(64)), Err(BodyError::NoKey(public(64).id())));
    }

    #[test]
    fn a_new_key_of_the_hub_raises_its_generation_and_retires_the_old_one() {
        let root = next(&small(), &Changes { director: Some(public(21)), ..Changes::default() }).unwrap();
        assert_eq!((root.director_generation, root.time_generation), (2, 1));
        assert_eq!(root.key(public(11).id()).unwrap().status, KeyStatus::Retired);
        let root = next(&root, &Changes { time: Some(public(23)), ..Changes::default() }).unwrap();
        assert_eq!((root.director_generation, root.time_generation), (2, 2));
        let registry = next(&root, &Changes { registry: Some(public(22)), ..Changes::default() }).unwrap();
        assert_eq!(registry.key(public(12).id()).unwrap().status, KeyStatus::Retired);
        assert_eq!((registry.director_generation, registry.time_generation), (2, 2));
        let same = Changes { time: Some(public(23)), ..Changes::default() };
        assert!(matches!(next(&root, &same), Err(BodyError::IsIn { .. })));
    }

    #[test]
    fn a_root_that_would_lock_everybody_out_is_not_made() {
        let revoke = Changes { end: vec![(public(2).id(), KeyStatus::Revoked)], ..Changes::default() };
        assert!(matches!(next(&small(), &revoke), Err(BodyError::Fault(RootFault::Unreachable { .. }))));
        let lower = Changes { root: Some(1), approve: Some(1), ..revoke };
        assert!(next(&small(), &lower).is_ok());
        assert_eq!(next(&small(), &Changes::default()), Err(BodyError::Nothing));
    }
}
