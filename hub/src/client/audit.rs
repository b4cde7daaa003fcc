//! The routes of the audit chain.

use reqwest::Method;

use super::{Answer, Client};
use crate::api::types::{AuditHeadView, AuditQuery, DayQuery, DeviceAuditView};

#[expect(clippy::missing_errors_doc, reason = "the errors of all are those of `ClientError`")]
impl Client {
    /// `GET /audit/head`.
    pub async fn audit_head(&self) -> Answer<AuditHeadView> {
        self.fetch(&["audit", "head"]).await
    }

    /// `GET /audit`: the next lines after this number, none at the end.
    pub async fn audit_lines(&self, after: Option<u64>) -> Answer<String> {
        let response = self.send(self.request(Method::GET, &["audit"]).query(&AuditQuery { after })).await?;
        response.text().await.map_err(|fault| self.foreign(fault.to_string()))
    }

    /// `GET /audit/devices/{id}`.
    pub async fn device_audit(&self, id: &str, date: &str) -> Answer<DeviceAuditView> {
        self.fetch_with(&["audit", "devices", id], &DayQuery { date: date.to_owned() }).await
    }
}
