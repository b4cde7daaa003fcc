//! The outbox on sled: the records of one tree.

use bellwether_agent_disk::{Bounds, Changes, Outbox, Rows};
use bellwether_protocol::trust::OutboxId;
use sled::{Batch, Tree};

use crate::error::AgentError;
use crate::room::Room;

/// A tree of the device's store, as the outbox sees it, and the room on its disk.
#[derive(Debug)]
pub struct TreeRows(Tree, Room);

impl Rows for TreeRows {
    type Fault = sled::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, sled::Error> {
        Ok(self.0.get(key)?.map(|value| value.to_vec()))
    }

    fn from(&self, key: Vec<u8>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.0.range(key..).filter_map(|row| row.ok().map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn apply(&mut self, changes: Changes) -> Result<(), sled::Error> {
        self.1.before_writing(changes.iter().filter_map(|(_, value)| Some(value.as_ref()?.len())).sum());
        // A batch has sled write out what it has buffered, twice; one row by itself waits for the flush.
        if let [(key, value)] = changes.as_slice() {
            return match value {
                Some(value) => self.0.insert(key, value.as_slice()).map(drop),
                None => self.0.remove(key).map(drop),
            };
        }
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.0.apply_batch(batch)
    }

    fn flush(&mut self) -> Result<(), sled::Error> {
        self.0.flush().map(drop)
    }
}

/// Opens the outbox of a device, or makes one under a new random id.
pub(crate) fn open(tree: Tree, room: Room, bounds: Bounds) -> Result<Outbox<TreeRows>, AgentError> {
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh).map_err(|why| AgentError::Storage(why.to_string()))?;
    Outbox::open(TreeRows(tree, room), bounds, || OutboxId(fresh)).map_err(|why| AgentError::Storage(why.to_string()))
}

#[cfg(test)]
mod tests {
    use bellwether_agent_disk::RESEND_MS_FIRST;
    use bellwether_protocol::id::DeviceId;
    use bellwether_protocol::limit::RECORDS_MAX;
    use bellwether_protocol::time::Millis;
    use bellwether_protocol::trust::{Event, Phase, Record, RecordBody};

    use super::*;

    fn open(tree: Tree, bounds: Bounds) -> Result<Outbox<TreeRows>, AgentError> {
        super::open(tree, Room::of(&std::env::temp_dir().join("nowhere")), bounds)
    }

    fn tree(data: &tempfile::TempDir) -> Tree {
        let database = bellwether_database::open(&data.path().join("store"), sled::Config::new);
        database.unwrap().open_tree("outbox").unwrap()
    }

    fn bounds(bytes_max: u64) -> Bounds {
        Bounds { bytes_max, ..crate::Config::default().outbox() }
    }

    fn record(version: u32) -> Record<'static> {
        let event = Event {
            name: "digits".parse().unwrap(),
            version: version.try_into().unwrap(),
            phase: Phase::Committed,
            reject: None,
        };
        Record { at: Millis(u64::from(version)), body: RecordBody::Event(event) }
    }

    fn device() -> DeviceId {
        "gw-1".parse().unwrap()
    }

    #[test]
    fn a_batch_is_sent_until_the_hub_took_it_and_survives_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let mut outbox = open(tree(&data), bounds(1 << 20)).unwrap();
        for version in 1..=40 {
            outbox.push(&record(version)).unwrap();
        }
        let due = outbox.due(Millis(0)).unwrap();
        let batch = due.batch(&device());
        assert_eq!((batch.first, batch.records.len()), (1, RECORDS_MAX));
        drop(batch);
        let next = outbox.due(Millis(1)).unwrap();
        let (follows, through) = (next.batch(&device()), 40 - RECORDS_MAX as u64);
        assert_eq!((follows.oldest, follows.first, follows.records.len() as u64), (1, 33, through));
        assert_eq!(outbox.due(Millis(1)), None, "everything is under way");
        assert_eq!(outbox.due(Millis(RESEND_MS_FIRST)), Some(due));
        outbox.acknowledged(32).unwrap();
        let id = outbox.newest();
        drop(outbox);
        let mut outbox = open(tree(&data), bounds(1 << 20)).unwrap();
        assert_eq!((outbox.newest(), outbox.waiting()), (id, 8));
        let due = outbox.due(Millis(0)).unwrap();
        let batch = due.batch(&device());
        assert_eq!((batch.oldest, batch.first, batch.records.len()), (33, 33, 8));
        outbox.acknowledged(40).unwrap();
        assert_eq!((outbox.due(Millis(1)), outbox.waiting()), (None, 0));
        drop(outbox);
        let mut outbox = open(tree(&data), bounds(1 << 20)).unwrap();
        outbox.push(&record(41)).unwrap();
        assert_eq!(outbox.due(Millis(0)).unwrap().batch(&device()).first, 41);
    }

    #[test]
    fn what_is_sent_survives_a_power_cut() {
        let unflushed = |path: &std::path::Path| {
            let config = || sled::Config::new().flush_every_ms(None);
            bellwether_database::open(&path.join("store"), config).unwrap().open_tree("outbox").unwrap()
        };
        let (data, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut outbox = open(unflushed(data.path()), bounds(1 << 20)).unwrap();
        for version in 1..=3 {
            outbox.push(&record(version)).unwrap();
            let sent = outbox.due(Millis(0)).unwrap();
            outbox.reconnected();
            // The disk as the cut leaves it: nothing that was not brought there.
            let left = cut.path().join(version.to_string());
            copy(data.path(), &left);
            let mut left = open(unflushed(&left), bounds(1 << 20)).unwrap();
            assert_eq!((left.newest(), left.due(Millis(0))), (outbox.newest(), Some(sent)));
        }
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    #[test]
    fn a_full_outbox_says_how_many_it_dropped() {
        let data = tempfile::tempdir().unwrap();
        let mut outbox = open(tree(&data), bounds(8192)).unwrap();
        for version in 1..=2000 {
            outbox.push(&record(version)).unwrap();
        }
        let due = outbox.due(Millis(0)).unwrap();
        let batch = due.batch(&device());
        let RecordBody::Gap(count) = batch.records[0].body else { panic!("{batch:?}") };
        assert_eq!((count, batch.first), (batch.first, batch.oldest));
        assert_eq!(outbox.waiting() + count - 1, 2000);
        assert_eq!(batch.records[1], record(u32::try_from(batch.first + 1).unwrap()));
    }
}
