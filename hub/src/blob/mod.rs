//! Packages, by the digest of their bytes: files here, object storage by URL later.

use std::path::Path;
use std::sync::Arc;

use bellwether_protocol::digest::Digest;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};

/// Why a blob cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none with this digest.
    #[error("there is no package {0}")]
    Missing(Digest),
    /// The stored bytes do not have the digest they are stored under.
    #[error("package {0} is damaged on disk")]
    Damaged(Digest),
    /// The machine failed.
    #[error("the blob store failed: {0}")]
    Fault(#[from] object_store::Error),
}

/// Content-addressed bytes.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens the blobs in `directory`, which must exist.
    ///
    /// # Errors
    ///
    /// [`BlobError::Fault`].
    pub fn in_directory(directory: &Path) -> Result<Self, BlobError> {
        let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Stores bytes and gives their digest; storing the same bytes again changes nothing.
    ///
    /// # Errors
    ///
    /// [`BlobError::Fault`].
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let digest = Digest::of(&bytes);
        self.store.put(&path(digest), bytes.into()).await?;
        Ok(digest)
    }

    /// All bytes of a blob, checked against its digest.
    ///
    /// # Errors
    ///
    /// [`BlobError::Missing`], [`BlobError::Damaged`], [`BlobError::Fault`].
    pub async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        let found = self.store.get(&path(digest)).await.map_err(|error| missing(digest, error))?;
        let bytes = found.bytes().await?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(BlobError::Damaged(digest)) }
    }

    /// A part of a blob; cut at its end. Not checked here: the device checks every chunk.
    ///
    /// # Errors
    ///
    /// [`BlobError::Missing`], [`BlobError::Fault`].
    pub async fn range(&self, digest: Digest, start: u64, length: u64) -> Result<Bytes, BlobError> {
        let range = start..start.saturating_add(length);
        self.store.get_range(&path(digest), range).await.map_err(|error| missing(digest, error))
    }

    /// Removes a blob; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`BlobError::Fault`].
    pub async fn remove(&self, digest: Digest) -> Result<(), BlobError> {
        match self.store.delete(&path(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Fault(error)),
        }
    }
}

fn path(digest: Digest) -> ObjectPath {
    ObjectPath::from(digest.to_string())
}

fn missing(digest: Digest, error: object_store::Error) -> BlobError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        BlobError::Missing(digest)
    } else {
        BlobError::Fault(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_damaged_on_disk_is_not_handed_out() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_directory(directory.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"a package")).await.unwrap();
        assert_eq!(blobs.get(digest).await.unwrap(), "a package");
        assert_eq!(blobs.range(digest, 2, 100).await.unwrap(), "package");
        std::fs::write(directory.path().join(digest.to_string()), b"a pakcage").unwrap();
        assert!(matches!(blobs.get(digest).await, Err(BlobError::Damaged(_))));
        blobs.remove(digest).await.unwrap();
        blobs.remove(digest).await.unwrap();
        assert!(matches!(blobs.get(digest).await, Err(BlobError::Missing(_))));
    }
}
