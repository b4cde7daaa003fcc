//! Store and forward: what must reach the hub stays on disk until the hub says that it took it.
//!
//! A few batches are under way at a time, sent again from the oldest if its acknowledgement is late. Numbers run from 1
//! for ever; when there is no room the oldest records give way to a gap that says how many.

use std::collections::VecDeque;

use bellwether_agent_core::outbox::{Dropped, Kept, make_room};
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Fixed;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{RECORDS_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Batch, OutboxId, Record, RecordBody};
use sled::{Batch as Changes, IVec, Tree};

use crate::error::AgentError;

/// Room in a statement for everything of a batch but its records.
const HEAD_BYTES: usize = 160;
/// Bytes that a record takes beside its own: key and bookkeeping.
const RECORD_OVERHEAD: u64 = 32;
/// Batches under way at once: 32 KiB, so that a broker's queue for the hub stays small and a round
/// trip does not set the pace.
const BATCHES_MAX: usize = 8;
/// How long to wait for an acknowledgement; doubled up to [`RESEND_MS_MAX`].
const RESEND_MS_FIRST: u64 = 2_000;
const RESEND_MS_MAX: u64 = 60_000;

const ID: &[u8] = b"mid";
const NEXT: &[u8] = b"mnext";
const ACKED: &[u8] = b"macked";

/// The outbox of one device.
#[derive(Debug)]
pub(crate) struct Outbox {
    tree: Tree,
    id: OutboxId,
    next: u64,
    acked: u64,
    waiting: u64,
    bytes: u64,
    bytes_max: u64,
    /// Of each batch under way its last number, and when all are sent again; the oldest first.
    sent: VecDeque<(u64, Millis)>,
    resend_ms: u64,
    /// Whether something here may not be on disk for good yet.
    is_dirty: bool,
}

/// Records that are due, as they are on disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    outbox: OutboxId,
    oldest: u64,
    first: u64,
    rows: Fixed<IVec, RECORDS_MAX>,
}

impl Due {
    /// The statement that carries them.
    pub(crate) fn batch(&self, device: &DeviceId) -> Batch<'_> {
        let records = self.rows.iter().filter_map(|row| frame::decode(row).ok()).collect();
        Batch { device: device.clone(), outbox: self.outbox, oldest: self.oldest, first: self.first, records }
    }
}

fn key(number: u64) -> [u8; 9] {
    let mut key = [b'r'; 9];
    key.iter_mut().skip(1).zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    key
}

fn number(key: &[u8]) -> Option<u64> {
    key.strip_prefix(b"r")?.try_into().ok().map(u64::from_be_bytes)
}

fn storage(why: impl std::fmt::Display) -> AgentError {
    AgentError::Storage(why.to_string())
}

