//! What most stories begin with: a hub with a root, its people's keys, versions, devices.

use std::path::PathBuf;
use std::time::Duration;

use bellwether_hub::api::types::{DeviceView, RolloutView};
use bellwether_hub::client::Client;
use tempfile::TempDir;

use crate::agent::{Agent, Settings};
use crate::cli::{Cli, Ran};
use crate::dev_ca::trusting;
use crate::files::data;
use crate::hub::{Hub, Options, folder};
use crate::wait::{wait_for, wait_for_within};

/// Each key with its person and what it is for. Ada and Bo each have a second key, which must not
/// make them two persons.
pub const KEYS: [(&str, &str, &str); 5] = [
    ("ada", "Ada", "publish"),
    ("ada-approves", "Ada", "approve"),
    ("bo", "Bo", "approve"),
    ("bo-again", "Bo", "approve"),
    ("cy", "Cy", "approve"),
];

/// A hub, and the people who run it.
#[derive(Debug)]
pub struct Fleet {
    /// The hub.
    pub hub: Hub,
    /// The admin's command line, with every key.
    pub cli: Cli,
    config: TempDir,
}

impl Fleet {
    /// A hub with its embedded broker and a root.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A hub and a root.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let fleet = Self::without_root(Hub::start_with(options));
        let mut words = vec!["root", "init", "--publisher", "ada"];
        for (key, _, _) in KEYS.iter().skip(1) {
            words.extend(["--approver", key]);
        }
        loop {
            for (key, person, role) in KEYS {
                fleet.cli.ok(&["key", "new", key, "--person", person, "--role", role]);
            }
            let ran = fleet.cli.run(&words);
            // One fleet in four thousand: a key of the hub begins like one of these.
            if ran.code == 6 && ran.stderr.contains("make another key") {
                std::fs::remove_dir_all(fleet.config().join("keys")).expect("the keys can be removed");
                continue;
            }
            assert_eq!(ran.code, 0, "{ran}");
            return fleet;
        }
    }

    /// A hub whose root is made later.
    #[must_use]
    pub fn without_root(hub: Hub) -> Self {
        let config = folder();
        let cli = Cli::new(&hub.url, Some(&hub.token), config.path()).with_ca(hub.ca());
        Self { hub, cli, config }
    }

    /// A command line of somebody with a token of this role and none of the keys.
    #[must_use]
    pub fn cli_as(&self, role: &str) -> Cli {
        let name = format!("{role} {}", crate::files::fresh());
        let made = self.cli.ok(&["token", "new", &name, "--role", role, "-o", "name"]);
        self.cli.with_token(Some(&made.last_word()))
    }

    /// The folder of keys and tokens of the admin's command line.
    #[must_use]
    pub fn config(&self) -> &std::path::Path {
        self.config.path()
    }

    /// The API with the admin's token.
    #[must_use]
    pub fn api(&self) -> Client {
        self.hub.client()
    }

    /// Registers `tests/data/{file}.onnx` with its vectors, published by Ada.
    pub fn register(&self, name: &str, file: &str) -> Ran {
        let (model, vectors) = (data(&format!("{file}.onnx")), data(&format!("{file}.vectors.npz")));
        let (model, vectors) = (model.to_string_lossy(), vectors.to_string_lossy());
        self.cli.ok(&["model", "register", name, &model, "--vectors", &vectors, "--key", "ada"])
    }

    /// Lets Bo and Cy approve a version.
    pub fn approve(&self, model: &str) {
        for key in ["bo", "cy"] {
            self.cli.ok(&["approve", model, "--key", key]);
        }
    }

    /// Registers and approves the linear model as version 1 of `digits`, the network as version 2.
    pub fn two_versions(&self) {
        for (version, file) in [(1, "digits-linear"), (2, "digits-cnn")] {
            self.register("digits", file);
            self.approve(&format!("digits:{version}"));
        }
    }

    /// A token with which that many devices may enrol.
    #[must_use]
    pub fn device_token(&self, uses: u32) -> String {
        let uses = uses.to_string();
        self.cli.ok(&["device", "token", "--uses", &uses, "-o", "name"]).last_word()
    }

    /// Enrols and runs a device.
    #[must_use]
    pub fn agent(&self, name: &str) -> Agent {
        self.agent_as(name, &Settings::default())
    }

    /// Enrols and runs a device with settings of its own.
    #[must_use]
    pub fn agent_as(&self, name: &str, settings: &Settings<'_>) -> Agent {
        let trust = self.hub.ca().map(trusting).unwrap_or_default();
        let config = format!("{trust}{}", settings.config);
        let settings = Settings { config: &config, ..settings.clone() };
        Agent::start_as(&self.hub.url, &self.device_token(1), name, &settings)
    }

    /// Registers `tests/data/{file}.onnx` with its vectors and more arguments, published by Ada and
    /// approved.
    pub fn release(&self, name: &str, version: u32, file: &str, more: &[&str]) {
        let (model, vectors) = (data(&format!("{file}.onnx")), data(&format!("{file}.vectors.npz")));
        let (model, vectors) = (model.to_string_lossy(), vectors.to_string_lossy());
        let mut words = vec!["model", "register", name, &model, "--vectors", &vectors, "--key", "ada"];
        words.extend(more);
        self.cli.ok(&words);
        self.approve(&format!("{name}:{version}"));
    }

    /// Writes rows into a CSV beside the hub's data; its path.
    #[must_use]
    pub fn csv(&self, name: &str, rows: &[Vec<f64>]) -> PathBuf {
        let line = |row: &Vec<f64>| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") + "\n";
        let path = self.hub.home().join(name);
        std::fs::write(&path, rows.iter().map(line).collect::<String>()).expect("a temporary folder takes a file");
        path
    }

    /// Starts a rollout to all; its id.
    #[must_use]
    pub fn start_rollout(&self, model: &str, soak_seconds: u32) -> String {
        let soak = soak_seconds.to_string();
        let words = ["rollout", "start", model, "--stage", "100%", "--soak-seconds", &soak, "--key", "bo"];
        self.cli.json(&words)["id"].as_str().expect("a rollout has an id").to_owned()
    }

    /// Rolls a version out to all and waits until that is completed.
    pub fn roll_out(&self, model: &str) {
        let id = self.start_rollout(model, 1);
        self.cli.ok(&["rollout", "status", &id, "--timeout", "40"]);
    }

    /// How a device stands by the hub's word.
    pub async fn device(&self, name: &str) -> DeviceView {
        let what = format!("the hub tells of {name}");
        wait_for(&what, async || self.api().device(name).await.ok()).await
    }

    /// Waits until a device is as it should be.
    pub async fn device_until(&self, name: &str, what: &str, is: impl Fn(&DeviceView) -> bool) -> DeviceView {
        let client = self.api();
        let what = format!("{name} is {what}");
        wait_for(&what, async || client.device(name).await.ok().filter(|device| is(device))).await
    }

    /// Waits until a rollout is as it should be.
    pub async fn rollout_until(&self, id: &str, what: &str, is: impl Fn(&RolloutView) -> bool) -> RolloutView {
        let client = self.api();
        let what = format!("rollout {id} is {what}");
        let patience = Duration::from_secs(45);
        wait_for_within(patience, &what, async || client.rollout(id).await.ok().filter(|r| is(r))).await
    }

    /// Expects that the hub still does its work: it is healthy, lists, and takes a new token.
    pub async fn still_serves(&self) {
        let client = self.api();
        client.overview().await.expect("the overview is answered");
        client.models(&bellwether_hub::api::types::ModelQuery::default()).await.expect("models are listed");
        self.cli.ok(&["token", "new", "still-serving", "--role", "viewer"]);
        assert!(!self.hub.log().contains("panicked"), "the hub panicked:\n{}", self.hub.log());
    }
}

/// The version of `digits` that answers on a device.
#[must_use]
pub fn runs(device: &DeviceView) -> Option<u32> {
    let digits = device.models.iter().find(|model| model.name == "digits")?;
    digits.active.as_ref().map(|active| active.version)
}
