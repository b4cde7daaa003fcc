//! A download in chunks, each verified, resumed after a restart from what is on disk.
//!
//! The table of chunk digests comes first and must have the digest in the release; every chunk must
//! have its digest in the table; at the end the whole must have the package's digest.

use std::io;

use bellwether_agent_core::update::Held;
use bellwether_protocol::chunk::Chunks;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::TransferId;
use bellwether_protocol::limit::{CHUNK_BYTES, CHUNKS_IN_FLIGHT_MAX};
use bellwether_protocol::message::Need;
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::Part;

use crate::Place;

/// How long to wait for a part before asking again; doubled up to [`RETRY_MS_MAX`].
const RETRY_MS_FIRST: u64 = 2_000;
const RETRY_MS_MAX: u64 = 30_000;
/// Parts with wrong bytes before the download is given up: a hub or broker that sends those is
/// broken or hostile, and the next assignment starts anew.
const BAD_PARTS_MAX: u32 = 32;
const DIGEST_BYTES: usize = 32;

/// One download.
#[derive(Debug)]
pub struct Download<P> {
    place: P,
    held: Held,
    table: Option<Vec<u8>>,
    have: Chunks,
    asked: Chunks,
    retry_at: Option<Millis>,
    retry_ms: u64,
    bad: u32,
}

impl<P: Place> Download<P> {
    /// Opens the slot and looks at what is there already. Reads the whole slot: not for the loop.
    ///
    /// # Errors
    ///
    /// [`Reject::TooLarge`], or what the disk says.
    pub fn open(mut place: P, held: Held) -> Result<Self, Reject> {
        let size = held.target.package.size;
        let none = Chunks::none_of(size).ok_or(Reject::TooLarge)?;
        place.open(size).map_err(|why| fault(&why))?;
        let table = place.table().filter(|table| Digest::of(table) == held.target.package.chunks);
        let mut download = Self {
            place,
            held,
            table: None,
            have: none.clone(),
            asked: none,
            retry_at: None,
            retry_ms: RETRY_MS_FIRST,
            bad: 0,
        };
        if let Some(table) = table {
            download.table = Some(table);
            download.look().map_err(|why| fault(&why))?;
        }
        Ok(download)
    }

    /// Notes which chunks on disk are right.
    fn look(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        for n in 0..self.have.count() {
            let length = self.length(n);
            let Some(bytes) = buffer.get_mut(..length) else { continue };
            self.place.read_at(bytes, offset(n))?;
            if self.expected(n) == Some(Digest::of(bytes)) {
                self.have.insert(n);
            }
        }
        Ok(())
    }

    /// Which transfer it is.
    #[must_use]
    pub fn transfer(&self) -> TransferId {
        self.held.target.package.digest.transfer()
    }

    /// What it brings, and where.
    #[must_use]
    pub const fn held(&self) -> &Held {
        &self.held
    }

