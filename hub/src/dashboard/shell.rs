//! What surrounds every page: head, navigation, the band that says the page is stale, the foot.

use maud::{DOCTYPE, Markup, html};

use crate::api::auth::Caller;
use crate::api::types::HubView;

use super::format::count;

/// The sections of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Fleet,
    Models,
    Approvals,
    Rollouts,
    Monitors,
    Events,
    Keys,
}

/// How much there is in each section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) needs: u64,
    pub(super) devices: u64,
    pub(super) models: u64,
    pub(super) approvals: u64,
    pub(super) rollouts: u64,
    pub(super) alerts: u64,
}

/// A page before the shell is put around it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) section: Section,
    pub(super) body: Markup,
    pub(super) parts: Parts,
}

/// Collects the fragments of a page that are pushed when they change.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<(String, String)>);

impl Parts {
    /// A fragment: an element with this id and class whose inside is replaced when it changes.
    pub(super) fn live(&mut self, id: &str, class: &str, inside: Markup) -> Markup {
        let element = html! { div id=(id) class=(class) data-live { (inside) } };
        self.0.push((id.to_owned(), inside.into_string()));
        element
    }

    /// The fragments: id and inside.
    pub(super) fn into_fragments(self) -> Vec<(String, String)> {
        self.0
    }
}

/// Who looks, and at what hub.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) caller: &'a Caller,
    pub(super) hub: &'a HubView,
    pub(super) counts: Counts,
    pub(super) note: Option<&'static str>,
}

/// The whole document.
pub(super) fn document(page: &mut Page, frame: &Frame<'_>) -> Markup {
    let navigation = page.parts.live("nav-links", "links", links(page.section, frame.counts));
    let refusing = page.parts.live("refusing", "", refusing(frame.hub));
    let body = html! {
        a.skip href="#main" { "Skip to the content" }
        nav aria-label="Sections" {
            a.brand href="/" { (mark()) span { "Bellwether" } }
            (navigation)
            (foot(frame))
        }
        main id="main" tabindex="-1" {
            p.stale id="stale" role="status" hidden { "! Stale since " span id="stale-since" {} " · reconnecting to the hub" }
            (refusing)
            @if let Some(note) = frame.note { p.note role="status" { "✓ " (note) } }
            (page.body)
        }
        p.vh id="said" aria-live="polite" {}
    };
    let script = match page.section {
        Section::Approvals => Some("/assets/approve.js"),
        Section::Rollouts => Some("/assets/grant.js"),
        Section::Keys => Some("/assets/keys.js"),
        Section::Overview | Section::Fleet | Section::Models | Section::Monitors | Section::Events => None,
    };
    around(&page.title, &body, true, script)
}

/// A document without navigation: the login page.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    around(title, &html! { main.bare id="main" { (body) } }, false, None)
}

fn around(title: &str, body: &Markup, live: bool, script: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Bellwether" }
                link rel="icon" href="/assets/mark.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/bellwether.css";
                @if live { script type="module" src="/assets/live.js" {} }
                @if let Some(script) = script { script type="module" src=(script) {} }
            }
            body class=(if live { "app" } else { "alone" }) { (body) }
        }
    }
}

fn links(here: Section, counts: Counts) -> Markup {
    let entries = [
        (Section::Overview, "Overview", "/", counts.needs, "need you"),
        (Section::Fleet, "Fleet", "/fleet", counts.devices, "devices"),
        (Section::Models, "Models", "/models", counts.models, "models"),
        (Section::Approvals, "Approvals", "/approvals", counts.approvals, "wait"),
        (Section::Rollouts, "Rollouts", "/rollouts", counts.rollouts, "active"),
        (Section::Monitors, "Monitors", "/monitors", counts.alerts, "alerts"),
        (Section::Events, "Events", "/events", 0, ""),
        (Section::Keys, "Keys", "/keys", 0, ""),
    ];
    html! {
        @for (section, name, path, number, what) in entries {
            a href=(path) aria-current=[(section == here).then_some("page")] {
                (name)
                @if number > 0 {
                    span.n.hot[matches!(section, Section::Overview | Section::Approvals | Section::Monitors)] { (count(number)) span.vh { " " (what) } }
                }
            }
        }
    }
}

fn refusing(hub: &HubView) -> Markup {
    html! {
        @if !hub.accepting_work {
            p.stale role="alert" {
                "! The hub takes no new work: " (hub.refusing_because.as_deref().unwrap_or("it does not say why"))
            }
        }
    }
}

fn foot(frame: &Frame<'_>) -> Markup {
    html! {
        div.foot {
            p id="link-state" data-state="off" { span.dot aria-hidden="true" {} span id="link-word" { "not live" } }
            p.faint { "hub " (frame.hub.version) " · " (frame.hub.broker.kind) " broker" }
            p.faint { (frame.caller.name) " · " (frame.caller.role.name()) }
            div.foot-buttons {
                button.quiet id="pause-updates" type="button" aria-pressed="false" hidden { "Pause updates" }
                button.quiet id="shortcuts" type="button" aria-pressed="true" hidden { "Shortcuts" }
                form method="post" action="/logout" { button.quiet type="submit" { "Log out" } }
            }
        }
    }
}

/// The mark: a bell.
pub(super) fn mark() -> Markup {
    html! {
        svg.mark width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7"
            stroke-linecap="round" aria-hidden="true" {
            path d="M6 16V11a6 6 0 0 1 12 0v5" {}
            path d="M4 16h16" {}
            circle cx="12" cy="19.4" r="1.7" fill="currentColor" stroke="none" {}
            path d="M12 5V3" {}
        }
    }
}
