//! What survives a restart: brain state, root, broker, counters. Records begin with a format byte
//! (frames), so that a later version can tell what it reads.

use std::path::Path;

use bellwether_agent_core::update::Model;
use bellwether_agent_core::{Crashes, State, Trust};
use bellwether_agent_disk::{Bounds, Outbox};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::heapless;
use bellwether_protocol::limit::MODELS_MAX;
use bellwether_protocol::trust::{FleetId, Order};
use serde::{Deserialize, Serialize};
use sled::Db;

use crate::error::AgentError;
use crate::outbox::{self, TreeRows};
use crate::room::Room;

/// Cache of the store; sled's default is 1 GiB.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Most bytes of one record here: the state of eight models takes about eight KiB.
const RECORD_BYTES_MAX: usize = 64 * 1024;

const STATE: &str = "brain-3";
/// Where the state was before it held how models are to run.
const STATE_BEFORE_WISHES: &str = "brain-2";
/// Where the state was before it counted crashes.
const STATE_BEFORE_CRASHES: &str = "brain";
/// Where the state was before it held roots, recalls and checkpoints.
const STATE_BEFORE_TRUST: &str = "state";
const ENROLLED: &str = "enrolled";
const CONNECTS: &str = "connects";

/// What enrolment gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    /// The fleet, which pins the root.
    pub(crate) fleet: FleetId,
    /// Frame of the signed root.
    pub(crate) root: Vec<u8>,
    /// The name the hub knows.
    pub(crate) device: String,
    /// Where the broker is.
    pub(crate) broker: String,
    /// A password of the broker's, where it cannot check signatures.
    pub(crate) password: Option<String>,
}

/// The brain's state as it was stored before it held roots, recalls and checkpoints.
#[derive(Serialize, Deserialize)]
struct StateBeforeTrust {
    seen: Order,
    assignment: Digest,
    audit: Digest,
    commanded: Order,
    reports: u64,
    models: heapless::Vec<Model, MODELS_MAX>,
}

impl From<StateBeforeTrust> for State {
    fn from(before: StateBeforeTrust) -> Self {
        let StateBeforeTrust { seen, assignment, audit, commanded, reports, models } = before;
        Self { seen, assignment, audit, commanded, reports, models, ..Self::default() }
    }
}

/// The brain's state as it was stored before it counted crashes.
#[derive(Serialize, Deserialize)]
struct StateBeforeCrashes {
    seen: Order,
    assignment: Digest,
    audit: Digest,
    commanded: Order,
    reports: u64,
    models: heapless::Vec<Model, MODELS_MAX>,
    trust: Trust,
}

impl From<StateBeforeCrashes> for State {
    fn from(before: StateBeforeCrashes) -> Self {
        let StateBeforeCrashes { seen, assignment, audit, commanded, reports, models, trust } = before;
        Self { seen, assignment, audit, commanded, reports, models, trust, ..Self::default() }
    }
}

/// The brain's state as it was stored before it held how models are to run.
#[derive(Serialize, Deserialize)]
struct StateBeforeWishes {
    seen: Order,
    assignment: Digest,
    audit: Digest,
    commanded: Order,
    reports: u64,
    models: heapless::Vec<Model, MODELS_MAX>,
    trust: Trust,
    crashes: heapless::Vec<Crashes, MODELS_MAX>,
}

impl From<StateBeforeWishes> for State {
    fn from(before: StateBeforeWishes) -> Self {
        let StateBeforeWishes { seen, assignment, audit, commanded, reports, models, trust, crashes } = before;
        Self { seen, assignment, audit, commanded, reports, models, trust, crashes, ..Self::default() }
    }
}

/// The store of one device. One process at a time may hold it.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    room: Room,
}

fn storage(why: impl std::fmt::Display) -> AgentError {
    AgentError::Storage(why.to_string())
}

