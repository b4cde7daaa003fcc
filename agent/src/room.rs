//! Room on the device's disk: what the store must write it can write, even on a disk that somebody
//! else has filled. A database that once fails to write never writes again until it is opened anew,
//! so that it must not come to that.
//!
//! ```text
//!  store/db   | written | ahead |   blocks of its own beyond its end: what it has in memory fits
//!  reserve                          a file that is given up when the disk is full, and made again
//!  reserve.start                    another, given up only where a start finds the disk full
//! ```
//!
//! While the reserve is gone the device is short of room: it writes its state, its counters and what
//! it has to tell, collects no rows, and fetches nothing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Blocks beyond the end of the store's file: two segments of sled's, which holds one in memory.
const AHEAD_BYTES: u64 = 1024 * 1024;
/// What is given up on a full disk: some thousand states, counters and events.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// What opening the store writes at most: where the pages of a full outbox are.
const START_BYTES: u64 = 256 * 1024;
/// With less than this free the disk is full: another pair of segments.
const FREE_BYTES_MIN: u64 = 1024 * 1024;
/// How long a look at the disk counts, and how much may be written meanwhile: half of what is ahead.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_BYTES: usize = 512 * 1024;
/// What `st_blocks` counts in.
const BLOCK_BYTES: u64 = 512;

/// The disk of one device.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    data: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    written: usize,
    is_short: bool,
}

impl Room {
    /// The disk that this directory is on; the reserve is in it.
    pub(crate) fn of(data: &Path) -> Self {
        Self { data: data.to_owned(), state: Arc::default() }
    }

    /// Whether there is room for what could as well be left out.
    pub(crate) fn is_there(&self) -> bool {
        self.before_writing(0);
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).is_short
    }

    /// Looks at the disk before so many bytes are written to the store, and gives up the reserve or
    /// makes it again.
    pub(crate) fn before_writing(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written = state.written.saturating_add(bytes);
        if state.written < FRESH_BYTES && state.looked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        (state.looked, state.written) = (Some(Instant::now()), bytes);
        let is_short = self.look();
        if is_short && !state.is_short {
            tracing::warn!("no room on the device: no rows are collected, and nothing is fetched");
        } else if !is_short && state.is_short {
            tracing::info!("there is room on the device again");
        }
        state.is_short = is_short;
    }

    /// Makes room for opening the store, which writes where its pages are.
    pub(crate) fn before_opening(&self) {
        if free_bytes(&self.data).is_some_and(|free| free < START_BYTES) {
            give_up(&self.data.join("reserve.start"));
        }
        self.before_writing(0);
    }

    /// Takes that room again, from what is left of it.
    pub(crate) fn opened(&self) {
        let start = self.data.join("reserve.start");
        if !is_whole(&start, START_BYTES)
            && let Err(why) = allocate(&start, START_BYTES, FallocateFlags::empty())
        {
            tracing::warn!(%why, "no room can be reserved for the next start");
        }
        self.look_ahead();
    }

    fn look(&self) -> bool {
        let reserve = self.data.join("reserve");
        let Some(free) = free_bytes(&self.data) else { return false };
        if free < FREE_BYTES_MIN {
            give_up(&reserve);
            // Before somebody else takes it.
            self.look_ahead();
            return true;
        }
        if !is_whole(&reserve, RESERVE_BYTES) {
            if free < RESERVE_BYTES + AHEAD_BYTES + FREE_BYTES_MIN {
                return true;
            }
            if let Err(why) = allocate(&reserve, RESERVE_BYTES, FallocateFlags::empty()) {
                tracing::warn!(%why, "no room can be reserved");
            }
        }
        self.opened();
        false
    }

    /// Gives the store's file blocks beyond its end.
    fn look_ahead(&self) {
        let db = self.data.join("store/db");
        let Ok(file) = std::fs::metadata(&db) else { return };
        let wanted = file.len() + AHEAD_BYTES;
        if file.blocks() * BLOCK_BYTES < wanted
            && let Err(why) = allocate(&db, wanted, FallocateFlags::KEEP_SIZE)
        {
            tracing::debug!(%why, "no room can be kept for the store");
        }
    }
}

/// Bytes that this user may still write; nothing where the file system does not say.
fn free_bytes(path: &Path) -> Option<u64> {
    let facts = statvfs(path).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

fn is_whole(file: &Path, bytes: u64) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.len() == bytes)
}

fn give_up(file: &Path) {
    if let Err(why) = std::fs::remove_file(file)
        && why.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(%why, file = %file.display(), "what was reserved cannot be given up");
    }
}

/// Gives a file, made if there is none, blocks for so many bytes. Where the file system cannot, the
/// file stays as it is.
fn allocate(path: &Path, bytes: u64, flags: FallocateFlags) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match fallocate(&file, flags, 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

/// Takes blocks for all of a package before the first byte of it is fetched, unless they are what the
/// store needs.
///
/// # Errors
///
/// [`io::ErrorKind::StorageFull`], and what the disk says.
pub(crate) fn for_package(path: &Path, bytes: u64) -> io::Result<()> {
    let held = std::fs::metadata(path).map_or(0, |file| file.blocks() * BLOCK_BYTES);
    let missing = bytes.saturating_sub(held);
    if missing > 0 && free_bytes(path).is_some_and(|free| free < missing + AHEAD_BYTES + FREE_BYTES_MIN) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    allocate(path, bytes, FallocateFlags::KEEP_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_blocks_ahead_and_a_reserve_and_a_package_takes_its_own() {
        let data = tempfile::tempdir().unwrap();
        let db = data.path().join("store/db");
        std::fs::create_dir(data.path().join("store")).unwrap();
        std::fs::write(&db, b"twelve bytes").unwrap();
        let room = Room::of(data.path());
        assert!(room.is_there());
        let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks() * BLOCK_BYTES;
        assert_eq!(std::fs::metadata(&db).unwrap().len(), 12, "no store sees more than it wrote");
        let (ahead, reserve) = (blocks(&db), blocks(&data.path().join("reserve")));
        assert!(ahead >= AHEAD_BYTES && reserve >= RESERVE_BYTES, "{ahead} {reserve}");
        let package = data.path().join("a.pkg");
        std::fs::write(&package, b"").unwrap();
        for_package(&package, 3 << 20).unwrap();
        assert!(blocks(&package) >= 3 << 20);
        let why = for_package(&package, 1 << 60).unwrap_err();
        assert_eq!(bellwether_agent_disk::reject(&why), bellwether_protocol::error::Reject::DiskFull);
    }
}
