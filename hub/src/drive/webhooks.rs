//! Webhooks: made, listed, removed and tried by people; read and kept for the outlet, which
//! delivers.

use std::time::{Duration, Instant};

use bellwether_hub_core::event::Event;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{KeyEntry, RoleSet};

use super::{Hub, Refusal, event_view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    DeadLetterView, EventView, LIMIT_MAX, Page, RedeliverRequest, RedeliverView, Role, WebhookCreated, WebhookRequest,
    WebhookState, WebhookTestView, WebhookView,
};
use crate::clock;
use crate::keys::{self, random};
use crate::outlet::{
    CloudEvent, DeadLetter, Desk, Letter, NOTABLE, Origin, Patience, WEBHOOKS, Webhook, letter_key, letters_of,
    new_secret, webhook_key,
};
use crate::store::record::{self, EVENTS, event_key};
use crate::store::{Expect, StoreError, Stored, Write};

/// Webhooks at once: each has a task and a connection; who needs more puts a relay in between.
const WEBHOOKS_MAX: usize = 32;
/// Dead letters kept for a webhook, the oldest dropped: what one page of a list shows.
const LETTERS_MAX: usize = LIMIT_MAX as usize;
/// Bytes of an address.
const URL_BYTES_MAX: usize = 2048;
/// Bytes of a webhook's name.
const NAME_BYTES_MAX: usize = 64;
/// Kinds that one webhook names.
const KINDS_MAX: usize = 64;
/// Bytes of a kind.
const KIND_BYTES_MAX: usize = 64;
/// Events looked at between two looks at everything else.
const LOOKED_AT_MAX: usize = 500;

/// What lies after a webhook's cursor.
pub(crate) struct Look {
    /// The next event it wants.
    pub(crate) event: Option<Event>,
    /// Up to here there is nothing it wants.
    pub(crate) through: u64,
    /// First and last of the events that are no longer there.
    pub(crate) deleted: Option<(u64, u64)>,
}

/// For the outlet.
impl Hub {
    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    pub(crate) fn patience(&self) -> Patience {
        let config = &self.0.config;
        Patience {
            attempts_max: config.webhook_attempts_max.max(1),
            within: Duration::from_millis(config.webhook_timeout_ms),
            first_pause: Duration::from_millis(config.webhook_retry_ms_first),
        }
    }

    /// Who this hub is to receivers.
    pub(crate) fn origin(&self) -> Origin {
        let rules = self.rules();
        let root = rules.trusted().ok();
        // The fleet's first director, whose key stays listed: the name outlives the key.
        let is_director = |key: &&KeyEntry| key.roles.contains(RoleSet::DIRECTOR);
        let first = root.and_then(|root| root.root().keys.iter().find(is_director)).map(|key| key.public);
        let key = first.unwrap_or_else(|| keys::public(self.keys().director.first()));
        let hub = hex::encode(key.0).chars().take(16).collect();
        Origin { hub, fleet: root.map(|root| root.fleet().to_string()) }
    }

    /// The sequence of the latest event.
    pub(crate) fn last_event(&self) -> u64 {
        self.rules().last_event()
    }

    pub(crate) fn webhook_ids(&self) -> Result<Vec<String>, StoreError> {
        let page = self.0.store.scan(WEBHOOKS, None, WEBHOOKS_MAX)?;
        Ok(page.iter().filter_map(|stored| stored.key.strip_prefix(WEBHOOKS)).map(str::to_owned).collect())
    }

    /// A webhook and the version of its record.
    pub(crate) fn webhook(&self, id: &str) -> Result<Option<(Webhook, u64)>, StoreError> {
        let stored = self.0.store.get(&webhook_key(id))?;
        stored.map(|stored| Ok((record::decode(&stored.key, &stored.value)?, stored.version))).transpose()
    }

    /// Looks for the next event that a webhook wants.
    pub(crate) fn event_after(&self, hook: &Webhook) -> Result<Look, StoreError> {
        let mut look = Look { event: None, through: hook.cursor, deleted: None };
        for stored in self.0.store.scan(EVENTS, Some(&event_key(hook.cursor)), LOOKED_AT_MAX)? {
            let event: Event = record::decode(&stored.key, &stored.value)?;
            let expected = look.through + 1;
            if event.sequence > expected {
                let first = look.deleted.map_or(expected, |(first, _)| first);
                look.deleted = Some((first, event.sequence - 1));
            }
            look.through = event.sequence - 1;
            if hook.wants(event.what.kind()) {
                look.event = Some(event);
                break;
            }
            look.through = event.sequence;
        }
        Ok(look)
    }

