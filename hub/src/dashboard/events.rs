//! The page of events, and the short timeline other pages show.

use maud::{Markup, html};

use crate::api::types::{EventQuery, EventView, Page as List};

use super::format::{clock, exact};
use super::pieces::empty;
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(query: &EventQuery, list: &List<EventView>) -> Page {
    let mut parts = Parts::default();
    let newest = query.before.is_none() && query.after.is_none();
    let table = if newest { parts.live("events", "", table(list)) } else { table(list) };
    let body = html! {
        header.head { div { h1 { "Events" } p.sub { "Who did what, and what happened: the audit trail and the feed in one." } } }
        (filter(query))
        section.panel { (table) (pager(query, list)) }
    };
    Page { title: "Events".to_owned(), section: Section::Events, body, parts }
}

fn filter(query: &EventQuery) -> Markup {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    html! {
        form.filter method="get" action="/events" role="search" {
            label { "Kind" input type="text" name="kind" value=(text(&query.kind)) placeholder="rollout" autocomplete="off"; }
            label { "Device" input type="text" name="device" value=(text(&query.device)) autocomplete="off"; }
            label { "Model" input type="text" name="model" value=(text(&query.model)) autocomplete="off"; }
            button.btn type="submit" { "Filter" }
            a.quiet href="/events" { "Clear" }
        }
    }
}

fn table(list: &List<EventView>) -> Markup {
    if list.items.is_empty() {
        return empty(
            "No event",
            "Nothing happened yet that fits. Events can also be followed in a terminal.",
            &["bellwether events --follow"],
        );
    }
    html! {
        table.cards.events {
            thead { tr { th { "When" } th { "Who" } th { "Kind" } th { "What" } } }
            tbody {
                @for event in list.items.iter().rev() {
                    tr {
                        td data-label="When" { (exact(event.at_ms)) }
                        td data-label="Who" { (event.who) }
                        td.mono.soft data-label="Kind" { (event.kind) }
                        td data-label="What" { (event.text) " " (links(event)) }
                    }
                }
            }
        }
    }
}

fn links(event: &EventView) -> Markup {
    html! {
        @if let Some(rollout) = &event.rollout { a.chip href=(format!("/rollouts/{rollout}")) { "rollout" } }
        @if let Some(model) = &event.model {
            @match event.version {
                Some(version) => a.chip href=(format!("/models/{model}/{version}")) { (model) ":" (version) },
                None => a.chip href=(format!("/models/{model}")) { (model) },
            }
        }
        @if let Some(device) = &event.device { a.chip href=(format!("/devices/{device}")) { (device) } }
    }
}

fn pager(query: &EventQuery, list: &List<EventView>) -> Markup {
    let filters = EventQuery { before: None, after: None, ..query.clone() };
    let back = list.next.as_ref().and_then(|next| next.parse().ok());
    let older = EventQuery { before: back, ..filters.clone() };
    html! {
        div.pager {
            @if query.before.is_some() { a.btn href=(format!("/events?{}", address(&filters))) { "Newest" } }
            @if back.is_some() { a.btn href=(format!("/events?{}", address(&older))) rel="next" { "Older" } }
        }
    }
}

fn address(query: &EventQuery) -> String {
    let number = |value: Option<u64>| value.map(|number| number.to_string());
    super::query(&[
        ("kind", query.kind.clone()),
        ("device", query.device.clone()),
        ("model", query.model.clone()),
        ("before", number(query.before)),
    ])
}

/// A few events, latest first.
pub(super) fn timeline(events: &[EventView]) -> Markup {
    if events.is_empty() {
        return empty("Nothing happened yet", "What people, devices and the hub do appears here.", &[]);
    }
    html! {
        ol.time {
            @for event in events.iter().rev() {
                li { (clock(event.at_ms)) span { (event.text) span.faint { " · " (event.who) } } }
            }
        }
    }
}
