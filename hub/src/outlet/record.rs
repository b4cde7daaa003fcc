//! What the store keeps of a webhook: where it goes, how far it got, and what it could not deliver.

use bellwether_hub_core::event::Event;
use bellwether_protocol::time::Millis;
use serde::{Deserialize, Serialize};

/// Prefix of every webhook's key; its id follows.
pub(crate) const WEBHOOKS: &str = "webhook/";

/// What a webhook is told of unless it asks otherwise: what somebody on call wants to know.
pub(crate) const NOTABLE: [&str; 9] = [
    "drift_alert_raised",
    "drift_alert_cleared",
    "rollout_rolled_back",
    "rollout_rolling_back",
    "rollout_paused",
    "rollout_aborted",
    "rollout_completed",
    "offload_fell",
    "offload_returned",
];

/// A webhook as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    /// `whsec_…`; the receiver has the same.
    pub(crate) secret: String,
    /// Kinds of events; one that ends in `*` stands for all that begin so.
    pub(crate) kinds: Vec<String>,
    pub(crate) created_at: Millis,
    /// Sequence of the last event that is done with.
    pub(crate) cursor: u64,
    /// Tries of the event after it that failed.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// When the next try is due.
    #[serde(default)]
    pub(crate) next_try: Option<Millis>,
    /// The latest thing that went wrong; it stays until the next one.
    #[serde(default)]
    pub(crate) last_error: Option<Mishap>,
    #[serde(default)]
    pub(crate) delivered: u64,
    /// Events that were deleted before they were delivered.
    #[serde(default)]
    pub(crate) missed: u64,
    /// The receiver said that it is gone.
    #[serde(default)]
    pub(crate) disabled: bool,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mishap {
    pub(crate) at: Millis,
    pub(crate) text: String,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    pub(crate) event: Event,
    /// Tries in all.
    pub(crate) attempts: u32,
    /// The last answer, or why there was none.
    pub(crate) error: Mishap,
    /// Somebody asked for one more try.
    #[serde(default)]
    pub(crate) again: bool,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Whether it is told of events of this kind.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.kinds.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => wanted == kind,
        })
    }

    /// Where it is stored.
    pub(crate) fn key(&self) -> String {
        webhook_key(&self.id)
    }

    /// What the receiver knows a repetition by.
    pub(crate) fn message_id(&self, sequence: u64) -> String {
        format!("msg_{}_{sequence}", self.id)
    }
}

/// Where a webhook is stored.
pub(crate) fn webhook_key(id: &str) -> String {
    format!("{WEBHOOKS}{id}")
}

/// Prefix of what a webhook could not deliver.
pub(crate) fn letters_of(id: &str) -> String {
    format!("deadletter/{id}/")
}

/// Where a dead letter is stored.
pub(crate) fn letter_key(id: &str, sequence: u64) -> String {
    format!("{}{sequence:020}", letters_of(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_told_of_the_kinds_it_asked_for() {
        let json = r#"{"id":"a","name":"n","url":"http://x","secret":"s","kinds":["install","rollout_*"],
                       "created_at":1,"cursor":7}"#;
        let mut hook: Webhook = serde_json::from_str(json).unwrap();
        assert!(hook.wants("install") && hook.wants("rollout_paused"));
        assert!(!hook.wants("installed") && !hook.wants("device_online"));
        hook.kinds = vec!["*".to_owned()];
        assert!(hook.wants("anything"));
        assert!(!format!("{hook:?}").contains("\"s\""), "a secret is not logged");
    }
}