    /// Keeps how far a webhook got, and what was given up.
    ///
    /// [`StoreError::Conflict`] if its record is another than the one that was read.
    pub(crate) fn keep_webhook(&self, hook: &Webhook, version: u64, given_up: &[DeadLetter]) -> Result<(), StoreError> {
        let mut writes = vec![kept(hook, version)?];
        if !given_up.is_empty() {
            let letters = self.0.store.scan(&letters_of(&hook.id), None, LETTERS_MAX + given_up.len())?;
            let surplus = (letters.len() + given_up.len()).saturating_sub(LETTERS_MAX);
            writes.extend(letters.into_iter().take(surplus).map(|letter| Write::remove(letter.key)));
        }
        for letter in given_up {
            writes.push(Write::put(letter_key(&hook.id, letter.event.sequence), record::encode(letter)?));
        }
        self.0.store.commit(&writes)?;
        self.told();
        Ok(())
    }

    /// Keeps that a webhook does not want what lies before its cursor; nobody sees a change by it.
    pub(crate) fn skip_events(&self, hook: &Webhook, version: u64) -> Result<(), StoreError> {
        self.0.store.commit(&[kept(hook, version)?])
    }

    /// The oldest dead letter that is to be tried again, and the version of its record.
    pub(crate) fn letter_to_try(&self, id: &str) -> Result<Option<(DeadLetter, u64)>, StoreError> {
        for stored in self.0.store.scan(&letters_of(id), None, LETTERS_MAX)? {
            let letter: DeadLetter = record::decode(&stored.key, &stored.value)?;
            if letter.again {
                return Ok(Some((letter, stored.version)));
            }
        }
        Ok(None)
    }

    /// Keeps what became of a dead letter that was tried again; without one it is delivered.
    pub(crate) fn replace_letter(
        &self,
        hook: &Webhook,
        version: u64,
        (sequence, letter_version): (u64, u64),
        letter: Option<&DeadLetter>,
    ) -> Result<(), StoreError> {
        let value = letter.map(record::encode).transpose()?;
        let write = Write { key: letter_key(&hook.id, sequence), expect: Expect::Version(letter_version), value };
        self.0.store.commit(&[kept(hook, version)?, write])?;
        self.told();
        Ok(())
    }
}

/// The write of a webhook's record, if it is still the one that was read.
fn kept(hook: &Webhook, version: u64) -> Result<Write, StoreError> {
    Ok(Write { key: hook.key(), expect: Expect::Version(version), value: Some(record::encode(hook)?) })
}

