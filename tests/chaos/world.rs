//! What chaos is made in: a hub, its broker, proxies before both, devices; and what people allowed.
//!
//! ```text
//!   devices ──> 127.0.0.2 (proxies) ──> 127.0.0.1: hub, and its own broker or mosquitto
//!                     ^── hub, where the broker is mosquitto
//!   people and whoever watches ───────> 127.0.0.1: hub
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bellwether_hub::client::Client;
use bellwether_protocol::digest::Digest;
use bellwether_tests::files::{binary, data, noise};
use bellwether_tests::mosquitto::free_port;
use bellwether_tests::{Cli, Fleet, Mosquitto};

use crate::device::{Device, Plan};
use crate::proxy::Proxy;
use crate::timeline::{Timeline, held};

/// Where the proxies listen: loopback, and not where anything else does.
const PROXIED: &str = "127.0.0.2";
/// Devices from the beginning. The first is never killed.
pub(crate) const DEVICES: usize = 8;
/// The devices of the first stage of every rollout.
pub(crate) const FIRST_STAGE: [&str; 2] = ["gw-2", "gw-3"];
/// Versions there are; chaos begins when the first is everywhere.
pub(crate) const VERSIONS: u32 = 7;
/// The version whose process dies in its self-test on every device.
pub(crate) const BAD: u32 = 2;
/// The version that becomes the floor once it is everywhere.
pub(crate) const FLOOR: u32 = 3;
/// Every row that is scored is collected.
const COLLECT: [&str; 4] = ["--collect-one-in", "1", "--collect-per-minute", "600"];
const AGENT: &str = "probation_ms = 1500\nscores_window_ms = 500\nheartbeat_ms = 2000\n\
                     collect_rows_per_minute_max = 600\n";
const HUB: &str = "collect_seal_seconds = 3\n";
/// Bytes beside the model in each package: some chunks to be cut off between.
const EXTRA_BYTES: usize = 300 * 1024;

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) devices: Vec<Arc<Device>>,
    pub(crate) to_broker: Proxy,
    pub(crate) to_hub: Proxy,
    pub(crate) cli: Cli,
    pub(crate) client: Client,
    fleet: Mutex<Fleet>,
    broker: Option<Mutex<Mosquitto>>,
    pub(crate) broker_is_down: AtomicBool,
    /// Odd while the hub is meant to live.
    hub_life: AtomicU64,
    /// Devices that each version was granted to; all where it says nothing.
    grants: Mutex<BTreeMap<u32, Option<BTreeSet<String>>>>,
    /// Release and package of each version that people approved.
    pub(crate) releases: BTreeMap<u32, String>,
    pub(crate) packages: BTreeSet<Digest>,
    /// The floor that people signed; 0 before they did.
    pub(crate) floor: AtomicU32,
    pub(crate) is_over: AtomicBool,
    /// People start no more rollouts.
    pub(crate) is_rolled_out: AtomicBool,
    /// Nobody waits for rollouts any more.
    pub(crate) is_settled: AtomicBool,
}

