//! The routes of collected rows.

use std::time::Duration;

use reqwest::{Method, Response};

use super::{Answer, Client};
use crate::api::types::{CollectedView, ExportQuery, Page, RowView, RowsQuery};

/// How long an export may take: gigabytes over a slow line.
const EXPORT_SECONDS_MAX: u64 = 24 * 3600;

#[expect(clippy::missing_errors_doc, reason = "the errors of all are those of `ClientError`")]
impl Client {
    /// `GET /data`.
    pub async fn collected(&self) -> Answer<CollectedView> {
        self.fetch(&["data"]).await
    }

    /// `GET /data/export`: read the body piece by piece; one that breaks off is not whole.
    pub async fn export(&self, query: &ExportQuery) -> Answer<Response> {
        let request = self.request(Method::GET, &["data", "export"]).query(query);
        self.send(request.timeout(Duration::from_secs(EXPORT_SECONDS_MAX))).await
    }

    /// `GET /devices/{id}/rows`.
    pub async fn latest_rows(&self, id: &str, query: &RowsQuery) -> Answer<Page<RowView>> {
        self.fetch_with(&["devices", id, "rows"], query).await
    }
}
