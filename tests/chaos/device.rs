//! An agent as a process that is killed and started again, and somebody who calls it all the time:
//! each call carries a number that no other call has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_agent_core::update::STARTS_MAX;
use bellwether_tests::files::{binary, data};
use bellwether_tests::hub::folder;
use bellwether_tests::mosquitto::free_port;
use bellwether_tests::process::Process;
use serde_json::Value;
use tempfile::TempDir;

use crate::timeline::{Timeline, held};

/// Numbers that one device may use.
const NUMBERS: u64 = 1_000_000;
/// Steps between 0 and 1 that a 32-bit float tells apart: a number goes into a pixel as that part.
const STEPS: f64 = 16_777_216.0;
/// How long a start may take on a busy machine, a self-test included.
const START_MAX: Duration = Duration::from_secs(60);
/// A life so long outlasts any self-test and probation that it began with.
const STEADY: Duration = Duration::from_secs(5);
/// How long a call may take: longer than the agent itself would let it.
const CALL_MAX: Duration = Duration::from_secs(30);

/// What a device was asked, and what it answered.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    made: u64,
    /// When each number was answered.
    pub(crate) answered: BTreeMap<u64, Instant>,
    /// Numbers whose calls got no answer, as the process died.
    pub(crate) unanswered: BTreeSet<u64>,
}

/// Starts one soon after the other, as a model under test may see them.
#[derive(Debug, Default)]
struct Restarts {
    count: usize,
    /// When the newest life began.
    began: Option<Instant>,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) url: String,
    /// What its numbers begin with.
    number: u64,
    /// Its directory.
    pub(crate) data: PathBuf,
    config: PathBuf,
    hub: String,
    token: String,
    is_enrolled: AtomicBool,
    _home: TempDir,
    process: Mutex<Option<Process>>,
    restarts: Mutex<Restarts>,
    /// Odd while its process is meant to live, and a step higher at each change.
    life: AtomicU64,
    has_answered: AtomicBool,
    pub(crate) calls: Mutex<Calls>,
    pub(crate) kills: Mutex<Vec<Instant>>,
    http: reqwest::Client,
    timeline: Arc<Timeline>,
}

/// A device that is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'p> {
    pub(crate) name: &'p str,
    pub(crate) hub: &'p str,
    pub(crate) token: &'p str,
    pub(crate) config: &'p str,
    /// A directory made before; one of its own if absent.
    pub(crate) data: Option<&'p Path>,
}

impl Device {
    /// A device that was not started yet; its calls have numbers of the `number`th million.
    pub(crate) fn new(number: u64, plan: Plan<'_>, timeline: Arc<Timeline>) -> Self {
        let home = folder();
        let config = home.path().join("agent.toml");
        std::fs::write(&config, plan.config).expect("a temporary folder takes a file");
        let http = bellwether_tests::http::builder().pool_max_idle_per_host(0).timeout(CALL_MAX);
        Self {
            name: plan.name.to_owned(),
            url: format!("http://127.0.0.1:{}", free_port()),
            number,
            data: plan.data.map_or_else(|| home.path().join("agent"), Path::to_owned),
            config,
            hub: plan.hub.to_owned(),
            token: plan.token.to_owned(),
            is_enrolled: AtomicBool::new(false),
            _home: home,
            process: Mutex::default(),
            restarts: Mutex::default(),
            life: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            calls: Mutex::default(),
            kills: Mutex::default(),
            http: http.build().expect("an HTTP client"),
            timeline,
        }
    }

