//! The monitors: which versions drift, in which group of devices, and since when.

use maud::{Markup, html};

use crate::api::types::{MonitorQuery, MonitorState, MonitorView};

use super::format::{clock, count, score};
use super::pieces::{Tone, bar, devices, empty, tag};
use super::series::spark;
use super::shell::{Page, Parts, Section};

/// The command that makes a monitor.
const REGISTER: &str = "bellwether model register NAME FILE --baseline SAMPLE.csv --held-out ROWS.csv";
/// Banners on one page; the rest is counted.
const BANNERS_MAX: usize = 3;
/// Shifted columns that a line names.
const NAMED_MAX: usize = 3;

/// The page.
pub(super) fn page(query: &MonitorQuery, monitors: &[MonitorView]) -> Page {
    let mut parts = Parts::default();
    let alerts: Vec<MonitorView> =
        monitors.iter().filter(|monitor| monitor.state == MonitorState::Alarm).cloned().collect();
    let body = html! {
        header.head {
            div { h1 { "Monitors" } p.sub { "What devices see and answer now, against what the version was made with." } }
        }
        (parts.live("alerts", "alerts", banners(&alerts)))
        @if let Some(model) = &query.model {
            p.sub.filtered {
                "Only " span.chip { (model) @if let Some(version) = query.version { ":" (version) } } " "
                a.quiet href="/monitors" { "Show all" }
            }
        }
        section.panel { (parts.live("monitors", "", table(query, monitors))) }
    };
    Page { title: "Monitors".to_owned(), section: Section::Monitors, body, parts }
}

/// The page about a monitor, or about one of its columns.
pub(super) fn address(model: &str, version: u32, site: Option<&str>, column: Option<&str>) -> String {
    let query = super::query(&[("site", site.map(str::to_owned)), ("column", column.map(str::to_owned))]);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/monitors/{}/{version}{mark}{query}", super::encoded(model))
}

/// The page about a monitor.
pub(super) fn address_of(monitor: &MonitorView) -> String {
    address(&monitor.model, monitor.version, monitor.site.as_deref(), None)
}

/// Alerts that stand, as sentences. The script says each of them once, by its key.
pub(super) fn banners(alerts: &[MonitorView]) -> Markup {
    html! {
        @for alert in alerts.iter().take(BANNERS_MAX) {
            @let address = address_of(alert);
            p.alarm data-alert=(address) {
                (tag(Tone::Bad, "drift"))
                a.sentence href=(address) { (alert.sentence) }
            }
        }
        @if alerts.len() > BANNERS_MAX {
            p.alarm { a.sentence href="/monitors" { (alerts.len() - BANNERS_MAX) " more alerts" } }
        }
    }
}

/// How a monitor stands.
pub(super) fn state_tag(state: MonitorState) -> Markup {
    let tone = match state {
        MonitorState::Alarm => Tone::Bad,
        MonitorState::Watch => Tone::Warn,
        MonitorState::NotEnoughData => Tone::Off,
        MonitorState::Calm => Tone::Ok,
    };
    tag(tone, state.label())
}

fn table(query: &MonitorQuery, monitors: &[MonitorView]) -> Markup {
    if monitors.is_empty() && query.model.is_some() {
        return empty(
            "Nothing is watched here",
            "No device that runs it has sent values yet, or it came without a baseline.",
            &[REGISTER],
        );
    }
    if monitors.is_empty() {
        return empty(
            "No monitor yet",
            "A version registered with a sample of its training data is watched wherever it runs: devices send \
             histograms, never rows.",
            &[REGISTER],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Version" } th { "Group" } th { "State" } th { "Worst score" } th { "Shifted" } th { "Rows" } th { "Judged" } } }
            tbody { @for monitor in monitors { (line(monitor)) } }
        }
    }
}

fn line(monitor: &MonitorView) -> Markup {
    let worst = monitor.timeline.last();
    html! {
        tr {
            td.nowrap data-label="Version" { a.strong href=(address_of(monitor)) { (monitor.model) " " (monitor.version) } }
            td.two-lines data-label="Group" { (monitor.group) small.soft { (devices(u64::from(monitor.devices))) } }
            td data-label="State" { (state_tag(monitor.state)) }
            td data-label="Worst score" {
                @match worst {
                    Some(point) => span.sparked title=(point.column) { b.mono { (score(point.psi)) } (spark(&monitor.timeline, monitor.state == MonitorState::Alarm)) },
                    None => span.faint { "–" },
                }
            }
            td data-label="Shifted" { (shifted(monitor)) }
            td data-label="Rows" { (rows(monitor)) }
            td data-label="Judged" { @match monitor.judged_ms { Some(at) => (clock(at)), None => span.faint { "never" } } }
        }
    }
}

fn shifted(monitor: &MonitorView) -> Markup {
    html! {
        @if monitor.shifted.is_empty() { span.faint { "none of " (monitor.columns) } }
        @for column in monitor.shifted.iter().take(NAMED_MAX) {
            a.chip href=(address(&monitor.model, monitor.version, monitor.site.as_deref(), Some(column))) { (column) }
        }
        @if monitor.shifted.len() > NAMED_MAX { span.soft { "and " (monitor.shifted.len() - NAMED_MAX) " more" } }
    }
}

/// The window that was judged; before there was one, how far the first is.
pub(super) fn rows(monitor: &MonitorView) -> Markup {
    if monitor.state == MonitorState::NotEnoughData {
        return html! {
            div.versions {
                (bar(&[(Tone::Busy, limited(monitor.open_rows, monitor.rows_min))], limited(monitor.rows_min, u64::MAX)))
                small.soft { b { (count(monitor.open_rows)) } " of " (count(monitor.rows_min)) " needed" }
            }
        };
    }
    html! { span.mono { (count(monitor.rows)) } }
}

fn limited(number: u64, most: u64) -> u32 {
    u32::try_from(number.min(most)).unwrap_or(u32::MAX)
}
