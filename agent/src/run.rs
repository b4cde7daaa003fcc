//! The composition root: who the device is, what it keeps, and the loops that run.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use axum::Router;
use bellwether_agent_core::update::{Held, Install, Step};
use bellwether_agent_core::{Brain, Config as BrainConfig, Input, Refused, State, Told as Statement};
use bellwether_link::{Link, Options};
use bellwether_protocol::SigningKey;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, ModelName};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::device_filter;
use bellwether_protocol::trust::{Checkpoint, ModelReport, Order, PublicKey, Root, Signed, TrustedRoot};
use bellwether_runtime::Tensor;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span};

use crate::clock::{self, Clock};
use crate::conditions::Conditions;
use crate::config::{Config, ConfigError, LISTEN_DEFAULT};
use crate::drive::{self, Driver, Greeter};
use crate::enrol::{self, Token, Told};
use crate::error::{AgentError, Failed};
use crate::host::{Fault, Hosts};
use crate::identity;
use crate::journal;
use crate::local;
use crate::offload::{Accelerator, Setup};
use crate::score::{Rules, ScoreFault, Scored, Scoring, http};
use crate::slot::Slots;
use crate::store::{Enrolled, Store};
use crate::trial::Trial;

/// Longest silence towards the broker.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How a device is, for people and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The device.
    pub device: DeviceId,
    /// Whether the broker is reached.
    pub connected: bool,
    /// Whether no hub has told the time for a day, though it was asked.
    pub stale: bool,
    /// The latest assignment taken.
    pub seen: Order,
    /// Why the latest assignment as a whole was refused, if it was.
    pub refused: Option<Reject>,
    /// The models, as reported.
    pub models: Vec<ModelReport>,
    /// Records that wait for the hub.
    pub waiting: u64,
}

impl Status {
    /// Before anything was received or sent.
    fn first(brain: &Brain) -> Self {
        Self {
            device: brain.config().device.clone(),
            connected: false,
            stale: false,
            seen: brain.state().seen,
            refused: None,
            models: brain.report().models.to_vec(),
            waiting: 0,
        }
    }
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

/// An agent that runs; dropping it stops it without a farewell, [`Running::stop`] with one.
#[derive(Debug)]
pub struct Running {
    device: DeviceId,
    listen: Option<SocketAddr>,
    scoring: Scoring,
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// The device's name.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Where it serves scores over HTTP.
    #[must_use]
    pub const fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Scores with the active version of a model, counted like a call over HTTP. Blocks for as long
    /// as the model takes.
    ///
    /// # Errors
    ///
    /// [`ScoreFault`].
    pub fn score(&self, model: &ModelName, inputs: &[Tensor]) -> Result<Scored, ScoreFault> {
        self.scoring.score(model, inputs)
    }

    /// The models that answer, to be shared with other tasks.
    #[must_use]
    pub fn scoring(&self) -> Scoring {
        self.scoring.clone()
    }

