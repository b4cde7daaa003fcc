//! One monitor: what shifted, where, since when; its scores over time, its columns by their score,
//! and the histograms of one of them.

use maud::{Markup, html};

use crate::api::types::{ColumnView, MonitorDetail, MonitorState, MonitorView, RolloutView};

use super::format::{clock, count, score, span};
use super::histogram;
use super::monitors::{address, rows, state_tag};
use super::pieces::{Tone, bar, devices, tag};
use super::series::{Mark, timeline};
use super::shell::{Page, Parts, Section};

/// Columns shown at once; the others are folded.
const COLUMNS_SHOWN: usize = 12;
/// Steps of the small bars beside scores.
const STEPS: u32 = 20;

/// What is shown of a monitor.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) monitor: &'a MonitorDetail,
    /// The same version in all groups.
    pub(super) groups: &'a [MonitorView],
    /// The rollouts of the model.
    pub(super) rollouts: &'a [RolloutView],
    /// The column that was asked for; the worst if absent.
    pub(super) column: Option<&'a str>,
}

impl Shown<'_> {
    fn column(&self) -> Option<&ColumnView> {
        let items = &self.monitor.items;
        match self.column {
            Some(name) => items.iter().find(|column| column.name == name),
            None => items.first(),
        }
    }
}

/// The page.
pub(super) fn page(shown: &Shown<'_>) -> Page {
    let mut parts = Parts::default();
    let monitor = &shown.monitor.monitor;
    let title = format!("{} {}", monitor.model, monitor.version);
    let body = html! {
        p.crumb {
            a href="/monitors" { "Monitors" } " / " a href=(format!("/models/{}/{}", monitor.model, monitor.version)) { (title) }
            " / " (monitor.group)
        }
        header.head { div { h1 { (title) " " (place(monitor)) } (parts.live("monitor-line", "sub", headline(monitor))) } }
        (parts.live("monitor-groups", "versions-strip", groups(shown)))
        section.panel { h2 { "Score over time" span.soft { "the worst column of each window" } } (parts.live("monitor-timeline", "", scores(shown))) }
        div.columns {
            div.column { section.panel { (parts.live("monitor-column", "", one(shown))) } }
            div.column { section.panel { h2 { "Columns" span.soft { "by their score" } } (parts.live("monitor-columns", "", ranked(shown))) } }
        }
    };
    Page { title: format!("{title} · {}", monitor.group), section: Section::Monitors, body, parts }
}

fn place(monitor: &MonitorView) -> String {
    if monitor.site.is_some() { format!("at {}", monitor.group) } else { "on the whole fleet".to_owned() }
}

fn headline(monitor: &MonitorView) -> Markup {
    html! {
        (state_tag(monitor.state)) " "
        (devices(u64::from(monitor.devices)))
        @if monitor.rows > 0 { " · " (count(monitor.rows)) " rows in the last window" }
        @if let Some(at) = monitor.judged_ms { " · judged " (clock(at)) }
        @if monitor.state == MonitorState::Alarm {
            p.alarm { (tag(Tone::Bad, "drift")) span.sentence { (monitor.sentence) } }
        } @else {
            p.strong { (monitor.sentence) }
        }
        @if monitor.state == MonitorState::NotEnoughData { (waiting(monitor)) }
    }
}

fn waiting(monitor: &MonitorView) -> Markup {
    html! {
        p.soft {
            "A window is judged once it holds " b { (count(monitor.rows_min)) } " rows and has lasted "
            (span(monitor.window_seconds)) "."
        }
        (rows(monitor))
    }
}

fn groups(shown: &Shown<'_>) -> Markup {
    let here = &shown.monitor.monitor;
    html! {
        @for group in shown.groups {
            a href=(address(&group.model, group.version, group.site.as_deref(), shown.column))
                aria-current=[(group.site == here.site).then_some("page")] {
                b { (group.group) } " " (state_tag(group.state))
            }
        }
    }
}

/// Rollouts of the version or to another one, as moments.
fn deployed(rollouts: &[RolloutView]) -> Vec<Mark> {
    let started = rollouts.iter().map(|rollout| Mark {
        at_ms: rollout.started_ms,
        what: format!("{} {} began to roll out", rollout.model, rollout.version),
    });
    let ended = rollouts.iter().filter_map(|rollout| {
        let what = format!("{} {} {}", rollout.model, rollout.version, rollout.state.label());
        Some(Mark { at_ms: rollout.ended_ms?, what })
    });
    let mut marks: Vec<Mark> = started.chain(ended).collect();
    marks.sort_by_key(|mark| mark.at_ms);
    marks
}

