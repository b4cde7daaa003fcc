//! What changes whom devices believe: later roots, recalls, checkpoints.

use serde_json::Value;

use super::{Answer, Client};
use crate::api::types::{CheckpointView, Page, RecallView, StatementRequest};

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

    async fn tell(&self, path: &[&str], statement: String) -> Answer<()> {
        self.post::<Value>(path, &StatementRequest { statement }).await.map(drop)
    }
}
