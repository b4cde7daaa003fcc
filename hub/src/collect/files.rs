//! The folder of collected files: written whole or not at all, listed, read, removed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::place::FilePath;

/// The files of collected rows.
#[derive(Clone, Debug)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
}

/// A file as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: FilePath,
    pub(crate) bytes: u64,
    pub(crate) written_ms: i64,
}

impl Files {
    /// Opens the files in `directory`, which must exist.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn in_directory(directory: &Path) -> object_store::Result<Self> {
        let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Writes a file under a temporary name, makes it durable, and names it; one that is there
    /// already is replaced.
    pub(crate) async fn put(&self, path: &FilePath, bytes: Bytes) -> object_store::Result<()> {
        self.store.put(&object(path)?, bytes.into()).await.map(drop)
    }

    /// All files of ours, by model, version and day.
    pub(crate) async fn list(&self) -> object_store::Result<Vec<Listed>> {
        let all: Vec<_> = self.store.list(None).try_collect().await?;
        let ours = |found: object_store::ObjectMeta| {
            let path = found.location.as_ref().parse().ok()?;
            Some(Listed { path, bytes: found.size, written_ms: found.last_modified.timestamp_millis() })
        };
        let mut listed: Vec<Listed> = all.into_iter().filter_map(ours).collect();
        listed.sort_by(|a, b| (&a.path.place, a.written_ms, &a.path).cmp(&(&b.path.place, b.written_ms, &b.path)));
        Ok(listed)
    }

    /// The bytes of a file; `None` if there is none, or no more.
    pub(crate) async fn read(&self, path: &FilePath) -> object_store::Result<Option<Bytes>> {
        match self.store.get(&object(path)?).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Removes a file; one that is not there is fine.
    pub(crate) async fn remove(&self, path: &FilePath) -> object_store::Result<()> {
        match self.store.delete(&object(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

fn object(path: &FilePath) -> object_store::Result<ObjectPath> {
    Ok(ObjectPath::parse(path.to_string())?)
}
