//! What a power cut leaves, at every operation of a disk and in every pattern, while the device goes on.
//!
//! ```text
//!  operation k begins ──> what a cut here would leave, once for each pattern ──> harvest
//!                    └──> the operation is done, and the device goes on as if nothing were
//! ```
//! So one run of an update gives the disks that all its cuts leave. What the device does after
//! operation k never happened for the disk that was left there.

use std::collections::BTreeMap;
use std::rc::Rc;

use bellwether_agent_disk::Changes;

use super::mark::Mark;
use super::slot::{BLOCK, File};
use super::{Inner, SlotKey, to};
use crate::chance::Chance;

/// What of the unfinished reaches the disk when power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Nothing that was not brought to disk for good.
    Nothing,
    /// All of it, and the operation itself, but nobody was told.
    Everything,
    /// The first half: of the records, of the blocks of a slot, of the bytes of a write.
    Half,
    /// Each block by itself or not, and some of the first records, as the seed draws it.
    Scattered,
    /// All that came before; the write itself stops in the middle of a block.
    Torn,
}

impl Pattern {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Everything, Self::Half, Self::Scattered, Self::Torn];

    /// Its name, as the command line takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Everything => "everything",
            Self::Half => "half",
            Self::Scattered => "scattered",
            Self::Torn => "torn",
        }
    }
}

/// An operation that begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    Apply(&'a Changes),
    Flush,
    Open(&'a SlotKey, usize),
    Table(&'a SlotKey, &'a [u8]),
    Write(&'a SlotKey, &'a [u8], usize),
    Sync(&'a SlotKey),
}

impl std::fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slot = |(name, is_b): &SlotKey| format!("slot {} of {name}", if *is_b { "B" } else { "A" });
        match self {
            Self::Apply(changes) => {
                let key = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
                    let name: String =
                        key.iter().filter(|byte| byte.is_ascii_alphabetic()).map(|byte| char::from(*byte)).collect();
                    let number = key.get(key.len().saturating_sub(8)..).and_then(|bytes| bytes.try_into().ok());
                    let name = match number.map(u64::from_be_bytes) {
                        Some(number) if key.starts_with(b"or") => format!("record {number}"),
                        _ => name,
                    };
                    if value.is_some() { name } else { format!("no {name}") }
                };
                write!(f, "write rows: {}", changes.iter().map(key).collect::<Vec<_>>().join(", "))
            }
            Self::Flush => write!(f, "flush the rows"),
            Self::Open(key, size) => write!(f, "open {} at {size} bytes", slot(key)),
            Self::Table(key, table) => write!(f, "put the table of {}, {} bytes", slot(key), table.len()),
            Self::Write(key, bytes, from) => write!(f, "write {} bytes at {from} into {}", bytes.len(), slot(key)),
            Self::Sync(key) => write!(f, "sync {}", slot(key)),
        }
    }
}

/// Rows at one moment, shared by every disk that holds them.
pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A disk without power.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remains {
    pub(super) rows: Rc<Rows>,
    pub(super) slots: BTreeMap<SlotKey, File>,
    /// By which it is told from others.
    pub(crate) mark: u64,
}

/// What a cut at one operation would leave.
#[derive(Debug)]
pub(crate) struct Left {
    /// Counted from 0 since the harvest began.
    pub(crate) operation: u64,
    pub(crate) pattern: Pattern,
    pub(crate) remains: Remains,
}

/// In which patterns an operation is cut, by a seed and its number.
pub(crate) type Patterns = fn(u64, u64) -> Vec<Pattern>;

/// What is gathered while a device goes on.
#[derive(Debug)]
pub(super) struct Harvest {
    patterns: Patterns,
    seed: u64,
    operations: u64,
    /// The rows that are on disk for good, then after each change since; with their marks.
    moments: Vec<(Rc<Rows>, u64)>,
    pub(super) left: Vec<Left>,
    /// The operations in words, if anybody reads them.
    pub(super) words: Option<Vec<String>>,
}

