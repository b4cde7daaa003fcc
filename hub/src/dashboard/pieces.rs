//! The pieces pages are made of: states by shape, word and colour; bars; maps; empty states.

use maud::{Markup, PreEscaped, Render, html};

use crate::api::types::{
    CountsView, DeviceState, Presence, RolloutPhase, RolloutState, RolloutView, SiteDevice, StageState, StageView,
    VersionState,
};

use super::format::{clock, count};

/// A tone: what a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Ok,
    Busy,
    Warn,
    Bad,
    Off,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Off => "off",
        }
    }

    const fn glyph(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Busy => "●",
            Self::Warn => "!",
            Self::Bad => "✕",
            Self::Off => "○",
        }
    }
}

/// A state as shape, word and colour.
pub(super) fn tag(tone: Tone, word: impl Render) -> Markup {
    html! { span class=(format!("tag {}", tone.class())) { span.glyph aria-hidden="true" { (tone.glyph()) } (word) } }
}

/// A version's state.
pub(super) fn version_tag(state: VersionState) -> Markup {
    let tone = match state {
        VersionState::Draft | VersionState::Retired => Tone::Off,
        VersionState::AwaitingApproval => Tone::Warn,
        VersionState::Approved => Tone::Ok,
        VersionState::Rejected => Tone::Bad,
    };
    tag(tone, state.label())
}

/// A device's presence.
pub(super) fn presence_tag(presence: Presence) -> Markup {
    let tone = match presence {
        Presence::Online => Tone::Ok,
        Presence::Stale => Tone::Warn,
        Presence::Offline | Presence::Never => Tone::Off,
    };
    tag(tone, presence.label())
}

/// Where a rollout stands, its phase included.
pub(super) fn rollout_tag(rollout: &RolloutView) -> Markup {
    match (rollout.state, rollout.phase) {
        (RolloutState::Completed, _) => tag(Tone::Ok, "completed"),
        (RolloutState::Aborted, _) => tag(Tone::Bad, "aborted"),
        (RolloutState::RollingBack, _) => tag(Tone::Warn, "rolling back"),
        (RolloutState::RolledBack, _) => tag(Tone::Bad, "rolled back"),
        (RolloutState::Paused, _) => tag(Tone::Warn, "paused"),
        (RolloutState::Running, Some(phase @ RolloutPhase::WaitingForGrant)) => tag(Tone::Warn, phase.label()),
        (RolloutState::Running, Some(phase)) => tag(Tone::Busy, phase.label()),
        (RolloutState::Running, None) => tag(Tone::Busy, "running"),
    }
}

/// A stacked bar: widths are attributes, as the content policy forbids inline styles. What it shows
/// is written beside it, so it is hidden from readers.
pub(super) fn bar(parts: &[(Tone, u32)], total: u32) -> Markup {
    let total = u64::from(total.max(1));
    let mut end = 0_u64;
    let placed = parts.iter().map(|(tone, number)| {
        let (from, width) = (end, u64::from(*number) * 1000 / total);
        end += width;
        (tone, from, width)
    });
    html! {
        svg.bar viewBox="0 0 1000 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.rest width="1000" height="8" {}
            @for (tone, from, width) in placed {
                @if width > 0 { rect class=(tone.class()) x=(from) width=(width) height="8" {} }
            }
        }
    }
}

/// The bar of a stage.
pub(super) fn counts_bar(counts: &CountsView) -> Markup {
    let parts = [
        (Tone::Ok, counts.healthy),
        (Tone::Busy, counts.updating),
        (Tone::Warn, counts.held),
        (Tone::Bad, counts.failed),
        (Tone::Off, counts.offline),
    ];
    bar(&parts, counts.total)
}

/// The stages side by side, the current one framed.
pub(super) fn track(rollout: &RolloutView) -> Markup {
    html! {
        ol.track {
            @for (index, stage) in rollout.stages.iter().enumerate() { (stage_card(rollout, index, stage)) }
        }
    }
}

fn stage_card(rollout: &RolloutView, index: usize, stage: &StageView) -> Markup {
    let (class, state) = match stage.state {
        StageState::Done => ("stage done", tag(Tone::Ok, "done")),
        StageState::Now if rollout.state == RolloutState::Completed => ("stage done", tag(Tone::Ok, "done")),
        StageState::Now => ("stage now", rollout_tag(rollout)),
        StageState::Next => ("stage next", html! { span.soft { "next" } }),
        StageState::Stopped => ("stage stopped", rollout_tag(rollout)),
    };
    let counts = &stage.counts;
    html! {
        li class=(class) aria-current=[(stage.state == StageState::Now).then_some("step")] {
            div.stage-head { b { span.faint { (index + 1) } " " (stage.label) } (state) }
            (counts_bar(counts))
            small {
                @if counts.total == 0 && stage.state == StageState::Next { "devices are counted when it begins" }
                @else if stage.state == StageState::Next { (devices(u64::from(counts.total))) }
                @else { (counts_text(counts, rollout.version)) }
                @if stage.state == StageState::Stopped { " when it stopped" }
            }
            @if !stage.granted { small.warn-text { "! not granted yet" } }
            @if let Some(since) = stage.since_ms { small.faint { "since " (clock(since)) } }
        }
    }
}

/// `6 run 2 · 1 updating · 1 offline`, of a total.
pub(super) fn counts_text(counts: &CountsView, version: u32) -> Markup {
    html! {
        b { (counts.healthy) " of " (counts.total) } " run " (version)
        @if counts.updating > 0 { " · " (counts.updating) " updating" }
        @if counts.held > 0 { " · " (counts.held) " held" }
        @if counts.slow > 0 { ", " span.bad-text { (counts.slow) " too slow" } }
        @if counts.failed > 0 { " · " span.bad-text { (counts.failed) " failed" } }
        @if counts.offline > 0 { " · " (counts.offline) " offline" }
    }
}

