//! The steps, in order, and what makes each of them true.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bellwether_agent::Accelerator;
use bellwether_hub::api::types::{DeviceQuery, RegisterRequest, RolloutPhase, RolloutState, RolloutView};
use bellwether_hub::client::{Client, ClientError};
use bellwether_hub::config::Config;
use bellwether_hub::run::{self, Running};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::ModelName;
use serde::Serialize;
use tempfile::TempDir;

use super::console::Console;
use super::{Options, forged};
use crate::data::{Image, csv, held_out};
use crate::fleet::{Fleet, Plan};

/// Where the cameras hang.
pub(super) const SITES: [&str; 3] = ["lyon", "oslo", "turin"];
/// Watch of a settled stage, in seconds.
const SOAK_SECONDS: u32 = 1;
/// Least length of the hub's windows of drift, in seconds: people watch.
const DRIFT_WINDOW_SECONDS: u64 = 4;
/// Latency budget of every version, in milliseconds.
const BUDGET_MS: u32 = 5;
/// A step that takes longer has failed.
const STEP_MAX: Duration = Duration::from_secs(120);
/// How often the hub is asked how far a step is.
const ASK_EVERY: Duration = Duration::from_millis(100);

const LINEAR: &[u8] = include_bytes!("../../../tests/data/digits-linear.onnx");
const LINEAR_VECTORS: &[u8] = include_bytes!("../../../tests/data/digits-linear.vectors.npz");
const CNN: &[u8] = include_bytes!("../../../tests/data/digits-cnn.onnx");
const CNN_VECTORS: &[u8] = include_bytes!("../../../tests/data/digits-cnn.vectors.npz");
const WIDE: &[u8] = include_bytes!("../../../tests/data/digits-cnn-wide.onnx");
const WIDE_VECTORS: &[u8] = include_bytes!("../../../tests/data/digits-cnn-wide.vectors.npz");

const EIGHT: &[u8] = include_bytes!("../../../tests/data/digits-cnn-eight.onnx");
const EIGHT_VECTORS: &[u8] = include_bytes!("../../../tests/data/digits-cnn-eight.vectors.npz");

/// What truly happened, as the hub tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Devices enrolled and heard of.
    pub devices: usize,
    /// Devices that committed version 1 before version 2 came.
    pub running_v1: usize,
    /// Devices that report version 2 as active and committed.
    pub running_v2: usize,
    /// Rows scored by the fleet that the hub has acknowledged.
    pub scored: u64,
    /// Calls that failed across both rollouts.
    pub failed_calls: u64,
    /// Share of the cameras' images told right by version 1.
    pub accuracy_v1: f64,
    /// Share of the cameras' images told right by version 2.
    pub accuracy_v2: f64,
    /// Versions refused by their golden vectors: by the command line, and by the hub.
    pub refused: usize,
    /// Devices that had version 3 and are back on version 2.
    pub rolled_back: u32,
    /// Rows of input that the hub collected from the fleet.
    pub rows_collected: u64,
    /// Alerts for drift that were raised.
    pub drift_alerts: usize,
    /// Sites among them.
    pub sites_alerted: usize,
    /// What one site offloads its model to.
    pub offloaded_to: String,
    /// Rows that an engine scored there.
    pub engine_rows: u64,
    /// Rows that its twin scored there, in software.
    pub twin_rows: u64,
    /// Seconds from the hub's start to the end of the story.
    pub seconds: f64,
}

/// A hub and, once they enrolled, its devices.
pub(super) struct Demo {
    home: PathBuf,
    _temporary: Option<TempDir>,
    hub: Running,
    client: Client,
    console: Console,
    fleet: Option<Fleet>,
}

