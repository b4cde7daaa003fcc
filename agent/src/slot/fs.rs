//! Slots as files, switched by an atomic rename after everything was synced.
//!
//! ```text
//!  models/digits/a.pkg      one slot          models/digits/b.table   digests of the chunks of b
//!  models/digits/b.pkg      the other one     models/digits/current   link to the active slot
//! ```
//! The pointer is for people and recovery; which slot answers is the brain's state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use bellwether_agent_core::update::Slot;
use bellwether_agent_disk::Place;
use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::limit::{CHUNK_BYTES, PACKAGE_BYTES_MAX};
use bellwether_protocol::trust::PackageRef;

use crate::error::Failed;
use crate::room;

/// All models of a device.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    base: PathBuf,
}

/// The place of one model.
#[derive(Clone, Debug)]
pub(crate) struct ModelDir {
    dir: PathBuf,
}

/// A slot and its table, as a download sees them.
#[derive(Debug)]
pub(crate) struct SlotFile {
    dir: ModelDir,
    slot: Slot,
    file: Option<File>,
}

impl SlotFile {
    pub(crate) const fn new(dir: ModelDir, slot: Slot) -> Self {
        Self { dir, slot, file: None }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Place for SlotFile {
    fn open(&mut self, size: u64) -> io::Result<()> {
        let path = self.dir.package(self.slot);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        // Less than it was first, so that nothing is held which is not needed.
        if file.metadata()?.len() > size {
            file.set_len(size)?;
        }
        room::for_package(&path, size)?;
        file.set_len(size)?;
        self.file = Some(file);
        Ok(())
    }

    fn table(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.table_file(self.slot)).ok()
    }

    fn put_table(&mut self, table: &[u8]) -> io::Result<()> {
        fs::write(self.dir.table_file(self.slot), table)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file()?.write_all_at(bytes, offset)
    }
}

impl Slots {
    pub(crate) fn new(data: &Path) -> Self {
        Self { base: data.join("models") }
    }

    /// The place of a model, made if there is none.
    pub(crate) fn of(&self, name: &ModelName) -> io::Result<ModelDir> {
        let dir = self.base.join(name.as_str());
        fs::create_dir_all(&dir)?;
        Ok(ModelDir { dir })
    }
}

impl ModelDir {
    fn letter(slot: Slot) -> &'static str {
        match slot {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// The file of a slot.
    pub(crate) fn package(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{}.pkg", Self::letter(slot)))
    }

    fn table_file(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{}.table", Self::letter(slot)))
    }

    /// Whether the slot holds exactly the approved bytes.
    pub(crate) fn is_whole(&self, slot: Slot, package: &PackageRef) -> io::Result<bool> {
        let mut file = match File::open(self.package(slot)) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        if file.metadata()?.len() != package.size {
            return Ok(false);
        }
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = file.read(&mut buffer)?;
            match buffer.get(..length) {
                Some(bytes) if length > 0 => hasher.update(bytes),
                _ => break,
            }
        }
        Ok(hasher.finish() == package.digest)
    }

    /// Reads the approved bytes of a slot; [`Reject::DigestMismatch`] if they are others.
    pub(crate) fn read(&self, slot: Slot, package: &PackageRef) -> Result<Vec<u8>, Failed> {
        read_approved(&self.package(slot), package.digest, package.size)
    }

    /// Brings a slot to disk for good: file first, then directory.
    pub(crate) fn sync(&self, slot: Slot) -> io::Result<()> {
        File::open(self.package(slot))?.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Points at a slot, or at none, by one rename.
    pub(crate) fn point(&self, slot: Option<Slot>) -> io::Result<()> {
        let current = self.dir.join("current");
        let half = self.dir.join("current.new");
        for stale in [Some(&half), slot.is_none().then_some(&current)].into_iter().flatten() {
            match fs::remove_file(stale) {
                Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        if let Some(slot) = slot {
            symlink(format!("{}.pkg", Self::letter(slot)), &half)?;
            fs::rename(&half, &current)?;
        }
        File::open(&self.dir)?.sync_all()
    }

    /// The slot pointed at.
    #[cfg(test)]
    pub(crate) fn pointed(&self) -> Option<Slot> {
        let to = fs::read_link(self.dir.join("current")).ok()?;
        [Slot::A, Slot::B].into_iter().find(|slot| self.package(*slot).file_name() == Some(to.as_os_str()))
    }
}

/// Reads a file that must be exactly the bytes with this digest.
pub(crate) fn read_approved(file: &Path, digest: Digest, size: u64) -> Result<Vec<u8>, Failed> {
    if size > PACKAGE_BYTES_MAX {
        return Err(Reject::TooLarge.into());
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(size + 1).read_to_end(&mut bytes)?;
    if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(Reject::DigestMismatch.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, ModelDir) {
        let data = tempfile::tempdir().unwrap();
        let dir = Slots::new(data.path()).of(&"digits".parse().unwrap()).unwrap();
        (data, dir)
    }

    fn package(bytes: &[u8]) -> PackageRef {
        PackageRef { digest: Digest::of(bytes), size: bytes.len() as u64, chunks: Digest::of(&Digest::of(bytes).0) }
    }

    #[test]
    fn the_pointer_moves_whole_even_after_a_crash_in_between() {
        let (_data, dir) = dir();
        assert_eq!(dir.pointed(), None);
        dir.point(Some(Slot::A)).unwrap();
        // A crash between making the new link and renaming it.
        symlink("b.pkg", dir.dir.join("current.new")).unwrap();
        assert_eq!(dir.pointed(), Some(Slot::A));
        dir.point(Some(Slot::B)).unwrap();
        assert_eq!(dir.pointed(), Some(Slot::B));
        dir.point(None).unwrap();
        dir.point(None).unwrap();
        assert_eq!(dir.pointed(), None);
    }

    #[test]
    fn a_slot_is_read_only_if_every_byte_is_the_approved_one() {
        let (_data, dir) = dir();
        let approved = package(b"approved");
        let refused = |slot| dir.read(slot, &approved).unwrap_err().reject;
        assert!(!dir.is_whole(Slot::A, &approved).unwrap());
        fs::write(dir.package(Slot::A), b"approved").unwrap();
        assert!(dir.is_whole(Slot::A, &approved).unwrap());
        assert_eq!(dir.read(Slot::A, &approved).unwrap(), b"approved");
        fs::write(dir.package(Slot::A), b"approvee").unwrap();
        assert!(!dir.is_whole(Slot::A, &approved).unwrap());
        assert_eq!(refused(Slot::A), Reject::DigestMismatch);
        fs::write(dir.package(Slot::A), b"approved and more").unwrap();
        assert_eq!(refused(Slot::A), Reject::DigestMismatch);
        assert_eq!(refused(Slot::B), Reject::StorageFault);
    }
}
