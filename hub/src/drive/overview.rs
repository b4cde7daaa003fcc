//! The first page at a glance, and the numbers for machines.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bellwether_hub_core::Rules;
use bellwether_hub_core::drift::Monitor;
use bellwether_hub_core::drift::verdict::State;
use bellwether_hub_core::registry::VersionRecord;
use bellwether_protocol::time::Millis;
use prometheus::{Encoder as _, IntGauge, Registry, TextEncoder};

use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    DeviceState, DeviceTotals, MonitorView, NeedView, OverviewView, RolloutState, RolloutView, SiteDevice, SiteView,
};
use crate::clock;

/// How far back the score rate looks.
const RATE_SPAN: Millis = Millis::from_secs(60);
/// Least time between two marks of the score rate.
const RATE_STEP: Millis = Millis::from_secs(1);

impl Hub {
    /// The fleet at a glance and what waits for people.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn overview(&self, _caller: &Caller) -> Result<OverviewView, Problem> {
        let now = clock::now();
        let rules = self.rules();
        let rollouts: Vec<RolloutView> =
            rules.rollouts().filter(|r| r.is_going()).map(|rollout| view::rollout(&rules, rollout, now)).collect();
        let (devices, sites) = fleet(&rules, now);
        let rows_scored = rows(&rules);
        let rows_collected = collected(&rules);
        let running = rules.devices().flat_map(|d| &d.report).flat_map(|report| &report.models);
        let mut names: Vec<_> = running.filter(|model| model.active.is_some()).map(|model| &model.name).collect();
        names.sort();
        names.dedup();
        let models_running = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let alerts = alerts(&rules);
        let mut needs = needs(&rules, &rollouts, devices);
        needs.extend(alerts.iter().map(drifted));
        if let Some(why) = self.refusing_because() {
            needs.insert(0, need("disk", "The hub takes no new work", why, "/", "Look"));
        }
        drop(rules);
        Ok(OverviewView {
            devices,
            models_running,
            rows_scored,
            rows_collected,
            alerts,
            scores_per_minute: self.rate(rows_scored, now),
            needs,
            rollouts,
            sites,
        })
    }

    /// Rows scored in the last minute, by marks a second apart.
    fn rate(&self, rows: u64, now: Millis) -> u64 {
        let mut marks = self.0.rates.lock().unwrap_or_else(PoisonError::into_inner);
        while marks.front().is_some_and(|(at, _)| now.since(*at) > RATE_SPAN) {
            marks.pop_front();
        }
        if marks.back().is_none_or(|(at, _)| now.since(*at) >= RATE_STEP) {
            marks.push_back((now, rows));
        }
        marks.front().map_or(0, |(at, before)| {
            let span = now.since(*at).0.max(RATE_STEP.0);
            rows.saturating_sub(*before).saturating_mul(RATE_SPAN.0) / span
        })
    }

    /// Numbers for Prometheus, none of them by device.
    #[must_use]
    pub fn metrics(&self) -> String {
        let now = clock::now();
        let rules = self.rules();
        let (devices, _) = fleet(&rules, now);
        let going = rules.rollouts().filter(|rollout| rollout.is_going()).count();
        let numbers = [
            ("devices", "Devices enrolled.", u64::from(devices.total)),
            ("devices_online", "Devices connected.", u64::from(devices.online)),
            ("devices_updating", "Devices with an install in progress.", u64::from(devices.updating)),
            ("devices_failed", "Devices whose last install failed.", u64::from(devices.failed)),
            ("models", "Models registered.", rules.models().count() as u64),
            ("rollouts_active", "Rollouts that have not ended.", going as u64),
            ("rows_scored", "Rows scored by the fleet, as acknowledged.", rows(&rules)),
            ("rows_collected", "Rows collected from the fleet.", collected(&rules)),
            ("drift_alerts", "Alerts for drift that stand.", alerts(&rules).len() as u64),
            (
                "records_missing",
                "Records of devices that were lost.",
                rules.devices().map(|d| d.missing).fold(0, u64::saturating_add),
            ),
            ("events", "Sequence of the latest event.", rules.last_event()),
        ];
        drop(rules);
        let registry = Registry::new();
        for (name, help, value) in numbers {
            let Ok(gauge) = IntGauge::new(format!("bellwether_{name}"), help) else { continue };
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            let _registered = registry.register(Box::new(gauge));
        }
        let mut text = Vec::new();
        let _encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn rows(rules: &Rules) -> u64 {
    rules.devices().flat_map(|device| device.scores.values()).map(|totals| totals.rows).fold(0, u64::saturating_add)
}

fn collected(rules: &Rules) -> u64 {
    rules.devices().map(|device| device.collected).fold(0, u64::saturating_add)
}

fn alerts(rules: &Rules) -> Vec<MonitorView> {
    let raised = rules.monitors().filter(|monitor| monitor.verdict.state == State::Alarm);
    let lives = |monitor: &&Monitor| rules.devices().any(|device| view::runs(device, &monitor.key));
    raised.filter(lives).filter_map(|monitor| view::monitor(rules, &monitor.key)).collect()
}

fn drifted(alert: &MonitorView) -> NeedView {
    let (place, query) = match &alert.site {
        Some(site) => (format!("at site {site}"), format!("?site={}", urlencode(site))),
        None => ("on the whole fleet".to_owned(), String::new()),
    };
    let link = format!("/monitors/{}/{}{query}", alert.model, alert.version);
    let title = format!("{} {} drifts {place}", alert.model, alert.version);
    need("drift", title, alert.sentence.clone(), &link, "Look")
}

/// Every byte that is no letter or digit as `%XX`.
fn urlencode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn fleet(rules: &Rules, now: Millis) -> (DeviceTotals, Vec<SiteView>) {
    let mut totals = DeviceTotals::default();
    let mut sites: BTreeMap<String, Vec<SiteDevice>> = BTreeMap::new();
    for device in rules.devices() {
        let state = view::state(device, now);
        totals.total += 1;
        if device.presence(now) == bellwether_hub_core::fleet::Presence::Online {
            totals.online += 1;
        } else {
            totals.offline += 1;
        }
        match state {
            DeviceState::Updating => totals.updating += 1,
            DeviceState::Failed => totals.failed += 1,
            DeviceState::Healthy | DeviceState::Offline | DeviceState::Idle => {}
        }
        let site = device.tags.get("site").cloned().unwrap_or_default();
        sites.entry(site).or_default().push(SiteDevice { id: device.id.to_string(), state });
    }
    (totals, sites.into_iter().map(|(site, devices)| SiteView { site, devices }).collect())
}

fn needs(rules: &Rules, rollouts: &[RolloutView], devices: DeviceTotals) -> Vec<NeedView> {
    let mut needs = Vec::new();
    if rules.trusted().is_err() {
        let detail = "without one nothing can be approved and no device can enrol: bellwether root init";
        needs.push(need("root", "The fleet has no root", detail.to_owned(), "/", "Look"));
    }
    for rollout in rollouts {
        let model = format!("{} {}", rollout.model, rollout.version);
        let link = format!("/rollouts/{}", rollout.id);
        if rollout.state == RolloutState::Paused {
            let why = rollout.stopped_because.clone().unwrap_or_default();
            needs.push(need("rollout", format!("{model} is paused"), why, &link, "Decide"));
        } else if rollout.phase == Some(crate::api::types::RolloutPhase::WaitingForGrant) {
            needs.push(need("grant", format!("{model} waits for a grant"), rollout.waiting_on.clone(), &link, "Look"));
        }
    }
    let latest = rules.models().filter_map(|model| rules.versions_of(&model.name).last());
    needs.extend(latest.filter_map(|record| awaiting(rules, record)));
    if devices.failed > 0 {
        let detail = "their last install was refused or rolled back".to_owned();
        needs.push(need("device", format!("{} devices failed", devices.failed), detail, "/fleet?state=failed", "Look"));
    }
    needs
}

fn awaiting(rules: &Rules, record: &VersionRecord) -> Option<NeedView> {
    let approval = rules.approval(record);
    record.release.as_ref()?;
    if approval.given >= approval.needed || record.rejection.is_some() {
        return None;
    }
    let model = &record.model;
    let detail = format!("{} given, {} needed: bellwether approve {model} --key KEY", approval.given, approval.needed);
    let title = format!("{} {} waits for approval", model.name, model.version);
    Some(need("approval", title, detail, &format!("/approvals/{}/{}", model.name, model.version), "Review"))
}

fn need(kind: &str, title: impl Into<String>, detail: String, link: &str, action: &str) -> NeedView {
    NeedView { kind: kind.to_owned(), title: title.into(), detail, link: link.to_owned(), action: action.to_owned() }
}