/// `1 device`, `24 devices`.
pub(super) fn devices(number: u64) -> String {
    if number == 1 { "1 device".to_owned() } else { format!("{} devices", count(number)) }
}

/// Squares of a map a row.
const MAP_COLUMNS: usize = 12;
/// Above this many devices a site is drawn densely and without a link per device.
const MAP_LINKS_MAX: usize = 120;

/// One site's devices as squares; the shape says the state as the colour does.
pub(super) fn site_map(site: &str, devices: &[SiteDevice]) -> Markup {
    let dense = devices.len() > MAP_LINKS_MAX;
    let (pitch, columns) = if dense { (9, MAP_COLUMNS * 4) } else { (26, MAP_COLUMNS) };
    let rows = devices.len().div_ceil(columns).max(1);
    let used = columns.min(devices.len().max(1));
    let label = format!("{}: {}", if site.is_empty() { "no site" } else { site }, states_text(devices));
    let place = |index: usize| (index % columns * pitch, index / columns * pitch);
    html! {
        svg.map width=(used * pitch) height=(rows * pitch) viewBox=(format!("0 0 {} {}", used * pitch, rows * pitch))
            role=(if dense { "img" } else { "group" }) aria-label=(label) {
            @for (index, device) in devices.iter().enumerate() {
                @let (x, y) = place(index);
                @if dense { (mark(device.state, x, y, pitch)) } @else {
                    a href=(format!("/devices/{}", device.id)) aria-label=(format!("{}, {}", device.id, device.state.label())) {
                        title { (device.id) " · " (device.state.label()) }
                        rect.hit x=(x) y=(y) width=(pitch) height=(pitch) {}
                        (mark(device.state, x, y, pitch))
                    }
                }
            }
        }
    }
}

/// Square, disc, cross, ring, dot: one shape a state, `pitch` wide with its margin.
fn mark(state: DeviceState, x: usize, y: usize, pitch: usize) -> Markup {
    let inset = (pitch / 8).max(1);
    let (side, half) = (pitch - 2 * inset, pitch / 2);
    let (left, top, cx, cy) = (x + inset, y + inset, x + half, y + half);
    let radius = side / 2;
    let svg = match state {
        DeviceState::Healthy => {
            format!(r#"<rect class="m ok" x="{left}" y="{top}" width="{side}" height="{side}" rx="{}"/>"#, side / 5)
        }
        DeviceState::Updating => {
            format!(r#"<circle class="m busy" cx="{cx}" cy="{cy}" r="{radius}"/>"#)
        }
        DeviceState::Failed => {
            let trim = side / 6;
            let (left, top, right, bottom) = (left + trim, top + trim, left + side - trim, top + side - trim);
            format!(r#"<path class="m bad" d="M{left} {top}L{right} {bottom}M{right} {top}L{left} {bottom}"/>"#)
        }
        DeviceState::Offline => format!(
            r#"<rect class="m off" x="{}" y="{}" width="{}" height="{}" rx="{}"/>"#,
            left + 1,
            top + 1,
            side.saturating_sub(2),
            side.saturating_sub(2),
            side / 5
        ),
        DeviceState::Idle => {
            format!(r#"<circle class="m idle" cx="{cx}" cy="{cy}" r="{}"/>"#, (side / 4).max(1))
        }
    };
    PreEscaped(svg)
}

fn number_of(devices: &[SiteDevice], state: DeviceState) -> usize {
    devices.iter().filter(|device| device.state == state).count()
}

const STATES: [DeviceState; 5] =
    [DeviceState::Healthy, DeviceState::Updating, DeviceState::Failed, DeviceState::Offline, DeviceState::Idle];

fn states_text(devices: &[SiteDevice]) -> String {
    let parts: Vec<String> = STATES
        .into_iter()
        .map(|state| (number_of(devices, state), state))
        .filter(|(number, _)| *number > 0)
        .map(|(number, state)| format!("{number} {}", state.label()))
        .collect();
    parts.join(", ")
}

/// What the shapes mean and how many there are.
pub(super) fn legend<'d>(devices: &(impl Iterator<Item = &'d SiteDevice> + Clone)) -> Markup {
    html! {
        ul.legend {
            @for state in STATES {
                @let number = devices.clone().filter(|device| device.state == state).count();
                @if number > 0 || matches!(state, DeviceState::Healthy | DeviceState::Offline) {
                    li {
                        svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true" { (mark(state, 0, 0, 14)) }
                        (state.label()) " " b { (number) }
                    }
                }
            }
        }
    }
}

/// A list that is empty, and the command that fills it.
pub(super) fn empty(title: &str, text: &str, commands: &[&str]) -> Markup {
    html! {
        div.empty {
            b { (title) }
            p.soft { (text) }
            @for command in commands { (shell(command)) }
        }
    }
}

/// A command to copy.
pub(super) fn shell(command: &str) -> Markup {
    html! { code.shell { span.prompt aria-hidden="true" { "$ " } (command) } }
}

/// A button that may be disabled, with the reason written for everybody.
pub(super) fn button(id: &str, class: &str, key: Option<&str>, label: &str, refusal: Option<&str>) -> Markup {
    html! {
        button id=(id) class=(class) type="submit" disabled[refusal.is_some()] title=[refusal] data-key=[key]
            aria-describedby=[refusal.map(|_| format!("{id}-why"))] {
            (label)
            @if let Some(key) = key { kbd aria-hidden="true" { @if key.to_lowercase() != key { "⇧" } (key.to_uppercase()) } }
        }
        @if let Some(reason) = refusal { span.vh id=(format!("{id}-why")) { (reason) } }
    }
}
