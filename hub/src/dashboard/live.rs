//! The socket that keeps a page current: the fragments that changed, one frame in flight.
//!
//! ```text
//!  browser                        hub
//!    |-- GET /live?page=/fleet --->|   same origin, session cookie
//!    |<- {"seq":1,"fragments":{…}}-|   all fragments first
//!    |-- {"ack":1} --------------->|   only then the next frame
//! ```
//! The loop ends when the session ends, the browser goes away, or an ack is overdue.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::api::auth::{same_origin, session_cookie};
use crate::api::error::Problem;
use crate::api::input::Asked;
use crate::drive::Hub;

use super::place::Place;

/// Least time between two frames: ten a second read as immediate.
const FRAME_EVERY: Duration = Duration::from_millis(100);
/// Least time between two looks at a page of which nothing had changed: what changes next is not
/// kept waiting for what did not concern it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A browser in the background may be slow; one that takes longer is gone.
const ACK_WITHIN: Duration = Duration::from_secs(20);
/// How often a quiet socket's session is checked: a logout ends it this soon.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Checks between two pings: proxies cut sockets that are silent for a minute.
const CHECKS_PER_PING: u32 = 8;
/// What a browser may send: acks only.
const INCOMING_BYTES_MAX: usize = 1024;

/// Which page the socket is for.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    page: String,
}

/// Opens the socket.
pub(super) async fn open(
    State(hub): State<Hub>,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
    mut request: Request,
) -> Response {
    let checked = same_origin(&headers).and_then(|()| {
        let session = session_cookie(&headers).ok_or_else(|| Problem::unauthenticated("nobody is logged in here"))?;
        hub.session(session)?;
        Ok((session.to_owned(), Place::parse(&wanted.page)?, accept_key(&headers)?))
    });
    let (session, place, accept) = match checked {
        Ok(checked) => checked,
        Err(problem) => return problem.into_response(),
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return not_a_socket().into_response();
    };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(INCOMING_BYTES_MAX))
            .max_frame_size(Some(INCOMING_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        Feed { hub, session, place, socket, sent: BTreeMap::new(), seq: 0, checks: 0 }.run().await;
    });
    let fixed = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, fixed).into_response()
}

/// The answer to the browser's key (RFC 6455, section 4.2.2).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let is = |name: header::HeaderName, value: &str| {
        headers
            .get(name)
            .and_then(|header| header.to_str().ok())
            .is_some_and(|header| header.eq_ignore_ascii_case(value))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(not_a_socket)?;
    if !is(header::UPGRADE, "websocket") || !is(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(not_a_socket());
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| not_a_socket())
}

fn not_a_socket() -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "not_a_socket", "this address takes WebSocket connections only")
        .hint("open a page of the dashboard; it connects by itself")
}

#[derive(Serialize)]
struct Frame<'a> {
    seq: u64,
    fragments: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Ack {
    ack: u64,
}

/// One page's feed.
struct Feed {
    hub: Hub,
    session: String,
    place: Place,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// Hash of each fragment as it was last sent.
    sent: BTreeMap<String, u64>,
    seq: u64,
    /// Checks of the session so far.
    checks: u32,
}

/// The feed is over: the browser left, or must leave.
struct Over;

impl Feed {
    async fn run(mut self) {
        let mut changes = self.hub.changes();
        changes.mark_changed();
        while self.next(&mut changes).await.is_ok() {}
        drop(self.socket.close(None).await);
    }

    async fn next(&mut self, changes: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), Over> {
        tokio::select! {
            changed = changes.changed() => {
                changed.map_err(|_| Over)?;
                let pause = if self.push().await? { FRAME_EVERY } else { LOOK_EVERY };
                sleep(pause).await;
            }
            message = self.socket.next() => drop(heard(message)?),
            () = sleep(CHECK_EVERY) => {
                self.hub.session(&self.session).map_err(|_| Over)?;
                self.checks += 1;
                if self.checks.is_multiple_of(CHECKS_PER_PING) {
                    self.send(Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
        Ok(())
    }

    /// Renders, sends what changed, waits for the ack; whether anything had changed.
    async fn push(&mut self) -> Result<bool, Over> {
        let caller = self.hub.session(&self.session).map_err(|_| Over)?;
        let Ok((_, parts)) = self.place.document(&self.hub, &caller) else { return Ok(false) };
        let fragments = parts.into_fragments();
        let mut fresh = BTreeMap::new();
        for (id, inside) in &fragments {
            let hash = hash(inside);
            if self.sent.insert(id.clone(), hash) != Some(hash) {
                fresh.insert(id.as_str(), inside.as_str());
            }
        }
        if fresh.is_empty() {
            return Ok(false);
        }
        self.seq += 1;
        let text = serde_json::to_string(&Frame { seq: self.seq, fragments: fresh }).map_err(|_| Over)?;
        self.send(Message::text(text)).await?;
        timeout(ACK_WITHIN, self.acked()).await.map_err(|_| Over)??;
        Ok(true)
    }

    async fn acked(&mut self) -> Result<(), Over> {
        loop {
            if heard(self.socket.next().await)? == Some(self.seq) {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Over> {
        let sent = timeout(ACK_WITHIN, self.socket.send(message)).await;
        sent.map_err(|_| Over)?.map_err(|_| Over)
    }
}

type Heard = Option<Result<Message, tokio_tungstenite::tungstenite::Error>>;

/// The ack in a message, if it holds one. Whoever sends anything else is no page of ours.
fn heard(message: Heard) -> Result<Option<u64>, Over> {
    match message {
        Some(Ok(Message::Text(text))) => serde_json::from_str::<Ack>(&text).map(|ack| Some(ack.ack)).map_err(|_| Over),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_)) | None => Err(Over),
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
