//! The keys of the fleet: whose they are, what they may sign, how many must agree.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{HubView, KeyRequestView, KeysView};

use super::browser_key;
use super::format::digest;
use super::pieces::{Tone, empty, tag};
use super::shell::{Page, Parts, Section};

/// The page; without keys, how to make the root.
pub(super) fn page(hub: &HubView, keys: Option<&KeysView>, requests: &[KeyRequestView], caller: &Caller) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        header.head {
            div {
                h1 { "Keys" }
                (parts.live("keys-line", "sub", html! { @match &hub.fleet { Some(fleet) => { "fleet " span.mono { (fleet) } }, None => "this hub has no fleet yet" } }))
            }
        }
        section.panel { (parts.live("root-keys", "", listed(keys))) }
        div.row.two {
            section.panel { h2 { "Ask to be listed" } (parts.live("key-requests", "", browser_key::requests(requests, caller))) }
            (browser_key::panel(caller, keys.map(|keys| keys.offline_approval)))
        }
    };
    Page { title: "Keys".to_owned(), section: Section::Keys, body, parts }
}

fn listed(keys: Option<&KeysView>) -> Markup {
    match keys {
        Some(keys) => table(keys),
        None => empty(
            "No root of trust yet",
            "It lists who may publish, approve and grant, and makes the fleet's id. Make keys, then the root.",
            &[
                "bellwether key new publisher --person alice --role publish",
                "bellwether key new approver-1 --person bob --role approve",
                "bellwether key new approver-2 --person carol --role approve",
                "bellwether root init --publisher publisher --approver approver-1 --approver approver-2",
            ],
        ),
    }
}

fn table(keys: &KeysView) -> Markup {
    let thresholds = &keys.thresholds;
    html! {
        p.soft {
            "Persons who must agree: " b { (thresholds.approve) } " for a release beside its publisher, "
            b { (thresholds.grant) } " for a stage, " b { (thresholds.root) } " for the root."
            @if keys.offline_approval { " One approval of each release comes from a key outside browsers." }
        }
        table.cards {
            thead { tr { th { "Person" } th { "May" } th { "Kept in" } th { "Models" } th { "Status" } th { "Key" } } }
            tbody {
                @for key in &keys.keys {
                    tr {
                        td data-label="Person" { b { (key.person) } }
                        td data-label="May" { @for role in &key.roles { span.chip { (role) } } }
                        td.soft data-label="Kept in" { (key.class.replace('_', " ")) }
                        td.soft data-label="Models" { @if key.prefix.is_empty() { "all" } @else { (key.prefix) "…" } }
                        td data-label="Status" { (tag(if key.status == "active" { Tone::Ok } else { Tone::Off }, &key.status)) }
                        td data-label="Key" { (digest(&key.id)) }
                    }
                }
            }
        }
    }
}