impl World {
    /// A fleet on which version 1 runs everywhere.
    pub(crate) async fn start(timeline: Arc<Timeline>, is_external: bool) -> Self {
        let broker = is_external.then(Mosquitto::start);
        let [hub_port, broker_port] = [free_port(), broker.as_ref().map_or_else(free_port, Mosquitto::port)];
        let place = |host: &str, port| format!("{host}:{port}");
        let direct = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxied = |port| SocketAddr::from((PROXIED.parse::<Ipv4Addr>().expect("an address"), port));
        let to_broker = Proxy::start(proxied(broker_port), direct(broker_port)).await;
        let to_hub = Proxy::start(proxied(hub_port), direct(hub_port)).await;
        let mut options = broker.as_ref().map(Mosquitto::options).unwrap_or_default();
        options.listen = place("127.0.0.1", hub_port);
        options.config.push_str(HUB);
        match &broker {
            // The hub reaches it by the same failing network as the devices.
            Some(_) => options.broker = options.broker.replace("127.0.0.1", PROXIED),
            None => {
                options.broker = format!("embedded://{}", place("127.0.0.1", broker_port));
                options.host = Some(PROXIED);
            }
        }
        let fleet = blocking(move || Fleet::start_with(options)).await;
        let names: Vec<String> = (1..=DEVICES + 1).map(|number| format!("gw-{number}")).collect();
        if let Some(broker) = &broker {
            broker.admit(&fleet.hub, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let program = trial_program(&fleet);
        let (fleet, packages) = blocking(move || {
            let packages = versions(&fleet);
            (fleet, packages)
        })
        .await;
        let token = fleet.device_token(u32::try_from(DEVICES + 1).unwrap_or(u32::MAX));
        let config = format!("{AGENT}trial_program = {program:?}\n");
        let hub = format!("http://{}", place(PROXIED, hub_port));
        let device = |(number, name): (u64, &String)| {
            let plan = Plan { name, hub: &hub, token: &token, config: &config, data: None };
            Arc::new(Device::new(number, plan, Arc::clone(&timeline)))
        };
        let devices: Vec<Arc<Device>> = (0..).zip(&names).map(device).collect();
        let (cli, client) = (fleet.cli.clone(), fleet.api());
        let releases = releases(&client).await;
        let world = Self {
            timeline,
            devices,
            to_broker,
            to_hub,
            cli,
            client,
            fleet: Mutex::new(fleet),
            broker: broker.map(Mutex::new),
            broker_is_down: AtomicBool::new(false),
            hub_life: AtomicU64::new(1),
            grants: Mutex::default(),
            releases,
            packages,
            floor: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            is_rolled_out: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
        };
        world.begin().await;
        world
    }

    /// Starts the devices and brings the first version to all of them.
    async fn begin(&self) {
        for device in self.devices.iter().take(DEVICES) {
            device.start().unwrap_or_else(|why| panic!("{why}"));
        }
        self.grant(1, None);
        let cli = self.cli.clone();
        blocking(move || {
            let words = ["rollout", "start", "digits:1", "--stage", "100%", "--soak-seconds", "1", "--key", "bo"];
            let id = cli.json(&words)["id"].as_str().expect("a rollout has an id").to_owned();
            cli.ok(&["rollout", "status", &id, "--timeout", "90"]);
        })
        .await;
        self.timeline.note("version 1 runs everywhere");
    }

    /// Whether people allowed this version on this device.
    pub(crate) fn may_have(&self, device: &str, version: u32) -> bool {
        held(&self.grants).get(&version).is_some_and(|who| who.as_ref().is_none_or(|who| who.contains(device)))
    }

    /// Notes what people are about to allow.
    pub(crate) fn grant(&self, version: u32, who: Option<BTreeSet<String>>) {
        self.timeline.note(match &who {
            Some(who) => format!("people grant version {version} to {who:?}"),
            None => format!("people grant version {version} to all"),
        });
        held(&self.grants).insert(version, who);
    }

    pub(crate) const fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    pub(crate) fn hub_life(&self) -> u64 {
        self.hub_life.load(Ordering::SeqCst)
    }

    pub(crate) fn hub_is_alive(&self) -> bool {
        self.hub_life() % 2 == 1
    }

    pub(crate) fn kill_hub(&self) {
        self.hub_life.fetch_add(1, Ordering::SeqCst);
        let mut fleet = held(&self.fleet);
        fleet.hub.kill();
        self.timeline.keep_log("hub", &fleet.hub.log());
    }

    pub(crate) fn restart_hub(&self) {
        held(&self.fleet).hub.restart();
        self.hub_life.fetch_add(1, Ordering::SeqCst);
    }

    /// How the hub's process ended, if it has.
    pub(crate) fn hub_ended(&self) -> Option<std::process::ExitStatus> {
        held(&self.fleet).hub.process().ended()
    }

    pub(crate) fn kill_broker(&self) {
        if let Some(broker) = &self.broker {
            let mut broker = held(broker);
            broker.kill();
            self.timeline.keep_log("mosquitto", &broker.process().stderr());
        }
    }

    pub(crate) fn restart_broker(&self) {
        if let Some(broker) = &self.broker {
            held(broker).restart();
        }
    }

    /// Ends everything in good order and keeps what it said.
    pub(crate) fn stop(&self) {
        self.devices.iter().for_each(|device| device.stop());
        let mut fleet = held(&self.fleet);
        let status = fleet.hub.process().stop();
        self.timeline.keep_log("hub", &fleet.hub.log());
        if !status.success() {
            self.timeline.violation(format!("the hub stops with {status}"));
        }
    }
}

/// Runs what waits where that holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(why) => std::panic::resume_unwind(why.into_panic()),
    }
}

/// The agent under another name, which dies of the package whose digest the file `bad` names.
fn trial_program(fleet: &Fleet) -> PathBuf {
    let (program, bad) = (fleet.hub.home().join("trial"), fleet.hub.home().join("bad"));
    std::fs::write(&bad, "none").expect("a temporary folder takes a file");
    let script = format!(
        "#!/bin/sh\nread -r bad < '{}'\ncase \" $* \" in *\" $bad \"*) echo dying >&2; kill -SEGV $$ ;; esac\nexec '{}' \"$@\"\n",
        bad.display(),
        binary("bellwether-agent").display()
    );
    std::fs::write(&program, script).expect("a temporary folder takes a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its rights can be set");
    program
}

/// Registers and approves all versions; the digests of their packages.
fn versions(fleet: &Fleet) -> BTreeSet<Digest> {
    let mut packages = BTreeSet::new();
    for version in 1..=VERSIONS {
        let extra = fleet.hub.home().join("labels.bin");
        let salt = u8::try_from(version).unwrap_or_default();
        let bytes: Vec<u8> = noise(EXTRA_BYTES).iter().map(|byte| byte ^ salt).collect();
        std::fs::write(&extra, bytes).expect("a temporary folder takes a file");
        let file = if version % 2 == 1 { "digits-linear" } else { "digits-cnn" };
        let (model, vectors) = (data(&format!("{file}.onnx")), data(&format!("{file}.vectors.npz")));
        let paths = [&model, &vectors, &extra].map(|path| path.to_string_lossy().into_owned());
        let mut words = vec!["model", "register", "digits", &paths[0], "--vectors", &paths[1], "--extra", &paths[2]];
        words.extend(["--key", "ada"]);
        words.extend(COLLECT);
        let made = fleet.cli.json(&words);
        assert_eq!(made["version"], version);
        let digest = made["package"]["digest"].as_str().expect("a package has a digest").to_owned();
        if version == BAD {
            std::fs::write(fleet.hub.home().join("bad"), format!("{digest}\n")).expect("written");
        }
        packages.insert(digest.parse().expect("a digest"));
        fleet.approve(&format!("digits:{version}"));
    }
    packages
}

/// The digests of their releases.
async fn releases(client: &Client) -> BTreeMap<u32, String> {
    let mut releases = BTreeMap::new();
    for version in 1..=VERSIONS {
        let view = client.version("digits", version).await.expect("the hub knows its versions");
        releases.insert(version, view.release.expect("it was published"));
    }
    releases
}
