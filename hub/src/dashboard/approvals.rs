//! The queue of versions that wait for approval, and those that were rejected.

use maud::{Markup, html};

use crate::api::types::{KeysView, VersionState, VersionView};

use super::format::{bytes, moment};
use super::pieces::{Tone, empty, tag, version_tag};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(versions: &[VersionView], keys: Option<&KeysView>) -> Page {
    let mut parts = Parts::default();
    let (rejected, waiting): (Vec<&VersionView>, Vec<&VersionView>) =
        versions.iter().partition(|version| version.state == VersionState::Rejected);
    let body = html! {
        header.head {
            div {
                h1 { "Approvals" }
                p.sub {
                    @match keys {
                        Some(keys) => {
                            "A release takes " b { (persons(keys.thresholds.approve)) } " besides its publisher"
                            @if keys.offline_approval { ", one of them with a key outside browsers" } "."
                        },
                        None => "There is no root yet, so nobody can approve.",
                    }
                }
            }
            div.actions { a.btn href="/keys" { "Keys" } }
        }
        section.panel { h2 { "Waiting" } (parts.live("waiting", "", queue(&waiting))) }
        section.panel { h2 { "Rejected" } (parts.live("rejected", "", refused(&rejected))) }
    };
    Page { title: "Approvals".to_owned(), section: Section::Approvals, body, parts }
}

/// `1 person`, `2 persons`.
pub(super) fn persons(number: u32) -> String {
    if number == 1 { "1 person".to_owned() } else { format!("{number} persons") }
}

/// The page of one version's approval.
pub(super) fn address(version: &VersionView) -> String {
    format!("/approvals/{}/{}", version.name, version.version)
}

fn queue(waiting: &[&VersionView]) -> Markup {
    if waiting.is_empty() {
        return empty(
            "Nothing waits for approval",
            "A version that its publisher signed appears here, with what changes and who must sign.",
            &["bellwether model register digits model.onnx --vectors digits.npz --key KEY"],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Version" } th { "Published by" } th { "Signatures" } th { "Golden" } th.num { "Size" } th { "Registered" } th { "" } } }
            tbody {
                @for version in waiting {
                    tr {
                        td data-label="Version" {
                            a.strong href=(address(version)) { (version.name) " " (version.version) }
                            @if !version.description.is_empty() { p.soft.wrap { (version.description) } }
                        }
                        td data-label="Published by" { (version.publisher.as_deref().unwrap_or("nobody yet")) }
                        td data-label="Signatures" { b { (version.approvals.given.len()) } " given, " (version.approvals.needed) " needed" }
                        td data-label="Golden" { (golden(version)) }
                        td.num.mono data-label="Size" { (bytes(version.package.size)) }
                        td data-label="Registered" { (moment(version.registered_ms)) }
                        td { a.btn href=(address(version)) { "Review" span.vh { " " (version.name) " " (version.version) } } }
                    }
                }
            }
        }
    }
}

/// What the golden vectors said, as a tag.
pub(super) fn golden(version: &VersionView) -> Markup {
    if version.golden.checked { tag(Tone::Ok, "passed") } else { tag(Tone::Warn, "unchecked") }
}

fn refused(rejected: &[&VersionView]) -> Markup {
    if rejected.is_empty() {
        return html! { p.soft { "No version was rejected." } };
    }
    html! {
        table.cards {
            thead { tr { th { "Version" } th { "State" } th { "By" } th { "Why" } th { "When" } } }
            tbody {
                @for version in rejected {
                    @if let Some(rejection) = &version.rejection {
                        tr {
                            td data-label="Version" { a.strong href=(address(version)) { (version.name) " " (version.version) } }
                            td data-label="State" { (version_tag(version.state)) }
                            td data-label="By" { (rejection.person) }
                            td.wrap data-label="Why" { (rejection.why) }
                            td data-label="When" { (moment(rejection.at_ms)) }
                        }
                    }
                }
            }
        }
    }
}
