//! Store and forward: what must reach the hub stays on disk until the hub says that it took it.
//!
//! A few batches are under way at a time, sent again from the oldest if its acknowledgement is late. Numbers run from 1
//! for ever; when there is no room, or they are too old, the oldest records give way to a gap that says how many.

use std::collections::VecDeque;

use bellwether_agent_core::outbox::{Dropped, Kept, expire, make_room};
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Fixed;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{RECORDS_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Batch, OutboxId, Record, RecordBody};

use crate::age::Age;
use crate::{Changes, Rows};

/// Room in a statement for everything of a batch but its records.
const HEAD_BYTES: usize = 160;
/// Bytes that a record takes beside its own: key and bookkeeping.
const RECORD_OVERHEAD: u64 = 32;
/// Batches under way at once: 32 KiB, so that a broker's queue for the hub stays small and a round
/// trip does not set the pace.
const BATCHES_MAX: usize = 8;
/// How long to wait for an acknowledgement, in milliseconds; doubled up to a minute.
pub const RESEND_MS_FIRST: u64 = 2_000;
const RESEND_MS_MAX: u64 = 60_000;

const ID: &[u8] = b"mid";
/// The next number when something was sent last: that of the last row says it as well.
const NEXT: &[u8] = b"mnext";
const ACKED: &[u8] = b"macked";

/// Why the outbox does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// A record that does not fit a batch.
    #[error("a record does not fit: {0}")]
    TooLarge(bellwether_protocol::error::Reject),
    /// The store says so.
    #[error("{0}")]
    Store(String),
}

/// How much waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all records.
    pub bytes_max: u64,
    /// How long a record waits, in running time of the device: what it was without power does not
    /// count, and no clock that is set does.
    pub age_max: Millis,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    records: u64,
    bytes: u64,
}

impl Held {
    fn add(&mut self, value: &[u8]) {
        self.records += 1;
        self.bytes += cost(value);
    }

    fn take(&mut self, value: &[u8]) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost(value));
    }
}

/// The outbox of one device.
#[derive(Debug)]
pub struct Outbox<R> {
    rows: R,
    id: OutboxId,
    next: u64,
    acked: u64,
    held: Held,
    bytes_max: u64,
    age: Age,
    /// Of each batch under way its last number, and when all are sent again; the oldest first.
    sent: VecDeque<(u64, Millis)>,
    resend_ms: u64,
    /// Whether something here may not be on disk for good yet.
    is_dirty: bool,
}

/// Records that are due, as they are on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    outbox: OutboxId,
    oldest: u64,
    first: u64,
    rows: Fixed<Vec<u8>, RECORDS_MAX>,
}

impl Due {
    /// The statement that carries them.
    #[must_use]
    pub fn batch(&self, device: &DeviceId) -> Batch<'_> {
        let records = self.rows.iter().filter_map(|row| frame::decode(row).ok()).collect();
        Batch { device: device.clone(), outbox: self.outbox, oldest: self.oldest, first: self.first, records }
    }
}

fn key(number: u64) -> Vec<u8> {
    [b"r".as_slice(), &number.to_be_bytes()].concat()
}

fn number(key: &[u8]) -> Option<u64> {
    key.strip_prefix(b"r")?.try_into().ok().map(u64::from_be_bytes)
}

