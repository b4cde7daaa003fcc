//! Who may call: API tokens, browser sessions, one-time login codes, enrolment tokens. Only hashes
//! are stored.

use std::collections::BTreeMap;

use bellwether_hub_core::event::What;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::denied::device_id;
use super::{Hub, Refusal};
use crate::api::attempts::{Attempts, Door};
use crate::api::auth::{Caller, Peer, SessionToken};
use crate::api::error::Problem;
use crate::api::scope::{SCOPES_MAX, Scope};
use crate::api::types::{DeviceTokenRequest, DeviceTokenView, Page, Role, TokenCreated, TokenRequest, TokenView};
use crate::clock;
use crate::keys::random;
use crate::store::{StoreError, Write, record};

/// How long a browser's session lasts.
const SESSION_SPAN: Millis = Millis::from_secs(12 * 3600);
/// How long the one-time login code lasts.
const CODE_SPAN: Millis = Millis::from_secs(3600);
/// Sessions at once; the one that ends first gives way.
const SESSIONS_MAX: usize = 1000;
/// Longest validity of an enrolment token.
const ENROLMENT_SECONDS_MAX: u64 = 365 * 24 * 3600;
/// Validity of an enrolment token unless asked otherwise: a day.
const ENROLMENT_SECONDS: u64 = 24 * 3600;
/// Validity of an API token unless asked otherwise, in days: a quarter.
pub const TOKEN_DAYS: u32 = 90;
/// Longest validity of an API token, in days.
const TOKEN_DAYS_MAX: u32 = 3650;
/// Bytes of a token's name.
const NAME_BYTES_MAX: usize = 64;

/// Login codes and wrong secrets; they end with the process.
#[derive(Debug, Default)]
pub(super) struct People {
    codes: BTreeMap<Digest, Millis>,
    attempts: Attempts,
}

/// A browser's session as it is stored, under the hash of its secret: an open page outlives a
/// restart of the hub.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    name: String,
    role: Role,
    /// Key of the API token that opened it, if one did; the session ends with it.
    token: Option<String>,
    ends: Millis,
}

/// An API token as it is stored, under the hash of its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    name: String,
    role: Role,
    made_at: Millis,
    ends: Option<Millis>,
    /// What it is limited to besides its role; nothing, if empty.
    #[serde(default)]
    scopes: Vec<Scope>,
}

/// An enrolment token as it is stored, under the hash of its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Enrolment {
    pub(super) uses: u32,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) ends: Millis,
    /// The one name that may use it.
    #[serde(default)]
    pub(super) device: Option<DeviceId>,
    /// Whether that name may be taken from the device that has it.
    #[serde(default)]
    pub(super) replaces: bool,
}

/// The first way in, shown once.
#[derive(Clone)]
pub struct FirstLogin {
    /// An admin's API token.
    pub token: String,
    /// A code for `/login?code=`.
    pub code: String,
}

impl std::fmt::Debug for FirstLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirstLogin(…)")
    }
}

