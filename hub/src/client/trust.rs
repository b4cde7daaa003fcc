//! What changes whom devices believe: later roots, recalls, checkpoints, and keys that ask to be
//! taken in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Client};
use crate::api::types::{CheckpointView, Page, RecallView, StatementRequest};

/// A public key that asks to be taken into the root, as far as the command line reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// Id of the key.
    pub id: String,
    /// The public half.
    pub public: String,
    /// Whose it is, by the word of whoever posted it.
    pub person: String,
    /// What keeps the private half, by the same word.
    pub class: String,
    /// What its owner calls it.
    pub name: String,
    /// When it was posted.
    pub at_ms: u64,
}

impl Client {
    /// `POST /root/versions`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn post_root(&self, statement: String) -> Answer<()> {
        self.tell(&["root", "versions"], statement).await
    }

    /// `POST /recalls`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn post_recall(&self, statement: String) -> Answer<()> {
        self.tell(&["recalls"], statement).await
    }

    /// `GET /recalls`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn recalls(&self) -> Answer<Page<RecallView>> {
        self.fetch(&["recalls"]).await
    }

    /// `GET /checkpoints/latest`; none before the first.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn checkpoint(&self) -> Answer<Option<CheckpointView>> {
        match self.fetch(&["checkpoints", "latest"]).await {
            Err(error) if error.problem().is_some_and(|problem| problem.code == "no_checkpoint") => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// `POST /checkpoints`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn post_checkpoint(&self, statement: String) -> Answer<()> {
        self.tell(&["checkpoints"], statement).await
    }

    /// `GET /keys/requests`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn key_requests(&self) -> Answer<Page<KeyRequest>> {
        self.fetch(&["keys", "requests"]).await
    }

    async fn tell(&self, path: &[&str], statement: String) -> Answer<()> {
        self.post::<Value>(path, &StatementRequest { statement }).await.map(drop)
    }
}