impl Demo {
    pub(super) async fn open(options: &Options) -> anyhow::Result<Self> {
        let (home, temporary) = match &options.data {
            Some(directory) => (directory.clone(), None),
            None => {
                let directory = tempfile::Builder::new().prefix("bellwether-demo-").tempdir()?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let config = Config { data: home.join("hub"), drift_window_seconds: DRIFT_WINDOW_SECONDS, ..Config::default() };
        let hub = run::start(config).await?;
        let Some(first) = hub.first_login() else {
            bail!("{} holds a hub already: name an empty directory", home.display());
        };
        let client = Client::new(&hub.url(), Some(first.token.clone()))?;
        let console = Console::new(hub.url(), first.token.clone(), &home.join("operator"));
        console.say(&format!("hub serves; data in {}", home.display()));
        console.say(&format!("dashboard: {}/login?code={}", hub.url(), first.code));
        Ok(Self { home, _temporary: temporary, hub, client, console, fleet: None })
    }

    /// Everything, until both versions are told and the third is refused.
    pub(super) async fn tell(&mut self, devices: usize, accelerator: Accelerator) -> anyhow::Result<Outcome> {
        let model: ModelName = "digits".parse()?;
        self.make_root().await?;
        self.start_fleet(devices, &model, accelerator).await?;
        self.register(1, "linear", (LINEAR, LINEAR_VECTORS), "").await?;
        self.roll_out(1, devices).await?;
        let running_v1 = self.running(1).await?;
        let accuracy_v1 = self.watch_cameras().await?;
        self.register(2, "cnn", (CNN, CNN_VECTORS), "").await?;
        self.roll_out(2, devices).await?;
        let accuracy_v2 = self.watch_cameras().await?;
        let refused = self.refuse(&model).await?;
        let rolled_back = self.roll_back_slow(devices).await?;
        let running_v2 = self.running(2).await?;
        let drift = self.degrade_a_site().await?;
        let offloaded = self.offload_a_site(devices).await?;
        let overview = self.client.overview().await?;
        let outcome = Outcome {
            devices: usize::try_from(overview.devices.online)?,
            running_v1,
            running_v2,
            scored: overview.rows_scored,
            failed_calls: self.fleet.as_ref().map_or(0, |fleet| fleet.tally().failed()),
            accuracy_v1,
            accuracy_v2,
            refused,
            rolled_back,
            rows_collected: overview.rows_collected,
            drift_alerts: drift.alerts,
            sites_alerted: drift.sites,
            offloaded_to: offloaded.to,
            engine_rows: offloaded.engine_rows,
            twin_rows: offloaded.twin_rows,
            seconds: (self.console.seconds() * 10.0).round() / 10.0,
        };
        check(&outcome, devices)?;
        Ok(outcome)
    }

    pub(super) async fn wait_for_ctrl_c(&self, outcome: Outcome) -> anyhow::Result<Outcome> {
        let first = self.hub.hub().make_code();
        self.console.say(&format!("the fleet goes on until Ctrl-C; dashboard: {}/login?code={first}", self.hub.url()));
        tokio::signal::ctrl_c().await?;
        Ok(outcome)
    }

    pub(super) async fn close(self) {
        if let Some(fleet) = self.fleet {
            fleet.stop().await;
        }
        self.hub.stop().await;
    }

    /// Three persons and a publisher: demo keys, made on the spot and marked as such.
    async fn make_root(&self) -> anyhow::Result<()> {
        for (name, role) in
            [("demo-ada", "publish"), ("demo-bo", "approve"), ("demo-cy", "approve"), ("demo-di", "approve")]
        {
            self.console.command(&format!("key new {name} --person {name} --role {role}")).await?;
        }
        self.console
            .command("root init --publisher demo-ada --approver demo-bo --approver demo-cy --approver demo-di")
            .await?;
        Ok(())
    }

    async fn start_fleet(&mut self, devices: usize, model: &ModelName, accelerator: Accelerator) -> anyhow::Result<()> {
        let made = self.console.json(&format!("device token --uses {devices}")).await?;
        let token = made.get("token").and_then(|token| token.as_str()).context("the command printed no token")?;
        let images: Arc<[Image]> = held_out()?.into();
        let url = self.hub.url();
        let home = self.home.join("devices");
        let plan = Plan { hub: &url, token, home: &home, sites: &SITES, devices, accelerator: Some(accelerator) };
        let bar = self.console.bar("devices enrolled", devices as u64);
        let fleet = Fleet::start(&plan, model, &images, |count| bar.set_position(count as u64)).await?;
        bar.finish_and_clear();
        self.fleet = Some(fleet);
        let online = || async { Ok((self.client.overview().await?.devices.online as usize >= devices).then_some(())) };
        until("every device to be online", online).await?;
        self.console.say(&format!("{devices} devices enrolled in {} sites, all online", SITES.len()));
        Ok(())
    }

    async fn register(
        &self,
        version: u32,
        kind: &str,
        (model, vectors): (&[u8], &[u8]),
        more: &str,
    ) -> anyhow::Result<()> {
        let [model, vectors] = self.files(kind, model, vectors)?;
        let (baseline, held_out) = (self.sample("baseline.csv", false)?, self.sample("held-out.csv", true)?);
        let line = format!(
            "model register digits {model} --vectors {vectors} --baseline {baseline} --held-out {held_out} \
             --max-p95-ms {BUDGET_MS} --collect-one-in 10 --collect-below 0.6 \
             --tag team=vision --tag kind={kind} {more} --key demo-ada"
        );
        let view = self.console.json(&line).await?;
        if view.get("version").and_then(serde_json::Value::as_u64) != Some(version.into()) {
            bail!("version {version} was expected: {view}");
        }
        for key in ["demo-bo", "demo-cy"] {
            self.console.command(&format!("approve digits:{version} --key {key}")).await?;
        }
        Ok(())
    }

    /// Writes the digits as a team would hand them in; the path.
    fn sample(&self, name: &str, held_out: bool) -> anyhow::Result<String> {
        let directory = self.home.join("models");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(name);
        if !path.exists() {
            std::fs::write(&path, csv(held_out)?)?;
        }
        Ok(path.display().to_string())
    }

    fn files(&self, kind: &str, model: &[u8], vectors: &[u8]) -> anyhow::Result<[String; 2]> {
        let directory = self.home.join("models");
        std::fs::create_dir_all(&directory)?;
        let paths =
            [directory.join(format!("digits-{kind}.onnx")), directory.join(format!("digits-{kind}.vectors.npz"))];
        for (path, bytes) in paths.iter().zip([model, vectors]) {
            std::fs::write(path, bytes)?;
        }
        Ok(paths.map(|path| path.display().to_string()))
    }

    /// Two named devices, then a quarter, then all; a person grants each stage when the one before
    /// has passed.
    async fn roll_out(&self, version: u32, devices: usize) -> anyhow::Result<()> {
        let id = self.start_rollout(version).await?;
        for (stage, cohort) in
            [canaries("--device ", " "), "--percent 25".to_owned(), "--percent 100".to_owned()].iter().enumerate()
        {
            self.console.command(&format!("grant digits:{version} {cohort} --key demo-bo")).await?;
            self.watch_stage(&id, stage, devices).await?;
        }
        let running = || async { Ok((self.running(version).await? == devices).then_some(())) };
        until("every device to run the version", running).await?;
        self.console.say(&format!("digits:{version} runs on all {devices} devices"));
        Ok(())
    }

    /// Starts a rollout in three stages; its id.
    async fn start_rollout(&self, version: u32) -> anyhow::Result<String> {
        let stages = format!("--stage device={} --stage 25% --stage 100%", canaries("", ","));
        let line = format!("rollout start digits:{version} {stages} --soak-seconds {SOAK_SECONDS}");
        let started = self.console.json(&line).await?;
        Ok(started.get("id").and_then(|id| id.as_str()).context("the command printed no id")?.to_owned())
    }

    pub(super) async fn watch_stage(&self, id: &str, stage: usize, devices: usize) -> anyhow::Result<()> {
        let bar = self.console.bar("devices healthy", devices as u64);
        let passed = || async {
            let rollout = self.client.rollout(id).await?;
            if matches!(rollout.state, RolloutState::Paused | RolloutState::Aborted) {
                bail!("rollout {id} is {}: {:?}", rollout.state.label(), rollout.stopped_because);
            }
            if let Some(now) = rollout.stages.get(stage) {
                bar.set_length(now.counts.total.into());
                bar.set_position(now.counts.healthy.into());
            }
            Ok(has_passed(&rollout, stage).then_some(rollout))
        };
        let rollout = until("the stage to pass its gate", passed).await?;
        bar.finish_and_clear();
        if let Some(stage) = rollout.stages.get(stage) {
            let counts = stage.counts;
            self.console.say(&format!("stage {}: {} of {} devices healthy", stage.label, counts.healthy, counts.total));
        }
        Ok(())
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn say(&self, text: &str) {
        self.console.say(text);
    }

    pub(super) fn fleet(&self) -> anyhow::Result<&Fleet> {
        self.fleet.as_ref().context("the fleet was started")
    }

    pub(super) async fn register_wide(&self) -> anyhow::Result<()> {
        self.register(3, "cnn-wide", (WIDE, WIDE_VECTORS), "").await
    }

    pub(super) async fn register_offloaded(&self) -> anyhow::Result<()> {
        self.register(4, "cnn-eight", (EIGHT, EIGHT_VECTORS), "--bitstream up5k").await
    }

    /// Starts a rollout to these devices alone, and grants it; its id.
    pub(super) async fn start_at_once(&self, version: u32, devices: &[String]) -> anyhow::Result<String> {
        let stage = devices.join(",");
        let line = format!("rollout start digits:{version} --stage device={stage} --soak-seconds {SOAK_SECONDS}");
        let started = self.console.json(&line).await?;
        let cohort: String = devices.iter().map(|device| format!(" --device {device}")).collect();
        self.console.command(&format!("grant digits:{version}{cohort} --key demo-bo")).await?;
        Ok(started.get("id").and_then(|id| id.as_str()).context("the command printed no id")?.to_owned())
    }

    /// Starts a rollout and grants its first stage; its id.
    pub(super) async fn start_and_grant_first(&self, version: u32) -> anyhow::Result<String> {
        let id = self.start_rollout(version).await?;
        self.console.command(&format!("grant digits:{version} {} --key demo-bo", canaries("--device ", " "))).await?;
        Ok(id)
    }

    /// Devices that report `version` as active and committed.
    pub(super) async fn running(&self, version: u32) -> anyhow::Result<usize> {
        let page = self.client.devices(&DeviceQuery { limit: Some(500), ..DeviceQuery::default() }).await?;
        let runs = |device: &bellwether_hub::api::types::DeviceView| {
            device.models.iter().any(|model| {
                model.name == "digits"
                    && model.phase == "committed"
                    && model.active.as_ref().is_some_and(|active| active.version == version)
            })
        };
        Ok(page.items.iter().filter(|device| runs(device)).count())
    }

    /// Lets the cameras see a few hundred images with what runs now; the share told right.
    async fn watch_cameras(&self) -> anyhow::Result<f64> {
        const IMAGES: u64 = 400;
        let tally = self.fleet.as_ref().context("the fleet was started")?.tally();
        let (scored, right) = (tally.scored(), tally.right());
        until("the cameras to see more images", || async { Ok((tally.scored() - scored >= IMAGES).then_some(())) })
            .await?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred images")]
        let share = (tally.right() - right) as f64 / (tally.scored() - scored) as f64;
        self.console.say(&format!("cameras: {:.1} % of the digits told right", share * 100.0));
        Ok((share * 1000.0).round() / 1000.0)
    }

    /// Somebody takes an older model for the one that the vectors were made of: refused where it is
    /// packed, and again by the hub when somebody skips that check.
    async fn refuse(&self, model: &ModelName) -> anyhow::Result<usize> {
        let [file, vectors] = self.files("mistaken", LINEAR, WIDE_VECTORS)?;
        let line = format!("model register digits {file} --vectors {vectors} --key demo-ada");
        let done = self.console.try_type(&line, &[]).await?;
        if done.ok || !done.err.contains("golden vectors") {
            bail!("the mistaken model was not refused by its golden vectors: {}", done.err.trim());
        }
        self.console.say(&format!("refused: {}", done.err.trim()));
        let package = forged::package(model, LINEAR, WIDE_VECTORS)?;
        let uploaded = self.client.put_package(package).await?;
        let request = RegisterRequest {
            package: uploaded.digest,
            source: Digest::of(LINEAR).to_string(),
            file_name: "digits-linear.onnx".to_owned(),
            ..RegisterRequest::default()
        };
        match self.client.register(model.as_str(), &request).await {
            Err(ClientError::Refused(problem)) if problem.code == "golden_mismatch" => {
                self.console.say(&format!("refused by the hub as well: {}", problem.detail));
                Ok(2)
            }
            other => {
                bail!("the hub did not refuse the mistaken model by its golden vectors: {other:?}")
            }
        }
    }
}

/// The devices of the first stage: one of the usual kind, one of the slow ones.
fn canaries(before: &str, between: &str) -> String {
    [0, 1].map(|index| format!("{before}{}", Fleet::name(&SITES, index))).join(between)
}

fn has_passed(rollout: &RolloutView, stage: usize) -> bool {
    let now = rollout.stage as usize;
    rollout.state == RolloutState::Completed
        || now > stage && matches!(rollout.phase, Some(RolloutPhase::WaitingForGrant))
}

/// Asks until there is an answer.
pub(super) async fn until<T, A>(what: &str, ask: impl Fn() -> A) -> anyhow::Result<T>
where
    A: Future<Output = anyhow::Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if begun.elapsed() > STEP_MAX {
            bail!("waited {} s for {what}", STEP_MAX.as_secs());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The story counts only if all of it is true.
fn check(outcome: &Outcome, devices: usize) -> anyhow::Result<()> {
    let whole = outcome.devices == devices
        && outcome.running_v1 == devices
        && outcome.running_v2 == devices
        && outcome.scored > 0
        && outcome.failed_calls == 0
        && outcome.rolled_back > 0
        && outcome.rows_collected > 0
        && outcome.sites_alerted == 1
        && outcome.refused == 2
        && outcome.engine_rows + outcome.twin_rows > 0;
    if whole { Ok(()) } else { bail!("not every step happened: {}", serde_json::to_string(outcome)?) }
}
