//! The FPGA of a device: who scores its models, and what a row takes of the engine.

use maud::{Markup, html};

use crate::api::types::{Accelerator, DeviceView, ModelOnDevice, OffloadView, ScoredBy};

use super::format::{count, hertz, micros, percent, ppm};
use super::pieces::{Tone, bar, tag};

/// The models that an FPGA takes, a line each; nothing where there is none.
pub(super) fn table(device: &DeviceView) -> Markup {
    let offloads = || device.models.iter().filter_map(|model| Some((model, model.offload.as_ref()?)));
    html! {
        @if offloads().next().is_some() {
            h2.inner { "FPGA" span.soft { "who scores, and what a row takes of the engine" } }
            table.cards {
                thead { tr {
                    th { "Model" } th { "Accelerator" } th { "Scored by" } th { "Rows" }
                    th.num { "Cycles a row" } th.num { "Time a row" } th.num { "Utilisation" } th.num { "Recovered" }
                } }
                tbody { @for (model, offload) in offloads() { (line(model, offload)) } }
            }
            p.soft.below {
                "Time is of the engine alone: its cycles at its clock, as if a simulation ran as fast. "
                "Utilisation is of the 8 multiplications that the engine makes in a cycle for one column; "
                "convolutions take two columns at once and may come to more than 100 %."
            }
        }
    }
}

fn line(model: &ModelOnDevice, offload: &OffloadView) -> Markup {
    let unknown = || html! { span.faint { "–" } };
    html! {
        tr {
            td data-label="Model" { a.strong href=(format!("/models/{}", model.name)) { (model.name) } }
            td data-label="Accelerator" {
                span.chip { (offload.accelerator.label()) }
                @if let Some(build) = &offload.build { " " span.mono.soft title="what its engine was built from" { (build) } }
            }
            td data-label="Scored by" {
                (tag(tone(offload), offload.by.label()))
                @if let Some(cause) = &offload.cause { p.soft.wrap { "last fault: " (cause) } }
            }
            td data-label="Rows" { (rows(offload)) }
            td.num.mono data-label="Cycles a row" { @match offload.cycles_per_row { Some(cycles) => (count(cycles)), None => (unknown()) } }
            td.num.mono.two-lines data-label="Time a row" {
                @match offload.us_per_row {
                    Some(time) => { (micros(u32::try_from(time).unwrap_or(u32::MAX))) " " small.faint.nowrap { "at " (hertz(offload.clock_khz)) } },
                    None => (unknown()),
                }
            }
            td.num.mono data-label="Utilisation" {
                @match offload.utilisation { Some(share) => (percent(u64::from(share) * 1000)), None => (unknown()) }
            }
            td.num.mono data-label="Recovered" { (count(offload.recovered)) }
        }
    }
}

/// A twin is a warning only where there should be an engine.
const fn tone(offload: &OffloadView) -> Tone {
    match (offload.by, offload.accelerator) {
        (ScoredBy::Engine, _) => Tone::Ok,
        (ScoredBy::Waiting, _) | (ScoredBy::Twin, Accelerator::Twin) => Tone::Off,
        (ScoredBy::Twin, Accelerator::Simulated | Accelerator::Ice40Up5k) => Tone::Warn,
    }
}

fn rows(offload: &OffloadView) -> Markup {
    let all = offload.engine_rows.saturating_add(offload.twin_rows);
    let part = |rows: u64| u32::try_from(ppm(rows, all)).unwrap_or(u32::MAX);
    html! {
        div.versions.two-lines {
            (bar(&[(Tone::Ok, part(offload.engine_rows)), (Tone::Off, part(offload.twin_rows))], part(all)))
            small.soft { (count(offload.engine_rows)) " by the engine" } " "
            small.soft { (count(offload.twin_rows)) " by the twin" }
        }
    }
}

/// Beside a model in a list of devices: that an FPGA takes it, or should.
pub(super) fn mark(model: &ModelOnDevice) -> Markup {
    let Some(offload) = &model.offload else { return html! {} };
    match (offload.accelerator, offload.by) {
        (Accelerator::Twin, _) => html! {},
        (Accelerator::Simulated | Accelerator::Ice40Up5k, ScoredBy::Twin) => {
            html! { " " (tag(Tone::Warn, "not on its FPGA")) }
        }
        (Accelerator::Simulated, _) => html! { " " span.chip { "simulated FPGA" } },
        (Accelerator::Ice40Up5k, _) => html! { " " span.chip { "FPGA" } },
    }
}
