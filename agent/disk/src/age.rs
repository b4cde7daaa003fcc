//! How old records are, by the running time of the device: a clock that is wrong or jumps drops nothing.
//!
//! ```text
//!   running time ──────┬──────┬──────┬──────> now        milliseconds; stands still without power
//!   marks            until  until  until                 each begun by the first record put in after
//!   records       1 .. 8  9 .. 16  17 ..                 the one before, and one span long
//! ```
//! Once a mark ended longer ago than the bound, every record before the next mark is too old. So a
//! record goes when it is between one bound and one bound and a span old.

use std::collections::VecDeque;

use bellwether_protocol::time::Millis;

use crate::{Changes, Rows};

/// Marks in one bound: that many rows, and a record may be older than the bound by that part of it.
const MARKS: u64 = 64;
/// How often running time is written while something waits: as much is forgotten at a kill, and a
/// device that never runs so long does not age what it holds.
const WRITTEN_EVERY: Millis = Millis::from_secs(60);

const RAN: &[u8] = b"mran";

/// Records put in until then; the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    until: Millis,
    first: u64,
}

/// Running time, and the marks on it.
#[derive(Debug)]
pub(crate) struct Age {
    max: Millis,
    ran: Millis,
    written: Millis,
    /// The shell's time when it last passed.
    seen: Option<Millis>,
    marks: VecDeque<Mark>,
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn key(until: Millis) -> Vec<u8> {
    [b"a".as_slice(), &until.0.to_be_bytes()].concat()
}

impl Age {
    /// As it was left.
    pub(crate) fn open<R: Rows>(rows: &R, max: Millis) -> Result<Self, R::Fault> {
        let ran = rows.get(RAN)?.and_then(|value| number(&value)).map_or(Millis(0), Millis);
        let mark = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some(Mark { until: Millis(number(key.strip_prefix(b"a")?)?), first: number(&value)? })
        };
        let marks = rows.from(key(Millis(0))).map_while(mark).collect();
        Ok(Self { max, ran, written: ran, seen: None, marks })
    }

    fn span(&self) -> Millis {
        Millis((self.max.0 / MARKS).max(1))
    }

    /// Time passes; `now` counts from anywhere, as long as it never jumps while this is open.
    pub(crate) fn pass(&mut self, now: Millis) {
        let since = self.seen.map_or(Millis(0), |seen| now.since(seen));
        self.ran = self.ran.saturating_add(since);
        self.seen = Some(now);
    }

    /// The mark that a record of this number begins, if it begins one.
    pub(crate) fn begun(&self, first: u64) -> Option<Mark> {
        let is_over = self.marks.back().is_none_or(|mark| mark.until <= self.ran);
        is_over.then(|| Mark { until: self.ran.saturating_add(self.span()), first })
    }

    /// Writes that mark, and the time with it, which must never be behind a mark's beginning.
    pub(crate) fn mark(&self, mark: Mark, changes: &mut Changes) {
        changes.push((key(mark.until), Some(mark.first.to_be_bytes().to_vec())));
        self.write(changes);
    }

    /// Writes the running time.
    pub(crate) fn write(&self, changes: &mut Changes) {
        changes.push((RAN.to_vec(), Some(self.ran.0.to_be_bytes().to_vec())));
    }

    /// Whether it is time to write it.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.ran.since(self.written) >= WRITTEN_EVERY.min(self.span())
    }

    /// The mark was written, and the time with it.
    pub(crate) fn marked(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.marks.push_back(mark);
            self.written = self.ran;
        }
    }

    /// How many marks ended too long ago, the oldest first.
    pub(crate) fn expired(&self) -> usize {
        self.marks.iter().take_while(|mark| mark.until.saturating_add(self.max) <= self.ran).count()
    }

    /// The first record after so many marks; `None` if there is no mark after them.
    pub(crate) fn first_after(&self, marks: usize) -> Option<u64> {
        self.marks.get(marks).map(|mark| mark.first)
    }

    /// Removes so many marks.
    pub(crate) fn remove(&self, marks: usize, changes: &mut Changes) {
        changes.extend(self.marks.iter().take(marks).map(|mark| (key(mark.until), None)));
    }

    /// So many marks were removed, or none, and the time was written.
    pub(crate) fn removed(&mut self, marks: usize) {
        self.marks.drain(..marks.min(self.marks.len()));
        self.written = self.ran;
    }
}
