//! Events leave the hub: every webhook has a task of its own, so that a slow receiver holds up
//! nobody else, and is told in order, at least once.
//!
//! ```text
//!  events in the store                            receiver
//!    | after the cursor, of a kind it wants          |
//!    +-- durable? -- sign -- POST ------------------>|
//!        2xx       cursor moves on          <--------|
//!        later     cursor stays, pause doubles, up to `webhook_attempts_max` tries, then ...
//!        refused   as later, but a few tries only, then ...
//!        410       the webhook is disabled
//!                  ... dead letter, cursor moves on
//! ```
//! The cursor is written only after the answer: a hub that dies in between tells it again, under
//! the same id. Dead letters that somebody wants tried again take turns with what is new.

mod envelope;
mod record;
mod webhook;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use bellwether_hub_core::event::Event;
use bellwether_protocol::time::Millis;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::clock;
use crate::drive::{Hub, event_view};
use crate::keys::random;
use crate::store::StoreError;

pub(crate) use envelope::{CloudEvent, Origin, new_secret};
pub(crate) use record::{DeadLetter, Mishap, NOTABLE, WEBHOOKS, Webhook, letter_key, letters_of, webhook_key};
pub(crate) use webhook::{Courier, Letter};

use webhook::Outcome;

/// Longest pause between two tries: a receiver that is mended is told within minutes.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Tries of what a receiver refuses: its answer rarely changes, but a service that is being
/// deployed answers 404 for a moment.
const REFUSED_ATTEMPTS_MAX: u32 = 3;
/// Pause after the store failed, doubled while it does: the receiver may be told again each time.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How hard it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Tries before an event becomes a dead letter.
    pub(crate) attempts_max: u32,
    /// How long a receiver may take to answer.
    pub(crate) within: Duration,
    /// Pause before the second try; the following ones double.
    pub(crate) first_pause: Duration,
}

/// What the hub's facade and the tasks share.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Changes when webhooks come or go, or dead letters are to be tried again.
    pub(crate) changes: watch::Sender<u64>,
    courier: OnceLock<Courier>,
}

impl Desk {
    /// The way out, opened when it is first needed.
    pub(crate) fn courier(&self) -> &Courier {
        self.courier.get_or_init(Courier::open)
    }
}

/// Runs a task for every webhook until `stop` turns true. What is under way then is told again
/// after the next start.
pub(crate) async fn run(hub: Hub, mut stop: watch::Receiver<bool>) {
    let mut changes = hub.desk().changes.subscribe();
    let mut tasks: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        tasks.retain(|_, task| !task.is_finished());
        match hub.webhook_ids() {
            Ok(ids) => {
                for id in ids {
                    let task = || tokio::spawn(serve(hub.clone(), id.clone())).abort_handle();
                    tasks.entry(id.clone()).or_insert_with(task);
                }
            }
            Err(error) => tracing::error!(%error, "webhooks do not read; those not yet running stand still"),
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    tasks.values().for_each(AbortHandle::abort);
}

/// What a webhook's task does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Look again at once.
    Look,
    /// Wait for an event after this one.
    Event(u64),
    /// Wait for the next try.
    Try(Millis),
    /// Wait until somebody does something about it.
    Person,
    /// The webhook is no more.
    End,
}

/// Serves one webhook until it is removed.
async fn serve(hub: Hub, id: String) {
    let mut asked = hub.desk().changes.subscribe();
    let mut failures = 0;
    loop {
        asked.borrow_and_update();
        let next = match turn(&hub, &id).await {
            Ok(next) => {
                failures = 0;
                next
            }
            // Removed meanwhile, or a person was quicker: the next look sees it.
            Err(StoreError::Conflict { .. }) => Next::Look,
            Err(error @ StoreError::Fault(_)) => {
                failures += 1;
                tracing::error!(webhook = id, %error, "nothing is delivered until the store works again");
                Next::Try(clock::now().saturating_add(millis(pause(STORE_PAUSE, failures, draw()))))
            }
        };
        match next {
            Next::Look => {}
            Next::End => return,
            Next::Person => drop(asked.changed().await),
            Next::Event(after) => tokio::select! {
                () = newer(&hub, after) => {}
                _ = asked.changed() => {}
            },
            Next::Try(at) => {
                let wait = Duration::from_millis(at.0.saturating_sub(clock::now().0)).min(PAUSE_MAX);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = asked.changed() => {}
                }
            }
        }
    }
}

