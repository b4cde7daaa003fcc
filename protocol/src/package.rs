//! A package as bytes: a header, the manifest, then the files one after the other.
//!
//! ```text
//! "BWPK"  length of the manifest frame (u32, little endian)  manifest frame  file  file ...
//! ```
//! Sizes add up exactly, names are plain, nothing is compressed: there is no path to traverse and
//! no bomb to unpack.

use core::ops::Range;

use crate::digest::Digest;
use crate::error::Reject;
use crate::frame;
use crate::limit::{CHUNK_BYTES, PACKAGE_BYTES_MAX, STATEMENT_BYTES_MAX};
use crate::manifest::{File, FileRole, Kind, Manifest};

/// The first bytes of every package.
pub const MAGIC: [u8; 4] = *b"BWPK";
/// Bytes before the manifest frame.
pub const HEADER_BYTES: usize = 8;

/// Writes the header and the manifest into `buffer` and returns what was written; the files'
/// bytes follow it in the manifest's order.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit.
pub fn encode_head<'b>(manifest: &Manifest, buffer: &'b mut [u8]) -> Result<&'b [u8], Reject> {
    let (head, body) = buffer.split_at_mut_checked(HEADER_BYTES).ok_or(Reject::TooLarge)?;
    let length = frame::encode(manifest, body)?.len();
    let size = u32::try_from(length).map_err(|_| Reject::TooLarge)?;
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    rest.copy_from_slice(&size.to_le_bytes());
    buffer.get(..HEADER_BYTES + length).ok_or(Reject::TooLarge)
}

/// A package whose every byte was checked against its manifest.
#[derive(Clone, Debug)]
pub struct Package<'b> {
    manifest: Manifest,
    head: usize,
    bytes: &'b [u8],
}

impl<'b> Package<'b> {
    /// Opens a package: header, manifest, sizes, the digest of every file, and that a model
    /// package has exactly one model, and at most one file each of vectors, baseline, policy
    /// and bitstream.
    ///
    /// # Errors
    ///
    /// [`Reject::Malformed`] for a wrong header or manifest, [`Reject::TooLarge`],
    /// [`Reject::SizeMismatch`], [`Reject::DigestMismatch`], [`Reject::ManifestMismatch`].
    pub fn open(bytes: &'b [u8]) -> Result<Self, Reject> {
        if bytes.len() as u64 > PACKAGE_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        let after_magic = bytes.strip_prefix(&MAGIC).ok_or(Reject::Malformed)?;
        let (length, rest) = after_magic.split_first_chunk::<4>().ok_or(Reject::Malformed)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > STATEMENT_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        let manifest: Manifest = frame::decode(rest.get(..length).ok_or(Reject::SizeMismatch)?)?;
        let package = Self { manifest, head: HEADER_BYTES + length, bytes };
        package.check()?;
        Ok(package)
    }

    fn check(&self) -> Result<(), Reject> {
        let mut end = self.head;
        for (index, file) in self.manifest.files.iter().enumerate() {
            let range = self.range(index);
            end = range.end;
            let bytes = self.bytes.get(range).ok_or(Reject::SizeMismatch)?;
            if Digest::of(bytes) != file.digest {
                return Err(Reject::DigestMismatch);
            }
            if self.manifest.files.iter().take(index).any(|before| before.name == file.name) {
                return Err(Reject::ManifestMismatch);
            }
        }
        if end != self.bytes.len() {
            return Err(Reject::SizeMismatch);
        }
        let count = |role| self.manifest.files.iter().filter(|file| file.role == role).count();
        let models = if self.manifest.kind == Kind::Model { 1 } else { 0 };
        let at_most_one = [FileRole::Vectors, FileRole::Baseline, FileRole::Policy, FileRole::Bitstream];
        if count(FileRole::Model) != models || at_most_one.into_iter().any(|role| count(role) > 1) {
            return Err(Reject::ManifestMismatch);
        }
        Ok(())
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The files with their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&File, &'b [u8])> + '_ {
        self.manifest
            .files
            .iter()
            .enumerate()
            .filter_map(|(index, file)| Some((file, self.bytes.get(self.range(index))?)))
    }

    /// The bytes of the first file with this role.
    #[must_use]
    pub fn file(&self, role: FileRole) -> Option<&'b [u8]> {
        self.files().find(|(file, _)| file.role == role).map(|(_, bytes)| bytes)
    }

    fn range(&self, index: usize) -> Range<usize> {
        let size = |file: &File| file.size as usize;
        let start = self.manifest.files.iter().take(index).map(size).fold(self.head, usize::saturating_add);
        let size = self.manifest.files.get(index).map_or(0, size);
        start..start.saturating_add(size)
    }
}

/// The digests of a package's chunks, in order.
pub fn chunk_digests(package: &[u8]) -> impl Iterator<Item = Digest> + '_ {
    package.chunks(CHUNK_BYTES).map(Digest::of)
}