    /// How the device is now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How the device is, to wait for changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Drains: finishes calls under way, writes everything down, says farewell.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has said so already.
            let _ = task.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Agent {
    /// Starts an agent: enrols it if a token is given, loads the models it has, serves, connects.
    ///
    /// # Errors
    ///
    /// [`AgentError`], each saying what to do next.
    pub async fn start(config: Config) -> Result<Running, AgentError> {
        let span = journal::span();
        // Boxed, so that the brain in it does not live in the caller's future.
        Box::pin(Self::start_here(config, span.clone()).instrument(span)).await
    }

    async fn start_here(config: Config, span: Span) -> Result<Running, AgentError> {
        config.check()?;
        make_data(&config.data)?;
        let key = identity::load_or_make(&config.data)?;
        let store = Store::open(&config.data)?;
        let (device, enrolled, told) = enrolled(&config, &store, &key).await?;
        span.record("device", tracing::field::display(&device));
        let root = enrol::open_root(enrolled.fleet, &enrolled.root).map_err(|why| AgentError::WrongFleet { why })?;
        let address = enrolled.broker.parse().map_err(|why: bellwether_link::BadAddress| AgentError::Misbehaved {
            hub: config.hub.clone(),
            why: why.to_string(),
        })?;
        let clock = Clock::start();
        let conditions = Conditions::new(config.install_windows.clone(), config.install_on_mains);
        let mut brain = brain(&config, (&device, &key), root, store.state()?, (&conditions, clock))?;
        learn(&mut brain, clock.now(), &told).map_err(|why| AgentError::WrongFleet { why })?;
        let memory_kib = brain.config().memory_kib;
        store.put_state(brain.state())?;
        let slots = Slots::new(&config.data);
        let scoring =
            Scoring::new(Rules { rows_per_minute_max: config.collect_rows_per_minute_max, pace: config.pace });
        let program = config.trial_program.clone();
        let (hosts, crashes) = Hosts::new(program, config.self_test_ms, config.call_ms_max, memory_kib);
        let setup = config.accelerator.clone().map(|accelerator| Setup::new(accelerator, &config.data));
        let accelerator = config.accelerator.as_ref().map(Accelerator::reported);
        let (hosts, offloaded) = hosts.offloading(setup);
        brain = Box::pin(load_all(brain, (slots.clone(), hosts.clone()), scoring.clone(), clock)).await?;
        let (stop, stopped) = watch::channel(false);
        let (status_is, status) = watch::channel(Status::first(&brain));
        let beside = local::router(status.clone(), conditions.asked.clone(), clock);
        let (listen, server) = serve(&config, &scoring, beside, stopped.clone()).await?;
        let session = Arc::new(AtomicU32::new(0));
        let (fleet, boot, password) = (enrolled.fleet, brain.config().boot, enrolled.password);
        let (id, mine, kept, count) = (device.clone(), key.clone(), store.clone(), Arc::clone(&session));
        let greeter = Greeter { device: id, key: mine, fleet, boot, store: kept, password, session: count };
        let (link, arrivals) = Link::open(Options {
            address,
            trust: config.trust(),
            client_id: device.to_string(),
            subscriptions: vec![device_filter(&device).as_str().to_owned()],
            keep_alive: KEEP_ALIVE,
            greet: Box::new(move || greeter.greet()),
        });
        let (done, done_here) = mpsc::channel(drive::DONE_MAX);
        let driver = Driver {
            outbox: store.outbox(config.outbox())?,
            brain: Box::new(brain),
            store,
            scoring: scoring.clone(),
            slots,
            trial: Trial::new(config.trial_program, config.self_test_ms, memory_kib),
            hosts,
            conditions,
            link,
            key,
            fleet,
            clock,
            session,
            status: status_is,
            done,
            window: Millis(config.scores_window_ms),
            profile_window: Millis(config.profile_window_ms),
            span: span.clone(),
            rest: drive::Rest::new(accelerator),
        };
        let mut tasks =
            vec![tokio::spawn(driver.run(arrivals, (done_here, crashes, offloaded), stopped).instrument(span))];
        tasks.extend(server);
        Ok(Running { device, listen, scoring, status, stop, tasks })
    }
}

/// The public key of the device in this directory, made if there is none yet.
///
/// # Errors
///
/// [`AgentError`] if the directory or the key in it cannot be used.
pub fn device_key(data: &Path) -> Result<PublicKey, AgentError> {
    make_data(data)?;
    identity::load_or_make(data).map(|key| identity::public(&key))
}

/// Makes the directory of the device's own, which holds its key and the broker's password.
fn make_data(data: &Path) -> Result<(), AgentError> {
    const OWNER_ONLY: u32 = 0o700;
    let fault = |what| move |why| AgentError::Disk { what, path: data.to_owned(), why };
    std::fs::create_dir_all(data).map_err(fault("cannot make the directory"))?;
    let mode = std::fs::metadata(data).map_err(fault("cannot look at the directory"))?.permissions().mode();
    if mode & 0o777 != OWNER_ONLY
        && let Err(why) = std::fs::set_permissions(data, Permissions::from_mode(OWNER_ONLY))
    {
        // A mounted volume may be another user's, with rights that only that user can change.
        tracing::warn!(path = %data.display(), %why, "others may read the directory with the device's secrets");
    }
    Ok(())
}

/// Who the device is: enrolled now with the token, or as it was before.
async fn enrolled(config: &Config, store: &Store, key: &SigningKey) -> Result<(DeviceId, Enrolled, Told), AgentError> {
    let known = store.enrolled()?;
    let Some(text) = &config.token else {
        let known = known.ok_or(AgentError::NotEnrolled)?;
        if let Some(asked) = config.name.as_ref().filter(|name| **name != known.device) {
            let expected = "the name this directory was enrolled with; to enrol it anew give a --token";
            return Err(ConfigError::Value { key: "name", got: format!("`{asked}`"), expected }.into());
        }
        let config = Config { name: Some(known.device.clone()), ..Config::default() };
        return Ok((config.device()?, known, Told::default()));
    };
    let token = Token::parse(text)?;
    if let Some(other) = known.as_ref().filter(|known| known.fleet != token.fleet) {
        return Err(AgentError::OtherFleet { have: other.fleet.to_string(), asked: token.fleet.to_string() });
    }
    let device = match (&config.name, &known) {
        (None, Some(known)) => Config { name: Some(known.device.clone()), ..Config::default() }.device()?,
        _ => config.device()?,
    };
    match (enrol::enrol(config, &token, &device, key).await, known) {
        (Ok((enrolled, told)), _) => {
            store.put_enrolled(&enrolled)?;
            tracing::info!(%device, fleet = %token.fleet, "enrolled");
            Ok((device, enrolled, told))
        }
        (Err(why @ AgentError::Unreachable { .. }), Some(known)) if known.device == device.as_str() => {
            tracing::warn!(%why, "enrolled before: starting with what is known");
            Ok((device, known, Told::default()))
        }
        (Err(why), _) => Err(why),
    }
}

/// Takes the roots that followed the first, which the device may know in part, and the checkpoint of
/// its token: nothing is installed before.
fn learn(brain: &mut Brain, now: Millis, told: &Told) -> Result<(), Reject> {
    for bytes in &told.roots {
        let signed: Signed<'_> = frame::decode(bytes)?;
        let root: Root = signed.peek()?;
        if root.version > brain.root().root().version {
            take(brain, now, Statement::Root(&signed))?;
        }
    }
    if let Some(bytes) = &told.checkpoint {
        let signed: Signed<'_> = frame::decode(bytes)?;
        let checkpoint: Checkpoint = signed.peek()?;
        if checkpoint.number > brain.state().trust.counters().checkpoint_number() {
            take(brain, now, Statement::Checkpoint(&signed))?;
        }
    }
    Ok(())
}

fn take(brain: &mut Brain, now: Millis, statement: Statement<'_>) -> Result<(), Reject> {
    match brain.handle(now, Input::Told(statement)) {
        Err(Refused::Rejected(reject)) => Err(reject),
        Err(Refused::OutOfTurn) | Ok(()) => Ok(()),
    }
}

fn brain(
    config: &Config,
    (device, key): (&DeviceId, &SigningKey),
    root: TrustedRoot,
    state: State,
    (conditions, clock): (&Conditions, Clock),
) -> Result<Brain, AgentError> {
    let known_day = state.trust.counters().tick().map_or(0, |tick| tick.epoch);
    let mut numbers = env!("CARGO_PKG_VERSION").split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let hardware = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let config = BrainConfig {
        device: device.clone(),
        key: identity::public(key).id(),
        boot: getrandom::u64().map_err(|why| AgentError::Storage(why.to_string()))?,
        agent: [number(), number(), number()],
        operators: bellwether_runtime::OPERATORS_NEWEST,
        hardware: hardware.parse().map_err(|_| AgentError::Storage(format!("hardware class `{hardware}`")))?,
        memory_kib: config.memory(),
        probation: Millis(config.probation_ms),
        errors_max: config.probation_errors_max,
        // The trial first, then its host; both bounds by themselves, this one for the two together.
        self_test: Millis(config.self_test_ms.saturating_mul(2)),
        heartbeat: Millis(config.heartbeat_ms),
        holds: conditions.holds(clock.now(), clock::wall(), known_day),
    };
    Ok(Brain::restore(config, root, state))
}

/// Has a model hosted that should score in the shadow; if it cannot, that is its end there.
fn shadow(
    brain: &mut Brain,
    (slots, hosts): (&Slots, &Hosts),
    (scoring, clock): (&Scoring, Clock),
    (name, held): (&ModelName, Held),
) {
    let running = held.target.running;
    let opened = slots.of(name).map_err(Failed::from).and_then(|dir| drive::open(hosts, &dir, name, &held));
    let begun = opened.and_then(|(fitted, loaded)| {
        loaded.map_err(Fault::into_failed)?;
        scoring.shadow(name, running, fitted).map_err(Failed::from)
    });
    if let Err(Failed { reject, cause, .. }) = begun {
        tracing::error!(model = %name, %reject, cause, "it cannot score in the shadow");
        let step = Step::Failed(reject);
        if let Err(why) = brain.handle(clock.now(), Input::Install { name, release: running.release, step }) {
            tracing::warn!(%why, "the loss of a model is refused");
        }
    }
}

/// Has every model that should answer hosted; one whose slot is damaged gives way by the brain's
/// rules, and one whose process died is counted and tried again.
async fn load_all(
    mut brain: Brain,
    (slots, hosts): (Slots, Hosts),
    scoring: Scoring,
    clock: Clock,
) -> Result<Brain, AgentError> {
    let span = Span::current();
    let load = move || {
        let _agent = span.entered();
        for model in brain.state().models.clone() {
            if let Install::Shadow(target) = model.install {
                let held = Held { target, slot: model.spare() };
                shadow(&mut brain, (&slots, &hosts), (&scoring, clock), (&model.name, held));
            }
            let Some(held) = model.active else { continue };
            // What is being taken away, perhaps for taking the agent down, is not started once more.
            if let Install::RollingBack { target, .. } = model.install
                && target.running.release == held.target.running.release
            {
                continue;
            }
            let release = held.target.running.release;
            let dir = slots.of(&model.name).map_err(Failed::from);
            let opened = dir.and_then(|dir| drive::open(&hosts, &dir, &model.name, &held));
            let (failed, input) = match opened {
                Ok((fitted, Ok(()))) => {
                    scoring.swap(&model.name, held.target.running, fitted);
                    continue;
                }
                Ok((fitted, Err(Fault::Died(failed)))) => {
                    scoring.swap(&model.name, held.target.running, fitted);
                    (failed, Input::Crashed { name: &model.name, release })
                }
                Ok((_, Err(Fault::Refused(failed)))) | Err(failed) => {
                    let step = Step::Failed(failed.reject);
                    (failed, Input::Install { name: &model.name, release, step })
                }
            };
            let (reject, cause) = (failed.reject, failed.cause);
            tracing::error!(model = %model.name, %reject, cause, "the active model cannot be loaded");
            if let Err(why) = brain.handle(clock.now(), input) {
                tracing::warn!(%why, "the loss of a model is refused");
            }
        }
        brain
    };
    tokio::task::spawn_blocking(load).await.map_err(|why| AgentError::Storage(why.to_string()))
}

/// Serves scores, on a free port if nobody chose one and the usual one is taken.
async fn serve(
    config: &Config,
    scoring: &Scoring,
    beside: Router,
    mut stopped: watch::Receiver<bool>,
) -> Result<(Option<SocketAddr>, Option<JoinHandle<()>>), AgentError> {
    if !config.serve {
        return Ok((None, None));
    }
    let at = config.listen.unwrap_or(LISTEN_DEFAULT);
    let listener = match TcpListener::bind(at).await {
        Err(_) if config.listen.is_none() => TcpListener::bind(SocketAddr::new(at.ip(), 0)).await,
        listener => listener,
    };
    let fault = |why| AgentError::Listen { at: at.to_string(), why };
    let listener = listener.map_err(fault)?;
    let listen = listener.local_addr().map_err(fault)?;
    let router = http::router(scoring.clone()).merge(beside);
    let task = tokio::spawn(async move {
        let stop = async move {
            // An error means that the agent is gone, which is a stop, too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(why) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%why, "the scoring service ended");
        }
    });
    Ok((Some(listen), Some(task)))
}