    /// Whether every chunk is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.table.is_some() && self.have.is_complete()
    }

    /// Per mille of the chunks that are there.
    #[must_use]
    pub fn progress(&self) -> u16 {
        let all = u32::from(self.have.count()).max(1);
        u16::try_from(u32::from(self.have.present()) * 1000 / all).unwrap_or(1000)
    }

    /// Takes a part; wrong bytes are not kept, and too many of them end it.
    ///
    /// # Errors
    ///
    /// [`Reject::DigestMismatch`] after too many wrong parts, or what the disk says.
    pub fn take(&mut self, part: Part, bytes: &[u8]) -> Result<(), Reject> {
        let is_good = match part {
            Part::Table => self.take_table(bytes)?,
            Part::Chunk(n) => self.take_chunk(n, bytes)?,
        };
        if is_good {
            self.retry_ms = RETRY_MS_FIRST;
            self.retry_at = None;
            return Ok(());
        }
        self.bad += 1;
        if self.bad > BAD_PARTS_MAX { Err(Reject::DigestMismatch) } else { Ok(()) }
    }

    fn take_table(&mut self, bytes: &[u8]) -> Result<bool, Reject> {
        if self.table.is_some() {
            return Ok(true);
        }
        let is_right = bytes.len() == usize::from(self.have.count()) * DIGEST_BYTES
            && Digest::of(bytes) == self.held.target.package.chunks;
        if is_right {
            self.place.put_table(bytes).map_err(|why| fault(&why))?;
            self.table = Some(bytes.to_vec());
            // Chunks of the version before may be the same: what is there and right is not fetched.
            self.look().map_err(|why| fault(&why))?;
        }
        Ok(is_right)
    }

    fn take_chunk(&mut self, n: u16, bytes: &[u8]) -> Result<bool, Reject> {
        if n >= self.have.count() || self.table.is_none() || self.have.contains(n) {
            // Late or repeated, which a QoS 1 message may be.
            return Ok(true);
        }
        let is_right = bytes.len() == self.length(n) && self.expected(n) == Some(Digest::of(bytes));
        if is_right {
            self.place.write_at(bytes, offset(n)).map_err(|why| fault(&why))?;
            self.have.insert(n);
        }
        Ok(is_right)
    }

    /// What to ask for at `now`, if anything.
    pub fn need(&mut self, now: Millis) -> Option<Need> {
        if self.is_complete() {
            return None;
        }
        let is_late = self.retry_at.is_some_and(|at| at <= now);
        if is_late {
            self.asked = self.have.clone();
            self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
        }
        let is_first = self.retry_at.is_none();
        let need = if self.table.is_none() {
            (is_first || is_late).then_some(Need { table: true, base: 0, mask: 0 })
        } else {
            self.need_chunks()
        };
        if need.is_some() || is_first {
            self.retry_at = Some(now.saturating_add(Millis(self.retry_ms)));
        }
        need
    }

    /// Asks for more when half of what was asked for has come.
    fn need_chunks(&mut self) -> Option<Need> {
        let waiting = (0..self.have.count()).filter(|n| self.asked.contains(*n) && !self.have.contains(*n)).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        if waiting > CHUNKS_IN_FLIGHT_MAX / 2 {
            return None;
        }
        let mut known = self.asked.clone();
        (0..self.have.count()).filter(|n| self.have.contains(*n)).for_each(|n| known.insert(n));
        let need = known.need(CHUNKS_IN_FLIGHT_MAX - waiting)?;
        need.chunks(CHUNKS_IN_FLIGHT_MAX).for_each(|n| self.asked.insert(n));
        Some(need)
    }

    /// What was asked for on a connection that is gone must be asked for again.
    pub fn reconnected(&mut self) {
        self.asked = self.have.clone();
        self.retry_at = None;
        self.retry_ms = RETRY_MS_FIRST;
    }

    /// When to ask again.
    #[must_use]
    pub const fn deadline(&self) -> Option<Millis> {
        self.retry_at
    }

    fn expected(&self, n: u16) -> Option<Digest> {
        let start = usize::from(n) * DIGEST_BYTES;
        let bytes = self.table.as_ref()?.get(start..start + DIGEST_BYTES)?;
        <[u8; DIGEST_BYTES]>::try_from(bytes).ok().map(Digest)
    }

    fn length(&self, n: u16) -> usize {
        let rest = self.held.target.package.size.saturating_sub(offset(n));
        usize::try_from(rest).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)
    }
}

fn offset(n: u16) -> u64 {
    u64::from(n) * CHUNK_BYTES as u64
}

