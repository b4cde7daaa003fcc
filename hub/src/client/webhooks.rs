//! The routes of webhooks and of events that are waited for.

use reqwest::Method;

use super::{Answer, Client};
use crate::api::types::{
    DeadLetterView, Page, RedeliverRequest, RedeliverView, WebhookCreated, WebhookRequest, WebhookTestView, WebhookView,
};

#[expect(clippy::missing_errors_doc, reason = "the errors of all are those of `ClientError`")]
impl Client {
    /// `POST /webhooks`.
    pub async fn create_webhook(&self, request: &WebhookRequest) -> Answer<WebhookCreated> {
        self.post(&["webhooks"], request).await
    }

    /// `GET /webhooks`.
    pub async fn webhooks(&self) -> Answer<Page<WebhookView>> {
        self.fetch(&["webhooks"]).await
    }

    /// `DELETE /webhooks/{id}`.
    pub async fn delete_webhook(&self, id: &str) -> Answer<()> {
        self.delete(&["webhooks", id]).await
    }

    /// `GET /webhooks/{id}/dead`.
    pub async fn dead_letters(&self, id: &str) -> Answer<Page<DeadLetterView>> {
        self.fetch(&["webhooks", id, "dead"]).await
    }

    /// `POST /webhooks/{id}/redeliver`.
    pub async fn redeliver(&self, id: &str, sequence: Option<u64>) -> Answer<RedeliverView> {
        self.post(&["webhooks", id, "redeliver"], &RedeliverRequest { sequence }).await
    }

    /// `POST /webhooks/{id}/test`.
    pub async fn test_webhook(&self, id: &str) -> Answer<WebhookTestView> {
        self.json(self.request(Method::POST, &["webhooks", id, "test"])).await
    }
}