    /// Which life it is in; odd while its process is meant to live.
    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::SeqCst)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life() % 2 == 1
    }

    /// How often it may be killed now without that an honest model is blamed for it: one that was
    /// under test at [`STARTS_MAX`] starts is.
    pub(crate) fn kills_left(&self) -> usize {
        let mut restarts = held(&self.restarts);
        if restarts.began.is_some_and(|began| began.elapsed() >= STEADY) {
            restarts.count = 0;
        }
        usize::from(STARTS_MAX - 1).saturating_sub(restarts.count)
    }

    fn begins(&self) {
        let mut restarts = held(&self.restarts);
        (restarts.count, restarts.began) = (restarts.count + 1, None);
    }

    /// Starts it and waits until it serves. It enrols if it has not yet.
    ///
    /// # Errors
    ///
    /// What it said, if it ended instead.
    pub(crate) fn start(&self) -> Result<(), String> {
        self.begins();
        let mut process = Process::start(&self.name, &mut self.command());
        let begun = Instant::now();
        while !process.stdout().contains(" scores at ") {
            if let Some(status) = process.ended() {
                let said = process.stderr();
                self.timeline.keep_log(&self.name, &said);
                return Err(format!("{} ended with {status} at its start: {said}", self.name));
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("{} does not serve after {START_MAX:?}\n{process}", self.name));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.is_enrolled.store(true, Ordering::Relaxed);
        *held(&self.process) = Some(process);
        held(&self.restarts).began = Some(Instant::now());
        self.life.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Starts it and ends it in the middle of that, as a power cut would that comes twice.
    pub(crate) fn start_and_kill(&self, after: Duration) {
        self.begins();
        let mut process = Process::start(&self.name, &mut self.command());
        std::thread::sleep(after);
        process.kill();
        held(&self.kills).push(Instant::now());
        self.timeline.keep_log(&self.name, &process.stderr());
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary("bellwether-agent"));
        command.args(["--hub", &self.hub, "--listen", self.url.trim_start_matches("http://")]);
        command.arg("--data").arg(&self.data).arg("--config").arg(&self.config);
        command.env("NO_COLOR", "1").env_remove("RUST_LOG").env_remove("BELLWETHER_LOG");
        command.env_remove("BELLWETHER_TOKEN").env_remove("BELLWETHER_HUB").env_remove("BELLWETHER_CA");
        if !self.is_enrolled.load(Ordering::Relaxed) {
            command.args(["--name", &self.name, "--token", &self.token]);
        }
        command
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        if let Some(mut process) = held(&self.process).take() {
            process.kill();
            held(&self.kills).push(Instant::now());
            self.timeline.keep_log(&self.name, &process.stderr());
        }
    }

    /// Ends it in good order, and keeps what it said.
    pub(crate) fn stop(&self) {
        if let Some(mut process) = held(&self.process).take() {
            self.life.fetch_add(1, Ordering::SeqCst);
            let status = process.stop();
            self.timeline.keep_log(&self.name, &process.stderr());
            if !status.success() {
                self.timeline.violation(format!("{} stops with {status}", self.name));
            }
        }
    }

    /// What it logged since it was last started.
    pub(crate) fn log(&self) -> String {
        held(&self.process).as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// How its process ended, if that ended by itself.
    pub(crate) fn ended(&self) -> Option<std::process::ExitStatus> {
        held(&self.process).as_mut().and_then(Process::ended)
    }

    /// The version of `digits` that answers there; an error says how it was asked in vain.
    pub(crate) async fn active(&self) -> Result<Option<u32>, String> {
        let answer = self.http.get(format!("{}/", self.url)).send().await.map_err(|why| why.to_string())?;
        let index: Value = answer.json().await.map_err(|why| why.to_string())?;
        let models = index["models"].as_array().ok_or("no list of models")?;
        let digits: Vec<&Value> = models.iter().filter(|model| model["name"] == "digits").collect();
        match digits.as_slice() {
            [] => Ok(None),
            [one] => Ok(one["version"].as_u64().and_then(|version| u32::try_from(version).ok())),
            _ => Err(format!("it lists one model twice: {index}")),
        }
    }

    /// Scores once with the next number.
    ///
    /// # Errors
    ///
    /// What came instead of an answer.
    async fn score(&self, pixels: &[f64]) -> Result<u64, (u64, String)> {
        let number = {
            let mut calls = held(&self.calls);
            calls.made += 1;
            self.number * NUMBERS + calls.made
        };
        let mut pixels = pixels.to_vec();
        pixels[0] = number as f64 / STEPS;
        let input =
            serde_json::json!({ "name": "image", "datatype": "FP32", "shape": [1, pixels.len()], "data": pixels });
        let body = serde_json::json!({ "inputs": [input] }).to_string();
        let url = format!("{}/v2/models/digits/infer", self.url);
        let failed = |why: String| (number, why);
        let answer = self.http.post(url).body(body).send().await.map_err(|why| failed(format!("{why:?}")))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|why| failed(format!("{why:?}")))?;
        if !status.is_success() {
            return Err(failed(format!("{status}: {text}")));
        }
        let answer: Value = serde_json::from_str(&text).map_err(|why| failed(format!("{why}: {text}")))?;
        match bellwether_tests::agent::digit(&answer) {
            7 => Ok(number),
            other => Err(failed(format!("it sees a {other} in a seven"))),
        }
    }

    /// Calls about every `pause` until `stop`: a call that fails while the process lived all the time
    /// is a violation.
    pub(crate) async fn be_called(&self, pause: Duration, stop: &AtomicBool) {
        let timeline = &self.timeline;
        let request = std::fs::read(data("digits-request.json")).expect("the request is readable");
        let request: Value = serde_json::from_slice(&request).expect("the request is JSON");
        let pixels = request["inputs"][0]["data"].as_array().expect("it has data");
        let pixels: Vec<f64> = pixels.iter().filter_map(Value::as_f64).collect();
        while !stop.load(Ordering::Relaxed) {
            let life = self.life();
            let outcome = self.score(&pixels).await;
            timeline.count("calls");
            match outcome {
                Ok(number) => {
                    held(&self.calls).answered.insert(number, Instant::now());
                    self.has_answered.store(true, Ordering::Relaxed);
                }
                Err((number, why)) => {
                    held(&self.calls).unanswered.insert(number);
                    if life.is_multiple_of(2) || self.life() != life {
                        timeline.count("failed, its process was dead");
                    } else if !self.has_answered.load(Ordering::Relaxed) {
                        timeline.count("failed, no model yet");
                    } else {
                        timeline.count("failed, its process lived");
                        let ended = self.ended();
                        timeline.violation(format!("{}: a call failed while it lived ({ended:?}): {why}", self.name));
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a collected number is one that it was asked.
    pub(crate) fn was_asked(&self, number: u64) -> bool {
        let calls = held(&self.calls);
        calls.answered.contains_key(&number) || calls.unanswered.contains(&number)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut process) = held(&self.process).take() {
            process.kill();
            self.timeline.keep_log(&self.name, &process.stderr());
        }
    }
}

/// The number in the first pixel of a collected row.
pub(crate) fn number_of(row: &Value) -> Option<u64> {
    let part = row["inputs"][0]["data"][0].as_f64()?;
    let number = (part * STEPS).round();
    format!("{number:.0}").parse().ok()
}