impl Hub {
    /// Makes the first admin's token and login code if there is no token yet.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn first_login(&self) -> Result<Option<FirstLogin>, StoreError> {
        if !self.0.store.scan("token/", None, 1)?.is_empty() {
            return Ok(None);
        }
        let token = self.make_token("first admin", Role::Admin, Some(TOKEN_DAYS))?;
        Ok(Some(FirstLogin { token, code: self.make_code() }))
    }

    /// Makes an API token; its text is known only to the caller from here on.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn make_token(&self, name: &str, role: Role, days: Option<u32>) -> Result<String, StoreError> {
        self.make_limited_token(name, role, days, Vec::new())
    }

    fn make_limited_token(
        &self,
        name: &str,
        role: Role,
        days: Option<u32>,
        scopes: Vec<Scope>,
    ) -> Result<String, StoreError> {
        let text = format!("bwt_{}", hex::encode(random::<32>()));
        let now = clock::now();
        let ends = days.map(|days| now.saturating_add(Millis::from_secs(u64::from(days) * 24 * 3600)));
        let token = Token { name: name.to_owned(), role, made_at: now, ends, scopes };
        self.0.store.commit(&[Write::put(token_key(&text), record::encode(&token)?)])?;
        self.0.store.flush()?;
        Ok(text)
    }

    /// Makes a one-time login code.
    #[must_use]
    pub fn make_code(&self) -> String {
        let code = hex::encode(random::<16>());
        let ends = clock::now().saturating_add(CODE_SPAN);
        self.people().codes.insert(Digest::of(code.as_bytes()), ends);
        code
    }

    /// Who carries this API token.
    ///
    /// # Errors
    ///
    /// 401 if nobody does, or no longer.
    pub fn authenticate_bearer(&self, text: &str) -> Result<Caller, Problem> {
        self.carrier(&token_key(text))
    }

    fn carrier(&self, key: &str) -> Result<Caller, Problem> {
        let unknown = || Problem::unauthenticated("the token is not known here, was revoked, or has expired");
        let stored = self.0.store.get(key).map_err(Refusal::from)?.ok_or_else(unknown)?;
        let token: Token = record::decode(key, &stored.value).map_err(Refusal::from)?;
        if token.ends.is_some_and(|ends| clock::now() >= ends) {
            return Err(unknown());
        }
        Ok(Caller { name: token.name, role: token.role, scopes: token.scopes })
    }

    /// Remembers a wrong secret; what the caller is told of it.
    #[must_use]
    pub fn wrong(&self, door: Door, Peer(from): Peer, problem: Problem) -> Problem {
        if problem.status_code() != axum::http::StatusCode::UNAUTHORIZED {
            return problem;
        }
        let (mut people, now) = (self.people(), clock::now());
        if !people.attempts.may_try(door, from, now) {
            return Problem::too_many_attempts();
        }
        people.attempts.wrong(door, from, now);
        if !people.attempts.may_try(door, from, now) {
            tracing::warn!(?door, ?from, "too many wrong secrets: whoever tries again waits");
        }
        problem
    }

    /// Lets somebody try a secret, unless too many wrong ones came before.
    ///
    /// # Errors
    ///
    /// 429 then, and whatever `open` refuses.
    pub fn guarded<T>(
        &self,
        door: Door,
        Peer(from): Peer,
        open: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if !self.people().attempts.may_try(door, from, clock::now()) {
            return Err(Problem::too_many_attempts());
        }
        open().map_err(|problem| self.wrong(door, Peer(from), problem))
    }

    /// Opens a session with a one-time code, which is used up by it.
    ///
    /// # Errors
    ///
    /// 401.
    pub fn login_code(&self, code: &str) -> Result<SessionToken, Problem> {
        let ends = self.people().codes.remove(&Digest::of(code.as_bytes()));
        if ends.is_none_or(|ends| clock::now() >= ends) {
            return Err(Problem::unauthenticated("the login code was used already or has expired")
                .hint("log in with an API token instead"));
        }
        self.open_session(Caller { name: "admin".to_owned(), role: Role::Admin, scopes: Vec::new() }, None)
    }

    /// Opens a session with an API token; it ends when the token does.
    ///
    /// # Errors
    ///
    /// 401; 403 for a token that is limited by scopes.
    pub fn login_token(&self, text: &str) -> Result<SessionToken, Problem> {
        let key = token_key(text.trim());
        let caller = self.carrier(&key)?;
        if !caller.scopes.is_empty() {
            return Err(Problem::forbidden(format!(
                "the token {} is limited; the dashboard shows everything",
                caller.name
            ))
            .hint("log in with a token without scopes: `bellwether token new NAME --role viewer`"));
        }
        self.open_session(caller, Some(key))
    }

    fn open_session(&self, caller: Caller, token: Option<String>) -> Result<SessionToken, Problem> {
        let secret = hex::encode(random::<32>());
        let now = clock::now();
        let mut kept = Vec::new();
        let mut writes = Vec::new();
        record::each(self.0.store.as_ref(), "session/", |key, bytes| {
            let session: Session = record::decode(key, bytes)?;
            if session.ends > now {
                kept.push((session.ends, key.to_owned()));
            } else {
                writes.push(Write::remove(key.to_owned()));
            }
            Ok(())
        })
        .map_err(Refusal::from)?;
        if kept.len() >= SESSIONS_MAX {
            writes.extend(kept.into_iter().min().map(|(_, key)| Write::remove(key)));
        }
        let session = Session { name: caller.name, role: caller.role, token, ends: now.saturating_add(SESSION_SPAN) };
        let bytes = record::encode(&session).map_err(Refusal::from)?;
        writes.push(Write::put(session_key(&secret), bytes));
        self.0.store.commit(&writes).and_then(|()| self.0.store.flush()).map_err(Refusal::from)?;
        Ok(SessionToken(secret))
    }

    /// Whose session this is.
    ///
    /// # Errors
    ///
    /// 401 once it ended.
    pub fn session(&self, cookie: &str) -> Result<Caller, Problem> {
        let ended = || Problem::unauthenticated("the session has ended").hint("log in again at /login");
        let key = session_key(cookie);
        let stored = self.0.store.get(&key).map_err(Refusal::from)?.ok_or_else(ended)?;
        let session: Session = record::decode(&key, &stored.value).map_err(Refusal::from)?;
        if clock::now() >= session.ends {
            return Err(ended());
        }
        match session.token {
            Some(token) => self.carrier(&token),
            None => Ok(Caller { name: session.name, role: session.role, scopes: Vec::new() }),
        }
    }

    /// Ends a session.
    pub fn logout(&self, cookie: &str) {
        let ended = self.0.store.commit(&[Write::remove(session_key(cookie))]).and_then(|()| self.0.store.flush());
        if let Err(error) = ended {
            tracing::error!(%error, "a session was not ended");
        }
        self.told();
    }

    /// Makes an API token for somebody.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 400 for a name or validity out of bounds.
    pub fn create_token(&self, caller: &Caller, request: TokenRequest) -> Result<TokenCreated, Problem> {
        caller.need(Role::Admin)?;
        self.room()?;
        if request.name.trim().is_empty() || request.name.len() > NAME_BYTES_MAX {
            return Err(Problem::bad_request("bad_name", format!("a name has 1 to {NAME_BYTES_MAX} bytes"))
                .hint("name who or what will use the token, such as ci"));
        }
        if request.valid_days.is_some_and(|days| days == 0 || days > TOKEN_DAYS_MAX) {
            return Err(Problem::bad_request(
                "bad_validity",
                format!("a token is valid for 1 to {TOKEN_DAYS_MAX} days"),
            )
            .hint(format!("leave valid_days out for {TOKEN_DAYS} days, or say forever")));
        }
        if request.forever && request.valid_days.is_some() {
            return Err(Problem::bad_request("bad_validity", "a token is valid for ever or for some days, not both")
                .hint("leave one of forever and valid_days out"));
        }
        if request.scopes.len() > SCOPES_MAX {
            return Err(Problem::bad_request("too_many_scopes", format!("a token has at most {SCOPES_MAX} scopes"))
                .hint("make two tokens, or one without scopes"));
        }
        let days = if request.forever { None } else { Some(request.valid_days.unwrap_or(TOKEN_DAYS)) };
        let made = self.make_limited_token(request.name.trim(), request.role, days, request.scopes);
        let token = made.map_err(Refusal::from)?;
        self.note(caller, What::TokenMade { name: request.name })?;
        Ok(TokenCreated { id: token_id(&token_key(&token)), token })
    }

    /// All API tokens, without their texts.
    ///
    /// # Errors
    ///
    /// 403 unless admin.
    pub fn tokens(&self, caller: &Caller) -> Result<Page<TokenView>, Problem> {
        caller.need(Role::Admin)?;
        let mut items = Vec::new();
        record::each(self.0.store.as_ref(), "token/", |key, bytes| {
            let token: Token = record::decode(key, bytes)?;
            items.push(TokenView {
                id: token_id(key),
                name: token.name,
                role: token.role,
                created_ms: token.made_at.0,
                expires_ms: token.ends.map(|ends| ends.0),
                scopes: token.scopes,
            });
            Ok(())
        })
        .map_err(Refusal::from)?;
        Ok(Page::whole(items))
    }

    /// Revokes an API token, and with it the sessions it opened.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404.
    pub fn delete_token(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        caller.need(Role::Admin)?;
        let token = self.tokens(caller)?.items.into_iter().find(|token| token.id == id);
        let token = token.ok_or_else(|| Problem::not_found("no_token", format!("there is no token {id:.40}")))?;
        let page = self.0.store.scan(&format!("token/{id}"), None, 1).map_err(Refusal::from)?;
        let writes: Vec<Write> = page.into_iter().map(|stored| Write::remove(stored.key)).collect();
        self.0.store.commit(&writes).and_then(|()| self.0.store.flush()).map_err(Refusal::from)?;
        self.note(caller, What::TokenRevoked { name: token.name })
    }

    /// Makes a token that devices enrol with.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 409 before there is a root.
    pub fn device_token(&self, caller: &Caller, request: DeviceTokenRequest) -> Result<DeviceTokenView, Problem> {
        caller.need(Role::Operator)?;
        self.room()?;
        super::fleet::check_tags(&request.tags)?;
        self.rules().trusted()?;
        let device = request.device.as_deref().map(device_id).transpose()?;
        if request.replace {
            let Some(device) = &device else {
                return Err(Problem::bad_request("no_device_named", "a token that replaces a device names it")
                    .hint("bellwether device replace ID"));
            };
            caller.need(Role::Admin)?;
            self.rules().device(device)?;
        }
        let secret = hex::encode(random::<16>());
        let uses = if device.is_some() { 1 } else { request.uses.unwrap_or(1).clamp(1, 100_000) };
        let seconds = request.valid_seconds.unwrap_or(ENROLMENT_SECONDS).clamp(1, ENROLMENT_SECONDS_MAX);
        let ends = clock::now().saturating_add(Millis::from_secs(seconds));
        let enrolment = Enrolment { uses, tags: request.tags, ends, device, replaces: request.replace };
        let put = || -> Result<(), StoreError> {
            self.0.store.commit(&[Write::put(enrolment_key(&secret), record::encode(&enrolment)?)])?;
            self.0.store.flush()
        };
        put().map_err(Refusal::from)?;
        self.note(caller, What::EnrolmentTokenMade { uses })?;
        Ok(DeviceTokenView { secret })
    }

    /// Records an event that changes nothing else.
    pub(super) fn note(&self, caller: &Caller, what: What) -> Result<(), Problem> {
        let noted = self.decide_durably(|rules, now| {
            let mut changes = rules.changes(&caller.name, now);
            changes.event(what);
            Ok(((), changes))
        });
        Ok(noted?)
    }
}

/// The key of an enrolment token's record.
pub(super) fn enrolment_key(secret: &str) -> String {
    format!("enrolment/{}", Digest::of(secret.as_bytes()))
}

fn session_key(secret: &str) -> String {
    format!("session/{}", Digest::of(secret.as_bytes()))
}

fn token_key(text: &str) -> String {
    format!("token/{}", Digest::of(text.as_bytes()))
}

/// What people call a token: the first half of its hash, enough to tell it from others.
fn token_id(key: &str) -> String {
    key.trim_start_matches("token/").chars().take(16).collect()
}
