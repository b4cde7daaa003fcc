//! The root: which keys exist, whose they are, and how many must agree.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use super::{KeyId, KeyName, PublicKey, Statement, StatementType};
use crate::id::{ModelName, Person};
use crate::limit::{KEYS_MAX, MODEL_NAME_BYTES_MAX};

/// The roots of trust of one fleet. Version 1 is signed by itself; later versions by the threshold
/// of the old root and of the new (the rule of TUF, section 6.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Counted from 1.
    pub version: u32,
    /// Random, so that two fleets never share an id.
    pub nonce: [u8; 16],
    /// All keys that ever counted, with their state.
    pub keys: Vec<KeyEntry, KEYS_MAX>,
    /// How many distinct persons each kind of decision takes.
    pub thresholds: Thresholds,
    /// Whether a release needs an approval by a key that is not a browser's.
    pub offline_approval: bool,
    /// Counts director keys; an assignment of an earlier generation is refused.
    pub director_generation: u32,
    /// Counts time keys.
    pub time_generation: u32,
}

impl Statement for Root {
    const TYPE: StatementType = StatementType::Root;
}

/// How many distinct persons must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A root.
    pub root: u8,
    /// A release, beside its publisher.
    pub approve: u8,
    /// A stage grant.
    pub grant: u8,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The key.
    pub public: PublicKey,
    /// Whose it is.
    pub person: Person,
    /// What it may sign.
    pub roles: RoleSet,
    /// Where the private half lives.
    pub class: KeyClass,
    /// The model names it may decide about begin with this; empty for all.
    pub prefix: String<MODEL_NAME_BYTES_MAX>,
    /// Whether it still counts.
    pub status: KeyStatus,
}

impl KeyEntry {
    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// Whether the key may decide about this model.
    #[must_use]
    pub fn covers(&self, name: &ModelName) -> bool {
        name.as_str().starts_with(self.prefix.as_str())
    }
}

/// What a key may sign: a set of roles, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSet(pub u8);

impl RoleSet {
    /// Signs roots.
    pub const ROOT: Self = Self(1);
    /// Publishes releases.
    pub const PUBLISH: Self = Self(2);
    /// Approves releases.
    pub const APPROVE: Self = Self(4);
    /// Grants stages.
    pub const GRANT: Self = Self(8);
    /// The hub's registry key.
    pub const REGISTRY: Self = Self(16);
    /// The hub's director key.
    pub const DIRECTOR: Self = Self(32);
    /// The hub's time key.
    pub const TIME: Self = Self(64);
    /// Signs checkpoints outside the hub.
    pub const WITNESS: Self = Self(128);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a private key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyClass {
    /// A file on someone's disk.
    File,
    /// An ssh-agent.
    SshAgent,
    /// A token behind PKCS#11.
    Pkcs11,
    /// A browser's key store.
    Browser,
    /// The hub itself.
    Hub,
}

/// Whether a key still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatus {
    /// It signs and what it signed counts.
    Active,
    /// It signs no more, but what it signed counts: staff turnover.
    Retired,
    /// Nothing it ever signed counts: theft.
    Revoked,
}

/// Why a root cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootFault {
    /// A threshold of zero.
    #[error("the {0} threshold is zero: at least one person must sign")]
    ZeroThreshold(&'static str),
    /// A threshold nobody can reach.
    #[error("{needed} persons must sign for {what}, but only {persons} hold such a key")]
    Unreachable {
        /// Which threshold.
        what: &'static str,
        /// How many must sign.
        needed: u8,
        /// How many could.
        persons: u8,
    },
    /// A key twice.
    #[error("key {0} is listed twice")]
    DuplicateKey(KeyId),
    /// Two keys that signatures could not tell apart.
    #[error("keys {0} and {1} begin with the same four digits: make another key")]
    SameTag(KeyId, KeyId),
    /// A key that verifies nothing: not a point of the curve, or of small order.
    #[error("key {0} is not a usable Ed25519 key")]
    WeakKey(KeyId),
    /// Publisher and approver in one key.
    #[error("key {0} both publishes and approves: give that person two keys")]
    PublisherApproves(KeyId),
    /// A hub role on a person's key or the other way round.
    #[error("key {0} mixes the hub's roles with a person's")]
    MixedRoles(KeyId),
    /// A role nobody has.
    #[error("no active key has the {0} role")]
    RoleMissing(&'static str),
}

impl Root {
    /// The key with this id.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&KeyEntry> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// The key that a signature names.
    #[must_use]
    pub fn named(&self, name: KeyName) -> Option<&KeyEntry> {
        self.keys.iter().find(|key| name.names(key.id()))
    }

    /// Checks that the root can work: thresholds reachable, roles apart, keys distinct.
    ///
    /// # Errors
    ///
    /// The first [`RootFault`] found.
    pub fn check(&self) -> Result<(), RootFault> {
        for (index, key) in self.keys.iter().enumerate() {
            let id = key.id();
            if let Some(before) = self.keys.iter().take(index).find(|before| before.id().tag() == id.tag()) {
                let is_same = before.public == key.public;
                return Err(if is_same { RootFault::DuplicateKey(id) } else { RootFault::SameTag(before.id(), id) });
            }
            if !key.public.is_usable() {
                return Err(RootFault::WeakKey(id));
            }
            if key.roles.contains(RoleSet::PUBLISH.with(RoleSet::APPROVE)) {
                return Err(RootFault::PublisherApproves(id));
            }
            let hub = RoleSet::REGISTRY.with(RoleSet::DIRECTOR).with(RoleSet::TIME);
            if (key.class == KeyClass::Hub) == (key.roles.0 & !hub.0 != 0) {
                return Err(RootFault::MixedRoles(id));
            }
        }
        let Thresholds { root, approve, grant } = self.thresholds;
        self.reachable("the root", root, RoleSet::ROOT)?;
        self.reachable("an approval", approve, RoleSet::APPROVE)?;
        self.reachable("a stage grant", grant, RoleSet::GRANT)?;
        let hub_roles =
            [("publisher", RoleSet::PUBLISH), ("director", RoleSet::DIRECTOR), ("registry", RoleSet::REGISTRY)];
        for (what, role) in hub_roles {
            if self.persons(role) == 0 {
                return Err(RootFault::RoleMissing(what));
            }
        }
        Ok(())
    }

    fn reachable(&self, what: &'static str, needed: u8, role: RoleSet) -> Result<(), RootFault> {
        if needed == 0 {
            return Err(RootFault::ZeroThreshold(what));
        }
        let persons = self.persons(role);
        if persons < needed { Err(RootFault::Unreachable { what, needed, persons }) } else { Ok(()) }
    }

    /// How many distinct persons hold an active key with this role.
    fn persons(&self, role: RoleSet) -> u8 {
        let holds = |key: &&KeyEntry| key.roles.contains(role) && key.status == KeyStatus::Active;
        let first = |(index, key): &(usize, &KeyEntry)| {
            !self.keys.iter().filter(holds).take(*index).any(|before| before.person == key.person)
        };
        let count = self.keys.iter().filter(holds).enumerate().filter(first).count();
        u8::try_from(count).unwrap_or(u8::MAX)
    }
}