/// Every pattern at every operation.
pub(crate) fn every_pattern(_seed: u64, _operation: u64) -> Vec<Pattern> {
    Pattern::ALL.to_vec()
}

/// One pattern at each operation, as the seed draws it.
pub(crate) fn one_pattern(seed: u64, operation: u64) -> Vec<Pattern> {
    let mut chance = Chance::of(Mark::default().number(seed).number(operation).end());
    Pattern::ALL.get(chance.index(Pattern::ALL.len())).copied().into_iter().collect()
}

/// The same at every other operation on average.
pub(crate) fn one_pattern_at_half(seed: u64, operation: u64) -> Vec<Pattern> {
    let is_drawn = Chance::of(Mark::default().number(operation).number(seed).end()).one_in(2);
    if is_drawn { one_pattern(seed, operation) } else { Vec::new() }
}

/// No cut: operations are only counted.
pub(crate) fn no_pattern(_seed: u64, _operation: u64) -> Vec<Pattern> {
    Vec::new()
}

fn marked(rows: Rows) -> (Rc<Rows>, u64) {
    let mark = rows.iter().fold(Mark::default(), |mark, (key, value)| mark.bytes(key).bytes(value)).end();
    (Rc::new(rows), mark)
}

impl Harvest {
    pub(super) fn new(inner: &Inner, seed: u64, patterns: Patterns, tells: bool) -> Self {
        let mut moments = vec![marked(inner.durable.clone())];
        for changes in &inner.pending {
            moments.extend(moments.last().map(|(rows, _)| after(rows, changes)));
        }
        Self { patterns, seed, operations: 0, moments, left: Vec::new(), words: tells.then(Vec::new) }
    }

    pub(super) const fn operations(&self) -> u64 {
        self.operations
    }

    /// An operation begins on a disk with power.
    pub(super) fn note(&mut self, slots: &BTreeMap<SlotKey, File>, operation: &Operation<'_>) {
        if let Some(words) = &mut self.words {
            words.push(format!("operation {}: {operation}", self.operations));
        }
        for pattern in (self.patterns)(self.seed, self.operations) {
            let remains = self.remains(slots, operation, pattern);
            self.left.push(Left { operation: self.operations, pattern, remains });
        }
        self.operations += 1;
    }

    /// An operation on rows is done.
    pub(super) fn done(&mut self, operation: &Operation<'_>) {
        match operation {
            Operation::Apply(changes) => self.moments.extend(self.moments.last().map(|(rows, _)| after(rows, changes))),
            Operation::Flush => drop(self.moments.drain(..self.moments.len() - 1)),
            Operation::Open(..) | Operation::Table(..) | Operation::Write(..) | Operation::Sync(_) => {}
        }
    }

    fn remains(&self, slots: &BTreeMap<SlotKey, File>, operation: &Operation<'_>, pattern: Pattern) -> Remains {
        let drawn = Mark::default().number(self.seed).number(self.operations).number(!0);
        let mut chance = Chance::of(drawn.end());
        let (rows, mut mark) = self.rows(operation, pattern, &mut chance);
        let mut slots = slots.clone();
        for (key, file) in &mut slots {
            interrupt(key, file, operation, pattern, &mut chance);
            leave(file, pattern, &mut chance);
        }
        // Opening is the one operation on a slot that is not there yet.
        if let (Operation::Open(key, size), Pattern::Everything) = (operation, pattern)
            && !slots.contains_key(*key)
        {
            let mut file = File::default();
            file.open(*size);
            leave(&mut file, pattern, &mut chance);
            slots.insert((*key).clone(), file);
        }
        for ((name, is_b), file) in &slots {
            mark = Mark::default()
                .number(mark)
                .bytes(name.as_str().as_bytes())
                .number(u64::from(*is_b))
                .number(file.mark())
                .end();
        }
        Remains { rows, slots, mark }
    }

