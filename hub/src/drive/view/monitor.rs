//! Monitors as the API shows them.
#![expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact as f64")]

use bellwether_hub_core::Rules;
use bellwether_hub_core::drift::score::Score;
use bellwether_hub_core::drift::verdict::State;
use bellwether_hub_core::drift::{Baseline, Group, Key, Merged, Monitor};
use bellwether_protocol::profile::{Column, Side};
use bellwether_protocol::time::Millis;

use crate::api::types::{ColumnView, HistogramView, MonitorDetail, MonitorState, MonitorView, PointView};
use crate::date::Moment;

/// Columns that a sentence names; more are counted.
const NAMED: usize = 3;

/// A version watched in a group; `None` without a baseline.
pub(in crate::drive) fn monitor(rules: &Rules, key: &Key) -> Option<MonitorView> {
    let baseline = rules.baseline(&key.model)?;
    let judged = rules.monitor(key);
    let name = |index: u16| {
        let column = baseline.columns.get(usize::from(index));
        column.map(|column| column.name.to_string()).unwrap_or_default()
    };
    let verdict = judged.map(|monitor| &monitor.verdict);
    let shifted: Vec<String> =
        verdict.map(|verdict| verdict.shifted.iter().copied().map(name).collect()).unwrap_or_default();
    let state = match verdict.map(|verdict| verdict.state) {
        None => MonitorState::NotEnoughData,
        Some(State::Calm) => MonitorState::Calm,
        Some(State::Watch) => MonitorState::Watch,
        Some(State::Alarm) => MonitorState::Alarm,
    };
    let since = verdict.and_then(|verdict| verdict.since);
    let devices = rules.devices().filter(|device| runs(device, key)).count();
    let devices = u32::try_from(devices).unwrap_or(u32::MAX);
    let policy = rules.drift_policy();
    let point = |point: &bellwether_hub_core::drift::Point| PointView {
        at_ms: point.at.0,
        rows: point.rows,
        column: name(point.column),
        psi: point.psi,
    };
    let last = judged.and_then(|monitor| monitor.timeline.back());
    Some(MonitorView {
        model: key.model.name.to_string(),
        version: key.model.version.number(),
        site: if let Group::Site(site) = &key.group { Some(site.clone()) } else { None },
        group: key.group.to_string(),
        state,
        sentence: sentence(state, &shifted, key, devices, since.map(|since| since.0)),
        since_ms: since.map(|since| since.0),
        devices,
        rows: judged.map_or(0, |monitor| monitor.latest.rows),
        judged_ms: last.map(|point| point.at.0),
        open_rows: rules.windows().find(|window| window.key == *key).map_or(0, |window| window.rows),
        rows_min: policy.rows_min,
        window_seconds: policy.window.0 / 1000,
        columns: u32::try_from(baseline.columns.len()).unwrap_or(u32::MAX),
        shifted,
        timeline: judged.map(|monitor| monitor.timeline.iter().map(point).collect()).unwrap_or_default(),
    })
}

/// Whether a device of the group runs the version.
pub(in crate::drive) fn runs(device: &bellwether_hub_core::fleet::Device, key: &Key) -> bool {
    let is_there = match &key.group {
        Group::Fleet => true,
        Group::Site(site) => device.site() == Some(site),
    };
    is_there && device.running(&key.model.name) == Some(key.model.version)
}

/// The time of day, such as `09:40 UTC`.
fn clock(at_ms: u64) -> String {
    let Moment { hour, minute, .. } = Moment::of(Millis(at_ms));
    format!("{hour:02}:{minute:02} UTC")
}

/// What, where, since when.
fn sentence(state: MonitorState, shifted: &[String], key: &Key, devices: u32, since: Option<u64>) -> String {
    let place = match &key.group {
        Group::Fleet => "the fleet".to_owned(),
        Group::Site(site) => format!("site {site}"),
    };
    let model = format!("{} {}", key.model.name, key.model.version);
    let clock = since.map(clock).unwrap_or_default();
    let devices = if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") };
    let columns = match shifted.len().saturating_sub(NAMED) {
        0 => shifted.join(", "),
        more => format!("{} and {more} more", shifted.get(..NAMED).unwrap_or_default().join(", ")),
    };
    match state {
        MonitorState::Alarm if shifted.is_empty() => {
            format!("{model}: the shift on {devices} of {place} since {clock} is fading")
        }
        MonitorState::Alarm => format!("{model}: {columns} shifted on {devices} of {place} since {clock}"),
        MonitorState::Watch => format!("{model}: {columns} may have shifted on {devices} of {place} since {clock}"),
        MonitorState::Calm => format!("{model}: {place} looks like the baseline"),
        MonitorState::NotEnoughData => format!("{model}: not enough data of {place} yet"),
    }
}

/// A monitor with every column, the highest score first.
pub(in crate::drive) fn monitor_detail(rules: &Rules, key: &Key) -> Option<MonitorDetail> {
    let view = monitor(rules, key)?;
    let baseline = rules.baseline(&key.model)?;
    let mut items = rules.monitor(key).map(|monitor| columns(baseline, monitor)).unwrap_or_default();
    items.sort_by(|a, b| b.corrected.total_cmp(&a.corrected));
    Some(MonitorDetail { monitor: view, items })
}

fn columns(baseline: &Baseline, monitor: &Monitor) -> Vec<ColumnView> {
    let both = baseline.columns.iter().zip(&monitor.latest.columns).zip(&monitor.scores);
    both.map(|((column, merged), score)| view(column, merged, score)).collect()
}

fn view(column: &Column, merged: &Merged, score: &Score) -> ColumnView {
    ColumnView {
        name: column.name.to_string(),
        side: match column.source.side {
            Side::Input => "input",
            Side::Output => "output",
        }
        .to_owned(),
        psi: score.psi,
        corrected: score.corrected,
        threshold: score.threshold,
        shifted: score.corrected > score.threshold,
        lower: column.bins.lower.to_vec(),
        top: column.bins.top,
        reference: histogram(&Merged::from(&column.counts)),
        current: histogram(merged),
    }
}

fn histogram(counts: &Merged) -> HistogramView {
    let numbers = counts.numbers();
    let missing = counts.nan.saturating_add(counts.null);
    let variance = if numbers > 1 { counts.m2 / (numbers - 1) as f64 } else { 0.0 };
    HistogramView {
        bins: counts.bins.clone(),
        below: counts.below,
        above: counts.above,
        missing,
        n: numbers.saturating_add(missing),
        mean: counts.mean,
        deviation: variance.max(0.0).sqrt(),
        min: counts.min,
        max: counts.max,
    }
}
