//! Chapters of the story: a version that is too slow for some devices, a site whose cameras degrade, a
//! site whose model goes to an FPGA.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use bellwether_hub::api::types::{EventQuery, MonitorQuery, MonitorState, RolloutState};

use super::story::{Demo, SITES, until};
use crate::data::Degraded;
use crate::fleet::{Fleet, is_accelerated};

/// How the cameras of a site degrade: out of focus, dimmer, noisy.
const DEGRADED: Degraded = Degraded { gain: 0.7, noise: 0.08 };

/// What was told of drift.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drift {
    /// Alerts raised, of sites and of the fleet.
    pub(super) alerts: usize,
    /// Sites among them.
    pub(super) sites: usize,
}

/// Where the rows of a model with a bitstream were scored, as the hub tells it.
#[derive(Clone, Debug)]
pub(super) struct Offload {
    /// What devices have.
    pub(super) to: String,
    /// Rows of the engine.
    pub(super) engine_rows: u64,
    /// Rows of its twin.
    pub(super) twin_rows: u64,
}

impl Demo {
    /// A version that passes every check but is too slow for some devices: its first stage stops it,
    /// and every device returns to version 2. The number of devices that had it.
    pub(super) async fn roll_back_slow(&self, devices: usize) -> anyhow::Result<u32> {
        self.register_wide().await?;
        let id = self.start_and_grant_first(3).await?;
        let ended = || async {
            let rollout = self.client().rollout(&id).await?;
            Ok(rollout.state.ended().then_some(rollout))
        };
        let rollout = until("version 3 to be taken back", ended).await?;
        if rollout.state != RolloutState::RolledBack || rollout.stage != 0 {
            bail!("rollout {id} is {} in stage {}", rollout.state.label(), rollout.stage + 1);
        }
        let why = rollout.stopped_because.clone().context("a rolled back rollout says why")?;
        self.say(&format!("digits:3 stopped in stage 1 and rolled back: {why}"));
        for failure in &rollout.failures {
            self.say(&format!("  {} × {}: {}", failure.count, failure.text, failure.devices.join(", ")));
        }
        let back = || async { Ok((self.running(2).await? == devices).then_some(())) };
        until("every device to be back on version 2", back).await?;
        self.say(&format!("all {devices} devices run digits:2"));
        Ok(rollout.stages.first().map_or(0, |stage| stage.counts.total))
    }

    /// The cameras of one site degrade: the hub raises an alert for that site and for no other.
    pub(super) async fn degrade_a_site(&self) -> anyhow::Result<Drift> {
        let site = SITES.first().copied().context("there is a site")?;
        let calm = || async {
            let monitors = self.monitors().await?;
            let judged = monitors.iter().filter(|monitor| monitor.state != MonitorState::NotEnoughData);
            Ok((judged.count() > SITES.len()).then_some(()))
        };
        until("every site to be compared with its baseline", calm).await?;
        self.fleet()?.degrade(site, DEGRADED);
        self.say(&format!("the cameras of {site} degrade: out of focus, dimmer, noisy"));
        let raised = || async {
            let mut monitors = self.monitors().await?;
            monitors.retain(|monitor| monitor.site.as_deref() == Some(site) && monitor.state == MonitorState::Alarm);
            Ok(monitors.pop())
        };
        let alert = until("an alert for that site", raised).await?;
        self.say(&format!("alert: {}", alert.sentence));
        let query =
            EventQuery { kind: Some("drift_alert_raised".to_owned()), limit: Some(500), ..EventQuery::default() };
        let events = self.client().events(&query).await?.items;
        let alarmed = self.monitors().await?;
        let alarmed = alarmed.iter().filter(|monitor| monitor.state == MonitorState::Alarm);
        let sites: BTreeSet<&str> = alarmed.filter_map(|monitor| monitor.site.as_deref()).collect();
        Ok(Drift { alerts: events.len(), sites: sites.len() })
    }

    /// A version with eight bits and a bitstream, for the devices that have something to offload to.
    pub(super) async fn offload_a_site(&self, devices: usize) -> anyhow::Result<Offload> {
        const ROWS: u64 = 100;
        let names: Vec<String> = (0..devices)
            .filter(|index| is_accelerated(&SITES, *index))
            .map(|index| Fleet::name(&SITES, index))
            .collect();
        self.register_offloaded().await?;
        let id = self.start_at_once(4, &names).await?;
        self.watch_stage(&id, 0, names.len()).await?;
        let running = || async { Ok((self.running(4).await? == names.len()).then_some(())) };
        until("every device with an FPGA to run version 4", running).await?;
        let told = || async {
            let mut sum = Offload { to: String::new(), engine_rows: 0, twin_rows: 0 };
            for name in &names {
                let device = self.client().device(name).await?;
                let Some(view) = device.models.into_iter().find_map(|model| model.offload) else { return Ok(None) };
                sum.engine_rows += view.engine_rows;
                sum.twin_rows += view.twin_rows;
                view.accelerator.label().clone_into(&mut sum.to);
            }
            Ok((sum.engine_rows + sum.twin_rows >= ROWS).then_some(sum))
        };
        let sum = until("the hub to be told where rows are scored", told).await?;
        self.say(&format!(
            "digits:4 on {} devices, offloaded to {}: {} rows by the engine, {} by its twin",
            names.len(),
            sum.to,
            sum.engine_rows,
            sum.twin_rows
        ));
        Ok(sum)
    }

    async fn monitors(&self) -> anyhow::Result<Vec<bellwether_hub::api::types::MonitorView>> {
        let query = MonitorQuery { model: Some("digits".to_owned()), version: Some(2), ..MonitorQuery::default() };
        Ok(self.client().monitors(&query).await?.items)
    }
}
