//! Devices of the demo: real agents in one process, each shown one image after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bellwether_agent::score::Pace;
use bellwether_agent::{Accelerator, Agent, Config, Running};
use bellwether_protocol::id::ModelName;
use bellwether_runtime::Data;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::data::{Degraded, Image};

/// Time between two images of one camera.
const FRAME_EVERY: Duration = Duration::from_millis(100);
/// Cameras are many and small: a short window and probation let people watch.
const WINDOW_MS: u64 = 1_000;
/// How long a new model must answer without errors before it stays.
const PROBATION_MS: u64 = 2_500;
/// Longest silence between two reports.
const HEARTBEAT_MS: u64 = 10_000;
/// Length of a window of profiles: several in one of the hub's.
const PROFILE_WINDOW_MS: u64 = 1_000;
/// Rows a minute that one simulated device lets out.
const ROWS_PER_MINUTE: u16 = 60;
/// How slow most simulated devices are, and every fourth one: by definition, so that a story goes the
/// same way on every machine.
const PACE: Pace = Pace { call_us: 150, kib_us: 4 };
const PACE_SLOW: Pace = Pace { call_us: 300, kib_us: 30 };
/// Devices with something to offload to: each simulates its own.
const ACCELERATED_MAX: usize = 8;
/// Memory that one simulated device offers for a model, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;

/// Where devices are, and how they enrol.
#[derive(Clone, Debug)]
pub struct Plan<'p> {
    /// The hub's address.
    pub hub: &'p str,
    /// A token with enough uses.
    pub token: &'p str,
    /// Directory for the devices' own directories.
    pub home: &'p Path,
    /// Their sites; devices are dealt out in turn.
    pub sites: &'p [&'p str],
    /// How many.
    pub devices: usize,
    /// What the first devices of the last site have to offload models to, if anything.
    pub accelerator: Option<Accelerator>,
}

/// How the cameras fared: rows scored, and how many answers were what a person saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    scored: Arc<AtomicU64>,
    right: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Tally {
    /// Rows scored.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.scored.load(Ordering::Relaxed)
    }

    /// Rows whose most probable digit was right.
    #[must_use]
    pub fn right(&self) -> u64 {
        self.right.load(Ordering::Relaxed)
    }

    /// Calls that failed although a model answered before.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Devices that run.
#[derive(Debug)]
pub struct Fleet {
    agents: Vec<Running>,
    cameras: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    tally: Tally,
    degraded: Arc<RwLock<BTreeMap<String, Degraded>>>,
}

/// Whether device `index` is one of the slow ones.
#[must_use]
pub const fn is_slow(index: usize) -> bool {
    index % 4 == 1
}

/// Whether device `index` has something to offload models to: the first of the last site.
#[must_use]
pub const fn is_accelerated(sites: &[&str], index: usize) -> bool {
    let sites = if sites.is_empty() { 1 } else { sites.len() };
    index % sites == sites - 1 && index / sites < ACCELERATED_MAX
}

impl Fleet {
    /// The name of device `index` of a plan: its site and its number there.
    #[must_use]
    pub fn name(sites: &[&str], index: usize) -> String {
        let site = sites.get(index % sites.len().max(1)).copied().unwrap_or("site");
        format!("{site}-{:02}", index / sites.len().max(1) + 1)
    }

    /// Enrols and starts every device, and points its camera at the images.
    ///
    /// # Errors
    ///
    /// If a device cannot enrol or start.
    pub async fn start(
        plan: &Plan<'_>,
        model: &ModelName,
        images: &Arc<[Image]>,
        started: impl Fn(usize),
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let tally = Tally::default();
        let degraded: Arc<RwLock<BTreeMap<String, Degraded>>> = Arc::default();
        let (mut agents, mut cameras) = (Vec::new(), Vec::new());
        for index in 0..plan.devices {
            let agent = Agent::start(config(plan, index)).await?;
            let camera = Camera {
                model: model.clone(),
                images: images.clone(),
                next: index * 37,
                tally: tally.clone(),
                site: site(plan, index).to_owned(),
                degraded: degraded.clone(),
            };
            cameras.push(tokio::spawn(camera.watch(agent.scoring(), stopped.clone())));
            agents.push(agent);
            started(index + 1);
        }
        Ok(Self { agents, cameras, stop, tally, degraded })
    }

    /// How the cameras fared so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets the cameras of a site degrade from now on.
    pub fn degrade(&self, site: &str, how: Degraded) {
        self.degraded.write().unwrap_or_else(PoisonError::into_inner).insert(site.to_owned(), how);
    }

    /// Stops cameras and devices in good order.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for camera in self.cameras {
            let _ended = camera.await;
        }
        for agent in self.agents {
            agent.stop().await;
        }
    }
}

fn config(plan: &Plan<'_>, index: usize) -> Config {
    let name = Fleet::name(plan.sites, index);
    let site = site(plan, index);
    Config {
        hub: plan.hub.to_owned(),
        token: Some(plan.token.to_owned()),
        data: plan.home.join(&name),
        tags: BTreeMap::from([("site".to_owned(), site.to_owned())]),
        serve: false,
        memory_kib: Some(MEMORY_KIB),
        scores_window_ms: WINDOW_MS,
        profile_window_ms: PROFILE_WINDOW_MS,
        collect_rows_per_minute_max: ROWS_PER_MINUTE,
        pace: Some(if is_slow(index) { PACE_SLOW } else { PACE }),
        probation_ms: PROBATION_MS,
        accelerator: plan.accelerator.clone().filter(|_| is_accelerated(plan.sites, index)),
        heartbeat_ms: HEARTBEAT_MS,
        name: Some(name),
        ..Config::default()
    }
}

fn site<'p>(plan: &Plan<'p>, index: usize) -> &'p str {
    plan.sites.get(index % plan.sites.len().max(1)).copied().unwrap_or("site")
}

/// A camera: one image after the other, and a count of what came back.
struct Camera {
    model: ModelName,
    images: Arc<[Image]>,
    next: usize,
    tally: Tally,
    site: String,
    degraded: Arc<RwLock<BTreeMap<String, Degraded>>>,
}

impl Camera {
    /// The next image, as this camera sees it now.
    fn look(&mut self) -> Option<Image> {
        let image = self.images.get(self.next % self.images.len().max(1))?;
        self.next += 1;
        let degraded = self.degraded.read().unwrap_or_else(PoisonError::into_inner).get(&self.site).copied();
        Some(degraded.map_or_else(|| image.clone(), |how| image.degraded(how, self.next as u64)))
    }

    async fn watch(mut self, scoring: bellwether_agent::score::Scoring, mut stopped: watch::Receiver<bool>) {
        let mut frames = tokio::time::interval(FRAME_EVERY);
        frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut answered = false;
        loop {
            tokio::select! {
                _ = frames.tick() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let Some(image) = self.look() else { return };
            match scoring.score(&self.model, std::slice::from_ref(&image.tensor)) {
                Ok(scored) => {
                    answered = true;
                    self.tally.scored.fetch_add(1, Ordering::Relaxed);
                    let digit = scored.outputs.first().and_then(|output| most_probable(output.data()));
                    if digit == Some(usize::from(image.label)) {
                        self.tally.right.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(why) if answered => {
                    tracing::warn!(%why, "a camera got no answer");
                    self.tally.failed.fetch_add(1, Ordering::Relaxed);
                }
                // Nothing is installed yet.
                Err(_) => {}
            }
        }
    }
}

fn most_probable(output: &Data) -> Option<usize> {
    let Data::Fp32(values) = output else { return None };
    values.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(digit, _)| digit)
}
