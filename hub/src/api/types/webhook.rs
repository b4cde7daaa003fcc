//! Webhooks as JSON: where events are sent, how far that got, what could not be delivered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::EventView;

/// Asks for a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where events are sent: `http` or `https`.
    pub url: String,
    /// What people call it; the host of its address if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Kinds of events, such as `rollout_paused`; `rollout_*` is all that begin so, `*` is all.
    /// Without any: the notable ones, which are drift alerts, how rollouts end or stand still, and
    /// models that fall back from an FPGA to software or return to it.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// A new webhook, with its secret, which is shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookCreated {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where events are sent.
    pub url: String,
    /// Kinds of events.
    pub kinds: Vec<String>,
    /// `whsec_` and base64: with it the receiver checks signatures (Standard Webhooks).
    pub secret: String,
}

/// How a webhook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// Everything is delivered or under way.
    Waiting,
    /// The next event failed at least once.
    Retrying,
    /// The receiver said that it is gone (410).
    Disabled,
}

impl WebhookState {
    /// The state as a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Disabled => "disabled",
        }
    }
}

/// A webhook without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookView {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where events are sent.
    pub url: String,
    /// Kinds of events.
    pub kinds: Vec<String>,
    /// When it was made.
    pub created_ms: u64,
    /// How it stands.
    pub state: WebhookState,
    /// Sequence of the last event that is done with.
    pub cursor: u64,
    /// Failed tries of the event after it.
    pub attempts: u32,
    /// When that one is tried again.
    pub next_try_ms: Option<u64>,
    /// The latest thing that went wrong; it stays until the next one.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_ms: Option<u64>,
    /// Events delivered.
    pub delivered: u64,
    /// Events that were deleted before they could be delivered.
    pub missed: u64,
    /// Dead letters.
    pub dead: u32,
}

/// An event that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// The event's sequence number.
    pub sequence: u64,
    /// The event.
    pub event: EventView,
    /// Tries in all.
    pub attempts: u32,
    /// What the receiver answered last, or why it did not.
    pub error: String,
    /// When that was.
    pub failed_ms: u64,
    /// Whether one more try is under way.
    pub redelivering: bool,
}

/// Asks for one more try of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverRequest {
    /// Only this one; all if absent.
    #[serde(default)]
    pub sequence: Option<u64>,
}

/// What was taken up again. Delivered letters leave the list; the others stay, with the new error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedeliverView {
    /// Letters that get one more try.
    pub letters: u32,
}

/// What a receiver made of a test event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookTestView {
    /// Whether it answered with success.
    pub delivered: bool,
    /// The HTTP status it answered; absent if it did not.
    pub status: Option<u16>,
    /// The beginning of its answer.
    pub answer: String,
    /// Why there was no answer.
    pub error: Option<String>,
    /// How long that took.
    pub took_ms: u64,
}
