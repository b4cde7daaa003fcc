//! The rollouts: those that go on with their stages, those that ended as a table.

use maud::{Markup, html};

use crate::api::types::RolloutView;

use super::format::{moment, span};
use super::overview::title;
use super::pieces::{empty, rollout_tag, track};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(rollouts: &[RolloutView]) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        header.head {
            div { h1 { "Rollouts" } p.sub { "A version reaches the fleet in stages; each must stay healthy before the next." } }
            div.actions { a.btn.main href="/models" { "Roll out a version" } }
        }
        (parts.live("rollouts", "stack", lists(rollouts)))
    };
    Page { title: "Rollouts".to_owned(), section: Section::Rollouts, body, parts }
}

fn lists(rollouts: &[RolloutView]) -> Markup {
    if rollouts.is_empty() {
        return html! { section.panel { (empty(
            "No rollout yet",
            "Once a version is approved and its stages are granted, start it from the model's page or here:",
            &["bellwether rollout start digits:1 --stage device=gw-1 --stage 25% --stage 100%"],
        )) } };
    }
    let (ended, active): (Vec<_>, Vec<_>) = rollouts.iter().partition(|rollout| rollout.state.ended());
    html! {
        @for rollout in active {
            section.panel {
                div.rolling-head {
                    a.strong href=(format!("/rollouts/{}", rollout.id)) { (title(rollout)) }
                    (rollout_tag(rollout))
                    span.soft { (rollout.waiting_on) }
                }
                (track(rollout))
            }
        }
        @if !ended.is_empty() {
            section.panel { h2 { "Ended" } (table(&ended)) }
        }
    }
}

fn table(ended: &[&RolloutView]) -> Markup {
    html! {
        table.cards {
            thead { tr { th { "Rollout" } th { "Ended as" } th { "Devices" } th { "Failed" } th { "Started" } th { "By" } th { "Took" } } }
            tbody {
                @for rollout in ended {
                    @let counts = rollout.stages.last().map(|stage| stage.counts).unwrap_or_default();
                    @let failed: u32 = rollout.failures.iter().map(|failure| failure.count).sum();
                    tr {
                        td data-label="Rollout" { a.strong href=(format!("/rollouts/{}", rollout.id)) { (title(rollout)) } }
                        td data-label="Ended as" { (rollout_tag(rollout)) }
                        td data-label="Devices" { (counts.healthy) " of " (counts.total) " run it" }
                        td data-label="Failed" { (failed) }
                        td data-label="Started" { (moment(rollout.started_ms)) }
                        td data-label="By" { (rollout.started_by) }
                        td data-label="Took" {
                            @if let Some(end) = rollout.ended_ms { (span(end.saturating_sub(rollout.started_ms) / 1000)) }
                        }
                    }
                }
            }
        }
    }
}
