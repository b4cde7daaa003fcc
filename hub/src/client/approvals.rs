//! What waits for approvers, refusals, and keys that ask to be listed.

use reqwest::Method;

use super::{Answer, Client};
use crate::api::types::{
    ApprovalDetail, EnvelopeView, KeyRequestRequest, KeyRequestView, Page, RejectRequest, VersionView,
};

#[expect(clippy::missing_errors_doc, reason = "the errors of all are those of `ClientError`, said once there")]
impl Client {
    /// `GET /approvals`.
    pub async fn approvals(&self) -> Answer<Page<VersionView>> {
        self.fetch(&["approvals"]).await
    }

    /// `GET /approvals/{name}/{version}`.
    pub async fn approval(&self, name: &str, version: u32) -> Answer<ApprovalDetail> {
        self.fetch(&["approvals", name, &version.to_string()]).await
    }

    /// `POST /models/{name}/versions/{version}/rejection`.
    pub async fn reject(&self, name: &str, version: u32, reason: String) -> Answer<VersionView> {
        self.post(&["models", name, "versions", &version.to_string(), "rejection"], &RejectRequest { reason }).await
    }

    /// `GET /models/{name}/versions/{version}/dsse`.
    pub async fn dsse(&self, name: &str, version: u32) -> Answer<EnvelopeView> {
        self.fetch(&["models", name, "versions", &version.to_string(), "dsse"]).await
    }

    /// `GET /keys/requests`.
    pub async fn key_requests(&self) -> Answer<Page<KeyRequestView>> {
        self.fetch(&["keys", "requests"]).await
    }

    /// `POST /keys/requests`.
    pub async fn request_key(&self, request: &KeyRequestRequest) -> Answer<KeyRequestView> {
        self.post(&["keys", "requests"], request).await
    }

    /// `DELETE /keys/requests/{id}`.
    pub async fn withdraw_key_request(&self, id: &str) -> Answer<()> {
        self.send(self.request(Method::DELETE, &["keys", "requests", id])).await.map(drop)
    }
}