/// For people.
impl Hub {
    /// Makes a webhook; its secret is known only to the caller from here on. It is told of what
    /// happens from now on.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 400 for an address, a name or kinds that are none; 409 at the limit.
    pub fn create_webhook(&self, caller: &Caller, request: WebhookRequest) -> Result<WebhookCreated, Problem> {
        caller.need(Role::Admin)?;
        self.room()?;
        let (url, host) = address(&request.url)?;
        let name = request.name.as_deref().map_or(host.as_str(), str::trim).to_owned();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Problem::bad_request("bad_name", format!("a name has 1 to {NAME_BYTES_MAX} bytes"))
                .hint("name who is told, such as on-call"));
        }
        let kinds = kinds(request.kinds)?;
        if self.webhook_ids().map_err(Refusal::from)?.len() >= WEBHOOKS_MAX {
            return Err(Problem::conflict("too_many_webhooks", format!("there are {WEBHOOKS_MAX} webhooks already"))
                .hint("remove one, or let one receiver pass events on"));
        }
        let hook = Webhook {
            id: hex::encode(random::<8>()),
            name,
            url,
            secret: new_secret(),
            kinds,
            created_at: clock::now(),
            cursor: self.last_event(),
            attempts: 0,
            next_try: None,
            last_error: None,
            delivered: 0,
            missed: 0,
            disabled: false,
        };
        let put = || {
            self.0.store.commit(&[Write::put(hook.key(), record::encode(&hook)?)])?;
            self.0.store.flush()
        };
        put().map_err(Refusal::from)?;
        tracing::info!(who = caller.name, webhook = hook.id, url = hook.url, "webhook made");
        self.webhooks_changed();
        Ok(WebhookCreated { id: hook.id, name: hook.name, url: hook.url, kinds: hook.kinds, secret: hook.secret })
    }

    /// All webhooks, without their secrets.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn webhooks(&self, _caller: &Caller) -> Result<Page<WebhookView>, Problem> {
        let mut items = Vec::new();
        for stored in self.0.store.scan(WEBHOOKS, None, WEBHOOKS_MAX).map_err(Refusal::from)? {
            let hook: Webhook = record::decode(&stored.key, &stored.value).map_err(Refusal::from)?;
            let dead = self.letters(&hook.id)?.len();
            items.push(view(hook, dead));
        }
        items.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(Page::whole(items))
    }

    /// Removes a webhook and its dead letters.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404.
    pub fn delete_webhook(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        caller.need(Role::Admin)?;
        let (hook, _) = self.known(id)?;
        let mut writes = vec![Write::remove(hook.key())];
        writes.extend(self.letters(id)?.into_iter().map(|letter| Write::remove(letter.key)));
        self.0.store.commit(&writes).and_then(|()| self.0.store.flush()).map_err(Refusal::from)?;
        tracing::info!(who = caller.name, webhook = hook.id, url = hook.url, "webhook removed");
        self.webhooks_changed();
        Ok(())
    }

    /// What a webhook could not deliver, oldest first.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn dead_letters(&self, _caller: &Caller, id: &str) -> Result<Page<DeadLetterView>, Problem> {
        self.known(id)?;
        let mut items = Vec::new();
        for stored in self.letters(id)? {
            let letter: DeadLetter = record::decode(&stored.key, &stored.value).map_err(Refusal::from)?;
            items.push(DeadLetterView {
                sequence: letter.event.sequence,
                event: event_view(&letter.event),
                attempts: letter.attempts,
                error: letter.error.text,
                failed_ms: letter.error.at.0,
                redelivering: letter.again,
            });
        }
        Ok(Page::whole(items))
    }

    /// Has dead letters tried once more, all or one.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404; 409 `not_now` if the webhook is disabled.
    pub fn redeliver(&self, caller: &Caller, id: &str, request: &RedeliverRequest) -> Result<RedeliverView, Problem> {
        caller.need(Role::Admin)?;
        let (hook, _) = self.known(id)?;
        if hook.disabled {
            return Err(Problem::not_now(format!("webhook {id} is disabled: its receiver said that it is gone"))
                .hint("remove it, and add it anew once there is a receiver"));
        }
        let mut marked = 0;
        for stored in self.letters(id)? {
            let mut letter: DeadLetter = record::decode(&stored.key, &stored.value).map_err(Refusal::from)?;
            if request.sequence.is_some_and(|wanted| wanted != letter.event.sequence) {
                continue;
            }
            marked += 1;
            letter.again = true;
            let value = Some(record::encode(&letter).map_err(Refusal::from)?);
            let write = Write { key: stored.key, expect: Expect::Version(stored.version), value };
            match self.0.store.commit(&[write]) {
                // Its try ended at this very moment: what became of it counts.
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(error @ StoreError::Fault(_)) => return Err(Refusal::from(error).into()),
            }
        }
        if let (0, Some(sequence)) = (marked, request.sequence) {
            return Err(Problem::not_found("no_dead_letter", format!("webhook {id} has no dead letter {sequence}"))
                .hint(format!("bellwether webhook dead {id}")));
        }
        self.webhooks_changed();
        Ok(RedeliverView { letters: marked })
    }

    /// Sends a test event now, once, and says what the receiver answered.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404.
    pub async fn test_webhook(&self, caller: &Caller, id: &str) -> Result<WebhookTestView, Problem> {
        caller.need(Role::Admin)?;
        let (hook, _) = self.known(id)?;
        let now = clock::now();
        let event = test_event(&caller.name, self.last_event(), now);
        let body = serde_json::to_vec(&CloudEvent::new(&self.origin(), &event));
        let body = body.map_err(|fault| Problem::internal(fault.to_string()))?;
        let message = format!("msg_{}_test_{}", hook.id, hex::encode(random::<8>()));
        let letter = Letter { id: message, url: hook.url, secret: hook.secret, body };
        let begun = Instant::now();
        let heard = self.desk().courier().post(&letter, now.0 / 1000, self.patience().within).await;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(match heard {
            Ok(reply) => {
                let delivered = (200..300).contains(&reply.status);
                WebhookTestView { delivered, status: Some(reply.status), answer: reply.text, error: None, took_ms }
            }
            Err(error) => {
                let (answer, error) = (String::new(), Some(error));
                WebhookTestView { delivered: false, status: None, answer, error, took_ms }
            }
        })
    }

    fn known(&self, id: &str) -> Result<(Webhook, u64), Problem> {
        let none = || {
            Problem::not_found("no_webhook", format!("there is no webhook {id:.40}")).hint("bellwether webhook list")
        };
        self.webhook(id).map_err(Refusal::from)?.ok_or_else(none)
    }

    fn letters(&self, id: &str) -> Result<Vec<Stored>, Problem> {
        Ok(self.0.store.scan(&letters_of(id), None, LETTERS_MAX).map_err(Refusal::from)?)
    }

    fn webhooks_changed(&self) {
        self.0.desk.changes.send_modify(|count| *count = count.wrapping_add(1));
        self.told();
    }
}

