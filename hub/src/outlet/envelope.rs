//! An event as it leaves the hub: a CloudEvent 1.0 in structured JSON, and the signature by which
//! its receiver knows that it came from here and was not changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_protocol::time::Millis;
use ring::hmac;
use serde::Serialize;

use crate::api::types::EventView;
use crate::date::Moment;
use crate::keys::random;

/// The media type of a CloudEvent in structured JSON mode.
pub(crate) const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// What the type of every event of ours begins with.
const TYPE_PREFIX: &str = "io.bellwether.";
/// What marks a secret as one of a webhook (Standard Webhooks 1.0, "Signature scheme").
const SECRET_PREFIX: &str = "whsec_";
/// Random bytes of a secret: Standard Webhooks asks for 24 to 64; 32 is what the digest takes whole.
const SECRET_BYTES: usize = 32;

/// Who sends.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// This hub; the same after a restart and after a restore.
    pub(crate) hub: String,
    /// The fleet, once there is a root.
    pub(crate) fleet: Option<String>,
}

/// A CloudEvent (CNCF specification 1.0.2, section 3; JSON format, section 3).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: String,
    datacontenttype: &'static str,
    data: &'a EventView,
}

impl<'a> CloudEvent<'a> {
    /// The envelope of an event.
    pub(crate) fn new(origin: &Origin, event: &'a EventView) -> Self {
        let place = origin.fleet.as_ref().unwrap_or(&origin.hub);
        Self {
            specversion: "1.0",
            id: format!("{}-{}", origin.hub, event.seq),
            source: format!("/bellwether/{place}"),
            kind: format!("{TYPE_PREFIX}{}", event.kind),
            subject: subject(event),
            time: rfc3339(event.at_ms),
            datacontenttype: "application/json",
            data: event,
        }
    }
}

/// What an event is about, most specific first.
fn subject(event: &EventView) -> Option<String> {
    let version = event.model.as_ref().zip(event.version).map(|(model, version)| format!("{model}:{version}"));
    version
        .or_else(|| event.model.clone())
        .or_else(|| event.device.clone())
        .or_else(|| event.rollout.as_ref().map(|id| format!("rollout/{id}")))
}

/// A new secret, as it is shown once and kept.
pub(crate) fn new_secret() -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(random::<SECRET_BYTES>()))
}

/// The value of `webhook-signature` (Standard Webhooks 1.0): `v1,` and the base64 of HMAC-SHA256
/// over `id.timestamp.body`; none if the secret does not read.
pub(crate) fn signature(secret: &str, id: &str, timestamp_seconds: u64, body: &[u8]) -> Option<String> {
    let secret = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret));
    signing.update(format!("{id}.{timestamp_seconds}.").as_bytes());
    signing.update(body);
    Some(format!("v1,{}", STANDARD.encode(signing.sign())))
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
fn rfc3339(at_ms: u64) -> String {
    Moment::of(Millis(at_ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventView {
        EventView {
            seq: 42,
            at_ms: 1_709_164_800_123,
            who: "hub".to_owned(),
            kind: "rollout_paused".to_owned(),
            text: "rollout 3 of digits:2 paused: two failures".to_owned(),
            model: Some("digits".to_owned()),
            version: Some(2),
            device: None,
            rollout: Some("3".to_owned()),
        }
    }

    #[test]
    fn a_webhook_is_signed_as_the_convention_shows() {
        // The example that the documentation of Standard Webhooks and its libraries test against.
        let (secret, id) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek");
        let made = signature(secret, id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(made.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert!(signature("whsec_?", id, 1, b"").is_none());
        assert!(signature("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", id, 1, b"").is_none());
    }

    #[test]
    fn every_webhook_has_its_own_secret() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one, other);
        assert!(signature(&one, "a", 1, b"x").is_some());
        assert_ne!(signature(&one, "a", 1, b"x"), signature(&other, "a", 1, b"x"));
    }

    #[test]
    fn a_webhook_carries_a_cloud_event() {
        let origin = Origin { hub: "ab12".to_owned(), fleet: Some("f0".to_owned()) };
        let event = event();
        let json = serde_json::to_value(CloudEvent::new(&origin, &event)).unwrap();
        let mut expected = serde_json::json!({
            "specversion": "1.0",
            "id": "ab12-42",
            "source": "/bellwether/f0",
            "type": "io.bellwether.rollout_paused",
            "subject": "digits:2",
            "time": "2024-02-29T00:00:00.123Z",
            "datacontenttype": "application/json",
        });
        expected["data"] = serde_json::to_value(&event).unwrap();
        assert_eq!(json, expected);
        let origin = Origin { fleet: None, ..origin };
        let bare = EventView { model: None, version: None, rollout: None, ..event };
        let json = serde_json::to_value(CloudEvent::new(&origin, &bare)).unwrap();
        assert_eq!(json["source"], "/bellwether/ab12");
        assert!(json.get("subject").is_none(), "an attribute without a value is left out");
    }

    #[test]
    fn webhook_times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(4_102_444_799_999), "2099-12-31T23:59:59.999Z");
    }
}