    /// The rows are left as they were at one moment since they were last brought to disk; a change is
    /// there whole or not at all.
    fn rows(&self, operation: &Operation<'_>, pattern: Pattern, chance: &mut Chance) -> (Rc<Rows>, u64) {
        let done = self.moments.len() - 1;
        let most = done + usize::from(matches!(operation, Operation::Apply(_)));
        let kept = match pattern {
            Pattern::Nothing => 0,
            Pattern::Everything => most,
            Pattern::Half => most / 2,
            Pattern::Scattered => chance.index(most + 1),
            Pattern::Torn => done,
        };
        match (self.moments.get(kept), self.moments.last(), operation) {
            (Some(moment), _, _) => moment.clone(),
            (None, Some((rows, _)), Operation::Apply(changes)) => after(rows, changes),
            (None, last, _) => last.cloned().unwrap_or_default(),
        }
    }
}

fn after(rows: &Rows, changes: &Changes) -> (Rc<Rows>, u64) {
    let mut rows = rows.clone();
    to(&mut rows, changes);
    marked(rows)
}

/// The operation itself is done in part.
fn interrupt(key: &SlotKey, file: &mut File, operation: &Operation<'_>, pattern: Pattern, chance: &mut Chance) {
    match operation {
        Operation::Open(of, size) if *of == key => {
            let is_done = match pattern {
                Pattern::Everything => true,
                Pattern::Scattered => chance.one_in(2),
                Pattern::Nothing | Pattern::Half | Pattern::Torn => false,
            };
            if is_done {
                file.open(*size);
            }
        }
        Operation::Table(of, table) if *of == key => {
            let length = match pattern {
                Pattern::Nothing => return,
                Pattern::Everything => table.len(),
                Pattern::Half | Pattern::Torn => table.len() / 2,
                Pattern::Scattered => chance.index(table.len() + 1),
            };
            file.table = table.get(..length).map(|table| Rc::new(table.to_vec()));
        }
        Operation::Write(of, bytes, from) if *of == key => {
            let length = match pattern {
                Pattern::Nothing => 0,
                Pattern::Everything => bytes.len(),
                Pattern::Half => bytes.len() / 2,
                // Not at the end of a block, if there is more than one byte.
                Pattern::Torn => (bytes.len() / 2 / BLOCK * BLOCK + BLOCK / 2).min(bytes.len().saturating_sub(1)),
                Pattern::Scattered => chance.index(bytes.len() + 1),
            };
            if let Some(written) = bytes.get(..length) {
                // Beyond the end nothing is written, as in the operation itself.
                let _beyond = file.write(written, *from);
            }
        }
        Operation::Open(..)
        | Operation::Table(..)
        | Operation::Write(..)
        | Operation::Sync(_)
        | Operation::Apply(_)
        | Operation::Flush => {}
    }
}

/// Some of the blocks on the way come to disk, and power is gone.
fn leave(file: &mut File, pattern: Pattern, chance: &mut Chance) {
    let dirty: Vec<usize> = file.dirty.iter().copied().collect();
    let half = dirty.len() / 2;
    let kept: Vec<usize> = match pattern {
        Pattern::Nothing => Vec::new(),
        Pattern::Everything | Pattern::Torn => dirty,
        Pattern::Half => dirty.into_iter().take(half).collect(),
        Pattern::Scattered => dirty.into_iter().filter(|_| chance.one_in(2)).collect(),
    };
    for block in kept {
        file.settle(block);
    }
    let (keeps_length, keeps_table) = match pattern {
        Pattern::Nothing | Pattern::Half => (false, false),
        Pattern::Everything | Pattern::Torn => (true, true),
        Pattern::Scattered => (chance.one_in(2), chance.one_in(2)),
    };
    if keeps_length {
        let length = file.live.length();
        file.durable.resize(length);
    }
    if keeps_table {
        file.durable_table.clone_from(&file.table);
    } else if pattern == Pattern::Half
        && let Some(table) = file.table.as_ref().filter(|table| file.durable_table.as_ref() != Some(table))
    {
        file.durable_table = table.get(..table.len() / 2).map(|half| Rc::new(half.to_vec()));
    }
    file.table.clone_from(&file.durable_table);
    file.cut();
}