fn test_event(who: &str, sequence: u64, now: Millis) -> EventView {
    EventView {
        seq: sequence,
        at_ms: now.0,
        who: who.to_owned(),
        kind: "test".to_owned(),
        text: "a test: nothing happened".to_owned(),
        model: None,
        version: None,
        device: None,
        rollout: None,
    }
}

fn view(hook: Webhook, dead: usize) -> WebhookView {
    let state = match (hook.disabled, hook.attempts) {
        (true, _) => WebhookState::Disabled,
        (false, 0) => WebhookState::Waiting,
        (false, _) => WebhookState::Retrying,
    };
    let (last_error_ms, last_error) = hook.last_error.map(|error| (error.at.0, error.text)).unzip();
    WebhookView {
        id: hook.id,
        name: hook.name,
        url: hook.url,
        kinds: hook.kinds,
        created_ms: hook.created_at.0,
        state,
        cursor: hook.cursor,
        attempts: hook.attempts,
        next_try_ms: hook.next_try.map(|at| at.0),
        last_error,
        last_error_ms,
        delivered: hook.delivered,
        missed: hook.missed,
        dead: u32::try_from(dead).unwrap_or(u32::MAX),
    }
}

/// An address as it is kept, and its host. One with a password is refused: whoever may look at
/// webhooks would see it.
fn address(text: &str) -> Result<(String, String), Problem> {
    let bad = |why: &str| {
        Problem::bad_request("bad_url", format!("a webhook cannot be sent there: {why}"))
            .hint("give the receiver's address, such as https://alerts.example.com/bellwether")
    };
    if text.len() > URL_BYTES_MAX {
        return Err(bad(&format!("an address has at most {URL_BYTES_MAX} bytes")));
    }
    let mut url = reqwest::Url::parse(text.trim()).map_err(|fault| bad(&fault.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(&format!("it speaks http or https, not {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("the address holds a login; receivers know the hub by its signature"));
    }
    url.set_fragment(None);
    let host = url.host_str().unwrap_or_default().to_owned();
    let kept = url.to_string();
    // What is sent is a URI of another library, which is stricter.
    kept.parse::<axum::http::Uri>().map_err(|fault| bad(&fault.to_string()))?;
    Ok((kept, host))
}

fn kinds(asked: Vec<String>) -> Result<Vec<String>, Problem> {
    if asked.is_empty() {
        return Ok(NOTABLE.map(str::to_owned).to_vec());
    }
    let letters = |kind: &str| kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let reads = |kind: &String| {
        !kind.is_empty() && kind.len() <= KIND_BYTES_MAX && letters(kind.strip_suffix('*').unwrap_or(kind))
    };
    if let Some(bad) = asked.iter().find(|kind| !reads(kind)) {
        return Err(Problem::bad_request("bad_kind", format!("{bad:.40} is no kind of event"))
            .hint("a kind is snake_case, such as rollout_paused; rollout_* is all that begin so, * is all"));
    }
    if asked.len() > KINDS_MAX {
        return Err(Problem::bad_request("too_many_kinds", format!("a webhook names at most {KINDS_MAX} kinds"))
            .hint("use a kind that ends in *"));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_goes_to_a_web_address_without_a_login() {
        let read = |text| address(text).map_err(|problem| problem.detail);
        assert_eq!(read("https://a.example/x?y=1#z").unwrap(), ("https://a.example/x?y=1".into(), "a.example".into()));
        assert_eq!(read("http://127.0.0.1:9").unwrap().0, "http://127.0.0.1:9/");
        for bad in ["ftp://a.example/", "a.example/x", "", "http://", "file:///etc/passwd"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("https://user:secret@a.example/").unwrap_err().contains("login"));
        assert!(read(&format!("http://a/{}", "x".repeat(3000))).is_err());
    }

    #[test]
    fn webhook_kinds_are_read_strictly() {
        let read = |kinds: &[&str]| super::kinds(kinds.iter().map(|&kind| kind.to_owned()).collect());
        assert_eq!(read(&[]).unwrap(), NOTABLE);
        assert_eq!(read(&["*", "rollout_*", "install"]).unwrap().len(), 3);
        for bad in ["", "Rollout", "a b", "*a", "a*b"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&["a"; 65]).is_err());
    }
}
