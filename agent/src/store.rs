//! What survives a restart: brain state, root, broker, counters. Records begin with a format byte
//! (frames), so that a later version can tell what it reads.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

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
/// How often a lock that is held is tried again, and the pause before: half a second in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);
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

/// Opens a database. Its lock is a file's, which a child that is being started shares for a moment
/// with the process that held it: the lock of one that has just ended is waited for.
pub(crate) fn open_database(config: &sled::Config) -> sled::Result<Db> {
    let mut tries = LOCK_TRIES;
    loop {
        match config.open() {
            Err(why) if tries > 0 && why.to_string().contains("could not acquire lock") => {
                tries -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Removes snapshots that a crash or a full disk left half written: sled takes the newest for a whole
/// one and would never open the database again. What they would hold is in its log.
fn forget_half_snapshots(path: &Path) {
    let half = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("snap.") && name.ends_with(".generating")
    };
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten().filter(half) {
        match std::fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "a snapshot was half written: removed"),
            Err(why) => tracing::error!(%why, file = %entry.path().display(), "a half snapshot cannot be removed"),
        }
    }
}

fn config(path: &Path) -> sled::Config {
    sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000))
}

/// Makes an empty database if there is none: beside its place, and moved there when it is on disk. sled
/// writes its settings in two steps, and one that is killed between them never opens again.
fn make(data: &Path, path: &Path) -> sled::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let beside = data.join("store.new");
    match std::fs::remove_dir_all(&beside) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why.into()),
        Ok(()) | Err(_) => {}
    }
    drop(open_database(&config(&beside))?);
    for file in ["conf", "db", "."] {
        File::open(beside.join(file))?.sync_all()?;
    }
    std::fs::rename(&beside, path)?;
    File::open(data)?.sync_all()?;
    Ok(())
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
        forget_half_snapshots(&path);
        let opened = make(data, &path).and_then(|()| open_database(&config(&path)));
        let db = opened.map_err(|why| AgentError::Store { path, why: why.to_string() })?;
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
    fn a_snapshot_that_was_half_written_does_not_keep_the_store_closed() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        store.put_state(&State { reports: 7, ..State::default() }).unwrap();
        drop(store);
        for left in ["snap.FFFFFFFFFFFFFFF0.generating", "snap.0000000000000001.generating"] {
            std::fs::write(data.path().join("store").join(left), b"half").unwrap();
        }
        assert_eq!(Store::open(data.path()).unwrap().state().unwrap().reports, 7);
    }

    #[test]
    fn a_store_whose_making_was_cut_short_is_made_anew() {
        let data = tempfile::tempdir().unwrap();
        let beside = data.path().join("store.new");
        drop(open_database(&config(&beside)).unwrap());
        // As a kill between the two writes of sled's settings leaves them.
        let settings = beside.join("conf");
        let whole = std::fs::read(&settings).unwrap();
        std::fs::write(&settings, &whole[..whole.len() - 4]).unwrap();
        assert!(open_database(&config(&beside)).is_err(), "sled does not open it any more");
        let store = Store::open(data.path()).unwrap();
        assert_eq!(store.next_connect().unwrap(), 1);
        assert!(!beside.exists());
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
