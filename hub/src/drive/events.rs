//! Events: read from the store, oldest first; waited for, if somebody follows them.

use std::time::Duration;

use bellwether_hub_core::event::Event;
use tokio::time::{Instant, timeout_at};

use super::{Hub, Refusal};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{EventQuery, EventView, LIMIT_DEFAULT, LIMIT_MAX, Page, TimelineView, WAIT_SECONDS_MAX};
use crate::store::record::{self, EVENTS, event_key};

/// Events looked at for one answer: bounds what a filter that fits nothing can cost.
const LOOKED_AT_MAX: usize = 20_000;
/// Events read at once.
const CHUNK: u64 = 500;
/// The same, as a length.
const CHUNK_LENGTH: usize = 500;

impl Hub {
    /// Events that fit the filter, oldest first: those after `after`, or the latest before
    /// `before`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn events(&self, _caller: &Caller, query: EventQuery) -> Result<Page<EventView>, Problem> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
        let fits = |event: &Event| {
            let what = &event.what;
            query.kind.as_deref().is_none_or(|kinds| kinds.split(',').any(|kind| what.kind().starts_with(kind)))
                && query
                    .device
                    .as_deref()
                    .is_none_or(|id| id.is_empty() || what.device().is_some_and(|d| d.as_str() == id))
                && query
                    .model
                    .as_deref()
                    .is_none_or(|name| name.is_empty() || what.model().is_some_and(|m| m.name.as_str() == name))
        };
        if let Some(after) = query.after {
            let (found, more) = self.newer(after, limit, fits)?;
            return Ok(Page { items: found.iter().map(view).collect(), next: more.map(|through| through.to_string()) });
        }
        let (found, more) = self.older(query.before, limit, fits)?;
        let next = found.first().filter(|_| more).map(|first| first.sequence.to_string());
        Ok(Page { items: found.iter().map(view).collect(), next })
    }

    /// As [`Hub::events`]; with `after` it waits until there is an event that fits, and `next`
    /// always says where to go on. What is answered survives a crash, so that no event a follower
    /// saw is ever replaced by another with its number.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn events_within(
        &self,
        caller: &Caller,
        mut query: EventQuery,
        wait: Duration,
    ) -> Result<Page<EventView>, Problem> {
        let end = Instant::now() + wait.min(Duration::from_secs(u64::from(WAIT_SECONDS_MAX)));
        let mut changes = self.changes();
        let page = loop {
            let seen = self.last_event();
            let mut page = self.events(caller, query.clone())?;
            let Some(after) = query.after else { return Ok(page) };
            let through = match &page.next {
                Some(next) => next.parse().unwrap_or(after),
                None => page.items.last().map_or(after, |last| last.seq).max(seen),
            };
            page.next = Some(through.to_string());
            if !page.items.is_empty() {
                break page;
            }
            query.after = Some(through);
            let mut closing = self.0.closing.subscribe();
            let more = async { while self.last_event() <= through && changes.changed().await.is_ok() {} };
            tokio::select! {
                more = timeout_at(end, more) => if more.is_err() { break page },
                _ = closing.wait_for(|closing| *closing) => break page,
            }
        };
        self.flushed().await.map_err(Refusal::from)?;
        Ok(page)
    }

    /// Events after `after` that fit, and the last one looked at if more may follow.
    fn newer(
        &self,
        after: u64,
        limit: usize,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(Vec<Event>, Option<u64>), Problem> {
        let (mut found, mut looked, mut through) = (Vec::new(), 0, after);
        while looked < LOOKED_AT_MAX {
            let page = self.0.store.scan(EVENTS, Some(&event_key(through)), CHUNK_LENGTH).map_err(Refusal::from)?;
            if page.is_empty() {
                return Ok((found, None));
            }
            looked += page.len();
            for stored in page {
                let event: Event = record::decode(&stored.key, &stored.value).map_err(Refusal::from)?;
                through = event.sequence;
                if fits(&event) {
                    found.push(event);
                }
                if found.len() == limit {
                    return Ok((found, Some(through)));
                }
            }
        }
        Ok((found, Some(through)))
    }

    /// The latest events before `before` that fit, and whether older ones may.
    fn older(
        &self,
        before: Option<u64>,
        limit: usize,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(Vec<Event>, bool), Problem> {
        let mut end = before.unwrap_or_else(|| self.rules().last_event().saturating_add(1));
        let (mut found, mut looked): (Vec<Event>, usize) = (Vec::new(), 0);
        while end > 1 && found.len() <= limit && looked < LOOKED_AT_MAX {
            let start = end.saturating_sub(CHUNK + 1);
            let want = usize::try_from(end - start - 1).unwrap_or(usize::MAX);
            let page = self.0.store.scan(EVENTS, Some(&event_key(start)), want).map_err(Refusal::from)?;
            let mut chunk = Vec::new();
            for stored in page.iter().filter(|stored| stored.key < event_key(end)) {
                chunk.push(record::decode::<Event>(&stored.key, &stored.value).map_err(Refusal::from)?);
            }
            if chunk.is_empty() {
                break;
            }
            looked += chunk.len();
            chunk.retain(|event| fits(event));
            chunk.extend(found);
            found = chunk;
            end = start + 1;
        }
        let more = found.len() > limit;
        Ok((found.split_off(found.len().saturating_sub(limit)), more))
    }

    /// What happened in a rollout, oldest first.
    pub(super) fn timeline(&self, rollout: u64) -> Result<Vec<TimelineView>, Problem> {
        let (found, _) = self.older(None, LIMIT_DEFAULT as usize, |event| event.what.rollout() == Some(rollout))?;
        let entry =
            |event: &Event| TimelineView { at_ms: event.at.0, who: event.who.clone(), what: event.what.to_string() };
        Ok(found.iter().map(entry).collect())
    }
}

/// An event as everybody outside sees it.
pub(crate) fn view(event: &Event) -> EventView {
    let what = &event.what;
    EventView {
        seq: event.sequence,
        at_ms: event.at.0,
        who: event.who.clone(),
        kind: what.kind().to_owned(),
        text: what.to_string(),
        model: what.model().map(|model| model.name.to_string()),
        version: what.model().map(|model| model.version.number()),
        device: what.device().map(ToString::to_string),
        rollout: what.rollout().map(|id| id.to_string()),
    }
}
