//! Drift and troubles: how values look, and what devices complain of.

use super::{Answer, Client};
use crate::api::types::{GroupQuery, MonitorDetail, MonitorQuery, MonitorView, Page, TroublesView};

impl Client {
    /// `GET /monitors`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn monitors(&self, query: &MonitorQuery) -> Answer<Page<MonitorView>> {
        self.fetch_with(&["monitors"], query).await
    }

    /// `GET /monitors/{name}/{version}`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn monitor(&self, name: &str, version: u32, query: &GroupQuery) -> Answer<MonitorDetail> {
        self.fetch_with(&["monitors", name, &version.to_string()], query).await
    }

    /// `GET /devices/{id}/troubles`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn troubles(&self, id: &str) -> Answer<TroublesView> {
        self.fetch(&["devices", id, "troubles"]).await
    }

    /// `POST /devices/{id}/log`.
    ///
    /// # Errors
    ///
    /// [`super::ClientError`].
    pub async fn ask_log(&self, id: &str) -> Answer<()> {
        self.send(self.request(reqwest::Method::POST, &["devices", id, "log"])).await.map(drop)
    }
}
