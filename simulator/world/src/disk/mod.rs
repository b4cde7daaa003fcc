//! A device's disk, which may lose power between any two operations and inside one.
//!
//! ```text
//!  rows    a log: what was applied and not flushed survives a cut as a prefix, batches whole
//!  slots   blocks of 4 KiB: what was written and not synced survives each by itself, in any order
//! ```
//! A *fuse* counts operations down; when it burns, that operation is done in part and the device is
//! without power: nothing after it happens. A *harvest* ([`cut`]) burns at every operation instead, and
//! the device goes on.

mod cut;
mod mark;
mod slot;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::rc::Rc;

use bellwether_agent_core::update::Slot;
use bellwether_agent_disk::{Changes, Place, Rows};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::trust::PackageRef;

use crate::chance::Chance;
pub use cut::Pattern;
use cut::{Harvest, Operation};
pub(crate) use cut::{Left, Patterns, Remains, every_pattern, no_pattern, one_pattern, one_pattern_at_half};
pub(crate) use mark::Mark;
use slot::File;

/// A slot: of which model, and whether it is B.
type SlotKey = (ModelName, bool);
/// Digests of what slots hold, by its mark.
pub(crate) type Digests = Rc<RefCell<BTreeMap<u64, Digest>>>;

/// The disk of one device; every clone is the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    chance: Chance,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: Vec<Changes>,
    slots: BTreeMap<SlotKey, File>,
    digests: Digests,
    harvest: Option<Harvest>,
    fuse: Option<u64>,
    dead: bool,
    full: bool,
    operations: u64,
    cuts: u64,
}

fn gone() -> io::Error {
    io::Error::other("no power")
}

fn to(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(rows.insert(key.clone(), value.clone())),
            None => drop(rows.remove(key)),
        }
    }
}

/// The power that there is for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    /// Enough.
    On,
    /// It goes in the middle of it.
    Goes,
    /// None any more: whatever the device still tries has no effect.
    Off,
}

