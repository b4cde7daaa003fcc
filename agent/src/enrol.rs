//! Enrolment: the token pins the fleet, the fleet pins the root, and only then does the device name
//! itself to the hub.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bellwether_link::tls::{self, Trust};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{FRAME_BYTES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{Enrol, FleetId, Signed, TrustedRoot, seal};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::AgentError;
use crate::identity;
use crate::store::Enrolled;

/// Tag of what a device has to offload models to, unless it is told otherwise.
const ACCELERATOR_TAG: &str = "accelerator";
/// Most bytes of an answer: a root statement in base64 takes about six KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The same of a root and everything that followed it.
const ROOTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// `bw1.<fleet>.<secret>`; with a checkpoint behind it, or without a secret where the key of the
/// device was imported.
pub(crate) struct Token {
    pub(crate) fleet: FleetId,
    secret: String,
    /// Frame of a signed checkpoint: what a device that was wiped has forgotten.
    checkpoint: Option<Vec<u8>>,
}

/// What a device learns at its enrolment, to be checked against the fleet's first root.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Frames of the roots that followed the first.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Frame of a checkpoint, from the token.
    pub(crate) checkpoint: Option<Vec<u8>>,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Self, AgentError> {
        let rest = text.trim().strip_prefix("bw1.").ok_or(AgentError::BadToken)?;
        let mut parts = rest.split('.');
        let fleet = parts.next().unwrap_or_default().parse().map_err(|_| AgentError::BadToken)?;
        let secret = parts.next();
        let is_secret = |secret: &str| {
            !secret.is_empty() && secret.len() <= 128 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let read = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| AgentError::BadToken)?;
            if bytes.is_empty() { Err(AgentError::BadToken) } else { Ok(bytes) }
        };
        let checkpoint = parts.next().map(read).transpose()?;
        if parts.next().is_some() || secret.is_some_and(|secret| !is_secret(secret)) {
            return Err(AgentError::BadToken);
        }
        Ok(Self { fleet, secret: secret.unwrap_or_default().to_owned(), checkpoint })
    }
}

#[derive(Deserialize)]
struct RootAnswer {
    statement: String,
    #[serde(default)]
    later: Vec<String>,
}

#[derive(Serialize)]
struct EnrolBody<'a> {
    device: &'a DeviceId,
    secret: &'a str,
    statement: String,
    tags: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct EnrolAnswer {
    broker: BrokerAnswer,
}

#[derive(Deserialize)]
struct BrokerAnswer {
    url: String,
    password: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    title: String,
    detail: String,
    hint: String,
}

/// Enrols this device with the hub of its configuration.
pub(crate) async fn enrol(
    config: &Config,
    token: &Token,
    device: &DeviceId,
    key: &SigningKey,
) -> Result<(Enrolled, Told), AgentError> {
    let hub = Hub { url: config.hub.trim_end_matches('/'), trust: config.trust() };
    let client = hub.client()?;
    let answer: RootAnswer = hub.ask(client.get(format!("{}/api/v1/root", hub.url)), ROOTS_BYTES_MAX).await?;
    let read = |text: &String| STANDARD.decode(text).map_err(|_| hub.misbehaved("a root is not base64"));
    let root = read(&answer.statement)?;
    let roots = answer.later.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    open_root(token.fleet, &root).map_err(|why| AgentError::WrongFleet { why })?;
    let statement = statement(token, device, key).map_err(|why| hub.misbehaved(why.text()))?;
    let mut tags = config.tags.clone();
    if let Some(accelerator) = &config.accelerator {
        // So that a stage of a rollout can be those that have one.
        tags.entry(ACCELERATOR_TAG.to_owned()).or_insert_with(|| accelerator.reported().name().to_owned());
    }
    let body = EnrolBody { device, secret: &token.secret, statement, tags: &tags };
    let answer: EnrolAnswer =
        hub.ask(client.post(format!("{}/api/v1/enrol", hub.url)).json(&body), ANSWER_BYTES_MAX).await?;
    let told = Told { roots, checkpoint: token.checkpoint.clone() };
    let enrolled = Enrolled {
        fleet: token.fleet,
        root,
        device: device.to_string(),
        broker: answer.broker.url,
        password: answer.broker.password,
    };
    Ok((enrolled, told))
}