impl Outbox {
    /// Opens the outbox, or makes one under a new random id.
    pub(crate) fn open(tree: Tree, bytes_max: u64) -> Result<Self, AgentError> {
        let read = |key| -> Result<u64, AgentError> {
            let value = tree.get(key).map_err(storage)?;
            Ok(value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
        };
        let next = read(NEXT)?.max(1);
        let acked = read(ACKED)?;
        let id = match tree.get(ID).map_err(storage)?.and_then(|id| <[u8; 16]>::try_from(id.as_ref()).ok()) {
            Some(id) => OutboxId(id),
            None => {
                let mut id = [0; 16];
                getrandom::fill(&mut id).map_err(storage)?;
                tree.insert(ID, id.as_slice()).map_err(storage)?;
                OutboxId(id)
            }
        };
        let resend_ms = RESEND_MS_FIRST;
        // A new id is not on disk yet.
        let is_dirty = true;
        let mut outbox =
            Self { tree, id, next, acked, waiting: 0, bytes: 0, bytes_max, sent: VecDeque::new(), resend_ms, is_dirty };
        // Removals that were not flushed before a crash come back.
        outbox.forget(acked)?;
        for (_, value) in outbox.rows() {
            (outbox.waiting, outbox.bytes) = (outbox.waiting + 1, outbox.bytes + cost(&value));
        }
        Ok(outbox)
    }

    /// Its id and the number of its newest record.
    pub(crate) const fn newest(&self) -> (OutboxId, u64) {
        (self.id, self.next.saturating_sub(1))
    }

    /// How many records wait.
    pub(crate) const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Adds a record, dropping the oldest where there is no room.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> Result<(), AgentError> {
        let mut buffer = [0; STATEMENT_BYTES_MAX - HEAD_BYTES];
        let value: &[u8] = frame::encode(record, &mut buffer).map_err(storage)?;
        let mut changes = Changes::default();
        self.bytes += cost(value);
        if self.bytes > self.bytes_max {
            self.drop_oldest(&mut changes)?;
        }
        changes.insert(&key(self.next), value);
        self.next += 1;
        self.waiting += 1;
        changes.insert(NEXT, &self.next.to_be_bytes());
        self.is_dirty = true;
        self.tree.apply_batch(changes).map_err(storage)
    }

    /// Frees a sixteenth at once, so that a full outbox does not shuffle at every record.
    fn drop_oldest(&mut self, changes: &mut Changes) -> Result<(), AgentError> {
        let excess = self.bytes - self.bytes_max + self.bytes_max / 16;
        let kept = |(number, value): (u64, IVec)| {
            let gap = match frame::decode::<Record<'_>>(&value) {
                Ok(Record { body: RecordBody::Gap(count), .. }) => Some(count),
                Ok(_) | Err(_) => None,
            };
            Kept { number, bytes: cost(&value), gap }
        };
        let Some(Dropped { through, count }) = make_room(self.rows().map(kept), excess) else {
            return Ok(());
        };
        for (number, value) in self.rows().take_while(|(number, _)| *number <= through) {
            self.bytes = self.bytes.saturating_sub(cost(&value));
            self.waiting = self.waiting.saturating_sub(1);
            changes.remove(&key(number));
        }
        let gap = Record { at: crate::clock::wall(), body: RecordBody::Gap(count) };
        let mut buffer = [0; 64];
        let value: &[u8] = frame::encode(&gap, &mut buffer).map_err(storage)?;
        self.bytes += cost(value);
        self.waiting += 1;
        changes.insert(&key(through), value);
        // A batch under way may contain what was dropped: it is made anew.
        self.sent.clear();
        tracing::warn!(count, "the outbox is full: its oldest records were dropped");
        Ok(())
    }

    /// The batch to send at `now`, if one is due. It is on disk for good: a number that the hub saw
    /// is never given to another record, whatever a power cut takes away.
    pub(crate) fn due(&mut self, now: Millis) -> Option<Due> {
        if self.sent.front().is_some_and(|(_, again)| now >= *again) {
            self.sent.clear();
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
        }
        if self.waiting == 0 || self.sent.len() >= BATCHES_MAX {
            return None;
        }
        let after = self.sent.back().map_or(0, |(last, _)| *last);
        let mut fresh = self.rows_after(after).peekable();
        fresh.peek()?;
        if self.is_dirty {
            if let Err(why) = self.tree.flush() {
                tracing::error!(%why, "the outbox cannot be brought to disk: nothing of it is sent");
                return None;
            }
            self.is_dirty = false;
        }
        let mut room = STATEMENT_BYTES_MAX - HEAD_BYTES;
        let mut rows: Fixed<IVec, RECORDS_MAX> = Fixed::new();
        let (mut first, mut last) = (None, 0);
        for (number, value) in fresh {
            if frame::decode::<Record<'_>>(&value).is_err() {
                continue;
            }
            let follows = first.is_none() || number == last + 1;
            let Some(left) = room.checked_sub(value.len()).filter(|_| follows) else { break };
            if rows.push(value).is_err() {
                break;
            }
            room = left;
            first.get_or_insert(number);
            last = number;
        }
        let first = first?;
        let oldest = self.rows().next().map_or(first, |(number, _)| number);
        self.sent.push_back((last, now.saturating_add(Millis(self.resend_ms))));
        Some(Due { outbox: self.id, oldest, first, rows })
    }

    /// When a batch is to be sent again, or at once if one waits.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.sent.front().map(|(_, again)| *again)
    }

    /// The hub took everything up to and including `through`.
    pub(crate) fn acknowledged(&mut self, through: u64) -> Result<(), AgentError> {
        self.forget(through)?;
        while self.sent.front().is_some_and(|(last, _)| *last <= through) {
            self.sent.pop_front();
            self.resend_ms = RESEND_MS_FIRST;
        }
        Ok(())
    }

    /// A new connection: what was under way is sent again at once.
    pub(crate) fn reconnected(&mut self) {
        self.sent.clear();
        self.resend_ms = RESEND_MS_FIRST;
    }

    fn forget(&mut self, through: u64) -> Result<(), AgentError> {
        let mut changes = Changes::default();
        let mut freed = 0;
        for (number, value) in self.rows().take_while(|(number, _)| *number <= through) {
            changes.remove(&key(number));
            freed += cost(&value);
            self.waiting = self.waiting.saturating_sub(1);
        }
        self.bytes = self.bytes.saturating_sub(freed);
        // An acknowledgement may come late; what was acknowledged stays so.
        self.acked = self.acked.max(through);
        changes.insert(ACKED, &self.acked.to_be_bytes());
        self.tree.apply_batch(changes).map_err(storage)
    }

    fn rows(&self) -> impl Iterator<Item = (u64, IVec)> + use<> {
        self.rows_after(0)
    }

    fn rows_after(&self, last: u64) -> impl Iterator<Item = (u64, IVec)> + use<> {
        self.tree.range(key(last.saturating_add(1))..=key(u64::MAX)).filter_map(|row| {
            let (key, value) = row.ok()?;
            Some((number(&key)?, value))
        })
    }
}

