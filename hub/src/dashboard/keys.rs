//! What counts in the fleet: the keys, whose they are and how many must agree; what was recalled.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{CheckpointView, FloorView, HubView, KeyRequestView, KeysView, RecallView};

use super::browser_key;
use super::format::{digest, moment};
use super::pieces::{Tone, devices, empty, tag};
use super::shell::{Page, Parts, Section};

/// What the page tells of.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// The root's keys, once there is a root.
    pub(super) keys: Option<KeysView>,
    /// Keys that ask to be listed.
    pub(super) requests: Vec<KeyRequestView>,
    /// The latest first.
    pub(super) recalls: Vec<RecallView>,
    /// The latest.
    pub(super) checkpoint: Option<CheckpointView>,
}

/// The page; without keys, how to make the root.
pub(super) fn page(hub: &HubView, counting: &Counting, caller: &Caller) -> Page {
    let Counting { keys, requests, recalls, checkpoint } = counting;
    let keys = keys.as_ref();
    let mut parts = Parts::default();
    let line = html! {
        @match &hub.fleet { Some(fleet) => { "fleet " span.mono { (fleet) } }, None => "this hub has no fleet yet" }
    };
    let body = html! {
        header.head { div { h1 { "Keys" } (parts.live("keys-line", "sub", line)) } }
        section.panel { (parts.live("root-keys", "", listed(keys))) }
        @if keys.is_some() {
            section.panel { h2 { "Recalls" } (parts.live("recalls", "", recalled(recalls, checkpoint.as_ref()))) }
        }
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

/// Every recall, and what the latest checkpoint adds.
fn recalled(recalls: &[RecallView], checkpoint: Option<&CheckpointView>) -> Markup {
    let floor = |floor: &FloorView| format!("no {} below version {}", floor.model, floor.version);
    html! {
        @if let Some(checkpoint) = checkpoint {
            p.soft {
                "Checkpoint " b { (checkpoint.number) } " by " (checkpoint.persons.join(", ")) ", " (moment(checkpoint.at_ms))
                @for text in checkpoint.floors.iter().map(floor) { " · " (text) }
            }
        }
        @if recalls.is_empty() {
            (empty("Nothing was recalled", "One approver stops a version everywhere, for ever.", &["bellwether recall digits:2 --key bob"]))
        } @else {
            table.cards {
                thead { tr { th { "Model" } th { "Versions" } th { "Where nothing else may run" } th { "By" } th { "When" } th { "State" } } }
                tbody {
                    @for recall in recalls {
                        tr {
                            td data-label="Model" { b { (recall.model) } }
                            td.num data-label="Versions" { (versions(recall)) }
                            td.soft data-label="Where nothing else may run" { @if recall.otherwise == "stop" { "it stops" } @else { "it goes on answering" } }
                            td data-label="By" { (recall.persons.join(", ")) }
                            td.soft data-label="When" { (moment(recall.at_ms)) }
                            td data-label="State" { @if recall.in_force { (tag(Tone::Bad, "recalled")) } @else { (tag(Tone::Off, "void: its key was revoked")) } }
                        }
                    }
                }
            }
        }
    }
}

fn versions(recall: &RecallView) -> String {
    if recall.versions.is_empty() {
        return "unknown here".to_owned();
    }
    recall.versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn table(keys: &KeysView) -> Markup {
    let thresholds = &keys.thresholds;
    html! {
        p.soft {
            "Root version " b { (keys.version) }
            @if !keys.signed_by.is_empty() { ", signed by " (keys.signed_by.join(", ")) }
            @if let Some(at_ms) = keys.signed_ms { ", " (moment(at_ms)) }
            ". "
            @if keys.devices_behind > 0 {
                (devices(keys.devices_behind as u64)) " did not say yet that they know it and every recall: they are told as soon as they are there."
            } @else { "Every device knows it and every recall." }
        }
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