impl Inner {
    /// One operation begins.
    fn begin(&mut self, operation: &Operation<'_>) -> Power {
        if self.dead {
            return Power::Off;
        }
        self.operations += 1;
        if let Some(harvest) = &mut self.harvest {
            harvest.note(&self.slots, operation);
        }
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                self.cuts += 1;
                Power::Goes
            }
            Some(left) => {
                *left -= 1;
                Power::On
            }
            None => Power::On,
        }
    }

    /// An operation is done.
    fn done(&mut self, operation: &Operation<'_>) {
        if let Some(harvest) = &mut self.harvest {
            harvest.done(operation);
        }
    }
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self::holding(&Remains::default(), seed, Digests::default())
    }

    /// A disk as a power cut left it. Disks that share `digests` hash no bytes twice.
    pub(crate) fn holding(remains: &Remains, seed: u64, digests: Digests) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            chance: Chance::of(seed),
            rows: remains.rows.as_ref().clone(),
            durable: remains.rows.as_ref().clone(),
            pending: Vec::new(),
            slots: remains.slots.clone(),
            digests,
            harvest: None,
            fuse: None,
            dead: false,
            full: false,
            operations: 0,
            cuts: 0,
        })))
    }

    /// From now on, whatever a cut would leave is gathered, in the patterns that `patterns` gives for
    /// the seed and an operation; with the operations in words if `tells`.
    pub(crate) fn harvest(&self, seed: u64, patterns: Patterns, tells: bool) {
        let inner = &mut *self.0.borrow_mut();
        inner.harvest = Some(Harvest::new(inner, seed, patterns, tells));
    }

    /// What was gathered since this was last called, and in words.
    pub(crate) fn gathered(&self) -> (Vec<Left>, Vec<String>) {
        let inner = &mut *self.0.borrow_mut();
        let Some(harvest) = &mut inner.harvest else { return Default::default() };
        (std::mem::take(&mut harvest.left), harvest.words.as_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Operations since the harvest began.
    pub(crate) fn harvested(&self) -> u64 {
        self.0.borrow().harvest.as_ref().map_or(0, Harvest::operations)
    }

    /// Power goes after so many more operations.
    pub(crate) fn fuse(&self, operations: u64) {
        self.0.borrow_mut().fuse = Some(operations);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    pub(crate) fn fill(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// Operations so far, and how many of them lost power in the middle.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.operations, inner.cuts)
    }

    /// What a power cut leaves.
    pub(crate) fn cut(&self) {
        let inner = &mut *self.0.borrow_mut();
        let kept = inner.chance.index(inner.pending.len() + 1);
        for changes in inner.pending.drain(..).take(kept) {
            to(&mut inner.durable, &changes);
        }
        inner.rows.clone_from(&inner.durable);
        for file in inner.slots.values_mut() {
            let dirty = std::mem::take(&mut file.dirty);
            for block in dirty {
                if inner.chance.one_in(2) {
                    file.settle(block);
                }
            }
            if inner.chance.one_in(2) {
                let length = file.live.length();
                file.durable.resize(length);
            }
            file.cut();
            if inner.chance.one_in(4) {
                file.table = None;
            }
        }
        (inner.fuse, inner.dead, inner.full) = (None, false, false);
    }

    /// A bit of a slot turns by itself; false if there is none.
    pub(crate) fn rot(&self, name: &ModelName, slot: Slot) -> bool {
        let inner = &mut *self.0.borrow_mut();
        let Some(file) = inner.slots.get_mut(&(name.clone(), slot == Slot::B)) else { return false };
        let at = inner.chance.index(file.live.length());
        file.rot(at)
    }

    /// Whether a bit turned in a slot by itself.
    pub(crate) fn is_rotten(&self, name: &ModelName, slot: Slot) -> bool {
        self.0.borrow().slots.get(&(name.clone(), slot == Slot::B)).is_some_and(|file| file.rotten)
    }

    /// Writes one record and brings it to disk.
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut rows = self.rows();
        rows.apply(vec![(key.to_vec(), Some(value.to_vec()))])?;
        rows.flush()
    }

    pub(crate) fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.borrow().rows.get(key).cloned()
    }

    /// Everything, as the store of the device.
    pub(crate) fn rows(&self) -> Table {
        Table { disk: self.clone(), prefix: b"", flushes: true }
    }

    /// The outbox's records. A mutant does not flush them.
    pub(crate) fn outbox(&self, flushes: bool) -> Table {
        Table { disk: self.clone(), prefix: b"o", flushes }
    }

    /// A slot, for a download.
    pub(crate) fn place(&self, name: &ModelName, slot: Slot) -> SlotPlace {
        SlotPlace { disk: self.clone(), key: (name.clone(), slot == Slot::B) }
    }

    /// Whether the slot holds exactly the approved bytes.
    pub(crate) fn is_whole(&self, name: &ModelName, slot: Slot, package: &PackageRef) -> bool {
        let inner = self.0.borrow();
        let file = inner.slots.get(&(name.clone(), slot == Slot::B));
        file.is_some_and(|file| {
            let mut digests = inner.digests.borrow_mut();
            file.live.length() as u64 == package.size
                && *digests.entry(file.live.mark()).or_insert_with(|| file.live.digest()) == package.digest
        })
    }

    /// Brings a slot to disk for good.
    pub(crate) fn sync(&self, name: &ModelName, slot: Slot) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let key = (name.clone(), slot == Slot::B);
        let power = inner.begin(&Operation::Sync(&key));
        let Some(file) = inner.slots.get_mut(&key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match power {
            Power::On => {
                file.sync();
                return Ok(());
            }
            Power::Goes => {
                let some: Vec<usize> = file.dirty.iter().copied().filter(|_| inner.chance.one_in(2)).collect();
                for block in some {
                    file.settle(block);
                }
            }
            Power::Off => {}
        }
        Err(gone())
    }
}