fn cost(value: &[u8]) -> u64 {
    value.len() as u64 + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::trust::{Event, Phase};

    use super::*;
    use crate::store::open_database;

    fn tree(data: &tempfile::TempDir) -> Tree {
        open_database(&sled::Config::new().path(data.path())).unwrap().open_tree("outbox").unwrap()
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
        let mut outbox = Outbox::open(tree(&data), 1 << 20).unwrap();
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
        let mut outbox = Outbox::open(tree(&data), 1 << 20).unwrap();
        assert_eq!((outbox.newest(), outbox.waiting()), (id, 8));
        let due = outbox.due(Millis(0)).unwrap();
        let batch = due.batch(&device());
        assert_eq!((batch.oldest, batch.first, batch.records.len()), (33, 33, 8));
        outbox.acknowledged(40).unwrap();
        assert_eq!((outbox.due(Millis(1)), outbox.waiting()), (None, 0));
        drop(outbox);
        let mut outbox = Outbox::open(tree(&data), 1 << 20).unwrap();
        outbox.push(&record(41)).unwrap();
        assert_eq!(outbox.due(Millis(0)).unwrap().first, 41);
    }

    #[test]
    fn what_is_sent_survives_a_power_cut() {
        let open = |path: &std::path::Path| {
            let config = sled::Config::new().path(path).flush_every_ms(None);
            open_database(&config).unwrap().open_tree("outbox").unwrap()
        };
        let (data, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut outbox = Outbox::open(open(data.path()), 1 << 20).unwrap();
        for version in 1..=3 {
            outbox.push(&record(version)).unwrap();
            let sent = outbox.due(Millis(0)).unwrap();
            outbox.reconnected();
            // The disk as the cut leaves it: nothing that was not brought there.
            let left = cut.path().join(version.to_string());
            copy(data.path(), &left);
            let mut left = Outbox::open(open(&left), 1 << 20).unwrap();
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
        let mut outbox = Outbox::open(tree(&data), 8192).unwrap();
        for version in 1..=2000 {
            outbox.push(&record(version)).unwrap();
        }
        assert!(outbox.bytes <= 8192);
        let due = outbox.due(Millis(0)).unwrap();
        let batch = due.batch(&device());
        let RecordBody::Gap(count) = batch.records[0].body else { panic!("{batch:?}") };
        assert_eq!((count, batch.first), (batch.first, batch.oldest));
        assert_eq!(outbox.waiting() + count - 1, 2000);
        assert_eq!(batch.records[1], record(u32::try_from(batch.first + 1).unwrap()));
    }
}
