//! `bellwether-agent` as a process.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::files::{binary, data};
use crate::hub::folder;
use crate::process::Process;

/// What every agent of a test is told: trials of a second, so that a story takes seconds.
pub const CONFIG: &str = "probation_ms = 500\nscores_window_ms = 500\nheartbeat_ms = 2000\n";

/// How an agent is started, beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct Settings<'s> {
    /// More arguments.
    pub words: &'s [&'s str],
    /// More of the configuration file; what it says comes before the usual.
    pub config: &'s str,
    /// The crash point at which it ends at its first start.
    pub crash: Option<&'s str>,
    /// What it logs, as `BELLWETHER_LOG` says it; its default if absent.
    pub log: Option<&'s str>,
}

/// An agent in a folder of its own.
#[derive(Debug)]
pub struct Agent {
    home: TempDir,
    process: Process,
    config: String,
    /// The device.
    pub name: String,
    /// Where it scores.
    pub url: String,
    http: reqwest::Client,
}

impl Agent {
    /// Enrols and runs a device.
    #[must_use]
    pub fn start(hub: &str, token: &str, name: &str) -> Self {
        Self::start_as(hub, token, name, &Settings::default())
    }

    /// Enrols and runs a device, with more arguments.
    #[must_use]
    pub fn start_with(hub: &str, token: &str, name: &str, more: &[&str]) -> Self {
        Self::start_as(hub, token, name, &Settings { words: more, ..Settings::default() })
    }

    /// Enrols and runs a device with settings of its own.
    #[must_use]
    pub fn start_as(hub: &str, token: &str, name: &str, settings: &Settings<'_>) -> Self {
        let home = folder();
        let mut words = vec!["--hub", hub, "--token", token, "--name", name, "--listen", "127.0.0.1:0"];
        words.extend(settings.words);
        let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let is_told = |line: &&str| !settings.config.lines().any(|told| key(told) == key(line));
        let usual: String = CONFIG.lines().filter(is_told).map(|line| format!("{line}\n")).collect();
        let config = format!("{usual}{}", settings.config);
        let mut command = command(home.path(), &words, &config);
        if let Some(log) = settings.log {
            command.env("BELLWETHER_LOG", log);
        }
        if let Some(point) = settings.crash {
            command.env("BELLWETHER_CRASH_AT", point);
        }
        let mut process = Process::start(name, &mut command);
        let url = scores_at(&mut process, name);
        let http = crate::http::client();
        Self { home, process, config, name: name.to_owned(), url, http }
    }

    /// Runs an agent with a directory that another one left, which is moved, and enrols it anew.
    #[must_use]
    pub fn open(left: &Path, hub: &str, token: &str, name: &str) -> Self {
        let home = folder();
        std::fs::rename(left, home.path().join("agent")).expect("the directory can be moved");
        let words = ["--hub", hub, "--token", token, "--name", name, "--listen", "127.0.0.1:0"];
        let mut process = Process::start(name, &mut command(home.path(), &words, CONFIG));
        let url = scores_at(&mut process, name);
        let http = crate::http::client();
        Self { home, process, config: CONFIG.to_owned(), name: name.to_owned(), url, http }
    }

    /// Waits until it ended at its crash point, and starts it again.
    pub fn restart_after_crash(&mut self) {
        let status = self.process.end(std::time::Duration::from_secs(30));
        assert_eq!(status.signal(), Some(9), "it ends as by kill -9");
        self.restart();
    }

    /// Its directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.path().join("agent")
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The processes of its models.
    #[must_use]
    pub fn hosts(&self) -> Vec<u32> {
        let is_host = |process: &u32| {
            let read = |file| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
            let parent = read("status").lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
            parent == Some(self.process.id()) && read("cmdline").split('\0').nth(1) == Some("host-model")
        };
        let all = std::fs::read_dir("/proc").expect("processes are listed");
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_host).collect()
    }

    /// What it logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it scored before, after it ended; it needs no token any more.
    pub fn restart(&mut self) {
        assert!(self.process.ended().is_some(), "stop or kill the agent first");
        let address = self.url.trim_start_matches("http://").to_owned();
        self.process =
            Process::start(&self.name, &mut command(self.home.path(), &["--listen", &address], &self.config));
        assert_eq!(scores_at(&mut self.process, &self.name), self.url, "it is back at its address");
    }

    /// Sends a body to a route; the status and the answer.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.url)).body(body);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }

    /// Scores rows of pixels with `digits`; they must be answered.
    pub async fn score_rows(&self, rows: &[Vec<f64>]) {
        let data: Vec<f64> = rows.iter().flatten().copied().collect();
        let shape = [rows.len(), data.len() / rows.len().max(1)];
        let input = json!({ "name": "image", "datatype": "FP32", "shape": shape, "data": data });
        let answer = self.post("/v2/models/digits/infer", json!({ "inputs": [input] }).to_string()).await;
        assert!(matches!(answer, Some((200, _))), "{answer:?}");
    }

    /// The version that answers for `digits` and the digit it sees in the README's request; nothing
    /// while none does.
    pub async fn score(&self) -> Option<(String, usize)> {
        let request = std::fs::read(data("digits-request.json")).expect("the request is readable");
        let (status, answer) = self.post("/v2/models/digits/infer", request).await?;
        (status == 200).then(|| (answer["model_version"].as_str().unwrap_or("").to_owned(), digit(&answer)))
    }
}

/// The most probable digit of the first row of an answer.
#[must_use]
pub fn digit(answer: &Value) -> usize {
    let row = answer["outputs"][0]["data"].as_array().expect("an answer has data");
    let row: Vec<f64> = row.iter().take(10).filter_map(Value::as_f64).collect();
    let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.expect("ten classes").0
}

fn command(home: &Path, words: &[&str], text: &str) -> Command {
    let config = home.join("agent.toml");
    std::fs::write(&config, text).expect("a temporary folder takes a file");
    let mut command = Command::new(binary("bellwether-agent"));
    command.args(words).arg("--data").arg(home.join("agent")).arg("--config").arg(config);
    command.env("NO_COLOR", "1").env_remove("RUST_LOG");
    command.env_remove("BELLWETHER_TOKEN").env_remove("BELLWETHER_HUB").env_remove("BELLWETHER_CA");
    command
}

fn scores_at(process: &mut Process, name: &str) -> String {
    let line = process.line(&format!("{name} scores at "));
    line.split_whitespace().next().expect("an address").to_owned()
}
