//! One delivery: a signed POST within its time, and what the receiver's answer means.
//!
//! ```text
//!  2xx                        delivered
//!  410                        gone: the webhook is disabled
//!  408, 425, 429, 5xx         later: again after a growing pause
//!  no connection, no answer   later
//!  every other status         refused: a few tries, in case the receiver is being mended
//! ```
//! A redirect is not followed: whoever can answer for the receiver could send signed events
//! elsewhere by it, and a moved receiver is a new webhook.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::envelope::{self, CONTENT_TYPE};

/// What is read of an answer: enough for an error's text, and nothing a receiver could flood with.
const ANSWER_BYTES_MAX: usize = 2048;
/// What is kept of an answer in an error.
const QUOTE_CHARS_MAX: usize = 200;
/// How long an answer's text is read once its status is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long an idle connection is kept: rollouts tell several things within seconds.
const IDLE: Duration = Duration::from_secs(20);

/// What is sent, and what it is signed with.
#[derive(Clone)]
pub(crate) struct Letter {
    /// The same at every try, by which a receiver knows a repetition.
    pub(crate) id: String,
    /// The receiver.
    pub(crate) url: String,
    /// `whsec_…`
    pub(crate) secret: String,
    /// A CloudEvent.
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The beginning of its answer.
    pub(crate) text: String,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Gone(String),
    Refused(String),
    Later(String),
}

impl Outcome {
    /// What an answer means, or why there was none.
    pub(crate) fn of(reply: Result<Reply, String>) -> Self {
        let Reply { status, text } = match reply {
            Ok(reply) => reply,
            Err(cause) => return Self::Later(cause),
        };
        let quote: String = text.trim().chars().take(QUOTE_CHARS_MAX).collect();
        let said = match quote.is_empty() {
            true => format!("the receiver answered {status}"),
            false => format!("the receiver answered {status}: {quote}"),
        };
        match status {
            200..=299 => Self::Delivered,
            410 => Self::Gone(said),
            300..=399 => {
                Self::Refused(format!("{said}; redirects are not followed: add a webhook for the new address"))
            }
            408 | 425 | 429 | 500.. => Self::Later(said),
            _ => Self::Refused(said),
        }
    }
}

type Posting<C> = Client<C, Full<Bytes>>;

/// The way out, shared by all webhooks: connections are kept, redirects, cookies and proxies are
/// not known to it.
pub(crate) struct Courier {
    plain: Posting<HttpConnector>,
    /// Why there is none: a machine without root certificates.
    secure: Result<Posting<HttpsConnector<HttpConnector>>, String>,
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("https", &self.secure.is_ok()).finish_non_exhaustive()
    }
}

impl Courier {
    /// Opens the way, with the root certificates of this machine.
    pub(crate) fn open() -> Self {
        let secure = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map(|roots| client(roots.https_only().enable_http1().build()))
            .map_err(|fault| format!("https needs the machine's root certificates: {fault}; install ca-certificates"));
        Self { plain: client(HttpConnector::new()), secure }
    }

    /// Sends a letter and hears the answer, all within `within`.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(crate) async fn post(&self, letter: &Letter, now_seconds: u64, within: Duration) -> Result<Reply, String> {
        let uri: Uri = letter.url.parse().map_err(|fault| format!("{} is no address: {fault}", letter.url))?;
        let https = uri.scheme_str() == Some("https");
        let request = request(letter, uri, now_seconds)?;
        let exchange = async {
            match &self.secure {
                Ok(secure) if https => hear(secure, request).await,
                Err(cause) if https => Err(cause.clone()),
                Ok(_) | Err(_) => hear(&self.plain, request).await,
            }
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(heard) => heard,
            Err(_) => Err(format!("no answer within {} ms", within.as_millis())),
        }
    }
}

fn client<C: Connect + Clone>(connector: C) -> Posting<C> {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

fn request(letter: &Letter, uri: Uri, now_seconds: u64) -> Result<Request<Full<Bytes>>, String> {
    let signature = envelope::signature(&letter.secret, &letter.id, now_seconds, &letter.body);
    let signature = signature.ok_or("the webhook's secret does not read: remove it and add it anew")?;
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .header(header::USER_AGENT, concat!("bellwether-hub/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &letter.id)
        .header("webhook-timestamp", now_seconds)
        .header("webhook-signature", signature)
        .body(Full::new(Bytes::from(letter.body.clone())))
        .map_err(|fault| format!("the request cannot be made: {fault}"))
}

async fn hear<C>(client: &Posting<C>, request: Request<Full<Bytes>>) -> Result<Reply, String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = client.request(request).await.map_err(|fault| innermost(&fault))?;
    let status = response.status().as_u16();
    let mut text = Vec::new();
    // A receiver that keeps its answer open has answered.
    let _all_or_some = tokio::time::timeout(ANSWER_WITHIN, beginning(response.into_body(), &mut text)).await;
    Ok(Reply { status, text: String::from_utf8_lossy(&text).into_owned() })
}

/// The beginning of a body. One that breaks off still had a status, which is what counts.
async fn beginning(mut body: Incoming, bytes: &mut Vec<u8>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(piece) = frame.into_data() else { continue };
        bytes.extend(piece.iter().take(ANSWER_BYTES_MAX - bytes.len()));
        if bytes.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
}

/// What a person needs to read: the cause behind all wrappers.
fn innermost(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = fault;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16) -> Outcome {
        Outcome::of(Ok(Reply { status, text: "said so".to_owned() }))
    }

    #[test]
    fn a_webhook_answer_means_what_the_table_says() {
        assert_eq!((of(200), of(204)), (Outcome::Delivered, Outcome::Delivered));
        assert!(matches!(of(410), Outcome::Gone(text) if text.contains("410: said so")));
        for status in [301, 307, 400, 401, 404, 422] {
            assert!(matches!(of(status), Outcome::Refused(_)), "{status}");
        }
        for status in [408, 425, 429, 500, 503] {
            assert!(matches!(of(status), Outcome::Later(_)), "{status}");
        }
        assert_eq!(Outcome::of(Err("refused".to_owned())), Outcome::Later("refused".to_owned()));
    }

    #[tokio::test]
    async fn a_webhook_without_a_receiver_says_why() {
        let letter = Letter {
            id: "msg".to_owned(),
            url: "http://127.0.0.1:9/".to_owned(),
            secret: envelope::new_secret(),
            body: b"{}".to_vec(),
        };
        let courier = Courier::open();
        let why = courier.post(&letter, 1, Duration::from_secs(5)).await.unwrap_err();
        assert!(why.contains("refused"), "{why}");
        let unsigned = Letter { secret: "x".to_owned(), ..letter };
        assert!(courier.post(&unsigned, 1, Duration::from_secs(5)).await.unwrap_err().contains("secret"));
    }
}
