//! The first page: what needs a person, what rolls out, how the fleet is.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::api::types::{EventView, ModelView, NeedView, OverviewView, RolloutView, SiteView};

use super::events::timeline;
use super::format::{count, short};
use super::monitors::banners;
use super::pieces::{Tone, bar, devices, empty, legend, rollout_tag, site_map, tag, track, version_tag};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(overview: &OverviewView, models: &[ModelView], events: &[EventView]) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        header.head {
            div { h1 { "Overview" } (parts.live("summary", "sub", summary(overview))) }
            div.actions { a.btn href="/rollouts" { "Rollouts" } a.btn.main href="/models#register" { "Register a model" } }
        }
        (parts.live("alerts", "alerts", banners(&overview.alerts)))
        (parts.live("tiles", "tiles", tiles(overview)))
        div.columns {
            div.column {
                section.panel { h2 { "Needs you" } (parts.live("needs", "", needs(&overview.needs))) }
                section.panel { h2 { "Active rollouts" } (parts.live("active", "", active(&overview.rollouts))) }
                section.panel { h2 { "Models" span.soft { "running now" } } (parts.live("models", "", running(models))) }
            }
            div.column {
                section.panel { h2 { "Fleet" span.soft { "by site" } } (parts.live("fleet-map", "", sites(&overview.sites))) }
                section.panel {
                    h2 { "Latest" a.soft href="/events" { "all events" } }
                    (parts.live("latest", "", timeline(events)))
                }
            }
        }
    };
    Page { title: "Overview".to_owned(), section: Section::Overview, body, parts }
}

fn summary(overview: &OverviewView) -> Markup {
    let OverviewView { devices: totals, models_running, scores_per_minute, .. } = overview;
    html! {
        (devices(u64::from(totals.total))) " · " (totals.online) " online · " (models_running)
        (if *models_running == 1 { " model" } else { " models" }) " running · " (short(*scores_per_minute)) " scores a minute"
    }
}

fn tiles(overview: &OverviewView) -> Markup {
    let totals = &overview.devices;
    let tile = |word: &str, figure: String, tail: Markup| html! { div.tile { span.soft { (word) } b.big { (figure) } small { (tail) } } };
    html! {
        (tile("Online", count(u64::from(totals.online)), html! {
            (bar(&[(Tone::Ok, totals.online), (Tone::Off, totals.offline)], totals.total))
            "of " (count(u64::from(totals.total))) " · " (totals.offline) " offline"
        }))
        (tile("Updating", count(u64::from(totals.updating)), html! {
            (bar(&[(Tone::Busy, totals.updating)], totals.total)) "installs in progress"
        }))
        (tile("Failed", count(u64::from(totals.failed)), html! {
            (bar(&[(Tone::Bad, totals.failed)], totals.total))
            @if totals.total == 0 { "no device has enrolled yet" } @else if totals.failed == 0 { "every last install went well" } @else { a href="/fleet?state=failed" { "which, and why" } }
        }))
        (tile("Scored", short(overview.rows_scored), html! { b { (short(overview.scores_per_minute)) } " a minute now" @if overview.rows_collected > 0 { " · " (short(overview.rows_collected)) " rows collected" } }))
    }
}

fn needs(needs: &[NeedView]) -> Markup {
    if needs.is_empty() {
        return html! {
            div.calm { (tag(Tone::Ok, "all done")) p.soft { "Nothing waits for a person. Approvals, grants and failures will appear here." } }
        };
    }
    html! {
        ul.needs {
            @for need in needs {
                @let tone = if matches!(need.kind.as_str(), "device" | "disk" | "drift") { Tone::Bad } else { Tone::Warn };
                li.need {
                    (tag(tone, &need.kind))
                    div { b { (need.title) } p.soft { (need.detail) } }
                    a.btn href=(local(&need.link)) { (need.action) }
                }
            }
        }
    }
}

/// Only addresses of this site are linked, whatever the facade says.
pub(super) fn local(link: &str) -> &str {
    if link.starts_with('/') && !link.starts_with("//") { link } else { "/" }
}

/// The fleet map, a block a site.
pub(super) fn sites(sites: &[SiteView]) -> Markup {
    if sites.iter().all(|site| site.devices.is_empty()) {
        return empty(
            "No device yet",
            "Make a token, then start an agent with it on the device.",
            &["bellwether device token --tag site=lyon"],
        );
    }
    html! {
        div.sites {
            @for site in sites.iter().filter(|site| !site.devices.is_empty()) {
                div.site {
                    h3 {
                        @if site.site.is_empty() { "no site" } @else { (site.site) }
                        span.soft { (site.devices.len()) }
                    }
                    (site_map(&site.site, &site.devices))
                }
            }
        }
        (legend(&sites.iter().flat_map(|site| &site.devices)))
    }
}

fn active(rollouts: &[RolloutView]) -> Markup {
    if rollouts.is_empty() {
        return empty(
            "Nothing is rolling out",
            "Start one from a model's page once its version is approved, or from a terminal.",
            &["bellwether rollout start digits:1 --stage 25% --stage 100%"],
        );
    }
    html! {
        @for rollout in rollouts {
            article.rolling {
                div.rolling-head {
                    a.strong href=(format!("/rollouts/{}", rollout.id)) { (title(rollout)) }
                    (rollout_tag(rollout))
                    span.soft { (rollout.waiting_on) }
                }
                (track(rollout))
            }
        }
    }
}

/// `digits 1 → 2`.
pub(super) fn title(rollout: &RolloutView) -> Markup {
    html! {
        (rollout.model) " "
        @if let Some(from) = rollout.from_version { (from) " → " }
        (rollout.version)
    }
}

fn running(models: &[ModelView]) -> Markup {
    if models.is_empty() {
        return empty(
            "No model yet",
            "Register the first one; its name is yours to choose, its version is given.",
            &["bellwether model register digits model.onnx --vectors digits.npz --tag team=vision"],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Model" } th { "Latest" } th { "State" } th { "Running" } } }
            tbody {
                @for model in models {
                    tr {
                        td data-label="Model" { a.strong href=(format!("/models/{}", model.name)) { (model.name) } }
                        td.mono data-label="Latest" { (model.latest) }
                        td data-label="State" { (version_tag(model.state_of_latest)) }
                        td data-label="Running" { (versions(&model.running, model.latest)) }
                    }
                }
            }
        }
    }
}

/// Devices by version, as words over a bar.
pub(super) fn versions(running: &BTreeMap<u32, u32>, latest: u32) -> Markup {
    let total: u32 = running.values().sum();
    let parts: Vec<(Tone, u32)> = running
        .iter()
        .rev()
        .map(|(version, number)| (if *version == latest { Tone::Ok } else { Tone::Off }, *number))
        .collect();
    html! {
        @if total == 0 { span.soft { "nowhere" } } @else {
            div.versions {
                (bar(&parts, total))
                small.soft {
                    @for (index, (version, number)) in running.iter().rev().enumerate() {
                        @if index > 0 { " · " }
                        b { (version) } " on " (number)
                    }
                }
            }
        }
    }
}
