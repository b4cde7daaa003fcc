//! Events: read from the store, oldest first.

use bellwether_hub_core::event::Event;

use super::{Hub, Refusal};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{EventQuery, EventView, LIMIT_DEFAULT, LIMIT_MAX, Page, TimelineView};
use crate::store::record::{self, EVENTS, event_key};

/// Events looked at for one answer: bounds what a filter that fits nothing can cost.
const LOOKED_AT_MAX: usize = 20_000;
/// Events read at once.
const CHUNK: u64 = 500;

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
            query.kind.as_deref().is_none_or(|kind| what.kind().starts_with(kind))
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
            let (found, _) = self.newer(after, limit, fits)?;
            return Ok(Page::whole(found.iter().map(view).collect()));
        }
        let (found, more) = self.older(query.before, limit, fits)?;
        let next = found.first().filter(|_| more).map(|first| first.sequence.to_string());
        Ok(Page { items: found.iter().map(view).collect(), next })
    }

    fn newer(&self, after: u64, limit: usize, fits: impl Fn(&Event) -> bool) -> Result<(Vec<Event>, bool), Problem> {
        let page = self.0.store.scan(EVENTS, Some(&event_key(after)), LOOKED_AT_MAX).map_err(Refusal::from)?;
        let mut found = Vec::new();
        for stored in page {
            let event: Event = record::decode(&stored.key, &stored.value).map_err(Refusal::from)?;
            if found.len() < limit && fits(&event) {
                found.push(event);
            }
        }
        Ok((found, false))
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

fn view(event: &Event) -> EventView {
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