/// A table of the store.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    disk: Disk,
    prefix: &'static [u8],
    flushes: bool,
}

impl Table {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix, key].concat()
    }
}

impl Rows for Table {
    type Fault = io::Error;

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.disk.0.borrow().rows.get(&self.key(key)).cloned())
    }

    fn from(&self, key: Vec<u8>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        // One at a time, since the disk is written between two of them.
        let mut from = Bound::Included(self.key(&key));
        std::iter::from_fn(move || {
            let inner = self.disk.0.borrow();
            let (key, value) = inner.rows.range((from.clone(), Bound::Unbounded)).next()?;
            from = Bound::Excluded(key.clone());
            Some((key.strip_prefix(self.prefix)?.to_vec(), value.clone()))
        })
    }

    fn apply(&mut self, changes: Changes) -> io::Result<()> {
        let inner = &mut *self.disk.0.borrow_mut();
        let grows = changes.iter().any(|(_, value)| value.is_some());
        let changes: Changes = changes.into_iter().map(|(key, value)| (self.key(&key), value)).collect();
        let power = inner.begin(&Operation::Apply(&changes));
        if inner.full && grows {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A batch is there whole or not at all, even if power goes in the middle of it.
        if power == Power::On || (power == Power::Goes && inner.chance.one_in(2)) {
            to(&mut inner.rows, &changes);
            inner.done(&Operation::Apply(&changes));
            inner.pending.push(changes);
        }
        if power == Power::On { Ok(()) } else { Err(gone()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.flushes {
            return Ok(());
        }
        let inner = &mut *self.disk.0.borrow_mut();
        if inner.begin(&Operation::Flush) == Power::On {
            inner.done(&Operation::Flush);
            for changes in inner.pending.drain(..) {
                to(&mut inner.durable, &changes);
            }
            return Ok(());
        }
        // How far it came is decided by what the cut leaves.
        Err(gone())
    }
}

/// A slot and its table.
#[derive(Clone, Debug)]
pub(crate) struct SlotPlace {
    disk: Disk,
    key: (ModelName, bool),
}

impl Place for SlotPlace {
    fn open(&mut self, size: u64) -> io::Result<()> {
        let inner = &mut *self.disk.0.borrow_mut();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        if inner.begin(&Operation::Open(&self.key, size)) != Power::On {
            return Err(gone());
        }
        let file = inner.slots.entry(self.key.clone()).or_default();
        if inner.full && size > file.live.length() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.open(size);
        Ok(())
    }

    fn table(&self) -> Option<Vec<u8>> {
        self.disk.0.borrow().slots.get(&self.key)?.table.as_deref().cloned()
    }

    fn put_table(&mut self, table: &[u8]) -> io::Result<()> {
        let inner = &mut *self.disk.0.borrow_mut();
        if inner.begin(&Operation::Table(&self.key, table)) != Power::On {
            return Err(gone());
        }
        inner.slots.entry(self.key.clone()).or_default().table = Some(Rc::new(table.to_vec()));
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.0.borrow();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let file = inner.slots.get(&self.key).ok_or(io::ErrorKind::NotFound)?;
        file.live.read(buffer, from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let inner = &mut *self.disk.0.borrow_mut();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let power = inner.begin(&Operation::Write(&self.key, bytes, from));
        if power == Power::Off {
            return Err(gone());
        }
        if inner.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Without power in the middle of it, a part is written.
        let length = if power == Power::On { bytes.len() } else { inner.chance.index(bytes.len() + 1) };
        let file = inner.slots.get_mut(&self.key).ok_or(io::ErrorKind::NotFound)?;
        let written = bytes.get(..length).and_then(|written| file.write(written, from));
        written.ok_or(io::ErrorKind::UnexpectedEof)?;
        if power == Power::On { Ok(()) } else { Err(gone()) }
    }
}
