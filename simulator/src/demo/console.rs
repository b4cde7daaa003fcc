//! What the demo says, and the commands it types.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bellwether_hub::exec;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::process::Command;

/// Name of the hidden subcommand under which this program is `bellwether`.
pub const CLI: &str = "cli";

/// Types commands of `bellwether` as a user would, and says what happens on standard error.
#[derive(Debug)]
pub(super) struct Console {
    hub: String,
    token: String,
    home: PathBuf,
    begun: Instant,
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ok: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Console {
    pub(super) fn new(hub: String, token: String, home: &Path) -> Self {
        Self { hub, token, home: home.to_owned(), begun: Instant::now() }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A line with the time it happened.
    pub(super) fn say(&self, text: &str) {
        eprintln!("{:>6.1} s  {text}", self.seconds());
    }

    /// A line with a bar, at a terminal.
    pub(super) fn bar(&self, what: &str, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("          {bar:24} {pos}/{len} {msg}");
        let bar = ProgressBar::new(length).with_message(what.to_owned());
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// Types a command and shows it; an exit code other than 0 is not an error here.
    pub(super) async fn try_type(&self, line: &str, extra: &[&str]) -> anyhow::Result<Done> {
        self.say(&format!("$ bellwether {line}"));
        let output = Command::new(exec::this_program())
            .arg(CLI)
            .args(line.split_whitespace())
            .args(extra)
            .env("BELLWETHER_HUB", &self.hub)
            .env("BELLWETHER_TOKEN", &self.token)
            .env("BELLWETHER_CONFIG", &self.home)
            .env_remove("BELLWETHER_KEYS")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Done { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
    }

    /// Types a command that must succeed.
    pub(super) async fn command(&self, line: &str) -> anyhow::Result<Done> {
        let done = self.try_type(line, &[]).await?;
        if done.ok { Ok(done) } else { bail!("`bellwether {line}` failed: {}", done.err.trim()) }
    }

    /// Types a command that must succeed, and reads the JSON it prints.
    pub(super) async fn json(&self, line: &str) -> anyhow::Result<Value> {
        let done = self.try_type(line, &["-o", "json"]).await?;
        if !done.ok {
            bail!("`bellwether {line}` failed: {}", done.err.trim());
        }
        serde_json::from_str(&done.out).with_context(|| format!("`bellwether {line}` printed {:?}", done.out))
    }
}