impl Store {
    /// Opens the store in a device's directory, or makes it.
    ///
    /// # Errors
    ///
    /// [`AgentError::Store`].
    pub fn open(data: &Path) -> Result<Self, AgentError> {
        let path = data.join("store");
        let room = Room::of(data);
        room.before_opening();
        let config = || sled::Config::new().cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000));
        let db =
            bellwether_database::open(&path, config).map_err(|why| AgentError::Store { path, why: why.to_string() })?;
        room.opened();
        Ok(Self { db, room })
    }

    /// The room on its disk.
    pub(crate) const fn room(&self) -> &Room {
        &self.room
    }

    /// The brain's state; the first one if there is none.
    ///
    /// # Errors
    ///
    /// [`AgentError::Storage`].
    pub fn state(&self) -> Result<State, AgentError> {
        if let Some(state) = self.read(STATE)? {
            return Ok(state);
        }
        if let Some(before) = self.read::<StateBeforeWishes>(STATE_BEFORE_WISHES)? {
            return Ok(before.into());
        }
        if let Some(before) = self.read::<StateBeforeCrashes>(STATE_BEFORE_CRASHES)? {
            return Ok(before.into());
        }
        let before: Option<StateBeforeTrust> = self.read(STATE_BEFORE_TRUST)?;
        Ok(before.map(State::from).unwrap_or_default())
    }

    /// Writes the brain's state; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`AgentError::Storage`].
    pub fn put_state(&self, state: &State) -> Result<(), AgentError> {
        self.write(STATE, state)
    }

    pub(crate) fn enrolled(&self) -> Result<Option<Enrolled>, AgentError> {
        self.read(ENROLLED)
    }

    pub(crate) fn put_enrolled(&self, enrolled: &Enrolled) -> Result<(), AgentError> {
        self.write(ENROLLED, enrolled)
    }

    /// A number higher than at every connect before, on disk before it is used.
    ///
    /// # Errors
    ///
    /// [`AgentError::Storage`].
    pub fn next_connect(&self) -> Result<u64, AgentError> {
        let last: u64 = self.read(CONNECTS)?.unwrap_or(0);
        let next = last.checked_add(1).ok_or_else(|| storage("the connect counter is used up"))?;
        self.write(CONNECTS, &next)?;
        Ok(next)
    }

    /// The device's outbox, or a new one under a random id. One at a time may be open.
    ///
    /// # Errors
    ///
    /// [`AgentError::Storage`].
    pub fn outbox(&self, bounds: Bounds) -> Result<Outbox<TreeRows>, AgentError> {
        outbox::open(self.db.open_tree("outbox").map_err(storage)?, self.room.clone(), bounds)
    }

    /// Brings everything to disk.
    ///
    /// # Errors
    ///
    /// [`AgentError::Storage`].
    pub fn flush(&self) -> Result<(), AgentError> {
        self.db.flush().map(drop).map_err(storage)
    }

    fn read<T: Serialize + for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>, AgentError> {
        let Some(bytes) = self.db.get(key).map_err(storage)? else { return Ok(None) };
        frame::decode(&bytes).map(Some).map_err(|why| storage(format_args!("record `{key}`: {why}")))
    }

    fn write<T: Serialize>(&self, key: &str, value: &T) -> Result<(), AgentError> {
        let mut buffer = vec![0; RECORD_BYTES_MAX];
        let bytes: &[u8] = frame::encode(value, &mut buffer).map_err(storage)?;
        self.room.before_writing(bytes.len());
        self.db.insert(key, bytes).map_err(storage)?;
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_an_earlier_release_still_opens() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let before = StateBeforeCrashes {
            seen: Order::default(),
            assignment: Digest([7; 32]),
            audit: Digest([8; 32]),
            commanded: Order::default(),
            reports: 9,
            models: [Model::new("digits".parse().unwrap())].into_iter().collect(),
            trust: Trust::default(),
        };
        store.write(STATE_BEFORE_CRASHES, &before).unwrap();
        let state = store.state().unwrap();
        assert_eq!((state.assignment, state.reports, state.models.len()), (Digest([7; 32]), 9, 1));
        let State { seen, assignment, audit, commanded, models, trust, .. } = state;
        let crashes = Crashes { name: "digits".parse().unwrap(), release: Digest([9; 32]), count: 2 };
        let crashes = [crashes].into_iter().collect();
        let before = StateBeforeWishes { seen, assignment, audit, commanded, reports: 9, models, trust, crashes };
        store.write(STATE_BEFORE_WISHES, &before).unwrap();
        let state = store.state().unwrap();
        assert_eq!((state.assignment, state.crashes.len(), state.wishes.len()), (Digest([7; 32]), 1, 0));
        store.put_state(&State { reports: 10, ..state }).unwrap();
        assert_eq!(store.state().unwrap().reports, 10);
    }

    #[test]
    fn connect_numbers_rise_across_restarts() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        assert_eq!((store.next_connect().unwrap(), store.next_connect().unwrap()), (1, 2));
        drop(store);
        let store = Store::open(data.path()).unwrap();
        assert_eq!(store.next_connect().unwrap(), 3);
        assert_eq!(store.state().unwrap(), State::default());
        assert!(Store::open(data.path()).unwrap_err().to_string().contains("another agent"));
    }
}