/// Reads a frame with a signed root, version 1.
pub(crate) fn open_root(fleet: FleetId, bytes: &[u8]) -> Result<TrustedRoot, bellwether_protocol::error::Reject> {
    TrustedRoot::first(fleet, &frame::decode::<Signed<'_>>(bytes)?)
}

fn statement(token: &Token, device: &DeviceId, key: &SigningKey) -> Result<String, bellwether_protocol::error::Reject> {
    let enrol =
        Enrol { device: device.clone(), key: identity::public(key), token: Digest::of(token.secret.as_bytes()) };
    let mut body = [0; STATEMENT_BYTES_MAX];
    let signed = seal(&enrol, token.fleet, key, &mut body)?;
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    frame::encode(&signed, &mut buffer).map(|bytes| STANDARD.encode(bytes))
}

/// The hub as it is reached over HTTP.
struct Hub<'a> {
    url: &'a str,
    trust: Trust,
}

impl Hub<'_> {
    fn client(&self) -> Result<Client, AgentError> {
        let tls = self.trust.config_for(self.url).map_err(|why| self.unreachable(why.to_string()))?;
        let client = Client::builder().timeout(PATIENCE).tls_backend_preconfigured(tls).build();
        client.map_err(|why| self.misbehaved(&why.to_string()))
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        request: RequestBuilder,
        bytes_max: usize,
    ) -> Result<T, AgentError> {
        let mut response = request.send().await.map_err(|why| self.unreachable(self.cause(&why)))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|why| self.unreachable(self.cause(&why)))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > bytes_max {
                return Err(self.misbehaved("its answer is too long"));
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|why| self.misbehaved(&why.to_string()));
        }
        Err(refusal(status, &bytes))
    }

    /// What TLS has against it, else every cause behind the failure.
    fn cause(&self, why: &reqwest::Error) -> String {
        if let Some(reason) = tls::reason(why, &self.trust, "the hub") {
            return reason;
        }
        let mut text = why.to_string();
        let mut cause = std::error::Error::source(why);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        text
    }

    fn unreachable(&self, why: String) -> AgentError {
        AgentError::Unreachable { hub: self.url.to_owned(), why }
    }

    fn misbehaved(&self, why: &str) -> AgentError {
        AgentError::Misbehaved { hub: self.url.to_owned(), why: why.to_owned() }
    }
}

/// The hub's own words, as it is asked to say them (RFC 9457).
fn refusal(status: StatusCode, bytes: &[u8]) -> AgentError {
    let problem: Problem = serde_json::from_slice(bytes).unwrap_or_default();
    let first = [problem.detail, problem.title, status.to_string()].into_iter().find(|text| !text.is_empty());
    AgentError::Refused { code: problem.code, detail: first.unwrap_or_default(), hint: problem.hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_whole_or_not_at_all() {
        let fleet = "00112233445566778899aabbccddeeff";
        for good in ["", ".ab12", ".ab12.AQID", "\n"] {
            assert!(Token::parse(&format!("bw1.{fleet}{good}")).is_ok(), "{good}");
        }
        for bad in [
            "",
            "bw1",
            "bw1..",
            &format!("bw2.{fleet}.ab"),
            &format!("bw1.{fleet}."),
            "bw1.short.ab",
            &format!("bw1.{fleet}.ab c"),
            &format!("bw1.{fleet}.ab."),
            &format!("bw1.{fleet}.ab.A"),
            &format!("bw1.{fleet}.ab.AQID.more"),
        ] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_shows_what_the_hub_says_and_what_to_do() {
        let body =
            br#"{"code":"token_used","title":"Token used","detail":"This token was used up.","hint":"Make another."}"#;
        let text = refusal(StatusCode::FORBIDDEN, body).to_string();
        assert!(text.ends_with("This token was used up. Make another."), "{text}");
        assert!(refusal(StatusCode::BAD_GATEWAY, b"<html>").to_string().contains("502"));
    }
}
