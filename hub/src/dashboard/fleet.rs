//! The fleet: a map by site, a filter, and the devices in pages of a hundred.

use maud::{Markup, html};

use crate::api::types::{DeviceQuery, DeviceView, ModelOnDevice, Page as List, Presence, SiteView};

use super::format::{clock, count};
use super::offload;
use super::overview::sites;
use super::pieces::{Tone, empty, presence_tag, shell, tag};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(query: &DeviceQuery, list: &List<DeviceView>, map: &[SiteView]) -> Page {
    let mut parts = Parts::default();
    let total: usize = map.iter().map(|site| site.devices.len()).sum();
    let body = html! {
        header.head {
            div { h1 { "Fleet" } p.sub { (super::pieces::devices(total as u64)) " in " (map.len()) (if map.len() == 1 { " site" } else { " sites" }) } }
            div.actions { details.menu { summary.btn.main { "Enrol a device" } div.sheet { (enrolling()) } } }
        }
        @if total > 0 { section.panel { h2 { "Map" span.soft { "by the tag site" } } (parts.live("fleet-map", "", sites(map))) } }
        (filter(query))
        section.panel { (parts.live("devices", "", table(query, list, total))) (pager(query, list)) }
    };
    Page { title: "Fleet".to_owned(), section: Section::Fleet, body, parts }
}

fn enrolling() -> Markup {
    html! {
        p { "Here, make a token that one device may use:" }
        (shell("bellwether device token --tag site=lyon"))
        p { "On the device, start the agent with it:" }
        (shell("bellwether-agent --hub HUB --token TOKEN --name gw-1"))
    }
}

const FILTERS: [(&str, &str); 7] = [
    ("online", "online"),
    ("stale", "stale"),
    ("offline", "offline"),
    ("never", "never seen"),
    ("updating", "updating"),
    ("failed", "failed"),
    ("out_of_sync", "out of sync"),
];

fn filter(query: &DeviceQuery) -> Markup {
    html! {
        form.filter method="get" action="/fleet" role="search" {
            label { "Name" input type="search" name="text" value=(query.text.as_deref().unwrap_or_default()) placeholder="part of a name" autocomplete="off"; }
            label { "Tag" input type="text" name="tag" value=(query.tag.as_deref().unwrap_or_default()) placeholder="site=lyon" autocomplete="off"; }
            label {
                "State"
                select name="state" {
                    option value="" { "any" }
                    @for (value, word) in FILTERS {
                        option value=(value) selected[query.state.as_deref() == Some(value)] { (word) }
                    }
                }
            }
            button.btn type="submit" { "Filter" }
            a.quiet href="/fleet" { "Clear" }
        }
    }
}

fn table(query: &DeviceQuery, list: &List<DeviceView>, total: usize) -> Markup {
    if list.items.is_empty() && total == 0 {
        return empty(
            "No device yet",
            "Make a token here, then enrol an agent with it on the device.",
            &["bellwether device token --tag site=lyon"],
        );
    }
    if list.items.is_empty() {
        let filtered = format!("None of {total} devices fits this filter.");
        let command = query
            .tag
            .as_ref()
            .map_or_else(|| "bellwether device list".to_owned(), |tag| format!("bellwether device list --tag {tag}"));
        return empty("No such device", &filtered, &[&command]);
    }
    html! {
        table.cards {
            thead { tr { th { "Device" } th { "State" } th { "Models" } th { "Tags" } th { "Agent" } th.num { "Scored" } th { "Last seen" } } }
            tbody { @for device in &list.items { (line(device)) } }
        }
    }
}

fn line(device: &DeviceView) -> Markup {
    html! {
        tr {
            td data-label="Device" { a.strong href=(format!("/devices/{}", device.id)) { (device.id) } }
            td data-label="State" { (state(device)) }
            td data-label="Models" {
                @if device.models.is_empty() { span.faint { "none" } }
                @for model in &device.models { span.running { (running(model)) (offload::mark(model)) } }
            }
            td data-label="Tags" { @for (tag, value) in &device.tags { span.chip { (tag) "=" (value) } } }
            td.mono.soft data-label="Agent" { (device.agent.as_deref().unwrap_or("–")) }
            td.num.mono data-label="Scored" { (count(device.rows_scored)) }
            td data-label="Last seen" { (last_seen(device)) }
        }
    }
}

/// For a connected device simply "now": a clock that ticks in every row would only be in the way.
pub(super) fn last_seen(device: &DeviceView) -> Markup {
    match (device.presence, device.last_seen_ms) {
        (Presence::Online, _) => html! { span.soft { "now" } },
        (_, Some(at)) => clock(at),
        (_, None) => html! { span.faint { "never" } },
    }
}

/// `digits 1 → 2`, where the arrow shows what is on its way.
pub(super) fn running(model: &ModelOnDevice) -> Markup {
    let active = model.active.as_ref().map(|running| running.version);
    let wanted = model.desired_version.filter(|wanted| Some(*wanted) != active);
    html! {
        (model.name) " " b.mono { @match active { Some(version) => (version), None => "–" } }
        @if let Some(wanted) = wanted { span.soft { " → " (wanted) } }
    }
}

/// A device in one tag: connection first, then what it should run.
pub(super) fn state(device: &DeviceView) -> Markup {
    let failed = device.refused.is_some() || device.models.iter().any(|model| model.reject.is_some());
    match device.presence {
        Presence::Offline | Presence::Never => presence_tag(device.presence),
        _ if failed => tag(Tone::Bad, "failed"),
        Presence::Online | Presence::Stale if !device.in_sync => tag(Tone::Busy, "updating"),
        Presence::Online | Presence::Stale => presence_tag(device.presence),
    }
}

fn pager(query: &DeviceQuery, list: &List<DeviceView>) -> Markup {
    let to = |after: Option<String>| {
        let parts = [
            ("text", query.text.clone()),
            ("tag", query.tag.clone()),
            ("state", query.state.clone()),
            ("after", after),
        ];
        format!("/fleet?{}", super::query(&parts))
    };
    html! {
        div.pager {
            @if query.after.is_some() { a.btn href=(to(None)) { "First page" } }
            @if let Some(next) = &list.next { a.btn href=(to(Some(next.clone()))) rel="next" { "Next page" } }
        }
    }
}