fn scores(shown: &Shown<'_>) -> Markup {
    let monitor = &shown.monitor.monitor;
    let threshold = shown.monitor.items.first().map_or(0.0, |worst| worst.threshold);
    timeline(&monitor.timeline, threshold, &deployed(shown.rollouts))
}

fn one(shown: &Shown<'_>) -> Markup {
    let monitor = &shown.monitor.monitor;
    let Some(column) = shown.column() else {
        let sought = shown.column.filter(|_| !shown.monitor.items.is_empty());
        return html! {
            h2 { "Reference and current" }
            @match sought {
                Some(name) => p.soft { "The baseline has no column " span.chip { (name) } ". " a.quiet href=(address(&monitor.model, monitor.version, monitor.site.as_deref(), None)) { "Show the worst" } },
                None => p.soft { "Both histograms appear here when the first window has been judged: " (count(monitor.open_rows)) " of " (count(monitor.rows_min)) " rows so far." },
            }
        };
    };
    html! {
        h2 { span { "Column " b.mono.named { (column.name) } } span.soft { (column.side) } }
        p { (verdict(column)) }
        (histogram::picture(column))
        p.soft.below { (correction(column)) }
        (elsewhere(shown, column))
        h2.inner { "The same as a table" }
        (histogram::table(column))
    }
}

fn verdict(column: &ColumnView) -> Markup {
    html! {
        @if column.shifted { (tag(Tone::Bad, "shifted")) } @else { (tag(Tone::Ok, "as the baseline")) }
        " corrected PSI " b.mono { (score(column.corrected)) } " of " span.mono { (score(column.threshold)) } " borne"
        span.soft { " · " (count(column.current.n)) " values now, " (count(column.reference.n)) " in the reference" }
    }
}

fn correction(column: &ColumnView) -> String {
    format!(
        "The population stability index is {}; what two samples of these sizes differ by chance is taken off, \
         (K − 1)(1/n + 1/m) with K buckets in use, n values now and m in the reference.",
        score(column.psi)
    )
}

fn elsewhere(shown: &Shown<'_>, column: &ColumnView) -> Markup {
    let here = &shown.monitor.monitor;
    let others: Vec<&MonitorView> = shown.groups.iter().filter(|group| group.site != here.site).collect();
    html! {
        @if !others.is_empty() {
            p.soft {
                "The same column at "
                @for group in others {
                    a.chip href=(address(&group.model, group.version, group.site.as_deref(), Some(&column.name))) { (group.group) }
                }
            }
        }
    }
}

fn ranked(shown: &Shown<'_>) -> Markup {
    let items = &shown.monitor.items;
    if items.is_empty() {
        return html! { p.soft { (shown.monitor.monitor.columns) " columns are watched; none has a score yet." } };
    }
    let highest = items.first().map_or(0.0, |column| column.corrected);
    let (first, rest) = items.split_at(items.len().min(COLUMNS_SHOWN));
    html! {
        (table(shown, first, highest))
        @if !rest.is_empty() {
            details.plain id="more-columns" {
                summary { (rest.len()) " more" }
                (table(shown, rest, highest))
            }
        }
    }
}

fn table(shown: &Shown<'_>, columns: &[ColumnView], highest: f64) -> Markup {
    let monitor = &shown.monitor.monitor;
    let here = shown.column().map(|column| column.name.as_str());
    html! {
        div.scroll { table.tight {
            thead { tr { th { "Column" } th.num { "Score" } th.side { span.vh { "Beside the worst" } } th { "Verdict" } } }
            tbody {
                @for column in columns {
                    tr aria-current=[(here == Some(column.name.as_str())).then_some("true")] {
                        td.two-lines { a.mono.strong href=(address(&monitor.model, monitor.version, monitor.site.as_deref(), Some(&column.name))) { (column.name) } small.soft { (column.side) } }
                        td.num.mono { (score(column.corrected)) }
                        td.side { span.meter { (bar(&[(if column.shifted { Tone::Bad } else { Tone::Off }, steps(column.corrected, highest))], STEPS)) } }
                        td { @if column.shifted { (tag(Tone::Bad, "shifted")) } @else { (tag(Tone::Ok, "calm")) } }
                    }
                }
            }
        } }
    }
}

/// The part of the highest score, in steps.
fn steps(part: f64, highest: f64) -> u32 {
    if highest <= 0.0 {
        return 0;
    }
    let reached = |step: &u32| part * f64::from(STEPS) >= highest * f64::from(*step);
    (1..=STEPS).take_while(reached).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_drawn_as_a_part_of_the_worst() {
        assert_eq!([steps(2.0, 2.0), steps(1.0, 2.0), steps(-0.1, 2.0), steps(1.0, 0.0)], [20, 10, 0, 0]);
    }
}