fn read<R: Rows>(rows: &R, key: &[u8]) -> Result<u64, R::Fault> {
    let value = rows.get(key)?;
    Ok(value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// The newest number that these records of an outbox know of, 0 if none: that of a record, or of one
/// that was acknowledged. So a record takes one write, and no number that was sent is given again.
///
/// # Errors
///
/// As the store.
pub fn newest<R: Rows>(rows: &R) -> Result<u64, R::Fault> {
    let last = kept_rows(rows).last().map_or(0, |(number, _)| number);
    Ok(last.max(read(rows, NEXT)?.saturating_sub(1)).max(read(rows, ACKED)?))
}

fn storage(why: impl std::fmt::Display) -> OutboxError {
    OutboxError::Store(why.to_string())
}

fn put(key: impl Into<Vec<u8>>, value: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.into(), Some(value.to_vec()))
}

impl<R: Rows> Outbox<R> {
    /// Opens the outbox, or makes one under a new id, which must be random.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub fn open(mut rows: R, bounds: Bounds, new: impl FnOnce() -> OutboxId) -> Result<Self, OutboxError> {
        let next = newest(&rows).map_err(storage)?.saturating_add(1);
        let acked = read(&rows, ACKED).map_err(storage)?;
        let id = match rows.get(ID).map_err(storage)?.and_then(|id| <[u8; 16]>::try_from(id).ok()) {
            Some(id) => OutboxId(id),
            None => {
                let id = new();
                rows.apply(vec![put(ID, &id.0)]).map_err(storage)?;
                id
            }
        };
        let age = Age::open(&rows, bounds.age_max).map_err(storage)?;
        let (held, bytes_max, resend_ms) = (Held::default(), bounds.bytes_max, RESEND_MS_FIRST);
        // A new id is not on disk yet.
        let is_dirty = true;
        let mut outbox =
            Self { rows, id, next, acked, held, bytes_max, age, sent: VecDeque::new(), resend_ms, is_dirty };
        // Removals that were not flushed before a crash come back.
        outbox.forget(acked)?;
        outbox.count()?;
        Ok(outbox)
    }

    /// Counts what waits. A record that cannot be read, such as one of a newer agent, is told as a gap:
    /// without its number the hub would wait for it for ever.
    fn count(&mut self) -> Result<(), OutboxError> {
        let (mut held, mut changes, mut oldest) = (Held::default(), Changes::new(), None);
        for (number, value) in kept_rows(&self.rows) {
            oldest = oldest.or(Some(number));
            if frame::decode::<Record<'_>>(&value).is_ok() {
                held.add(&value);
                continue;
            }
            tracing::warn!(number, "a record in the outbox cannot be read: it is dropped");
            held.add(&put_gap(&mut changes, (number, 1), Millis(0))?);
        }
        // Records from before ages were counted are as old as the first start that counts.
        let mark = oldest.and_then(|oldest| self.age.begun(oldest)).filter(|_| self.age.first_after(0).is_none());
        mark.into_iter().for_each(|mark| self.age.mark(mark, &mut changes));
        self.rows.apply(changes).map_err(storage)?;
        self.age.marked(mark);
        self.held = held;
        Ok(())
    }

    /// Its id and the number of its newest record.
    #[must_use]
    pub const fn newest(&self) -> (OutboxId, u64) {
        (self.id, self.next.saturating_sub(1))
    }

    /// How many records wait.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.held.records
    }

    /// Adds a record, dropping the oldest where there is no room. It is told by the time of `record`
    /// that they are gone. A record that cannot be written leaves its number behind, by which the hub
    /// counts it as missing.
    ///
    /// # Errors
    ///
    /// [`OutboxError`].
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), OutboxError> {
        let mut buffer = [0; STATEMENT_BYTES_MAX - HEAD_BYTES];
        let value: &[u8] = frame::encode(record, &mut buffer).map_err(OutboxError::TooLarge)?;
        let (mut held, mut changes) = (self.held, Changes::new());
        held.add(value);
        let dropped = if held.bytes > self.bytes_max {
            // A sixteenth at once, so that a full outbox does not shuffle at every record.
            let excess = held.bytes - self.bytes_max + self.bytes_max / 16;
            make_room(kept_rows(&self.rows).map(kept), excess)
        } else {
            None
        };
        if let Some(dropped) = dropped {
            self.drop_oldest(dropped, record.at, (&mut held, &mut changes))?;
        }
        let mark = self.age.begun(self.next);
        mark.into_iter().for_each(|mark| self.age.mark(mark, &mut changes));
        changes.push(put(key(self.next), value));
        self.next += 1;
        self.change(changes, held)?;
        self.age.marked(mark);
        self.told(dropped, "no room");
        Ok(())
    }

    /// Time passes: what is too old is dropped, and told by the time `at`, milliseconds since 1970.
    /// `now` never jumps while the outbox is open. To be called every minute at least.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]; what was too old still is.
    pub fn tick(&mut self, now: Millis, at: Millis) -> Result<(), OutboxError> {
        self.age.pass(now);
        let expired = self.age.expired();
        if expired == 0 && (self.held.records == 0 || !self.age.is_unwritten()) {
            return Ok(());
        }
        let (mut held, mut changes) = (self.held, Changes::new());
        let through = self.age.first_after(expired).unwrap_or(self.next).saturating_sub(1);
        let dropped = if expired == 0 { None } else { expire(kept_rows(&self.rows).map(kept), through) };
        if let Some(dropped) = dropped {
            self.drop_oldest(dropped, at, (&mut held, &mut changes))?;
        }
        self.age.remove(expired, &mut changes);
        self.age.write(&mut changes);
        self.change(changes, held)?;
        self.age.removed(expired);
        self.told(dropped, "too old");
        Ok(())
    }

    /// Makes changes, after which so much waits; if they fail, as much as before.
    fn change(&mut self, changes: Changes, held: Held) -> Result<(), OutboxError> {
        self.is_dirty = true;
        self.rows.apply(changes).map_err(storage)?;
        self.held = held;
        Ok(())
    }

    fn drop_oldest(
        &self,
        Dropped { through, count }: Dropped,
        at: Millis,
        (held, changes): (&mut Held, &mut Changes),
    ) -> Result<(), OutboxError> {
        for (number, value) in kept_rows(&self.rows).take_while(|(number, _)| *number <= through) {
            held.take(&value);
            changes.push((key(number), None));
        }
        held.add(&put_gap(changes, (through, count), at)?);
        Ok(())
    }

    fn told(&mut self, dropped: Option<Dropped>, why: &'static str) {
        if let Some(Dropped { count, .. }) = dropped {
            // A batch under way may contain what was dropped: it is made anew.
            self.sent.clear();
            tracing::warn!(count, why, "the oldest records of the outbox were dropped");
        }
    }

    /// The batch to send at `now`, if one is due. It is on disk for good: a number that the hub saw
    /// is never given to another record, whatever a power cut takes away.
    pub fn due(&mut self, now: Millis) -> Option<Due> {
        if self.sent.front().is_some_and(|(_, again)| now >= *again) {
            self.sent.clear();
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
        }
        if self.held.records == 0 || self.sent.len() >= BATCHES_MAX {
            return None;
        }
        let after = self.sent.back().map_or(0, |(last, _)| *last);
        rows_after(&self.rows, after).next()?;
        if self.is_dirty {
            // An agent from before the last row told it begins there; where it cannot be written, none is.
            let _ = self.rows.apply(vec![put(NEXT, &self.next.to_be_bytes())]);
            if let Err(why) = self.rows.flush() {
                tracing::error!(%why, "the outbox cannot be brought to disk: nothing of it is sent");
                return None;
            }
            self.is_dirty = false;
        }
        let mut room = STATEMENT_BYTES_MAX - HEAD_BYTES;
        let mut due: Fixed<Vec<u8>, RECORDS_MAX> = Fixed::new();
        let (mut first, mut last) = (None, 0);
        for (number, value) in rows_after(&self.rows, after) {
            let follows = first.is_none() || number == last + 1;
            let Some(left) = room.checked_sub(value.len()).filter(|_| follows) else { break };
            if due.push(value).is_err() {
                break;
            }
            room = left;
            first.get_or_insert(number);
            last = number;
        }
        let first = first?;
        let oldest = kept_rows(&self.rows).next().map_or(first, |(number, _)| number);
        self.sent.push_back((last, now.saturating_add(Millis(self.resend_ms))));
        Some(Due { outbox: self.id, oldest, first, rows: due })
    }

    /// When a batch is to be sent again, or at once if one waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.sent.front().map(|(_, again)| *again)
    }

    /// The hub took everything up to and including `through`.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub fn acknowledged(&mut self, through: u64) -> Result<(), OutboxError> {
        self.forget(through)?;
        while self.sent.front().is_some_and(|(last, _)| *last <= through) {
            self.sent.pop_front();
            self.resend_ms = RESEND_MS_FIRST;
        }
        Ok(())
    }

    /// A new connection: what was under way is sent again at once.
    pub fn reconnected(&mut self) {
        self.sent.clear();
        self.resend_ms = RESEND_MS_FIRST;
    }

    fn forget(&mut self, through: u64) -> Result<(), OutboxError> {
        let (mut held, mut changes) = (self.held, Changes::new());
        for (number, value) in kept_rows(&self.rows).take_while(|(number, _)| *number <= through) {
            changes.push((key(number), None));
            held.take(&value);
        }
        // An acknowledgement may come late; what was acknowledged stays so.
        self.acked = self.acked.max(through);
        changes.push(put(ACKED, &self.acked.to_be_bytes()));
        self.rows.apply(changes).map_err(storage)?;
        self.held = held;
        Ok(())
    }
}

/// Puts a gap for so many records at this number, and gives its bytes.
fn put_gap(changes: &mut Changes, (number, count): (u64, u64), at: Millis) -> Result<Vec<u8>, OutboxError> {
    let mut buffer = [0; 64];
    let gap = Record { at, body: RecordBody::Gap(count) };
    let value: &[u8] = frame::encode(&gap, &mut buffer).map_err(OutboxError::TooLarge)?;
    changes.push(put(key(number), value));
    Ok(value.to_vec())
}

fn kept((number, value): (u64, Vec<u8>)) -> Kept {
    let gap = match frame::decode::<Record<'_>>(&value) {
        Ok(Record { body: RecordBody::Gap(count), .. }) => Some(count),
        Ok(_) | Err(_) => None,
    };
    Kept { number, bytes: cost(&value), gap }
}

fn kept_rows<R: Rows>(all: &R) -> impl Iterator<Item = (u64, Vec<u8>)> {
    rows_after(all, 0)
}

fn rows_after<R: Rows>(all: &R, last: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    all.from(key(last.saturating_add(1))).map_while(|(key, value)| Some((number(&key)?, value)))
}

fn cost(value: &[u8]) -> u64 {
    value.len() as u64 + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests;