fn fault(why: &io::Error) -> Reject {
    tracing::warn!(%why, "the slot cannot be written");
    crate::reject(why)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use bellwether_agent_core::update::{Slot, Target};
    use bellwether_protocol::id::Version;
    use bellwether_protocol::trust::{PackageRef, Running};

    use super::*;

    struct Source {
        bytes: Vec<u8>,
        table: Vec<u8>,
    }

    impl Source {
        fn new(chunks: usize) -> Self {
            let bytes: Vec<u8> = (0..chunks * CHUNK_BYTES - 100).map(|i| u8::try_from(i / 7 % 251).unwrap()).collect();
            let table = bellwether_protocol::package::chunk_digests(&bytes).flat_map(|digest| digest.0).collect();
            Self { bytes, table }
        }

        fn held(&self) -> Held {
            let digest = Digest::of(&self.bytes);
            let package = PackageRef { digest, size: self.bytes.len() as u64, chunks: Digest::of(&self.table) };
            let running = Running { version: Version::FIRST, release: digest };
            Held { target: Target { running, package, tensors: digest, floor: 0 }, slot: Slot::B }
        }

        fn chunk(&self, n: u16) -> &[u8] {
            self.bytes.chunks(CHUNK_BYTES).nth(usize::from(n)).unwrap()
        }
    }

    /// A place in memory, that many downloads one after the other find as it was left.
    #[derive(Clone, Debug, Default)]
    struct Memory(Rc<RefCell<Kept>>);

    /// The bytes of a slot, and the table beside it.
    type Kept = (Vec<u8>, Option<Vec<u8>>);

    impl Place for Memory {
        fn open(&mut self, size: u64) -> io::Result<()> {
            self.0.borrow_mut().0.resize(usize::try_from(size).unwrap(), 0);
            Ok(())
        }

        fn table(&self) -> Option<Vec<u8>> {
            self.0.borrow().1.clone()
        }

        fn put_table(&mut self, table: &[u8]) -> io::Result<()> {
            self.0.borrow_mut().1 = Some(table.to_vec());
            Ok(())
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let from = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&self.0.borrow().0[from..from + buffer.len()]);
            Ok(())
        }

        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let from = usize::try_from(offset).unwrap();
            self.0.borrow_mut().0[from..from + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    fn open(place: &Memory, source: &Source) -> Download<Memory> {
        Download::open(place.clone(), source.held()).unwrap()
    }

    #[test]
    fn a_download_resumes_after_a_restart_with_what_is_on_disk() {
        let data = Memory::default();
        let source = Source::new(20);
        let mut download = open(&data, &source);
        assert!(download.need(Millis(0)).unwrap().table);
        assert_eq!(download.need(Millis(1)), None);
        download.take(Part::Table, &source.table).unwrap();
        let need = download.need(Millis(2)).unwrap();
        assert_eq!(need.chunks(64).count(), 8);
        for n in 0..7 {
            download.take(Part::Chunk(n), source.chunk(n)).unwrap();
        }
        drop(download);
        let mut download = open(&data, &source);
        assert_eq!(download.progress(), 350);
        let mut rounds = 0;
        while let Some(need) = download.need(Millis(0)) {
            for n in need.chunks(64) {
                assert!(n >= 7);
                download.take(Part::Chunk(n), source.chunk(n)).unwrap();
            }
            rounds += 1;
        }
        assert!(download.is_complete() && rounds == 2);
        assert_eq!(data.0.borrow().0, source.bytes);
    }

    #[test]
    fn wrong_bytes_are_not_kept_and_many_of_them_end_it() {
        let data = Memory::default();
        let source = Source::new(3);
        let mut download = open(&data, &source);
        download.take(Part::Table, &[0; 96]).unwrap();
        assert!(download.need(Millis(0)).unwrap().table);
        download.take(Part::Table, &source.table).unwrap();
        download.take(Part::Chunk(0), source.chunk(1)).unwrap();
        download.take(Part::Chunk(2), &source.chunk(2)[1..]).unwrap();
        download.take(Part::Chunk(99), &[]).unwrap();
        assert_eq!(download.progress(), 0);
        let last = (0..100).map(|_| download.take(Part::Chunk(0), b"x")).find(Result::is_err);
        assert_eq!(last, Some(Err(Reject::DigestMismatch)));
    }

    #[test]
    fn what_does_not_come_is_asked_for_again() {
        let data = Memory::default();
        let source = Source::new(3);
        let mut download = open(&data, &source);
        download.take(Part::Table, &source.table).unwrap();
        let first = download.need(Millis(0)).unwrap();
        assert_eq!(download.need(Millis(RETRY_MS_FIRST - 1)), None);
        assert_eq!(download.need(Millis(RETRY_MS_FIRST)), Some(first));
        download.reconnected();
        assert_eq!(download.need(Millis(RETRY_MS_FIRST + 1)), Some(first));
    }

    #[test]
    fn only_the_approved_table_is_believed() {
        let data = Memory::default();
        let source = Source::new(3);
        data.0.borrow_mut().1 = Some(vec![0; 96]);
        assert!(open(&data, &source).need(Millis(0)).unwrap().table);
        data.0.borrow_mut().1 = Some(source.table.clone());
        assert!(!open(&data, &source).need(Millis(0)).unwrap().table);
    }
}