/// Returns once there is an event after this one; most changes of the hub bring none.
async fn newer(hub: &Hub, after: u64) {
    let mut changes = hub.changes();
    while hub.last_event() <= after {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// One event that is due, then one dead letter that somebody wants tried again.
async fn turn(hub: &Hub, id: &str) -> Result<Next, StoreError> {
    let Some((mut hook, version)) = hub.webhook(id)? else { return Ok(Next::End) };
    if hook.disabled {
        return Ok(Next::Person);
    }
    let next = match hook.next_try.filter(|at| waits(*at, clock::now())) {
        Some(at) => Next::Try(at),
        None => {
            let look = hub.event_after(&hook)?;
            if let Some((first, last)) = look.deleted {
                hook.missed += last - first + 1;
                hook.last_error = Some(mishap(format!(
                    "events {first} to {last} were deleted before they could be delivered: raise `events_max`"
                )));
            }
            let moved = hook.cursor != look.through;
            hook.cursor = look.through;
            match look.event {
                Some(event) => {
                    try_event(hub, hook, version, event).await?;
                    Next::Look
                }
                None if moved => {
                    hub.skip_events(&hook, version)?;
                    Next::Look
                }
                None => Next::Event(look.through),
            }
        }
    };
    Ok(if try_again(hub, id).await? { Next::Look } else { next })
}

/// Whether a try is still ahead. A time further off than any pause comes from a clock that was set
/// back, and is due.
fn waits(at: Millis, now: Millis) -> bool {
    at > now && at.0 - now.0 <= millis(PAUSE_MAX).0
}

async fn try_event(hub: &Hub, mut hook: Webhook, version: u64, event: Event) -> Result<(), StoreError> {
    if hook.attempts == 0 {
        // What a receiver was told must still be so after a crash of the hub.
        hub.flushed().await?;
    }
    let outcome = send(hub, &hook, &event).await;
    // Between the receiver's answer above and the write below the hub may die: then it is told again.
    bellwether_runtime::crash::point("hub.webhook.sent");
    let letter = settle(&mut hook, event, outcome, hub.patience());
    let letters: Vec<DeadLetter> = letter.into_iter().collect();
    hub.keep_webhook(&hook, version, &letters)
}

/// What an outcome makes of a webhook; the dead letter, if the event is given up.
fn settle(hook: &mut Webhook, event: Event, outcome: Outcome, patience: Patience) -> Option<DeadLetter> {
    let (tries_max, error) = match outcome {
        Outcome::Delivered => {
            hook.delivered += 1;
            done_with(hook, event.sequence);
            return None;
        }
        Outcome::Gone(error) => {
            tracing::warn!(webhook = hook.id, error, "disabled");
            hook.disabled = true;
            hook.last_error = Some(mishap(error));
            return None;
        }
        Outcome::Refused(error) => (patience.attempts_max.min(REFUSED_ATTEMPTS_MAX), error),
        Outcome::Later(error) => (patience.attempts_max, error),
    };
    hook.attempts += 1;
    tracing::warn!(webhook = hook.id, event = event.sequence, attempts = hook.attempts, error, "not delivered");
    let error = mishap(error);
    hook.last_error = Some(error.clone());
    if hook.attempts < tries_max {
        hook.next_try = Some(error.at.saturating_add(millis(pause(patience.first_pause, hook.attempts, draw()))));
        return None;
    }
    let letter = DeadLetter { attempts: hook.attempts, event, error, again: false };
    done_with(hook, letter.event.sequence);
    Some(letter)
}

fn done_with(hook: &mut Webhook, sequence: u64) {
    hook.cursor = sequence;
    hook.attempts = 0;
    hook.next_try = None;
}

/// Tries the oldest dead letter that somebody wants tried, once; whether there was one.
async fn try_again(hub: &Hub, id: &str) -> Result<bool, StoreError> {
    let Some((mut letter, letter_version)) = hub.letter_to_try(id)? else { return Ok(false) };
    let Some((hook, _)) = hub.webhook(id)? else { return Ok(false) };
    let outcome = send(hub, &hook, &letter.event).await;
    // Read anew: the letter took its time, and the facade may have changed the webhook.
    let Some((mut hook, version)) = hub.webhook(id)? else { return Ok(false) };
    let kept = match outcome {
        Outcome::Delivered => {
            hook.delivered += 1;
            None
        }
        Outcome::Gone(error) => {
            hook.disabled = true;
            Some(error)
        }
        Outcome::Refused(error) | Outcome::Later(error) => Some(error),
    };
    let sequence = letter.event.sequence;
    let kept = kept.map(|error| {
        letter.attempts += 1;
        letter.again = false;
        letter.error = mishap(error);
        hook.last_error = Some(letter.error.clone());
        letter
    });
    hub.replace_letter(&hook, version, (sequence, letter_version), kept.as_ref())?;
    Ok(true)
}

async fn send(hub: &Hub, hook: &Webhook, event: &Event) -> Outcome {
    let event = event_view(event);
    let body = match serde_json::to_vec(&CloudEvent::new(&hub.origin(), &event)) {
        Ok(body) => body,
        Err(fault) => return Outcome::Refused(format!("the event cannot be written as JSON: {fault}")),
    };
    let letter = Letter { id: hook.message_id(event.seq), url: hook.url.clone(), secret: hook.secret.clone(), body };
    Outcome::of(hub.desk().courier().post(&letter, clock::now().0 / 1000, hub.patience().within).await)
}

fn mishap(text: String) -> Mishap {
    Mishap { at: clock::now(), text }
}

/// The pause after so many failures: doubled each time, half of it by chance, so that what failed
/// together does not come back together.
fn pause(first: Duration, failures: u32, chance: u64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(PAUSE_MAX);
    let half = doubled / 2;
    half + Duration::from_millis(chance % (millis(half).0 + 1))
}

fn draw() -> u64 {
    u64::from_le_bytes(random())
}

fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use bellwether_hub_core::event::What;

    use super::*;

    const PATIENCE: Patience =
        Patience { attempts_max: 5, within: Duration::from_secs(1), first_pause: Duration::from_secs(1) };

    fn hook() -> Webhook {
        let json = r#"{"id":"a","name":"n","url":"http://x","secret":"s","kinds":["*"],"created_at":1,"cursor":6}"#;
        serde_json::from_str(json).unwrap()
    }

    fn event() -> Event {
        Event {
            sequence: 7,
            at: Millis(1),
            who: "hub".to_owned(),
            what: What::TokenMade { name: "ci".to_owned() },
            head: bellwether_protocol::digest::Digest::default(),
        }
    }

    fn later() -> Outcome {
        Outcome::Later("down".to_owned())
    }

    #[test]
    fn webhook_pauses_double_up_to_five_minutes() {
        let first = Duration::from_secs(1);
        let seconds = |failures, chance| pause(first, failures, chance).as_secs_f64();
        for (failures, whole) in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (60, 300.0)] {
            for chance in [0, 1, 4321, u64::MAX] {
                let pause = seconds(failures, chance);
                assert!((whole / 2.0..=whole).contains(&pause), "{failures}: {pause}");
            }
        }
        assert_ne!(pause(first, 5, 1), pause(first, 5, 2), "chance spreads them");
    }

    #[test]
    fn a_webhook_keeps_its_place_until_an_event_is_delivered() {
        let mut hook = hook();
        assert_eq!(settle(&mut hook, event(), later(), PATIENCE), None);
        assert_eq!((hook.cursor, hook.attempts, hook.delivered), (6, 1, 0));
        assert!(hook.next_try.is_some() && hook.last_error.is_some());
        assert_eq!(settle(&mut hook, event(), Outcome::Delivered, PATIENCE), None);
        assert_eq!((hook.cursor, hook.attempts, hook.delivered, hook.next_try), (7, 0, 1, None));
        assert!(hook.last_error.is_some(), "people still see that something was wrong");
    }

    #[test]
    fn a_webhook_gives_an_event_up_after_its_tries() {
        for (outcome, tries) in [(later(), 5), (Outcome::Refused("no".to_owned()), REFUSED_ATTEMPTS_MAX)] {
            let mut hook = hook();
            for _ in 1..tries {
                assert_eq!(settle(&mut hook, event(), outcome.clone(), PATIENCE), None);
                assert_eq!(hook.cursor, 6);
            }
            let letter = settle(&mut hook, event(), outcome, PATIENCE).unwrap();
            assert_eq!((letter.attempts, letter.event.sequence, hook.cursor, hook.attempts), (tries, 7, 7, 0));
        }
    }

    #[test]
    fn a_webhook_whose_receiver_is_gone_keeps_its_place_and_rests() {
        let mut hook = hook();
        assert_eq!(settle(&mut hook, event(), Outcome::Gone("410".to_owned()), PATIENCE), None);
        assert!(hook.disabled && hook.cursor == 6);
    }

    #[test]
    fn a_webhook_does_not_wait_for_a_clock_that_was_set_back() {
        assert!(waits(Millis(1_500), Millis(1_000)));
        assert!(!waits(Millis(1_000), Millis(1_000)));
        assert!(!waits(Millis(10_000_000), Millis(1_000)));
    }
}
